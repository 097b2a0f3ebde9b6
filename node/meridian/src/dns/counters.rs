//! How many DNS messages came, and what became of them. Never who asked.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! events {
    ($($(#[$doc:meta])* $event:ident = $word:literal),+ $(,)?) => {
        /// What can become of a message. Exactly one of these is counted for each, and `Tcp`, `Subnet`, `Proven` and
        /// `Truncated` beside it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $event),+ }

        impl Event {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$event),+];

            /// The word for it in metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$event => $word),+ }
            }
        }
    };
}

events! {
    /// A site's addresses, of the region of first choice.
    Normal = "normal",
    /// A site's addresses, of another region.
    Failover = "failover",
    /// A site's addresses, though all its regions are down.
    FailStatic = "fail-static",
    /// A failure, since all of the site's regions are down and it wishes one then.
    AllDown = "all-down",
    /// What stands in the zone: SOA, NS, a name server's address, the minimal answer to ANY.
    Zone = "zone",
    /// The name exists and has no such record.
    NoData = "no-data",
    /// The name does not exist.
    NoName = "no-name",
    /// A name or class that is not ours, or a zone transfer.
    Refused = "refused",
    /// There is no geo table yet.
    NotReady = "not-ready",
    /// The site has no region that it may be served from.
    NoRegion = "no-region",
    /// The last check of steering held an answer back: a fault of this program.
    Invariant = "invariant-violated",
    /// A cookie without a question (RFC 7873 section 5.4), answered with one.
    CookieAlone = "cookie-alone",
    /// Its sender's block is over its rate: told to come over TCP, or to show the cookie it is given.
    Limited = "rate-limited",
    /// Its sender's block is over its rate: not answered at all.
    Withheld = "rate-dropped",
    /// Not a proper query, another opcode, another EDNS version.
    Malformed = "malformed",
    /// Too short for an answer, an answer itself, or from port 0.
    Dropped = "dropped",
    /// The program failed over this message, and dropped it.
    Panicked = "panicked",
    /// Beside the outcome: it came over TCP.
    Tcp = "tcp",
    /// Beside the outcome: it had a client subnet that was used.
    Subnet = "client-subnet",
    /// Beside the outcome: it showed a cookie which proves where it came from.
    Proven = "cookie",
    /// Beside the outcome: the answer did not fit, or its sender is to come over TCP, and it said so.
    Truncated = "truncated",
}

/// Counts of what one thread met since it last told the others.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: [u32; Event::ALL.len()],
    /// Which of them are not 0.
    some: u32,
}

impl Tally {
    /// Counts one.
    pub(super) fn note(&mut self, event: Event) {
        let count = &mut self.counts[event as usize];
        *count = count.saturating_add(1);
        self.some |= 1 << event as u32;
    }

    /// Adds it to what all threads count, and begins anew.
    pub(super) fn tell(&mut self, counters: &Counters) {
        while self.some != 0 {
            let at = self.some.trailing_zeros() as usize;
            counters.0[at].fetch_add(u64::from(std::mem::take(&mut self.counts[at])), Relaxed);
            self.some &= self.some - 1;
        }
    }
}

/// Counts of [`Event`]s since the start.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Event::ALL.len()]);

impl Counters {
    /// Counts one.
    pub fn note(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Relaxed);
    }

    /// How often an event was counted.
    #[must_use]
    pub fn count(&self, event: Event) -> u64 {
        self.0[event as usize].load(Relaxed)
    }

    /// All counts.
    pub fn all(&self) -> impl Iterator<Item = (Event, u64)> + '_ {
        Event::ALL.iter().map(|event| (*event, self.count(*event)))
    }
}
