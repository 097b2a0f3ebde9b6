//! A fleet is measured in a machine that does nothing else: while one runs, no other node of these tests does.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    static SHARE: RefCell<Weak<RwLockReadGuard<'static, ()>>> = const { RefCell::new(Weak::new()) };
}

/// A test's part of the machine, with others beside it. A test may take several: it waits for the first one only, since
/// who holds one and waited for another would wait for ever behind a fleet that waits for it.
pub(crate) fn share() -> Rc<RwLockReadGuard<'static, ()>> {
    SHARE.with_borrow_mut(|held| {
        held.upgrade().unwrap_or_else(|| {
            let share = Rc::new(MACHINE.read().unwrap_or_else(PoisonError::into_inner));
            *held = Rc::downgrade(&share);
            share
        })
    })
}

/// The machine alone.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}
