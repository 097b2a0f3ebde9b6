//! What DNSSEC signs and what its records hold, as bytes (RFC 4034, RFC 9824). Keys, hashes and time are the caller's.

use domain::{
    base::{
        ToName as _, Ttl,
        iana::{Class, DigestAlgorithm, Rtype, SecurityAlgorithm},
        name::Name,
        rdata::ComposeRecordData,
    },
    rdata::{
        Dnskey, Ds, Nsec,
        dnssec::{ProtoRrsig, RtypeBitmap},
    },
};

use super::reply::{Data, DnsName, TakeData};

/// The one algorithm: ECDSA with P-256 and SHA-256 (RFC 6605), which every validator has and whose signatures are short.
const ALGORITHM: SecurityAlgorithm = SecurityAlgorithm::ECDSAP256SHA256;
/// A key of the zone that also stands in the parent's DS (RFC 4034 section 2.1.1): it signs everything.
const KEY_FLAGS: u16 = 257;
/// Always 3 (RFC 4034 section 2.1.2).
const KEY_PROTOCOL: u8 = 3;
/// Octets of the longest name (RFC 1035 section 2.3.4) and label.
const NAME_OCTETS: usize = 255;
const LABEL_OCTETS: usize = 63;

/// Records with the same owner, type and TTL: what one signature is over.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// The owner in wire format, lower case.
    pub owner: &'a [u8],
    /// For how long it may be kept, in seconds.
    pub ttl_s: u32,
    /// The data, all of one type; in any order.
    pub data: &'a [Data<'a>],
}

impl Set<'_> {
    /// The type of the records; none if there is no record.
    #[must_use]
    pub fn rtype(&self) -> Option<Rtype> {
        self.data.first().map(Data::rtype)
    }

    /// The records in canonical form and order (RFC 4034 section 6): what is signed, and by which a signature is found
    /// again. None if `owner` is no name.
    #[must_use]
    pub fn canonical(&self) -> Option<Vec<u8>> {
        let owner = Name::from_slice(self.owner).ok()?;
        let mut rdata: Vec<Vec<u8>> = self.data.iter().map(Data::rdata).collect();
        rdata.sort_unstable();
        rdata.dedup();
        let rtype = self.rtype()?;
        let mut bytes = Vec::with_capacity(rdata.len() * (owner.len() + 32));
        for rdata in rdata {
            bytes.extend_from_slice(owner.as_slice());
            bytes.extend_from_slice(&rtype.to_int().to_be_bytes());
            bytes.extend_from_slice(&Class::IN.to_int().to_be_bytes());
            bytes.extend_from_slice(&self.ttl_s.to_be_bytes());
            bytes.extend_from_slice(&u16::try_from(rdata.len()).ok()?.to_be_bytes());
            bytes.extend(rdata);
        }
        Some(bytes)
    }
}

/// When a signature holds, and who gives it.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// From when on, in seconds since the Unix epoch.
    pub from_unix_s: u64,
    /// Until when, in seconds since the Unix epoch.
    pub until_unix_s: u64,
    /// The tag of the key, from [`key_tag`].
    pub key_tag: u16,
    /// The zone.
    pub zone: &'a DnsName,
}

/// RRSIG's data up to the signature (RFC 4034 section 3.1). The signature is over this and [`Set::canonical`]; with the
/// signature behind it, it is the record's data. None if the set is empty or its owner no name.
#[must_use]
pub fn rrsig_head(set: &Set<'_>, signing: &Signing<'_>) -> Option<Vec<u8>> {
    let owner = Name::from_slice(set.owner).ok()?;
    // without the root, and without the asterisk of a wildcard
    let labels = owner.rrsig_label_count();
    // seconds since 1970 in 32 bits, compared as serial numbers (section 3.1.5)
    #[allow(clippy::cast_possible_truncation, reason = "they wrap around")]
    let [until, from] = [signing.until_unix_s, signing.from_unix_s].map(|unix_s| (unix_s as u32).into());
    let ttl = Ttl::from_secs(set.ttl_s);
    let head = ProtoRrsig::new(set.rtype()?, ALGORITHM, labels, ttl, until, from, signing.key_tag, signing.zone);
    let mut bytes = Vec::new();
    head.compose_canonical(&mut bytes).ok()?;
    Some(bytes)
}

/// DNSKEY's data (RFC 4034 section 2.1) for a public key of P-256: the two coordinates, 64 octets. CDNSKEY has the same
/// (RFC 7344 section 3.2).
#[must_use]
pub fn dnskey(public: &[u8; 64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(key) = Dnskey::new(KEY_FLAGS, KEY_PROTOCOL, ALGORITHM, public) {
        composed(&key, &mut bytes);
    }
    bytes
}

/// The tag of a key (RFC 4034 appendix B), from its DNSKEY data.
#[must_use]
pub fn key_tag(dnskey: &[u8]) -> u16 {
    let add = |sum: u32, (at, octet): (usize, &u8)| sum + (u32::from(*octet) << (8 * (1 - at % 2)));
    let sum = dnskey.iter().enumerate().fold(0, add);
    #[allow(clippy::cast_possible_truncation, reason = "the tag is the lower half")]
    let tag = (sum + (sum >> 16)) as u16;
    tag
}

/// What the digest in DS is of (RFC 4034 section 5.1.4).
#[must_use]
pub fn ds_input(zone: &DnsName, dnskey: &[u8]) -> Vec<u8> {
    let mut bytes = zone.as_slice().to_ascii_lowercase();
    bytes.extend_from_slice(dnskey);
    bytes
}

/// DS's data with a SHA-256 digest of [`ds_input`]. CDS has the same (RFC 7344 section 3.1).
#[must_use]
pub fn ds(dnskey: &[u8], digest: &[u8; 32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(ds) = Ds::new(key_tag(dnskey), ALGORITHM, DigestAlgorithm::SHA256, digest) {
        composed(&ds, &mut bytes);
    }
    bytes
}

/// NSEC's data that says of one name alone which types it has, and nothing of others: the next name is the one right behind
/// it (RFC 9824 section 3). `owner` is in wire format, lower case, and in the zone. Empty if it is no name.
#[must_use]
pub fn nsec(owner: &[u8], zone: &DnsName, types: impl IntoIterator<Item = Rtype>) -> Vec<u8> {
    nsec_before(successor(owner, zone.as_slice()), types)
}

/// The same for a name where another zone begins: the next name is the one right behind all that is below it, since of names
/// in there this zone says nothing (RFC 9824 section 3.4).
#[must_use]
pub fn nsec_delegated(owner: &[u8], zone: &DnsName, types: impl IntoIterator<Item = Rtype>) -> Vec<u8> {
    nsec_before(successor_behind(owner, zone.as_slice()), types)
}

fn nsec_before(next: Vec<u8>, types: impl IntoIterator<Item = Rtype>) -> Vec<u8> {
    Name::from_octets(next).map_or_else(|_| Vec::new(), |next| nsec_between(&next, types))
}

/// NSEC's data of a name with these types, behind which `next` is the next that exists (RFC 4034 section 4.1).
#[must_use]
pub fn nsec_between(next: &DnsName, types: impl IntoIterator<Item = Rtype>) -> Vec<u8> {
    let mut bitmap = RtypeBitmap::<Vec<u8>>::builder();
    for rtype in types {
        // a vector has no end to run into
        let _ok = bitmap.add(rtype);
    }
    let mut bytes = Vec::new();
    composed(&Nsec::new(next, bitmap.finalize()), &mut bytes);
    bytes
}

/// The name right behind another in canonical order, within the lengths that names may have (RFC 4471 section 3.1.2); the
/// zone's own if there is none behind it in the zone.
fn successor(name: &[u8], zone: &[u8]) -> Vec<u8> {
    if name.len() + 2 <= NAME_OCTETS { [&[1, 0], name].concat() } else { successor_behind(name, zone) }
}

/// The name right behind all that are below another, likewise.
fn successor_behind(name: &[u8], zone: &[u8]) -> Vec<u8> {
    match split(name, zone) {
        Some((label, above)) if name.len() < NAME_OCTETS && label.len() < LABEL_OCTETS => {
            [&labelled(&[label, &[0]].concat()), above].concat()
        }
        _ => grown(name, zone),
    }
}

/// A name behind all below another, of no greater length: the last octet that can grow does, and what stands behind it goes.
fn grown(name: &[u8], zone: &[u8]) -> Vec<u8> {
    let Some((label, above)) = split(name, zone) else { return zone.to_vec() };
    let grows = label.iter().rposition(|octet| *octet < u8::MAX);
    match grows.and_then(|at| Some((label.get(..at)?, label.get(at)?))) {
        Some((before, octet)) => {
            // upper case has its place among lower case
            let next = if *octet == b'A' - 1 { b'Z' + 1 } else { octet + 1 };
            [&labelled(&[before, &[next]].concat()), above].concat()
        }
        None => grown(above, zone),
    }
}

/// A name's first label and the name above; none if it is the zone's own, as what is above that is in another zone.
fn split<'a>(name: &'a [u8], zone: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (&length, rest) = name.split_first().filter(|(length, _)| **length > 0 && name.len() > zone.len())?;
    rest.split_at_checked(usize::from(length))
}

/// A label with its length before it; it has at most 63 octets.
fn labelled(label: &[u8]) -> Vec<u8> {
    u8::try_from(label.len()).map_or_else(|_| Vec::new(), |length| [&[length], label].concat())
}

fn composed(data: &impl ComposeRecordData, bytes: &mut Vec<u8>) {
    // a vector has no end to run into
    let _ok = data.compose_rdata(bytes);
}

impl Data<'_> {
    /// The type of the record.
    #[must_use]
    pub fn rtype(&self) -> Rtype {
        self.give(TypeOf)
    }

    /// The data in wire format, as signatures are over it: without compressed names.
    #[must_use]
    pub fn rdata(&self) -> Vec<u8> {
        self.give(Canonical)
    }
}

struct TypeOf;

impl TakeData for TypeOf {
    type Out = Rtype;

    fn take<D: ComposeRecordData>(self, data: &D) -> Rtype {
        data.rtype()
    }
}

struct Canonical;

impl TakeData for Canonical {
    type Out = Vec<u8>;

    fn take<D: ComposeRecordData>(self, data: &D) -> Vec<u8> {
        let mut bytes = Vec::new();
        // a vector has no end to run into
        let _ok = data.compose_canonical_rdata(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn name(text: &str) -> DnsName {
        Name::vec_from_str(text).unwrap()
    }

    /// The key of RFC 6605 section 6.1.
    const EXAMPLE_KEY: [u8; 64] = [
        0x1a, 0x88, 0xc8, 0x86, 0x15, 0xd4, 0x37, 0xfb, 0xb8, 0xbf, 0x9e, 0x19, 0x42, 0xa1, 0x92, 0x9f, 0x28, 0x56,
        0x27, 0x06, 0xae, 0x6c, 0x2b, 0xd3, 0x99, 0xe7, 0xb1, 0xbf, 0xb6, 0xd1, 0xe9, 0xe7, 0x5b, 0x92, 0xb4, 0xaa,
        0x42, 0x91, 0x7a, 0xe1, 0xc6, 0x1b, 0x70, 0x1e, 0xf0, 0x35, 0xc3, 0xfe, 0x7b, 0xe3, 0x00, 0x9c, 0xba, 0xfe,
        0x5a, 0x2f, 0x71, 0x31, 0x6c, 0x90, 0x2d, 0xcf, 0x0d, 0x00,
    ];

    #[test]
    fn a_known_key_has_its_known_tag() {
        assert_eq!(key_tag(&dnskey(&EXAMPLE_KEY)), 55_648);
    }

    fn label(octet: u8, length: u8) -> Vec<u8> {
        [vec![length], vec![octet; usize::from(length)]].concat()
    }

    /// A name whose labels are all of one octet.
    fn long(octet: u8, lengths: [u8; 4], above: &DnsName) -> Vec<u8> {
        [lengths.map(|length| label(octet, length)).concat(), above.as_slice().to_vec()].concat()
    }

    #[test]
    fn the_successor_of_a_name_stands_right_behind_it() {
        let (root, zone) = (name("."), name("example"));
        let of = |labels: &[Vec<u8>]| [labels.concat(), vec![0]].concat();
        let long = |first: Vec<u8>| of(&[first, label(b'b', 63), label(b'c', 63), label(b'd', 63)]);
        for (from, to) in [("a.example", "\\000.a.example"), ("example", "\\000.example")] {
            assert_eq!(successor(name(from).as_slice(), zone.as_slice()), name(to).as_slice());
        }
        assert_eq!(successor(root.as_slice(), root.as_slice()), name("\\000.").as_slice());
        for first in
            [label(b'a', 58), label(b'a', 59), label(b'a', 60), label(b'a', 61), label(255, 61), label(b'@', 61)]
        {
            let long = long(first);
            let next = successor(&long, root.as_slice());
            let [long, next] = [long, next].map(|octets| Name::from_octets(octets).unwrap());
            assert!(next > long, "{long} {next}");
        }
    }

    /// It was one outside of the zone: `examplf.com`.
    #[test]
    fn behind_the_last_name_that_a_zone_can_have_stands_the_zone_itself() {
        let zone = name("example.com");
        let last = long(255, [63, 63, 63, 49], &zone);
        assert_eq!(last.len(), NAME_OCTETS);
        assert_eq!(successor(&last, zone.as_slice()), zone.as_slice());
        let before = long(254, [63, 63, 63, 49], &zone);
        let next = Name::from_octets(successor(&before, zone.as_slice())).unwrap();
        assert!(next > Name::from_octets(before).unwrap() && next.ends_with(&zone));
        // a zone in which no other name has room
        let zone = Name::from_octets(long(b'z', [63, 63, 63, 49], &zone)).unwrap();
        assert_eq!(successor(zone.as_slice(), zone.as_slice()), zone.as_slice());
    }

    /// It was one of the zone that begins there: `\\000.plain.example.com`.
    #[test]
    fn behind_a_delegation_stands_what_is_behind_all_names_below_it() {
        let zone = name("example.com");
        let of = |owner: &[u8]| {
            let data = nsec_delegated(owner, &zone, [Rtype::NS]);
            Name::from_octets(data.get(..data.len() - 3).unwrap().to_vec()).unwrap()
        };
        assert_eq!(of(name("plain.example.com").as_slice()), name("plain\\000.example.com"));
        assert_eq!(of(name("b.a.example.com").as_slice()), name("b\\000.a.example.com"));
        let full = [label(b'x', 63), zone.as_slice().to_vec()].concat();
        let next = [vec![63], vec![b'x'; 62], vec![b'y'], zone.as_slice().to_vec()].concat();
        assert_eq!(of(&full).as_slice(), next);
        let last = [label(255, 63), zone.as_slice().to_vec()].concat();
        assert_eq!(of(&last), zone);
    }

    #[test]
    fn a_set_is_signed_in_canonical_order_and_without_doubles() {
        let owner = name("a.example");
        let [one, two] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|octets| Data::A(octets.into()));
        let bytes = |data: &[Data<'_>]| Set { owner: owner.as_slice(), ttl_s: 30, data }.canonical().unwrap();
        assert_eq!(bytes(&[two, one, two]), bytes(&[one, two]));
        assert_eq!(bytes(&[one])[owner.as_slice().len()..], [0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 1]);
        assert_eq!(Set { owner: owner.as_slice(), ttl_s: 30, data: &[] }.canonical(), None);
    }

    #[test]
    fn an_nsec_names_its_types_and_no_other_name() {
        let owner = name("a.example");
        let data = nsec(owner.as_slice(), &name("example"), [Rtype::RRSIG, Rtype::NSEC, Rtype::NXNAME]);
        let next = name("\\000.a.example");
        let bitmap = [0, 17, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80];
        assert_eq!(data, [next.as_slice(), &bitmap].concat());
    }
}
