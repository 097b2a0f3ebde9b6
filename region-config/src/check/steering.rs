//! What sites wish of steering: regions that are there and may be named, and rules that do not contradict each other.

use std::collections::BTreeSet;

use super::{Known, site::about, unique, unknown};
use crate::{
    build::steering,
    fault::{Gatherer, Place},
    ids::{JurisdictionId, RegionId},
    shape::At,
    steering::{AllDown, Cidr, PINS_MAX, WISHES_MAX, Whom},
    written::{
        RegionSection, Root, SiteSection,
        steering::{PinSection, SteeringSection, WishSection},
    },
};

/// Blocks whose addresses carry IPv4 addresses, which are what is looked up: mapped, NAT64, 6to4, Teredo.
const CARRIERS: [(&str, u8); 4] = [("::ffff:0:0", 96), ("64:ff9b::", 96), ("2002::", 16), ("2001::", 32)];

/// The regions that a site may name, as far as they could be read.
struct Nameable<'a> {
    /// All there are, each with its jurisdiction; none if one could not be read, so that nothing can be said.
    all: Option<Vec<(&'a RegionId, &'a JurisdictionId)>>,
    /// Those where the site's data may be.
    legal: BTreeSet<&'a RegionId>,
    /// Those of them that `allow` and `deny` leave.
    allowed: BTreeSet<&'a RegionId>,
    /// Those with an IPv4 address, if DNS names any.
    ipv4: Option<BTreeSet<&'a RegionId>>,
}

/// Sites that wish the same share what is made of it; others each cost memory on every node that answers DNS.
pub(super) fn different(root: &Root, gatherer: &mut Gatherer) {
    let mut known = Vec::new();
    for site in &root.sites {
        let Some(section) = site.value.steering.as_ref() else { continue };
        let wished = (site.value.pin.as_ref().map(|pin| &pin.value), steering::of(&section.value));
        if known.contains(&wished) {
            continue;
        }
        if known.len() == WISHES_MAX {
            let found = format!("`steering` that differs from that of {WISHES_MAX} sites before");
            let expected =
                format!("at most {WISHES_MAX} different ones: each takes memory, sites that wish the same share it");
            gatherer.error(section.place, &about(&site.value), found, expected);
            return;
        }
        known.push(wished);
    }
}

pub(super) fn check(site: &SiteSection, about: &str, root: &Root, known: &Known<'_>, gatherer: &mut Gatherer) {
    let Some(section) = site.steering.as_ref() else { return };
    if root.regions.is_empty() {
        let found = "`steering`, though there is one region only";
        gatherer.error(section.place, about, found, "`[[regions]]`, or no such table");
        return;
    }
    let nameable = Nameable::of(site, &section.value, root, known);
    lists(section, about, &nameable, gatherer);
    wishes(&section.value, about, &nameable, gatherer);
    pins(&section.value, about, &nameable, gatherer);
    all_down(&section.value, section.place, about, gatherer);
}

impl<'a> Nameable<'a> {
    fn of(site: &'a SiteSection, section: &'a SteeringSection, root: &'a Root, known: &Known<'_>) -> Self {
        let named = root
            .regions
            .iter()
            .map(|it| Some((&it.value.name.as_ref()?.value, &it.value.jurisdiction.as_ref()?.value)));
        let all: Option<Vec<_>> = named.collect::<Option<Vec<_>>>().filter(|_| known.jurisdictions_whole);
        let inside = |at: &JurisdictionId| site.pin.as_ref().is_none_or(|pin| pin.value == *at);
        let legal: BTreeSet<_> =
            all.iter().flatten().filter(|(_, jurisdiction)| inside(jurisdiction)).map(|(name, _)| *name).collect();
        let has = |list: &[At<RegionId>], name: &RegionId| list.iter().any(|it| it.value == *name);
        let left =
            |name: &&&RegionId| (section.allow.is_empty() || has(&section.allow, name)) && !has(&section.deny, name);
        let allowed = legal.iter().filter(left).copied().collect();
        let has_ipv4 = |it: &&'a At<RegionSection>| {
            it.value.nodes.iter().flat_map(|node| &node.value.addresses).any(|address| address.value.is_ipv4())
        };
        let ipv4: BTreeSet<_> =
            root.regions.iter().filter(has_ipv4).filter_map(|it| Some(&it.value.name.as_ref()?.value)).collect();
        let ipv4 = Some(ipv4).filter(|some| !root.zones.is_empty() && !some.is_empty());
        Self { all, legal, allowed, ipv4 }
    }

    /// Notes a region that is not there.
    fn exists(&self, region: &At<RegionId>, about: &str, gatherer: &mut Gatherer) -> bool {
        let Some(all) = &self.all else { return false };
        let there = all.iter().any(|(name, _)| **name == region.value);
        if !there {
            unknown(region, "region", about, all.iter().map(|(name, _)| name.as_str()), gatherer);
        }
        there
    }

    /// Notes a region that is not where the site's data may be.
    fn is_legal(&self, region: &At<RegionId>, about: &str, gatherer: &mut Gatherer) -> bool {
        if !self.exists(region, about, gatherer) {
            return false;
        }
        let legal = self.legal.contains(&region.value);
        if !legal {
            let found = format!("region `{}` lies outside the jurisdiction that the site is pinned to", region.value);
            gatherer.error(region.place, about, found, "a region inside it");
        }
        legal
    }

    /// Notes a region that may not be named.
    fn is_allowed(&self, region: &At<RegionId>, about: &str, gatherer: &mut Gatherer) {
        if self.is_legal(region, about, gatherer) && !self.allowed.contains(&region.value) {
            let found = format!("`allow` and `deny` leave out region `{}`", region.value);
            gatherer.error(region.place, about, found, "a region that may be named");
        }
    }
}

/// The lists of regions: an empty one is a slip, and must not mean everything.
fn lists(section: &At<SteeringSection>, about: &str, nameable: &Nameable<'_>, gatherer: &mut Gatherer) {
    let SteeringSection { allow, deny, no_data, fallback, written, .. } = &section.value;
    for (key, list) in [("allow", allow), ("deny", deny), ("no_data", no_data), ("fallback", fallback)] {
        if list.is_empty() && written.contains(&key) {
            let found = format!("`steering.{key}` has nothing in it");
            gatherer.error(section.place, about, found, "at least one region, or no such line");
        }
        unique(list, "region", about, gatherer);
    }
    for region in deny {
        nameable.exists(region, about, gatherer);
    }
    for region in allow.iter().chain(fallback) {
        nameable.is_legal(region, about, gatherer);
    }
    for region in no_data {
        nameable.is_allowed(region, about, gatherer);
    }
    if nameable.all.is_some() && !nameable.legal.is_empty() && nameable.allowed.is_empty() {
        let found = "`allow` and `deny` leave no region of those that the site's data may be in";
        gatherer.error(section.place, about, found, "at least one region, or nobody could serve it");
    }
}

fn wishes(section: &SteeringSection, about: &str, nameable: &Nameable<'_>, gatherer: &mut Gatherer) {
    unique(section.regions.iter().filter_map(|it| it.value.region.as_ref()), "region", about, gatherer);
    for wish in &section.regions {
        if let Some(region) = &wish.value.region {
            nameable.is_allowed(region, about, gatherer);
        }
        if let [("weight", false), ("bias", false), ("priority", false)] =
            ["weight", "bias", "priority"].map(|key| (key, wish.value.written.contains(&key)))
        {
            gatherer.error(wish.place, about, "nothing is said of the region", "`weight`, `bias` or `priority`");
        }
    }
    let weight = |it: &At<WishSection>| it.value.weight.as_ref().map(|weight| weight.value.0);
    let mut weights = section.regions.iter().filter(|it| weight(it).is_some()).peekable();
    if let Some(first) = weights.peek().copied()
        && weights.all(|it| weight(it) == Some(0))
    {
        gatherer.error(first.place, about, "all weights are 0", "at least one region with a weight above 0");
    }
}

fn pins(section: &SteeringSection, about: &str, nameable: &Nameable<'_>, gatherer: &mut Gatherer) {
    let count: usize = section.pins.iter().map(|it| whom_count(&it.value)).sum();
    if let (Some(pin), true) = (section.pins.last(), count > PINS_MAX) {
        gatherer.error(pin.place, about, format!("{count} rules for clients"), format!("at most {PINS_MAX}"));
    }
    for pin in &section.pins {
        one_pin(pin, about, nameable, gatherer);
    }
    let pins = || section.pins.iter().map(|it| &it.value);
    unique(pins().flat_map(|it| &it.cidr), "a rule for", about, gatherer);
    let whole = |whom: fn(&PinSection) -> Vec<At<Whom>>| pins().flat_map(whom).collect::<Vec<_>>();
    let asns = whole(|it| it.asn.iter().map(|it| At { value: Whom::Asn(it.value.small()), place: it.place }).collect());
    let countries =
        whole(|it| it.country.iter().map(|it| At { value: Whom::Country(it.value.0), place: it.place }).collect());
    let continents =
        whole(|it| it.continent.iter().map(|it| At { value: Whom::Continent(it.value), place: it.place }).collect());
    for list in [&asns, &countries, &continents] {
        unique(list, "a rule for", about, gatherer);
    }
}

fn whom_count(pin: &PinSection) -> usize {
    pin.cidr.len() + pin.asn.len() + pin.country.len() + pin.continent.len()
}

fn one_pin(pin: &At<PinSection>, about: &str, nameable: &Nameable<'_>, gatherer: &mut Gatherer) {
    let PinSection { cidr, only, prefer, written, .. } = &pin.value;
    let kinds = ["cidr", "asn", "country", "continent"].iter().filter(|key| written.contains(key)).count();
    if kinds != 1 || (whom_count(&pin.value) == 0 && !gatherer.failed()) {
        let found = "a rule that is not for one kind of clients";
        gatherer.error(
            pin.place,
            about,
            found,
            "one of `cidr`, `asn`, `country` and `continent`, with at least one in it",
        );
    }
    let forces = ["only", "prefer"].iter().filter(|key| written.contains(key)).count();
    if forces != 1 || (only.is_empty() && prefer.is_empty() && !gatherer.failed()) {
        let found = "a rule that does not say one thing";
        gatherer.error(pin.place, about, found, "one of `only` and `prefer`, with at least one region in it");
    }
    unique(only, "region", about, gatherer);
    unique(prefer, "region", about, gatherer);
    for region in only.iter().chain(prefer) {
        nameable.is_allowed(region, about, gatherer);
    }
    if let (Some(ipv4), Some(first)) = (&nameable.ipv4, only.first())
        && !only.iter().any(|it| ipv4.contains(&it.value))
    {
        let found = "no region of the rule has an IPv4 address";
        gatherer.error(first.place, about, found, "a region with one: these clients could not be answered");
    }
    for block in cidr.iter().filter(|it| carries_ipv4(it.value)) {
        let found = format!("addresses in `{}` carry IPv4 addresses, by which their place is looked up", block.value);
        gatherer.error(block.place, about, found, "the IPv4 block");
    }
}

fn carries_ipv4(block: Cidr) -> bool {
    CARRIERS.iter().any(|(prefix, length)| {
        let Ok(prefix) = prefix.parse() else { return false };
        // a block is no longer than /64: what begins with the first bits of a longer prefix holds little else
        let length = (*length).min(64);
        block.length() >= length && Cidr::around(block.first(), length) == Cidr::around(prefix, length)
    })
}

fn all_down(section: &SteeringSection, place: Place, about: &str, gatherer: &mut Gatherer) {
    let wanted = section.all_down.as_ref();
    let fallback = wanted.is_some_and(|it| it.value == AllDown::Fallback);
    match (fallback, section.fallback.first()) {
        (true, None) if !section.written.contains(&"fallback") => {
            let at = wanted.map_or(place, |it| it.place);
            gatherer.error(
                at,
                about,
                "`all_down` is `fallback`, but there is no `fallback`",
                "`fallback` with regions",
            );
        }
        (false, Some(first)) => {
            let found = "`fallback` names regions, but `all_down` does not ask for them";
            gatherer.error(first.place, about, found, "`all_down = \"fallback\"`, or no `fallback`");
        }
        _ => {}
    }
}
