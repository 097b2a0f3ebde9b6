//! RFC 9213: targeted cache control.

use super::{fetch, node};
use crate::harness::origin::{Answer, Origin};

/// Section 2.1, parsing: a dictionary of structured fields, or nothing.
mod s2_1 {
    use super::*;

    /// "If a targeted field in the target list is present and its value is valid, Cache-Control and Expires are ignored"; else it is
    /// as if it were not there, "caches MUST ignore the field".
    #[tokio::test]
    async fn a_valid_field_decides_alone_and_one_that_is_not_plays_no_part() {
        const CASES: [(&[&str], &str, bool); 24] = [
            (&["max-age=600"], "no-store", true),
            (&["max-age=600"], "max-age=0, must-revalidate", true),
            (&["max-age=600"], "private", true),
            (&["max-age=600;x=y, foo=(a b);c"], "no-store", true),
            (&["max-age=1, max-age=600"], "no-store", true),
            (&["s-maxage=600"], "no-store", true),
            (&["foo", "max-age=600"], "no-store", true),
            (&["no-store=?0, max-age=600"], "no-store", true),
            (&["no-store"], "max-age=600", false),
            (&["private"], "max-age=600", false),
            (&["no-cache"], "max-age=600", false),
            (&["max-age=0"], "max-age=600", false),
            (&["no-store, max-age=600"], "max-age=600", false),
            // not a dictionary, or a value of the wrong type: the field is ignored
            (&["max-age=\"600\""], "no-store", false),
            (&["MAX-AGE=600"], "no-store", false),
            (&["max-age=600,"], "no-store", false),
            (&["max-age=600,,foo"], "no-store", false),
            (&["max-age=600 foo"], "no-store", false),
            (&["max-age=600.0"], "no-store", false),
            (&["max-age=(600)"], "no-store", false),
            (&["max-age"], "no-store", false),
            (&["no-store=1"], "max-age=600", true),
            (&["no-store", "&&&"], "max-age=600", true),
            (&[""], "max-age=600", true),
        ];
        let origin = Origin::start();
        for (index, (targeted, control, _)) in CASES.iter().enumerate() {
            origin.on(&format!("/{index}"), move |_| {
                let answer = Answer::ok("x").with("cache-control", control).with("expires", "0");
                targeted.iter().fold(answer, |answer, line| answer.with("cdn-cache-control", line))
            });
        }
        let node = node(&origin);
        for (index, (targeted, control, kept)) in CASES.iter().enumerate() {
            fetch(&node, &format!("/{index}")).await;
            let reply = fetch(&node, &format!("/{index}")).await;
            assert_eq!(reply.is_hit(), *kept, "{targeted:?} beside {control}: {}", reply.seen());
            // section 2.2: what browsers and others are told is theirs
            assert_eq!(reply.field("cache-control"), *control, "{:?}", reply.headers);
        }
    }
}

/// Section 2.2, what a targeted field replaces.
mod s2_2 {
    use super::*;

    /// Windows for stale answers come from the field that counts, and so do prohibitions.
    #[tokio::test]
    async fn stale_windows_and_prohibitions_are_those_of_the_field_that_counts() {
        const CASES: [(&str, &str, bool); 4] = [
            ("max-age=10", "max-age=10, stale-while-revalidate=600", false),
            ("max-age=10, stale-while-revalidate=600", "max-age=10, must-revalidate", true),
            (
                "max-age=10, stale-while-revalidate=600, must-revalidate",
                "max-age=10, stale-while-revalidate=600",
                false,
            ),
            ("max-age=10, stale-while-revalidate=600", "no-cache", true),
        ];
        let origin = Origin::start();
        for (index, (targeted, control, _)) in CASES.iter().enumerate() {
            origin.on(&format!("/{index}"), |_| {
                Answer::ok("x")
                    .with("cache-control", control)
                    .with("cdn-cache-control", targeted)
                    .with("age", "20")
                    .with("etag", "\"a\"")
            });
        }
        let node = node(&origin);
        for (index, (targeted, control, stale)) in CASES.iter().enumerate() {
            fetch(&node, &format!("/{index}")).await;
            let reply = fetch(&node, &format!("/{index}")).await;
            assert_eq!(reply.is_hit(), *stale, "{targeted} beside {control}: {}", reply.seen());
        }
    }
}
