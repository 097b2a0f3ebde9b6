//! The admin token: 256 bits, made at the first start, kept in a file that only its owner can read. There is no default.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

/// Name of the token's file in the state directory.
pub const FILE: &str = "admin.token";

const HEX_CHARS: usize = 64;

/// A wrong token is answered with 401 this many times before the source has to wait.
const FAILURES_FREE: u32 = 5;
const WAIT_FIRST_MS: u64 = 500;
const WAIT_MAX_MS: u64 = 30_000;
/// After this long without a failure a source starts anew.
const FORGET_MS: u64 = 10 * 60_000;
const SOURCES_MAX: usize = 1024;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFault {
    /// Reading or making the file failed.
    #[error("reading or making the admin token {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} is not an admin token: expected {HEX_CHARS} hex digits; remove the file to have a new one made", path.display())]
    NotAToken {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner may read the file.
    #[error("{} can be read by others (mode {mode:o}): expected 600", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness for the admin token: {0}")]
    Randomness(String),
}

/// The token; shows nothing of itself.
pub struct Token {
    digest: blake3::Hash,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last_ms: u64,
    wait_until_ms: u64,
}

/// What becomes of whoever sent a wrong token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// They may try again.
    Again,
    /// They have failed too often: they are to wait so many seconds.
    Wait { seconds: u64 },
}

impl Token {
    /// Reads the token from `state_dir`, or makes one if there is none.
    ///
    /// # Errors
    /// If the file cannot be read or made, holds something else, or can be read by others.
    pub fn load_or_create(state_dir: &Path) -> Result<Self, TokenFault> {
        let path = state_dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => {
                check_mode(&path)?;
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(state_dir, &path)?,
            Err(source) => return Err(TokenFault::File { path, source }),
        };
        let text = text.trim();
        if text.len() != HEX_CHARS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TokenFault::NotAToken { path });
        }
        Ok(Self::new(text))
    }

    fn new(text: &str) -> Self {
        Self { digest: blake3::hash(text.as_bytes()), failures: Mutex::default() }
    }

    /// Whether this is it. The digests are compared in constant time.
    ///
    /// The right token is always taken: 256 bits are not guessed, and a lock would let whoever shares an address with
    /// the operator shut them out. Waiting is for those who send wrong ones.
    pub(super) fn is(&self, sent: &[u8]) -> bool {
        blake3::hash(sent) == self.digest
    }

    /// `source` sent a right token.
    pub(super) fn succeeded(&self, source: IpAddr) {
        self.failures.lock().remove(&source);
    }

    /// `source` sent a wrong token.
    pub(super) fn failed(&self, source: IpAddr, now_ms: u64) -> Wrong {
        let mut sources = self.failures.lock();
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            forget(&mut sources, now_ms);
        }
        let failures = sources.entry(source).or_insert(Failures { count: 0, last_ms: now_ms, wait_until_ms: 0 });
        if failures.last_ms + FORGET_MS < now_ms {
            failures.count = 0;
        }
        failures.last_ms = now_ms;
        if now_ms < failures.wait_until_ms {
            return Wrong::Wait { seconds: (failures.wait_until_ms - now_ms).div_ceil(1000) };
        }
        failures.count += 1;
        if let Some(beyond) = failures.count.checked_sub(FAILURES_FREE) {
            failures.wait_until_ms = now_ms + (WAIT_FIRST_MS << beyond.min(10)).min(WAIT_MAX_MS);
        }
        Wrong::Again
    }
}

/// Makes room: those who may start anew, or else whoever failed longest ago.
fn forget(sources: &mut HashMap<IpAddr, Failures>, now_ms: u64) {
    sources.retain(|_, failures| failures.last_ms + FORGET_MS >= now_ms);
    if sources.len() < SOURCES_MAX {
        return;
    }
    if let Some(oldest) = sources.iter().min_by_key(|(_, failures)| failures.last_ms).map(|(source, _)| *source) {
        sources.remove(&oldest);
    }
}

fn check_mode(path: &Path) -> Result<(), TokenFault> {
    let metadata = fs::metadata(path).map_err(|source| TokenFault::File { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenFault::Readable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Makes a token file: complete under another name first, so that no crash leaves half a token.
fn create(state_dir: &Path, path: &Path) -> Result<String, TokenFault> {
    let mut random = [0_u8; HEX_CHARS / 2];
    getrandom::fill(&mut random).map_err(|error| TokenFault::Randomness(error.to_string()))?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let fault = |source| TokenFault::File { path: path.to_owned(), source };
    fs::create_dir_all(state_dir).map_err(fault)?;
    let draft = path.with_extension("token.new");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(fault)?;
    writeln!(file, "{text}").and_then(|()| file.sync_all()).map_err(fault)?;
    fs::rename(&draft, path).map_err(fault)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::net::Ipv4Addr;

    use super::*;

    /// What becomes of a login; none if the token is right.
    fn login(token: &Token, sent: &[u8], source: IpAddr, now_ms: u64) -> Option<Wrong> {
        if token.is(sent) {
            token.succeeded(source);
            return None;
        }
        Some(token.failed(source, now_ms))
    }

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_token_is_made_once_readable_by_its_owner_only_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        Token::load_or_create(&state_dir).unwrap();
        let path = state_dir.join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let token = Token::load_or_create(&state_dir).unwrap();
        assert_eq!(login(&token, text.trim().as_bytes(), HERE, 0), None);
        assert_eq!(login(&token, b"", HERE, 0), Some(Wrong::Again));
        assert!(!format!("{token:?}").contains(text.trim()));
    }

    #[test]
    fn a_file_that_is_no_token_or_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "admin").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Token::load_or_create(dir.path()), Err(TokenFault::NotAToken { .. })));
        fs::write(&path, "a".repeat(64)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Token::load_or_create(dir.path()), Err(TokenFault::Readable { mode: 0o644, .. })));
    }

    #[test]
    fn who_fails_often_waits_ever_longer_and_shuts_nobody_else_out() {
        let token = Token::new("right");
        let mut now_ms = 0;
        for _ in 0..FAILURES_FREE {
            assert_eq!(login(&token, b"wrong", HERE, now_ms), Some(Wrong::Again));
        }
        assert_eq!(login(&token, b"wrong", HERE, now_ms), Some(Wrong::Wait { seconds: 1 }));
        assert_eq!(login(&token, b"wrong", Ipv4Addr::new(127, 0, 0, 9).into(), now_ms), Some(Wrong::Again));
        let mut waits = Vec::new();
        for _ in 0..8 {
            now_ms += WAIT_MAX_MS;
            assert_eq!(login(&token, b"wrong", HERE, now_ms), Some(Wrong::Again));
            let Some(Wrong::Wait { seconds }) = login(&token, b"wrong", HERE, now_ms) else { unreachable!() };
            waits.push(seconds);
        }
        assert!(waits.is_sorted() && waits.last() == Some(&30), "{waits:?}");
        assert_eq!(login(&token, b"right", HERE, now_ms), None);
    }

    #[test]
    fn a_flood_from_many_addresses_does_not_grow_the_memory() {
        let token = Token::new("right");
        for n in 0..5000_u32 {
            login(&token, b"wrong", IpAddr::V4(Ipv4Addr::from(n)), n.into());
        }
        assert!(token.failures.lock().len() <= SOURCES_MAX);
    }
}
