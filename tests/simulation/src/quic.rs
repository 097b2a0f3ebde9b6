//! A node's own mesh over the simulated network: what `net.rs` makes up otherwise is QUIC here, with its handshakes,
//! its patience and its streams.

use std::{
    fmt::Debug,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use meridian::{
    peers::{Kind, Mesh, PeerIdentity, Stream, read_frame, write_frame},
    simulation::{Ends, Links, Out},
    tasks::Tasks,
};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use region_config::NodeId;
use tokio::sync::mpsc;
use wire::message::MESSAGE_BYTES_MAX;

use crate::{
    fleet,
    log::NODES,
    net::{Packet, address},
    stage::{START_UNIX_MS, Stage},
};

/// Frames of one stream that have been read and that nobody has taken yet.
const UNREAD_MAX: usize = 4;

/// The mesh of one run of a node. To be called inside its world.
#[must_use]
pub fn mesh(stage: &Arc<Stage>, run: (usize, u32), tasks: &Tasks) -> Arc<Mesh> {
    let config = fleet::config(run.0, stage.tight_ms, None);
    let socket = Arc::new(Socket { stage: Arc::clone(stage), run });
    let mesh = Mesh::simulated(&config, START_UNIX_MS, socket, tasks.clone());
    mesh.unwrap_or_else(|fault| unreachable!("its config and its certificate are made here: {fault}"))
}

/// The way of fetches over a mesh.
#[must_use]
pub fn links(mesh: &Arc<Mesh>, tasks: &Tasks) -> Arc<dyn Links> {
    Arc::new(Streams { mesh: Arc::clone(mesh), tasks: tasks.clone() })
}

/// A stream of the mesh, as the simulated node takes it.
#[must_use]
pub fn ends(tasks: &Tasks, (send, mut recv): Stream, peer: PeerIdentity) -> Ends {
    let (put, into) = mpsc::channel(UNREAD_MAX);
    tasks.spawn("read", async move {
        let read = async {
            while let Ok(frame) = read_frame(&mut recv, MESSAGE_BYTES_MAX).await {
                if put.send(frame).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = put.closed() => {}
            () = read => {}
        }
    });
    Ends { out: Box::new(Sending(send)), into, peer: peer.node, jurisdiction: peer.jurisdiction }
}

#[derive(Debug)]
struct Streams {
    mesh: Arc<Mesh>,
    tasks: Tasks,
}

impl Links for Streams {
    fn open<'a>(&'a self, node: &'a NodeId, kind: Kind) -> BoxFuture<'a, Option<Ends>> {
        async move {
            let stream = self.mesh.open(node, kind).await.ok()?;
            let jurisdiction = self.mesh.jurisdiction_of(node)?;
            let peer = PeerIdentity { node: node.clone(), region: self.mesh.identity().region.clone(), jurisdiction };
            Some(ends(&self.tasks, stream, peer))
        }
        .boxed()
    }
}

#[derive(Debug)]
struct Sending(quinn::SendStream);

impl Out for Sending {
    fn frame(&mut self, bytes: Bytes) -> BoxFuture<'_, bool> {
        async move { write_frame(&mut self.0, &bytes).await.is_ok() }.boxed()
    }
}

/// The socket of one run of a node.
#[derive(Debug)]
struct Socket {
    stage: Arc<Stage>,
    run: (usize, u32),
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(to) = (0..NODES).find(|node| address(*node) == transmit.destination) else { return Ok(()) };
        self.stage.net.lock().send_packet(self.run, to, &Bytes::copy_from_slice(transmit.contents));
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let most = bufs.len().min(meta.len());
        let packets = ready!(self.stage.net.lock().poll_packets(self.run, most, context));
        for (Packet { from, bytes }, (buf, meta)) in packets.iter().zip(bufs.iter_mut().zip(meta.iter_mut())) {
            let len = bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&bytes[..len]);
            *meta = RecvMeta { addr: address(*from), len, stride: len, ecn: None, dst_ip: None };
        }
        Poll::Ready(Ok(packets.len()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address(self.run.0))
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// A simulated socket takes every packet at once.
#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
