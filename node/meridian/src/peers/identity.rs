//! Who a node is: what the certificate says, checked once at the door.

use std::{fmt, fs, path::Path, sync::Arc, time::Duration};

use region_config::{Config, JurisdictionId, NodeId, RegionId};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time};

use super::IdentityFault;

const SCHEME: &str = "meridian://";

/// Who a peer is. Made from a certificate's URI SAN and from nothing else.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIdentity {
    /// The node.
    pub node: NodeId,
    /// The region it stands in.
    pub region: RegionId,
    /// The legal area that it is certified for.
    pub jurisdiction: JurisdictionId,
}

impl PeerIdentity {
    /// The URI SAN of this node's certificate: `meridian://<cluster>/<jurisdiction>/<region>/<node>`.
    #[must_use]
    pub fn uri(&self, cluster: &str) -> String {
        format!("{SCHEME}{cluster}/{}/{}/{}", self.jurisdiction, self.region, self.node)
    }

    /// Reads a URI as [`PeerIdentity::uri`] writes it. `None` if any part is missing, extra or no name.
    fn parse(uri: &str) -> Option<(String, Self)> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let cluster = NodeId::parse(parts.next()?).ok()?;
        let jurisdiction = JurisdictionId::parse(parts.next()?).ok()?;
        let region = RegionId::parse(parts.next()?).ok()?;
        let node = NodeId::parse(parts.next()?).ok()?;
        match parts.next() {
            None => Some((cluster.as_str().to_owned(), Self { node, region, jurisdiction })),
            Some(_) => None,
        }
    }

    /// The cluster and the identity that a certificate names. Says nothing about who signed it.
    ///
    /// # Errors
    /// [`IdentityFault::NotACertificate`], or [`IdentityFault::NoName`] if it does not hold exactly one well-formed
    /// `meridian:` URI.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<(String, Self), IdentityFault> {
        let parsed = parse(certificate)?;
        let uri = sole_uri(&parsed)?;
        Self::parse(&uri).ok_or(IdentityFault::NoName { found: Some(uri) })
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.jurisdiction, self.region, self.node)
    }
}

/// This node's identity as loaded from its files, and checked: signed by the CA, in its time, key fitting, and naming
/// what the config names.
#[derive(Clone)]
pub struct LoadedIdentity {
    /// Who we are.
    pub peer: PeerIdentity,
    /// The cluster that the certificate is for.
    pub cluster: String,
    /// When the certificate ends, in seconds since the Unix epoch.
    pub not_after_unix_s: i64,
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) roots: Arc<RootCertStore>,
}

impl fmt::Debug for LoadedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the key stays out of every log
        f.debug_struct("LoadedIdentity")
            .field("peer", &self.peer)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl LoadedIdentity {
    /// Reads and checks the identity that `config.node` names.
    ///
    /// # Errors
    /// An [`IdentityFault`] that says which file, what was found and what was expected; in particular
    /// [`IdentityFault::Claims`] if the certificate is for another node, region or jurisdiction than the config claims.
    pub fn load(config: &Config, now_unix_ms: u64) -> Result<Self, IdentityFault> {
        let files = config.node.identity.as_ref().ok_or(IdentityFault::None)?;
        let roots = Arc::new(roots(&files.ca)?);
        let in_file = |fault: IdentityFault| fault.within(&files.certificate);
        let chain = certificates(&files.certificate)?;
        let leaf =
            chain.first().ok_or(IdentityFault::NotACertificate { why: "it is empty".into() }).map_err(in_file)?;
        let not_after_unix_s = in_its_time(&parse(leaf).map_err(in_file)?, now_unix_ms).map_err(in_file)?;
        signed_by(&roots, &chain, now_unix_ms).map_err(in_file)?;
        let (cluster, peer) = PeerIdentity::of(leaf).map_err(in_file)?;
        as_claimed(config, &peer)?;
        let pem = read(&files.key)?;
        let bad_key = |why: String| IdentityFault::Key { path: files.key.clone(), why };
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| bad_key(format!("it holds no private key: {e}")))?;
        let certified = CertifiedKey::from_der(chain, key, &super::trust::provider())
            .map_err(|e| bad_key(format!("it does not belong to the certificate: {e}")))?;
        Ok(Self { peer, cluster, not_after_unix_s, certified: Arc::new(certified), roots })
    }
}

/// Whether a certificate says what the config claims; what the config claims alone never counts.
fn as_claimed(config: &Config, peer: &PeerIdentity) -> Result<(), IdentityFault> {
    let claims = |what, certificate: &dyn fmt::Display, config: &dyn fmt::Display| {
        Err(IdentityFault::Claims { what, certificate: certificate.to_string(), config: config.to_string() })
    };
    if peer.node != config.node.name {
        return claims("node", &peer.node, &config.node.name);
    }
    if peer.region != config.node.region {
        return claims("region", &peer.region, &config.node.region);
    }
    let region = config.regions.iter().find(|region| region.name == config.node.region);
    match region {
        Some(region) if region.jurisdiction == peer.jurisdiction => Ok(()),
        Some(region) => claims("jurisdiction", &peer.jurisdiction, &region.jurisdiction),
        None => claims("region", &peer.region, &"no such region"),
    }
}

/// The SAN of a CA certificate.
pub(super) fn cluster_uri(cluster: &str) -> String {
    format!("{SCHEME}{cluster}")
}

/// The cluster of a CA certificate, after checking that it is one, in its time, and that `public_key` is its own.
pub(super) fn cluster_of_ca(pem: &str, public_key: &[u8], now_unix_ms: u64) -> Result<String, IdentityFault> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| IdentityFault::NotACertificate { why: e.to_string() })?;
    let parsed = parse(&der)?;
    if !parsed.is_ca() {
        return Err(IdentityFault::NotACertificate { why: "it is no CA's certificate".into() });
    }
    in_its_time(&parsed, now_unix_ms)?;
    if parsed.public_key().subject_public_key.data.as_ref() != public_key {
        return Err(IdentityFault::NotACertificate { why: "the key beside it is another one's".into() });
    }
    let uri = sole_uri(&parsed)?;
    let cluster = uri.strip_prefix(SCHEME).and_then(|name| NodeId::parse(name).ok());
    cluster.map(|name| name.as_str().to_owned()).ok_or(IdentityFault::NoName { found: Some(uri) })
}

/// The cluster that a CA certificate names.
pub(super) fn cluster_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let uri = sole_uri(&parse(certificate).ok()?).ok()?;
    uri.strip_prefix(SCHEME).map(str::to_owned)
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityFault> {
    match X509Certificate::from_der(der) {
        Ok((_, parsed)) => Ok(parsed),
        Err(e) => Err(IdentityFault::NotACertificate { why: e.to_string() }),
    }
}

/// The one `meridian:` URI of a certificate. Two would let one certificate speak for two nodes.
fn sole_uri(parsed: &X509Certificate<'_>) -> Result<String, IdentityFault> {
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |names| names.value.general_names.as_slice());
    let mut ours = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
        _ => None,
    });
    match (ours.next(), ours.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        (first, _) => Err(IdentityFault::NoName { found: first.map(str::to_owned) }),
    }
}

/// Checks the validity; gives its end.
fn in_its_time(parsed: &X509Certificate<'_>, now_unix_ms: u64) -> Result<i64, IdentityFault> {
    let now_s = i64::try_from(now_unix_ms / 1000).unwrap_or(i64::MAX);
    let (from, to) = (parsed.validity().not_before, parsed.validity().not_after);
    let words = |time: ASN1Time| time.to_string();
    if now_s > to.timestamp() {
        return Err(IdentityFault::Expired { at: words(to) });
    }
    if now_s < from.timestamp() {
        return Err(IdentityFault::NotYet { from: words(from) });
    }
    Ok(to.timestamp())
}

pub(super) fn signed_by(
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    now_unix_ms: u64,
) -> Result<(), IdentityFault> {
    let stranger = |why: String| IdentityFault::Stranger { why };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::new(super::trust::provider()))
        .build()
        .map_err(|e| stranger(e.to_string()))?;
    let (leaf, between) = chain.split_first().ok_or_else(|| stranger("there is no certificate".into()))?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now_unix_ms));
    verifier.verify_client_cert(leaf, between, now).map(drop).map_err(|e| stranger(e.to_string()))
}

pub(super) fn roots(path: &Path) -> Result<RootCertStore, IdentityFault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| IdentityFault::NotACertificate { why: e.to_string() }.within(path))?;
    }
    match roots.is_empty() {
        true => Err(IdentityFault::NotACertificate { why: "it is empty".into() }.within(path)),
        false => Ok(roots),
    }
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityFault> {
    let pem = read(path)?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| IdentityFault::NotACertificate { why: e.to_string() }.within(path))
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityFault> {
    fs::read(path).map_err(|source| IdentityFault::File { path: path.to_path_buf(), source })
}
