//! Listeners, and the threads behind them: one single-threaded runtime per core, each with its own socket on every
//! address (SO_REUSEPORT), so that a connection never changes cores.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use region_config::NodeConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{connection, relayed, tls::EdgeTls};
use crate::{
    peers::{Answer, Stream},
    snapshot::Shared,
    tasks::Tasks,
};

/// Pending connections per socket.
const BACKLOG: i32 = 1024;

/// Pause after a failed accept (no file descriptors left, usually): existing clients go on, nobody spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the edge could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EdgeFault {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {scheme}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What for.
        scheme: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start an edge thread: {0}")]
    Thread(io::Error),
}

/// A bound address: one socket per thread.
struct Door {
    address: SocketAddr,
    tls: bool,
    sockets: Vec<StdListener>,
}

/// Sockets that are bound but not served yet: so that a used port is told before anything else is started.
pub struct Doors {
    doors: Vec<Door>,
    workers: usize,
}

impl Doors {
    /// Binds all listeners of a node.
    ///
    /// # Errors
    /// [`EdgeFault::Bind`] with the address that cannot be had.
    pub fn bind(node: &NodeConfig) -> Result<Self, EdgeFault> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if node.workers == 0 { cores } else { node.workers };
        let mut doors = Vec::new();
        for (addresses, tls) in [(&node.http, false), (&node.https, true)] {
            for address in addresses {
                let scheme = if tls { "https" } else { "http" };
                let fault = |source| EdgeFault::Bind { address: *address, scheme, source };
                // a socket of its own first: with SO_REUSEPORT alone another process' port would be shared in silence
                drop(listen(*address, Sharing::Alone).map_err(fault)?);
                let sockets: io::Result<Vec<_>> = (0..workers).map(|_| listen(*address, Sharing::Threads)).collect();
                doors.push(Door { address: *address, tls, sockets: sockets.map_err(fault)? });
            }
        }
        Ok(Self { doors, workers })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Threads,
}

fn listen(address: SocketAddr, sharing: Sharing) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(sharing == Sharing::Threads)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The running edge.
pub struct Edge {
    threads: Vec<JoinHandle<()>>,
    lobby: Arc<Lobby>,
    desk: Arc<relayed::Desk>,
}

/// What one thread serves.
struct Share {
    sockets: Vec<(SocketAddr, bool, StdListener)>,
    /// Clients' connections that other nodes pass on.
    relayed: mpsc::Receiver<Stream>,
}

/// What every connection of this edge shares.
pub(super) struct Lobby {
    pub(super) shared: Arc<Shared>,
    pub(super) tls: Arc<EdgeTls>,
    pub(super) tasks: Tasks,
    /// Client connections now.
    pub(super) connections: AtomicUsize,
    /// Whether clients are asked to go; HTTP/2 connections wait for it.
    pub(super) leaving: AtomicBool,
    pub(super) left: CancellationToken,
}

impl Edge {
    /// Starts serving.
    ///
    /// # Errors
    /// [`EdgeFault::Thread`] if a thread cannot be started.
    pub fn open(doors: Doors, shared: &Arc<Shared>, tls: Arc<EdgeTls>) -> Result<Self, EdgeFault> {
        let tasks = Tasks::new();
        let lobby = Arc::new(Lobby {
            shared: Arc::clone(shared),
            tls,
            left: tasks.stopping().child_token(),
            tasks,
            connections: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
        });
        let (desk, taking) = relayed::Desk::new(doors.workers);
        let mut shares: Vec<_> = taking.into_iter().map(|relayed| Share { sockets: Vec::new(), relayed }).collect();
        for door in doors.doors {
            for (share, socket) in shares.iter_mut().zip(door.sockets) {
                share.sockets.push((door.address, door.tls, socket));
            }
        }
        let mut threads = Vec::new();
        for (index, share) in shares.into_iter().enumerate() {
            let lobby = Arc::clone(&lobby);
            let thread = std::thread::Builder::new()
                .name(format!("edge-{index}"))
                .spawn(move || serve(&lobby, share))
                .map_err(EdgeFault::Thread)?;
            threads.push(thread);
        }
        Ok(Self { threads, lobby, desk })
    }

    /// What takes the clients' connections that other nodes pass on.
    #[must_use]
    pub fn desk(&self) -> Arc<dyn Answer> {
        Arc::<relayed::Desk>::clone(&self.desk)
    }

    /// From now on asks clients to go, and goes on answering until they have: GOAWAY on HTTP/2 (RFC 9113 section 6.8),
    /// `Connection: close` on HTTP/1.1 (RFC 9112 section 9.6).
    pub fn leave(&self) {
        self.lobby.leaving.store(true, Ordering::Relaxed);
        self.lobby.left.cancel();
    }

    /// Client connections now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.lobby.connections.load(Ordering::Relaxed)
    }

    /// Accepts nobody any more, lets requests under way finish, and waits at most `patience`.
    pub async fn close(self, patience: Duration) {
        let finished = self.lobby.tasks.stop(patience).await;
        if !finished {
            tracing::warn!("some client connections were cut after {}s", patience.as_secs());
        }
        let joined = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                let _ = thread.join();
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(2), joined).await;
    }
}

/// One thread: its runtime, its sockets, its connections.
fn serve(lobby: &Arc<Lobby>, share: Share) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "an edge thread has no runtime");
            return;
        }
    };
    let stopping = lobby.tasks.stopping();
    runtime.block_on(async {
        // held until the last connection of this thread has ended
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        for (address, tls, socket) in share.sockets {
            let listener = match TcpListener::from_std(socket) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%address, %error, "a listener was lost");
                    continue;
                }
            };
            let (lobby, alive) = (Arc::clone(lobby), alive.clone());
            let tasks = lobby.tasks.clone();
            tasks.spawn("accept", accept(lobby, listener, tls, alive));
        }
        lobby.tasks.spawn("accept-relayed", accept_relayed(Arc::clone(lobby), share.relayed, alive));
        stopping.cancelled().await;
        let _ = tokio::time::timeout(Duration::from_secs(30), all_gone.recv()).await;
    });
}

async fn accept(lobby: Arc<Lobby>, listener: TcpListener, tls: bool, alive: mpsc::Sender<()>) {
    let stopping = lobby.tasks.stopping();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Some(guest) = Guest::let_in(&lobby, &alive) {
            lobby.tasks.spawn("connection", connection::serve(guest, stream, peer, tls));
        }
    }
}

/// Takes what other nodes pass on.
async fn accept_relayed(lobby: Arc<Lobby>, mut relayed: mpsc::Receiver<Stream>, alive: mpsc::Sender<()>) {
    let stopping = lobby.tasks.stopping();
    loop {
        let stream = tokio::select! {
            () = stopping.cancelled() => return,
            stream = relayed.recv() => stream,
        };
        let Some(stream) = stream else { return };
        if let Some(guest) = Guest::let_in(&lobby, &alive) {
            lobby.tasks.spawn("connection", connection::serve_relayed(guest, stream));
        }
    }
}

/// A connection's place, given back when it ends.
pub(super) struct Guest {
    pub(super) lobby: Arc<Lobby>,
    _alive: mpsc::Sender<()>,
}

impl Guest {
    /// A place for one more connection, if there is one.
    fn let_in(lobby: &Arc<Lobby>, alive: &mpsc::Sender<()>) -> Option<Self> {
        let limit = lobby.shared.config.load().node.limits.connections_max;
        if lobby.connections.fetch_add(1, Ordering::Relaxed) >= limit {
            lobby.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self { lobby: Arc::clone(lobby), _alive: alive.clone() })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.lobby.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_port_is_refused_though_sockets_are_shared_among_threads() -> io::Result<()> {
        let first = listen("127.0.0.1:0".parse().map_err(io::Error::other)?, Sharing::Threads)?;
        let address = first.local_addr()?;
        assert!(listen(address, Sharing::Alone).is_err());
        assert!(listen(address, Sharing::Threads).is_ok());
        Ok(())
    }
}
