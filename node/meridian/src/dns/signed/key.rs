//! The keys of zones: files that every node has alike.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use wire::dns::{DnsName, sign};

/// Largest key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A key that signs a zone: ECDSA with P-256 and SHA-256, algorithm 13 (RFC 6605).
pub struct ZoneKey {
    pair: EcdsaKeyPair,
    dnskey: Vec<u8>,
}

/// Why a file is no key of a zone.
#[derive(Debug, thiserror::Error)]
#[error("the DNSSEC key `{}` {why}", path.display())]
pub struct KeyFault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: KeyFaultKind,
}

/// What is wrong with a key's file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFaultKind {
    /// It is missing, or may not be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// It is there already.
    #[error("is there already; expected a file that is not: the zone above may still tell of this key")]
    Taken,
    /// It cannot be written.
    #[error("cannot be written: {0}")]
    Write(io::Error),
    /// It is too large for a key.
    #[error("has {0} bytes; expected one key as PEM, which has some 240")]
    Large(u64),
    /// It holds no private key.
    #[error(
        "holds no private key: {0}; expected PEM with a PRIVATE KEY section (PKCS #8), as `meridian zone key` makes it"
    )]
    Pem(rustls_pki_types::pem::Error),
    /// It holds another kind of key.
    #[error("holds a key that is none of ECDSA with P-256 in PKCS #8, as `meridian zone key` makes it")]
    Kind,
    /// The system gives no random numbers.
    #[error("cannot be made: the system gives no random numbers")]
    Chance,
}

impl std::fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZoneKey").field("tag", &self.tag()).finish_non_exhaustive()
    }
}

impl ZoneKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyFault`], which names the file.
    pub fn load(path: &Path) -> Result<Self, KeyFault> {
        let fault = |why| KeyFault { path: path.to_owned(), why };
        let read = || {
            let bytes = fs::metadata(path).map_err(KeyFaultKind::Read)?.len();
            if bytes > FILE_BYTES_MAX {
                return Err(KeyFaultKind::Large(bytes));
            }
            fs::read(path).map_err(KeyFaultKind::Read)
        };
        let pem = read().map_err(fault)?;
        match PrivateKeyDer::from_pem_slice(&pem) {
            Ok(PrivateKeyDer::Pkcs8(der)) => Self::of(der.secret_pkcs8_der()).ok_or_else(|| fault(KeyFaultKind::Kind)),
            Ok(_) => Err(fault(KeyFaultKind::Kind)),
            Err(error) => Err(fault(KeyFaultKind::Pem(error))),
        }
    }

    /// Makes a key and writes it into a file that must not be there yet and that only its owner may read. Its folder is made
    /// if it is missing.
    ///
    /// # Errors
    /// [`KeyFault`], which names the file.
    pub fn make(path: &Path) -> Result<Self, KeyFault> {
        let fault = |why| KeyFault { path: path.to_owned(), why };
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).ok();
        let key = made.as_ref().and_then(|made| Self::of(made.serialized_der()));
        let (Some(made), Some(key)) = (made, key) else { return Err(fault(KeyFaultKind::Chance)) };
        let written = write_new(path, made.serialize_pem().as_bytes());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => fault(KeyFaultKind::Taken),
            _ => fault(KeyFaultKind::Write(error)),
        })?;
        Ok(key)
    }

    fn of(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
        // 4 says that both coordinates follow (SEC 1 section 2.3.3)
        let [4, public @ ..] = pair.public_key().as_ref() else { return None };
        let dnskey = sign::dnskey(public.try_into().ok()?);
        Some(Self { pair, dnskey })
    }

    /// The data of its DNSKEY and CDNSKEY records.
    #[must_use]
    pub fn dnskey(&self) -> &[u8] {
        &self.dnskey
    }

    /// The number by which signatures name it.
    #[must_use]
    pub fn tag(&self) -> u16 {
        sign::key_tag(&self.dnskey)
    }

    /// The data of its DS and CDS records, for the zone above.
    #[must_use]
    pub fn ds(&self, zone: &DnsName) -> Vec<u8> {
        let found = digest(&SHA256, &sign::ds_input(zone, &self.dnskey));
        found.as_ref().try_into().map_or_else(|_| Vec::new(), |digest| sign::ds(&self.dnskey, digest))
    }

    /// A signature (RFC 6605 section 4); none if the system gives no random numbers.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

/// Writes a file that must not be there yet, and that only its owner may read.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_key_is_made_with_its_folder_and_never_over_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/example.com.pem");
        let tag = ZoneKey::make(&path).unwrap().tag();
        let said = ZoneKey::make(&path).unwrap_err().to_string();
        assert!(said.contains("keys/example.com.pem` is there already; expected"), "{said}");
        assert_eq!(ZoneKey::load(&path).unwrap().tag(), tag);
    }
}
