//! What stands at the head of every stream, and how messages are cut out of it.
//!
//! ```text
//! stream:  version (1 byte, 1)  kind (1 byte)  frame ...
//! frame:   length (4 bytes, big endian)  body (length bytes)
//! ```

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream};

use super::PeerError;

/// The version of everything behind it.
pub(super) const VERSION: u8 = 1;
/// How much of a frame is reserved before any of it has come.
const RESERVE_BYTES: usize = 64 * 1024;

/// What a stream is for: its second byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A message of the gossip; the answer is one empty frame.
    Gossip = 1,
    /// Liveness; carried in datagrams, never in streams.
    Probe = 2,
    /// A response asked for on behalf of a client.
    Fetch = 3,
    /// Events, records and polls of the ledger.
    Ledger = 4,
    /// A witness's log, followed.
    Tail = 5,
    /// Counters of sites, for the screens of other nodes.
    Counters = 6,
    /// What became of purges, for the screens of other nodes.
    Purges = 7,
    /// What operators force, both ways.
    Forced = 8,
    /// A client's sealed connection, passed on.
    Relay = 10,
}

/// Connections to a peer are of two lanes, so that what clients send never stands before what nodes tell each other: each has
/// its own flow control, its own congestion window and its own limit of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// All that nodes tell each other.
    House,
    /// What clients send, passed on.
    Guests,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 9] = [
        Self::Gossip,
        Self::Probe,
        Self::Fetch,
        Self::Ledger,
        Self::Tail,
        Self::Counters,
        Self::Purges,
        Self::Forced,
        Self::Relay,
    ];

    /// The lane that it goes on.
    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Relay => Lane::Guests,
            Self::Gossip
            | Self::Probe
            | Self::Fetch
            | Self::Ledger
            | Self::Tail
            | Self::Counters
            | Self::Purges
            | Self::Forced => Lane::House,
        }
    }

    /// The byte on the wire.
    pub(super) fn byte(self) -> u8 {
        self as u8
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// Reads one frame of at most `max` bytes.
///
/// # Errors
/// [`PeerError::Ended`] if the stream ended before a frame began, [`PeerError::TooLarge`], [`PeerError::Malformed`] if it
/// ends in a frame, [`PeerError::Lost`].
pub async fn read_frame(recv: &mut RecvStream, max: usize) -> Result<Bytes, PeerError> {
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match recv.read(&mut head[have..]).await.map_err(PeerError::lost)? {
            Some(bytes) => have += bytes,
            None if have == 0 => return Err(PeerError::Ended),
            None => return Err(CUT),
        }
    }
    let bytes = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if bytes > max {
        return Err(PeerError::TooLarge { bytes, max });
    }
    let mut body = BytesMut::with_capacity(bytes.min(RESERVE_BYTES));
    while body.len() < bytes {
        match recv.read_chunk(bytes - body.len(), true).await.map_err(PeerError::lost)? {
            // the usual small frame comes in one piece and is not copied
            Some(chunk) if body.is_empty() && chunk.bytes.len() == bytes => return Ok(chunk.bytes),
            Some(chunk) => body.extend_from_slice(&chunk.bytes),
            None => return Err(CUT),
        }
    }
    Ok(body.freeze())
}

const CUT: PeerError = PeerError::Malformed { why: "it ends in the middle of a frame" };

/// Writes one frame.
///
/// # Errors
/// [`PeerError::TooLarge`] from 4 GiB on, [`PeerError::Lost`].
pub async fn write_frame(send: &mut SendStream, body: &[u8]) -> Result<(), PeerError> {
    let too_large = |_| PeerError::TooLarge { bytes: body.len(), max: u32::MAX as usize };
    let length = u32::try_from(body.len()).map_err(too_large)?;
    send.write_all(&length.to_be_bytes()).await.map_err(PeerError::lost)?;
    send.write_all(body).await.map_err(PeerError::lost)
}
