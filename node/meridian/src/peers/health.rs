//! The health of the fleet, as this node sees it: probes every node, hears what the others see, and publishes the verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use region_config::{Config, NodeId, RegionId};
use rules::health::{
    Book, Fleet, Force, Forced, NodeState, NodeView, Readiness, RegionState, RegionView, Report, Settings, Target,
    Verdicts, WHOLE_PERCENT,
};
use tokio::{sync::Notify, task::AbortHandle};

use super::{
    Kind, Mesh, OrderFault, PeerError,
    forced::Forcing,
    gossip::{Gossip, Post},
    link::Link,
    probe::{Answered, Missed, probe},
    report::{self, Names, Said},
};
use crate::{clock, tasks::Tasks};

/// How often each node is probed.
const PROBE_EVERY: Duration = Duration::from_millis(350);
/// The least time between two probes of one node.
const PROBE_GAP: Duration = Duration::from_millis(20);
/// How often verdicts are judged anew when nothing happens.
const JUDGE_EVERY: Duration = Duration::from_millis(100);
/// The pause before gossip is started again after it ended.
const RESTART: Duration = Duration::from_secs(1);
/// For how long a node that starts may see too few regions before that is worth a word: it has seen nobody yet.
const PATIENCE_MS: u64 = 10_000;
/// How often nodes that force something else are asked again.
const DIFFERING_EVERY: Duration = Duration::from_secs(1);

/// The fleet's health. Lives as long as its tasks.
pub struct Health {
    standing: Standing,
    /// Of a fleet of one; else the mesh has it.
    config: ArcSwap<Config>,
    meshed: Option<Meshed>,
}

/// The fleet as it was observed, and with what operators force laid over it.
struct Standing {
    observed: ArcSwap<Fleet>,
    fleet: Arc<ArcSwap<Fleet>>,
    forcing: Arc<Forcing>,
}

/// What a node that is not alone needs besides.
struct Meshed {
    mesh: Arc<Mesh>,
    post: Arc<Post>,
    tasks: Tasks,
    verdicts: Mutex<Verdicts>,
    /// What was heard last from each node.
    heard: Mutex<BTreeMap<NodeId, Heard>>,
    /// The same as it came, and when (monotonic, in ms): of regions and nodes that this one did not know then it says
    /// something too.
    texts: Mutex<BTreeMap<NodeId, (String, u64)>>,
    /// Nodes whose report must be fetched.
    behind: Mutex<BTreeSet<NodeId>>,
    probers: Mutex<BTreeMap<NodeId, AbortHandle>>,
    changed: Arc<Notify>,
    /// What this node is asked for, until it is told.
    demand: Mutex<Option<String>>,
    /// What was heard last of what other nodes are asked for.
    demands: Mutex<BTreeMap<NodeId, String>>,
    /// Told when a node forces something else than this one.
    differing: Notify,
    doubt: Mutex<Doubt>,
}

/// What operators were told of this node seeing too few regions to judge any.
#[derive(Debug, Default)]
struct Doubt {
    /// Since when it does (monotonic, in ms).
    since_ms: Option<u64>,
    /// Whether it has ever seen enough.
    was_sure: bool,
    told: bool,
}

/// The identity of a report, without what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    generation: u64,
    issue: u64,
    config: u64,
    forced: Option<u64>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("fleet", &self.standing.fleet.load()).finish_non_exhaustive()
    }
}

impl Health {
    /// Begins to watch the fleet. Without a mesh there is nobody to watch, and everything is up.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "the watcher owns its tasks")]
    pub fn start(config: &Config, mesh: Option<Arc<Mesh>>, tasks: Tasks) -> Arc<Self> {
        let changed = Arc::new(Notify::new());
        let forcing = Forcing::open(&config.node.state_dir, Arc::clone(&changed));
        let Some(mesh) = mesh else {
            let standing = Standing::new(all_up(config), forcing);
            return Arc::new(Self { standing, config: ArcSwap::from_pointee(config.clone()), meshed: None });
        };
        mesh.register(Kind::Forced, Arc::<Forcing>::clone(&forcing));
        let mut verdicts = Verdicts::new(config, Settings::default());
        let fleet = verdicts.poll(&forcing.book(), clock::monotonic_ms(), clock::unix_ms());
        let meshed = Meshed {
            post: Post::open(&mesh),
            mesh,
            tasks: tasks.clone(),
            verdicts: Mutex::new(verdicts),
            heard: Mutex::default(),
            texts: Mutex::default(),
            behind: Mutex::default(),
            probers: Mutex::default(),
            changed,
            demand: Mutex::default(),
            demands: Mutex::default(),
            differing: Notify::new(),
            doubt: Mutex::default(),
        };
        let standing = Standing::new(fleet, forcing);
        let health = Arc::new(Self { standing, config: ArcSwap::from_pointee(config.clone()), meshed: Some(meshed) });
        health.set_probers();
        let watching = Arc::clone(&health);
        tasks.spawn_until_stopped("health", async move {
            if let Some(meshed) = &watching.meshed {
                meshed.watch(&watching.standing).await;
            }
        });
        let agreeing = Arc::clone(&health);
        tasks.spawn_until_stopped("forced", async move {
            if let Some(meshed) = &agreeing.meshed {
                meshed.agree(&agreeing.standing.forcing).await;
            }
        });
        health
    }

    /// The fleet as it stands.
    #[must_use]
    pub fn fleet(&self) -> Arc<Fleet> {
        self.standing.fleet.load_full()
    }

    /// The fleet as it was observed, without what is forced laid over it. That nodes are forced out counts in the verdicts
    /// on their regions here too.
    #[must_use]
    pub fn observed(&self) -> Arc<Fleet> {
        self.standing.observed.load_full()
    }

    /// What operators force.
    #[must_use]
    pub fn forced(&self) -> Arc<Book> {
        self.standing.forcing.book()
    }

    /// Takes an operator's order; none as `force` takes back what was forced. `told` is who orders it, and why. Once it is
    /// answered it is on this node's disk and in force here; the other nodes that this one reaches hear of it at once.
    ///
    /// # Errors
    /// [`OrderFault`]; then nothing has changed.
    pub async fn force(&self, target: Target, force: Option<Force>, told: (&str, &str)) -> Result<Forced, OrderFault> {
        let node = self.config.load().node.name.clone();
        let forced = self.standing.forcing.order(target, force, told, &node, clock::unix_ms()).await?;
        match &self.meshed {
            // orders count in verdicts too
            Some(meshed) => _ = meshed.judge(&self.standing),
            None => self.standing.publish(Fleet::clone(&self.observed()), &self.forced(), None),
        }
        Ok(forced)
    }

    /// Where the fleet's latest health can always be read.
    #[must_use]
    pub fn shared(&self) -> Arc<ArcSwap<Fleet>> {
        Arc::clone(&self.standing.fleet)
    }

    /// Whether a node answers, by our own probes. A node that has not been heard of yet does not.
    #[must_use]
    pub fn node_up(&self, node: &NodeId) -> bool {
        state_of(&self.standing.observed.load(), node).is_some_and(NodeState::answers)
    }

    /// Whether a node answers, and is to be given work.
    #[must_use]
    pub fn node_serves(&self, node: &NodeId) -> bool {
        self.node_up(node) && state_of(&self.standing.fleet.load(), node) == Some(NodeState::Up)
    }

    /// Says of this node from now on that it is starting, ready (which it is from the start) or draining.
    pub fn say(&self, readiness: Readiness) {
        if let Some(meshed) = &self.meshed {
            meshed.verdicts.lock().handle_readiness(readiness);
            meshed.changed.notify_one();
        }
    }

    /// Tells the other nodes what this one is asked for.
    pub fn tell_demand(&self, text: String) {
        if let Some(meshed) = &self.meshed {
            *meshed.demand.lock() = Some(text);
        }
    }

    /// What each other node told last of what it is asked for, and whether it answers.
    #[must_use]
    pub fn demands(&self) -> Vec<(NodeId, String, bool)> {
        let Some(meshed) = &self.meshed else { return Vec::new() };
        let heard = meshed.demands.lock().clone();
        let up = |(node, text): (NodeId, String)| {
            let up = self.node_up(&node);
            (node, text, up)
        };
        heard.into_iter().map(up).collect()
    }

    /// The head of the configuration's fingerprint that a node last said it runs; ours is the first 8 bytes, big endian,
    /// of [`Config::fingerprint`].
    #[must_use]
    pub fn config_of(&self, node: &NodeId) -> Option<u64> {
        self.meshed.as_ref()?.heard.lock().get(node).map(|heard| heard.config)
    }

    /// Takes a new config, which the mesh has taken already. A fleet of one stays one until it is restarted.
    pub fn replace(self: &Arc<Self>, config: &Config) {
        self.config.store(Arc::new(config.clone()));
        match &self.meshed {
            Some(meshed) => {
                meshed.verdicts.lock().replace(config);
                meshed.read_anew(config);
                self.set_probers();
                meshed.changed.notify_one();
            }
            None => self.standing.publish(all_up(config), &self.forced(), None),
        }
    }

    /// One prober for each other node.
    fn set_probers(self: &Arc<Self>) {
        let Some(meshed) = &self.meshed else { return };
        let members = meshed.mesh.members.load();
        let mut probers = meshed.probers.lock();
        probers.retain(|node, prober| {
            let stays = members.address(node).is_some();
            if !stays {
                prober.abort();
            }
            stays
        });
        for (node, _) in members.others() {
            let Ok(link) = meshed.mesh.link(node) else { continue };
            probers.entry(node.clone()).or_insert_with(|| {
                let health = Arc::clone(self);
                let prober = async move {
                    if let Some(meshed) = &health.meshed {
                        meshed.probe_on(&link).await;
                    }
                };
                meshed.tasks.spawn_until_stopped("prober", prober).abort_handle()
            });
        }
    }
}

impl Standing {
    fn new(observed: Fleet, forcing: Arc<Forcing>) -> Self {
        let mut fleet = observed.clone();
        forcing.book().apply(&mut fleet);
        let fleet = Arc::new(ArcSwap::from_pointee(fleet));
        Self { observed: ArcSwap::from_pointee(observed), fleet, forcing }
    }

    /// Puts what was observed in the place of what was observed before, with what `book` forces. `verdicts` say which
    /// regions have just come back; where there is nobody to watch, none has.
    fn publish(&self, observed: Fleet, book: &Book, verdicts: Option<&mut Verdicts>) {
        let mut now = observed.clone();
        book.apply(&mut now);
        if let Some(verdicts) = verdicts {
            verdicts.settle(&mut now, book, clock::monotonic_ms());
        }
        if observed != **self.observed.load() {
            self.observed.store(Arc::new(observed));
        }
        let before = self.fleet.load_full();
        if now != *before {
            tell(&before, &now);
            self.fleet.store(Arc::new(now));
        }
    }
}

impl Meshed {
    /// Probes one node for good: every half second, and at once when its connection comes or goes.
    async fn probe_on(&self, link: &Arc<Link>) {
        loop {
            let began = clock::instant();
            match probe(&self.mesh, link).await {
                Ok(answered) => self.handle_answer(&link.node, answered),
                Err(missed) => self.handle_miss(&link.node, &missed),
            }
            tokio::time::sleep(PROBE_GAP).await;
            let live = link.live().is_some();
            let due = tokio::time::sleep_until((began + PROBE_EVERY).into());
            tokio::pin!(due);
            loop {
                let seen = link.changes();
                let now_live = link.live().is_some();
                if now_live != live {
                    if !now_live {
                        let why = PeerError::Lost { why: "it was closed or fell silent".into() };
                        self.handle_miss(&link.node, &Missed { why, late: Duration::ZERO });
                    }
                    break;
                }
                tokio::select! {
                    () = &mut due => break,
                    () = link.changed(seen) => {}
                }
            }
        }
    }

    fn handle_answer(&self, node: &NodeId, answered: Answered) {
        let heard = self.heard.lock().get(node).copied();
        let mut verdicts = self.verdicts.lock();
        let changed = verdicts.handle_answer(node, answered.rtt_us);
        match heard {
            Some(heard) if heard.generation == answered.generation && heard.issue == answered.issue => {
                verdicts.handle_confirmation(node, clock::monotonic_ms());
            }
            Some(heard) if heard.generation != answered.generation => {
                verdicts.handle_restart(node);
                self.texts.lock().remove(node);
                _ = self.behind.lock().insert(node.clone());
            }
            _ => _ = self.behind.lock().insert(node.clone()),
        }
        drop(verdicts);
        if changed {
            tracing::info!(%node, rtt_us = answered.rtt_us, "node is up");
        }
        self.changed.notify_one();
    }

    fn handle_miss(&self, node: &NodeId, missed: &Missed) {
        let late_ms = u64::try_from(missed.late.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(%node, why = %missed.why, late_ms, "missed a probe");
        let changed = self.verdicts.lock().handle_miss(node, late_ms);
        if changed {
            tracing::warn!(%node, why = %missed.why, "node is down");
            self.changed.notify_one();
        }
    }

    /// Gossips and judges for good; starts gossip again should it ever end.
    async fn watch(&self, standing: &Standing) {
        loop {
            match Gossip::start(&self.post).await {
                Ok(gossip) => self.attend(gossip, standing).await,
                Err(fault) => tracing::error!(%fault, "gossip did not start"),
            }
            tokio::time::sleep(RESTART).await;
            // a new run, or the others would take our new versions for old ones
            self.mesh.generation.store(clock::unix_ms(), Ordering::Release);
        }
    }

    async fn attend(&self, mut gossip: Gossip, standing: &Standing) {
        let ended = gossip.ended();
        tokio::pin!(ended);
        let mut said: Option<Said> = None;
        let mut issue = 0;
        loop {
            self.hear(&mut gossip, standing).await;
            let report = self.judge(standing);
            let config = fingerprint(&self.mesh.config.load());
            let forced = Some(standing.forcing.book().digest());
            let stands = |said: &Said| said.report == report && said.config == config && said.forced == forced;
            if !said.as_ref().is_some_and(stands) {
                issue += 1;
                let new = Said { issue, config, forced, report };
                gossip.say(issue, report::encode(&new)).await;
                said = Some(new);
            }
            let demand = self.demand.lock().take();
            if let Some(text) = demand {
                gossip.say_demand(&text).await;
            }
            let behind = std::mem::take(&mut *self.behind.lock());
            for node in behind {
                gossip.exchange(&node);
            }
            tokio::select! {
                result = &mut ended => {
                    tracing::error!(?result, "gossip ended; starting it again");
                    return;
                }
                () = self.changed.notified() => {}
                () = tokio::time::sleep(JUDGE_EVERY) => {}
            }
        }
    }

    /// Takes the reports that came.
    async fn hear(&self, gossip: &mut Gossip, standing: &Standing) {
        for (node, _, text) in gossip.hear_demands().await {
            self.demands.lock().insert(node, text);
        }
        let new = gossip.hear().await;
        if new.is_empty() {
            return;
        }
        let names = names(&self.mesh.config.load());
        for (node, generation, text) in new {
            let Some(said) = report::decode(&text, &names) else {
                tracing::debug!(%node, "a report that cannot be read");
                continue;
            };
            let Said { issue, config, forced, .. } = said;
            self.heard.lock().insert(node.clone(), Heard { generation, issue, config, forced });
            if forced.is_some_and(|forced| forced != standing.forcing.book().digest()) {
                self.differing.notify_one();
            }
            let now_ms = clock::monotonic_ms();
            self.verdicts.lock().handle_report(&node, said.report, now_ms);
            self.texts.lock().insert(node, (text, now_ms));
        }
    }

    /// Reads anew what all have said: of what this node did not know before, nothing was kept, and who has nothing new to say
    /// says nothing.
    fn read_anew(&self, config: &Config) {
        let names = names(config);
        let mut verdicts = self.verdicts.lock();
        for (node, (text, heard_ms)) in self.texts.lock().iter() {
            if let Some(said) = report::decode(text, &names) {
                verdicts.handle_rereading(node, said.report, *heard_ms);
            }
        }
    }

    /// Judges anew and publishes, one at a time and by one book; gives what this node has to say.
    fn judge(&self, standing: &Standing) -> Report {
        let mut verdicts = self.verdicts.lock();
        let (book, now_ms) = (standing.forcing.book(), clock::monotonic_ms());
        let observed = verdicts.poll(&book, now_ms, clock::unix_ms());
        let news = self.doubt.lock().handle(observed.minority, now_ms);
        match news {
            Some(true) => tell_minority(&verdicts.unheard(&book)),
            Some(false) => tracing::info!("this node sees at least half of the regions"),
            None => {}
        }
        standing.publish(observed, &book, Some(&mut verdicts));
        verdicts.report()
    }

    /// Exchanges what is forced with nodes that force something else, for good.
    async fn agree(&self, forcing: &Forcing) {
        loop {
            let heard = self.heard.lock().clone();
            for (node, heard) in heard {
                // the exchange before may have brought what this one would
                let ours = forcing.book().digest();
                let differs = heard.forced.is_some_and(|theirs| theirs != ours);
                if differs && self.verdicts.lock().node(&node) == NodeState::Up {
                    forcing.exchange(&self.mesh, &node).await;
                }
            }
            tokio::select! {
                () = self.differing.notified() => {}
                () = tokio::time::sleep(DIFFERING_EVERY) => {}
            }
        }
    }
}

fn names(config: &Config) -> Names {
    let nodes = config.regions.iter().flat_map(|region| &region.nodes).map(|node| &node.name);
    Names::of(nodes, config.regions.iter().map(|region| &region.name))
}

fn state_of(fleet: &Fleet, node: &NodeId) -> Option<NodeState> {
    let mut nodes = fleet.regions.iter().flat_map(|region| &region.nodes);
    nodes.find(|view| view.name == *node).map(|view| view.state)
}

impl Doubt {
    /// Takes whether this node sees too few regions. What operators should be told: that it begins, or that it is over.
    fn handle(&mut self, minority: bool, now_ms: u64) -> Option<bool> {
        if !minority {
            (self.since_ms, self.was_sure) = (None, true);
            return std::mem::take(&mut self.told).then_some(false);
        }
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        let due = self.was_sure || now_ms.saturating_sub(since_ms) >= PATIENCE_MS;
        (due && !std::mem::replace(&mut self.told, due)).then_some(true)
    }
}

/// Says to operators that verdicts are frozen, and what to do about it.
fn tell_minority(unheard: &[RegionId]) {
    let names: Vec<&str> = unheard.iter().map(RegionId::as_str).collect();
    let told = "this node sees fewer than half of the regions: verdicts are frozen. Look at its network; if most other regions \
        are dead or do not run yet, force those down (`meridian force down --region`)";
    tracing::warn!(never_heard_of = %names.join(", "), "{told}");
}

/// Says to operators what changed.
fn tell(before: &Fleet, now: &Fleet) {
    for now in &now.regions {
        let Some(before) = before.regions.iter().find(|region| region.name == now.name) else { continue };
        if before.state != now.state {
            let against = now.votes.iter().filter(|vote| !vote.healthy).count();
            let (region, state, was) = (&now.name, now.state.as_str(), before.state.as_str());
            tracing::info!(%region, state, was, votes = now.votes.len(), against, "region");
        }
        let begins = now.part_percent < before.part_percent;
        let ends = before.part_percent < WHOLE_PERCENT && now.part_percent == WHOLE_PERCENT;
        // one that is gone again gets no part either
        if now.state == RegionState::Up && (begins || ends) {
            tracing::info!(region = %now.name, percent = now.part_percent, "has come back: part of its clients");
        }
    }
}

/// The first 8 bytes of the config's fingerprint.
fn fingerprint(config: &Config) -> u64 {
    config.fingerprint.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}

/// A fleet in which there is nobody to doubt.
fn all_up(config: &Config) -> Fleet {
    let node = |node: &region_config::Node| NodeView { name: node.name.clone(), state: NodeState::Up, rtt_us: None };
    let region = |region: &region_config::Region| RegionView {
        name: region.name.clone(),
        state: RegionState::Up,
        since_unix_ms: clock::unix_ms(),
        pending: false,
        recent: false,
        part_percent: WHOLE_PERCENT,
        nodes: region.nodes.iter().map(node).collect(),
        votes: Vec::new(),
    };
    Fleet { epoch: 0, minority: false, regions: config.regions.iter().map(region).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_starts_is_not_in_doubt_for_the_first_seconds_and_is_told_once() {
        let mut doubt = Doubt::default();
        assert_eq!([0, 9_999, 10_000, 10_100].map(|ms| doubt.handle(true, ms)), [None, None, Some(true), None]);
        assert_eq!([0, 1].map(|ms| doubt.handle(false, 20_000 + ms)), [Some(false), None]);
        assert_eq!([0, 1].map(|ms| doubt.handle(true, 30_000 + ms)), [Some(true), None], "it has seen them before");
        let mut starts = Doubt::default();
        assert_eq!([(true, 0), (false, 3_000)].map(|(minority, ms)| starts.handle(minority, ms)), [None, None]);
    }
}
