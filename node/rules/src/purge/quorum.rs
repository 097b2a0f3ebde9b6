//! Whose agreement counts.

use super::members::majority;

/// A majority of a realm's witnesses; while their set is being changed, a majority of the old one *and* of the new one.
/// Witnesses are named by their places in one list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Electorate {
    sets: Vec<Vec<usize>>,
}

impl Electorate {
    /// The first `witnesses` of the list.
    #[must_use]
    pub fn of(witnesses: usize) -> Self {
        Self { sets: vec![(0..witnesses).collect()] }
    }

    /// Two sets at once: whatever one alone agreed on before or will agree on after has a witness in common with it.
    #[must_use]
    pub fn joint(old: Vec<usize>, new: Vec<usize>) -> Self {
        Self { sets: vec![old, new] }
    }

    /// Whether enough of them have it.
    #[must_use]
    pub fn met(&self, has: impl Fn(usize) -> bool) -> bool {
        self.sets.iter().all(|set| majority_has(set, &has))
    }

    /// The newest value such that enough of them have one at least as new.
    #[must_use]
    pub fn agreed(&self, of: impl Fn(usize) -> Option<u64>) -> Option<u64> {
        let in_set = |set: &Vec<usize>| {
            let mut known: Vec<u64> = set.iter().filter_map(|witness| of(*witness)).collect();
            known.sort_unstable_by(|a, b| b.cmp(a));
            known.get(majority(set.len()) - 1).copied()
        };
        self.sets.iter().map(in_set).min()?
    }

    /// How many are on the list.
    #[must_use]
    pub fn witnesses(&self) -> usize {
        self.sets.iter().flatten().max().map_or(0, |last| last + 1)
    }

    /// Whether a witness is of the set that counted alone before the change.
    #[must_use]
    pub fn present(&self, witness: usize) -> bool {
        self.sets.first().is_some_and(|set| set.contains(&witness))
    }

    /// Whether a witness is of the set that counts alone after the change.
    #[must_use]
    pub fn future(&self, witness: usize) -> bool {
        self.sets.last().is_some_and(|set| set.contains(&witness))
    }

    /// Whether everything that the old set alone agreed on was heard by who has read so many of its witnesses. They count
    /// only if they had sealed it before they said how much there was to read: then it agrees on nothing any more.
    #[must_use]
    pub fn handed_over(&self, read: impl Fn(usize) -> bool) -> bool {
        self.sets.first().is_some_and(|set| majority_has(set, &read))
    }

    /// Whether the new set may count alone: enough of it have what the old one agreed on.
    #[must_use]
    pub fn taken_over(&self, synced: impl Fn(usize) -> bool) -> bool {
        self.sets.last().is_some_and(|set| majority_has(set, &synced))
    }

    /// Whether all others of the sets that `own` is in have it.
    #[must_use]
    pub fn all_others(&self, own: usize, has: impl Fn(usize) -> bool) -> bool {
        self.sets.iter().filter(|set| set.contains(&own)).flatten().all(|witness| *witness == own || has(*witness))
    }

    /// Whether enough of them *other than* `own` were read that every agreement it took part in is known: a witness that
    /// lost its log has to ask so many.
    #[must_use]
    pub fn recovered(&self, own: usize, read: impl Fn(usize) -> bool) -> bool {
        self.sets.iter().filter(|set| set.contains(&own)).all(|set| {
            let count = set.iter().filter(|witness| **witness != own && read(**witness)).count();
            count > set.len() - majority(set.len())
        })
    }
}

fn majority_has(set: &[usize], has: &impl Fn(usize) -> bool) -> bool {
    set.iter().filter(|witness| has(**witness)).count() >= majority(set.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_majority_agrees_and_less_does_not() {
        let three = Electorate::of(3);
        assert!(three.met(|w| w != 1) && !three.met(|w| w == 1));
        assert_eq!(three.agreed(|w| [Some(5), None, Some(9)][w]), Some(5));
        assert_eq!(three.agreed(|w| [Some(5), Some(7), Some(9)][w]), Some(7));
        assert_eq!(three.agreed(|w| [Some(5), None, None][w]), None);
        assert_eq!(Electorate::of(0).agreed(|_| Some(1)), None);
        assert!(!Electorate::of(0).met(|_| true));
    }

    #[test]
    fn during_a_change_both_sets_have_to_agree() {
        let joint = Electorate::joint(vec![0, 1, 2], vec![2, 3, 4]);
        assert!(!joint.met(|w| w < 3) && !joint.met(|w| w > 1));
        assert!(joint.met(|w| w > 0 && w < 4));
        assert_eq!(joint.agreed(|w| [Some(9), Some(8), Some(7), Some(1), None][w]), Some(1));
        assert_eq!(joint.agreed(|w| [Some(9), Some(8), Some(7), None, None][w]), None);
    }

    #[test]
    fn every_two_agreements_meet() {
        for joint in [Electorate::of(3), Electorate::of(5), Electorate::joint(vec![0, 1, 2], vec![1, 2, 3, 4, 5])] {
            for (a, b) in (0..64u32).flat_map(|a| (0..64u32).map(move |b| (a, b))) {
                let agrees = |mask: u32| joint.met(|w| mask >> w & 1 == 1);
                assert!(!agrees(a) || !agrees(b) || a & b != 0);
            }
        }
    }

    #[test]
    fn a_lost_log_is_made_good_by_enough_others() {
        let five = Electorate::of(5);
        assert!(!five.recovered(0, |w| w < 3), "the one that lost it does not count");
        assert!(five.recovered(0, |w| w < 4));
        assert!(Electorate::of(3).recovered(2, |w| w < 2));
    }
}
