//! Which names exist: zones, name servers, and the sites' hosts inside zones. Made once per config, read per query.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use region_config::{Config, HostPattern, Zone};
use wire::dns::{DnsName, LowerName, Name, Serial, Soa};

use super::view::ViewFault;

/// A zone, ready to be answered from.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) apex: DnsName,
    pub(super) soa: Soa,
    /// TTL of SOA and NS, in seconds.
    pub(super) ttl_s: u32,
    pub(super) name_servers: Vec<(DnsName, Vec<IpAddr>)>,
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// A site, by its index in the config.
    Site(usize),
    /// A name server's addresses.
    Host(Vec<IpAddr>),
    /// Nothing, but there are names below it.
    Empty,
}

/// All names, by their wire format in lower case.
#[derive(Debug, Default)]
pub(super) struct Zones {
    authorities: Vec<Authority>,
    apexes: HashMap<Box<[u8]>, usize>,
    names: HashMap<Box<[u8]>, Held>,
    /// For `*.suffix`: sites by the suffix.
    below: HashMap<Box<[u8]>, usize>,
    /// Longest name in any map, in octets.
    longest: usize,
}

/// What was found under a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) authority: &'a Authority,
    pub(super) at_apex: bool,
    pub(super) held: Option<&'a Held>,
}

impl Zones {
    pub(super) fn new(config: &Config) -> Result<Self, ViewFault> {
        let mut zones = Self::default();
        let serial = u32::from_be_bytes([0, 1, 2, 3].map(|at: usize| config.fingerprint[at]));
        for zone in &config.zones {
            zones.add_zone(zone, Serial(serial))?;
        }
        for (index, site) in config.sites.iter().enumerate() {
            for host in &site.hosts {
                zones.add_host(host, index)?;
            }
        }
        for (name, addresses) in name_servers(config) {
            let name = parsed(name)?;
            if zones.authority(name.as_slice()).is_some() {
                zones.hold(name.as_slice(), Held::Host(addresses));
            }
        }
        Ok(zones)
    }

    /// The zone that a name is in, and what stands under it. The most specific pattern wins; none if no zone is ours.
    pub(super) fn find(&self, name: &LowerName) -> Option<Found<'_>> {
        let known = |suffix: &&[u8]| suffix.len() <= self.longest;
        let zone = *name.suffixes().filter(known).find_map(|suffix| self.apexes.get(suffix))?;
        let authority = &self.authorities[zone];
        let at_apex = authority.apex.as_slice().len() == name.as_slice().len();
        let exact = self.names.get(name.as_slice()).filter(|held| **held != Held::Empty);
        let below = || name.suffixes().skip(1).filter(known).find_map(|suffix| self.below.get(suffix));
        // a pattern stands for a site, and a name that is only a way to other names is still under the pattern
        let held = exact.or_else(|| below().map(|site| &self.sites[*site])).or_else(|| self.names.get(name.as_slice()));
        Some(Found { authority, at_apex, held })
    }
}
