//! What of a client's request goes upstream. What a client may not decide is dropped or written anew, so that no
//! field that is not in the key can shape an answer that others will get.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use region_config::KeyRules;
use rules::{caching::fields, key};

use super::spine::Caller;
use crate::snapshot::Shared;

/// Fields that tell an origin to answer for another URL, host, method, client or state than what is in the key, or that
/// frameworks are known to obey from whoever writes them. One that a route has in its key goes on.
const OVERRIDES: [&str; 47] = [
    "base-url",
    "client-ip",
    "forwarded",
    "front-end-https",
    "http-host",
    "meridian-purge",
    "proxy",
    "proxy-host",
    "request-uri",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-original-path",
    "x-forwarded",
    "x-forwarded-by",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-host",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-invoke-path",
    "x-invoke-status",
    "x-meridian-country",
    "x-meridian-debug",
    "x-meridian-device",
    "x-method-override",
    "x-middleware-subrequest",
    "x-now-route-matches",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-proxy-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-script-name",
    "x-url-scheme",
];

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The fields to send upstream. `keyed` is what the route has in the key, if the request was looked up.
#[must_use]
pub fn headers(
    shared: &Shared,
    caller: Caller,
    client: &HeaderMap,
    authority: &str,
    keyed: Option<&KeyRules>,
) -> HeaderMap {
    let mut headers = client.clone();
    fields::strip_request(&mut headers);
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(header::HOST, host);
    }
    if let Caller::Client { address, https, .. } = caller {
        drop_overrides(&mut headers, keyed);
        headers.insert(X_FORWARDED_FOR.clone(), address_value(address));
        let scheme = if https { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(scheme));
        headers.append(header::VIA, shared.via.clone());
    }
    headers
}

/// Drops what would override the key. Names with `_` too, which many servers take for `-`.
fn drop_overrides(headers: &mut HeaderMap, keyed: Option<&KeyRules>) {
    let sent = |name: &str| keyed.is_some_and(|rules| key::sends(rules, name));
    for name in OVERRIDES {
        if !sent(name) {
            headers.remove(name);
        }
    }
    let disguised: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_') && OVERRIDES.contains(&name.as_str().replace('_', "-").as_str()))
        .cloned()
        .collect();
    for name in disguised {
        headers.remove(name);
    }
}

fn address_value(address: IpAddr) -> HeaderValue {
    let address = address.to_canonical().to_string();
    HeaderValue::try_from(address).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Whether a request has been through this node already (RFC 9110 section 7.6.3).
#[must_use]
pub fn is_looping(shared: &Shared, client: &HeaderMap) -> bool {
    let own = shared.via.as_bytes();
    client
        .get_all(header::VIA)
        .iter()
        .any(|value| value.as_bytes().split(|byte| *byte == b',').any(|member| member.trim_ascii() == own))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_would_override_the_key_is_dropped_unless_it_is_in_the_key() {
        let sent = |keyed: Option<&KeyRules>| {
            let mut headers = HeaderMap::new();
            for name in ["x-forwarded-host", "x_forwarded_host", "X-Original-URL", "x_http_method_override", "x-plan_b"]
            {
                headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("evil"));
            }
            drop_overrides(&mut headers, keyed);
            let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(sent(None), ["x-plan_b"]);
        let keyed = KeyRules { headers: vec!["x-forwarded-host".into()], ..KeyRules::default() };
        assert_eq!(sent(Some(&keyed)), ["x-forwarded-host", "x-plan_b"]);
    }

    #[test]
    fn all_that_is_dropped_is_a_name_in_lower_case() {
        for name in OVERRIDES {
            assert_eq!(HeaderName::from_static(name).as_str(), name);
        }
        assert!(OVERRIDES.is_sorted());
    }
}
