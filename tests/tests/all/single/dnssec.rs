//! DNSSEC from outside: a validating resolver before a node, and a checker of zone files.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::harness::{Node, Process, binary, free_addresses};

const ZONE: &str = "demo.test";
/// The EDNS flag of who wants signatures.
const DO: u16 = 0x8000;

/// Two regions, in the one of which there is a node to run; sites of all kinds of names.
const FLEET: &str = r#"
[[zones]]
name = "demo.test"
dnssec_keys = ["zone.pem"]

[[zones.name_servers]]
name = "ns1.demo.test"
addresses = ["192.0.2.53"]

[[zones.caa]]
tag = "issue"
value = "ca.example"

[[zones.txt]]
name = "_acme-challenge.shop.demo.test"
values = ["one", "two"]

[[sites]]
name = "shop"
hosts = ["shop.demo.test", "*.apps.demo.test", "deep.x.demo.test"]
origin = "http://127.0.0.1:9"

[[sites]]
name = "pinned"
hosts = ["pinned.demo.test"]
pin = "eu"
origin = "http://127.0.0.1:9"

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
"#;

const NODE: &str = r#"
[[regions.nodes]]
name = "edge-1"
addresses = ["198.51.100.1", "2001:db8:1::1"]
"#;

/// Runs the program and gives what it prints.
fn meridian(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).current_dir(dir).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// A node that answers for the signed zone, and the DS record of its key.
pub(super) fn signed() -> (Node, SocketAddr, String) {
    let dir = TempDir::new().unwrap();
    let made = meridian(dir.path(), &["--json", "zone", "key", "--zone", ZONE, "--out", "zone.pem"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let [dns] = free_addresses();
    let node = Node::within(dir, &format!("[dns]\nlisten = \"{dns}\"\nanswers_per_second = 0\n{FLEET}{NODE}"));
    (node, dns, made["ds"].as_str().unwrap().to_owned())
}

/// A resolver that believes `anchor`, asks the node for the zone, and tells it who its clients are.
fn resolver(dir: &Path, node: SocketAddr, anchor: &str) -> (Process, SocketAddr) {
    let [listen] = free_addresses();
    let at = |address: SocketAddr| format!("{}@{}", address.ip(), address.port());
    let folder = dir.display();
    let config = format!(
        "server:\n  interface: {}\n  do-daemonize: no\n  use-syslog: no\n  username: \"\"\n  chroot: \"\"\n  directory: \"{folder}\"\n  \
         pidfile: \"\"\n  do-not-query-localhost: no\n  module-config: \"subnetcache validator iterator\"\n  \
         send-client-subnet: {}\n  client-subnet-always-forward: yes\n  trust-anchor: \"{anchor}\"\n  \
         local-zone: \"test.\" nodefault\nremote-control:\n  control-enable: no\nstub-zone:\n  name: \"{ZONE}\"\n  stub-addr: {}\n",
        at(listen),
        node.ip(),
        at(node)
    );
    let file = dir.join("unbound.conf");
    fs::write(&file, config).unwrap();
    // where it is installed, it is not on everybody's path
    let program = ["/usr/sbin/unbound", "/usr/local/sbin/unbound"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.unwrap_or("unbound"));
    let mut process = Process::start("unbound", dir, command.arg("-c").arg(&file));
    process.until("it answers", |_| dig(listen, &["version.bind", "CH", "TXT"]).contains("status: "));
    (process, listen)
}

fn dig(server: SocketAddr, question: &[&str]) -> String {
    let (ip, port) = (server.ip(), server.port());
    let output = Command::new("dig")
        .args([&format!("@{ip}"), "-p", &port.to_string(), "+dnssec", "+time=2", "+tries=2"])
        .args(question)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The flags and the answer's RCODE for a question for an address with these EDNS flags, which dig does not let one choose.
fn flags(socket: &UdpSocket, name: &str, flags: u16) -> [u8; 2] {
    send(socket, name, flags);
    receive(socket)
}

fn send(socket: &UdpSocket, name: &str, flags: u16) {
    let labels: Vec<u8> =
        name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    let [high, low] = flags.to_be_bytes();
    let head = [0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    let message = [&head[..], &labels, &[0, 0, 1, 0, 1], &[0, 0, 41, 4, 208, 0, 0, high, low, 0, 0]].concat();
    socket.send(&message).unwrap();
}

fn receive(socket: &UdpSocket) -> [u8; 2] {
    let mut answer = [0; 1232];
    assert!(socket.recv(&mut answer).unwrap() > 12);
    [answer[2], answer[3] & 15]
}

fn socket_to(server: SocketAddr) -> UdpSocket {
    socket_from("127.0.0.1", server)
}

fn socket_from(address: &str, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect(server).unwrap();
    socket
}

#[test]
fn a_validating_resolver_believes_all_answers_of_a_signed_zone_and_no_forged_ones() {
    let (node, dns, ds) = signed();
    let dir = TempDir::new().unwrap();
    let (_resolver, resolver_address) = resolver(dir.path(), dns, &ds);
    for (name, rtype, answer) in [
        ("shop", "A", "198.51.100.1"),
        ("shop", "AAAA", "2001:db8:1::1"),
        ("x.apps", "A", "198.51.100.1"),
        ("deep.x", "A", "198.51.100.1"),
        ("pinned", "A", "198.51.100.1"),
        ("ns1", "A", "192.0.2.53"),
        ("shop", "ANY", "RFC8482"),
        ("_acme-challenge.shop", "TXT", "\"two\""),
        // there is no such record
        ("shop", "TXT", "NSEC"),
        ("ns1", "AAAA", "NSEC"),
        ("x.apps", "MX", "NSEC"),
        ("x", "A", "NSEC"),
        // there is no such name
        ("no.such", "A", "NXNAME"),
        ("nor.this", "AAAA", "NXNAME"),
        // what says so is itself there
        ("shop", "NSEC", "NSEC"),
        ("not.this", "NSEC", "NXNAME"),
    ] {
        let name = format!("{name}.{ZONE}");
        for subnet in ["+nosubnet", "+subnet=91.0.0.0/24", "+subnet=2601::/48"] {
            let told = dig(resolver_address, &[&name, rtype, subnet]);
            // dig of Debian 12 has no name for the type 128
            let told = told.replace("TYPE128", "NXNAME");
            let believed =
                told.contains("status: NOERROR") && told.lines().any(|line| line.contains("flags: qr rd ra ad"));
            assert!(believed && told.contains(answer), "{name} {rtype} {subnet}:\n{told}");
        }
    }
    // there are no signatures over signatures
    let told = dig(resolver_address, &[&format!("shop.{ZONE}"), "RRSIG"]);
    assert!(told.contains("status: NOERROR") && told.contains("ANSWER: 1"), "{told}");
    for rtype in ["SOA", "NS", "DNSKEY", "CDS", "CDNSKEY", "CAA"] {
        let told = dig(resolver_address, &[ZONE, rtype]);
        let is_there =
            told.contains("flags: qr rd ra ad") && told.contains(&format!("{ZONE}.")) && told.contains("RRSIG");
        assert!(is_there && !told.contains("ANSWER: 0"), "{rtype}:\n{told}");
    }
    // addresses of name servers went along without the signatures that must be beside them (RFC 4035 section 3.1.1)
    let with_address = |extra: &str| dig(dns, &[ZONE, "NS", extra]).contains("192.0.2.53");
    assert_eq!([with_address("+dnssec"), with_address("+nodnssec")], [false, true]);
    // who wants no signatures gets none, and who can tell NXDOMAIN from the bitmap is told so
    let plain = dig(dns, &[&format!("shop.{ZONE}"), "A", "+nodnssec"]);
    assert!(plain.contains("198.51.100.1") && !plain.contains("RRSIG"), "{plain}");
    let plain = dig(dns, &[&format!("no.such.{ZONE}"), "A", "+nodnssec"]);
    assert!(plain.contains("status: NXDOMAIN") && !plain.contains("NSEC"), "{plain}");
    let socket = socket_to(dns);
    assert_eq!([DO, DO | 0x4000].map(|asked| flags(&socket, &format!("no.such.{ZONE}"), asked)[1]), [0, 3]);
    // another key's record: nothing may be believed
    let other = TempDir::new().unwrap();
    let made = meridian(other.path(), &["--json", "zone", "key", "--zone", ZONE, "--out", "other.pem"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let (_other, other_address) = resolver(other.path(), dns, made["ds"].as_str().unwrap());
    let told = dig(other_address, &[&format!("shop.{ZONE}"), "A"]);
    assert!(told.contains("status: SERVFAIL"), "{told}");
    drop(node);
}

#[test]
fn more_denials_than_a_node_signs_for_one_block_send_it_to_tcp_and_no_other() {
    let (_node, dns, _) = signed();
    let socket = socket_to(dns);
    // a second's worth may be signed at once, and what comes due meanwhile: whoever asks faster than that runs out of it
    let began = Instant::now();
    let mut signed = 0;
    let sent_away = (0..400).any(|burst| {
        (0..50).for_each(|number| send(&socket, &format!("n{number}.b{burst}.none.{ZONE}"), DO));
        let truncated = (0..50).filter(|_| receive(&socket)[0] & 2 != 0).count();
        signed += 50 - truncated;
        truncated > 0
    });
    assert!(sent_away && signed >= 95, "{signed} signed in {:?}", began.elapsed());
    let other = socket_from("127.0.9.1", dns);
    for number in 0..20 {
        assert_eq!(flags(&other, &format!("n{number}.other.{ZONE}"), DO)[0] & 2, 0, "another block has its own part");
    }
    let told = dig(dns, &[&format!("yet.another.{ZONE}"), "A"]);
    assert!(told.contains("NSEC") && told.contains("RRSIG"), "{told}");
    let known = dig(dns, &[&format!("shop.{ZONE}"), "A", "+ignore"]);
    assert!(known.contains("198.51.100.1") && known.contains("RRSIG"), "signed before anybody asked: {known}");
}

#[test]
fn an_exported_zone_is_whole_and_names_no_region_that_a_pin_forbids() {
    let dir = TempDir::new().unwrap();
    meridian(dir.path(), &["zone", "key", "--zone", ZONE, "--out", "zone.pem"]);
    let peer = "[peer]\nlisten = \"127.0.1.1:7400\"\nca = \"ca\"\ncertificate = \"crt\"\nkey = \"key\"\n";
    let nodes = NODE.replace("addresses", "peer = \"127.0.1.1:7400\"\naddresses");
    let us = "[[regions]]\nname = \"us-west\"\nlatitude = 37.34\nlongitude = -121.89\njurisdiction = \"us\"\n\
              [[regions.nodes]]\nname = \"edge-2\"\npeer = \"127.0.2.1:7400\"\naddresses = [\"203.0.113.1\"]\n";
    let config = format!("[node]\nname = \"edge-1\"\n[dns]\nlisten = \"127.0.0.1:0\"\n{peer}{FLEET}{nodes}{us}");
    fs::write(dir.path().join("meridian.toml"), config).unwrap();
    let zone = meridian(dir.path(), &["zone", "export", "--config", ".", "--zone", ZONE]);
    fs::write(dir.path().join("zone"), &zone).unwrap();
    let of = |name: &str, rtype: &str| -> Vec<&str> {
        let lines = zone.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.filter(|it| it[0] == format!("{name}.{ZONE}.") && it[3] == rtype).map(|it| it[4]).collect()
    };
    assert_eq!(of("shop", "A"), ["198.51.100.1", "203.0.113.1"]);
    assert_eq!(of("*.apps", "A"), ["198.51.100.1", "203.0.113.1"]);
    // only one of the two regions has IPv6
    assert!(of("shop", "AAAA").is_empty());
    assert_eq!((of("pinned", "A"), of("pinned", "AAAA")), (vec!["198.51.100.1"], vec!["2001:db8:1::1"]));
    let checked =
        Command::new("dnssec-verify").args(["-z", "-o", ZONE, "zone"]).current_dir(dir.path()).output().unwrap();
    let told = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && told.contains("Zone fully signed"), "{told}");
    // and a zone that is not there is said so
    let mut command = Command::new(binary());
    command.args(["zone", "export", "--config", ".", "--zone", "demo.tset"]).current_dir(dir.path());
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("demo.tset") && complaint.contains(ZONE), "{complaint}");
}
