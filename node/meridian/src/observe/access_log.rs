//! The access log: one JSON object a line.
//!
//! A request's line is formatted into its thread's block; full blocks go through a bounded channel to one thread, which
//! writes. Nothing here waits for the disk: what does not fit is dropped and counted. Once a second the writer also takes
//! what lies in half-full blocks. Queries, headers and cookies are not logged: they carry secrets.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use rules::{caching::Reason, residency::Permit};

use super::{
    counters::Outcome,
    json,
    threads::{SLOTS, slot},
};
use crate::clock;

const BLOCK_BYTES: usize = 64 * 1024;
/// Blocks that may wait for the disk: 8 MiB.
const BLOCKS_WAITING_MAX: usize = 128;
const SWEEP: Duration = Duration::from_secs(1);
const HOST_BYTES_MAX: usize = 256;
const PATH_BYTES_MAX: usize = 2048;
const AGENT_BYTES_MAX: usize = 256;

/// What is logged of a request.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// When its head was read, in ms since the Unix epoch.
    pub unix_ms: u64,
    /// Its method.
    pub method: &'a str,
    /// The host it asked for.
    pub host: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
    /// `HTTP/1.1`, `HTTP/2` or `HTTP/3`.
    pub protocol: &'static str,
    /// The client's address.
    pub client: IpAddr,
    /// The client's `User-Agent`.
    pub agent: Option<&'a [u8]>,
    /// The status it was answered with.
    pub status: u16,
    /// Bytes of body sent.
    pub bytes: u64,
    /// Time to the answer's head, in us.
    pub micros: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was not a hit.
    pub reason: Option<Reason>,
}

/// An open access log.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    full: SyncSender<Block>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the threads that log and the one that writes share.
#[derive(Debug)]
struct Shared {
    blocks: Box<[Mutex<Block>]>,
    reopen: AtomicBool,
    closing: AtomicBool,
    written: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    lines: u64,
}

impl AccessLog {
    /// Opens the log, appending to what is there, and starts its writer.
    ///
    /// # Errors
    /// If the file cannot be opened, or no thread be started.
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        let file = open(path)?;
        let shared = Arc::new(Shared {
            blocks: (0..SLOTS).map(|_| Mutex::default()).collect(),
            reopen: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let (full, waiting) = sync_channel(BLOCKS_WAITING_MAX);
        let writer = Writer { file, path: path.to_owned(), shared: Arc::clone(&shared), failing: false };
        // a plain thread: it lives in blocking writes, and outlives the runtimes so that the last lines are written
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&waiting))?;
        Ok(Arc::new(Self { shared, full, writer: Mutex::new(Some(thread)) }))
    }

    /// Logs a request of the permit's site. Never waits for the disk.
    pub fn line(&self, permit: &Permit, line: &Line<'_>) {
        // the slot's lock is only ever contended by the writer's once-a-second swap of two pointers
        let Some(block) = self.shared.blocks.get(slot().index) else { return };
        let mut block = block.lock();
        if block.bytes.capacity() == 0 {
            block.bytes.reserve(BLOCK_BYTES);
        }
        format(&mut block.bytes, permit, line);
        block.lines += 1;
        if block.bytes.len() + LINE_USUAL_BYTES > BLOCK_BYTES {
            let full = std::mem::take(&mut *block);
            drop(block);
            if let Err(refused) = self.full.try_send(full) {
                let (std::sync::mpsc::TrySendError::Full(block) | std::sync::mpsc::TrySendError::Disconnected(block)) =
                    refused;
                self.shared.dropped.fetch_add(block.lines, Relaxed);
            }
        }
    }

    /// Makes the writer open the file anew under the same path: for log rotation, at SIGHUP.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
    }

    /// Lines written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.shared.written.load(Relaxed)
    }

    /// Lines lost so far: the disk was full, failing or too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Writes what is left and ends the writer. Blocks until it has ended: for the end of the process.
    pub fn close(&self) {
        self.shared.closing.store(true, Relaxed);
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            // an empty block wakes it at once; if the channel is full it is awake anyway
            let _ = self.full.try_send(Block::default());
            let _ = writer.join();
        }
    }
}

/// A block is handed on when a line of this length would not fit any more; a longer one only makes it grow a little.
const LINE_USUAL_BYTES: usize = 1024;

fn format(out: &mut Vec<u8>, permit: &Permit, line: &Line<'_>) {
    out.extend_from_slice(b"{\"time_ms\":");
    json::number(out, line.unix_ms);
    out.extend_from_slice(b",\"site\":\"");
    // names and words of ours need no escaping
    out.extend_from_slice(permit.site().as_str().as_bytes());
    out.extend_from_slice(b"\",\"client\":\"");
    let _ = write!(out, "{}", line.client);
    out.extend_from_slice(b"\",\"method\":");
    json::string(out, line.method.as_bytes(), HOST_BYTES_MAX);
    out.extend_from_slice(b",\"host\":");
    json::string(out, line.host.as_bytes(), HOST_BYTES_MAX);
    out.extend_from_slice(b",\"path\":");
    json::string(out, line.path.as_bytes(), PATH_BYTES_MAX);
    out.extend_from_slice(b",\"protocol\":\"");
    out.extend_from_slice(line.protocol.as_bytes());
    out.extend_from_slice(b"\",\"status\":");
    json::number(out, line.status.into());
    out.extend_from_slice(b",\"bytes\":");
    json::number(out, line.bytes);
    out.extend_from_slice(b",\"micros\":");
    json::number(out, line.micros.into());
    out.extend_from_slice(b",\"outcome\":\"");
    out.extend_from_slice(line.outcome.as_str().as_bytes());
    out.push(b'"');
    if let Some(reason) = line.reason {
        out.extend_from_slice(b",\"reason\":\"");
        out.extend_from_slice(reason.as_str().as_bytes());
        out.push(b'"');
    }
    if let Some(agent) = line.agent {
        out.extend_from_slice(b",\"agent\":");
        json::string(out, agent, AGENT_BYTES_MAX);
    }
    out.extend_from_slice(b"}\n");
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The thread that writes.
struct Writer {
    file: File,
    path: PathBuf,
    shared: Arc<Shared>,
    failing: bool,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Block>) {
        let mut swept = clock::instant();
        loop {
            match waiting.recv_timeout(SWEEP) {
                Ok(block) => self.take(&block),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // also under a steady flow of full blocks: other threads may log little
            if clock::instant().duration_since(swept) >= SWEEP {
                self.sweep();
                swept = clock::instant();
            }
            if self.shared.closing.load(Relaxed) {
                break;
            }
        }
        waiting.try_iter().for_each(|block| self.take(&block));
        self.sweep();
    }

    fn sweep(&mut self) {
        self.rotate();
        for index in 0..self.shared.blocks.len() {
            let block = std::mem::take(&mut *self.shared.blocks[index].lock());
            self.take(&block);
        }
    }

    fn rotate(&mut self) {
        if !self.shared.reopen.swap(false, Relaxed) {
            return;
        }
        match open(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => tracing::error!(
                path = %self.path.display(), %error, "cannot open the access log anew; it goes on in the old file"
            ),
        }
    }

    fn take(&mut self, block: &Block) {
        self.rotate();
        if block.lines == 0 {
            return;
        }
        let done = append(&mut self.file, &block.bytes);
        let counter = if done.is_ok() { &self.shared.written } else { &self.shared.dropped };
        counter.fetch_add(block.lines, Relaxed);
        match done {
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(path = %self.path.display(), %error, "cannot write the access log; lines are dropped");
            }
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!(path = %self.path.display(), "the access log can be written again");
            }
            _ => {}
        }
    }
}

/// Appends a block whole, or not at all: what a full disk took of it is cut off again.
fn append(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return undo(file, bytes.len() - rest.len(), io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return undo(file, bytes.len() - rest.len(), error),
        }
    }
    Ok(())
}

fn undo(file: &File, written: usize, error: io::Error) -> io::Result<()> {
    if written > 0 {
        let length = file.metadata()?.len();
        file.set_len(length.saturating_sub(written as u64))?;
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{fs, net::Ipv4Addr};

    use super::*;
    use crate::observe::tests::permit;

    fn line(path: &str) -> Line<'_> {
        Line {
            unix_ms: 1_800_000_000_000,
            method: "GET",
            host: "shop.example",
            path,
            protocol: "HTTP/1.1",
            client: Ipv4Addr::LOCALHOST.into(),
            agent: Some(b"curl/8 \"\xff\""),
            status: 200,
            bytes: 1234,
            micros: 56,
            outcome: Outcome::Miss,
            reason: Some(Reason::UriMiss),
        }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_line_is_one_json_object_also_with_hostile_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = AccessLog::open(&path).unwrap();
        log.line(&permit(), &line("/a\"}\n{\"site\":\"other\"}"));
        log.close();
        let lines = lines(&path);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["path"], "/a\"}\n{\"site\":\"other\"}");
        assert_eq!(lines[0]["site"], "shop");
        assert_eq!(lines[0]["client"], "127.0.0.1");
        assert_eq!(lines[0]["agent"], "curl/8 \"\u{fffd}\"");
        assert_eq!(lines[0]["status"], 200);
    }

    #[test]
    fn after_rotation_lines_go_to_the_new_file_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let log = AccessLog::open(&path).unwrap();
        let many = 3000;
        (0..many).for_each(|_| log.line(&permit(), &line("/before")));
        fs::rename(&path, &old).unwrap();
        log.reopen();
        (0..many).for_each(|_| log.line(&permit(), &line("/after")));
        log.close();
        assert_eq!(lines(&path).len() + lines(&old).len(), 2 * many);
        assert!(lines(&path).iter().any(|line| line["path"] == "/after"));
        assert_eq!(log.written(), 2 * many as u64);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_full_disk_drops_lines_and_counts_them_and_nobody_waits() {
        // every write to this device fails with ENOSPC
        let log = AccessLog::open(Path::new("/dev/full")).unwrap();
        (0..5000).for_each(|_| log.line(&permit(), &line("/")));
        log.close();
        assert_eq!(log.written(), 0);
        assert_eq!(log.dropped(), 5000);
    }
}
