//! The protocol: edges, a shield, an origin and an application as one state, and everything that may happen next.
//!
//! Nodes 0 and 1 are edges and 2 is the shield; all three are witnesses. Two kinds of things are kept small on purpose:
//!
//! - Time is an age, from 0 to the lease's length and then "too old", so that any number of ticks is a few states.
//! - Messages that are sent until they are answered and do nothing the second time are actions that stay possible for
//!   ever: loss is that they are never taken, and delay, doubling and reordering are when.
//!
//! What could be seen at several moments is seen at the worst: the origin is read when a fetch begins, a witness
//! answers a poll when it is sent, and an event counts as acknowledged the instant that its quorum is on disk.

mod canonical;
mod decide;
mod properties;
mod steps;

use crate::mutants::Mutation;

/// Nodes.
pub const NODES: usize = 3;
/// Events, at most.
pub const EVENTS: usize = 2;
/// Objects, at most.
pub const OBJECTS: usize = 2;
/// The node that the others ask before the origin.
pub const SHIELD: usize = 2;
/// An age that is over the lease's length, or unknown.
pub const OLD: u8 = u8::MAX;

/// What stands for the witnesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witnesses {
    /// Nothing: no acknowledgement, and the lease always holds.
    None,
    /// One register with the acknowledged events, read and written at once. That logs are as good is P6.
    Register,
    /// Three logs, cursors, majorities.
    Logs,
}

/// A configuration: how much there is of everything.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Events.
    pub events: usize,
    /// Objects.
    pub objects: usize,
    /// Per event: the objects it is about, as bits.
    pub about: [u8; EVENTS],
    /// The events that are soft, as bits.
    pub soft: u8,
    /// Length of a lease in ticks; none if there is no time.
    pub lease: Option<u8>,
    /// Sites without a bound in time: no lease is needed, only the gate of a boot.
    pub gate: bool,
    /// Power failures to come.
    pub crashes: u8,
    /// Nodes whose power may fail, as bits.
    pub crash_nodes: u8,
    /// Lost disks to come.
    pub losses: u8,
    /// Jumps of a cursor to come.
    pub jumps: u8,
    /// Nodes that may jump, as bits.
    pub jump_nodes: u8,
    /// Whether appending and being on disk are two steps.
    pub fsync: bool,
    /// What stands for the witnesses.
    pub witnesses: Witnesses,
    /// Whether edges may ask the origin themselves.
    pub direct: bool,
    /// Whether edges may ask the shield.
    pub shield: bool,
    /// Whether the shield minds what the asker says it has heard.
    pub told: bool,
    /// Whether one late request may wait for a fill under way.
    pub joins: bool,
    /// Whether a fill may begin although there is a copy to serve.
    pub refresh: bool,
    /// Whether the objects are URLs of one class, each answering for all (`No-Vary-Search`).
    pub class: bool,
    /// Nodes that cache, as bits; the others are witnesses only.
    pub caches: u8,
    /// Two nodes that may be exchanged.
    pub alike: Option<(usize, usize)>,
    /// The guard that is left out.
    pub mutation: Option<Mutation>,
}

/// A stored response. Its content is how many events had been ordered when the origin was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stored {
    /// What the origin showed.
    pub version: u8,
    /// Position before its fetch left.
    pub stamp: u8,
    /// Age of this node's own confirmation at the origin in this boot.
    pub confirmed: u8,
    /// It came from a node for which it was softly purged.
    pub soft: bool,
    /// It was judged for the URL that was asked for, and no other: the stamp says nothing of what else is in its class.
    pub judged: bool,
}

/// Where the content of a fill comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The origin, which showed this.
    Origin {
        /// What it showed.
        version: u8,
    },
    /// Asked the shield, which has not looked yet.
    Asked,
    /// Waits for a fill of the shield.
    Joined,
    /// What the shield answered.
    Answer {
        /// The content.
        version: u8,
        /// Events that the shield says it had heard.
        heard: u8,
        /// How far it says it had read each log.
        cursors: [u8; NODES],
        /// It says that its fetch from the origin began after the request came.
        after_arrival: bool,
        /// It says that the copy was softly purged.
        soft: bool,
    },
}

/// A fill under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fill {
    /// For which object.
    pub object: u8,
    /// Position when it began.
    pub began: u8,
    /// Its age.
    pub age: u8,
    /// The answer has to come from a fetch begun after the request came.
    pub after_arrival: bool,
    /// Where the content comes from.
    pub source: Source,
    /// Seen from outside: events that the answer to whoever began it has to reflect.
    pub owed: u8,
    /// A late request: position when it came, and what it is owed.
    pub late: Option<(u8, u8)>,
    /// At the shield: what it had heard when the fill began.
    pub heard: u8,
    /// At the shield: how far it had read each log then.
    pub cursors: [u8; NODES],
}

/// What is written of a node's order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Order {
    /// Position of each event; 0 if it was not applied.
    pub applied: [u8; EVENTS],
    /// How far each log was read.
    pub cursors: [u8; NODES],
    /// Everything stamped before it is stale.
    pub floor: u8,
    /// How far the logs were passed over by the jump that raised it.
    pub passed: [u8; NODES],
}

/// A poll whose answer is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Poll {
    /// The witness.
    pub witness: u8,
    /// Ticks since it was sent.
    pub age: u8,
    /// What it says: the length of its log; of the register, the events in it.
    pub head: u8,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// Position.
    pub position: u8,
    /// Its order, in memory.
    pub order: Order,
    /// What was stored before this position counts as stale; 0 when it has caught up.
    pub gate: u8,
    /// Copies in memory.
    pub memory: [Option<Stored>; OBJECTS],
    /// A fill under way.
    pub fill: Option<Fill>,
    /// Age of the poll that the lease rests on.
    pub lease: u8,
    /// A poll under way.
    pub poll: Option<Poll>,
    /// A witness that recovers: whom it has heard.
    pub recovered: u8,
    /// Its log: events, plus one.
    pub log: [u8; EVENTS],
    /// Records in it.
    pub appended: u8,
    /// Records of it on disk.
    pub durable: u8,
    /// Copies on disk.
    pub disk: [Option<Stored>; OBJECTS],
    /// Its order, on disk.
    pub written: Order,
    /// Whether it may acknowledge.
    pub voting: bool,
    /// Seen from outside: events that it had applied while they were acknowledged, in this boot or another.
    pub ever: u8,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// The nodes.
    pub nodes: [Node; NODES],
    /// Events that were ordered. The origin changes before each.
    pub ordered: u8,
    /// Per event, the age of its acknowledgement.
    pub acknowledged: [Option<u8>; EVENTS],
    /// Power failures to come.
    pub crashes: u8,
    /// Lost disks to come.
    pub losses: u8,
    /// Jumps to come.
    pub jumps: u8,
    /// Seen from outside: a request got what it must not get.
    pub wronged: bool,
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The application changes the origin and orders a purge.
    Order,
    /// The register takes an event.
    Acknowledge(u8),
    /// An event reaches a node.
    Hear(u8, u8),
    /// An event reaches a witness, to be stored.
    Store(u8, u8),
    /// A log is written.
    Sync(u8),
    /// A node reads a record of a witness.
    Tail(u8, u8),
    /// A node writes its order.
    Write(u8),
    /// A copy goes to disk.
    Spill(u8, u8),
    /// A copy is dropped from memory.
    Evict(u8, u8),
    /// The power fails.
    Crash(u8),
    /// The power fails, and the disk is empty.
    Lose(u8),
    /// A node passes over a witness's log.
    Jump(u8, u8),
    /// A fill at the origin begins.
    FillOrigin(u8, u8),
    /// A fill through the shield begins.
    FillShield(u8, u8),
    /// The shield answers a node with a copy: of which object, and whether from disk.
    Answer(u8, u8, bool),
    /// The shield asks the origin for a node.
    Pass(u8),
    /// The shield lets a node wait for its own fill.
    Join(u8),
    /// A late request waits for a node's fill.
    Wait(u8),
    /// A fill ends.
    Land(u8),
    /// A fill fails.
    Abort(u8),
    /// A node polls a witness.
    Poll(u8, u8),
    /// What a poll needs has come.
    Confirm(u8),
    /// Time passes.
    Tick,
}
