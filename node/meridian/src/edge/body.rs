//! The body of an answer, wherever its bytes come from.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use rules::caching::fields;

use super::chunks::ChunkReader;
use crate::{
    fill::{pieces::Reader, upstream::UpstreamBody},
    observe::SiteCounters,
};

/// What can go wrong while a body is sent: the connection is cut, so that nobody takes a part for the whole.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Where an answer's bytes come from.
#[derive(Default)]
pub enum Source {
    /// Nowhere.
    #[default]
    Empty,
    /// Memory.
    Full(Bytes),
    /// A fill that may still be going on.
    Flight(Reader),
    /// The store, a chunk at a time.
    Chunks(Box<ChunkReader>),
    /// Upstream, for this client alone.
    Upstream(Box<UpstreamBody>),
    /// Several, one after the other.
    Row(VecDeque<Body>),
}

/// An answer's body: a source, cut to a range, counted.
#[derive(Default)]
pub struct Body {
    source: Source,
    skip: u64,
    left: Option<u64>,
    counters: Option<Arc<SiteCounters>>,
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// These bytes.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        Self::from(Source::Full(bytes))
    }

    /// Only the bytes from `first` to `last`, both included.
    #[must_use]
    pub fn cut(mut self, first: u64, last: u64) -> Self {
        let length = last.saturating_sub(first) + 1;
        if let Source::Full(bytes) = &mut self.source {
            let from = usize::try_from(first).unwrap_or(usize::MAX).min(bytes.len());
            let to = usize::try_from(first + length).unwrap_or(usize::MAX).min(bytes.len());
            *bytes = bytes.slice(from..to);
            return self;
        }
        self.skip = first;
        self.left = Some(length);
        self
    }

    /// Counts the bytes that are sent.
    #[must_use]
    pub fn counted(mut self, counters: Arc<SiteCounters>) -> Self {
        self.counters = Some(counters);
        self
    }

    /// Takes the range's share of a piece; none if the piece lies before the range.
    fn trim(&mut self, mut data: Bytes) -> Option<Bytes> {
        if self.skip > 0 {
            let skipped = self.skip.min(data.len() as u64);
            self.skip -= skipped;
            data = data.slice(usize::try_from(skipped).unwrap_or(usize::MAX)..);
        }
        if let Some(left) = &mut self.left {
            let kept = (*left).min(data.len() as u64);
            *left -= kept;
            data.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        }
        if let Some(counters) = &self.counters {
            counters.note_bytes(data.len() as u64);
        }
        (!data.is_empty()).then_some(data)
    }
}

/// What may be sent of a trailer section, if anything.
fn left_of_trailers(mut trailers: HeaderMap) -> Option<HeaderMap> {
    fields::strip_trailers(&mut trailers);
    (!trailers.is_empty()).then_some(trailers)
}

impl From<Source> for Body {
    fn from(source: Source) -> Self {
        Self { source, skip: 0, left: None, counters: None }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.left == Some(0) {
                return Poll::Ready(None);
            }
            let polled = match &mut self.source {
                Source::Empty => return Poll::Ready(None),
                Source::Full(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.source = Source::Empty;
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                Source::Flight(reader) => reader.poll_piece(context).map_ok(Frame::data),
                Source::Chunks(reader) => reader.poll_piece(context).map_ok(Frame::data),
                Source::Upstream(body) => Pin::new(body.as_mut()).poll_frame(context),
                Source::Row(bodies) => {
                    let Some(body) = bodies.front_mut() else { return Poll::Ready(None) };
                    match Pin::new(body).poll_frame(context) {
                        Poll::Ready(None) => {
                            bodies.pop_front();
                            continue;
                        }
                        polled => polled,
                    }
                }
            };
            match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(data) = self.trim(data) {
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                    }
                    Err(trailers) => {
                        if let Some(trailers) = trailers.into_trailers().ok().and_then(left_of_trailers) {
                            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                        }
                    }
                },
                other => return other,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
            || match &self.source {
                Source::Empty => true,
                Source::Full(bytes) => bytes.is_empty(),
                Source::Row(bodies) => bodies.is_empty(),
                _ => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(left) = self.left {
            return SizeHint::with_exact(left);
        }
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Flight(reader) => reader.length().map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Chunks(reader) => SizeHint::with_exact(reader.left()),
            Source::Upstream(body) => body.size_hint(),
            Source::Row(bodies) => bodies
                .iter()
                .try_fold(0u64, |sum, body| Some(sum + body.size_hint().exact()?))
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
