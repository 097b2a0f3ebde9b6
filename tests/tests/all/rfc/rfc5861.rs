//! RFC 5861: stale answers, where the origin allows them.

use super::{HOST, attempt, fetch, impatient, impatient_with, node};
use crate::harness::{
    client,
    origin::{Answer, Origin},
    scribe::{Scribe, Step, ok},
    until_some,
};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Section 3, `stale-while-revalidate`.
mod s3 {
    use tokio::task::JoinSet;

    use super::*;

    /// "Caches MAY serve the response in which it appears after it becomes stale, up to the indicated number of seconds": and
    /// however many ask, one fetch goes to the origin.
    #[tokio::test]
    async fn within_the_window_all_are_served_at_once_and_one_fetch_is_made_behind() {
        let origin = Origin::start();
        let mut pours = origin.pours("/w", |answer| {
            answer.with("cache-control", "max-age=10, stale-while-revalidate=600").with("age", "20")
        });
        let node = node(&origin);
        let first = tokio::spawn(client::fetch(node.http, HOST, "/w"));
        let pour = pours.next().await;
        pour.piece("one");
        drop(pour);
        assert_eq!(first.await.unwrap().text(), "one");
        let mut many = JoinSet::new();
        for _ in 0..20 {
            many.spawn(client::fetch(node.http, HOST, "/w"));
        }
        for reply in many.join_all().await {
            assert_eq!(reply.text(), "one", "{}", reply.seen());
            assert!(reply.cache_status().contains("stale-while-revalidate"), "{}", reply.seen());
        }
        let pour = pours.next().await;
        assert_eq!(fetch(&node, "/w").await.text(), "one", "it is still under way");
        assert!(!pours.has_next(), "a second fetch beside the first");
        pour.piece("two");
        drop(pour);
        until_some("the fresh one is served", PATIENCE, async || {
            let reply = fetch(&node, "/w").await;
            if reply.text() == "two" { Ok(()) } else { Err(reply.seen()) }
        })
        .await;
    }

    /// After the window nothing stale is served without asking; where `must-revalidate` or `no-cache` stands, never.
    #[tokio::test]
    async fn after_the_window_or_where_it_is_forbidden_the_client_waits_for_the_origin() {
        let origin = Origin::start();
        for (path, control, age) in [
            ("/after", "max-age=10, stale-while-revalidate=10", "20"),
            ("/none", "max-age=10", "10"),
            ("/zero", "max-age=10, stale-while-revalidate=0", "10"),
            ("/must", "max-age=10, stale-while-revalidate=600, must-revalidate", "20"),
            ("/proxy", "max-age=10, stale-while-revalidate=600, proxy-revalidate", "20"),
            ("/no-cache", "max-age=10, stale-while-revalidate=600, no-cache", "0"),
        ] {
            let count = std::sync::atomic::AtomicU32::new(0);
            origin.on(path, move |_| {
                let count = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Answer::ok(count.to_string()).with("cache-control", control).with("age", age).with("etag", "W/\"x\"")
            });
        }
        let node = node(&origin);
        for path in ["/after", "/none", "/zero", "/must", "/proxy", "/no-cache"] {
            for round in 0..3 {
                let reply = fetch(&node, path).await;
                assert_eq!(reply.text(), round.to_string(), "{path}: {}", reply.seen());
                assert_eq!(origin.count(path), round + 1, "{path}: requests at the origin");
            }
        }
    }

    /// A background fetch that fails, or breaks off in the middle, takes nothing away.
    #[tokio::test]
    async fn a_background_fetch_that_fails_leaves_what_is_stored() {
        let origin = Scribe::start(|asked| match (asked.before, asked.target.as_str()) {
            (0, _) => vec![ok("Cache-Control: max-age=10, stale-while-revalidate=600\r\nAge: 20\r\n", "good").into()],
            (_, "/reset") => vec![Step::Reset],
            (_, "/503") => vec!["HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno".into()],
            (_, "/broken") => {
                vec![
                    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nCache-Control: max-age=600\r\n\r\nbad".into(),
                    Step::Close,
                ]
            }
            _ => vec![
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\nx"
                    .into(),
                Step::Reset,
            ],
        });
        let node = impatient(&origin);
        for path in ["/reset", "/503", "/broken", "/chunks"] {
            let mut served = 0;
            until_some("four fetches behind it", PATIENCE, async || {
                let reply = fetch(&node, path).await;
                served += 1;
                assert_eq!((reply.text().as_str(), &reply.broken), ("good", &None), "{path}: {}", reply.seen());
                match origin.count(path) {
                    // a request that comes while a fetch is under way begins none
                    count @ ..5 => Err(format!("{path}: {count} after {served}")),
                    _ => Ok(()),
                }
            })
            .await;
            // a request that met a reset may be sent once more
            let count = origin.count(path);
            assert!(count <= 2 * served, "{path}: {count} fetches for {served} answers");
        }
    }
}

/// Section 4, `stale-if-error`.
mod s4 {
    use super::*;

    fn first(control: &str, age: u32) -> Vec<Step> {
        vec![ok(&format!("Cache-Control: {control}\r\nAge: {age}\r\nETag: \"1\"\r\n"), "old").into()]
    }

    fn fails(how: &str) -> Vec<Step> {
        match how {
            "reset" => vec![Step::Reset],
            "closed" => vec![Step::Close],
            "half-head" => vec!["HTTP/1.1 200 OK\r\nConte".into(), Step::Close],
            "junk" => vec!["no HTTP at all\r\n\r\n".into(), Step::Close],
            "silent" => vec![Step::Stall],
            "two-lengths" => vec!["HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx".into()],
            status => vec![format!("HTTP/1.1 {status} Failed\r\nContent-Length: 3\r\n\r\nnew").into()],
        }
    }

    fn window(how: &str, control: &'static str) -> Scribe {
        let how = how.to_owned();
        Scribe::start(move |asked| if asked.before == 0 { first(control, 20) } else { fails(&how) })
    }

    /// "A situation that would result in a 500, 502, 503, or 504 HTTP response status code being returned": a status, or no answer.
    #[tokio::test]
    async fn within_the_window_every_kind_of_failure_is_answered_with_the_old_one() {
        let hows = ["reset", "closed", "half-head", "junk", "silent", "two-lengths", "500", "502", "503", "504"];
        let origin = Scribe::start(|asked| {
            if asked.before == 0 { first("max-age=10, stale-if-error=600", 20) } else { fails(&asked.target[1..]) }
        });
        let node = impatient(&origin);
        for how in hows {
            let path = format!("/{how}");
            for round in 0..2 {
                let reply = fetch(&node, &path).await;
                assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "old"), "{how}: {}", reply.seen());
                let told = reply.cache_status().contains("detail=stale-if-error");
                assert_eq!(told, round > 0, "{how}: {}", reply.seen());
                assert!(reply.field("age").parse::<u32>().unwrap() >= 20, "{how}: {:?}", reply.headers);
            }
        }
    }

    /// Other errors are answers: of the resource, or of a server that works.
    #[tokio::test]
    async fn other_statuses_are_passed_on() {
        let origin = Scribe::start(|asked| {
            if asked.before == 0 { first("max-age=10, stale-if-error=600", 20) } else { fails(&asked.target[1..]) }
        });
        let node = impatient(&origin);
        for status in ["400", "403", "404", "410", "429", "501", "505"] {
            let path = format!("/{status}");
            assert_eq!(fetch(&node, &path).await.text(), "old");
            let reply = fetch(&node, &path).await;
            assert_eq!((reply.status.as_str(), reply.text().as_str()), (status, "new"), "{}", reply.seen());
        }
    }

    /// Past the window, with a window of 0, and where RFC 9111 section 4.2.4 forbids it, an error is an error, and has nothing
    /// of the stored response.
    #[tokio::test]
    async fn past_the_window_and_where_it_is_forbidden_the_error_is_told() {
        for (control, how) in [
            ("max-age=10, stale-if-error=10", "reset"),
            ("max-age=10, stale-if-error=0", "503"),
            ("max-age=10, stale-if-error=600, must-revalidate", "reset"),
            ("max-age=10, stale-if-error=600, proxy-revalidate", "503"),
            ("max-age=10, stale-if-error=600, no-cache", "silent"),
            ("s-maxage=10, stale-if-error=600", "reset"),
            ("s-maxage=10, stale-if-error=600", "503"),
        ] {
            let origin = window(how, control);
            let node = impatient(&origin);
            assert_eq!(fetch(&node, "/").await.text(), "old");
            let reply = fetch(&node, "/").await;
            assert!(reply.status.is_server_error() && reply.text() != "old", "{control} {how}: {}", reply.seen());
            assert_eq!((reply.field("etag"), reply.field("age")), ("", ""), "{control} {how}: {:?}", reply.headers);
        }
    }

    /// Refused connections are failures too.
    #[tokio::test]
    async fn when_connections_are_refused_the_old_one_is_served() {
        let origin = Origin::start();
        origin.on("/", |_| Answer::ok("old").with("cache-control", "max-age=10, stale-if-error=600").with("age", "20"));
        let node = impatient_with(&origin.url(), "");
        assert_eq!(fetch(&node, "/").await.text(), "old");
        drop(origin);
        for _ in 0..5 {
            let reply = fetch(&node, "/").await;
            assert_eq!(reply.text(), "old", "{}", reply.seen());
        }
        assert_eq!(fetch(&node, "/never").await.status.as_u16() / 100, 5);
    }

    /// A fresh answer that breaks off is told as broken, not stored, and not mixed with the old one; that stays.
    #[tokio::test]
    async fn a_fresh_answer_that_breaks_off_is_not_taken_for_whole() {
        let origin = Scribe::start(|asked| match asked.before {
            0 => first("max-age=10, stale-if-error=600", 20),
            1 => vec![
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nCache-Control: max-age=600\r\n\r\nfre".into(),
                Step::Close,
            ],
            _ => vec![Step::Reset],
        });
        let node = impatient(&origin);
        assert_eq!(fetch(&node, "/").await.text(), "old");
        if let Some(broken) = attempt(&node, "/").await {
            assert!(broken.broken.is_some() && "fre".starts_with(&broken.text()), "{}", broken.seen());
        }
        let reply = fetch(&node, "/").await;
        assert_eq!((reply.text().as_str(), &reply.broken), ("old", &None), "{}", reply.seen());
    }
}
