//! What nodes tell each other about their sites: pure counters, the one kind of telemetry that may leave a jurisdiction. How
//! a realm's purges stand is told to its members only.
//! Written here and read here, as JSON with every field defaulted, so that neighbours of another version are understood.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use region_config::JurisdictionId;

use super::{
    Parts, live,
    model::{Counters, RealmLedger},
};
use crate::{
    ledger::Ledgers,
    observe::{Observe, Outcome, SiteView, hit_ratio},
};

/// All counters of one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    /// Whether the node is ready to serve.
    pub(super) ready: bool,
    /// Its sites, by name.
    pub(super) sites: BTreeMap<String, SiteReport>,
    /// How purges stand on it, for each realm that who asks is a member of.
    pub(super) ledgers: Vec<RealmLedger>,
}

/// A node's counters of one site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SiteReport {
    pub(super) counters: Counters,
    /// Why requests were not hits, by the reason's word.
    pub(super) not_hit: BTreeMap<String, u64>,
    /// Why responses were not stored, by the reason's word.
    pub(super) not_stored: BTreeMap<String, u64>,
}

/// Answers other nodes that ask for this one's counters.
pub struct Reporter {
    observe: Arc<Observe>,
    parts: Parts,
    ledgers: Arc<Ledgers>,
}

impl Reporter {
    /// A reporter of these counters.
    #[must_use]
    pub fn new(observe: Arc<Observe>, parts: Parts, ledgers: Arc<Ledgers>) -> Arc<Self> {
        Arc::new(Self { observe, parts, ledgers })
    }

    /// The report for a node that is certified for `peer`, as bytes.
    #[must_use]
    pub fn report(&self, peer: &JurisdictionId) -> Vec<u8> {
        let ledgers = live::ledgers(&self.ledgers, Some(peer));
        // plain values: writing them cannot fail
        serde_json::to_vec(&own(&self.observe, &self.parts, ledgers)).unwrap_or_default()
    }
}

/// This node's own report.
pub(super) fn own(observe: &Observe, parts: &Parts, ledgers: Vec<RealmLedger>) -> Report {
    Report {
        ledgers,
        ready: parts().iter().all(|part| part.ready),
        sites: observe.views().iter().map(|view| (view.site.to_string(), site(view))).collect(),
    }
}

/// Reads another node's report.
pub(super) fn read(bytes: &[u8]) -> Option<Report> {
    serde_json::from_slice(bytes).ok()
}

fn site(view: &SiteView) -> SiteReport {
    let totals = &view.totals;
    let outcomes = Outcome::ALL.map(|outcome| (outcome.as_str().to_owned(), totals.of(outcome)));
    let words =
        |counts: BTreeMap<&'static str, u64>| counts.into_iter().map(|(word, n)| (word.to_owned(), n)).collect();
    SiteReport {
        counters: Counters {
            requests: totals.requests(),
            hits: totals.hits(),
            outcomes: outcomes.into_iter().collect(),
            hit_ratio: hit_ratio(totals.hits(), totals.requests(), totals.of(Outcome::Refused)),
            recent_hit_ratio: view.rate.hit_ratio,
            requests_per_s: view.rate.requests_per_s,
            bytes_per_s: view.rate.bytes_per_s,
            bytes_out: totals.bytes_out,
            origin_fetches: totals.origin_fetches,
            collapsed: totals.collapsed,
            stored: totals.stored,
        },
        not_hit: words(totals.not_hit()),
        not_stored: words(totals.not_stored()),
    }
}

/// Adds one node's counters to a sum.
pub(super) fn absorb(sum: &mut Counters, node: &Counters) {
    let recently_hit = |counters: &Counters| counters.recent_hit_ratio.map(|ratio| ratio * counters.requests_per_s);
    let recent = match (recently_hit(sum), recently_hit(node)) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
    };
    // refused requests are no part of the ratio, and rarely matter here: the mean is weighted by all requests
    let weight = [&*sum, node].iter().filter(|c| c.recent_hit_ratio.is_some()).map(|c| c.requests_per_s).sum::<f64>();
    sum.recent_hit_ratio = recent.filter(|_| weight > 0.0).map(|hits| hits / weight);
    sum.requests += node.requests;
    sum.hits += node.hits;
    for (outcome, count) in &node.outcomes {
        *sum.outcomes.entry(outcome.clone()).or_default() += count;
    }
    let refused = sum.outcomes.get(Outcome::Refused.as_str()).copied().unwrap_or(0);
    sum.hit_ratio = hit_ratio(sum.hits, sum.requests, refused);
    sum.requests_per_s += node.requests_per_s;
    sum.bytes_per_s += node.bytes_per_s;
    sum.bytes_out += node.bytes_out;
    sum.origin_fetches += node.origin_fetches;
    sum.collapsed += node.collapsed;
    sum.stored += node.stored;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(requests: u64, hits: u64, rate: f64) -> Counters {
        Counters {
            requests,
            hits,
            hit_ratio: hit_ratio(hits, requests, 0),
            recent_hit_ratio: hit_ratio(hits, requests, 0),
            requests_per_s: rate,
            ..Counters::default()
        }
    }

    #[test]
    fn the_sum_of_nodes_weighs_their_ratios_by_their_requests() {
        let mut sum = Counters::default();
        absorb(&mut sum, &counters(100, 100, 30.0));
        absorb(&mut sum, &counters(300, 0, 90.0));
        absorb(&mut sum, &counters(0, 0, 0.0));
        assert_eq!((sum.requests, sum.hits, sum.hit_ratio), (400, 100, Some(0.25)));
        assert!((sum.recent_hit_ratio.unwrap_or(0.0) - 0.25).abs() < 1e-9);
        assert!((sum.requests_per_s - 120.0).abs() < 1e-9);
    }

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_is_known() {
        let report =
            read(br#"{"ready":true,"new":1,"sites":{"shop":{"counters":{"requests":3,"hits":1,"outcomes":{}}}}}"#);
        assert_eq!(report.and_then(|r| r.sites.get("shop").map(|s| s.counters.requests)), Some(3));
        assert_eq!(read(b"\xff"), None);
    }
}
