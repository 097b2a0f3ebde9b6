//! The command line: what an operator types, and what the program's end says to scripts.

mod allocator;
mod ca;
mod check;
mod client;
mod debug;
mod demo;
mod drain;
mod exit;
mod explain;
mod files;
mod force;
mod geo;
mod output;
mod purge;
mod run;
mod status;
mod table;
mod token;
mod verify;
mod what_if;
mod zone;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

pub use self::exit::Exit;
use self::output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line makes no sense
  3  the configuration makes no sense (nothing was started or changed)
  4  the node could not be reached
  5  refused: wrong token, unknown site, an order that makes no sense, or a geo database that is held back
  6  a purge was accepted and goes on, but had not come as far as asked in time
  7  a signed receipt does not hold";

const RUN_EXAMPLES: &str = "\
Examples:
  meridian run --config /etc/meridian
  MERIDIAN_LOG=debug meridian run --config ./edge-1";

const CHECK_EXAMPLES: &str = "\
Examples:
  meridian check --config /etc/meridian           everything that is wrong, with file and line
  meridian check --config /etc/meridian --json    the same for programs

Exit code 0 if the node could start with it and be ready, 3 if not. What one site alone would lack (its TLS, an origin) is
a warning.";

const SCHEMA_EXAMPLES: &str = "\
Examples:
  meridian schema > meridian.schema.json

Editors with TOML support complete and check against it: put `#:schema ./meridian.schema.json` in a file's first line.";

const DEMO_EXAMPLES: &str = "\
Examples:
  make demo                        builds all, installs the demo's origin, and starts this
  meridian demo --dir ../demo      the same, elsewhere";

const CA_INIT_EXAMPLES: &str = "\
Examples:
  meridian ca init --dir ./ca --cluster acme

The key in the folder makes new members of the cluster: keep it off the nodes.";

const CA_ISSUE_EXAMPLES: &str = "\
Examples:
  meridian ca issue --dir ./ca --node frankfurt-1 --region eu-central --jurisdiction eu --out ./frankfurt-1/identity

What the certificate says about region and jurisdiction is what the other nodes believe; the node's own configuration
must agree with it.";

const STATUS_EXAMPLES: &str = "\
Examples:
  meridian status --config /etc/meridian
  meridian status --admin http://192.0.2.1:9180 --token-file ./admin.token
  meridian status --config /etc/meridian --json | jq '.fleet.regions[] | {name, state}'";

const PURGE_EXAMPLES: &str = "\
Examples:
  meridian purge --site shop --tag products
  meridian purge --site shop --url https://example.com/a --url https://example.com/b --wait all
  meridian purge --site shop --prefix https://example.com/blog/ --wait region
  meridian purge --site shop --host www.example.com
  meridian purge --site shop --everything --soft
  meridian purge --tenant acme --everything
  meridian purge --realm global --everything        all sites: for the operator

Asking again with the same --idempotency-key gives the same purge, not a second one.";

const RECEIPT_EXAMPLES: &str = "\
Examples:
  meridian receipt 0123456789abcdef0123456789abcdef
  meridian receipt 0123456789abcdef0123456789abcdef --signed > receipt.json

Any node of the purge's realm answers: who did not take it asks the one that did.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  meridian verify receipt.json --ca ./ca/ca.pem
  meridian receipt 0123456789abcdef0123456789abcdef --signed | meridian verify - --ca ./ca/ca.pem

Works offline. Exit code 0 if the receipt holds, 7 if it does not.";

const TOKEN_EXAMPLES: &str = "\
Examples:
  meridian token new --name shop-cms --tenant acme
  meridian token new --name shop-cms --tenant acme --site shop --verb purge --verb purge-everything

The token is for the application, and shown once. The table is for the fleet's configuration, which never holds the token
itself. To change a token: add a second table, give the application the new token, take the old table away.";

const DEBUG_EXAMPLES: &str = "\
Examples:
  meridian debug-token new --site shop --minutes 10
  curl -sI -H \"X-Meridian-Debug: $TOKEN\" https://www.example.com/a | grep -i meridian-request
  meridian explain request 0123456789abcdef0123456789abcdef";

const DRAIN_EXAMPLES: &str = "\
Examples:
  meridian drain --config /etc/meridian
  meridian drain --admin http://192.0.2.1:9180 --token-file ./admin.token --wait 120

To take a node or a region out of DNS without ending it: `meridian force drain`.";

const FORCE_EXAMPLES: &str = "\
Examples:
  meridian force down --region eu-central --why 'fibre cut, ticket 4711'
  meridian force drain --node frankfurt-1 --why 'new disk' --who ada
  meridian force release --node frankfurt-1 --why 'disk is in'
  meridian force list

Any node takes the order; it holds for the whole fleet, also through restarts, until it is released. No order makes DNS
name a region where a site's data may not be, and none makes an answer empty.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  meridian explain https://www.example.com/a
  meridian explain --url https://www.example.com/a -H 'Accept-Language: de' --client 192.0.2.7
  meridian explain request 0123456789abcdef0123456789abcdef
  meridian explain route --client 192.0.2.7 --host www.example.com --without eu-central
  meridian explain key --url 'https://www.example.com/a?b=c&utm_source=mail' -H 'Cookie: plan=gold'";

const WHAT_IF_EXAMPLES: &str = "\
Examples:
  meridian what-if --config /etc/meridian --clients clients.txt --without eu-central
  meridian what-if --config /etc/meridian --clients clients.txt --candidate ./next --site shop --json

Works offline, on the configuration and its geo database, with all other regions up. Exit code 1 if a client would be led
out of the jurisdiction that a site is pinned to, which must never be.";
const ZONE_EXAMPLES: &str = "\
Examples:
  meridian zone key --zone example.com --out ./keys/example.com.pem
  meridian zone ds --config /etc/meridian
  meridian zone export --config /etc/meridian --zone example.com > example.com.zone

A zone with `dnssec_keys` is signed; all nodes need the same keys. The zone above must have the DS record, and only then do
resolvers check. To change a key: add the new one behind the old one, give its DS to the zone above, wait for the TTL of DS,
put the new one first, wait for the TTL of the zone's records, take the old one away.";

/// A self-hosted edge: caches, answers DNS, purges everywhere at once, and keeps pinned data inside its jurisdiction.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    /// Prints JSON for programs instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node until it is told to stop (SIGTERM, SIGINT).
    #[command(after_help = RUN_EXAMPLES)]
    Run(ConfigDir),
    /// Checks a node's configuration and the files it names, and says everything that is wrong at once.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(ConfigDir),
    /// Prints the JSON schema of the configuration.
    #[command(after_help = SCHEMA_EXAMPLES)]
    Schema,
    /// Starts three regions with two nodes each on this machine, in front of a real origin.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(crate::demo::Order),
    /// Makes the cluster's certificate authority, and the nodes' certificates.
    #[command(subcommand)]
    Ca(Ca),
    /// Shows the fleet and the sites as a node sees them.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Node),
    /// Invalidates what is cached of a site, everywhere.
    #[command(after_help = PURGE_EXAMPLES)]
    Purge(purge::Order),
    /// Tells what became of a purge.
    #[command(after_help = RECEIPT_EXAMPLES)]
    Receipt(purge::Ask),
    /// Checks a signed receipt of a purge, offline, and says what it proves.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(verify::Order),
    /// Makes tokens that applications order purges with.
    #[command(subcommand)]
    Token(Token),
    /// Takes a node out of DNS, lets its clients go in their own time, and ends it.
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain(drain::Order),
    /// Forces a region or a node up, down or to drain, whatever is observed; or takes that back.
    #[command(subcommand, after_help = FORCE_EXAMPLES)]
    Force(force::Order),
    /// Tells what a node would do with a request, and why.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(explain::Order),
    /// Tells where given clients would be led if a region were gone, or under another configuration.
    #[command(after_help = WHAT_IF_EXAMPLES)]
    WhatIf(what_if::Order),
    /// Looks addresses up, checks geo databases, and puts newer ones in place.
    #[command(subcommand)]
    Geo(geo::Order),
    /// Keys of signed DNS zones, and zones as files.
    #[command(subcommand, after_help = ZONE_EXAMPLES)]
    Zone(zone::Order),
    /// Makes tokens for clients that shall be told why their requests went as they did.
    #[command(subcommand, after_help = DEBUG_EXAMPLES)]
    DebugToken(debug::Order),
}

#[derive(Debug, Subcommand)]
enum Token {
    /// Makes a token, and the table for the configuration that lets it in.
    #[command(after_help = TOKEN_EXAMPLES)]
    New(token::New),
}

#[derive(Debug, Subcommand)]
enum Ca {
    /// Makes the certificate authority of a new cluster.
    #[command(after_help = CA_INIT_EXAMPLES)]
    Init(ca::Init),
    /// Signs a certificate for a node.
    #[command(after_help = CA_ISSUE_EXAMPLES)]
    Issue(ca::Issue),
}

#[derive(Debug, Args)]
struct ConfigDir {
    /// Folder with the node's *.toml files.
    #[arg(long, short, value_name = "DIR")]
    config: PathBuf,
}

/// Which node is asked, and the token it wants.
#[derive(Debug, Args)]
struct Node {
    /// The node's admin address. [default: what --config says, or MERIDIAN_ADMIN, or http://127.0.0.1:9180]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The admin token. [default: MERIDIAN_TOKEN]
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// File with the admin token; a node keeps its own as `admin.token` in its state folder.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The node's configuration folder: address and token are found by it.
    #[arg(long, short, value_name = "DIR")]
    config: Option<PathBuf>,
}

/// Does what the command line says; the exit code is one of [`Exit`].
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // help and version come this way too; a closed pipe is no reason to complain
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let output = Output::new(cli.json);
    let exit = match cli.command {
        Command::Run(dir) => run::run(&dir.config, output),
        Command::Check(dir) => check::check(&dir.config, output),
        Command::Schema => check::schema(output),
        Command::Demo(order) => demo::demo(&order, output),
        Command::Ca(Ca::Init(order)) => ca::init(&order, output),
        Command::Ca(Ca::Issue(order)) => ca::issue(&order, output),
        Command::Status(node) => status::status(&node, output),
        Command::Purge(order) => purge::purge(&order, output),
        Command::Receipt(ask) => purge::receipt(&ask, output),
        Command::Verify(order) => verify::verify(&order, output),
        Command::Token(Token::New(order)) => token::new(&order, output),
        Command::Drain(order) => drain::drain(&order, output),
        Command::Force(order) => force::force(&order, output),
        Command::Explain(order) => explain::explain(&order, output),
        Command::WhatIf(order) => what_if::what_if(&order, output),
        Command::Geo(order) => geo::geo(&order, output),
        Command::Zone(order) => zone::zone(&order, output),
        Command::DebugToken(order) => debug::debug(&order, output),
    };
    exit.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_and_the_ones_that_are_used_by_hand_have_examples() {
        let mut command = Cli::command();
        command.build();
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            let examples = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(sub.has_subcommands() || examples.contains("Examples:"), "{}", sub.get_name());
            for argument in sub.get_arguments().filter(|it| !it.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{} {}", sub.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        for exit in Exit::ALL {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_on_the_command_line_is_refused() {
        for bad in [
            "meridian",
            "meridian run",
            "meridian purge --site s",
            "meridian purge --tag a",
            "meridian purge --site s --everything --tag a",
            "meridian purge --site s --tag a --wait never",
            "meridian purge --everything",
            "meridian purge --site s --tenant t --everything",
            "meridian purge --realm global --tag a",
            "meridian purge --tenant t --url http://a.test/",
            "meridian receipt",
            "meridian verify a.json",
            "meridian token new",
            "meridian token new --name a --verb purge-all",
            "meridian status --token a --token-file b",
            "meridian explain",
            "meridian explain http://a.test/ --url http://a.test/",
            "meridian explain request",
            "meridian what-if --config a",
            "meridian explain route --host a.test",
            "meridian explain route --host a.test --client a.test",
            "meridian debug-token",
            "meridian force",
            "meridian drain --wait soon",
            "meridian force down --region a",
            "meridian force down --why b",
            "meridian force down --region a --node b --why c",
            "meridian force sideways --region a --why c",
            "meridian geo",
            "meridian geo lookup a.test",
            "meridian geo update --config a",
            "meridian geo update --config a --from b --rollback",
            "meridian zone key --zone a",
            "meridian zone key --zone a..b --out c",
            "meridian zone export --config a",
        ] {
            assert!(Cli::try_parse_from(bad.split(' ')).is_err(), "{bad}");
        }
        for good in [
            "meridian run -c a",
            "meridian --json check --config a",
            "meridian schema --json",
            "meridian purge --site s --tag a --tag b --url http://a.test/ --wait all --timeout 2s",
            "meridian purge --site s --prefix http://a.test/b/ --host a.test --wait region --soft",
            "meridian purge --tenant t --everything",
            "meridian purge --realm global --everything",
            "meridian receipt 00 --signed",
            "meridian verify - --ca ca.pem --json",
            "meridian token new --name a --site s --verb read --verb purge",
            "meridian explain http://a.test/ --header a:b --client ::1",
            "meridian explain --url http://a.test/ -H a:b -H a:c --method HEAD",
            "meridian explain request 00",
            "meridian explain route --host a.test --client ::1 --without a --without b",
            "meridian debug-token new --site a",
            "meridian what-if --config a --clients - --without b --without c --candidate d --site e --json",
            "meridian force drain --node a --why b --who c",
            "meridian force release --region a --why b",
            "meridian force list",
            "meridian drain --wait 10 --no-follow",
            "meridian geo lookup ::1 --file a --asn-file b --json",
            "meridian geo check a --asn",
            "meridian geo update --config a --from b --force",
            "meridian geo update --config a --rollback --asn",
            "meridian zone key --zone a.test --out b.pem",
            "meridian zone ds -c a",
            "meridian zone export -c a --zone b.test --json",
        ] {
            Cli::try_parse_from(good.split(' ')).unwrap();
        }
    }
}
