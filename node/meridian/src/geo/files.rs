//! Geo files on disk: read whole and in one state, and told apart from what was there before.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use region_config::Geo;

/// Largest database file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Beside a database: the sum of the contents that an operator wants although something speaks against them.
const ACCEPTED: &str = "accepted";

/// What tells one state of a file from another, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    /// When anything about it changed last; unlike the time before, nobody can set it.
    changed_ns: i128,
}

impl Stamp {
    /// The state of a file; none if it is not there.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// The state of all files that a config names, and of what operators have said about them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stamps([Option<Stamp>; 5]);

impl Stamps {
    pub(super) fn of(geo: &Geo) -> Self {
        let stamp = |path: Option<&Path>| path.and_then(Stamp::of);
        let accepted = |path: &Option<PathBuf>| path.as_deref().map(|path| beside(path, ACCEPTED));
        Self([
            stamp(geo.file.as_deref()),
            stamp(geo.asn_file.as_deref()),
            stamp(geo.round_trips.as_deref()),
            stamp(accepted(&geo.file).as_deref()),
            stamp(accepted(&geo.asn_file).as_deref()),
        ])
    }

    /// Whether what was read is the same.
    pub(super) fn same_contents(&self, other: &Self) -> bool {
        self.0[..3] == other.0[..3]
    }
}

/// Reads a file that nobody writes to meanwhile. Never mapped: a mapped file that is cut short in place kills the process.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(path, FILE_BYTES_MAX)
}

/// The same for a file of so many bytes.
pub(super) fn read_up_to(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let before = Stamp::of(path);
    let bytes = fs::metadata(path)?.len();
    if bytes > bytes_max {
        return Err(io::Error::other(format!("it has {bytes} bytes, and {bytes_max} are the most that is read")));
    }
    let contents = fs::read(path)?;
    if Stamp::of(path) != before {
        return Err(io::Error::other("it was changed while it was read: replace it by renaming a finished file"));
    }
    Ok(contents)
}

/// A file beside another one: `city.mmdb` and `previous` is `city.mmdb.previous`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether an operator has said that these contents of a file are wanted.
pub(super) fn is_accepted(path: &Path, sum: &blake3::Hash) -> bool {
    let said = fs::read_to_string(beside(path, ACCEPTED)).unwrap_or_default();
    said.trim() == sum.to_hex().as_str()
}

/// Notes that an operator wants these contents of a file.
pub(super) fn accept(path: &Path, sum: &blake3::Hash) -> io::Result<()> {
    let (note, aside) = (beside(path, ACCEPTED), beside(path, "accepted.new"));
    fs::write(&aside, format!("{}\n", sum.to_hex()))?;
    fs::File::open(&aside)?.sync_all()?;
    fs::rename(&aside, &note)
}
