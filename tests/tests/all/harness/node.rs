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
        let share = quiet::share();
        let [http, https, admin] = free_addresses();
        let head = format!(
            "[http]\nlisten = \"{http}\"\n[https]\nlisten = \"{https}\"\n[admin]\nlisten = \"{admin}\"\n\
             [node]\nname = \"edge-1\"\n"
        );
        fs::write(dir.path().join("meridian.toml"), head + config).unwrap();
        let mut process = start(dir.path());
        process.until("it is ready", |_| ready(admin).unwrap_or(false));
        Self { http, https, admin, process, dir, _share: share }
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
