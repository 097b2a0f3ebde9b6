//! What goes past the cache: other methods, private answers, parts of what is not here.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Limited};
use rules::{
    caching::{
        self, Reason,
        fields::{self, Reach},
        ranges::ContentRange,
    },
    purge::{KEYS_MAX, Mode, PurgeKey},
};

use super::{
    answer::{self, Filled, Reply, Spans},
    body::{Body, BodyError, Source},
    coded::Codes,
    forward, keyed,
    sites::Served,
    spine::{Asked, Caller, is_head},
    tokens::PURGE,
};
use crate::{
    fill::{self, Job, Private, Wanted, Way, flight, upstream::UpstreamBody},
    ledger::{Purge, Wait},
    observe::Outcome,
    origin::RequestBody,
    snapshot::Shared,
};

/// How long a write waits for its invalidation to be in the ledger; it is in effect here at once.
const INVALIDATION_PATIENCE: Duration = Duration::from_secs(2);

/// Sends a request to the origin as it is, with its body, and the answer back.
pub async fn through<B>(
    shared: &Arc<Shared>,
    caller: Caller,
    served: &Arc<Served>,
    asked: &Asked<'_>,
    parts: &Parts,
    body: B,
    reason: Reason,
) -> Reply
where
    B: HttpBody<Data = Bytes> + Send + Sync + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    if fields::reach(&parts.method, &parts.headers) == Reach::Here {
        return answer::options(shared);
    }
    let limit = usize::try_from(shared.config.load().node.limits.body_bytes).unwrap_or(usize::MAX);
    if body.size_hint().lower() > limit as u64 {
        return answer::refuse(shared, StatusCode::PAYLOAD_TOO_LARGE, Reason::BodyTooLarge);
    }
    let body = Whole { body, framed: parts.version < Version::HTTP_2 };
    let body = Limited::new(body, limit).boxed();
    let mut reply = to_origin(shared, caller, served, asked, parts, body, reason).await;
    // what clients are given under this name is this node's word
    reply.response.headers_mut().remove(&PURGE);
    if !caching::is_safe(&parts.method) {
        void(shared, served, asked, &parts.method, &mut reply).await;
    }
    reply
}

/// After an unsafe request: what is stored of what it changed is void on every node, by RFC 9111 section 4.4, RFC 9875
/// section 3, and where the site says so, by what the origin orders. Then the client gets what it reads its own write with.
async fn void(shared: &Shared, served: &Arc<Served>, asked: &Asked<'_>, method: &Method, reply: &mut Reply) {
    let succeeded = caching::invalidates(method, reply.response.status());
    let answered = reply.response.headers();
    let mut hard = keyed::voided(shared, served, asked, answered, succeeded);
    if !succeeded || !served.site.purge_by_response {
        invalidate(served, &hard, Mode::Hard).await;
        return;
    }
    let (ordered, soft, left_out) = keyed::ordered(shared, served, asked.host, answered);
    if left_out > 0 {
        served.realm.figures().note_left_out(left_out);
        tracing::debug!(site = %served.site.name, left_out, "an origin ordered purges of what cannot be purged");
    }
    hard.extend(ordered);
    let mut tokens = invalidate(served, &hard, Mode::Hard).await;
    tokens.extend(invalidate(served, &soft, Mode::Soft).await);
    if let Ok(tokens) = HeaderValue::try_from(tokens.join("."))
        && !tokens.is_empty()
    {
        reply.response.headers_mut().insert(PURGE.clone(), tokens);
    }
}

/// A request body that is whole when it says that it ended. Over HTTP/2 a stream that is reset without an error looks
/// like one that ended; HTTP/1.1 tells the two apart itself.
struct Whole<B> {
    body: B,
    framed: bool,
}

impl<B> HttpBody for Whole<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(context));
        match polled {
            None if !self.framed && !self.body.is_end_stream() => {
                Poll::Ready(Some(Err("the client broke off its body".into())))
            }
            polled => Poll::Ready(polled.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Asks the origin for a part of something that is not stored; the part is not stored either.
pub async fn part(
    shared: &Arc<Shared>,
    caller: Caller,
    served: &Arc<Served>,
    asked: &Asked<'_>,
    parts: &Parts,
) -> Reply {
    let body = Empty::new().map_err(|never| match never {}).boxed();
    to_origin(shared, caller, served, asked, parts, body, Reason::Partial).await
}

async fn to_origin(
    shared: &Arc<Shared>,
    caller: Caller,
    served: &Arc<Served>,
    asked: &Asked<'_>,
    parts: &Parts,
    body: RequestBody,
    reason: Reason,
) -> Reply {
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    let target = match &asked.target.query {
        Some(query) => format!("{}?{query}", asked.target.path).parse(),
        None => asked.target.path.parse(),
    };
    let Ok(target) = target else { return answer::refuse(shared, StatusCode::BAD_REQUEST, Reason::Target) };
    *request.uri_mut() = target;
    *request.headers_mut() = forward::headers(shared, caller, &parts.headers, asked.authority, asked.keyed);
    if let Reach::Further(hops) = fields::reach(&parts.method, &parts.headers) {
        request.headers_mut().insert(header::MAX_FORWARDS, hops.into());
    }
    if let Some(interim) = asked.interim {
        interim.teller().follow(&mut request);
    }
    served.counters.note_origin_fetch();
    match shared.origins.send(&served.site.name, request, &served.permit).await {
        Ok(answered) => {
            let mut response = answered.response.map(UpstreamBody::Origin);
            fields::strip_response(response.headers_mut());
            finish(shared, served, parts, response, reason)
        }
        Err(error) => answer::failed(shared, reason, &flight::Failure::from(&error)),
    }
}

/// Sends a response on to the one client it is for.
fn finish(
    shared: &Shared,
    served: &Arc<Served>,
    parts: &Parts,
    response: Response<UpstreamBody>,
    reason: Reason,
) -> Reply {
    let (mut head, body) = response.into_parts();
    answer::append_status(shared, &mut head.headers, answer::forwarded(reason, head.status));
    let body = if is_head(&parts.method) {
        Body::empty()
    } else {
        Body::from(Source::Upstream(Box::new(body))).counted(Arc::clone(&served.counters))
    };
    let response = Response::from_parts(head, body);
    Reply { response, outcome: Outcome::Pass, reason: Some(reason) }
}

/// Gives a private answer to the client it is for. Its conditions were not sent upstream, so they are applied here. None
/// if the origin was asked for another part than the client's, and that does not hold the client's. `why` is why it was
/// asked.
pub fn private(shared: &Shared, served: &Arc<Served>, parts: &Parts, private: Private, why: Reason) -> Option<Reply> {
    let (mut head, body) = private.response.into_parts();
    let status = answer::forwarded(why, head.status).because(private.reason);
    let length = body.size_hint().exact();
    let body = Body::from(Source::Upstream(Box::new(body)));
    let response = match (head.status, ContentRange::of(&head.headers)) {
        (StatusCode::PARTIAL_CONTENT, Some(range)) => {
            head.headers.remove(header::CONTENT_RANGE);
            let plan = answer::plan(parts, StatusCode::OK, head.headers, Some(range.length), false);
            let body = match plan.spans {
                None => Body::empty(),
                Some(Spans::Part((first, last))) if range.first <= first && last <= range.last => {
                    body.cut(first - range.first, last - range.first).counted(Arc::clone(&served.counters))
                }
                Some(_) => return None,
            };
            answer::with(plan.status, plan.headers, if is_head(&parts.method) { Body::empty() } else { body })
        }
        (StatusCode::PARTIAL_CONTENT, None) => return None,
        _ => answer::shape(served, parts, head.status, head.headers, body, length),
    };
    let mut reply = Reply { response, outcome: Outcome::Pass, reason: Some(private.reason) };
    answer::append_status(shared, reply.response.headers_mut(), status);
    Some(reply)
}

/// Fetches for one client alone: its URL's answers were private a moment ago. If they are not any more, this one is
/// stored and shared again.
pub async fn alone(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    parts: &Parts,
    wanted: Arc<Wanted>,
    reason: Reason,
) -> Reply {
    let key = wanted.primary;
    let job = Job { key, wanted, stale: None, conditional: false, way: Way::Origin, part: None };
    let seat = fill::alone(shared, job);
    match seat.flight.outcome().await {
        flight::Outcome::Opened(head) => match seat.flight.reader(head.length) {
            Some(reader) => {
                let (head, codes) = (&*head, Codes::Off);
                let filled = Filled { head, reader, reason, collapsed: false, codes };
                answer::filled(shared, served, parts, filled)
            }
            None => answer::refuse(shared, StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded),
        },
        flight::Outcome::Failed(failure) => answer::failed(shared, reason, &failure),
        flight::Outcome::Private
        | flight::Outcome::Renewed { .. }
        | flight::Outcome::Sliced { .. }
        | flight::Outcome::Waiting => {
            let answered = match seat.private {
                Some(receiver) => receiver.await.ok(),
                None => None,
            };
            let reply = answered.and_then(|answered| private(shared, served, parts, answered, reason));
            reply.unwrap_or_else(|| answer::refuse(shared, StatusCode::BAD_GATEWAY, Reason::OriginError))
        }
    }
}

/// Voids what a write changed, through the ledger. Returns the tokens of the purges.
async fn invalidate(served: &Arc<Served>, keys: &[PurgeKey], mode: Mode) -> Vec<String> {
    let site = &served.site;
    let mut tokens = Vec::new();
    for keys in keys.chunks(KEYS_MAX) {
        let purge = Purge { site: Some(site.name.clone()), keys: keys.to_vec(), mode, idempotency_key: None };
        match served.realm.submit(purge, Wait::Local, INVALIDATION_PATIENCE).await {
            Ok(receipt) => tokens.extend(served.realm.token(receipt.id)),
            Err(error) => {
                tracing::warn!(site = %site.name, %error, "an unsafe request's invalidation was not spread");
            }
        }
    }
    tokens
}
