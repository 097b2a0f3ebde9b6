//! What a route leaves of a query: the same for the key and for the origin, so that no parameter that is not in the key
//! can shape an answer.

use std::borrow::Cow;

use region_config::{QueryNames, QueryRules};

use super::Target;

/// Parameters that only tell where a visitor came from: those that mailings, advertisements and networks add to links.
/// `*` stands for any end; letter case does not count.
const TRACKING: [&str; 36] = [
    "utm_*",
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "_kx",
    "_openstat",
    "dclid",
    "epik",
    "fbclid",
    "gad_campaignid",
    "gad_source",
    "gbraid",
    "gclid",
    "gclsrc",
    "hsctatracking",
    "igsh",
    "igshid",
    "li_fat_id",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "msclkid",
    "mtm_*",
    "oly_anon_id",
    "oly_enc_id",
    "rb_clickid",
    "rdt_cid",
    "s_kwcid",
    "srsltid",
    "ttclid",
    "twclid",
    "vero_id",
    "wbraid",
    "yclid",
    "ysclid",
];

/// Why a parameter is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It is not among those that are left.
    NotAllowed,
    /// It is among those that are left out.
    Denied,
    /// It only tracks people.
    Tracking,
    /// There is nothing between two `&`.
    Empty,
}

impl Left {
    /// One word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not-allowed",
            Self::Denied => "denied",
            Self::Tracking => "tracking",
            Self::Empty => "empty",
        }
    }
}

/// A target with what a route leaves of its query. Of a query of which nothing is left, its `?` goes too. Doing it twice
/// is doing it once.
#[must_use]
pub fn reduced<'a>(rules: &QueryRules, target: Target<'a>) -> Target<'a> {
    let Some(query) = &target.query else { return target };
    let mut kept: Vec<&str> = query.split('&').filter(|piece| verdict(rules, piece).is_none()).collect();
    if rules.sort {
        kept.sort_by_cached_key(|piece| name(piece).into_owned());
    }
    let left = kept.join("&");
    let query = match &target.query {
        _ if left.is_empty() => None,
        Some(query) if **query == *left => target.query,
        _ => Some(Cow::Owned(left)),
    };
    Target { path: target.path, query }
}

/// What a route leaves out of a query, in the order it came, and why.
pub fn left_out<'a>(rules: &'a QueryRules, query: &'a str) -> impl Iterator<Item = (&'a str, Left)> {
    query.split('&').filter_map(|piece| Some((piece, verdict(rules, piece)?)))
}

fn verdict(rules: &QueryRules, piece: &str) -> Option<Left> {
    if piece.is_empty() {
        return Some(Left::Empty);
    }
    let name = name(piece);
    match &rules.names {
        // what is named is wanted, also where it tracks
        QueryNames::Allow(allowed) => return (!any(allowed, &name)).then_some(Left::NotAllowed),
        QueryNames::Deny(denied) if any(denied, &name) => return Some(Left::Denied),
        QueryNames::Deny(_) | QueryNames::All => {}
    }
    let tracks = || TRACKING.iter().any(|pattern| covers(pattern, &name.to_ascii_lowercase()));
    (rules.drop_tracking && tracks()).then_some(Left::Tracking)
}

/// A parameter's name, decoded as forms are.
fn name(piece: &str) -> Cow<'_, str> {
    form_urlencoded::parse(piece.as_bytes()).next().map_or(Cow::Borrowed(""), |(name, _)| name)
}

fn any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| covers(pattern, name))
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::Uri;

    use super::*;
    use crate::key::target;

    const ALL: QueryRules = QueryRules { names: QueryNames::All, sort: false, drop_tracking: false };

    fn check(rules: &QueryRules, uri: &str, expected: &str) {
        let uri: Uri = uri.parse().unwrap();
        let found = reduced(rules, target(&uri).unwrap());
        assert_eq!(found.to_string(), expected, "{uri} by {rules:?}");
        assert_eq!(reduced(rules, found.clone()), found, "{uri} by {rules:?}, twice");
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_what_is_allowed_is_left_in_the_order_it_came() {
        let rules = QueryRules { names: QueryNames::Allow(names(&["page", "f[]", "x*"])), ..ALL };
        check(&rules, "/a?q=1&page=2&page=1&xyz&other", "/a?page=2&page=1&xyz");
        check(&rules, "/a?f%5B%5D=1&f%5b%5D=2&f=3", "/a?f%5B%5D=1&f%5B%5D=2");
        check(&rules, "/a?q=1", "/a");
        check(&rules, "/a?", "/a");
        check(&rules, "/a", "/a");
        check(&QueryRules { names: QueryNames::Allow(Vec::new()), ..ALL }, "/a?q=1&page=2", "/a");
    }

    #[test]
    fn what_is_denied_goes_and_what_tracks_where_that_is_wanted() {
        let denied = QueryRules { names: QueryNames::Deny(names(&["session"])), drop_tracking: true, ..ALL };
        check(&denied, "/a?session=1&b=2&utm_source=x&UTM_Medium=y&fbclid=z&c", "/a?b=2&c");
        check(&denied, "/a?%75tm_source=x", "/a");
        let wanted = QueryRules { names: QueryNames::Allow(names(&["gclid"])), drop_tracking: true, ..ALL };
        check(&wanted, "/a?gclid=1&fbclid=2", "/a?gclid=1");
        let why: Vec<_> =
            left_out(&denied, "session=1&b=2&&gclid=3").map(|(piece, why)| (piece, why.as_str())).collect();
        assert_eq!(why, [("session=1", "denied"), ("", "empty"), ("gclid=3", "tracking")]);
    }

    #[test]
    fn sorting_leaves_the_values_of_one_name_in_their_order() {
        let sorted = QueryRules { sort: true, ..ALL };
        check(&sorted, "/a?b=2&a=9&b=1&a=8&&c", "/a?a=9&a=8&b=2&b=1&c");
        check(&sorted, "/a?a=1&b=2", "/a?a=1&b=2");
    }

    #[test]
    fn a_target_that_stays_as_it_is_is_not_copied() {
        let uri: Uri = "/a?a=1&b=2".parse().unwrap();
        let found = reduced(&QueryRules { drop_tracking: true, ..ALL }, target(&uri).unwrap());
        assert!(matches!(found.query, Some(Cow::Borrowed(_))));
    }
}
