//! The demo as users reach it: by name, through a resolver, with dig, kdig and a browser.

use std::{env, fs, net::IpAddr, path::Path, process::Command, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    harness::{Process, binary, until},
    ui,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Start of six nodes, and the whole run of the browser, on a machine that is busy otherwise.
const RUN: Duration = Duration::from_secs(180);

/// What is run where nobody else is on the network: the demo, a resolver on the port where every program looks for one, and
/// the clients.
const SCRIPT: &str = r#"
set -eu
ip link set lo up
mount --bind "$WORK/resolv.conf" /etc/resolv.conf
"$MERIDIAN" --json demo --dir "$WORK/demo" --origin "$ROOT/deploy/demo-origin" > "$WORK/ready.json" &
for _ in $(seq 900); do grep -q web_ca "$WORK/ready.json" && break; sleep 0.1; done
grep -q web_ca "$WORK/ready.json"
PATH+=:/usr/sbin unbound -c "$WORK/unbound.conf" &
for _ in $(seq 100); do dig +time=1 +tries=1 @127.0.0.53 api.demo.test +short | grep -q 127 && break; sleep 0.1; done
for name in www api care; do
    echo "dig $name $(dig "$name.demo.test" +short | tr '\n' ' ')"
    echo "kdig $name $(kdig "$name.demo.test" +short | tr '\n' ' ')"
done
cd "$ROOT/admin-ui"
node e2e/by-name.mjs http://api.demo.test:8080/products/1 http://api.demo.test:8080/products/1 \
    https://www.demo.test:8443/ http://care.demo.test:8080/patients/1
echo done
"#;

#[test]
fn dig_kdig_and_a_browser_reach_the_demo_by_name() {
    let browser = ui::browser();
    let dir = TempDir::new().unwrap();
    let work = dir.path();
    fs::write(work.join("resolv.conf"), "nameserver 127.0.0.53\noptions edns0\n").unwrap();
    fs::write(work.join("unbound.conf"), resolver(work)).unwrap();
    // with processes of its own, so that none outlives it
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", SCRIPT]);
    command.env("WORK", work).env("ROOT", Path::new(ROOT).canonicalize().unwrap());
    command.env("MERIDIAN", binary().canonicalize().unwrap()).env("CHROMIUM", browser);
    let mut process = Process::start("demo-by-name", work, &mut command);
    until("the demo was reached by name", RUN, || process.ended());
    let output = process.output();
    assert!(output.lines().any(|line| line == "done"), "{output}");

    for (name, legal) in [("www", "127.0."), ("api", "127.0."), ("care", "127.0.1.")] {
        for client in ["dig", "kdig"] {
            let told = output.lines().find_map(|line| line.strip_prefix(&format!("{client} {name} ")));
            let addresses: Vec<IpAddr> =
                told.unwrap_or_default().split(' ').filter(|it| !it.is_empty()).map(|it| it.parse().unwrap()).collect();
            let all_legal = addresses.iter().all(|address| address.to_string().starts_with(legal));
            assert!(!addresses.is_empty() && all_legal, "{client} {name}: {told:?}\n{output}");
        }
    }
    let pages: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [first, second, page, pinned] = &pages[..] else { panic!("{output}") };
    for opened in &pages {
        assert_eq!(opened["status"], 200, "{output}");
    }
    assert!(first["text"].as_str().unwrap().contains("name"), "{first}");
    assert!(second["cache"].as_str().unwrap().contains("hit"), "{second}");
    assert!(page["text"].as_str().unwrap().to_lowercase().contains("<!doctype html"), "{page}");
    assert!(pinned["address"].as_str().unwrap().starts_with("127.0.1."), "{pinned}");
}

/// A resolver that asks the six nodes for the demo's zone.
fn resolver(work: &Path) -> String {
    let nodes = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)];
    let stubs: String =
        nodes.iter().map(|(region, node)| format!("  stub-addr: 127.0.{region}.{node}@5300\n")).collect();
    format!(
        "server:\n  interface: 127.0.0.53@53\n  do-daemonize: no\n  use-syslog: no\n  username: \"\"\n  chroot: \"\"\n  \
         directory: \"{}\"\n  pidfile: \"\"\n  do-not-query-localhost: no\n  local-zone: \"test.\" nodefault\n  \
         access-control: 127.0.0.0/8 allow\nremote-control:\n  control-enable: no\nstub-zone:\n  name: \"demo.test\"\n{stubs}",
        work.display()
    )
}
