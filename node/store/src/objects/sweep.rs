//! Freeing what purges cover.

use std::sync::Arc;

use rules::{key::Key, purge::Standing};
use wire::entry::Object;

use super::{Objects, memory::Place};

/// Objects of a slice, about.
const SLICE: usize = 512;

/// A pass over everything in memory, and what it has done so far.
#[derive(Debug, Default)]
pub struct Sweep {
    place: Place,
    found: Vec<(u128, Arc<Object>)>,
    /// Objects that were looked at.
    pub objects: u64,
    /// Objects that were let go.
    pub freed: u64,
    /// What these took of memory, in bytes.
    pub freed_bytes: u64,
    /// How many of these were on disk as well.
    pub freed_on_disk: u64,
}

impl Objects {
    /// Takes a pass on by a slice of some hundred objects: lets go of what `standing` calls stale, in memory and on disk.
    /// False if the pass is over.
    ///
    /// What is on disk only is not looked at: nobody knows its stamp without reading it. It is judged when it is asked
    /// for, and falls off the log with time. The chunks of what is let go stay with their readers, as always.
    pub fn sweep(&self, sweep: &mut Sweep, mut standing: impl FnMut(&Object) -> Standing) -> bool {
        let mut found = std::mem::take(&mut sweep.found);
        let mut more = true;
        while more && found.len() < SLICE {
            more = self.inner.memory.next(&mut sweep.place, &mut found);
        }
        sweep.objects += found.len() as u64;
        for (key, object) in found.drain(..) {
            if standing(&object) == Standing::Stale {
                self.let_go(sweep, Key(key), &object);
            }
        }
        sweep.found = found;
        more
    }

    fn let_go(&self, sweep: &mut Sweep, key: Key, object: &Arc<Object>) {
        let Some(bytes) = self.inner.memory.remove_object(key.0, object) else { return };
        sweep.freed += 1;
        sweep.freed_bytes += bytes as u64;
        if let Some(disk) = self.inner.disk.as_ref().filter(|disk| disk.contains(key.0)) {
            disk.remove(key.0);
            sweep.freed_on_disk += 1;
        }
    }
}
