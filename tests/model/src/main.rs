//! `purge-model`: looks at all configurations, or at those named. `purge-model mutants` looks for each guard that was left
//! out.
#![allow(clippy::print_stdout, reason = "a table for the terminal")]

use std::{process::ExitCode, time::Instant};

use purge_model::{
    catalogue::{self, When, World},
    change::{self, Change},
    machines, mutants,
    search::{self, Found, search},
};
use stateright::{Checker, HasDiscoveries, Model};

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let good = match names.first().map(String::as_str) {
        Some("change") => changes(),
        Some("machines") => machines(),
        Some("wander") => wander(names.get(1).and_then(|walks| walks.parse().ok()).unwrap_or(10_000)),
        Some("mutants") => {
            let named = |mutation: &mutants::Mutation| {
                names.len() == 1 || names.iter().any(|name| *name == format!("{mutation:?}"))
            };
            mutants::ALL
                .iter()
                .filter(|(mutation, _)| named(mutation))
                .all(|(mutation, name)| is_caught(*mutation, name))
                && (names.len() > 1 || change::Mutation::ALL.into_iter().all(is_change_caught))
        }
        _ => {
            let worlds = catalogue::all().into_iter().filter(|world| match names.is_empty() {
                true => world.when != When::Never,
                false => names.iter().any(|name| name == world.name),
            });
            // all of them, also after a bad one
            let good = worlds.filter(|world| !look(world)).count() == 0;
            good && (!names.is_empty() || (changes() && machines() && wander(100_000)))
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn look(world: &World) -> bool {
    let began = Instant::now();
    let found = search(&world.setup, usize::MAX);
    let good = tell(world.name, &found, began);
    if found.broken.is_some() {
        explain(world);
    }
    good
}

/// The change of the witness set.
fn changes() -> bool {
    let began = Instant::now();
    let found = search(&Change::default(), usize::MAX);
    tell("change", &found, began)
}

/// The machines themselves.
fn machines() -> bool {
    let bad = machines::small().into_iter().filter(|(name, setup)| {
        let began = Instant::now();
        !tell(name, &search(setup, usize::MAX), began)
    });
    bad.count() == 0
}

/// The machines in a world that is too large.
fn wander(walks: usize) -> bool {
    let began = Instant::now();
    let found = search::wander(&machines::LARGE, 1, walks, 80);
    let (steps, seconds) = (found.steps, began.elapsed().as_secs_f64());
    println!("{walks} walks, {steps} steps, {seconds:.1} s: broken {:?}, never {:?}", found.broken, found.missed);
    found.broken.is_none() && found.missed.is_empty()
}

/// Whether it is as it should be.
fn tell(name: &str, found: &Found, began: Instant) -> bool {
    let verdict = match found.broken {
        Some(broken) => format!("BROKEN: {broken}"),
        None if !found.whole => "NOT WHOLE".to_owned(),
        None if !found.missed.is_empty() => format!("NEVER: {}", found.missed.join(", ")),
        None => format!("holds; {}", found.reached.iter().map(|name| &name[..3]).collect::<String>()),
    };
    let (states, depth, seconds) = (found.states, found.depth, began.elapsed().as_secs_f64());
    println!("| {name} | {states} | {depth} | {seconds:.1} | {verdict} |");
    found.whole && found.broken.is_none() && found.missed.is_empty()
}

/// The shortest way to a broken promise.
fn explain(world: &World) {
    let checker = world.setup.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    for (name, path) in checker.discoveries().into_iter().filter(|(name, _)| name.starts_with('P')) {
        println!("{name}:");
        for (state, action) in path.into_vec() {
            match action {
                Some(action) => println!("    {action:?}"),
                None => println!("    {state:#?}"),
            }
        }
    }
}

fn is_caught(mutation: mutants::Mutation, name: &str) -> bool {
    let Some(mut world) = catalogue::world(name) else { return false };
    world.setup.mutation = Some(mutation);
    let began = Instant::now();
    let found = search(&world.setup, usize::MAX);
    let (states, seconds) = (found.states, began.elapsed().as_secs_f64());
    println!("| {mutation:?} | {name} | {} | {states} | {seconds:.1} |", found.broken.unwrap_or("NOT CAUGHT"));
    found.broken.is_some()
}

fn is_change_caught(mutation: change::Mutation) -> bool {
    let found = search(&Change { mutation: Some(mutation) }, usize::MAX);
    println!("| {mutation:?} | change | {} | {} | |", found.broken.unwrap_or("NOT CAUGHT"), found.states);
    found.broken.is_some()
}
