//! Another set of witnesses: {0, 1, 2} becomes {1, 2, 3}, with a phase in which majorities of both are needed. Nodes are
//! started with the versions one by one, as far as the product lets them, and serve whom the product serves. One event, one
//! witness at a time that reads the old ones, one reader that polls again and again.

use std::sync::LazyLock;

use region_config::NodeId;
use rules::purge::{Electorate, Misstep, Roll, RollSum};
use stateright::{Model, Property};

/// Nodes that are witnesses before, after, or both.
const WITNESSES: usize = 4;
/// Versions of the configuration: the old set, both, the new set.
const PHASES: u8 = 3;
const BOTH: u8 = 1;
const NEW: u8 = 2;

static ROLLS: LazyLock<[Roll; PHASES as usize]> = LazyLock::new(|| {
    let set = |names: &[&str]| names.iter().filter_map(|name| NodeId::parse(name).ok()).collect::<Vec<_>>();
    let (old, new) = (set(&["w0", "w1", "w2"]), set(&["w1", "w2", "w3"]));
    [
        Roll { version: 1, nodes: old.clone(), next: vec![] },
        Roll { version: 2, nodes: old, next: new.clone() },
        Roll { version: 3, nodes: new, next: vec![] },
    ]
});

static SUMS: LazyLock<[RollSum; PHASES as usize]> =
    LazyLock::new(|| [0, 1, 2].map(|version: usize| ROLLS[version].sum()));

/// By numbers of witnesses, which are their places in the list of the joint phase.
static ELECTORATES: LazyLock<[Electorate; PHASES as usize]> = LazyLock::new(|| {
    let new = || vec![1, 2, 3];
    [Electorate::of(3), ROLLS[usize::from(BOTH)].electorate(), Electorate::joint(new(), new())]
});

/// A guard of the change that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Witnesses serve versions older than the one they know.
    NoSeal,
    /// The new set counts before it has read the old one.
    NoSync,
    /// There is no phase in which both count.
    NoJoint,
    /// Old witnesses are read that still serve the old version.
    SyncFromUnsealed,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NoSeal, Self::NoSync, Self::NoJoint, Self::SyncFromUnsealed];
}

/// The change, perhaps without one of its guards.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// What is left out.
    pub mutation: Option<Mutation>,
}

/// Everything. Sets of witnesses are bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The version that was published.
    published: u8,
    /// The version that each witness knows.
    known: [u8; WITNESSES],
    /// Who has the event on disk.
    stored: u8,
    /// Who reads the old witnesses, and which it has read.
    reading: Option<(u8, u8)>,
    /// Who has read enough of them.
    synced: u8,
    /// The version that the node which took the event knows.
    sender: u8,
    /// Who has answered it.
    answered: u8,
    /// The event is acknowledged.
    acknowledged: bool,
    /// A poll under way.
    poll: Option<Poll>,
    /// A lease was given that has not heard the acknowledged event.
    missed: bool,
}

/// A poll of all witnesses of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Poll {
    version: u8,
    answered: u8,
    /// Somebody who answered has the event.
    saw: bool,
    /// It was acknowledged before the poll began.
    owed: bool,
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The operator publishes the next version.
    Publish,
    /// A witness hears of it.
    Learn(u8),
    /// The sender hears of it.
    SenderLearns,
    /// A witness stores the event, in the sender's present or an older version.
    Store(u8, u8),
    /// Enough have stored it.
    Acknowledge,
    /// A new witness reads an old one.
    Read(u8, u8),
    /// A poll begins.
    Poll(u8),
    /// A witness answers it.
    Answer(u8),
    /// Enough have answered.
    Lease,
}

fn members(version: u8) -> u8 {
    match version {
        0 => 0b0111,
        BOTH => 0b1111,
        _ => 0b1110,
    }
}

fn has(set: u8, witness: u8) -> bool {
    set & (1 << witness) != 0
}

fn met(version: u8, set: u8) -> bool {
    ELECTORATES[usize::from(version)].met(|witness| set >> witness & 1 == 1)
}

impl Change {
    fn without(self, guard: Mutation) -> bool {
        self.mutation == Some(guard)
    }

    /// Whether a witness serves nodes of a version: it is one by its own config, and theirs may come after it.
    fn serves(self, state: &State, witness: u8, version: u8) -> bool {
        let known = state.known[usize::from(witness)];
        let [own, theirs] = [known, version].map(|version| SUMS[usize::from(version)]);
        let admitted = match own.becomes(theirs, self.complete(state, witness)) {
            Ok(()) => true,
            Err(Misstep::Older) => self.without(Mutation::NoSeal),
            Err(Misstep::Straight) => self.without(Mutation::NoJoint),
            Err(Misstep::Missed) => self.without(Mutation::NoJoint),
            Err(Misstep::Early | Misstep::Late | Misstep::Differs) => false,
        };
        has(members(known) & members(version), witness) && admitted && self.votes(state, witness)
    }

    /// Whether a witness votes: one that is new only when it has read the old ones.
    fn votes(self, state: &State, witness: u8) -> bool {
        let unread = self.without(Mutation::NoSync) || self.without(Mutation::NoJoint);
        both().present(usize::from(witness)) || has(state.synced, witness) || unread
    }

    /// Whether a node knows that the new ones have taken over.
    fn complete(self, state: &State, witness: u8) -> bool {
        let own = has(state.synced, witness) || !both().future(usize::from(witness));
        self.may_go_on(state) && (own || self.without(Mutation::NoSync))
    }

    fn may_go_on(self, state: &State) -> bool {
        both().taken_over(|witness| state.synced >> witness & 1 == 1) || self.without(Mutation::NoSync)
    }

    fn may_publish(self, state: &State) -> bool {
        match state.published {
            0 => true,
            BOTH => self.may_go_on(state),
            _ => false,
        }
    }

    /// Whether a witness may be started with the version after its own.
    fn may_learn(self, state: &State, witness: u8) -> bool {
        let known = state.known[usize::from(witness)];
        known < state.published && (known != BOTH || self.complete(state, witness))
    }

    /// Whether a witness that takes over may read an old one.
    fn may_read(self, state: &State, old: u8) -> bool {
        let known = state.known[usize::from(old)];
        known == BOTH || (known < BOTH && self.without(Mutation::SyncFromUnsealed))
    }
}

fn both() -> &'static Electorate {
    &ELECTORATES[usize::from(BOTH)]
}

impl Model for Change {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.may_publish(state) {
            actions.push(Action::Publish);
        }
        for witness in 0..4 {
            let known = state.known[usize::from(witness)];
            if self.may_learn(state, witness) {
                actions.push(Action::Learn(witness));
            }
            let versions = (0..=state.sender).filter(|version| self.serves(state, witness, *version));
            actions.extend(versions.map(|version| Action::Store(witness, version)));
            let free = state.reading.is_none_or(|(reader, _)| reader == witness);
            if has(members(NEW), witness) && known >= BOTH && !has(state.synced, witness) && free {
                let readable = (0..3).filter(|old| self.may_read(state, *old));
                actions.extend(readable.map(|old| Action::Read(witness, old)));
            }
        }
        if state.sender < state.published {
            actions.push(Action::SenderLearns);
        }
        if !state.acknowledged && met(state.sender, state.answered) {
            actions.push(Action::Acknowledge);
        }
        match state.poll {
            None => actions.extend((0..=state.published).map(Action::Poll)),
            Some(poll) => {
                let open = (0..4)
                    .filter(|witness| self.serves(state, *witness, poll.version) && !has(poll.answered, *witness));
                actions.extend(open.map(Action::Answer));
                if met(poll.version, poll.answered) {
                    actions.push(Action::Lease);
                }
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Publish if self.without(Mutation::NoJoint) => next.published = NEW,
            Action::Publish => next.published += 1,
            Action::Learn(witness) if self.without(Mutation::NoJoint) => next.known[usize::from(witness)] = NEW,
            Action::Learn(witness) => next.known[usize::from(witness)] += 1,
            Action::SenderLearns => next.sender += 1,
            Action::Store(witness, _) => {
                next.stored |= 1 << witness;
                next.answered |= 1 << witness;
            }
            Action::Acknowledge => next.acknowledged = true,
            Action::Read(witness, old) => next.read(witness, old),
            Action::Poll(version) => {
                next.poll = Some(Poll { version, answered: 0, saw: false, owed: state.acknowledged });
            }
            Action::Answer(witness) => {
                let poll = state.poll?;
                let saw = poll.saw || has(state.stored, witness);
                next.poll = Some(Poll { answered: poll.answered | 1 << witness, saw, ..poll });
            }
            Action::Lease => {
                let poll = next.poll.take()?;
                next.missed |= poll.owed && !poll.saw;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn leased(state: &State, version: u8) -> bool {
            state.poll.is_some_and(|poll| poll.version == version && poll.owed && met(version, poll.answered))
        }
        vec![
            Property::always("P6 a lease has heard", |_, state: &State| !state.missed),
            Property::sometimes("C1 leased by the old set", |_, state| leased(state, 0)),
            Property::sometimes("C2 leased by both", |_, state| leased(state, BOTH)),
            Property::sometimes("C3 leased by the new set", |_, state| leased(state, NEW)),
        ]
    }
}

impl State {
    fn read(&mut self, witness: u8, old: u8) {
        if has(self.stored, old) {
            self.stored |= 1 << witness;
        }
        let before = self.reading.filter(|(reader, _)| *reader == witness).map_or(0, |(_, read)| read);
        let read = before | 1 << old;
        self.reading = Some((witness, read));
        if both().handed_over(|old| read >> old & 1 == 1) {
            self.synced |= 1 << witness;
            self.reading = None;
        }
    }
}
