//! TCP (RFC 7766): a task per connection, each with limits, so that slow or idle clients cannot shut out others.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::{Front, counters::Event, desk::Desk};
use crate::{clock, tasks::Tasks};

/// Connections at a time, in all and from one address (of IPv6, from one /64: a host has all of it).
const CONNECTIONS_MAX: usize = 512;
const CONNECTIONS_PER_ADDRESS: usize = 64;
/// For how long queries are taken from one connection, in order and one at a time: no place is anybody's for ever.
const LIFE: Duration = Duration::from_secs(300);
/// Wait for a query's first octet: while there is room for others, and when most of it is taken.
const IDLE: Duration = Duration::from_secs(10);
const IDLE_CROWDED: Duration = Duration::from_secs(1);
/// Time for the rest of a query, and for a client to take an answer.
const MESSAGE: Duration = Duration::from_secs(3);
/// Time for a client to take its last answers and close, and how much of what it sends meanwhile is thrown away.
const FAREWELL: Duration = Duration::from_secs(3);
const FAREWELL_CROWDED: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 1 << 20;
/// Wait after a failure to accept, which is a lack of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 256;

/// Opens a listener.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // for a restart: connections of the process before may still be dying
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections for ever.
pub(super) async fn accept(listener: TcpListener, front: Arc<Front>, tasks: Tasks) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let peers: Arc<Peers> = Arc::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(cause) => {
                tracing::warn!(%cause, "cannot accept DNS connections");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // whoever has too many is closed at once; when all room is taken, idle ones make some within a second
        let Some(seat) = peers.seat(peer.ip()) else { continue };
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let (front, room) = (Arc::clone(&front), Arc::clone(&room));
        tasks.spawn_until_stopped("dns tcp connection", async move {
            // how a connection ends is its client's business
            let _ = serve(stream, peer.ip(), front, &room, LIFE).await;
            drop((permit, seat));
        });
    }
}

/// Answers what comes on a connection for as long as `life`, and closes it.
pub(super) async fn serve(
    mut stream: TcpStream,
    peer: IpAddr,
    front: Arc<Front>,
    room: &Semaphore,
    life: Duration,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let crowded = || room.available_permits() < CONNECTIONS_MAX / 2;
    let until_ms = clock::monotonic_ms() + u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    let counters = Arc::clone(&front.counters);
    let mut desk = Desk::tcp(front);
    let mut query = Vec::new();
    let mut buffer = Vec::new();
    while clock::monotonic_ms() < until_ms {
        let first = timeout(if crowded() { IDLE_CROWDED } else { IDLE }, stream.read_u8()).await??;
        timeout(MESSAGE, read_rest(&mut stream, first, &mut query)).await??;
        counters.note(Event::Tcp);
        let answer = desk.answer(&query, peer, std::mem::take(&mut buffer));
        // what is owed no answer is no client
        let Some(length) = u16::try_from(answer.len()).ok().filter(|length| *length > 0) else { break };
        let framed = [length.to_be_bytes().as_slice(), &answer].concat();
        timeout(MESSAGE, stream.write_all(&framed)).await??;
        buffer = answer;
    }
    part(stream, if crowded() { FAREWELL_CROWDED } else { FAREWELL }).await
}

/// Closes a connection once its client has taken the answers that were sent (RFC 7766 section 6.2.4). One that is closed with
/// queries unread is reset, and then the client loses them.
async fn part(mut stream: TcpStream, farewell: Duration) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = stream.take(FAREWELL_BYTES);
    timeout(farewell, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await?.map(drop)
}

/// Reads a message whose length's first octet has come already.
async fn read_rest(stream: &mut TcpStream, first: u8, query: &mut Vec<u8>) -> io::Result<()> {
    let length = u16::from_be_bytes([first, stream.read_u8().await?]);
    query.resize(usize::from(length), 0);
    stream.read_exact(query).await.map(drop)
}

/// How many connections each address has, or each /64.
#[derive(Debug, Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// What counts as one sender of connections.
fn host(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

/// One connection's place; given up when dropped.
struct Seat {
    peers: Arc<Peers>,
    address: IpAddr,
}

impl Peers {
    /// A place for one more connection from an address; none if it has its share.
    fn seat(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let address = host(address);
        let mut counts = self.0.lock();
        let count = counts.entry(address).or_default();
        if *count >= CONNECTIONS_PER_ADDRESS {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Seat { peers: Arc::clone(self), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// One host with a /64 took all connections there are, each from an address of its own.
    #[test]
    fn a_host_has_its_share_of_connections_and_no_more_whatever_addresses_it_comes_from() {
        let peers: Arc<Peers> = Arc::default();
        let from = |text: String| peers.seat(text.parse().unwrap());
        let seats: Vec<_> = (0..100).filter_map(|at| from(format!("2001:db8::{at:x}"))).collect();
        assert_eq!(seats.len(), CONNECTIONS_PER_ADDRESS);
        assert!(from("2001:db8:0:1::".to_owned()).is_some() && from("192.0.2.1".to_owned()).is_some());
        drop(seats);
        assert!(from("2001:db8::1".to_owned()).is_some());
        assert!(peers.0.lock().is_empty());
    }
}
