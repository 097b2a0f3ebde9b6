//! What a node signs with its identity, and how anybody checks that offline who has the cluster's CA certificate.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    SignatureScheme,
    pki_types::CertificateDer,
    sign::{CertifiedKey, Signer},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{IdentityFault, Mesh, PeerIdentity, identity};

/// The signatures that are made and taken, best first, each with its word.
const SCHEMES: [(SignatureScheme, &str); 5] = [
    (SignatureScheme::ED25519, "ed25519"),
    (SignatureScheme::ECDSA_NISTP256_SHA256, "ecdsa-p256-sha256"),
    (SignatureScheme::ECDSA_NISTP384_SHA384, "ecdsa-p384-sha384"),
    (SignatureScheme::RSA_PSS_SHA512, "rsa-pss-sha512"),
    (SignatureScheme::RSA_PSS_SHA256, "rsa-pss-sha256"),
];

/// A clock may be wrong by so much, in ms.
pub const SKEW_MS: u64 = 5 * 60_000;

/// A node's identity, ready to sign one text.
pub struct Sealer {
    signer: Box<dyn Signer>,
    /// Who signs.
    pub peer: PeerIdentity,
    /// The cluster that its certificate is for.
    pub cluster: String,
    /// The word for the kind of signature.
    pub algorithm: &'static str,
    /// Its certificate and those between it and the CA, DER.
    pub chain: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Sealer {
    pub(super) fn new(key: &Arc<CertifiedKey>, peer: &PeerIdentity, cluster: &str) -> Option<Self> {
        let (scheme, algorithm) =
            SCHEMES.into_iter().find(|(scheme, _)| key.key.choose_scheme(&[*scheme]).is_some())?;
        Some(Self {
            signer: key.key.choose_scheme(&[scheme])?,
            peer: peer.clone(),
            cluster: cluster.to_owned(),
            algorithm,
            chain: key.cert.iter().map(|certificate| certificate.to_vec()).collect(),
        })
    }

    /// Signs.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signer.sign(text)
    }
}

impl Mesh {
    /// This node's identity, to sign something with.
    #[must_use]
    pub fn sealer(&self) -> Option<Sealer> {
        Sealer::new(&self.certified.load(), &self.identity, &self.cluster)
    }
}

/// A text with what its signer says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// What was signed.
    pub text: &'a [u8],
    /// The word for the kind of signature.
    pub algorithm: &'a str,
    /// The signature.
    pub signature: &'a [u8],
    /// The signer's certificate and those between it and the CA, DER.
    pub chain: &'a [Vec<u8>],
    /// When it was signed, as the signer says, in ms since the Unix epoch.
    pub at_unix_ms: u64,
}

/// Who signed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBy {
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub peer: PeerIdentity,
    /// When its certificate ends, in seconds since the Unix epoch.
    pub not_after_unix_s: i64,
}

/// Why a signature counts for nothing.
#[derive(Debug, thiserror::Error)]
pub enum SealFault {
    /// The CA's file cannot be used.
    #[error("the CA's certificate: {0}")]
    Ca(IdentityFault),
    /// The certificate in it is not of a node of this cluster.
    #[error("the signer's certificate: {0}")]
    Signer(IdentityFault),
    /// The kind of signature is not known.
    #[error("a signature of kind `{0}`; this version knows {known}", known = SCHEMES.map(|(_, word)| word).join(", "))]
    Algorithm(String),
    /// It says that it was signed later than now.
    #[error("it says that it was signed in the future, beyond what clocks may be wrong")]
    Future,
    /// The signature is not of this text by this certificate.
    #[error("the signature does not fit: what is signed was changed, or somebody else signed it")]
    Forged,
}

impl Sealed<'_> {
    /// Checks the signature, and that its signer's certificate is of a node of the cluster whose CA certificate is in
    /// `ca`: at the time of the signature, since a certificate that has ended since then was good.
    ///
    /// # Errors
    /// [`SealFault`].
    pub fn verify(&self, ca: &Path, now_unix_ms: u64) -> Result<SealedBy, SealFault> {
        if self.at_unix_ms > now_unix_ms.saturating_add(SKEW_MS) {
            return Err(SealFault::Future);
        }
        let roots = identity::certificates(ca).map_err(SealFault::Ca)?;
        let store = Arc::new(identity::roots(ca).map_err(SealFault::Ca)?);
        let chain: Vec<CertificateDer<'static>> =
            self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let nothing = || IdentityFault::NotACertificate { why: "there is none".into() };
        let leaf = chain.first().ok_or_else(|| SealFault::Signer(nothing()))?;
        identity::signed_by(&store, &chain, self.at_unix_ms).map_err(SealFault::Signer)?;
        let (cluster, peer) = PeerIdentity::of(leaf).map_err(SealFault::Signer)?;
        if !roots.iter().any(|root| identity::cluster_of(root).is_some_and(|of| of == cluster)) {
            let config = "that of the CA".to_owned();
            let fault = IdentityFault::Claims { what: "cluster", certificate: cluster, config };
            return Err(SealFault::Signer(fault));
        }
        let malformed = |why: String| SealFault::Signer(IdentityFault::NotACertificate { why });
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| malformed(error.to_string()))?;
        let scheme = SCHEMES.iter().find(|(_, word)| *word == self.algorithm).map(|(scheme, _)| *scheme);
        let scheme = scheme.ok_or_else(|| SealFault::Algorithm(self.algorithm.chars().take(40).collect()))?;
        let key = parsed.public_key().subject_public_key.data.as_ref();
        let known = super::trust::provider().signature_verification_algorithms;
        let mut fitting = known.mapping.iter().filter(|(it, _)| *it == scheme).flat_map(|(_, algorithms)| *algorithms);
        // of those for one scheme, each is for one kind of key
        if !fitting.any(|algorithm| algorithm.verify_signature(key, self.text, self.signature).is_ok()) {
            return Err(SealFault::Forged);
        }
        Ok(SealedBy { cluster, peer, not_after_unix_s: parsed.validity().not_after.timestamp() })
    }
}

/// How long ago a certificate ended at `now_unix_ms`; none if it has not.
#[must_use]
pub fn ended(not_after_unix_s: i64, now_unix_ms: u64) -> Option<Duration> {
    let end_ms = u64::try_from(not_after_unix_s).unwrap_or(0).saturating_mul(1_000);
    now_unix_ms.checked_sub(end_ms).filter(|ms| *ms > 0).map(Duration::from_millis)
}

/// The identity in some files, for tests.
#[cfg(test)]
pub(crate) fn sealer_of(certificate: &Path, key: &Path) -> Option<Sealer> {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    let chain = identity::certificates(certificate).ok()?;
    let (cluster, peer) = PeerIdentity::of(chain.first()?).ok()?;
    let key = PrivateKeyDer::from_pem_file(key).ok()?;
    let certified = CertifiedKey::from_der(chain, key, &super::trust::provider()).ok()?;
    Sealer::new(&Arc::new(certified), &peer, &cluster)
}
