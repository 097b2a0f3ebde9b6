//! `meridian zone`: keys of signed zones, and zones as files.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use region_config::Config;
use serde_json::{Value, json};
use wire::dns::{DnsName, Name, Rtype, zone_line};

use super::{ConfigDir, check, exit::Exit, output::Output};
use crate::{
    clock,
    dns::{
        self,
        signed::{KeyFault, ZoneKey},
    },
};

/// TTL of DS in what is printed for the zone above, in seconds.
const DS_TTL_S: u32 = 3_600;

#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// Makes a key that signs a zone, and shows what the zone above must say of it.
    Key(Key),
    /// Shows what the zones above must say of the keys of all signed zones.
    Ds(ConfigDir),
    /// Prints a zone as a file, for name servers that are not this fleet's.
    Export(Export),
}

#[derive(Debug, Args)]
pub(super) struct Key {
    /// The zone's name.
    #[arg(long, value_name = "NAME", value_parser = name)]
    zone: DnsName,
    /// File for the key; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// Folder with the node's *.toml files.
    #[arg(long, short, value_name = "DIR")]
    config: PathBuf,
    /// The zone's name.
    #[arg(long, value_name = "NAME")]
    zone: String,
}

fn name(text: &str) -> Result<DnsName, String> {
    let fault = |error| format!("`{}` is not a DNS name: {error}", text.escape_default());
    Name::vec_from_str(&text.to_ascii_lowercase()).map_err(fault)
}

pub(super) fn zone(order: &Order, output: Output) -> Exit {
    match order {
        Order::Key(order) => key(order, output),
        Order::Ds(dir) => with_config(&dir.config, output, |config| ds(config, output)),
        Order::Export(order) => with_config(&order.config, output, |config| export(config, &order.zone, output)),
    }
}

fn with_config(dir: &Path, output: Output, then: impl FnOnce(&Config) -> Exit) -> Exit {
    match region_config::load(dir) {
        Ok(config) => then(&config),
        Err(faults) => check::invalid(&faults, output),
    }
}

fn key(Key { zone, out }: &Key, output: Output) -> Exit {
    match ZoneKey::make(out) {
        Err(fault) => output.failed(Exit::Failure, &fault),
        Ok(key) => {
            let key = Shown::of(zone, &key);
            output.answer(
                || json!({ "key": out, "zone": zone.to_string(), "tag": key.tag, "ds": key.ds }),
                || {
                    let out = out.display();
                    format!(
                        "[[zones]]\nname = \"{zone}\"\ndnssec_keys = [\"{out}\"]\n\n# for the zone above, once all nodes have \
                         the key:\n{}",
                        key.ds
                    )
                },
            );
            Exit::Done
        }
    }
}

/// A key as the zone above needs it.
struct Shown {
    tag: u16,
    ds: String,
}

impl Shown {
    fn of(zone: &DnsName, key: &ZoneKey) -> Self {
        let line = zone_line(zone.as_slice(), DS_TTL_S, Rtype::DS, &key.ds(zone));
        Self { tag: key.tag(), ds: line.unwrap_or_default() }
    }
}

fn ds(config: &Config, output: Output) -> Exit {
    let mut zones: Vec<(String, Vec<Shown>)> = Vec::new();
    for zone in config.zones.iter().filter(|zone| !zone.dnssec_keys.is_empty()) {
        let Ok(apex) = name(&zone.name) else { continue };
        let keys: Result<Vec<_>, KeyFault> = zone.dnssec_keys.iter().map(|path| ZoneKey::load(path)).collect();
        match keys {
            Ok(keys) => zones.push((zone.name.clone(), keys.iter().map(|key| Shown::of(&apex, key)).collect())),
            Err(fault) => return output.failed(Exit::Config, &fault),
        }
    }
    let of_zone = |(zone, keys): &(String, Vec<Shown>)| -> Value {
        json!({ "zone": zone, "keys": keys.iter().map(|key| json!({ "tag": key.tag, "ds": key.ds })).collect::<Vec<_>>() })
    };
    let text = || {
        let lines: Vec<&str> = zones.iter().flat_map(|(_, keys)| keys).map(|key| key.ds.as_str()).collect();
        if lines.is_empty() { "; no zone has `dnssec_keys`".to_owned() } else { lines.join("\n") }
    };
    output.answer(|| json!({ "zones": zones.iter().map(of_zone).collect::<Vec<_>>() }), text);
    Exit::Done
}

fn export(config: &Config, zone: &str, output: Output) -> Exit {
    match dns::export(config, zone, clock::unix_ms() / 1_000) {
        Err(fault) => output.failed(Exit::Failure, &fault),
        Ok(exported) => {
            if let Some(until) = exported.until_unix_s {
                let until = clock::http_date_of(until * 1_000);
                output.note(&format!("its signatures hold until {until}: export it again before, at best every day"));
            }
            let value = || json!({ "zone": zone, "records": exported.lines, "until_unix_s": exported.until_unix_s });
            output.answer(value, || exported.lines.join("\n"));
            Exit::Done
        }
    }
}
