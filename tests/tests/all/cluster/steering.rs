//! DNS: who is led where, also when a region dies and comes back.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use super::{all, led_to};
use crate::harness::{
    client,
    fleet::{CALIFORNIAN, FREE, Fleet, GERMAN, Member, PINNED, Plan},
    until_some,
};

const EU: &str = "eu-central";
const US: &str = "us-west";

/// From the first packet on; a fleet that has just started knows nothing of its regions.
pub(super) const FIRST: Duration = Duration::from_secs(20);
/// What is promised.
const FAILOVER: Duration = Duration::from_secs(5);
/// A region that comes back is believed after a while only.
const RETURN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn clients_are_led_to_their_region_and_the_scope_holds_for_all_of_it() {
    let fleet = Fleet::start(2).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    for server in &fleet.nodes {
        for (subnet, region) in [(GERMAN, EU), (CALIFORNIAN, US)] {
            let steered = fleet.steered(server, FREE, subnet).await.unwrap();
            let answer = &steered.answer;
            assert_eq!((answer.rcode, answer.ttl_s), (0, Some(5)), "{subnet} at {}: {answer:?}", server.name);
            assert_eq!(steered.regions, [region], "{subnet} at {}: {answer:?}", server.name);
            assert_eq!(answer.addresses.len(), 2, "both nodes of the region: {answer:?}");
            let scope = answer.scope.unwrap_or_else(|| panic!("no scope: {answer:?}"));
            assert!((1..=24).contains(&scope), "{subnet}: a scope between everybody and whom we asked for: {answer:?}");
            for other in ends(subnet, scope) {
                let same = fleet.steered(server, FREE, &other).await.unwrap();
                assert_eq!(same.regions, [region], "{other} lies in the scope /{scope} of {subnet}: {same:?}");
            }
        }
        for subnet in [GERMAN, CALIFORNIAN, "1.0.0.0/24"] {
            let steered = fleet.steered(server, PINNED, subnet).await.unwrap();
            assert_eq!(steered.regions, [EU], "the pinned site for {subnet}: {steered:?}");
        }
    }
}

/// The first and the last /24 of the prefix of `bits` bits that a subnet lies in.
fn ends(subnet: &str, bits: u8) -> [String; 2] {
    let address: Ipv4Addr = subnet.split_once('/').unwrap().0.parse().unwrap();
    let mask = u32::MAX << (32 - u32::from(bits));
    let first = u32::from(address) & mask;
    [first, first | !mask].map(|end| format!("{}/24", Ipv4Addr::from(end & 0xffff_ff00)))
}

/// The addresses of a region's nodes.
fn addresses(fleet: &Fleet, region: &str) -> Vec<IpAddr> {
    fleet.region(region).map(|node| node.ip).collect()
}

#[tokio::test]
async fn when_both_eu_nodes_die_the_free_site_moves_and_the_pinned_one_is_refused_everywhere_else() {
    let mut fleet = Fleet::start(2).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    let eu = addresses(&fleet, EU);
    let outside: Vec<String> =
        fleet.nodes.iter().filter(|node| node.region != EU).map(|node| node.name.clone()).collect();
    let outside: Vec<&str> = outside.iter().map(String::as_str).collect();
    assert_eq!(fleet.region(EU).next().unwrap().get(PINNED, "/o/100/before").await.status, 200);

    let killed = Instant::now();
    fleet.kill_region(EU);
    let moved = until_some("German clients of the free site are led elsewhere", FAILOVER, async || {
        for name in &outside {
            let server = fleet.node(name);
            pinned_stays(&fleet, server, &eu).await;
            let steered = fleet.steered(server, FREE, GERMAN).await?;
            if steered.regions.is_empty() || steered.regions.contains(&EU) {
                return Err(format!("{name}: {steered:?}"));
            }
        }
        Ok(())
    })
    .await
    .1;
    eprintln!("the free site moved within {moved:?} of the kill, on all four nodes");
    // for a while longer: it is refused, whatever is asked
    while killed.elapsed() < FAILOVER {
        for name in &outside {
            pinned_stays(&fleet, fleet.node(name), &eu).await;
        }
    }
    let served = fleet.node(outside[0]).get(FREE, "/o/100/free").await;
    assert_eq!(served.status, 200, "the free site is served: {}", served.seen());

    let restarted = Instant::now();
    for node in fleet.nodes.iter_mut().filter(|node| node.region == EU) {
        node.start();
    }
    fleet.all_ready().await;
    eprintln!("both EU nodes are ready {:?} after their restart", restarted.elapsed());
    led_to(&fleet, &all(&fleet), EU, US, RETURN).await;
    eprintln!("the free site is back {:?} after the restart, on all six nodes", restarted.elapsed());
    for node in fleet.region(EU) {
        let reply = node.get(PINNED, "/o/100/after").await;
        assert_eq!(reply.status, 200, "{}: {}", node.name, reply.seen());
    }
    for server in &fleet.nodes {
        let steered = fleet.steered(server, PINNED, CALIFORNIAN).await.unwrap();
        assert_eq!(steered.regions, [EU], "{}: {steered:?}", server.name);
    }
    let asked: Vec<_> = fleet.origin.seen().into_iter().filter(|seen| seen.target.contains("never")).collect();
    assert!(asked.is_empty(), "the origin was asked for the pinned site from outside: {asked:?}");
}

/// DNS names only EU addresses for the pinned site (or none), and a node outside refuses it.
async fn pinned_stays(fleet: &Fleet, outside: &Member, eu: &[IpAddr]) {
    for subnet in [GERMAN, CALIFORNIAN] {
        let steered = fleet.steered(outside, PINNED, subnet).await.unwrap();
        let strange = steered.answer.addresses.iter().find(|address| !eu.contains(address));
        assert_eq!(strange, None, "{} named a node outside the EU: {steered:?}", outside.name);
    }
    for target in ["/o/100/before", "/o/100/never"] {
        let reply = outside.get(PINNED, target).await;
        assert_eq!(reply.status, 421, "{}: {}", outside.name, reply.seen());
    }
}

/// How long a region must have been up to have something to lose, and how long it then takes until it has all of its clients
/// again: each is a minute.
const MINUTE: Duration = Duration::from_secs(60);
const BLOCKS: u8 = 120;

/// How many of [`BLOCKS`] /24 of German clients a name server leads to the EU.
async fn germans_at_home(fleet: &Fleet, server: &Member, host: &str) -> Result<usize, String> {
    let mut home = 0;
    for block in 0..BLOCKS {
        let steered = fleet.steered(server, host, &format!("91.0.{block}.0/24")).await?;
        assert_eq!(steered.regions.len(), 1, "one region, whatever happens: {steered:?}");
        home += usize::from(steered.regions == [EU]);
    }
    Ok(home)
}

#[tokio::test]
async fn a_region_that_was_dead_gets_a_tenth_of_its_clients_first_and_all_of_them_a_minute_later() {
    let mut fleet = Fleet::start(2).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    let began = Instant::now();
    let warm = async || if began.elapsed() > MINUTE { Ok(()) } else { Err(format!("{:?}", began.elapsed())) };
    until_some("the region has something to lose", MINUTE * 2, warm).await;
    fleet.kill_region(EU);
    let other = fleet.nodes.iter().position(|node| node.region == US).unwrap();
    until_some("nobody is led there", FAILOVER, async || {
        match germans_at_home(&fleet, &fleet.nodes[other], FREE).await? {
            0 => Ok(()),
            home => Err(format!("{home} of {BLOCKS}")),
        }
    })
    .await;
    let left = Instant::now();
    let away = async || if left.elapsed() > FAILOVER { Ok(()) } else { Err(format!("{:?}", left.elapsed())) };
    until_some("it was away for more than a moment", MINUTE, away).await;
    fleet.nodes.iter_mut().filter(|node| node.region == EU).for_each(Member::start);
    fleet.all_ready().await;
    let found = async || match germans_at_home(&fleet, &fleet.nodes[other], FREE).await? {
        0 => Err("nobody".to_owned()),
        home => Ok(home),
    };
    let (first, after) = until_some("some are led there", MINUTE, found).await;
    let back = Instant::now();
    eprintln!("{first} of {BLOCKS} German blocks are led home {after:?} after the nodes were ready");
    assert!((1..=36).contains(&first), "{first} of {BLOCKS}");
    // its own name servers, which were dead themselves, do as the others do
    for server in fleet.region(EU) {
        // they may be a moment later to call it up
        until_some("it leads some clients home", FAILOVER, async || {
            let home = germans_at_home(&fleet, server, FREE).await?;
            assert!(home <= 42, "{}: {home} of {BLOCKS}", server.name);
            let steered = fleet.steered(server, FREE, GERMAN).await?;
            if steered.answer.scope == Some(24) { Ok(()) } else { Err(format!("{home}: {steered:?}")) }
        })
        .await;
        let pinned = fleet.steered(server, PINNED, GERMAN).await.unwrap();
        assert_eq!(pinned.regions, [EU], "{pinned:?}");
    }
    let mut before = vec![0; fleet.nodes.len()];
    let whole = until_some("all are led home again, by all name servers", MINUTE * 2, async || {
        for (server, before) in fleet.nodes.iter().zip(&mut before) {
            let home = germans_at_home(&fleet, server, FREE).await?;
            assert!(home + 14 >= *before, "{}: {home} after {before} of {BLOCKS}", server.name);
            *before = home;
        }
        if before.iter().all(|home| *home == usize::from(BLOCKS)) { Ok(()) } else { Err(format!("{before:?}")) }
    });
    whole.await;
    eprintln!("all of them {:?} later", back.elapsed());
    assert!(back.elapsed() > MINUTE / 2, "{:?}", back.elapsed());
}

/// What a node tells of the load of the EU, which is the first region: whether it gives up clients, and its demand.
async fn load_of_eu(server: &Member) -> Result<(bool, f64), String> {
    let told: serde_json::Value = serde_json::from_str(&server.admin("/api/v1/fleet").await.text()).unwrap();
    let load = &told["regions"][0]["load"];
    assert_eq!(told["regions"][0]["name"], EU);
    match (load["gives"].as_bool(), load["demand_per_second"].as_f64()) {
        (Some(gives), Some(demand)) => Ok((gives, demand)),
        _ => Err(format!("{load}")),
    }
}

/// The clients here have no place, so that they count as those for whom the region of the node that they ask comes first: just
/// as German ones, for whom the same regions come in the same order.
#[tokio::test]
async fn what_a_region_cannot_bear_is_led_on_by_all_name_servers_and_comes_back() {
    let capacity = 10;
    let fleet = Fleet::planned(Plan { per_region: 1, capacity: Some(capacity), ..Plan::default() }).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    let eu = fleet.region(EU).next().unwrap();
    // twice what it bears, however long the questions below take
    let http = eu.http;
    let crowd = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / (2 * capacity));
        loop {
            ticks.tick().await;
            assert_eq!(client::fetch(http, FREE, "/o/100/crowd").await.status, 200);
        }
    });
    let (_, after) =
        until_some("all nodes know that the EU has too much to do, and lead clients on", MINUTE * 2, async || {
            for server in &fleet.nodes {
                let (gives, demand) = load_of_eu(server).await?;
                let home = germans_at_home(&fleet, server, FREE).await?;
                if !gives || home > usize::from(BLOCKS) * 3 / 4 {
                    return Err(format!("{}: {demand} a second, {home} of {BLOCKS}", server.name));
                }
                let pinned = germans_at_home(&fleet, server, PINNED).await?;
                assert_eq!(pinned, usize::from(BLOCKS), "where the site's data may not be nobody is led");
            }
            Ok(())
        })
        .await;
    eprintln!("clients are led on by all name servers after {after:?}");
    assert!(!crowd.is_finished(), "every request was served");
    let mut spilled = None;
    for block in 0..BLOCKS {
        let steered = fleet.steered(&fleet.nodes[1], FREE, &format!("91.0.{block}.0/24")).await.unwrap();
        assert_eq!(steered.answer.scope, Some(24), "{steered:?}");
        spilled = spilled.or((steered.regions != [EU]).then_some(block));
    }
    let order = serde_json::json!({ "host": FREE, "client": format!("91.0.{}.1", spilled.unwrap()) });
    let told = fleet.nodes[1].post("/api/v1/explain/route", &order).await.text();
    assert!(told.contains("\"spill\""), "{told}");
    let metrics = eu.admin("/metrics").await.text();
    assert!(metrics.contains(&format!("meridian_region_gives{{region=\"{EU}\"}} 1")), "{metrics}");
    crowd.abort();
    let (_, after) = until_some("all are back when there is less to do", MINUTE * 3, async || {
        for server in &fleet.nodes {
            let home = germans_at_home(&fleet, server, FREE).await?;
            if home < usize::from(BLOCKS) {
                return Err(format!("{}: {home} of {BLOCKS}", server.name));
            }
        }
        Ok(())
    })
    .await;
    eprintln!("and back after {after:?}");
}

/// Who votes on a region, as a node knows it; none if it does not know the region.
async fn voters(server: &Member, region: &str) -> Option<Vec<String>> {
    let told: serde_json::Value = serde_json::from_str(&server.admin("/api/v1/fleet").await.text()).unwrap();
    let region = told["regions"].as_array().unwrap().iter().find(|it| it["name"] == region)?;
    let votes = region["votes"].as_array().unwrap().iter();
    Some(votes.map(|vote| vote["observer"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn a_node_that_learns_of_a_region_by_a_reload_hears_what_the_others_say_of_it() {
    const ASIA: &str = "ap-southeast";
    let fleet = Fleet::start(1).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    let server = &fleet.nodes[0];
    let shared = fs::read_to_string(fleet.dir().join("fleet/fleet.toml")).unwrap();
    let (head, rest) = shared.split_once(&format!("[[regions]]\nname = \"{ASIA}\"")).unwrap();
    let without = [head, rest.split_once("[[zones]]").unwrap().1].join("[[zones]]");
    let own = fs::read_to_string(server.dir.join("meridian.toml")).unwrap();
    fs::create_dir(fleet.dir().join("two")).unwrap();
    fs::write(fleet.dir().join("two/fleet.toml"), without).unwrap();
    fs::write(server.dir.join("meridian.toml"), own.replace("../fleet", "../two")).unwrap();
    server.signal(libc::SIGHUP);
    until_some("it knows two regions", FIRST, async || {
        voters(server, ASIA).await.map_or(Ok(()), |_| Err("three")).map_err(str::to_owned)
    })
    .await;
    // the others' reports change, and come
    let forced = fleet.run(&[
        "force",
        "up",
        "--region",
        US,
        "--why",
        "a test",
        "--config",
        fleet.nodes[1].dir.to_str().unwrap(),
    ]);
    assert_eq!(forced.code, Some(0), "{}", forced.output);
    until_some("it has heard of that", FIRST, async || {
        let told = server.admin("/api/v1/forced").await.text();
        if told.contains("a test") { Ok(()) } else { Err(told) }
    })
    .await;
    fs::write(server.dir.join("meridian.toml"), own).unwrap();
    server.signal(libc::SIGHUP);
    until_some("it knows three regions, and what both others say", FIRST, async || match voters(server, ASIA).await {
        Some(voters) if voters == [EU, US] => Ok(()),
        voters => Err(format!("{voters:?}")),
    })
    .await;
}
