//! A small HTTP client that hides nothing: what came, whole or not, and the raw bytes where a test needs them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Longest wait for any one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Why the body is not whole, if it is not.
    pub(crate) broken: Option<String>,
}

impl Reply {
    /// Takes a whole response.
    pub(crate) async fn read(response: Response<Incoming>) -> Self {
        let (parts, mut body) = response.into_parts();
        let (mut bytes, mut broken) = (BytesMut::new(), None);
        loop {
            match timeout(PATIENCE, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Ok(Some(Err(error))) => broken = Some(error.to_string()),
                Err(_) => broken = Some(format!("silent for {PATIENCE:?}")),
            }
            if broken.is_some() {
                break;
            }
        }
        Self { status: parts.status, headers: parts.headers, body: bytes.freeze(), broken }
    }

    /// A field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// What this hop says in `Cache-Status`: the last member.
    pub(crate) fn cache_status(&self) -> &str {
        let members = self.headers.get_all("cache-status").iter().next_back();
        members.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Whether it came from this node's cache without asking anybody.
    pub(crate) fn is_hit(&self) -> bool {
        self.cache_status().contains("; hit")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status, `Cache-Status` and the beginning of the body, for messages.
    pub(crate) fn seen(&self) -> String {
        let text: String = self.text().chars().take(100).collect();
        let broken = self.broken.as_deref().unwrap_or("whole");
        format!("{} [{}] {} bytes, {broken}: {text:?}", self.status, self.cache_status(), self.body.len())
    }
}

/// A request without body.
pub(crate) fn get(host: &str, target: &str) -> request::Builder {
    Request::builder().method(Method::GET).uri(target).header("host", host)
}

/// Ends a request.
pub(crate) fn empty(builder: request::Builder) -> Request<Full<Bytes>> {
    builder.body(Full::default()).unwrap()
}

/// A kept HTTP/1.1 connection.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Opens one.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = connect(address).await?;
        Self::over(stream).await
    }

    /// Speaks HTTP/1.1 over a stream that stands already.
    pub(crate) async fn over<S>(stream: S) -> Result<Self, String>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request and takes the head of the answer.
    pub(crate) async fn head(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        self.head_within(PATIENCE, request).await
    }

    async fn head_within(
        &mut self,
        patience: Duration,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, String> {
        self.sender.ready().await.map_err(|error| format!("the connection is gone: {error}"))?;
        match timeout(patience, self.sender.send_request(request)).await {
            Ok(answered) => answered.map_err(|error| format!("no answer: {error}")),
            Err(_) => Err(format!("no answer in {patience:?}")),
        }
    }

    /// Sends a request whose answer may take longer than others, and takes the whole answer.
    pub(crate) async fn patient(&mut self, patience: Duration, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        Ok(Reply::read(self.head_within(patience, request).await?).await)
    }

    /// Sends a request and takes the whole answer.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        Ok(Reply::read(self.head(request).await?).await)
    }

    /// Gets a target of a host.
    pub(crate) async fn get(&mut self, host: &str, target: &str) -> Result<Reply, String> {
        self.send(empty(get(host, target))).await
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| format!("no connection to {address} in {PATIENCE:?}"))?;
    let stream = stream.map_err(|error| format!("no connection to {address}: {error}"))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Sends one request over a connection of its own; the error says what failed.
pub(crate) async fn try_send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Reply, String> {
    Connection::open(address).await?.send(request).await
}

/// Sends one request over a connection of its own.
///
/// # Panics
/// If there is no answer.
pub(crate) async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Reply {
    let said = format!("{} {}", request.method(), request.uri());
    try_send(address, request).await.unwrap_or_else(|error| panic!("{said} at {address}: {error}"))
}

/// Gets a target of a host over a connection of its own.
pub(crate) async fn fetch(address: SocketAddr, host: &str, target: &str) -> Reply {
    send(address, empty(get(host, target))).await
}

/// Sends one request over an HTTP/2 connection of its own, in clear text by prior knowledge.
pub(crate) async fn send_h2c(address: SocketAddr, request: Request<Full<Bytes>>) -> Reply {
    over_h2(connect(address).await.unwrap(), request).await
}

/// Sends one request over HTTP/2 on a stream that stands already.
pub(crate) async fn over_h2<S>(stream: S, request: Request<Full<Bytes>>) -> Reply
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = timeout(PATIENCE, sender.send_request(request)).await.expect("an answer in time").unwrap();
    Reply::read(response).await
}

/// Shakes hands over TLS for a name, trusting a CA (PEM); the error is rustls's.
pub(crate) async fn tls(
    address: SocketAddr,
    name: &str,
    ca_pem: &str,
    protocol: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let pem =
        <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(ca_pem.as_bytes());
    roots.add(pem.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await?
}

/// What a server said to raw bytes.
#[derive(Debug)]
pub(crate) struct Raw {
    /// All that it sent until it closed or `patience` was over.
    pub(crate) text: String,
    /// Whether it closed the connection.
    pub(crate) closed: bool,
    /// After how long it closed.
    pub(crate) after: Duration,
}

impl Raw {
    /// The status of the first answer; 0 if there is none.
    pub(crate) fn status(&self) -> u16 {
        self.text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
    }
}

/// Sends bytes as they are and reads until the server closes, or for as long as `patience`.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8], patience: Duration) -> Raw {
    let start = std::time::Instant::now();
    let mut stream = connect(address).await.unwrap();
    // the server may refuse before it has read everything
    let _ = stream.write_all(bytes).await;
    let (mut taken, mut buffer) = (Vec::new(), [0; 4096]);
    let closed = loop {
        match timeout(patience.saturating_sub(start.elapsed()), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break true,
            Ok(Ok(count)) => taken.extend_from_slice(&buffer[..count]),
            Err(_) => break false,
        }
    };
    Raw { text: String::from_utf8_lossy(&taken).into_owned(), closed, after: start.elapsed() }
}
