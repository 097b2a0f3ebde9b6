//! What DNS answers besides the addresses of sites, and on which terms.

use std::path::PathBuf;

/// Answers per second and kind that a block of addresses gets over UDP, if nothing else is said.
pub const ANSWERS_PER_SECOND: u32 = 1_000;

/// On which terms a node answers DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsTerms {
    /// What it says to those who ask which server it is (NSID, RFC 5001); nothing if none.
    pub nsid: Option<String>,
    /// A file with the secret that cookies are made with; one of its own, new at each start, if none.
    pub cookie_secret: Option<PathBuf>,
    /// Answers per second and kind that a block of addresses gets over UDP; no limit if none.
    pub answers_per_second: Option<u32>,
}

impl Default for DnsTerms {
    fn default() -> Self {
        Self { nsid: None, cookie_secret: None, answers_per_second: Some(ANSWERS_PER_SECOND) }
    }
}
