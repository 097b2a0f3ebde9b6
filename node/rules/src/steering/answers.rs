//! Which addresses of the chosen region are given out.

use super::address::mix;

/// Most addresses in one answer.
pub const ADDRESSES_MAX: usize = 8;

/// An address of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<A> {
    /// The address.
    pub address: A,
    /// The node's index in its region.
    pub node: u8,
    /// A number that differs from address to address and is the same on every node.
    pub weight: u64,
}

/// The addresses of one region, of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses<A>(Vec<Endpoint<A>>);

/// Up to [`ADDRESSES_MAX`] addresses, in the order they are given out.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<A> {
    endpoints: [Option<(u64, A)>; ADDRESSES_MAX],
}

impl<A: Copy> Chosen<A> {
    /// The addresses, in order.
    pub fn iter(&self) -> impl Iterator<Item = A> + '_ {
        self.endpoints.iter().flatten().map(|(_, address)| *address)
    }
}

impl<A: Copy + Into<std::net::IpAddr>> Addresses<A> {
    /// The addresses, each with the index of its node in the region.
    pub fn new(addresses: impl IntoIterator<Item = (usize, A)>) -> Self {
        let endpoint = |(node, address): (usize, A)| {
            let bits = match address.into() {
                std::net::IpAddr::V4(v4) => u128::from(v4.to_bits()),
                std::net::IpAddr::V6(v6) => v6.to_bits(),
            };
            #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
            let weight = mix(mix((bits >> 64) as u64) ^ bits as u64);
            Endpoint { address, node: u8::try_from(node).unwrap_or(u8::MAX), weight }
        };
        Self(addresses.into_iter().map(endpoint).collect())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Chooses for a block of clients (`block` from [`super::block_hash`]): addresses of nodes that are Up if there is
    /// one, else of nodes that are not known to be Down, else of all; in an order that differs from block to block and
    /// stays when other nodes come and go (highest random weight). `nodes` are the two masks of
    /// [`super::Standing::nodes`]. Allocates nothing.
    #[must_use]
    pub fn choose(&self, block: u64, nodes: (u64, u64)) -> Chosen<A> {
        let having = |mask: u64| self.0.iter().any(|endpoint| alive(mask, endpoint.node));
        let mask = [nodes.0, nodes.1].into_iter().find(|mask| having(*mask)).unwrap_or(u64::MAX);
        let mut chosen = Chosen { endpoints: [None; ADDRESSES_MAX] };
        for endpoint in self.0.iter().filter(|endpoint| alive(mask, endpoint.node)) {
            insert(&mut chosen.endpoints, (mix(endpoint.weight ^ block), endpoint.address));
        }
        chosen
    }
}

/// Nodes behind the 64th are never known to be anything, so only the mask of all has them.
fn alive(mask: u64, node: u8) -> bool {
    mask == u64::MAX || mask.checked_shr(u32::from(node)).unwrap_or(0) & 1 == 1
}

/// Puts a new one in its place by weight, highest first; the lowest falls out.
fn insert<A: Copy>(endpoints: &mut [Option<(u64, A)>; ADDRESSES_MAX], new: (u64, A)) {
    let mut carried = Some(new);
    for place in endpoints {
        let lighter = match (*place, carried) {
            (Some((here, _)), Some((weight, _))) => here < weight,
            (None, Some(_)) => true,
            (_, None) => return,
        };
        if lighter {
            std::mem::swap(place, &mut carried);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn addresses(count: u8) -> Addresses<Ipv4Addr> {
        Addresses::new((0..count).map(|n| (usize::from(n), Ipv4Addr::new(198, 51, 100, n))))
    }

    fn chosen(addresses: &Addresses<Ipv4Addr>, block: u64, nodes: (u64, u64)) -> Vec<u8> {
        addresses.choose(block, nodes).iter().map(|address| address.octets()[3]).collect()
    }

    #[test]
    fn only_nodes_that_are_up_are_named_if_one_is() {
        let three = addresses(3);
        assert_eq!(chosen(&three, 1, (0b010, !0)), [1]);
        assert_eq!(chosen(&three, 1, (0, 0b100)), [2]);
        assert_eq!(chosen(&three, 1, (0, 0)).len(), 3);
        assert_eq!(chosen(&three, 1, (0b1000, 0b1000)).len(), 3);
    }

    #[test]
    fn at_most_eight_are_named_and_another_nodes_death_does_not_reorder_them() {
        let twelve = addresses(12);
        let before = chosen(&twelve, 77, (!0, !0));
        assert_eq!(before.len(), ADDRESSES_MAX);
        let dead = before[2];
        let after = chosen(&twelve, 77, (0xfff & !(1 << dead), !0));
        let kept: Vec<u8> = before.iter().copied().filter(|n| *n != dead).collect();
        assert_eq!(after[..7], kept);
    }

    #[test]
    fn blocks_are_spread_over_the_nodes() {
        let four = addresses(4);
        let mut first = [0; 4];
        for block in 0..4000 {
            first[usize::from(chosen(&four, mix(block), (!0, !0))[0])] += 1;
        }
        assert!(first.iter().all(|count| (850..1150).contains(count)), "{first:?}");
    }
}
