//! Rules for blocks of addresses as ranges, to be laid over those of a geo database.

use std::net::IpAddr;

use region_config::Whom;

use super::{
    base::first_half,
    ranges::{Ranges, Word},
    wishes::Wishes,
};

/// A block of addresses with the rule for it.
struct Block<W> {
    first: W,
    last: W,
    length: u8,
    /// The rule's index and one.
    rule: u32,
}

/// The rules for IPv4 blocks: 0 where there is none, else the rule's index and one.
pub(super) fn v4(wishes: &Wishes) -> Ranges<u32> {
    laid(&blocks(wishes, |first, length| match first {
        IpAddr::V4(v4) => Some((v4.to_bits(), v4.to_bits() | u32::MAX.checked_shr(length).unwrap_or(0))),
        IpAddr::V6(_) => None,
    }))
}

/// The same for IPv6, by the first 64 bits.
pub(super) fn v6(wishes: &Wishes) -> Ranges<u64> {
    laid(&blocks(wishes, |first, length| match first {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => {
            let half = first_half(v6.to_bits());
            Some((half, half | u64::MAX.checked_shr(length).unwrap_or(0)))
        }
    }))
}

fn blocks<W>(wishes: &Wishes, ends: impl Fn(IpAddr, u32) -> Option<(W, W)>) -> Vec<Block<W>> {
    let rules = wishes.rules().iter().zip(1u32..);
    let block = |whom: Whom, rule| match whom {
        Whom::Block(block) => {
            let (first, last) = ends(block.first(), u32::from(block.length()))?;
            Some(Block { first, last, length: block.length(), rule })
        }
        Whom::Asn(_) | Whom::Country(_) | Whom::Continent(_) => None,
    };
    rules.filter_map(|(rule, number)| block(rule.whom, number)).collect()
}

/// The longest block counts where several hold an address.
fn laid<W: Word>(blocks: &[Block<W>]) -> Ranges<W> {
    let mut starts: Vec<W> =
        blocks.iter().flat_map(|block| [Some(block.first), block.last.after()]).flatten().collect();
    starts.sort_unstable();
    starts.dedup();
    let longest = |at: W| {
        let holding = blocks.iter().filter(|block| block.first <= at && at <= block.last);
        holding.max_by_key(|block| block.length).map_or(0, |block| block.rule)
    };
    Ranges::new(starts.iter().map(|start| (*start, longest(*start))))
}
