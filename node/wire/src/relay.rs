//! What stands before a client's sealed bytes that one node passes on to another. Version 1:
//!
//! ```text
//! opening = u8 version, u128 client's address (IPv4 mapped into IPv6), what the client has sent so far
//! answer  = u8 1: taken; what follows is the other node's side of the client's TLS
//! ```
//! The opening is one frame. After it, and after the answer, both directions are the client's bytes and nothing else.

use std::net::{IpAddr, Ipv6Addr};

use bytes::{Buf, Bytes};

use crate::message::MessageFault;

/// The version this module writes, and the only one it reads.
pub const VERSION: u8 = 1;

/// The most that a client may send before its `ClientHello` is complete, in bytes.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// The longest opening, in bytes.
pub const OPENING_BYTES_MAX: usize = 1 + 16 + HELLO_BYTES_MAX;

/// The answer to an opening: the connection is taken. No other answer is known; who does not take it ends the stream.
pub const TAKEN: u8 = 1;

/// The first of what is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The client's address. Whoever reads it believes it, as it believes the node that says it.
    pub client: IpAddr,
    /// What the client has sent so far: its `ClientHello`, as it came.
    pub hello: Bytes,
}

impl Opening {
    /// Writes it.
    ///
    /// # Errors
    /// [`MessageFault::Limit`] if the client has sent more than [`HELLO_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, MessageFault> {
        within(self.hello.len())?;
        let mapped = match self.client {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut out = Vec::with_capacity(1 + 16 + self.hello.len());
        out.push(VERSION);
        out.extend_from_slice(&mapped.octets());
        out.extend_from_slice(&self.hello);
        Ok(out)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`MessageFault`] if it is none.
    pub fn decode(mut from: Bytes) -> Result<Self, MessageFault> {
        match from.try_get_u8().map_err(|_| MessageFault::Short("version"))? {
            VERSION => {}
            other => return Err(MessageFault::Version(other)),
        }
        let client = from.try_get_u128().map_err(|_| MessageFault::Short("client"))?;
        within(from.len())?;
        Ok(Self { client: IpAddr::V6(Ipv6Addr::from_bits(client)).to_canonical(), hello: from })
    }
}

fn within(bytes: usize) -> Result<(), MessageFault> {
    if bytes > HELLO_BYTES_MAX {
        return Err(MessageFault::Limit { what: "bytes of a hello", found: bytes, max: HELLO_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn opening(client: &str, hello: usize) -> Opening {
        Opening { client: client.parse().unwrap(), hello: vec![0x16; hello].into() }
    }

    #[test]
    fn what_is_written_is_read() {
        for (client, hello) in [("192.0.2.7", 517), ("2001:db8::7", 0), ("::1", HELLO_BYTES_MAX)] {
            let opening = opening(client, hello);
            let bytes = Bytes::from(opening.encode().unwrap());
            assert!(bytes.len() <= OPENING_BYTES_MAX);
            assert_eq!(Opening::decode(bytes).unwrap(), opening);
        }
    }

    #[test]
    fn what_is_no_opening_is_refused() {
        let faulty = |bytes: &[u8]| Opening::decode(Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!(faulty(&[]), MessageFault::Short("version"));
        assert_eq!(faulty(&[2; 40]), MessageFault::Version(2));
        assert_eq!(faulty(&[1; 16]), MessageFault::Short("client"));
        assert!(matches!(faulty(&[1; OPENING_BYTES_MAX + 1]), MessageFault::Limit { .. }));
        assert!(matches!(opening("::1", HELLO_BYTES_MAX + 1).encode(), Err(MessageFault::Limit { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(read) = Opening::decode(Bytes::from(bytes)) {
                prop_assert_eq!(Opening::decode(read.encode().unwrap().into()).unwrap(), read);
            }
        }
    }
}
