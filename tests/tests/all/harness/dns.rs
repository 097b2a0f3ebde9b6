//! A DNS client of a few lines: a question with a client subnet (RFC 7871) over UDP, and what matters of the answer.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 is NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    pub(crate) rcode: u8,
    /// The addresses, in their order.
    pub(crate) addresses: Vec<IpAddr>,
    /// TTL of the first address, in s.
    pub(crate) ttl_s: Option<u32>,
    /// The scope of the client subnet option, if it came back.
    pub(crate) scope: Option<u8>,
}

const A: u16 = 1;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const CLIENT_SUBNET: u16 = 8;

/// Asks for the IPv4 addresses of a name on behalf of a client in `subnet`, such as `91.0.0.0/24`.
pub(crate) async fn ask(server: SocketAddr, name: &str, subnet: &str) -> Result<Answer, String> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    socket.connect(server).await.map_err(|error| error.to_string())?;
    socket.send(&question(name, subnet)).await.map_err(|error| error.to_string())?;
    let mut buffer = [0; 4096];
    let received = timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await;
    let length = received.map_err(|_| format!("{server} did not answer"))?.map_err(|error| error.to_string())?;
    let message = &buffer[..length];
    if message.get(2).is_some_and(|flags| flags & 2 != 0) {
        return Err(format!("{server} has the question asked over TCP"));
    }
    read(message).ok_or_else(|| format!("{server} answered what cannot be read: {message:?}"))
}

fn question(name: &str, subnet: &str) -> Vec<u8> {
    let (address, bits) = subnet.split_once('/').unwrap();
    let (address, bits): (IpAddr, u8) = (address.parse().unwrap(), bits.parse().unwrap());
    let (family, octets) = match address {
        IpAddr::V4(v4) => (1u16, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let prefix = &octets[..usize::from(bits.div_ceil(8))];
    // id, flags (RD), one question, one additional record
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    let option_length = u16::try_from(4 + prefix.len()).unwrap();
    // type and class of the question; then the OPT record: root, type, 1232 bytes, no flags, length of its options
    for word in [A, 1] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.push(0);
    for word in [OPT, 1232, 0, 0, option_length + 4, CLIENT_SUBNET, option_length, family] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(&[bits, 0]);
    message.extend_from_slice(prefix);
    message
}

fn read(message: &[u8]) -> Option<Answer> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let mut answer = Answer { rcode: message.get(3)? & 15, addresses: Vec::new(), ttl_s: None, scope: None };
    let mut at = 12;
    for _ in 0..word(4)? {
        at = after_name(message, at)? + 4;
    }
    for _ in 0..word(6)? + word(8)? + word(10)? {
        at = after_name(message, at)?;
        let (rtype, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        let ttl_s = u32::from_be_bytes(message.get(at + 4..at + 8)?.try_into().ok()?);
        match rtype {
            A => answer.addresses.push(<[u8; 4]>::try_from(data).ok()?.into()),
            AAAA => answer.addresses.push(<[u8; 16]>::try_from(data).ok()?.into()),
            OPT => answer.scope = scope(data),
            _ => {}
        }
        if matches!(rtype, A | AAAA) {
            answer.ttl_s.get_or_insert(ttl_s);
        }
        at += 10 + length;
    }
    Some(answer)
}

fn scope(mut options: &[u8]) -> Option<u8> {
    while let [code_high, code_low, length_high, length_low, rest @ ..] = options {
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let (data, others) = rest.split_at_checked(length)?;
        if u16::from_be_bytes([*code_high, *code_low]) == CLIENT_SUBNET {
            return data.get(3).copied();
        }
        options = others;
    }
    None
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            // a pointer ends a name
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}
