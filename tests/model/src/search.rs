//! Looks at every state of a model once, layer by layer: 8 bytes for each state that was seen, and no paths. Finds as many
//! states as stateright's own search, which a test compares it with, and finds paths with that one.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use stateright::{Expectation, Model, Property};

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// States, each counted once.
    pub states: usize,
    /// Steps that lead from one to another.
    pub steps: usize,
    /// Layers.
    pub depth: usize,
    /// What was promised and is not so; the search ends at the first.
    pub broken: Option<&'static str>,
    /// What is possible.
    pub reached: Vec<&'static str>,
    /// What should be possible and never was.
    pub missed: Vec<&'static str>,
    /// Whether every state was seen.
    pub whole: bool,
}

/// Looks at everything, as long as there are no more than `states_max` states.
pub fn search<M>(model: &M, states_max: usize) -> Found
where
    M: Model,
    M::State: Hash,
{
    let properties = model.properties();
    let (promised, hoped): (Vec<_>, Vec<_>) =
        properties.iter().partition(|property| property.expectation == Expectation::Always);
    let mut hoped: Vec<&Property<M>> = hoped;
    let mut seen = Seen::new();
    let mut found = Found::default();
    let mut bytes = Bytes::default();
    let mut layer = model.init_states();
    layer.retain(|state| seen.insert(bytes.fingerprint(state)));
    let mut actions = Vec::new();
    while !layer.is_empty() && found.broken.is_none() && seen.count <= states_max {
        found.depth += 1;
        let mut next = Vec::new();
        for state in &layer {
            found.broken = promised.iter().find(|held| !(held.condition)(model, state)).map(|broken| broken.name);
            if found.broken.is_some() {
                break;
            }
            hoped.retain(|hope| {
                let here = (hope.condition)(model, state);
                found.reached.extend(here.then_some(hope.name));
                !here
            });
            model.actions(state, &mut actions);
            for action in actions.drain(..) {
                if let Some(after) = model.next_state(state, action) {
                    found.steps += 1;
                    if seen.insert(bytes.fingerprint(&after)) {
                        next.push(after);
                    }
                }
            }
        }
        layer = next;
    }
    found.whole = layer.is_empty();
    found.states = seen.count;
    found.missed = hoped.iter().map(|hope| hope.name).collect();
    found
}

/// Walks where chance leads: `walks` times from the beginning, `steps` steps each. For worlds that are too large to be
/// looked at whole. The same `seed` walks the same ways.
pub fn wander<M: Model>(model: &M, seed: u64, walks: usize, steps: usize) -> Found {
    let properties = model.properties();
    let mut found = Found::default();
    let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut actions = Vec::new();
    for _ in 0..walks {
        let Some(mut state) = model.init_states().pop() else { break };
        for _ in 0..steps {
            for property in &properties {
                let here = (property.condition)(model, &state);
                match property.expectation {
                    Expectation::Always if !here => found.broken = Some(property.name),
                    Expectation::Sometimes if here && !found.reached.contains(&property.name) => {
                        found.reached.push(property.name);
                    }
                    Expectation::Always | Expectation::Sometimes | Expectation::Eventually => {}
                }
            }
            if found.broken.is_some() {
                return found;
            }
            model.actions(&state, &mut actions);
            let Some(taken) = pick(&mut chance, actions.len()) else { break };
            let Some(after) = model.next_state(&state, actions.swap_remove(taken)) else { break };
            actions.clear();
            found.steps += 1;
            state = after;
        }
        actions.clear();
    }
    let hoped = properties.iter().filter(|property| property.expectation == Expectation::Sometimes);
    found.missed = hoped.map(|hope| hope.name).filter(|name| !found.reached.contains(name)).collect();
    found
}

/// A number below `count`, if there is one.
fn pick(chance: &mut u64, count: usize) -> Option<usize> {
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    usize::try_from(*chance >> 33).ok()?.checked_rem(count)
}

/// Fingerprints in a table with open addresses; 0 is a free place.
struct Seen {
    places: Vec<u64>,
    count: usize,
}

impl Seen {
    fn new() -> Self {
        Self { places: vec![0; 1 << 16], count: 0 }
    }

    /// Whether it is new.
    fn insert(&mut self, fingerprint: u64) -> bool {
        if (self.count + 1) * 5 > self.places.len() * 4 {
            let larger = vec![0; self.places.len() * 2];
            for old in std::mem::replace(&mut self.places, larger) {
                if old != 0 {
                    self.put(old);
                }
            }
        }
        let new = self.put(fingerprint);
        self.count += usize::from(new);
        new
    }

    fn put(&mut self, fingerprint: u64) -> bool {
        let mask = self.places.len() - 1;
        // the table has fewer places than a fingerprint has values
        #[allow(clippy::cast_possible_truncation, reason = "masked")]
        let mut at = (fingerprint >> 20) as usize & mask;
        while self.places[at] != 0 {
            if self.places[at] == fingerprint {
                return false;
            }
            at = (at + 1) & mask;
        }
        self.places[at] = fingerprint;
        true
    }
}

/// Collects what a state is made of, to hash it in one go: a state is some hundred single bytes.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    /// Never 0.
    fn fingerprint(&mut self, state: &impl Hash) -> u64 {
        self.0.clear();
        state.hash(self);
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        hasher.finish() | 1
    }
}

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn write_u8(&mut self, byte: u8) {
        self.0.push(byte);
    }

    // lengths and discriminants
    fn write_usize(&mut self, number: usize) {
        self.0.extend_from_slice(&number.to_le_bytes()[..2]);
    }

    fn write_isize(&mut self, number: isize) {
        self.0.extend_from_slice(&number.to_le_bytes()[..2]);
    }

    fn finish(&self) -> u64 {
        0
    }
}
