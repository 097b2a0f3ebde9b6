//! Entries in memory: S3-FIFO with a share for each tenant.
//!
//! One index for all, so that a look-up is one look, whoever's the entry is; but each tenant has queues of its own:
//!
//! ```text
//!             insert                       asked for again            the oldest; asked for: once more around
//!   new  ------------>  small  ------------------------->  main  ------------------------------------+
//!                         | not asked for                    ^                                        |
//!                         v                                  | comes again                            v
//!                       ghost (hashes only)  ----------------+                                      gone
//! ```
//!
//! When room is needed, only tenants above their floor can lose something: what a tenant holds within its floor, nobody
//! else can take. Among those above, it is taken first from whoever has most in its small queue (a scan pays for
//! itself), and where the small queues hold no more than their tenth, from the main queues, from each in proportion to
//! what it holds above its floor.
//!
//! A shard decides alone, with its part of every floor: keys are hashes, so that parts are alike. Everything is O(1) but
//! the choice of a tenant, which looks at every tenant with a share, at most [`SLOTS_MAX`](super::shares::SLOTS_MAX).

mod sweep;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    sync::atomic::{AtomicU8, Ordering},
};

use hashbrown::HashTable;
use parking_lot::RwLock;
use slab::Slab;
use wire::entry::Entry;

use super::code::KeyHash;
pub(super) use sweep::Place;

/// What an entry costs beside its value: its node, its places in the index and in the ghost queue, and what the
/// allocator adds.
const RECORD_BYTES: usize = 352;
/// Memory is cut into at most this many shards, each with a lock.
const SHARDS_MAX: usize = 64;
/// No shard is smaller than this, so that the largest entry is a small part of it.
const SHARD_BYTES_MIN: usize = 16 * 1024 * 1024;
/// One part in so many of the memory is for what was asked for only once.
const SMALL_DIVISOR: usize = 10;
/// What the ghost queue remembers, in times of what the tenant holds. With 1, a hot set beside which nine of ten requests
/// are for objects that never come again lost up to 5.1 points of hit ratio; with 2, up to 3.0, for 0.6 to 1.3 points where
/// it is alone; with 3, up to 1.3, for 1.1 to 2.0 (`benches/benches/eviction.rs`).
const GHOST_TIMES: usize = 2;
/// Requests beyond this many keep an entry no longer.
const HEAT_MAX: u8 = 3;

/// Which tenant's queues an entry stands in; see [`super::shares`].
pub(super) type Slot = u16;

/// How much of the memory a tenant surely has and may have at most, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) floor: usize,
    pub(super) max: usize,
}

/// Bounds of a tenant that nobody has said anything about.
pub(super) const UNBOUNDED: Bounds = Bounds { floor: 0, max: usize::MAX };

/// What a tenant holds in memory, and what it lost, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) bytes: u64,
    pub(super) evictions: u64,
    /// Entries that found no place: too large, or too much for the tenant.
    pub(super) refusals: u64,
}

/// An entry that was asked for again and moves to the main queue: one worth having on disk, too.
#[derive(Debug)]
pub(super) struct Promoted {
    pub(super) key: u128,
    pub(super) slot: Slot,
    pub(super) entry: Entry,
}

/// The memory tier.
#[derive(Debug)]
pub(super) struct Memory {
    shards: Box<[RwLock<Shard>]>,
    capacity: usize,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        let count = (bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let shards = (0..count).map(|_| RwLock::new(Shard::new(bytes / count))).collect();
        Self { shards, capacity: bytes }
    }

    pub(super) fn get(&self, key: u128) -> Option<Entry> {
        let hash = KeyHash.hash_one(key);
        let shard = self.shard(hash)?.read();
        let node = shard.nodes.get(shard.find(hash, key)?)?;
        // two at once may count as one, which is all the same
        let heat = node.heat.load(Ordering::Relaxed);
        if heat < HEAT_MAX {
            node.heat.store(heat + 1, Ordering::Relaxed);
        }
        Some(node.entry.clone())
    }

    /// The same without counting as asked for.
    pub(super) fn peek(&self, key: u128) -> Option<Entry> {
        let hash = KeyHash.hash_one(key);
        let shard = self.shard(hash)?.read();
        Some(shard.nodes.get(shard.find(hash, key)?)?.entry.clone())
    }

    pub(super) fn contains(&self, key: u128) -> bool {
        let hash = KeyHash.hash_one(key);
        self.shard(hash).is_some_and(|shard| shard.read().find(hash, key).is_some())
    }

    /// The entry with this hash, if it has been asked for since it came; asking here does not count.
    pub(super) fn hot(&self, hash: u64) -> Option<Promoted> {
        let shard = self.shard(hash)?.read();
        let at = *shard.index.find(hash, |at| shard.nodes.get(*at).is_some_and(|node| node.hash == hash))?;
        let node = shard.nodes.get(at)?;
        let hot = node.queue == Queue::Main || node.heat.load(Ordering::Relaxed) > 0;
        hot.then(|| Promoted { key: node.key, slot: node.slot, entry: node.entry.clone() })
    }

    /// Keeps an entry, in place of the one that has the key. What had to go to make room is dropped; what was promoted
    /// meanwhile is added to `promoted`.
    pub(super) fn insert(&self, key: u128, slot: Slot, entry: Entry, promoted: &mut Vec<Promoted>) {
        let hash = KeyHash.hash_one(key);
        let Some(shard) = self.shard(hash) else { return };
        let weight = RECORD_BYTES + entry.memory_bytes();
        let mut gone = Vec::new();
        let node = Node {
            key,
            hash,
            weight,
            slot,
            queue: Queue::Small,
            heat: AtomicU8::new(0),
            before: None,
            after: None,
            entry,
        };
        shard.write().insert(node, &mut gone, promoted);
        // large bodies are given back to the allocator outside the lock
        drop(gone);
    }

    pub(super) fn remove(&self, key: u128) {
        let hash = KeyHash.hash_one(key);
        let removed = self.shard(hash).and_then(|shard| shard.write().remove(hash, key));
        drop(removed);
    }

    /// Sets the bounds of all tenants, by slot; those without are unbounded. Takes effect as entries come.
    pub(super) fn bound(&self, bounds: &[Bounds]) {
        let count = self.shards.len();
        for shard in &self.shards {
            let mut shard = shard.write();
            for (slot, bounds) in bounds.iter().enumerate() {
                if let Some(queues) = shard.queues_of(slot) {
                    queues.bounds = Bounds { floor: bounds.floor / count, max: (bounds.max / count).max(1) };
                }
            }
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().bytes).sum()
    }

    pub(super) fn entries(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().nodes.len()).sum()
    }

    /// What each of the first `count` slots holds.
    pub(super) fn held(&self, count: usize) -> Vec<Held> {
        let mut all = vec![Held::default(); count];
        for shard in &self.shards {
            let shard = shard.read();
            for (held, queues) in all.iter_mut().zip(&shard.queues) {
                held.bytes += queues.bytes() as u64;
                held.evictions += queues.evictions;
                held.refusals += queues.refusals;
            }
        }
        all
    }

    fn shard(&self, hash: u64) -> Option<&RwLock<Shard>> {
        // the index of a shard uses the low bits and the topmost seven: these are between
        let at = (hash >> 32) as usize & 0xff_ffff;
        self.shards.get(at % self.shards.len())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
}

#[derive(Debug)]
struct Node {
    key: u128,
    hash: u64,
    weight: usize,
    slot: Slot,
    queue: Queue,
    heat: AtomicU8,
    before: Option<usize>,
    after: Option<usize>,
    entry: Entry,
}

#[derive(Debug)]
struct Shard {
    index: HashTable<usize>,
    nodes: Slab<Node>,
    /// By slot; as many as have been used or bounded.
    queues: Vec<Queues>,
    bytes: usize,
    capacity: usize,
    /// Goes around so that in the long run each tenant is met in proportion.
    hand: u64,
}

/// A tenant's part of a shard.
#[derive(Debug)]
struct Queues {
    small: List,
    main: List,
    ghost: Ghost,
    bounds: Bounds,
    evictions: u64,
    refusals: u64,
}

impl Queues {
    fn new() -> Self {
        Self {
            small: List::default(),
            main: List::default(),
            ghost: Ghost::default(),
            bounds: UNBOUNDED,
            evictions: 0,
            refusals: 0,
        }
    }

    fn bytes(&self) -> usize {
        self.small.bytes + self.main.bytes
    }

    fn list(&mut self, queue: Queue) -> &mut List {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }
}

/// Nodes in a row, oldest first.
#[derive(Debug, Default)]
struct List {
    first: Option<usize>,
    last: Option<usize>,
    bytes: usize,
}

impl List {
    fn push(&mut self, nodes: &mut Slab<Node>, at: usize) {
        if let Some(last) = self.last.and_then(|last| nodes.get_mut(last)) {
            last.after = Some(at);
        }
        if let Some(node) = nodes.get_mut(at) {
            node.before = self.last;
            node.after = None;
            self.bytes += node.weight;
        }
        self.last = Some(at);
        self.first = self.first.or(Some(at));
    }

    fn unlink(&mut self, nodes: &mut Slab<Node>, at: usize) {
        let Some(node) = nodes.get(at) else { return };
        let (before, after) = (node.before, node.after);
        self.bytes -= node.weight;
        match before.and_then(|before| nodes.get_mut(before)) {
            Some(before) => before.after = after,
            None => self.first = after,
        }
        match after.and_then(|after| nodes.get_mut(after)) {
            Some(after) => after.before = before,
            None => self.last = before,
        }
    }
}

/// Whom a shard takes from.
#[derive(Debug, Clone, Copy)]
enum Victims {
    /// Everybody above its floor, where so much is about to come for a slot.
    AboveFloor(usize, usize),
    /// One tenant, which is at its own most.
    Only(usize),
}

impl Shard {
    fn new(capacity: usize) -> Self {
        Self { index: HashTable::new(), nodes: Slab::new(), queues: Vec::new(), bytes: 0, capacity, hand: 0 }
    }

    fn find(&self, hash: u64, key: u128) -> Option<usize> {
        self.index.find(hash, |at| self.nodes.get(*at).is_some_and(|node| node.key == key)).copied()
    }

    fn queues_of(&mut self, slot: usize) -> Option<&mut Queues> {
        if self.queues.len() <= slot {
            self.queues.resize_with(slot + 1, Queues::new);
        }
        self.queues.get_mut(slot)
    }

    fn insert(&mut self, mut node: Node, gone: &mut Vec<Node>, promoted: &mut Vec<Promoted>) {
        let (hash, slot) = (node.hash, usize::from(node.slot));
        if let Some(old) = self.remove(hash, node.key) {
            // another answer for the same key is as much asked for as the one before
            node.queue = old.queue;
            node.heat = AtomicU8::new(old.heat.load(Ordering::Relaxed));
            gone.push(old);
        }
        if !self.make_room(slot, node.weight, gone, promoted) {
            if let Some(queues) = self.queues_of(slot) {
                queues.refusals += 1;
            }
            gone.push(node);
            return;
        }
        let Some(queues) = self.queues_of(slot) else { return };
        if queues.ghost.take(hash) {
            node.queue = Queue::Main;
        }
        let (queue, weight) = (node.queue, node.weight);
        let at = self.nodes.insert(node);
        if let Some(queues) = self.queues.get_mut(slot) {
            queues.list(queue).push(&mut self.nodes, at);
        }
        self.bytes += weight;
        let nodes = &self.nodes;
        self.index.insert_unique(hash, at, |at| nodes.get(*at).map_or(0, |node| node.hash));
    }

    fn remove(&mut self, hash: u64, key: u128) -> Option<Node> {
        let at = self.find(hash, key)?;
        self.take(at)
    }

    /// Takes a node out of everything.
    fn take(&mut self, at: usize) -> Option<Node> {
        if let Some(node) = self.nodes.get(at) {
            let (slot, queue, hash) = (usize::from(node.slot), node.queue, node.hash);
            self.bytes -= node.weight;
            if let Some(queues) = self.queues.get_mut(slot) {
                queues.list(queue).unlink(&mut self.nodes, at);
            }
            if let Ok(found) = self.index.find_entry(hash, |other| *other == at) {
                found.remove();
            }
        }
        self.nodes.try_remove(at)
    }

    /// Whether there is room for so much of this slot now.
    fn make_room(&mut self, slot: usize, weight: usize, gone: &mut Vec<Node>, promoted: &mut Vec<Promoted>) -> bool {
        let Some(queues) = self.queues_of(slot) else { return false };
        let max = queues.bounds.max.min(self.capacity);
        if weight > max {
            return false;
        }
        while self.queues.get(slot).is_some_and(|queues| queues.bytes() + weight > max) {
            if !self.evict(Victims::Only(slot), gone, promoted) {
                return false;
            }
        }
        while self.bytes + weight > self.capacity {
            if !self.evict(Victims::AboveFloor(slot, weight), gone, promoted) {
                return false;
            }
        }
        true
    }

    /// Lets one entry go, or moves some to the main queue. False when there is nothing that may go.
    fn evict(&mut self, victims: Victims, gone: &mut Vec<Node>, promoted: &mut Vec<Promoted>) -> bool {
        let Some((slot, queue)) = self.choose(victims) else { return false };
        match queue {
            Queue::Small => self.evict_small(slot, gone, promoted),
            Queue::Main => self.evict_main(slot, gone),
        }
        true
    }

    /// Whose entry has to go, and from which queue.
    fn choose(&mut self, victims: Victims) -> Option<(usize, Queue)> {
        let (mut all, mut small, mut main) = (0, 0, 0);
        let mut fattest: Option<(usize, usize)> = None;
        for (slot, queues) in self.queues.iter().enumerate() {
            let above = above(slot, queues, victims);
            if above == 0 {
                continue;
            }
            all += queues.bytes();
            small += queues.small.bytes;
            main += above.min(queues.main.bytes);
            let fat = above.min(queues.small.bytes);
            if fat > fattest.map_or(0, |(_, most)| most) {
                fattest = Some((slot, fat));
            }
        }
        match fattest {
            Some((slot, _)) if small > all / SMALL_DIVISOR || main == 0 => Some((slot, Queue::Small)),
            _ if main == 0 => None,
            _ => self.next_by_share(main, victims).map(|slot| (slot, Queue::Main)),
        }
    }

    /// The tenant that the hand points at, on a circle where each has as much as its main queue holds above its floor.
    fn next_by_share(&mut self, main: usize, victims: Victims) -> Option<usize> {
        // steps of the golden ratio meet every part of the circle as often as its length asks for
        self.hand = self.hand.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let point = (u128::from(self.hand) * main as u128) >> 64;
        let mut end = 0;
        let mut last = None;
        for (slot, queues) in self.queues.iter().enumerate() {
            let part = above(slot, queues, victims).min(queues.main.bytes);
            if part == 0 {
                continue;
            }
            end += part as u128;
            last = Some(slot);
            if point < end {
                break;
            }
        }
        last
    }

    fn evict_small(&mut self, slot: usize, gone: &mut Vec<Node>, promoted: &mut Vec<Promoted>) {
        while let Some(at) = self.queues.get(slot).and_then(|queues| queues.small.first) {
            let hot = self.nodes.get(at).is_some_and(|node| node.heat.load(Ordering::Relaxed) > 0);
            if !hot {
                let Some(node) = self.take(at) else { return };
                if let Some(queues) = self.queues.get_mut(slot) {
                    queues.evictions += 1;
                    let bytes_max = queues.bytes().max(queues.bounds.floor.min(self.capacity));
                    queues.ghost.push(node.hash, node.weight, bytes_max.saturating_mul(GHOST_TIMES));
                }
                gone.push(node);
                return;
            }
            if let Some(queues) = self.queues.get_mut(slot) {
                queues.small.unlink(&mut self.nodes, at);
                queues.main.push(&mut self.nodes, at);
            }
            if let Some(node) = self.nodes.get_mut(at) {
                node.queue = Queue::Main;
                promoted.push(Promoted { key: node.key, slot: node.slot, entry: node.entry.clone() });
            }
        }
    }

    fn evict_main(&mut self, slot: usize, gone: &mut Vec<Node>) {
        while let Some(at) = self.queues.get(slot).and_then(|queues| queues.main.first) {
            let heat = self.nodes.get(at).map_or(0, |node| node.heat.load(Ordering::Relaxed));
            if heat == 0 {
                gone.extend(self.take(at));
                if let Some(queues) = self.queues.get_mut(slot) {
                    queues.evictions += 1;
                }
                return;
            }
            if let Some(node) = self.nodes.get_mut(at) {
                node.heat = AtomicU8::new(heat - 1);
            }
            if let Some(queues) = self.queues.get_mut(slot) {
                queues.main.unlink(&mut self.nodes, at);
                queues.main.push(&mut self.nodes, at);
            }
        }
    }
}

/// What of a tenant's bytes may be taken.
fn above(slot: usize, queues: &Queues, victims: Victims) -> usize {
    match victims {
        Victims::Only(only) => {
            if slot == only {
                queues.bytes()
            } else {
                0
            }
        }
        Victims::AboveFloor(coming, weight) => {
            let wanted = queues.bytes() + if slot == coming { weight } else { 0 };
            wanted.saturating_sub(queues.bounds.floor).min(queues.bytes())
        }
    }
}

/// Hashes of what the small queue let go lately: who comes again while it is remembered is no passer-by.
#[derive(Debug, Default)]
struct Ghost {
    known: HashSet<u64, BuildHasherDefault<Same>>,
    order: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Ghost {
    fn push(&mut self, hash: u64, weight: usize, bytes_max: usize) {
        while self.bytes + weight > bytes_max
            && let Some((oldest, weight)) = self.order.pop_front()
        {
            self.bytes -= weight;
            self.known.remove(&oldest);
        }
        self.known.insert(hash);
        self.order.push_back((hash, weight));
        self.bytes += weight;
    }

    fn take(&mut self, hash: u64) -> bool {
        // its place in the order stays until its turn comes: a limit on what is remembered, not on how long
        self.known.remove(&hash)
    }
}

/// Hashes are hashes already.
#[derive(Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
