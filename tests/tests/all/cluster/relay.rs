//! A client who asks a node of the wrong jurisdiction for a pinned site over TLS: passed on, sealed, to a node of the right one,
//! where the operator wants that; and what becomes of those who try to make something else of it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use http::Request;

use crate::harness::{
    certificates::{SiteCa, Validity},
    client::{Connection, Reply, empty, over_h2, raw, tls},
    fleet::{FREE, Fleet, Member, fleet_more},
    free_addresses_on,
    origin::Answer,
    stamped, until, until_some,
};

const SEALED: &str = "sealed.fleet.test";
/// The same, without anything said about clients who come to the wrong node.
const CLOSED: &str = "closed.fleet.test";
const OPEN: &str = "open.fleet.test";
const CANARY: &str = "canary5be01d";
/// An address that no node has: where the clients are.
const CLIENT: &str = "127.9.8.7";

/// A fleet with HTTPS listeners, and three sites with certificates: two are pinned to the EU.
struct Sealed {
    fleet: Fleet,
    ca: SiteCa,
    https: Vec<SocketAddr>,
}

impl Sealed {
    async fn start(per_region: u8, limits: &str) -> Self {
        let mut sealed = Self::prepare(per_region, limits);
        sealed.fleet.nodes.iter_mut().for_each(Member::start);
        sealed.fleet.all_ready().await;
        sealed
    }

    fn prepare(per_region: u8, limits: &str) -> Self {
        let (fleet, ca) = (Fleet::prepare(per_region, ""), SiteCa::new());
        let shared = fleet.dir().join("fleet");
        let site = |name: &str, host: &str, more: &str| {
            ca.site(&shared, name, host, Validity::Now);
            format!(
                "[[sites]]\nname = \"{name}\"\nhosts = [\"{host}\"]\norigin = \"{}\"\n\
                 tls = {{ certificate = \"{name}.crt\", key = \"{name}.key\" }}\n{more}",
                fleet.origin.url()
            )
        };
        let sites = [
            site("sealed", SEALED, "pin = \"eu\"\nmisrouted_tls = \"relay\"\n"),
            site("closed", CLOSED, "pin = \"eu\"\n"),
            site("open", OPEN, ""),
        ];
        fleet_more(fleet.dir(), &sites.concat());
        fs::write(fleet.dir().join("ca.pem"), &ca.pem).unwrap();
        let https = fleet.nodes.iter().map(|node| listen(node, limits)).collect();
        Self { fleet, ca, https }
    }

    fn https(&self, name: &str) -> SocketAddr {
        self.https[self.fleet.nodes.iter().position(|node| node.name == name).unwrap()]
    }

    /// Asks a node by curl.
    fn curl(&self, node: &str, host: &str, target: &str, arguments: &[&str]) -> Curled {
        let (start, body) = (Instant::now(), self.fleet.dir().join("body"));
        let _none = fs::remove_file(&body);
        let ended = self.curling(node, host, target, &body).args(arguments).output().unwrap();
        Curled {
            code: ended.status.code(),
            said: String::from_utf8_lossy(&ended.stdout).into_owned(),
            complained: String::from_utf8_lossy(&ended.stderr).into_owned(),
            body: fs::read(&body).unwrap_or_default(),
            after: start.elapsed(),
        }
    }

    fn curling(&self, node: &str, host: &str, target: &str, body: &Path) -> Command {
        let (address, mut curl) = (self.https(node), Command::new("curl"));
        curl.args(["--silent", "--show-error", "--max-time", "60", "--interface", CLIENT, "--cacert"])
            .arg(self.fleet.dir().join("ca.pem"))
            .args(["--resolve", &format!("{host}:{}:{}", address.port(), address.ip())])
            .args(["--write-out", "%{http_code} %{http_version}", "--output"])
            .arg(body)
            .arg(format!("https://{host}:{}{target}", address.port()))
            .stdin(Stdio::null());
        curl
    }

    async fn figure(&self, node: &str, series: &str) -> u64 {
        let page = self.fleet.node(node).admin("/metrics").await.text();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }
}

/// Gives a node an HTTPS listener, and limits.
fn listen(node: &Member, limits: &str) -> SocketAddr {
    let [https] = free_addresses_on(node.ip);
    fs::write(node.dir.join("https.toml"), format!("[https]\nlisten = \"{https}\"\n{limits}")).unwrap();
    https
}

#[derive(Debug)]
struct Curled {
    code: Option<i32>,
    said: String,
    complained: String,
    body: Vec<u8>,
    after: Duration,
}

/// The files below a path that have the word.
fn found(path: &Path, word: &str) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().filter_map(Result::ok);
        return entries.flat_map(|entry| found(&entry.path(), word)).collect();
    }
    let bytes = fs::read(path).unwrap_or_default();
    let there = bytes.windows(word.len()).any(|window| window == word.as_bytes());
    there.then(|| path.to_owned()).into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_connection_reaches_a_right_node_and_leaves_nothing_at_the_wrong_one() {
    let mut sealed = Sealed::start(2, "").await;
    sealed.fleet.origin.on(&format!("/{CANARY}"), |_| {
        Answer::ok(CANARY.repeat(10)).with("cache-control", "max-age=600").with("x-answer", CANARY)
    });
    for (protocol, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let target = format!("/{CANARY}?q={CANARY}");
        let told = sealed.curl("us-west-1", SEALED, &target, &[protocol, "--cookie", CANARY]);
        assert_eq!((told.code, told.said.as_str()), (Some(0), format!("200 {version}").as_str()), "{told:?}");
        assert_eq!(told.body, CANARY.repeat(10).as_bytes(), "{told:?}");
        // a big body, both ways
        let target = format!("/o/8000000/big{version}");
        let told = sealed.curl("ap-southeast-2", SEALED, &target, &[protocol]);
        assert_eq!((told.code, told.said.as_str()), (Some(0), format!("200 {version}").as_str()), "{told:?}");
        assert!(stamped::check(&told.body).is_ok() && told.body.len() == 8_000_000, "{} bytes", told.body.len());
        let upload = sealed.fleet.dir().join("upload");
        fs::write(&upload, vec![b'u'; 3_000_000]).unwrap();
        sealed.fleet.origin.on("/upload", |seen| Answer::ok(seen.body.len().to_string()));
        let upload = format!("@{}", upload.display());
        let told = sealed.curl("us-west-2", SEALED, "/upload", &[protocol, "--data-binary", &upload]);
        assert_eq!((told.code, told.body.as_slice()), (Some(0), &b"3000000"[..]), "{told:?}");
    }
    // the right node knows the client's address, and the origin was asked by nobody else
    let via = |via: &str| ["us-west", "ap-southeast"].iter().any(|region| via.contains(region));
    let seen = sealed.fleet.origin.seen();
    let strange = seen.iter().find(|seen| via(seen.field("via")));
    assert!(strange.is_none() && !seen.is_empty(), "the origin was asked from outside: {strange:?}");
    until("the right node has logged the client's address", Duration::from_secs(10), || {
        sealed.fleet.region("eu-central").any(|node| !found(&node.dir.join("access.log"), CLIENT).is_empty())
    });
    // the wrong ones have counted connections and bytes, and that is all
    let counted = sealed.figure("us-west-1", "meridian_relayed_total{site=\"sealed\",outcome=\"relayed\"}").await;
    assert_eq!(counted, 2);
    let bytes = sealed.figure("ap-southeast-2", "meridian_relayed_bytes_total{site=\"sealed\",from=\"node\"}").await;
    assert!(bytes > 16_000_000, "{bytes}");
    for node in sealed.fleet.nodes.iter().filter(|node| node.jurisdiction != "eu") {
        for word in [CANARY, CLIENT] {
            let files = found(&node.dir, word);
            assert!(files.is_empty(), "{} wrote {word} to {files:?}", node.name);
        }
        let page = node.admin("/metrics").await.text();
        assert!(!page.contains(CANARY) && !page.contains(CLIENT), "{}", node.name);
        let named = |line: &&str| line.contains("\"sealed\"") && !line.starts_with("meridian_relay");
        let counted = page.lines().filter(named).find(|line| !line.ends_with(" 0"));
        assert_eq!(counted, None, "{} counts the pinned site", node.name);
    }
    // nobody who comes by another's connection gets more than a number
    misdirected(&sealed).await;
    // a site of which nothing is said is refused as it always was
    let told = sealed.curl("us-west-1", CLOSED, "/", &[]);
    assert_eq!(told.code, Some(35), "{told:?}");
    assert!(told.complained.contains("unrecognized"), "{told:?}");
    let told = sealed.curl("eu-central-1", CLOSED, "/o/10/x", &[]);
    assert_eq!(told.said.get(..3), Some("200"), "{told:?}");

    // one of the right ones dies: the other is found at once
    sealed.fleet.nodes.iter_mut().find(|node| node.name == "eu-central-1").unwrap().kill();
    for number in 0..6 {
        let told = sealed.curl("us-west-1", SEALED, &format!("/o/1000/one-left-{number}"), &[]);
        assert_eq!(told.said.get(..3), Some("200"), "{told:?}");
        assert!(told.after < Duration::from_secs(15), "{told:?}");
    }
    // both: the client is told that it is not its fault, and soon
    sealed.fleet.kill_region("eu-central");
    let told = sealed.curl("us-west-1", SEALED, "/", &[]);
    assert_eq!(told.code, Some(35), "{told:?}");
    assert!(told.complained.contains("internal error") && told.after < Duration::from_secs(15), "{told:?}");
    let failed = sealed.figure("us-west-1", "meridian_relayed_total{site=\"sealed\",outcome=\"failed\"}").await;
    assert!(failed > 0);
}

/// On a connection that was opened for another site, and over clear text: 421 and not a word.
async fn misdirected(sealed: &Sealed) {
    let node = sealed.fleet.node("us-west-1");
    for host in [SEALED, CLOSED] {
        let stream = tls(sealed.https("us-west-1"), OPEN, &sealed.ca.pem, b"h2").await.unwrap();
        let request = empty(Request::get(format!("https://{host}/{CANARY}?q={CANARY}")).header("cookie", CANARY));
        let nothing_said = |reply: &Reply| {
            assert_eq!((reply.status.as_u16(), reply.body.len()), (421, 0), "{}", reply.seen());
            assert!(!reply.seen().contains("jurisdiction"), "{}", reply.seen());
        };
        nothing_said(&over_h2(stream, request).await);
        nothing_said(&node.get(host, &format!("/{CANARY}")).await);
    }
    assert!(found(&node.dir, CANARY).is_empty(), "{} wrote it", node.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_connection_is_for_sites_that_are_relayed_as_long_as_they_are() {
    let sealed = Sealed::start(1, "").await;
    let ask = |host: &str| empty(Request::get(format!("https://{host}/o/10/asked")));
    let relayed =
        async |protocol: &[u8]| tls(sealed.https("us-west-1"), SEALED, &sealed.ca.pem, protocol).await.unwrap();
    // both are served there: to those who come by themselves
    for host in [CLOSED, OPEN] {
        let direct = tls(sealed.https("eu-central-1"), SEALED, &sealed.ca.pem, b"h2").await.unwrap();
        assert_eq!(over_h2(direct, ask(host)).await.status, 200, "{host}");
        let reply = over_h2(relayed(b"h2").await, ask(host)).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (421, 0), "{host}: {}", reply.seen());
    }
    assert_eq!(over_h2(relayed(b"h2").await, ask(SEALED)).await.status, 200);
    // the operator thinks better of it, and the connection still stands
    let mut kept = Connection::over(relayed(b"http/1.1").await).await.unwrap();
    let reply = kept.get(SEALED, "/o/10/asked").await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.seen());
    let file = sealed.fleet.dir().join("fleet/more.toml");
    let text = fs::read_to_string(&file).unwrap().replace("\"relay\"", "\"refuse\"");
    fs::write(&file, text).unwrap();
    sealed.fleet.node("eu-central-1").signal(libc::SIGHUP);
    let kept = tokio::sync::Mutex::new(kept);
    until_some("the site is out of reach", Duration::from_secs(10), async || {
        let reply = kept.lock().await.get(SEALED, "/o/10/asked").await?;
        let closed = reply.status == 421 && reply.body.is_empty();
        if closed { Ok(()) } else { Err(reply.seen()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_client_of_the_site_is_not_passed_on() {
    let sealed = Sealed::start(1, "[limits]\nhead_time = \"1s\"\nrelayed = 1\n").await;
    let (wrong, right) = (sealed.https("us-west-1"), sealed.https("eu-central-1"));
    // a client that says that it is somebody else is no TLS client
    let spoofed: [&[u8]; 2] = [
        b"PROXY TCP4 203.0.113.9 198.51.100.1 51000 443\r\n\x16\x03\x01",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\xc6\x33\x64\x01\xc7\x38\x01\xbb",
    ];
    for bytes in spoofed {
        for door in [wrong, right] {
            let told = raw(door, bytes, Duration::from_secs(5)).await;
            assert!(told.closed && !told.text.contains("HTTP"), "{told:?}");
        }
    }
    // one that begins a hello and does not end it is cut, and one that ends it never is too long
    let begun = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let told = raw(wrong, begun, Duration::from_secs(5)).await;
    assert!(told.closed && (900..4_000).contains(&told.after.as_millis()), "{told:?}");
    let mut endless = Vec::new();
    for part in 0..40u8 {
        // a handshake message of 60 KiB, in records of 1 KiB
        let head: &[u8] = if part == 0 { b"\x01\x00\xf0\x00" } else { b"" };
        endless.extend_from_slice(b"\x16\x03\x01");
        endless.extend_from_slice(&u16::try_from(1024 + head.len()).unwrap().to_be_bytes());
        endless.extend_from_slice(head);
        endless.extend_from_slice(&[0; 1024]);
    }
    let told = raw(wrong, &endless, Duration::from_secs(5)).await;
    assert!(told.closed && told.after < Duration::from_millis(900), "{told:?}");
    let page = sealed.fleet.node("us-west-1").admin("/metrics").await.text();
    assert!(page.contains("meridian_relayed_total{site=\"sealed\",outcome=\"relayed\"} 0"), "{page}");
    // one connection may be passed on here: a second one is told so, until the first is gone
    let first = tls(wrong, SEALED, &sealed.ca.pem, b"h2").await.unwrap();
    let told = sealed.curl("us-west-1", SEALED, "/o/10/second", &[]);
    assert_eq!(told.code, Some(35), "{told:?}");
    assert!(told.complained.contains("internal error"), "{told:?}");
    drop(first);
    until_some("there is room again", Duration::from_secs(10), async || {
        let told = sealed.curl("us-west-1", SEALED, "/o/10/third", &[]);
        if told.said.starts_with("200") { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    let limited = sealed.figure("us-west-1", "meridian_relayed_total{site=\"sealed\",outcome=\"limited\"}").await;
    assert!(limited > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_take_each_other_for_the_right_one_do_not_pass_a_connection_round() {
    let mut sealed = Sealed::prepare(1, "");
    let dir = sealed.fleet.dir().to_owned();
    // in the US the site is said to be pinned to Singapore, and there to the US
    for (number, (name, pin)) in [("us-west-1", "sg"), ("ap-southeast-1", "us")].iter().enumerate() {
        let other = dir.join(format!("fleet-{number}"));
        fs::create_dir(&other).unwrap();
        for entry in fs::read_dir(dir.join("fleet")).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
        }
        let more = fs::read_to_string(other.join("more.toml")).unwrap();
        fs::write(other.join("more.toml"), more.replace("pin = \"eu\"", &format!("pin = \"{pin}\""))).unwrap();
        let own = sealed.fleet.node(name).dir.join("meridian.toml");
        let text = fs::read_to_string(&own).unwrap().replace("\"../fleet\"", &format!("\"../fleet-{number}\""));
        fs::write(own, text).unwrap();
    }
    sealed.fleet.nodes.iter_mut().for_each(Member::start);
    sealed.fleet.all_ready().await;
    for asked in ["us-west-1", "ap-southeast-1"] {
        let told = sealed.curl(asked, SEALED, "/", &[]);
        assert_eq!(told.code, Some(35), "{told:?}");
        assert!(told.after < Duration::from_secs(12), "{told:?}");
    }
    for node in ["us-west-1", "ap-southeast-1"] {
        let outcome = |outcome: &str| format!("meridian_relayed_total{{site=\"sealed\",outcome=\"{outcome}\"}}");
        let (relayed, failed) =
            (sealed.figure(node, &outcome("relayed")).await, sealed.figure(node, &outcome("failed")).await);
        let refused = sealed.figure(node, "meridian_relays_offered_total{outcome=\"refused\"}").await;
        assert_eq!((relayed, failed, refused), (0, 1, 1), "{node}");
    }
    assert!(sealed.fleet.origin.seen().is_empty());
    let free = sealed.fleet.node("us-west-1").get(FREE, "/o/10/free").await;
    assert_eq!(free.status, 200, "{}", free.seen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_waits_for_what_moves_and_not_for_what_is_silent() {
    let mut sealed = Sealed::start(1, "").await;
    let silent = tls(sealed.https("us-west-1"), SEALED, &sealed.ca.pem, b"h2").await.unwrap();
    // for longer than a silent one is borne
    let body = sealed.fleet.dir().join("slow");
    let moving = sealed
        .curling("us-west-1", SEALED, "/o/8000000/slow", &body)
        .args(["--http1.1", "--limit-rate", "900k"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut open = 0;
    for _ in 0..100 {
        open = sealed.figure("us-west-1", "meridian_relays").await;
        if open == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(open, 2);
    // the node that passes them on drains: it takes no more, and asks those it has to go
    let order = serde_json::json!({ "wait_s": 0 });
    let told = sealed.fleet.node("us-west-1").post("/api/v1/drain", &order).await;
    assert!(told.status.is_success(), "{}", told.seen());
    let node = sealed.fleet.nodes.iter_mut().find(|node| node.name == "us-west-1").unwrap();
    let began = Instant::now();
    until("the node has left", Duration::from_secs(30), || node.ended());
    let after = began.elapsed();
    let ended = moving.wait_with_output().unwrap();
    let told = (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned(), fs::read(&body).unwrap());
    assert_eq!((told.0, told.1.as_str(), told.2.len()), (Some(0), "200 1.1", 8_000_000));
    assert!((Duration::from_secs(6)..Duration::from_secs(20)).contains(&after), "{after:?}");
    drop(silent);
}
