//! How fast a site's counters grow: worked out by who reads them, from what they said in the last seconds.

use std::collections::VecDeque;

use super::counters::{Outcome, Totals, hit_ratio};

/// Over how long a rate is the mean, in ms.
const WINDOW_MS: u64 = 10_000;
/// More samples than this are not kept, however fast they come.
const SAMPLES_MAX: usize = 16;

/// Means over the last 10 s (or since the counters are watched, if that is shorter).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Requests per second.
    pub requests_per_s: f64,
    /// Bytes of bodies per second.
    pub bytes_per_s: f64,
    /// Share of hits; none if nothing was asked.
    pub hit_ratio: Option<f64>,
}

/// What the counters said in the last seconds, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Sample>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ms: u64,
    requests: u64,
    hits: u64,
    refused: u64,
    bytes: u64,
}

impl Recent {
    pub(super) fn note(&mut self, at_ms: u64, totals: &Totals) {
        let enough = |sample: &Sample| sample.at_ms + WINDOW_MS < at_ms;
        while self.0.front().is_some_and(enough) || self.0.len() >= SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Sample {
            at_ms,
            requests: totals.requests(),
            hits: totals.hits(),
            refused: totals.of(Outcome::Refused),
            bytes: totals.bytes_out,
        });
    }

    pub(super) fn rate(&self) -> Rate {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else { return Rate::default() };
        let seconds = last.at_ms.saturating_sub(first.at_ms) as f64 / 1000.0;
        if seconds <= 0.0 {
            return Rate::default();
        }
        let requests = last.requests.saturating_sub(first.requests);
        Rate {
            requests_per_s: requests as f64 / seconds,
            bytes_per_s: last.bytes.saturating_sub(first.bytes) as f64 / seconds,
            hit_ratio: hit_ratio(
                last.hits.saturating_sub(first.hits),
                requests,
                last.refused.saturating_sub(first.refused),
            ),
        }
    }
}
