//! Three regions with two nodes each on one machine, in front of origins that know nothing of Meridian.
//!
//! Everything is real: each node is a process of this binary with a certificate and a folder of its own, and talks to the
//! others over loopback addresses. The fleet is the example in `region-config/examples/three-regions`.

mod children;
mod fleet;
mod origin;
mod ports;
mod ready;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use region_config::RegionId;
use serde::Serialize;

use self::{
    children::Children,
    fleet::{Fleet, Member},
    origin::Program,
};
use crate::{clock, peers::ca::CaFault};

/// How long the nodes may take to be ready.
const READY_MAX: Duration = Duration::from_secs(90);

/// Where and what to start.
#[derive(Debug, Args)]
pub struct Order {
    /// Work folder: configurations, certificates, state and logs; an earlier demo's is emptied.
    #[arg(long, value_name = "DIR", default_value = ".demo")]
    dir: PathBuf,
    /// Folder with the origins' programs and data, installed by `npm ci`.
    #[arg(long, value_name = "DIR", default_value = "deploy/demo-origin")]
    origin: PathBuf,
    /// Second number of all loopback addresses, 127.N.x.y: with different ones, demos run side by side.
    #[arg(long, value_name = "N", default_value_t = 0)]
    network: u8,
}

/// What happened, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// The next thing is being done.
    Doing(&'a str),
    /// All nodes are ready.
    Ready(&'a Ready),
    /// A process ended, though nobody told it to.
    Ended {
        /// Its name.
        name: &'a str,
        /// Its process id.
        pid: u32,
        /// How it ended.
        how: String,
        /// Its configuration, if it is a node.
        config: Option<&'a Path>,
    },
}

/// A demo that runs.
#[derive(Debug, Serialize)]
pub struct Ready {
    /// The work folder.
    pub dir: PathBuf,
    /// How long it took, in ms.
    pub took_ms: u64,
    /// The nodes, by region.
    pub nodes: Vec<ReadyNode>,
    /// The origins.
    pub origins: Vec<ReadyOrigin>,
    /// The CA that signed the sites' certificate.
    pub web_ca: PathBuf,
}

/// A node that runs.
#[derive(Debug, Serialize)]
pub struct ReadyNode {
    /// Its name.
    pub name: String,
    /// The region that it stands in.
    pub region: RegionId,
    /// Its address: HTTP on 8080, HTTPS on 8443, DNS on 5300, admin on 9180.
    pub address: String,
    /// Its process id.
    pub pid: u32,
    /// Its configuration folder.
    pub config: PathBuf,
    /// Its admin token.
    pub token: String,
}

/// An origin that runs.
#[derive(Debug, Serialize)]
pub struct ReadyOrigin {
    /// Its name.
    pub name: &'static str,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its process id.
    pub pid: u32,
}

/// Why the demo could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DemoFault {
    /// A file or folder could not be read or written.
    #[error("{doing} `{}`: {source}", .path.display())]
    File {
        /// What we were doing.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The work folder holds something else.
    #[error("`{}` holds files that are not a demo's; nothing was removed: empty it or choose another with --dir", .0.display())]
    Foreign(PathBuf),
    /// Addresses are in use.
    #[error("nothing was started, since these addresses cannot be listened on (--network 1 takes others):\n  {}", .0.join("\n  "))]
    Used(Vec<String>),
    /// The origins are not installed.
    #[error("the origins' programs are not in `{}`: run `npm ci` there, or use `make demo`", .0.display())]
    NoOrigin(PathBuf),
    /// The built-in example does not fit this version.
    #[error("the example fleet: {0}")]
    Example(String),
    /// Certificates could not be made.
    #[error("making the nodes' certificates: {0}")]
    Ca(#[from] CaFault),
    /// The certificate of the sites could not be made.
    #[error("making the sites' certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A process could not be started.
    #[error("starting {name} (`{program}`): {source}")]
    Spawn {
        /// What it is.
        name: String,
        /// What was to be run.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process ended before all were ready.
    #[error("{name} ended before all were ready ({how}); the end of its log `{}`:\n{tail}", .log.display())]
    Ended {
        /// What it is.
        name: String,
        /// How it ended.
        how: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Some were not ready in time.
    #[error("not ready after {} s: {}; their logs are in `{}`", READY_MAX.as_secs(), .names.join(", "), .dir.display())]
    NotReady {
        /// Which.
        names: Vec<String>,
        /// The folder of the logs.
        dir: PathBuf,
    },
    /// The system does not tell us about signals.
    #[error("waiting for signals: {0}")]
    Signals(io::Error),
}

/// Starts the demo, shows what happens, and stops everything on SIGINT or SIGTERM.
///
/// # Errors
/// Why it could not start; what was started by then is stopped.
pub fn run(order: &Order, show: &mut dyn FnMut(Event<'_>)) -> Result<(), DemoFault> {
    let began_ms = clock::monotonic_ms();
    let program = std::env::current_exe().map_err(|source| DemoFault::Spawn {
        name: "the nodes".to_owned(),
        program: "meridian".to_owned(),
        source,
    })?;
    let fleet = Fleet::new(order.network)?;
    let origins = origin::programs(&order.origin, order.network)?;
    ports::free(&fleet.members, &origins)?;
    show(Event::Doing("writing configurations and certificates"));
    let dir = fleet.write(&order.dir)?;
    let stopping = children::Stopping::new()?;

    let mut children = Children::new(&dir);
    show(Event::Doing("starting the origins"));
    for origin in &origins {
        children.start(origin.name, origin.command(&dir)?, None)?;
    }
    show(Event::Doing("starting six nodes, and waiting until they are ready"));
    for member in &fleet.members {
        let config = dir.join(&member.name);
        let mut command = std::process::Command::new(&program);
        command.arg("run").arg("--config").arg(&config);
        children.start(&member.name, command, Some(config))?;
    }
    children.keep_pids()?;
    if !ready::wait(&fleet.members, &mut children, &stopping)? {
        return Ok(());
    }
    show(Event::Ready(&Ready {
        took_ms: clock::monotonic_ms().saturating_sub(began_ms),
        nodes: fleet.members.iter().map(|member| ready_node(member, &dir, &children)).collect(),
        origins: origins.iter().map(|origin| ready_origin(origin, &children)).collect(),
        web_ca: dir.join(fleet::WEB_CA),
        dir,
    }));
    children.watch(&stopping, show);
    show(Event::Doing("stopping"));
    Ok(())
}

fn ready_origin(origin: &Program, children: &Children) -> ReadyOrigin {
    ReadyOrigin { name: origin.name, listen: origin.listen, pid: children.pid(origin.name) }
}

fn ready_node(member: &Member, dir: &Path, children: &Children) -> ReadyNode {
    let config = dir.join(&member.name);
    let token = std::fs::read_to_string(config.join("state/admin.token")).unwrap_or_default();
    ReadyNode {
        name: member.name.clone(),
        region: member.region.clone(),
        address: member.address.to_string(),
        pid: children.pid(&member.name),
        config,
        token: token.trim().to_owned(),
    }
}
