#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use std::sync::atomic::AtomicU64;

use super::*;
use crate::purge::{Mode, PurgeKey, Standing, Witness};

fn site() -> SiteId {
    SiteId::parse("shop").unwrap()
}

fn node(index: usize) -> NodeId {
    NodeId::parse(["a", "b", "c", "d"][index]).unwrap()
}

fn event(tag: &str, idempotency: &str) -> Arc<Event> {
    let keys = vec![PurgeKey::Tag(tag.to_owned())];
    Arc::new(Event::new(Some(site()), Mode::Hard, keys, idempotency.to_owned()).unwrap())
}

fn terms(boot: u32) -> Terms {
    Terms {
        secret: RealmSecret([1; 16]),
        boot,
        run: u64::from(boot),
        witnesses: vec![node(0), node(1), node(2)],
        own: None,
        limits: Limits { known: 100, marks: 1000, ring: 50 },
    }
}

/// A node with a past, in which nothing happened yet: it has read three empty logs.
fn apply() -> Apply {
    let mut apply = Apply::new(terms(1), Saved::default(), None);
    apply.open_gate();
    for witness in 0..3 {
        apply.set_cursor(witness, start(witness));
    }
    apply.ring.jump(apply.position.next(), vec![Some((10, 0)), Some((11, 0)), Some((12, 0))]);
    apply
}

fn start(witness: usize) -> Cursor {
    let log = Witness::without_past(10 + witness as u64, 0, 1, 1000);
    log.appended()
}

/// A witness's log with these events on disk.
fn log(witness: usize, events: &[&Arc<Event>]) -> Witness {
    let mut log = Witness::without_past(10 + witness as u64, 0, 1, 1000);
    for event in events {
        log.handle_event(event);
    }
    log.handle_durable(events.len() as u64);
    log
}

fn tail(apply: &mut Apply, witness: usize, log: &Witness) {
    let start = apply.handle_head(witness, log.head(), false, 0).unwrap();
    if let super::super::Tail::Records(records) = log.tail(log.head().epoch, start.cursor.seq, 1000) {
        for record in records {
            assert!(matches!(apply.handle_record(witness, log.head().epoch, &record, 0), Heard::Consumed { .. }));
        }
    }
}

fn standing(apply: &mut Apply, tag: &str, stamp: Position) -> Standing {
    let guard = apply.guard(&site());
    let keys = guard.keys("h", "/", None, Some(&[tag]));
    guard.standing(stamp, &AtomicU64::new(0), &keys)
}

#[test]
fn an_event_is_applied_once_however_it_comes() {
    let mut apply = apply();
    let e = event("t", "1");
    assert!(apply.handle_event(&e, Source::Direct, 0));
    let position = apply.position();
    assert!(!apply.handle_event(&e, Source::Direct, 0));
    for witness in 0..3 {
        tail(&mut apply, witness, &log(witness, &[&e]));
    }
    assert_eq!(apply.position(), position);
    assert_eq!(apply.published().load(std::sync::atomic::Ordering::Acquire), position.0);
}

#[test]
fn an_object_whose_fill_began_before_a_purge_is_stale_and_one_after_it_is_not() {
    let mut apply = apply();
    let before = apply.position();
    apply.handle_event(&event("t", "1"), Source::Direct, 0);
    assert_eq!(standing(&mut apply, "t", before), Standing::Stale);
    let after = apply.position();
    assert_eq!(standing(&mut apply, "t", after), Standing::Valid);
    assert_eq!(standing(&mut apply, "u", before), Standing::Valid);
}

#[test]
fn an_answer_by_a_peer_that_has_not_heard_of_a_purge_is_older_than_it() {
    let (mut edge, mut shield) = (apply(), apply());
    let e = event("t", "1");
    let (before, have_without) = (edge.position(), shield.have(&site(), 0));
    edge.handle_event(&e, Source::Direct, 0);
    let at_start = edge.position();
    assert_eq!(edge.covered(&node(1), &site(), &have_without, at_start), before);
    shield.handle_event(&e, Source::Direct, 0);
    let have = shield.have(&site(), 1);
    assert_eq!(edge.covered(&node(1), &site(), &have, at_start), at_start, "by its id");
    let late = shield.have(&site(), HAVE_IDS_MS + 1);
    assert_eq!(edge.covered(&node(2), &site(), &late, at_start), before, "ids are named for a while only");
    tail(&mut edge, 2, &log(2, &[&e]));
    assert_eq!(edge.covered(&node(2), &site(), &late, at_start), before, "the shield has not read that log");
    tail(&mut shield, 2, &log(2, &[&e]));
    let late = shield.have(&site(), HAVE_IDS_MS + 1);
    assert_eq!(edge.covered(&node(2), &site(), &late, at_start), at_start, "by a witness's log");
}

/// What the last translation remembered must not speak for an answer that left its sender earlier and came later:
/// it was judged against what the sender had heard later.
#[test]
fn an_answer_overtaken_by_a_later_one_is_judged_by_its_own_have() {
    let (mut edge, mut shield) = (apply(), apply());
    let e = event("t", "1");
    let before = edge.position();
    edge.handle_event(&e, Source::Direct, 0);
    let at_start = edge.position();
    let early = shield.have(&site(), 0);
    shield.handle_event(&e, Source::Direct, 0);
    let late = shield.have(&site(), 0);
    assert_eq!(edge.covered(&node(1), &site(), &late, at_start), at_start);
    assert_eq!(edge.covered(&node(1), &site(), &early, at_start), before);
    assert_eq!(edge.covered(&node(1), &site(), &late, at_start), at_start);
}

#[test]
fn a_peer_that_restarted_has_to_show_again_what_it_has_heard() {
    let (mut edge, mut shield) = (apply(), apply());
    let e = event("t", "1");
    let before = edge.position();
    edge.handle_event(&e, Source::Direct, 0);
    shield.handle_event(&e, Source::Direct, 0);
    let at_start = edge.position();
    assert_eq!(edge.covered(&node(1), &site(), &shield.have(&site(), 0), at_start), at_start);
    let forgot = Have { run: 99, ids: vec![], ..shield.have(&site(), 0) };
    assert_eq!(edge.covered(&node(1), &site(), &forgot, at_start), before);
}

#[test]
fn purges_of_other_sites_do_not_matter() {
    let mut edge = apply();
    let have = apply().have(&site(), 0);
    let other =
        Event::new(Some(SiteId::parse("other").unwrap()), Mode::Hard, vec![PurgeKey::Site], "1".into()).unwrap();
    edge.handle_event(&Arc::new(other), Source::Direct, 0);
    let at_start = edge.position();
    assert_eq!(edge.covered(&node(1), &site(), &have, at_start), at_start);
}

#[test]
fn a_jump_raises_the_floor_and_counts_as_an_entry() {
    let (mut edge, mut shield) = (apply(), apply());
    let (mut full, e) = (log(0, &[]), event("t", "1"));
    full.handle_event(&e);
    full.handle_durable(1);
    full.handle_compact(1, full.head().chain);
    let before = edge.position();
    let start = edge.handle_head(0, full.head(), false, 0).unwrap();
    assert_eq!(start.cursor.seq, 1);
    assert_eq!(standing(&mut edge, "anything", before), Standing::Stale);
    let at_start = edge.position();
    assert_eq!(standing(&mut edge, "anything", at_start), Standing::Valid);
    assert_eq!(edge.covered(&node(1), &site(), &shield.have(&site(), 0), at_start), Position::ZERO);
    shield.handle_head(0, full.head(), false, 0);
    assert_eq!(edge.covered(&node(1), &site(), &shield.have(&site(), 0), at_start), at_start);
}

#[test]
fn what_runs_out_of_the_ring_is_covered_only_by_who_has_read_the_logs() {
    let (mut edge, mut shield) = (apply(), apply());
    let events: Vec<_> = (0..60).map(|i| event("t", &i.to_string())).collect();
    let mut full = log(0, &[]);
    for event in &events {
        edge.handle_event(event, Source::Direct, 0);
        full.handle_event(event);
        full.handle_durable(full.head().seq + 1);
        tail(&mut edge, 0, &full);
    }
    let at_start = edge.position();
    assert_eq!(edge.covered(&node(1), &site(), &shield.have(&site(), 0), at_start), Position::ZERO);
    tail(&mut shield, 0, &full);
    assert_eq!(edge.covered(&node(1), &site(), &shield.have(&site(), HAVE_IDS_MS * 2), at_start), at_start);
}

#[test]
fn a_restart_goes_on_above_every_earlier_position_and_waits_for_the_logs() {
    let mut first = apply();
    first.handle_event(&event("t", "1"), Source::Direct, 0);
    let last = first.position();
    let mut second = Apply::new(terms(2), Saved::default(), None);
    assert!(second.position() > last);
    assert_eq!(standing(&mut second, "u", last), Standing::Stale, "nobody knows what was purged meanwhile");
    second.open_gate();
    assert_eq!(standing(&mut second, "u", last), Standing::Valid);
}

#[test]
fn an_event_that_was_in_no_log_before_a_restart_is_translated_after_it() {
    let e = event("t", "1");
    let saved = Saved { unseen: vec![Arc::clone(&e)], ..Saved::default() };
    let mut edge = Apply::new(terms(2), saved, None);
    let at_start = edge.position();
    assert!(edge.covered(&node(1), &site(), &apply().have(&site(), 0), at_start) < at_start);
    assert!(!edge.handle_event(&e, Source::Direct, 0), "and it is known");
}

#[test]
fn a_node_without_a_past_trusts_nothing_that_was_stored() {
    let mut fresh = Apply::new(terms(5), Saved::default(), None);
    let found = fresh.position();
    fresh.handle_no_past();
    fresh.open_gate();
    assert_eq!(standing(&mut fresh, "t", found), Standing::Stale);
    assert_eq!(standing(&mut fresh, "t", Position(7)), Standing::Stale);
}

#[test]
fn a_record_out_of_line_is_not_consumed() {
    let mut edge = apply();
    let events = [event("t", "1"), event("t", "2")];
    let full = log(0, &[&events[0], &events[1]]);
    let super::super::Tail::Records(records) = full.tail(10, 0, 10) else { panic!() };
    assert_eq!(edge.handle_record(0, 10, &records[1], 0), Heard::Broken, "a hole");
    assert_eq!(edge.handle_record(0, 11, &records[0], 0), Heard::Broken, "another life of the log");
    let forged = Record { event: event("t", "3"), ..(*records[0]).clone() };
    assert_eq!(edge.handle_record(0, 10, &forged, 0), Heard::Broken, "not what the chain says");
    assert_eq!(edge.handle_record(0, 10, &records[0], 0), Heard::Consumed { new: true });
}

#[test]
fn a_witness_is_heard_only_when_its_log_is_read_up_to_its_head() {
    let mut edge = apply();
    let e = event("t", "1");
    let full = log(0, &[&e]);
    assert_eq!(edge.confirmed(0), None);
    edge.handle_head(0, full.head(), false, 0);
    assert_eq!(edge.confirmed(0), None, "the head alone is nothing");
    tail(&mut edge, 0, &full);
    assert_eq!(edge.confirmed(0), Some(true));
}

#[test]
fn a_conflict_is_seen_and_loses_nothing() {
    let mut edge = apply();
    let (a, b) = (event("t", "1"), event("u", "1"));
    let before = edge.position();
    edge.handle_event(&a, Source::Direct, 0);
    assert_eq!(edge.request(&b), Some(a.id()));
    assert!(edge.handle_event(&b, Source::Direct, 0));
    for tag in ["t", "u"] {
        assert_eq!(standing(&mut edge, tag, before), Standing::Stale);
    }
}

#[test]
fn memory_is_bounded_and_forgetting_purges_too_much() {
    let mut edge = apply();
    for i in 0..3000 {
        edge.handle_event(&event(&format!("t{i}"), &i.to_string()), Source::Direct, 0);
    }
    assert!(edge.guard(&site()).marks() <= 1000);
    assert!(edge.known.ids.len() <= 100 && edge.known.order.len() <= 100);
    assert_eq!(standing(&mut edge, "t5", Position::first(1)), Standing::Stale);
    let delta = edge.poll_delta();
    assert!(delta.floors[&site()].hard > Position::first(1));
    assert!(delta.forget.is_some());
}

#[test]
fn a_witness_with_a_new_life_is_read_from_its_beginning_without_a_jump() {
    let mut edge = apply();
    let e = event("t", "1");
    let before = edge.position();
    let mut renewed = Witness::without_past(77, 0, 1, 1000);
    renewed.handle_event(&e);
    renewed.handle_durable(1);
    let start = edge.handle_head(0, renewed.head(), false, 0).unwrap();
    assert_eq!((start.cursor.epoch, start.cursor.seq), (77, 0));
    assert_eq!(standing(&mut edge, "u", before), Standing::Valid);
    let silent = LogHead { voting: false, epoch: 78, ..renewed.head() };
    assert_eq!(edge.handle_head(1, silent, false, 0), None, "one that may not vote is not read");
}

#[test]
fn a_place_in_an_earlier_life_of_a_log_covers_nothing_in_the_next() {
    let (mut edge, mut shield) = (apply(), apply());
    let (e, other) = (event("t", "1"), event("u", "2"));
    tail(&mut edge, 0, &log(0, &[&e]));
    let at_start = edge.position();
    let mut renewed = Witness::without_past(77, 0, 1, 1000);
    renewed.handle_event(&other);
    renewed.handle_durable(1);
    edge.handle_head(0, renewed.head(), false, 0);
    tail(&mut shield, 0, &renewed);
    let have = shield.have(&site(), HAVE_IDS_MS + 1);
    assert!(edge.covered(&node(1), &site(), &have, at_start) < at_start, "the first record is another one now");
}

#[test]
fn what_runs_out_of_the_ring_and_is_in_no_log_is_covered_by_nobody() {
    let (mut edge, mut shield) = (apply(), apply());
    for number in 0..60 {
        let event = event("t", &number.to_string());
        edge.handle_event(&event, Source::Direct, 0);
        // all that is still in the edge's ring
        if number >= 10 {
            shield.handle_event(&event, Source::Direct, 0);
        }
    }
    let at_start = edge.position();
    assert_eq!(edge.covered(&node(1), &site(), &shield.have(&site(), 0), at_start), Position::ZERO);
}

#[test]
fn a_purge_of_the_realm_falls_on_every_site_also_on_those_not_met_yet() {
    for mode in [Mode::Soft, Mode::Hard] {
        let mut apply = apply();
        apply.open_gate();
        let before = apply.position();
        let met = apply.guard(&site());
        let all = Arc::new(Event::new(None, mode, vec![PurgeKey::Realm], "all".into()).unwrap());
        assert!(apply.handle_event(&all, Source::Direct, 0));
        let later = apply.guard(&SiteId::parse("later").unwrap());
        let expected = if mode == Mode::Hard { Standing::Stale } else { Standing::Soft };
        for guard in [met, later] {
            let keys = guard.keys("h", "/", None, Some(&[]));
            assert_eq!(guard.standing(before, &AtomicU64::new(0), &keys), expected);
            assert_eq!(guard.standing(apply.position(), &AtomicU64::new(0), &keys), Standing::Valid);
        }
        let delta = apply.poll_delta();
        let floors = if mode == Mode::Hard { delta.floor } else { delta.floor_soft };
        assert_eq!(floors, Some(apply.position()));
        // it concerns every site, in translation too
        assert_eq!(apply.have(&SiteId::parse("other").unwrap(), 0).ids, [all.id()]);
        let ignorant = Have { run: 9, ..Have::default() };
        let peer = NodeId::parse("p1").unwrap();
        assert!(apply.covered(&peer, &site(), &ignorant, apply.position()) < apply.position());
    }
}
