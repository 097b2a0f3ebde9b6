//! A change of a realm's witnesses as one node sees it: what it has read of the old ones, and whether the new ones have taken over.

use std::collections::BTreeSet;

use super::quorum::Electorate;

/// What a witness says of itself with its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stand {
    /// The version of the roll that it was started with: it serves no lower one.
    pub version: u64,
    /// Whether its log has on disk what the old witnesses agreed on before they were sealed.
    pub synced: bool,
}

/// The machine behind it.
///
/// A node that goes on to the new set alone has itself read a majority of the old witnesses, each as far as it said it had
/// records *after* it had sealed the old set: so it has heard all that was acknowledged by the old set alone, or has jumped
/// over it. And a majority of the new witnesses has done the same, and has it in their logs, for those who come later.
#[derive(Debug, Clone)]
pub struct Handover {
    electorate: Electorate,
    own: Option<usize>,
    version: u64,
    stands: Vec<Option<Stand>>,
    read: BTreeSet<usize>,
    /// Where the own log ended when enough was read.
    place: Option<u64>,
    complete: bool,
}

impl Handover {
    /// Nothing was heard yet, under the roll of this version; `own` is the place of this node, if it is a witness, and
    /// `complete` what it remembers.
    #[must_use]
    pub fn new(electorate: Electorate, own: Option<usize>, version: u64, complete: bool) -> Self {
        let stands = vec![None; electorate.witnesses()];
        Self { electorate, own, version, stands, read: BTreeSet::new(), place: None, complete }
    }

    /// A witness says how it stands.
    pub fn handle_stand(&mut self, witness: usize, stand: Stand) {
        if let Some(known) = self.stands.get_mut(witness) {
            *known = Some(stand);
        }
    }

    /// The line to a witness is gone: it may be another one that answers next.
    pub fn handle_line_lost(&mut self, witness: usize) {
        if let Some(known) = self.stands.get_mut(witness) {
            *known = None;
        }
    }

    /// Everything that a witness last said to have was read; `voting` is whether it had then all it should have.
    pub fn handle_confirmed(&mut self, witness: usize, voting: bool) {
        let sealed = self.stands.get(witness).copied().flatten().is_some_and(|stand| stand.version >= self.version);
        if voting && sealed {
            self.read.insert(witness);
        }
    }

    /// The own log ends here; `voting` is whether it has all it should have. What it has is known, and it serves no older
    /// version.
    pub fn handle_own(&mut self, voting: bool, appended: u64) {
        self.read.extend(self.own.filter(|own| voting && self.electorate.present(*own)));
        if self.place.is_none() && self.handed_over() {
            self.place = Some(appended);
        }
    }

    /// The own log began a new life.
    pub fn handle_set_back(&mut self) {
        self.read.clear();
        self.place = None;
    }

    /// Whether this node has heard all that the old set alone agreed on.
    #[must_use]
    pub fn handed_over(&self) -> bool {
        self.electorate.handed_over(|witness| self.read.contains(&witness))
    }

    /// Whether the own log, on disk up to `durable`, has it too.
    #[must_use]
    pub fn synced(&self, durable: u64) -> bool {
        self.place.is_some_and(|place| place <= durable)
    }

    /// Whether the change has just become complete: it is asked while this node is sure to have caught up. `synced` is what
    /// it says of itself.
    pub fn poll_complete(&mut self, synced: bool) -> bool {
        let of = |witness: usize| match self.own {
            Some(own) if own == witness => synced,
            _ => self.stands.get(witness).copied().flatten().is_some_and(|it| it.synced && it.version >= self.version),
        };
        let new = !self.complete && self.handed_over() && self.electorate.taken_over(of);
        self.complete |= new;
        new
    }

    /// Whether the new set may count alone, as far as this node knows.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// The present witnesses that have not been read after their seal, and the coming set's that are not synced, as far as
    /// this node knows; for people.
    #[must_use]
    pub fn missing(&self, synced: bool) -> (Vec<usize>, Vec<usize>) {
        let all = || 0..self.stands.len();
        let unread = all().filter(|w| self.electorate.present(*w) && !self.read.contains(w));
        let is_synced = |w: usize| match self.stands[w] {
            _ if self.own == Some(w) => synced,
            stand => stand.is_some_and(|stand| stand.synced),
        };
        let unsynced = all().filter(|w| self.electorate.future(*w) && !is_synced(*w));
        (unread.collect(), unsynced.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// a, b, c are replaced by c, d, e.
    fn change(own: Option<usize>) -> Handover {
        Handover::new(Electorate::joint(vec![0, 1, 2], vec![2, 3, 4]), own, 2, false)
    }

    fn stand(version: u64, synced: bool) -> Stand {
        Stand { version, synced }
    }

    #[test]
    fn only_old_witnesses_that_are_sealed_and_vote_hand_over() {
        let mut change = change(None);
        for witness in [0, 1, 2] {
            change.handle_stand(witness, stand(1, false));
            change.handle_confirmed(witness, true);
        }
        assert!(!change.handed_over(), "they go on under the old version");
        change.handle_stand(0, stand(2, false));
        change.handle_confirmed(0, true);
        change.handle_stand(1, stand(2, false));
        change.handle_confirmed(1, false);
        change.handle_stand(3, stand(2, false));
        change.handle_confirmed(3, true);
        assert!(!change.handed_over(), "one may have forgotten, one is none of them");
        change.handle_confirmed(1, true);
        assert!(change.handed_over());
    }

    #[test]
    fn a_witness_is_synced_when_what_it_read_is_on_its_disk() {
        let mut change = change(Some(2));
        change.handle_own(true, 7);
        assert!(!change.synced(u64::MAX), "it alone is no majority of the old ones");
        change.handle_stand(1, stand(2, false));
        change.handle_confirmed(1, true);
        change.handle_own(true, 9);
        change.handle_own(true, 12);
        assert!(!change.synced(8) && change.synced(9));
        change.handle_set_back();
        assert!(!change.synced(9) && !change.handed_over());
    }

    #[test]
    fn it_is_complete_when_this_node_has_read_the_old_ones_and_a_majority_of_the_new_ones_has() {
        let mut change = change(None);
        change.handle_stand(3, stand(2, true));
        change.handle_stand(4, stand(2, true));
        assert!(!change.poll_complete(false), "this node has not heard the old ones");
        for witness in [0, 1] {
            change.handle_stand(witness, stand(2, false));
            change.handle_confirmed(witness, true);
        }
        change.handle_line_lost(4);
        assert!(!change.poll_complete(false), "one is no majority");
        assert_eq!(change.missing(false), (vec![2], vec![2, 4]));
        change.handle_stand(2, stand(2, true));
        assert!(change.poll_complete(false) && !change.poll_complete(false), "it is said once");
        assert!(change.complete());
    }
}
