//! Records beside addresses: HTTPS, CAA, TXT, and several zones.

use domain::{
    base::iana::SvcParamKey,
    rdata::{
        Caa, Https, Txt,
        svcb::value::{Alpn, Ipv4Hint, Ipv6Hint, Port},
    },
};

use super::{
    protocol::{Odd, PEER, desk_of, plain},
    *,
};

pub(super) const MORE: &str = r#"
[[zones]]
name = "other.test"
ttl = "2h"

[[zones.caa]]
tag = "issue"
value = "ca.example; validationmethods=dns-01"

[[zones.caa]]
tag = "iodef"
value = "mailto:security@other.test"
critical = true

[[zones.txt]]
name = "_acme-challenge.www.other.test"
values = ["first", "second"]

[[zones.txt]]
name = "other.test"
values = "v=spf1 -all"
ttl = "1h"

[[zones]]
name = "deep.other.test"

[[zones]]
name = "far.between.www.deep.other.test"

[[sites]]
name = "www"
tenant = "t"
hosts = ["www.other.test", "*.www.other.test", "www.deep.other.test", "other.test"]
origin = "http://127.0.0.1:3000"
https_port = 8443

[sites.tls]
certificate = "www.crt"
key = "www.key"

[[sites]]
name = "secure"
tenant = "t"
hosts = "secure.demo.test"
pin = "eu"
origin = "http://127.0.0.1:3000"

[sites.tls]
certificate = "secure.crt"
key = "secure.key"
"#;

const GERMAN_SUBNET: &[u8] = &[0, 1, 24, 0, 91, 0, 0];
const CALIFORNIAN_SUBNET: &[u8] = &[0, 1, 24, 0, 128, 32, 0];

fn asked(desk: &mut Desk, name: &str, rtype: Rtype, subnet: &[u8]) -> Vec<u8> {
    desk.answer(&Odd::new(name, rtype.to_int(), &[(8, subnet)]).bytes(), PEER, Vec::new())
}

/// What an HTTPS record says.
#[derive(Debug, PartialEq)]
struct Offer {
    alpn: Vec<u8>,
    port: Option<u16>,
    hints: Vec<IpAddr>,
}

fn offer(answer: &[u8]) -> Offer {
    let message = Message::from_slice(answer).unwrap();
    let records: Vec<_> =
        message.answer().unwrap().limit_to_in::<Https<_, _>>().map(|record| record.unwrap().into_data()).collect();
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((record.priority(), record.target().is_root()), (1, true));
    let params = record.params();
    let mut keys: Vec<SvcParamKey> = Vec::new();
    for value in params.iter_raw() {
        keys.push(value.key());
    }
    assert!(keys.windows(2).all(|two| two[0] < two[1]), "RFC 9460 section 2.2: {keys:?}");
    let v4 = params.iter::<Ipv4Hint<_>>().flat_map(|it| it.unwrap().iter().map(IpAddr::V4).collect::<Vec<_>>());
    let v6 = params.iter::<Ipv6Hint<_>>().flat_map(|it| it.unwrap().iter().map(IpAddr::V6).collect::<Vec<_>>());
    Offer {
        alpn: params.iter::<Alpn<_>>().flat_map(|it| it.unwrap().as_slice().to_vec()).collect(),
        port: params.iter::<Port>().map(|it| it.unwrap().port()).next(),
        hints: v4.chain(v6).collect(),
    }
}

#[test]
fn the_hints_of_https_are_the_addresses_of_a_and_aaaa_with_their_scope_and_ttl() {
    let view = View::compile(&config_with(MORE), &geo::Base::embedded().unwrap()).unwrap();
    let fleet_now = Arc::new(ArcSwap::from_pointee(fleet([RegionState::Up; 2])));
    let mut desk = Desk::new(Arc::new(ArcSwap::from_pointee(view)), Arc::clone(&fleet_now), plain(None));
    for (name, port, v6) in [("www.other.test", Some(8443), false), ("secure.demo.test", None, true)] {
        for states in [[RegionState::Up; 2], [RegionState::Down, RegionState::Up], [RegionState::Up, RegionState::Down]]
        {
            fleet_now.store(Arc::new(fleet(states)));
            for subnet in [GERMAN_SUBNET, CALIFORNIAN_SUBNET, &[0, 2, 48, 0, 0x26, 1, 0, 0, 0, 0]] {
                let [a, aaaa] = [Rtype::A, Rtype::AAAA].map(|rtype| Told::read(&asked(&mut desk, name, rtype, subnet)));
                let https = asked(&mut desk, name, Rtype::HTTPS, subnet);
                let (told, offer) = (Told::read(&https), offer(&https));
                assert_eq!(offer.hints, [a.addresses.clone(), aaaa.addresses.clone()].concat(), "{name} {states:?}");
                assert_eq!(aaaa.addresses.is_empty(), !v6);
                assert_eq!((offer.alpn.as_slice(), offer.port), (&b"\x02h2"[..], port));
                assert_eq!((told.ttl_s, told.scope), (a.ttl_s, a.scope), "{name} {states:?}");
                if v6 {
                    assert_eq!((told.ttl_s, told.scope), (aaaa.ttl_s, aaaa.scope));
                }
            }
        }
    }
}

#[test]
fn a_site_without_a_certificate_has_no_https_record_and_nothing_has_svcb() {
    let mut desk = desk_of(&config_with(MORE), plain(None));
    for (name, rtype) in [
        ("shop.demo.test", Rtype::HTTPS),
        ("www.other.test", Rtype::SVCB),
        ("_foo.www.other.test", Rtype::SVCB),
        ("ns1.demo.test", Rtype::HTTPS),
        ("demo.test", Rtype::HTTPS),
    ] {
        let told = Told::read(&asked(&mut desk, name, rtype, GERMAN_SUBNET));
        assert_eq!(
            (told.rcode, told.answers, told.soa, told.scope),
            (Rcode::NOERROR.into(), 0, true, Some(0)),
            "{name}"
        );
    }
    let told = Told::read(&asked(&mut desk, "a.b.www.other.test", Rtype::HTTPS, GERMAN_SUBNET));
    assert_eq!(told.answers, 1, "a name under a pattern");
}

#[test]
fn caa_stands_at_the_apex_of_its_zone_and_texts_under_their_names() {
    let mut desk = desk_of(&config_with(MORE), plain(None));
    let bytes = asked(&mut desk, "other.test", Rtype::CAA, GERMAN_SUBNET);
    let message = Message::from_slice(&bytes).unwrap();
    let caa: Vec<_> = message
        .answer()
        .unwrap()
        .limit_to_in::<Caa<_>>()
        .map(|record| record.unwrap())
        .map(|record| (record.ttl().as_secs(), record.data().to_string()))
        .collect();
    assert_eq!(caa[0], (7_200, "0 issue \"ca.example; validationmethods=dns-01\"".to_owned()));
    assert_eq!(caa[1], (7_200, "128 iodef \"mailto:security@other.test\"".to_owned()));
    assert_eq!(Told::read(&bytes).scope, Some(0));

    let mut texts = |name: &str| -> Vec<(u32, String)> {
        let bytes = asked(&mut desk, name, Rtype::TXT, GERMAN_SUBNET);
        let message = Message::from_slice(&bytes).unwrap();
        let records = message.answer().unwrap().limit_to_in::<Txt<_>>().map(|record| record.unwrap());
        records.map(|record| (record.ttl().as_secs(), String::from_utf8(record.data().text()).unwrap())).collect()
    };
    assert_eq!(texts("_acme-challenge.www.other.test"), [(60, "first".to_owned()), (60, "second".to_owned())]);
    assert_eq!(texts("_ACME-challenge.www.other.test").len(), 2);
    assert_eq!(texts("other.test"), [(3_600, "v=spf1 -all".to_owned())]);
    assert_eq!(texts("www.other.test"), []);
    // beside whatever else stands there
    assert_eq!(Told::read(&asked(&mut desk, "other.test", Rtype::A, GERMAN_SUBNET)).region(), "eu");
    for (name, rtype) in
        [("deep.other.test", Rtype::CAA), ("www.other.test", Rtype::CAA), ("_acme-challenge.www.other.test", Rtype::NS)]
    {
        let told = Told::read(&asked(&mut desk, name, rtype, GERMAN_SUBNET));
        assert_eq!((told.rcode, told.answers, told.soa), (Rcode::NOERROR.into(), 0, true), "{name}");
    }
}

#[test]
fn each_of_several_zones_is_the_authority_for_its_own_names() {
    let mut desk = desk_of(&config_with(MORE), plain(None));
    for (name, apex) in
        [("no.demo.test", "demo.test"), ("no.other.test", "other.test"), ("no.deep.other.test", "deep.other.test")]
    {
        let bytes = asked(&mut desk, name, Rtype::A, GERMAN_SUBNET);
        let message = Message::from_slice(&bytes).unwrap();
        let owner = message.authority().unwrap().next().unwrap().unwrap().owner().to_string();
        assert_eq!((message.opt_rcode(), owner.as_str()), (Rcode::NXDOMAIN.into(), apex));
    }
    for name in ["www.other.test", "www.deep.other.test", "shop.demo.test"] {
        assert_eq!(Told::read(&asked(&mut desk, name, Rtype::A, CALIFORNIAN_SUBNET)).region(), "us", "{name}");
    }
    let told = Told::read(&asked(&mut desk, "third.test", Rtype::A, GERMAN_SUBNET));
    assert_eq!(told.rcode, Rcode::REFUSED.into());
}

/// A resolver that asks name by name on its way down (RFC 9156) was told that there is nothing at `between`, and so nothing
/// below it (RFC 8020): the zone that begins there was out of reach.
#[test]
fn names_between_a_zone_and_one_above_it_exist() {
    let mut desk = desk_of(&config_with(MORE), plain(None));
    for (name, rcode, apex) in [
        ("between.www.deep.other.test", Rcode::NOERROR, "deep.other.test"),
        ("no.between.www.deep.other.test", Rcode::NXDOMAIN, "deep.other.test"),
        ("far.between.www.deep.other.test", Rcode::NOERROR, "far.between.www.deep.other.test"),
    ] {
        let bytes = asked(&mut desk, name, Rtype::A, GERMAN_SUBNET);
        let message = Message::from_slice(&bytes).unwrap();
        let owner = message.authority().unwrap().next().unwrap().unwrap().owner().to_string();
        assert_eq!(
            (message.opt_rcode(), owner.as_str(), Told::read(&bytes).answers),
            (rcode.into(), apex, 0),
            "{name}"
        );
    }
    let told = Told::read(&asked(&mut desk, "www.deep.other.test", Rtype::A, GERMAN_SUBNET));
    assert_eq!(told.region(), "eu", "what stands there stays");
    // nothing of ours is above
    let told = Told::read(&asked(&mut desk, "test", Rtype::A, GERMAN_SUBNET));
    assert_eq!(told.rcode, Rcode::REFUSED.into());
}

/// A part of a name server's addresses was sent as if it were all of them, and none of the next server's.
#[test]
fn addresses_of_name_servers_that_do_not_all_fit_are_left_out_and_others_are_not() {
    let v6: Vec<_> = (1..=45).map(|at| format!("\"2001:db8::{at}\"")).collect();
    let more = format!(
        "[[zones]]\nname = \"glue.test\"\n\n[[zones.name_servers]]\nname = \"ns1.glue.test\"\naddresses = [{}, \
         \"192.0.2.1\", {}]\n\n[[zones.name_servers]]\nname = \"ns2.glue.test\"\naddresses = [\"192.0.2.2\"]\n",
        v6[..20].join(", "),
        v6[20..].join(", ")
    );
    let mut desk = desk_of(&config_with(&more), plain(None));
    let bytes = asked(&mut desk, "glue.test", Rtype::NS, GERMAN_SUBNET);
    let message = Message::from_slice(&bytes).unwrap();
    let additional = message.additional().unwrap().limit_to_in::<AllRecordData<_, _>>();
    let addresses: Vec<_> = additional.map(|record| record.unwrap().into_data().to_string()).collect();
    assert_eq!((addresses, message.header().tc()), (["192.0.2.1", "192.0.2.2"].map(str::to_owned).to_vec(), false));
}

#[test]
fn what_is_too_long_for_udp_comes_over_tcp() {
    let values: Vec<_> = (0..32).map(|n| format!("\"{n:01024}\"")).collect();
    let more = format!(
        "[[zones]]\nname = \"long.test\"\n\n[[zones.txt]]\nname = \"long.test\"\nvalues = [{}]\n",
        values.join(", ")
    );
    let running = Running::start();
    running.view.store(Arc::new(View::compile(&config_with(&more), &geo::Base::embedded().unwrap()).unwrap()));
    let query = query("long.test", Rtype::TXT, None);
    let short = running.udp(&query).unwrap();
    assert!(Message::from_slice(&short).unwrap().header().tc());
    let mut stream = TcpStream::connect(running.address()).unwrap();
    stream.write_all(&framed(&query)).unwrap();
    assert_eq!(Told::read(&read_framed(&mut stream).unwrap()).answers, 32);
    assert!(running.stop());
}
