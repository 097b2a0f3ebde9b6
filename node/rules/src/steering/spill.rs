//! Water-filling: what a region cannot bear goes to the next one of each list, where that costs least.
//!
//! [`filled`] says where demand should go. [`Spilling`] leads there step by step, so that nothing swings: a region begins to
//! give up clients at [`ENTER`] of its capacity and is brought down to [`AIM`]; a change of fewer than [`DEAD_BAND`] is none;
//! no step moves more than [`STEP`] of a list, nor comes before resolvers have forgotten the one before. Only when
//! a region has gone all move at once, and when one has come back the lists that it is first in, as its clients do so anyway.

use std::collections::BTreeMap;

/// A region gives up clients from this part of its capacity on ...
pub const ENTER: f64 = 0.85;
/// ... until so much is left; and others are filled no further.
pub const AIM: f64 = 0.75;
/// A smaller change of a list's parts is none.
pub const DEAD_BAND: f64 = 0.03;
/// Most of a list that moves at a time.
pub const STEP: f64 = 0.10;
/// Who lacks so little of a whole is home.
const HOME: f64 = 1e-9;
/// Least time between two steps, in ms; the TTL of answers if that is longer.
pub const STEP_MS: u64 = 10_000;

/// The demand of the clients of one list.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Which list: the same number each time.
    pub list: u64,
    /// The list that these clients were in before, for when theirs is asked for anew: they stay where they are.
    pub part_of: Option<u64>,
    /// Requests in a second.
    pub requests: f64,
    /// The regions that may be named to them, best first, each with what reaching it costs; the unit does not matter.
    pub regions: Vec<(usize, f64)>,
}

/// The parts of each list's demand that its regions get: for each list its regions in order, parts from 0 to 1 that are 1
/// together.
pub type Parts = Vec<Vec<(usize, f64)>>;

/// Everything at the first region of its list.
#[must_use]
pub fn first_only(lists: &[Demand]) -> Parts {
    lists.iter().map(first_of).collect()
}

fn first_of(list: &Demand) -> Vec<(usize, f64)> {
    let at = |(place, (region, _)): (usize, &(usize, f64))| (*region, if place == 0 { 1.0 } else { 0.0 });
    list.regions.iter().enumerate().map(at).collect()
}

/// Prices for the regions of a list so that none is cheaper than one before it: nearer regions may stand later, as a site
/// wishes or as was measured, and are no better then.
#[must_use]
pub fn rising(regions: impl IntoIterator<Item = (usize, f64)>) -> Vec<(usize, f64)> {
    let mut dearest = f64::MIN;
    let price = |(region, cost): (usize, f64)| {
        dearest = dearest.max(cost);
        (region, dearest)
    };
    regions.into_iter().map(price).collect()
}

/// Requests in a second at each region, by its index.
#[must_use]
pub fn loads(lists: &[Demand], parts: &Parts, regions: usize) -> Vec<f64> {
    let mut loads = vec![0.0; regions];
    for (list, parts) in lists.iter().zip(parts) {
        for (region, part) in parts {
            if let Some(load) = loads.get_mut(*region) {
                *load += list.requests * part;
            }
        }
    }
    loads
}

/// What a region may give and take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// It gives up what is over this.
    pub gives_above: f64,
    /// It takes up to this.
    pub takes_to: f64,
}

impl Bounds {
    /// A region whose load nobody looks at: gives nothing, takes everything.
    pub const NONE: Self = Self { gives_above: f64::INFINITY, takes_to: f64::INFINITY };
    /// A region that is down: gives everything, takes nothing.
    pub const DOWN: Self = Self { gives_above: 0.0, takes_to: 0.0 };
}

/// Shares demand out: every list begins at its first region, and the moves that add least cost are made as long as the
/// region they leave is over its bound and the one they reach is below its own. What no region has room for stays at the
/// first choice. `bounds` are by the region's index.
#[must_use]
pub fn filled(lists: &[Demand], bounds: &[Bounds]) -> Parts {
    let mut parts = first_only(lists);
    let mut loads = loads(lists, &parts, bounds.len());
    let bound = |region: usize| bounds.get(region).copied().unwrap_or(Bounds::NONE);
    for Move { list, to, .. } in moves(lists, bound) {
        let (demand, parts) = (lists[list].requests, &mut parts[list]);
        let (from_region, to_region) = (parts[0].0, parts[to].0);
        let over = loads[from_region] - bound(from_region).gives_above;
        let room = bound(to_region).takes_to - loads[to_region];
        let moved = (demand * parts[0].1).min(over).min(room);
        if moved > 0.0 {
            let part = (moved / demand).min(parts[0].1);
            parts[0].1 -= part;
            parts[to].1 += part;
            loads[from_region] -= moved;
            loads[to_region] += moved;
        }
    }
    parts
}

/// A list's demand from its first region to another.
struct Move {
    list: usize,
    /// The place of the other one in the list.
    to: usize,
    added: f64,
}

/// All moves that may be needed, the ones that add least first.
fn moves(lists: &[Demand], bound: impl Fn(usize) -> Bounds) -> Vec<Move> {
    let of_list = |(at, list): (usize, &Demand)| {
        let first =
            list.regions.first().filter(|(region, _)| list.requests > 0.0 && bound(*region).gives_above.is_finite());
        let others = list.regions.iter().enumerate().skip(1);
        let to = |first: &(usize, f64)| {
            let cost = first.1;
            others.map(|(to, region)| Move { list: at, to, added: region.1 - cost }).collect::<Vec<_>>()
        };
        first.map_or_else(Vec::new, to)
    };
    // by the list's number: its place here is another one on other nodes
    let rank = |it: &Move| (lists.get(it.list).map(|list| list.list), it.to);
    let mut moves: Vec<Move> = lists.iter().enumerate().flat_map(of_list).collect();
    moves.sort_by(|a, b| a.added.total_cmp(&b.added).then_with(|| rank(a).cmp(&rank(b))));
    moves
}

/// Leads a set of lists to where their demand should go, step by step.
#[derive(Debug, Clone, Default)]
pub struct Spilling {
    /// In the order of the lists that came last.
    parts: Parts,
    /// The same by the number of the list, and those of lists for which nothing is asked any more until they are home.
    known: BTreeMap<u64, Vec<(usize, f64)>>,
    /// By region: whether it gives up clients, if that is known.
    giving: Vec<Option<bool>>,
    /// By region: how many others say that it does, and how many say whether it does.
    told: Vec<(usize, usize)>,
    stepped_ms: Option<u64>,
}

impl Spilling {
    /// Takes what is asked for at `now_ms` (monotonic), and gives the parts if they have changed. `capacities` are requests
    /// in a second by the region's index: none where nobody looks, 0 for a region that is down. No two lists have the same number. `ttl_s` is how long answers
    /// may be kept, in seconds.
    pub fn handle_demand(
        &mut self,
        now_ms: u64,
        lists: &[Demand],
        capacities: &[Option<f64>],
        ttl_s: u32,
    ) -> Option<&Parts> {
        let period_ms = STEP_MS.max(u64::from(ttl_s) * 1000);
        let due = self.stepped_ms.is_none_or(|before| now_ms.saturating_sub(before) >= period_ms);
        if due {
            self.stepped_ms = Some(now_ms);
        }
        let wanted = filled(lists, &self.bounds(lists, capacities));
        let known = std::mem::take(&mut self.known);
        // its clients are with its neighbours within a moment, and these need room for them by then
        let one_is_gone = lists.iter().any(|list| known.get(&list.list).is_some_and(|parts| lacks_one(list, parts)));
        let mut changed = false;
        for (list, wanted) in lists.iter().zip(wanted) {
            let was = known.get(&list.list);
            // a region is back: its clients move at once, as far as it takes them already
            let is_back = was.is_some_and(|parts| lacks_the_first(list, parts));
            let parts = if one_is_gone || is_back {
                changed = true;
                wanted
            } else {
                let mut parts = among(list, was.or_else(|| known.get(&list.part_of?)));
                changed |= due && step(&mut parts, &wanted);
                parts
            };
            self.known.insert(list.list, parts);
        }
        // who is asked for now and then only is not led back and forth; but after a failure what was is no guide
        for (list, mut parts) in known.into_iter().filter(|_| !one_is_gone) {
            if self.known.contains_key(&list) {
                continue;
            }
            changed |= due && step_home(&mut parts);
            if parts.first().is_some_and(|(_, part)| *part < 1.0 - HOME) {
                self.known.insert(list, parts);
            }
        }
        self.parts = lists.iter().map(|list| self.known.get(&list.list).cloned().unwrap_or_default()).collect();
        changed.then_some(&self.parts)
    }

    /// Takes what others say about which regions give up clients, by the region's index; empty from who does not know.
    pub fn handle_giving(&mut self, others: &[Vec<bool>]) {
        let regions = others.iter().map(Vec::len).max().unwrap_or(0);
        let of = |region: usize| {
            let said = || others.iter().filter_map(|others| others.get(region));
            (said().filter(|gives| **gives).count(), said().count())
        };
        self.told = (0..regions).map(of).collect();
    }

    /// The same where each region has another index, or none any more: what lists with such a one had is forgotten.
    #[must_use]
    pub fn moved(&self, to: impl Fn(usize) -> Option<usize>) -> Self {
        let mut giving = Vec::new();
        for (from, known) in self.giving.iter().enumerate() {
            let Some(at) = to(from) else { continue };
            giving.resize(giving.len().max(at + 1), None);
            giving[at] = *known;
        }
        Self { known: moved(&self.known, to), giving, stepped_ms: self.stepped_ms, ..Self::default() }
    }

    /// Whether a region gives up clients, if that is known: between [`AIM`] and [`ENTER`] it depends on what was before.
    #[must_use]
    pub fn known_to_give(&self, region: usize) -> Option<bool> {
        self.giving.get(region).copied().flatten()
    }

    /// Whether a region gives up clients, since there would be more than it bears.
    #[must_use]
    pub fn gives(&self, region: usize) -> bool {
        self.known_to_give(region).unwrap_or(false)
    }

    /// The parts of all lists by their number: also of those for which nothing is asked any more, whose clients go back to
    /// their first region step by step.
    #[must_use]
    pub fn known(&self) -> &BTreeMap<u64, Vec<(usize, f64)>> {
        &self.known
    }

    /// The parts as they are.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What each region may give and take. Whether it gives is decided by what it would have if it gave nothing: what it
    /// has follows from what it gives, and would swing.
    fn bounds(&mut self, lists: &[Demand], capacities: &[Option<f64>]) -> Vec<Bounds> {
        let unspilled = loads(lists, &first_only(lists), capacities.len());
        self.giving.resize(capacities.len(), None);
        self.told.resize(capacities.len(), (0, 0));
        let each = capacities.iter().zip(unspilled).zip(self.giving.iter_mut().zip(&self.told));
        each.map(|((capacity, load), (giving, told))| match capacity {
            None => Bounds::NONE,
            Some(capacity) if *capacity <= 0.0 => Bounds::DOWN,
            Some(capacity) => {
                *giving = match load / capacity {
                    part if part > ENTER => Some(true),
                    part if part > AIM => most(*giving, *told),
                    _ => Some(false),
                };
                let gives_above = if *giving == Some(true) { capacity * AIM } else { f64::INFINITY };
                Bounds { gives_above, takes_to: capacity * AIM }
            }
        })
        .collect()
    }
}

/// Parts by the number of the list where each region has another index: of lists all of whose regions still have one.
#[must_use]
pub fn moved(
    parts: &BTreeMap<u64, Vec<(usize, f64)>>,
    to: impl Fn(usize) -> Option<usize>,
) -> BTreeMap<u64, Vec<(usize, f64)>> {
    let of = |list: &Vec<(usize, f64)>| -> Option<Vec<(usize, f64)>> {
        list.iter().map(|(region, part)| Some((to(*region)?, *part))).collect()
    };
    parts.iter().filter_map(|(number, list)| Some((*number, of(list)?))).collect()
}

/// What most say, of those who know: whoever has just been started, or saw a peak that others did not see, would disagree
/// with them for good.
fn most(own: Option<bool>, (gives, said): (usize, usize)) -> Option<bool> {
    let (gives, said) = (gives + usize::from(own == Some(true)), said + usize::from(own.is_some()));
    (said > 0).then_some(gives * 2 >= said)
}

/// Whether a list no longer has one of the regions that it was shared out to.
fn lacks_one(list: &Demand, parts: &[(usize, f64)]) -> bool {
    parts.iter().any(|(region, _)| list.regions.iter().all(|(there, _)| there != region))
}

/// Whether the first region of a list is one that it was not shared out to.
fn lacks_the_first(list: &Demand, parts: &[(usize, f64)]) -> bool {
    list.regions.first().is_some_and(|(first, _)| parts.iter().all(|(region, _)| region != first))
}

/// The parts that a list's regions had; if none had any, its clients are where the first choice leads them.
fn among(list: &Demand, parts: Option<&Vec<(usize, f64)>>) -> Vec<(usize, f64)> {
    let had = |region: usize| parts.into_iter().flatten().find(|(it, _)| *it == region).map_or(0.0, |(_, part)| *part);
    let all: f64 = list.regions.iter().map(|(region, _)| had(*region)).sum();
    if all < HOME {
        return first_of(list);
    }
    list.regions.iter().map(|(region, _)| (*region, had(*region) / all)).collect()
}

/// One step back to the first region; whether there was one.
fn step_home(parts: &mut [(usize, f64)]) -> bool {
    let home: Vec<(usize, f64)> =
        parts.iter().enumerate().map(|(place, (region, _))| (*region, if place == 0 { 1.0 } else { 0.0 })).collect();
    step(parts, &home)
}

/// One step from `parts` to `wanted`; whether there was one.
fn step(parts: &mut [(usize, f64)], wanted: &[(usize, f64)]) -> bool {
    let differences = || parts.iter().zip(wanted).map(|((_, part), (_, wanted))| wanted - part);
    let moving: f64 = differences().filter(|it| *it > 0.0).sum();
    // what is nearly back where it belongs goes there at last
    let home = wanted.first().is_some_and(|(_, part)| *part >= 1.0) && moving > 0.0;
    if moving < DEAD_BAND && !home {
        return false;
    }
    let pace = (STEP / moving).min(1.0);
    for ((_, part), (_, wanted)) in parts.iter_mut().zip(wanted) {
        *part += (wanted - *part) * pace;
    }
    true
}

#[cfg(test)]
mod tests;
