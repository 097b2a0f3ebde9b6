//! A zone as a file, for name servers that are not ours (RFC 1035 section 5).
//!
//! They know neither where clients are nor how regions are. So each site has the addresses of all regions that it may be
//! served from, and of no others, and clients find one that answers. What stands here is what the config says; health does
//! not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use region_config::{Config, RegionMask, Site};
use rules::steering::{ADDRESSES_MAX, Wishes};
use wire::dns::{
    Data, DnsName, Name, Rtype, Serial, Soa,
    sign::{Set, nsec_between},
    zone_line,
};

use super::{
    view::{ViewFault, composed, https},
    zones::{Authority, Held, Zones},
};

/// Why a zone cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    /// The config has no such zone.
    #[error("there is no zone `{name}`; {}", if known.is_empty() { "the config has none".to_owned() } else { format!("the config has {}", known.join(", ")) })]
    Unknown {
        /// What was asked for, cut to 80 characters.
        name: String,
        /// The zones that there are.
        known: Vec<String>,
    },
    /// A zone cannot be made of the config.
    #[error(transparent)]
    View(#[from] ViewFault),
    /// A record cannot be written: a fault of this program.
    #[error("a record of {owner} cannot be written")]
    Record {
        /// Its owner.
        owner: DnsName,
    },
}

/// A zone as a file.
#[derive(Debug)]
pub struct Exported {
    /// The lines, one for each record.
    pub lines: Vec<String>,
    /// Until when its signatures hold, in seconds since the Unix epoch; none if the zone is not signed.
    pub until_unix_s: Option<u64>,
}

/// The records of a zone, by owner in canonical order and type.
type Records = BTreeMap<DnsName, BTreeMap<Rtype, Kind>>;

/// Records of one owner and type, as data in wire format.
#[derive(Debug, Default)]
struct Kind {
    ttl_s: u32,
    data: Vec<Vec<u8>>,
    /// The data of its signatures.
    signatures: Vec<Vec<u8>>,
    /// Not the zone's own, but of one below it: never signed.
    is_below: bool,
}

/// Writes a zone of the config, with signatures as of `now_unix_s` if it is signed.
///
/// # Errors
/// [`ExportFault`]
pub fn export(config: &Config, zone: &str, now_unix_s: u64) -> Result<Exported, ExportFault> {
    let zones = Zones::new(config)?;
    let wanted = Name::<Vec<u8>>::vec_from_str(&zone.to_ascii_lowercase()).ok();
    let found = zones.authorities().find(|known| Some(&known.apex) == wanted.as_ref());
    let Some(authority) = found else {
        let known = config.zones.iter().map(|zone| zone.name.clone()).collect();
        return Err(ExportFault::Unknown { name: zone.chars().take(80).collect(), known });
    };
    let mut records = own(authority, now_unix_s);
    for (owner, held) in everywhere(&zones, authority) {
        hold(&mut records, &owner, held, config, authority);
    }
    for (owner, said, of) in zones.all_texts() {
        if std::ptr::eq(of, authority) {
            add(&mut records, &owner, said.ttl_s, &composed(Rtype::TXT, &said.data));
        }
    }
    for below in zones
        .authorities()
        .filter(|below| zones.above(below.apex.as_slice()).is_some_and(|above| std::ptr::eq(above, authority)))
    {
        delegate(&mut records, below, authority);
    }
    let until_unix_s = sign(&mut records, authority, now_unix_s);
    Ok(Exported { lines: lines(&records, &authority.apex)?, until_unix_s })
}

/// What stands under each name of a zone, and under all that are not there. A pattern of ours covers names that are only on
/// the way to others, and all names below those that are there; a wildcard ends at every name that exists (RFC 4592 section
/// 3.3.1). So every name that exists has its own.
fn everywhere<'a>(zones: &'a Zones, authority: &Authority) -> Vec<(DnsName, &'a Held)> {
    let exist = zones.names().map(|(name, _, _)| name).chain([authority.apex.clone()]).collect::<BTreeSet<_>>();
    let mut everywhere = Vec::new();
    for name in exist {
        let found = zones.find(name.as_slice()).filter(|found| std::ptr::eq(found.authority, authority));
        let Some(found) = found else { continue };
        // no name is below one that has no room for a label
        let wildcard = Name::from_octets([b"\x01*", name.as_slice()].concat()).ok();
        everywhere.extend(wildcard.zip(zones.below(name.as_slice())));
        everywhere.extend(found.held.map(|held| (name, held)));
    }
    everywhere
}

/// What stands at the apex.
fn own(authority: &Authority, now_unix_s: u64) -> Records {
    let mut records = Records::new();
    let mut put = |data: &[Data<'_>]| add(&mut records, &authority.apex, authority.ttl_s, data);
    // other servers take a zone for new if its serial has grown; ours here is a hash
    #[allow(clippy::cast_possible_truncation, reason = "serials wrap around (RFC 1982)")]
    let soa = Soa { serial: Serial(now_unix_s as u32), ..authority.soa.clone() };
    put(&[Data::Soa(&soa)]);
    for data in authority.own() {
        put(&data);
    }
    records
}

/// What stands under a name.
fn hold(records: &mut Records, owner: &DnsName, held: &Held, config: &Config, authority: &Authority) {
    match held {
        Held::Host(addresses) => put_addresses(records, owner, authority.ttl_s, addresses),
        Held::Site(site) => {
            let Some(site) = config.sites.get(*site) else { return };
            let addresses = of_site(config, site);
            put_addresses(records, owner, site.dns_ttl_s, &addresses);
            let v4 = addresses.iter().filter_map(|it| if let IpAddr::V4(v4) = it { Some(*v4) } else { None });
            let v6 = addresses.iter().filter_map(|it| if let IpAddr::V6(v6) = it { Some(*v6) } else { None });
            let hints = https(site).filter(|_| !addresses.is_empty()).map(|https| https.with_hints(v4, v6));
            let data: Vec<_> = hints.iter().filter_map(|it| Data::composed(Rtype::HTTPS, it.as_slice())).collect();
            add(records, owner, site.dns_ttl_s, &data);
        }
        Held::Empty => {}
    }
}

/// Name servers of a zone below, and what says which keys it has.
fn delegate(records: &mut Records, below: &Authority, authority: &Authority) {
    add(records, &below.apex, authority.ttl_s, &below.servers());
    if let Some(signer) = &below.signer {
        add(records, &below.apex, authority.ttl_s, &signer.about_keys(Rtype::DS));
    }
    for (name, addresses) in below.name_servers.iter().filter(|(name, _)| name.ends_with(&below.apex)) {
        put_addresses(records, name, authority.ttl_s, addresses);
        records.entry(name.clone()).or_default().values_mut().for_each(|kind| kind.is_below = true);
    }
    if let Some(kind) = records.get_mut(&below.apex).and_then(|kinds| kinds.get_mut(&Rtype::NS)) {
        kind.is_below = true;
    }
}

/// The addresses of the regions that a site may be served from, the regions taking turns; IPv6 only if all of them have it,
/// as in tailored answers.
fn of_site(config: &Config, site: &Arc<Site>) -> Vec<IpAddr> {
    let eligible = Wishes::of(config, site, RegionMask::MAX).policy(site.dns_ttl_s).eligible;
    let legal = config.regions.iter().enumerate().filter(|(at, _)| eligible >> at & 1 == 1);
    let regions: Vec<Vec<IpAddr>> = legal
        .map(|(_, region)| region.nodes.iter().flat_map(|node| node.addresses.iter().copied()).collect())
        .filter(|addresses: &Vec<_>| !addresses.is_empty())
        .collect();
    let of_family = |v6: bool| -> Vec<IpAddr> {
        let mut each: Vec<_> =
            regions.iter().map(|addresses| addresses.iter().filter(move |address| address.is_ipv6() == v6)).collect();
        let mut taken = Vec::new();
        loop {
            let before = taken.len();
            for addresses in &mut each {
                taken.extend(addresses.next().filter(|_| taken.len() < ADDRESSES_MAX));
            }
            if taken.len() == before || taken.len() >= ADDRESSES_MAX {
                return taken;
            }
        }
    };
    let v6_everywhere = regions.iter().all(|addresses| addresses.iter().any(IpAddr::is_ipv6));
    let v6 = if v6_everywhere { of_family(true) } else { Vec::new() };
    [of_family(false), v6].concat()
}

fn put_addresses(records: &mut Records, owner: &DnsName, ttl_s: u32, addresses: &[IpAddr]) {
    for v6 in [false, true] {
        let data: Vec<_> = addresses.iter().filter(|it| it.is_ipv6() == v6).map(|it| Data::from(*it)).collect();
        add(records, owner, ttl_s, &data);
    }
}

/// Adds records of one type, if there are any.
fn add(records: &mut Records, owner: &DnsName, ttl_s: u32, data: &[Data<'_>]) {
    if let Some(rtype) = data.first().map(Data::rtype) {
        let kind = records.entry(owner.clone()).or_default().entry(rtype).or_default();
        kind.ttl_s = ttl_s;
        kind.data.extend(data.iter().map(Data::rdata));
    }
}

/// Adds the chain of names (RFC 4034 section 4) and the signatures, if the zone is signed.
fn sign(records: &mut Records, authority: &Authority, now_unix_s: u64) -> Option<u64> {
    let signer = authority.signer.as_ref()?;
    // glue has no place in the chain
    let is_own =
        |kinds: &BTreeMap<Rtype, Kind>| kinds.contains_key(&Rtype::NS) || kinds.values().any(|kind| !kind.is_below);
    let names: Vec<DnsName> = records.iter().filter(|(_, kinds)| is_own(kinds)).map(|(name, _)| name.clone()).collect();
    for (at, name) in names.iter().enumerate() {
        let next = names.get(at + 1).unwrap_or(&authority.apex);
        let Some(kinds) = records.get_mut(name) else { continue };
        let types: Vec<Rtype> = kinds.keys().copied().chain([Rtype::RRSIG, Rtype::NSEC]).collect();
        let chain =
            Kind { ttl_s: authority.negative_ttl_s(), data: vec![nsec_between(next, types)], ..Kind::default() };
        kinds.insert(Rtype::NSEC, chain);
        for (rtype, kind) in kinds.iter_mut().filter(|(_, kind)| !kind.is_below) {
            let data: Vec<_> = kind.data.iter().filter_map(|data| Data::composed(*rtype, data)).collect();
            let set = Set { owner: name.as_slice(), ttl_s: kind.ttl_s, data: &data };
            kind.signatures = signer.sign(&set, now_unix_s);
        }
    }
    Some(super::signed::until_unix_s(now_unix_s))
}

/// The lines, the apex first and its SOA before all.
fn lines(records: &Records, apex: &DnsName) -> Result<Vec<String>, ExportFault> {
    let mut lines = Vec::new();
    let soa_first = |rtype: &Rtype| (*rtype != Rtype::SOA, *rtype);
    let at_apex = records.get(apex).map(|kinds| (apex, kinds));
    for (owner, kinds) in at_apex.into_iter().chain(records.iter().filter(|(owner, _)| *owner != apex)) {
        let mut kinds: Vec<_> = kinds.iter().collect();
        kinds.sort_by_key(|(rtype, _)| soa_first(rtype));
        for (rtype, kind) in kinds {
            let own = kind.data.iter().map(|data| (*rtype, data));
            for (rtype, data) in own.chain(kind.signatures.iter().map(|data| (Rtype::RRSIG, data))) {
                let line = zone_line(owner.as_slice(), kind.ttl_s, rtype, data);
                lines.push(line.ok_or_else(|| ExportFault::Record { owner: owner.clone() })?);
            }
        }
    }
    Ok(lines)
}
