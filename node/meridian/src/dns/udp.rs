//! UDP: a thread per socket, messages in batches.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{
    Front,
    batch::Batch,
    counters::Event,
    desk::{Desk, Moment},
};
use crate::tasks::Tasks;

/// How long a thread waits for a message before it looks whether it is to stop.
const WAIT: Duration = Duration::from_millis(250);
/// How long a thread waits after a failure to receive that is not the clients' doing.
const PAUSE: Duration = Duration::from_millis(20);
/// Room for messages that come while a batch is answered, in bytes: the usual 208 KiB lose bursts of a few hundred.
const QUEUE_BYTES: usize = 2 << 20;

/// Opens a socket. No SO_REUSEPORT: with one thread per address it would only hide that the port is used already.
pub(super) fn bind(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // the kernel gives what it may; less is no reason not to serve
    let _ = socket.set_recv_buffer_size(QUEUE_BYTES);
    socket.bind(&address.into())?;
    let socket: UdpSocket = socket.into();
    socket.set_read_timeout(Some(WAIT))?;
    super::batch::answer_from_where_asked(&socket, address)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
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
            Ok(()) => desk.serve(|moment| answer(&mut batch, moment)),
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

/// Answers all messages of a batch from one view, one health and one time.
fn answer(batch: &mut Batch, moment: &mut Moment<'_>) {
    for message in batch.messages() {
        if message.peer.port() == 0 {
            moment.counters.note(Event::Dropped);
            continue;
        }
        let buffer = std::mem::take(message.reply);
        let respond = || moment.respond(message.query, message.peer.ip(), buffer);
        // no message may take the thread down, and with it the service of this address
        *message.reply = catch_unwind(AssertUnwindSafe(respond)).unwrap_or_else(|_| {
            moment.counters.note(Event::Panicked);
            Vec::new()
        });
    }
}
