//! The machine that a node runs: its own probes and everybody's reports in, the fleet's health out.

use region_config::{Config, NodeId, RegionId};

use super::{
    Book, Course, Fleet, Layout, NodeState, NodeView, Probed, Readiness, RegionState, RegionView, Report, Returns,
    Settings, judge, minority,
    returning::{Memory, WHOLE_PERCENT, part_of},
};

/// A node's view of the fleet. Feed it with `handle_*`, ask it with [`Verdicts::poll`].
#[derive(Debug, Clone)]
pub struct Verdicts {
    settings: Settings,
    layout: Layout,
    here: (usize, usize),
    readiness: Readiness,
    regions: Vec<Watched>,
    epoch: u64,
    /// When the fleet was settled for the first time (monotonic, in ms).
    began_ms: Option<u64>,
    returns: Returns,
}

/// A region, as watched.
#[derive(Debug, Clone)]
struct Watched {
    course: Course,
    since_unix_ms: u64,
    memory: Memory,
    nodes: Vec<Member>,
}

/// A node, as watched: by our own probes, and by what it said last.
#[derive(Debug, Clone, Default)]
struct Member {
    probed: Probed,
    said: Option<(Report, u64)>,
    /// Whether it was ever heard of.
    known: bool,
}

impl Verdicts {
    /// The view of `config.node`, which has seen nothing yet. Its own region begins as up, for it runs there.
    #[must_use]
    pub fn new(config: &Config, settings: Settings) -> Self {
        let layout = Layout::of(config);
        let here = layout.place(&config.node.name).unwrap_or((0, 0));
        let regions = layout.regions.iter().enumerate();
        let regions = regions.map(|(index, (_, nodes))| Watched::new(nodes.len(), index == here.0)).collect();
        let returns = Returns { new_here: true, ..Returns::default() };
        let readiness = Readiness::Ready;
        let mut verdicts = Self { settings, layout, here, readiness, regions, epoch: 0, began_ms: None, returns };
        if let Some(ourselves) = verdicts.member_mut(here) {
            ourselves.probed = Probed::ourselves();
        }
        verdicts
    }

    /// Takes a new config: what is known of nodes and regions that are still there is kept.
    pub fn replace(&mut self, config: &Config) {
        let mut new = Self::new(config, self.settings.clone());
        (new.readiness, new.epoch) = (self.readiness, self.epoch + 1);
        (new.began_ms, new.returns) = (self.began_ms, self.returns.clone());
        for (region, (name, nodes)) in new.regions.iter_mut().zip(&new.layout.regions) {
            let Some(old) = self.layout.regions.iter().position(|(known, _)| known == name) else { continue };
            let Some(watched) = self.regions.get(old) else { continue };
            (region.course, region.since_unix_ms) = (watched.course.clone(), watched.since_unix_ms);
            region.memory = watched.memory;
            for (member, node) in region.nodes.iter_mut().zip(nodes) {
                let known = self.layout.place(node).filter(|(region, _)| *region == old);
                if let Some(known) = known.and_then(|(_, index)| watched.nodes.get(index)) {
                    *member = known.clone();
                }
            }
        }
        *self = new;
    }

    /// What this node says of itself from now on.
    pub fn handle_readiness(&mut self, readiness: Readiness) {
        self.readiness = readiness;
    }

    /// A node answered a probe. True if its state changed. Unknown nodes change nothing.
    pub fn handle_answer(&mut self, node: &NodeId, rtt_us: u32) -> bool {
        let settings = self.settings.clone();
        self.other_mut(node).is_some_and(|member| {
            member.known = true;
            member.probed.handle_answer(rtt_us, &settings)
        })
    }

    /// A node did not answer a probe, which we noticed `late_ms` later than we should. True if its state changed. Unknown nodes change nothing.
    pub fn handle_miss(&mut self, node: &NodeId, late_ms: u64) -> bool {
        let settings = self.settings.clone();
        self.other_mut(node).is_some_and(|member| member.probed.handle_miss(late_ms, &settings))
    }

    /// A node said something new, heard at `now_ms`.
    pub fn handle_report(&mut self, node: &NodeId, report: Report, now_ms: u64) {
        if let Some(member) = self.other_mut(node) {
            (member.said, member.known) = (Some((report, now_ms)), true);
        }
    }

    /// What a node said last was read anew, since other names are known now. It counts from when it was heard or confirmed
    /// last; `heard_ms` is for a node that was not known then.
    pub fn handle_rereading(&mut self, node: &NodeId, report: Report, heard_ms: u64) {
        if let Some(member) = self.other_mut(node) {
            let at_ms = member.said.as_ref().map_or(heard_ms, |(_, at_ms)| *at_ms);
            (member.said, member.known) = (Some((report, at_ms)), true);
        }
    }

    /// A node confirmed at `now_ms` that its last report still stands.
    pub fn handle_confirmation(&mut self, node: &NodeId, now_ms: u64) {
        if let Some((_, heard_ms)) = self.other_mut(node).and_then(|member| member.said.as_mut()) {
            *heard_ms = now_ms;
        }
    }

    /// A node began anew: what it said before no longer counts.
    pub fn handle_restart(&mut self, node: &NodeId) {
        if let Some(member) = self.other_mut(node) {
            member.said = None;
        }
    }

    /// What this node has to say to the others.
    #[must_use]
    pub fn report(&self) -> Report {
        let members = self.regions.iter().zip(&self.layout.regions);
        let members = members.flat_map(|(watched, (_, nodes))| nodes.iter().zip(&watched.nodes));
        let answers = members.filter_map(|(node, member)| match member.probed.state() {
            state if state.answers() => Some((node.clone(), true)),
            NodeState::Down => Some((node.clone(), false)),
            _ => None,
        });
        Report { readiness: self.readiness, answers: answers.collect(), returns: self.returns.clone() }
    }

    /// A node's standing by our own probes.
    #[must_use]
    pub fn node(&self, node: &NodeId) -> NodeState {
        let place = self.layout.place(node);
        let member = place.and_then(|(region, index)| self.regions.get(region)?.nodes.get(index));
        member.map_or(NodeState::Unknown, |member| member.probed.state())
    }

    /// The regions of which nothing was ever heard, but for those that are forced down: they may not run yet.
    #[must_use]
    pub fn unheard(&self, book: &Book) -> Vec<RegionId> {
        let orders = book.orders(&self.layout);
        let regions = self.regions.iter().zip(&self.layout.regions).enumerate();
        let unheard = regions.filter(|(index, (watched, _))| {
            *index != self.here.0 && !orders.region_is_down(*index) && !watched.nodes.iter().any(|member| member.known)
        });
        unheard.map(|(_, (_, (name, _)))| name.clone()).collect()
    }

    /// Judges all regions anew, knowing what is forced, which is not laid over it yet. `now_ms` is monotonic; `now_unix_ms`
    /// only goes into [`RegionView::since_unix_ms`].
    pub fn poll(&mut self, book: &Book, now_ms: u64, now_unix_ms: u64) -> Fleet {
        let own = self.report();
        let reports = self.fresh(&own, now_ms);
        let orders = book.orders(&self.layout);
        let frozen = minority(&reports, &orders);
        let ours = wants_clients(self.readiness);
        let judge = |region| judge(&self.layout, &reports, &orders, region);
        let judgements: Vec<_> = (0..self.regions.len()).map(judge).collect();
        let mut views = Vec::with_capacity(self.regions.len());
        for ((watched, (name, names)), judgement) in self.regions.iter_mut().zip(&self.layout.regions).zip(judgements) {
            if frozen {
                watched.course.freeze();
            } else if watched.course.handle_judgement((judgement.state, judgement.ground), now_ms, &self.settings) {
                watched.since_unix_ms = now_unix_ms;
                self.epoch += 1;
            }
            let nodes = names.iter().zip(&watched.nodes).map(|(name, member)| NodeView {
                name: name.clone(),
                state: member.standing(),
                rtt_us: member.probed.rtt_us(),
            });
            views.push(RegionView {
                name: name.clone(),
                state: watched.course.state(),
                since_unix_ms: watched.since_unix_ms,
                pending: watched.course.pending(),
                recent: false,
                part_percent: WHOLE_PERCENT,
                nodes: nodes.collect(),
                votes: judgement.votes,
            });
        }
        if let Some(ourselves) = views.get_mut(self.here.0).and_then(|view| view.nodes.get_mut(self.here.1)) {
            ourselves.state = ours;
        }
        Fleet { epoch: self.epoch, minority: frozen, regions: views }
    }

    /// Says in a fleet that was polled, with what is forced by `book` laid over it, which regions have changed lately, and what part of
    /// their clients those get that came back. What this node has to say of that is then in its [`Verdicts::report`].
    pub fn settle(&mut self, fleet: &mut Fleet, book: &Book, now_ms: u64) {
        let began_ms = *self.began_ms.get_or_insert(now_ms);
        self.returns.new_here = now_ms.saturating_sub(began_ms) < self.settings.return_ms + self.settings.warm_ms;
        self.returns.parts.clear();
        for (watched, (name, _)) in self.regions.iter_mut().zip(&self.layout.regions) {
            // the fleet may be of the config before
            let Some(view) = fleet.regions.iter_mut().find(|view| view.name == *name) else { continue };
            let part = watched.memory.handle_state(view.state, now_ms, &self.settings);
            view.recent = watched.memory.has_changed_lately(now_ms, &self.settings);
            if part < WHOLE_PERCENT {
                self.returns.parts.insert(name.clone(), part);
            }
        }
        let own = self.report();
        let (reports, minority) = (self.fresh(&own, now_ms), fleet.minority);
        let orders = book.orders(&self.layout);
        for (index, (name, _)) in self.layout.regions.iter().enumerate() {
            let Some(view) = fleet.regions.iter_mut().find(|view| view.name == *name) else { continue };
            view.part_percent = if minority {
                // nobody else is heard: what this node has seen itself goes on
                own.returns.parts.get(name).copied().unwrap_or(WHOLE_PERCENT)
            } else {
                part_of(&self.layout, &reports, &orders, index)
            };
        }
    }

    /// The reports that count now: our own; and of others those that are recent, from nodes that we do not find down.
    fn fresh<'a>(&'a self, own: &'a Report, now_ms: u64) -> Vec<Vec<Option<&'a Report>>> {
        let window_ms = self.settings.heartbeat_ms * self.settings.fresh_heartbeats;
        let counts = |member: &'a Member| match &member.said {
            Some((report, heard_ms)) => {
                let fresh = now_ms.saturating_sub(*heard_ms) <= window_ms && member.probed.state() != NodeState::Down;
                fresh.then_some(report)
            }
            None => None,
        };
        let mut reports: Vec<Vec<_>> =
            self.regions.iter().map(|watched| watched.nodes.iter().map(counts).collect()).collect();
        if let Some(ourselves) = reports.get_mut(self.here.0).and_then(|region| region.get_mut(self.here.1)) {
            *ourselves = Some(own);
        }
        reports
    }

    fn member_mut(&mut self, (region, index): (usize, usize)) -> Option<&mut Member> {
        self.regions.get_mut(region)?.nodes.get_mut(index)
    }

    fn other_mut(&mut self, node: &NodeId) -> Option<&mut Member> {
        let place = self.layout.place(node)?;
        if place == self.here { None } else { self.member_mut(place) }
    }
}

impl Member {
    /// Whether it answers, and whether it wants clients. What it said of that is believed however long ago it said so: a
    /// node that stopped and comes back says something else first.
    fn standing(&self) -> NodeState {
        match (self.probed.state(), &self.said) {
            (NodeState::Up, Some((report, _))) => wants_clients(report.readiness),
            (state, _) => state,
        }
    }
}

/// The standing of a node that answers.
fn wants_clients(readiness: Readiness) -> NodeState {
    match readiness {
        Readiness::Starting => NodeState::Starting,
        Readiness::Ready => NodeState::Up,
        Readiness::Draining => NodeState::Draining,
    }
}

impl Watched {
    fn new(nodes: usize, ours: bool) -> Self {
        let state = if ours { RegionState::Up } else { RegionState::Unknown };
        let nodes = vec![Member::default(); nodes];
        Self { course: Course::new(state), since_unix_ms: 0, memory: Memory::default(), nodes }
    }
}

#[cfg(test)]
pub(super) mod tests;
