//! Lists of regions, best first: few of them, each kept once.

use std::collections::HashMap;

use region_config::{Force, RegionMask};

use super::{
    address::mix,
    base::Location,
    places::Places,
    round_trips::RoundTrips,
    wishes::{Rule, Wishes},
};

/// How many places of a list the client's own distance decides. Behind them the regions stand by their distance from the
/// first one: the same tail for all who have that first region, so that there are few lists and wide scopes.
const NEAREST: usize = 3;

pub(super) struct Lists<'a> {
    places: &'a Places,
    wishes: &'a Wishes,
    trips: &'a RoundTrips,
    all: Vec<u8>,
    masks: Vec<RegionMask>,
    /// For each list, whether a rule says which regions come first.
    preferred: Vec<bool>,
    /// Lists by their first places, before the rule with this index: what spares making a list only to find it known.
    begun: HashMap<(Option<usize>, [u8; NEAREST]), u32>,
    known: HashMap<(Vec<u8>, RegionMask, bool), u32>,
    without_data: Vec<u8>,
}

impl<'a> Lists<'a> {
    /// Lists that begin with the one for no data. `asked` is the region of the node that answers.
    pub(super) fn new(places: &'a Places, wishes: &'a Wishes, trips: &'a RoundTrips, asked: Option<u8>) -> Self {
        let mut without_data = match (wishes.no_data(), asked) {
            ([], Some(index)) => with_tail(&[index], places.from(index)),
            ([], None) => places.configured(),
            (order @ [first, ..], _) => with_tail(order, places.from(*first)),
        };
        // priorities come before everything but rules
        without_data.sort_by_key(|region| places.class(*region));
        let (begun, known) = (HashMap::new(), HashMap::new());
        let (all, masks, preferred) = (Vec::new(), Vec::new(), Vec::new());
        let mut lists = Self { places, wishes, trips, all, masks, preferred, begun, known, without_data };
        lists.kept(lists.without_data.clone(), None);
        lists
    }

    /// The numbers of the lists for all locations, where no rule for a block says otherwise.
    pub(super) fn of_all(&mut self, locations: &[Location]) -> Vec<u32> {
        locations.iter().map(|location| self.of(location, self.wishes.rule_of(location))).collect()
    }

    /// The number of the list for a location under a rule, by the rule's index.
    pub(super) fn of(&mut self, location: &Location, rule: Option<usize>) -> u32 {
        let Some(point) = location.point.filter(|_| self.places.count() > 0) else {
            return self.kept(self.without_data.clone(), rule);
        };
        let tie = location.country.map_or(0, |code| mix(u64::from(u16::from_be_bytes(code))));
        let mut nearest = if self.trips.is_empty() {
            self.places.by_cost(Some(point), tie)
        } else {
            self.places.by_measured(location, tie, self.trips)
        };
        nearest.truncate(NEAREST);
        let heads = (rule, std::array::from_fn(|at| nearest.get(at).copied().unwrap_or(u8::MAX)));
        if let Some(id) = self.begun.get(&heads) {
            return *id;
        }
        let tail = nearest.first().map_or(&[][..], |first| self.places.from(*first));
        let id = self.kept(with_tail(&nearest, tail), rule);
        self.begun.insert(heads, id);
        id
    }

    /// The number of a list under a rule; a new one if it is not known.
    fn kept(&mut self, list: Vec<u8>, rule: Option<usize>) -> u32 {
        let rule = rule.and_then(|at| self.wishes.rules().get(at));
        let (list, mask) = ruled(list, rule, self.wishes.eligible());
        let preferred = rule.is_some_and(|rule| rule.force == Force::Prefer);
        let key = (list, mask, preferred);
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        let id = u32::try_from(self.masks.len()).unwrap_or(0);
        self.all.extend_from_slice(&key.0);
        self.masks.push(mask);
        self.preferred.push(preferred);
        self.known.insert(key, id);
        id
    }

    /// Every list with the regions that may be named to its clients, and whether a rule says which come first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], RegionMask, bool)> {
        let length = self.places.count();
        let list = move |at: usize| self.all.get(at * length..(at + 1) * length).unwrap_or(&[]);
        let each = self.masks.iter().zip(&self.preferred).enumerate();
        each.map(move |(at, (mask, preferred))| (list(at), *mask, *preferred))
    }

    /// All lists, one after the other, and their masks.
    pub(super) fn finish(self) -> (Vec<u8>, Vec<RegionMask>) {
        (self.all, self.masks)
    }
}

/// A list under a rule, and the regions that may then be named.
fn ruled(list: Vec<u8>, rule: Option<&Rule>, eligible: RegionMask) -> (Vec<u8>, RegionMask) {
    let Some(rule) = rule else { return (list, eligible) };
    let mask = match rule.force {
        Force::Only => eligible & rule.mask,
        Force::Prefer => eligible,
    };
    let first = |region: &u8| eligible >> region & 1 == 1;
    let head: Vec<u8> = match rule.force {
        // which of them is nearest, the list knows
        Force::Only => list.iter().filter(|region| mask >> **region & 1 == 1).copied().collect(),
        Force::Prefer => rule.regions.iter().copied().filter(first).collect(),
    };
    (with_tail(&head, &list), mask)
}

/// `head`, then what is in `rest` and not in it, in the order of `rest`.
fn with_tail(head: &[u8], rest: &[u8]) -> Vec<u8> {
    head.iter().chain(rest.iter().filter(|index| !head.contains(index))).copied().collect()
}
