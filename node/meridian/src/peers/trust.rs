//! Who is let in: TLS 1.3 on both sides, certificates of the cluster's CA, and the region table.
//!
//! A peer is let in if its certificate is signed by our CA, in its time, for our cluster, and names a node of our region
//! table with the region and the jurisdiction that the table gives it; the one we dial must also be the one we meant.
//! Sessions are never resumed, so that every connection is checked against the table as it stands.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use quinn::{
    VarInt,
    crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig},
};
use region_config::{Config, JurisdictionId, NodeId, RegionId};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::SingleCertAndKey,
    time_provider::TimeProvider,
};

use super::{IdentityFault, LoadedIdentity, PeerError, PeerIdentity, frame::Lane};
use crate::clock;

/// The protocol between nodes; a new number is a new, incompatible one.
const ALPN: &[u8] = b"meridian/1";
/// The same for the lane of guests.
const ALPN_GUESTS: &[u8] = b"meridian-guests/1";
/// A connection with no packet for so long is dead. QUIC probes of a lost path need most of it.
const IDLE: Duration = Duration::from_secs(3);
/// How often an idle connection is kept alive.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Streams that a peer may have open to us at once.
const STREAMS_MAX: u32 = 1024;
/// Bytes of one stream, and of one connection, that a peer may send before we read them.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// Bytes of one guest that a peer may send us before the guest has taken them: what a client that does not read costs.
const GUEST_WINDOW: u32 = 256 * 1024;
/// Guests that a peer may have with us at once.
const GUESTS_MAX: u32 = 1024;
/// Bytes that may be on their way to a peer before anything is known of the path. Connections are kept, and mostly carry little,
/// by which a window never grows: with the ten packets that RFC 9002 section 7.2 recommends for strangers, the first purges
/// of a busy moment would wait for each other over long paths.
const INITIAL_WINDOW: u64 = 128 * 1024;
/// Handshakes and their bytes that wait to be accepted.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of datagrams that wait, each way: probes are tens of bytes, and old ones are worth nothing.
const DATAGRAM_BYTES: usize = 16 * 1024;

/// The one crypto provider: the process default is never relied upon.
pub(super) fn provider() -> CryptoProvider {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        return super::simulated::secrets::provider(provider);
    }
    provider
}

/// What certificates are judged by.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(clock::unix_ms())))
    }
}

/// Who belongs to the cluster, by the region table.
#[derive(Debug)]
pub(super) struct Members {
    cluster: String,
    us: NodeId,
    nodes: BTreeMap<NodeId, Member>,
}

/// A node of the region table.
#[derive(Debug)]
struct Member {
    region: RegionId,
    jurisdiction: JurisdictionId,
    address: Option<SocketAddr>,
}

impl Members {
    pub(super) fn new(config: &Config, cluster: &str) -> Self {
        let of = |region: &region_config::Region, node: &region_config::Node| Member {
            region: region.name.clone(),
            jurisdiction: region.jurisdiction.clone(),
            address: node.peer,
        };
        let nodes = config.regions.iter().flat_map(|region| region.nodes.iter().map(move |node| (region, node)));
        Self {
            cluster: cluster.to_owned(),
            us: config.node.name.clone(),
            nodes: nodes.map(|(region, node)| (node.name.clone(), of(region, node))).collect(),
        }
    }

    /// Where another node listens for nodes.
    pub(super) fn address(&self, node: &NodeId) -> Option<SocketAddr> {
        self.nodes.get(node).filter(|_| *node != self.us)?.address
    }

    /// All other nodes that can be dialled.
    pub(super) fn others(&self) -> impl Iterator<Item = (&NodeId, SocketAddr)> {
        let others = self.nodes.iter().filter(|(name, _)| **name != self.us);
        others.filter_map(|(name, member)| Some((name, member.address?)))
    }

    /// The node that listens at an address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<&NodeId> {
        self.others().find(|(_, theirs)| *theirs == address).map(|(name, _)| name)
    }

    /// The identity in a certificate whose signature is known to be good, if it belongs here.
    pub(super) fn admit(&self, certificate: &CertificateDer<'_>) -> Result<PeerIdentity, IdentityFault> {
        let (cluster, peer) = PeerIdentity::of(certificate)?;
        let differs = |what, certificate: &str, config: &str| {
            Err(IdentityFault::Claims { what, certificate: certificate.into(), config: config.into() })
        };
        if cluster != self.cluster {
            return differs("cluster", &cluster, &self.cluster);
        }
        let Some(member) = self.nodes.get(&peer.node).filter(|_| peer.node != self.us) else {
            return Err(IdentityFault::NoMember { who: peer.to_string() });
        };
        if member.region != peer.region {
            return differs("region", peer.region.as_str(), member.region.as_str());
        }
        if member.jurisdiction != peer.jurisdiction {
            return differs("jurisdiction", peer.jurisdiction.as_str(), member.jurisdiction.as_str());
        }
        Ok(peer)
    }
}

/// The listening side's configuration.
pub(super) fn server(
    identity: &LoadedIdentity,
    members: &Arc<ArcSwap<Members>>,
) -> Result<quinn::ServerConfig, PeerError> {
    let verifier = verifier(identity, members)?;
    let mut tls = rustls::ServerConfig::builder_with_details(Arc::new(provider()), Arc::new(WallClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_fault)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified))));
    tls.alpn_protocols = vec![ALPN.to_vec(), ALPN_GUESTS.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(tls_fault)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        super::simulated::secrets::listening(&mut config);
    }
    config.transport_config(Arc::new(transport(Lane::House)));
    // nodes do not move: an address that changes in mid-connection is not a node
    config.migration(false).max_incoming(INCOMING_MAX).incoming_buffer_size_total(INCOMING_BYTES);
    Ok(config)
}

/// The dialling side's configuration for a lane.
pub(super) fn client(
    identity: &LoadedIdentity,
    members: &Arc<ArcSwap<Members>>,
    lane: Lane,
) -> Result<quinn::ClientConfig, PeerError> {
    let verifier = verifier(identity, members)?;
    let mut tls = rustls::ClientConfig::builder_with_details(Arc::new(provider()), Arc::new(WallClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_fault)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified))));
    tls.alpn_protocols = vec![protocol(lane).to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).map_err(tls_fault)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        super::simulated::secrets::dialling(&mut config);
    }
    config.transport_config(Arc::new(transport(lane)));
    Ok(config)
}

fn protocol(lane: Lane) -> &'static [u8] {
    match lane {
        Lane::House => ALPN,
        Lane::Guests => ALPN_GUESTS,
    }
}

/// The lane of a connection that a peer has dialled, with the limits that hold on it. Guests share no window: one that does
/// not take what is sent to it would hold up all others.
pub(super) fn lane(connection: &quinn::Connection) -> Lane {
    let data = connection.handshake_data().and_then(|any| any.downcast::<HandshakeData>().ok());
    let guests = data.and_then(|data| data.protocol).is_some_and(|protocol| protocol == ALPN_GUESTS);
    if !guests {
        return Lane::House;
    }
    connection.set_max_concurrent_bi_streams(GUESTS_MAX.into());
    connection.set_receive_window(VarInt::MAX);
    Lane::Guests
}

fn transport(lane: Lane) -> quinn::TransportConfig {
    let (streams, stream, whole) = match lane {
        Lane::House => (STREAMS_MAX, STREAM_WINDOW, CONNECTION_WINDOW.into()),
        Lane::Guests => (GUESTS_MAX, GUEST_WINDOW, VarInt::MAX),
    };
    let mut congestion = quinn::congestion::CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW);
    let mut transport = quinn::TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(congestion))
        .max_idle_timeout(quinn::IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(0u8.into())
        .stream_receive_window(stream.into())
        .receive_window(whole)
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BYTES);
    transport
}

fn tls_fault(fault: impl std::fmt::Display) -> PeerError {
    PeerError::Tls { why: fault.to_string() }
}

fn verifier(identity: &LoadedIdentity, members: &Arc<ArcSwap<Members>>) -> Result<Arc<Verifier>, PeerError> {
    let provider = Arc::new(provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&identity.roots), Arc::clone(&provider));
    Ok(Arc::new(Verifier {
        roots: Arc::clone(&identity.roots),
        members: Arc::clone(members),
        clients: clients.build().map_err(tls_fault)?,
        algorithms: provider.signature_verification_algorithms,
    }))
}

/// Checks the certificates of both sides: the CA's signature by webpki, the names by the region table.
#[derive(Debug)]
struct Verifier {
    roots: Arc<RootCertStore>,
    members: Arc<ArcSwap<Members>>,
    clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

fn refused(fault: IdentityFault) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(Refused(fault)))).into()
}

/// rustls shows the debug form of what it does not know; operators read it, so it is the fault in words.
#[derive(thiserror::Error)]
#[error("{0}")]
struct Refused(IdentityFault);

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let peer = self.members.load().admit(end_entity).map_err(refused)?;
        let meant = server_name.to_str();
        if *meant != *peer.node.as_str() {
            let (certificate, config) = (peer.node.to_string(), meant.into_owned());
            return Err(refused(IdentityFault::Claims { what: "node", certificate, config }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.clients.verify_client_cert(end_entity, intermediates, now)?;
        self.members.load().admit(end_entity).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}
