//! The mesh: one QUIC endpoint, one kept connection per peer and lane, streams by kind.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use quinn::{
    AsyncUdpSocket, Connection, Endpoint, EndpointConfig, Incoming, RecvStream, Runtime, SendStream, TokioRuntime,
};
use region_config::{Config, JurisdictionId, NodeId};
use rustls::{pki_types::CertificateDer, sign::CertifiedKey};
use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    LoadedIdentity, PeerError, PeerIdentity,
    frame::{Kind, Lane, VERSION, read_frame, write_frame},
    link::{Link, Way},
    probe, reload, trust,
    trust::Members,
};
use crate::{chance, clock, tasks::Tasks};

/// Both directions of one stream between nodes.
pub type Stream = (SendStream, RecvStream);

/// The largest message of [`Mesh::call`], each way, in bytes.
pub const CALL_BYTES_MAX: usize = 1024 * 1024;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Handshakes with strangers-so-far that run at once.
const HANDSHAKES_MAX: usize = 64;
/// How long a new stream may take to say what it is for.
const STREAM_HEAD: Duration = Duration::from_secs(2);
/// Receive and send buffer of the UDP socket, in bytes; the system may give less.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;

/// What answers the streams of one kind.
pub trait Answer: Send + Sync + 'static {
    /// Takes one stream of `peer`, whose kind has been read; runs until it is done with it. It must bound its own waits.
    fn answer(self: Arc<Self>, peer: PeerIdentity, stream: Stream) -> BoxFuture<'static, ()>;
}

/// This node's place among the others.
pub struct Mesh {
    pub(super) identity: PeerIdentity,
    pub(super) cluster: String,
    /// Which run of this node's gossip this is: its start, in ms since the Unix epoch.
    pub(super) generation: AtomicU64,
    /// The last issue of this node's report.
    pub(super) issue: AtomicU64,
    pub(super) config: ArcSwap<Config>,
    pub(super) members: Arc<ArcSwap<Members>>,
    pub(super) tasks: Tasks,
    endpoint: Endpoint,
    dialers: ArcSwap<Dialers>,
    /// Certificate and key, to sign with.
    pub(super) certified: ArcSwap<CertifiedKey>,
    /// When that certificate ends, in seconds since the Unix epoch.
    not_after_unix_s: AtomicI64,
    answers: RwLock<BTreeMap<Kind, Arc<dyn Answer>>>,
    /// Where connections live, whoever wants them: a thread of the edge ends before the connections of others do.
    home: Option<Handle>,
    links: RwLock<Links>,
    /// The same for the lane of guests.
    guests: RwLock<Links>,
    handshakes: Arc<Semaphore>,
}

type Links = BTreeMap<NodeId, Arc<Link>>;

/// What peers are dialled with, by lane.
struct Dialers {
    house: quinn::ClientConfig,
    guests: quinn::ClientConfig,
}

impl Dialers {
    fn new(identity: &LoadedIdentity, members: &Arc<ArcSwap<Members>>) -> Result<Self, PeerError> {
        let of = |lane| trust::client(identity, members, lane);
        Ok(Self { house: of(Lane::House)?, guests: of(Lane::Guests)? })
    }

    fn of(&self, lane: Lane) -> quinn::ClientConfig {
        match lane {
            Lane::House => self.house.clone(),
            Lane::Guests => self.guests.clone(),
        }
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Mesh {
    /// Takes the `peer` address of the config. Must be called inside the runtime that the mesh is to run on.
    ///
    /// # Errors
    /// [`PeerError::NoMesh`], [`PeerError::Bind`] with the address, [`PeerError::Tls`].
    #[allow(clippy::needless_pass_by_value, reason = "the mesh owns its identity and its tasks")]
    pub fn bind(config: &Config, identity: LoadedIdentity, tasks: Tasks) -> Result<Arc<Self>, PeerError> {
        let address = config.node.peer.ok_or(PeerError::NoMesh)?;
        let socket = socket(address).and_then(|socket| TokioRuntime.wrap_udp_socket(socket));
        let socket = socket.map_err(|source| PeerError::Bind { address, source })?;
        Self::bind_on(Footing::of(socket), config, &identity, tasks)
    }

    pub(super) fn bind_on(
        footing: Footing,
        config: &Config,
        identity: &LoadedIdentity,
        tasks: Tasks,
    ) -> Result<Arc<Self>, PeerError> {
        let members = Arc::new(ArcSwap::from_pointee(Members::new(config, &identity.cluster)));
        let Footing { socket, runtime, endpoint } = footing;
        let address = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let server = trust::server(identity, &members)?;
        let dialers = Dialers::new(identity, &members)?;
        let endpoint = Endpoint::new_with_abstract_socket(endpoint, Some(server), socket, runtime)
            .map_err(|source| PeerError::Bind { address, source })?;
        let mesh = Arc::new(Self {
            identity: identity.peer.clone(),
            cluster: identity.cluster.clone(),
            generation: AtomicU64::new(clock::unix_ms()),
            issue: AtomicU64::new(0),
            config: ArcSwap::from_pointee(config.clone()),
            members,
            tasks,
            endpoint,
            dialers: ArcSwap::from_pointee(dialers),
            certified: ArcSwap::new(Arc::clone(&identity.certified)),
            not_after_unix_s: AtomicI64::new(identity.not_after_unix_s),
            answers: RwLock::default(),
            home: Handle::try_current().ok(),
            links: RwLock::default(),
            guests: RwLock::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        });
        mesh.set_links();
        Ok(mesh)
    }

    /// Who this node is, by its certificate.
    #[must_use]
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// When the certificate in use ends, in seconds since the Unix epoch.
    #[must_use]
    pub fn not_after_unix_s(&self) -> i64 {
        self.not_after_unix_s.load(Relaxed)
    }

    /// Names what answers the streams of a kind. Streams of a kind without an answer are refused.
    pub fn register(&self, kind: Kind, answer: Arc<dyn Answer>) {
        self.answers.write().insert(kind, answer);
    }

    /// Begins to accept connections, and to watch the certificate files.
    pub fn start(self: &Arc<Self>) {
        self.tasks.spawn_until_stopped("mesh-accept", accept(Arc::clone(self)));
        self.tasks.spawn_until_stopped("mesh-certificates", reload::watch(Arc::clone(self)));
        let (endpoint, stopping) = (self.endpoint.clone(), self.tasks.stopping());
        self.tasks.spawn("mesh-close", async move {
            stopping.cancelled().await;
            endpoint.close(0u8.into(), b"stopping");
            // the others learn it from this packet instead of from a timeout
            let _patience = tokio::time::timeout(Duration::from_millis(500), endpoint.wait_idle()).await;
        });
    }

    /// Opens a stream of a kind to a node, on the kept connection or on a new one.
    ///
    /// Waits for at most one attempt to connect, and then as long as the peer has too many of our streams: bound it.
    ///
    /// # Errors
    /// [`PeerError::UnknownNode`], [`PeerError::Unreachable`], [`PeerError::Lost`].
    pub async fn open(self: &Arc<Self>, node: &NodeId, kind: Kind) -> Result<Stream, PeerError> {
        let connection = self.connection(node).await?;
        begin(&connection, kind).await
    }

    /// Opens a stream to pass on what a client sends, and says who is at its other end, by the certificate of the very
    /// connection that it is on.
    ///
    /// Waits as [`Mesh::open`] does: bound it.
    ///
    /// # Errors
    /// As [`Mesh::open`].
    pub async fn open_relay(self: &Arc<Self>, node: &NodeId) -> Result<(Stream, PeerIdentity), PeerError> {
        let connection = self.connected(&self.link_of(node, Lane::Guests)?).await?;
        let peer = self.identify(&connection)?;
        Ok((begin(&connection, Kind::Relay).await?, peer))
    }

    /// Sends one message and waits for the one that answers it, each at most [`CALL_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// As [`Mesh::open`]; [`PeerError::TimedOut`] when `deadline` has passed.
    pub async fn call(
        self: &Arc<Self>,
        node: &NodeId,
        kind: Kind,
        request: &[u8],
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        if request.len() > CALL_BYTES_MAX {
            return Err(PeerError::TooLarge { bytes: request.len(), max: CALL_BYTES_MAX });
        }
        let exchange = async {
            let (mut send, mut recv) = self.open(node, kind).await?;
            write_frame(&mut send, request).await?;
            send.finish().map_err(PeerError::lost)?;
            read_frame(&mut recv, CALL_BYTES_MAX).await
        };
        let answer = tokio::time::timeout(deadline, exchange).await;
        answer.unwrap_or(Err(PeerError::TimedOut { after: deadline }))
    }

    /// The legal area that the certificate of a connected node is for; `None` if it is not connected. What the config
    /// or the node itself says does not count here.
    #[must_use]
    pub fn jurisdiction_of(&self, node: &NodeId) -> Option<JurisdictionId> {
        self.link(node).ok()?.live().map(|(_, peer)| peer.jurisdiction)
    }

    /// Takes a new region table. Connections of nodes that no longer belong are closed.
    pub fn replace(&self, config: &Config) {
        self.config.store(Arc::new(config.clone()));
        self.members.store(Arc::new(Members::new(config, &self.cluster)));
        self.set_links();
    }

    /// Uses other certificates from the next handshake on.
    pub(super) fn reload(&self, identity: &LoadedIdentity) -> Result<(), PeerError> {
        let server = trust::server(identity, &self.members)?;
        self.dialers.store(Arc::new(Dialers::new(identity, &self.members)?));
        self.endpoint.set_server_config(Some(server));
        self.certified.store(Arc::clone(&identity.certified));
        self.not_after_unix_s.store(identity.not_after_unix_s, Relaxed);
        Ok(())
    }

    pub(super) fn link(&self, node: &NodeId) -> Result<Arc<Link>, PeerError> {
        self.link_of(node, Lane::House)
    }

    fn link_of(&self, node: &NodeId, lane: Lane) -> Result<Arc<Link>, PeerError> {
        let link = self.lane(lane).read().get(node).cloned();
        link.ok_or_else(|| PeerError::UnknownNode { node: node.clone() })
    }

    fn lane(&self, lane: Lane) -> &RwLock<Links> {
        match lane {
            Lane::House => &self.links,
            Lane::Guests => &self.guests,
        }
    }

    /// A connection to a node: the kept one, or what comes of one attempt.
    pub(super) async fn connection(self: &Arc<Self>, node: &NodeId) -> Result<Connection, PeerError> {
        self.connected(&self.link(node)?).await
    }

    async fn connected(self: &Arc<Self>, link: &Arc<Link>) -> Result<Connection, PeerError> {
        let unreachable = |why| PeerError::Unreachable { node: link.node.clone(), why };
        let (failures, _) = link.failures();
        loop {
            let seen = link.changes();
            match link.way(clock::instant()) {
                Way::Open(connection) => return Ok(connection),
                Way::Closed(why) => return Err(unreachable(why)),
                Way::Dial => {
                    let _home = self.home.as_ref().map(Handle::enter);
                    self.tasks.spawn_until_stopped("mesh-dial", dial(Arc::clone(self), Arc::clone(link)));
                }
                Way::Wait => {}
            }
            link.changed(seen).await;
            let (since, why) = link.failures();
            if since > failures {
                return Err(unreachable(why));
            }
        }
    }

    fn set_links(&self) {
        let members = self.members.load();
        for lane in [Lane::House, Lane::Guests] {
            let mut links = self.lane(lane).write();
            links.retain(|node, link| {
                let stays = members.address(node).is_some();
                if !stays {
                    link.close(b"no longer of this fleet");
                }
                stays
            });
            for (node, _) in members.others() {
                links.entry(node.clone()).or_insert_with(|| Arc::new(Link::new(node.clone(), lane)));
            }
        }
    }

    /// Who is at the other end. The handshake checked the certificate; the table may have changed since.
    fn identify(&self, connection: &Connection) -> Result<PeerIdentity, PeerError> {
        let chain = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        let leaf = leaf.ok_or(PeerError::Malformed { why: "a peer without a certificate" })?;
        Ok(self.members.load().admit(leaf)?)
    }
}

/// What a mesh stands on.
pub(super) struct Footing {
    pub(super) socket: Arc<dyn AsyncUdpSocket>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) endpoint: EndpointConfig,
}

impl Footing {
    /// A socket, and the runtime that is running.
    pub(super) fn of(socket: Arc<dyn AsyncUdpSocket>) -> Self {
        Self { socket, runtime: Arc::new(TokioRuntime), endpoint: EndpointConfig::default() }
    }
}

/// A UDP socket with room for bursts.
fn socket(address: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    let buffers = socket2::SockRef::from(&socket);
    // what the system refuses here only costs throughput
    let _less = buffers.set_recv_buffer_size(SOCKET_BYTES);
    let _less = buffers.set_send_buffer_size(SOCKET_BYTES);
    Ok(socket)
}

/// Opens a stream and says what it is for.
async fn begin(connection: &Connection, kind: Kind) -> Result<Stream, PeerError> {
    let (mut send, recv) = connection.open_bi().await.map_err(PeerError::lost)?;
    send.write_all(&[VERSION, kind.byte()]).await.map_err(PeerError::lost)?;
    Ok((send, recv))
}

/// Dials a peer and tells its link how it went.
async fn dial(mesh: Arc<Mesh>, link: Arc<Link>) {
    let dialled = tokio::time::timeout(HANDSHAKE, connect(&mesh, &link)).await;
    let failure = match dialled {
        Ok(Ok((connection, peer))) => {
            link.install(connection.clone(), peer.clone());
            mesh.tasks.spawn_until_stopped("mesh-peer", serve(Arc::clone(&mesh), Arc::clone(&link), connection, peer));
            None
        }
        Ok(Err(fault)) => Some(fault.to_string()),
        Err(_) => Some(PeerError::TimedOut { after: HANDSHAKE }.to_string()),
    };
    let mut chance = [0];
    // without random numbers the pause is merely not jittered
    let _none = chance::fill(&mut chance);
    link.dialled(failure, clock::instant(), chance[0]);
}

async fn connect(mesh: &Mesh, link: &Link) -> Result<(Connection, PeerIdentity), PeerError> {
    let node = &link.node;
    let address = mesh.members.load().address(node).ok_or_else(|| PeerError::UnknownNode { node: node.clone() })?;
    let dialer = mesh.dialers.load().of(link.lane);
    // the certificate's node name is checked against this one
    let connecting = mesh.endpoint.connect_with(dialer, address, node.as_str()).map_err(PeerError::lost)?;
    let connection = connecting.await.map_err(PeerError::lost)?;
    let peer = mesh.identify(&connection)?;
    Ok((connection, peer))
}

async fn accept(mesh: Arc<Mesh>) {
    while let Some(incoming) = mesh.endpoint.accept().await {
        match Arc::clone(&mesh.handshakes).try_acquire_owned() {
            Ok(permit) => {
                let mesh_of_task = Arc::clone(&mesh);
                mesh.tasks.spawn_until_stopped("mesh-handshake", async move {
                    greet(&mesh_of_task, incoming).await;
                    drop(permit);
                });
            }
            // more handshakes than a fleet has nodes: only who proves its address may wait for its turn
            Err(_) if incoming.may_retry() => drop(incoming.retry()),
            Err(_) => incoming.refuse(),
        }
    }
}

/// Lets one peer in, or not.
async fn greet(mesh: &Arc<Mesh>, incoming: Incoming) {
    let from = incoming.remote_address();
    let handshake = async {
        let connection = incoming.accept().map_err(PeerError::lost)?.await.map_err(PeerError::lost)?;
        let peer = mesh.identify(&connection)?;
        Ok::<_, PeerError>((connection, peer))
    };
    let greeted = tokio::time::timeout(HANDSHAKE, handshake).await;
    match greeted.unwrap_or(Err(PeerError::TimedOut { after: HANDSHAKE })) {
        Ok((connection, peer)) => {
            let Ok(link) = mesh.link_of(&peer.node, trust::lane(&connection)) else { return };
            link.install(connection.clone(), peer.clone());
            mesh.tasks.spawn_until_stopped("mesh-peer", serve(Arc::clone(mesh), link, connection, peer));
        }
        Err(fault) => tracing::warn!(%from, %fault, "refused a connection to the mesh"),
    }
}

/// Takes what a peer sends on one connection, until it ends.
async fn serve(mesh: Arc<Mesh>, link: Arc<Link>, connection: Connection, peer: PeerIdentity) {
    tracing::debug!(%peer, "connected");
    let reason = loop {
        tokio::select! {
            // neither starves the other: what a peer may have open or queued at once is bounded
            biased;
            stream = connection.accept_bi() => match stream {
                Ok(stream) => {
                    let answered = answer(Arc::clone(&mesh), peer.clone(), link.lane, stream);
                    mesh.tasks.spawn_until_stopped("mesh-stream", answered);
                }
                Err(reason) => break reason,
            },
            datagram = connection.read_datagram() => match datagram {
                Ok(datagram) => probe::handle_datagram(&mesh, &link, &connection, &datagram),
                Err(reason) => break reason,
            },
        }
    };
    tracing::debug!(%peer, %reason, "disconnected");
    link.lost(&connection);
}

/// Reads what a stream is for and hands it on.
async fn answer(mesh: Arc<Mesh>, peer: PeerIdentity, lane: Lane, (send, mut recv): Stream) {
    let mut head = [0; 2];
    let read = tokio::time::timeout(STREAM_HEAD, recv.read_exact(&mut head)).await;
    let kind = match (read, head) {
        (Ok(Ok(())), [VERSION, kind]) => Kind::from_byte(kind).filter(|kind| kind.lane() == lane),
        _ => None,
    };
    // streams without an answer end here: dropping both halves resets them
    let Some(kind) = kind else { return };
    let Some(answer) = mesh.answers.read().get(&kind).cloned() else { return };
    answer.answer(peer, (send, recv)).await;
}
