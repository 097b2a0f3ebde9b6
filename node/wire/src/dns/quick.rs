//! The way that nearly all messages take: a plain query, a plain answer. Read and written here without looking for what they
//! hardly ever have, in a fraction of the time.
//!
//! Whatever is out of the ordinary is left to the general way, which alone knows about errors. In debug builds, and so in
//! every test, both ways are gone and compared.

use domain::base::{
    Message,
    iana::{Class, OptionCode, Rcode, Rtype},
};

use super::{
    query::{Edns, LowerName, Owed, Query, Subnet, UDP_BYTES_MIN, cookie},
    reply::{Data, Record, Reply, SIZE_OFFERED, emptied, subnet_octets},
};

/// Octets of a header.
const HEAD: usize = 12;
/// Octets of a record, without its owner and data; of OPT too, with its owner.
const RECORD: usize = 10;
/// Where the question's name stands, as a compressed name.
const ASKED: [u8; 2] = [0xc0, 12];

/// QR and opcode; the flags of a query mean nothing to an authority but RD, which its answer repeats.
const NO_QUERY: u8 = 0xf8;
const RESPONSE: u8 = 0x80;
const AUTHORITATIVE: u8 = 0x04;
const RECURSION_DESIRED: u8 = 0x01;
/// EDNS flags (RFC 3225; RFC 9824 section 9).
const DNSSEC_OK: u16 = 0x8000;
const COMPACT_OK: u16 = 0x4000;

/// Reads a query: one question, and at most OPT. None leaves it to the general way.
pub(super) fn parse(bytes: &[u8]) -> Option<Query<'_>> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let counts = [head[4], head[5], head[6], head[7], head[8], head[9], head[10]];
    if head[2] & NO_QUERY != 0 || counts != [0, 1, 0, 0, 0, 0, 0] || head[11] > 1 {
        return None;
    }
    let name = LowerName::read(rest)?;
    let (rtype, class, rest) = match rest.get(name.as_slice().len()..)? {
        [a, b, c, d, rest @ ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]), rest),
        _ => return None,
    };
    let edns = match (head[11], rest) {
        (0, []) => None,
        (1, opt) => Some(edns(opt)?),
        _ => return None,
    };
    let (rtype, class) = (Rtype::from_int(rtype), Class::from_int(class));
    Some(Query { message: Message::from_slice(bytes).ok()?, name, rtype, class, edns, owed: Owed::default() })
}

/// OPT, with which the message ends.
fn edns(opt: &[u8]) -> Option<Edns> {
    // the root, type 41, size, the higher bits of an RCODE, version 0, flags, length
    let [0, 0, 41, size_high, size_low, _, 0, flags_high, flags_low, high, low, options @ ..] = opt else {
        return None;
    };
    if usize::from(u16::from_be_bytes([*high, *low])) != options.len() {
        return None;
    }
    let flags = u16::from_be_bytes([*flags_high, *flags_low]);
    let mut edns = Edns {
        udp_bytes: u16::from_be_bytes([*size_high, *size_low]).max(UDP_BYTES_MIN),
        dnssec_ok: flags & DNSSEC_OK != 0,
        compact_ok: flags & COMPACT_OK != 0,
        subnet: None,
        nsid: false,
        cookie: None,
    };
    let mut rest = options;
    while let [a, b, c, d, more @ ..] = rest {
        let (data, behind) = more.split_at_checked(u16::from_be_bytes([*c, *d]).into())?;
        match OptionCode::from_int(u16::from_be_bytes([*a, *b])) {
            OptionCode::CLIENT_SUBNET if edns.subnet.is_none() => edns.subnet = Some(Subnet::parse(data)?),
            OptionCode::CLIENT_SUBNET => return None,
            OptionCode::COOKIE if edns.cookie.is_none() => edns.cookie = Some(cookie(data)?),
            OptionCode::NSID => edns.nsid = true,
            _ => {}
        }
        rest = behind;
    }
    rest.is_empty().then_some(edns)
}

/// Writes a reply that is addresses of the name that was asked for, all of one type. None leaves it to the general way, and
/// gives the buffer back.
pub(super) fn compose(
    query: &Query<'_>,
    reply: &Reply<'_>,
    bytes_max: usize,
    buffer: Vec<u8>,
) -> Result<Vec<u8>, Vec<u8>> {
    let plain = reply.rcode == Rcode::NOERROR
        && reply.authority.is_empty()
        && reply.additional.is_empty()
        && reply.extended.is_none()
        && reply.answer.iter().all(|record| record.owner.is_none() && length(&record.data).is_some());
    let asked = query.message.as_slice();
    // the root has no name that is shorter
    let end = HEAD + query.name.as_slice().len() + 4;
    let (Some(head), Some(question), true) =
        (asked.first_chunk::<HEAD>(), asked.get(HEAD..end), plain && end > HEAD + 5)
    else {
        return Err(buffer);
    };
    let mut out = emptied(buffer);
    let answers = u8::try_from(reply.answer.len()).unwrap_or(u8::MAX);
    let flags = RESPONSE | if reply.authoritative { AUTHORITATIVE } else { 0 } | head[2] & RECURSION_DESIRED;
    let opt = u8::from(query.edns.is_some());
    out.extend_from_slice(&[head[0], head[1], flags, 0, 0, 1, 0, answers, 0, 0, 0, opt]);
    out.extend_from_slice(question);
    for record in reply.answer {
        push(&mut out, record);
    }
    if let Some(edns) = &query.edns {
        push_opt(&mut out, edns, &query.owed, reply.scope);
    }
    if out.len() > bytes_max || answers == u8::MAX { Err(out) } else { Ok(out) }
}

/// Octets of an address; none of anything else.
pub(super) fn length(data: &Data<'_>) -> Option<u8> {
    match data {
        Data::A(_) => Some(4),
        Data::Aaaa(_) => Some(16),
        Data::Ns(_) | Data::Soa(_) | Data::Minimal | Data::Composed(_) => None,
    }
}

fn push(out: &mut Vec<u8>, record: &Record<'_>) {
    let [a, b, c, d] = record.ttl_s.to_be_bytes();
    let head = |rtype: u8, length: u8| -> [u8; ASKED.len() + RECORD] {
        [ASKED[0], ASKED[1], 0, rtype, 0, 1, a, b, c, d, 0, length]
    };
    match record.data {
        Data::A(address) => {
            out.extend_from_slice(&head(1, 4));
            out.extend_from_slice(&address.octets());
        }
        Data::Aaaa(address) => {
            out.extend_from_slice(&head(28, 16));
            out.extend_from_slice(&address.octets());
        }
        Data::Ns(_) | Data::Soa(_) | Data::Minimal | Data::Composed(_) => {}
    }
}

fn push_opt(out: &mut Vec<u8>, edns: &Edns, owed: &Owed<'_>, scope: u8) {
    let [size_high, size_low] = SIZE_OFFERED.to_be_bytes();
    let flags = if edns.dnssec_ok { DNSSEC_OK } else { 0 }.to_be_bytes();
    out.extend_from_slice(&[0, 0, 41, size_high, size_low, 0, 0, flags[0], flags[1], 0, 0]);
    let start = out.len();
    if let Some(subnet) = &edns.subnet {
        let octets = subnet_octets(subnet, if subnet.source > 0 { scope } else { 0 });
        option(out, OptionCode::CLIENT_SUBNET, octets.get(..subnet.bytes()).unwrap_or(&octets));
    }
    if let Some(cookie) = &owed.cookie {
        option(out, OptionCode::COOKIE, cookie);
    }
    if let Some(nsid) = owed.nsid {
        option(out, OptionCode::NSID, nsid);
    }
    let length = u16::try_from(out.len() - start).unwrap_or(0).to_be_bytes();
    if let Some(place) = out.get_mut(start - length.len()..start) {
        place.copy_from_slice(&length);
    }
}

fn option(out: &mut Vec<u8>, code: OptionCode, data: &[u8]) {
    let ([a, b], [c, d]) = (code.to_int().to_be_bytes(), u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&[a, b, c, d]);
    out.extend_from_slice(data);
}
