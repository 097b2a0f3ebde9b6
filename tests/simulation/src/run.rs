//! One run: a seed in, a log and what the checker says of it out.

use std::{
    cell::RefCell,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;
use parking_lot::Mutex;

use crate::{
    checker::{self, Breach, TICK_MS, Tally, Terms},
    clients::Clients,
    faults::Faults,
    fleet::Change,
    log::{Event, NAMES},
    net::Packets,
    node,
    stage::{Carrier, Planted, Stage},
};

/// How long faults go on, in ms.
const FAULTS_MS: (u64, u64) = (9_000, 7_000);
/// How long convergence may take, in ms.
const CALM_MS: u64 = 10_000;
/// How long the last requests may take, in ms.
const LAST_MS: u64 = 1_500;

/// What a run is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whatever breaks, nothing is promised that is not kept.
    Safety,
    /// When nothing is broken any more, everything converges.
    Liveness,
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Says everything that happens.
    pub seed: u64,
    /// What it is to show.
    pub mode: Mode,
    /// What is planted.
    pub planted: Planted,
    /// What carries the lines between nodes.
    pub carrier: Carrier,
    /// Whether the witnesses change meanwhile.
    pub changes: bool,
}

impl Plan {
    /// The run of a seed: every third one is about liveness, and in every fourth one the witnesses change.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mode = if seed.is_multiple_of(3) { Mode::Liveness } else { Mode::Safety };
        Self { seed, mode, planted: Planted::Nothing, carrier: Carrier::Lines, changes: seed.is_multiple_of(4) }
    }

    /// What was found in this run, and how to see it again.
    #[must_use]
    pub fn in_words(&self, what: &str) -> String {
        let carrier = if self.carrier == Carrier::Quic { " CARRIER=quic" } else { "" };
        format!("seed {}: {what} (its trace: make sim SEED={}{carrier})", self.seed, self.seed)
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was promised and not kept.
    pub breaches: Vec<Breach>,
    /// What the run was like.
    pub tally: Tally,
    /// The packets, over QUIC.
    pub packets: Packets,
    /// The log, one event a line, and a number for all that was carried.
    pub trace: Trace,
}

/// The log of a run.
#[derive(Debug)]
pub struct Trace {
    stage: Arc<Stage>,
}

impl Trace {
    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        let (digest, packets) = {
            let net = self.stage.net.lock();
            (net.digest(), net.packets())
        };
        let mut text = self.stage.log.lock().text();
        match self.stage.carrier {
            Carrier::Lines => text += &format!("carried {digest:016x}\n"),
            Carrier::Quic => {
                let Packets { came, lost } = packets;
                text += &format!("carried {digest:016x} in {came} packets, and {lost} were lost\n");
            }
        }
        text
    }
}

thread_local! {
    /// What panicked on this thread; the tasks of a node take their panics with them.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes panics instead of printing them.
fn hear_panics() {
    static HEARD: Once = Once::new();
    HEARD.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if turmoil::in_simulation() {
                PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            } else {
                before(panic);
            }
        }));
    });
    PANICS.take();
}

/// Runs all plans, on all cores, and hands each outcome to `then` as it comes. `then` says whether to go on.
pub fn run_all(plans: impl Iterator<Item = Plan> + Send, then: impl Fn(Plan, Outcome) -> bool + Sync) {
    let plans = Mutex::new(plans);
    let goes_on = AtomicBool::new(true);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while goes_on.load(Relaxed) {
                    let Some(plan) = plans.lock().next() else { return };
                    if !then(plan, run(plan)) {
                        goes_on.store(false, Relaxed);
                    }
                }
            });
        }
    });
}

/// Runs.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    hear_panics();
    let mut rng = Rng::with_seed(plan.seed);
    // drawn apart, so that the same seed without a change is the same run
    let mut apart = Rng::with_seed(!plan.seed);
    let stage = Stage::new(&mut rng, plan.planted, plan.carrier, plan.changes.then(|| Change::draw(&mut apart)));
    let mut sim = turmoil::Builder::new()
        .tick_duration(Duration::from_millis(TICK_MS))
        .simulation_duration(Duration::from_secs(3_600))
        .rng_seed(plan.seed)
        .build();
    for (index, name) in NAMES.iter().enumerate() {
        let stage = Arc::clone(&stage);
        sim.host(*name, move || node::run(Arc::clone(&stage), index));
    }
    let faults_ms = if plan.mode == Mode::Safety { FAULTS_MS.0 } else { FAULTS_MS.1 };
    if let Some(tight_ms) = stage.tight_ms {
        stage.note(None, Event::Fault(format!("none, but a promise: nothing staler than {tight_ms} ms")));
    }
    let mut faults = Faults::new(&mut rng, apart, faults_ms, stage.change.clone());
    let mut clients = Clients::new(&mut rng);
    let end_ms = if plan.mode == Mode::Safety { faults_ms } else { faults_ms + CALM_MS + LAST_MS };
    for tick in 0..end_ms / TICK_MS {
        let now_ms = tick * TICK_MS;
        stage.move_to(now_ms);
        stage.net.lock().step(now_ms);
        if plan.mode == Mode::Liveness && now_ms == faults_ms {
            faults.end(&mut sim, &stage);
        }
        faults.step(&mut sim, &stage, now_ms);
        if now_ms == faults_ms + CALM_MS {
            stage.note(None, Event::Deadline);
            clients.ask_all(&stage);
        }
        if now_ms <= faults_ms + CALM_MS {
            clients.step(&stage, now_ms);
        }
        if let Err(fault) = sim.step() {
            stage.note(None, Event::Fault(format!("a node panicked: {fault}")));
            break;
        }
    }
    drop(sim);
    let rest = stage.net.lock().take_down();
    drop(rest);
    let (mut breaches, tally) = checker::check(stage.log.lock().lines(), Terms { tight_ms: stage.tight_ms });
    let panics = PANICS.take().into_iter().map(|what| Breach { line: 0, what: format!("a node panicked: {what}") });
    breaches.splice(0..0, panics);
    let packets = stage.net.lock().packets();
    Outcome { breaches, tally, packets, trace: Trace { stage } }
}
