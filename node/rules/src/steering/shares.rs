//! How the clients of a list are shared out among its regions: by weights that the site wishes, or by load.

use region_config::RegionMask;

use super::{address::mix, wishes::Wishes};

/// What tells the draw of who is admitted from the draw of a spread.
const ADMITTED: u64 = 0x6d65_7269_6469_616e;
/// Parts below this are none.
const LEAST_PART: f64 = 0.0005;

/// How the clients of each list are shared out. Of a list that is not in it, all go to the first region.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shares {
    /// By the list's number.
    spreads: Vec<Option<Spread>>,
    /// Whether load has made them, so that they will change.
    by_load: bool,
}

/// How the clients of one list are shared out: among two regions or more, or all to another than the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread(Box<[Part]>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    region: u8,
    /// What the region gets beside the others.
    weight: f64,
    /// The same of the clients whom the list's first region, which has just come back, does not take yet.
    meanwhile: f64,
}

/// What part of a list's clients each of its regions gets, in the list's order: from 0 to 1, and 1 together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parted<'a> {
    /// Of all; or while the first one has just come back, of those whom it takes.
    pub parts: &'a [(usize, f64)],
    /// Of those whom it does not take yet.
    pub meanwhile: &'a [(usize, f64)],
}

impl<'a> From<&'a [(usize, f64)]> for Parted<'a> {
    fn from(parts: &'a [(usize, f64)]) -> Self {
        Self { parts, meanwhile: &[] }
    }
}

impl Shares {
    /// By the weights that a site wishes. Each list comes with the regions that may be named to its clients, and with
    /// whether a rule says which of them come first: then there is nothing to share out.
    pub(super) fn wished<'a>(wishes: &Wishes, lists: impl Iterator<Item = (&'a [u8], RegionMask, bool)>) -> Self {
        if (0..64).all(|region| wishes.weight(region).is_none()) {
            return Self::default();
        }
        let spread = |(list, mask, ruled): (&[u8], RegionMask, bool)| {
            let weight = |region: u8| wishes.weight(usize::from(region)).unwrap_or(0);
            let mut weighted = list.iter().copied().filter(|region| mask >> region & 1 == 1 && weight(*region) > 0);
            let first = weighted.clone().map(|region| wishes.priority(usize::from(region))).min()?;
            let parts = weighted.by_ref().filter(|region| wishes.priority(usize::from(*region)) == first);
            if ruled { None } else { Spread::new(parts.map(|region| (region, f64::from(weight(region))))) }
        };
        Self { spreads: lists.map(spread).collect(), by_load: false }
    }

    /// By load: for each list, by its number, its regions with the fraction of its clients that each gets.
    #[must_use]
    pub fn by_load<'a>(lists: impl Iterator<Item = Parted<'a>>) -> Self {
        Self { spreads: lists.map(Spread::by_load).collect(), by_load: true }
    }

    /// Whether load has made them, so that they will change.
    #[must_use]
    pub fn are_by_load(&self) -> bool {
        self.by_load
    }

    /// Whether any list is shared out.
    #[must_use]
    pub fn are_some(&self) -> bool {
        self.spreads.iter().any(Option::is_some)
    }

    /// How a list is shared out; none if all of its clients go to its first region.
    #[must_use]
    pub fn of(&self, list: usize) -> Option<&Spread> {
        self.spreads.get(list)?.as_ref()
    }
}

impl Spread {
    /// Shares for these regions; none if fewer than two have a part.
    fn new(parts: impl Iterator<Item = (u8, f64)>) -> Option<Self> {
        Some(Self::of(parts)).filter(|spread| spread.0.len() > 1)
    }

    /// Shares for those of these regions that have a part.
    fn of(parts: impl Iterator<Item = (u8, f64)>) -> Self {
        let having = parts.filter(|(_, weight)| is_some(*weight));
        Self(having.map(|(region, weight)| Part { region, weight, meanwhile: 0.0 }).collect())
    }

    /// None if all go where they would go anyway. One region alone may have all if that is another one than the first.
    fn by_load(of: Parted<'_>) -> Option<Self> {
        let some =
            |(region, part): &(usize, f64)| Some((u8::try_from(*region).ok()?, *part)).filter(|_| is_some(*part));
        let mut parts: Vec<Part> =
            of.parts.iter().filter_map(some).map(|(region, weight)| Part { region, weight, meanwhile: 0.0 }).collect();
        for (region, meanwhile) in of.meanwhile.iter().filter_map(some) {
            match parts.iter_mut().find(|part| part.region == region) {
                Some(part) => part.meanwhile = meanwhile,
                None => parts.push(Part { region, weight: 0.0, meanwhile }),
            }
        }
        let strays = |of: &[(usize, f64)]| {
            of.first().is_some_and(|first| of.iter().filter_map(some).any(|(region, _)| usize::from(region) != first.0))
        };
        (strays(of.parts) || strays(of.meanwhile)).then(|| Self(parts.into()))
    }

    /// The region of the client with this number among those of `mask`: each gets its part of all numbers, and when the
    /// parts change, few numbers move (weighted rendezvous hashing). Allocates nothing.
    #[must_use]
    pub fn choose(&self, number: u64, mask: RegionMask) -> Option<u8> {
        self.drawn(number, mask, |part| part.weight)
    }

    /// The same for a client whom the list's first region, which has just come back, does not take yet; `mask` is without it.
    pub(super) fn choose_meanwhile(&self, number: u64, mask: RegionMask) -> Option<u8> {
        self.drawn(number, mask, |part| part.meanwhile).or_else(|| self.choose(number, mask))
    }

    fn drawn(&self, number: u64, mask: RegionMask, weight: impl Fn(&Part) -> f64) -> Option<u8> {
        let among = self.0.iter().filter(|part| mask >> part.region & 1 == 1 && weight(part) > 0.0);
        let drawn = among.map(|part| (draw(number, part.region) / weight(part), part.region));
        drawn.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, region)| region)
    }

    /// What part of the clients a region gets while all are healthy, from 0 to 1.
    #[must_use]
    pub fn part(&self, region: usize) -> f64 {
        self.fraction(region, |part| part.weight)
    }

    /// The same of the clients whom the list's first region does not take yet; none if all of those go to the next one.
    pub(super) fn part_meanwhile(&self, region: usize) -> Option<f64> {
        self.0.iter().any(|part| part.meanwhile > 0.0).then(|| self.fraction(region, |part| part.meanwhile))
    }

    fn fraction(&self, region: usize, weight: impl Fn(&Part) -> f64) -> f64 {
        let all: f64 = self.0.iter().map(&weight).sum();
        self.0
            .iter()
            .find(|part| usize::from(part.region) == region)
            .map_or(0.0, |part| weight(part) / all.max(LEAST_PART))
    }

    pub(super) fn has(&self, region: usize) -> bool {
        self.0.iter().any(|part| usize::from(part.region) == region && part.weight > 0.0)
    }
}

fn is_some(part: f64) -> bool {
    part.is_finite() && part > LEAST_PART
}

/// Whether the client with this number is among the part, from 0 to 1, that a region takes of those who are led to it: when
/// the part grows, none leaves. Of which region it is a client by its part of a spread says nothing about that.
pub(super) fn admitted(number: u64, region: u8, part: f64) -> bool {
    draw(mix(number ^ ADMITTED), region) <= part.ln()
}

/// The logarithm of a number from 0 to 1 that belongs to this client and region.
fn draw(number: u64, region: u8) -> f64 {
    let bits = mix(number ^ mix(u64::from(region) + 1)) >> 11;
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what a float holds")]
    let uniform = (bits + 1) as f64 / (1u64 << 53) as f64;
    uniform.ln()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    const CLIENTS: u64 = 20_000;

    fn spread(parts: &[f64]) -> Option<Spread> {
        Spread::new(parts.iter().enumerate().map(|(region, part)| (u8::try_from(region).unwrap(), *part)))
    }

    /// The region of each of many clients.
    fn chosen(spread: &Spread, mask: RegionMask) -> Vec<u8> {
        (0..CLIENTS).map(|client| spread.choose(mix(client), mask).unwrap()).collect()
    }

    #[test]
    fn each_region_gets_its_part() {
        let spread = spread(&[0.5, 0.0, 0.3, 0.2]).unwrap();
        let of =
            |clients: &[u8], region: u8| clients.iter().filter(|it| **it == region).count() as f64 / CLIENTS as f64;
        let all = chosen(&spread, !0);
        for (region, part) in [(0, 0.5), (1, 0.0), (2, 0.3), (3, 0.2)] {
            assert!((of(&all, region) - part).abs() < 0.015, "region {region} got {}", of(&all, region));
            assert!((spread.part(usize::from(region)) - part).abs() < 1e-9);
        }
        let left = chosen(&spread, 0b1100);
        assert!((of(&left, 2) - 0.6).abs() < 0.015);
    }

    #[test]
    fn one_region_alone_is_not_shared_out() {
        assert_eq!(spread(&[0.0, 1.0]), None);
        assert_eq!(spread(&[f64::NAN, 1.0, 0.0001]), None);
    }

    /// All of them stayed at the first one, as if nothing were shared out.
    #[test]
    fn load_may_lead_all_clients_of_a_list_on() {
        let lists: [&[(usize, f64)]; 4] =
            [&[(0, 0.0), (2, 1.0), (1, 0.0)], &[(0, 1.0), (2, 0.0)], &[(0, 0.5), (1, 0.5)], &[]];
        let shares = Shares::by_load(lists.into_iter().map(Parted::from));
        assert_eq!(shares.of(0).map(|spread| (spread.choose(7, !0), spread.choose(7, 0b011))), Some((Some(2), None)));
        assert!(shares.of(1).is_none() && shares.of(2).is_some() && shares.of(3).is_none());
    }

    #[test]
    fn a_region_that_fails_moves_its_own_clients_only() {
        let spread = spread(&[0.4, 0.3, 0.3]).unwrap();
        for (before, after) in chosen(&spread, !0).iter().zip(chosen(&spread, 0b101)) {
            assert!(*before == after || *before == 1);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("MERIDIAN_LONG").is_some() { 2_000 } else { 40 }))]

        #[test]
        fn few_clients_move_when_parts_change(
            before in prop::collection::vec(0.05f64..1.0, 2..6),
            region in 0usize..6,
            by in 0.3f64..3.0,
        ) {
            let region = region % before.len();
            let mut after = before.clone();
            after[region] *= by;
            let (before, after) = (spread(&before).unwrap(), spread(&after).unwrap());
            let least: f64 = (0..6).map(|at| (after.part(at) - before.part(at)).max(0.0)).sum();
            let moved = chosen(&before, !0).iter().zip(chosen(&after, !0)).filter(|(a, b)| **a != *b).count();
            let moved = moved as f64 / CLIENTS as f64;
            prop_assert!(moved <= 1.3 * least + 0.02, "moved {moved}, least {least}");
        }
    }
}
