//! What one message of a stream holds: the events of one node that went out together.

use std::sync::Arc;

use rules::purge::Event;

use super::{
    event::{encode_event, take_event},
    ledger::BATCH_EVENTS_MAX,
};
use crate::message::{MESSAGE_BYTES_MAX, MessageFault, Reader, put_count};

/// The version of what is in streams; it stays there, whatever messages between nodes become.
const VERSION: u8 = 1;

/// Writes a message. `nonce` is random: two messages are never the same, even with the same events. One without events
/// is a mark that only takes a place.
#[must_use]
pub fn encode_batch(nonce: u64, events: &[Arc<Event>]) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&nonce.to_be_bytes());
    put_count(&mut out, events.len());
    for event in events {
        encode_event(event, &mut out);
    }
    out
}

/// Reads a message.
///
/// # Errors
/// [`MessageFault`] if it is none, or breaks a limit.
pub fn decode_batch(bytes: &[u8]) -> Result<Vec<Arc<Event>>, MessageFault> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(MessageFault::Limit { what: "bytes", found: bytes.len(), max: MESSAGE_BYTES_MAX });
    }
    let mut reader = Reader::new(bytes);
    match reader.u8("version")? {
        VERSION => {}
        other => return Err(MessageFault::Version(other)),
    }
    reader.u64("nonce")?;
    let count = reader.count("events", BATCH_EVENTS_MAX)?;
    let events = (0..count).map(|_| take_event(&mut reader).map(Arc::new)).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(events)
}
