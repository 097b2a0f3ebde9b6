//! Which nodes are a realm's witnesses, and how that may change.

use std::hash::Hasher as _;

use region_config::{Config, NodeId, RealmId};
use siphasher::sip::SipHasher24;

use super::{members, quorum::Electorate};

/// The witnesses of a realm under one version of the config: one set, or two while the first is being replaced by the second.
///
/// An operator goes from (1, A) to (2, A and B) to (3, B). What is acknowledged under any of these is on majorities that
/// the one before and the one after know of, as long as no step is left out: see [`RollSum::becomes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// Counts the changes; 0 if the operator names no witnesses.
    pub version: u64,
    /// The witnesses.
    pub nodes: Vec<NodeId>,
    /// Those that come after them; empty if there is no change.
    pub next: Vec<NodeId>,
}

/// A roll as nodes tell it each other. The sums are over the names, in any order; that of no nodes is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RollSum {
    /// Counts the changes.
    pub version: u64,
    /// Over the witnesses.
    pub nodes: u64,
    /// Over those that come after them.
    pub next: u64,
}

/// Why one roll cannot come after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misstep {
    /// Its version is lower.
    Older,
    /// It has the same version and other witnesses.
    Differs,
    /// It has another set of witnesses, without a phase in which both counted.
    Straight,
    /// It leaves the old set behind before the new one has taken over.
    Early,
    /// It goes back to the old set when the new one has taken over.
    Late,
    /// Versions are missing between: what was acknowledged under those may be in no log that this one reads.
    Missed,
}

impl Roll {
    /// The roll that a config has for a realm: what the operator named, or what is derived from the members.
    #[must_use]
    pub fn of(config: &Config, realm: &RealmId) -> Self {
        if let Some(stream) = members::stream(config, realm) {
            return Self { version: 0, nodes: vec![stream], next: Vec::new() };
        }
        match config.witnesses.iter().find(|set| set.realm == *realm) {
            Some(set) => Self {
                version: set.version,
                nodes: members::inside(config, realm, &set.nodes),
                next: members::inside(config, realm, &set.next),
            },
            None => Self { version: 0, nodes: members::derived(config, realm), next: Vec::new() },
        }
    }

    /// All that are witnesses now: first the present ones, then those that are only coming.
    #[must_use]
    pub fn witnesses(&self) -> Vec<NodeId> {
        let coming = self.next.iter().filter(|node| !self.nodes.contains(node));
        self.nodes.iter().chain(coming).take(members::WITNESSES_MAX).cloned().collect()
    }

    /// Whose agreement counts, by places in [`Roll::witnesses`].
    #[must_use]
    pub fn electorate(&self) -> Electorate {
        let witnesses = self.witnesses();
        if self.next.is_empty() {
            return Electorate::of(witnesses.len());
        }
        let places = |set: &[NodeId]| (0..witnesses.len()).filter(|place| set.contains(&witnesses[*place])).collect();
        Electorate::joint(places(&self.nodes), places(&self.next))
    }

    /// Whether two sets count.
    #[must_use]
    pub fn changes(&self) -> bool {
        !self.next.is_empty()
    }

    /// How it is told to others.
    #[must_use]
    pub fn sum(&self) -> RollSum {
        RollSum { version: self.version, nodes: sum(&self.nodes), next: sum(&self.next) }
    }

    /// Whether a log that a node kept under the roll `before` still counts for it. One that a node kept for a set which
    /// is not in force does not: it knows nothing of what the others have acknowledged since.
    #[must_use]
    pub fn keeps_log(&self, me: &NodeId, before: Option<&Self>) -> bool {
        let same = before.is_some_and(|before| before.sum() == self.sum());
        self.nodes.contains(me) || (same && self.next.contains(me))
    }
}

impl RollSum {
    /// Whether `next` may come after this one, on a node that knows whether the change of this one is `complete`.
    ///
    /// This is asked of the config when a node starts, and by a witness of whoever comes with a later roll than its own.
    ///
    /// # Errors
    /// [`Misstep`].
    pub fn becomes(self, next: Self, complete: bool) -> Result<(), Misstep> {
        if next.version < self.version {
            return Err(Misstep::Older);
        }
        match next.version - self.version {
            0 if !self.same_sets(next) => return Err(Misstep::Differs),
            0 | 1 if self.same_sets(next) => return Ok(()),
            0 | 1 => {}
            _ => return Err(Misstep::Missed),
        }
        let (changing, to_change) = (self.next != 0, next.next != 0);
        match (changing, to_change) {
            (false, true) if next.nodes == self.nodes => Ok(()),
            (true, false) if next.nodes == self.next => complete.then_some(()).ok_or(Misstep::Early),
            (true, false) if next.nodes == self.nodes => (!complete).then_some(()).ok_or(Misstep::Late),
            (false | true, _) => Err(Misstep::Straight),
        }
    }

    fn same_sets(self, other: Self) -> bool {
        (self.nodes, self.next) == (other.nodes, other.next)
    }
}

/// The keys are of no secret: nobody outside the fleet is heard here.
fn sum(nodes: &[NodeId]) -> u64 {
    let mut names: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
    names.sort_unstable();
    let mut hasher = SipHasher24::new_with_keys(0, names.len() as u64);
    for name in &names {
        hasher.write(&(name.len() as u64).to_be_bytes());
        hasher.write(name.as_bytes());
    }
    if names.is_empty() { 0 } else { hasher.finish().max(1) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn roll(version: u64, nodes: &str, next: &str) -> Roll {
        let names = |names: &str| names.chars().map(|name| NodeId::parse(&name.to_string()).unwrap()).collect();
        Roll { version, nodes: names(nodes), next: names(next) }
    }

    fn step(from: &Roll, to: &Roll, complete: bool) -> Result<(), Misstep> {
        from.sum().becomes(to.sum(), complete)
    }

    #[test]
    fn a_set_changes_in_two_steps_and_no_other_way() {
        let (old, both, new) = (roll(1, "abc", ""), roll(2, "abc", "cde"), roll(3, "cde", ""));
        assert_eq!(step(&old, &both, false), Ok(()));
        assert_eq!(step(&both, &new, true), Ok(()));
        assert_eq!(step(&both, &new, false), Err(Misstep::Early));
        assert_eq!(step(&old, &roll(2, "cde", ""), true), Err(Misstep::Straight));
        assert_eq!(step(&both, &old, false), Err(Misstep::Older));
        assert_eq!(step(&old, &roll(1, "abd", ""), false), Err(Misstep::Differs));
        assert_eq!(step(&both, &roll(3, "abc", "def"), false), Err(Misstep::Straight));
        assert_eq!(step(&both, &roll(3, "abf", ""), true), Err(Misstep::Straight));
        assert_eq!(step(&old, &roll(2, "abd", "cde"), false), Err(Misstep::Straight));
    }

    #[test]
    fn a_change_is_taken_back_while_the_new_ones_have_not_taken_over() {
        let both = roll(2, "abc", "cde");
        assert_eq!(step(&both, &roll(3, "abc", ""), false), Ok(()));
        assert_eq!(step(&both, &roll(3, "abc", ""), true), Err(Misstep::Late));
    }

    #[test]
    fn the_same_witnesses_may_have_a_new_version_and_another_order() {
        assert_eq!(step(&roll(1, "abc", ""), &roll(1, "cab", ""), false), Ok(()));
        assert_eq!(step(&roll(0, "abc", ""), &roll(1, "abc", ""), false), Ok(()));
        assert_eq!(step(&roll(2, "a", "abc"), &roll(3, "a", "abc"), false), Ok(()));
    }

    #[test]
    fn no_version_is_left_out() {
        let missed = Err(Misstep::Missed);
        assert_eq!(step(&roll(1, "abc", ""), &roll(3, "abc", ""), true), missed, "it may have been others meanwhile");
        assert_eq!(step(&roll(1, "abc", ""), &roll(4, "abc", "cde"), true), missed);
        assert_eq!(step(&roll(2, "abc", "cde"), &roll(4, "cde", ""), true), missed);
    }

    #[test]
    fn places_of_present_witnesses_stay_and_new_ones_come_after() {
        let both = roll(2, "abc", "dcb");
        let names: Vec<String> = both.witnesses().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(both.electorate(), Electorate::joint(vec![0, 1, 2], vec![1, 2, 3]));
        assert_eq!(roll(1, "abc", "").electorate(), Electorate::of(3));
    }

    #[test]
    fn a_log_counts_only_for_the_set_it_was_kept_for() {
        let (old, both) = (roll(1, "abc", ""), roll(2, "abc", "cde"));
        let node = |name: &str| NodeId::parse(name).unwrap();
        assert!(both.keeps_log(&node("a"), Some(&old)) && both.keeps_log(&node("c"), Some(&old)));
        assert!(!both.keeps_log(&node("d"), Some(&old)), "it was none of them");
        assert!(both.keeps_log(&node("d"), Some(&both)), "it has begun to be one");
        assert!(!roll(3, "cde", "").keeps_log(&node("a"), Some(&both)), "it is none any more");
    }
}
