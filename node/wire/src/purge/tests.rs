#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]
use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use region_config::{NodeId, RealmId, SiteId};
use rules::purge::{
    Cursor, Event, Have, LogHead, Mode, Position, PurgeId, PurgeKey, Record, Roll, RollSum, SavedRoll, Stand, TailStart,
};

use super::*;

fn key() -> impl Strategy<Value = PurgeKey> {
    prop_oneof![
        ("[a-z0-9.]{1,40}", "/.{0,60}").prop_map(|(host, target)| PurgeKey::Url { host, target }),
        ("[a-z0-9.]{1,40}", "(/[a-z]{1,5}){1,16}").prop_map(|(host, path)| PurgeKey::Prefix { host, path }),
        "[a-z0-9.]{1,40}".prop_map(PurgeKey::Host),
        ".{1,60}".prop_map(PurgeKey::Tag),
        Just(PurgeKey::Site),
    ]
}

fn event() -> impl Strategy<Value = Arc<Event>> {
    let mode = prop_oneof![Just(Mode::Soft), Just(Mode::Hard)];
    let of_site = ("[a-z][a-z0-9]{0,20}", mode.clone(), vec(key(), 1..30), ".{1,60}");
    let of_site = of_site.prop_map(|(site, mode, keys, idempotency)| {
        Arc::new(Event::new(Some(SiteId::parse(&site).unwrap()), mode, keys, idempotency).unwrap())
    });
    let of_realm = (mode, ".{1,60}")
        .prop_map(|(mode, idempotency)| Arc::new(Event::new(None, mode, vec![PurgeKey::Realm], idempotency).unwrap()));
    prop_oneof![9 => of_site, 1 => of_realm]
}

fn record() -> impl Strategy<Value = Arc<Record>> {
    (any::<u64>(), any::<u64>(), event()).prop_map(|(seq, chain, event)| Arc::new(Record { seq, chain, event }))
}

fn realm() -> RealmId {
    RealmId::parse("eu").unwrap()
}

fn roll() -> impl Strategy<Value = RollSum> {
    any::<[u64; 3]>().prop_map(|[version, nodes, next]| RollSum { version, nodes, next })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    proptest::sample::select(Refusal::ALL.to_vec())
}

fn head() -> impl Strategy<Value = LogHead> {
    (any::<u64>(), 1..u64::MAX / 2, any::<u64>(), 0..u64::MAX / 2, any::<u64>(), any::<bool>()).prop_map(
        |(epoch, base, base_chain, more, chain, voting)| LogHead {
            epoch,
            base,
            base_chain,
            seq: base - 1 + more,
            chain,
            voting,
        },
    )
}

fn frame() -> impl Strategy<Value = TailFrame> {
    let start =
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(epoch, seq, chain, recovering)| {
            TailFrame::Start(TailStart { cursor: Cursor { epoch, seq, chain }, recovering })
        });
    let records =
        (any::<u64>(), vec(record(), 0..4)).prop_map(|(epoch, records)| TailFrame::Records { epoch, records });
    prop_oneof![
        roll().prop_map(|roll| TailFrame::Tail(realm(), roll)),
        (any::<u64>(), head(), any::<u64>(), any::<(u64, bool)>()).prop_map(|(nonce, head, unix_ms, stand)| {
            let (version, synced) = stand;
            TailFrame::Head { nonce, head, unix_ms, stand: Stand { version, synced } }
        }),
        refusal().prop_map(TailFrame::Refused),
        any::<u64>().prop_map(TailFrame::Poll),
        start,
        records,
        head().prop_map(TailFrame::Compacted),
        any::<u64>().prop_map(TailFrame::Held),
    ]
}

fn ids() -> impl Strategy<Value = Vec<PurgeId>> {
    vec(any::<u128>().prop_map(PurgeId), 0..64)
}

proptest! {
    #[test]
    fn events_and_records_come_back(record in record()) {
        let mut bytes = Vec::new();
        encode_event(&record.event, &mut bytes);
        prop_assert_eq!(bytes.len(), event_bytes(&record.event));
        prop_assert_eq!(&decode_event(&bytes).unwrap(), &*record.event);
        bytes.clear();
        encode_record(&record, &mut bytes);
        prop_assert_eq!(&decode_record(&bytes).unwrap(), &*record);
    }

    #[test]
    fn requests_and_answers_come_back(events in vec(event(), 0..5), store: bool, epoch: u64, ids in ids(), roll in roll(), why in refusal()) {
        let events = events.into_iter().map(|event| Sent { event, taken_unix_us: epoch });
        let request = Request { realm: realm(), roll, store, events: events.collect() };
        prop_assert_eq!(decode_request(&encode_request(&request)).unwrap(), request);
        let places = ids.iter().map(|id| (*id, (id.0 >> 64) as u64, Position(epoch))).collect();
        let ids = ids.into_iter().map(|id| (id, Position(epoch))).collect();
        for answer in [Answer::Applied(ids), Answer::Stored { epoch, places }, Answer::Refused(why)] {
            prop_assert_eq!(decode_answer(&encode_answer(&answer)).unwrap(), answer);
        }
    }

    #[test]
    fn tails_come_back(frame in frame()) {
        prop_assert_eq!(decode_tail(&encode_tail(&frame)).unwrap(), frame);
    }

    #[test]
    fn haves_come_back(run: u64, position: u64, places in vec(any::<(u64, u64)>(), 0..7), ids in ids()) {
        let cursors = places.iter().enumerate();
        let cursors = cursors.map(|(i, (epoch, seq))| (NodeId::parse(&format!("n{i}")).unwrap(), *epoch, *seq));
        let have = Have { run, position: Position(position), cursors: cursors.collect(), ids };
        prop_assert_eq!(decode_have(&encode_have(&have)).unwrap(), have);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
    }

    #[test]
    fn no_change_to_a_message_makes_a_reader_panic(frame in frame(), at: usize, to: u8, cut: usize) {
        let mut bytes = encode_tail(&frame);
        let at = at % bytes.len();
        bytes[at] = to;
        read_all(&bytes);
        bytes.truncate(cut % (bytes.len() + 1));
        read_all(&bytes);
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_refused(event in event(), cut: usize) {
        let mut bytes = Vec::new();
        encode_event(&event, &mut bytes);
        prop_assert!(decode_event(&bytes[..cut % bytes.len()]).is_err());
        bytes.push(0);
        prop_assert!(decode_event(&bytes).is_err());
    }
}

fn read_all(bytes: &[u8]) {
    let _fine = (decode_event(bytes), decode_record(bytes), decode_request(bytes));
    let _fine = (decode_answer(bytes), decode_tail(bytes), decode_have(bytes), decode_batch(bytes));
    let _fine = decode_roll(bytes);
}

#[test]
fn a_batch_of_a_stream_is_read_as_it_was_written_and_never_the_same_twice() {
    let site = SiteId::parse("shop").unwrap();
    let event =
        |key: &str| Arc::new(Event::new(Some(site.clone()), Mode::Soft, vec![PurgeKey::Site], key.into()).unwrap());
    for events in [vec![], vec![event("a")], vec![event("a"), event("b")]] {
        let bytes = encode_batch(7, &events);
        assert_eq!(decode_batch(&bytes).unwrap(), events);
        assert_ne!(bytes, encode_batch(8, &events));
        assert!(decode_batch(&bytes[..bytes.len() - 1]).is_err());
    }
}

#[test]
fn limits_are_kept() {
    assert_eq!(
        decode_request(&vec![2; 1 << 21]).unwrap_err().to_string(),
        "the message has 2097152 bytes, at most 1048576 are allowed"
    );
    let mut request = vec![3, 1, 0, 2, b'e', b'u'];
    request.extend_from_slice(&[0; 24]);
    request.extend_from_slice(&5000u16.to_be_bytes());
    assert!(matches!(decode_request(&request), Err(MessageFault::Limit { what: "events", .. })));
    let mut have = vec![3; 17];
    have.extend_from_slice(&[0, 8]);
    assert!(matches!(decode_have(&have), Err(MessageFault::Limit { what: "cursors", .. })));
}

#[test]
fn another_version_is_told_apart() {
    assert_eq!(decode_tail(&[2, 6, 0, 0, 0, 0, 0, 0, 0, 0]), Err(MessageFault::Version(2)));
}

#[test]
fn the_largest_event_fits_into_a_message() {
    let url = PurgeKey::Url { host: "h".repeat(255), target: format!("/{}", "x".repeat(8191)) };
    let site = SiteId::parse(&"s".repeat(63)).unwrap();
    let largest = Event::new(Some(site), Mode::Hard, vec![url; 30], "k".repeat(256)).unwrap();
    assert!(BATCH_BYTES + event_bytes(&largest) + 1024 < crate::message::MESSAGE_BYTES_MAX);
    assert!(
        decode_request(&encode_request(&Request {
            realm: realm(),
            roll: RollSum { version: 1, nodes: 2, next: 3 },
            store: true,
            events: vec![Sent { event: Arc::new(largest), taken_unix_us: 0 }]
        }))
        .is_ok()
    );
}

#[test]
fn what_a_node_remembers_of_its_witnesses_comes_back() {
    let names = |names: &[&str]| names.iter().map(|name| NodeId::parse(name).unwrap()).collect();
    for (next, complete) in [(names(&[]), false), (names(&["b", "c", "d"]), true)] {
        let saved = SavedRoll { roll: Roll { version: 7, nodes: names(&["a", "b", "c"]), next }, complete };
        let bytes = encode_roll(&saved);
        assert_eq!(decode_roll(&bytes).unwrap(), saved);
        assert!((0..bytes.len()).all(|len| decode_roll(&bytes[..len]).is_err()));
    }
}
