//! Purges that another node took: it is asked over the mesh. Whoever asks and whoever answers are both members of the
//! purge's realm, by their certificates.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use rules::{
    purge::{PurgeId, members},
    residency,
};
use serde::{Deserialize, Serialize};

use super::proof;
use crate::{
    admin::{
        Context, live,
        model::{Purge, SignedPurge},
    },
    clock,
    peers::{Answer, Kind, PeerIdentity, Stream, read_frame, write_frame},
};

/// How long another node has to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Longest question, in bytes.
const QUESTION_BYTES_MAX: usize = 1024;

/// What one node asks of another.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    /// The id of a purge.
    purge: String,
    /// Whether it is to be signed.
    #[serde(default)]
    signed: bool,
}

/// What is known of a purge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) purge: Purge,
    /// Signed, if that was asked for and the node has something to sign with.
    #[serde(default)]
    pub(super) signed: Option<SignedPurge>,
}

/// Answers other nodes that ask for purges that this one took.
pub struct Teller {
    context: Arc<Context>,
}

impl Teller {
    /// Tells of the purges of this node.
    #[must_use]
    pub fn new(context: &Arc<Context>) -> Arc<Self> {
        Arc::new(Self { context: Arc::clone(context) })
    }
}

impl Answer for Teller {
    fn answer(self: Arc<Self>, peer: PeerIdentity, (mut send, mut recv): Stream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let exchange = async {
                let question = read_frame(&mut recv, QUESTION_BYTES_MAX).await?;
                let question: Option<Question> = serde_json::from_slice(&question).ok();
                let told = question.and_then(|question| {
                    let purge =
                        live::receipt(&self.context, &PurgeId::parse(&question.purge)?, Some(&peer.jurisdiction))?;
                    Some(told(&self.context, purge, question.signed))
                });
                // plain values: writing them cannot fail
                write_frame(&mut send, &serde_json::to_vec(&told).unwrap_or_default()).await
            };
            // who asks and goes away again concerns only itself
            if let Ok(Ok(())) = tokio::time::timeout(ANSWER_MAX, exchange).await {
                let _ = send.finish();
            }
        })
    }
}

/// A purge by its id, from whichever node took it.
pub(super) async fn find(context: &Context, id: &PurgeId, signed: bool) -> Option<Told> {
    if let Some(purge) = live::receipt(context, id, None) {
        return Some(told(context, purge, signed));
    }
    let mesh = context.mesh.as_ref()?;
    let question = serde_json::to_vec(&Question { purge: id.to_string(), signed }).unwrap_or_default();
    let config = context.config.load_full();
    let mut nodes: Vec<_> = context
        .ledgers
        .realms()
        .flat_map(|realm| members(&config, realm.name()).into_iter().map(|(node, _)| node))
        .filter(|node| *node != config.node.name && context.health.node_up(node))
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    let ask = |node: region_config::NodeId| {
        let question = &question;
        async move {
            let answer = mesh.call(&node, Kind::Purges, question, ANSWER_MAX).await.ok()?;
            let told: Option<Told> = serde_json::from_slice(&answer).ok()?;
            // what a node says of a realm that it is no member of counts for nothing
            let jurisdiction = mesh.jurisdiction_of(&node)?;
            told.filter(|told| member(&told.purge.realm, &jurisdiction) && told.purge.taken_by == node.as_str())
        }
    };
    let mut answers: FuturesUnordered<_> = nodes.into_iter().map(ask).collect();
    while let Some(told) = answers.next().await {
        if told.is_some() {
            return told;
        }
    }
    None
}

fn member(realm: &str, jurisdiction: &region_config::JurisdictionId) -> bool {
    region_config::RealmId::parse(realm).is_ok_and(|realm| residency::member(&realm, jurisdiction))
}

fn told(context: &Context, purge: Purge, signed: bool) -> Told {
    let sealer = context.mesh.as_ref().filter(|_| signed).and_then(|mesh| mesh.sealer());
    let signed = sealer.and_then(|sealer| proof::sign(purge.clone(), &sealer, clock::unix_ms()).ok());
    Told { purge, signed }
}
