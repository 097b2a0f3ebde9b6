//! What steering promises whatever sites wish: over many random worlds, and with `MERIDIAN_LONG` over two million each.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use proptest::prelude::*;
use region_config::{
    AllDown, Cidr, Config, Continent, Force, Pin, RegionId, RegionMask, RegionWish, SiteSteering, Whom,
};

use super::{
    tests::{address, base_of, config, fleet, here, ranges, state, within},
    *,
};
use crate::health::RegionState::{self, Down};

/// Regions in these worlds.
const REGIONS: usize = 8;

/// Whether two million questions are asked for each promise.
fn long() -> bool {
    std::env::var_os("MERIDIAN_LONG").is_some()
}

/// How many worlds there are.
fn worlds() -> ProptestConfig {
    ProptestConfig { max_shrink_iters: 500, ..ProptestConfig::with_cases(if long() { 4_000 } else { 40 }) }
}

/// A site with random wishes in a world of random ranges.
#[derive(Debug)]
struct World {
    config: Config,
    base: Base,
    wishes: Wishes,
    map: Map,
    legal: RegionMask,
}

fn names(mask: RegionMask) -> Vec<RegionId> {
    (0..REGIONS).filter(|at| mask >> at & 1 == 1).map(|at| here(&format!("r{at}"))).collect()
}

fn whom() -> impl Strategy<Value = Whom> {
    prop_oneof![
        (address(), 0u8..33).prop_map(|(address, length)| Whom::Block(Cidr::around(address, length).unwrap())),
        (0u32..6).prop_map(Whom::Asn),
        prop::sample::select(vec![*b"DE", *b"US", *b"JP", *b"ZZ"]).prop_map(Whom::Country),
        prop::sample::select(vec![Continent::Europe, Continent::Asia]).prop_map(Whom::Continent),
    ]
}

fn pin() -> impl Strategy<Value = Pin> {
    (whom(), prop::bool::ANY, 1u64..256).prop_map(|(whom, only, regions)| Pin {
        whom,
        force: if only { Force::Only } else { Force::Prefer },
        regions: names(regions),
    })
}

fn wish() -> impl Strategy<Value = RegionWish> {
    (0..REGIONS, prop::option::of(0u32..5), -99i32..100, 0u8..3).prop_map(|(region, weight, bias_percent, priority)| {
        RegionWish { region: here(&format!("r{region}")), weight, bias_percent, priority }
    })
}

fn steering() -> impl Strategy<Value = SiteSteering> {
    let masks = (prop_oneof![Just(0u64), 1u64..256], prop_oneof![Just(0u64), 0u64..256], 0u64..256, 0u64..256);
    let all_down = prop::sample::select(vec![AllDown::LastGood, AllDown::Fallback, AllDown::Fail]);
    let lists = (prop::collection::vec(wish(), 0..4), prop::collection::vec(pin(), 0..6));
    (masks, all_down, lists).prop_map(|((allow, deny, no_data, fallback), all_down, (regions, pins))| SiteSteering {
        allow: names(allow),
        deny: names(deny),
        regions,
        pins,
        no_data: names(no_data),
        all_down,
        fallback: if all_down == AllDown::Fallback { names(fallback) } else { Vec::new() },
    })
}

/// Parts of each list by load, drawn by numbers.
fn shares(map: &Map, legal: RegionMask, drawn: &[u8]) -> Shares {
    let lists: Vec<Vec<(usize, f64)>> = (0..map.size().0)
        .map(|id| {
            let part = |(at, region)| (region, f64::from(drawn[(id + at) % drawn.len()]) / 255.0);
            map.list(id, legal).enumerate().map(part).collect()
        })
        .collect();
    Shares::by_load(lists.iter().map(|parts| parts.as_slice().into()))
}

fn world() -> impl Strategy<Value = World> {
    let shared = prop::option::of(prop::collection::vec(any::<u8>(), 5));
    (ranges(), steering(), 0u64..256, 0..REGIONS, shared).prop_map(|(ranges, steering, legal, asked, shared)| {
        let mut config = config(REGIONS);
        let site = site(&steering);
        for (at, region) in config.regions.iter_mut().enumerate() {
            let inside = if legal >> at & 1 == 1 { "eu" } else { "us" };
            region.jurisdiction = region_config::JurisdictionId::parse(inside).unwrap();
        }
        let base = base_of(&ranges);
        let wishes = Wishes::of(&config, &site, RegionMask::MAX);
        let map = Map::compile(&config, &base, &wishes, &here(&format!("r{asked}")));
        let map = match shared {
            Some(drawn) => map.sharing(shares(&map, RegionMask::MAX, &drawn)),
            None => map,
        };
        World { config, base, wishes, map, legal }
    })
}

/// A site that is pinned to the jurisdiction that some regions lie in.
fn site(steering: &SiteSteering) -> region_config::Site {
    let text = "[node]\nname = \"a\"\n[http]\nlisten = \"127.0.0.1:80\"\n[[sites]]\nname = \"s\"\nhosts = \"a.test\"\n\
                origin = \"http://192.0.2.1\"\n";
    let checked = region_config::check(&[("f.toml", text)]).unwrap();
    let mut site = region_config::Site::clone(&checked.config.sites[0]);
    site.pin = Some(region_config::JurisdictionId::parse("eu").unwrap());
    site.steering = steering.clone();
    site
}

fn questions() -> impl Strategy<Value = Vec<(IpAddr, Vec<RegionState>)>> {
    prop::collection::vec((address(), prop::collection::vec(state(), REGIONS)), if long() { 500 } else { 50 })
}

impl World {
    /// Whether some address in the other half of the next wider block is on another list. It walks there from this block, by
    /// the scopes of what it meets.
    fn differs_beside(&self, address: Ipv4Addr, length: u8, standing: &Standing) -> bool {
        let size = 1u64 << (32 - length);
        let first = u64::from(address.to_bits()) / size * size;
        let other = first ^ size;
        let mut at = if other > first { other } else { other + size - 1 };
        while (other..other + size).contains(&at) {
            let now = Ipv4Addr::from_bits(u32::try_from(at).unwrap());
            if self.map.list_id(now.into()) != self.map.list_id(address.into()) {
                return true;
            }
            let scope = self.decide(now.into(), !0, standing).scope;
            let size = 1u64 << (32 - scope);
            let first = at / size * size;
            at = if other > u64::from(address.to_bits()) { first + size } else { first.wrapping_sub(1) };
        }
        false
    }

    fn policy(&self) -> Policy {
        self.wishes.policy(30)
    }

    fn decide<'a>(&'a self, address: IpAddr, reachable: RegionMask, standing: &'a Standing) -> Decision<'a> {
        decide(address, reachable, &self.policy(), &self.map, standing)
    }
}

fn standing(states: &[RegionState]) -> Standing {
    Standing::of(&fleet(states))
}

/// The same with some regions that have just come back: which ones, the states say.
fn restless(states: &[RegionState]) -> Standing {
    let sum: usize = states.iter().map(|state| *state as usize).sum();
    let mut fleet = fleet(states);
    for (at, region) in fleet.regions.iter_mut().enumerate() {
        region.part_percent = [100, 10, 46, 91][(sum * (at + 3) + at) % 4];
        region.pending = (sum + at).is_multiple_of(3);
    }
    Standing::of(&fleet)
}

proptest! {
    #![proptest_config(worlds())]

    #[test]
    fn whatever_is_wished_only_legal_regions_are_named_and_a_refusal_has_its_cause(
        world in world(),
        reachable in prop_oneof![Just(0xffu64), 0u64..256],
        questions in questions(),
    ) {
        let policy = world.policy();
        prop_assert_eq!(policy.legal, world.legal);
        prop_assert_eq!((policy.eligible | policy.fallback) & !world.legal, 0);
        for (address, states) in &questions {
            let standing = restless(states);
            let decision = world.decide(*address, reachable, &standing);
            let named: Vec<usize> = decision.order().collect();
            prop_assert!(named.iter().all(|region| (world.legal & reachable) >> region & 1 == 1));
            prop_assert_eq!(decision.region(), named.first().copied());
            let mut once = named.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), named.len(), "each once");
            prop_assert!(named.is_sorted_by_key(|region| states[*region]), "{:?} {:?}", named, states);
            let may = policy.eligible & reachable & world.map.listed(*address).mask;
            let refused = matches!(decision.outcome, Outcome::Refuse(_));
            prop_assert!(may != 0 || refused || decision.outcome == Outcome::Fallback, "{:?}", decision.outcome);
            match decision.outcome {
                Outcome::Refuse(Refusal::NoRegion) => prop_assert_eq!(may, 0),
                Outcome::Refuse(Refusal::NoAddress) => prop_assert_eq!(policy.eligible & reachable, 0),
                Outcome::Refuse(Refusal::AllDown) => {
                    // the site's, not the rule's alone, nor those with an address of this family
                    let of_site = policy.eligible;
                    prop_assert!((0..REGIONS).all(|at| of_site >> at & 1 == 0 || states[at] == Down));
                    prop_assert_eq!(policy.all_down, AllDown::Fail);
                }
                Outcome::Refuse(Refusal::Invariant) => prop_assert!(false, "the last check had something to do"),
                Outcome::Fallback => {
                    let of_site = policy.eligible & reachable;
                    prop_assert!((0..REGIONS).all(|at| of_site >> at & 1 == 0 || states[at] == Down));
                }
                _ => prop_assert!(!named.is_empty()),
            }
            if named.iter().any(|region| may >> region & 1 == 1 && states[*region] != Down) {
                prop_assert_ne!(states[named[0]], Down);
            }
        }
    }

    #[test]
    fn explanations_name_every_region_once_and_say_what_the_answer_says(world in world(), questions in questions()) {
        let policy = world.policy();
        for (address, states) in &questions {
            let standing = restless(states);
            let decision = world.decide(*address, !0, &standing);
            let told = explain(*address, !0, (&world.wishes, &policy), &world.map, &standing, (&world.config, &world.base));
            let regions: Vec<&RegionId> = told.regions.iter().map(|region| &region.region).collect();
            prop_assert_eq!(regions, world.config.regions.iter().map(|region| &region.name).collect::<Vec<_>>());
            let mut placed: Vec<_> = told.regions.iter().enumerate().filter_map(|(at, it)| Some((it.place?, at))).collect();
            placed.sort_unstable();
            prop_assert_eq!(placed.iter().map(|(_, at)| *at).collect::<Vec<_>>(), decision.order().collect::<Vec<_>>());
            for (at, region) in told.regions.iter().enumerate() {
                prop_assert_eq!(region.reason == Reason::Outside, world.legal >> at & 1 == 0);
                prop_assert!(region.share.unwrap_or(0.0) <= 0.0 || world.legal >> at & 1 == 1, "a share outside");
                prop_assert_eq!(region.reason == Reason::Chosen, decision.region() == Some(at));
            }
            let parts: Vec<f64> = told.regions.iter().filter_map(|region| region.share).collect();
            let sum: f64 = parts.iter().sum();
            prop_assert!(parts.is_empty() || (sum - 1.0).abs() < 1e-9, "{sum}");
        }
    }

    #[test]
    fn all_addresses_of_a_scope_get_one_answer_and_scopes_do_not_overlap(
        world in world(),
        questions in questions(),
        low in prop::collection::vec(any::<u128>(), 4),
    ) {
        let standing = restless(&questions[0].1);
        let mut blocks = Vec::new();
        for (address, _) in &questions {
            let decision = world.decide(*address, !0, &standing);
            let block = decision.block(*address);
            for low in &low {
                let other = within(block, *low);
                let same = world.decide(other, !0, &standing);
                prop_assert!(same.order().eq(decision.order()), "{} and {} in {:?}", address, other, block);
                prop_assert_eq!((same.scope, same.ttl_s, same.outcome), (decision.scope, decision.ttl_s, decision.outcome));
            }
            blocks.push(block);
        }
        blocks.sort_unstable_by_key(|block| (block.first, block.length));
        blocks.dedup();
        // what is inside of a block comes right behind it
        for pair in blocks.windows(2) {
            let same_family = pair[0].first.is_ipv4() == pair[1].first.is_ipv4();
            let inside = same_family && Block::around(pair[1].first, pair[0].length) == pair[0];
            prop_assert!(!inside, "{:?}", pair);
        }
    }

    #[test]
    fn no_scope_could_be_wider(world in world(), questions in questions()) {
        let standing = standing(&questions[0].1);
        for (address, _) in &questions {
            let IpAddr::V4(v4) = address else { continue };
            let decision = world.decide(*address, !0, &standing);
            let block = decision.block(*address);
            // where clients are shared out, those of a /24 go together
            if block.length > 0 && decision.share(0).is_none() {
                prop_assert!(world.differs_beside(*v4, block.length, &standing), "{} in {:?}", address, block);
            }
        }
    }

    #[test]
    fn two_nodes_with_the_same_inputs_give_the_same_answers(world in world(), questions in questions()) {
        let site = Arc::new(world.wishes.clone());
        let again = Map::compile(&world.config, &world.base.clone(), &site, &here("r3"));
        let once_more = Map::compile(&world.config, &world.base, &world.wishes, &here("r3"));
        for (address, states) in &questions {
            let (a, b) = (restless(states), restless(states));
            let policy = world.policy();
            let (here, there) = (decide(*address, !0, &policy, &again, &a), decide(*address, !0, &policy, &once_more, &b));
            prop_assert!(here.order().eq(there.order()));
            prop_assert_eq!((here.scope, here.ttl_s, here.outcome), (there.scope, there.ttl_s, there.outcome));
        }
    }

    #[test]
    fn a_regions_death_changes_nothing_but_that_regions_place(
        world in world(),
        questions in questions(),
        dead in 0..REGIONS,
    ) {
        for (address, states) in &questions {
            let mut after = states.clone();
            after[dead] = Down;
            let (before, after) = (standing(states), standing(&after));
            let (before, after) = (world.decide(*address, !0, &before), world.decide(*address, !0, &after));
            // a fallback, or a failure, for when all are down is a change that is wished
            let wished = |outcome| matches!(outcome, Outcome::Fallback | Outcome::Refuse(Refusal::AllDown));
            if wished(before.outcome) || wished(after.outcome) {
                continue;
            }
            prop_assert_eq!(before.scope, after.scope, "scopes do not follow health");
            // whoever was not led there stays; its own clients get others, in the order that those had
            if before.region() != Some(dead) {
                prop_assert_eq!(before.region(), after.region());
            }
            let by_list = |decision: &Decision<'_>| {
                decision.order().skip(usize::from(decision.share(0).is_some())).filter(|at| *at != dead).collect::<Vec<_>>()
            };
            if before.share(0).is_none() {
                prop_assert_eq!(by_list(&before), by_list(&after));
            }
        }
    }

    #[test]
    fn a_region_that_comes_back_gives_up_some_of_its_own_clients_for_a_minute_and_changes_nothing_else(
        world in world(),
        questions in questions(),
        back in 0..REGIONS,
    ) {
        for (address, states) in &questions {
            let whole = standing(states);
            let whole = world.decide(*address, !0, &whole);
            let parts = [1u8, 10, 46, 91, 99].map(|part| {
                let mut fleet = fleet(states);
                fleet.regions[back].part_percent = part;
                Standing::of(&fleet)
            });
            let led = parts.each_ref().map(|standing| world.decide(*address, !0, standing));
            let serves = matches!(states[back], RegionState::Up | RegionState::Degraded);
            let alone = !serves || (0..REGIONS).filter(|at| whole.order().any(|it| it == *at) && states[*at] == states[back]).count() < 2;
            for decision in &led {
                let mut named = [whole.order().collect::<Vec<_>>(), decision.order().collect()];
                named.iter_mut().for_each(|order| order.sort_unstable());
                prop_assert_eq!(&named[0], &named[1], "the same regions may be named");
                if whole.region() != Some(back) || alone {
                    prop_assert_eq!(decision.region(), whole.region());
                } else {
                    let region = decision.region().unwrap();
                    prop_assert_eq!(states[region], states[back], "never a less healthy one");
                    prop_assert!(decision.ttl_s <= 10);
                    prop_assert_eq!(decision.reason(back) == Reason::Returning, region != back);
                }
            }
            // who has come back stays
            let home = led.each_ref().map(|decision| decision.region() == whole.region());
            prop_assert!(home.is_sorted(), "{:?}", home);
        }
    }
}
