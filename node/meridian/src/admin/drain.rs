//! `/api/v1/drain`: this node leaves in order.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};

use super::{
    Context,
    body::Body,
    model::{DrainOrder, DrainPhase, DrainState},
    problem::{Problem, Refusal},
};
use crate::{
    drain::{Phase, Plan, WAIT_S_MAX},
    observe::process,
};

/// Tells this node to leave: out of DNS at once, then it waits until no resolver can name it any more, asks the clients
/// that are left to go, finishes what runs, and ends. It cannot be taken back.
#[utoipa::path(post, path = "/api/v1/drain", operation_id = "drain", request_body = DrainOrder,
    responses(
        (status = 200, body = DrainState),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 422, body = Problem),
))]
pub(super) async fn drain(
    State(context): State<Arc<Context>>,
    Body(order): Body<DrainOrder>,
) -> Result<Json<DrainState>, Refusal> {
    if let Some(wait_s) = order.wait_s.filter(|wait_s| *wait_s > WAIT_S_MAX) {
        return Err(Problem::unprocessable("nobody waits so long for resolvers")
            .found(&wait_s.to_string())
            .expected(format!("`wait_s` of at most {WAIT_S_MAX}")));
    }
    let plan = Plan::of(&context.config.load(), order.wait_s.map(Duration::from_secs));
    context.drain.order(plan);
    Ok(state(State(context)).await)
}

/// Whether this node is leaving, and how far it has come.
#[utoipa::path(get, path = "/api/v1/drain", operation_id = "drainState", responses(
    (status = 200, body = DrainState),
    (status = 401, body = Problem),
))]
pub(super) async fn state(State(context): State<Arc<Context>>) -> Json<DrainState> {
    let (phase, plan, since_unix_ms) = context.drain.now();
    Json(DrainState {
        phase: match phase {
            Phase::Serving => DrainPhase::Serving,
            Phase::Waiting => DrainPhase::Waiting,
            Phase::Leaving => DrainPhase::Leaving,
        },
        since_unix_ms: plan.map(|_| since_unix_ms),
        wait_s: plan.map(|plan| plan.wait.as_secs()),
        finish_s: plan.map(|plan| plan.finish.as_secs()),
        process: process::name_of(std::process::id()),
    })
}
