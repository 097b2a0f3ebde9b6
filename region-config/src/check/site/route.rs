//! Routes: what contradicts itself, and what may not be in a key.

use crate::{
    config::{CacheMode, Class},
    fault::Gatherer,
    leaf::FieldName,
    shape::At,
    written::{KeySection, RouteSection},
};

/// Longest lifetime that a tight route may allow, in ms.
const TIGHT_MAX_MS: u64 = 60_000;

/// Most names in one list of `query` or `key`.
const NAMES_MAX: usize = 64;

/// Fields that are not the client's to say, that belong to one connection, or that cut an answer to one client.
const UNKEYED: [&str; 28] = [
    "age",
    "cache-control",
    "connection",
    "content-length",
    "cookie",
    "date",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "pragma",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-meridian-country",
    "x-meridian-device",
];

pub(super) fn check(route: &RouteSection, site: &str, gatherer: &mut Gatherer) {
    let about = route.path.as_ref().map_or_else(|| site.to_owned(), |it| format!("{site}: route `{}`", it.value));
    kept(route, &about, gatherer);
    lifetimes(route, &about, gatherer);
    names(route, &about, gatherer);
    if let Some(key) = &route.key {
        keyed(&key.value, &about, gatherer);
    }
}

/// Lifetimes where nothing is kept say two things at once.
fn kept(route: &RouteSection, about: &str, gatherer: &mut Gatherer) {
    let off = route.cache.as_ref().is_some_and(|it| it.value == CacheMode::Off);
    let live = route.class.as_ref().is_some_and(|it| it.value == Class::Live);
    if !off && !live {
        return;
    }
    let why = if off { "`cache = \"off\"`" } else { "`class = \"live\"`" };
    for (name, time) in [
        ("default_ttl", &route.default_ttl),
        ("ttl_min", &route.ttl_min),
        ("ttl_max", &route.ttl_max),
        ("ttl", &route.ttl),
    ] {
        if let Some(time) = time {
            let found = format!("`{name}` where nothing is cached ({why})");
            gatherer.error(time.place, about, found, "one or the other");
        }
    }
    if let Some(bound) = &route.max_staleness {
        let found = format!("`max_staleness` where nothing is cached ({why})");
        gatherer.error(bound.place, about, found, "one or the other");
    }
}

fn lifetimes(route: &RouteSection, about: &str, gatherer: &mut Gatherer) {
    let max_ms = route.ttl_max.as_ref().map(|it| it.value.0);
    if let (Some(min), Some(max_ms)) = (&route.ttl_min, max_ms)
        && min.value.0 > max_ms
    {
        gatherer.error(min.place, about, "`ttl_min` is longer than `ttl_max`", "a floor below the ceiling");
    }
    if let (Some(ttl), Some(_)) = (&route.ttl, route.ttl_min.as_ref().or(route.ttl_max.as_ref())) {
        let found = "`ttl` beside `ttl_min` or `ttl_max`";
        gatherer.error(ttl.place, about, found, "one lifetime for all, or bounds for what responses name");
    }
    if route.class.as_ref().is_none_or(|it| it.value != Class::Tight) {
        return;
    }
    if let Some(window) = &route.stale_if_error {
        let found = "`stale_if_error` where nothing is served stale (`class = \"tight\"`)";
        gatherer.error(window.place, about, found, "one or the other");
    }
    if route.max_staleness.is_some() {
        // then purges end what is kept, not time
        return;
    }
    for (name, time) in [("ttl", &route.ttl), ("ttl_max", &route.ttl_max), ("ttl_min", &route.ttl_min)] {
        if let Some(time) = time.as_ref().filter(|it| it.value.0 > TIGHT_MAX_MS) {
            let found = format!("`{name}` is longer than a minute where `class = \"tight\"`");
            gatherer.error(time.place, about, found, "at most 1m, or `max_staleness`, or another class");
        }
    }
}

fn names(route: &RouteSection, about: &str, gatherer: &mut Gatherer) {
    let query = route.query.as_ref().map(|it| &it.value);
    if let Some(query) = query
        && let (Some(_), Some(first)) = (query.allow.first(), query.deny.first())
    {
        gatherer.error(first.place, about, "both `query.allow` and `query.deny`", "one or the other");
    }
    let key = route.key.as_ref().map(|it| &it.value);
    let languages = route.normalise.as_ref().map_or(&[][..], |it| &it.value.accept_language);
    let places = [
        ("query.allow", query.map_or_else(Vec::new, |it| places(&it.allow))),
        ("query.deny", query.map_or_else(Vec::new, |it| places(&it.deny))),
        ("key.headers", key.map_or_else(Vec::new, |it| places(&it.headers))),
        ("key.cookies", key.map_or_else(Vec::new, |it| places(&it.cookies))),
        ("normalise.accept_language", places(languages)),
    ];
    for (name, places) in places {
        if let Some(place) = places.get(NAMES_MAX) {
            let found = format!("`{name}` has {} elements", places.len());
            gatherer.error(*place, about, found, format!("at most {NAMES_MAX}"));
        }
    }
}

fn places<T>(list: &[At<T>]) -> Vec<crate::fault::Place> {
    list.iter().map(|it| it.place).collect()
}

fn keyed(key: &KeySection, about: &str, gatherer: &mut Gatherer) {
    for name in &key.headers {
        let At { value: FieldName(text), place } = name;
        if UNKEYED.contains(&text.as_str()) {
            let found = format!("`{text}` cannot be in a key");
            let expected = match text.as_str() {
                "cookie" => "the cookies that count, in `key.cookies`",
                "x-meridian-country" | "x-meridian-device" => "`key.country` or `key.device`",
                _ => "a field that clients send and that says what they want",
            };
            gatherer.error(*place, about, found, expected);
        }
    }
}
