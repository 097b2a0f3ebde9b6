//! `meridian status`.

use serde_json::json;

use super::{
    Node,
    client::{Client, ClientFault},
    exit::Exit,
    force::sentence,
    output::Output,
    table::{printable, table},
};
use crate::admin::model::{Fleet, NodeState, RealmLedger, Region, RegionState, Sites, Status};

/// Shows the fleet and the sites as a node sees them.
pub(super) fn status(node: &Node, output: Output) -> Exit {
    match ask(node, output) {
        Ok(()) => Exit::Done,
        Err(fault) => fault.tell(output),
    }
}

fn ask(node: &Node, output: Output) -> Result<(), ClientFault> {
    let client = Client::new(node)?;
    let status = client.get("/api/v1/status")?;
    let fleet = client.get("/api/v1/fleet")?;
    let sites = client.get("/api/v1/sites")?;
    let text = text(&status.read(&client)?, &fleet.read(&client)?, &sites.read(&client)?);
    output.answer(|| json!({ "status": status.value, "fleet": fleet.value, "sites": sites.value }), || text);
    Ok(())
}

fn text(status: &Status, fleet: &Fleet, sites: &Sites) -> String {
    let mut text = format!(
        "node {} in {} ({}), version {}, up {}\n",
        status.node,
        status.region,
        status.jurisdiction,
        status.version,
        duration(status.uptime_s),
    );
    for warning in &status.warnings {
        text += &format!("warning: {}\n", printable(warning));
    }
    if fleet.minority {
        text += "warning: this node sees fewer than half of the regions, and keeps the last verdicts: look at its network; if most \
            other regions are dead or do not run yet, force those down (meridian force down --region)\n";
    }
    for line in forced(fleet) {
        text += &line;
    }
    let head = ["REGION", "STATE", "JURISDICTION", "NODE", "STATE", "READY", "RTT"];
    text += &format!("\n{}\n{}\n{}", table(head, &node_rows(fleet)), ledger_table(fleet), site_table(sites));
    if !sites.missing.is_empty() {
        text += &format!("not counted, as they did not answer: {}\n", sites.missing.join(", "));
    }
    text
}

/// What operators force, a line each.
fn forced(fleet: &Fleet) -> impl Iterator<Item = String> + '_ {
    let of = |region: &Region| {
        let nodes = region.nodes.iter().filter_map(|node| node.forced.as_ref());
        region.forced.iter().chain(nodes).map(|forced| format!("forced: {}\n", sentence(forced))).collect::<Vec<_>>()
    };
    fleet.regions.iter().flat_map(of)
}

fn node_rows(fleet: &Fleet) -> Vec<[String; 7]> {
    let rows = fleet.regions.iter().flat_map(|region| {
        region.nodes.iter().enumerate().map(move |(index, node)| {
            // what belongs to the region stands in its first line only
            let first = |text: String| if index == 0 { text } else { String::new() };
            let rtt = node.rtt_us.map_or_else(|| "-".to_owned(), |us| format!("{:.1} ms", f64::from(us) / 1000.0));
            [
                first(region.name.clone()),
                first(region_state(region.state).to_owned()),
                first(region.jurisdiction.clone()),
                node.name.clone(),
                node_state(node.state).to_owned(),
                match node.ready {
                    Some(true) => "yes".to_owned(),
                    Some(false) => "no".to_owned(),
                    None => "?".to_owned(),
                },
                rtt,
            ]
        })
    });
    rows.collect()
}

/// How purges stand, node by node.
fn ledger_table(fleet: &Fleet) -> String {
    let nodes = fleet.regions.iter().flat_map(|region| &region.nodes);
    let rows: Vec<[String; 7]> = nodes
        .flat_map(|node| {
            node.ledgers.iter().enumerate().map(move |(index, ledger)| {
                let first = if index == 0 { node.name.clone() } else { String::new() };
                ledger_row(first, ledger)
            })
        })
        .collect();
    table(["NODE", "REALM", "LEASE", "UNREAD", "WAITING", "OLDEST", "BACKLOG"], &rows)
}

fn ledger_row(node: String, ledger: &RealmLedger) -> [String; 7] {
    let unread = ledger.witnesses.iter().max_by_key(|witness| witness.unread).filter(|witness| witness.unread > 0);
    let backlog: Vec<String> =
        ledger.backlog.iter().map(|member| format!("{} {}", member.node, member.purges)).collect();
    [
        node,
        ledger.realm.clone(),
        if ledger.stopped {
            "DISK FAILED".to_owned()
        } else {
            ledger.lease_age_ms.map_or_else(|| "NONE".to_owned(), age)
        },
        unread.map_or_else(|| "0".to_owned(), |witness| format!("{} {}", witness.node, witness.unread)),
        ledger.waiting.to_string(),
        ledger.waiting_oldest_ms.map_or_else(|| "-".to_owned(), age),
        if backlog.is_empty() { "0".to_owned() } else { backlog.join(", ") },
    ]
}

/// An age in ms; tenths of a second as long as they matter.
fn age(ms: u64) -> String {
    if ms < 60_000 { format!("{}.{} s", ms / 1_000, ms % 1_000 / 100) } else { duration(ms / 1_000) }
}

fn site_table(sites: &Sites) -> String {
    let rows: Vec<[String; 7]> = sites
        .sites
        .iter()
        .map(|site| {
            let percent =
                |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |it| format!("{:.1} %", it * 100.0));
            [
                site.name.clone(),
                site.tenant.clone(),
                site.pin.clone().unwrap_or_else(|| "-".to_owned()),
                format!("{:.1}", site.total.requests_per_s),
                percent(site.total.recent_hit_ratio),
                percent(site.total.hit_ratio),
                site.total.requests.to_string(),
            ]
        })
        .collect();
    table(["SITE", "TENANT", "PIN", "REQ/S", "HITS (10 s)", "HITS (ALL)", "REQUESTS"], &rows)
}

fn region_state(state: RegionState) -> &'static str {
    match state {
        RegionState::Up => "up",
        RegionState::Degraded => "degraded",
        RegionState::Draining => "draining",
        RegionState::Unknown => "unknown",
        RegionState::Down => "DOWN",
    }
}

fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Starting => "starting",
        NodeState::Draining => "draining",
        NodeState::Unknown => "unknown",
        NodeState::Down => "DOWN",
    }
}

/// Seconds in the two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::{Backlog, WitnessHeard};

    #[test]
    fn a_node_without_a_lease_and_those_it_waits_for_are_told() {
        let ledger = RealmLedger {
            realm: "eu".into(),
            witnesses: [("a", 0), ("b", 7)].map(|(node, unread)| heard(node, unread)).to_vec(),
            waiting: 3,
            waiting_oldest_ms: Some(61_000),
            backlog: vec![Backlog { node: "c".into(), purges: 12 }],
            ..RealmLedger::default()
        };
        let told = ledger_row("n".into(), &ledger);
        assert_eq!(told, ["n", "eu", "NONE", "b 7", "3", "1 min 1 s", "c 12"]);
        let quiet = RealmLedger { realm: "eu".into(), lease_age_ms: Some(440), ..RealmLedger::default() };
        assert_eq!(ledger_row("n".into(), &quiet), ["n", "eu", "0.4 s", "0", "0", "-", "0"]);
        let stopped = ledger_row("n".into(), &RealmLedger { stopped: true, ..quiet });
        assert_eq!(stopped[2], "DISK FAILED");
    }

    fn heard(node: &str, unread: u64) -> WitnessHeard {
        WitnessHeard { node: node.into(), age_ms: None, unread }
    }

    #[test]
    fn a_duration_is_told_in_two_units() {
        let told = [0, 59, 61, 3_661, 90_000].map(duration);
        assert_eq!(told, ["0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
