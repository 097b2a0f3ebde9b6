//! `meridian debug-token`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Node,
    client::{Client, ClientFault},
    exit::Exit,
    output::Output,
    table::table,
};
use crate::{
    admin::model::{DebugToken, DebugTokenOrder, DebugTokens},
    clock,
};

#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// Makes a token: clients that send it as `X-Meridian-Debug` are told by this node why their requests went as they did.
    New(New),
    /// Lists the tokens that live on a node.
    List(Node),
    /// Ends a token's life, and drops what is kept for it.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// The site that it is for.
    #[arg(long, value_name = "NAME")]
    site: String,
    /// For how long it lives, at most 60.
    #[arg(long, value_name = "NUMBER", default_value_t = 60)]
    minutes: u64,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The token's id, as `list` shows it.
    id: String,
    #[command(flatten)]
    node: Node,
}

/// Makes, lists and revokes debug tokens.
pub(super) fn debug(order: &Order, output: Output) -> Exit {
    let done = match order {
        Order::New(new) => make(new, output),
        Order::List(node) => list(node, output),
        Order::Revoke(order) => revoke(order, output),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(fault) => fault.tell(output),
    }
}

fn make(new: &New, output: Output) -> Result<(), ClientFault> {
    let client = Client::new(&new.node)?;
    let order = DebugTokenOrder { site: new.site.clone(), minutes: new.minutes };
    let answer = client.post("/api/v1/debug-tokens", &json!(order), Duration::ZERO)?;
    let made: DebugToken = answer.read(&client)?;
    let text = || {
        let token = made.token.as_deref().unwrap_or_default();
        format!(
            "{token}\n\nId {}, for site {}, {} min. Clients send it as `X-Meridian-Debug`; `Meridian-Request` in the answer \
             is the id for `meridian explain request`.\n",
            made.id,
            made.site,
            minutes(&made)
        )
    };
    output.answer(|| answer.value.clone(), text);
    Ok(())
}

fn list(node: &Node, output: Output) -> Result<(), ClientFault> {
    let client = Client::new(node)?;
    let answer = client.get("/api/v1/debug-tokens")?;
    let tokens: DebugTokens = answer.read(&client)?;
    output.answer(|| answer.value.clone(), || text(&tokens));
    Ok(())
}

fn revoke(order: &Revoke, output: Output) -> Result<(), ClientFault> {
    let client = Client::new(&order.node)?;
    // what is no id must not become another path
    let id: String = order.id.chars().filter(char::is_ascii_alphanumeric).collect();
    let answer = client.delete(&format!("/api/v1/debug-tokens/{id}"))?;
    let tokens: DebugTokens = answer.read(&client)?;
    output.answer(|| answer.value.clone(), || text(&tokens));
    Ok(())
}

fn text(tokens: &DebugTokens) -> String {
    let row = |token: &DebugToken| [token.id.clone(), token.site.clone(), format!("{} min", minutes(token))];
    table(["TOKEN", "SITE", "LEFT"], &tokens.tokens.iter().map(row).collect::<Vec<_>>())
}

fn minutes(token: &DebugToken) -> u64 {
    token.expires_unix_ms.saturating_sub(clock::unix_ms()).div_ceil(60_000)
}
