//! The witnesses of a realm: as sums between nodes, by their names on disk.

use region_config::{NodeId, WITNESSES_MAX};
use rules::purge::{Roll, RollSum, SavedRoll, Stand};

use super::{VERSION, version};
use crate::message::{MessageFault, Reader, put_count, put_text};

pub(super) fn put_sum(out: &mut Vec<u8>, sum: RollSum) {
    for number in [sum.version, sum.nodes, sum.next] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

pub(super) fn take_sum(reader: &mut Reader<'_>) -> Result<RollSum, MessageFault> {
    Ok(RollSum { version: reader.u64("roll")?, nodes: reader.u64("roll")?, next: reader.u64("roll")? })
}

pub(super) fn put_stand(out: &mut Vec<u8>, stand: Stand) {
    out.extend_from_slice(&stand.version.to_be_bytes());
    out.push(u8::from(stand.synced));
}

pub(super) fn take_stand(reader: &mut Reader<'_>) -> Result<Stand, MessageFault> {
    Ok(Stand { version: reader.u64("stand")?, synced: reader.flag("flag of a stand")? })
}

/// Writes what a node remembers of its witnesses.
#[must_use]
pub fn encode_roll(saved: &SavedRoll) -> Vec<u8> {
    let mut out = vec![VERSION, u8::from(saved.complete)];
    out.extend_from_slice(&saved.roll.version.to_be_bytes());
    for set in [&saved.roll.nodes, &saved.roll.next] {
        put_count(&mut out, set.len());
        set.iter().for_each(|node| put_text(&mut out, node.as_str()));
    }
    out
}

/// Reads it.
///
/// # Errors
/// [`MessageFault`] if it is none, or breaks a limit.
pub fn decode_roll(bytes: &[u8]) -> Result<SavedRoll, MessageFault> {
    let mut reader = Reader::new(bytes);
    version(&mut reader)?;
    let complete = reader.flag("flag of a change")?;
    let version = reader.u64("version")?;
    let (nodes, next) = (take_nodes(&mut reader)?, take_nodes(&mut reader)?);
    reader.end()?;
    Ok(SavedRoll { roll: Roll { version, nodes, next }, complete })
}

fn take_nodes(reader: &mut Reader<'_>) -> Result<Vec<NodeId>, MessageFault> {
    let count = reader.count("witnesses", WITNESSES_MAX)?;
    let nodes = (0..count).map(|_| NodeId::parse(reader.text("node")?).map_err(|_| MessageFault::Text("node")));
    nodes.collect()
}
