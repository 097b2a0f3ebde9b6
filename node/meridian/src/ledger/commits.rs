//! Writing a realm's changes: one at a time, each with everything that came during the one before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use store::ledger::{LedgerError, Writer};

use super::{core::Batch, realm::Realm};
use crate::clock;

/// How long a change that nobody waits for may gather others.
const LAZY: Duration = Duration::from_millis(30);
/// A commit costs a processor more than all else that is done for an event, so while many come each commit takes what came
/// in so long a time. One of so many events shows that many come: whoever orders one purge after the other never waits.
const APART: Duration = Duration::from_millis(20);
const MANY: usize = 4;

/// After a commit of so many that began then: waits while many come.
pub(crate) async fn gather(began: Instant, events: usize) {
    if events >= MANY {
        tokio::time::sleep_until((began + APART).into()).await;
    }
}

/// Writes until the disk fails or the node stops.
pub(super) async fn run(realm: Arc<Realm>, writer: Writer) {
    loop {
        tokio::select! {
            biased;
            () = realm.urgent.notified() => {}
            () = realm.lazy.notified() => {
                let _urgent_now = tokio::time::timeout(LAZY, realm.urgent.notified()).await;
            }
        }
        if let Err(stopped) = write(&realm, &writer).await {
            tracing::error!(realm = %realm.name, fault = %stopped, "the ledger is not written any more: purges are refused here");
            realm.stopped.change(|none| *none = Some(stopped));
            realm.written.change(|_| {});
            return;
        }
    }
}

/// Writes all there is.
async fn write(realm: &Arc<Realm>, writer: &Writer) -> Result<(), LedgerError> {
    loop {
        let mut batch = realm.core.lock().batch();
        let delta = std::mem::take(&mut batch.delta);
        if delta.is_empty() {
            done(realm, batch);
            return Ok(());
        }
        #[cfg(feature = "simulation")]
        if crate::simulation::world().is_some_and(|world| world.is_hasty()) {
            done(realm, batch);
            crate::simulation::pause(crate::simulation::Place::BeforeDisk).await;
            writer.commit(delta).await?;
            continue;
        }
        #[cfg(feature = "simulation")]
        crate::simulation::pause(crate::simulation::Place::BeforeDisk).await;
        let began = clock::instant();
        writer.commit(delta).await?;
        realm.figures.note_commit(clock::instant().duration_since(began));
        #[cfg(feature = "simulation")]
        crate::simulation::pause(crate::simulation::Place::AfterDisk).await;
        let events = batch.events;
        done(realm, batch);
        compact(realm, writer).await?;
        gather(began, events).await;
    }
}

/// A batch is on disk, and everybody may know.
fn done(realm: &Realm, batch: Batch) {
    let change = batch.change;
    realm.core.lock().written(batch);
    realm.written.change(|written| *written = change.max(*written));
}

/// Drops the oldest part of the own log, when it is due.
async fn compact(realm: &Arc<Realm>, writer: &Writer) -> Result<(), LedgerError> {
    let Some(last) = realm.core.lock().witness.as_ref().and_then(|witness| witness.poll_compact()) else {
        return Ok(());
    };
    let log = writer.log();
    let read = realm.tasks.run_busy(move || log.after(last - 1, 1, 1)).await;
    let record = read.and_then(Result::ok).and_then(|records| records.into_iter().next());
    let Some(record) = record.filter(|record| record.seq == last) else { return Ok(()) };
    if let Some(witness) = &mut realm.core.lock().witness {
        witness.handle_compact(last, record.chain);
    }
    Ok(())
}
