//! `meridian what-if`: what would change for given clients if a region were gone, or the configuration another one.

use std::{
    fs::File,
    io::{self, Read as _},
    net::IpAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use region_config::{Config, RegionId, Site};
use rules::steering::{
    cells,
    what_if::{Client, Compared, Scene, compare},
};
use serde_json::{Value, json};

use super::{check, exit::Exit, output::Output, table::table};
use crate::geo;

/// Longest list of clients that is read, in bytes.
const CLIENTS_BYTES_MAX: u64 = 64 << 20;
/// Most cells that one line stands for: a shorter prefix is looked at in so many places.
const CELLS_MAX: u32 = 256;

#[derive(Debug, Args)]
pub(super) struct Order {
    /// Folder with a node's *.toml files: what is in force.
    #[arg(long, short, value_name = "DIR")]
    config: PathBuf,
    /// The clients, one address or prefix on a line, and after a blank its requests in a second (1 if left out); `-` reads
    /// standard input.
    #[arg(long, value_name = "FILE")]
    clients: PathBuf,
    /// A region that is gone afterwards; may be given several times.
    #[arg(long, value_name = "REGION")]
    without: Vec<String>,
    /// Folder with a node's *.toml files: what is in force afterwards. [default: the same]
    #[arg(long, value_name = "DIR")]
    candidate: Option<PathBuf>,
    /// The site that the clients ask for. [default: each site, one after the other]
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
}

/// A config with its geo database.
struct World {
    config: Config,
    base: geo::Base,
}

/// What is said of one site.
struct Answer {
    site: String,
    compared: Compared,
}

/// Tells what would change.
pub(super) fn what_if(order: &Order, output: Output) -> Exit {
    match answers(order, output) {
        Ok(answers) => {
            output.answer(|| json!({ "sites": answers.iter().map(value).collect::<Vec<_>>() }), || text(&answers));
            let violated = answers.iter().any(|answer| answer.compared.violations != [0, 0]);
            if violated { Exit::Failure } else { Exit::Done }
        }
        Err(exit) => exit,
    }
}

fn answers(order: &Order, output: Output) -> Result<Vec<Answer>, Exit> {
    let now = world(&order.config, output)?;
    let candidate = order.candidate.as_deref().map(|dir| world(dir, output)).transpose()?;
    let then = candidate.as_ref().unwrap_or(&now);
    let without = gone(order, &then.config).map_err(|fault| output.complain(Exit::Usage, &fault, &Value::Null))?;
    let clients = clients(&order.clients).map_err(|fault| {
        let message = format!("the clients of `{}`: {fault}", order.clients.display());
        output.complain(Exit::Failure, &message, &Value::Null)
    })?;
    let wanted = |site: &&std::sync::Arc<Site>| order.site.as_ref().is_none_or(|name| site.name.as_str() == name);
    let answer = |site: &std::sync::Arc<Site>| {
        // a site that the candidate no longer has cannot be compared
        let after = then.config.sites.iter().find(|it| it.name == site.name)?;
        let before = now.scene(site, &[]).shared_out(&clients);
        let after = then.scene(after, &without).shared_out(&clients);
        Some(Answer { site: site.name.to_string(), compared: compare(&before, &after, &clients) })
    };
    let answers: Vec<Answer> = now.config.sites.iter().filter(wanted).filter_map(answer).collect();
    if answers.is_empty() {
        return Err(output.complain(Exit::Usage, "no such site in both configurations", &Value::Null));
    }
    Ok(answers)
}

impl World {
    fn scene(&self, site: &Site, without: &[RegionId]) -> Scene {
        Scene::new(&self.config, site, self.base.ranges(), &self.config.node.region, without)
    }
}

fn world(dir: &Path, output: Output) -> Result<World, Exit> {
    let config = region_config::load(dir).map_err(|faults| check::invalid(&faults, output))?;
    let base = geo::Base::open(&config.node.geo).map_err(|fault| output.failed(Exit::Failure, &fault))?;
    Ok(World { config, base })
}

fn gone(order: &Order, config: &Config) -> Result<Vec<RegionId>, String> {
    let known = |name: &String| {
        let region = config.regions.iter().find(|region| region.name.as_str() == name);
        region.map(|region| region.name.clone()).ok_or_else(|| format!("there is no region `{name}`"))
    };
    order.without.iter().map(known).collect()
}

fn clients(file: &Path) -> Result<Vec<Client>, String> {
    let mut text = String::new();
    let source: Result<Box<dyn io::Read>, io::Error> = if file.as_os_str() == "-" {
        Ok(Box::new(io::stdin()))
    } else {
        File::open(file).map(|file| Box::new(file) as _)
    };
    let read = source.and_then(|source| source.take(CLIENTS_BYTES_MAX + 1).read_to_string(&mut text));
    let bytes = read.map_err(|error| error.to_string())?;
    if bytes as u64 > CLIENTS_BYTES_MAX {
        return Err(format!("longer than {CLIENTS_BYTES_MAX} bytes"));
    }
    let mut clients = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or("").trim();
        if !line.is_empty() {
            clients.extend(of_line(line).ok_or_else(|| {
                format!(
                    "line {number}: expected an address or prefix, and its requests in a second: `192.0.2.0/24 12.5`"
                )
            })?);
        }
    }
    if clients.is_empty() { Err("there is none".to_owned()) } else { Ok(clients) }
}

/// The clients of a line: a prefix that is longer than what resolvers send stands for one of them.
fn of_line(line: &str) -> Option<Vec<Client>> {
    let mut words = line.split_whitespace();
    let (block, requests) = (words.next()?, words.next().map_or(Some(1.0), |text| text.parse::<f64>().ok())?);
    if words.next().is_some() || !requests.is_finite() || requests < 0.0 {
        return None;
    }
    let (address, length) = match block.split_once('/') {
        Some((address, length)) => (address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?),
        None => (block.parse().ok()?, u8::MAX),
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if length > bits && block.contains('/') {
        return None;
    }
    let addresses = cells(address, length.min(bits), CELLS_MAX);
    #[allow(clippy::cast_precision_loss, reason = "at most 256")]
    let each = requests / addresses.len().max(1) as f64;
    Some(addresses.into_iter().map(|address| Client { address, requests: each }).collect())
}

fn value(answer: &Answer) -> Value {
    let Compared { requests, moved, refused, violations, regions } = &answer.compared;
    json!({
        "site": answer.site,
        "requests": requests,
        "moved": moved,
        "moved_part": part(*moved, *requests),
        "refused": { "before": refused[0], "after": refused[1] },
        "violations": { "before": violations[0], "after": violations[1] },
        "regions": regions.iter().map(|region| json!({
            "region": region.region,
            "before": region.requests[0],
            "after": region.requests[1],
            "capacity": region.capacity,
            "load_part": region.capacity.map(|capacity| part(region.requests[1], capacity)),
        })).collect::<Vec<_>>(),
    })
}

fn part(some: f64, all: f64) -> f64 {
    if all > 0.0 { some / all } else { 0.0 }
}

fn text(answers: &[Answer]) -> String {
    let of_site = |answer: &Answer| {
        let Compared { requests, moved, refused, violations, regions } = &answer.compared;
        let mut text = format!(
            "site {}: {:.2} % of the requests move; {} clients outside the site's jurisdiction\n",
            answer.site,
            part(*moved, *requests) * 100.0,
            violations[1],
        );
        if refused[1] > 0.0 {
            text += &format!("{:.2} % get no answer\n", part(refused[1], *requests) * 100.0);
        }
        let rows: Vec<[String; 5]> = regions
            .iter()
            .map(|region| {
                let load = region.capacity.map(|capacity| part(region.requests[1], capacity) * 100.0);
                [
                    region.region.to_string(),
                    format!("{:.1}", region.requests[0]),
                    format!("{:.1}", region.requests[1]),
                    region.capacity.map_or_else(|| "-".to_owned(), |capacity| capacity.to_string()),
                    load.map_or_else(|| "-".to_owned(), |load| format!("{load:.0} %")),
                ]
            })
            .collect();
        text + &table(["REGION", "BEFORE", "AFTER", "CAPACITY", "LOAD"], &rows)
    };
    answers.iter().map(of_site).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]
    use super::*;

    #[test]
    fn a_line_is_an_address_or_a_prefix_with_its_requests() {
        let read = |line: &str| of_line(line).map(|clients| (clients.len(), clients[0].requests));
        assert_eq!(read("192.0.2.7"), Some((1, 1.0)));
        assert_eq!(read("192.0.2.0/24 12.5"), Some((1, 12.5)));
        assert_eq!(read("10.0.0.0/22 8"), Some((4, 2.0)));
        assert_eq!(read("10.0.0.0/8 256"), Some((256, 1.0)));
        assert_eq!(read("2001:db8::/32 256"), Some((256, 1.0)));
        assert_eq!(read("::/0"), Some((256, 1.0 / 256.0)));
        for bad in ["x", "192.0.2.0/33", "192.0.2.0/24 -1", "192.0.2.0/24 inf", "192.0.2.0/24 1 2", "/24"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
