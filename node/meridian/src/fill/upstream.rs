//! Asking upstream: the region's owner of the key first, then the origin.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Method, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use region_config::NodeId;
use rules::{
    caching::{Reason, conditional, fields},
    purge::{
        Position,
        fill::{Made, confirmed, stamp},
    },
};

use super::{Job, Wanted, Way, flight::Failure, owner, owner_of, slices::range};
use crate::{
    clock,
    edge::body::BodyError,
    origin::{OriginBody, RequestBody},
    snapshot::Shared,
};

/// A response from upstream, and what is known of its fetch.
#[derive(Debug)]
pub struct Fetched {
    /// The response, without hop-by-hop fields.
    pub response: Response<UpstreamBody>,
    /// The position that the fetch began at, in this node's order.
    pub stamp: Position,
    /// When the origin was asked, by this node or for it, by the clock of leases; 0 if another node had it.
    pub confirmed_ms: u64,
    /// Whether another node serves it though it is stale.
    pub stale: bool,
    /// When the request was sent, in ms since the Unix epoch.
    pub request_unix_ms: u64,
    /// When the response's head came.
    pub response_unix_ms: u64,
    /// The node that it came through, if not straight from the origin.
    pub through: Option<NodeId>,
}

/// A body on its way from upstream.
pub enum UpstreamBody {
    /// From the origin.
    Origin(OriginBody),
    /// From the region's owner of the key.
    Peer {
        /// Its pieces.
        pieces: BoxStream<'static, Result<Bytes, BodyError>>,
        /// Its length, if it was announced.
        length: Option<u64>,
    },
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Origin(_) => "UpstreamBody::Origin",
            Self::Peer { .. } => "UpstreamBody::Peer",
        })
    }
}

impl HttpBody for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Origin(body) => Pin::new(body).poll_frame(context).map_err(BodyError::from),
            Self::Peer { pieces, .. } => pieces.as_mut().poll_next(context).map_ok(Frame::data),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Origin(body) => body.size_hint(),
            Self::Peer { length, .. } => length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// Whether the stored validators go with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// Where the job allows it.
    Sent,
    /// They are left out: the whole is wanted.
    Left,
}

/// Fetches what a job wants. The position is taken before the request leaves: whatever is purged after that moment is
/// newer than this response.
///
/// # Errors
/// [`Failure`] if neither owner nor origin gave a response.
pub async fn fetch(shared: &Shared, job: &Job, conditions: Conditions) -> Result<Fetched, Failure> {
    let mut headers = job.wanted.headers.clone();
    if let (Conditions::Sent, true, Some((_, stale))) = (conditions, job.conditional, &job.stale) {
        conditional::validators(&stale.headers, &mut headers);
    }
    if let Some((first, last)) = job.part {
        headers.insert(header::RANGE, range(first, last));
    }
    send(shared, &job.wanted, headers, job.way).await
}

/// Sends a request with these fields: to the owner of its key, unless it is to go past it, else to the origin.
///
/// # Errors
/// [`Failure`] if neither gave a response.
pub async fn send(shared: &Shared, wanted: &Wanted, headers: HeaderMap, way: Way) -> Result<Fetched, Failure> {
    if way != Way::Origin
        && !wanted.from_peer
        && let Some(owner) = owner_of(shared, wanted)
    {
        match owner::ask(shared, wanted, &owner, &headers, way).await {
            Ok(fetched) => return Ok(fetched),
            // the origin is asked instead: a peer that vanishes costs a round trip, not an answer
            Err(error) => tracing::debug!(peer = %owner, %error, "asking the origin instead of the owner"),
        }
    }
    from_origin(shared, wanted, headers).await
}

async fn from_origin(shared: &Shared, wanted: &Wanted, headers: HeaderMap) -> Result<Fetched, Failure> {
    let served = &wanted.served;
    let (at_start, began_ms) = (served.realm.position(), clock::monotonic_ms());
    let mut request = request(&wanted.target(), headers)?;
    if let Some(teller) = &wanted.interim {
        teller.follow(&mut request);
    }
    let answer = shared.origins.send(&served.site.name, request, &served.permit).await;
    let answer = answer.map_err(|error| Failure::from(&error))?;
    let (mut parts, body) = answer.response.into_parts();
    fields::strip_response(&mut parts.headers);
    date(&mut parts.headers, answer.response_unix_ms);
    Ok(Fetched {
        response: Response::from_parts(parts, UpstreamBody::Origin(body)),
        stamp: stamp(Made::AtOrigin, at_start, at_start),
        confirmed_ms: confirmed(Made::AtOrigin, began_ms),
        stale: false,
        request_unix_ms: answer.request_unix_ms,
        response_unix_ms: answer.response_unix_ms,
        through: None,
    })
}

/// A response without `Date` is one of the moment that it came (RFC 9110 section 6.6.1), also when it is used later.
fn date(headers: &mut HeaderMap, response_unix_ms: u64) {
    if !headers.contains_key(header::DATE)
        && let Ok(came) = http::HeaderValue::try_from(clock::http_date_of(response_unix_ms))
    {
        headers.insert(header::DATE, came);
    }
}

fn request(target: &str, headers: HeaderMap) -> Result<Request<RequestBody>, Failure> {
    let malformed = |_| Failure { status: http::StatusCode::BAD_REQUEST, reason: Reason::Target };
    let body = Empty::new().map_err(|never| match never {}).boxed();
    let mut request = Request::builder().method(Method::GET).uri(target).body(body).map_err(malformed)?;
    *request.headers_mut() = headers;
    Ok(request)
}
