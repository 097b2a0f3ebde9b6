//! For the model: a second guard that knows what the first one does, and a name for what that is.

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed},
        },
    },
};

use super::{Gate, Recent, SiteGuard, Slot};

impl SiteGuard {
    pub(in crate::purge) fn fork(&self, gate: &Arc<Gate>) -> Self {
        let copy = |value: &AtomicU64| AtomicU64::new(value.load(Acquire));
        let fork = Self {
            keys: self.keys,
            gate: Arc::clone(gate),
            newest: copy(&self.newest),
            floor_hard: copy(&self.floor_hard),
            floor_soft: copy(&self.floor_soft),
            recent: self.recent.fork(),
            filter: OnceLock::new(),
            kept: RwLock::default(),
        };
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.marks.iter().for_each(|(key, marks)| fork.restore(*key, *marks));
        drop(kept);
        fork
    }

    pub(in crate::purge) fn trace(&self, into: &mut impl Hasher) {
        (self.newest.load(Acquire), self.floors(), self.recent.start).hash(into);
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = kept.marks.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| **key);
        sorted.hash(into);
        drop(kept);
        let head = self.recent.head.load(Acquire);
        let used = (head.saturating_sub(self.recent.slots.len())..head).map(|index| self.recent.slot(index));
        used.for_each(|slot| (slot.position.load(Relaxed), slot.key.load(Relaxed)).hash(into));
    }
}

impl Recent {
    fn fork(&self) -> Self {
        let slot =
            |slot: &Slot| Slot { position: slot.position.load(Relaxed).into(), key: slot.key.load(Relaxed).into() };
        Self { slots: self.slots.iter().map(slot).collect(), head: self.head.load(Acquire).into(), start: self.start }
    }
}
