//! Reading the stream: in pages, in order, every message once.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    Message,
    consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, pull},
};
use futures_util::StreamExt as _;
use rules::purge::Cursor;
use tokio::sync::watch;
use wire::purge::decode_batch;

use super::{super::realm::Realm, WITNESS, fault::StreamFault, head, log::StreamLog, publish::StreamLine};

/// Messages in one page. The next is asked for when half of it is read, so no more than this waits in memory.
const PAGE: usize = 64;
/// How long one question for a page stands.
const PAGE_OPEN: Duration = Duration::from_secs(10);
/// The servers say something about every so often; after twice that silence, reading begins anew.
const PULSE: Duration = Duration::from_secs(2);
/// How long the servers keep a reader that is gone.
const GONE: Duration = Duration::from_secs(60);

/// A reader of the stream, from a place on.
pub(super) struct Reader {
    messages: pull::Stream,
    /// How many messages the servers have sent it.
    count: u64,
}

impl Reader {
    /// Opens a reader behind `from`: of purges, and of this node's own beats.
    pub(super) async fn open(log: &StreamLog, from: Cursor) -> Result<Self, StreamFault> {
        let fault = StreamFault::asked("opening a reader of the stream");
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.seq + 1 },
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            filter_subjects: vec![log.purges.to_string(), log.beats.to_string()],
            inactive_threshold: GONE,
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = log.stream().create_consumer(config).await.map_err(|why| fault(&why))?;
        let pages = consumer.stream().max_messages_per_batch(PAGE).heartbeat(PULSE).expires(PAGE_OPEN);
        Ok(Self { messages: pages.messages().await.map_err(|why| fault(&why))?, count: 0 })
    }

    /// Reads to the first failure, and tells `heard` how far.
    pub(super) async fn run(
        mut self,
        realm: &Arc<Realm>,
        log: &StreamLog,
        line: &StreamLine,
        heard: watch::Sender<u64>,
    ) -> StreamFault {
        loop {
            let message = match self.messages.next().await {
                Some(Ok(message)) => message,
                Some(Err(why)) => return StreamFault::Reading(why.to_string()),
                None => return StreamFault::Reading("it ended".to_owned()),
            };
            match self.take(realm, log, line, &message) {
                Ok(seq) => drop(heard.send_replace(seq)),
                Err(fault) => return fault,
            }
        }
    }

    /// Takes one message; returns its place.
    fn take(
        &mut self,
        realm: &Arc<Realm>,
        log: &StreamLog,
        line: &StreamLine,
        message: &Message,
    ) -> Result<u64, StreamFault> {
        let info = message.info().map_err(|why| StreamFault::Reading(format!("a message without a place: {why}")))?;
        self.count += 1;
        if info.consumer_sequence != self.count {
            let why = format!("message {} came where {} was expected", info.consumer_sequence, self.count);
            return Err(StreamFault::Reading(why));
        }
        let seq = info.stream_sequence;
        if message.subject.as_str() != &*log.purges {
            return Ok(seq);
        }
        let read = log.place(seq, &message.payload);
        let mut core = realm.core.lock();
        let follows = match decode_batch(&message.payload) {
            Ok(events) => core.passage(read, &line.witness, &events),
            Err(fault) => {
                // it may have been a purge of anything
                core.head(WITNESS, 0, head(read), false);
                tracing::error!(realm = %realm.name, seq, %fault, "a message of the stream cannot be read: what was stored before counts as purged");
                true
            }
        };
        drop(core);
        realm.lazy.notify_one();
        if follows { Ok(seq) } else { Err(StreamFault::Reading(format!("place {seq} does not follow what was read"))) }
    }
}
