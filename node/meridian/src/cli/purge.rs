//! `meridian purge`.

use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use serde_json::json;

use super::{
    Node,
    client::{Client, ClientFault},
    exit::Exit,
    output::Output,
    table::{printable, table},
};
use crate::admin::model::{Purge, PurgeMode, PurgeNodeState, PurgeOrder, PurgeScope, PurgeState, PurgeWait};

/// Longest wait that a node takes.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["tag", "url", "everything"]))]
pub(super) struct Order {
    /// The site.
    #[arg(long, value_name = "NAME")]
    site: String,
    /// Everything that carries this tag (Surrogate-Key, Cache-Tag); may be given several times.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// All variants of this URL; may be given several times.
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Everything of the site.
    #[arg(long, conflicts_with_all = ["tag", "url"])]
    everything: bool,
    /// Marks it stale instead, so that it may be revalidated.
    #[arg(long)]
    soft: bool,
    /// How far the purge must have come.
    #[arg(long, value_enum, default_value_t = Wait::Quorum)]
    wait: Wait,
    /// How long to wait for that, at most 60s.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Duration,
    /// Asking again with the same key gives the same purge, not a second one.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wait {
    /// In effect on the node that is asked.
    Local,
    /// On disk on a majority of the witnesses: it cannot be lost any more.
    Quorum,
    /// In effect on every node that may hold the site.
    All,
}

/// Purges, and tells how far it has come.
pub(super) fn purge(order: &Order, output: Output) -> Exit {
    match ask(order, output) {
        Ok(exit) => exit,
        Err(fault) => fault.tell(output),
    }
}

fn ask(order: &Order, output: Output) -> Result<Exit, ClientFault> {
    let client = Client::new(&order.node)?;
    let answer = client.post("/api/v1/purges", &json!(body(order)), order.timeout)?;
    let purge: Purge = answer.read(&client)?;
    output.answer(|| answer.value.clone(), || text(&purge));
    if answer.status != http::StatusCode::ACCEPTED {
        return Ok(Exit::Done);
    }
    output.note("meridian: it goes on, but had not come as far as asked in time");
    Ok(Exit::Incomplete)
}

fn body(order: &Order) -> PurgeOrder {
    PurgeOrder {
        site: order.site.clone(),
        tags: order.tag.clone(),
        urls: order.url.clone(),
        everything: order.everything,
        mode: if order.soft { PurgeMode::Soft } else { PurgeMode::Hard },
        idempotency_key: order.idempotency_key.clone(),
        wait: match order.wait {
            Wait::Local => PurgeWait::Local,
            Wait::Quorum => PurgeWait::Quorum,
            Wait::All => PurgeWait::All,
        },
        timeout_ms: u64::try_from(order.timeout.as_millis()).unwrap_or(u64::MAX),
    }
}

fn text(purge: &Purge) -> String {
    let scope: Vec<String> = purge.scope.iter().map(scope).collect();
    let state = match purge.state {
        PurgeState::Accepted => "accepted, not yet on disk on a majority of the witnesses",
        PurgeState::Quorum => "on disk on a majority of the witnesses",
        PurgeState::Region => "in effect on every node of the region",
        PurgeState::All => "in effect on every node",
    };
    let mut text = format!("purge {} of {}: {}\n{state}\n\n", purge.id, about(purge), printable(&scope.join(", ")));
    let rows: Vec<[String; 5]> = purge
        .nodes
        .iter()
        .map(|node| {
            let ms = |ms: Option<u32>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
            let stored = purge.stored.iter().find(|stored| stored.node == node.node);
            let state = match node.state {
                PurgeNodeState::Applied => "applied",
                PurgeNodeState::Fenced => "fenced",
                PurgeNodeState::Pending => "PENDING",
            };
            [
                node.node.clone(),
                node.region.clone(),
                state.to_owned(),
                ms(node.after_ms),
                stored.map_or_else(String::new, |stored| ms(Some(stored.after_ms))),
            ]
        })
        .collect();
    text += &table(["NODE", "REGION", "STATE", "AFTER", "ON DISK AFTER"], &rows);
    text
}

fn about(purge: &Purge) -> String {
    purge.site.as_ref().map_or_else(|| "the whole realm".to_owned(), |site| format!("site {site}"))
}

fn scope(scope: &PurgeScope) -> String {
    match scope {
        PurgeScope::Url { host, target } => format!("{host}{target}"),
        PurgeScope::Prefix { host, path } => format!("{host}{path} and below"),
        PurgeScope::Host { host } => format!("host {host}"),
        PurgeScope::Realm => "everything of all sites".to_owned(),
        PurgeScope::Tag { tag } => format!("tag {tag}"),
        PurgeScope::Everything => "everything".to_owned(),
    }
}

/// Reads `500ms`, `2s` or `1m`.
fn timeout(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err("expected a number and a unit, such as 500ms or 2s".to_owned()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    ms.map(Duration::from_millis).filter(|time| *time <= WAIT_MAX).ok_or_else(|| "expected at most 60s".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_timeout_has_a_unit_and_an_end() {
        assert_eq!(timeout("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(timeout("1m").unwrap(), WAIT_MAX);
        for bad in ["", "5", "s", "61s", "2m", "-1s", "99999999999999999999s"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
