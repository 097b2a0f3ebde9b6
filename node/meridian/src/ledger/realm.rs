//! One realm on this node: what the rest of the node sees of the ledger.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use region_config::{CacheMode, Class, Config, JurisdictionId, NodeId, PathPattern, Policy, RealmId, Site, SiteId};
use rules::purge::{
    Acknowledged, Event, EventFault, Mode, Position, PurgeId, PurgeKey, Receipt, Record, RollSum, SiteGuard, Wait,
    fill::Vouch,
};
use rules::walltime::Skew;
use store::ledger::{Chance, Disk, LedgerError, LedgerFile, Log, Writer};
use tokio::sync::Notify;
use wire::purge::{BATCH_BYTES, Sent, decode_have, encode_have};

use super::{
    LedgersFault,
    carrier::{Carrier, CarryFault},
    chance,
    change::Told,
    commits,
    core::Core,
    figures::Figures,
    follow,
    opening::{boot_min, core, outlets, tell, writer},
    outlet::{self, Outlet},
    stream::{self, StreamLine},
};
use crate::{clock, news::News, tasks::Tasks};

/// What an application wants to be purged.
#[derive(Debug, Clone)]
pub struct Purge {
    /// Of which site; none for everything of the realm.
    pub site: Option<SiteId>,
    /// What: 1 to 30 keys.
    pub keys: Vec<PurgeKey>,
    /// Hard or soft.
    pub mode: Mode,
    /// The application's name for this request; a repeated request with the same one is the same purge. Without one,
    /// every request is a purge of its own.
    pub idempotency_key: Option<String>,
}

/// Why a purge was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PurgeFault {
    /// No such site in this realm.
    #[error("site `{site}` is not of realm `{realm}`")]
    UnknownSite {
        /// The site.
        site: SiteId,
        /// The realm.
        realm: RealmId,
    },
    /// It breaks a limit.
    #[error("{0}")]
    Event(#[from] EventFault),
    /// The idempotency key was used for another purge.
    #[error("the idempotency key was used for another purge, {id}")]
    Conflict {
        /// That one.
        id: PurgeId,
    },
    /// This node cannot write. It may or may not have been taken: to be repeated at another node.
    #[error("this node cannot take purges: {0}")]
    Stopped(#[from] LedgerError),
    /// Too many purges wait for a majority of witnesses.
    #[error("too many purges wait for a majority of the witnesses")]
    Busy,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Chance,
}

/// One realm on this node.
#[derive(Debug)]
pub struct Realm {
    pub(super) name: RealmId,
    pub(super) own: Option<usize>,
    pub(super) witnesses: Vec<NodeId>,
    /// The roll that it was started with, and its version.
    pub(super) roll: RollSum,
    pub(super) version: u64,
    /// Who was told to the operator for not serving this node.
    pub(super) told: Told,
    pub(super) core: Mutex<Core>,
    /// Every change up to this one is on disk.
    pub(super) written: News<u64>,
    /// The disk has failed, and nothing more will be written. Whoever waits for something to be written is woken, too.
    pub(super) stopped: News<Option<LedgerError>>,
    /// Something is to be written, and somebody waits for it.
    pub(super) urgent: Notify,
    /// Something is to be written.
    pub(super) lazy: Notify,
    pub(super) tasks: Tasks,
    pub(super) figures: Arc<Figures>,
    /// Requests that wait for a purge that their client has named.
    pub(super) readers: AtomicUsize,
    position: Arc<AtomicU64>,
    pub(super) since: Arc<AtomicU64>,
    /// When it was opened, in ms by the monotonic clock.
    pub(super) opened_ms: u64,
    /// How far the wall clock is from those of the witnesses.
    pub(super) skew: Mutex<Skew>,
    /// Whether it is long ago that this node was sure to have heard everything.
    unsure: AtomicBool,
    caught_up: AtomicBool,
    life: [u8; 16],
    log: Log,
    pub(super) outlets: Vec<Arc<Outlet>>,
    /// The way to the stream that is the realm's log, if it has no witnesses.
    stream: Option<Arc<StreamLine>>,
    /// The sites, each with what its routes promise.
    sites: RwLock<BTreeMap<SiteId, Option<u64>>>,
    poll_ms: AtomicU64,
}

/// How often witnesses are asked: four times in the shortest bound of a route, within these, in ms.
const POLL_MS: (u64, u64) = (250, 1_000);
/// After so long without being sure to have heard everything, in ms, what is served says so.
const UNSURE_MS: u64 = 5_000;
/// How often it is looked at what the passing of time brings.
const TICK: Duration = Duration::from_millis(100);

impl Realm {
    /// Opens the realm's file and starts its tasks.
    pub(super) fn open(
        config: &Config,
        here: &JurisdictionId,
        name: RealmId,
        disk: &dyn Disk,
        carrier: Option<&Carrier>,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, LedgersFault> {
        let file_name = stream::file_name(disk, config, &name)?;
        let fault = |source| LedgersFault::File { realm: name.clone(), source };
        let luck = Chance { life: chance()?, secret: chance()?, boot_min: boot_min(clock::unix_ms()) };
        let opened = LedgerFile::open(disk, &file_name, luck).map_err(fault)?;
        let life = opened.life.life;
        tell(&name, &opened.past);
        let (core, file) = core(config, &name, opened)?;
        let writer = writer(file, &name).map_err(fault)?;
        let outlets = outlets(config, &name, &core, carrier.is_some());
        let stream = stream::line(config, &name, &core);
        let realm = Arc::new(Self {
            since: Arc::clone(&core.since),
            readers: AtomicUsize::new(0),
            unsure: AtomicBool::new(false),
            figures: Arc::clone(&core.figures),
            opened_ms: clock::monotonic_ms(),
            skew: Mutex::new(Skew::new(core.witnesses)),
            poll_ms: AtomicU64::new(POLL_MS.1),
            own: core.own,
            witnesses: core.roll.roll.witnesses(),
            roll: core.roll.roll.sum(),
            version: core.roll.roll.version,
            told: Told::default(),
            position: core.apply.published(),
            caught_up: AtomicBool::new(false),
            life,
            log: writer.log(),
            outlets,
            stream,
            sites: RwLock::default(),
            core: Mutex::new(core),
            written: News::new(0),
            stopped: News::new(None),
            urgent: Notify::new(),
            lazy: Notify::new(),
            tasks: tasks.clone(),
            name,
        });
        realm.replace(config);
        realm.core.lock().begin();
        tracing::debug!(realm = %realm.name, %here, witness = realm.own.is_some(), "the ledger is open");
        realm.start(writer, carrier);
        Ok(realm)
    }

    fn start(self: &Arc<Self>, writer: Writer, carrier: Option<&Carrier>) {
        self.tasks.spawn_until_stopped("ledger-commits", commits::run(Arc::clone(self), writer));
        self.tasks.spawn_until_stopped("ledger-ticks", ticks(Arc::clone(self)));
        self.urgent.notify_one();
        if let Some(line) = &self.stream {
            self.tasks.spawn_until_stopped("ledger-stream", stream::run(Arc::clone(self), Arc::clone(line)));
        }
        let Some(carrier) = carrier else { return };
        for outlet in &self.outlets {
            let run = outlet::run(Arc::clone(self), Arc::clone(outlet), carrier.clone());
            self.tasks.spawn_until_stopped("ledger-outlet", run);
        }
        let witnesses = if self.stream.is_some() { &[] } else { self.witnesses.as_slice() };
        for (index, witness) in witnesses.iter().enumerate().filter(|(index, _)| Some(*index) != self.own) {
            let run = follow::run(Arc::clone(self), index, witness.clone(), carrier.clone());
            self.tasks.spawn_until_stopped("ledger-follow", run);
        }
    }

    /// The node's position: the stamp of a fill that begins now.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }

    /// The guard of a site. The same one for as long as the node runs, so it may be kept.
    #[must_use]
    pub fn guard(&self, site: &SiteId) -> Arc<SiteGuard> {
        self.core.lock().apply.guard(site)
    }

    /// What this node has heard, encoded, for an answer to a peer. To be taken *before* the cache is asked.
    #[must_use]
    pub fn have(&self, site: &SiteId) -> Vec<u8> {
        let have = self.core.lock().apply.have(site, clock::monotonic_ms());
        encode_have(&have)
    }

    /// The stamp for what a peer answered: how much of this node's order up to `at_start` it reflects. A `have` that
    /// cannot be read reflects nothing.
    #[must_use]
    pub fn covered(&self, peer: &NodeId, site: &SiteId, have: &[u8], at_start: Position) -> Position {
        let Ok(have) = decode_have(have) else { return Position::ZERO };
        self.core.lock().apply.covered(peer, site, &have, at_start)
    }

    /// What this node can vouch for towards a route with this bound, now.
    #[must_use]
    pub fn vouch(&self, bound_ms: Option<u64>) -> Vouch {
        match bound_ms {
            None => Vouch { bound_ms, since_ms: 0, now_ms: 0 },
            // asked before the clock: what becomes sure in between is no matter
            Some(_) => {
                let since_ms = self.since.load(Ordering::Acquire);
                Vouch { bound_ms, since_ms, now_ms: clock::monotonic_ms() }
            }
        }
    }

    /// Whether it is so long ago that this node was sure to have heard every purge that what it serves has to say so.
    #[must_use]
    pub fn unsure(&self) -> bool {
        self.unsure.load(Ordering::Relaxed)
    }

    /// Whether a peer has heard of purges of a site that this node has not.
    #[must_use]
    pub fn behind(&self, site: &SiteId, have: &[u8]) -> bool {
        let Ok(have) = decode_have(have) else { return false };
        !have.ids.is_empty() && self.core.lock().apply.behind(site, &have)
    }

    /// What it counts of itself.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// How long until the witnesses are asked again.
    pub(super) fn poll_pause(&self) -> Duration {
        Duration::from_millis(self.poll_ms.load(Ordering::Relaxed))
    }

    /// Time has passed.
    fn tick(&self) {
        let now_ms = clock::monotonic_ms();
        self.core.lock().tick(now_ms);
        let since_ms = self.since.load(Ordering::Acquire);
        self.unsure.store(now_ms > since_ms.saturating_add(UNSURE_MS), Ordering::Relaxed);
    }

    /// Whether this node has heard, since it started, everything that was acknowledged before.
    #[must_use]
    pub fn caught_up(&self) -> bool {
        if self.caught_up.load(Ordering::Acquire) {
            return true;
        }
        let caught_up = self.core.lock().caught_up;
        self.caught_up.store(caught_up, Ordering::Release);
        caught_up
    }

    /// Random name of the realm's state on this node. Stamps of objects that were stored under another one mean
    /// nothing: whoever keeps objects over a restart has to keep this with them, and forget them if it changes.
    #[must_use]
    pub fn life(&self) -> [u8; 16] {
        self.life
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &RealmId {
        &self.name
    }

    /// Takes a purge and waits for it as asked, at most `timeout`; the receipt says how far it has come. It goes on
    /// by itself after that, also over a restart, until a majority of the witnesses has it.
    ///
    /// # Errors
    /// [`PurgeFault`]: it was not taken, or, if [`PurgeFault::Stopped`], perhaps not.
    pub async fn submit(&self, purge: Purge, wait: Wait, timeout: Duration) -> Result<Receipt, PurgeFault> {
        let id = self.order(purge)?;
        self.follow(id, wait, timeout).await.map(|(receipt, _)| receipt)
    }

    /// Takes a purge: when this returns, it is in effect here, and on its way to the disk and to the others. One that
    /// this node has taken before is that one again.
    ///
    /// # Errors
    /// [`PurgeFault`]: it was not taken.
    pub fn order(&self, purge: Purge) -> Result<PurgeId, PurgeFault> {
        let event = self.event(purge).inspect_err(|fault| self.figures.note_refused(fault))?;
        if self.take(&event).inspect_err(|fault| self.figures.note_refused(fault))? {
            self.figures.note_taken(&event);
            let taken_unix_us = clock::unix_us();
            for outlet in &self.outlets {
                outlet.push(Sent { event: Arc::clone(&event), taken_unix_us });
            }
            if let Some(stream) = &self.stream {
                stream.push(Arc::clone(&event));
            }
            self.urgent.notify_one();
        }
        Ok(event.id())
    }

    /// Waits for a purge that this node took, at most `timeout`. Says how far it has come, and whether that is as far
    /// as it was waited for.
    ///
    /// # Errors
    /// [`PurgeFault::Stopped`] if the disk failed before that was known, [`PurgeFault::Busy`] if so many came after it
    /// that it is forgotten.
    pub async fn follow(&self, id: PurgeId, wait: Wait, timeout: Duration) -> Result<(Receipt, bool), PurgeFault> {
        let (change, news) = {
            let mut core = self.core.lock();
            (core.change, Arc::clone(core.waiters.entry(id).or_default()))
        };
        let waiting = async {
            match wait {
                Wait::Local => self.on_disk(change).await,
                Wait::Quorum => self.reached(id, Acknowledged::Quorum, &news).await,
                Wait::Region => self.reached(id, Acknowledged::Region, &news).await,
                Wait::All => self.reached(id, Acknowledged::All, &news).await,
            }
        };
        let waited = tokio::time::timeout(timeout, waiting).await;
        self.leave(id, news);
        if let Ok(Err(stopped)) = waited {
            return Err(stopped.into());
        }
        self.receipt(&id).map(|receipt| (receipt, waited.is_ok())).ok_or(PurgeFault::Busy)
    }

    fn event(&self, purge: Purge) -> Result<Arc<Event>, PurgeFault> {
        if let Some(site) = purge.site.as_ref().filter(|site| !self.sites.read().contains_key(*site)) {
            return Err(PurgeFault::UnknownSite { site: site.clone(), realm: self.name.clone() });
        }
        let idempotency = match purge.idempotency_key {
            Some(key) => key,
            None => format!("{:032x}", u128::from_be_bytes(chance().map_err(|_| PurgeFault::Chance)?)),
        };
        Ok(Arc::new(Event::new(purge.site, purge.mode, purge.keys, idempotency)?))
    }

    /// False if it was taken before.
    fn take(&self, event: &Arc<Event>) -> Result<bool, PurgeFault> {
        let stopped = self.stopped.read(Clone::clone);
        if let Some(stopped) = stopped {
            return Err(stopped.into());
        }
        let bound_ms = self.bound_ms(event);
        let mut core = self.core.lock();
        if let Some(id) = core.apply.request(event).filter(|id| *id != event.id()) {
            return Err(PurgeFault::Conflict { id });
        }
        if core.receipts.state(event.id()).is_some() {
            return Ok(false);
        }
        if core.take(event, bound_ms) { Ok(true) } else { Err(PurgeFault::Busy) }
    }

    /// What the routes promise that an event touches; none if one of them promises nothing.
    fn bound_ms(&self, event: &Event) -> Option<u64> {
        let sites = self.sites.read();
        match event.site() {
            Some(site) => sites.get(site).copied().flatten(),
            None => sites.values().copied().try_fold(0, |most, bound_ms| Some(bound_ms?.max(most))),
        }
    }

    fn leave(&self, id: PurgeId, news: Arc<Notify>) {
        let mut core = self.core.lock();
        drop(news);
        if core.waiters.get(&id).is_some_and(|news| Arc::strong_count(news) == 1) {
            core.waiters.remove(&id);
        }
    }

    async fn reached(&self, id: PurgeId, goal: Acknowledged, news: &Notify) -> Result<(), LedgerError> {
        loop {
            let notified = news.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.core.lock().receipts.state(id).is_some_and(|state| state >= goal) {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = notified => {}
                stopped = self.stopped.until(Clone::clone) => return Err(stopped),
            }
        }
    }

    /// Waits until a change is on disk.
    pub(super) async fn on_disk(&self, change: u64) -> Result<(), LedgerError> {
        let done = self
            .written
            .until(|written| if *written >= change { Some(Ok(())) } else { self.stopped.read(Clone::clone).map(Err) });
        done.await
    }

    /// What became of a purge that this node took; of the last 10,000.
    #[must_use]
    pub fn receipt(&self, id: &PurgeId) -> Option<Receipt> {
        self.core.lock().receipts.receipt(*id)
    }

    /// The last purges that this node took, newest first.
    #[must_use]
    pub fn recent(&self, limit: usize) -> Vec<Receipt> {
        self.core.lock().receipts.recent(limit)
    }

    /// Takes the sites of a new config.
    pub(super) fn replace(&self, config: &Config) {
        let sites = config.sites.iter().filter(|site| site.realm() == self.name);
        let sites: BTreeMap<_, _> = sites.map(|site| (site.name.clone(), promised(site))).collect();
        let of_realm = config.sites.iter().filter(|site| site.realm() == self.name);
        let routes = of_realm.flat_map(|site| site.routes.iter());
        let shortest = routes.filter_map(|route| route.policy.max_staleness_ms).min();
        let poll_ms = shortest.map_or(POLL_MS.1, |bound_ms| (bound_ms / 4).clamp(POLL_MS.0, POLL_MS.1));
        self.poll_ms.store(poll_ms, Ordering::Relaxed);
        *self.sites.write() = sites;
    }

    /// Reads the own log from disk.
    pub(super) async fn read_log(&self, after: u64, max: usize) -> Result<Vec<Arc<Record>>, CarryFault> {
        let log = self.log.clone();
        let read = self.tasks.run_busy(move || log.after(after, max, BATCH_BYTES)).await;
        match read {
            Some(Ok(records)) => Ok(records),
            Some(Err(fault)) => {
                tracing::error!(realm = %self.name, %fault, "the own log cannot be read");
                Err(CarryFault::Ended)
            }
            None => Err(CarryFault::Ended),
        }
    }

    /// The disk was set back to an older state: the own log begins a new life.
    pub(super) fn set_back(&self) {
        let Ok(epoch) = chance() else { return };
        tracing::error!(realm = %self.name, "others have read more of this node's log than it has: its disk was set back");
        self.core.lock().set_back(u64::from_be_bytes(epoch));
        self.urgent.notify_one();
    }
}

/// What all routes of a site promise that keep anything: the longest bound; none if one of them has none.
fn promised(site: &Site) -> Option<u64> {
    let keeps = |policy: &&Policy| policy.cache != CacheMode::Off && policy.class != Class::Live;
    let all = site.routes.iter().any(|route| matches!(&route.path, PathPattern::Prefix(path) if path.is_empty()));
    let elsewhere = Policy::default();
    let rest = (!all).then_some(&elsewhere);
    let policies = site.routes.iter().map(|route| &route.policy).chain(rest).filter(keeps);
    policies.map(|policy| policy.max_staleness_ms).try_fold(0, |most, bound_ms| Some(bound_ms?.max(most)))
}

/// Looks from time to time at what its passing brings.
async fn ticks(realm: Arc<Realm>) {
    loop {
        tokio::time::sleep(TICK).await;
        realm.tick();
    }
}
