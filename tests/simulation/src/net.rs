//! The network between nodes: packets as UDP has them, or lines as QUIC streams are, over links that lose, hold back and
//! cut.
//!
//! A packet comes late, twice or not at all, and overtakes others; over a cut link none comes, and nobody is told.
//!
//! A line carries its frames whole and in order, or ends; how long each takes is drawn anew, so lines overtake each
//! other. What is lost is sent again by the transport and comes later. A link that is cut in either direction for
//! longer than the transport's patience ends its connection with all its lines, and whoever has sent does not learn
//! what of it arrived. A node that is killed says nothing: the others find out by their patience.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::{FutureExt, future::BoxFuture};
use meridian::{
    peers::Kind,
    simulation::{Ends, Links, Out},
};
use region_config::{JurisdictionId, NodeId};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    log::{NAMES, NODES, REGIONS},
    stage::Stage,
};

/// Frames on their way in one direction of a line; more wait.
const WINDOW: usize = 32;
/// Frames that have come and nobody has read yet.
const UNREAD_MAX: usize = 256;
/// Packets that have come and that a node has not read yet; more are lost.
const INBOX_MAX: usize = 2_048;
/// Of 256 packets, so many come twice.
const TWICE: u8 = 4;
/// The port of all nodes.
const PORT: u16 = 7_443;
/// How long the transport waits before it sends again what was lost, in ms.
const AGAIN_MS: u64 = 120;

/// What comes to a node.
#[derive(Debug)]
pub enum Incoming {
    /// Another node opens a line.
    Line(Kind, Ends),
    /// A client asks for a document.
    Ask {
        /// Number of the request.
        request: u64,
        /// The document.
        doc: usize,
    },
    /// An application wants a purge.
    Purge(crate::node::Wish),
}

/// One link, in one direction.
#[derive(Debug, Clone, Copy)]
struct Link {
    cut_since: Option<u64>,
    delay_ms: u64,
    jitter_ms: u64,
    loss: f64,
}

#[derive(Debug)]
struct Running {
    boot: u32,
    door: mpsc::Sender<Incoming>,
    inbox: VecDeque<Packet>,
    reader: Option<Waker>,
}

/// A packet of UDP, and the node that sent it.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) from: usize,
    pub(crate) bytes: Bytes,
}

#[derive(Debug)]
struct Line {
    /// The nodes at its ends, and their boots.
    ends: [(usize, u32); 2],
    /// Towards the reader at each end.
    into: [Option<mpsc::Sender<Bytes>>; 2],
    windows: [Arc<Semaphore>; 2],
    /// What is on its way towards each end, and when it comes; none is the end.
    coming: [VecDeque<(u64, Option<Bytes>)>; 2],
}

#[derive(Debug)]
enum Item {
    /// The next thing on a line comes.
    Next {
        line: u64,
        to: usize,
    },
    Packet {
        packet: Packet,
        to: usize,
    },
    Hello {
        from: usize,
        to: usize,
        boots: (u32, u32),
        answer: oneshot::Sender<bool>,
        back: bool,
    },
    Give {
        from: Option<(usize, u32)>,
        to: usize,
        what: Incoming,
    },
}

/// All links, lines and what is on its way.
#[derive(Debug)]
pub struct Net {
    rng: Rng,
    now_ms: u64,
    links: [[Link; NODES]; NODES],
    running: [Option<Running>; NODES],
    /// Connections by their nodes, with the boots of these.
    connections: BTreeMap<(usize, usize), (u32, u32)>,
    lines: BTreeMap<u64, Line>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    items: BTreeMap<u64, Item>,
    count: u64,
    patience_ms: u64,
    digest: u64,
    packets: Packets,
}

/// Packets of UDP in a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Packets {
    /// How many came, twice or once.
    pub came: u64,
    /// How many did not.
    pub lost: u64,
}

impl Net {
    /// A whole network of a random kind.
    #[must_use]
    pub fn new(rng: &mut Rng) -> Self {
        let mut rng = rng.fork();
        let loss = [0.0, 0.01, 0.1, 0.3][rng.usize(0..4)];
        let links = std::array::from_fn(|from| {
            std::array::from_fn(|to| {
                let near = REGIONS[from] == REGIONS[to];
                let delay_ms = if near { rng.u64(0..3) } else { rng.u64(10..150) };
                Link { cut_since: None, delay_ms, jitter_ms: rng.u64(1..60), loss }
            })
        });
        Self {
            patience_ms: rng.u64(1_000..3_500),
            rng,
            now_ms: 0,
            links,
            running: [const { None }; NODES],
            connections: BTreeMap::new(),
            lines: BTreeMap::new(),
            queue: BinaryHeap::new(),
            items: BTreeMap::new(),
            count: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            packets: Packets::default(),
        }
    }

    /// A number that is the same if and only if (nearly) the same was delivered in the same order.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The packets so far.
    #[must_use]
    pub fn packets(&self) -> Packets {
        self.packets
    }

    /// Cuts or mends the way from one node to another.
    pub fn cut(&mut self, from: usize, to: usize, cut: bool) {
        let now_ms = self.now_ms;
        let link = &mut self.links[from][to];
        link.cut_since = if cut { link.cut_since.or(Some(now_ms)) } else { None };
    }

    /// Mends everything.
    pub fn mend(&mut self) {
        for link in self.links.iter_mut().flatten() {
            link.cut_since = None;
            link.loss = link.loss.min(0.01);
        }
    }

    /// Whether nothing goes from one node to another.
    #[must_use]
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.links[from][to].cut_since.is_some()
    }

    /// A node has started: what comes to it from now on.
    pub fn start(&mut self, node: usize, boot: u32) -> mpsc::Receiver<Incoming> {
        let (door, incoming) = mpsc::channel(4_096);
        self.running[node] = Some(Running { boot, door, inbox: VecDeque::new(), reader: None });
        incoming
    }

    /// A node was killed. The others do not learn of it.
    pub fn kill(&mut self, node: usize) {
        self.running[node] = None;
    }

    /// Takes everything off, so that a run can be forgotten: what is on its way knows the network.
    pub(crate) fn take_down(&mut self) -> impl Sized + use<> {
        let running = std::mem::replace(&mut self.running, [const { None }; NODES]);
        (std::mem::take(&mut self.items), std::mem::take(&mut self.lines), running)
    }

    /// Gives something to a node from outside the fleet, if it runs. False if not.
    pub fn give(&mut self, to: usize, what: Incoming) -> bool {
        let due_ms = self.now_ms + self.rng.u64(0..40);
        self.push(due_ms, Item::Give { from: None, to, what });
        self.running[to].is_some()
    }

    /// A run of a node sends a packet.
    pub(crate) fn send_packet(&mut self, (from, boot): (usize, u32), to: usize, bytes: &Bytes) {
        let Link { cut_since, delay_ms, jitter_ms, loss } = self.links[from][to];
        let is_dead = self.running[from].as_ref().is_none_or(|running| running.boot != boot);
        if is_dead || cut_since.is_some() {
            self.packets.lost += 1;
            return;
        }
        let copies = if self.rng.u8(..) < TWICE { 2 } else { 1 };
        for _ in 0..copies {
            let due_ms = self.now_ms + delay_ms + self.rng.u64(0..=jitter_ms);
            if self.rng.f64() < loss {
                self.packets.lost += 1;
            } else {
                self.push(due_ms, Item::Packet { packet: Packet { from, bytes: bytes.clone() }, to });
            }
        }
    }

    /// Gives a run of a node up to `most` of the packets that have come to it, or wakes it when there are some.
    pub(crate) fn poll_packets(
        &mut self,
        (node, boot): (usize, u32),
        most: usize,
        context: &Context<'_>,
    ) -> Poll<Vec<Packet>> {
        let Some(running) = self.running[node].as_mut().filter(|running| running.boot == boot) else {
            return Poll::Pending;
        };
        if running.inbox.is_empty() {
            running.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = running.inbox.len().min(most);
        Poll::Ready(running.inbox.drain(..count).collect())
    }

    fn deliver_packet(&mut self, packet: Packet, to: usize) {
        let is_cut = self.links[packet.from][to].cut_since.is_some();
        // the address is the node's, whichever run of it
        let running = self.running[to].as_mut().filter(|running| !is_cut && running.inbox.len() < INBOX_MAX);
        let Some(running) = running else {
            self.packets.lost += 1;
            return;
        };
        self.packets.came += 1;
        self.digest = packet.bytes.iter().fold(self.digest, |digest, byte| stirred(digest, u64::from(*byte)));
        running.inbox.push_back(packet);
        if let Some(reader) = running.reader.take() {
            reader.wake();
        }
    }

    fn push(&mut self, due_ms: u64, item: Item) {
        self.count += 1;
        self.items.insert(self.count, item);
        self.queue.push(Reverse((due_ms, self.count)));
    }

    fn travel_ms(&mut self, from: usize, to: usize) -> u64 {
        let Link { delay_ms, jitter_ms, loss, .. } = self.links[from][to];
        let mut ms = delay_ms + self.rng.u64(0..=jitter_ms);
        while self.rng.f64() < loss && ms < 10_000 {
            ms += AGAIN_MS + self.rng.u64(0..AGAIN_MS);
        }
        ms
    }

    /// Delivers all that is due, and ends what has waited for too long.
    pub fn step(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if now_ms.is_multiple_of(100) {
            self.lose_patience();
        }
        while let Some(Reverse((due_ms, number))) = self.queue.peek().copied()
            && due_ms <= now_ms
        {
            self.queue.pop();
            if let Some(item) = self.items.remove(&number) {
                self.deliver(item);
            }
        }
    }

    fn lose_patience(&mut self) {
        let (now_ms, patience_ms) = (self.now_ms, self.patience_ms);
        let links = self.links;
        let running = self.running.each_ref().map(|running| running.as_ref().map(|running| running.boot));
        let is_gone = |ends: [(usize, u32); 2]| {
            let cut =
                |from: usize, to: usize| links[from][to].cut_since.is_some_and(|since| since + patience_ms < now_ms);
            let dead = |(node, boot)| running[node] != Some(boot);
            let [a, b] = ends;
            cut(a.0, b.0) || cut(b.0, a.0) || dead(a) || dead(b)
        };
        self.connections.retain(|nodes, boots| !is_gone([(nodes.0, boots.0), (nodes.1, boots.1)]));
        let gone: Vec<u64> = self.lines.iter().filter(|(_, line)| is_gone(line.ends)).map(|(line, _)| *line).collect();
        for line in gone {
            // not all at the same moment: the end towards a living node comes when that one's patience is over
            if self.rng.u8(..) < 60 {
                self.drop_line(line);
            }
        }
    }

    fn drop_line(&mut self, line: u64) {
        if let Some(line) = self.lines.remove(&line) {
            line.windows.iter().for_each(|window| window.close());
        }
    }

    fn deliver(&mut self, item: Item) {
        self.stir(&item);
        match item {
            Item::Next { line, to } => self.deliver_next(line, to),
            Item::Packet { packet, to } => self.deliver_packet(packet, to),
            Item::Hello { from, to, boots, answer, back } => self.deliver_hello(from, to, boots, answer, back),
            Item::Give { from, to, what } => self.deliver_gift(from, to, what),
        }
    }

    fn deliver_gift(&mut self, from: Option<(usize, u32)>, to: usize, what: Incoming) {
        if let Some((from, _)) = from
            && self.links[from][to].cut_since.is_some()
        {
            let due_ms = self.now_ms + AGAIN_MS;
            return self.push(due_ms, Item::Give { from: None, to, what });
        }
        if let Some(running) = &self.running[to]
            && from.is_none_or(|(_, boot)| boot == running.boot)
        {
            // a full door is one more way of not being answered
            let _full = running.door.try_send(what);
        }
    }

    fn deliver_next(&mut self, line: u64, to: usize) {
        let now_ms = self.now_ms;
        let Some(open) = self.lines.get_mut(&line) else { return };
        let (from, there) = (open.ends[1 - to].0, open.ends[to]);
        let is_cut = self.links[from][there.0].cut_since.is_some();
        let is_dead = self.running[there.0].as_ref().is_none_or(|running| running.boot != there.1);
        let is_full = open.into[to].as_ref().is_some_and(|into| into.capacity() == 0);
        let is_early = open.coming[to].front().is_none_or(|(due_ms, _)| *due_ms > now_ms);
        if is_cut || is_dead || is_full || is_early {
            // the transport tries until its patience is over
            return self.push(now_ms + AGAIN_MS, Item::Next { line, to });
        }
        match open.coming[to].pop_front() {
            Some((_, Some(bytes))) => {
                self.digest = bytes.iter().fold(self.digest, |digest, byte| stirred(digest, u64::from(*byte)));
                open.windows[to].add_permits(1);
                let is_read = open.into[to].as_ref().is_some_and(|into| into.try_send(bytes).is_ok());
                if !is_read {
                    // nobody reads any more: the sender is told to stop
                    open.windows[to].close();
                }
            }
            _ => {
                open.into[to] = None;
                if open.into.iter().all(Option::is_none) {
                    self.drop_line(line);
                }
            }
        }
    }

    fn deliver_hello(&mut self, from: usize, to: usize, boots: (u32, u32), answer: oneshot::Sender<bool>, back: bool) {
        if answer.is_closed() {
            return;
        }
        let (sender, receiver) = if back { (to, from) } else { (from, to) };
        if self.links[sender][receiver].cut_since.is_some() {
            let due_ms = self.now_ms + 2 * AGAIN_MS;
            return self.push(due_ms, Item::Hello { from, to, boots, answer, back });
        }
        let boot_of = |node: usize| self.running[node].as_ref().map(|running| running.boot);
        if back {
            if boot_of(from) == Some(boots.0) {
                let key = if from < to { ((from, to), boots) } else { ((to, from), (boots.1, boots.0)) };
                self.connections.insert(key.0, key.1);
                // whoever asked may have gone
                let _gone = answer.send(true);
            }
            return;
        }
        match boot_of(to) {
            Some(boot) => {
                let due_ms = self.now_ms + self.travel_ms(to, from);
                self.push(due_ms, Item::Hello { from, to, boots: (boots.0, boot), answer, back: true });
            }
            None => {
                let due_ms = self.now_ms + 4 * AGAIN_MS;
                self.push(due_ms, Item::Hello { from, to, boots, answer, back: false });
            }
        }
    }

    /// Whether a connection stands, and between which boots.
    fn connection(&self, from: usize, to: usize) -> Option<(u32, u32)> {
        let (a, b) = self.connections.get(&(from.min(to), from.max(to))).copied()?;
        let boots = if from < to { (a, b) } else { (b, a) };
        (self.running[from].as_ref()?.boot == boots.0).then_some(boots)
    }

    fn hello(&mut self, from: usize, to: usize) -> Option<oneshot::Receiver<bool>> {
        let boot = self.running[from].as_ref()?.boot;
        let (answer, answered) = oneshot::channel();
        let due_ms = self.now_ms + self.travel_ms(from, to);
        self.push(due_ms, Item::Hello { from, to, boots: (boot, 0), answer, back: false });
        Some(answered)
    }

    /// Opens a line over a connection that stands. The other end comes to know of it by the way.
    fn line(&mut self, stage: &Arc<Stage>, from: usize, to: usize, boots: (u32, u32), kind: Kind) -> Ends {
        self.count += 1;
        let number = self.count;
        let (to_from, from_reads) = mpsc::channel(UNREAD_MAX);
        let (to_to, to_reads) = mpsc::channel(UNREAD_MAX);
        let windows = [Arc::new(Semaphore::new(WINDOW)), Arc::new(Semaphore::new(WINDOW))];
        let out = |to: usize| Sender { stage: Arc::clone(stage), line: number, to, window: Arc::clone(&windows[to]) };
        let ends = |peer: usize, out: Sender, into| Ends {
            out: Box::new(out),
            into,
            peer: node_id(peer),
            jurisdiction: jurisdiction(),
        };
        let theirs = ends(from, out(0), to_reads);
        let ours = ends(to, out(1), from_reads);
        let due_ms = self.now_ms + self.travel_ms(from, to);
        self.push(due_ms, Item::Give { from: Some((from, boots.1)), to, what: Incoming::Line(kind, theirs) });
        let line = Line {
            ends: [(from, boots.0), (to, boots.1)],
            into: [Some(to_from), Some(to_to)],
            windows: windows.clone(),
            coming: [VecDeque::new(), VecDeque::new()],
        };
        self.lines.insert(number, line);
        ours
    }

    fn send(&mut self, line: u64, to: usize, frame: Option<Bytes>) -> bool {
        let Some(open) = self.lines.get(&line) else { return false };
        let ((from, boot), there) = (open.ends[1 - to], open.ends[to].0);
        if self.running[from].as_ref().is_none_or(|running| running.boot != boot) {
            // a node that was killed says nothing, not even that its lines end
            return false;
        }
        let last_ms = open.coming[to].back().map_or(0, |(due_ms, _)| *due_ms);
        let due_ms = (self.now_ms + self.travel_ms(from, there)).max(last_ms);
        if let Some(open) = self.lines.get_mut(&line) {
            open.coming[to].push_back((due_ms, frame));
        }
        self.push(due_ms, Item::Next { line, to });
        true
    }

    fn stir(&mut self, item: &Item) {
        let what = match item {
            Item::Next { line, to } => *line * 2 + *to as u64,
            Item::Packet { packet, to } => ((packet.bytes.len() * NODES + packet.from) * NODES + to) as u64,
            Item::Hello { from, to, .. } => (from * NODES + to) as u64,
            Item::Give { to, .. } => *to as u64,
        };
        self.digest = stirred(stirred(self.digest, self.now_ms), what);
    }
}

fn stirred(digest: u64, value: u64) -> u64 {
    (digest ^ value).wrapping_mul(0x0100_0000_01b3)
}

/// The name of a node.
#[must_use]
pub fn node_id(node: usize) -> NodeId {
    NodeId::parse(NAMES[node]).unwrap_or_else(|_| unreachable!("the names are names"))
}

/// Where a node listens for the others.
#[must_use]
pub fn address(node: usize) -> SocketAddr {
    let last = u8::try_from(node + 1).unwrap_or(u8::MAX);
    SocketAddr::from(([10, 0, 0, last], PORT))
}

/// What all nodes are certified for.
#[must_use]
pub fn jurisdiction() -> JurisdictionId {
    JurisdictionId::parse("all").unwrap_or_else(|_| unreachable!("the name is a name"))
}

/// A node's way into the network.
#[derive(Debug)]
pub struct Port {
    pub(crate) stage: Arc<Stage>,
    pub(crate) node: usize,
}

impl Links for Port {
    fn open<'a>(&'a self, node: &'a NodeId, kind: Kind) -> BoxFuture<'a, Option<Ends>> {
        async move {
            let to = NAMES.iter().position(|name| *name == node.as_str())?;
            loop {
                let hello = {
                    let mut net = self.stage.net.lock();
                    if let Some(boots) = net.connection(self.node, to) {
                        return Some(net.line(&self.stage, self.node, to, boots, kind));
                    }
                    net.hello(self.node, to)?
                };
                hello.await.ok()?;
            }
        }
        .boxed()
    }
}

#[derive(Debug)]
struct Sender {
    stage: Arc<Stage>,
    line: u64,
    to: usize,
    window: Arc<Semaphore>,
}

impl Out for Sender {
    fn frame(&mut self, bytes: Bytes) -> BoxFuture<'_, bool> {
        async move {
            let Ok(permit) = self.window.acquire().await else { return false };
            permit.forget();
            let (line, to) = (self.line, self.to);
            self.stage.net.lock().send(line, to, Some(bytes))
        }
        .boxed()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let (line, to) = (self.line, self.to);
        // a line that has ended needs no end
        let _ended = self.stage.net.try_lock().map(|mut net| net.send(line, to, None));
    }
}

/// Shared links for one node.
#[must_use]
pub fn port(stage: &Arc<Stage>, node: usize) -> Arc<dyn Links> {
    Arc::new(Port { stage: Arc::clone(stage), node })
}
