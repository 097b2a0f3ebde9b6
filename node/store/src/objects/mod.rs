//! Stored responses, in memory and on disk: a dumb byte store over foyer.
//!
//! Nothing here decides whether an entry may be served. What is removed may come back (foyer's deletes are hints, and a
//! crash undoes them), what is replaced may come back older, and anything may vanish at any time; the stamp inside each
//! object is what judges it. What this module does promise: an entry that comes out is one that went in under this very
//! key, byte for byte, or there is none.
//!
//! **When the disk is written: at insertion, not at eviction from memory.** A node that dies without warning must serve
//! its old set when it is back. Written at eviction, the disk would hold only what memory had let go, so that a
//! `kill -9` would lose exactly the hottest part, and all of it where memory is larger than the set. Written at
//! insertion, a kill loses what is still queued, at most [`queue_bytes`]; the page cache keeps the rest, since foyer
//! never needs an fsync to read back what it wrote. After a power failure the checksums find what did not reach the
//! disk. Once the disk is full, only what comes twice is written ([`admission`]).
//!
//! **Memory is S3-FIFO with a share for each tenant** ([`memory`]): a fill of many chunks, or a scan, passes through its
//! small queue and leaves the hot set alone, and nobody takes what a neighbour holds within its floor
//! ([`Objects::share`]). `benches/benches/eviction.rs`, memory for a twentieth of the bytes, sizes with a heavy tail,
//! Zipf 0.8 and 1.0: 46.1 and 72.6 % hits alone, 45.5 and 69.6 % where nine of ten requests are for objects that never come
//! again (LRU: 36.7 and 66.4, 14.4 and 40.1). That is 15 to 18 % fewer misses than LRU without such requests, which is what
//! the literature says. A neighbour that asks for ten times the memory, everything twice, costs a tenant within its floor
//! 0.1 points, and 20.8 without one.
//!
//! **The disk is a log that goes round** ([`disk`]): what is asked for is written again before it falls off, and a tenant
//! that has written more than its share writes only what comes twice ([`admission`]).
//!
//! **The disk has a runtime of its own**, with few threads: a disk that hangs holds these, and nothing else of the node.
//! A look-up on disk has a limit in time. A disk that fails is out of use until it works again ([`trouble`]).
//!
//! **Chunks of a head that is gone are not hunted.** Their keys are made from a random id that only the head has, so
//! nobody asks for them any more, and they are the next that go: from memory through the small queue, from disk with
//! their block. Removing them with the head would cut off the readers that are in the middle of the body.
//!
//! **Nobody waits for a walk.** A purge of everything is a stamp ([`rules::purge`]), a lifetime is looked at when the entry
//! is used, and room is made an entry at a time. What purges cover is let go in the background ([`Objects::sweep`]).

mod admission;
mod code;
mod directory;
mod disk;
mod memory;
mod shares;
mod sweep;
mod trouble;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use foyer::Spawner;
use region_config::TenantId;
use rules::{key::Key, residency::Permit};
use wire::entry::Entry;

pub use admission::Refusal;
use disk::{Disk, Setup};
use memory::{Memory, Promoted, Slot};
use shares::Table;
pub use shares::{Quota, Share};
pub use sweep::Sweep;

/// Threads that the disk may hold when it hangs.
const DISK_THREADS: usize = 32;
/// How often the disk tier is looked after.
const ROUND: Duration = Duration::from_secs(5);
const ROUNDS_PER_REPORT: u64 = 12;

/// What the store may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder for the disk tier, made if missing; none means memory only.
    pub dir: Option<PathBuf>,
    /// Memory for entries, in bytes.
    pub memory_bytes: u64,
    /// Disk for entries, in bytes; 0 means memory only. Otherwise at least [`DISK_BYTES_MIN`].
    pub disk_bytes: u64,
}

/// The smallest disk tier, in bytes.
pub const DISK_BYTES_MIN: u64 = directory::BLOCK_BYTES_MIN * directory::BLOCKS_MIN;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be made, read or written.
    #[error("cannot {doing} the cache folder `{}`", dir.display())]
    Directory {
        /// The folder.
        dir: PathBuf,
        /// What was being done to it.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process has the folder.
    #[error("the cache folder `{}` is in use by another node: each node needs a folder of its own", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// `disk_bytes` is neither 0 nor large enough.
    #[error("disk_bytes is {disk_bytes}: expected 0 (memory only) or at least {DISK_BYTES_MIN}")]
    TooSmall {
        /// What was asked for.
        disk_bytes: u64,
    },
    /// The file system is full.
    #[error("no room for the cache in `{}`: {free_bytes} bytes are free, at least {DISK_BYTES_MIN} are needed", dir.display())]
    Full {
        /// The folder.
        dir: PathBuf,
        /// What is free, counting what the cache holds already.
        free_bytes: u64,
    },
    /// The threads of the disk tier cannot be started.
    #[error("cannot start the cache's threads")]
    Threads(#[source] std::io::Error),
    /// foyer refuses.
    #[error("cannot open the cache")]
    Engine(#[source] foyer::Error),
}

/// How full the store is. The tiers overlap, since what is in memory is usually on disk as well: never add them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Memory that entries take, in bytes.
    pub memory_bytes: u64,
    /// Memory that they may take, in bytes.
    pub memory_bytes_max: u64,
    /// Entries in memory.
    pub memory_entries: u64,
    /// Disk that the tier's files take, in bytes; some seconds old.
    pub disk_bytes: u64,
    /// Disk that they may take, in bytes; 0 without a disk tier.
    pub disk_bytes_max: u64,
    /// Look-ups on disk that found something, since the start.
    pub disk_hits: u64,
    /// Uses of the disk that failed or took too long, since the start.
    pub disk_errors: u64,
    /// Whether the disk is out of use for now: it failed, and is tried every few seconds.
    pub disk_resting: bool,
    /// How often the disk went out of use, since the start.
    pub disk_breaks: u64,
    /// Entries that were written again since they were asked for and about to fall off the log, since the start.
    pub disk_rewritten: u64,
    /// Entries that were not written to disk, since the start, by cause, in the order of [`Refusal::ALL`].
    pub disk_refused: [u64; 4],
}

/// What a tenant takes of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantUsage {
    /// Whose it is; none for what belongs to no tenant with a share.
    pub tenant: Option<TenantId>,
    /// Memory that its entries take, in bytes.
    pub memory_bytes: u64,
    /// Memory that nobody else can take from it, in bytes.
    pub memory_floor: u64,
    /// Disk that it has written in the last lap of the log, in bytes; counted from the start of the process.
    pub disk_bytes: u64,
    /// Entries that it lost from memory to make room, since the start.
    pub evictions: u64,
    /// Entries that memory had no place for, since the start.
    pub refusals: u64,
}

/// The object store. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub struct Objects {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: Arc<Memory>,
    disk: Option<Arc<Disk>>,
    table: Arc<ArcSwap<Table>>,
    closed: AtomicBool,
    /// The disk's threads live as long as this does.
    _spawner: Spawner,
}

impl Objects {
    /// Opens the store and takes up what the disk holds.
    ///
    /// # Errors
    /// [`StoreError`] if the folder cannot be used or is used by another node. What is in the folder never is an error:
    /// what cannot be read is dropped.
    pub async fn open(settings: Settings) -> Result<Self, StoreError> {
        Self::open_with_rounds(settings, ROUND).await
    }

    async fn open_with_rounds(settings: Settings, round: Duration) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(DISK_THREADS)
            .thread_name("objects")
            .enable_time()
            .build()
            .map_err(StoreError::Threads)?;
        let spawner = Spawner::from(runtime);
        let memory = Arc::new(Memory::new(usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX)));
        let table = Arc::new(ArcSwap::from_pointee(Table::empty()));
        let disk = match settings.dir {
            Some(path) if settings.disk_bytes > 0 => {
                let setup = Setup {
                    path,
                    disk_bytes: settings.disk_bytes,
                    memory: Arc::clone(&memory),
                    table: Arc::clone(&table),
                    spawner: spawner.clone(),
                };
                let disk = Disk::open(setup).await?;
                watch(&disk, round, &spawner);
                Some(disk)
            }
            _ => None,
        };
        let inner = Inner { memory, disk, table, closed: AtomicBool::new(false), _spawner: spawner };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Says what each tenant may use, from now on. Nothing is dropped at once: it takes effect as entries come.
    pub fn share(&self, shares: &[Share]) {
        let inner = &*self.inner;
        let disk_bytes = inner.disk.as_ref().map_or(0, |disk| disk.disk_bytes());
        let table = inner.table.load().next(shares, inner.memory.capacity(), disk_bytes);
        inner.memory.bound(&table.memory);
        inner.table.store(Arc::new(table));
    }

    /// What memory holds under `key`. Never waits.
    #[must_use]
    pub fn memory(&self, key: Key) -> Option<Entry> {
        self.inner.memory.get(key.0)
    }

    /// What memory or disk holds under `key`; what comes from disk is in memory afterwards. A disk that fails or takes
    /// too long is a miss. Must be awaited on a runtime with a timer.
    pub async fn lookup(&self, key: Key) -> Option<Entry> {
        if let Some(entry) = self.memory(key) {
            return Some(entry);
        }
        let (slot, entry) = self.inner.disk.as_ref()?.lookup(key.0).await?;
        self.inner.remember(key, slot, entry.clone());
        Some(entry)
    }

    /// What memory or disk holds under `key`, for who is only curious: nothing becomes hot, moves or is counted by it.
    pub async fn peek(&self, key: Key) -> Option<Entry> {
        match self.inner.memory.peek(key.0) {
            Some(entry) => Some(entry),
            None => self.inner.disk.as_ref()?.peek(key.0).await,
        }
    }

    /// Whether memory holds something under `key`. Asking does not count.
    #[must_use]
    pub fn in_memory(&self, key: Key) -> bool {
        self.inner.memory.contains(key.0)
    }

    /// Keeps `entry` under `key`, in memory at once and on disk soon. May drop it, or something else to make room.
    ///
    /// The permit must be for the object's site; an object of another site is refused, with an error in the log.
    pub fn insert(&self, permit: &Permit, key: Key, entry: Entry) {
        if let Entry::Object(object) = &entry
            && object.site != *permit.site()
        {
            tracing::error!("refused to store an object under the permit of another site");
            return;
        }
        let inner = &*self.inner;
        if inner.closed.load(Ordering::Relaxed) {
            return;
        }
        let slot = inner.table.load().slot_of_site(permit.site());
        if let Some(disk) = &inner.disk {
            disk.insert(key.0, slot, entry.clone());
        }
        inner.remember(key, slot, entry);
    }

    /// Whether something is kept under `key`, in memory or on disk. Now and then wrong, as everything here may vanish.
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.inner.memory.contains(key.0) || self.inner.disk.as_ref().is_some_and(|disk| disk.contains(key.0))
    }

    /// Frees the space of what is under `key`. It may come back: whether it may be served is for its stamp to say.
    pub fn remove(&self, key: Key) {
        if self.inner.closed.load(Ordering::Relaxed) {
            return;
        }
        self.inner.memory.remove(key.0);
        if let Some(disk) = &self.inner.disk {
            disk.remove(key.0);
        }
    }

    /// How full it is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let memory = &self.inner.memory;
        let disk = self.inner.disk.as_deref();
        Usage {
            memory_bytes: memory.bytes() as u64,
            memory_bytes_max: memory.capacity() as u64,
            memory_entries: memory.entries() as u64,
            disk_bytes: disk.map_or(0, Disk::held_bytes),
            disk_bytes_max: disk.map_or(0, Disk::capacity_bytes),
            disk_hits: disk.map_or(0, Disk::hits),
            disk_errors: disk.map_or(0, |disk| disk.trouble.errors()),
            disk_resting: disk.is_some_and(|disk| disk.trouble.broken()),
            disk_breaks: disk.map_or(0, |disk| disk.trouble.times()),
            disk_rewritten: disk.map_or(0, Disk::rewritten),
            disk_refused: disk.map_or([0; 4], |disk| disk.refused.all()),
        }
    }

    /// What each tenant with a share takes, and what all others take together: a bounded number of them.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantUsage> {
        let table = self.inner.table.load();
        let count = table.names().len();
        let held = self.inner.memory.held(count);
        let on_disk = self.inner.disk.as_ref().map_or_else(|| vec![0; count], |disk| disk.by_slot(count));
        let rows = table.names().iter().zip(&table.memory).zip(held).zip(on_disk);
        rows.map(|(((tenant, bounds), held), disk_bytes)| TenantUsage {
            tenant: tenant.clone(),
            memory_bytes: held.bytes,
            memory_floor: bounds.floor as u64,
            disk_bytes,
            evictions: held.evictions,
            refusals: held.refusals,
        })
        .collect()
    }

    /// Waits until what is queued is on disk. Afterwards nothing is inserted any more; look-ups still answer.
    pub async fn close(&self) {
        if self.inner.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(disk) = &self.inner.disk {
            disk.close().await;
        }
    }

    /// Waits until what was inserted so far is on disk, as far as there is one.
    pub async fn settle(&self) {
        if let Some(disk) = &self.inner.disk {
            disk.settle().await;
        }
    }
}

impl Inner {
    fn remember(&self, key: Key, slot: Slot, entry: Entry) {
        let mut promoted = Vec::new();
        self.memory.insert(key.0, slot, entry, &mut promoted);
        let Some(disk) = &self.disk else { return };
        for Promoted { key, slot, entry } in promoted {
            disk.promote(key, slot, entry);
        }
    }
}

/// Starts the rounds on the disk's own threads; they end with the store.
fn watch(disk: &Arc<Disk>, round: Duration, spawner: &Spawner) {
    spawner.spawn(Disk::drain(Arc::downgrade(disk)));
    let disk = Arc::downgrade(disk);
    spawner.spawn(async move {
        let mut rounds: u64 = 0;
        loop {
            tokio::time::sleep(round).await;
            let Some(disk) = disk.upgrade() else { return };
            disk.round().await;
            rounds += 1;
            if rounds.is_multiple_of(ROUNDS_PER_REPORT) {
                disk.trouble.report();
            }
        }
    });
}
