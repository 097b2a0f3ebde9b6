//! A response's body on its way in: whole, or an error. Never a part that looks whole.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::{
    error::{OriginError, cause},
    outgoing::{Stage, UploadWatch},
    site::Seat,
    upstream::Lease,
};
use crate::clock;

/// The body of an origin's response. Pulled: an origin is read no faster than this is.
///
/// Ends cleanly only if the framing proved the body complete (RFC 9112 section 8); otherwise with an [`OriginError`]:
/// `Truncated`, `BetweenBytesTimeout` for silence while it is waited for, `TotalTimeout`. Dropping it early closes
/// the connection, or resets the stream.
#[derive(Debug)]
pub struct OriginBody {
    inner: Incoming,
    /// The connection; gone when the body has ended, one way or the other.
    lease: Option<Lease>,
    upload: UploadWatch,
    /// What the head said, for responses that have a body.
    length: Option<u64>,
    seen: u64,
    between: Duration,
    end: Instant,
    /// Since when the origin has been waited for; none while it is us who have not asked.
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What a body is bound by.
pub(super) struct Bounds {
    /// Longest silence.
    pub(super) between: Duration,
    /// When the whole request must be over.
    pub(super) end: Instant,
    /// Bytes that the head promised; none if it did not, or if there is no body by definition.
    pub(super) length: Option<u64>,
}

impl OriginBody {
    pub(super) fn new(inner: Incoming, lease: Lease, upload: UploadWatch, bounds: &Bounds) -> Self {
        let Bounds { between, end, length } = *bounds;
        let lease = Some(lease);
        let mut body = Self { inner, lease, upload, length, seen: 0, between, end, waiting: None, timer: None };
        if body.inner.is_end_stream() {
            body.complete();
        }
        body
    }

    /// Keeps a seat taken to the end of the body.
    pub(super) fn sit(&mut self, seat: Seat) {
        if let Some(lease) = &mut self.lease {
            lease.sit(seat);
        }
    }

    /// The body is whole: the connection serves the next request, unless ours is still going up.
    fn complete(&mut self) {
        if let Some(lease) = self.lease.take()
            && self.upload.stage().0 == Stage::Done
        {
            lease.keep();
        }
        self.timer = None;
    }

    /// The body will never be whole: the connection goes.
    fn fail(&mut self, error: OriginError) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        if let Some(lease) = self.lease.take() {
            lease.failed(&error);
        }
        self.timer = None;
        Poll::Ready(Some(Err(error)))
    }

    /// hyper has no more: is that the end?
    fn ended(&mut self) -> Result<(), OriginError> {
        if self.length.is_some_and(|length| length != self.seen) {
            return Err(OriginError::Truncated("fewer bytes than its Content-Length".into()));
        }
        // HTTP/2: a stream reset with NO_ERROR ends without END_STREAM. After an upload that was not wanted whole
        // this is how a complete response ends (RFC 9113 section 8.1); anywhere else it is a broken one.
        let reset = self.lease.as_ref().is_some_and(Lease::shared) && !self.inner.is_end_stream();
        if reset && self.length.is_none() && self.upload.stage().0 == Stage::Done {
            return Err(OriginError::Truncated("the stream was reset".into()));
        }
        Ok(())
    }

    /// Waits for whichever limit comes first. The timer is moved only when it fires, not with every piece.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<OriginError> {
        loop {
            let now = Instant::from_std(clock::instant());
            let silent = *self.waiting.get_or_insert(now) + self.between;
            let limit = silent.min(self.end);
            if now >= limit {
                let total = self.end <= silent;
                return Poll::Ready(if total { OriginError::TotalTimeout } else { OriginError::BetweenBytesTimeout });
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(limit)));
            if timer.deadline() > limit || timer.is_elapsed() {
                timer.as_mut().reset(limit);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = OriginError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        let this = self.get_mut();
        if this.lease.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Pending => {
                let error = ready!(this.poll_limit(cx));
                this.fail(error)
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = None;
                if Instant::from_std(clock::instant()) >= this.end {
                    return this.fail(OriginError::TotalTimeout);
                }
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.seen = this.seen.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
                if this.inner.is_end_stream() {
                    match this.ended() {
                        Ok(()) => this.complete(),
                        Err(error) => return this.fail(error),
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.fail(OriginError::Truncated(cause(&error))),
            Poll::Ready(None) => match this.ended() {
                Ok(()) => {
                    this.complete();
                    Poll::Ready(None)
                }
                Err(error) => this.fail(error),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
