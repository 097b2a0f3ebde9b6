//! What lies between the nodes of a fleet: each datagram from one to another takes as long as told, or is lost.
//!
//! The fleet's config names an address of the shim for each node, its front. A node listens elsewhere. What comes to the
//! front of B from where A listens goes on to where B listens, out of the front of A: so B sees A where the config says
//! that A is, and each direction of each pair of nodes can be told apart. Needs no rights and no kernel modules.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How soon the threads see that they are to end.
const TURN: Duration = Duration::from_millis(100);
/// The largest UDP datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Datagrams under way, at most; the next ones are lost, as they would be on any network.
const LATE_MAX: usize = 200_000;

/// The network between nodes, which are known by their numbers.
pub(crate) struct Shim {
    net: Arc<Net>,
    threads: Vec<JoinHandle<()>>,
}

struct Net {
    fronts: Vec<UdpSocket>,
    nodes: Vec<SocketAddr>,
    numbers: HashMap<SocketAddr, usize>,
    /// From each node to each.
    links: Vec<Vec<Link>>,
    late: Mutex<BinaryHeap<Reverse<Late>>>,
    woken: Condvar,
    ending: AtomicBool,
}

#[derive(Default)]
struct Link {
    cut: AtomicBool,
    delay_us: AtomicU64,
    passed: AtomicU64,
    lost: AtomicU64,
}

/// A datagram that arrives later: first by when, then in the order of sending.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    number: u64,
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

/// What went through.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) passed: u64,
    pub(crate) lost: u64,
}

impl Shim {
    /// Lays the network between nodes that will listen at these addresses. Nothing is cut, and nothing takes time.
    pub(crate) fn between(nodes: &[SocketAddr]) -> Self {
        let front = |ip: IpAddr| {
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            socket.set_read_timeout(Some(TURN)).unwrap();
            socket
        };
        let net = Arc::new(Net {
            fronts: nodes.iter().map(|node| front(node.ip())).collect(),
            nodes: nodes.to_vec(),
            numbers: nodes.iter().enumerate().map(|(number, node)| (*node, number)).collect(),
            links: nodes.iter().map(|_| nodes.iter().map(|_| Link::default()).collect()).collect(),
            late: Mutex::default(),
            woken: Condvar::new(),
            ending: AtomicBool::new(false),
        });
        let thread =
            |name: String, run: Box<dyn FnOnce() + Send>| thread::Builder::new().name(name).spawn(run).unwrap();
        let mut threads = Vec::new();
        for to in 0..nodes.len() {
            let net = Arc::clone(&net);
            threads.push(thread(format!("shim-{to}"), Box::new(move || net.carry(to))));
        }
        let waiting = Arc::clone(&net);
        threads.push(thread("shim-late".to_owned(), Box::new(move || waiting.deliver())));
        Self { net, threads }
    }

    /// Where the others reach a node.
    pub(crate) fn front(&self, node: usize) -> SocketAddr {
        self.net.fronts[node].local_addr().unwrap()
    }

    /// How long a datagram takes from now on between two nodes, each way.
    pub(crate) fn delay(&self, one: usize, other: usize, one_way: Duration) {
        let us = u64::try_from(one_way.as_micros()).unwrap();
        for (from, to) in [(one, other), (other, one)] {
            self.net.links[from][to].delay_us.store(us, Ordering::SeqCst);
        }
    }

    /// From now on nothing that one node sends to the other arrives. What the other sends still does.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.net.links[from][to].cut.store(true, Ordering::SeqCst);
    }

    /// From now on nothing goes between two nodes.
    pub(crate) fn cut_both(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Nothing is cut any more.
    pub(crate) fn heal(&self) {
        self.net.links.iter().flatten().for_each(|link| link.cut.store(false, Ordering::SeqCst));
    }

    /// What went through so far, and what did not.
    pub(crate) fn traffic(&self) -> Traffic {
        let links = self.net.links.iter().flatten();
        links.fold(Traffic::default(), |sum, link| Traffic {
            passed: sum.passed + link.passed.load(Ordering::Relaxed),
            lost: sum.lost + link.lost.load(Ordering::Relaxed),
        })
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.net.ending.store(true, Ordering::SeqCst);
        self.net.woken.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Net {
    /// Takes what comes to the front of a node.
    fn carry(&self, to: usize) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut number = 0;
        while !self.ending.load(Ordering::Relaxed) {
            let (length, source) = match self.fronts[to].recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                // an answer of the system that a node is not there now, to what was sent from this front
                Err(_) => continue,
            };
            let Some(from) = self.numbers.get(&source).copied() else { continue };
            let link = &self.links[from][to];
            if link.cut.load(Ordering::Relaxed) {
                link.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let delay = Duration::from_micros(link.delay_us.load(Ordering::Relaxed));
            if delay.is_zero() {
                self.send(from, to, &buffer[..length]);
                continue;
            }
            number += 1;
            let due = Instant::now() + delay;
            self.hold(Late { due, number, from, to, bytes: buffer[..length].to_vec() });
        }
    }

    fn hold(&self, late: Late) {
        let mut waiting = self.late.lock().unwrap();
        if waiting.len() >= LATE_MAX {
            self.links[late.from][late.to].lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let sooner = waiting.peek().is_none_or(|Reverse(first)| late.due < first.due);
        waiting.push(Reverse(late));
        drop(waiting);
        if sooner {
            self.woken.notify_one();
        }
    }

    /// Delivers what was held up.
    fn deliver(&self) {
        let mut waiting = self.late.lock().unwrap();
        while !self.ending.load(Ordering::Relaxed) {
            let now = Instant::now();
            let pause = match waiting.peek() {
                Some(Reverse(first)) if first.due <= now => {
                    let Some(Reverse(late)) = waiting.pop() else { continue };
                    drop(waiting);
                    self.send(late.from, late.to, &late.bytes);
                    waiting = self.late.lock().unwrap();
                    continue;
                }
                Some(Reverse(first)) => (first.due - now).min(TURN),
                None => TURN,
            };
            waiting = self.woken.wait_timeout(waiting, pause).unwrap().0;
        }
    }

    fn send(&self, from: usize, to: usize, bytes: &[u8]) {
        let sent = self.fronts[from].send_to(bytes, self.nodes[to]);
        let link = &self.links[from][to];
        let count = if sent.is_ok() { &link.passed } else { &link.lost };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
