//! The admin listener: a plain accept loop with limits.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::{guard::Source, tls::DoorTls};
use crate::tasks::Tasks;

const CONNECTIONS_MAX: usize = 256;
const HEAD_READ_MAX: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// After an error of the system (no file descriptors), accepting pauses for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a request under way may take when the node stops.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Why the admin listener does not stand.
#[derive(Debug, thiserror::Error)]
#[error("listening for the admin interface on {address}: {source}")]
pub struct ServeFault {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// A bound admin listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds the listener; nothing is answered yet.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> Result<Self, ServeFault> {
        let fault = |source| ServeFault { address, source };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Self { listener, address })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers by a router until the tasks' owner stops; over TLS if a certificate is given.
    pub fn start(self, router: Router, tls: Option<Arc<DoorTls>>, tasks: &Tasks) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let owner = tasks.clone();
        tasks.spawn_until_stopped("admin-accept", async move {
            loop {
                let Ok(room) = Arc::clone(&connections).acquire_owned().await else { return };
                match self.listener.accept().await {
                    Ok((stream, source)) => {
                        let (router, tasks) = (router.clone(), owner.clone());
                        match tls.clone() {
                            None => {
                                drop(owner.spawn("admin-connection", connection(stream, source, router, tasks, room)))
                            }
                            Some(tls) => drop(owner.spawn("admin-connection", async move {
                                let shaken = TlsAcceptor::from(tls.config()).accept(stream);
                                if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, shaken).await {
                                    connection(stream, source, router, tasks, room).await;
                                }
                            })),
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "accepting a connection to the admin interface");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
    }
}

async fn connection<S>(stream: S, source: SocketAddr, router: Router, tasks: Tasks, _room: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_READ_MAX).max_buf_size(HEAD_BYTES_MAX);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(32).keep_alive_interval(Duration::from_secs(30));
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Source(source));
        router.clone().call(request)
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let stopping = tasks.stopping();
    // what goes wrong on a connection concerns its client only
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(STOP_MAX, connection).await;
}
