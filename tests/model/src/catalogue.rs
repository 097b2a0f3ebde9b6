//! The configurations: small worlds that together have everything in them.

use crate::protocol::{Setup, Witnesses};

/// Where a configuration is looked at whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In `cargo test`, and wherever the others are.
    Always,
    /// In `make model`.
    Asked,
    /// Nowhere: too large. Mutations are found in it, which end early.
    Never,
}

/// A configuration with its name.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// As in the table of `docs/purge-protocol.md`.
    pub name: &'static str,
    /// How large it is, in other words.
    pub when: When,
    /// What there is.
    pub setup: Setup,
}

/// The configuration of a name.
#[must_use]
pub fn world(name: &str) -> Option<World> {
    all().into_iter().find(|world| world.name == name)
}

/// All of them, smallest subjects first.
#[must_use]
pub fn all() -> Vec<World> {
    let mut worlds = fills();
    worlds.extend(logs());
    worlds.extend(larger());
    worlds
}

const EDGE_AND_SHIELD: u8 = 0b101;
/// The two edges.
const EDGES: Option<(usize, usize)> = Some((0, 1));
/// The two witnesses that do not cache, where only node 0 does.
const OTHERS: Option<(usize, usize)> = Some((1, 2));

/// Two edges, a shield, an origin; two purges of one object; no witnesses, no time, and nothing fails.
const BASE: Setup = Setup {
    events: 2,
    objects: 1,
    about: [1, 1],
    soft: 0,
    lease: None,
    gate: false,
    crashes: 0,
    crash_nodes: 0b111,
    losses: 0,
    jumps: 0,
    jump_nodes: 0b111,
    fsync: false,
    witnesses: Witnesses::None,
    direct: true,
    shield: true,
    told: false,
    joins: false,
    refresh: false,
    class: false,
    caches: 0b111,
    alike: None,
    mutation: None,
};

/// With one register for the witnesses.
const REGISTER: Setup = Setup { witnesses: Witnesses::Register, ..BASE };
/// An edge and a shield, with one register for the witnesses.
const TIER: Setup = Setup { caches: EDGE_AND_SHIELD, ..REGISTER };
/// One cache that is one of three witnesses with logs.
const LOG: Setup = Setup { witnesses: Witnesses::Logs, shield: false, caches: 1, alike: OTHERS, ..BASE };
/// An edge and a shield that are two of three witnesses with logs.
const TIER_LOG: Setup = Setup { witnesses: Witnesses::Logs, caches: EDGE_AND_SHIELD, direct: false, ..BASE };

fn fills() -> Vec<World> {
    use When::{Always, Asked};
    let whole = Setup { joins: true, refresh: true, alike: EDGES, ..BASE };
    vec![
        World { name: "fill-1", when: Always, setup: Setup { events: 1, ..whole } },
        World { name: "fill-tier", when: Always, setup: Setup { caches: EDGE_AND_SHIELD, alike: None, ..whole } },
        World {
            name: "told",
            when: Always,
            setup: Setup { told: true, caches: EDGE_AND_SHIELD, alike: None, ..whole },
        },
        World {
            name: "soft",
            when: Always,
            setup: Setup { soft: 0b01, caches: EDGE_AND_SHIELD, alike: None, ..whole },
        },
        World {
            name: "soft-last",
            when: Always,
            setup: Setup { soft: 0b10, caches: EDGE_AND_SHIELD, alike: None, ..whole },
        },
        World {
            name: "class",
            when: Always,
            setup: Setup { class: true, objects: 2, about: [0b01, 0b10], caches: EDGE_AND_SHIELD, ..BASE },
        },
        World { name: "gate", when: Always, setup: Setup { gate: true, crashes: 1, events: 1, ..TIER } },
        World { name: "gate-2", when: Asked, setup: Setup { gate: true, crashes: 1, ..TIER } },
        World { name: "fill", when: Asked, setup: whole },
        World { name: "fill2", when: Asked, setup: Setup { objects: 2, about: [0b01, 0b11], alike: EDGES, ..BASE } },
    ]
}

fn logs() -> Vec<World> {
    use When::{Always, Asked};
    let timed = Setup { lease: Some(1), ..LOG };
    let timed2 = Setup { lease: Some(2), events: 1, ..LOG };
    vec![
        World { name: "log", when: Always, setup: Setup { crashes: 2, ..LOG } },
        World { name: "log-fsync", when: Always, setup: Setup { crashes: 1, fsync: true, ..LOG } },
        World { name: "log-jump", when: Always, setup: Setup { jumps: 1, crashes: 1, crash_nodes: 1, ..LOG } },
        World { name: "log-time", when: Always, setup: timed },
        World { name: "log-time1", when: Always, setup: Setup { joins: true, refresh: true, ..timed2 } },
        World { name: "log-time-crash1", when: Always, setup: Setup { crashes: 1, ..timed2 } },
        World { name: "log-amnesia1", when: Always, setup: Setup { losses: 1, ..timed2 } },
        World {
            name: "tier-jump1",
            when: Always,
            setup: Setup { jumps: 1, events: 1, crashes: 1, crash_nodes: 1, ..TIER_LOG },
        },
        World { name: "tier-log", when: Asked, setup: TIER_LOG },
        World {
            name: "log-fsync-time",
            when: Asked,
            setup: Setup { crashes: 1, crash_nodes: 0b110, fsync: true, ..timed },
        },
        World { name: "log-time-crash", when: Asked, setup: Setup { crashes: 1, ..timed } },
        World { name: "log-amnesia", when: Asked, setup: Setup { losses: 1, ..timed } },
        World { name: "tier-time1", when: Asked, setup: Setup { lease: Some(1), events: 1, direct: true, ..TIER_LOG } },
    ]
}

fn larger() -> Vec<World> {
    use When::{Always, Asked, Never};
    let two = Setup { objects: 2, about: [0b01, 0b11], crashes: 1, ..TIER };
    vec![
        World {
            name: "time-solo",
            when: Always,
            setup: Setup {
                lease: Some(2),
                crashes: 1,
                caches: 1,
                shield: false,
                joins: true,
                refresh: true,
                ..REGISTER
            },
        },
        World { name: "main-e", when: Asked, setup: Setup { crashes: 1, crash_nodes: 0b001, ..REGISTER } },
        World {
            name: "main-s",
            when: Asked,
            setup: Setup { crashes: 1, crash_nodes: 0b100, alike: EDGES, ..REGISTER },
        },
        World { name: "main-ec", when: Asked, setup: Setup { crashes: 2, ..TIER } },
        World { name: "time-tier", when: Asked, setup: Setup { lease: Some(1), ..TIER } },
        World { name: "time-tier2", when: Asked, setup: Setup { lease: Some(2), events: 1, joins: true, ..TIER } },
        World { name: "time-crash1", when: Asked, setup: Setup { lease: Some(1), events: 1, crashes: 1, ..TIER } },
        World { name: "tier-jump-e", when: Asked, setup: Setup { jumps: 1, jump_nodes: 0b001, ..TIER_LOG } },
        World { name: "tier-jump-s", when: Asked, setup: Setup { jumps: 1, jump_nodes: 0b100, ..TIER_LOG } },
        World { name: "main2obj-e", when: Asked, setup: Setup { crash_nodes: 0b001, ..two } },
        World { name: "main2obj-s", when: Asked, setup: Setup { crash_nodes: 0b100, ..two } },
        World { name: "tier-jump", when: Never, setup: Setup { jumps: 1, ..TIER_LOG } },
        World { name: "time", when: Never, setup: Setup { lease: Some(1), events: 1, alike: EDGES, ..REGISTER } },
    ]
}
