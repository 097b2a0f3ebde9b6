//! The bytes of an entry. The drawing is in the parent's docs.

use std::sync::{Arc, atomic::AtomicU64};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use region_config::SiteId;
use rules::{
    caching::{Freshness, SearchVariance, VarySpec},
    key::{BodyId, Key},
    purge::Position,
};
use twox_hash::XxHash3_64;

use super::{
    Body, CHUNK_BYTES_MAX, Entry, FIELDS_BYTES_MAX, FIELDS_MAX, INLINE_BYTES_MAX, Object, PURGE_KEYS_MAX,
    SEARCH_VARIANCES_MAX, SearchIndex, VARIANTS_MAX, VARY_NAMES_MAX, VARY_SPECS_MAX, VaryIndex,
};

/// The format that this build writes, and the only one it reads. A cache is not worth a migration.
const FORMAT: u8 = 4;
/// The size of an entry's head, which is enough to know the size of the entry.
pub const HEAD_BYTES: usize = 6;
const CHECKSUM_BYTES: usize = 8;

/// The most bytes that an encoded entry can have: a chunk, or an object's fields and inline body, and room to spare.
pub const ENTRY_BYTES_MAX: usize = CHUNK_BYTES_MAX as usize + 64 * 1024;

const OBJECT: u8 = 1;
const VARY: u8 = 2;
const HIT_FOR_MISS: u8 = 3;
const CHUNK: u8 = 4;
const SEARCH: u8 = 5;

const MUST_REVALIDATE: u8 = 1;
const ALWAYS_REVALIDATE: u8 = 2;
const STALE_IF_ERROR: u8 = 4;

const INLINE: u8 = 0;
const CHUNKED: u8 = 1;

/// Why bytes are not an entry, or an entry cannot become bytes. For the store it is a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// Fewer bytes than the entry says, or than any entry has.
    #[error("the stored entry is cut short")]
    Short,
    /// More bytes than the entry says.
    #[error("the stored entry has bytes too many")]
    Long,
    /// Written by another version.
    #[error("the stored entry has format {0}, and this version reads format {FORMAT}")]
    Format(u8),
    /// The bytes are not the ones that were written.
    #[error("the stored entry's checksum does not match")]
    Checksum,
    /// Some part is larger than it may be.
    #[error("the stored entry's {0} is over its limit")]
    Limit(&'static str),
    /// Some part is not what it should be.
    #[error("the stored entry's {0} is malformed")]
    Malformed(&'static str),
}

/// The number of bytes that [`encode`] will append for `entry`.
#[must_use]
pub fn encoded_bytes(entry: &Entry) -> usize {
    let payload = match entry {
        Entry::Object(object) => {
            let fields: usize = object.headers.iter().map(|(name, value)| 4 + name.as_str().len() + value.len()).sum();
            let body = match &object.body {
                Body::Inline(bytes) => 1 + 4 + bytes.len(),
                Body::Chunked { .. } => 1 + 16 + 8 + 4,
            };
            31 + 16 + 1 + object.site.as_str().len() + 2 + object.purge_keys.len() * 8 + 2 + fields + body
        }
        Entry::Vary(index) => {
            let spec = |spec: &VarySpec| 2 + spec.0.iter().map(|name| 2 + name.as_str().len()).sum::<usize>();
            1 + index.specs.iter().map(spec).sum::<usize>() + 2 + index.variants.len() * 16
        }
        Entry::Search(index) => {
            1 + index.variances.iter().map(|variance| 2 + variance.to_string().len()).sum::<usize>()
        }
        Entry::HitForMiss { .. } => 10,
        Entry::Chunk(bytes) => 4 + bytes.len(),
    };
    HEAD_BYTES + payload + CHECKSUM_BYTES
}

/// Appends the bytes of `entry` to `out`.
///
/// # Errors
/// [`EntryFault::Limit`] if a part is larger than [`decode`] would take, and then `out` is as before.
pub fn encode(entry: &Entry, out: &mut Vec<u8>) -> Result<(), EntryFault> {
    let start = out.len();
    out.reserve(encoded_bytes(entry));
    let outcome = write(entry, out, start);
    if outcome.is_err() {
        out.truncate(start);
    }
    outcome
}

fn write(entry: &Entry, out: &mut Vec<u8>, start: usize) -> Result<(), EntryFault> {
    let kind = match entry {
        Entry::Object(_) => OBJECT,
        Entry::Vary(_) => VARY,
        Entry::Search(_) => SEARCH,
        Entry::HitForMiss { .. } => HIT_FOR_MISS,
        Entry::Chunk(_) => CHUNK,
    };
    let length = length_u32(encoded_bytes(entry), ENTRY_BYTES_MAX, "size")?;
    out.extend_from_slice(&[FORMAT, kind]);
    out.extend_from_slice(&length.to_le_bytes());
    match entry {
        Entry::Object(object) => write_object(object, out)?,
        Entry::Vary(index) => write_vary(index, out)?,
        Entry::Search(index) => write_search(index, out)?,
        Entry::HitForMiss { until_unix_ms, reason } => {
            out.extend_from_slice(&until_unix_ms.to_le_bytes());
            out.extend_from_slice(&reason.to_le_bytes());
        }
        Entry::Chunk(bytes) => write_bytes(bytes, CHUNK_BYTES_MAX as usize, "chunk", out)?,
    }
    let checksum = XxHash3_64::oneshot(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_le_bytes());
    Ok(())
}

fn write_object(object: &Object, out: &mut Vec<u8>) -> Result<(), EntryFault> {
    // taken apart by name, so that a field that is added to an object cannot be forgotten here
    let Object { status, headers, freshness, stamp, verified: _, confirmed_ms: _, purge_keys, made, body, site } =
        object;
    out.extend_from_slice(&status.as_u16().to_le_bytes());
    write_freshness(freshness, out);
    out.extend_from_slice(&stamp.0.to_le_bytes());
    out.extend_from_slice(&made.0.to_le_bytes());
    out.push(u8::try_from(site.as_str().len()).map_err(|_| EntryFault::Limit("site"))?);
    out.extend_from_slice(site.as_str().as_bytes());
    write_count(purge_keys.len(), PURGE_KEYS_MAX, "purge keys", out)?;
    for key in purge_keys {
        out.extend_from_slice(&key.to_le_bytes());
    }
    write_headers(headers, out)?;
    match body {
        Body::Inline(bytes) => {
            out.push(INLINE);
            write_bytes(bytes, INLINE_BYTES_MAX, "inline body", out)
        }
        Body::Chunked { id, length, chunk_bytes } => {
            check_chunking(*length, *chunk_bytes)?;
            out.push(CHUNKED);
            out.extend_from_slice(&id.0.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&chunk_bytes.to_le_bytes());
            Ok(())
        }
    }
}

fn write_freshness(freshness: &Freshness, out: &mut Vec<u8>) {
    let Freshness {
        lifetime_s,
        age_zero_unix_ms,
        stale_while_revalidate_s,
        stale_if_error_s,
        must_revalidate,
        always_revalidate,
    } = freshness;
    let mut flags = 0;
    flags |= if *must_revalidate { MUST_REVALIDATE } else { 0 };
    flags |= if *always_revalidate { ALWAYS_REVALIDATE } else { 0 };
    flags |= if stale_if_error_s.is_some() { STALE_IF_ERROR } else { 0 };
    out.extend_from_slice(&lifetime_s.to_le_bytes());
    out.extend_from_slice(&age_zero_unix_ms.to_le_bytes());
    out.extend_from_slice(&stale_while_revalidate_s.to_le_bytes());
    out.push(flags);
    out.extend_from_slice(&stale_if_error_s.unwrap_or(0).to_le_bytes());
}

fn write_headers(headers: &HeaderMap, out: &mut Vec<u8>) -> Result<(), EntryFault> {
    write_count(headers.len(), FIELDS_MAX, "header fields", out)?;
    let mut total = 0;
    for (name, value) in headers {
        total += name.as_str().len() + value.len();
        write_name(name, out)?;
        write_count(value.len(), u16::MAX.into(), "header value", out)?;
        out.extend_from_slice(value.as_bytes());
    }
    length_u32(total, FIELDS_BYTES_MAX, "header fields")?;
    Ok(())
}

fn write_vary(index: &VaryIndex, out: &mut Vec<u8>) -> Result<(), EntryFault> {
    let count = u8::try_from(index.specs.len()).ok().filter(|count| usize::from(*count) <= VARY_SPECS_MAX);
    out.push(count.ok_or(EntryFault::Limit("vary specs"))?);
    for spec in &index.specs {
        write_count(spec.0.len(), VARY_NAMES_MAX, "vary names", out)?;
        for name in &spec.0 {
            write_name(name, out)?;
        }
    }
    write_count(index.variants.len(), VARIANTS_MAX, "variants", out)?;
    for key in &index.variants {
        out.extend_from_slice(&key.0.to_le_bytes());
    }
    Ok(())
}

fn write_search(index: &SearchIndex, out: &mut Vec<u8>) -> Result<(), EntryFault> {
    let count = u8::try_from(index.variances.len()).ok().filter(|count| usize::from(*count) <= SEARCH_VARIANCES_MAX);
    out.push(count.ok_or(EntryFault::Limit("search variances"))?);
    for variance in &index.variances {
        let text = variance.to_string();
        write_count(text.len(), u16::MAX.into(), "search variance", out)?;
        out.extend_from_slice(text.as_bytes());
    }
    Ok(())
}

fn write_name(name: &HeaderName, out: &mut Vec<u8>) -> Result<(), EntryFault> {
    write_count(name.as_str().len(), u16::MAX.into(), "header name", out)?;
    out.extend_from_slice(name.as_str().as_bytes());
    Ok(())
}

fn write_bytes(bytes: &Bytes, max: usize, what: &'static str, out: &mut Vec<u8>) -> Result<(), EntryFault> {
    out.extend_from_slice(&length_u32(bytes.len(), max, what)?.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn write_count(count: usize, max: usize, what: &'static str, out: &mut Vec<u8>) -> Result<(), EntryFault> {
    let count = u16::try_from(count).ok().filter(|count| usize::from(*count) <= max).ok_or(EntryFault::Limit(what))?;
    out.extend_from_slice(&count.to_le_bytes());
    Ok(())
}

fn length_u32(length: usize, max: usize, what: &'static str) -> Result<u32, EntryFault> {
    u32::try_from(length).ok().filter(|_| length <= max).ok_or(EntryFault::Limit(what))
}

/// Chunk indexes are 32-bit, and a chunk of nothing would never end.
fn check_chunking(length: u64, chunk_bytes: u32) -> Result<(), EntryFault> {
    if chunk_bytes == 0 || chunk_bytes > CHUNK_BYTES_MAX || length / u64::from(chunk_bytes) >= u64::from(u32::MAX) {
        return Err(EntryFault::Limit("chunking"));
    }
    Ok(())
}

/// The whole size of the entry that begins with `head`, for those who must read it from a stream: at least
/// [`HEAD_BYTES`], at most [`ENTRY_BYTES_MAX`].
///
/// # Errors
/// [`EntryFault`] if it is another format, or no entry can have this size.
pub fn announced_bytes(head: [u8; HEAD_BYTES]) -> Result<usize, EntryFault> {
    let [format, _kind, length @ ..] = head;
    if format != FORMAT {
        return Err(EntryFault::Format(format));
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > ENTRY_BYTES_MAX {
        return Err(EntryFault::Limit("size"));
    }
    if length < HEAD_BYTES + CHECKSUM_BYTES { Err(EntryFault::Short) } else { Ok(length) }
}

/// Reads one entry that takes up all of `bytes`.
///
/// # Errors
/// [`EntryFault`], whatever the bytes are; it never panics and never allocates more than a small multiple of them.
pub fn decode(bytes: &[u8]) -> Result<Entry, EntryFault> {
    check(bytes)?;
    decode_checked(&Bytes::copy_from_slice(bytes))
}

/// As [`decode`], but body and header values stay slices of `bytes`: nothing large is copied.
///
/// # Errors
/// As [`decode`].
pub fn decode_shared(bytes: &Bytes) -> Result<Entry, EntryFault> {
    check(bytes)?;
    decode_checked(bytes)
}

/// Format, length, checksum: before anything else is believed.
fn check(bytes: &[u8]) -> Result<(), EntryFault> {
    let (front, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(EntryFault::Short)?;
    let head = front.first_chunk::<HEAD_BYTES>().ok_or(EntryFault::Short)?;
    match announced_bytes(*head)?.cmp(&bytes.len()) {
        std::cmp::Ordering::Greater => return Err(EntryFault::Short),
        std::cmp::Ordering::Less => return Err(EntryFault::Long),
        std::cmp::Ordering::Equal => {}
    }
    if XxHash3_64::oneshot(front) != u64::from_le_bytes(*checksum) {
        return Err(EntryFault::Checksum);
    }
    Ok(())
}

fn decode_checked(bytes: &Bytes) -> Result<Entry, EntryFault> {
    let end = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(EntryFault::Short)?;
    let mut reader = Reader { bytes, at: 1, end };
    let kind = reader.u8()?;
    reader.at = HEAD_BYTES;
    let entry = match kind {
        OBJECT => Entry::Object(Arc::new(read_object(&mut reader)?)),
        VARY => Entry::Vary(Arc::new(read_vary(&mut reader)?)),
        SEARCH => Entry::Search(Arc::new(read_search(&mut reader)?)),
        HIT_FOR_MISS => Entry::HitForMiss { until_unix_ms: reader.u64()?, reason: reader.u16()? },
        CHUNK => Entry::Chunk(reader.bytes(CHUNK_BYTES_MAX as usize, "chunk")?),
        _ => return Err(EntryFault::Malformed("kind")),
    };
    if reader.at != reader.end {
        return Err(EntryFault::Long);
    }
    Ok(entry)
}

fn read_object(reader: &mut Reader<'_>) -> Result<Object, EntryFault> {
    let status = StatusCode::from_u16(reader.u16()?).map_err(|_| EntryFault::Malformed("status"))?;
    let freshness = read_freshness(reader)?;
    let stamp = Position(reader.u64()?);
    let made = BodyId(reader.u128()?);
    let site_bytes = usize::from(reader.u8()?);
    let site = std::str::from_utf8(reader.take(site_bytes)?).ok().and_then(|name| SiteId::parse(name).ok());
    let site = site.ok_or(EntryFault::Malformed("site"))?;
    let keys = reader.count(PURGE_KEYS_MAX, "purge keys")?;
    let purge_keys = (0..keys).map(|_| reader.u64()).collect::<Result<_, _>>()?;
    let headers = read_headers(reader)?;
    let body = match reader.u8()? {
        INLINE => Body::Inline(reader.bytes(INLINE_BYTES_MAX, "inline body")?),
        CHUNKED => {
            let (id, length, chunk_bytes) = (BodyId(reader.u128()?), reader.u64()?, reader.u32()?);
            check_chunking(length, chunk_bytes)?;
            Body::Chunked { id, length, chunk_bytes }
        }
        _ => return Err(EntryFault::Malformed("body")),
    };
    let verified = AtomicU64::new(stamp.0);
    Ok(Object { status, headers, freshness, stamp, verified, confirmed_ms: 0, purge_keys, made, body, site })
}

fn read_freshness(reader: &mut Reader<'_>) -> Result<Freshness, EntryFault> {
    let (lifetime_s, age_zero_unix_ms, stale_while_revalidate_s) = (reader.u32()?, reader.u64()?, reader.u32()?);
    let (flags, stale_if_error_s) = (reader.u8()?, reader.u32()?);
    if flags & !(MUST_REVALIDATE | ALWAYS_REVALIDATE | STALE_IF_ERROR) != 0 {
        return Err(EntryFault::Malformed("flags"));
    }
    Ok(Freshness {
        lifetime_s,
        age_zero_unix_ms,
        stale_while_revalidate_s,
        stale_if_error_s: (flags & STALE_IF_ERROR != 0).then_some(stale_if_error_s),
        must_revalidate: flags & MUST_REVALIDATE != 0,
        always_revalidate: flags & ALWAYS_REVALIDATE != 0,
    })
}

fn read_headers(reader: &mut Reader<'_>) -> Result<HeaderMap, EntryFault> {
    let count = reader.count(FIELDS_MAX, "header fields")?;
    let start = reader.at;
    let mut headers = HeaderMap::with_capacity(count);
    for _ in 0..count {
        let name = reader.name()?;
        let value_bytes = usize::from(reader.u16()?);
        let value = reader.shared(value_bytes)?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| EntryFault::Malformed("header value"))?;
        headers.append(name, value);
        // a little wider than the writer's count, which leaves out the lengths
        if reader.at - start > FIELDS_BYTES_MAX + 4 * FIELDS_MAX {
            return Err(EntryFault::Limit("header fields"));
        }
    }
    Ok(headers)
}

fn read_vary(reader: &mut Reader<'_>) -> Result<VaryIndex, EntryFault> {
    let count = usize::from(reader.u8()?);
    if count > VARY_SPECS_MAX {
        return Err(EntryFault::Limit("vary specs"));
    }
    let mut specs = Vec::with_capacity(count);
    for _ in 0..count {
        let names = reader.count(VARY_NAMES_MAX, "vary names")?;
        specs.push(VarySpec((0..names).map(|_| reader.name()).collect::<Result<_, _>>()?));
    }
    let known = reader.count(VARIANTS_MAX, "variants")?;
    let variants = (0..known).map(|_| reader.u128().map(Key)).collect::<Result<_, _>>()?;
    Ok(VaryIndex { specs, variants })
}

fn read_search(reader: &mut Reader<'_>) -> Result<SearchIndex, EntryFault> {
    let count = usize::from(reader.u8()?);
    if count > SEARCH_VARIANCES_MAX {
        return Err(EntryFault::Limit("search variances"));
    }
    let mut variances = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::from(reader.u16()?);
        let variance = SearchVariance::parse(reader.take(length)?);
        variances.push(variance.ok_or(EntryFault::Malformed("search variance"))?);
    }
    Ok(SearchIndex { variances })
}

/// A place in the bytes of an entry; `end` is where the checksum begins.
struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], EntryFault> {
        let to = self.at.checked_add(count).filter(|to| *to <= self.end).ok_or(EntryFault::Short)?;
        let taken = self.bytes.get(self.at..to).ok_or(EntryFault::Short)?;
        self.at = to;
        Ok(taken)
    }

    fn shared(&mut self, count: usize) -> Result<Bytes, EntryFault> {
        self.take(count).map(|taken| self.bytes.slice_ref(taken))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EntryFault> {
        self.take(N)?.first_chunk().copied().ok_or(EntryFault::Short)
    }

    fn u8(&mut self) -> Result<u8, EntryFault> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, EntryFault> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, EntryFault> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, EntryFault> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Result<u128, EntryFault> {
        self.array().map(u128::from_le_bytes)
    }

    fn count(&mut self, max: usize, what: &'static str) -> Result<usize, EntryFault> {
        let count = usize::from(self.u16()?);
        if count > max { Err(EntryFault::Limit(what)) } else { Ok(count) }
    }

    fn bytes(&mut self, max: usize, what: &'static str) -> Result<Bytes, EntryFault> {
        let count = self.u32()? as usize;
        if count > max { Err(EntryFault::Limit(what)) } else { self.shared(count) }
    }

    fn name(&mut self) -> Result<HeaderName, EntryFault> {
        let count = usize::from(self.u16()?);
        HeaderName::from_lowercase(self.take(count)?).map_err(|_| EntryFault::Malformed("header name"))
    }
}
