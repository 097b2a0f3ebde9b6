//! What the DNS codec promises.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::Ipv4Addr;

use domain::base::{
    Message, MessageBuilder,
    iana::{OptionCode, Rcode},
};
use proptest::prelude::*;

use super::*;

/// A query for `name`, with what `opt` adds.
fn query(name: &str, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((Name::vec_from_str(name).unwrap(), Rtype::A)).unwrap();
    let mut additional = question.additional();
    additional
        .opt(|opt| {
            opt.set_udp_payload_size(4096);
            for (code, data) in options {
                let length = u16::try_from(data.len()).unwrap();
                opt.push_raw_option(OptionCode::from_int(*code), length, |target| {
                    target.extend_from_slice(data);
                    Ok(())
                })?;
            }
            Ok(())
        })
        .unwrap();
    additional.finish()
}

const ECS: u16 = 8;

fn fault(rcode: Rcode, edns: bool) -> Fault {
    Fault::Reply { rcode: rcode.into(), edns }
}

fn reply<'a>(answer: &'a [Record<'a>]) -> Reply<'a> {
    Reply { authoritative: true, answer, scope: 19, ..Reply::error(Rcode::NOERROR, None) }
}

#[test]
fn a_query_is_read_and_its_name_is_compared_in_lower_case() {
    let bytes = query("wWw.ExAmple.COM.", &[(ECS, &[0, 1, 24, 0, 203, 0, 113])]);
    let query = parse(&bytes).unwrap();
    assert_eq!(query.name.as_slice(), b"\x03www\x07example\x03com\x00");
    let subnet = query.subnet().unwrap();
    assert_eq!((subnet.address, subnet.source), ("203.0.113.0".parse().unwrap(), 24));
    assert_eq!(query.udp_bytes(), UDP_BYTES_MAX);
}

#[test]
fn an_answer_keeps_the_case_and_echoes_the_subnet_with_its_scope() {
    let bytes = query("wWw.ExAmple.COM.", &[(ECS, &[0, 1, 21, 0, 203, 0, 112])]);
    let query = parse(&bytes).unwrap();
    let records = [1, 2].map(|n| Record { owner: None, ttl_s: 30, data: Data::A(Ipv4Addr::new(192, 0, 2, n)) });
    let answer = compose(&query, &reply(&records), UDP_BYTES_MAX, Vec::new());
    let message = Message::from_slice(&answer).unwrap();
    assert!(message.is_answer(Message::from_slice(&bytes).unwrap()));
    assert!(answer.windows(7).any(|octets| octets == b"ExAmple"));
    assert!(message.header().aa() && message.header().rd() && !message.header().tc());
    assert_eq!(message.header_counts().ancount(), 2);
    let subnet = message.opt().unwrap().opt().client_subnet().unwrap();
    assert_eq!((subnet.source_prefix_len(), subnet.scope_prefix_len()), (21, 19));
    assert_eq!(subnet.addr(), "203.0.112.0".parse::<std::net::IpAddr>().unwrap());
}

#[test]
fn source_0_and_no_family_get_scope_0() {
    for data in [[0, 0, 0, 0], [0, 1, 0, 0], [0, 2, 0, 0]] {
        let bytes = query("a.example.", &[(ECS, &data)]);
        let query = parse(&bytes).unwrap();
        assert_eq!(query.subnet(), None);
        let answer = compose(&query, &reply(&[]), UDP_BYTES_MAX, Vec::new());
        assert_eq!(answer[answer.len() - 4..], data);
    }
}

#[test]
fn a_malformed_subnet_is_a_format_error() {
    let bad: [&[u8]; 12] = [
        &[],
        &[0, 1, 24],
        &[0, 1, 24, 0, 203, 0],
        &[0, 1, 24, 0, 203, 0, 113, 0],
        &[0, 1, 23, 0, 203, 0, 113],
        &[0, 1, 24, 24, 203, 0, 113],
        &[0, 1, 33, 0, 1, 2, 3, 4, 0],
        &[0, 2, 129, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0],
        &[0, 3, 8, 0, 1],
        &[0, 0, 8, 0, 1],
        &[1, 1, 8, 0, 1],
        &[0, 1, 0, 0, 0],
    ];
    for data in bad {
        let bytes = query("a.example.", &[(ECS, data)]);
        assert_eq!(parse(&bytes).unwrap_err(), fault(Rcode::FORMERR, true), "{data:?}");
    }
    let good: &[u8] = &[0, 1, 8, 0, 10];
    let twice = query("a.example.", &[(ECS, good), (ECS, good)]);
    assert_eq!(parse(&twice).unwrap_err(), fault(Rcode::FORMERR, true));
}

#[test]
fn what_is_no_proper_query_is_refused_or_dropped() {
    let good = query("a.example.", &[]);
    assert!(parse(&good).is_ok());
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        parse(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(&|b| b.truncate(11)), Fault::Drop);
    assert_eq!(with(&|b| b[2] |= 0x80), Fault::Drop);
    assert_eq!(with(&|b| b[2] |= 0x28), fault(Rcode::NOTIMP, true));
    assert_eq!(with(&|b| b[5] = 0), fault(Rcode::FORMERR, false));
    let no_question = query("a.example.", &[]).split_off(12 + 11 + 4);
    let empty = [&good[..5], &[0], &good[6..12], &no_question].concat();
    assert_eq!(parse(&empty).unwrap_err(), fault(Rcode::FORMERR, true), "QDCOUNT 0 without a cookie (RFC 9619)");
    assert_eq!(with(&|b| b[5] = 2), fault(Rcode::FORMERR, false));
    assert_eq!(with(&|b| b[7] = 1), fault(Rcode::FORMERR, false));
    assert_eq!(with(&|b| b.push(0)), fault(Rcode::FORMERR, true));
    assert_eq!(with(&|b| b.truncate(b.len() - 1)), fault(Rcode::FORMERR, false));
    let opt = good.len() - 11;
    assert_eq!(with(&|b| b[opt + 6] = 1), Fault::Reply { rcode: OptRcode::BADVERS, edns: true });
    let odd_options = with(&|b| {
        (b[opt + 6], b[opt + 10]) = (1, 3);
        b.extend([255; 3]);
    });
    assert_eq!(
        odd_options,
        Fault::Reply { rcode: OptRcode::BADVERS, edns: true },
        "whatever another version has there"
    );
    let two_opts = with(&|b| {
        b[11] = 2;
        b.extend_from_within(opt..);
    });
    assert_eq!(two_opts, fault(Rcode::FORMERR, true));
}

/// Whoever asks for changes sends the SOA record that they have as authority: that was a format error.
#[test]
fn a_question_for_changes_may_say_since_when() {
    let soa = [&[0, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0][..], &[0; 20]].concat();
    let asked = |rtype: u8, authority: u8| {
        let head = [0, 7, 0, 0, 0, 1, 0, 0, 0, authority, 0, 0];
        let message = [&head[..], &[1, b'a', 0, 0, rtype, 0, 1], &soa.repeat(usize::from(authority))].concat();
        parse(&message).map(|query| query.rtype)
    };
    assert_eq!(asked(251, 1).unwrap(), Rtype::IXFR);
    for (rtype, authority) in [(251, 2), (252, 1), (1, 1)] {
        assert_eq!(asked(rtype, authority).unwrap_err(), fault(Rcode::FORMERR, false), "{rtype} {authority}");
    }
}

#[test]
fn a_fault_is_answered_with_id_and_question_and_without_records() {
    let mut bytes = query("a.example.", &[]);
    let opt = bytes.len() - 11;
    bytes[opt + 6] = 1;
    let fault = parse(&bytes).map(|_| ()).unwrap_err();
    let answer = compose_fault(&bytes, &fault, Vec::new());
    let message = Message::from_slice(&answer).unwrap();
    assert_eq!((message.header().id(), message.opt_rcode()), (0x1234, OptRcode::BADVERS));
    assert_eq!(message.sole_question().unwrap().qname().to_string(), "a.example");
    assert!(compose_fault(&bytes, &Fault::Drop, vec![1]).is_empty());
}

#[test]
fn what_does_not_fit_is_truncated_and_says_so() {
    let bytes = query("a.example.", &[(ECS, &[0, 1, 24, 0, 203, 0, 113])]);
    let query = parse(&bytes).unwrap();
    let record = Record { owner: None, ttl_s: 30, data: Data::A(Ipv4Addr::LOCALHOST) };
    let records = [record; 60];
    for (bytes_max, whole) in [(512, false), (1232, true)] {
        let answer = compose(&query, &reply(&records), bytes_max, Vec::new());
        let message = Message::from_slice(&answer).unwrap();
        assert!(answer.len() <= bytes_max);
        assert_eq!(message.header().tc(), !whole);
        assert_eq!(message.header_counts().ancount(), if whole { 60 } else { 0 });
        assert!(message.opt().unwrap().opt().client_subnet().is_some());
    }
}

/// Header, `name` in wire format, type A, class IN.
fn with_name(name: &[u8]) -> Vec<u8> {
    [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 1, 0, 1]].concat()
}

#[test]
fn names_that_are_too_long_or_point_anywhere_are_format_errors() {
    let label = |octets: u8| [&[octets][..], &vec![b'a'; usize::from(octets)]].concat();
    let longest = [label(63), label(63), label(63), label(61), vec![0]].concat();
    assert_eq!(longest.len(), 255);
    assert!(parse(&with_name(&longest)).is_ok());
    let too_long = [label(63), label(63), label(63), label(62), vec![0]].concat();
    let many = [[1, b'a'].repeat(128), vec![0]].concat();
    let bad: [&[u8]; 10] = [
        &too_long,
        &many,
        &[64, 0],
        &[0x80, 0],
        &[0xc0, 12],
        &[1, b'a', 0xc0, 12],
        &[0xc0, 0xff],
        &[1, b'a', 0xc0, 0],
        &[5, b'a'],
        &[],
    ];
    for name in bad {
        assert_eq!(parse(&with_name(name)).unwrap_err(), fault(Rcode::FORMERR, false), "{}", name.escape_ascii());
    }
}

const COOKIE: u16 = 10;
const NSID: u16 = 3;
/// RFC 9018 appendix A.
const SECRET: [u8; 16] = 0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes();
const CLIENT: [u8; 8] = 0x2464_c4ab_cf10_c957_u64.to_be_bytes();

fn secrets() -> CookieSecrets {
    CookieSecrets { made_with: SECRET, also_taken: None }
}

fn judged(secrets: &CookieSecrets, cookie: &[u8], peer: &str, unix_s: u32) -> CookieJudged {
    let bytes = query("a.example.", &[(COOKIE, cookie)]);
    secrets.judge(&parse(&bytes).unwrap(), peer.parse().unwrap(), unix_s).unwrap()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn server_cookies_are_those_of_rfc_9018() {
    let first = judged(&secrets(), &CLIENT, "198.51.100.100", 1_559_731_985);
    assert_eq!((first.proven, first.shown), (false, false));
    assert_eq!(hex(&first.reply), "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "A.1");
    let renewed = judged(&secrets(), &first.reply, "198.51.100.100", 1_559_734_385);
    assert!(renewed.proven && renewed.shown);
    assert_eq!(hex(&renewed.reply), "2464c4abcf10c957010000005cf7a871d4a564a1442aca77", "A.2");
    let soon = judged(&secrets(), &first.reply, "198.51.100.100", 1_559_731_985 + 1_800);
    assert_eq!(soon.reply, first.reply, "no new one in the first half hour");
}

#[test]
fn a_cookie_holds_for_an_hour_for_its_address_and_secret() {
    let (peer, made) = ("2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961);
    let given = judged(&secrets(), &CLIENT, peer, made).reply;
    for (after_s, proven) in [(0, true), (3_600, true), (3_601, false), (-300, true), (-301, false), (i32::MIN, false)]
    {
        let told = judged(&secrets(), &given, peer, made.wrapping_add_signed(after_s));
        assert_eq!((told.proven, told.shown), (proven, true), "{after_s}");
    }
    assert!(!judged(&secrets(), &given, "2001:db8:220:1:59de:d0f4:8769:82b9", made).proven, "another address");
    let mut forged = given;
    forged[23] ^= 1;
    assert!(!judged(&secrets(), &forged, peer, made).proven);
    let rolled = CookieSecrets { made_with: [7; 16], also_taken: Some(SECRET) };
    let told = judged(&rolled, &given, peer, made);
    assert!(told.proven && told.reply != given, "taken, and replaced by one of the new secret");
    assert!(!judged(&CookieSecrets { also_taken: None, ..rolled }, &given, peer, made).proven);
    // of other servers, in forms that are not RFC 9018's
    for length in [8, 15, 17, 32] {
        assert!(!judged(&secrets(), &[&CLIENT[..], &vec![1; length]].concat(), peer, made).proven);
    }
}

#[test]
fn a_malformed_cookie_is_a_format_error_and_of_two_the_first_counts() {
    for length in [0, 1, 7, 9, 15, 41, 60] {
        let bytes = query("a.example.", &[(COOKIE, &vec![1; length])]);
        assert_eq!(parse(&bytes).unwrap_err(), fault(Rcode::FORMERR, true), "{length}");
    }
    let bytes = query("a.example.", &[(COOKIE, &CLIENT), (COOKIE, &[1])]);
    let told = secrets().judge(&parse(&bytes).unwrap(), "192.0.2.1".parse().unwrap(), 0).unwrap();
    assert_eq!(told.reply[..8], CLIENT);
}

#[test]
fn a_cookie_may_come_instead_of_a_question() {
    let mut bytes = query(".", &[(COOKIE, &CLIENT)]);
    // without its question: the root, a type and a class
    bytes.drain(12..17);
    bytes[5] = 0;
    let Err(Fault::Cookie(edns)) = parse(&bytes) else { panic!("{:?}", parse(&bytes)) };
    let peer = "192.0.2.1".parse().unwrap();
    let first = secrets().judge_alone(&edns, peer, 1_000).unwrap();
    let ask = |shown: &CookieJudged| {
        let answer = compose_cookie(&bytes, shown, Vec::new());
        let message = Message::from_slice(&answer).unwrap();
        assert_eq!((message.header().id(), message.header_counts().qdcount()), (0x1234, 0));
        assert!(message.header().qr() && message.opt().unwrap().opt().cookie().is_some());
        message.opt_rcode()
    };
    assert_eq!(ask(&first), OptRcode::NOERROR);
    assert_eq!(ask(&CookieJudged { shown: true, ..first }), OptRcode::BADCOOKIE);
    assert_eq!(ask(&CookieJudged { shown: true, proven: true, ..first }), OptRcode::NOERROR);
}

#[test]
fn replies_carry_what_is_owed_and_keep_room_for_it() {
    let bytes = query("a.example.", &[(ECS, &[0, 1, 24, 0, 203, 0, 113]), (COOKIE, &CLIENT), (NSID, &[])]);
    let mut query = parse(&bytes).unwrap();
    assert!(query.edns.as_ref().unwrap().nsid);
    query.owed = Owed { cookie: Some([5; COOKIE_BYTES]), nsid: Some(b"fra-1") };
    let record = Record { owner: None, ttl_s: 30, data: Data::A(Ipv4Addr::LOCALHOST) };
    let records = [record; 80];
    for count in 0..80 {
        let extended = Some(ExtendedErrorCode::OTHER);
        let reply = Reply { extended, ..reply(&records[..count]) };
        let answer = compose(&query, &reply, 512, Vec::new());
        let message = Message::from_slice(&answer).unwrap();
        assert!(answer.len() <= 512, "{count}");
        let opt = message.opt().unwrap();
        assert_eq!(opt.opt().cookie().unwrap().client().into_octets(), [5; 8]);
        assert!(answer.windows(9).any(|octets| octets == b"\0\x03\0\x05fra-1"), "{count}");
        assert_eq!(message.header().tc(), message.header_counts().ancount() == 0 && count > 0);
    }
}

#[test]
fn a_short_answer_is_hardly_longer_than_the_query_and_says_what_to_do() {
    let bytes = query("a.b.example.", &[(ECS, &[0, 1, 24, 0, 203, 0, 113])]);
    let query = parse(&bytes).unwrap();
    let answer = compose_short(&query, OptRcode::NOERROR, Vec::new());
    let message = Message::from_slice(&answer).unwrap();
    assert!(message.header().tc() && answer.len() <= bytes.len());
    let answer = compose_short(&query, OptRcode::BADCOOKIE, answer);
    let message = Message::from_slice(&answer).unwrap();
    assert_eq!((message.opt_rcode(), message.header().tc()), (OptRcode::BADCOOKIE, false));
}

/// An answer that had exactly the length that its client takes was cut to nothing. Where the quick way writes it, `compose`
/// compares it with the general one.
#[test]
fn an_answer_that_just_fits_is_whole() {
    let with_edns = query("a.b.example.", &[(ECS, &[0, 1, 24, 0, 203, 0, 113]), (NSID, &[])]);
    let bare = [&with_edns[..11], &[0], &with_edns[12..HEADER + 13 + 4]].concat();
    let owed = Owed { cookie: Some([5; COOKIE_BYTES]), nsid: Some(b"fra-1") };
    let soa = Soa {
        mname: Name::vec_from_str("ns.example").unwrap(),
        rname: Name::vec_from_str("h.example").unwrap(),
        serial: Serial(1),
        minimum_s: 30,
    };
    let record = |data| Record { owner: None, ttl_s: 30, data };
    let a = vec![record(Data::A(Ipv4Addr::LOCALHOST)); 29];
    let many = vec![record(Data::A(Ipv4Addr::LOCALHOST)); 4_100];
    let minimal = [record(Data::Minimal)];
    let soa = [record(Data::Soa(&soa))];
    for bytes in [&with_edns, &bare] {
        let parsed = parse(bytes).unwrap();
        let owed = if parsed.edns.is_some() { owed } else { Owed::default() };
        let asked = Query { owed, ..parsed };
        for reply in [reply(&a), reply(&minimal), reply(&many[..4_090]), Reply { authority: &soa, ..reply(&[]) }] {
            let whole = compose(&asked, &reply, usize::MAX, Vec::new());
            for (room, fits) in [(0, true), (1, true), (-1, false)] {
                let answer = compose(&asked, &reply, whole.len().saturating_add_signed(room), Vec::new());
                assert_eq!(answer == whole, fits, "{} {room}", whole.len());
                assert_eq!(Message::from_slice(&answer).unwrap().header().tc(), !fits);
            }
        }
        assert!(compose(&asked, &reply(&many), TCP_BYTES_MAX, Vec::new()).len() <= TCP_BYTES_MAX);
    }
}

/// Twelve of thirty addresses of one name server were sent as if they were all, and none of the next one.
#[test]
fn what_is_additional_comes_as_whole_sets_or_not_at_all() {
    let bytes = query("example.", &[]);
    let query = parse(&bytes).unwrap();
    let names: Vec<_> = (0..40).map(|at| Name::vec_from_str(&format!("ns{at}.n{at}.example")).unwrap()).collect();
    let of = |owner, data| Record { owner: Some(owner), ttl_s: 30, data };
    let servers: Vec<_> = names.iter().map(|name| Record { owner: None, ttl_s: 30, data: Data::Ns(name) }).collect();
    let a = |at: usize| of(&names[at], Data::A(Ipv4Addr::LOCALHOST));
    let aaaa = |at: usize| of(&names[at], Data::Aaaa(std::net::Ipv6Addr::LOCALHOST));
    let told = |count: usize, additional: &[Record<'_>], room| {
        let reply = Reply { additional, ..reply(&servers[..count]) };
        let answer = compose(&query, &reply, room, Vec::new());
        let message = Message::from_slice(&answer).unwrap();
        assert!(answer.len() <= room && !message.header().tc() && message.opt().is_some());
        let records = message.additional().unwrap().map(Result::unwrap).filter(|record| record.rtype() != Rtype::OPT);
        records.map(|record| (record.owner().to_string(), record.rtype())).collect::<Vec<_>>()
    };
    let owned = |at: usize, rtype, count| vec![(names[at].to_string(), rtype); count];
    let additional = [vec![a(0)], vec![aaaa(0); 30], vec![a(1); 3], vec![aaaa(1); 20], vec![a(2)]].concat();
    assert_eq!(told(3, &additional, 5_000).len(), 55);
    let small = [owned(0, Rtype::A, 1), owned(1, Rtype::A, 3), owned(2, Rtype::A, 1)].concat();
    assert_eq!(told(3, &additional, 512), small);

    // owners that are not compressed, as there are more names than the message's writer remembers
    let additional: Vec<_> = (0..40).flat_map(|at| vec![a(at); at % 4]).collect();
    let bare = compose(&query, &reply(&servers), 5_000, Vec::new()).len();
    for room in bare..bare + 500 {
        let told = told(40, &additional, room);
        for (at, name) in names.iter().enumerate() {
            let count = told.iter().filter(|(owner, _)| *owner == name.to_string()).count();
            assert!(count == 0 || count == at % 4, "{count} of ns{at} in {room}");
        }
    }
}

/// It said which server it is, in up to some hundred octets, to whoever's address was forged.
#[test]
fn a_short_answer_tells_nobody_which_server_it_is() {
    let bytes = query("a.b.example.", &[(NSID, &[])]);
    let query = Query { owed: Owed { cookie: None, nsid: Some(&[b'n'; 64]) }, ..parse(&bytes).unwrap() };
    let answer = compose_short(&query, OptRcode::NOERROR, Vec::new());
    assert!(Message::from_slice(&answer).unwrap().header().tc() && answer.len() <= bytes.len(), "{}", answer.len());
    let query = Query { owed: Owed { cookie: Some([5; COOKIE_BYTES]), ..query.owed }, ..query };
    let answer = compose_short(&query, OptRcode::BADCOOKIE, answer);
    let opt = Message::from_slice(&answer).unwrap().opt().unwrap().opt().cookie();
    assert!(opt.is_some() && answer.len() <= bytes.len() + 4 + COOKIE_BYTES);
}

fn near_query() -> impl Strategy<Value = Vec<u8>> {
    let start = query("a.b.example.", &[(ECS, &[0, 1, 24, 0, 203, 0, 113]), (10, &[1; 8])]);
    let changes = prop::collection::vec((0..start.len(), any::<u8>()), 0..6);
    (changes, any::<u8>()).prop_map(move |(changes, cut)| {
        let mut bytes = start.clone();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(bytes.len().saturating_sub(usize::from(cut.saturating_sub(200))));
        bytes
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), near_query()]) {
        let answer = match parse(&bytes) {
            Ok(query) => {
                let records = [Record { owner: None, ttl_s: 30, data: Data::Minimal }];
                compose(&query, &reply(&records), query.udp_bytes(), Vec::new())
            }
            Err(Fault::Cookie(edns)) => {
                let told = secrets().judge_alone(&edns, Ipv4Addr::LOCALHOST.into(), 0).unwrap();
                compose_cookie(&bytes, &told, Vec::new())
            }
            Err(fault) => compose_fault(&bytes, &fault, Vec::new()),
        };
        prop_assert!(answer.len() <= UDP_BYTES_MAX);
        if let Ok(message) = Message::from_slice(&answer) {
            prop_assert!(message.header().qr());
            prop_assert_eq!(&answer[..2], &bytes[..2]);
        }
    }
}

/// What both ways must agree on is asserted by `parse` and `compose` themselves in every test; this says that the quick one
/// is gone at all, and what it leaves to the other.
#[test]
fn plain_queries_and_answers_go_the_quick_way() {
    let subnet: &[u8] = &[0, 1, 24, 0, 203, 0, 113];
    let bytes = query("wWw.example.com.", &[(ECS, subnet), (10, &[7; 24]), (3, &[]), (12, &[0; 9])]);
    let quick = quick::parse(&bytes).unwrap();
    assert!(quick.edns.as_ref().is_some_and(|edns| edns.nsid && edns.cookie.is_some() && edns.subnet.is_some()));
    let a = [Record { owner: None, ttl_s: 30, data: Data::A(Ipv4Addr::LOCALHOST) }; 8];
    let owed = Owed { cookie: Some([9; COOKIE_BYTES]), nsid: Some(b"fra-1") };
    let asked = Query { owed, ..quick };
    let written = quick::compose(&asked, &reply(&a), UDP_BYTES_MAX, vec![1; 3]).unwrap();
    assert_eq!(written, compose(&asked, &reply(&a), UDP_BYTES_MAX, vec![2; 900]));
    assert_eq!(written[HEADER..HEADER + 5], *b"\x03wWw\x07", "in the case it was asked in");

    let aaaa = [Record { owner: None, ttl_s: 30, data: Data::Aaaa(std::net::Ipv6Addr::LOCALHOST) }];
    let bare = MessageBuilder::new_vec().question();
    let bare = {
        let mut bare = bare;
        bare.push((Name::vec_from_str("a.test").unwrap(), Rtype::AAAA)).unwrap();
        bare.finish()
    };
    let asked = quick::parse(&bare).unwrap();
    assert_eq!(asked.edns, None);
    assert!(quick::compose(&asked, &reply(&aaaa), 512, Vec::new()).is_ok());
    assert!(quick::compose(&asked, &reply(&aaaa), 50, Vec::new()).is_err(), "no room");
    assert!(quick::compose(&asked, &Reply::error(Rcode::REFUSED, None), 512, Vec::new()).is_err());

    for bad in
        [&bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat(), &query("a.test", &[(ECS, subnet), (ECS, subnet)])]
    {
        assert!(quick::parse(bad).is_none(), "{}", bad.escape_ascii());
    }
}

const HEADER: usize = 12;

proptest! {
    /// Octets changed anywhere in a proper query: `parse` compares both ways wherever the quick one is gone.
    #[test]
    fn both_ways_read_the_same(
        rtype in any::<u16>(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        options in prop::collection::vec((prop::sample::select(vec![3, 8, 10, 12, 15]), prop::collection::vec(any::<u8>(), 0..28)), 0..3),
    ) {
        let options: Vec<_> = options.iter().map(|(code, data)| (*code, data.as_slice())).collect();
        let mut bytes = query("wWw.example.com.", &options);
        bytes[HEADER + 17..][..2].copy_from_slice(&rtype.to_be_bytes());
        for (at, octet) in changes {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        if let Ok(query) = parse(&bytes) {
            let a = [Record { owner: None, ttl_s: 30, data: Data::A(Ipv4Addr::LOCALHOST) }];
            let answer = compose(&query, &reply(&a), query.udp_bytes(), Vec::new());
            prop_assert!(answer.len() <= query.udp_bytes());
        }
    }
}
