#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "how long it took is worth reading when a deadline is missed")]
//! Whole meshes on loopback, in one process. A node dies as with kill -9: its socket falls silent, both ways.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use region_config::{
    Config, Identity, Jurisdiction, JurisdictionId, Limits, Node, NodeConfig, NodeId, Region, RegionId,
};
use rules::health::{NodeState, Readiness, RegionState};

use super::{mesh::Footing, *};
use crate::{clock, tasks::Tasks};

/// A socket that can be cut off.
struct Wire {
    socket: Arc<dyn AsyncUdpSocket>,
    cut: Arc<AtomicBool>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl AsyncUdpSocket for Wire {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.cut.load(Ordering::SeqCst) { Ok(()) } else { self.socket.try_send(transmit) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = ready!(self.socket.poll_recv(cx, bufs, meta));
            if !self.cut.load(Ordering::SeqCst) {
                return Poll::Ready(received);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

struct Running {
    mesh: Arc<Mesh>,
    health: Arc<Health>,
    tasks: Tasks,
    cut: Arc<AtomicBool>,
}

/// A fleet's sockets, config and certificates.
struct Ground {
    dir: tempfile::TempDir,
    sockets: Vec<Option<UdpSocket>>,
    config: Config,
}

const REGIONS: [&str; 3] = ["eu", "us", "ap"];

fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

fn config(addresses: &[SocketAddr]) -> Config {
    let region = |index: usize| Region {
        name: RegionId::parse(REGIONS[index]).unwrap(),
        latitude: 0.0,
        longitude: 0.0,
        jurisdiction: JurisdictionId::parse(REGIONS[index]).unwrap(),
        capacity_per_second: None,
        nodes: (0..2)
            .map(|n| Node {
                name: node(&format!("{}-{n}", REGIONS[index])),
                peer: addresses.get(index * 2 + n).copied(),
                addresses: vec![],
            })
            .filter(|node| node.peer.is_some())
            .collect(),
    };
    Config {
        node: NodeConfig {
            name: node("eu-0"),
            region: RegionId::parse("eu").unwrap(),
            state_dir: PathBuf::new(),
            http: vec![],
            https: vec![],
            dns: vec![],
            dns_terms: region_config::DnsTerms::default(),
            admin: None,
            peer: None,
            identity: None,
            workers: 1,
            memory_bytes: 0,
            disk_bytes: 0,
            geo: region_config::Geo::default(),
            access_log: None,
            purge: None,
            resolvers: Vec::new(),
            limits: Limits::default(),
        },
        jurisdictions: REGIONS
            .iter()
            .map(|name| Jurisdiction { name: JurisdictionId::parse(name).unwrap(), countries: vec![] })
            .collect(),
        regions: (0..addresses.len().div_ceil(2)).map(region).collect(),
        zones: vec![],
        tenants: vec![],
        sites: vec![],
        tokens: Vec::new(),
        witnesses: vec![],
        streams: vec![],
        fingerprint: [7; 32],
    }
}

fn certificate(dir: &Path, ca: &str, name: &str, region: &str, jurisdiction: &str) -> Identity {
    let (region, jurisdiction) = (RegionId::parse(region).unwrap(), JurisdictionId::parse(jurisdiction).unwrap());
    if !dir.join(ca).exists() {
        ca::init(&dir.join(ca), "demo").unwrap();
    }
    let out = dir.join(format!("{ca}-{region}-{jurisdiction}"));
    let issued = ca::issue(&dir.join(ca), &node(name), &region, &jurisdiction, &out).unwrap();
    Identity { ca: issued.ca, certificate: issued.certificate, key: issued.key }
}

impl Ground {
    fn new(nodes: usize) -> Self {
        let sockets: Vec<_> = (0..nodes).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let dir = tempfile::tempdir().unwrap();
        Self { dir, sockets: sockets.into_iter().map(Some).collect(), config: config(&addresses) }
    }

    /// The config of one node, with a certificate of its own.
    fn config_of(&self, index: usize, ca: &str) -> Config {
        let mut config = self.config.clone();
        let region = &config.regions[index / 2];
        let name = region.nodes[index % 2].name.clone();
        config.node.identity =
            Some(certificate(self.dir.path(), ca, name.as_str(), region.name.as_str(), region.jurisdiction.as_str()));
        config.node.peer = region.nodes[index % 2].peer;
        config.node.region = region.name.clone();
        config.node.name = name;
        config
    }

    fn start(&mut self, index: usize, ca: &str) -> Running {
        let config = self.config_of(index, ca);
        let socket = self.sockets[index].take().unwrap();
        start(&config, socket)
    }
}

fn start(config: &Config, socket: UdpSocket) -> Running {
    let tasks = Tasks::new();
    let cut = Arc::new(AtomicBool::new(false));
    let wire = Wire { socket: TokioRuntime.wrap_udp_socket(socket).unwrap(), cut: Arc::clone(&cut) };
    let identity = LoadedIdentity::load(config, clock::unix_ms()).unwrap();
    let mesh = Mesh::bind_on(Footing::of(Arc::new(wire)), config, &identity, tasks.clone()).unwrap();
    mesh.register(Kind::Ledger, Arc::new(EchoAnswer));
    let health = Health::start(config, Some(Arc::clone(&mesh)), tasks.clone());
    mesh.start();
    Running { mesh, health, tasks, cut }
}

/// Answers with what it was sent, prefixed with who sent it.
struct EchoAnswer;

impl Answer for EchoAnswer {
    fn answer(self: Arc<Self>, peer: PeerIdentity, (mut send, mut recv): Stream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Ok(said) = read_frame(&mut recv, 1 << 16).await else { return };
            let answer = [peer.to_string().as_bytes(), b" ", &said].concat();
            write_frame(&mut send, &answer).await.unwrap();
            send.finish().unwrap();
        })
    }
}

impl Running {
    fn states(&self) -> Vec<RegionState> {
        self.health.fleet().regions.iter().map(|region| region.state).collect()
    }

    fn node(&self, region: usize, index: usize) -> NodeState {
        self.health.fleet().regions[region].nodes[index].state
    }
}

async fn until(what: &str, patience: Duration, condition: impl Fn() -> bool) -> Duration {
    let began = crate::clock::instant();
    while !condition() {
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

const S: Duration = Duration::from_secs(1);

use RegionState::{Down, Draining, Up};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_region_is_down_for_all_others_and_comes_back() {
    let mut ground = Ground::new(6);
    let nodes: Vec<_> = (0..6).map(|index| ground.start(index, "ca")).collect();
    let converged = |nodes: &[Running]| nodes.iter().all(|node| node.states() == [Up, Up, Up]);
    let took = until("all up", 10 * S, || converged(&nodes)).await;
    println!("converged in {took:?}");
    assert!(nodes.iter().all(|node| !node.health.fleet().minority && node.health.node_up(&super::tests::node("eu-0"))));

    nodes[..2].iter().for_each(|node| node.cut.store(true, Ordering::SeqCst));
    let alive = &nodes[2..];
    let nodes_down = until("nodes down", 3 * S, || {
        alive.iter().all(|node| (0..2).all(|index| node.node(0, index) == NodeState::Down))
    })
    .await;
    let region_down =
        until("region down", S, || alive.iter().all(|node| node.states() == [Down, Up, Up])).await + nodes_down;
    println!("nodes down after {nodes_down:?}, region down after {region_down:?}");
    assert!(region_down < Duration::from_millis(3500), "{region_down:?}");

    // the other side is in the minority: it keeps what it knew
    until("minority", 5 * S, || nodes[..2].iter().all(|node| node.health.fleet().minority)).await;
    assert!(nodes[..2].iter().all(|node| node.states() == [Up, Up, Up]));

    nodes[..2].iter().for_each(|node| node.cut.store(false, Ordering::SeqCst));
    let back = until("back", 12 * S, || converged(&nodes)).await;
    println!("back after {back:?}");
    for node in &nodes {
        assert!(node.tasks.stop(2 * S).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_is_noticed_and_one_that_drains_is_believed() {
    let mut ground = Ground::new(6);
    let nodes: Vec<_> = (0..6).map(|index| ground.start(index, "ca")).collect();
    until("all up", 10 * S, || nodes.iter().all(|node| node.states() == [Up, Up, Up])).await;
    assert_eq!(nodes[0].health.config_of(&node("ap-1")), Some(0x0707_0707_0707_0707));

    nodes[2..4].iter().for_each(|node| node.health.say(Readiness::Draining));
    let draining = until("draining", S, || nodes.iter().all(|node| node.states() == [Up, Draining, Up])).await;
    println!("draining after {draining:?}");

    assert!(nodes[5].tasks.stop(2 * S).await);
    let down = until("node down", 3 * S, || nodes[..5].iter().all(|node| node.node(2, 1) == NodeState::Down)).await;
    println!("a stopped node is down after {down:?}");
    // the other node of its region is there: nobody has to go elsewhere
    assert!(nodes[..5].iter().all(|node| node.states() == [Up, Draining, Up]));
    for node in &nodes[..5] {
        node.tasks.stop(2 * S).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_call_each_other_and_know_who_calls() {
    let mut ground = Ground::new(4);
    let (eu, us) = (ground.start(0, "ca"), ground.start(2, "ca"));
    let answer = eu.mesh.call(&node("us-0"), Kind::Ledger, b"hello", S).await.unwrap();
    assert_eq!(&answer[..], b"eu/eu/eu-0 hello");
    assert_eq!(eu.mesh.jurisdiction_of(&node("us-0")), Some(JurisdictionId::parse("us").unwrap()));
    assert_eq!(us.mesh.jurisdiction_of(&node("us-1")), None);
    assert_eq!(us.mesh.identity().to_string(), "us/us/us-0");

    let unanswered = eu.mesh.call(&node("us-0"), Kind::Counters, b"", S).await;
    assert!(matches!(unanswered, Err(PeerError::Lost { .. } | PeerError::Ended)), "{unanswered:?}");
    let stranger = eu.mesh.call(&node("mars-0"), Kind::Ledger, b"", S).await;
    assert!(matches!(stranger, Err(PeerError::UnknownNode { .. })), "{stranger:?}");
    let large = eu.mesh.call(&node("us-0"), Kind::Ledger, &vec![0; CALL_BYTES_MAX + 1], S).await;
    assert!(matches!(large, Err(PeerError::TooLarge { .. })), "{large:?}");

    // both dial each other many times at once: nothing is lost, and no one ends up with more than a few connections
    let calls = (0..200).map(|n| {
        let (from, to) = if n % 2 == 0 { (&eu, "us-0") } else { (&us, "eu-0") };
        let mesh = Arc::clone(&from.mesh);
        async move { mesh.call(&node(to), Kind::Ledger, b"x", 5 * S).await }
    });
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_costs_only_its_own_caller_and_time() {
    let mut ground = Ground::new(4);
    // us-0 is a socket that swallows, us-1 is not there at all
    let swallows = ground.sockets[2].take().unwrap();
    drop(ground.sockets[3].take());
    let (one, two) = (ground.start(0, "ca"), ground.start(1, "ca"));
    let down = until("black hole down", 4 * S, || {
        [&one, &two].iter().all(|node| node.node(1, 0) == NodeState::Down && node.node(1, 1) == NodeState::Down)
    })
    .await;
    println!("never there: down after {down:?}");
    for there in ["us-0", "us-1"] {
        let began = crate::clock::instant();
        let call = one.mesh.call(&node(there), Kind::Ledger, b"", 3 * S).await;
        assert!(matches!(call, Err(PeerError::Unreachable { .. })), "{call:?}");
        assert!(began.elapsed() < 3 * S);
    }
    one.mesh.call(&node("eu-1"), Kind::Ledger, b"", S).await.unwrap();
    until("the own region stands", 5 * S, || one.states() == [Up, Down]).await;
    drop(swallows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_another_ca_is_refused_both_ways() {
    let mut ground = Ground::new(4);
    let (ours, stranger) = (ground.start(0, "ca"), ground.start(2, "other-ca"));
    for (from, to) in [(&stranger, "eu-0"), (&ours, "us-0")] {
        let call = from.mesh.call(&node(to), Kind::Ledger, b"", 3 * S).await;
        assert!(matches!(call, Err(PeerError::Unreachable { .. } | PeerError::Lost { .. })), "{call:?}");
    }
    assert_eq!(ours.mesh.jurisdiction_of(&node("us-0")), None);
    assert_ne!(ours.node(1, 0), NodeState::Up);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_certified_for_us_that_claims_eu_is_refused_by_itself_and_by_others() {
    let mut ground = Ground::new(4);
    let ours = ground.start(0, "ca");
    // the certificate of eu-1 is for the jurisdiction us
    let mut config = ground.config_of(2, "ca");
    config.node.identity = Some(certificate(ground.dir.path(), "ca", "eu-1", "eu", "us"));
    config.node.name = node("eu-1");
    config.node.region = RegionId::parse("eu").unwrap();
    config.node.peer = ground.config.regions[0].nodes[1].peer;
    let fault = LoadedIdentity::load(&config, clock::unix_ms()).unwrap_err().to_string();
    assert!(fault.contains("jurisdiction `us`") && fault.contains("jurisdiction `eu`"), "{fault}");

    // it changes its own config so that it starts: the others' region table stands against it
    config.regions[0].jurisdiction = JurisdictionId::parse("us").unwrap();
    let mut liar_config = config.clone();
    liar_config.regions[0].nodes.remove(0);
    liar_config.regions[1].nodes[0] = Node { name: node("eu-0"), ..ground.config.regions[0].nodes[0].clone() };
    liar_config.regions[1].jurisdiction = JurisdictionId::parse("eu").unwrap();
    liar_config.regions[1].name = RegionId::parse("eu").unwrap();
    liar_config.regions[0].name = RegionId::parse("eu").unwrap();
    let liar = start(&liar_config, ground.sockets[1].take().unwrap());
    let call = liar.mesh.call(&node("eu-0"), Kind::Ledger, b"", 3 * S).await;
    assert!(call.is_err(), "{call:?}");
    let call = ours.mesh.call(&node("eu-1"), Kind::Ledger, b"", 3 * S).await.unwrap_err().to_string();
    assert!(call.contains("certificate is for jurisdiction `us`, but the config claims jurisdiction `eu`"), "{call}");
    assert_eq!(ours.mesh.jurisdiction_of(&node("eu-1")), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_at_an_address_must_be_the_one_that_was_meant() {
    let mut ground = Ground::new(4);
    let ours = ground.start(0, "ca");
    // us-1 runs where us-0 should be
    let mut config = ground.config_of(3, "ca");
    config.node.peer = ground.config.regions[1].nodes[0].peer;
    let _wrong = start(&config, ground.sockets[2].take().unwrap());
    let call = ours.mesh.call(&node("us-0"), Kind::Ledger, b"", 3 * S).await;
    assert!(matches!(call, Err(PeerError::Unreachable { .. })), "{call:?}");
    assert_eq!(ours.mesh.jurisdiction_of(&node("us-0")), None);
}

/// Row N5: a small machine whose processor is taken away finds its own timers late, and blames nobody for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starved_node_marks_no_peer_dead() {
    let mut ground = Ground::new(4);
    let _others: Vec<_> = (1..4).map(|index| ground.start(index, "ca")).collect();
    let config = ground.config_of(0, "ca");
    let socket = ground.sockets[0].take().unwrap();
    let starved = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let node = start(&config, socket);
            let others_up = || [(0, 1), (1, 0), (1, 1)].map(|(region, index)| node.node(region, index));
            until("all up", 5 * S, || others_up() == [NodeState::Up; 3]).await;
            for round in 0..14 {
                // this thread runs for a few milliseconds out of half a second
                std::thread::sleep(Duration::from_millis(520));
                tokio::time::sleep(Duration::from_millis(4)).await;
                assert_eq!(others_up(), [NodeState::Up; 3], "round {round}");
            }
        });
    });
    assert!(tokio::task::spawn_blocking(|| starved.join()).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_fleet_of_one_is_up_without_a_mesh() {
    let config = config(&["127.0.0.1:1".parse().unwrap()]);
    let health = Health::start(&config, None, Tasks::new());
    assert!(health.node_up(&node("eu-0")) && !health.node_up(&node("us-0")));
    assert_eq!(health.fleet().regions[0].state, Up);
}

#[tokio::test]
async fn faults_of_the_identity_say_what_and_where() {
    let ground = Ground::new(4);
    let config = ground.config_of(0, "ca");
    let files = config.node.identity.clone().unwrap();
    let load = |config: &Config| LoadedIdentity::load(config, clock::unix_ms()).unwrap_err().to_string();
    let at = |seconds: u64| LoadedIdentity::load(&config, clock::unix_ms() + seconds * 1000).unwrap_err().to_string();

    let expired = at(500 * 86_400);
    assert!(expired.contains("expired at") && expired.contains("eu-0.pem"), "{expired}");
    let not_yet = LoadedIdentity::load(&config, 0).unwrap_err().to_string();
    assert!(not_yet.contains("valid only from"), "{not_yet}");

    let with = |files: Identity| {
        let mut config = config.clone();
        config.node.identity = Some(files);
        config
    };
    let other = ground.config_of(2, "ca").node.identity.unwrap();
    let wrong_key = load(&with(Identity { key: other.key.clone(), ..files.clone() }));
    assert!(wrong_key.contains("us-0.key") && wrong_key.contains("does not belong"), "{wrong_key}");
    let another_node = load(&with(other));
    assert!(another_node.contains("node `us-0`") && another_node.contains("node `eu-0`"), "{another_node}");
    let foreign = ground.config_of(0, "other-ca").node.identity.unwrap();
    let stranger = load(&with(Identity { ca: files.ca.clone(), ..foreign }));
    assert!(stranger.contains("not signed by this cluster's CA"), "{stranger}");
    let missing = load(&with(Identity { key: "/nowhere/key".into(), ..files.clone() }));
    assert!(missing.contains("/nowhere/key"), "{missing}");
    let not_a_certificate = load(&with(Identity { certificate: files.key.clone(), ..files.clone() }));
    assert!(not_a_certificate.contains("eu-0.key"), "{not_a_certificate}");
    let ca_as_node = load(&with(Identity { certificate: files.ca.clone(), ..files }));
    assert!(ca_as_node.contains("certificate"), "{ca_as_node}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_taken_up_without_a_restart() {
    let mut ground = Ground::new(4);
    let (eu, us) = (ground.start(0, "ca"), ground.start(2, "ca"));
    let files = eu.mesh.config.load().node.identity.clone().unwrap();
    let before = eu.mesh.not_after_unix_s();
    // its end is told in whole seconds
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let renewed = ground.dir.path().join("renewed");
    let (region, jurisdiction) = (RegionId::parse("eu").unwrap(), JurisdictionId::parse("eu").unwrap());
    let issued = ca::issue(&ground.dir.path().join("ca"), &node("eu-0"), &region, &jurisdiction, &renewed).unwrap();
    std::fs::rename(&issued.certificate, &files.certificate).unwrap();
    let half = reload::take_up(&eu.mesh);
    assert!(half.is_err(), "a certificate without its key must not be taken up");
    std::fs::rename(&issued.key, &files.key).unwrap();
    reload::take_up(&eu.mesh).unwrap();
    assert!(eu.mesh.not_after_unix_s() > before);
    eu.mesh.link(&node("us-0")).unwrap().close(b"test");
    us.mesh.link(&node("eu-0")).unwrap().close(b"test");
    let answer = us.mesh.call(&node("eu-0"), Kind::Ledger, b"hello", 3 * S).await.unwrap();
    assert_eq!(&answer[..], b"us/us/us-0 hello");
}
