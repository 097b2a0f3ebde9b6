//! What a flood with a forged source does to that source.

use super::{
    protocol::{Odd, desk, opt},
    *,
};

/// Queries whose answers are as long as ours get, and short ones.
pub(super) fn corpus() -> Vec<Vec<u8>> {
    let ecs: &[(u16, &[u8])] = &[(8, &[0, 1, 24, 0, 91, 0, 0])];
    let types = [1, 2, 6, 16, 28, 48, 64, 65, 255, 257];
    let names = ["demo.test", "shop.demo.test", "care.demo.test", "ns1.demo.test", "no.demo.test", "example.org"];
    let mut corpus: Vec<_> = names
        .iter()
        .flat_map(|name| types.iter().map(move |rtype| Odd::new(name, *rtype, ecs).bytes()))
        .chain(names.iter().map(|name| Odd::new(name, 255, &[]).bytes()))
        .collect();
    let mut broken = corpus[0].clone();
    broken.push(0);
    // a cookie without a question
    let alone = [&[0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &opt(0, &[(10, &[1; 8])])].concat();
    corpus.extend([broken, alone]);
    corpus
}

#[test]
fn a_flood_in_somebodys_name_sends_them_hardly_more_than_the_flood_itself() {
    let mut desk = desk(terms());
    let corpus = corpus();
    for query in &corpus {
        let mut bytes = (0, 0);
        let mut buffer = Vec::new();
        for round in 0..6_000u32 {
            let victim = IpAddr::V4(std::net::Ipv4Addr::from_bits(0xcb00_7100 | (round & 0xff)));
            buffer = desk.answer(query, victim, buffer);
            bytes = (bytes.0 + query.len(), bytes.1 + buffer.len());
        }
        let ratio = bytes.1 as f64 / bytes.0 as f64;
        assert!(ratio <= 1.5, "{ratio}: {}", query.escape_ascii());
    }
    assert!(desk.counters().count(Event::Withheld) > 100_000);
}
