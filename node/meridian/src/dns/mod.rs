//! The DNS front: answers each client with the addresses of its region.
//!
//! UDP has an operating-system thread per socket and reads and writes in batches: an answer costs less than a wake-up of
//! a task does. TCP is rare and slow clients are its danger, so it runs as tasks with limits. Both share one immutable
//! [`View`], replaced whole when config or database change, the [`Terms`] that answers are given on, and the fleet's health.
//!
//! Nothing here writes down who asked: counters only.

mod batch;
mod counters;
mod desk;
mod export;
mod led;
mod plan;
mod rates;
mod roster;
pub mod signed;
mod tcp;
mod terms;
mod udp;
mod view;
mod zones;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use arc_swap::ArcSwap;
use region_config::DnsTerms;
use rules::health::Fleet;
use tokio::net::TcpListener;

pub use counters::{Counters, Event};
pub use desk::{Desk, Message};
pub use export::{ExportFault, Exported, export};
pub use plan::{put, put_shared};
pub use roster::Roster;
pub use terms::{Terms, TermsFault};
pub use view::{Explained, View, ViewFault};

use crate::tasks::Tasks;

/// How often another free port is taken, if one that is free over UDP is not over TCP.
const FREE_PORT_TRIES: u32 = 20;

/// Why DNS is not served.
#[derive(Debug, thiserror::Error)]
pub enum DnsFault {
    /// A listener could not be opened.
    #[error("cannot listen for DNS on {address} ({transport}): {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// UDP or TCP.
        transport: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The thread for a listener could not be started.
    #[error("cannot start the thread that answers DNS on {address}: {cause}")]
    Thread {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
}

/// The DNS listeners. They end when the owner of the tasks stops.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    front: Arc<Front>,
}

impl Server {
    /// Listens on each address, over UDP and TCP, and answers from `view` and `fleet` as they are at the time, on `terms`. Must be
    /// called on a tokio runtime, which then serves TCP. Port 0 means any free one.
    ///
    /// # Errors
    /// [`DnsFault`], which names the address.
    pub fn bind(
        listen: &[SocketAddr],
        view: Arc<ArcSwap<View>>,
        fleet: Arc<ArcSwap<Fleet>>,
        terms: Terms,
        tasks: &Tasks,
    ) -> Result<Self, DnsFault> {
        let threads = terms.threads;
        let terms = ArcSwap::from_pointee(terms);
        let front = Arc::new(Front { view, fleet, terms, counters: Arc::default() });
        // all sockets before any thread, so that a fault leaves nothing running
        let mut sockets = Vec::new();
        for wanted in listen {
            sockets.push(listen_at(*wanted, threads)?);
        }
        let mut addresses = Vec::new();
        for (address, udp, tcp) in sockets {
            for socket in udp {
                let front = Arc::clone(&front);
                udp::start(socket, address, front, tasks).map_err(|cause| DnsFault::Thread { address, cause })?;
            }
            tasks.spawn_until_stopped("dns tcp", tcp::accept(tcp, Arc::clone(&front), tasks.clone()));
            tracing::info!(%address, "answering DNS");
            addresses.push(address);
        }
        tasks.spawn_until_stopped("dns signatures", signed::renew(Arc::clone(&front.view), tasks.clone()));
        Ok(Self { addresses, front })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What became of all messages so far.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.front.counters)
    }

    /// The terms of another config, to be put in force by [`Server::replace`].
    ///
    /// # Errors
    /// [`TermsFault`].
    pub fn terms(&self, config: &DnsTerms) -> Result<Terms, TermsFault> {
        self.front.terms.load().renewed(config)
    }

    /// Puts other terms in force.
    pub fn replace(&self, terms: Terms) {
        self.front.terms.store(Arc::new(terms));
    }
}

/// Listens over UDP and TCP at one address.
fn listen_at(wanted: SocketAddr, threads: usize) -> Result<(SocketAddr, Vec<UdpSocket>, TcpListener), DnsFault> {
    let mut tries = if wanted.port() == 0 { FREE_PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let fault = |address, transport| move |cause| DnsFault::Listen { address, transport, cause };
        let (udp, address) = udp::bind(wanted, threads).map_err(fault(wanted, "UDP"))?;
        match tcp::bind(address) {
            Ok(tcp) => return Ok((address, udp, tcp)),
            // a port that is free over UDP need not be so over TCP
            Err(cause) if tries > 0 && cause.kind() == io::ErrorKind::AddrInUse => {}
            Err(cause) => return Err(fault(address, "TCP")(cause)),
        }
    }
}

/// What all listeners share.
#[derive(Debug)]
struct Front {
    view: Arc<ArcSwap<View>>,
    fleet: Arc<ArcSwap<Fleet>>,
    terms: ArcSwap<Terms>,
    counters: Arc<Counters>,
}

#[cfg(test)]
pub(crate) mod tests;
