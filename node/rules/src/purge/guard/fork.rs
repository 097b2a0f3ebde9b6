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

use super::{Gate, Recent, SiteGuard, Slot, Table};

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
            bits: OnceLock::new(),
            marks: RwLock::new(Table::default()),
        };
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        marks.iter().for_each(|(key, marks)| fork.restore(*key, *marks));
        drop(marks);
        fork
    }

    pub(in crate::purge) fn trace(&self, into: &mut impl Hasher) {
        (self.newest.load(Acquire), self.floors(), self.recent.start).hash(into);
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = marks.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| **key);
        sorted.hash(into);
        drop(marks);
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
