//! RFC 9111: HTTP caching.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{HOST, ask, attempt, by, config, fetch, impatient, kept, node};
use crate::harness::{
    Node, client,
    origin::{Answer, Origin},
    scribe::{Scribe, Step, ok},
};

/// Section 3.3, incomplete responses.
mod s3_3 {
    use super::*;

    /// "A cache MUST NOT use an incomplete response to answer requests unless the response has been made complete": a body that
    /// breaks off is cut for who waits for it, and fetched anew for the next.
    #[tokio::test]
    async fn what_breaks_off_is_never_kept_as_whole() {
        const CACHED: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nETag: \"a\"\r\n";
        let origin = Scribe::start(|asked| {
            let begun: Vec<Step> = match asked.target.as_str() {
                "/length" => vec![format!("{CACHED}Content-Length: 10\r\n\r\n01234").into(), Step::Close],
                "/length-reset" => vec![format!("{CACHED}Content-Length: 10\r\n\r\n01234").into(), Step::Reset],
                "/length-stall" => vec![format!("{CACHED}Content-Length: 10\r\n\r\n01234").into(), Step::Stall],
                "/chunks" => {
                    vec![format!("{CACHED}Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n").into(), Step::Close]
                }
                "/chunk" => vec![format!("{CACHED}Transfer-Encoding: chunked\r\n\r\nA\r\n01234").into(), Step::Close],
                "/chunks-stall" => {
                    vec![format!("{CACHED}Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n").into(), Step::Stall]
                }
                "/no-trailer-end" => vec![
                    format!("{CACHED}Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\nX: y\r\n").into(),
                    Step::Close,
                ],
                "/until-reset" => vec![
                    format!("{CACHED}\r\n01234").into(),
                    Step::Wait(std::time::Duration::from_millis(20)),
                    Step::Reset,
                ],
                _ => vec![format!("{CACHED}Content-Length: 400000\r\n\r\n{}", "x".repeat(300_000)).into(), Step::Close],
            };
            if asked.before % 2 == 0 { begun } else { vec![ok("Cache-Control: max-age=600\r\n", "whole").into()] }
        });
        let node = impatient(&origin);
        for path in [
            "/length",
            "/length-reset",
            "/length-stall",
            "/chunks",
            "/chunk",
            "/chunks-stall",
            "/no-trailer-end",
            "/until-reset",
            "/large",
        ] {
            if let Some(cut) = attempt(&node, path).await {
                assert!(cut.broken.is_some() || cut.status.is_server_error(), "{path}: {}", cut.seen());
            }
            for _ in 0..2 {
                let whole = fetch(&node, path).await;
                assert_eq!((whole.text().as_str(), &whole.broken), ("whole", &None), "{path}: {}", whole.seen());
            }
            assert_eq!(origin.count(path), 2, "{path}");
        }
    }
}

/// Section 3.4, combining parts.
mod s3_4 {
    use super::*;

    const SLICE: usize = 1024 * 1024;
    const LENGTH: usize = 2 * SLICE + 500;

    fn byte(at: usize) -> u8 {
        b'a' + u8::try_from(at % 23).unwrap()
    }

    fn bytes(first: usize, last: usize) -> Vec<u8> {
        (first..=last).map(byte).collect()
    }

    fn span(range: &str) -> Option<(usize, usize)> {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().unwrap_or(LENGTH - 1).min(LENGTH - 1)))
    }

    /// A 206 of `first-last` that calls itself `told`.
    fn part(told: &str, validator: &str, body: &[u8]) -> Vec<Step> {
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=600\r\nContent-Length: {}\r\n{validator}{told}\r\n",
            body.len()
        );
        vec![Step::Write([head.as_bytes(), body].concat())]
    }

    fn whole() -> Vec<Step> {
        let head =
            ok("Cache-Control: max-age=600\r\nETag: \"a\"\r\n", "").replace("Length: 0", &format!("Length: {LENGTH}"));
        vec![Step::Write([head.as_bytes(), &bytes(0, LENGTH - 1)].concat())]
    }

    fn honest(first: usize, last: usize) -> Vec<Step> {
        part(&format!("Content-Range: bytes {first}-{last}/{LENGTH}\r\n"), "ETag: \"a\"\r\n", &bytes(first, last))
    }

    /// What the origin says in the place of an honest part.
    fn lie(kind: &str, first: usize, last: usize) -> Vec<Step> {
        let told =
            |first: usize, last: usize, length: &str| format!("Content-Range: bytes {first}-{last}/{length}\r\n");
        let (strong, length, wrong) = ("ETag: \"a\"\r\n", LENGTH.to_string(), vec![b'!'; last + 1 - first]);
        match kind {
            "other-tag" => part(&told(first, last, &length), "ETag: \"b\"\r\n", &wrong),
            "weak-tag" => part(&told(first, last, &length), "ETag: W/\"a\"\r\n", &wrong),
            "no-tag" => part(&told(first, last, &length), "", &wrong),
            "first" => part(&told(first + 1, last, &length), strong, &wrong[1..]),
            "before" => part(&told(first.saturating_sub(1), last, &length), strong, &[&wrong[..], b"!"].concat()),
            "last" => part(&told(first, last - 1, &length), strong, &wrong[1..]),
            "length" => part(&told(first, last, &(LENGTH + 1).to_string()), strong, &wrong),
            "star" => part(&told(first, last, "*"), strong, &wrong),
            "none" => part("", strong, &wrong),
            "short" => part(&told(first, last, &length), strong, &wrong[1..]),
            "surplus" => part(&told(first, last, &length), strong, &[&wrong[..], b"!"].concat()),
            "twice" => part(&told(first, last, &length).repeat(2), strong, &wrong),
            "backwards" => part(&told(last, first, &length), strong, &wrong),
            "beyond" => part(&told(first, LENGTH + 5, &length), strong, &wrong),
            "huge" => part(&told(first, last, "99999999999999999999999"), strong, &wrong),
            "multipart" => {
                part("Content-Type: multipart/byteranges; boundary=x\r\n", strong, b"--x\r\n\r\n!\r\n--x--\r\n")
            }
            _ => vec!["HTTP/1.1 416 No\r\nContent-Length: 0\r\nContent-Range: bytes */3\r\n\r\n".into()],
        }
    }

    const LIES: [&str; 17] = [
        "other-tag",
        "weak-tag",
        "no-tag",
        "first",
        "before",
        "last",
        "length",
        "star",
        "none",
        "twice",
        "backwards",
        "beyond",
        "huge",
        "multipart",
        "416",
        "short",
        "surplus",
    ];

    /// The first slice is honest; what comes for another one is a lie once, in the place that the target names.
    fn liar() -> Scribe {
        let told = AtomicU32::new(0);
        Scribe::start(move |asked| {
            let Some((first, last)) = span(asked.field("range")) else { return whole() };
            let mut words = asked.target[1..].split('/');
            let (kind, at) = (words.next().unwrap(), words.next().unwrap());
            let lying = (first > 0) == (at == "later");
            if lying {
                told.fetch_add(1, Ordering::SeqCst);
                return lie(kind, first, last);
            }
            honest(first, last)
        })
    }

    /// "A cache MAY combine ... only if they all share the same strong validator": a part that does not prove to be of the same
    /// body, or is not what was asked for, is never put beside another, nor given to a client as what it wants.
    #[tokio::test]
    async fn a_later_part_that_is_another_one_than_was_asked_for_is_never_joined() {
        let origin = liar();
        let node = impatient(&origin);
        for kind in LIES {
            let path = format!("/{kind}/later");
            let begun = ask(&node, &path, &[("range", "bytes=0-99")]).await;
            assert!(begun.status == 206 && begun.body == bytes(0, 99), "{kind}: {}", begun.seen());
            let (from, to) = (SLICE - 10, SLICE + 10);
            let across = ask(&node, &path, &[("range", &format!("bytes={from}-{to}"))]).await;
            check(kind, &across, from, to);
            // the whole is not made of parts that do not fit either
            let all = fetch(&node, &path).await;
            check(kind, &all, 0, LENGTH - 1);
        }
    }

    /// Whatever came: the bytes are those of the one honest body, or it is broken off, or an error, or another body under its own tag.
    fn check(kind: &str, reply: &client::Reply, first: usize, last: usize) {
        if reply.status.as_u16() >= 400 {
            return;
        }
        if reply.field("etag") != "\"a\"" {
            return assert!(!reply.body.iter().any(u8::is_ascii_alphabetic), "{kind}: mixed: {}", reply.seen());
        }
        let true_bytes = if reply.status == 206 { bytes(first, last) } else { bytes(0, LENGTH - 1) };
        assert!(true_bytes.starts_with(&reply.body), "{kind}: other bytes: {}", reply.seen());
        assert!(
            reply.broken.is_some() || reply.body.len() == true_bytes.len(),
            "{kind}: a part as the whole: {}",
            reply.seen()
        );
    }

    /// The same for the part that tells of the body first: nothing is built on it.
    #[tokio::test]
    async fn a_first_part_that_lies_is_built_upon_by_nobody() {
        let origin = liar();
        let node = impatient(&origin);
        for kind in LIES {
            let path = format!("/{kind}/first");
            // what the client gets of such an origin is between the two of them; what others get later is not
            let _ = ask(&node, &path, &[("range", "bytes=0-99")]).await;
            let later = ask(&node, &path, &[("range", &format!("bytes={SLICE}-{}", SLICE + 9))]).await;
            if later.status == 206 && later.broken.is_none() {
                assert_eq!(later.field("content-range"), format!("bytes {SLICE}-{}/{LENGTH}", SLICE + 9), "{kind}");
                assert!(later.body == bytes(SLICE, SLICE + 9), "{kind}: {}", later.seen());
            }
            // if the lie was believed so far, it is found out at the latest now, and forgotten
            let _ = attempt(&node, &path).await;
            let all = fetch(&node, &path).await;
            assert!(all.status == 200 && all.broken.is_none(), "{kind}: {}", all.seen());
            assert!(all.body == bytes(0, LENGTH - 1), "{kind}: other bytes: {}", all.seen());
        }
    }

    /// Parts with the same strong validator are one body, each asked for once.
    #[tokio::test]
    async fn parts_that_prove_to_be_of_one_body_are_joined() {
        let origin =
            Scribe::start(|asked| span(asked.field("range")).map_or_else(whole, |(first, last)| honest(first, last)));
        let node = impatient(&origin);
        for (first, last) in [(0, 9), (2 * SLICE, 2 * SLICE + 9), (SLICE + 5, SLICE + 6)] {
            let reply = ask(&node, "/f", &[("range", &format!("bytes={first}-{last}"))]).await;
            assert!(reply.status == 206 && reply.body == bytes(first, last), "{first}: {}", reply.seen());
        }
        let asked = origin.count("/f");
        let all = fetch(&node, "/f").await;
        assert!(all.status == 200 && all.body == bytes(0, LENGTH - 1) && all.broken.is_none(), "{}", all.seen());
        assert_eq!(origin.count("/f"), asked, "all of it was there: {:?}", origin.asked());
        for asked in origin.asked().iter().skip(1) {
            assert_eq!(asked.field("if-range"), "\"a\"", "{asked:?}");
        }
    }
}

/// Section 4.2.3, age.
mod s4_2_3 {
    use super::*;

    /// Each cache on the way adds the time that it kept the response; none begins anew, and lifetimes count from the origin.
    #[tokio::test]
    async fn age_adds_up_through_two_caches_and_neither_serves_what_is_too_old() {
        let origin = Origin::start();
        origin.on("/aged", |_| kept("x").with("age", "100").with("etag", "\"x\""));
        origin.on("/over", |_| kept("x").with("age", "600"));
        origin.on("/old", |_| kept("x").with("date", "Sun, 02 Nov 2025 00:00:00 GMT").with("etag", "\"x\""));
        origin.on("/huge", |_| kept("x").with("age", "99999999999999999999").with("etag", "\"x\""));
        let inner = Node::called("inner", &config(&origin.url()));
        let outer = Node::called("outer", &config(&format!("http://{}", inner.http)));
        let dated = fetch(&inner, "/aged").await.field("date").to_owned();
        tokio::time::sleep(std::time::Duration::from_millis(1050)).await;
        let mut last = 0;
        for round in 0..3 {
            let reply = fetch(&outer, "/aged").await;
            let age: u32 = reply.field("age").parse().unwrap_or_else(|_| panic!("no age: {:?}", reply.headers));
            // one second at the inner one
            assert!(age >= 101 && age >= last && age < 160, "{age} after {last}: {}", reply.seen());
            assert_eq!((reply.is_hit(), reply.field("date")), (round > 0, &*dated), "{}", reply.seen());
            last = age;
        }
        assert_eq!(origin.count("/aged"), 1);
        for path in ["/over", "/old", "/huge"] {
            for _ in 0..2 {
                let reply = fetch(&outer, path).await;
                assert!(!reply.is_hit(), "{path}: {}", reply.seen());
            }
            assert_eq!(origin.count(path), 2, "{path}: past its lifetime for both");
        }
    }
}

/// Section 4.3, validation.
mod s4_3 {
    use super::*;

    /// Section 4.3.4: "the cache MUST NOT use the 304 to update" what it does not select; the client gets the whole.
    #[tokio::test]
    async fn a_304_for_another_response_renews_nothing() {
        let origin = Scribe::start(|asked| match (asked.before, asked.field("if-none-match")) {
            (0, _) => vec![ok("Cache-Control: max-age=10\r\nAge: 20\r\nETag: \"a\"\r\n", "first").into()],
            (_, "\"a\"") => {
                vec!["HTTP/1.1 304 Not Modified\r\nETag: \"b\"\r\nCache-Control: max-age=600\r\n\r\n".into()]
            }
            _ => vec![ok("Cache-Control: max-age=600\r\nETag: \"b\"\r\n", "second").into()],
        });
        let node = impatient(&origin);
        assert_eq!(fetch(&node, "/").await.text(), "first");
        for _ in 0..2 {
            let reply = fetch(&node, "/").await;
            assert_eq!((reply.text().as_str(), reply.field("etag")), ("second", "\"b\""), "{}", reply.seen());
        }
    }

    /// Section 3.2: what a 304 says of a body that it does not have is not taken over, and neither is a cookie for the one who
    /// happened to ask; a `no-store` ends the keeping.
    #[tokio::test]
    async fn a_304_changes_what_it_may_and_nothing_else() {
        let origin = Scribe::start(|asked| {
            match asked.before {
            0 => vec![ok("Cache-Control: max-age=10\r\nAge: 20\r\nETag: \"a\"\r\nX-New: 1\r\n", "hello").into()],
            1 => vec!["HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 99\r\nContent-Encoding: gzip\r\nContent-Range: bytes 0-1/2\r\n\
                       Connection: X-Hop\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\nX-New: 2\r\nCache-Control: max-age=10\r\nAge: 20\r\n\r\n".into()],
            _ => vec!["HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nCache-Control: no-store\r\n\r\n".into()],
        }
        });
        let node = impatient(&origin);
        for round in 0..5 {
            let reply = fetch(&node, "/").await;
            if round < 3 {
                assert_eq!(
                    (reply.status.as_u16(), reply.text().as_str(), &reply.broken),
                    (200, "hello", &None),
                    "{round}: {}",
                    reply.seen()
                );
            }
            if round == 1 {
                assert_eq!((reply.field("x-new"), reply.field("content-length")), ("2", "5"), "{:?}", reply.headers);
            }
            for name in ["content-encoding", "content-range", "x-hop"] {
                assert_eq!(reply.field(name), "", "{round}: {:?}", reply.headers);
            }
            if round >= 3 {
                // it is not kept any more: a 304 to a question without a condition is no answer
                assert_eq!(reply.status, 502, "{round}: {}", reply.seen());
            }
        }
    }
}

/// Section 4.4, invalidation.
mod s4_4 {
    use super::*;

    fn counted(origin: &Origin, path: &str) {
        let count = AtomicU32::new(0);
        origin.on(path, move |seen| {
            if seen.method == "GET" {
                return kept(&count.fetch_add(1, Ordering::SeqCst).to_string());
            }
            let status = seen.field("x-status").parse().unwrap_or(200);
            ["location", "content-location"].iter().fold(Answer::status(status), |answer, name| {
                match seen.field(&format!("x-{name}")) {
                    "" => answer,
                    value => answer.with(name, value),
                }
            })
        });
    }

    /// "A cache MUST invalidate the target URI when it receives a non-error status code in response to an unsafe request method
    /// (including methods whose safety is unknown)"; an error invalidates nothing.
    #[tokio::test]
    async fn unsafe_and_unknown_methods_void_their_target_unless_they_fail() {
        let origin = Origin::start();
        counted(&origin, "/t");
        let node = node(&origin);
        let mut version = 0;
        for method in ["POST", "PUT", "DELETE", "PATCH", "MOVE", "X-UNHEARD-OF"] {
            for (status, voids) in [
                ("200", true),
                ("204", true),
                ("303", true),
                ("400", false),
                ("404", false),
                ("500", false),
                ("503", false),
            ] {
                assert_eq!(fetch(&node, "/t").await.text(), version.to_string(), "before {method} {status}");
                let _ = by(&node, method, "/t", &[("x-status", status)]).await;
                version += u32::from(voids);
                let reply = fetch(&node, "/t").await;
                assert_eq!(reply.text(), version.to_string(), "after {method} {status}: {}", reply.seen());
            }
        }
    }

    /// "A cache MAY invalidate other URIs ... in particular, the URI(s) in the Location and Content-Location response header
    /// fields (if present) are candidates"; "however, a cache MUST NOT trigger an invalidation ... if the origin of the URI to be
    /// invalidated differs": a port, a scheme or a host more or less is another origin, also one of the same node.
    #[tokio::test]
    async fn what_an_answer_names_is_voided_on_its_own_origin_only() {
        let origin = Origin::start();
        for path in ["/t", "/other"] {
            counted(&origin, path);
        }
        let two = "[[sites]]\nname = \"second\"\nhosts = [\"second.test\"]\n".to_owned()
            + &format!("origin = \"{}\"\n", origin.url());
        let node = Node::alone(&(config(&origin.url()) + &two));
        let own = |rest: &str| format!("http://{HOST}{rest}");
        for (reference, voids) in [
            ("/other".to_owned(), true),
            ("other".to_owned(), true),
            (own("/other"), true),
            (own(":80/other"), true),
            (format!("//{HOST}/other#x"), true),
            (own("/%6fther"), true),
            ("http://second.test/other".to_owned(), false),
            (format!("https://{HOST}/other"), false),
            (own(":8080/other"), false),
            (format!("http://{HOST}.evil.test/other"), false),
            (format!("http://{HOST}@second.test/other"), false),
            ("\\\\x/other".to_owned(), false),
        ] {
            for field in ["x-location", "x-content-location"] {
                let before = fetch(&node, "/other").await.text();
                let foreign = client::fetch(node.http, "second.test", "/other").await.text();
                assert_eq!(by(&node, "POST", "/t", &[(field, &reference), ("x-status", "201")]).await.status, 201);
                let after = fetch(&node, "/other").await;
                assert_eq!(after.text() != before, voids, "{field} {reference}: {}", after.seen());
                let other = client::fetch(node.http, "second.test", "/other").await;
                assert_eq!(other.text(), foreign, "{field} {reference}: another site's: {}", other.seen());
            }
        }
    }
}

/// Section 5.2, `Cache-Control`.
mod s5_2 {
    use super::*;

    /// Section 5.2.1: a client's directives are wishes; by default none makes this cache miss, or wait.
    #[tokio::test]
    async fn what_a_client_asks_of_the_cache_is_not_done_by_default() {
        let origin = Origin::start();
        origin.on("/c", |_| kept("x"));
        origin.on("/missing", |_| kept("x"));
        let node = node(&origin);
        fetch(&node, "/c").await;
        for (name, value) in [
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=0"),
            ("cache-control", "min-fresh=9999"),
            ("cache-control", "no-store"),
            ("cache-control", "no-cache, no-store, max-age=0, must-revalidate"),
            ("pragma", "no-cache"),
            ("cache-control", "only-if-cached"),
        ] {
            let reply = ask(&node, "/c", &[(name, value)]).await;
            assert!(reply.is_hit(), "{value}: {}", reply.seen());
        }
        assert_eq!(origin.count("/c"), 1);
        // section 5.2.1.7 lets an answer come from elsewhere only in a group of caches; this one asks the origin
        assert_eq!(ask(&node, "/missing", &[("cache-control", "only-if-cached")]).await.status, 200);
        // section 5.2.1.5: what a client does not want stored is not, for this one answer
        origin.on("/secret", |_| kept("x"));
        for count in 1..3 {
            ask(&node, "/secret", &[("cache-control", "no-store")]).await;
            assert_eq!(origin.count("/secret"), count);
        }
    }

    /// Sections 5.2.2.4 and 5.2.2.7: the forms with field names are taken as the strict ones without.
    #[tokio::test]
    async fn directives_that_name_fields_count_for_the_whole() {
        let origin = Origin::start();
        for (path, control) in [
            ("/private", "private=\"x-a, set-cookie\", max-age=600"),
            ("/private-bare", "max-age=600, private=x-a"),
            ("/no-store", "no-store=\"x\", max-age=600"),
        ] {
            origin.on(path, move |_| Answer::ok("x").with("cache-control", control).with("etag", "\"a\""));
        }
        origin.on("/no-cache", |seen| {
            let answer = if seen.field("if-none-match") == "\"a\"" { Answer::status(304) } else { Answer::ok("x") };
            answer.with("cache-control", "max-age=600, no-cache=\"x-a\"").with("etag", "\"a\"")
        });
        let node = node(&origin);
        for path in ["/private", "/private-bare", "/no-store"] {
            for count in 1..4 {
                assert!(!fetch(&node, path).await.is_hit(), "{path}");
                assert_eq!(origin.count(path), count, "{path}");
            }
        }
        for count in 1..4 {
            let reply = fetch(&node, "/no-cache").await;
            assert_eq!((reply.text().as_str(), origin.count("/no-cache")), ("x", count), "{}", reply.seen());
            assert_eq!(reply.cache_status().contains("fwd-status=304"), count > 1, "{}", reply.seen());
        }
    }

    /// Section 4.2.4: "A cache MUST NOT generate a stale response if it is prohibited by an explicit in-protocol directive": also by
    /// default, where a stale answer would otherwise be served when the origin is gone.
    #[tokio::test]
    async fn what_must_be_asked_for_is_never_served_stale() {
        let origin = Scribe::start(|asked| {
            if asked.before > 0 {
                return vec![Step::Reset];
            }
            let control = asked.target[1..].replace('+', ", ");
            vec![ok(&format!("Cache-Control: {control}\r\nAge: 20\r\nETag: \"a\"\r\n"), "old").into()]
        });
        let node = impatient(&origin);
        for (control, served) in [
            ("max-age=10", true),
            ("max-age=10+must-revalidate", false),
            ("max-age=10+proxy-revalidate", false),
            ("max-age=10+no-cache", false),
            ("max-age=10+s-maxage=10", false),
            ("max-age=10+MUST-Revalidate", false),
            ("max-age=10+no-cache=\"x\"", false),
        ] {
            let path = format!("/{control}").replace('"', "%22");
            let path = if control.contains('"') { path.replace("%22", "") } else { path };
            assert_eq!(fetch(&node, &path).await.text(), "old", "{control}");
            let reply = fetch(&node, &path).await;
            assert_eq!(reply.text() == "old", served, "{control}: {}", reply.seen());
            assert_eq!(reply.status == 200, served, "{control}: {}", reply.seen());
        }
    }
}

/// Section 4.1, `Vary`.
mod s4_1 {
    use super::*;

    /// What `Connection` takes from a request plays no part in the choice, and is not what the origin saw.
    #[tokio::test]
    async fn a_field_that_connection_names_selects_nothing() {
        let origin = Origin::start();
        let count = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&count);
        origin.on("/v", move |seen| {
            counting.fetch_add(1, Ordering::SeqCst);
            kept(&format!("for [{}]", seen.field("x-who"))).with("vary", "X-Who")
        });
        let node = node(&origin);
        assert_eq!(ask(&node, "/v", &[("x-who", "a")]).await.text(), "for [a]");
        let named = [("x-who", "a"), ("connection", "x-who")];
        for _ in 0..2 {
            assert_eq!(ask(&node, "/v", &named).await.text(), "for []");
        }
        assert_eq!(fetch(&node, "/v").await.text(), "for []");
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}
