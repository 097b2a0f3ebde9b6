//! Reads a stored body a chunk at a time, one chunk ahead of nobody: memory stays bounded by the slowest client's
//! current chunk.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use rules::key::{self, BodyId};
use store::objects::Objects;
use wire::entry::Entry;

use super::body::BodyError;

type Lookup = Pin<Box<dyn Future<Output = Option<Entry>> + Send>>;

/// A stored body on its way to one client.
pub struct ChunkReader {
    objects: Objects,
    id: BodyId,
    length: u64,
    chunk_bytes: u32,
    next: u32,
    sent: u64,
    waiting: Option<Lookup>,
}

/// A chunk was evicted, or failed its checksum, after the head of the answer had been sent. The connection is cut:
/// a part is never completed with other bytes.
#[derive(Debug, thiserror::Error)]
#[error("chunk {index} of a stored body is gone: the answer is cut short")]
pub struct ChunkGone {
    /// Its number, from 0.
    pub index: u32,
}

impl ChunkReader {
    /// A reader at the start of a body.
    #[must_use]
    pub fn new(objects: Objects, id: BodyId, length: u64, chunk_bytes: u32) -> Self {
        Self { objects, id, length, chunk_bytes: chunk_bytes.max(1), next: 0, sent: 0, waiting: None }
    }

    /// Whether every chunk seems to be there; asked before the head of an answer is sent.
    #[must_use]
    pub fn complete(&self) -> bool {
        (0..self.count()).all(|index| self.objects.contains(key::body_chunk(self.id, index)))
    }

    /// Moves to the chunk that holds the byte at `offset`; returns how many bytes of it lie before.
    pub fn skip_to(&mut self, offset: u64) -> u64 {
        let chunk = offset / u64::from(self.chunk_bytes);
        self.next = u32::try_from(chunk).unwrap_or(u32::MAX);
        self.sent = (chunk * u64::from(self.chunk_bytes)).min(self.length);
        offset - self.sent
    }

    /// Bytes still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.length - self.sent
    }

    fn count(&self) -> u32 {
        u32::try_from(self.length.div_ceil(u64::from(self.chunk_bytes))).unwrap_or(u32::MAX)
    }

    /// The next chunk.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.sent >= self.length {
            return Poll::Ready(None);
        }
        let index = self.next;
        let entry = match &mut self.waiting {
            Some(lookup) => ready!(lookup.as_mut().poll(context)),
            None => {
                let key = key::body_chunk(self.id, index);
                match self.objects.memory(key) {
                    Some(entry) => Some(entry),
                    None => {
                        let objects = self.objects.clone();
                        let lookup: Lookup = Box::pin(async move { objects.lookup(key).await });
                        ready!(self.waiting.insert(lookup).as_mut().poll(context))
                    }
                }
            }
        };
        self.waiting = None;
        let expected = u64::from(self.chunk_bytes).min(self.length - self.sent);
        match entry {
            Some(Entry::Chunk(bytes)) if bytes.len() as u64 == expected => {
                self.next += 1;
                self.sent += expected;
                Poll::Ready(Some(Ok(bytes)))
            }
            _ => Poll::Ready(Some(Err(Box::new(ChunkGone { index })))),
        }
    }
}
