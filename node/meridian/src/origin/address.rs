//! Where an origin is: its addresses, resolved off the request path, and which addresses no origin may have.
//!
//! Origins are named by the operator, in the configuration; so loopback and private addresses are the operator's
//! right (an origin beside the node is the common case). Link-local, cloud-metadata, unspecified and multicast
//! addresses are refused whoever names them, also when a name resolves to one later: the check is made on the
//! address that is connected to, each time names are resolved.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use region_config::Origin;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::error::OriginError;
use crate::{clock, tasks::Tasks};

/// For how long a resolved name is taken as it is.
const FRESH: Duration = Duration::from_secs(30);

/// From this age on a request waits a little for a new answer instead of trusting the old one.
const OLD: Duration = Duration::from_secs(300);

/// For how long such a request waits.
const OLD_WAIT: Duration = Duration::from_secs(1);

/// Time for one question to the system's resolver.
const QUESTION: Duration = Duration::from_secs(5);

/// Pause after a failed question.
const AGAIN: Duration = Duration::from_secs(2);

/// Most addresses kept of one name.
const ADDRESSES_MAX: usize = 16;

/// Whether no origin may have this address, and why.
///
/// IPv4 addresses written as IPv6 (mapped, RFC 4291 section 2.5.5.2; NAT64, RFC 6052) are looked through.
#[must_use]
pub fn forbidden(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6),
    }
}

fn forbidden_v4(ip: Ipv4Addr) -> Option<&'static str> {
    /// Metadata services outside of the link-local block.
    const METADATA: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
    if ip.is_link_local() {
        return Some("link-local");
    }
    if METADATA.contains(&ip) {
        return Some("metadata");
    }
    if ip.octets()[0] == 0 {
        return Some("unspecified");
    }
    (ip.is_multicast() || ip.is_broadcast()).then_some("multicast")
}

fn forbidden_v6(ip: Ipv6Addr) -> Option<&'static str> {
    /// The metadata service of a large provider.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if ip.is_unicast_link_local() {
        return Some("link-local");
    }
    if ip == METADATA {
        return Some("metadata");
    }
    if ip.is_unspecified() {
        return Some("unspecified");
    }
    if ip.is_multicast() {
        return Some("multicast");
    }
    let parts = ip.segments();
    if parts[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [.., a, b, c, d] = ip.octets();
        return forbidden_v4(Ipv4Addr::new(a, b, c, d));
    }
    None
}

/// What is known of a name.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The last good answer, in the order to try; only addresses an origin may have.
    addresses: Arc<[SocketAddr]>,
    /// When that was; none if there was none yet.
    answered: Option<Instant>,
    /// Why the last question failed, if it did.
    failure: Option<OriginError>,
}

/// The addresses of one origin. Cheap to ask; a task of its own asks the resolver.
#[derive(Debug)]
pub(super) struct Addresses {
    known: watch::Receiver<Known>,
    wanted: Arc<Notify>,
}

impl Addresses {
    /// Starts to look after the addresses of `origin`. A host that is an IP address needs no task.
    pub(super) fn start(origin: &Origin, tasks: &Tasks, retired: tokio_util::sync::CancellationToken) -> Self {
        let wanted = Arc::new(Notify::new());
        let (teller, known) = watch::channel(Known::default());
        match origin.host.parse::<IpAddr>() {
            Ok(ip) => {
                teller.send_replace(learned(&origin.host, vec![SocketAddr::new(ip, origin.port)], &Known::default()));
            }
            Err(_) => {
                let (host, port, wanted) = (origin.host.clone(), origin.port, Arc::clone(&wanted));
                tasks.spawn_until_stopped("origin-addresses", async move {
                    tokio::select! {
                        () = retired.cancelled() => {}
                        () = keep_asking(host, port, teller, wanted) => {}
                    }
                });
            }
        }
        Self { known, wanted }
    }

    /// The addresses to try, in order, at least one. Waits only for the first answer, or a little for an old one.
    ///
    /// # Errors
    /// [`OriginError::Unresolved`] or [`OriginError::Forbidden`]; the caller bounds the wait.
    pub(super) async fn ask(&self) -> Result<Arc<[SocketAddr]>, OriginError> {
        self.wanted.notify_one();
        let mut known = self.known.clone();
        let age = known.borrow().answered.map(|at| Instant::from_std(clock::instant()).saturating_duration_since(at));
        let still_new = |known: &Known| known.answered.is_some() || known.failure.is_some();
        match age {
            None => drop(known.wait_for(still_new).await),
            Some(age) if age > OLD && self.known.has_changed().is_ok() => {
                known.mark_unchanged();
                drop(tokio::time::timeout(OLD_WAIT, known.changed()).await);
            }
            Some(_) => {}
        }
        let known = known.borrow().clone();
        if !known.addresses.is_empty() {
            return Ok(known.addresses);
        }
        Err(known.failure.unwrap_or(OriginError::NoHealthyOrigin))
    }
}

/// Asks at once, and again whenever the answer is no longer fresh and somebody wants it.
async fn keep_asking(host: String, port: u16, teller: watch::Sender<Known>, wanted: Arc<Notify>) {
    loop {
        let answer = tokio::time::timeout(QUESTION, tokio::net::lookup_host((host.as_str(), port))).await;
        let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
        let before = teller.borrow().clone();
        let known = match answer {
            Ok(found) => learned(&host, found.collect(), &before),
            Err(error) => unresolved(&host, &error, before),
        };
        if let Some(failure) = &known.failure {
            tracing::warn!(%host, %failure, "origin name");
        }
        let pause = if known.failure.is_some() { AGAIN } else { FRESH };
        teller.send_replace(known);
        tokio::time::sleep(pause).await;
        wanted.notified().await;
    }
}

/// A new answer: without what is forbidden, IPv6 and IPv4 in turn (RFC 8305 section 4, in small).
fn learned(host: &str, found: Vec<SocketAddr>, before: &Known) -> Known {
    let (v6, v4): (Vec<_>, Vec<_>) =
        found.into_iter().filter(|addr| forbidden(addr.ip()).is_none()).partition(SocketAddr::is_ipv6);
    let mut addresses = Vec::with_capacity(v6.len() + v4.len());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] || addresses.len() >= ADDRESSES_MAX {
            break;
        }
        addresses.extend(pair.into_iter().flatten());
    }
    if addresses.is_empty() {
        // the name now says something that may not be followed: the old answer goes too, since it is withdrawn
        let failure = Some(OriginError::Forbidden { host: host.to_owned() });
        return Known { addresses: Arc::default(), answered: before.answered, failure };
    }
    Known { addresses: addresses.into(), answered: Some(Instant::from_std(clock::instant())), failure: None }
}

/// A failed question: the last good answer stays.
fn unresolved(host: &str, error: &io::Error, before: Known) -> Known {
    let why = error.to_string();
    Known { failure: Some(OriginError::Unresolved { host: host.to_owned(), why }), ..before }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn link_local_and_metadata_addresses_are_refused_in_every_spelling() {
        for bad in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "::ffff:a9fe:a9fe",
            "64:ff9b::169.254.169.254",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(forbidden(bad.parse().unwrap()).is_some(), "{bad}");
        }
        for good in ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd00::1", "192.0.2.1", "2001:db8::1"] {
            assert_eq!(forbidden(good.parse().unwrap()), None, "{good}");
        }
    }

    #[test]
    fn a_failed_question_keeps_the_last_good_answer() {
        let good = learned("o.test", vec!["192.0.2.1:80".parse().unwrap()], &Known::default());
        let after = unresolved("o.test", &io::Error::other("SERVFAIL"), good.clone());
        assert_eq!(after.addresses, good.addresses);
        assert!(after.failure.is_some());
    }

    #[test]
    fn families_are_tried_in_turn_and_forbidden_addresses_never() {
        let found = ["192.0.2.1:80", "192.0.2.2:80", "169.254.169.254:80", "[2001:db8::1]:80"];
        let known = learned("o.test", found.iter().map(|a| a.parse().unwrap()).collect(), &Known::default());
        let text: Vec<_> = known.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["[2001:db8::1]:80", "192.0.2.1:80", "192.0.2.2:80"]);
        let none = learned("o.test", vec!["169.254.169.254:80".parse().unwrap()], &known);
        assert!(none.addresses.is_empty() && matches!(none.failure, Some(OriginError::Forbidden { .. })));
    }
}
