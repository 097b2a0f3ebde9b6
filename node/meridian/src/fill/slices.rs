//! Parts of stored bodies that are not here: fetched by range, a few slices at a time, each once for all who want it.
//!
//! A large body is stored in pieces under a random name, beside its head. A piece that was never fetched, was evicted or
//! has rotted is asked for by range, with `If-Range` and a strong validator; what comes is taken only if it is proven to
//! be of the same body (RFC 9111 section 3.4): range, length and validator must agree. If the origin has another body
//! by now, the stored head is dropped and the answer that needed the piece is cut, never completed with other bytes.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use rules::{
    caching::ranges::{self, ContentRange, Span},
    key::{self, BodyId, Key},
};
use store::objects::Objects;
use tokio::sync::watch;
use wire::entry::{Body, Entry};

use super::{
    Wanted, Way,
    upstream::{self, UpstreamBody},
};
use crate::snapshot::Shared;

/// Size of a slice, in bytes: what is asked of an origin begins and ends on its borders.
pub const SLICE_BYTES: u32 = 1024 * 1024;

/// Most slices in one request to the origin.
const RUN_MAX: u32 = 4;

/// A slice that the origin broke off in is asked for once more.
const TRIES: usize = 2;

/// A piece of a body on its way, from the store or from upstream.
pub type Lookup = Pin<Box<dyn Future<Output = Result<Bytes, SliceFault>> + Send>>;

/// Why a piece of a stored body cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SliceFault {
    /// It is gone, and nothing proves that what could be fetched is of the same body.
    #[error("a piece of the stored body is gone")]
    Gone,
    /// The origin has another body by now.
    #[error("the origin has another body by now")]
    Changed,
    /// Upstream gave nothing, or not what was asked for.
    #[error("a piece of the body could not be fetched")]
    Failed,
}

/// How the missing pieces of a stored body are fetched.
#[derive(Debug)]
pub struct Source {
    /// The request that it answers.
    pub wanted: Arc<Wanted>,
    /// What proves that a part is of this body.
    pub validator: HeaderValue,
    /// Where its head stands.
    pub head: Key,
}

/// A body in the store, whole or not.
pub struct Kept {
    shared: Arc<Shared>,
    id: BodyId,
    length: u64,
    chunk_bytes: u32,
    source: Option<Source>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Kept {
    /// A body of `length` bytes, in chunks of `chunk_bytes` under `id`; with a source, what is missing is fetched.
    #[must_use]
    pub fn new(shared: Arc<Shared>, id: BodyId, length: u64, chunk_bytes: u32, source: Option<Source>) -> Arc<Self> {
        Arc::new(Self { shared, id, length, chunk_bytes: chunk_bytes.max(1), source })
    }

    /// Size of its chunks but the last, in bytes.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        u64::from(self.chunk_bytes)
    }

    /// Whether what is missing can be fetched.
    #[must_use]
    pub fn refillable(&self) -> bool {
        self.source.is_some()
    }

    fn key(&self, index: u32) -> Key {
        key::body_chunk(self.id, index)
    }

    /// Where a chunk begins, and behind its end.
    fn span(&self, index: u32) -> (u64, u64) {
        let begin = u64::from(index) * self.chunk_bytes();
        (begin, (begin + self.chunk_bytes()).min(self.length))
    }

    /// The number of the chunk that holds a byte.
    #[must_use]
    pub fn index_of(&self, at: u64) -> u32 {
        u32::try_from(at / self.chunk_bytes()).unwrap_or(u32::MAX)
    }

    fn sound(&self, index: u32, entry: Option<Entry>) -> Option<Bytes> {
        let (begin, end) = self.span(index);
        match entry {
            Some(Entry::Chunk(bytes)) if bytes.len() as u64 == end - begin => Some(bytes),
            _ => None,
        }
    }

    /// A chunk, if memory has it.
    #[must_use]
    pub fn in_memory(&self, index: u32) -> Option<Bytes> {
        self.sound(index, self.shared.objects.memory(self.key(index)))
    }

    /// The bytes from `at` to the end of their chunk.
    #[must_use]
    pub fn chunk_from(self: &Arc<Self>, at: u64) -> Lookup {
        let index = self.index_of(at);
        let skip = usize::try_from(at - u64::from(index) * self.chunk_bytes()).unwrap_or(0);
        let body = Arc::clone(self);
        Box::pin(async move {
            let bytes = body.chunk(index, index).await?;
            if skip >= bytes.len() { Err(SliceFault::Gone) } else { Ok(bytes.slice(skip..)) }
        })
    }

    /// A chunk: from memory, disk or upstream. `until` is the last one that its reader will want.
    ///
    /// # Errors
    /// [`SliceFault`] if it cannot be had.
    pub async fn chunk(self: &Arc<Self>, index: u32, until: u32) -> Result<Bytes, SliceFault> {
        let found = self.shared.objects.lookup(self.key(index)).await;
        if let Some(bytes) = self.sound(index, found) {
            return Ok(bytes);
        }
        if self.source.is_none() {
            return Err(SliceFault::Gone);
        }
        claim(self, index, until).outcome().await
    }

    /// Has a chunk fetched that will be wanted soon, unless it is here or on its way.
    pub fn ahead(self: &Arc<Self>, index: u32, until: u32) {
        if index <= until && self.source.is_some() && !self.shared.objects.contains(self.key(index)) {
            drop(claim(self, index, until));
        }
    }

    /// Drops the stored head, if it is still that of this body.
    fn forget(&self) {
        let Some(source) = &self.source else { return };
        if let Some(Entry::Object(object)) = self.shared.objects.memory(source.head)
            && matches!(object.body, Body::Chunked { id, .. } if id != self.id)
        {
            return;
        }
        self.shared.objects.remove(source.head);
    }
}

/// Whether a span of a stored body is here, as far as can be told without reading it.
#[must_use]
pub fn is_here(objects: &Objects, id: BodyId, chunk_bytes: u32, span: Span) -> bool {
    let chunk_bytes = u64::from(chunk_bytes.max(1));
    (span.0 / chunk_bytes..=span.1 / chunk_bytes)
        .all(|index| u32::try_from(index).is_ok_and(|index| objects.contains(key::body_chunk(id, index))))
}

/// The slices that hold a part whose length need not be known, cut to one request.
#[must_use]
pub fn around(first: u64, last: Option<u64>) -> Span {
    let slice = u64::from(SLICE_BYTES);
    let begin = first / slice * slice;
    let run_end = begin.saturating_add(u64::from(RUN_MAX) * slice - 1);
    let end = last.map_or(run_end, |last| (last / slice).saturating_add(1).saturating_mul(slice) - 1);
    (begin, end.min(run_end))
}

/// One slice on its way.
#[derive(Debug)]
struct Slice {
    outcome: watch::Sender<Option<Result<Bytes, SliceFault>>>,
}

impl Slice {
    fn new() -> Arc<Self> {
        Arc::new(Self { outcome: watch::Sender::new(None) })
    }

    /// The first outcome counts.
    fn land(&self, with: Result<Bytes, SliceFault>) {
        self.outcome.send_if_modified(|outcome| {
            let open = outcome.is_none();
            if open {
                *outcome = Some(with);
            }
            open
        });
    }

    async fn outcome(&self) -> Result<Bytes, SliceFault> {
        let mut receiver = self.outcome.subscribe();
        let landed = receiver.wait_for(Option::is_some).await;
        landed.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(SliceFault::Failed))
    }
}

/// All slices on their way to this node, by the key of their chunk.
#[derive(Debug, Default)]
pub struct Slices {
    board: Mutex<HashMap<Key, Arc<Slice>>>,
}

impl Slices {
    /// How many are on their way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.board.lock().len()
    }
}

/// Consecutive slices that one request brings. Whatever happens to it, nobody waits for ever.
struct Run {
    body: Arc<Kept>,
    first: u32,
    slices: VecDeque<Arc<Slice>>,
}

impl Run {
    /// The next slice's number, if any is left.
    fn next(&self) -> Option<u32> {
        (!self.slices.is_empty()).then_some(self.first)
    }

    /// The bytes that are still wanted, the last one included.
    fn span(&self) -> Span {
        let count = u32::try_from(self.slices.len()).unwrap_or(1).max(1);
        (self.body.span(self.first).0, self.body.span(self.first + count - 1).1 - 1)
    }

    /// Gives the next slice to those who wait.
    fn land(&mut self, with: Result<Bytes, SliceFault>) {
        let Some(slice) = self.slices.pop_front() else { return };
        self.body.shared.slices.board.lock().remove(&self.body.key(self.first));
        self.first += 1;
        slice.land(with);
    }

    fn fail(&mut self, fault: SliceFault) {
        while !self.slices.is_empty() {
            self.land(Err(fault));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.fail(SliceFault::Failed);
    }
}

/// Takes part in the fetch of a slice; starts one, with the missing ones behind it, if there is none.
fn claim(body: &Arc<Kept>, index: u32, until: u32) -> Arc<Slice> {
    let (slice, run) = {
        let mut board = body.shared.slices.board.lock();
        if let Some(slice) = board.get(&body.key(index)) {
            return Arc::clone(slice);
        }
        let run = register(&mut board, body, index, until);
        (run.slices.front().map_or_else(Slice::new, Arc::clone), run)
    };
    let shared = Arc::clone(&body.shared);
    shared.tasks.spawn("slices", run_to_end(run));
    slice
}

fn register(board: &mut HashMap<Key, Arc<Slice>>, body: &Arc<Kept>, index: u32, until: u32) -> Run {
    let mut slices = VecDeque::new();
    let last = until.clamp(index, index.saturating_add(RUN_MAX - 1)).min(body.index_of(body.length.saturating_sub(1)));
    for next in index..=last.max(index) {
        let key = body.key(next);
        if next > index && (board.contains_key(&key) || body.shared.objects.contains(key)) {
            break;
        }
        let slice = Slice::new();
        board.insert(key, Arc::clone(&slice));
        slices.push_back(slice);
    }
    Run { body: Arc::clone(body), first: index, slices }
}

async fn run_to_end(mut run: Run) {
    for attempt in 0..TRIES {
        // what landed between look-up and claim is not fetched again
        while let Some(found) = run.next().and_then(|index| run.body.in_memory(index)) {
            run.land(Ok(found));
        }
        if run.next().is_none() {
            return;
        }
        match ask(&run, attempt > 0).await {
            Ok(coming) => {
                if fill(&mut run, coming).await.is_ok() {
                    return;
                }
            }
            Err(SliceFault::Changed) => {
                run.body.forget();
                return run.fail(SliceFault::Changed);
            }
            Err(_) => {}
        }
    }
}

/// A body that holds what is wanted, and how much of it comes before.
struct Coming {
    body: UpstreamBody,
    skip: u64,
    /// Whether something else may follow.
    whole: bool,
}

/// Asks upstream for what a run still wants.
async fn ask(run: &Run, direct: bool) -> Result<Coming, SliceFault> {
    let body = &run.body;
    let Some(source) = &body.source else { return Err(SliceFault::Gone) };
    let (first, last) = run.span();
    let mut headers = source.wanted.headers.clone();
    headers.insert(http::header::RANGE, range(first, last));
    headers.insert(http::header::IF_RANGE, source.validator.clone());
    source.wanted.served.counters.note_origin_fetch();
    let fetched =
        upstream::send(&body.shared, &source.wanted, headers, if direct { Way::Origin } else { Way::Owner }).await;
    let response = fetched.map_err(|_| SliceFault::Failed)?.response;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            if !ranges::same_body(&source.validator, response.headers()) {
                return Err(SliceFault::Changed);
            }
            match ContentRange::of(response.headers()) {
                Some(range) if range == (ContentRange { first, last, length: body.length }) => {}
                // one of the two lengths is a lie, and nobody can tell which
                Some(range) if range.length != body.length => return Err(SliceFault::Changed),
                _ => return Err(SliceFault::Failed),
            }
            Ok(Coming { body: response.into_body(), skip: 0, whole: false })
        }
        // it does not do parts: what is wanted is in the whole
        StatusCode::OK if ranges::same_body(&source.validator, response.headers()) => {
            Ok(Coming { body: response.into_body(), skip: first, whole: true })
        }
        // it has no such body any more, or another one
        status if status.is_success() || matches!(status.as_u16(), 404 | 410 | 416) => Err(SliceFault::Changed),
        _ => Err(SliceFault::Failed),
    }
}

/// A `Range` of one part.
#[must_use]
pub fn range(first: u64, last: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes={first}-{last}")).unwrap_or(HeaderValue::from_static("bytes=0-"))
}

/// Cuts what comes into slices, stores each and gives it to those who wait.
async fn fill(run: &mut Run, mut coming: Coming) -> Result<(), SliceFault> {
    let mut held = BytesMut::new();
    while let Some(frame) = coming.body.frame().await {
        let Ok(frame) = frame else { return Err(SliceFault::Failed) };
        let Ok(mut piece) = frame.into_data() else { continue };
        let skipped = coming.skip.min(piece.len() as u64);
        coming.skip -= skipped;
        drop(piece.split_to(usize::try_from(skipped).unwrap_or(0)));
        while !piece.is_empty() {
            let Some(index) = run.next() else {
                // more than was asked for is a lie about the rest, too
                return if coming.whole { Ok(()) } else { Err(SliceFault::Failed) };
            };
            let (begin, end) = run.body.span(index);
            let length = usize::try_from(end - begin).unwrap_or(usize::MAX);
            let taken = piece.len().min(length - held.len());
            held.extend_from_slice(&piece.split_to(taken));
            if held.len() == length {
                land(run, index, std::mem::take(&mut held).freeze());
            }
        }
    }
    if run.next().is_none() { Ok(()) } else { Err(SliceFault::Failed) }
}

fn land(run: &mut Run, index: u32, bytes: Bytes) {
    if let Some(source) = &run.body.source {
        let (objects, permit) = (&run.body.shared.objects, &source.wanted.served.permit);
        objects.insert(permit, run.body.key(index), Entry::Chunk(bytes.clone()));
    }
    run.land(Ok(bytes));
}

/// Slices that are on their way with the response that told of the body: registered before anybody can want them.
pub struct Opening(Run);

impl Opening {
    /// Registers the slices of `range`, which begins on the border of one and ends on one or with the body.
    #[must_use]
    pub fn new(body: &Arc<Kept>, range: ContentRange) -> Self {
        let (first, last) = (body.index_of(range.first), body.index_of(range.last));
        let mut board = body.shared.slices.board.lock();
        Self(register(&mut board, body, first, last))
    }

    /// Takes them from the response's body; what it breaks off in is asked for again.
    pub async fn fill(mut self, body: UpstreamBody) {
        if fill(&mut self.0, Coming { body, skip: 0, whole: false }).await.is_err() {
            run_to_end(self.0).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_asked_for_on_the_borders_of_slices() {
        const M: u64 = 1024 * 1024;
        assert_eq!(around(0, Some(1)), (0, M - 1));
        assert_eq!(around(M - 1, Some(M)), (0, 2 * M - 1));
        assert_eq!(around(5 * M + 7, Some(6 * M + 6)), (5 * M, 7 * M - 1));
        assert_eq!(around(M, None), (M, 5 * M - 1));
        assert_eq!(around(0, Some(u64::MAX)), (0, 4 * M - 1));
        assert_eq!(around(u64::MAX, None).1, u64::MAX);
    }
}
