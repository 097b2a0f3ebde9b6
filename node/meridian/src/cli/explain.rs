//! `meridian explain`.

use std::{net::IpAddr, time::Duration};

use clap::Args;
use serde_json::json;

use super::{
    Node,
    client::{Client, ClientFault},
    exit::Exit,
    output::Output,
    table::{printable, table},
};
use crate::admin::model::{ExplainOrder, Explanation};

#[derive(Debug, Args)]
pub(super) struct Order {
    /// The request's URL.
    url: String,
    /// The request's method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// A field of the request's head, `Name: value`; may be given several times.
    #[arg(long, value_name = "FIELD", value_parser = field)]
    header: Vec<(String, String)>,
    /// An address of a client: which regions would DNS name to it?
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    #[command(flatten)]
    node: Node,
}

/// Asks a node what it would do with a request.
pub(super) fn explain(order: &Order, output: Output) -> Exit {
    match ask(order, output) {
        Ok(()) => Exit::Done,
        Err(fault) => fault.tell(output),
    }
}

fn ask(order: &Order, output: Output) -> Result<(), ClientFault> {
    let client = Client::new(&order.node)?;
    let body = ExplainOrder {
        url: order.url.clone(),
        method: order.method.clone(),
        headers: order.header.iter().cloned().collect(),
        client: order.client.map(|address| address.to_string()),
    };
    let answer = client.post("/api/v1/explain", &json!(body), Duration::ZERO)?;
    let text = text(&answer.read(&client)?);
    output.answer(|| answer.value, || text);
    Ok(())
}

fn text(explanation: &Explanation) -> String {
    let Explanation { site, tenant, pin, steps, key, steering } = explanation;
    let pin = pin.as_ref().map_or_else(String::new, |pin| format!(", pinned to {pin}"));
    let mut text = format!("site {site} of tenant {tenant}{pin}\n\n");
    let rows: Vec<[String; 4]> = steps
        .iter()
        .map(|step| {
            let reason = step.reason.clone().unwrap_or_default();
            [step.step.clone(), step.verdict.clone(), reason, step.detail.clone()]
        })
        .collect();
    text += &table(["STEP", "VERDICT", "REASON", ""], &rows);
    if let Some(key) = key {
        let query = key.query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
        let url = printable(&format!("{}://{}{}{query}", key.scheme, key.host, key.path));
        let owner = key.owner.as_ref().map_or_else(String::new, |owner| format!("; owner in this region: {owner}"));
        text += &format!("\nkey: {url} of {}/{}{owner}\n", key.tenant, key.site);
    }
    if let Some(steering) = steering {
        text += &format!(
            "\nDNS for {}: {} (TTL {} s, scope /{})\n",
            steering.client,
            printable(&steering.outcome),
            steering.ttl_s,
            steering.scope
        );
        let rows: Vec<[String; 3]> = steering
            .regions
            .iter()
            .map(|region| {
                let chosen = if region.chosen { "yes" } else { "no" };
                [region.region.clone(), chosen.to_owned(), region.reason.clone()]
            })
            .collect();
        text += &table(["REGION", "CHOSEN", "REASON"], &rows);
    }
    text
}

/// Reads `Name: value`.
fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
