//! `meridian purge`.

use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    Node,
    client::{Client, ClientFault},
    exit::Exit,
    output::Output,
    table::{printable, table},
};
use crate::admin::model::{
    Purge, PurgeAnswer, PurgeMode, PurgeNodeState, PurgeOrder, PurgeOrdered, PurgeScope, PurgeState, PurgeWait,
};

/// Longest wait that a node takes.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).multiple(true).args(["tag", "url", "prefix", "host", "everything"]),
    group = ArgGroup::new("whose").required(true).args(["site", "tenant", "realm"]),
)]
pub(super) struct Order {
    /// The site.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// All sites of this tenant, by --tag or --everything.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["url", "prefix", "host"])]
    tenant: Option<String>,
    /// All sites of this realm, `global` or a jurisdiction: needs --everything and the admin token.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["url", "prefix", "host", "tag"])]
    realm: Option<String>,
    /// Everything that carries this tag (Surrogate-Key, Cache-Tag); may be given several times.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// All variants of this URL; may be given several times.
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Everything under this URL, which ends with `/`: `https://a.example/x/` covers /x, /x/ and all below, not /xy.
    #[arg(long, value_name = "URL")]
    prefix: Vec<String>,
    /// Everything of this host; may be given several times.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Everything.
    #[arg(long, conflicts_with_all = ["tag", "url", "prefix", "host"])]
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
    /// That, and in effect on every node in the region of the node that is asked.
    Region,
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
    let purges = match answer.read(&client)? {
        PurgeOrdered::One(purge) => {
            output.answer(|| answer.value.clone(), || text(&purge));
            Vec::new()
        }
        PurgeOrdered::Each(each) => {
            let texts = || each.answers.iter().map(of_site).collect::<Vec<_>>().join("\n");
            output.answer(|| answer.value.clone(), texts);
            each.answers
        }
    };
    if purges.iter().any(|answer| answer.purge.is_none()) {
        output.note("meridian: not every site was purged here");
        return Ok(Exit::Refused);
    }
    if answer.status != http::StatusCode::ACCEPTED {
        return Ok(Exit::Done);
    }
    output.note("meridian: it goes on, but had not come as far as asked in time");
    Ok(Exit::Incomplete)
}

/// One site of a tenant.
fn of_site(answer: &PurgeAnswer) -> String {
    match (&answer.purge, &answer.problem) {
        (Some(purge), _) => text(purge),
        (None, Some(problem)) => {
            let nodes = if problem.nodes.is_empty() {
                String::new()
            } else {
                format!("; ask one of {}", problem.nodes.join(", "))
            };
            let site = answer.site.as_deref().unwrap_or("-");
            format!("site {site} NOT PURGED: {}{nodes}\n", printable(&problem.detail))
        }
        (None, None) => String::new(),
    }
}

#[derive(Debug, Args)]
pub(super) struct Ask {
    /// The purge's id.
    #[arg(value_name = "ID")]
    id: String,
    /// The receipt as the node that took the purge signs it, for `meridian verify`.
    #[arg(long)]
    signed: bool,
    #[command(flatten)]
    node: Node,
}

/// Tells what became of a purge.
pub(super) fn receipt(ask: &Ask, output: Output) -> Exit {
    let told = || -> Result<Exit, ClientFault> {
        let client = Client::new(&ask.node)?;
        if ask.id.len() != 32 || !ask.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ClientFault::usage(format!("`{}` is no purge's id: expected 32 hex digits", ask.id)));
        }
        if ask.signed {
            let answer = client.get(&format!("/api/v1/purges/{}/receipt", ask.id))?;
            // a document for programs in any case
            output.answer(|| answer.value.clone(), || format!("{:#}", answer.value));
            return Ok(Exit::Done);
        }
        let answer = client.get(&format!("/api/v1/purges/{}", ask.id))?;
        let purge: Purge = answer.read(&client)?;
        output.answer(|| Value::clone(&answer.value), || text(&purge));
        Ok(Exit::Done)
    };
    told().unwrap_or_else(|fault| fault.tell(output))
}

fn body(order: &Order) -> PurgeOrder {
    PurgeOrder {
        site: order.site.clone(),
        tenant: order.tenant.clone(),
        realm: order.realm.clone(),
        tags: order.tag.clone(),
        urls: order.url.clone(),
        prefixes: order.prefix.clone(),
        hosts: order.host.clone(),
        everything: order.everything,
        mode: if order.soft { PurgeMode::Soft } else { PurgeMode::Hard },
        idempotency_key: order.idempotency_key.clone(),
        wait: match order.wait {
            Wait::Local => PurgeWait::Local,
            Wait::Quorum => PurgeWait::Quorum,
            Wait::Region => PurgeWait::Region,
            Wait::All => PurgeWait::All,
        },
        timeout_ms: Some(u64::try_from(order.timeout.as_millis()).unwrap_or(u64::MAX)),
    }
}

pub(super) fn text(purge: &Purge) -> String {
    let scope: Vec<String> = purge.scope.iter().map(scope).collect();
    let state = match purge.state {
        PurgeState::Accepted => "accepted, not yet on disk on a majority of the witnesses",
        PurgeState::Quorum => "on disk on a majority of the witnesses",
        PurgeState::Region => "in effect on every node of the region",
        PurgeState::All => "in effect on every node",
    };
    let mode = match purge.mode {
        PurgeMode::Hard => "",
        PurgeMode::Soft => " (soft)",
    };
    let what = printable(&scope.join(", "));
    let mut text =
        format!("purge {} of {}: {what}{mode}\ntaken by {}; {state}\n\n", purge.id, about(purge), purge.taken_by);
    let rows: Vec<[String; 6]> = purge
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
                node.position.clone().unwrap_or_else(|| "-".to_owned()),
                stored.map_or_else(String::new, |stored| ms(Some(stored.after_ms))),
            ]
        })
        .collect();
    text += &table(["NODE", "REGION", "STATE", "AFTER", "POSITION", "ON DISK AFTER"], &rows);
    text
}

pub(super) fn about(purge: &Purge) -> String {
    purge.site.as_ref().map_or_else(|| format!("the whole realm {}", purge.realm), |site| format!("site {site}"))
}

pub(super) fn scope(scope: &PurgeScope) -> String {
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
