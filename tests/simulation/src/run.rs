//! One run: a seed in, a log and what the checker says of it out.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;

use crate::{
    checker::{self, Breach, TICK_MS, Tally, Terms},
    clients::Clients,
    faults::Faults,
    log::{Event, NAMES},
    node,
    stage::{Planted, Stage},
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
}

impl Plan {
    /// The run of a seed: every third one is about liveness.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mode = if seed.is_multiple_of(3) { Mode::Liveness } else { Mode::Safety };
        Self { seed, mode, planted: Planted::Nothing }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was promised and not kept.
    pub breaches: Vec<Breach>,
    /// What the run was like.
    pub tally: Tally,
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
        let digest = self.stage.net.lock().digest();
        format!("{}carried {digest:016x}\n", self.stage.log.lock().text())
    }
}

/// Runs.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    let mut rng = Rng::with_seed(plan.seed);
    let stage = Stage::new(&mut rng, plan.planted);
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
    let mut faults = Faults::new(&mut rng, faults_ms);
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
    let (breaches, tally) = checker::check(stage.log.lock().lines(), Terms { tight_ms: None });
    Outcome { breaches, tally, trace: Trace { stage } }
}
