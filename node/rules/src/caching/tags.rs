//! Surrogate tags: what a purge by tag goes by.

use http::{HeaderMap, HeaderName};

use super::{lists::trim, ordered};

/// Most tags that a response may carry.
const TAGS_MAX: usize = 50;
/// Longest tag, in bytes.
const TAG_BYTES_MAX: usize = 256;

/// The fields that tags come in, and whether commas (else white space) separate them there.
const FIELDS: [(HeaderName, Separator); 4] = [
    (HeaderName::from_static("surrogate-key"), Separator::Space),
    (HeaderName::from_static("xkey"), Separator::Space),
    (HeaderName::from_static("cache-tag"), Separator::Comma),
    (HeaderName::from_static("edge-cache-tag"), Separator::Comma),
];

const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

#[derive(Clone, Copy)]
enum Separator {
    Space,
    Comma,
}

/// A response's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags<'a> {
    /// These, each once, in the order they came.
    Listed(Vec<&'a str>),
    /// More than 50, or one of more than 256 bytes or with octets that are no visible ASCII: if some were dropped, a
    /// purge could miss the response.
    Oversize,
}

/// Takes out of what a client gets what is between origin and cache: tags, orders for purges, and `Surrogate-Control`. On every hit: one look
/// at the names, and more only if there is something to take out.
pub fn strip_tags(headers: &mut HeaderMap) {
    if headers.keys().any(is_between) {
        for (name, _) in &FIELDS {
            headers.remove(name);
        }
        headers.remove(&SURROGATE_CONTROL);
        for name in &ordered::FIELDS {
            headers.remove(name);
        }
    }
}

/// Whether a field is between origin and cache.
pub(super) fn is_between(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.len() {
        4 => name == "xkey",
        9 => name == "cache-tag",
        13 => name == "surrogate-key",
        14 => name == "edge-cache-tag",
        17 => name == "surrogate-control",
        19 => matches!(name, "meridian-purge-tags" | "meridian-purge-urls" | "meridian-purge-site"),
        _ => false,
    }
}

/// Reads the tags from `Surrogate-Key` and `xkey` (white space between), `Cache-Tag` and `Edge-Cache-Tag` (commas
/// between). Letter case counts.
#[must_use]
pub fn surrogate_tags(headers: &HeaderMap) -> Tags<'_> {
    let mut tags: Vec<&str> = Vec::new();
    for (name, separator) in &FIELDS {
        for line in headers.get_all(name) {
            let separates = |byte: &u8| match separator {
                Separator::Space => matches!(byte, b' ' | b'\t'),
                Separator::Comma => *byte == b',',
            };
            for tag in line.as_bytes().split(separates).map(trim).filter(|tag| !tag.is_empty()) {
                let Some(tag) = readable(tag) else { return Tags::Oversize };
                if tags.contains(&tag) {
                    continue;
                }
                if tags.len() == TAGS_MAX {
                    return Tags::Oversize;
                }
                tags.push(tag);
            }
        }
    }
    Tags::Listed(tags)
}

fn readable(tag: &[u8]) -> Option<&str> {
    let fits = tag.len() <= TAG_BYTES_MAX && tag.iter().all(|byte| matches!(byte, b' '..=b'~'));
    fits.then(|| std::str::from_utf8(tag).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(*name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        headers
    }

    fn check(lines: &[(&'static str, &str)], expected: &[&str]) {
        assert_eq!(surrogate_tags(&headers(lines)), Tags::Listed(expected.to_vec()), "{lines:?}");
    }

    #[test]
    fn all_four_fields_are_read_each_by_its_own_separator() {
        check(&[], &[]);
        check(&[("surrogate-key", " a  b,c "), ("xkey", "d")], &["a", "b,c", "d"]);
        check(&[("cache-tag", "a b, c,,"), ("edge-cache-tag", "d"), ("cache-tag", "c, e")], &["a b", "c", "e", "d"]);
    }

    #[test]
    fn a_client_sees_none_of_what_is_between_origin_and_cache() {
        for name in ["surrogate-key", "xkey", "cache-tag", "edge-cache-tag", "surrogate-control"] {
            let mut stripped = headers(&[(name, "a"), ("cache-control", "max-age=1")]);
            strip_tags(&mut stripped);
            assert_eq!(stripped, headers(&[("cache-control", "max-age=1")]), "{name}");
        }
    }

    #[test]
    fn what_a_purge_could_miss_is_oversize() {
        let many: Vec<_> = (0..51).map(|n| n.to_string()).collect();
        for line in [many.join(" "), "x".repeat(257), "ü".into()] {
            assert_eq!(surrogate_tags(&headers(&[("surrogate-key", &line)])), Tags::Oversize, "{line}");
        }
        let just: Vec<_> = (0..50).map(|n| n.to_string()).collect();
        assert!(
            matches!(surrogate_tags(&headers(&[("xkey", &just.join(" "))])), Tags::Listed(tags) if tags.len() == 50)
        );
    }
}
