//! Fields of content negotiation in few forms: what millions of clients write in thousands of ways selects among few
//! variants. What comes out is always something that the client takes, so that no answer to it is wrong.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE},
};
use region_config::Normalise;

use crate::caching::list_members;

/// The codings that are told apart, in the order in which they are written.
const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// Members of a field that are looked at.
const MEMBERS_MAX: usize = 64;

/// Brings a request's fields of negotiation into the forms that a route wants.
pub(super) fn normalise(rules: &Normalise, headers: &mut HeaderMap) {
    if rules.accept_encoding {
        let taken = codings(headers);
        put(headers, ACCEPT_ENCODING, &taken);
    }
    if !rules.accept_language.is_empty() {
        let best = language(headers, &rules.accept_language).unwrap_or_default().to_owned();
        put(headers, ACCEPT_LANGUAGE, &best);
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) if !value.is_empty() => {
            headers.insert(name, value);
        }
        _ => {
            headers.remove(name);
        }
    }
}

/// Those of the common codings that a request takes (RFC 9110 section 12.5.3), in one order.
fn codings(headers: &HeaderMap) -> String {
    let weights: Vec<(Vec<u8>, u16)> = weighted(headers, &ACCEPT_ENCODING).collect();
    let weight = |coding: &str| {
        let named = |name: &[u8]| weights.iter().find(|(member, _)| member == name).map(|(_, weight)| *weight);
        named(coding.as_bytes())
            .or_else(|| (coding == "gzip").then(|| named(b"x-gzip")).flatten())
            .or_else(|| named(b"*"))
    };
    let taken: Vec<&str> =
        CODINGS.into_iter().filter(|coding| weight(coding).is_some_and(|weight| weight > 0)).collect();
    taken.join(", ")
}

/// The language that a request likes best among those that there are, by look-up (RFC 4647 section 3.4): `de-AT` is
/// served by `de`. None if it takes none of them; then the origin decides.
fn language<'a>(headers: &HeaderMap, there: &'a [String]) -> Option<&'a str> {
    let mut wanted: Vec<(Vec<u8>, u16)> =
        weighted(headers, &ACCEPT_LANGUAGE).filter(|(_, weight)| *weight > 0).collect();
    // of one weight, the first written is liked best
    wanted.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    wanted.iter().find_map(|(range, _)| looked_up(range, there))
}

fn looked_up<'a>(range: &[u8], there: &'a [String]) -> Option<&'a str> {
    let mut rest = range;
    loop {
        if let Some(found) = there.iter().find(|language| language.as_bytes() == rest) {
            return Some(found);
        }
        let cut = rest.iter().rposition(|byte| *byte == b'-')?;
        rest = rest.get(..cut)?;
    }
}

/// The members of a field in lower case, each with its weight in thousandths (RFC 9110 section 12.4.2); a weight that
/// cannot be read is 0.
fn weighted(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = (Vec<u8>, u16)> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| list_members(line.as_bytes())).take(MEMBERS_MAX).map(|member| {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let value = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        (value, weight.map_or(1000, thousandths))
    })
}

fn thousandths(weight: &[u8]) -> u16 {
    let number = std::str::from_utf8(weight).ok().filter(|text| text.len() <= 5 && !text.starts_with(['+', '-']));
    let number = number.and_then(|text| text.parse::<f32>().ok()).filter(|weight| (0.0..=1.0).contains(weight));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 1000")]
    number.map_or(0, |weight| (weight * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn rules() -> Normalise {
        Normalise { accept_encoding: true, accept_language: vec!["en".into(), "de".into(), "pt-br".into()] }
    }

    fn check(name: &HeaderName, value: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        normalise(&rules(), &mut headers);
        assert_eq!(headers.get(name).map(|value| value.to_str().unwrap()), expected, "{name}: {value}");
    }

    #[test]
    fn codings_become_those_that_are_common() {
        for (value, expected) in [
            ("gzip, deflate, br, zstd", Some("zstd, br, gzip")),
            ("br;q=1.0, GZIP;q=0.2", Some("br, gzip")),
            ("gzip;q=0, br", Some("br")),
            ("*", Some("zstd, br, gzip")),
            ("*;q=0.1, br;q=0", Some("zstd, gzip")),
            ("x-gzip", Some("gzip")),
            ("identity", None),
            ("deflate", None),
            ("gzip;q=abc", None),
            ("", None),
        ] {
            check(&ACCEPT_ENCODING, value, expected);
        }
    }

    #[test]
    fn the_language_that_is_liked_best_among_those_there_are_is_left() {
        for (value, expected) in [
            ("de-AT, de;q=0.9, en;q=0.8", Some("de")),
            ("en;q=0.5, de;q=0.7", Some("de")),
            ("fr, en;q=0.1", Some("en")),
            ("pt-BR, en", Some("pt-br")),
            ("pt", None),
            ("fr", None),
            ("de;q=0", None),
            ("*", None),
        ] {
            check(&ACCEPT_LANGUAGE, value, expected);
        }
    }

    proptest! {
        #[test]
        fn doing_it_twice_is_doing_it_once_and_nothing_panics(
            codings in proptest::collection::vec(32u8..=255, 0..60), languages in "[a-zA-Z*;=q0-9.,-]{0,40}",
        ) {
            let mut headers = HeaderMap::new();
            if let Ok(codings) = HeaderValue::from_bytes(&codings) {
                headers.insert(ACCEPT_ENCODING, codings);
            }
            headers.insert(ACCEPT_LANGUAGE, languages.parse().unwrap());
            normalise(&rules(), &mut headers);
            let once = headers.clone();
            normalise(&rules(), &mut headers);
            prop_assert_eq!(once, headers);
        }
    }
}
