//! What goes wrong between nodes.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use region_config::NodeId;

/// Why an identity was refused: ours at start, or a peer's in the handshake.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFault {
    /// The config names no identity files.
    #[error("`peer` is given but no `identity`: a node of a fleet needs a certificate, see `meridian ca issue`")]
    None,
    /// A file cannot be read.
    #[error("reading `{}`: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A fault in a file.
    #[error("`{}`: {fault}", .path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// The fault.
        fault: Box<IdentityFault>,
    },
    /// Not a certificate, or not one that can be used.
    #[error("not a usable certificate: {why}")]
    NotACertificate {
        /// What is wrong.
        why: String,
    },
    /// The certificate does not name a node.
    #[error(
        "the certificate does not hold exactly one name of the form `meridian://<cluster>/<jurisdiction>/<region>/<node>`{}",
        found.as_ref().map_or(String::new(), |found| format!(", but `{}`", found.chars().take(200).collect::<String>()))
    )]
    NoName {
        /// What it holds instead.
        found: Option<String>,
    },
    /// Past its time.
    #[error("the certificate expired at {at}: issue a new one with `meridian ca issue`")]
    Expired {
        /// When.
        at: String,
    },
    /// Before its time.
    #[error("the certificate is valid only from {from}: is this machine's clock right?")]
    NotYet {
        /// From when.
        from: String,
    },
    /// Another CA's.
    #[error("the certificate was not signed by this cluster's CA for a node: {why}")]
    Stranger {
        /// What the check said.
        why: String,
    },
    /// The private key does not fit.
    #[error("the key `{}`: {why}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Well certified, but not a node of ours, or ourselves.
    #[error("`{who}` is no other node of this fleet's region table")]
    NoMember {
        /// Who it is.
        who: String,
    },
    /// Config and certificate disagree.
    #[error("the certificate is for {what} `{certificate}`, but the config claims {what} `{config}`")]
    Claims {
        /// `node`, `region`, `jurisdiction` or `cluster`.
        what: &'static str,
        /// What the certificate says.
        certificate: String,
        /// What the config says.
        config: String,
    },
}

impl IdentityFault {
    /// The same fault, with the file it is in.
    pub(super) fn within(self, path: &Path) -> Self {
        Self::In { path: path.to_path_buf(), fault: Box::new(self) }
    }
}

/// Why something between nodes did not work.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The config names no mesh listener.
    #[error("this node has no `peer` address, so it has no mesh")]
    NoMesh,
    /// Our own identity.
    #[error("this node's identity: {0}")]
    Identity(#[from] IdentityFault),
    /// The listener cannot be had.
    #[error("listening for nodes on {address} (UDP): {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("setting up TLS between nodes: {why}")]
    Tls {
        /// What the library said.
        why: String,
    },
    /// No such node in the region table, or one without an address.
    #[error("`{node}` is no other node of this fleet with a `peer` address")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// Not reached.
    #[error("connecting to `{node}`: {why}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// What happened; of an earlier attempt, if the next one is not due yet.
        why: String,
    },
    /// The connection ended under us.
    #[error("the connection to a node ended: {why}")]
    Lost {
        /// How.
        why: String,
    },
    /// The deadline passed.
    #[error("no answer from a node within {} ms", .after.as_millis())]
    TimedOut {
        /// The time given.
        after: Duration,
    },
    /// A message that is too large.
    #[error("a message of {bytes} bytes between nodes, at most {max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The stream ended between two messages.
    #[error("the stream from a node ended")]
    Ended,
    /// A message that ends early, or is not of our protocol.
    #[error("a malformed message between nodes: {why}")]
    Malformed {
        /// What is wrong.
        why: &'static str,
    },
}

impl PeerError {
    /// The connection or stream ended, in the library's words.
    pub(super) fn lost(why: impl std::fmt::Display) -> Self {
        Self::Lost { why: why.to_string() }
    }
}
