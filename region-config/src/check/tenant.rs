//! Tenants: what they may use of a node's cache.

use std::collections::BTreeSet;

use super::{unique, unknown};
use crate::{
    build,
    config::Portion,
    fault::Gatherer,
    shape::At,
    written::{Root, TenantSection},
};

/// A tier, as the tables name it.
struct Tier {
    noun: &'static str,
    bytes: u64,
    floor: fn(&TenantSection) -> Option<&At<Portion>>,
    max: fn(&TenantSection) -> Option<&At<Portion>>,
}

pub(super) fn check(root: &Root, gatherer: &mut Gatherer) {
    unique(root.tenants.iter().filter_map(|it| it.value.name.as_ref()), "tenant", "", gatherer);
    names(root, gatherer);
    let cache = root.cache.as_ref().map(|it| &it.value);
    let tiers = [
        Tier {
            noun: "memory",
            bytes: cache.and_then(|it| it.memory.as_ref()).map_or(build::MEMORY_BYTES, |it| it.value.0),
            floor: |it| it.memory_floor.as_ref(),
            max: |it| it.memory_max.as_ref(),
        },
        Tier {
            noun: "disk",
            bytes: cache.and_then(|it| it.disk.as_ref()).map_or(0, |it| it.value.0),
            floor: |it| it.disk_floor.as_ref(),
            max: |it| it.disk_max.as_ref(),
        },
    ];
    // a node without a disk may share its tables with nodes that have one
    for tier in tiers.iter().filter(|tier| tier.bytes > 0) {
        quotas(root, tier, gatherer);
    }
}

/// A tenant is one that a site names.
fn names(root: &Root, gatherer: &mut Gatherer) {
    let sites =
        root.sites.iter().map(|it| it.value.tenant.as_ref().map_or(build::DEFAULT_TENANT, |it| it.value.as_str()));
    let known: BTreeSet<&str> = sites.collect();
    for name in root.tenants.iter().filter_map(|it| it.value.name.as_ref()) {
        if !known.contains(name.value.as_str()) {
            unknown(name, "tenant", "", known.iter().copied(), gatherer);
        }
    }
}

fn quotas(root: &Root, tier: &Tier, gatherer: &mut Gatherer) {
    let Tier { noun, bytes, .. } = tier;
    let mut sum: u64 = 0;
    for section in root.tenants.iter().map(|it| &it.value) {
        let about = section.name.as_ref().map_or_else(String::new, |it| format!("tenant `{}`", it.value));
        let (floor, max) = ((tier.floor)(section), (tier.max)(section));
        let Some(floor) = floor else { continue };
        let floor_bytes = floor.value.of(*bytes);
        if let Some(max) = max.filter(|max| max.value.of(*bytes) < floor_bytes) {
            let found = format!("`{noun}_max` is less than `{noun}_floor`");
            gatherer.error(max.place, &about, found, "at least the floor");
        }
        let before = sum;
        sum = sum.saturating_add(floor_bytes);
        if before <= *bytes && sum > *bytes {
            let found = format!(
                "with this `{noun}_floor`, the floors are more than the {noun} of the cache: {sum} of {bytes} bytes"
            );
            gatherer.error(floor.place, &about, found, "floors that the cache has room for");
        }
    }
}
