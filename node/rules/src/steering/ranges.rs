//! An ordered cover of an address space by ranges, each with a value: one search gives the value and how far it holds.

use super::index::{Cells, Heads, Index, Span, fetch};

/// An address as a number whose order is the order of addresses.
pub(super) trait Word: Copy + Ord {
    /// How the range of a word is found.
    type Index: Index<Self>;
    /// The lowest one.
    const MIN: Self;
    /// The first 16 bits.
    fn head(self) -> usize;
    /// The lowest word with these first 16 bits.
    fn from_head(head: u16) -> Self;
    /// How many leading bits two words share.
    fn common(self, other: Self) -> u32;
    /// The word before; `MIN` for `MIN`.
    fn before(self) -> Self;
    /// The word after, if there is one.
    fn after(self) -> Option<Self>;
}

impl Word for u32 {
    type Index = Cells;
    const MIN: Self = 0;
    fn head(self) -> usize {
        (self >> 16) as usize
    }
    fn from_head(head: u16) -> Self {
        Self::from(head) << 16
    }
    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }
    fn before(self) -> Self {
        self.saturating_sub(1)
    }
    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Word for u64 {
    type Index = Heads;
    const MIN: Self = 0;
    #[allow(clippy::cast_possible_truncation, reason = "16 bits")]
    fn head(self) -> usize {
        (self >> 48) as usize
    }
    fn from_head(head: u16) -> Self {
        Self::from(head) << 48
    }
    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }
    fn before(self) -> Self {
        self.saturating_sub(1)
    }
    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Ranges that cover the whole space without gap or overlap; neighbours have different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranges<W: Word> {
    /// Where each range begins, ascending; the first begins at `W::MIN`.
    starts: Box<[W]>,
    values: Box<[u32]>,
    index: W::Index,
}

/// What is fetched before a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Where the address belongs.
    Where,
    /// What is known of it; once the other has come.
    What,
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The range's value.
    pub(super) value: u32,
    /// Length of the largest aligned block that lies in the range and holds the address.
    pub(super) scope: u32,
}

impl<W: Word> Ranges<W> {
    /// Makes ranges of ascending starts; equal neighbours become one, and what lies before the first has value 0.
    pub(super) fn new(ascending: impl IntoIterator<Item = (W, u32)>) -> Self {
        let (mut starts, mut values) = (vec![W::MIN], vec![0]);
        for (start, value) in ascending {
            let last = values.len() - 1;
            if starts[last] == start {
                values[last] = value;
                if last > 0 && values[last - 1] == value {
                    starts.pop();
                    values.pop();
                }
            } else if values[last] != value {
                starts.push(start);
                values.push(value);
            }
        }
        Self { index: W::Index::new(&starts), starts: starts.into(), values: values.into() }
    }

    /// The ranges with other values: `values[i]` for a range that has value `i`.
    pub(super) fn translated(&self, values: &[u32]) -> Self {
        let new = |old: u32| values.get(old as usize).copied().unwrap_or(0);
        Self::new(self.iter().map(|(start, value)| (start, new(value))))
    }

    /// The ranges that have one value in these and one in others: each start with both values, ascending.
    pub(super) fn beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (W, u32, u32)> + 'a {
        let (mut mine, mut others) = (self.iter().peekable(), other.iter().peekable());
        let (mut value, mut beside) = (0, 0);
        std::iter::from_fn(move || {
            let start = match (mine.peek(), others.peek()) {
                (Some((a, _)), Some((b, _))) => *a.min(b),
                (Some((only, _)), None) | (None, Some((only, _))) => *only,
                (None, None) => return None,
            };
            value = mine.next_if(|(at, _)| *at == start).map_or(value, |(_, value)| value);
            beside = others.next_if(|(at, _)| *at == start).map_or(beside, |(_, value)| value);
            Some((start, value, beside))
        })
    }

    /// Every range's start and value, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (W, u32)> + '_ {
        self.starts.iter().copied().zip(self.values.iter().copied())
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Tells the processor that a word will be looked for soon: first where to look, and a little later what is there.
    pub(super) fn fetch(&self, word: W, step: Step) {
        match step {
            Step::Where => self.index.fetch(word),
            Step::What => {
                if let Some(value) = self.values.get(self.index.guess(word)) {
                    fetch(value);
                }
            }
        }
    }

    /// The range that `word` lies in.
    pub(super) fn find(&self, word: W) -> Found {
        let Span { at, start, next } = self.index.find(&self.starts, word);
        let below = if start == W::MIN { 0 } else { word.common(start.before()) + 1 };
        let above = next.map_or(0, |next| word.common(next) + 1);
        Found { value: self.values[at], scope: below.max(above) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_with_equal_values_are_one_range() {
        let ranges = Ranges::<u32>::new([(0, 7), (256, 7), (512, 1), (512, 2), (1024, 2), (2048, 0)]);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(0, 7), (512, 2), (2048, 0)]);
    }

    #[test]
    fn a_start_overwritten_with_its_neighbours_value_joins_it() {
        let ranges = Ranges::<u32>::new([(0, 7), (512, 1), (512, 7)]);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(0, 7)]);
    }

    #[test]
    fn the_scope_is_the_largest_aligned_block_inside_the_range() {
        // 10.0.0.0 to 10.2.255.255
        let ranges = Ranges::<u32>::new([(0x0a00_0000, 1), (0x0a03_0000, 0)]);
        assert_eq!(ranges.find(0x0a00_0001), Found { value: 1, scope: 15 });
        assert_eq!(ranges.find(0x0a02_ffff), Found { value: 1, scope: 16 });
        assert_eq!(ranges.find(0x0a03_0000), Found { value: 0, scope: 16 });
        assert_eq!(ranges.find(0xffff_ffff), Found { value: 0, scope: 1 });
        assert_eq!(Ranges::<u64>::new([]).find(5), Found { value: 0, scope: 0 });
    }
}
