//! The ledgers' part of the metrics page. Its labels are names of realms, nodes, scopes and causes: never of what was purged.

use std::sync::Arc;

use rules::purge::{Mode, Scope};

use super::{
    Collector,
    exposition::{Exposition, Kind},
};
use crate::ledger::{Figures, Ledgers, Realm, Standing};

/// How the ledgers stand, and what they counted.
#[must_use]
pub fn ledgers(ledgers: Arc<Ledgers>) -> Collector {
    Box::new(move |page| {
        let realms: Vec<(&Realm, Standing)> = ledgers.realms().map(|realm| (&**realm, realm.standing())).collect();
        counted(page, &realms);
        gauges(page, &realms);
        by_node(page, &realms);
        timed(page, &realms);
        let (back, forward) = ledgers.clock_steps();
        let mut family = page.family("meridian_clock_steps_total", Kind::Counter, "How often the wall clock was set.");
        family.count(&[("direction", "back")], back);
        family.count(&[("direction", "forward")], forward);
    })
}

type Rows<'a> = [(&'a Realm, Standing)];

fn counted(page: &mut Exposition, realms: &Rows<'_>) {
    let help = "Purges that applications gave to this node, by the widest of their scopes.";
    kinds(page, "meridian_purges_taken_total", help, realms, |figures| figures.taken().collect());
    let help = "Purges that came into effect on this node, whoever took them, by the widest of their scopes.";
    kinds(page, "meridian_purges_applied_total", help, realms, |figures| figures.applied().collect());
    let help = "Purges that the ledger did not take, by cause.";
    let mut family = page.family("meridian_purges_refused_total", Kind::Counter, help);
    for (realm, _) in realms {
        for (cause, count) in realm.figures().refused() {
            family.count(&[("realm", realm.name().as_str()), ("cause", cause)], count);
        }
    }
    let help = "Lines on which another node did not serve this one, by cause.";
    let mut family = page.family("meridian_purge_refusals_total", Kind::Counter, help);
    for (realm, _) in realms {
        for (cause, count) in realm.figures().refusals() {
            family.count(&[("realm", realm.name().as_str()), ("cause", cause)], count);
        }
    }
    let help = "Tokens of purges that clients showed, by what became of them.";
    let mut family = page.family("meridian_purge_tokens_total", Kind::Counter, help);
    for (realm, _) in realms {
        for (result, count) in realm.figures().tokens() {
            family.count(&[("realm", realm.name().as_str()), ("result", result)], count);
        }
    }
}

fn kinds(
    page: &mut Exposition,
    name: &'static str,
    help: &str,
    realms: &Rows<'_>,
    counts: fn(&Figures) -> Vec<(Scope, Mode, u64)>,
) {
    let mut family = page.family(name, Kind::Counter, help);
    for (realm, _) in realms {
        for (scope, mode, count) in counts(realm.figures()) {
            let labels = [("realm", realm.name().as_str()), ("scope", scope.as_str()), ("mode", mode.as_str())];
            family.count(&labels, count);
        }
    }
}

fn gauges(page: &mut Exposition, realms: &Rows<'_>) {
    type Gauge = (&'static str, &'static str, fn(&Standing) -> Option<f64>);
    let gauges: [Gauge; 12] = [
        (
            "meridian_purge_lease_age_seconds",
            "How long ago this node was sure to have heard every purge; since it started, if it never was.",
            |standing| Some(seconds(standing.lease_age_ms.unwrap_or(standing.open_ms))),
        ),
        ("meridian_purges_waiting", "Purges taken here that no majority of the witnesses has yet.", |standing| {
            Some(standing.waiting as f64)
        }),
        ("meridian_purges_waiting_oldest_seconds", "Age of the oldest of them; 0 if there is none.", |standing| {
            Some(seconds(standing.waiting_oldest_ms.unwrap_or(0)))
        }),
        (
            "meridian_clock_skew_seconds",
            "How far this node's wall clock is ahead of the median of the witnesses'.",
            |standing| standing.clock_ahead_ms.map(|ahead_ms| ahead_ms as f64 / 1e3),
        ),
        ("meridian_purge_marks", "Purged keys that are remembered.", |standing| Some(standing.marks as f64)),
        ("meridian_purge_ledger_up", "0 if the ledger's disk failed, so that purges are refused here.", |standing| {
            Some(flag(!standing.stopped))
        }),
        ("meridian_purge_witness", "1 if this node is a witness of the realm.", |standing| {
            Some(flag(standing.log.is_some()))
        }),
        (
            "meridian_purge_witnesses_version",
            "The version of the witnesses that this node was started with; 0 if the config names none.",
            |standing| Some(standing.version as f64),
        ),
        (
            "meridian_purge_witnesses_change",
            "1 while the witnesses are being changed, 2 when the new ones have taken over as far as this node knows, else 0.",
            |standing| Some(standing.change.as_ref().map_or(0.0, |change| if change.complete { 2.0 } else { 1.0 })),
        ),
        ("meridian_purge_log_records", "Records of the own log of a witness.", |standing| {
            standing.log.map(|log| log.records as f64)
        }),
        ("meridian_purge_log_base", "Place of the first record that the own log still has.", |standing| {
            standing.log.map(|log| log.base as f64)
        }),
        (
            "meridian_purge_log_voting",
            "0 while the own log of a witness is not whole, and does not count.",
            |standing| standing.log.map(|log| flag(log.voting)),
        ),
    ];
    for (name, help, value) in gauges {
        let mut family = page.family(name, Kind::Gauge, help);
        for (realm, standing) in realms {
            if let Some(value) = value(standing) {
                family.sample(&[("realm", realm.name().as_str())], value);
            }
        }
    }
}

fn by_node(page: &mut Exposition, realms: &Rows<'_>) {
    let help =
        "How long ago this node was sure to have heard all that each witness had; since it started, if it never was.";
    let mut family = page.family("meridian_purge_witness_age_seconds", Kind::Gauge, help);
    for (realm, standing) in realms {
        for witness in &standing.witnesses {
            let labels = [("realm", realm.name().as_str()), ("witness", witness.node.as_str())];
            family.sample(&labels, seconds(witness.age_ms.unwrap_or(standing.open_ms)));
        }
    }
    let help = "Purges that each witness said it has, and that this node has not read yet.";
    let mut family = page.family("meridian_purge_witness_unread", Kind::Gauge, help);
    for (realm, standing) in realms {
        for witness in &standing.witnesses {
            family.count(&[("realm", realm.name().as_str()), ("witness", witness.node.as_str())], witness.unread);
        }
    }
    let help = "Purges that each other member has not answered yet.";
    let mut family = page.family("meridian_purge_backlog", Kind::Gauge, help);
    for (realm, standing) in realms {
        for (peer, events) in &standing.backlog {
            family.count(&[("realm", realm.name().as_str()), ("peer", peer.as_str())], *events as u64);
        }
    }
}

fn timed(page: &mut Exposition, realms: &Rows<'_>) {
    let help = "Time from a purge's being taken by another node to its effect here, by the clocks of both.";
    let mut family = page.family("meridian_purge_effect_seconds", Kind::Histogram, help);
    for (realm, _) in realms {
        let (durations, sum_us) = realm.figures().effect_and_sum();
        family.histogram(&[("realm", realm.name().as_str())], &durations, sum_us);
    }
    let help = "Time that a group of the ledger's changes took to be on disk.";
    let mut family = page.family("meridian_purge_commit_seconds", Kind::Histogram, help);
    for (realm, _) in realms {
        let (durations, sum_us) = realm.figures().commits();
        family.histogram(&[("realm", realm.name().as_str())], &durations, sum_us);
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}
