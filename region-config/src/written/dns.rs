//! What is written about DNS.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{DAY, S};
use crate::{
    dns::TEXT_BYTES_MAX,
    host::HostName,
    leaf::{FilePath, Time, Whole, Words},
    shape::{Text, section},
};

section! {
    /// Where DNS is answered, and on which terms.
    DnsSection {
        /// Addresses to listen on.
        some listen: SocketAddr,
        /// What is said to those who ask which server this is (NSID); nothing if left out.
        may nsid: Words,
        /// A file with one or two lines of 32 hex digits: the secret that DNS cookies are made with, and another whose cookies are taken too. The same on all nodes that answer at one address (anycast, a load balancer); each node has its own, new at each start, if left out.
        may cookie_secret: FilePath,
        /// Answers of a kind (sites, the zone itself, what does not exist, errors) that a block of addresses (/24, /56) gets in a second over UDP, and at once; over that, every second one is told to come over TCP, and the others are not answered. Whoever shows a DNS cookie is not counted. 0 is no limit; 1000 if left out.
        may answers_per_second: Whole<0, 1_000_000>,
        /// Threads that answer over UDP at each address; 1 if left out, which is enough for some 100,000 queries a second. Taken at start only.
        may threads: Whole<1, 64>,
    }
}

section! {
    /// Who may issue certificates for the names in a zone (CAA, RFC 8659).
    CaaSection {
        /// What it is about: `issue`, `issuewild`, `iodef` and the like.
        need tag: CaaTag,
        /// A CA's name, `;` for none, or what else the tag wants.
        need value: RecordText,
        /// Whether a CA that does not know the tag must refuse; no if left out.
        may critical: bool,
    }
}

section! {
    /// Texts under a name (TXT), as CAs and services want to see them.
    TextsSection("TXT records of" by "name") {
        /// The name, inside the zone; such as `_acme-challenge.www.example.com`.
        need name: HostName,
        /// The texts, one record each; at most 32.
        some values: RecordText,
        /// For how long resolvers may keep them; 1m if left out.
        may ttl: Time<S, { 7 * DAY }>,
    }
}

/// The tag of a CAA record (RFC 8659 section 4.1).
#[derive(Debug, Clone)]
pub(crate) struct CaaTag(pub(crate) String);

impl Text for CaaTag {
    fn expected() -> String {
        "1 to 15 letters and digits, such as \"issue\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fits = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if fits { Ok(Self(text.to_ascii_lowercase())) } else { Err(String::new()) }
    }

    fn schema() -> Value {
        json!({ "pattern": "^[A-Za-z0-9]{1,15}$" })
    }
}

/// A text in a record: printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordText(pub(crate) String);

impl std::fmt::Display for RecordText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for RecordText {
    fn expected() -> String {
        format!("1 to {TEXT_BYTES_MAX} printable ASCII characters")
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fits = (1..=TEXT_BYTES_MAX).contains(&text.len());
        let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if fits && printable { Ok(Self(text.to_owned())) } else { Err(String::new()) }
    }
}
