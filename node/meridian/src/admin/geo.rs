//! `/api/v1/geo`: the geo databases of this node, and an operator's word for one that is held back.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;

use super::{
    Context,
    body::Body,
    model::{GeoAcceptOrder, GeoAlarm, GeoEdition, GeoHeld, GeoState},
    problem::{Problem, Refusal},
};
use crate::geo::{AcceptFault, Edition, HeldFile, Watch};

/// The geo databases in use, what is wrong with those on disk, and which of them wait for an operator's word.
#[utoipa::path(get, path = "/api/v1/geo", operation_id = "geo", responses(
    (status = 200, body = GeoState),
    (status = 401, body = Problem),
))]
pub(super) async fn geo(State(context): State<Arc<Context>>) -> Json<GeoState> {
    Json(state(&context.geo))
}

/// Takes a geo database that is held back, as `meridian geo update --force` does: the node notes beside the file that its
/// contents are wanted, and takes it within seconds. The order names the contents by their sum, so that nothing else is taken.
#[utoipa::path(post, path = "/api/v1/geo/accept", operation_id = "acceptGeo", request_body = GeoAcceptOrder, responses(
    (status = 202, body = GeoHeld, description = "It is noted; `GET /api/v1/geo` says when it is in use."),
    (status = 400, body = Problem),
    (status = 401, body = Problem),
    (status = 409, body = Problem, description = "No file with these contents is held back."),
    (status = 422, body = Problem),
    (status = 503, body = Problem, description = "The note could not be written."),
))]
pub(super) async fn accept(
    State(context): State<Arc<Context>>,
    Body(order): Body<GeoAcceptOrder>,
) -> Result<(StatusCode, Json<GeoHeld>), Refusal> {
    let sum = order.sum.trim().to_ascii_lowercase();
    if sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let expected = "64 hexadecimal digits, as `GET /api/v1/geo` says them under `held`";
        return Err(Problem::unprocessable("`sum` is no BLAKE3 sum").found(&order.sum).expected(expected));
    }
    let watch = Arc::clone(&context.geo);
    let accepted = tokio::task::spawn_blocking(move || watch.accept(&sum)).await;
    let broken = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "broken", "It broke off", "the work broke off");
    let file = accepted.map_err(broken)?.map_err(|fault| refusal(&fault))?;
    Ok((StatusCode::ACCEPTED, Json(held(&file))))
}

fn refusal(fault: &AcceptFault) -> Refusal {
    match fault {
        AcceptFault::NotHeld => {
            let detail = fault.to_string();
            Problem::new(StatusCode::CONFLICT, "not-held", "Nothing of the kind is held back", detail)
        }
        AcceptFault::Disk { .. } => {
            let detail = fault.to_string();
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-kept", "The order could not be kept", detail)
        }
    }
}

fn state(watch: &Watch) -> GeoState {
    let current = watch.current();
    GeoState {
        editions: current.iter().flat_map(|base| base.editions()).map(edition).collect(),
        alarms: (watch.alarms().iter())
            .map(|alarm| GeoAlarm { alarm: alarm.as_str().into(), detail: alarm.to_string() })
            .collect(),
        held: watch.held().iter().map(held).collect(),
    }
}

fn edition(edition: &Edition) -> GeoEdition {
    GeoEdition {
        wanted: edition.wanted.as_str().into(),
        file: edition.path.as_ref().map(|path| path.display().to_string()),
        kind: edition.kind.clone(),
        built_unix_s: edition.built_unix_s,
        networks: edition.networks.iter().sum(),
    }
}

fn held(file: &HeldFile) -> GeoHeld {
    GeoHeld { file: file.path.display().to_string(), sum: file.sum.to_hex().to_string(), why: file.why.clone() }
}
