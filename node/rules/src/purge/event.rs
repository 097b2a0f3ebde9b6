//! One invalidation, as an application sent it.

use std::fmt;

use region_config::SiteId;

/// Keys in one event, at most.
pub const KEYS_MAX: usize = 30;
/// Bytes of a host in a URL key, at most.
pub const HOST_BYTES_MAX: usize = 255;
/// Bytes of a target (path and query) in a URL key, at most.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
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
    /// Everything that carries a surrogate tag.
    Tag(String),
    /// The whole site.
    Site,
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
    site: SiteId,
    mode: Mode,
    keys: Vec<PurgeKey>,
    idempotency: String,
}

impl Event {
    /// Checks an event and gives it its identity.
    ///
    /// # Errors
    /// [`EventFault`] if a limit is broken.
    pub fn new(site: SiteId, mode: Mode, mut keys: Vec<PurgeKey>, idempotency: String) -> Result<Self, EventFault> {
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(EventFault::Keys(keys.len()));
        }
        if idempotency.is_empty() || idempotency.len() > IDEMPOTENCY_BYTES_MAX {
            return Err(EventFault::Idempotency(idempotency.len()));
        }
        keys.iter_mut().try_for_each(check)?;
        let request = digest("meridian 2026-11 purge request", [site.as_str().as_bytes(), idempotency.as_bytes()]);
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

    /// The site it is about.
    #[must_use]
    pub fn site(&self) -> &SiteId {
        &self.site
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
            if host.is_empty() || host.len() > HOST_BYTES_MAX {
                return Err(EventFault::Host(host.len()));
            }
            if !target.starts_with('/') || target.len() > TARGET_BYTES_MAX {
                return Err(EventFault::Target(target.len()));
            }
            host.make_ascii_lowercase();
        }
        PurgeKey::Tag(tag) if tag.is_empty() || tag.len() > TAG_BYTES_MAX => return Err(EventFault::Tag(tag.len())),
        PurgeKey::Tag(_) | PurgeKey::Site => {}
    }
    Ok(())
}

fn identity(request: u128, mode: Mode, keys: &[PurgeKey]) -> u128 {
    let request = request.to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![&request, mode.as_str().as_bytes()];
    for key in keys {
        match key {
            PurgeKey::Url { host, target } => parts.extend([b"url".as_slice(), host.as_bytes(), target.as_bytes()]),
            PurgeKey::Tag(tag) => parts.extend([b"tag".as_slice(), tag.as_bytes()]),
            PurgeKey::Site => parts.push(b"site"),
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
        Event::new(SiteId::parse(site).unwrap(), Mode::Hard, keys, idempotency.to_owned())
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
    }
}
