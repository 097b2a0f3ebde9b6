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
