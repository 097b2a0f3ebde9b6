//! Following another witness's log: what was lost on the way comes again, in its order. And asking it where its log ends:
//! whoever has read that far has heard all that this witness had acknowledged when it was asked.

use std::{sync::Arc, time::Duration};

use region_config::NodeId;
use tokio::{sync::mpsc, time::timeout};
use wire::purge::{TailFrame, decode_tail, encode_tail};

use super::{
    carrier::{Carrier, CarryFault, Receiving, Sending},
    core::Reading,
    outlet::jittered,
    realm::Realm,
};
use crate::{clock, peers::Kind};

/// A witness says something about every second; after this silence the line is dead.
const SILENCE: Duration = Duration::from_secs(4);
/// Pauses after failures, in ms: the first and the longest.
const PAUSE_MS: (u64, u64) = (50, 1_000);
/// Frames that wait to be sent to a witness.
const FRAMES_MAX: usize = 16;

/// Follows a witness until the node stops. `index` is its place among the witnesses.
pub(super) async fn run(realm: Arc<Realm>, index: usize, witness: NodeId, carrier: Carrier) {
    let mut pause = PAUSE_MS.0;
    loop {
        let mut heard = false;
        if let Err(fault) = follow(&realm, index, &witness, &carrier, &mut heard).await {
            tracing::debug!(realm = %realm.name, %witness, %fault, "the tail of a witness ended");
            realm.note_refusal(&witness, &fault);
        }
        realm.core.lock().line_lost(index);
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
    line.send.frame(&encode_tail(&TailFrame::Tail(realm.name.clone(), realm.roll))).await?;
    let (say, said) = mpsc::channel(FRAMES_MAX);
    tokio::select! {
        biased;
        ended = read(realm, index, witness, line.recv, say, heard) => ended,
        ended = speak(realm, index, line.send, said) => ended,
    }
}

/// Sends what the reader has to say, and asks from time to time.
async fn speak(
    realm: &Realm,
    index: usize,
    mut send: Sending,
    mut said: mpsc::Receiver<TailFrame>,
) -> Result<(), CarryFault> {
    let mut asked = 0;
    let due = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(due);
    loop {
        let frame = tokio::select! {
            biased;
            () = &mut due => {
                asked += 1;
                let next = due.deadline() + realm.poll_pause();
                due.as_mut().reset(next);
                realm.core.lock().asked(index, asked);
                realm.skew.lock().handle_asked(index, asked, clock::unix_ms());
                TailFrame::Poll(asked)
            }
            frame = said.recv() => frame.ok_or(CarryFault::Ended)?,
        };
        send.frame(&encode_tail(&frame)).await?;
    }
}

async fn read(
    realm: &Arc<Realm>,
    index: usize,
    witness: &NodeId,
    mut recv: Receiving,
    say: mpsc::Sender<TailFrame>,
    heard: &mut bool,
) -> Result<(), CarryFault> {
    let mut reading = false;
    loop {
        let bytes = timeout(SILENCE, recv.frame()).await.map_err(|_| CarryFault::TimedOut)??;
        let next = match decode_tail(&bytes)? {
            TailFrame::Head { nonce, head, unix_ms, stand } => {
                realm.skew.lock().handle_answer(index, nonce, unix_ms, clock::unix_ms());
                let mut core = realm.core.lock();
                core.stands(index, stand);
                core.head(index, nonce, head, reading)
            }
            TailFrame::Compacted(head) => realm.core.lock().head(index, 0, head, false),
            TailFrame::Records { epoch, records } => {
                if !realm.core.lock().records(index, witness, epoch, &records) {
                    return Err(CarryFault::Broken);
                }
                realm.lazy.notify_one();
                continue;
            }
            TailFrame::Refused(why) => return Err(CarryFault::Refused(why)),
            TailFrame::Tail(..) | TailFrame::Start(_) | TailFrame::Held(_) | TailFrame::Poll(_) => {
                return Err(CarryFault::Broken);
            }
        };
        *heard = true;
        realm.lazy.notify_one();
        let frame = match next {
            Reading::Wait => {
                reading = false;
                None
            }
            Reading::On => {
                let held = realm.core.lock().held[index];
                held.filter(|_| realm.own.is_some()).map(|held| TailFrame::Held(held.seq))
            }
            Reading::From(start) => {
                reading = true;
                Some(TailFrame::Start(start))
            }
        };
        if let Some(frame) = frame {
            say.send(frame).await.map_err(|_| CarryFault::Ended)?;
        }
    }
}
