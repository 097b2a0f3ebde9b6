//! `meridian explain`.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Node,
    client::{Client, ClientFault},
    exit::Exit,
    output::Output,
    table::{printable, table},
};
use crate::admin::model::{
    ExplainOrder, Explanation, RouteOrder, SteeredFrom, SteeredRegion, Steering, SteeringEpochs, Trail,
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Order {
    #[command(subcommand)]
    part: Option<Part>,
    /// The request's URL.
    #[arg(required_unless_present = "named", conflicts_with = "named")]
    url: Option<String>,
    /// The same by a name.
    #[arg(id = "named", long = "url", value_name = "URL")]
    named: Option<String>,
    /// The request's method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// A field of the request's head, `Name: value`; may be given several times.
    #[arg(long, short = 'H', value_name = "FIELD", value_parser = field)]
    header: Vec<(String, String)>,
    /// An address of a client: which regions would DNS name to it?
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Shows what the cache key of a request is made of: two requests with the same one get the same answer.
    Key(KeyOrder),
    /// Shows what a node did with a request that had shown a debug token.
    Request(RequestOrder),
    /// Shows where DNS leads a client, and why not elsewhere.
    Route(RouteArguments),
}

#[derive(Debug, Args)]
struct RouteArguments {
    /// The client's address, or any address of a client subnet.
    #[arg(long, value_name = "ADDRESS")]
    client: IpAddr,
    /// The host that is asked for.
    #[arg(long, value_name = "NAME")]
    host: String,
    /// A region that is taken to be down; may be given several times.
    #[arg(long, value_name = "REGION")]
    without: Vec<String>,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Args)]
struct RequestOrder {
    /// What `Meridian-Request` said in the answer.
    id: String,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Args)]
struct KeyOrder {
    /// The request's URL.
    #[arg(long)]
    url: String,
    /// A field of the request's head, `Name: value`; may be given several times.
    #[arg(long, short = 'H', value_name = "FIELD", value_parser = field)]
    header: Vec<(String, String)>,
    /// The client's address, for keys with a country in them.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    #[command(flatten)]
    node: Node,
}

/// Asks a node what it would do with a request.
pub(super) fn explain(order: &Order, output: Output) -> Exit {
    let asked = match &order.part {
        Some(Part::Request(order)) => request(order, output),
        Some(Part::Route(order)) => route(order, output),
        Some(Part::Key(key)) => ask(&key.node, &of_key(key), output, key_text),
        None => ask(&order.node, &of_request(order), output, text),
    };
    match asked {
        Ok(()) => Exit::Done,
        Err(fault) => fault.tell(output),
    }
}

fn of_request(order: &Order) -> ExplainOrder {
    ExplainOrder {
        url: order.url.clone().or_else(|| order.named.clone()).unwrap_or_default(),
        method: order.method.clone(),
        headers: fields(&order.header),
        client: order.client.map(|address| address.to_string()),
    }
}

/// Fields by name; what is given several times is one list (RFC 9110 section 5.3).
fn fields(given: &[(String, String)]) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in given {
        let field = fields.entry(name.to_ascii_lowercase()).or_default();
        let between = match name.to_ascii_lowercase().as_str() {
            _ if field.is_empty() => "",
            "cookie" => "; ",
            _ => ", ",
        };
        *field += &format!("{between}{value}");
    }
    fields
}

fn request(order: &RequestOrder, output: Output) -> Result<(), ClientFault> {
    let client = Client::new(&order.node)?;
    // what is no id must not become another path
    let id: String = order.id.chars().filter(char::is_ascii_alphanumeric).collect();
    let answer = client.get(&format!("/api/v1/explain/requests/{id}"))?;
    let text = trail_text(&answer.read(&client)?);
    output.answer(|| answer.value, || text);
    Ok(())
}

fn trail_text(trail: &Trail) -> String {
    let reason = trail.reason.as_ref().map_or_else(String::new, |reason| format!(", {reason}"));
    let mut text = format!(
        "{} {} of site {}\n{}: {}{reason}, after {} us\nCache-Status: {}\n\n",
        printable(&trail.method),
        printable(&trail.url),
        trail.site,
        trail.status,
        trail.outcome,
        trail.micros,
        printable(&trail.cache_status),
    );
    let rows: Vec<[String; 5]> = trail
        .steps
        .iter()
        .map(|step| {
            let after = step.after_us.map_or_else(String::new, |us| format!("{us} us"));
            let reason = step.reason.clone().unwrap_or_default();
            [after, step.step.clone(), step.verdict.clone(), reason, step.detail.clone()]
        })
        .collect();
    text += &table(["AFTER", "STEP", "VERDICT", "REASON", ""], &rows);
    if let Some(advice) = &trail.advice {
        text += &format!("\nWhat to do: {}\n", printable(advice));
    }
    text
}

fn of_key(order: &KeyOrder) -> ExplainOrder {
    ExplainOrder {
        url: order.url.clone(),
        method: "GET".into(),
        headers: fields(&order.header),
        client: order.client.map(|address| address.to_string()),
    }
}

fn ask(node: &Node, order: &ExplainOrder, output: Output, text: fn(&Explanation) -> String) -> Result<(), ClientFault> {
    let client = Client::new(node)?;
    let answer = client.post("/api/v1/explain", &json!(order), Duration::ZERO)?;
    let text = text(&answer.read(&client)?);
    output.answer(|| answer.value, || text);
    Ok(())
}

/// The parts of a key, one a line; without a key, why there is none.
fn key_text(explanation: &Explanation) -> String {
    let Some(key) = &explanation.key else {
        let refused = explanation.steps.last();
        let why = refused.map_or_else(String::new, |step| format!("{}: {}", step.verdict, step.detail));
        return format!("no key: {}\n", printable(&why));
    };
    let name = explanation.steps.iter().find(|step| step.step == "key").map(|step| step.verdict.clone());
    let mut rows = vec![
        ["tenant".to_owned(), key.tenant.clone()],
        ["site".to_owned(), key.site.clone()],
        ["scheme".to_owned(), key.scheme.clone()],
        ["host".to_owned(), key.host.to_ascii_lowercase()],
        ["path".to_owned(), key.path.clone()],
        ["query".to_owned(), key.query.as_ref().map_or_else(|| "(none)".to_owned(), |query| format!("?{query}"))],
    ];
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
    rows.extend(key.declared.iter().map(|part| [part.part.clone(), value(&part.value)]));
    rows.push(["asked as".to_owned(), key.original.clone()]);
    rows.extend(key.left_out.iter().map(|left| ["left out".to_owned(), format!("{} ({})", left.parameter, left.why)]));
    rows.extend(name.map(|name| ["key".to_owned(), name]));
    table(["PART", "VALUE"], &rows)
}

fn text(explanation: &Explanation) -> String {
    let Explanation { site, tenant, pin, steps, key, steering, cache_status } = explanation;
    let pin = pin.as_ref().map_or_else(String::new, |pin| format!(", pinned to {pin}"));
    let mut text = match (site, tenant) {
        (Some(site), Some(tenant)) => format!("site {site} of tenant {tenant}{pin}\n\n"),
        _ => String::new(),
    };
    let rows: Vec<[String; 4]> = steps
        .iter()
        .map(|step| {
            let reason = step.reason.clone().unwrap_or_default();
            [step.step.clone(), step.verdict.clone(), reason, step.detail.clone()]
        })
        .collect();
    text += &table(["STEP", "VERDICT", "REASON", ""], &rows);
    if let Some(status) = cache_status {
        text += &format!("\nCache-Status: {}\n", printable(status));
    }
    if let Some(advice) = steps.iter().rev().find_map(|step| step.advice.as_ref()) {
        text += &format!("\nWhat to do: {}\n", printable(advice));
    }
    if let Some(key) = key {
        let query = key.query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
        let url = printable(&format!("{}://{}{}{query}", key.scheme, key.host, key.path));
        let owner = key.owner.as_ref().map_or_else(String::new, |owner| format!("; owner in this region: {owner}"));
        text += &format!("\nkey: {url} of {}/{}{owner}\n", key.tenant, key.site);
    }
    if let Some(steering) = steering {
        text += &format!("\n{}", steering_text(steering));
    }
    text
}

fn route(order: &RouteArguments, output: Output) -> Result<(), ClientFault> {
    let client = Client::new(&order.node)?;
    let RouteArguments { host, without, .. } = order;
    let asked = RouteOrder { host: host.clone(), client: order.client.to_string(), without: without.clone() };
    let answer = client.post("/api/v1/explain/route", &json!(asked), Duration::ZERO)?;
    let text = steering_text(&answer.read(&client)?);
    output.answer(|| answer.value, || text);
    Ok(())
}

/// Where DNS leads a client, region by region.
fn steering_text(steering: &Steering) -> String {
    let Steering { client, outcome, ttl_s, prefix, location, rule, origin, epochs, regions, .. } = steering;
    let chosen = regions.iter().find(|region| region.chosen).map(|region| &region.region);
    let mut text = format!("DNS for {client}: {outcome} (TTL {ttl_s} s, for {prefix})\n");
    if let Some(other) = steering.ipv6_region.as_ref().filter(|other| chosen.is_some_and(|chosen| chosen != *other)) {
        text += &format!("what follows is about {}; AAAA leads to region {other}\n", steering.record);
    }
    text += &format!("place: {}\n", place_text(location));
    text += &format!("order: {origin}{}\n", rule.as_ref().map_or_else(String::new, |rule| format!(", {rule}")));
    let SteeringEpochs { config, plan, health, geo } = epochs;
    text += &format!("made of: config {config}, plan {plan}, health {health}, {geo}\n\n");
    let mut text = text.lines().map(|line| printable(line) + "\n").collect::<String>();
    let rows: Vec<[String; 8]> = regions.iter().map(region_row).collect();
    text += &table(["REGION", "PLACE", "STATE", "KM", "MS", "SHARE", "WISHED", "REASON"], &rows);
    text
}

fn place_text(location: &SteeredFrom) -> String {
    let SteeredFrom { country, continent, latitude, longitude, accuracy_km, asn } = location;
    let parts = [
        country.clone(),
        continent.as_ref().map(|continent| format!("continent {continent}")),
        latitude.zip(*longitude).map(|(north, east)| format!("{north}, {east}")),
        accuracy_km.map(|km| format!("within {km} km")),
        asn.map(|asn| format!("AS{asn}")),
    ];
    let known: Vec<String> = parts.into_iter().flatten().collect();
    if known.is_empty() { "not known".to_owned() } else { known.join("; ") }
}

fn region_row(region: &SteeredRegion) -> [String; 8] {
    let number = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    let wished = [
        (region.priority > 0).then(|| format!("priority {}", region.priority)),
        (region.bias_percent != 0).then(|| format!("bias {} %", region.bias_percent)),
        region.weight.map(|weight| format!("weight {weight}")),
    ];
    [
        region.region.clone(),
        number(region.place.map(|place| (place + 1).to_string())),
        region.state.clone(),
        number(region.kilometres.map(|km| km.to_string())),
        number(region.estimated_ms.map(|ms| match region.measured_ms {
            Some(measured) => format!("{ms:.1} (measured {measured:.1})"),
            None => format!("{ms:.1}"),
        })),
        number(region.share.map(|share| format!("{:.1} %", share * 100.0))),
        number(Some(wished.into_iter().flatten().collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())),
        region.reason.clone(),
    ]
}

/// Reads `Name: value`.
fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
