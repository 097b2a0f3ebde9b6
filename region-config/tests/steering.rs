//! What sites may wish of steering, and what is told of wishes that make no sense.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use region_config::{AllDown, Force, Severity, SiteSteering, Whom, check};

const FLEET: &str = "\
[node]
name = \"a\"
[http]
listen = \"127.0.0.1:8080\"
[peer]
listen = \"127.0.0.1:7400\"
ca = \"ca.crt\"
certificate = \"a.crt\"
key = \"a.key\"
[[jurisdictions]]
name = \"eu\"
preset = \"EU\"
[[jurisdictions]]
name = \"us\"
countries = \"US\"
[[regions]]
name = \"east\"
latitude = 1
longitude = 2.5
jurisdiction = \"eu\"
capacity = 5000
nodes = [{ name = \"a\", peer = \"127.0.0.1:7400\" }]
[[regions]]
name = \"north\"
latitude = 60
longitude = 2.5
jurisdiction = \"eu\"
nodes = [{ name = \"c\", peer = \"127.0.0.3:7400\" }]
[[regions]]
name = \"west\"
latitude = -1
longitude = -2.5
jurisdiction = \"us\"
nodes = [{ name = \"b\", peer = \"127.0.0.2:7400\" }]
[[sites]]
name = \"s\"
hosts = \"a.test\"
origin = \"http://127.0.0.1:3000\"
";

fn read(more: &str, steering: &str) -> SiteSteering {
    let text = format!("{FLEET}{more}\n[sites.steering]\n{steering}");
    let checked = check(&[("f.toml", &text)]).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(checked.config.regions[0].capacity_per_second, Some(5000));
    checked.config.sites[0].steering.clone()
}

/// The one error that is told of a site's steering.
#[track_caller]
fn wrong(more: &str, steering: &str, expected: &str) {
    let text = format!("{FLEET}{more}\n[sites.steering]\n{steering}");
    let faults = check(&[("f.toml", &text)]).unwrap_err();
    let told: Vec<String> =
        faults.list().iter().filter(|it| it.severity() == Severity::Error).map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains(expected), "{steering}: {told:#?}");
    assert!(told[0].starts_with("f.toml:"), "{told:?}");
}

#[test]
fn all_that_may_be_wished() {
    let steering = read(
        "",
        "deny = \"north\"\nno_data = [\"west\", \"east\"]\nall_down = \"fallback\"\nfallback = \"north\"\n\
         [[sites.steering.regions]]\nregion = \"east\"\nweight = 3\nbias = -20\npriority = 1\n\
         [[sites.steering.pins]]\ncidr = [\"192.0.2.0/24\", \"2001:db8::/32\"]\nonly = \"west\"\n\
         [[sites.steering.pins]]\ncountry = \"TR\"\nprefer = [\"east\", \"west\"]\n\
         [[sites.steering.pins]]\nasn = 64512\nprefer = \"west\"\n\
         [[sites.steering.pins]]\ncontinent = \"EU\"\nprefer = \"east\"\n",
    );
    let names: Vec<String> = steering.pins.iter().map(|pin| pin.whom.to_string()).collect();
    assert_eq!(names, ["192.0.2.0/24", "2001:db8::/32", "TR", "AS64512", "continent EU"]);
    assert!(matches!((steering.pins[0].force, steering.pins[0].whom), (Force::Only, Whom::Block(_))));
    assert_eq!((steering.all_down, steering.fallback.len(), steering.no_data.len()), (AllDown::Fallback, 1, 2));
    let wish = &steering.regions[0];
    assert_eq!((wish.weight, wish.bias_percent, wish.priority), (Some(3), -20, 1));
}

#[test]
fn regions_must_be_there_and_inside_the_pin() {
    wrong("", "deny = \"est\"", "there is no region `est`");
    wrong("pin = \"eu\"", "allow = [\"east\", \"west\"]", "region `west` lies outside the jurisdiction");
    wrong(
        "pin = \"eu\"",
        "all_down = \"fallback\"\nfallback = \"west\"",
        "region `west` lies outside the jurisdiction",
    );
    wrong("", "deny = \"west\"\nno_data = \"west\"", "`allow` and `deny` leave out region `west`");
    wrong("pin = \"us\"", "deny = \"west\"", "`allow` and `deny` leave no region");
    wrong("", "allow = []", "`steering.allow` has nothing in it");
    wrong("", "allow = [\"east\", \"east\"]", "region `east` stands already at f.toml:");
}

/// Of two regions with one name the next message offered the choice between one and the same.
#[test]
fn a_name_that_stands_twice_is_offered_once() {
    let twice = FLEET.replace("\"north\"", "\"east\"");
    let faults = check(&[("f.toml", &format!("{twice}[sites.steering]\nallow = \"nowhere\"\n"))]).unwrap_err();
    assert!(faults.to_string().contains("there is no region `nowhere`; expected one of `east`, `west`"), "{faults}");
}

#[test]
fn wishes_of_regions_must_say_something() {
    let wish = |text: &str| format!("[[sites.steering.regions]]\nregion = \"east\"\n{text}");
    wrong("", &wish(""), "nothing is said of the region");
    wrong("", &wish("weight = 0"), "all weights are 0");
    wrong("", &wish("bias = 100"), "a whole number from -99 to 99");
    wrong("", &(wish("bias = 1\n") + &wish("bias = 2")), "region `east` stands already at");
}

#[test]
fn rules_for_clients_must_not_contradict_each_other() {
    let pin = |text: &str| format!("[[sites.steering.pins]]\n{text}\n");
    wrong("", &pin("only = \"east\""), "a rule that is not for one kind of clients");
    wrong("", &pin("country = \"DE\"\nasn = 1\nonly = \"east\""), "a rule that is not for one kind of clients");
    wrong("", &pin("country = \"DE\""), "a rule that does not say one thing");
    wrong("", &pin("country = \"DE\"\nonly = \"east\"\nprefer = \"west\""), "a rule that does not say one thing");
    wrong("", &pin("country = \"DE\"\nonly = []"), "a rule that does not say one thing");
    for doubled in ["only", "prefer"] {
        let doubled = format!("country = \"DE\"\n{doubled} = [\"east\", \"east\"]");
        wrong("", &pin(&doubled), "region `east` stands already at f.toml:");
    }
    wrong("", "regions = { region = \"east\" }", "each headed `[[sites.steering.regions]]`");
    wrong("pin = \"eu\"", &pin("country = \"DE\"\nonly = \"west\""), "region `west` lies outside the jurisdiction");
    for (whom, name) in [
        ("cidr = \"192.0.2.0/24\"", "192.0.2.0/24"),
        ("asn = 7", "AS7"),
        ("country = \"DE\"", "DE"),
        ("continent = \"EU\"", "continent EU"),
    ] {
        let both = pin(&format!("{whom}\nonly = \"east\"")) + &pin(&format!("{whom}\nprefer = \"west\""));
        wrong("", &both, &format!("a rule for `{name}` stands already at f.toml:"));
    }
    let nested = pin("cidr = \"192.0.2.0/24\"\nonly = \"east\"") + &pin("cidr = \"192.0.2.0/25\"\nonly = \"west\"");
    assert_eq!(read("", &nested).pins.len(), 2);
}

#[test]
fn a_rule_leaves_a_region_that_ipv4_clients_can_be_told() {
    let zone = "[[zones]]\nname = \"a.test\"\n";
    let addressed = FLEET
        .replace("peer = \"127.0.0.1:7400\" }", "peer = \"127.0.0.1:7400\", addresses = \"192.0.2.1\" }")
        .replace("peer = \"127.0.0.2:7400\" }", "peer = \"127.0.0.2:7400\", addresses = \"2001:db8::2\" }")
        .replace("peer = \"127.0.0.3:7400\" }", "peer = \"127.0.0.3:7400\", addresses = \"192.0.2.3\" }");
    let pin = "[[sites.steering.pins]]\ncountry = \"DE\"\nonly = \"west\"\n";
    let faults = check(&[("f.toml", &format!("{zone}{addressed}{pin}"))]).unwrap_err().to_string();
    assert!(faults.contains("no region of the rule has an IPv4 address"), "{faults}");
    assert!(check(&[("f.toml", &format!("{addressed}{pin}"))]).is_ok());
}

#[test]
fn blocks_are_written_exactly() {
    let pin = |cidr: &str| format!("[[sites.steering.pins]]\ncidr = \"{cidr}\"\nonly = \"east\"\n");
    wrong("", &pin("192.0.2.1/24"), "did you mean \"192.0.2.0/24\"?");
    wrong("", &pin("192.0.2.1"), "\"192.0.2.1/32\"");
    wrong("", &pin("2001:db8::/65"), "\"2001:db8::/64\"");
    wrong("", &pin("192.0.2.0/33"), "a block of addresses");
    wrong("", &pin("2002:c000::/24"), "carry IPv4 addresses");
    wrong("", &pin("64:ff9b::/64"), "carry IPv4 addresses");
    assert_eq!(read("", &pin("2000::/3")).pins.len(), 1);
}

#[test]
fn a_fallback_is_asked_for_and_there() {
    wrong("", "all_down = \"fallback\"", "there is no `fallback`");
    wrong("", "fallback = \"west\"", "`all_down` does not ask for them");
    assert_eq!(read("", "all_down = \"fail\"").all_down, AllDown::Fail);
}

#[test]
fn wishes_are_in_the_fingerprint() {
    let sum = |steering: &str| {
        let text = format!("{FLEET}\n[sites.steering]\n{steering}");
        check(&[("f.toml", &text)]).unwrap().config.fingerprint
    };
    let wishes = [
        "",
        "deny = \"east\"",
        "allow = \"east\"",
        "all_down = \"fail\"",
        "no_data = \"east\"",
        "[[sites.steering.regions]]\nregion = \"east\"\nbias = 1",
        "[[sites.steering.regions]]\nregion = \"east\"\nweight = 1",
        "[[sites.steering.pins]]\nasn = 1\nonly = \"east\"",
        "[[sites.steering.pins]]\nasn = 1\nprefer = \"east\"",
    ];
    let mut sums: Vec<_> = wishes.iter().map(|it| sum(it)).collect();
    sums.sort_unstable();
    sums.dedup();
    assert_eq!(sums.len(), wishes.len());
}

/// Nothing limited how much memory sites could take on every node by wishing one thing each.
#[test]
fn sites_may_wish_many_things_but_not_each_its_own() {
    let site = |at: usize, bias: usize| {
        format!(
            "[[sites]]\nname = \"s{at}\"\nhosts = \"s{at}.test\"\norigin = \"http://192.0.2.1\"\n\
             [[sites.steering.regions]]\nregion = \"east\"\nbias = {bias}\n"
        )
    };
    let of = |different: usize| {
        let sites: String = (0..200).map(|at| site(at, at % different + 1)).collect();
        check(&[("f.toml", &(FLEET.to_owned() + &sites))]).map(drop)
    };
    assert!(of(64).is_ok());
    let told = of(65).unwrap_err().to_string();
    assert!(told.contains("site `s64`: `steering` that differs from that of 64 sites before"), "{told}");
}
