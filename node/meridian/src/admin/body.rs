//! JSON bodies: bounded, and refused with what was wrong where.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::problem::{Problem, Refusal};

/// Longest body, in bytes.
pub(super) const BYTES_MAX: usize = 64 * 1024;
const READ_MAX: Duration = Duration::from_secs(10);

/// A request's body of at most `MAX` bytes, read as JSON.
pub(super) struct Body<T, const MAX: usize = BYTES_MAX>(pub(super) T);

impl<T: DeserializeOwned, S: Sync, const MAX: usize> FromRequest<S> for Body<T, MAX> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        json_announced(request.headers())?;
        let collect = Limited::new(request.into_body(), MAX).collect();
        let bytes = match tokio::time::timeout(READ_MAX, collect).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large(MAX)),
            Ok(Err(_)) => return Err(Problem::malformed("the body broke off")),
            Err(_) => {
                let detail = "the body took longer than 10 s";
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "Timeout", detail));
            }
        };
        // a list would be taken for the fields in their order, which nobody means
        if bytes.trim_ascii_start().starts_with(b"[") {
            let detail = "the body does not fit: it is a list";
            return Err(Problem::unprocessable(detail).expected("a JSON object"));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| fault(&error))
    }
}

/// A form or a plain text can be sent by a foreign page without asking; JSON cannot.
fn json_announced(headers: &HeaderMap) -> Result<(), Refusal> {
    let sent = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "the body must be JSON";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Unsupported media type", detail)
        .found(&sent)
        .expected("`Content-Type: application/json`"))
}

fn too_large(bytes_max: usize) -> Refusal {
    let detail = "the body is too large";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
        .expected(format!("at most {bytes_max} bytes"))
}

/// serde's messages name what was found and what was expected, with line and column.
fn fault(error: &serde_json::Error) -> Refusal {
    match error.classify() {
        Category::Data => Problem::unprocessable(format!("the body does not fit: {error}")),
        Category::Syntax | Category::Eof | Category::Io => Problem::malformed(format!("the body is not JSON: {error}")),
    }
}
