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
    let suffixes: Vec<_> = query.name.suffixes().map(<[u8]>::len).collect();
    assert_eq!(suffixes, [17, 13, 5, 1]);
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
    assert_eq!(with(&|b| b[2] |= 0x28), fault(Rcode::NOTIMP, false));
    assert_eq!(with(&|b| b[5] = 0), fault(Rcode::FORMERR, false));
    assert_eq!(with(&|b| b[5] = 2), fault(Rcode::FORMERR, false));
    assert_eq!(with(&|b| b[7] = 1), fault(Rcode::FORMERR, false));
    assert_eq!(with(&|b| b.push(0)), fault(Rcode::FORMERR, true));
    assert_eq!(with(&|b| b.truncate(b.len() - 1)), fault(Rcode::FORMERR, false));
    let opt = good.len() - 11;
    assert_eq!(with(&|b| b[opt + 6] = 1), Fault::Reply { rcode: OptRcode::BADVERS, edns: true });
    let two_opts = with(&|b| {
        b[11] = 2;
        b.extend_from_within(opt..);
    });
    assert_eq!(two_opts, fault(Rcode::FORMERR, true));
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
            Err(fault) => compose_fault(&bytes, &fault, Vec::new()),
        };
        prop_assert!(answer.len() <= UDP_BYTES_MAX);
        if let Ok(message) = Message::from_slice(&answer) {
            prop_assert!(message.header().qr());
            prop_assert_eq!(&answer[..2], &bytes[..2]);
        }
    }
}
