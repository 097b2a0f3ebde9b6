//! What was purged since the last but one sweep, as bits: most hits learn here that none of it is about them.
//!
//! Two halves, of which one is written. A sweep takes the older one, empties it and has it written from then on: what was
//! marked between the last two sweeps, and since, is in the two together. Whoever was judged before that has to ask the
//! exact marks. The halves of a word lie side by side, so that a key costs one cache line.
//!
//! **Order of memory.** Bits are set, and halves are emptied, under the lock of the marks only; readers take no lock. A
//! reader that has seen position `p` as the newest ([`super::SiteGuard::publish`], a release that it acquired) sees every
//! bit of what was marked up to `p`, or what came after it in the same word: more bits, or the emptying of a half. The
//! emptying of the half that holds a mark comes after `since` was stored as a position at or above that mark, with a
//! release fence in between; a reader that saw any emptied word sees that value behind its acquire fence, and since it is
//! another one than before, throws away what it read. `since` only grows, so it cannot be the old one again. (A half may
//! be emptied without `since` growing: then nothing was marked in the half.)

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

const WORDS: usize = 1024;

/// 65,536 bits in each half, two for a key, both in one word: 16 KiB for a site with purges. With the 1,200 keys of ten
/// purges a second over two minutes it lets through one key in a thousand that was not purged.
#[derive(Debug)]
pub(super) struct Filter {
    words: Box<[[AtomicU64; 2]]>,
    /// What was marked after this position is in here.
    since: AtomicU64,
}

/// What only the writer knows of a filter; kept with the marks, under their lock.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The half that is written.
    half: usize,
    /// The newest position that is not in it.
    between: u64,
    /// The newest position that was marked.
    last: u64,
}

impl Filter {
    pub(super) fn new() -> Self {
        Self { words: (0..WORDS).map(|_| Default::default()).collect(), since: AtomicU64::new(0) }
    }

    /// Whether surely none of these keys was marked after `since`. False may also mean that this is not the place to tell.
    pub(super) fn is_clear_of(&self, since: u64, keys: &[u64]) -> bool {
        let began = self.since.load(Acquire);
        if since < began || keys.iter().any(|key| self.may_hold(*key)) {
            return false;
        }
        fence(Acquire);
        self.since.load(Relaxed) == began
    }

    /// Whether a key may have been marked after `since`. Under the lock of the marks, where nothing is emptied meanwhile.
    pub(super) fn lets_through(&self, since: u64, key: u64) -> bool {
        since < self.since.load(Relaxed) || self.may_hold(key)
    }

    fn may_hold(&self, key: u64) -> bool {
        let (pair, mask) = (&self.words[word(key)], mask(key));
        pair.iter().any(|half| half.load(Relaxed) & mask == mask)
    }

    /// A key is marked at a position, which is never below one before.
    pub(super) fn add(&self, turn: &mut Turn, position: u64, key: u64) {
        self.words[word(key)][turn.half].fetch_or(mask(key), Relaxed);
        turn.last = turn.last.max(position);
    }

    /// A mark up to this position is not in here.
    pub(super) fn skip(&self, turn: &mut Turn, position: u64) {
        turn.last = turn.last.max(position);
        turn.between = turn.last;
        self.since.fetch_max(turn.last, Relaxed);
    }

    /// A sweep begins.
    pub(super) fn turn(&self, turn: &mut Turn) {
        self.since.store(turn.between, Relaxed);
        fence(Release);
        turn.half ^= 1;
        self.empty(turn.half);
        turn.between = turn.last;
    }

    /// Marks up to this position, which is above all of them, are needless.
    pub(super) fn forget(&self, turn: &mut Turn, position: u64) {
        self.since.fetch_max(position, Relaxed);
        fence(Release);
        (0..2).for_each(|half| self.empty(half));
        (turn.between, turn.last) = (position, position);
    }

    fn empty(&self, half: usize) {
        self.words.iter().for_each(|pair| pair[half].store(0, Relaxed));
    }
}

/// The lowest bit of a key says nothing, and the table of marks takes its places from the lowest and the topmost ones: the
/// filter has its own from between.
fn word(key: u64) -> usize {
    let [.., high, low] = (key >> 40 & 0x3ff).to_be_bytes();
    usize::from(u16::from_be_bytes([high, low]))
}

fn mask(key: u64) -> u64 {
    // the key of untagged objects has no such bits: it falls on bit 0 of word 0, which only costs a look at the marks
    1 << (key >> 28 & 63) | 1 << (key >> 34 & 63)
}
