//! DNS as others' programs see it: dig and kdig, which are strict about what comes back, and a program that sends what no
//! client would.

use std::{
    fmt::Write as _,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tempfile::TempDir;

use super::dnssec;
use crate::harness::{
    Node,
    certificates::{SiteCa, Validity},
    free_addresses,
};

const HOST: &str = "shop.demo.test";
/// What the zone has besides a site: a text of the length of many, and one that no UDP answer holds.
const CONFIG: &str = r#"
[[zones]]
name = "demo.test"

[[zones.name_servers]]
name = "ns1.demo.test"
addresses = ["192.0.2.53", "2001:db8:53::53"]

[[zones.caa]]
tag = "issue"
value = "ca.example; validationmethods=dns-01"

[[zones.caa]]
tag = "iodef"
value = "mailto:ca@demo.test"

[[zones.txt]]
name = "_acme-challenge.shop.demo.test"
values = ["gfj9Xq-Rg85nM", "a \"quoted\" one"]

[[sites]]
name = "shop"
hosts = ["shop.demo.test"]
tls = { certificate = "shop.crt", key = "shop.key" }
https_port = 8443
origin = "http://127.0.0.1:9"

[[jurisdictions]]
name = "eu"
preset = "EU"

[[regions]]
name = "eu-central"
latitude = 50.11
longitude = 8.68
jurisdiction = "eu"

[[regions.nodes]]
name = "edge-1"
addresses = ["198.51.100.1", "2001:db8:1::1"]
"#;

/// A node that answers for the zone; `terms` are keys of `[dns]`.
fn node(terms: &str) -> (Node, SocketAddr) {
    let dir = TempDir::new().unwrap();
    SiteCa::new().site(dir.path(), "shop", HOST, Validity::Now);
    let [dns] = free_addresses();
    let mut config = format!("[dns]\nlisten = \"{dns}\"\n{terms}\n{CONFIG}");
    let values: String = (0..12).fold(String::new(), |mut all, at| {
        write!(all, "\"{at}{}\", ", "x".repeat(200)).unwrap();
        all
    });
    write!(config, "[[zones.txt]]\nname = \"long.demo.test\"\nvalues = [{values}]\n").unwrap();
    (Node::within(dir, &config), dns)
}

const WHOLE: &str = "nsid = \"fra-1\"\nanswers_per_second = 0";

fn run(program: &str, server: SocketAddr, words: &[&str]) -> String {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let output = Command::new(program).args([&at, "-p", &port]).args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What dig says: one question, a second each for as many tries as a flood may cost.
fn dig(server: SocketAddr, words: &str) -> String {
    run("dig", server, &[&["+time=1", "+tries=15"][..], &words.split(' ').collect::<Vec<_>>()].concat())
}

/// What kdig says.
fn kdig(server: SocketAddr, words: &str) -> String {
    run("kdig", server, &[&["+time=1", "+retry=15"][..], &words.split(' ').collect::<Vec<_>>()].concat())
}

/// Fails unless all parts are in what was told.
#[track_caller]
fn has(told: &str, parts: &[&str]) {
    let missing: Vec<_> = parts.iter().filter(|part| !told.contains(**part)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in\n{told}");
    // what dig says when something is odd about an answer; nobody asks us to recurse
    let odd = |line: &&str| line.contains("WARNING") && !line.contains("recursion");
    assert_eq!(told.lines().find(odd), None, "{told}");
}

/// `make dns-cases` has gdnsd and Knot answer beside it.
#[test]
fn messages_as_they_should_not_be_get_what_is_owed_to_them() {
    let (_node, dns) = node(WHOLE);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("dns/malformed.py");
    let mut command = Command::new("python3");
    command.arg(program).args(["--server", &dns.to_string(), "--name", HOST]);
    if let Some(peers) = std::env::var_os("MERIDIAN_DNS_PEERS") {
        command.arg("--table").arg("--peers").arg(peers);
    }
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    eprintln!("{told}");
    assert!(output.status.success(), "{told}");
}

#[test]
fn dig_and_kdig_read_every_record_of_a_zone() {
    let (_node, dns) = node(WHOLE);
    let no_error = "status: NOERROR";
    has(&dig(dns, "shop.demo.test A"), &[no_error, "aa", "ANSWER: 1", "198.51.100.1"]);
    has(&dig(dns, "shop.demo.test AAAA"), &[no_error, "ANSWER: 1", "2001:db8:1::1"]);
    let service = "1 . alpn=\"h2\" port=8443 ipv4hint=198.51.100.1 ipv6hint=2001:db8:1::1";
    has(&dig(dns, "shop.demo.test HTTPS"), &[no_error, "ANSWER: 1", service]);
    has(&kdig(dns, "shop.demo.test HTTPS"), &[no_error, "ANSWER: 1", "alpn=h2", "ipv4hint=198.51.100.1"]);
    has(&dig(dns, "demo.test SOA"), &[no_error, "ns1.demo.test."]);
    has(&dig(dns, "demo.test NS"), &[no_error, "ADDITIONAL: 3", "192.0.2.53", "2001:db8:53::53"]);
    let caa = ["ANSWER: 2", "0 issue \"ca.example; validationmethods=dns-01\"", "0 iodef \"mailto:ca@demo.test\""];
    has(&dig(dns, "demo.test CAA"), &caa);
    has(&kdig(dns, "demo.test CAA"), &caa);
    let text = ["ANSWER: 2", "\"gfj9Xq-Rg85nM\"", "\"a \\\"quoted\\\" one\""];
    has(&dig(dns, "_acme-challenge.shop.demo.test TXT"), &text);
    has(&kdig(dns, "_acme-challenge.shop.demo.test TXT"), &text);
    has(&dig(dns, "shop.demo.test ANY +notcp"), &[no_error, "ANSWER: 1", "HINFO", "RFC8482"]);
    has(&dig(dns, "nobody.demo.test A"), &["status: NXDOMAIN", "AUTHORITY: 1", "SOA"]);
    has(&dig(dns, "shop.demo.test MX"), &[no_error, "ANSWER: 0", "AUTHORITY: 1", "SOA"]);
    // empty, and there
    has(&dig(dns, "_tcp.demo.test A"), &["status: NXDOMAIN"]);
    has(&dig(dns, "_acme-challenge.shop.demo.test A"), &[no_error, "ANSWER: 0"]);
    // as it was asked, letter for letter
    has(&dig(dns, "sHoP.dEmO.TeSt A"), &["sHoP.dEmO.TeSt.\t\t30\tIN\tA\t198.51.100.1"]);
}

#[test]
fn dig_and_kdig_are_refused_what_is_nobodys_business() {
    let (_node, dns) = node(WHOLE);
    let refused = "status: REFUSED";
    has(&dig(dns, "version.bind CH TXT"), &[refused, "EDE: 20 (Not Authoritative)"]);
    has(&dig(dns, "hostname.bind CH TXT"), &[refused]);
    has(&dig(dns, "example.org A"), &[refused, "EDE: 20 (Not Authoritative)"]);
    has(&dig(dns, "demo.test AXFR"), &["Transfer failed."]);
    has(&kdig(dns, "demo.test AXFR"), &["REFUSED"]);
    has(&kdig(dns, "demo.test IXFR=1"), &["REFUSED"]);
    has(&dig(dns, "shop.demo.test +opcode=notify"), &["status: NOTIMP"]);
    has(&dig(dns, "shop.demo.test +edns=1 +noednsnegotiation"), &["status: BADVERS", "EDNS: version: 0"]);
    // who negotiates finds the way back
    has(&dig(dns, "shop.demo.test +edns=1"), &["status: NOERROR", "198.51.100.1"]);
    has(&dig(dns, "shop.demo.test +ednsopt=65001:abcd"), &["status: NOERROR", "198.51.100.1"]);
    has(&dig(dns, "shop.demo.test +ednsflags=0xffff"), &["status: NOERROR", "198.51.100.1"]);
}

#[test]
fn a_server_says_which_one_it_is_and_knows_its_own_cookies() {
    let (_node, dns) = node("nsid = \"fra-1\"\nanswers_per_second = 2");
    let first = dig(dns, "shop.demo.test +nsid +cookie");
    has(&first, &["(\"fra-1\")", "(good)"]);
    let cookie = first.lines().find_map(|line| line.strip_prefix("; COOKIE: ")).unwrap().replace(" (good)", "");
    assert_eq!(cookie.len(), 48, "eight octets of the client's, sixteen of ours: {first}");
    // two answers a second have long been given, and whoever shows the cookie gets more
    for _ in 0..10 {
        has(&dig(dns, &format!("shop.demo.test +cookie={cookie}")), &["(good)", "198.51.100.1", &cookie]);
    }
    // whoever has none of ours is told to come with it while the rate is used up, and does
    let flood = Flood::start(dns);
    let told = dig(dns, "shop.demo.test +cookie +nobadcookie");
    has(&told, &["status: BADCOOKIE", "ANSWER: 0", "(good)"]);
    has(&dig(dns, "shop.demo.test +cookie +badcookie"), &["BADCOOKIE, retrying", "status: NOERROR", "198.51.100.1"]);
    has(&dig(dns, &format!("shop.demo.test +cookie={cookie}")), &["status: NOERROR", "(good)"]);
    has(&kdig(dns, &format!("shop.demo.test +cookie={cookie} +nsid")), &["status: NOERROR", "\"fra-1\"", "COOKIE"]);
    // somebody else's secret is no proof
    let forged = format!("{}{}", &cookie[..32], "0".repeat(16));
    has(&dig(dns, &format!("shop.demo.test +cookie={forged} +nobadcookie")), &["status: BADCOOKIE"]);
    flood.stop();
}

/// Questions of somebody without a cookie, many more than the rate.
struct Flood(Arc<AtomicBool>, JoinHandle<()>);

impl Flood {
    fn start(server: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let question =
            [&[0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x04shop\x04demo\x04test\0", &[0, 1, 0, 1]].concat();
        let thread = thread::spawn(move || {
            while !told.load(Relaxed) {
                socket.send_to(&question, server).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        // until the first second's worth is gone
        thread::sleep(Duration::from_millis(100));
        Self(stop, thread)
    }

    fn stop(self) {
        self.0.store(true, Relaxed);
        self.1.join().unwrap();
    }
}

#[test]
fn what_is_cut_or_held_back_over_udp_comes_over_tcp() {
    let (_node, dns) = node("answers_per_second = 2");
    has(&dig(dns, "long.demo.test TXT +ignore"), &["tc", "ANSWER: 0"]);
    has(&dig(dns, "long.demo.test TXT"), &["Truncated, retrying in TCP mode", "ANSWER: 12", "(TCP)"]);
    // several questions on one connection
    let kept = kdig(dns, "+tcp +keepopen shop.demo.test A shop.demo.test AAAA demo.test SOA long.demo.test TXT");
    assert_eq!(kept.matches("status: NOERROR").count(), 4, "{kept}");
    assert_eq!(kept.matches("(TCP)").count(), 4, "{kept}");
    // over its rate: every second query is told to come over TCP, and gets its answer there
    let flood = Flood::start(dns);
    has(&dig(dns, "shop.demo.test +nocookie +ignore"), &["status: NOERROR", "tc", "ANSWER: 0"]);
    let slipped = dig(dns, "shop.demo.test +nocookie");
    has(&slipped, &["Truncated, retrying in TCP mode", "status: NOERROR", "198.51.100.1", "(TCP)"]);
    flood.stop();
}

#[test]
fn signatures_and_the_scope_of_a_subnet_come_together() {
    let (_node, dns, _) = dnssec::signed();
    for (subnet, family) in [("91.0.0.0/24", 4), ("2003::/48", 6), ("0.0.0.0/0", 4)] {
        let told = dig(dns, &format!("shop.demo.test A +dnssec +subnet={subnet}"));
        has(&told, &["status: NOERROR", "ANSWER: 2", "RRSIG", "flags: do;", "198.51.100.1"]);
        let scope = told.lines().find_map(|line| line.strip_prefix("; CLIENT-SUBNET: ")).unwrap();
        assert!(scope.starts_with(subnet) || subnet.ends_with("/0"), "{family}: {told}");
        let denied = dig(dns, &format!("none.demo.test A +dnssec +subnet={subnet}"));
        has(&denied, &["NSEC", "RRSIG"]);
        let scope = denied.lines().find_map(|line| line.strip_prefix("; CLIENT-SUBNET: ")).unwrap();
        assert!(scope.ends_with("/0"), "what does not exist does not for anybody: {denied}");
    }
    let told = kdig(dns, "shop.demo.test HTTPS +dnssec +subnet=91.0.0.0/24");
    has(&told, &["status: NOERROR", "CLIENT-SUBNET: 91.0.0.0/24/"]);
}
