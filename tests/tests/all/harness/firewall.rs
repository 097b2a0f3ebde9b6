//! Partitions as the kernel makes them: nftables drops what one node's address sends to another's, UDP and TCP alike.
//!
//! Rules hold in a network namespace of its own, in which the test runs once more with all that it starts: nothing on the
//! machine sees them, and they are gone with it. Needs root, `unshare` (util-linux), `ip` (iproute2) and `nft` (nftables).

use std::{
    env,
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
};

use super::shim::Traffic;

/// Says how nodes are parted: `shim`, or `nft`. Without it, by a shim, which needs no rights.
const PARTITIONS: &str = "MERIDIAN_PARTITIONS";
/// Set in the process that runs in the namespace.
const INSIDE: &str = "MERIDIAN_IN_NAMESPACE";
/// The table that holds the rules.
const TABLE: &str = "inet meridian";

/// How nodes are parted in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Partitions {
    /// By a shim between them.
    Shim,
    /// By the kernel, and this process is in the namespace for it.
    Kernel,
}

impl Partitions {
    /// What the environment asks for. None if this test was run once more in a namespace, and passed there.
    ///
    /// # Panics
    /// If it asks for what is not possible here, or if the test failed there.
    pub(crate) fn of_test(name: &str) -> Option<Self> {
        let wanted = env::var(PARTITIONS).unwrap_or_default();
        match (wanted.as_str(), env::var_os(INSIDE).is_some()) {
            ("" | "shim", _) => {
                eprintln!("partitions: by a shim between the nodes ({PARTITIONS}=nft, as root: by the kernel)");
                Some(Self::Shim)
            }
            ("nft", true) => Some(Self::Kernel),
            ("nft", false) => {
                eprintln!("partitions: by nftables in a network namespace");
                again_inside(name);
                None
            }
            (other, _) => panic!("{PARTITIONS} is `{other}`, expected `shim` or `nft`"),
        }
    }
}

/// Runs a test of this program once more, in a network namespace of its own that has nothing but the loopback.
fn again_inside(name: &str) {
    let script = "ip link set lo up && nft list ruleset >/dev/null && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script]).arg(env::current_exe().unwrap());
    command.args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads", "1"]).env(INSIDE, "1");
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("{PARTITIONS}=nft, but unshare cannot be run: {error}"));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{name} in a network namespace ({PARTITIONS}=nft needs root, unshare, ip and nft): {}\n{told}",
        output.status
    );
}

/// The rules between nodes, which are known by their numbers.
pub(crate) struct Firewall {
    nodes: Vec<IpAddr>,
}

impl Firewall {
    /// Loads the rules for nodes that will listen at these addresses, each on an IP address of its own. Nothing is cut.
    ///
    /// What comes to where a node listens for the others from an address that is no node's is dropped, too, and counted: a
    /// node that sent from elsewhere would otherwise get round every cut.
    pub(crate) fn between(nodes: &[SocketAddr]) -> Self {
        let list = |one: &dyn Fn(&SocketAddr) -> String| nodes.iter().map(one).collect::<Vec<_>>().join(", ");
        let ips = list(&|node| node.ip().to_string());
        let peers = list(&|node| format!("{} . {}", node.ip(), node.port()));
        nft(&format!(
            "table {TABLE} {{
                set nodes {{ type ipv4_addr; elements = {{ {ips} }} }}
                set peers {{ type ipv4_addr . inet_service; elements = {{ {peers} }} }}
                set cut {{ type ipv4_addr . ipv4_addr; }}
                counter passed {{ }}
                counter lost {{ }}
                counter strange {{ }}
                chain input {{
                    type filter hook input priority 0;
                    ip saddr . ip daddr @cut counter name lost drop
                    ip daddr . udp dport @peers ip saddr != @nodes counter name strange drop
                    ip saddr @nodes ip daddr @nodes counter name passed
                }}
            }}"
        ));
        Self { nodes: nodes.iter().map(SocketAddr::ip).collect() }
    }

    /// From now on nothing that the first of each pair sends arrives at the second.
    pub(crate) fn cut(&self, pairs: impl Iterator<Item = (usize, usize)>) {
        let mut elements = String::new();
        for (from, to) in pairs {
            let _ = write!(elements, "{} . {}, ", self.nodes[from], self.nodes[to]);
        }
        nft(&format!("add element {TABLE} cut {{ {elements} }}"));
    }

    /// Nothing is cut any more.
    pub(crate) fn heal(&self) {
        nft(&format!("flush set {TABLE} cut"));
    }

    /// Packets between nodes that went through so far, and that did not.
    ///
    /// # Panics
    /// If a node was sent something from an address that is no node's.
    pub(crate) fn traffic(&self) -> Traffic {
        assert_eq!(packets("strange"), 0, "packets between nodes came from other addresses than theirs");
        Traffic { passed: packets("passed"), lost: packets("lost") }
    }
}

fn packets(counter: &str) -> u64 {
    let listed = nft(&format!("list counter {TABLE} {counter}"));
    let mut words = listed.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no counter: {listed}"))
}

/// Carries out commands of nftables, all or none.
fn nft(commands: &str) -> String {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("nft cannot be run: {error}"));
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft: {said}\n{commands}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
