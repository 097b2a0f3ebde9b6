//! For the model: a name for where a ring stands.

use std::hash::{Hash, Hasher};

use super::Ring;

impl Ring {
    pub(in crate::purge) fn trace(&self, into: &mut impl Hasher) {
        (&self.base, self.blind, self.first).hash(into);
        self.entries.iter().for_each(|entry| (&entry.site, entry.id, entry.seqs, entry.local).hash(into));
        let mut memo: Vec<_> = self.memo.iter().map(|(key, memo)| (key, memo.run, memo.theirs, memo.ours)).collect();
        memo.sort_unstable();
        memo.hash(into);
    }
}
