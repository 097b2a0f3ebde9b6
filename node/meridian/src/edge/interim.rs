//! Interim responses (1xx, RFC 9110 section 15.2): what an origin says before it answers, such as 103 Early Hints
//! (RFC 8297), goes on to the client whose request was sent there, in order, before the answer. They are for that one
//! client: whether an answer may be shared is known only when it comes.
//!
//! hyper's HTTP/1.1 server cannot send them. They are written beside it, by [`Interjecting`], which puts them between
//! the bytes of two answers; why there is no moment when it could put them elsewhere is told in
//! `docs/decisions/0014-interim-responses.md`.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use http::{HeaderMap, Request, StatusCode, header};
use parking_lot::Mutex;
use rules::caching::fields;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most interim responses to one request; further ones are dropped, as RFC 9110 section 15.2 lets a proxy do.
const HEADS_MAX: usize = 16;

/// Largest interim response that is passed on, in bytes as HTTP/1.1 writes it.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// An interim response.
#[derive(Debug)]
pub struct Head {
    /// Its status: 102, or 103 and above.
    pub status: StatusCode,
    /// Its fields, without hop-by-hop ones.
    pub headers: HeaderMap,
}

impl Head {
    /// None for what is between two connections (100, 101), and for what is too large.
    fn parse(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let ours = matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS);
        if ours || !status.is_informational() || length(headers) > HEAD_BYTES_MAX {
            return None;
        }
        let mut headers = headers.clone();
        fields::strip_response(&mut headers);
        fields::strip_tags(&mut headers);
        // it has no content (RFC 9110 section 8.6)
        headers.remove(header::CONTENT_LENGTH);
        Some(Self { status, headers })
    }

    /// As HTTP/1.1 writes it (RFC 9112 section 4).
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(b"HTTP/1.1 ");
        bytes.extend_from_slice(self.status.as_str().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(self.status.canonical_reason().unwrap_or("").as_bytes());
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
    }
}

fn length(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// What a client's request is told before its answer. Costs nothing until somebody upstream wants to tell.
#[derive(Debug, Default)]
pub struct Interim {
    told: OnceLock<Arc<Told>>,
}

/// Between whoever reads from the origin and whoever writes to the client.
#[derive(Debug, Default)]
struct Told {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    heads: VecDeque<Head>,
    count: usize,
    /// The answer is there: what comes now came too late.
    closed: bool,
    waker: Option<Waker>,
}

impl Told {
    fn tell(&self, status: StatusCode, headers: &HeaderMap) {
        let Some(head) = Head::parse(status, headers) else { return };
        let waker = {
            let mut inside = self.inside.lock();
            if inside.closed || inside.count >= HEADS_MAX {
                return;
            }
            inside.count += 1;
            inside.heads.push_back(head);
            inside.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What was told since the last time, and a wake-up for the next.
    fn listen(&self, waker: &Waker) -> VecDeque<Head> {
        let mut inside = self.inside.lock();
        if !inside.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inside.waker = Some(waker.clone());
        }
        std::mem::take(&mut inside.heads)
    }

    /// What was told since the last time; there is no next.
    fn close(&self) -> VecDeque<Head> {
        let mut inside = self.inside.lock();
        inside.closed = true;
        std::mem::take(&mut inside.heads)
    }
}

/// Tells a client's request what comes from upstream.
#[derive(Debug, Clone)]
pub struct Teller(Arc<Told>);

impl Teller {
    /// Tells what the origin says to `request` before it answers. (hyper hears it over HTTP/1.1 only.)
    pub fn follow<B>(&self, request: &mut Request<B>) {
        let told = Arc::clone(&self.0);
        hyper::ext::on_informational(request, move |head| told.tell(head.status(), head.headers()));
    }
}

impl Interim {
    /// For whoever asks upstream.
    #[must_use]
    pub fn teller(&self) -> Teller {
        Teller(Arc::clone(self.told.get_or_init(Arc::default)))
    }

    /// Gives `say` what was told since the last time, given how the answer stands: with the answer it ends.
    pub fn pass_on<T>(&self, answer: &Poll<T>, context: &Context<'_>, say: impl FnMut(Head)) {
        if let Some(told) = self.told.get() {
            let heads = if answer.is_ready() { told.close() } else { told.listen(context.waker()) };
            heads.into_iter().for_each(say);
        }
    }
}

/// What is to be written between two answers on an HTTP/1.1 connection, on its way from the request's future to the
/// stream below hyper. Both are polled by the same task.
#[derive(Debug, Default)]
pub struct Gap {
    full: AtomicBool,
    inside: Mutex<Filling>,
}

#[derive(Debug, Default)]
struct Filling {
    bytes: Vec<u8>,
    waker: Option<Waker>,
}

impl Gap {
    /// Waits for the answer, and has what is told before it written before it.
    pub async fn before<A: Future>(&self, interim: &Interim, mut answer: Pin<&mut A>) -> A::Output {
        let answered = poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            interim.pass_on(&polled, context, |head| self.put(&head));
            polled
        })
        .await;
        if interim.told.get().is_some() {
            self.taken().await;
        }
        answered
    }

    fn put(&self, head: &Head) {
        head.write(&mut self.inside.lock().bytes);
        self.full.store(true, Ordering::Release);
    }

    /// Waits until the stream has taken all that was put: only then may the answer be given to hyper.
    async fn taken(&self) {
        poll_fn(|context| {
            if !self.full.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            let mut inside = self.inside.lock();
            if inside.bytes.is_empty() {
                return Poll::Ready(());
            }
            inside.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn take(&self) -> Vec<u8> {
        let (bytes, waker) = {
            let mut inside = self.inside.lock();
            self.full.store(false, Ordering::Release);
            (std::mem::take(&mut inside.bytes), inside.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        bytes
    }
}

/// A stream below hyper's HTTP/1.1 server that writes what is in the [`Gap`] when hyper has nothing more to write.
pub struct Interjecting<S> {
    stream: S,
    gap: Arc<Gap>,
    /// Taken from the gap and not yet written, from `written` on.
    bytes: Vec<u8>,
    written: usize,
}

impl<S> Interjecting<S> {
    /// Between hyper and `stream`.
    #[must_use]
    pub fn new(stream: S, gap: Arc<Gap>) -> Self {
        Self { stream, gap, bytes: Vec::new(), written: 0 }
    }
}

impl<S: AsyncWrite + Unpin> Interjecting<S> {
    /// Writes what was taken. Nothing else is written before all of it is.
    fn poll_interjection(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.bytes.get(self.written..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        if self.written > 0 {
            (self.bytes, self.written) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Interjecting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Interjecting<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interjection(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interjection(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has handed over all bytes that it had: the one moment to take from the gap.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interjection(context))?;
        if self.gap.full.load(Ordering::Acquire) {
            self.bytes = self.gap.take();
            ready!(self.poll_interjection(context))?;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interjection(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
