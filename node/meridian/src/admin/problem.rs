//! Error answers: `application/problem+json` (RFC 9457).

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest piece of input that is repeated in an answer, in characters.
const FOUND_CHARS_MAX: usize = 120;
/// Names that one sentence lists, at most.
const NAMED_MAX: usize = 8;

/// Why a request was not done, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem: `urn:meridian:problem:<word>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong with this request.
    pub detail: String,
    /// What was found, cut to 120 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What was expected instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Nodes that can do it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// In how many seconds to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// A problem as it is passed up: by pointer, since it is large and rare.
pub(super) type Refusal = Box<Problem>;

impl Problem {
    /// A problem: `word` is its kind (kebab-case), `title` the kind in words, `detail` this case.
    pub(super) fn new(status: StatusCode, word: &str, title: &str, detail: impl Into<String>) -> Refusal {
        Box::new(Self {
            kind: format!("urn:meridian:problem:{word}"),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            found: None,
            expected: None,
            nodes: Vec::new(),
            retry_after_s: None,
        })
    }

    /// The request can be read, but what it says makes no sense.
    pub(super) fn unprocessable(detail: impl Into<String>) -> Refusal {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", "The request does not make sense", detail)
    }

    /// The request cannot be read.
    pub(super) fn malformed(detail: impl Into<String>) -> Refusal {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request cannot be read", detail)
    }

    /// There is nothing under this name.
    pub(super) fn not_found(detail: impl Into<String>) -> Refusal {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// The source orders more than it may.
    pub(super) fn too_many(detail: impl Into<String>, retry_after_s: u64) -> Refusal {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many orders", detail).retry_after(retry_after_s)
    }

    pub(super) fn found(mut self: Box<Self>, found: &str) -> Refusal {
        let cut: String = found.chars().take(FOUND_CHARS_MAX).collect();
        self.found = Some(if cut.len() < found.len() { cut + "\u{2026}" } else { cut });
        self
    }

    pub(super) fn expected(mut self: Box<Self>, expected: impl Into<String>) -> Refusal {
        self.expected = Some(expected.into());
        self
    }

    pub(super) fn nodes(mut self: Box<Self>, nodes: Vec<String>) -> Refusal {
        self.nodes = nodes;
        self
    }

    pub(super) fn retry_after(mut self: Box<Self>, seconds: u64) -> Refusal {
        self.retry_after_s = Some(seconds);
        self
    }
}

/// What is expected of a name that is not known: one of these.
pub fn one_of<T: AsRef<str>>(known: &[T]) -> String {
    if known.is_empty() { "nothing, as there is none".into() } else { format!("one of {}", listed(known)) }
}

/// Names in a sentence; of many, the first.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let more = if names.len() > NAMED_MAX { ", ..." } else { "" };
    let named: Vec<&str> = names.iter().take(NAMED_MAX).map(AsRef::as_ref).collect();
    format!("{}{more}", named.join(", "))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = self.retry_after_s;
        let mut response = (status, Json(&*self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"meridian\""));
        }
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
