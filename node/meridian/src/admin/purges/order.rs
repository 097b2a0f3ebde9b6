//! An order becomes work: checked against the config and against what its sender may do and know.

use std::{sync::Arc, time::Duration};

use region_config::{Config, RealmId, Site, Verb};
use rules::purge::{Mode, PurgeKey};

use super::scope;
use crate::admin::{
    model::{PurgeMode, PurgeOrder, PurgeWait},
    problem::{Problem, Refusal},
    who::Who,
};

/// Longest wait of an answer, and what it is where nothing is said, in ms.
const TIMEOUT_MS_MAX: u64 = 60_000;
const TIMEOUT_MS: u64 = 10_000;
const IDEMPOTENCY_BYTES_MAX: usize = 64;

/// What a purge is about.
#[derive(Debug, Clone)]
pub(super) enum About {
    /// A site.
    Site(Arc<Site>),
    /// All sites of a realm.
    Realm(RealmId),
}

/// An order that was checked.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) about: About,
    pub(super) keys: Vec<PurgeKey>,
    pub(super) mode: Mode,
    pub(super) idempotency_key: Option<String>,
    pub(super) wait: PurgeWait,
    pub(super) timeout: Duration,
}

/// What an order asks for.
#[derive(Debug)]
pub(super) enum Works {
    /// One purge.
    One(Work),
    /// One for each site of a tenant.
    Each(Vec<Work>),
}

impl Work {
    /// The site's name; none if it is about a realm.
    pub(super) fn site(&self) -> Option<&str> {
        match &self.about {
            About::Site(site) => Some(site.name.as_str()),
            About::Realm(_) => None,
        }
    }
}

/// Checks an order. What it names must be there, and known to its sender; and it must name something.
pub(super) fn checked(config: &Config, who: &Who, order: &PurgeOrder) -> Result<Works, Refusal> {
    let common = common(order)?;
    let named = [&order.site, &order.tenant, &order.realm];
    match (named.iter().filter(|name| name.is_some()).count(), &order.site, &order.tenant, &order.realm) {
        (1, Some(site), ..) => {
            let site = who.site(config, site)?;
            let work = common.about(site, scope::keys(site, order)?);
            allowed(who, &work.keys)?;
            Ok(Works::One(work))
        }
        (1, _, Some(tenant), _) => of_tenant(config, who, order, tenant, &common),
        (1, _, _, Some(realm)) => of_realm(config, who, order, realm, common),
        (0, ..) => Err(Problem::unprocessable("the order does not say whose content to purge")
            .expected("`site`, or `tenant`, or (for the operator) `realm`")),
        _ => Err(Problem::unprocessable("the order names more than one of `site`, `tenant` and `realm`")
            .expected("one of them")),
    }
}

fn of_tenant(config: &Config, who: &Who, order: &PurgeOrder, tenant: &str, common: &Common) -> Result<Works, Refusal> {
    let sites = who.sites_of(config, tenant)?;
    if !(order.urls.is_empty() && order.prefixes.is_empty() && order.hosts.is_empty()) {
        let detail = "URLs, prefixes and hosts are of one site, and the order is for all sites of a tenant";
        return Err(Problem::unprocessable(detail).expected("`tags` or `everything`; or `site` instead of `tenant`"));
    }
    let works = sites.into_iter().map(|site| {
        let work = common.about(site, scope::keys(site, order)?);
        allowed(who, &work.keys)?;
        Ok(work)
    });
    works.collect::<Result<_, Refusal>>().map(Works::Each)
}

fn of_realm(config: &Config, who: &Who, order: &PurgeOrder, realm: &str, common: Common) -> Result<Works, Refusal> {
    who.operator("a purge of a whole realm")?;
    let known = |it: &RealmId| {
        *it == RealmId::global() || config.jurisdictions.iter().any(|one| RealmId::pinned(&one.name) == *it)
    };
    let Some(realm) = RealmId::parse(realm).ok().filter(known) else {
        return Err(Problem::not_found("there is no such realm").found(realm).expected("`global` or a jurisdiction"));
    };
    let names = order.urls.len() + order.prefixes.len() + order.hosts.len() + order.tags.len();
    if names > 0 || !order.everything {
        let detail = "a whole realm is purged of everything, and that has to be said";
        return Err(Problem::unprocessable(detail).expected("`\"everything\": true` and nothing else"));
    }
    Ok(Works::One(Work {
        about: About::Realm(realm),
        keys: vec![PurgeKey::Realm],
        mode: common.mode,
        idempotency_key: common.idempotency_key,
        wait: common.wait,
        timeout: common.timeout,
    }))
}

/// A whole host is as much for the origin as a whole site.
fn allowed(who: &Who, keys: &[PurgeKey]) -> Result<(), Refusal> {
    let whole = keys.iter().any(|key| matches!(key, PurgeKey::Host(_) | PurgeKey::Site | PurgeKey::Realm));
    who.may(if whole { Verb::PurgeEverything } else { Verb::Purge })
}

/// What is said of every purge of an order.
struct Common {
    mode: Mode,
    idempotency_key: Option<String>,
    wait: PurgeWait,
    timeout: Duration,
}

impl Common {
    fn about(&self, site: &Arc<Site>, keys: Vec<PurgeKey>) -> Work {
        Work {
            about: About::Site(Arc::clone(site)),
            keys,
            mode: self.mode,
            idempotency_key: self.idempotency_key.clone(),
            wait: self.wait,
            timeout: self.timeout,
        }
    }
}

fn common(order: &PurgeOrder) -> Result<Common, Refusal> {
    if let Some(key) = order.idempotency_key.as_ref().filter(|key| !idempotency_key(key)) {
        let expected = format!("1 to {IDEMPOTENCY_BYTES_MAX} visible ASCII characters");
        return Err(Problem::unprocessable("the idempotency key cannot be used").found(key).expected(expected));
    }
    let timeout_ms = order.timeout_ms.unwrap_or(TIMEOUT_MS);
    if timeout_ms > TIMEOUT_MS_MAX {
        let expected = format!("at most {TIMEOUT_MS_MAX}");
        let problem = Problem::unprocessable("`timeout_ms` is too large");
        return Err(problem.found(&timeout_ms.to_string()).expected(expected));
    }
    Ok(Common {
        mode: match order.mode {
            PurgeMode::Hard => Mode::Hard,
            PurgeMode::Soft => Mode::Soft,
        },
        idempotency_key: order.idempotency_key.clone(),
        wait: order.wait,
        timeout: Duration::from_millis(timeout_ms),
    })
}

fn idempotency_key(key: &str) -> bool {
    (1..=IDEMPOTENCY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::{Digest, TenantId, Token, TokenId};
    use serde_json::{Value, json};

    use super::*;
    use crate::observe::tests::{config, site};

    fn fleet() -> Config {
        let mut bank = site("bank");
        bank.tenant = TenantId::parse("rich").unwrap();
        config(vec![site("shop"), site("blog"), bank])
    }

    fn token(verbs: &[Verb]) -> Who {
        Who::Application(Arc::new(Token {
            name: TokenId::parse("cms").unwrap(),
            digest: Digest::of(b"x"),
            tenant: fleet().sites[0].tenant.clone(),
            sites: Vec::new(),
            verbs: verbs.to_vec(),
            purges_per_second: 1,
        }))
    }

    fn works(who: &Who, order: Value) -> Result<Vec<Work>, (u16, String)> {
        let order = serde_json::from_value(order).unwrap();
        match checked(&fleet(), who, &order) {
            Ok(Works::One(work)) => Ok(vec![work]),
            Ok(Works::Each(works)) => Ok(works),
            Err(problem) => Err((problem.status, problem.detail)),
        }
    }

    #[test]
    fn an_order_is_about_one_site_or_the_sites_of_a_tenant_or_a_realm() {
        let admin = Who::Operator;
        let names = |order| {
            let works = works(&admin, order).unwrap();
            works.iter().map(|work| work.site().unwrap_or("-").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(json!({"site": "shop", "tags": ["a"]})), ["shop"]);
        assert_eq!(names(json!({"tenant": fleet().sites[0].tenant, "everything": true})), ["shop", "blog"]);
        assert_eq!(names(json!({"tenant": "rich", "tags": ["a"]})), ["bank"]);
        assert_eq!(names(json!({"realm": "global", "everything": true})), ["-"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (order, status) in [
            (json!({}), 422),
            (json!({"everything": true}), 422),
            (json!({"site": "nope", "everything": true}), 404),
            (json!({"site": "shop", "tenant": "rich", "everything": true}), 422),
            (json!({"tenant": "rich"}), 422),
            (json!({"tenant": "nobody", "everything": true}), 404),
            (json!({"tenant": "rich", "urls": ["http://bank.example/"]}), 422),
            (json!({"tenant": "rich", "hosts": ["bank.example"]}), 422),
            (json!({"realm": "global"}), 422),
            (json!({"realm": "global", "everything": true, "tags": ["a"]}), 422),
            (json!({"realm": "atlantis", "everything": true}), 404),
            (json!({"realm": "GLOBAL", "everything": true}), 404),
            (json!({"site": "shop", "tags": ["a"], "idempotency_key": ""}), 422),
            (json!({"site": "shop", "tags": ["a"], "idempotency_key": "a b"}), 422),
            (json!({"site": "shop", "tags": ["a"], "timeout_ms": 60_001}), 422),
        ] {
            assert_eq!(
                works(&Who::Operator, order.clone()).map_err(|(status, _)| status).unwrap_err(),
                status,
                "{order}"
            );
        }
    }

    #[test]
    fn a_token_does_what_its_verbs_say_and_knows_its_own() {
        let (plain, whole) = (token(&[Verb::Purge]), token(&[Verb::PurgeEverything]));
        let own = fleet().sites[0].tenant.clone();
        for (order, by_plain, by_whole) in [
            (json!({"site": "shop", "tags": ["a"]}), 200, 403),
            (json!({"site": "shop", "prefixes": ["http://shop.example/a/"]}), 200, 403),
            (json!({"site": "shop", "hosts": ["shop.example"]}), 403, 200),
            (json!({"site": "shop", "everything": true}), 403, 200),
            (json!({"tenant": own, "everything": true}), 403, 200),
            (json!({"site": "bank", "tags": ["a"]}), 404, 404),
            (json!({"tenant": "rich", "everything": true}), 404, 404),
            (json!({"realm": "global", "everything": true}), 403, 403),
        ] {
            for (who, status) in [(&plain, by_plain), (&whole, by_whole)] {
                assert_eq!(works(who, order.clone()).map_or_else(|(status, _)| status, |_| 200), status, "{order}");
            }
        }
    }
}
