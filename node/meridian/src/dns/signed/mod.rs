//! DNSSEC: who asks for signatures gets them, made when a view is published or else with the first answer that needs them.
//!
//! A tailored answer is one of as many sets as there are regions, so that almost all are signed before anybody asks. What
//! cannot be known before is which names are asked for that do not exist: these are denied one by one, each with an NSEC
//! for that name alone (compact denial, RFC 9824), which also tells nobody which other names there are. Such signatures are
//! bounded per second, and of that each block of senders has a part; who comes above that is sent to TCP, where a liar about
//! addresses cannot follow. Names that the config has get their signatures, and keep them, apart from all others: of those
//! there is no end, and a flood for them leaves what sites need alone.
//!
//! Signatures hold from a day before the day they are made on for nine days, at all nodes alike. What was made before anybody
//! asked is made anew each day in the background.

mod budget;
mod kept;
mod key;

use std::{iter, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use region_config::Zone;
use wire::dns::{
    Data, DnsName, ExtendedErrorCode, Rcode, Record, Reply, Rtype, TCP_BYTES_MAX, compose, compose_truncated,
    sign::{Set, Signing, nsec, nsec_delegated, rrsig_head},
};

pub use self::key::{KeyFault, KeyFaultKind, ZoneKey};
use self::{
    budget::Budget,
    kept::{Kept, Published, Signatures},
};
use super::{
    counters::Event,
    view::{Asked, View},
};
use crate::{clock, tasks::Tasks};

const DAY_S: u64 = 86_400;
/// From how many days before the day of a signature it holds: other clocks may be behind.
const DAYS_BEFORE: u64 = 1;
/// How many days after that day's start it holds.
const DAYS_AFTER: u64 = 8;
/// How often somebody looks whether a day has begun on which what was published is to be made anew.
const LOOK: Duration = Duration::from_secs(600);

/// The signing of one zone.
#[derive(Debug)]
pub(super) struct Signer {
    zone: DnsName,
    /// The first one signs; all sign what is about keys.
    keys: Vec<ZoneKey>,
    /// The data of CDS, one for each key.
    ds: Vec<Vec<u8>>,
    published: Published,
    /// For names that the config has.
    listed: OnDemand,
    /// For all other names: those that do not exist, and those that a pattern covers.
    unlisted: OnDemand,
}

/// What is signed because somebody asks.
#[derive(Debug, Default)]
struct OnDemand {
    kept: Kept,
    udp: Budget,
    tcp: Budget,
}

/// What is known of a name that is denied, or of which a type is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Denied<'a> {
    /// It does not exist.
    Name,
    /// Another zone begins there, which is not signed.
    Delegated,
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
            published: Published::default(),
            listed: OnDemand::default(),
            unlisted: OnDemand::default(),
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

    /// Signs a set before anybody asks, if that was not done today, and keeps its signatures for as long as the zone is.
    pub(super) fn publish(&self, set: &Set<'_>, now_unix_s: u64) {
        let Some((canonical, hash)) = identified(set) else { return };
        if self.published.get(&hash).is_some_and(|known| known.day == now_unix_s / DAY_S) {
            return;
        }
        if let Some(made) = self.made(set, &canonical, now_unix_s) {
            self.published.put(hash, Arc::new(made));
        }
    }

    /// The data of the signatures over a set, made now.
    pub(super) fn sign(&self, set: &Set<'_>, now_unix_s: u64) -> Vec<Vec<u8>> {
        let made = set.canonical().and_then(|canonical| self.made(set, &canonical, now_unix_s));
        made.map_or_else(Vec::new, |signatures| signatures.data)
    }

    /// Writes the reply, which is counted as `event`, with its signatures, and with the denial where something is denied,
    /// into `buffer`.
    pub(super) fn compose(
        &self,
        asked: &Asked<'_>,
        reply: &Reply<'_>,
        (event, denied): (Event, Option<Denied<'_>>),
        buffer: Vec<u8>,
    ) -> Vec<u8> {
        let denial = denied.map(|denied| self.denial(asked, denied));
        let asking = Asking { asked, event, now_unix_s: clock::unix_ms() / 1_000 };
        let Some(signed) = self.signed(&asking, reply, denial.as_deref()) else {
            return unsigned(asked, buffer);
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

    /// Writes the answer to who asks for NSEC or RRSIG itself into `buffer`: each name has an NSEC, and that a signature. A
    /// denial would deny itself (RFC 4035 section 5.4). Of signatures, one is enough (RFC 8482).
    pub(super) fn compose_own(&self, asked: &Asked<'_>, (held, ttl_s): (Denied<'_>, u32), buffer: Vec<u8>) -> Vec<u8> {
        let nsec = self.denial(asked, held);
        let Some(data) = Data::composed(Rtype::NSEC, &nsec) else { return unsigned(asked, buffer) };
        let nsec = Record { owner: None, ttl_s, data };
        let set = Set { owner: asked.query.name.as_slice(), ttl_s, data: &[data] };
        let is_wanted = asked.query.rtype == Rtype::RRSIG || asked.query.wants_dnssec();
        let asking = Asking { asked, event: Event::Zone, now_unix_s: clock::unix_ms() / 1_000 };
        let signatures = match is_wanted.then(|| self.signatures(&set, &asking)) {
            Some(None) => return unsigned(asked, buffer),
            made => made.flatten(),
        };
        let signatures = signatures.iter().flat_map(|signatures| signature_records(&nsec, signatures));
        let answer: Vec<_> = iter::once(nsec).filter(|_| asked.query.rtype == Rtype::NSEC).chain(signatures).collect();
        let reply = Reply { authoritative: true, answer: &answer, ..Reply::error(Rcode::NOERROR, None) };
        compose(asked.query, &reply, asked.bytes_max, buffer)
    }

    /// NSEC's data for the name that was asked for. The type that was asked for is not among its types, whatever is said
    /// here.
    fn denial(&self, asked: &Asked<'_>, denied: Denied<'_>) -> Vec<u8> {
        let own = [Rtype::RRSIG, Rtype::NSEC];
        let types: &[Rtype] = match denied {
            Denied::Name => &[Rtype::NXNAME],
            Denied::Delegated => &[Rtype::NS],
            Denied::Types(types) => types,
        };
        let all = types.iter().copied().filter(|rtype| *rtype != asked.query.rtype).chain(own);
        let owner = asked.query.name.as_slice();
        match denied {
            Denied::Delegated => nsec_delegated(owner, &self.zone, all),
            Denied::Name | Denied::Types(_) => nsec(owner, &self.zone, all),
        }
    }

    fn signed(&self, asking: &Asking<'_>, reply: &Reply<'_>, denial: Option<&[u8]>) -> Option<Signed> {
        let owner = asking.asked.query.name.as_slice();
        let sign = |set: &Set<'_>| self.signatures(set, asking);
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

    /// The signatures over a set, as they were published, are kept, or are made now. None if who asks may have none made.
    fn signatures(&self, set: &Set<'_>, asking: &Asking<'_>) -> Option<Arc<Signatures>> {
        let (canonical, hash) = identified(set)?;
        let day = asking.now_unix_s / DAY_S;
        if let Some(published) = self.published.get(&hash).filter(|published| published.are_given(day)) {
            return Some(published);
        }
        let on_demand = if asking.is_listed() { &self.listed } else { &self.unlisted };
        let kept = on_demand.kept.get(&hash);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.day == day) {
            return Some(Arc::clone(kept));
        }
        if !asking.spends(on_demand) {
            return kept.filter(|kept| kept.are_given(day));
        }
        let made = Arc::new(self.made(set, &canonical, asking.now_unix_s)?);
        on_demand.kept.put(hash, Arc::clone(&made));
        Some(made)
    }

    /// The signatures over a set that is `canonical`, made now.
    fn made(&self, set: &Set<'_>, canonical: &[u8], now_unix_s: u64) -> Option<Signatures> {
        let day = now_unix_s / DAY_S;
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
            let signature = key.sign(&[head.as_slice(), canonical].concat())?;
            Some([head, signature].concat())
        };
        let data = signers.iter().map(sign).collect::<Option<_>>()?;
        Some(Signatures { day, data })
    }
}

/// A set in canonical form, and the hash of that, by which its signatures are found.
fn identified(set: &Set<'_>) -> Option<(Vec<u8>, [u8; 32])> {
    let canonical = set.canonical()?;
    let hash = *blake3::hash(&canonical).as_bytes();
    Some((canonical, hash))
}

/// What is signed for.
struct Asking<'a> {
    asked: &'a Asked<'a>,
    /// As what the answer is counted.
    event: Event,
    now_unix_s: u64,
}

impl Asking<'_> {
    /// Whether the config has the name that is asked for: there are no more of these than the config says.
    fn is_listed(&self) -> bool {
        self.asked.found.is_some_and(|found| found.is_listed)
    }

    /// Whether a signature may be made. The sender's own rate is asked first: what it would not be sent is not made.
    fn spends(&self, on_demand: &OnDemand) -> bool {
        let Self { asked, event, .. } = self;
        let budget = if is_tcp(asked) { &on_demand.tcp } else { &on_demand.udp };
        asked.sender.has_room(*event) && budget.spend(asked.sender.peer, clock::monotonic_ms())
    }
}

fn is_tcp(asked: &Asked<'_>) -> bool {
    asked.bytes_max >= TCP_BYTES_MAX
}

/// The answer to who may have no signatures made now: over UDP, to come over TCP.
fn unsigned(asked: &Asked<'_>, buffer: Vec<u8>) -> Vec<u8> {
    if is_tcp(asked) {
        let reply = Reply::error(Rcode::SERVFAIL, Some(ExtendedErrorCode::NOT_READY));
        compose(asked.query, &reply, asked.bytes_max, buffer)
    } else {
        compose_truncated(asked.query, buffer)
    }
}

/// Makes anew each day what was published, so that nobody who asks waits for it. Runs until it is dropped.
pub(super) async fn renew(view: Arc<ArcSwap<View>>, tasks: Tasks) {
    let mut renewed = None;
    loop {
        let now_unix_s = clock::unix_ms() / 1_000;
        let current = view.load_full();
        // a view is published as of when it was begun, which may have been on the day before
        let wanted = Some((current.plan(), now_unix_s / DAY_S));
        if renewed != wanted && tasks.run_busy(move || current.publish(now_unix_s)).await.is_some() {
            renewed = wanted;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Until when signatures that are made now hold, in seconds since the Unix epoch.
pub(super) fn until_unix_s(now_unix_s: u64) -> u64 {
    (now_unix_s / DAY_S + DAYS_AFTER) * DAY_S
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
