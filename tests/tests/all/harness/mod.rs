//! Starts what a test needs as real processes, talks to it, waits for conditions, and ends what it started.

#![allow(dead_code, reason = "each module of tests takes what it needs")]

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod dns;
pub(crate) mod firewall;
pub(crate) mod fleet;
pub(crate) mod nats;
pub(crate) mod nats_secured;
mod node;
pub(crate) mod orders;
pub(crate) mod origin;
pub(crate) mod parted;
mod process;
mod quiet;
pub(crate) mod scribe;
pub(crate) mod shim;
pub(crate) mod stamped;
pub(crate) mod wire;
#[path = "../../../../node/meridian/src/geo/tests/written.rs"]
pub(crate) mod written;
pub(crate) mod wrong_clock;

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    node::Node,
    process::{Ended, Process, run},
};

/// Waits until `condition` holds.
///
/// # Panics
/// With `what` was waited for, if it does not hold by the `deadline`.
#[track_caller]
pub(crate) fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "after {deadline:?} still not: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `probe` gives a value, and returns how long that took with it.
///
/// # Panics
/// With `what` was waited for and what was seen last, if there is none by the `deadline`.
pub(crate) async fn until_some<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        let seen = match probe().await {
            Ok(value) => return (value, start.elapsed()),
            Err(seen) => seen,
        };
        assert!(start.elapsed() < deadline, "after {deadline:?} still not: {what}; seen last: {seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// So many addresses on 127.0.0.1 whose ports were free a moment ago, all different.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    free_addresses_on(Ipv4Addr::LOCALHOST.into())
}

/// So many addresses on one IP whose ports were free a moment ago, over TCP and UDP, all different.
pub(crate) fn free_addresses_on<const N: usize>(ip: IpAddr) -> [SocketAddr; N] {
    let held: [(TcpListener, UdpSocket); N] = std::array::from_fn(|_| {
        let both = || {
            let tcp = TcpListener::bind((ip, 0)).ok()?;
            let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
            Some((tcp, udp))
        };
        (0..100).find_map(|_| both()).unwrap_or_else(|| panic!("no free port on {ip}"))
    });
    held.map(|(tcp, _)| tcp.local_addr().unwrap())
}

/// The `meridian` under test: what `MERIDIAN_BIN` names, else what cargo built last in this test's own profile.
///
/// # Panics
/// If there is none: cargo builds the binaries of other packages only when told to.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = env::var_os("MERIDIAN_BIN") {
        return path.into();
    }
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("meridian")));
    let places: Vec<_> = [Some(target.join(profile).join("meridian")), beside].into_iter().flatten().collect();
    let found = places.iter().find(|place| place.is_file());
    let expected = places.first().unwrap().display().to_string();
    found.cloned().unwrap_or_else(|| panic!("there is no {expected}: run `cargo build -p meridian` first"))
}
