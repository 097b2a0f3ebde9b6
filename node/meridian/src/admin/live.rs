//! Where other parts' types become the API's: what they know now.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use region_config::{JurisdictionId, NodeId, RealmId, Site};
use rules::{
    health::Fleet,
    purge::{Mode, PurgeId, PurgeKey},
    residency,
};

use super::{
    Context,
    model::{
        Backlog, Purge, PurgeMode, PurgeNode, PurgeNodeState, PurgeScope, PurgeState, PurgeStored, PurgeWait,
        RealmLedger, WitnessHeard,
    },
    problem::{Problem, Refusal},
    report::Reporter,
};
use crate::{
    ledger::{Acknowledged, Ledgers, NodeReceipt, PurgeFault, Realm, Receipt, Standing, Wait, Witness},
    peers::{Answer, Kind, PeerIdentity, Stream, read_frame, write_frame},
};

/// A question for counters says nothing yet; a newer node may say something.
const QUESTION_BYTES_MAX: usize = 1024;
/// How long answering another node's question may take.
const REPORT_MAX: Duration = Duration::from_secs(2);

impl Answer for Reporter {
    fn answer(self: Arc<Self>, peer: PeerIdentity, (mut send, mut recv): Stream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let exchange = async {
                read_frame(&mut recv, QUESTION_BYTES_MAX).await?;
                write_frame(&mut send, &self.report(&peer.jurisdiction)).await
            };
            // who asks and goes away again concerns only itself
            if let Ok(Ok(())) = tokio::time::timeout(REPORT_MAX, exchange).await {
                let _ = send.finish();
            }
        })
    }
}

/// Asks another node for its counters; none if it does not answer in time.
pub(super) async fn counters(context: &Context, node: &NodeId, deadline: Duration) -> Option<Bytes> {
    context.mesh.as_ref()?.call(node, Kind::Counters, b"", deadline).await.ok()
}

/// How purges stand here, for each realm; for those only that `peer` is a member of, if one is named.
pub(super) fn ledgers(ledgers: &Ledgers, peer: Option<&JurisdictionId>) -> Vec<RealmLedger> {
    let admitted = ledgers.realms().filter(|realm| peer.is_none_or(|peer| residency::member(realm.name(), peer)));
    admitted.map(|realm| standing(realm.name(), realm.standing())).collect()
}

fn standing(realm: &RealmId, standing: Standing) -> RealmLedger {
    let heard = |witness: Witness| WitnessHeard {
        node: witness.node.to_string(),
        age_ms: witness.age_ms,
        unread: witness.unread,
    };
    let waiting = standing.backlog.into_iter().filter(|(_, purges)| *purges > 0);
    RealmLedger {
        realm: realm.to_string(),
        lease_age_ms: standing.lease_age_ms,
        witnesses: standing.witnesses.into_iter().map(heard).collect(),
        waiting: standing.waiting as u64,
        waiting_oldest_ms: standing.waiting_oldest_ms,
        backlog: waiting.map(|(node, purges)| Backlog { node: node.to_string(), purges: purges as u64 }).collect(),
        stopped: standing.stopped,
    }
}

/// The health of the fleet now.
pub(super) fn fleet(context: &Context) -> Arc<Fleet> {
    context.health.fleet()
}

/// The nodes that last said that they run another config than this one.
pub(super) fn differing(context: &Context) -> Vec<String> {
    let config = context.config.load();
    let own = config.fingerprint.first_chunk().map_or(0, |head| u64::from_be_bytes(*head));
    let nodes = config.regions.iter().flat_map(|region| &region.nodes).map(|node| &node.name);
    let differs = |node: &&NodeId| context.health.config_of(node).is_some_and(|other| other != own);
    nodes.filter(|node| **node != config.node.name).filter(differs).map(ToString::to_string).collect()
}

/// The ledger of a site's realm.
///
/// # Errors
/// 421 with the realm's nodes if this node is no member.
pub(super) fn realm(context: &Context, site: &Site) -> Result<Arc<Realm>, Refusal> {
    realm_of(context, &site.realm(), &format!("site `{}` is", site.name))
}

/// A realm by its name.
///
/// # Errors
/// 421 with the realm's nodes if this node is no member.
pub(super) fn realm_named(context: &Context, realm: &RealmId) -> Result<Arc<Realm>, Refusal> {
    realm_of(context, realm, "the sites are")
}

fn realm_of(context: &Context, realm: &RealmId, what: &str) -> Result<Arc<Realm>, Refusal> {
    if let Some(realm) = context.ledgers.realm(realm).filter(|_| residency::member(realm, &context.here)) {
        return Ok(Arc::clone(realm));
    }
    let config = context.config.load();
    let inside = config.regions.iter().filter(|region| residency::member(realm, &region.jurisdiction));
    let nodes = inside.flat_map(|region| &region.nodes).map(|node| node.name.to_string()).collect();
    let here = &context.here;
    let detail = format!("{what} pinned to `{realm}`, and this node is certified for `{here}`");
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "foreign-realm", "The site is pinned elsewhere", detail)
        .expected("one of the nodes named here")
        .nodes(nodes))
}

/// What the ledger is asked to wait for.
pub(super) fn wait(wait: PurgeWait) -> Wait {
    match wait {
        PurgeWait::Local => Wait::Local,
        PurgeWait::Quorum => Wait::Quorum,
        PurgeWait::Region => Wait::Region,
        PurgeWait::All => Wait::All,
    }
}

pub(super) fn refusal(fault: &PurgeFault) -> Refusal {
    let detail = fault.to_string();
    match fault {
        PurgeFault::UnknownSite { .. } => Problem::not_found(detail),
        PurgeFault::Event(_) => Problem::unprocessable(detail),
        PurgeFault::Conflict { .. } => {
            Problem::new(StatusCode::CONFLICT, "idempotency-conflict", "The idempotency key is taken", detail)
        }
        PurgeFault::Stopped(_) | PurgeFault::Chance => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ledger-stopped", "The ledger cannot write", detail)
                .expected("the same order, with its idempotency key, at another node")
        }
        PurgeFault::Busy => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ledger-busy", "Too many purges", detail).retry_after(1)
        }
    }
}

/// The last purges that this node took, newest first, of those that `known` knows.
pub(super) fn recent(
    context: &Context,
    (limit, looked_at): (usize, usize),
    known: impl Fn(&Purge) -> bool,
) -> Vec<Purge> {
    let node = context.config.load().node.name.to_string();
    let realms = context.ledgers.realms();
    let all = realms.flat_map(|realm| realm.recent(looked_at).into_iter().map(move |one| (one, realm)));
    let mut purges: Vec<_> = all.map(|(receipt, realm)| shown(receipt, realm, &node)).filter(known).collect();
    purges.sort_by_key(|purge| std::cmp::Reverse(purge.taken_unix_ms));
    purges.truncate(limit);
    purges
}

/// A purge by its id, of the realms that `peer` (or everybody, if none is named) is a member of.
pub(super) fn receipt(context: &Context, id: &PurgeId, peer: Option<&JurisdictionId>) -> Option<Purge> {
    let node = context.config.load().node.name.to_string();
    let admitted = |realm: &&Arc<Realm>| peer.is_none_or(|peer| residency::member(realm.name(), peer));
    context.ledgers.realms().filter(admitted).find_map(|realm| Some(shown(realm.receipt(id)?, realm, &node)))
}

pub(super) fn shown(receipt: Receipt, realm: &Realm, node: &str) -> Purge {
    let stored = |(node, after_ms): (NodeId, u32)| PurgeStored { node: node.to_string(), after_ms };
    Purge {
        id: receipt.id.to_string(),
        site: receipt.site.map(|site| site.to_string()),
        realm: realm.name().to_string(),
        taken_by: node.to_owned(),
        scope: receipt.keys.into_iter().map(scope).collect(),
        mode: match receipt.mode {
            Mode::Hard => PurgeMode::Hard,
            Mode::Soft => PurgeMode::Soft,
        },
        taken_unix_ms: receipt.taken_unix_ms,
        state: match receipt.state {
            Acknowledged::Accepted => PurgeState::Accepted,
            Acknowledged::Quorum => PurgeState::Quorum,
            Acknowledged::Region => PurgeState::Region,
            Acknowledged::All => PurgeState::All,
        },
        stored: receipt.stored.into_iter().map(stored).collect(),
        nodes: receipt
            .nodes
            .into_iter()
            .map(|(node, region, state, after_ms)| PurgeNode {
                node: node.to_string(),
                region: region.to_string(),
                position: match state {
                    NodeReceipt::Applied { position } => Some(position.to_string()),
                    NodeReceipt::Fenced | NodeReceipt::Pending => None,
                },
                state: match state {
                    NodeReceipt::Applied { .. } => PurgeNodeState::Applied,
                    NodeReceipt::Fenced => PurgeNodeState::Fenced,
                    NodeReceipt::Pending => PurgeNodeState::Pending,
                },
                after_ms,
            })
            .collect(),
        token: None,
    }
}

pub(super) fn scope(key: PurgeKey) -> PurgeScope {
    match key {
        PurgeKey::Url { host, target } => PurgeScope::Url { host, target },
        PurgeKey::Tag(tag) => PurgeScope::Tag { tag },
        PurgeKey::Prefix { host, path } => PurgeScope::Prefix { host, path },
        PurgeKey::Host(host) => PurgeScope::Host { host },
        PurgeKey::Site => PurgeScope::Everything,
        PurgeKey::Realm => PurgeScope::Realm,
    }
}
