//! Messages as they should not be, and what comes back: as a careful server (gdnsd) answers them, or better.

use domain::base::{
    iana::{Class, OptionCode},
    opt::{Cookie, Nsid},
};

use super::*;

const ECS: u16 = 8;
const COOKIE: u16 = 10;
const NSID: u16 = 3;

/// A query, part by part, so that each can be wrong.
#[derive(Clone)]
pub(super) struct Odd {
    flags: [u8; 2],
    /// QDCOUNT to ARCOUNT.
    counts: [u8; 4],
    name: Vec<u8>,
    rtype: u16,
    class: u16,
    /// OPT records, and what else stands behind the question.
    rest: Vec<u8>,
}

pub(super) fn opt(version: u8, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (code, octets) in options {
        data.extend_from_slice(&code.to_be_bytes());
        data.extend_from_slice(&u16::try_from(octets.len()).unwrap().to_be_bytes());
        data.extend_from_slice(octets);
    }
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [&[0, 0, 41, 4, 208, 0, version, 0, 0][..], &length, &data].concat()
}

pub(super) fn wire_name(name: &str) -> Vec<u8> {
    Name::<Vec<u8>>::vec_from_str(name).unwrap().as_slice().to_vec()
}

impl Odd {
    pub(super) fn new(name: &str, rtype: u16, options: &[(u16, &[u8])]) -> Self {
        Self { flags: [1, 0], counts: [1, 0, 0, 1], name: wire_name(name), rtype, class: 1, rest: opt(0, options) }
    }

    fn bare(name: &str) -> Self {
        Self { counts: [1, 0, 0, 0], rest: Vec::new(), ..Self::new(name, 1, &[]) }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0, 7, self.flags[0], self.flags[1]];
        self.counts.iter().for_each(|count| bytes.extend_from_slice(&[0, *count]));
        if !self.name.is_empty() {
            bytes.extend_from_slice(&self.name);
            bytes.extend_from_slice(&self.rtype.to_be_bytes());
            bytes.extend_from_slice(&self.class.to_be_bytes());
        }
        bytes.extend_from_slice(&self.rest);
        bytes
    }
}

pub(super) fn desk(terms: Terms) -> Desk {
    desk_of(&config(), terms)
}

pub(super) fn desk_of(config: &Config, terms: Terms) -> Desk {
    let view = View::compile(config, &geo::Base::embedded().unwrap()).unwrap();
    let fleet = fleet([RegionState::Up; 2]);
    Desk::new(Arc::new(ArcSwap::from_pointee(view)), Arc::new(ArcSwap::from_pointee(fleet)), terms)
}

pub(super) fn plain(answers_per_second: Option<u32>) -> Terms {
    Terms::load(&DnsTerms { answers_per_second, ..DnsTerms::default() }).unwrap()
}

pub(super) const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(91, 0, 0, 1));

/// The outcome, and whether the answer has EDNS; none if nothing came.
type Came = Option<(OptRcode, bool)>;

fn asked(desk: &mut Desk, bytes: &[u8]) -> Came {
    let answer = desk.answer(bytes, PEER, Vec::new());
    if answer.is_empty() {
        return None;
    }
    let message = Message::from_slice(&answer).unwrap();
    assert!(message.header().qr() && answer[..2] == bytes[..2] && !message.header().ra() && !message.header().ad());
    Some((message.opt_rcode(), message.opt().is_some()))
}

#[test]
fn odd_messages_get_what_is_owed_to_them() {
    const SHOP: &str = "shop.demo.test";
    let good = Odd::new(SHOP, 1, &[]);
    let ecs = |octets: &[u8]| Odd::new(SHOP, 1, &[(ECS, octets)]);
    let twice =
        |first: &[u8], second: &[u8]| Odd { counts: [1, 0, 0, 2], rest: [first, second].concat(), ..good.clone() };
    let record = [&[0][..], &[0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1]].concat();
    let flags = |flags: [u8; 2]| Odd { flags, ..good.clone() };
    let class = |class: u16| Odd { class, ..good.clone() };
    let rtype = |rtype: u16| Odd { rtype, ..good.clone() };
    let name = |octets: &[u8]| Odd { name: octets.to_vec(), ..Odd::bare(SHOP) };
    let edns = |rcode| Some((rcode, true));
    let none = |rcode| Some((rcode, false));
    use OptRcode as R;
    #[rustfmt::skip]
    let cases: Vec<(&str, Odd, Came)> = vec![
        ("a proper query", good.clone(), edns(R::NOERROR)),
        ("without EDNS", Odd::bare(SHOP), none(R::NOERROR)),
        ("an unknown option", Odd::new(SHOP, 1, &[(65_001, &[1, 2])]), edns(R::NOERROR)),
        ("an unknown type", rtype(65_280), edns(R::NOERROR)),
        ("CD and AD set", flags([1, 0x30]), edns(R::NOERROR)),
        ("the Z bit set", flags([1, 0x40]), edns(R::NOERROR)),
        ("another EDNS version", Odd { rest: opt(1, &[]), ..good.clone() }, edns(R::BADVERS)),
        ("another version, and a malformed option", Odd { rest: opt(9, &[(ECS, &[1])]), ..good.clone() }, edns(R::BADVERS)),
        ("two OPT records", twice(&opt(0, &[]), &opt(0, &[])), edns(R::FORMERR)),
        ("OPT under a name", Odd { rest: [&[1, b'a'][..], &opt(0, &[])].concat(), ..good.clone() }, edns(R::FORMERR)),
        ("OPT announced, and not there", Odd { rest: vec![], ..good.clone() }, none(R::FORMERR)),
        ("an option longer than OPT", Odd { rest: { let mut it = opt(0, &[(ECS, &[0, 1, 8, 0, 10])]); it[14] = 9; it }, ..good.clone() }, edns(R::FORMERR)),
        ("octets behind the end", Odd { rest: [opt(0, &[]), vec![0]].concat(), ..good.clone() }, edns(R::FORMERR)),
        ("no question (RFC 9619)", Odd { counts: [0, 0, 0, 1], name: vec![], ..good.clone() }, edns(R::FORMERR)),
        ("two questions (RFC 9619)", Odd { counts: [2, 0, 0, 0], rest: [wire_name(SHOP), vec![0, 1, 0, 1]].concat(), ..good.clone() }, none(R::FORMERR)),
        ("a question announced, and not there", Odd { name: vec![], ..Odd::bare(SHOP) }, none(R::FORMERR)),
        ("a record as an answer", Odd { counts: [1, 1, 0, 0], rest: record.clone(), ..good.clone() }, none(R::FORMERR)),
        ("a record as authority", Odd { counts: [1, 0, 1, 0], rest: record, ..good.clone() }, none(R::FORMERR)),
        ("an answer", flags([0x81, 0]), None),
        ("a notification", flags([0x20, 0]), edns(R::NOTIMP)),
        ("an update", flags([0x28, 0]), edns(R::NOTIMP)),
        ("an opcode that does not exist", flags([0x78, 0]), edns(R::NOTIMP)),
        ("class CH", class(3), edns(R::REFUSED)),
        ("class HS", class(4), edns(R::REFUSED)),
        ("class ANY", class(255), edns(R::REFUSED)),
        ("class 0", class(0), edns(R::REFUSED)),
        ("a zone transfer", rtype(252), edns(R::REFUSED)),
        ("an incremental one", rtype(251), edns(R::REFUSED)),
        ("OPT as a question", rtype(41), edns(R::FORMERR)),
        ("TSIG as a question", rtype(250), edns(R::FORMERR)),
        ("another's name", Odd::new("example.org", 1, &[]), edns(R::REFUSED)),
        ("a name that points at itself", name(&[0xc0, 12]), none(R::FORMERR)),
        ("a name that points at its own start", name(&[1, b'a', 0xc0, 12]), none(R::FORMERR)),
        ("a name that points behind the end", name(&[0xc0, 0xff]), none(R::FORMERR)),
        ("a label of a kind that does not exist", name(&[0x41, b'a', 0]), none(R::FORMERR)),
        ("a name of 257 octets", name(&[[1, b'a'].repeat(128), vec![0]].concat()), none(R::FORMERR)),
        ("SOURCE 0", ecs(&[0, 1, 0, 0]), edns(R::NOERROR)),
        ("a subnet of a bit", ecs(&[0, 1, 1, 0, 128]), edns(R::NOERROR)),
        ("an empty subnet", ecs(&[]), edns(R::FORMERR)),
        ("a subnet cut short", ecs(&[0, 1, 24, 0, 203, 0]), edns(R::FORMERR)),
        ("a subnet with octets to spare", ecs(&[0, 1, 24, 0, 203, 0, 113, 0]), edns(R::FORMERR)),
        ("a subnet with bits behind SOURCE", ecs(&[0, 1, 23, 0, 203, 0, 113]), edns(R::FORMERR)),
        ("a subnet with SCOPE", ecs(&[0, 1, 24, 24, 203, 0, 113]), edns(R::FORMERR)),
        ("SOURCE 33", ecs(&[0, 1, 33, 0, 203, 0, 113, 1, 0]), edns(R::FORMERR)),
        ("SOURCE 129", ecs(&[&[0, 2, 129, 0][..], &[0; 17]].concat()), edns(R::FORMERR)),
        ("a family that does not exist", ecs(&[0, 3, 8, 0, 10]), edns(R::FORMERR)),
        ("two subnets", Odd::new(SHOP, 1, &[(ECS, &[0, 1, 8, 0, 10]), (ECS, &[0, 1, 8, 0, 10])]), edns(R::FORMERR)),
        ("a cookie of 7 octets", Odd::new(SHOP, 1, &[(COOKIE, &[1; 7])]), edns(R::FORMERR)),
        ("a cookie of 12 octets", Odd::new(SHOP, 1, &[(COOKIE, &[1; 12])]), edns(R::FORMERR)),
        ("a cookie of 41 octets", Odd::new(SHOP, 1, &[(COOKIE, &[1; 41])]), edns(R::FORMERR)),
        ("a cookie of somebody else", Odd::new(SHOP, 1, &[(COOKIE, &[1; 24])]), edns(R::NOERROR)),
        ("a cookie and no question", Odd { counts: [0, 0, 0, 1], name: vec![], ..Odd::new(SHOP, 1, &[(COOKIE, &[1; 8])]) }, edns(R::NOERROR)),
        ("another's cookie and no question", Odd { counts: [0, 0, 0, 1], name: vec![], ..Odd::new(SHOP, 1, &[(COOKIE, &[1; 24])]) }, edns(R::BADCOOKIE)),
    ];
    let mut desk = desk(plain(None));
    let wrong: Vec<_> = cases
        .iter()
        .map(|(case, odd, expected)| (case, asked(&mut desk, &odd.bytes()), expected))
        .filter(|(_, told, expected)| told != *expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(asked(&mut desk, &[0; 11]), None);
}

#[test]
fn an_answer_keeps_the_case_it_was_asked_in() {
    let odd = Odd::new("sHoP.dEmO.TeSt", 1, &[(ECS, &[0, 1, 24, 0, 91, 0, 0])]);
    let answer = desk(plain(None)).answer(&odd.bytes(), PEER, Vec::new());
    assert!(answer.windows(16).any(|octets| octets == wire_name("sHoP.dEmO.TeSt")));
    let message = Message::from_slice(&answer).unwrap();
    let owner = message.answer().unwrap().next().unwrap().unwrap().owner().to_string();
    assert_eq!((owner.as_str(), message.sole_question().unwrap().qclass()), ("sHoP.dEmO.TeSt", Class::IN));
}

#[test]
fn the_servers_name_is_told_to_those_who_ask_if_the_config_has_one() {
    let odd = Odd::new("shop.demo.test", 1, &[(NSID, &[])]);
    let told = |terms: Terms, odd: &Odd| {
        let answer = desk(terms).answer(&odd.bytes(), PEER, Vec::new());
        let opt = Message::from_slice(&answer).unwrap().opt().unwrap();
        opt.opt().first::<Nsid<_>>().map(|nsid| nsid.as_slice().to_vec())
    };
    assert_eq!(told(terms(), &odd).unwrap(), b"fra-1");
    assert_eq!(told(terms(), &Odd::new("shop.demo.test", 1, &[])), None);
    assert_eq!(told(plain(None), &odd), None);
}

fn cookie_of(answer: &[u8]) -> Vec<u8> {
    let opt = Message::from_slice(answer).unwrap().opt().unwrap();
    let options = opt.opt().iter::<domain::base::opt::UnknownOptData<_>>().map(|option| option.unwrap());
    options.into_iter().find(|option| option.code() == OptionCode::COOKIE).unwrap().as_slice().to_vec()
}

#[test]
fn over_its_rate_a_block_is_led_to_tcp_or_to_its_cookie_and_with_the_cookie_it_has_no_rate() {
    let mut desk = desk(plain(Some(5)));
    let plain = Odd::new("shop.demo.test", 1, &[]).bytes();
    let with = |cookie: &[u8]| Odd::new("shop.demo.test", 1, &[(COOKIE, cookie)]).bytes();
    let mut ask = |bytes: &[u8]| desk.answer(bytes, PEER, Vec::new());
    let first = ask(&with(&[9; 8]));
    let tc = |answer: &[u8]| Message::from_slice(answer).unwrap().header().tc();
    let outcomes: Vec<_> = (0..40).map(|_| ask(&plain)).collect();
    let (whole, rest): (Vec<_>, Vec<_>) = outcomes.iter().partition(|answer| !answer.is_empty() && !tc(answer));
    assert!((4..10).contains(&whole.len()), "{}", whole.len());
    let short = rest.iter().filter(|answer| !answer.is_empty()).count();
    assert!(short.abs_diff(rest.len() / 2) <= 2 && rest.iter().all(|answer| answer.len() <= plain.len()));

    // whoever has a client cookie only is given a server cookie, and with it there is no limit
    let bad: Vec<_> = (0..4).map(|_| ask(&with(&[9; 8]))).filter(|answer| !answer.is_empty()).collect();
    let bad = bad.first().unwrap();
    assert_eq!(Message::from_slice(bad).unwrap().opt_rcode(), OptRcode::BADCOOKIE);
    assert_eq!(cookie_of(bad)[..8], [9; 8]);
    assert!(Message::from_slice(bad).unwrap().opt().unwrap().opt().first::<Cookie>().is_some());
    for answer in (0..100).map(|at| ask(&with(&cookie_of(if at % 2 == 0 { bad } else { &first })))) {
        let message = Message::from_slice(&answer).unwrap();
        assert_eq!((message.opt_rcode(), message.header().tc()), (OptRcode::NOERROR, false));
        assert!(message.header_counts().ancount() > 0);
    }
    let counted = |event| desk.counters().count(event);
    assert_eq!(counted(Event::Proven), 100);
    assert!(counted(Event::Limited) >= 15 && counted(Event::Withheld) >= 15);
}

#[test]
fn over_tcp_there_is_no_rate() {
    let running = Running::start_with(plain(Some(1)));
    let mut stream = TcpStream::connect(running.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for _ in 0..20 {
        stream.write_all(&framed(&query("shop.demo.test", Rtype::A, GERMAN))).unwrap();
        assert_eq!(Told::read(&read_framed(&mut stream).unwrap()).region(), "eu");
    }
    assert_eq!(running.server.counters().count(Event::Limited), 0);
    assert!(running.stop());
}

#[test]
fn a_reload_takes_other_terms_and_keeps_cookies() {
    let running = Running::start_with(plain(None));
    let with = |cookie: &[u8]| Odd::new("shop.demo.test", 1, &[(COOKIE, cookie), (NSID, &[])]).bytes();
    let first = running.udp(&with(&[3; 8])).unwrap();
    let terms = DnsTerms { nsid: Some("muc-2".to_owned()), ..DnsTerms::default() };
    running.server.replace(running.server.terms(&terms).unwrap());
    let second = running.udp(&with(&cookie_of(&first))).unwrap();
    assert_eq!(cookie_of(&second), cookie_of(&first));
    assert!(second.windows(5).any(|octets| octets == b"muc-2"));
    assert_eq!(running.server.counters().count(Event::Proven), 1);
    assert!(running.stop());
}
