//! A stream of NATS JetStream that keeps a realm's log of purges.

use std::{fmt, path::PathBuf};

use crate::{
    config::CertificateFiles,
    ids::{JurisdictionId, RealmId},
};

/// The name of the one virtual witness of a realm whose log is a stream; no node may have it then.
pub const STREAM_WITNESS: &str = "stream";

/// A stream, and how its servers are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The realm whose purges it keeps.
    pub realm: RealmId,
    /// Its name at the servers.
    pub name: String,
    /// The servers; at least one, and no others are ever talked to.
    pub servers: Vec<StreamServer>,
    /// The legal area that the servers stand in, as the operator declares it.
    pub jurisdiction: Option<JurisdictionId>,
    /// Copies of it, each on another server: 1, 3 or 5.
    pub replicas: usize,
    /// Most bytes of it; over that, the oldest purges go.
    pub size_max_bytes: u64,
    /// Who we are: a file with JWT and seed, or with `user:password`.
    pub credentials: Option<PathBuf>,
    /// The same for the system account, where the node shall look for itself how the servers sync.
    pub system_credentials: Option<PathBuf>,
    /// CA certificates to trust for the servers, PEM; the system's if none.
    pub ca: Option<PathBuf>,
    /// The certificate that the servers are shown.
    pub identity: Option<CertificateFiles>,
}

/// A server, as `tls://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamServer {
    /// Whether it is spoken to with TLS; without only on this machine.
    pub tls: bool,
    /// Host name, or an address; IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for StreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}
