//! Read-your-writes: a purge's token, and waiting until this node has heard of the purge that one names.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use rules::purge::{PurgeId, RECEIPTS_MAX};
use wire::purge::{Place, TOKEN_PLACES_MAX, Token, encode_token};

use super::realm::Realm;
use crate::clock;

/// How long a request waits for a purge, in ms; then the origin is asked.
const WAIT_MS: u64 = 250;
/// How often a waiting request looks whether anything came.
const LOOK: Duration = Duration::from_millis(5);
/// Requests of one realm that wait at a time; those beyond ask the origin at once.
const READERS_MAX: usize = 1_024;

/// How it stands with a purge that a client named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// This node had heard of it.
    Before,
    /// It came while the request waited.
    Waited,
    /// It has not come.
    NotYet,
}

/// Where the last purges that this node took are known to be on disk.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: HashMap<PurgeId, Vec<Place>>,
    order: VecDeque<PurgeId>,
}

impl Places {
    /// A witness has a purge on disk, at this record of its log.
    pub(super) fn note(&mut self, id: PurgeId, witness: usize, epoch: u64, seq: u64) {
        let Ok(witness) = u8::try_from(witness) else { return };
        if !self.known.contains_key(&id) {
            self.order.push_back(id);
            if self.order.len() > RECEIPTS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        let places = self.known.entry(id).or_default();
        if places.len() < TOKEN_PLACES_MAX && places.iter().all(|place| place.witness != witness) {
            places.push(Place { witness, epoch, seq });
        }
    }

    fn of(&self, id: PurgeId) -> Vec<Place> {
        self.known.get(&id).cloned().unwrap_or_default()
    }
}

impl Realm {
    /// The token of a purge that this node took: whoever shows it to a node reads nothing older than the purge there.
    #[must_use]
    pub fn token(&self, id: PurgeId) -> Option<String> {
        let core = self.core.lock();
        let request = core.receipts.event(id)?.request();
        Some(encode_token(&Token { realm: self.name.clone(), request, places: core.places.of(id) }))
    }

    /// Waits a moment until this node has heard of the purges that a client named.
    pub async fn hear(&self, tokens: &[Token]) -> Heard {
        if self.has_heard(tokens) {
            return Heard::Before;
        }
        let Some(_reader) = Reader::admit(self) else { return Heard::NotYet };
        let until_ms = clock::monotonic_ms() + WAIT_MS;
        let mut seen = self.position();
        while clock::monotonic_ms() < until_ms {
            tokio::time::sleep(LOOK).await;
            // whatever is heard of moves the position; the lock is not taken for nothing
            let now = self.position();
            if now != seen && self.has_heard(tokens) {
                return Heard::Waited;
            }
            seen = now;
        }
        if self.has_heard(tokens) { Heard::Waited } else { Heard::NotYet }
    }

    fn has_heard(&self, tokens: &[Token]) -> bool {
        let core = self.core.lock();
        tokens.iter().all(|token| {
            let places = token.places.iter().map(|place| (usize::from(place.witness), place.epoch, place.seq));
            core.apply.heard(token.request, &places.collect::<Vec<_>>())
        })
    }
}

/// A request that waits.
struct Reader<'a>(&'a Realm);

impl<'a> Reader<'a> {
    fn admit(realm: &'a Realm) -> Option<Self> {
        // counted out again when it is dropped, also here
        let reader = Self(realm);
        (realm.readers.fetch_add(1, Relaxed) < READERS_MAX).then_some(reader)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_few_and_the_oldest_are_forgotten() {
        let mut places = Places::default();
        for number in 0..RECEIPTS_MAX as u128 + 10 {
            (0..5).for_each(|witness| places.note(PurgeId(number), witness, 1, 2));
        }
        assert_eq!(places.known.len(), RECEIPTS_MAX);
        assert_eq!((places.of(PurgeId(9)).len(), places.of(PurgeId(10)).len()), (0, TOKEN_PLACES_MAX));
    }
}
