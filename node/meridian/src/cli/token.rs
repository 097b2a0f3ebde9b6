//! `meridian token new`.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, ValueEnum};
use region_config::{Digest, SiteId, TenantId, TokenId};
use serde_json::json;

use super::{exit::Exit, output::Output};

/// What a token begins with, so that scanners for leaked secrets can find it.
const PREFIX: &str = "meridian_";

#[derive(Debug, Args)]
pub(super) struct New {
    /// Its name, as audit and logs call it.
    #[arg(long, value_name = "NAME", value_parser = TokenId::parse)]
    name: TokenId,
    /// The tenant whose sites it is for. [default: the tenant `default`]
    #[arg(long, value_name = "NAME", value_parser = TenantId::parse)]
    tenant: Option<TenantId>,
    /// A site that it is for; may be given several times. [default: all of the tenant]
    #[arg(long, value_name = "NAME", value_parser = SiteId::parse)]
    site: Vec<SiteId>,
    /// What it is for; may be given several times. [default: purge and read]
    #[arg(long, value_enum)]
    verb: Vec<Verb>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Verb {
    /// To purge URLs, prefixes and tags.
    Purge,
    /// To purge whole hosts and sites.
    PurgeEverything,
    /// To read what became of purges.
    Read,
}

impl Verb {
    fn known(self) -> region_config::Verb {
        match self {
            Self::Purge => region_config::Verb::Purge,
            Self::PurgeEverything => region_config::Verb::PurgeEverything,
            Self::Read => region_config::Verb::Read,
        }
    }
}

/// Makes a token.
pub(super) fn new(order: &New, output: Output) -> Exit {
    let mut random = [0_u8; 32];
    if let Err(error) = getrandom::fill(&mut random) {
        let message = format!("the system gives no randomness for a token: {error}");
        return output.complain(Exit::Failure, &message, &json!(null));
    }
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let table = table(order, &Digest::of(token.as_bytes()));
    output.answer(
        || json!({ "name": order.name, "token": token, "digest": Digest::of(token.as_bytes()).to_string(), "table": table }),
        || format!("token, for the application, shown only here:\n\n  {token}\n\nfor the fleet's configuration:\n\n{table}"),
    );
    Exit::Done
}

/// The table that lets it in. All values are names, which need no escapes.
fn table(order: &New, digest: &Digest) -> String {
    let mut table = format!("[[tokens]]\nname = \"{}\"\ndigest = \"{digest}\"\n", order.name);
    let list = |words: Vec<&str>| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    // writing to a String cannot fail
    if let Some(tenant) = &order.tenant {
        let _ok = writeln!(table, "tenant = \"{tenant}\"");
    }
    if !order.site.is_empty() {
        let _ok = writeln!(table, "sites = [{}]", list(order.site.iter().map(SiteId::as_str).collect()));
    }
    if !order.verb.is_empty() {
        let verbs = order.verb.iter().map(|verb| verb.known().as_str()).collect();
        let _ok = writeln!(table, "verbs = [{}]", list(verbs));
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_table_is_one_that_the_configuration_takes() {
        let order = New {
            name: TokenId::parse("cms").unwrap(),
            tenant: Some(TenantId::parse("acme").unwrap()),
            site: vec![SiteId::parse("shop").unwrap()],
            verb: vec![Verb::PurgeEverything, Verb::Read],
        };
        let text = format!(
            "[node]\nname = \"a\"\n[http]\nlisten = \"127.0.0.1:80\"\n[[sites]]\nname = \"shop\"\ntenant = \"acme\"\n\
             hosts = \"*\"\norigin = \"http://o\"\n{}",
            table(&order, &Digest::of(b"x"))
        );
        let config = region_config::check(&[("f.toml", &text)]).unwrap().config;
        let token = &config.tokens[0];
        assert_eq!((token.name.as_str(), token.digest), ("cms", Digest::of(b"x")));
        assert!(token.may(region_config::Verb::PurgeEverything) && !token.may(region_config::Verb::Purge));
    }
}
