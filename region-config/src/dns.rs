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
    /// How many threads answer over UDP at each address; from when it was started.
    pub threads: usize,
}

impl Default for DnsTerms {
    fn default() -> Self {
        Self { nsid: None, cookie_secret: None, answers_per_second: Some(ANSWERS_PER_SECOND), threads: 1 }
    }
}

/// Who may issue certificates for a zone (CAA, RFC 8659).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caa {
    /// What it is about, such as `issue`.
    pub tag: String,
    /// Such as the name of a CA.
    pub value: String,
    /// Whether a CA that does not know the tag must refuse.
    pub critical: bool,
}

/// Texts under a name (TXT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// The name, lower case, without the last dot; in the zone.
    pub name: String,
    /// One record each, at most [`TEXTS_MAX`] of at most [`TEXT_BYTES_MAX`] bytes.
    pub values: Vec<String>,
    /// For how long they may be kept, in seconds.
    pub ttl_s: u32,
}

/// Texts under one name, at most: all of them fit into one message over TCP.
pub const TEXTS_MAX: usize = 32;
/// Length of one, at most, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;
