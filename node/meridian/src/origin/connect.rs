//! Opening a connection to an origin: addresses in turn, TLS, and whichever HTTP both sides speak.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hyper::{
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use region_config::{CertificateFiles, Origin, OriginProtocol};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::oneshot,
    time::Instant,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{
    address::Addresses,
    error::{AuthorityFault, OriginError, cause},
    head::{FIELDS_MAX, HEAD_BYTES},
    pool::{Http1, Http2, Slot},
    race,
    resolver::Resolvers,
};
use crate::{clock, tasks::Tasks};

/// How often an HTTP/2 connection with requests on it is asked whether it lives, and for how long it may stay silent.
const PING: Duration = Duration::from_secs(5);

/// Opens connections to one origin.
#[derive(Debug)]
pub(super) struct Connector {
    addresses: Addresses,
    tls: Option<Tls>,
    protocol: OriginProtocol,
    connect: Duration,
    tasks: Tasks,
}

/// What is needed to speak TLS to one origin.
struct Tls {
    name: Result<ServerName<'static>, String>,
    connector: Result<TlsConnector, AuthorityFault>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A connection just opened.
#[derive(Debug)]
pub(super) enum Opened {
    /// HTTP/1.1.
    Own(Http1),
    /// HTTP/2.
    Shared(Http2),
}

impl Connector {
    /// Gets ready to connect to `origin`. A fault of its CA file is kept and met by each attempt.
    ///
    /// # Errors
    /// [`rustls::Error`] if the cryptography provider offers no protocol version.
    pub(super) fn new(
        origin: &Origin,
        resolvers: &Resolvers,
        tasks: &Tasks,
        retired: CancellationToken,
    ) -> Result<Self, rustls::Error> {
        let tls = if origin.tls { Some(Tls::new(origin)?) } else { None };
        Ok(Self {
            addresses: Addresses::start(origin, resolvers, tasks, retired),
            tls,
            protocol: origin.protocol,
            connect: Duration::from_millis(origin.deadlines.connect_ms),
            tasks: tasks.clone(),
        })
    }

    /// What is wrong with the operator's files for this origin, if anything.
    pub(super) fn fault(&self) -> Option<&AuthorityFault> {
        self.tls.as_ref().and_then(|tls| tls.connector.as_ref().err())
    }

    /// Whether the origin still has the address that a connection goes to.
    pub(super) fn still_has(&self, address: SocketAddr) -> bool {
        self.addresses.include(address)
    }

    /// Whether HTTP/2 is certain before a connection stands.
    pub(super) fn multiplexes(&self) -> bool {
        self.protocol == OriginProtocol::Http2
    }

    /// Opens a connection within `connect_ms`, or by `deadline` if that is sooner. Its driver is a task on the
    /// current runtime and holds `slot` to its end.
    ///
    /// # Errors
    /// Those that [`OriginError::before_sending`] is true for.
    pub(super) async fn open(&self, slot: Option<Slot>, deadline: Instant) -> Result<Opened, OriginError> {
        let deadline = deadline.min(Instant::from_std(clock::instant()) + self.connect);
        let opening = self.open_unbounded(slot);
        tokio::time::timeout_at(deadline, opening).await.unwrap_or(Err(OriginError::ConnectTimeout))
    }

    async fn open_unbounded(&self, slot: Option<Slot>) -> Result<Opened, OriginError> {
        let stream = race::connect(&self.addresses.ask().await?).await?;
        let peer = stream.peer_addr().map_err(|error| OriginError::Unreachable(error.to_string()))?;
        let Some(tls) = &self.tls else {
            return if self.protocol == OriginProtocol::Http2 {
                self.http2(stream, peer, slot).await.map(Opened::Shared)
            } else {
                self.http1(stream, peer, slot).await.map(Opened::Own)
            };
        };
        let stream = tls.handshake(stream).await?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if h2 {
            return self.http2(stream, peer, slot).await.map(Opened::Shared);
        }
        if self.protocol == OriginProtocol::Http2 {
            return Err(OriginError::Tls("the origin did not choose HTTP/2 by ALPN".into()));
        }
        self.http1(stream, peer, slot).await.map(Opened::Own)
    }

    /// HTTP/1.1 on `io`.
    async fn http1<T>(&self, io: T, peer: SocketAddr, slot: Option<Slot>) -> Result<Http1, OriginError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_headers(FIELDS_MAX).max_header_size(HEAD_BYTES).max_buf_size(HEAD_BYTES);
        let (send, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|e| OriginError::from_hyper(&e))?;
        let (alive, dropped) = oneshot::channel();
        self.tasks.spawn("origin-connection", async move {
            let _held = hold(slot);
            tokio::select! {
                result = connection => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "origin connection");
                    }
                }
                _ = dropped => {}
            }
        });
        Ok(Http1 { send, peer, _alive: alive })
    }

    /// HTTP/2 on `io`: by prior knowledge or chosen by ALPN.
    async fn http2<T>(&self, io: T, peer: SocketAddr, slot: Option<Slot>) -> Result<Http2, OriginError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(Spawner(self.tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let (send, connection) =
            builder.handshake(TokioIo::new(io)).await.map_err(|e| OriginError::Unreachable(cause(&e)))?;
        let gone = CancellationToken::new();
        let ended = gone.clone().drop_guard();
        self.tasks.spawn("origin-connection", async move {
            let _held = (hold(slot), ended);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "origin connection");
            }
        });
        Ok(Http2::new(send, peer, gone))
    }
}

/// Marks a slot as one with a connection.
fn hold(slot: Option<Slot>) -> Option<Slot> {
    let mut slot = slot;
    if let Some(slot) = &mut slot {
        slot.opened();
    }
    slot
}

/// Lets hyper's HTTP/2 start its parts where all tasks are started.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, part: F) {
        drop(self.0.spawn("origin-connection-part", part));
    }
}

impl Tls {
    fn new(origin: &Origin) -> Result<Self, rustls::Error> {
        let name = ServerName::try_from(origin.host.clone()).map_err(|error| error.to_string());
        let config = match roots(origin.ca.as_deref()) {
            Ok(roots) => client_config(roots, origin)?,
            Err(fault) => return Ok(Self { name, connector: Err(fault) }),
        };
        Ok(Self { name, connector: config.map(|config| TlsConnector::from(Arc::new(config))) })
    }

    async fn handshake(&self, stream: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, OriginError> {
        let connector = self.connector.as_ref().map_err(|fault| OriginError::Tls(fault.to_string()))?;
        let name = self.name.as_ref().map_err(|fault| OriginError::Tls(fault.clone()))?;
        connector.connect(name.clone(), stream).await.map_err(|error| OriginError::Tls(error.to_string()))
    }
}

/// What is wrong with the operator's TLS files for an origin, if anything.
pub(super) fn file_fault(origin: &Origin) -> Option<String> {
    match Tls::new(origin) {
        Ok(tls) => tls.connector.err().map(|fault| fault.to_string()),
        Err(fault) => Some(fault.to_string()),
    }
}

/// The CA certificates to trust: those of the file, or the public ones.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, AuthorityFault> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let unreadable = |why: String| AuthorityFault::Unreadable { path: path.to_owned(), why };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() { Err(AuthorityFault::Empty { path: path.to_owned() }) } else { Ok(roots) }
}

/// TLS 1.2 and 1.3 with the ALPN that the protocol asks for (RFC 7301), and the certificate that the origin is shown.
fn client_config(roots: RootCertStore, origin: &Origin) -> Result<Result<ClientConfig, AuthorityFault>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match &origin.identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let unusable = |why: String| AuthorityFault::Unusable { path: files.certificate.clone(), why };
            let config = identity(files)
                .and_then(|(chain, key)| builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string()));
            match config {
                Ok(config) => config,
                Err(why) => return Ok(Err(unusable(why))),
            }
        }
    };
    config.alpn_protocols = match origin.protocol {
        OriginProtocol::Http1 => vec![b"http/1.1".to_vec()],
        OriginProtocol::Http2 => vec![b"h2".to_vec()],
        OriginProtocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(Ok(config))
}

/// The chain and the key of the certificate that an origin is shown.
fn identity(files: &CertificateFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_file_iter(&files.certificate).map_err(|error| error.to_string())?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| format!("{}: {error}", files.key.display()))?;
    Ok((chain, key))
}
