//! DNSSEC: who asks for signatures gets them, made when a view is published or else with the first answer that needs them.
//!
//! A tailored answer is one of as many sets as there are regions, so that almost all are signed before anybody asks. What
//! cannot be known before is which names are asked for that do not exist: these are denied one by one, each with an NSEC
//! for that name alone (compact denial, RFC 9824), which also tells nobody which other names there are. Such signatures are
//! bounded per second; who comes above that is sent to TCP, where a liar about addresses cannot follow.
//!
//! Signatures hold from a day before the day they are made on for nine days, at all nodes alike.

mod kept;
mod key;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use region_config::Zone;
use wire::dns::{
    Data, DnsName, ExtendedErrorCode, Rcode, Record, Reply, Rtype, TCP_BYTES_MAX, compose, compose_truncated,
    sign::{Set, Signing, nsec, rrsig_head},
};

use self::kept::{Kept, Signatures};
pub use self::key::{KeyFault, KeyFaultKind, ZoneKey};
use super::view::Asked;
use crate::clock;

const DAY_S: u64 = 86_400;
/// From how many days before the day of a signature it holds: other clocks may be behind.
const DAYS_BEFORE: u64 = 1;
/// How many days after that day's start it holds.
const DAYS_AFTER: u64 = 8;
/// For how many days a signature is given out if there is no room to make a new one. A resolver keeps an answer for a day
/// at most, so it still holds then.
const DAYS_GIVEN: u64 = 5;
/// Signatures a second that are made because somebody asks, over UDP and over TCP each: some 3 % of a core.
const PER_SECOND: u64 = 1_000;

/// The signing of one zone.
#[derive(Debug)]
pub(super) struct Signer {
    zone: DnsName,
    /// The first one signs; all sign what is about keys.
    keys: Vec<ZoneKey>,
    /// The data of CDS, one for each key.
    ds: Vec<Vec<u8>>,
    kept: Kept,
    udp: Budget,
    tcp: Budget,
}

/// What is known of a name that is denied, or of which a type is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Denied<'a> {
    /// It does not exist.
    Name,
    /// It exists, and has these types.
    Types(&'a [Rtype]),
}

impl Signer {
    /// Loads the keys of a zone; none if it is not signed.
    pub(super) fn load(zone: &Zone, apex: &DnsName) -> Result<Option<Self>, KeyFault> {
        let keys: Vec<ZoneKey> = zone.dnssec_keys.iter().map(|path| ZoneKey::load(path)).collect::<Result<_, _>>()?;
        let ds = keys.iter().map(|key| key.ds(apex)).collect();
        let signer = |keys| Self {
            zone: apex.clone(),
            keys,
            ds,
            kept: Kept::default(),
            udp: Budget::default(),
            tcp: Budget::default(),
        };
        Ok(Some(keys).filter(|keys| !keys.is_empty()).map(signer))
    }

    /// The data of the zone's DNSKEY or CDNSKEY, of its CDS, or of DS in the zone above.
    pub(super) fn about_keys(&self, rtype: Rtype) -> Vec<Data<'_>> {
        match rtype {
            Rtype::CDS | Rtype::DS => self.ds.iter().filter_map(|data| Data::composed(rtype, data)).collect(),
            _ => self.keys.iter().filter_map(|key| Data::composed(rtype, key.dnskey())).collect(),
        }
    }

    /// Signs a set before anybody asks.
    pub(super) fn publish(&self, set: &Set<'_>, now_unix_s: u64) {
        let _kept = self.signatures(set, now_unix_s, None);
    }

    /// The data of the signatures over a set, made now.
    pub(super) fn sign(&self, set: &Set<'_>, now_unix_s: u64) -> Vec<Vec<u8>> {
        self.signatures(set, now_unix_s, None).map_or_else(Vec::new, |signatures| signatures.data.clone())
    }

    /// Writes the reply with its signatures, and with the denial where something is denied, into `buffer`.
    pub(super) fn compose(
        &self,
        asked: &Asked<'_>,
        reply: &Reply<'_>,
        denied: Option<Denied<'_>>,
        buffer: Vec<u8>,
    ) -> Vec<u8> {
        let is_tcp = asked.bytes_max >= TCP_BYTES_MAX;
        let now_unix_s = clock::unix_ms() / 1_000;
        let denial = denied.map(|denied| denial(asked, denied));
        let budget = if is_tcp { &self.tcp } else { &self.udp };
        let Some(signed) = self.signed(asked, reply, denial.as_deref(), (now_unix_s, budget)) else {
            return if is_tcp {
                compose(
                    asked.query,
                    &Reply::error(Rcode::SERVFAIL, Some(ExtendedErrorCode::NOT_READY)),
                    asked.bytes_max,
                    buffer,
                )
            } else {
                compose_truncated(asked.query, buffer)
            };
        };
        let (answer, authority) = signed.records(reply, denial.as_deref());
        let says_so = asked.query.edns.as_ref().is_some_and(|edns| edns.compact_ok);
        let rcode = if reply.rcode == Rcode::NXDOMAIN && !says_so { Rcode::NOERROR } else { reply.rcode };
        compose(
            asked.query,
            &Reply { rcode, answer: &answer, authority: &authority, ..*reply },
            asked.bytes_max,
            buffer,
        )
    }

    fn signed(
        &self,
        asked: &Asked<'_>,
        reply: &Reply<'_>,
        denial: Option<&[u8]>,
        (now_unix_s, budget): (u64, &Budget),
    ) -> Option<Signed> {
        let owner = asked.query.name.as_slice();
        let sign = |set: &Set<'_>| self.signatures(set, now_unix_s, Some(budget));
        let data: Vec<Data<'_>> = reply.answer.iter().map(|record| record.data).collect();
        let answer = match reply.answer.first() {
            Some(record) => Some(sign(&Set { owner, ttl_s: record.ttl_s, data: &data })?),
            None => None,
        };
        let mut authority = Vec::new();
        for record in reply.authority {
            let owner = record.owner.map(DnsName::as_slice).unwrap_or(owner);
            authority.push(sign(&Set { owner, ttl_s: record.ttl_s, data: &[record.data] })?);
        }
        let denial = match denial {
            Some(data) => {
                let data = [Data::composed(Rtype::NSEC, data)?];
                Some(sign(&Set { owner, ttl_s: denial_ttl_s(reply), data: &data })?)
            }
            None => None,
        };
        Some(Signed { answer, authority, denial })
    }

    /// The signatures over a set, as they are kept or made now. None if there is no room to make them in `budget`.
    fn signatures(&self, set: &Set<'_>, now_unix_s: u64, budget: Option<&Budget>) -> Option<Arc<Signatures>> {
        let canonical = set.canonical()?;
        let hash = *blake3::hash(&canonical).as_bytes();
        let day = now_unix_s / DAY_S;
        let kept = self.kept.get(&hash);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.day == day) {
            return Some(Arc::clone(kept));
        }
        if budget.is_some_and(|budget| !budget.spend(clock::monotonic_ms())) {
            return kept.filter(|kept| (kept.day..kept.day + DAYS_GIVEN).contains(&day));
        }
        let about_keys = matches!(set.rtype()?, Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::CDS);
        let signers = if about_keys { self.keys.as_slice() } else { self.keys.get(..1)? };
        let sign = |key: &ZoneKey| {
            let signing = Signing {
                from_unix_s: day.saturating_sub(DAYS_BEFORE) * DAY_S,
                until_unix_s: until_unix_s(now_unix_s),
                key_tag: key.tag(),
                zone: &self.zone,
            };
            let head = rrsig_head(set, &signing)?;
            let signature = key.sign(&[head.as_slice(), &canonical].concat())?;
            Some([head, signature].concat())
        };
        let data = signers.iter().map(sign).collect::<Option<_>>()?;
        let signatures = Arc::new(Signatures { day, data });
        self.kept.put(hash, Arc::clone(&signatures));
        Some(signatures)
    }
}

/// Until when signatures that are made now hold, in seconds since the Unix epoch.
pub(super) fn until_unix_s(now_unix_s: u64) -> u64 {
    (now_unix_s / DAY_S + DAYS_AFTER) * DAY_S
}

/// NSEC's data for the name that was asked for. The type that was asked for is not among its types, whatever is said here.
fn denial(asked: &Asked<'_>, denied: Denied<'_>) -> Vec<u8> {
    let own = [Rtype::RRSIG, Rtype::NSEC];
    let types: &[Rtype] = match denied {
        Denied::Name => &[Rtype::NXNAME],
        Denied::Types(types) => types,
    };
    let all = types.iter().copied().filter(|rtype| *rtype != asked.query.rtype).chain(own);
    nsec(asked.query.name.as_slice(), all)
}

/// For how long a denial may be kept: as long as the SOA beside it (RFC 9077 section 3).
fn denial_ttl_s(reply: &Reply<'_>) -> u32 {
    reply.authority.first().map_or(0, |record| record.ttl_s)
}

/// The signatures of a reply.
struct Signed {
    answer: Option<Arc<Signatures>>,
    /// One for each record.
    authority: Vec<Arc<Signatures>>,
    denial: Option<Arc<Signatures>>,
}

impl Signed {
    /// Answer and authority of the reply, each set with its signatures behind it.
    fn records<'a>(&'a self, reply: &Reply<'a>, denial: Option<&'a [u8]>) -> (Vec<Record<'a>>, Vec<Record<'a>>) {
        let mut answer = reply.answer.to_vec();
        if let (Some(first), Some(signatures)) = (reply.answer.first(), &self.answer) {
            answer.extend(signature_records(first, signatures));
        }
        let mut authority = Vec::new();
        for (record, signatures) in reply.authority.iter().zip(&self.authority) {
            authority.push(*record);
            authority.extend(signature_records(record, signatures));
        }
        let nsec = denial.and_then(|data| Data::composed(Rtype::NSEC, data));
        if let (Some(data), Some(signatures)) = (nsec, &self.denial) {
            let record = Record { owner: None, ttl_s: denial_ttl_s(reply), data };
            authority.push(record);
            authority.extend(signature_records(&record, signatures));
        }
        (answer, authority)
    }
}

fn signature_records<'a>(over: &Record<'a>, signatures: &'a Signatures) -> impl Iterator<Item = Record<'a>> {
    let Record { owner, ttl_s, .. } = *over;
    let composed = signatures.data.iter().filter_map(|data| Data::composed(Rtype::RRSIG, data));
    composed.map(move |data| Record { owner, ttl_s, data })
}

/// So many a second, and a second's worth at once.
#[derive(Debug, Default)]
struct Budget {
    /// When all that was spent is paid for, in ms of the monotonic clock.
    paid_ms: AtomicU64,
}

impl Budget {
    const PRICE_MS: u64 = 1_000 / PER_SECOND;

    fn spend(&self, now_ms: u64) -> bool {
        let spent = self.paid_ms.fetch_update(Relaxed, Relaxed, |paid_ms| {
            let paid_ms = paid_ms.max(now_ms) + Self::PRICE_MS;
            (paid_ms <= now_ms + 1_000).then_some(paid_ms)
        });
        spent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_signatures_a_second_and_no_more() {
        let budget = Budget::default();
        let spent = |now_ms| (0..5_000).filter(|_| budget.spend(now_ms)).count();
        assert_eq!(spent(10_000), 1_000);
        assert_eq!(spent(10_000), 0);
        assert_eq!(spent(10_250), 250);
        assert_eq!(spent(100_000), 1_000);
    }
}
