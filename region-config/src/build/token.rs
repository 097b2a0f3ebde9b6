//! Tokens of applications.

use super::{DEFAULT_TENANT, value, values};
use crate::{
    config::{PURGES_PER_SECOND, Token, Verb},
    ids::TenantId,
    written::TokenSection,
};

pub(super) fn of(section: &TokenSection) -> Option<Token> {
    let mut verbs = values(&section.verbs);
    verbs.sort_unstable();
    verbs.dedup();
    if verbs.is_empty() {
        verbs = vec![Verb::Purge, Verb::Read];
    }
    Some(Token {
        name: value(&section.name)?,
        digest: value(&section.digest)?,
        tenant: match &section.tenant {
            Some(tenant) => tenant.value.clone(),
            None => TenantId::parse(DEFAULT_TENANT).ok()?,
        },
        sites: values(&section.sites),
        verbs,
        purges_per_second: section.purges_per_second.as_ref().map_or(PURGES_PER_SECOND, |it| it.value.small()),
    })
}
