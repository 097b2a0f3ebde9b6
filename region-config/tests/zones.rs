//! Zones, and what of the fleet and its sites DNS could not answer for as it is meant.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use region_config::{Severity, check};

const NODE: &str = "\
[node]
name = \"a\"
[http]
listen = \"127.0.0.1:8080\"
[dns]
listen = \"127.0.0.1:5300\"
[peer]
listen = \"127.0.0.1:7400\"
ca = \"ca.crt\"
certificate = \"a.crt\"
key = \"a.key\"
[[jurisdictions]]
name = \"eu\"
preset = \"EU\"
[[jurisdictions]]
name = \"us\"
countries = \"US\"
";

/// Two regions with these addresses.
fn fleet(east: &str, west: &str) -> String {
    let region = |name: &str, jurisdiction: &str, node: &str, peer: &str, addresses: &str| {
        format!(
            "[[regions]]\nname = \"{name}\"\nlatitude = 1\nlongitude = 2\njurisdiction = \"{jurisdiction}\"\n\
             nodes = [{{ name = \"{node}\", peer = \"{peer}\", addresses = [{addresses}] }}]\n"
        )
    };
    region("east", "eu", "a", "127.0.0.1:7400", east) + &region("west", "us", "b", "127.0.0.2:7400", west)
}

fn site(name: &str, hosts: &str, more: &str) -> String {
    format!("[[sites]]\nname = \"{name}\"\nhosts = [{hosts}]\norigin = \"http://127.0.0.1:3000\"\n{more}\n")
}

/// Everything that is said of a severity, each with the file that it is in: `f.toml` is the fleet, `s.toml` the rest.
fn told(severity: Severity, fleet: &str, rest: &str) -> Vec<String> {
    let list = match check(&[("n.toml", NODE), ("f.toml", fleet), ("s.toml", rest)]) {
        Ok(checked) => checked.warnings,
        Err(faults) => faults.list().to_vec(),
    };
    list.iter().filter(|it| it.severity() == severity).map(ToString::to_string).collect()
}

fn addressed() -> String {
    fleet("\"192.0.2.1\", \"2001:db8::1\"", "\"192.0.2.2\", \"2001:db8::2\"")
}

/// A pinned site was led out of its pin: DNS answered for its host with the addresses of the name server of that name,
/// and `check` found nothing wrong.
#[test]
fn a_site_has_no_host_that_is_a_name_servers_name() {
    let zone = "[[zones]]\nname = \"x.test\"\n";
    let servers =
        "name_servers = [{ name = \"NS.x.test\", addresses = \"192.0.2.1\" }, { name = \"ns.elsewhere.test\" }]\n";
    let said = |zones: &str, hosts: &str| {
        let rest = zones.to_owned() + &site("s", hosts, "pin = \"us\"");
        told(Severity::Error, &addressed(), &rest)
    };
    let expected = |host: &str, place: &str| {
        format!(
            "s.toml:{place}: site `s`: host `{host}` is a name server of zone `x.test`, so DNS names the name server's \
             addresses to everybody, whatever is said of the site; expected another host, or `name_servers` with other \
             names"
        )
    };
    let named = zone.to_owned() + servers;
    assert_eq!(said(&named, "\"www.x.test\", \"ns.X.test\""), [expected("ns.x.test", "6:24")]);
    assert_eq!(said(zone, "\"ns-east.x.test\""), [expected("ns-east.x.test", "5:10")]);
    // those are no name servers: others are written down, the name is elsewhere, or stands for the names around one
    assert_eq!(said(&named, "\"ns-east.x.test\", \"ns.elsewhere.test\", \"*.x.test\""), [""; 0]);
    assert_eq!(said(zone, "\"ns.x.test\", \"ns-east.y.test\""), [""; 0]);
    // a zone's name servers may have their names in another one of ours
    let other = format!("[[zones]]\nname = \"y.test\"\n{servers}");
    assert_eq!(said(&(zone.to_owned() + &other), "\"ns.x.test\"").len(), 1);
}

/// Without regions there is one all the same, and its name server has a name.
#[test]
fn a_node_alone_has_a_name_server_too() {
    let node = "[node]\nname = \"a\"\n[http]\nlisten = \"127.0.0.1:8080\"\n[[zones]]\nname = \"x.test\"\n";
    let faults = check(&[("n.toml", node), ("s.toml", &site("s", "\"ns-local.x.test\"", ""))]).unwrap_err();
    assert!(faults.to_string().contains("host `ns-local.x.test` is a name server of zone `x.test`"), "{faults}");
}

/// Of two zones that gave one name server different addresses, the later one was believed.
#[test]
fn a_name_server_has_the_same_addresses_in_each_zone() {
    let zone = |apex: &str, addresses: &str| {
        let server = format!("{{ name = \"ns.x.test\"{addresses} }}");
        format!("[[zones]]\nname = \"{apex}\"\nname_servers = [{server}]\n")
            + &site(&apex[..1], &format!("\"www.{apex}\""), "")
    };
    let said = |addresses: [&str; 2]| {
        told(Severity::Error, &addressed(), &(zone("x.test", addresses[0]) + &zone("y.test", addresses[1])))
    };
    let both = ", addresses = [\"192.0.2.1\", \"192.0.2.2\"]";
    assert_eq!(said([both, ", addresses = [\"192.0.2.2\", \"192.0.2.1\"]"]), [""; 0]);
    assert_eq!(said([both, ""]), [""; 0]);
    let faults = said([both, ", addresses = \"192.0.2.1\""]);
    assert!(
        matches!(&faults[..], [fault] if fault.contains("zone `y.test`: name server `ns.x.test` has other addresses than at s.toml:3;")),
        "{faults:?}"
    );
}

/// DNS handed out what it was given, 0.0.0.0 among it.
#[test]
fn addresses_that_no_client_reaches_are_refused() {
    let kinds = [
        ("0.0.0.0", "which stands for every address of a machine"),
        ("::", "which stands for every address of a machine"),
        ("224.0.0.1", "which is a group's (multicast)"),
        ("ff0e::1", "which is a group's (multicast)"),
        ("255.255.255.255", "which is everybody's (broadcast)"),
        ("169.254.1.1", "which holds on one link only (link-local)"),
        ("fe80::1", "which holds on one link only (link-local)"),
        ("::ffff:1.2.3.4", "which is an IPv4 address written as IPv6 (mapped)"),
    ];
    for (address, why) in kinds {
        let fleet = fleet("\"192.0.2.1\"", &format!("\"192.0.2.2\", \"{address}\""));
        let zone = format!(
            "[[zones]]\nname = \"x.test\"\nname_servers = [{{ name = \"ns.x.test\", addresses = \"{address}\" }}]\n"
        );
        let rest = zone + &site("s", "\"www.x.test\"", "");
        let expected = |place: &str, about: &str| {
            format!(
                "{place}: {about}: `addresses` has `{address}`, {why}; expected an address that clients reach it at"
            )
        };
        assert_eq!(
            told(Severity::Error, &fleet, &rest),
            [expected("f.toml:12:75", "node `b`"), expected("s.toml:3:51", "name server `ns.x.test`"),]
        );
    }
    let fleet = fleet("\"127.0.0.1\", \"::1\", \"10.0.0.1\", \"fd00::1\"", "\"192.0.2.2\"");
    assert_eq!(told(Severity::Error, &fleet, &site("s", "\"www.x.test\"", "")), [""; 0]);
}

/// A site pinned to `eu` was told the address of a node in `us`, as that was written at a node in `eu` too.
#[test]
fn an_address_is_not_on_both_sides_of_a_border() {
    let rest = "[[zones]]\nname = \"x.test\"\n".to_owned() + &site("s", "\"www.x.test\"", "");
    let shared = fleet("\"192.0.2.1\", \"192.0.2.2\"", "\"192.0.2.3\", \"192.0.2.2\"");
    assert_eq!(
        told(Severity::Error, &shared, &rest),
        [
            "f.toml:12:75: node `b`: `addresses` has `192.0.2.2`, which stands already at f.toml:6, in jurisdiction `eu`; \
             expected another address: clients of a site pinned here would be led there, or the other way"
        ]
    );
    // inside one jurisdiction it may be anycast
    let inside = shared.replace("jurisdiction = \"us\"", "jurisdiction = \"eu\"");
    assert_eq!(told(Severity::Error, &inside, &rest), [""; 0]);
    assert_eq!(
        told(Severity::Warning, &inside, &rest),
        [
            "f.toml:12:75: warning: node `b`: `addresses` has `192.0.2.2`, which stands already at f.toml:6; expected each \
             address at one node, unless the network leads each client to the nearest (anycast)"
        ]
    );
    assert_eq!(told(Severity::Warning, &addressed(), &rest), [""; 0]);
}

/// A site for `*` in a fleet with a zone: every name was NXDOMAIN, and nothing was said.
#[test]
fn sites_that_dns_does_not_answer_for_are_told() {
    let zones =
        |apexes: &[&str]| apexes.iter().map(|apex| format!("[[zones]]\nname = \"{apex}\"\n")).collect::<String>();
    let said =
        |apexes: &[&str], hosts: &str| told(Severity::Warning, &addressed(), &(zones(apexes) + &site("s", hosts, "")));
    let empty = |place: &str, apex: &str| {
        format!(
            "s.toml:{place}: warning: zone `{apex}`: no site has a host in it: but for what is written here, all names in \
             it do not exist (NXDOMAIN); expected a site with a host such as `www.{apex}`"
        )
    };
    assert_eq!(
        said(&["x.test"], "\"*\""),
        [
            empty("2:8", "x.test"),
            "s.toml:5:10: warning: site `s`: host `*` is for whoever comes: DNS answers for none of these names; expected \
             `*.x.test` for all names below a zone, or hosts that are written out"
                .to_owned(),
        ]
    );
    assert_eq!(
        said(&["x.test"], "\"www.y.test\", \"192.0.2.1\""),
        [
            empty("2:8", "x.test"),
            "s.toml:5:10: warning: site `s`: host `www.y.test` lies in no zone, so DNS will not answer for it; expected a \
             host inside one of `[[zones]]`"
                .to_owned(),
        ]
    );
    for hosts in ["\"www.x.test\"", "\"x.test\"", "\"*.x.test\"", "\"*.a.x.test\"", "\"*.test\""] {
        assert_eq!(said(&["x.test"], hosts), [""; 0], "{hosts}");
    }
    // a name is in the longest of the zones above it; a pattern has names in all below it
    assert_eq!(said(&["x.test", "a.x.test"], "\"www.a.x.test\""), [empty("2:8", "x.test")]);
    assert_eq!(said(&["x.test", "a.x.test"], "\"*.x.test\""), [""; 0]);
}

/// One region without IPv6 took AAAA from a site everywhere; one without IPv4 led A and AAAA to different regions.
/// Nothing was said of either.
#[test]
fn regions_that_lack_a_family_that_others_have_are_told() {
    let said = |east: &str, west: &str, sites: &str| {
        let rest = "[[zones]]\nname = \"x.test\"\n".to_owned() + sites;
        told(Severity::Warning, &fleet(east, west), &rest)
    };
    let (v4, v6, both) = ("\"192.0.2.1\"", "\"2001:db8::2\"", "\"192.0.2.3\", \"2001:db8::3\"");
    let sites = site("p", "\"p.x.test\"", "pin = \"us\"")
        + &site("d", "\"d.x.test\"", "[sites.steering]\ndeny = \"west\"")
        + &site("s", "\"*.x.test\"", "")
        + &site(
            "f",
            "\"f.x.test\"",
            "[sites.steering]\nallow = \"east\"\nall_down = \"fallback\"\nfallback = \"west\"",
        );
    let without_v6 = |line: u8, region: &str, sites: &str| {
        format!(
            "f.toml:{line}:1: warning: region `{region}`: no node of it has an IPv6 address, though those of other regions \
             have: so that all clients are told the same, DNS names no IPv6 address at all for {sites}; expected an IPv6 \
             address of a node in it, or the region in `deny` there"
        )
    };
    let without_v4 = |line: u8, region: &str, sites: &str| {
        format!(
            "f.toml:{line}:1: warning: region `{region}`: no node of it has an IPv4 address, though those of other regions \
             have: A never leads here, and AAAA perhaps elsewhere than A, for {sites}; expected an IPv4 address of a \
             node in it, or the region in `deny` there"
        )
    };
    assert_eq!(said(both, v4, &sites), [without_v6(7, "west", "site `s`, site `f`")]);
    assert_eq!(said(both, v6, &sites), [without_v4(7, "west", "site `s`, site `f`")]);
    assert_eq!(
        said(v6, v4, &sites),
        [without_v4(1, "east", "site `s`, site `f`"), without_v6(7, "west", "site `s`, site `f`")]
    );
    for (east, west) in [(both, both), (v4, v4), (v6, v6)] {
        assert_eq!(said(east, west, &sites), [""; 0]);
    }
    let many: String = (0..9).map(|at| site(&format!("s{at}"), &format!("\"s{at}.x.test\""), "")).collect();
    assert_eq!(said(both, v4, &many), [without_v6(7, "west", "site `s0`, site `s1`, site `s2` and 6 more")]);
}

/// A name with neither A nor AAAA: the only region of the site had IPv6 alone, and the one to fall back to none.
#[test]
fn a_site_has_an_address_of_one_family_at_least() {
    let zone = "[[zones]]\nname = \"x.test\"\n";
    let wishes =
        |allow: &str| format!("steering = {{ allow = \"{allow}\", all_down = \"fallback\", fallback = \"west\" }}");
    let said = |fleet: &str, hosts: &str, more: &str| {
        told(Severity::Error, fleet, &(zone.to_owned() + &site("s", hosts, more)))
    };
    let mixed = fleet("\"2001:db8::1\"", "\"192.0.2.2\"");
    let expected = "s.toml:3:1: site `s`: DNS would name no address at all: no region that it allows has an IPv4 address, and \
                    IPv6 addresses are named only if all its regions have one, which these have not: `west`; expected an \
                    IPv6 address in these regions, or an IPv4 address in one that it allows";
    assert_eq!(said(&mixed, "\"www.x.test\"", &wishes("east")), [expected]);
    assert_eq!(said(&mixed, "\"www.elsewhere.test\"", &wishes("east")), [""; 0]);
    assert_eq!(said(&mixed, "\"www.x.test\"", "steering = { allow = \"east\" }"), [""; 0]);
    assert_eq!(said(&mixed, "\"www.x.test\"", ""), [""; 0]);
    let both = fleet("\"2001:db8::1\"", "\"192.0.2.2\", \"2001:db8::2\"");
    assert_eq!(said(&both, "\"www.x.test\"", &wishes("east")), [""; 0]);
}

#[test]
fn a_zone_has_a_key_once_and_a_region_has_nodes() {
    let keys = "[[zones]]\nname = \"x.test\"\ndnssec_keys = [\"a.pem\", \"b.pem\", \"a.pem\"]\n";
    assert_eq!(
        told(Severity::Error, &addressed(), &(keys.to_owned() + &site("s", "\"x.test\"", ""))),
        ["s.toml:3:34: zone `x.test`: key `a.pem` stands already at s.toml:3; expected each one once"]
    );
    let region = "[[regions]]\nname = \"south\"\nlatitude = 1\nlongitude = 2\njurisdiction = \"eu\"\n";
    assert_eq!(
        told(Severity::Error, &(addressed() + region), &site("s", "\"x.test\"", "")),
        ["f.toml:13:1: region `south`: no `nodes`; expected a table with one of `addresses`, `name`, `peer`"]
    );
}

/// `isue` restricted nobody, and was taken without a word.
#[test]
fn a_tag_that_no_ca_knows_is_told() {
    let said = |caa: &str| {
        let rest = format!("[[zones]]\nname = \"x.test\"\n[[zones.caa]]\nvalue = \";\"\n{caa}\n");
        told(Severity::Warning, &addressed(), &(rest + &site("s", "\"www.x.test\"", "")))
    };
    let expected = |effect: &str| {
        format!(
            "s.toml:5:7: warning: zone `x.test`: `isue` is no CAA tag that CAs know: {effect}; expected one of `issue`, \
             `issuewild`, `issuemail`, `issuevmc`, `iodef`, `contactemail`, `contactphone`"
        )
    };
    assert_eq!(said("tag = \"isue\""), [expected("it restricts nobody")]);
    assert_eq!(said("tag = \"isue\"\ncritical = true"), [expected("no CA may issue anything")]);
    assert_eq!(said("tag = \"IssueWild\""), [""; 0]);
}
