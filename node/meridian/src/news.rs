//! A value that tasks wait for. Unlike a watch channel it wakes those who wait in the order in which they came, so that a
//! simulation can be replayed.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A value, and who waits for it to change.
#[derive(Debug)]
pub(crate) struct News<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> News<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    /// Looks at it.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.lock())
    }

    /// Changes it, and wakes all who wait.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.lock());
        self.changed.notify_waiters();
    }

    /// Waits until `look` finds something in it.
    pub(crate) async fn until<R>(&self, look: impl Fn(&T) -> Option<R>) -> R {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = self.read(&look) {
                return found;
            }
            changed.await;
        }
    }
}
