//! How sure a node is that it has heard of everything: its lease on the completeness of the ledger.

use std::collections::VecDeque;

use super::{
    quorum::Electorate,
    witness::{Cursor, LogHead},
};

/// Questions to one witness that are remembered while it has not answered, and answers while they are not read up to.
const OPEN_MAX: usize = 8;

/// No bound is reached by it: the node is the whole electorate.
pub const ALWAYS: u64 = u64::MAX;

/// The machine behind it. A node asks the witnesses where their logs end. Once it has read the logs of a majority up to
/// where they said, it has heard everything that was acknowledged *before it asked*: whatever is acknowledged is on the
/// disks of a majority, and two majorities have a witness in common. Times are of a clock that also runs while the machine
/// sleeps, in ms; only differences count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    electorate: Electorate,
    own: Option<usize>,
    witnesses: Vec<Heard>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Heard {
    /// What was asked and not answered: number and time.
    asked: VecDeque<(u64, u64)>,
    /// Where its log ended when it answered what was asked at that time.
    answered: VecDeque<(u64, u64, u64)>,
    /// Everything that it had acknowledged before this was heard.
    until: Option<u64>,
}

impl Lease {
    /// Nothing was heard yet. `own` is the place of this node among `witnesses` many, if it is one.
    #[must_use]
    pub fn new(electorate: Electorate, own: Option<usize>, witnesses: usize) -> Self {
        Self { electorate, own, witnesses: vec![Heard::default(); witnesses] }
    }

    /// A witness is asked where its log ends; `nonce` is new.
    pub fn handle_asked(&mut self, witness: usize, nonce: u64, now_ms: u64) {
        let Some(heard) = self.witnesses.get_mut(witness) else { return };
        if heard.asked.len() >= OPEN_MAX {
            heard.asked.pop_front();
        }
        heard.asked.push_back((nonce, now_ms));
    }

    /// Its answer. That of a witness that may not vote says nothing: it may have forgotten.
    pub fn handle_answer(&mut self, witness: usize, nonce: u64, head: &LogHead) {
        let Some(heard) = self.witnesses.get_mut(witness) else { return };
        let Some(at) = heard.asked.iter().position(|(asked, _)| *asked == nonce) else { return };
        let Some((_, asked_ms)) = heard.asked.drain(..=at).next_back() else { return };
        if !head.voting {
            return;
        }
        if heard.answered.len() >= OPEN_MAX {
            // the newest one is reached later, but then says more; the oldest one soonest
            heard.answered.remove(OPEN_MAX / 2);
        }
        heard.answered.push_back((asked_ms, head.epoch, head.seq));
    }

    /// The log of a witness was read up to here, and everything in it is applied.
    pub fn handle_read(&mut self, witness: usize, cursor: &Cursor) {
        let Some(heard) = self.witnesses.get_mut(witness) else { return };
        let Heard { answered, until, .. } = heard;
        answered.retain(|(asked_ms, epoch, seq)| {
            let read = *epoch == cursor.epoch && *seq <= cursor.seq;
            if read {
                *until = Some(until.unwrap_or(0).max(*asked_ms));
            }
            !read
        });
    }

    /// The line to a witness is gone: what was asked over it will not be answered.
    pub fn handle_line_lost(&mut self, witness: usize) {
        if let Some(heard) = self.witnesses.get_mut(witness) {
            heard.asked.clear();
        }
    }

    /// Everything acknowledged before this time was heard; [`ALWAYS`] if this node alone is the electorate, none if
    /// nothing is sure. `voting` is whether this node is a witness that may vote now: it knows its own log at any time.
    #[must_use]
    pub fn since(&self, voting: bool) -> Option<u64> {
        let own = self.own.filter(|_| voting);
        self.electorate.agreed(|witness| match own {
            Some(own) if own == witness => Some(ALWAYS),
            _ => self.witnesses.get(witness).and_then(|heard| heard.until),
        })
    }

    /// The same for one witness.
    #[must_use]
    pub fn heard(&self, witness: usize) -> Option<u64> {
        self.witnesses.get(witness)?.until
    }

    /// How many records a witness last said it had that are behind the cursor; 0 if it has not said more than was read.
    #[must_use]
    pub fn unread(&self, witness: usize, cursor: Option<Cursor>) -> u64 {
        let last = self.witnesses.get(witness).and_then(|heard| heard.answered.back());
        let read = |epoch| cursor.filter(|cursor| cursor.epoch == epoch).map_or(0, |cursor| cursor.seq);
        last.map_or(0, |(_, epoch, seq)| seq.saturating_sub(read(*epoch)))
    }
}

/// Whether what happened at `since_ms` is at most `bound_ms` ago. Two clocks that differ by one in a hundred agree on it.
#[must_use]
pub fn within(bound_ms: u64, since_ms: u64, now_ms: u64) -> bool {
    now_ms <= since_ms.saturating_add(bound_ms - bound_ms / 100)
}

/// After this many ms no lease that began before can reach into the present, by any node's clock.
#[must_use]
pub fn fenced_after(bound_ms: u64) -> u64 {
    bound_ms.saturating_add(bound_ms / 100).saturating_add(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn head(epoch: u64, seq: u64, voting: bool) -> LogHead {
        LogHead { epoch, base: 1, base_chain: 0, seq, chain: 0, voting }
    }

    fn read(epoch: u64, seq: u64) -> Cursor {
        Cursor { epoch, seq, chain: 0 }
    }

    #[test]
    fn a_majority_has_to_answer_and_to_be_read() {
        let mut lease = Lease::new(Electorate::of(3), None, 3);
        for witness in 0..3 {
            lease.handle_asked(witness, 1, 100);
        }
        lease.handle_answer(0, 1, &head(7, 5, true));
        lease.handle_read(0, &read(7, 5));
        assert_eq!(lease.since(false), None, "one is no majority");
        lease.handle_answer(1, 1, &head(8, 9, true));
        assert_eq!(lease.since(false), None, "what it has is not read yet");
        lease.handle_read(1, &read(8, 8));
        assert_eq!(lease.since(false), None);
        lease.handle_read(1, &read(8, 9));
        assert_eq!(lease.since(false), Some(100));
    }

    #[test]
    fn what_is_unread_is_what_the_witness_said_beyond_the_cursor() {
        let mut lease = Lease::new(Electorate::of(1), None, 1);
        assert_eq!(lease.unread(0, None), 0, "it has said nothing");
        lease.handle_asked(0, 1, 50);
        lease.handle_answer(0, 1, &head(7, 5, true));
        assert_eq!(lease.unread(0, None), 5);
        assert_eq!(lease.unread(0, Some(read(6, 4))), 5, "another life of the log");
        assert_eq!(lease.unread(0, Some(read(7, 3))), 2);
        lease.handle_read(0, &read(7, 5));
        assert_eq!(lease.unread(0, Some(read(7, 5))), 0);
        assert_eq!(lease.unread(1, None), 0, "no such witness");
    }

    #[test]
    fn it_counts_from_the_question_and_only_those_asked_and_voting_count() {
        let mut lease = Lease::new(Electorate::of(1), None, 1);
        lease.handle_answer(0, 3, &head(7, 0, true));
        lease.handle_read(0, &read(7, 0));
        assert_eq!(lease.since(false), None, "nobody asked");
        lease.handle_asked(0, 1, 50);
        lease.handle_asked(0, 2, 60);
        lease.handle_answer(0, 2, &head(7, 0, false));
        lease.handle_read(0, &read(7, 0));
        assert_eq!(lease.since(false), None, "it may not vote");
        lease.handle_answer(0, 1, &head(7, 0, true));
        assert_eq!(lease.since(false), None, "an older answer after a newer one is none");
        lease.handle_asked(0, 3, 70);
        lease.handle_answer(0, 3, &head(7, 0, true));
        lease.handle_read(0, &read(6, 9));
        assert_eq!(lease.since(false), None, "another life of the log");
        lease.handle_read(0, &read(7, 0));
        assert_eq!(lease.since(false), Some(70));
    }

    #[test]
    fn a_witness_knows_its_own_log_while_it_votes() {
        let mut lease = Lease::new(Electorate::of(3), Some(0), 3);
        lease.handle_asked(1, 1, 40);
        lease.handle_answer(1, 1, &head(7, 0, true));
        lease.handle_read(1, &read(7, 0));
        assert_eq!((lease.since(true), lease.since(false)), (Some(40), None));
        assert_eq!(Lease::new(Electorate::of(1), Some(0), 1).since(true), Some(ALWAYS));
        assert_eq!(Lease::new(Electorate::of(1), Some(0), 1).since(false), None);
    }

    #[test]
    fn many_open_questions_stay_few() {
        let mut lease = Lease::new(Electorate::of(1), None, 1);
        for nonce in 0..1000 {
            lease.handle_asked(0, nonce, nonce);
            lease.handle_answer(0, nonce, &head(7, nonce, true));
        }
        assert!(lease.witnesses[0].answered.len() <= OPEN_MAX);
        lease.handle_read(0, &read(7, 0));
        assert_eq!(lease.since(false), Some(0), "the oldest answer is the first to be reached");
        lease.handle_read(0, &read(7, 999));
        assert_eq!(lease.since(false), Some(999));
    }

    #[test]
    fn margins_are_on_the_safe_side() {
        assert!(within(1000, 5000, 5990) && !within(1000, 5000, 5991));
        assert!(within(1000, ALWAYS, 5));
        assert_eq!(fenced_after(1000), 1011);
    }
}
