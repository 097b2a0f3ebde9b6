//! How many answers a block of addresses may have over UDP: a sender's address may be forged, and then the answers go to
//! someone who never asked. Whoever is over it is told now and then to come over TCP, which nobody can forge; whoever shows a
//! cookie is not counted at all.
//!
//! Two leaky buckets per block (/24, /56) and kind of answer, in a table of a fixed size per thread: no lock, no allocation.
//! One is for the number of answers. The other is for the bytes that make an answer worth forging a sender for: those beyond
//! one and a half times its question.

use std::{
    cell::Cell,
    hash::{Hash, Hasher},
    net::IpAddr,
};

use siphasher::sip::SipHasher13;
use wire::dns::UDP_BYTES_MAX;

use super::counters::Event;
use crate::chance;

/// Sets of buckets: 1 MiB per thread, 65,536 buckets.
const SETS: usize = 16_384;
/// Buckets that one set has: a cache line of them.
const WAYS: usize = 4;
/// What one answer adds to a bucket; what flows out in a millisecond is then the rate per second.
const ANSWER: u32 = 1_000;
/// The highest rate, in answers per second: a bucket's level must stay a number of 32 bits.
const RATE_MAX: u32 = 1_000_000;

/// Bytes beyond what questions pay for that a block gets in a second, for each kind of answer.
const EXCESS_PER_SECOND: u32 = 64_000;
/// The most that one answer has of them.
#[allow(clippy::cast_possible_truncation, reason = "it fits")]
const LONGEST: u32 = UDP_BYTES_MAX as u32;

/// The bytes of an answer that its question does not pay for, which is what is beyond one and a half times the question.
pub(super) fn excess(question: usize, answer: usize) -> u32 {
    u32::try_from(answer.saturating_sub(question + question / 2)).unwrap_or(u32::MAX)
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It is sent.
    Whole,
    /// Its sender is told how to prove itself: by TCP, or by a cookie.
    Short,
    /// Nothing is sent.
    Nothing,
}

/// Kinds of answers that are counted apart, so that a flood for names that do not exist leaves room for those that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Site,
    Zone,
    Negative,
    Error,
}

impl Kind {
    /// None for what has no answer.
    fn of(event: Event) -> Option<Self> {
        match event {
            Event::Normal | Event::Failover | Event::FailStatic => Some(Self::Site),
            Event::Zone => Some(Self::Zone),
            Event::NoData | Event::NoName => Some(Self::Negative),
            Event::Refused
            | Event::NotReady
            | Event::NoRegion
            | Event::AllDown
            | Event::Invariant
            | Event::Malformed
            | Event::CookieAlone => Some(Self::Error),
            Event::Dropped
            | Event::Panicked
            | Event::Limited
            | Event::Withheld
            | Event::Tcp
            | Event::Subnet
            | Event::Truncated
            | Event::Proven => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    tag: u32,
    /// When `level` was right, in ms.
    at_ms: u32,
    level: u32,
    /// Bytes beyond what questions paid for; at most [`EXCESS_PER_SECOND`].
    excess: u16,
    /// How many answers were held back since one was let through.
    held_back: u16,
}

impl Bucket {
    fn level_at(&self, now_ms: u32, per_second: u32) -> u32 {
        self.level.saturating_sub(now_ms.wrapping_sub(self.at_ms).saturating_mul(per_second))
    }

    fn excess_at(&self, now_ms: u32) -> u32 {
        u32::from(self.excess).saturating_sub(now_ms.wrapping_sub(self.at_ms).saturating_mul(EXCESS_PER_SECOND / 1000))
    }
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Bucket; WAYS]);

/// The buckets of one thread.
pub(super) struct Rates {
    sets: Box<[Set]>,
    /// Drawn at start, so that nobody can choose addresses that share a bucket with somebody else's.
    hasher: SipHasher13,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { sets: vec![Set::default(); SETS].into(), hasher: drawn_hasher() }
    }

    /// Counts an answer to `peer`, if there is to be one, and says what becomes of it; `excess` is as [`excess`] has it, `now_ms`
    /// by any clock that does not stand still. A second's worth may come at once.
    pub(super) fn count(&mut self, peer: IpAddr, event: Event, excess: u32, per_second: u32, now_ms: u32) -> Leave {
        let Some(kind) = Kind::of(event) else { return Leave::Whole };
        let per_second = per_second.min(RATE_MAX);
        let hash = self.hash(peer, kind);
        let Some(bucket) = self.bucket(hash, per_second, now_ms) else { return Leave::Whole };
        let (level, paid_out) = (bucket.level_at(now_ms, per_second), bucket.excess_at(now_ms));
        (bucket.level, bucket.at_ms) = (level, now_ms);
        bucket.excess = u16::try_from(paid_out).unwrap_or(u16::MAX);
        if level + ANSWER <= per_second * ANSWER {
            bucket.level += ANSWER;
            bucket.held_back = 0;
            let paid_out = paid_out.saturating_add(excess);
            if paid_out > EXCESS_PER_SECOND {
                // as long as the question, so that there is no harm in it
                return Leave::Short;
            }
            bucket.excess = u16::try_from(paid_out).unwrap_or(u16::MAX);
            return Leave::Whole;
        }
        bucket.held_back = bucket.held_back.wrapping_add(1);
        // the first one too: who asks one question at a time would wait for nothing each time, and never be told
        if bucket.held_back % 2 == 1 { Leave::Short } else { Leave::Nothing }
    }

    /// Whether an answer to `peer` of any length would be sent whole now.
    fn has_room(&self, peer: IpAddr, event: Event, per_second: u32, now_ms: u32) -> bool {
        let Some(kind) = Kind::of(event) else { return true };
        let per_second = per_second.min(RATE_MAX);
        let (tag, at) = place(self.hash(peer, kind));
        let bucket = self.sets.get(at).and_then(|Set(set)| set.iter().find(|bucket| bucket.tag == tag));
        bucket.is_none_or(|bucket| {
            bucket.level_at(now_ms, per_second) + ANSWER <= per_second * ANSWER
                && bucket.excess_at(now_ms) + LONGEST <= EXCESS_PER_SECOND
        })
    }

    fn hash(&self, peer: IpAddr, kind: Kind) -> u64 {
        let mut hasher = self.hasher;
        (block(peer), kind).hash(&mut hasher);
        hasher.finish()
    }

    /// The bucket for a hash; if it has none, that of its set which is emptiest becomes it.
    fn bucket(&mut self, hash: u64, per_second: u32, now_ms: u32) -> Option<&mut Bucket> {
        let (tag, at) = place(hash);
        let Set(set) = self.sets.get_mut(at)?;
        let way = set.iter().position(|bucket| bucket.tag == tag);
        let emptiest = || (0..WAYS).min_by_key(|way| set.get(*way).map(|bucket| bucket.level_at(now_ms, per_second)));
        let way = way.or_else(emptiest)?;
        let bucket = set.get_mut(way)?;
        if bucket.tag != tag {
            *bucket = Bucket { tag, at_ms: now_ms, ..Bucket::default() };
        }
        Some(bucket)
    }
}

/// The tag of the bucket for a hash, and which set it is in.
#[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
fn place(hash: u64) -> (u32, usize) {
    ((hash >> 32) as u32, hash as usize % SETS)
}

/// The block of addresses that a sender is counted with (/24, /56), and its family.
pub(super) fn block(peer: IpAddr) -> (u8, u64) {
    match peer {
        IpAddr::V4(v4) => (4, u64::from(v4.to_bits() >> 8)),
        // 56 bits are left
        #[allow(clippy::cast_possible_truncation, reason = "they fit")]
        IpAddr::V6(v6) => (6, (v6.to_bits() >> 72) as u64),
    }
}

/// A hash that nobody outside can foretell.
pub(super) fn drawn_hasher() -> SipHasher13 {
    let mut key = [0; 16];
    // without chance a table works all the same
    let _ = chance::fill(&mut key);
    SipHasher13::new_with_key(&key)
}

/// Who asks, and whether more may be spent on the answer than it takes to write it.
pub(super) struct Sender<'a> {
    /// Its address; over UDP it may be forged.
    pub(super) peer: IpAddr,
    counted: Option<(&'a Rates, u32, u32)>,
    refused: Cell<bool>,
}

impl<'a> Sender<'a> {
    /// A sender whose answers are counted, `per_second` at `now_ms` as in [`Rates::count`]; none for one that is not.
    pub(super) fn new(peer: IpAddr, rates: Option<&'a Rates>, per_second: Option<u32>, now_ms: u32) -> Self {
        let counted = rates.zip(per_second).map(|(rates, per_second)| (rates, per_second, now_ms));
        Self { peer, counted, refused: Cell::new(false) }
    }

    /// Whether an answer that is counted as `event` would be sent whole, whatever its length. If not, no more than a short
    /// one is to be made, and remembered to have been: [`Sender::was_refused`].
    pub(super) fn has_room(&self, event: Event) -> bool {
        let room =
            self.counted.is_none_or(|(rates, per_second, now)| rates.has_room(self.peer, event, per_second, now));
        self.refused.set(self.refused.get() || !room);
        room
    }

    /// Whether its answer is not what it would be if its sender had room.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VICTIM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

    fn passed(rates: &mut Rates, peer: IpAddr, event: Event, count: u32, now_ms: u32) -> (u32, u32) {
        let mut told = (0, 0);
        for _ in 0..count {
            match rates.count(peer, event, 0, 100, now_ms) {
                Leave::Whole => told.0 += 1,
                Leave::Short => told.1 += 1,
                Leave::Nothing => {}
            }
        }
        told
    }

    #[test]
    fn a_block_has_a_seconds_worth_at_once_and_then_its_rate_and_every_second_one_over_it_is_short() {
        let mut rates = Rates::new();
        let start = u32::MAX - 300;
        assert_eq!(passed(&mut rates, VICTIM, Event::Normal, 300, start), (100, 100));
        assert_eq!(passed(&mut rates, VICTIM, Event::Normal, 300, start), (0, 150), "nothing flows out in no time");
        assert_eq!(passed(&mut rates, VICTIM, Event::Normal, 300, start.wrapping_add(500)), (50, 125), "over the wrap");
        assert_eq!(passed(&mut rates, VICTIM, Event::Normal, 100, start.wrapping_add(5_000)), (100, 0));
    }

    #[test]
    fn who_asks_slowly_is_told_the_first_time_that_it_is_over() {
        let mut rates = Rates::new();
        assert_eq!(passed(&mut rates, VICTIM, Event::Normal, 100, 7), (100, 0));
        assert_eq!(passed(&mut rates, VICTIM, Event::Normal, 1, 7), (0, 1));
    }

    #[test]
    fn long_answers_have_an_allowance_and_then_are_short_and_never_nothing() {
        let mut rates = Rates::new();
        assert_eq!((excess(60, 90), excess(60, 91), excess(61, 800)), (0, 1, 709));
        let mut long = |count: usize, now_ms| {
            let told: Vec<_> = (0..count).map(|_| rates.count(VICTIM, Event::NoName, 640, 1_000, now_ms)).collect();
            assert!(!told.contains(&Leave::Nothing));
            told.iter().filter(|leave| **leave == Leave::Whole).count()
        };
        let start = u32::MAX - 100;
        assert_eq!((long(300, start), long(300, start)), (100, 0));
        assert_eq!(long(300, start.wrapping_add(500)), 50);
        let small = rates.count(VICTIM, Event::NoName, 0, 1_000, start.wrapping_add(500));
        assert_eq!(small, Leave::Whole, "what its question pays for has nothing to do with it");
    }

    /// What is costly to make was made first and then held back.
    #[test]
    fn whoever_has_room_for_an_answer_gets_it_whole_however_long_it_is() {
        let mut rates = Rates::new();
        for (event, excess, per_second) in [(Event::NoName, LONGEST, 1_000), (Event::Normal, 0, 10)] {
            let mut whole = 0;
            for now_ms in 0..500 {
                let sender = Sender::new(VICTIM, Some(&rates), Some(per_second), now_ms);
                let has_room = sender.has_room(event);
                assert_eq!(sender.was_refused(), !has_room);
                let leave = rates.count(VICTIM, event, excess, per_second, now_ms);
                assert_eq!(leave == Leave::Whole, has_room, "{event:?} at {now_ms}");
                whole += u32::from(has_room);
            }
            assert!((14..80).contains(&whole), "{event:?}: {whole}");
        }
        assert!(Sender::new(VICTIM, None, Some(1), 500).has_room(Event::NoName), "who comes over TCP");
    }

    #[test]
    fn neighbours_share_a_bucket_and_strangers_and_other_kinds_do_not() {
        let mut rates = Rates::new();
        assert_eq!(passed(&mut rates, VICTIM, Event::NoName, 100, 7), (100, 0));
        assert_eq!(passed(&mut rates, "203.0.113.200".parse().unwrap(), Event::NoData, 2, 7), (0, 1), "the same /24");
        assert_eq!(passed(&mut rates, "203.0.112.9".parse().unwrap(), Event::NoName, 100, 7), (100, 0));
        assert_eq!(passed(&mut rates, VICTIM, Event::Normal, 100, 7), (100, 0));
        let v6 = |text: &str| text.parse().unwrap();
        assert_eq!(passed(&mut rates, v6("2001:db8:0:100::1"), Event::Zone, 100, 7), (100, 0));
        assert_eq!(passed(&mut rates, v6("2001:db8:0:1ff::2"), Event::Zone, 2, 7), (0, 1), "the same /56");
        assert_eq!(passed(&mut rates, v6("2001:db8:0:200::1"), Event::Zone, 100, 7), (100, 0));
    }

    #[test]
    fn a_full_bucket_outlives_floods_from_everywhere() {
        let mut rates = Rates::new();
        assert_eq!(passed(&mut rates, VICTIM, Event::Normal, 100, 7), (100, 0));
        for block in 0..60_000u32 {
            let peer = IpAddr::V4(std::net::Ipv4Addr::from_bits(block << 8));
            assert_eq!(rates.count(peer, Event::Normal, 0, 100, 7), Leave::Whole);
        }
        assert_eq!(passed(&mut rates, VICTIM, Event::Normal, 100, 7), (0, 50), "still full");
    }

    #[test]
    fn the_table_is_as_large_as_it_says() {
        assert_eq!(size_of::<Set>() * SETS, 1 << 20);
    }
}
