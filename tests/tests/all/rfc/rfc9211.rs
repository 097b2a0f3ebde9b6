//! RFC 9211: `Cache-Status`.

use sfv::{BareItem, Item, List, ListEntry, Parser};
use tokio::task::JoinSet;

use super::{HOST, ask, by, config, fetch, node};
use crate::harness::{
    Node,
    client::{self, Reply},
    free_addresses,
    origin::{Answer, Failing, Origin},
};

/// All members that an answer has, nearest to the origin first.
fn members(reply: &Reply) -> Vec<Item> {
    let lines: Vec<_> = reply.headers.get_all("cache-status").iter().map(|line| line.to_str().unwrap()).collect();
    let list: List = Parser::new(&lines.join(", ")).parse().unwrap_or_else(|error| panic!("{lines:?}: {error}"));
    let item = |entry| match entry {
        ListEntry::Item(item) => item,
        ListEntry::InnerList(list) => panic!("an inner list: {list:?}"),
    };
    list.into_iter().map(item).collect()
}

fn text(value: &BareItem) -> String {
    match value {
        BareItem::Token(token) => token.as_str().to_owned(),
        BareItem::String(string) => string.as_str().to_owned(),
        BareItem::Integer(number) => number.to_string(),
        BareItem::Boolean(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Section 2: what each parameter may be.
fn check_grammar(member: &Item) {
    assert!(matches!(member.bare_item, BareItem::Token(_) | BareItem::String(_)), "{member:?}");
    for (name, value) in &member.params {
        let fits = match name.as_str() {
            "hit" | "stored" | "collapsed" => matches!(value, BareItem::Boolean(_)),
            "ttl" | "fwd-status" => matches!(value, BareItem::Integer(_)),
            "fwd" => {
                let known = ["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"];
                matches!(value, BareItem::Token(token) if known.contains(&token.as_str()))
            }
            "key" => matches!(value, BareItem::String(_)),
            "detail" => matches!(value, BareItem::String(_) | BareItem::Token(_)),
            other => panic!("an unregistered parameter: {other}"),
        };
        assert!(fits, "{name} in {member:?}");
    }
    let has = |name: &str| member.params.iter().any(|(key, _)| key.as_str() == name);
    assert!(!(has("hit") && has("fwd")), "2.1: hit and fwd exclude each other: {member:?}");
    let forwarded_only = ["fwd-status", "stored", "collapsed"].iter().any(|name| has(name));
    assert!(!forwarded_only || has("fwd"), "2.3 to 2.6: only where it was forwarded: {member:?}");
}

/// Section 2: the one member of this node holds these, and none of those after `!`.
fn check(what: &str, reply: &Reply, expected: &str) {
    let members = members(reply);
    let [member] = members.as_slice() else { panic!("{what}: one member for one cache: {members:?}") };
    check_grammar(member);
    assert_eq!(text(&member.bare_item), "meridian.edge-1");
    for word in expected.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.trim_start_matches('!').split_once('=').unwrap_or((word.trim_start_matches('!'), ""));
        let found = member.params.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| text(value));
        if word.starts_with('!') {
            assert_eq!(found, None, "{what}: {word} in {}", reply.seen());
        } else {
            let found = found.unwrap_or_else(|| panic!("{what}: no {name} in {}", reply.seen()));
            assert!(value.is_empty() || value == found, "{what}: {word} in {}", reply.seen());
        }
    }
}

/// Section 2, each outcome by its parameters.
mod s2 {
    use super::*;

    /// The outcomes of a node whose origin works.
    #[tokio::test]
    async fn every_outcome_is_told_in_the_words_of_the_standard() {
        let origin = Origin::start();
        origin.on("/not", |_| Answer::ok("x").with("cache-control", "no-store"));
        origin.on("/vary", |_| Answer::ok("x").with("cache-control", "max-age=600").with("vary", "x-a"));
        origin.on("/aged", |seen| {
            let answer = if seen.field("if-none-match").is_empty() { Answer::ok("x") } else { Answer::status(304) };
            answer.with("cache-control", "max-age=10").with("age", "20").with("etag", "\"a\"")
        });
        origin.on("/window", |_| {
            Answer::ok("x").with("cache-control", "max-age=10, stale-while-revalidate=600").with("age", "20")
        });
        origin.on("/off/x", |_| Answer::ok("x"));
        let off = "[[sites.routes]]\npath = \"/off/*\"\ncache = \"off\"\n";
        let node = Node::alone(&(config(&origin.url()) + off));
        check("miss", &fetch(&node, "/o/10/a").await, "fwd=uri-miss fwd-status=200 stored !hit");
        check("hit", &fetch(&node, "/o/10/a").await, "hit ttl !fwd !stored");
        check("head hit", &by(&node, "HEAD", "/o/10/a", &[]).await, "hit");
        check("304", &ask(&node, "/o/10/a", &[("if-none-match", "*")]).await, "hit");
        check("206", &ask(&node, "/o/10/a", &[("range", "bytes=0-1")]).await, "hit");
        check("416", &ask(&node, "/o/10/a", &[("range", "bytes=99-")]).await, "hit");
        check("412", &ask(&node, "/o/10/a", &[("if-match", "\"z\"")]).await, "hit");
        check("part of nothing", &ask(&node, "/o/10/part", &[("range", "bytes=0-1")]).await, "fwd !hit");
        check("suffix of nothing", &ask(&node, "/o/10/suffix", &[("range", "bytes=-1")]).await, "fwd !hit");
        check("not stored", &fetch(&node, "/not").await, "fwd=uri-miss !stored detail=no-store");
        check("hit for miss", &fetch(&node, "/not").await, "fwd !stored !hit");
        check("vary", &ask(&node, "/vary", &[("x-a", "1")]).await, "fwd=uri-miss stored");
        check("vary", &ask(&node, "/vary", &[("x-a", "2")]).await, "fwd=vary-miss stored");
        fetch(&node, "/aged").await;
        check("renewed", &fetch(&node, "/aged").await, "fwd=stale fwd-status=304 !hit");
        fetch(&node, "/window").await;
        check("stale", &fetch(&node, "/window").await, "hit ttl=-10 detail=stale-while-revalidate !fwd");
        check("method", &by(&node, "POST", "/o/10/a", &[]).await, "fwd=method fwd-status=200 !stored");
        check("off", &fetch(&node, "/off/x").await, "fwd=bypass detail=cache-off");
        check("404", &fetch(&node, "/nothing").await, "fwd=uri-miss fwd-status=404 !stored");
        check("refused", &by(&node, "TRACE", "/o/10/a", &[]).await, "detail=method-refused !fwd !hit");
    }

    /// And of one whose origin does not.
    #[tokio::test]
    async fn failures_are_told_too() {
        let origin = Origin::start();
        origin.on("/old", |_| {
            Answer::ok("x").with("cache-control", "max-age=10").with("age", "20").with("etag", "\"a\"")
        });
        let node = node(&origin);
        fetch(&node, "/old").await;
        origin.fail(Some(Failing::Status(503)));
        check("error", &fetch(&node, "/new").await, "fwd=uri-miss fwd-status=503 !stored");
        origin.fail(Some(Failing::Cut));
        check("stale on error", &fetch(&node, "/old").await, "hit ttl=-10 detail=stale-if-error");
        check("cut", &fetch(&node, "/new2").await, "fwd=uri-miss detail !fwd-status !stored");
        check("cut on the way past", &by(&node, "POST", "/new", &[]).await, "fwd=method detail !fwd-status");
        let [closed] = free_addresses();
        let refused = Node::alone(&config(&format!("http://{closed}")));
        check("refused", &fetch(&refused, "/").await, "fwd=uri-miss detail=origin-unreachable");
    }

    /// Section 2.6: "collapsed" for those who shared, and not for the one who led.
    #[tokio::test]
    async fn who_shared_a_fetch_says_so() {
        let origin = Origin::start();
        let mut pours = origin.pours("/c", |answer| answer.with("cache-control", "max-age=600"));
        let node = node(&origin);
        let mut waiting = JoinSet::new();
        waiting.spawn(client::fetch(node.http, HOST, "/c"));
        let pour = pours.next().await;
        for _ in 0..3 {
            waiting.spawn(client::fetch(node.http, HOST, "/c"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        pour.piece("x");
        drop(pour);
        let replies = waiting.join_all().await;
        for reply in &replies {
            check("shared", reply, "");
        }
        let collapsed = replies.iter().filter(|reply| reply.cache_status().contains("collapsed")).count();
        let hits = replies.iter().filter(|reply| reply.is_hit()).count();
        assert_eq!(collapsed + hits, 3, "{:?}", replies.iter().map(Reply::cache_status).collect::<Vec<_>>());
    }

    /// Section 2: "Each member of the list represents a cache that has handled the request": the one nearest to the client last. What
    /// a hop further in said belongs to the answer that it gave, not to what is kept of it.
    #[tokio::test]
    async fn each_hop_has_one_member_in_order() {
        let origin = Origin::start();
        origin.on("/cdn", |_| {
            Answer::ok("x").with("cache-control", "max-age=600").with("cache-status", "shield; hit; ttl=3")
        });
        let inner = Node::called("inner", &config(&origin.url()));
        let outer = Node::called("outer", &config(&format!("http://{}", inner.http)));
        let names = |reply: &Reply| -> Vec<String> {
            let members = members(reply);
            members.iter().for_each(check_grammar);
            members.iter().map(|member| text(&member.bare_item)).collect()
        };
        let miss = fetch(&outer, "/cdn").await;
        assert_eq!(names(&miss), ["shield", "meridian.inner", "meridian.outer"], "{:?}", miss.headers);
        let hit = fetch(&outer, "/cdn").await;
        assert_eq!(names(&hit), ["meridian.outer"], "{:?}", hit.headers);
        assert_eq!(names(&by(&outer, "POST", "/o/10/x", &[]).await), ["meridian.inner", "meridian.outer"]);
        assert_eq!(names(&ask(&outer, "/o/10/y", &[("if-match", "\"z\"")]).await).last().unwrap(), "meridian.outer");
    }
}
