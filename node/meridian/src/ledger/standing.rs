//! How a realm stands on this node, for operators.

use std::sync::atomic::Ordering;

use region_config::NodeId;
use rules::purge::ALWAYS;

use super::{change::Change, realm::Realm};
use crate::clock;

/// How a realm stands on this node.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its witnesses, as this node hears them.
    pub witnesses: Vec<Witness>,
    /// The version of the config that names them; 0 if none does.
    pub version: u64,
    /// How a change of them stands; none if there is none.
    pub change: Option<Change>,
    /// How many ms ago this node was sure to have heard everything; none if it never was.
    pub lease_age_ms: Option<u64>,
    /// How many ms ago the realm was opened.
    pub open_ms: u64,
    /// Purges taken here that no majority has yet.
    pub waiting: usize,
    /// How many ms ago the oldest of them was taken.
    pub waiting_oldest_ms: Option<u64>,
    /// Per other member: events that wait to be sent or answered.
    pub backlog: Vec<(NodeId, usize)>,
    /// Purged keys remembered.
    pub marks: usize,
    /// The own log, if this node is a witness.
    pub log: Option<OwnLog>,
    /// By how many ms this node's wall clock is ahead of the median of the witnesses'; none if none has said.
    pub clock_ahead_ms: Option<i64>,
    /// Whether the disk has failed, so that purges are refused here.
    pub stopped: bool,
}

/// A witness, as this node hears it.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Which.
    pub node: NodeId,
    /// How many ms ago this node was sure to have heard all that it had; none if never.
    pub age_ms: Option<u64>,
    /// Records that it says it has, and that this node has not read yet.
    pub unread: u64,
}

/// A witness's log.
#[derive(Debug, Clone, Copy)]
pub struct OwnLog {
    /// Place of the first record that it still has.
    pub base: u64,
    /// Records that it has.
    pub records: u64,
    /// Whether what it says counts.
    pub voting: bool,
}

impl Realm {
    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let now_ms = clock::monotonic_ms();
        let ago = |since_ms: u64| if since_ms == ALWAYS { 0 } else { now_ms.saturating_sub(since_ms) };
        let stopped = self.stopped.read(Option::is_some);
        let core = self.core.lock();
        let heard = |(witness, node): (usize, &NodeId)| {
            let (age_ms, unread) = match core.lease.heard(witness) {
                _ if Some(witness) == self.own => (Some(0), 0),
                heard => (heard.map(ago), core.lease.unread(witness, core.apply.cursor(witness))),
            };
            Witness { node: node.clone(), age_ms, unread }
        };
        let witnesses = self.witnesses.iter().enumerate().map(heard).collect();
        let since_ms = self.since.load(Ordering::Acquire);
        let log = core.witness.as_ref().map(|witness| witness.head()).map(|head| OwnLog {
            base: head.base,
            records: (head.seq + 1).saturating_sub(head.base),
            voting: head.voting,
        });
        let (waiting, marks) = (core.receipts.waiting(), core.apply.marks());
        let waiting_oldest_ms = core.receipts.waiting_since_ms().map(ago);
        let change = self.change(&core);
        drop(core);
        Standing {
            witnesses,
            version: self.version,
            change,
            lease_age_ms: (since_ms != 0).then(|| ago(since_ms)),
            open_ms: ago(self.opened_ms),
            waiting,
            waiting_oldest_ms,
            backlog: self.outlets.iter().map(|outlet| (outlet.node.clone(), outlet.backlog())).collect(),
            marks,
            log,
            clock_ahead_ms: self.skew.lock().ahead_ms(),
            stopped,
        }
    }
}
