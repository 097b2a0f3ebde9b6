//! Read-your-writes: whoever shows a purge's token gets nothing that is older than the purge, at any node.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::task::JoinSet;

use http::Request;
use http_body_util::Full;

use crate::harness::{
    client::{Reply, empty, get, send},
    fleet::{FREE, FREE_SITE, Fleet, Member, PINNED_SITE},
    origin::Answer,
    stamped,
};

async fn shown(node: &Member, target: &str, field: &'static str, value: &str) -> Reply {
    send(node.http, empty(get(FREE, target).header(field, value))).await
}

/// The token of a purge of a URL of the free site, which is acknowledged as soon as the node has it on disk.
async fn purged(node: &Member, target: &str) -> String {
    let url = format!("http://{FREE}{target}");
    let order = json!({ "site": FREE_SITE, "urls": [url], "wait": "local" });
    let reply = node.post("/api/v1/purges", &order).await;
    assert_eq!(reply.status, 200, "{}", reply.seen());
    let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(said["token"].as_str(), Some(reply.field("meridian-purge")), "{said}");
    reply.field("meridian-purge").to_owned()
}

/// The same token with another purge in it, one that nobody has heard of.
fn forged(token: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
    let realm = usize::from(bytes[2]);
    bytes.truncate(3 + realm + 16);
    bytes[3 + realm] ^= 1;
    URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_a_purges_token_reads_nothing_older_at_any_node() {
    let fleet = Fleet::start(1).await;
    let (frankfurt, oregon, sydney) =
        (fleet.node("eu-central-1"), fleet.node("us-west-1"), fleet.node("ap-southeast-1"));
    let target = "/o/2000/read-back";
    for round in 0..50 {
        for node in [oregon, sydney] {
            node.get(FREE, target).await;
        }
        let version = fleet.origin.publish();
        let token = purged(frankfurt, target).await;
        let cookie = format!("session=1; meridian-purge={token}");
        let (one, other) =
            tokio::join!(shown(oregon, target, "meridian-purge", &token), shown(sydney, target, "cookie", &cookie));
        for reply in [one, other] {
            let read = stamped::check(&reply.body).unwrap_or_else(|fault| panic!("{fault}: {}", reply.seen())).version;
            assert!(read >= version, "round {round}: {read} is older than {version}: {}", reply.seen());
        }
    }

    // what no node has heard of is waited for, then the origin is asked, once for many
    let token = purged(frankfurt, "/another").await;
    let unheard = forged(&token);
    for _ in 0..2 {
        oregon.get(FREE, target).await;
    }
    let before = fleet.origin.count(target);
    let began = Instant::now();
    let reply = shown(oregon, target, "meridian-purge", &unheard).await;
    assert!(began.elapsed() >= Duration::from_millis(240), "{:?}", began.elapsed());
    assert!(reply.status == 200 && !reply.is_hit(), "{}", reply.seen());
    assert!(reply.cache_status().contains("after-arrival"), "{}", reply.seen());
    assert_eq!(fleet.origin.count(target), before + 1);
    let mut crowd = JoinSet::new();
    for _ in 0..40 {
        let (address, unheard) = (oregon.http, unheard.clone());
        crowd.spawn(async move { send(address, empty(get(FREE, target).header("meridian-purge", unheard))).await });
    }
    while let Some(reply) = crowd.join_next().await {
        assert_eq!(reply.unwrap().status, 200);
    }
    let asked = fleet.origin.count(target) - before - 1;
    assert!((1..=10).contains(&asked), "{asked} questions to the origin for 40 clients");

    // what is no token, or of another realm, changes nothing
    let order = json!({ "site": PINNED_SITE, "tags": ["x"], "wait": "all" });
    let foreign = frankfurt.purge(&order).await.unwrap().1["token"].as_str().unwrap().to_owned();
    let asked = fleet.origin.count(target);
    let long = "A".repeat(2_000);
    for value in ["", "x", "!", "AAAA,BBBB", &long, &foreign] {
        let began = Instant::now();
        let reply = shown(oregon, target, "meridian-purge", value).await;
        assert!(reply.is_hit() && began.elapsed() < Duration::from_millis(200), "{value}: {}", reply.seen());
        let reply = shown(oregon, target, "cookie", &format!("meridian-purge={value}")).await;
        assert!(reply.is_hit(), "{value}: {}", reply.seen());
    }
    assert_eq!(fleet.origin.count(target), asked);

    // the origin sees the other cookies only
    let seen = fleet.origin.seen();
    assert!(seen.iter().all(|seen| !format!("{:?}", seen.headers).contains("meridian-purge")));
    assert!(seen.iter().any(|seen| seen.field("cookie") == "session=1"), "a request with a cookie got to the origin");
    let page = oregon.admin("/metrics").await.text();
    let counted = |result: &str| -> u64 {
        let series = format!("meridian_purge_tokens_total{{realm=\"global\",result=\"{result}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    };
    let counts = ["heard", "waited", "not-yet", "ignored"].map(counted);
    eprintln!("heard, waited, not yet, ignored: {counts:?}");
    assert_eq!(counts[0] + counts[1] + counts[2], 50 + 41, "{counts:?}");
    assert!(counts[2] >= 41 && counts[3] >= 12, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_write_made_the_origin_purge_reads_it_at_another_node() {
    let fleet = Fleet::start(1).await;
    let (oregon, sydney) = (fleet.node("us-west-1"), fleet.node("ap-southeast-1"));
    let target = "/o/2000/written";
    fleet.origin.on("/write", move |_| Answer::ok("done").with("meridian-purge-urls", target));
    for round in 0..20 {
        for node in [oregon, sydney] {
            node.get(FREE, target).await;
        }
        let version = fleet.origin.publish();
        let write = Request::post("/write").header("host", FREE).body(Full::from("x")).unwrap();
        let reply = send(oregon.http, write).await;
        assert_eq!(reply.status, 200, "{}", reply.seen());
        let token = reply.field("meridian-purge");
        assert!(!token.is_empty() && reply.field("meridian-purge-urls").is_empty(), "{}", reply.seen());
        let read = shown(sydney, target, "meridian-purge", token).await;
        let read = stamped::check(&read.body).unwrap().version;
        assert!(read >= version, "round {round}: {read} is older than {version}");
    }
}
