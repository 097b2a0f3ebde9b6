//! Origins that do as a test says, byte by byte, and the configuration that leads to them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use region_config::{
    Config, Deadlines, HostPattern, JurisdictionId, Limits, NodeConfig, NodeId, Origin, OriginProtocol, Region,
    RegionId, Site, SiteId, TenantId,
};
use rules::residency::{Permit, permit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_util::sync::DropGuard;

use crate::{
    clock,
    origin::{Answer, OriginError, Origins, RequestBody, empty_body},
    tasks::Tasks,
};

/// An origin on loopback that follows a script for each connection.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    open_max: Arc<AtomicUsize>,
    _stop: DropGuard,
}

impl Scripted {
    /// Listens and gives each connection, with its number from 0, to `script`.
    pub(super) async fn start<F, S>(script: F) -> Self
    where
        F: Fn(usize, Wire) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::new();
        let stop = tasks.stopping().drop_guard();
        let counters = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let [accepted, open, open_max] = counters.clone();
        let own = tasks.clone();
        tasks.spawn_until_stopped("scripted-origin", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                open_max.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let (script, open) = (script(number, Wire { stream, pending: Vec::new() }), Arc::clone(&open));
                own.spawn_until_stopped("scripted-connection", async move {
                    script.await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let [accepted, open, open_max] = counters;
        Self { address, accepted, open, open_max, _stop: stop }
    }

    /// Answers every request of every connection with the same bytes.
    pub(super) async fn always(answer: &'static str) -> Self {
        Self::start(move |_, mut wire| async move {
            while wire.head().await.is_some() {
                wire.say(answer).await;
            }
        })
        .await
    }

    /// Answers the first request of each connection with these bytes and closes.
    pub(super) async fn once(answer: &'static str) -> Self {
        Self::start(move |_, mut wire| async move {
            if wire.head().await.is_some() {
                wire.say(answer).await;
            }
        })
        .await
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(super) fn open_max(&self) -> usize {
        self.open_max.load(Ordering::SeqCst)
    }
}

/// One connection in a script's hands.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pending: Vec<u8>,
}

impl Wire {
    /// The next request's head; none at the end of the connection.
    pub(super) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.pending.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if self.stream.read_buf(&mut self.pending).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Everything up to and with `end`.
    pub(super) async fn through(&mut self, end: &[u8]) -> Vec<u8> {
        while !self.pending.ends_with(end) && self.stream.read_buf(&mut self.pending).await.is_ok_and(|bytes| bytes > 0)
        {
        }
        std::mem::take(&mut self.pending)
    }

    /// Everything up to the end of the connection.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        while self.stream.read_buf(&mut self.pending).await.is_ok_and(|bytes| bytes > 0) {}
        std::mem::take(&mut self.pending)
    }

    pub(super) async fn say(&mut self, bytes: &str) {
        drop(self.stream.write_all(bytes.as_bytes()).await);
    }

    /// Closes with RST instead of FIN.
    pub(super) fn reset(self) {
        drop(self.stream.set_zero_linger());
    }
}

/// A port that nobody listens on, for as long as the socket is held.
pub(super) fn deaf() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Waits without doing anything.
pub(super) async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Waits until something is so, at most 5 s.
pub(super) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = clock::instant();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(5), "not within 5 s: {what}");
        pause(5).await;
    }
}

/// An origin at an address, with deadlines for impatient tests.
pub(super) fn at(name: &str, address: SocketAddr) -> Origin {
    Origin {
        name: name.into(),
        tls: false,
        host: address.ip().to_string(),
        port: address.port(),
        host_header: None,
        protocol: OriginProtocol::Http1,
        ca: None,
        identity: None,
        secret: None,
        deadlines: Deadlines { connect_ms: 500, first_byte_ms: 400, between_bytes_ms: 300, total_ms: 5_000 },
        connections_max: 100,
        health: None,
        weight: 1,
        priority: 0,
        breaker_percent: Some(50),
        concurrency_max: 1_024,
        fetches_per_second: None,
    }
}

/// A configuration with one site, `shop`.
pub(super) fn config(origins: Vec<Origin>) -> Config {
    let jurisdiction = JurisdictionId::parse("eu").unwrap();
    let region = RegionId::parse("north").unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let site = Site {
        name: SiteId::parse("shop").unwrap(),
        tenant: tenant.clone(),
        hosts: vec![HostPattern::Any],
        pin: None,
        origins,
        routes: Vec::new(),
        tls: None,
        dns_ttl_s: 30,
        steering: region_config::SiteSteering::default(),
        https_port: 443,
        purge_by_response: false,
        misrouted_to: None,
        misrouted_tls: region_config::MisroutedTls::Refuse,
        cache_status: region_config::StatusFor::All,
        failover_on: Vec::new(),
    };
    Config {
        node: NodeConfig {
            name: NodeId::parse("n1").unwrap(),
            region: region.clone(),
            state_dir: PathBuf::new(),
            http: Vec::new(),
            https: Vec::new(),
            dns: Vec::new(),
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
        jurisdictions: Vec::new(),
        regions: vec![Region {
            name: region,
            latitude: 0.0,
            longitude: 0.0,
            jurisdiction,
            capacity_per_second: None,
            nodes: Vec::new(),
        }],
        zones: Vec::new(),
        tenants: vec![region_config::Tenant::new(tenant)],
        sites: vec![Arc::new(site)],
        tokens: Vec::new(),
        witnesses: Vec::new(),
        streams: Vec::new(),
        fingerprint: [0; 32],
    }
}

/// A house with one site, and what is needed to ask its origins.
pub(super) struct House {
    pub(super) origins: Arc<Origins>,
    pub(super) site: SiteId,
    pub(super) permit: Permit,
    pub(super) tasks: Tasks,
}

impl House {
    pub(super) fn new(origins: Vec<Origin>) -> Self {
        let config = config(origins);
        let tasks = Tasks::new();
        let site = &config.sites[0];
        let here = JurisdictionId::parse("eu").unwrap();
        let permit = permit(site, &here).unwrap();
        let origins = Origins::start(&config, &here, tasks.clone()).unwrap();
        Self { origins, site: site.name.clone(), permit, tasks }
    }

    pub(super) async fn send(&self, request: Request<RequestBody>) -> Result<Answer, OriginError> {
        self.origins.send(&self.site, request, &self.permit).await
    }

    /// GET, to the head.
    pub(super) async fn get(&self) -> Result<Answer, OriginError> {
        self.send(request(Method::GET, empty_body())).await
    }

    /// GET, to the end: status and body.
    pub(super) async fn whole(&self) -> Result<(u16, Bytes), OriginError> {
        let (parts, body) = self.get().await?.response.into_parts();
        Ok((parts.status.as_u16(), body.collect().await?.to_bytes()))
    }
}

/// A request as the spine would hand it over.
pub(super) fn request(method: Method, body: RequestBody) -> Request<RequestBody> {
    let builder = Request::builder().method(method).uri("/a/b?c=d").header("host", "shop.test").header("x-own", "1");
    builder.body(body).unwrap()
}
