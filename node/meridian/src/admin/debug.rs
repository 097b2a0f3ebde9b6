//! Debug tokens, and the trails of requests that showed one.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use region_config::Site;
use rules::{
    caching::Reason,
    residency::{self, Permit},
};

use super::{
    Context,
    body::Body,
    live,
    model::{DebugToken, DebugTokenOrder, DebugTokens, Step, Trail},
    problem::{Problem, Refusal},
};
use crate::{
    clock,
    observe::{
        Told,
        trail::{Note, Record, TOKEN_LIFE_MS, TokenError, TokenView},
    },
};

const MINUTE_MS: u64 = 60_000;

/// Makes a token whose holders are told why their requests to a site went the way they did, by this node.
#[utoipa::path(post, path = "/api/v1/debug-tokens", operation_id = "makeDebugToken", request_body = DebugTokenOrder,
    responses(
        (status = 200, body = DebugToken, description = "The token itself is told this once."),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 404, body = Problem, description = "There is no such site."),
        (status = 409, body = Problem, description = "Too many tokens live."),
        (status = 421, body = Problem, description = "The site is pinned elsewhere; `nodes` names nodes that may."),
        (status = 422, body = Problem),
        (status = 503, body = Problem),
))]
pub(super) async fn make(
    State(context): State<Arc<Context>>,
    Body(order): Body<DebugTokenOrder>,
) -> Result<Json<DebugToken>, Refusal> {
    let site = site(&context, &order.site)?;
    let permit = permit(&context, &site)?;
    let life_ms = order.minutes.saturating_mul(MINUTE_MS);
    if !(MINUTE_MS..=TOKEN_LIFE_MS).contains(&life_ms) {
        return Err(Problem::unprocessable("a token does not live so long")
            .found(&order.minutes.to_string())
            .expected(format!("1 to {} minutes", TOKEN_LIFE_MS / MINUTE_MS)));
    }
    let made = context.observe.trails().mint(&permit, life_ms, clock::monotonic_ms());
    let (text, view) = made.map_err(refusal)?;
    Ok(Json(DebugToken { token: Some(text), ..shown(&view) }))
}

fn refusal(error: TokenError) -> Refusal {
    let (status, word) = match error {
        TokenError::TooMany => (StatusCode::CONFLICT, "too-many-tokens"),
        TokenError::Chance => (StatusCode::SERVICE_UNAVAILABLE, "no-randomness"),
    };
    Problem::new(status, word, "No token was made", error.to_string())
}

/// The debug tokens that live on this node.
#[utoipa::path(get, path = "/api/v1/debug-tokens", operation_id = "debugTokens", responses(
    (status = 200, body = DebugTokens),
    (status = 401, body = Problem),
))]
pub(super) async fn tokens(State(context): State<Arc<Context>>) -> Json<DebugTokens> {
    let views = context.observe.trails().tokens(clock::monotonic_ms());
    Json(DebugTokens { tokens: views.iter().map(shown).collect() })
}

/// Ends a debug token's life, and drops the trails that were kept for it.
#[utoipa::path(delete, path = "/api/v1/debug-tokens/{id}", operation_id = "revokeDebugToken",
    params(("id" = String, Path, description = "16 hex digits.")),
    responses(
        (status = 200, body = DebugTokens, description = "Those that are left."),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 404, body = Problem, description = "There is no such token on this node."),
))]
pub(super) async fn revoke(context: State<Arc<Context>>, Path(id): Path<String>) -> Result<Json<DebugTokens>, Refusal> {
    let Some(parsed) = hex(&id, 16).and_then(|number| u64::try_from(number).ok()) else {
        return Err(Problem::malformed("this is not the id of a debug token").found(&id).expected("16 hex digits"));
    };
    if !context.observe.trails().revoke(parsed) {
        return Err(Problem::not_found("there is no such debug token on this node"));
    }
    Ok(tokens(context).await)
}

/// What this node did with a request that showed a debug token, and why.
#[utoipa::path(get, path = "/api/v1/explain/requests/{id}", operation_id = "trail",
    params(("id" = String, Path, description = "What `Meridian-Request` said: 32 hex digits.")),
    responses(
        (status = 200, body = Trail),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 404, body = Problem, description = "This node did not answer it, or has forgotten it."),
))]
pub(super) async fn trail(State(context): State<Arc<Context>>, Path(id): Path<String>) -> Result<Json<Trail>, Refusal> {
    let Some(parsed) = hex(&id, 32) else {
        return Err(Problem::malformed("this is not the id of a request").found(&id).expected("32 hex digits"));
    };
    let record = context.observe.trails().find(parsed, clock::monotonic_ms());
    // the site may have been pinned elsewhere since
    let record = record.filter(|record| site(&context, record.site.as_str()).is_ok_and(|site| may(&context, &site)));
    let Some(record) = record else {
        return Err(Problem::not_found("this node answered no such request, or has forgotten it")
            .expected("the node that `Cache-Status` names last, within ten minutes"));
    };
    Ok(Json(told(&record)))
}

fn told(record: &Record) -> Trail {
    let answered = &record.answered;
    Trail {
        id: format!("{:032x}", record.id),
        site: record.site.to_string(),
        unix_ms: answered.unix_ms,
        method: answered.method.clone(),
        url: answered.url.clone(),
        status: answered.status,
        outcome: answered.outcome.as_str().into(),
        reason: answered.reason.map(|reason| reason.as_str().into()),
        advice: answered.reason.map(|reason| reason.advice().into()),
        cache_status: answered.cache_status.clone(),
        micros: answered.micros,
        steps: record.notes.iter().map(noted).collect(),
    }
}

fn noted(note: &Note) -> Step {
    Step { after_us: Some(note.micros), ..step(note.step, &note.told) }
}

/// A step as it is shown.
pub(super) fn step(name: &str, told: &Told) -> Step {
    Step {
        step: name.into(),
        verdict: told.verdict.clone().into_owned(),
        reason: told.reason.map(|reason| reason.as_str().into()),
        detail: told.detail.clone(),
        advice: told.reason.map(|reason: Reason| reason.advice().into()),
        after_us: None,
    }
}

fn site(context: &Context, name: &str) -> Result<Arc<Site>, Refusal> {
    let config = context.config.load();
    let site = config.sites.iter().find(|site| site.name.as_str() == name).cloned();
    site.ok_or_else(|| Problem::not_found("there is no such site").found(name).expected("the name of a site"))
}

fn may(context: &Context, site: &Site) -> bool {
    residency::permit(site, &context.here).is_ok()
}

fn permit(context: &Context, site: &Site) -> Result<Permit, Refusal> {
    // names the nodes that may, where this one may not
    live::realm(context, site)?;
    residency::permit(site, &context.here).map_err(|outside| Problem::unprocessable(outside.to_string()))
}

fn shown(view: &TokenView) -> DebugToken {
    DebugToken {
        id: format!("{:016x}", view.id),
        site: view.site.to_string(),
        token: None,
        expires_unix_ms: clock::unix_ms().saturating_add(view.left_ms),
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let all = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}
