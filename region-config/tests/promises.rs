//! What holds for every configuration: the examples are right, the schema knows what the reader knows, nothing panics.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use region_config::{Config, HostPattern, PathPattern, SiteId, TenantId, Verb, check, examine, load, schema};
use serde_json::Value;

fn example(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder)
}

fn loaded(folder: &str) -> Config {
    let checked = examine(&example(folder)).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
    checked.config
}

#[test]
fn the_smallest_config_has_under_twenty_lines_and_stands_alone() {
    let text = fs::read_to_string(example("smallest/meridian.toml")).unwrap();
    assert!(text.lines().count() < 20);
    let config = loaded("smallest");
    assert_eq!((config.regions.len(), config.regions[0].nodes.len(), config.sites.len()), (1, 1, 1));
    assert_eq!((config.node.region.as_str(), config.regions[0].jurisdiction.as_str()), ("local", "local"));
    assert_eq!(config.sites[0].hosts, [HostPattern::Any]);
    assert_eq!(config.sites[0].routes.len(), 1);
    assert!(config.node.peer.is_none());
}

#[test]
fn the_fleet_of_three_regions_is_right() {
    let config = loaded("three-regions/frankfurt-1");
    assert_eq!((config.regions.len(), config.regions.iter().map(|it| it.nodes.len()).sum::<usize>()), (3, 6));
    let pins: Vec<_> = config.sites.iter().map(|it| (it.name.as_str(), it.pin.as_ref().map(AsRef::as_ref))).collect();
    assert_eq!(pins, [("care", Some("eu")), ("shop", None), ("shop-api", None)]);
    assert_eq!(config.zones[0].name_servers.len(), 3);
    assert_eq!(config.jurisdictions[0].countries.len(), 27);
    let ca = config.node.identity.unwrap().ca;
    assert_eq!(ca, example("three-regions/frankfurt-1").join("identity/ca.pem"));
}

#[test]
fn the_most_specific_route_comes_first_and_the_last_is_for_everything() {
    let text = "[node]\nname = \"a\"\n[http]\nlisten = \"127.0.0.1:80\"\n[[sites]]\nname = \"s\"\nhosts = \"*\"\norigin = \"http://o\"\n\
                routes = [{ path = \"/a/*\" }, { path = \"/a/b/*\" }, { path = \"/c\" }]";
    let config = check(&[("f.toml", text)]).unwrap().config;
    let paths: Vec<_> = config.sites[0].routes.iter().map(|it| it.path.to_string()).collect();
    assert_eq!(paths, ["/c", "/a/b/*", "/a/*", "/*"]);
    assert_eq!(config.sites[0].routes[3].path, PathPattern::Prefix(String::new()));
}

#[test]
fn an_origin_is_treated_with_care_unless_the_operator_says_otherwise() {
    let read = |origin: &str| {
        let text = format!(
            "[node]\nname = \"a\"\nresolvers = [\"127.0.0.1:53\"]\n[http]\nlisten = \"127.0.0.1:80\"\n\
             [[sites]]\nname = \"s\"\nhosts = \"*\"\nfailover_on = [502, 503]\n\
             [[sites.origins]]\nurl = \"http://o\"\n{origin}\n[[sites.origins]]\nurl = \"http://p\""
        );
        let checked = check(&[("f.toml", &text)]).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
        assert_eq!(checked.config.node.resolvers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(checked.config.sites[0].failover_on, [502, 503]);
        checked.config.sites[0].origins[0].clone()
    };
    let plain = read("");
    assert_eq!((plain.weight, plain.priority, plain.breaker_percent), (1, 0, Some(50)));
    assert_eq!((plain.concurrency_max, plain.fetches_per_second), (1_024, None));
    let own = read("weight = 3\npriority = 1\nbreaker = \"off\"\nconcurrency = 5\nfetches_per_second = 100");
    assert_eq!((own.weight, own.priority, own.breaker_percent), (3, 1, None));
    assert_eq!((own.concurrency_max, own.fetches_per_second), (5, Some(100)));
    assert_eq!(read("breaker = 80").breaker_percent, Some(80));
}

#[test]
fn nodes_of_one_fleet_have_one_fingerprint_and_another_fleet_has_another() {
    let read = |path: &str| fs::read_to_string(example(path)).unwrap();
    let (regions, shop, care) = (
        read("three-regions/fleet/regions.toml"),
        read("three-regions/fleet/sites/shop.toml"),
        read("three-regions/fleet/sites/care.toml"),
    );
    let node = read("three-regions/frankfurt-1/meridian.toml");
    let sum = |files: &[(&str, &str)]| check(files).unwrap_or_else(|faults| panic!("{faults}")).config.fingerprint;

    let first = sum(&[("node/m.toml", &node), ("a.toml", &regions), ("b.toml", &shop), ("c.toml", &care)]);
    let other_node = node.replace("frankfurt-1", "sanjose-2").replace("127.0.1.1", "127.0.2.2");
    let elsewhere = [("m.toml", other_node.as_str()), ("a.toml", &regions), ("x/b.toml", &care), ("x/c.toml", &shop)];
    assert_eq!(first, sum(&elsewhere), "another node, another folder, sites in another order");
    for (from, to) in [("8.68", "8.69"), ("\"127.0.3.2\"", "\"127.0.3.3\""), ("preset = \"EU\"", "preset = \"EEA\"")] {
        let changed = regions.replacen(from, to, 1);
        assert_ne!(
            first,
            sum(&[("m.toml", &node), ("a.toml", &changed), ("b.toml", &shop), ("c.toml", &care)]),
            "{to}"
        );
    }
    for (from, to) in [("cache = \"off\"", ""), ("first_byte = \"5s\"", "first_byte = \"6s\""), ("\"60s\"", "\"61s\"")]
    {
        let changed = shop.replacen(from, to, 1);
        assert_ne!(
            first,
            sum(&[("m.toml", &node), ("a.toml", &regions), ("b.toml", &changed), ("c.toml", &care)]),
            "{to}"
        );
    }
}

/// Every table in the schema, with the keys that lead to it (`[]` is an element of a list).
fn tables(schema: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, Value)>) {
    match schema["type"].as_str() {
        Some("object") => {
            found.push((path.clone(), schema.clone()));
            for (key, inner) in schema["properties"].as_object().unwrap() {
                path.push(key.clone());
                tables(inner, path, found);
                path.pop();
            }
        }
        Some("array") => {
            path.push("[]".to_owned());
            tables(&schema["items"], path, found);
            path.pop();
        }
        _ => {}
    }
}

/// A value with one unknown key in the table that the path leads to.
fn with_unknown_key(path: &[String]) -> String {
    match path.split_first() {
        None => "{ no-such-key = 1 }".to_owned(),
        Some((step, rest)) if step == "[]" => format!("[{}]", with_unknown_key(rest)),
        Some((key, rest)) => format!("{{ {key} = {} }}", with_unknown_key(rest)),
    }
}

#[test]
fn schema_and_reader_know_the_same_keys() {
    let mut found = Vec::new();
    tables(&schema(), &mut Vec::new(), &mut found);
    assert!(found.len() >= 18, "{} tables", found.len());
    for (path, table) in found {
        assert_eq!(table["additionalProperties"], false);
        let text = match path.split_first() {
            None => "no-such-key = 1".to_owned(),
            Some((key, rest)) => format!("{key} = {}", with_unknown_key(rest)),
        };
        let faults = check(&[("f.toml", &text)]).unwrap_err();
        let unknown = faults
            .list()
            .iter()
            .find(|it| it.found().contains("no-such-key"))
            .unwrap_or_else(|| panic!("{text}: {faults}"));
        let told: BTreeSet<&str> = unknown.expected().split('`').skip(1).step_by(2).collect();
        let described: BTreeSet<&str> = table["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(told, described, "{text}");
        for required in table["required"].as_array().unwrap() {
            let missing = format!("no `{}", required.as_str().unwrap());
            let dotted = format!(".{}`", required.as_str().unwrap());
            let noted =
                faults.list().iter().any(|it| it.found().starts_with(&missing) || it.found().ends_with(&dotted));
            assert!(noted, "{text}: {required} is required by the schema but not missed: {faults}");
        }
    }
}

/// As much of JSON schema as ours uses.
fn fits(value: &Value, schema: &Value) -> Result<(), String> {
    if let Some(any) = schema["anyOf"].as_array() {
        let tried: Vec<_> = any.iter().map(|schema| fits(value, schema)).collect();
        return if tried.iter().any(Result::is_ok) { Ok(()) } else { Err(format!("{value}: {tried:?}")) };
    }
    let type_fits = match schema["type"].as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        other => return Err(format!("type {other}")),
    };
    if !type_fits {
        return Err(format!("{value} is no {}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        return Err(format!("{value} is not in {words:?}"));
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        fits(inner, schema["properties"].get(key).ok_or_else(|| format!("unknown {key}"))?)?;
    }
    for element in value.as_array().into_iter().flatten() {
        fits(element, &schema["items"])?;
    }
    let required = schema["required"].as_array().into_iter().flatten();
    match required.filter_map(Value::as_str).find(|key| value.get(key).is_none()) {
        Some(key) if value.is_object() => Err(format!("no {key}")),
        _ => Ok(()),
    }
}

#[test]
fn the_examples_fit_the_schema() {
    let schema = schema();
    for file in [
        "smallest/meridian.toml",
        "three-regions/frankfurt-1/meridian.toml",
        "three-regions/fleet/regions.toml",
        "three-regions/fleet/sites/shop.toml",
        "three-regions/fleet/sites/care.toml",
    ] {
        let table: toml::Table = toml::from_str(&fs::read_to_string(example(file)).unwrap()).unwrap();
        fits(&serde_json::to_value(table).unwrap(), &schema).unwrap_or_else(|fault| panic!("{file}: {fault}"));
    }
}

#[test]
fn every_key_is_described() {
    let mut found = Vec::new();
    tables(&schema(), &mut Vec::new(), &mut found);
    for (path, table) in found {
        for (key, property) in table["properties"].as_object().unwrap() {
            assert!(property["description"].as_str().is_some_and(|it| it.len() > 8), "{path:?} {key}");
        }
    }
}

/// The example fleet as one text, to be cut and twisted.
fn whole() -> String {
    ["fleet/regions.toml", "fleet/sites/shop.toml", "frankfurt-1/meridian.toml"]
        .map(|file| fs::read_to_string(example("three-regions").join(file)).unwrap())
        .into_iter()
        .rev()
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = check(&[("f.toml", &text)]);
    }

    #[test]
    fn no_bytes_in_a_file_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f.toml"), bytes).unwrap();
        let _ = load(dir.path());
    }

    #[test]
    fn no_twist_of_a_good_config_panics(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[a-z0-9\"'=\\[\\]{}.,#\n ü-]{0,6}"), 1..6)
    ) {
        let mut text = whole();
        for (at, length, new) in cuts {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary(text.len().min(start + length));
            text.replace_range(start..end.max(start), &new);
        }
        if let Err(faults) = check(&[("f.toml", &text)]) {
            prop_assert!(!faults.to_string().is_empty());
            let drawn = region_config::draw(faults.list(), region_config::Style::Plain, 80);
            prop_assert!(!drawn.is_empty());
        }
    }

    #[test]
    fn no_value_in_any_place_panics(key in "[a-z_]{1,10}", section in 0usize..17, value in "[a-z0-9:/.*\\-]{0,20}", quoted in any::<bool>()) {
        let sections = ["[node]", "[http]", "[peer]", "[cache]", "[geo]", "[limits]", "[[jurisdictions]]", "[[regions]]",
            "[[regions.nodes]]", "[[zones]]", "[[zones.name_servers]]", "[[sites]]", "[[sites.origins]]", "[[sites.routes]]",
            "[sites.tls]", "[[witnesses]]", "[[streams]]", "[dns]"];
        let keys = ["name", "listen", "hosts", "origin", "url", "path", "pin", "memory", "countries", "latitude", "realm", &key];
        for key in keys {
            let value = if quoted { format!("\"{value}\"") } else { value.clone() };
            let _ = check(&[("f.toml", &format!("{}\n{key} = {value}\n", sections[section]))]);
        }
    }
}

/// A config with a token; `lines` are in its table.
fn with_token(lines: &str) -> String {
    format!(
        "[node]\nname = \"a\"\n[http]\nlisten = \"127.0.0.1:80\"\n[purge]\nlisten = \"127.0.0.1:81\"\n\
         [[sites]]\nname = \"s\"\ntenant = \"acme\"\nhosts = \"s.test\"\norigin = \"http://o\"\n\
         [[sites]]\nname = \"t\"\ntenant = \"other\"\nhosts = \"t.test\"\norigin = \"http://o\"\n\
         [[tokens]]\nname = \"cms\"\ndigest = \"{}\"\n{lines}",
        region_config::Digest::of(b"x")
    )
}

#[test]
fn a_token_purges_and_reads_for_one_tenant_unless_more_or_less_is_written() {
    let token = |lines: &str| {
        let checked = check(&[("f.toml", &with_token(lines))]).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
        (std::sync::Arc::clone(&checked.config.tokens[0]), checked.config.fingerprint)
    };
    let ((plain, one), (small, two)) = (
        token("tenant = \"acme\""),
        token("tenant = \"acme\"\nsites = [\"s\"]\nverbs = [\"read\"]\npurges_per_second = 5"),
    );
    assert_ne!(one, two, "tokens are of the fleet");
    assert!(plain.may(Verb::Purge) && plain.may(Verb::Read) && !plain.may(Verb::PurgeEverything));
    assert!(small.may(Verb::Read) && !small.may(Verb::Purge));
    assert_eq!((plain.purges_per_second, small.purges_per_second), (1_000, 5));
    let site = |name: &str, tenant: &str| (TenantId::parse(tenant).unwrap(), SiteId::parse(name).unwrap());
    for (tenant, name, knows) in [("acme", "s", true), ("other", "t", false), ("acme", "new", true)] {
        let (tenant, site) = site(name, tenant);
        assert_eq!(plain.knows(&tenant, &site), knows);
        assert_eq!(small.knows(&tenant, &site), knows && name == "s");
    }
}

#[test]
fn a_token_that_would_mean_nothing_or_too_much_is_refused() {
    for (lines, said) in [
        ("tenant = \"acne\"", "did you mean `acme`"),
        ("", "no site is of tenant `default`"),
        ("tenant = \"acme\"\nsites = [\"t\"]", "is of tenant `other`"),
        ("tenant = \"acme\"\nsites = [\"u\"]", "there is no site `u`"),
        ("tenant = \"acme\"\nsites = []", "`sites` has nothing in it"),
        ("tenant = \"acme\"\nverbs = []", "`verbs` has nothing in it"),
        ("tenant = \"acme\"\nverbs = [\"purge-all\"]", "purge-everything"),
        ("tenant = \"acme\"\npurges_per_second = 0", "a whole number from 1"),
    ] {
        let faults = check(&[("f.toml", &with_token(lines))]).unwrap_err().to_string();
        assert!(faults.contains(said), "{lines}: {faults}");
    }
    let twice = with_token("tenant = \"acme\"")
        + "\n[[tokens]]\nname = \"two\"\ntenant = \"acme\"\ndigest = \""
        + &region_config::Digest::of(b"x").to_string()
        + "\"";
    assert!(check(&[("f.toml", &twice)]).unwrap_err().to_string().contains("the digest stands already"));
    let clear = with_token("tenant = \"acme\"").replace("blake3:", "");
    assert!(check(&[("f.toml", &clear)]).unwrap_err().to_string().contains("never the token itself"));
}
