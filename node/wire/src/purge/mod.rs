//! The ledger on the wire and on disk.
//!
//! All numbers are big endian; `text` is a length of two bytes and UTF-8; `[x]` is a count of two bytes and so many x.
//! Every message and every event begins with a version, so that nodes of the version before can be told apart.
//! Ids are never sent with an event: whoever reads it computes them.
//!
//! ```text
//! event    1  mode(1: 0 soft, 1 hard)  site:text (empty: the realm)  idempotency:text  [key]
//! key      1 host:text target:text | 2 tag:text | 3 (site) | 4 host:text path:text (prefix) | 5 host:text | 6 (realm)
//! record   seq(8) chain(8) event
//! cursor   epoch(8) seq(8) chain(8)
//! head     epoch(8) base(8) base_chain(8) seq(8) chain(8) voting(1)
//! roll     version(8) nodes(8) next(8)  the witnesses that the sender was started with, as sums over their names
//! stand    version(8) synced(1)         what a witness says of itself: its roll's version, and whether it has taken over
//!
//! request  3  1 realm:text roll [taken(8) event]  APPLY
//!          3  2 realm:text roll [taken(8) event]  STORE (and apply)
//! answer   3  1 [id(16) position(8)]         APPLIED, and on disk there; answers come in the order of the requests
//!          3  2 epoch(8) [id(16) seq(8) position(8)] STORED, and on disk there
//!          3  3 why(1)                       REFUSED
//!
//! tail     3  1 realm:text roll         TAIL     reader -> witness, first
//!          3  2 nonce(8) head unix_ms(8) stand HEAD witness -> reader, first, from time to time, and when polled
//!          3  3 cursor recovering(1)    START    reader -> witness, when it can read on
//!          3  4 epoch(8) [record]       RECORDS  witness -> reader
//!          3  5 head                    COMPACTED: cannot read on from there
//!          3  6 seq(8)                  HELD     a witness that reads -> witness: on disk here, too
//!          3  7 nonce(8)                POLL     reader -> witness: where does the log end now?
//!          3  8 why(1)                  REFUSED  witness -> reader, last
//!
//! kept     1  complete(1) version(8) [node:text] [node:text]  the witnesses a node was last started with, on disk only
//!
//! batch    1  nonce(8) [event]          one message of a stream, where it stays
//!
//! have     3  run(8) position(8) [witness:text epoch(8) seq(8)] [id(16)]
//!
//! token    1  realm:text request(16) (witness(1) epoch(8) seq(8))*   as base64url: what clients show to read their own purge
//! ```

mod batch;
mod event;
mod have;
mod ledger;
mod roll;
mod tail;
mod token;

pub use batch::{decode_batch, encode_batch};
pub use event::{decode_event, decode_record, encode_event, encode_record, event_bytes};
pub use have::{decode_have, encode_have};
pub use ledger::{
    Answer, BATCH_EVENTS_MAX, Refusal, Request, Sent, decode_answer, decode_request, encode_answer, encode_request,
};
pub use roll::{decode_roll, encode_roll};
pub use tail::{TailFrame, decode_tail, encode_tail};
pub use token::{Place, TOKEN_CHARS_MAX, TOKEN_PLACES_MAX, Token, decode_token, encode_token};

pub use crate::message::MessageFault;
use crate::message::Reader;

/// The version of events, on the wire and on disk.
const VERSION: u8 = 1;

/// The version of messages.
const MESSAGE_VERSION: u8 = 3;

/// Bytes of events in one message, at most: with the largest event on top it is still a message.
pub const BATCH_BYTES: usize = 512 * 1024;

fn version(reader: &mut Reader<'_>) -> Result<(), MessageFault> {
    match reader.u8("version")? {
        VERSION => Ok(()),
        other => Err(MessageFault::Version(other)),
    }
}

fn message_version(reader: &mut Reader<'_>) -> Result<(), MessageFault> {
    match reader.u8("version")? {
        MESSAGE_VERSION => Ok(()),
        other => Err(MessageFault::Version(other)),
    }
}

#[cfg(test)]
mod tests;
