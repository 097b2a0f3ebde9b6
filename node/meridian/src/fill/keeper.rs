//! Keeps a body as it passes by: small ones with their head, large ones in chunks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use rules::{
    caching::{Reason, ranges::strong_validator},
    key::{self, BodyId},
};
use wire::entry::{self, Body, Entry, Object};

use super::{
    Job, filing,
    flight::Head,
    pieces::{BrokenOff, Pieces},
    slices::{Kept, Source},
    stored_headers,
    upstream::UpstreamBody,
};
use crate::{clock, edge::sites::Served, snapshot::Shared};

/// Bodies up to this size are stored with their head, in bytes.
const INLINE_BYTES: usize = 64 * 1024;

/// Size of a chunk of a larger body, in bytes.
pub(super) const CHUNK_BYTES: usize = entry::CHUNK_BYTES as usize;

/// Moves the body from upstream to readers and store. When it has ended well, it is stored before anybody has its last
/// piece: who has the whole and asks again finds it.
pub(super) async fn pump(pieces: &Pieces, mut body: UpstreamBody, mut keeper: Keeper<'_>, head: &Head) {
    if keeper.collector.is_none() {
        pieces.unkept();
    }
    let mut last = None;
    let ended = loop {
        let piece = match body.frame().await {
            None => break Ok(()),
            Some(Err(_)) => break Err(BrokenOff),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        if piece.is_empty() {
            continue;
        }
        if keeper.outgrown_by(piece.len()) {
            pieces.unkept();
        }
        if let Some(piece) = last.take() {
            pieces.push(piece);
        }
        if let Some(collector) = &mut keeper.collector {
            collector.take(&piece, pieces);
        }
        if head.length == Some(keeper.bytes) {
            last = Some(piece);
            continue;
        }
        pieces.push(piece);
        if !pieces.room().await {
            break Err(BrokenOff);
        }
    };
    let counters = &keeper.job.wanted.served.counters;
    match keeper.finish(head, ended) {
        Ok(()) => counters.note_stored(),
        Err(reason) => counters.note_not_stored(reason),
    }
    if let Some(piece) = last {
        pieces.push(piece);
    }
    pieces.end(ended);
}

/// Collects a body for the store as it passes by: what is small is held, what is larger goes in as it comes.
pub(super) struct Collector {
    shared: Arc<Shared>,
    served: Arc<Served>,
    /// What is announced; what can be fetched again of it, and how.
    length: Option<u64>,
    source: Option<Source>,
    id: BodyId,
    bytes: u64,
    held: BytesMut,
    /// The chunks so far, once there are any, and how many.
    chunked: Option<Arc<Kept>>,
    chunks: u32,
}

impl Collector {
    /// Begins.
    pub(super) fn new(
        shared: &Arc<Shared>,
        served: &Arc<Served>,
        id: BodyId,
        length: Option<u64>,
        source: Option<Source>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            served: Arc::clone(served),
            length,
            source,
            id,
            bytes: 0,
            held: BytesMut::new(),
            chunked: None,
            chunks: 0,
        }
    }

    /// Takes in a piece, and tells `pieces` what the store has.
    pub(super) fn take(&mut self, piece: &Bytes, pieces: &Pieces) {
        self.bytes += piece.len() as u64;
        self.held.extend_from_slice(piece);
        if self.bytes > INLINE_BYTES as u64 {
            while self.held.len() >= CHUNK_BYTES {
                let chunk = self.held.split_to(CHUNK_BYTES).freeze();
                self.keep_chunk(chunk);
                let kept = u64::from(self.chunks) * CHUNK_BYTES as u64;
                pieces.kept(kept, self.chunked());
            }
        }
    }

    /// The chunks of a body that is being kept, for readers who are behind. What the store has lost of them is fetched
    /// again, where that can be proven to be the same.
    fn chunked(&mut self) -> &Arc<Kept> {
        let length = self.length.unwrap_or(u64::MAX);
        let (shared, source) = (&self.shared, &mut self.source);
        self.chunked
            .get_or_insert_with(|| Kept::new(Arc::clone(shared), self.id, length, entry::CHUNK_BYTES, source.take()))
    }

    fn keep_chunk(&mut self, chunk: Bytes) {
        let key = key::body_chunk(self.id, self.chunks);
        self.shared.objects.insert(&self.served.permit, key, Entry::Chunk(chunk));
        self.chunks += 1;
    }

    /// The body is whole: how it is stored.
    pub(super) fn body(mut self) -> Body {
        let rest = self.held.split().freeze();
        if self.bytes <= INLINE_BYTES as u64 {
            return Body::Inline(rest);
        }
        if !rest.is_empty() {
            self.keep_chunk(rest);
        }
        Body::Chunked { id: self.id, length: self.bytes, chunk_bytes: entry::CHUNK_BYTES }
    }
}

/// Keeps a response's body, if it may be stored.
pub(super) struct Keeper<'a> {
    shared: &'a Arc<Shared>,
    job: &'a Job,
    bytes: u64,
    bytes_max: u64,
    /// None if it may not be stored, or is too large.
    collector: Option<Collector>,
}

impl<'a> Keeper<'a> {
    /// Begins.
    pub(super) fn new(shared: &'a Arc<Shared>, job: &'a Job, head: &Head) -> Self {
        let wanted = &job.wanted;
        let validator = head.length.and_then(|_| strong_validator(&head.headers));
        let source =
            validator.map(|validator| Source { wanted: Arc::clone(wanted), validator, head: head.filed.key() });
        let collector =
            head.stored.is_ok().then(|| Collector::new(shared, &wanted.served, head.made, head.length, source));
        Self { shared, job, bytes: 0, bytes_max: shared.config.load().node.limits.object_bytes, collector }
    }

    /// Whether this piece makes the body too large to be kept.
    fn outgrown_by(&mut self, piece_bytes: usize) -> bool {
        self.bytes += piece_bytes as u64;
        if self.bytes > self.bytes_max {
            self.collector = None;
        }
        self.bytes > self.bytes_max
    }

    /// The body has ended: if it is whole and may be stored, makes it findable.
    ///
    /// # Errors
    /// Why it is not stored.
    pub(super) fn finish(self, head: &Head, ended: Result<(), BrokenOff>) -> Result<(), Reason> {
        head.stored?;
        let collector = self.collector.ok_or(Reason::TooLarge)?;
        ended.map_err(|_| Reason::Incomplete)?;
        let wanted = &self.job.wanted;
        filing::index(self.shared, wanted, &head.filed);
        let object = Object {
            status: head.status,
            headers: stored_headers(&head.headers),
            freshness: head.freshness,
            stamp: head.stamp,
            verified: AtomicU64::new(head.stamp.0),
            confirmed_ms: head.confirmed_ms,
            purge_keys: head.purge_keys.clone(),
            made: head.made,
            body: collector.body(),
            site: wanted.served.site.name.clone(),
        };
        self.shared.objects.insert(&wanted.served.permit, head.filed.key(), Entry::Object(Arc::new(object)));
        Ok(())
    }
}

/// A name that nothing else has.
pub fn random_name() -> u128 {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // no randomness to be had: a number that nothing else of this process has
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        return (u128::from(clock::unix_ms()) << 64) | u128::from(next);
    }
    u128::from_le_bytes(bytes)
}
