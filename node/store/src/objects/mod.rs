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
//! disk. The price is that one-hit wonders are written too.
//!
//! **Memory is S3-FIFO.** A fill of many chunks, or a scan, passes through its small queue and leaves the hot set
//! alone. `benches/benches/eviction.rs`, memory for a twentieth of the set: where half of the requests are for objects
//! that never come again, the hot set's hit ratio falls from 60.7 to 59.4 % (Sieve 60.2 to 56.7, LRU 52.4 to 42.2).
//!
//! **The disk has a runtime of its own**, with few threads: a disk that hangs holds these, and nothing else of the node.
//! A look-up on disk has a limit in time, and after a row of failures the disk is left alone for some seconds.
//!
//! Known limit: the disk drops its oldest block when it is full, also when what is in it is hot in memory; such objects
//! are then lost by a restart.

mod code;
mod directory;
mod trouble;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig, RecoverMode, S3FifoConfig, Spawner,
};
use rules::{key::Key, residency::Permit};
use wire::entry::Entry;

use code::{KeyHash, Stored};
use directory::Directory;
use trouble::Trouble;

/// What a memory entry costs beside its value: foyer's record, its links, its place in the table and in the ghost queue,
/// and what the allocator adds. With it, the weight of 100-byte to 20 kB objects was within 5 % of the resident memory.
const RECORD_BYTES: usize = 352;
/// Memory is cut into at most this many shards, each with a lock.
const SHARDS_MAX: usize = 64;
/// No shard is smaller than this, so that the largest entry is a small part of it.
const SHARD_BYTES_MIN: usize = 16 * 1024 * 1024;
/// Threads that the disk may hold when it hangs.
const DISK_THREADS: usize = 32;

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
    /// Look-ups on disk that failed or took too long, since the start.
    pub disk_errors: u64,
    /// Whether the disk is left alone for now, because it failed too often.
    pub disk_resting: bool,
}

/// The object store. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub struct Objects {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cache: HybridCache<u128, Stored, KeyHash>,
    directory: Option<Directory>,
    trouble: Arc<Trouble>,
    disk_hits: AtomicU64,
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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(DISK_THREADS)
            .thread_name("objects")
            .enable_time()
            .build()
            .map_err(StoreError::Threads)?;
        let spawner = Spawner::from(runtime);
        let directory = match settings.dir {
            Some(dir) if settings.disk_bytes > 0 => Some(Directory::open(dir, settings.disk_bytes)?),
            _ => None,
        };
        let memory_bytes = usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX);
        let cache = build(memory_bytes, directory.as_ref(), spawner.clone()).await.map_err(StoreError::Engine)?;
        let trouble = Arc::new(Trouble::default());
        trouble::watch(&trouble, directory.as_ref(), &spawner);
        let inner = Inner {
            cache,
            directory,
            trouble,
            disk_hits: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            _spawner: spawner,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What memory holds under `key`. Never waits.
    #[must_use]
    pub fn memory(&self, key: Key) -> Option<Entry> {
        self.inner.cache.memory().get(&key.0).map(|found| found.value().0.clone())
    }

    /// What memory or disk holds under `key`; what comes from disk is in memory afterwards. A disk that fails or takes
    /// too long is a miss. Must be awaited on a runtime with a timer.
    pub async fn lookup(&self, key: Key) -> Option<Entry> {
        if let Some(entry) = self.memory(key) {
            return Some(entry);
        }
        let inner = &*self.inner;
        if inner.directory.is_none() || inner.trouble.resting() || !inner.cache.storage().may_contains(&key.0) {
            return None;
        }
        match tokio::time::timeout(trouble::PATIENCE, inner.cache.get(&key.0)).await {
            Ok(Ok(found)) => {
                inner.trouble.passed();
                let entry = found?.value().0.clone();
                inner.disk_hits.fetch_add(1, Ordering::Relaxed);
                Some(entry)
            }
            Ok(Err(fault)) => {
                inner.trouble.failed(&fault);
                None
            }
            Err(_) => {
                inner.trouble.failed(&"the disk took too long");
                None
            }
        }
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
        if !self.inner.closed.load(Ordering::Relaxed) {
            self.inner.cache.insert(key.0, Stored(entry));
        }
    }

    /// Whether something is kept under `key`, in memory or on disk. Now and then wrong, as everything here may vanish.
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.inner.cache.contains(&key.0)
    }

    /// Frees the space of what is under `key`. It may come back: whether it may be served is for its stamp to say.
    pub fn remove(&self, key: Key) {
        if !self.inner.closed.load(Ordering::Relaxed) {
            self.inner.cache.remove(&key.0);
        }
    }

    /// How full it is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let memory = self.inner.cache.memory();
        let trouble = &self.inner.trouble;
        Usage {
            memory_bytes: memory.usage() as u64,
            memory_bytes_max: memory.capacity() as u64,
            memory_entries: memory.entries() as u64,
            disk_bytes: trouble.held_bytes(),
            disk_bytes_max: self.inner.directory.as_ref().map_or(0, Directory::capacity_bytes),
            disk_hits: self.inner.disk_hits.load(Ordering::Relaxed),
            disk_errors: trouble.errors(),
            disk_resting: trouble.resting(),
        }
    }

    /// Waits until what is queued is on disk. Afterwards nothing is inserted any more; look-ups still answer.
    pub async fn close(&self) {
        if self.inner.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(fault) = self.inner.cache.close().await {
            tracing::warn!(%fault, "the cache did not close cleanly");
        }
    }
}

async fn build(
    memory_bytes: usize,
    directory: Option<&Directory>,
    spawner: Spawner,
) -> Result<HybridCache<u128, Stored, KeyHash>, foyer::Error> {
    let builder = HybridCacheBuilder::new()
        .with_name("objects")
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_flush_on_close(false)
        .memory(memory_bytes)
        .with_shards((memory_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX))
        .with_eviction_config(S3FifoConfig::default())
        .with_hash_builder(KeyHash)
        .with_weighter(|_key, stored: &Stored| RECORD_BYTES + stored.0.memory_bytes())
        .storage()
        .with_spawner(spawner);
    let Some(directory) = directory else { return builder.build().await };

    let device = FsDeviceBuilder::new(directory.path()).with_capacity(directory.capacity()).build()?;
    let queue_bytes = queue_bytes(memory_bytes);
    let engine = BlockEngineConfig::new(device)
        .with_block_size(directory.block_bytes())
        // what does not fit the buffer is dropped even when the queue has room, so one figure rules both
        .with_buffer_pool_size(queue_bytes)
        .with_submit_queue_size_threshold(queue_bytes)
        // it does not survive a restart in this version, and nothing relies on deletes
        .with_tombstone_log(false);
    builder
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await
}

/// How much may wait to be written to disk; what comes beyond it stays in memory only. Held besides `memory_bytes`.
fn queue_bytes(memory_bytes: usize) -> usize {
    (memory_bytes / 8).clamp(4 * 1024 * 1024, 32 * 1024 * 1024) & !0xfff
}
