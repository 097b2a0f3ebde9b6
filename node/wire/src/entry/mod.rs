//! Stored entries: what the object store keeps under a key, and its bytes.
//!
//! One entry, all numbers little-endian:
//!
//! ```text
//! 0        1      2            6                            length - 8   length
//! +--------+------+------------+---------- ... ------------+------------+
//! | format | kind | length u32 | payload, by kind          | XXH3-64    |
//! +--------+------+------------+---------- ... ------------+------------+
//!
//! kind 1, object
//!   status u16, lifetime_s u32, age_zero_unix_ms u64, stale_while_revalidate_s u32,
//!   flags u8 (1 must_revalidate, 2 always_revalidate, 4 stale_if_error_s given), stale_if_error_s u32,
//!   stamp u64, made u128,
//!   site length u8, site,
//!   purge keys count u16, each u64,
//!   fields count u16, each: name length u16, name, value length u16, value,
//!   body u8: 0 inline:  length u32, bytes
//!            1 chunked: body id u128, length u64, chunk bytes u32
//! kind 2, vary index
//!   specs count u8, each: names count u16, each: name length u16, name,
//!   variants count u16, each: key u128
//! kind 3, hit for miss
//!   until_unix_ms u64, reason u16
//! kind 4, chunk
//!   length u32, bytes
//! kind 5, search index
//!   variances count u8, each: length u16, its `No-Vary-Search` in one form
//! ```
//!
//! The checksum covers everything before it. A format that this build does not know, a checksum that does not match, a
//! length over its limit or a byte too many is an [`EntryFault`], which the store takes for a miss: an entry is either
//! what was written or nothing. The checksum finds accidents, not forgers.
//!
//! `Object::verified` and `Object::confirmed_ms` are not kept. It begins again at the stamp, which is always right and costs one longer look.

mod codec;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use region_config::SiteId;
use rules::{
    caching::{Freshness, SearchVariance, VarySpec},
    key::{BodyId, Key},
    purge::Position,
};

pub use codec::{
    ENTRY_BYTES_MAX, EntryFault, HEAD_BYTES, announced_bytes, decode, decode_shared, encode, encoded_bytes,
};

/// The largest body that is kept inside its object.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// The size into which larger bodies are cut; the last chunk may be shorter.
pub const CHUNK_BYTES: u32 = 256 * 1024;
/// The largest chunk that is read back, so that [`CHUNK_BYTES`] may grow without a new format.
pub const CHUNK_BYTES_MAX: u32 = 1024 * 1024;
/// The most request fields that may select a variant.
pub const VARY_NAMES_MAX: usize = 64;
/// The most selections that one URL may have at a time.
pub const VARY_SPECS_MAX: usize = 8;
/// The most variants that one URL may have at a time.
pub const VARIANTS_MAX: usize = 256;
/// The most ways at a time in which responses of one path do not vary by their query.
pub const SEARCH_VARIANCES_MAX: usize = 4;
/// The most purge keys that an object may fall under.
pub const PURGE_KEYS_MAX: usize = 1024;
/// The most header fields of an object.
pub const FIELDS_MAX: usize = 1024;
/// The most bytes of an object's header fields, names and values together.
pub const FIELDS_BYTES_MAX: usize = 512 * 1024;

/// What is kept under a key. Cheap to clone: all clones share the bytes.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A stored response, with its body if that is small.
    Object(Arc<Object>),
    /// Under a URL's own key: which request fields select among its variants.
    Vary(Arc<VaryIndex>),
    /// Under a key of a path's own: what its responses do not vary by.
    Search(Arc<SearchIndex>),
    /// Responses here were found not to be storable: requests need not wait for each other until then.
    HitForMiss {
        /// In ms since the Unix epoch.
        until_unix_ms: u64,
        /// Why, as the number of a reason; a word for people, nothing is decided by it.
        reason: u16,
    },
    /// A piece of a body, under a key made from its [`BodyId`] and index.
    Chunk(Bytes),
}

/// A stored response.
///
/// In the order of its fields: what every hit reads to judge it lies in one cache line, beside the counts of the `Arc`.
#[repr(C)]
pub struct Object {
    /// The node's position when its fill began: purges after it count.
    pub stamp: Position,
    /// The position up to which it was last found valid; never below the stamp.
    pub verified: AtomicU64,
    /// How long it may be reused.
    pub freshness: Freshness,
    /// What it falls under, as the site's guard hashes it.
    pub purge_keys: Box<[u64]>,
    /// Its status.
    pub status: StatusCode,
    /// Its header fields as they are to be sent: none that is hop-by-hop, no `Age`.
    pub headers: HeaderMap,
    /// When this node last began to ask the origin for it, in ms of the clock that only this run of the machine knows; 0 if
    /// it did not, or that is not known any more. Not kept on disk.
    pub confirmed_ms: u64,
    /// The name of what its body says: drawn when it was fetched, kept by a renewal. Coded forms of it are filed under it.
    pub made: BodyId,
    /// Its body.
    pub body: Body,
    /// Whose it is.
    pub site: SiteId,
}

/// A stored response's body.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// Here; at most [`INLINE_BYTES_MAX`].
    Inline(Bytes),
    /// In chunks under keys of its own. A chunk may be gone while the object is still there.
    Chunked {
        /// The name its chunks are kept under; random, so that no two bodies ever mix.
        id: BodyId,
        /// The whole length, in bytes.
        length: u64,
        /// The length of each chunk but the last, in bytes: 1 to [`CHUNK_BYTES_MAX`].
        chunk_bytes: u32,
    },
}

/// Which request fields select among a URL's variants (RFC 9111 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaryIndex {
    /// Newest first, at most [`VARY_SPECS_MAX`].
    pub specs: Vec<VarySpec>,
    /// The keys of the variants that were stored, oldest first, at most [`VARIANTS_MAX`]: what bounds their number. Some may
    /// be gone, and some be missing here.
    pub variants: Vec<Key>,
}

/// Which parts of their queries responses of a path do not vary by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchIndex {
    /// Newest first, at most [`SEARCH_VARIANCES_MAX`].
    pub variances: Vec<SearchVariance>,
}

impl Body {
    /// Its whole length, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Chunked { length, .. } => *length,
        }
    }
}

impl Object {
    /// A copy that begins to be verified anew from `stamp`, with other header fields and lifetime: what a revalidation
    /// (RFC 9111 section 4.3.4) stores. The body is shared, not copied.
    #[must_use]
    pub fn freshened(&self, headers: HeaderMap, freshness: Freshness, stamp: Position) -> Self {
        Self {
            status: self.status,
            headers,
            freshness,
            stamp,
            verified: AtomicU64::new(stamp.0),
            confirmed_ms: 0,
            purge_keys: self.purge_keys.clone(),
            made: self.made,
            body: self.body.clone(),
            site: self.site.clone(),
        }
    }

    fn memory_bytes(&self) -> usize {
        let fields: usize =
            self.headers.iter().map(|(name, value)| FIELD_BYTES + name.as_str().len() + value.len()).sum();
        let body = match &self.body {
            Body::Inline(bytes) => bytes.len(),
            Body::Chunked { .. } => 0,
        };
        size_of::<Self>() + fields + self.purge_keys.len() * 8 + self.site.as_str().len() + body
    }
}

/// What a header field costs in a `HeaderMap` beside its bytes: a bucket, its share of the index, an allocation.
const FIELD_BYTES: usize = 136;

impl Entry {
    /// The memory it takes, in bytes; within a few percent, never zero.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let held = match self {
            Self::Object(object) => object.memory_bytes(),
            Self::Vary(index) => {
                let spec = |spec: &VarySpec| 24 + spec.0.iter().map(|name| 32 + name.as_str().len()).sum::<usize>();
                index.specs.iter().map(spec).sum::<usize>() + index.variants.len() * size_of::<Key>()
            }
            Self::Search(index) => index.variances.iter().map(|variance| 64 + 2 * variance.to_string().len()).sum(),
            Self::HitForMiss { .. } => 0,
            Self::Chunk(bytes) => bytes.len(),
        };
        size_of::<Self>() + held
    }
}

// By hand, so that no log line can carry a site's headers or bodies by accident.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("status", &self.status.as_u16())
            .field("stamp", &self.stamp.0)
            .field("fields", &self.headers.len())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Self::Chunked { length, chunk_bytes, .. } => write!(f, "Chunked({length} bytes by {chunk_bytes})"),
        }
    }
}
