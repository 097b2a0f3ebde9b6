//! `/api/v1/forced`: what operators force regions and nodes to be.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use region_config::{Config, NodeId, RegionId};
use rules::{
    health::{Fleet, Force, ForceFault, RegionState, Target, WHO_CHARS_MAX, WHY_CHARS_MAX},
    residency,
};

use super::{
    Context,
    body::Body,
    model::{ForceAnswer, ForceOrder, Forced, ForcedAll, ForcedState},
    problem::{Problem, Refusal},
    who::OPERATOR,
};
use crate::peers::OrderFault;

/// Sites that a warning names, at most.
const NAMED_MAX: usize = 8;

/// Forces a region or a node up, down or to drain, or takes that back. Once it is answered it is on this node's disk and in
/// force; the other nodes that this one reaches hear of it at once, and those it does not reach when they are back.
#[utoipa::path(post, path = "/api/v1/forced", operation_id = "force", request_body = ForceOrder,
    responses(
        (status = 200, body = ForceAnswer),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 404, body = Problem, description = "There is no such region or node."),
        (status = 409, body = Problem, description = "Nothing is forced there."),
        (status = 422, body = Problem),
        (status = 503, body = Problem, description = "It could not be written to disk, and is not in force."),
))]
pub(super) async fn force(
    State(context): State<Arc<Context>>,
    Body(order): Body<ForceOrder>,
) -> Result<Json<ForceAnswer>, Refusal> {
    let config = context.config.load_full();
    let target = target(&config, &order)?;
    let who = order.who.as_deref().unwrap_or(OPERATOR);
    let forced = context.health.force(target.clone(), wanted(order.state), (who, &order.why)).await;
    let forced = forced.map_err(|fault| refusal(&fault, &order))?;
    let warnings = warnings(&config, &context.health.fleet());
    Ok(Json(ForceAnswer { forced: told(&target, &forced), warnings }))
}

/// Everything that is forced, with who and why.
#[utoipa::path(get, path = "/api/v1/forced", operation_id = "forced", responses(
    (status = 200, body = ForcedAll),
    (status = 401, body = Problem),
))]
pub(super) async fn forced(State(context): State<Arc<Context>>) -> Json<ForcedAll> {
    let book = context.health.forced();
    let forced = book.entries().map(|(target, forced)| told(target, forced)).collect();
    Json(ForcedAll { digest: format!("{:016x}", book.digest()), forced })
}

/// An entry as it is shown.
pub(super) fn told(target: &Target, forced: &rules::health::Forced) -> Forced {
    let (region, node) = match target {
        Target::Region(name) => (Some(name.to_string()), None),
        Target::Node(name) => (None, Some(name.to_string())),
    };
    Forced {
        region,
        node,
        state: match forced.force {
            Some(Force::Up) => ForcedState::Up,
            Some(Force::Down) => ForcedState::Down,
            Some(Force::Drain) => ForcedState::Drain,
            None => ForcedState::Released,
        },
        who: forced.who.clone(),
        why: forced.why.clone(),
        taken_by: forced.node.to_string(),
        since_unix_ms: forced.unix_ms,
    }
}

fn wanted(state: ForcedState) -> Option<Force> {
    match state {
        ForcedState::Up => Some(Force::Up),
        ForcedState::Down => Some(Force::Down),
        ForcedState::Drain => Some(Force::Drain),
        ForcedState::Released => None,
    }
}

fn target(config: &Config, order: &ForceOrder) -> Result<Target, Refusal> {
    match (&order.region, &order.node) {
        (Some(name), None) => {
            let known: Vec<&RegionId> = config.regions.iter().map(|region| &region.name).collect();
            let found = known.iter().find(|known| known.as_str() == name);
            found.map(|region| Target::Region((*region).clone())).ok_or_else(|| unknown("region", name, &known))
        }
        (None, Some(name)) => {
            let known: Vec<&NodeId> =
                config.regions.iter().flat_map(|region| &region.nodes).map(|it| &it.name).collect();
            let found = known.iter().find(|known| known.as_str() == name);
            found.map(|node| Target::Node((*node).clone())).ok_or_else(|| unknown("node", name, &known))
        }
        _ => Err(Problem::unprocessable("an order is for one region or one node").expected("`region` or `node`")),
    }
}

fn unknown<T: AsRef<str>>(what: &str, name: &str, known: &[T]) -> Refusal {
    let names: Vec<&str> = known.iter().take(NAMED_MAX).map(AsRef::as_ref).collect();
    let more = if known.len() > NAMED_MAX { ", ..." } else { "" };
    let problem = Problem::not_found(format!("there is no such {what} in the config")).found(name);
    problem.expected(format!("one of {}{more}", names.join(", ")))
}

fn refusal(fault: &OrderFault, order: &ForceOrder) -> Refusal {
    let nonsense = Problem::unprocessable(fault.to_string());
    match fault {
        OrderFault::Order(ForceFault::Why) => {
            nonsense.found(&order.why).expected(format!("1 to {WHY_CHARS_MAX} characters in `why`"))
        }
        OrderFault::Order(ForceFault::Who) => nonsense
            .found(order.who.as_deref().unwrap_or_default())
            .expected(format!("1 to {WHO_CHARS_MAX} characters in `who`")),
        OrderFault::Order(ForceFault::NotForced) => {
            Problem::new(StatusCode::CONFLICT, "not-forced", "Nothing is forced there", fault.to_string())
        }
        OrderFault::Order(ForceFault::Full | ForceFault::Version) => nonsense,
        OrderFault::Disk { .. } => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-kept", "The order could not be kept", fault.to_string())
        }
    }
}

/// What an operator should know of what is forced: sites for which no region is left. Their names go on leading
/// somewhere legal all the same, since an empty answer is never better.
pub(super) fn warnings(config: &Config, fleet: &Fleet) -> Vec<String> {
    let takes = |region: &region_config::Region| {
        let state = fleet.region(&region.name).map(|region| region.state);
        matches!(state, Some(RegionState::Up | RegionState::Degraded | RegionState::Unknown))
    };
    let taking = config.regions.iter().enumerate().filter(|(_, region)| takes(region));
    let left = taking.fold(0u64, |mask, (index, _)| mask | 1 << index);
    let without = config.sites.iter().filter(|site| residency::eligible(config, site) & left == 0);
    let names: Vec<&str> = without.map(|site| site.name.as_str()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let more = if names.len() > NAMED_MAX { ", ..." } else { "" };
    let named = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    vec![format!(
        "no region that may serve these sites is left, so DNS goes on naming the least bad one: {named}{more}"
    )]
}
