//! A node that stands alone.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    rc::Rc,
    sync::RwLockReadGuard,
};

use tempfile::TempDir;

use super::{Process, binary, free_addresses, quiet};

/// A running `meridian` with a folder of its own.
pub(crate) struct Node {
    /// Where it serves HTTP.
    pub(crate) http: SocketAddr,
    /// Where it serves HTTPS.
    pub(crate) https: SocketAddr,
    /// Where its admin API is.
    pub(crate) admin: SocketAddr,
    process: Process,
    dir: TempDir,
    _share: Rc<RwLockReadGuard<'static, ()>>,
}

impl Node {
    /// Starts a node that stands alone, serves the `[[sites]]` (and whatever else) in `config`, and answers already. Keys
    /// before the first table are those of `[node]`.
    pub(crate) fn alone(config: &str) -> Self {
        Self::within(TempDir::new().unwrap(), config)
    }

    /// The same in a folder that holds files already; paths in `config` are relative to it.
    pub(crate) fn within(dir: TempDir, config: &str) -> Self {
        Self::started("edge-1", dir, config, start)
    }

    /// The same under another name.
    pub(crate) fn called(name: &str, config: &str) -> Self {
        Self::started(name, TempDir::new().unwrap(), config, start)
    }

    /// The same with a disk of its own for the cache, so many MiB large: a tmpfs that only the node sees.
    pub(crate) fn on_small_disk(config: &str, mib: u32) -> Self {
        Self::started("edge-1", TempDir::new().unwrap(), config, |dir| {
            fs::create_dir_all(dir.join("state/objects")).unwrap();
            let script = format!("mount -t tmpfs -o size={mib}m tmpfs state/objects && exec \"$0\" run --config .");
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(binary()).current_dir(dir);
            Process::start("meridian", dir, &mut command)
        })
    }

    fn started(name: &str, dir: TempDir, config: &str, start: impl FnOnce(&Path) -> Process) -> Self {
        let share = quiet::share();
        let [http, https, admin] = free_addresses();
        let head = format!(
            "[http]\nlisten = \"{http}\"\n[https]\nlisten = \"{https}\"\n[admin]\nlisten = \"{admin}\"\n\
             [node]\nname = \"{name}\"\n"
        );
        fs::write(dir.path().join("meridian.toml"), head + config).unwrap();
        let mut process = start(dir.path());
        process.until("it is ready", |_| ready(admin).unwrap_or(false));
        Self { http, https, admin, process, dir, _share: share }
    }

    /// Kills it, does something to its folder, and starts it again.
    pub(crate) fn kill_and_restart(&mut self, between: impl FnOnce(&Path)) {
        self.process.kill();
        between(self.dir.path());
        self.process = start(self.dir.path());
        let admin = self.admin;
        self.process.until("it is ready again", |_| ready(admin).unwrap_or(false));
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.id()).unwrap();
        // SAFETY: no memory is involved; the process is our child, and not waited for yet
        #[allow(unsafe_code, reason = "the only way to send a signal")]
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "signal {signal} to {pid}");
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// All that it has written to standard output and error.
    pub(crate) fn log(&self) -> String {
        self.process.output()
    }
}

/// Whether `/readyz` says so.
fn ready(admin: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

fn start(dir: &Path) -> Process {
    let mut command = Command::new(binary());
    command.arg("run").arg("--config").arg(dir);
    Process::start("meridian", dir, &mut command)
}
