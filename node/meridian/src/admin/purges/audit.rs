//! The audit: who ordered which purge, when, from where, and where it came into effect. One file per realm, so that what is
//! about a pinned site is only on nodes of its realm; each node keeps the orders that it took itself.
//!
//! An order is answered when its entry is on disk, too: both writes run at the same time. Should the audit's disk fail,
//! purges still go through (a purge that is refused is stale content, which is worse than a gap here), and the node says so.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use region_config::RealmId;
use rules::purge::PurgeId;
use store::{
    audit::{AuditFile, AuditReader, Keep, Row, SCAN_MAX, Stamp, Wanted},
    ledger::{LedgerError, RealDisk},
};
use tokio::sync::{mpsc, watch};

use crate::{
    admin::model::{AuditEntry, AuditOutcome, Purge, PurgeScope, PurgeState},
    clock,
    ledger::gather,
    tasks::Tasks,
};

/// For so long.
const KEEP: Keep = Keep { age_ms: 90 * 86_400_000, bytes: 512 << 20 };
/// Entries that wait to be written, and that are written at a time.
const QUEUE_MAX: usize = 8_192;
const GROUP_MAX: usize = 1_024;
/// Bytes of names in an entry; the purge's id stands for the whole.
const SCOPE_BYTES_MAX: usize = 4 * 1024;
/// Purges whose outcome is awaited, at most.
const OPEN_MAX: usize = 20_000;
/// When it is looked at what became of a purge, after it was ordered. After the last time, that is what is known.
const LOOKS_MS: [u64; 5] = [1_000, 5_000, 30_000, 120_000, 600_000];
/// Entries of one page, at most.
pub(super) const PAGE_MAX: usize = 500;
/// How often there is anything to look at.
const TICK: Duration = Duration::from_millis(500);

/// The audit of all realms of this node.
#[derive(Debug)]
pub(super) struct Audits {
    realms: BTreeMap<RealmId, Realm>,
    /// Entries that were not written.
    lost: Arc<AtomicU64>,
    /// Whether the last write failed.
    failing: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Realm {
    reader: AuditReader,
    queue: mpsc::Sender<Job>,
    open: Arc<Mutex<VecDeque<Open>>>,
}

/// Something to write; who waits for it is told.
struct Job {
    row: Row,
    written: Option<watch::Sender<bool>>,
}

/// An entry whose outcome is awaited.
#[derive(Debug)]
struct Open {
    tenant: String,
    stamp: Stamp,
    entry: AuditEntry,
    looks: usize,
}

/// Looks up what is known of a purge of a realm now.
pub(super) type Look = Arc<dyn Fn(&RealmId, &PurgeId) -> Option<Purge> + Send + Sync>;

/// Which entries to read.
pub(super) struct Query<'a> {
    /// Of this tenant only.
    pub(super) tenant: Option<&'a str>,
    pub(super) since_unix_ms: u64,
    pub(super) until_unix_ms: u64,
    /// Where the page before ended.
    pub(super) below: Option<Stamp>,
    pub(super) limit: usize,
}

/// Entries, and where the next page begins.
pub(super) type Entries = (Vec<AuditEntry>, Option<Stamp>);

impl Audits {
    /// Opens the audit files of some realms in a folder.
    pub(super) fn open(
        folder: std::path::PathBuf,
        realms: impl IntoIterator<Item = RealmId>,
        look: &Look,
        tasks: &Tasks,
    ) -> Result<Self, LedgerError> {
        let at = folder.display().to_string();
        let disk =
            RealDisk::new(folder).map_err(|why: io::Error| LedgerError::Open { name: at, why: why.to_string() })?;
        let (lost, failing) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut opened = BTreeMap::new();
        for realm in realms {
            let file = Arc::new(AuditFile::open(&disk, &format!("{realm}.audit"), KEEP)?);
            let reader = file.reader();
            let (queue, jobs) = mpsc::channel(QUEUE_MAX);
            let open = Arc::new(Mutex::new(VecDeque::new()));
            let writing = write(file, jobs, (Arc::clone(&lost), Arc::clone(&failing)), tasks.clone());
            tasks.spawn("audit-write", writing);
            let following = follow(realm.clone(), Arc::clone(&open), queue.clone(), Arc::clone(look));
            tasks.spawn_until_stopped("audit-follow", following);
            opened.insert(realm, Realm { reader, queue, open });
        }
        Ok(Self { realms: opened, lost, failing })
    }

    /// Notes an order. What is returned completes when it is on disk, or will not be.
    pub(super) fn note(&self, realm: &RealmId, tenant: &str, entry: AuditEntry) -> Option<watch::Receiver<bool>> {
        let realm = self.realms.get(realm)?;
        let mut chance = [0; 8];
        // without random numbers two orders of one millisecond may share a place
        let _none = getrandom::fill(&mut chance);
        let stamp = Stamp { unix_ms: entry.at_unix_ms, chance: u64::from_be_bytes(chance) };
        let (written, wait) = watch::channel(false);
        let job = Job { row: row(tenant, stamp, &entry), written: Some(written) };
        if realm.queue.try_send(job).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut open = realm.open.lock();
        if open.len() < OPEN_MAX {
            open.push_back(Open { tenant: tenant.to_owned(), stamp, entry, looks: 0 });
        }
        Some(wait)
    }

    /// Reads entries of all realms of this node, newest first. To be called where reading the disk is no harm.
    pub(super) fn page(
        &self,
        query: &Query<'_>,
        accepts: impl Fn(&AuditEntry) -> bool,
    ) -> Result<Entries, LedgerError> {
        let end = Stamp { unix_ms: query.until_unix_ms, chance: u64::MAX };
        let wanted = Wanted {
            tenant: query.tenant,
            since_unix_ms: query.since_unix_ms,
            below: query.below.map_or(end, |below| below.min(end)),
            limit: query.limit,
        };
        let mut found: Vec<(Stamp, AuditEntry)> = Vec::new();
        // a realm that has more than fits says where it stopped: below that, nothing of the others counts yet
        let mut stopped: Option<Stamp> = None;
        for realm in self.realms.values() {
            let fits = |bytes: &[u8]| serde_json::from_slice(bytes).is_ok_and(|entry| accepts(&entry));
            let page = realm.reader.page(wanted, fits)?;
            stopped = stopped.max(page.below);
            let read = page.rows.into_iter();
            found.extend(read.filter_map(|row| Some((row.stamp, serde_json::from_slice(&row.bytes).ok()?))));
        }
        found.sort_by_key(|(stamp, _)| std::cmp::Reverse(*stamp));
        found.retain(|(stamp, _)| stopped.is_none_or(|stopped| *stamp >= stopped));
        if found.len() > query.limit {
            found.truncate(query.limit);
            stopped = found.last().map(|(stamp, _)| *stamp);
        }
        Ok((found.into_iter().map(|(_, entry)| entry).collect(), stopped))
    }

    /// What an operator should know: entries that are missing, and whether the disk fails now.
    pub(super) fn trouble(&self) -> (u64, bool) {
        (self.lost.load(Ordering::Relaxed), self.failing.load(Ordering::Relaxed))
    }
}

/// As much of what a purge names as an entry keeps.
pub(super) fn cut(scope: Vec<PurgeScope>) -> Vec<PurgeScope> {
    let mut bytes = 0_usize;
    let fits = scope.into_iter().take_while(|scope| {
        bytes = bytes.saturating_add(serde_json::to_string(scope).map_or(usize::MAX, |text| text.len()));
        bytes <= SCOPE_BYTES_MAX
    });
    fits.collect()
}

/// What became of a purge, for its entry.
pub(super) fn outcome(purge: Purge) -> AuditOutcome {
    AuditOutcome { state: purge.state, stored: purge.stored, nodes: purge.nodes }
}

fn row(tenant: &str, stamp: Stamp, entry: &AuditEntry) -> Row {
    // plain values: writing them cannot fail
    Row { tenant: tenant.to_owned(), stamp, bytes: serde_json::to_vec(entry).unwrap_or_default() }
}

/// Writes entries in groups until the node stops, and then what is left.
async fn write(
    file: Arc<AuditFile>,
    mut jobs: mpsc::Receiver<Job>,
    (lost, failing): (Arc<AtomicU64>, Arc<AtomicBool>),
    tasks: Tasks,
) {
    let stopping = tasks.stopping();
    loop {
        let mut group = Vec::new();
        tokio::select! {
            biased;
            taken = jobs.recv_many(&mut group, GROUP_MAX) => if taken == 0 { return },
            () = stopping.cancelled() => return,
        }
        let count = group.len();
        let (rows, waiting): (Vec<Row>, Vec<_>) = group.into_iter().map(|job| (job.row, job.written)).unzip();
        let writing = Arc::clone(&file);
        let began = clock::instant();
        let written = tasks.run_busy(move || writing.commit(&rows, clock::unix_ms())).await;
        match written {
            Some(Ok(())) => failing.store(false, Ordering::Relaxed),
            failed => {
                lost.fetch_add(count as u64, Ordering::Relaxed);
                if !failing.swap(true, Ordering::Relaxed) {
                    let fault = failed.and_then(Result::err).map(|fault| fault.to_string()).unwrap_or_default();
                    tracing::error!(fault, "the audit of purges is not written; purges go on");
                }
            }
        }
        for waiting in waiting.into_iter().flatten() {
            waiting.send_replace(true);
        }
        gather(began, count).await;
    }
}

/// Looks from time to time at what became of purges, and writes it to their entries.
async fn follow(realm: RealmId, open: Arc<Mutex<VecDeque<Open>>>, queue: mpsc::Sender<Job>, look: Look) {
    loop {
        tokio::time::sleep(TICK).await;
        let now = clock::unix_ms();
        let mut due = Vec::new();
        open.lock().retain(|it| {
            let wait_ms = LOOKS_MS.get(it.looks).copied().unwrap_or(0);
            let is_due = now.saturating_sub(it.stamp.unix_ms) >= wait_ms;
            if is_due {
                due.push((it.tenant.clone(), it.stamp, it.entry.clone(), it.looks));
            }
            !is_due
        });
        for (tenant, stamp, mut entry, looks) in due {
            let purge = PurgeId::parse(&entry.purge).and_then(|id| look(&realm, &id));
            let last = looks + 1 >= LOOKS_MS.len();
            match purge {
                Some(purge) if last || purge.state == PurgeState::All => {
                    entry.outcome = Some(outcome(purge));
                    let job = Job { row: row(&tenant, stamp, &entry), written: None };
                    if queue.send(job).await.is_err() {
                        return;
                    }
                }
                Some(_) => open.lock().push_back(Open { tenant, stamp, entry, looks: looks + 1 }),
                // forgotten meanwhile: nothing more will be known
                None => {}
            }
        }
    }
}

/// A place in the audit as text: `<ms>-<hex>`.
pub(super) fn shown(stamp: Stamp) -> String {
    format!("{}-{:016x}", stamp.unix_ms, stamp.chance)
}

/// Reads what [`shown`] wrote.
pub(super) fn parse(text: &str) -> Option<Stamp> {
    let (unix_ms, chance) = text.split_once('-')?;
    let digits = unix_ms.bytes().all(|byte| byte.is_ascii_digit()) && chance.bytes().all(|b| b.is_ascii_hexdigit());
    if !digits || chance.len() != 16 {
        return None;
    }
    Some(Stamp { unix_ms: unix_ms.parse().ok()?, chance: u64::from_str_radix(chance, 16).ok()? })
}

const _: () = assert!(PAGE_MAX <= SCAN_MAX, "a page can be full");
