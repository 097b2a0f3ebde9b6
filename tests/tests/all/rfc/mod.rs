//! What the standards promise of a shared cache, where the public suite is silent: one file a document, one module a
//! section. Each test is one node before an origin of ours.
//!
//! Nobody waits for time to pass: an origin that sends `Age` makes a response as old as a test wants it.

mod rfc5861;
mod rfc9110;
mod rfc9111;
mod rfc9112;
mod rfc9211;
mod rfc9213;

use http::{Method, Request};
use http_body_util::Full;

use crate::harness::{
    Node,
    client::{self, Reply, empty, get, send},
    origin::{Answer, Origin},
    scribe::Scribe,
};
use crate::single::HOST;

fn config(url: &str) -> String {
    format!("[[sites]]\nname = \"rfc\"\nhosts = [\"{HOST}\"]\norigin = \"{url}\"\n")
}

fn node(origin: &Origin) -> Node {
    Node::alone(&config(&origin.url()))
}

/// A node before an origin that writes bytes; it waits a second for each of them.
fn impatient(origin: &Scribe) -> Node {
    impatient_with(&origin.url(), "")
}

fn impatient_with(url: &str, more: &str) -> Node {
    Node::alone(&format!(
        "[[sites]]\nname = \"rfc\"\nhosts = [\"{HOST}\"]\n[[sites.origins]]\nurl = \"{url}\"\n\
         deadlines = {{ first_byte = \"500ms\", between_bytes = \"500ms\" }}\n{more}"
    ))
}

/// Asks with fields.
async fn ask(node: &Node, target: &str, fields: &[(&str, &str)]) -> Reply {
    send(
        node.http,
        empty(fields.iter().fold(get(HOST, target), |request, (name, value)| request.header(*name, *value))),
    )
    .await
}

/// Asks by a method, without a body.
async fn by(node: &Node, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
    let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(target);
    let request =
        fields.iter().fold(request.header("host", HOST), |request, (name, value)| request.header(*name, *value));
    send(node.http, request.body(Full::default()).unwrap()).await
}

/// Asks by GET.
async fn fetch(node: &Node, target: &str) -> Reply {
    ask(node, target, &[]).await
}

/// Asks by GET an origin that breaks off. Where nothing was sent yet the connection just ends: that is no answer either.
async fn attempt(node: &Node, target: &str) -> Option<Reply> {
    client::try_send(node.http, empty(get(HOST, target))).await.ok()
}

/// An answer that may be kept for ten minutes.
fn kept(body: &str) -> Answer {
    Answer::ok(body.to_owned()).with("cache-control", "max-age=600")
}
