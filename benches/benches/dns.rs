//! DNS without sockets: `cargo bench -p benches --bench dns`. A decision with its scope, and messages to their answers, as
//! many as come together under load; for clients all over the address space. `MERIDIAN_GEO` names another database than the
//! built-in one.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use meridian::{
    dns::{Desk, Message, Terms, View},
    geo::Base,
};
use region_config::{Config, DnsTerms, Geo};
use rules::{
    health::{Fleet, NodeState, NodeView, RegionState, RegionView},
    steering::{Map, Standing, Wishes, decide},
};

const CLIENTS: usize = 1 << 16;
/// Messages that come together under load.
const BATCH: usize = 32;

/// So many regions, spread over the globe, with two nodes each, and one site.
fn config(regions: usize) -> Config {
    let mut text = String::from(
        "[node]\nname = \"n0-0\"\n[dns]\nlisten = \"127.0.0.1:5300\"\n[peer]\nlisten = \"127.0.0.1:7400\"\nca = \"c\"\n\
         certificate = \"c\"\nkey = \"k\"\n[[jurisdictions]]\nname = \"earth\"\ncountries = [\"DE\"]\n[[zones]]\nname = \
         \"bench.test\"\n[[sites]]\nname = \"www\"\nhosts = \"www.bench.test\"\norigin = \"http://127.0.0.1:3000\"\n",
    );
    for at in 0..regions {
        // a golden-angle spiral
        let latitude = (1.0 - 2.0 * (at as f64 + 0.5) / regions as f64).asin().to_degrees();
        let longitude = (at as f64 * 137.507_764) % 360.0 - 180.0;
        text += &format!(
            "[[regions]]\nname = \"r{at}\"\nlatitude = {latitude:.4}\nlongitude = {longitude:.4}\njurisdiction = \"earth\"\n"
        );
        for node in 0..2 {
            text += &format!(
                "[[regions.nodes]]\nname = \"n{at}-{node}\"\npeer = \"127.1.{at}.{node}:7400\"\naddresses = \
                 [\"198.51.{at}.{node}\"]\n"
            );
        }
    }
    region_config::check(&[("meridian.toml", &text)]).unwrap().config
}

fn fleet(config: &Config) -> Fleet {
    let node = |node: &region_config::Node| NodeView { name: node.name.clone(), state: NodeState::Up, rtt_us: None };
    let region = |region: &region_config::Region| RegionView {
        name: region.name.clone(),
        state: RegionState::Up,
        since_unix_ms: 0,
        pending: false,
        recent: false,
        part_percent: 100,
        nodes: region.nodes.iter().map(node).collect(),
        votes: vec![],
    };
    Fleet { epoch: 1, minority: false, regions: config.regions.iter().map(region).collect() }
}

/// The file that `MERIDIAN_GEO` names, else the built-in one.
fn base() -> Base {
    Base::open(&Geo { file: std::env::var_os("MERIDIAN_GEO").map(PathBuf::from), ..Geo::default() }).unwrap()
}

fn clients() -> Vec<Ipv4Addr> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [a, b, c, ..] = state.to_be_bytes();
        Ipv4Addr::new(a % 223 + 1, b, c, 0)
    };
    (0..CLIENTS).map(|_| next()).collect()
}

/// A question for A with EDNS and the client's /24.
fn question(client: Ipv4Addr) -> Vec<u8> {
    let head = b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x03www\x05bench\x04test\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\x0b\0\x08\0\x07\0\x01\x18\0";
    [&head[..], &client.octets()[..3]].concat()
}

fn decisions(bench: &mut Criterion) {
    let (base, clients) = (base(), clients());
    for regions in [6, 30] {
        let config = config(regions);
        let eligible = rules::residency::eligible(&config, &config.sites[0]);
        let map = Map::compile(&config, base.ranges(), &Wishes::nearest(eligible), &config.node.region);
        let standing = Standing::of(&fleet(&config));
        let policy = Wishes::nearest(eligible).policy(30);
        let mut at = 0;
        bench.bench_function(&format!("decision with scope/{regions} regions"), |bencher| {
            bencher.iter(|| {
                at = (at + 1) % CLIENTS;
                decide(black_box(IpAddr::V4(clients[at])), !0, &policy, &map, &standing).scope
            });
        });
    }
}

fn answers(bench: &mut Criterion) {
    let (base, questions): (_, Vec<_>) = (base(), clients().into_iter().map(question).collect());
    let peers = clients();
    for regions in [6, 30] {
        let config = config(regions);
        let view = View::compile(&config, &base).unwrap();
        let (view, fleet) = (Arc::new(Arc::new(view).into()), Arc::new(Arc::new(fleet(&config)).into()));
        for (name, answers_per_second) in [("counted", DnsTerms::default().answers_per_second), ("not counted", None)] {
            let terms = Terms::load(&DnsTerms { answers_per_second, ..DnsTerms::default() }).unwrap();
            let mut desk = Desk::new(Arc::clone(&view), Arc::clone(&fleet), terms);
            let (mut at, mut replies) = (0, vec![Vec::new(); BATCH]);
            let mut group = bench.benchmark_group("messages to answers");
            group.throughput(Throughput::Elements(BATCH as u64));
            group.bench_function(format!("{regions} regions, {name}"), |bencher| {
                bencher.iter(|| {
                    at = (at + BATCH) % CLIENTS;
                    let come = questions[at..].iter().zip(&peers[at..]).zip(&mut replies);
                    desk.answer_all(come.map(|((query, peer), reply)| Message {
                        query: black_box(query),
                        peer: (*peer, 53).into(),
                        reply,
                    }));
                    assert!(replies.iter().all(|reply| reply.len() > 60), "an address each");
                });
            });
            group.finish();
        }
    }
}

criterion_group! {
    name = dns;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = decisions, answers
}
criterion_main!(dns);
