//! What of a config that is in force a running node does not do yet: some things are taken at the start only.

use std::collections::BTreeSet;

use region_config::{Config, JurisdictionId, NodeId};

/// What of `now` will be done after a restart only, by a node that was started with `started`: a sentence for each kind.
#[must_use]
pub(crate) fn due(started: &Config, now: &Config) -> Vec<String> {
    let (before, after) = (&started.node, &now.node);
    let doors = |config: &Config| config.node.purge.as_ref().map(|door| door.listen.clone());
    let changed = [
        (before.http != after.http, "http listeners"),
        (before.https != after.https, "https listeners"),
        (before.dns != after.dns, "dns listeners"),
        (before.admin != after.admin, "the admin listener"),
        (before.peer != after.peer, "the peer listener"),
        (doors(started) != doors(now), "listeners for applications"),
        (before.state_dir != after.state_dir, "`state_dir`"),
        ((before.memory_bytes, before.disk_bytes) != (after.memory_bytes, after.disk_bytes), "sizes of `[cache]`"),
        (before.access_log != after.access_log, "`access_log`"),
        (before.workers != after.workers, "`workers`"),
        (before.dns_terms.threads != after.dns_terms.threads, "`threads` of `[dns]`"),
    ];
    let names: Vec<&str> = changed.into_iter().filter(|(changed, _)| *changed).map(|(_, name)| name).collect();
    let own = (!names.is_empty()).then(|| {
        format!(
            "restart this node: the config has other {} than it was started with, which stay as they were",
            names.join(", ")
        )
    });
    own.into_iter().chain(members_due(started, now)).collect()
}

/// Purges go to the members of the start: what is told of all nodes is about these.
fn members_due(started: &Config, now: &Config) -> Option<String> {
    let (before, after) = (members(started), members(now));
    let named =
        |some: Vec<&(NodeId, JurisdictionId)>| some.iter().map(|(node, _)| node.to_string()).collect::<Vec<_>>();
    let (new, gone) = (named(after.difference(&before).collect()), named(before.difference(&after).collect()));
    let others = started.witnesses != now.witnesses || started.streams != now.streams;
    let told = [("it takes no purges to", new), ("it waits for purges at", gone)];
    let told = told
        .into_iter()
        .filter(|(_, nodes)| !nodes.is_empty())
        .map(|(what, nodes)| format!("{what} {}", nodes.join(", ")));
    let told: Vec<String> =
        told.chain(others.then(|| "it knows the realms' witnesses and streams of its start".to_owned())).collect();
    (!told.is_empty())
        .then(|| format!("restart this node, since it was started with other members: {}", told.join("; ")))
}

/// Every node with the jurisdiction that makes it a member of realms.
fn members(config: &Config) -> BTreeSet<(NodeId, JurisdictionId)> {
    let of = |region: &region_config::Region| {
        let jurisdiction = region.jurisdiction.clone();
        region.nodes.iter().map(move |node| (node.name.clone(), jurisdiction.clone())).collect::<Vec<_>>()
    };
    config.regions.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn config(own: &str, nodes: &[&str]) -> Config {
        let mut text = format!(
            "[node]\nname = \"a\"\n{own}\n[peer]\nlisten = \"127.0.0.1:7400\"\nca = \"c\"\ncertificate = \"c\"\nkey = \"k\"\n\
             [[jurisdictions]]\nname = \"earth\"\ncountries = [\"DE\"]\n[[regions]]\nname = \"here\"\nlatitude = 1.0\n\
             longitude = 1.0\njurisdiction = \"earth\"\n"
        );
        for (at, node) in nodes.iter().enumerate() {
            text += &format!(
                "[[regions.nodes]]\nname = \"{node}\"\npeer = \"127.0.0.{}:7400\"\naddresses = \"127.0.0.1\"\n",
                at + 1
            );
        }
        text += "[[sites]]\nname = \"s\"\nhosts = \"*\"\norigin = \"http://127.0.0.1:3000\"\n";
        region_config::check(&[("meridian.toml", &text)]).unwrap().config
    }

    #[test]
    fn what_is_taken_at_the_start_only_is_told() {
        let http = "[http]\nlisten = \"127.0.0.1:8080\"\n";
        let started = config(http, &["a", "b"]);
        assert_eq!(due(&started, &started), [""; 0]);
        assert_eq!(due(&started, &config(&format!("{http}[limits]\ntarget_size = \"4KiB\"\n"), &["a", "b"])), [""; 0]);
        let moved = config("[http]\nlisten = \"127.0.0.1:8081\"\n[cache]\nmemory = \"7MiB\"\n", &["a", "b"]);
        assert_eq!(
            due(&started, &moved),
            [
                "restart this node: the config has other http listeners, sizes of `[cache]` than it was started with, which stay as they were"
            ]
        );
        assert_eq!(
            due(&started, &config(http, &["a", "c", "d"])),
            [
                "restart this node, since it was started with other members: it takes no purges to c, d; it waits for purges at b"
            ]
        );
    }
}
