//! Keeps a body as it passes by: small ones with their head, large ones in chunks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use rules::{
    caching::{VarySpec, ranges::strong_validator},
    key::{self, BodyId},
};
use wire::entry::{self, Body, Entry, Object, VaryIndex};

use super::{
    Job, Wanted,
    flight::Head,
    pieces::{BrokenOff, Pieces},
    slices::{Kept, Source},
    stored_headers,
    upstream::UpstreamBody,
};
use crate::{clock, snapshot::Shared};

/// Bodies up to this size are stored with their head, in bytes.
const INLINE_BYTES: usize = 64 * 1024;

/// Size of a chunk of a larger body, in bytes.
pub(super) const CHUNK_BYTES: usize = entry::CHUNK_BYTES as usize;

/// Orders of request fields that one URL's variants may be told apart by.
const SPECS_MAX: usize = 8;

/// Moves the body from upstream to readers and store.
pub(super) async fn pump(pieces: &Pieces, mut body: UpstreamBody, keeper: &mut Keeper<'_>) -> Result<(), BrokenOff> {
    if !keeper.keeping {
        pieces.unkept();
    }
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(BrokenOff) };
        let Ok(piece) = frame.into_data() else { continue };
        if piece.is_empty() {
            continue;
        }
        if keeper.outgrown_by(piece.len()) {
            pieces.unkept();
        }
        pieces.push(piece.clone());
        keeper.keep(&piece, pieces);
        if !pieces.room().await {
            return Err(BrokenOff);
        }
    }
    Ok(())
}

/// Collects a body for the store as it passes by.
pub(super) struct Keeper<'a> {
    shared: &'a Arc<Shared>,
    job: &'a Job,
    head: &'a Head,
    keeping: bool,
    bytes: u64,
    bytes_max: u64,
    held: BytesMut,
    /// The chunks so far, once there are any, and how many.
    chunked: Option<Arc<Kept>>,
    id: BodyId,
    chunks: u32,
}

impl<'a> Keeper<'a> {
    /// Begins.
    pub(super) fn new(shared: &'a Arc<Shared>, job: &'a Job, head: &'a Head) -> Self {
        Self {
            shared,
            job,
            head,
            keeping: head.stored.is_ok(),
            bytes: 0,
            bytes_max: shared.config.load().node.limits.object_bytes,
            held: BytesMut::new(),
            chunked: None,
            id: BodyId(random_name()),
            chunks: 0,
        }
    }

    /// Whether this piece makes the body too large to be kept: by readers' memory or by the store.
    fn outgrown_by(&mut self, piece_bytes: usize) -> bool {
        self.bytes += piece_bytes as u64;
        if self.bytes > self.bytes_max {
            self.keeping = false;
        }
        self.bytes > self.bytes_max
    }

    fn keep(&mut self, piece: &Bytes, pieces: &Pieces) {
        if !self.keeping {
            return;
        }
        self.held.extend_from_slice(piece);
        if self.bytes > INLINE_BYTES as u64 {
            while self.held.len() >= CHUNK_BYTES {
                let chunk = self.held.split_to(CHUNK_BYTES).freeze();
                self.keep_chunk(chunk);
                let kept = u64::from(self.chunks) * CHUNK_BYTES as u64;
                let chunked = self.chunked.get_or_insert_with(|| chunks(self.shared, self.job, self.head, self.id));
                pieces.kept(kept, chunked);
            }
        }
    }

    fn keep_chunk(&mut self, chunk: Bytes) {
        let key = key::body_chunk(self.id, self.chunks);
        self.shared.objects.insert(&self.job.wanted.served.permit, key, Entry::Chunk(chunk));
        self.chunks += 1;
    }

    /// The body is whole: makes it findable.
    pub(super) fn finish(mut self, head: &Head) {
        if !self.keeping {
            return;
        }
        let body = if self.bytes <= INLINE_BYTES as u64 {
            Body::Inline(self.held.split().freeze())
        } else {
            let rest = self.held.split().freeze();
            if !rest.is_empty() {
                self.keep_chunk(rest);
            }
            Body::Chunked { id: self.id, length: self.bytes, chunk_bytes: entry::CHUNK_BYTES }
        };
        let wanted = &self.job.wanted;
        let key = match &head.vary {
            Some((spec, key)) => {
                index_variant(self.shared, wanted, spec);
                *key
            }
            None => wanted.primary,
        };
        let object = Object {
            status: head.status,
            headers: stored_headers(&head.headers),
            freshness: head.freshness,
            stamp: head.stamp,
            verified: AtomicU64::new(head.stamp.0),
            purge_keys: head.purge_keys.clone(),
            body,
            site: wanted.served.site.name.clone(),
        };
        self.shared.objects.insert(&wanted.served.permit, key, Entry::Object(Arc::new(object)));
        wanted.served.counters.note_stored();
    }
}

/// The chunks of a body that is being kept, for readers who are behind. What the store has lost of them is fetched
/// again, where that can be proven to be the same.
fn chunks(shared: &Arc<Shared>, job: &Job, head: &Head, id: BodyId) -> Arc<Kept> {
    let key = head.vary.as_ref().map_or(job.wanted.primary, |(_, key)| *key);
    let validator = head.length.and_then(|_| strong_validator(&head.headers));
    let source = validator.map(|validator| Source { wanted: Arc::clone(&job.wanted), validator, head: key });
    Kept::new(Arc::clone(shared), id, head.length.unwrap_or(u64::MAX), entry::CHUNK_BYTES, source)
}

/// Files which request fields tell this URL's variants apart, newest first.
pub(super) fn index_variant(shared: &Shared, wanted: &Wanted, spec: &VarySpec) {
    let mut specs = vec![spec.clone()];
    if let Some(Entry::Vary(index)) = shared.objects.memory(wanted.primary) {
        if index.specs.first() == Some(spec) {
            return;
        }
        specs.extend(index.specs.iter().filter(|known| *known != spec).take(SPECS_MAX - 1).cloned());
    }
    shared.objects.insert(&wanted.served.permit, wanted.primary, Entry::Vary(Arc::new(VaryIndex { specs })));
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
