//! Probes: does a node answer, and how fast. In QUIC datagrams on the kept connection, so that no flow control and no
//! number of busy streams can make a healthy node look dead.
//!
//! ```text
//! ask:     version (1)  kind (1, Probe)  0 (1)  nonce (8)
//! answer:  version (1)  kind (1, Probe)  1 (1)  nonce (8)  generation (8)  issue (8)      all big endian
//! ```
//!
//! The answer also says which issue of the node's report (see `gossip`) is its last one, so that a report which did not
//! change need not be sent again to stay fresh. An ask is sent up to three times, since a single lost packet says nothing.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use quinn::Connection;

use super::{
    Mesh, PeerError,
    frame::{Kind, VERSION},
    link::{Echo, Link},
};
use crate::clock;

/// How often an ask is sent within one probe.
const TRIES: u8 = 3;
/// How long one probe waits for a connection, and then for an answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// The same on long paths: three round trips, but no more than this.
const PATIENCE_MAX: Duration = Duration::from_millis(1500);

/// A node answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    /// Round trip, in microseconds.
    pub(super) rtt_us: u32,
    /// Which run of the node answered.
    pub(super) generation: u64,
    /// The last issue of its report.
    pub(super) issue: u64,
}

/// A node did not answer.
#[derive(Debug)]
pub(super) struct Missed {
    /// Why.
    pub(super) why: PeerError,
    /// How much later than it should this node noticed: if much, then it is this node that is slow.
    pub(super) late: Duration,
}

/// Probes a node once.
pub(super) async fn probe(mesh: &Arc<Mesh>, link: &Arc<Link>) -> Result<Answered, Missed> {
    let connection = within(PATIENCE, mesh.connection(&link.node)).await?;
    let patience = connection.rtt().saturating_mul(3).clamp(PATIENCE, PATIENCE_MAX);
    within(patience, ask(link, &connection, patience / u32::from(TRIES))).await
}

/// Waits at most `patience`, and tells how late it noticed.
async fn within<T>(patience: Duration, attempt: impl Future<Output = Result<T, PeerError>>) -> Result<T, Missed> {
    let began = clock::instant();
    match tokio::time::timeout(patience, attempt).await {
        Ok(result) => result.map_err(|why| Missed { why, late: Duration::ZERO }),
        Err(_) => {
            let late = clock::instant().duration_since(began).saturating_sub(patience);
            Err(Missed { why: PeerError::TimedOut { after: patience }, late })
        }
    }
}

async fn ask(link: &Link, connection: &Connection, pause: Duration) -> Result<Answered, PeerError> {
    let nonce = nonce()?;
    let mut answer = link.ask(nonce & !0xff);
    let mut sent = Vec::with_capacity(usize::from(TRIES));
    loop {
        if sent.len() < usize::from(TRIES) {
            let attempt = u64::try_from(sent.len()).unwrap_or(0);
            sent.push(clock::instant());
            connection.send_datagram(encode_ask((nonce & !0xff) | attempt)).map_err(PeerError::lost)?;
        }
        tokio::select! {
            echo = &mut answer => {
                // a later probe of the same node took our place
                let echo = echo.map_err(|_| PeerError::Lost { why: "asked anew".into() })?;
                let began = sent.get(usize::from(echo.attempt)).ok_or(ODD)?;
                let rtt_us = u32::try_from(clock::instant().duration_since(*began).as_micros()).unwrap_or(u32::MAX);
                return Ok(Answered { rtt_us, generation: echo.generation, issue: echo.issue });
            }
            reason = connection.closed() => return Err(PeerError::lost(reason)),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

const ODD: PeerError = PeerError::Malformed { why: "an answer to what was not asked" };

fn nonce() -> Result<u64, PeerError> {
    getrandom::u64().map_err(|_| PeerError::Malformed { why: "the system gives no random numbers" })
}

/// Takes a datagram of a peer: answers an ask, hands on an answer, drops anything else.
pub(super) fn handle_datagram(mesh: &Mesh, link: &Link, connection: &Connection, datagram: &[u8]) {
    let Some(([VERSION, kind, what], rest)) = datagram.split_first_chunk::<3>() else { return };
    if *kind != Kind::Probe.byte() {
        return;
    }
    let number = |at: usize| rest.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    match (what, number(0), number(8), number(16)) {
        (0, Some(nonce), ..) => {
            let answer =
                encode_answer(nonce, mesh.generation.load(Ordering::Acquire), mesh.issue.load(Ordering::Acquire));
            // a full queue or a dying connection: the asker counts the miss
            let _dropped = connection.send_datagram(answer);
        }
        (1, Some(nonce), Some(generation), Some(issue)) => {
            let attempt = nonce.to_be_bytes()[7];
            link.answered(nonce & !0xff, Echo { attempt, generation, issue });
        }
        _ => {}
    }
}

fn encode_ask(nonce: u64) -> Bytes {
    let mut out = vec![VERSION, Kind::Probe.byte(), 0];
    out.extend_from_slice(&nonce.to_be_bytes());
    out.into()
}

fn encode_answer(nonce: u64, generation: u64, issue: u64) -> Bytes {
    let mut out = vec![VERSION, Kind::Probe.byte(), 1];
    for number in [nonce, generation, issue] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.into()
}
