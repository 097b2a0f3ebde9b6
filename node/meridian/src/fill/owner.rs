//! Between the nodes of a region: the owner of a key fills for the others, so that the origin is asked once.
//!
//! The owner says what it had heard of the ledger *before* it looked; the asker translates that into its own order, and
//! so knows how old, in its own terms, what it got may be.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use region_config::NodeId;
use rules::{
    caching::fields,
    purge::fill::{Made, confirmed, stamp},
    residency,
};
use wire::fetch::{Answered, Ask, FetchFault, HEAD_BYTES_MAX};

use super::{
    Wanted, Way, flight,
    keeper::CHUNK_BYTES,
    upstream::{Fetched, UpstreamBody},
};
use crate::{
    clock,
    edge::{
        body::{Body, BodyError},
        spine::{self, Caller},
    },
    observe::Outcome,
    peers::{Answer, Kind, PeerError, PeerIdentity, Stream, read_frame, write_frame},
    snapshot::Shared,
};

/// Longest wait for the head of an owner's answer. The owner may be waiting for the origin.
const HEAD_WAIT: Duration = Duration::from_secs(20);

/// Longest silence between two pieces of an owner's body.
const PIECE_WAIT: Duration = Duration::from_secs(20);

/// Why the owner gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The mesh.
    #[error("asking the owner: {0}")]
    Peer(#[from] PeerError),
    /// The message.
    #[error("asking the owner: {0}")]
    Message(#[from] FetchFault),
    /// Its certificate is not for the site's realm.
    #[error("the owner is not certified for the site's realm")]
    Outside,
    /// No answer in time.
    #[error("the owner did not answer in {}s", HEAD_WAIT.as_secs())]
    Timeout,
    /// It answered with what it had.
    #[error("the owner answered from its store, and that was not asked for")]
    NotAfterArrival,
    /// It could not fetch it either.
    #[error("the owner answered {0}")]
    Failed(StatusCode),
}

/// Asks the owner for what is wanted.
///
/// # Errors
/// [`OwnerError`]; the caller then asks the origin.
pub async fn ask(
    shared: &Shared,
    wanted: &Wanted,
    owner: &NodeId,
    headers: &HeaderMap,
    way: Way,
) -> Result<Fetched, OwnerError> {
    let Some(mesh) = &shared.mesh else { return Err(OwnerError::Outside) };
    let served = &wanted.served;
    let (at_start, began_ms) = (served.realm.position(), clock::monotonic_ms());
    let request_unix_ms = clock::unix_ms();
    let message = Ask {
        https: wanted.https,
        after_arrival: way == Way::AfterArrival,
        have: served.realm.have(&served.site.name).into(),
        left_ms: u32::try_from(HEAD_WAIT.as_millis()).unwrap_or(u32::MAX),
        site: served.site.name.to_string(),
        authority: wanted.authority.to_string(),
        target: wanted.target(),
        fields: headers.clone(),
    }
    .encode()?;
    let (mut send, mut recv) = mesh.open(owner, Kind::Fetch).await?;
    // asked after the connection stands: its certificate, not the config, says where the peer is
    let there = mesh.jurisdiction_of(owner).ok_or(OwnerError::Outside)?;
    if !residency::may_send(&served.permit, &there) {
        return Err(OwnerError::Outside);
    }
    write_frame(&mut send, &message).await?;
    let head = tokio::time::timeout(HEAD_WAIT, read_frame(&mut recv, HEAD_BYTES_MAX)).await;
    let answered = Answered::decode(head.map_err(|_| OwnerError::Timeout)??)?;
    if matches!(answered.status.as_u16(), 502..=504 | 421 | 400) {
        return Err(OwnerError::Failed(answered.status));
    }
    let made = if answered.after_arrival { Made::AtOrigin } else { Made::Elsewhere };
    if way == Way::AfterArrival && made != Made::AtOrigin {
        return Err(OwnerError::NotAfterArrival);
    }
    let covered = served.realm.covered(owner, &served.site.name, &answered.have, at_start);
    let length = length_of(&answered.fields);
    let mut response = Response::new(UpstreamBody::Peer { pieces: pieces(recv).boxed(), length });
    *response.status_mut() = answered.status;
    *response.headers_mut() = answered.fields;
    Ok(Fetched {
        response,
        stamp: stamp(made, at_start, covered),
        confirmed_ms: confirmed(made, began_ms),
        stale: answered.stale,
        request_unix_ms,
        response_unix_ms: clock::unix_ms(),
        through: Some(owner.clone()),
    })
}

fn length_of(fields: &HeaderMap) -> Option<u64> {
    fields.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The pieces of an owner's body; it is whole only if an empty frame ends it.
fn pieces(recv: quinn::RecvStream) -> impl futures_util::Stream<Item = Result<Bytes, BodyError>> + Send {
    stream::unfold(Some(recv), |recv| async move {
        let mut recv = recv?;
        match tokio::time::timeout(PIECE_WAIT, read_frame(&mut recv, CHUNK_BYTES * 2)).await {
            Ok(Ok(piece)) if piece.is_empty() => None,
            Ok(Ok(piece)) => Some((Ok(piece), Some(recv))),
            Ok(Err(error)) => Some((Err(BodyError::from(error)), None)),
            Err(_) => Some((Err(BodyError::from("the owner fell silent")), None)),
        }
    })
}

/// Answers the asks of this region's other nodes.
pub struct Owner {
    shared: Arc<Shared>,
}

impl Owner {
    /// One that answers from this node's cache and origins.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared })
    }

    async fn reply(&self, peer: &PeerIdentity, stream: Stream) -> Result<(), OwnerError> {
        let (mut send, mut recv) = stream;
        let ask = Ask::decode(read_frame(&mut recv, HEAD_BYTES_MAX).await?)?;
        let (have, after, response) = self.respond(peer, ask).await;
        let (parts, mut body) = response.into_parts();
        let outcome = parts.extensions.get::<Outcome>().copied();
        let fetched = matches!(outcome, Some(Outcome::Miss | Outcome::Revalidated | Outcome::Pass));
        let head = Answered {
            after_arrival: after && fetched,
            stale: outcome == Some(Outcome::Stale),
            status: parts.status,
            have: have.into(),
            fields: parts.headers,
        };
        write_frame(&mut send, &head.encode()?).await?;
        while let Some(frame) = body.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => {
                    for piece in data.chunks(CHUNK_BYTES) {
                        write_frame(&mut send, piece).await?;
                    }
                }
                Ok(Err(_trailers)) => {}
                Err(_) => {
                    // without the empty frame nobody takes what came for the whole
                    send.reset(1u32.into()).ok();
                    return Ok(());
                }
            }
        }
        write_frame(&mut send, &[]).await?;
        send.finish().ok();
        Ok(())
    }

    /// What the ledger knew before the look-up, whether only what is fetched from now on may be answered, and the answer.
    async fn respond(&self, peer: &PeerIdentity, ask: Ask) -> (Vec<u8>, bool, Response<Body>) {
        let refused = |status: StatusCode| {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            (Vec::new(), false, response)
        };
        let config = self.shared.config.load_full();
        let Some(site) = config.sites.iter().find(|site| site.name.as_str() == ask.site) else {
            return refused(StatusCode::MISDIRECTED_REQUEST);
        };
        let Ok(permit) = residency::permit(site, &self.shared.here.jurisdiction) else {
            return refused(StatusCode::MISDIRECTED_REQUEST);
        };
        let Some(realm) = self.shared.ledgers.realm(permit.realm()) else {
            return refused(StatusCode::MISDIRECTED_REQUEST);
        };
        if !residency::may_send(&permit, &peer.jurisdiction) {
            return refused(StatusCode::MISDIRECTED_REQUEST);
        }
        let have = realm.have(&site.name);
        let Some(request) = request(&ask) else { return refused(StatusCode::BAD_REQUEST) };
        // who knows of a purge that has not come here yet would only ask again
        let after = ask.after_arrival || realm.behind(&site.name, &ask.have);
        let caller = Caller::Peer { https: ask.https, after: after.then(flight::newest) };
        (have, after, spine::answer(&self.shared, caller, None, request).await)
    }
}

fn request(ask: &Ask) -> Option<Request<Empty<Bytes>>> {
    let uri: Uri = ask.target.parse().ok()?;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    *request.headers_mut() = ask.fields.clone();
    request.headers_mut().insert(header::HOST, ask.authority.parse().ok()?);
    fields::strip_request(request.headers_mut());
    Some(request)
}

impl Answer for Owner {
    fn answer(self: Arc<Self>, peer: PeerIdentity, stream: Stream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = self.reply(&peer, stream).await {
                tracing::debug!(peer = %peer.node, %error, "answering a peer's fetch");
            }
        })
    }
}
