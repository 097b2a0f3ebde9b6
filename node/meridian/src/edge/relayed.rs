//! Clients' TLS connections that nodes of other jurisdictions pass on to this one: each is taken up as if the client had come here,
//! with the address that the other node says.
//!
//! They come over the mesh only, so that whoever says an address has a certificate of the cluster; the listeners for clients
//! know no such prologue. What is not for a site that is pinned here and whose operator wants this is not taken, and nothing
//! that came this way is passed on.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use quinn::{RecvStream, SendStream};
use rules::relay;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};
use tokio_rustls::server::TlsStream;
use wire::relay::{OPENING_BYTES_MAX, Opening, TAKEN};

use super::{
    hello::Hello,
    listener::Lobby,
    sites::{Lodger, bare_host},
};
use crate::peers::{Answer, PeerIdentity, Stream, read_frame};

/// Connections that wait for one thread.
const WAITING_MAX: usize = 64;

/// Hands what other nodes pass on to the edge's threads, one after the other.
pub(super) struct Desk {
    threads: Vec<mpsc::Sender<Stream>>,
    next: AtomicUsize,
}

impl Desk {
    /// One for so many threads, and what each of them takes from.
    pub(super) fn new(threads: usize) -> (Arc<Self>, Vec<mpsc::Receiver<Stream>>) {
        let (threads, taking) = (0..threads).map(|_| mpsc::channel(WAITING_MAX)).unzip();
        (Arc::new(Self { threads, next: AtomicUsize::new(0) }), taking)
    }
}

impl Answer for Desk {
    fn answer(self: Arc<Self>, peer: PeerIdentity, stream: Stream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let number = self.next.fetch_add(1, Relaxed) % self.threads.len().max(1);
            let handed = self.threads.get(number).map(|thread| thread.try_send(stream));
            // a stream that is dropped ends unanswered, and the other node asks elsewhere
            if !matches!(handed, Some(Ok(()))) {
                tracing::debug!(peer = %peer.node, "too many clients' connections are passed on at once");
            }
        })
    }
}

/// Takes a client's connection, and says where the client is. The caller bounds the time.
///
/// # Errors
/// [`io::Error`] if it is not taken, or the handshake fails.
pub(super) async fn open(lobby: &Lobby, (send, mut recv): Stream) -> io::Result<(TlsStream<Relayed>, IpAddr)> {
    let opening = read_frame(&mut recv, OPENING_BYTES_MAX).await.map_err(io::Error::other)?;
    let Opening { client, hello } = Opening::decode(opening).map_err(io::Error::other)?;
    let mut hello = Hello::read(Relayed { before: hello, recv, send, ended: false }).await?;
    let relays = lobby.shared.observe.relays();
    if !takes(lobby, hello.name()) {
        relays.refused.fetch_add(1, Relaxed);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "nothing that is passed on to this node"));
    }
    relays.taken.fetch_add(1, Relaxed);
    hello.io.send.write_all(&[TAKEN]).await?;
    let stream = lobby.tls.answer(hello).await?;
    Ok((stream, client))
}

/// Whether what asks for this name is taken from other nodes.
fn takes(lobby: &Lobby, name: Option<&str>) -> bool {
    let Some(name) = name.filter(|_| !lobby.left.is_cancelled()) else { return false };
    let sites = lobby.shared.sites.load();
    match sites.find(&bare_host(name)) {
        Some(Lodger::Served(served)) => {
            relay::may_take(&served.site, &lobby.shared.here.jurisdiction) && lobby.tls.serves(Some(name))
        }
        Some(Lodger::Outside(_)) | None => false,
    }
}

/// A client's stream as another node passes it on: first what it has read already.
pub(super) struct Relayed {
    before: Bytes,
    recv: RecvStream,
    send: SendStream,
    ended: bool,
}

/// A stream that is merely dropped ends for the client as if all had been said.
impl Drop for Relayed {
    fn drop(&mut self) {
        if !self.ended {
            let _gone = self.send.reset(1u8.into());
        }
    }
}

impl AsyncRead for Relayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return AsyncRead::poll_read(Pin::new(&mut self.recv), context, buffer);
        }
        let count = self.before.len().min(buffer.remaining());
        buffer.put_slice(&self.before.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Relayed {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), context)
    }
}
