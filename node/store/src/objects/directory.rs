//! The folder of the disk tier: one file per block, made by foyer, and two of our own.
//!
//! ```text
//! lock                              held by the node that uses the folder
//! layout                            "meridian cache 2, block_bytes=16777216\n"
//! foyer-storage-direct-fs-00000000  a block; sparse until it is written
//! probe                             for a moment, to see whether the disk takes and gives back bytes
//! ```

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::StoreError;

/// The smallest block: a few of the largest entries.
pub(super) const BLOCK_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// The size of a block where the disk is large enough to have many.
const BLOCK_BYTES: u64 = 16 * 1024 * 1024;
/// With fewer blocks, the ones being written and reclaimed would be a large part of the disk.
pub(super) const BLOCKS_MIN: u64 = 8;
/// Each block is an open file; more of them would use up a node's descriptors.
const BLOCKS_MAX: u64 = 512;
/// A part of the file system that the cache leaves free: the ledger may live there too.
const FREE_DIVISOR: u64 = 20;

const LAYOUT: &str = "meridian cache 2, block_bytes=";
const BLOCK_PREFIX: &str = "foyer-storage-direct-fs-";
const PROBE_BYTES: usize = 64 * 1024;
/// A block whose first page is zero is a clean one to foyer.
const PAGE: usize = 4096;

/// A folder that this process holds the lock of.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    block_bytes: u64,
    blocks: u64,
    lock: File,
}

impl Directory {
    /// Makes, locks and prepares the folder for `disk_bytes` of blocks.
    pub(super) fn open(path: PathBuf, disk_bytes: u64) -> Result<Self, StoreError> {
        if disk_bytes < super::DISK_BYTES_MIN {
            return Err(StoreError::TooSmall { disk_bytes });
        }
        let fault = |doing| {
            let dir = path.clone();
            move |source| StoreError::Directory { dir, doing, source }
        };
        fs::create_dir_all(&path).map_err(fault("make"))?;
        let lock = lock(&path)?;
        let room = room_bytes(&path).map_err(fault("measure the free space of"))?;
        if room < super::DISK_BYTES_MIN {
            return Err(StoreError::Full { dir: path, free_bytes: room });
        }
        let usable = disk_bytes.min((room - room / FREE_DIVISOR).max(super::DISK_BYTES_MIN));
        if usable < disk_bytes {
            tracing::warn!(disk_bytes, usable_bytes = usable, "the file system has less room than the cache may use");
        }
        let before = recorded_block_bytes(&path);
        let block_bytes = block_bytes(usable, before);
        let blocks = usable / block_bytes;
        // blocks of another size would be read at the wrong places: safe, but useless
        let kept = if before == Some(block_bytes) { blocks } else { 0 };
        drop_blocks(&path, kept).map_err(fault("remove old blocks of"))?;
        record_block_bytes(&path, block_bytes).map_err(fault("write in"))?;
        ensure_clean_block(&path, blocks).map_err(fault("prepare a block of"))?;
        Ok(Self { path, block_bytes, blocks, lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the folder be opened anew, while files in it may still be open.
    pub(super) fn unlock(&self) {
        if let Err(fault) = self.lock.unlock() {
            tracing::debug!(%fault, "unlocking the cache folder");
        }
    }

    /// Whether the folder is still the one that was opened: not removed, not replaced.
    pub(super) fn in_place(&self) -> io::Result<()> {
        let (ours, there) = (self.lock.metadata()?, fs::metadata(self.path.join("lock"))?);
        if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
            return Ok(());
        }
        Err(io::Error::other("the folder was replaced by another one"))
    }

    pub(super) fn capacity_bytes(&self) -> u64 {
        self.blocks * self.block_bytes
    }

    pub(super) fn capacity(&self) -> usize {
        usize::try_from(self.capacity_bytes()).unwrap_or(usize::MAX)
    }

    pub(super) fn block_bytes(&self) -> usize {
        usize::try_from(self.block_bytes).unwrap_or(usize::MAX)
    }
}

/// Whether a folder's disk takes bytes and gives them back.
pub(super) fn probe(path: &Path) -> io::Result<()> {
    let file = path.join("probe");
    let sent = [0xa5; PROBE_BYTES];
    let outcome = write_synced(&file, &sent).and_then(|()| fs::read(&file));
    let removed = match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let back = outcome?;
    removed?;
    if back == sent { Ok(()) } else { Err(io::Error::other("the disk gave back other bytes than it took")) }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What the blocks in a folder take on the disk, in bytes: less than their length, since they are sparse.
pub(super) fn held_bytes(path: &Path) -> u64 {
    let blocks = block_files(path).unwrap_or_default();
    blocks.iter().filter_map(|(_, file)| fs::metadata(file).ok()).map(|meta| meta.blocks() * 512).sum()
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let fault = |source| StoreError::Directory { dir: path.to_path_buf(), doing: "lock", source };
    let file = File::create(path.join("lock")).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: path.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(fault(source)),
    }
}

/// What the cache could hold: what is free, and what it holds already.
fn room_bytes(path: &Path) -> io::Result<u64> {
    Ok(fs4::available_space(path)? + held_bytes(path))
}

/// Keeps the size that the folder has, while it gives a sensible number of blocks, so that a changed `disk_bytes` does
/// not empty the cache.
fn block_bytes(disk_bytes: u64, before: Option<u64>) -> u64 {
    let sensible =
        |size: &u64| *size >= BLOCK_BYTES_MIN && (BLOCKS_MIN..=BLOCKS_MAX * 2).contains(&(disk_bytes / size));
    before.filter(sensible).unwrap_or_else(|| {
        let many = (disk_bytes / BLOCKS_MAX).next_power_of_two();
        let few = disk_bytes / (BLOCKS_MIN * 4);
        let few = few.next_power_of_two() >> u32::from(!few.is_power_of_two());
        few.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES).max(many)
    })
}

fn recorded_block_bytes(path: &Path) -> Option<u64> {
    fs::read_to_string(path.join("layout")).ok()?.strip_prefix(LAYOUT)?.trim().parse().ok()
}

fn record_block_bytes(path: &Path, block_bytes: u64) -> io::Result<()> {
    let mut file = File::create(path.join("layout"))?;
    writeln!(file, "{LAYOUT}{block_bytes}")?;
    file.sync_all()
}

/// The blocks in a folder, by number.
fn block_files(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut blocks = Vec::new();
    for file in fs::read_dir(path)? {
        let file = file?;
        let name = file.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(BLOCK_PREFIX)).and_then(|n| n.parse().ok());
        blocks.extend(number.map(|number| (number, file.path())));
    }
    Ok(blocks)
}

fn drop_blocks(path: &Path, kept: u64) -> io::Result<()> {
    for (_, file) in block_files(path)?.into_iter().filter(|(number, _)| *number >= kept) {
        fs::remove_file(file)?;
    }
    Ok(())
}

/// Sees to it that foyer finds a block to write to. It reclaims a block only when it has taken the last clean one, so
/// where all are in use at the start (a kill at the wrong moment, a smaller `disk_bytes`) it would wait for ever and
/// never write again. The block that was written longest ago is given up then.
fn ensure_clean_block(path: &Path, blocks: u64) -> io::Result<()> {
    let files = block_files(path)?;
    if (files.len() as u64) < blocks {
        return Ok(());
    }
    let mut oldest: Option<(SystemTime, PathBuf)> = None;
    for (_, file) in files {
        if is_clean(&file)? {
            return Ok(());
        }
        let written = fs::metadata(&file)?.modified()?;
        if oldest.as_ref().is_none_or(|(time, _)| written < *time) {
            oldest = Some((written, file));
        }
    }
    match oldest {
        Some((_, file)) => fs::OpenOptions::new().write(true).open(file)?.set_len(0),
        None => Ok(()),
    }
}

fn is_clean(file: &Path) -> io::Result<bool> {
    let mut page = Vec::with_capacity(PAGE);
    File::open(file)?.take(PAGE as u64).read_to_end(&mut page)?;
    Ok(page.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_neither_few_nor_many() {
        for shift in 25..=44 {
            for disk_bytes in [1 << shift, (1 << shift) + (1 << (shift - 1))] {
                let size = block_bytes(disk_bytes, None);
                let count = disk_bytes / size;
                assert!((BLOCKS_MIN..=BLOCKS_MAX).contains(&count), "{disk_bytes}: {count} blocks of {size}");
            }
        }
    }

    #[test]
    fn a_changed_size_keeps_the_blocks_while_their_number_is_sensible() {
        assert_eq!(block_bytes(10 << 30, Some(BLOCK_BYTES)), BLOCK_BYTES);
        assert_eq!(block_bytes(16 << 30, Some(BLOCK_BYTES)), BLOCK_BYTES);
        assert_ne!(block_bytes(1 << 40, Some(BLOCK_BYTES)), BLOCK_BYTES);
        assert_eq!(block_bytes(super::super::DISK_BYTES_MIN, Some(BLOCK_BYTES)), BLOCK_BYTES_MIN);
        assert_eq!(block_bytes(8 << 30, Some(3)), BLOCK_BYTES);
    }
}
