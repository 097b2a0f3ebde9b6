//! Which thread is writing: each of the first [`OWN_MAX`] threads that count something gets a slot of its own, in which
//! it is the only writer; all later ones share the last slot.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many threads have a slot of their own. Edge threads count first and live longest, so they are among them.
pub(super) const OWN_MAX: usize = 64;

/// How many slots there are: the own ones, and the shared one.
pub(super) const SLOTS: usize = OWN_MAX + 1;

const UNKNOWN: usize = usize::MAX;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// A thread's slot in every per-thread table of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Its index, below [`SLOTS`].
    pub(super) index: usize,
    /// Whether this thread is the only one that ever writes there.
    pub(super) own: bool,
}

/// The slot of the calling thread. A slot is never given to a second thread, also not after the first has ended.
#[inline]
pub(super) fn slot() -> Slot {
    // a thread that is being torn down has no cell any more: the shared slot is right for it
    let index = SLOT.try_with(|cell| if cell.get() == UNKNOWN { assign(cell) } else { cell.get() }).unwrap_or(OWN_MAX);
    Slot { index, own: index < OWN_MAX }
}

#[cold]
fn assign(cell: &Cell<usize>) -> usize {
    let index = TAKEN.fetch_add(1, Relaxed).min(OWN_MAX);
    cell.set(index);
    index
}
