//! Cache groups (RFC 9875): strings that a response says it belongs to, and that the answer to an unsafe request may void.
//!
//! A group becomes a tag of a form that no field can write, and that differs by origin: groups never reach across
//! scheme, host or port.

use http::{HeaderMap, HeaderName};

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// Most groups that are taken from one message (RFC 9875 section 2 asks for 32 at least).
const GROUPS_MAX: usize = 64;
/// Longest group that is taken, in bytes (RFC 9875 section 2 asks for 32 at least).
const GROUP_BYTES_MAX: usize = 256;
/// Longest field that is read, lines together, in bytes.
const FIELD_BYTES_MAX: usize = 16 * 1024;
/// What a group's tag begins with: tags from fields are ASCII.
const PREFIX: &str = "\u{a7}group-";

/// The groups that a message names, as tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// These; none if the field is absent or no list of strings.
    Listed(Vec<String>),
    /// More or longer ones than are taken.
    Oversize,
}

/// The groups that a response belongs to, as tags of its origin (`https`, `authority` as the request names it).
#[must_use]
pub fn groups(https: bool, authority: &str, response: &HeaderMap) -> Groups {
    read(https, authority, response, &CACHE_GROUPS)
}

/// The groups that the answer to an unsafe request voids, as tags. Whether the request was unsafe is for the caller to
/// know (RFC 9875 section 3).
#[must_use]
pub fn invalidated_groups(https: bool, authority: &str, response: &HeaderMap) -> Groups {
    read(https, authority, response, &CACHE_GROUP_INVALIDATION)
}

fn read(https: bool, authority: &str, headers: &HeaderMap, field: &HeaderName) -> Groups {
    let lines: Vec<&[u8]> = headers.get_all(field).iter().map(http::HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return Groups::Listed(Vec::new());
    }
    let joined = lines.join(&b", "[..]);
    if joined.len() > FIELD_BYTES_MAX {
        return Groups::Oversize;
    }
    let Some(names) = strings(&joined) else { return Groups::Listed(Vec::new()) };
    if names.len() > GROUPS_MAX || names.iter().any(|name| name.len() > GROUP_BYTES_MAX) {
        return Groups::Oversize;
    }
    Groups::Listed(names.iter().map(|name| tag(https, authority, name)).collect())
}

/// A list of strings; parameters are ignored. None if it is anything else: then the whole field is (RFC 9651 section 4.2).
fn strings(field: &[u8]) -> Option<Vec<String>> {
    let list: sfv::List = sfv::Parser::new(field).parse().ok()?;
    let string = |entry: &sfv::ListEntry| match entry {
        sfv::ListEntry::Item(item) => item.bare_item.as_string().map(|text| text.as_str().to_owned()),
        sfv::ListEntry::InnerList(_) => None,
    };
    list.iter().map(string).collect()
}

fn tag(https: bool, authority: &str, group: &str) -> String {
    let authority = authority.strip_suffix(if https { ":443" } else { ":80" }).unwrap_or(authority);
    let mut sum = blake3::Hasher::new_derive_key("meridian 2026-11 cache group");
    sum.update(&[u8::from(https)]);
    sum.update(&(authority.len() as u64).to_le_bytes());
    sum.update(authority.to_ascii_lowercase().as_bytes());
    sum.update(group.as_bytes());
    let hash = sum.finalize().to_hex();
    format!("{PREFIX}{}", hash.get(..32).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::{caching::Tags, purge::TAG_BYTES_MAX};

    fn of(https: bool, authority: &str, lines: &[&str]) -> Groups {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_GROUPS, line.parse().unwrap());
            headers.append(CACHE_GROUP_INVALIDATION, line.parse().unwrap());
        }
        let groups = groups(https, authority, &headers);
        assert_eq!(groups, invalidated_groups(https, authority, &headers));
        groups
    }

    fn count(lines: &[&str]) -> usize {
        match of(true, "a.test", lines) {
            Groups::Listed(tags) => tags.len(),
            Groups::Oversize => panic!("oversize: {lines:?}"),
        }
    }

    #[test]
    fn a_list_of_strings_is_read_strictly() {
        assert_eq!(count(&["\"scripts\", \"eurovision-results\";x=1", "\"b\""]), 3);
        for rubbish in ["scripts", "\"a\", b", "(\"a\")", "\"a", "1", ""] {
            assert_eq!(count(&[rubbish]), 0, "{rubbish}");
        }
        assert_eq!(of(true, "a", &["\"x\",".repeat(65).trim_end_matches(',')]), Groups::Oversize);
        assert_eq!(of(true, "a", &[&format!("\"{}\"", "x".repeat(257))]), Groups::Oversize);
    }

    #[test]
    fn a_group_belongs_to_one_origin() {
        let base = of(true, "a.test", &["\"g\""]);
        assert_eq!(base, of(true, "A.test:443", &["\"g\""]));
        for other in [
            of(false, "a.test", &["\"g\""]),
            of(true, "b.test", &["\"g\""]),
            of(true, "a.test:8443", &["\"g\""]),
            of(true, "a.test", &["\"G\""]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn no_field_can_write_a_groups_tag() {
        let Groups::Listed(tags) = of(true, "a.test", &["\"g\""]) else { panic!("oversize") };
        assert!(tags[0].len() <= TAG_BYTES_MAX);
        let mut headers = HeaderMap::new();
        headers.insert("surrogate-key", http::HeaderValue::from_bytes(tags[0].as_bytes()).unwrap());
        assert_eq!(crate::caching::fields::surrogate_tags(&headers), Tags::Oversize);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(value in proptest::collection::vec(32u8..=255, 0..100)) {
            if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                headers.insert(CACHE_GROUPS, value);
                let _ = groups(true, "a", &headers);
            }
        }
    }
}
