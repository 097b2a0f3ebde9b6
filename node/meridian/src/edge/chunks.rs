//! Reads a stored body a chunk at a time: memory stays bounded by the slowest client's current chunk. What is missing
//! is fetched while it is read, if the body's source is known.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use rules::caching::ranges::Span;

use super::body::BodyError;
use crate::fill::slices::{Kept, Lookup};

/// How many chunks before they are wanted missing ones are asked for.
const AHEAD: u32 = 2;

/// A part of a stored body on its way to one client.
pub struct ChunkReader {
    body: Arc<Kept>,
    at: u64,
    /// Behind the last byte that is wanted.
    end: u64,
    waiting: Option<Lookup>,
}

impl ChunkReader {
    /// A reader of one span of a body.
    #[must_use]
    pub fn new(body: Arc<Kept>, span: Span) -> Self {
        Self { body, at: span.0, end: span.1.saturating_add(1), waiting: None }
    }

    /// Bytes still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.end - self.at
    }

    /// The next bytes, at most a chunk.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        let index = self.body.index_of(self.at);
        let until = self.body.index_of(self.end - 1);
        let found = match &mut self.waiting {
            Some(lookup) => ready!(lookup.as_mut().poll(context)),
            None => match self.body.in_memory(index) {
                Some(bytes) => Ok(bytes),
                None => {
                    let body = Arc::clone(&self.body);
                    let lookup: Lookup = Box::pin(async move { body.chunk(index, until).await });
                    ready!(self.waiting.insert(lookup).as_mut().poll(context))
                }
            },
        };
        self.waiting = None;
        // the head of the answer is out: the connection is cut, and nobody takes a part for the whole
        let bytes = match found {
            Ok(bytes) => bytes,
            Err(fault) => return Poll::Ready(Some(Err(Box::new(fault)))),
        };
        self.body.ahead(index.saturating_add(AHEAD), until);
        let begin = u64::from(index) * self.body.chunk_bytes();
        let bytes = cut(&bytes, self.at - begin, self.end - begin);
        self.at += bytes.len() as u64;
        Poll::Ready(Some(Ok(bytes)))
    }
}

fn cut(bytes: &Bytes, from: u64, to: u64) -> Bytes {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(at(from)..at(to))
}
