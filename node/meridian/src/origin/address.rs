//! Where an origin is: its addresses, resolved off the request path, and which addresses no origin may have.
//!
//! Origins are named by the operator, in the configuration; so loopback and private addresses are the operator's
//! right (an origin beside the node is the common case). Link-local, cloud-metadata, unspecified and multicast
//! addresses are refused whoever names them, also when a name resolves to one later: the check is made on the
//! address that is connected to, each time names are resolved.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use region_config::Origin;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    error::OriginError,
    resolver::{Resolved, Resolvers},
};
use crate::{clock, tasks::Tasks};

/// For how long an answer is taken as it is, at least and at most, whatever lifetime it has.
const FRESH_MIN: Duration = Duration::from_secs(1);
const FRESH_MAX: Duration = Duration::from_secs(300);

/// So long past its lifetime a request waits a little for a new answer instead of trusting the old one: nobody has
/// wanted it for a while.
const OLD: Duration = Duration::from_secs(5);

/// For how long such a request waits.
const OLD_WAIT: Duration = Duration::from_secs(1);

/// Time for one question.
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
    /// Until when it holds; none if there was none yet.
    until: Option<Instant>,
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
    pub(super) fn start(
        origin: &Origin,
        resolvers: &Resolvers,
        tasks: &Tasks,
        retired: tokio_util::sync::CancellationToken,
    ) -> Self {
        let wanted = Arc::new(Notify::new());
        let (teller, known) = watch::channel(Known::default());
        match origin.host.parse::<IpAddr>() {
            Ok(ip) => {
                let until = Instant::from_std(clock::instant()) + FRESH_MAX;
                teller.send_replace(learned(&origin.host, origin.port, &[ip], until));
            }
            Err(_) => {
                let (host, port, wanted) = (origin.host.clone(), origin.port, Arc::clone(&wanted));
                let resolvers = resolvers.clone();
                tasks.spawn_until_stopped("origin-addresses", async move {
                    tokio::select! {
                        () = retired.cancelled() => {}
                        () = keep_asking(host, port, resolvers, teller, wanted) => {}
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
        let (until, failing) = {
            let known = known.borrow();
            (known.until, known.failure.is_some())
        };
        let past = until.map(|until| Instant::from_std(clock::instant()).saturating_duration_since(until));
        match past {
            None => drop(known.wait_for(|known| known.until.is_some() || known.failure.is_some()).await),
            // while the resolver fails, the last good answer is as good as it gets
            Some(past) if past > OLD && !failing && self.known.has_changed().is_ok() => {
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

    /// Whether the origin still has this address, as far as is known: a connection to one that it has no more is not
    /// kept. Whoever keeps a connection wants to know, so that the name is asked for while no new one is opened.
    pub(super) fn include(&self, address: SocketAddr) -> bool {
        self.wanted.notify_one();
        let known = self.known.borrow();
        known.addresses.is_empty() || known.addresses.contains(&address)
    }
}

/// Asks at once, and again whenever the answer's lifetime is over and somebody wants it.
async fn keep_asking(host: String, port: u16, resolvers: Resolvers, teller: watch::Sender<Known>, wanted: Arc<Notify>) {
    loop {
        let answer = tokio::time::timeout(QUESTION, Box::pin(resolvers.ask(&host))).await;
        let known = match answer.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(Resolved { addresses, until }) => learned(&host, port, &addresses, bounded(until)),
            Err(why) => unresolved(&host, &why, teller.borrow().clone()),
        };
        let now = Instant::from_std(clock::instant());
        let pause = match (&known.failure, known.until) {
            (Some(failure), _) => {
                tracing::warn!(%host, %failure, "origin name");
                AGAIN
            }
            (None, until) => until.unwrap_or(now).saturating_duration_since(now),
        };
        teller.send_replace(known);
        tokio::time::sleep(pause).await;
        wanted.notified().await;
    }
}

/// The end of a lifetime, within the least and the most.
fn bounded(until: std::time::Instant) -> Instant {
    let now = Instant::from_std(clock::instant());
    Instant::from_std(until).clamp(now + FRESH_MIN, now + FRESH_MAX)
}

/// A new answer: without what is forbidden, IPv6 and IPv4 in turn (RFC 8305 section 4).
fn learned(host: &str, port: u16, found: &[IpAddr], until: Instant) -> Known {
    let allowed = found.iter().filter(|ip| forbidden(**ip).is_none()).map(|ip| SocketAddr::new(*ip, port));
    let (v6, v4): (Vec<_>, Vec<_>) = allowed.partition(SocketAddr::is_ipv6);
    let mut addresses = Vec::with_capacity(v6.len() + v4.len());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] || addresses.len() >= ADDRESSES_MAX {
            break;
        }
        addresses.extend(pair.into_iter().flatten());
    }
    // a name that says only what may not be followed: the old answer goes too, since it is withdrawn
    let failure = addresses.is_empty().then(|| OriginError::Forbidden { host: host.to_owned() });
    Known { addresses: addresses.into(), until: Some(until), failure }
}

/// A failed question: the last good answer stays.
fn unresolved(host: &str, why: &str, before: Known) -> Known {
    let why = why.chars().take(200).collect();
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
        let good = learned("o.test", 80, &["192.0.2.1".parse().unwrap()], Instant::from_std(clock::instant()));
        let after = unresolved("o.test", "SERVFAIL", good.clone());
        assert_eq!(after.addresses, good.addresses);
        assert!(after.failure.is_some());
    }

    #[test]
    fn families_are_tried_in_turn_and_forbidden_addresses_never() {
        let until = Instant::from_std(clock::instant());
        let found = ["192.0.2.1", "192.0.2.2", "169.254.169.254", "2001:db8::1"].map(|a| a.parse().unwrap());
        let known = learned("o.test", 80, &found, until);
        let text: Vec<_> = known.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["[2001:db8::1]:80", "192.0.2.1:80", "192.0.2.2:80"]);
        let none = learned("o.test", 80, &["169.254.169.254".parse().unwrap()], until);
        assert!(none.addresses.is_empty() && matches!(none.failure, Some(OriginError::Forbidden { .. })));
    }
}
