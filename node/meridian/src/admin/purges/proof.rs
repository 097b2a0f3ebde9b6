//! Receipts that prove offline what the node that took a purge knew of it.
//!
//! The document is JSON. What is signed is its canonical form (RFC 8785: keys in order, no spaces; all numbers are whole)
//! without the signature's value: so the kind of signature and the certificates are covered, too.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use region_config::RealmId;
use rules::residency;
use serde_json::Value;

use crate::{
    admin::model::{Purge, PurgeSignature, SignedPurge},
    peers::{IdentityFault, SealFault, Sealed, SealedBy, Sealer},
};

/// The form of the document.
pub const FORMAT: &str = "meridian purge receipt 1";
/// Certificates in a chain, at most.
const CHAIN_MAX: usize = 8;
/// What stands before the text that is signed, so that no other signature of a node can be taken for one of a receipt.
const CONTEXT: &[u8] = b"meridian purge receipt 1\0";

/// Why a receipt proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProofFault {
    /// It is not the document that it should be.
    #[error("this is no signed receipt: {0}")]
    Malformed(String),
    /// The signature or its certificate does not hold.
    #[error(transparent)]
    Seal(#[from] SealFault),
    /// The document names another signer than its certificate.
    #[error("it says that `{said}` signed it, and the certificate is of `{certificate}`")]
    Signer {
        /// In the document.
        said: String,
        /// In the certificate.
        certificate: String,
    },
    /// The node may not have purges of this realm.
    #[error("the signer is certified for `{jurisdiction}`, and no node of the realm `{realm}`")]
    Realm {
        /// The realm.
        realm: String,
        /// The signer's jurisdiction.
        jurisdiction: String,
    },
    /// What it says contradicts itself.
    #[error("it contradicts itself: {0}")]
    Contradiction(String),
}

/// Signs what is known of a purge.
///
/// # Errors
/// If the system gives no randomness.
pub(super) fn sign(purge: Purge, sealer: &Sealer, now_unix_ms: u64) -> Result<SignedPurge, rustls::Error> {
    let mut signed = SignedPurge {
        format: FORMAT.into(),
        cluster: sealer.cluster.clone(),
        signer: sealer.peer.to_string(),
        signed_unix_ms: now_unix_ms,
        purge,
        signature: PurgeSignature {
            algorithm: sealer.algorithm.into(),
            chain: sealer.chain.iter().map(|der| STANDARD.encode(der)).collect(),
            value: String::new(),
        },
    };
    signed.signature.value = STANDARD.encode(sealer.sign(&text_of(&signed))?);
    Ok(signed)
}

/// Checks a receipt against a cluster's CA certificate.
///
/// # Errors
/// [`ProofFault`].
pub fn verify(document: &str, ca: &Path, now_unix_ms: u64) -> Result<(SignedPurge, SealedBy), ProofFault> {
    let malformed = |error: serde_json::Error| ProofFault::Malformed(error.to_string());
    let signed: SignedPurge = serde_json::from_str(document).map_err(malformed)?;
    let whole: Value = serde_json::from_str(document).map_err(malformed)?;
    // what a reader might see and the signature would not cover
    if serde_json::to_value(&signed).map_err(malformed)? != whole {
        return Err(ProofFault::Malformed("it has fields that this version does not know, or lacks some".into()));
    }
    if signed.format != FORMAT {
        return Err(ProofFault::Malformed(format!("its format is not `{FORMAT}`")));
    }
    let (chain, signature) = seal_of(&signed.signature)?;
    let text = text_of(&signed);
    let sealed = Sealed {
        text: &text,
        algorithm: &signed.signature.algorithm,
        signature: &signature,
        chain: &chain,
        at_unix_ms: signed.signed_unix_ms,
    };
    let by = sealed.verify(ca, now_unix_ms)?;
    consistent(&signed, &by)?;
    Ok((signed, by))
}

fn seal_of(signature: &PurgeSignature) -> Result<(Vec<Vec<u8>>, Vec<u8>), ProofFault> {
    let bytes = |text: &String| {
        STANDARD.decode(text).map_err(|error| ProofFault::Malformed(format!("its signature is not base64: {error}")))
    };
    if signature.chain.is_empty() || signature.chain.len() > CHAIN_MAX {
        let found = signature.chain.len();
        return Err(ProofFault::Malformed(format!("{found} certificates; expected 1 to {CHAIN_MAX}")));
    }
    Ok((signature.chain.iter().map(bytes).collect::<Result<_, _>>()?, bytes(&signature.value)?))
}

/// What the document says must fit its certificate and itself.
fn consistent(signed: &SignedPurge, by: &SealedBy) -> Result<(), ProofFault> {
    if signed.cluster != by.cluster {
        return Err(ProofFault::Signer { said: signed.cluster.clone(), certificate: by.cluster.clone() });
    }
    if signed.signer != by.peer.to_string() {
        return Err(ProofFault::Signer { said: signed.signer.clone(), certificate: by.peer.to_string() });
    }
    let purge = &signed.purge;
    let realm = RealmId::parse(&purge.realm).ok().filter(|realm| residency::member(realm, &by.peer.jurisdiction));
    if realm.is_none() {
        let jurisdiction = by.peer.jurisdiction.to_string();
        return Err(ProofFault::Realm { realm: purge.realm.clone(), jurisdiction });
    }
    if purge.taken_by != by.peer.node.as_str() {
        let why = format!("`{}` took the purge, and `{}` signed for it", purge.taken_by, by.peer.node);
        return Err(ProofFault::Contradiction(why));
    }
    if purge.taken_unix_ms > signed.signed_unix_ms.saturating_add(crate::peers::SKEW_MS) {
        return Err(ProofFault::Contradiction("the purge was taken after the receipt was signed".into()));
    }
    Ok(())
}

/// The text that is signed.
fn text_of(signed: &SignedPurge) -> Vec<u8> {
    let mut bare = signed.clone();
    bare.signature.value = String::new();
    // plain values: writing them cannot fail
    let value = serde_json::to_value(&bare).unwrap_or_default();
    let mut text = CONTEXT.to_vec();
    canonical(&value, &mut text);
    text
}

/// RFC 8785, for values without fractions.
fn canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            // the order of UTF-16 units; our names are ASCII, where it is that of the bytes
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_unstable();
            out.push(b'{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
                out.push(b':');
                canonical(fields.get(name).unwrap_or(&Value::Null), out);
            }
            out.push(b'}');
        }
        Value::Array(list) => {
            out.push(b'[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                canonical(value, out);
            }
            out.push(b']');
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            out.extend_from_slice(plain.to_string().as_bytes());
        }
    }
}

/// Whether what was wrong is the CA's file, and not the receipt.
#[must_use]
pub fn is_about_ca(fault: &ProofFault) -> Option<&IdentityFault> {
    match fault {
        ProofFault::Seal(SealFault::Ca(fault)) => Some(fault),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
