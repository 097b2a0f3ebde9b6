//! The protocol, looked at whole where it is small, and with each of its guards left out.

use std::collections::BTreeMap;

use purge_model::{
    catalogue::{self, When},
    change::{self, Change},
    machines, mutants,
    search::{Found, search, wander},
};
use stateright::{Checker, Model};

const PAGE: &str = include_str!("../../../docs/purge-protocol.md");

/// What the table says of each configuration: how many states it has.
fn told() -> BTreeMap<&'static str, usize> {
    let rows = PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`');
        let states = cells.nth(1)?.replace(',', "").parse().ok()?;
        Some((name, states))
    });
    rows.collect()
}

#[track_caller]
fn holds(name: &str, found: &Found) {
    assert_eq!(found.broken, None, "{name}");
    assert!(found.whole, "{name}: not every state was seen");
    assert!(found.missed.is_empty(), "{name}: never seen: {:?}", found.missed);
    let told = told().get(name).copied();
    let now = found.states;
    assert_eq!(
        told,
        Some(now),
        "{name} has {now} states: the model has changed, look at it and then at docs/purge-protocol.md"
    );
}

/// One after the other: they are for one core.
#[test]
fn every_promise_holds_in_every_state_of_every_small_world() {
    for world in catalogue::all().iter().filter(|world| world.when == When::Always) {
        holds(world.name, &search(&world.setup, usize::MAX));
    }
}

#[test]
fn the_small_worlds_have_every_possibility_in_them() {
    let small = catalogue::all().into_iter().filter(|world| world.when == When::Always);
    let names: Vec<_> = small.flat_map(|world| world.setup.properties()).map(|property| property.name).collect();
    let all = [
        "P1", "P2", "P3", "P4", "P5", "P6", "R1 ", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R12",
    ];
    for wanted in all {
        assert!(names.iter().any(|name| name.starts_with(wanted)), "{wanted} is looked for nowhere");
    }
}

#[test]
fn the_table_has_a_row_for_every_configuration() {
    let told = told();
    for world in catalogue::all().iter().filter(|world| world.when != When::Never) {
        assert!(told.contains_key(world.name), "docs/purge-protocol.md has no row for `{}`", world.name);
    }
}

#[test]
fn our_search_finds_what_the_one_of_stateright_finds() {
    for name in ["log-time1", "told", "gate"] {
        let setup = catalogue::world(name).unwrap().setup;
        let theirs = setup.checker().spawn_bfs().join();
        assert_eq!(theirs.unique_state_count(), search(&setup, usize::MAX).states, "{name}");
        theirs.assert_properties();
    }
}

#[test]
fn every_guard_that_is_left_out_is_missed() {
    for (mutation, name) in mutants::ALL {
        let mut setup = catalogue::world(name).unwrap().setup;
        setup.mutation = Some(*mutation);
        let broken = search(&setup, usize::MAX).broken;
        assert!(broken.is_some(), "{name} keeps its promises without {mutation:?}");
        let promise = broken.unwrap_or_default()[..2].to_owned();
        let row =
            PAGE.lines().find(|line| line.contains(&format!("`{mutation:?}`")) && line.contains(&format!("`{name}`")));
        let row = row.unwrap_or_else(|| panic!("docs/purge-protocol.md has no row for `{mutation:?}` in `{name}`"));
        assert!(
            row.contains(&promise),
            "{mutation:?} breaks {promise} in {name}, and docs/purge-protocol.md says otherwise"
        );
    }
}

#[test]
fn witnesses_change_without_a_gap_and_each_guard_of_it_is_needed() {
    holds("change", &search(&Change::default(), usize::MAX));
    for mutation in change::Mutation::ALL {
        let found = search(&Change { mutation: Some(mutation) }, usize::MAX);
        assert_eq!(found.broken, Some("P6 a lease has heard"), "{mutation:?}");
        assert!(PAGE.contains(&format!("`{mutation:?}`")), "docs/purge-protocol.md has no row for `{mutation:?}`");
    }
}

#[test]
fn the_machines_keep_the_promises_in_every_state_of_small_worlds() {
    for (name, setup) in machines::small() {
        holds(name, &search(&setup, usize::MAX));
    }
}

#[test]
fn the_machines_keep_the_promises_wherever_chance_leads() {
    let found = wander(&machines::LARGE, 7, 150, 80);
    assert_eq!(found.broken, None);
    assert!(found.missed.is_empty(), "never seen: {:?}", found.missed);
    assert!(found.steps > 5_000, "the walks are too short: {}", found.steps);
}

#[test]
fn chance_finds_a_mistake_in_how_the_machines_are_used() {
    for mistake in machines::Mistake::ALL {
        let setup = machines::Setup { mistake: Some(mistake), ..machines::LARGE };
        assert!(wander(&setup, 7, 2_000, 80).broken.is_some(), "{mistake:?} was not found");
    }
}
