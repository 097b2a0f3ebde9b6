//! All that DNS answers are made of, compiled from the config and the geo database. Immutable; swapped whole.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use region_config::{Config, Region, RegionId, RegionMask, Site, SiteId};
use rules::{
    health::{Fleet, Layout},
    steering::{Addresses, Chosen, Explanation, Map, Policy, Standing, Wishes, explain, what_if::addressed},
};
use wire::dns::{Class, Data, ExtendedErrorCode, Query, Rcode, Record, Reply, Rtype, Service, compose, sign::Set};

use super::{
    counters::Event,
    led::{Lack, led, service, sorted},
    plan,
    rates::Sender,
    roster::Roster,
    signed::{Denied, KeyFault, Signer},
    zones::{Authority, Found, Held, Zones},
};
use crate::{clock, edge::tls, geo};

/// For how long the minimal answer to ANY may be kept, in seconds: it never changes.
const ANY_TTL_S: u32 = 3600;

/// Most sets of sites that are signed before anybody asks: a second's work.
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
    zones: Arc<Zones>,
    /// In the order of the config.
    sites: Vec<SiteView>,
    /// In the order of the config.
    regions: Arc<[RegionAddresses]>,
    /// Which these are: health may be of a config that is newer than this view.
    layout: Arc<Layout>,
    /// Whose demand is counted, if anybody wants to know.
    roster: Option<Arc<Roster>>,
    /// What it was compiled of: what is explained is this, whatever config is in force elsewhere by now.
    config: Arc<Config>,
    /// Whether there is a geo table. Without one a node must not answer: its untailored answers would take over the
    /// resolvers' caches.
    ready: bool,
    /// Its plan's number.
    plan: u64,
}

/// What a client gets, and why.
#[derive(Debug)]
pub struct Explained {
    /// The record that is explained: A, or AAAA of a site that has no A.
    pub record: Rtype,
    /// How its address comes about.
    pub explanation: Explanation,
    /// The region that AAAA leads the client to; none if there is no AAAA, or no answer.
    pub ipv6_region: Option<RegionId>,
}

#[derive(Debug, Clone)]
struct SiteView {
    wishes: Arc<Wishes>,
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

    /// Counts the plans that views were made of: the number was drawn when this one was begun.
    #[must_use]
    pub fn plan(&self) -> u64 {
        self.plan
    }

    /// The fleet as masks of this view's regions and their nodes.
    #[must_use]
    pub fn standing(&self, fleet: &Fleet) -> Standing {
        Standing::of(&fleet.placed(&self.layout))
    }

    /// Whose demand is counted; none if nobody wants to know.
    #[must_use]
    pub fn roster(&self) -> Option<&Arc<Roster>> {
        self.roster.as_ref()
    }

    /// The same with other maps, in the order of the sites.
    pub(super) fn with_maps(&self, maps: Vec<Arc<Map>>) -> Self {
        let site = |(site, map): (&SiteView, Arc<Map>)| SiteView { map: Some(map), ..site.clone() };
        Self {
            zones: Arc::clone(&self.zones),
            sites: self.sites.iter().zip(maps).map(site).collect(),
            regions: Arc::clone(&self.regions),
            layout: Arc::clone(&self.layout),
            roster: self.roster.clone(),
            config: Arc::clone(&self.config),
            ready: self.ready,
            plan: self.plan,
        }
    }

    #[cfg(test)]
    pub(crate) fn map(&self, site: usize) -> Option<&Map> {
        self.sites.get(site)?.map.as_deref()
    }

    /// The config that it was compiled of.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The site that a host leads to; none if no site has that name inside a zone.
    #[must_use]
    pub fn site_named(&self, host: &str) -> Option<&Arc<Site>> {
        match self.zones.find_named(host)?.held? {
            Held::Site(index) => self.config.sites.get(*index),
            _ => None,
        }
    }

    fn new(config: &Config, base: Option<&geo::Base>) -> Result<Self, ViewFault> {
        if let Some(base) = base {
            geo::idle(config, base).iter().for_each(|what| tracing::warn!("{what}"));
        }
        let plan = plan::begin();
        let all = addressed(config, |_| true);
        let (v4, v6) = (addressed(config, IpAddr::is_ipv4), addressed(config, IpAddr::is_ipv6));
        let mut maps: Vec<(Wishes, Arc<Map>)> = Vec::new();
        let mut site_view = |site: &Arc<Site>| {
            let wishes = Wishes::of(config, site, all);
            let map = base.map(|base| map_for(&mut maps, config, base, &wishes));
            let policy = wishes.policy(site.dns_ttl_s);
            let reachable_v6 = if wishes.nameable() & !v6 == 0 { v6 } else { 0 };
            let https = https(site);
            let wishes = Arc::new(wishes);
            SiteView { wishes, policy, map, reachable_v4: v4, reachable_v6, https }
        };
        let sites: Vec<SiteView> = config.sites.iter().map(&mut site_view).collect();
        let led = |site: usize| {
            let site = sites.get(site)?;
            Some((site.map.as_ref()?, site.policy.eligible))
        };
        let view = Self {
            roster: Roster::new(config, led),
            sites,
            regions: config.regions.iter().map(RegionAddresses::new).collect(),
            layout: Arc::new(Layout::of(config)),
            zones: Arc::new(Zones::new(config)?),
            config: Arc::new(config.clone()),
            ready: base.is_some(),
            plan,
        };
        view.publish(clock::unix_ms() / 1_000);
        Ok(view)
    }

    /// Signs what can be known before anybody asks, if that was not done today: each zone's own records, and of each site in a signed zone what is
    /// answered for each region, with all nodes in it, for quiet and for restless times. What is beyond
    /// [`PUBLISHED_MAX`] is signed when it is asked for.
    pub(super) fn publish(&self, now_unix_s: u64) {
        if self.zones.authorities().all(|authority| authority.signer.is_none()) {
            return;
        }
        for authority in self.zones.authorities() {
            let Some(signer) = &authority.signer else { continue };
            let owner = authority.apex.as_slice();
            let publish = |ttl_s, data: &[Data<'_>]| signer.publish(&Set { owner, ttl_s, data }, now_unix_s);
            for ttl_s in [authority.ttl_s, authority.negative_ttl_s()] {
                publish(ttl_s, &[Data::Soa(&authority.soa)]);
            }
            for data in authority.own() {
                publish(authority.ttl_s, &data);
            }
        }
        for (owner, said, authority) in self.zones.all_texts() {
            let Some(signer) = &authority.signer else { continue };
            let data = composed(Rtype::TXT, &said.data);
            signer.publish(&Set { owner: owner.as_slice(), ttl_s: said.ttl_s, data: &data }, now_unix_s);
        }
        let mut left = PUBLISHED_MAX;
        for (owner, held, authority) in self.zones.names() {
            let (Some(signer), Held::Site(site)) = (&authority.signer, held) else { continue };
            let Some(site) = self.sites.get(*site) else { continue };
            let legal = self.regions.iter().enumerate().filter(|(at, _)| site.wishes.nameable() >> at & 1 == 1);
            for (at, addresses) in legal {
                left = left.saturating_sub(publish_region(signer, owner.as_slice(), site, (at, addresses), now_unix_s));
                if left == 0 {
                    return;
                }
            }
        }
    }

    /// Says what a client at `address` who asks for `site` gets, and why, region by region: by the same code that answers.
    /// That is about A, or about AAAA of a site that has no A. The regions of `without` are taken to be down. `base` tells what
    /// is known of the address. None for a site that this view does not know, or before there is a database.
    #[must_use]
    pub fn explain(
        &self,
        site: &SiteId,
        address: IpAddr,
        fleet: &Fleet,
        without: &[RegionId],
        base: &geo::Base,
    ) -> Option<Explained> {
        let config = &*self.config;
        let index = config.sites.iter().position(|known| known.name == *site)?;
        let view = self.sites.get(index)?;
        let gone = config.regions.iter().enumerate().filter(|(_, region)| without.contains(&region.name));
        let standing = self.standing(fleet).without(gone.fold(0, |mask, (index, _)| mask | 1 << index));
        let (wished, map) = ((&*view.wishes, &view.policy), view.map.as_deref()?);
        let of = |reachable| explain(address, reachable, wished, map, &standing, (config, base.ranges()));
        let [has_v4, has_v6] = [view.reachable_v4, view.reachable_v6].map(|it| view.wishes.nameable() & it != 0);
        let ipv6 = has_v6.then(|| of(view.reachable_v6));
        let ipv6_region = ipv6.as_ref().and_then(Explanation::chosen).cloned();
        let (record, explanation) = match ipv6 {
            Some(ipv6) if !has_v4 => (Rtype::AAAA, ipv6),
            _ => (Rtype::A, of(view.reachable_v4)),
        };
        Some(Explained { record, explanation, ipv6_region })
    }

    /// What stands under the name that a query asks for; none if that is in no zone.
    pub(super) fn find(&self, query: &Query<'_>) -> Option<Found<'_>> {
        if query.class == Class::IN { self.zones.find(query.name.as_slice()) } else { None }
    }

    /// Where clients of a site are led, if that is what stands under a name.
    pub(super) fn map_of(&self, found: Option<Found<'_>>) -> Option<&Map> {
        match found?.held? {
            Held::Site(site) => self.sites.get(*site)?.map.as_deref(),
            Held::Host(_) | Held::Empty => None,
        }
    }

    /// Writes the answer to a query into `buffer` and gives it back, with what became of the query.
    pub(super) fn answer(&self, asked: &Asked<'_>, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let query = asked.query;
        let error = |rcode, extended, event| (Reply::error(rcode, Some(extended)), event);
        let (reply, event) = match (asked.found, query.rtype) {
            (None, _) => error(Rcode::REFUSED, ExtendedErrorCode::NOT_AUTHORITATIVE, Event::Refused),
            (Some(_), Rtype::AXFR | Rtype::IXFR | Rtype::MAILA | Rtype::MAILB) => {
                error(Rcode::REFUSED, ExtendedErrorCode::NOT_SUPPORTED, Event::Refused)
            }
            (Some(_), Rtype::OPT | Rtype::TSIG | Rtype::TKEY | Rtype::NXNAME) => {
                (Reply::error(Rcode::FORMERR, None), Event::Malformed)
            }
            (Some(_), _) if !self.ready => error(Rcode::SERVFAIL, ExtendedErrorCode::NOT_READY, Event::NotReady),
            (Some(found), _) => return self.in_zone(&Place { view: self, found }, asked, buffer),
        };
        (compose(query, &reply, asked.bytes_max, buffer), event)
    }

    fn in_zone(&self, place: &Place<'_>, asked: &Asked<'_>, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let Found { authority, at_apex, held, .. } = place.found;
        let rtype = asked.query.rtype;
        match (rtype, held) {
            (Rtype::NSEC | Rtype::RRSIG, _) if held.is_some() || at_apex || place.signs(asked) => {
                place.own_signature(asked, buffer)
            }
            (_, None) if !at_apex => place.negative(asked, Rcode::NXDOMAIN, buffer),
            // of a zone's keys the zone above speaks (RFC 4035 section 3.1.4.1)
            (Rtype::DS, _) if at_apex => self.delegated(place, asked, buffer),
            (Rtype::ANY, _) => {
                let minimal = Record { owner: None, ttl_s: ANY_TTL_S, data: Data::Minimal };
                place.positive(asked, &[minimal], &[], buffer)
            }
            (Rtype::SOA, _) if at_apex => {
                let soa = Record { owner: None, ttl_s: authority.ttl_s, data: Data::Soa(&authority.soa) };
                place.positive(asked, &[soa], &[], buffer)
            }
            (Rtype::NS, _) if at_apex => name_servers(place, asked, buffer),
            (Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::CDS, _) if at_apex => {
                let data = authority.signer.iter().flat_map(|signer| signer.about_keys(rtype));
                place.held(asked, authority.ttl_s, data, buffer)
            }
            (Rtype::CAA, _) if at_apex => place.held(asked, authority.ttl_s, composed(rtype, &authority.caa), buffer),
            (Rtype::TXT, _) => match self.zones.texts(&asked.query.name) {
                Some(said) => place.held(asked, said.ttl_s, composed(rtype, &said.data), buffer),
                None => place.negative(asked, Rcode::NOERROR, buffer),
            },
            (Rtype::A | Rtype::AAAA, Some(Held::Host(addresses))) => {
                let of_family = addresses.iter().filter(|address| address.is_ipv6() == (rtype == Rtype::AAAA));
                place.held(asked, authority.ttl_s, of_family.map(|address| Data::from(*address)), buffer)
            }
            (Rtype::A | Rtype::AAAA | Rtype::HTTPS, Some(Held::Site(site))) => match self.sites.get(*site) {
                Some(site) => self.site(place, asked, site, buffer),
                None => place.negative(asked, Rcode::NOERROR, buffer),
            },
            _ => place.negative(asked, Rcode::NOERROR, buffer),
        }
    }

    /// What the zone above says of a zone's keys, if that is ours too.
    fn delegated(&self, place: &Place<'_>, asked: &Asked<'_>, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let Found { authority, .. } = place.found;
        let Some(above) = self.zones.above(authority.apex.as_slice()) else {
            return place.negative(asked, Rcode::NOERROR, buffer);
        };
        let data = authority.signer.iter().flat_map(|signer| signer.about_keys(Rtype::DS));
        let answer: Vec<_> = data.map(|data| Record { owner: None, ttl_s: above.ttl_s, data }).collect();
        if answer.is_empty() {
            return negative(above, asked, Rcode::NOERROR, Denied::Delegated, buffer);
        }
        let reply = Reply { authoritative: true, answer: &answer, ..Reply::error(Rcode::NOERROR, None) };
        (written(above, asked, &reply, (Event::Zone, None), buffer), Event::Zone)
    }

    fn site(&self, place: &Place<'_>, asked: &Asked<'_>, site: &SiteView, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let Some(map) = &site.map else { return refuse(asked, ExtendedErrorCode::NOT_READY, Event::NotReady, buffer) };
        let v4 = || led(asked, &site.policy, map, site.reachable_v4, |at| Some(&self.regions.get(at)?.v4));
        let v6 = || led(asked, &site.policy, map, site.reachable_v6, |at| Some(&self.regions.get(at)?.v6));
        match (asked.query.rtype, &site.https) {
            (Rtype::A, _) => match v4() {
                Ok(led) => led.answer(place, asked, Data::A, buffer),
                Err(none) => none.answer(place, asked, buffer),
            },
            (Rtype::AAAA, _) => match v6() {
                Ok(led) => led.answer(place, asked, Data::Aaaa, buffer),
                Err(none) => none.answer(place, asked, buffer),
            },
            (_, Some(https)) => service(place, asked, https, (v4(), v6()), buffer),
            (_, None) => Lack::NoData.answer(place, asked, buffer),
        }
    }

    /// The types that a name in a signed zone has.
    fn types(&self, asked: &Asked<'_>, Found { authority, at_apex, held, .. }: Found<'_>) -> Vec<Rtype> {
        let mut types = Vec::new();
        if at_apex {
            types.extend([Rtype::NS, Rtype::SOA, Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY]);
            types.extend((!authority.caa.is_empty()).then_some(Rtype::CAA));
        }
        types.extend(self.zones.texts(&asked.query.name).map(|_| Rtype::TXT));
        match held {
            Some(Held::Host(addresses)) => {
                types.extend(addresses.iter().any(IpAddr::is_ipv4).then_some(Rtype::A));
                types.extend(addresses.iter().any(IpAddr::is_ipv6).then_some(Rtype::AAAA));
            }
            Some(Held::Site(site)) => {
                let site = self.sites.get(*site);
                let has = |reachable: fn(&SiteView) -> RegionMask| {
                    site.is_some_and(|site| site.policy.eligible & reachable(site) != 0)
                };
                let (v4, v6) = (has(|site| site.reachable_v4), has(|site| site.reachable_v6));
                let https = (v4 || v6) && site.is_some_and(|site| site.https.is_some());
                types.extend(v4.then_some(Rtype::A));
                types.extend(v6.then_some(Rtype::AAAA));
                types.extend(https.then_some(Rtype::HTTPS));
            }
            Some(Held::Empty) | None => {}
        }
        types
    }
}

/// The name that was asked for, in its zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    view: &'a View,
    found: Found<'a>,
}

impl Place<'_> {
    /// Whether the answer is to have signatures.
    pub(super) fn signs(&self, asked: &Asked<'_>) -> bool {
        self.found.authority.signer.is_some() && asked.query.wants_dnssec()
    }

    /// Writes a reply that is counted as `event`, with signatures where there are some and they are wanted.
    pub(super) fn written(&self, asked: &Asked<'_>, reply: &Reply<'_>, event: Event, buffer: Vec<u8>) -> Vec<u8> {
        written(self.found.authority, asked, reply, (event, None), buffer)
    }

    /// What stands in the zone, the same for all clients.
    fn positive(
        &self,
        asked: &Asked<'_>,
        answer: &[Record<'_>],
        additional: &[Record<'_>],
        buffer: Vec<u8>,
    ) -> (Vec<u8>, Event) {
        let reply = Reply { authoritative: true, answer, additional, ..Reply::error(Rcode::NOERROR, None) };
        (self.written(asked, &reply, Event::Zone, buffer), Event::Zone)
    }

    /// Records with this data, if there is any.
    fn held<'d>(
        &self,
        asked: &Asked<'_>,
        ttl_s: u32,
        data: impl IntoIterator<Item = Data<'d>>,
        buffer: Vec<u8>,
    ) -> (Vec<u8>, Event) {
        let answer: Vec<_> = data.into_iter().map(|data| Record { owner: None, ttl_s, data }).collect();
        if answer.is_empty() {
            return self.negative(asked, Rcode::NOERROR, buffer);
        }
        self.positive(asked, &answer, &[], buffer)
    }

    /// What DNSSEC says of the name itself, also of one that does not exist.
    fn own_signature(&self, asked: &Asked<'_>, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let Found { authority, at_apex, held, .. } = self.found;
        let Some(signer) = &authority.signer else { return self.negative(asked, Rcode::NOERROR, buffer) };
        let types = self.view.types(asked, self.found);
        let known = if held.is_none() && !at_apex { Denied::Name } else { Denied::Types(&types) };
        (signer.compose_own(asked, (known, authority.negative_ttl_s()), buffer), Event::Zone)
    }

    /// The name or the record does not exist, for all clients.
    pub(super) fn negative(&self, asked: &Asked<'_>, rcode: Rcode, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        let Self { view, found } = self;
        if rcode == Rcode::NXDOMAIN {
            return negative(found.authority, asked, rcode, Denied::Name, buffer);
        }
        // nobody else needs to know
        let types = if self.signs(asked) { view.types(asked, *found) } else { Vec::new() };
        negative(found.authority, asked, rcode, Denied::Types(&types), buffer)
    }
}

/// Signs what is answered for a site when all nodes of a region are well; gives how many sets that are.
fn publish_region(
    signer: &Signer,
    owner: &[u8],
    site: &SiteView,
    (at, addresses): (usize, &RegionAddresses),
    now_unix_s: u64,
) -> usize {
    let whole = (0, u64::MAX);
    let has = |reachable: RegionMask| reachable >> at & 1 == 1;
    let v4 = has(site.reachable_v4).then(|| addresses.v4.choose(0, whole));
    let v6 = has(site.reachable_v6).then(|| addresses.v6.choose(0, whole));
    let (v4, v6) = (|| v4.iter().flat_map(Chosen::iter), || v6.iter().flat_map(Chosen::iter));
    let hints = site.https.as_ref().map(|https| https.with_hints(sorted(v4()), sorted(v6())));
    let https = hints.iter().filter_map(|hints| Data::composed(Rtype::HTTPS, hints.as_slice())).collect();
    let sets: [Vec<Data<'_>>; 3] = [v4().map(Data::A).collect(), v6().map(Data::Aaaa).collect(), https];
    let mut count = 0;
    for (data, ttl_s) in sets.iter().flat_map(|data| site.policy.ttls_s().map(|ttl_s| (data, ttl_s))) {
        signer.publish(&Set { owner, ttl_s, data }, now_unix_s);
        count += 1;
    }
    count
}

/// A query, and what its answer depends on.
pub(super) struct Asked<'a> {
    pub(super) query: &'a Query<'a>,
    /// From [`View::find`].
    pub(super) found: Option<Found<'a>>,
    /// The client's subnet, or else the resolver.
    pub(super) client: IpAddr,
    pub(super) sender: Sender<'a>,
    pub(super) standing: &'a Standing,
    /// How long the answer may be, in bytes.
    pub(super) bytes_max: usize,
}

/// Writes a reply of a zone, with signatures where there are some and they are wanted.
fn written(
    authority: &Authority,
    asked: &Asked<'_>,
    reply: &Reply<'_>,
    outcome: (Event, Option<Denied<'_>>),
    buffer: Vec<u8>,
) -> Vec<u8> {
    match authority.signer.as_ref().filter(|_| asked.query.wants_dnssec()) {
        Some(signer) => signer.compose(asked, reply, outcome, buffer),
        None => compose(asked.query, reply, asked.bytes_max, buffer),
    }
}

/// The name or the record does not exist; SOA says for how long (RFC 2308 section 3).
fn negative(
    authority: &Authority,
    asked: &Asked<'_>,
    rcode: Rcode,
    denied: Denied<'_>,
    buffer: Vec<u8>,
) -> (Vec<u8>, Event) {
    let soa = Data::Soa(&authority.soa);
    let soa = [Record { owner: Some(&authority.apex), ttl_s: authority.negative_ttl_s(), data: soa }];
    let reply = Reply { authoritative: true, authority: &soa, ..Reply::error(rcode, None) };
    let event = if rcode == Rcode::NXDOMAIN { Event::NoName } else { Event::NoData };
    (written(authority, asked, &reply, (event, Some(denied)), buffer), event)
}

/// Data that was composed before, of one type.
pub(super) fn composed(rtype: Rtype, data: &[Vec<u8>]) -> Vec<Data<'_>> {
    data.iter().filter_map(|data| Data::composed(rtype, data)).collect()
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

fn name_servers(place: &Place<'_>, asked: &Asked<'_>, buffer: Vec<u8>) -> (Vec<u8>, Event) {
    let Found { authority, .. } = place.found;
    let ttl_s = authority.ttl_s;
    let servers = &authority.name_servers;
    let answer: Vec<_> = servers.iter().map(|(name, _)| Record { owner: None, ttl_s, data: Data::Ns(name) }).collect();
    // an address would need its own signature beside it (RFC 4035 section 3.1.1); who wants one asks for it
    let named = if place.signs(asked) { &[] } else { servers.as_slice() };
    let mut additional = Vec::new();
    for (name, addresses) in named {
        for v6 in [false, true] {
            let of_family = addresses.iter().filter(|address| address.is_ipv6() == v6);
            additional.extend(of_family.map(|it| Record { owner: Some(name), ttl_s, data: Data::from(*it) }));
        }
    }
    place.positive(asked, &answer, &additional, buffer)
}

impl RegionAddresses {
    fn new(region: &Region) -> Self {
        let all = || region.nodes.iter().enumerate().flat_map(|(n, node)| node.addresses.iter().map(move |a| (n, *a)));
        let v4 = |(node, address)| if let IpAddr::V4(v4) = address { Some((node, v4)) } else { None };
        let v6 = |(node, address)| if let IpAddr::V6(v6) = address { Some((node, v6)) } else { None };
        Self { v4: Addresses::new(all().filter_map(v4)), v6: Addresses::new(all().filter_map(v6)) }
    }
}

/// How a site is reached over HTTPS, if it is.
pub(super) fn https(site: &Site) -> Option<Service> {
    site.tls.as_ref().map(|_| Service::new(&protocols(), site.https_port))
}

/// The protocols that a client does not know of by itself (RFC 9460 section 9.1: HTTP/1.1 goes without saying).
fn protocols() -> Vec<&'static [u8]> {
    tls::PROTOCOLS.into_iter().filter(|protocol| *protocol != b"http/1.1").collect()
}

/// The map for a site's wishes: sites with the same ones share one.
fn map_for(maps: &mut Vec<(Wishes, Arc<Map>)>, config: &Config, base: &geo::Base, wishes: &Wishes) -> Arc<Map> {
    if let Some((_, map)) = maps.iter().find(|(known, _)| known == wishes) {
        return Arc::clone(map);
    }
    let map = Arc::new(Map::compile(config, base.ranges(), wishes, &config.node.region));
    maps.push((wishes.clone(), Arc::clone(&map)));
    map
}
