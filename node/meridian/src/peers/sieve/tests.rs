#![allow(clippy::unwrap_used, reason = "tests")]
use chitchat::{ChitchatMessage, Deserializable};
use proptest::prelude::*;

use super::*;

const EU: &str = "127.0.0.1:1001";
const US: &str = "127.0.0.1:1002";
const AP: &str = "127.0.0.1:1003";

fn name(node: &str) -> NodeId {
    NodeId::parse(node).unwrap()
}

fn id(out: &mut Vec<u8>, node: &str, generation: u64, address: &str) {
    Id { node, generation, address: address.parse().unwrap() }.write(out);
}

fn head(kind: u8) -> Vec<u8> {
    [&MAGIC.to_le_bytes()[..], &[0, kind]].concat()
}

/// node, generation, address, heartbeat
type Entry<'a> = (&'a str, u64, &'a str, u64);

fn digest(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = u16::try_from(entries.len()).unwrap().to_le_bytes().to_vec();
    for (node, generation, address, heartbeat) in entries {
        id(&mut out, node, *generation, address);
        [*heartbeat, 0, 5].iter().for_each(|number: &u64| out.extend(number.to_le_bytes()));
    }
    out
}

fn syn(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = head(SYN);
    out.extend(digest(entries));
    write_text(&mut out, "demo");
    out
}

fn about(node: &str, address: &str) -> Vec<u8> {
    let mut out = vec![0];
    id(&mut out, node, 1, address);
    out.extend([0; 16]);
    out
}

fn says(value: &str, version: u64) -> Vec<u8> {
    let mut out = vec![1];
    write_text(&mut out, "report");
    write_text(&mut out, value);
    out.extend(version.to_le_bytes());
    out.push(0);
    out
}

fn bare(version: u64) -> Vec<u8> {
    [&[2][..], &version.to_le_bytes()].concat()
}

fn ack(ops: &[Vec<u8>], compressed: bool) -> Vec<u8> {
    let raw = ops.concat();
    let (kind, block) = if compressed { (1, zstd::bulk::compress(&raw, 0).unwrap()) } else { (2, raw) };
    let mut out = head(ACK);
    out.push(kind);
    out.extend(u16::try_from(block.len()).unwrap().to_le_bytes());
    out.extend(block);
    out.push(0);
    out
}

/// A sieve of `eu` that has heard of `us` and `ap`.
fn sieve() -> (Sieve, Instant) {
    let now = crate::clock::instant();
    let sieve = Sieve::new(name("eu"));
    sieve.pass(&name("us"), US.parse().unwrap(), &syn(&[("us", 1, US, 3)]), now).unwrap();
    sieve.pass(&name("ap"), AP.parse().unwrap(), &syn(&[("ap", 1, AP, 3)]), now).unwrap();
    (sieve, now)
}

fn pass(message: &[u8]) -> Result<String, Dropped> {
    let (sieve, now) = sieve();
    let passed = sieve.pass(&name("us"), US.parse().unwrap(), message, now)?;
    Ok(format!("{:?}", ChitchatMessage::deserialize(&mut passed.as_slice()).unwrap()))
}

#[test]
fn of_a_digest_only_the_sender_and_what_it_knows_of_us_is_taken() {
    let passed =
        pass(&syn(&[("us", 1, US, 4), ("eu", 9, EU, 77), ("ap", 1, AP, 4242), ("mars", 1, AP, 4343)])).unwrap();
    assert!(passed.contains("us:1:") && passed.contains("Heartbeat(4)"), "{passed}");
    assert!(passed.contains("eu:9:") && passed.contains("Heartbeat(77)"), "{passed}");
    assert!(passed.contains("ap:1:") && !passed.contains("4242"), "{passed}");
    assert!(!passed.contains("mars"), "{passed}");
}

#[test]
fn a_digest_needs_its_sender_at_its_address() {
    assert!(pass(&syn(&[("ap", 1, AP, 4)])).is_err());
    assert!(pass(&syn(&[("us", 1, AP, 4)])).is_err());
    assert!(pass(&syn(&[])).is_err());
}

#[test]
fn state_is_taken_only_from_the_node_it_is_about() {
    for compressed in [false, true] {
        let forged = [about("ap", AP), says("forged", 1_000_000), about("us", US), says("mine", 6)];
        let passed = pass(&ack(&forged, compressed)).unwrap();
        assert!(passed.contains("mine") && !passed.contains("forged"), "{passed}");
        let only_forged = pass(&ack(&forged[..2], compressed)).unwrap();
        assert!(!only_forged.contains("forged"), "{only_forged}");
    }
}

#[test]
fn what_chitchat_would_answer_with_a_panic_is_refused() {
    let own = about("us", US);
    assert!(pass(&ack(&[own.clone(), says("a", 6), bare(1)], false)).is_err());
    assert!(pass(&ack(&[own.clone(), bare(9), says("a", 6)], false)).is_err());
    assert!(pass(&ack(&[own.clone(), says("a", 6), says("b", 6)], false)).is_err());
    assert!(pass(&ack(&[own.clone(), says("a", u64::MAX)], false)).is_err());
    assert!(pass(&ack(&[own, bare(9)], false)).is_ok());
}

#[test]
fn a_node_has_no_more_state_than_its_report() {
    let own = about("us", US);
    assert!(pass(&ack(&[own.clone(), says(&"x".repeat(report::TEXT_BYTES_MAX), 6)], true)).is_ok());
    assert!(pass(&ack(&[own.clone(), says(&"x".repeat(9000), 6)], true)).is_err());
    let many: Vec<_> = std::iter::once(own).chain((6..16).map(|version| says("x", version))).collect();
    assert!(pass(&ack(&many, false)).is_err());
}

#[test]
fn a_bomb_is_not_inflated() {
    let mut bomb = head(ACK);
    let block = zstd::bulk::compress(&vec![0; 65_535], 0).unwrap();
    for _ in 0..2000 {
        bomb.push(1);
        bomb.extend(u16::try_from(block.len()).unwrap().to_le_bytes());
        bomb.extend(&block);
    }
    bomb.push(0);
    assert_eq!(pass(&bomb), Err(Dropped("a delta that inflates to too much")));
    let big = zstd::bulk::compress(&vec![0; 10_000_000], 0).unwrap();
    let mut one = head(ACK);
    one.push(1);
    one.extend(u16::try_from(big.len()).unwrap().to_le_bytes());
    one.extend(big);
    one.push(0);
    assert_eq!(pass(&one), Err(Dropped("a block that does not inflate")));
}

#[test]
fn a_node_has_one_run_at_a_time() {
    let (sieve, now) = sieve();
    let us = |generation, after_s| {
        let now = now + Duration::from_secs(after_s);
        sieve.pass(&name("us"), US.parse().unwrap(), &syn(&[("us", generation, US, 4)]), now).is_ok()
    };
    assert!(!us(2, 1), "too quick");
    assert!(us(2, 3));
    assert!(!us(1, 8), "the old one");
    assert!(us(2, 9));
    assert!(us(1, 20), "a clock that was set back");
    assert_eq!(sieve.generation(&name("us")), Some(1));
}

proptest! {
    #[test]
    fn no_message_is_too_strange(kind in 0u8..5, tail in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..400) {
        let (sieve, now) = sieve();
        let address = US.parse().unwrap();
        let message = [head(kind), tail.clone()].concat();
        // refused or let through, never a panic; what is let through chitchat can read
        for message in [message, [head(ACK), vec![2, 60, 0], tail].concat()] {
            if let Ok(passed) = sieve.pass(&name("us"), address, &message, now) {
                prop_assert!(ChitchatMessage::deserialize(&mut passed.as_slice()).is_ok());
            }
        }
        let good = ack(&[about("us", US), says("mine", 6)], false);
        let _either = sieve.pass(&name("us"), address, &good[..cut.min(good.len())], now);
    }
}
