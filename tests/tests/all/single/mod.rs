//! One node between clients and an origin of ours.

mod bad_input;
mod coalescing;
mod codings;
mod crowds;
mod disk;
mod dns;
mod dnssec;
mod explain;
pub(crate) mod http2;
mod interim;
mod keyed;
mod ordered;
mod origins;
mod parsing;
mod protocols;
mod purges;
mod ranges;
mod reasons;
mod sharing;
mod slow_clients;
mod staleness;
mod variants;

use crate::harness::{Node, origin::Origin};

/// The host of the one site.
pub(crate) const HOST: &str = "www.single.test";

/// A node with one site before an origin; `more` is added to the config.
fn node(origin: &Origin, more: &str) -> Node {
    Node::alone(&config(origin, more))
}

fn config(origin: &Origin, more: &str) -> String {
    let url = origin.url();
    format!("[[sites]]\nname = \"single\"\nhosts = [\"{HOST}\"]\norigin = \"{url}\"\n{more}")
}
