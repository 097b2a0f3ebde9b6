//! What a route may declare, what it then means, and what is told about a contradiction.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use region_config::{Class, KeyRules, NegativeTtl, Normalise, Policy, QueryNames, QueryRules, Severity, check};

fn text(route: &str) -> String {
    format!(
        "[node]\nname = \"a\"\n[http]\nlisten = \"127.0.0.1:8080\"\n[[sites]]\nname = \"s\"\nhosts = \"a.test\"\n\
         origin = \"http://127.0.0.1:3000\"\n[[sites.routes]]\npath = \"/a/*\"\n{route}\n"
    )
}

fn policy(route: &str) -> Policy {
    let checked = check(&[("f.toml", &text(route))]).unwrap_or_else(|faults| panic!("{faults}"));
    checked.config.sites[0].routes[0].policy.clone()
}

#[track_caller]
fn refused(route: &str, expected: &str) {
    let faults = check(&[("f.toml", &text(route))]).unwrap_err();
    let errors: Vec<_> = faults.list().iter().filter(|it| it.severity() == Severity::Error).collect();
    assert!(errors.iter().any(|it| it.found().contains(expected)), "{route}: {faults}");
}

#[test]
fn a_route_that_says_nothing_is_as_it_always_was() {
    assert_eq!(policy(""), Policy::default());
    assert_eq!(policy("class = \"standard\"\nquery = {}\nkey = {}\nnormalise = {}"), Policy::default());
}

#[test]
fn classes_have_defaults_of_their_own() {
    let files = policy("class = \"static\"");
    assert_eq!((files.class, files.heuristic, files.default_ttl_s), (Class::Static, true, Some(86_400)));
    assert!(!policy("class = \"static\"\nheuristic = false").heuristic);
    let tight = policy("class = \"tight\"");
    assert_eq!((tight.class, tight.ttl_max_s, tight.stale_if_error_s), (Class::Tight, Some(5), 0));
    assert_eq!(policy("class = \"tight\"\nttl_max = \"1m\"").ttl_max_s, Some(60));
    assert_eq!(policy("class = \"live\"").class, Class::Live);
}

#[test]
fn everything_that_is_declared_is_in_the_policy_and_in_the_sum() {
    let declared = [
        ("ttl_min = \"1m\"", Policy { ttl_min_s: 60, ..Policy::default() }),
        ("ttl_max = \"1h\"", Policy { ttl_max_s: Some(3600), ..Policy::default() }),
        ("ttl = \"30s\"", Policy { ttl_s: Some(30), ..Policy::default() }),
        (
            "negative_ttl = { not_found = \"30s\", client_error = \"2s\", server_error = \"0\" }",
            Policy {
                negative: NegativeTtl { not_found_s: Some(30), client_error_s: Some(2), server_error_s: Some(0) },
                ..Policy::default()
            },
        ),
        ("honour_request_cache_control = true", Policy { honour_request_cache_control: true, ..Policy::default() }),
        ("variants_max = 8", Policy { variants_max: 8, ..Policy::default() }),
        (
            "query = { allow = [\"page\", \"f*\"], sort = true }",
            Policy {
                query: Some(Box::new(QueryRules {
                    names: QueryNames::Allow(vec!["page".into(), "f*".into()]),
                    sort: true,
                    drop_tracking: false,
                })),
                ..Policy::default()
            },
        ),
        (
            "query = { allow = [] }",
            Policy {
                query: Some(Box::new(QueryRules {
                    names: QueryNames::Allow(Vec::new()),
                    sort: false,
                    drop_tracking: false,
                })),
                ..Policy::default()
            },
        ),
        (
            "query = { deny = \"session\", drop_tracking = true }",
            Policy {
                query: Some(Box::new(QueryRules {
                    names: QueryNames::Deny(vec!["session".into()]),
                    sort: false,
                    drop_tracking: true,
                })),
                ..Policy::default()
            },
        ),
        (
            "key = { headers = [\"X-Plan\", \"Accept\"], cookies = [\"plan\", \"AB\"], country = true, device = true }",
            Policy {
                key: Some(Box::new(KeyRules {
                    headers: vec!["accept".into(), "x-plan".into()],
                    cookies: vec!["AB".into(), "plan".into()],
                    country: true,
                    device: true,
                })),
                ..Policy::default()
            },
        ),
        (
            "normalise = { accept_encoding = true, accept_language = [\"en\", \"pt-BR\"] }",
            Policy {
                normalise: Some(Box::new(Normalise {
                    accept_encoding: true,
                    accept_language: vec!["en".into(), "pt-br".into()],
                })),
                ..Policy::default()
            },
        ),
    ];
    let sum = |route: &str| check(&[("f.toml", &text(route))]).unwrap().config.fingerprint;
    let mut sums = vec![sum(""), sum("class = \"tight\""), sum("class = \"live\""), sum("class = \"static\"")];
    for (route, expected) in declared {
        assert_eq!(policy(route), expected, "{route}");
        sums.push(sum(route));
    }
    let all = sums.len();
    sums.sort_unstable();
    sums.dedup();
    assert_eq!(sums.len(), all, "what is declared makes another sum");
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused("class = \"live\"\nttl = \"5s\"", "`ttl` where nothing is cached (`class = \"live\"`)");
    refused("cache = \"off\"\nttl_max = \"5s\"", "`ttl_max` where nothing is cached (`cache = \"off\"`)");
    refused("ttl_min = \"1h\"\nttl_max = \"1m\"", "`ttl_min` is longer than `ttl_max`");
    refused("ttl = \"1h\"\nttl_max = \"1m\"", "`ttl` beside `ttl_min` or `ttl_max`");
    refused("class = \"tight\"\nttl_max = \"2m\"", "`ttl_max` is longer than a minute");
    refused("class = \"tight\"\nstale_if_error = \"1m\"", "`stale_if_error` where nothing is served stale");
    refused("query = { allow = \"a\", deny = \"b\" }", "both `query.allow` and `query.deny`");
    refused("class = \"statik\"", "`class` is `\"statik\"`");
}

#[test]
fn what_cannot_be_in_a_key_is_refused() {
    for name in ["Cookie", "host", "range", "X-Forwarded-For", "x-meridian-country"] {
        refused(&format!("key = {{ headers = \"{name}\" }}"), "cannot be in a key");
    }
    refused("key = { headers = \"a b\" }", "`key.headers");
    refused("key = { cookies = \"a=b\" }", "`key.cookies");
    refused("query = { deny = \"a*b\" }", "`query.deny");
    refused("query = { deny = \"a&b\" }", "`query.deny");
    refused("normalise = { accept_language = \"x\" }", "`normalise.accept_language");
    let many: Vec<_> = (0..65).map(|n| format!("\"a{n}\"")).collect();
    refused(&format!("query = {{ deny = [{}] }}", many.join(", ")), "has 65 elements");
}
