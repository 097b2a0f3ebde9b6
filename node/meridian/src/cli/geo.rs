//! `meridian geo`: what is known of an address, whether a database is sound, and another edition in its place.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Args, Subcommand};
use region_config::{Config, Geo};
use serde_json::{Value, json};

use super::{
    exit::Exit,
    output::Output,
    table::{printable, table},
};
use crate::{
    clock,
    geo::{self, Base, Edition, Force, Found, UpdateFault, Updated, Wanted},
};

const LOOKUP_EXAMPLES: &str = "\
Examples:
  meridian geo lookup 192.0.2.7 --config /etc/meridian     as this node, with its regions by distance
  meridian geo lookup 192.0.2.7 --file ./city.mmdb
  meridian geo lookup 2001:db8::1                          in the built-in country database";

const CHECK_EXAMPLES: &str = "\
Examples:
  meridian geo check ./city.mmdb
  meridian geo check ./asn.mmdb --asn
  meridian geo check ./city.mmdb --config /etc/meridian    also against the one in use

Exit code 0 if a node could use it, 1 if not, 5 if it would be held back.";

const UPDATE_EXAMPLES: &str = "\
Examples:
  meridian geo update --config /etc/meridian --from ./city-2026-12.mmdb
  meridian geo update --config /etc/meridian --from ./city-2026-12.mmdb --force
  meridian geo update --config /etc/meridian --rollback

The file that the config names is replaced whole, by renaming, and a running node takes it within seconds. The one before
is kept beside it as `.previous`, if it was sound; one that is there already changes nothing. Exit code 5 if something speaks against the new one: it is older, a tenth of its networks
is missing, or more than 15 % of prefixes would go to another region.";

/// What `meridian geo` can do.
#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// Shows what is known of an address, and which regions are near.
    #[command(after_help = LOOKUP_EXAMPLES)]
    Lookup(Lookup),
    /// Checks a database, and says what is in it.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Puts another edition of a node's database in place, or goes back to the one before.
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(Update),
}

#[derive(Debug, Args)]
pub(super) struct Lookup {
    /// The address.
    address: IpAddr,
    /// A database of places in MaxMind's format. [default: what --config says, or the built-in one]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A database of AS numbers in MaxMind's format. [default: what --config says]
    #[arg(long, value_name = "FILE")]
    asn_file: Option<PathBuf>,
    /// The node's configuration folder: databases and regions are found by it.
    #[arg(long, short, value_name = "DIR")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The database.
    file: PathBuf,
    /// It is one of AS numbers, not of places.
    #[arg(long)]
    asn: bool,
    /// The node's configuration folder: the database is compared with the one in use.
    #[arg(long, short, value_name = "DIR")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["from", "rollback"])))]
pub(super) struct Update {
    /// The node's configuration folder.
    #[arg(long, short, value_name = "DIR")]
    config: PathBuf,
    /// The new database.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Goes back to the database before.
    #[arg(long)]
    rollback: bool,
    /// It is the database of AS numbers, not that of places.
    #[arg(long)]
    asn: bool,
    /// Takes the new one whatever speaks against it, as long as it is sound.
    #[arg(long, conflicts_with = "rollback")]
    force: bool,
}

/// Does what was ordered.
pub(super) fn geo(order: &Order, output: Output) -> Exit {
    match order {
        Order::Lookup(lookup) => look_up(lookup, output),
        Order::Check(order) => check(order, output),
        Order::Update(order) => update(order, output),
    }
}

fn look_up(order: &Lookup, output: Output) -> Exit {
    let (mut wanted, regions) = match order.config.as_deref().map(|dir| loaded(dir, output)).transpose() {
        Ok(config) => config.map_or_else(Default::default, |config| (config.node.geo, config.regions)),
        Err(exit) => return exit,
    };
    // a file that is named stands alone: what another one says beside it would mislead
    if order.file.is_some() || order.asn_file.is_some() {
        wanted = Geo { file: order.file.clone(), asn_file: order.asn_file.clone(), ..wanted };
    }
    match geo::look_up(&wanted, order.address, &regions) {
        Ok(found) => {
            let asked = order.address;
            output.answer(|| found_json(asked, &found), || found_text(asked, &found));
            Exit::Done
        }
        Err(fault) => output.failed(Exit::Failure, &fault),
    }
}

fn check(order: &Check, output: Output) -> Exit {
    let current = match order.config.as_deref().map(|dir| loaded(dir, output)).transpose() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let named = only(wanted(order.asn), Some(order.file.clone()), &Geo::default());
    let base = match Base::open(&named) {
        Ok(base) => base,
        Err(fault) => return output.failed(Exit::Failure, &fault),
    };
    let against = current.map_or_else(Vec::new, |config| against(order, &base, &config));
    let Some(edition) = base.editions().iter().rfind(|edition| edition.path.is_some()) else { return Exit::Failure };
    let held: Vec<String> = against.iter().map(ToString::to_string).collect();
    let lent = base.lent();
    let objections: Vec<_> = against.iter().map(|held| held.objection.as_str()).collect();
    output.answer(
        || {
            let mut value = edition_json(edition);
            value["lent"] = json!(lent);
            value["held_back"] = json!(objections);
            value["why"] = json!(held);
            value
        },
        || {
            let family = lent.map_or_else(String::new, |family| {
                format!("  no {family} in it: the built-in country database answers for {family}\n")
            });
            let held: String = held.iter().map(|why| format!("  would be held back: {}\n", printable(why))).collect();
            format!("{}{family}{held}", edition_text(edition))
        },
    );
    if against.is_empty() { Exit::Done } else { Exit::Refused }
}

/// What a node with this config would hold against the database.
fn against(order: &Check, base: &Base, config: &Config) -> Vec<geo::Held> {
    let wanted = wanted(order.asn);
    let used = match wanted {
        Wanted::Places => config.node.geo.file.clone(),
        Wanted::Networks => config.node.geo.asn_file.clone(),
    };
    let current = used.and_then(|path| Base::open(&only(wanted, Some(path), &config.node.geo)).ok());
    current.map_or_else(Vec::new, |current| geo::against(&current, base, &config.regions))
}

fn update(order: &Update, output: Output) -> Exit {
    let config = match loaded(&order.config, output) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let Config { node, regions, .. } = &config;
    let place = geo::Order { geo: &node.geo, wanted: wanted(order.asn), regions };
    let force = if order.force { Force::Yes } else { Force::No };
    let done = match &order.from {
        Some(from) => geo::update(&place, from, force),
        None => geo::rollback(&place),
    };
    match done {
        Ok(updated) => {
            output.answer(|| updated_json(&updated), || updated_text(&updated));
            Exit::Done
        }
        Err(UpdateFault::Held(held)) => {
            let why: Vec<String> = held.iter().map(ToString::to_string).collect();
            let message =
                format!("held back, the file is as it was: {}; --force takes it all the same", why.join("; "));
            let objections: Vec<_> = held.iter().map(|held| held.objection.as_str()).collect();
            output.complain(Exit::Refused, &message, &json!({ "held_back": objections, "why": why }))
        }
        Err(fault) => output.failed(Exit::Failure, &fault),
    }
}

fn loaded(dir: &Path, output: Output) -> Result<Config, Exit> {
    region_config::load(dir).map_err(|faults| {
        let message = format!("the config in {} has faults: `meridian check` tells them", dir.display());
        output.draw(faults.list());
        output.complain(Exit::Config, &message, &Value::Null)
    })
}

fn wanted(asn: bool) -> Wanted {
    if asn { Wanted::Networks } else { Wanted::Places }
}

fn only(wanted: Wanted, path: Option<PathBuf>, geo: &Geo) -> Geo {
    match wanted {
        Wanted::Places => Geo { file: path, asn_file: None, ..geo.clone() },
        Wanted::Networks => Geo { file: None, asn_file: path, ..geo.clone() },
    }
}

fn age_days(built_unix_s: u64) -> u64 {
    (clock::unix_ms() / 1000).saturating_sub(built_unix_s) / 86_400
}

fn letters(code: [u8; 2]) -> String {
    code.map(char::from).iter().collect()
}

fn purpose(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Places => "places",
        Wanted::Networks => "networks",
    }
}

fn found_json(asked: IpAddr, found: &Found) -> Value {
    let location = &found.location;
    let said = found.said.iter().map(|said| {
        json!({
            "for": purpose(said.wanted),
            "source": said.source,
            "kind": said.kind,
            "network": said.network,
            "known": said.known,
            "built": geo::day(said.built_unix_s),
            "age_days": age_days(said.built_unix_s),
        })
    });
    let degrees = location.point.map(rules::steering::Point::degrees);
    let regions =
        found.regions.iter().map(|(region, kilometres)| json!({ "region": region, "kilometres": kilometres }));
    json!({
        "address": asked.to_string(),
        "looked_up": found.address.to_string(),
        "country": location.country.map(letters),
        "continent": location.continent().map(region_config::Continent::as_str),
        "in_eu": location.country.map(region_config::in_european_union),
        "steered_by": degrees.map(|[north, east]| json!({ "latitude": north, "longitude": east })),
        "in_file": found.degrees.map(|[north, east]| json!({ "latitude": north, "longitude": east })),
        "accuracy_km": location.accuracy_km,
        "asn": location.asn,
        "regions": regions.collect::<Vec<_>>(),
        "said": said.collect::<Vec<_>>(),
    })
}

fn found_text(asked: IpAddr, found: &Found) -> String {
    let location = &found.location;
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    let continent = location.continent().map(|continent| format!(", continent {}", continent.as_str()));
    let union = location.country.filter(|code| region_config::in_european_union(*code)).map(|_| ", in the EU");
    let country = location
        .country
        .map(|code| format!("{}{}{}", letters(code), continent.as_deref().unwrap_or(""), union.unwrap_or("")));
    let point = location.point.map(|point| {
        let [north, east] = point.degrees();
        let exact = match found.degrees {
            Some([north, east]) => format!(" (rounded from {north:.4}, {east:.4})"),
            None => " (the middle of the country)".to_owned(),
        };
        format!("{north:.2}, {east:.2}{exact}")
    });
    let mut rows = vec![["address".to_owned(), asked.to_string()]];
    if found.address != asked {
        rows.push(["looked up as".to_owned(), found.address.to_string()]);
    }
    rows.extend([
        ["country".to_owned(), or_unknown(country)],
        ["place".to_owned(), or_unknown(point)],
        ["AS number".to_owned(), or_unknown(location.asn.map(|asn| asn.to_string()))],
    ]);
    let width = rows.iter().map(|[name, _]| name.len()).max().unwrap_or(0);
    let mut text: String = rows.iter().map(|[name, value]| format!("{name:width$}  {value}\n")).collect();
    let said: Vec<[String; 4]> = found
        .said
        .iter()
        .map(|said| {
            let network = said.network.clone().unwrap_or_else(|| if said.known { "-" } else { "nothing" }.to_owned());
            let age = format!("{} ({} days)", geo::day(said.built_unix_s), age_days(said.built_unix_s));
            [said.source.clone(), purpose(said.wanted).to_owned(), network, age]
        })
        .collect();
    text += &format!("\n{}", table(["FROM", "FOR", "NETWORK", "BUILT"], &said));
    if !found.regions.is_empty() {
        let rows: Vec<[String; 2]> =
            found.regions.iter().map(|(name, km)| [name.clone(), format!("{km} km")]).collect();
        text += &format!("\n{}", table(["REGION", "DISTANCE"], &rows));
    }
    text
}

fn edition_json(edition: &Edition) -> Value {
    let [v4, v6] = edition.networks;
    let [useful_v4, useful_v6] = edition.useful;
    json!({
        "file": edition.name(),
        "for": purpose(edition.wanted),
        "kind": edition.kind,
        "built": geo::day(edition.built_unix_s),
        "age_days": age_days(edition.built_unix_s),
        "networks": { "ipv4": v4, "ipv6": v6 },
        "useful": { "ipv4": useful_v4, "ipv6": useful_v6 },
    })
}

fn edition_text(edition: &Edition) -> String {
    let [v4, v6] = edition.networks;
    let [useful_v4, useful_v6] = edition.useful;
    format!(
        "{}: good\n  {}, built {} ({} days ago)\n  {v4} IPv4 and {v6} IPv6 networks; {useful_v4} and {useful_v6} of them say {}\n",
        edition.name(),
        printable(&edition.kind),
        geo::day(edition.built_unix_s),
        age_days(edition.built_unix_s),
        match edition.wanted {
            Wanted::Places => "where they are",
            Wanted::Networks => "their AS number",
        },
    )
}

fn updated_json(updated: &Updated) -> Value {
    let mut value = edition_json(&updated.edition);
    value["file"] = json!(updated.file.display().to_string());
    value["previous"] = json!(updated.previous.as_ref().map(|path| path.display().to_string()));
    let overruled: Vec<String> = updated.overruled.iter().map(ToString::to_string).collect();
    value["overruled"] = json!(overruled);
    value["unchanged"] = json!(updated.unchanged);
    value["damaged"] = json!(updated.damaged.as_ref().map(ToString::to_string));
    value
}

fn updated_text(updated: &Updated) -> String {
    let Edition { kind, built_unix_s, .. } = &updated.edition;
    let overruled: String =
        updated.overruled.iter().map(|why| format!("  although {}\n", printable(&why.to_string()))).collect();
    let previous = match &updated.previous {
        None => "  there was none before\n".to_owned(),
        Some(path) => format!("  the one before is {}\n", path.display()),
    };
    let damaged = updated.damaged.as_ref().map_or_else(String::new, |fault| {
        format!("  what it replaces is not kept: {}\n", printable(&fault.to_string()))
    });
    format!(
        "{}: {} {}, built {}\n{overruled}{damaged}{previous}",
        updated.file.display(),
        if updated.unchanged { "unchanged, it is already" } else { "now" },
        printable(kind),
        geo::day(*built_unix_s)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_known_of_an_address_is_told_with_its_source() {
        let none: &[region_config::Region] = &[];
        let asked = "2002:5b00:1::1".parse().unwrap();
        let found = geo::look_up(&Geo::default(), asked, none).unwrap();
        let text = found_text(asked, &found);
        for part in ["looked up as  91.0.0.1", "DE, continent EU, in the EU", "the middle of the country", "built-in"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let value = found_json(asked, &found);
        assert_eq!(value["country"], "DE");
        assert_eq!(value["said"][0]["built"], "2026-06-17");
    }
}
