//! What became of the purges that this node took: who stored them, who applied them.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use region_config::{NodeId, RegionId, SiteId};

use super::{
    event::{Event, Mode, PurgeId, PurgeKey},
    lease::fenced_after,
    position::Position,
    quorum::Electorate,
};

/// Receipts that are kept.
pub const RECEIPTS_MAX: usize = 10_000;
/// Events that wait for a majority, at most.
pub const OUTBOX_MAX: usize = 50_000;

/// What an application wants to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The purge is on the disk of the node that took it, which sends it until a majority has it.
    Local,
    /// It is on the disks of a majority of the witnesses.
    Quorum,
    /// Every member in the region of the node that took it has applied it or is fenced, too.
    Region,
    /// Every member has applied it or is fenced, too.
    All,
}

/// How far a purge has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Acknowledged {
    /// Taken.
    Accepted,
    /// On the disks of a majority of the witnesses: it cannot be lost any more.
    Quorum,
    /// And in effect on every member of this node's region, or the member is fenced.
    Region,
    /// And in effect on every member, or the member is fenced.
    All,
}

impl Acknowledged {
    /// The word for it in API, logs and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Quorum => "quorum",
            Self::Region => "region",
            Self::All => "all",
        }
    }
}

/// What is known of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeReceipt {
    /// It is in effect there, and stays so over a restart; at this position of the member's own order.
    Applied {
        /// Where.
        position: Position,
    },
    /// No lease that the member may still hold is from before a majority had the purge: it serves nothing that falls
    /// under it before it has heard of it.
    Fenced,
    /// Not heard from yet.
    Pending,
}

impl NodeReceipt {
    /// The word for it in API, logs and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::Fenced => "fenced",
            Self::Pending => "pending",
        }
    }
}

/// The state of one purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its id.
    pub id: PurgeId,
    /// The site it is about; none if it is about all of the realm.
    pub site: Option<SiteId>,
    /// Hard or soft.
    pub mode: Mode,
    /// What it is about.
    pub keys: Vec<PurgeKey>,
    /// When it was taken, in ms since the Unix epoch (for people, never for decisions).
    pub taken_unix_ms: u64,
    /// How far it has come.
    pub state: Acknowledged,
    /// Witnesses that have it on disk, each with the ms it took to know.
    pub stored: Vec<(NodeId, u32)>,
    /// Every member, each with the ms it took to know.
    pub nodes: Vec<(NodeId, RegionId, NodeReceipt, Option<u32>)>,
}

/// The purges that one node took, and the outbox of those that no majority has yet.
#[derive(Debug)]
pub struct Receipts {
    electorate: Electorate,
    witnesses: Vec<NodeId>,
    members: Vec<(NodeId, RegionId)>,
    /// The region of this node.
    here: Option<RegionId>,
    /// Those that a majority has and not every member, by the time from which the others are fenced.
    fences: BTreeSet<(u64, PurgeId)>,
    taken: HashMap<PurgeId, Taken>,
    order: VecDeque<PurgeId>,
    waiting: usize,
    max: usize,
}

#[derive(Debug)]
struct Taken {
    event: Arc<Event>,
    unix_ms: u64,
    started_ms: u64,
    /// Per witness: ms until it was known to have it on disk.
    stored: Vec<Option<u32>>,
    /// Per member: where and after how many ms it was known to have applied it.
    applied: Vec<Option<(Position, u32)>>,
    /// What the routes that it touches promise; none if one of them promises nothing.
    bound_ms: Option<u64>,
    /// When a majority had it.
    quorum_ms: Option<u64>,
    /// After how many ms the others were fenced.
    fenced: Option<u32>,
    state: Acknowledged,
}

impl Receipts {
    /// No purges yet, at a node called `me`.
    #[must_use]
    pub fn new(
        electorate: Electorate,
        witnesses: Vec<NodeId>,
        members: Vec<(NodeId, RegionId)>,
        me: &NodeId,
        max: usize,
    ) -> Self {
        let here = members.iter().find(|(node, _)| node == me).map(|(_, region)| region.clone());
        Self {
            electorate,
            witnesses,
            members,
            here,
            fences: BTreeSet::new(),
            taken: HashMap::new(),
            order: VecDeque::new(),
            waiting: 0,
            max,
        }
    }

    /// An application's purge. `bound_ms` is what the routes that it touches promise: after that, whoever has not heard of
    /// it does not serve what falls under it; none if one of them promises nothing. False if too many wait for a majority
    /// already; taking it again changes nothing.
    pub fn handle_taken(&mut self, event: &Arc<Event>, bound_ms: Option<u64>, now_ms: u64, unix_ms: u64) -> bool {
        if self.taken.contains_key(&event.id()) {
            return true;
        }
        if self.waiting >= OUTBOX_MAX {
            return false;
        }
        let taken = Taken {
            event: Arc::clone(event),
            unix_ms,
            started_ms: now_ms,
            stored: vec![None; self.witnesses.len()],
            applied: vec![None; self.members.len()],
            bound_ms,
            quorum_ms: None,
            fenced: None,
            state: Acknowledged::Accepted,
        };
        self.taken.insert(event.id(), taken);
        self.order.push_back(event.id());
        self.waiting += 1;
        self.trim();
        true
    }

    /// A witness has it on disk. Returns the new state if that changed it; from [`Acknowledged::Quorum`] on it may
    /// leave the outbox.
    pub fn handle_stored(&mut self, id: PurgeId, witness: &NodeId, now_ms: u64) -> Option<Acknowledged> {
        let index = self.witnesses.iter().position(|name| name == witness)?;
        let taken = self.taken.get_mut(&id)?;
        taken.stored[index].get_or_insert(since(taken.started_ms, now_ms));
        self.advance(id, now_ms)
    }

    /// A member has applied it, and will still have after a restart. Returns the new state if that changed it.
    pub fn handle_applied(
        &mut self,
        id: PurgeId,
        member: &NodeId,
        position: Position,
        now_ms: u64,
    ) -> Option<Acknowledged> {
        let index = self.members.iter().position(|(name, _)| name == member)?;
        let taken = self.taken.get_mut(&id)?;
        taken.applied[index].get_or_insert((position, since(taken.started_ms, now_ms)));
        self.advance(id, now_ms)
    }

    /// The state of a purge that this node took.
    #[must_use]
    pub fn receipt(&self, id: PurgeId) -> Option<Receipt> {
        let taken = self.taken.get(&id)?;
        let stored = self.witnesses.iter().zip(&taken.stored);
        let nodes = self.members.iter().zip(&taken.applied).map(|((node, region), ms)| {
            let (state, ms) = match (ms, taken.fenced) {
                (Some((position, ms)), _) => (NodeReceipt::Applied { position: *position }, Some(*ms)),
                (None, Some(ms)) => (NodeReceipt::Fenced, Some(ms)),
                (None, None) => (NodeReceipt::Pending, None),
            };
            (node.clone(), region.clone(), state, ms)
        });
        Some(Receipt {
            id,
            site: taken.event.site().cloned(),
            mode: taken.event.mode(),
            keys: taken.event.keys().to_vec(),
            taken_unix_ms: taken.unix_ms,
            state: taken.state,
            stored: stored.filter_map(|(witness, ms)| ms.map(|ms| (witness.clone(), ms))).collect(),
            nodes: nodes.collect(),
        })
    }

    /// The newest ones, newest first.
    #[must_use]
    pub fn recent(&self, limit: usize) -> Vec<Receipt> {
        self.order.iter().rev().filter_map(|id| self.receipt(*id)).take(limit).collect()
    }

    /// A purge that this node took.
    #[must_use]
    pub fn event(&self, id: PurgeId) -> Option<&Arc<Event>> {
        self.taken.get(&id).map(|taken| &taken.event)
    }

    /// How far a purge has come.
    #[must_use]
    pub fn state(&self, id: PurgeId) -> Option<Acknowledged> {
        self.taken.get(&id).map(|taken| taken.state)
    }

    /// The events that wait for a majority, oldest first.
    #[must_use]
    pub fn waiting_events(&self) -> Vec<Arc<Event>> {
        let taken = self.order.iter().filter_map(|id| self.taken.get(id));
        let waiting = taken.filter(|taken| taken.state == Acknowledged::Accepted);
        waiting.map(|taken| Arc::clone(&taken.event)).collect()
    }

    /// How many wait for a majority.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// When the oldest of those that wait for a majority was taken, by the clock of `handle_taken`.
    #[must_use]
    pub fn waiting_since_ms(&self) -> Option<u64> {
        // those that wait are among the newest, as a rule: few are looked at
        let taken = self.order.iter().rev().filter_map(|id| self.taken.get(id));
        let waiting = taken.filter(|taken| taken.state == Acknowledged::Accepted);
        waiting.take(self.waiting).map(|taken| taken.started_ms).min()
    }

    /// Those whose other members are fenced from now on: nobody can serve what fell under them. Each is returned once.
    pub fn poll_fenced(&mut self, now_ms: u64) -> Vec<PurgeId> {
        let mut fenced = Vec::new();
        while let Some((_, id)) = self.fences.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            self.fences.pop_first();
            if let Some(taken) = self.taken.get_mut(&id) {
                taken.fenced.get_or_insert(since(taken.started_ms, now_ms));
            }
            if self.advance(id, now_ms).is_some() {
                fenced.push(id);
            }
        }
        fenced
    }

    fn advance(&mut self, id: PurgeId, now_ms: u64) -> Option<Acknowledged> {
        let Self { electorate, members, here, fences, taken, .. } = self;
        let taken = taken.get_mut(&id)?;
        let quorum = electorate.met(|witness| taken.stored.get(witness).is_some_and(Option::is_some));
        let done = |member: usize| taken.fenced.is_some() || taken.applied.get(member).is_some_and(Option::is_some);
        let of_here = |member: usize| members.get(member).is_some_and(|(_, region)| Some(region) == here.as_ref());
        let state = if !quorum {
            Acknowledged::Accepted
        } else if (0..members.len()).all(done) {
            Acknowledged::All
        } else if (0..members.len()).all(|member| !of_here(member) || done(member)) {
            Acknowledged::Region
        } else {
            Acknowledged::Quorum
        };
        if state == taken.state {
            return None;
        }
        if taken.state == Acknowledged::Accepted {
            self.waiting -= 1;
            taken.quorum_ms = Some(now_ms);
        }
        if let (Some(bound_ms), Some(quorum_ms)) = (taken.bound_ms, taken.quorum_ms) {
            let fence = (quorum_ms.saturating_add(fenced_after(bound_ms)), id);
            if state == Acknowledged::All {
                fences.remove(&fence)
            } else {
                fences.insert(fence)
            };
        }
        taken.state = state;
        Some(state)
    }

    /// Forgets the oldest ones that have left the outbox.
    fn trim(&mut self) {
        let mut kept = 0;
        while self.order.len() > self.max + self.waiting && kept <= self.waiting {
            let Some(oldest) = self.order.pop_front() else { return };
            if self.state(oldest) == Some(Acknowledged::Accepted) {
                self.order.push_back(oldest);
                kept += 1;
            } else if let Some(Taken { bound_ms: Some(bound_ms), quorum_ms: Some(quorum_ms), .. }) =
                self.taken.remove(&oldest)
            {
                self.fences.remove(&(quorum_ms.saturating_add(fenced_after(bound_ms)), oldest));
            }
        }
    }
}

fn since(start_ms: u64, now_ms: u64) -> u32 {
    u32::try_from(now_ms.saturating_sub(start_ms)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn receipts(max: usize) -> Receipts {
        let members = [("a", "r"), ("b", "r"), ("c", "s"), ("d", "s")];
        let members = members.map(|(name, region)| (node(name), RegionId::parse(region).unwrap()));
        let witnesses = ["a", "b", "c"].map(node).to_vec();
        Receipts::new(Electorate::of(3), witnesses, members.to_vec(), &node("a"), max)
    }

    fn event(key: usize) -> Arc<Event> {
        let site = SiteId::parse("shop").unwrap();
        Arc::new(Event::new(Some(site), Mode::Hard, vec![PurgeKey::Site], key.to_string()).unwrap())
    }

    #[test]
    fn a_majority_of_witnesses_acknowledges_and_one_does_not() {
        let mut receipts = receipts(10);
        let id = event(1).id();
        assert!(receipts.handle_taken(&event(1), None, 100, 0));
        assert_eq!(receipts.handle_stored(id, &node("a"), 101), None, "one copy is no acknowledgement");
        assert_eq!(receipts.handle_stored(id, &node("a"), 102), None, "nor is the same one twice");
        assert_eq!(receipts.handle_stored(id, &node("d"), 102), None, "nor is one by a node that is no witness");
        assert_eq!(receipts.waiting(), 1);
        assert_eq!(receipts.handle_stored(id, &node("c"), 105), Some(Acknowledged::Quorum));
        assert_eq!(receipts.waiting(), 0);
        let receipt = receipts.receipt(id).unwrap();
        assert_eq!(receipt.stored, [(node("a"), 1), (node("c"), 5)]);
        assert!(receipt.nodes.iter().all(|(.., state, ms)| *state == NodeReceipt::Pending && ms.is_none()));
    }

    #[test]
    fn all_means_every_member_and_a_majority_of_disks() {
        let mut receipts = receipts(10);
        let id = event(1).id();
        receipts.handle_taken(&event(1), None, 0, 0);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(receipts.handle_applied(id, &node(name), Position(4), 9), None);
        }
        assert_eq!(receipts.handle_stored(id, &node("b"), 9), None);
        assert_eq!(receipts.handle_stored(id, &node("c"), 9), Some(Acknowledged::All));
    }

    #[test]
    fn the_region_comes_before_the_rest() {
        let mut receipts = receipts(10);
        let id = event(1).id();
        receipts.handle_taken(&event(1), None, 0, 0);
        for name in ["a", "b"] {
            receipts.handle_stored(id, &node(name), 1);
        }
        assert_eq!(receipts.handle_applied(id, &node("b"), Position(4), 2), None);
        assert_eq!(receipts.handle_applied(id, &node("a"), Position(7), 3), Some(Acknowledged::Region));
        let nodes = receipts.receipt(id).unwrap().nodes;
        assert_eq!((nodes[0].2, nodes[0].3), (NodeReceipt::Applied { position: Position(7) }, Some(3)));
    }

    #[test]
    fn who_does_not_answer_is_fenced_when_no_lease_can_be_older_than_the_majority() {
        let mut receipts = receipts(10);
        let id = event(1).id();
        receipts.handle_taken(&event(1), Some(1000), 0, 0);
        receipts.handle_applied(id, &node("a"), Position(4), 1);
        assert!(receipts.poll_fenced(90_000).is_empty(), "no majority has it");
        for name in ["a", "b"] {
            receipts.handle_stored(id, &node(name), 100);
        }
        assert!(receipts.poll_fenced(1110).is_empty());
        assert_eq!(receipts.poll_fenced(1111), [id]);
        let receipt = receipts.receipt(id).unwrap();
        assert_eq!(receipt.state, Acknowledged::All);
        assert!(matches!(receipt.nodes[0].2, NodeReceipt::Applied { .. }));
        assert_eq!((receipt.nodes[3].2, receipt.nodes[3].3), (NodeReceipt::Fenced, Some(1111)));
        assert!(receipts.poll_fenced(u64::MAX).is_empty());

        receipts.handle_taken(&event(2), None, 0, 0);
        for name in ["a", "b"] {
            receipts.handle_stored(event(2).id(), &node(name), 100);
        }
        assert!(receipts.poll_fenced(u64::MAX).is_empty(), "nobody promises anything there");
    }

    #[test]
    fn old_receipts_are_forgotten_but_never_what_waits_for_a_majority() {
        let mut receipts = receipts(3);
        receipts.handle_taken(&event(0), None, 0, 0);
        for key in 1..100 {
            receipts.handle_taken(&event(key), None, 0, 0);
            for witness in ["a", "b"] {
                receipts.handle_stored(event(key).id(), &node(witness), 0);
            }
        }
        assert!(receipts.receipt(event(0).id()).is_some());
        assert!(receipts.receipt(event(99).id()).is_some());
        assert!(receipts.receipt(event(50).id()).is_none());
        assert!(receipts.order.len() <= 5 && receipts.taken.len() <= 5);
    }
}
