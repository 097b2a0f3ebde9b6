//! Answering other nodes: events that they send, and tails of the own log.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rules::purge::{LogHead, Reader, Stand, Tail, TailStart};
use tokio::{sync::mpsc, time::timeout};
use wire::purge::{Answer, Refusal, TailFrame, decode_request, decode_tail, encode_answer, encode_tail};

use super::{
    Ledgers, Peer,
    carrier::{CarryFault, Line, Receiving, Sending},
    core::Received,
    realm::Realm,
};
use crate::{
    clock,
    peers::{self, Kind, PeerIdentity, Stream},
};

/// How long a peer may take to say what it wants.
const HEAD: Duration = Duration::from_secs(5);
/// How often a witness says what its log has when nothing happens.
const BEAT: Duration = Duration::from_secs(1);
/// Records in one frame, and the bytes of them read from disk at a time.
const RECORDS_MAX: usize = 256;
const RECORDS_BYTES: usize = wire::purge::BATCH_BYTES;
/// How long what is new on disk gathers before a reader gets it. All of it has been sent to it before, by the node that took
/// it: the tail is for what got lost on that way. A reader that asks where the log ends gets it all at once.
const GATHER: Duration = Duration::from_millis(25);
/// Readers' messages that wait to be heeded.
const HEEDS_MAX: usize = 16;
/// Batches of one line that wait for the disk: more than come before their sender gives up. A sender of more has to wait.
const PROMISES_MAX: usize = 8_192;

/// What the mesh hands the ledgers' streams to.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) ledgers: Arc<Ledgers>,
    pub(super) kind: Kind,
}

impl peers::Answer for Door {
    fn answer(self: Arc<Self>, peer: PeerIdentity, stream: Stream) -> BoxFuture<'static, ()> {
        let peer = Peer { node: peer.node, jurisdiction: peer.jurisdiction };
        Box::pin(async move { serve(&self.ledgers, self.kind, peer, Line::mesh(stream)).await })
    }
}

/// Answers one line of a peer.
pub(super) async fn serve(ledgers: &Ledgers, kind: Kind, peer: Peer, mut line: Line) {
    let Ok(Ok(first)) = timeout(HEAD, line.recv.frame()).await else { return };
    let served = match kind {
        Kind::Ledger => answer(ledgers, &peer, line, first).await,
        Kind::Tail => tail(ledgers, &peer, line, &first).await,
        Kind::Gossip | Kind::Probe | Kind::Fetch | Kind::Counters | Kind::Purges | Kind::Forced | Kind::Relay => Ok(()),
    };
    if let Err(fault) = served {
        tracing::debug!(node = %peer.node, %fault, "a line of the ledger ended");
    }
}

/// The realm that a peer asks about, if both are members of it.
fn admit<'a>(ledgers: &'a Ledgers, peer: &Peer, realm: &region_config::RealmId) -> Option<&'a Arc<Realm>> {
    let admitted = ledgers.realm(realm).filter(|_| peer.member(realm));
    if admitted.is_none() {
        tracing::warn!(node = %peer.node, "a node asked about a realm that it or this node is no member of");
    }
    admitted
}

/// Takes batches of events as they come, and answers each when what it promises is on disk.
async fn answer(ledgers: &Ledgers, peer: &Peer, line: Line, first: Bytes) -> Result<(), CarryFault> {
    let Line { mut send, mut recv } = line;
    let (promise, promised) = mpsc::channel(PROMISES_MAX);
    let listen = async move {
        let mut request = first;
        loop {
            promise.send(take(ledgers, peer, &request)).await.map_err(|_| CarryFault::Ended)?;
            request = recv.frame().await?;
        }
    };
    let speak = async move {
        let mut promised = promised;
        while let Some(promise) = promised.recv().await {
            send.frame(&encode_answer(&promise.kept().await)).await?;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        ended = speak => ended,
        ended = listen => ended,
    }
}

/// What a batch was promised, and what has to be on disk first.
struct Promise {
    realm: Option<Arc<Realm>>,
    received: Result<Vec<Received>, Refusal>,
    change: u64,
    /// The epoch of the own log, if the batch is to be stored.
    epoch: Option<u64>,
}

impl Promise {
    fn refused(refusal: Refusal) -> Self {
        Self { realm: None, received: Err(refusal), change: 0, epoch: None }
    }

    async fn kept(self) -> Answer {
        let received = match self.received {
            Ok(received) => received,
            Err(refusal) => return Answer::Refused(refusal),
        };
        if let Some(realm) = &self.realm
            && realm.on_disk(self.change).await.is_err()
        {
            return Answer::Refused(Refusal::Stopped);
        }
        match self.epoch {
            Some(epoch) => Answer::Stored { epoch, places: received },
            None => Answer::Applied(received.into_iter().map(|(id, _, position)| (id, position)).collect()),
        }
    }
}

fn take(ledgers: &Ledgers, peer: &Peer, request: &Bytes) -> Promise {
    let Ok(request) = decode_request(request) else { return Promise::refused(Refusal::Malformed) };
    let Some(realm) = admit(ledgers, peer, &request.realm) else { return Promise::refused(Refusal::NotMember) };
    let (received, change, epoch) = {
        let mut core = realm.core.lock();
        let admitted = if request.store { core.admits(request.roll) } else { Ok(()) };
        // what is refused has its effect all the same
        let received = core.receive(&request.events, request.store && admitted.is_ok());
        let received = admitted.and(received);
        let epoch = core.witness.as_ref().map_or(0, |witness| witness.head().epoch);
        (received, core.change, epoch)
    };
    realm.urgent.notify_one();
    Promise { realm: Some(Arc::clone(realm)), received, change, epoch: request.store.then_some(epoch) }
}

/// Serves the own log to a reader, for as long as it listens.
async fn tail(ledgers: &Ledgers, peer: &Peer, line: Line, first: &Bytes) -> Result<(), CarryFault> {
    let TailFrame::Tail(name, roll) = decode_tail(first)? else { return Err(CarryFault::Broken) };
    let Some(realm) = admit(ledgers, peer, &name) else { return Err(CarryFault::Outside) };
    let index = realm.witnesses.iter().position(|witness| *witness == peer.node);
    let Line { mut send, recv } = line;
    let admitted = realm.core.lock().admits(roll);
    if let Err(why) = admitted {
        return send.frame(&encode_tail(&TailFrame::Refused(why))).await;
    }
    let (say, heeded) = mpsc::channel(HEEDS_MAX);
    tokio::select! {
        biased;
        ended = listen(realm, recv, index, say) => ended,
        ended = speak(realm, send, heeded) => ended,
    }
}

/// What a reader wants to be heeded.
enum Heed {
    /// To go on from here.
    Start(TailStart),
    /// To know where the log ends now.
    Poll(u64),
}

/// Hears where the reader wants to go on, what it asks, and what it holds.
async fn listen(
    realm: &Realm,
    mut recv: Receiving,
    reader: Option<usize>,
    say: mpsc::Sender<Heed>,
) -> Result<(), CarryFault> {
    loop {
        match decode_tail(&recv.frame().await?)? {
            TailFrame::Start(start) => say.send(Heed::Start(start)).await.map_err(|_| CarryFault::Ended)?,
            TailFrame::Poll(nonce) => say.send(Heed::Poll(nonce)).await.map_err(|_| CarryFault::Ended)?,
            TailFrame::Held(seq) => {
                if let (Some(reader), Some(witness)) = (reader, &mut realm.core.lock().witness) {
                    witness.handle_held(reader, seq);
                }
            }
            TailFrame::Tail(..)
            | TailFrame::Head { .. }
            | TailFrame::Records { .. }
            | TailFrame::Compacted(_)
            | TailFrame::Refused(_) => return Err(CarryFault::Broken),
        }
    }
}

/// Says what the log has, and sends what is new on disk.
async fn speak(realm: &Realm, mut send: Sending, mut heeded: mpsc::Receiver<Heed>) -> Result<(), CarryFault> {
    let mut seen = realm.written.read(|written| *written);
    let mut beat = tokio::time::interval(BEAT);
    // up to where the reader has got, and of which life of the log
    let mut place: Option<(u64, u64)> = None;
    let mut said = None;
    let mut next = clock::instant();
    loop {
        let news = standing(realm);
        if said != news {
            said = news;
            speak_head(realm, &mut send, unasked).await?;
        }
        let changed = async {
            tokio::time::sleep_until(next.into()).await;
            realm.written.until(|written| (*written != seen).then_some(*written)).await
        };
        tokio::select! {
            biased;
            heed = heeded.recv() => match heed.ok_or(CarryFault::Ended)? {
                Heed::Start(start) => place = begin(realm, &mut send, &start).await?,
                // the head is taken now, after the question came
                Heed::Poll(nonce) => speak_head(realm, &mut send, |head, stand| TailFrame::Head { nonce, head, unix_ms: clock::unix_ms(), stand }).await?,
            },
            _ = beat.tick() => speak_head(realm, &mut send, unasked).await?,
            change = changed => seen = change,
        }
        if let Some((epoch, after)) = &mut place
            && !speak_records(realm, &mut send, *epoch, after).await?
        {
            place = None;
            speak_head(realm, &mut send, |head, _| TailFrame::Compacted(head)).await?;
        }
        next = clock::instant() + GATHER;
    }
}

fn unasked(head: LogHead, stand: Stand) -> TailFrame {
    TailFrame::Head { nonce: 0, head, unix_ms: clock::unix_ms(), stand }
}

/// What readers are to know at once when it changes: the life of the log, whether it votes, and how it stands in a change.
fn standing(realm: &Realm) -> Option<(u64, bool, Stand)> {
    let core = realm.core.lock();
    let head = core.witness.as_ref().map(|witness| witness.head());
    head.map(|head| (head.epoch, head.voting, core.stand()))
}

async fn speak_head(
    realm: &Realm,
    send: &mut Sending,
    frame: impl Fn(LogHead, Stand) -> TailFrame,
) -> Result<(), CarryFault> {
    let (head, stand) = {
        let core = realm.core.lock();
        (core.witness.as_ref().map(|witness| witness.head()), core.stand())
    };
    let frame = frame(head.ok_or(CarryFault::Ended)?, stand);
    send.frame(&encode_tail(&frame)).await
}

/// Where a reader may go on, if it may.
async fn begin(realm: &Realm, send: &mut Sending, start: &TailStart) -> Result<Option<(u64, u64)>, CarryFault> {
    let cursor = start.cursor;
    let (mut reader, voting) = {
        let core = realm.core.lock();
        (core.reader(&cursor), core.witness.as_ref().is_some_and(|witness| witness.voting()))
    };
    if reader == Reader::IfChainOnDisk {
        let record = realm.read_log(cursor.seq.saturating_sub(1), 1).await?.into_iter().next();
        let same = record.is_some_and(|record| record.seq == cursor.seq && record.chain == cursor.chain);
        reader = if same { Reader::Follows } else { Reader::Ahead };
    }
    match reader {
        Reader::Follows if voting || start.recovering => return Ok(Some((cursor.epoch, cursor.seq))),
        Reader::Follows => {}
        Reader::Ahead => realm.set_back(),
        Reader::Behind | Reader::IfChainOnDisk => speak_head(realm, send, |head, _| TailFrame::Compacted(head)).await?,
    }
    Ok(None)
}

/// Sends what is on disk after `after`. False if it cannot go on from there.
async fn speak_records(realm: &Realm, send: &mut Sending, epoch: u64, after: &mut u64) -> Result<bool, CarryFault> {
    loop {
        let tail = {
            let core = realm.core.lock();
            core.witness.as_ref().map_or(Tail::Gone, |witness| witness.tail(epoch, *after, RECORDS_MAX))
        };
        let mut records = match tail {
            Tail::UpToDate => return Ok(true),
            Tail::Gone => return Ok(false),
            Tail::Records(records) => records,
            Tail::OnDisk(after) => realm.read_log(after, RECORDS_MAX).await?,
        };
        let mut bytes = 0;
        records.truncate({
            let fits = records.iter().take_while(|record| {
                bytes += 16 + wire::purge::event_bytes(&record.event);
                bytes <= RECORDS_BYTES
            });
            fits.count().max(1)
        });
        let Some(last) = records.last() else { return Ok(false) };
        *after = last.seq;
        send.frame(&encode_tail(&TailFrame::Records { epoch, records })).await?;
    }
}
