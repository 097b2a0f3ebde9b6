//! What an order names, brought into the form of purge keys. What cannot be meant is refused with what was found and
//! expected: a purge that means something else than the application thinks is worse than none.

use http::Uri;
use region_config::{HostPattern, Site};
use rules::{
    key::Target,
    purge::{HOST_BYTES_MAX, KEYS_MAX, PREFIX_SEGMENTS_MAX, PurgeKey, TAG_BYTES_MAX, TARGET_BYTES_MAX},
};

use crate::{
    admin::{
        model::PurgeOrder,
        problem::{Problem, Refusal},
        sites::host as written,
    },
    edge::{keyed, sites},
};

const SCOPES: &str = "at least one of `urls`, `prefixes`, `hosts` and `tags`, or `\"everything\": true`";

/// The keys of an order, each once and in an order of their own, so that the same things are the same purge.
pub(super) fn keys(site: &Site, order: &PurgeOrder) -> Result<Vec<PurgeKey>, Refusal> {
    let count = order.tags.len() + order.urls.len() + order.prefixes.len() + order.hosts.len();
    if order.everything && count > 0 {
        let detail = "`everything` purges all of it, and something is named beside it";
        return Err(Problem::unprocessable(detail).expected("either `everything`, or names"));
    }
    if order.everything {
        return Ok(vec![PurgeKey::Site]);
    }
    if count == 0 {
        return Err(nothing());
    }
    if count > KEYS_MAX {
        let detail = "the order names too much: a batch takes more orders, and a prefix or a tag covers more";
        return Err(Problem::unprocessable(detail).found(&count.to_string()).expected(format!("at most {KEYS_MAX}")));
    }
    let tags = order.tags.iter().map(|tag| tag_key(tag));
    let urls = order.urls.iter().map(|url| url_key(site, url));
    let prefixes = order.prefixes.iter().map(|prefix| prefix_key(site, prefix));
    let hosts = order.hosts.iter().map(|host| host_key(site, host));
    let mut keys: Vec<PurgeKey> = tags.chain(urls).chain(prefixes).chain(hosts).collect::<Result<_, _>>()?;
    keys.sort_by(|a, b| place(a).cmp(&place(b)));
    keys.dedup();
    Ok(keys)
}

/// An order that says nothing never means everything.
pub(super) fn nothing() -> Refusal {
    Problem::unprocessable("the order does not say what to purge").expected(SCOPES)
}

fn place(key: &PurgeKey) -> (u8, &str, &str) {
    match key {
        PurgeKey::Realm => (0, "", ""),
        PurgeKey::Site => (1, "", ""),
        PurgeKey::Host(host) => (2, host, ""),
        PurgeKey::Prefix { host, path } => (3, host, path),
        PurgeKey::Url { host, target } => (4, host, target),
        PurgeKey::Tag(tag) => (5, tag, ""),
    }
}

fn tag_key(tag: &str) -> Result<PurgeKey, Refusal> {
    let fits = (1..=TAG_BYTES_MAX).contains(&tag.len()) && !tag.contains(|c: char| c.is_whitespace() || c.is_control());
    if fits {
        return Ok(PurgeKey::Tag(tag.to_owned()));
    }
    let expected = format!("1 to {TAG_BYTES_MAX} bytes without spaces");
    Err(Problem::unprocessable("a tag cannot be one").found(tag).expected(expected))
}

fn url_key(site: &Site, url: &str) -> Result<PurgeKey, Refusal> {
    let (host, uri) = absolute(site, url, "https://shop.example/a?b=c")?;
    let target = target(&uri, url)?;
    // what the route leaves out of the query is not in what is stored either
    let policy = sites::route(site, &target.path).map(|route| &route.policy);
    let target = policy.map_or_else(|| target.clone(), |policy| keyed::target(policy, target.clone()));
    Ok(PurgeKey::Url { host, target: target.to_string() })
}

fn prefix_key(site: &Site, prefix: &str) -> Result<PurgeKey, Refusal> {
    const EXAMPLE: &str = "https://shop.example/a/";
    let fault = |detail: &str, expected: String| Err(Problem::unprocessable(detail).found(prefix).expected(expected));
    let (host, uri) = absolute(site, prefix, EXAMPLE)?;
    let path = uri.path();
    if prefix.contains('?') {
        return fault("a prefix has a query, and all queries of a path are under it", format!("`{EXAMPLE}`"));
    }
    if !prefix.ends_with('/') {
        let detail = "a prefix does not end with `/`, though it means whole segments of a path";
        return fault(detail, format!("`{EXAMPLE}`, which covers `/a`, `/a/` and all below, and never `/ab`"));
    }
    let lower = path.to_ascii_lowercase();
    if lower.contains("%2f") || lower.contains("%5c") || path.contains('\\') {
        return fault("a prefix has an encoded slash or a backslash, which is part of a segment", "plain `/`".into());
    }
    if path.split('/').any(|segment| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")) {
        return fault("a prefix has `.` or `..` among its segments", "the path that is really meant".into());
    }
    let path = target(&uri, prefix)?.path.into_owned();
    let bare = path.trim_end_matches('/');
    if bare.is_empty() {
        return fault("a prefix covers a whole host", format!("`\"hosts\": [\"{host}\"]`"));
    }
    let segments = bare.bytes().filter(|byte| *byte == b'/').count();
    if segments > PREFIX_SEGMENTS_MAX {
        return fault(
            &format!("a prefix is {segments} segments deep"),
            format!("at most {PREFIX_SEGMENTS_MAX}; what is deeper is purged by URL or tag"),
        );
    }
    Ok(PurgeKey::Prefix { host, path: bare.to_owned() })
}

fn host_key(site: &Site, host: &str) -> Result<PurgeKey, Refusal> {
    let named = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if !(1..=HOST_BYTES_MAX).contains(&named.len()) || !named.bytes().all(label) {
        let expected = "a host such as `shop.example`, without scheme, port and path";
        return Err(Problem::unprocessable("a host cannot be one").found(host).expected(expected));
    }
    own_host(site, &named, host)?;
    Ok(PurgeKey::Host(named))
}

/// An absolute URL of one of the site's hosts, without what no request has.
fn absolute(site: &Site, url: &str, example: &str) -> Result<(String, Uri), Refusal> {
    let fault = |detail: String| {
        let expected = format!("an absolute URL such as `{example}`, without fragment");
        Problem::unprocessable(detail).found(url).expected(expected)
    };
    if url.len() > TARGET_BYTES_MAX {
        let found = format!("{} bytes", url.len());
        let expected = format!("at most {TARGET_BYTES_MAX} bytes");
        return Err(Problem::unprocessable("a URL is too long").found(&found).expected(expected));
    }
    let uri: Uri = url.parse().map_err(|error| fault(format!("a URL cannot be read: {error}")))?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(fault("a URL is not absolute, or neither http nor https".into()));
    };
    if url.contains('#') || authority.as_str().contains('@') {
        return Err(fault("a URL has a fragment or a user name".into()));
    }
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    own_host(site, &host, url)?;
    Ok((host, uri))
}

fn own_host(site: &Site, host: &str, found: &str) -> Result<(), Refusal> {
    if site.hosts.iter().any(|pattern| matches(pattern, host)) {
        return Ok(());
    }
    let hosts: Vec<_> = site.hosts.iter().map(written).collect();
    let detail = format!("site `{}` does not answer for this host", site.name);
    Err(Problem::unprocessable(detail).found(found).expected(hosts.join(", ")))
}

fn target<'a>(uri: &'a Uri, url: &str) -> Result<Target<'a>, Refusal> {
    rules::key::target(uri).map_err(|error| {
        let detail = format!("a URL cannot be a request: {error}");
        Problem::unprocessable(detail).found(url).expected("a URL that clients ask for")
    })
}

/// Whether a host falls under a pattern.
fn matches(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(exact) => exact == host,
        HostPattern::Suffix(suffix) => {
            host.strip_suffix(suffix.as_str()).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
        }
        HostPattern::Any => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::*;
    use crate::observe::tests::site;

    fn check(mut order: Value) -> Result<Vec<PurgeKey>, (u16, String)> {
        order["site"] = "shop".into();
        keys(&site("shop"), &serde_json::from_value(order).unwrap()).map_err(|p| (p.status, p.detail))
    }

    fn url(target: &str) -> PurgeKey {
        PurgeKey::Url { host: "shop.example".into(), target: target.into() }
    }

    fn prefix(path: &str) -> PurgeKey {
        PurgeKey::Prefix { host: "shop.example".into(), path: path.into() }
    }

    #[test]
    fn an_order_that_names_nothing_is_refused_and_never_means_everything() {
        for empty in [json!({}), json!({"tags": [], "urls": [], "prefixes": [], "hosts": [], "everything": false})] {
            assert_eq!(check(empty), Err((422, "the order does not say what to purge".into())));
        }
        assert_eq!(check(json!({"everything": true})), Ok(vec![PurgeKey::Site]));
    }

    #[test]
    fn what_an_order_names_is_brought_into_the_form_of_cache_keys() {
        let named = json!({
            "tags": ["p-1", "p-1"],
            "urls": ["HTTPS://SHOP.example:8443/%7ea/../b?c=%2f"],
            "prefixes": ["https://shop.example/a/", "http://Shop.Example/%7eb/c/"],
            "hosts": ["Shop.Example."],
        });
        let expected = [
            PurgeKey::Host("shop.example".into()),
            prefix("/a"),
            prefix("/~b/c"),
            url("/b?c=%2F"),
            PurgeKey::Tag("p-1".into()),
        ];
        assert_eq!(check(named).unwrap(), expected);
        let (one, other) = (json!({"tags": ["a", "b"]}), json!({"tags": ["b", "a", "b"]}));
        assert_eq!(check(one), check(other), "the same things are the same purge");
    }

    #[test]
    fn a_prefix_that_is_absurd_is_refused() {
        let deep = |segments: usize| format!("https://shop.example{}/", "/a".repeat(segments));
        assert!(check(json!({"prefixes": [deep(16)]})).is_ok());
        for (bad, said) in [
            (deep(17), "17 segments deep"),
            ("https://shop.example/a".into(), "does not end with `/`"),
            ("https://shop.example/a?b/".into(), "query"),
            ("https://shop.example/a/../".into(), "`..`"),
            ("https://shop.example/a/%2E%2e/b/".into(), "`..`"),
            ("https://shop.example/./".into(), "`..`"),
            ("https://shop.example/a%2Fb/".into(), "encoded slash"),
            ("https://shop.example/a%5cb/".into(), "encoded slash"),
            ("https://shop.example/".into(), "whole host"),
            ("https://shop.example//".into(), "whole host"),
            (format!("https://shop.example/{}/", "a".repeat(TARGET_BYTES_MAX)), "too long"),
            ("/a/".into(), "not absolute"),
            ("https://other.example/a/".into(), "does not answer"),
            ("https://shop.example/a/#b/".into(), "fragment"),
            ("https://shop.example/%00/".into(), "cannot be a request"),
        ] {
            let (status, detail) = check(json!({"prefixes": [bad.clone()]})).unwrap_err();
            assert!(status == 422 && detail.contains(said), "{bad}: {detail}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for order in [
            json!({"everything": true, "tags": ["a"]}),
            json!({"everything": true, "hosts": ["shop.example"]}),
            json!({"tags": [""]}),
            json!({"tags": ["a b"]}),
            json!({"tags": ["x".repeat(257)]}),
            json!({"tags": vec!["x"; KEYS_MAX + 1]}),
            json!({"urls": ["/a"]}),
            json!({"urls": ["ftp://shop.example/"]}),
            json!({"urls": ["http://other.example/"]}),
            json!({"urls": ["http://shop.example/%00"]}),
            json!({"urls": ["http://u@shop.example/"]}),
            json!({"urls": [format!("http://shop.example/{}", "x".repeat(9_000))]}),
            json!({"hosts": ["other.example"]}),
            json!({"hosts": ["https://shop.example"]}),
            json!({"hosts": ["shop.example/a"]}),
            json!({"hosts": [""]}),
            json!({"hosts": ["*"]}),
        ] {
            assert_eq!(check(order.clone()).map_err(|(status, _)| status), Err(422), "{order}");
        }
    }

    #[test]
    fn a_suffix_pattern_needs_a_label_before_it() {
        let pattern = HostPattern::Suffix("example.com".into());
        assert!(matches(&pattern, "a.example.com") && matches(&pattern, "a.b.example.com"));
        assert!(!matches(&pattern, "example.com") && !matches(&pattern, "badexample.com"));
        assert!(!matches(&pattern, ".example.com"));
    }
}
