//! `meridian demo`: shows what happens, and what to try.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{exit::Exit, output::Output, table::table};
use crate::demo::{self, Event, Order, Ready, ReadyNode};

/// Starts the demo; returns when it is stopped.
pub(super) fn demo(order: &Order, output: Output) -> Exit {
    let mut show = |event: Event<'_>| match event {
        Event::Doing(what) => output.note(&format!("demo: {what}")),
        Event::Ready(ready) => output.answer(|| json!(ready), || guide(ready)),
        Event::Ended { name, pid, how, config } => {
            output.note(&format!("demo: {name} (pid {pid}) ended: {how}; the others go on"));
            if let Some(config) = config {
                output.note(&format!("      bring it back in another terminal: {}", run_again(config)));
            }
        }
    };
    match demo::run(order, &mut show) {
        Ok(()) => Exit::Done,
        Err(fault) => output.failed(Exit::Failure, &fault),
    }
}

fn run_again(config: &Path) -> String {
    format!("{} run --config {}", program(), shown(config))
}

/// How this program is called from here.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "meridian".to_owned(), |path| shown(&path))
}

/// A path as one would type it here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let near = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    near.map_or_else(|| path.display().to_string(), |near: PathBuf| near.display().to_string())
}

/// What to try.
fn guide(ready: &Ready) -> String {
    let Some(first) = ready.nodes.first() else { return String::new() };
    let outside = ready.nodes.iter().find(|node| node.region != first.region).unwrap_or(first);
    let (program, config, ca) = (program(), shown(&first.config), shown(&ready.web_ca));
    let (here, there, token) = (&first.address, &outside.address, &first.token);
    let of_region: Vec<&ReadyNode> = ready.nodes.iter().filter(|node| node.region == first.region).collect();
    let pids: Vec<String> = of_region.iter().map(|node| node.pid.to_string()).collect();
    let again: Vec<String> =
        of_region.iter().map(|node| format!("  {program} run --config {} &", shown(&node.config))).collect();
    format!(
        "
Three regions, {count} nodes, all ready after {seconds:.1} s. On every node: HTTP 8080, HTTPS 8443, DNS 5300, admin 9180.

{nodes}
The fleet in the browser
  http://{here}:9180/#token={token}

A miss, then a hit: ask twice, and read Age and Cache-Status
  curl -i http://{here}:8080/products/1 -H 'Host: api.demo.test'
  curl -I --cacert {ca} --resolve www.demo.test:8443:{here} https://www.demo.test:8443/

Where DNS sends a client in Germany, in the United States, in Singapore
  dig @{here} -p 5300 api.demo.test +short +subnet=84.128.0.0/16
  dig @{here} -p 5300 api.demo.test +short +subnet=73.162.0.0/16
  dig @{here} -p 5300 api.demo.test +short +subnet=116.86.0.0/16

A site pinned to the EU: served inside, refused outside (421), and DNS names EU nodes only
  curl -i http://{here}:8080/patients/1 -H 'Host: care.demo.test'
  curl -i http://{there}:8080/patients/1 -H 'Host: care.demo.test'
  dig @{there} -p 5300 care.demo.test +short +subnet=73.162.0.0/16

A purge by tag, in effect on every node when it returns
  {program} purge --config {config} --site shop-api --tag products --wait all

What a node sees, and why it does what it does
  {program} status --config {config}
  {program} explain --config {config} http://api.demo.test/products/1 --client 84.128.0.1

Take region {region} down, see the map and DNS change, and bring it back
  kill -9 {pids}
{again}

Logs: {logs}. Ctrl-C stops everything that was started here (what you bring back yourself, you stop yourself).",
        count = ready.nodes.len(),
        seconds = f64::from(u32::try_from(ready.took_ms).unwrap_or(u32::MAX)) / 1000.0,
        nodes = node_table(ready),
        region = first.region,
        pids = pids.join(" "),
        again = again.join("\n"),
        logs = shown(&ready.dir.join("logs")),
    )
}

fn node_table(ready: &Ready) -> String {
    let nodes = ready.nodes.iter().map(|node| {
        [node.region.to_string(), node.name.clone(), node.address.clone(), node.pid.to_string(), shown(&node.config)]
    });
    let origins = ready.origins.iter().map(|origin| {
        ["-".to_owned(), origin.name.to_owned(), origin.listen.to_string(), origin.pid.to_string(), String::new()]
    });
    let rows: Vec<[String; 5]> = nodes.chain(origins).collect();
    table(["REGION", "NODE", "ADDRESS", "PID", "CONFIGURATION"], &rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::RegionId;

    use super::*;
    use crate::demo::ReadyOrigin;

    #[test]
    fn the_guide_names_what_to_kill_and_where_to_look() {
        let node = |name: &str, region: &str, address: &str, pid| ReadyNode {
            name: name.to_owned(),
            region: RegionId::parse(region).unwrap(),
            address: address.to_owned(),
            pid,
            config: PathBuf::from("/demo").join(name),
            token: "secret".to_owned(),
        };
        let ready = Ready {
            dir: PathBuf::from("/demo"),
            took_ms: 4_200,
            nodes: vec![
                node("a-1", "east", "127.0.1.1", 11),
                node("a-2", "east", "127.0.1.2", 12),
                node("b-1", "west", "127.0.2.1", 21),
            ],
            origins: vec![ReadyOrigin { name: "origin-api", listen: ([127, 0, 9, 1], 3000).into(), pid: 31 }],
            web_ca: PathBuf::from("/demo/web-ca.pem"),
        };
        let guide = guide(&ready);
        for expected in [
            "kill -9 11 12\n",
            "http://127.0.1.1:9180/#token=secret",
            "http://127.0.2.1:8080/patients/1",
            "run --config /demo/a-2 &",
            "all ready after 4.2 s",
        ] {
            assert!(guide.contains(expected), "{expected}: {guide}");
        }
    }
}
