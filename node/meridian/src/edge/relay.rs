//! A client's TLS connection for a site that may not be here, passed on as it is to a node that may have it: RFC 8446 from end to
//! end, between the client and that node. This node has no key, sees only what anybody on the way sees, and keeps nothing.
//!
//! Who may be passed on to is decided by [`rules::relay`], and by the certificate of the node at the other end. It is not
//! passed on twice: the other node takes it or not ([`super::relayed`]), and this is not a client's door there.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, RawFd},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use region_config::{Limits, NodeId};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    net::TcpStream,
    time::timeout,
};
use wire::{
    message::MessageFault,
    relay::{Opening, TAKEN},
};

use super::{
    hello::{Alert, Hello},
    listener::{Guest, Lobby},
    sites::{Lodger, Outside, Relay, bare_host},
};
use crate::{
    clock,
    observe::RelayCounters,
    peers::{PeerError, Stream, write_frame},
};

/// How long one node may take to take the connection.
const TRY: Duration = Duration::from_millis(2_500);
/// Bytes that wait in this node, each way, beside what the sockets hold.
const BUFFER_BYTES: usize = 16 * 1024;
/// How often it is looked whether anything moves.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a connection may be silent while this node asks its clients to go.
const SILENCE_AT_LEAVE: Duration = Duration::from_secs(5);

/// Why a node did not take a connection.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Message(#[from] MessageFault),
    #[error("its certificate is not for the site's jurisdiction")]
    Outside,
    #[error("it does not take it: {0}")]
    Refused(io::Error),
    #[error("no answer in {}ms", TRY.as_millis())]
    Timeout,
}

/// The site that a client asks for, if its connections are passed on.
pub(super) fn wanted(lobby: &Lobby, name: Option<&str>) -> Option<Arc<Outside>> {
    match lobby.shared.sites.load().find(&bare_host(name?))? {
        Lodger::Outside(outside) if outside.relay.is_some() => Some(Arc::clone(outside)),
        Lodger::Outside(_) | Lodger::Served(_) => None,
    }
}

/// Passes a connection on to its end.
pub(super) async fn carry(guest: &Guest, hello: Hello<TcpStream>, outside: &Outside, client: IpAddr, limits: &Limits) {
    let Some(relay) = &outside.relay else { return };
    let lobby = &guest.lobby;
    let Some(_place) = lobby.shared.observe.relays().place(limits.relayed_max) else {
        relay.counters.limited.fetch_add(1, Relaxed);
        return refuse(hello, limits).await;
    };
    let Some(far) = taken(lobby, relay, client, &hello.bytes).await else {
        relay.counters.failed.fetch_add(1, Relaxed);
        return refuse(hello, limits).await;
    };
    relay.counters.relayed.fetch_add(1, Relaxed);
    relay.counters.in_bytes.fetch_add(hello.bytes.len() as u64, Relaxed);
    let idle = Duration::from_millis(limits.idle_ms.saturating_mul(2));
    pump(lobby, &relay.counters, hello.io, far, idle).await;
}

/// The client is told that it is not its name that is wrong.
async fn refuse(hello: Hello<TcpStream>, limits: &Limits) {
    // a client that does not take seven bytes has gone
    let _gone = timeout(Duration::from_millis(limits.head_ms), hello.refuse(Alert::InternalError)).await;
}

/// Offers the connection to one node after the other, until one takes it. Nothing of theirs has been sent to the client
/// before, so that it does not matter how many have seen its first message.
async fn taken(lobby: &Lobby, relay: &Relay, client: IpAddr, hello: &[u8]) -> Option<Stream> {
    let opening = Opening { client, hello: hello.to_vec().into() }.encode().ok()?;
    let nodes = relay.ways.nodes(&lobby.shared.config.load(), &lobby.shared.health.fleet(), client);
    for node in nodes {
        match timeout(TRY, offer(lobby, relay, &node, &opening)).await.unwrap_or(Err(NotTaken::Timeout)) {
            Ok(stream) => return Some(stream),
            Err(why) => tracing::debug!(%node, %why, "a node did not take a client's connection"),
        }
    }
    None
}

async fn offer(lobby: &Lobby, relay: &Relay, node: &NodeId, opening: &[u8]) -> Result<Stream, NotTaken> {
    let mesh = lobby.shared.mesh.as_ref().ok_or(PeerError::NoMesh)?;
    let ((mut send, mut recv), peer) = mesh.open_relay(node).await?;
    // what the config says of the node was asked before; this is what its certificate says
    if peer.jurisdiction != *relay.ways.pin() {
        return Err(NotTaken::Outside);
    }
    write_frame(&mut send, opening).await?;
    match recv.read_u8().await.map_err(NotTaken::Refused)? {
        TAKEN => Ok((send, recv)),
        other => Err(MessageFault::Unknown { what: "answer to a relayed connection", found: other.into() }.into()),
    }
}

/// Carries bytes both ways until both sides have ended, one fails, or nothing moves any more.
async fn pump(lobby: &Lobby, counters: &RelayCounters, client: TcpStream, (send, recv): Stream, idle: Duration) {
    let (moved, socket) = (AtomicU64::new(0), client.as_raw_fd());
    let mut near = Counted { stream: client, counters, moved: &moved };
    let mut far = tokio::io::join(recv, send);
    let ended = tokio::select! {
        ended = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER_BYTES, BUFFER_BYTES) => ended.is_ok(),
        () = silence(lobby, || (moved.load(Relaxed), queued(socket)), idle) => false,
    };
    if !ended {
        // an end that was none must not look like one
        let _closed = SockRef::from(&near.stream).set_linger(Some(Duration::ZERO));
        let (mut recv, mut send) = far.into_inner();
        let _closed = (send.reset(1u8.into()), recv.stop(1u8.into()));
    }
}

/// Bytes written to a socket that the other side has not taken yet: to a slow client they flow for long after the last write.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "no safe library asks a socket for it")]
fn queued(socket: RawFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int to where the pointer points, which is alive; of a wrong descriptor it says so
    let asked = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    if asked == 0 { u64::try_from(bytes).unwrap_or(0) } else { 0 }
}

#[cfg(not(target_os = "linux"))]
fn queued(_: RawFd) -> u64 {
    0
}

/// Waits until what `look` gives has stayed the same for so long: nothing moves.
async fn silence(lobby: &Lobby, look: impl Fn() -> (u64, u64), idle: Duration) {
    let (mut seen, mut since) = (look(), clock::instant());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = look();
        if now != seen {
            (seen, since) = (now, clock::instant());
            continue;
        }
        let limit = if lobby.left.is_cancelled() { idle.min(SILENCE_AT_LEAVE) } else { idle };
        if clock::instant().duration_since(since) >= limit {
            return;
        }
    }
}

/// A client's stream whose bytes are counted.
struct Counted<'a> {
    stream: TcpStream,
    counters: &'a RelayCounters,
    /// Bytes both ways, by which silence is noticed.
    moved: &'a AtomicU64,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len().saturating_sub(before) as u64;
        self.counters.in_bytes.fetch_add(bytes, Relaxed);
        self.moved.fetch_add(bytes, Relaxed);
        read
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.counters.out_bytes.fetch_add(*count as u64, Relaxed);
            self.moved.fetch_add(*count as u64, Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
