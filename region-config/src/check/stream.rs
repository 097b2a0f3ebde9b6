//! Realms whose purges are kept in a stream of NATS JetStream.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Known, unique, unknown};
use crate::{
    fault::Gatherer,
    ids::{JurisdictionId, RealmId},
    shape::At,
    stream::{STREAM_WITNESS, StreamServer},
    written::{Root, StreamSection},
};

pub(super) fn check(root: &Root, known: &Known<'_>, gatherer: &mut Gatherer) {
    if root.streams.is_empty() {
        return;
    }
    unique(root.streams.iter().filter_map(|it| it.value.realm.as_ref()), "realm", "", gatherer);
    let names = root.streams.iter().filter_map(|it| it.value.name.as_ref());
    unique(names, "stream", "", gatherer);
    node_names(root, gatherer);
    for section in &root.streams {
        let Some(realm) = &section.value.realm else { continue };
        let about = format!("stream of realm `{}`", realm.value);
        let global = RealmId::global();
        let populated = known.jurisdictions.iter().filter(|(_, populated)| **populated).map(|(name, _)| name.as_str());
        let mut realms = populated.chain([global.as_str()]);
        if known.jurisdictions_whole && !realms.clone().any(|name| name == realm.value.as_str()) {
            unknown(realm, "realm", &about, realms.by_ref(), gatherer);
            continue;
        }
        engine(root, section, realm, &about, gatherer);
        promises(section, &about, gatherer);
        servers(&section.value, &about, gatherer);
        place(section, realm, &about, known, gatherer);
    }
    places(root, gatherer);
}

/// A node that is called as the virtual witness is would be taken for it in receipts.
fn node_names(root: &Root, gatherer: &mut Gatherer) {
    let nodes = root.regions.iter().flat_map(|it| &it.value.nodes).filter_map(|node| node.value.name.as_ref());
    let own = root.node.iter().filter_map(|it| it.value.name.as_ref()).filter(|_| root.regions.is_empty());
    for name in nodes.chain(own).filter(|name| name.value.as_str() == STREAM_WITNESS) {
        let found = format!("a node is named `{STREAM_WITNESS}`, as the stream is in receipts");
        gatherer.error(name.place, "", found, "another name");
    }
}

/// A realm has one engine.
fn engine(root: &Root, section: &At<StreamSection>, realm: &At<RealmId>, about: &str, gatherer: &mut Gatherer) {
    let same = |it: &&At<RealmId>| it.value == realm.value;
    if let Some(other) = root.witnesses.iter().filter_map(|it| it.value.realm.as_ref()).find(same) {
        let found = format!("the realm has witnesses, too, at {}", gatherer.name_of(other.place));
        gatherer.error(section.place, about, found, "either `[[witnesses]]` or `[[streams]]`");
    }
}

/// What a stream has to be so that an acknowledgement is one.
fn promises(section: &At<StreamSection>, about: &str, gatherer: &mut Gatherer) {
    let declared = section.value.sync_always.as_ref();
    if !declared.is_some_and(|it| it.value) && (declared.is_some() || !section.value.written.contains(&"sync_always")) {
        let place = declared.map_or(section.place, |it| it.place);
        let found = "nothing says that the servers sync each message to disk before they acknowledge it, and \
                     JetStream does not by itself: a purge that was acknowledged could be lost";
        let expected =
            "`sync_interval: always` in the `jetstream` block of every server, and `sync_always = true` here";
        gatherer.error(place, about, found, expected);
    }
    if let Some(replicas) = section.value.replicas.as_ref().filter(|it| ![1, 3, 5].contains(&it.value.0)) {
        let found = format!("`replicas` is {}", replicas.value.0);
        gatherer.error(replicas.place, about, found, "1, 3 or 5, so that a majority is one");
    }
}

fn servers(section: &StreamSection, about: &str, gatherer: &mut Gatherer) {
    unique(&section.servers, "server", about, gatherer);
    for server in section.servers.iter().filter(|it| !it.value.tls && !on_this_machine(&it.value)) {
        let found = format!("`{}` is spoken to in clear text", server.value);
        let expected = "`tls://`; `nats://` is for servers on this machine";
        gatherer.error(server.place, about, found, expected);
    }
}

fn on_this_machine(server: &StreamServer) -> bool {
    server.host == "localhost" || server.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Servers of a pinned realm stand in its jurisdiction.
fn place(section: &At<StreamSection>, realm: &At<RealmId>, about: &str, known: &Known<'_>, gatherer: &mut Gatherer) {
    let pinned = realm.value != RealmId::global();
    match &section.value.jurisdiction {
        None if pinned && !section.value.written.contains(&"jurisdiction") => {
            let found = "nothing says where its servers stand";
            let expected = format!("servers in `{0}`, and `jurisdiction = \"{0}\"`", realm.value);
            gatherer.error(section.place, about, found, expected);
        }
        Some(declared) if pinned && RealmId::pinned(&declared.value) != realm.value => {
            let found = format!("its servers stand in jurisdiction `{}`", declared.value);
            let expected = format!("servers in `{}`: no other may hear of the realm's purges", realm.value);
            gatherer.error(declared.place, about, found, expected);
        }
        Some(declared) if known.jurisdictions_whole && !known.jurisdictions.contains_key(&declared.value) => {
            let names = known.jurisdictions.keys().map(|it| it.as_str());
            unknown(declared, "jurisdiction", about, names, gatherer);
        }
        Some(_) | None => {}
    }
}

/// A server stands in one place, whichever realm names it.
fn places(root: &Root, gatherer: &mut Gatherer) {
    let mut first: BTreeMap<(&str, u16), &At<JurisdictionId>> = BTreeMap::new();
    for section in &root.streams {
        let Some(declared) = &section.value.jurisdiction else { continue };
        for server in &section.value.servers {
            let before = *first.entry((&server.value.host, server.value.port)).or_insert(declared);
            if before.value != declared.value {
                let at = gatherer.name_of(before.place);
                let found = format!(
                    "`{}` stands in jurisdiction `{}` here, and in `{}` at {at}",
                    server.value, declared.value, before.value
                );
                gatherer.error(server.place, "", found, "one jurisdiction for each server");
            }
        }
    }
}
