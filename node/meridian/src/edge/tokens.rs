//! Tokens of purges that clients show, to read their own writes. They are for this node: neither origin nor key sees them.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memmem::Finder;
use wire::purge::{Token, decode_token};

use super::sites::Served;
use crate::{
    fill::flight,
    ledger::{Heard, Tokens},
};

/// The field that tokens come and go in.
pub static PURGE: HeaderName = HeaderName::from_static("meridian-purge");
/// The cookie that they may come in.
const COOKIE: &[u8] = b"meridian-purge=";
/// Finds what may be that cookie: along 1,000 bytes of cookies in some 100 ns, and ten times as long pair by pair.
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(COOKIE));
/// Tokens of one request that are looked at.
const TOKENS_MAX: usize = 8;

/// What a client has shown: tokens, and how many there were that are none.
#[derive(Debug, Default)]
pub(super) struct Shown {
    tokens: Vec<Token>,
    malformed: u64,
}

/// Takes the tokens out of a request; none if it has none. On every hit: two looks for a field that is rarely there, and one
/// along the cookies if there are any.
#[inline]
pub(super) fn shown(headers: &mut HeaderMap) -> Option<Box<Shown>> {
    let by_field = headers.contains_key(&PURGE);
    let by_cookie = headers.contains_key(header::COOKIE)
        && headers.get_all(header::COOKIE).iter().any(|cookies| FINDER.find(cookies.as_bytes()).is_some());
    (by_field || by_cookie).then(|| Box::new(take(headers)))
}

#[cold]
fn take(headers: &mut HeaderMap) -> Shown {
    let mut shown = Shown::default();
    for field in headers.get_all(&PURGE) {
        shown.read(field.as_bytes());
    }
    headers.remove(&PURGE);
    let cookies: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for cookie in cookies {
        let mut others: Vec<&[u8]> = Vec::new();
        for pair in pairs(&cookie) {
            match value(pair) {
                Some(tokens) => shown.read(tokens),
                None => others.push(pair),
            }
        }
        if let Ok(rest) = HeaderValue::from_bytes(&others.join(&b"; "[..]))
            && !rest.is_empty()
        {
            headers.append(header::COOKIE, rest);
        }
    }
    shown
}

fn pairs(cookies: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    cookies.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn value(pair: &[u8]) -> Option<&[u8]> {
    pair.strip_prefix(COOKIE)
}

impl Shown {
    /// Tokens with `,` or `.` between them.
    fn read(&mut self, text: &[u8]) {
        let parts = text.split(|byte| matches!(byte, b',' | b'.')).map(<[u8]>::trim_ascii);
        for part in parts.filter(|part| !part.is_empty()) {
            match decode_token(part) {
                Ok(token) if self.tokens.len() < TOKENS_MAX => self.tokens.push(token),
                _ => self.malformed += 1,
            }
        }
    }

    /// Waits a moment for what the client has seen purged. If it has not come, the flight after which one at the origin will
    /// do.
    pub(super) async fn awaited(self: Box<Self>, served: &Served) -> Option<u64> {
        let figures = served.realm.figures();
        let (own, foreign): (Vec<_>, Vec<_>) =
            self.tokens.into_iter().partition(|token| token.realm == *served.realm.name());
        figures.note_tokens(Tokens::Ignored, self.malformed + foreign.len() as u64);
        if own.is_empty() {
            return None;
        }
        let (counted, after) = match served.realm.hear(&own).await {
            Heard::Before => (Tokens::Heard, None),
            Heard::Waited => (Tokens::Waited, None),
            Heard::NotYet => (Tokens::NotYet, Some(flight::newest())),
        };
        figures.note_tokens(counted, own.len() as u64);
        after
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::RealmId;
    use wire::purge::encode_token;

    use super::*;

    fn token(request: u128) -> String {
        encode_token(&Token { realm: RealmId::parse("eu").unwrap(), request, places: Vec::new() })
    }

    fn check(fields: &[(&'static str, &str)], found: &[u128], malformed: u64, left: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let shown = shown(&mut headers).unwrap_or_default();
        let requests: Vec<u128> = shown.tokens.iter().map(|token| token.request).collect();
        assert_eq!((requests.as_slice(), shown.malformed), (found, malformed), "{fields:?}");
        let seen: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(seen, left, "{fields:?}");
    }

    #[test]
    fn tokens_are_found_and_taken_out_and_all_else_stays() {
        let (a, b) = (token(1), token(2));
        check(&[("accept", "*/*"), ("cookie", "x=1; y=2")], &[], 0, &[("accept", "*/*"), ("cookie", "x=1; y=2")]);
        check(&[("meridian-purge", &a)], &[1], 0, &[]);
        check(&[("meridian-purge", &format!("{a}, {b}"))], &[1, 2], 0, &[]);
        check(&[("cookie", &format!("meridian-purge={a}.{b}"))], &[1, 2], 0, &[]);
        check(&[("cookie", &format!("x=1; meridian-purge={a}; y=2"))], &[1], 0, &[("cookie", "x=1; y=2")]);
        let both = [("cookie", format!("meridian-purge={a}")), ("meridian-purge", b)];
        let both: Vec<_> = both.iter().map(|(name, value)| (*name, value.as_str())).collect();
        check(&both, &[2, 1], 0, &[]);
    }

    #[test]
    fn what_is_no_token_is_counted_and_taken_out() {
        check(&[("meridian-purge", "x"), ("cookie", "meridian-purge=; a=b")], &[], 1, &[("cookie", "a=b")]);
        check(&[("cookie", "not-meridian-purge=x")], &[], 0, &[("cookie", "not-meridian-purge=x")]);
        let many = vec![token(7); 10].join(",");
        check(&[("meridian-purge", &many)], &[7; 8], 2, &[]);
    }
}
