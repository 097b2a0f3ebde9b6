//! Purges: orders, what became of them, signed receipts, and the audit.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::admin::problem::Problem;

/// Orders in one batch, at most.
const BATCH_MAX: usize = 1_000;

/// A purge as ordered: of one `site`, of all sites of a `tenant`, or (for the operator) of a whole `realm`. Says explicitly
/// what: an order that names nothing is refused, and never means everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeOrder {
    /// The site to purge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The tenant all of whose sites are purged, by `tags` or of `everything`: one purge for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The realm (`global`, or a jurisdiction) all of whose sites are purged of `everything`. For the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// All variants of these URLs: absolute, `http` or `https`, with a host of the site.
    pub urls: Vec<String>,
    /// Everything under these: absolute URLs that end with `/`, at most 16 segments deep. `https://shop.example/a/` covers
    /// `/a`, `/a/` and all below, and never `/ab`.
    pub prefixes: Vec<String>,
    /// Everything of these hosts.
    pub hosts: Vec<String>,
    /// Everything that carries one of these tags.
    pub tags: Vec<String>,
    /// Everything.
    pub everything: bool,
    /// Whether it is removed or only marked stale.
    pub mode: PurgeMode,
    /// The same key again gives the same purge, not a second one. 1 to 64 visible ASCII characters.
    pub idempotency_key: Option<String>,
    /// How far the purge must have come before the answer.
    pub wait: PurgeWait,
    /// For how long to wait at most, in ms: up to 60,000; 10,000 if left out. After that, the answer is 202 and the purge goes on.
    pub timeout_ms: Option<u64>,
}

/// Up to 1,000 orders, each answered by itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeBatch {
    /// The orders: each about a site.
    #[serde(deserialize_with = "orders")]
    pub orders: Vec<PurgeOrder>,
}

/// Stops at the limit: a short text could otherwise become very many orders.
fn orders<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PurgeOrder>, D::Error> {
    struct Orders;
    impl<'de> serde::de::Visitor<'de> for Orders {
        type Value = Vec<PurgeOrder>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of 1 to {BATCH_MAX} orders")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut orders = Vec::new();
            while let Some(order) = list.next_element()? {
                orders.push(order);
                if orders.len() > BATCH_MAX {
                    return Err(serde::de::Error::invalid_length(orders.len(), &self));
                }
            }
            if orders.is_empty() { Err(serde::de::Error::invalid_length(0, &self)) } else { Ok(orders) }
        }
    }
    deserializer.deserialize_seq(Orders)
}

/// What became of an order: of a site or realm, its purge; of a tenant, an answer for each of its sites.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PurgeOrdered {
    /// Of a site or realm.
    One(Purge),
    /// Of a tenant.
    Each(PurgeAnswers),
}

/// An answer for each order of a batch, or for each site of a tenant, in their order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PurgeAnswers {
    /// The answers.
    pub answers: Vec<PurgeAnswer>,
}

/// The answer to one order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PurgeAnswer {
    /// The status that it would have had by itself.
    pub status: u16,
    /// The site; none if the order names none.
    pub site: Option<String>,
    /// The purge, if it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge: Option<Purge>,
    /// Why not, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What a purge does to what it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PurgeMode {
    /// It is never used again.
    #[default]
    Hard,
    /// It is stale from now on, and may be revalidated.
    Soft,
}

/// How far a purge must have come before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PurgeWait {
    /// In effect, and on disk, on the node that was asked.
    Local,
    /// On disk on a majority of the witnesses: it cannot be lost any more.
    #[default]
    Quorum,
    /// In effect on every node of the realm in the region of the node that was asked, or the node is fenced.
    Region,
    /// In effect on every node of the realm, or the node is fenced.
    All,
}

/// A purge and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Purge {
    /// Its id, 32 hex digits.
    pub id: String,
    /// The site; none if it is about all of the realm.
    pub site: Option<String>,
    /// The realm: `global`, or the jurisdiction that the site is pinned to.
    pub realm: String,
    /// The node that took it.
    pub taken_by: String,
    /// What is purged.
    pub scope: Vec<PurgeScope>,
    /// Hard or soft.
    pub mode: PurgeMode,
    /// When it was taken, in ms since the Unix epoch.
    pub taken_unix_ms: u64,
    /// How far it has come.
    pub state: PurgeState,
    /// The witnesses that have it on disk.
    pub stored: Vec<PurgeStored>,
    /// Every node of the realm.
    pub nodes: Vec<PurgeNode>,
    /// In the answer to an order: shown by a client as `Meridian-Purge` (field or cookie), it gets nothing from any node of
    /// the realm that is older than the purge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// One thing that is purged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PurgeScope {
    /// All variants of a URL.
    Url {
        /// The host.
        host: String,
        /// Path and query, normalised.
        target: String,
    },
    /// Everything with a tag.
    Tag {
        /// The tag.
        tag: String,
    },
    /// A path and everything below it.
    Prefix {
        /// The host.
        host: String,
        /// The path, without `/` at its end.
        path: String,
    },
    /// Everything of a host.
    Host {
        /// The host.
        host: String,
    },
    /// Everything of the site.
    Everything,
    /// Everything of all sites of the realm.
    Realm,
}

/// How far a purge has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PurgeState {
    /// In effect on the node that took it; not yet on disk on a majority of the witnesses.
    Accepted,
    /// On disk on a majority of the witnesses.
    Quorum,
    /// And in effect on every node of the realm in the region of the node that took it, or the node is fenced.
    Region,
    /// In effect on every node of the realm, or the node is fenced.
    All,
}

/// A witness that has a purge on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgeStored {
    /// The node.
    pub node: String,
    /// After how many ms.
    pub after_ms: u32,
}

/// A node's receipt for a purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgeNode {
    /// The node.
    pub node: String,
    /// The region that it stands in.
    pub region: String,
    /// What is known of it.
    pub state: PurgeNodeState,
    /// After how many ms; none if not known.
    pub after_ms: Option<u32>,
    /// Where in the node's own order it was applied, as `boot.count`.
    #[serde(default)]
    pub position: Option<String>,
}

/// What is known of a purge on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PurgeNodeState {
    /// In effect.
    Applied,
    /// The node was out of reach so long that it serves nothing until it has caught up.
    Fenced,
    /// Not heard yet.
    Pending,
}

/// The last purges that this node took, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Purges {
    /// The purges.
    pub purges: Vec<Purge>,
}

/// A receipt that proves offline what the node that took a purge knew of it. `meridian verify` checks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedPurge {
    /// `meridian purge receipt 1`.
    pub format: String,
    /// The cluster that the signer is of.
    pub cluster: String,
    /// The signer: jurisdiction, region and node, as in its certificate.
    pub signer: String,
    /// When it was signed, in ms since the Unix epoch.
    pub signed_unix_ms: u64,
    /// What it says.
    pub purge: Purge,
    /// The signature over all of the above, and over its own kind and chain.
    pub signature: PurgeSignature,
}

/// A node's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeSignature {
    /// Its kind, such as `ecdsa-p256-sha256`.
    pub algorithm: String,
    /// The signer's certificate and those between it and the cluster's CA: DER in base64.
    pub chain: Vec<String>,
    /// The signature in base64.
    pub value: String,
}

/// Who ordered which purges through this node, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Audit {
    /// The node that was asked: each keeps what it took itself.
    pub node: String,
    /// The orders.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins: to be given as `below`; none if this was the last.
    pub next: Option<String>,
}

/// An order for a purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When, in ms since the Unix epoch.
    pub at_unix_ms: u64,
    /// The purge's id.
    pub purge: String,
    /// The name of the token; `(admin)` for the admin token.
    pub token: String,
    /// The address that it came from.
    pub from: String,
    /// How many identical orders of this token and address became this purge.
    pub orders: u32,
    /// The site; none if it is about all of the realm.
    pub site: Option<String>,
    /// The realm.
    pub realm: String,
    /// Hard or soft.
    pub mode: PurgeMode,
    /// What: as much of it as fits 4 KiB.
    pub scope: Vec<PurgeScope>,
    /// How many things it names in all.
    pub named: usize,
    /// Where it was in effect, as far as this node came to know.
    pub outcome: Option<AuditOutcome>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditOutcome {
    /// How far it came.
    pub state: PurgeState,
    /// The witnesses that have it on disk.
    pub stored: Vec<PurgeStored>,
    /// Every node of the realm.
    pub nodes: Vec<PurgeNode>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_stops_reading_at_its_limit() {
        let batch = |count: usize| format!("{{\"orders\":[{}]}}", vec!["{}"; count].join(","));
        let read = |count: usize| serde_json::from_str::<PurgeBatch>(&batch(count)).map(|batch| batch.orders.len());
        assert_eq!(read(BATCH_MAX).ok(), Some(BATCH_MAX));
        for bad in [0, BATCH_MAX + 1, 300_000] {
            let fault = read(bad).map_err(|fault| fault.to_string());
            assert!(fault.is_err_and(|fault| fault.contains("1 to 1000 orders")));
        }
    }
}
