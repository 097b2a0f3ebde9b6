#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

use bytes::Bytes;

use super::*;

const BODY: usize = 1024 - RECORD_BYTES - 64;

fn entry() -> Entry {
    Entry::Chunk(Bytes::from(vec![7; BODY]))
}

fn weight() -> usize {
    RECORD_BYTES + entry().memory_bytes()
}

/// Keys as they are: hashes.
fn key(tenant: Slot, number: u64) -> u128 {
    let mix = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    u128::from(mix(number + 1)) << 64 | u128::from(mix(number ^ u64::from(tenant) << 40))
}

/// Whether it was there; it is afterwards.
fn ask(memory: &Memory, tenant: Slot, number: u64) -> bool {
    let key = key(tenant, number);
    let there = memory.get(key).is_some();
    if !there {
        memory.insert(key, tenant, entry(), &mut Vec::new());
    }
    there
}

fn ask_all(memory: &Memory, tenant: Slot, numbers: std::ops::Range<u64>) {
    for number in numbers {
        ask(memory, tenant, number);
    }
}

struct Chance(u64);

impl Chance {
    /// Below `end`, smaller numbers more often (about Zipf with exponent 1).
    fn skewed(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
        ((end as f64).powf(unit) as u64).min(end) - 1
    }
}

fn bounds(floor_entries: usize, max_entries: usize) -> Bounds {
    Bounds { floor: floor_entries * weight(), max: max_entries.saturating_mul(weight()) }
}

#[test]
fn memory_keeps_to_its_size() {
    let memory = Memory::new(1000 * weight());
    for number in 0..5000 {
        ask(&memory, 0, number);
        assert!(memory.bytes() <= 1000 * weight());
    }
    assert_eq!(memory.entries(), 1000);
    assert_eq!(memory.bytes(), 1000 * weight());
    assert_eq!(memory.held(1)[0].evictions, 4000);
    for number in 0..5000 {
        memory.remove(key(0, number));
    }
    assert_eq!((memory.bytes(), memory.entries()), (0, 0));
}

#[test]
fn what_is_asked_for_outlives_a_scan() {
    let memory = Memory::new(1000 * weight());
    for _ in 0..3 {
        ask_all(&memory, 0, 0..500);
    }
    for number in 1000..20_000 {
        ask(&memory, 0, number);
    }
    let kept = (0..500).filter(|number| memory.contains(key(0, *number))).count();
    assert!(kept >= 495, "{kept}");
}

#[test]
fn a_replaced_entry_keeps_its_place_and_its_weight_is_counted_once() {
    let memory = Memory::new(100 * weight());
    for _ in 0..10 {
        memory.insert(1, 0, entry(), &mut Vec::new());
    }
    memory.insert(1, 0, Entry::Chunk(Bytes::new()), &mut Vec::new());
    assert_eq!(memory.entries(), 1);
    assert!(memory.bytes() < weight());
    assert!(matches!(memory.get(1), Some(Entry::Chunk(bytes)) if bytes.is_empty()));
}

#[test]
fn what_is_larger_than_memory_finds_no_place_and_costs_nobody() {
    let memory = Memory::new(100 * weight());
    ask_all(&memory, 0, 0..50);
    memory.insert(7, 1, Entry::Chunk(Bytes::from(vec![0; 200 * weight()])), &mut Vec::new());
    assert!(memory.get(7).is_none());
    assert_eq!(memory.entries(), 50);
    assert_eq!(memory.held(2)[1].refusals, 1);
}

#[test]
fn what_moves_to_the_main_queue_is_told_once() {
    let memory = Memory::new(100 * weight());
    let mut promoted = Vec::new();
    ask_all(&memory, 0, 0..100);
    ask_all(&memory, 0, 0..5);
    for number in 100..200 {
        memory.insert(key(0, number), 0, entry(), &mut promoted);
    }
    let keys: Vec<u128> = promoted.iter().map(|promoted| promoted.key).collect();
    assert_eq!(keys, (0..5).map(|number| key(0, number)).collect::<Vec<_>>());
    assert!(memory.hot(KeyHash.hash_one(key(0, 3))).is_some());
    assert!(memory.hot(KeyHash.hash_one(key(0, 199))).is_none(), "nobody asked for it");
}

/// Hit ratio of tenant 1 with a set of three times its floor, alone or while tenant 2 scans ten times the memory.
fn with_neighbour(scans: u64, floors: &[Bounds]) -> f64 {
    let memory = Memory::new(2000 * weight());
    memory.bound(floors);
    let mut chance = Chance(42);
    let (mut asked, mut hits, mut scanned) = (0_u32, 0_u32, 0);
    for round in 0..60_000 {
        let hit = ask(&memory, 1, chance.skewed(3000));
        if round > 10_000 {
            asked += 1;
            hits += u32::from(hit);
        }
        for _ in 0..scans {
            // goes round over ten times the memory, twice each, so that nothing tells it from objects that are liked
            ask(&memory, 2, scanned / 2 % 20_000);
            scanned += 1;
        }
    }
    f64::from(hits) / f64::from(asked) * 100.0
}

#[test]
fn a_neighbour_that_scans_costs_nothing_within_the_floor() {
    // alone with its floor and no more, which is what the floor promises
    let alone = with_neighbour(0, &[UNBOUNDED, bounds(1000, 1000), UNBOUNDED]);
    let beside = with_neighbour(5, &[UNBOUNDED, bounds(1000, usize::MAX), UNBOUNDED]);
    let without = with_neighbour(5, &[UNBOUNDED, UNBOUNDED, UNBOUNDED]);
    assert!(beside > alone - 2.0, "{alone:.1} alone, {beside:.1} beside a scan");
    assert!(without < alone, "{without:.1} without a floor: else this shows nothing");
}

#[test]
fn a_floor_that_is_not_used_is_lent() {
    let memory = Memory::new(1000 * weight());
    memory.bound(&[UNBOUNDED, bounds(800, usize::MAX), UNBOUNDED]);
    ask_all(&memory, 2, 0..1000);
    assert_eq!(memory.held(3)[2].bytes, 1000 * weight() as u64);
    ask_all(&memory, 1, 0..900);
    assert!(memory.held(3)[1].bytes >= 800 * weight() as u64, "and comes back when it is wanted");
}

#[test]
fn nobody_has_more_than_its_most() {
    let memory = Memory::new(1000 * weight());
    memory.bound(&[UNBOUNDED, bounds(0, 100)]);
    ask_all(&memory, 1, 0..5000);
    assert_eq!(memory.held(2)[1].bytes, 100 * weight() as u64);
    assert_eq!(memory.bytes(), 100 * weight());
}

#[test]
fn floors_that_fill_everything_leave_no_place_for_others() {
    let memory = Memory::new(100 * weight());
    memory.bound(&[UNBOUNDED, bounds(100, usize::MAX), UNBOUNDED]);
    ask_all(&memory, 1, 0..100);
    ask(&memory, 2, 1);
    assert_eq!(memory.held(3)[2], Held { bytes: 0, evictions: 0, refusals: 1 });
    assert_eq!(memory.entries(), 100);
}

/// Everything at random, and the sums must be right at every step.
#[test]
fn the_sums_are_right_after_anything() {
    let memory = Memory::new(300 * weight());
    memory.bound(&[UNBOUNDED, bounds(100, 150), bounds(50, usize::MAX)]);
    let mut chance = Chance(7);
    for _ in 0..50_000 {
        let (tenant, number) = (chance.skewed(4) as Slot, chance.skewed(900));
        match chance.skewed(8) {
            0..3 => assert!(ask(&memory, tenant, number) || memory.bytes() > 0),
            3..5 => drop(memory.get(key(tenant, number))),
            5 => memory.remove(key(tenant, number)),
            _ => {
                let body = Bytes::from(vec![0; number as usize * 3]);
                memory.insert(key(tenant, number), tenant, Entry::Chunk(body), &mut Vec::new());
            }
        }
    }
    let shard = memory.shards[0].read();
    let weights: usize = shard.nodes.iter().map(|(_, node)| node.weight).sum();
    let queued: usize = shard.queues.iter().map(Queues::bytes).sum();
    assert_eq!((shard.bytes, shard.bytes, shard.index.len()), (weights, queued, shard.nodes.len()));
    assert!(shard.bytes <= shard.capacity);
    for queues in &shard.queues {
        assert!(queues.ghost.known.len() <= queues.ghost.order.len());
        for list in [&queues.small, &queues.main] {
            let (mut at, mut bytes) = (list.first, 0);
            while let Some(node) = at.map(|at| &shard.nodes[at]) {
                bytes += node.weight;
                at = node.after;
            }
            assert_eq!(bytes, list.bytes);
        }
    }
}
