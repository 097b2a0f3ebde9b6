//! What is written about DNS -> what is answered, and on which terms.

use super::{Folders, seconds, value};
use crate::{
    dns::{Caa, DnsTerms, Texts},
    shape::At,
    written::{CaaSection, DnsSection, TextsSection},
};

const TEXTS_TTL_S: u32 = 60;

pub(super) fn terms(section: Option<&At<DnsSection>>, folders: &Folders<'_>) -> DnsTerms {
    let Some(section) = section.map(|it| &it.value) else { return DnsTerms::default() };
    let rate = section.answers_per_second.as_ref().map(|it| it.value.small());
    DnsTerms {
        nsid: section.nsid.as_ref().map(|it| it.value.0.clone()),
        cookie_secret: folders.optional(section.cookie_secret.as_ref()),
        answers_per_second: rate
            .map_or(DnsTerms::default().answers_per_second, |rate| Some(rate).filter(|rate| *rate > 0)),
        threads: section.threads.as_ref().map_or(1, |it| it.value.small() as usize),
    }
}

pub(super) fn caa(section: &CaaSection) -> Option<Caa> {
    Some(Caa {
        tag: section.tag.as_ref()?.value.0.clone(),
        value: section.value.as_ref()?.value.0.clone(),
        critical: value(&section.critical).unwrap_or_default(),
    })
}

pub(super) fn texts(section: &TextsSection) -> Option<Texts> {
    Some(Texts {
        name: section.name.as_ref()?.value.0.clone(),
        values: section.values.iter().map(|it| it.value.0.clone()).collect(),
        ttl_s: seconds(&section.ttl, TEXTS_TTL_S),
    })
}
