//! From an answer to bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::{
    base::{
        CharStr, Message, MessageBuilder, Serial, StaticCompressor, ToName, Ttl,
        iana::{Class, ExtendedErrorCode, OptRcode, OptionCode, Rcode, Rtype},
        message_builder::{AdditionalBuilder, AnswerBuilder, OptBuilder, PushError, RecordSectionBuilder},
        name::Name,
        opt::ExtendedError,
        rdata::{ComposeRecordData, RecordData},
        wire::Composer,
    },
    dep::octseq::OctetsBuilder,
    rdata::{self, A, Aaaa, Hinfo, Ns},
};

use super::{
    UDP_BYTES_MAX,
    cookie::CookieJudged,
    query::{Edns, Fault, Owed, Query, Subnet},
    quick,
};

/// A name that is kept.
pub type DnsName = Name<Vec<u8>>;

/// A reply in the making. The message grows in a buffer that the caller lends.
type Buffer = StaticCompressor<Vec<u8>>;

/// Start of a zone's authority (RFC 1035 section 3.3.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    /// The first name server.
    pub mname: DnsName,
    /// The mailbox.
    pub rname: DnsName,
    /// The version.
    pub serial: Serial,
    /// For how long a negative answer may be kept, in seconds (RFC 2308 section 4).
    pub minimum_s: u32,
}

/// A record's data.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A name server.
    Ns(&'a DnsName),
    /// Start of authority.
    Soa(&'a Soa),
    /// The minimal answer to ANY (RFC 8482 section 4.2).
    Minimal,
    /// Data that was composed before: [`Data::composed`].
    Composed(Composed<'a>),
}

/// A record's data in wire format, without compressed names.
#[derive(Debug, Clone, Copy)]
pub struct Composed<'a> {
    rtype: Rtype,
    octets: &'a [u8],
    length: u16,
}

impl RecordData for Composed<'_> {
    fn rtype(&self) -> Rtype {
        self.rtype
    }
}

impl ComposeRecordData for Composed<'_> {
    fn rdlen(&self, _compress: bool) -> Option<u16> {
        Some(self.length)
    }

    fn compose_rdata<Target: Composer + ?Sized>(&self, target: &mut Target) -> Result<(), Target::AppendError> {
        target.append_slice(self.octets)
    }

    fn compose_canonical_rdata<Target: Composer + ?Sized>(
        &self,
        target: &mut Target,
    ) -> Result<(), Target::AppendError> {
        self.compose_rdata(target)
    }
}

/// What becomes of a record's data, whichever it is.
pub(super) trait TakeData {
    type Out;

    fn take<D: ComposeRecordData>(self, data: &D) -> Self::Out;
}

impl<'a> Data<'a> {
    /// Data in wire format, without compressed names: what [`super::sign`] makes. None if it is longer than data can be.
    #[must_use]
    pub fn composed(rtype: Rtype, octets: &'a [u8]) -> Option<Self> {
        let length = u16::try_from(octets.len()).ok()?;
        Some(Self::Composed(Composed { rtype, octets, length }))
    }

    pub(super) fn give<T: TakeData>(&self, taker: T) -> T::Out {
        match self {
            Data::A(address) => taker.take(&A::new(*address)),
            Data::Aaaa(address) => taker.take(&Aaaa::new(*address)),
            Data::Ns(name) => taker.take(&Ns::new(name)),
            Data::Soa(soa) => taker.take(&soa_data(soa)),
            Data::Minimal => {
                let text = |octets| CharStr::from_octets(octets).unwrap_or_else(|_| CharStr::empty());
                taker.take(&Hinfo::<&[u8]>::new(text(b"RFC8482".as_slice()), text(b"".as_slice())))
            }
            Data::Composed(data) => taker.take(data),
        }
    }
}

impl From<IpAddr> for Data<'_> {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::A(v4),
            IpAddr::V6(v6) => Self::Aaaa(v6),
        }
    }
}

/// A record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its owner; none means the name that was asked for, in the case it was asked in.
    pub owner: Option<&'a DnsName>,
    /// For how long it may be kept, in seconds.
    pub ttl_s: u32,
    /// Its data.
    pub data: Data<'a>,
}

/// What is answered.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The outcome.
    pub rcode: Rcode,
    /// Whether this fleet is the authority for the name.
    pub authoritative: bool,
    /// The answer section.
    pub answer: &'a [Record<'a>],
    /// The authority section.
    pub authority: &'a [Record<'a>],
    /// The additional section, without OPT. Records of one owner and type stand together; those that do not all fit are left
    /// out.
    pub additional: &'a [Record<'a>],
    /// SCOPE for the client subnet, if the query had one with SOURCE above 0; else 0 is sent, or nothing.
    pub scope: u8,
    /// Why, for people (RFC 8914).
    pub extended: Option<ExtendedErrorCode>,
}

impl Reply<'_> {
    /// A reply without records that makes no claim of authority.
    #[must_use]
    pub fn error(rcode: Rcode, extended: Option<ExtendedErrorCode>) -> Self {
        Self { rcode, authoritative: false, answer: &[], authority: &[], additional: &[], scope: 0, extended }
    }
}

/// Writes the reply into `buffer`, which is emptied first and given back: at most `bytes_max` long, with the TC bit and
/// without records if they do not fit. Empty if not even the question fits.
#[must_use]
pub fn compose(query: &Query<'_>, reply: &Reply<'_>, bytes_max: usize, buffer: Vec<u8>) -> Vec<u8> {
    match quick::compose(query, reply, bytes_max, buffer) {
        Ok(answer) => {
            debug_assert_eq!(answer, compose_any(query, reply, bytes_max, Vec::new()), "{:?}", query.name);
            answer
        }
        Err(buffer) => compose_any(query, reply, bytes_max, buffer),
    }
}

/// The general way.
fn compose_any(query: &Query<'_>, reply: &Reply<'_>, bytes_max: usize, buffer: Vec<u8>) -> Vec<u8> {
    let room = bytes_max.saturating_sub(query.edns.as_ref().map_or(0, |edns| opt_bytes(edns, &query.owed, reply)));
    let Some(mut builder) = start(buffer, room) else { return Vec::new() };
    let header = builder.header_mut();
    header.set_aa(reply.authoritative);
    let mut answer = builder.start_error(query.message, reply.rcode);
    if sections(query, reply, &mut answer).is_err() {
        answer.rewind();
        answer.header_mut().set_tc(true);
        return finish(answer.additional(), query, Ending::of(query, reply));
    }
    let mut authority = answer.authority();
    for record in reply.authority {
        if push(&mut authority, query, record).is_err() {
            let mut answer = authority.answer();
            answer.rewind();
            answer.header_mut().set_tc(true);
            return finish(answer.additional(), query, Ending::of(query, reply));
        }
    }
    let mut additional = authority.additional();
    add_sets(&mut additional, query, reply.additional, room);
    finish(additional, query, Ending::of(query, reply))
}

/// Writes a reply without records that says that it is not all, so that the client asks again over TCP.
#[must_use]
pub fn compose_truncated(query: &Query<'_>, buffer: Vec<u8>) -> Vec<u8> {
    short(query, query.owed, (OptRcode::NOERROR, true), buffer)
}

/// Writes the error that is owed to the sender of `bytes` into `buffer`; empty if none is.
#[must_use]
pub fn compose_fault(bytes: &[u8], fault: &Fault, buffer: Vec<u8>) -> Vec<u8> {
    let Fault::Reply { rcode, edns } = fault else { return emptied(buffer) };
    let Ok(message) = Message::from_slice(bytes) else { return emptied(buffer) };
    let Some(mut builder) = start(buffer, UDP_BYTES_MAX) else { return Vec::new() };
    let mut additional = if message.header_counts().qdcount() == 1 {
        // as much of the question as can be read, so that its sender knows what failed
        builder.start_error(message, rcode.rcode()).additional()
    } else {
        head(&mut builder, message);
        builder.additional()
    };
    additional.header_mut().set_rcode(rcode.rcode());
    if *edns {
        // a question and 11 octets always fit
        let _ = additional.opt(|opt| {
            opt.set_udp_payload_size(SIZE_OFFERED);
            opt.set_rcode(*rcode);
            Ok(())
        });
    }
    additional.finish().into_target()
}

/// Writes the reply to a cookie that came without a question (RFC 7873 section 5.4) into `buffer`.
#[must_use]
pub fn compose_cookie(bytes: &[u8], judged: &CookieJudged, buffer: Vec<u8>) -> Vec<u8> {
    let Ok(message) = Message::from_slice(bytes) else { return emptied(buffer) };
    let Some(mut builder) = start(buffer, UDP_BYTES_MAX) else { return Vec::new() };
    head(&mut builder, message);
    let rcode = if judged.shown && !judged.proven { OptRcode::BADCOOKIE } else { OptRcode::NOERROR };
    let mut additional = builder.additional();
    additional.header_mut().set_rcode(rcode.rcode());
    // a vector has no end to run into
    let _ = additional.opt(|opt| {
        opt.set_udp_payload_size(SIZE_OFFERED);
        opt.set_rcode(rcode);
        option(opt, OptionCode::COOKIE, &judged.reply)
    });
    additional.finish().into_target()
}

/// Writes a reply without records into `buffer`, in place of one that its sender is not to have like this: over TCP (`rcode`
/// is NOERROR, and the TC bit is set) or with the cookie that it has here (BADCOOKIE). But for that cookie it is no longer
/// than the query, so it does not say which server this is.
#[must_use]
pub fn compose_short(query: &Query<'_>, rcode: OptRcode, buffer: Vec<u8>) -> Vec<u8> {
    short(query, Owed { nsid: None, ..query.owed }, (rcode, false), buffer)
}

fn short(query: &Query<'_>, owed: Owed<'_>, (rcode, authoritative): (OptRcode, bool), buffer: Vec<u8>) -> Vec<u8> {
    let Some(builder) = start(buffer, UDP_BYTES_MAX) else { return Vec::new() };
    let mut answer = builder.start_error(query.message, rcode.rcode());
    answer.header_mut().set_aa(authoritative);
    answer.header_mut().set_tc(rcode == OptRcode::NOERROR);
    finish(answer.additional(), query, Ending { rcode, owed, scope: 0, extended: None })
}

/// The largest UDP message we take, as EDNS says it.
pub(super) const SIZE_OFFERED: u16 = 1232;

pub(super) fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer
}

fn start(buffer: Vec<u8>, bytes_max: usize) -> Option<MessageBuilder<Buffer>> {
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(emptied(buffer))).ok()?;
    // the limit is the first length that is too much
    builder.set_push_limit(bytes_max.saturating_add(1));
    Some(builder)
}

/// The header of a reply without a question.
fn head(builder: &mut MessageBuilder<Buffer>, message: &Message<[u8]>) {
    let header = builder.header_mut();
    header.set_id(message.header().id());
    header.set_qr(true);
    header.set_opcode(message.header().opcode());
    header.set_rd(message.header().rd());
}

fn sections(query: &Query<'_>, reply: &Reply<'_>, answer: &mut AnswerBuilder<Buffer>) -> Result<(), PushError> {
    reply.answer.iter().try_for_each(|record| push(answer, query, record))
}

/// Adds the sets that fit, each whole or not at all (RFC 2181 section 9): who gets a part takes it for the whole.
fn add_sets(additional: &mut AdditionalBuilder<Buffer>, query: &Query<'_>, records: &[Record<'_>], room: usize) {
    let is_one = |one: &Record<'_>, next: &Record<'_>| one.owner == next.owner && one.data.rtype() == next.data.rtype();
    let mut left_out = Vec::new();
    'again: loop {
        for (at, set) in records.chunk_by(is_one).enumerate() {
            if left_out.contains(&at) || additional.as_slice().len() + bytes_min(set) > room {
                continue;
            }
            if set.iter().any(|record| push(additional, query, record).is_err()) {
                // its owner was longer than it had to be; there is no way back but to the start
                left_out.push(at);
                additional.rewind();
                continue 'again;
            }
        }
        return;
    }
}

/// How many octets a set takes at least.
fn bytes_min(set: &[Record<'_>]) -> usize {
    set.iter().map(|record| 11 + usize::from(quick::length(&record.data).unwrap_or(0))).sum()
}

/// How long the OPT record will be.
fn opt_bytes(edns: &Edns, owed: &Owed<'_>, reply: &Reply<'_>) -> usize {
    let subnet = edns.subnet.map_or(0, |subnet| 4 + subnet.bytes());
    let cookie = owed.cookie.map_or(0, |cookie| 4 + cookie.len());
    let nsid = owed.nsid.map_or(0, |nsid| 4 + nsid.len());
    11 + subnet + cookie + nsid + if reply.extended.is_some() { 6 } else { 0 }
}

fn push<S: RecordSectionBuilder<Buffer>>(
    section: &mut S,
    query: &Query<'_>,
    record: &Record<'_>,
) -> Result<(), PushError> {
    match record.owner {
        Some(owner) => push_data(section, owner, record),
        None => push_data(section, &query.asked_name().ok_or(PushError::ShortBuf)?, record),
    }
}

fn push_data<S: RecordSectionBuilder<Buffer>>(
    section: &mut S,
    owner: &impl ToName,
    Record { ttl_s, data, .. }: &Record<'_>,
) -> Result<(), PushError> {
    data.give(Push { section, owner, ttl: Ttl::from_secs(*ttl_s) })
}

struct Push<'a, S, N> {
    section: &'a mut S,
    owner: &'a N,
    ttl: Ttl,
}

impl<S: RecordSectionBuilder<Buffer>, N: ToName> TakeData for Push<'_, S, N> {
    type Out = Result<(), PushError>;

    fn take<D: ComposeRecordData>(self, data: &D) -> Self::Out {
        self.section.push((self.owner, Class::IN, self.ttl, data))
    }
}

/// Refresh, retry and expire are for secondaries that copy the zone; there are none.
fn soa_data(soa: &Soa) -> rdata::Soa<&DnsName> {
    let [refresh, retry, expire, minimum] = [3600, 600, 604_800, soa.minimum_s].map(Ttl::from_secs);
    rdata::Soa::new(&soa.mname, &soa.rname, soa.serial, refresh, retry, expire, minimum)
}

/// What OPT says.
#[derive(Clone, Copy)]
struct Ending<'a> {
    rcode: OptRcode,
    owed: Owed<'a>,
    scope: u8,
    extended: Option<ExtendedErrorCode>,
}

impl<'a> Ending<'a> {
    fn of(query: &Query<'a>, reply: &Reply<'_>) -> Self {
        Self { rcode: reply.rcode.into(), owed: query.owed, scope: reply.scope, extended: reply.extended }
    }
}

/// Adds OPT, for which room was kept, if the query has EDNS.
fn finish(mut additional: AdditionalBuilder<Buffer>, query: &Query<'_>, ending: Ending<'_>) -> Vec<u8> {
    additional.clear_push_limit();
    if let Some(edns) = &query.edns {
        // a vector has no end to run into
        let _ = additional.opt(|opt| {
            opt.set_udp_payload_size(SIZE_OFFERED);
            opt.set_dnssec_ok(edns.dnssec_ok);
            opt.set_rcode(ending.rcode);
            if let Some(subnet) = &edns.subnet {
                let scope = if subnet.source > 0 { ending.scope } else { 0 };
                let octets = subnet_octets(subnet, scope);
                option(opt, OptionCode::CLIENT_SUBNET, octets.get(..subnet.bytes()).unwrap_or(&octets))?;
            }
            if let Some(cookie) = &ending.owed.cookie {
                option(opt, OptionCode::COOKIE, cookie)?;
            }
            if let Some(nsid) = ending.owed.nsid {
                option(opt, OptionCode::NSID, nsid)?;
            }
            match ending.extended {
                Some(code) => opt.push(&ExtendedError::<&[u8]>::from(code)),
                None => Ok(()),
            }
        });
    }
    additional.finish().into_target()
}

fn option(
    opt: &mut OptBuilder<'_, Buffer>,
    code: OptionCode,
    data: &[u8],
) -> Result<(), <Buffer as OctetsBuilder>::AppendError> {
    let length = u16::try_from(data.len()).unwrap_or(0);
    opt.push_raw_option(code, length, |target| target.append_slice(data))
}

/// A client subnet as it goes out: family, source and address as they came, and the scope.
pub(super) fn subnet_octets(subnet: &Subnet, scope: u8) -> [u8; 20] {
    let mut octets = [0; 20];
    octets[..2].copy_from_slice(&subnet.family.to_be_bytes());
    octets[2] = subnet.source;
    octets[3] = scope;
    match subnet.address {
        IpAddr::V4(v4) => octets[4..8].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => octets[4..].copy_from_slice(&v6.octets()),
    }
    octets
}
