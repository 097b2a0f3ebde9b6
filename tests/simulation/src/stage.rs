//! What all parts of a run share: time, chance, the log, the origin, the disks and caches that outlive a node's runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fastrand::Rng;
use meridian::simulation::{Place, World};
use parking_lot::Mutex;
use rules::purge::{Event as PurgeEvent, PurgeId};
use store::ledger::FaultyDisk;

use crate::{
    fleet::Change,
    log::{DOCS, Event, Level, Log, NODES},
    net::Net,
    node::Shelf,
};

/// The wall clock at the start of a run, in ms since the Unix epoch.
pub(crate) const START_UNIX_MS: u64 = 1_800_000_000_000;

/// A fault that is planted to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Planted {
    /// None.
    #[default]
    Nothing,
    /// A fill is stamped when it ends, not when it begins.
    StampAtEnd,
    /// What is promised to be on disk is said before it is.
    AckBeforeDisk,
    /// A node serves from its cache whether or not it has heard from the witnesses.
    NoLease,
    /// Nodes do not tell each other what they have heard, and what another one answers counts as if it had heard all.
    NoTranslation,
}

impl Planted {
    /// The fault of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "stamp-at-end" => Some(Self::StampAtEnd),
            "ack-before-disk" => Some(Self::AckBeforeDisk),
            "no-lease" => Some(Self::NoLease),
            "no-translation" => Some(Self::NoTranslation),
            _ => None,
        }
    }
}

/// What carries the lines between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carrier {
    /// Lines as QUIC streams are, made up by [`Net`].
    #[default]
    Lines,
    /// The mesh of the node, QUIC and all, over packets that [`Net`] carries.
    Quic,
}

/// What all parts of a run share.
#[derive(Debug)]
pub struct Stage {
    /// What carries the lines.
    pub carrier: Carrier,
    /// What is planted.
    pub planted: Planted,
    /// The bound of the site, if it is tight, in ms.
    pub tight_ms: Option<u64>,
    /// How the witnesses change, if they do, and the version of them that the operator has published.
    pub change: Option<Change>,
    /// That version.
    pub published: AtomicU32,
    /// What happened.
    pub log: Mutex<Log>,
    /// Lines between nodes.
    pub net: Mutex<Net>,
    /// The versions of the documents at the origin.
    pub versions: Mutex<[u64; DOCS]>,
    /// The nodes.
    pub nodes: [Ground; NODES],
    /// What applications were told, until they look.
    pub told: Mutex<Vec<(PurgeId, Option<Level>)>>,
    now_ms: AtomicU64,
    /// Whether a purge was acknowledged by a majority since this was last set back.
    pub has_acked: AtomicBool,
    is_calm: AtomicBool,
}

/// What outlives a node's runs.
#[derive(Debug)]
pub struct Ground {
    /// Its disk.
    pub disk: FaultyDisk,
    /// Its cache.
    pub shelf: Mutex<Shelf>,
    /// Its random numbers.
    pub rng: Mutex<Rng>,
    /// How wrong its wall clock is, in ms.
    pub skew_ms: AtomicI64,
    /// How fast its monotonic clock runs: thousandths more than true, at most 10.
    pub drift: AtomicI64,
    /// How long a sync of its disk takes, in ms, at most.
    pub sync_ms: AtomicU32,
    /// Whether the others take it to be alive.
    pub is_up: AtomicBool,
    /// How often it has started.
    pub boots: AtomicU32,
    /// Whether its disk was told to fail.
    pub has_failed: AtomicBool,
    /// The version of the witnesses that it was last started with.
    pub version: AtomicU32,
    /// Whether it says that the new ones have taken over.
    pub is_complete: AtomicBool,
}

impl Stage {
    /// A stage on which nothing has happened. `rng` says everything that will.
    #[must_use]
    pub fn new(rng: &mut Rng, planted: Planted, carrier: Carrier, change: Option<Change>) -> Arc<Self> {
        let nodes = std::array::from_fn(|_| Ground {
            disk: FaultyDisk::new(),
            shelf: Mutex::default(),
            rng: Mutex::new(rng.fork()),
            skew_ms: AtomicI64::new(0),
            drift: AtomicI64::new(rng.i64(-9..=9)),
            sync_ms: AtomicU32::new(8),
            is_up: AtomicBool::new(true),
            boots: AtomicU32::new(0),
            has_failed: AtomicBool::new(false),
            version: AtomicU32::new(1),
            is_complete: AtomicBool::new(false),
        });
        Arc::new(Self {
            carrier,
            planted,
            tight_ms: rng.bool().then(|| rng.u64(500..5_000)),
            change,
            published: AtomicU32::new(1),
            log: Mutex::default(),
            net: Mutex::new(Net::new(rng)),
            versions: Mutex::new([1; DOCS]),
            nodes,
            told: Mutex::default(),
            now_ms: AtomicU64::new(0),
            has_acked: AtomicBool::new(false),
            is_calm: AtomicBool::new(false),
        })
    }

    /// The time of the run in ms. Within a node's turn it is that node's time.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        turmoil::sim_elapsed().map_or(self.now_ms.load(Relaxed), ms)
    }

    /// Moves the time outside of nodes on.
    pub fn move_to(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Relaxed);
    }

    /// Notes what happened.
    pub fn note(&self, node: Option<usize>, event: Event) {
        self.log.lock().note(self.now_ms(), node, event);
    }

    /// Nothing is broken from here on.
    pub fn calm(&self) {
        self.is_calm.store(true, Relaxed);
        for ground in &self.nodes {
            ground.sync_ms.store(8, Relaxed);
            ground.is_up.store(true, Relaxed);
            ground.disk.heal();
        }
        self.net.lock().mend();
        self.note(None, Event::Calm);
    }

    /// Whether nothing is broken any more.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.is_calm.load(Relaxed)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The world of one node.
#[derive(Debug)]
pub struct NodeWorld {
    pub(crate) stage: Arc<Stage>,
    pub(crate) node: usize,
}

impl NodeWorld {
    fn place(&self) -> &Ground {
        &self.stage.nodes[self.node]
    }
}

impl World for NodeWorld {
    fn unix_ms(&self) -> u64 {
        let skew = self.place().skew_ms.load(Relaxed);
        (START_UNIX_MS + self.stage.now_ms()).saturating_add_signed(skew)
    }

    fn monotonic_ms(&self) -> u64 {
        let now = self.stage.now_ms() + 1_000_000;
        let drift = now.cast_signed() * self.place().drift.load(Relaxed) / 1_000;
        now.saturating_add_signed(drift)
    }

    fn chance(&self, bytes: &mut [u8]) {
        self.place().rng.lock().fill(bytes);
    }

    fn pause(&self, place: Place) -> Duration {
        let is_calm = self.stage.is_calm();
        let ground = self.place();
        let mut rng = ground.rng.lock();
        let ms = match place {
            Place::BeforeDisk => u64::from(rng.u32(0..=ground.sync_ms.load(Relaxed))),
            Place::AfterDisk | Place::Send if rng.u8(..) < 8 && !is_calm => rng.u64(1..400),
            Place::AfterDisk | Place::Send => 0,
        };
        Duration::from_millis(ms)
    }

    fn is_hasty(&self) -> bool {
        self.stage.planted == Planted::AckBeforeDisk
    }

    fn applied(&self, event: &PurgeEvent) {
        self.stage.note(Some(self.node), Event::Applied { id: event.id() });
    }
}
