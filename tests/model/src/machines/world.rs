//! What may happen to three nodes.

use std::rc::Rc;

use region_config::RegionId;
use rules::purge::{ALWAYS, Acknowledged, Receipts, Saved};

use super::{
    Action, Answer, Mistake, NODES, Setup, State, Stored,
    node::{Node, event, name_of, site},
};

/// Ids of events that were applied just now travel with answers; those of long ago do not.
const LONG_MS: u64 = 1_000_000;

impl Setup {
    /// Three nodes that have just become a realm.
    pub(super) fn start(&self) -> State {
        let mut nodes: [Node; NODES] =
            std::array::from_fn(|index| Node::start(index, 1, 1, Saved::default(), Vec::new()));
        for _ in 0..4 {
            for (reader, witness) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
                let other = nodes[witness].fork();
                nodes[reader].tail(witness, &other, 0);
                nodes[reader].write();
            }
        }
        // a realm begins with jumps to the ends of empty logs
        for node in &mut nodes {
            node.write();
            node.jumped = false;
        }
        State {
            nodes: nodes.map(|node| Rc::new(node.settle())),
            ordered: 0,
            acknowledged: Vec::new(),
            crashes: self.crashes,
            losses: self.losses,
            cuts: self.cuts,
        }
    }

    pub(super) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, node) in state.nodes.iter().enumerate() {
            if state.ordered < self.events {
                actions.push(Action::Order(index));
            }
            if self.direct {
                let unheard = (0..state.ordered).filter(|event| !node.must.contains(event));
                actions.extend(unheard.map(|event| Action::Hear(index, event)));
            }
            let others = (0..NODES).filter(|other| *other != index);
            actions.extend(others.map(|other| Action::Tail(index, other)));
            if node.dirty && self.is_late(index) {
                actions.push(Action::Write(index));
            }
            if self.caches(index) {
                self.cache_actions(state, index, actions);
            }
            if state.crashes > 0 {
                actions.push(Action::Crash(index));
            }
            // one disk at a time, and everybody else whole
            if state.losses > 0 && state.nodes.iter().all(|node| node.log.voting()) {
                actions.push(Action::Lose(index));
            }
            if state.cuts > 0 && state.cut(index).is_some() {
                actions.push(Action::Cut(index));
            }
        }
    }

    fn cache_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let node = &state.nodes[index];
        if node.answer.is_some() {
            actions.push(Action::Land(index));
        }
        let current = node.stored.is_some_and(|copy| copy.version == state.ordered && node.serves(&copy));
        if current {
            return;
        }
        actions.push(Action::Fetch(index));
        // who is not sure asks the origin
        if node.answer.is_some() || !node.is_sure() {
            return;
        }
        for (other, peer) in state.nodes.iter().enumerate().filter(|(other, _)| *other != index) {
            if peer.stored.is_some_and(|copy| peer.serves(&copy)) {
                actions.extend([false, true].map(|long_ago| Action::Ask(index, other, long_ago)));
            }
        }
    }

    pub(super) fn after(&self, state: &State, action: Action) -> State {
        let mut next = state.clone();
        let now = u64::try_from(state.acknowledged.len()).unwrap_or(u64::MAX);
        match action {
            Action::Order(node) => {
                next.ordered += 1;
                next.change(node, |own| own.hear(state.ordered));
            }
            Action::Hear(node, event) => next.change(node, |own| own.hear(event)),
            Action::Tail(node, witness) => next.change(node, |own| own.tail(witness, &state.nodes[witness], now)),
            Action::Write(node) => next.change(node, Node::write),
            Action::Fetch(node) => next.change(node, |own| own.fetch(state.ordered)),
            Action::Ask(node, other, long_ago) => {
                let (peer, now_ms) = (&state.nodes[other], if long_ago { LONG_MS } else { 0 });
                let have = peer.apply.have(site(), now_ms);
                let version = peer.stored.map_or(0, |copy| copy.version);
                next.change(node, |own| {
                    own.answer = Some(Answer { from: other, version, have, at_start: own.apply.position() });
                });
            }
            Action::Land(node) => next.change(node, |own| {
                let at_start = own.answer.as_ref().map(|answer| answer.at_start);
                let mut copy = own.landing();
                if self.mistake == Some(Mistake::NotTranslated) {
                    copy = copy.zip(at_start).map(|(copy, stamp)| Stored { stamp, ..copy });
                }
                let copy = copy.filter(|copy| own.serves(copy));
                own.stored = copy.or(own.stored);
            }),
            Action::Crash(node) => {
                next.crashes -= 1;
                next.nodes[node] = Rc::new(state.nodes[node].restarted(&state.acknowledged).settle());
            }
            Action::Lose(node) => {
                next.losses -= 1;
                next.nodes[node] = Rc::new(state.nodes[node].lost().settle());
            }
            Action::Cut(node) => {
                next.cuts -= 1;
                if let Some(log) = state.cut(node) {
                    next.change(node, |own| own.log = log);
                }
            }
        }
        for index in (0..NODES).filter(|index| !self.is_late(*index)) {
            while next.nodes[index].dirty {
                next.change(index, Node::write);
            }
        }
        next.acknowledge(self.mistake == Some(Mistake::StoredUnwritten));
        next
    }

    pub(super) fn caches(&self, node: usize) -> bool {
        self.caches & (1 << node) != 0
    }

    fn is_late(&self, node: usize) -> bool {
        self.late & (1 << node) != 0
    }
}

impl State {
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Node)) {
        let mut node = self.nodes[index].fork();
        node.dirty = true;
        change(&mut node);
        self.nodes[index] = Rc::new(node.settle());
    }

    fn cut(&self, index: usize) -> Option<rules::purge::Witness> {
        let others = (0..NODES).filter(|other| *other != index);
        let others: Vec<_> = others.map(|other| (other, self.nodes[other].saved_cursor(index))).collect();
        self.nodes[index].cut(&others).map(|(log, _)| log)
    }

    /// Asks the real receipts whether what is on disk is enough.
    fn acknowledge(&mut self, unwritten: bool) {
        for number in (0..self.ordered).filter(|number| !self.acknowledged.contains(number)).collect::<Vec<_>>() {
            let witnesses = (0..NODES).map(|node| name_of(node).clone()).collect();
            let mut receipts = Receipts::new(witnesses, Vec::<(_, RegionId)>::new(), 8);
            receipts.handle_taken(event(number), 0, 0);
            for node in (0..NODES).filter(|node| self.nodes[*node].has(number, unwritten)) {
                receipts.handle_stored(event(number).id(), name_of(node), 0);
            }
            if receipts.state(event(number).id()) >= Some(Acknowledged::Quorum) {
                self.acknowledged.push(number);
            }
        }
    }

    /// Whether what a node serves is at least as new as every event that it knows or is sure to know.
    pub(super) fn serves_rightly(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let Some(copy) = node.stored.filter(|copy| node.serves(copy)) else { return true };
        let since = node.lease.since(node.log.voting()).filter(|since| *since != ALWAYS).unwrap_or(0);
        let sure = usize::try_from(since.saturating_sub(1)).unwrap_or(usize::MAX);
        let leased = self.acknowledged.iter().take(sure);
        node.must.iter().chain(leased).all(|event| copy.version > *event)
    }

    /// What answers are worth that are on their way.
    pub(super) fn landings(&self) -> impl Iterator<Item = (&Node, Stored)> {
        let waiting = self.nodes.iter().filter(|node| node.answer.is_some());
        waiting.filter_map(|node| Some((&**node, node.fork().landing()?)))
    }
}
