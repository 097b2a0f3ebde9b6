//! A disk in memory that fails and tears on command, for tests. Honest: what was not synced may be lost, in any order
//! and in pieces of a sector, and what was synced never is.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use redb::StorageBackend;

use super::disk::Disk;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    files: Mutex<BTreeMap<String, Platter>>,
    /// Counts the crashes: files that were opened before one are dead.
    life: AtomicU64,
    /// Operations that still succeed; then every write fails.
    good: Mutex<Option<u64>>,
}

/// The bytes of one file.
#[derive(Debug, Default, Clone)]
struct Platter {
    synced: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl FaultyDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `operations` more writes and syncs succeed and every later one fail, as a full or broken disk does.
    pub fn fail_after(&self, operations: u64) {
        *self.0.good.lock() = Some(operations);
    }

    /// Ends the faults.
    pub fn heal(&self) {
        *self.0.good.lock() = None;
    }

    /// Takes the power away: of what was not synced, each sector is kept or lost as `chance` has it. Files that are
    /// open are dead from now on.
    pub fn crash(&self, mut chance: u64) {
        self.0.life.fetch_add(1, Ordering::SeqCst);
        for platter in self.0.files.lock().values_mut() {
            let mut bytes = platter.synced.clone();
            for pending in platter.pending.drain(..) {
                match pending {
                    Pending::Length(len) if flip(&mut chance) => resize(&mut bytes, len),
                    Pending::Length(_) => {}
                    Pending::Write(at, data) => {
                        for (index, sector) in data.chunks(SECTOR).enumerate().filter(|_| flip(&mut chance)) {
                            put(&mut bytes, at + index * SECTOR, sector);
                        }
                    }
                }
            }
            platter.synced.clone_from(&bytes);
            platter.seen = bytes;
        }
    }

    /// Loses a file, as a replaced disk does. To be called while it is not open.
    pub fn lose(&self, name: &str) {
        self.0.files.lock().remove(name);
    }

    /// Spoils `count` bytes of a file from `at` on. To be called while it is not open.
    pub fn spoil(&self, name: &str, at: usize, count: usize) {
        if let Some(platter) = self.0.files.lock().get_mut(name) {
            for byte in platter.synced.iter_mut().skip(at).take(count) {
                *byte ^= 0x5a;
            }
            platter.seen.clone_from(&platter.synced);
        }
    }

    /// A copy of what is on the disk now.
    #[must_use]
    pub fn image(&self) -> Image {
        Image(self.0.files.lock().clone())
    }

    /// Sets the disk back to an image, as a restored virtual machine does. To be called while nothing is open.
    pub fn set_back(&self, image: &Image) {
        *self.0.files.lock() = image.0.clone();
    }

    /// The size of a file in bytes; 0 if there is none.
    #[must_use]
    pub fn bytes(&self, name: &str) -> usize {
        self.0.files.lock().get(name).map_or(0, |platter| platter.synced.len())
    }
}

/// What was on a [`FaultyDisk`] at some time.
#[derive(Debug, Clone)]
pub struct Image(BTreeMap<String, Platter>);

impl Disk for FaultyDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.0.files.lock().entry(name.to_owned()).or_default();
        let life = self.0.life.load(Ordering::SeqCst);
        Ok(Box::new(Opened { disk: self.clone(), name: name.to_owned(), life }))
    }

    fn set_aside(&self, name: &str) -> io::Result<()> {
        let gone = self.0.files.lock().remove(name);
        gone.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug)]
struct Opened {
    disk: FaultyDisk,
    name: String,
    life: u64,
}

impl Opened {
    fn with<T>(&self, writes: bool, act: impl FnOnce(&mut Platter) -> io::Result<T>) -> io::Result<T> {
        if self.disk.0.life.load(Ordering::SeqCst) != self.life {
            return Err(io::Error::other("the power was taken away"));
        }
        if writes && let Some(good) = &mut *self.disk.0.good.lock() {
            if *good == 0 {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk fails on command"));
            }
            *good -= 1;
        }
        let mut files = self.disk.0.files.lock();
        act(files.get_mut(&self.name).ok_or_else(|| io::Error::other("the file is gone"))?)
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        self.with(false, |platter| Ok(platter.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(false, |platter| {
            let from = index(offset)?;
            let bytes = platter.seen.get(from..from + out.len());
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(true, |platter| {
            resize(&mut platter.seen, index(len)?);
            platter.pending.push(Pending::Length(index(len)?));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(true, |platter| {
            // only what was written since: the disk may be large, and is synced often
            for pending in platter.pending.drain(..) {
                match pending {
                    Pending::Length(len) => resize(&mut platter.synced, len),
                    Pending::Write(at, data) => put(&mut platter.synced, at, &data),
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(true, |platter| {
            let at = index(offset)?;
            put(&mut platter.seen, at, data);
            platter.pending.push(Pending::Write(at, data.to_vec()));
            Ok(())
        })
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

/// In one piece: byte by byte it is most of what a test without optimisation does.
fn resize(bytes: &mut Vec<u8>, len: usize) {
    let more = len.saturating_sub(bytes.len());
    bytes.truncate(len);
    bytes.extend_from_slice(&vec![0; more]);
}

fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        resize(bytes, at + data.len());
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

/// One bit of a xorshift sequence.
fn flip(chance: &mut u64) -> bool {
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    *chance & 0x10 != 0
}
