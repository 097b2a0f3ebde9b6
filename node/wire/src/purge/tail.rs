//! The frames of a tail: a reader following a witness's log.

use std::sync::Arc;

use region_config::RealmId;
use rules::purge::{Cursor, LogHead, Record, RollSum, Stand, TailStart};

use super::{
    MESSAGE_VERSION,
    event::{encode_record, take_record},
    ledger::{BATCH_EVENTS_MAX, Refusal, put_refusal, realm, sized, take_refusal},
    roll::{put_stand, put_sum, take_stand, take_sum},
};
use crate::message::{MessageFault, Reader, put_count, put_text};

/// One frame of a tail, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailFrame {
    /// Reader: which log, and the witnesses that it was started with.
    Tail(RealmId, RollSum),
    /// Witness: what it has; as an answer to a poll, with its number (else 0).
    Head {
        /// The poll that it answers.
        nonce: u64,
        /// What it has.
        head: LogHead,
        /// Its wall clock, in ms since the Unix epoch: to find clocks that are wrong, and for nothing else.
        unix_ms: u64,
        /// How it stands in a change of the witnesses.
        stand: Stand,
    },
    /// Reader: where to go on.
    Start(TailStart),
    /// Witness: what comes next. Only what is on its disk.
    Records {
        /// The log's epoch.
        epoch: u64,
        /// At most [`BATCH_EVENTS_MAX`], without holes.
        records: Vec<Arc<Record>>,
    },
    /// Witness: it cannot be read on from there; this is what can.
    Compacted(LogHead),
    /// Reader that is a witness itself: everything up to here is on its own disk.
    Held(u64),
    /// Reader: where does the log end now?
    Poll(u64),
    /// Witness: it does not serve this reader.
    Refused(Refusal),
}

/// Writes a frame.
#[must_use]
pub fn encode_tail(frame: &TailFrame) -> Vec<u8> {
    let mut out = vec![MESSAGE_VERSION];
    match frame {
        TailFrame::Tail(realm, roll) => {
            out.push(1);
            put_text(&mut out, realm.as_str());
            put_sum(&mut out, *roll);
        }
        TailFrame::Head { nonce, head, unix_ms, stand } => {
            out.push(2);
            out.extend_from_slice(&nonce.to_be_bytes());
            put_head(&mut out, head);
            out.extend_from_slice(&unix_ms.to_be_bytes());
            put_stand(&mut out, *stand);
        }
        TailFrame::Start(start) => {
            out.push(3);
            for number in [start.cursor.epoch, start.cursor.seq, start.cursor.chain] {
                out.extend_from_slice(&number.to_be_bytes());
            }
            out.push(u8::from(start.recovering));
        }
        TailFrame::Records { epoch, records } => {
            out.push(4);
            out.extend_from_slice(&epoch.to_be_bytes());
            put_count(&mut out, records.len());
            records.iter().for_each(|record| encode_record(record, &mut out));
        }
        TailFrame::Compacted(head) => {
            out.push(5);
            put_head(&mut out, head);
        }
        TailFrame::Held(seq) => {
            out.push(6);
            out.extend_from_slice(&seq.to_be_bytes());
        }
        TailFrame::Poll(nonce) => {
            out.push(7);
            out.extend_from_slice(&nonce.to_be_bytes());
        }
        TailFrame::Refused(why) => {
            out.push(8);
            put_refusal(&mut out, *why);
        }
    }
    out
}

/// Reads a frame.
///
/// # Errors
/// [`MessageFault`] if it is none, or breaks a limit.
pub fn decode_tail(bytes: &[u8]) -> Result<TailFrame, MessageFault> {
    let mut reader = sized(bytes)?;
    let frame = match reader.u8("kind of frame")? {
        1 => TailFrame::Tail(realm(&mut reader)?, take_sum(&mut reader)?),
        2 => {
            let (nonce, head) = (reader.u64("poll")?, take_head(&mut reader)?);
            TailFrame::Head { nonce, head, unix_ms: reader.u64("clock")?, stand: take_stand(&mut reader)? }
        }
        3 => {
            let (epoch, seq, chain) = (reader.u64("cursor")?, reader.u64("cursor")?, reader.u64("cursor")?);
            let recovering = reader.flag("recovering flag")?;
            TailFrame::Start(TailStart { cursor: Cursor { epoch, seq, chain }, recovering })
        }
        4 => {
            let epoch = reader.u64("epoch")?;
            let count = reader.count("records", BATCH_EVENTS_MAX)?;
            let records = (0..count).map(|_| take_record(&mut reader).map(Arc::new)).collect::<Result<_, _>>()?;
            TailFrame::Records { epoch, records }
        }
        5 => TailFrame::Compacted(take_head(&mut reader)?),
        6 => TailFrame::Held(reader.u64("place")?),
        7 => TailFrame::Poll(reader.u64("poll")?),
        8 => TailFrame::Refused(take_refusal(&mut reader)?),
        other => return Err(MessageFault::Unknown { what: "kind of frame", found: other.into() }),
    };
    reader.end()?;
    Ok(frame)
}

fn put_head(out: &mut Vec<u8>, head: &LogHead) {
    for number in [head.epoch, head.base, head.base_chain, head.seq, head.chain] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.push(u8::from(head.voting));
}

/// A head whose numbers fit together: the first record is 1 or later, and the last is not before the one before it.
fn take_head(reader: &mut Reader<'_>) -> Result<LogHead, MessageFault> {
    let (epoch, base, base_chain) = (reader.u64("head")?, reader.u64("head")?, reader.u64("head")?);
    let (seq, chain, voting) = (reader.u64("head")?, reader.u64("head")?, reader.flag("voting flag")?);
    if base == 0 || seq < base - 1 || seq == u64::MAX {
        return Err(MessageFault::Unknown { what: "border of a log", found: base });
    }
    Ok(LogHead { epoch, base, base_chain, seq, chain, voting })
}
