#![allow(clippy::unwrap_used, reason = "tests")]
//! Databases of every kind, sound and not; newer ones in place of older ones; the watch over them.

mod written;

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use region_config::{Config, Geo, Region};
use rules::steering::Location;
use tempfile::TempDir;

use self::written::Written;
use super::{
    AcceptFault, Alarm, Base, Force, GeoFault, Order, UpdateFault, Wanted, Watch, day, files::beside, watch::Look,
};
use crate::tasks::Tasks;

/// 1 October 2026.
const BUILT: u64 = 1_790_812_800;
const BERLIN: [f64; 2] = [52.5, 13.5];
const OREGON: [f64; 2] = [45.5, -121.0];

fn test_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("geo/test-data").join(name)
}

fn at(base: &Base, address: &str) -> Location {
    base.ranges().location(address.parse().unwrap())
}

fn country(base: &Base, address: &str) -> Option<[u8; 2]> {
    at(base, address).country
}

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// 200 networks of each family; the first `west` of each hundred are in Oregon, the others in Berlin.
fn city(west: u32, built_unix_s: u64) -> Written {
    let mut city = Written::new("Test-City", 6, built_unix_s);
    for n in 0..200 {
        let (code, point) = if n % 100 < west { ("US", OREGON) } else { ("DE", BERLIN) };
        city.add_city(&format!("84.{}.{}.0/24", n / 100, n % 100), code, point);
        city.add_city(&format!("2003:{n:x}::/32"), code, point);
    }
    city
}

fn regions() -> Vec<Region> {
    config(&Geo::default()).regions
}

fn config(geo: &Geo) -> Config {
    let dir = TempDir::new().unwrap();
    let text = "[node]\nname = \"a\"\nregion = \"eu\"\nstate_dir = \"state\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
                [[jurisdictions]]\nname = \"all\"\ncountries = [\"DE\", \"US\"]\n\
                [[regions]]\nname = \"eu\"\nlatitude = 50\nlongitude = 8\njurisdiction = \"all\"\nnodes = [{ name = \"a\" }]\n\
                [[sites]]\nname = \"s\"\nhosts = [\"a.test\"]\norigin = \"http://127.0.0.1:1\"\n";
    fs::write(dir.path().join("meridian.toml"), text).unwrap();
    let mut config = region_config::load(dir.path()).unwrap_or_else(|faults| panic!("{faults}"));
    config.node.geo = geo.clone();
    // of a node that nobody starts: it would have to prove who it is
    let us = Region {
        name: region_config::RegionId::parse("us").unwrap(),
        latitude: 40.0,
        longitude: -120.0,
        ..config.regions[0].clone()
    };
    config.regions.push(us);
    config
}

#[test]
fn every_schema_of_maxmind_is_read() {
    for (name, address, code) in [
        ("GeoIP2-Country-Test.mmdb", "81.2.69.160", *b"GB"),
        ("GeoIP2-Enterprise-Test.mmdb", "74.209.24.0", *b"US"),
        ("GeoIP2-Precision-Enterprise-Test.mmdb", "2.125.160.216", *b"GB"),
        ("GeoIP2-City-Test.mmdb", "2001:218::1", *b"JP"),
    ] {
        let base = Base::load(&test_data(name)).unwrap_or_else(|fault| panic!("{fault}"));
        let location = at(&base, address);
        assert_eq!((location.country, location.point.is_some()), (Some(code), true), "{name}");
        assert_eq!(base.lent(), None, "{name}");
    }
    let enterprise = Base::load(&test_data("GeoIP2-Enterprise-Test.mmdb")).unwrap();
    assert_eq!(at(&enterprise, "74.209.24.0").asn, Some(14_671), "from the traits");
    assert_eq!(at(&enterprise, "74.209.24.0").accuracy_km, Some(27));
}

#[test]
fn the_country_is_where_the_address_is_and_not_where_its_holder_is() {
    let dir = TempDir::new().unwrap();
    let mut city = Written::new("Test-City", 6, BUILT);
    city.add_city("84.0.0.0/24", "DE", BERLIN);
    let base = Base::load(&write(&dir, "a.mmdb", &city.bytes())).unwrap();
    assert_eq!(country(&base, "84.0.0.1"), Some(*b"DE"));
}

#[test]
fn flat_files_without_description_are_read_in_both_families() {
    let dir = TempDir::new().unwrap();
    let mut flat = Written::new("dbip-city", 6, BUILT);
    flat.described = false;
    flat.add_flat("84.0.0.0/24", "DE", [52.5, 13.5]);
    flat.add_flat("2003::/32", "US", [45.5, -121.0]);
    let base = Base::load(&write(&dir, "a.mmdb", &flat.bytes())).unwrap();
    assert_eq!((country(&base, "84.0.0.1"), country(&base, "2003::1")), (Some(*b"DE"), Some(*b"US")));
    assert_eq!(at(&base, "84.0.0.1").point.unwrap().degrees().map(f64::round), [53.0, 14.0]);
}

#[test]
fn a_file_of_as_numbers_is_laid_over_the_places() {
    let dir = TempDir::new().unwrap();
    let mut asn = Written::new("Test-ASN", 6, BUILT);
    asn.add_asn("84.0.0.0/16", 64_500);
    asn.add_asn("2003::/20", 64_501);
    let asn_file = Some(write(&dir, "asn.mmdb", &asn.bytes()));
    let file = Some(write(&dir, "city.mmdb", &city(0, BUILT).bytes()));
    let base = Base::open(&Geo { file, asn_file: asn_file.clone(), ..Geo::default() }).unwrap();
    for (address, code, number) in [
        ("84.0.7.1", Some(*b"DE"), Some(64_500)),
        ("84.1.7.1", Some(*b"DE"), None),
        ("84.0.200.1", None, Some(64_500)),
        ("2003:5::1", Some(*b"DE"), Some(64_501)),
        ("64:ff9b::84.0.7.1", Some(*b"DE"), Some(64_500)),
    ] {
        let location = at(&base, address);
        assert_eq!((location.country, location.asn), (code, number), "{address}");
    }
    assert_eq!(base.editions().len(), 2);
    // also over the built-in places
    let base = Base::open(&Geo { asn_file, ..Geo::default() }).unwrap();
    assert_eq!((country(&base, "84.160.0.1"), at(&base, "84.0.0.1").asn), (Some(*b"DE"), Some(64_500)));
    let real = Base::open(&Geo { asn_file: Some(test_data("GeoLite2-ASN-Test.mmdb")), ..Geo::default() }).unwrap();
    assert_eq!(at(&real, "1.128.0.1").asn, Some(1_221));
}

#[test]
fn a_file_of_one_family_leaves_the_other_to_the_built_in_database() {
    let dir = TempDir::new().unwrap();
    for ip_version in [4, 6] {
        let mut v4 = Written::new("Test-City", ip_version, BUILT);
        v4.add_city("84.0.0.0/24", "FR", BERLIN);
        let base = Base::load(&write(&dir, "v4.mmdb", &v4.bytes())).unwrap();
        assert_eq!(base.lent(), Some("IPv6"));
        assert_eq!((country(&base, "84.0.0.1"), country(&base, "2003::1")), (Some(*b"FR"), Some(*b"DE")));
        assert_eq!(country(&base, "91.0.0.1"), None, "of its own family, the file alone counts");
        assert!(base.describe().contains("no IPv6 in it"), "{}", base.describe());
    }
    let mut v6 = Written::new("Test-City", 6, BUILT);
    v6.add_city("2003::/32", "FR", BERLIN);
    let base = Base::load(&write(&dir, "v6.mmdb", &v6.bytes())).unwrap();
    assert_eq!((base.lent(), country(&base, "2003::1")), (Some("IPv4"), Some(*b"FR")));
    assert_eq!(country(&base, "91.0.0.1"), Some(*b"DE"));
}

#[test]
fn addresses_that_carry_ipv4_are_looked_up_as_what_they_carry() {
    let base = Base::load(&test_data("GeoIP2-City-Test.mmdb")).unwrap();
    let plain = at(&base, "81.2.69.142");
    assert_eq!(plain.country, Some(*b"GB"));
    for carrier in ["::ffff:81.2.69.142", "64:ff9b::81.2.69.142", "2002:5102:458e::1", "2001:0:1:1:1:1:aefd:ba71"] {
        assert_eq!(at(&base, carrier), plain, "{carrier}");
    }
}

/// What a file without a use is refused with: it names the file, and says what was expected.
fn refused(path: &Path) -> String {
    let fault = Base::load(path).map(|base| base.describe()).unwrap_err();
    let text = fault.to_string();
    assert!(text.contains(&path.display().to_string()) && text.contains("expected"), "{text}");
    text
}

#[test]
fn the_broken_files_that_maxmind_collects_are_refused_with_a_clear_fault() {
    let broken = fs::read_dir(test_data("bad")).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for path in broken {
        let text = refused(&path);
        println!("{text}");
        count += 1;
    }
    assert_eq!(count, 21);
    for name in ["GeoIP2-City-Test-Broken-Double-Format.mmdb", "MaxMind-DB-test-broken-pointers-24.mmdb"] {
        refused(&test_data(name));
    }
}

#[test]
fn files_about_something_else_are_refused() {
    for (name, why) in [
        ("GeoLite2-ASN-Test.mmdb", "no countries or coordinates in it"),
        ("MaxMind-DB-test-ipv4-24.mmdb", "no countries or coordinates in it"),
        ("MaxMind-DB-no-ipv4-search-tree.mmdb", "expected map"),
    ] {
        let text = refused(&test_data(name));
        assert!(text.contains(why), "{text}");
    }
    let dir = TempDir::new().unwrap();
    let empty = Written::new("Test-City", 6, BUILT);
    assert!(refused(&write(&dir, "empty.mmdb", &empty.bytes())).contains("no countries or coordinates in it"));
    for (name, bytes) in
        [("none.mmdb", &b""[..]), ("text.mmdb", b"country,latitude"), ("gzip.mmdb", b"\x1f\x8b\x08\0\0")]
    {
        refused(&write(&dir, name, bytes));
    }
    let geo = Geo { asn_file: Some(test_data("GeoIP2-Country-Test.mmdb")), ..Geo::default() };
    let fault = Base::open(&geo).unwrap_err().to_string();
    assert!(fault.contains("no AS numbers in it: expected `autonomous_system_number` or `asn`"), "{fault}");
    assert!(matches!(Base::load(dir.path()), Err(GeoFault::Read { .. })), "a folder");
}

#[test]
fn a_file_that_was_cut_anywhere_is_refused() {
    let dir = TempDir::new().unwrap();
    for whole in [fs::read(test_data("GeoIP2-City-Test.mmdb")).unwrap(), city(0, BUILT).bytes()] {
        for part in 0..64 {
            let cut = write(&dir, "cut.mmdb", &whole[..whole.len() * part / 64]);
            assert!(Base::load(&cut).is_err(), "{part}/64");
            // the head is missing, the metadata are there
            let cut = write(&dir, "cut.mmdb", &whole[whole.len() * (part + 1) / 64..]);
            assert!(Base::load(&cut).is_err(), "from {}/64", part + 1);
        }
    }
}

#[test]
fn bits_that_flip_are_a_fault_or_another_database_and_never_a_panic() {
    let wholes = [
        fs::read(test_data("GeoIP2-City-Test.mmdb")).unwrap(),
        fs::read(test_data("GeoLite2-ASN-Test.mmdb")).unwrap(),
        city(3, BUILT).bytes(),
    ];
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut next = |end: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 11).unwrap() % end
    };
    for round in 0..600 {
        let whole = &wholes[round % wholes.len()];
        let mut bytes = whole.clone();
        for _ in 0..=next(6) {
            bytes[next(whole.len())] ^= 1 << next(8);
        }
        // many faults hide in the last part, which says how the rest is to be read
        let tail = whole.len() - 1 - next(400);
        bytes[tail] ^= u8::try_from(next(256)).unwrap();
        let wanted = if round % 2 == 0 { Wanted::Places } else { Wanted::Networks };
        let _ = super::mmdb::read(bytes.clone(), wanted);
        let address: IpAddr = "81.2.69.142".parse().unwrap();
        let _ = super::mmdb::look_up(bytes, address, wanted);
    }
}

/// A node's watch over one file.
struct Watched {
    dir: TempDir,
    file: PathBuf,
    current: Arc<ArcSwapOption<Base>>,
    watch: Arc<Watch>,
}

impl Watched {
    fn new(first: &Written) -> Self {
        let dir = TempDir::new().unwrap();
        let file = write(&dir, "city.mmdb", &first.bytes());
        let geo = Geo { file: Some(file.clone()), max_age_ms: 3_650 * 86_400_000, ..Geo::default() };
        let current = Arc::new(ArcSwapOption::from_pointee(Base::open(&geo).unwrap()));
        let config = Arc::new(ArcSwap::from_pointee(config(&geo)));
        let watch = Watch::new(config, Arc::clone(&current));
        Self { dir, file, current, watch }
    }

    /// Two looks, as the watch does them a second apart; takes what they find.
    fn looks(&self) -> bool {
        let found = self.watch.look(Look::Patient).or_else(|| self.watch.look(Look::Patient));
        let Some(base) = found else { return false };
        self.current.store(Some(base));
        self.watch.taken();
        true
    }

    fn replace(&self, bytes: &[u8]) {
        let aside = write(&self.dir, "aside", bytes);
        fs::rename(aside, &self.file).unwrap();
    }

    fn first(&self) -> Option<[u8; 2]> {
        country(&self.current.load_full().unwrap(), "84.0.0.1")
    }

    fn alarms(&self) -> Vec<&'static str> {
        self.watch.alarms().iter().map(Alarm::as_str).collect()
    }
}

#[test]
fn another_edition_is_taken_once_it_stands_still() {
    let watched = Watched::new(&city(0, BUILT));
    assert!(!watched.looks(), "nothing has changed");
    watched.replace(&city(1, BUILT + 1).bytes());
    assert!(watched.watch.look(Look::Patient).is_none(), "it may still be written to");
    assert!(watched.looks());
    assert_eq!((watched.first(), watched.alarms()), (Some(*b"US"), vec![]));
    assert!(!watched.looks(), "once is enough");
    // in place
    fs::write(&watched.file, city(0, BUILT + 2).bytes()).unwrap();
    assert!(watched.looks());
    assert_eq!(watched.first(), Some(*b"DE"));
    // asked for, it is taken at once
    watched.replace(&city(1, BUILT + 3).bytes());
    assert!(watched.watch.look(Look::Asked).is_some());
}

#[tokio::test]
async fn an_edition_is_found_once_however_long_it_takes_until_it_is_in_place() {
    let (watched, tasks) = (Watched::new(&city(0, BUILT)), Tasks::new());
    let mut databases = watched.watch.start(&tasks);
    let while_asked = async || {
        for _ in 0..20 {
            watched.watch.nudge();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    watched.replace(&city(1, BUILT + 1).bytes());
    watched.watch.nudge();
    let newer = databases.recv().await.unwrap();
    while_asked().await;
    watched.current.store(Some(Arc::clone(&newer.base)));
    watched.watch.taken();
    drop(newer);
    while_asked().await;
    assert!(databases.try_recv().is_err(), "it was found once more");
    watched.replace(&city(0, BUILT + 2).bytes());
    watched.watch.nudge();
    assert_eq!(country(&databases.recv().await.unwrap().base, "84.0.0.1"), Some(*b"DE"), "and it goes on");
    tasks.stopping().cancel();
}

#[test]
fn whatever_happens_to_the_file_the_node_keeps_what_it_has_and_says_so() {
    let watched = Watched::new(&city(0, BUILT));
    let good = fs::read(&watched.file).unwrap();
    let file = fs::File::options().write(true).open(&watched.file).unwrap();
    file.set_len(1000).unwrap();
    assert!(!watched.looks());
    assert_eq!((watched.first(), watched.alarms()), (Some(*b"DE"), vec!["refused"]));
    fs::remove_file(&watched.file).unwrap();
    assert!(!watched.looks());
    assert_eq!((watched.first(), watched.alarms()), (Some(*b"DE"), vec!["refused"]));
    watched.replace(b"");
    assert!(!watched.looks());
    watched.replace(&fs::read(test_data("GeoLite2-ASN-Test.mmdb")).unwrap());
    assert!(!watched.looks());
    assert_eq!((watched.first(), watched.alarms()), (Some(*b"DE"), vec!["refused"]));
    watched.replace(&good);
    assert!(watched.looks());
    assert_eq!((watched.first(), watched.alarms()), (Some(*b"DE"), vec![]));
    assert_eq!(watched.watch.counts(), [("taken", 1), ("held", 0), ("refused", 4)]);
}

#[test]
fn a_suspicious_edition_waits_for_an_operators_word() {
    for (suspicious, why) in [
        (city(16, BUILT + 1), "the nearest region of 32 in 200 IPv4 prefixes would be another one"),
        (city(0, BUILT - 1), "older than those in use"),
        (city(0, 4_102_444_800), "from the future"),
        (small(), "it has 0 IPv6 networks, and 200 are in use"),
    ] {
        let watched = Watched::new(&city(0, BUILT));
        watched.replace(&suspicious.bytes());
        assert!(!watched.looks(), "{why}");
        assert_eq!((watched.first(), watched.alarms()), (Some(*b"DE"), vec!["held"]), "{why}");
        let text = watched.watch.alarms()[0].to_string();
        assert!(text.contains(why) && text.contains("city.mmdb") && text.contains("--force"), "{text}");
        // a word about other contents is none
        let note = beside(&watched.file, "accepted");
        fs::write(&note, blake3::hash(b"another").to_hex().as_str()).unwrap();
        assert!(!watched.looks(), "{why}");
        fs::write(&note, blake3::hash(&suspicious.bytes()).to_hex().as_str()).unwrap();
        assert!(watched.looks(), "{why}");
        assert_eq!(watched.current.load_full().unwrap().editions()[0].built_unix_s, suspicious.built_unix_s);
    }
}

#[test]
fn a_word_about_what_is_held_back_has_to_name_its_contents() {
    let (watched, suspicious) = (Watched::new(&city(0, BUILT)), city(0, BUILT - 1));
    let accepted = |sum: &str| watched.watch.accept(sum);
    let sum = blake3::hash(&suspicious.bytes()).to_hex();
    assert!(matches!(accepted(&sum), Err(AcceptFault::NotHeld)), "nothing is held back");
    watched.replace(&suspicious.bytes());
    assert!(!watched.looks());
    let held = watched.watch.held();
    assert_eq!((held.len(), &held[0].path, held[0].sum.to_hex()), (1, &watched.file, sum));
    assert!(held[0].why[0].contains("older than those in use"), "{held:?}");
    assert!(matches!(accepted(&blake3::hash(b"another").to_hex()), Err(AcceptFault::NotHeld)));
    // another file has come in its place since: what was accepted is not what is there
    let (meanwhile, before) = (city(0, BUILT - 2), accepted(&sum).unwrap());
    assert_eq!(before, held[0]);
    watched.replace(&meanwhile.bytes());
    assert!(!watched.looks());
    assert_eq!(watched.watch.held()[0].sum, blake3::hash(&meanwhile.bytes()));
    watched.replace(&suspicious.bytes());
    assert!(watched.looks());
    assert_eq!((watched.watch.held(), watched.alarms()), (vec![], vec![]));
}

/// Half of the networks, and of IPv4 only.
/// A rule that keeps an autonomous system somewhere kept nobody there without a file of AS numbers, and nothing said so.
#[test]
fn rules_by_network_raise_an_alarm_while_no_database_has_networks() {
    let dir = TempDir::new().unwrap();
    let mut asn = Written::new("Test-ASN", 6, BUILT);
    asn.add_asn("84.0.0.0/16", 64_500);
    let asn_file = Some(write(&dir, "asn.mmdb", &asn.bytes()));
    let rule = |whom| region_config::Pin { whom, force: region_config::Force::Only, regions: Vec::new() };
    let by_network = rule(region_config::Whom::Asn(64_500));
    let by_country = rule(region_config::Whom::Country(*b"DE"));
    for (asn_file, rules, dns, expected) in [
        (None, vec![by_country.clone(), by_network.clone()], true, vec!["no-networks"]),
        (None, vec![by_country], true, vec![]),
        (None, vec![by_network.clone()], false, vec![]),
        (asn_file, vec![by_network], true, vec![]),
    ] {
        let geo = Geo { asn_file, max_age_ms: 3_650 * 86_400_000, ..Geo::default() };
        let mut config = config(&geo);
        let mut site = (*config.sites[0]).clone();
        site.steering.pins = rules;
        config.sites = vec![Arc::new(site)];
        config.node.dns = if dns { vec!["127.0.0.1:53".parse().unwrap()] } else { Vec::new() };
        let current = Arc::new(ArcSwapOption::from_pointee(Base::open(&geo).unwrap()));
        let watch = Watch::new(Arc::new(ArcSwap::from_pointee(config)), current);
        let words: Vec<_> = watch.alarms().iter().map(Alarm::as_str).collect();
        assert_eq!(words, expected, "{geo:?}");
    }
}

fn small() -> Written {
    let mut small = Written::new("Test-City", 4, BUILT + 1);
    for n in 0..100 {
        small.add_city(&format!("84.0.{n}.0/24"), "DE", BERLIN);
    }
    small
}

#[test]
fn old_data_raise_an_alarm_and_a_single_family_too() {
    let dir = TempDir::new().unwrap();
    let file = Some(write(&dir, "a.mmdb", &small().bytes()));
    for (max_age_ms, expected) in [(3_650 * 86_400_000, vec!["one-family"]), (86_400_000, vec!["old", "one-family"])] {
        let geo = Geo { file: file.clone(), max_age_ms, ..Geo::default() };
        let current = Arc::new(ArcSwapOption::from_pointee(Base::open(&geo).unwrap()));
        let watch = Watch::new(Arc::new(ArcSwap::from_pointee(config(&geo))), current);
        assert!(watch.look(Look::Patient).is_none());
        let alarms: Vec<_> = watch.alarms().iter().map(Alarm::as_str).collect();
        assert_eq!(alarms, expected);
    }
    // what is built in ages with the program
    let current = Arc::new(ArcSwapOption::from_pointee(Base::embedded().unwrap()));
    let watch = Watch::new(Arc::new(ArcSwap::from_pointee(config(&Geo::default()))), current);
    assert_eq!(watch.alarms(), []);
}

#[test]
fn an_update_keeps_the_database_before_and_a_rollback_brings_it_back() {
    let dir = TempDir::new().unwrap();
    let file = write(&dir, "city.mmdb", &city(0, BUILT).bytes());
    let from = write(&dir, "from", &city(1, BUILT + 1).bytes());
    let geo = Geo { file: Some(file.clone()), ..Geo::default() };
    let regions = regions();
    let order = Order { geo: &geo, wanted: Wanted::Places, regions: &regions };
    let built = |path: &Path| Base::load(path).unwrap().editions()[0].built_unix_s;

    let updated = super::update(&order, &from, Force::No).unwrap();
    let previous = updated.previous.unwrap();
    assert_eq!((built(&file), built(&previous)), (BUILT + 1, BUILT));
    // what is worse leaves everything as it was
    let bad = write(&dir, "bad", b"no database");
    assert!(matches!(super::update(&order, &bad, Force::Yes), Err(UpdateFault::Geo(_))));
    let worse = write(&dir, "worse", &city(50, BUILT + 2).bytes());
    let fault = super::update(&order, &worse, Force::No).unwrap_err();
    assert!(matches!(&fault, UpdateFault::Held(held) if held.len() == 2), "{fault}");
    assert!(matches!(super::update(&order, Path::new("/nowhere"), Force::No), Err(UpdateFault::Disk { .. })));
    assert_eq!((built(&file), built(&previous)), (BUILT + 1, BUILT));
    assert!(!beside(&file, "new").exists());

    super::rollback(&order).unwrap();
    assert_eq!((built(&file), built(&previous)), (BUILT, BUILT + 1));
    super::rollback(&order).unwrap();
    assert_eq!((built(&file), built(&previous)), (BUILT + 1, BUILT));
    let forced = super::update(&order, &worse, Force::Yes).unwrap();
    assert_eq!((forced.overruled.len(), built(&file)), (2, BUILT + 2));

    let networks = Order { geo: &geo, wanted: Wanted::Networks, regions: &regions };
    assert!(matches!(super::update(&networks, &from, Force::No), Err(UpdateFault::Unnamed(Wanted::Networks))));
    let elsewhere = Geo { file: Some(dir.path().join("b.mmdb")), ..Geo::default() };
    let first = Order { geo: &elsewhere, wanted: Wanted::Places, regions: &regions };
    assert!(matches!(super::rollback(&first), Err(UpdateFault::NoPrevious(_))));
    assert_eq!(super::update(&first, &from, Force::No).unwrap().previous, None);
}

/// A job that runs an update each night put the current edition in the place of the one before; so did an update over a file
/// that was cut short, and nothing good was left to go back to.
#[test]
fn the_database_before_is_kept_until_there_is_another_good_one() {
    let dir = TempDir::new().unwrap();
    let file = write(&dir, "a.mmdb", &city(0, BUILT).bytes());
    let geo = Geo { file: Some(file.clone()), ..Geo::default() };
    let regions = regions();
    let order = Order { geo: &geo, wanted: Wanted::Places, regions: &regions };
    let built = |path: &Path| Base::load(path).unwrap().editions()[0].built_unix_s;
    let from = write(&dir, "from", &city(1, BUILT + 1).bytes());
    let previous = super::update(&order, &from, Force::No).unwrap().previous.unwrap();
    for force in [Force::No, Force::Yes, Force::No] {
        let again = super::update(&order, &from, force).unwrap();
        assert!(again.unchanged && again.previous.as_ref() == Some(&previous), "{again:?}");
        assert_eq!((built(&file), built(&previous)), (BUILT + 1, BUILT));
    }
    let sum = blake3::hash(&city(1, BUILT + 1).bytes());
    assert!(super::files::is_accepted(&file, &sum), "a node that holds it back must find the word for it");
    super::rollback(&order).unwrap();
    assert_eq!((built(&file), built(&previous)), (BUILT, BUILT + 1));

    fs::File::options().write(true).open(&file).unwrap().set_len(1000).unwrap();
    let over = super::update(&order, &write(&dir, "newer", &city(1, BUILT + 2).bytes()), Force::No).unwrap();
    assert!(matches!(over.damaged, Some(GeoFault::Database { .. })) && over.previous.is_some(), "{over:?}");
    assert_eq!((built(&file), built(&previous)), (BUILT + 2, BUILT + 1));
    // and back to it from a file that is cut short, after which there is no other
    fs::write(&file, b"").unwrap();
    super::rollback(&order).unwrap();
    assert_eq!((built(&file), built(&previous)), (BUILT + 1, BUILT + 1));
    let fault = super::rollback(&order).unwrap_err();
    assert!(matches!(&fault, UpdateFault::SamePrevious(path) if *path == previous), "{fault}");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{left:?}");
}

#[test]
fn an_update_that_is_refused_names_the_file_that_it_was_given() {
    let dir = TempDir::new().unwrap();
    let geo = Geo { file: Some(write(&dir, "a.mmdb", &city(0, BUILT).bytes())), ..Geo::default() };
    let regions = regions();
    let order = Order { geo: &geo, wanted: Wanted::Places, regions: &regions };
    let told = |from: &Path| {
        let told = super::update(&order, from, Force::No).unwrap_err().to_string();
        told.replace(&dir.path().display().to_string(), "DIR")
    };
    assert!(told(&dir.path().join("gone")).starts_with("reading DIR/gone: No such file"));
    assert_eq!(told(dir.path()), "reading DIR: is a directory");
    assert!(told(&write(&dir, "bad", b"no database")).starts_with("cannot use the geo database DIR/bad: "));
    assert!(told(&write(&dir, "older", &city(0, BUILT - 1).bytes())).starts_with("held back: DIR/older: "));
    let forced = super::update(&order, &dir.path().join("older"), Force::Yes).unwrap();
    assert_eq!(forced.overruled[0].file, dir.path().join("older").display().to_string());
    let nowhere = Geo { file: Some(dir.path().join("nowhere/a.mmdb")), ..Geo::default() };
    let order = Order { geo: &nowhere, wanted: Wanted::Places, regions: &regions };
    let fault = super::update(&order, &dir.path().join("older"), Force::No).unwrap_err().to_string();
    assert!(fault.starts_with("copying to ") && fault.contains("nowhere/a.mmdb.new"), "{fault}");
}

#[test]
fn a_node_takes_what_an_operator_put_in_place_also_backwards() {
    let watched = Watched::new(&city(0, BUILT));
    let geo = Geo { file: Some(watched.file.clone()), ..Geo::default() };
    let regions = regions();
    let order = Order { geo: &geo, wanted: Wanted::Places, regions: &regions };
    let from = write(&watched.dir, "from", &city(1, BUILT + 1).bytes());
    super::update(&order, &from, Force::No).unwrap();
    assert!(watched.looks());
    assert_eq!(watched.first(), Some(*b"US"));
    super::rollback(&order).unwrap();
    assert!(watched.looks());
    assert_eq!(watched.first(), Some(*b"DE"));
}

#[test]
fn an_address_is_looked_up_with_network_distance_and_source() {
    let dir = TempDir::new().unwrap();
    let mut asn = Written::new("Test-ASN", 6, BUILT);
    asn.add_asn("84.0.0.0/16", 64_500);
    let mut v4 = Written::new("Test-City", 4, BUILT);
    v4.add_city("84.0.0.0/25", "DE", [52.52, 13.41]);
    v4.add_city("84.0.0.128/26", "FR", [48.85, 2.35]);
    let geo = Geo {
        file: Some(write(&dir, "city.mmdb", &v4.bytes())),
        asn_file: Some(write(&dir, "asn.mmdb", &asn.bytes())),
        ..Geo::default()
    };
    let found = super::look_up(&geo, "84.0.0.1".parse().unwrap(), &regions()).unwrap();
    assert_eq!((found.location.country, found.location.asn), (Some(*b"DE"), Some(64_500)));
    assert_eq!(found.degrees, Some([52.52, 13.41]));
    assert_eq!(found.said[0].network.as_deref(), Some("84.0.0.0/25"));
    assert_eq!(found.said[1].network.as_deref(), Some("84.0.0.0/16"));
    assert_eq!(found.regions[0].0, "eu");
    // steered with the cell that it is in
    let beside = super::look_up(&geo, "84.0.0.129".parse().unwrap(), &[]).unwrap();
    assert_eq!((beside.location.country, beside.degrees), (Some(*b"DE"), Some([48.85, 2.35])));
    assert_eq!(beside.said[0].network.as_deref(), Some("84.0.0.128/26"));
    // the family that the file knows nothing of
    let lent = super::look_up(&geo, "2003::1".parse().unwrap(), &regions()).unwrap();
    assert_eq!((lent.location.country, lent.said.len()), (Some(*b"DE"), 3));
    assert_eq!(super::look_up(&geo, "91.0.0.1".parse().unwrap(), &regions()).unwrap().location, Location::NOWHERE);
}

#[test]
fn a_lookup_says_what_the_node_steers_by() {
    let dir = TempDir::new().unwrap();
    let geo = Geo { file: Some(write(&dir, "city.mmdb", &city(7, BUILT).bytes())), ..Geo::default() };
    let base = Base::open(&geo).unwrap();
    for address in ["84.0.0.1", "84.0.6.255", "84.1.7.0", "2003:7::1", "2003:a::1", "2002:5400:0::1", "1.1.1.1"] {
        let address: IpAddr = address.parse().unwrap();
        let found = super::look_up(&geo, address, &[]).unwrap();
        assert_eq!(found.location, base.ranges().location(address), "{address}");
    }
}

#[test]
fn days_are_told_by_the_calendar() {
    for (unix_s, text) in [
        (0, "1970-01-01"),
        (951_782_400, "2000-02-29"),
        (1_781_654_400, "2026-06-17"),
        (1_798_675_200, "2026-12-31"),
        (4_107_542_400, "2100-03-01"),
    ] {
        assert_eq!(day(unix_s), text);
    }
    assert!(!day(u64::MAX).is_empty());
}

#[test]
fn round_trips_are_read_beside_a_database_and_told_by_line_if_they_are_none() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = write(&dir, "trips.csv", b"# asn,country,region,ms,samples\n-,DE,eu-central,18.5,1200\n");
    let geo = Geo { round_trips: Some(path.clone()), ..Geo::default() };
    let base = Base::open(&geo).unwrap();
    assert!(base.describe().ends_with(", 1 measured round trips"), "{}", base.describe());
    assert!(base.is_of(&geo) && !base.is_of(&Geo::default()));
    std::fs::write(&path, "-,DE,eu-central,18.5,1200\n-,DE,eu-central,fast,9\n").unwrap();
    let fault = Base::open(&geo).unwrap_err().to_string();
    assert_eq!(
        fault,
        format!("{}: line 2: found `fast`, expected milliseconds, above 0 and up to 10000", path.display())
    );
    std::fs::write(&path, b"\xff").unwrap();
    assert!(Base::open(&geo).unwrap_err().to_string().contains("invalid utf-8"));
    std::fs::remove_file(&path).unwrap();
    assert!(Base::open(&geo).unwrap_err().to_string().starts_with("cannot read "));
}
