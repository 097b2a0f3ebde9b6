//! The cluster's private CA: two files in a folder, and the node certificates it signs.
//!
//! Every key is ECDSA P-256. The CA names its cluster in a URI SAN, `meridian://<cluster>`; a node certificate names
//! cluster, jurisdiction, region and node in one URI SAN (see [`PeerIdentity::uri`]). Keys are readable by their owner only,
//! and nothing is ever written over.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use region_config::{JurisdictionId, NodeId, RegionId};

use super::{IdentityFault, PeerIdentity, identity};
use crate::clock;

/// How long a CA certificate is valid.
const CA_DAYS: u64 = 3650;
/// How long a node certificate is valid.
const NODE_DAYS: u64 = 397;
/// How far back a certificate's validity begins, for clocks that run behind.
const SKEW: Duration = Duration::from_secs(3600);

/// Why the CA could not be made or could not sign.
#[derive(Debug, thiserror::Error)]
pub enum CaFault {
    /// The cluster's name is not a name.
    #[error("the cluster's name: {0}")]
    Cluster(region_config::NameFault),
    /// Something stands where a new file should go.
    #[error("`{}` exists already; nothing is written over, so move it away or choose another folder", .0.display())]
    Exists(PathBuf),
    /// A file or folder could not be read or written.
    #[error("{doing} `{}`: {source}", .path.display())]
    File {
        /// What we were doing, such as `writing`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds no usable CA.
    #[error("`{}` is not a CA made by `meridian ca init`: {why}", .path.display())]
    NotACa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A key or certificate could not be made.
    #[error("{doing}: {source}")]
    Signing {
        /// What we were doing.
        doing: &'static str,
        /// What the certificate library said.
        source: rcgen::Error,
    },
}

/// Where a CA lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The certificate, PEM: every node gets a copy.
    pub certificate: PathBuf,
    /// The private key, PEM: belongs on no node.
    pub key: PathBuf,
}

impl Authority {
    /// The files of the CA in `dir`, whether or not they are there.
    #[must_use]
    pub fn within(dir: &Path) -> Self {
        Self { certificate: dir.join("ca.pem"), key: dir.join("ca.key") }
    }
}

/// The files a node needs in its `identity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// A copy of the CA certificate, PEM: `<out>/ca.pem`.
    pub ca: PathBuf,
    /// The node's certificate, PEM: `<out>/<node>.pem`.
    pub certificate: PathBuf,
    /// The node's private key, PEM: `<out>/<node>.key`.
    pub key: PathBuf,
}

/// Makes the CA of `cluster` in `dir`, which is made if missing.
///
/// # Errors
/// [`CaFault::Exists`] if one is there already; nothing is changed then.
pub fn init(dir: &Path, cluster: &str) -> Result<Authority, CaFault> {
    let cluster = NodeId::parse(cluster).map_err(CaFault::Cluster)?;
    let authority = Authority::within(dir);
    refuse_existing(&[&authority.certificate, &authority.key])?;
    let doing = "making the CA";
    let key = new_key(doing)?;
    let params = authority_params(&cluster, clock::unix_ms()).map_err(|source| CaFault::Signing { doing, source })?;
    let certificate = params.self_signed(&key).map_err(|source| CaFault::Signing { doing, source })?;
    make_dir(dir)?;
    write_new(&authority.key, &key.serialize_pem(), 0o600)?;
    write_new(&authority.certificate, &certificate.pem(), 0o644)?;
    Ok(authority)
}

/// Signs a certificate for a node with the CA in `dir`, and writes it, its key and the CA certificate into `out`.
///
/// # Errors
/// [`CaFault::NotACa`] if `dir` holds no CA, [`CaFault::Exists`] if the node has files in `out` already or if `out` holds
/// another CA's certificate; nothing is changed then.
pub fn issue(
    dir: &Path,
    node: &NodeId,
    region: &RegionId,
    jurisdiction: &JurisdictionId,
    out: &Path,
) -> Result<Issued, CaFault> {
    let (cluster, ca_pem, issuer) = open(&Authority::within(dir))?;
    let issued = Issued {
        ca: out.join("ca.pem"),
        certificate: out.join(format!("{node}.pem")),
        key: out.join(format!("{node}.key")),
    };
    refuse_existing(&[&issued.certificate, &issued.key])?;
    let ca_is_there = match fs::read_to_string(&issued.ca) {
        Ok(found) if found == ca_pem => true,
        Ok(_) => return Err(CaFault::Exists(issued.ca)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(source) => return Err(CaFault::File { doing: "reading", path: issued.ca, source }),
    };
    let doing = "signing the node's certificate";
    let key = new_key(doing)?;
    let who = PeerIdentity { node: node.clone(), region: region.clone(), jurisdiction: jurisdiction.clone() };
    let params = node_params(&cluster, &who, clock::unix_ms()).map_err(|source| CaFault::Signing { doing, source })?;
    let certificate = params.signed_by(&key, &issuer).map_err(|source| CaFault::Signing { doing, source })?;
    make_dir(out)?;
    write_new(&issued.key, &key.serialize_pem(), 0o600)?;
    write_new(&issued.certificate, &certificate.pem(), 0o644)?;
    if !ca_is_there {
        write_new(&issued.ca, &ca_pem, 0o644)?;
    }
    Ok(issued)
}

/// Reads a CA: its cluster, its certificate as PEM, and what signs with it.
fn open(authority: &Authority) -> Result<(String, String, Issuer<'static, KeyPair>), CaFault> {
    let not_a_ca = |path: &Path, why: String| CaFault::NotACa { path: path.to_path_buf(), why };
    let read = |path: &Path| match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(not_a_ca(path, "there is no such file".into())),
        Err(source) => Err(CaFault::File { doing: "reading", path: path.to_path_buf(), source }),
    };
    let pem = read(&authority.certificate)?;
    let key = KeyPair::from_pem(&read(&authority.key)?).map_err(|e| not_a_ca(&authority.key, e.to_string()))?;
    let cluster = identity::cluster_of_ca(&pem, key.public_key_raw(), clock::unix_ms())
        .map_err(|fault: IdentityFault| not_a_ca(&authority.certificate, fault.to_string()))?;
    let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|e| not_a_ca(&authority.certificate, e.to_string()))?;
    Ok((cluster, pem, issuer))
}

fn new_key(doing: &'static str) -> Result<KeyPair, CaFault> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|source| CaFault::Signing { doing, source })
}

/// What the CA certificate of a cluster says.
pub(super) fn authority_params(cluster: &NodeId, now_unix_ms: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(&format!("meridian CA of {cluster}"), CA_DAYS, now_unix_ms);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(identity::cluster_uri(cluster.as_str()).try_into()?)];
    Ok(params)
}

/// What the certificate of a node says.
pub(super) fn node_params(
    cluster: &str,
    who: &PeerIdentity,
    now_unix_ms: u64,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(who.node.as_str(), NODE_DAYS, now_unix_ms);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(who.uri(cluster).try_into()?)];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(common_name: &str, days: u64, now_unix_ms: u64) -> CertificateParams {
    let now = Duration::from_millis(now_unix_ms);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = epoch + now.saturating_sub(SKEW);
    params.not_after = epoch + now + Duration::from_secs(days * 86_400);
    params
}

fn refuse_existing(paths: &[&Path]) -> Result<(), CaFault> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(CaFault::Exists(path.to_path_buf())),
        None => Ok(()),
    }
}

fn make_dir(dir: &Path) -> Result<(), CaFault> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| CaFault::File { doing: "making the folder", path: dir.to_path_buf(), source })
}

/// Writes a file that must not exist yet; the mode is set before the first byte is in it.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CaFault> {
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(CaFault::Exists(path.to_path_buf())),
        Err(source) => Err(CaFault::File { doing: "writing", path: path.to_path_buf(), source }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names() -> (NodeId, RegionId, JurisdictionId) {
        (NodeId::parse("eu-1").unwrap(), RegionId::parse("eu").unwrap(), JurisdictionId::parse("eea").unwrap())
    }

    #[test]
    fn keys_are_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let (node, region, jurisdiction) = names();
        let authority = init(&dir.path().join("ca"), "demo").unwrap();
        let out = dir.path().join("out");
        let issued = issue(&dir.path().join("ca"), &node, &region, &jurisdiction, &out).unwrap();
        for key in [&authority.key, &issued.key] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
        }
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (node, region, jurisdiction) = names();
        let authority = init(dir.path(), "demo").unwrap();
        let before = fs::read(&authority.key).unwrap();
        assert!(matches!(init(dir.path(), "demo"), Err(CaFault::Exists(_))));
        assert_eq!(fs::read(&authority.key).unwrap(), before);
        let out = dir.path().join("out");
        let issued = issue(dir.path(), &node, &region, &jurisdiction, &out).unwrap();
        let before = fs::read(&issued.key).unwrap();
        assert!(matches!(issue(dir.path(), &node, &region, &jurisdiction, &out), Err(CaFault::Exists(_))));
        assert_eq!(fs::read(&issued.key).unwrap(), before);
    }

    #[test]
    fn many_nodes_may_be_issued_into_one_folder_but_not_those_of_two_cas() {
        let dir = tempfile::tempdir().unwrap();
        let (node, region, jurisdiction) = names();
        let (one, two, out) = (dir.path().join("1"), dir.path().join("2"), dir.path().join("out"));
        init(&one, "demo").unwrap();
        init(&two, "demo").unwrap();
        issue(&one, &node, &region, &jurisdiction, &out).unwrap();
        let other = NodeId::parse("eu-2").unwrap();
        assert!(matches!(issue(&two, &other, &region, &jurisdiction, &out), Err(CaFault::Exists(_))));
        assert!(!out.join("eu-2.key").exists());
        issue(&one, &other, &region, &jurisdiction, &out).unwrap();
    }

    #[test]
    fn a_folder_without_a_ca_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let (node, region, jurisdiction) = names();
        let fault = issue(dir.path(), &node, &region, &jurisdiction, dir.path()).unwrap_err().to_string();
        assert!(fault.contains("ca.pem") && fault.contains("no such file"), "{fault}");
        assert!(matches!(init(dir.path(), "De_mo"), Err(CaFault::Cluster(_))));
    }
}
