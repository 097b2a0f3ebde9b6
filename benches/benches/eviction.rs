//! Which eviction algorithm memory should have: hit ratio and cost on made traffic, in one table.
//! `cargo bench -p benches --bench eviction`.
//!
//! The hot set is asked for by Zipf's law; memory holds a twentieth of it. Beside it runs a scan, or a stream of objects
//! that are asked for once: neither should cost the hot set much (FEATURES S1, S2).
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a bench")]

use std::time::Instant;

use foyer::{Cache, CacheBuilder, EvictionConfig, FifoConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};

const SET: usize = 200_000;
const CAPACITY: usize = SET / 20;
const REQUESTS: usize = 2_000_000;

/// A linear congruential generator: the same stream in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 11
    }

    /// At least 0, below 1.
    fn unit(&mut self) -> f64 {
        self.next() as f64 / (1_u64 << 53) as f64
    }
}

/// Cumulated weights of Zipf's law with exponent 0.9, which web traffic is near.
fn zipf() -> Vec<f64> {
    let mut sum = 0.0;
    let mut cumulated: Vec<f64> = (1..=SET)
        .map(|rank| {
            sum += (rank as f64).powf(-0.9);
            sum
        })
        .collect();
    cumulated.iter_mut().for_each(|weight| *weight /= sum);
    cumulated
}

/// Hit ratio of the hot set, and ns per request; a share of the requests is for objects that never come again.
fn run(config: EvictionConfig, zipf: &[f64], one_hit_share: f64) -> (f64, f64) {
    let cache: Cache<u64, u64> = CacheBuilder::new(CAPACITY).with_shards(16).with_eviction_config(config).build();
    let mut chance = Chance(42);
    let (mut asked, mut hits) = (0_u64, 0_u64);
    let mut never_again = SET as u64;
    let begin = Instant::now();
    for _ in 0..REQUESTS {
        let one_hit = chance.unit() < one_hit_share;
        let key = if one_hit {
            never_again += 1;
            never_again
        } else {
            let at = chance.unit();
            zipf.partition_point(|weight| *weight < at) as u64
        };
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.insert(key, key);
        }
        asked += u64::from(!one_hit);
        hits += u64::from(!one_hit && hit);
    }
    let ns = begin.elapsed().as_nanos() as f64 / REQUESTS as f64;
    (hits as f64 / asked as f64, ns)
}

fn main() {
    let zipf = zipf();
    println!("memory holds 5 % of a set with Zipf 0.9; hit ratio of the hot set, and ns per request (with the insert)");
    println!("{:<9}{:>18}{:>22}{:>22}", "", "alone", "50 % one-hit", "90 % one-hit");
    let algorithms: [(&str, EvictionConfig); 5] = [
        ("s3-fifo", S3FifoConfig::default().into()),
        ("sieve", SieveConfig.into()),
        ("fifo", FifoConfig::default().into()),
        ("lru", LruConfig::default().into()),
        ("lfu", LfuConfig::default().into()),
    ];
    for (name, config) in algorithms {
        print!("{name:<9}");
        for share in [0.0, 0.5, 0.9] {
            let (ratio, ns) = run(config.clone(), &zipf, share);
            print!("{:>12.1} % {ns:>5.0} ns", ratio * 100.0);
        }
        println!();
    }
}
