//! A realm's log in a stream of NATS JetStream, instead of witnesses: for the machines it is one witness that is always
//! there, `stream`, and "stored" is the acknowledgement of the stream's servers.
//!
//! ```text
//! submit ──> StreamLine ──> publish ──┐ PubAck: stored                 publish: in batches, some at a time
//!                                     ├──> the servers                 poll:    a beat, and all before it is heard
//! Core <──── read <───────────────────┘                                read:    pages, checked for holes
//! ```
//!
//! A session lasts as long as all three go well. It begins with finding its place: the last message that was read must
//! still be the one it was, else everything stored counts as purged, and reading goes on behind a mark of our own.

mod fault;
mod log;
mod publish;
mod read;
pub(crate) mod server;

use std::{convert::Infallible, io::ErrorKind, sync::Arc, time::Duration};

use region_config::{Config, NodeId, RealmId, Stream};
use rules::purge::{Cursor, LogHead, witnesses};
use store::ledger::{Disk, LedgerError};
use tokio::sync::watch;

use self::{
    fault::StreamFault,
    log::{Held, Letter, StreamLog},
};
use super::{LedgersFault, core::Core, outlet::jittered, realm::Realm};
pub(super) use publish::StreamLine;

/// The stream's place among the witnesses: it is the only one.
const WITNESS: usize = 0;
/// How long it may take until a beat that was acknowledged is read.
const HEARD: Duration = Duration::from_secs(10);
/// Pauses after failures, in ms: the first and the longest.
const PAUSE_MS: (u64, u64) = (100, 2_000);

/// A realm's file, by what keeps its log. The one of the other kind is set aside: what it has read says nothing about
/// the purges since, so a node whose realm changes begins anew, with everything stored before counting as purged.
pub(super) fn file_name(disk: &dyn Disk, config: &Config, realm: &RealmId) -> Result<String, LedgersFault> {
    let (witnesses, stream) = (format!("{realm}.ledger"), format!("{realm}.stream.ledger"));
    let (name, other) = match config.streams.iter().any(|it| it.realm == *realm) {
        true => (stream, witnesses),
        false => (witnesses, stream),
    };
    match disk.set_aside(&other) {
        Ok(()) => {
            tracing::warn!(%realm, file = other, "the realm's log is kept by others than before; what they had told is set aside")
        }
        Err(fault) if fault.kind() == ErrorKind::NotFound => {}
        Err(fault) => {
            let source = LedgerError::Open { name: other, why: format!("setting it aside: {fault}") };
            return Err(LedgersFault::File { realm: realm.clone(), source });
        }
    }
    Ok(name)
}

/// The way to the realm's stream; what was in the outbox goes out again.
pub(super) fn line(config: &Config, realm: &RealmId, core: &Core) -> Option<Arc<StreamLine>> {
    let stream = config.streams.iter().find(|stream| stream.realm == *realm)?;
    let witness = witnesses(config, realm).into_iter().next()?;
    let line = StreamLine::new(stream.clone(), config.node.name.clone(), witness);
    core.outbox.values().flatten().for_each(|event| line.push(Arc::clone(event)));
    Some(Arc::new(line))
}

/// Keeps a realm and its stream together until the node stops.
pub(super) async fn run(realm: Arc<Realm>, line: Arc<StreamLine>) {
    let (mut pause, mut told) = (PAUSE_MS.0, String::new());
    loop {
        let mut good = false;
        let Err(fault) = session(&realm, &line, &mut good).await;
        realm.core.lock().line_lost(WITNESS);
        let (realm, stream, why) = (&realm.name, &line.config.name, fault.to_string());
        if good || why != told {
            tracing::warn!(%realm, %stream, fault = %why, "the stream of the realm's purges cannot be used; it is tried again");
        }
        pause = if good { PAUSE_MS.0 } else { (pause * 2).min(PAUSE_MS.1) };
        told = why;
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Once: from connecting to the first failure. `good` is set when the node has heard everything.
async fn session(realm: &Arc<Realm>, line: &Arc<StreamLine>, good: &mut bool) -> Result<Infallible, StreamFault> {
    let config = &line.config;
    server::see_that_it_syncs(config, &line.node).await?;
    let connection = server::connect(config, config.credentials.as_deref(), &line.node).await?;
    let log = StreamLog::open(&connection.client, config, &line.node).await?;
    let ended = tokio::select! {
        ended = follow(realm, line, &log, good) => ended,
        () = connection.lost.notified() => Err(StreamFault::Reading("the connection is lost".to_owned())),
    };
    if let Err(StreamFault::SetBack) = ended {
        log.renew().await?;
    }
    ended
}

/// Finds the place in the stream, and goes on from there to the first failure.
async fn follow(
    realm: &Arc<Realm>,
    line: &Arc<StreamLine>,
    log: &StreamLog,
    good: &mut bool,
) -> Result<Infallible, StreamFault> {
    let from = place(realm, line, log).await?;
    let (heard, hearing) = watch::channel(from.seq);
    let reader = read::Reader::open(log, from).await?;
    line.begin();
    tokio::select! {
        fault = reader.run(realm, log, line, heard) => Err(fault),
        fault = poll(realm, line, log, hearing, good) => Err(fault),
        fault = publish::run(realm, log, line) => Err(fault),
    }
}

/// Where to read on. If that is not where reading ended, everything that was stored counts as purged.
async fn place(realm: &Arc<Realm>, line: &StreamLine, log: &StreamLog) -> Result<Cursor, StreamFault> {
    let read = realm.core.lock().apply.cursor(WITNESS);
    let why = match read {
        None => "this node joins the stream",
        Some(cursor) if cursor.epoch != log.epoch => "the stream is another one than it was",
        Some(cursor) => {
            let after = line.beat(log).await?;
            match log.held(cursor, after).await? {
                Held::Same => return Ok(cursor),
                Held::Gone => "the stream has dropped what was to be read next",
                Held::SetBack => return Err(StreamFault::SetBack),
            }
        }
    };
    // its place is told by a majority of the servers, and stays, unlike a beat's
    let mark = log.publish(&Letter::new(&[])?).await?;
    let head = head(mark);
    let mut core = realm.core.lock();
    core.head(WITNESS, 0, head, false);
    drop(core);
    tracing::warn!(realm = %realm.name, why, "what was stored before counts as purged");
    realm.lazy.notify_one();
    Ok(mark)
}

/// What the stream is to a reader that has read it up to `read`.
fn head(read: Cursor) -> LogHead {
    let Cursor { epoch, seq, chain } = read;
    LogHead { epoch, base: seq + 1, base_chain: chain, seq, chain, voting: true }
}

/// Asks again and again how far the stream is, and notes when everything up to there was heard.
async fn poll(
    realm: &Arc<Realm>,
    line: &StreamLine,
    log: &StreamLog,
    mut heard: watch::Receiver<u64>,
    good: &mut bool,
) -> StreamFault {
    let mut nonce = 0;
    loop {
        nonce += 1;
        let due = tokio::time::sleep(realm.poll_pause());
        if let Err(fault) = ask(realm, line, log, &mut heard, nonce).await {
            return fault;
        }
        if !*good {
            tracing::info!(realm = %realm.name, "the stream was read up to its end");
        }
        *good = true;
        due.await;
    }
}

/// One question. When it is answered, this node has heard everything that was acknowledged before it was asked.
async fn ask(
    realm: &Arc<Realm>,
    line: &StreamLine,
    log: &StreamLog,
    heard: &mut watch::Receiver<u64>,
    nonce: u64,
) -> Result<(), StreamFault> {
    realm.core.lock().asked(WITNESS, nonce);
    let beat = line.beat(log).await?;
    let read = async { heard.wait_for(|seq| *seq >= beat).await.map(drop) };
    match tokio::time::timeout(HEARD, read).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(StreamFault::Reading("its reader ended".to_owned())),
        Err(_) => return Err(StreamFault::Reading(format!("a beat is not read within {HEARD:?}"))),
    }
    // another stream under the same name may have given the same places
    if !log.same().await? {
        return Err(StreamFault::Replaced);
    }
    let mut core = realm.core.lock();
    if let Some(cursor) = core.apply.cursor(WITNESS) {
        core.head(WITNESS, nonce, head(cursor), true);
    }
    Ok(())
}
