//! Broken configurations, and what the operator is told about each.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use region_config::{Checked, Severity, Style, check, draw, load};

/// A node and a listener.
const NODE: &str = "[node]\nname = \"a\"\n[http]\nlisten = \"127.0.0.1:8080\"\n";
/// A site.
const SITE: &str = "[[sites]]\nname = \"s\"\nhosts = \"a.test\"\norigin = \"http://127.0.0.1:3000\"\n";
/// Two regions in two jurisdictions, a node in each.
const REGIONS: &str = "\
[[jurisdictions]]
name = \"eu\"
preset = \"EU\"
[[jurisdictions]]
name = \"us\"
countries = \"US\"
[[regions]]
name = \"east\"
latitude = 1
longitude = 2.5
jurisdiction = \"eu\"
nodes = [{ name = \"a\", peer = \"127.0.0.1:7400\" }]
[[regions]]
name = \"west\"
latitude = -1
longitude = -2.5
jurisdiction = \"us\"
nodes = [{ name = \"b\", peer = \"127.0.0.2:7400\" }]
";
/// How a node talks to others.
const PEER: &str = "[peer]\nlisten = \"127.0.0.1:7400\"\nca = \"ca.crt\"\ncertificate = \"a.crt\"\nkey = \"a.key\"\n";

/// The errors that are told of a file of its own (`f.toml`) beside ones that are right.
fn said(beside: &[(&str, &str)], text: &str) -> Vec<String> {
    let mut files = beside.to_vec();
    files.push(("f.toml", text));
    let faults = check(&files).unwrap_err();
    faults.list().iter().filter(|it| it.severity() == Severity::Error).map(ToString::to_string).collect()
}

#[track_caller]
fn one(beside: &[(&str, &str)], text: &str, expected: &str) {
    assert_eq!(said(beside, text), [expected], "{text}");
}

fn good(files: &[(&str, &str)]) -> Checked {
    check(files).unwrap_or_else(|faults| panic!("{faults}"))
}

fn good_config(files: &[(&str, &str)]) -> region_config::Config {
    good(files).config
}

#[test]
fn what_these_tests_start_from_is_right() {
    assert!(good(&[("n.toml", NODE), ("s.toml", SITE)]).warnings.is_empty());
    assert!(good(&[("n.toml", NODE), ("p.toml", PEER), ("r.toml", REGIONS), ("s.toml", SITE)]).warnings.is_empty());
}

#[test]
fn quotas_of_tenants_fit_the_tenants_and_the_cache() {
    let site = SITE.replace("hosts", "tenant = \"acme\"\nhosts");
    let beside = [("n.toml", NODE), ("s.toml", site.as_str())];
    let tenant = |rest: &str| format!("[[tenants]]\nname = \"acme\"\n{rest}\n");
    let config =
        good(&[beside[0], beside[1], ("f.toml", &tenant("memory_floor = \"25%\"\ndisk_max = \"1GiB\""))]).config;
    let [acme] = &config.tenants[..] else { panic!("{:?}", config.tenants) };
    assert_eq!(acme.memory.floor.map(|it| it.of(1000)), Some(250));
    assert_eq!(acme.disk.max.map(|it| it.of(0)), Some(1 << 30));
    one(
        &beside,
        "[[tenants]]\nname = \"acne\"\nmemory_floor = \"1%\"\n",
        "f.toml:2:8: there is no tenant `acne`; expected one of `acme`; did you mean `acme`?",
    );
    one(
        &beside,
        &tenant("memory_floor = \"1GiB\""),
        "f.toml:3:16: tenant `acme`: with this `memory_floor`, the floors are more than the memory of the cache: \
         1073741824 of 268435456 bytes; expected floors that the cache has room for",
    );
    one(
        &beside,
        &tenant("memory_floor = \"20%\"\nmemory_max = \"10%\""),
        "f.toml:4:14: tenant `acme`: `memory_max` is less than `memory_floor`; expected at least the floor",
    );
    one(
        &beside,
        &tenant("disk_floor = \"120%\""),
        "f.toml:3:14: tenant `acme`: `disk_floor` is `\"120%\"`; expected a part such as \"25%\", at most \"100%\", or a size \
         such as \"4GiB\"; whole percents from 0 to 100",
    );
    one(
        &beside,
        &format!("{0}{0}", tenant("")),
        "f.toml:5:8: tenant `acme` stands already at f.toml:2; expected each one once",
    );
}

#[test]
fn syntax_keys_and_types_are_pointed_at() {
    let node = &[("n.toml", NODE)];
    let cases = [
        (
            "x = ",
            "f.toml:1:5: not TOML: string values must be quoted, expected literal string; expected TOML as on https://toml.io",
        ),
        ("a = 1\na = 2", "f.toml:2:1: not TOML: duplicate key; expected TOML as on https://toml.io"),
        (
            "[limit]",
            "f.toml:1:2: unknown key `limit`; expected one of `shared`, `node`, `http`, `https`, `dns`, `admin`, `purge`, `peer`, \
             `cache`, `geo`, `limits`, `jurisdictions`, `regions`, `zones`, `sites`, `tenants`, `tokens`, `witnesses`, `streams`; did you mean `limits`?",
        ),
        (
            "[cache]\nmemoy = \"1GiB\"",
            "f.toml:2:1: unknown key `cache.memoy`; expected one of `memory`, `disk`; did you mean `memory`?",
        ),
        (
            "[cache]\nmemory = \"1GB\"",
            "f.toml:2:10: `cache.memory` is `\"1GB\"`; expected a size from \"1MiB\" to \"16TiB\"; units are B, KiB, MiB, GiB \
             and TiB",
        ),
        (
            "[cache]\nmemory = 256",
            "f.toml:2:10: `cache.memory` is the integer `256`; expected a size from \"1MiB\" to \"16TiB\"",
        ),
        (
            "[limits]\nfields = 0",
            "f.toml:2:10: `limits.fields` is the integer `0`; expected a whole number from 8 to 1000",
        ),
        (
            "[limits]\nhead_time = \"1h\"",
            "f.toml:2:13: `limits.head_time` is `\"1h\"`; expected a time from \"100ms\" to \"10m\"",
        ),
        ("cache = 3", "f.toml:1:9: `cache` is the integer `3`; expected a table with one of `memory`, `disk`"),
        ("[sites]\nname = \"s\"", "f.toml:1:1: `sites` is a table; expected a list of tables, each headed `[[sites]]`"),
        (
            "sites = [1]",
            "f.toml:1:10: `sites[0]` is the integer `1`; expected a table with one of `name`, `tenant`, `hosts`, `pin`, `origin`, `origins`, `failover_on`, `routes`, `tls`, `dns_ttl`, `steering`, `https_port`, `cache_status`, `purge_by_response`, `misrouted_to`, `misrouted_tls`",
        ),
        (
            "[geo]\nfile = 1979-05-27",
            "f.toml:2:8: `geo.file` is the date `1979-05-27`; expected a path, relative to the folder of this file or absolute",
        ),
    ];
    for (text, expected) in cases {
        one(node, text, expected);
    }
}

#[test]
fn a_fault_of_a_site_names_the_site() {
    let beside = &[("n.toml", NODE), ("s.toml", SITE)];
    let cases = [
        (
            "hosts = \"b.test\"",
            "f.toml:1:1: site `t`: no `origin`; expected where its responses come from, such as `origin = \"http://127.0.0.1:3000\"`",
        ),
        (
            "origin = \"http://127.0.0.1:1\"",
            "f.toml:1:1: site `t`: no `hosts`; expected a host such as \"www.example.com\", a pattern such as \"*.example.com\", or \"*\" for any",
        ),
        (
            "hosts = []\norigin = \"http://127.0.0.1:1\"",
            "f.toml:3:9: site `t`: `hosts` is an empty list; expected at least one",
        ),
        (
            "hots = \"b.test\"\norigin = \"http://127.0.0.1:1\"",
            "f.toml:3:1: site `t`: unknown key `hots`; expected one of `name`, `tenant`, `hosts`, `pin`, `origin`, `origins`, `failover_on`, `routes`, `tls`, `dns_ttl`, `steering`, `https_port`, `cache_status`, `purge_by_response`, `misrouted_to`, `misrouted_tls`; did you mean `hosts`?",
        ),
        (
            "hosts = \"b.test:80\"\norigin = \"http://127.0.0.1:1\"",
            "f.toml:3:9: site `t`: `hosts` is `\"b.test:80\"`; expected a host such as \"www.example.com\", a pattern such as \"*.example.com\", or \"*\" for any; without port",
        ),
        (
            "hosts = \"b.test\"\norigin = \"127.0.0.1:3000\"",
            "f.toml:4:10: site `t`: `origin` is `\"127.0.0.1:3000\"`; expected an origin's address, such as \"http://127.0.0.1:3000\" or \"https://origin.example.com\"; it begins with `http://` or `https://`",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://127.0.0.1:8080\"",
            "f.toml:4:10: site `t`: the origin 127.0.0.1:8080 is this node's own listener; expected another address: requests would go round in a circle",
        ),
        (
            "hosts = [\"A.test\", \"b.test\"]\norigin = \"http://127.0.0.1:1\"",
            "f.toml:3:10: site `t`: host `a.test` is claimed already by site `s` at s.toml:3; expected each host at one site",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://127.0.0.1:1\"\npin = \"ue\"",
            "f.toml:5:7: site `t`: there is no jurisdiction `ue`; expected a jurisdiction that is written down: there is none",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://127.0.0.1:1\"\ndns_ttl = \"4s\"",
            "f.toml:5:11: site `t`: `dns_ttl` is `\"4s\"`; expected a time from \"5s\" to \"5m\"",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://127.0.0.1:1\"\nmisrouted_tls = \"proxy\"",
            "f.toml:5:17: site `t`: `misrouted_tls` is `\"proxy\"`; expected one of `refuse`, `relay`",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://127.0.0.1:1\"\nmisrouted_tls = \"relay\"",
            "f.toml:5:17: site `t`: `misrouted_tls = \"relay\"` of a site that may be everywhere: no node is the wrong one; expected `pin` beside it",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://127.0.0.1:1\"\ncache_status = \"never\"",
            "f.toml:5:16: site `t`: `cache_status` is `\"never\"`; expected one of `always`, `debug`",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://127.0.0.1:1\"\ntls = { certificate = \"a.pem\" }",
            "f.toml:5:7: site `t`: no `tls.key`; expected a path, relative to the folder of this file or absolute",
        ),
        (
            "hosts = \"b.test\"\norigins = [{ url = \"http://o\", deadlines = { connect = \"20s\", total = \"10s\" } }]",
            "f.toml:4:56: site `t`: origin `o:80`: `deadlines.connect` is longer than `deadlines.total`; expected a step no longer than the whole",
        ),
        (
            "hosts = \"b.test\"\norigins = [{ url = \"http://o\", breaker = 101 }]",
            "f.toml:4:42: site `t`: `origins[0].breaker` is the integer `101`; expected a whole number from 1 to 100, or \"off\"",
        ),
        (
            "hosts = \"b.test\"\nfailover_on = [200]\norigins = [{ url = \"http://o\" }, { url = \"http://p\" }]",
            "f.toml:4:16: site `t`: `failover_on[0]` is the integer `200`; expected a whole number from 400 to 599",
        ),
        (
            "hosts = \"b.test\"\norigins = [{ url = \"https://o\", secret = { header = \"Host\", file = \"f\" } }]",
            "f.toml:4:53: site `t`: `origins[0].secret.header` is `\"Host\"`; expected the name of a field of its own, such as \"x-origin-secret\"",
        ),
        (
            "hosts = \"b.test\"\norigins = [{ url = \"http://o\", identity = { certificate = \"c\", key = \"k\" } }]",
            "f.toml:4:43: site `t`: origin `o:80`: `identity` for an origin in clear text, which asks for no certificate; expected an origin with `https://`",
        ),
        (
            "hosts = \"b.test\"\norigins = [{ url = \"http://o\" }, { url = \"http://o\" }]",
            "f.toml:4:42: site `t`: origin `o:80`: another origin of the site has this name; expected a `name` of its own",
        ),
        (
            "hosts = \"b.test\"\norigins = [{ url = \"http://o\" }]\norigin = \"http://o\"",
            "f.toml:5:10: site `t`: both `origin` and `origins`; expected one or the other",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://o\"\nroutes = [{ path = \"/a\" }, { path = \"/a\" }]",
            "f.toml:5:37: site `t`: route `/a` stands already at f.toml:5; expected each one once",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://o\"\nroutes = [{ path = \"/a\", cache = \"none\" }]",
            "f.toml:5:34: site `t`: route `/a`: `cache` is `\"none\"`; expected one of `origin`, `off`",
        ),
        (
            "hosts = \"b.test\"\norigin = \"http://o\"\nroutes = [{ path = \"/a\", cache = \"off\", default_ttl = \"1m\" }]",
            "f.toml:5:55: site `t`: route `/a`: `default_ttl` where nothing is cached (`cache = \"off\"`); expected one or the other",
        ),
    ];
    for (keys, expected) in cases {
        one(beside, &format!("[[sites]]\nname = \"t\"\n{keys}"), expected);
    }
    one(
        beside,
        &SITE.replace("a.test", "b.test"),
        "f.toml:2:8: site `s` stands already at s.toml:2; expected each one once",
    );
}

#[test]
fn the_node_must_fit_the_fleet_and_itself() {
    one(
        &[("s.toml", SITE)],
        "[http]\nlisten = \"127.0.0.1:80\"",
        "s.toml:1:1: no [node] in any file; expected this node's name: `[node]` with `name = \"...\"`",
    );
    one(
        &[("s.toml", SITE)],
        "[node]\nname = \"a\"",
        "s.toml:1:1: nothing is listened on; expected `listen` in [http], [https] or [dns], such as `listen = \"0.0.0.0:80\"`",
    );
    one(
        &[("n.toml", NODE)],
        "[node]\nname = \"b\"",
        "f.toml:1:1: `[node]` stands already at n.toml:1; expected it in one file only",
    );
    one(
        &[("s.toml", SITE)],
        &NODE.replace("\"a\"", "\"Edge_1\""),
        "f.toml:2:8: `node.name` is `\"Edge_1\"`; expected a name: 1 to 63 characters of `a-z`, `0-9` and `-`, with a letter or digit at both ends; for example `edge-1`",
    );
    one(
        &[("n.toml", NODE)],
        "[admin]\nlisten = \"0.0.0.0:8080\"",
        "f.toml:2:10: [admin] listens on 0.0.0.0:8080, which [http] does at n.toml:4; expected an address and port of its own",
    );
    one(
        &[("n.toml", NODE)],
        "[dns]\nlisten = \"127.0.0.1:8080\"",
        "f.toml:2:10: [dns] listens on 127.0.0.1:8080, which [http] does at n.toml:4; expected an address and port of its own",
    );
    one(
        &[("n.toml", NODE)],
        "[peer]\nlisten = \"127.0.0.1:7400\"\nca = \"a\"\ncertificate = \"b\"",
        "f.toml:1:1: no `peer.key`; expected a path, relative to the folder of this file or absolute",
    );

    let fleet = &[("r.toml", REGIONS), ("p.toml", PEER)];
    one(
        fleet,
        &NODE.replace("\"a\"", "\"c\""),
        "f.toml:2:8: there is no node `c`; expected one of `a`, `b`; did you mean `a`?",
    );
    one(
        fleet,
        &NODE.replace("\"a\"", "\"a\"\nregion = \"west\""),
        "f.toml:3:10: node `a` stands in region `east`, not in `west`; expected `east`, or nothing",
    );
    one(
        &[("r.toml", REGIONS)],
        NODE,
        "f.toml:1:1: no [peer], though the regions have more than one node; expected [peer] with `listen`, `ca`, `certificate` and `key`",
    );
}

#[test]
fn the_fleet_must_hang_together() {
    let beside = &[("n.toml", NODE), ("p.toml", PEER), ("s.toml", SITE)];
    let cases = [
        (
            ("preset = \"EU\"", ""),
            "f.toml:1:1: jurisdiction `eu`: neither `countries` nor `preset`; expected the countries in it, such as `countries = [\"US\"]`",
        ),
        (
            ("\"US\"", "[\"US\", \"UK\"]"),
            "f.toml:6:20: jurisdiction `us`: `countries[1]` is `\"UK\"`; expected a country's two letters (ISO 3166-1), such as \"DE\"; did you mean `GB`?",
        ),
        (
            ("preset = \"EU\"", "preset = \"eu\""),
            "f.toml:3:10: jurisdiction `eu`: `preset` is `\"eu\"`; expected one of `EU`, `EEA`; did you mean `EU`?",
        ),
        (
            ("latitude = 1", "latitude = 90.5"),
            "f.toml:9:12: region `east`: `latitude` is the number `90.5`; expected degrees from -90 to 90",
        ),
        (
            ("latitude = 1", "latitude = nan"),
            "f.toml:9:12: region `east`: `latitude` is the number `nan`; expected degrees from -90 to 90",
        ),
        (
            ("name = \"west\"", "name = \"east\""),
            "f.toml:14:8: region `east` stands already at f.toml:8; expected each one once",
        ),
        (
            ("name = \"b\"", "name = \"a\""),
            "f.toml:18:19: node `a` stands already at f.toml:12; expected each one once",
        ),
        (
            ("jurisdiction = \"us\"", "jurisdiction = \"usa\""),
            "f.toml:17:16: region `west`: there is no jurisdiction `usa`; expected one of `eu`, `us`; did you mean `us`?",
        ),
        (
            ("127.0.0.2:7400", "127.0.0.1:7400"),
            "f.toml:18:31: peer address `127.0.0.1:7400` stands already at f.toml:12; expected each one once",
        ),
        (
            (", peer = \"127.0.0.2:7400\"", ""),
            "f.toml:18:10: node `b`: no `peer`, though there are other nodes; expected where other nodes reach it, such as `peer = \"192.0.2.1:7400\"`",
        ),
        (
            ("127.0.0.2:7400", "0.0.0.0:7400"),
            "f.toml:18:31: `peer` is `0.0.0.0:7400`, which nobody can reach; expected the address and port that other nodes reach it at",
        ),
    ];
    for ((from, to), expected) in cases {
        let shift = REGIONS.replacen(from, to, 1);
        assert_ne!(shift, REGIONS);
        one(beside, &shift, expected);
    }
    let more = [
        (
            "[[jurisdictions]]\nname = \"global\"\ncountries = \"DE\"",
            "f.toml:2:8: jurisdiction `global`: `global` means the sites that are not pinned; expected another name",
        ),
        (
            "[[witnesses]]\nrealm = \"global\"\nnodes = \"a\"\nnext = [\"a\", \"b\"]",
            "f.toml:1:1: witnesses of realm `global`: 2 nodes in `next`; expected 1, 3 or 5, so that a majority is one",
        ),
        (
            "[[witnesses]]\nrealm = \"global\"\nnodes = \"a\"\nnext = \"a\"",
            "f.toml:1:1: witnesses of realm `global`: `next` has the same nodes as `nodes`; expected other ones, or no `next`",
        ),
        (
            "[[witnesses]]\nrealm = \"global\"\nversion = 0\nnodes = \"a\"",
            "f.toml:3:11: witnesses of realm `global`: `version` is the integer `0`; expected a whole number from 1 to 4294967295",
        ),
        (
            "[[witnesses]]\nrealm = \"eu\"\nnodes = \"a\"\nnext = \"b\"",
            "f.toml:4:8: witnesses of realm `eu`: node `b` stands in jurisdiction `us`; expected a node of the realm: no other may hear of its purges",
        ),
        (
            "[[witnesses]]\nrealm = \"eu\"\nnodes = [\"b\"]",
            "f.toml:3:10: witnesses of realm `eu`: node `b` stands in jurisdiction `us`; expected a node of the realm: no other may hear of its purges",
        ),
        (
            "[[witnesses]]\nrealm = \"eu\"\nnodes = [\"c\"]",
            "f.toml:3:10: witnesses of realm `eu`: there is no node `c`; expected one of `a`, `b`; did you mean `a`?",
        ),
        (
            "[[witnesses]]\nrealm = \"ue\"\nnodes = [\"a\"]",
            "f.toml:2:9: witnesses of realm `ue`: there is no realm `ue`; expected one of `eu`, `us`, `global`; did you mean `eu`?",
        ),
        (
            "[[jurisdictions]]\nname = \"ch\"\ncountries = \"CH\"\n[[sites]]\nname = \"t\"\nhosts = \"b.test\"\norigin = \"http://o\"\npin = \"ch\"",
            "f.toml:8:7: site `t`: it is pinned to `ch`, but no region lies there; expected a jurisdiction with a region, or nobody could serve it",
        ),
    ];
    let fleet = &[("n.toml", NODE), ("p.toml", PEER), ("s.toml", SITE), ("r.toml", REGIONS)];
    for (text, expected) in more {
        one(fleet, text, expected);
    }
    assert_eq!(
        said(fleet, "[[zones]]\nname = \"test\"\nname_servers = [{ name = \"ns.test\" }, { name = \"ns.example\" }]"),
        [
            "f.toml:3:17: zone `test`: name server `ns.test` lies inside the zone but has no `addresses`; expected its \
             addresses, which the parent zone needs too (glue)",
            "r.toml:7:1: region `east`: no node of it has `addresses`, so DNS cannot send anyone here; expected the addresses \
             that clients reach its nodes at",
            "r.toml:13:1: region `west`: no node of it has `addresses`, so DNS cannot send anyone here; expected the \
             addresses that clients reach its nodes at",
        ]
    );
}

#[test]
fn records_of_a_zone_lie_in_it_and_fit_into_a_message() {
    let beside = &[("n.toml", NODE), ("s.toml", SITE)];
    let zone = |more: &str| format!("[[zones]]\nname = \"x.test\"\n{more}");
    let txt = |name: &str, values: &str| zone(&format!("[[zones.txt]]\nname = \"{name}\"\nvalues = {values}\n"));
    let told = [
        (txt("y.test", "\"a\""), "`y.test` lies outside the zone; expected `x.test` or a name below it"),
        (txt("xx.test", "\"a\""), "`xx.test` lies outside the zone; expected `x.test` or a name below it"),
        (txt("a.x.test", "[\"a\", \"a\"]"), "text `a` stands already at f.toml:5; expected each one once"),
        (txt("a.x.test", &format!("{:?}", (0..33).map(|n| n.to_string()).collect::<Vec<_>>())), "expected at most 32"),
        (txt("a.x.test", "\"\""), "expected 1 to 1024 printable ASCII characters"),
        (txt("a.x.test", "\"\\n\""), "expected 1 to 1024 printable ASCII characters"),
        (zone("[[zones.caa]]\ntag = \"is sue\"\nvalue = \";\"\n"), "expected 1 to 15 letters and digits"),
        (zone("[[zones.caa]]\ntag = \"issue\"\n"), "no `caa[0].value`"),
        (
            format!("{}{}", txt("a.x.test", "\"a\""), "[[zones.txt]]\nname = \"A.x.test\"\nvalues = \"b\"\n"),
            "stands already at",
        ),
        ("[dns]\nlisten = \"127.0.0.1:5300\"\nanswers_per_second = -1\n".to_owned(), "expected a whole number"),
        ("[dns]\nlisten = \"127.0.0.1:5300\"\nnsid = \"\"\n".to_owned(), "`dns.nsid` is `\"\"`"),
    ];
    for (text, part) in told {
        let said = said(beside, &text);
        assert!(said.len() == 1 && said[0].contains(part), "{said:?}\n{text}");
    }
    let dns = "[dns]\nlisten = \"127.0.0.1:5300\"\nanswers_per_second = 0\nnsid = \"fra\"\ncookie_secret = \"c\"\n";
    let config = good_config(&[("n.toml", NODE), ("s.toml", SITE), ("f.toml", &format!("{dns}{}", zone("")))]);
    let terms = config.node.dns_terms;
    assert_eq!((terms.answers_per_second, terms.nsid.as_deref()), (None, Some("fra")));
    assert!(terms.cookie_secret.unwrap().ends_with("c"));
}

#[test]
fn more_regions_than_a_mask_has_bits_are_refused() {
    let mut text = "[[jurisdictions]]\nname = \"eu\"\npreset = \"EU\"\n".to_owned();
    for n in 1..=65 {
        text += &format!(
            "[[regions]]\nname = \"r{n}\"\nlatitude = 0\nlongitude = 0\njurisdiction = \"eu\"\n\
             nodes = [{{ name = \"a{n}\", peer = \"127.0.0.{n}:7400\" }}]\n"
        );
    }
    let node = NODE.replace("\"a\"", "\"a1\"");
    one(
        &[("n.toml", &node), ("p.toml", PEER), ("s.toml", SITE)],
        &text,
        "f.toml:388:1: 65 regions; expected at most 64",
    );
}

#[test]
fn all_faults_of_all_files_are_told_at_once() {
    let found = check(&[
        ("m.toml", "[node]\nnme = \"a\"\nworkers = true\n[http]\nlisten = [\":80\", 80]\n"),
        ("sites/a.toml", "[[sites]]\nname = \"s\"\nhosts = [\"a b\"]\norigin = \"http://o\"\npin = \"eu\"\n"),
        ("sites/b.toml", "[[sites]]\nname = \"s\"\norigin = \"ftp://o\"\nx = 1\n"),
    ])
    .unwrap_err();
    let places: Vec<_> = found.list().iter().map(|it| (it.file(), it.position().unwrap())).collect();
    let (m, a, b) = ("m.toml", "sites/a.toml", "sites/b.toml");
    assert_eq!(
        places,
        [
            (m, (2, 1)),
            (m, (3, 11)),
            (m, (5, 11)),
            (m, (5, 18)),
            (a, (3, 10)),
            (a, (5, 7)),
            (b, (1, 1)),
            (b, (2, 8)),
            (b, (3, 10)),
            (b, (4, 1)),
        ],
        "{found}"
    );
    assert!(found.list().iter().all(|it| !it.found().is_empty() && !it.expected().is_empty()));
}

#[test]
fn a_torn_file_does_not_bring_faults_upon_the_others() {
    let pinned = format!("{SITE}pin = \"eu\"\n");
    one(
        &[("n.toml", NODE), ("s.toml", &pinned)],
        "[[jurisdictions]\n",
        "f.toml:1:17: not TOML: unclosed array table, expected `]`; expected TOML as on https://toml.io",
    );
}

#[test]
fn what_is_odd_but_usable_is_a_warning() {
    let zone =
        "[dns]\nlisten = \"127.0.0.1:5300\"\n[[zones]]\nname = \"demo.test\"\n[https]\nlisten = \"127.0.0.1:8443\"\n";
    let checked = good(&[("n.toml", NODE), ("s.toml", SITE), ("z.toml", zone)]);
    let said: Vec<_> = checked.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "s.toml:3:9: warning: site `s`: host `a.test` lies in no zone, so DNS will not answer for it; expected a host \
             inside one of `[[zones]]`",
            "z.toml:4:8: warning: zone `demo.test`: no site has a host in it: but for what is written here, all names in it \
             do not exist (NXDOMAIN); expected a site with a host such as `www.demo.test`",
            "z.toml:5:1: warning: [https] listens, but no site has a certificate; expected `[sites.tls]` with `certificate` \
             and `key` at a site",
        ]
    );
    assert!(checked.warnings.iter().all(|it| it.severity() == Severity::Warning));
}

/// Browsers that DNS tells of HTTPS never come back to clear text, and the node had no listener for it.
#[test]
fn a_site_with_a_certificate_needs_a_listener_for_it_where_dns_tells_of_it() {
    let said = |more: &str| {
        let tls = format!("{SITE}[sites.tls]\ncertificate = \"c\"\nkey = \"k\"\n");
        let checked = good(&[("n.toml", NODE), ("s.toml", &tls), ("z.toml", more)]);
        let told = checked.warnings.iter().map(ToString::to_string);
        told.filter(|it| it.contains("does not listen on [https]")).collect::<Vec<_>>()
    };
    let zone = "[[zones]]\nname = \"test\"\n";
    let told = said(zone);
    assert!(
        matches!(&told[..], [one] if one.contains("site `s` has a certificate, and DNS tells browsers so")),
        "{told:?}"
    );
    assert_eq!(said(&format!("{zone}[https]\nlisten = \"127.0.0.1:8443\"\n")), [""; 0]);
    assert_eq!(said(""), [""; 0]);
}

#[test]
fn faults_are_drawn_with_the_line_they_are_in() {
    let faults =
        check(&[("n.toml", NODE), ("f.toml", "[[sites]]\nname = \"s\"\nhots = \"a\"\norigin = \"http://o\"\n")])
            .unwrap_err();
    let drawn = draw(faults.list(), Style::Plain, 200);
    let expected = "  × site `s`: unknown key `hots`
   ╭─[f.toml:3:1]
 2 │ name = \"s\"
 3 │ hots = \"a\"
   · ──┬─
   ·   ╰── expected one of `name`, `tenant`, `hosts`, `pin`, `origin`, `origins`, `failover_on`, `routes`, `tls`, `dns_ttl`, `steering`, `https_port`, `cache_status`, `purge_by_response`, `misrouted_to`, `misrouted_tls`
 4 │ origin = \"http://o\"
   ╰────
  help: did you mean `hosts`?
";
    assert_eq!(drawn, expected);
    let json = serde_json::to_value(faults.list()).unwrap();
    assert_eq!(
        (&json[0]["file"], &json[0]["line"], &json[0]["about"]),
        (&"f.toml".into(), &3.into(), &"site `s`".into())
    );
}

#[test]
fn a_folder_that_is_not_there_is_drawn_too() {
    let faults = load(Path::new("/nowhere")).unwrap_err();
    let drawn = draw(faults.list(), Style::Plain, 100);
    assert!(drawn.contains("/nowhere") && drawn.contains("expected a folder"), "{drawn}");
}

#[test]
fn a_stream_keeps_what_it_acknowledges_and_stays_where_its_realm_is() {
    const FLEET: &[(&str, &str)] = &[("n.toml", NODE), ("p.toml", PEER), ("r.toml", REGIONS), ("s.toml", SITE)];
    let stream = |realm: &str, rest: &str| format!("[[streams]]\nrealm = \"{realm}\"\n{rest}");
    let good = "servers = [\"tls://n1.test\", \"tls://n2.test:4223\"]\nsync_always = true\n";
    let fine = stream("eu", &format!("{good}jurisdiction = \"eu\"\n"));
    let mut files = FLEET.to_vec();
    files.push(("f.toml", &fine));
    let config = good_config(&files);
    assert_eq!(config.streams[0].name, "meridian-eu");
    assert_eq!(config.streams[0].replicas, 3);
    assert_eq!(config.streams[0].servers[0].to_string(), "tls://n1.test:4222");
    let cases = [
        (
            stream("global", "servers = \"tls://n1.test\"\n"),
            "f.toml:1:1: stream of realm `global`: nothing says that the servers sync each message to disk before they acknowledge it, and JetStream does not by itself: a purge that was acknowledged could be lost; expected `sync_interval: always` in the `jetstream` block of every server, and `sync_always = true` here",
        ),
        (
            stream("global", "servers = \"nats://n1.test\"\nsync_always = true\n"),
            "f.toml:3:11: stream of realm `global`: `nats://n1.test:4222` is spoken to in clear text; expected `tls://`; `nats://` is for servers on this machine",
        ),
        (
            stream("global", "servers = \"tls://u:p@n1.test\"\nsync_always = true\n"),
            "f.toml:3:11: stream of realm `global`: `servers` is `\"tls://u:p@n1.test\"`; expected a NATS server, such as \"tls://nats-1.example.net:4222\"; without user and password: those are in the file that `credentials` names",
        ),
        (
            stream("global", &format!("{good}replicas = 2\n")),
            "f.toml:5:12: stream of realm `global`: `replicas` is 2; expected 1, 3 or 5, so that a majority is one",
        ),
        (
            stream("eu", good),
            "f.toml:1:1: stream of realm `eu`: nothing says where its servers stand; expected servers in `eu`, and `jurisdiction = \"eu\"`",
        ),
        (
            stream("eu", &format!("{good}jurisdiction = \"us\"\n")),
            "f.toml:5:16: stream of realm `eu`: its servers stand in jurisdiction `us`; expected servers in `eu`: no other may hear of the realm's purges",
        ),
        (
            format!("[[witnesses]]\nrealm = \"global\"\nnodes = \"a\"\n{}", stream("global", good)),
            "f.toml:4:1: stream of realm `global`: the realm has witnesses, too, at f.toml:2; expected either `[[witnesses]]` or `[[streams]]`",
        ),
        (
            format!(
                "{fine}{}",
                stream("us", "servers = \"tls://n1.test\"\nsync_always = true\njurisdiction = \"us\"\n")
            ),
            "f.toml:8:11: `tls://n1.test:4222` stands in jurisdiction `us` here, and in `eu` at f.toml:5; expected one jurisdiction for each server",
        ),
    ];
    for (text, expected) in cases {
        one(FLEET, &text, expected);
    }
}
