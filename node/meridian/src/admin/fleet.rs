//! `GET /api/v1/fleet`: regions and nodes, as this node sees them.

use std::sync::Arc;

use axum::{Json, extract::State};
use region_config::Config;
use rules::health;

use super::{
    Context, live,
    model::{Fleet, Node, NodeState, Region, RegionState, Vote},
    problem::Problem,
    sites::{Gathering, gather},
};
use crate::clock;

/// The fleet as this node sees it.
#[utoipa::path(get, path = "/api/v1/fleet", operation_id = "fleet", responses(
    (status = 200, body = Fleet),
    (status = 401, body = Problem),
))]
pub(super) async fn fleet(State(context): State<Arc<Context>>) -> Json<Fleet> {
    let gathering = gather(&context).await;
    // the health is read after the waiting, so that it is as fresh as can be
    let (config, health) = (context.config.load(), live::fleet(&context));
    Json(Fleet {
        node: config.node.name.to_string(),
        region: config.node.region.to_string(),
        now_unix_ms: clock::unix_ms(),
        epoch: health.epoch,
        minority: health.minority,
        regions: (0..config.regions.len()).map(|index| region(&config, &health, index, &gathering)).collect(),
    })
}

fn region(config: &Config, fleet: &health::Fleet, index: usize, gathering: &Gathering) -> Region {
    let place = &config.regions[index];
    // during a reload, health may know fewer regions than the config
    let view = fleet.regions.get(index);
    let vote = |vote: &health::Vote| Vote { observer: vote.observer.to_string(), healthy: vote.healthy };
    Region {
        name: place.name.to_string(),
        latitude: place.latitude,
        longitude: place.longitude,
        jurisdiction: place.jurisdiction.to_string(),
        state: view.map_or(RegionState::Unknown, |view| state(view.state)),
        pending: view.is_some_and(|view| view.pending),
        since_unix_ms: view.map_or(0, |view| view.since_unix_ms),
        votes: view.map(|view| view.votes.iter().map(vote).collect()).unwrap_or_default(),
        nodes: place.nodes.iter().map(|member| node(config, view, member, gathering)).collect(),
    }
}

fn node(
    config: &Config,
    region: Option<&health::RegionView>,
    member: &region_config::Node,
    gathering: &Gathering,
) -> Node {
    let view = region.and_then(|region| region.nodes.iter().find(|view| view.name == member.name));
    // this node answers: that is proof enough
    let own = member.name == config.node.name;
    let standing = match view.map(|view| view.state) {
        Some(health::NodeState::Up) => NodeState::Up,
        _ if own => NodeState::Up,
        Some(health::NodeState::Down) => NodeState::Down,
        Some(health::NodeState::Unknown) | None => NodeState::Unknown,
    };
    Node {
        name: member.name.to_string(),
        state: standing,
        rtt_us: view.and_then(|view| view.rtt_us).filter(|_| !own),
        ready: gathering.ready(&member.name),
        addresses: member.addresses.iter().map(ToString::to_string).collect(),
    }
}

fn state(state: health::RegionState) -> RegionState {
    match state {
        health::RegionState::Up => RegionState::Up,
        health::RegionState::Degraded => RegionState::Degraded,
        health::RegionState::Draining => RegionState::Draining,
        health::RegionState::Unknown => RegionState::Unknown,
        health::RegionState::Down => RegionState::Down,
    }
}
