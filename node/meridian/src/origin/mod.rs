//! The side towards origins: which one is asked, over which connection, for how long, and what may come back.
//!
//! ```text
//! Origins::send ── SiteOrigins ── Upstream ── Guard (may it be asked now)
//!                  (which one)       │
//!                                    ├── Pool ── Connector (address, race, TLS)
//!                                    │
//!                       Outgoing (request, upload) ... head (checks) ── OriginBody
//! ```
//!
//! Promises:
//! - What goes up is well formed whatever came in; a client's body that breaks off breaks the request off.
//! - What comes back is whole or an error; framing that is ambiguous is refused ([`OriginError::Malformed`]).
//! - No request outlives its `total_ms`, waiting, connecting and trying again included.
//! - A request is sent a second time only if not a byte of it was written, or if it is idempotent and empty, and then
//!   once: for nothing if it died with a kept connection within a second, else out of a budget of a tenth of all. A
//!   response is never asked for again because of its status, but where the site says so and of another origin.
//! - An origin that fails is left alone but for one request in an interval, one that gets slower is asked less at a time,
//!   and one site's fetches never take all that the node has.
//! - Open connections to an origin never exceed its `connections_max`; waiting is bounded in number and time.
//!   (Active health checks are beside that number: one at a time.)
//! - Addresses that no origin may have are never connected to ([`forbidden`]). Loopback and private ones are the
//!   operator's right: origins are named in the operator's configuration only, never by a request, and redirects
//!   are passed on, not followed.

mod address;
mod body;
mod check;
mod connect;
mod error;
mod figures;
mod guard;
mod head;
mod outgoing;
mod pool;
mod race;
mod resolver;
mod secret;
mod site;
#[cfg(test)]
mod tests;
mod upstream;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use arc_swap::ArcSwap;
use region_config::{Config, JurisdictionId, Origin, Site, SiteId};
use rules::residency::{self, Permit};
use tokio::runtime::Handle;

pub use self::{
    address::forbidden,
    body::OriginBody,
    error::{AuthorityFault, OriginError, OriginFault},
    figures::OriginCounts,
    guard::OriginState,
    head::HeadFault,
    outgoing::{BoxError, RequestBody, empty_body},
};
use self::{outgoing::Outgoing, resolver::Resolvers, site::SiteOrigins, upstream::Upstream};
use crate::{clock, tasks::Tasks};

/// Time between two looks for connections that have been idle for too long.
const SWEEP: Duration = Duration::from_secs(1);

/// All origins of all sites.
#[derive(Debug)]
pub struct Origins {
    sites: Arc<ArcSwap<Sites>>,
    /// Fetches of all sites that are under way.
    busy: Arc<AtomicUsize>,
    surroundings: Surroundings,
    runtime: Handle,
}

/// What origins are made with.
#[derive(Debug)]
struct Surroundings {
    /// The jurisdiction that this node is certified for: origins of sites that are pinned elsewhere are left alone.
    here: JurisdictionId,
    resolvers: Resolvers,
    tasks: Tasks,
}

type Sites = BTreeMap<SiteId, Arc<SiteOrigins>>;

/// A response, with who gave it and when: the times that RFC 9111 section 4.2.3 calculates ages from.
#[derive(Debug)]
pub struct Answer {
    /// The response: its head is checked, its framing fields are unambiguous, its body is still to come.
    pub response: http::Response<OriginBody>,
    /// The origin's name.
    pub origin: Arc<str>,
    /// When the request was sent, in ms since the Unix epoch.
    pub request_unix_ms: u64,
    /// When the response's head was there, in ms since the Unix epoch.
    pub response_unix_ms: u64,
}

/// What an operator sees of an origin.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct OriginView {
    /// Its name, unique in the site.
    pub name: String,
    /// Whether it is asked.
    pub state: OriginState,
    /// Its breaker: `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    /// So many requests at a time may wait for its answer now.
    pub limit: usize,
    /// The time that it takes for an answer, in us; none before the first.
    pub latency_us: Option<f64>,
    /// Requests it is busy with.
    pub in_flight: usize,
    /// Connections open or being opened.
    pub connections: usize,
    /// Failures since it was configured.
    pub failures: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

impl Origins {
    /// Gets all origins of sites that a node certified for `here` may serve ready and starts to look after them, on the
    /// current runtime.
    ///
    /// # Errors
    /// [`OriginFault`]; a fault of one origin (such as its CA file) is not one: it shows in that origin's
    /// [`OriginView::last_error`], and only its requests fail.
    pub fn start(config: &Config, here: &JurisdictionId, tasks: Tasks) -> Result<Arc<Self>, OriginFault> {
        let runtime = Handle::try_current()?;
        let resolvers = Resolvers::new(&config.node.resolvers);
        let surroundings = Surroundings { here: here.clone(), resolvers, tasks };
        let sites = Arc::new(ArcSwap::from_pointee(build(config, &surroundings, &Sites::new())?));
        let swept = Arc::clone(&sites);
        let stopping = surroundings.tasks.stopping();
        surroundings.tasks.spawn("origin-sweep", async move {
            while !stopping.is_cancelled() {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = tokio::time::sleep(SWEEP) => {}
                }
                let now_ms = clock::monotonic_ms();
                each(&swept.load(), |upstream| upstream.sweep(now_ms));
            }
            each(&swept.load(), |upstream| upstream.pool.close());
        });
        Ok(Arc::new(Self { sites, busy: Arc::default(), surroundings, runtime }))
    }

    /// Takes over a new configuration. Origins that are as they were keep their connections and health; requests
    /// under way end as they began. After a fault the old configuration stays.
    ///
    /// # Errors
    /// [`OriginFault::Tls`].
    pub fn replace(&self, config: &Config) -> Result<(), OriginFault> {
        let _runtime = self.runtime.enter();
        let sites = build(config, &self.surroundings, &self.sites.load())?;
        self.sites.store(Arc::new(sites));
        Ok(())
    }

    /// Sends a request to one of the site's origins and waits for the response's head.
    ///
    /// The caller has stripped hop-by-hop fields. Host comes from the origin's configuration, or is the client's.
    ///
    /// # Errors
    /// [`OriginError`]; errors of the body come later, from [`OriginBody`].
    pub async fn send(
        &self,
        site: &SiteId,
        request: http::Request<RequestBody>,
        permit: &Permit,
    ) -> Result<Answer, OriginError> {
        if permit.site() != site {
            return Err(OriginError::NotPermitted);
        }
        let site = self.sites.load().get(site).cloned().ok_or(OriginError::NoHealthyOrigin)?;
        site.send(Outgoing::parse(request)?, &self.busy).await
    }

    /// The origins of a site, in the order they were configured; empty for an unknown site.
    #[must_use]
    pub fn health(&self, site: &SiteId) -> Vec<OriginView> {
        let sites = self.sites.load();
        sites.get(site).map(|site| site.origins.iter().map(|upstream| upstream.view()).collect()).unwrap_or_default()
    }

    /// Each site's fetches that are under way.
    #[must_use]
    pub fn busy(&self) -> Vec<(SiteId, usize)> {
        self.sites.load().iter().map(|(name, site)| (name.clone(), site.busy())).collect()
    }

    /// All origins, by site and in the order they were configured, with their counters.
    #[must_use]
    pub fn views(&self) -> Vec<(SiteId, OriginView, OriginCounts)> {
        let sites = self.sites.load();
        let all = sites.iter().flat_map(|(name, site)| site.origins.iter().map(move |origin| (name, origin)));
        all.map(|(site, upstream)| (site.clone(), upstream.view(), upstream.counts())).collect()
    }

    /// The counters of all origins: site, name, counts.
    #[must_use]
    pub fn counts(&self) -> Vec<(SiteId, Arc<str>, OriginCounts)> {
        let sites = self.sites.load();
        let all = sites.iter().flat_map(|(name, site)| site.origins.iter().map(move |origin| (name, origin)));
        all.map(|(site, upstream)| (site.clone(), Arc::clone(&upstream.name), upstream.counts())).collect()
    }
}

/// What is wrong with the files that are named for an origin: with any of it, its requests fail.
pub(crate) fn file_faults(origin: &Origin) -> Vec<String> {
    let tls = if origin.tls { connect::file_fault(origin) } else { None };
    let secret = secret::Secret::load(origin.secret.as_ref());
    tls.into_iter().chain(secret.fault().map(str::to_owned)).collect()
}

/// Makes the origins of a configuration, taking over from `before` what is unchanged.
fn build(config: &Config, surroundings: &Surroundings, before: &Sites) -> Result<Sites, OriginFault> {
    let mut sites = Sites::new();
    for site in config.sites.iter().filter(|site| residency::permit(site, &surroundings.here).is_ok()) {
        let old = before.get(&site.name).map(AsRef::as_ref);
        let origins = origins_of(site, surroundings, old)?;
        sites.insert(site.name.clone(), Arc::new(SiteOrigins::new(site, origins, old)));
    }
    Ok(sites)
}

fn origins_of(
    site: &Site,
    surroundings: &Surroundings,
    before: Option<&SiteOrigins>,
) -> Result<Vec<Arc<Upstream>>, OriginFault> {
    let old = before.map_or(&[][..], |before| &before.origins);
    let mut origins = Vec::with_capacity(site.origins.len());
    for origin in &site.origins {
        if let Some(kept) = old.iter().find(|old| unchanged(&old.config, origin)) {
            origins.push(Arc::clone(kept));
            continue;
        }
        let new = Upstream::start(&site.name, origin, &surroundings.resolvers, &surroundings.tasks)?;
        if !old.is_empty() {
            new.guard.joined();
        }
        origins.push(new);
    }
    Ok(origins)
}

/// Whether an origin is as it was. One with files of its own never is: they may have changed.
fn unchanged(old: &Origin, new: &Origin) -> bool {
    let place = |o: &Origin| (o.name.clone(), o.tls, o.host.clone(), o.port, o.host_header.clone());
    let manner = |o: &Origin| (o.protocol, o.deadlines, o.connections_max, o.health.clone());
    let care = |o: &Origin| (o.weight, o.priority, o.breaker_percent, o.concurrency_max, o.fetches_per_second);
    let same = place(old) == place(new) && manner(old) == manner(new) && care(old) == care(new);
    let from_files = |o: &Origin| o.ca.is_some() || o.identity.is_some() || o.secret.is_some();
    same && !from_files(old) && !from_files(new)
}

fn each(sites: &Sites, act: impl Fn(&Upstream)) {
    for site in sites.values() {
        site.origins.iter().for_each(|upstream| act(upstream));
    }
}
