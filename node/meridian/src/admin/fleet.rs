//! `GET /api/v1/fleet`: regions and nodes, as this node sees them.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
};
use region_config::Config;
use rules::health::{self, Book, Target};
use serde::Deserialize;

use super::{
    Context,
    forced::told,
    live,
    model::{Fleet, Forced, Node, NodeState, Region, RegionLoad, RegionState, Vote},
    problem::Problem,
    sites::{Gathering, gather, last},
};
use crate::{clock, load};

const WAIT_MS_MAX: u64 = 5_000;
/// How often a waiting answer looks whether there is news.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a client has seen.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    epoch: Option<u64>,
    wait_ms: Option<u64>,
}

/// The fleet as this node sees it. With `epoch` and `wait_ms`, the answer waits until the epoch is another one, so that
/// a screen shows a change at once without asking often.
#[utoipa::path(get, path = "/api/v1/fleet", operation_id = "fleet",
    params(
        ("epoch" = Option<u64>, Query, description = "The epoch that the client has seen."),
        ("wait_ms" = Option<u64>, Query, description = "How long to wait for another one, in ms: at most 5,000."),
    ),
    responses(
        (status = 200, body = Fleet),
        (status = 401, body = Problem),
))]
pub(super) async fn fleet(State(context): State<Arc<Context>>, Query(seen): Query<Seen>) -> Json<Fleet> {
    let gathering = match seen.epoch {
        None => Some(gather(&context).await),
        Some(epoch) => {
            let changed = changed(&context, epoch, seen.wait_ms.unwrap_or(0).min(WAIT_MS_MAX));
            tokio::pin!(changed);
            tokio::select! {
                gathering = gather(&context) => {
                    changed.await;
                    Some(gathering)
                }
                // a change is told at once, with what nodes said before; a node that has just died answers nothing
                () = &mut changed => last(&context),
            }
        }
    };
    // the health is read after the waiting, so that it is as fresh as can be
    let (config, health) = (context.config.load(), live::fleet(&context));
    let (observed, book) = (context.health.observed(), context.health.forced());
    let (gathering, loads) = (gathering.as_deref(), context.load.regions());
    let seen = Sight { config: &config, fleet: &health, observed: &observed, book: &book, loads: &loads, gathering };
    Json(Fleet {
        node: config.node.name.to_string(),
        region: config.node.region.to_string(),
        now_unix_ms: clock::unix_ms(),
        epoch: health.epoch,
        minority: health.minority,
        regions: (0..config.regions.len()).map(|index| seen.region(index)).collect(),
    })
}

/// Ends when the epoch is no longer `epoch`, or after `wait_ms`.
async fn changed(context: &Context, epoch: u64, wait_ms: u64) {
    let until = clock::instant() + Duration::from_millis(wait_ms);
    while live::fleet(context).epoch == epoch && clock::instant() < until {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// All that a region is told from.
struct Sight<'a> {
    config: &'a Config,
    fleet: &'a health::Fleet,
    observed: &'a health::Fleet,
    book: &'a Book,
    loads: &'a [load::RegionLoad],
    gathering: Option<&'a Gathering>,
}

impl Sight<'_> {
    fn region(&self, index: usize) -> Region {
        let place = &self.config.regions[index];
        // during a reload, health may know fewer regions than the config
        let view = self.fleet.region(&place.name);
        let observed = self.observed.region(&place.name);
        let vote = |vote: &health::Vote| Vote { observer: vote.observer.to_string(), healthy: vote.healthy };
        Region {
            name: place.name.to_string(),
            latitude: place.latitude,
            longitude: place.longitude,
            jurisdiction: place.jurisdiction.to_string(),
            state: view.map_or(RegionState::Unknown, |view| state(view.state)),
            observed: observed.map_or(RegionState::Unknown, |view| state(view.state)),
            forced: self.forced(&Target::Region(place.name.clone())),
            pending: view.is_some_and(|view| view.pending),
            since_unix_ms: view.map_or(0, |view| view.since_unix_ms),
            part_percent: view.map_or(health::WHOLE_PERCENT, |view| view.part_percent),
            load: self.load(index),
            votes: view.map(|view| view.votes.iter().map(vote).collect()).unwrap_or_default(),
            nodes: place.nodes.iter().map(|member| self.node(view, member)).collect(),
        }
    }

    fn load(&self, index: usize) -> Option<RegionLoad> {
        let name = &self.config.regions[index].name;
        let load = self.loads.iter().find(|load| load.region == *name)?;
        let rounded = |requests: f64| (requests * 10.0).round() / 10.0;
        Some(RegionLoad {
            demand_per_second: rounded(load.demand),
            led_per_second: rounded(load.led),
            capacity_per_second: load.capacity,
            gives: load.gives,
        })
    }

    fn node(&self, region: Option<&health::RegionView>, member: &region_config::Node) -> Node {
        let view = region.and_then(|region| region.nodes.iter().find(|view| view.name == member.name));
        let own = member.name == self.config.node.name;
        let forced = self.forced(&Target::Node(member.name.clone()));
        let standing = match view.map(|view| view.state) {
            Some(health::NodeState::Up) => NodeState::Up,
            Some(health::NodeState::Starting) => NodeState::Starting,
            Some(health::NodeState::Draining) => NodeState::Draining,
            // this node answers: that is proof enough
            _ if own && forced.is_none() => NodeState::Up,
            Some(health::NodeState::Down) => NodeState::Down,
            Some(health::NodeState::Unknown) | None => NodeState::Unknown,
        };
        let gathering = self.gathering;
        Node {
            name: member.name.to_string(),
            state: standing,
            forced,
            rtt_us: view.and_then(|view| view.rtt_us).filter(|_| !own),
            ready: gathering.and_then(|gathering| gathering.ready(&member.name)),
            addresses: member.addresses.iter().map(ToString::to_string).collect(),
            ledgers: gathering.map(|gathering| gathering.ledgers(&member.name).to_vec()).unwrap_or_default(),
        }
    }

    fn forced(&self, target: &Target) -> Option<Forced> {
        self.book.of(target).map(|forced| told(target, forced))
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
