//! Connecting to the first of several addresses that takes a connection (RFC 8305, "Happy Eyeballs").

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::net::TcpStream;

use super::error::OriginError;

/// Head start of an address before the next one is tried beside it (RFC 8305 section 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the addresses in their order, each a little after the one before or as soon as that has failed, and takes
/// the first connection that stands. The others are dropped. The caller bounds the wait.
///
/// # Errors
/// The last address's, if none takes a connection.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, OriginError> {
    let mut waiting = addresses.iter();
    let mut trying = FuturesUnordered::new();
    let mut last = OriginError::Unreachable("no address".into());
    loop {
        if let Some(next) = waiting.next() {
            trying.push(tcp(*next));
        } else if trying.is_empty() {
            return Err(last);
        }
        let ended = if waiting.len() == 0 {
            trying.next().await
        } else {
            // none by then: the next address joins the race
            tokio::time::timeout(HEAD_START, trying.next()).await.unwrap_or(None)
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => last = error,
            None => {}
        }
    }
}

/// A TCP connection to one address.
async fn tcp(address: SocketAddr) -> Result<TcpStream, OriginError> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => OriginError::Refused,
        io::ErrorKind::TimedOut => OriginError::ConnectTimeout,
        _ => OriginError::Unreachable(error.to_string()),
    })?;
    stream.set_nodelay(true).map_err(|error| OriginError::Unreachable(error.to_string()))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// An address that takes connections, and one that refuses them for as long as its socket is held.
    async fn two() -> (TcpListener, TcpSocket, [SocketAddr; 2]) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let deaf = TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addresses = [listener.local_addr().unwrap(), deaf.local_addr().unwrap()];
        (listener, deaf, addresses)
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_passed_over_at_once() {
        let (_listener, _deaf, [good, deaf]) = two().await;
        let start = crate::clock::instant();
        assert_eq!(connect(&[deaf, deaf, good]).await.unwrap().peer_addr().unwrap(), good);
        assert!(start.elapsed() < HEAD_START);
        assert!(matches!(connect(&[deaf, deaf]).await, Err(OriginError::Refused)));
        assert!(connect(&[]).await.is_err());
    }

    #[tokio::test]
    async fn an_address_that_is_silent_costs_its_head_start_only() {
        let (_listener, _deaf, [good, _]) = two().await;
        // a queue that is full takes no further connection, and says nothing
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = full.listen(1).unwrap();
        let address = silent.local_addr().unwrap();
        let mut fill = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(HEAD_START / 5, TcpStream::connect(address)).await {
            fill.push(stream);
        }
        let start = crate::clock::instant();
        assert_eq!(connect(&[address, good]).await.unwrap().peer_addr().unwrap(), good);
        assert!((HEAD_START..HEAD_START * 4).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}
