//! The decision: which regions, in which order, why, for how long, and for whom else.

use std::net::IpAddr;

use region_config::{AllDown, REGIONS_MAX, RegionMask};

use super::{
    address::Block,
    map::Map,
    shares::{Spread, admitted},
    standing::Standing,
};
use crate::health::RegionState;

/// TTL of an answer that is expected to change soon, in seconds.
const HASTY_TTL_S: u32 = 10;
/// Bounds of every TTL, in seconds.
pub const TTL_S: (u32, u32) = (5, 300);

/// What a site demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The regions where its data may be, from [`crate::residency::eligible`]: no other is ever named.
    pub legal: RegionMask,
    /// Those of them that may be named.
    pub eligible: RegionMask,
    /// Those of them that may be named while all of `eligible` are down, if [`AllDown::Fallback`] is wished.
    pub fallback: RegionMask,
    /// What is answered while all of `eligible` are down.
    pub all_down: AllDown,
    /// TTL of answers in quiet times, in seconds.
    pub ttl_s: u32,
}

impl Policy {
    /// The TTLs that answers can have, in seconds: in quiet times, and when they are expected to change.
    #[must_use]
    pub fn ttls_s(&self) -> [u32; 2] {
        let quiet = self.ttl_s.clamp(TTL_S.0, TTL_S.1);
        [quiet, quiet.min(HASTY_TTL_S)]
    }
}

/// How the decision came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The region of first choice.
    Normal,
    /// Another one as healthy, since the clients of the first choice are shared out.
    Shared,
    /// Another one as healthy, since there would be more clients at the first choice than it bears.
    Spill,
    /// Another one, since the first choice is less healthy.
    Failover,
    /// All legal regions are down: the one of first choice all the same, since a wrong verdict must not blank a name.
    FailStatic,
    /// All regions are down but one that the site wishes to be named just then.
    Fallback,
    /// No region may be named.
    Refuse(Refusal),
}

impl Outcome {
    /// The word for it in logs, metrics, API and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shared => "shared",
            Self::Spill => "spill",
            Self::Failover => "failover",
            Self::FailStatic => "fail-static",
            Self::Fallback => "fallback",
            Self::Refuse(Refusal::AllDown) => "all-down",
            Self::Refuse(Refusal::NoRegion) => "no-region",
            Self::Refuse(Refusal::NoAddress) => "no-address",
            Self::Refuse(Refusal::Invariant) => "invariant-violated",
        }
    }
}

/// Why no region may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No region lies where the site's data must stay, or none that a rule leaves to this client has an address.
    NoRegion,
    /// No legal region has an address of the family that was asked for.
    NoAddress,
    /// All regions are down, and the site wishes a failure then.
    AllDown,
    /// The last check found a region outside the mask: a fault of this program, which must never become an answer.
    Invariant,
}

/// What became of one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// It is the answer.
    Chosen,
    /// As healthy as the chosen one, and later in the list.
    Later,
    /// As healthy as the chosen one, which is where this client's part of the list goes.
    Shared,
    /// It would have more clients than it bears, and this one is among those that are led on.
    Spill,
    /// It has just come back, and this client is not yet among those that it gets.
    Returning,
    /// Behind the chosen one because some observers fail to reach it.
    Degraded,
    /// Behind the chosen one because it gives up its clients.
    Draining,
    /// Behind the chosen one because nobody has said anything about it yet.
    Unknown,
    /// Behind the chosen one because it is down.
    Down,
    /// It has no address of the family that was asked for.
    NoAddress,
    /// It is named only while all others are down.
    Fallback,
    /// A rule of the site keeps this client to others.
    Ruled,
    /// The site does not wish it.
    Unwished,
    /// The site's data may not be there.
    Outside,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Chosen,
        Self::Later,
        Self::Shared,
        Self::Spill,
        Self::Returning,
        Self::Degraded,
        Self::Draining,
        Self::Unknown,
        Self::Down,
        Self::NoAddress,
        Self::Fallback,
        Self::Ruled,
        Self::Unwished,
        Self::Outside,
    ];

    /// The word for it in logs, metrics, API and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Later => "later",
            Self::Shared => "shared",
            Self::Spill => "spill",
            Self::Returning => "returning",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::NoAddress => "no-address",
            Self::Fallback => "fallback",
            Self::Ruled => "ruled",
            Self::Unwished => "unwished",
            Self::Outside => "outside",
        }
    }

    /// What it means, as a sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Chosen => "The region is the answer.",
            Self::Later => "The region is as healthy as the chosen one, but stands later in the list.",
            Self::Shared => {
                "The region is as healthy as the chosen one, which is where this client's part of the list goes."
            }
            Self::Spill => {
                "The region would have more clients than its `capacity`; this one is among those that are led on to another."
            }
            Self::Returning => {
                "The region has just come back and gets its clients within a minute; this one is not yet among them."
            }
            Self::Degraded => "Some observers fail to reach the region, so healthier ones go first.",
            Self::Draining => "The region gives up its clients, so others go first.",
            Self::Unknown => "Nobody has said anything about the region yet, so known ones go first.",
            Self::Down => "The region is down, so all others go first.",
            Self::NoAddress => "The region has no address of the family that was asked for.",
            Self::Fallback => "The region is named only while all others are down.",
            Self::Ruled => "A rule of the site keeps this client to other regions.",
            Self::Unwished => "The site's `allow` and `deny` leave the region out.",
            Self::Outside => "The region lies outside the jurisdiction that the site's data may not leave.",
        }
    }
}

/// What a client is told, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision<'a> {
    /// How it came out.
    pub outcome: Outcome,
    /// How many leading bits of the client's address the answer depends on (RFC 7871): all addresses that share them get
    /// the same answer. Independent of health, but that it is at least /24 (/56) while a region that has just come back
    /// gets a part of the clients only.
    pub scope: u8,
    /// For how long the answer may be kept, in seconds.
    pub ttl_s: u32,
    policy: Policy,
    reachable: RegionMask,
    /// The regions that may be named to this client while one of them is not down.
    named: RegionMask,
    ranking: Ranking<'a>,
}

/// A list under a mask and a health: what [`Decision::order`] walks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ranking<'a> {
    list: &'a [u8],
    /// The regions that may be named as things stand.
    pool: RegionMask,
    /// How clients of the list are shared out.
    spread: Option<&'a Spread>,
    /// The region that this client's part of the list goes to.
    lead: Option<u8>,
    /// Whether load has shared them out.
    by_load: bool,
    /// Whether a region that has just come back gets some of the list's clients only.
    returning: bool,
    standing: &'a Standing,
}

impl<'a> Ranking<'a> {
    fn new(list: &'a [u8], pool: RegionMask, spread: Option<(&'a Spread, u64)>, standing: &'a Standing) -> Self {
        let lead = spread.and_then(|(spread, number)| spread.choose(number, standing.best(pool)));
        Self { list, pool, spread: spread.map(|(spread, _)| spread), lead, by_load: false, returning: false, standing }
    }

    /// Whether this client would be led to a region that has just come back, though others are as healthy that were not
    /// away. With a spread that a site wishes that is so for all clients of the list, as any of them may be. What load leads on
    /// to such a region comes step by step anyway, and is booked there.
    fn meets_returning(&self) -> bool {
        let best = self.standing.best(self.pool);
        let returning = best & self.standing.returning;
        returning != 0
            && returning != best
            && (self.spread.is_some() && !self.by_load
                || self.listed(best).is_some_and(|first| holds(returning, first)))
    }

    /// The same with the client of this number led on to the next region where the one that has just come back does not
    /// take it yet.
    fn led_on(mut self, number: u64) -> Self {
        let mut among = self.standing.best(self.pool);
        self.returning = true;
        if let Some(spread) = self.spread.filter(|_| self.by_load) {
            // as it was booked: the first region's part is one list, all others are another
            if let Some(first) = self.listed(among)
                && !admitted(number, first, self.standing.part(first))
            {
                let there = among & !self.standing.returning;
                self.lead = spread.choose_meanwhile(number, there).or_else(|| self.listed(there));
            }
            return self;
        }
        self.lead = std::iter::from_fn(|| {
            let shared = self.spread.and_then(|spread| spread.choose(number, among));
            let next = shared.or_else(|| self.listed(among))?;
            among &= !(1 << next);
            Some(next)
        })
        .find(|region| admitted(number, *region, self.standing.part(*region)));
        self
    }

    /// The first region of the list among these.
    fn listed(&self, among: RegionMask) -> Option<u8> {
        self.list.iter().copied().find(|region| holds(among, *region))
    }

    /// What part of the list's clients a region gets: by the spread, or while a region that has just come back gets some only.
    fn part(&self, region: usize) -> Option<f64> {
        let best = self.standing.best(self.pool);
        if let Some(spread) = self.spread {
            let first = self.listed(best).filter(|_| self.by_load && self.returning);
            let taken = first.map_or(1.0, |first| self.standing.part(first));
            let next = || self.listed(best & !self.standing.returning).map(usize::from);
            let others = spread.part_meanwhile(region).unwrap_or_else(|| f64::from(u8::from(next() == Some(region))));
            return Some(taken * spread.part(region) + (1.0 - taken) * others);
        }
        let mut left = 1.0;
        let in_turn = self.list.iter().filter(|listed| holds(best, **listed)).map(|listed| {
            let part = left * self.standing.part(*listed);
            left -= part;
            (usize::from(*listed), part)
        });
        self.returning.then(|| in_turn.filter(|(listed, _)| *listed == region).map(|(_, part)| part).sum())
    }

    /// The first of [`Ranking::order`], found without walking it.
    fn first(&self) -> Option<u8> {
        let best = self.standing.best(self.pool);
        self.lead.or_else(|| self.listed(best))
    }

    /// Whether anybody has said anything about the first region.
    fn is_known(&self) -> bool {
        let unknown = self.standing.unknown();
        self.pool & unknown == 0 || !self.first().is_some_and(|first| holds(unknown, first))
    }

    /// The region this client's part goes to, then the others by health; among equally healthy ones the list's order stays.
    fn order(self) -> impl Iterator<Item = u8> + 'a {
        let Self { list, pool, lead, standing, .. } = self;
        let pool = lead.map_or(pool, |lead| pool & !(1 << lead));
        let classes = standing.classes.iter().map(move |class| class & pool).filter(|class| *class != 0);
        let rest = classes.flat_map(move |class| list.iter().copied().filter(move |region| holds(class, *region)));
        lead.into_iter().chain(rest)
    }
}

impl<'a> Decision<'a> {
    /// The regions that may be named, by their index in the config, best first. None exactly if the outcome is a refusal.
    pub fn order(&self) -> impl Iterator<Item = usize> + 'a {
        let refused = matches!(self.outcome, Outcome::Refuse(_));
        self.ranking.order().map(usize::from).take(if refused { 0 } else { REGIONS_MAX })
    }

    /// The region that is the answer, by its index in the config.
    #[must_use]
    pub fn region(&self) -> Option<usize> {
        if matches!(self.outcome, Outcome::Refuse(_)) { None } else { self.ranking.first().map(usize::from) }
    }

    /// What part of the list's clients a region gets, from 0 to 1, if they are shared out.
    #[must_use]
    pub fn share(&self, region: usize) -> Option<f64> {
        self.ranking.part(region)
    }

    /// What became of a region, by its index in the config.
    #[must_use]
    pub fn reason(&self, region: usize) -> Reason {
        let Policy { legal, eligible, fallback, .. } = self.policy;
        let index = u8::try_from(region).unwrap_or(u8::MAX);
        if !holds(legal, index) {
            return Reason::Outside;
        }
        if !holds(eligible | fallback, index) {
            return Reason::Unwished;
        }
        if !holds(self.reachable, index) {
            return Reason::NoAddress;
        }
        let Ranking { pool, spread, standing, list, returning, by_load, .. } = self.ranking;
        let state = standing.state(region);
        let before = |chosen: usize| {
            list.iter().position(|it| *it == index) < list.iter().position(|it| usize::from(*it) == chosen)
        };
        match self.region() {
            Some(chosen) if chosen == region => Reason::Chosen,
            Some(chosen) if holds(pool, index) && standing.state(chosen) == state => {
                let shared = spread.is_some_and(|spread| spread.has(region));
                match returning && holds(standing.returning, index) {
                    true if shared || before(chosen) => Reason::Returning,
                    _ if shared && by_load && before(chosen) => Reason::Spill,
                    _ if shared => Reason::Shared,
                    _ => Reason::Later,
                }
            }
            _ if holds(pool | self.named, index) => behind(state),
            _ if holds(eligible, index) => Reason::Ruled,
            _ => Reason::Fallback,
        }
    }

    /// The addresses that get the same answer as `address`.
    #[must_use]
    pub fn block(&self, address: IpAddr) -> Block {
        Block::around(address, self.scope)
    }
}

/// The mask of the first `count` regions.
#[must_use]
pub fn regions_up_to(count: usize) -> RegionMask {
    u32::try_from(count).ok().and_then(|count| RegionMask::MAX.checked_shl(count)).map_or(RegionMask::MAX, |high| !high)
}

/// Decides where a client at `address` is sent.
///
/// `reachable` are the regions that have an address of the family that was asked for. `map` must have been compiled for the
/// wishes that `policy` is of; what it holds beyond that is never named. Allocates nothing.
#[must_use]
pub fn decide<'a>(
    address: IpAddr,
    reachable: RegionMask,
    policy: &Policy,
    map: &'a Map,
    standing: &'a Standing,
) -> Decision<'a> {
    let listed = map.listed(address);
    let named = policy.legal & policy.eligible & listed.mask & reachable;
    let (pool, fallen) = pool(named, reachable, policy, standing);
    let mut ranking = Ranking::new(listed.list, pool, listed.spread, standing);
    ranking.by_load = map.shares().are_by_load();
    let mut scope = listed.scope;
    if standing.returning != 0 && ranking.meets_returning() {
        let (number, least) = Map::cell(address);
        ranking = ranking.led_on(number);
        scope = scope.max(least);
    }
    let outcome = if fallen && pool == 0 {
        Outcome::Refuse(Refusal::AllDown)
    } else {
        outcome(ranking, named, reachable, policy)
    };
    let steady = match outcome {
        Outcome::Normal => true,
        Outcome::Shared => true,
        Outcome::Spill | Outcome::Failover | Outcome::FailStatic | Outcome::Fallback | Outcome::Refuse(_) => false,
    };
    let quiet = steady && !ranking.returning && !expected_to_change(listed.list, standing) && ranking.is_known();
    let [calm_s, hasty_s] = policy.ttls_s();
    let ttl_s = if quiet { calm_s } else { hasty_s };
    Decision { outcome, scope, ttl_s, policy: *policy, reachable, named, ranking }
}

/// The regions that may be named as things stand, and whether that is other than `named` since all of the site's are down.
///
/// A rule's regions being down is not the site being down: others of it are up, and SERVFAIL would blank the name for
/// everybody behind a resolver (RFC 9520).
fn pool(named: RegionMask, reachable: RegionMask, policy: &Policy, standing: &Standing) -> (RegionMask, bool) {
    let up = !standing.down() & reachable & policy.legal;
    if named == 0 || named & up != 0 {
        return (named, false);
    }
    let (all_down, alive) = (policy.eligible & up == 0, policy.fallback & up);
    // also those without an address of this family: whoever asks for the other one is led there
    let none_up = policy.eligible & policy.legal & !standing.down() == 0;
    // seen well again, and only kept down for a while since they just were, or have flapped
    let rising = named & standing.pending;
    match policy.all_down {
        AllDown::Fallback if all_down && alive != 0 => (alive, true),
        _ if rising != 0 => (rising, false),
        AllDown::Fail if none_up => (0, true),
        AllDown::LastGood | AllDown::Fallback | AllDown::Fail => (named, false),
    }
}

/// How it came out; and the last check, which trusts none of the stages before.
fn outcome(ranking: Ranking<'_>, named: RegionMask, reachable: RegionMask, policy: &Policy) -> Outcome {
    let Ranking { list, lead, spread, by_load, standing, .. } = ranking;
    let Some(chosen) = ranking.first() else {
        // "no such record" is kept for everyone: it must not follow from a rule for this client
        let for_all = policy.eligible != 0 && policy.eligible & reachable == 0;
        return Outcome::Refuse(if for_all { Refusal::NoAddress } else { Refusal::NoRegion });
    };
    if !holds(policy.legal & (policy.eligible | policy.fallback), chosen) {
        return Outcome::Refuse(Refusal::Invariant);
    }
    if holds(standing.down(), chosen) {
        return Outcome::FailStatic;
    }
    if !holds(named, chosen) {
        return Outcome::Fallback;
    }
    match list.iter().find(|region| holds(named, **region)) {
        Some(first) if *first == chosen => Outcome::Normal,
        Some(first) if lead.is_some() && standing.state(usize::from(*first)) == standing.state(usize::from(chosen)) => {
            if by_load && spread.is_some() {
                Outcome::Spill
            } else {
                Outcome::Shared
            }
        }
        _ => Outcome::Failover,
    }
}

fn behind(state: RegionState) -> Reason {
    match state {
        RegionState::Up => Reason::Later,
        RegionState::Degraded => Reason::Degraded,
        RegionState::Draining => Reason::Draining,
        RegionState::Unknown => Reason::Unknown,
        RegionState::Down => Reason::Down,
    }
}

pub(super) fn holds(mask: RegionMask, region: u8) -> bool {
    mask.checked_shr(u32::from(region)).unwrap_or(0) & 1 == 1
}

/// Whether one of a list's first two regions is about to change its verdict, or has just done so and may do so again: the
/// answer would be another one soon.
fn expected_to_change(list: &[u8], standing: &Standing) -> bool {
    list.iter().take(2).any(|region| holds(standing.pending | standing.recent, *region))
}
