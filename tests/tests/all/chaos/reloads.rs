//! Config and geo database are replaced again and again while DNS is asked as fast as dnsperf can.
//!
//! dnsperf says whether an answer was lost. What the answers say, a checker of our own looks at beside it: clients whose
//! place no edition changes get their region every time, and a client who moves with every edition never goes back.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::{
    cluster::geo::{BUILT, fleet_with},
    harness::{
        dns,
        fleet::{CALIFORNIAN, FREE, Fleet, GERMAN, Member, fleet_more},
        until_some,
        written::Written,
    },
};

/// A client who is in Germany by every second edition, and in California by the others.
const MOVING: &str = "84.0.7.0/24";
/// How long a reload may take.
const TAKEN: Duration = Duration::from_secs(60);

/// The edition with this number.
fn edition(number: u64) -> Vec<u8> {
    let mut city = Written::new("Test-City", 6, BUILT + number);
    for n in 0..100 {
        city.add_city(&format!("91.0.{n}.0/24"), "DE", [52.5, 13.5]);
        city.add_city(&format!("128.32.{n}.0/24"), "US", [37.75, -122.25]);
        city.add_city(&format!("133.1.{n}.0/24"), "SG", [1.25, 103.75]);
        city.add_city(&format!("2003:{n:x}::/32"), "DE", [52.5, 13.5]);
    }
    // few enough that no edition is suspicious
    for n in 0..20 {
        let (code, at) = if number.is_multiple_of(2) { ("DE", [50.0, 8.75]) } else { ("US", [37.25, -122.0]) };
        city.add_city(&format!("84.0.{n}.0/24"), code, at);
    }
    city.bytes()
}

/// What the checker saw.
#[derive(Debug, Default)]
struct Seen {
    asked: AtomicU64,
    /// How often the moving client was led to another region than before.
    moves: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Seen {
    /// Notes what went wrong, the first of it.
    fn fault(&self, fault: String) {
        let mut faults = self.faults.lock().unwrap();
        if faults.len() < 20 {
            faults.push(fault);
        }
    }
}

/// Asks until told to stop, one question after the other.
async fn check(fleet: &Fleet, seen: &Seen, stop: &AtomicBool) {
    let node = &fleet.nodes[0];
    let mut last = None;
    while !stop.load(SeqCst) {
        for (subnet, region) in [(GERMAN, Some("eu-central")), (CALIFORNIAN, Some("us-west")), (MOVING, None)] {
            seen.asked.fetch_add(1, SeqCst);
            let steered = match fleet.steered(node, FREE, subnet).await {
                Ok(steered) => steered,
                Err(fault) => {
                    seen.fault(format!("{subnet}: {fault}"));
                    continue;
                }
            };
            let ttl_s = steered.answer.ttl_s.unwrap_or(0);
            let sound = steered.answer.rcode == 0 && steered.regions.len() == 1 && (5..=10).contains(&ttl_s);
            if !sound || region.is_some_and(|region| steered.regions != [region]) {
                seen.fault(format!("{subnet}: {steered:?}"));
            }
            if region.is_none() && last.as_ref() != Some(&steered.regions) {
                seen.moves.fetch_add(u64::from(last.is_some()), SeqCst);
                last = Some(steered.regions);
            }
        }
        // the checker is there for what answers say; dnsperf is there for their number
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// One reload of everything: another config, another edition, and the signal.
fn replace(fleet: &Fleet, file: &Path, number: u64) {
    let aside = file.with_extension("aside");
    fs::write(&aside, edition(number)).unwrap();
    fs::rename(&aside, file).unwrap();
    let site = format!(
        "[[sites]]\nname = \"more\"\nhosts = [\"n{number}.fleet.test\"]\norigin = \"{}\"\ndns_ttl = \"5s\"\n",
        fleet.origin.url()
    );
    fleet_more(fleet.dir(), &site);
    fleet.nodes[0].signal(libc::SIGHUP);
}

/// Waits until the reload with this number is in force: both of it.
async fn in_force(node: &Member, number: u64) {
    until_some(&format!("reload {number} is in force"), TAKEN, async || {
        let name = format!("n{number}.fleet.test");
        let answer = dns::ask(node.dns, &name, GERMAN).await?;
        let moving = dns::ask(node.dns, FREE, MOVING).await?;
        let german = dns::ask(node.dns, FREE, if number.is_multiple_of(2) { GERMAN } else { CALIFORNIAN }).await?;
        if answer.rcode == 0 && !answer.addresses.is_empty() && moving.addresses == german.addresses {
            return Ok(());
        }
        Err(format!("{answer:?}, {moving:?}\n{}", node.log().lines().rev().take(5).collect::<Vec<_>>().join("\n")))
    })
    .await;
}

/// dnsperf at full speed until it is told to stop; gives what it said at the end.
fn dnsperf(node: &Member, dir: &Path) -> std::process::Child {
    let queries = dir.join("queries");
    fs::write(&queries, format!("{FREE} A\nfleet.test SOA\n{FREE} AAAA\nnone.fleet.test A\n")).unwrap();
    let (ip, port) = (node.dns.ip().to_string(), node.dns.port().to_string());
    let mut command = Command::new("dnsperf");
    // the client subnet 91.0.0.0/24, as an option of its code and value
    command.args(["-s", &ip, "-p", &port, "-c", "4", "-q", "100", "-l", "100000", "-E", "8:000118005b0000", "-d"]);
    command.arg(queries).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("dnsperf: {error}: run `make tools-test`"))
}

async fn reloads(count: u64) {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("city.mmdb");
    fs::write(&file, edition(0)).unwrap();
    let fleet = fleet_with(&file).await;
    let node = &fleet.nodes[0];
    let load = dnsperf(node, dir.path());
    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    let began = Instant::now();
    let replaced = async {
        for number in 1..=count {
            replace(&fleet, &file, number);
            in_force(node, number).await;
        }
        let took = began.elapsed();
        stop.store(true, SeqCst);
        took
    };
    let ((), took) = tokio::join!(check(&fleet, &seen, &stop), replaced);
    interrupt(&load);
    let ended = tokio::task::spawn_blocking(move || load.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();

    let metrics = node.admin("/metrics").await.text();
    let counted = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned();
    let figure = |name: &str| {
        let line =
            said.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {said}"));
        line.split_whitespace().next().unwrap().to_owned()
    };
    let [sent, completed, lost, speed] =
        ["Queries sent:", "Queries completed:", "Queries lost:", "Queries per second:"].map(figure);
    let failover = counted("meridian_dns_messages_total{event=\"failover\"}");
    eprintln!(
        "{count} reloads of config and geo database in {took:.1?}: dnsperf sent {sent}, completed {completed}, lost {lost}, \
         {speed} a second; the checker asked {} times, saw {} moves and these faults: {:?}; failover {failover}",
        seen.asked.load(SeqCst),
        seen.moves.load(SeqCst),
        *seen.faults.lock().unwrap(),
    );
    assert_eq!(*seen.faults.lock().unwrap(), Vec::<String>::new());
    assert_eq!(lost, "0", "{said}");
    let codes = said.lines().find(|line| line.contains("Response codes:")).unwrap_or_else(|| panic!("{said}"));
    assert!(!codes.contains("SERVFAIL") && !codes.contains("REFUSED"), "{codes}");
    // once for each edition at most: never back to an older one
    assert!((1..=count).contains(&seen.moves.load(SeqCst)), "{} moves", seen.moves.load(SeqCst));
    assert_eq!(counted("meridian_geo_reloads_total{outcome=\"taken\"}"), count.to_string());
    for event in ["not-ready", "no-region", "invariant-violated", "panicked"] {
        assert_eq!(counted(&format!("meridian_dns_messages_total{{event=\"{event}\"}}")), "0", "{event}");
    }
}

fn interrupt(child: &std::process::Child) {
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: no memory is involved; the process is our child, and not waited for yet
    #[allow(unsafe_code, reason = "the only way to send a signal")]
    let sent = unsafe { libc::kill(pid, libc::SIGINT) };
    assert_eq!(sent, 0);
}

#[tokio::test]
async fn twenty_reloads_under_dnsperf_lose_no_answer_and_give_no_wrong_one() {
    reloads(20).await;
}

/// `make chaos`: some minutes.
#[tokio::test]
#[ignore = "takes minutes: make chaos ARGS=thousand_reloads"]
async fn a_thousand_reloads_under_dnsperf_lose_no_answer_and_give_no_wrong_one() {
    reloads(1_000).await;
}
