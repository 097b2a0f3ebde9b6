//! Looks after the database of a running node: notices other files, reads them aside, and lets them in or holds them back.
//!
//! Whatever happens to the files, the node goes on with what it has in memory. A file that is damaged, gone or half
//! written changes nothing but the alarm; one that is sound but suspicious waits for an operator's word, which is a note
//! beside the file (`meridian geo update --force` writes it).

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use region_config::{Config, Site, Whom};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    Base,
    files::{self, Stamps},
    gates,
};
use crate::{clock, tasks::Tasks};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How often the log says that the data are too old, in ms.
const AGE_SAID_EVERY_MS: u64 = 86_400_000;

/// What an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// Another file is there, and cannot be used.
    Refused {
        /// Why.
        why: String,
    },
    /// Another file is there, and waits for an operator's word.
    Held {
        /// What speaks against it.
        why: String,
    },
    /// The data in use are too old.
    Old {
        /// The file.
        file: String,
        /// Their age, in days.
        days: u64,
    },
    /// The file knows one family of addresses only.
    Lent {
        /// The other family.
        family: &'static str,
    },
    /// A site has rules for clients by AS number, and no database has any.
    NoNetworks,
}

impl Alarm {
    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Held { .. } => "held",
            Self::Old { .. } => "old",
            Self::Lent { .. } => "one-family",
            Self::NoNetworks => "no-networks",
        }
    }

    /// All words.
    pub const WORDS: [&str; 5] = ["refused", "held", "old", "one-family", "no-networks"];
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { why } => {
                write!(f, "the geo database on disk cannot be used, the one in memory stays: {why}")
            }
            Self::Held { why } => write!(
                f,
                "the geo database on disk is held back, the one in memory stays: {why}; `meridian geo update --force` takes it"
            ),
            Self::Old { file, days } => write!(f, "the data of the geo database {file} are {days} days old"),
            Self::Lent { family } => {
                write!(f, "the geo database has no {family} in it: the built-in country database answers for {family}")
            }
            Self::NoNetworks => f.write_str(
                "rules for clients by `asn` apply to nobody, as no geo database has AS numbers: `[geo] asn_file` names one that has",
            ),
        }
    }
}

/// The watch over the database of a node.
#[derive(Debug)]
pub struct Watch {
    config: Arc<ArcSwap<Config>>,
    current: Arc<ArcSwapOption<Base>>,
    seen: Mutex<Seen>,
    nudge: Notify,
    counts: Counts,
}

/// How often other files were found, by what became of them.
#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    held: AtomicU64,
    refused: AtomicU64,
}

/// What was seen of other files.
#[derive(Debug, Default)]
struct Seen {
    /// Files that stood so at the last look, and are read if they still do at the next.
    waiting: Option<Stamps>,
    /// Files that were read, and what was wrong with them.
    judged: Option<(Stamps, Alarm)>,
    /// Those of them that wait for an operator's word.
    held: Vec<HeldFile>,
    /// When the log said last that data are old, in ms since the Unix epoch.
    age_said_ms: Option<u64>,
}

/// A file that is sound, and waits for an operator's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFile {
    /// The file.
    pub path: PathBuf,
    /// The sum of its contents.
    pub sum: blake3::Hash,
    /// What speaks against it.
    pub why: Vec<String>,
}

/// A database that may be put in place.
#[derive(Debug)]
pub struct Newer {
    /// What was read.
    pub base: Arc<Base>,
    _until_dropped: oneshot::Sender<()>,
}

/// Why a file that is held back was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptFault {
    /// No file with these contents is.
    #[error("no geo database with these contents is held back")]
    NotHeld,
    /// The note could not be written.
    #[error("writing the note beside {}: {cause}", path.display())]
    Disk {
        /// Beside which file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

/// How sure it is that nobody writes to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// They have to stand still for two looks.
    Patient,
    /// Somebody has asked for them to be taken now.
    Asked,
}

impl Watch {
    /// A watch over what `config` names and `current` is.
    #[must_use]
    pub fn new(config: Arc<ArcSwap<Config>>, current: Arc<ArcSwapOption<Base>>) -> Arc<Self> {
        Arc::new(Self { config, current, seen: Mutex::default(), nudge: Notify::new(), counts: Counts::default() })
    }

    /// Starts to look. Databases that may be taken come out of the receiver; who gets one puts it in place and then drops what
    /// it came in: until then nobody looks, as what is on disk would be found once more beside what is in use.
    #[must_use]
    pub fn start(self: &Arc<Self>, tasks: &Tasks) -> mpsc::Receiver<Newer> {
        let (found, receiver) = mpsc::channel(1);
        let (watch, reading) = (Arc::clone(self), tasks.clone());
        tasks.spawn_until_stopped("geo", async move {
            loop {
                let asked = tokio::select! {
                    () = tokio::time::sleep(EVERY) => Look::Patient,
                    () = watch.nudge.notified() => Look::Asked,
                };
                let looking = Arc::clone(&watch);
                let newer = reading.run_busy(move || looking.look(asked)).await.flatten();
                let Some(base) = newer else { continue };
                let (until_dropped, dropped) = oneshot::channel();
                if found.send(Newer { base, _until_dropped: until_dropped }).await.is_err() {
                    return;
                }
                // never sent to
                let _closed = dropped.await;
            }
        });
        receiver
    }

    /// Asks for a look at the files now.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Notes that a database was put in place.
    pub fn taken(&self) {
        self.counts.taken.fetch_add(1, Relaxed);
        *self.seen.lock() = Seen::default();
    }

    /// How many databases were taken while the node ran, held back, and refused.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        let Counts { taken, held, refused } = &self.counts;
        [("taken", taken), ("held", held), ("refused", refused)].map(|(word, count)| (word, count.load(Relaxed)))
    }

    /// The database in use.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Base>> {
        self.current.load_full()
    }

    /// The files that wait for an operator's word.
    #[must_use]
    pub fn held(&self) -> Vec<HeldFile> {
        self.seen.lock().held.clone()
    }

    /// Notes that an operator wants the file with these contents (BLAKE3, hexadecimal), and asks for a look. Writes a file: not for
    /// a thread that answers.
    ///
    /// # Errors
    /// [`AcceptFault`]; then nothing has changed.
    pub fn accept(&self, sum: &str) -> Result<HeldFile, AcceptFault> {
        let held = self.held().into_iter().find(|held| held.sum.to_hex().as_str() == sum);
        let held = held.ok_or(AcceptFault::NotHeld)?;
        let disk = |cause| AcceptFault::Disk { path: held.path.clone(), cause };
        files::accept(&held.path, &held.sum).map_err(disk)?;
        tracing::info!(file = %held.path.display(), "an operator wants the geo database that is held back");
        self.nudge();
        Ok(held)
    }

    /// All that an operator should look at now.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        let judged = self.seen.lock().judged.as_ref().map(|(_, alarm)| alarm.clone());
        let Some(current) = self.current.load_full() else { return judged.into_iter().collect() };
        let lent = current.lent().map(|family| Alarm::Lent { family });
        judged.into_iter().chain(self.old(&current)).chain(lent).chain(self.no_networks(&current)).collect()
    }

    /// Rules that nobody can come under: most likely a file is missing.
    fn no_networks(&self, current: &Base) -> Option<Alarm> {
        let config = self.config.load();
        let by_network = |site: &Site| site.steering.pins.iter().any(|rule| matches!(rule.whom, Whom::Asn(_)));
        // the rules first: they are few, and locations many
        let asked = !config.node.dns.is_empty() && config.sites.iter().any(|site| by_network(site));
        (asked && !current.ranges().knows_networks()).then_some(Alarm::NoNetworks)
    }

    /// The data in use that are too old. Those that are built in age with the program, and alarm nobody.
    fn old(&self, current: &Base) -> Vec<Alarm> {
        let (now_ms, most_s) = (clock::unix_ms(), self.config.load().node.geo.max_age_ms / 1000);
        let files = current.editions().iter().filter(|edition| edition.path.is_some());
        let old = files.map(|edition| (edition, edition.age_s(now_ms))).filter(|(_, age_s)| *age_s > most_s);
        old.map(|(edition, age_s)| Alarm::Old { file: edition.name(), days: age_s / 86_400 }).collect()
    }

    /// Looks at the files once; gives what is to be put in place. Reads and compiles, so it may take seconds.
    pub(super) fn look(&self, asked: Look) -> Option<Arc<Base>> {
        let config = self.config.load_full();
        let geo = &config.node.geo;
        let current = self.current.load_full()?;
        self.say_age(&current);
        let now = Stamps::of(geo);
        if current.is_of(geo) && now.same_contents(&current.stamps) {
            // also when the files are back to what they were
            let mut seen = self.seen.lock();
            (seen.waiting, seen.judged) = (None, None);
            seen.held.clear();
            return None;
        }
        if !self.is_new(&now, asked) {
            return None;
        }
        let newer = match Base::open(geo) {
            Ok(newer) => newer,
            Err(fault) => return self.judge(now, Alarm::Refused { why: fault.to_string() }, Vec::new()),
        };
        // another database by name is what the config asks for, not an edition of the one before
        let held = if current.is_of(geo) { gates::against(&current, &newer, &config.regions) } else { Vec::new() };
        if held.is_empty() {
            return Some(Arc::new(newer));
        }
        let why: Vec<_> = held.iter().map(ToString::to_string).collect();
        self.judge(now, Alarm::Held { why: why.join("; ") }, files_of(&newer, &held))
    }

    /// Whether files that stand so have not been judged yet, and stand still.
    fn is_new(&self, now: &Stamps, asked: Look) -> bool {
        let mut seen = self.seen.lock();
        if seen.judged.as_ref().is_some_and(|(stamps, _)| stamps == now) {
            return false;
        }
        let still = seen.waiting.as_ref() == Some(now);
        seen.waiting = Some(now.clone());
        still || asked == Look::Asked
    }

    fn judge(&self, stamps: Stamps, alarm: Alarm, held: Vec<HeldFile>) -> Option<Arc<Base>> {
        tracing::error!("{alarm}");
        let count = if held.is_empty() { &self.counts.refused } else { &self.counts.held };
        count.fetch_add(1, Relaxed);
        let mut seen = self.seen.lock();
        (seen.judged, seen.held) = (Some((stamps, alarm)), held);
        None
    }

    fn say_age(&self, current: &Base) {
        let old = self.old(current);
        let now_ms = clock::unix_ms();
        let mut seen = self.seen.lock();
        if old.is_empty() || seen.age_said_ms.is_some_and(|said| now_ms.abs_diff(said) < AGE_SAID_EVERY_MS) {
            return;
        }
        seen.age_said_ms = Some(now_ms);
        drop(seen);
        for alarm in old {
            tracing::warn!("{alarm}");
        }
    }
}

/// The files that something speaks against, with the sums of what was read.
fn files_of(newer: &Base, held: &[gates::Held]) -> Vec<HeldFile> {
    let mut files = Vec::new();
    for edition in newer.editions() {
        let against = held.iter().filter(|held| held.file == edition.name());
        let why: Vec<_> = against.map(|held| held.objection.to_string()).collect();
        if let Some(path) = edition.path.clone().filter(|_| !why.is_empty()) {
            files.push(HeldFile { path, sum: edition.sum, why });
        }
    }
    files
}
