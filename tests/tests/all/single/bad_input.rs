//! What a node says when it cannot start, or something that it needs is not as expected: a clear message (what, where, what
//! was expected), a fitting exit code, and no panic.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    time::Duration,
};

use tempfile::TempDir;

use super::{HOST, config, node};
use crate::harness::{
    Ended, certificates,
    client::{empty, fetch, get, send},
    free_addresses,
    origin::{Failing, Origin},
    run,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// `meridian run` exits with these.
const FAILURE: i32 = 1;
const CONFIG: i32 = 3;

/// Runs `meridian COMMAND --config` on a folder with this config, to its end.
fn ends(command: &str, dir: &Path, config: &str) -> Ended {
    fs::write(dir.join("meridian.toml"), config).unwrap();
    run(dir, &[command, "--config", dir.to_str().unwrap()], PATIENCE)
}

#[track_caller]
fn check(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "exit code; it wrote: {}", ended.output);
    for word in words {
        assert!(ended.output.contains(word), "no {word:?} in: {}", ended.output);
    }
    assert!(!ended.output.contains("panicked"), "{}", ended.output);
}

fn head(http: SocketAddr, admin: SocketAddr) -> String {
    format!("[node]\nname = \"edge-1\"\n[http]\nlisten = \"{http}\"\n[admin]\nlisten = \"{admin}\"\n")
}

#[test]
fn a_used_port_is_named_with_what_it_was_for() {
    let origin = Origin::start();
    let [free, other] = free_addresses();
    let dns_used = UdpSocket::bind("127.0.0.1:0").unwrap();
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    let (used, dns_used) =
        (used.local_addr().map(|at| (used, at)).unwrap(), dns_used.local_addr().map(|at| (dns_used, at)).unwrap());
    for (what, address, text) in [
        ("http", used.1, head(used.1, other)),
        ("admin", used.1, head(free, used.1)),
        ("https", used.1, format!("{}[https]\nlisten = \"{}\"\n", head(free, other), used.1)),
        ("dns", dns_used.1, format!("{}[dns]\nlisten = \"{}\"\n", head(free, other), dns_used.1)),
    ] {
        let dir = TempDir::new().unwrap();
        let ended = ends("run", dir.path(), &(text + &config(&origin, "")));
        check(&ended, FAILURE, &[&address.to_string(), "in use"]);
        assert!(ended.output.to_lowercase().contains(what), "it says that it was for {what}: {}", ended.output);
    }
}

#[test]
fn a_broken_config_tells_all_faults_at_once_with_their_places() {
    let [http, admin] = free_addresses();
    let text = format!(
        "{}[[sites]]\nname = \"a b\"\nhosts = [\"x.test\"]\norigin = \"ftp://x\"\ncolour = \"red\"\n",
        head(http, admin)
    );
    for command in ["run", "check"] {
        let dir = TempDir::new().unwrap();
        let ended = ends(command, dir.path(), &text);
        check(&ended, CONFIG, &["meridian.toml:8", "meridian.toml:10", "meridian.toml:11", "`colour`", "3 errors"]);
    }
    let dir = TempDir::new().unwrap();
    check(&ends("run", dir.path(), "[node\n"), CONFIG, &["meridian.toml:1"]);
    let missing = dir.path().join("nothing-here");
    let ended = run(dir.path(), &["run", "--config", missing.to_str().unwrap()], PATIENCE);
    check(&ended, CONFIG, &["nothing-here"]);
}

#[test]
fn a_missing_or_corrupt_geo_database_is_named() {
    let origin = Origin::start();
    let [http, admin, dns] = free_addresses();
    let text = |file: &str| {
        format!("{}[dns]\nlisten = \"{dns}\"\n[geo]\nfile = \"{file}\"\n{}", head(http, admin), config(&origin, ""))
    };
    let test_data = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/meridian/geo/test-data/");
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("garbage.mmdb"), "this is no database").unwrap();
    fs::write(dir.path().join("empty.mmdb"), "").unwrap();
    let whole = fs::read(format!("{test_data}GeoIP2-City-Test.mmdb")).unwrap();
    fs::write(dir.path().join("cut.mmdb"), &whole[..whole.len() / 2]).unwrap();
    let broken = format!("{test_data}MaxMind-DB-test-broken-search-tree-24.mmdb");
    for file in ["absent.mmdb", "garbage.mmdb", "empty.mmdb", "cut.mmdb", &broken] {
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        let ended = ends("run", dir.path(), &text(file));
        assert!([FAILURE, CONFIG].contains(&ended.code.unwrap_or(-1)), "{file}: {ended:?}");
        check(&ended, ended.code.unwrap(), &[name]);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let origin = Origin::start();
    let [http, admin] = free_addresses();
    let dir = TempDir::new().unwrap();
    // a file stands where the folder should be
    fs::write(dir.path().join("state"), "").unwrap();
    let ended = ends("run", dir.path(), &(head(http, admin) + &config(&origin, "")));
    check(&ended, FAILURE, &["state"]);
}

#[test]
fn an_expired_or_foreign_node_certificate_is_told() {
    let origin = Origin::start();
    let dir = TempDir::new().unwrap();
    let [ca, identity] = ["ca", "identity"].map(|name| dir.path().join(name));
    let (ca_path, identity_path) = (ca.to_str().unwrap(), identity.to_str().unwrap());
    let done = |ended: Ended| check(&ended, 0, &[]);
    done(run(dir.path(), &["ca", "init", "--dir", ca_path, "--cluster", "test"], PATIENCE));
    let place = ["--node", "edge-1", "--region", "here", "--jurisdiction", "eu", "--out", identity_path];
    done(run(dir.path(), &[&["ca", "issue", "--dir", ca_path][..], &place].concat(), PATIENCE));
    let [http, admin, peer, other] = free_addresses();
    let text = |jurisdiction: &str| {
        format!(
            "{}[peer]\nlisten = \"{peer}\"\nca = \"identity/ca.pem\"\ncertificate = \"identity/edge-1.pem\"\n\
             key = \"identity/edge-1.key\"\n\
             [[jurisdictions]]\nname = \"eu\"\npreset = \"EU\"\n[[jurisdictions]]\nname = \"us\"\ncountries = [\"US\"]\n\
             [[regions]]\nname = \"here\"\nlatitude = 50\nlongitude = 8\njurisdiction = \"{jurisdiction}\"\n\
             nodes = [{{ name = \"edge-1\", peer = \"{peer}\" }}, {{ name = \"edge-2\", peer = \"{other}\" }}]\n{}",
            head(http, admin),
            config(&origin, "")
        )
    };
    // the certificate says eu
    let ended = ends("run", dir.path(), &text("us"));
    check(&ended, FAILURE, &["`eu`", "`us`"]);
    let ended = ends("check", dir.path(), &text("us"));
    check(&ended, CONFIG, &["eu", "us"]);

    certificates::expired_node(&ca, &identity, "edge-1", "meridian://test/eu/here/edge-1");
    let ended = ends("run", dir.path(), &text("eu"));
    check(&ended, FAILURE, &["edge-1.pem", "expired"]);
    let ended = ends("check", dir.path(), &text("eu"));
    check(&ended, CONFIG, &["edge-1.pem", "expired"]);

    fs::write(identity.join("edge-1.pem"), "no certificate").unwrap();
    check(&ends("run", dir.path(), &text("eu")), FAILURE, &["edge-1.pem"]);
    fs::remove_file(identity.join("edge-1.pem")).unwrap();
    check(&ends("run", dir.path(), &text("eu")), FAILURE, &["edge-1.pem"]);
}

#[tokio::test]
async fn an_unreachable_origin_does_not_keep_a_node_from_starting() {
    let origin = Origin::start();
    origin.fail(Some(Failing::Cut));
    let node = node(&origin, "");
    let reply = fetch(node.http, HOST, "/o/10/a").await;
    assert_eq!(reply.status, 502, "{}", reply.seen());
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

#[tokio::test]
async fn a_reload_with_faults_is_refused_whole_and_what_was_in_force_goes_on() {
    let origin = Origin::start();
    let node = node(&origin, "");
    let path = node.dir().join("meridian.toml");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{good}colour = \"red\"\n")).unwrap();
    hang_up(&node);
    crate::harness::until("the faults are told", Duration::from_secs(5), || node.log().contains("colour"));
    assert_eq!(fetch(node.http, HOST, "/o/10/a").await.status, 200, "the old config serves");
    // whoever half edits a file is told by the node, and keeps nobody from it
    let status = || run(node.dir(), &["status", "--config", node.dir().to_str().unwrap()], PATIENCE);
    let refused = "the config on disk is not in force";
    check(&status(), 0, &[refused, "unknown key `colour`"]);
    let part = fetch(node.admin, &node.admin.to_string(), "/readyz").await.text();
    assert!(part.contains("is not in force") && !part.contains("colour"), "no token is needed for it: {part}");
    assert!(metrics(&node).await.contains("\nmeridian_config_refused 1\n"));
    fs::write(&path, format!("{good}junk")).unwrap();
    check(&status(), 0, &[refused]);
    fs::write(&path, good.replace(HOST, "new.single.test")).unwrap();
    hang_up(&node);
    crate::harness::until_some("the new host is served", Duration::from_secs(5), async || {
        let reply = fetch(node.http, "new.single.test", "/o/10/a").await;
        if reply.status == 200 { Ok(()) } else { Err(reply.seen()) }
    })
    .await;
    assert_eq!(fetch(node.http, HOST, "/o/10/a").await.status, 421, "the old host is not");
    let told = status();
    assert!(told.code == Some(0) && !told.output.contains(refused), "{}", told.output);
    assert!(metrics(&node).await.contains("\nmeridian_config_refused 0\n"));
}

/// What the config is good for has gone: it was taken by halves, and DNS went on from older pins than the node served by.
#[tokio::test]
async fn a_reload_that_the_node_could_not_start_with_is_refused_whole() {
    let origin = Origin::start();
    let secret = TempDir::new().unwrap();
    let secret = secret.path().join("cookies");
    fs::write(&secret, "000102030405060708090a0b0c0d0e0f\n").unwrap();
    let dns = format!("[dns]\nlisten = \"127.0.0.1:0\"\ncookie_secret = \"{}\"\n", secret.display());
    let node = node(&origin, &dns);
    let path = node.dir().join("meridian.toml");
    let good = fs::read_to_string(&path).unwrap();
    let offer = async |config: &str, said: &str| {
        fs::write(&path, config).unwrap();
        hang_up(&node);
        crate::harness::until("it is told", Duration::from_secs(10), || node.log().contains(said));
        // the new host came with it
        assert_eq!(fetch(node.http, "new.single.test", "/o/10/a").await.status, 421);
        assert_eq!(fetch(node.http, HOST, "/o/10/a").await.status, 200);
        let status = run(node.dir(), &["status", "--config", node.dir().to_str().unwrap()], PATIENCE);
        check(&status, 0, &["the config on disk is not in force", said]);
    };
    let other = good.replace(HOST, "new.single.test");
    let named = other.replace("[node]\nname = \"", "[node]\nname = \"not-");
    assert_ne!(named, other, "{other}");
    offer(&named, "it says that this is node `not-").await;
    fs::remove_file(&secret).unwrap();
    offer(&other, "cookie secrets").await;

    // what is taken at the start only is told as long as it waits for one
    let moved = good.replace(&dns, "") + "[cache]\nmemory = \"33MiB\"\n";
    assert_ne!(moved, good);
    fs::write(&path, moved).unwrap();
    hang_up(&node);
    let said = "the config has other dns listeners, sizes of `[cache]` than it was started with";
    crate::harness::until("it is told", Duration::from_secs(10), || node.log().contains(said));
    check(
        &run(node.dir(), &["status", "--config", node.dir().to_str().unwrap()], PATIENCE),
        0,
        &["restart this node", said],
    );
    assert!(metrics(&node).await.contains("\nmeridian_restart_due 1\n"));
}

async fn metrics(node: &crate::harness::Node) -> String {
    let token = fs::read_to_string(node.dir().join("state/admin.token")).unwrap();
    let request = get(&node.admin.to_string(), "/metrics").header("authorization", format!("Bearer {}", token.trim()));
    send(node.admin, empty(request)).await.text()
}

fn hang_up(node: &crate::harness::Node) {
    node.signal(libc::SIGHUP);
}
