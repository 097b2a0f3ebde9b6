//! Three nodes, all of them witnesses and caches, under random schedules: events lost and late, power failures, lost
//! disks, logs cut short, answers between nodes that come late. The machines are the real ones; the wire and the disk
//! are values. What is checked is P1 of the model: no node ever serves a copy that is older than an event which it
//! has applied or jumped over; and P4: what was acknowledged stays in some log. The exhaustive model is stateright's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
};

use region_config::{NodeId, SiteId};

use super::*;

const TAGS: usize = 2;
const KEEP: u64 = 8;

/// A copy of an object: which version the origin showed when it was fetched.
#[derive(Clone)]
struct Copy {
    version: usize,
    stamp: Position,
}

/// An answer of a peer, on its way.
#[derive(Clone)]
struct Answer {
    from: usize,
    tag: usize,
    version: usize,
    have: Have,
    at_start: Position,
    boot: u32,
}

struct Node {
    apply: Apply,
    log: Witness,
    boot: u32,
    /// What is on its disk.
    saved: Saved,
    records: Vec<Arc<Record>>,
    copies: [Vec<Copy>; TAGS],
    /// Events applied or jumped over in this boot, and those of boots before that were acknowledged then.
    must: BTreeSet<usize>,
    caught_up: bool,
}

struct World {
    nodes: Vec<Node>,
    events: Vec<(usize, Arc<Event>)>,
    /// Per tag: how many purges were sent, which is the version that the origin shows.
    versions: [usize; TAGS],
    stored: BTreeMap<usize, BTreeSet<usize>>,
    answers: Vec<Answer>,
    chance: u64,
    seen: Seen,
}

/// That the runs are not empty.
#[derive(Default, Debug)]
struct Seen {
    served: u64,
    refused: u64,
    crashes: u64,
    losses: u64,
    jumps: u64,
    acknowledged: u64,
}

fn site() -> SiteId {
    SiteId::parse("shop").unwrap()
}

fn name(index: usize) -> NodeId {
    NodeId::parse(["a", "b", "c"][index]).unwrap()
}

fn tag(index: usize) -> String {
    format!("t{index}")
}

impl Node {
    fn start(index: usize, boot: u32, mut saved: Saved, records: &[Arc<Record>], epoch: u64) -> Self {
        let state = saved.witness.take().map(|witness| witness.state);
        let past = state.is_some();
        let log = match state {
            Some(state) => {
                let newest: Vec<_> = records.iter().filter(|record| record.seq >= state.base).cloned().collect();
                let ids = newest.iter().map(|record| (record.seq, record.event.id())).collect();
                Witness::restored(SavedWitness { state, ids, newest }, index, 3, KEEP)
            }
            None => {
                saved = Saved::default();
                Witness::without_past(epoch, index, 3, KEEP)
            }
        };
        let terms = Terms {
            secret: RealmSecret([9; 16]),
            boot,
            run: epoch,
            witnesses: (0..3).map(name).collect(),
            own: Some(index),
            limits: Limits { known: 30, marks: 1000, ring: 6 },
        };
        let kept = saved.clone();
        let mut apply = Apply::new(terms, saved, log.voting().then(|| log.appended()));
        if !past {
            apply.handle_no_past();
        }
        Self {
            apply,
            log,
            boot,
            saved: kept,
            records: if past { records.to_vec() } else { Vec::new() },
            copies: Default::default(),
            must: BTreeSet::new(),
            caught_up: false,
        }
    }

    /// Writes what changed, as the ledger's file does. Positions in the saved state matter, so it is all of it.
    fn write(&mut self) {
        let mut delta = self.apply.poll_delta();
        (delta.records, delta.witness) = self.log.poll_fresh();
        let saved = &mut self.saved;
        if let Some(floor) = delta.floor {
            saved.floor = floor;
            saved.marks.clear();
        }
        for (site, key, marks) in delta.marks {
            saved.marks.retain(|(_, old, _)| *old != key);
            saved.marks.push((site, key, marks));
        }
        for (site, floors) in delta.floors {
            saved.floors.retain(|(old, _)| *old != site);
            saved.floors.push((site, floors));
        }
        saved.known.extend(delta.known);
        if let Some(forget) = delta.forget {
            saved.known.retain(|(position, ..)| *position >= forget);
        }
        for (id, event) in delta.unseen {
            saved.unseen.retain(|old| old.id() != id);
            saved.unseen.extend(event);
        }
        for (witness, cursor) in delta.cursors {
            saved.cursors.retain(|(old, _)| *old != witness);
            saved.cursors.push((witness, cursor));
        }
        if let Some(state) = delta.witness {
            saved.witness = Some(SavedWitness { state, ids: vec![], newest: vec![] });
        }
        self.records.extend(delta.records);
        let voted = self.log.voting();
        self.log.handle_durable(self.log.appended().seq);
        if self.log.voting() && !voted {
            self.apply.handle_own_epoch(self.log.appended(), true);
            self.write();
        }
    }

    fn valid(&mut self, tag: usize, copy: &Copy) -> bool {
        let guard = self.apply.guard(&site());
        let keys = guard.keys("h", "/", None, Some(&[&super::simulation::tag(tag)]));
        self.caught_up && guard.standing(copy.stamp, &AtomicU64::new(0), &keys) == Standing::Valid
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let nodes = (0..3).map(|i| Node::start(i, 1, Saved::default(), &[], 100 + i as u64)).collect();
        let mut world = Self {
            nodes,
            events: vec![],
            versions: [0; TAGS],
            stored: BTreeMap::new(),
            answers: vec![],
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            seen: Seen::default(),
        };
        for _ in 0..4 {
            for (reader, witness) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
                world.tail(reader, witness, 9);
            }
        }
        world
    }

    fn pick(&mut self, below: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        usize::try_from(self.chance >> 33).unwrap() % below
    }

    fn step(&mut self, calm: bool) {
        let (node, other) = (self.pick(3), self.pick(3));
        match self.pick(if calm { 80 } else { 100 }) {
            0..6 => self.purge(node),
            6..14 => self.deliver(node),
            14..40 if node != other => {
                let count = 1 + self.pick(3);
                self.tail(node, other, count);
            }
            40..50 => self.nodes[node].write(),
            50..58 => self.fetch(node),
            58..72 if node != other => self.ask(node, other),
            72..80 => self.answer(),
            80..82 => self.crash(node),
            82..83 => self.lose(node),
            83..99 => self.compact(node),
            _ => {}
        }
        self.check();
    }

    fn purge(&mut self, node: usize) {
        let tag = self.pick(TAGS);
        self.versions[tag] += 1;
        let number = self.events.len();
        let keys = vec![PurgeKey::Tag(super::simulation::tag(tag))];
        let event = Arc::new(Event::new(Some(site()), Mode::Hard, keys, number.to_string()).unwrap());
        self.events.push((tag, event));
        self.hear(node, number);
    }

    /// Any event may reach any node at any time, or never.
    fn deliver(&mut self, node: usize) {
        if !self.events.is_empty() {
            let recent = self.events.len().saturating_sub(5);
            let number = recent + self.pick(self.events.len() - recent);
            self.hear(node, number);
        }
    }

    fn hear(&mut self, index: usize, number: usize) {
        let event = Arc::clone(&self.events[number].1);
        let node = &mut self.nodes[index];
        let source = match node.log.voting().then(|| node.log.handle_event(&event)) {
            Some(Append::At { seq, .. }) => Source::Log { witness: index, seq },
            _ => Source::Direct,
        };
        node.apply.handle_event(&event, source, 0);
        if matches!(source, Source::Log { .. }) {
            node.apply.handle_own_log(node.log.appended());
        }
        node.must.insert(number);
    }

    /// Reads some of a witness's log, over a line that is opened for it.
    fn tail(&mut self, reader: usize, witness: usize, count: usize) {
        let head = self.nodes[witness].log.head();
        let recovering = self.nodes[reader].log.recovering();
        let before = self.nodes[reader].apply.cursor(witness);
        let start = self.nodes[reader].apply.handle_head(witness, head, recovering, 0);
        let after = self.nodes[reader].apply.cursor(witness);
        if let (Some(start), true) = (start, before.map(|c| (c.epoch, c.seq)) != after.map(|c| (c.epoch, c.seq)))
            && start.cursor.seq > 0
        {
            // a jump: everything in that log up to there was passed over
            self.seen.jumps += 1;
            let passed: Vec<usize> = self.logged(witness, start.cursor.seq);
            self.nodes[reader].must.extend(passed);
        }
        if let Some(start) = start
            && self.nodes[witness].log.reader(&start.cursor) == Reader::Follows
            && let Tail::Records(records) = self.nodes[witness].log.tail(head.epoch, start.cursor.seq, count)
        {
            for record in records {
                let number: usize = record.event.idempotency().parse().unwrap();
                let node = &mut self.nodes[reader];
                let heard = node.apply.handle_record(witness, head.epoch, &record, 0);
                assert!(matches!(heard, Heard::Consumed { .. }));
                if let Append::At { seq, .. } = node.log.handle_event(&record.event) {
                    node.apply.handle_event(&record.event, Source::Log { witness: reader, seq }, 0);
                    node.apply.handle_own_log(node.log.appended());
                }
                node.must.insert(number);
            }
        }
        self.weigh(reader);
    }

    fn logged(&self, witness: usize, up_to: u64) -> Vec<usize> {
        let records = self.nodes[witness].records.iter().filter(|record| record.seq <= up_to);
        records.map(|record| record.event.idempotency().parse().unwrap()).collect()
    }

    fn weigh(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let others = (0..3).filter(|w| *w != index);
        let heard: Vec<_> = others.filter_map(|w| Some((w, node.apply.confirmed(w)?))).collect();
        for (witness, voting) in &heard {
            let (voted, compacted) = (node.log.voting(), node.apply.compacted(*witness));
            node.log.handle_confirmed(*witness, *voting, compacted);
            if node.log.voting() && !voted {
                node.apply.handle_own_epoch(node.log.appended(), true);
            }
        }
        let voting = heard.iter().filter(|(_, voting)| *voting).count() + usize::from(node.log.voting());
        if !node.caught_up && voting >= 2 {
            node.caught_up = true;
            node.apply.open_gate();
            // it has heard everything that was acknowledged
            let acknowledged = self.stored.iter().filter(|(_, witnesses)| witnesses.len() >= 2);
            let acknowledged: Vec<_> = acknowledged.map(|(number, _)| *number).collect();
            node.must.extend(acknowledged);
        }
    }

    fn fetch(&mut self, node: usize) {
        let tag = self.pick(TAGS);
        let copy = Copy { version: self.versions[tag], stamp: self.nodes[node].apply.position() };
        self.nodes[node].copies[tag].push(copy);
    }

    /// Asks a peer, whose answer comes whenever it comes.
    fn ask(&mut self, node: usize, peer: usize) {
        let tag = self.pick(TAGS);
        let (at_start, boot) = (self.nodes[node].apply.position(), self.nodes[node].boot);
        let now = if self.pick(2) == 0 { 0 } else { 1_000_000 };
        let have = self.nodes[peer].apply.have(&site(), now);
        let copies = self.nodes[peer].copies[tag].clone();
        let held = copies.into_iter().rev().find(|copy| self.nodes[peer].valid(tag, copy));
        if let Some(copy) = held {
            let from = peer;
            // the node's index travels in the order of the answers
            self.answers.push(Answer { from: from * 3 + node, tag, version: copy.version, have, at_start, boot });
        }
    }

    fn answer(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let at = self.pick(self.answers.len());
        let answer = self.answers.swap_remove(at);
        let (peer, node) = (answer.from / 3, answer.from % 3);
        if self.nodes[node].boot != answer.boot {
            return;
        }
        let stamp = self.nodes[node].apply.covered(&name(peer), &site(), &answer.have, answer.at_start);
        let copy = Copy { version: answer.version, stamp };
        if stamp == answer.at_start {
            self.seen.served += 1
        } else {
            self.seen.refused += 1
        }
        self.nodes[node].copies[answer.tag].push(copy);
    }

    /// The power fails: what was not written is gone. Copies are on the cache's disk.
    fn crash(&mut self, index: usize) {
        self.seen.crashes += 1;
        let epoch = 1000 + self.chance % 100_000;
        let old = &self.nodes[index];
        let mut node = Node::start(index, old.boot + 1, old.saved.clone(), &old.records, epoch);
        node.copies = old.copies.clone();
        // acknowledged events that it had applied must not come back as if it had not
        let acknowledged = |number: &&usize| self.stored.get(number).is_some_and(|stored| stored.len() >= 2);
        node.must = old.must.iter().filter(acknowledged).copied().collect();
        // a node without a past has a new life; here that is a floor under all its copies
        self.nodes[index] = node;
        self.nodes[index].write();
    }

    /// Loses a witness's disk, if all others are whole and hold everything acknowledged: one at a time (A2).
    fn lose(&mut self, index: usize) {
        if self.nodes.iter().any(|node| !node.log.voting()) {
            return;
        }
        self.seen.losses += 1;
        let epoch = 1_000_000 + self.chance % 1_000_000;
        let boot = self.nodes[index].boot + 1;
        self.nodes[index] = Node::start(index, boot, Saved::default(), &[], epoch);
        for stored in self.stored.values_mut() {
            // what was acknowledged stays so; what was not has one copy less
            if stored.len() < 2 {
                stored.remove(&index);
            }
        }
    }

    /// Another witness holds what it has on disk; then old records may go.
    fn compact(&mut self, index: usize) {
        for other in (0..3).filter(|other| *other != index) {
            let cursor = self.nodes[other].saved.cursors.iter().find(|(witness, _)| *witness == name(index));
            let held = cursor.filter(|(_, cursor)| cursor.epoch == self.nodes[index].log.head().epoch);
            if let Some((_, cursor)) = held {
                let seq = cursor.seq;
                self.nodes[index].log.handle_held(other, seq);
            }
        }
        if let Some(last) = self.nodes[index].log.poll_compact() {
            let chain = self.nodes[index].records.iter().find(|record| record.seq == last).unwrap().chain;
            self.nodes[index].log.handle_compact(last, chain);
        }
    }

    fn check(&mut self) {
        for (number, (_, event)) in self.events.iter().enumerate() {
            for (index, node) in self.nodes.iter().enumerate() {
                let on_disk = node.log.head().seq;
                let holds = node.records.iter().any(|record| record.seq <= on_disk && record.event.id() == event.id());
                if holds && node.log.voting() {
                    self.stored.entry(number).or_default().insert(index);
                }
            }
        }
        self.seen.acknowledged = self.stored.values().filter(|stored| stored.len() >= 2).count() as u64;
        for index in 0..3 {
            for tag in 0..TAGS {
                let mut copies = self.nodes[index].copies[tag].clone();
                copies.retain(|copy| self.nodes[index].valid(tag, copy));
                for copy in copies {
                    // the purges of this tag, in the order in which the origin changed
                    let purges = self.events.iter().enumerate().filter(|(_, (of, _))| *of == tag);
                    for (version, (number, _)) in purges.enumerate() {
                        let heard = self.nodes[index].must.contains(&number);
                        assert!(
                            !heard || copy.version > version,
                            "node {index} serves version {} of {tag} after purge {number}",
                            copy.version
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn no_schedule_lets_a_node_serve_what_it_knows_to_be_purged() {
    let mut total = Seen::default();
    for seed in 1..=200 {
        let mut world = World::new(seed);
        assert!(world.nodes.iter().all(|node| node.log.voting() && node.caught_up), "seed {seed}");
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for step in 0..400 {
                world.step(step < 40);
            }
        }));
        assert!(run.is_ok(), "seed {seed}");
        let seen = world.seen;
        total.served += seen.served;
        total.refused += seen.refused;
        total.crashes += seen.crashes;
        total.losses += seen.losses;
        total.jumps += seen.jumps;
        total.acknowledged += seen.acknowledged;
    }
    let all = [total.served, total.refused, total.crashes, total.losses, total.jumps, total.acknowledged];
    assert!(all.iter().all(|count| *count > 100), "the runs are too quiet: {total:?}");
}
