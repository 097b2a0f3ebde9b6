//! What applications order, see, and may not: one node, two tenants.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use http::{Request, StatusCode};
use http_body_util::Full;
use region_config::Digest;
use serde_json::{Value, json};

use crate::harness::{
    Node,
    certificates::{SiteCa, Validity},
    client::{self, Connection, Reply, fetch},
    free_addresses,
    origin::Origin,
    until_some,
};

const SHOP: &str = "shop.example";
const BANK: &str = "bank.example";

/// A node with the sites `shop` and `blog` of one tenant and `bank` of another, and their tokens.
struct Fixture {
    node: Node,
    origin: Origin,
    door: SocketAddr,
}

fn token(name: &str, more: &str) -> String {
    format!("[[tokens]]\nname = \"{name}\"\ndigest = \"{}\"\n{more}\n", Digest::of(name.as_bytes()))
}

impl Fixture {
    fn start() -> Self {
        let origin = Origin::start();
        let [door] = free_addresses();
        let url = origin.url();
        let site = |name: &str, tenant: &str, host: &str| {
            format!("[[sites]]\nname = \"{name}\"\ntenant = \"{tenant}\"\nhosts = [\"{host}\"]\norigin = \"{url}\"\n")
        };
        let config = [
            site("shop", "acme", SHOP),
            site("blog", "acme", "blog.example"),
            site("bank", "rich", BANK),
            format!("[purge]\nlisten = \"{door}\"\n"),
            token(
                "cms",
                "tenant = \"acme\"\nverbs = [\"purge\", \"purge-everything\", \"read\"]\npurges_per_second = 1000000",
            ),
            token("only-shop", "tenant = \"acme\"\nsites = [\"shop\"]\nverbs = [\"purge\"]"),
            token("bank", "tenant = \"rich\"\nverbs = [\"purge\", \"purge-everything\", \"read\"]"),
            token("slow", "tenant = \"acme\"\npurges_per_second = 5"),
        ];
        Self { node: Node::alone(&config.concat()), origin, door }
    }

    async fn ask(&self, at: SocketAddr, token: &str, method: &str, target: &str, body: &str) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", at.to_string())
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        client::send(at, request.body(Full::from(body.to_owned())).unwrap()).await
    }

    async fn get(&self, token: &str, target: &str) -> (u16, Value) {
        told(&self.ask(self.door, token, "GET", target, "").await)
    }

    async fn purge(&self, token: &str, order: Value) -> (u16, Value) {
        told(&self.ask(self.door, token, "POST", "/api/v1/purges", &order.to_string()).await)
    }

    fn admin_token(&self) -> String {
        fs::read_to_string(self.node.dir().join("state/admin.token")).unwrap().trim().to_owned()
    }

    /// A figure of the metrics page.
    async fn metric(&self, name: &str) -> u64 {
        let page = self.ask(self.node.admin, &self.admin_token(), "GET", "/metrics", "").await.text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }

    /// The version of an object.
    async fn version(&self, host: &str, target: &str) -> u64 {
        let reply = fetch(self.node.http, host, target).await;
        crate::harness::stamped::check(&reply.body).unwrap_or_else(|fault| panic!("{fault}: {}", reply.seen())).version
    }
}

fn told(reply: &Reply) -> (u16, Value) {
    let value = serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.seen()));
    (reply.status.as_u16(), value)
}

#[tokio::test]
async fn each_scope_covers_what_it_names_and_nothing_else() {
    let fixture = Fixture::start();
    let targets = ["/o/50/a", "/o/50/b", "/o/60/a"];
    for (order, purged) in [
        (json!({"site": "shop", "urls": [format!("https://{SHOP}/o/50/a")]}), [true, false, false]),
        (json!({"site": "shop", "prefixes": [format!("http://{SHOP}/o/50/")]}), [true, true, false]),
        (json!({"site": "shop", "prefixes": [format!("http://{SHOP}/o/5/")]}), [false; 3]),
        (json!({"site": "shop", "prefixes": [format!("http://{SHOP}/o/")]}), [true; 3]),
        (json!({"site": "shop", "tags": ["b"]}), [false, true, false]),
        (json!({"site": "shop", "hosts": [SHOP]}), [true; 3]),
        (json!({"site": "shop", "everything": true}), [true; 3]),
        (json!({"tenant": "acme", "everything": true}), [true; 3]),
        (json!({"site": "blog", "everything": true}), [false; 3]),
    ] {
        let mut before = [0; 3];
        for (version, target) in before.iter_mut().zip(targets) {
            // what was purged before is fetched anew
            *version = fixture.version(SHOP, target).await;
        }
        let bank = fixture.version(BANK, targets[0]).await;
        fixture.origin.publish();
        let (status, told) = fixture.purge("cms", order.clone()).await;
        assert_eq!(status, 200, "{order}: {told}");
        for ((target, before), purged) in targets.iter().zip(before).zip(purged) {
            let now = fixture.version(SHOP, target).await;
            assert_eq!(now > before, purged, "{order}: {target} was version {before} and is {now}");
        }
        assert_eq!(fixture.version(BANK, targets[0]).await, bank, "{order}: another tenant's");
        let (_, rest) = fixture.purge("cms", json!({"site": "shop", "everything": true})).await;
        assert!(rest["id"].is_string(), "{rest}");
    }
}

#[tokio::test]
async fn an_application_neither_names_nor_sees_what_is_not_its_own() {
    let fixture = Fixture::start();
    let (status, own) = fixture.purge("bank", json!({"site": "bank", "tags": ["secret"]})).await;
    assert_eq!(status, 200, "{own}");
    let id = own["id"].as_str().unwrap().to_owned();
    let absent = fixture.purge("cms", json!({"site": "nothing", "tags": ["a"]})).await;
    let foreign = fixture.purge("cms", json!({"site": "bank", "tags": ["a"]})).await;
    let same = |told: &Value| (told["detail"].clone(), told["expected"].clone());
    assert_eq!((foreign.0, same(&foreign.1)), (404, same(&absent.1)), "{}", foreign.1);
    assert_eq!(absent.0, 404);
    let unknown = fixture.get("cms", &format!("/api/v1/purges/{}", "0".repeat(32))).await;
    for path in [format!("/api/v1/purges/{id}"), format!("/api/v1/purges/{id}/receipt")] {
        let told = fixture.get("cms", &path).await;
        assert_eq!((told.0, &told.1), (404, &unknown.1), "{path}");
    }
    assert_eq!(fixture.get("bank", &format!("/api/v1/purges/{id}")).await.0, 200);
    for path in
        ["/api/v1/purges", "/api/v1/audit/purges", "/api/v1/audit/purges?site=bank", "/api/v1/audit/purges?token=bank"]
    {
        let (status, told) = fixture.get("cms", path).await;
        let text = told.to_string();
        assert!(status == 200 && !text.contains("bank") && !text.contains("secret"), "{path}: {text}");
    }
    // rights: no other verbs, no other doors
    assert_eq!(fixture.get("only-shop", "/api/v1/purges").await.0, 403);
    assert_eq!(fixture.purge("only-shop", json!({"site": "blog", "tags": ["a"]})).await.0, 404);
    assert_eq!(fixture.purge("only-shop", json!({"site": "shop", "everything": true})).await.0, 403);
    assert_eq!(fixture.purge("cms", json!({"realm": "global", "everything": true})).await.0, 403);
    let admin = fixture.admin_token();
    assert_eq!(fixture.get(&admin, "/api/v1/purges").await.0, 401, "the admin token at the applications' door");
    assert_eq!(fixture.get("cms", "/api/v1/sites").await.0, 404, "nothing else is behind that door");
    for path in ["/api/v1/sites", "/api/v1/config", "/api/v1/openapi.json", "/metrics"] {
        assert_eq!(fixture.ask(fixture.node.admin, "cms", "GET", path, "").await.status, 403, "{path}");
    }
    let order = json!({"realm": "global", "everything": true}).to_string();
    let whole = fixture.ask(fixture.node.admin, &admin, "POST", "/api/v1/purges", &order).await;
    assert_eq!(whole.status, 200, "{}", whole.seen());
    // a node alone has nothing to sign with, and says so
    let (status, told) = fixture.get("bank", &format!("/api/v1/purges/{id}/receipt")).await;
    assert_eq!((status, told["type"].as_str().unwrap()), (409, "urn:meridian:problem:no-identity"), "{told}");
}

/// A machine that does other things as well answers some thousand of them in a second, so they are fewer here than a flood
/// would be; how many purges come of them depends on the time alone.
#[tokio::test]
async fn a_flood_of_identical_orders_is_few_purges_and_each_is_answered() {
    const CALLS: usize = 24;
    const CLIENTS: usize = 4;
    let fixture = Fixture::start();
    let orders = vec![json!({"site": "shop", "tags": ["flood"], "wait": "local", "timeout_ms": 30_000}); 1_000];
    let body = json!({ "orders": orders }).to_string();
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (door, body) = (fixture.door, body.clone());
        calls.spawn(async move {
            let mut connection = Connection::open(door).await.unwrap();
            let mut ids = BTreeSet::new();
            let mut answered = 0;
            for _ in 0..CALLS / CLIENTS {
                let request = Request::post("/api/v1/purges:batch")
                    .header("host", door.to_string())
                    .header("authorization", "Bearer cms")
                    .header("content-type", "application/json");
                let reply = connection.send(request.body(Full::from(body.clone())).unwrap()).await.unwrap();
                let told: Value = serde_json::from_slice(&reply.body).unwrap();
                for answer in told["answers"].as_array().unwrap() {
                    assert_eq!(answer["status"], 200, "{answer}");
                    ids.insert(answer["purge"]["id"].as_str().unwrap().to_owned());
                    answered += 1;
                }
            }
            (ids, answered)
        });
    }
    let (mut ids, mut answered) = (BTreeSet::new(), 0);
    while let Some(done) = calls.join_next().await {
        let (some, count) = done.unwrap();
        ids.extend(some);
        answered += count;
    }
    let took = began.elapsed();
    eprintln!("{answered} identical orders became {} purges in {took:?}", ids.len());
    assert_eq!(answered, CALLS * 1_000);
    // one for each window of 20 ms in which any came, and the one that went at once
    let windows = usize::try_from(took.as_millis() / 20).unwrap() + 2;
    assert!(ids.len() <= windows, "{} purges in {windows} windows", ids.len());
    let (_, audit) = fixture.get("cms", "/api/v1/audit/purges?limit=500").await;
    let entries = audit["entries"].as_array().unwrap();
    assert!(entries.len() <= ids.len(), "the audit counts orders, it does not repeat them: {}", entries.len());
    if audit["next"].is_null() {
        let counted: u64 = entries.iter().map(|entry| entry["orders"].as_u64().unwrap()).sum();
        assert_eq!(counted, answered as u64);
    }
}

#[tokio::test]
async fn who_orders_more_than_it_may_is_told_when_to_come_again() {
    let fixture = Fixture::start();
    let mut taken = 0;
    for number in 0..40 {
        let order = json!({"site": "shop", "tags": [format!("t{number}")]}).to_string();
        let reply = fixture.ask(fixture.door, "slow", "POST", "/api/v1/purges", &order).await;
        match reply.status {
            StatusCode::OK => taken += 1,
            StatusCode::TOO_MANY_REQUESTS => {
                assert!(reply.field("retry-after").parse::<u64>().is_ok_and(|seconds| (1..=2).contains(&seconds)));
                break;
            }
            other => panic!("{other}: {}", reply.seen()),
        }
    }
    assert!((5..40).contains(&taken), "{taken}");
    let orders: Vec<Value> = (0..20).map(|n| json!({"site": "shop", "tags": [format!("u{n}")]})).collect();
    let (status, told) = told(
        &fixture
            .ask(fixture.door, "slow", "POST", "/api/v1/purges:batch", &json!({"orders": orders}).to_string())
            .await,
    );
    let statuses: BTreeSet<u64> =
        told["answers"].as_array().unwrap().iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    assert!(status == 207 && statuses.contains(&429), "{status} {statuses:?}");
    assert_eq!(
        fixture.purge("cms", json!({"site": "shop", "tags": ["a"]})).await.0,
        200,
        "another token of the tenant"
    );
}

#[tokio::test]
async fn the_audit_says_who_ordered_what_and_survives_a_kill() {
    let mut fixture = Fixture::start();
    let (_, first) = fixture.purge("cms", json!({"site": "shop", "tags": ["first"], "mode": "soft"})).await;
    let (_, second) = fixture.purge("cms", json!({"tenant": "acme", "tags": ["second"]})).await;
    assert_eq!(second["answers"].as_array().map(Vec::len), Some(2), "{second}");
    let order = json!({"site": "shop", "tags": ["third"]}).to_string();
    fixture.ask(fixture.node.admin, &fixture.admin_token(), "POST", "/api/v1/purges", &order).await;
    fixture.node.kill_and_restart(|_| {});
    let (_, told) = fixture.get("cms", "/api/v1/audit/purges?site=shop").await;
    let entries = told["entries"].as_array().unwrap();
    let tags: Vec<_> = entries.iter().map(|entry| entry["scope"][0]["tag"].as_str().unwrap()).collect();
    assert_eq!(tags, ["third", "second", "first"], "{told}");
    assert_eq!(
        (&entries[2]["token"], &entries[2]["from"], &entries[2]["mode"]),
        (&json!("cms"), &json!("127.0.0.1"), &json!("soft"))
    );
    assert_eq!(entries[2]["purge"], first["id"]);
    assert_eq!(
        (&entries[0]["token"], &entries[0]["from"]),
        (&json!("(admin)"), &json!("")),
        "not from where the operator works"
    );
    // pages
    let mut seen = Vec::new();
    let mut below = String::new();
    loop {
        let (status, page) = fixture.get("cms", &format!("/api/v1/audit/purges?limit=1{below}")).await;
        assert_eq!(status, 200, "{page}");
        seen.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["purge"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        below = format!("&below={next}");
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert_eq!(fixture.get("cms", "/api/v1/audit/purges?below=x").await.0, 400);
    let (_, none) = fixture.get("cms", "/api/v1/audit/purges?until=1").await;
    assert_eq!(none["entries"], json!([]));
    // one order and the same again: one purge, and two entries
    for _ in 0..2 {
        let (status, told) =
            fixture.purge("cms", json!({"site": "shop", "tags": ["k"], "idempotency_key": "k1"})).await;
        assert_eq!(status, 200, "{told}");
    }
    assert_eq!(fixture.purge("cms", json!({"site": "shop", "tags": ["l"], "idempotency_key": "k1"})).await.0, 409);
}

#[tokio::test]
async fn what_is_no_order_is_refused_and_nothing_breaks() {
    let fixture = Fixture::start();
    let huge = format!("{{\"orders\":[{}]}}", vec!["{}"; 200_000].join(","));
    let deep = "[".repeat(50_000);
    let wide = format!("{{\"site\":\"shop\",\"tags\":[{}]}}", vec!["\"a\""; 10_000].join(","));
    for (path, body, status) in [
        ("/api/v1/purges", "", 400),
        ("/api/v1/purges", "null", 422),
        ("/api/v1/purges", "{", 400),
        ("/api/v1/purges", "{\"site\":\"shop\",\"tags\":[\"a\"],\"evrything\":true}", 422),
        ("/api/v1/purges", "{\"site\":\"shop\",\"tags\":\"a\"}", 422),
        ("/api/v1/purges", "{\"site\":\"shop\",\"tags\":[\"a\"],\"tags\":[\"b\"]}", 422),
        ("/api/v1/purges", "{\"site\":\"shop\",\"tags\":[\"\u{0}\"]}", 400),
        ("/api/v1/purges", "{\"site\":\"shop\",\"everything\":\"yes\"}", 422),
        ("/api/v1/purges", "{\"site\":\"shop\",\"everything\":true,\"wait\":\"forever\"}", 422),
        ("/api/v1/purges", "{\"site\":\"shop\",\"everything\":true,\"timeout_ms\":-1}", 422),
        ("/api/v1/purges", "{\"site\":\"shop\",\"everything\":true,\"timeout_ms\":1e99}", 422),
        ("/api/v1/purges", &deep, 422),
        ("/api/v1/purges", "[\"shop\",null,null,[],[],[],[],true]", 422),
        ("/api/v1/purges:batch", "[[{\"site\":\"shop\",\"everything\":true}]]", 422),
        ("/api/v1/purges", &wide, 422),
        ("/api/v1/purges:batch", "{\"orders\":[]}", 422),
        ("/api/v1/purges:batch", "{\"orders\":{}}", 422),
        ("/api/v1/purges:batch", &huge, 422),
        ("/api/v1/purges:batch", &" ".repeat(2 << 20), 413),
        ("/api/v1/purges", &" ".repeat(70 << 10), 413),
    ] {
        let reply = fixture.ask(fixture.door, "cms", "POST", path, body).await;
        let shown: String = body.chars().take(60).collect();
        assert_eq!(reply.status.as_u16(), status, "{path} {shown}: {}", reply.seen());
        assert!(serde_json::from_slice::<Value>(&reply.body).is_ok_and(|told| told["detail"].is_string()));
    }
    let (status, told) = told(
        &fixture
            .ask(fixture.door, "cms", "POST", "/api/v1/purges:batch", &json!({"orders": [
                {"site": "shop", "tags": ["a"]}, {"site": "bank", "tags": ["a"]}, {}, {"tenant": "acme", "everything": true},
            ]}).to_string())
            .await,
    );
    let statuses: Vec<_> = told["answers"].as_array().unwrap().iter().map(|answer| answer["status"].clone()).collect();
    assert_eq!((status, json!(statuses)), (207, json!([200, 404, 422, 422])), "{told}");
    // wrong tokens wait ever longer; a right one is taken all the same
    let mut refused = BTreeSet::new();
    for number in 0..12 {
        refused.insert(
            fixture.ask(fixture.door, &format!("wrong{number}"), "GET", "/api/v1/purges", "").await.status.as_u16(),
        );
    }
    assert_eq!(refused, BTreeSet::from([401, 429]));
    assert_eq!(fixture.get("cms", "/api/v1/purges").await.0, 200);
}

/// The examples of the page for application developers.
#[tokio::test]
async fn the_examples_in_the_docs_work() {
    let fixture = Fixture::start();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/purging.md");
    let text = fs::read_to_string(page).unwrap();
    let examples: Vec<&str> = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 5, "{}", examples.len());
    for example in examples {
        let mut command = Command::new("sh");
        command.args(["-euc", example]).env("NODE", format!("http://{}", fixture.door)).env("TOKEN", "cms");
        let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success(), "{example}\n{out}\n{err}");
        assert!(
            serde_json::from_str::<Value>(out.lines().next().unwrap_or_default()).is_ok() || out.contains("\"id\""),
            "{example}\n{out}"
        );
    }
}

#[tokio::test]
async fn the_applications_door_speaks_tls_where_it_has_a_certificate() {
    let (origin, ca, dir) = (Origin::start(), SiteCa::new(), tempfile::TempDir::new().unwrap());
    ca.site(dir.path(), "door", "purge.example", Validity::Now);
    let [door] = free_addresses();
    let config = format!(
        "[[sites]]\nname = \"shop\"\nhosts = [\"{SHOP}\"]\norigin = \"{}\"\n[purge]\nlisten = \"{door}\"\n\
         tls = {{ certificate = \"door.crt\", key = \"door.key\" }}\n{}",
        origin.url(),
        token("cms", "")
    );
    let _node = Node::within(dir, &config);
    let stream = client::tls(door, "purge.example", &ca.pem, b"http/1.1").await.unwrap();
    let request = Request::post("/api/v1/purges")
        .header("host", "purge.example")
        .header("authorization", "Bearer cms")
        .header("content-type", "application/json")
        .body(Full::from("{\"site\":\"shop\",\"tags\":[\"a\"]}"))
        .unwrap();
    let reply = Connection::over(stream).await.unwrap().send(request).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.seen());
    assert!(client::try_send(door, client::empty(client::get("purge.example", "/healthz"))).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_purged_is_let_go_without_being_asked_for_again() {
    let fixture = Fixture::start();
    for n in 0..10 {
        fixture.version(SHOP, &format!("/o/{n}/let-go")).await;
    }
    let entries = async || fixture.metric("meridian_store_memory_entries").await;
    until_some("all are stored", Duration::from_secs(10), async || match entries().await {
        10.. => Ok(()),
        entries => Err(entries.to_string()),
    })
    .await;
    let order = json!({"site": "shop", "prefixes": [format!("http://{SHOP}/o/")]});
    let (status, told) = fixture.purge("cms", order).await;
    assert!(status < 300, "{told}");
    until_some("ten are let go", Duration::from_secs(30), async || {
        match fixture.metric("meridian_sweep_freed_objects_total").await {
            10 => Ok(()),
            freed => Err(format!("{freed} are")),
        }
    })
    .await;
    assert_eq!(entries().await, 0);
    assert!(fixture.metric("meridian_sweep_freed_bytes_total").await > 3_520);
}
