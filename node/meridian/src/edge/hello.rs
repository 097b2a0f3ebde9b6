//! The beginning of a client's TLS connection (RFC 8446 section 4.1.2), read before it is decided who answers it.

use std::io;

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use wire::relay::HELLO_BYTES_MAX;

/// What is reserved for a `ClientHello`: the usual ones, with keys that outlast quantum computers, fit.
const USUAL_BYTES: usize = 2048;

/// A `ClientHello`, and the stream that it came on.
pub(super) struct Hello<IO> {
    pub(super) accepted: Accepted,
    pub(super) io: IO,
    /// Everything that the client has sent so far, as it came.
    pub(super) bytes: Vec<u8>,
    name: Option<String>,
}

/// Why a connection ends before it has begun: the description of a fatal alert (RFC 8446 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alert {
    /// Those who could serve the client are out of reach.
    InternalError = 80,
    /// The name is not served here (RFC 6066 section 3). rustls has no way to say it from a certificate resolver: there it
    /// says access_denied.
    UnrecognisedName = 112,
}

impl Alert {
    /// The record that says so:
    ///
    /// ```text
    /// 15     alert
    /// 03 03  TLS 1.2, as all records say
    /// 00 02  two bytes
    /// 02     fatal
    /// ..     why
    /// ```
    pub(super) const fn record(self) -> [u8; 7] {
        [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, self as u8]
    }
}

impl<IO> Hello<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    /// Reads until the `ClientHello` is whole, in however many records and packets it comes. The caller bounds the time; the
    /// size is bounded by [`HELLO_BYTES_MAX`].
    ///
    /// # Errors
    /// [`io::Error`] of the stream, or `InvalidData` if it is no TLS that rustls knows; the client has been told then.
    pub(super) async fn read(mut io: IO) -> io::Result<Self> {
        let (mut acceptor, mut bytes) = (Acceptor::default(), Vec::with_capacity(USUAL_BYTES));
        loop {
            let before = bytes.len();
            let left = HELLO_BYTES_MAX.saturating_sub(before);
            if left == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a ClientHello that does not end"));
            }
            if (&mut io).take(left as u64).read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut new = bytes.get(before..).unwrap_or_default();
            while !new.is_empty() {
                acceptor.read_tls(&mut new)?;
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return Ok(Self { accepted, io, bytes, name });
                }
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut told = Vec::new();
                    alert.write_all(&mut told)?;
                    io.write_all(&told).await?;
                    io.shutdown().await?;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }

    /// The name that the client asks for, if it names one (SNI).
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Tells the client that it is not served, and ends.
    ///
    /// # Errors
    /// [`io::Error`] of the stream.
    pub(super) async fn refuse(mut self, alert: Alert) -> io::Result<()> {
        self.io.write_all(&alert.record()).await?;
        self.io.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};

    use super::*;

    /// What a client sends first.
    fn hello(name: &'static str) -> Vec<u8> {
        let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut bytes = Vec::new();
        ClientConnection::new(Arc::new(client), name.try_into().unwrap()).unwrap().write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same in records of at most so many bytes.
    fn in_records(hello: &[u8], most: usize) -> Vec<u8> {
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[0x16, 0x03, 0x01][..], &length, part].concat()
        };
        hello[5..].chunks(most).flat_map(record).collect()
    }

    /// Reads what comes in pieces of so many bytes.
    async fn read(bytes: &[u8], piece: usize) -> io::Result<Hello<tokio::io::DuplexStream>> {
        let (mut near, far) = tokio::io::duplex(piece);
        let client = async {
            // the other side may have gone
            let _gone = near.write_all(bytes).await;
            let _gone = near.shutdown().await;
            let _gone = tokio::io::copy(&mut near, &mut tokio::io::sink()).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            read = Hello::read(far) => read,
            () = client => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    #[tokio::test]
    async fn a_hello_is_read_in_whatever_pieces_it_comes_and_kept_as_it_came() {
        let whole = hello("www.sealed.test");
        assert!(whole.len() > 1024, "a key that outlasts quantum computers: {} bytes", whole.len());
        for bytes in [whole.clone(), in_records(&whole, 100), in_records(&whole, 1)] {
            for piece in [1, 7, 1400, 64 * 1024] {
                let read = read(&bytes, piece).await.unwrap();
                assert_eq!((read.name(), &read.bytes), (Some("www.sealed.test"), &bytes), "pieces of {piece}");
            }
        }
        assert_eq!(read(&hello("192.0.2.7"), 64).await.unwrap().name(), None);
    }

    #[tokio::test]
    async fn what_is_no_hello_is_refused_and_what_does_not_end_is_too_long() {
        let kind = |read: io::Result<Hello<_>>| match read {
            Ok(_) => panic!("that was taken"),
            Err(error) => error.kind(),
        };
        for bytes in [&b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 64]] {
            assert_eq!(kind(read(bytes, 64).await), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        let whole = hello("a.test");
        assert_eq!(kind(read(&whole[..whole.len() - 1], 64).await), io::ErrorKind::UnexpectedEof);
        let mut endless = vec![0x01, 0x00, 0xf0, 0x00];
        endless.resize(2 * HELLO_BYTES_MAX, 0);
        let endless = in_records(&[&[0; 5], &endless[..]].concat(), 1024);
        assert_eq!(kind(read(&endless, 4096).await), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_refusal_is_an_alert() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let bytes = hello("a.test");
        far.write_all(&bytes).await.unwrap();
        Hello::read(near).await.unwrap().refuse(Alert::UnrecognisedName).await.unwrap();
        let mut told = Vec::new();
        far.read_to_end(&mut told).await.unwrap();
        assert_eq!(told, [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 112]);
    }
}
