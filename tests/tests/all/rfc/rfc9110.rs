//! RFC 9110: HTTP semantics.

use super::{HOST, ask, by, config, fetch, impatient, kept, node};
use crate::harness::{
    Node, client,
    origin::{Answer, Origin},
    scribe::{Scribe, Step, ok},
};

const OLDER: &str = "Sat, 01 Nov 2025 00:00:00 GMT";
const CHANGED: &str = "Sun, 02 Nov 2025 00:00:00 GMT";
const NEWER: &str = "Mon, 03 Nov 2025 00:00:00 GMT";

/// A page that has both validators.
fn page() -> Answer {
    kept("0123456789").with("etag", "\"a\"").with("last-modified", CHANGED).with("vary", "x-any").with("x-meta", "m")
}

/// Section 6.5, trailer fields.
mod s6_5 {
    use super::*;
    use crate::single::http2::{begin, over, told};

    const TRAILED: &str = "5\r\nhello\r\n0\r\nX-Late: 1\r\nETag: \"late\"\r\nCache-Control: max-age=600\r\nSet-Cookie: a=b\r\n\
                           Content-Length: 1\r\nConnection: close\r\nSurrogate-Key: secret\r\n\r\n";

    fn origin() -> Scribe {
        Scribe::start(|asked| {
            let control = if asked.target == "/kept" { "max-age=600" } else { "no-store" };
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late, ETag\r\n";
            vec![format!("{head}Cache-Control: {control}\r\n\r\n{TRAILED}").into()]
        })
    }

    /// "A recipient MUST NOT merge a trailer field into the header section" unless its definition says so (section 6.5.1).
    #[tokio::test]
    async fn they_never_become_header_fields_whether_stored_or_not() {
        let origin = origin();
        let node = impatient(&origin);
        for round in 0..2 {
            for path in ["/kept", "/passed"] {
                let reply = ask(&node, path, &[("te", "trailers"), ("connection", "te")]).await;
                assert_eq!((reply.text().as_str(), &reply.broken), ("hello", &None), "{path}: {}", reply.seen());
                for name in ["x-late", "etag", "set-cookie", "trailer", "surrogate-key"] {
                    assert_eq!(reply.field(name), "", "{path} {round}: {:?}", reply.headers);
                }
                let control = if path == "/kept" { "max-age=600" } else { "no-store" };
                assert_eq!(reply.field("cache-control"), control);
                assert_eq!(reply.is_hit(), path == "/kept" && round > 0, "{}", reply.seen());
            }
        }
    }

    /// What frames, routes, sets cookies or is between origin and cache is no trailer (section 6.5.1), and RFC 9113 section
    /// 8.2.2 makes a message with a connection's field malformed.
    #[tokio::test]
    async fn over_http2_they_come_last_if_at_all_and_without_what_must_not_be_one() {
        let origin = origin();
        let node = impatient(&origin);
        let send = over(tokio::net::TcpStream::connect(node.http).await.unwrap(), 1 << 16).await;
        for path in ["/passed", "/kept", "/kept"] {
            let (answer, _) = begin(&send, http::Method::GET, path, true).await;
            let mut body = told(answer).await.1.into_body();
            let mut bytes = Vec::new();
            while let Some(piece) = body.data().await {
                bytes.extend_from_slice(&piece.unwrap());
            }
            assert_eq!(bytes, b"hello", "{path}");
            let trailers = body.trailers().await.unwrap().unwrap_or_default();
            let told: Vec<_> = trailers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            // what is kept is the content; what goes past goes past whole
            assert!(
                if path == "/kept" { told.is_empty() } else { told == [("x-late", "1"), ("etag", "\"late\"")] },
                "{path}: {told:?}"
            );
        }
    }

    /// The origin's connection is as good after trailers as before.
    #[tokio::test]
    async fn trailers_of_an_upload_are_left_out_and_the_next_request_is_understood() {
        let origin = Origin::start();
        origin.on("/up", |seen| Answer::ok(seen.body.clone()));
        let node = node(&origin);
        let upload = format!(
            "POST /up HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n\
             5\r\nhello\r\n0\r\nX-Late: 1\r\nContent-Length: 7\r\nTransfer-Encoding: gzip\r\n\r\n\
             GET /o/50/next HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        );
        let said = client::raw(node.http, upload.as_bytes(), client::PATIENCE).await;
        assert_eq!(said.text.matches("HTTP/1.1 200").count(), 2, "{}", said.text);
        let seen = origin.seen();
        assert_eq!(seen[0].body, "hello");
        assert!(seen[0].field("x-late").is_empty() && seen[0].field("trailer").is_empty(), "{:?}", seen[0]);
    }
}

/// Section 7.6.1, `Connection`.
mod s7_6_1 {
    use super::*;

    /// "Intermediaries MUST parse a received Connection header field before a message is forwarded and ... remove any header or
    /// trailer field(s) from the message with the same name as the connection-option".
    #[tokio::test]
    async fn what_it_names_is_neither_sent_on_nor_stored() {
        let origin = Scribe::start(|_| {
            vec![ok("Cache-Control: max-age=600\r\nConnection: X-Hop, x-OTHER\r\nX-Hop: 1\r\nX-Other: 2\r\nX-Stays: 3\r\n", "x").into()]
        });
        let node = impatient(&origin);
        for _ in 0..2 {
            let reply = fetch(&node, "/").await;
            for (name, value) in [("x-hop", ""), ("x-other", ""), ("connection", ""), ("x-stays", "3")] {
                assert_eq!(reply.field(name), value, "{:?}", reply.headers);
            }
        }
        assert_eq!(origin.count("/"), 1);
    }

    /// "A sender MUST NOT send a connection option corresponding to a field that is intended for all recipients of the content.
    /// For example, Cache-Control is never appropriate as a connection option": what such a field forbids stays forbidden.
    #[tokio::test]
    async fn no_prohibition_can_be_named_away() {
        let origin = Scribe::start(|asked| {
            let (name, value) = asked.target[1..].split_once('=').unwrap();
            let own = if name == "Cache-Control" { "" } else { "Cache-Control: max-age=600\r\n" };
            vec![ok(&format!("{own}Connection: {name}\r\n{name}: {value}\r\n"), "private").into()]
        });
        let route = "[[sites.routes]]\npath = \"/*\"\ndefault_ttl = \"10m\"\n";
        let node = super::super::impatient_with(&origin.url(), route);
        for target in ["/Cache-Control=no-store", "/CDN-Cache-Control=private", "/Set-Cookie=a", "/Vary=*"] {
            for _ in 0..2 {
                let reply = fetch(&node, target).await;
                assert!(!reply.is_hit(), "{target}: {}", reply.seen());
            }
            assert_eq!(origin.count(target), 2, "{target}");
        }
    }
}

/// Section 9, methods.
mod s9 {
    use super::*;

    /// Section 9.2.1: safe methods change nothing, also those that only the registry knows.
    #[tokio::test]
    async fn safe_methods_leave_what_is_stored_alone() {
        let origin = Origin::start();
        origin.on("/s", |_| page());
        let node = node(&origin);
        fetch(&node, "/s").await;
        for method in ["HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
            assert_eq!(by(&node, method, "/s", &[]).await.status, 200, "{method}");
            let reply = fetch(&node, "/s").await;
            assert!(reply.is_hit(), "{method}: {}", reply.seen());
        }
    }

    fn same_head(get: &client::Reply, head: &client::Reply) {
        assert_eq!(head.status, get.status);
        assert!(head.body.is_empty() && head.broken.is_none(), "{}", head.seen());
        let told = |reply: &client::Reply| {
            let mut fields: Vec<_> = reply.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            fields.retain(|(name, _)| !["age", "cache-status", "date"].contains(&name.as_str()));
            fields.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
            fields
        };
        assert_eq!(told(head), told(get));
    }

    /// Section 9.3.2: "The server SHOULD send the same header fields in response to a HEAD request as it would have sent if the
    /// request method had been GET".
    #[tokio::test]
    async fn head_is_told_what_get_would_be_from_the_store_and_on_a_miss() {
        let origin = Origin::start();
        for path in ["/stored", "/missed", "/large", "/not"] {
            origin.on(path, move |seen| {
                assert!(seen.method == "GET" || seen.method == "HEAD");
                match path {
                    "/large" => page().made(3_000_000, |from, to| vec![7; usize::try_from(to - from).unwrap()].into()),
                    "/not" => Answer::ok("0123456789").with("cache-control", "no-store").with("etag", "\"a\""),
                    _ => page(),
                }
            });
        }
        let node = node(&origin);
        let get = fetch(&node, "/stored").await;
        same_head(&get, &by(&node, "HEAD", "/stored", &[]).await);
        for path in ["/missed", "/large", "/not"] {
            let head = by(&node, "HEAD", path, &[]).await;
            same_head(&fetch(&node, path).await, &head);
        }
        let sent = client::send_h2c(
            node.http,
            http::Request::head(format!("http://{HOST}/stored")).body(http_body_util::Full::default()).unwrap(),
        )
        .await;
        assert!(sent.is_hit(), "{}", sent.seen());
        same_head(&get, &sent);
    }

    /// Section 14.2: "A server MUST ignore a Range header field received with a request method that is unrecognized or for which
    /// range handling is not defined. For this specification, GET is the only method for which range handling is defined."
    #[tokio::test]
    async fn head_has_no_parts() {
        let origin = Origin::start();
        origin.on("/s", |_| page());
        origin.on("/miss", |_| page());
        let node = node(&origin);
        let get = fetch(&node, "/s").await;
        for range in ["bytes=0-1", "bytes=0-0,3-4", "bytes=99-"] {
            same_head(&get, &by(&node, "HEAD", "/s", &[("range", range)]).await);
        }
        same_head(&get, &by(&node, "HEAD", "/miss", &[("range", "bytes=0-1")]).await);
    }

    /// A HEAD that finds the resource changed poisons nothing: what GET is told and given belong together (RFC 9111 section 4.3.5).
    #[tokio::test]
    async fn head_of_what_has_changed_never_gives_an_old_body_a_new_head() {
        let origin = Origin::start();
        let version = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));
        let current = std::sync::Arc::clone(&version);
        let answer = move |seen: &crate::harness::origin::Seen| {
            let version = current.load(std::sync::atomic::Ordering::SeqCst);
            let body = if seen.method == "HEAD" {
                String::new()
            } else {
                format!("body {version}{}", "x".repeat(version as usize))
            };
            let answer = Answer::ok(body).with("etag", &format!("\"{version}\"")).with("cache-control", "max-age=10");
            answer.with("age", "20").with("x-version", &version.to_string())
        };
        origin.on("/p", answer);
        let node = Node::alone(&(config(&origin.url()) + "[[sites.routes]]\npath = \"/off/*\"\ncache = \"off\"\n"));
        for next in 2..5 {
            let get = fetch(&node, "/p").await;
            assert!(get.text().starts_with(&format!("body {}", get.field("x-version"))), "{:?}", get);
            version.store(next, std::sync::atomic::Ordering::SeqCst);
            let head = by(&node, "HEAD", "/p", &[]).await;
            assert_eq!(head.field("etag"), format!("\"{next}\""), "{:?}", head.headers);
            let get = fetch(&node, "/p").await;
            assert_eq!(get.field("etag"), format!("\"{next}\""));
            assert!(get.text().starts_with(&format!("body {next}")) && get.broken.is_none(), "{}", get.seen());
        }
    }
}

/// Section 13, conditional requests.
mod s13 {
    use super::*;

    /// What a condition gets of a page whose tag is `"a"` and that changed at [`CHANGED`].
    const CONDITIONS: [(&[(&str, &str)], u16); 24] = [
        // 13.1.1: compared strongly
        (&[("if-match", "\"a\"")], 200),
        (&[("if-match", "\"x\", \"a\"")], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", "W/\"a\"")], 412),
        (&[("if-match", "\"b\"")], 412),
        // 13.1.2: compared weakly
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"a\"")], 304),
        (&[("if-none-match", "W/\"a\"")], 304),
        (&[("if-none-match", "\"x\",\"y\" , W/\"a\"")], 304),
        (&[("if-none-match", "\"b\"")], 200),
        // 13.1.3
        (&[("if-modified-since", CHANGED)], 304),
        (&[("if-modified-since", NEWER)], 304),
        (&[("if-modified-since", OLDER)], 200),
        (&[("if-modified-since", "yesterday")], 200),
        // 13.1.4
        (&[("if-unmodified-since", CHANGED)], 200),
        (&[("if-unmodified-since", NEWER)], 200),
        (&[("if-unmodified-since", OLDER)], 412),
        (&[("if-unmodified-since", "yesterday")], 200),
        // 13.2.2: which one counts
        (&[("if-none-match", "\"b\""), ("if-modified-since", NEWER)], 200),
        (&[("if-none-match", "\"a\""), ("if-modified-since", OLDER)], 304),
        (&[("if-match", "\"a\""), ("if-unmodified-since", OLDER)], 200),
        (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], 412),
        (&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], 304),
        (&[("if-match", "\"a\""), ("if-none-match", "\"b\"")], 200),
    ];

    async fn check(node: &Node, path: &str) {
        for (fields, status) in CONDITIONS {
            let reply = ask(node, path, fields).await;
            assert_eq!(reply.status, status, "{path} {fields:?}: {}", reply.seen());
            assert_eq!(reply.text(), if status == 200 { "0123456789" } else { "" }, "{path} {fields:?}");
            assert!(reply.broken.is_none(), "{path} {fields:?}: {}", reply.seen());
            if status == 304 {
                for (name, value) in [("etag", "\"a\""), ("vary", "x-any")] {
                    assert_eq!(reply.field(name), value, "{path} {fields:?}: {:?}", reply.headers);
                }
                assert!(
                    !reply.field("cache-control").is_empty() && !reply.field("date").is_empty(),
                    "{:?}",
                    reply.headers
                );
            }
        }
    }

    /// A cache answers them from what is stored.
    #[tokio::test]
    async fn conditions_are_applied_to_what_is_stored_by_their_precedence() {
        let origin = Origin::start();
        origin.on("/s", |_| page());
        let node = node(&origin);
        fetch(&node, "/s").await;
        check(&node, "/s").await;
        assert_eq!(origin.count("/s"), 1);
    }

    /// Whoever asks first, and where nothing is kept, gets the same; and the conditions of one never shape what all get.
    #[tokio::test]
    async fn conditions_are_applied_to_what_was_just_fetched_and_reach_the_origin_only_past_the_cache() {
        let origin = Origin::start();
        origin.on("/private", |_| {
            Answer::ok("0123456789")
                .with("cache-control", "private")
                .with("etag", "\"a\"")
                .with("last-modified", CHANGED)
                .with("vary", "x-any")
        });
        let node = node(&origin);
        check(&node, "/private").await;
        for (index, (fields, status)) in CONDITIONS.iter().enumerate() {
            let path = format!("/miss/{index}");
            origin.on(&path, |_| page());
            assert_eq!(ask(&node, &path, fields).await.status, *status, "{fields:?}");
            let whole = fetch(&node, &path).await;
            assert_eq!((whole.text().as_str(), origin.count(&path)), ("0123456789", 1), "{fields:?}: {}", whole.seen());
        }
        for seen in origin.seen() {
            for name in ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"] {
                assert_eq!(seen.field(name), "", "{seen:?}");
            }
        }
        // section 13.2.1: those of a method that is not answered here are for the origin
        by(&node, "PUT", "/private", &[("if-match", "\"z\""), ("if-unmodified-since", OLDER)]).await;
        let put = origin.seen().pop().unwrap();
        assert_eq!((put.field("if-match"), put.field("if-unmodified-since")), ("\"z\"", OLDER), "{put:?}");
    }

    /// Section 13.2.1: "A server MUST ignore all received preconditions if its response to the same request without those
    /// conditions, prior to processing the request content, would have been a status code other than a 2xx (Successful) or 412".
    #[tokio::test]
    async fn errors_and_redirects_ignore_conditions() {
        let origin = Origin::start();
        for status in [301, 404, 500] {
            origin.on(&format!("/{status}"), move |_| {
                Answer::status(status).with("cache-control", "max-age=600").with("etag", "\"a\"").with("location", "/x")
            });
        }
        let node = node(&origin);
        for status in [301, 404, 500] {
            for _ in 0..2 {
                for field in
                    [("if-none-match", "*"), ("if-none-match", "\"a\""), ("if-match", "\"b\""), ("range", "bytes=0-0")]
                {
                    assert_eq!(ask(&node, &format!("/{status}"), &[field]).await.status, status, "{field:?}");
                }
            }
        }
    }
}

/// Sections 13.1.5, 14 and 15.3.7, ranges.
mod s14 {
    use super::*;

    /// "If the validator does not match, the server SHOULD ignore the Range header field": a weak one never matches.
    #[tokio::test]
    async fn if_range_wants_a_strong_match() {
        let origin = Origin::start();
        origin.on("/strong", |_| page());
        origin.on("/weak", |_| kept("0123456789").with("etag", "W/\"a\""));
        origin.on("/date", |_| kept("0123456789").with("last-modified", CHANGED));
        origin.on("/just", |_| kept("0123456789").with("last-modified", CHANGED).with("date", CHANGED));
        let node = node(&origin);
        for (path, condition, status) in [
            ("/strong", "\"a\"", 206),
            ("/strong", "W/\"a\"", 200),
            ("/strong", "\"b\"", 200),
            ("/strong", "a", 200),
            ("/strong", CHANGED, 206),
            ("/strong", OLDER, 200),
            ("/strong", NEWER, 200),
            ("/weak", "W/\"a\"", 200),
            ("/weak", "\"a\"", 200),
            ("/date", CHANGED, 206),
            ("/date", NEWER, 200),
            ("/just", CHANGED, 200),
        ] {
            fetch(&node, path).await;
            let reply = ask(&node, path, &[("range", "bytes=2-3"), ("if-range", condition)]).await;
            assert_eq!(reply.status, status, "{path} {condition}: {}", reply.seen());
            assert_eq!(reply.text(), if status == 206 { "23" } else { "0123456789" }, "{path} {condition}");
            // without a range it means nothing
            assert_eq!(ask(&node, path, &[("if-range", "\"z\"")]).await.status, 200);
        }
        // section 13.2.2: a 304 comes before the part
        let both = [("range", "bytes=2-3"), ("if-none-match", "\"a\"")];
        assert_eq!(ask(&node, "/strong", &both).await.status, 304);
    }

    /// Section 15.5.17: "SHOULD generate a Content-Range header field specifying the current length"; and the refusal is not kept.
    #[tokio::test]
    async fn what_lies_behind_the_end_is_a_416_that_tells_the_length_and_is_not_kept() {
        let origin = Origin::start();
        origin.on("/s", |_| page());
        origin.on("/empty", |_| kept("").with("etag", "\"e\""));
        let refused = |seen: &crate::harness::origin::Seen| {
            if seen.field("range").is_empty() {
                return page();
            }
            Answer::status(416)
                .with("content-range", "bytes */10")
                .with("cache-control", "max-age=600")
                .with("etag", "\"a\"")
        };
        origin.on("/refused", refused);
        let node = node(&origin);
        fetch(&node, "/s").await;
        fetch(&node, "/empty").await;
        for (path, range, length) in
            [("/s", "bytes=10-", 10), ("/s", "bytes=-0", 10), ("/s", "bytes=50-60,99-", 10), ("/empty", "bytes=0-", 0)]
        {
            let reply = ask(&node, path, &[("range", range)]).await;
            assert_eq!(
                (reply.status.as_u16(), reply.field("content-range")),
                (416, &*format!("bytes */{length}")),
                "{path} {range}: {:?}",
                reply.headers
            );
            assert!(reply.body.is_empty(), "{}", reply.seen());
        }
        let reply = ask(&node, "/refused", &[("range", "bytes=20-")]).await;
        assert_eq!(reply.status, 416, "{}", reply.seen());
        for path in ["/s", "/refused"] {
            let whole = fetch(&node, path).await;
            assert_eq!((whole.status.as_u16(), whole.text().as_str()), (200, "0123456789"), "{path}: {}", whole.seen());
        }
    }

    /// Section 15.3.7: a 206 has what a 200 would have: `Date`, `Cache-Control`, `ETag`, `Vary`. Section 15.3.7.2: several parts
    /// have no `Content-Range` but in themselves, and one part is never a multipart.
    #[tokio::test]
    async fn parts_have_the_fields_of_the_whole() {
        let origin = Origin::start();
        origin.on("/s", |_| page().with("content-type", "text/plain"));
        let node = node(&origin);
        fetch(&node, "/s").await;
        for (range, expected) in [
            ("bytes=2-3", "2-3"),
            ("bytes=8-", "8-9"),
            ("bytes=-1", "9-9"),
            ("bytes=4-5,5-6", "4-6"),
            ("bytes=0-0,70-80", "0-0"),
        ] {
            let reply = ask(&node, "/s", &[("range", range)]).await;
            assert_eq!(
                (reply.status.as_u16(), reply.field("content-range")),
                (206, &*format!("bytes {expected}/10")),
                "{range}"
            );
            assert_eq!(reply.field("content-length"), reply.body.len().to_string(), "{range}");
            for name in ["date", "cache-control", "etag", "vary", "x-meta", "age", "content-type"] {
                assert!(!reply.field(name).is_empty(), "{range}: no {name} in {:?}", reply.headers);
            }
        }
        let reply = ask(&node, "/s", &[("range", "bytes=0-1, 5-6,-1")]).await;
        assert_eq!((reply.status.as_u16(), reply.field("content-range")), (206, ""), "{:?}", reply.headers);
        let boundary = reply.field("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
        let part = |span: &str, bytes: &str| {
            format!("--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {span}/10\r\n\r\n{bytes}\r\n")
        };
        let expected = part("0-1", "01") + &part("5-6", "56") + &part("9-9", "9") + &format!("--{boundary}--\r\n");
        assert_eq!(reply.text(), expected);
    }

    /// The same over HTTP/2: parts, 304, 416 and the whole.
    #[tokio::test]
    async fn http2_clients_get_the_same() {
        let origin = Origin::start();
        origin.on("/s", |_| page());
        let node = node(&origin);
        fetch(&node, "/s").await;
        let cases: [(&str, &str, u16, &str); 5] = [
            ("range", "bytes=2-3", 206, "23"),
            ("range", "bytes=20-", 416, ""),
            ("if-none-match", "\"a\"", 304, ""),
            ("if-match", "\"b\"", 412, ""),
            ("x-a", "b", 200, "0123456789"),
        ];
        for (name, value, status, body) in cases {
            let request = http::Request::get(format!("http://{HOST}/s")).header(name, value);
            let reply = client::send_h2c(node.http, client::empty(request)).await;
            assert_eq!(
                (reply.status.as_u16(), reply.text().as_str(), &reply.broken),
                (status, body, &None),
                "{name}: {}",
                reply.seen()
            );
            assert!(reply.is_hit(), "{name}: {}", reply.seen());
        }
        assert_eq!(origin.count("/s"), 1);
    }
}

/// Sections 8.4 and 12.5.3, coded forms.
mod s12_5_3 {
    use super::*;

    /// Forms that the origin codes are kept apart by what it says that they vary by; a 304 for one renews that one.
    #[tokio::test]
    async fn forms_that_the_origin_codes_are_kept_apart_and_renewed_each_for_itself() {
        let origin = Origin::start();
        origin.on("/c", |seen| {
            let coding = if seen.field("accept-encoding").contains("gzip") { "gzip" } else { "identity" };
            let tag = format!("\"{coding}\"");
            let answer = if seen.field("if-none-match") == tag {
                Answer::status(304)
            } else {
                Answer::ok(format!("as {coding}"))
            };
            answer
                .with("vary", "accept-encoding")
                .with("etag", &tag)
                .with("content-encoding", coding)
                .with("cache-control", "max-age=10")
                .with("age", "20")
        });
        let node = node(&origin);
        for round in 0..3 {
            for (accepted, form) in [("gzip", "gzip"), ("br", "identity"), ("br, gzip", "gzip")] {
                let reply = ask(&node, "/c", &[("accept-encoding", accepted)]).await;
                assert_eq!(
                    (reply.text(), reply.field("etag")),
                    (format!("as {form}"), &*format!("\"{form}\"")),
                    "{round}: {}",
                    reply.seen()
                );
                assert_eq!(reply.field("content-encoding"), form);
                let revalidated = reply.cache_status().contains("fwd-status=304");
                assert_eq!(revalidated, round > 0, "{accepted} {round}: {}", reply.seen());
            }
        }
        // no 304 for the other form's tag
        let reply = ask(&node, "/c", &[("accept-encoding", "gzip"), ("if-none-match", "\"identity\"")]).await;
        assert_eq!(reply.status, 200, "{}", reply.seen());
    }
}

/// Section 15.2, interim answers.
mod s15_2 {
    use super::*;

    /// "A 1xx response ... is terminated by the end of the header section": what comes behind a flood of them is the answer, and
    /// none of them is kept.
    #[tokio::test]
    async fn interim_answers_are_never_the_answer() {
        let origin = Scribe::start(|asked| match asked.target.as_str() {
            "/then" => vec![
                "HTTP/1.1 102 Processing\r\n\r\n".into(),
                "HTTP/1.1 199 What\r\nX-A: b\r\n\r\n".into(),
                ok("Cache-Control: max-age=600\r\n", "final").into(),
            ],
            _ => {
                vec!["HTTP/1.1 103 Early Hints\r\nCache-Control: max-age=600\r\nLink: </a>\r\n\r\n".into(), Step::Close]
            }
        });
        let node = impatient(&origin);
        for _ in 0..2 {
            assert_eq!(fetch(&node, "/then").await.text(), "final");
            let cut = fetch(&node, "/cut").await;
            assert_eq!(cut.status, 502, "{}", cut.seen());
        }
        assert_eq!(origin.count("/then"), 1);
    }
}
