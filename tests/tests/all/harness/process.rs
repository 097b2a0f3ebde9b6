//! Child processes: started, watched, killed, and never left behind.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use super::until;

/// How long a process may take until it answers.
const START: Duration = Duration::from_secs(20);

/// Lines of a log that a failed test shows.
const LINES_SHOWN: usize = 40;

/// A child process with its output in a file; killed and waited for at the end.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it writes is added to `<name>.log` in `dir`.
    pub(crate) fn start(name: &str, dir: &Path, command: &mut Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let err = out.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written, and those of the same name before it.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        self.status().is_some()
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until `condition` holds, and fails at once if the process ends before.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let name = self.name.clone();
        until(&format!("{name}: {what}"), START, || {
            if let Some(status) = self.status() {
                panic!("{name} ended with {status} before: {what}");
            }
            condition(self)
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let output = self.output();
        // foyer's own tasks may panic when their disk fails, and redb when its file is torn; the node has to live with it
        let others = ["/foyer-", "/redb-"];
        let own = |line: &str| line.contains("panicked at") && !others.iter().any(|name| line.contains(name));
        let panicked = output.lines().any(own);
        if thread::panicking() {
            let lines: Vec<_> = output.lines().collect();
            let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
            eprintln!("--- {} (pid {}) wrote, at last:\n{shown}", self.name, self.id());
        } else {
            assert!(!panicked, "{} panicked:\n{output}", self.name);
        }
    }
}

/// How a process ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// All that it wrote.
    pub(crate) output: String,
}

/// Runs `meridian` with `arguments` to its end, which must come within the `deadline`.
#[track_caller]
pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(dir: &Path, arguments: &[A], deadline: Duration) -> Ended {
    let mut command = Command::new(super::binary());
    command.args(arguments);
    let name = format!("run-{}", fs::read_dir(dir).unwrap().count());
    let mut process = Process::start(&name, dir, &mut command);
    until(&format!("`{command:?}` ends"), deadline, || process.ended());
    let status = process.status();
    Ended { code: status.and_then(|status| status.code()), output: process.output() }
}
