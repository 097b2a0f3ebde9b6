//! Leaving in order: out of DNS at once; wait until no resolver can have an old answer any more; ask the clients that are
//! left to go; finish what runs; end.
//!
//! The order comes by the admin API and is carried out by the wiring. It cannot be taken back: a node that drains ends, and
//! starts anew as a good node. To take a node out of DNS without ending it is to force it (`health::Force::Drain`).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use region_config::Config;
use rules::steering::TTL_S;
use tokio::sync::Notify;

use crate::clock;

/// The longest wait for resolvers that may be ordered, in seconds.
pub const WAIT_S_MAX: u64 = 3_600;
/// How long clients may take to go, beyond the time that a kept connection has anyway.
const FINISH: Duration = Duration::from_secs(30);
/// How often it is looked whether all clients are gone.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How far a node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody told it to go.
    Serving,
    /// Out of DNS; serves all who come, until resolvers have forgotten it.
    Waiting,
    /// Asks those who are left to go.
    Leaving,
}

/// What was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// For how long resolvers may still send clients.
    pub wait: Duration,
    /// How long the clients that are left may take to go.
    pub finish: Duration,
}

impl Plan {
    /// Two of the longest TTLs that DNS gives out under this config, or as long as is ordered; no wait if no zone is
    /// answered for.
    #[must_use]
    pub fn of(config: &Config, wait: Option<Duration>) -> Self {
        let longest_s = config.sites.iter().map(|site| site.dns_ttl_s.clamp(TTL_S.0, TTL_S.1)).max();
        let two = Duration::from_secs(2 * u64::from(longest_s.unwrap_or(0)));
        let resolved = !config.zones.is_empty();
        let wait = wait.unwrap_or(if resolved { two } else { Duration::ZERO });
        Self { wait, finish: FINISH + Duration::from_millis(config.node.limits.head_ms) }
    }
}

/// The order to leave, and how far it is carried out.
#[derive(Debug)]
pub struct Drain {
    state: Mutex<(Phase, Option<Plan>, u64)>,
    told: Notify,
}

impl Drain {
    /// Nobody has told the node to go.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((Phase::Serving, None, 0)), told: Notify::new() })
    }

    /// Tells the node to go. Who is told again only waits for less: gives the plan that is in force.
    pub fn order(&self, plan: Plan) -> Plan {
        let mut state = self.state.lock();
        let plan = match state.1 {
            Some(before) if before.wait <= plan.wait => before,
            _ => plan,
        };
        if state.1.is_none() {
            (state.0, state.2) = (Phase::Waiting, clock::unix_ms());
        }
        state.1 = Some(plan);
        self.told.notify_one();
        plan
    }

    /// The order that is in force, once there is one; and each time that it is changed.
    pub async fn ordered(&self) -> Plan {
        loop {
            self.told.notified().await;
            let ordered = self.state.lock().1;
            if let Some(plan) = ordered {
                return plan;
            }
        }
    }

    /// Says that resolvers were waited for.
    pub fn leaving(&self) {
        self.state.lock().0 = Phase::Leaving;
    }

    /// How far it has come, with the order and when it came, in ms since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> (Phase, Option<Plan>, u64) {
        *self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::{config, site};

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_wait_is_two_of_the_longest_ttls_if_there_is_a_zone() {
        let (mut short, mut long) = (site("a"), site("b"));
        (short.dns_ttl_s, long.dns_ttl_s) = (5, 40);
        let mut config = config(vec![short, long]);
        assert_eq!(Plan::of(&config, None).wait, Duration::ZERO);
        config.zones.push(region_config::Zone {
            name: "z.test".into(),
            name_servers: Vec::new(),
            mailbox: "m.z.test".into(),
            ttl_s: 1,
            negative_ttl_s: 1,
            dnssec_keys: Vec::new(),
            caa: Vec::new(),
            texts: Vec::new(),
        });
        assert_eq!(Plan::of(&config, None).wait, 80 * S);
        assert_eq!(Plan::of(&config, Some(S)).wait, S);
    }

    #[tokio::test]
    async fn who_is_told_again_only_waits_for_less() {
        let drain = Drain::new();
        assert_eq!(drain.now().0, Phase::Serving);
        let plan = |wait| Plan { wait, finish: S };
        assert_eq!(drain.order(plan(10 * S)).wait, 10 * S);
        assert_eq!(drain.order(plan(20 * S)).wait, 10 * S);
        assert_eq!(drain.ordered().await.wait, 10 * S);
        assert_eq!(drain.order(plan(S)).wait, S);
        assert_eq!(drain.ordered().await.wait, S);
        assert_eq!(drain.now().0, Phase::Waiting);
    }
}
