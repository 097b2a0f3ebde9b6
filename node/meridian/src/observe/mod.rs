//! What this node tells about itself: counters per site, the metrics page, the access log. The only module that writes
//! about requests.
//!
//! - [`SiteCounters`] are noted on the hit path, at a few ns; whoever handles a site keeps its `Arc`.
//! - [`Observe`] keeps them all, reads them once a second for the rates, and renders the Prometheus page.
//! - [`Trails`] keeps the steps of requests that show a debug token, for some minutes.
//! - [`AccessLog`] takes one line a request, and only with a `Permit`.
//!
//! Counters hold no path, address, tag or header: they are all that may leave a jurisdiction.

mod access_log;
pub mod collectors;
mod counters;
mod exposition;
mod histogram;
mod json;
pub mod ledgers;
pub mod process;
mod rate;
mod reason;
mod relays;
mod sites;
mod tally;
mod threads;
pub mod trail;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use region_config::{Config, NodeId, RegionId, SiteId};

pub(crate) use self::histogram::Histogram;
pub use self::{
    access_log::{AccessLog, Line},
    counters::{Outcome, SiteCounters, Totals, hit_ratio},
    exposition::{Exposition, Family, Kind},
    histogram::Durations,
    rate::Rate,
    relays::{Place, RelayCounters, Relays},
    tally::Tally,
    trail::{Told, Trail, Trails},
};
use self::{rate::Recent, sites::write_sites};
use crate::{clock, tasks::Tasks};

/// Writes further families to the metrics page: registered by the parts that have numbers of their own.
pub type Collector = Box<dyn Fn(&mut Exposition) + Send + Sync>;

const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// All counters of this node.
pub struct Observe {
    node: NodeId,
    region: RegionId,
    started_unix_ms: u64,
    /// The sites in the order in which they came, which decides who has series of its own on the metrics page.
    sites: RwLock<BTreeMap<SiteId, Watched>>,
    strays: Arc<SiteCounters>,
    collectors: RwLock<Vec<Collector>>,
    access_log: Option<Arc<AccessLog>>,
    trails: Trails,
    relays: Arc<Relays>,
}

/// A site's counters with what is remembered of them.
struct Watched {
    order: usize,
    counters: Arc<SiteCounters>,
    recent: Recent,
}

/// A site's counters as read at one moment, with its recent rate.
#[derive(Debug, Clone)]
pub struct SiteView {
    /// Its name.
    pub site: SiteId,
    /// Everything since the process started.
    pub totals: Totals,
    /// Means over the last 10 s.
    pub rate: Rate,
}

impl Observe {
    /// Counters for the sites of `config`, all zero.
    #[must_use]
    pub fn new(config: &Config, access_log: Option<Arc<AccessLog>>) -> Arc<Self> {
        let observe = Self {
            node: config.node.name.clone(),
            region: config.node.region.clone(),
            started_unix_ms: clock::unix_ms(),
            sites: RwLock::default(),
            strays: Arc::default(),
            collectors: RwLock::default(),
            access_log,
            trails: Trails::default(),
            relays: Arc::default(),
        };
        for site in &config.sites {
            // made now, so that the order of the config decides who has series of its own
            let _ = observe.site(&site.name);
        }
        Arc::new(observe)
    }

    /// Starts the reading of the counters once a second that the rates are made of.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let observe = Arc::clone(self);
        tasks.spawn_until_stopped("observe-rates", async move {
            let mut ticks = tokio::time::interval(SAMPLE_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                observe.sample(clock::monotonic_ms());
            }
        });
    }

    /// A site's counters, made if it has none yet. For load time: the result is kept by who counts.
    #[must_use]
    pub fn site(&self, site: &SiteId) -> Arc<SiteCounters> {
        let mut sites = self.sites.write();
        let order = sites.len();
        let watched = sites.entry(site.clone()).or_insert_with(|| Watched {
            order,
            counters: Arc::default(),
            recent: Recent::default(),
        });
        Arc::clone(&watched.counters)
    }

    /// The counters of requests that belong to no site: malformed, or for an unknown host.
    #[must_use]
    pub fn strays(&self) -> &Arc<SiteCounters> {
        &self.strays
    }

    /// The access log, if there is one.
    #[must_use]
    pub fn access_log(&self) -> Option<&Arc<AccessLog>> {
        self.access_log.as_ref()
    }

    /// Debug tokens, and the trails of requests that show one.
    #[must_use]
    pub fn trails(&self) -> &Trails {
        &self.trails
    }

    /// What is counted of connections that are passed on between nodes.
    #[must_use]
    pub fn relays(&self) -> &Arc<Relays> {
        &self.relays
    }

    /// Adds a part's own families to the metrics page. It is called when the page is asked for, and must not wait.
    pub fn register(&self, collector: Collector) {
        self.collectors.write().push(collector);
    }

    /// Reads all counters for the rates, and drops trails that are old. `now_ms` is monotonic.
    pub fn sample(&self, now_ms: u64) {
        for watched in self.sites.write().values_mut() {
            let totals = watched.counters.totals();
            watched.recent.note(now_ms, &totals);
        }
        self.trails.sweep(now_ms);
    }

    /// What the counters of all sites say now, by name.
    #[must_use]
    pub fn views(&self) -> Vec<SiteView> {
        let sites = self.sites.read();
        let view = |(site, watched): (&SiteId, &Watched)| SiteView {
            site: site.clone(),
            totals: watched.counters.totals(),
            rate: watched.recent.rate(),
        };
        sites.iter().map(view).collect()
    }

    /// The metrics page, in the Prometheus text format (content type [`CONTENT_TYPE`]).
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = Exposition::default();
        self.write_node(&mut page);
        let mut sites: Vec<_> =
            self.sites.read().iter().map(|(name, w)| (w.order, name.clone(), Arc::clone(&w.counters))).collect();
        sites.sort_by_key(|(order, ..)| *order);
        let sites: Vec<_> = sites.into_iter().map(|(_, name, counters)| (name, counters.totals())).collect();
        write_sites(&mut page, &sites, &self.strays.totals());
        self.relays.write(&mut page);
        for collector in self.collectors.read().iter() {
            collector(&mut page);
        }
        page.into_text()
    }

    fn write_node(&self, page: &mut Exposition) {
        let info =
            [("node", self.node.as_str()), ("region", self.region.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
        page.family("meridian_node_info", Kind::Gauge, "Who this node is.").sample(&info, 1.0);
        let started = self.started_unix_ms as f64 / 1000.0;
        page.single("process_start_time_seconds", Kind::Gauge, "When the process started.", started);
        if let Some(bytes) = process::resident_bytes() {
            page.single("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", bytes as f64);
        }
        if let Some(files) = process::open_files() {
            page.single("process_open_fds", Kind::Gauge, "Open file descriptors.", files as f64);
        }
        if let Some(log) = &self.access_log {
            let help = "Lines of the access log, by what became of them.";
            let mut family = page.family("meridian_access_log_lines_total", Kind::Counter, help);
            family.count(&[("result", "written")], log.written());
            family.count(&[("result", "dropped")], log.dropped());
        }
    }
}

/// The content type of [`Observe::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::{JurisdictionId, NodeConfig, Site, TenantId};
    use rules::residency::Permit;

    use super::*;

    pub(crate) fn site(name: &str) -> Site {
        Site {
            name: SiteId::parse(name).unwrap(),
            tenant: TenantId::parse("acme").unwrap(),
            hosts: vec![region_config::HostPattern::Exact(format!("{name}.example"))],
            pin: None,
            origins: Vec::new(),
            routes: Vec::new(),
            tls: None,
            dns_ttl_s: 30,
            steering: region_config::SiteSteering::default(),
            https_port: 443,
            purge_by_response: false,
            misrouted_to: None,
            misrouted_tls: region_config::MisroutedTls::Refuse,
            cache_status: region_config::StatusFor::All,
            failover_on: Vec::new(),
        }
    }

    pub(crate) fn permit() -> Permit {
        rules::residency::permit(&site("shop"), &JurisdictionId::parse("eu").unwrap()).unwrap()
    }

    pub(crate) fn config(sites: Vec<Site>) -> Config {
        Config {
            node: NodeConfig {
                name: NodeId::parse("n1").unwrap(),
                region: RegionId::parse("here").unwrap(),
                state_dir: std::path::PathBuf::new(),
                http: Vec::new(),
                https: Vec::new(),
                dns: Vec::new(),
                dns_terms: region_config::DnsTerms::default(),
                admin: None,
                peer: None,
                identity: None,
                workers: 1,
                memory_bytes: 0,
                disk_bytes: 0,
                geo: region_config::Geo::default(),
                access_log: None,
                purge: None,
                resolvers: Vec::new(),
                limits: region_config::Limits::default(),
            },
            jurisdictions: Vec::new(),
            regions: Vec::new(),
            zones: Vec::new(),
            tenants: Vec::new(),
            sites: sites.into_iter().map(Arc::new).collect(),
            tokens: Vec::new(),
            witnesses: Vec::new(),
            streams: Vec::new(),
            fingerprint: [0; 32],
        }
    }

    #[test]
    fn the_page_shows_what_was_counted_and_what_parts_registered() {
        let observe = Observe::new(&config(vec![site("shop")]), None);
        observe.site(&SiteId::parse("shop").unwrap()).note(Outcome::Hit, None, 100, 40);
        observe.strays().note(Outcome::Refused, None, 0, 1);
        observe.register(Box::new(|page| page.single("meridian_extra", Kind::Gauge, "Extra.", 7.0)));
        let page = observe.render();
        for expected in [
            "meridian_node_info{node=\"n1\",region=\"here\",version=\"0.1.0\"} 1",
            "meridian_requests_total{site=\"shop\",outcome=\"hit\"} 1",
            "meridian_requests_total{site=\"-\",outcome=\"refused\"} 1",
            "meridian_response_bytes_total{site=\"shop\"} 100",
            "meridian_request_duration_seconds_bucket{site=\"shop\",le=\"0.000064\"} 1",
            "meridian_request_duration_seconds_count{site=\"shop\"} 1",
            "meridian_extra 7",
        ] {
            assert!(page.lines().any(|line| line == expected), "{expected}\n{page}");
        }
    }

    #[test]
    fn the_rate_is_the_mean_of_the_last_ten_seconds() {
        let observe = Observe::new(&config(vec![site("shop")]), None);
        let counters = observe.site(&SiteId::parse("shop").unwrap());
        for second in 0..30 {
            observe.sample(second * 1000);
            (0..if second < 15 { 1000 } else { 50 }).for_each(|_| counters.note(Outcome::Hit, None, 2, 1));
        }
        observe.sample(30_000);
        let view = observe.views().remove(0);
        assert!((view.rate.requests_per_s - 50.0).abs() < 0.001, "{:?}", view.rate);
        assert_eq!(view.rate.hit_ratio, Some(1.0));
    }
}
