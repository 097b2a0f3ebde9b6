//! What the clients of each region ask for, against what the regions bear: counted here, told to the fleet, added up, and
//! shared out anew from time to time.
//!
//! Every node does the same from the same figures, so that nobody has to be asked: what it counts itself goes into its sums
//! as it told it to the others. What leaves the node are numbers of requests by class of clients (`rules::steering::Classes`):
//! no site, no address.

mod others;
mod recent;
mod told;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use region_config::{NodeId, RegionId, RegionMask, Site};
use rules::{
    health::Fleet,
    steering::{
        Parted, Standing, meanwhile,
        spill::{Demand, STEP_MS, Spilling, first_only, loads, moved},
    },
};

use self::others::Others;
pub use self::told::TEXT_BYTES_MAX;
use crate::{
    clock,
    dns::{self, Roster, View},
    observe::Tally,
    peers::Health,
    tasks::Tasks,
};

/// How often counters are read.
const EVERY: Duration = Duration::from_secs(1);
/// The time over which what is asked for is smoothed, in ms.
const SMOOTH_MS: f64 = 10_000.0;
/// For how long answers that load has shared out are kept, in seconds: it is time for another step when they are gone.
const TTL_S: u32 = 10;

/// What this node counts, and what is known of the whole fleet.
#[derive(Debug, Default)]
pub struct Load {
    /// Whether anybody wants to know.
    on: AtomicBool,
    counted: ArcSwapOption<Counted>,
    regions: ArcSwap<Vec<RegionLoad>>,
    /// How classes are shared out at present, and by the indices of which regions; none if they are not.
    shared: ArcSwapOption<(Vec<RegionId>, Parts)>,
}

/// The parts of lists by their numbers: of each its regions with what they get.
type Parts = BTreeMap<u64, Vec<(usize, f64)>>;

/// Requests by class, under one plan.
#[derive(Debug)]
struct Counted {
    plan: u64,
    roster: Arc<Roster>,
    tally: Tally,
}

/// A region's load, as this node knows it from all.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionLoad {
    /// Which region.
    pub region: RegionId,
    /// Requests in a second of the clients that it is first for among the healthiest of their regions.
    pub demand: f64,
    /// What is left of that, with what others give it, once all that is given up is given up.
    pub led: f64,
    /// What it bears, if the config says so.
    pub capacity: Option<f64>,
    /// Whether it gives up clients.
    pub gives: bool,
}

impl Load {
    /// Counts a request of a client of a site, by the site's index in the config that `told` is of. Costs a load and a branch
    /// where no region says what it bears.
    #[inline]
    pub fn note(&self, site: usize, told: &Arc<Site>, address: IpAddr) {
        if self.on.load(Relaxed) {
            self.count(site, told, address);
        }
    }

    fn count(&self, site: usize, told: &Arc<Site>, address: IpAddr) {
        let counted = self.counted.load();
        let Some(Counted { plan, roster, tally }) = counted.as_deref() else { return };
        // by another config's index it would be counted as another site, and one with a pin as one without
        if !roster.is_of(site, told) {
            return;
        }
        let find = || roster.class(site, address).and_then(|class| u32::try_from(class).ok());
        if let Some(class) = recent::class(*plan, site, address, find) {
            tally.note(class as usize);
        }
    }

    /// The load of each region; empty where no region says what it bears.
    #[must_use]
    pub fn regions(&self) -> Arc<Vec<RegionLoad>> {
        self.regions.load_full()
    }

    /// A view of a new plan, shared out as the one in force is: its first answers are not to call back who was led on.
    #[must_use]
    pub fn share_out(&self, view: View) -> View {
        let shared = self.shared.load();
        let shared = shared.as_deref().zip(view.roster()).and_then(|((regions, parts), roster)| {
            let parts = moved(parts, places(regions, roster.regions()));
            (!parts.is_empty()).then(|| shared_by(&view, roster, &parts)).flatten()
        });
        shared.unwrap_or(view)
    }

    /// Begins to add up, and to share out in `view`.
    pub fn start(self: &Arc<Self>, view: Arc<ArcSwap<View>>, health: Arc<Health>, tasks: &Tasks) {
        let (load, busy) = (Arc::clone(self), tasks.clone());
        tasks.spawn_until_stopped("load", async move {
            let mut book = Book::default();
            loop {
                tokio::time::sleep(EVERY).await;
                let (load, view, health) = (Arc::clone(&load), Arc::clone(&view), Arc::clone(&health));
                // thousands of classes in dozens of regions are some work
                let turned = busy.run_busy(move || {
                    let seen = Seen { fleet: health.fleet(), demands: health.demands() };
                    if let Some(text) = book.turn(&load, &view, seen, clock::monotonic_ms()) {
                        health.tell_demand(text);
                    }
                    book
                });
                book = turned.await.unwrap_or_default();
            }
        });
    }
}

/// What this node sees of the others.
struct Seen {
    fleet: Arc<Fleet>,
    /// What each told last, and whether it answers.
    demands: Vec<(NodeId, String, bool)>,
}

/// What is remembered from turn to turn.
#[derive(Debug, Default)]
struct Book {
    spilling: Spilling,
    /// Requests in a second by the class's id, smoothed: an id means the same under every plan.
    smoothed: BTreeMap<u32, f64>,
    /// What had been counted at the turn before, by the class's index, and when.
    before: Vec<u64>,
    before_ms: u64,
    told_ms: Option<u64>,
    /// What this node told last.
    told: BTreeMap<u32, f64>,
    others: Others,
    /// The regions by their state at the step before.
    states: [RegionMask; 5],
    stepped_ms: Option<u64>,
    /// The parts as they are.
    parts: Parts,
    /// Whose indices they are by.
    regions: Vec<RegionId>,
    /// The plan that was shared out last.
    plan: u64,
}

impl Book {
    /// Gives what is to be told to the others.
    fn turn(&mut self, load: &Load, current: &ArcSwap<View>, seen: Seen, now_ms: u64) -> Option<String> {
        let view = current.load_full();
        let Some(roster) = view.roster() else { return self.rest(load) };
        let counted = match load.counted.load_full().filter(|counted| counted.plan == view.plan()) {
            Some(counted) => counted,
            None => self.begin(load, &view, roster, now_ms),
        };
        self.smooth(&counted, now_ms);
        self.others.hear(seen.demands, now_ms);
        let text = self.told_ms.is_none_or(|before| now_ms.saturating_sub(before) >= STEP_MS).then(|| {
            self.told_ms = Some(now_ms);
            self.tell(roster)
        });
        let standing = view.standing(&seen.fleet);
        let due = self.stepped_ms.is_none_or(|before| now_ms.saturating_sub(before) >= STEP_MS);
        let mut changed = self.plan != view.plan() && (!self.parts.is_empty() || load.shared.load().is_some());
        // who is cut off hears too few to add up, and leaves all as it is
        if (due || standing.classes() != self.states) && !seen.fleet.minority {
            self.stepped_ms = Some(if due { now_ms } else { self.stepped_ms.unwrap_or(now_ms) });
            self.states = standing.classes();
            changed |= self.step(load, roster, &standing, now_ms);
        }
        if changed {
            self.share_out(load, current, &view, roster);
        }
        self.plan = view.plan();
        text
    }

    /// Nobody wants to know any more.
    fn rest(&mut self, load: &Load) -> Option<String> {
        if !load.on.swap(false, Relaxed) {
            return None;
        }
        load.counted.store(None);
        load.shared.store(None);
        load.regions.store(Arc::default());
        *self = Self::default();
        Some(told::NOTHING.to_owned())
    }

    /// Counts under another plan from now on.
    fn begin(&mut self, load: &Load, view: &View, roster: &Arc<Roster>, now_ms: u64) -> Arc<Counted> {
        // parts are by the index of regions
        if self.regions != roster.regions() {
            let before = std::mem::replace(&mut self.regions, roster.regions().to_vec());
            let to = places(&before, roster.regions());
            (self.spilling, self.parts) = (self.spilling.moved(&to), moved(&self.parts, &to));
        }
        let tally = Tally::new(roster.classes().count());
        let counted = Arc::new(Counted { plan: view.plan(), roster: Arc::clone(roster), tally });
        load.counted.store(Some(Arc::clone(&counted)));
        load.on.store(true, Relaxed);
        (self.before, self.before_ms) = (vec![0; roster.classes().count()], now_ms);
        counted
    }

    fn smooth(&mut self, counted: &Counted, now_ms: u64) {
        let totals = counted.tally.totals();
        #[allow(clippy::cast_precision_loss, reason = "milliseconds, and requests within a second")]
        let (elapsed_ms, seen) = (
            now_ms.saturating_sub(self.before_ms).max(1) as f64,
            totals.iter().zip(&self.before).map(|(now, before)| now.saturating_sub(*before) as f64).collect::<Vec<_>>(),
        );
        if now_ms == self.before_ms {
            return;
        }
        let weight = 1.0 - (-elapsed_ms / SMOOTH_MS).exp();
        self.smoothed.values_mut().for_each(|requests| *requests *= 1.0 - weight);
        for (class, seen) in seen.into_iter().enumerate().filter(|(_, seen)| *seen > 0.0) {
            if let Some(id) = counted.roster.classes().id_of(class) {
                *self.smoothed.entry(id).or_default() += weight * seen * 1000.0 / elapsed_ms;
            }
        }
        self.smoothed.retain(|_, requests| *requests > 0.01);
        (self.before, self.before_ms) = (totals, now_ms);
    }

    fn tell(&mut self, roster: &Roster) -> String {
        let bearing = || roster.capacities().iter().enumerate().filter(|(_, capacity)| capacity.is_some());
        let known = bearing().map(|(region, _)| self.spilling.known_to_give(region).map(|gives| (region, gives)));
        let known: Option<Vec<(usize, bool)>> = known.collect();
        let gives =
            known.map(|known| known.into_iter().filter(|(_, gives)| *gives).map(|(region, _)| region).collect());
        let gives: Option<Vec<usize>> = gives;
        let text = told::encode(roster.classes(), &by_class(roster, [(&self.smoothed, 1.0)]), gives.as_deref());
        self.told = told::decode(&text).unwrap_or_default().asked;
        text
    }

    /// One step of the loop; whether parts have changed.
    fn step(&mut self, load: &Load, roster: &Roster, standing: &Standing, now_ms: u64) -> bool {
        let requests = by_class(roster, self.others.asked().chain([(&self.told, 1.0)]));
        let demands = roster.classes().demands(&requests, standing);
        self.spilling.handle_giving(&giving(roster, &self.others));
        let changed = self.spilling.handle_demand(now_ms, &demands, roster.capacities(), TTL_S).is_some();
        load.regions.store(Arc::new(figures(roster, &demands, &self.spilling)));
        let known = self.spilling.known().iter();
        let shared = known.filter(|(_, parts)| parts.first().is_some_and(|(_, part)| *part < 1.0));
        let shared: Parts = shared.map(|(list, parts)| (*list, parts.clone())).collect();
        let moved = changed || shared != self.parts;
        if moved && shared.is_empty() != self.parts.is_empty() {
            tracing::info!(active = !shared.is_empty(), "load shares clients out");
        }
        self.parts = shared;
        moved
    }

    /// Puts the parts into force, unless a newer plan has come meanwhile: that one is shared out at the next turn.
    fn share_out(&self, load: &Load, current: &ArcSwap<View>, view: &Arc<View>, roster: &Roster) {
        let known = (!self.parts.is_empty()).then(|| Arc::new((self.regions.clone(), self.parts.clone())));
        load.shared.store(known);
        if let Some(shared) = shared_by(view, roster, &self.parts) {
            let _newer = dns::put_shared(current, view, &Arc::new(shared));
        }
    }
}

/// Where regions of one config are in another one.
fn places<'a>(from: &'a [RegionId], to: &'a [RegionId]) -> impl Fn(usize) -> Option<usize> + 'a {
    move |at| to.iter().position(|region| from.get(at) == Some(region))
}

fn shared_by(view: &View, roster: &Roster, parts: &Parts) -> Option<View> {
    let of = |list: u64| parts.get(&list).map_or(&[][..], Vec::as_slice);
    view.shared_out(|class| match roster.classes().id_of(class) {
        Some(id) => Parted { parts: of(id.into()), meanwhile: of(meanwhile(id)) },
        None => Parted::default(),
    })
}

/// Adds up by the class's index what counts of each; classes that this node does not have are left out.
fn by_class<'a>(roster: &Roster, told: impl IntoIterator<Item = (&'a BTreeMap<u32, f64>, f64)>) -> Vec<f64> {
    let classes = roster.classes();
    let mut requests = vec![0.0; classes.count()];
    for (asked, weight) in told {
        for (id, asked) in asked {
            if let Some(sum) = classes.find(*id).and_then(|class| requests.get_mut(class)) {
                *sum += asked * weight;
            }
        }
    }
    requests
}

/// What each of the others says about which regions give, by the region's index.
fn giving(roster: &Roster, others: &Others) -> Vec<Vec<bool>> {
    let classes = roster.classes();
    let gives = |region: usize, ids: &[u32]| classes.id_of(region).is_some_and(|id| ids.contains(&id));
    others.giving().map(|ids| (0..classes.regions()).map(|region| gives(region, ids)).collect()).collect()
}

fn figures(roster: &Roster, demands: &[Demand], spilling: &Spilling) -> Vec<RegionLoad> {
    let capacities = roster.capacities();
    let (own, led) =
        (loads(demands, &first_only(demands), capacities.len()), loads(demands, spilling.parts(), capacities.len()));
    let of = |(region, name): (usize, &RegionId)| RegionLoad {
        region: name.clone(),
        demand: own.get(region).copied().unwrap_or(0.0),
        led: led.get(region).copied().unwrap_or(0.0),
        capacity: capacities.get(region).copied().flatten(),
        gives: spilling.gives(region),
    };
    roster.regions().iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests;
