//! What a request may be given, of what is stored and of what is being fetched: the rules of a fill, for one node and
//! over a hop to another. They are few lines, and each is needed: `docs/purge-protocol.md` says what breaks without it.

use super::{guard::Standing, lease::within, position::Position};

/// What a site's route promises about staleness, and what this node can vouch for at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vouch {
    /// The route's bound in ms: nothing older than an acknowledged purge is served so long after it. Without one, a purge
    /// takes effect when the node hears of it.
    pub bound_ms: Option<u64>,
    /// Everything acknowledged before this was heard (by [`super::Lease`]); 0 if nothing is sure.
    pub since_ms: u64,
    /// Now, by the same clock.
    pub now_ms: u64,
}

impl Vouch {
    /// Whether the lease holds: nothing that matters is missing.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.bound_ms.is_none_or(|bound_ms| within(bound_ms, self.since_ms, self.now_ms))
    }

    /// Whether something that this node itself confirmed at the origin at `confirmed_ms` (0 if it did not) may be used.
    #[must_use]
    pub fn covers(&self, confirmed_ms: u64) -> bool {
        self.holds()
            || self.bound_ms.is_some_and(|bound_ms| confirmed_ms != 0 && within(bound_ms, confirmed_ms, self.now_ms))
    }
}

/// How a fetch was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Made {
    /// At the origin, by this node or by one that was asked to, after it was asked.
    AtOrigin,
    /// By another node, which may have had it stored or on its way.
    Elsewhere,
}

/// The stamp of what a fetch brought. `at_start` is this node's position before the request left, `covered` how much of
/// this order the other node had heard when it looked.
#[must_use]
pub fn stamp(made: Made, at_start: Position, covered: Position) -> Position {
    match made {
        Made::AtOrigin => at_start,
        Made::Elsewhere => at_start.min(covered),
    }
}

/// When the origin was last known to say so: the start of the fetch, or never (0) if another node answered from what it had.
#[must_use]
pub fn confirmed(made: Made, began_ms: u64) -> u64 {
    match made {
        Made::AtOrigin => began_ms.max(1),
        Made::Elsewhere => 0,
    }
}

/// Whether a request that came when this node was at `arrived` may have what a fetch brought: the fetch reflects all that
/// was applied here by then, or nothing that the response falls under was purged since, as far as can be vouched for.
#[must_use]
pub fn acceptable(arrived: Position, stamp: Position, standing: Standing, vouch: &Vouch, confirmed_ms: u64) -> bool {
    stamp >= arrived || (standing == Standing::Valid && vouch.covers(confirmed_ms))
}

/// Whether a request may wait for a fetch that is under way. Where nothing can be vouched for, only for one at the origin
/// that began within the bound.
#[must_use]
pub fn joinable(made: Made, began_ms: u64, vouch: &Vouch) -> bool {
    vouch.holds() || (made == Made::AtOrigin && vouch.covers(began_ms.max(1)))
}

/// What the fetch for a request has to be: where nothing can be vouched for, one at the origin that begins after it came.
#[must_use]
pub fn demanded(vouch: &Vouch) -> Made {
    if vouch.holds() { Made::Elsewhere } else { Made::AtOrigin }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vouch(since_ms: u64, now_ms: u64) -> Vouch {
        Vouch { bound_ms: Some(1000), since_ms, now_ms }
    }

    #[test]
    fn without_a_bound_what_is_heard_counts_and_nothing_else() {
        let unbounded = Vouch { bound_ms: None, since_ms: 0, now_ms: u64::MAX };
        assert!(unbounded.holds() && unbounded.covers(0));
        assert_eq!(demanded(&unbounded), Made::Elsewhere);
        assert!(joinable(Made::Elsewhere, 0, &unbounded));
    }

    #[test]
    fn without_a_lease_only_what_the_origin_said_within_the_bound_counts() {
        let lapsed = vouch(5000, 7000);
        assert!(!lapsed.holds() && !lapsed.covers(0) && !lapsed.covers(6000) && lapsed.covers(6020));
        assert_eq!(demanded(&lapsed), Made::AtOrigin);
        assert!(!joinable(Made::Elsewhere, 6900, &lapsed), "it may bring what another node has stored");
        assert!(!joinable(Made::AtOrigin, 5900, &lapsed) && joinable(Made::AtOrigin, 6100, &lapsed));
        assert!(vouch(6500, 7000).covers(0));
    }

    #[test]
    fn a_fetch_that_reflects_all_that_was_known_at_arrival_will_do() {
        let lapsed = vouch(0, 7000);
        let may = |stamp, standing, vouch: &Vouch, confirmed_ms| {
            acceptable(Position(5), Position(stamp), standing, vouch, confirmed_ms)
        };
        assert!(may(5, Standing::Stale, &lapsed, 0), "overtaken by a purge that came after the request");
        assert!(!may(4, Standing::Stale, &vouch(6999, 7000), 7000));
        assert!(may(4, Standing::Valid, &vouch(6999, 7000), 0));
        assert!(!may(4, Standing::Valid, &lapsed, 0) && may(4, Standing::Valid, &lapsed, 6900));
        assert!(!may(4, Standing::Soft, &vouch(6999, 7000), 7000));
    }

    #[test]
    fn what_another_node_had_is_no_newer_than_what_it_had_heard() {
        assert_eq!(stamp(Made::AtOrigin, Position(5), Position(2)), Position(5));
        assert_eq!(stamp(Made::Elsewhere, Position(5), Position(2)), Position(2));
        assert_eq!(stamp(Made::Elsewhere, Position(5), Position(9)), Position(5));
        assert_eq!((confirmed(Made::AtOrigin, 0), confirmed(Made::Elsewhere, 9)), (1, 0));
    }
}
