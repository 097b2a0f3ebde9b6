//! Families of the metrics page that are read from other parts when the page is asked for.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use arc_swap::ArcSwap;
use region_config::SiteId;
use rules::health::{Fleet, RegionState};
use store::objects::{Objects, Refusal, TenantUsage, Usage};

use super::{
    Collector,
    exposition::{Exposition, Kind},
    sites::SITES_MAX,
};
use crate::{
    dns,
    geo::{Alarm, Wanted, Watch},
    ledger::Ledgers,
    load::{Load, RegionLoad},
    origin::{OriginCounts, OriginState, OriginView, Origins},
    sweep::Swept,
};

const REGION_STATES: [RegionState; 5] =
    [RegionState::Up, RegionState::Degraded, RegionState::Draining, RegionState::Unknown, RegionState::Down];

/// The fleet's health: a region's state is 1 in the series of that state, and 0 in the others.
#[must_use]
pub fn fleet(fleet: Arc<ArcSwap<Fleet>>) -> Collector {
    Box::new(move |page| {
        let fleet = fleet.load();
        page.single("meridian_epoch", Kind::Gauge, "Counts the changes of verdict on this node.", fleet.epoch as f64);
        let minority = f64::from(u8::from(fleet.minority));
        page.single("meridian_minority", Kind::Gauge, "Whether this node sees too few regions to judge.", minority);
        let mut family = page.family("meridian_region_state", Kind::Gauge, "The verdict on each region.");
        for view in &fleet.regions {
            for state in REGION_STATES {
                let labels = [("region", view.name.as_str()), ("state", state.as_str())];
                family.sample(&labels, f64::from(u8::from(state == view.state)));
            }
        }
        nodes(page, &fleet);
    })
}

/// What regions are asked for against what they bear, as this node knows it.
#[must_use]
pub fn load(load: Arc<Load>) -> Collector {
    type Gauge = (&'static str, &'static str, fn(&RegionLoad) -> Option<f64>);
    let gauges: [Gauge; 4] = [
        ("meridian_region_demand", "Requests in a second of the clients that the region is first for.", |load| {
            Some(load.demand)
        }),
        ("meridian_region_led", "Requests in a second of the clients that DNS leads to the region.", |load| {
            Some(load.led)
        }),
        ("meridian_region_capacity", "Requests in a second that the region bears.", |load| load.capacity),
        ("meridian_region_gives", "Whether DNS leads clients of the region on to others because of load.", |load| {
            Some(f64::from(u8::from(load.gives)))
        }),
    ];
    Box::new(move |page| {
        let loads = load.regions();
        for (name, help, value) in gauges {
            let mut family = page.family(name, Kind::Gauge, help);
            for load in loads.iter() {
                if let Some(value) = value(load) {
                    family.sample(&[("region", load.region.as_str())], value);
                }
            }
        }
    })
}

fn nodes(page: &mut Exposition, fleet: &Fleet) {
    let regions = fleet.regions.iter();
    let views = regions.flat_map(|region| region.nodes.iter().map(|node| (region.name.as_str(), node)));
    let mut family = page.family("meridian_peer_up", Kind::Gauge, "Whether each node answers this one's probes.");
    for (region, node) in views.clone() {
        let up = f64::from(u8::from(node.state.answers()));
        family.sample(&[("region", region), ("peer", node.name.as_str())], up);
    }
    let help = "Round trip of the last probe of each node.";
    let mut family = page.family("meridian_peer_rtt_seconds", Kind::Gauge, help);
    for (region, node) in views {
        if let Some(rtt_us) = node.rtt_us {
            family.sample(&[("region", region), ("peer", node.name.as_str())], f64::from(rtt_us) / 1e6);
        }
    }
}

/// Origins that have series of their own: those of the first sites by name. A bound on the page, not on origins.
const ORIGINS_MAX: usize = 500;

/// What is known of the origins, and what became of requests to them.
#[must_use]
pub fn origins(origins: Arc<Origins>) -> Collector {
    Box::new(move |page| {
        let help = "Fetches of each site that are under way.";
        let mut family = page.family("meridian_site_fetches", Kind::Gauge, help);
        for (site, busy) in origins.busy().into_iter().take(SITES_MAX) {
            family.count(&[("site", site.as_str())], busy as u64);
        }
        let mut views = origins.views();
        views.truncate(ORIGINS_MAX);
        origin_gauges(page, &views);
        origin_counters(page, &views);
    })
}

type OriginRow = (SiteId, OriginView, OriginCounts);

fn origin_gauges(page: &mut Exposition, views: &[OriginRow]) {
    type Gauge = (&'static str, &'static str, fn(&OriginView) -> f64);
    let gauges: [Gauge; 5] = [
        ("meridian_origin_up", "Whether the origin is asked.", |view| {
            f64::from(u8::from(view.state == OriginState::Up))
        }),
        ("meridian_origin_breaker_open", "Whether the origin's breaker is open or half-open.", |view| {
            f64::from(u8::from(view.breaker != "closed"))
        }),
        ("meridian_origin_limit", "Requests at a time that may wait for the origin's answer.", |view| {
            view.limit as f64
        }),
        ("meridian_origin_in_flight", "Requests that the origin is busy with.", |view| view.in_flight as f64),
        ("meridian_origin_connections", "Connections open to the origin.", |view| view.connections as f64),
    ];
    for (name, help, value) in gauges {
        let mut family = page.family(name, Kind::Gauge, help);
        for (site, view, _) in views {
            family.sample(&[("site", site.as_str()), ("origin", &view.name)], value(view));
        }
    }
    let mut family = page.family("meridian_origin_latency_seconds", Kind::Gauge, "Mean time to an answer's head.");
    for (site, view, _) in views {
        if let Some(micros) = view.latency_us {
            family.sample(&[("site", site.as_str()), ("origin", &view.name)], micros / 1e6);
        }
    }
}

fn origin_counters(page: &mut Exposition, views: &[OriginRow]) {
    type Counter = (&'static str, &'static str, fn(&OriginCounts) -> u64);
    let counters: [Counter; 5] = [
        ("meridian_origin_requests_total", "Requests given to the origin.", |counts| counts.requests),
        ("meridian_origin_retries_total", "Requests sent a second time, out of the site's budget.", |counts| {
            counts.budgeted_retries
        }),
        ("meridian_origin_replays_total", "Requests sent again since a kept connection had died.", |counts| {
            counts.retries
        }),
        ("meridian_origin_connections_opened_total", "Connections opened.", |counts| counts.connections_opened),
        ("meridian_origin_connections_reused_total", "Requests on a connection that had served one.", |counts| {
            counts.connections_reused
        }),
    ];
    for (name, help, value) in counters {
        let mut family = page.family(name, Kind::Counter, help);
        for (site, view, counts) in views {
            family.count(&[("site", site.as_str()), ("origin", &view.name)], value(counts));
        }
    }
    type ByCause = (&'static str, &'static str, fn(&OriginCounts) -> &[(&'static str, u64)]);
    let causes: [ByCause; 2] = [
        ("meridian_origin_failures_total", "Failures of the origin, by cause.", |counts| &counts.failures),
        ("meridian_origin_refused_total", "Requests that this node held back, by cause.", |counts| &counts.refused),
    ];
    for (name, help, causes) in causes {
        let mut family = page.family(name, Kind::Counter, help);
        for (site, view, counts) in views {
            for (cause, count) in causes(counts) {
                family.count(&[("site", site.as_str()), ("origin", &view.name), ("cause", cause)], *count);
            }
        }
    }
}

/// What became of DNS messages.
#[must_use]
pub fn dns(counters: Arc<dns::Counters>) -> Collector {
    Box::new(move |page| {
        let help = "DNS messages, by what became of them; tcp, client-subnet and truncated are counted beside.";
        let mut family = page.family("meridian_dns_messages_total", Kind::Counter, help);
        for (event, count) in counters.all() {
            family.count(&[("event", event.as_str())], count);
        }
    })
}

/// The geo database: whose data, how old, and what an operator should look at.
#[must_use]
pub fn geo(watch: Arc<Watch>) -> Collector {
    Box::new(move |page| {
        let Some(base) = watch.current() else { return };
        let purpose = Wanted::as_str;
        let help = "When the data of each geo database were put together.";
        let mut family = page.family("meridian_geo_built_timestamp_seconds", Kind::Gauge, help);
        for edition in base.editions() {
            family.sample(&[("database", purpose(edition.wanted))], edition.built_unix_s as f64);
        }
        let mut family = page.family("meridian_geo_networks", Kind::Gauge, "Networks of each geo database.");
        for edition in base.editions() {
            for (ip, count) in ["4", "6"].into_iter().zip(edition.networks) {
                family.sample(&[("database", purpose(edition.wanted)), ("ip", ip)], count as f64);
            }
        }
        let alarms = watch.alarms();
        let mut family = page.family("meridian_geo_alarm", Kind::Gauge, "What is wrong with the geo databases.");
        for word in Alarm::WORDS {
            let raised = alarms.iter().any(|alarm| alarm.as_str() == word);
            family.sample(&[("alarm", word)], f64::from(u8::from(raised)));
        }
        let help = "Other geo databases that were found while the node ran, by what became of them.";
        let mut family = page.family("meridian_geo_reloads_total", Kind::Counter, help);
        for (outcome, count) in watch.counts() {
            family.count(&[("outcome", outcome)], count);
        }
    })
}

/// What the store takes and has.
#[must_use]
pub fn store(objects: Objects) -> Collector {
    Box::new(move |page| {
        let usage = objects.usage();
        let help = "Bytes that stored entries take.";
        let mut family = page.family("meridian_store_bytes", Kind::Gauge, help);
        family.count(&[("tier", "memory")], usage.memory_bytes);
        family.count(&[("tier", "disk")], usage.disk_bytes);
        let help = "Bytes that stored entries may take.";
        let mut family = page.family("meridian_store_bytes_max", Kind::Gauge, help);
        family.count(&[("tier", "memory")], usage.memory_bytes_max);
        family.count(&[("tier", "disk")], usage.disk_bytes_max);
        let entries = usage.memory_entries as f64;
        page.single("meridian_store_memory_entries", Kind::Gauge, "Entries in memory.", entries);
        let help = "Look-ups on disk, by what became of them.";
        let mut family = page.family("meridian_store_disk_lookups_total", Kind::Counter, help);
        family.count(&[("result", "hit")], usage.disk_hits);
        family.count(&[("result", "error")], usage.disk_errors);
        disk(page, &usage);
        tenants(page, &objects.tenants());
    })
}

/// What sweeps let go, and how many purged keys are remembered.
#[must_use]
pub fn sweeps(swept: Arc<Swept>, ledgers: Arc<Ledgers>) -> Collector {
    Box::new(move |page| {
        let totals = [
            ("meridian_sweeps_total", "Passes over the memory that let go of what was purged.", &swept.passes),
            ("meridian_sweep_objects_total", "Objects that sweeps have looked at.", &swept.objects),
            ("meridian_sweep_freed_objects_total", "Purged objects that sweeps let go.", &swept.freed),
            ("meridian_sweep_freed_bytes_total", "Bytes of memory that these took.", &swept.freed_bytes),
            ("meridian_sweep_freed_on_disk_total", "Those that were on disk as well.", &swept.freed_on_disk),
        ];
        for (name, help, total) in totals {
            page.family(name, Kind::Counter, help).count(&[], total.load(Relaxed));
        }
        let last_s = swept.last_ms.load(Relaxed) as f64 / 1e3;
        page.single("meridian_sweep_last_seconds", Kind::Gauge, "How long the last pass took, rests included.", last_s);
        let mut family = page.family("meridian_purge_marks", Kind::Gauge, "Purged keys that are remembered.");
        for realm in ledgers.realms() {
            family.count(&[("realm", realm.name().as_str())], realm.standing().marks as u64);
        }
    })
}

/// How the disk tier is. Nothing of it where there is none.
fn disk(page: &mut Exposition, usage: &Usage) {
    let up = f64::from(u8::from(!usage.disk_resting));
    page.single("meridian_store_disk_up", Kind::Gauge, "0 while the disk cache is out of use because it failed.", up);
    let help = "How often the disk cache went out of use.";
    let mut family = page.family("meridian_store_disk_breaks_total", Kind::Counter, help);
    family.count(&[], usage.disk_breaks);
    let help = "Entries written to disk again, since they were asked for and about to be overwritten.";
    let mut family = page.family("meridian_store_disk_rewritten_total", Kind::Counter, help);
    family.count(&[], usage.disk_rewritten);
    let help = "Entries that were not written to disk, by cause: share, max, queue, away.";
    let mut family = page.family("meridian_store_disk_refused_total", Kind::Counter, help);
    for (refusal, count) in Refusal::ALL.into_iter().zip(usage.disk_refused) {
        family.count(&[("cause", refusal.as_str())], count);
    }
}

/// What tenants take of the store; at most 256 of them, and the others as one without a name.
fn tenants(page: &mut Exposition, tenants: &[TenantUsage]) {
    let name = |tenant: &TenantUsage| tenant.tenant.as_ref().map_or_else(String::new, ToString::to_string);
    let help = "Bytes of each tenant: in memory, and written of the last lap of the disk.";
    let mut family = page.family("meridian_store_tenant_bytes", Kind::Gauge, help);
    for tenant in tenants {
        let name = name(tenant);
        family.count(&[("tenant", &name), ("tier", "memory")], tenant.memory_bytes);
        family.count(&[("tenant", &name), ("tier", "disk")], tenant.disk_bytes);
    }
    let help = "Bytes of memory that nobody takes from the tenant.";
    let mut family = page.family("meridian_store_tenant_floor_bytes", Kind::Gauge, help);
    for tenant in tenants {
        family.count(&[("tenant", &name(tenant))], tenant.memory_floor);
    }
    let help = "Entries of each tenant that left memory to make room.";
    let mut family = page.family("meridian_store_evictions_total", Kind::Counter, help);
    for tenant in tenants {
        family.count(&[("tenant", &name(tenant))], tenant.evictions);
    }
    let help = "Entries of each tenant that memory had no place for.";
    let mut family = page.family("meridian_store_memory_refused_total", Kind::Counter, help);
    for tenant in tenants {
        family.count(&[("tenant", &name(tenant))], tenant.refusals);
    }
}
