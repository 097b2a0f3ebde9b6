//! `Vary` (RFC 9110 section 12.5.5, RFC 9111 section 4.1).

use http::{HeaderMap, HeaderName, header::VARY};

use super::lists::members;

/// Most request fields that responses are kept apart by.
const NAMES_MAX: usize = 16;

/// The request fields that a response varies by: sorted, each once, at least one. `Vary: *` is never one of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VarySpec(pub Box<[HeaderName]>);

/// What a response varies by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    /// Nothing: it answers any request for its address.
    Nothing,
    /// These request fields.
    Fields(VarySpec),
    /// `*`, anywhere in any line: it answers no other request.
    Anything,
    /// More fields than are kept apart, or something that is no field name.
    TooWide,
}

impl Vary {
    /// Reads all `Vary` lines.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let all = || headers.get_all(VARY).iter().flat_map(|line| members(line.as_bytes()));
        if all().any(|member| member == b"*") {
            return Self::Anything;
        }
        let mut names = Vec::new();
        for member in all() {
            let Ok(name) = HeaderName::from_bytes(member) else { return Self::TooWide };
            names.push(name);
            if names.len() > 4 * NAMES_MAX {
                return Self::TooWide;
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        match names.len() {
            0 => Self::Nothing,
            1..=NAMES_MAX => Self::Fields(VarySpec(names.into_boxed_slice())),
            _ => Self::TooWide,
        }
    }
}

/// Hands over the values of a request field in the form in which two requests are compared (RFC 9111 section 4.1):
/// lines joined, white space around commas left out, and for fields of content negotiation also letter case and white
/// space around `;` and `=`. Members keep their order. An absent field is told apart from an empty one by the caller.
pub(crate) fn write_normalised(name: &HeaderName, headers: &HeaderMap, mut write: impl FnMut(&[u8])) {
    let negotiates = matches!(name.as_str(), "accept" | "accept-encoding" | "accept-language" | "accept-charset");
    let mut first = true;
    for line in headers.get_all(name) {
        for member in members(line.as_bytes()) {
            if !first {
                write(b",");
            }
            first = false;
            if negotiates && !member.contains(&b'"') {
                for byte in member.iter().filter(|byte| !matches!(byte, b' ' | b'\t')) {
                    write(&[byte.to_ascii_lowercase()]);
                }
            } else {
                write(member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn vary(lines: &[&str]) -> Vary {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(VARY, HeaderValue::from_str(line).unwrap());
        }
        Vary::of(&headers)
    }

    fn check_same(name: &str, one: &[&str], other: &[&str], same: bool) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let normal = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(&name, HeaderValue::from_str(line).unwrap());
            }
            let mut out = Vec::new();
            write_normalised(&name, &headers, |part| out.extend_from_slice(part));
            out
        };
        assert_eq!(normal(one) == normal(other), same, "{name}: {one:?} and {other:?}");
    }

    #[test]
    fn a_star_anywhere_means_anything() {
        for lines in
            [&["*"][..], &["*, *"], &["*", "*"], &[", *"], &["", "*"], &["*, Foo"], &["Foo, *"], &["Foo", "a,*"]]
        {
            assert_eq!(vary(lines), Vary::Anything, "{lines:?}");
        }
    }

    #[test]
    fn names_are_sorted_and_kept_once_in_lower_case() {
        let expected = Vary::Fields(VarySpec(Box::new([http::header::ACCEPT, HeaderName::from_static("foo")])));
        assert_eq!(vary(&["Foo, Accept", "fOO,, accept"]), expected);
        assert_eq!(vary(&[]), Vary::Nothing);
        assert_eq!(vary(&["", " ,"]), Vary::Nothing);
    }

    #[test]
    fn too_many_names_and_no_names_are_too_wide() {
        let many: Vec<_> = (0..17).map(|n| format!("a{n}")).collect();
        assert_eq!(vary(&[&many.join(",")]), Vary::TooWide);
        assert_eq!(vary(&["a b"]), Vary::TooWide);
    }

    #[test]
    fn values_compare_without_the_white_space_and_lines_that_do_not_count() {
        check_same("foo", &["1, 2"], &["1", "2"], true);
        check_same("foo", &["1,2"], &["  1 ,\t2"], true);
        check_same("foo", &["1 2"], &["12"], false);
        check_same("foo", &["a"], &["A"], false);
        check_same("foo", &["1, 2"], &["2, 1"], false);
        check_same("foo", &["\"a, b\""], &["\"a,b\""], false);
        check_same("accept-language", &["EN, de ; q=0.5"], &["en,de;q=0.5"], true);
        check_same("accept-language", &["en, de"], &["de, en"], false);
        check_same("accept", &["text/html;x=\"A\""], &["text/html;x=\"a\""], false);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(line in proptest::collection::vec(32u8..=255, 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let mut headers = HeaderMap::new();
                headers.append(VARY, value);
                let _ = Vary::of(&headers);
                write_normalised(&VARY, &headers, |_| {});
            }
        }
    }
}
