//! The disk tier: foyer's log of blocks, and what keeps it honest.
//!
//! foyer says nothing when a write fails, and a failed write may end its writing for good: the task that writes can be
//! gone, with every later entry dropped in silence, or a lock of its poisoned, so that whoever asks it anything panics. So the tier is watched from outside ([`Disk::round`]): every few
//! seconds, while there is something to write, a canary is written and read back through foyer itself. What fails is
//! told, taken out of use and, as soon as the disk takes and gives back bytes again, opened anew: what it still holds
//! comes back with it. Meanwhile the node goes on with its memory.
//!
//! **What is asked for stays, though the log goes round.** An entry that is read while it is in the oldest quarter of the
//! log is written again, and so is one that was asked for in memory when its block is about to be overwritten; in all, not
//! more than what is new. (foyer's own reinsertion is not used: it gives the copies their old
//! sequence numbers, and recovery stops reading a block at the first number that is lower than the one before.)

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use foyer::{
    Age, BlockEngineConfig, Code, DeviceBuilder, FifoConfig, FifoPicker, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder, HybridCachePolicy, InvalidRatioPicker, PsyncIoEngineConfig, RecoverMode, Spawner, Statistics,
    StorageFilter, StorageFilterCondition, StorageFilterResult,
};
use wire::entry::Entry;

use super::{
    StoreError,
    admission::{self, Lap, Refusal, Refused},
    code::{KeyHash, Stored},
    directory::{self, Directory},
    memory::{Bounds, Memory, Slot},
    shares::{self, Table},
    trouble::Trouble,
};

/// How long a request waits for the disk. An origin is nearer than a disk that takes longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// A disk that cannot write its queue in this time hangs.
const FLUSH_PATIENCE: Duration = Duration::from_secs(30);
/// The part of the log in which what is read is written again.
const OLD_PART: f64 = 0.25;
/// foyer gives up a block early when so much of it was deleted.
const INVALID_PART: f64 = 0.8;
/// One part in so many of the log may be written again at once.
const SPARE_DIVISOR: u64 = 16;
/// Blocks of the log that are clean or in the making.
const BLOCKS_MOVING: u64 = 2;
/// Where foyer keeps what waits to be written; each with a lock.
const SHARDS: usize = 64;
/// Kept free in the queue for the canary.
const RESERVE_BYTES: u64 = 64 * 1024;
/// Under which the canary is kept: no key of an entry, since those are keyed hashes.
const CANARY: u128 = 0x6d65_7269_6469_616e_2063_616e_6172_7921;

type Cache = HybridCache<u128, Stored, KeyHash>;

/// What belongs to the disk tier, whether it is in use now or not.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    disk_bytes: u64,
    queue_bytes: usize,
    spawner: Spawner,
    tier: ArcSwapOption<Tier>,
    memory: Arc<Memory>,
    table: Arc<ArcSwap<Table>>,
    pub(super) trouble: Trouble,
    pub(super) refused: Refused,
    hits: AtomicU64,
    rewritten: AtomicU64,
    held_bytes: AtomicU64,
    closed: AtomicBool,
}

/// The tier while it is in use.
#[derive(Debug)]
struct Tier {
    cache: Cache,
    spawner: Spawner,
    directory: Directory,
    lap: Lap,
    /// Bytes that wait to be written, as foyer's buffers count them.
    pending: AtomicU64,
    /// Entries sent to foyer since the last canary.
    sent: AtomicU64,
    /// What may be written again now, in bytes: as much as was new lately.
    spare: AtomicU64,
}

/// What is needed to open the tier.
pub(super) struct Setup {
    pub(super) path: PathBuf,
    pub(super) disk_bytes: u64,
    pub(super) memory: Arc<Memory>,
    pub(super) table: Arc<ArcSwap<Table>>,
    pub(super) spawner: Spawner,
}

impl Disk {
    /// Opens the tier and takes up what it holds.
    pub(super) async fn open(setup: Setup) -> Result<Arc<Self>, StoreError> {
        let Setup { path, disk_bytes, memory, table, spawner } = setup;
        let disk = Arc::new(Self {
            path,
            disk_bytes,
            queue_bytes: queue_bytes(memory.capacity()),
            spawner,
            tier: ArcSwapOption::empty(),
            memory,
            table,
            trouble: Trouble::default(),
            refused: Refused::default(),
            hits: AtomicU64::new(0),
            rewritten: AtomicU64::new(0),
            held_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        disk.start().await?;
        Ok(disk)
    }

    async fn start(self: &Arc<Self>) -> Result<(), StoreError> {
        let (path, disk_bytes) = (self.path.clone(), self.disk_bytes);
        // these calls may wait for the disk: never on a thread that serves
        let opening = self.spawner.spawn_blocking(move || {
            let directory = Directory::open(path, disk_bytes)?;
            let held = directory::held_bytes(directory.path());
            Ok((directory, held))
        });
        let (directory, held) = opening.await.map_err(StoreError::Engine)??;
        let cache = self.build(&directory).await.map_err(StoreError::Engine)?;
        let capacity = directory.capacity_bytes();
        // of a folder that was full, a block or two may have been given up
        let filled = if held + held / 10 > capacity { capacity } else { held };
        // some blocks are always being emptied or written, and a part of each is left over at its end
        let lap = capacity - capacity / 16 - BLOCKS_MOVING * directory.block_bytes() as u64;
        self.held_bytes.store(held, Ordering::Relaxed);
        self.tier.store(Some(Arc::new(Tier {
            cache,
            spawner: self.spawner.clone(),
            directory,
            lap: Lap::new(lap, filled),
            pending: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            spare: AtomicU64::new(0),
        })));
        Ok(())
    }

    async fn build(self: &Arc<Self>, directory: &Directory) -> foyer::Result<Cache> {
        let device = FsDeviceBuilder::new(directory.path()).with_capacity(directory.capacity()).build()?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(directory.block_bytes())
            // what does not fit the buffer is dropped even when the queue has room, so one figure rules both
            .with_buffer_pool_size(self.queue_bytes)
            .with_submit_queue_size_threshold(self.queue_bytes)
            .with_eviction_pickers(vec![
                Box::new(InvalidRatioPicker::new(INVALID_PART)),
                Box::new(FifoPicker::new(OLD_PART)),
            ])
            .with_reinsertion_filter(StorageFilter::new().with_condition(Rescue(Arc::downgrade(self))))
            // it does not survive a restart in this version, and nothing relies on deletes
            .with_tombstone_log(false);
        HybridCacheBuilder::new()
            .with_name("objects")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            // entries are kept in memory by `Memory`, never by foyer
            .memory(SHARDS)
            .with_shards(SHARDS)
            .with_eviction_config(FifoConfig::default())
            .with_hash_builder(KeyHash)
            .with_filter(|_, _| false)
            .storage()
            .with_spawner(self.spawner.clone())
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine)
            .with_recover_mode(RecoverMode::Quiet)
            .build()
            .await
    }

    /// The tier, unless it is out of use.
    fn tier(&self) -> Option<arc_swap::Guard<Option<Arc<Tier>>>> {
        let tier = self.tier.load();
        (tier.is_some() && !self.trouble.broken()).then_some(tier)
    }

    pub(super) fn contains(&self, key: u128) -> bool {
        self.tier().is_some_and(|tier| tier.as_ref().is_some_and(|tier| tier.cache.storage().may_contains(&key)))
    }

    /// What is on disk under a key, and whose it is. A disk that fails or takes too long is a miss.
    pub(super) async fn lookup(&self, key: u128) -> Option<(Slot, Entry)> {
        let tier = arc_swap::Guard::into_inner(self.tier()?)?;
        if !tier.cache.storage().may_contains(&key) {
            return None;
        }
        let found = match tokio::time::timeout(PATIENCE, tier.cache.get(&key)).await {
            Ok(Ok(found)) => found,
            Ok(Err(fault)) => {
                self.trouble.failed("read", &fault);
                return None;
            }
            Err(_) => {
                self.trouble.failed("read", &"the disk took too long");
                return None;
            }
        };
        self.trouble.passed();
        let found = found?;
        let slot = self.table.load().slot_of_tag(found.value().tag);
        let entry = found.value().entry.clone();
        self.hits.fetch_add(1, Ordering::Relaxed);
        if found.properties().age() == Age::Old {
            self.rewrite(key, slot, entry.clone());
        }
        Some((slot, entry))
    }

    /// What is on disk under a key, without a trace: a disk that fails at this is not judged by it.
    pub(super) async fn peek(&self, key: u128) -> Option<Entry> {
        let tier = arc_swap::Guard::into_inner(self.tier()?)?;
        if !tier.cache.storage().may_contains(&key) {
            return None;
        }
        let found = tokio::time::timeout(PATIENCE, tier.cache.get(&key)).await;
        found.ok()?.ok()?.map(|found| found.value().entry.clone())
    }

    /// Writes an entry that was asked for again, unless it is there.
    pub(super) fn promote(&self, key: u128, slot: Slot, entry: Entry) {
        if self.tier().is_some() && !self.contains(key) {
            self.count(self.send(key, slot, entry, Why::Known));
        }
    }

    /// Writes an entry again that is about to fall off the log. Not more than what is new: the log moves only as new
    /// entries come, and one of nothing but hot entries would be written round and round.
    fn rewrite(&self, key: u128, slot: Slot, entry: Entry) {
        match self.send(key, slot, entry, Why::Again) {
            Ok(true) => drop(self.rewritten.fetch_add(1, Ordering::Relaxed)),
            Ok(false) => {}
            Err(refusal) => self.refused.count(refusal),
        }
    }

    /// Writes an entry soon, or says in the counters why not.
    pub(super) fn insert(&self, key: u128, slot: Slot, entry: Entry) {
        // what replaces something must not leave the older one there
        let why = if self.contains(key) { Why::Known } else { Why::New };
        self.count(self.send(key, slot, entry, why));
    }

    fn count(&self, outcome: Result<bool, Refusal>) {
        if let Err(refusal) = outcome {
            self.refused.count(refusal);
        }
    }

    /// Whether the entry is on its way.
    fn send(&self, key: u128, slot: Slot, entry: Entry, why: Why) -> Result<bool, Refusal> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let tier = self.tier().ok_or(Refusal::Away)?;
        let tier = tier.as_ref().ok_or(Refusal::Away)?;
        let table = self.table.load();
        let stored = Stored { tag: table.tag_of(slot), entry };
        let bytes = stored.estimated_size();
        let hash = tier.cache.memory().hash(&key);
        let bounds = table.disk.get(usize::from(slot)).copied().unwrap_or(shares::FREE);
        let floor = if matches!(stored.entry, Entry::Chunk(_)) { bounds.chunks } else { bounds.new };
        let bounds = Bounds { floor, max: bounds.max };
        let taken = admission::disk_bytes(bytes);
        if tier.pending.load(Ordering::Relaxed) + taken + RESERVE_BYTES > self.queue_bytes as u64 {
            return Err(Refusal::Queue);
        }
        if why == Why::Again && !tier.spend(taken) {
            return Ok(false);
        }
        tier.lap.admit(slot, bounds, hash, bytes, why != Why::New)?;
        if why != Why::Again {
            tier.earn(taken);
        }
        tier.pending.fetch_add(taken, Ordering::Relaxed);
        tier.sent.fetch_add(1, Ordering::Relaxed);
        tier.cache.insert(key, stored);
        Ok(true)
    }

    pub(super) fn remove(&self, key: u128) {
        if let Some(tier) = self.tier()
            && let Some(tier) = tier.as_ref()
            && !self.closed.load(Ordering::Relaxed)
        {
            tier.cache.storage().delete(&key);
        }
    }

    /// What it may take when nothing else needs the room.
    pub(super) fn disk_bytes(&self) -> usize {
        usize::try_from(self.disk_bytes).unwrap_or(usize::MAX)
    }

    /// What it may take now; 0 while it is out of use.
    pub(super) fn capacity_bytes(&self) -> u64 {
        self.tier.load().as_ref().map_or(0, |tier| tier.directory.capacity_bytes())
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(super) fn rewritten(&self) -> u64 {
        self.rewritten.load(Ordering::Relaxed)
    }

    /// What each of the first `count` slots wrote of the last lap, in bytes.
    pub(super) fn by_slot(&self, count: usize) -> Vec<u64> {
        self.tier.load().as_ref().map_or_else(|| vec![0; count], |tier| tier.lap.by_slot(count))
    }

    /// Waits until what was inserted is written.
    pub(super) async fn settle(&self) {
        if let Some(tier) = self.tier.load_full()
            && let Err(fault) = tier.flushed().await
        {
            self.trouble.breaks(&fault);
        }
    }

    /// Writes what is queued; nothing is taken afterwards.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let Some(tier) = self.tier.load_full() else { return };
        if let Err(fault) = tier.close().await {
            tracing::warn!(%fault, "the disk cache did not close cleanly: what was queued is given up");
        }
    }

    /// Looks after the tier once: what is broken is taken out of use, and comes back when the disk does.
    pub(super) async fn round(self: &Arc<Self>) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let Some(tier) = self.tier.load_full() else { return self.come_back().await };
        if !self.trouble.broken()
            && let Err(fault) = self.examine(&tier).await
        {
            self.trouble.breaks(&fault);
        }
        if !self.trouble.broken() {
            let held = directory_held(&self.spawner, self.path.clone()).await;
            self.held_bytes.store(held, Ordering::Relaxed);
            return;
        }
        self.tier.store(None);
        self.held_bytes.store(0, Ordering::Relaxed);
        // at once, as look-ups and a disk that hangs may hold the tier for long; what they still write over what is
        // written from now on is found by its checksum
        tier.directory.unlock();
        self.spawner.spawn(async move {
            if let Err(fault) = tier.close().await {
                tracing::debug!(%fault, "closing a broken disk cache");
            }
        });
    }

    /// Whether the folder is still there, and what is written now comes back.
    async fn examine(&self, tier: &Arc<Tier>) -> Result<(), Fault> {
        let looking = Arc::clone(tier);
        let looked = self.spawner.spawn_blocking(move || looking.directory.in_place()).await;
        looked.map_err(Fault::of)?.map_err(Fault::of)?;
        let sent = tier.sent.swap(0, Ordering::Relaxed);
        if sent == 0 {
            return Ok(());
        }
        tier.canary().await
    }

    async fn come_back(self: &Arc<Self>) {
        let path = self.path.clone();
        let probed = self.spawner.spawn_blocking(move || {
            std::fs::create_dir_all(&path)?;
            directory::probe(&path)
        });
        let outcome = match probed.await {
            Ok(Ok(())) => self.start().await.map_err(|fault| fault.to_string()),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(fault) => Err(fault.to_string()),
        };
        match outcome {
            Ok(()) => {
                let Some(tier) = self.tier.load_full() else { return };
                match tier.canary().await {
                    Ok(()) => self.trouble.mends(),
                    Err(fault) => {
                        self.tier.store(None);
                        self.trouble.still(&fault);
                    }
                }
            }
            Err(fault) => self.trouble.still(&fault),
        }
    }

    /// Keeps account of the queue, as long as there is a disk.
    pub(super) async fn drain(disk: Weak<Self>) {
        const PAUSE: Duration = Duration::from_millis(20);
        loop {
            tokio::time::sleep(PAUSE).await;
            let Some(disk) = disk.upgrade() else { return };
            let tier = disk.tier.load_full().filter(|tier| tier.pending.load(Ordering::Relaxed) > 0);
            let Some(tier) = tier.filter(|_| !disk.trouble.broken()) else { continue };
            match tokio::time::timeout(FLUSH_PATIENCE, tier.flushed()).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => disk.trouble.breaks(&fault),
                Err(_) => disk.trouble.breaks(&"what was to be written has waited too long"),
            }
        }
    }
}

/// Why an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It was never seen here.
    New,
    /// It was asked for before, or replaces one that is there.
    Known,
    /// It is there, and about to fall off.
    Again,
}

impl Tier {
    fn earn(&self, bytes: u64) {
        let most = self.directory.capacity_bytes() / SPARE_DIVISOR;
        let more = |spare: u64| (spare < most).then(|| (spare + bytes).min(most));
        let _or_enough = self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn spend(&self, bytes: u64) -> bool {
        self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spare| spare.checked_sub(bytes)).is_ok()
    }

    /// Waits until what is queued now is written, or foyer has given up on it.
    async fn flushed(&self) -> Result<(), Fault> {
        let pending = self.pending.load(Ordering::Relaxed);
        let cache = self.cache.clone();
        // foyer panics here once a write has failed at the wrong moment: only in a task of its own
        self.spawner.spawn(async move { cache.storage().wait().await }).await.map_err(Fault::of)?;
        // saturating: two that wait at the same time take the same bytes off
        let less = |now: u64| Some(now.saturating_sub(pending));
        let _done = self.pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        Ok(())
    }

    async fn close(&self) -> Result<(), Fault> {
        let cache = self.cache.clone();
        let closed = tokio::time::timeout(FLUSH_PATIENCE, self.spawner.spawn(async move { cache.close().await }));
        let closed = closed.await.map_err(|_| Fault("the disk takes too long".to_owned()))?;
        closed.map_err(Fault::of)?.map_err(Fault::of)
    }

    /// Writes something and reads it back.
    async fn canary(&self) -> Result<(), Fault> {
        static SONG: AtomicU64 = AtomicU64::new(1);
        let song = SONG.fetch_add(1, Ordering::Relaxed);
        let singing = async {
            self.cache.insert(CANARY, Stored { tag: 0, entry: Entry::HitForMiss { until_unix_ms: song, reason: 0 } });
            self.flushed().await?;
            self.cache.get(&CANARY).await.map_err(Fault::of)
        };
        let heard = tokio::time::timeout(FLUSH_PATIENCE, singing).await;
        let heard = heard.map_err(|_| Fault("the disk took too long".to_owned()))??;
        match heard.as_ref().map(|heard| &heard.value().entry) {
            Some(Entry::HitForMiss { until_unix_ms, .. }) if *until_unix_ms == song => Ok(()),
            _ => Err(Fault("what was written did not come back".to_owned())),
        }
    }
}

/// What is wrong with the disk.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fault(String);

impl Fault {
    fn of(fault: impl std::fmt::Display) -> Self {
        Self(fault.to_string())
    }
}

async fn directory_held(spawner: &Spawner, path: PathBuf) -> u64 {
    // a few hundred calls that touch no data
    spawner.spawn_blocking(move || directory::held_bytes(Path::new(&path))).await.unwrap_or(0)
}

/// How much may wait to be written to disk; what comes beyond it stays in memory only. Held besides `memory_bytes`.
fn queue_bytes(memory_bytes: usize) -> usize {
    (memory_bytes / 8).clamp(4 * 1024 * 1024, 32 * 1024 * 1024) & !0xfff
}

/// Asked about each entry of a block that is about to be overwritten. Never lets foyer reinsert it; what is asked for in
/// memory is written anew.
#[derive(Debug)]
struct Rescue(Weak<Disk>);

impl StorageFilterCondition for Rescue {
    fn filter(&self, _stats: &Arc<Statistics>, hash: u64, _bytes: usize) -> StorageFilterResult {
        if let Some(disk) = self.0.upgrade()
            && let Some(hot) = disk.memory.hot(hash)
        {
            disk.rewrite(hot.key, hot.slot, hot.entry);
        }
        StorageFilterResult::Reject
    }
}
