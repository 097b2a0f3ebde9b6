//! Signed zones: who may have how much signed, and what is signed already.

use domain::rdata::Rrsig;

use super::{
    protocol::{Odd, desk_of, plain},
    *,
};
use crate::clock;

/// The EDNS flag of who wants signatures (RFC 3225), in OPT's octets behind the version.
const DO: u8 = 0x80;
/// Where they stand in [`Odd::bytes`] from the end, when there is no option.
const DO_FROM_END: usize = 4;
const DAY_S: u64 = 86_400;

/// The config with its zone signed, and the folder of the key.
fn signed() -> (Config, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zone.pem");
    crate::dns::signed::ZoneKey::make(&path).unwrap();
    let mut config = config();
    config.zones[0].dnssec_keys = vec![path];
    (config, dir)
}

fn wants(name: &str, rtype: Rtype) -> Vec<u8> {
    let mut bytes = Odd::new(name, rtype.to_int(), &[]).bytes();
    let at = bytes.len() - DO_FROM_END;
    bytes[at] = DO;
    bytes
}

/// A sender, in a block of its own.
fn sender(block: u32) -> IpAddr {
    IpAddr::V4((0x5b00_0001 + (block << 8)).into())
}

/// What the signatures of an answer are over, and from when they hold, in seconds since the Unix epoch; none if the answer
/// is short or a failure.
fn signatures(answer: &[u8]) -> Vec<(Rtype, u64)> {
    let Ok(message) = Message::from_slice(answer) else { return Vec::new() };
    let records = message.answer().unwrap().chain(message.authority().unwrap()).map(|record| record.unwrap());
    let signature = |record: domain::base::ParsedRecord<'_, [u8]>| {
        let rrsig = record.to_record::<Rrsig<_, _>>().unwrap()?.into_data();
        Some((rrsig.type_covered(), rrsig.inception().to_string().parse().unwrap()))
    };
    records.filter_map(signature).collect()
}

fn asked(desk: &mut Desk, peer: IpAddr, name: &str, rtype: Rtype) -> Vec<(Rtype, u64)> {
    signatures(&desk.answer(&wants(name, rtype), peer, Vec::new()))
}

/// How many of as many queries for names that do not exist get signatures.
fn denials(desk: &mut Desk, peer: IpAddr, count: u32) -> usize {
    (0..count)
        .filter(|at| {
            !asked(desk, peer, &format!("n{at}.{}.demo.test", peer.to_string().replace('.', "-")), Rtype::A).is_empty()
        })
        .count()
}

/// One block, forged or not, had all signed that a node signs, also what it was not sent then.
#[test]
fn a_flood_from_one_block_leaves_signatures_to_others() {
    let (config, _dir) = signed();
    let over_udp = desk_of(&config, plain(Some(1_000)));
    let over_tcp = desk_of(&config, plain(Some(1_000))).without_rates();
    let unlimited = desk_of(&config, plain(None));
    for (mut desk, most) in [(over_udp, 250), (over_tcp, 250), (unlimited, 250)] {
        let began = clock::instant();
        let flood = denials(&mut desk, sender(0), 1_500);
        // a hundred at once and as many a second
        let most = most + began.elapsed().as_millis() as usize / 10;
        assert!((20..most).contains(&flood), "{flood}");
        for block in 1..5 {
            assert_eq!(denials(&mut desk, sender(block), 20), 20);
        }
    }
}

#[test]
fn what_is_not_sent_is_not_signed() {
    let (config, _dir) = signed();
    let mut desk = desk_of(&config, plain(Some(60)));
    let began = clock::instant();
    let mut ask = |name: String| usize::from(!asked(&mut desk, sender(0), &name, Rtype::A).is_empty());
    let whole: usize = (0..400).map(|at| ask(format!("n{at}.demo.test"))).sum();
    let most = 60 + 1 + began.elapsed().as_millis() as usize * 60 / 1_000;
    assert!((60..=most).contains(&whole), "{whole} in {:?}", began.elapsed());
    // the rest of its part is there for answers of another kind
    let whole: usize = (0..60).map(|at| ask(format!("n{at}.apps.demo.test"))).sum();
    assert!((35..=60).contains(&whole), "{whole} in {:?}", began.elapsed());
    assert!(desk.counters().count(Event::Limited) > 100 && desk.counters().count(Event::Withheld) > 100);
}

/// A flood for random names pushed the signatures of sites out, or left none to be made, and sites got SERVFAIL.
#[test]
fn a_flood_from_everywhere_for_names_that_do_not_exist_leaves_what_sites_need_alone() {
    let (config, _dir) = signed();
    let mut desk = desk_of(&config, plain(Some(1_000))).without_rates();
    let mut fresh = 0..50_000u32;
    let mut is_spent = |desk: &mut Desk| {
        // from as many blocks as it takes, each within its part
        fresh.any(|at| asked(desk, sender(at / 50), &format!("n{at}.demo.test"), Rtype::A).is_empty())
    };
    // published, and what was not known before
    for (name, rtype, over) in [
        ("shop.demo.test", Rtype::A, Rtype::A),
        ("demo.test", Rtype::DNSKEY, Rtype::DNSKEY),
        ("shop.demo.test", Rtype::MX, Rtype::NSEC),
        ("apps.demo.test", Rtype::A, Rtype::NSEC),
        ("demo.test", Rtype::A, Rtype::NSEC),
        ("ns1.demo.test", Rtype::A, Rtype::A),
    ] {
        assert!(is_spent(&mut desk), "what there is for names that do not exist");
        let told = asked(&mut desk, sender(5_000), name, rtype);
        assert!(told.iter().any(|(covered, _)| *covered == over), "{name} {rtype}: {told:?}");
    }
}

#[test]
fn what_was_published_yesterday_is_given_out_until_it_is_made_anew() {
    let (config, _dir) = signed();
    let view = Arc::new(ArcSwap::from_pointee(View::compile(&config, &geo::Base::embedded().unwrap()).unwrap()));
    let fleet = Arc::new(ArcSwap::from_pointee(fleet([RegionState::Up; 2])));
    let mut desk = Desk::new(Arc::clone(&view), fleet, plain(None));
    let now_unix_s = clock::unix_ms() / 1_000;
    let mut from = |days_ago: u64| {
        view.load().publish(now_unix_s - days_ago * DAY_S);
        let told = asked(&mut desk, sender(0), "shop.demo.test", Rtype::A);
        assert_eq!(told.len(), 1);
        now_unix_s / DAY_S - told[0].1 / DAY_S
    };
    // they hold from a day before
    assert_eq!(from(1), 2);
    assert_eq!(from(4), 5);
    assert_eq!(from(5), 1, "too old: made when it is asked for");
    assert_eq!(from(0), 1);
    assert_eq!(from(2), 3);
    assert_eq!(from(0), 1);
}
