//! What steering promises, over many random worlds.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use region_config::{Config, Limits, Node, NodeConfig, NodeId, Region, RegionId, RegionMask};

use super::*;
use crate::health::{Fleet, NodeState, NodeView, RegionState, RegionView};

const CITIES: [(f64, f64); 8] = [
    (50.1, 8.7),
    (39.0, -77.5),
    (1.3, 103.8),
    (-33.9, 151.2),
    (-23.5, -46.6),
    (37.4, -122.1),
    (53.3, -6.3),
    (35.7, 139.7),
];

pub(super) fn config(regions: usize) -> Config {
    let region = |index: usize| Region {
        name: RegionId::parse(&format!("r{index}")).unwrap(),
        latitude: CITIES[index].0,
        longitude: CITIES[index].1,
        jurisdiction: region_config::JurisdictionId::parse("eu").unwrap(),
        capacity_per_second: None,
        nodes: vec![Node { name: NodeId::parse(&format!("n{index}")).unwrap(), peer: None, addresses: vec![] }],
    };
    Config {
        node: NodeConfig {
            name: NodeId::parse("n0").unwrap(),
            region: RegionId::parse("r0").unwrap(),
            state_dir: ".".into(),
            http: vec![],
            https: vec![],
            dns: vec![],
            dns_terms: region_config::DnsTerms::default(),
            admin: None,
            peer: None,
            identity: None,
            workers: 1,
            memory_bytes: 0,
            disk_bytes: 0,
            geo: region_config::Geo::default(),
            access_log: None,
            purge: None,
            resolvers: Vec::new(),
            limits: Limits::default(),
        },
        jurisdictions: vec![],
        regions: (0..regions).map(region).collect(),
        zones: vec![],
        tenants: vec![],
        sites: vec![],
        tokens: Vec::new(),
        witnesses: vec![],
        streams: vec![],
        fingerprint: [0; 32],
    }
}

pub(super) fn fleet(states: &[RegionState]) -> Fleet {
    let view = |(at, state): (usize, &RegionState)| RegionView {
        name: here(&format!("r{at}")),
        state: *state,
        since_unix_ms: 0,
        pending: false,
        recent: false,
        part_percent: 100,
        nodes: vec![NodeView { name: NodeId::parse("n").unwrap(), state: NodeState::Up, rtt_us: None }],
        votes: vec![],
    };
    Fleet { epoch: 1, minority: false, regions: states.iter().enumerate().map(view).collect() }
}

fn standing(states: &[RegionState]) -> Standing {
    Standing::of(&fleet(states))
}

pub(super) fn here(name: &str) -> RegionId {
    RegionId::parse(name).unwrap()
}

/// A map of a site without wishes.
fn nearest(config: &Config, base: &Base, mask: RegionMask, asked: &str) -> Map {
    Map::compile(config, base, &Wishes::nearest(mask), &here(asked))
}

/// Germany in 84.0.0.0/8 and 2003::/19, California in 128.32.0.0/16, Japan in 133.0.0.0/8.
fn small_base() -> Base {
    let mut builder = BaseBuilder::new();
    let mut at = |code: &[u8; 2], n, e| {
        let point = Point::from_degrees(n, e);
        builder.location(Location { country: Some(*code), point, ..Location::NOWHERE })
    };
    let [de, us, jp] = [at(b"DE", 51.0, 10.4), at(b"US", 37.9, -122.3), at(b"JP", 36.5, 138.0)];
    builder.range_v4(84 << 24, (85 << 24) - 1, de).unwrap();
    builder.range_v4(0x8020_0000, 0x8020_ffff, us).unwrap();
    builder.range_v4(133 << 24, (134 << 24) - 1, jp).unwrap();
    builder.range_v6(0x2003 << 112, (0x2003_2000 << 96) - 1, de).unwrap();
    builder.finish()
}

/// What was decided, of its own.
struct Told {
    region: Option<usize>,
    order: Vec<usize>,
    reasons: Vec<Reason>,
    outcome: Outcome,
    scope: u8,
    ttl_s: u32,
}

impl From<Decision<'_>> for Told {
    fn from(decision: Decision<'_>) -> Self {
        let Decision { outcome, scope, ttl_s, .. } = decision;
        let reasons = (0..8).map(|region| decision.reason(region)).collect();
        Self { region: decision.region(), order: decision.order().collect(), reasons, outcome, scope, ttl_s }
    }
}

fn ask(address: &str, mask: RegionMask, states: &[RegionState]) -> Told {
    let config = config(states.len());
    let map = nearest(&config, &small_base(), mask, "r2");
    let policy = Wishes::nearest(mask).policy(30);
    decide(address.parse().unwrap(), RegionMask::MAX, &policy, &map, &standing(states)).into()
}

use RegionState::{Degraded, Down, Draining, Unknown, Up};

#[test]
fn each_client_gets_the_nearest_region() {
    for (address, region) in [
        ("84.160.0.1", 0),
        ("128.32.9.9", 1),
        ("133.11.0.1", 2),
        ("2003::1", 0),
        ("::ffff:133.11.0.1", 2),
        ("2002:8020:909::1", 1),
        ("64:ff9b::84.160.0.1", 0),
    ] {
        let decision = ask(address, 0b1111, &[Up; 4]);
        assert_eq!(decision.region, Some(region), "{address}");
        assert_eq!((decision.outcome, decision.ttl_s), (Outcome::Normal, 30));
    }
}

#[test]
fn an_unknown_address_gets_the_region_that_was_asked_or_the_first_of_the_config() {
    for (mask, order, origin) in [
        (0b1111, &[2, 3, 0, 1][..], Origin::Asked),
        (0b1011, &[0, 1, 3], Origin::Configured),
        (0b1, &[0], Origin::Configured),
    ] {
        let (config, base) = (config(4), small_base());
        let map = nearest(&config, &base, mask, "r2");
        let policy = Wishes::nearest(mask).policy(30);
        let address = "10.1.2.3".parse().unwrap();
        let told = explain(address, !0, (&Wishes::nearest(mask), &policy), &map, &standing(&[Up; 4]), (&config, &base));
        let mut named: Vec<_> = told.regions.iter().enumerate().filter_map(|(n, r)| Some((r.place?, n))).collect();
        named.sort_unstable();
        assert_eq!(named.iter().map(|(_, n)| *n).collect::<Vec<_>>(), order);
        assert_eq!(told.origin, origin);
    }
}

#[test]
fn where_there_is_no_choice_the_answer_is_for_everyone() {
    for address in ["84.160.0.1", "10.1.2.3", "128.32.0.1"] {
        assert_eq!(ask(address, 0b10, &[Up; 4]).scope, 0, "{address}");
    }
}

#[test]
fn health_reorders_and_every_region_has_a_reason() {
    let decision = ask("84.160.0.1", 0b1_1111, &[Down, Draining, Up, Degraded, Unknown]);
    assert_eq!(decision.order, [2, 3, 1, 4, 0]);
    assert_eq!((decision.outcome, decision.ttl_s), (Outcome::Failover, 10));
    let expected = [Reason::Down, Reason::Draining, Reason::Chosen, Reason::Degraded, Reason::Unknown, Reason::Outside];
    assert_eq!(decision.reasons[..6], expected);
}

#[test]
fn a_pinned_site_fails_static_inside_when_all_is_down() {
    let decision = ask("84.160.0.1", 0b0110, &[Up, Down, Down, Up]);
    assert_eq!((decision.order.as_slice(), decision.outcome), (&[1, 2][..], Outcome::FailStatic));
    assert_eq!((decision.ttl_s, decision.reasons[0]), (10, Reason::Outside));
}

#[test]
fn nothing_legal_is_a_refusal_and_nothing_reachable_another() {
    assert_eq!(ask("84.160.0.1", 0, &[Up; 4]).outcome, Outcome::Refuse(Refusal::NoRegion));
    let config = config(4);
    let map = nearest(&config, &small_base(), 0b11, "r2");
    let policy = Wishes::nearest(0b11).policy(30);
    let standing = standing(&[Up; 4]);
    let decision = decide("84.0.0.1".parse().unwrap(), 0b1100, &policy, &map, &standing);
    assert_eq!(decision.order().count(), 0);
    assert_eq!(decision.outcome, Outcome::Refuse(Refusal::NoAddress));
    assert_eq!((decision.reason(0), decision.reason(3)), (Reason::NoAddress, Reason::Outside));
}

#[test]
fn a_map_for_more_regions_than_the_policy_allows_names_only_the_allowed_ones() {
    let map = nearest(&config(4), &small_base(), 0b1111, "r0");
    let policy = Wishes::nearest(0b1000).policy(30);
    let standing = standing(&[Up, Up, Up, Down]);
    let told = Told::from(decide("84.0.0.1".parse().unwrap(), !0, &policy, &map, &standing));
    assert_eq!((told.order.as_slice(), told.outcome), (&[3][..], Outcome::FailStatic));
}

#[test]
fn an_answer_that_will_change_soon_is_kept_shortly() {
    let mut fleet = fleet(&[Up; 4]);
    fleet.regions[0].pending = true;
    let map = nearest(&config(4), &small_base(), 0b1111, "r0");
    let policy = Wishes::nearest(0b1111).policy(60);
    let of = |fleet: &Fleet| {
        ["84.0.0.1", "133.11.0.1"]
            .map(|address| decide(address.parse().unwrap(), !0, &policy, &map, &Standing::of(fleet)).ttl_s)
    };
    assert_eq!(of(&fleet), [10, 60]);
    // also while it has just changed
    (fleet.regions[0].pending, fleet.regions[0].recent) = (false, true);
    assert_eq!(of(&fleet), [10, 60]);
    fleet.regions[0].recent = false;
    assert_eq!(of(&fleet), [60, 60]);
    // nobody has said anything yet: the first word may be another one
    fleet.regions.iter_mut().for_each(|region| region.state = Unknown);
    assert_eq!(of(&fleet), [10, 10]);
}

#[test]
fn a_region_that_has_come_back_gets_a_part_of_its_clients_and_the_next_one_the_rest() {
    let map = nearest(&config(4), &small_base(), 0b1111, "r0");
    let policy = Wishes::nearest(0b1111).policy(60);
    let answer = |states: &[RegionState; 4], part_percent: u8, address: &str| {
        let mut fleet = fleet(states);
        fleet.regions[0].part_percent = part_percent;
        Told::from(decide(address.parse().unwrap(), !0, &policy, &map, &Standing::of(&fleet)))
    };
    for part_percent in [10, 46, 91] {
        let told = |cell: u32| answer(&[Up; 4], part_percent, &Ipv4Addr::from_bits(84 << 24 | cell << 8).to_string());
        let all: Vec<Told> = (0..4_000).map(told).collect();
        let at_home = all.iter().filter(|told| told.region == Some(0)).count();
        assert!(at_home.abs_diff(usize::from(part_percent) * 40) < 120, "{part_percent} %: {at_home} of 4000");
        for told in all {
            let led_on = told.region == Some(1);
            assert_eq!(told.outcome, if led_on { Outcome::Shared } else { Outcome::Normal });
            assert_eq!(told.reasons[0], if led_on { Reason::Returning } else { Reason::Chosen });
            assert_eq!((told.scope, told.ttl_s), (24, 10));
        }
    }
    let quiet = |told: Told| (told.region, told.ttl_s, told.scope < 24);
    assert_eq!(quiet(answer(&[Up; 4], 10, "133.11.0.1")), (Some(2), 60, true), "others notice nothing");
    assert_eq!(quiet(answer(&[Up; 4], 100, "84.0.0.1")), (Some(0), 60, true));
    let alone = answer(&[Up, Down, Down, Degraded], 10, "84.0.0.1");
    assert_eq!((alone.region, alone.outcome), (Some(0), Outcome::Normal), "nobody else is as well");
    assert_eq!(answer(&[Down; 4], 10, "84.0.0.1").outcome, Outcome::FailStatic);
    assert_eq!(answer(&[Up; 4], 10, "2003::1").scope, 56);
}

#[test]
fn an_explanation_names_every_region_once_with_its_distance() {
    let (config, base) = (config(4), small_base());
    let map = nearest(&config, &base, 0b0111, "r0");
    let policy = Wishes::nearest(0b0111).policy(30);
    let standing = standing(&[Down, Up, Up, Up]);
    let told = explain(
        "84.160.0.1".parse().unwrap(),
        !0,
        (&Wishes::nearest(0b0111), &policy),
        &map,
        &standing,
        (&config, &base),
    );
    assert_eq!(told.location.country, Some(*b"DE"));
    assert_eq!(told.regions.iter().map(|r| r.place).collect::<Vec<_>>(), [Some(2), Some(0), Some(1), None]);
    assert_eq!(told.regions[3].reason, Reason::Outside);
    assert!(told.regions[0].kilometres.unwrap() < 200);
}

/// Random ranges: (distance from the range before, length, place), ascending; of all sizes.
pub(super) fn ranges() -> impl Strategy<Value = Vec<(u8, u8, Option<usize>)>> {
    prop::collection::vec((0u8..28, 0u8..28, prop::option::of(0usize..20)), 1..60)
}

/// A base of random ranges in both families; the IPv6 ones begin around the carriers' prefixes.
pub(super) fn base_of(ranges: &[(u8, u8, Option<usize>)]) -> Base {
    let mut builder = BaseBuilder::new();
    let places: Vec<LocationId> = (0..20u32)
        .map(|n| {
            let point = Point::from_degrees(f64::from(n) * 8.0 - 80.0, f64::from(n * 47 % 360) - 180.0);
            builder.location(Location { country: Some(*b"ZZ"), point, ..Location::NOWHERE })
        })
        .collect();
    let (mut v4, mut v6) = (0u64, (0x2001u128 << 112) - (1 << 100));
    for (gap, length, place) in ranges {
        let id = place.map_or(0, |place| places[place]);
        v4 += (1 << gap) / 3;
        let last = v4 + (1u64 << length) / 3 + 1;
        if last <= u64::from(u32::MAX) {
            builder.range_v4(u32::try_from(v4).unwrap(), u32::try_from(last).unwrap(), id).unwrap();
        }
        v4 = last + 1;
        v6 += (1 << (gap + 70)) / 3;
        let last = v6 + (1 << (length + 70)) / 3 + 1;
        builder.range_v6(v6, last, id).unwrap();
        v6 = last + 1;
    }
    builder.finish()
}

pub(super) fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        (0u32..1 << 29).prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        (0u32..20, any::<u128>(), 0usize..4).prop_map(|(shift, low, carrier)| {
            let prefix = [0x2001u128 << 112, 0x2002 << 112, 0xffff << 32, 0x64_ff9b << 96][carrier];
            IpAddr::V6(Ipv6Addr::from_bits(prefix ^ (low >> (12 + shift * 5))))
        }),
    ]
}

pub(super) fn state() -> impl Strategy<Value = RegionState> {
    prop::sample::select(vec![Up, Degraded, Draining, Unknown, Down])
}

pub(super) fn within(block: Block, low: u128) -> IpAddr {
    match block.first {
        IpAddr::V4(first) => {
            let inside = u32::MAX.checked_shr(u32::from(block.length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | (u32::try_from(low >> 96).unwrap() & inside)))
        }
        IpAddr::V6(first) => {
            let inside = u128::MAX.checked_shr(u32::from(block.length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() | (low & inside)))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nothing_outside_the_mask_is_ever_named(
        ranges in ranges(),
        mask in 0u64..256,
        reachable in 0u64..256,
        addresses in prop::collection::vec(address(), 8),
        healths in prop::collection::vec(prop::collection::vec(state(), 8), 16),
    ) {
        let map = nearest(&config(8), &base_of(&ranges), mask, "r3");
        let policy = Wishes::nearest(mask).policy(30);
        for states in &healths {
            let standing = standing(states);
            for address in &addresses {
                let decision = decide(*address, reachable, &policy, &map, &standing);
                let legal = mask & reachable;
                let named: Vec<usize> = decision.order().collect();
                prop_assert!(named.iter().all(|region| legal >> region & 1 == 1));
                prop_assert_eq!(named.len(), legal.count_ones() as usize, "all legal ones, each once");
                prop_assert_eq!(legal == 0, matches!(decision.outcome, Outcome::Refuse(_)));
                prop_assert!(named.is_sorted_by_key(|region| states[*region]));
                let all_down = named.iter().all(|region| states[*region] == Down);
                prop_assert_eq!(all_down && legal != 0, decision.outcome == Outcome::FailStatic);
                prop_assert!((5..=30).contains(&decision.ttl_s));
                for region in 0..8 {
                    let reason = decision.reason(region);
                    prop_assert_eq!(reason == Reason::Outside, mask >> region & 1 == 0);
                    prop_assert_eq!(reason == Reason::Chosen, decision.region() == Some(region));
                }
            }
        }
    }

    #[test]
    fn every_address_in_a_scope_gets_the_same_answer_and_scopes_do_not_overlap(
        ranges in ranges(),
        states in prop::collection::vec(state(), 8),
        addresses in prop::collection::vec(address(), 12),
        low in prop::collection::vec(any::<u128>(), 6),
    ) {
        let map = nearest(&config(8), &base_of(&ranges), 0xff, "r3");
        let policy = Wishes::nearest(0xff).policy(30);
        let standing = standing(&states);
        let of = |address: IpAddr| decide(address, !0, &policy, &map, &standing);
        let mut blocks = Vec::new();
        for address in &addresses {
            let decision = of(*address);
            let block = decision.block(*address);
            for low in &low {
                let other = within(block, *low);
                prop_assert_eq!(of(other), decision, "{} and {} in {:?}", address, other, block);
            }
            blocks.push(block);
        }
        for a in &blocks {
            for b in &blocks {
                let shorter = a.length.min(b.length);
                let same_family = a.first.is_ipv4() == b.first.is_ipv4();
                let overlap = same_family && Block::around(a.first, shorter) == Block::around(b.first, shorter);
                prop_assert!(!overlap || a == b, "{:?} {:?}", a, b);
            }
        }
    }

    #[test]
    fn a_regions_death_only_moves_that_region(
        ranges in ranges(),
        states in prop::collection::vec(state(), 8),
        address in address(),
        dead in 0usize..8,
    ) {
        let map = nearest(&config(8), &base_of(&ranges), 0xff, "r3");
        let policy = Wishes::nearest(0xff).policy(30);
        let others = |states: &[RegionState]| -> Vec<usize> {
            let standing = standing(states);
            decide(address, !0, &policy, &map, &standing).order().filter(|region| *region != dead).collect()
        };
        let mut after = states.clone();
        after[dead] = Down;
        prop_assert_eq!(others(&states), others(&after));
    }
}

/// r0 is in Frankfurt, r1 in Virginia.
#[test]
fn what_was_measured_often_enough_stands_above_the_distance_and_small_gains_move_nobody() {
    let config = config(3);
    let (mask, standing) = (0b111, standing(&[Up; 3]));
    let led = |rows: &str, wishes: &Wishes| {
        let base = small_base().with_round_trips(rows.parse().unwrap());
        let map = Map::compile(&config, &base, wishes, &here("r2"));
        let policy = wishes.policy(30);
        let told = explain("84.160.0.1".parse().unwrap(), !0, (wishes, &policy), &map, &standing, (&config, &base));
        let first = told.regions.iter().position(|region| region.reason == Reason::Chosen).unwrap();
        (first, told.regions[1].estimated_us.unwrap() / 1_000, told.regions[1].measured.map(|trip| trip.samples))
    };
    let wishes = Wishes::nearest(mask);
    let estimated = led("", &wishes);
    assert_eq!((estimated.0, estimated.2), (0, None));
    assert!((100..160).contains(&estimated.1), "{estimated:?}");
    // the wrong way round the world to the near one, and hardly any way to the far one
    let (far, near) = ("-,DE,r0,200,5000", "-,DE,r1,20,5000");
    assert_eq!(led(&format!("{far}\n{near}"), &wishes), (1, 21, Some(5_000)));
    assert_eq!(
        led(&format!("-,FR,r0,200,5000\n{far}\n{near}").replace("DE", "PL"), &wishes),
        estimated,
        "others' rows"
    );
    assert_eq!(led("-,DE,r0,200,5\n-,DE,r1,20,5", &wishes).0, 0, "too few samples");
    assert_eq!(led("-,DE,r0,30,50000\n-,DE,r1,22,50000", &wishes).0, 0, "not worth it");
    // what is not legal stays so, however near
    assert_eq!(led(&format!("{far}\n{near}"), &Wishes::nearest(0b101)).0, 0);
}
