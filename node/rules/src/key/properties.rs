//! What holds for all keys: no two different requests form one, and normal forms are normal.
#![allow(clippy::unwrap_used, reason = "tests")]

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use region_config::{KeyRules, Policy, QueryNames, QueryRules};

use super::*;

const SECRET: Secret = Secret(*b"0123456789abcdef");

/// What a request is told apart by. Words are short and few, so that parts often are each other's beginnings and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    tenant: String,
    site: String,
    https: bool,
    host: String,
    path: String,
    query: Option<String>,
    header: Option<String>,
    cookie: Option<String>,
}

fn request() -> impl Strategy<Value = Request> {
    let word = "[ab]{1,2}";
    let part = || proptest::option::of("[ab,;=&?/]{0,3}");
    let cookie = proptest::option::of("[ab=]{0,3}");
    let names = (word, word, any::<bool>(), word, "[ab/]{0,3}", part(), proptest::option::of("[ab]{0,3}"), cookie);
    names.prop_map(|(tenant, site, https, host, path, query, header, cookie)| Request {
        tenant,
        site,
        https,
        host,
        path: format!("/{path}"),
        query,
        header,
        cookie,
    })
}

impl Request {
    fn key(&self) -> Key {
        let target = Target { path: Cow::Borrowed(&self.path), query: self.query.as_deref().map(Cow::Borrowed) };
        let (tenant, site) = (TenantId::parse(&self.tenant).unwrap(), SiteId::parse(&self.site).unwrap());
        let primary = primary(&SECRET, &tenant, &site, self.https, &self.host, &target);
        let rules = KeyRules { headers: vec!["a".into()], cookies: vec!["b".into()], ..KeyRules::default() };
        let mut headers = HeaderMap::new();
        if let Some(value) = &self.header {
            headers.insert("a", HeaderValue::from_str(value).unwrap());
        }
        if let Some(value) = &self.cookie {
            headers.insert("cookie", HeaderValue::from_str(&format!("b={value}")).unwrap());
        }
        with_declared(&SECRET, primary, &rules, &headers)
    }
}

fn names() -> impl Strategy<Value = QueryNames> {
    let list = proptest::collection::vec("[ab]{0,2}\\*?", 0..3);
    (0..3, list).prop_map(|(kind, list)| match kind {
        0 => QueryNames::All,
        1 => QueryNames::Allow(list),
        _ => QueryNames::Deny(list),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn two_requests_have_one_key_only_if_they_are_one(one in request(), other in request()) {
        prop_assert_eq!(one.key() == other.key(), one == other);
    }

    /// The same of one request with one part changed, which chance seldom gives.
    #[test]
    fn no_tenant_or_site_forms_anothers_key(one in request(), tenant in "[ab]{1,3}", site in "[ab]{1,3}") {
        let other = Request { tenant, site, ..one.clone() };
        prop_assert_eq!(one.key() == other.key(), one == other);
    }

    #[test]
    fn a_normal_target_stays_as_it_is(path in "/[a-zA-Z0-9./%~;:@_-]{0,40}", query in proptest::option::of("[a-z0-9=&%+./?]{0,40}")) {
        let text = query.map_or(path.clone(), |query| format!("{path}?{query}"));
        let Ok(uri) = text.parse::<Uri>() else { return Ok(()) };
        let Ok(once) = target(&uri) else { return Ok(()) };
        let again: Uri = once.to_string().parse().unwrap();
        prop_assert_eq!(target(&again).unwrap(), once);
    }

    #[test]
    fn reducing_a_query_twice_is_reducing_it_once_and_keeps_the_order_of_values(
        query in "([ab]{0,2}=?[0-9]?&){0,6}", names in names(), sort: bool, drop_tracking: bool,
    ) {
        let rules = QueryRules { names, sort, drop_tracking };
        let whole = Target { path: Cow::Borrowed("/"), query: Some(Cow::Borrowed(&query)) };
        let once = reduced(&rules, whole);
        prop_assert_eq!(&reduced(&rules, once.clone()), &once);
        let of = |query: &str, name: &str| -> Vec<String> {
            let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found == name);
            pairs.map(|(_, value)| value.into_owned()).collect()
        };
        for (name, _) in form_urlencoded::parse(once.query.as_deref().unwrap_or_default().as_bytes()) {
            prop_assert_eq!(of(&query, &name), of(once.query.as_deref().unwrap_or_default(), &name));
        }
    }

    #[test]
    fn no_request_makes_dressing_panic(
        cookie in proptest::collection::vec(32u8..=255, 0..60), agent in proptest::collection::vec(32u8..=255, 0..60),
    ) {
        let rules = KeyRules { cookies: vec!["a".into()], country: true, device: true, ..KeyRules::default() };
        let policy = Policy { key: Some(Box::new(rules)), ..Policy::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in [("cookie", cookie), ("user-agent", agent)] {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(name, value);
            }
        }
        dress(&policy, Some(Facts::default()), &mut headers);
        let once = headers.clone();
        dress(&policy, Some(Facts::default()), &mut headers);
        prop_assert_eq!(once, headers);
    }
}
