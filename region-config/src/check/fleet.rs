//! Jurisdictions, regions, nodes and witnesses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::{Known, unique, unknown};
use crate::{
    config::{REGIONS_MAX, WITNESSES_MAX},
    fault::Gatherer,
    ids::{NodeId, RealmId},
    shape::At,
    written::{RegionSection, Root, WitnessSection},
};

pub(super) fn check(root: &Root, known: &Known<'_>, gatherer: &mut Gatherer) {
    jurisdictions(root, gatherer);
    regions(root, known, gatherer);
    witnesses(root, known, gatherer);
}

fn jurisdictions(root: &Root, gatherer: &mut Gatherer) {
    let global = RealmId::global();
    for section in &root.jurisdictions {
        let Some(name) = &section.value.name else { continue };
        let about = format!("jurisdiction `{}`", name.value);
        if name.value.as_str() == global.as_str() {
            gatherer.error(name.place, &about, "`global` means the sites that are not pinned", "another name");
        }
        if !["countries", "preset"].iter().any(|key| section.value.written.contains(key)) {
            let found = "neither `countries` nor `preset`";
            gatherer.error(section.place, &about, found, "the countries in it, such as `countries = [\"US\"]`");
        }
    }
}

fn regions(root: &Root, known: &Known<'_>, gatherer: &mut Gatherer) {
    let sections = || root.regions.iter().map(|it| &it.value);
    unique(sections().filter_map(|it| it.name.as_ref()), "region", "", gatherer);
    let nodes = sections().flat_map(|it| it.nodes.iter().filter_map(|node| node.value.name.as_ref()));
    unique(nodes, "node", "", gatherer);
    if let Some(section) = root.regions.get(REGIONS_MAX) {
        let found = format!("{} regions", root.regions.len());
        gatherer.error(section.place, "", found, format!("at most {REGIONS_MAX}"));
    }
    for section in sections() {
        if let Some(jurisdiction) = &section.jurisdiction
            && known.jurisdictions_whole
            && !known.jurisdictions.contains_key(&jurisdiction.value)
        {
            let names = known.jurisdictions.keys().map(|it| it.as_str());
            unknown(jurisdiction, "jurisdiction", &about(section), names, gatherer);
        }
        if !root.zones.is_empty() && section.nodes.iter().all(|node| node.value.addresses.is_empty()) {
            let found = "no node of it has `addresses`, so DNS cannot send anyone here";
            gatherer.error(section.place, &about(section), found, "the addresses that clients reach its nodes at");
        }
    }
    client_addresses(root, gatherer);
    if !root.zones.is_empty() {
        shared_addresses(root, gatherer);
    }
    mesh_addresses(root, gatherer);
}

/// What DNS hands out, a client must be able to go to. Loopback is left: demos and tests run on one machine.
fn client_addresses(root: &Root, gatherer: &mut Gatherer) {
    for node in root.regions.iter().flat_map(|it| &it.value.nodes) {
        let about = node.value.name.as_ref().map_or_else(String::new, |it| format!("node `{}`", it.value));
        reachable(&node.value.addresses, &about, gatherer);
    }
    for server in root.zones.iter().flat_map(|it| &it.value.name_servers) {
        let about = server.value.name.as_ref().map_or_else(String::new, |it| format!("name server `{}`", it.value));
        reachable(&server.value.addresses, &about, gatherer);
    }
}

/// DNS takes an address for the place of its node. Across a border that would lead clients of a pinned site out of its pin.
fn shared_addresses(root: &Root, gatherer: &mut Gatherer) {
    let mut first = BTreeMap::new();
    for region in &root.regions {
        let here = region.value.jurisdiction.as_ref().map(|it| &it.value);
        for (node, address) in region.value.nodes.iter().flat_map(|it| it.value.addresses.iter().map(move |a| (it, a)))
        {
            let Some((place, there)) = first.get(&address.value) else {
                first.insert(address.value, (address.place, here));
                continue;
            };
            let about = node.value.name.as_ref().map_or_else(String::new, |it| format!("node `{}`", it.value));
            let found =
                format!("`addresses` has `{}`, which stands already at {}", address.value, gatherer.name_of(*place));
            match (here, *there) {
                (Some(here), Some(there)) if here != there => {
                    let found = format!("{found}, in jurisdiction `{there}`");
                    let expected =
                        "another address: clients of a site pinned here would be led there, or the other way";
                    gatherer.error(address.place, &about, found, expected);
                }
                (Some(_), Some(_)) => {
                    let expected =
                        "each address at one node, unless the network leads each client to the nearest (anycast)";
                    gatherer.warning(address.place, &about, found, expected);
                }
                _ => {}
            }
        }
    }
}

fn reachable(addresses: &[At<IpAddr>], about: &str, gatherer: &mut Gatherer) {
    for address in addresses {
        let Some(why) = unreachable_because(address.value) else { continue };
        let found = format!("`addresses` has `{}`, {why}", address.value);
        gatherer.error(address.place, about, found, "an address that clients reach it at");
    }
}

/// Why no client reaches an address, whatever network it is in.
fn unreachable_because(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match address {
        it if it.is_unspecified() => Some("which stands for every address of a machine"),
        it if it.is_multicast() => Some("which is a group's (multicast)"),
        _ if link_local => Some("which holds on one link only (link-local)"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("which is everybody's (broadcast)"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("which is an IPv4 address written as IPv6 (mapped)"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// As soon as there are two nodes, they have to find each other.
fn mesh_addresses(root: &Root, gatherer: &mut Gatherer) {
    let nodes = || root.regions.iter().flat_map(|it| it.value.nodes.iter());
    if nodes().count() < 2 {
        return;
    }
    for section in nodes().filter(|it| it.value.peer.is_none()) {
        let name = section.value.name.as_ref().map_or_else(String::new, |it| format!("node `{}`", it.value));
        let expected = "where other nodes reach it, such as `peer = \"192.0.2.1:7400\"`";
        gatherer.error(section.place, &name, "no `peer`, though there are other nodes", expected);
    }
    let addresses: Vec<&At<SocketAddr>> = nodes().filter_map(|it| it.value.peer.as_ref()).collect();
    for address in addresses.iter().filter(|it| it.value.ip().is_unspecified() || it.value.port() == 0) {
        let found = format!("`peer` is `{}`, which nobody can reach", address.value);
        gatherer.error(address.place, "", found, "the address and port that other nodes reach it at");
    }
    unique(addresses, "peer address", "", gatherer);
}

fn about(section: &RegionSection) -> String {
    section.name.as_ref().map_or_else(String::new, |it| format!("region `{}`", it.value))
}

fn witnesses(root: &Root, known: &Known<'_>, gatherer: &mut Gatherer) {
    unique(root.witnesses.iter().filter_map(|it| it.value.realm.as_ref()), "realm", "", gatherer);
    for section in &root.witnesses {
        let Some(realm) = &section.value.realm else { continue };
        let about = format!("witnesses of realm `{}`", realm.value);
        let global = RealmId::global();
        let populated = known.jurisdictions.iter().filter(|(_, populated)| **populated).map(|(name, _)| name.as_str());
        let mut realms = populated.chain([global.as_str()]);
        if known.jurisdictions_whole && !realms.clone().any(|name| name == realm.value.as_str()) {
            unknown(realm, "realm", &about, realms.by_ref(), gatherer);
            continue;
        }
        witnesses_of(&section.value, realm, &about, known, gatherer);
    }
}

fn witnesses_of(
    section: &WitnessSection,
    realm: &At<RealmId>,
    about: &str,
    known: &Known<'_>,
    gatherer: &mut Gatherer,
) {
    let nodes: BTreeSet<&NodeId> = unique(&section.nodes, "node", about, gatherer).into_keys().collect();
    let next: BTreeSet<&NodeId> = unique(&section.next, "node", about, gatherer).into_keys().collect();
    counted(section, &nodes, &next, about, gatherer);
    for node in section.nodes.iter().chain(&section.next) {
        match known.nodes.get(&node.value) {
            Some((_, Some(jurisdiction)))
                if realm.value != RealmId::global() && realm.value != RealmId::pinned(jurisdiction) =>
            {
                let found = format!("node `{}` stands in jurisdiction `{jurisdiction}`", node.value);
                gatherer.error(node.place, about, found, "a node of the realm: no other may hear of its purges");
            }
            None if known.nodes_whole && !root_is_one_node(known) => {
                unknown(node, "node", about, known.nodes.keys().map(|it| it.as_str()), gatherer);
            }
            Some(_) | None => {}
        }
    }
}

/// How many may be witnesses, now and next. Two are what a fleet of two has by itself, and may have to be named.
fn counted(
    section: &WitnessSection,
    nodes: &BTreeSet<&NodeId>,
    next: &BTreeSet<&NodeId>,
    about: &str,
    gatherer: &mut Gatherer,
) {
    match nodes.len() {
        0 | 1 | 3 | 5 => {}
        2 => gatherer.warning(section.place, about, "2 nodes: neither may be away", "1, 3 or 5"),
        count => {
            gatherer.error(section.place, about, format!("{count} nodes"), "1, 3 or 5, so that a majority is one");
        }
    }
    if ![0, 1, 3, 5].contains(&next.len()) {
        let found = format!("{} nodes in `next`", next.len());
        gatherer.error(section.place, about, found, "1, 3 or 5, so that a majority is one");
    }
    if !next.is_empty() && nodes == next {
        gatherer.error(section.place, about, "`next` has the same nodes as `nodes`", "other ones, or no `next`");
    }
    let both = nodes.union(next).count();
    if both > WITNESSES_MAX {
        let found = format!("{both} nodes in `nodes` and `next` together");
        gatherer.error(
            section.place,
            about,
            found,
            format!("at most {WITNESSES_MAX}: a larger change takes more steps"),
        );
    }
}

/// Whether no regions are written, so that the fleet is just this node.
fn root_is_one_node(known: &Known<'_>) -> bool {
    known.nodes.is_empty()
}
