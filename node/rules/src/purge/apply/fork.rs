//! For the model (`tests/model`), which tries out everything that may happen: a second machine that stands where the first
//! one does, and a name for where it stands.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, atomic::AtomicU64},
};

use super::{Apply, Gate, Known, Site};

impl Apply {
    /// One that goes its own way from here.
    #[doc(hidden)]
    #[must_use]
    pub fn fork(&self) -> Self {
        let gate = Arc::new(if self.gate.is_open() { Gate::default() } else { Gate::closed_below(self.start) });
        let site = |site: &Site| Site { guard: Arc::new(site.guard.fork(&gate)), newest: site.newest.clone() };
        Self {
            terms: self.terms.clone(),
            start: self.start,
            position: self.position,
            published: Arc::new(AtomicU64::new(self.position.0)),
            floor: self.floor,
            floor_soft: self.floor_soft,
            sites: self.sites.iter().map(|(name, known)| (name.clone(), site(known))).collect(),
            gate,
            marks: self.marks,
            newest: self.newest.clone(),
            known: Known { max: self.known.max, ids: self.known.ids.clone(), order: self.known.order.clone() },
            unseen: self.unseen.clone(),
            ring: self.ring.clone(),
            cursors: self.cursors.clone(),
            before: self.before.clone(),
            has_past: self.has_past,
            coming: self.coming.clone(),
            heads: self.heads.clone(),
            delta: self.delta.clone(),
        }
    }

    /// Everything that its future depends on.
    #[doc(hidden)]
    pub fn trace(&self, into: &mut impl Hasher) {
        (self.start, self.position, self.floor, self.floor_soft, self.gate.is_open()).hash(into);
        for (name, site) in &self.sites {
            (name, &site.newest).hash(into);
            site.guard.trace(into);
        }
        (&self.newest, &self.known.order, self.marks).hash(into);
        self.unseen.keys().for_each(|id| id.hash(into));
        self.ring.trace(into);
        (&self.cursors, &self.heads).hash(into);
        let delta = &self.delta;
        (delta.floor, delta.floor_soft, &delta.marks, &delta.floors, &delta.known, delta.forget).hash(into);
        delta.unseen.iter().for_each(|(id, event)| (id, event.is_some()).hash(into));
        (&delta.cursors, delta.witness).hash(into);
    }
}
