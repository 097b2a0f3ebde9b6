//! One realm's file.
//!
//! ```text
//! meta     "version" "life" "secret" "boot" "floor" "floor_soft" "witness" "roll" -> bytes
//! marks    (site, key hash)  -> (hard, soft)          positions of the last purges
//! floors   site              -> (hard, soft)
//! known    position          -> (request, id)         what was applied
//! unseen   id                -> event                 applied, and in no log that was read
//! cursors  witness           -> (epoch, seq, chain)
//! log      seq               -> record                the own log, of a witness
//! outbox   id                -> event                 taken here, and not known to be on a majority
//! ```
//! Events and records as in `wire::purge`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use rules::purge::{Delta, Event, PurgeId, RealmSecret, Record, Saved, WitnessState};
use wire::purge::{decode_record, encode_event, encode_record, encode_roll};

use super::{
    LedgerError,
    disk::{Disk, Door},
    load,
};

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const MARKS: TableDefinition<'_, (&str, u64), (u64, u64)> = TableDefinition::new("marks");
pub(super) const FLOORS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("floors");
pub(super) const KNOWN: TableDefinition<'_, u64, (u128, u128)> = TableDefinition::new("known");
pub(super) const UNSEEN: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("unseen");
pub(super) const CURSORS: TableDefinition<'_, &str, (u64, u64, u64)> = TableDefinition::new("cursors");
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
pub(super) const OUTBOX: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("outbox");

/// The version of the tables above.
pub(super) const VERSION: u8 = 1;

/// Memory for redb's pages of one file, in bytes.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Random numbers for a file that has to be made, and a lower bound of the boot number.
#[derive(Debug, Clone, Copy)]
pub struct Chance {
    /// Random name of the file's life.
    pub life: [u8; 16],
    /// Random secret for hashing keys.
    pub secret: [u8; 16],
    /// The boot number is at least this: something that grows by itself, for the case that the file was set back.
    pub boot_min: u32,
}

/// What a file is to the node's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Random name of the file. Positions mean nothing in objects that were stored in another life.
    pub life: [u8; 16],
    /// Secret for hashing keys, of the same life.
    pub secret: RealmSecret,
    /// This boot, on disk already.
    pub boot: u32,
}

/// Whether there was a past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// The file was there and whole.
    Kept,
    /// There was none.
    None,
    /// It could not be used and was set aside.
    Lost {
        /// Why.
        why: String,
    },
}

/// An opened file.
#[derive(Debug)]
pub struct Opened {
    /// The file, to be given to a [`super::Writer`].
    pub file: LedgerFile,
    /// Its identity.
    pub life: Life,
    /// What was in it.
    pub saved: Saved,
    /// Whether there was a past.
    pub past: Past,
}

/// One realm's file.
#[derive(Debug)]
pub struct LedgerFile {
    log: Log,
    stopped: Option<LedgerError>,
}

/// The own log of a file, for reading; cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    db: Arc<Database>,
    name: Arc<str>,
}

impl LedgerFile {
    /// Opens a realm's file, or makes one, and counts the boot. A file that cannot be read is set aside: that is a
    /// loss of the past, and no reason not to start.
    ///
    /// # Errors
    /// [`LedgerError::Open`] if the disk says no, or another process has the file.
    pub fn open(disk: &dyn Disk, name: &str, chance: Chance) -> Result<Opened, LedgerError> {
        let lost = match attempt(disk, name, chance)? {
            Ok(opened) => return Ok(opened),
            Err(why) => why,
        };
        let fault = |why: String| LedgerError::Open { name: name.to_owned(), why };
        disk.set_aside(name).map_err(|fault_of_disk| fault(fault_of_disk.to_string()))?;
        let opened = attempt(disk, name, chance)?.map_err(fault)?;
        Ok(Opened { past: Past::Lost { why: lost }, ..opened })
    }

    /// Writes a change. When this returns, it is on disk.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`] now and ever after if the disk says no.
    pub fn commit(&mut self, delta: &Delta) -> Result<(), LedgerError> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        write(&self.log.db, delta).map_err(|why| {
            let stopped = LedgerError::Stopped { name: self.log.name.to_string(), why: why.to_string() };
            self.stopped = Some(stopped.clone());
            stopped
        })
    }

    /// Its log, for readers.
    #[must_use]
    pub fn log(&self) -> Log {
        self.log.clone()
    }
}

impl Log {
    /// The records after `after`, at most `max` and about `bytes` of them.
    ///
    /// # Errors
    /// [`LedgerError::Read`] if the disk says no or a record is broken.
    pub fn after(&self, after: u64, max: usize, bytes: usize) -> Result<Vec<Arc<Record>>, LedgerError> {
        let fault =
            |why: &dyn std::fmt::Display| LedgerError::Read { name: self.name.to_string(), why: why.to_string() };
        let read = || -> Result<Vec<Vec<u8>>, redb::Error> {
            let table = self.db.begin_read()?.open_table(LOG)?;
            let mut found = Vec::new();
            let mut left = bytes;
            for row in table.range(after.saturating_add(1)..)?.take(max) {
                let record = row?.1.value().to_vec();
                left = left.saturating_sub(record.len());
                found.push(record);
                if left == 0 {
                    break;
                }
            }
            Ok(found)
        };
        let records = read().map_err(|why| fault(&why))?;
        records.iter().map(|record| decode_record(record).map(Arc::new).map_err(|why| fault(&why))).collect()
    }
}

/// Opens a file once. The inner error is about its content.
fn attempt(disk: &dyn Disk, name: &str, chance: Chance) -> Result<Result<Opened, String>, LedgerError> {
    let fault = |why: String| LedgerError::Open { name: name.to_owned(), why };
    let backend = disk.open(name).map_err(|why| fault(why.to_string()))?;
    // redb takes some broken files for impossible ones and panics; here that is one more way of being broken
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(Door(backend))?;
        load::begin(&db, chance).map(|(life, saved, past)| (db, life, saved, past))
    }));
    match opened {
        Err(_) => Ok(Err("it makes its reader panic".to_owned())),
        Ok(Err(load::Fault::Content(why))) => Ok(Err(why)),
        Ok(Err(load::Fault::Disk(why))) => Err(fault(why)),
        Ok(Ok((db, life, saved, past))) => {
            let log = Log { db: Arc::new(db), name: name.into() };
            Ok(Ok(Opened { file: LedgerFile { log, stopped: None }, life, saved, past }))
        }
    }
}

/// A write transaction that is fast to recover from.
pub(super) fn begin_write(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn write(db: &Database, delta: &Delta) -> Result<(), redb::Error> {
    let transaction = begin_write(db)?;
    write_marks(&transaction, delta)?;
    write_heard(&transaction, delta)?;
    write_log(&transaction, delta)?;
    transaction.commit()?;
    Ok(())
}

fn write_marks(transaction: &WriteTransaction, delta: &Delta) -> Result<(), redb::Error> {
    if let Some(floor) = delta.floor {
        transaction.open_table(META)?.insert("floor", floor.0.to_be_bytes().as_slice())?;
        transaction.delete_table(MARKS)?;
    }
    if let Some(floor) = delta.floor_soft {
        transaction.open_table(META)?.insert("floor_soft", floor.0.to_be_bytes().as_slice())?;
    }
    let mut marks = transaction.open_table(MARKS)?;
    for (site, key, mark) in &delta.marks {
        marks.insert((site.as_str(), *key), (mark.hard.0, mark.soft.0))?;
    }
    let mut floors = transaction.open_table(FLOORS)?;
    for (site, floor) in &delta.floors {
        floors.insert(site.as_str(), (floor.hard.0, floor.soft.0))?;
        let all = (site.as_str(), 0)..=(site.as_str(), u64::MAX);
        marks.retain_in(all, |_, (hard, soft)| hard.max(soft) > floor.hard.0)?;
    }
    Ok(())
}

fn write_heard(transaction: &WriteTransaction, delta: &Delta) -> Result<(), redb::Error> {
    let mut known = transaction.open_table(KNOWN)?;
    for (position, request, id) in &delta.known {
        known.insert(position.0, (*request, id.0))?;
    }
    if let Some(forget) = delta.forget {
        while known.first()?.is_some_and(|(position, _)| position.value() < forget.0) {
            known.pop_first()?;
        }
    }
    if delta.forget_cursors {
        transaction.delete_table(CURSORS)?;
    }
    let mut cursors = transaction.open_table(CURSORS)?;
    for (witness, cursor) in &delta.cursors {
        cursors.insert(witness.as_str(), (cursor.epoch, cursor.seq, cursor.chain))?;
    }
    write_events(&mut transaction.open_table(UNSEEN)?, &delta.unseen)?;
    write_events(&mut transaction.open_table(OUTBOX)?, &delta.outbox)
}

fn write_events(
    table: &mut redb::Table<'_, u128, &'static [u8]>,
    events: &std::collections::BTreeMap<PurgeId, Option<Arc<Event>>>,
) -> Result<(), redb::Error> {
    for (id, event) in events {
        match event {
            None => drop(table.remove(id.0)?),
            Some(event) => {
                let mut bytes = Vec::new();
                encode_event(event, &mut bytes);
                table.insert(id.0, bytes.as_slice())?;
            }
        }
    }
    Ok(())
}

fn write_log(transaction: &WriteTransaction, delta: &Delta) -> Result<(), redb::Error> {
    if delta.forget_log {
        transaction.delete_table(LOG)?;
        transaction.open_table(META)?.remove("witness")?;
    }
    if let Some(roll) = &delta.roll {
        transaction.open_table(META)?.insert("roll", encode_roll(roll).as_slice())?;
    }
    let mut log = transaction.open_table(LOG)?;
    for record in &delta.records {
        let mut bytes = Vec::new();
        encode_record(record, &mut bytes);
        log.insert(record.seq, bytes.as_slice())?;
    }
    if let Some(state) = &delta.witness {
        log.retain_in(..state.base, |_, _| false)?;
        transaction.open_table(META)?.insert("witness", witness_bytes(state).as_slice())?;
    }
    Ok(())
}

fn witness_bytes(state: &WitnessState) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(25);
    for number in [state.epoch, state.base, state.base_chain] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.push(u8::from(state.voting));
    bytes
}
