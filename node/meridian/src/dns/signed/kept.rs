//! Signatures that were made, by what they are over: all that were made before anybody asked, and of the others as many as
//! there is room for, those that were asked for last.

use std::{collections::HashMap, mem, sync::Arc};

use parking_lot::{Mutex, RwLock};

/// Parts of the store, each with a lock of its own.
const SHARDS: usize = 16;
/// Signatures in one generation of a shard. Two generations of all shards, some 250 bytes each: at most 8 MiB.
const GENERATION: usize = 1024;

/// For how many days signatures are given out before they must be made anew. A resolver keeps an answer for a day at most,
/// so they still hold then.
const DAYS_GIVEN: u64 = 5;

/// Signatures over one set, by one key or several.
#[derive(Debug)]
pub(super) struct Signatures {
    /// The day on which they were made, since the Unix epoch.
    pub(super) day: u64,
    /// RRSIG's data, one for each key.
    pub(super) data: Vec<Vec<u8>>,
}

impl Signatures {
    /// Whether they are given out on a day without being made anew.
    pub(super) fn are_given(&self, day: u64) -> bool {
        (self.day..self.day + DAYS_GIVEN).contains(&day)
    }
}

/// Signatures by the hash of what they are over, which nothing pushes out. Whoever puts them knows how many there are.
#[derive(Debug, Default)]
pub(super) struct Published(RwLock<HashMap<[u8; 32], Arc<Signatures>>>);

impl Published {
    pub(super) fn get(&self, hash: &[u8; 32]) -> Option<Arc<Signatures>> {
        self.0.read().get(hash).map(Arc::clone)
    }

    pub(super) fn put(&self, hash: [u8; 32], signatures: Arc<Signatures>) {
        self.0.write().insert(hash, signatures);
    }
}

/// Signatures by the hash of what they are over.
#[derive(Debug, Default)]
pub(super) struct Kept([Mutex<Shard>; SHARDS]);

/// What was used lately, and what was used before: a full generation becomes the old one, whose place it takes.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<[u8; 32], Arc<Signatures>>,
    old: HashMap<[u8; 32], Arc<Signatures>>,
}

impl Kept {
    pub(super) fn get(&self, hash: &[u8; 32]) -> Option<Arc<Signatures>> {
        let mut shard = self.shard(hash).lock();
        if let Some(found) = shard.young.get(hash) {
            return Some(Arc::clone(found));
        }
        let found = shard.old.remove(hash)?;
        shard.put(*hash, Arc::clone(&found));
        Some(found)
    }

    pub(super) fn put(&self, hash: [u8; 32], signatures: Arc<Signatures>) {
        self.shard(&hash).lock().put(hash, signatures);
    }

    fn shard(&self, hash: &[u8; 32]) -> &Mutex<Shard> {
        &self.0[usize::from(hash[0]) % SHARDS]
    }
}

impl Shard {
    fn put(&mut self, hash: [u8; 32], signatures: Arc<Signatures>) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(hash, signatures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> [u8; 32] {
        *blake3::hash(&number.to_be_bytes()).as_bytes()
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_makes_room() {
        let kept = Kept::default();
        let signatures = Arc::new(Signatures { day: 1, data: Vec::new() });
        for number in 0..200_000 {
            kept.put(hash(number), Arc::clone(&signatures));
            assert!(kept.get(&hash(0)).is_some(), "{number}");
        }
        let held = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        let held: usize = kept.0.iter().map(held).sum();
        assert!(held <= 2 * SHARDS * GENERATION, "{held}");
        assert!(kept.get(&hash(1)).is_none());
    }
}
