//! One invalidation, as an application sent it.

use std::fmt;

use region_config::SiteId;

/// Keys in one event, at most.
pub const KEYS_MAX: usize = 30;
/// Bytes of a host in a URL key, at most.
pub const HOST_BYTES_MAX: usize = 255;
/// Bytes of a target (path and query) in a URL key, at most.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Segments in the path of a prefix key, at most; an object is known by as many of its path.
pub const PREFIX_SEGMENTS_MAX: usize = 16;
/// Bytes of a tag, at most.
pub const TAG_BYTES_MAX: usize = 256;
/// Bytes of an idempotency key, at most.
pub const IDEMPOTENCY_BYTES_MAX: usize = 256;

/// How an object stands after a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// It counts as stale: it may be revalidated, and served meanwhile where its freshness rules allow that.
    Soft,
    /// It is never served again.
    Hard,
}

impl Mode {
    /// The word for it in API, logs and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

/// What an event is about. Text on the wire and in the logs; hashed by each node with its own secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PurgeKey {
    /// One resource, all its variants, on both schemes. Normalised as cache keys are.
    Url {
        /// Host, lower case.
        host: String,
        /// Path, with `?query` if there is one.
        target: String,
    },
    /// A path and everything below it, by whole segments: `/a` covers `/a`, `/a/` and `/a/b`, and never `/ab`.
    Prefix {
        /// Host, lower case.
        host: String,
        /// Path without query and without `/` at its end, at most [`PREFIX_SEGMENTS_MAX`] segments.
        path: String,
    },
    /// Everything of one host, lower case.
    Host(String),
    /// Everything that carries a surrogate tag.
    Tag(String),
    /// The whole site.
    Site,
    /// Everything of all sites of the realm.
    Realm,
}

/// How wide a purge is, narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// One resource.
    Url,
    /// What carries a tag.
    Tag,
    /// A path and all below it.
    Prefix,
    /// A host.
    Host,
    /// A site.
    Site,
    /// All sites of the realm.
    Realm,
}

impl Scope {
    /// Every one, in their order.
    pub const ALL: [Self; 6] = [Self::Url, Self::Tag, Self::Prefix, Self::Host, Self::Site, Self::Realm];

    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Tag => "tag",
            Self::Prefix => "prefix",
            Self::Host => "host",
            Self::Site => "site",
            Self::Realm => "realm",
        }
    }
}

impl PurgeKey {
    /// How wide it is.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Url { .. } => Scope::Url,
            Self::Prefix { .. } => Scope::Prefix,
            Self::Host(_) => Scope::Host,
            Self::Tag(_) => Scope::Tag,
            Self::Site => Scope::Site,
            Self::Realm => Scope::Realm,
        }
    }
}

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    /// No keys, or too many.
    #[error("a purge names 1 to {KEYS_MAX} keys, and this one names {0}")]
    Keys(usize),
    /// An empty or overlong host.
    #[error("the host of a purged URL has 1 to {HOST_BYTES_MAX} bytes, and this one has {0}")]
    Host(usize),
    /// A target that is overlong or does not begin with `/`.
    #[error("the target of a purged URL begins with `/` and has at most {TARGET_BYTES_MAX} bytes; this one has {0}")]
    Target(usize),
    /// A prefix that is no path, or too deep.
    #[error(
        "the path of a purged prefix begins with `/`, has no `?` and 1 to {PREFIX_SEGMENTS_MAX} segments; this one has {0}"
    )]
    Prefix(usize),
    /// The whole realm beside other things, or for one site.
    #[error("a purge of the whole realm names nothing else, and no site")]
    Realm,
    /// An empty or overlong tag.
    #[error("a tag has 1 to {TAG_BYTES_MAX} bytes, and this one has {0}")]
    Tag(usize),
    /// An empty or overlong idempotency key.
    #[error("an idempotency key has 1 to {IDEMPOTENCY_BYTES_MAX} bytes, and this one has {0}")]
    Idempotency(usize),
}

/// The identity of an event: what the application asked for, and under which idempotency key. The same request
/// through another node has the same id; 32 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PurgeId(pub u128);

impl PurgeId {
    /// Reads 32 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for PurgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for PurgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One invalidation. Checked when it is made, also when it comes from a peer, and immutable ever after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    id: PurgeId,
    request: u128,
    site: Option<SiteId>,
    mode: Mode,
    keys: Vec<PurgeKey>,
    idempotency: String,
}

impl Event {
    /// Checks an event about one site, or about all of the realm, and gives it its identity.
    ///
    /// # Errors
    /// [`EventFault`] if a limit is broken.
    pub fn new(
        site: Option<SiteId>,
        mode: Mode,
        mut keys: Vec<PurgeKey>,
        idempotency: String,
    ) -> Result<Self, EventFault> {
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(EventFault::Keys(keys.len()));
        }
        if idempotency.is_empty() || idempotency.len() > IDEMPOTENCY_BYTES_MAX {
            return Err(EventFault::Idempotency(idempotency.len()));
        }
        if site.is_none() != (keys == [PurgeKey::Realm]) || (site.is_some() && keys.contains(&PurgeKey::Realm)) {
            return Err(EventFault::Realm);
        }
        keys.iter_mut().try_for_each(check)?;
        // no site has an empty name
        let about = site.as_ref().map_or("", SiteId::as_str);
        let request = digest("meridian 2026-11 purge request", [about.as_bytes(), idempotency.as_bytes()]);
        let id = PurgeId(identity(request, mode, &keys));
        Ok(Self { id, request, site, mode, keys, idempotency })
    }

    /// Its identity: site, idempotency key and body.
    #[must_use]
    pub fn id(&self) -> PurgeId {
        self.id
    }

    /// Hash of site and idempotency key alone: two events with one of these and different ids are a conflict.
    #[must_use]
    pub fn request(&self) -> u128 {
        self.request
    }

    /// The site it is about; none if it is about all of the realm.
    #[must_use]
    pub fn site(&self) -> Option<&SiteId> {
        self.site.as_ref()
    }

    /// Hard or soft.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What it is about: 1 to [`KEYS_MAX`].
    #[must_use]
    pub fn keys(&self) -> &[PurgeKey] {
        &self.keys
    }

    /// How wide it is: as the widest of its keys.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.keys.iter().map(PurgeKey::scope).max().unwrap_or(Scope::Url)
    }

    /// The application's idempotency key.
    #[must_use]
    pub fn idempotency(&self) -> &str {
        &self.idempotency
    }
}

/// Checks one key against the limits, and puts a host into lower case.
fn check(key: &mut PurgeKey) -> Result<(), EventFault> {
    match key {
        PurgeKey::Url { host, target } => {
            check_host(host)?;
            if !target.starts_with('/') || target.len() > TARGET_BYTES_MAX {
                return Err(EventFault::Target(target.len()));
            }
        }
        PurgeKey::Prefix { host, path } => {
            check_host(host)?;
            if path.len() > TARGET_BYTES_MAX {
                return Err(EventFault::Target(path.len()));
            }
            if path.ends_with('/') {
                path.pop();
            }
            let segments = path.bytes().filter(|byte| *byte == b'/').count();
            if !path.starts_with('/') || path.contains('?') || segments > PREFIX_SEGMENTS_MAX {
                return Err(EventFault::Prefix(segments));
            }
        }
        PurgeKey::Host(host) => check_host(host)?,
        PurgeKey::Tag(tag) if tag.is_empty() || tag.len() > TAG_BYTES_MAX => return Err(EventFault::Tag(tag.len())),
        PurgeKey::Tag(_) | PurgeKey::Site | PurgeKey::Realm => {}
    }
    Ok(())
}

fn check_host(host: &mut str) -> Result<(), EventFault> {
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err(EventFault::Host(host.len()));
    }
    host.make_ascii_lowercase();
    Ok(())
}

fn identity(request: u128, mode: Mode, keys: &[PurgeKey]) -> u128 {
    let request = request.to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![&request, mode.as_str().as_bytes()];
    for key in keys {
        match key {
            PurgeKey::Url { host, target } => parts.extend([b"url".as_slice(), host.as_bytes(), target.as_bytes()]),
            PurgeKey::Prefix { host, path } => parts.extend([b"prefix".as_slice(), host.as_bytes(), path.as_bytes()]),
            PurgeKey::Host(host) => parts.extend([b"host".as_slice(), host.as_bytes()]),
            PurgeKey::Tag(tag) => parts.extend([b"tag".as_slice(), tag.as_bytes()]),
            PurgeKey::Site => parts.push(b"site"),
            PurgeKey::Realm => parts.push(b"realm"),
        }
    }
    digest("meridian 2026-11 purge id", parts)
}

/// 128 bits of blake3 over length-prefixed parts. Not SipHash: ids are compared between nodes, so the hash has no
/// secret, and a tenant must not be able to make an event that passes for another tenant's.
fn digest<'a>(context: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    u128::from_be_bytes(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn event(site: &str, keys: Vec<PurgeKey>, idempotency: &str) -> Result<Event, EventFault> {
        Event::new(Some(SiteId::parse(site).unwrap()), Mode::Hard, keys, idempotency.to_owned())
    }

    fn tag(text: &str) -> PurgeKey {
        PurgeKey::Tag(text.to_owned())
    }

    #[test]
    fn the_same_request_has_the_same_id_on_every_node() {
        let (a, b) = (event("shop", vec![tag("x")], "k").unwrap(), event("shop", vec![tag("x")], "k").unwrap());
        assert_eq!(a.id(), b.id());
        assert_eq!(PurgeId::parse(&a.id().to_string()), Some(a.id()));
        assert_eq!(PurgeId::parse("+0000000000000000000000000000001"), None);
    }

    #[test]
    fn another_body_under_one_idempotency_key_is_a_conflict_and_another_event() {
        let (a, b) = (event("shop", vec![tag("x")], "k").unwrap(), event("shop", vec![tag("y")], "k").unwrap());
        assert_eq!(a.request(), b.request());
        assert_ne!(a.id(), b.id());
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        let ids = [
            event("shop", vec![tag("a"), tag("b")], "k"),
            event("shop", vec![tag("atagb")], "k"),
            event("shop", vec![PurgeKey::Url { host: "a".into(), target: "/b".into() }], "k"),
            event("shop", vec![PurgeKey::Site], "k"),
            event("shopk", vec![PurgeKey::Site], "k"),
            event("shop", vec![PurgeKey::Site], "kk"),
        ]
        .map(|e| e.unwrap().id());
        for (i, a) in ids.iter().enumerate() {
            assert!(ids[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn limits_are_kept() {
        assert_eq!(event("s", vec![], "k"), Err(EventFault::Keys(0)));
        assert_eq!(event("s", vec![PurgeKey::Site; 31], "k"), Err(EventFault::Keys(31)));
        assert_eq!(event("s", vec![PurgeKey::Site], ""), Err(EventFault::Idempotency(0)));
        assert_eq!(event("s", vec![tag("")], "k"), Err(EventFault::Tag(0)));
        let long = PurgeKey::Url { host: "h".into(), target: format!("/{}", "x".repeat(8192)) };
        assert_eq!(event("s", vec![long], "k"), Err(EventFault::Target(8193)));
        let prefix = |path: &str| PurgeKey::Prefix { host: "h".into(), path: path.into() };
        assert_eq!(event("s", vec![prefix("/")], "k"), Err(EventFault::Prefix(0)), "the root is the host");
        assert_eq!(event("s", vec![prefix(&"/x".repeat(17))], "k"), Err(EventFault::Prefix(17)));
        assert_eq!(event("s", vec![prefix("/a?b")], "k"), Err(EventFault::Prefix(1)));
        assert_eq!(event("s", vec![prefix("/a/")], "k").unwrap().keys(), [prefix("/a")]);
        assert_eq!(event("s", vec![PurgeKey::Realm], "k"), Err(EventFault::Realm));
        assert_eq!(Event::new(None, Mode::Hard, vec![tag("a")], "k".into()), Err(EventFault::Realm));
        assert!(Event::new(None, Mode::Hard, vec![PurgeKey::Realm], "k".into()).is_ok());
    }
}
