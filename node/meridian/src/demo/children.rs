//! The demo's processes: started, watched, and stopped by their ids.

use std::{
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    DemoFault, Event,
    fleet::{failed, write_file},
};
use crate::clock;

/// How often one looks whether a child has ended.
const LOOK: Duration = Duration::from_millis(100);
/// How long a child may take to end when told to; after that it is killed.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Folder of the logs, in the work folder.
const LOGS: &str = "logs";
/// How much of a log's end is shown.
const TAIL_LINES: usize = 8;
const TAIL_BYTES: usize = 8 << 10;

/// Whether someone wants the demo to end (SIGINT, SIGTERM).
#[derive(Debug, Clone)]
pub(super) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// Listens for signals from now on.
    pub(super) fn new() -> Result<Self, DemoFault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(DemoFault::Signals)?;
        let flag = Arc::new(AtomicBool::new(false));
        let (raised, entered) = (Arc::clone(&flag), runtime.enter());
        let kinds = [tokio::signal::unix::SignalKind::interrupt(), tokio::signal::unix::SignalKind::terminate()];
        let [interrupt, terminate] = kinds.map(tokio::signal::unix::signal);
        let (mut interrupt, mut terminate) =
            (interrupt.map_err(DemoFault::Signals)?, terminate.map_err(DemoFault::Signals)?);
        drop(entered);
        let listen = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            raised.store(true, Ordering::Relaxed);
        };
        thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(DemoFault::Signals)?;
        Ok(Self(flag))
    }

    /// Whether one came.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The processes. All that still run are stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Children {
    dir: PathBuf,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    name: String,
    child: Child,
    config: Option<PathBuf>,
    log: PathBuf,
}

impl Children {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), running: Vec::new() }
    }

    /// Starts one; what it prints goes to `<name>.log` in the work folder's `logs`. `config` is a node's configuration.
    pub(super) fn start(&mut self, name: &str, mut command: Command, config: Option<PathBuf>) -> Result<(), DemoFault> {
        let log = self.logs().join(format!("{name}.log"));
        write_file(&log, "", 0o600)?;
        let open = || fs::OpenOptions::new().append(true).open(&log).map_err(failed("opening", &log));
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        // a group of its own: Ctrl-C at the terminal reaches us, and we stop them one by one
        command.process_group(0);
        let child = command.spawn().map_err(|source| DemoFault::Spawn {
            name: name.to_owned(),
            program: command.get_program().display().to_string(),
            source,
        })?;
        self.running.push(Running { name: name.to_owned(), child, config, log });
        Ok(())
    }

    /// Writes the ids into the work folder, for whoever has to clean up after a demo that was killed.
    pub(super) fn keep_pids(&self) -> Result<(), DemoFault> {
        let lines: Vec<String> = self.running.iter().map(|it| format!("{} {}\n", it.child.id(), it.name)).collect();
        write_file(&self.dir.join("pids"), &lines.concat(), 0o644)
    }

    /// The process id of one; 0 if it does not run.
    pub(super) fn pid(&self, name: &str) -> u32 {
        self.running.iter().find(|it| it.name == name).map_or(0, |it| it.child.id())
    }

    /// The folder of their logs.
    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join(LOGS)
    }

    /// Fails if one has ended.
    pub(super) fn all_run(&mut self) -> Result<(), DemoFault> {
        for running in &mut self.running {
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(DemoFault::Ended {
                    name: running.name.clone(),
                    how: how(status),
                    log: running.log.clone(),
                    tail: tail(&running.log),
                });
            }
        }
        Ok(())
    }

    /// Tells of each one that ends, and goes on; returns when the demo is to end.
    pub(super) fn watch(&mut self, stopping: &Stopping, show: &mut dyn FnMut(Event<'_>)) {
        while !stopping.is_wanted() {
            self.running.retain_mut(|running| {
                let Ok(Some(status)) = running.child.try_wait() else { return true };
                let (name, pid) = (running.name.as_str(), running.child.id());
                show(Event::Ended { name, pid, how: how(status), config: running.config.as_deref() });
                false
            });
            thread::sleep(LOOK);
        }
    }

    fn stop(&mut self) {
        for running in &self.running {
            terminate(&running.child);
        }
        let deadline = clock::instant() + STOP_MAX;
        while !self.running.is_empty() && clock::instant() < deadline {
            self.running.retain_mut(|it| matches!(it.child.try_wait(), Ok(None)));
            thread::sleep(LOOK / 4);
        }
        for running in &mut self.running {
            // it may end just now by itself
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Asks a child to end. Its id is its own as long as we have not waited for it.
#[allow(unsafe_code, reason = "the standard library can kill a child, but not ask it to end")]
fn terminate(child: &Child) {
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: plain system call, no memory is passed
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let end = bytes.get(bytes.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
    let text = String::from_utf8_lossy(end);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_that_ends_is_told_with_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut children = Children::new(dir.path());
        children.start("a", shell("echo this is why; exit 3"), None).unwrap();
        let deadline = clock::instant() + Duration::from_secs(10);
        while children.all_run().is_ok() && clock::instant() < deadline {
            thread::yield_now();
        }
        let fault = children.all_run().unwrap_err().to_string();
        assert!(fault.contains("a ended before all were ready (exit code 3)"), "{fault}");
        assert!(fault.ends_with("this is why"), "{fault}");
    }

    #[test]
    fn children_are_asked_to_end_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut children = Children::new(dir.path());
        children.start("a", shell("trap 'exit 0' TERM; while :; do sleep 0.05; done"), None).unwrap();
        children.keep_pids().unwrap();
        let pid = children.pid("a");
        assert!(pid > 0 && fs::read_to_string(dir.path().join("pids")).unwrap() == format!("{pid} a\n"));
        drop(children);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
