//! Runs seeds: `simulation 100000` runs so many, `simulation --seed 17` one, with its trace.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use simulation::{
    run::{Mode, Plan, run, run_all},
    stage::{Carrier, Planted},
};

/// After so many seeds it says how far it is.
const EVERY: u64 = 5_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    let carrier = if words.first() == Some(&"--quic") { Carrier::Quic } else { Carrier::Lines };
    if carrier == Carrier::Quic {
        words.remove(0);
    }
    let plan = |seed| Plan { carrier, ..Plan::of(seed) };
    match words[..] {
        ["--seed", seed] => seed.parse().map_or(ExitCode::from(2), |seed| one(plan(seed))),
        ["--seed", seed, "--planted", fault] => match (seed.parse(), Planted::parse(fault)) {
            (Ok(seed), Some(planted)) => one(Plan { planted, mode: Mode::Safety, ..plan(seed) }),
            _ => ExitCode::from(2),
        },
        [count] => count.parse().map_or(ExitCode::from(2), |count| many((1, count), plan)),
        [count, "--from", first] => match (count.parse(), first.parse()) {
            (Ok(count), Ok(first)) => many((first, count), plan),
            _ => ExitCode::from(2),
        },
        _ => {
            eprintln!("simulation [--quic] COUNT [--from SEED] | [--quic] --seed SEED [--planted FAULT]");
            ExitCode::from(2)
        }
    }
}

fn one(plan: Plan) -> ExitCode {
    let outcome = run(plan);
    println!("{}{:?}", outcome.trace.text(), outcome.tally);
    for breach in &outcome.breaches {
        println!("line {}: {}", breach.line + 1, breach.what);
    }
    ExitCode::from(u8::from(!outcome.breaches.is_empty()))
}

fn many((first, count): (u64, u64), plan: impl Fn(u64) -> Plan + Send) -> ExitCode {
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let totals: [AtomicU64; 7] = Default::default();
    let began = Instant::now();
    run_all((first..first + count).map(plan), |plan, outcome| {
        let tally = outcome.tally;
        let all = [
            tally.served,
            tally.hits,
            tally.purges,
            tally.kills,
            tally.failed,
            outcome.packets.came,
            outcome.packets.lost,
        ];
        for (total, one) in totals.iter().zip(all) {
            total.fetch_add(one, Relaxed);
        }
        if let Some(breach) = outcome.breaches.first() {
            failed.fetch_add(1, Relaxed);
            println!("{}", plan.in_words(&breach.what));
        }
        let done = done.fetch_add(1, Relaxed) + 1;
        if done.is_multiple_of(EVERY) {
            println!("{done} seeds, {} a second", done / began.elapsed().as_secs().max(1));
        }
        true
    });
    let seconds = began.elapsed().as_secs_f64();
    let [served, hits, purges, kills, fails, came, lost] = totals.map(AtomicU64::into_inner);
    let failed = failed.into_inner();
    println!(
        "{count} seeds in {seconds:.1} s, {:.1} a second; {failed} failed",
        Duration::from_secs(count).as_secs_f64() / seconds
    );
    println!(
        "{served} answers, {hits} of them from a cache; {fails} requests unanswered; {purges} purges; {kills} kills"
    );
    if came > 0 {
        println!("{came} packets came, {lost} were lost");
    }
    ExitCode::from(u8::from(failed > 0))
}
