//! Where other parts' types become the API's: what they know now.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use region_config::{NodeId, Site};
use rules::{health::Fleet, purge::PurgeId, residency};

use super::{Context, model::Purge, problem::Problem, purges::Work};

/// Asks another node for its counters; none if it does not answer in time.
pub(super) async fn counters(_context: &Context, _node: &NodeId, _deadline: Duration) -> Option<Bytes> {
    None
}

/// The health of the fleet now.
pub(super) fn fleet(_context: &Context) -> Fleet {
    Fleet { epoch: 0, minority: false, regions: Vec::new() }
}

/// Checks that this node is a member of the site's realm.
pub(super) fn member(context: &Context, site: &Site) -> Result<(), Problem> {
    let realm = site.realm();
    if residency::member(&realm, &context.here) {
        return Ok(());
    }
    let config = context.config.load();
    let inside = config.regions.iter().filter(|region| residency::member(&realm, &region.jurisdiction));
    let nodes = inside.flat_map(|region| &region.nodes).map(|node| node.name.to_string()).collect();
    let detail =
        format!("site `{}` is pinned to `{realm}`, and this node is certified for `{}`", site.name, context.here);
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "foreign-realm", "The site is pinned elsewhere", detail)
        .expected("one of the nodes named here")
        .nodes(nodes))
}

/// Submits a purge.
pub(super) async fn purge(_context: &Context, _work: Work) -> Result<Purge, Problem> {
    Err(Problem::not_found("not yet"))
}

/// The last purges of this node's realms, newest first.
pub(super) fn recent(_context: &Context, _limit: usize) -> Vec<Purge> {
    Vec::new()
}

/// A purge by its id.
pub(super) fn receipt(_context: &Context, _id: &PurgeId) -> Option<Purge> {
    None
}
