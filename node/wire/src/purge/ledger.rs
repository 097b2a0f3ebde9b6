//! What nodes ask of each other about events, and the answers.

use std::sync::Arc;

use region_config::RealmId;
use rules::purge::{Event, Position, PurgeId, RollSum};

use super::{
    MESSAGE_VERSION,
    event::{encode_event, take_event},
    message_version,
    roll::{put_sum, take_sum},
};
use crate::message::{MESSAGE_BYTES_MAX, MessageFault, Reader, put_count, put_text};

/// Events in one request, at most.
pub const BATCH_EVENTS_MAX: usize = 4_096;

/// Events for another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The realm that they belong to.
    pub realm: RealmId,
    /// The witnesses that the sender was started with.
    pub roll: RollSum,
    /// Whether the receiver is to append them to its log as a witness. It applies them in any case.
    pub store: bool,
    /// The events, at most [`BATCH_EVENTS_MAX`].
    pub events: Vec<Sent>,
}

/// An event on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The event.
    pub event: Arc<Event>,
    /// When it was taken from the application, in microseconds since the Unix epoch, by the clock of the node that took it;
    /// 0 if that is not known. For figures only.
    pub taken_unix_us: u64,
}

/// What became of them. Sent when all of it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// They are applied, at these positions of the node that answers.
    Applied(Vec<(PurgeId, Position)>),
    /// They are applied, and in the witness's log at these places.
    Stored {
        /// The log's epoch.
        epoch: u64,
        /// Id, place in the log, and position.
        places: Vec<(PurgeId, u64, Position)>,
    },
    /// Nothing of it can be promised.
    Refused(Refusal),
}

/// Why a node promises nothing. The events may be applied there all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One of the two is no member of the realm.
    #[error("not a member of the realm")]
    NotMember,
    /// The node could not write, and writes no more.
    #[error("the node cannot write its ledger")]
    Stopped,
    /// It is no witness, or one that has not recovered yet.
    #[error("the witness does not vote yet")]
    NotVoting,
    /// Its log is full.
    #[error("the witness's log is full")]
    Full,
    /// The request could not be read.
    #[error("the request is malformed")]
    Malformed,
    /// The witness knows a later version of the set of witnesses than who asks.
    #[error("the realm's witnesses were changed: the other node has a later version of them in its config")]
    Sealed,
    /// The witness has other witnesses under the same version, or others from which no step leads to these.
    #[error("the other node has other witnesses in its config")]
    Differs,
    /// The witness does not know yet that the set that was before has handed over.
    #[error("the other node does not know yet that the new witnesses have taken over")]
    Early,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NotMember,
        Self::Stopped,
        Self::NotVoting,
        Self::Full,
        Self::Malformed,
        Self::Sealed,
        Self::Differs,
        Self::Early,
    ];

    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotMember => "not-member",
            Self::Stopped => "stopped",
            Self::NotVoting => "not-voting",
            Self::Full => "full",
            Self::Malformed => "malformed",
            Self::Sealed => "sealed",
            Self::Differs => "differs",
            Self::Early => "early",
        }
    }

    /// Whether it is about the set of witnesses: then one of the two has to be started with another config.
    #[must_use]
    pub fn is_of_the_roll(self) -> bool {
        matches!(self, Self::Sealed | Self::Differs | Self::Early)
    }
}

pub(super) fn put_refusal(out: &mut Vec<u8>, why: Refusal) {
    out.push(match why {
        Refusal::NotMember => 1,
        Refusal::Stopped => 2,
        Refusal::NotVoting => 3,
        Refusal::Full => 4,
        Refusal::Malformed => 5,
        Refusal::Sealed => 6,
        Refusal::Differs => 7,
        Refusal::Early => 8,
    });
}

pub(super) fn take_refusal(reader: &mut Reader<'_>) -> Result<Refusal, MessageFault> {
    Ok(match reader.u8("refusal")? {
        1 => Refusal::NotMember,
        2 => Refusal::Stopped,
        3 => Refusal::NotVoting,
        4 => Refusal::Full,
        5 => Refusal::Malformed,
        6 => Refusal::Sealed,
        7 => Refusal::Differs,
        8 => Refusal::Early,
        other => return Err(MessageFault::Unknown { what: "refusal", found: other.into() }),
    })
}

/// Writes a request.
#[must_use]
pub fn encode_request(request: &Request) -> Vec<u8> {
    let mut out = vec![MESSAGE_VERSION, if request.store { 2 } else { 1 }];
    put_text(&mut out, request.realm.as_str());
    put_sum(&mut out, request.roll);
    put_count(&mut out, request.events.len());
    for sent in &request.events {
        out.extend_from_slice(&sent.taken_unix_us.to_be_bytes());
        encode_event(&sent.event, &mut out);
    }
    out
}

/// Reads a request.
///
/// # Errors
/// [`MessageFault`] if it is none, or breaks a limit.
pub fn decode_request(bytes: &[u8]) -> Result<Request, MessageFault> {
    let mut reader = sized(bytes)?;
    let store = match reader.u8("kind of request")? {
        1 => false,
        2 => true,
        other => return Err(MessageFault::Unknown { what: "kind of request", found: other.into() }),
    };
    let realm = realm(&mut reader)?;
    let roll = take_sum(&mut reader)?;
    let count = reader.count("events", BATCH_EVENTS_MAX)?;
    let events = (0..count).map(|_| {
        let taken_unix_us = reader.u64("time")?;
        Ok(Sent { event: Arc::new(take_event(&mut reader)?), taken_unix_us })
    });
    let events = events.collect::<Result<_, MessageFault>>()?;
    reader.end()?;
    Ok(Request { realm, roll, store, events })
}

/// Writes an answer.
#[must_use]
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    let mut out = vec![MESSAGE_VERSION];
    match answer {
        Answer::Applied(ids) => {
            out.push(1);
            put_count(&mut out, ids.len());
            for (id, position) in ids {
                out.extend_from_slice(&id.0.to_be_bytes());
                out.extend_from_slice(&position.0.to_be_bytes());
            }
        }
        Answer::Stored { epoch, places } => {
            out.push(2);
            out.extend_from_slice(&epoch.to_be_bytes());
            put_count(&mut out, places.len());
            for (id, seq, position) in places {
                out.extend_from_slice(&id.0.to_be_bytes());
                out.extend_from_slice(&seq.to_be_bytes());
                out.extend_from_slice(&position.0.to_be_bytes());
            }
        }
        Answer::Refused(why) => {
            out.push(3);
            put_refusal(&mut out, *why);
        }
    }
    out
}

/// Reads an answer.
///
/// # Errors
/// [`MessageFault`] if it is none.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, MessageFault> {
    let mut reader = sized(bytes)?;
    let answer = match reader.u8("kind of answer")? {
        1 => {
            let count = reader.count("ids", BATCH_EVENTS_MAX)?;
            let ids = (0..count).map(|_| Ok((PurgeId(reader.u128("id")?), Position(reader.u64("position")?))));
            Answer::Applied(ids.collect::<Result<_, MessageFault>>()?)
        }
        2 => {
            let epoch = reader.u64("epoch")?;
            let count = reader.count("places", BATCH_EVENTS_MAX)?;
            let places = (0..count).map(|_| {
                let (id, seq) = (PurgeId(reader.u128("id")?), reader.u64("place")?);
                Ok((id, seq, Position(reader.u64("position")?)))
            });
            Answer::Stored { epoch, places: places.collect::<Result<_, MessageFault>>()? }
        }
        3 => Answer::Refused(take_refusal(&mut reader)?),
        other => return Err(MessageFault::Unknown { what: "kind of answer", found: other.into() }),
    };
    reader.end()?;
    Ok(answer)
}

/// A reader behind the version.
pub(super) fn sized(bytes: &[u8]) -> Result<Reader<'_>, MessageFault> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(MessageFault::Limit { what: "bytes", found: bytes.len(), max: MESSAGE_BYTES_MAX });
    }
    let mut reader = Reader::new(bytes);
    message_version(&mut reader)?;
    Ok(reader)
}

pub(super) fn realm(reader: &mut Reader<'_>) -> Result<RealmId, MessageFault> {
    RealmId::parse(reader.text("realm")?).map_err(|_| MessageFault::Text("realm"))
}
