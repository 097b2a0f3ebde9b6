//! What a node decides, and what is known from outside. Every guard that a [`Mutation`] leaves out is one branch here or
//! in `steps`.

use rules::purge::{Standing, majority};

use super::{EVENTS, Fill, NODES, Node, OBJECTS, OLD, SHIELD, Setup, Source, State, Stored, Witnesses};
use crate::mutants::Mutation;

/// How content is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// As fresh.
    Fresh,
    /// As stale, which a soft purge allows.
    Stale,
}

impl Setup {
    pub(super) fn is_about(&self, event: usize, object: usize) -> bool {
        self.about[event] & (1 << object) != 0
    }

    pub(super) fn is_soft(&self, event: usize) -> bool {
        self.soft & (1 << event) != 0
    }

    pub(super) fn caches(&self, node: usize) -> bool {
        self.caches & (1 << node) != 0
    }

    pub(super) fn may_crash(&self, state: &State, node: usize) -> bool {
        state.crashes > 0 && self.crash_nodes & (1 << node) != 0
    }

    /// What the origin shows: the number of the last event that is about the object, or about its class.
    pub(super) fn shown(&self, state: &State, object: usize) -> u8 {
        let changed = |event: &u8| self.class || self.is_about(usize::from(*event), object);
        (0..state.ordered).rev().find(changed).map_or(0, |event| event + 1)
    }

    /// How a copy stands towards what its node has applied.
    pub(super) fn standing(&self, node: &Node, object: usize, stamp: u8) -> Standing {
        if stamp < node.order.floor {
            return Standing::Stale;
        }
        let purged = |event: usize| match node.order.applied[event] > stamp && self.is_about(event, object) {
            true if self.is_soft(event) => Standing::Soft,
            true => Standing::Stale,
            false => Standing::Valid,
        };
        (0..self.events).map(purged).max().unwrap_or(Standing::Valid)
    }

    /// How a copy stands for a request for `asked`.
    pub(super) fn standing_as(&self, node: &Node, object: usize, asked: usize, copy: &Stored) -> Standing {
        let own = self.standing(node, object, copy.stamp);
        let own = if copy.soft { own.max(Standing::Soft) } else { own };
        if object == asked || self.without(Mutation::OwnKeysOnly) {
            return own;
        }
        if copy.judged && !self.without(Mutation::ClassOverHop) {
            return Standing::Stale;
        }
        own.max(self.standing(node, asked, copy.stamp))
    }

    pub(super) fn is_young(&self, age: u8) -> bool {
        age != OLD && self.lease.is_none_or(|lease| age <= lease)
    }

    pub(super) fn is_leased(&self, node: &Node) -> bool {
        self.is_young(node.lease) || self.without(Mutation::NoLease)
    }

    /// Whether a request that comes now may get what others have in their caches.
    pub(super) fn trusts(&self, node: &Node) -> bool {
        if self.gate { node.gate == 0 } else { self.is_leased(node) }
    }

    /// Whether a copy may be given to a request for `asked` that comes now, and as what.
    pub(super) fn given(&self, node: &Node, object: usize, asked: usize, copy: &Stored) -> Option<Given> {
        let vouched = match self.gate {
            true => copy.stamp >= node.gate,
            false => self.is_leased(node) || self.is_young(copy.confirmed),
        };
        match self.standing_as(node, object, asked, copy) {
            Standing::Valid if vouched => Some(Given::Fresh),
            Standing::Soft if vouched => Some(Given::Stale),
            _ => None,
        }
    }

    /// Whether the answer of a fill may be given to a request that came at position `arrived`, and as what.
    pub(super) fn accepts(&self, node: &Node, object: usize, copy: &Stored, arrived: u8) -> Option<Given> {
        if copy.stamp >= arrived {
            return Some(if copy.soft { Given::Stale } else { Given::Fresh });
        }
        self.given(node, object, object, copy)
    }

    /// Whether a request that comes now may wait for a fill under way.
    pub(super) fn may_wait(&self, node: &Node, fill: &Fill) -> bool {
        let confirms = matches!(fill.source, Source::Origin { .. }) || fill.after_arrival;
        let young = if self.gate { fill.began >= node.gate } else { self.is_young(fill.age) };
        self.trusts(node) || (confirms && young)
    }

    /// What a fill brings. An answer of the shield reflects our order up to the first event that the shield had not
    /// heard; a jump is such an event, too.
    pub(super) fn brought(&self, node: &Node, fill: &Fill) -> Stored {
        let (version, stamp, confirms, soft) = match fill.source {
            Source::Origin { version } if self.without(Mutation::StampAtEnd) => (version, node.position, true, false),
            Source::Origin { version } => (version, fill.began, true, false),
            Source::Answer { version, after_arrival: true, soft, .. } => (version, fill.began, true, soft),
            Source::Answer { version, heard, cursors, soft, .. } => {
                (version, self.covered(node, fill.began, heard, &cursors), false, soft)
            }
            Source::Asked | Source::Joined => (0, 0, false, false),
        };
        let confirmed = if confirms && self.is_young(fill.age) { fill.age } else { OLD };
        Stored { version, stamp, confirmed, soft, judged: self.class && !confirms }
    }

    fn covered(&self, node: &Node, began: u8, heard: u8, cursors: &[u8; NODES]) -> u8 {
        if self.without(Mutation::NotTranslated) {
            return began;
        }
        let mut stamp = began;
        for (event, position) in node.order.applied.into_iter().enumerate() {
            if position > 0 && position <= began && heard & (1 << event) == 0 {
                stamp = stamp.min(position - 1);
            }
        }
        if !self.without(Mutation::JumpNotTranslated) && passed_by(node, began) && behind(cursors, &node.order.passed) {
            stamp = stamp.min(node.order.floor - 1);
        }
        stamp
    }

    /// Whether the asker of a fill has heard what the shield has not.
    pub(super) fn shield_is_behind(&self, state: &State, asker: &Node, fill: &Fill) -> bool {
        let heard = self.heard(state, SHIELD);
        let event = (0..self.events).any(|event| knows_at(asker, event, fill.began) && heard & (1 << event) == 0);
        event || (passed_by(asker, fill.began) && behind(&self.cursors(state, SHIELD), &asker.order.passed))
    }

    /// The events that a node has applied.
    pub(super) fn applied(&self, node: &Node) -> u8 {
        bits((0..self.events).filter(|event| node.order.applied[*event] > 0))
    }

    /// The events that a node has applied or passed over.
    pub(super) fn heard(&self, state: &State, node: usize) -> u8 {
        let own = &state.nodes[node];
        let mut heard = self.applied(own);
        for (witness, log) in state.nodes.iter().enumerate() {
            let read = if witness == node { own.durable } else { own.order.cursors[witness] };
            heard |= bits(log.records(read.min(log.appended)));
        }
        heard
    }

    /// How far a node says that it has read each log. They matter only where somebody may jump.
    pub(super) fn cursors(&self, state: &State, node: usize) -> [u8; NODES] {
        if self.jumps == 0 {
            return [0; NODES];
        }
        let mut cursors = state.nodes[node].order.cursors;
        cursors[node] = state.nodes[node].durable;
        cursors
    }

    /// How many witnesses are enough to acknowledge an event.
    pub(super) fn quorum(&self) -> usize {
        if self.without(Mutation::AcknowledgedByOne) { 1 } else { majority(NODES) }
    }

    /// How many *others* a witness that lost its disk has to hear: so many that they meet every majority that it was
    /// in.
    pub(super) fn recovery(&self) -> u32 {
        if self.without(Mutation::RecoveryCountsItself) {
            return 1;
        }
        u32::try_from(NODES - majority(NODES) + 1).unwrap_or(u32::MAX)
    }

    /// Whether a node has read everything that a poll was told of.
    pub(super) fn has_read(&self, node: &Node, witness: u8, head: u8) -> bool {
        match self.witnesses {
            Witnesses::Register => self.applied(node) & head == head,
            Witnesses::None | Witnesses::Logs => node.order.cursors[usize::from(witness)] >= head,
        }
    }

    /// Seen from outside: the acknowledged events.
    pub(super) fn acknowledged(&self, state: &State) -> u8 {
        bits((0..self.events).filter(|event| state.acknowledged[*event].is_some()))
    }

    /// Seen from outside: the events that a request which comes to a node now has to see reflected.
    pub(super) fn owed(&self, state: &State, node: usize) -> u8 {
        let node = &state.nodes[node];
        bits((0..self.events).filter(|event| {
            let long_ago = |age: u8| self.lease.is_some_and(|lease| age > lease);
            let acknowledged = |age: u8| node.ever & (1 << event) != 0 || long_ago(age);
            node.order.applied[*event] > 0 || state.acknowledged[*event].is_some_and(acknowledged)
        }))
    }

    /// Seen from outside: whether content reflects what is owed. What is given as stale owes nothing to soft events.
    pub(super) fn reflects(&self, version: u8, object: usize, given: Given, owed: u8) -> bool {
        (0..self.events).all(|event| {
            let counts = given == Given::Fresh || !self.is_soft(event);
            owed & (1 << event) == 0 || !counts || !self.is_about(event, object) || usize::from(version) > event
        })
    }
}

impl Node {
    /// The events in the first records of its log.
    pub(super) fn records(&self, count: u8) -> impl Iterator<Item = usize> + '_ {
        self.log.iter().take(usize::from(count)).map(|record| usize::from(record.saturating_sub(1)))
    }

    pub(super) fn holds(&self, event: usize) -> bool {
        self.records(self.appended).any(|held| held == event)
    }

    pub(super) fn append(&mut self, event: usize) {
        self.log[usize::from(self.appended)] = number(event) + 1;
        self.appended += 1;
    }

    /// Gives an event the next position, once.
    pub(super) fn apply(&mut self, event: usize) {
        if self.order.applied[event] == 0 {
            self.position += 1;
            self.order.applied[event] = self.position;
        }
    }

    /// All its copies of an object.
    pub(super) fn copies(&self, object: usize) -> impl Iterator<Item = Stored> {
        [self.memory[object], self.disk[object]].into_iter().flatten()
    }
}

/// Indexes are small.
pub(super) fn number(index: usize) -> u8 {
    const { assert!(EVENTS < 8 && NODES < 8 && OBJECTS < 8) };
    u8::try_from(index).unwrap_or(u8::MAX)
}

pub(super) fn bits(events: impl Iterator<Item = usize>) -> u8 {
    events.fold(0, |all, event| all | 1 << event)
}

/// Whether a node had applied an event when its position was `at`.
pub(super) fn knows_at(node: &Node, event: usize, at: u8) -> bool {
    node.order.applied[event] > 0 && node.order.applied[event] <= at
}

/// Whether a node had jumped when its position was `at`.
fn passed_by(node: &Node, at: u8) -> bool {
    node.order.floor > 0 && node.order.floor <= at
}

fn behind(cursors: &[u8; NODES], passed: &[u8; NODES]) -> bool {
    cursors.iter().zip(passed).any(|(cursor, passed)| cursor < passed)
}
