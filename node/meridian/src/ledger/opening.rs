//! Opening a realm: its file, its machines, its ways to others.

use std::{collections::BTreeMap, sync::Arc};

use region_config::{Config, RealmId};
use rules::purge::{
    Apply, Handover, LOG_KEEP, Lease, Limits, RECEIPTS_MAX, Receipts, Terms, Witness, members, witnesses,
};
use store::ledger::{LedgerError, LedgerFile, Opened, Past, Writer};
use wire::purge::Sent;

use super::{LedgersFault, chance, core::Core, figures::Figures, outlet::Outlet, roll, tokens::Places};

/// Who writes the file.
pub(super) fn writer(file: LedgerFile, realm: &RealmId) -> Result<Writer, LedgerError> {
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        return Ok(Writer::inline(file, realm.as_str()));
    }
    Writer::start(file, realm.as_str())
}

/// A boot number that grows by itself, at one a minute, since 2025: should the file be set back to an older state, the
/// boots after it are still above those before, and stamps on the cache's disk are not taken for new ones.
pub(super) fn boot_min(unix_ms: u64) -> u32 {
    const YEAR_2025_MS: u64 = 1_735_689_600_000;
    u32::try_from(unix_ms.saturating_sub(YEAR_2025_MS) / 60_000).unwrap_or(0)
}

/// Tells an operator what was found.
pub(super) fn tell(realm: &RealmId, past: &Past) {
    match past {
        Past::Kept => {}
        Past::None => tracing::info!(%realm, "this node joins the realm: what was stored before counts as purged"),
        Past::Lost { why } => {
            tracing::error!(%realm, why, "the ledger file was unusable and is set aside: what was stored before counts as purged");
        }
    }
}

/// The machines of a realm, with what its file has. Its witnesses are remembered before anybody hears of them.
pub(super) fn core(config: &Config, realm: &RealmId, opened: Opened) -> Result<(Core, LedgerFile), LedgersFault> {
    let Opened { mut file, life, mut saved, past } = opened;
    let taken = roll::take(config, realm, &mut saved).map_err(LedgersFault::Witnesses)?;
    if !taken.delta.is_empty() {
        file.commit(&taken.delta).map_err(|source| LedgersFault::File { realm: realm.clone(), source })?;
    }
    let electorate = taken.saved.roll.electorate();
    let roll = taken.saved;
    let (me, witnesses) = (config.node.name.clone(), roll.roll.witnesses());
    let own = witnesses.iter().position(|witness| *witness == me);
    let witness = match (own, saved.witness.take()) {
        (None, _) => None,
        (Some(own), Some(saved)) => Some(Witness::restored(saved, own, witnesses.len(), LOG_KEEP)),
        (Some(own), None) => {
            // it has to read all there is, so what was read before, without being stored, does not count
            saved.cursors.clear();
            Some(Witness::without_past(u64::from_be_bytes(chance()?), own, witnesses.len(), LOG_KEEP))
        }
    };
    let witness = witness.map(|witness| witness.under(electorate.clone()));
    let terms = Terms {
        secret: life.secret,
        boot: life.boot,
        run: u64::from_be_bytes(chance()?),
        witnesses: witnesses.clone(),
        own,
        limits: Limits::default(),
    };
    let outbox = std::mem::take(&mut saved.outbox);
    let own_log = witness.as_ref().filter(|witness| witness.voting()).map(Witness::appended);
    let mut apply = Apply::new(terms, saved, own_log);
    if past != Past::Kept {
        apply.handle_no_past();
    }
    apply.handle_coming((0..witnesses.len()).filter(|witness| !electorate.present(*witness)).collect());
    let of_realm = members(config, realm);
    let receipts = Receipts::new(electorate.clone(), witnesses.clone(), of_realm, &me, RECEIPTS_MAX);
    let mut core = Core {
        lease: Lease::new(electorate.clone(), own, witnesses.len()),
        since: Arc::default(),
        figures: Arc::new(Figures::new()),
        handover: Handover::new(electorate.clone(), own, roll.roll.version, roll.complete),
        remember: false,
        complete_change: 0,
        roll,
        electorate,
        apply,
        witness,
        receipts,
        me,
        own,
        held: vec![None; witnesses.len()],
        witnesses: witnesses.len(),
        change: 1,
        events: 0,
        unwritten: Vec::new(),
        outbox: BTreeMap::new(),
        caught_up: false,
        places: Places::default(),
        waiters: BTreeMap::new(),
    };
    for event in &outbox {
        // whoever waited for it is gone
        core.take(event, None);
    }
    Ok((core, file))
}

/// The ways to the other members; what was in the outbox goes out again.
pub(super) fn outlets(config: &Config, realm: &RealmId, core: &Core, carried: bool) -> Vec<Arc<Outlet>> {
    let witnesses = witnesses(config, realm);
    let others = members(config, realm).into_iter().map(|(node, _)| node);
    let others = others.filter(|node| carried && *node != config.node.name);
    let outlets = others.map(|node| Arc::new(Outlet::new(node.clone(), witnesses.contains(&node))));
    let outlets: Vec<_> = outlets.collect();
    for event in core.outbox.values().flatten() {
        outlets.iter().for_each(|outlet| outlet.push(Sent { event: Arc::clone(event), taken_unix_us: 0 }));
    }
    outlets
}
