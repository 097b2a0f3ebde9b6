//! Starts what a test needs as real processes, waits for conditions, and ends what it started.

#![allow(dead_code, reason = "each module of tests takes what it needs")]

use std::{
    env,
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a process may take until it answers.
const START: Duration = Duration::from_secs(20);

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

/// So many addresses on 127.0.0.1 whose ports were free a moment ago, all different.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// A child process with its output in a file; killed and waited for at the end.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it writes goes to `<name>.log` in `dir`.
    pub(crate) fn start(name: &str, dir: &Path, command: &mut Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).unwrap();
        let err = out.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until `condition` holds, and fails at once if the process ends before.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let name = self.name.clone();
        until(&format!("{name}: {what}"), START, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{name} ended with {status} before: {what}");
            }
            condition(self)
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {} (pid {}) wrote:\n{}", self.name, self.id(), self.output());
        }
    }
}

/// A running `meridian` with a folder of its own.
pub(crate) struct Node {
    /// Where it serves HTTP.
    pub(crate) http: SocketAddr,
    /// Where its admin API is.
    pub(crate) admin: SocketAddr,
    process: Process,
    _dir: TempDir,
}

impl Node {
    /// Starts a node that stands alone, serves the `[[sites]]` (and whatever else) in `config`, and answers already.
    pub(crate) fn alone(config: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let [http, admin] = free_addresses();
        let head = format!("[node]\nname = \"edge-1\"\n[http]\nlisten = \"{http}\"\n[admin]\nlisten = \"{admin}\"\n");
        fs::write(dir.path().join("meridian.toml"), head + config).unwrap();
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(dir.path());
        let mut process = Process::start("meridian", dir.path(), &mut command);
        process.until("it listens", |_| TcpStream::connect(http).is_ok());
        Self { http, admin, process, _dir: dir }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
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
