//! RFC 9875: cache groups.

use super::{HOST, by, config, fetch};
use crate::harness::{
    Node, client,
    origin::{Answer, Origin},
};

/// Section 2, who belongs to a group; section 3, who voids one.
mod s3 {
    use super::*;

    /// "Two responses ... are considered to belong to the same group when ... they share the same URI origin ... and the groups are the same,
    /// when compared character by character (case-sensitive)"; the field counts in answers to unsafe requests only.
    #[tokio::test]
    async fn a_group_ends_at_its_origin_and_is_voided_by_its_exact_name_in_answers_to_unsafe_requests() {
        let origin = Origin::start();
        for (path, groups) in
            [("/a", "\"g\""), ("/b", "\"x\", \"g\""), ("/case", "\"G\""), ("/token", "g"), ("/none", "")]
        {
            origin.on(path, move |_| Answer::ok("x").with("cache-control", "max-age=600").with("cache-groups", groups));
        }
        for (path, status, field) in
            [("/ok", 200, "\"g\""), ("/error", 500, "\"g\""), ("/wrong", 200, "g"), ("/long", 200, "\"y\", \"g\";p")]
        {
            origin.on(path, move |_| Answer::status(status).with("cache-group-invalidation", field));
        }
        let second =
            format!("[[sites]]\nname = \"second\"\nhosts = [\"second.test\"]\norigin = \"{}\"\n", origin.url());
        let node = Node::alone(&(config(&origin.url()) + &second));
        let paths = ["/a", "/b", "/case", "/token", "/none"];
        for (method, path, voids) in [
            ("POST", "/ok", true),
            ("PUT", "/long", true),
            ("X-ANY", "/ok", true),
            ("POST", "/wrong", false),
            ("GET", "/ok", false),
            ("OPTIONS", "/ok", false),
            ("SEARCH", "/ok", false),
        ] {
            for path in paths {
                fetch(&node, path).await;
                client::fetch(node.http, "second.test", path).await;
            }
            by(&node, method, path, &[]).await;
            for kept in paths {
                let reply = fetch(&node, kept).await;
                let expected = !voids || !["/a", "/b"].contains(&kept);
                assert_eq!(reply.is_hit(), expected, "{kept} after {method} {path}: {}", reply.seen());
                let other = client::fetch(node.http, "second.test", kept).await;
                assert!(other.is_hit(), "{kept} of another origin than {HOST} after {method} {path}: {}", other.seen());
            }
        }
    }
}
