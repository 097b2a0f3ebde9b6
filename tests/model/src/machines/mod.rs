//! The machines themselves: three nodes with the real [`Apply`], [`Witness`], [`Lease`] and [`Receipts`], every one of them
//! a witness and a cache of one object; the wire and the disks are values. What may happen is what may happen to the
//! real ones, and after every step the promises are looked at.

mod node;
mod world;

use std::{hash::Hash, hash::Hasher, rc::Rc};

use node::Node;
use rules::purge::{Have, Position};
use stateright::{Model, Property};

/// Nodes, all of them witnesses.
pub const NODES: usize = 3;

/// How much there is of everything.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Purges of the one object.
    pub events: usize,
    /// Power failures.
    pub crashes: u8,
    /// Lost disks.
    pub losses: u8,
    /// Logs cut short, over which others have to jump.
    pub cuts: u8,
    /// Nodes that cache, as bits; if there are two, they ask each other.
    pub caches: u8,
    /// Nodes that write later than they hear, as bits; the others write at once.
    pub late: u8,
    /// Whether events also come directly to who did not take them.
    pub direct: bool,
    /// A mistake in how the machines are used.
    pub mistake: Option<Mistake>,
}

/// A mistake that is made on purpose: what looks for mistakes has to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Answers of others count as if they had heard all that this node has.
    NotTranslated,
    /// A witness says "stored" before its disk has it.
    StoredUnwritten,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::NotTranslated, Self::StoredUnwritten];
}

/// The worlds that are small enough to be looked at whole, with their names in `docs/purge-protocol.md`.
#[must_use]
pub fn small() -> Vec<(&'static str, Setup)> {
    let base =
        Setup { events: 1, crashes: 0, losses: 0, cuts: 0, caches: 0b001, late: 0, direct: false, mistake: None };
    vec![("machines", base), ("machines-late", Setup { late: 0b001, ..base })]
}

/// All of it at once: too large to be looked at whole.
pub const LARGE: Setup =
    Setup { events: 2, crashes: 1, losses: 1, cuts: 1, caches: 0b111, late: 0b111, direct: true, mistake: None };

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stored {
    /// How many purges had been ordered when the origin was read.
    pub version: usize,
    /// In the order of its node.
    pub stamp: Position,
}

/// An answer of another node on its way.
#[derive(Debug, Clone)]
pub struct Answer {
    from: usize,
    version: usize,
    have: Have,
    at_start: Position,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct State {
    nodes: [Rc<Node>; NODES],
    ordered: usize,
    /// The acknowledged events, in their order.
    acknowledged: Vec<usize>,
    crashes: u8,
    losses: u8,
    cuts: u8,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, into: &mut H) {
        self.nodes.iter().for_each(|node| node.name.hash(into));
        (self.ordered, &self.acknowledged, self.crashes, self.losses, self.cuts).hash(into);
    }
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The origin changes, and a node takes the application's purge.
    Order(usize),
    /// An event reaches a node.
    Hear(usize, usize),
    /// A node opens a tail of a witness, and reads one record if there is one.
    Tail(usize, usize),
    /// A node writes what changed.
    Write(usize),
    /// A node fetches at the origin.
    Fetch(usize),
    /// A node asks another, which had applied its newest events just now or long ago.
    Ask(usize, usize, bool),
    /// The answer comes.
    Land(usize),
    /// The power fails.
    Crash(usize),
    /// The power fails, and the disk is empty.
    Lose(usize),
    /// A witness drops the records that a majority has.
    Cut(usize),
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(self.after(state, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("P1 P2 P3 nothing is served that is older than what is known", |_, state: &State| {
                (0..NODES).all(|node| state.serves_rightly(node))
            }),
            Property::always("P4 acknowledged is on disk", |setup: &Self, state| {
                state.acknowledged.iter().all(|event| {
                    let kept = state.nodes.iter().filter(|node| node.has_on_disk(*event)).count();
                    kept >= 1 && kept + usize::from(setup.losses - state.losses) >= 2
                })
            }),
            Property::sometimes("M1 all acknowledged, all cached again", |setup: &Self, state: &State| {
                let caches = (0..NODES).filter(|index| setup.caches(*index)).map(|index| &state.nodes[index]);
                let current = |copy: &Stored| copy.version == setup.events;
                state.acknowledged.len() == setup.events
                    && caches
                        .into_iter()
                        .all(|node| node.stored.is_some_and(|copy| current(&copy) && node.serves(&copy)))
            }),
        ];
        let mut reach = |applies: bool, name, condition| {
            if applies {
                properties.push(Property::sometimes(name, condition));
            }
        };
        let hops = self.caches.count_ones() > 1;
        reach(hops, "M2 current copy from another node", |setup, state| {
            state.landings().any(|(node, copy)| copy.version == setup.events && node.serves(&copy))
        });
        reach(hops, "M3 old answer of another node rejected", |setup, state| {
            let late = |(node, copy): &(&Node, Stored)| copy.version < setup.events && !node.serves(copy);
            state.landings().any(|landing| late(&landing))
        });
        reach(self.crashes > 0, "M4 copy served after a restart", |_, state| {
            state.nodes.iter().any(|node| {
                node.boot > 1 && node.stored.is_some_and(|copy| copy.stamp.boot() == 1 && node.serves(&copy))
            })
        });
        reach(self.losses > 0, "M5 a new log votes, and holds what was acknowledged", |setup, state| {
            state.losses < setup.losses
                && state.acknowledged.len() == setup.events
                && state.nodes.iter().all(|node| node.log.voting() && (0..setup.events).all(|e| node.has_on_disk(e)))
        });
        reach(self.cuts > 0, "M6 jumped", |_, state| state.nodes.iter().any(|node| node.jumped));
        properties
    }
}
