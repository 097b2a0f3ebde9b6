//! A request that is framed both by `Content-Length` and by `Transfer-Encoding` is refused (RFC 9112 section 6.1).
//! hyper drops the one, serves by the other, and closes: what follows is never taken for a request, but nobody learns that
//! somebody tried. So the bytes are read a second time below hyper, for that alone.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};

use rules::caching::framing::Heads;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Between the stream and whoever answers its requests.
#[derive(Debug)]
pub(super) struct Framing {
    /// How many requests hyper has given out.
    given: AtomicU32,
    /// The one that is framed in two ways.
    twice: AtomicU32,
}

impl Default for Framing {
    fn default() -> Self {
        Self { given: AtomicU32::new(0), twice: AtomicU32::new(u32::MAX) }
    }
}

impl Framing {
    /// Whether the next request is framed in two ways; to be asked once for each, in their order. All bytes of its head have
    /// gone through the stream below.
    pub(super) fn next_is_twofold(&self) -> bool {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        number == self.twice.load(Ordering::Relaxed)
    }
}

/// A stream below hyper's HTTP/1.1 server whose requests are looked at as they are read. One task reads and answers.
pub(super) struct Framed<S> {
    stream: S,
    heads: Heads,
    framing: Arc<Framing>,
}

impl<S> Framed<S> {
    /// Between hyper and `stream`.
    #[must_use]
    pub(super) fn new(stream: S, framing: Arc<Framing>) -> Self {
        Self { stream, heads: Heads::default(), framing }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let this = &mut *self;
        this.heads.read(buffer.filled().get(before..).unwrap_or_default());
        if let Some(number) = this.heads.twice_framed() {
            this.framing.twice.store(number, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
