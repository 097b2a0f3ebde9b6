//! Going over what is in memory, a slice at a time.

use std::{hash::BuildHasher, sync::Arc};

use wire::entry::{Entry, Object};

use super::{KeyHash, Memory};

/// Places that are looked at under one lock: a few microseconds.
const PLACES: usize = 128;

/// Where somebody who goes over the memory stands.
#[derive(Debug, Default)]
pub(in crate::objects) struct Place {
    shard: usize,
    at: usize,
}

impl Memory {
    /// The objects of the next places, added to `found`; what comes meanwhile may be met or not. False if there are no
    /// more.
    pub(in crate::objects) fn next(&self, place: &mut Place, found: &mut Vec<(u128, Arc<Object>)>) -> bool {
        let Some(shard) = self.shards.get(place.shard) else { return false };
        let shard = shard.read();
        let (begin, end) = (place.at, shard.nodes.capacity());
        let next = end.min(begin + PLACES);
        for node in (begin..next).filter_map(|at| shard.nodes.get(at)) {
            if let Entry::Object(object) = &node.entry {
                found.push((node.key, Arc::clone(object)));
            }
        }
        *place =
            if next == end { Place { shard: place.shard + 1, at: 0 } } else { Place { shard: place.shard, at: next } };
        true
    }

    /// Removes an object, unless another one has its key by now. Returns what it took, in bytes.
    pub(in crate::objects) fn remove_object(&self, key: u128, object: &Arc<Object>) -> Option<usize> {
        let hash = KeyHash.hash_one(key);
        let mut shard = self.shard(hash)?.write();
        let at = shard.find(hash, key)?;
        let same = matches!(&shard.nodes.get(at)?.entry, Entry::Object(there) if Arc::ptr_eq(there, object));
        let removed = if same { shard.take(at) } else { None };
        drop(shard);
        removed.map(|node| node.weight)
    }
}
