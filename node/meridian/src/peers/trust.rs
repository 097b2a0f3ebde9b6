//! Who is let in: TLS between nodes.

/// The one crypto provider: the process default is never relied upon.
pub(super) fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}
