//! This node: who it is, where it listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Known, unknown};
use crate::{
    fault::{Gatherer, Place},
    shape::At,
    written::{Listener, NodeSection, Root},
};

pub(super) fn check(root: &Root, known: &Known<'_>, gatherer: &mut Gatherer) {
    match &root.node {
        None => {
            let found = "no [node] in any file";
            gatherer.error(root.place, "", found, "this node's name: `[node]` with `name = \"...\"`");
        }
        Some(node) => place_of(&node.value, root, known, gatherer),
    }
    listeners(root, gatherer);
    limits(root, gatherer);
}

fn place_of(node: &NodeSection, root: &Root, known: &Known<'_>, gatherer: &mut Gatherer) {
    if root.regions.is_empty() {
        if let Some(region) = node.region.as_ref().filter(|it| it.value.as_str() != "local") {
            unknown(region, "region", "", ["local"], gatherer);
        }
        return;
    }
    let Some(name) = &node.name else { return };
    match known.nodes.get(&name.value) {
        None if known.nodes_whole => {
            unknown(name, "node", "", known.nodes.keys().map(|it| it.as_str()), gatherer);
        }
        Some((Some(actual), _)) => {
            if let Some(region) = node.region.as_ref().filter(|it| it.value != **actual) {
                let found = format!("node `{}` stands in region `{actual}`, not in `{}`", name.value, region.value);
                gatherer.error(region.place, "", found, format!("`{actual}`, or nothing"));
            }
        }
        Some((None, _)) | None => {}
    }
    if root.regions.iter().map(|it| it.value.nodes.len()).sum::<usize>() > 1 && root.peer.is_none() {
        let place = root.node.as_ref().map_or(root.place, |it| it.place);
        let found = "no [peer], though the regions have more than one node";
        gatherer.error(place, "", found, "[peer] with `listen`, `ca`, `certificate` and `key`");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

struct Listening {
    name: &'static str,
    transport: Transport,
    address: SocketAddr,
    place: Place,
}

fn listeners(root: &Root, gatherer: &mut Gatherer) {
    if root.http.is_none() && root.https.is_none() && root.dns.is_none() {
        let expected = "`listen` in [http], [https] or [dns], such as `listen = \"0.0.0.0:80\"`";
        gatherer.error(root.place, "", "nothing is listened on", expected);
    }
    let all = listening(root);
    for (index, one) in all.iter().enumerate() {
        let clash = all.iter().take(index).find(|it| it.transport == one.transport && clashes(it.address, one.address));
        if let Some(other) = clash {
            let at = gatherer.name_of(other.place);
            let found = format!("[{}] listens on {}, which [{}] does at {at}", one.name, one.address, other.name);
            gatherer.error(one.place, "", found, "an address and port of its own");
        }
    }
    if let (Some(https), false) = (&root.https, root.sites.iter().any(|site| site.value.tls.is_some())) {
        let found = "[https] listens, but no site has a certificate";
        gatherer.warning(https.place, "", found, "`[sites.tls]` with `certificate` and `key` at a site");
    }
    // who is told that a site has HTTPS never comes back to clear text
    let sealed = root.sites.iter().find(|site| site.value.tls.is_some() && !root.zones.is_empty());
    if let (Some(http), None, Some(site)) = (&root.http, &root.https, sealed) {
        let name = site.value.name.as_ref().map_or_else(String::new, |it| format!(" `{}`", it.value));
        let found = format!(
            "site{name} has a certificate, and DNS tells browsers so, but this node does not listen on [https]"
        );
        gatherer.warning(http.place, "", found, "`listen` in [https], such as `listen = \"0.0.0.0:443\"`");
    }
    if let (Some(dns), true) = (&root.dns, root.zones.is_empty()) {
        let found = "[dns] listens, but there is no zone to answer for";
        gatherer.warning(dns.place, "", found, "`[[zones]]` with `name`");
    }
}

fn listening(root: &Root) -> Vec<Listening> {
    use Transport::{Tcp, Udp};
    let of = |section: &Option<At<Listener>>| section.as_ref().map_or_else(Vec::new, |it| it.value.listen.clone());
    let dns = root.dns.as_ref().map_or_else(Vec::new, |it| it.value.listen.clone());
    let sections = [
        ("http", Tcp, of(&root.http)),
        ("https", Tcp, of(&root.https)),
        ("admin", Tcp, of(&root.admin)),
        ("dns", Tcp, dns.clone()),
        ("dns", Udp, dns),
    ];
    let mut all: Vec<Listening> = Vec::new();
    for (name, transport, listen) in sections {
        for address in listen {
            // said once is enough for DNS, which listens on both
            let again = transport == Udp && all.iter().filter(|it| it.place == address.place).count() > 1;
            if !again {
                all.push(Listening { name, transport, address: address.value, place: address.place });
            }
        }
    }
    let peer = root.peer.as_ref().and_then(|it| it.value.listen.as_ref());
    let purge = root.purge.iter().flat_map(|it| &it.value.listen);
    all.extend(purge.map(|it| Listening {
        name: "purge",
        transport: Transport::Tcp,
        address: it.value,
        place: it.place,
    }));
    all.extend(peer.map(|it| Listening { name: "peer", transport: Udp, address: it.value, place: it.place }));
    all
}

/// Whether two listeners cannot be at the same time: same port, and same address or one of them for every address.
fn clashes(a: SocketAddr, b: SocketAddr) -> bool {
    let every = |it: SocketAddr| it.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && (a.ip() == b.ip() || every(a) || every(b))
}

/// Whether connecting to `host` and `port` reaches one of this node's own HTTP listeners.
pub(super) fn is_own_listener(root: &Root, host: &str, port: u16) -> bool {
    let ip = if host == "localhost" { Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { host.parse::<IpAddr>().ok() };
    let Some(ip) = ip else { return false };
    let mut listen = [&root.http, &root.https].into_iter().flatten().flat_map(|it| &it.value.listen);
    listen.any(|it| {
        let every = it.value.ip().is_unspecified() && ip.is_loopback() && it.value.is_ipv4() == ip.is_ipv4();
        it.value.port() == port && (it.value.ip() == ip || every)
    })
}

fn limits(root: &Root, gatherer: &mut Gatherer) {
    let Some(limits) = &root.limits else { return };
    let head = limits.value.head_size.as_ref().map_or(crate::Limits::default().head_bytes as u64, |it| it.value.0);
    if let Some(target) = limits.value.target_size.as_ref().filter(|it| it.value.0 > head) {
        let found = "`limits.target_size` is larger than `limits.head_size`";
        gatherer.error(target.place, "", found, "at most the size of the whole head");
    }
}
