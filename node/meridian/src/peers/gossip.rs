//! Gossip: chitchat's state and reconciliation, carried by the mesh.
//!
//! chitchat's loop waits for its transport between receiving and beating, so sending only puts a message into the peer's
//! outbox; a task per peer carries it. What comes in passes the [`Sieve`] first. Gossip carries health and what nodes are asked for:
//! no purges, no configs, no data of a site (row N2).

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable, FailureDetectorConfig, Serializable,
    spawn_chitchat,
    transport::{Socket, Transport},
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use region_config::NodeId;
use tokio::sync::{Notify, mpsc};

use super::{
    Answer, Kind, Mesh, PeerError, PeerIdentity, Stream, read_frame,
    sieve::{MESSAGE_BYTES_MAX, Sieve},
    write_frame,
};
use crate::clock;

/// How often chitchat talks to a few peers of its own accord. Changes are told to all at once, see [`Gossip::say`].
const INTERVAL: Duration = Duration::from_millis(250);
/// Messages that wait for one peer; the oldest goes when it is full, since newer ones say more.
const OUTBOX_MAX: usize = 8;
/// Messages that wait for chitchat.
const INBOX_MAX: usize = 256;
/// How long one message may take to a peer, and to be read from one.
const PATIENCE: Duration = Duration::from_secs(1);
/// The runs of nodes that ended are forgotten after this.
const FORGET: Duration = Duration::from_secs(120);
/// The key of a node's report.
const REPORT: &str = "report";
/// The key of what a node is asked for.
const DEMAND: &str = "demand";

/// The part that lives as long as the mesh: outboxes, the way in, and the sieve.
pub(super) struct Post {
    mesh: Arc<Mesh>,
    pub(super) sieve: Sieve,
    inbox: Mutex<Option<mpsc::Sender<(SocketAddr, ChitchatMessage)>>>,
    outboxes: Mutex<BTreeMap<NodeId, Arc<Outbox>>>,
}

#[derive(Default)]
struct Outbox {
    messages: Mutex<VecDeque<Vec<u8>>>,
    filled: Notify,
}

impl Post {
    /// Begins to take the gossip streams of the mesh.
    pub(super) fn open(mesh: &Arc<Mesh>) -> Arc<Self> {
        let post = Arc::new(Self {
            mesh: Arc::clone(mesh),
            sieve: Sieve::new(mesh.identity().node.clone()),
            inbox: Mutex::new(None),
            outboxes: Mutex::default(),
        });
        mesh.register(Kind::Gossip, Arc::<Self>::clone(&post));
        post
    }

    fn post(self: &Arc<Self>, node: &NodeId, message: Vec<u8>) {
        let mut outboxes = self.outboxes.lock();
        let outbox = outboxes.entry(node.clone()).or_insert_with(|| {
            let outbox = Arc::new(Outbox::default());
            let carry = carry(Arc::clone(self), node.clone(), Arc::clone(&outbox));
            self.mesh.tasks.spawn_until_stopped("gossip-carry", carry);
            outbox
        });
        let mut messages = outbox.messages.lock();
        if messages.len() >= OUTBOX_MAX {
            messages.pop_front();
        }
        messages.push_back(message);
        outbox.filled.notify_one();
    }

    async fn receive(&self, peer: &PeerIdentity, (mut send, mut recv): Stream) -> Result<(), PeerError> {
        let message = read_frame(&mut recv, MESSAGE_BYTES_MAX).await?;
        write_frame(&mut send, &[]).await?;
        send.finish().map_err(PeerError::lost)?;
        let unknown = || PeerError::UnknownNode { node: peer.node.clone() };
        let address = self.mesh.members.load().address(&peer.node).ok_or_else(unknown)?;
        let passed = match self.sieve.pass(&peer.node, address, &message, clock::instant()) {
            Ok(passed) => passed,
            Err(why) => {
                tracing::debug!(%peer, %why, "dropped a gossip message");
                return Ok(());
            }
        };
        let message = ChitchatMessage::deserialize(&mut passed.as_slice())
            .map_err(|_| PeerError::Malformed { why: "gossip that chitchat cannot read" })?;
        if let Some(inbox) = self.inbox.lock().as_ref() {
            // a full inbox drops: the next round says it again
            let _full = inbox.try_send((address, message));
        }
        Ok(())
    }
}

impl Answer for Post {
    fn answer(self: Arc<Self>, peer: PeerIdentity, stream: Stream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let received = tokio::time::timeout(PATIENCE, self.receive(&peer, stream)).await;
            if let Ok(Err(fault)) = received {
                tracing::debug!(%peer, %fault, "gossip");
            }
        })
    }
}

/// Carries one peer's messages, one at a time. While there is no connection they are dropped: probes see to that, and a
/// report that comes late is worth nothing.
async fn carry(post: Arc<Post>, node: NodeId, outbox: Arc<Outbox>) {
    loop {
        let next = outbox.messages.lock().pop_front();
        let Some(message) = next else {
            outbox.filled.notified().await;
            continue;
        };
        let Ok(link) = post.mesh.link(&node) else { break };
        if link.live().is_some()
            && let Err(fault) = post.mesh.call(&node, Kind::Gossip, &message, PATIENCE).await
        {
            tracing::trace!(%node, %fault, "gossip not delivered");
        }
    }
    // no longer of this fleet
    post.outboxes.lock().remove(&node);
}

#[async_trait]
impl Transport for Door {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        *self.0.inbox.lock() = Some(sender);
        Ok(Box::new(Mail { post: Arc::clone(&self.0), inbox }))
    }
}

/// chitchat's way to the mesh.
struct Door(Arc<Post>);

struct Mail {
    post: Arc<Post>,
    inbox: mpsc::Receiver<(SocketAddr, ChitchatMessage)>,
}

#[async_trait]
impl Socket for Mail {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let members = self.post.mesh.members.load();
        if let Some(node) = members.at(to) {
            self.post.post(node, message.serialize_to_vec());
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        match self.inbox.recv().await {
            Some(message) => Ok(message),
            // an error here would end chitchat's loop; a closed inbox means that a newer one has taken over
            None => std::future::pending().await,
        }
    }
}

/// chitchat, running.
pub(super) struct Gossip {
    post: Arc<Post>,
    chitchat: ChitchatHandle,
    /// The versions of what was handed out, by key.
    read: BTreeMap<(NodeId, &'static str), (u64, u64)>,
}

impl Gossip {
    pub(super) async fn start(post: &Arc<Post>) -> Result<Self, PeerError> {
        let mesh = &post.mesh;
        let config = mesh.config.load_full();
        let listen = config.node.peer.ok_or(PeerError::NoMesh)?;
        let us = config.regions.iter().flat_map(|region| &region.nodes).find(|node| node.name == mesh.identity.node);
        let address = us.and_then(|node| node.peer).unwrap_or(listen);
        let seeds = mesh.members.load().others().map(|(_, address)| address.to_string()).collect();
        let detector = FailureDetectorConfig {
            initial_interval: INTERVAL,
            dead_node_grace_period: FORGET,
            ..FailureDetectorConfig::default()
        };
        let settings = ChitchatConfig {
            chitchat_id: ChitchatId::new(mesh.identity.node.as_str(), mesh.generation.load(Ordering::Acquire), address),
            cluster_id: mesh.cluster.clone(),
            gossip_interval: INTERVAL,
            listen_addr: listen,
            seed_nodes: seeds,
            failure_detector_config: detector,
            marked_for_deletion_grace_period: FORGET,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let chitchat = spawn_chitchat(settings, Vec::new(), &Door(Arc::clone(post))).await.map_err(PeerError::lost)?;
        Ok(Self { post: Arc::clone(post), chitchat, read: BTreeMap::new() })
    }

    /// Sets this node's report, and tells all that are connected at once.
    pub(super) async fn say(&self, issue: u64, text: String) {
        self.chitchat.with_chitchat(|chitchat| chitchat.self_node_state().set(REPORT, &text)).await;
        // only now do probes announce it: whoever asks then finds it
        self.post.mesh.issue.store(issue, Ordering::Release);
        self.push();
    }

    /// Sets what this node is asked for, and tells all that are connected.
    pub(super) async fn say_demand(&self, text: &str) {
        self.chitchat.with_chitchat(|chitchat| chitchat.self_node_state().set(DEMAND, text)).await;
        self.push();
    }

    fn push(&self) {
        let members = self.post.mesh.members.load_full();
        for (node, _) in members.others() {
            self.exchange(node);
        }
    }

    /// Exchanges states with a node now, instead of when its turn comes.
    pub(super) fn exchange(&self, node: &NodeId) {
        if let Some(address) = self.post.mesh.members.load().address(node) {
            // fails only when the loop has ended, which `ended` tells
            let _ended = self.chitchat.gossip(address);
        }
    }

    /// The reports that are new since the last call: node, generation, text.
    pub(super) async fn hear(&mut self) -> Vec<(NodeId, u64, String)> {
        self.news(REPORT).await
    }

    /// What other nodes are asked for, where that is new since the last call: node, generation, text.
    pub(super) async fn hear_demands(&mut self) -> Vec<(NodeId, u64, String)> {
        self.news(DEMAND).await
    }

    async fn news(&mut self, key: &'static str) -> Vec<(NodeId, u64, String)> {
        let chitchat = self.chitchat.chitchat();
        let chitchat = chitchat.lock().await;
        let mut heard = Vec::new();
        for (id, state) in chitchat.node_states() {
            let Ok(node) = NodeId::parse(&id.node_id) else { continue };
            if self.post.sieve.generation(&node) != Some(id.generation_id) {
                continue;
            }
            let Some(said) = state.get_versioned(key) else { continue };
            let version = (id.generation_id, said.version);
            if self.read.get(&(node.clone(), key)) != Some(&version) {
                heard.push((node.clone(), id.generation_id, said.value.clone()));
                self.read.insert((node, key), version);
            }
        }
        heard
    }

    /// Completes when chitchat's loop has ended, which it should not.
    pub(super) fn ended(&self) -> impl Future<Output = anyhow::Result<()>> + use<> {
        self.chitchat.termination_watcher()
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.chitchat.abort();
    }
}
