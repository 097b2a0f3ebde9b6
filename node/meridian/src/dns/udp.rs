//! UDP: sockets at each address, a thread per socket, messages in batches.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Front, batch::Batch, desk::Desk};
use crate::tasks::Tasks;

/// How long a thread waits for a message before it looks whether it is to stop.
const WAIT: Duration = Duration::from_millis(250);
/// How long a thread waits after a failure to receive that is not the clients' doing.
const PAUSE: Duration = Duration::from_millis(20);
/// Room for messages that come while a batch is answered, in bytes: the usual 208 KiB lose bursts of a few hundred.
const QUEUE_BYTES: usize = 2 << 20;

/// Opens as many sockets at one address as there are to be threads; the kernel gives each of them a part of the clients.
///
/// The first is opened without SO_REUSEPORT, so that a port that is in use already is found.
pub(super) fn bind(address: SocketAddr, threads: usize) -> io::Result<(Vec<UdpSocket>, SocketAddr)> {
    let first = open(address, false)?;
    let address = first.local_addr()?;
    SockRef::from(&first).set_reuse_port(threads > 1)?;
    let others = (1..threads).map(|_| open(address, true));
    let sockets = std::iter::once(Ok(first)).chain(others).collect::<io::Result<_>>()?;
    Ok((sockets, address))
}

fn open(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // the kernel gives what it may; less is no reason not to serve
    let _ = socket.set_recv_buffer_size(QUEUE_BYTES);
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    let socket: UdpSocket = socket.into();
    socket.set_read_timeout(Some(WAIT))?;
    super::batch::prepare(&socket, address)?;
    Ok(socket)
}

/// Starts the thread that answers on a socket. It ends when the owner of the tasks stops.
pub(super) fn start(socket: UdpSocket, address: SocketAddr, front: Arc<Front>, tasks: &Tasks) -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let told = Arc::clone(&stop);
    let run = move || {
        serve(&socket, front, &told);
        drop(ended);
    };
    std::thread::Builder::new().name(format!("dns {}", address.port())).spawn(run)?;
    let stopping = tasks.stopping();
    tasks.spawn("dns udp", async move {
        stopping.cancelled().await;
        stop.store(true, Relaxed);
        // an error is how the channel says that the thread has ended
        let _ = end.await;
    });
    Ok(())
}

fn serve(socket: &UdpSocket, front: Arc<Front>, stop: &AtomicBool) {
    let mut batch = Batch::new();
    let mut desk = Desk::udp(front);
    while !stop.load(Relaxed) {
        match batch.receive(socket) {
            Ok(()) => desk.answer_all(batch.messages()),
            Err(cause) if matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => continue,
            Err(cause) => {
                tracing::warn!(%cause, "cannot receive DNS messages");
                std::thread::sleep(PAUSE);
                continue;
            }
        }
        batch.send(socket);
    }
}
