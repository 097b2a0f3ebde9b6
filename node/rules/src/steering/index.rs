//! Where among ascending starts of ranges a word belongs, without looking at many of them: what is looked at is seldom in a
//! processor's cache, and then costs more than all else that a question takes.

use super::ranges::Word;

/// Words that share the first 16 bits are in one of so many parts.
const PARTS: usize = 1 << 16;

/// Where a word belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span<W> {
    /// The index of its range.
    pub(super) at: usize,
    /// Where the range begins.
    pub(super) start: W,
    /// Where the next one begins, if there is one.
    pub(super) next: Option<W>,
}

/// Made of starts, of which the first is the lowest word; to be asked with the same starts.
pub(super) trait Index<W> {
    fn new(starts: &[W]) -> Self;
    fn find(&self, starts: &[W], word: W) -> Span<W>;
    /// Tells the processor that a word will be looked for soon.
    fn fetch(&self, word: W);
    /// Which range it is in, or near; from what was fetched alone.
    fn guess(&self, word: W) -> usize;
}

/// For each first 16 bits, how many ranges begin below them; and the count of all at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heads(Box<[u32]>);

impl<W: Word> Index<W> for Heads {
    fn new(starts: &[W]) -> Self {
        let mut heads = Vec::with_capacity(PARTS + 1);
        let mut below = 0;
        for head in 0..=u16::MAX {
            let lowest = W::from_head(head);
            while starts.get(below).is_some_and(|start| *start < lowest) {
                below += 1;
            }
            heads.push(u32::try_from(below).unwrap_or(u32::MAX));
        }
        heads.push(u32::try_from(starts.len()).unwrap_or(u32::MAX));
        Self(heads.into())
    }

    fn find(&self, starts: &[W], word: W) -> Span<W> {
        let head = word.head();
        search(starts, self.0[head] as usize..self.0[head + 1] as usize, word)
    }

    fn fetch(&self, word: W) {
        fetch(&self.0[word.head()]);
    }

    fn guess(&self, word: W) -> usize {
        self.0[word.head()] as usize
    }
}

/// The range of a word, whose start is among these or the last one before them. There is one: the first start is the lowest
/// word of all.
fn search<W: Word>(starts: &[W], among: std::ops::Range<usize>, word: W) -> Span<W> {
    let after = among.start + starts[among].partition_point(|start| *start <= word);
    Span { at: after - 1, start: starts[after - 1], next: starts.get(after).copied() }
}

/// IPv4, where ranges begin with a /24 but for rules about single addresses: a bit for every /24, so that the range and its
/// ends are read from one cache line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cells(Box<[Part]>);

/// One /16.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(align(64))]
struct Part {
    /// The /24 with which a range begins, lowest first.
    begins: [u64; 4],
    /// How many bits are set in the words before each of them.
    before: [u8; 4],
    /// How many ranges begin below this /16.
    below: u32,
    /// Where the last one of these begins.
    last: u32,
    /// Where the first range above this /16 begins; 0 if there is none.
    above: u32,
    /// Some begin within a /24: the bits do not tell.
    fine: bool,
}

impl Index<u32> for Cells {
    fn new(starts: &[u32]) -> Self {
        let mut parts = vec![Part::default(); PARTS];
        let mut rest = starts;
        let (mut below, mut last) = (0, 0);
        for (part, head) in parts.iter_mut().zip(0..=u16::MAX) {
            let (here, above) = rest.split_at(rest.partition_point(|start| start.head() <= usize::from(head)));
            part.below = below;
            part.last = last;
            part.above = above.first().copied().unwrap_or(0);
            part.fine = here.iter().any(|start| start & 0xff != 0);
            for start in here {
                let (at, up_to) = place(*start);
                part.begins[at] |= up_to ^ up_to >> 1;
            }
            let counts = part.begins.map(u64::count_ones);
            // at most 192, since the last word is not counted
            part.before = [0, 1, 2, 3].map(|word| u8::try_from(counts[..word].iter().sum::<u32>()).unwrap_or(u8::MAX));
            below += u32::try_from(here.len()).unwrap_or(u32::MAX);
            last = here.last().copied().unwrap_or(last);
            rest = above;
        }
        Self(parts.into())
    }

    fn find(&self, starts: &[u32], word: u32) -> Span<u32> {
        let part = &self.0[word.head()];
        if part.fine {
            let end = self.0.get(word.head() + 1).map_or(starts.len(), |next| next.below as usize);
            return search(starts, part.below as usize..end, word);
        }
        let (word_at, up_to) = place(word);
        let begun = part.begins[word_at] & up_to;
        let to_come = part.begins[word_at] & !up_to;
        let parts = || [0, 1, 2, 3].into_iter().zip(part.begins);
        let own = |bits: u64| std::iter::once((cell(word) / 64, bits));
        let some = |(_, bits): &(u32, u64)| *bits != 0;
        let address = |cell: u32| word & 0xffff_0000 | cell << 8;
        let start = own(begun).chain(parts().take(word_at).rev()).find(some);
        let next = own(to_come).chain(parts().skip(word_at + 1)).find(some);
        Span {
            at: part.rank(word) - 1,
            start: start.map_or(part.last, |(at, bits)| address(at * 64 + 63 - bits.leading_zeros())),
            next: next
                .map_or(Some(part.above), |(at, bits)| Some(address(at * 64 + bits.trailing_zeros())))
                .filter(|next| *next > 0),
        }
    }

    fn fetch(&self, word: u32) {
        fetch(&self.0[word.head()]);
    }

    fn guess(&self, word: u32) -> usize {
        self.0[word.head()].rank(word).saturating_sub(1)
    }
}

impl Part {
    /// How many ranges begin up to a word's /24, of all that there are.
    fn rank(&self, word: u32) -> usize {
        let (at, up_to) = place(word);
        (self.below + u32::from(self.before[at]) + (self.begins[at] & up_to).count_ones()) as usize
    }
}

/// Which word of a part has the bit of an address, and that bit with those below it.
fn place(word: u32) -> (usize, u64) {
    let cell = cell(word);
    ((cell / 64) as usize, u64::MAX >> (63 - cell % 64))
}

/// Tells the processor what will be read soon.
pub(super) fn fetch<T>(soon: &T) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, reason = "the processor's hint takes a pointer")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it changes nothing that a program sees, whatever the pointer; this one is valid besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(soon).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = soon;
}

/// Which /24 of its /16 an address is in.
fn cell(word: u32) -> u32 {
    word >> 8 & 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All the ways of asking, beside a look at every start.
    fn agree(starts: &[u32], words: impl IntoIterator<Item = u32>) {
        let (cells, heads) = (Cells::new(starts), <Heads as Index<u32>>::new(starts));
        for word in words {
            let at = starts.iter().rposition(|start| *start <= word).unwrap();
            let span = Span { at, start: starts[at], next: starts.get(at + 1).copied() };
            assert_eq!(cells.find(starts, word), span, "{word:08x} in {starts:08x?}");
            assert_eq!(heads.find(starts, word), span, "{word:08x}");
        }
    }

    #[test]
    fn each_word_is_found_in_its_range_wherever_ranges_begin() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        };
        // close together, within few /16, and one in eight within a /24
        for round in 0..40 {
            let spread = 1 << (8 + round % 24);
            let mut starts = vec![0];
            for _ in 0..next() % 400 {
                let start = 0x0a00_0000_u32.wrapping_add(next() % spread);
                starts.push(if round % 8 == 0 { start } else { start & !0xff });
            }
            starts.sort_unstable();
            starts.dedup();
            let around: Vec<u32> =
                starts.iter().flat_map(|start| [start.saturating_sub(1), *start, start.saturating_add(1)]).collect();
            let anywhere: Vec<u32> = (0..200).map(|_| 0x0a00_0000_u32.wrapping_add(next() % spread)).collect();
            agree(&starts, around.into_iter().chain(anywhere).chain([0, u32::MAX]));
        }
    }

    #[test]
    fn the_ends_of_the_address_space_and_full_parts_are_found() {
        agree(&[0], [0, 1, u32::MAX]);
        agree(&[0, 0xffff_ff00], [0, 0xffff_feff, 0xffff_ff00, u32::MAX]);
        let full: Vec<u32> = (0..1024).map(|cell| cell << 8).collect();
        agree(&full, (0..1100).map(|cell| (cell << 8) + 7));
    }

    #[test]
    fn a_part_fits_into_a_cache_line() {
        assert_eq!(size_of::<Part>(), 64);
    }
}
