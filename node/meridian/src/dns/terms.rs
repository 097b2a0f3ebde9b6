//! On which terms answers are given: cookies, the server's name, how many. Swapped whole when the config changes.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use region_config::DnsTerms;
use wire::dns::CookieSecrets;

use crate::chance;

/// Longest file with secrets that is read, in bytes.
const SECRETS_BYTES_MAX: u64 = 4_096;
/// Octets of a secret (RFC 9018 section 4.4).
const SECRET_BYTES: usize = 16;

/// Why the terms of a config cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TermsFault {
    /// The file with the secrets for cookies cannot be read.
    #[error("cookie secrets {}: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It does not have one or two secrets.
    #[error("cookie secrets {}: expected one or two lines of 32 hex digits, such as `openssl rand -hex 16` prints", file.display())]
    Form {
        /// The file.
        file: PathBuf,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers to make DNS cookies with")]
    Chance,
}

/// On which terms answers are given.
#[derive(Debug)]
pub struct Terms {
    pub(super) secrets: CookieSecrets,
    /// What a query for the server's name gets (RFC 5001).
    pub(super) nsid: Option<Box<[u8]>>,
    /// Answers to one block of addresses, per second and kind; no limit if none.
    ///
    /// Each thread counts what it answers itself. The kernel spreads the ports of one sender over the threads, so each has
    /// its part of the rate.
    pub(super) answers_per_second: Option<u32>,
    /// UDP threads at each address.
    pub(super) threads: usize,
    /// The secret where the config names none; kept as long as the program runs.
    drawn: [u8; SECRET_BYTES],
}

impl Terms {
    /// The terms of a config; reads its file of secrets.
    ///
    /// # Errors
    /// [`TermsFault`].
    pub fn load(config: &DnsTerms) -> Result<Self, TermsFault> {
        let mut drawn = [0; SECRET_BYTES];
        if !chance::fill(&mut drawn) {
            return Err(TermsFault::Chance);
        }
        Self::with(config, drawn, config.threads.max(1))
    }

    /// The terms of another config, while the node runs: cookies that were given hold on if no file says otherwise.
    ///
    /// # Errors
    /// As [`Terms::load`].
    pub fn renewed(&self, config: &DnsTerms) -> Result<Self, TermsFault> {
        Self::with(config, self.drawn, self.threads)
    }

    fn with(config: &DnsTerms, drawn: [u8; SECRET_BYTES], threads: usize) -> Result<Self, TermsFault> {
        let secrets = match &config.cookie_secret {
            Some(file) => read(file)?,
            None => CookieSecrets { made_with: drawn, also_taken: None },
        };
        let nsid = config.nsid.as_ref().map(|text| text.as_bytes().into());
        let part = |rate: u32| rate.div_ceil(u32::try_from(threads).unwrap_or(u32::MAX));
        Ok(Self { secrets, nsid, answers_per_second: config.answers_per_second.map(part), threads, drawn })
    }
}

fn read(file: &Path) -> Result<CookieSecrets, TermsFault> {
    let mut text = String::new();
    let read = File::open(file).and_then(|opened| opened.take(SECRETS_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|cause| TermsFault::Read { file: file.to_owned(), cause })?;
    parsed(&text).ok_or_else(|| TermsFault::Form { file: file.to_owned() })
}

/// One secret a line; empty lines and comments (`#`) are passed over.
fn parsed(text: &str) -> Option<CookieSecrets> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let secrets = lines.map(secret).collect::<Option<Vec<_>>>()?;
    match secrets.as_slice() {
        [one] => Some(CookieSecrets { made_with: *one, also_taken: None }),
        [one, other] => Some(CookieSecrets { made_with: *one, also_taken: Some(*other) }),
        _ => None,
    }
}

fn secret(line: &str) -> Option<[u8; SECRET_BYTES]> {
    let digits = line.len() == 2 * SECRET_BYTES && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(line, 16).ok().map(u128::to_be_bytes)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_secrets_are_read_and_nothing_else() {
        let secrets =
            parsed("# new\nE5E973e5a6b2a43f48e7dc849e37bfcf\n\n000102030405060708090a0b0c0d0e0f\r\n").unwrap();
        assert_eq!(secrets.made_with[..3], [0xe5, 0xe9, 0x73]);
        assert_eq!(secrets.also_taken.unwrap()[15], 15);
        let zero = "00".repeat(16);
        assert_eq!(parsed(&zero).unwrap().also_taken, None);
        for bad in ["", "00", &format!("+{}", &zero[1..]), &format!("{zero}0"), &[zero.as_str(); 3].join("\n"), "no"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert!(!format!("{secrets:?}").contains("E5"));
    }

    #[test]
    fn a_reload_keeps_the_secret_that_was_drawn_and_a_fault_names_the_file() {
        let none = DnsTerms { nsid: Some("fra-1".to_owned()), ..DnsTerms::default() };
        let first = Terms::load(&none).unwrap();
        let second = first.renewed(&none).unwrap();
        assert_eq!(first.secrets, second.secrets);
        assert_ne!(first.secrets, Terms::load(&none).unwrap().secrets);
        let missing = DnsTerms { cookie_secret: Some("/nowhere/secret".into()), ..DnsTerms::default() };
        assert!(second.renewed(&missing).unwrap_err().to_string().starts_with("cookie secrets /nowhere/secret: "));
    }
}
