//! What of a client's request goes upstream. What a client may not decide is dropped or written anew, so that no
//! field that is not in the key can shape an answer that others will get.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use rules::caching::fields;

use super::spine::Caller;
use crate::snapshot::Shared;

/// Fields that tell an origin to answer for another URL, host or method than the one that is in the key.
const OVERRIDES: [&str; 14] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The fields to send upstream.
#[must_use]
pub fn headers(shared: &Shared, caller: Caller, client: &HeaderMap, authority: &str) -> HeaderMap {
    let mut headers = client.clone();
    fields::strip_request(&mut headers);
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(header::HOST, host);
    }
    if let Caller::Client { address, https } = caller {
        for name in OVERRIDES {
            headers.remove(name);
        }
        headers.insert(X_FORWARDED_FOR.clone(), address_value(address));
        let scheme = if https { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(scheme));
        headers.append(header::VIA, shared.via.clone());
    }
    headers
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
