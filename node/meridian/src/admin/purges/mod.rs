//! `/api/v1/purges` and `/api/v1/audit/purges`: orders for purges, what became of them, and who ordered what.
//!
//! ```text
//! order ──> order (checked)  ──> desk ──> pace ──> crowd ──> Realm::order, Realm::follow
//!             └─ scope (keys)       └──────────────────────> audit
//! ```

mod asked;
mod audit;
mod crowd;
mod desk;
mod order;
mod pace;
pub mod proof;
mod scope;

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::LOCATION};
use region_config::Verb;
use rules::purge::PurgeId;
use serde::Deserialize;

pub use self::{asked::Teller, desk::Desk};
use self::{
    desk::Done,
    order::{Work, Works},
};
use super::{
    Context,
    body::Body,
    guard::Source,
    live,
    model::{
        Audit, AuditEntry, Purge, PurgeAnswer, PurgeAnswers, PurgeBatch, PurgeOrder, PurgeOrdered, Purges, SignedPurge,
    },
    problem::{Problem, Refusal},
    who::{OPERATOR, Who},
};
use crate::edge::tokens::PURGE;

/// Longest body of a batch, in bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Purges in the history, at most and by default.
const RECENT_MAX: usize = 100;
/// Purges that are looked at for an application's list: it sees its own among the last so many.
const RECENT_LOOKED_AT: usize = 1_000;

/// Orders a purge.
#[utoipa::path(post, path = "/api/v1/purges", operation_id = "orderPurge", request_body = PurgeOrder, responses(
    (status = 200, body = PurgeOrdered, description = "The purge has come as far as `wait` asks."),
    (status = 202, body = PurgeOrdered, description = "It has not in time, and goes on."),
    (status = 207, body = PurgeOrdered, description = "Of a tenant's sites, some could not be purged here; each has its own answer."),
    (status = 400, body = Problem, description = "The body is not JSON."),
    (status = 401, body = Problem),
    (status = 403, body = Problem, description = "The token is not for this."),
    (status = 404, body = Problem, description = "There is no such site, tenant or realm, or none that the token knows."),
    (status = 409, body = Problem, description = "The idempotency key was used for another purge."),
    (status = 421, body = Problem, description = "The site is pinned elsewhere; `nodes` names nodes that take it."),
    (status = 422, body = Problem, description = "The order does not make sense."),
    (status = 429, body = Problem, description = "More orders than the token or its tenant may send; `Retry-After` says when."),
    (status = 503, body = Problem, description = "The ledger cannot write, or too many purges wait."),
))]
pub(super) async fn order(
    State(context): State<Arc<Context>>,
    Extension(who): Extension<Who>,
    Extension(source): Extension<Source>,
    Body(order): Body<PurgeOrder>,
) -> Result<Response, Refusal> {
    let desk = &context.purges;
    desk.pace(&context, &who)?;
    let from = source.0.ip().to_string();
    match order::checked(&context.config.load(), &who, &order)? {
        Works::One(work) => {
            let done = desk.order(&context, &who, &from, work).await?;
            let at = format!("/api/v1/purges/{}", done.purge.id);
            let token = done.purge.token.as_ref().and_then(|token| HeaderValue::try_from(token).ok());
            let mut response = (status(&done), [(LOCATION, at)], Json(PurgeOrdered::One(done.purge))).into_response();
            if let Some(token) = token {
                response.headers_mut().insert(PURGE.clone(), token);
            }
            Ok(response)
        }
        Works::Each(works) => {
            let answers = works.into_iter().map(|work| answer(&context, &who, &from, Ok(work)));
            let answers = PurgeAnswers { answers: futures_util::future::join_all(answers).await };
            Ok((status_of(&answers), Json(PurgeOrdered::Each(answers))).into_response())
        }
    }
}

/// Orders up to 1,000 purges, and answers each.
#[utoipa::path(post, path = "/api/v1/purges:batch", operation_id = "orderPurges", request_body = PurgeBatch, responses(
    (status = 200, body = PurgeAnswers, description = "All have come as far as their `wait` asks."),
    (status = 202, body = PurgeAnswers, description = "Some have not in time, and go on."),
    (status = 207, body = PurgeAnswers, description = "Some were refused."),
    (status = 400, body = Problem, description = "The body is not JSON."),
    (status = 401, body = Problem),
    (status = 413, body = Problem, description = "The body is longer than 1 MiB."),
    (status = 422, body = Problem, description = "It is no batch, or has more than 1,000 orders."),
))]
pub(super) async fn batch(
    State(context): State<Arc<Context>>,
    Extension(who): Extension<Who>,
    Extension(source): Extension<Source>,
    Body(batch): Body<PurgeBatch, BATCH_BYTES_MAX>,
) -> Response {
    let from = source.0.ip().to_string();
    let answers = batch.orders.into_iter().map(|order| {
        let work = one(&context, &who, &order);
        answer(&context, &who, &from, work)
    });
    let answers = PurgeAnswers { answers: futures_util::future::join_all(answers).await };
    (status_of(&answers), Json(answers)).into_response()
}

/// An order of a batch: each has one answer, so it is about one site.
fn one(context: &Context, who: &Who, order: &PurgeOrder) -> Result<Work, (Option<String>, Refusal)> {
    let site = order.site.clone();
    if order.tenant.is_some() || order.realm.is_some() {
        let detail = "an order of a batch is about one site";
        return Err((
            site,
            Problem::unprocessable(detail).expected("`site`; an order of its own for a tenant or realm"),
        ));
    }
    let checked = context.purges.pace(context, who).and_then(|()| order::checked(&context.config.load(), who, order));
    match checked {
        Ok(Works::One(work)) => Ok(work),
        // only an order for a tenant is one for each of its sites
        Ok(Works::Each(_)) => Err((site, scope::nothing())),
        Err(problem) => Err((site, problem)),
    }
}

async fn answer(
    context: &Context,
    who: &Who,
    from: &str,
    work: Result<Work, (Option<String>, Refusal)>,
) -> PurgeAnswer {
    let (site, done) = match work {
        Ok(work) => (work.site().map(str::to_owned), context.purges.order(context, who, from, work).await),
        Err((site, problem)) => (site, Err(problem)),
    };
    match done {
        Ok(done) => PurgeAnswer { status: status(&done).as_u16(), site, purge: Some(done.purge), problem: None },
        Err(problem) => PurgeAnswer { status: problem.status, site, purge: None, problem: Some(*problem) },
    }
}

fn status(done: &Done) -> StatusCode {
    if done.reached { StatusCode::OK } else { StatusCode::ACCEPTED }
}

fn status_of(answers: &PurgeAnswers) -> StatusCode {
    let any = |fits: fn(&PurgeAnswer) -> bool| answers.answers.iter().any(fits);
    if any(|answer| answer.purge.is_none()) {
        return StatusCode::MULTI_STATUS;
    }
    if any(|answer| answer.status == 202) { StatusCode::ACCEPTED } else { StatusCode::OK }
}

/// How many purges to list.
#[derive(Debug, Deserialize)]
pub(super) struct Limit {
    limit: Option<usize>,
}

/// The last purges that this node took, newest first.
#[utoipa::path(get, path = "/api/v1/purges", operation_id = "purges",
    params(("limit" = Option<u32>, Query, description = "At most so many: 1 to 100.")),
    responses(
        (status = 200, body = Purges),
        (status = 401, body = Problem),
        (status = 403, body = Problem, description = "The token is not for reading."),
))]
pub(super) async fn recent(
    State(context): State<Arc<Context>>,
    Extension(who): Extension<Who>,
    Query(limit): Query<Limit>,
) -> Result<Json<Purges>, Refusal> {
    who.may(Verb::Read)?;
    let limit = limit.limit.unwrap_or(RECENT_MAX).clamp(1, RECENT_MAX);
    let looked_at = match who {
        Who::Operator => limit,
        Who::Application(_) => RECENT_LOOKED_AT,
    };
    let config = context.config.load();
    let purges = live::recent(&context, (limit, looked_at), |purge| who.knows_name(&config, purge.site.as_deref()));
    Ok(Json(Purges { purges }))
}

/// A purge and how far it has come. Any node of its realm answers: who did not take it asks the one that did.
#[utoipa::path(get, path = "/api/v1/purges/{id}", operation_id = "purge",
    params(("id" = String, Path, description = "32 hex digits.")),
    responses(
        (status = 200, body = Purge),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 403, body = Problem, description = "The token is not for reading."),
        (status = 404, body = Problem, description = "No node that answers took it and remembers it, or the token may not know of it."),
))]
pub(super) async fn receipt(
    State(context): State<Arc<Context>>,
    Extension(who): Extension<Who>,
    Path(id): Path<String>,
) -> Result<Json<Purge>, Refusal> {
    let found = asked::find(&context, &readable(&who, &id)?, false).await;
    Ok(Json(known(&context, &who, found)?.purge))
}

/// A purge's receipt, signed by the node that took it, to be kept and shown to others: `meridian verify` checks it offline.
#[utoipa::path(get, path = "/api/v1/purges/{id}/receipt", operation_id = "signedPurge",
    params(("id" = String, Path, description = "32 hex digits.")),
    responses(
        (status = 200, body = SignedPurge),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 403, body = Problem, description = "The token is not for reading."),
        (status = 404, body = Problem, description = "No node that answers took it and remembers it, or the token may not know of it."),
        (status = 409, body = Problem, description = "The node that took it has no identity to sign with."),
))]
pub(super) async fn signed(
    State(context): State<Arc<Context>>,
    Extension(who): Extension<Who>,
    Path(id): Path<String>,
) -> Result<Json<SignedPurge>, Refusal> {
    let found = asked::find(&context, &readable(&who, &id)?, true).await;
    known(&context, &who, found)?.signed.map(Json).ok_or_else(|| {
        let detail = "the receipt cannot be signed: the node that took the purge stands alone and has no identity";
        Problem::new(StatusCode::CONFLICT, "no-identity", "Nothing to sign with", detail)
            .expected("a node with `[peer]`: its certificate (`meridian ca issue`) is what signs")
    })
}

/// What may be asked.
fn readable(who: &Who, id: &str) -> Result<PurgeId, Refusal> {
    who.may(Verb::Read)?;
    PurgeId::parse(id)
        .ok_or_else(|| Problem::malformed("this is not the id of a purge").found(id).expected("32 hex digits"))
}

/// What was found, if the asker may know it.
fn known(context: &Context, who: &Who, found: Option<asked::Told>) -> Result<asked::Told, Refusal> {
    let config = context.config.load();
    found.filter(|told| who.knows_name(&config, told.purge.site.as_deref())).ok_or_else(|| {
        Problem::not_found("no node that answers here took such a purge, or they have forgotten it")
            .expected("the id of one of the last purges of the realm's nodes; the audit goes back further")
    })
}

/// Which orders to list.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    since: Option<u64>,
    until: Option<u64>,
    site: Option<String>,
    token: Option<String>,
    below: Option<String>,
    limit: Option<usize>,
}

/// Who ordered which purges through this node, newest first; kept for 90 days. An application sees the
/// orders about the sites that its token knows; not from where the operator sent his.
#[utoipa::path(get, path = "/api/v1/audit/purges", operation_id = "auditPurges",
    params(
        ("since" = Option<u64>, Query, description = "From this moment on, in ms since the Unix epoch."),
        ("until" = Option<u64>, Query, description = "Before this moment, in ms since the Unix epoch."),
        ("site" = Option<String>, Query, description = "Of this site."),
        ("token" = Option<String>, Query, description = "By this token; `(admin)` is the admin token."),
        ("below" = Option<String>, Query, description = "Where the page before ended: its `next`."),
        ("limit" = Option<u32>, Query, description = "At most so many: 1 to 500; 100 if left out."),
    ),
    responses(
        (status = 200, body = Audit),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 403, body = Problem, description = "The token is not for reading."),
        (status = 503, body = Problem, description = "The audit cannot be read."),
))]
pub(super) async fn audited(
    State(context): State<Arc<Context>>,
    Extension(who): Extension<Who>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Audit>, Refusal> {
    who.may(Verb::Read)?;
    let below = match &wanted.below {
        None => None,
        Some(text) => Some(audit::parse(text).ok_or_else(|| {
            Problem::malformed("`below` is no place in the audit").found(text).expected("the `next` of a page")
        })?),
    };
    let limit = wanted.limit.unwrap_or(RECENT_MAX).clamp(1, audit::PAGE_MAX);
    let (desk, config, node) =
        (Arc::clone(&context.purges), context.config.load_full(), context.config.load().node.name.to_string());
    // the disk is read: not where requests are answered
    let read = tokio::task::spawn_blocking(move || {
        let query = audit::Query {
            tenant: who.tenant(),
            since_unix_ms: wanted.since.unwrap_or(0),
            until_unix_ms: wanted.until.unwrap_or(u64::MAX),
            below,
            limit,
        };
        let accepts = |entry: &AuditEntry| {
            who.knows_name(&config, entry.site.as_deref())
                && wanted.site.as_ref().is_none_or(|site| entry.site.as_ref() == Some(site))
                && wanted.token.as_ref().is_none_or(|token| entry.token == *token)
        };
        let mut page = desk.audits.page(&query, accepts)?;
        if matches!(who, Who::Application(_)) {
            // from where the operator works is nobody else's business
            page.0.iter_mut().filter(|entry| entry.token == OPERATOR).for_each(|entry| entry.from.clear());
        }
        Ok::<_, store::ledger::LedgerError>(page)
    });
    let unreadable = |why: String| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "audit", "The audit cannot be read", why).retry_after(1)
    };
    let (mut entries, next) =
        read.await.map_err(|error| unreadable(error.to_string()))?.map_err(|fault| unreadable(fault.to_string()))?;
    for entry in entries.iter_mut().filter(|entry| entry.outcome.is_none()) {
        // not looked at yet: what is known now
        let now = PurgeId::parse(&entry.purge).and_then(|id| live::receipt(&context, &id, None));
        entry.outcome = now.map(audit::outcome);
    }
    Ok(Json(Audit { node, entries, next: next.map(audit::shown) }))
}
