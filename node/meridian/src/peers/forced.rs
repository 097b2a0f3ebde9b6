//! What operators force, kept on disk and told to the fleet.
//!
//! A node's report says the sum of its book (see `report`); who sees another one sends its whole book and gets the other's.
//! Nothing of it is in gossip itself. File and message are the same JSON, of at most [`TEXT_BYTES_MAX`] bytes:
//!
//! ```text
//! {"form": 1, "entries": [{"region": "...", "force": "down", "who": "...", "why": "...", "node": "...",
//!                          "unix_ms": 0, "version": 0}, {"node_named": "...", ...}]}
//! ```
//!
//! Any node of the mesh is believed here: a forced state orders regions that are legal anyway, and makes none legal.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use region_config::{NodeId, RegionId};
use rules::health::{Book, ENTRIES_MAX, Force, ForceFault, Forced, Target};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Answer, CALL_BYTES_MAX, Kind, Mesh, PeerError, PeerIdentity, Stream, read_frame, write_frame};
use crate::clock;

/// The file in a node's state folder.
const FILE: &str = "forced.json";
/// The largest book that is read, in bytes: that of [`ENTRIES_MAX`] entries, each as long as it may be, is smaller.
const TEXT_BYTES_MAX: usize = CALL_BYTES_MAX;
const FORM: u32 = 1;
/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OrderFault {
    /// It makes no sense.
    #[error(transparent)]
    Order(#[from] ForceFault),
    /// It could not be kept, and is therefore not in force.
    #[error("writing {}: {source}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

/// This node's book, on disk and in memory.
pub(super) struct Forcing {
    /// In which folder it is kept; none in a node that keeps nothing.
    dir: Option<PathBuf>,
    book: Mutex<Arc<Book>>,
    /// One change at a time: from what is known, to disk, to memory.
    writing: tokio::sync::Mutex<()>,
    /// Told of each change.
    changed: Arc<Notify>,
    /// Of what the last entry that another node told was refused, which operators were told once; at most
    /// [`ENTRIES_MAX`].
    refused: Mutex<BTreeSet<Target>>,
}

impl Forcing {
    /// Reads what was kept. A file that cannot be read is put aside, and what it said is learned from the others.
    pub(super) fn open(dir: &Path, changed: Arc<Notify>) -> Arc<Self> {
        let dir = (!dir.as_os_str().is_empty()).then(|| dir.to_owned());
        let book = dir.as_deref().map(load).unwrap_or_default();
        let (book, writing) = (Mutex::new(Arc::new(book)), tokio::sync::Mutex::new(()));
        Arc::new(Self { dir, book, writing, changed, refused: Mutex::default() })
    }

    /// All that is forced, as it stands.
    pub(super) fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.lock())
    }

    /// Takes an operator's order. When it is answered, it is on disk.
    pub(super) async fn order(
        &self,
        target: Target,
        force: Option<Force>,
        told: (&str, &str),
        node: &NodeId,
        unix_ms: u64,
    ) -> Result<Forced, OrderFault> {
        let _writing = self.writing.lock().await;
        let mut book = Book::clone(&self.book());
        let forced = book.order(target.clone(), force, told, node, unix_ms)?;
        self.keep(book).await?;
        tell(&target, &forced);
        Ok(forced)
    }

    /// Takes the book of another node, `from`; what cannot be an entry is left out.
    async fn merge(&self, from: &NodeId, entries: Vec<(Target, Forced)>) -> Result<(), OrderFault> {
        let _writing = self.writing.lock().await;
        let mut book = Book::clone(&self.book());
        let mut news = Vec::new();
        for (target, forced) in entries {
            match book.merge(target.clone(), forced.clone(), clock::unix_ms()) {
                Ok(true) => {
                    self.refused.lock().remove(&target);
                    news.push((target, forced));
                }
                Ok(false) => {}
                Err(fault) => _ = self.refuse(from, target, &fault),
            }
        }
        if !news.is_empty() {
            self.keep(book).await?;
        }
        for (target, forced) in &news {
            tell(target, forced);
        }
        Ok(())
    }

    /// Says to operators that an entry was refused, unless they were told of its target before: it is told again with each
    /// exchange. True if it was said.
    fn refuse(&self, from: &NodeId, target: Target, fault: &ForceFault) -> bool {
        let mut refused = self.refused.lock();
        if refused.contains(&target) || refused.len() >= ENTRIES_MAX {
            tracing::debug!(%from, %fault, "a forced state that another node told is refused");
            return false;
        }
        let (kind, name) = words(&target);
        tracing::warn!(kind, name, %from, %fault, "a forced state that another node told is refused");
        refused.insert(target)
    }

    /// To disk, then into force.
    async fn keep(&self, book: Book) -> Result<(), OrderFault> {
        if let Some(dir) = &self.dir {
            let (path, text) = (dir.join(FILE), encode(&book));
            let file = path.clone();
            let written = tokio::task::spawn_blocking(move || write(&file, &text)).await;
            let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
            written.map_err(|source| OrderFault::Disk { path, source })?;
        }
        *self.book.lock() = Arc::new(book);
        self.changed.notify_one();
        Ok(())
    }

    /// Tells another node all that is known here, and learns what it knows.
    pub(super) async fn exchange(&self, mesh: &Arc<Mesh>, node: &NodeId) {
        let text = encode(&self.book());
        let answer = match mesh.call(node, Kind::Forced, &text, PATIENCE).await {
            Ok(answer) => answer,
            Err(fault) => return tracing::debug!(%node, %fault, "asking for what is forced"),
        };
        match decode(&answer) {
            Some(entries) => {
                if let Err(fault) = self.merge(node, entries).await {
                    tracing::error!(%fault, "what another node forces is not in force here");
                }
            }
            None => tracing::debug!(%node, "what it forces cannot be read"),
        }
    }

    async fn receive(&self, from: &NodeId, (mut send, mut recv): Stream) -> Result<(), PeerError> {
        let text = read_frame(&mut recv, TEXT_BYTES_MAX).await?;
        let entries =
            decode(&text).ok_or(PeerError::Malformed { why: "a book of forced states that cannot be read" })?;
        if let Err(fault) = self.merge(from, entries).await {
            tracing::error!(%fault, "what another node forces is not in force here");
        }
        write_frame(&mut send, &encode(&self.book())).await?;
        send.finish().map_err(PeerError::lost)
    }
}

impl Answer for Forcing {
    fn answer(self: Arc<Self>, peer: PeerIdentity, stream: Stream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Ok(Err(fault)) = tokio::time::timeout(PATIENCE, self.receive(&peer.node, stream)).await {
                tracing::debug!(%peer, %fault, "what is forced");
            }
        })
    }
}

/// Says to operators what was ordered.
fn tell(target: &Target, forced: &Forced) {
    let (kind, name) = words(target);
    let (force, who, why, by) =
        (forced.force.map_or("released", Force::as_str), &forced.who, &forced.why, &forced.node);
    tracing::warn!(kind, name, force, who, why, taken_by = %by, "forced by an operator");
}

fn words(target: &Target) -> (&'static str, &str) {
    match target {
        Target::Region(name) => ("region", name.as_str()),
        Target::Node(name) => ("node", name.as_str()),
    }
}

/// A book as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    form: u32,
    entries: Vec<Entry>,
}

/// One entry as it is written: of a region or of a node.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_named: Option<String>,
    /// None if it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    force: Option<String>,
    who: String,
    why: String,
    node: String,
    unix_ms: u64,
    version: u64,
}

impl Entry {
    fn of(target: &Target, forced: &Forced) -> Self {
        let (region, node_named) = match target {
            Target::Region(name) => (Some(name.to_string()), None),
            Target::Node(name) => (None, Some(name.to_string())),
        };
        Self {
            region,
            node_named,
            force: forced.force.map(|force| force.as_str().to_owned()),
            who: forced.who.clone(),
            why: forced.why.clone(),
            node: forced.node.to_string(),
            unix_ms: forced.unix_ms,
            version: forced.version,
        }
    }

    fn read(self) -> Option<(Target, Forced)> {
        let target = match (self.region, self.node_named) {
            (Some(name), None) => Target::Region(RegionId::parse(&name).ok()?),
            (None, Some(name)) => Target::Node(NodeId::parse(&name).ok()?),
            _ => return None,
        };
        let force = match self.force {
            Some(word) => Some(Force::parse(&word)?),
            None => None,
        };
        let node = NodeId::parse(&self.node).ok()?;
        let Self { who, why, unix_ms, version, .. } = self;
        Some((target, Forced { force, who, why, node, unix_ms, version }))
    }
}

fn encode(book: &Book) -> Vec<u8> {
    let entries = book.entries().map(|(target, forced)| Entry::of(target, forced)).collect();
    // plain values: writing them cannot fail
    serde_json::to_vec(&Written { form: FORM, entries }).unwrap_or_default()
}

/// Reads a book; entries that this version does not know are left out. `None` if it is none.
fn decode(text: &[u8]) -> Option<Vec<(Target, Forced)>> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let written: Written = serde_json::from_slice(text).ok().filter(|written: &Written| written.form == FORM)?;
    Some(written.entries.into_iter().take(ENTRIES_MAX).filter_map(Entry::read).collect())
}

fn load(dir: &Path) -> Book {
    let path = dir.join(FILE);
    let mut book = Book::default();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return book,
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "what was forced is not known until another node tells");
            return book;
        }
    };
    let Some(entries) = decode(&text) else {
        let aside = path.with_extension("bad");
        let moved = std::fs::rename(&path, &aside).is_ok();
        tracing::error!(file = %path.display(), moved, "cannot be read: what was forced is not known until another node tells");
        return book;
    };
    for (target, forced) in entries {
        if let Err(fault) = book.merge(target, forced, clock::unix_ms()) {
            tracing::warn!(file = %path.display(), %fault, "an entry is left out");
        }
    }
    book
}

/// Writes a file whole or not at all, also through a power cut.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn region(name: &str) -> Target {
        Target::Region(RegionId::parse(name).unwrap())
    }

    async fn order(forcing: &Forcing, target: Target, force: Option<Force>) -> Result<Forced, OrderFault> {
        forcing.order(target, force, ("ops \"night\"", "a \u{fc}ber reason"), &node("n"), 5).await
    }

    #[tokio::test]
    async fn an_order_that_was_answered_is_there_after_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let forcing = Forcing::open(state.path(), Arc::default());
        order(&forcing, region("a"), Some(Force::Down)).await.unwrap();
        order(&forcing, Target::Node(node("b")), Some(Force::Drain)).await.unwrap();
        order(&forcing, region("a"), None).await.unwrap();
        let again = Forcing::open(state.path(), Arc::default());
        assert_eq!(again.book().digest(), forcing.book().digest());
        assert_eq!(again.book().in_force().count(), 1);
        // written aside only: a crash then loses nothing
        std::fs::write(state.path().join("forced.new"), "{").unwrap();
        assert_eq!(Forcing::open(state.path(), Arc::default()).book().digest(), forcing.book().digest());
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_refused_and_not_in_force() {
        let state = tempfile::tempdir().unwrap();
        let forcing = Forcing::open(&state.path().join("gone"), Arc::default());
        let refused = order(&forcing, region("a"), Some(Force::Down)).await;
        assert!(matches!(refused, Err(OrderFault::Disk { .. })), "{refused:?}");
        assert_eq!(forcing.book().digest(), 0);
    }

    #[tokio::test]
    async fn a_broken_file_is_put_aside() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(FILE), "{\"form\":1,").unwrap();
        let forcing = Forcing::open(state.path(), Arc::default());
        assert_eq!(forcing.book().digest(), 0);
        assert!(state.path().join("forced.bad").exists());
        order(&forcing, region("a"), Some(Force::Up)).await.unwrap();
    }

    #[tokio::test]
    async fn what_another_node_tells_too_late_is_refused_and_told_once() {
        let state = tempfile::tempdir().unwrap();
        let forcing = Forcing::open(state.path(), Arc::default());
        let told = |unix_ms| {
            let forced = Forced {
                force: Some(Force::Down),
                who: "ops".into(),
                why: "a".into(),
                node: node("n"),
                unix_ms,
                version: unix_ms,
            };
            vec![(region("a"), forced)]
        };
        for _ in 0..3 {
            forcing.merge(&node("m"), told((1 << 53) - 1)).await.unwrap();
        }
        assert_eq!(forcing.book().digest(), 0);
        assert!(!forcing.refuse(&node("m"), region("a"), &ForceFault::Late), "it was said");
        assert!(forcing.refuse(&node("m"), region("b"), &ForceFault::Late));
        forcing.merge(&node("m"), told(clock::unix_ms())).await.unwrap();
        assert_eq!(forcing.book().in_force().count(), 1);
        assert!(forcing.refuse(&node("m"), region("a"), &ForceFault::Late), "one was taken since");
    }

    #[test]
    fn the_largest_book_fits_into_a_message() {
        let mut book = Book::default();
        for at in 0..ENTRIES_MAX {
            let target = Target::Node(node(&format!("{}{at}", "n".repeat(59))));
            let (who, why) = ("\"".repeat(64), "\u{1f600}".repeat(200));
            book.order(target, Some(Force::Down), (&who, &why), &node(&"n".repeat(63)), 1 << 52).unwrap();
        }
        let text = encode(&book);
        assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
        assert_eq!(decode(&text).unwrap().len(), ENTRIES_MAX);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_read(text in ".{0,300}", field in ".{0,40}", version in any::<u64>()) {
            decode(text.as_bytes());
            let entry = serde_json::json!({
                "region": field, "force": field, "who": field, "why": field, "node": "n", "unix_ms": 0, "version": version,
            });
            decode(serde_json::json!({ "form": 1, "entries": [entry] }).to_string().as_bytes());
        }
    }
}
