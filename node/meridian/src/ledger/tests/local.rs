//! A mesh in one process, whose lines can be cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use region_config::NodeId;
use tokio::sync::{mpsc, watch};

use super::super::{
    Ledgers, Peer,
    carrier::{CarryFault, Line, Receiving, Sending},
    serve::serve,
};
use crate::{peers::Kind, tasks::Tasks};

/// Frames that wait in a line.
const FRAMES_MAX: usize = 64;

/// All nodes that run, and the lines between them that are cut.
#[derive(Debug)]
pub(in super::super) struct Hub {
    running: Mutex<BTreeMap<NodeId, Running>>,
    cuts: watch::Sender<BTreeSet<Way>>,
    open: Mutex<BTreeMap<Way, usize>>,
}

/// From where, to where, what for.
type Way = (NodeId, NodeId, Kind);

#[derive(Debug, Clone)]
struct Running {
    peer: Peer,
    ledgers: Arc<Ledgers>,
    tasks: Tasks,
}

/// A node's way into the hub.
#[derive(Debug, Clone)]
pub(in super::super) struct Port {
    pub(super) me: Peer,
    pub(super) hub: Arc<Hub>,
}

impl Hub {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { running: Mutex::default(), cuts: watch::Sender::new(BTreeSet::new()), open: Mutex::default() })
    }

    pub(super) fn started(&self, peer: Peer, ledgers: Arc<Ledgers>, tasks: Tasks) {
        self.running.lock().insert(peer.node.clone(), Running { peer, ledgers, tasks });
    }

    pub(super) fn stopped(&self, node: &NodeId) {
        self.running.lock().remove(node);
    }

    /// Cuts the lines of a kind from one node to another; those that are open end.
    pub(super) fn cut(&self, from: &NodeId, to: &NodeId, kind: Kind) {
        self.cuts.send_modify(|cuts| cuts.extend([(from.clone(), to.clone(), kind)]));
    }

    /// Cuts everything between two nodes, and returns when nothing passes any more.
    pub(super) async fn part(&self, a: &NodeId, b: &NodeId) {
        for kind in [Kind::Ledger, Kind::Tail] {
            self.cut(a, b, kind);
            self.cut(b, a, kind);
        }
        let passes = || {
            let (open, cuts) = (self.open.lock(), self.cuts.borrow());
            cuts.iter().any(|way| open.get(way).is_some_and(|lines| *lines > 0))
        };
        super::until("the lines are down", || !passes()).await;
    }

    pub(super) fn heal(&self) {
        self.cuts.send_modify(BTreeSet::clear);
    }
}

impl Port {
    pub(in super::super) async fn open(&self, node: &NodeId, kind: Kind) -> Result<(Line, Peer), CarryFault> {
        let way = (self.me.node.clone(), node.clone(), kind);
        if self.hub.cuts.borrow().contains(&way) {
            return Err(CarryFault::Ended);
        }
        let there = self.hub.running.lock().get(node).cloned().ok_or(CarryFault::Ended)?;
        let (to, theirs) = mpsc::channel(FRAMES_MAX);
        let (back, ours) = mpsc::channel(FRAMES_MAX);
        let (me, mut cuts, ledgers) = (self.me.clone(), self.hub.cuts.subscribe(), there.ledgers);
        *self.hub.open.lock().entry(way.clone()).or_default() += 1;
        let counted = Counted(Arc::clone(&self.hub), way.clone());
        there.tasks.spawn_until_stopped("local-line", async move {
            let line = Line { send: Sending::Local(back), recv: Receiving::Local(theirs) };
            tokio::select! {
                () = serve(&ledgers, kind, me, line) => {}
                _ = cuts.wait_for(|cuts| cuts.contains(&way)) => {}
            }
            drop(counted);
        });
        Ok((Line { send: Sending::Local(to), recv: Receiving::Local(ours) }, there.peer))
    }
}

/// An open line, while it lives.
struct Counted(Arc<Hub>, Way);

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(lines) = self.0.open.lock().get_mut(&self.1) {
            *lines -= 1;
        }
    }
}
