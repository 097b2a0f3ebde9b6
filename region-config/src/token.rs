//! Tokens of applications: who may order purges, of which sites, and how many.
//!
//! The config holds the digest of a token, never the token: who reads the config cannot purge. A token is 256 random
//! bits, so that a plain fast hash is enough; it is no password.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    ids::{SiteId, TenantId, TokenId},
    shape::Text,
};

/// Orders that a token may send in a second, where the operator says nothing.
pub const PURGES_PER_SECOND: u32 = 1_000;

/// What an application may do, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name: what the audit and the logs call it.
    pub name: TokenId,
    /// blake3 of the token.
    pub digest: Digest,
    /// The tenant whose sites it is for.
    pub tenant: TenantId,
    /// The sites that it is for; none means all of the tenant.
    pub sites: Vec<SiteId>,
    /// What it may do.
    pub verbs: Vec<Verb>,
    /// Orders in a second; as many again may come at once.
    pub purges_per_second: u32,
}

impl Token {
    /// Whether it may do something.
    #[must_use]
    pub fn may(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether a site of `tenant` is one of its own. What is not must look to it as if it were not there.
    #[must_use]
    pub fn knows(&self, tenant: &TenantId, site: &SiteId) -> bool {
        self.tenant == *tenant && (self.sites.is_empty() || self.sites.contains(site))
    }
}

/// What a token may be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// To purge URLs, prefixes and tags.
    Purge,
    /// To purge whole hosts and whole sites.
    PurgeEverything,
    /// To read what became of purges, and the audit of its own.
    Read,
}

impl Verb {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::PurgeEverything => "purge-everything",
            Self::Read => "read",
        }
    }
}

/// blake3 of a token, as it is written in the config.
#[derive(Clone, Copy)]
pub struct Digest(blake3::Hash);

impl Digest {
    /// The digest of a token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(blake3::hash(token))
    }
}

/// In constant time.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Digest {}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.0.to_hex())
    }
}

/// Shows nothing of it: a digest in a log helps only those who guess.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Text for Digest {
    fn expected() -> String {
        "`blake3:` and 64 hex digits, as `meridian token new` prints it".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Some(hex) = text.strip_prefix("blake3:") else {
            return Err("the digest of the token stands here, never the token itself".to_owned());
        };
        let lower = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !lower {
            return Err("64 hex digits in lower case".to_owned());
        }
        blake3::Hash::from_hex(hex).map(Self).map_err(|error| error.to_string())
    }

    fn schema() -> Value {
        json!({ "pattern": "^blake3:[0-9a-f]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written_and_shows_nothing_in_logs() {
        let digest = Digest::of(b"secret");
        assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest);
        assert_eq!(format!("{digest:?}"), "Digest(..)");
        for bad in ["", "blake3:", "secret", "sha256:00", &format!("blake3:{}", "G".repeat(64)), "blake3:ü"] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }
}
