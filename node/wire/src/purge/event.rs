//! Events and records.

use std::sync::Arc;

use region_config::SiteId;
use rules::purge::{Event, KEYS_MAX, Mode, PurgeKey, Record};

use super::{VERSION, version};
use crate::message::{MessageFault, Reader, put_count, put_text};

/// Appends an event.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(match event.mode() {
        Mode::Soft => 0,
        Mode::Hard => 1,
    });
    put_text(out, event.site().map_or("", SiteId::as_str));
    put_text(out, event.idempotency());
    put_count(out, event.keys().len());
    for key in event.keys() {
        match key {
            PurgeKey::Url { host, target } => {
                out.push(1);
                put_text(out, host);
                put_text(out, target);
            }
            PurgeKey::Tag(tag) => {
                out.push(2);
                put_text(out, tag);
            }
            PurgeKey::Site => out.push(3),
            PurgeKey::Prefix { host, path } => {
                out.push(4);
                put_text(out, host);
                put_text(out, path);
            }
            PurgeKey::Host(host) => {
                out.push(5);
                put_text(out, host);
            }
            PurgeKey::Realm => out.push(6),
        }
    }
}

/// The size of an encoded event, in bytes.
#[must_use]
pub fn event_bytes(event: &Event) -> usize {
    let key = |key: &PurgeKey| match key {
        PurgeKey::Url { host, target: rest } | PurgeKey::Prefix { host, path: rest } => 5 + host.len() + rest.len(),
        PurgeKey::Tag(text) | PurgeKey::Host(text) => 3 + text.len(),
        PurgeKey::Site | PurgeKey::Realm => 1,
    };
    8 + event.site().map_or(0, |site| site.as_str().len())
        + event.idempotency().len()
        + event.keys().iter().map(key).sum::<usize>()
}

/// Reads an event that fills `bytes`.
///
/// # Errors
/// [`MessageFault`] if it is none, or breaks a limit.
pub fn decode_event(bytes: &[u8]) -> Result<Event, MessageFault> {
    let mut reader = Reader::new(bytes);
    let event = take_event(&mut reader)?;
    reader.end()?;
    Ok(event)
}

/// Appends a record.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(&record.seq.to_be_bytes());
    out.extend_from_slice(&record.chain.to_be_bytes());
    encode_event(&record.event, out);
}

/// Reads a record that fills `bytes`.
///
/// # Errors
/// [`MessageFault`] if it is none.
pub fn decode_record(bytes: &[u8]) -> Result<Record, MessageFault> {
    let mut reader = Reader::new(bytes);
    let record = take_record(&mut reader)?;
    reader.end()?;
    Ok(record)
}

pub(super) fn take_record(reader: &mut Reader<'_>) -> Result<Record, MessageFault> {
    let (seq, chain) = (reader.u64("record")?, reader.u64("record")?);
    Ok(Record { seq, chain, event: Arc::new(take_event(reader)?) })
}

pub(super) fn take_event(reader: &mut Reader<'_>) -> Result<Event, MessageFault> {
    version(reader)?;
    let mode = match reader.u8("mode")? {
        0 => Mode::Soft,
        1 => Mode::Hard,
        other => return Err(MessageFault::Unknown { what: "mode", found: other.into() }),
    };
    let site = match reader.text("site")? {
        "" => None,
        name => Some(SiteId::parse(name).map_err(|_| MessageFault::Text("site"))?),
    };
    let idempotency = reader.text("idempotency key")?.to_owned();
    let count = reader.count("purge keys", KEYS_MAX)?;
    let keys = (0..count).map(|_| take_key(reader)).collect::<Result<_, _>>()?;
    Ok(Event::new(site, mode, keys, idempotency)?)
}

fn take_key(reader: &mut Reader<'_>) -> Result<PurgeKey, MessageFault> {
    match reader.u8("scope")? {
        1 => {
            let host = reader.text("host")?.to_owned();
            Ok(PurgeKey::Url { host, target: reader.text("target")?.to_owned() })
        }
        2 => Ok(PurgeKey::Tag(reader.text("tag")?.to_owned())),
        3 => Ok(PurgeKey::Site),
        4 => {
            let host = reader.text("host")?.to_owned();
            Ok(PurgeKey::Prefix { host, path: reader.text("path")?.to_owned() })
        }
        5 => Ok(PurgeKey::Host(reader.text("host")?.to_owned())),
        6 => Ok(PurgeKey::Realm),
        other => Err(MessageFault::Unknown { what: "scope", found: other.into() }),
    }
}
