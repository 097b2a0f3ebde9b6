//! The purge ledger at work: one [`Realm`] per realm that this node is certified for. The rules are in `rules::purge`,
//! the bytes in `wire::purge`, the file in `store::ledger`; here they are carried between nodes.
//!
//! ```text
//! submit ─┐                      ┌─> outlet per member: STORE to witnesses, APPLY to the others
//! calls  ─┼─> Core (one lock) ───┼─> commits: one writer, in groups; what waits for the disk waits for them
//! tails  ─┘   applies in order   └─> tails served to the others
//!   ^
//!   └── one follower per other witness: repairs what was lost, and says when this node has caught up
//! ```
//!
//! The lock of a realm is held for short work in memory only; it *is* the local order.

mod carrier;
mod change;
mod clocks;
mod commits;
mod core;
mod figures;
mod follow;
mod opening;
mod outlet;
mod realm;
mod roll;
mod serve;
mod standing;
mod stream;
mod tokens;

use std::{collections::BTreeMap, io, sync::Arc};

use region_config::{Config, JurisdictionId, NodeId, RealmId};
use rules::residency;
use store::ledger::{Disk, RealDisk};

use self::{carrier::Carrier, clocks::Clocks, serve::Door};
pub use self::{
    change::Change,
    figures::{Figures, Tokens},
    realm::{Purge, PurgeFault, Realm},
    roll::RollFault,
    standing::{OwnLog, Standing, Witness},
    tokens::Heard,
};
pub(crate) use self::{commits::gather, stream::server::credentials_fault};
use crate::{
    peers::{Kind, Mesh},
    tasks::Tasks,
};
pub use rules::purge::{Acknowledged, NodeReceipt, Receipt, Wait};

/// Why a node's ledgers could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LedgersFault {
    /// The folder cannot be used.
    #[error("opening the folder of the ledgers, `{folder}`: {source}")]
    Folder {
        /// Where.
        folder: String,
        /// What the system said.
        source: io::Error,
    },
    /// A realm's file cannot be used.
    #[error("the ledger of realm `{realm}`: {source}")]
    File {
        /// Which realm.
        realm: RealmId,
        /// What happened.
        source: store::ledger::LedgerError,
    },
    /// The config has other witnesses than the realm's file remembers.
    #[error(transparent)]
    Witnesses(Box<RollFault>),
    /// The system gives no random numbers, without which nothing can be named.
    #[error("the ledger needs random numbers, and the system gives none")]
    Chance,
}

/// The ledgers of a node: one per realm that its certificate is for.
#[derive(Debug)]
pub struct Ledgers {
    realms: BTreeMap<RealmId, Arc<Realm>>,
    clocks: Clocks,
}

impl Ledgers {
    /// Opens the realms of a node certified for `here`, and starts to follow their witnesses. To be called before the
    /// mesh is started, so that nobody's question comes too early.
    ///
    /// # Errors
    /// [`LedgersFault`]. A lost or broken file is none: it is a loss of the past, after which everything that was
    /// stored counts as purged.
    pub async fn open(
        config: &Config,
        here: &JurisdictionId,
        mesh: Option<Arc<Mesh>>,
        tasks: Tasks,
    ) -> Result<Arc<Self>, LedgersFault> {
        let folder = config.node.state_dir.join("ledger");
        let fault = |source| LedgersFault::Folder { folder: folder.display().to_string(), source };
        let disk = RealDisk::new(folder.clone()).map_err(fault)?;
        let carrier = mesh.clone().map(Carrier::Mesh);
        let ledgers = Self::open_on(config, here, &disk, carrier.as_ref(), &tasks)?;
        if let Some(mesh) = mesh {
            ledgers.open_doors(&mesh);
        }
        Ok(ledgers)
    }

    /// Answers what other nodes ask over the mesh.
    fn open_doors(self: &Arc<Self>, mesh: &Mesh) {
        for kind in [Kind::Ledger, Kind::Tail] {
            mesh.register(kind, Arc::new(Door { ledgers: Arc::clone(self), kind }));
        }
    }

    /// Opens the global realm of a simulated node. To be called inside its world, and before its mesh is started.
    ///
    /// # Errors
    /// [`LedgersFault`].
    #[cfg(feature = "simulation")]
    pub fn simulated(
        config: &Config,
        here: &JurisdictionId,
        disk: &dyn Disk,
        carrier: crate::simulation::Carrier,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, LedgersFault> {
        let realm = RealmId::global();
        let (carrier, mesh) = match carrier {
            crate::simulation::Carrier::Links(links) => (Carrier::Simulated(links), None),
            crate::simulation::Carrier::Mesh(mesh) => (Carrier::Mesh(Arc::clone(&mesh)), Some(mesh)),
        };
        let opened = Realm::open(config, here, realm.clone(), disk, Some(&carrier), tasks)?;
        let ledgers = Arc::new(Self { realms: BTreeMap::from([(realm, opened)]), clocks: Clocks::default() });
        if let Some(mesh) = mesh {
            ledgers.open_doors(&mesh);
        }
        Ok(ledgers)
    }

    /// Answers a line that another simulated node has opened.
    #[cfg(feature = "simulation")]
    pub async fn serve_simulated(self: Arc<Self>, kind: Kind, ends: crate::simulation::Ends) {
        let (line, peer) = carrier::simulated(ends);
        serve::serve(&self, kind, peer, line).await;
    }

    fn open_on(
        config: &Config,
        here: &JurisdictionId,
        disk: &dyn Disk,
        carrier: Option<&Carrier>,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, LedgersFault> {
        let mut realms = BTreeMap::new();
        for realm in [RealmId::global(), RealmId::pinned(here)] {
            let opened = Realm::open(config, here, realm.clone(), disk, carrier, tasks)?;
            realms.insert(realm, opened);
        }
        Ok(Arc::new(Self { realms, clocks: Clocks::default() }))
    }

    /// A realm that this node is a member of.
    #[must_use]
    pub fn realm(&self, realm: &RealmId) -> Option<&Arc<Realm>> {
        self.realms.get(realm)
    }

    /// All realms that this node is a member of.
    pub fn realms(&self) -> impl Iterator<Item = &Arc<Realm>> {
        self.realms.values()
    }

    /// Whether this node has heard, since it started, everything that was acknowledged before: until then it is not
    /// ready, and what it had stored before counts as purged.
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.realms.values().all(|realm| realm.caught_up())
    }

    /// What an operator should know of changes of witnesses.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let changes = self.realms().filter_map(|realm| Some(realm.standing().change?.told(realm.name())));
        changes.collect()
    }

    /// Takes the sites of a new config. Members and witnesses stay those of the start.
    pub fn replace(&self, config: &Config) {
        self.realms.values().for_each(|realm| realm.replace(config));
    }
}

/// Who is at the other end of a line, by its certificate.
#[derive(Debug, Clone)]
struct Peer {
    node: NodeId,
    jurisdiction: JurisdictionId,
}

impl Peer {
    /// Whether it may take part in a realm.
    fn member(&self, realm: &RealmId) -> bool {
        residency::member(realm, &self.jurisdiction)
    }
}

/// Random bytes.
fn chance<const N: usize>() -> Result<[u8; N], LedgersFault> {
    let mut bytes = [0; N];
    crate::chance::fill(&mut bytes).then_some(bytes).ok_or(LedgersFault::Chance)
}

#[cfg(test)]
mod tests;
