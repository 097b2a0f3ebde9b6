//! The sweep: what purges cover is let go in the background, and what they do not cover is told so, that its next hit is
//! one comparison. Nothing depends on it but space and nanoseconds: a hit judges by the stamp, swept or not.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use region_config::SiteId;
use rules::purge::{SiteGuard, Standing};
use store::objects::Sweep;

use crate::{clock, observe::collectors, snapshot::Shared};

/// How long after a pass the next one begins, if anything was purged.
const PAUSE: Duration = Duration::from_secs(10);
/// For each moment of work, so many of rest: a fiftieth of a core.
const REST: u32 = 49;

/// What sweeps have done since the start.
#[derive(Debug, Default)]
pub struct Swept {
    /// Passes that were ended.
    pub passes: AtomicU64,
    /// Objects looked at.
    pub objects: AtomicU64,
    /// Objects let go.
    pub freed: AtomicU64,
    /// What these took of memory, in bytes.
    pub freed_bytes: AtomicU64,
    /// How many of them were on disk as well.
    pub freed_on_disk: AtomicU64,
    /// How long the last pass took, in ms, rests included.
    pub last_ms: AtomicU64,
}

/// Starts the task that sweeps. It ends with the node.
pub fn start(shared: &Arc<Shared>) {
    let swept = Arc::<Swept>::default();
    shared.observe.register(collectors::sweeps(Arc::clone(&swept), Arc::clone(&shared.ledgers)));
    let node = Arc::clone(shared);
    shared.tasks.spawn_until_stopped("sweep", async move {
        loop {
            tokio::time::sleep(PAUSE).await;
            let turned = turned(&node);
            if !turned.is_empty() {
                pass(&node, &turned, &swept).await;
            }
        }
    });
}

/// The guards of the sites of which something was purged since the last pass.
fn turned(shared: &Shared) -> HashMap<SiteId, Arc<SiteGuard>> {
    let config = shared.config.load();
    let guards = config.sites.iter().filter_map(|site| {
        let realm = shared.ledgers.realm(&site.realm())?;
        Some((site.name.clone(), realm.guard(&site.name)))
    });
    guards.filter(|(_, guard)| guard.turn()).collect()
}

/// One pass over everything in memory: a slice, and a rest.
async fn pass(shared: &Shared, guards: &HashMap<SiteId, Arc<SiteGuard>>, swept: &Swept) {
    let begin = clock::instant();
    let mut sweep = Sweep::default();
    loop {
        let slice = clock::instant();
        let more = shared.objects.sweep(&mut sweep, |object| match guards.get(&object.site) {
            Some(guard) => guard.standing(object.stamp, &object.verified, &object.purge_keys),
            None => Standing::Valid,
        });
        if !more {
            break;
        }
        // by the clock on the wall: where others keep the processor busy, it rests longer
        tokio::time::sleep(clock::instant().saturating_duration_since(slice) * REST).await;
    }
    let took = clock::instant().saturating_duration_since(begin);
    swept.passes.fetch_add(1, Relaxed);
    swept.objects.fetch_add(sweep.objects, Relaxed);
    swept.freed.fetch_add(sweep.freed, Relaxed);
    swept.freed_bytes.fetch_add(sweep.freed_bytes, Relaxed);
    swept.freed_on_disk.fetch_add(sweep.freed_on_disk, Relaxed);
    swept.last_ms.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Relaxed);
    tracing::debug!(objects = sweep.objects, freed = sweep.freed, ?took, "swept");
}
