//! The DNS front from outside: real sockets, real messages.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use domain::{
    base::{
        Message, MessageBuilder, Rtype,
        iana::{ExtendedErrorCode, OptRcode, Rcode},
        name::Name,
        opt::{ClientSubnet, ExtendedError},
    },
    rdata::AllRecordData,
};
use region_config::{Config, NodeId, RegionId};
use rules::{
    health::{Fleet, NodeState, NodeView, RegionState, RegionView},
    steering::Reason,
};

use super::*;
use crate::geo;

mod exported;
mod flood;
mod fuzz;
mod protocol;
mod records;
mod signed;
mod tcp;

const REGIONS: &str = r#"
[[jurisdictions]]
name = "eu"
preset = "EU"

[[jurisdictions]]
name = "us"
countries = ["US"]

[[regions]]
name = "eu-central"
latitude = 50.11
longitude = 8.68
jurisdiction = "eu"

[[regions.nodes]]
name = "n1"
peer = "127.0.1.1:7400"
addresses = ["198.51.100.1", "2001:db8:1::1"]

[[regions.nodes]]
name = "n2"
peer = "127.0.1.2:7400"
addresses = ["198.51.100.2"]

[[regions]]
name = "us-west"
latitude = 37.34
longitude = -121.89
jurisdiction = "us"

[[regions.nodes]]
name = "n3"
peer = "127.0.2.1:7400"
addresses = ["203.0.113.1"]

[[zones]]
name = "demo.test"
mailbox = "hostmaster.demo.test"

[[zones.name_servers]]
name = "ns1.demo.test"
addresses = ["192.0.2.53"]
"#;

const SITES: &str = r#"
[[sites]]
name = "shop"
tenant = "t"
hosts = ["shop.demo.test", "*.apps.demo.test", "deep.x.demo.test"]
origin = "http://127.0.0.1:3000"

[[sites]]
name = "care"
tenant = "t"
hosts = ["care.demo.test"]
pin = "eu"
origin = "http://127.0.0.1:3000"
"#;

const NODE: &str = r#"
shared = "fleet"

[node]
name = "n1"
state_dir = "state"

[http]
listen = "127.0.0.1:8080"

[peer]
listen = "127.0.1.1:7400"
ca = "ca.crt"
certificate = "node.crt"
key = "node.key"
"#;

pub(crate) fn config() -> Config {
    config_with("")
}

/// With another file beside the rest.
fn config_with(more: &str) -> Config {
    let files = [
        ("meridian.toml", NODE),
        ("fleet/regions.toml", REGIONS),
        ("fleet/sites/a.toml", SITES),
        ("fleet/z.toml", more),
    ];
    region_config::check(&files).unwrap().config
}

fn fleet(states: [RegionState; 2]) -> Fleet {
    let names = [("eu-central", &["n1", "n2"][..]), ("us-west", &["n3"])];
    let view = |(state, (name, nodes)): (&RegionState, (&str, &[&str]))| RegionView {
        name: RegionId::parse(name).unwrap(),
        state: *state,
        since_unix_ms: 0,
        pending: false,
        recent: false,
        part_percent: 100,
        nodes: nodes
            .iter()
            .map(|name| NodeView { name: NodeId::parse(name).unwrap(), state: NodeState::Up, rtt_us: None })
            .collect(),
        votes: vec![],
    };
    Fleet { epoch: 1, minority: false, regions: states.iter().zip(names).map(view).collect() }
}

fn terms() -> Terms {
    Terms::load(&DnsTerms { nsid: Some("fra-1".to_owned()), ..DnsTerms::default() }).unwrap()
}

/// A server on loopback, and the runtime that its TCP side runs on.
struct Running {
    server: Server,
    view: Arc<ArcSwap<View>>,
    fleet: Arc<ArcSwap<Fleet>>,
    tasks: Tasks,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start() -> Self {
        Self::start_with(terms())
    }

    fn start_with(terms: Terms) -> Self {
        let view = View::compile(&config(), &geo::Base::embedded().unwrap()).unwrap();
        let view = Arc::new(ArcSwap::from_pointee(view));
        let fleet = Arc::new(ArcSwap::from_pointee(fleet([RegionState::Up; 2])));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tasks = Tasks::new();
        let entered = runtime.enter();
        let listen = ["127.0.0.1:0".parse().unwrap()];
        let server = Server::bind(&listen, Arc::clone(&view), Arc::clone(&fleet), terms, &tasks).unwrap();
        drop(entered);
        Self { server, view, fleet, tasks, runtime }
    }

    fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    fn udp(&self, query: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(query, self.address()).unwrap();
        let mut answer = vec![0; 4096];
        let length = socket.recv(&mut answer).ok()?;
        answer.truncate(length);
        Some(answer)
    }

    fn ask(&self, name: &str, rtype: Rtype, subnet: Option<&str>) -> Told {
        Told::read(&self.udp(&query(name, rtype, subnet)).unwrap())
    }

    fn stop(self) -> bool {
        self.runtime.block_on(self.tasks.stop(Duration::from_secs(5)))
    }
}

fn query(name: &str, rtype: Rtype, subnet: Option<&str>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(7);
    let mut question = builder.question();
    question.push((Name::vec_from_str(name).unwrap(), rtype)).unwrap();
    let mut additional = question.additional();
    let subnet = subnet.map(|text| {
        let (address, length) = text.split_once('/').unwrap();
        ClientSubnet::new(length.parse().unwrap(), 0, address.parse().unwrap())
    });
    additional.opt(|opt| subnet.iter().try_for_each(|subnet| opt.push(subnet))).unwrap();
    additional.finish()
}

/// What an answer says.
#[derive(Debug)]
struct Told {
    rcode: OptRcode,
    addresses: Vec<IpAddr>,
    ttl_s: Option<u32>,
    scope: Option<u8>,
    extended: Option<ExtendedErrorCode>,
    answers: usize,
    soa: bool,
    additional: u16,
}

impl Told {
    fn read(bytes: &[u8]) -> Self {
        let message = Message::from_slice(bytes).unwrap();
        assert!(message.header().qr());
        let opt = message.opt().unwrap();
        let answers: Vec<_> = message.answer().unwrap().map(|record| record.unwrap()).collect();
        let address = |record: &domain::base::ParsedRecord<'_, [u8]>| match record
            .to_any_record::<AllRecordData<_, _>>()
            .unwrap()
            .into_data()
        {
            AllRecordData::A(a) => Some(IpAddr::V4(a.addr())),
            AllRecordData::Aaaa(a) => Some(IpAddr::V6(a.addr())),
            _ => None,
        };
        let soa = message.authority().unwrap().any(|record| record.unwrap().rtype() == Rtype::SOA);
        Self {
            rcode: message.opt_rcode(),
            addresses: answers.iter().filter_map(address).collect(),
            ttl_s: answers.first().map(|record| record.ttl().as_secs()),
            scope: opt.opt().client_subnet().map(|subnet| subnet.scope_prefix_len()),
            extended: opt.opt().first::<ExtendedError<_>>().map(|extended| extended.code()),
            answers: answers.len(),
            soa,
            additional: message.header_counts().arcount(),
        }
    }

    fn region(&self) -> &'static str {
        let of = |address: &IpAddr| match address.to_string().as_str() {
            "198.51.100.1" | "198.51.100.2" | "2001:db8:1::1" => "eu",
            "203.0.113.1" => "us",
            _ => "?",
        };
        let regions: Vec<_> = self.addresses.iter().map(of).collect();
        assert!(regions.windows(2).all(|two| two[0] == two[1]), "addresses of one region only: {self:?}");
        regions.first().copied().unwrap_or("none")
    }
}

const GERMAN: Option<&str> = Some("91.0.0.0/24");
const CALIFORNIAN: Option<&str> = Some("128.32.0.0/24");

#[test]
fn a_german_subnet_gets_the_eu_region_and_a_californian_the_us_one() {
    let running = Running::start();
    for (subnet, region) in [
        (GERMAN, "eu"),
        (CALIFORNIAN, "us"),
        (Some("2003::/48"), "eu"),
        (Some("2601::/48"), "us"),
        (Some("2002:8020::/40"), "us"),
    ] {
        for name in ["shop.demo.test", "ShOp.DeMo.TeSt", "a.b.apps.demo.test", "deep.x.demo.test"] {
            let told = running.ask(name, Rtype::A, subnet);
            assert_eq!((told.region(), told.ttl_s), (region, Some(30)), "{name} {subnet:?} {told:?}");
            assert!(told.scope.unwrap() > 0, "{told:?}");
        }
    }
    assert!(running.server.counters().count(Event::Normal) >= 20);
    assert!(running.stop());
}

#[test]
fn a_pinned_site_is_answered_with_its_regions_whatever_happens() {
    let running = Running::start();
    for (states, rcode, ttl_s) in [
        ([RegionState::Up, RegionState::Up], Rcode::NOERROR, 30),
        ([RegionState::Draining, RegionState::Up], Rcode::NOERROR, 30),
        ([RegionState::Down, RegionState::Up], Rcode::NOERROR, 10),
        ([RegionState::Down, RegionState::Down], Rcode::NOERROR, 10),
    ] {
        running.fleet.store(Arc::new(fleet(states)));
        for subnet in [GERMAN, CALIFORNIAN, None] {
            let told = running.ask("care.demo.test", Rtype::A, subnet);
            assert_eq!((told.region(), told.rcode, told.ttl_s), ("eu", rcode.into(), Some(ttl_s)), "{states:?}");
        }
    }
    running.fleet.store(Arc::new(fleet([RegionState::Down, RegionState::Up])));
    assert_eq!(running.ask("shop.demo.test", Rtype::A, GERMAN).region(), "us", "the free site moves");
    assert!(running.stop());
}

#[test]
fn a_pin_without_a_region_is_a_server_failure_and_never_an_address() {
    let mut config = config();
    for region in &mut config.regions {
        region.jurisdiction = region_config::JurisdictionId::parse("us").unwrap();
    }
    let running = Running::start();
    running.view.store(Arc::new(View::compile(&config, &geo::Base::embedded().unwrap()).unwrap()));
    let told = running.ask("care.demo.test", Rtype::A, GERMAN);
    assert_eq!((told.rcode, told.extended), (Rcode::SERVFAIL.into(), Some(ExtendedErrorCode::INVALID_DATA)));
    assert_eq!((told.answers, told.scope), (0, Some(0)));
    assert!(running.stop());
}

/// A reload put other regions in front, and for a moment, or for as long as DNS could not take the new config, clients were
/// led by the health of other regions.
#[test]
fn health_of_another_config_is_read_by_the_names_of_regions_and_nodes() {
    let running = Running::start();
    for (dead, led) in [(0, "us"), (1, "eu")] {
        let mut states = [RegionState::Up; 2];
        states[dead] = RegionState::Down;
        let mut newer = fleet(states);
        let other = RegionView {
            name: RegionId::parse("ap-south").unwrap(),
            state: RegionState::Down,
            ..newer.regions[0].clone()
        };
        newer.regions.insert(0, RegionView { nodes: Vec::new(), ..other });
        newer.regions.reverse();
        running.fleet.store(Arc::new(newer));
        for subnet in [GERMAN, CALIFORNIAN] {
            assert_eq!(running.ask("shop.demo.test", Rtype::A, subnet).region(), led);
        }
    }
    let mut newer = fleet([RegionState::Up; 2]);
    newer.regions[0].nodes[0].state = NodeState::Down;
    newer.regions[0].nodes.reverse();
    running.fleet.store(Arc::new(newer));
    let told = running.ask("care.demo.test", Rtype::A, GERMAN);
    assert_eq!(told.addresses, ["198.51.100.2".parse::<IpAddr>().unwrap()]);
    assert!(running.stop());
}

#[test]
fn only_living_nodes_are_named() {
    let running = Running::start();
    let mut view = fleet([RegionState::Up; 2]);
    view.regions[0].nodes[0].state = NodeState::Down;
    running.fleet.store(Arc::new(view));
    let told = running.ask("care.demo.test", Rtype::A, GERMAN);
    assert_eq!(told.addresses, ["198.51.100.2".parse::<IpAddr>().unwrap()]);
    assert!(running.stop());
}

#[test]
fn the_zone_itself_is_answered() {
    let running = Running::start();
    let told = running.ask("demo.test", Rtype::SOA, GERMAN);
    assert_eq!((told.answers, told.scope), (1, Some(0)));
    let told = running.ask("demo.test", Rtype::NS, None);
    assert_eq!((told.answers, told.additional), (1, 2), "the name server, its address and OPT");
    let told = running.ask("ns1.demo.test", Rtype::A, GERMAN);
    assert_eq!((told.addresses.as_slice(), told.scope), (&["192.0.2.53".parse().unwrap()][..], Some(0)));
    let told = running.ask("shop.demo.test", Rtype::ANY, None);
    assert_eq!((told.answers, told.addresses.len()), (1, 0), "RFC 8482");
    assert!(running.stop());
}

#[test]
fn what_does_not_exist_is_denied_for_everyone_and_what_is_not_ours_is_refused() {
    let running = Running::start();
    for (name, rtype, rcode) in [
        ("nothing.demo.test", Rtype::A, Rcode::NXDOMAIN),
        ("shop.demo.test", Rtype::TXT, Rcode::NOERROR),
        ("shop.demo.test", Rtype::AAAA, Rcode::NOERROR),
        ("x.demo.test", Rtype::A, Rcode::NOERROR),
        ("apps.demo.test", Rtype::A, Rcode::NOERROR),
        ("demo.test", Rtype::A, Rcode::NOERROR),
    ] {
        let told = running.ask(name, rtype, GERMAN);
        assert_eq!(
            (told.rcode, told.answers, told.soa, told.scope),
            (rcode.into(), 0, true, Some(0)),
            "{name} {rtype}"
        );
    }
    let told = running.ask("care.demo.test", Rtype::AAAA, GERMAN);
    assert_eq!(told.region(), "eu", "all regions of the pin have IPv6");
    for (name, rtype) in [("example.org", Rtype::A), ("test", Rtype::NS), (".", Rtype::NS), ("demo.test", Rtype::AXFR)]
    {
        let told = running.ask(name, rtype, None);
        assert_eq!((told.rcode, told.soa), (Rcode::REFUSED.into(), false), "{name}");
        assert!(told.extended.is_some());
    }
    assert!(running.stop());
}

#[test]
fn without_a_geo_table_nothing_is_answered() {
    let running = Running::start();
    running.view.store(Arc::new(View::not_ready(&config()).unwrap()));
    let told = running.ask("shop.demo.test", Rtype::A, GERMAN);
    assert_eq!((told.rcode, told.extended), (Rcode::SERVFAIL.into(), Some(ExtendedErrorCode::NOT_READY)));
    let base = geo::Base::embedded().unwrap();
    running.view.store(Arc::new(View::compile(&config(), &base).unwrap()));
    assert_eq!(running.ask("shop.demo.test", Rtype::A, GERMAN).region(), "eu");
    assert!(running.stop());
}

#[test]
fn malformed_messages_are_refused_and_the_next_one_is_answered() {
    let running = Running::start();
    let mut scoped = query("shop.demo.test", Rtype::A, GERMAN);
    let scope = scoped.len() - 4;
    scoped[scope] = 24;
    let told = Told::read(&running.udp(&scoped).unwrap());
    assert_eq!(told.rcode, Rcode::FORMERR.into());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..scoped.len() {
        socket.send_to(&scoped[..length], running.address()).unwrap();
    }
    socket.send_to(&[0xff; 4000], running.address()).unwrap();
    assert_eq!(running.ask("shop.demo.test", Rtype::A, GERMAN).region(), "eu");
    assert!(running.server.counters().count(Event::Dropped) > 0);
    assert_eq!(running.server.counters().count(Event::Panicked), 0);
    assert!(running.stop());
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

#[test]
fn tcp_answers_queries_in_order_and_idle_clients_do_not_shut_out_others() {
    let running = Running::start();
    let idle: Vec<_> = (0..40).map(|_| TcpStream::connect(running.address()).unwrap()).collect();
    let half: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(running.address()).unwrap();
            stream.write_all(&[0, 50, 1]).unwrap();
            stream
        })
        .collect();
    let mut stream = TcpStream::connect(running.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let names = ["shop.demo.test", "care.demo.test", "nothing.demo.test"];
    let pipelined: Vec<u8> = names.iter().flat_map(|name| framed(&query(name, Rtype::A, CALIFORNIAN))).collect();
    for octet in pipelined.chunks(7) {
        stream.write_all(octet).unwrap();
    }
    let told: Vec<_> = names.iter().map(|_| Told::read(&read_framed(&mut stream).unwrap())).collect();
    assert_eq!(told.iter().map(Told::region).collect::<Vec<_>>(), ["us", "eu", "none"]);
    assert_eq!(running.server.counters().count(Event::Tcp), 3);

    // a message that is never finished is cut off
    let mut slow = half.into_iter().next().unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(read_framed(&mut slow), None);
    drop(idle);
    assert!(running.stop());
}

#[test]
fn one_address_gets_only_its_share_of_connections() {
    let running = Running::start();
    let mut many: Vec<_> = (0..80).map(|_| TcpStream::connect(running.address()).unwrap()).collect();
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sent = stream.write_all(&framed(&query("shop.demo.test", Rtype::A, None)));
        sent.ok().and_then(|()| read_framed(stream)).is_some()
    };
    let served = many.iter_mut().map(ask).filter(|served| *served).count();
    assert_eq!(served, 64);
    assert!(running.stop());
}

#[test]
fn a_used_port_is_an_error_that_names_it() {
    let running = Running::start();
    let entered = running.runtime.enter();
    let listen = [running.address()];
    let fault = Server::bind(&listen, Arc::clone(&running.view), Arc::clone(&running.fleet), terms(), &running.tasks)
        .unwrap_err();
    drop(entered);
    assert!(
        fault.to_string().starts_with(&format!("cannot listen for DNS on {} (UDP): ", running.address())),
        "{fault}"
    );
    assert!(running.stop());
}

#[test]
fn several_threads_divide_the_clients_and_the_rate_and_their_port_is_theirs() {
    let terms = Terms::load(&DnsTerms { threads: 4, answers_per_second: Some(400), ..DnsTerms::default() }).unwrap();
    assert_eq!(terms.answers_per_second, Some(100));
    assert_eq!(terms.renewed(&DnsTerms::default()).unwrap().threads, 4, "until the next start");
    let running = Running::start_with(terms);
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let name = format!("dns {}\n", running.address().port());
        tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm == name)).count()
    };
    // each with a port of its own
    for _ in 0..200 {
        assert_eq!(running.ask("shop.demo.test", Rtype::A, GERMAN).region(), "eu");
    }
    assert_eq!(threads(), 4);
    assert_eq!(running.server.counters().count(Event::Subnet), 200);
    let entered = running.runtime.enter();
    let listen = [running.address()];
    let again = |count| {
        let terms = Terms::load(&DnsTerms { threads: count, ..DnsTerms::default() }).unwrap();
        Server::bind(&listen, Arc::clone(&running.view), Arc::clone(&running.fleet), terms, &running.tasks)
    };
    for count in [1, 4] {
        assert!(again(count).is_err(), "a second program with {count} threads must not take part of the clients");
    }
    drop(entered);
    assert!(running.stop());
}

#[test]
fn an_explanation_says_what_the_answer_says() {
    let (config, base) = (config(), geo::Base::embedded().unwrap());
    let view = View::compile(&config, &base).unwrap();
    let site = region_config::SiteId::parse("care").unwrap();
    let fleet = fleet([RegionState::Down, RegionState::Up]);
    let told = view.explain(&site, "128.32.0.1".parse().unwrap(), &fleet, &[], &base).unwrap().explanation;
    assert_eq!(told.location.country, Some(*b"US"));
    let reasons: Vec<_> = told.regions.iter().map(|region| (region.region.as_str(), region.reason)).collect();
    assert_eq!(reasons, [("eu-central", Reason::Chosen), ("us-west", Reason::Outside)]);
    assert_eq!(told.outcome.as_str(), "fail-static");
}

/// With a region that has only IPv6, A and AAAA led to different regions, and the explanation was about neither.
#[test]
fn an_explanation_is_about_one_family_of_addresses() {
    let base = geo::Base::embedded().unwrap();
    let site = region_config::SiteId::parse("shop").unwrap();
    let fleet = fleet([RegionState::Up, RegionState::Up]);
    let explained = |eu: &[&str], us: &[&str]| {
        let mut config = config();
        for (region, addresses) in [(0, eu), (1, us)] {
            for node in &mut config.regions[region].nodes {
                node.addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
            }
        }
        let view = View::compile(&config, &base).unwrap();
        let told = view.explain(&site, "128.32.0.1".parse().unwrap(), &fleet, &[], &base).unwrap();
        let reasons: Vec<_> = told.explanation.regions.iter().map(|region| region.reason).collect();
        let names = [told.explanation.chosen(), told.ipv6_region.as_ref()].map(|it| it.map(ToString::to_string));
        (told.record.to_string(), names, reasons)
    };
    let [eu, us] = ["eu-central", "us-west"].map(|name| Some(name.to_owned()));
    let (v4, v6, both) = (["192.0.2.1"], ["2001:db8::1"], ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(explained(&both, &v6), ("A".to_owned(), [eu, us.clone()], vec![Reason::Chosen, Reason::NoAddress]));
    let farther = |told: (String, [Option<String>; 2], Vec<Reason>)| {
        assert_eq!(told.2[1], Reason::Chosen);
        (told.0, told.1)
    };
    assert_eq!(farther(explained(&both, &both)), ("A".to_owned(), [us.clone(), us.clone()]));
    assert_eq!(farther(explained(&v6, &v6)), ("AAAA".to_owned(), [us.clone(), us.clone()]));
    assert_eq!(farther(explained(&v4, &both)), ("A".to_owned(), [us, None]));
}

#[test]
fn a_listener_on_all_addresses_answers_from_the_one_that_was_asked() {
    let running = Running::start();
    let entered = running.runtime.enter();
    let listen = ["0.0.0.0:0".parse().unwrap(), "[::]:0".parse().unwrap()];
    let server =
        Server::bind(&listen, Arc::clone(&running.view), Arc::clone(&running.fleet), terms(), &running.tasks).unwrap();
    drop(entered);
    for (address, from) in server.addresses().iter().zip(["127.0.0.9", "::1"]) {
        let to = SocketAddr::new(from.parse().unwrap(), address.port());
        let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
        // a connected socket takes answers only from whom it asked
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send(&query("shop.demo.test", Rtype::A, GERMAN)).unwrap();
        let mut answer = [0; 1500];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(Told::read(&answer[..length]).region(), "eu");
    }
    assert!(running.stop());
}
