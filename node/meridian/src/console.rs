//! What the admin interface sees of the node: readiness part by part, warnings, and explanations that run the same
//! functions as a request.

mod route;
pub mod what_if;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use self::route::{not_steered, steered, told};
use crate::{
    admin::{Context, Gathered, Part, Parts, Steered, Token, purges::Desk},
    drain::Drain,
    edge::dry,
    geo::Watch,
    observe::{Kind, collectors, ledgers::ledgers},
    snapshot::Shared,
};

/// The parts that must be ready before this node serves.
#[must_use]
pub fn parts(shared: &Arc<Shared>, geo: &Arc<Watch>) -> Parts {
    let (shared, geo) = (Arc::clone(shared), Arc::clone(geo));
    Arc::new(move || {
        let caught_up = shared.ledgers.caught_up();
        let waiting =
            "reading what was purged while this node was away, from a majority of the witnesses, or from the stream";
        vec![
            config(&shared),
            Part { part: "listeners".into(), ready: true, detail: None },
            Part { part: "ledger".into(), ready: caught_up, detail: (!caught_up).then(|| waiting.into()) },
            disk(&shared),
            clock(&shared),
            places(&geo),
        ]
    })
}

/// A node that was offered a faulty config serves by the one before. Whoever asks is told that, and operators what is wrong.
fn config(shared: &Shared) -> Part {
    let refused = shared.refused.load().is_some();
    let detail = "the config that was offered last is not in force, as there is a fault in it";
    Part { part: "config".into(), ready: true, detail: refused.then(|| detail.into()) }
}

fn refused(shared: &Shared) -> Option<String> {
    let why = shared.refused.load_full()?;
    Some(format!("the config on disk is not in force, and the one before goes on: {why}"))
}

/// A node without its disk is ready all the same: it serves from memory and the origins. Whoever asks is told.
fn disk(shared: &Shared) -> Part {
    let without = shared.objects.usage().disk_resting;
    let detail = without.then(|| "the disk cache failed and is out of use; it is tried every few seconds".into());
    Part { part: "disk".into(), ready: true, detail }
}

/// A node whose clock is wrong serves all the same: purges do not go by it. Whoever asks is told.
fn clock(shared: &Shared) -> Part {
    let gross = shared.ledgers.clock_is_gross();
    let detail = "the wall clock is minutes off those of the witnesses: ages and lifetimes are wrong";
    Part { part: "clock".into(), ready: true, detail: gross.then(|| detail.into()) }
}

/// A node whose geo database is old or cannot be renewed answers from what it has. Whoever asks is told.
fn places(geo: &Watch) -> Part {
    let alarms: Vec<_> = geo.alarms().iter().map(ToString::to_string).collect();
    Part { part: "geo".into(), ready: true, detail: (!alarms.is_empty()).then(|| alarms.join("; ")) }
}

/// What the admin interface works with.
#[must_use]
pub fn context(
    shared: &Arc<Shared>,
    geo: &Arc<Watch>,
    token: Token,
    parts: Parts,
    steered: Steered,
    desk: Arc<Desk>,
    drain: &Arc<Drain>,
) -> Arc<Context> {
    let (warned, ledgers, places) = (Arc::clone(&desk), Arc::clone(&shared.ledgers), Arc::clone(geo));
    let (looking, offered) = (Arc::clone(shared), Arc::clone(shared));
    Arc::new(Context {
        config: Arc::clone(&shared.config),
        here: shared.here.jurisdiction.clone(),
        observe: Arc::clone(&shared.observe),
        health: Arc::clone(&shared.health),
        load: Arc::clone(&shared.load),
        ledgers: Arc::clone(&shared.ledgers),
        mesh: shared.mesh.clone(),
        token,
        hosts: Vec::new(),
        parts,
        warnings: Arc::new(move || {
            let places = places.alarms().iter().map(ToString::to_string).collect();
            [
                refused(&offered).into_iter().collect(),
                offered.restart_due(),
                warned.warnings(),
                ledgers.warnings(),
                places,
            ]
            .concat()
        }),
        started_unix_ms: shared.started_unix_ms,
        explained: Arc::new(move |question| {
            let shared = Arc::clone(&looking);
            Box::pin(async move { dry::explain(&shared, question).await })
        }),
        steered,
        geo: Arc::clone(geo),
        what_if: Arc::new(Semaphore::new(1)),
        purges: desk,
        drain: Arc::clone(drain),
        gathered: Gathered::default(),
    })
}

/// What is kept and fetched, and the fleet's health, for the metrics page.
pub fn register_figures(shared: &Arc<Shared>) {
    let observe = &shared.observe;
    observe.register(collectors::fleet(shared.health.shared()));
    observe.register(collectors::load(Arc::clone(&shared.load)));
    observe.register(collectors::store(shared.objects.clone()));
    observe.register(collectors::origins(Arc::clone(&shared.origins)));
    observe.register(ledgers(Arc::clone(&shared.ledgers)));
    if let Some(mesh) = &shared.mesh {
        // it tells other nodes the figures, so it has them too
        let mesh = Arc::downgrade(mesh);
        observe.register(Box::new(move |page| {
            let Some(mesh) = mesh.upgrade() else { return };
            let help = "When the node's own certificate ends, in seconds since the Unix epoch.";
            let ends = mesh.not_after_unix_s() as f64;
            page.single("meridian_certificate_not_after_seconds", Kind::Gauge, help, ends);
        }));
    }
    let seen = Arc::downgrade(shared);
    observe.register(Box::new(move |page| {
        let Some(shared) = seen.upgrade() else { return };
        let help = "Whether the config that was offered last is not in force, as there is a fault in it.";
        let refused = f64::from(u8::from(shared.refused.load().is_some()));
        page.single("meridian_config_refused", Kind::Gauge, help, refused);
        let help = "Whether something of the config in force waits for a restart of this node.";
        let due = f64::from(u8::from(!shared.restart_due().is_empty()));
        page.single("meridian_restart_due", Kind::Gauge, help, due);
        let (fills, waiting) = shared.flights.count();
        let held = shared.flights.budget().held_bytes();
        page.single("meridian_fills", Kind::Gauge, "Fetches under way.", fills as f64);
        page.single("meridian_fills_waiting", Kind::Gauge, "Requests that wait for the head of one.", waiting as f64);
        page.single("meridian_fills_held_bytes", Kind::Gauge, "Bytes that they hold for readers.", held as f64);
        page.single("meridian_slices", Kind::Gauge, "Slices of bodies on their way.", shared.slices.count() as f64);
        page.single("meridian_codings", Kind::Gauge, "Bodies being coded.", shared.codings.count() as f64);
    }));
}
