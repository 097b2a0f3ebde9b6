//! What of a gossip message is let through to chitchat.
//!
//! chitchat trusts everyone: any message may write any node's state, and some crafted ones make it panic or inflate a few
//! bytes to hundreds of megabytes. Its own types are closed, so the bytes are read here first, and written anew with only
//! what the sender may say. `peer` is who the certificate of the connection says.
//!
//! Enforced:
//! * State (a delta) is taken only from the node that it is about. There is no relaying: every node talks to every other
//!   anyway, since it probes it.
//! * Of a digest, the heartbeat and version of the sender, and what it knows of us, are taken. For all other nodes we
//!   write that the sender knows everything, so that it is sent no state but our own.
//! * A node's address is the one in the region table. It has one generation at a time, and cannot change it quickly.
//! * Deltas inflate to at most [`INFLATED_MAX`] bytes, keys and values of a node are at most [`STATE_BYTES_MAX`] bytes,
//!   versions rise, and a bare version comes alone: what chitchat would answer with a panic is refused.
//!
//! Not enforced: what a node says of *others* in its own report, which is an opinion and weighs one vote of its region's
//! median; and that a node tells all others the same.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use region_config::NodeId;

use super::report;
use crate::load::TEXT_BYTES_MAX as DEMAND_BYTES_MAX;

/// The largest message taken, in bytes; chitchat sends none larger.
pub(super) const MESSAGE_BYTES_MAX: usize = 65_507;
/// The most that a delta may inflate to.
const INFLATED_MAX: usize = 256 * 1024;
/// The most that is kept of one node: one report, what it is asked for, and some room for keys of later versions.
const STATE_BYTES_MAX: usize = report::TEXT_BYTES_MAX + DEMAND_BYTES_MAX + 512;
const KEYS_MAX: usize = 8;
/// Versions are counted up by one; this many will never be reached.
const VERSION_MAX: u64 = 1 << 48;
/// A node that restarts faster than this is heard a little later.
const GENERATION_MIN: Duration = Duration::from_secs(2);
/// After so long a silence any generation is taken, also a lower one: clocks are set back at times.
const SILENCE: Duration = Duration::from_secs(10);

const MAGIC: u16 = 45_139;
const SYN: u8 = 0;
const SYN_ACK: u8 = 1;
const ACK: u8 = 2;
const BAD_CLUSTER: u8 = 3;

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Dropped(&'static str);

/// Lets through what each peer may say.
#[derive(Debug)]
pub(super) struct Sieve {
    us: NodeId,
    known: Mutex<BTreeMap<NodeId, Known>>,
}

/// The run of a node that is listened to.
#[derive(Debug, Clone, Copy)]
struct Known {
    generation: u64,
    address: SocketAddr,
    since: Instant,
    heard: Instant,
}

impl Sieve {
    pub(super) fn new(us: NodeId) -> Self {
        Self { us, known: Mutex::default() }
    }

    /// The run of a node that is listened to.
    pub(super) fn generation(&self, node: &NodeId) -> Option<u64> {
        self.known.lock().get(node).map(|known| known.generation)
    }

    /// What of `message` the peer that listens at `address` may say, as a message.
    pub(super) fn pass(
        &self,
        peer: &NodeId,
        address: SocketAddr,
        message: &[u8],
        now: Instant,
    ) -> Result<Vec<u8>, Dropped> {
        let mut bytes = Bytes(message);
        if bytes.u16()? != MAGIC || bytes.u8()? != 0 {
            return Err(Dropped("not a gossip message of this version"));
        }
        let what = bytes.u8()?;
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend([0, what]);
        match what {
            SYN => {
                self.digest(peer, address, &mut bytes, &mut out, now)?;
                let cluster = bytes.text()?;
                write_text(&mut out, cluster);
            }
            SYN_ACK => {
                self.digest(peer, address, &mut bytes, &mut out, now)?;
                self.delta(peer, address, &mut bytes, &mut out)?;
            }
            ACK => self.delta(peer, address, &mut bytes, &mut out)?,
            BAD_CLUSTER => {}
            _ => return Err(Dropped("an unknown kind of gossip message")),
        }
        if bytes.0.is_empty() { Ok(out) } else { Err(Dropped("bytes after the end")) }
    }

    /// Writes a digest with the sender's own entry, what it knows of us, and nothing that it claims of others.
    fn digest(
        &self,
        peer: &NodeId,
        address: SocketAddr,
        bytes: &mut Bytes<'_>,
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), Dropped> {
        let count = bytes.u16()?;
        let (mut theirs, mut ours) = (None, Vec::new());
        for _ in 0..count {
            let id = bytes.id()?;
            let entry = (id, [bytes.u64()?, bytes.u64()?, bytes.u64()?]);
            if id.node == peer.as_str() {
                // the highest of its generations is the running one
                theirs = theirs.filter(|(known, _): &(Id<'_>, _)| known.generation > id.generation).or(Some(entry));
            } else if id.node == self.us.as_str() && ours.len() < 4 {
                ours.push(entry);
            }
        }
        let Some((id, numbers)) = theirs else { return Err(Dropped("a digest without its sender")) };
        if id.address != address {
            return Err(Dropped("an address that is not in the region table"));
        }
        self.hear(peer, id, now)?;
        let others = self.known.lock();
        let others: Vec<_> = others.iter().filter(|(node, _)| *node != peer).collect();
        let length = u16::try_from(1 + ours.len() + others.len()).map_err(|_| Dropped("too many nodes"))?;
        out.extend(length.to_le_bytes());
        for (id, numbers) in std::iter::once((id, numbers)).chain(ours) {
            id.write(out);
            numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        }
        for (node, known) in others {
            Id { node: node.as_str(), generation: known.generation, address: known.address }.write(out);
            // no heartbeat, and nothing newer to send
            [0, u64::MAX, u64::MAX].iter().for_each(|number: &u64| out.extend(number.to_le_bytes()));
        }
        Ok(())
    }

    /// Takes note of the run of a node, or refuses it.
    fn hear(&self, peer: &NodeId, id: Id<'_>, now: Instant) -> Result<(), Dropped> {
        let mut all = self.known.lock();
        let fresh = Known { generation: id.generation, address: id.address, since: now, heard: now };
        let known = all.entry(peer.clone()).or_insert(fresh);
        if known.generation != id.generation {
            let silent = now.saturating_duration_since(known.heard) >= SILENCE;
            let settled = now.saturating_duration_since(known.since) >= GENERATION_MIN;
            if !(silent || (settled && id.generation > known.generation)) {
                return Err(Dropped("another run of a node that is still heard"));
            }
            *known = fresh;
        }
        (known.heard, known.address) = (now, id.address);
        Ok(())
    }

    /// Writes a delta with the sender's own state and nobody else's.
    fn delta(
        &self,
        peer: &NodeId,
        address: SocketAddr,
        bytes: &mut Bytes<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Dropped> {
        let generation = self.generation(peer);
        let inflated = inflate(bytes)?;
        let mut ops = Bytes(&inflated);
        let mut kept = Vec::new();
        let mut own = false;
        let mut state = Checked::default();
        while !ops.0.is_empty() {
            let start = ops.0;
            match ops.u8()? {
                0 => {
                    let id = ops.id()?;
                    let (_gc, _from) = (ops.u64()?, ops.u64()?);
                    own = id.node == peer.as_str() && id.address == address && Some(id.generation) == generation;
                }
                1 => {
                    let (key, value, version, _status) = (ops.text()?, ops.text()?, ops.u64()?, ops.u8()?);
                    if own {
                        state.key_value(key.len() + value.len(), version)?;
                    }
                }
                2 => {
                    let version = ops.u64()?;
                    if own {
                        state.bare_version(version)?;
                    }
                }
                _ => return Err(Dropped("an unknown part of a delta")),
            }
            if own {
                kept.extend_from_slice(&start[..start.len() - ops.0.len()]);
            }
        }
        // kept is far below the 64 KiB of one block: see `Checked`
        if let Ok(length) = u16::try_from(kept.len())
            && length > 0
        {
            out.push(2);
            out.extend(length.to_le_bytes());
            out.extend(kept);
        }
        out.push(0);
        Ok(())
    }
}

/// What has been seen of the sender's own state within one delta.
#[derive(Default)]
struct Checked {
    bytes: usize,
    keys: usize,
    version: u64,
    bare: bool,
}

impl Checked {
    fn key_value(&mut self, bytes: usize, version: u64) -> Result<(), Dropped> {
        self.bytes += bytes;
        self.keys += 1;
        if self.bytes > STATE_BYTES_MAX || self.keys > KEYS_MAX {
            return Err(Dropped("more state than a node may have"));
        }
        if self.bare || version <= self.version || version > VERSION_MAX {
            return Err(Dropped("versions that do not rise"));
        }
        self.version = version;
        Ok(())
    }

    fn bare_version(&mut self, version: u64) -> Result<(), Dropped> {
        if self.bare || self.keys > 0 || version > VERSION_MAX {
            return Err(Dropped("a bare version that does not stand alone"));
        }
        self.bare = true;
        Ok(())
    }
}

/// Reads the blocks of a delta: raw or zstd, each up to 64 KiB.
fn inflate(bytes: &mut Bytes<'_>) -> Result<Vec<u8>, Dropped> {
    let mut inflated = Vec::new();
    loop {
        let kind = bytes.u8()?;
        if kind == 0 {
            return Ok(inflated);
        }
        let length = usize::from(bytes.u16()?);
        let block = bytes.take(length)?;
        match kind {
            1 => {
                let raw = zstd::bulk::decompress(block, usize::from(u16::MAX));
                inflated.extend(raw.map_err(|_| Dropped("a block that does not inflate"))?);
            }
            2 => inflated.extend_from_slice(block),
            _ => return Err(Dropped("an unknown kind of block")),
        }
        if inflated.len() > INFLATED_MAX {
            return Err(Dropped("a delta that inflates to too much"));
        }
    }
}

/// chitchat's name of one run of a node.
#[derive(Debug, Clone, Copy)]
struct Id<'a> {
    node: &'a str,
    generation: u64,
    address: SocketAddr,
}

impl Id<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        write_text(out, self.node);
        out.extend(self.generation.to_le_bytes());
        match self.address.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend(ip.octets());
            }
        }
        out.extend(self.address.port().to_le_bytes());
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // every text came from a 16-bit length or from a name
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(length.to_le_bytes());
    out.extend(text.as_bytes().iter().take(usize::from(length)));
}

/// The rest of a message; all numbers are little endian.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Dropped> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Dropped("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Dropped> {
        self.take(N)?.try_into().map_err(|_| Dropped("it ends early"))
    }

    fn u8(&mut self) -> Result<u8, Dropped> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Dropped> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Dropped> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'a str, Dropped> {
        let length = usize::from(self.u16()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| Dropped("a text that is not UTF-8"))
    }

    fn id(&mut self) -> Result<Id<'a>, Dropped> {
        let (node, generation) = (self.text()?, self.u64()?);
        let ip = match self.u8()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return Err(Dropped("an unknown kind of address")),
        };
        Ok(Id { node, generation, address: SocketAddr::new(ip, self.u16()?) })
    }
}

#[cfg(test)]
mod tests;
