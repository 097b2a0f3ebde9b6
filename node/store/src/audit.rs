//! Who ordered which purges: one file per realm (redb), beside the ledger and not part of it.
//!
//! ```text
//! rows     (tenant, unix ms, chance) -> bytes      what was ordered, in the words of whoever writes it
//! sizes    tenant                    -> bytes      how much a tenant's rows are
//! ```
//!
//! The tenant stands first, so that reading for one tenant touches no row of another, and so that a tenant that orders
//! too much loses its own past and nobody else's. Wall clock: this is for people, and decides nothing.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::ledger::{Disk, Door, LedgerError};

type Place<'a> = (&'a str, u64, u64);
const ROWS: TableDefinition<'_, Place<'static>, &[u8]> = TableDefinition::new("rows");
const SIZES: TableDefinition<'_, &str, u64> = TableDefinition::new("sizes");

/// Memory for redb's pages of one file, in bytes.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Longest row, in bytes.
pub const ROW_BYTES_MAX: usize = 64 * 1024;
/// What a row costs beside its bytes.
const ROW_COST: u64 = 64;
/// Rows that are looked at for one page, at most: a filter that fits nothing must not read for minutes.
pub const SCAN_MAX: usize = 20_000;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// For so long, in ms.
    pub age_ms: u64,
    /// So many bytes at most, of all tenants together.
    pub bytes: u64,
}

/// Where a row stands among those of its tenant: newer ones are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// When it was ordered, in ms since the Unix epoch.
    pub unix_ms: u64,
    /// A random number, so that it says nothing about the rows of others.
    pub chance: u64,
}

/// A row to write. One with the same tenant and stamp is replaced.
#[derive(Debug, Clone)]
pub struct Row {
    /// Whose it is; empty for the operator's own.
    pub tenant: String,
    /// Its place.
    pub stamp: Stamp,
    /// What it says, at most [`ROW_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// Which rows to read.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Of this tenant only; of all if none.
    pub tenant: Option<&'a str>,
    /// From this moment on, in ms since the Unix epoch.
    pub since_unix_ms: u64,
    /// Below this place: where the page before ended.
    pub below: Stamp,
    /// So many at most.
    pub limit: usize,
}

/// Some rows, newest first.
#[derive(Debug, Default)]
pub struct Page {
    /// What was found.
    pub rows: Vec<Row>,
    /// Where to go on; none if that was all.
    pub below: Option<Stamp>,
}

/// One realm's file.
#[derive(Debug)]
pub struct AuditFile {
    reader: AuditReader,
    keep: Keep,
}

/// The same for reading; cheap to clone.
#[derive(Debug, Clone)]
pub struct AuditReader {
    db: Arc<Database>,
    name: Arc<str>,
}

impl AuditFile {
    /// Opens a file, or makes one. One that cannot be read is set aside: that is no reason not to start.
    ///
    /// # Errors
    /// [`LedgerError::Open`] if the disk says no.
    pub fn open(disk: &dyn Disk, name: &str, keep: Keep) -> Result<Self, LedgerError> {
        let fault = |why: String| LedgerError::Open { name: name.to_owned(), why };
        let db = match attempt(disk, name).map_err(fault)? {
            Ok(db) => db,
            Err(why) => {
                tracing::error!(file = name, why, "the audit file was unusable and is set aside");
                disk.set_aside(name).map_err(|why| fault(why.to_string()))?;
                attempt(disk, name).map_err(fault)?.map_err(fault)?
            }
        };
        Ok(Self { reader: AuditReader { db: Arc::new(db), name: name.into() }, keep })
    }

    /// The file for readers.
    #[must_use]
    pub fn reader(&self) -> AuditReader {
        self.reader.clone()
    }

    /// Writes rows, and drops what is too old or too much. When this returns, they are on disk.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`] if the disk says no.
    pub fn commit(&self, rows: &[Row], now_unix_ms: u64) -> Result<(), LedgerError> {
        self.write(rows, now_unix_ms)
            .map_err(|why| LedgerError::Stopped { name: self.reader.name.to_string(), why: why.to_string() })
    }

    fn write(&self, rows: &[Row], now_unix_ms: u64) -> Result<(), redb::Error> {
        let mut transaction = self.reader.db.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut table = transaction.open_table(ROWS)?;
            let mut sizes = transaction.open_table(SIZES)?;
            for row in rows.iter().filter(|row| row.bytes.len() <= ROW_BYTES_MAX) {
                let before = table.insert(place(&row.tenant, row.stamp), row.bytes.as_slice())?;
                let before = before.map_or(0, |before| cost(before.value()));
                let size = sizes.get(row.tenant.as_str())?.map_or(0, |size| size.value());
                let size = size.saturating_sub(before) + cost(&row.bytes);
                sizes.insert(row.tenant.as_str(), size)?;
            }
            let all: Vec<(String, u64)> = sizes
                .iter()?
                .map(|row| row.map(|(t, s)| (t.value().to_owned(), s.value())))
                .collect::<Result<_, _>>()?;
            let oldest = now_unix_ms.saturating_sub(self.keep.age_ms);
            let mut total: u64 = all.iter().map(|(_, size)| *size).sum();
            for (tenant, size) in &all {
                let old = drop_below(&mut table, tenant, |stamp, _| stamp.unix_ms < oldest)?;
                total -= old.min(*size);
                resize(&mut sizes, tenant, size.saturating_sub(old))?;
            }
            if total > self.keep.bytes {
                // whoever has the most gives up an eighth, so that this is not done for every row
                let largest = all.iter().max_by_key(|(_, size)| *size);
                if let Some((tenant, size)) = largest {
                    let goal = (total - self.keep.bytes).max(*size / 8);
                    let dropped = drop_below(&mut table, tenant, |_, dropped| dropped < goal)?;
                    let left = sizes.get(tenant.as_str())?.map_or(0, |size| size.value()).saturating_sub(dropped);
                    resize(&mut sizes, tenant, left)?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl AuditReader {
    /// Reads rows, newest first; `accepts` says which ones are wanted.
    ///
    /// # Errors
    /// [`LedgerError::Read`] if the disk says no.
    pub fn page(&self, wanted: Wanted<'_>, accepts: impl FnMut(&[u8]) -> bool) -> Result<Page, LedgerError> {
        self.read(wanted, accepts)
            .map_err(|why| LedgerError::Read { name: self.name.to_string(), why: why.to_string() })
    }

    fn read(&self, wanted: Wanted<'_>, mut accepts: impl FnMut(&[u8]) -> bool) -> Result<Page, redb::Error> {
        let transaction = self.db.begin_read()?;
        let tenants: Vec<String> = match wanted.tenant {
            Some(tenant) => vec![tenant.to_owned()],
            None => {
                let sizes = transaction.open_table(SIZES)?;
                sizes.iter()?.map(|row| row.map(|(tenant, _)| tenant.value().to_owned())).collect::<Result<_, _>>()?
            }
        };
        let table = transaction.open_table(ROWS)?;
        // the newest row of each tenant that is not taken yet
        let mut heads = Vec::with_capacity(tenants.len());
        for tenant in &tenants {
            let from = (tenant.as_str(), wanted.since_unix_ms, 0);
            let to = place(tenant, wanted.below);
            if from >= to {
                continue;
            }
            let mut rows = table.range(from..to)?.rev();
            if let Some(head) = rows.next().transpose()? {
                heads.push((head, rows));
            }
        }
        let mut page = Page::default();
        let mut scanned = 0;
        while let Some(newest) = (0..heads.len()).max_by_key(|at| heads.get(*at).map(|(row, _)| stamp(row.0.value()))) {
            let Some((row, rows)) = heads.get_mut(newest) else { break };
            let (tenant, at) = (row.0.value().0.to_owned(), stamp(row.0.value()));
            if accepts(row.1.value()) {
                page.rows.push(Row { tenant, stamp: at, bytes: row.1.value().to_vec() });
            }
            match rows.next().transpose()? {
                Some(next) => *row = next,
                None => drop(heads.swap_remove(newest)),
            }
            scanned += 1;
            if page.rows.len() >= wanted.limit || scanned >= SCAN_MAX {
                page.below = (!heads.is_empty()).then_some(at);
                break;
            }
        }
        Ok(page)
    }
}

/// Opens a file once. The inner error is about its content.
fn attempt(disk: &dyn Disk, name: &str) -> Result<Result<Database, String>, String> {
    let backend = disk.open(name).map_err(|why| why.to_string())?;
    // redb takes some broken files for impossible ones and panics; here that is one more way of being broken
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Database, redb::Error> {
        let db = redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(Door::new(backend))?;
        let transaction = db.begin_write()?;
        transaction.open_table(ROWS)?;
        transaction.open_table(SIZES)?;
        transaction.commit()?;
        Ok(db)
    }));
    match opened {
        Err(_) => Ok(Err("it makes its reader panic".to_owned())),
        Ok(Err(redb::Error::Io(why))) if why.kind() != std::io::ErrorKind::InvalidData => Err(why.to_string()),
        Ok(Err(why)) => Ok(Err(why.to_string())),
        Ok(Ok(db)) => Ok(Ok(db)),
    }
}

fn place(tenant: &str, stamp: Stamp) -> Place<'_> {
    (tenant, stamp.unix_ms, stamp.chance)
}

fn stamp((_, unix_ms, chance): Place<'_>) -> Stamp {
    Stamp { unix_ms, chance }
}

fn cost(bytes: &[u8]) -> u64 {
    bytes.len() as u64 + ROW_COST
}

type Rows<'a> = redb::Table<'a, Place<'static>, &'static [u8]>;

/// Drops a tenant's oldest rows for as long as `goes` says so, given a row's place and what was dropped before it. Gives
/// the bytes that were dropped.
fn drop_below(table: &mut Rows<'_>, tenant: &str, goes: impl Fn(Stamp, u64) -> bool) -> Result<u64, redb::Error> {
    let mut dropped = 0;
    loop {
        let oldest = {
            let mut rows = table.range((tenant, 0, 0)..=(tenant, u64::MAX, u64::MAX))?;
            rows.next().transpose()?.map(|(key, value)| (stamp(key.value()), cost(value.value())))
        };
        match oldest {
            Some((stamp, bytes)) if goes(stamp, dropped) => {
                table.remove(place(tenant, stamp))?;
                dropped += bytes;
            }
            Some(_) | None => return Ok(dropped),
        }
    }
}

fn resize(sizes: &mut redb::Table<'_, &'static str, u64>, tenant: &str, bytes: u64) -> Result<(), redb::Error> {
    if bytes == 0 {
        sizes.remove(tenant)?;
    } else {
        sizes.insert(tenant, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ledger::FaultyDisk;

    const NAME: &str = "global.audit";
    const KEEP: Keep = Keep { age_ms: 1_000, bytes: 1 << 20 };
    const END: Stamp = Stamp { unix_ms: u64::MAX, chance: u64::MAX };

    fn row(tenant: &str, unix_ms: u64, text: &str) -> Row {
        Row { tenant: tenant.into(), stamp: Stamp { unix_ms, chance: unix_ms ^ 0x55 }, bytes: text.into() }
    }

    fn texts(file: &AuditFile, wanted: Wanted<'_>) -> (Vec<String>, Option<Stamp>) {
        let page = file.reader().page(wanted, |_| true).unwrap();
        (page.rows.into_iter().map(|row| String::from_utf8(row.bytes).unwrap()).collect(), page.below)
    }

    fn all(tenant: Option<&str>) -> Wanted<'_> {
        Wanted { tenant, since_unix_ms: 0, below: END, limit: 100 }
    }

    #[test]
    fn what_was_written_is_read_newest_first_after_a_restart_too() {
        let disk = FaultyDisk::new();
        let file = AuditFile::open(&disk, NAME, KEEP).unwrap();
        file.commit(&[row("a", 1, "a1"), row("b", 2, "b2"), row("a", 3, "a3")], 3).unwrap();
        drop(file);
        disk.crash(1);
        let file = AuditFile::open(&disk, NAME, KEEP).unwrap();
        assert_eq!(texts(&file, all(None)).0, ["a3", "b2", "a1"]);
        assert_eq!(texts(&file, all(Some("a"))).0, ["a3", "a1"]);
        assert_eq!(texts(&file, all(Some("c"))).0, Vec::<String>::new());
        let (first, below) = texts(&file, Wanted { limit: 1, ..all(None) });
        assert_eq!(first, ["a3"]);
        assert_eq!(texts(&file, Wanted { below: below.unwrap(), ..all(None) }).0, ["b2", "a1"]);
        assert_eq!(texts(&file, Wanted { since_unix_ms: 2, ..all(None) }).0, ["a3", "b2"]);
        let some = file.reader().page(all(None), |bytes| bytes == b"b2").unwrap();
        assert_eq!((some.rows.len(), some.below), (1, None));
    }

    #[test]
    fn a_row_is_replaced_by_a_later_word_on_it() {
        let file = AuditFile::open(&FaultyDisk::new(), NAME, KEEP).unwrap();
        file.commit(&[row("a", 1, "before")], 1).unwrap();
        file.commit(&[row("a", 1, "after")], 1).unwrap();
        assert_eq!(texts(&file, all(None)).0, ["after"]);
    }

    #[test]
    fn what_is_too_old_goes() {
        let file = AuditFile::open(&FaultyDisk::new(), NAME, KEEP).unwrap();
        file.commit(&[row("a", 1, "old"), row("b", 1, "old"), row("b", 900, "new")], 900).unwrap();
        file.commit(&[row("b", 1_500, "newest")], 1_500).unwrap();
        assert_eq!(texts(&file, all(None)).0, ["newest", "new"]);
    }

    #[test]
    fn a_noisy_tenant_loses_its_own_past_and_nobody_elses() {
        let keep = Keep { age_ms: u64::MAX, bytes: 100_000 };
        let file = AuditFile::open(&FaultyDisk::new(), NAME, keep).unwrap();
        file.commit(&[row("quiet", 1, "kept")], 1).unwrap();
        let text = "x".repeat(936);
        for unix_ms in 2..1_002 {
            file.commit(&[row("noisy", unix_ms, &text)], unix_ms).unwrap();
        }
        assert_eq!(texts(&file, all(Some("quiet"))).0, ["kept"]);
        let noisy = file.reader().page(Wanted { limit: 10_000, ..all(Some("noisy")) }, |_| true).unwrap().rows;
        assert!((80..=100).contains(&noisy.len()), "{}", noisy.len());
        assert_eq!(noisy[0].stamp.unix_ms, 1_001);
    }

    #[test]
    fn a_file_that_is_torn_is_set_aside_and_a_disk_that_fails_is_said() {
        let disk = FaultyDisk::new();
        let file = AuditFile::open(&disk, NAME, KEEP).unwrap();
        file.commit(&[row("a", 1, "a1")], 1).unwrap();
        disk.fail_after(0);
        assert!(file.commit(&[row("a", 2, "a2")], 2).is_err());
        drop(file);
        disk.heal();
        disk.crash(1);
        disk.spoil(NAME, 0, 512);
        let file = AuditFile::open(&disk, NAME, KEEP).unwrap();
        assert!(texts(&file, all(None)).0.len() <= 1);
    }
}
