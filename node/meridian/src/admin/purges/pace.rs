//! How many orders a token, and all tokens of a tenant, may send in a second. As many again may come at once.
//!
//! One number for each says when its next order is due (GCRA), so that a limit costs no memory per order.

use std::collections::HashMap;

use parking_lot::Mutex;
use region_config::{Config, Token};

/// Names that are remembered; those that have been quiet are forgotten first, which costs them nothing.
const NAMES_MAX: usize = 4_096;
const SECOND_US: u64 = 1_000_000;

/// The turns of all tokens and tenants.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the next order is due, in us.
    due_us: Mutex<HashMap<Name, u64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Token(String),
    Tenant(String),
}

impl Pace {
    /// A token orders something. Says in how many seconds it may, if not now; then nothing is counted.
    pub(super) fn order(&self, config: &Config, token: &Token, now_us: u64) -> Result<(), u64> {
        let tenant = config.tenants.iter().find(|tenant| tenant.name == token.tenant);
        let own = (Name::Token(token.name.to_string()), token.purges_per_second);
        let shared = tenant.and_then(|tenant| Some((Name::Tenant(tenant.name.to_string()), tenant.purges_per_second?)));
        let limits: Vec<(Name, u32)> = std::iter::once(own).chain(shared).collect();
        let mut due = self.due_us.lock();
        if due.len() >= NAMES_MAX {
            due.retain(|_, due_us| *due_us > now_us);
        }
        let late_us = |(name, rate): &(Name, u32)| {
            let due_us = due.get(name).copied().unwrap_or(0).max(now_us);
            (due_us + every_us(*rate)).saturating_sub(now_us + SECOND_US)
        };
        if let Some(late_us) = limits.iter().map(late_us).max().filter(|late_us| *late_us > 0) {
            return Err(late_us.div_ceil(SECOND_US));
        }
        for (name, rate) in limits {
            let due_us = due.entry(name).or_insert(0);
            *due_us = (*due_us).max(now_us) + every_us(rate);
        }
        Ok(())
    }
}

fn every_us(rate: u32) -> u64 {
    SECOND_US / u64::from(rate.max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::{Digest, TenantId, TokenId};

    use super::*;
    use crate::observe::tests::{config, site};

    fn token(name: &str, rate: u32) -> Token {
        Token {
            name: TokenId::parse(name).unwrap(),
            digest: Digest::of(name.as_bytes()),
            tenant: TenantId::parse("default").unwrap(),
            sites: Vec::new(),
            verbs: Vec::new(),
            purges_per_second: rate,
        }
    }

    fn taken(pace: &Pace, config: &Config, token: &Token, orders: usize, now_us: u64) -> usize {
        (0..orders).filter(|_| pace.order(config, token, now_us).is_ok()).count()
    }

    #[test]
    fn a_second_s_worth_comes_at_once_and_the_rest_in_its_time() {
        let (pace, config, token) = (Pace::default(), config(vec![site("s")]), token("cms", 10));
        assert_eq!(taken(&pace, &config, &token, 100, 5 * SECOND_US), 10);
        assert_eq!(pace.order(&config, &token, 5 * SECOND_US), Err(1));
        assert_eq!(taken(&pace, &config, &token, 100, 6 * SECOND_US), 10);
        let slowly = (0..100).filter(|n| pace.order(&config, &token, 10 * SECOND_US + n * 100_000).is_ok());
        assert_eq!(slowly.count(), 100);
    }

    #[test]
    fn tokens_have_limits_of_their_own_and_share_that_of_the_tenant() {
        let (pace, mut config) = (Pace::default(), config(vec![site("s")]));
        let (one, two) = (token("one", 10), token("two", 10));
        assert_eq!((taken(&pace, &config, &one, 50, 1), taken(&pace, &config, &two, 50, 1)), (10, 10));
        config.tenants = vec![region_config::Tenant::new(TenantId::parse("default").unwrap())];
        config.tenants[0].purges_per_second = Some(5);
        let later = 9 * SECOND_US;
        assert_eq!((taken(&pace, &config, &one, 50, later), taken(&pace, &config, &two, 50, later)), (5, 0));
    }
}
