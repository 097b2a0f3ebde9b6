//! What a client's address says: IPv4 is taken out of the IPv6 addresses that carry it.

use std::net::{IpAddr, Ipv6Addr};

/// Prefixes whose addresses carry an IPv4 address: mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380).
const CARRIERS: [(u128, u32); 4] = [(0xffff << 32, 96), (0x0064_ff9b << 96, 96), (TO4 << 112, 16), (0x2001 << 112, 32)];
const TO4: u128 = 0x2002;

/// The address that is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// An IPv4 address, and how many bits stood before it in the address that was given.
    V4 { address: u32, before: u32 },
    /// An IPv6 address.
    V6(u128),
}

/// Takes IPv4 out of mapped, NAT64, 6to4 and Teredo addresses.
///
/// A Teredo client's address stands in the last 32 bits, inverted; a subnet option that cuts them off leaves
/// 255.255.255.255, of which no database knows a place.
pub(super) fn spot(address: IpAddr) -> Spot {
    let bits = match address {
        IpAddr::V4(v4) => return Spot::V4 { address: v4.to_bits(), before: 0 },
        IpAddr::V6(v6) => v6.to_bits(),
    };
    #[allow(clippy::cast_possible_truncation, reason = "the last 32 bits are meant")]
    let last = |shift: u32| (bits >> shift) as u32;
    match CARRIERS.iter().position(|(prefix, length)| common(bits, *prefix) >= *length) {
        Some(0 | 1) => Spot::V4 { address: last(0), before: 96 },
        Some(2) => Spot::V4 { address: last(80), before: 16 },
        Some(_) => Spot::V4 { address: !last(0), before: 96 },
        None => Spot::V6(bits),
    }
}

/// The address that is looked up in place of one that carries it: the IPv4 address inside, or the address itself.
#[must_use]
pub fn inner(address: IpAddr) -> IpAddr {
    match spot(address) {
        Spot::V4 { address, .. } => IpAddr::V4(address.into()),
        Spot::V6(bits) => IpAddr::V6(bits.into()),
    }
}

/// The shortest scope with which a block around a native IPv6 address holds no carrier prefix.
pub(super) fn beside_carriers(bits: u128) -> u32 {
    CARRIERS.iter().map(|(prefix, _)| common(bits, *prefix) + 1).max().unwrap_or(0)
}

fn common(a: u128, b: u128) -> u32 {
    (a ^ b).leading_zeros()
}

/// The block of addresses that get the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// Its first address.
    pub first: IpAddr,
    /// Its prefix length: 0 to 32, or 0 to 128.
    pub length: u8,
}

impl Block {
    /// The block of this length that holds `address`.
    #[must_use]
    pub fn around(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let length = length.min(32);
                let kept = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Self { first: IpAddr::V4((v4.to_bits() & kept).into()), length }
            }
            IpAddr::V6(v6) => {
                let length = length.min(128);
                let kept = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                Self { first: IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & kept)), length }
            }
        }
    }
}

/// Addresses that stand for a block of clients: one of each /24 or /56 in it (of itself if it is longer), at most `most`,
/// evenly spread.
#[must_use]
pub fn cells(address: IpAddr, length: u8, most: u32) -> Vec<IpAddr> {
    let block = Block::around(address, length);
    let cell_bits: u32 = if address.is_ipv4() { 24 } else { 56 };
    let free_bits = cell_bits.saturating_sub(u32::from(block.length));
    let count = 1u128.checked_shl(free_bits).unwrap_or(1).min(u128::from(most.max(1)));
    let step = (1u128 << free_bits) / count;
    let at = |number: u128| match block.first {
        IpAddr::V4(first) => {
            let offset = u32::try_from((number * step) << 8).unwrap_or(0);
            IpAddr::V4(first.to_bits().wrapping_add(offset).into())
        }
        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits().wrapping_add((number * step) << 72))),
    };
    (0..count).map(at).collect()
}

/// A number that is the same for every address of a block: what spreads clients over the nodes of a region.
#[must_use]
pub fn block_hash(block: Block) -> u64 {
    let bits = match block.first {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    mix(mix(high ^ u64::from(block.length)) ^ low)
}

/// Spreads the bits of a number over the whole of it (two rounds of multiply and shift).
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 32)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let number = (number ^ (number >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    number ^ (number >> 32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ipv4_is_taken_out_of_the_addresses_that_carry_it() {
        let v4 = u32::from_be_bytes([192, 0, 2, 33]);
        for (text, before) in [
            ("192.0.2.33", 0),
            ("::ffff:192.0.2.33", 96),
            ("64:ff9b::192.0.2.33", 96),
            ("2002:c000:221::1", 16),
            ("2001:0:4136:e378:8000:63bf:3fff:fdde", 96),
        ] {
            assert_eq!(spot(text.parse().unwrap()), Spot::V4 { address: v4, before }, "{text}");
        }
        for text in ["2001:db8::1", "2003::1", "::1", "64:ff9b:1::1", "2001:1::"] {
            let bits = text.parse::<Ipv6Addr>().unwrap().to_bits();
            assert_eq!(spot(text.parse().unwrap()), Spot::V6(bits), "{text}");
        }
    }

    #[test]
    fn a_block_has_only_the_bits_of_its_length() {
        let around = |text: &str, length| Block::around(text.parse().unwrap(), length).first.to_string();
        assert_eq!(around("203.0.113.77", 24), "203.0.113.0");
        assert_eq!(around("203.0.113.77", 0), "0.0.0.0");
        assert_eq!(around("203.0.113.77", 32), "203.0.113.77");
        assert_eq!(around("2001:db8:1:2:3::1", 56), "2001:db8:1::");
        assert_eq!(around("2001:db8::1", 0), "::");
    }
}
