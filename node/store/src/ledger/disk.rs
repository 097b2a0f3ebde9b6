//! The narrow door to the disk.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io,
    ops::Bound,
    path::PathBuf,
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

/// Where ledger files are. Two implementors: [`RealDisk`], and [`super::FaultyDisk`], which fails and tears on command.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file, made empty if there is none; its name is safe on disk when this returns.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// Moves a file that cannot be used out of the way, for people to look at.
    ///
    /// # Errors
    /// What the system says.
    fn set_aside(&self, name: &str) -> io::Result<()>;
}

/// A folder.
#[derive(Debug, Clone)]
pub struct RealDisk {
    folder: PathBuf,
}

impl RealDisk {
    /// The files of `folder`, which is made if there is none.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.folder.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        self.sync()?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    /// One file of a name is kept aside: a disk that breaks again and again must not fill up with what it broke.
    fn set_aside(&self, name: &str) -> io::Result<()> {
        fs::rename(self.folder.join(name), self.folder.join(format!("{name}.unusable")))?;
        self.sync()
    }
}

/// What redb takes: a type that it can own, and that is not a `Box` itself.
#[derive(Debug)]
pub(crate) struct Door(pub(super) Box<dyn StorageBackend>);

impl Door {
    pub(crate) fn new(backend: Box<dyn StorageBackend>) -> Self {
        Self(backend)
    }
}

impl StorageBackend for Door {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
