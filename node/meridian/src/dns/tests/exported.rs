//! A zone as a file: whoever reads it as RFC 4592 says answers as the fleet does.

use super::*;
use crate::dns::zones::{Held, Zones};

const MORE: &str = r#"
[[zones]]
name = "many.test"

[[zones.name_servers]]
name = "ns1.many.test"
addresses = ["192.0.2.53"]

[[zones.name_servers]]
name = "ns.inner.www.many.test"
addresses = ["192.0.2.54"]

[[zones.txt]]
name = "_acme-challenge.shop.many.test"
values = "token"

[[zones]]
name = "child.many.test"

[[zones.name_servers]]
name = "ns.child.many.test"
addresses = ["192.0.2.55"]

[[zones.txt]]
name = "a.b.child.many.test"
values = "deep"

[[zones]]
name = "child.a.many.test"

[[zones]]
name = "whole.covered.test"

[[zones.txt]]
name = "_dmarc.whole.covered.test"
values = "v=DMARC1"

[[sites]]
name = "many"
tenant = "t"
hosts = ["www.many.test", "*.many.test", "a.b.c.many.test", "*.covered.test"]
origin = "http://127.0.0.1:3000"

[[sites]]
name = "deeper"
tenant = "t"
hosts = ["*.c.many.test", "*.docs.many.test"]
pin = "eu"
origin = "http://127.0.0.1:3000"
"#;

/// The records of an exported zone: owner, type, data.
struct Read {
    apex: &'static str,
    records: Vec<[String; 3]>,
}

impl Read {
    fn new(config: &Config, apex: &'static str) -> Self {
        let lines = export(config, apex, 1_790_812_800).unwrap().lines;
        let fields = |line: &String| -> [String; 3] {
            let mut fields = line.splitn(5, ' ').map(str::to_owned);
            let owner = fields.next().unwrap().trim_end_matches('.').to_owned();
            let mut rest = fields.skip(2);
            [owner, rest.next().unwrap(), rest.next().unwrap()]
        };
        Self { apex, records: lines.iter().map(fields).collect() }
    }

    fn exists(&self, name: &str) -> bool {
        let below = format!(".{name}");
        self.records.iter().any(|[owner, ..]| owner == name || owner.ends_with(&below))
    }

    /// RFC 4592 section 3.3: none if the name does not exist, else its IPv4 addresses.
    fn addresses(&self, name: &str) -> Option<Vec<&str>> {
        let of = |name: &str| -> Vec<&str> {
            let own = self.records.iter().filter(|[owner, rtype, _]| owner == name && rtype == "A");
            own.map(|[.., data]| data.as_str()).collect()
        };
        if self.exists(name) {
            return Some(of(name));
        }
        let mut closest = name;
        while !self.exists(closest) {
            closest = closest.split_once('.').unwrap().1;
        }
        let source = format!("*.{closest}");
        self.exists(&source).then(|| of(&source))
    }
}

#[test]
fn whoever_reads_an_exported_zone_finds_under_every_name_what_the_fleet_has_there() {
    let config = config_with(MORE);
    let zones = Zones::new(&config).unwrap();
    let labels = ["", "www", "shop", "_acme-challenge", "a", "b", "c", "docs", "inner", "ns", "ns1", "child", "nobody"];
    let mut counted = [0; 3];
    for read in ["many.test", "child.many.test", "child.a.many.test", "whole.covered.test", "demo.test"]
        .map(|apex| Read::new(&config, apex))
    {
        let names = labels.iter().flat_map(|first| labels.iter().map(move |second| [*first, *second]));
        let names = names.flat_map(|pair| labels.iter().map(move |third| [pair[0], pair[1], *third]));
        for name in names {
            let name: Vec<_> = name.into_iter().chain([read.apex]).filter(|label| !label.is_empty()).collect();
            let name = name.join(".");
            let found = zones.find_named(&name).unwrap();
            // what is in the zone below is answered by that one
            if found.authority.apex.to_string() != read.apex {
                continue;
            }
            let ours: Option<Vec<IpAddr>> = found.held.map(|held| {
                match held {
                    Held::Site(site) if config.sites[*site].pin.is_some() => vec!["198.51.100.1", "198.51.100.2"],
                    Held::Site(_) => vec!["198.51.100.1", "203.0.113.1", "198.51.100.2"],
                    Held::Host(addresses) => return addresses.clone(),
                    Held::Empty => vec![],
                }
                .into_iter()
                .map(|address| address.parse().unwrap())
                .collect()
            });
            // the apex is always there
            let ours = ours.or(found.at_apex.then(Vec::new));
            let theirs = read.addresses(&name);
            let theirs =
                theirs.map(|all| all.into_iter().map(|address| address.parse().unwrap()).collect::<Vec<IpAddr>>());
            assert_eq!(theirs, ours, "{name} in {}", read.apex);
            counted[ours.map_or(0, |all| 1 + usize::from(!all.is_empty()))] += 1;
        }
    }
    assert!(counted.iter().all(|count| *count > 0), "none, empty and with addresses: {counted:?}");
}
