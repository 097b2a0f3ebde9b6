//! The admin API and UI: on a listener of its own, on every node, with no other service behind it.
//!
//! - `/api/v1/...`: JSON, described by [`openapi`]; for operators, who send the admin token.
//! - `/metrics`: the Prometheus page; also for holders of the token.
//! - `/healthz`, `/readyz`: for whoever supervises the node; open, as they say nothing about sites.
//! - everything else: the UI, which is a client of the API.

mod body;
mod config;
mod debug;
mod drain;
mod explain;
mod fleet;
mod forced;
mod geo;
mod guard;
mod live;
pub mod model;
mod problem;
pub mod purges;
mod report;
mod serve;
mod sites;
mod status;
mod tls;
mod token;
mod ui;
mod what_if;
mod who;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{Request, State},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode, header};
use region_config::{Config, JurisdictionId};
use tokio::sync::Semaphore;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::problem::{Problem, Refusal};
pub use self::{
    explain::{Explains, Steered, Whither},
    model::{Part, SteeredFrom, SteeredRegion, Steering, SteeringEpochs, Step},
    problem::one_of,
    report::Reporter,
    serve::{ServeFault, Server},
    sites::Gathered,
    tls::{DoorTls, DoorTlsFault},
    token::{FILE as TOKEN_FILE, Token, TokenFault},
};
use crate::{
    drain::Drain,
    geo::Watch,
    ledger::Ledgers,
    load::Load,
    observe::{self, Observe},
    peers::{Health, Mesh},
};

/// Tells which parts of the node are ready. Called at each question; must not wait.
pub type Parts = Arc<dyn Fn() -> Vec<Part> + Send + Sync>;

/// Tells what an operator should look at. Called at each question; must not wait.
pub type Warnings = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What the admin API works with. Made once, by the wiring.
pub struct Context {
    /// The current config.
    pub config: Arc<ArcSwap<Config>>,
    /// The jurisdiction that this node is certified for.
    pub here: JurisdictionId,
    /// The counters.
    pub observe: Arc<Observe>,
    /// The fleet's health.
    pub health: Arc<Health>,
    /// What clients ask for against what regions bear.
    pub load: Arc<Load>,
    /// The ledgers of the realms that this node is a member of.
    pub ledgers: Arc<Ledgers>,
    /// The other nodes; none in a fleet of one.
    pub mesh: Option<Arc<Mesh>>,
    /// The admin token.
    pub token: Token,
    /// Names under which the admin interface is served, beside IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// What must be ready before the node serves.
    pub parts: Parts,
    /// What an operator should look at.
    pub warnings: Warnings,
    /// When the process started, in ms since the Unix epoch.
    pub started_unix_ms: u64,
    /// What would be done with a request.
    pub explained: Explains,
    /// Where DNS would lead an address, for explanations.
    pub steered: Steered,
    /// The watch over the geo databases.
    pub geo: Arc<Watch>,
    /// The turn to work out what would change: one at a time.
    pub what_if: Arc<Semaphore>,
    /// Where orders for purges are taken.
    pub purges: Arc<purges::Desk>,
    /// The order to leave.
    pub drain: Arc<Drain>,
    /// The counters of the other nodes, as they were last told: empty at the start.
    pub gathered: Gathered,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Meridian admin API",
        description = "Fleet, sites, purges and explanations of one Meridian node. Errors are RFC 9457 problems.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem)),
    security(("token" = [])),
    modifiers(&Bearer),
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The OpenAPI 3.1 document of the API, as JSON with indentation.
#[must_use]
pub fn openapi() -> String {
    let document = api().merge(purge_api()).into_openapi();
    // the document is made of plain values: writing it cannot fail
    document.to_pretty_json().map(|text| text + "\n").unwrap_or_default()
}

fn api() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(fleet::fleet))
        .routes(routes!(forced::force, forced::forced))
        .routes(routes!(drain::drain, drain::state))
        .routes(routes!(sites::sites))
        .routes(routes!(status::status))
        .routes(routes!(explain::explain))
        .routes(routes!(explain::route))
        .routes(routes!(what_if::what_if))
        .routes(routes!(geo::geo))
        .routes(routes!(geo::accept))
        .routes(routes!(debug::trail))
        .routes(routes!(debug::make, debug::tokens))
        .routes(routes!(debug::revoke))
        .routes(routes!(config::config))
}

/// What applications may ask for.
fn purge_api() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new()
        .routes(routes!(purges::order, purges::recent))
        .routes(routes!(purges::batch))
        .routes(routes!(purges::receipt))
        .routes(routes!(purges::signed))
        .routes(routes!(purges::audited))
}

/// Everything that the listener for applications answers: purges, and whether the node is there.
pub fn purge_router(context: &Arc<Context>) -> Router {
    let (api, _) = purge_api().split_for_parts();
    api.layer(from_fn_with_state((Arc::clone(context), guard::Door::Applications), guard::purgers))
        .route("/healthz", axum::routing::get(status::healthz))
        .route("/readyz", axum::routing::get(status::readyz))
        .fallback(nothing)
        .method_not_allowed_fallback(method)
        .layer(from_fn(guard::plain))
        .with_state(Arc::clone(context))
}

async fn nothing() -> Refusal {
    Problem::not_found("this listener is for purges only").expected("/api/v1/purges; see docs/purging.md")
}

/// Everything that the admin listener answers.
pub fn router(context: &Arc<Context>) -> Router {
    let document = api().merge(purge_api()).into_openapi();
    let (api, _) = api().split_for_parts();
    let document: Arc<str> = document.to_pretty_json().unwrap_or_default().into();
    let for_operators = api
        .route("/api/v1/openapi.json", axum::routing::get(move || described(Arc::clone(&document))))
        .route("/metrics", axum::routing::get(metrics))
        .layer(from_fn_with_state(Arc::clone(context), guard::operators));
    let (purges, _) = purge_api().split_for_parts();
    let for_purgers = purges.layer(from_fn_with_state((Arc::clone(context), guard::Door::Admin), guard::purgers));
    for_operators
        .merge(for_purgers)
        .route("/healthz", axum::routing::get(status::healthz))
        .route("/readyz", axum::routing::get(status::readyz))
        .fallback(other)
        .method_not_allowed_fallback(method)
        .layer(from_fn_with_state(Arc::clone(context), guard::everything))
        .with_state(Arc::clone(context))
}

async fn described(document: Arc<str>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}

async fn metrics(State(context): State<Arc<Context>>) -> Response {
    ([(header::CONTENT_TYPE, observe::CONTENT_TYPE)], context.observe.render()).into_response()
}

async fn other(request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::not_found("there is nothing here").expected("see /api/v1/openapi.json").into_response();
    }
    ui::answer(request.uri().path(), request.headers())
}

async fn method() -> Refusal {
    let detail = "this resource does not have this method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Method not allowed", detail)
        .expected("see /api/v1/openapi.json")
}

#[cfg(test)]
mod tests;
