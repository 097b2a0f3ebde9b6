//! What a node had heard when it answered.

use region_config::NodeId;
use rules::purge::{HAVE_IDS_MAX, Have, Position, PurgeId, WITNESSES_MAX};

use super::{MESSAGE_VERSION, ledger::sized};
use crate::message::{MessageFault, put_count, put_text};

/// Writes it; about 100 bytes, and 16 for every event of the site in the last seconds.
#[must_use]
pub fn encode_have(have: &Have) -> Vec<u8> {
    let mut out = vec![MESSAGE_VERSION];
    out.extend_from_slice(&have.run.to_be_bytes());
    out.extend_from_slice(&have.position.0.to_be_bytes());
    put_count(&mut out, have.cursors.len());
    for (witness, epoch, seq) in &have.cursors {
        put_text(&mut out, witness.as_str());
        out.extend_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(&seq.to_be_bytes());
    }
    put_count(&mut out, have.ids.len());
    have.ids.iter().for_each(|id| out.extend_from_slice(&id.0.to_be_bytes()));
    out
}

/// Reads it.
///
/// # Errors
/// [`MessageFault`] if it is none, or breaks a limit.
pub fn decode_have(bytes: &[u8]) -> Result<Have, MessageFault> {
    let mut reader = sized(bytes)?;
    let (run, position) = (reader.u64("run")?, Position(reader.u64("position")?));
    let count = reader.count("cursors", WITNESSES_MAX)?;
    let cursors = (0..count).map(|_| {
        let witness = NodeId::parse(reader.text("witness")?).map_err(|_| MessageFault::Text("witness"))?;
        Ok((witness, reader.u64("cursor")?, reader.u64("cursor")?))
    });
    let cursors = cursors.collect::<Result<_, MessageFault>>()?;
    let count = reader.count("ids", HAVE_IDS_MAX)?;
    let ids = (0..count).map(|_| reader.u128("id").map(PurgeId)).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Have { run, position, cursors, ids })
}
