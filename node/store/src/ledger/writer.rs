//! The thread that writes a realm's file.

use std::{sync::mpsc, thread};

use parking_lot::Mutex;
use rules::purge::Delta;
use tokio::sync::oneshot;

use super::{
    LedgerError,
    file::{LedgerFile, Log},
};

/// Changes that wait for the thread, at most. The realm gives one at a time and gathers meanwhile, so that one sync
/// of the disk is shared by all purges that came during the one before.
const JOBS_MAX: usize = 4;

/// Writes one realm's file, on a thread of its own that ends when this is dropped.
#[derive(Debug)]
pub struct Writer {
    way: Way,
    log: Log,
    name: String,
}

/// How the file is reached.
#[derive(Debug)]
enum Way {
    Thread(mpsc::SyncSender<Job>),
    Inline(Mutex<LedgerFile>),
}

struct Job {
    delta: Delta,
    done: oneshot::Sender<Result<(), LedgerError>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`LedgerError::Open`] if the system gives no thread.
    pub fn start(file: LedgerFile, name: &str) -> Result<Self, LedgerError> {
        let (jobs, queue) = mpsc::sync_channel(JOBS_MAX);
        let log = file.log();
        let thread = thread::Builder::new().name(format!("ledger-{name}")).spawn(move || run(file, &queue));
        let fault = |why: std::io::Error| LedgerError::Open { name: name.to_owned(), why: why.to_string() };
        thread.map_err(fault)?;
        Ok(Self { way: Way::Thread(jobs), log, name: name.to_owned() })
    }

    /// One without a thread: who commits also writes. For a disk in memory, and runs that are to be repeated exactly.
    #[must_use]
    pub fn inline(file: LedgerFile, name: &str) -> Self {
        Self { log: file.log(), way: Way::Inline(Mutex::new(file)), name: name.to_owned() }
    }

    /// Writes a change and waits until it is on disk.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`] now and ever after if the disk says no.
    pub async fn commit(&self, delta: Delta) -> Result<(), LedgerError> {
        let jobs = match &self.way {
            Way::Thread(jobs) => jobs,
            Way::Inline(file) => return file.lock().commit(&delta),
        };
        let (done, wait) = oneshot::channel();
        let gone = || LedgerError::Stopped { name: self.name.clone(), why: "the writer has ended".to_owned() };
        jobs.try_send(Job { delta, done }).map_err(|_| gone())?;
        wait.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The own log, for readers.
    #[must_use]
    pub fn log(&self) -> Log {
        self.log.clone()
    }
}

fn run(mut file: LedgerFile, queue: &mpsc::Receiver<Job>) {
    while let Ok(Job { delta, done }) = queue.recv() {
        // who asked may have gone; the write counts all the same
        let _gone = done.send(file.commit(&delta));
    }
}
