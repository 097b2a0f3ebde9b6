//! Runs seeds: `simulation 100000` runs so many, `simulation --seed 17` one, with its trace.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Instant,
};

use simulation::run::{Plan, run};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["--seed", seed] => seed.parse().map_or(ExitCode::from(2), one),
        [count] => count.parse().map_or(ExitCode::from(2), |count| many(1, count)),
        [count, "--from", first] => match (count.parse(), first.parse()) {
            (Ok(count), Ok(first)) => many(first, count),
            _ => ExitCode::from(2),
        },
        _ => {
            eprintln!("simulation COUNT [--from SEED] | --seed SEED");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let outcome = run(Plan::of(seed));
    println!("{}{:?}", outcome.trace.text(), outcome.tally);
    for breach in &outcome.breaches {
        println!("line {}: {}", breach.line + 1, breach.what);
    }
    ExitCode::from(u8::from(!outcome.breaches.is_empty()))
}

fn many(first: u64, count: u64) -> ExitCode {
    let (next, failed) = (AtomicU64::new(first), AtomicU64::new(0));
    let totals: [AtomicU64; 5] = Default::default();
    let began = Instant::now();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let outcome = run(Plan::of(seed));
                    let tally = outcome.tally;
                    let all = [tally.served, tally.hits, tally.purges, tally.kills, tally.failed];
                    totals.iter().zip(all).for_each(|(total, one)| drop(total.fetch_add(one, Relaxed)));
                    if let Some(breach) = outcome.breaches.first() {
                        failed.fetch_add(1, Relaxed);
                        println!("seed {seed}: {} (replay: make sim SEED={seed})", breach.what);
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let [served, hits, purges, kills, fails] = totals.map(AtomicU64::into_inner);
    println!(
        "{count} seeds in {seconds:.1} s: {:.1} a second; {served} answers ({hits} from a cache, {fails} failed), {purges} purges, {kills} kills; {} seeds failed",
        count as f64 / seconds,
        failed.load(Relaxed)
    );
    ExitCode::from(u8::from(failed.into_inner() > 0))
}
