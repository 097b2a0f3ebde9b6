//! `meridian force`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Node,
    client::{Client, ClientFault},
    exit::Exit,
    output::Output,
    table::{printable, table},
};
use crate::{
    admin::model::{ForceAnswer, ForceOrder, Forced, ForcedAll, ForcedState},
    clock,
};

#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// Healthy, whatever the observers say.
    Up(Word),
    /// Down, whatever the observers say.
    Down(Word),
    /// To give up its clients.
    Drain(Word),
    /// Nothing any more: what is observed counts.
    Release(Word),
    /// Lists what is forced, with who and why.
    List(Node),
}

#[derive(Debug, Args)]
pub(super) struct Word {
    #[command(flatten)]
    target: Target,
    /// Why; shown to all who look at the fleet.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Who orders it. [default: the environment's USER]
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// The region.
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// The node.
    #[arg(long = "node", value_name = "NAME")]
    member: Option<String>,
}

/// Forces, takes back, lists.
pub(super) fn force(order: &Order, output: Output) -> Exit {
    let done = match order {
        Order::Up(word) => say(word, ForcedState::Up, output),
        Order::Down(word) => say(word, ForcedState::Down, output),
        Order::Drain(word) => say(word, ForcedState::Drain, output),
        Order::Release(word) => say(word, ForcedState::Released, output),
        Order::List(node) => list(node, output),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(fault) => fault.tell(output),
    }
}

fn say(word: &Word, state: ForcedState, output: Output) -> Result<(), ClientFault> {
    let client = Client::new(&word.node)?;
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    let order = ForceOrder {
        region: word.target.region.clone(),
        node: word.target.member.clone(),
        state,
        why: word.why.clone(),
        who: word.who.clone().or_else(user),
    };
    let answer = client.post("/api/v1/forced", &json!(order), Duration::ZERO)?;
    let told: ForceAnswer = answer.read(&client)?;
    output.answer(
        || answer.value.clone(),
        || {
            let warnings = told.warnings.iter().map(|warning| format!("warning: {}\n", printable(warning)));
            warnings.collect::<String>() + &sentence(&told.forced)
        },
    );
    Ok(())
}

fn list(node: &Node, output: Output) -> Result<(), ClientFault> {
    let client = Client::new(node)?;
    let answer = client.get("/api/v1/forced")?;
    let all: ForcedAll = answer.read(&client)?;
    let now = clock::unix_ms();
    let rows: Vec<[String; 6]> = all.forced.iter().map(|forced| row(forced, now)).collect();
    output.answer(
        || answer.value.clone(),
        || {
            if rows.is_empty() {
                "nothing was ever forced".to_owned()
            } else {
                table(["WHAT", "NAME", "STATE", "SINCE", "WHO", "WHY"], &rows)
            }
        },
    );
    Ok(())
}

fn row(forced: &Forced, now_ms: u64) -> [String; 6] {
    let (what, name) = target(forced);
    let since = super::status::duration(now_ms.saturating_sub(forced.since_unix_ms) / 1000);
    let (who, why) = (forced.who.clone(), forced.why.clone());
    [what.to_owned(), name.to_owned(), word(forced.state).to_owned(), since, who, why]
}

/// What is forced, in a line.
pub(super) fn sentence(forced: &Forced) -> String {
    let (what, name) = target(forced);
    let text = match forced.state {
        ForcedState::Released => format!("{what} {name} is no longer forced"),
        state => format!("{what} {name} is forced: {}", word(state)),
    };
    printable(&format!("{text}, by {}: {}", forced.who, forced.why))
}

fn target(forced: &Forced) -> (&'static str, &str) {
    match (&forced.region, &forced.node) {
        (Some(name), _) => ("region", name),
        (None, Some(name)) => ("node", name),
        (None, None) => ("nothing", ""),
    }
}

fn word(state: ForcedState) -> &'static str {
    match state {
        ForcedState::Up => "up",
        ForcedState::Down => "down",
        ForcedState::Drain => "drain",
        ForcedState::Released => "released",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forced_is_told_with_who_and_why_and_cannot_drive_the_terminal() {
        let forced = Forced {
            region: Some("eu".into()),
            node: None,
            state: ForcedState::Down,
            who: "ada".into(),
            why: "fibre\u{1b}[2J cut".into(),
            taken_by: "n".into(),
            since_unix_ms: 0,
        };
        assert_eq!(sentence(&forced), "region eu is forced: down, by ada: fibre\\u{1b}[2J cut");
        assert_eq!(row(&forced, 61_000)[3], "1 min 1 s");
    }
}
