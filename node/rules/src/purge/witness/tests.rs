#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use region_config::SiteId;

use super::*;
use crate::purge::{Mode, PurgeKey};

fn event(key: u64) -> Arc<Event> {
    let site = SiteId::parse("shop").unwrap();
    Arc::new(Event::new(Some(site), Mode::Hard, vec![PurgeKey::Site], key.to_string()).unwrap())
}

/// A lone witness's log, which votes at once.
fn log() -> Witness {
    Witness::without_past(7, 0, 1, 100)
}

/// The log of witness 0 of three, without a past.
fn lost() -> Witness {
    Witness::without_past(7, 0, 3, 100)
}

#[test]
fn readers_get_only_what_is_on_disk() {
    let mut log = log();
    log.handle_event(&event(1));
    log.handle_event(&event(2));
    assert_eq!(log.tail(7, 0, 10), Tail::UpToDate);
    assert_eq!(log.head().seq, 0);
    log.handle_durable(1);
    let Tail::Records(records) = log.tail(7, 0, 10) else { panic!() };
    assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), [1]);
    assert_eq!(log.head().seq, 1);
}

#[test]
fn an_event_is_stored_once() {
    let mut log = log();
    assert_eq!(log.handle_event(&event(1)), Append::At { seq: 1, new: true });
    assert_eq!(log.handle_event(&event(1)), Append::At { seq: 1, new: false });
    assert_eq!(log.poll_fresh().0.len(), 1);
}

#[test]
fn a_full_log_refuses_and_says_so() {
    let mut log = Witness::without_past(7, 0, 1, 2);
    let stored = (0..20).take_while(|key| log.handle_event(&event(*key)) != Append::Full).count();
    assert_eq!(stored, 8);
}

#[test]
fn a_witness_that_lost_its_log_votes_only_after_enough_others_were_read() {
    let mut witness = lost();
    assert!(!witness.voting());
    witness.handle_confirmed(0, true, false);
    assert!(!witness.voting(), "it does not count itself");
    witness.handle_confirmed(1, true, false);
    assert!(!witness.voting(), "one of two is no cover of every majority");
    witness.handle_confirmed(2, true, false);
    assert!(witness.voting());
}

#[test]
fn it_votes_only_when_what_it_read_is_on_disk() {
    let mut witness = lost();
    witness.handle_event(&event(1));
    witness.handle_confirmed(1, true, false);
    witness.handle_confirmed(2, true, false);
    assert!(!witness.voting());
    witness.handle_durable(1);
    assert!(witness.voting());
}

#[test]
fn a_new_realm_begins_when_all_witnesses_have_met() {
    let mut witness = lost();
    witness.handle_confirmed(1, false, false);
    assert!(!witness.voting());
    witness.handle_confirmed(2, false, false);
    assert!(witness.voting());
    assert_eq!(witness.head().base, 1);
}

#[test]
fn of_five_three_voting_others_are_enough_and_silent_ones_do_not_count() {
    let mut witness = Witness::without_past(7, 0, 5, 100);
    for (other, voting) in [(1, true), (2, false), (3, true)] {
        witness.handle_confirmed(other, voting, false);
        assert!(!witness.voting());
    }
    witness.handle_confirmed(4, true, false);
    assert!(witness.voting());
}

#[test]
fn a_log_rebuilt_from_shortened_ones_is_itself_shortened() {
    let mut witness = lost();
    witness.handle_event(&event(1));
    witness.handle_durable(1);
    witness.handle_confirmed(1, true, true);
    witness.handle_confirmed(2, true, false);
    assert_eq!(witness.head().base, 2);
    assert_eq!(witness.tail(7, 0, 10), Tail::Gone);
}

#[test]
fn a_reader_that_knows_more_shows_that_the_disk_was_set_back() {
    let mut log = log();
    log.handle_event(&event(1));
    log.handle_durable(1);
    let here = Cursor { epoch: 7, seq: 1, chain: log.head().chain };
    assert_eq!(log.reader(&here), Reader::Follows);
    assert_eq!(log.reader(&Cursor { seq: 2, ..here }), Reader::Ahead);
    assert_eq!(log.reader(&Cursor { chain: 0, ..here }), Reader::Ahead, "other records at the same place");
    assert_eq!(log.reader(&Cursor { epoch: 8, ..here }), Reader::Behind);
    let mut shared = lost();
    shared.handle_set_back(9);
    assert!(!shared.voting() && shared.head().epoch == 9);
}

#[test]
fn only_what_a_majority_holds_is_dropped() {
    let mut witness = lost();
    witness.handle_confirmed(1, true, false);
    witness.handle_confirmed(2, true, false);
    for key in 1..=300 {
        witness.handle_event(&event(key));
    }
    witness.handle_durable(300);
    assert_eq!(witness.poll_compact(), None, "nobody else holds it");
    witness.handle_held(2, 150);
    assert_eq!(witness.poll_compact(), Some(150));
    witness.handle_held(1, 290);
    assert_eq!(witness.poll_compact(), Some(200), "the newest are kept for readers that come back");
    let Tail::Records(records) = witness.tail(7, 199, 1) else { panic!() };
    witness.handle_compact(200, records[0].chain);
    assert_eq!(witness.head().base, 201);
    assert_eq!(witness.reader(&Cursor { epoch: 7, seq: 100, chain: 0 }), Reader::Behind);
    assert_eq!(witness.tail(7, 100, 1), Tail::Gone);
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let mut log = log();
    for key in 1..=10 {
        log.handle_event(&event(key));
    }
    let (records, state) = log.poll_fresh();
    let ids = records.iter().map(|record| (record.seq, record.event.id())).collect();
    let saved = SavedWitness { state: state.unwrap(), ids, newest: records };
    let mut again = Witness::restored(saved, 0, 1, 100);
    assert!(again.voting());
    assert_eq!(again.appended(), log.appended());
    assert_eq!(again.handle_event(&event(3)), Append::At { seq: 3, new: false });
    assert_eq!(again.handle_event(&event(11)), Append::At { seq: 11, new: true });
}

/// The log of witness 3, which is new: 0, 1 and 2 are replaced by 2, 3 and 4.
fn coming() -> Witness {
    Witness::without_past(7, 3, 5, 100).under(Electorate::joint(vec![0, 1, 2], vec![2, 3, 4]))
}

#[test]
fn a_new_witness_votes_when_it_has_read_the_old_ones_and_met_the_other_new_ones() {
    let mut witness = coming();
    witness.handle_confirmed(2, true, false);
    witness.handle_confirmed(4, false, false);
    assert!(!witness.voting(), "it has met the new ones, but not read the old ones");
    witness.handle_event(&event(1));
    witness.handle_handed_over();
    assert!(!witness.voting(), "what it read is not on disk");
    witness.handle_durable(1);
    assert!(witness.voting());

    let mut witness = coming();
    witness.handle_handed_over();
    witness.handle_confirmed(0, true, false);
    witness.handle_confirmed(1, true, false);
    assert!(!witness.voting(), "it may be one that lost what it had stored with other new ones");
    witness.handle_confirmed(2, true, false);
    assert!(!witness.voting());
    witness.handle_confirmed(4, true, false);
    assert!(witness.voting());
}

#[test]
fn a_new_witness_is_whole_without_what_the_old_ones_have_dropped() {
    let mut witness = coming();
    for (other, voting) in [(0, true), (1, true), (2, true), (4, false)] {
        witness.handle_confirmed(other, voting, true);
    }
    witness.handle_handed_over();
    assert!(witness.voting());
    assert_eq!(witness.head().base, 1, "so nobody who reads it has to jump");
}

#[test]
fn during_a_change_only_what_majorities_of_both_sets_hold_is_dropped() {
    let mut witness = Witness::without_past(7, 0, 5, 100);
    for other in 1..5 {
        witness.handle_confirmed(other, false, false);
    }
    let mut witness = witness.under(Electorate::joint(vec![0, 1, 2], vec![2, 3, 4]));
    for key in 1..=300 {
        witness.handle_event(&event(key));
    }
    witness.handle_durable(300);
    witness.handle_held(1, 300);
    witness.handle_held(2, 300);
    assert_eq!(witness.poll_compact(), None, "one of the new ones has it");
    witness.handle_held(4, 250);
    assert_eq!(witness.poll_compact(), Some(200));
}
