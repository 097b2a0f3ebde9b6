//! How much is signed because somebody asks: so much a second in all, and of that a part for each block of senders.

use std::{
    hash::{Hash as _, Hasher as _},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use siphasher::sip::SipHasher13;

use crate::dns::rates::{block, drawn_hasher};

/// Signatures a second: some 3 % of a core.
const PER_SECOND: u64 = 1_000;
/// Of these, for one block of senders: whoever sends a flood leaves most of them to others.
const PER_BLOCK: u64 = 100;
/// Blocks that are counted apart, 8 KiB. Those that share a place by chance share a part: floods from everywhere fill no
/// place, as all of them together get no more than one signature a second for each.
const BLOCKS: usize = 1_024;

/// What may be spent on signatures, in all and for each block.
#[derive(Debug)]
pub(super) struct Budget {
    all: Bucket,
    blocks: Box<[Bucket]>,
    /// Drawn at start, so that nobody can choose addresses that share a place with somebody else's.
    hasher: SipHasher13,
}

impl Default for Budget {
    fn default() -> Self {
        let blocks = (0..BLOCKS).map(|_| Bucket::default()).collect();
        Self { all: Bucket::default(), blocks, hasher: drawn_hasher() }
    }
}

impl Budget {
    /// Spends one signature for `peer`; false if it, or all together, have had theirs. `now_ms` is of the monotonic clock.
    pub(super) fn spend(&self, peer: IpAddr, now_ms: u64) -> bool {
        let mut hasher = self.hasher;
        block(peer).hash(&mut hasher);
        #[allow(clippy::cast_possible_truncation, reason = "the lower bits are enough")]
        let part = self.blocks.get(hasher.finish() as usize % BLOCKS);
        part.is_some_and(|part| part.spend(now_ms, PER_BLOCK)) && self.all.spend(now_ms, PER_SECOND)
    }
}

/// So many a second, and a second's worth at once.
#[derive(Debug, Default)]
struct Bucket {
    /// When all that was spent is paid for, in ms of the monotonic clock.
    paid_ms: AtomicU64,
}

impl Bucket {
    fn spend(&self, now_ms: u64, per_second: u64) -> bool {
        let spent = self.paid_ms.fetch_update(Relaxed, Relaxed, |paid_ms| {
            let paid_ms = paid_ms.max(now_ms) + 1_000 / per_second;
            (paid_ms <= now_ms + 1_000).then_some(paid_ms)
        });
        spent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(block: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0001 + (block << 8)).into())
    }

    #[test]
    fn so_many_signatures_a_second_and_no_more() {
        let bucket = Bucket::default();
        let spent = |now_ms| (0..5_000).filter(|_| bucket.spend(now_ms, 1_000)).count();
        assert_eq!((spent(10_000), spent(10_000), spent(10_250), spent(100_000)), (1_000, 0, 250, 1_000));
        let part = Bucket::default();
        let spent = |now_ms| (0..500).filter(|_| part.spend(now_ms, 100)).count();
        assert_eq!((spent(10_000), spent(10_000), spent(10_250)), (100, 0, 25));
    }

    /// One block spent all that there was.
    #[test]
    fn a_block_has_its_part_and_leaves_the_rest_to_others() {
        let budget = Budget::default();
        let spent = |block, now_ms| (0..2_000).filter(|_| budget.spend(peer(block), now_ms)).count();
        assert_eq!((spent(0, 10_000), spent(0, 10_100)), (100, 10));
        let others: usize = (1..200).map(|block| spent(block, 10_100)).sum();
        assert!((900..=1_000).contains(&others), "{others}");
        assert_eq!(spent(300, 10_100), 0);
        assert!(budget.spend(peer(0), 11_000) && budget.spend(peer(301), 11_000));
    }
}
