//! What the project is made of, against `deny.toml`: the part of cargo-deny's work that needs no network.

use std::{collections::BTreeSet, process::Command};

use toml::Table;

use super::{Faults, none, text, top};

/// A package that is built into the workspace: `name version`, licence expression, where it is from.
struct Package {
    name: String,
    licence: String,
}

/// What `deny.toml` says.
struct Policy {
    allowed: BTreeSet<String>,
    banned: Vec<(String, String)>,
    registries: BTreeSet<String>,
}

impl Policy {
    fn read(text: &str) -> Self {
        let table: Table = text.parse().unwrap_or_else(|error| panic!("deny.toml: {error}"));
        let texts = |section: &str, key: &str| -> BTreeSet<String> {
            table[section][key].as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
        };
        let banned = table["bans"]["deny"].as_array().unwrap().iter();
        let word = |value: &toml::Value, key: &str| value[key].as_str().unwrap().to_owned();
        Self {
            allowed: texts("licenses", "allow"),
            banned: banned.map(|entry| (word(entry, "name"), word(entry, "reason"))).collect(),
            registries: texts("sources", "allow-registry"),
        }
    }
}

/// What is built for this system. Cargo's metadata lists optional dependencies that nothing switches on; its tree does not.
fn packages() -> Vec<Package> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["tree", "--workspace", "--offline", "--prefix", "none", "--format", "{p}\t{l}"]).current_dir(top());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let lines: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect();
    lines
        .iter()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, licence)| Package { name: name.to_owned(), licence: licence.to_owned() })
        .collect()
}

fn breaches(policy: &Policy, packages: &[Package]) -> Faults {
    let mut faults = Faults::new();
    for package in packages {
        if !satisfied(&package.licence, &policy.allowed) {
            faults.push(format!(
                "{}: its licence, `{}`, asks for more than deny.toml allows: read it, then allow it or do without",
                package.name, package.licence
            ));
        }
        let name = package.name.split(' ').next().unwrap_or_default();
        if let Some((_, reason)) = policy.banned.iter().find(|(banned, _)| banned == name) {
            faults.push(format!("{} is banned by deny.toml: {reason}", package.name));
        }
    }
    faults
}

/// Packages of the lock file that are from elsewhere than the allowed registries.
fn strangers(policy: &Policy, lock: &str) -> Faults {
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = \"")?.strip_suffix('"'));
    sources
        .filter(|source| !source.strip_prefix("registry+").is_some_and(|registry| policy.registries.contains(registry)))
        .map(|source| {
            format!("Cargo.lock: {source}: all that is built comes from crates.io, so that anyone can build it")
        })
        .collect()
}

/// Whether a licence expression (SPDX, with `/` as an old way to write `OR`) can be met by the allowed ones.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any_of(&mut rest, allowed);
    met && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(rest, allowed);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        // both sides are read, whatever the first says
        met |= all_of(rest, allowed);
    }
    met
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(rest, allowed);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let met = any_of(rest, allowed);
            let [")", tail @ ..] = *rest else { return false };
            *rest = tail;
            met
        }
        [licence, "WITH", exception, tail @ ..] => {
            *rest = tail;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, tail @ ..] => {
            *rest = tail;
            allowed.contains(*licence)
        }
        [] => false,
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_none_is_banned() {
    let packages = packages();
    assert!(packages.len() > 100, "cargo tree lists {} packages only", packages.len());
    none(&breaches(&Policy::read(text("deny.toml")), &packages));
}

#[test]
fn every_dependency_is_from_crates_io() {
    none(&strangers(&Policy::read(text("deny.toml")), text("Cargo.lock")));
}

#[test]
fn licence_expressions_are_read_as_they_are_meant() {
    let allowed = ["MIT", "ISC"].map(str::to_owned).into();
    for met in
        ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "MIT AND ISC", "(GPL-3.0 OR MIT) AND ISC", "GPL-3.0 OR MIT AND ISC"]
    {
        assert!(satisfied(met, &allowed), "{met}");
    }
    for open in
        ["GPL-3.0", "", "MIT AND GPL-3.0", "ISC AND (GPL-3.0 OR X11)", "MIT WITH A-exception", "(MIT", "MIT ISC"]
    {
        assert!(!satisfied(open, &allowed), "{open}");
    }
}

#[test]
fn a_banned_or_foreign_package_is_found() {
    let policy = Policy::read(text("deny.toml"));
    let package = |name: &str, licence: &str| Package { name: name.into(), licence: licence.into() };
    let packages =
        [package("openssl v1.0.0", "MIT"), package("free v1.0.0", "AGPL-3.0"), package("fine v1.0.0", "MIT")];
    assert_eq!(breaches(&policy, &packages).len(), 2);
    assert_eq!(strangers(&policy, "source = \"git+https://example.org/x#1\"\n").len(), 1);
}
