//! Checked tables -> [`Config`], with defaults filled in and paths resolved.
//!
//! Comes after the checks: a key that must be there is there. Should one be missing all the same, there is no config.

mod dns;
mod policy;
pub(crate) mod steering;
mod token;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        CertificateFiles, Config, Deadlines, Geo, HealthCheck, Identity, Jurisdiction, Limits, NameServer, Node,
        NodeConfig, Origin, OriginProtocol, OriginSecret, PathPattern, Policy, PurgeDoor, Quota, Region, Route, Site,
        Tenant, WitnessSet, Zone,
    },
    fault::{Gatherer, Place},
    fingerprint,
    host::OriginUrl,
    ids::{JurisdictionId, NodeId, RegionId, TenantId},
    leaf::{FilePath, Time},
    shape::At,
    steering::SiteSteering,
    stream::Stream,
    written::{
        DeadlinesSection, GeoSection, HealthSection, LimitsSection, Listener, NodeSection, OriginSection, PeerSection,
        PurgeSection, RegionSection, Root, RouteSection, SecretSection, SiteSection, StreamSection, TlsSection,
        WitnessSection, ZoneSection,
    },
};

/// The one region and jurisdiction of a node without any.
pub(crate) const LOCAL: &str = "local";
/// The tenant of sites that name none.
pub(crate) const DEFAULT_TENANT: &str = "default";
pub(crate) const MEMORY_BYTES: u64 = 256 << 20;
const ORIGIN_CONNECTIONS: usize = 256;
const ORIGIN_CONCURRENCY: usize = 1_024;
const ORIGIN_BREAKER_PERCENT: u32 = 50;
const STREAM_REPLICAS: usize = 3;
const STREAM_BYTES: u64 = 1 << 30;
const DNS_TTL_S: u32 = 30;
const HTTPS_PORT: u16 = 443;
const ZONE_TTL_S: u32 = 3_600;
const ZONE_NEGATIVE_TTL_S: u32 = 30;

/// Makes the config.
pub(crate) fn config(root: &Root, gatherer: &Gatherer) -> Option<Config> {
    let folders = Folders { gatherer };
    let sites: Vec<_> = root.sites.iter().map(|it| site(it, &folders).map(Arc::new)).collect::<Option<_>>()?;
    let (jurisdictions, regions) = places(root)?;
    let name = value(&root.node.as_ref()?.value.name)?;
    let here = regions.iter().find(|region| region.nodes.iter().any(|node| node.name == name))?.name.clone();
    let zones = root.zones.iter().map(|it| zone(&it.value, &regions, &folders)).collect::<Option<_>>()?;
    let names: BTreeSet<TenantId> = sites.iter().map(|it: &Arc<Site>| it.tenant.clone()).collect();
    let mut config = Config {
        node: node(root, name, here, &folders)?,
        jurisdictions,
        regions,
        zones,
        tenants: names.into_iter().map(|name| tenant(name, root)).collect(),
        sites,
        tokens: root.tokens.iter().map(|it| token::of(&it.value).map(Arc::new)).collect::<Option<_>>()?,
        witnesses: witnesses(root, gatherer)?,
        streams: root.streams.iter().map(|it| stream(&it.value, &folders)).collect::<Option<_>>()?,
        fingerprint: [0; 32],
    };
    config.fingerprint = fingerprint::of(&config);
    Some(config)
}

/// Where a node keeps what it must not forget; none if what is written about it could not be read.
pub(crate) fn state_dir(section: &At<NodeSection>, gatherer: &Gatherer) -> Option<PathBuf> {
    let unread = section.value.state_dir.is_none() && section.value.written.contains(&"state_dir");
    (!unread).then(|| kept_in(section, &Folders { gatherer }))
}

fn kept_in(section: &At<NodeSection>, folders: &Folders<'_>) -> PathBuf {
    let written = folders.optional(section.value.state_dir.as_ref());
    written.unwrap_or_else(|| folders.beside(section.place, "state"))
}

/// A tenant with what is written about it.
fn tenant(name: TenantId, root: &Root) -> Tenant {
    let mut tenants = root.tenants.iter().map(|it| &it.value);
    match tenants.find(|it| it.name.as_ref().is_some_and(|written| written.value == name)) {
        Some(section) => Tenant {
            memory: Quota { floor: value(&section.memory_floor), max: value(&section.memory_max) },
            disk: Quota { floor: value(&section.disk_floor), max: value(&section.disk_max) },
            purges_per_second: section.purges_per_second.as_ref().map(|it| it.value.small()),
            name,
        },
        None => Tenant::new(name),
    }
}

/// Resolves relative paths by the folder of the file that they are written in.
struct Folders<'a> {
    gatherer: &'a Gatherer,
}

impl Folders<'_> {
    fn resolve(&self, path: &At<FilePath>) -> PathBuf {
        self.beside(path.place, &path.value.0)
    }

    fn optional(&self, path: Option<&At<FilePath>>) -> Option<PathBuf> {
        path.map(|path| self.resolve(path))
    }

    fn beside(&self, place: Place, path: &str) -> PathBuf {
        let file = self.gatherer.sources.get(place.file).map_or("", |source| source.name.as_str());
        Path::new(file).parent().unwrap_or(Path::new("")).join(path)
    }
}

pub(super) fn value<T: Clone>(key: &Option<At<T>>) -> Option<T> {
    key.as_ref().map(|it| it.value.clone())
}

pub(super) fn values<T: Clone>(list: &[At<T>]) -> Vec<T> {
    list.iter().map(|it| it.value.clone()).collect()
}

fn ms<const LEAST: u64, const MOST: u64>(key: &Option<At<Time<LEAST, MOST>>>, default: u64) -> u64 {
    key.as_ref().map_or(default, |it| it.value.0)
}

pub(super) fn seconds<const LEAST: u64, const MOST: u64>(key: &Option<At<Time<LEAST, MOST>>>, default: u32) -> u32 {
    key.as_ref().map_or(default, |it| it.value.seconds())
}

fn node(root: &Root, name: NodeId, region: RegionId, folders: &Folders<'_>) -> Option<NodeConfig> {
    let section = root.node.as_ref()?;
    let NodeSection { workers, access_log, resolvers, .. } = &section.value;
    let peer = root.peer.as_ref().map(|it| &it.value);
    let cache = root.cache.as_ref().map(|it| &it.value);
    Some(NodeConfig {
        name,
        region,
        state_dir: kept_in(section, folders),
        http: listen(root.http.as_ref()),
        https: listen(root.https.as_ref()),
        dns: root.dns.as_ref().map_or_else(Vec::new, |it| values(&it.value.listen)),
        dns_terms: dns::terms(root.dns.as_ref(), folders),
        admin: listen(root.admin.as_ref()).first().copied(),
        purge: match root.purge.as_ref() {
            Some(section) => Some(purge_door(&section.value, folders)?),
            None => None,
        },
        peer: peer.and_then(|it| value(&it.listen)),
        identity: match peer {
            Some(peer) => Some(identity(peer, folders)?),
            None => None,
        },
        workers: workers.as_ref().map_or(0, |it| it.value.count()),
        memory_bytes: cache.and_then(|it| it.memory.as_ref()).map_or(MEMORY_BYTES, |it| it.value.0),
        disk_bytes: cache.and_then(|it| it.disk.as_ref()).map_or(0, |it| it.value.0),
        geo: root.geo.as_ref().map_or_else(Geo::default, |it| geo(&it.value, folders)),
        access_log: folders.optional(access_log.as_ref()),
        resolvers: values(resolvers),
        limits: root.limits.as_ref().map_or_else(Limits::default, |it| limits(&it.value)),
    })
}

fn geo(section: &GeoSection, folders: &Folders<'_>) -> Geo {
    Geo {
        file: folders.optional(section.file.as_ref()),
        asn_file: folders.optional(section.asn_file.as_ref()),
        round_trips: folders.optional(section.round_trips.as_ref()),
        max_age_ms: ms(&section.max_age, Geo::default().max_age_ms),
    }
}

fn listen(section: Option<&At<Listener>>) -> Vec<SocketAddr> {
    section.map_or_else(Vec::new, |it| values(&it.value.listen))
}

fn purge_door(section: &PurgeSection, folders: &Folders<'_>) -> Option<PurgeDoor> {
    let tls = match section.tls.as_ref() {
        Some(tls) => Some(certificate_files(&tls.value, folders)?),
        None => None,
    };
    Some(PurgeDoor { listen: values(&section.listen), tls })
}

fn identity(peer: &PeerSection, folders: &Folders<'_>) -> Option<Identity> {
    Some(Identity {
        ca: folders.resolve(peer.ca.as_ref()?),
        certificate: folders.resolve(peer.certificate.as_ref()?),
        key: folders.resolve(peer.key.as_ref()?),
    })
}

fn limits(section: &LimitsSection) -> Limits {
    let default = Limits::default();
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Limits {
        head_ms: ms(&section.head_time, default.head_ms),
        idle_ms: ms(&section.idle_time, default.idle_ms),
        stall_ms: ms(&section.stall_time, default.stall_ms),
        head_bytes: section.head_size.as_ref().map_or(default.head_bytes, |it| bytes(it.value.0)),
        fields_max: section.fields.as_ref().map_or(default.fields_max, |it| it.value.count()),
        target_bytes: section.target_size.as_ref().map_or(default.target_bytes, |it| bytes(it.value.0)),
        body_bytes: section.body_size.as_ref().map_or(default.body_bytes, |it| it.value.0),
        streams_max: section.streams.as_ref().map_or(default.streams_max, |it| it.value.small()),
        connections_max: section.connections.as_ref().map_or(default.connections_max, |it| it.value.count()),
        relayed_max: section.relayed.as_ref().map_or(default.relayed_max, |it| it.value.count()),
        object_bytes: section.object_size.as_ref().map_or(default.object_bytes, |it| it.value.0),
    }
}

/// Jurisdictions and regions; without any region, the one that this node is.
fn places(root: &Root) -> Option<(Vec<Jurisdiction>, Vec<Region>)> {
    let mut jurisdictions: Vec<_> = root
        .jurisdictions
        .iter()
        .map(|it| {
            let mut countries: Vec<[u8; 2]> = it.value.countries.iter().map(|country| country.value.0).collect();
            countries.extend(it.value.preset.iter().flat_map(|preset| preset.value.countries()));
            countries.sort_unstable();
            countries.dedup();
            Some(Jurisdiction { name: value(&it.value.name)?, countries })
        })
        .collect::<Option<_>>()?;
    if !root.regions.is_empty() {
        return Some((jurisdictions, root.regions.iter().map(|it| region(&it.value)).collect::<Option<_>>()?));
    }
    let local = JurisdictionId::parse(LOCAL).ok()?;
    if !jurisdictions.iter().any(|it| it.name == local) {
        jurisdictions.push(Jurisdiction { name: local.clone(), countries: Vec::new() });
    }
    let addresses: BTreeSet<IpAddr> = listen(root.http.as_ref())
        .into_iter()
        .chain(listen(root.https.as_ref()))
        .map(|address| address.ip())
        .filter(|ip| !ip.is_unspecified())
        .collect();
    let node = Node {
        name: value(&root.node.as_ref()?.value.name)?,
        peer: root.peer.as_ref().and_then(|it| value(&it.value.listen)),
        addresses: addresses.into_iter().collect(),
    };
    let name = RegionId::parse(LOCAL).ok()?;
    let (latitude, longitude) = (0.0, 0.0);
    let region =
        Region { name, latitude, longitude, jurisdiction: local, capacity_per_second: None, nodes: vec![node] };
    Some((jurisdictions, vec![region]))
}

fn region(section: &RegionSection) -> Option<Region> {
    let node = |it: &At<crate::written::RegionNode>| {
        Some(Node { name: value(&it.value.name)?, peer: value(&it.value.peer), addresses: values(&it.value.addresses) })
    };
    Some(Region {
        name: value(&section.name)?,
        latitude: section.latitude.as_ref()?.value.0,
        longitude: section.longitude.as_ref()?.value.0,
        jurisdiction: value(&section.jurisdiction)?,
        capacity_per_second: section.capacity.as_ref().map(|it| it.value.small()),
        nodes: section.nodes.iter().map(node).collect::<Option<_>>()?,
    })
}

fn zone(section: &ZoneSection, regions: &[Region], folders: &Folders<'_>) -> Option<Zone> {
    let name = section.name.as_ref()?.value.0.clone();
    let written = section.name_servers.iter().map(|it| {
        Some(NameServer { name: it.value.name.as_ref()?.value.0.clone(), addresses: values(&it.value.addresses) })
    });
    let mut name_servers: Vec<NameServer> = written.collect::<Option<_>>()?;
    if name_servers.is_empty() {
        name_servers = regions
            .iter()
            .map(|region| NameServer {
                name: format!("ns-{}.{name}", region.name),
                addresses: region.nodes.iter().flat_map(|node| node.addresses.iter().copied()).collect(),
            })
            .filter(|server| !server.addresses.is_empty())
            .collect();
    }
    Some(Zone {
        name_servers,
        mailbox: section.mailbox.as_ref().map_or_else(|| format!("hostmaster.{name}"), |it| it.value.0.clone()),
        ttl_s: seconds(&section.ttl, ZONE_TTL_S),
        negative_ttl_s: seconds(&section.negative_ttl, ZONE_NEGATIVE_TTL_S),
        dnssec_keys: section.dnssec_keys.iter().map(|path| folders.resolve(path)).collect(),
        caa: section.caa.iter().map(|it| dns::caa(&it.value)).collect::<Option<_>>()?,
        texts: section.txt.iter().map(|it| dns::texts(&it.value)).collect::<Option<_>>()?,
        name,
    })
}

fn witnesses(root: &Root, gatherer: &Gatherer) -> Option<Vec<WitnessSet>> {
    let set = |it: &At<WitnessSection>| {
        Some(WitnessSet {
            realm: value(&it.value.realm)?,
            version: it.value.version.as_ref().map_or(1, |version| version.value.0),
            nodes: values(&it.value.nodes),
            next: values(&it.value.next),
            written_at: gatherer.name_of(it.place),
        })
    };
    root.witnesses.iter().map(set).collect()
}

fn stream(section: &StreamSection, folders: &Folders<'_>) -> Option<Stream> {
    let realm = value(&section.realm)?;
    Some(Stream {
        name: section.name.as_ref().map_or_else(|| format!("meridian-{realm}"), |it| it.value.to_string()),
        servers: values(&section.servers),
        jurisdiction: value(&section.jurisdiction),
        replicas: section.replicas.as_ref().map_or(STREAM_REPLICAS, |it| it.value.count()),
        size_max_bytes: section.size_max.as_ref().map_or(STREAM_BYTES, |it| it.value.0),
        credentials: folders.optional(section.credentials.as_ref()),
        system_credentials: folders.optional(section.system_credentials.as_ref()),
        ca: folders.optional(section.ca.as_ref()),
        identity: section.identity.as_ref().and_then(|it| certificate_files(&it.value, folders)),
        realm,
    })
}

fn site(section: &At<SiteSection>, folders: &Folders<'_>) -> Option<Site> {
    let SiteSection {
        name,
        tenant,
        hosts,
        pin,
        origin: short,
        origins,
        failover_on,
        routes,
        tls,
        dns_ttl,
        steering,
        https_port,
        cache_status,
        purge_by_response,
        misrouted_to,
        misrouted_tls,
        ..
    } = &section.value;
    let origins = match short {
        Some(url) => vec![plain_origin(&url.value)],
        None => origins.iter().map(|it| origin(&it.value, folders)).collect::<Option<_>>()?,
    };
    let tls = match tls.as_ref().map(|it| &it.value) {
        Some(tls) => Some(certificate_files(tls, folders)?),
        None => None,
    };
    Some(Site {
        name: value(name)?,
        tenant: match tenant {
            Some(tenant) => tenant.value.clone(),
            None => TenantId::parse(DEFAULT_TENANT).ok()?,
        },
        hosts: values(hosts),
        pin: value(pin),
        origins,
        failover_on: failover_on.iter().filter_map(|it| u16::try_from(it.value.0).ok()).collect(),
        routes: routes_in_order(routes.iter().map(|it| route(&it.value)).collect::<Option<_>>()?),
        tls,
        dns_ttl_s: seconds(dns_ttl, DNS_TTL_S),
        steering: match steering.as_ref() {
            Some(section) => steering::of(&section.value)?,
            None => SiteSteering::default(),
        },
        https_port: https_port.as_ref().and_then(|it| u16::try_from(it.value.0).ok()).unwrap_or(HTTPS_PORT),
        cache_status: value(cache_status).unwrap_or_default(),
        purge_by_response: value(purge_by_response).unwrap_or_default(),
        misrouted_to: misrouted_to.as_ref().map(|it| it.value.0.clone()),
        misrouted_tls: value(misrouted_tls).unwrap_or_default(),
    })
}

fn certificate_files(section: &TlsSection, folders: &Folders<'_>) -> Option<CertificateFiles> {
    let certificate = folders.resolve(section.certificate.as_ref()?);
    Some(CertificateFiles { certificate, key: folders.resolve(section.key.as_ref()?) })
}

fn secret(section: &SecretSection, folders: &Folders<'_>) -> Option<OriginSecret> {
    let header = section.header.as_ref()?.value.0.clone();
    Some(OriginSecret { header, file: folders.resolve(section.file.as_ref()?) })
}

fn plain_origin(url: &OriginUrl) -> Origin {
    Origin {
        name: url.to_string(),
        tls: url.tls,
        host: url.host.clone(),
        port: url.port,
        host_header: None,
        protocol: OriginProtocol::Auto,
        ca: None,
        identity: None,
        secret: None,
        deadlines: Deadlines::default(),
        connections_max: ORIGIN_CONNECTIONS,
        health: None,
        weight: 1,
        priority: 0,
        breaker_percent: Some(ORIGIN_BREAKER_PERCENT),
        concurrency_max: ORIGIN_CONCURRENCY,
        fetches_per_second: None,
    }
}

fn origin(section: &OriginSection, folders: &Folders<'_>) -> Option<Origin> {
    let plain = plain_origin(&section.url.as_ref()?.value);
    let health = match section.health.as_ref() {
        Some(it) => Some(health(&it.value)?),
        None => None,
    };
    Some(Origin {
        name: section.name.as_ref().map_or(plain.name, |it| it.value.0.clone()),
        host_header: section.host_header.as_ref().map(|it| it.value.0.clone()),
        protocol: value(&section.protocol).unwrap_or(plain.protocol),
        ca: folders.optional(section.ca.as_ref()),
        identity: section.identity.as_ref().and_then(|it| certificate_files(&it.value, folders)),
        secret: section.secret.as_ref().and_then(|it| secret(&it.value, folders)),
        deadlines: section.deadlines.as_ref().map_or(plain.deadlines, |it| deadlines(&it.value)),
        connections_max: section.connections.as_ref().map_or(plain.connections_max, |it| it.value.count()),
        health,
        weight: section.weight.as_ref().map_or(plain.weight, |it| it.value.small()),
        priority: section.priority.as_ref().map_or(plain.priority, |it| it.value.small()),
        breaker_percent: section.breaker.as_ref().map_or(plain.breaker_percent, |it| it.value.0),
        concurrency_max: section.concurrency.as_ref().map_or(plain.concurrency_max, |it| it.value.count()),
        fetches_per_second: section.fetches_per_second.as_ref().map(|it| it.value.small()),
        ..plain
    })
}

/// What is not written is the default, or the whole if that is shorter.
fn deadlines(section: &DeadlinesSection) -> Deadlines {
    let default = Deadlines::default();
    let total_ms = ms(&section.total, default.total_ms);
    Deadlines {
        connect_ms: ms(&section.connect, default.connect_ms.min(total_ms)),
        first_byte_ms: ms(&section.first_byte, default.first_byte_ms.min(total_ms)),
        between_bytes_ms: ms(&section.between_bytes, default.between_bytes_ms.min(total_ms)),
        total_ms,
    }
}

fn health(section: &HealthSection) -> Option<HealthCheck> {
    let interval_ms = ms(&section.interval, 5_000);
    Some(HealthCheck {
        path: section.path.as_ref()?.value.0.clone(),
        interval_ms,
        timeout_ms: ms(&section.timeout, 2_000.min(interval_ms)),
        down_after: section.down_after.as_ref().map_or(3, |it| it.value.small()),
        up_after: section.up_after.as_ref().map_or(3, |it| it.value.small()),
    })
}

fn route(section: &RouteSection) -> Option<Route> {
    Some(Route { path: value(&section.path)?, policy: policy::of(section) })
}

/// Most specific first: exact paths, then longer prefixes before shorter ones, and at last one for everything.
fn routes_in_order(mut routes: Vec<Route>) -> Vec<Route> {
    let everything = PathPattern::Prefix(String::new());
    if !routes.iter().any(|route| route.path == everything) {
        routes.push(Route { path: everything, policy: Policy::default() });
    }
    routes.sort_by_key(|route| match &route.path {
        PathPattern::Exact(_) => (false, 0),
        PathPattern::Prefix(prefix) => (true, usize::MAX - prefix.len()),
    });
    routes
}
