//! What routes declare: classes and lifetimes, what is in the key, and what may not shape an answer that others get.

use http::{Method, Request};
use http_body_util::Full;

use super::{HOST, node};
use crate::harness::{
    Node, binary,
    client::{self, Reply, fetch, send},
    origin::{Answer, Origin, Seen},
};

async fn with(node: &Node, target: &str, fields: &[(&str, &str)]) -> Reply {
    let request = fields.iter().fold(client::get(HOST, target), |request, (name, value)| request.header(*name, *value));
    send(node.http, client::empty(request)).await
}

async fn ask(node: &Node, method: Method, target: &str) -> Reply {
    let request = Request::builder().method(method).uri(target).header("host", HOST).body(Full::from("x")).unwrap();
    send(node.http, request).await
}

/// Whether a second request for a target is a hit.
async fn is_kept(node: &Node, target: &str) -> bool {
    fetch(node.http, HOST, target).await;
    fetch(node.http, HOST, target).await.is_hit()
}

fn routes(lines: &str) -> String {
    format!("routes = [{lines}]\n")
}

/// Answers what it was asked, so that a test sees what the origin saw.
fn echo(seen: &Seen, fields: &[&str]) -> Answer {
    let said: Vec<_> = fields.iter().map(|name| format!("{name}={}", seen.field(name))).collect();
    Answer::ok(format!("{} {}", seen.target, said.join(" "))).with("cache-control", "max-age=600")
}

#[tokio::test]
async fn classes_say_what_is_kept_and_whether_it_may_be_stale() {
    let origin = Origin::start();
    for path in ["/live", "/tight", "/files/a.css", "/short"] {
        origin.on(path, |_| Answer::ok("x").with("cache-control", "max-age=600, stale-while-revalidate=60"));
    }
    origin.on("/files/gone", |_| Answer::status(404).with("cache-control", "max-age=31536000"));
    let more = routes(
        "{ path = \"/live\", class = \"live\" }, { path = \"/tight\", class = \"tight\" }, \
         { path = \"/files/*\", class = \"static\" }, { path = \"/short\", ttl = \"2s\" }",
    );
    let node = node(&origin, &more);
    assert!(!is_kept(&node, "/live").await);
    let passed = fetch(node.http, HOST, "/live").await;
    assert!(passed.cache_status().contains("fwd=bypass; fwd-status=200; detail=live-route"), "{}", passed.seen());
    let miss = fetch(node.http, HOST, "/tight").await;
    assert!(miss.cache_status().contains("stored; detail=route-bound"), "{}", miss.seen());
    let hit = fetch(node.http, HOST, "/tight").await;
    assert!(hit.is_hit() && !hit.cache_status().contains("ttl=6"), "{}", hit.seen());
    assert!(is_kept(&node, "/files/a.css").await);
    let miss = fetch(node.http, HOST, "/files/gone").await;
    assert!(
        miss.cache_status().contains("detail=negative-ttl"),
        "an error never has a file's lifetime: {}",
        miss.seen()
    );
    let hit = fetch(node.http, HOST, "/files/gone").await;
    let told = hit.cache_status();
    assert!(hit.is_hit() && (told.contains("ttl=10") || told.contains("ttl=9")), "{}", hit.seen());
    let miss = fetch(node.http, HOST, "/short").await;
    assert!(miss.cache_status().contains("detail=route-ttl"), "{}", miss.seen());
}

#[tokio::test]
async fn errors_are_kept_as_the_route_says() {
    let origin = Origin::start();
    for (path, status) in [("/e/404", 404), ("/e/500", 500), ("/e/403", 403), ("/d/404", 404), ("/d/500", 500)] {
        origin.on(path, move |_| Answer::status(status));
    }
    let more = routes(
        "{ path = \"/e/*\", negative_ttl = { not_found = \"30s\", client_error = \"5s\", server_error = \"2s\" } }, \
         { path = \"/d/*\", default_ttl = \"1h\" }",
    );
    let node = node(&origin, &more);
    for (path, kept) in [("/e/404", true), ("/e/500", true), ("/e/403", false), ("/d/404", true), ("/d/500", false)] {
        assert_eq!(is_kept(&node, path).await, kept, "{path}");
    }
}

#[tokio::test]
async fn a_query_is_reduced_for_the_key_and_for_the_origin() {
    let origin = Origin::start();
    origin.on("/q", |seen| echo(seen, &[]));
    let node =
        node(&origin, &routes("{ path = \"/q\", query = { deny = \"session\", sort = true, drop_tracking = true } }"));
    let first = fetch(node.http, HOST, "/q?b=2&a=1&utm_source=mail&session=7").await;
    assert_eq!(first.text().trim(), "/q?a=1&b=2");
    for other in ["/q?a=1&b=2", "/q?fbclid=x&b=2&a=1", "/q?a=1&b=2&&session="] {
        let reply = fetch(node.http, HOST, other).await;
        assert!(reply.is_hit(), "{other}: {}", reply.seen());
    }
    assert!(!fetch(node.http, HOST, "/q?a=2&b=1").await.is_hit());
    assert_eq!(ask(&node, Method::POST, "/q?b=2&a=1&session=8").await.status, 200);
    assert_eq!(origin.seen().last().unwrap().target, "/q?b=2&a=1&session=8", "what is not looked up goes as it came");
    assert!(!fetch(node.http, HOST, "/q?a=1&b=2").await.is_hit(), "a POST to any of them voids what is stored for all");
}

#[tokio::test]
async fn declared_parts_are_in_the_key_and_reach_the_origin_and_other_cookies_do_not() {
    let origin = Origin::start();
    origin.on("/k", |seen| echo(seen, &["x-plan", "cookie", "x-meridian-country", "x-meridian-device"]));
    let key = "key = { headers = \"x-plan\", cookies = \"ab\", country = true, device = true }";
    let node = node(&origin, &routes(&format!("{{ path = \"/k\", {key} }}")));
    let fields = [
        ("x-plan", "gold"),
        ("cookie", "session=secret; ab=1"),
        ("x-meridian-country", "ZZ"),
        ("user-agent", "iPhone"),
    ];
    let reply = with(&node, "/k", &fields).await;
    assert_eq!(reply.text(), "/k x-plan=gold cookie=ab=1 x-meridian-country=XX x-meridian-device=mobile");
    assert!(with(&node, "/k", &[fields[0], ("cookie", "ab=1; session=other"), fields[3]]).await.is_hit());
    for other in [
        &[("x-plan", "free"), fields[1], fields[3]][..],
        &[fields[0], ("cookie", "ab=2"), fields[3]],
        &[fields[0], ("cookie", "ab=1")],
        &[fields[0], fields[3]],
    ] {
        let reply = with(&node, "/k", other).await;
        assert!(!reply.is_hit(), "{other:?}: {}", reply.seen());
        assert!(with(&node, "/k", other).await.is_hit(), "{other:?}");
    }
    assert_eq!(ask(&node, Method::POST, "/k").await.status, 200);
    assert!(!with(&node, "/k", &fields).await.is_hit(), "a POST voids every one of them");
}

#[tokio::test]
async fn negotiation_in_few_forms_makes_few_variants() {
    let origin = Origin::start();
    origin.on("/n", |seen| {
        echo(seen, &["accept-encoding", "accept-language"]).with("vary", "accept-encoding, accept-language")
    });
    let node = node(
        &origin,
        &routes("{ path = \"/n\", normalise = { accept_encoding = true, accept_language = [\"en\", \"de\"] } }"),
    );
    let of =
        |coding: &'static str, language: &'static str| [("accept-encoding", coding), ("accept-language", language)];
    let reply = with(&node, "/n", &of("gzip, deflate, br", "de-AT, en;q=0.5")).await;
    assert_eq!(reply.text(), "/n accept-encoding=br, gzip accept-language=de");
    for (coding, language) in [("br;q=0.9, gzip", "de"), ("gzip, br, compress", "fr, de-CH;q=0.3")] {
        assert!(with(&node, "/n", &of(coding, language)).await.is_hit(), "{coding} {language}");
    }
    assert!(!with(&node, "/n", &of("gzip", "de")).await.is_hit());
    assert_eq!(origin.count("/n"), 2);
}

#[tokio::test]
async fn a_clients_cache_control_counts_only_where_the_route_lets_it() {
    let origin = Origin::start();
    for path in ["/plain", "/honest"] {
        origin.on(path, |_| Answer::ok("x").with("cache-control", "max-age=600").with("etag", "\"1\""));
    }
    let node = node(&origin, &routes("{ path = \"/honest\", honour_request_cache_control = true }"));
    for path in ["/plain", "/honest"] {
        fetch(node.http, HOST, path).await;
    }
    for line in ["no-cache", "max-age=0", "only-if-cached"] {
        assert!(with(&node, "/plain", &[("cache-control", line)]).await.is_hit(), "{line}");
    }
    let reply = with(&node, "/honest", &[("cache-control", "no-cache")]).await;
    assert!(reply.cache_status().contains("detail=request-no-cache"), "{}", reply.seen());
    assert!(with(&node, "/honest", &[("cache-control", "only-if-cached")]).await.is_hit());
    let reply = with(&node, "/honest?other", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(reply.status, 504, "{}", reply.seen());
    assert!(reply.cache_status().contains("only-if-cached"), "{}", reply.seen());
    assert_eq!(origin.count("/honest"), 2);
}

/// What `meridian explain key` prints.
fn explained(node: &Node, url: &str, field: &str) -> String {
    let admin = format!("http://{}", node.admin);
    let output = std::process::Command::new(binary())
        .args(["explain", "key", "--url", url, "-H", field, "--admin", &admin, "--token-file"])
        .arg(node.dir().join("state/admin.token"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_parts_of_a_key_are_shown() {
    let origin = Origin::start();
    origin.on("/q", |seen| echo(seen, &[]));
    let declared = "query = { drop_tracking = true, sort = true }, key = { cookies = \"plan\" }";
    let node = node(&origin, &routes(&format!("{{ path = \"/q\", {declared} }}")));
    let explained = |target: &str, field: &str| explained(&node, &format!("http://{HOST}{target}"), field);
    let shown = explained("/q?b=1&a=2&utm_source=x", "Cookie: plan=gold; session=1");
    for line in
        ["path         /q", "query        ?a=2&b=1", "cookie plan  gold", "left out     utm_source=x (tracking)"]
    {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
    let name =
        |shown: &str| shown.lines().find_map(|line| line.strip_prefix("key ").map(|it| it.trim().to_owned())).unwrap();
    assert_eq!(name(&shown), name(&explained("/q?a=2&b=1", "Cookie: plan=gold")));
    assert_ne!(name(&shown), name(&explained("/q?a=2&b=1", "Cookie: plan=free")));
    let live = explained("/q", "X: y");
    assert!(live.contains("cookie plan  (none)"), "{live}");
}

/// Fields that known attacks write. The origin here obeys each of them.
const POISON: [(&str, &str); 14] = [
    ("x-forwarded-host", "evil.test"),
    ("x_forwarded_host", "evil.test"),
    ("x-forwarded-scheme", "http"),
    ("x-forwarded-prefix", "/evil"),
    ("x-forwarded-port", "1"),
    ("x-host", "evil.test"),
    ("x-original-url", "/admin"),
    ("x-rewrite-url", "/admin"),
    ("x-http-method-override", "DELETE"),
    ("x-method-override", "DELETE"),
    ("forwarded", "host=evil.test"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-middleware-subrequest", "middleware"),
    ("x-original-host", "evil.test"),
];

#[tokio::test]
async fn no_field_of_a_known_attack_reaches_the_origin() {
    let origin = Origin::start();
    origin.on("/p", |seen| {
        let evil = POISON.iter().filter(|(name, value)| seen.field(name) == *value);
        let evil: Vec<_> = evil.map(|(name, _)| *name).collect();
        Answer::ok(evil.join(",")).with("cache-control", "max-age=600")
    });
    let node = node(&origin, "");
    for (at, (name, value)) in POISON.into_iter().enumerate() {
        let reply = with(&node, &format!("/p?{at}"), &[(name, value)]).await;
        assert_eq!(reply.text(), "", "{name} shaped an answer that is kept");
    }
    let reply = with(&node, "/p?connection", &[("connection", "x-plan"), ("x-plan", "1")]).await;
    assert_eq!(reply.status, 200);
    assert!(origin.seen().last().unwrap().field("x-plan").is_empty());
}

#[tokio::test]
async fn a_page_under_a_files_name_is_not_kept() {
    let origin = Origin::start();
    let deceptive = [
        "/account/x.css",
        "/account%2Fx.css",
        "/account;x.css",
        "/account/..;/x.css",
        "/account%3Fx.css",
        "/account%23x.css",
        "/account%3Bx.css",
        "/account%252Fx.css",
    ];
    for prefix in ["", "/files", "/said"] {
        for path in deceptive {
            let said = prefix == "/said" || prefix == "/files";
            origin.on(&format!("{prefix}{path}"), move |_| {
                let page = Answer::ok("Anne's account").with("content-type", "text/html");
                if said { page.with("cache-control", "max-age=600") } else { page }
            });
        }
    }
    origin.on("/app.css", |_| Answer::ok("a{}").with("content-type", "text/css"));
    let more = routes(
        "{ path = \"/files/*\", class = \"static\" }, { path = \"/said/*\" }, { path = \"/*\", default_ttl = \"1h\" }",
    );
    let node = node(&origin, &more);
    for path in deceptive {
        assert!(!is_kept(&node, path).await, "{path}");
        assert!(!is_kept(&node, &format!("/files{path}")).await, "a static route trusts no page: {path}");
        assert!(is_kept(&node, &format!("/said{path}")).await, "what the origin itself lets be kept is: {path}");
    }
    let reply = fetch(node.http, HOST, "/account/x.css?fresh").await;
    assert!(reply.cache_status().contains("content-mismatch"), "{}", reply.seen());
    assert!(is_kept(&node, "/app.css").await);
}

#[tokio::test]
async fn a_group_is_voided_by_the_answer_to_an_unsafe_request() {
    let origin = Origin::start();
    for (path, groups) in [("/a", "\"scores\""), ("/b", "\"x\", \"scores\";p=1"), ("/c", "\"other\""), ("/d", "scores")]
    {
        origin.on(path, move |_| Answer::ok("x").with("cache-control", "max-age=600").with("cache-groups", groups));
    }
    origin.on("/vote", |seen| {
        let answer = Answer::ok("x").with("cache-group-invalidation", "\"scores\"");
        if seen.method == Method::GET { answer.with("cache-control", "no-store") } else { answer }
    });
    let node = node(&origin, "");
    for path in ["/a", "/b", "/c", "/d"] {
        assert!(is_kept(&node, path).await, "{path}");
    }
    fetch(node.http, HOST, "/vote").await;
    assert!(fetch(node.http, HOST, "/a").await.is_hit(), "the answer to a safe request voids nothing");
    ask(&node, Method::POST, "/vote").await;
    for (path, kept) in [("/a", false), ("/b", false), ("/c", true), ("/d", true)] {
        let reply = fetch(node.http, HOST, path).await;
        assert_eq!(reply.is_hit(), kept, "{path}: {}", reply.seen());
    }
}

#[tokio::test]
async fn surrogate_control_is_for_the_cache_alone() {
    let origin = Origin::start();
    origin.on("/s", |_| {
        Answer::ok("x").with("surrogate-control", "max-age=600, content=\"ESI/1.0\"").with("cache-control", "no-store")
    });
    origin.on("/t", |_| Answer::ok("x").with("surrogate-control", "no-store").with("cache-control", "max-age=600"));
    let node = node(&origin, "");
    assert!(is_kept(&node, "/s").await);
    assert!(!is_kept(&node, "/t").await);
    let reply = fetch(node.http, HOST, "/s").await;
    assert_eq!((reply.field("surrogate-control"), reply.field("cache-control")), ("", "no-store"));
}
