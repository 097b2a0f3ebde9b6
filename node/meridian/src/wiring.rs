//! Puts the parts of a node together, runs it, and takes it apart again: the only file that knows them all.

mod reload;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use region_config::{Config, JurisdictionId, Tenant, TenantId};
use rules::{caching::status::CacheName, health::Readiness, key::Secret, residency};
use store::objects::{Objects, Quota, Settings, Share, StoreError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    admin, clock, console,
    dns::{self, DnsFault, TermsFault, ViewFault},
    drain::{self, Drain, Plan},
    edge::{Edge, EdgeFault, keyed, listener::Doors, sites::Sites, tls::EdgeTls},
    fill::{coded::Codings, flight::Flights, owner::Owner, slices::Slices},
    geo::{self, GeoFault},
    ledger::{Ledgers, LedgersFault},
    observe::{AccessLog, Observe, collectors},
    origin::{OriginFault, Origins},
    peers::{Health, IdentityFault, Kind, LoadedIdentity, Mesh, PeerError},
    snapshot::{Here, Shared},
    sweep,
    tasks::Tasks,
};

/// How long requests under way may take when the node stops.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What fills under way may hold of bodies that the store has, as a part of the store's memory.
const FILLS_DIVISOR: u64 = 4;

/// How often certificates are looked at for changes.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(10);

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its folder.
    #[error("state folder {}: {source}", dir.display())]
    State {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Its runtime.
    #[error("starting the runtime: {0}")]
    Runtime(io::Error),
    /// Its listeners.
    #[error(transparent)]
    Edge(#[from] EdgeFault),
    /// Its identity.
    #[error(transparent)]
    Identity(#[from] IdentityFault),
    /// The mesh.
    #[error(transparent)]
    Peers(#[from] PeerError),
    /// The object store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgersFault),
    /// The origins.
    #[error(transparent)]
    Origin(#[from] OriginFault),
    /// TLS for clients.
    #[error("TLS for clients: {0}")]
    Tls(#[from] rustls::Error),
    /// The geo database.
    #[error(transparent)]
    Geo(#[from] GeoFault),
    /// What DNS answers from.
    #[error(transparent)]
    View(#[from] ViewFault),
    /// DNS.
    #[error(transparent)]
    Dns(#[from] DnsFault),
    /// The terms that DNS is answered on.
    #[error(transparent)]
    Terms(#[from] TermsFault),
    /// The admin interface.
    #[error(transparent)]
    Admin(#[from] admin::ServeFault),
    /// The admin token.
    #[error(transparent)]
    Token(#[from] admin::TokenFault),
    /// The audit of purges.
    #[error(transparent)]
    Audit(#[from] store::ledger::LedgerError),
    /// The certificate for applications.
    #[error(transparent)]
    Door(#[from] admin::DoorTlsFault),
    /// The access log.
    #[error("access log {}: {source}", path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

/// Runs a node until it is told to stop (SIGTERM or SIGINT). SIGHUP makes it take its config folder anew.
///
/// # Errors
/// Why it could not start.
pub fn run(config_dir: &Path, config: Config) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("node")
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    runtime.block_on(async {
        // heard from here on: a SIGHUP that came earlier than its handler would end the process
        let mut signals = Signals::hear().map_err(RunError::Runtime)?;
        let node = tokio::select! {
            started = Running::start(config) => started?,
            () = signals.stop() => return Ok(()),
        };
        node.until_told(&mut signals, config_dir).await;
        node.stop().await;
        Ok(())
    })
}

/// The signals that a node listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal says.
enum Told {
    Stop,
    Reload,
}

impl Signals {
    fn hear() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

/// A node that runs.
struct Running {
    shared: Arc<Shared>,
    edge: Edge,
    tls: Arc<EdgeTls>,
    dns: Option<Dns>,
    drain: Arc<Drain>,
    geo: Arc<geo::Watch>,
    tasks: Tasks,
}

/// What DNS answers from, and where the node answers. A node that answers none has it too where demand is counted by it.
struct Dns {
    server: Option<dns::Server>,
    view: Arc<ArcSwap<dns::View>>,
}

impl Running {
    async fn start(config: Config) -> Result<Self, RunError> {
        let tasks = Tasks::new();
        // listeners first: a used port is told before anything is opened
        let doors = Doors::bind(&config.node)?;
        let admin = match config.node.admin {
            Some(address) => Some(admin::Server::bind(address).await?),
            None => None,
        };
        let applications = applications(&config).await?;
        let state = &config.node.state_dir;
        let secret = secret(state).map_err(|source| RunError::State { dir: state.clone(), source })?;
        let mesh = match &config.node.peer {
            Some(_) => {
                let identity = LoadedIdentity::load(&config, clock::unix_ms())?;
                Some(Mesh::bind(&config, identity, tasks.clone())?)
            }
            None => None,
        };
        let here = here(&config, mesh.as_deref());
        let observe = Observe::new(&config, access_log(&config)?);
        observe.start(&tasks);
        let ledgers = Ledgers::open(&config, &here.jurisdiction, mesh.clone(), tasks.clone()).await?;
        ledgers.watch_clocks(&tasks);
        let fault = |source| RunError::State { dir: state.clone(), source };
        forget_other_lives(state, &ledgers).map_err(fault)?;
        let objects = Objects::open(Settings {
            dir: (config.node.disk_bytes > 0).then(|| state.join("objects")),
            memory_bytes: config.node.memory_bytes,
            disk_bytes: config.node.disk_bytes,
        })
        .await?;
        objects.share(&shares(&config));
        let health = Health::start(&config, mesh.clone(), tasks.clone());
        let origins = Origins::start(&config, &here.jurisdiction, tasks.clone())?;
        let (tls, faults) = EdgeTls::load(&config, &permits(&config, &here.jurisdiction))?;
        for fault in faults {
            tracing::error!(%fault, "a certificate");
        }
        let sites = Sites::compile(&config, &here.jurisdiction, &ledgers, &observe);
        let fills_bytes = config.node.memory_bytes / FILLS_DIVISOR;
        let wanted = config.clone();
        let loading = tokio::task::spawn_blocking(move || geo_base(&wanted));
        let geo = loading.await.map_err(|error| RunError::Runtime(io::Error::other(error)))??;
        let node = here.node.clone();
        let shared = Arc::new(Shared {
            sites: ArcSwap::from_pointee(sites),
            started_with: Arc::new(config.clone()),
            config: Arc::new(ArcSwap::from_pointee(config)),
            refused: ArcSwapOption::empty(),
            secret,
            objects,
            flights: Flights::new(fills_bytes),
            slices: Slices::default(),
            codings: Codings::default(),
            origins,
            ledgers,
            health,
            geo: Arc::new(ArcSwapOption::new(geo)),
            observe,
            load: Arc::default(),
            mesh,
            via: HeaderValue::try_from(format!("1.1 {node}.meridian"))
                .unwrap_or_else(|_| HeaderValue::from_static("1.1 meridian")),
            cache_name: CacheName::new(&node),
            here,
            started_unix_ms: clock::unix_ms(),
            tasks: tasks.clone(),
        });
        let drain = Drain::new();
        let geo = geo::Watch::new(Arc::clone(&shared.config), Arc::clone(&shared.geo));
        let parts = console::parts(&shared, &geo);
        if let Some(mesh) = &shared.mesh {
            mesh.register(Kind::Fetch, Owner::new(Arc::clone(&shared)));
            let reporter =
                admin::Reporter::new(Arc::clone(&shared.observe), Arc::clone(&parts), Arc::clone(&shared.ledgers));
            mesh.register(Kind::Counters, reporter);
            mesh.start();
        }
        console::register_figures(&shared);
        shared.observe.register(collectors::geo(Arc::clone(&geo)));
        sweep::start(&shared);
        let dns = dns_front(&shared, &tasks)?;
        let tls = Arc::new(tls);
        let edge = Edge::open(doors, &shared, Arc::clone(&tls))?;
        if let Some(mesh) = &shared.mesh {
            mesh.register(Kind::Relay, edge.desk());
        }
        if admin.is_some() || !applications.is_empty() {
            let state = shared.config.load().node.state_dir.clone();
            let token = admin::Token::load_or_create(&state)?;
            let desk = admin::purges::Desk::open(&state, shared.here.node.as_str(), &shared.ledgers, &tasks)?;
            let steered = match &dns {
                Some(dns) => console::steered(&shared, &dns.view),
                None => console::not_steered(),
            };
            let context = console::context(&shared, &geo, token, parts, steered, desk, &drain);
            if let Some(mesh) = &shared.mesh {
                mesh.register(Kind::Purges, admin::purges::Teller::new(&context));
            }
            if let Some(server) = admin {
                let address = server.address();
                server.start(admin::router(&context), None, &tasks);
                tracing::info!(%address, token_file = %token_file(&shared).display(), "admin interface");
            }
            if let Some(tls) = applications.first().and_then(|(_, tls)| tls.as_ref()) {
                tls.watch(&tasks);
            }
            for (server, tls) in applications {
                tracing::info!(address = %server.address(), tls = tls.is_some(), "purges of applications");
                server.start(admin::purge_router(&context), tls, &tasks);
            }
        }
        let node = Self { shared, edge, tls, dns, drain, geo, tasks };
        node.tell_when_ready();
        node.watch_certificates();
        Ok(node)
    }

    /// Says to the fleet that this node is starting, and that it is ready once it has caught up.
    fn tell_when_ready(&self) {
        let (shared, drain) = (Arc::clone(&self.shared), Arc::clone(&self.drain));
        shared.health.say(Readiness::Starting);
        self.tasks.spawn_until_stopped("ready", async move {
            while !shared.ledgers.caught_up() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if drain.now().0 == drain::Phase::Serving {
                shared.health.say(Readiness::Ready);
            }
            let here = &shared.here;
            tracing::info!(node = %here.node, region = %here.region, jurisdiction = %here.jurisdiction, "ready");
        });
    }

    /// Takes new certificates from the disk without a restart.
    fn watch_certificates(&self) {
        let (shared, tls) = (Arc::clone(&self.shared), Arc::clone(&self.tls));
        self.tasks.spawn_until_stopped("certificates", async move {
            loop {
                tokio::time::sleep(CERTIFICATES_EVERY).await;
                let (shared, tls) = (Arc::clone(&shared), Arc::clone(&tls));
                let looked = tokio::task::spawn_blocking(move || {
                    let config = shared.config.load();
                    tls.poll(&config, &permits(&config, &shared.here.jurisdiction)).unwrap_or_default()
                });
                for fault in looked.await.unwrap_or_default() {
                    tracing::error!(%fault, "a certificate");
                }
            }
        });
    }

    /// Waits for the signal to stop, or until the node has left in order; takes the config anew at each SIGHUP, and other
    /// geo databases as they come. One after the other, so that nothing made of an older config or database can come after
    /// what was made of a newer one.
    async fn until_told(&self, signals: &mut Signals, config_dir: &Path) {
        let mut databases = self.geo.start(&self.tasks);
        let left = self.leave();
        tokio::pin!(left);
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::Stop => return,
                    Told::Reload => self.reload(config_dir).await,
                },
                Some(newer) = databases.recv() => self.know_places(&newer.base).await,
                () = &mut left => return,
            }
        }
    }

    /// Once it is ordered: out of DNS, two TTLs, and until the clients are gone.
    async fn leave(&self) {
        let Plan { mut wait, finish } = self.drain.ordered().await;
        let began = clock::instant();
        self.shared.health.say(Readiness::Draining);
        tracing::info!(wait_s = wait.as_secs(), "draining: out of DNS");
        loop {
            tokio::select! {
                () = tokio::time::sleep_until((began + wait).into()) => break,
                shorter = self.drain.ordered() => wait = shorter.wait,
            }
        }
        self.drain.leaving();
        self.edge.leave();
        let left = clock::instant();
        tracing::info!(connections = self.edge.connections(), "draining: clients are asked to go");
        while self.edge.connections() > 0 && clock::instant().duration_since(left) < finish {
            tokio::time::sleep(drain::LOOK_EVERY).await;
        }
    }

    /// Takes the node apart: clients first, so that requests under way find everything they need.
    async fn stop(self) {
        tracing::info!("stopping");
        self.shared.health.say(Readiness::Draining);
        self.edge.close(STOP_PATIENCE).await;
        self.tasks.stop(STOP_PATIENCE).await;
        self.shared.objects.close().await;
        if let Some(log) = self.shared.observe.access_log() {
            log.close();
        }
        tracing::info!("stopped");
    }
}

/// The listeners for applications, each with its certificate.
async fn applications(config: &Config) -> Result<Vec<(admin::Server, Option<Arc<admin::DoorTls>>)>, RunError> {
    let Some(door) = &config.node.purge else { return Ok(Vec::new()) };
    let tls = door.tls.clone().map(admin::DoorTls::load).transpose()?;
    let mut servers = Vec::new();
    for address in &door.listen {
        servers.push((admin::Server::bind(*address).await?, tls.clone()));
    }
    Ok(servers)
}

/// Who this node is: by its certificate where it has one, else by its config.
fn here(config: &Config, mesh: Option<&Mesh>) -> Here {
    if let Some(mesh) = mesh {
        let peer = mesh.identity();
        return Here { node: peer.node.clone(), region: peer.region.clone(), jurisdiction: peer.jurisdiction.clone() };
    }
    let node = &config.node;
    let region = config.regions.iter().find(|region| region.name == node.region).unwrap_or(&config.regions[0]);
    Here { node: node.name.clone(), region: node.region.clone(), jurisdiction: region.jurisdiction.clone() }
}

/// The permits of a node certified for `here`.
fn permits(config: &Config, here: &JurisdictionId) -> Vec<residency::Permit> {
    config.sites.iter().filter_map(|site| residency::permit(site, here).ok()).collect()
}

fn access_log(config: &Config) -> Result<Option<Arc<AccessLog>>, RunError> {
    let Some(path) = &config.node.access_log else { return Ok(None) };
    let log = AccessLog::open(path).map_err(|source| RunError::AccessLog { path: path.clone(), source })?;
    Ok(Some(log))
}

fn token_file(shared: &Shared) -> PathBuf {
    shared.config.load().node.state_dir.join(admin::TOKEN_FILE)
}

/// The secret behind this node's cache keys: drawn once, kept in the state folder.
fn secret(state_dir: &Path) -> io::Result<Secret> {
    std::fs::create_dir_all(state_dir)?;
    let path = state_dir.join("cache.secret");
    match std::fs::read(&path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(bytes) => return Ok(Secret(bytes)),
            // a new one makes the disk cache unreadable, which is an empty cache and not a wrong one
            Err(_) => {
                tracing::warn!(file = %path.display(), "not 16 bytes long: drawn anew, the disk cache starts empty")
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    write_private(&path, &bytes)?;
    Ok(Secret(bytes))
}

/// The stamps of stored objects are positions of this node's ledgers. If those began a new life (a lost or replaced file),
/// the stamps mean nothing any more, and the stored objects go.
fn forget_other_lives(state_dir: &Path, ledgers: &Ledgers) -> io::Result<()> {
    let lives: Vec<u8> = ledgers.realms().flat_map(|realm| realm.life()).collect();
    let path = state_dir.join("objects.life");
    if std::fs::read(&path).is_ok_and(|known| known == lives) {
        return Ok(());
    }
    match remove_files(&state_dir.join("objects")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_private(&path, &lives)
}

/// The folder stays: it may be where a disk is mounted.
fn remove_files(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What each tenant may use of this node's store.
fn shares(config: &Config) -> Vec<Share> {
    let quota = |written: region_config::Quota, bytes: u64| Quota {
        floor: written.floor.map(|floor| floor.of(bytes)),
        max: written.max.map(|max| max.of(bytes)),
    };
    let sites = |tenant: &TenantId| {
        let own = config.sites.iter().filter(|site| site.tenant == *tenant);
        own.map(|site| site.name.clone()).collect()
    };
    let share = |tenant: &Tenant| Share {
        tenant: tenant.name.clone(),
        sites: sites(&tenant.name),
        memory: quota(tenant.memory, config.node.memory_bytes),
        disk: quota(tenant.disk, config.node.disk_bytes),
    };
    config.tenants.iter().map(share).collect()
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let aside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

/// Loads the geo database, where the config asks for it. Takes its time.
fn geo_base(config: &Config) -> Result<Option<Arc<geo::Base>>, GeoFault> {
    if config.node.dns.is_empty() && !keyed::asks_for_countries(config) && !counts_demand(config) {
        return Ok(None);
    }
    geo::Base::open(&config.node.geo).map(|base| Some(Arc::new(base)))
}

/// Whether any region says what it bears.
fn counts_demand(config: &Config) -> bool {
    config.regions.iter().any(|region| region.capacity_per_second.is_some())
}

/// Opens DNS, where the config asks for it, and begins to share clients out by load.
fn dns_front(shared: &Shared, tasks: &Tasks) -> Result<Option<Dns>, RunError> {
    let config = shared.config.load_full();
    let answers = !config.node.dns.is_empty();
    let Some(base) = shared.geo.load_full().filter(|_| answers || counts_demand(&config)) else { return Ok(None) };
    let view = Arc::new(ArcSwap::from_pointee(dns::View::compile(&config, &base)?));
    shared.load.start(Arc::clone(&view), Arc::clone(&shared.health), tasks);
    if !answers {
        return Ok(Some(Dns { server: None, view }));
    }
    let terms = dns::Terms::load(&config.node.dns_terms)?;
    let server = dns::Server::bind(&config.node.dns, Arc::clone(&view), shared.health.shared(), terms, tasks)?;
    shared.observe.register(collectors::dns(server.counters()));
    Ok(Some(Dns { server: Some(server), view }))
}
