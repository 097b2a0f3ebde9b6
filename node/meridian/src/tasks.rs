//! The one place where tasks are started: each has a name and an owner who can stop it and wait for it.
#![allow(clippy::disallowed_methods, reason = "this is the one file that spawns")]

use std::{future::Future, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one owner. Cheap to clone; all clones are the same owner.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Tasks {
    /// An owner with no tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task on the current runtime. It ends by itself, or when it heeds [`Tasks::stopping`].
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tracing::trace!(task = name, "started");
        #[cfg(feature = "simulation")]
        let task = crate::simulation::inherited(task);
        tokio::spawn(self.tracker.track_future(task))
    }

    /// Starts a task that is dropped at its next wait when the owner stops.
    pub fn spawn_until_stopped<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopping = self.stopping.clone();
        self.spawn(name, async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = task => tracing::debug!(task = name, "ended by itself"),
            }
        })
    }

    /// Runs something that keeps a processor busy on a thread of its own, so that nothing else waits for it. None if it
    /// panicked.
    pub async fn run_busy<T, F>(&self, work: F) -> Option<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        #[cfg(feature = "simulation")]
        if crate::simulation::world().is_some() {
            return Some(work());
        }
        self.tracker.track_future(tokio::task::spawn_blocking(work)).await.ok()
    }

    /// Completes when the owner wants its tasks to end.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Asks all tasks to end and waits for them, at most `patience`. True if all ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.stopping.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}
