//! Seeds, every time that anything is tested. More of them: `make sim SEEDS=100000`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use simulation::{
    run::{Mode, Plan, run, run_all},
    stage::{Carrier, Planted},
};

/// Seeds of an ordinary test.
const SEEDS: u64 = 1_000;
/// And of one over QUIC, which takes three times as long a seed.
const QUIC_SEEDS: u64 = 60;

fn over_quic(seed: u64) -> Plan {
    Plan { carrier: Carrier::Quic, ..Plan::of(seed) }
}

#[test]
fn a_thousand_seeds_break_no_promise() {
    assert!(packets(Plan::of, SEEDS) == 0);
}

#[test]
fn sixty_seeds_over_quic_break_no_promise() {
    let packets = packets(over_quic, QUIC_SEEDS);
    assert!(packets > 2_000 * QUIC_SEEDS, "{packets}");
}

/// How many packets so many seeds took, none of which may fail.
fn packets(plan: fn(u64) -> Plan, seeds: u64) -> u64 {
    let packets = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let (served, everywhere, kills) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    run_all((1..=seeds).map(plan), |plan, outcome| {
        packets.fetch_add(outcome.packets.came, Relaxed);
        served.fetch_add(outcome.tally.served, Relaxed);
        everywhere.fetch_add(outcome.tally.everywhere, Relaxed);
        kills.fetch_add(outcome.tally.kills, Relaxed);
        if let Some(breach) = outcome.breaches.first() {
            failed.lock().push(plan.in_words(&breach.what));
        }
        true
    });
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{} seeds failed\n{}", failed.len(), failed.join("\n"));
    // a run in which nothing happens shows nothing
    let each = [served, everywhere, kills].map(|total| total.into_inner() / seeds);
    assert!(each[0] >= 100 && each[1] >= 5 && each[2] >= 2, "{each:?}");
    packets.into_inner()
}

#[test]
fn a_seed_run_twice_gives_the_same_trace_to_the_byte() {
    let over_lines = [3, 6, 8, 13, 21, 34, 55, 89, 99].map(Plan::of);
    for plan in over_lines.into_iter().chain([1, 3, 6, 8, 13].map(over_quic)) {
        let [first, second] = [(); 2].map(|()| run(plan).trace.text());
        assert!(first.lines().count() > 200);
        if let Some((a, b)) = first.lines().zip(second.lines()).find(|(a, b)| a != b) {
            panic!("{plan:?}:\n{a}\n{b}");
        }
        assert_eq!(first, second, "{plan:?}");
    }
    assert_ne!(run(Plan::of(1)).trace.text(), run(Plan::of(2)).trace.text());
}

/// In which of the first thousand seeds a planted fault is found first.
fn found(planted: Planted) -> Option<u64> {
    found_of(planted, Plan::of)
}

fn found_of(planted: Planted, plan: fn(u64) -> Plan) -> Option<u64> {
    let first = Mutex::new(None);
    let plans = (1..=SEEDS).map(|seed| Plan { planted, mode: Mode::Safety, ..plan(seed) });
    run_all(plans, |plan, outcome| {
        if !outcome.breaches.is_empty() {
            let mut first = first.lock();
            *first = Some(first.map_or(plan.seed, |seed: u64| seed.min(plan.seed)));
        }
        outcome.breaches.is_empty()
    });
    first.into_inner()
}

#[test]
fn a_stamp_at_the_end_of_a_fetch_is_found() {
    assert!(found(Planted::StampAtEnd).is_some());
}

#[test]
fn an_acknowledgement_before_the_disk_is_found() {
    assert!(found(Planted::AckBeforeDisk).is_some());
}

#[test]
fn a_cache_without_a_lease_is_found() {
    assert!(found(Planted::NoLease).is_some());
}

#[test]
fn a_hop_without_translation_is_found() {
    assert!(found(Planted::NoTranslation).is_some());
}

#[test]
fn planted_faults_are_found_over_quic() {
    for planted in [Planted::StampAtEnd, Planted::NoLease, Planted::NoTranslation] {
        assert!(found_of(planted, over_quic).is_some(), "{planted:?}");
    }
}
