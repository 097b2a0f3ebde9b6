//! Where a site's client is led: to the addresses of one region, in A, AAAA and the hints of HTTPS alike.

use rules::steering::{ADDRESSES_MAX, Addresses, Chosen, Map, Outcome, Policy, Refusal, block_hash, decide};
use wire::dns::{Data, ExtendedErrorCode, Rcode, Record, Reply, Rtype, Service};

use super::{
    counters::Event,
    view::{Asked, Place, refuse},
};

/// The addresses of one family for a client.
pub(super) struct Led<A> {
    addresses: Chosen<A>,
    scope: u8,
    ttl_s: u32,
    event: Event,
}

/// Why there are none.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lack {
    /// There is no such record, for any client.
    NoData,
    /// There must be none.
    Refused(ExtendedErrorCode, Event),
}

impl Lack {
    pub(super) fn answer(self, place: &Place<'_>, asked: &Asked<'_>, buffer: Vec<u8>) -> (Vec<u8>, Event) {
        match self {
            Self::NoData => place.negative(asked, Rcode::NOERROR, buffer),
            Self::Refused(extended, event) => refuse(asked, extended, event, buffer),
        }
    }
}

/// Decides for a client. `reachable` are the regions that may be named, `addresses` gives those of a region.
pub(super) fn led<'a, A: Copy + Into<std::net::IpAddr> + 'a>(
    asked: &Asked<'_>,
    policy: &Policy,
    map: &Map,
    reachable: region_config::RegionMask,
    addresses: impl Fn(usize) -> Option<&'a Addresses<A>>,
) -> Result<Led<A>, Lack> {
    let decision = decide(asked.client, reachable, policy, map, asked.standing);
    let event = match decision.outcome {
        Outcome::Normal | Outcome::Shared | Outcome::Spill => Event::Normal,
        Outcome::Failover | Outcome::Fallback => Event::Failover,
        Outcome::FailStatic => Event::FailStatic,
        Outcome::Refuse(Refusal::NoAddress) => return Err(Lack::NoData),
        Outcome::Refuse(Refusal::NoRegion) => {
            return Err(Lack::Refused(ExtendedErrorCode::INVALID_DATA, Event::NoRegion));
        }
        Outcome::Refuse(Refusal::AllDown) => {
            return Err(Lack::Refused(ExtendedErrorCode::NO_REACHABLE_AUTHORITY, Event::AllDown));
        }
        Outcome::Refuse(Refusal::Invariant) => return Err(INVARIANT),
    };
    let region = decision.region().ok_or(INVARIANT)?;
    let block = block_hash(decision.block(asked.client));
    let addresses = addresses(region).ok_or(INVARIANT)?.choose(block, asked.standing.nodes(region));
    Ok(Led { addresses, scope: decision.scope, ttl_s: decision.ttl_s, event })
}

const INVARIANT: Lack = Lack::Refused(ExtendedErrorCode::INVALID_DATA, Event::Invariant);

impl<A: Copy> Led<A> {
    /// A record for each address.
    pub(super) fn answer<'d>(
        &self,
        place: &Place<'_>,
        asked: &Asked<'_>,
        data: impl Fn(A) -> Data<'d>,
        buffer: Vec<u8>,
    ) -> (Vec<u8>, Event) {
        let mut records = [Record { owner: None, ttl_s: self.ttl_s, data: Data::Minimal }; ADDRESSES_MAX];
        let mut count = 0;
        for (record, address) in records.iter_mut().zip(self.addresses.iter()) {
            record.data = data(address);
            count += 1;
        }
        (tailored(place, asked, &records[..count], (self.scope, self.event), buffer), self.event)
    }
}

/// One HTTPS record whose hints are the addresses that A and AAAA give this client. It holds for as long, and for as many
/// clients, as both do.
pub(super) fn service(
    place: &Place<'_>,
    asked: &Asked<'_>,
    service: &Service,
    (v4, v6): (Result<Led<std::net::Ipv4Addr>, Lack>, Result<Led<std::net::Ipv6Addr>, Lack>),
    buffer: Vec<u8>,
) -> (Vec<u8>, Event) {
    let (v4, v6) = match (v4, v6) {
        (Err(lack @ Lack::Refused(..)), _) | (_, Err(lack @ Lack::Refused(..))) | (Err(lack), Err(_)) => {
            return lack.answer(place, asked, buffer);
        }
        (v4, v6) => (v4.ok(), v6.ok()),
    };
    let terms = [v4.as_ref().map(Led::terms), v6.as_ref().map(Led::terms)];
    let both = terms.into_iter().flatten().reduce(|a, b| (a.0.max(b.0), a.1.min(b.1), a.2));
    let addresses =
        (|| v4.iter().flat_map(|led| led.addresses.iter()), || v6.iter().flat_map(|led| led.addresses.iter()));
    let hints = if place.signs(asked) {
        // in one order for all clients, so that there is one signature for all
        service.with_hints(sorted(addresses.0()), sorted(addresses.1()))
    } else {
        service.with_hints(addresses.0(), addresses.1())
    };
    match (both, Data::composed(Rtype::HTTPS, hints.as_slice())) {
        (Some((scope, ttl_s, event)), Some(data)) => {
            (tailored(place, asked, &[Record { owner: None, ttl_s, data }], (scope, event), buffer), event)
        }
        _ => Lack::NoData.answer(place, asked, buffer),
    }
}

pub(super) fn sorted<A: Ord>(addresses: impl Iterator<Item = A>) -> impl Iterator<Item = A> {
    let mut all: Vec<A> = addresses.collect();
    all.sort_unstable();
    all.into_iter()
}

impl<A> Led<A> {
    fn terms(&self) -> (u8, u32, Event) {
        (self.scope, self.ttl_s, self.event)
    }
}

/// An answer for the clients within `scope`.
fn tailored(
    place: &Place<'_>,
    asked: &Asked<'_>,
    answer: &[Record<'_>],
    (scope, event): (u8, Event),
    buffer: Vec<u8>,
) -> Vec<u8> {
    let reply = Reply { authoritative: true, answer, scope, ..Reply::error(Rcode::NOERROR, None) };
    place.written(asked, &reply, event, buffer)
}
