//! From bytes to a query.

use std::net::IpAddr;

use domain::base::{
    Message, Name, ParsedName, RecordSection,
    iana::{Class, Opcode, OptRcode, OptionCode, Rcode, Rtype},
    opt::{
        Opt, OptRecord, UnknownOptData,
        cookie::{ClientCookie, Cookie, ServerCookie},
    },
};

use super::{cookie::COOKIE_BYTES, quick};

/// Most records in the additional section: OPT and one signature are all that a query has use for.
const ADDITIONAL_MAX: u16 = 4;
/// Smallest size that an EDNS sender can mean (RFC 6891 section 6.2.3); also the limit without EDNS.
pub(super) const UDP_BYTES_MIN: u16 = 512;
/// Where the version of EDNS stands in the TTL of OPT.
const VERSION: u32 = 0x00ff_0000;
/// EDNS flag: Compact Answers OK (RFC 9824 section 9).
const COMPACT_OK: u32 = 0x4000;

/// A question that was asked properly.
#[derive(Debug)]
pub struct Query<'a> {
    pub(super) message: &'a Message<[u8]>,
    /// The name that was asked for, in lower case.
    pub name: LowerName,
    /// The type that was asked for.
    pub rtype: Rtype,
    /// The class that was asked for.
    pub class: Class,
    /// EDNS, if the query has it.
    pub edns: Option<Edns>,
    /// What its reply carries besides an answer; nothing at first.
    pub owed: Owed<'a>,
}

/// What goes into the OPT record of a reply, whatever is answered. Nothing does if the query has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owed<'a> {
    /// The cookie, from [`super::CookieSecrets::judge`].
    pub cookie: Option<[u8; COOKIE_BYTES]>,
    /// Which server this is (RFC 5001); only for a query that asks for it.
    pub nsid: Option<&'a [u8]>,
}

impl Query<'_> {
    /// The subnet that the resolver asks for, if it gave one and lets it be used (SOURCE above 0).
    #[must_use]
    pub fn subnet(&self) -> Option<Subnet> {
        self.edns.as_ref()?.subnet.filter(|subnet| subnet.source > 0)
    }

    /// The name that was asked for, in the case that it was asked in. It is never compressed.
    pub(super) fn asked_name(&self) -> Option<&Name<[u8]>> {
        let start = size_of::<domain::base::Header>() + size_of::<domain::base::HeaderCounts>();
        let octets = self.message.as_slice().get(start..start + self.name.as_slice().len())?;
        Name::from_slice(octets).ok()
    }

    /// Whether DNSSEC records are wanted.
    #[must_use]
    pub fn wants_dnssec(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.dnssec_ok)
    }

    /// Whether another reading of the same message found the same.
    fn says(&self, other: &Self) -> bool {
        self.name.as_slice() == other.name.as_slice()
            && (self.rtype, self.class, &self.edns) == (other.rtype, other.class, &other.edns)
    }

    /// How long a UDP reply may be, in bytes.
    #[must_use]
    pub fn udp_bytes(&self) -> usize {
        usize::from(self.edns.as_ref().map_or(UDP_BYTES_MIN, |edns| edns.udp_bytes)).min(super::UDP_BYTES_MAX)
    }
}

/// What EDNS says (RFC 6891).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP message that the sender takes, in bytes; at least 512.
    pub udp_bytes: u16,
    /// Whether DNSSEC records are wanted (RFC 3225).
    pub dnssec_ok: bool,
    /// Whether an answer that denies a name may say so in its RCODE too (RFC 9824 section 5).
    pub compact_ok: bool,
    /// The client's subnet (RFC 7871).
    pub subnet: Option<Subnet>,
    /// Whether the sender wants to know which server this is (RFC 5001).
    pub nsid: bool,
    /// The sender's cookie (RFC 7873).
    pub(super) cookie: Option<Cookie>,
}

/// A client's subnet (RFC 7871 section 6), as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// 1 for IPv4, 2 for IPv6; 0 only where no address was given.
    pub family: u16,
    /// How many bits of the address were given.
    pub source: u8,
    /// The address; the bits that were not given are 0.
    pub address: IpAddr,
}

impl Subnet {
    /// Reads an option's data. Anything that is not exactly a subnet is none: another length than SOURCE asks for, bits
    /// set behind SOURCE, another family, a SCOPE in a query.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let [family_high, family_low, source, 0, prefix @ ..] = data else { return None };
        let family = u16::from_be_bytes([*family_high, *family_low]);
        let mut octets = [0; 16];
        octets.get_mut(..prefix.len())?.copy_from_slice(prefix);
        let (bits_max, address) = match family {
            // `dig +subnet=0` names no family, as there is no address to have one
            0 if *source == 0 => (0, IpAddr::from([0, 0, 0, 0])),
            1 => (32, IpAddr::from([octets[0], octets[1], octets[2], octets[3]])),
            2 => (128, IpAddr::from(octets)),
            _ => return None,
        };
        let surplus = u128::MAX.checked_shr(u32::from(*source)).unwrap_or(0);
        let exact = *source <= bits_max
            && prefix.len() == usize::from(*source).div_ceil(8)
            && u128::from_be_bytes(octets) & surplus == 0;
        exact.then_some(Self { family, source: *source, address })
    }

    /// Octets of the option's data.
    pub(super) fn bytes(&self) -> usize {
        4 + usize::from(self.source).div_ceil(8)
    }
}

/// A name in wire format, lower case: what names are compared by. The reply keeps the case that was asked for.
#[derive(Clone)]
pub struct LowerName {
    octets: [u8; 255],
    length: u8,
}

impl LowerName {
    fn new(name: &ParsedName<&[u8]>) -> Option<Self> {
        let mut lower = Self { octets: [0; 255], length: 0 };
        for label in name.iter() {
            let octets = label.as_slice();
            let end = usize::from(lower.length) + 1 + octets.len();
            let place = lower.octets.get_mut(usize::from(lower.length)..end)?;
            place[0] = u8::try_from(octets.len()).ok()?;
            place[1..].copy_from_slice(octets);
            place[1..].make_ascii_lowercase();
            lower.length = u8::try_from(end).ok()?;
        }
        Some(lower)
    }

    /// Reads a name that is not compressed, and stops behind its last label.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut length = 0;
        loop {
            let label = *bytes.get(length)?;
            // two higher bits are for pointers; no length of a label is a letter
            if label > 63 {
                return None;
            }
            length += 1 + usize::from(label);
            if label == 0 {
                break;
            }
        }
        let mut lower = Self { octets: [0; 255], length: u8::try_from(length).ok()? };
        let place = lower.octets.get_mut(..length)?;
        place.copy_from_slice(bytes.get(..length)?);
        place.make_ascii_lowercase();
        Some(lower)
    }

    /// The name in wire format, with its last, empty label.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for LowerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.as_slice().escape_ascii())
    }
}

/// Why a message is no query, and what is owed to its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is too short to have a sender's id, or is itself an answer.
    Drop,
    /// An error.
    Reply {
        /// Which one.
        rcode: OptRcode,
        /// Whether the message had EDNS, so that the reply must have it too (RFC 6891 section 7).
        edns: bool,
    },
    /// A cookie: it was sent instead of a question (RFC 7873 section 5.4).
    Cookie(Edns),
}

impl Fault {
    fn form(edns: bool) -> Self {
        Self::Reply { rcode: Rcode::FORMERR.into(), edns }
    }
}

/// Parses a query.
///
/// # Errors
/// [`Fault`]: not a query at all, another opcode, more than one question or none (RFC 9619; a cookie may come instead of
/// it), records where a query has none, two OPT records (RFC 6891 section 6.1.1), a malformed or doubled client subnet (RFC
/// 7871 section 7.1.2), a malformed cookie (RFC 7873 section 5.2.2), an EDNS version above 0, octets behind the end.
pub fn parse(bytes: &[u8]) -> Result<Query<'_>, Fault> {
    match quick::parse(bytes) {
        Some(query) => {
            debug_assert!(parse_any(bytes).is_ok_and(|other| query.says(&other)), "{}", bytes.escape_ascii());
            Ok(query)
        }
        None => parse_any(bytes),
    }
}

/// The general way.
fn parse_any(bytes: &[u8]) -> Result<Query<'_>, Fault> {
    let message = Message::from_slice(bytes).map_err(|_| Fault::Drop)?;
    let header = message.header();
    if header.qr() {
        return Err(Fault::Drop);
    }
    // who has EDNS is answered with EDNS (RFC 6891 section 6.1.1), as far as one can tell
    let has_edns = || message.opt().is_some();
    if header.opcode() != Opcode::QUERY {
        return Err(Fault::Reply { rcode: Rcode::NOTIMP.into(), edns: has_edns() });
    }
    let counts = message.header_counts();
    // who asks for what has changed since a version of a zone says which one (RFC 1995 section 3)
    let asks_for_changes = || message.first_question().is_some_and(|question| question.qtype() == Rtype::IXFR);
    let records = counts.ancount() > 0 || counts.nscount() > 0 && !(counts.nscount() == 1 && asks_for_changes());
    if counts.qdcount() > 1 || records || counts.arcount() > ADDITIONAL_MAX {
        return Err(Fault::form(has_edns()));
    }

    let malformed = |_| Fault::form(false);
    if counts.qdcount() == 0 {
        let edns = edns(message.additional().map_err(malformed)?, bytes.len())?;
        let had = edns.is_some();
        return Err(edns.filter(|edns| edns.cookie.is_some()).map_or(Fault::form(had), Fault::Cookie));
    }
    let question = message.sole_question().map_err(malformed)?;
    let name = Some(question.qname()).filter(|name| !name.is_compressed()).and_then(LowerName::new);
    let edns = edns(message.additional().map_err(malformed)?, bytes.len())?;
    Ok(Query {
        message,
        name: name.ok_or(Fault::form(edns.is_some()))?,
        rtype: question.qtype(),
        class: question.qclass(),
        edns,
        owed: Owed::default(),
    })
}

/// Walks the additional section to its end, which must be the message's.
fn edns(mut section: RecordSection<'_, [u8]>, length: usize) -> Result<Option<Edns>, Fault> {
    let mut found: Option<Edns> = None;
    for record in section.by_ref() {
        let record = record.map_err(|_| Fault::form(found.is_some()))?;
        if record.rtype() != Rtype::OPT {
            continue;
        }
        let fault = Fault::form(true);
        if found.is_some() || !record.owner().is_root() {
            return Err(fault);
        }
        // version and flags are in the TTL (RFC 6891 section 6.1.3); of another version, options may be anything
        let terms = record.ttl().as_secs();
        if terms & VERSION != 0 {
            return Err(Fault::Reply { rcode: OptRcode::BADVERS, edns: true });
        }
        let compact_ok = terms & COMPACT_OK != 0;
        let record = record.to_record::<Opt<_>>().ok().flatten().ok_or(fault)?;
        found = Some(Edns { compact_ok, ..options(&OptRecord::from(record))? });
    }
    if section.pos() == length { Ok(found) } else { Err(Fault::form(found.is_some())) }
}

fn options(opt: &OptRecord<&[u8]>) -> Result<Edns, Fault> {
    let udp_bytes = opt.udp_payload_size().max(UDP_BYTES_MIN);
    let mut edns =
        Edns { udp_bytes, dnssec_ok: opt.dnssec_ok(), compact_ok: false, subnet: None, nsid: false, cookie: None };
    for option in opt.opt().iter::<UnknownOptData<_>>() {
        let option = option.map_err(|_| Fault::form(true))?;
        match option.code() {
            OptionCode::CLIENT_SUBNET => {
                let subnet = Subnet::parse(option.as_slice()).filter(|_| edns.subnet.is_none());
                edns.subnet = Some(subnet.ok_or(Fault::form(true))?);
            }
            // of several, the first one counts (RFC 7873 section 5.2)
            OptionCode::COOKIE if edns.cookie.is_none() => {
                edns.cookie = Some(cookie(option.as_slice()).ok_or(Fault::form(true))?);
            }
            OptionCode::NSID => edns.nsid = true,
            _ => {}
        }
    }
    Ok(edns)
}

/// The client's 8 octets, and none or 8 to 32 of the server (RFC 7873 section 4).
pub(super) fn cookie(data: &[u8]) -> Option<Cookie> {
    let (client, server) = data.split_first_chunk::<8>()?;
    let server = match server.len() {
        0 => None,
        8..=32 => Some(ServerCookie::from_octets(server)),
        _ => return None,
    };
    Some(Cookie::new(ClientCookie::from_octets(*client), server))
}
