//! The mesh of a simulated node: the real one, over a socket, timers, chance and certificates that a simulation decides.
//!
//! Every packet is the same to the byte whenever the same seed is run: the certificates' keys are always the same and sign
//! the same always alike, and all that is drawn at random is drawn from the world ([`secrets`]).

pub(super) mod secrets;

use std::{future::Future, io, pin::Pin, sync::Arc, time::Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use rcgen::{Issuer, KeyPair};
use region_config::{Config, NodeId};
use rustls::{
    RootCertStore,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

use super::{LoadedIdentity, Mesh, PeerError, PeerIdentity, ca, mesh::Footing, trust};
use crate::{clock, tasks::Tasks};

/// The name of the simulated cluster.
const CLUSTER: &str = "simulated";
/// A private key of Ed25519 in PKCS #8 (RFC 8410 section 7), up to the 32 bytes of the key.
const ED25519_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

impl Mesh {
    /// The mesh of a simulated node, with a certificate that was made at `made_unix_ms`. To be called inside the node's
    /// world.
    ///
    /// # Errors
    /// [`PeerError::Tls`] and [`PeerError::Bind`], neither of which happens with a proper config.
    pub fn simulated(
        config: &Config,
        made_unix_ms: u64,
        socket: Arc<dyn AsyncUdpSocket>,
        tasks: Tasks,
    ) -> Result<Arc<Self>, PeerError> {
        let identity = identity(config, made_unix_ms)?;
        let runtime = Arc::new(SimulatedRuntime(Tasks::new()));
        Self::bind_on(Footing { socket, runtime, endpoint: secrets::endpoint() }, config, &identity, tasks)
    }
}

/// What `meridian ca` makes for a node, but for the kind of keys. Whoever has read this can make the same: it is worth
/// nothing outside of simulations.
fn identity(config: &Config, made_unix_ms: u64) -> Result<LoadedIdentity, PeerError> {
    let fault = |fault: rcgen::Error| PeerError::Tls { why: fault.to_string() };
    let cluster = NodeId::parse(CLUSTER).map_err(|fault| PeerError::Tls { why: fault.to_string() })?;
    let region = config.regions.iter().find(|region| region.name == config.node.region);
    let region = region.ok_or_else(|| PeerError::UnknownNode { node: config.node.name.clone() })?;
    let peer = PeerIdentity {
        node: config.node.name.clone(),
        region: region.name.clone(),
        jurisdiction: region.jurisdiction.clone(),
    };
    let (_, authority_key) = key(CLUSTER).map_err(fault)?;
    let authority = ca::authority_params(&cluster, made_unix_ms).map_err(fault)?;
    let authority_certificate = authority.self_signed(&authority_key).map_err(fault)?;
    let (node_der, node_key) = key(peer.node.as_str()).map_err(fault)?;
    let params = ca::node_params(CLUSTER, &peer, made_unix_ms).map_err(fault)?;
    let not_after_unix_s = params.not_after.unix_timestamp();
    let certificate = params.signed_by(&node_key, &Issuer::new(authority, authority_key)).map_err(fault)?;
    let tls = |fault: rustls::Error| PeerError::Tls { why: fault.to_string() };
    let mut roots = RootCertStore::empty();
    roots.add(authority_certificate.der().clone()).map_err(tls)?;
    let chain = vec![certificate.der().clone()];
    let certified = CertifiedKey::from_der(chain, PrivateKeyDer::Pkcs8(node_der), &trust::provider()).map_err(tls)?;
    let (certified, roots) = (Arc::new(certified), Arc::new(roots));
    Ok(LoadedIdentity { peer, cluster: CLUSTER.to_owned(), not_after_unix_s, certified, roots })
}

/// The key that belongs to a name.
fn key(name: &str) -> Result<(PrivatePkcs8KeyDer<'static>, KeyPair), rcgen::Error> {
    let der = PrivatePkcs8KeyDer::from([&ED25519_HEAD[..], blake3::hash(name.as_bytes()).as_bytes()].concat());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)?;
    Ok((der, pair))
}

/// Timers and tasks of QUIC, in the world of the node.
#[derive(Debug)]
struct SimulatedRuntime(Tasks);

impl Runtime for SimulatedRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(tokio::time::sleep_until(at.into()))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.0.spawn("quic", future));
    }

    fn wrap_udp_socket(&self, _socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Instant {
        clock::instant()
    }
}
