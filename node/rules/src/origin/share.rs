//! Bulkheads: how much of the node's fetches one site may have under way.
//!
//! A site may have as many as are still free on the node (dynamic thresholds, Choudhury and Hahne, "Dynamic Queue Length
//! Thresholds for Shared-Memory Packet Switches", 1998, with a factor of 1). Alone it gets half of the node, two greedy
//! ones a third each, and so on, with nothing to configure per site. Greedy sites that come one after the other could
//! still leave nothing, each taking half of the rest; so an eighth of the node is for sites that have next to nothing.

/// Fetches that every site may have as long as the node has any.
const FEW: usize = 8;

/// Whether a site with `own` fetches under way may begin another, when all sites together have `all` of `most`.
#[must_use]
pub fn has_share(own: usize, all: usize, most: usize) -> bool {
    let shared = most - most / 8;
    own < shared.saturating_sub(all) || (own < FEW && all < most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 8_000;

    /// Lets greedy sites take turns, or one after the other take all they get, until none gets anything more.
    fn fill(greedy: usize, in_turns: bool) -> Vec<usize> {
        let mut own = vec![0; greedy];
        loop {
            let all: usize = own.iter().sum();
            let mut able: Vec<_> = (0..greedy).filter(|site| has_share(own[*site], all, MOST)).collect();
            if in_turns {
                able.sort_by_key(|site| own[*site]);
            }
            let Some(site) = able.first() else { return own };
            own[*site] += 1;
        }
    }

    #[test]
    fn hung_sites_take_their_part_of_the_node_and_no_more() {
        assert_eq!(fill(1, true), [3_500]);
        assert_eq!(fill(2, true), [2_334, 2_333]);
        assert!(!has_share(0, MOST, MOST) && !has_share(0, 0, 0));
        assert!(has_share(0, 0, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn however_many_are_hung_another_site_gets_something(greedy in 1usize..60, in_turns in any::<bool>()) {
            let all: usize = fill(greedy, in_turns).iter().sum();
            prop_assert!(all < MOST);
            prop_assert!(has_share(FEW - 1, all, MOST));
        }
    }
}
