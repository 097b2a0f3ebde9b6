//! What breaks, and when: drawn from the seed before anything else happens.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use fastrand::Rng;
use turmoil::Sim;

use crate::{
    fleet::Change,
    log::{Event, NAMES, NODES, REGIONS},
    stage::Stage,
};

/// The file of the ledger on a node's disk.
const LEDGER: &str = "global.ledger";
/// The nodes that are witnesses: the first of each region.
const WITNESSES: [usize; 3] = [0, 2, 4];
/// How wrong clocks may become, in ms.
const SKEW_MS: i64 = 600_000;

#[derive(Debug, Clone, Copy)]
enum Action {
    Cut {
        from: usize,
        to: usize,
        cut: bool,
    },
    Kill {
        node: usize,
        disk_lost: bool,
    },
    Start(usize),
    FailDisk {
        node: usize,
        after: u64,
    },
    Sync {
        node: usize,
        ms: u32,
    },
    Skew {
        node: usize,
        ms: i64,
    },
    Up {
        node: usize,
        is_up: bool,
    },
    Forget {
        node: usize,
    },
    /// The operator has new witnesses in the config, with this version.
    Publish(u32),
    /// And starts a node with it.
    Roll {
        node: usize,
    },
    /// The power fails at the next acknowledgement.
    Lurk,
    /// Or now, if there was none.
    Power,
}

/// What breaks, and when.
#[derive(Debug)]
pub struct Faults {
    rng: Rng,
    /// For the change of the witnesses.
    apart: Rng,
    change: Option<Change>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    actions: BTreeMap<u64, Action>,
    count: u64,
    is_down: [bool; NODES],
    is_lurking: bool,
}

impl Faults {
    /// Draws the faults of a run up to `until_ms`.
    #[must_use]
    pub fn new(rng: &mut Rng, apart: Rng, until_ms: u64, change: Option<Change>) -> Self {
        let mut faults = Self {
            rng: rng.fork(),
            apart,
            change,
            queue: BinaryHeap::new(),
            actions: BTreeMap::new(),
            count: 0,
            is_down: [false; NODES],
            is_lurking: false,
        };
        faults.draw(until_ms);
        if faults.change.is_some() {
            let at_ms = faults.apart.u64(500..3_000);
            faults.at(at_ms, Action::Publish(2));
        }
        faults
    }

    fn draw(&mut self, until_ms: u64) {
        let pace_ms = self.rng.u64(150..1_500);
        let mut at_ms = 1_000;
        // so many disks may be lost as the promise bears: one witness, and any number of others
        let mut may_lose_witness = true;
        while at_ms < until_ms {
            let until = at_ms + self.rng.u64(100..4_000);
            let node = self.rng.usize(0..NODES);
            match self.rng.u8(0..100) {
                0..18 => self.part(at_ms, until),
                18..30 => self.one_way(at_ms, until),
                30..37 => self.swizzle(at_ms, until),
                37..60 => self.down(node, at_ms, until, false),
                60..65 => {
                    let is_witness = self.change.as_ref().map_or(WITNESSES.contains(&node), |it| it.touches(node));
                    let disk_lost = may_lose_witness || !is_witness;
                    may_lose_witness &= !is_witness;
                    self.down(node, at_ms, until, disk_lost);
                }
                65..71 => {
                    let after = self.rng.u64(0..30);
                    self.at(at_ms, Action::FailDisk { node, after });
                    self.down(node, at_ms + 900, until + 900, false);
                }
                71..79 => {
                    let ms = self.rng.u32(100..3_000);
                    self.at(at_ms, Action::Sync { node, ms });
                    self.at(until, Action::Sync { node, ms: 8 });
                }
                79..88 => {
                    let ms = self.rng.i64(-SKEW_MS..SKEW_MS);
                    self.at(at_ms, Action::Skew { node, ms });
                }
                88..92 => {
                    self.power(at_ms);
                    // time to come back, to hear the others and to serve
                    at_ms += 3_500;
                }
                92..96 => {
                    self.at(at_ms, Action::Up { node, is_up: false });
                    self.at(until, Action::Up { node, is_up: true });
                }
                _ => self.at(at_ms, Action::Forget { node }),
            }
            at_ms += self.rng.u64(1..2 * pace_ms);
        }
    }

    fn at(&mut self, at_ms: u64, action: Action) {
        self.count += 1;
        self.actions.insert(self.count, action);
        self.queue.push(Reverse((at_ms, self.count)));
    }

    fn cut(&mut self, from: usize, to: usize, at_ms: u64, until: u64) {
        self.at(at_ms, Action::Cut { from, to, cut: true });
        self.at(until, Action::Cut { from, to, cut: false });
    }

    /// Two sides that do not hear of each other.
    fn part(&mut self, at_ms: u64, until: u64) {
        let side: u8 = match self.rng.u8(0..3) {
            0 => 1 << self.rng.usize(0..NODES),
            1 => {
                let region = REGIONS[self.rng.usize(0..NODES)];
                (0..NODES).filter(|node| REGIONS[*node] == region).fold(0, |side, node| side | 1 << node)
            }
            _ => self.rng.u8(1..63),
        };
        for from in 0..NODES {
            for to in 0..NODES {
                if (side >> from ^ side >> to) & 1 == 1 {
                    self.cut(from, to, at_ms, until);
                }
            }
        }
    }

    /// A node that is heard and does not hear, or the other way round, by one or by all.
    fn one_way(&mut self, at_ms: u64, until: u64) {
        let node = self.rng.usize(0..NODES);
        let (hears, by_all) = (self.rng.bool(), self.rng.bool());
        let other = self.rng.usize(0..NODES);
        for peer in (0..NODES).filter(|peer| *peer != node && (by_all || *peer == other)) {
            let (from, to) = if hears { (node, peer) } else { (peer, node) };
            self.cut(from, to, at_ms, until);
        }
    }

    /// Links clog one after the other and come back in another order.
    fn swizzle(&mut self, at_ms: u64, until: u64) {
        let side = self.rng.u8(1..63);
        for node in (0..NODES).filter(|node| side >> node & 1 == 1) {
            let (from, back) = (at_ms + self.rng.u64(0..1_500), until + self.rng.u64(0..2_500));
            for peer in (0..NODES).filter(|peer| *peer != node) {
                self.cut(node, peer, from, back);
                self.cut(peer, node, from, back);
            }
        }
    }

    /// All disks become slow, and at the next acknowledgement the power fails everywhere: what was promised too early is
    /// gone.
    fn power(&mut self, at_ms: u64) {
        let ms = self.rng.u32(8..2_000);
        (0..NODES).for_each(|node| self.at(at_ms, Action::Sync { node, ms }));
        self.at(at_ms, Action::Lurk);
        self.at(at_ms + 1_500, Action::Power);
    }

    fn power_fails(&mut self, sim: &mut Sim<'_>, stage: &Arc<Stage>, now_ms: u64) {
        self.is_lurking = false;
        stage.note(None, Event::Fault("the power fails everywhere".to_owned()));
        for node in 0..NODES {
            self.kill(node, false, sim, stage);
            let back = now_ms + self.rng.u64(50..1_000);
            self.at(back, Action::Sync { node, ms: 8 });
            self.at(back, Action::Start(node));
        }
    }

    fn down(&mut self, node: usize, at_ms: u64, until: u64, disk_lost: bool) {
        self.at(at_ms, Action::Kill { node, disk_lost });
        self.at(until, Action::Start(node));
        // the others find out after a while
        let (known, back) = (at_ms + self.rng.u64(200..2_500), until + self.rng.u64(100..1_500));
        self.at(known, Action::Up { node, is_up: false });
        self.at(back, Action::Up { node, is_up: true });
    }

    /// Does what is due.
    pub fn step(&mut self, sim: &mut Sim<'_>, stage: &Arc<Stage>, now_ms: u64) {
        while let Some(Reverse((at_ms, number))) = self.queue.peek().copied()
            && at_ms <= now_ms
        {
            self.queue.pop();
            match self.actions.remove(&number) {
                Some(Action::Lurk) => {
                    stage.has_acked.store(false, Relaxed);
                    self.is_lurking = true;
                }
                Some(Action::Power) if self.is_lurking => self.power_fails(sim, stage, now_ms),
                Some(Action::Publish(version)) => self.publish(version, stage, now_ms),
                Some(Action::Roll { node }) => self.roll(node, sim, stage, now_ms),
                Some(action) => self.act(action, sim, stage),
                None => {}
            }
        }
        if self.is_lurking && stage.has_acked.load(Relaxed) {
            self.power_fails(sim, stage, now_ms);
        }
        // as the handbook says: the second step when every node says so
        if stage.published.load(Relaxed) == 2 && stage.nodes.iter().all(|node| node.is_complete.load(Relaxed)) {
            self.publish(3, stage, now_ms);
        }
    }

    /// The config has other witnesses from now on, and nodes are started with it one after the other, in any order.
    fn publish(&mut self, version: u32, stage: &Arc<Stage>, now_ms: u64) {
        stage.published.store(version, Relaxed);
        stage.note(
            None,
            Event::Fault(format!("witnesses: {:?}", self.change.as_ref().map(|change| change.set(version)))),
        );
        for node in 0..NODES {
            let at_ms = now_ms + self.apart.u64(0..2_500);
            self.at(at_ms, Action::Roll { node });
        }
    }

    /// A node that does not run starts with the new config by itself.
    fn roll(&mut self, node: usize, sim: &mut Sim<'_>, stage: &Arc<Stage>, now_ms: u64) {
        if self.is_down[node] || stage.nodes[node].version.load(Relaxed) == stage.published.load(Relaxed) {
            return;
        }
        self.kill(node, false, sim, stage);
        let back_ms = now_ms + self.apart.u64(20..600);
        self.at(back_ms, Action::Start(node));
    }

    /// Ends all faults at once, and starts what is down.
    pub fn end(&mut self, sim: &mut Sim<'_>, stage: &Arc<Stage>) {
        self.queue.clear();
        self.is_lurking = false;
        for node in 0..NODES {
            // a disk that has failed is believed again by a new process only
            let is_behind = stage.nodes[node].version.load(Relaxed) != stage.published.load(Relaxed);
            if is_behind || stage.nodes[node].has_failed.load(Relaxed) {
                self.act(Action::Kill { node, disk_lost: false }, sim, stage);
            }
        }
        stage.calm();
        for node in 0..NODES {
            self.act(Action::Start(node), sim, stage);
        }
    }

    fn act(&mut self, action: Action, sim: &mut Sim<'_>, stage: &Arc<Stage>) {
        let told = |what: String| stage.note(None, Event::Fault(what));
        match action {
            Action::Cut { from, to, cut } => {
                stage.net.lock().cut(from, to, cut);
                told(format!("{} {} -> {}", if cut { "cut" } else { "mend" }, NAMES[from], NAMES[to]));
            }
            Action::Kill { node, disk_lost } => self.kill(node, disk_lost, sim, stage),
            Action::Start(node) => {
                if std::mem::replace(&mut self.is_down[node], false) {
                    stage.nodes[node].disk.heal();
                    stage.nodes[node].has_failed.store(false, Relaxed);
                    sim.bounce(NAMES[node]);
                }
            }
            Action::FailDisk { node, after } if !self.is_down[node] => {
                stage.nodes[node].disk.fail_after(after);
                stage.nodes[node].has_failed.store(true, Relaxed);
                told(format!("the disk of {} fails after {after} operations", NAMES[node]));
            }
            Action::FailDisk { .. } | Action::Lurk | Action::Power | Action::Publish(_) | Action::Roll { .. } => {}
            Action::Sync { node, ms } => {
                stage.nodes[node].sync_ms.store(ms, Relaxed);
                told(format!("a sync of the disk of {} takes up to {ms} ms", NAMES[node]));
            }
            Action::Skew { node, ms } => {
                stage.nodes[node].skew_ms.store(ms, Relaxed);
                told(format!("the clock of {} is wrong by {ms} ms", NAMES[node]));
            }
            Action::Up { node, is_up } => stage.nodes[node].is_up.store(is_up, Relaxed),
            Action::Forget { node } => {
                stage.nodes[node].shelf.lock().wipe();
                told(format!("the cache of {} is emptied", NAMES[node]));
            }
        }
    }

    fn kill(&mut self, node: usize, disk_lost: bool, sim: &mut Sim<'_>, stage: &Arc<Stage>) {
        let ground = &stage.nodes[node];
        if std::mem::replace(&mut self.is_down[node], true) {
            return;
        }
        ground.is_complete.store(false, Relaxed);
        stage.note(Some(node), Event::Kill { disk_lost });
        stage.net.lock().kill(node);
        ground.disk.crash(self.rng.u64(1..));
        sim.crash(NAMES[node]);
        if disk_lost {
            ground.disk.lose(LEDGER);
            if self.rng.bool() {
                ground.shelf.lock().wipe();
            }
        }
    }
}
