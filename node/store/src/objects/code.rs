//! Entries in foyer's terms.

use std::{
    hash::{BuildHasher, Hasher},
    io::{Read, Write},
};

use bytes::Bytes;
use foyer::{Code, Error, ErrorKind};
use wire::entry::{self, Entry, EntryFault};

/// An entry that foyer can write and read: the tag of its tenant (little-endian), and the entry as [`wire`] writes it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) tag: u32,
    pub(super) entry: Entry,
}

const TAG_BYTES: usize = 4;

impl Code for Stored {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let mut bytes = Vec::new();
        entry::encode(&self.entry, &mut bytes)
            .map_err(|fault| Error::new(ErrorKind::Unsupported, "encode an entry").with_source(fault))?;
        writer.write_all(&self.tag.to_le_bytes()).map_err(Error::io_error)?;
        writer.write_all(&bytes).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        // the kind of error that foyer takes for a miss, and for a reason to forget the entry
        let miss = |fault: EntryFault| Error::new(ErrorKind::ChecksumMismatch, "decode an entry").with_source(fault);
        let mut tag = [0; TAG_BYTES];
        reader.read_exact(&mut tag).map_err(|_| miss(EntryFault::Short))?;
        let mut head = [0; entry::HEAD_BYTES];
        reader.read_exact(&mut head).map_err(|_| miss(EntryFault::Short))?;
        let mut bytes = vec![0; entry::announced_bytes(head).map_err(miss)?];
        let (front, rest) = bytes.split_at_mut(entry::HEAD_BYTES);
        front.copy_from_slice(&head);
        reader.read_exact(rest).map_err(|_| miss(EntryFault::Short))?;
        let entry = entry::decode_shared(&Bytes::from(bytes)).map_err(miss)?;
        Ok(Self { tag: u32::from_le_bytes(tag), entry })
    }

    fn estimated_size(&self) -> usize {
        TAG_BYTES + entry::encoded_bytes(&self.entry)
    }
}

/// Keys are keyed 128-bit hashes already, which nobody outside can aim at: folding them is enough. The result names
/// entries on disk, so it must be the same in every run and every version.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeyHash;

#[derive(Debug, Default)]
pub(super) struct KeyFold(u64);

impl BuildHasher for KeyHash {
    type Hasher = KeyFold;

    fn build_hasher(&self) -> KeyFold {
        KeyFold(0)
    }
}

impl Hasher for KeyFold {
    fn write_u128(&mut self, key: u128) {
        // the multiplication spreads keys that are not random after all, such as those of tests
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let [_, high] = halves(key.wrapping_mul(ODD));
        self.0 ^= high;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn halves(key: u128) -> [u64; 2] {
    let bytes = key.to_le_bytes();
    let (low, high) = bytes.split_at(8);
    let half = |part: &[u8]| u64::from_le_bytes(part.try_into().unwrap_or_default());
    [half(low), half(high)]
}
