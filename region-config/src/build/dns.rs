//! What is written about DNS -> what is answered, and on which terms.

use super::Folders;
use crate::{dns::DnsTerms, shape::At, written::DnsSection};

pub(super) fn terms(section: Option<&At<DnsSection>>, folders: &Folders<'_>) -> DnsTerms {
    let Some(section) = section.map(|it| &it.value) else { return DnsTerms::default() };
    let rate = section.answers_per_second.as_ref().map(|it| it.value.small());
    DnsTerms {
        nsid: section.nsid.as_ref().map(|it| it.value.0.clone()),
        cookie_secret: folders.optional(section.cookie_secret.as_ref()),
        answers_per_second: rate
            .map_or(DnsTerms::default().answers_per_second, |rate| Some(rate).filter(|rate| *rate > 0)),
    }
}
