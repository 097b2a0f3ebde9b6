//! For the model: a second log that stands where the first one does, and a name for where it stands.

use std::hash::{Hash, Hasher};

use super::{Recovery, Witness};

impl Witness {
    /// One that goes its own way from here.
    #[doc(hidden)]
    #[must_use]
    pub fn fork(&self) -> Self {
        let recovery = self.recovery.as_ref().map(|recovery| Recovery {
            voting: recovery.voting.clone(),
            silent: recovery.silent.clone(),
            ..*recovery
        });
        Self {
            electorate: self.electorate.clone(),
            ids: self.ids.clone(),
            order: self.order.clone(),
            window: self.window.clone(),
            recovery,
            held: self.held.clone(),
            fresh: self.fresh.clone(),
            ..*self
        }
    }

    /// Everything that its future depends on. The chain values stand for the records.
    #[doc(hidden)]
    pub fn trace(&self, into: &mut impl Hasher) {
        (self.state, self.head, self.durable, &self.order, &self.held, self.fresh.len(), self.changed).hash(into);
        if let Some(Recovery { voting, silent, incomplete, waits, joined, until }) = &self.recovery {
            (voting, silent, incomplete, waits, joined, until).hash(into);
        }
    }
}
