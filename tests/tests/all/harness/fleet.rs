//! A fleet of real processes on loopback addresses: three regions in three jurisdictions, a free and a pinned site.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::RwLockWriteGuard,
    time::{Duration, Instant},
};

use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Process, binary,
    client::{self, Reply},
    disk::SmallDisk,
    firewall::Firewall,
    free_addresses_on,
    orders::Door,
    origin::Origin,
    quiet, run,
    shim::{Shim, Traffic},
    until_some,
    wrong_clock::WrongClock,
};

/// The host of the site that may be everywhere.
pub(crate) const FREE: &str = "www.fleet.test";
/// The host of the site that must not leave the EU.
pub(crate) const PINNED: &str = "care.fleet.test";
/// What the sites are called.
pub(crate) const FREE_SITE: &str = "shop";
pub(crate) const PINNED_SITE: &str = "care";

/// A client in Germany, and one in California.
pub(crate) const GERMAN: &str = "91.0.0.0/24";
pub(crate) const CALIFORNIAN: &str = "128.32.0.0/24";

/// Longest time until all nodes are ready.
const READY: Duration = Duration::from_secs(60);

/// Name, jurisdiction, its countries, latitude and longitude.
const REGIONS: [(&str, &str, &str, f64, f64); 3] = [
    ("eu-central", "eu", "preset = \"EU\"", 50.11, 8.68),
    ("us-west", "us", "countries = [\"US\"]", 37.34, -121.89),
    ("ap-southeast", "sg", "countries = [\"SG\"]", 1.35, 103.82),
];

/// The routes of the free site, if a plan has none.
const KEYED: &str = r#"[[sites.routes]]
path = "/keyed/*"
query = { drop_tracking = true }
key = { cookies = "plan", country = true, device = true }
"#;

/// A node of the fleet.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) region: &'static str,
    pub(crate) jurisdiction: &'static str,
    /// The address that DNS gives out for it.
    pub(crate) ip: IpAddr,
    pub(crate) http: SocketAddr,
    pub(crate) dns: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where the others reach it, and where it listens.
    peer: SocketAddr,
    peer_listen: SocketAddr,
    /// Everything that it writes is in here.
    pub(crate) dir: PathBuf,
    process: Option<Process>,
    ledger_disk: Option<SmallDisk>,
    clock: Option<WrongClock>,
}

/// What a fleet is to be like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plan {
    /// Nodes in each of the three regions.
    pub(crate) per_region: u8,
    /// What lies between the nodes.
    pub(crate) between: Between,
    /// The tables of the free site's routes; if left out, one that keys by cookies, country and device.
    pub(crate) routes: Option<&'static str>,
    /// Requests in a second that each region bears, if the config is to say so.
    pub(crate) capacity: Option<u32>,
}

/// What lies between the nodes of a fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Between {
    /// Nothing.
    #[default]
    Nothing,
    /// A [`Shim`]: it cuts, and it takes time.
    Shim,
    /// The rules of a [`Firewall`], in a namespace for them.
    Firewall,
}

/// A fleet that runs.
pub(crate) struct Fleet {
    /// All nodes, region by region.
    pub(crate) nodes: Vec<Member>,
    /// The origin of both sites.
    pub(crate) origin: Origin,
    net: Net,
    dir: TempDir,
    _alone: RwLockWriteGuard<'static, ()>,
}

impl Fleet {
    /// Starts so many nodes in each of the three regions, and waits until all are ready.
    pub(crate) async fn start(per_region: u8) -> Self {
        Self::planned(Plan { per_region, ..Plan::default() }).await
    }

    /// Starts a fleet as planned, and waits until all nodes are ready.
    pub(crate) async fn planned(plan: Plan) -> Self {
        let mut fleet = Self::prepared(plan, "");
        for node in &mut fleet.nodes {
            node.start();
        }
        fleet.all_ready().await;
        fleet
    }

    /// Writes all that such a fleet needs, with `more` in the part of the config that all share, and starts no node.
    pub(crate) fn prepare(per_region: u8, more: &str) -> Self {
        Self::prepared(Plan { per_region, ..Plan::default() }, more)
    }

    fn prepared(plan: Plan, more: &str) -> Self {
        let alone = quiet::alone();
        let dir = TempDir::new().unwrap();
        let origin = Origin::start();
        let mut nodes = members(dir.path(), plan.per_region);
        let net = match plan.between {
            Between::Nothing => Net::Plain,
            Between::Shim => Net::Shim(shim(&mut nodes)),
            Between::Firewall => {
                Net::Firewall(Firewall::between(&nodes.iter().map(|node| node.peer).collect::<Vec<_>>()))
            }
        };
        write_shared(dir.path(), &nodes, &origin, plan);
        fleet_more(dir.path(), more);
        let fleet = Self { nodes, origin, net, dir, _alone: alone };
        fleet.certify();
        fleet.nodes.iter().for_each(Member::write_config);
        fleet
    }

    /// Makes the CA and every node's certificate with the binary's own commands.
    fn certify(&self) {
        let ca = self.ca_dir();
        let ca = ca.to_str().unwrap();
        let made = self.run(&["ca", "init", "--dir", ca, "--cluster", "test"]);
        assert_eq!(made.code, Some(0), "meridian ca init: {}", made.output);
        for node in &self.nodes {
            let out = node.dir.join("identity");
            let [name, region, jurisdiction] = [node.name.as_str(), node.region, node.jurisdiction];
            let place = ["--node", name, "--region", region, "--jurisdiction", jurisdiction];
            let made = self.run(&[&["ca", "issue", "--dir", ca, "--out", out.to_str().unwrap()][..], &place].concat());
            assert_eq!(made.code, Some(0), "meridian ca issue: {}", made.output);
        }
    }

    /// The shim between the nodes; they have the numbers there that they have here.
    pub(crate) fn shim(&self) -> &Shim {
        match &self.net {
            Net::Shim(shim) => shim,
            Net::Plain | Net::Firewall(_) => panic!("the fleet was planned without a shim"),
        }
    }

    /// From now on nothing that the first node of each pair sends arrives at the second.
    pub(crate) fn cut(&self, pairs: impl Iterator<Item = (usize, usize)>) {
        match &self.net {
            Net::Shim(shim) => pairs.for_each(|(from, to)| shim.cut(from, to)),
            Net::Firewall(firewall) => firewall.cut(pairs),
            Net::Plain => panic!("the fleet was planned without anything that cuts"),
        }
    }

    /// Nothing is cut any more.
    pub(crate) fn heal(&self) {
        match &self.net {
            Net::Shim(shim) => shim.heal(),
            Net::Firewall(firewall) => firewall.heal(),
            Net::Plain => {}
        }
    }

    /// What went between nodes so far, and what did not: datagrams, or packets.
    pub(crate) fn traffic(&self) -> Traffic {
        match &self.net {
            Net::Shim(shim) => shim.traffic(),
            Net::Firewall(firewall) => firewall.traffic(),
            Net::Plain => Traffic::default(),
        }
    }

    /// Where the CA is.
    pub(crate) fn ca_dir(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    /// Runs `meridian` with arguments to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> super::Ended {
        run(self.dir.path(), arguments, Duration::from_secs(20))
    }

    /// Where everything of the fleet is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until every node that runs is ready.
    pub(crate) async fn all_ready(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.process.is_some()) {
            node.ready().await;
        }
    }

    /// A node by its name.
    pub(crate) fn node(&self, name: &str) -> &Member {
        self.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The nodes of a region.
    pub(crate) fn region(&self, region: &str) -> impl Iterator<Item = &Member> {
        self.nodes.iter().filter(move |node| node.region == region)
    }

    /// Kills every node of a region with SIGKILL.
    pub(crate) fn kill_region(&mut self, region: &str) {
        self.nodes.iter_mut().filter(|node| node.region == region).for_each(Member::kill);
    }

    /// The region that DNS at `server` names to a client in `subnet`: that of all the addresses. None of none.
    pub(crate) async fn steered(&self, server: &Member, host: &str, subnet: &str) -> Result<Steered, String> {
        let answer = super::dns::ask(server.dns, host, subnet).await?;
        let mut regions = Vec::new();
        for address in &answer.addresses {
            let node = self.nodes.iter().find(|node| node.ip == *address);
            let node = node.ok_or_else(|| format!("{address} is no node's: {answer:?}"))?;
            if !regions.contains(&node.region) {
                regions.push(node.region);
            }
        }
        Ok(Steered { regions, answer })
    }
}

/// What can be cut.
enum Net {
    Plain,
    Shim(Shim),
    Firewall(Firewall),
}

/// Where DNS leads.
#[derive(Debug)]
pub(crate) struct Steered {
    /// The regions of the addresses, in their order.
    pub(crate) regions: Vec<&'static str>,
    /// The answer itself.
    pub(crate) answer: super::dns::Answer,
}

impl Member {
    /// Starts it; it may have run before.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.name);
        let mut command = self.ledger_disk.as_ref().map_or_else(|| Command::new(binary()), SmallDisk::command);
        command.arg("run").arg("--config").arg(&self.dir);
        if let Some(clock) = &self.clock {
            clock.give(&mut command);
        }
        self.process = Some(Process::start(&self.name, &self.dir, &mut command));
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).unwrap();
        // SAFETY: no memory is involved; the process is our child, and not waited for yet
        #[allow(unsafe_code, reason = "the only way to send a signal")]
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "signal {signal} to {}", self.name);
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        self.process.as_mut().expect("it was started").ended()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Waits until `/readyz` says so; returns how long that took.
    pub(crate) async fn ready(&mut self) -> Duration {
        let start = Instant::now();
        let (name, admin) = (self.name.clone(), self.admin);
        let process = self.process.as_mut().unwrap_or_else(|| panic!("{name} does not run"));
        until_some(&format!("{name} is ready"), READY, async || {
            assert!(!process.ended(), "{name} ended by itself:\n{}", process.output());
            let reply = client::try_send(admin, client::empty(client::get(&admin.to_string(), "/readyz"))).await?;
            if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
        })
        .await;
        start.elapsed()
    }

    /// The token of its admin interface.
    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.dir.join("state").join("admin.token")).unwrap().trim().to_owned()
    }

    /// Asks its admin interface.
    pub(crate) async fn admin(&self, target: &str) -> Reply {
        let request = client::get(&self.admin.to_string(), target).header("authorization", self.bearer());
        client::send(self.admin, client::empty(request)).await
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token())
    }

    /// Where purges are ordered, also while this is not at hand.
    pub(crate) fn door(&self) -> Door {
        Door::new(&self.name, self.admin, &self.token())
    }

    /// Puts its ledger on a disk of its own, so many MiB large, from its next start on.
    pub(crate) fn small_ledger_disk(&mut self, mib: u32) -> &SmallDisk {
        assert!(self.process.is_none(), "{} runs", self.name);
        let folder = self.dir.join("state").join("ledger");
        self.ledger_disk.insert(SmallDisk::over(&self.dir, folder, mib))
    }

    /// That disk.
    pub(crate) fn ledger_disk(&self) -> &SmallDisk {
        self.ledger_disk.as_ref().expect("it has a disk of its own")
    }

    /// The wall clock that it has from its next start on, if it did not have one before.
    pub(crate) fn wrong_clock(&mut self) -> &WrongClock {
        self.clock.get_or_insert_with(|| WrongClock::new(&self.dir))
    }

    /// Orders something of its admin interface.
    pub(crate) async fn post(&self, target: &str, order: &Value) -> Reply {
        let request = Request::post(target)
            .header("host", self.admin.to_string())
            .header("authorization", self.bearer())
            .header("content-type", "application/json");
        client::send(self.admin, request.body(Full::from(order.to_string())).unwrap()).await
    }

    /// Orders a purge; the answer is its receipt.
    pub(crate) async fn purge(&self, order: &Value) -> Result<(u16, Value), String> {
        self.door().order(order).await
    }

    /// Gets a target of a host.
    pub(crate) async fn get(&self, host: &str, target: &str) -> Reply {
        client::fetch(self.http, host, target).await
    }

    /// All that it has written to standard output and error, in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// All questions come from one address, and it may ask as fast as a test can.
    fn write_config(&self) {
        let Self { name, http, dns, admin, peer_listen, dir, .. } = self;
        let config = format!(
            r#"shared = "../fleet"
[node]
name = "{name}"
state_dir = "state"
access_log = "access.log"
[http]
listen = "{http}"
[dns]
listen = "{dns}"
answers_per_second = 0
[admin]
listen = "{admin}"
[peer]
listen = "{peer_listen}"
ca = "identity/ca.pem"
certificate = "identity/{name}.pem"
key = "identity/{name}.key"
[cache]
memory = "32MiB"
disk = "128MiB"
"#
        );
        fs::write(dir.join("meridian.toml"), config).unwrap();
    }
}

fn members(dir: &Path, per_region: u8) -> Vec<Member> {
    // an address block of this process's own: two runs on one machine do not meet
    let block = 64 + u8::try_from(process::id() % 128).unwrap();
    let mut nodes = Vec::new();
    for (number, (region, jurisdiction, ..)) in (1u8..).zip(REGIONS) {
        for index in 1..=per_region {
            let ip = IpAddr::from(Ipv4Addr::new(127, block, number, index));
            let [http, dns, admin, peer] = free_addresses_on(ip);
            let name = format!("{region}-{index}");
            let dir = dir.join(&name);
            fs::create_dir_all(&dir).unwrap();
            nodes.push(Member {
                name,
                region,
                jurisdiction,
                ip,
                http,
                dns,
                admin,
                peer,
                peer_listen: peer,
                dir,
                process: None,
                ledger_disk: None,
                clock: None,
            });
        }
    }
    nodes
}

/// Puts a shim between the nodes.
fn shim(nodes: &mut [Member]) -> Shim {
    let listening: Vec<_> = nodes.iter().map(|node| node.peer_listen).collect();
    let shim = Shim::between(&listening);
    nodes.iter_mut().enumerate().for_each(|(number, node)| node.peer = shim.front(number));
    shim
}

/// Replaces what a test has added to the part that all share.
pub(crate) fn fleet_more(dir: &Path, more: &str) {
    fs::write(dir.join("fleet").join("more.toml"), more).unwrap();
}

/// The part of the config that all nodes share.
fn write_shared(dir: &Path, nodes: &[Member], origin: &Origin, plan: Plan) {
    let mut text = String::new();
    for (_, jurisdiction, countries, ..) in REGIONS {
        let _ = write!(text, "[[jurisdictions]]\nname = \"{jurisdiction}\"\n{countries}\n");
    }
    for (region, jurisdiction, _, latitude, longitude) in REGIONS {
        let _ = write!(
            text,
            "[[regions]]\nname = \"{region}\"\njurisdiction = \"{jurisdiction}\"\n\
             latitude = {latitude}\nlongitude = {longitude}\n"
        );
        if let Some(capacity) = plan.capacity {
            let _ = writeln!(text, "capacity = {capacity}");
        }
        for Member { name, peer, ip, .. } in nodes.iter().filter(|node| node.region == region) {
            let _ = write!(text, "[[regions.nodes]]\nname = \"{name}\"\npeer = \"{peer}\"\naddresses = [\"{ip}\"]\n");
        }
    }
    let url = origin.url();
    let routes = plan.routes.unwrap_or(KEYED);
    let _ = write!(
        text,
        r#"[[zones]]
name = "fleet.test"
[[sites]]
name = "{FREE_SITE}"
tenant = "acme"
hosts = ["{FREE}"]
origin = "{url}"
dns_ttl = "5s"
purge_by_response = true
{routes}
[[sites]]
name = "{PINNED_SITE}"
tenant = "clinic"
hosts = ["{PINNED}"]
pin = "eu"
origin = "{url}"
dns_ttl = "5s"
"#
    );
    let shared = dir.join("fleet");
    fs::create_dir_all(&shared).unwrap();
    fs::write(shared.join("fleet.toml"), text).unwrap();
}
