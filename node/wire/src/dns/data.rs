//! Records' data that is composed once, when the config is taken, or put together from such parts.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest character string, in bytes (RFC 1035 section 3.3).
const STRING_BYTES_MAX: usize = 255;
/// Room for a service's data: what is said of it, and as many addresses of both families as one answer names.
const SERVICE_BYTES: usize = 256;
/// SvcParamKeys (RFC 9460 section 14.3.2).
const ALPN: u16 = 1;
const PORT: u16 = 3;
const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;

/// CAA's data (RFC 8659 section 4.1). None if the tag is empty or longer than 255 bytes.
#[must_use]
pub fn caa(critical: bool, tag: &str, value: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(tag.len()).ok().filter(|length| *length > 0)?;
    let flags = if critical { 128 } else { 0 };
    Some([&[flags, length], tag.as_bytes(), value.as_bytes()].concat())
}

/// TXT's data (RFC 1035 section 3.3.14): a text of more than 255 bytes becomes several strings, which readers join.
#[must_use]
pub fn txt(text: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(text.len() + 1);
    let strings = text.as_bytes().chunks(STRING_BYTES_MAX);
    for string in strings.chain(text.is_empty().then_some(&[][..])) {
        data.push(u8::try_from(string.len()).unwrap_or(u8::MAX));
        data.extend_from_slice(string);
    }
    data
}

/// How a site is reached over HTTPS (RFC 9460), without addresses: these differ from client to client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service(Vec<u8>);

/// A service's data with the addresses for one client.
#[derive(Debug, Clone, Copy)]
pub struct ServiceData {
    octets: [u8; SERVICE_BYTES],
    length: usize,
}

impl Service {
    /// Under the name that was asked for, with these protocols besides HTTP/1.1, at `port`; 443 goes without saying.
    #[must_use]
    pub fn new(protocols: &[&[u8]], port: u16) -> Self {
        // SvcPriority 1, TargetName "."
        let mut octets = vec![0, 1, 0];
        let mut list = Vec::new();
        for protocol in protocols {
            if let Ok(length @ 1..) = u8::try_from(protocol.len()) {
                list.push(length);
                list.extend_from_slice(protocol);
            }
        }
        if let Ok(length @ 1..) = u16::try_from(list.len()) {
            octets.extend([ALPN, length].map(u16::to_be_bytes).concat());
            octets.extend(list);
        }
        if port != 443 {
            octets.extend([PORT, 2, port].map(u16::to_be_bytes).concat());
        }
        Self(octets)
    }

    /// With a client's addresses; what does not fit is left out, which hints may be. Allocates nothing.
    #[must_use]
    pub fn with_hints(&self, v4: impl Iterator<Item = Ipv4Addr>, v6: impl Iterator<Item = Ipv6Addr>) -> ServiceData {
        let mut data = ServiceData { octets: [0; SERVICE_BYTES], length: 0 };
        if data.append(&self.0).is_some() {
            data.hint(IPV4_HINT, v4.map(|address| address.octets()));
            data.hint(IPV6_HINT, v6.map(|address| address.octets()));
        }
        data
    }
}

impl ServiceData {
    /// In wire format.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    fn append(&mut self, octets: &[u8]) -> Option<()> {
        let end = self.length + octets.len();
        self.octets.get_mut(self.length..end)?.copy_from_slice(octets);
        self.length = end;
        Some(())
    }

    fn hint<const OCTETS: usize>(&mut self, key: u16, addresses: impl Iterator<Item = [u8; OCTETS]>) {
        let [high, low] = key.to_be_bytes();
        let start = self.length;
        if self.append(&[high, low, 0, 0]).is_none() {
            return;
        }
        for address in addresses {
            if self.append(&address).is_none() {
                break;
            }
        }
        let length = u16::try_from(self.length - start - 4).unwrap_or(0);
        if length == 0 {
            self.length = start;
        } else if let Some(place) = self.octets.get_mut(start + 2..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        base::{ParseRecordData, Rtype},
        dep::octseq::Parser,
        rdata::{AllRecordData, Https},
    };

    use super::*;

    fn shown(rtype: Rtype, data: &[u8]) -> String {
        let mut parser = Parser::from_ref(data);
        let read = AllRecordData::<&[u8], _>::parse_rdata(rtype, &mut parser).unwrap().unwrap();
        assert_eq!(parser.remaining(), 0);
        read.to_string()
    }

    #[test]
    fn a_service_says_protocols_port_and_hints_in_the_order_of_their_keys() {
        let v4 = || [1, 2].into_iter().map(|n| Ipv4Addr::new(192, 0, 2, n));
        let v6 = || ["2001:db8::1".parse().unwrap()].into_iter();
        let data = Service::new(&[b"h3", b"h2"], 8443).with_hints(v4(), v6());
        let mut parser = Parser::from_ref(data.as_slice());
        let read = Https::parse(&mut parser).unwrap();
        assert_eq!((read.priority(), read.target().is_root()), (1, true));
        let text = shown(Rtype::HTTPS, data.as_slice());
        for part in ["alpn=h3,h2", "port=8443", "ipv4hint=192.0.2.1,192.0.2.2", "ipv6hint=2001:db8::1"] {
            assert!(text.contains(part), "{text}");
        }
        let plain = Service::new(&[b"h2"], 443).with_hints(std::iter::empty(), std::iter::empty());
        assert_eq!(plain.as_slice(), b"\0\x01\0\0\x01\0\x03\x02h2");
        let none = Service::new(&[], 443).with_hints(v4().take(0), v6());
        assert_eq!(none.as_slice().len(), 3 + 4 + 16);
    }

    #[test]
    fn as_many_hints_as_an_answer_has_addresses_fit() {
        let v4 = (0..rules::steering::ADDRESSES_MAX).map(|_| Ipv4Addr::LOCALHOST);
        let v6 = (0..rules::steering::ADDRESSES_MAX).map(|_| Ipv6Addr::LOCALHOST);
        let data = Service::new(&[b"h3", b"h2"], 8443).with_hints(v4, v6);
        assert_eq!(data.as_slice().len(), 3 + 10 + 6 + 4 + 32 + 4 + 128);
        let many =
            Service::new(&[&[b'x'; 200]], 1).with_hints((0..99).map(|_| Ipv4Addr::LOCALHOST), std::iter::empty());
        assert!(many.as_slice().len() <= SERVICE_BYTES);
        shown(Rtype::HTTPS, many.as_slice());
    }

    #[test]
    fn texts_are_cut_into_strings_and_caa_has_its_tag() {
        assert_eq!(txt("a b"), b"\x03a b");
        assert_eq!(txt(""), b"\0");
        let long = txt(&"x".repeat(600));
        assert_eq!((long[0], long[256], long[512], long.len()), (255, 255, 90, 603));
        assert_eq!(shown(Rtype::CAA, &caa(true, "issue", "ca.example; x=1").unwrap()), "128 issue \"ca.example; x=1\"");
        assert_eq!(caa(false, "", "x"), None);
    }
}
