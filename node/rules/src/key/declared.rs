//! What of a request beside its URL a route puts into the key. Its fields are first brought into the form that both the
//! key and the origin see: what is not in the key cannot shape an answer that others get.

use http::{HeaderMap, HeaderName, HeaderValue, header::COOKIE};
use region_config::{KeyRules, Policy};

use super::{Feed, Key, Secret, device::Device, negotiation};
use crate::caching::write_normalised;

/// Tells the origin the client's country: two letters (ISO 3166-1), or `XX` if it is not known.
pub const COUNTRY: HeaderName = HeaderName::from_static("x-meridian-country");
/// Tells the origin the client's class of device.
pub const DEVICE: HeaderName = HeaderName::from_static("x-meridian-device");

const UNKNOWN_COUNTRY: HeaderValue = HeaderValue::from_static("XX");

/// What is known of a client beside what it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where its address is.
    pub country: Option<[u8; 2]>,
}

/// Brings a request's fields into the form that a route wants: negotiation in few forms, the listed cookies only, country
/// and device said by us. `facts` are none for a request that another node has dressed already. Doing it twice is doing
/// it once.
pub fn dress(policy: &Policy, facts: Option<Facts>, headers: &mut HeaderMap) {
    if let Some(rules) = &policy.normalise {
        negotiation::normalise(rules, headers);
    }
    let Some(rules) = &policy.key else { return };
    if !rules.cookies.is_empty() {
        keep_cookies(&rules.cookies, headers);
    }
    if let Some(facts) = facts {
        // by its own words, before they are read: a client cannot say them
        headers.remove(COUNTRY);
        headers.remove(DEVICE);
        if rules.country {
            let country = facts.country.and_then(|letters| HeaderValue::from_bytes(&letters).ok());
            headers.insert(COUNTRY, country.unwrap_or(UNKNOWN_COUNTRY));
        }
        if rules.device {
            headers.insert(DEVICE, HeaderValue::from_static(Device::of(headers).as_str()));
        }
    }
}

/// Whether a route puts a field into the key, so that it may go to the origin although clients write it.
#[must_use]
pub fn sends(rules: &KeyRules, name: &str) -> bool {
    rules.headers.iter().any(|header| header == name)
        || (rules.country && COUNTRY == *name)
        || (rules.device && DEVICE == *name)
}

/// Leaves the cookies that are listed, in the order of the list, each once: the first of several, as the key has it.
fn keep_cookies(listed: &[String], headers: &mut HeaderMap) {
    let mut left = Vec::new();
    for name in listed {
        if let Some(value) = cookie(headers, name) {
            if !left.is_empty() {
                left.extend_from_slice(b"; ");
            }
            left.extend_from_slice(name.as_bytes());
            left.push(b'=');
            left.extend_from_slice(value);
        }
    }
    match HeaderValue::from_bytes(&left) {
        Ok(value) if !left.is_empty() => {
            headers.insert(COOKIE, value);
        }
        _ => {
            headers.remove(COOKIE);
        }
    }
}

/// The value of the first cookie of a name (RFC 6265 section 5.4).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = pair.split_at_checked(at)?;
        (found.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// The key of what is stored for a URL and the parts that a route declares, of a request that is [`dress`]ed.
#[must_use]
pub fn with_declared(secret: &Secret, primary: Key, rules: &KeyRules, request: &HeaderMap) -> Key {
    let mut feed = Feed::new(&secret.0, b'D');
    feed.bytes(&primary.0.to_le_bytes());
    for name in fields(rules) {
        feed.part(name.as_str().as_bytes());
        feed.bytes(&[u8::from(request.contains_key(&name))]);
        write_normalised(&name, request, |piece| feed.bytes(piece));
        // no field value holds a NUL, so that it ends one as a length before it would
        feed.bytes(&[0]);
    }
    for name in &rules.cookies {
        let value = cookie(request, name);
        feed.part(name.as_bytes());
        feed.bytes(&[u8::from(value.is_some())]);
        feed.part(value.unwrap_or_default());
    }
    Key(feed.finish())
}

/// The parts that a route declares, by name, with what a dressed request has for them.
#[must_use]
pub fn parts(rules: &KeyRules, request: &HeaderMap) -> Vec<(String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = fields(rules).map(|name| {
        let value = request.contains_key(&name).then(|| {
            let mut value = Vec::new();
            write_normalised(&name, request, |piece| value.extend_from_slice(piece));
            text(&value)
        });
        (format!("header {name}"), value)
    });
    let cookies = rules.cookies.iter().map(|name| (format!("cookie {name}"), cookie(request, name).map(text)));
    fields.chain(cookies).collect()
}

fn fields(rules: &KeyRules) -> impl Iterator<Item = HeaderName> {
    let headers = rules.headers.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    headers.chain(rules.country.then_some(COUNTRY)).chain(rules.device.then_some(DEVICE))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn policy() -> Policy {
        let rules = KeyRules {
            headers: vec!["x-forwarded-host".into(), "x-plan".into()],
            cookies: vec!["ab".into(), "plan".into()],
            country: true,
            device: true,
        };
        Policy { key: Some(Box::new(rules)), ..Policy::default() }
    }

    fn request(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn dressed(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = request(lines);
        dress(&policy(), Some(Facts { country: Some(*b"DE") }), &mut headers);
        headers
    }

    #[test]
    fn only_listed_cookies_are_left_each_once_in_one_order() {
        let headers = dressed(&[("cookie", "plan=a; session=secret; plan=b"), ("cookie", "ab=\"1\";x")]);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["ab=\"1\"; plan=a"]);
        assert!(!dressed(&[("cookie", "session=secret")]).contains_key("cookie"));
    }

    #[test]
    fn country_and_device_are_ours_to_say() {
        let headers = dressed(&[("x-meridian-country", "FR"), ("x-meridian-device", "bot"), ("user-agent", "iPhone")]);
        assert_eq!(
            (&headers[COUNTRY], &headers[DEVICE]),
            (&HeaderValue::from_static("DE"), &HeaderValue::from_static("mobile"))
        );
        let mut nowhere = HeaderMap::new();
        dress(&policy(), Some(Facts::default()), &mut nowhere);
        assert_eq!(nowhere[COUNTRY], "XX");
        // a peer's request was dressed where the client came in
        let mut peers = headers.clone();
        dress(&policy(), None, &mut peers);
        assert_eq!(peers, headers);
    }

    #[test]
    fn what_is_in_the_key_may_be_sent_and_nothing_else() {
        let rules = policy().key.unwrap();
        assert!(sends(&rules, "x-forwarded-host") && sends(&rules, "x-meridian-country"));
        assert!(!sends(&rules, "x-original-url"));
        assert!(!sends(&KeyRules::default(), "x-meridian-device"));
    }

    #[test]
    fn each_declared_part_makes_another_key_and_nothing_else_does() {
        let secret = Secret([7; 16]);
        let rules = policy().key.unwrap();
        let of = |lines: &[(&'static str, &str)]| with_declared(&secret, Key(9), &rules, &dressed(lines));
        let base = of(&[("x-plan", "a"), ("cookie", "plan=1")]);
        assert_eq!(base, of(&[("x-plan", "a"), ("cookie", "z=2; plan=1"), ("x-other", "1")]));
        for other in [
            &[("x-plan", "b"), ("cookie", "plan=1")][..],
            &[("x-plan", "a"), ("cookie", "plan=2")],
            &[("x-plan", "a"), ("cookie", "ab=1")],
            &[("x-plan", "a")],
            &[("x-plan", ""), ("cookie", "plan=1")],
            &[("cookie", "plan=1")],
            &[("x-plan", "a"), ("cookie", "plan=1"), ("x-forwarded-host", "")],
            &[("x-plan", "a"), ("cookie", "plan=1"), ("user-agent", "iphone")],
        ] {
            assert_ne!(base, of(other), "{other:?}");
        }
        assert_ne!(base, Key(9));
    }
}
