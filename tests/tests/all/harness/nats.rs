//! Real NATS servers with JetStream, one or three.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use async_nats::jetstream;

use super::{Process, free_addresses_on, nats_secured::secured, until_some};

/// How long servers may take until they answer.
const START: Duration = Duration::from_secs(20);

/// What the nodes log in with, and the system account.
pub(crate) const USER: &str = "purger:s3cret-of-purger";
pub(crate) const SYSTEM: &str = "admin:s3cret-of-admin";

/// The server under test: what `NATS_SERVER` names, else what `tests/tools.sh` has put under `target`.
///
/// # Panics
/// If there is none.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("NATS_SERVER") {
        return path.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/nats/bin/nats-server");
    assert!(installed.is_file(), "there is no {}: run `make tools-test`, or set NATS_SERVER", installed.display());
    installed
}

/// How the servers sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Always,
    Lazily,
}

/// One server.
pub(crate) struct NatsServer {
    name: String,
    pub(crate) address: SocketAddr,
    dir: PathBuf,
    process: Option<Process>,
}

/// Servers that belong together.
pub(crate) struct Nats {
    pub(crate) servers: Vec<NatsServer>,
}

impl Nats {
    /// Starts so many servers that keep their files in `dir`.
    pub(crate) async fn start(dir: &Path, count: usize, sync: Sync) -> Self {
        let mut nats = Self::prepare(dir, count, sync);
        nats.servers.iter_mut().for_each(NatsServer::start);
        nats.ready().await;
        nats
    }

    /// Writes what they need, and starts none.
    pub(crate) fn prepare(dir: &Path, count: usize, sync: Sync) -> Self {
        let addresses: [SocketAddr; 6] = free_addresses_on(Ipv4Addr::LOCALHOST.into());
        let routes: Vec<_> = addresses[3..3 + count].iter().map(|route| format!("\"nats://{route}\"")).collect();
        let servers = (0..count).map(|index| {
            let (name, dir) = (format!("nats-{}", index + 1), dir.join(format!("nats-{}", index + 1)));
            fs::create_dir_all(&dir).unwrap();
            let sync = if sync == Sync::Always { "always" } else { "2m" };
            let [user, password] = pair(USER);
            let [admin, secret] = pair(SYSTEM);
            let mut config = format!(
                "server_name: {name}\nlisten: \"{}\"\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: {sync} }}\n\
                 accounts {{\n  P {{ jetstream: enabled, users: [{{ user: \"{user}\", password: \"{password}\" }}] }}\n  \
                 $SYS {{ users: [{{ user: \"{admin}\", password: \"{secret}\" }}] }}\n}}\n",
                addresses[index],
                dir.join("store").display(),
            );
            if count > 1 {
                let _ = writeln!(
                    config,
                    "cluster {{ name: test, listen: \"{}\", routes: [{}] }}",
                    addresses[3 + index],
                    routes.join(", ")
                );
            }
            fs::write(dir.join("nats.conf"), config).unwrap();
            NatsServer { name, address: addresses[index], dir, process: None }
        });
        Self { servers: servers.collect() }
    }

    /// One server as it is run across a network: see [`nats_secured`](super::nats_secured). Files of clients are written
    /// into `clients`. Not started.
    pub(crate) fn secured(dir: &Path, clients: &Path) -> Self {
        let [address] = free_addresses_on(Ipv4Addr::LOCALHOST.into());
        let (name, dir) = ("nats-1".to_owned(), dir.join("nats-1"));
        fs::create_dir_all(&dir).unwrap();
        let config = format!(
            "server_name: {name}\nlisten: \"{address}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n{}",
            dir.join("store").display(),
            secured(&dir, clients),
        );
        fs::write(dir.join("nats.conf"), config).unwrap();
        Self { servers: vec![NatsServer { name, address, dir, process: None }] }
    }

    /// Waits until JetStream takes orders.
    pub(crate) async fn ready(&self) {
        until_some("JetStream answers", START, async || {
            let context = self.context().await?;
            context.query_account().await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// As a client of the nodes' account.
    pub(crate) async fn context(&self) -> Result<jetstream::Context, String> {
        let [user, password] = pair(USER);
        let addresses: Vec<async_nats::ServerAddr> =
            self.servers.iter().map(|server| format!("nats://{}", server.address).parse().unwrap()).collect();
        let options = async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
        let client = options.connect(addresses).await.map_err(|error| error.to_string())?;
        Ok(jetstream::new(client))
    }

    /// The `servers` of a stream in a config.
    pub(crate) fn listed(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(|server| format!("\"nats://{}\"", server.address)).collect();
        format!("[{}]", servers.join(", "))
    }
}

impl NatsServer {
    /// Starts it; it may have run before.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.name);
        let mut command = Command::new(binary());
        command.arg("-c").arg(self.dir.join("nats.conf"));
        self.process = Some(Process::start(&self.name, &self.dir, &mut command));
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Where it keeps its streams.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }
}

fn pair(both: &str) -> [&str; 2] {
    let (user, password) = both.split_once(':').unwrap();
    [user, password]
}
