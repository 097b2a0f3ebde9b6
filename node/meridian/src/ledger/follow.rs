//! Following another witness's log: what was lost on the way comes again, in its order.

use std::{sync::Arc, time::Duration};

use region_config::NodeId;
use tokio::time::timeout;
use wire::purge::{TailFrame, decode_tail, encode_tail};

use super::{
    carrier::{Carrier, CarryFault},
    core::Reading,
    outlet::jittered,
    realm::Realm,
};
use crate::peers::Kind;

/// A witness says something about every second; after this silence the line is dead.
const SILENCE: Duration = Duration::from_secs(4);
/// Pauses after failures, in ms: the first and the longest.
const PAUSE_MS: (u64, u64) = (50, 1_000);

/// Follows a witness until the node stops. `index` is its place among the witnesses.
pub(super) async fn run(realm: Arc<Realm>, index: usize, witness: NodeId, carrier: Carrier) {
    let mut pause = PAUSE_MS.0;
    loop {
        let mut heard = false;
        if let Err(fault) = follow(&realm, index, &witness, &carrier, &mut heard).await {
            tracing::debug!(realm = %realm.name, %witness, %fault, "the tail of a witness ended");
        }
        pause = if heard { PAUSE_MS.0 } else { (pause * 2).min(PAUSE_MS.1) };
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Follows over one line.
async fn follow(
    realm: &Arc<Realm>,
    index: usize,
    witness: &NodeId,
    carrier: &Carrier,
    heard: &mut bool,
) -> Result<(), CarryFault> {
    let mut line = carrier.open(witness, Kind::Tail, &realm.name).await?;
    line.send.frame(&encode_tail(&TailFrame::Tail(realm.name.clone()))).await?;
    let mut reading = false;
    loop {
        let bytes = timeout(SILENCE, line.recv.frame()).await.map_err(|_| CarryFault::TimedOut)??;
        let next = match decode_tail(&bytes)? {
            TailFrame::Head(head) => realm.core.lock().head(index, head, reading),
            TailFrame::Compacted(head) => realm.core.lock().head(index, head, false),
            TailFrame::Records { epoch, records } => {
                if !realm.core.lock().records(index, witness, epoch, &records) {
                    return Err(CarryFault::Broken);
                }
                realm.lazy.notify_one();
                continue;
            }
            TailFrame::Tail(_) | TailFrame::Start(_) | TailFrame::Held(_) => return Err(CarryFault::Broken),
        };
        *heard = true;
        realm.lazy.notify_one();
        match next {
            Reading::Wait => reading = false,
            Reading::On => {
                let held = realm.core.lock().held[index];
                if let Some(held) = held.filter(|_| realm.own.is_some()) {
                    line.send.frame(&encode_tail(&TailFrame::Held(held.seq))).await?;
                }
            }
            Reading::From(start) => {
                reading = true;
                line.send.frame(&encode_tail(&TailFrame::Start(start))).await?;
            }
        }
    }
}
