//! What happens when the origin does not answer.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::{HOST, node};
use crate::harness::{
    Node,
    client::{Reply, fetch},
    free_addresses,
    origin::{Answer, Failing, Origin},
    until_some,
};

/// Objects that are good for a second.
fn short(origin: &Origin, path: &str, control: &'static str) {
    origin.on(path, move |_| Answer::ok("old but good").with("cache-control", control).with("etag", "\"1\""));
}

/// Asks until the answer is not fresh from the cache any more.
async fn past_its_lifetime(node: &Node, path: &str) -> Reply {
    let (reply, _) = until_some("the object's second is over", Duration::from_secs(5), async || {
        let reply = fetch(node.http, HOST, path).await;
        if reply.is_hit() && !reply.cache_status().contains("detail") { Err(reply.seen()) } else { Ok(reply) }
    })
    .await;
    reply
}

#[tokio::test]
async fn an_old_answer_is_served_when_the_origin_fails() {
    for failing in [Failing::Cut, Failing::Status(503)] {
        let origin = Origin::start();
        short(&origin, "/s", "max-age=1, stale-if-error=600");
        let node = node(&origin, "");
        assert_eq!(fetch(node.http, HOST, "/s").await.text(), "old but good");
        origin.fail(Some(failing));
        let reply = past_its_lifetime(&node, "/s").await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, "old but good"),
            "{failing:?}: {}",
            reply.seen()
        );
        assert!(reply.cache_status().contains("stale-if-error"), "{failing:?}: {}", reply.seen());
        // and the origin's own word again once it is back
        origin.fail(None);
        until_some("the origin is used again", Duration::from_secs(5), async || {
            let reply = fetch(node.http, HOST, "/s").await;
            if reply.cache_status().contains("stale-if-error") { Err(reply.seen()) } else { Ok(()) }
        })
        .await;
    }
}

#[tokio::test]
async fn what_must_be_revalidated_is_not_served_when_the_origin_fails() {
    let origin = Origin::start();
    short(&origin, "/m", "max-age=1, must-revalidate");
    let node = node(&origin, "");
    assert_eq!(fetch(node.http, HOST, "/m").await.status, 200);
    origin.fail(Some(Failing::Cut));
    let reply = past_its_lifetime(&node, "/m").await;
    assert_eq!(reply.status, 502, "{}", reply.seen());
    assert!(!reply.text().contains("old but good"), "{}", reply.seen());
}

#[tokio::test]
async fn with_nothing_old_a_dead_origin_is_a_clear_error_that_is_not_kept() {
    let [closed] = free_addresses();
    let config = format!("[[sites]]\nname = \"s\"\nhosts = [\"{HOST}\"]\norigin = \"http://{closed}\"\n");
    let node = Node::alone(&config);
    let reply = fetch(node.http, HOST, "/a").await;
    assert_eq!(reply.status, 502, "{}", reply.seen());
    assert!(reply.text().contains("origin-unreachable"), "it says why: {}", reply.seen());
    assert_eq!(reply.field("cache-control"), "no-store", "{}", reply.seen());

    let origin = Origin::start();
    let node = super::node(&origin, "");
    origin.fail(Some(Failing::Cut));
    let reply = fetch(node.http, HOST, "/o/10/a").await;
    assert_eq!(reply.status, 502, "{}", reply.seen());
    origin.fail(None);
    let (_, after) = until_some("the origin is used again", Duration::from_secs(5), async || {
        let reply = fetch(node.http, HOST, "/o/10/a").await;
        if reply.status == 200 { Ok(()) } else { Err(reply.seen()) }
    })
    .await;
    assert!(after < Duration::from_secs(5), "after {after:?}");
}

#[tokio::test]
async fn an_origin_that_does_not_answer_in_time_is_a_504() {
    let origin = Origin::start();
    let url = origin.url();
    origin.on("/slow", |_| {
        std::thread::sleep(Duration::from_secs(2));
        Answer::ok("late")
    });
    let node = Node::alone(&format!(
        "[[sites]]\nname = \"s\"\nhosts = [\"{HOST}\"]\n[[sites.origins]]\nurl = \"{url}\"\n\
         deadlines = {{ first_byte = \"300ms\" }}\n"
    ));
    let reply = fetch(node.http, HOST, "/slow").await;
    assert_eq!(reply.status, 504, "{}", reply.seen());
    assert!(reply.text().contains("origin-timeout"), "{}", reply.seen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_often_is_fetched_anew_before_anybody_has_to_wait() {
    let origin = Origin::start();
    for path in ["/ahead/hot", "/hot"] {
        let asked = AtomicUsize::new(0);
        origin.on(path, move |_| {
            // nine tenths of the first one's lifetime are over
            let age = if asked.fetch_add(1, Ordering::SeqCst) == 0 { "990" } else { "0" };
            Answer::ok("hot").with("cache-control", "max-age=1000").with("age", age)
        });
    }
    let node = node(&origin, "[[sites.routes]]\npath = \"/ahead/*\"\nrefresh_ahead = true\n");
    for path in ["/ahead/hot", "/hot"] {
        assert_eq!(fetch(node.http, HOST, path).await.status, 200);
        for _ in 0..100 {
            let reply = fetch(node.http, HOST, path).await;
            assert!(reply.is_hit(), "{path}: {}", reply.seen());
        }
    }
    assert_eq!((origin.count("/ahead/hot"), origin.count("/hot")), (2, 1));
}
