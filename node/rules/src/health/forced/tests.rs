#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;

use super::*;
use crate::health::{NodeView, RegionView};

fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

fn region(index: usize) -> Target {
    Target::Region(RegionId::parse(&format!("r{index}")).unwrap())
}

fn member(region: usize, index: usize) -> Target {
    Target::Node(node(&format!("r{region}-{index}")))
}

/// Three regions with two nodes each, all of one state.
fn fleet(state: RegionState, nodes: NodeState) -> Fleet {
    let view = |region: usize| RegionView {
        name: RegionId::parse(&format!("r{region}")).unwrap(),
        state,
        since_unix_ms: 0,
        pending: true,
        recent: false,
        part_percent: 100,
        nodes: (0..2)
            .map(|index| NodeView { name: node(&format!("r{region}-{index}")), state: nodes, rtt_us: None })
            .collect(),
        votes: Vec::new(),
    };
    Fleet { epoch: 7, minority: false, regions: (0..3).map(view).collect() }
}

fn forcing(orders: &[(Target, Option<Force>)]) -> Book {
    let mut book = Book::default();
    for (at, (target, force)) in orders.iter().enumerate() {
        book.order(target.clone(), *force, ("ops", "a test"), &node("n"), at as u64 + 100).unwrap();
    }
    book
}

fn applied(orders: &[(Target, Option<Force>)], mut to: Fleet) -> Fleet {
    forcing(orders).apply(&mut to);
    to
}

#[test]
fn a_forced_state_stands_above_what_is_observed_until_it_is_taken_back() {
    let up = fleet(RegionState::Up, NodeState::Up);
    let down = applied(&[(region(1), Some(Force::Down))], up.clone());
    assert_eq!(down.regions[1].state, RegionState::Down);
    assert_eq!((down.regions[1].since_unix_ms, down.regions[1].pending, down.epoch), (100, false, 8));
    assert_eq!(down.regions[0], up.regions[0]);

    let raised = applied(&[(region(1), Some(Force::Up))], fleet(RegionState::Down, NodeState::Down));
    assert_eq!(raised.regions[1].state, RegionState::Up);

    let back = applied(&[(region(1), Some(Force::Down)), (region(1), None)], up.clone());
    assert_eq!(back.regions, up.regions);
    assert_eq!(back.epoch, 9, "what changes is told, also that it is as before");
}

#[test]
fn a_region_whose_nodes_are_all_forced_out_is_out() {
    let with = |orders: &[(Target, Option<Force>)]| applied(orders, fleet(RegionState::Up, NodeState::Up)).regions;
    let one = with(&[(member(0, 0), Some(Force::Down))]);
    assert_eq!(
        (one[0].state, one[0].nodes[0].state, one[0].nodes[1].state),
        (RegionState::Up, NodeState::Down, NodeState::Up)
    );
    let both = with(&[(member(0, 0), Some(Force::Down)), (member(0, 1), Some(Force::Down))]);
    assert_eq!(both[0].state, RegionState::Down);
    let mixed = with(&[(member(0, 0), Some(Force::Down)), (member(0, 1), Some(Force::Drain))]);
    assert_eq!(mixed[0].state, RegionState::Draining);
    assert_eq!(mixed[0].nodes[1].state, NodeState::Draining);
    let kept =
        with(&[(member(0, 0), Some(Force::Down)), (member(0, 1), Some(Force::Down)), (region(0), Some(Force::Up))]);
    assert_eq!(kept[0].state, RegionState::Up);
}

#[test]
fn a_node_that_was_away_cannot_bring_back_what_was_taken_back() {
    let mut here = forcing(&[(region(0), Some(Force::Down))]);
    let away = here.clone();
    // this node's clock stands still, or was set back: the later order is the later one all the same
    here.order(region(0), None, ("ops", "mended"), &node("n"), 3).unwrap();
    for (target, forced) in away.entries() {
        assert_eq!(here.merge(target.clone(), forced.clone(), 1), Ok(false));
    }
    assert_eq!(here.in_force().count(), 0);
    assert_ne!(here.digest(), away.digest());
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut book = Book::default();
    let mut order = |force, who: &str, why: &str| book.order(region(0), force, (who, why), &node("n"), 1).unwrap_err();
    assert_eq!(order(Some(Force::Up), "ops", " "), ForceFault::Why);
    assert_eq!(order(Some(Force::Up), "ops", "a\u{1b}[2J"), ForceFault::Why);
    assert_eq!(order(Some(Force::Up), "ops", &"x".repeat(WHY_CHARS_MAX + 1)), ForceFault::Why);
    assert_eq!(order(Some(Force::Up), "", "a"), ForceFault::Who);
    assert_eq!(order(Some(Force::Up), &"x".repeat(WHO_CHARS_MAX + 1), "a"), ForceFault::Who);
    assert_eq!(order(None, "ops", "a"), ForceFault::NotForced);
    let late = book.order(region(0), Some(Force::Up), ("ops", "a"), &node("n"), u64::MAX);
    assert_eq!(late, Err(ForceFault::Late));
    assert_eq!((book.digest(), book.changes()), (0, 0));
}

#[test]
fn a_book_has_a_limit_and_what_is_in_it_can_still_be_changed() {
    let mut book = Book::default();
    for at in 0..ENTRIES_MAX {
        let target = Target::Node(node(&format!("n{at}")));
        book.order(target, Some(Force::Down), ("ops", "a"), &node("n"), 1).unwrap();
    }
    assert_eq!(book.order(region(0), Some(Force::Up), ("ops", "a"), &node("n"), 1), Err(ForceFault::Full));
    book.order(Target::Node(node("n0")), None, ("ops", "a"), &node("n"), 1).unwrap();
    // what was taken back makes room for what is in force
    book.order(region(0), Some(Force::Up), ("ops", "a"), &node("n"), 1).unwrap();
    assert_eq!(book.entries().count(), ENTRIES_MAX);
    assert_eq!(book.order(region(1), Some(Force::Up), ("ops", "a"), &node("n"), 1), Err(ForceFault::Full));
}

#[test]
fn full_books_agree_on_what_was_taken_back_first() {
    let told = |at: u64| {
        let released = Forced {
            force: None,
            who: "ops".into(),
            why: "gone".into(),
            node: node("n"),
            unix_ms: 1,
            version: at % 300 + 1,
        };
        (Target::Node(node(&format!("n{at}"))), released)
    };
    let all = ENTRIES_MAX as u64 + 100;
    let (mut up, mut down) = (Book::default(), Book::default());
    for at in 0..all {
        for (book, at) in [(&mut up, at), (&mut down, all - 1 - at)] {
            let (target, forced) = told(at);
            book.merge(target, forced, 1).unwrap();
        }
    }
    assert_eq!((up.entries().count(), up.digest()), (ENTRIES_MAX, down.digest()));
    // the one that was taken back first is not taken again, however often it is told
    let (target, forced) = told(0);
    assert_eq!(up.merge(target, forced, 1), Ok(false));
}

fn entry() -> impl Strategy<Value = (Target, Forced)> {
    let force = proptest::option::of(proptest::sample::select(Force::ALL.to_vec()));
    (0usize..3, force, 0u64..4, 0u64..3, "[ab]", "[ab]").prop_map(|(at, force, version, unix_ms, why, from)| {
        let forced = Forced { force, who: "ops".into(), why, node: node(&from), unix_ms, version };
        (region(at), forced)
    })
}

/// An entry with the highest version there is could never be exceeded, and one from the end of time was shown as it came.
#[test]
fn what_is_later_than_any_clock_is_refused_and_an_unset_clock_refuses_nothing() {
    const YEAR: u64 = 366 * 24 * 3600 * 1000;
    let now = 1_800_000_000_000;
    let told = |version, unix_ms, here| {
        let force = Some(Force::Down);
        let forced = Forced { force, who: "ops".into(), why: "a".into(), node: node("n"), unix_ms, version };
        Book::default().merge(region(0), forced, here)
    };
    for late in [now + YEAR + 1, (1 << 53) - 1, u64::MAX] {
        assert_eq!((told(late, now, now), told(now, late, now)), (Err(ForceFault::Late), Err(ForceFault::Late)));
    }
    assert_eq!(told(now + YEAR, now + YEAR, now), Ok(true));
    // a board without a clock begins in 1970, also when the others are years further
    assert_eq!(told(now + 9 * YEAR, now, 5), Ok(true));
    assert_eq!(told(1 << 53, 1, u64::MAX), Err(ForceFault::Late), "numbers must survive JSON");
    // an order goes above what is known, also where that is ahead of our clock
    let mut book = Book::default();
    let ahead = Forced {
        force: Some(Force::Down),
        who: "ops".into(),
        why: "a".into(),
        node: node("n"),
        unix_ms: now,
        version: now + YEAR,
    };
    book.merge(region(0), ahead, now).unwrap();
    let above = book.order(region(0), None, ("ops", "b"), &node("m"), now + 1).unwrap();
    assert_eq!(above.version, now + YEAR + 1);
}

proptest! {
    /// In whatever order and however often entries are heard, all come to the same book.
    #[test]
    fn books_agree_once_they_have_heard_the_same(
        entries in proptest::collection::vec(entry(), 0..12),
        order in any::<prop::sample::Index>(),
    ) {
        let (mut first, mut second) = (Book::default(), Book::default());
        for (target, forced) in &entries {
            first.merge(target.clone(), forced.clone(), 1).unwrap();
        }
        let turn = if entries.is_empty() { 0 } else { order.index(entries.len()) };
        for (target, forced) in entries.iter().skip(turn).chain(entries.iter().rev()) {
            second.merge(target.clone(), forced.clone(), 1).unwrap();
        }
        prop_assert_eq!(first.digest(), second.digest());
        prop_assert_eq!(first.entries().collect::<Vec<_>>(), second.entries().collect::<Vec<_>>());
    }

    /// An order always wins over everything its node knew.
    #[test]
    fn the_later_order_wins(entries in proptest::collection::vec(entry(), 0..12), unix_ms in 0u64..5) {
        let mut book = Book::default();
        for (target, forced) in entries {
            book.merge(target, forced, 1).unwrap();
        }
        book.order(region(0), Some(Force::Drain), ("ops", "now"), &node("n"), unix_ms).unwrap();
        prop_assert_eq!(book.of(&region(0)).map(|forced| forced.why.as_str()), Some("now"));
    }
}
