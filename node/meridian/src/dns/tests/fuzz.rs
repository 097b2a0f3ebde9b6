//! Messages that nobody thought of: proper and broken ones, mutated, by a seed.

use domain::rdata::AllRecordData;
use wire::dns::{TCP_BYTES_MAX, UDP_BYTES_MAX, parse};

use super::{
    flood,
    protocol::{Odd, desk_of},
    records::MORE,
    *,
};

/// How much a process may grow while it answers, in bytes: what an allocator keeps, not what a message leaves behind.
const GROWTH_MAX: usize = 8 << 20;

fn corpus() -> Vec<Vec<u8>> {
    let subnets: [&[u8]; 4] =
        [&[0, 1, 24, 0, 91, 0, 0], &[0, 2, 48, 0, 0x26, 1, 0, 0, 0, 0], &[0, 0, 0, 0], &[0, 1, 0, 0]];
    let mut corpus = flood::corpus();
    for subnet in subnets {
        for (name, rtype) in [("www.other.test", 65), ("_acme-challenge.www.other.test", 16), ("other.test", 257)] {
            corpus.push(Odd::new(name, rtype, &[(8, subnet), (10, &[7; 8]), (3, &[])]).bytes());
            corpus.push(Odd::new(name, rtype, &[(10, &[7; 24]), (8, subnet), (12, &[0; 40])]).bytes());
        }
    }
    corpus.push(Odd::new(&[["a".repeat(63).as_str(); 3].join("."), "demo.test".to_owned()].join("."), 1, &[]).bytes());
    corpus
}

/// Changes a message in a few places, as its sender's or the network's faults would, and as an attacker would.
fn mutate(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut fastrand::Rng) {
    for _ in 0..chance.usize(0..5) {
        let at = chance.usize(0..=bytes.len());
        match chance.u8(0..9) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, chance.u8(..)),
            2 => drop(bytes.splice(at..(at + chance.usize(0..8)).min(bytes.len()), [])),
            3 => bytes.extend_from_slice(&corpus[chance.usize(0..corpus.len())]),
            4 => {
                let other = &corpus[chance.usize(0..corpus.len())];
                let from = chance.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            5 => {
                let end = (at + chance.usize(0..32)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            6 => {
                // what lengths, counts and pointers are most likely to be wrong by
                let odd = [0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff];
                if let Some(octet) = bytes.get_mut(at) {
                    *octet = odd[chance.usize(0..odd.len())];
                }
            }
            7 => {
                if let Some(octet) = bytes.get_mut(at) {
                    *octet ^= 1 << chance.u8(0..8);
                }
            }
            _ => {
                if let Some(octet) = bytes.get_mut(at) {
                    *octet = chance.u8(..);
                }
            }
        }
    }
    // what a UDP thread reads of a longer one
    bytes.truncate(UDP_BYTES_MAX);
}

/// An answer is whole, is the query's, and is no longer than it may be.
fn check(query: &[u8], answer: &[u8], tcp: bool) {
    if answer.is_empty() {
        return;
    }
    let message = Message::from_slice(answer).unwrap();
    assert!(message.header().qr() && message.header().id().to_be_bytes() == query[..2]);
    let allowed = parse(query).map_or(512, |query| if tcp { TCP_BYTES_MAX } else { query.udp_bytes() });
    assert!(answer.len() <= allowed, "{} of {allowed}", answer.len());
    let (_, first, second, third) = message.sections().unwrap();
    for section in [first, second, third] {
        for record in section {
            record.unwrap().to_any_record::<AllRecordData<_, _>>().unwrap();
        }
    }
}

/// Resident memory of this process, in bytes; none where there is no /proc.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()? << 10)
}

/// Sends so many mutated messages; gives what memory grew by after the first tenth, in bytes.
fn run(seed: u64, messages: usize) -> Option<usize> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let corpus = corpus();
    let config = config_with(MORE);
    let mut desk = desk_of(&config, terms());
    let mut over_tcp = desk_of(&config, terms()).without_rates();
    let (mut query, mut buffer) = (Vec::new(), Vec::new());
    let mut start = None;
    for at in 0..messages {
        if at == messages / 10 {
            start = resident_bytes();
        }
        query.clear();
        query.extend_from_slice(&corpus[chance.usize(0..corpus.len())]);
        mutate(&mut query, &corpus, &mut chance);
        let peer = match chance.u8(0..4) {
            0 => IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, chance.u8(..))),
            1 => IpAddr::V6(std::net::Ipv6Addr::from_bits(chance.u128(..))),
            _ => IpAddr::V4(std::net::Ipv4Addr::from_bits(chance.u32(..))),
        };
        let tcp = at % 8 == 0;
        let answering = if tcp { &mut over_tcp } else { &mut desk };
        buffer = answering.answer(&query, peer, buffer);
        let checked = std::panic::catch_unwind(|| check(&query, &buffer, tcp));
        assert!(checked.is_ok(), "message {at} of seed {seed}: {}\n{}", query.escape_ascii(), buffer.escape_ascii());
    }
    let counted: u64 =
        [Event::Normal, Event::Zone, Event::NoName, Event::Malformed, Event::Withheld, Event::CookieAlone]
            .map(|event| desk.counters().count(event))
            .iter()
            .inspect(|count| assert!(**count > 0, "the corpus reaches every kind"))
            .sum();
    eprintln!("seed {seed}: {messages} messages, {counted} of the kinds that are looked at");
    Some(resident_bytes()?.saturating_sub(start?))
}

#[test]
fn a_hundred_thousand_mutated_messages_are_answered_as_they_should_or_not_at_all() {
    run(5, 100_000);
}

/// `make chaos` runs it.
#[test]
#[ignore = "takes minutes, and measures the memory of the process"]
fn ten_million_mutated_messages_leave_nothing_behind() {
    let grown = run(7, 10_000_000);
    eprintln!("memory grew by {grown:?} bytes after the first million");
    assert!(grown.is_none_or(|grown| grown < GROWTH_MAX), "{grown:?}");
}
