//! Names of what is stored, and of who stores it.
//!
//! A key is a keyed 128-bit hash (SipHash-1-3) over parts that are each preceded by their length, so that no two
//! different lists of parts are the same octets. The tenant is the first part: no request of one tenant can form the
//! key of another.

mod declared;
mod device;
mod negotiation;
mod query;

#[cfg(test)]
mod properties;

use std::{borrow::Cow, cmp::Reverse, fmt, hash::Hasher};

use http::{HeaderMap, Uri};
use region_config::{NodeId, SiteId, TenantId};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::caching::{SearchVariance, VarySpec, coding::Coding, write_normalised};

pub use declared::{COUNTRY, DEVICE, Facts, dress, parts, sends, with_declared};
pub use device::Device;
pub use query::{Left, left_out, reduced};

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

/// Decodes what need not be encoded, and writes the rest in upper case. None if there is nothing to change.
fn decode(text: &str) -> Result<Option<String>, TargetFault> {
    let mut changes = false;
    for piece in text.split('%').skip(1) {
        let (digits, octet) = encoded(piece)?;
        if octet == 0 {
            return Err(TargetFault::Nul);
        }
        changes |= is_unreserved(octet) || digits.bytes().any(|digit| digit.is_ascii_lowercase());
    }
    if !changes {
        return Ok(None);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut pieces = text.split('%');
    decoded.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (digits, octet) = encoded(piece)?;
        if is_unreserved(octet) {
            decoded.push(char::from(octet));
        } else {
            decoded.push('%');
            decoded.extend(digits.chars().map(|digit| digit.to_ascii_uppercase()));
        }
        decoded.push_str(piece.get(2..).unwrap_or_default());
    }
    Ok(Some(decoded))
}

/// The two digits behind a `%`, and the octet that they stand for.
fn encoded(piece: &str) -> Result<(&str, u8), TargetFault> {
    let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let digits = digits.ok_or(TargetFault::Percent)?;
    let octet = u8::from_str_radix(digits, 16).map_err(|_| TargetFault::Percent)?;
    Ok((digits, octet))
}

/// RFC 3986 section 2.3.
const fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
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

/// The key of the index of what responses of a path do not vary by. `path` is the key of the path without a query.
#[must_use]
pub fn search_index(secret: &Secret, path: Key) -> Key {
    let mut feed = Feed::new(&secret.0, b'I');
    feed.bytes(&path.0.to_le_bytes());
    Key(feed.finish())
}

/// The key of what is stored for all queries that are one by a response's `No-Vary-Search`; it stands for the primary key
/// of each of their URLs.
#[must_use]
pub fn searched(secret: &Secret, path: Key, variance: &SearchVariance, query: Option<&str>) -> Key {
    let mut feed = Feed::new(&secret.0, b'N');
    feed.bytes(&path.0.to_le_bytes());
    feed.part(variance.to_string().as_bytes());
    feed.part(variance.canonical(query).unwrap_or_default().as_bytes());
    Key(feed.finish())
}

/// The key of a piece of a body. The body's name is random, so that no secret is needed.
#[must_use]
pub fn body_chunk(body: BodyId, index: u32) -> Key {
    let mut feed = Feed::new(&[0; 16], b'C');
    feed.bytes(&body.0.to_le_bytes());
    feed.bytes(&index.to_le_bytes());
    Key(feed.finish())
}

/// The key of the coded form of a body that stands under `of`.
#[must_use]
pub fn coded(of: Key, body: BodyId, coding: Coding) -> Key {
    let mut feed = Feed::new(&[0; 16], b'E');
    feed.bytes(&of.0.to_le_bytes());
    feed.bytes(&body.0.to_le_bytes());
    feed.part(coding.as_str().as_bytes());
    Key(feed.finish())
}

/// The key under which fetches of parts of an address meet that begin at the same slice; with none, the key of what was
/// learned about asking for parts of it.
#[must_use]
pub fn part(primary: Key, slice: Option<u64>) -> Key {
    let mut feed = Feed::new(&[0; 16], b'S');
    feed.bytes(&primary.0.to_le_bytes());
    feed.bytes(&slice.unwrap_or(u64::MAX).to_le_bytes());
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
    nodes.max_by_key(|node| (weight(placement, node), Reverse(*node)))
}

/// The random weight of a node for an address.
pub(crate) fn weight(placement: u64, node: &NodeId) -> u64 {
    let mut feed = Feed::new(&[0; 16], b'R');
    feed.bytes(&placement.to_le_bytes());
    feed.bytes(node.as_str().as_bytes());
    feed.finish_64()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    const SECRET: Secret = Secret(*b"0123456789abcdef");

    fn check(uri: &str, expected: &str) {
        let uri: Uri = uri.parse().unwrap();
        assert_eq!(target(&uri).unwrap().to_string(), expected, "{uri}");
    }

    #[test]
    fn a_target_in_normal_form_is_borrowed() {
        for uri in ["/", "/a/b.c/..d/.e?f=%2F&g", "/a%2Fb", "//a//", "/a?", "/a?b?c=/../d"] {
            let parsed: Uri = uri.parse().unwrap();
            let target = target(&parsed).unwrap();
            assert_eq!(target.to_string(), uri);
            assert!(matches!(target.path, Cow::Borrowed(_)), "{uri}");
            assert!(!matches!(target.query, Some(Cow::Owned(_))), "{uri}");
        }
    }

    #[test]
    fn only_what_is_equal_by_rfc_3986_section_6_2_2_becomes_equal() {
        check("/%7euser/%41?%62=%2f", "/~user/A?b=%2F");
        check("/a/./b/../c", "/a/c");
        check("/a/%2e%2E/b", "/b");
        check("/../../a", "/a");
        check("/a/..", "/");
        check("/a/b/.", "/a/b/");
        check("/a/b/..", "/a/");
        check("/a//../b", "/a/b");
        check("/%c3%a4", "/%C3%A4");
        check("http://example.com", "/");
        check("http://example.com?x", "/?x");
        check("/?q=100%", "/?q=100%");
        check("*", "*");
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        let refused = |uri: &str| target(&uri.parse().unwrap()).unwrap_err();
        assert_eq!(refused("/a%00b"), TargetFault::Nul);
        assert_eq!(refused("/a?b=%00"), TargetFault::Nul);
        assert_eq!(refused("/a%zzb"), TargetFault::Percent);
        assert_eq!(refused("/a%"), TargetFault::Percent);
        assert_eq!(refused("/a%4"), TargetFault::Percent);
        assert_eq!(refused("/%%341"), TargetFault::Percent);
        assert_eq!(refused("/%+1"), TargetFault::Percent);
        assert_eq!(refused("example.com:443"), TargetFault::NoPath);
        if let Ok(uri) = "/a\\b".parse() {
            assert_eq!(target(&uri), Err(TargetFault::Octet));
        }
    }

    fn key(tenant: &str, site: &str, https: bool, host: &str, uri: &str) -> Key {
        let (tenant, site) = (TenantId::parse(tenant).unwrap(), SiteId::parse(site).unwrap());
        let uri: Uri = uri.parse().unwrap();
        primary(&SECRET, &tenant, &site, https, host, &target(&uri).unwrap())
    }

    #[test]
    fn each_part_of_an_address_counts_and_letter_case_of_the_host_does_not() {
        let base = key("a", "b", true, "c", "/d");
        assert_eq!(base, key("a", "b", true, "C", "/d"));
        for other in [
            key("b", "a", true, "c", "/d"),
            key("ab", "b", true, "c", "/d"),
            key("a", "b", false, "c", "/d"),
            key("a", "b", true, "cd", "/d"),
            key("a", "b", true, "c", "/D"),
            key("a", "b", true, "c", "/d?"),
            key("a", "b", true, "c", "/d/"),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(key("a", "b", true, "c", "/a?b"), key("a", "b", true, "c", "/ab"));
        let long = format!("/{}", "x".repeat(1000));
        assert_ne!(key("a", "b", true, "c", &long), key("a", "b", true, "c", &format!("{long}x")));
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_variant_is_named_by_the_normalised_values_of_its_fields() {
        let spec = VarySpec(Box::new([HeaderName::from_static("bar"), HeaderName::from_static("foo")]));
        let of = |lines: &[(&str, &str)]| variant(&SECRET, Key(7), &spec, &headers(lines));
        assert_eq!(of(&[("foo", "1, 2"), ("x", "y")]), of(&[("foo", "1"), ("foo", " 2")]));
        assert_ne!(of(&[("foo", "1")]), of(&[("foo", "2")]));
        assert_ne!(of(&[("foo", "1")]), of(&[("bar", "1")]));
        assert_ne!(of(&[("foo", "")]), of(&[]));
        assert_ne!(of(&[("foo", "12")]), of(&[("foo", "1"), ("foo", "2")]));
        assert_ne!(variant(&SECRET, Key(8), &spec, &headers(&[])), of(&[]));
        let one = [spec.clone()];
        let request = headers(&[]);
        assert_eq!(variants(&SECRET, Key(7), &one, &request).collect::<Vec<_>>(), [of(&[])]);
    }

    #[test]
    fn chunks_of_a_body_have_names_of_their_own() {
        assert_ne!(body_chunk(BodyId(1), 0), body_chunk(BodyId(1), 1));
        assert_ne!(body_chunk(BodyId(1), 0), body_chunk(BodyId(2), 0));
    }

    #[test]
    fn when_a_node_goes_only_what_was_its_own_moves() {
        let nodes: Vec<_> = (0..5).map(|n| NodeId::parse(&format!("n{n}")).unwrap()).collect();
        let mut shares = [0; 5];
        for placement in 0..2000u64 {
            let owner = rendezvous(placement, nodes.iter()).unwrap();
            assert_eq!(rendezvous(placement, nodes.iter().rev()), Some(owner));
            let without_first = rendezvous(placement, nodes.iter().skip(1)).unwrap();
            if *owner != nodes[0] {
                assert_eq!(without_first, owner);
            }
            shares[nodes.iter().position(|node| node == owner).unwrap()] += 1;
        }
        assert!(shares.iter().all(|share| (300..500).contains(share)), "{shares:?}");
        assert_eq!(rendezvous(1, [].iter()), None);
    }

    #[test]
    fn placement_is_the_same_on_every_node_and_every_version() {
        let (tenant, site) = (TenantId::parse("acme").unwrap(), SiteId::parse("shop").unwrap());
        let uri: Uri = "/a?b".parse().unwrap();
        let place = placement(&tenant, &site, true, "Shop.Example.com", &target(&uri).unwrap());
        assert_eq!(place, PLACED, "nodes of two versions would disagree on owners");
    }

    /// What the first release gave.
    const PLACED: u64 = 11_154_823_061_615_861_717;

    proptest! {
        #[test]
        fn no_two_tenants_form_equal_keys(
            one in "[a-z0-9]{1,6}", other in "[a-z0-9]{1,6}", sites in ("[a-z0-9]{1,6}", "[a-z0-9]{1,6}"),
            hosts in ("[a-z0-9.]{0,6}", "[a-z0-9.]{0,6}"), paths in ("/[a-z0-9/]{0,8}", "/[a-z0-9/]{0,8}"),
        ) {
            prop_assume!(one != other);
            prop_assert_ne!(key(&one, &sites.0, true, &hosts.0, &paths.0), key(&other, &sites.1, true, &hosts.1, &paths.1));
        }

        /// The octets that are hashed, split anywhere else, are other octets: what makes the key injective.
        #[test]
        fn moving_a_border_between_parts_makes_another_key(text in "[a-z]{2,20}", at in 1usize..19) {
            let at = at % (text.len() - 1) + 1;
            let (host, path) = text.split_at(at);
            let moved = at % (text.len() - 1) + 1;
            prop_assume!(moved != at);
            let (host2, path2) = text.split_at(moved);
            prop_assert_ne!(key("t", "s", true, host, &format!("/{path}")), key("t", "s", true, host2, &format!("/{path2}")));
        }

        #[test]
        fn normal_form_is_stable(uri in "/[a-zA-Z0-9%./~_-]{0,30}(\\?[a-zA-Z0-9%./=&-]{0,20})?") {
            if let Ok(parsed) = uri.parse::<Uri>()
                && let Ok(once) = target(&parsed)
            {
                let again: Uri = once.to_string().parse().unwrap();
                prop_assert_eq!(target(&again).unwrap(), once);
            }
        }

        #[test]
        fn no_target_makes_it_panic(uri in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(uri) = Uri::try_from(uri) {
                let _ = target(&uri);
            }
        }
    }
}
