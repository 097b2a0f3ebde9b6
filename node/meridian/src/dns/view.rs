//! All that DNS answers are made of, compiled from the config and the geo database. Immutable; swapped whole.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use region_config::{Config, Region, RegionMask, Site, SiteId};
use rules::{
    health::Fleet,
    residency,
    steering::{Addresses, Explanation, Map, Policy, Standing, explain},
};
use wire::dns::{Class, Data, ExtendedErrorCode, Query, Rcode, Record, Reply, Rtype, Service, compose};

use super::{
    counters::Event,
    led::{Lack, led, service},
    zones::{Authority, Found, Held, Zones},
};
use crate::{edge::tls, geo};

/// For how long the minimal answer to ANY may be kept, in seconds: it never changes.
const ANY_TTL_S: u32 = 3600;

/// Why a config cannot be answered from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewFault {
    /// A name in it is no DNS name.
    #[error("`{name}` is not a DNS name")]
    Name {
        /// The name, cut to 80 characters.
        name: String,
    },
}

/// The zones, the sites' policies and lists, and the regions' addresses.
#[derive(Debug)]
pub struct View {
    zones: Zones,
    /// In the order of the config.
    sites: Vec<SiteView>,
    /// In the order of the config.
    regions: Vec<RegionAddresses>,
    /// Whether there is a geo table. Without one a node must not answer: its untailored answers would take over the
    /// resolvers' caches.
    ready: bool,
}

#[derive(Debug)]
struct SiteView {
    policy: Policy,
    /// None until there is a geo table.
    map: Option<Arc<Map>>,
    /// The regions that may be named in A, and in AAAA. AAAA is there for all clients or for none: "no such record" is
    /// kept by resolvers for everyone (RFC 7871 section 7.4).
    reachable_v4: RegionMask,
    reachable_v6: RegionMask,
    /// How it is reached over HTTPS, if it is.
    https: Option<Service>,
}

#[derive(Debug)]
struct RegionAddresses {
    v4: Addresses<Ipv4Addr>,
    v6: Addresses<Ipv6Addr>,
}

impl View {
    /// Compiles config and database. Takes up to some tens of milliseconds per jurisdiction with a city database: not for
    /// a thread that answers.
    ///
    /// # Errors
    /// [`ViewFault`] if a zone or name server has no proper name.
    pub fn compile(config: &Config, base: &geo::Base) -> Result<Self, ViewFault> {
        Self::new(config, Some(base))
    }

    /// A view that refuses to answer in its zones (SERVFAIL, Not Ready), for the time until there is a database.
    ///
    /// # Errors
    /// As [`View::compile`].
    pub fn not_ready(config: &Config) -> Result<Self, ViewFault> {
        Self::new(config, None)
    }

    fn new(config: &Config, base: Option<&geo::Base>) -> Result<Self, ViewFault> {
        let addressed = mask(&config.regions, |_| true);
        let (v4, v6) = (mask(&config.regions, IpAddr::is_ipv4), mask(&config.regions, IpAddr::is_ipv6));
        let mut maps: Vec<Arc<Map>> = Vec::new();
        let mut site_view = |site: &Arc<Site>| {
            let eligible = residency::eligible(config, site) & addressed;
            let map = base.map(|base| map_for(&mut maps, config, base, eligible));
            let policy = Policy { eligible, ttl_s: site.dns_ttl_s };
            let reachable_v6 = if eligible & !v6 == 0 { v6 } else { 0 };
            let https = site.tls.as_ref().map(|_| Service::new(&protocols(), site.https_port));
            SiteView { policy, map, reachable_v4: v4, reachable_v6, https }
        };
        Ok(Self {
            sites: config.sites.iter().map(&mut site_view).collect(),
            regions: config.regions.iter().map(RegionAddresses::new).collect(),
            zones: Zones::new(config)?,
            ready: base.is_some(),
        })
    }

    /// Says what a client at `address` who asks for `site` gets, and why, region by region: by the same code that answers.
    /// `config` and `base` must be those that this view was compiled of. None for an unknown site, or before there is a
    /// database.
    #[must_use]
    pub fn explain(
        &self,
        site: &SiteId,
        address: IpAddr,
        fleet: &Fleet,
        (config, base): (&Config, &geo::Base),
    ) -> Option<Explanation> {
        let index = config.sites.iter().position(|known| known.name == *site)?;
        let view = self.sites.get(index)?;
        let reachable = view.reachable_v4 | view.reachable_v6;
        let standing = Standing::of(fleet);
        Some(explain(address, reachable, &view.policy, view.map.as_deref()?, &standing, (config, base.ranges())))
    }

    /// Writes the answer to a query into `buffer` and gives it back, with what became of the query.
    pub(super) fn answer(&self, asked: &Asked<'_>, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let query = asked.query;
        let error = |rcode, extended, event| (Reply::error(rcode, Some(extended)), event);
        let found = if query.class == Class::IN { self.zones.find(&query.name) } else { None };
        let (reply, event) = match (found, query.rtype) {
            (None, _) => error(Rcode::REFUSED, ExtendedErrorCode::NOT_AUTHORITATIVE, Event::Refused),
            (Some(_), Rtype::AXFR | Rtype::IXFR | Rtype::MAILA | Rtype::MAILB) => {
                error(Rcode::REFUSED, ExtendedErrorCode::NOT_SUPPORTED, Event::Refused)
            }
            (Some(_), Rtype::OPT | Rtype::TSIG | Rtype::TKEY) => (Reply::error(Rcode::FORMERR, None), Event::Malformed),
            (Some(_), _) if !self.ready => error(Rcode::SERVFAIL, ExtendedErrorCode::NOT_READY, Event::NotReady),
            (Some(found), _) => return self.in_zone(asked, found, buffer),
        };
        (compose(query, &reply, asked.bytes_max, buffer), event)
    }

    fn in_zone(&self, asked: &Asked<'_>, found: Found<'_>, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let Found { authority, at_apex, held } = found;
        match (asked.query.rtype, held) {
            (_, None) if !at_apex => negative(asked, authority, Rcode::NXDOMAIN, buffer),
            (Rtype::ANY, _) => {
                let minimal = Record { owner: None, ttl_s: ANY_TTL_S, data: Data::Minimal };
                positive(asked, &[minimal], &[], buffer)
            }
            (Rtype::SOA, _) if at_apex => {
                let soa = Record { owner: None, ttl_s: authority.ttl_s, data: Data::Soa(&authority.soa) };
                positive(asked, &[soa], &[], buffer)
            }
            (Rtype::NS, _) if at_apex => name_servers(asked, authority, buffer),
            (Rtype::CAA, _) if at_apex => {
                held_data(asked, authority, (Rtype::CAA, authority.ttl_s, &authority.caa), buffer)
            }
            (Rtype::TXT, _) => match self.zones.texts(&asked.query.name) {
                Some(said) => held_data(asked, authority, (Rtype::TXT, said.ttl_s, &said.data), buffer),
                None => negative(asked, authority, Rcode::NOERROR, buffer),
            },
            (Rtype::A | Rtype::AAAA, Some(Held::Host(addresses))) => host(asked, authority, addresses, buffer),
            (Rtype::A | Rtype::AAAA | Rtype::HTTPS, Some(Held::Site(site))) => match self.sites.get(*site) {
                Some(site) => self.site(asked, authority, site, buffer),
                None => negative(asked, authority, Rcode::NOERROR, buffer),
            },
            _ => negative(asked, authority, Rcode::NOERROR, buffer),
        }
    }

    fn site(&self, asked: &Asked<'_>, authority: &Authority, site: &SiteView, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let Some(map) = &site.map else { return refuse(asked, ExtendedErrorCode::NOT_READY, Event::NotReady, buffer) };
        let v4 = || led(asked, &site.policy, map, site.reachable_v4, |at| Some(&self.regions.get(at)?.v4));
        let v6 = || led(asked, &site.policy, map, site.reachable_v6, |at| Some(&self.regions.get(at)?.v6));
        let lack = |lack: Lack, buffer| lack.answer(asked, authority, buffer);
        match (asked.query.rtype, &site.https) {
            (Rtype::A, _) => match v4() {
                Ok(led) => led.answer(asked, Data::A, buffer),
                Err(none) => lack(none, buffer),
            },
            (Rtype::AAAA, _) => match v6() {
                Ok(led) => led.answer(asked, Data::Aaaa, buffer),
                Err(none) => lack(none, buffer),
            },
            (_, Some(https)) => service(asked, authority, https, (v4(), v6()), buffer),
            (_, None) => lack(Lack::NoData, buffer),
        }
    }
}

/// A query, and what its answer depends on.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) query: &'a Query<'a>,
    /// The client's subnet, or else the resolver.
    pub(super) client: IpAddr,
    pub(super) standing: &'a Standing,
    /// How long the answer may be, in bytes.
    pub(super) bytes_max: usize,
}

/// What stands in the zone, the same for all clients.
fn positive(asked: &Asked<'_>, answer: &[Record<'_>], additional: &[Record<'_>], buffer: Vec<u8>) -> (Vec<u8>, Event) {
    let reply = Reply { authoritative: true, answer, additional, ..Reply::error(Rcode::NOERROR, None) };
    (compose(asked.query, &reply, asked.bytes_max, buffer), Event::Zone)
}

/// The name or the record does not exist, for all clients; SOA says for how long (RFC 2308 section 3).
pub(super) fn negative(asked: &Asked<'_>, authority: &Authority, rcode: Rcode, buffer: Vec<u8>) -> (Vec<u8>, Event) {
    let ttl_s = authority.ttl_s.min(authority.soa.minimum_s);
    let soa = [Record { owner: Some(&authority.apex), ttl_s, data: Data::Soa(&authority.soa) }];
    let reply = Reply { authoritative: true, authority: &soa, ..Reply::error(rcode, None) };
    let event = if rcode == Rcode::NXDOMAIN { Event::NoName } else { Event::NoData };
    (compose(asked.query, &reply, asked.bytes_max, buffer), event)
}

/// There must be no answer.
pub(super) fn refuse(
    asked: &Asked<'_>,
    extended: ExtendedErrorCode,
    event: Event,
    buffer: Vec<u8>,
) -> (Vec<u8>, Event) {
    let reply = Reply::error(Rcode::SERVFAIL, Some(extended));
    (compose(asked.query, &reply, asked.bytes_max, buffer), event)
}

fn name_servers(asked: &Asked<'_>, authority: &Authority, buffer: Vec<u8>) -> (Vec<u8>, Event) {
    let ttl_s = authority.ttl_s;
    let servers = &authority.name_servers;
    let answer: Vec<_> = servers.iter().map(|(name, _)| Record { owner: None, ttl_s, data: Data::Ns(name) }).collect();
    let additional: Vec<_> = servers
        .iter()
        .flat_map(|(name, addresses)| addresses.iter().map(move |address| (name, *address)))
        .map(|(name, address)| Record { owner: Some(name), ttl_s, data: Data::from(address) })
        .collect();
    positive(asked, &answer, &additional, buffer)
}

/// Records of one type, whose data was composed before: type, TTL in seconds, data.
fn held_data(
    asked: &Asked<'_>,
    authority: &Authority,
    (rtype, ttl_s, data): (Rtype, u32, &[Vec<u8>]),
    buffer: Vec<u8>,
) -> (Vec<u8>, Event) {
    let data = data.iter().filter_map(|data| Data::composed(rtype, data));
    let answer: Vec<_> = data.map(|data| Record { owner: None, ttl_s, data }).collect();
    if answer.is_empty() {
        return negative(asked, authority, Rcode::NOERROR, buffer);
    }
    positive(asked, &answer, &[], buffer)
}

fn host(asked: &Asked<'_>, authority: &Authority, addresses: &[IpAddr], buffer: Vec<u8>) -> (Vec<u8>, Event) {
    let v6 = asked.query.rtype == Rtype::AAAA;
    let record = |address: &IpAddr| Record { owner: None, ttl_s: authority.ttl_s, data: Data::from(*address) };
    let answer: Vec<_> = addresses.iter().filter(|address| address.is_ipv6() == v6).map(record).collect();
    if answer.is_empty() {
        return negative(asked, authority, Rcode::NOERROR, buffer);
    }
    positive(asked, &answer, &[], buffer)
}

impl RegionAddresses {
    fn new(region: &Region) -> Self {
        let all = || region.nodes.iter().enumerate().flat_map(|(n, node)| node.addresses.iter().map(move |a| (n, *a)));
        let v4 = |(node, address)| if let IpAddr::V4(v4) = address { Some((node, v4)) } else { None };
        let v6 = |(node, address)| if let IpAddr::V6(v6) = address { Some((node, v6)) } else { None };
        Self { v4: Addresses::new(all().filter_map(v4)), v6: Addresses::new(all().filter_map(v6)) }
    }
}

/// The protocols that a client does not know of by itself (RFC 9460 section 9.1: HTTP/1.1 goes without saying).
fn protocols() -> Vec<&'static [u8]> {
    tls::PROTOCOLS.into_iter().filter(|protocol| *protocol != b"http/1.1").collect()
}

/// The regions that have an address which is like that.
fn mask(regions: &[Region], like: impl Fn(&IpAddr) -> bool) -> RegionMask {
    let has = |region: &Region| region.nodes.iter().flat_map(|node| &node.addresses).any(&like);
    let bits = regions.iter().take(region_config::REGIONS_MAX).enumerate();
    bits.fold(0, |mask, (index, region)| mask | u64::from(has(region)) << index)
}

/// The map for a set of regions: sites with the same legal regions share one.
fn map_for(maps: &mut Vec<Arc<Map>>, config: &Config, base: &geo::Base, eligible: RegionMask) -> Arc<Map> {
    if let Some(map) = maps.iter().find(|map| map.eligible() == eligible) {
        return Arc::clone(map);
    }
    let map = Arc::new(Map::compile(config, base.ranges(), eligible, &config.node.region));
    maps.push(Arc::clone(&map));
    map
}
