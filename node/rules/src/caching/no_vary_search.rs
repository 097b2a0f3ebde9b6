//! `No-Vary-Search` (draft-ietf-httpbis-no-vary-search): parts of a query that a response does not vary by.
//!
//! Read as its latest form is, where `except` stands alone, and as the earlier ones were, where it stood beside a bare
//! `params`. Whatever else it says counts as nothing said, which costs hits and is never wrong.

use std::fmt;

use http::{HeaderMap, HeaderName};

const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// Longest field that is read, in bytes.
const FIELD_BYTES_MAX: usize = 4096;
/// Most names that are read.
const NAMES_MAX: usize = 64;

/// Which parts of a query a response does not vary by; never none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SearchVariance {
    names: Names,
    any_order: bool,
}

/// Names are decoded, sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Names {
    /// These do not count.
    Except(Box<[String]>),
    /// Only these count.
    Only(Box<[String]>),
}

impl SearchVariance {
    /// Reads a response's. None if it varies by all of the query, or says so in a way that cannot be read.
    #[must_use]
    pub fn of(response: &HeaderMap) -> Option<Self> {
        let mut lines = response.get_all(NO_VARY_SEARCH).iter().peekable();
        lines.peek()?;
        let lines: Vec<&[u8]> = lines.map(http::HeaderValue::as_bytes).collect();
        Self::parse(&lines.join(&b", "[..]))
    }

    /// Reads a field's value.
    #[must_use]
    pub fn parse(field: &[u8]) -> Option<Self> {
        if field.len() > FIELD_BYTES_MAX {
            return None;
        }
        let dictionary: sfv::Dictionary = sfv::Parser::new(field).parse().ok()?;
        let entry = |name: &str| dictionary.iter().find(|(key, _)| key.as_str() == name).map(|(_, entry)| entry);
        let any_order = entry("key-order").map_or(Some(false), boolean)?;
        let names = match (entry("params"), entry("except")) {
            (None, None) => Names::Except(Box::default()),
            (None, Some(except)) => Names::Only(strings(except)?),
            (Some(params), None) => match boolean(params) {
                Some(true) => Names::Only(Box::default()),
                Some(false) => Names::Except(Box::default()),
                None => Names::Except(strings(params)?),
            },
            (Some(params), Some(except)) => match boolean(params) {
                Some(true) => Names::Only(strings(except)?),
                _ => return None,
            },
        };
        let variance = Self { names, any_order };
        let says_something = any_order || variance.names != Names::Except(Box::default());
        // one form may be longer than another, and is what is kept
        (says_something && variance.to_string().len() <= FIELD_BYTES_MAX).then_some(variance)
    }

    /// What is left of a query: two queries with the same of it are one for this response. None if nothing is left.
    #[must_use]
    pub fn canonical(&self, query: Option<&str>) -> Option<String> {
        let counts = |name: &str| match &self.names {
            Names::Except(names) => !names.iter().any(|known| known == name),
            Names::Only(names) => names.iter().any(|known| known == name),
        };
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let mut left: Vec<_> = pairs.filter(|(name, _)| counts(name)).collect();
        if self.any_order {
            left.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(left).finish();
        (!text.is_empty()).then_some(text)
    }
}

/// The field in one form, which [`SearchVariance::parse`] reads as the same.
impl fmt::Display for SearchVariance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any_order {
            f.write_str("key-order")?;
        }
        let (word, names) = match &self.names {
            Names::Except(names) if names.is_empty() => return Ok(()),
            Names::Except(names) => ("params", names),
            Names::Only(names) => ("except", names),
        };
        let comma = if self.any_order { ", " } else { "" };
        let quoted = names.iter().map(|name| format!("\"{}\"", encoded(name))).collect::<Vec<_>>().join(" ");
        write!(f, "{comma}{word}=({quoted})")
    }
}

fn encoded(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

fn boolean(entry: &sfv::ListEntry) -> Option<bool> {
    match entry {
        sfv::ListEntry::Item(item) => item.bare_item.as_boolean(),
        sfv::ListEntry::InnerList(_) => None,
    }
}

/// An inner list of names, decoded as those of forms are.
fn strings(entry: &sfv::ListEntry) -> Option<Box<[String]>> {
    let sfv::ListEntry::InnerList(list) = entry else { return None };
    if list.items.len() > NAMES_MAX {
        return None;
    }
    let name = |item: &sfv::Item| item.bare_item.as_string().map(|text| decoded(text.as_str()));
    let mut names: Vec<String> = list.items.iter().map(name).collect::<Option<_>>()?;
    names.sort_unstable();
    names.dedup();
    Some(names.into_boxed_slice())
}

fn decoded(name: &str) -> String {
    // here these two are characters like others
    let name = name.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(name.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn parsed(field: &str) -> Option<String> {
        SearchVariance::parse(field.as_bytes()).map(|variance| variance.to_string())
    }

    fn same(field: &str, one: &str, other: &str) -> bool {
        let variance = SearchVariance::parse(field.as_bytes()).unwrap();
        let query = |target: &str| variance.canonical(target.split_once('?').map(|(_, query)| query));
        query(one) == query(other)
    }

    #[test]
    fn all_forms_are_read() {
        for (field, expected) in [
            ("params=(\"b\" \"a\" \"a\")", "params=(\"a\" \"b\")"),
            ("key-order", "key-order"),
            ("key-order=?1, params=()", "key-order"),
            ("params", "except=()"),
            ("params=?1", "except=()"),
            ("params, except=(\"x\")", "except=(\"x\")"),
            ("except=(\"x\")", "except=(\"x\")"),
            ("except=()", "except=()"),
            ("except=(\"x\"), key-order, other=5", "key-order, except=(\"x\")"),
            ("params=(\"%C3%A9+%E6%B0%97\")", "params=(\"%C3%A9+%E6%B0%97\")"),
        ] {
            assert_eq!(parsed(field).as_deref(), Some(expected), "{field}");
            assert_eq!(parsed(expected).as_deref(), Some(expected), "{field}, again");
        }
    }

    #[test]
    fn what_says_nothing_or_cannot_be_read_counts_as_nothing() {
        for field in [
            "",
            "unknown-key",
            "key-order=\"not a boolean\"",
            "key-order=?0",
            "params=\"not a list\"",
            "params=(not-a-string)",
            "params=(\"a\"), except=(\"x\")",
            "params=(), except=()",
            "params=?0, except=(\"x\")",
            "params, except=(not-a-string)",
            "params, except=?1",
            "except=\"x\"",
            "params=?0",
            "params=()",
            "params=(",
        ] {
            assert_eq!(parsed(field), None, "{field}");
        }
        assert_eq!(SearchVariance::of(&HeaderMap::new()), None);
    }

    #[test]
    fn queries_are_one_if_they_differ_only_in_what_does_not_count() {
        let params = "params=(\"utm_source\" \"a b\")";
        assert!(same(params, "/?x=1&utm_source=2", "/?x=1"));
        assert!(same(params, "/?a+b=1", "/?a%20b"));
        assert!(same(params, "/", "/?"));
        assert!(same(params, "/?x=%61", "/?x=a"));
        assert!(same(params, "/?x", "/?x="));
        assert!(!same(params, "/?x=1", "/?x=2"));
        assert!(!same(params, "/?x=1&y=2", "/?y=2&x=1"));
        assert!(same("key-order", "/?x=1&y=2", "/?y=2&x=1"));
        assert!(!same("key-order", "/?x=1&x=2", "/?x=2&x=1"));
        assert!(same("except=(\"id\")", "/?a=1&id=5&b=2", "/?id=5"));
        assert!(!same("except=(\"id\")", "/?id=5", "/?id=5&id=5"));
        assert!(same("params", "/?a=1", "/"));
        assert!(same("params=(\"\\\\\" \"&\")", "/?%5C=1&%26=2", "/"));
    }

    proptest! {
        #[test]
        fn a_canonical_query_is_its_own(
            query in "[ab=&%+60-9]{0,20}", order: bool, names in proptest::collection::vec("[ab]{1,2}", 0..3), only: bool,
        ) {
            let word = if only { "except" } else { "params" };
            let quoted = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" ");
            let field = format!("key-order={}, {word}=({quoted})", if order { "?1" } else { "?0" });
            if let Some(variance) = SearchVariance::parse(field.as_bytes()) {
                let once = variance.canonical(Some(&query));
                prop_assert_eq!(&variance.canonical(once.as_deref()), &once);
                prop_assert_eq!(SearchVariance::parse(variance.to_string().as_bytes()), Some(variance));
            }
        }

        #[test]
        fn no_octets_make_it_panic(field in proptest::collection::vec(any::<u8>(), 0..80), query in ".{0,40}") {
            if let Some(variance) = SearchVariance::parse(&field) {
                let _ = variance.canonical(Some(&query));
            }
        }
    }
}
