//! What carries frames between nodes: the mesh, or channels between nodes of one process in tests.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use region_config::{NodeId, RealmId};
use wire::message::MESSAGE_BYTES_MAX;

use super::Peer;
use crate::peers::{Kind, Mesh, PeerError, Stream, read_frame, write_frame};

/// How long opening a line may take.
const OPEN: Duration = Duration::from_secs(5);

/// Opens lines to other nodes.
#[derive(Clone, Debug)]
pub(super) enum Carrier {
    /// QUIC with certificates.
    Mesh(Arc<Mesh>),
    /// Channels in one process.
    #[cfg(test)]
    Local(super::tests::local::Port),
    /// A simulated mesh.
    #[cfg(feature = "simulation")]
    Simulated(Arc<dyn crate::simulation::Links>),
}

/// Both directions of a line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) send: Sending,
    pub(super) recv: Receiving,
}

/// The direction away from here.
#[derive(Debug)]
pub(super) enum Sending {
    /// A stream of the mesh.
    Mesh(quinn::SendStream),
    /// A channel.
    #[cfg(test)]
    Local(tokio::sync::mpsc::Sender<Bytes>),
    /// Of a simulated line.
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn crate::simulation::Out>),
}

/// The direction to here.
#[derive(Debug)]
pub(super) enum Receiving {
    /// A stream of the mesh.
    Mesh(quinn::RecvStream),
    /// A channel.
    #[cfg(any(test, feature = "simulation"))]
    Local(tokio::sync::mpsc::Receiver<Bytes>),
}

/// Why nothing was carried.
#[derive(Debug, thiserror::Error)]
pub(super) enum CarryFault {
    /// The mesh says no.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The other end is certified for another jurisdiction than the realm's.
    #[error("the node's certificate is not for this realm")]
    Outside,
    /// The line ended.
    #[error("the line ended")]
    Ended,
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// What came was no message.
    #[error("a malformed answer: {0}")]
    Malformed(#[from] wire::message::MessageFault),
    /// The other end promises nothing.
    #[error("refused: {0}")]
    Refused(wire::purge::Refusal),
    /// The log at the other end does not go on where we are.
    #[error("the witness's log does not follow what was read of it")]
    Broken,
}

impl Carrier {
    /// Opens a line to a node, for messages of one realm. Nothing of the realm is sent before it is known that the
    /// other end's certificate is for it.
    pub(super) async fn open(&self, node: &NodeId, kind: Kind, realm: &RealmId) -> Result<Line, CarryFault> {
        let opened = match self {
            Self::Mesh(mesh) => tokio::time::timeout(OPEN, mesh_line(mesh, node, kind)).await,
            #[cfg(test)]
            Self::Local(port) => tokio::time::timeout(OPEN, port.open(node, kind)).await,
            #[cfg(feature = "simulation")]
            Self::Simulated(links) => {
                let ends = tokio::time::timeout(OPEN, links.open(node, kind)).await;
                ends.map(|ends| ends.map(simulated).ok_or(CarryFault::Ended))
            }
        };
        let (line, peer) = opened.map_err(|_| CarryFault::TimedOut)??;
        if peer.member(realm) { Ok(line) } else { Err(CarryFault::Outside) }
    }
}

async fn mesh_line(mesh: &Arc<Mesh>, node: &NodeId, kind: Kind) -> Result<(Line, Peer), CarryFault> {
    let stream = mesh.open(node, kind).await?;
    let jurisdiction = mesh.jurisdiction_of(node).ok_or(CarryFault::Ended)?;
    Ok((Line::mesh(stream), Peer { node: node.clone(), jurisdiction }))
}

/// One end of a simulated line, and who is at the other.
#[cfg(feature = "simulation")]
pub(super) fn simulated(ends: crate::simulation::Ends) -> (Line, Peer) {
    let line = Line { send: Sending::Simulated(ends.out), recv: Receiving::Local(ends.into) };
    (line, Peer { node: ends.peer, jurisdiction: ends.jurisdiction })
}

impl Line {
    /// A stream of the mesh.
    pub(super) fn mesh((send, recv): Stream) -> Self {
        Self { send: Sending::Mesh(send), recv: Receiving::Mesh(recv) }
    }
}

impl Sending {
    /// Writes one frame.
    pub(super) async fn frame(&mut self, bytes: &[u8]) -> Result<(), CarryFault> {
        match self {
            Self::Mesh(stream) => Ok(write_frame(stream, bytes).await?),
            #[cfg(test)]
            Self::Local(channel) => channel.send(Bytes::copy_from_slice(bytes)).await.map_err(|_| CarryFault::Ended),
            #[cfg(feature = "simulation")]
            Self::Simulated(out) => {
                let sent = out.frame(Bytes::copy_from_slice(bytes)).await;
                sent.then_some(()).ok_or(CarryFault::Ended)
            }
        }
    }
}

impl Receiving {
    /// Reads one frame. Not to be given up half-way: the rest of the line would be unreadable.
    pub(super) async fn frame(&mut self) -> Result<Bytes, CarryFault> {
        match self {
            Self::Mesh(stream) => Ok(read_frame(stream, MESSAGE_BYTES_MAX).await?),
            #[cfg(any(test, feature = "simulation"))]
            Self::Local(channel) => channel.recv().await.ok_or(CarryFault::Ended),
        }
    }
}
