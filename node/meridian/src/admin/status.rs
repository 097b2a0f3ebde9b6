//! This node's own state: `GET /api/v1/status`, `/healthz`, `/readyz`.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use region_config::NodeConfig;

use super::{
    Context, live,
    model::{Listener, Readiness, Status},
    problem::Problem,
};
use crate::{clock, observe::process};

/// This node's own state.
#[utoipa::path(get, path = "/api/v1/status", operation_id = "status", responses(
    (status = 200, body = Status),
    (status = 401, body = Problem),
))]
pub(super) async fn status(State(context): State<Arc<Context>>) -> Json<Status> {
    let config = context.config.load();
    Json(Status {
        node: config.node.name.to_string(),
        region: config.node.region.to_string(),
        jurisdiction: context.here.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        started_unix_ms: context.started_unix_ms,
        uptime_s: clock::unix_ms().saturating_sub(context.started_unix_ms) / 1000,
        config_fingerprint: hex(&config.fingerprint),
        memory_bytes: process::resident_bytes(),
        open_files: process::open_files(),
        listeners: listeners(&config.node),
        warnings: warnings(&context),
    })
}

fn warnings(context: &Context) -> Vec<String> {
    let mut warnings = (context.warnings)();
    warnings.extend(super::forced::warnings(&context.config.load(), &context.health.fleet()));
    let differing = live::differing(context);
    if !differing.is_empty() {
        warnings.push(format!("these nodes run another config than this one: {}", differing.join(", ")));
    }
    warnings
}

/// The process lives, and its admin runtime turns.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the node can serve, part by part: 200 if it can, 503 if not.
pub(super) async fn readyz(State(context): State<Arc<Context>>) -> Response {
    let parts = (context.parts)();
    let ready = parts.iter().all(|part| part.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, parts })).into_response()
}

pub(super) fn listeners(node: &NodeConfig) -> Vec<Listener> {
    let of = |purpose: &'static str, addresses: &[SocketAddr]| -> Vec<Listener> {
        let listener = |address: &SocketAddr| Listener { purpose: purpose.into(), address: address.to_string() };
        addresses.iter().map(listener).collect()
    };
    [
        of("http", &node.http),
        of("https", &node.https),
        of("dns", &node.dns),
        of("admin", node.admin.as_slice()),
        of("peer", node.peer.as_slice()),
    ]
    .concat()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
