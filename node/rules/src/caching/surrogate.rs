//! `Surrogate-Control` (Edge Architecture Specification 1.0): what many origins say to caches that work for them, and
//! older than `CDN-Cache-Control`, which counts before it.

use http::{HeaderMap, HeaderName};

use super::{
    directives::{Directives, number},
    lists::{members, trim},
};

const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// The directives that stand for `Cache-Control` and `Expires` wholly: those of `CDN-Cache-Control`, else those of
/// `Surrogate-Control`. None if neither says anything.
pub(crate) fn targeted(headers: &HeaderMap) -> Option<Directives> {
    Directives::targeted(headers).or_else(|| surrogate(headers))
}

/// Reads `max-age` and `no-store`; what else there is (`content`, the time behind a `+`) is ignored. Directives for a
/// named surrogate (`;name`) are not for this one. None if neither is there.
fn surrogate(headers: &HeaderMap) -> Option<Directives> {
    let mut found = Directives::default();
    for member in headers.get_all(SURROGATE_CONTROL).iter().flat_map(|line| members(line.as_bytes())) {
        if is_for_another(member) {
            continue;
        }
        let (name, argument) = match member.iter().position(|byte| *byte == b'=') {
            Some(at) => (member.get(..at).unwrap_or_default(), member.get(at + 1..).unwrap_or_default()),
            None => (member, &b""[..]),
        };
        let name = trim(name);
        if name.eq_ignore_ascii_case(b"no-store") || name.eq_ignore_ascii_case(b"no-store-remote") {
            found.no_store = true;
        } else if name.eq_ignore_ascii_case(b"max-age") {
            // what follows a `+` is how long it may be stale, which our own fields say
            let seconds = argument.split(|byte| *byte == b'+').next().map(trim).and_then(number).unwrap_or(0);
            found.max_age_s = Some(found.max_age_s.map_or(seconds, |earlier| earlier.min(seconds)));
        }
    }
    (found != Directives::default()).then_some(found)
}

fn is_for_another(member: &[u8]) -> bool {
    let mut quoted = false;
    member.iter().any(|byte| {
        quoted ^= *byte == b'"';
        *byte == b';' && !quoted
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(lines: &[(&'static str, &str)]) -> Option<Directives> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        targeted(&headers)
    }

    fn check(line: &str, max_age_s: Option<u32>, no_store: bool) {
        let found = of(&[("surrogate-control", line), ("cache-control", "no-store, max-age=1")]);
        assert_eq!(found, Some(Directives { max_age_s, no_store, ..Directives::default() }), "{line}");
    }

    #[test]
    fn lifetime_and_prohibition_are_read_and_the_rest_is_not() {
        check("max-age=3600", Some(3600), false);
        check("content=\"ESI/1.0\", max-age=3600+600", Some(3600), false);
        check("no-store", None, true);
        check("No-Store-Remote, Max-Age=5", Some(5), true);
        check("max-age=x", Some(0), false);
        check("max-age=60, max-age=30", Some(30), false);
        assert_eq!(of(&[("surrogate-control", "content=\"ESI/1.0\"")]), None);
        assert_eq!(of(&[("surrogate-control", "max-age=60;other")]), None);
        assert_eq!(of(&[("cache-control", "max-age=60")]), None);
    }

    #[test]
    fn cdn_cache_control_counts_before_it() {
        let both = [("surrogate-control", "no-store"), ("cdn-cache-control", "max-age=9")];
        assert_eq!(of(&both).unwrap().max_age_s, Some(9));
        assert!(!of(&both).unwrap().no_store);
        let malformed = [("surrogate-control", "max-age=5"), ("cdn-cache-control", "max-age=x,")];
        assert_eq!(of(&malformed).unwrap().max_age_s, Some(5));
    }
}
