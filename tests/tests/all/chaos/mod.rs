//! Real processes under real faults: killed, cut off from each other, kept waiting, out of disk, with a wrong clock.
//!
//! Each promise has a short form among all other tests, and where it needs minutes a long one that `make chaos` runs. All
//! of them print what they did and saw.

mod absence;
mod clocks;
mod effect;
mod ledger_disk;
mod links;
mod places;
mod reloads;
mod storm;

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::harness::{client::Connection, fleet::FREE, stamped, until_some};

/// Random numbers that one seed repeats.
struct Chance(u64);

impl Chance {
    /// From `MERIDIAN_SEED`, else from a fixed one.
    fn new() -> Self {
        let seed = std::env::var("MERIDIAN_SEED").ok().and_then(|seed| seed.parse().ok());
        Self(seed.unwrap_or(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// A time between two.
    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + (most - least).mul_f64(f64::from(u32::try_from(self.next() % 1_000_000).unwrap()) / 1e6)
    }
}

/// Times as they were measured.
#[derive(Debug, Clone, Default)]
struct Times(Vec<Duration>);

impl Times {
    /// The time that so many of a thousand are within.
    fn per_mille(&mut self, rank: usize) -> Duration {
        self.0.sort_unstable();
        let index = (self.0.len() * rank).div_ceil(1000).saturating_sub(1);
        self.0.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times = self.clone();
        let count = times.0.len();
        let [p50, p90, p99, max] = [500, 900, 990, 1000].map(|rank| times.per_mille(rank));
        write!(f, "p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, max {max:.1?} of {count}")
    }
}

/// What a node keeps of a process in memory now, in MiB.
fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// What a process has had of a processor so far.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // behind the name, which may hold anything: utime and stime are the 12th and 13th, in hundredths of a second
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|index| fields.get(*index)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The version that a reply's body says it is.
fn version(reply: &crate::harness::client::Reply) -> Result<u64, String> {
    match stamped::check(&reply.body) {
        Ok(stamp) => Ok(stamp.version),
        Err(fault) => Err(format!("{fault}: {}", reply.seen())),
    }
}

/// Asks a node until it answers with an object, and returns its version.
async fn warm(connection: &mut Connection, target: &str) -> u64 {
    let what = format!("{target} is served");
    let (version, _) =
        until_some(&what, Duration::from_secs(20), async || version(&connection.get(FREE, target).await?)).await;
    version
}

/// Ends at `from` and `after` it.
async fn sleep_until(from: Instant, after: Duration) {
    tokio::time::sleep_until((from + after).into()).await;
}
