//! Signed zones: who may have how much signed, and what is signed already.

use std::collections::BTreeSet;

use domain::rdata::{Nsec, Rrsig};

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

/// The config and more, with its first zone signed, and the folder of the key.
fn signed(more: &str) -> (Config, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zone.pem");
    crate::dns::signed::ZoneKey::make(&path).unwrap();
    let mut config = config_with(more);
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
    let (config, _dir) = signed("");
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
    let (config, _dir) = signed("");
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
    let (config, _dir) = signed("");
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

/// A zone without keys below the signed one.
const PLAIN: &str = "[[zones]]\nname = \"plain.demo.test\"\n\n[[zones.name_servers]]\nname = \"ns1.plain.demo.test\"\naddresses = [\"192.0.2.54\"]\n";

/// The NSEC of an answer and its section: the next name and the types.
fn nsec(answer: &[u8]) -> Option<(&'static str, String, Vec<Rtype>)> {
    let message = Message::from_slice(answer).unwrap();
    let sections = [("answer", message.answer().unwrap()), ("authority", message.authority().unwrap())];
    sections.into_iter().find_map(|(section, records)| {
        let mut records = records.map(|record| record.unwrap());
        records.find_map(|record| {
            let data = record.to_record::<Nsec<_, _>>().unwrap()?.into_data();
            Some((section, data.next_name().to_string(), data.types().iter().collect()))
        })
    })
}

/// They were denied, by an NSEC and a signature that said that there are both: no validator believed that.
#[test]
fn whoever_asks_for_nsec_or_rrsig_itself_gets_it() {
    let (config, _dir) = signed(PLAIN);
    let mut desk = desk_of(&config, plain(None));
    let own = [Rtype::RRSIG, Rtype::NSEC];
    for (name, types) in [
        ("shop.demo.test", &[Rtype::A][..]),
        ("x.demo.test", &[]),
        ("a.b.apps.demo.test", &[Rtype::A]),
        ("no.such.demo.test", &[Rtype::NXNAME]),
        ("demo.test", &[Rtype::NS, Rtype::SOA, Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY]),
    ] {
        let answer = desk.answer(&wants(name, Rtype::NSEC), sender(0), Vec::new());
        let (section, next, told) = nsec(&answer).unwrap();
        let expected: BTreeSet<_> = types.iter().chain(&own).copied().collect();
        assert_eq!((section, next, BTreeSet::from_iter(told)), ("answer", format!("\\000.{name}"), expected), "{name}");
        assert_eq!(signatures(&answer).iter().map(|(covered, _)| *covered).collect::<Vec<_>>(), [Rtype::NSEC]);
        let answer = desk.answer(&wants(name, Rtype::RRSIG), sender(0), Vec::new());
        assert_eq!((nsec(&answer), signatures(&answer).len()), (None, 1), "{name}");
        assert_eq!(Message::from_slice(&answer).unwrap().header_counts().ancount(), 1);
    }
    // who wants no signatures may ask for one all the same
    let mut plainly = |name, rtype: Rtype| {
        let answer = desk.answer(&Odd::new(name, rtype.to_int(), &[]).bytes(), sender(0), Vec::new());
        (Message::from_slice(&answer).unwrap().header().rcode(), nsec(&answer).is_some(), signatures(&answer).len())
    };
    assert_eq!(plainly("shop.demo.test", Rtype::NSEC), (Rcode::NOERROR, true, 0));
    assert_eq!(plainly("shop.demo.test", Rtype::RRSIG), (Rcode::NOERROR, false, 1));
    assert_eq!(plainly("no.such.demo.test", Rtype::NSEC), (Rcode::NXDOMAIN, false, 0));
    assert_eq!(plainly("plain.demo.test", Rtype::NSEC), (Rcode::NOERROR, false, 0), "not signed");
}

#[test]
fn the_zone_above_denies_the_keys_of_one_that_has_none_and_speaks_of_no_name_in_it() {
    let (config, _dir) = signed(PLAIN);
    let answer = desk_of(&config, plain(None)).answer(&wants("plain.demo.test", Rtype::DS), sender(0), Vec::new());
    let types = vec![Rtype::NS, Rtype::RRSIG, Rtype::NSEC];
    assert_eq!(nsec(&answer).unwrap(), ("authority", "plain\\000.demo.test".to_owned(), types));
}

#[test]
fn what_was_published_yesterday_is_given_out_until_it_is_made_anew() {
    let (config, _dir) = signed("");
    let view = Arc::new(ArcSwap::from_pointee(View::compile(&config, &geo::Base::embedded().unwrap()).unwrap()));
    let fleet = Arc::new(ArcSwap::from_pointee(fleet([RegionState::Up; 2])));
    let mut desk = Desk::new(Arc::clone(&view), fleet, plain(None));
    let now_unix_s = clock::unix_ms() / 1_000;
    // from how many days ago the signature holds, which is from a day before it was made
    let mut from = || {
        let told = asked(&mut desk, sender(0), "shop.demo.test", Rtype::A);
        assert_eq!(told.len(), 1);
        now_unix_s / DAY_S - told[0].1 / DAY_S
    };
    for (days_ago, held_from) in [(1, 2), (4, 5), (0, 1), (2, 3)] {
        view.load().publish(now_unix_s - days_ago * DAY_S);
        assert_eq!(from(), held_from);
    }
    view.load().publish(now_unix_s - 5 * DAY_S);
    assert_eq!(from(), 1, "too old: made when it is asked for");
    // and in the background
    view.load().publish(now_unix_s - DAY_S);
    assert_eq!(from(), 2);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = Tasks::new();
    let running = async { tokio::time::timeout(Duration::from_secs(1), crate::dns::signed::renew(view, tasks)).await };
    assert!(runtime.block_on(running).is_err(), "it goes on");
    assert_eq!(from(), 1);
}
