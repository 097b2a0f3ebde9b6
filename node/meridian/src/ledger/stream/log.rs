//! The stream itself: made if there is none, looked at whether it is what it has to be, written and asked.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        self, Context,
        context::{ContextBuilder, GetStreamErrorKind, PublishErrorKind},
        message::PublishMessage,
        stream::{
            Config, DiscardPolicy, Info, PersistenceMode, RawMessageErrorKind, RetentionPolicy, StorageType, Stream,
        },
    },
};
use bytes::Bytes;
use region_config::{NodeId, Stream as Written};
use rules::purge::{Cursor, Event, LOG_KEEP};
use wire::purge::{BATCH_BYTES, encode_batch};

use super::{super::chance, fault::StreamFault, server::ANSWER};

/// Where a stream keeps the name of its present life, among what its config says of it.
const LIFE: &str = "meridian-life";
/// How long a beat stays in the stream; a node that has not read it by then sends another.
const BEAT: Duration = Duration::from_secs(10);
/// How long a message that comes twice is taken for one.
const TWICE: Duration = Duration::from_secs(120);
/// What a server must take in one message: a batch, and room for its headers.
const PAYLOAD_BYTES_MIN: usize = BATCH_BYTES + 1_024;

/// An opened stream.
#[derive(Debug, Clone)]
pub(super) struct StreamLog {
    context: Context,
    stream: Stream<()>,
    name: Arc<str>,
    /// Name of the present life of the stream: the same for every node, another one when it was made anew or set back.
    pub(super) epoch: u64,
    /// The subject of purges.
    pub(super) purges: Arc<str>,
    /// The subject of this node's beats.
    pub(super) beats: Arc<str>,
}

/// A message that is to be published: the same again is the same message.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    bytes: Bytes,
    id: String,
}

impl Letter {
    /// Events on their way; without any, a mark.
    pub(super) fn new(events: &[Arc<Event>]) -> Result<Self, StreamFault> {
        let nonce = u64::from_be_bytes(chance().map_err(|_| StreamFault::Chance)?);
        let bytes = encode_batch(nonce, events);
        let id = blake3::hash(&bytes).to_hex()[..32].to_owned();
        Ok(Self { bytes: bytes.into(), id })
    }
}

/// How a place that was read before looks now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// As it was.
    Same,
    /// It is not there any more: the oldest part of the stream was dropped.
    Gone,
    /// Something else is there, or nothing yet: the stream was set back.
    SetBack,
}

impl StreamLog {
    /// Opens the stream, and makes it if there is none.
    pub(super) async fn open(client: &Client, written: &Written, node: &NodeId) -> Result<Self, StreamFault> {
        let payload = client.server_info().max_payload;
        if payload < PAYLOAD_BYTES_MIN {
            let why = format!("`max_payload` of the server is {payload}; expected at least {PAYLOAD_BYTES_MIN}");
            return Err(StreamFault::Terms(why));
        }
        let context = ContextBuilder::new().timeout(ANSWER).build(client.clone());
        let info = found_or_made(&context, written).await?;
        let faults = faults(&info.config, written);
        if !faults.is_empty() {
            return Err(StreamFault::Terms(format!("stream `{}`: {}", written.name, faults.join("; "))));
        }
        let stream = context.get_stream_no_info(&written.name).await;
        Ok(Self {
            stream: stream.map_err(|why| StreamFault::asked("opening the stream")(&why))?,
            context,
            epoch: epoch(&info),
            name: written.name.as_str().into(),
            purges: purges(&written.name).into(),
            beats: format!("{}.beats.{node}", written.name).into(),
        })
    }

    /// Appends a message. When this returns, a majority of the stream's servers has it on disk.
    pub(super) async fn publish(&self, letter: &Letter) -> Result<Cursor, StreamFault> {
        let message =
            PublishMessage::build().payload(letter.bytes.clone()).message_id(&letter.id).expected_stream(&*self.name);
        let seq = self.send(&self.purges, message, "publishing purges").await?;
        Ok(self.place(seq, &letter.bytes))
    }

    /// Appends a short-lived message that only has a place: when the stream is read up to it, all is read that was
    /// acknowledged before. Asking a server for its last place would not do: it may have lost its leadership unawares.
    pub(super) async fn beat(&self) -> Result<u64, StreamFault> {
        let message = PublishMessage::build().ttl(BEAT).expected_stream(&*self.name);
        self.send(&self.beats, message, "publishing a beat").await
    }

    async fn send(&self, subject: &str, message: PublishMessage, doing: &'static str) -> Result<u64, StreamFault> {
        let fault = StreamFault::asked(doing);
        let sent = self.context.send_publish(subject.to_owned(), message).await;
        let acknowledged = sent.map_err(|why| fault(&why))?.await.map_err(|why| match why.kind() {
            PublishErrorKind::TimedOut => fault(&"no acknowledgement in time"),
            _ => fault(&why),
        })?;
        Ok(acknowledged.sequence)
    }

    /// Whether a place that was read is what it was. `after` is a place that was appended just now: whoever tells of
    /// the stream has got at least that far.
    pub(super) async fn held(&self, cursor: Cursor, after: u64) -> Result<Held, StreamFault> {
        if after <= cursor.seq {
            return Ok(Held::SetBack);
        }
        match self.stream.get_raw_message(cursor.seq).await {
            Ok(message) if self.place(cursor.seq, &message.payload) == cursor => Ok(Held::Same),
            Ok(_) => Ok(Held::SetBack),
            Err(why) if why.kind() == RawMessageErrorKind::NoMessageFound => Ok(Held::Gone),
            Err(why) => Err(StreamFault::asked("reading the last place that was read before")(&why)),
        }
    }

    /// Whether it is still the stream that was opened.
    pub(super) async fn same(&self) -> Result<bool, StreamFault> {
        let info = self.stream.get_info().await.map_err(|why| StreamFault::asked("asking for the stream")(&why))?;
        Ok(epoch(&info) == self.epoch)
    }

    /// Begins a new life of the stream, for all nodes to see.
    pub(super) async fn renew(&self) -> Result<(), StreamFault> {
        let fault = StreamFault::asked("giving the stream a new life");
        let info = self.stream.get_info().await.map_err(|why| fault(&why))?;
        let mut config = info.config;
        config.metadata.insert(LIFE.to_owned(), life()?);
        self.context.update_stream(config).await.map_err(|why| fault(&why))?;
        Ok(())
    }

    /// What reads the stream.
    pub(super) fn stream(&self) -> &Stream<()> {
        &self.stream
    }

    /// The cursor of a reader that has read the message at `seq`.
    pub(super) fn place(&self, seq: u64, payload: &[u8]) -> Cursor {
        let sum = blake3::hash(payload);
        let chain = sum.as_bytes().iter().take(8).fold(seq, |sum, byte| sum.rotate_left(8) ^ u64::from(*byte));
        Cursor { epoch: self.epoch, seq, chain }
    }
}

async fn found_or_made(context: &Context, written: &Written) -> Result<Info, StreamFault> {
    let fault = StreamFault::asked("opening the stream");
    match context.get_stream(&written.name).await {
        Ok(stream) => return Ok(stream.cached_info().clone()),
        Err(why) => match why.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND => {}
            _ => return Err(fault(&why)),
        },
    }
    let made = context.create_stream(wanted(written)?).await;
    match made {
        Ok(stream) => {
            tracing::info!(realm = %written.realm, stream = %written.name, "the stream of the realm's purges was made");
            Ok(stream.cached_info().clone())
        }
        Err(why) => {
            // another node may have made it at the same moment
            let stream = context.get_stream(&written.name).await;
            stream.map(|stream| stream.cached_info().clone()).map_err(|_| StreamFault::asked("making the stream")(&why))
        }
    }
}

fn purges(name: &str) -> String {
    format!("{name}.purges")
}

fn subjects(name: &str) -> Vec<String> {
    vec![purges(name), format!("{name}.beats.*")]
}

fn life() -> Result<String, StreamFault> {
    let life: [u8; 16] = chance().map_err(|_| StreamFault::Chance)?;
    Ok(format!("{:032x}", u128::from_be_bytes(life)))
}

fn wanted(written: &Written) -> Result<Config, StreamFault> {
    Ok(Config {
        name: written.name.clone(),
        description: Some(format!("Meridian: purges of realm {}", written.realm)),
        subjects: subjects(&written.name),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: written.replicas,
        discard: DiscardPolicy::Old,
        max_bytes: i64::try_from(written.size_max_bytes).unwrap_or(i64::MAX),
        max_messages: i64::try_from(LOG_KEEP).unwrap_or(i64::MAX),
        max_messages_per_subject: -1,
        max_consumers: -1,
        duplicate_window: TWICE,
        // nobody takes a purge out of the middle, where no reader would miss it
        deny_delete: true,
        deny_purge: true,
        allow_message_ttl: true,
        metadata: [(LIFE.to_owned(), life()?)].into(),
        ..Config::default()
    })
}

/// What is wrong with a stream that is there.
fn faults(config: &Config, written: &Written) -> Vec<String> {
    let mut faults = Vec::new();
    let mut want = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    let mut found = config.subjects.clone();
    found.sort();
    let mut expected = subjects(&written.name);
    expected.sort();
    let replicas = config.num_replicas.max(1);
    want(config.storage == StorageType::File, "its storage is memory; expected file".to_owned());
    want(replicas >= written.replicas, format!("it has {replicas} replicas; expected {}", written.replicas));
    want(config.retention == RetentionPolicy::Limits, "its retention is not `limits`".to_owned());
    want(
        config.discard == DiscardPolicy::Old,
        "it discards what is new when it is full; expected what is old".to_owned(),
    );
    want(found == expected, format!("its subjects are {found:?}; expected {expected:?}"));
    want(
        config.persist_mode != Some(PersistenceMode::Async),
        "it acknowledges before it stores (`persist_mode`)".to_owned(),
    );
    want(
        config.deny_delete && config.deny_purge,
        "messages can be deleted; expected `deny_delete` and `deny_purge`".to_owned(),
    );
    want(config.allow_message_ttl, "messages cannot have a lifetime; expected `allow_msg_ttl`".to_owned());
    want(config.max_messages_per_subject <= 0, "it has `max_msgs_per_subject`, which drops purges".to_owned());
    want(!config.no_ack && !config.sealed, "it does not acknowledge (`no_ack`), or is sealed".to_owned());
    let copied = config.mirror.is_some() || config.sources.as_ref().is_some_and(|sources| !sources.is_empty());
    want(!copied, "it is a copy of other streams".to_owned());
    want(config.republish.is_none(), "it republishes what it holds".to_owned());
    want(config.subject_transform.is_none(), "it renames subjects".to_owned());
    faults
}

/// The name of a stream's life: of the stream that was made then, as long as nobody had to renew it.
fn epoch(info: &Info) -> u64 {
    let life = info.config.metadata.get(LIFE).map_or("", String::as_str);
    let created = info.created.unix_timestamp_nanos();
    let sum = blake3::hash(format!("meridian stream 1\n{}\n{created}\n{life}", info.config.name).as_bytes());
    sum.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::RealmId;

    use super::*;

    fn written() -> Written {
        Written {
            realm: RealmId::global(),
            name: "meridian-global".into(),
            servers: Vec::new(),
            jurisdiction: None,
            replicas: 3,
            size_max_bytes: 1 << 30,
            credentials: None,
            system_credentials: None,
            ca: None,
            identity: None,
        }
    }

    #[test]
    fn a_stream_that_could_lose_purges_is_refused_with_every_reason() {
        let good = wanted(&written()).unwrap();
        assert!(faults(&good, &written()).is_empty());
        let bad = Config {
            storage: StorageType::Memory,
            num_replicas: 1,
            discard: DiscardPolicy::New,
            subjects: vec![">".into()],
            persist_mode: Some(PersistenceMode::Async),
            deny_purge: false,
            allow_message_ttl: false,
            max_messages_per_subject: 1,
            no_ack: true,
            ..good
        };
        let said = faults(&bad, &written());
        assert_eq!(said.len(), 9, "{said:?}");
    }
}
