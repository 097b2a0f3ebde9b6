//! The side towards origins: which one is asked, over which connection, for how long, and what may come back.
//!
//! ```text
//! Origins::send ── choose (health) ── Upstream ── Pool ── Connector (address, TLS)
//!                                        │
//!                       Outgoing (request, upload) ... head (checks) ── OriginBody
//! ```
//!
//! Promises:
//! - What goes up is well formed whatever came in; a client's body that breaks off breaks the request off.
//! - What comes back is whole or an error; framing that is ambiguous is refused ([`OriginError::Malformed`]).
//! - No request outlives its `total_ms`, waiting, connecting and trying again included.
//! - A request is sent a second time only if not a byte of it was written, or if it is idempotent, empty, and died
//!   with a kept connection within a second. A response is never asked for again because of its status.
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
mod head;
mod health;
mod outgoing;
mod pool;
#[cfg(test)]
mod tests;
mod upstream;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use region_config::{Config, Origin, Site, SiteId};
use rules::residency::Permit;
use tokio::{runtime::Handle, time::Instant};

pub use self::{
    address::forbidden,
    body::OriginBody,
    error::{AuthorityFault, OriginError, OriginFault},
    figures::OriginCounts,
    head::HeadFault,
    health::OriginState,
    outgoing::{BoxError, RequestBody, empty_body},
};
use self::{health::Candidate, outgoing::Outgoing, upstream::Upstream};
use crate::{clock, tasks::Tasks};

/// Most origins that one request is tried on.
const ORIGINS_TRIED_MAX: usize = 3;

/// Time between two looks for connections that have been idle for too long.
const SWEEP: Duration = Duration::from_secs(1);

/// All origins of all sites.
#[derive(Debug)]
pub struct Origins {
    sites: Arc<ArcSwap<Sites>>,
    tasks: Tasks,
    runtime: Handle,
}

type Sites = BTreeMap<SiteId, Arc<SiteOrigins>>;

/// The origins of one site.
#[derive(Debug)]
struct SiteOrigins {
    origins: Vec<Arc<Upstream>>,
    /// Counts choices; chance is drawn from it.
    choices: AtomicU64,
}

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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OriginView {
    /// Its name, unique in the site.
    pub name: String,
    /// Whether it is asked.
    pub state: OriginState,
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
    /// Gets all origins ready and starts to look after them, on the current runtime.
    ///
    /// # Errors
    /// [`OriginFault`]; a fault of one origin (such as its CA file) is not one: it shows in that origin's
    /// [`OriginView::last_error`], and only its requests fail.
    pub fn start(config: &Config, tasks: Tasks) -> Result<Arc<Self>, OriginFault> {
        let runtime = Handle::try_current()?;
        let sites = Arc::new(ArcSwap::from_pointee(build(config, &tasks, &Sites::new())?));
        let swept = Arc::clone(&sites);
        let stopping = tasks.stopping();
        tasks.spawn("origin-sweep", async move {
            while !stopping.is_cancelled() {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = tokio::time::sleep(SWEEP) => {}
                }
                let now_ms = clock::monotonic_ms();
                each(&swept.load(), |upstream| upstream.pool.sweep(now_ms));
            }
            each(&swept.load(), |upstream| upstream.pool.close());
        });
        Ok(Arc::new(Self { sites, tasks, runtime }))
    }

    /// Takes over a new configuration. Origins that are as they were keep their connections and health; requests
    /// under way end as they began. After a fault the old configuration stays.
    ///
    /// # Errors
    /// [`OriginFault::Tls`].
    pub fn replace(&self, config: &Config) -> Result<(), OriginFault> {
        let _runtime = self.runtime.enter();
        let sites = build(config, &self.tasks, &self.sites.load())?;
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
        let started = Instant::from_std(clock::instant());
        let mut out = Outgoing::parse(request)?;
        let mut tried: Vec<usize> = Vec::new();
        loop {
            let (index, upstream) = site.choose(&tried).ok_or(OriginError::NoHealthyOrigin)?;
            let error = match Box::pin(upstream.send(&mut out, started)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            tried.push(index);
            let others = tried.len() < site.origins.len().min(ORIGINS_TRIED_MAX);
            if !others || !error.before_sending() {
                return Err(error);
            }
        }
    }

    /// The origins of a site, in the order they were configured; empty for an unknown site.
    #[must_use]
    pub fn health(&self, site: &SiteId) -> Vec<OriginView> {
        let sites = self.sites.load();
        sites.get(site).map(|site| site.origins.iter().map(|upstream| upstream.view()).collect()).unwrap_or_default()
    }

    /// The counters of all origins: site, name, counts.
    #[must_use]
    pub fn counts(&self) -> Vec<(SiteId, Arc<str>, OriginCounts)> {
        let sites = self.sites.load();
        let all = sites.iter().flat_map(|(name, site)| site.origins.iter().map(move |origin| (name, origin)));
        all.map(|(site, upstream)| (site.clone(), Arc::clone(&upstream.name), upstream.counts())).collect()
    }
}

impl SiteOrigins {
    /// The origin to ask next, among those not tried yet.
    fn choose(&self, tried: &[usize]) -> Option<(usize, &Arc<Upstream>)> {
        if let ([only], []) = (self.origins.as_slice(), tried) {
            return Some((0, only));
        }
        let now_ms = clock::monotonic_ms();
        let candidates: Vec<_> = self.origins.iter().enumerate().filter(|(index, _)| !tried.contains(index)).collect();
        let candidates: Vec<_> = candidates
            .into_iter()
            .map(|(index, upstream)| Candidate {
                index,
                in_flight: upstream.in_flight(),
                offered: upstream.health.offered(now_ms),
            })
            .collect();
        let chance = health::spread(self.choices.fetch_add(1, Ordering::Relaxed));
        let index = health::choose(&candidates, chance)?;
        let upstream = self.origins.get(index)?;
        upstream.health.chosen(now_ms);
        Some((index, upstream))
    }
}

/// Makes the origins of a configuration, taking over from `before` what is unchanged.
fn build(config: &Config, tasks: &Tasks, before: &Sites) -> Result<Sites, OriginFault> {
    let mut sites = Sites::new();
    for site in &config.sites {
        let old = before.get(&site.name);
        let origins = origins_of(site, tasks, old.map_or(&[], |old| &old.origins))?;
        sites.insert(site.name.clone(), Arc::new(SiteOrigins { origins, choices: AtomicU64::new(0) }));
    }
    Ok(sites)
}

fn origins_of(site: &Site, tasks: &Tasks, old: &[Arc<Upstream>]) -> Result<Vec<Arc<Upstream>>, OriginFault> {
    let mut origins = Vec::with_capacity(site.origins.len());
    for origin in &site.origins {
        let kept = old.iter().find(|old| unchanged(&old.config, origin));
        origins.push(match kept {
            Some(kept) => Arc::clone(kept),
            None => Upstream::start(&site.name, origin, tasks)?,
        });
    }
    Ok(origins)
}

/// Whether an origin is as it was. One with a CA file of its own never is: the file may have changed.
fn unchanged(old: &Origin, new: &Origin) -> bool {
    let place = |o: &Origin| (o.name.clone(), o.tls, o.host.clone(), o.port, o.host_header.clone());
    let manner = |o: &Origin| (o.protocol, o.deadlines, o.connections_max, o.health.clone());
    old.ca.is_none() && new.ca.is_none() && place(old) == place(new) && manner(old) == manner(new)
}

fn each(sites: &Sites, act: impl Fn(&Upstream)) {
    for site in sites.values() {
        site.origins.iter().for_each(|upstream| act(upstream));
    }
}
