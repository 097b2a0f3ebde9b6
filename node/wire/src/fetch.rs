//! What a node asks of its region's owner of a key, and the head of the answer. Version 2:
//!
//! ```text
//! ask    = u8 version, u8 flags (1 = TLS, 2 = after arrival), u32 time left in ms, text site, text authority, text target,
//!          bytes have, fields
//! answer = u8 version, u8 flags (1 = after arrival, 2 = stale), u16 status, bytes have, fields
//! fields = u16 count, count x (text name, bytes value)
//! text   = bytes = u16 length, that many octets
//! ```
//! Numbers are big-endian. The body follows as frames of their own; an empty frame ends it.

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The version this module writes, and the oldest one it reads.
pub const VERSION: u8 = 2;

/// Largest ask or answer head, in bytes.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Most fields in a head.
pub const FIELDS_MAX: usize = 512;

/// Asks for a key's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whether the client came over TLS.
    pub https: bool,
    /// Whether nothing will do but what is fetched from the origin after this was asked.
    pub after_arrival: bool,
    /// Time left for the answer's head, in ms.
    pub left_ms: u32,
    /// The site.
    pub site: String,
    /// Host and port, as they are sent to the origin.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// What the asker has heard of the ledger (encoded `Have`): an owner that has not heard of a purge of the site that the
    /// asker knows of would answer in vain from what it has stored.
    pub have: Bytes,
    /// Fields to send.
    pub fields: HeaderMap,
}

/// The head of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Whether it was fetched from the origin after the ask came.
    pub after_arrival: bool,
    /// Whether it is served though it is stale: not to be kept.
    pub stale: bool,
    /// Status.
    pub status: StatusCode,
    /// What the sender had heard of the ledger when it looked (encoded `Have`).
    pub have: Bytes,
    /// Fields.
    pub fields: HeaderMap,
}

/// Why bytes are no ask or answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    /// Another version.
    #[error("fetch message of version {0}, expected {VERSION}")]
    Version(u8),
    /// Cut short.
    #[error("fetch message cut short in {0}")]
    Short(&'static str),
    /// Not what it should be.
    #[error("fetch message with a malformed {0}")]
    Malformed(&'static str),
    /// Too much of something.
    #[error("fetch message with too many or too long {0}")]
    Limit(&'static str),
}

impl Ask {
    /// Writes it.
    ///
    /// # Errors
    /// [`FetchFault::Limit`] if a part is too long.
    pub fn encode(&self) -> Result<Vec<u8>, FetchFault> {
        let mut out = Vec::with_capacity(512);
        out.put_u8(VERSION);
        out.put_u8(u8::from(self.https) | u8::from(self.after_arrival) << 1);
        out.put_u32(self.left_ms);
        put(&mut out, self.site.as_bytes(), "site")?;
        put(&mut out, self.authority.as_bytes(), "authority")?;
        put(&mut out, self.target.as_bytes(), "target")?;
        put(&mut out, &self.have, "have")?;
        put_fields(&mut out, &self.fields)?;
        Ok(out)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`FetchFault`] if it is not one.
    pub fn decode(mut from: Bytes) -> Result<Self, FetchFault> {
        version(&mut from)?;
        let flags = from.try_get_u8().map_err(|_| FetchFault::Short("flags"))?;
        let (https, after_arrival) = (flags & 1 != 0, flags & 2 != 0);
        let left_ms = from.try_get_u32().map_err(|_| FetchFault::Short("time left"))?;
        let site = take_text(&mut from, "site")?;
        let authority = take_text(&mut from, "authority")?;
        let target = take_text(&mut from, "target")?;
        let have = take(&mut from, "have")?;
        let fields = take_fields(&mut from)?;
        Ok(Self { https, after_arrival, left_ms, site, authority, target, have, fields })
    }
}

impl Answered {
    /// Writes it.
    ///
    /// # Errors
    /// [`FetchFault::Limit`] if a part is too long.
    pub fn encode(&self) -> Result<Vec<u8>, FetchFault> {
        let mut out = Vec::with_capacity(512);
        out.put_u8(VERSION);
        out.put_u8(u8::from(self.after_arrival) | u8::from(self.stale) << 1);
        out.put_u16(self.status.as_u16());
        put(&mut out, &self.have, "have")?;
        put_fields(&mut out, &self.fields)?;
        Ok(out)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`FetchFault`] if it is not one.
    pub fn decode(mut from: Bytes) -> Result<Self, FetchFault> {
        version(&mut from)?;
        let flags = from.try_get_u8().map_err(|_| FetchFault::Short("flags"))?;
        let (after_arrival, stale) = (flags & 1 != 0, flags & 2 != 0);
        let status = from.try_get_u16().map_err(|_| FetchFault::Short("status"))?;
        let status = StatusCode::from_u16(status).map_err(|_| FetchFault::Malformed("status"))?;
        let have = take(&mut from, "have")?;
        let fields = take_fields(&mut from)?;
        Ok(Self { after_arrival, stale, status, have, fields })
    }
}

fn version(from: &mut Bytes) -> Result<(), FetchFault> {
    match from.try_get_u8().map_err(|_| FetchFault::Short("version"))? {
        VERSION => Ok(()),
        other => Err(FetchFault::Version(other)),
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8], what: &'static str) -> Result<(), FetchFault> {
    let length = u16::try_from(bytes.len()).map_err(|_| FetchFault::Limit(what))?;
    out.put_u16(length);
    out.put_slice(bytes);
    Ok(())
}

fn put_fields(out: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), FetchFault> {
    if fields.len() > FIELDS_MAX {
        return Err(FetchFault::Limit("fields"));
    }
    out.put_u16(u16::try_from(fields.len()).map_err(|_| FetchFault::Limit("fields"))?);
    for (name, value) in fields {
        put(out, name.as_str().as_bytes(), "field name")?;
        put(out, value.as_bytes(), "field value")?;
    }
    if out.len() > HEAD_BYTES_MAX { Err(FetchFault::Limit("fields")) } else { Ok(()) }
}

fn take(from: &mut Bytes, what: &'static str) -> Result<Bytes, FetchFault> {
    let length = usize::from(from.try_get_u16().map_err(|_| FetchFault::Short(what))?);
    if from.len() < length {
        return Err(FetchFault::Short(what));
    }
    Ok(from.split_to(length))
}

fn take_text(from: &mut Bytes, what: &'static str) -> Result<String, FetchFault> {
    let bytes = take(from, what)?;
    std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| FetchFault::Malformed(what))
}

fn take_fields(from: &mut Bytes) -> Result<HeaderMap, FetchFault> {
    let count = usize::from(from.try_get_u16().map_err(|_| FetchFault::Short("fields"))?);
    if count > FIELDS_MAX {
        return Err(FetchFault::Limit("fields"));
    }
    let mut fields = HeaderMap::with_capacity(count);
    for _ in 0..count {
        let name = take(from, "field name")?;
        let value = take(from, "field value")?;
        let name = HeaderName::from_bytes(&name).map_err(|_| FetchFault::Malformed("field name"))?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| FetchFault::Malformed("field value"))?;
        fields.append(name, value);
    }
    if from.is_empty() { Ok(fields) } else { Err(FetchFault::Malformed("end: bytes are left over")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn fields() -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.append("accept", HeaderValue::from_static("*/*"));
        fields.append("x-a", HeaderValue::from_bytes(b"\xfc1").unwrap());
        fields.append("x-a", HeaderValue::from_static("2"));
        fields
    }

    #[test]
    fn an_ask_and_an_answer_come_back_as_they_went() {
        let ask = Ask {
            https: true,
            after_arrival: true,
            have: Bytes::from_static(b"x"),
            left_ms: 1500,
            site: "shop".into(),
            authority: "a.test:8080".into(),
            target: "/a?b=c".into(),
            fields: fields(),
        };
        assert_eq!(Ask::decode(ask.encode().unwrap().into()).unwrap(), ask);
        let answer = Answered {
            after_arrival: true,
            stale: false,
            status: StatusCode::OK,
            have: Bytes::from_static(b"h"),
            fields: fields(),
        };
        assert_eq!(Answered::decode(answer.encode().unwrap().into()).unwrap(), answer);
    }

    #[test]
    fn every_cut_is_noticed() {
        let answer = Answered {
            after_arrival: true,
            stale: false,
            status: StatusCode::OK,
            have: Bytes::from_static(b"h"),
            fields: fields(),
        };
        let whole = answer.encode().unwrap();
        for end in 0..whole.len() {
            assert!(Answered::decode(Bytes::copy_from_slice(&whole[..end])).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Ask::decode(bytes.clone().into());
            let _ = Answered::decode(bytes.into());
        }
    }
}
