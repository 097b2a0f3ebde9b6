//! `meridian what-if`: what would change for given clients if a region were gone, or the configuration another one.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use region_config::Config;
use rules::steering::what_if::Client;
use serde_json::{Value, json};

use super::{
    check,
    exit::Exit,
    output::Output,
    table::{printable, table},
};
use crate::{
    admin::{
        model::{WhatIf, WhatIfSite},
        one_of,
    },
    console::what_if::{self, World},
    geo,
};

/// Longest list of clients that is read, in bytes.
const CLIENTS_BYTES_MAX: u64 = 64 << 20;
/// Most of a line that is repeated in a message, in characters.
const FOUND_CHARS_MAX: usize = 80;

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

/// A config with its geo database, as they were read.
struct Read {
    config: Config,
    base: geo::Base,
}

impl Read {
    fn world(&self) -> World<'_> {
        World { config: &self.config, base: &self.base }
    }
}

/// Tells what would change.
pub(super) fn what_if(order: &Order, output: Output) -> Exit {
    match answers(order, output) {
        Ok(sites) => {
            let answer = WhatIf { sites };
            output.answer(|| json!(answer), || text(&answer.sites));
            let violated = answer.sites.iter().any(|site| site.violations.before + site.violations.after > 0);
            if violated { Exit::Failure } else { Exit::Done }
        }
        Err(exit) => exit,
    }
}

fn answers(order: &Order, output: Output) -> Result<Vec<WhatIfSite>, Exit> {
    let now = read(&order.config, output)?;
    let candidate = order.candidate.as_deref().map(|dir| read(dir, output)).transpose()?;
    let then = candidate.as_ref().unwrap_or(&now);
    let unknown = |name: String| {
        let names: Vec<_> = then.config.regions.iter().map(|region| &region.name).collect();
        let fault = format!("there is no region `{}`; expected {}", printable(&name), one_of(&names));
        output.complain(Exit::Usage, &fault, &Value::Null)
    };
    let without = what_if::regions(&order.without, &then.config).map_err(unknown)?;
    let clients = clients(&order.clients).map_err(|fault| {
        let message = format!("the clients of `{}`: {fault}", order.clients.display());
        output.complain(Exit::Failure, &message, &Value::Null)
    })?;
    let answers = what_if::compared(now.world(), then.world(), &clients, &without, order.site.as_deref(), usize::MAX)
        .unwrap_or_default();
    if answers.is_empty() {
        let names = what_if::sites(&now.config, &then.config);
        let named = order.site.as_deref().map_or_else(String::new, |name| format!(" `{}`", printable(name)));
        let fault = format!("there is no site{named} in both configurations; expected {}", one_of(&names));
        return Err(output.complain(Exit::Usage, &fault, &Value::Null));
    }
    Ok(answers)
}

fn read(dir: &Path, output: Output) -> Result<Read, Exit> {
    let config = region_config::load(dir).map_err(|faults| check::invalid(&faults, output))?;
    let base = geo::Base::open(&config.node.geo).map_err(|fault| output.failed(Exit::Failure, &fault))?;
    Ok(Read { config, base })
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
                let found: String = printable(line).chars().take(FOUND_CHARS_MAX).collect();
                format!(
                    "line {number}: found `{found}`, expected an address or prefix, and its requests in a second: \
                     `192.0.2.0/24 12.5`"
                )
            })?);
        }
    }
    if clients.is_empty() { Err("there is none".to_owned()) } else { Ok(clients) }
}

/// The clients of a line.
fn of_line(line: &str) -> Option<Vec<Client>> {
    let mut words = line.split_whitespace();
    let (block, requests) = (words.next()?, words.next().map_or(Some(1.0), |text| text.parse::<f64>().ok())?);
    if words.next().is_some() { None } else { what_if::clients(block, requests) }
}

fn text(sites: &[WhatIfSite]) -> String {
    let of_site = |site: &WhatIfSite| {
        let mut text = format!(
            "site {}: {:.2} % of the requests move; {} clients outside the site's jurisdiction\n",
            site.site,
            site.moved_part * 100.0,
            site.violations.after,
        );
        let percent = |requests: f64| requests / site.requests * 100.0;
        if site.refused.after > 0.0 {
            text += &format!("{:.2} % get no answer\n", percent(site.refused.after));
        }
        if site.stranded.after > 0.0 {
            let part = percent(site.stranded.after);
            text += &format!("{part:.2} % are led to a region that is gone, as are all that they may be led to\n");
        }
        let rows: Vec<[String; 5]> = (site.regions.iter())
            .map(|region| {
                [
                    region.region.clone(),
                    format!("{:.1}", region.before),
                    format!("{:.1}", region.after),
                    region.capacity.map_or_else(|| "-".to_owned(), |capacity| capacity.to_string()),
                    region.load_part.map_or_else(|| "-".to_owned(), |load| format!("{:.0} %", load * 100.0)),
                ]
            })
            .collect();
        text + &table(["REGION", "BEFORE", "AFTER", "CAPACITY", "LOAD"], &rows)
    };
    sites.iter().map(of_site).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]
    use super::*;

    #[test]
    fn a_line_that_cannot_be_read_is_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# two\n192.0.2.7\n192.0.2.0/33 \u{1b}7 # here\n").unwrap();
        let fault = clients(file.path()).unwrap_err();
        assert!(fault.starts_with("line 3: found `192.0.2.0/33 \\u{1b}7`, expected an address or prefix"), "{fault}");
    }

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
