//! Where orders are taken: within limits, identical ones together, each noted in the audit.

use std::{path::Path, sync::Arc};

use region_config::RealmId;
use rules::purge::{Event, Mode, PurgeId, PurgeKey};
use store::ledger::LedgerError;
use tokio::sync::watch;

use super::{
    audit::{self, Audits},
    crowd::{Asker, Crowd, Go, Ordered, Taken},
    order::{About, Work},
    pace::Pace,
};
use crate::{
    admin::{
        Context, live,
        model::{AuditEntry, Purge, PurgeMode, PurgeScope},
        problem::{Problem, Refusal},
        who::Who,
    },
    clock,
    ledger::{self, Ledgers, PurgeFault, Realm},
    tasks::Tasks,
};

/// How long an answer waits for its entry in the audit beyond the purge itself.
const AUDIT_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// What the purge API keeps between requests.
#[derive(Debug)]
pub struct Desk {
    pace: Pace,
    crowd: Arc<Crowd>,
    pub(super) audits: Arc<Audits>,
}

/// What was done of an order.
pub(super) struct Done {
    pub(super) purge: Purge,
    /// Whether it has come as far as it was waited for.
    pub(super) reached: bool,
}

impl Desk {
    /// Opens the audit in the state folder.
    ///
    /// # Errors
    /// [`LedgerError::Open`] if the disk says no.
    pub fn open(state_dir: &Path, node: &str, ledgers: &Arc<Ledgers>, tasks: &Tasks) -> Result<Arc<Self>, LedgerError> {
        let (looking, node) = (Arc::clone(ledgers), node.to_owned());
        let look: audit::Look = Arc::new(move |realm, id| {
            let realm = looking.realm(realm)?;
            realm.receipt(id).map(|receipt| live::shown(receipt, realm, &node))
        });
        let realms = ledgers.realms().map(|realm| realm.name().clone());
        let audits = Arc::new(Audits::open(state_dir.join("audit"), realms, &look, tasks)?);
        Ok(Arc::new(Self { pace: Pace::default(), crowd: Crowd::new(tasks.clone()), audits }))
    }

    /// What an operator should look at.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        match self.audits.trouble() {
            (0, false) => Vec::new(),
            (lost, true) => vec![format!("the audit of purges cannot be written: {lost} orders are missing from it")],
            (lost, false) => vec![format!("{lost} orders are missing from the audit of purges since the node started")],
        }
    }

    /// Counts one order of a token; the operator may order as much as he likes.
    pub(super) fn pace(&self, context: &Context, who: &Who) -> Result<(), Refusal> {
        let Who::Application(token) = who else { return Ok(()) };
        let now_us = clock::monotonic_ms().saturating_mul(1_000);
        self.pace.order(&context.config.load(), token, now_us).map_err(|retry_after_s| {
            let detail = format!("token `{}` or its tenant orders more than it may", token.name);
            Problem::too_many(detail, retry_after_s).expected(format!(
                "at most {} orders a second, or fewer if the tenant has a limit",
                token.purges_per_second
            ))
        })
    }

    /// Takes an order and waits as it says.
    pub(super) async fn order(&self, context: &Context, who: &Who, from: &str, work: Work) -> Result<Done, Refusal> {
        let realm = match &work.about {
            About::Site(site) => live::realm(context, site)?,
            About::Realm(realm) => live::realm_named(context, realm)?,
        };
        let (wait, timeout) = (live::wait(work.wait), work.timeout);
        let taken = self.take(&realm, who, from, work).await?;
        let following = realm.follow(taken.id, wait, timeout);
        let audited = async {
            if let Some(mut noted) = taken.noted {
                let _late = tokio::time::timeout(AUDIT_PATIENCE, noted.wait_for(|noted| *noted)).await;
            }
        };
        let (followed, ()) = tokio::join!(following, audited);
        let (receipt, reached) = followed.map_err(|fault| live::refusal(&fault))?;
        let node = context.config.load().node.name.to_string();
        let token = realm.token(taken.id);
        Ok(Done { purge: Purge { token, ..live::shown(receipt, &realm, &node) }, reached })
    }

    /// Sends the purge: by itself if the application named it, else perhaps together with identical ones.
    async fn take(&self, realm: &Arc<Realm>, who: &Who, from: &str, work: Work) -> Taken {
        let asker: Asker = (who.name().to_owned(), from.to_owned());
        let sending = Sending::new(self, realm, &work);
        if let Some(key) = work.idempotency_key {
            let id = sending.send(Some(key)).map_err(|fault| live::refusal(&fault))?;
            return Ok(Ordered { id, noted: sending.note(id, asker, 1) });
        }
        let same = (realm.name().to_string(), same(&work.about, work.mode, &work.keys)?);
        let go: Go = Arc::new(move |askers| {
            let id = sending.send(None).map_err(|fault| live::refusal(&fault))?;
            // they are written in their order: the last one says that all are
            let mut noted = None;
            for (asker, orders) in askers {
                noted = sending.note(id, asker.clone(), *orders);
            }
            Ok(Ordered { id, noted })
        });
        let taken = self.crowd.order(same, asker, &go).await;
        taken.unwrap_or_else(|| Err(live::refusal(&PurgeFault::Busy)))
    }
}

/// One purge on its way to the ledger and to the audit.
struct Sending {
    audits: Arc<Audits>,
    realm: Arc<Realm>,
    about: About,
    keys: Vec<PurgeKey>,
    mode: Mode,
    scope: Vec<PurgeScope>,
}

impl Sending {
    fn new(desk: &Desk, realm: &Arc<Realm>, work: &Work) -> Self {
        Self {
            audits: Arc::clone(&desk.audits),
            realm: Arc::clone(realm),
            about: work.about.clone(),
            keys: work.keys.clone(),
            mode: work.mode,
            scope: work.keys.iter().cloned().map(live::scope).collect(),
        }
    }

    fn send(&self, idempotency_key: Option<String>) -> Result<PurgeId, PurgeFault> {
        let site = match &self.about {
            About::Site(site) => Some(site.name.clone()),
            About::Realm(_) => None,
        };
        self.realm.order(ledger::Purge { site, keys: self.keys.clone(), mode: self.mode, idempotency_key })
    }

    fn note(&self, id: PurgeId, (token, from): Asker, orders: u32) -> Option<watch::Receiver<bool>> {
        let (tenant, site) = match &self.about {
            About::Site(site) => (site.tenant.as_str(), Some(site.name.to_string())),
            About::Realm(_) => ("", None),
        };
        let entry = AuditEntry {
            at_unix_ms: clock::unix_ms(),
            purge: id.to_string(),
            token,
            from,
            orders,
            site,
            realm: self.realm.name().to_string(),
            mode: match self.mode {
                Mode::Hard => PurgeMode::Hard,
                Mode::Soft => PurgeMode::Soft,
            },
            scope: audit::cut(self.scope.clone()),
            named: self.scope.len(),
            outcome: None,
        };
        let realm: &RealmId = self.realm.name();
        self.audits.note(realm, tenant, entry)
    }
}

/// What makes two orders identical: the identity that an event of a fixed name would have.
fn same(about: &About, mode: Mode, keys: &[PurgeKey]) -> Result<PurgeId, Refusal> {
    let site = match about {
        About::Site(site) => Some(site.name.clone()),
        About::Realm(_) => None,
    };
    let event = Event::new(site, mode, keys.to_vec(), "same".to_owned());
    event.map(|event| event.id()).map_err(|fault| Problem::unprocessable(fault.to_string()))
}
