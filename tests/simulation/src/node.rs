//! One node: its real ledger, and a cache and fills that follow the same rules as the node's own (`edge/spine.rs`,
//! `fill/upstream.rs`, `fill/owner.rs`), without HTTP around them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, StatusCode};
use meridian::{
    clock,
    ledger::{Ledgers, Purge, Realm},
    peers::{self, Kind, PeerIdentity, Stream},
    simulation::{self, Ends, Links, inside},
    tasks::Tasks,
};
use parking_lot::Mutex;
use region_config::{NodeId, RealmId, SiteId};
use rules::{
    key,
    purge::{
        Acknowledged, NodeReceipt, Position, PurgeId, PurgeKey, SiteGuard, Standing, Wait,
        fill::{self, Made, Vouch},
    },
};
use tokio::{sync::Notify, time::sleep};
use wire::fetch::{Answered, Ask};

use crate::{
    fleet,
    log::{Event, From, Level, NAMES, NODES, REGIONS, body, hash},
    net::{Incoming, jurisdiction, node_id, port},
    quic,
    stage::{Carrier, NodeWorld, Planted, Stage},
};

/// Fills that one request may take part in, as in the spine.
const ROUNDS_MAX: usize = 4;
/// Longest wait for another node's answer.
const HEAD_WAIT: Duration = Duration::from_secs(4);
/// Longest wait for the origin.
const ORIGIN_WAIT: Duration = Duration::from_secs(3);
/// Older copies of a document that a cache's disk may bring back.
const OLD_MAX: usize = 3;

/// A purge, as an application asks for it.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Its id.
    pub id: PurgeId,
    /// What is asked for.
    pub purge: Purge,
    /// The documents that it is about, in the application's own view.
    pub docs: Vec<usize>,
    /// What to wait for.
    pub wait: Wait,
    /// For how long.
    pub timeout: Duration,
    /// Which attempt this is.
    pub tries: u32,
}

/// A document as a node keeps it.
#[derive(Debug)]
pub struct Object {
    version: u64,
    pieces: Vec<String>,
    stamp: Position,
    /// When the origin was last known to say so; 0 if another node said it.
    confirmed_ms: u64,
    verified: AtomicU64,
    keys: Box<[u64]>,
}

/// A cache that outlives a node's runs, and loses, keeps or brings back older copies as it likes when it does.
#[derive(Debug, Default)]
pub struct Shelf {
    life: Option<[u8; 16]>,
    objects: BTreeMap<usize, Arc<Object>>,
    older: BTreeMap<usize, Vec<Arc<Object>>>,
}

impl Shelf {
    fn open(&mut self, life: [u8; 16], rng: &mut Rng) {
        if self.life.replace(life) != Some(life) {
            self.wipe();
        }
        for (doc, older) in &self.older {
            match rng.u8(0..4) {
                0 => drop(self.objects.remove(doc)),
                1 => {}
                _ => {
                    let copy = &older[rng.usize(0..older.len())];
                    let copy = Object {
                        version: copy.version,
                        pieces: copy.pieces.clone(),
                        stamp: copy.stamp,
                        // of a clock that began anew
                        confirmed_ms: 0,
                        verified: AtomicU64::new(copy.stamp.0),
                        keys: copy.keys.clone(),
                    };
                    self.objects.insert(*doc, Arc::new(copy));
                }
            }
        }
        for object in self.objects.values() {
            object.verified.store(object.stamp.0, Relaxed);
        }
    }

    fn keep(&mut self, doc: usize, object: Arc<Object>) {
        let older = self.older.entry(doc).or_default();
        older.push(Arc::clone(&object));
        if older.len() > OLD_MAX {
            older.remove(0);
        }
        self.objects.insert(doc, object);
    }

    /// Loses everything.
    pub fn wipe(&mut self) {
        self.objects.clear();
        self.older.clear();
    }
}

/// A fetch and all who wait for it.
#[derive(Debug)]
struct Flight {
    number: u64,
    made: Made,
    began_ms: u64,
    /// Failed, or the head, which has everything but the certainty that the body comes.
    head: Mutex<Option<Option<Arc<Object>>>>,
    /// Whether the whole body came.
    is_whole: Mutex<Option<bool>>,
    news: Notify,
}

impl Flight {
    fn new(number: u64, made: Made) -> Arc<Self> {
        let began_ms = clock::monotonic_ms();
        Arc::new(Self {
            number,
            made,
            began_ms,
            head: Mutex::default(),
            is_whole: Mutex::default(),
            news: Notify::new(),
        })
    }

    async fn until<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(found) = look(self) {
                return found;
            }
            news.await;
        }
    }

    fn announce(&self, head: Option<Arc<Object>>, is_whole: Option<bool>) {
        *self.head.lock() = Some(head);
        *self.is_whole.lock() = is_whole;
        self.news.notify_waiters();
    }
}

/// What came from upstream.
struct Fetched {
    version: u64,
    stamp: Position,
    confirmed_ms: u64,
    rest: Rest,
}

/// Where the body of it comes from.
enum Rest {
    /// The origin; it breaks off after so many pieces.
    Origin(usize),
    /// Another node.
    Peer(Ends),
}

/// What a request gets.
enum Answer {
    Hit(Arc<Object>),
    Fill(Arc<Object>, Arc<Flight>),
    Nothing,
}

/// Whom to ask, as in `fill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The owner, who may have it stored; if this node is it, the origin.
    Owner,
    /// The owner, for what it fetches from the origin after it is asked.
    AfterArrival,
    /// The origin.
    Origin,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Caller {
    Client,
    /// Another node; what it gets has to begin after the flight of this number, if one is named.
    Peer(Option<u64>),
}

impl Caller {
    fn after(self) -> Option<u64> {
        match self {
            Self::Client => None,
            Self::Peer(after) => after,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Job {
    doc: usize,
    caller: Caller,
    way: Way,
}

/// How a request got into a fill.
enum Boarding {
    Seat(Arc<Flight>),
    /// It waits until this one has landed, and comes again.
    After(Arc<Flight>),
    Landed(Arc<Object>),
}

struct Node {
    stage: Arc<Stage>,
    index: usize,
    ledgers: Arc<Ledgers>,
    realm: Arc<Realm>,
    guard: Arc<SiteGuard>,
    links: Arc<dyn Links>,
    tasks: Tasks,
    flights: Mutex<BTreeMap<usize, Arc<Flight>>>,
    /// Flights that ever began here.
    numbers: AtomicU64,
}

/// The only site.
#[must_use]
pub fn site() -> SiteId {
    SiteId::parse("shop").unwrap_or_else(|_| unreachable!("the name is a name"))
}

/// The host of all documents.
pub const HOST: &str = "h";

/// The folder of a document; others are in it, too.
#[must_use]
pub fn folder_of(doc: usize) -> String {
    format!("/f{}", doc % 4)
}

/// The path of a document.
#[must_use]
pub fn path_of(doc: usize) -> String {
    format!("{}/{doc}", folder_of(doc))
}

/// The keys of the purge that names a document.
#[must_use]
pub fn url_of(doc: usize) -> PurgeKey {
    PurgeKey::Url { host: HOST.to_owned(), target: path_of(doc) }
}

/// The tag of a document; others have it, too.
#[must_use]
pub fn tag_of(doc: usize) -> String {
    format!("t{}", doc % 5)
}

/// Runs a node until it is killed.
///
/// # Errors
/// None that matters: a node whose ledger does not open ends, as its process would.
pub async fn run(stage: Arc<Stage>, index: usize) -> turmoil::Result {
    let world = Arc::new(NodeWorld { stage: Arc::clone(&stage), node: index });
    inside(world, live(stage, index)).await;
    Ok(())
}

async fn live(stage: Arc<Stage>, index: usize) {
    let ground = &stage.nodes[index];
    let boot = ground.boots.fetch_add(1, Relaxed) + 1;
    let mut incoming = stage.net.lock().start(index, boot);
    stage.note(Some(index), Event::Start { boot });
    let tasks = Tasks::new();
    let mesh = match stage.carrier {
        Carrier::Lines => None,
        Carrier::Quic => Some(quic::mesh(&stage, (index, boot), &tasks)),
    };
    let links = mesh.as_ref().map_or_else(|| port(&stage, index), |mesh| quic::links(mesh, &tasks));
    let carrier = match &mesh {
        Some(mesh) => simulation::Carrier::Mesh(Arc::clone(mesh)),
        None => simulation::Carrier::Links(Arc::clone(&links)),
    };
    let version = stage.published.load(Relaxed);
    ground.version.store(version, Relaxed);
    let config = fleet::config(index, stage.tight_ms, stage.change.as_ref().map(|change| change.set(version)));
    let opened = Ledgers::simulated(&config, &jurisdiction(), &ground.disk, carrier, &tasks);
    let ledgers = match opened {
        Ok(ledgers) => ledgers,
        Err(fault) => {
            stage.net.lock().kill(index);
            return stage.note(Some(index), Event::Fault(format!("does not start: {fault}")));
        }
    };
    let Some(realm) = ledgers.realm(&RealmId::global()).cloned() else { return };
    ground.shelf.lock().open(realm.life(), &mut ground.rng.lock());
    let guard = realm.guard(&site());
    let (flights, numbers) = (Mutex::default(), AtomicU64::new(0));
    let node =
        Arc::new(Node { stage: Arc::clone(&stage), index, ledgers, realm, guard, links, tasks, flights, numbers });
    if let Some(mesh) = mesh {
        mesh.register(Kind::Fetch, Arc::new(FetchDoor(Arc::downgrade(&node))));
        mesh.start();
    }
    let mut has_caught_up = false;
    while let Some(what) = incoming.recv().await {
        if !std::mem::replace(&mut has_caught_up, node.realm.caught_up()) && has_caught_up {
            node.note(Event::CaughtUp);
        }
        if stage.change.is_some() && !ground.is_complete.load(Relaxed) {
            let is_complete = node.realm.standing().change.is_some_and(|change| change.complete);
            ground.is_complete.store(is_complete, Relaxed);
        }
        let this = Arc::clone(&node);
        match what {
            Incoming::Line(Kind::Fetch, ends) => drop(node.tasks.spawn("reply", async move { this.reply(ends).await })),
            Incoming::Line(kind, ends) => {
                let ledgers = Arc::clone(&node.ledgers);
                node.tasks.spawn("line", ledgers.serve_simulated(kind, ends));
            }
            Incoming::Ask { request, doc } => {
                node.tasks.spawn("ask", async move { this.serve(request, doc).await });
            }
            Incoming::Purge(wish) => drop(node.tasks.spawn("purge", async move { this.purge(wish).await })),
        }
    }
}

/// What the mesh hands the questions of other nodes to.
struct FetchDoor(Weak<Node>);

impl peers::Answer for FetchDoor {
    fn answer(self: Arc<Self>, peer: PeerIdentity, stream: Stream) -> BoxFuture<'static, ()> {
        let Some(node) = self.0.upgrade() else { return async {}.boxed() };
        let ends = quic::ends(&node.tasks, stream, peer);
        node.reply(ends).boxed()
    }
}

impl Node {
    fn note(&self, event: Event) {
        self.stage.note(Some(self.index), event);
    }

    fn chance<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.stage.nodes[self.index].rng.lock())
    }

    async fn dawdle(&self, ms_max: u64) {
        let ms = self.chance(|rng| rng.u64(0..=ms_max));
        sleep(Duration::from_millis(ms)).await;
    }

    async fn purge(&self, wish: Wish) {
        self.note(Event::Accept { id: wish.id, docs: wish.docs, tries: wish.tries });
        let (id, wait) = (wish.id, wish.wait);
        let submitted = self.realm.submit(wish.purge, wait, wish.timeout).await;
        let level = match submitted {
            Ok(receipt) => {
                let level = match receipt.state {
                    Acknowledged::All => Some(Level::All),
                    Acknowledged::Quorum | Acknowledged::Region => Some(Level::Quorum),
                    Acknowledged::Accepted if wait == Wait::Local => Some(Level::Local),
                    Acknowledged::Accepted => None,
                };
                let applied = |(node, .., state, _): &(NodeId, _, NodeReceipt, _)| {
                    let name = NAMES.iter().position(|name| *name == node.as_str());
                    name.filter(|_| matches!(state, NodeReceipt::Applied { .. }))
                };
                let applied = receipt.nodes.iter().filter_map(applied).collect();
                match level {
                    Some(level) => self.note(Event::Ack { id, level, applied }),
                    None => self.note(Event::Refused { id, why: "not in time".to_owned() }),
                }
                level
            }
            Err(fault) => {
                self.note(Event::Refused { id, why: fault.to_string() });
                None
            }
        };
        if level >= Some(Level::Quorum) {
            self.stage.has_acked.store(true, Relaxed);
        }
        self.stage.told.lock().push((id, level));
    }

    /// Answers a client.
    async fn serve(self: &Arc<Self>, request: u64, doc: usize) {
        self.note(Event::Arrive { request, doc });
        let (object, from, is_whole) = match self.answer(doc, Caller::Client).await {
            Answer::Hit(object) => (object, From::Cache, true),
            Answer::Fill(object, flight) => {
                let is_whole = flight.until(|flight| *flight.is_whole.lock()).await;
                (object, From::Fill, is_whole)
            }
            Answer::Nothing => return self.note(Event::Fail { request }),
        };
        let pieces = if is_whole { &object.pieces[..] } else { &[] };
        let (version, hash) = (object.version, hash(pieces));
        self.note(Event::Serve { request, doc, version, from, complete: is_whole, hash });
    }

    /// Answers another node of the region.
    async fn reply(self: Arc<Self>, mut ends: Ends) {
        let Some(asked) = ends.into.recv().await else { return };
        let Ok(ask) = Ask::decode(asked) else { return };
        let Some(doc) = ask.target.rsplit('/').next().and_then(|doc| doc.parse().ok()) else { return };
        // what was heard before the cache is asked
        let have: Bytes = self.realm.have(&site()).into();
        // who knows of a purge that has not come here yet would only ask again
        let after = ask.after_arrival || self.realm.behind(&site(), &ask.have);
        let caller = Caller::Peer(after.then(|| self.numbers.load(Relaxed)));
        let (object, is_whole) = match self.answer(doc, caller).await {
            Answer::Hit(object) => (Some(object), None),
            Answer::Fill(object, flight) => (Some(object), Some(flight)),
            Answer::Nothing => (None, None),
        };
        let after_arrival = after && is_whole.is_some();
        let mut fields = HeaderMap::new();
        let status = if object.is_some() { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
        if let Some(object) = &object {
            fields.insert("x-version", HeaderValue::from(object.version));
        }
        let Ok(head) = (Answered { after_arrival, stale: false, status, have, fields }).encode() else { return };
        if !ends.out.frame(head.into()).await {
            return;
        }
        if let Some(flight) = is_whole
            && !flight.until(|flight| *flight.is_whole.lock()).await
        {
            // without the empty frame nobody takes what came for the whole
            return;
        }
        for piece in object.iter().flat_map(|object| &object.pieces) {
            ends.out.frame(Bytes::copy_from_slice(piece.as_bytes())).await;
        }
        ends.out.frame(Bytes::new()).await;
    }

    fn in_memory(&self, doc: usize, caller: Caller) -> Option<Arc<Object>> {
        if caller.after().is_some() {
            return None;
        }
        let object = self.stage.nodes[self.index].shelf.lock().objects.get(&doc).cloned()?;
        let standing = self.guard.standing(object.stamp, &object.verified, &object.keys);
        (standing == Standing::Valid && self.vouch().covers(object.confirmed_ms)).then_some(object)
    }

    /// The order of the steps of a request, as in the spine and in `edge/ride.rs`.
    async fn answer(self: &Arc<Self>, doc: usize, caller: Caller) -> Answer {
        let arrived = self.realm.position();
        if let Some(object) = self.in_memory(doc, caller) {
            return Answer::Hit(object);
        }
        self.dawdle(2).await;
        let mut job = Job { doc, caller, way: self.way(caller) };
        let mut refused: Option<Arc<Flight>> = None;
        for round in 0..ROUNDS_MAX {
            let boarding = if round + 1 < ROUNDS_MAX {
                self.board(job, refused.as_ref())
            } else {
                Boarding::Seat(self.alone(job))
            };
            let flight = match boarding {
                Boarding::Seat(flight) => flight,
                Boarding::Landed(object) => return Answer::Hit(object),
                Boarding::After(flight) => {
                    flight.until(|flight| flight.head.lock().clone()).await;
                    refused = Some(flight);
                    continue;
                }
            };
            let head = flight.until(|flight| flight.head.lock().clone()).await;
            let Some(object) = head else { return Answer::Nothing };
            let standing = self.standing(object.stamp, &object.keys);
            if fill::acceptable(arrived, object.stamp, standing, &self.vouch(), object.confirmed_ms) {
                return Answer::Fill(object, flight);
            }
            // what begins at the origin after this request came must do
            job.way = if job.way == Way::Owner { Way::AfterArrival } else { Way::Origin };
            refused = Some(flight);
        }
        Answer::Nothing
    }

    /// What this node can vouch for now.
    fn vouch(&self) -> Vouch {
        if self.stage.planted == Planted::NoLease {
            self.realm.vouch(None)
        } else {
            self.realm.vouch(self.stage.tight_ms)
        }
    }

    /// Whom to ask first.
    fn way(&self, caller: Caller) -> Way {
        let is_sure = self.realm.caught_up() && fill::demanded(&self.vouch()) == Made::Elsewhere;
        if is_sure && caller.after().is_none() { Way::Owner } else { Way::AfterArrival }
    }

    fn standing(&self, stamp: Position, keys: &[u64]) -> Standing {
        self.guard.standing(stamp, &AtomicU64::new(stamp.0), keys)
    }

    /// Takes part in the fetch of a document: starts it if there is none that will do, and nothing landed meanwhile.
    fn board(self: &Arc<Self>, job: Job, refused: Option<&Arc<Flight>>) -> Boarding {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&job.doc)
            && !refused.is_some_and(|refused| Arc::ptr_eq(refused, flight))
        {
            match job.caller.after() {
                Some(after) if flight.made == Made::AtOrigin && flight.number > after => {
                    return Boarding::Seat(Arc::clone(flight));
                }
                Some(_) => return Boarding::After(Arc::clone(flight)),
                None if fill::joinable(flight.made, flight.began_ms, &self.vouch()) => {
                    return Boarding::Seat(Arc::clone(flight));
                }
                None => {}
            }
        }
        if let Some(landed) = self.in_memory(job.doc, job.caller) {
            return Boarding::Landed(landed);
        }
        let flight = self.flight(job);
        flights.insert(job.doc, Arc::clone(&flight));
        drop(flights);
        Boarding::Seat(self.launch(job, flight))
    }

    fn alone(self: &Arc<Self>, job: Job) -> Arc<Flight> {
        self.launch(job, self.flight(job))
    }

    fn flight(&self, job: Job) -> Arc<Flight> {
        let is_from_peer = matches!(job.caller, Caller::Peer(_));
        let is_at_origin = job.way != Way::Owner || is_from_peer || self.owner_of(job.doc).is_none();
        let number = self.numbers.fetch_add(1, Relaxed) + 1;
        Flight::new(number, if is_at_origin { Made::AtOrigin } else { Made::Elsewhere })
    }

    fn launch(self: &Arc<Self>, job: Job, flight: Arc<Flight>) -> Arc<Flight> {
        let (node, flown) = (Arc::clone(self), Arc::clone(&flight));
        self.tasks.spawn("fill", async move {
            node.fill(job, &flown).await;
            let mut flights = node.flights.lock();
            if flights.get(&job.doc).is_some_and(|flight| Arc::ptr_eq(flight, &flown)) {
                flights.remove(&job.doc);
            }
        });
        flight
    }

    async fn fill(&self, job: Job, flight: &Flight) {
        let doc = job.doc;
        let Some(mut fetched) = self.fetch(job).await else { return flight.announce(None, Some(false)) };
        if self.stage.planted == Planted::StampAtEnd {
            fetched.stamp = self.realm.position();
        }
        let Fetched { version, stamp, confirmed_ms, rest } = fetched;
        let keys = self.guard.keys(HOST, &path_of(doc), None, Some(&[&tag_of(doc)]));
        let stored = self.standing(stamp, &keys) == Standing::Valid;
        let verified = AtomicU64::new(stamp.0);
        let pieces = body(doc, version).to_vec();
        let object = Arc::new(Object { version, pieces, stamp, confirmed_ms, verified, keys });
        flight.announce(Some(Arc::clone(&object)), None);
        let pieces = self.pieces(doc, version, rest).await;
        let is_whole = pieces.is_some_and(|pieces| pieces == object.pieces);
        if is_whole && stored {
            self.note(Event::Store { doc, version });
            self.stage.nodes[self.index].shelf.lock().keep(doc, Arc::clone(&object));
        }
        flight.announce(Some(object), Some(is_whole));
    }

    /// The body; none if it breaks off.
    async fn pieces(&self, doc: usize, version: u64, rest: Rest) -> Option<Vec<String>> {
        match rest {
            Rest::Origin(count) => {
                self.dawdle(20).await;
                let pieces = body(doc, version);
                (count >= pieces.len()).then(|| pieces.to_vec())
            }
            Rest::Peer(mut ends) => {
                let mut pieces = Vec::new();
                loop {
                    let piece = tokio::time::timeout(HEAD_WAIT, ends.into.recv()).await.ok()??;
                    if piece.is_empty() {
                        return Some(pieces);
                    }
                    pieces.push(String::from_utf8_lossy(&piece).into_owned());
                }
            }
        }
    }

    /// The node that fills for a document in this region, if it is another one.
    fn owner_of(&self, doc: usize) -> Option<usize> {
        let is_alive = |node: &usize| *node == self.index || self.stage.nodes[*node].is_up.load(Relaxed);
        let mates = (0..NODES).filter(|node| REGIONS[*node] == REGIONS[self.index]).filter(is_alive);
        let names: Vec<NodeId> = mates.map(node_id).collect();
        let owner = key::rendezvous((doc as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15), names.iter())?;
        let owner = NAMES.iter().position(|name| *name == owner.as_str())?;
        (owner != self.index).then_some(owner)
    }

    async fn fetch(&self, job: Job) -> Option<Fetched> {
        if job.way != Way::Origin
            && matches!(job.caller, Caller::Client)
            && let Some(owner) = self.owner_of(job.doc)
            && let Some(fetched) = self.ask(job.doc, owner, job.way).await
        {
            return Some(fetched);
        }
        // the position is taken before the request leaves
        let (began, began_ms) = (self.realm.position(), clock::monotonic_ms());
        self.note(Event::Fetch { doc: job.doc, owner: None });
        let (version, pieces) = tokio::time::timeout(ORIGIN_WAIT, self.origin(job.doc)).await.ok()??;
        let stamp = fill::stamp(Made::AtOrigin, began, began);
        let confirmed_ms = fill::confirmed(Made::AtOrigin, began_ms);
        Some(Fetched { version, stamp, confirmed_ms, rest: Rest::Origin(pieces) })
    }

    /// The origin: reads the document when the request has come to it.
    async fn origin(&self, doc: usize) -> Option<(u64, usize)> {
        self.dawdle(80).await;
        if self.chance(|rng| rng.u8(..)) < 3 && !self.stage.is_calm() {
            return None;
        }
        let version = self.stage.versions.lock()[doc];
        self.note(Event::Read { doc, version });
        self.dawdle(80).await;
        let breaks_off = self.chance(|rng| rng.u8(..)) < 5 && !self.stage.is_calm();
        Some((version, if breaks_off { self.chance(|rng| rng.usize(0..3)) } else { 3 }))
    }

    async fn ask(&self, doc: usize, owner: usize, way: Way) -> Option<Fetched> {
        let (began, began_ms) = (self.realm.position(), clock::monotonic_ms());
        self.note(Event::Fetch { doc, owner: Some(owner) });
        let ask = Ask {
            https: true,
            after_arrival: way == Way::AfterArrival,
            have: if self.stage.planted == Planted::NoTranslation {
                Bytes::new()
            } else {
                self.realm.have(&site()).into()
            },
            left_ms: 4_000,
            site: site().to_string(),
            authority: HOST.to_owned(),
            target: path_of(doc),
            fields: HeaderMap::new(),
        };
        let exchange = async {
            let name = node_id(owner);
            let mut ends = self.links.open(&name, Kind::Fetch).await?;
            ends.out.frame(ask.encode().ok()?.into()).await.then_some(())?;
            let head = ends.into.recv().await?;
            Some((Answered::decode(head).ok()?, ends, name))
        };
        let (answered, ends, name) = tokio::time::timeout(HEAD_WAIT, exchange).await.ok()??;
        if answered.status != StatusCode::OK {
            return None;
        }
        let made = if answered.after_arrival { Made::AtOrigin } else { Made::Elsewhere };
        if way == Way::AfterArrival && made != Made::AtOrigin {
            return None;
        }
        let stamp = if self.stage.planted == Planted::NoTranslation {
            began
        } else {
            let covered = self.realm.covered(&name, &site(), &answered.have, began);
            fill::stamp(made, began, covered)
        };
        let confirmed_ms = fill::confirmed(made, began_ms);
        let version = answered.fields.get("x-version")?.to_str().ok()?.parse().ok()?;
        Some(Fetched { version, stamp, confirmed_ms, rest: Rest::Peer(ends) })
    }
}
