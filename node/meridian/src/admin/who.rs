//! Who asks: the operator, or an application with a token of its own.
//!
//! An application knows its tenant's sites (or those of them that its token names) and nothing else. What it does not know
//! looks to it as if it were not there: 404, in the same words as for what is really not there, and never 403.

use std::sync::Arc;

use http::StatusCode;
use region_config::{Config, Digest, Site, Token, Verb};

use super::problem::{Problem, Refusal};

/// What the audit calls whoever has the admin token. No token can be called so.
pub(super) const OPERATOR: &str = "(admin)";
/// Sites that a refusal names, at most.
const NAMED_MAX: usize = 8;

/// Who asks; an extension of a request that was let in.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// Holds the admin token.
    Operator,
    /// Holds one of `[[tokens]]`.
    Application(Arc<Token>),
}

/// The token of the config that was sent. All of them are compared, each in constant time, so that the time says nothing.
pub(super) fn known(config: &Config, sent: &[u8]) -> Option<Arc<Token>> {
    let digest = Digest::of(sent);
    let mut found = None;
    for token in &config.tokens {
        if token.digest == digest {
            found = Some(token);
        }
    }
    found.cloned()
}

impl Who {
    /// The name in the audit.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Operator => OPERATOR,
            Self::Application(token) => token.name.as_str(),
        }
    }

    /// The tenant whose past it may read; none for all.
    pub(super) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Operator => None,
            Self::Application(token) => Some(token.tenant.as_str()),
        }
    }

    /// Whether it may do something at all.
    pub(super) fn may(&self, verb: Verb) -> Result<(), Refusal> {
        match self {
            Self::Application(token) if !token.may(verb) => {
                let verbs: Vec<&str> = token.verbs.iter().map(|verb| verb.as_str()).collect();
                let detail = format!("token `{}` is not for `{}`", token.name, verb.as_str());
                Err(forbidden(detail).found(&verbs.join(", ")).expected(format!("`{}` in its `verbs`", verb.as_str())))
            }
            Self::Application(_) | Self::Operator => Ok(()),
        }
    }

    /// Whether it knows a site.
    pub(super) fn knows(&self, site: &Site) -> bool {
        match self {
            Self::Operator => true,
            Self::Application(token) => token.knows(&site.tenant, &site.name),
        }
    }

    /// Whether it knows the site of this name; what is about no site is the operator's.
    pub(super) fn knows_name(&self, config: &Config, site: Option<&str>) -> bool {
        match (self, site) {
            (Self::Operator, _) => true,
            (Self::Application(_), None) => false,
            (Self::Application(_), Some(name)) => {
                config.sites.iter().any(|site| site.name.as_str() == name && self.knows(site))
            }
        }
    }

    /// The site of this name, if it knows it.
    pub(super) fn site<'a>(&self, config: &'a Config, name: &str) -> Result<&'a Arc<Site>, Refusal> {
        let mut own = config.sites.iter().filter(|site| self.knows(site));
        own.find(|site| site.name.as_str() == name).ok_or_else(|| {
            let names: Vec<&str> =
                config.sites.iter().filter(|site| self.knows(site)).map(|site| site.name.as_str()).collect();
            let expected = match names.as_slice() {
                few if (1..=NAMED_MAX).contains(&few.len()) => format!("one of {}", few.join(", ")),
                _ => "the name of a site".to_owned(),
            };
            Problem::not_found("there is no such site").found(name).expected(expected)
        })
    }

    /// The sites of a tenant, if it knows any of them.
    pub(super) fn sites_of<'a>(&self, config: &'a Config, tenant: &str) -> Result<Vec<&'a Arc<Site>>, Refusal> {
        let of = |site: &&Arc<Site>| site.tenant.as_str() == tenant && self.knows(site);
        let sites: Vec<_> = config.sites.iter().filter(of).collect();
        if sites.is_empty() {
            return Err(Problem::not_found("there is no such tenant").found(tenant).expected("the name of a tenant"));
        }
        Ok(sites)
    }

    /// Only the operator.
    pub(super) fn operator(&self, what: &str) -> Result<(), Refusal> {
        match self {
            Self::Operator => Ok(()),
            Self::Application(_) => Err(forbidden(format!("{what} is for the operator")).expected("the admin token")),
        }
    }
}

/// It is known who asks, and they may not.
pub(super) fn forbidden(detail: impl Into<String>) -> Refusal {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::{TenantId, TokenId};

    use super::*;
    use crate::observe::tests::{config, site};

    fn two_tenants() -> Config {
        let mut bank = site("bank");
        bank.tenant = TenantId::parse("rich").unwrap();
        let mut config = config(vec![site("shop"), site("blog"), bank]);
        config.tokens = vec![Arc::new(Token {
            name: TokenId::parse("cms").unwrap(),
            digest: Digest::of(b"secret"),
            tenant: config.sites[0].tenant.clone(),
            sites: vec![config.sites[0].name.clone()],
            verbs: vec![Verb::Purge],
            purges_per_second: 10,
        })];
        config
    }

    #[test]
    fn what_a_token_does_not_know_is_not_there_in_the_same_words() {
        let config = two_tenants();
        let who = Who::Application(known(&config, b"secret").unwrap());
        assert!(known(&config, b"Secret").is_none() && known(&config, b"").is_none());
        assert_eq!(who.site(&config, "shop").unwrap().name.as_str(), "shop");
        let absent = who.site(&config, "nothing").unwrap_err();
        for foreign in ["bank", "blog"] {
            let told = who.site(&config, foreign).unwrap_err();
            assert_eq!((told.status, &told.detail, &told.expected), (404, &absent.detail, &absent.expected));
            assert!(!who.knows_name(&config, Some(foreign)));
        }
        assert!(who.sites_of(&config, "rich").is_err() && Who::Operator.sites_of(&config, "rich").is_ok());
        assert!(!who.knows_name(&config, None) && Who::Operator.knows_name(&config, None));
        assert_eq!(who.may(Verb::Read).unwrap_err().status, 403);
        assert!(who.may(Verb::Purge).is_ok() && Who::Operator.may(Verb::PurgeEverything).is_ok());
    }
}
