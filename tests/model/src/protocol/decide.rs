//! What a node decides, and what is known from outside. Every guard that a [`Mutation`] leaves out is one branch here or
//! in `steps`.

use std::sync::LazyLock;

use rules::purge::{
    ALWAYS, Electorate, Position, Standing,
    fill::{self, Made, Vouch},
};

use super::{EVENTS, Fill, NODES, Node, OBJECTS, OLD, Poll, SHIELD, Setup, Source, State, Stored, Witnesses};
use crate::mutants::Mutation;

/// What the clock says at any moment: all that counts is how long ago something was.
const NOW: u64 = 100;

/// The witnesses.
static THREE: LazyLock<Electorate> = LazyLock::new(|| Electorate::of(NODES));

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

    /// What a node can vouch for now. Where there is no time, a lease that was given once stands until a restart.
    pub(super) fn vouch(&self, node: &Node) -> Vouch {
        let bound_ms = (!self.gate).then_some(self.lease.map_or(1, u64::from));
        let leased = if self.without(Mutation::NoLease) { 0 } else { node.lease };
        Vouch { bound_ms, since_ms: moment(leased), now_ms: NOW }
    }

    /// What the fetch for a request has to be.
    pub(super) fn demanded(&self, node: &Node) -> Made {
        if self.without(Mutation::CachedWithoutLease) {
            return Made::Elsewhere;
        }
        let closed = node.gate != 0;
        if closed { Made::AtOrigin } else { fill::demanded(&self.vouch(node)) }
    }

    /// Whether a copy may be given to a request for `asked` that comes now, and as what.
    pub(super) fn given(&self, node: &Node, object: usize, asked: usize, copy: &Stored) -> Option<Given> {
        let vouched = copy.stamp >= node.gate && self.vouch(node).covers(moment(copy.confirmed));
        match self.standing_as(node, object, asked, copy) {
            Standing::Valid if vouched => Some(Given::Fresh),
            Standing::Soft if vouched => Some(Given::Stale),
            _ => None,
        }
    }

    /// Whether what a fill brought may be given to a request that came at position `arrived`, and as what.
    pub(super) fn accepts(&self, node: &Node, object: usize, copy: &Stored, arrived: u8) -> Option<Given> {
        let standing = self.standing_as(node, object, object, copy);
        let vouch = self.vouch(node);
        let will_do =
            fill::acceptable(position(arrived), position(copy.stamp), standing, &vouch, moment(copy.confirmed));
        will_do.then_some(if copy.soft { Given::Stale } else { Given::Fresh })
    }

    /// Whether a request that comes now may wait for a fill under way.
    pub(super) fn may_wait(&self, node: &Node, fill: &Fill) -> bool {
        let asked_for = fill.after_arrival || matches!(fill.source, Source::Origin { .. });
        let made = if asked_for { Made::AtOrigin } else { Made::Elsewhere };
        fill::joinable(made, moment(fill.age), &self.vouch(node))
    }

    /// What a fill brings. An answer of the shield reflects our order up to the first event that the shield had not
    /// heard; a jump is such an event, too.
    pub(super) fn brought(&self, node: &Node, fill: &Fill) -> Stored {
        let (version, soft, made, covered) = match fill.source {
            Source::Origin { version } => (version, false, Made::AtOrigin, 0),
            Source::Answer { version, after_arrival: true, soft, .. } => (version, soft, Made::AtOrigin, 0),
            Source::Answer { version, heard, cursors, soft, .. } => {
                (version, soft, Made::Elsewhere, self.covered(node, fill.began, heard, &cursors))
            }
            Source::Asked | Source::Joined => (0, false, Made::Elsewhere, 0),
        };
        let at_end = self.without(Mutation::StampAtEnd) && matches!(fill.source, Source::Origin { .. });
        let began = if at_end { node.position } else { fill.began };
        let stamp = fill::stamp(made, position(began), position(covered)).0;
        let confirmed = age(fill::confirmed(made, moment(fill.age)));
        Stored {
            version,
            stamp: u8::try_from(stamp).unwrap_or(u8::MAX),
            confirmed: if self.is_young(confirmed) { confirmed } else { OLD },
            soft,
            judged: self.class && made == Made::Elsewhere,
        }
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

    /// Whether those that have an event are enough to acknowledge it.
    pub(super) fn is_agreed(&self, has: impl Fn(usize) -> bool) -> bool {
        if self.without(Mutation::AcknowledgedByOne) {
            return (0..NODES).any(has);
        }
        THREE.met(has)
    }

    /// Whether a witness that lost its disk has heard enough others.
    pub(super) fn has_recovered(&self, own: usize, heard: u8) -> bool {
        if self.without(Mutation::RecoveryCountsItself) {
            return heard != 0;
        }
        THREE.recovered(own, |other| heard & (1 << other) != 0)
    }

    /// The age of the lease that a witness has when it has read what a poll of another was told.
    pub(super) fn leased(&self, own: usize, poll: &Poll) -> u8 {
        if self.without(Mutation::LeaseFromAnswer) {
            return 0;
        }
        // the register is everybody
        let asked = (poll.witness != number(own)).then_some(usize::from(poll.witness));
        let asked = asked.unwrap_or((own + 1) % NODES);
        let heard = |witness: usize| match witness {
            witness if witness == own => Some(ALWAYS),
            witness if witness == asked => Some(moment(poll.age)),
            _ => None,
        };
        THREE.agreed(heard).map_or(OLD, age)
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

fn position(rank: u8) -> Position {
    Position(u64::from(rank))
}

/// When something of this age was; 0 is never.
fn moment(age: u8) -> u64 {
    NOW.saturating_sub(u64::from(age))
}

/// How long ago a moment was.
fn age(moment: u64) -> u8 {
    if moment == 0 { OLD } else { u8::try_from(NOW.saturating_sub(moment)).unwrap_or(OLD) }
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
