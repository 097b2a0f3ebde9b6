//! Purge keys as numbers: each node hashes the text with its own secret, so numbers never leave it.

use std::hash::Hasher as _;

use region_config::SiteId;
use siphasher::{
    sip::SipHasher13,
    sip128::{Hasher128 as _, SipHasher24},
};

use super::event::{Mode, PREFIX_SEGMENTS_MAX, PurgeKey};

/// The node's secret for one realm. It lives and dies with the realm's ledger file: whoever loses it has lost the
/// marks too, and then the floor covers every object that was hashed with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RealmSecret(pub [u8; 16]);

impl std::fmt::Debug for RealmSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RealmSecret(..)")
    }
}

/// Marks a key's hash in a ring slot as softly purged.
const SOFT: u64 = 1;

/// The key of objects whose tags nobody can list: they fall to every purge by a tag of their site. No hash is odd. It is
/// the last of an object's keys.
pub(super) const UNTAGGED: u64 = 1;

/// Hashes the purge keys of one site: 64-bit SipHash of the scope and the length-prefixed text, under a key made of
/// the realm's secret and the site's name. The lowest bit is always 0. A collision only purges too much.
#[derive(Debug, Clone, Copy)]
pub struct SiteKeys {
    key: (u64, u64),
}

impl SiteKeys {
    /// The hash functions of one site.
    #[must_use]
    pub fn new(secret: RealmSecret, site: &SiteId) -> Self {
        let mut hasher = SipHasher24::new_with_key(&secret.0);
        hasher.write(site.as_str().as_bytes());
        let hash = hasher.finish128();
        Self { key: (hash.h1, hash.h2) }
    }

    /// The key of a resource: all variants, both schemes.
    #[must_use]
    pub fn url(&self, host: &str, path: &str, query: Option<&str>) -> u64 {
        let mut hasher = self.scope(b'u');
        part(&mut hasher, host);
        part(&mut hasher, path);
        if let Some(query) = query {
            part(&mut hasher, query);
        }
        hasher.finish() & !SOFT
    }

    /// The key of a surrogate tag.
    #[must_use]
    pub fn tag(&self, tag: &str) -> u64 {
        let mut hasher = self.scope(b't');
        part(&mut hasher, tag);
        hasher.finish() & !SOFT
    }

    /// The key of everything of a host.
    #[must_use]
    pub fn host(&self, host: &str) -> u64 {
        let mut hasher = self.scope(b'h');
        part(&mut hasher, host);
        hasher.finish() & !SOFT
    }

    /// The key of a path and everything below it. `path` has no `/` at its end.
    #[must_use]
    pub fn prefix(&self, host: &str, path: &str) -> u64 {
        let mut hasher = self.scope(b'p');
        part(&mut hasher, host);
        part(&mut hasher, path);
        hasher.finish() & !SOFT
    }

    /// The keys of a path and all that are above it, at most [`PREFIX_SEGMENTS_MAX`].
    pub fn prefixes<'a>(&'a self, host: &'a str, path: &'a str) -> impl Iterator<Item = u64> + 'a {
        // `/a/b` is under `/a` and `/a/b`, `/a/` is under `/a`
        let inner = path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
        let whole = (path.len() > 1 && !path.ends_with('/')).then_some(path.len());
        let ends = inner.chain(whole).take(PREFIX_SEGMENTS_MAX);
        ends.filter_map(|end| path.get(..end)).map(|above| self.prefix(host, above))
    }

    /// The hash of an event's key; none for a whole site or realm, which is a floor and no key.
    #[must_use]
    pub fn hash(&self, key: &PurgeKey) -> Option<u64> {
        match key {
            PurgeKey::Url { host, target } => match target.split_once('?') {
                Some((path, query)) => Some(self.url(host, path, Some(query))),
                None => Some(self.url(host, target, None)),
            },
            PurgeKey::Tag(tag) => Some(self.tag(tag)),
            PurgeKey::Host(host) => Some(self.host(host)),
            PurgeKey::Prefix { host, path } => Some(self.prefix(host, path)),
            PurgeKey::Site | PurgeKey::Realm => None,
        }
    }

    fn scope(&self, scope: u8) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u8(scope);
        hasher
    }
}

fn part(hasher: &mut SipHasher13, text: &str) {
    hasher.write_u64(text.len() as u64);
    hasher.write(text.as_bytes());
}

/// A hash and its mode in one word, as the ring keeps it.
pub(super) fn pack(key: u64, mode: Mode) -> u64 {
    match mode {
        Mode::Hard => key & !SOFT,
        Mode::Soft => key | SOFT,
    }
}

/// The hash and mode of a ring slot's word.
pub(super) fn unpack(word: u64) -> (u64, Mode) {
    (word & !SOFT, if word & SOFT == 0 { Mode::Hard } else { Mode::Soft })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_objects_key_is_the_events_key() {
        let keys = SiteKeys::new(RealmSecret([7; 16]), &SiteId::parse("shop").unwrap());
        let url = |target: &str| keys.hash(&PurgeKey::Url { host: "a.test".into(), target: target.into() }).unwrap();
        assert_eq!(url("/x?y=1"), keys.url("a.test", "/x", Some("y=1")));
        assert_eq!(url("/x"), keys.url("a.test", "/x", None));
        assert_ne!(url("/x"), url("/x?"));
        assert_eq!(keys.hash(&PurgeKey::Tag("t".into())), Some(keys.tag("t")));
    }

    #[test]
    fn a_prefix_is_made_of_whole_segments() {
        let keys = SiteKeys::new(RealmSecret([7; 16]), &SiteId::parse("shop").unwrap());
        let covers = |prefix: &str, path: &str| keys.prefixes("h", path).any(|key| key == keys.prefix("h", prefix));
        for path in ["/a", "/a/", "/a/b", "/a/b/c.html", "/a//b"] {
            assert!(covers("/a", path), "{path}");
        }
        for path in ["/", "/ab", "/ab/", "/b/a", "/A"] {
            assert!(!covers("/a", path), "{path}");
        }
        assert!(covers("/a/b", "/a/b/") && !covers("/a/b", "/a/bc"));
        let deep = "/x".repeat(40);
        assert_eq!(keys.prefixes("h", &deep).count(), PREFIX_SEGMENTS_MAX);
        assert!(covers(&"/x".repeat(16), &deep));
        assert_eq!(keys.prefixes("h", "/").count(), 0);
    }

    #[test]
    fn sites_and_secrets_do_not_share_keys() {
        let (a, b) = (SiteId::parse("a").unwrap(), SiteId::parse("b").unwrap());
        let tag = |secret, site| SiteKeys::new(RealmSecret([secret; 16]), site).tag("t");
        assert_ne!(tag(1, &a), tag(1, &b));
        assert_ne!(tag(1, &a), tag(2, &a));
    }
}
