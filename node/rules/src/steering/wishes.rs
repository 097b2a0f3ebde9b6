//! What a site wishes, brought into indices of regions, inside where its data may be.

use std::net::IpAddr;

use region_config::{AllDown, Cidr, Config, Force, REGIONS_MAX, RegionId, RegionMask, Site, Whom};

use super::{
    address::{Spot, spot},
    base::Location,
    decide::{Policy, regions_up_to},
};
use crate::residency;

/// What a distance counts in percent where nothing is wished.
const WHOLE: u8 = 100;

/// A site's wishes: what a [`super::Map`] is compiled for. Sites that wish the same share a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// The regions where the site's data may be and that have an address: no wish reaches beyond them.
    legal: RegionMask,
    /// Those of them that may be named.
    eligible: RegionMask,
    /// Those that may be named while all of `eligible` are down.
    fallback: RegionMask,
    all_down: AllDown,
    /// By region: what its distances count in percent, from 1 to 199.
    stretch: Vec<u8>,
    /// By region: a lower number is named first.
    priority: Vec<u8>,
    /// By region: its part of the clients; empty if distance decides.
    weights: Vec<u32>,
    /// The order for clients of whom no place is known.
    no_data: Vec<u8>,
    rules: Vec<Rule>,
}

/// A rule for some clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whom it is for.
    pub whom: Whom,
    /// Whether other regions may be named to them.
    pub force: Force,
    /// The regions, by their index in the config.
    pub(super) regions: Vec<u8>,
    /// The same as a mask.
    pub(super) mask: RegionMask,
}

impl Wishes {
    /// What `site` wishes. `addressed` are the regions that have an address.
    #[must_use]
    pub fn of(config: &Config, site: &Site, addressed: RegionMask) -> Self {
        let index = |name: &RegionId| {
            let at = config.regions.iter().take(REGIONS_MAX).position(|region| region.name == *name);
            at.and_then(|at| u8::try_from(at).ok())
        };
        let mask = |names: &[RegionId]| names.iter().filter_map(index).fold(0, |mask: RegionMask, at| mask | 1 << at);
        let wished = &site.steering;
        let legal = residency::eligible(config, site) & addressed;
        let allowed = if wished.allow.is_empty() { RegionMask::MAX } else { mask(&wished.allow) };
        let mut wishes = Self::nearest(legal);
        wishes.eligible &= allowed & !mask(&wished.deny);
        wishes.all_down = wished.all_down;
        wishes.fallback = mask(&wished.fallback) & legal;
        // the config is checked, so these are all eligible; a list with another one would be longer than the others
        let eligible = wishes.eligible;
        let among = |names: &[RegionId]| -> Vec<u8> {
            names.iter().filter_map(index).filter(|at| eligible >> at & 1 == 1).collect()
        };
        wishes.no_data = among(&wished.no_data);
        for wish in &wished.regions {
            let Some(at) = index(&wish.region).map(usize::from) else { continue };
            wishes.stretch[at] = u8::try_from(100 - wish.bias_percent.clamp(-99, 99)).unwrap_or(WHOLE);
            wishes.priority[at] = wish.priority;
            if let Some(weight) = wish.weight {
                wishes.weights.resize(REGIONS_MAX, 0);
                wishes.weights[at] = weight;
            }
        }
        wishes.rules = wished
            .pins
            .iter()
            .map(|pin| {
                let (regions, mask) = (among(&pin.regions), mask(&pin.regions) & eligible);
                Rule { whom: pin.whom, force: pin.force, regions, mask }
            })
            .filter(|rule| rule.mask != 0)
            .collect();
        wishes
    }

    /// The nearest healthy one of these regions, and nothing else.
    #[must_use]
    pub fn nearest(legal: RegionMask) -> Self {
        let legal = legal & regions_up_to(REGIONS_MAX);
        Self {
            legal,
            eligible: legal,
            fallback: 0,
            all_down: AllDown::LastGood,
            stretch: vec![WHOLE; REGIONS_MAX],
            priority: vec![0; REGIONS_MAX],
            weights: Vec::new(),
            no_data: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// The masks that a decision keeps to.
    #[must_use]
    pub fn policy(&self, ttl_s: u32) -> Policy {
        let Self { legal, eligible, fallback, all_down, .. } = *self;
        Policy { legal, eligible, fallback, all_down, ttl_s }
    }

    /// The regions where the site's data may be and that have an address.
    #[must_use]
    pub fn legal(&self) -> RegionMask {
        self.legal
    }

    /// The regions that may be named, also only while the others are down.
    #[must_use]
    pub fn nameable(&self) -> RegionMask {
        self.eligible | self.fallback
    }

    pub(super) fn eligible(&self) -> RegionMask {
        self.eligible
    }

    pub(super) fn no_data(&self) -> &[u8] {
        &self.no_data
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What a region's distances count, in percent.
    #[must_use]
    pub fn stretch(&self, region: usize) -> u8 {
        self.stretch.get(region).copied().unwrap_or(WHOLE)
    }

    /// A region's priority: lower is named first.
    #[must_use]
    pub fn priority(&self, region: usize) -> u8 {
        self.priority.get(region).copied().unwrap_or(0)
    }

    /// A region's part of the clients; none if distance decides.
    #[must_use]
    pub fn weight(&self, region: usize) -> Option<u32> {
        if self.weights.is_empty() { None } else { self.weights.get(region).copied() }
    }

    /// The rule for a client, by its address or by what is known of it: the narrowest.
    #[must_use]
    pub fn rule(&self, address: IpAddr, location: &Location) -> Option<&Rule> {
        let address = match spot(address) {
            Spot::V4 { address, .. } => IpAddr::V4(address.into()),
            Spot::V6(bits) => IpAddr::V6(bits.into()),
        };
        let of_block = self.rules.iter().filter_map(|rule| match rule.whom {
            Whom::Block(block) if within(address, block) => Some((block.length(), rule)),
            _ => None,
        });
        let longest = of_block.max_by_key(|(length, _)| *length).map(|(_, rule)| rule);
        longest.or_else(|| self.rules.get(self.rule_of(location)?))
    }

    /// The rule for a location, by its index; rules for blocks are not looked at.
    pub(super) fn rule_of(&self, location: &Location) -> Option<usize> {
        let of = |whom: Whom| self.rules.iter().position(|rule| rule.whom == whom);
        let asn = || location.asn.and_then(|asn| of(Whom::Asn(asn)));
        let country = || location.country.and_then(|country| of(Whom::Country(country)));
        let continent = || location.continent().and_then(|continent| of(Whom::Continent(continent)));
        if self.rules.is_empty() { None } else { asn().or_else(country).or_else(continent) }
    }
}

fn within(address: IpAddr, block: Cidr) -> bool {
    address.is_ipv4() == block.first().is_ipv4() && Cidr::around(address, block.length()) == Some(block)
}

#[cfg(test)]
pub(super) mod tests;
