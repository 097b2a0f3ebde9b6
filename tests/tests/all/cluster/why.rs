//! Where a client is led, and what would change: the commands and the API say the same, and what DNS does.

use std::fs;

use serde_json::{Value, json};

use super::{all, led_to, steering::FIRST};
use crate::harness::fleet::{CALIFORNIAN, FREE, FREE_SITE, Fleet, GERMAN, PINNED, PINNED_SITE};

const EU: &str = "eu-central";
const US: &str = "us-west";
const SG: &str = "ap-southeast";
const GERMAN_CLIENT: &str = "91.0.0.7";
const CALIFORNIAN_CLIENT: &str = "128.32.0.7";

/// What a command prints as JSON.
fn printed(fleet: &Fleet, arguments: &[&str], code: i32) -> Value {
    let ended = fleet.run(&[arguments, &["--json"]].concat());
    assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.output);
    serde_json::from_str(&ended.output).unwrap_or_else(|error| panic!("{error}: {}", ended.output))
}

fn names(steering: &Value) -> Vec<&str> {
    steering["regions"].as_array().unwrap().iter().map(|region| region["region"].as_str().unwrap()).collect()
}

fn chosen(steering: &Value) -> &str {
    let chosen = steering["regions"].as_array().unwrap().iter().find(|region| region["chosen"] == json!(true));
    chosen.map_or("", |region| region["region"].as_str().unwrap())
}

#[tokio::test]
async fn a_route_is_explained_as_dns_goes_by_command_and_api_alike() {
    let fleet = Fleet::start(1).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    for node in &fleet.nodes {
        let config = node.dir.to_str().unwrap();
        for (client, subnet, host) in [
            (GERMAN_CLIENT, GERMAN, FREE),
            (CALIFORNIAN_CLIENT, CALIFORNIAN, FREE),
            (GERMAN_CLIENT, GERMAN, PINNED),
            (CALIFORNIAN_CLIENT, CALIFORNIAN, PINNED),
        ] {
            let told =
                printed(&fleet, &["explain", "route", "--config", config, "--client", client, "--host", host], 0);
            let steered = fleet.steered(node, host, subnet).await.unwrap();
            assert_eq!(vec![chosen(&told)], steered.regions, "{told}");
            assert_eq!(told["scope"], json!(steered.answer.scope), "{told}");
            assert_eq!(told["ttl_s"], json!(steered.answer.ttl_s), "{told}");
            let mut regions = names(&told);
            regions.sort_unstable();
            assert_eq!(regions, [SG, EU, US], "every region has its reason: {told}");
            let because =
                told["regions"].as_array().unwrap().iter().all(|it| !it["reason"].as_str().unwrap().is_empty());
            assert!(because, "{told}");
            let order = json!({ "host": host, "client": client });
            let answered: Value =
                serde_json::from_slice(&node.post("/api/v1/explain/route", &order).await.body).unwrap();
            assert_eq!(answered["regions"], told["regions"], "{answered}");
        }
        // with its region gone the client goes to the next one, and of a pinned site nowhere else
        let without = |host: &str| {
            let asked = ["explain", "route", "--config", config, "--client", GERMAN_CLIENT, "--host", host];
            printed(&fleet, &[&asked[..], &["--without", EU]].concat(), 0)
        };
        let free = without(FREE);
        assert_ne!(chosen(&free), EU, "{free}");
        let pinned = without(PINNED);
        assert_eq!((chosen(&pinned), &pinned["outcome"]), (EU, &json!("fail-static")), "{pinned}");
    }
    // for people
    let config = fleet.nodes[0].dir.to_str().unwrap();
    let shown = fleet.run(&["explain", "route", "--config", config, "--client", GERMAN_CLIENT, "--host", PINNED]);
    for word in [EU, US, SG, "DE", "outside"] {
        assert!(shown.output.contains(word), "no {word} in:\n{}", shown.output);
    }
    for (arguments, word) in [
        (["--client", GERMAN_CLIENT, "--host", "unknown.test"], "no DNS for the host"),
        (["--client", GERMAN_CLIENT, "--host", ""], "no DNS for the host"),
    ] {
        let told = fleet.run(&[&["explain", "route", "--config", config][..], &arguments].concat());
        assert!(told.code != Some(0) && told.output.contains(word), "{:?}: {}", told.code, told.output);
    }
    let told = fleet.run(&["explain", "route", "--config", config, "--client", GERMAN, "--host", FREE]);
    assert_eq!(told.code, Some(2), "a prefix is no address: {}", told.output);
}

#[tokio::test]
async fn what_would_change_is_the_same_by_command_and_api() {
    let fleet = Fleet::start(1).await;
    let node = fleet.node("us-west-1");
    let config = node.dir.to_str().unwrap();
    let list = fleet.dir().join("clients.txt");
    fs::write(&list, format!("# two\n{GERMAN} 30\n{CALIFORNIAN} 10 # here\n\n")).unwrap();
    let list = list.to_str().unwrap();
    let clients = json!([{ "block": GERMAN, "requests": 30 }, { "block": CALIFORNIAN, "requests": 10 }]);

    let printed_sites = printed(&fleet, &["what-if", "--config", config, "--clients", list, "--without", EU], 0);
    let asked = node.post("/api/v1/what-if", &json!({ "clients": clients, "without": [EU] })).await;
    assert_eq!(asked.status, 200, "{}", asked.seen());
    let answered: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(answered, printed_sites);
    let site = |answer: &Value, name: &str| {
        let mut sites = answer["sites"].as_array().unwrap().iter();
        sites.find(|site| site["site"] == json!(name)).cloned().unwrap_or_else(|| panic!("no {name}: {answer}"))
    };
    let free = site(&answered, FREE_SITE);
    assert_eq!((&free["requests"], &free["moved"], &free["moved_part"]), (&json!(40.0), &json!(30.0), &json!(0.75)));
    // a pinned site has nowhere to go, and goes nowhere
    let pinned = site(&answered, PINNED_SITE);
    assert_eq!((&pinned["moved"], &pinned["violations"]), (&json!(0.0), &json!({ "before": 0, "after": 0 })));

    // another config: the EU is steered around for the free site
    let candidate = fleet.dir().join("next");
    let shared = fleet.dir().join("fleet");
    fs::create_dir(&candidate).unwrap();
    let text = fs::read_to_string(shared.join("fleet.toml")).unwrap();
    let steering = format!("dns_ttl = \"5s\"\nsteering = {{ deny = [\"{EU}\"] }}\npurge_by_response");
    let text = text.replace("dns_ttl = \"5s\"\npurge_by_response", &steering);
    let own = fs::read_to_string(node.dir.join("meridian.toml")).unwrap().replace("shared = \"../fleet\"\n", "");
    fs::write(candidate.join("meridian.toml"), &own).unwrap();
    fs::write(candidate.join("fleet.toml"), &text).unwrap();
    let arguments = ["what-if", "--config", config, "--clients", list, "--site", FREE_SITE, "--candidate"];
    let printed_sites = printed(&fleet, &[&arguments[..], &[candidate.to_str().unwrap()]].concat(), 0);
    let files = json!([{ "name": "meridian.toml", "text": own }, { "name": "fleet.toml", "text": text }]);
    let order = json!({ "clients": clients, "site": FREE_SITE, "candidate": files });
    let asked = node.post("/api/v1/what-if", &order).await;
    assert_eq!(asked.status, 200, "{}", asked.seen());
    let answered: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(answered, printed_sites);
    assert_eq!(site(&answered, FREE_SITE)["moved"], json!(30.0), "{answered}");

    // for people, and what makes no sense
    let shown = fleet.run(&["what-if", "--config", config, "--clients", list, "--without", EU]);
    assert!(shown.output.contains("75.00 % of the requests move"), "{}", shown.output);
    let told = fleet.run(&["what-if", "--config", config, "--clients", list, "--without", "nowhere"]);
    assert!(told.code == Some(2) && told.output.contains("expected one of"), "{}", told.output);
    let told = fleet.run(&["what-if", "--config", config, "--clients", list, "--site", "nothing"]);
    assert!(told.code == Some(2) && told.output.contains(FREE_SITE), "{}", told.output);
    let order = json!({ "clients": clients, "candidate": [{ "name": "a.toml", "text": "[[sites]]\n" }] });
    let refused = node.post("/api/v1/what-if", &order).await;
    assert!(refused.status == 422 && refused.text().contains("a.toml"), "{}", refused.seen());
}
