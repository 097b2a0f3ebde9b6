//! Reading a realm's file when a node starts.

use std::{io::ErrorKind, sync::Arc};

use redb::{Database, ReadableTable, WriteTransaction};
use region_config::{NodeId, SiteId};
use rules::purge::{
    Cursor, Event, Marks, Position, PurgeId, RealmSecret, Record, Saved, SavedWitness, SiteFloors, WINDOW_MAX,
    WitnessState,
};
use wire::purge::{decode_event, decode_record, decode_roll};

use super::file::{CURSORS, Chance, FLOORS, KNOWN, LOG, Life, MARKS, META, OUTBOX, Past, UNSEEN, VERSION, begin_write};

/// Records of the own log whose ids are loaded; an older event that comes again is stored twice.
const IDS_LOADED_MAX: usize = 65_536;

/// Why a file could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// Its content.
    Content(String),
    /// The disk, or another process.
    Disk(String),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(fault: E) -> Self {
        let fault = fault.into();
        let why = fault.to_string();
        match fault {
            redb::Error::Io(io) if !matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                Self::Disk(why)
            }
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                Self::Disk(format!("another process has it open: {why}"))
            }
            _ => Self::Content(why),
        }
    }
}

fn broken(what: &str) -> Fault {
    Fault::Content(format!("its {what} is broken"))
}

/// Reads everything, or begins a new life, and counts the boot; all of that is on disk when this returns.
pub(super) fn begin(db: &Database, chance: Chance) -> Result<(Life, Saved, Past), Fault> {
    let transaction = begin_write(db)?;
    let (life, saved, past) = {
        let mut meta = transaction.open_table(META)?;
        let kept = meta.get("version")?.map(|version| version.value().to_vec());
        let (life, past) = match kept.as_deref() {
            Some([VERSION]) => (kept_life(&meta, chance)?, Past::Kept),
            Some(other) => return Err(Fault::Content(format!("it has version {other:?}, expected {VERSION}"))),
            None => {
                meta.insert("version", [VERSION].as_slice())?;
                meta.insert("life", chance.life.as_slice())?;
                meta.insert("secret", chance.secret.as_slice())?;
                let life = Life { life: chance.life, secret: RealmSecret(chance.secret), boot: chance.boot_min.max(1) };
                (life, Past::None)
            }
        };
        meta.insert("boot", life.boot.to_be_bytes().as_slice())?;
        let floors = (number(&meta, "floor")?.unwrap_or(0), number(&meta, "floor_soft")?.unwrap_or(0));
        let witness = meta.get("witness")?.map(|state| state.value().to_vec());
        let roll = meta.get("roll")?.map(|roll| decode_roll(roll.value()).map_err(|_| broken("roll"))).transpose()?;
        (life, Saved { roll, ..saved(&transaction, floors, witness)? }, past)
    };
    transaction.commit()?;
    Ok((life, saved, past))
}

fn kept_life(meta: &impl ReadableTable<&'static str, &'static [u8]>, chance: Chance) -> Result<Life, Fault> {
    let bytes = |key: &'static str| -> Result<[u8; 16], Fault> {
        let value = meta.get(key)?.ok_or_else(|| broken(key))?;
        value.value().try_into().map_err(|_| broken(key))
    };
    let boot = meta.get("boot")?.ok_or_else(|| broken("boot"))?;
    let boot = u32::from_be_bytes(boot.value().try_into().map_err(|_| broken("boot"))?);
    let boot = boot.saturating_add(1).max(chance.boot_min);
    Ok(Life { life: bytes("life")?, secret: RealmSecret(bytes("secret")?), boot })
}

fn number(meta: &impl ReadableTable<&'static str, &'static [u8]>, key: &'static str) -> Result<Option<u64>, Fault> {
    let Some(value) = meta.get(key)? else { return Ok(None) };
    Ok(Some(u64::from_be_bytes(value.value().try_into().map_err(|_| broken(key))?)))
}

/// Opening the tables for writing makes those that are not there yet.
fn saved(transaction: &WriteTransaction, floors: (u64, u64), witness: Option<Vec<u8>>) -> Result<Saved, Fault> {
    let (floor, floor_soft) = (Position(floors.0), Position(floors.1));
    let mut saved = Saved { floor, floor_soft, ..Saved::default() };
    for row in transaction.open_table(MARKS)?.iter()? {
        let (key, value) = row?;
        let ((name, key), (hard, soft)) = (key.value(), value.value());
        saved.marks.push((site(name)?, key, Marks { hard: Position(hard), soft: Position(soft) }));
    }
    for row in transaction.open_table(FLOORS)?.iter()? {
        let (name, value) = row?;
        let (hard, soft) = value.value();
        saved.floors.push((site(name.value())?, SiteFloors { hard: Position(hard), soft: Position(soft) }));
    }
    for row in transaction.open_table(KNOWN)?.iter()? {
        let (position, value) = row?;
        let (request, id) = value.value();
        saved.known.push((Position(position.value()), request, PurgeId(id)));
    }
    for row in transaction.open_table(CURSORS)?.iter()? {
        let (name, value) = row?;
        let (epoch, seq, chain) = value.value();
        let name = NodeId::parse(name.value()).map_err(|_| broken("cursor"))?;
        saved.cursors.push((name, Cursor { epoch, seq, chain }));
    }
    saved.unseen = events(&transaction.open_table(UNSEEN)?)?;
    saved.outbox = events(&transaction.open_table(OUTBOX)?)?;
    let log = transaction.open_table(LOG)?;
    saved.witness = witness.map(|state| own_log(&log, &state)).transpose()?;
    Ok(saved)
}

fn site(name: &str) -> Result<SiteId, Fault> {
    SiteId::parse(name).map_err(|_| broken("site"))
}

fn events(table: &impl ReadableTable<u128, &'static [u8]>) -> Result<Vec<Arc<Event>>, Fault> {
    let rows = table.iter()?;
    rows.map(|row| decode_event(row?.1.value()).map(Arc::new).map_err(|_| broken("event"))).collect()
}

fn own_log(log: &impl ReadableTable<u64, &'static [u8]>, state: &[u8]) -> Result<SavedWitness, Fault> {
    let numbers: [u8; 25] = state.try_into().map_err(|_| broken("witness state"))?;
    let mut parts = numbers.chunks_exact(8).map(|part| part.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    let (epoch, base, base_chain) = (parts.next(), parts.next(), parts.next());
    let (Some(epoch), Some(base @ 1..), Some(base_chain)) = (epoch, base, base_chain) else {
        return Err(broken("witness state"));
    };
    let state = WitnessState { epoch, base, base_chain, voting: numbers[24] == 1 };
    let (mut ids, mut newest): (Vec<(u64, PurgeId)>, Vec<Arc<Record>>) = (Vec::new(), Vec::new());
    for row in log.iter()?.rev().take(IDS_LOADED_MAX) {
        let (seq, bytes) = row?;
        let record = decode_record(bytes.value()).map_err(|_| broken("log"))?;
        let follows = newest.last().is_none_or(|last| last.seq == record.seq + 1) || newest.len() == WINDOW_MAX;
        if record.seq != seq.value() || !follows {
            return Err(broken("log"));
        }
        ids.push((record.seq, record.event.id()));
        if newest.len() < WINDOW_MAX {
            newest.push(Arc::new(record));
        }
    }
    ids.reverse();
    newest.reverse();
    Ok(SavedWitness { state, ids, newest })
}
