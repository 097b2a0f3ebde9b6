//! Which names exist: zones, name servers, and the sites' hosts inside zones. Made once per config, read per query.

use std::{collections::HashMap, net::IpAddr};

use region_config::{Config, HostPattern, Zone};
use wire::dns::{Data, DnsName, LowerName, Name, Rtype, Serial, Soa, caa, txt};

use super::{
    signed::Signer,
    view::{ViewFault, composed},
};

/// A zone, ready to be answered from.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) apex: DnsName,
    pub(super) soa: Soa,
    /// TTL of SOA and NS, in seconds.
    pub(super) ttl_s: u32,
    pub(super) name_servers: Vec<(DnsName, Vec<IpAddr>)>,
    /// CAA at the apex, as data. CAs look there too when a name below has none (RFC 8659 section 3).
    pub(super) caa: Vec<Vec<u8>>,
    /// None if the zone is not signed.
    pub(super) signer: Option<Signer>,
}

impl Authority {
    /// TTL of negative answers, in seconds: of SOA, and of what denies (RFC 2308 section 5).
    pub(super) fn negative_ttl_s(&self) -> u32 {
        self.ttl_s.min(self.soa.minimum_s)
    }

    /// Its name servers, as data.
    pub(super) fn servers(&self) -> Vec<Data<'_>> {
        self.name_servers.iter().map(|(name, _)| Data::Ns(name)).collect()
    }

    /// What stands at the apex of the zone itself, SOA left out: the records of each type. All have the zone's TTL.
    pub(super) fn own(&self) -> Vec<Vec<Data<'_>>> {
        let about_keys =
            |signer| [Rtype::DNSKEY, Rtype::CDNSKEY, Rtype::CDS].map(|rtype| Signer::about_keys(signer, rtype));
        let keys = self.signer.iter().flat_map(about_keys);
        [self.servers(), composed(Rtype::CAA, &self.caa)].into_iter().chain(keys).collect()
    }
}

/// Texts under a name.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) ttl_s: u32,
    /// TXT, as data.
    pub(super) data: Vec<Vec<u8>>,
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// A site, by its index in the config.
    Site(usize),
    /// A name server's addresses.
    Host(Vec<IpAddr>),
    /// Nothing but texts, or names below it.
    Empty,
}

/// All names, by their wire format in lower case.
#[derive(Debug, Default)]
pub(super) struct Zones {
    authorities: Vec<Authority>,
    apexes: HashMap<Box<[u8]>, usize>,
    /// Each with the index of its zone, so that a name that is there takes one look.
    names: HashMap<Box<[u8]>, (Held, usize)>,
    /// For `*.suffix`: what stands under every name below the suffix.
    below: HashMap<Box<[u8]>, Held>,
    /// Texts, beside whatever else stands under their names.
    texts: HashMap<Box<[u8]>, Said>,
    /// Longest name in any map, in octets.
    longest: usize,
}

/// What was found under a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) authority: &'a Authority,
    pub(super) at_apex: bool,
    /// Whether the config has the name itself, and not just a pattern that covers it.
    pub(super) is_listed: bool,
    pub(super) held: Option<&'a Held>,
}

impl Zones {
    pub(super) fn new(config: &Config) -> Result<Self, ViewFault> {
        let mut zones = Self::default();
        let serial = u32::from_be_bytes([0, 1, 2, 3].map(|at: usize| config.fingerprint[at]));
        for zone in &config.zones {
            zones.add_zone(zone, Serial(serial))?;
        }
        zones.join();
        for texts in config.zones.iter().flat_map(|zone| &zone.texts) {
            let name = parsed(&texts.name)?;
            let data = texts.values.iter().map(|text| txt(text)).collect();
            zones.hold(name.as_slice(), Held::Empty);
            zones.texts.insert(name.as_slice().into(), Said { ttl_s: texts.ttl_s, data });
        }
        for (index, site) in config.sites.iter().enumerate() {
            for host in &site.hosts {
                zones.add_host(host, index);
            }
        }
        // last: no check of the config lets a site have a name server's name, and if one did, resolvers must still reach it
        for server in name_servers(config) {
            zones.hold(parsed(&server.name)?.as_slice(), Held::Host(server.addresses.clone()));
        }
        Ok(zones)
    }

    /// The texts under a name.
    pub(super) fn texts(&self, name: &LowerName) -> Option<&Said> {
        self.texts.get(name.as_slice())
    }

    /// The zone that a name is in, and what stands under it. The most specific pattern wins; none if no zone is ours.
    /// `name` is in wire format and lower case.
    pub(super) fn find(&self, name: &[u8]) -> Option<Found<'_>> {
        let fits = |suffix: &&[u8]| suffix.len() <= self.longest;
        let exact = self.names.get(name);
        let (zone, held) = match exact {
            Some((held, zone)) if *held != Held::Empty => (*zone, Some(held)),
            _ => {
                let zone = *suffixes(name).filter(fits).find_map(|suffix| self.apexes.get(suffix))?;
                // a name that is only on the way to others still matches a pattern above it
                let pattern = suffixes(name).skip(1).filter(fits).find_map(|suffix| self.below.get(suffix));
                (zone, pattern.or(exact.map(|(held, _)| held)))
            }
        };
        let authority = self.authorities.get(zone)?;
        let at_apex = authority.apex.as_slice().len() == name.len();
        Some(Found { authority, at_apex, is_listed: at_apex || exact.is_some(), held })
    }

    /// The same for a name as text, in lower case.
    pub(super) fn find_named(&self, name: &str) -> Option<Found<'_>> {
        self.find(parsed(name).ok()?.as_slice())
    }

    /// The zone right above another's apex, if that is ours too.
    pub(super) fn above(&self, apex: &[u8]) -> Option<&Authority> {
        let zone = suffixes(apex).skip(1).find_map(|suffix| self.apexes.get(suffix))?;
        self.authorities.get(*zone)
    }

    /// All zones.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &Authority> {
        self.authorities.iter()
    }

    /// Every name with what stands under it and its zone, patterns left out; in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = (DnsName, &Held, &Authority)> {
        self.names.iter().filter_map(|(name, (held, _))| {
            Some((Name::from_octets(name.to_vec()).ok()?, held, self.authority_of(name)?))
        })
    }

    /// Every name with texts, and its zone; in no order.
    pub(super) fn all_texts(&self) -> impl Iterator<Item = (DnsName, &Said, &Authority)> {
        self.texts
            .iter()
            .filter_map(|(name, said)| Some((Name::from_octets(name.to_vec()).ok()?, said, self.authority_of(name)?)))
    }

    /// What stands under every name below this one that is not there itself.
    pub(super) fn below(&self, name: &[u8]) -> Option<&Held> {
        suffixes(name).find_map(|suffix| self.below.get(suffix))
    }

    fn authority_of(&self, name: &[u8]) -> Option<&Authority> {
        let zone = suffixes(name).find_map(|suffix| self.apexes.get(suffix))?;
        self.authorities.get(*zone)
    }

    fn add_zone(&mut self, zone: &Zone, serial: Serial) -> Result<(), ViewFault> {
        let server = |s: &region_config::NameServer| Ok((parsed(&s.name)?, s.addresses.clone()));
        let name_servers = zone.name_servers.iter().map(server).collect::<Result<Vec<_>, ViewFault>>()?;
        let apex = parsed(&zone.name)?;
        let mname = name_servers.first().map_or_else(|| apex.clone(), |(name, _)| name.clone());
        let soa = Soa { mname, rname: parsed(&zone.mailbox)?, serial, minimum_s: zone.negative_ttl_s };
        let key = self.key(apex.as_slice());
        self.apexes.insert(key, self.authorities.len());
        let caa = zone.caa.iter().filter_map(|it| caa(it.critical, &it.tag, &it.value)).collect();
        let signer = Signer::load(zone, &apex)?;
        self.authorities.push(Authority { apex, soa, ttl_s: zone.ttl_s, name_servers, caa, signer });
        Ok(())
    }

    /// Makes the names between a zone and the one above it exist in that one (RFC 4592 section 2.2.2): a resolver that asks
    /// for them on its way down would take all below for missing (RFC 8020).
    fn join(&mut self) {
        for below in &self.authorities {
            let above: Vec<_> = suffixes(below.apex.as_slice()).skip(1).collect();
            let Some(zone) = above.iter().find_map(|suffix| self.apexes.get(*suffix)) else { continue };
            for between in above.iter().take_while(|suffix| !self.apexes.contains_key(**suffix)) {
                self.names.entry((*between).into()).or_insert((Held::Empty, *zone));
            }
        }
    }

    fn add_host(&mut self, host: &HostPattern, site: usize) {
        match host {
            // what is no DNS name, such as an address, is in no zone
            HostPattern::Exact(name) => {
                if let Ok(name) = parsed(name) {
                    self.hold(name.as_slice(), Held::Site(site));
                }
            }
            HostPattern::Suffix(suffix) => {
                if let Ok(suffix) = parsed(suffix) {
                    self.hold(suffix.as_slice(), Held::Empty);
                    let key = self.key(suffix.as_slice());
                    self.below.insert(key, Held::Site(site));
                }
            }
            HostPattern::Any => {}
        }
    }

    /// Puts something under a name, if the name is in a zone, and makes the names above it exist.
    fn hold(&mut self, name: &[u8], held: Held) {
        let zone = suffixes(name).find_map(|suffix| Some((suffix, *self.apexes.get(suffix)?)));
        let Some((apex, zone)) = zone else { return };
        let depth = name.len() - apex.len();
        for above in suffixes(name).skip(1).take_while(|above| above.len() + depth > name.len()) {
            let key = self.key(above);
            self.names.entry(key).or_insert((Held::Empty, zone));
        }
        let key = self.key(name);
        if held == Held::Empty {
            self.names.entry(key).or_insert((held, zone));
        } else {
            self.names.insert(key, (held, zone));
        }
    }

    fn key(&mut self, name: &[u8]) -> Box<[u8]> {
        self.longest = self.longest.max(name.len());
        name.into()
    }
}

/// Every name server with addresses, of all zones.
fn name_servers(config: &Config) -> impl Iterator<Item = &region_config::NameServer> {
    config.zones.iter().flat_map(|zone| &zone.name_servers).filter(|server| !server.addresses.is_empty())
}

/// A name of the config in wire format. The config has it in lower case.
fn parsed(name: &str) -> Result<DnsName, ViewFault> {
    let fault = |_| ViewFault::Name { name: name.chars().take(80).collect() };
    Name::vec_from_str(name).map_err(fault)
}

/// A name in wire format, then the name without its first label, and so on to the root.
fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| match name.first() {
        Some(&length) if length > 0 => name.get(usize::from(length) + 1..),
        _ => None,
    })
}
