//! What sites may wish, as it comes out of decisions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use region_config::{Config, RegionId, RegionMask};

use super::Wishes;
use crate::{
    health::RegionState::{self, Degraded, Down, Up},
    steering::{
        Base, BaseBuilder, Decision, Explanation, Location, Map, Outcome, Point, Reason, Refusal, Standing, decide,
        explain, tests::fleet,
    },
};

const FLEET: &str = r#"
[node]
name = "n0"
[http]
listen = "127.0.0.1:80"
[peer]
listen = "127.0.0.1:7400"
ca = "ca"
certificate = "c"
key = "k"
[[jurisdictions]]
name = "eu"
preset = "EU"
[[jurisdictions]]
name = "else"
countries = "US"
[[sites]]
name = "s"
hosts = "s.test"
origin = "http://192.0.2.1"
"#;

/// Frankfurt, Dublin, Virginia, Tokyo.
const REGIONS: [(&str, f64, f64, &str); 4] =
    [("fra", 50.1, 8.7, "eu"), ("dub", 53.3, -6.3, "eu"), ("iad", 39.0, -77.5, "else"), ("tyo", 35.7, 139.7, "else")];
pub(in crate::steering) const GERMAN: &str = "84.160.0.1";
pub(in crate::steering) const AMERICAN: &str = "128.32.9.9";
const NOWHERE: &str = "10.1.2.3";

pub(in crate::steering) fn config(steering: &str) -> Config {
    let region = |(at, (name, latitude, longitude, jurisdiction)): (usize, &(&str, f64, f64, &str))| {
        format!(
            "[[regions]]\nname = \"{name}\"\nlatitude = {latitude}\nlongitude = {longitude}\njurisdiction = \"{jurisdiction}\"\n\
             nodes = [{{ name = \"n{at}\", peer = \"127.0.0.{}:7400\" }}]\n",
            at + 1
        )
    };
    let regions: String = REGIONS.iter().enumerate().map(region).collect();
    let text = format!("{FLEET}{steering}\n{regions}");
    region_config::check(&[("f.toml", &text)]).unwrap_or_else(|faults| panic!("{faults}")).config
}

/// Germany (AS 3320) in 84.0.0.0/8 and 2003::/19, California in 128.32.0.0/16.
pub(in crate::steering) fn base() -> Base {
    let mut builder = BaseBuilder::new();
    let mut at = |code: &[u8; 2], n, e, asn| {
        let point = Point::from_degrees(n, e);
        builder.location(Location { country: Some(*code), point, asn, ..Location::NOWHERE })
    };
    let [de, us] = [at(b"DE", 51.0, 10.4, Some(3320)), at(b"US", 37.9, -122.3, None)];
    builder.range_v4(84 << 24, (85 << 24) - 1, de).unwrap();
    builder.range_v4(0x8020_0000, 0x8020_ffff, us).unwrap();
    builder.range_v6(0x2003 << 112, (0x2003_2000 << 96) - 1, de).unwrap();
    builder.finish()
}

struct World {
    config: Config,
    base: Base,
    wishes: Wishes,
    map: Map,
}

impl World {
    /// A site that wishes so, asked in Tokyo.
    fn new(steering: &str) -> Self {
        Self::asked_in(steering, "tyo")
    }

    fn asked_in(steering: &str, here: &str) -> Self {
        let config = config(steering);
        let wishes = Wishes::of(&config, &config.sites[0], RegionMask::MAX);
        let base = base();
        let map = Map::compile(&config, &base, &wishes, &RegionId::parse(here).unwrap());
        Self { config, base, wishes, map }
    }

    fn ask<T>(&self, client: &str, states: &[RegionState], read: impl FnOnce(Decision<'_>) -> T) -> T {
        let standing = Standing::of(&fleet(states));
        read(decide(client.parse().unwrap(), !0, &self.wishes.policy(30), &self.map, &standing))
    }

    /// The regions in order, while all are up.
    fn order(&self, client: &str) -> String {
        self.ask(client, &[Up; 4], |decision| decision.order().map(|at| REGIONS[at].0).collect::<Vec<_>>().join(" "))
    }

    fn explain(&self, client: &str, states: &[RegionState]) -> Explanation {
        let policy = self.wishes.policy(30);
        let standing = Standing::of(&fleet(states));
        let wished = (&self.wishes, &policy);
        explain(client.parse().unwrap(), !0, wished, &self.map, &standing, (&self.config, &self.base))
    }

    fn reasons(&self, client: &str, states: &[RegionState]) -> Vec<Reason> {
        self.explain(client, states).regions.iter().map(|region| region.reason).collect()
    }
}

fn steering(keys: &str) -> String {
    format!("[sites.steering]\n{keys}\n")
}

fn pin(keys: &str) -> String {
    format!("[[sites.steering.pins]]\n{keys}\n")
}

fn wish(region: &str, keys: &str) -> String {
    format!("[[sites.steering.regions]]\nregion = \"{region}\"\n{keys}\n")
}

#[test]
fn without_wishes_the_nearest_comes_first() {
    let world = World::new("");
    assert_eq!(world.order(GERMAN), "fra dub iad tyo");
    assert_eq!(world.order(AMERICAN), "iad dub tyo fra");
    assert_eq!(world.order(NOWHERE), "tyo fra dub iad");
}

#[test]
fn regions_are_allowed_and_denied_inside_the_pin() {
    let world = World::new(&format!("pin = \"eu\"\n{}", steering("deny = \"fra\"")));
    assert_eq!(world.order(GERMAN), "dub");
    let expected = [Reason::Unwished, Reason::Chosen, Reason::Outside, Reason::Outside];
    assert_eq!(world.reasons(GERMAN, &[Up; 4]), expected);
    assert_eq!(World::new(&steering("allow = [\"iad\", \"fra\"]")).order(GERMAN), "fra iad");
}

#[test]
fn bias_moves_borders_and_priority_comes_before_distance() {
    assert_eq!(World::new(&wish("dub", "bias = 90")).order(GERMAN), "dub fra iad tyo");
    assert_eq!(World::new(&wish("fra", "bias = -99")).order(GERMAN), "fra dub iad tyo");
    assert_eq!(World::new(&wish("dub", "bias = 20")).order(GERMAN), "fra dub iad tyo");
    let later = World::new(&(wish("fra", "priority = 2") + &wish("dub", "priority = 1")));
    assert_eq!(later.order(GERMAN), "iad tyo dub fra");
    assert_eq!(later.order(NOWHERE), "tyo iad dub fra");
}

#[test]
fn the_order_without_data_can_be_wished() {
    let world = World::new(&steering("no_data = [\"iad\", \"fra\"]"));
    assert_eq!((world.order(NOWHERE), world.order(GERMAN)), ("iad fra dub tyo".into(), "fra dub iad tyo".into()));
}

#[test]
fn rules_lead_some_clients_elsewhere_the_narrowest_first() {
    let rules = pin("continent = \"EU\"\nprefer = \"tyo\"")
        + &pin("country = \"DE\"\nprefer = [\"iad\", \"dub\"]")
        + &pin("asn = 3320\nonly = [\"dub\", \"iad\"]")
        + &pin("cidr = \"84.160.0.0/16\"\nprefer = \"tyo\"")
        + &pin("cidr = [\"84.160.7.0/24\", \"10.0.0.0/8\", \"2003::/32\"]\nonly = \"iad\"");
    let world = World::new(&rules);
    for (client, order) in [
        ("84.1.0.1", "dub iad"),
        ("84.160.0.1", "tyo fra dub iad"),
        ("84.160.7.9", "iad"),
        ("84.160.8.0", "tyo fra dub iad"),
        ("2003::1", "iad"),
        ("2003:1::1", "dub iad"),
        ("::ffff:84.160.7.9", "iad"),
        (NOWHERE, "iad"),
        ("11.0.0.0", "tyo fra dub iad"),
        (AMERICAN, "iad dub tyo fra"),
    ] {
        assert_eq!(world.order(client), order, "{client}");
    }
    assert_eq!(world.ask("84.160.7.9", &[Up; 4], |decision| decision.scope), 24);
    let told = world.explain("84.160.7.9", &[Up; 4]);
    assert_eq!(told.rule, Some(("84.160.7.0/24".into(), "only")));
    assert_eq!(told.regions[0].reason, Reason::Ruled);
    assert_eq!(world.explain("84.1.0.1", &[Up; 4]).rule, Some(("AS3320".into(), "only")));
    let country =
        World::new(&(pin("continent = \"EU\"\nprefer = \"tyo\"") + &pin("country = \"DE\"\nprefer = \"iad\"")));
    assert_eq!(country.order(GERMAN), "iad fra dub tyo");
}

#[test]
fn a_rule_fails_static_among_its_own_regions() {
    let world = World::new(&pin("country = \"DE\"\nonly = [\"dub\", \"iad\"]"));
    let states = [Up, Down, Down, Up];
    let (outcome, order) = world.ask(GERMAN, &states, |it| (it.outcome, it.order().collect::<Vec<_>>()));
    assert_eq!((outcome, order), (Outcome::FailStatic, vec![1, 2]));
    assert_eq!(world.reasons(GERMAN, &states)[0], Reason::Ruled);
}

#[test]
fn that_the_regions_of_a_rule_are_down_does_not_make_the_site_down() {
    let rule = pin("country = \"DE\"\nonly = \"iad\"");
    for all_down in ["fail\"", "fallback\"\nfallback = \"tyo\""] {
        let world = World::new(&(steering(&format!("deny = \"tyo\"\nall_down = \"{all_down}")) + &rule));
        let (outcome, order) =
            world.ask(GERMAN, &[Up, Down, Down, Up], |it| (it.outcome, it.order().collect::<Vec<_>>()));
        assert_eq!((outcome, order), (Outcome::FailStatic, vec![2]), "{all_down}");
        let all = world.ask(GERMAN, &[Down, Down, Down, Up], |it| it.outcome);
        assert!(matches!(all, Outcome::Refuse(Refusal::AllDown) | Outcome::Fallback), "{all:?}");
    }
}

/// It answers, and is kept down since it has flapped.
#[test]
fn while_all_are_down_one_that_rises_is_named_first() {
    let mut fleet = fleet(&[Down, Down, Down, Up]);
    fleet.regions[1].pending = true;
    let standing = Standing::of(&fleet);
    let asked = |keys: &str| {
        let world = World::new(&steering(&format!("deny = \"tyo\"\n{keys}")));
        let decision = decide(GERMAN.parse().unwrap(), !0, &world.wishes.policy(30), &world.map, &standing);
        (decision.outcome, decision.region(), decision.ttl_s)
    };
    assert_eq!(asked(""), (Outcome::FailStatic, Some(1), 10));
    assert_eq!(asked("all_down = \"fail\""), (Outcome::FailStatic, Some(1), 10));
    assert_eq!(asked("all_down = \"fallback\"\nfallback = \"tyo\""), (Outcome::Fallback, Some(3), 10), "that is up");
}

/// A failed while AAAA led to a region that was up, and HTTPS failed with it.
#[test]
fn a_site_with_a_region_that_is_up_does_not_fail_for_the_other_family() {
    let world = World::new(&steering("deny = \"tyo\"\nall_down = \"fail\""));
    let standing = Standing::of(&fleet(&[Down, Down, Up, Up]));
    let reaching = |mask| {
        let decision = decide(GERMAN.parse().unwrap(), mask, &world.wishes.policy(30), &world.map, &standing);
        (decision.outcome, decision.region())
    };
    assert_eq!(reaching(0b1011), (Outcome::FailStatic, Some(0)));
    assert_eq!(reaching(!0), (Outcome::Failover, Some(2)));
}

#[test]
fn when_all_are_down_the_site_says_what_then() {
    let down = [Down, Down, Down, Up];
    let asked = |keys: &str, states: &[RegionState]| {
        let world = World::new(&steering(&format!("deny = \"tyo\"\n{keys}")));
        world.ask(GERMAN, states, |it| (it.outcome, it.region(), it.ttl_s))
    };
    assert_eq!(asked("", &down), (Outcome::FailStatic, Some(0), 10));
    assert_eq!(asked("all_down = \"last-good\"", &down), (Outcome::FailStatic, Some(0), 10));
    assert_eq!(asked("all_down = \"fail\"", &down), (Outcome::Refuse(Refusal::AllDown), None, 10));
    let fallback = "all_down = \"fallback\"\nfallback = \"tyo\"";
    assert_eq!(asked(fallback, &down), (Outcome::Fallback, Some(3), 10));
    assert_eq!(asked(fallback, &[Down; 4]), (Outcome::FailStatic, Some(0), 10));
    // a fallback is for when all are down, not for when they are ill
    assert_eq!(asked(fallback, &[Degraded, Down, Down, Up]), (Outcome::Normal, Some(0), 30));
    let world = World::new(&steering(&format!("deny = \"tyo\"\n{fallback}")));
    assert_eq!(world.reasons(GERMAN, &[Up; 4])[3], Reason::Fallback);
    assert_eq!(world.reasons(GERMAN, &down), [Reason::Down, Reason::Down, Reason::Down, Reason::Chosen]);
}

#[test]
fn weights_share_clients_out_whatever_the_distance() {
    let world = World::new(&(wish("fra", "weight = 3") + &wish("tyo", "weight = 1")));
    let first = |client: u32, states: &[RegionState]| {
        let client = format!("84.{}.{}.1", client >> 8 & 255, client & 255);
        world.ask(&client, states, |it| (it.region().unwrap(), it.outcome, it.ttl_s))
    };
    let all: Vec<_> = (0..4000).map(|client| first(client, &[Up; 4])).collect();
    let of = |region| all.iter().filter(|(at, ..)| *at == region).count();
    assert!((2900..3100).contains(&of(0)) && of(0) + of(3) == 4000, "{}", of(0));
    assert!(all.contains(&(3, Outcome::Shared, 30)) && all.contains(&(0, Outcome::Normal, 30)));
    assert!((0..4000).all(|client| first(client, &[Up, Up, Up, Down]).0 == 0));
    assert_eq!(first(1, &[Down, Up, Up, Down]), (1, Outcome::Failover, 10));
    assert_eq!(world.ask(GERMAN, &[Up; 4], |decision| decision.scope), 24);
    assert_eq!(world.ask("2003::1", &[Up; 4], |decision| decision.scope), 56);
    let told = world.explain(GERMAN, &[Up; 4]);
    assert_eq!(
        told.regions.iter().map(|it| it.share).collect::<Vec<_>>(),
        [Some(0.75), Some(0.0), Some(0.0), Some(0.25)]
    );
    // a region with a weight alone is named first, and its clients need no scope of their own
    let alone = World::new(&wish("tyo", "weight = 1"));
    assert_eq!(
        (alone.order(GERMAN), alone.ask(GERMAN, &[Up; 4], |it| it.scope < 24)),
        ("tyo fra dub iad".into(), true)
    );
}

#[test]
fn whatever_a_site_wishes_no_other_jurisdiction_is_named() {
    let wishes = pin("continent = \"EU\"\nprefer = \"dub\"")
        + &wish("dub", "bias = 99\nweight = 0")
        + &wish("fra", "weight = 1");
    let world =
        World::new(&format!("pin = \"eu\"\n{}{wishes}", steering("all_down = \"fallback\"\nfallback = \"fra\"")));
    for client in [GERMAN, AMERICAN, NOWHERE, "2003::1"] {
        for states in [[Up; 4], [Down, Down, Up, Up], [Down, Up, Up, Up]] {
            world.ask(client, &states, |it| assert!(it.order().all(|region| region < 2) && it.region().is_some()));
        }
    }
}
