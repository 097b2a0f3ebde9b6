//! Which of a site's origins is asked.
//!
//! By tiers: the second is for when the first is not well. Within a tier by chance, in proportion to weight over load,
//! where load is the time that an origin takes for an answer times the requests it is busy with: a slow or busy origin is
//! asked less, and never not at all. (The better of two taken by chance, which is common for larger pools, would send a
//! pair of origins' whole traffic to the one that is a hair faster.)

/// Time after which a new or recovered origin has its whole share, in ms.
const SLOW_START_MS: u64 = 10_000;

/// The share that it begins with.
const SLOW_START_LEAST: f64 = 0.1;

/// Share of the mean time that an answer makes up; what takes longer counts at once, for it may be hung.
const LATENCY_SHARE: f64 = 0.1;

/// Times are taken for this at least, in us: an origin beside the node does not get everything.
const LATENCY_MIN_US: f64 = 1_000.0;

/// One origin as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its place in the site's list.
    pub index: usize,
    /// 0 is asked first.
    pub tier: u32,
    /// Its share of its tier, by the operator and by how long it is back.
    pub weight: f64,
    /// Requests it is busy with.
    pub busy: usize,
    /// The time that it takes for an answer, in us; none if that is not known.
    pub latency_us: Option<f64>,
    /// Whether it answers its active check.
    pub healthy: bool,
    /// Whether its breaker lets a request through.
    pub open: bool,
    /// Whether this request was there already.
    pub tried: bool,
}

impl Candidate {
    fn well(&self) -> bool {
        self.healthy && self.open
    }
}

/// The origin to ask, if there is any that may be: from the first tier of which at least half is well, among those that
/// are. If there is no such tier, from the first that has any, whatever their health check says: when most look down,
/// it is more likely that the check is wrong than that the few could bear it all (the panic rule).
#[must_use]
pub fn choose(candidates: &[Candidate], chance: u64) -> Option<usize> {
    let fit = |tier: u32| {
        let all = candidates.iter().filter(|one| one.tier == tier);
        let (well, count) = all.fold((0, 0), |(well, count), one| (well + usize::from(one.well()), count + 1));
        well > 0 && well * 2 >= count
    };
    let tier_of = |wanted: &dyn Fn(&Candidate) -> bool| {
        candidates.iter().filter(|one| one.open && !one.tried && wanted(one)).map(|one| one.tier).min()
    };
    if let Some(tier) = tier_of(&|one| one.healthy && fit(one.tier)) {
        return draw(candidates, |one| one.tier == tier && one.well() && !one.tried, chance);
    }
    let tier = tier_of(&|_| true)?;
    draw(candidates, |one| one.tier == tier && one.open && !one.tried, chance)
}

/// Draws one of those wanted in proportion to weight over load.
fn draw(candidates: &[Candidate], wanted: impl Fn(&Candidate) -> bool, chance: u64) -> Option<usize> {
    let pool = || candidates.iter().filter(|one| wanted(one));
    // who is not known yet is taken for as fast as the fastest
    let fastest = pool().filter_map(|one| one.latency_us).fold(f64::INFINITY, f64::min);
    let fastest = if fastest.is_finite() { fastest } else { LATENCY_MIN_US };
    let part = |one: &Candidate| {
        let latency = one.latency_us.unwrap_or(fastest).max(LATENCY_MIN_US);
        one.weight.max(f64::MIN_POSITIVE) / (latency * (one.busy as f64 + 1.0))
    };
    let whole: f64 = pool().map(part).sum();
    let mut left = whole * (chance >> 11) as f64 / (1u64 << 53) as f64;
    let mut last = None;
    for one in pool() {
        last = Some(one.index);
        left -= part(one);
        if left < 0.0 {
            break;
        }
    }
    last
}

/// Spreads a counter over all 64 bits (the finaliser of SplitMix64): chance enough to choose by, without a source of
/// randomness on the request path.
#[must_use]
pub fn spread(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The time that an origin takes for an answer: a mean that forgets, and that a slow answer lifts at once (peak EWMA, as
/// in Finagle).
#[derive(Debug, Clone, Copy, Default)]
pub struct Latency {
    mean_us: Option<f64>,
}

impl Latency {
    /// An answer took so many us.
    pub fn handle_answer(&mut self, micros: u64) {
        let sample = micros as f64;
        self.mean_us = Some(match self.mean_us {
            Some(mean) if sample < mean * 4.0 => mean + (sample - mean) * LATENCY_SHARE,
            Some(mean) => mean + (sample - mean) / 2.0,
            None => sample,
        });
    }

    /// The time in us; none before the first answer.
    #[must_use]
    pub fn micros(&self) -> Option<f64> {
        self.mean_us
    }
}

/// How much of its share an origin gets that is new among others, or back from a fault: a little at first, so that its
/// caches and pools may warm up.
#[derive(Debug, Clone, Copy, Default)]
pub struct SlowStart {
    since_ms: Option<u64>,
}

impl SlowStart {
    /// It is new, or back.
    pub fn handle_start(&mut self, now_ms: u64) {
        self.since_ms = Some(now_ms);
    }

    /// Its share now, from a tenth to 1.
    #[must_use]
    pub fn share(&self, now_ms: u64) -> f64 {
        let Some(since_ms) = self.since_ms else { return 1.0 };
        let part = now_ms.saturating_sub(since_ms) as f64 / SLOW_START_MS as f64;
        part.clamp(SLOW_START_LEAST, 1.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn one(index: usize) -> Candidate {
        Candidate {
            index,
            tier: 0,
            weight: 1.0,
            busy: 0,
            latency_us: Some(20_000.0),
            healthy: true,
            open: true,
            tried: false,
        }
    }

    fn shares(candidates: &[Candidate]) -> Vec<f64> {
        let mut counts = vec![0.0; candidates.len()];
        for counter in 0..40_000 {
            counts[choose(candidates, spread(counter)).unwrap()] += 1.0 / 40_000.0;
        }
        counts
    }

    #[track_caller]
    fn check(candidates: &[Candidate], expected: &[f64]) {
        let shares = shares(candidates);
        assert!(shares.iter().zip(expected).all(|(a, b)| (a - b).abs() <= b / 10.0), "{shares:?}, not {expected:?}");
    }

    #[test]
    fn equal_origins_share_alike_and_others_by_their_weight() {
        check(&[one(0), one(1), one(2), one(3)], &[0.25; 4]);
        check(&[Candidate { weight: 3.0, ..one(0) }, one(1)], &[0.75, 0.25]);
    }

    #[test]
    fn the_slow_and_the_busy_are_asked_less_and_who_is_not_known_is_found_out() {
        check(&[one(0), Candidate { latency_us: Some(80_000.0), ..one(1) }], &[0.8, 0.2]);
        check(&[one(0), Candidate { busy: 3, ..one(1) }], &[0.8, 0.2]);
        check(&[one(0), Candidate { latency_us: None, ..one(1) }], &[0.5, 0.5]);
    }

    #[test]
    fn under_unequal_latency_each_origin_holds_as_many_requests_as_the_other() {
        // 100 clients in a closed loop: an origin's request ends after its latency, the client then sends another
        let latency = [10u64, 40];
        let (mut busy, mut held, mut ends) = ([0usize; 2], [0u64; 2], std::collections::BTreeSet::new());
        let mut counter = 0u64;
        let mut send = |now: u64, busy: &mut [usize; 2], ends: &mut std::collections::BTreeSet<_>| {
            counter += 1;
            let load = |index: usize| Candidate {
                busy: busy[index],
                latency_us: Some(latency[index] as f64 * 1_000.0),
                ..one(index)
            };
            let chosen = choose(&[load(0), load(1)], spread(counter)).unwrap();
            busy[chosen] += 1;
            ends.insert((now + latency[chosen], counter, chosen));
        };
        (0..100).for_each(|_| send(0, &mut busy, &mut ends));
        for _ in 0..50_000 {
            let (now, _, index) = ends.pop_first().unwrap();
            busy[index] -= 1;
            send(now, &mut busy, &mut ends);
            held[0] += busy[0] as u64;
            held[1] += busy[1] as u64;
        }
        let skew = held[0].abs_diff(held[1]) as f64 / (held[0] + held[1]) as f64;
        assert!(skew < 0.1, "{held:?}");
    }

    #[test]
    fn the_second_tier_is_asked_when_the_first_is_not_well_or_was_tried() {
        let second = Candidate { tier: 1, ..one(1) };
        check(&[one(0), second], &[1.0, 0.0]);
        check(&[Candidate { open: false, ..one(0) }, second], &[0.0, 1.0]);
        check(&[Candidate { healthy: false, ..one(0) }, second], &[0.0, 1.0]);
        check(&[Candidate { tried: true, ..one(0) }, second], &[0.0, 1.0]);
        // a first tier that has more than half of its origins left goes on alone
        let (ill, last) = (Candidate { healthy: false, ..one(2) }, Candidate { tier: 1, ..one(3) });
        check(&[one(0), one(1), ill, last], &[0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn when_fewer_than_half_are_healthy_all_are_asked_but_for_those_whose_breaker_is_open() {
        let ill = |index| Candidate { healthy: false, ..one(index) };
        check(&[one(0), ill(1), ill(2)], &[1.0 / 3.0; 3]);
        check(&[one(0), ill(1)], &[1.0, 0.0]);
        check(&[ill(0), ill(1)], &[0.5, 0.5]);
        check(&[Candidate { open: false, ..ill(0) }, ill(1), ill(2)], &[0.0, 0.5, 0.5]);
        assert_eq!(choose(&[Candidate { open: false, ..one(0) }], 7), None);
        assert_eq!(choose(&[], 7), None);
    }

    #[test]
    fn a_recovered_origin_gets_its_share_little_by_little() {
        let mut start = SlowStart::default();
        assert!((start.share(5) - 1.0).abs() < 1e-9, "who was always there has all of it");
        start.handle_start(1_000);
        let shares = [1_000, 2_000, 6_000, 11_000, 99_000].map(|now_ms| (start.share(now_ms) * 100.0).round());
        assert_eq!(shares, [10.0, 10.0, 50.0, 100.0, 100.0]);
    }

    proptest! {
        #[test]
        fn whoever_is_chosen_may_be_asked(
            pool in prop::collection::vec((0u32..3, 0usize..100, any::<bool>(), any::<bool>(), any::<bool>()), 0..12),
            chance in any::<u64>(),
        ) {
            let candidate = |(index, (tier, busy, healthy, open, tried))| {
                Candidate { tier, busy, healthy, open, tried, ..one(index) }
            };
            let pool: Vec<_> = pool.into_iter().enumerate().map(candidate).collect();
            match choose(&pool, chance) {
                Some(index) => prop_assert!(pool[index].open && !pool[index].tried),
                None => prop_assert!(pool.iter().all(|one| !one.open || one.tried)),
            }
        }
    }
}
