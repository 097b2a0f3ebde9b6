//! `meridian drain`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{
    Node,
    client::{Client, ClientFault},
    exit::Exit,
    output::Output,
};
use crate::{
    admin::model::{DrainOrder, DrainState},
    clock,
    observe::process,
};

/// How often it is looked whether the node is gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What closing everything may take at the end.
const CLOSING: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct Order {
    /// For how long resolvers may still send clients, in s. [default: two of the longest TTLs of the node's DNS answers]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Does not wait until the node is gone.
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    node: Node,
}

/// Tells a node to leave, and waits until it is gone.
pub(super) fn drain(order: &Order, output: Output) -> Exit {
    match ask(order, output) {
        Ok(exit) => exit,
        Err(fault) => fault.tell(output),
    }
}

fn ask(order: &Order, output: Output) -> Result<Exit, ClientFault> {
    let client = Client::new(&order.node)?;
    let answer = client.post("/api/v1/drain", &json!(DrainOrder { wait_s: order.wait }), Duration::ZERO)?;
    let told: DrainState = answer.read(&client)?;
    let (wait_s, finish_s) = (told.wait_s.unwrap_or(0), told.finish_s.unwrap_or(0));
    if order.no_follow {
        output.answer(
            || answer.value.clone(),
            || format!("the node is out of DNS; it ends after {wait_s} s, and at most {finish_s} s more for clients"),
        );
        return Ok(Exit::Done);
    }
    output.note(&format!("out of DNS; waiting {wait_s} s for resolvers, then at most {finish_s} s for clients"));
    // on the node's own machine its end can be seen; it answers nobody for a while before
    let process = told.process.filter(|name| process::runs(name));
    let is_gone = || match &process {
        Some(name) => !process::runs(name),
        None => client.get("/api/v1/drain").is_err_and(|fault| fault.is_unreachable()),
    };
    let began = clock::instant();
    let until = began + Duration::from_secs(wait_s + finish_s) + CLOSING;
    while clock::instant() < until {
        std::thread::sleep(LOOK_EVERY);
        if is_gone() {
            let (seconds, seen) = (clock::instant().duration_since(began).as_secs(), process.is_some());
            let what = match seen {
                true => format!("the node is gone after {seconds} s"),
                false => format!(
                    "the node answers no more after {seconds} s; whether its process has ended cannot be seen from here"
                ),
            };
            output.answer(|| json!({ "gone_after_s": seconds, "process_ended": seen }), || what);
            return Ok(Exit::Done);
        }
    }
    Ok(output.complain(Exit::Failure, "the node has not ended; see its log", &json!(null)))
}
