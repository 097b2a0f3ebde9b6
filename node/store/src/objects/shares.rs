//! What each tenant may use of the store, and how an entry is known to be a tenant's.
//!
//! A tenant has a *slot*, a small number that stands for it as long as the process lives, and a *tag*, 32 bits made from
//! its name, which is written with each entry so that one that comes back from disk is its owner's again. Tenants beyond
//! the first [`SLOTS_MAX`] share slot 0, which has no floor.
//!
//! **Floors that nobody set.** One tenant alone needs none. Where there are several, half of what the set floors leave is
//! given out in equal floors to those without one: enough that no neighbour can empty a tenant's cache, and little enough
//! that the rest still goes to whoever makes use of it.

use std::collections::HashMap;

use region_config::{SiteId, TenantId};
use twox_hash::XxHash3_64;

use super::memory::{Bounds, Slot, UNBOUNDED};

/// Tenants that are told apart.
pub(super) const SLOTS_MAX: usize = 256;

/// What a tenant may write to disk, in bytes of a lap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DiskBounds {
    /// While it holds less than this, of what comes for the first time.
    pub(super) new: usize,
    /// The same for pieces of bodies. Each fetch names them anew, so that they never come a second time by name.
    pub(super) chunks: usize,
    /// At most.
    pub(super) max: usize,
}

/// Bounds on disk where nobody pushes anybody out.
pub(super) const FREE: DiskBounds = DiskBounds { new: usize::MAX, chunks: usize::MAX, max: usize::MAX };

/// What a tenant may use of one tier, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// What it surely has; the automatic floor if none is given.
    pub floor: Option<u64>,
    /// What it may have at most; everything if none is given.
    pub max: Option<u64>,
}

/// What a tenant may use of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its sites: entries stored under their permits are its.
    pub sites: Vec<SiteId>,
    /// Of the memory.
    pub memory: Quota,
    /// Of the disk.
    pub disk: Quota,
}

/// Who has which slot, and what the slots may use. Immutable; swapped whole.
#[derive(Debug)]
pub(super) struct Table {
    names: Vec<Option<TenantId>>,
    by_site: HashMap<SiteId, Slot>,
    by_tag: HashMap<u32, Slot>,
    pub(super) memory: Vec<Bounds>,
    pub(super) disk: Vec<DiskBounds>,
}

impl Table {
    /// Everything is everybody's.
    pub(super) fn empty() -> Self {
        Self {
            names: vec![None],
            by_site: HashMap::new(),
            by_tag: HashMap::new(),
            memory: vec![UNBOUNDED],
            disk: vec![FREE],
        }
    }

    /// The table for these shares; tenants that `self` knows keep their slots.
    pub(super) fn next(&self, shares: &[Share], memory_bytes: usize, disk_bytes: usize) -> Self {
        let mut names = self.names.clone();
        for share in shares {
            if names.len() < SLOTS_MAX && !names.contains(&Some(share.tenant.clone())) {
                names.push(Some(share.tenant.clone()));
            }
        }
        let slot_of = |tenant: &TenantId| {
            let at = names.iter().position(|name| name.as_ref() == Some(tenant));
            at.and_then(|at| Slot::try_from(at).ok()).unwrap_or(0)
        };
        let slots: Vec<(Slot, &Share)> = shares.iter().map(|share| (slot_of(&share.tenant), share)).collect();
        let by_site = slots.iter().flat_map(|(slot, share)| share.sites.iter().map(|site| (site.clone(), *slot)));
        let by_tag = slots.iter().map(|(slot, share)| (tag(&share.tenant), *slot));
        Self {
            by_site: by_site.collect(),
            by_tag: by_tag.collect(),
            memory: memory_bounds(&slots, names.len(), memory_bytes),
            disk: disk_bounds(&slots, names.len(), disk_bytes),
            names,
        }
    }

    pub(super) fn slot_of_site(&self, site: &SiteId) -> Slot {
        self.by_site.get(site).copied().unwrap_or(0)
    }

    pub(super) fn slot_of_tag(&self, tag: u32) -> Slot {
        self.by_tag.get(&tag).copied().unwrap_or(0)
    }

    /// 0 for those without a slot of their own.
    pub(super) fn tag_of(&self, slot: Slot) -> u32 {
        self.names.get(usize::from(slot)).and_then(Option::as_ref).map_or(0, tag)
    }

    /// The tenants with a slot of their own; none for slot 0.
    pub(super) fn names(&self) -> &[Option<TenantId>] {
        &self.names
    }
}

fn tag(tenant: &TenantId) -> u32 {
    let [a, b, c, d, ..] = XxHash3_64::oneshot(tenant.as_str().as_bytes()).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn bytes(quota: u64) -> usize {
    usize::try_from(quota).unwrap_or(usize::MAX)
}

/// The floors that were set, and what they leave. Floors that do not fit are made smaller together.
fn floors(slots: &[(Slot, &Share)], quota: fn(&Share) -> Quota, capacity: usize) -> (Vec<Option<usize>>, usize) {
    let set: Vec<Option<usize>> = slots.iter().map(|(_, share)| quota(share).floor.map(bytes)).collect();
    let sum = set.iter().flatten().fold(0_usize, |sum, floor| sum.saturating_add(*floor));
    if sum <= capacity {
        return (set, capacity - sum);
    }
    let scaled = |floor: usize| floor as u128 * capacity as u128 / (sum as u128).max(1);
    let scaled = |floor| usize::try_from(scaled(floor)).unwrap_or(capacity);
    (set.into_iter().map(|floor| floor.map(scaled)).collect(), 0)
}

fn memory_bounds(slots: &[(Slot, &Share)], count: usize, capacity: usize) -> Vec<Bounds> {
    let (set, left) = floors(slots, |share| share.memory, capacity);
    let without = set.iter().filter(|floor| floor.is_none()).count();
    let automatic = if slots.len() < 2 { 0 } else { left / 2 / without.max(1) };
    let mut bounds = vec![UNBOUNDED; count];
    for ((slot, share), floor) in slots.iter().zip(set) {
        let max = share.memory.max.map_or(usize::MAX, bytes);
        let floor = floor.unwrap_or(automatic).min(max);
        if let (true, Some(bounds)) = (*slot > 0, bounds.get_mut(usize::from(*slot))) {
            *bounds = Bounds { floor, max };
        }
    }
    bounds
}

/// What is new is written while a tenant holds less than its own floor and half of an equal part of the rest; pieces of
/// bodies, while it holds less than its floor and all of that part. A tenant alone has half of the disk for what is new:
/// where the log goes round, what comes once is not worth what it pushes out.
fn disk_bounds(slots: &[(Slot, &Share)], count: usize, capacity: usize) -> Vec<DiskBounds> {
    if slots.is_empty() {
        return vec![FREE; count];
    }
    let (set, left) = floors(slots, |share| share.disk, capacity);
    let part = left / slots.len();
    let bounds = |floor: usize, max: usize| DiskBounds {
        new: floor.saturating_add(part / 2).min(max),
        chunks: if slots.len() < 2 { max } else { floor.saturating_add(part).min(max) },
        max,
    };
    let mut all = vec![bounds(0, usize::MAX); count];
    for ((slot, share), floor) in slots.iter().zip(set) {
        let max = share.disk.max.map_or(usize::MAX, bytes);
        if let (true, Some(place)) = (*slot > 0, all.get_mut(usize::from(*slot))) {
            *place = bounds(floor.unwrap_or(0), max);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn share(tenant: &str, floor: Option<u64>) -> Share {
        let quota = Quota { floor, max: None };
        Share {
            tenant: TenantId::parse(tenant).unwrap(),
            sites: vec![SiteId::parse(tenant).unwrap()],
            memory: quota,
            disk: quota,
        }
    }

    fn floors_of(shares: &[Share]) -> Vec<usize> {
        let table = Table::empty().next(shares, 1000, 1000);
        table.memory.iter().map(|bounds| bounds.floor).collect()
    }

    #[test]
    fn floors_are_what_was_set_and_half_of_the_rest_in_equal_parts() {
        assert_eq!(floors_of(&[share("a", None)]), [0, 0], "one tenant alone needs none");
        assert_eq!(floors_of(&[share("a", None), share("b", None)]), [0, 250, 250]);
        assert_eq!(floors_of(&[share("a", Some(600)), share("b", None), share("c", None)]), [0, 600, 100, 100]);
        assert_eq!(floors_of(&[share("a", Some(1500)), share("b", Some(500))]), [0, 750, 250], "too much is made less");
    }

    #[test]
    fn tenants_keep_their_slots() {
        let one = Table::empty().next(&[share("a", None), share("b", None)], 1000, 1000);
        let two = one.next(&[share("c", None), share("b", None)], 1000, 1000);
        let site = |name: &str| SiteId::parse(name).unwrap();
        assert_eq!(one.slot_of_site(&site("b")), two.slot_of_site(&site("b")));
        assert_eq!(two.slot_of_site(&site("a")), 0, "nobody's any more");
        assert_eq!(two.slot_of_site(&site("c")), 3);
        assert_eq!(two.slot_of_tag(two.tag_of(3)), 3);
        assert_eq!(two.memory[1], UNBOUNDED);
    }

    #[test]
    fn tenants_beyond_the_limit_share_a_slot() {
        let many: Vec<Share> = (0..SLOTS_MAX + 10).map(|n| share(&format!("t{n}"), None)).collect();
        let table = Table::empty().next(&many, 1 << 30, 1 << 30);
        assert_eq!(table.names().len(), SLOTS_MAX);
        assert_eq!(table.slot_of_site(&SiteId::parse("t260").unwrap()), 0);
        assert_eq!(table.memory[0], UNBOUNDED);
    }
}
