//! The classes of the clients that a thread saw last: so that a request costs a look into a small table and not a search.

use std::{cell::Cell, net::IpAddr};

use rules::steering::{Block, block_hash};

/// A power of two.
const PLACES: usize = 256;

/// What is known of one client: a sum of who it is and what it asked, and its class. No address is kept.
#[derive(Debug, Clone, Copy)]
struct Seen {
    sum: u64,
    class: u32,
}

thread_local! {
    static SEEN: [Cell<Seen>; PLACES] = const { [const { Cell::new(Seen { sum: 0, class: 0 }) }; PLACES] };
}

/// The class of a client of a site under a plan; `find` is asked if this thread has not seen it lately.
#[inline]
pub(super) fn class(plan: u64, site: usize, address: IpAddr, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
    let asked = (plan << 32 ^ site as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // 0 stands for nothing
    let sum = (block_hash(Block { first: address, length: 0 }) ^ asked) | 1;
    let known = SEEN.try_with(|seen| {
        let place = &seen[place_of(sum)];
        let known = place.get();
        if known.sum == sum { Ok(known.class) } else { Err(()) }
    });
    match known {
        Ok(Ok(class)) => Some(class),
        // a thread that is being torn down has no table any more
        Err(_) => find(),
        Ok(Err(())) => {
            let class = find()?;
            let _gone = SEEN.try_with(|seen| seen[place_of(sum)].set(Seen { sum, class }));
            Some(class)
        }
    }
}

/// Below [`PLACES`].
#[inline]
fn place_of(sum: u64) -> usize {
    #[allow(clippy::cast_possible_truncation, reason = "some bits of it are meant")]
    let bits = (sum >> 32) as usize;
    bits % PLACES
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_client_is_looked_up_once_for_each_site_and_plan() {
        let mut found = 0;
        let mut ask = |plan, site, last: u8| {
            class(plan, site, IpAddr::from([192, 0, 2, last]), || {
                found += 1;
                Some(found)
            })
            .unwrap()
        };
        let first = ask(1, 0, 1);
        assert_eq!((first, ask(1, 0, 1), ask(1, 0, 1)), (1, 1, 1));
        assert_eq!((ask(1, 1, 1), ask(2, 0, 1), ask(1, 0, 2)), (2, 3, 4));
        assert_eq!(class(1, 7, IpAddr::from([0; 4]), || None), None, "what is not known is asked again");
        assert_eq!(class(1, 7, IpAddr::from([0; 4]), || Some(9)), Some(9));
    }
}
