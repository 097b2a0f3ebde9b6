//! All that DNS answers are made of, compiled from the config and the geo database. Immutable; swapped whole.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use region_config::{Config, Region, RegionMask, Site, SiteId};
use rules::{
    health::Fleet,
    residency,
    steering::{
        Addresses, Decision, Explanation, Map, Outcome, Policy, Refusal, Standing, block_hash, decide, explain,
    },
};
use wire::dns::{Class, Data, ExtendedErrorCode, Query, Rcode, Record, Reply, Rtype, compose, sign::Set};

use super::{
    counters::Event,
    signed::{Denied, KeyFault},
    zones::{Authority, Found, Held, Zones},
};
use crate::{clock, geo};

/// For how long the minimal answer to ANY may be kept, in seconds: it never changes.
const ANY_TTL_S: u32 = 3600;

/// Most sets that are signed before anybody asks: a second's work.
const PUBLISHED_MAX: usize = 16_384;

/// Why a config cannot be answered from.
#[derive(Debug, thiserror::Error)]
pub enum ViewFault {
    /// A zone's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFault),
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
            SiteView { policy, map, reachable_v4: v4, reachable_v6: if eligible & !v6 == 0 { v6 } else { 0 } }
        };
        let view = Self {
            sites: config.sites.iter().map(&mut site_view).collect(),
            regions: config.regions.iter().map(RegionAddresses::new).collect(),
            zones: Zones::new(config)?,
            ready: base.is_some(),
        };
        view.publish(clock::unix_ms() / 1_000);
        Ok(view)
    }

    /// Signs what can be known before anybody asks: each zone's own records, and of each site in a signed zone the
    /// addresses of each region, with all nodes in it, for quiet and for restless times. At most [`PUBLISHED_MAX`] sets;
    /// the others are signed when they are asked for.
    fn publish(&self, now_unix_s: u64) {
        for authority in self.zones.authorities() {
            let Some(signer) = &authority.signer else { continue };
            let owner = authority.apex.as_slice();
            let publish = |ttl_s, data: &[Data<'_>]| signer.publish(&Set { owner, ttl_s, data }, now_unix_s);
            for ttl_s in [authority.ttl_s, authority.negative_ttl_s()] {
                publish(ttl_s, &[Data::Soa(&authority.soa)]);
            }
            let servers: Vec<_> = authority.name_servers.iter().map(|(name, _)| Data::Ns(name)).collect();
            publish(authority.ttl_s, &servers);
            for rtype in [Rtype::DNSKEY, Rtype::CDNSKEY, Rtype::CDS] {
                publish(authority.ttl_s, &signer.about_keys(rtype));
            }
        }
        let of_sites = self.zones.names().filter_map(|(owner, held, authority)| match held {
            Held::Site(site) => Some((owner, self.sites.get(*site)?, authority.signer.as_ref()?)),
            _ => None,
        });
        let sets = of_sites.flat_map(|(owner, site, signer)| {
            site_sets(site, &self.regions).map(move |(ttl_s, data)| (owner.clone(), ttl_s, data, signer))
        });
        for (owner, ttl_s, data, signer) in sets.take(PUBLISHED_MAX) {
            signer.publish(&Set { owner: owner.as_slice(), ttl_s, data: &data }, now_unix_s);
        }
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
            (Some(_), Rtype::OPT | Rtype::TSIG | Rtype::TKEY | Rtype::NXNAME) => {
                (Reply::error(Rcode::FORMERR, None), Event::Malformed)
            }
            (Some(_), _) if !self.ready => error(Rcode::SERVFAIL, ExtendedErrorCode::NOT_READY, Event::NotReady),
            (Some(found), _) => return self.in_zone(asked, found, buffer),
        };
        (compose(query, &reply, asked.bytes_max, buffer), event)
    }

    fn in_zone(&self, asked: &Asked<'_>, found: Found<'_>, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let Found { authority, at_apex, held } = found;
        let rtype = asked.query.rtype;
        match (rtype, held) {
            (_, None) if !at_apex => negative(asked, authority, Rcode::NXDOMAIN, Denied::Name, buffer),
            // of a zone's keys the zone above speaks (RFC 4035 section 3.1.4.1)
            (Rtype::DS, _) if at_apex => self.delegated(asked, authority, buffer),
            (Rtype::ANY, _) => {
                let minimal = Record { owner: None, ttl_s: ANY_TTL_S, data: Data::Minimal };
                positive(asked, authority, &[minimal], &[], buffer)
            }
            (Rtype::SOA, _) if at_apex => {
                let soa = Record { owner: None, ttl_s: authority.ttl_s, data: Data::Soa(&authority.soa) };
                positive(asked, authority, &[soa], &[], buffer)
            }
            (Rtype::NS, _) if at_apex => name_servers(asked, authority, buffer),
            (Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::CDS, _) if at_apex && authority.signer.is_some() => {
                let data = authority.signer.iter().flat_map(|signer| signer.about_keys(rtype));
                let answer: Vec<_> = data.map(|data| Record { owner: None, ttl_s: authority.ttl_s, data }).collect();
                positive(asked, authority, &answer, &[], buffer)
            }
            (Rtype::A | Rtype::AAAA, Some(Held::Host(addresses))) if has(addresses, rtype) => {
                host(asked, authority, addresses, buffer)
            }
            (Rtype::A | Rtype::AAAA, Some(Held::Site(site))) => match self.sites.get(*site) {
                Some(site) => self.site(asked, (authority, at_apex), site, buffer),
                None => negative(asked, authority, Rcode::NOERROR, Denied::Types(&[]), buffer),
            },
            _ => self.no_data(asked, authority, at_apex, held, buffer),
        }
    }

    /// What the zone above says of a zone's keys, if that is ours too.
    fn delegated(&self, asked: &Asked<'_>, authority: &Authority, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let Some(above) = self.zones.above(authority.apex.as_slice()) else {
            return self.no_data(asked, authority, true, None, buffer);
        };
        let ds = authority.signer.iter().flat_map(|signer| signer.about_keys(Rtype::DS));
        let answer: Vec<_> = ds.map(|data| Record { owner: None, ttl_s: above.ttl_s, data }).collect();
        if answer.is_empty() {
            // not signed: no keys, and the zone begins here
            return negative(asked, above, Rcode::NOERROR, Denied::Types(&[Rtype::NS]), buffer);
        }
        positive(asked, above, &answer, &[], buffer)
    }

    /// The name exists, and has no such record.
    fn no_data(
        &self,
        asked: &Asked<'_>,
        authority: &Authority,
        at_apex: bool,
        held: Option<&Held>,
        buffer: Vec<u8>,
    ) -> (Vec<u8>, Event) {
        let mut types = Vec::new();
        // nobody else needs to know
        if asked.query.wants_dnssec() && authority.signer.is_some() {
            self.types(at_apex, held, &mut types);
        }
        negative(asked, authority, Rcode::NOERROR, Denied::Types(&types), buffer)
    }

    /// The types that a name in a signed zone has.
    fn types(&self, at_apex: bool, held: Option<&Held>, types: &mut Vec<Rtype>) {
        if at_apex {
            types.extend([Rtype::NS, Rtype::SOA, Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY]);
        }
        match held {
            Some(Held::Host(addresses)) => {
                types.extend([Rtype::A, Rtype::AAAA].into_iter().filter(|rtype| has(addresses, *rtype)));
            }
            Some(Held::Site(site)) => {
                let site = self.sites.get(*site);
                let has = |reachable: fn(&SiteView) -> RegionMask| {
                    site.is_some_and(|site| site.policy.eligible & reachable(site) != 0)
                };
                types.extend(has(|site| site.reachable_v4).then_some(Rtype::A));
                types.extend(has(|site| site.reachable_v6).then_some(Rtype::AAAA));
            }
            Some(Held::Empty) | None => {}
        }
    }

    fn site(
        &self,
        asked: &Asked<'_>,
        (authority, at_apex): (&Authority, bool),
        site: &SiteView,
        buffer: Vec<u8>,
    ) -> (Vec<u8>, Event) {
        let v6 = asked.query.rtype == Rtype::AAAA;
        let reachable = if v6 { site.reachable_v6 } else { site.reachable_v4 };
        let Some(map) = &site.map else { return refuse(asked, ExtendedErrorCode::NOT_READY, Event::NotReady, buffer) };
        let decision = decide(asked.client, reachable, &site.policy, map, asked.standing);
        let event = match decision.outcome {
            Outcome::Normal => Event::Normal,
            Outcome::Failover => Event::Failover,
            Outcome::FailStatic => Event::FailStatic,
            Outcome::Refuse(Refusal::NoAddress) => {
                let held = self.zones.find(&asked.query.name).and_then(|found| found.held);
                return self.no_data(asked, authority, at_apex, held, buffer);
            }
            Outcome::Refuse(Refusal::NoRegion) => {
                return refuse(asked, ExtendedErrorCode::INVALID_DATA, Event::NoRegion, buffer);
            }
            Outcome::Refuse(Refusal::Invariant) => {
                return refuse(asked, ExtendedErrorCode::INVALID_DATA, Event::Invariant, buffer);
            }
        };
        let Some((region, addresses)) = decision.region().and_then(|at| Some((at, self.regions.get(at)?))) else {
            return refuse(asked, ExtendedErrorCode::INVALID_DATA, Event::Invariant, buffer);
        };
        let block = block_hash(decision.block(asked.client));
        let nodes = asked.standing.nodes(region);
        if v6 {
            let chosen = addresses.v6.choose(block, nodes);
            (tailored(asked, authority, &decision, chosen.iter().map(Data::Aaaa), buffer), event)
        } else {
            let chosen = addresses.v4.choose(block, nodes);
            (tailored(asked, authority, &decision, chosen.iter().map(Data::A), buffer), event)
        }
    }
}

/// What is answered with for a site when all nodes are well: for each legal region its addresses, of each family, with
/// both lifetimes.
fn site_sets<'a>(
    site: &'a SiteView,
    regions: &'a [RegionAddresses],
) -> impl Iterator<Item = (u32, Vec<Data<'static>>)> + 'a {
    let legal = regions.iter().enumerate().filter(|(at, _)| site.policy.eligible >> at & 1 == 1);
    let sets = legal.flat_map(|(at, addresses)| {
        let whole = (0, u64::MAX);
        let v4 = addresses.v4.choose(0, whole).iter().map(Data::A).collect();
        let v6 = addresses.v6.choose(0, whole).iter().map(Data::Aaaa).collect();
        let has = |reachable: RegionMask| reachable >> at & 1 == 1;
        [has(site.reachable_v4).then_some(v4), has(site.reachable_v6).then_some(v6)]
    });
    sets.flatten()
        .filter(|data: &Vec<_>| !data.is_empty())
        .flat_map(|data| site.policy.ttls_s().map(move |ttl_s| (ttl_s, data.clone())))
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

/// The addresses of one region, for the block of clients that the decision is for.
fn tailored<'a>(
    asked: &Asked<'_>,
    authority: &Authority,
    decision: &Decision<'_>,
    data: impl Iterator<Item = Data<'a>>,
    buffer: Vec<u8>,
) -> Vec<u8> {
    let mut records =
        [Record { owner: None, ttl_s: decision.ttl_s, data: Data::Minimal }; rules::steering::ADDRESSES_MAX];
    let mut count = 0;
    for (record, data) in records.iter_mut().zip(data) {
        record.data = data;
        count += 1;
    }
    let reply = Reply {
        authoritative: true,
        answer: &records[..count],
        scope: decision.scope,
        ..Reply::error(Rcode::NOERROR, None)
    };
    written(asked, authority, &reply, None, buffer)
}

/// Writes a reply of a zone, with signatures where there are some and they are wanted.
fn written(
    asked: &Asked<'_>,
    authority: &Authority,
    reply: &Reply<'_>,
    denied: Option<Denied<'_>>,
    buffer: Vec<u8>,
) -> Vec<u8> {
    match authority.signer.as_ref().filter(|_| asked.query.wants_dnssec()) {
        Some(signer) => signer.compose(asked, reply, denied, buffer),
        None => compose(asked.query, reply, asked.bytes_max, buffer),
    }
}

/// What stands in the zone, the same for all clients.
fn positive(
    asked: &Asked<'_>,
    authority: &Authority,
    answer: &[Record<'_>],
    additional: &[Record<'_>],
    buffer: Vec<u8>,
) -> (Vec<u8>, Event) {
    let reply = Reply { authoritative: true, answer, additional, ..Reply::error(Rcode::NOERROR, None) };
    (written(asked, authority, &reply, None, buffer), Event::Zone)
}

/// The name or the record does not exist, for all clients; SOA says for how long (RFC 2308 section 3).
fn negative(
    asked: &Asked<'_>,
    authority: &Authority,
    rcode: Rcode,
    denied: Denied<'_>,
    buffer: Vec<u8>,
) -> (Vec<u8>, Event) {
    let soa = Data::Soa(&authority.soa);
    let soa = [Record { owner: Some(&authority.apex), ttl_s: authority.negative_ttl_s(), data: soa }];
    let reply = Reply { authoritative: true, authority: &soa, ..Reply::error(rcode, None) };
    let event = if rcode == Rcode::NXDOMAIN { Event::NoName } else { Event::NoData };
    (written(asked, authority, &reply, Some(denied), buffer), event)
}

fn refuse(asked: &Asked<'_>, extended: ExtendedErrorCode, event: Event, buffer: Vec<u8>) -> (Vec<u8>, Event) {
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
    positive(asked, authority, &answer, &additional, buffer)
}

fn host(asked: &Asked<'_>, authority: &Authority, addresses: &[IpAddr], buffer: Vec<u8>) -> (Vec<u8>, Event) {
    let v6 = asked.query.rtype == Rtype::AAAA;
    let record = |address: &IpAddr| Record { owner: None, ttl_s: authority.ttl_s, data: Data::from(*address) };
    let answer: Vec<_> = addresses.iter().filter(|address| address.is_ipv6() == v6).map(record).collect();
    positive(asked, authority, &answer, &[], buffer)
}

/// Whether there is an address for a type.
fn has(addresses: &[IpAddr], rtype: Rtype) -> bool {
    addresses.iter().any(|address| address.is_ipv6() == (rtype == Rtype::AAAA))
}

impl RegionAddresses {
    fn new(region: &Region) -> Self {
        let all = || region.nodes.iter().enumerate().flat_map(|(n, node)| node.addresses.iter().map(move |a| (n, *a)));
        let v4 = |(node, address)| if let IpAddr::V4(v4) = address { Some((node, v4)) } else { None };
        let v6 = |(node, address)| if let IpAddr::V6(v6) = address { Some((node, v6)) } else { None };
        Self { v4: Addresses::new(all().filter_map(v4)), v6: Addresses::new(all().filter_map(v6)) }
    }
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
