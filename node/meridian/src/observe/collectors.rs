//! Families of the metrics page that are read from other parts when the page is asked for.

use std::sync::Arc;

use arc_swap::ArcSwap;
use region_config::Config;
use rules::health::{Fleet, NodeState, RegionState};
use store::objects::{Objects, Refusal, TenantUsage, Usage};

use super::{
    Collector,
    exposition::{Exposition, Kind},
};
use crate::dns;

const REGION_STATES: [RegionState; 5] =
    [RegionState::Up, RegionState::Degraded, RegionState::Draining, RegionState::Unknown, RegionState::Down];

/// The fleet's health: a region's state is 1 in the series of that state, and 0 in the others.
#[must_use]
pub fn fleet(config: Arc<ArcSwap<Config>>, fleet: Arc<ArcSwap<Fleet>>) -> Collector {
    Box::new(move |page| {
        let (config, fleet) = (config.load(), fleet.load());
        page.single("meridian_epoch", Kind::Gauge, "Counts the changes of verdict on this node.", fleet.epoch as f64);
        let minority = f64::from(u8::from(fleet.minority));
        page.single("meridian_minority", Kind::Gauge, "Whether this node sees too few regions to judge.", minority);
        let mut family = page.family("meridian_region_state", Kind::Gauge, "The verdict on each region.");
        for (region, view) in config.regions.iter().zip(&fleet.regions) {
            for state in REGION_STATES {
                let labels = [("region", region.name.as_str()), ("state", state.as_str())];
                family.sample(&labels, f64::from(u8::from(state == view.state)));
            }
        }
        nodes(page, &config, &fleet);
    })
}

fn nodes(page: &mut Exposition, config: &Config, fleet: &Fleet) {
    let views = config.regions.iter().zip(&fleet.regions);
    let views = views.flat_map(|(region, view)| view.nodes.iter().map(|node| (region.name.as_str(), node)));
    let mut family = page.family("meridian_peer_up", Kind::Gauge, "Whether each node answers this one's probes.");
    for (region, node) in views.clone() {
        let up = f64::from(u8::from(node.state == NodeState::Up));
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
