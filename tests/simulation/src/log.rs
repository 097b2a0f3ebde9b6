//! What happened in a run, in its true order: the only thing that the checker sees.

use std::fmt;

use rules::purge::PurgeId;

/// Nodes of the fleet.
pub const NODES: usize = 6;
/// Their names. Two in each of three regions.
pub const NAMES: [&str; NODES] = ["eu-1", "eu-2", "us-1", "us-2", "ap-1", "ap-2"];
/// Their regions.
pub const REGIONS: [&str; NODES] = ["eu", "eu", "us", "us", "ap", "ap"];
/// Documents at the origin.
pub const DOCS: usize = 12;

/// How far a purge was said to have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// On the disk of the node that took it.
    Local,
    /// On the disks of a majority of the witnesses.
    Quorum,
    /// In effect on every node.
    All,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The origin has a new version of a document.
    Publish {
        /// Which.
        doc: usize,
        /// Its version from now on.
        version: u64,
    },
    /// An application asks a node for a purge (again, if `tries` is not 1).
    Accept {
        /// Its id.
        id: PurgeId,
        /// The documents that it is about.
        docs: Vec<usize>,
        /// Which attempt this is.
        tries: u32,
    },
    /// The node has answered the application.
    Ack {
        /// The purge.
        id: PurgeId,
        /// How far it has come.
        level: Level,
        /// The nodes of which the receipt says that it is in effect there, and stays so.
        applied: Vec<usize>,
    },
    /// The node has not taken it, or does not know.
    Refused {
        /// The purge.
        id: PurgeId,
        /// What it said.
        why: String,
    },
    /// The node has put a purge into its order.
    Applied {
        /// The purge.
        id: PurgeId,
    },
    /// A node starts.
    Start {
        /// How often it has started.
        boot: u32,
    },
    /// It has heard of everything that was acknowledged before its start.
    CaughtUp,
    /// It is killed, and its disk with it if `disk_lost`.
    Kill {
        /// Whether the disk is empty when it comes back.
        disk_lost: bool,
    },
    /// A request comes to a node.
    Arrive {
        /// Its number.
        request: u64,
        /// The document asked for.
        doc: usize,
    },
    /// A node asks the origin, or another node.
    Fetch {
        /// The document.
        doc: usize,
        /// The other node; none is the origin.
        owner: Option<usize>,
    },
    /// The origin reads a document for a node.
    Read {
        /// The document.
        doc: usize,
        /// The version it has.
        version: u64,
    },
    /// A node keeps a document.
    Store {
        /// The document.
        doc: usize,
        /// Its version.
        version: u64,
    },
    /// A node answers a request.
    Serve {
        /// The request.
        request: u64,
        /// The document.
        doc: usize,
        /// The version in the answer.
        version: u64,
        /// How it came by it.
        from: From,
        /// Whether it said that this is the whole body.
        complete: bool,
        /// Hash of the body.
        hash: u64,
    },
    /// A node had nothing for a request.
    Fail {
        /// The request.
        request: u64,
    },
    /// Something is broken, or mended.
    Fault(String),
    /// From here on nothing is broken.
    Calm,
    /// The time for everything to converge is over.
    Deadline,
}

/// How a node came by an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// From its cache.
    Cache,
    /// By a fetch of its own or one that was under way.
    Fill,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in ms of the run.
    pub at_ms: u64,
    /// Where; none is outside all nodes.
    pub node: Option<usize>,
    /// What.
    pub event: Event,
}

/// The log of a run.
#[derive(Debug, Default)]
pub struct Log {
    lines: Vec<Line>,
}

impl Log {
    /// Adds a line.
    pub fn note(&mut self, at_ms: u64, node: Option<usize>, event: Event) {
        self.lines.push(Line { at_ms, node, event });
    }

    /// All of it.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// As text, one event a line.
    #[must_use]
    pub fn text(&self) -> String {
        use fmt::Write as _;
        self.lines.iter().fold(String::new(), |mut text, line| {
            // writing to a String does not fail
            let _written = writeln!(text, "{line}");
            text
        })
    }
}

/// The body of a version of a document, in the pieces in which it travels.
#[must_use]
pub fn body(doc: usize, version: u64) -> [String; 3] {
    ["head", "middle", "end"].map(|part| format!("{part} of document {doc} in version {version}\n"))
}

/// The hash of a body, FNV-1a.
#[must_use]
pub fn hash(pieces: &[String]) -> u64 {
    let bytes = pieces.iter().flat_map(|piece| piece.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The first digits of an id are enough for people.
struct Short(PurgeId);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0.0 >> 96)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.map_or("-", |node| NAMES[node]);
        write!(f, "{:>6} ms  {node:<5} {}", self.at_ms, self.event)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish { doc, version } => write!(f, "publish doc={doc} version={version}"),
            Self::Accept { id, docs, tries } => write!(f, "accept purge={} docs={docs:?} tries={tries}", Short(*id)),
            Self::Ack { id, level, applied } => {
                let applied: Vec<_> = applied.iter().map(|node| NAMES[*node]).collect();
                write!(f, "ack purge={} level={level:?} applied={}", Short(*id), applied.join(","))
            }
            Self::Refused { id, why } => write!(f, "refused purge={} why={why}", Short(*id)),
            Self::Applied { id } => write!(f, "applied purge={}", Short(*id)),
            Self::Start { boot } => write!(f, "start boot={boot}"),
            Self::CaughtUp => write!(f, "caught-up"),
            Self::Kill { disk_lost } => write!(f, "kill disk_lost={disk_lost}"),
            Self::Arrive { request, doc } => write!(f, "arrive request={request} doc={doc}"),
            Self::Fetch { doc, owner } => {
                write!(f, "fetch doc={doc} from={}", owner.map_or("origin", |node| NAMES[node]))
            }
            Self::Read { doc, version } => write!(f, "read doc={doc} version={version}"),
            Self::Store { doc, version } => write!(f, "store doc={doc} version={version}"),
            Self::Serve { request, doc, version, from, complete, .. } => {
                write!(f, "serve request={request} doc={doc} version={version} from={from:?} complete={complete}")
            }
            Self::Fail { request } => write!(f, "fail request={request}"),
            Self::Fault(what) => write!(f, "fault {what}"),
            Self::Calm => write!(f, "calm"),
            Self::Deadline => write!(f, "deadline"),
        }
    }
}
