//! RFC 9112: HTTP/1.1, as clients and origins may break it.

use super::{HOST, attempt, config, fetch, impatient};
use crate::harness::{
    Node, client,
    origin::{Answer, Origin},
    scribe::{Scribe, Step, ok},
};

/// A node before an origin that repeats what it was sent.
fn echoing() -> (Origin, Node) {
    let origin = Origin::start();
    origin.on("/up", |seen| Answer::ok(seen.body.clone()).with("cache-control", "no-store"));
    let node = Node::alone(&config(&origin.url()));
    (origin, node)
}

async fn say(node: &Node, bytes: &[u8]) -> client::Raw {
    client::raw(node.http, bytes, client::PATIENCE).await
}

/// An honest request on a connection of its own is served: the node is unharmed.
async fn unharmed(node: &Node, what: &str) {
    let said =
        say(node, format!("GET /o/60/fine HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes()).await;
    assert_eq!(said.status(), 200, "after {what}: {said:?}");
}

/// Section 2, messages.
mod s2 {
    use super::*;

    /// Section 2.2: "a recipient MAY recognize a single LF as a line terminator and ignore any preceding CR", "a recipient of such a
    /// bare CR MUST consider that element to be invalid". What is served once is served in the same way every time.
    #[tokio::test]
    async fn line_ends_and_what_stands_around_a_head_are_read_strictly() {
        let (origin, node) = echoing();
        let host = format!("Host: {HOST}\r\n");
        for (what, head) in [
            ("a bare CR in a value", format!("GET /o/60/a HTTP/1.1\r\n{host}X-A: b\rc\r\n\r\n")),
            ("a bare CR at a line's end", format!("GET /o/60/a HTTP/1.1\r\n{host}X-A: b\rX-C: d\r\n\r\n")),
            ("a zero byte", format!("GET /o/60/a HTTP/1.1\r\n{host}X-A: b\0c\r\n\r\n")),
            ("a folded line", format!("GET /o/60/a HTTP/1.1\r\n{host}X-A: b\r\n\tc\r\n\r\n")),
            ("a space before the first field", format!("GET /o/60/a HTTP/1.1\r\n X-A: b\r\n{host}\r\n")),
            ("a space before the colon", format!("GET /o/60/a HTTP/1.1\r\n{host}X-A : b\r\n\r\n")),
            ("no name", format!("GET /o/60/a HTTP/1.1\r\n{host}: b\r\n\r\n")),
            ("no colon", format!("GET /o/60/a HTTP/1.1\r\n{host}X-A\r\n\r\n")),
            ("another version", format!("GET /o/60/a HTTP/1.2\r\n{host}\r\n")),
            ("version 2", format!("GET /o/60/a HTTP/2.0\r\n{host}\r\n")),
            ("a space in the target", format!("GET /o/60/a b HTTP/1.1\r\n{host}\r\n")),
            ("no target", format!("GET HTTP/1.1\r\n{host}\r\n")),
            ("a space before the method", format!(" GET /o/60/a HTTP/1.1\r\n{host}\r\n")),
        ] {
            let said = say(&node, head.as_bytes()).await;
            assert_eq!(said.status(), 400, "{what}: {said:?}");
            assert!(said.closed, "{what}: {said:?}");
        }
        assert_eq!(origin.seen().len(), 0, "{:?}", origin.seen());
        unharmed(&node, "broken heads").await;
    }
}

/// Section 5.2, folded lines; section 6, framing, from an origin.
mod s6 {
    use super::*;

    const CACHED: &str = "Cache-Control: max-age=600\r\n";

    /// What cannot be read, or in two ways, is a bad gateway: nothing of it is kept, and the next request gets its own answer.
    #[tokio::test]
    async fn an_origin_that_frames_in_two_ways_or_none_is_a_bad_gateway() {
        const HEADS: [(&str, &str); 22] = [
            ("two-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n"),
            ("list-of-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 4, 5\r\n"),
            ("signed-length", "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n"),
            ("hex-length", "HTTP/1.1 200 OK\r\nContent-Length: 0x4\r\n"),
            ("negative-length", "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n"),
            ("empty-length", "HTTP/1.1 200 OK\r\nContent-Length: \r\n"),
            ("endless-length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n"),
            ("both", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
            ("both-turned", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
            ("gzip-coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n"),
            ("chunked-twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n"),
            ("not-last", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n"),
            ("fold", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-A: b\r\n c\r\n"),
            ("fold-cc", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-A: b,\r\n\tno-store\r\n"),
            ("space-colon", "HTTP/1.1 200 OK\r\nContent-Length : 4\r\n"),
            ("bare-cr", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-A: b\rX-C: d\r\n"),
            ("zero", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-A: b\0\r\n"),
            ("no-colon", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nhello\r\n"),
            ("version", "HTTP/9.1 200 OK\r\nContent-Length: 4\r\n"),
            ("status", "HTTP/1.1 20 OK\r\nContent-Length: 4\r\n"),
            ("letters", "HTTP/1.1 abc OK\r\nContent-Length: 4\r\n"),
            ("no-http", "SSH-2.0-OpenSSH\r\n"),
        ];
        let origin = Scribe::start(|asked| {
            if asked.before % 2 == 1 || asked.target == "/o/60/fine" {
                return vec![ok(CACHED, "fine").into()];
            }
            let (_, head) = HEADS.iter().find(|(name, _)| asked.target[1..] == **name).unwrap();
            vec![format!("{head}{CACHED}\r\n4\r\nevil\r\n0\r\n\r\n").into()]
        });
        let node = impatient(&origin);
        for (name, _) in HEADS {
            let path = format!("/{name}");
            let bad = fetch(&node, &path).await;
            assert_eq!(bad.status, 502, "{name}: {}", bad.seen());
            assert!(!bad.text().contains("evil") && bad.field("x-a").is_empty(), "{name}: {}", bad.seen());
            for _ in 0..2 {
                let good = fetch(&node, &path).await;
                assert_eq!((good.status.as_u16(), good.text().as_str()), (200, "fine"), "{name}: {}", good.seen());
            }
            assert_eq!(origin.count(&path), 2, "{name}");
        }
        unharmed(&node, "broken heads of an origin").await;
    }

    /// Section 6.3: "a response ... to a HEAD request and any response with a 1xx (Informational), 204 (No Content), or 304 (Not
    /// Modified) status code is always terminated by the first empty line": whatever its head says.
    #[tokio::test]
    async fn answers_without_a_body_have_none_whatever_they_say() {
        let origin = Scribe::start(|asked| match asked.target.as_str() {
            "/204" => vec!["HTTP/1.1 204 No Content\r\nCache-Control: max-age=600\r\n\r\n".into()],
            "/204-evil" => vec![format!("HTTP/1.1 204 No Content\r\n\r\n{}", ok(CACHED, "evil")).into()],
            path => vec![ok(CACHED, path).into()],
        });
        let node = impatient(&origin);
        let mut connection = client::Connection::open(node.http).await.unwrap();
        for _ in 0..3 {
            for (path, status, body) in
                [("/204", 204, ""), ("/204-evil", 204, ""), ("/after", 200, "/after"), ("/other", 200, "/other")]
            {
                let reply = connection.get(HOST, path).await.unwrap();
                assert_eq!((reply.status.as_u16(), reply.text().as_str()), (status, body), "{path}: {}", reply.seen());
                assert_eq!(reply.field("content-length").is_empty(), status == 204, "{path}: {:?}", reply.headers);
            }
        }
    }
}

/// Section 7.1, chunks.
mod s7_1 {
    use super::*;

    /// "A recipient MUST ignore unrecognized chunk extensions", and "ought to limit the total length of chunk extensions".
    #[tokio::test]
    async fn extensions_of_a_clients_chunks_are_ignored_and_broken_chunks_are_no_body() {
        let (origin, node) = echoing();
        let head =
            format!("POST /up HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
        for (what, chunks) in [
            ("an extension", "5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n"),
            ("upper case and zeros", "0005\r\nhello\r\n000\r\n\r\n"),
            ("several", "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n"),
        ] {
            let said = say(&node, format!("{head}{chunks}").as_bytes()).await;
            assert!(said.status() == 200 && said.text.ends_with("hello"), "{what}: {said:?}");
        }
        let heard = origin.count("/up");
        let endless = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000));
        for (what, chunks) in [
            ("no size", "\r\nhello\r\n0\r\n\r\n"),
            ("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
            ("hex with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
            ("no hex", "g\r\nhello\r\n0\r\n\r\n"),
            ("too large", "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
            ("more than it says", "3\r\nhello\r\n0\r\n\r\n"),
            ("no line end behind the data", "5\r\nhello0\r\n\r\n"),
            ("a bare LF behind the size", "5\nhello\r\n0\r\n\r\n"),
            ("a bare LF in an extension", "5;a\nhello\r\n0\r\n\r\n"),
            ("a bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
            ("an endless extension", &endless),
        ] {
            let smuggled = format!("GET /o/60/smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            let said =
                say(&node, format!("{}{chunks}{smuggled}", head.replace("Connection: close\r\n", "")).as_bytes()).await;
            assert!(said.closed, "{what}: still open: {said:?}");
            assert!(said.status() == 400 || said.text.is_empty() || said.status() == 502, "{what}: {said:?}");
            assert_eq!(origin.count("/o/60/smuggled"), 0, "{what}: what followed was taken for a request");
        }
        assert_eq!(origin.count("/up"), heard, "a broken body was given to the origin as whole");
        unharmed(&node, "broken chunks").await;
    }

    /// The same from an origin: what is well formed is read, what is not breaks the answer off, and is not kept.
    #[tokio::test]
    async fn broken_chunks_of_an_origin_break_the_answer_off() {
        const BAD: [(&str, &str); 9] = [
            ("size", "x\r\nhello\r\n0\r\n\r\n"),
            ("signed", "-5\r\nhello\r\n0\r\n\r\n"),
            ("large", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
            ("more", "3\r\nhello\r\n0\r\n\r\n"),
            ("less", "8\r\nhello\r\n0\r\n\r\n"),
            ("lf", "5\nhello\n0\n\n"),
            ("cr", "5\rhello\r\n0\r\n\r\n"),
            ("trailer", "5\r\nhello\r\n0\r\nno field\r\n\r\n"),
            ("end", "5\r\nhello\r\n0\r\n"),
        ];
        let origin = Scribe::start(|asked| {
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n";
            let bad = BAD.iter().find(|(name, _)| asked.target[1..] == **name).map(|(_, chunks)| *chunks);
            match (asked.target.as_str(), bad) {
                ("/long", _) => vec![format!("{head}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000)).into()],
                (_, Some(chunks)) => vec![format!("{head}{chunks}").into(), Step::Close],
                _ => vec![format!("{head}2;a=b\r\nhe\r\n003;\"q\"\r\nllo\r\n0;end\r\nX-T: 1\r\n\r\n").into()],
            }
        });
        let node = impatient(&origin);
        for _ in 0..2 {
            let good = fetch(&node, "/good").await;
            assert_eq!((good.text().as_str(), &good.broken), ("hello", &None), "{}", good.seen());
        }
        assert_eq!(origin.count("/good"), 1);
        for name in BAD.iter().map(|(name, _)| *name).chain(["long"]) {
            for count in 1..3 {
                if let Some(bad) = attempt(&node, &format!("/{name}")).await {
                    assert!(bad.broken.is_some() || bad.status == 502, "{name}: {}", bad.seen());
                }
                assert_eq!(origin.count(&format!("/{name}")), count, "{name}: it was kept");
            }
        }
        unharmed(&node, "broken chunks of an origin").await;
    }
}

/// Section 8, incomplete messages; section 9, connections.
mod s8 {
    use super::*;

    /// "A response that has neither chunked transfer coding nor Content-Length is terminated by closure of the connection and, if the
    /// header section was received intact, is considered complete": also of HTTP/1.0.
    #[tokio::test]
    async fn a_body_that_ends_with_its_connection_is_whole() {
        let origin = Scribe::start(|asked| {
            let version = if asked.target == "/old" { "HTTP/1.0" } else { "HTTP/1.1" };
            vec![format!("{version} 200 OK\r\nCache-Control: max-age=600\r\n\r\nhello").into(), Step::Close]
        });
        let node = impatient(&origin);
        for path in ["/old", "/new"] {
            for round in 0..2 {
                let reply = fetch(&node, path).await;
                assert_eq!(
                    (reply.text().as_str(), &reply.broken, reply.is_hit()),
                    ("hello", &None, round > 0),
                    "{path}: {}",
                    reply.seen()
                );
            }
        }
    }

    /// What an origin sends beyond an answer answers nobody: the connection is given up (section 9.2 has no pipelining upwards here).
    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_is_given_to_nobody() {
        let evil = || ok("Cache-Control: max-age=600\r\nX-Evil: 1\r\n", "evil");
        let origin = Scribe::start(move |asked| match asked.target.as_str() {
            "/twice" => vec![(ok("", "right") + &evil()).into()],
            "/overrun" => vec![(ok("", "right") + "surplus").into()],
            "/late" => vec![ok("", "right").into(), Step::Wait(std::time::Duration::from_millis(30)), evil().into()],
            "/chunked" => {
                vec![
                    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\n".to_owned()
                        + &evil())
                        .into(),
                ]
            }
            path => vec![ok("Cache-Control: no-store\r\n", path).into()],
        });
        let node = impatient(&origin);
        for round in 0..4 {
            for path in ["/twice", "/overrun", "/late", "/chunked"] {
                let reply = fetch(&node, path).await;
                assert!(
                    reply.text() == "right" || reply.broken.is_some() || reply.status == 502,
                    "{path}: {}",
                    reply.seen()
                );
                tokio::time::sleep(std::time::Duration::from_millis(40)).await;
                for index in 0..3 {
                    let next = format!("/next/{round}/{index}{path}");
                    let reply = fetch(&node, &next).await;
                    assert_eq!((reply.text(), reply.field("x-evil")), (next, ""), "after {path}: {}", reply.seen());
                }
            }
        }
    }

    /// Silence, noise without end, and what was not asked for: a clear answer in time, and the node goes on.
    #[tokio::test]
    async fn an_origin_that_stalls_or_never_ends_its_head_is_an_error_in_time() {
        let origin = Scribe::start(|asked| {
            let line = format!("X-Long: {}\r\n", "x".repeat(1000));
            match asked.target.as_str() {
                "/silent" => vec![Step::Stall],
                "/half" => vec!["HTTP/1.1 200 OK\r\nContent-Le".into(), Step::Stall],
                "/long-head" => vec![format!("HTTP/1.1 200 OK\r\n{}", line.repeat(300)).into(), Step::Stall],
                "/many-fields" => vec![format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(1000)).into(), Step::Stall],
                "/long-status" => vec![format!("HTTP/1.1 200 {}", "x".repeat(300_000)).into(), Step::Stall],
                "/flood" => vec!["HTTP/1.1 102 Processing\r\n\r\n".repeat(20_000).into(), Step::Stall],
                "/large-flood" => vec![format!("HTTP/1.1 103 Early Hints\r\n{line}\r\n").repeat(3000).into(), Step::Stall],
                "/switch" => vec!["HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".into(), Step::Stall],
                "/304" => vec!["HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=600\r\n\r\n".into()],
                "/206" => vec!["HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/9\r\nCache-Control: max-age=600\r\nContent-Length: 4\r\n\r\nhalf".into()],
                _ => vec![ok("", "fine").into()],
            }
        });
        let node = impatient(&origin);
        for (path, statuses) in [
            ("/silent", [504, 504]),
            ("/half", [504, 504]),
            ("/long-head", [502, 504]),
            ("/many-fields", [502, 502]),
            ("/long-status", [502, 504]),
            ("/flood", [504, 502]),
            ("/large-flood", [504, 502]),
            ("/switch", [502, 502]),
            ("/304", [502, 502]),
        ] {
            for count in 1..3 {
                let start = std::time::Instant::now();
                let reply = fetch(&node, path).await;
                assert!(statuses.contains(&reply.status.as_u16()), "{path}: {}", reply.seen());
                assert_eq!(reply.field("cache-control"), "no-store", "{path}: {:?}", reply.headers);
                assert!(start.elapsed() < std::time::Duration::from_secs(8), "{path} took {:?}", start.elapsed());
                assert!(origin.count(path) >= count, "{path}: it was kept");
            }
        }
        // a part that nobody asked for is no whole: not kept as one, not given as one
        for _ in 0..2 {
            let reply = fetch(&node, "/206").await;
            assert!(!reply.is_hit() && reply.status != 200, "{}", reply.seen());
        }
        unharmed(&node, "silence and noise").await;
    }
}
