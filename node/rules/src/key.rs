//! Names of what is stored, and of who stores it.
//!
//! A key is a keyed 128-bit hash (SipHash-1-3) over parts that are each preceded by their length, so that no two
//! different lists of parts are the same octets. The tenant is the first part: no request of one tenant can form the
//! key of another.

use std::{borrow::Cow, cmp::Reverse, fmt, hash::Hasher};

use http::{HeaderMap, Uri};
use region_config::{NodeId, SiteId, TenantId};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::caching::{VarySpec, write_normalised};

/// What keys are hashed with: drawn once per node, kept in its state folder.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The name of one stored entry on this node.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct Key(pub u128);

/// The name of a stored body: drawn at random for each response.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct BodyId(pub u128);

/// A request target in normal form: what is keyed, and what is sent on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target<'a> {
    /// Begins with `/`, or is `*`.
    pub path: Cow<'a, str>,
    /// What follows the first `?`; an empty query is not none.
    pub query: Option<Cow<'a, str>>,
}

impl Target<'_> {
    /// The same, with its own text.
    #[must_use]
    pub fn into_owned(self) -> Target<'static> {
        Target {
            path: Cow::Owned(self.path.into_owned()),
            query: self.query.map(|query| Cow::Owned(query.into_owned())),
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetFault {
    /// It is no path: the target of a CONNECT, for example.
    #[error("the request target is not a path")]
    NoPath,
    /// It holds `%00`.
    #[error("the request target holds an encoded NUL")]
    Nul,
    /// It holds a control character, a space or a `\`.
    #[error("the request target holds a control character or a backslash")]
    Octet,
    /// Its path holds a `%` that is not followed by two hexadecimal digits.
    #[error("the request target's path holds a broken percent-encoding")]
    Percent,
}

/// Brings a request's target into normal form (RFC 3986 section 6.2.2), by what is safe only: percent-encoded unreserved
/// characters are decoded, hexadecimal digits made upper case, dot segments removed. Nothing else is: `%2F` stays, and
/// so does `//`. A target that is in normal form already is borrowed.
///
/// # Errors
/// [`TargetFault`] for what servers behind this one may read differently.
pub fn target(uri: &Uri) -> Result<Target<'_>, TargetFault> {
    let path = uri.path();
    if path != "*" && !path.starts_with('/') {
        return Err(TargetFault::NoPath);
    }
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
        return Err(TargetFault::Octet);
    }
    let path = match decode(path)? {
        Some(decoded) => Cow::Owned(without_dot_segments(&decoded).unwrap_or(decoded)),
        None => without_dot_segments(path).map_or(Cow::Borrowed(path), Cow::Owned),
    };
    let query = uri.query().map(query).transpose()?;
    Ok(Target { path, query })
}

/// Brings a query into normal form; one with a broken percent-encoding is left as it is.
fn query(query: &str) -> Result<Cow<'_, str>, TargetFault> {
    if query.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(TargetFault::Octet);
    }
    match decode(query) {
        Ok(Some(decoded)) => Ok(Cow::Owned(decoded)),
        Ok(None) | Err(TargetFault::Percent) => Ok(Cow::Borrowed(query)),
        Err(fault) => Err(fault),
    }
}

/// Decodes what need not be encoded. None if there is nothing to change.
fn decode(text: &str) -> Result<Option<String>, TargetFault> {
    if !text.contains('%') {
        return Ok(None);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut pieces = text.split('%');
    decoded.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let digits = piece.get(..2).ok_or(TargetFault::Percent)?;
        let octet = u8::from_str_radix(digits, 16).map_err(|_| TargetFault::Percent)?;
        if digits.starts_with('+') {
            return Err(TargetFault::Percent);
        }
        match octet {
            0 => return Err(TargetFault::Nul),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => decoded.push(char::from(octet)),
            _ => {
                decoded.push('%');
                decoded.extend(digits.chars().map(|digit| digit.to_ascii_uppercase()));
            }
        }
        decoded.push_str(piece.get(2..).unwrap_or_default());
    }
    Ok((decoded != text).then_some(decoded))
}

/// Removes `.` and `..` segments (RFC 3986 section 5.2.4). None if there are none.
fn without_dot_segments(path: &str) -> Option<String> {
    if !path.contains("/.") || !path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return None;
    }
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if last {
            out.push('/');
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Some(out)
}

/// The key of what is stored for a target, or of the index of its variants. `host` is compared without letter case.
#[must_use]
pub fn primary(secret: &Secret, tenant: &TenantId, site: &SiteId, https: bool, host: &str, target: &Target<'_>) -> Key {
    let mut feed = Feed::new(&secret.0, b'P');
    feed.address(tenant, site, https, host, target);
    Key(feed.finish())
}

/// The key of the variant that a request selects under a primary key (RFC 9111 section 4.1).
#[must_use]
pub fn variant(secret: &Secret, primary: Key, vary: &VarySpec, request: &HeaderMap) -> Key {
    let mut feed = Feed::new(&secret.0, b'V');
    feed.bytes(&primary.0.to_le_bytes());
    for name in &vary.0 {
        feed.part(name.as_str().as_bytes());
        feed.bytes(&[u8::from(request.contains_key(name))]);
        write_normalised(name, request, |piece| feed.bytes(piece));
        // no field value holds a NUL, so that it ends one as a length before it would
        feed.bytes(&[0]);
    }
    Key(feed.finish())
}

/// The keys of the variants that a request selects, by the fields that responses were found to vary by, in the order
/// of `specs`.
pub fn variants<'a>(
    secret: &'a Secret,
    primary: Key,
    specs: &'a [VarySpec],
    request: &'a HeaderMap,
) -> impl Iterator<Item = Key> + use<'a> {
    specs.iter().map(move |vary| variant(secret, primary, vary, request))
}

/// The key of a piece of a body. The body's name is random, so that no secret is needed.
#[must_use]
pub fn body_chunk(body: BodyId, index: u32) -> Key {
    let mut feed = Feed::new(&[0; 16], b'C');
    feed.bytes(&body.0.to_le_bytes());
    feed.bytes(&index.to_le_bytes());
    Key(feed.finish())
}

/// Where an address belongs among nodes: the same number on each of them, so not keyed. Not fit as a name.
#[must_use]
pub fn placement(tenant: &TenantId, site: &SiteId, https: bool, host: &str, target: &Target<'_>) -> u64 {
    let mut feed = Feed::new(&[0; 16], b'O');
    feed.address(tenant, site, https, host, target);
    feed.finish_64()
}

/// The node that an address belongs to: the one of highest random weight. When a node comes or goes, only what
/// belongs to it moves. Any order of `nodes` gives the same.
pub fn rendezvous<'a>(placement: u64, nodes: impl Iterator<Item = &'a NodeId>) -> Option<&'a NodeId> {
    nodes.max_by_key(|node| {
        let mut feed = Feed::new(&[0; 16], b'R');
        feed.bytes(&placement.to_le_bytes());
        feed.bytes(node.as_str().as_bytes());
        (feed.finish_64(), Reverse(*node))
    })
}

/// How much is gathered before it is hashed: enough for the usual address.
const FEED_BYTES: usize = 256;

/// Gathers parts on the stack and hashes them. The first octet tells the kinds of keys apart.
struct Feed {
    hasher: SipHasher13,
    bytes: [u8; FEED_BYTES],
    length: usize,
}

impl Feed {
    fn new(secret: &[u8; 16], kind: u8) -> Self {
        let mut bytes = [0; FEED_BYTES];
        bytes[0] = kind;
        Self { hasher: SipHasher13::new_with_key(secret), bytes, length: 1 }
    }

    fn address(&mut self, tenant: &TenantId, site: &SiteId, https: bool, host: &str, target: &Target<'_>) {
        self.part(tenant.as_str().as_bytes());
        self.part(site.as_str().as_bytes());
        self.bytes(&[u8::from(https), u8::from(target.query.is_some())]);
        self.length_of(host.as_bytes());
        self.lower_case(host.as_bytes());
        self.part(target.path.as_bytes());
        self.part(target.query.as_deref().unwrap_or_default().as_bytes());
    }

    /// A part of variable length, preceded by its length.
    fn part(&mut self, part: &[u8]) {
        self.length_of(part);
        self.bytes(part);
    }

    fn length_of(&mut self, part: &[u8]) {
        self.bytes(&(part.len() as u64).to_le_bytes());
    }

    /// A part of known length.
    fn bytes(&mut self, part: &[u8]) {
        if self.length + part.len() > FEED_BYTES {
            self.flush();
        }
        match self.bytes.get_mut(self.length..self.length + part.len()) {
            Some(room) => {
                room.copy_from_slice(part);
                self.length += part.len();
            }
            None => self.hasher.write(part),
        }
    }

    fn lower_case(&mut self, part: &[u8]) {
        for piece in part.chunks(64) {
            self.bytes(piece);
            let start = self.length.saturating_sub(piece.len());
            if let Some(copied) = self.bytes.get_mut(start..self.length) {
                copied.make_ascii_lowercase();
            }
        }
    }

    fn flush(&mut self) {
        self.hasher.write(self.bytes.get(..self.length).unwrap_or_default());
        self.length = 0;
    }

    fn finish(mut self) -> u128 {
        self.flush();
        self.hasher.finish128().into()
    }

    fn finish_64(mut self) -> u64 {
        self.flush();
        self.hasher.finish128().h1
    }
}
