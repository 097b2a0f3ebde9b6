//! What is counted of clients' connections that are passed on between nodes: connections and bytes per site, and nothing else
//! of them, since the node that passes them on may know nothing else.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;
use region_config::SiteId;

use super::{
    exposition::{Exposition, Kind},
    sites::{OTHER, SITES_MAX},
};

/// The connections that this node passes on, and those that others pass on to it.
#[derive(Debug, Default)]
pub struct Relays {
    sites: RwLock<BTreeMap<SiteId, Arc<RelayCounters>>>,
    open: AtomicUsize,
    /// Taken from other nodes.
    pub taken: AtomicU64,
    /// Not taken from other nodes.
    pub refused: AtomicU64,
}

/// What is counted of a site's connections that this node passes on.
#[derive(Debug, Default)]
pub struct RelayCounters {
    /// Connections that another node took.
    pub relayed: AtomicU64,
    /// Connections that no node took.
    pub failed: AtomicU64,
    /// Connections that were one too many.
    pub limited: AtomicU64,
    /// Bytes from clients.
    pub in_bytes: AtomicU64,
    /// Bytes to clients.
    pub out_bytes: AtomicU64,
}

/// The place of one connection that is passed on, given back when it ends.
pub struct Place(Arc<Relays>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl Relays {
    /// A site's counters, made if it has none yet. For load time.
    #[must_use]
    pub fn site(&self, site: &SiteId) -> Arc<RelayCounters> {
        Arc::clone(self.sites.write().entry(site.clone()).or_default())
    }

    /// A place for one more connection, unless there are `most` already.
    #[must_use]
    pub fn place(self: &Arc<Self>, most: usize) -> Option<Place> {
        let fits = |open: usize| (open < most).then(|| open.saturating_add(1));
        self.open.fetch_update(Relaxed, Relaxed, fits).ok().map(|_| Place(Arc::clone(self)))
    }

    pub(super) fn write(&self, page: &mut Exposition) {
        let open = self.open.load(Relaxed) as f64;
        page.single(
            "meridian_relays",
            Kind::Gauge,
            "Clients' connections that are passed on to other nodes now.",
            open,
        );
        let help = "Clients' connections that other nodes wanted to pass on to this one, by what became of them.";
        let mut family = page.family("meridian_relays_offered_total", Kind::Counter, help);
        family.count(&[("outcome", "taken")], self.taken.load(Relaxed));
        family.count(&[("outcome", "refused")], self.refused.load(Relaxed));
        self.write_sites(page);
    }

    fn write_sites(&self, page: &mut Exposition) {
        let sites = self.sites.read();
        // the first by name have series of their own, the others share one: sites come and go with the config only
        let rows: Vec<(&str, &RelayCounters)> = (sites.iter().enumerate())
            .map(|(order, (site, counters))| (if order < SITES_MAX { site.as_str() } else { OTHER }, &**counters))
            .collect();
        let sum = |of: fn(&RelayCounters) -> &AtomicU64| {
            let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
            for (site, counters) in &rows {
                *sums.entry(site).or_default() += of(counters).load(Relaxed);
            }
            sums
        };
        let help = "Clients' connections to a site whose data may not be here, by what became of them.";
        let mut family = page.family("meridian_relayed_total", Kind::Counter, help);
        type Of = fn(&RelayCounters) -> &AtomicU64;
        let outcomes: [(&str, Of); 3] =
            [("relayed", |it| &it.relayed), ("failed", |it| &it.failed), ("limited", |it| &it.limited)];
        for (outcome, of) in outcomes {
            for (site, count) in sum(of) {
                family.count(&[("site", site), ("outcome", outcome)], count);
            }
        }
        let help = "Sealed bytes that were passed on, by where they came from.";
        let mut family = page.family("meridian_relayed_bytes_total", Kind::Counter, help);
        let directions: [(&str, Of); 2] = [("client", |it| &it.in_bytes), ("node", |it| &it.out_bytes)];
        for (from, of) in directions {
            for (site, count) in sum(of) {
                family.count(&[("site", site), ("from", from)], count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_and_each_is_given_back() {
        let relays = Arc::new(Relays::default());
        let first = relays.place(2);
        let second = relays.place(2);
        assert!(first.is_some() && second.is_some() && relays.place(2).is_none());
        drop(first);
        assert!(relays.place(2).is_some());
    }
}
