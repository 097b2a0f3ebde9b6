//! The witnesses that a node remembers, and those of its config: what an operator may not change silently.

use std::fmt;

use region_config::{Config, NodeId, RealmId};
use rules::purge::{Delta, Misstep, Roll, Saved, SavedRoll};

/// A config whose witnesses cannot come after those that the node was started with before.
#[derive(Debug, Clone)]
pub struct RollFault {
    realm: RealmId,
    /// Where the config names them; empty if it does not.
    written_at: String,
    misstep: Misstep,
    before: SavedRoll,
    found: Roll,
}

/// The roll to go on with, and what has to be on disk before anybody hears of it.
pub(super) struct Taken {
    pub(super) saved: SavedRoll,
    pub(super) delta: Delta,
}

/// Takes the witnesses of the config, if they may come after those that are remembered. What the file has of a log that
/// does not count any more is dropped.
pub(super) fn take(config: &Config, realm: &RealmId, saved: &mut Saved) -> Result<Taken, Box<RollFault>> {
    let roll = Roll::of(config, realm);
    let mut delta = Delta::default();
    if config.streams.iter().any(|stream| stream.realm == *realm) {
        return Ok(Taken { saved: SavedRoll { roll, complete: false }, delta });
    }
    let before = saved.roll.take();
    if let Some(before) = &before
        && let Err(misstep) = before.roll.sum().becomes(roll.sum(), before.complete)
    {
        let written = config.witnesses.iter().find(|set| set.realm == *realm);
        let written_at = written.map_or_else(String::new, |set| set.written_at.clone());
        let before = before.clone();
        return Err(Box::new(RollFault { realm: realm.clone(), written_at, misstep, before, found: roll }));
    }
    let me = &config.node.name;
    if !roll.keeps_log(me, before.as_ref().map(|before| &before.roll)) {
        delta.forget_log = saved.witness.take().is_some();
        if roll.witnesses().contains(me) {
            // it begins a log that shall have all there is: what was read before was not kept
            delta.forget_cursors = !saved.cursors.is_empty();
            saved.cursors_before = std::mem::take(&mut saved.cursors);
        }
    }
    let same = before.filter(|before| before.roll.sum() == roll.sum());
    let complete = same.as_ref().is_some_and(|before| before.complete);
    let taken = SavedRoll { roll, complete };
    delta.roll = same.is_none().then(|| taken.clone());
    Ok(Taken { saved: taken, delta })
}

impl fmt::Display for RollFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { realm, written_at, before, .. } = self;
        if !written_at.is_empty() {
            write!(f, "{written_at}: ")?;
        }
        let changing =
            if before.roll.changes() { format!(", followed by {}", listed(&before.roll.next)) } else { String::new() };
        let old = listed(&before.roll.nodes);
        write!(
            f,
            "witnesses of realm `{realm}`: {}; this node was last started with version {}: {old}{changing}; {}. If the state \
             of this node shall be given up instead, remove `{realm}.ledger` from the folder `ledger` of its state folder: \
             then all that it has stored counts as purged",
            self.found(),
            before.roll.version,
            self.help(),
        )
    }
}

impl std::error::Error for RollFault {}

impl RollFault {
    fn found(&self) -> String {
        let Roll { version, nodes, next } = &self.found;
        let nodes = listed(nodes);
        match (version, next.is_empty()) {
            (0, _) => format!("the config names none, so they would be {nodes}"),
            (_, true) => format!("the config has version {version}: {nodes}"),
            (_, false) => format!("the config has version {version}: {nodes}, followed by {}", listed(next)),
        }
    }

    /// What to do.
    fn help(&self) -> String {
        let Self { before: SavedRoll { roll: before, .. }, found, .. } = self;
        let version = before.version;
        let wanted = if found.next.is_empty() { &found.nodes } else { &found.next };
        match self.misstep {
            Misstep::Older => {
                format!("go on with that, or with a higher version: {}", self.block(version.max(1), before))
            }
            Misstep::Early => format!(
                "the change is not complete as far as this node knows: start it with {} until `meridian status` says that it is",
                self.block(version, before)
            ),
            Misstep::Late => {
                let to = Roll { version: version + 1, nodes: before.next.clone(), next: Vec::new() };
                format!("the new ones have taken over: go on with {}", self.block(to.version, &to))
            }
            Misstep::Missed => format!(
                "steps between are missing, in which the witnesses may have been others: start it with version {} as the other \
                 nodes had it, and go on step by step",
                version + 1
            ),
            Misstep::Differs | Misstep::Straight if before.changes() => {
                format!("bring that change to its end first: {}", self.block(version, before))
            }
            Misstep::Differs | Misstep::Straight => {
                let keep = self.block(version.max(1), before);
                let both = Roll { version: version + 1, nodes: before.nodes.clone(), next: wanted.clone() };
                format!(
                    "to keep those, write {keep}; to change them, write {} on all nodes, and when `meridian status` says on all \
                     of them that the new ones have taken over, version = {} with nodes = {} and without `next`",
                    self.block(both.version, &both),
                    both.version + 1,
                    quoted(wanted),
                )
            }
        }
    }

    /// What to write.
    fn block(&self, version: u64, roll: &Roll) -> String {
        let next = if roll.changes() { format!(", next = {}", quoted(&roll.next)) } else { String::new() };
        let realm = &self.realm;
        format!("`[[witnesses]]` with realm = \"{realm}\", version = {version}, nodes = {}{next}", quoted(&roll.nodes))
    }
}

fn listed(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("`{node}`")).collect();
    names.join(", ")
}

fn quoted(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("\"{node}\"")).collect();
    format!("[{}]", names.join(", "))
}
