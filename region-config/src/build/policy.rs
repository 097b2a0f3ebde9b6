//! A route's table -> its [`Policy`].

use super::{seconds, value, values};
use crate::{
    config::{Class, KeyRules, NegativeTtl, Normalise, Policy, QueryNames, QueryRules},
    leaf::Time,
    shape::At,
    written::{KeySection, NegativeSection, NormaliseSection, QuerySection, RouteSection},
};

/// The longest lifetime on a tight route that does not say, in seconds.
const TIGHT_MAX_S: u32 = 5;
/// How long a purge may go unheard on a tight route that does not say, in ms.
const TIGHT_STALENESS_MS: u64 = 5_000;
/// The lifetime of what names none and cannot be guessed, on a static route that does not say, in seconds.
const STATIC_DEFAULT_S: u32 = 86_400;

/// What a route's table says, with the defaults of its class.
pub(super) fn of(section: &RouteSection) -> Policy {
    let default = Policy::default();
    let class = value(&section.class).unwrap_or(default.class);
    Policy {
        cache: value(&section.cache).unwrap_or(default.cache),
        class,
        default_ttl_s: written(section.default_ttl.as_ref()).or((class == Class::Static).then_some(STATIC_DEFAULT_S)),
        ttl_min_s: seconds(&section.ttl_min, default.ttl_min_s),
        max_staleness_ms: section
            .max_staleness
            .as_ref()
            .map(|it| it.value.0)
            .or((class == Class::Tight).then_some(TIGHT_STALENESS_MS)),
        // who says how soon purges have to take effect relies on them, not on lifetimes
        ttl_max_s: written(section.ttl_max.as_ref())
            .or((class == Class::Tight && section.max_staleness.is_none()).then_some(TIGHT_MAX_S)),
        ttl_s: written(section.ttl.as_ref()),
        negative: section.negative_ttl.as_ref().map_or_else(NegativeTtl::default, |it| negative(&it.value)),
        heuristic: value(&section.heuristic).unwrap_or(class == Class::Static),
        stale_if_error_s: match class {
            Class::Tight | Class::Live => 0,
            Class::Static | Class::Standard => seconds(&section.stale_if_error, default.stale_if_error_s),
        },
        refresh_ahead: value(&section.refresh_ahead).unwrap_or(default.refresh_ahead),
        compress: value(&section.compress).unwrap_or(default.compress),
        honour_request_cache_control: value(&section.honour_request_cache_control).unwrap_or(false),
        variants_max: section.variants_max.as_ref().map_or(default.variants_max, |it| it.value.small()),
        query: section.query.as_ref().and_then(|it| query(&it.value)).map(Box::new),
        key: section.key.as_ref().and_then(|it| key(&it.value)).map(Box::new),
        normalise: section.normalise.as_ref().and_then(|it| normalise(&it.value)).map(Box::new),
    }
}

fn written<const LEAST: u64, const MOST: u64>(time: Option<&At<Time<LEAST, MOST>>>) -> Option<u32> {
    time.map(|it| it.value.seconds())
}

fn negative(section: &NegativeSection) -> NegativeTtl {
    NegativeTtl {
        not_found_s: written(section.not_found.as_ref()),
        client_error_s: written(section.client_error.as_ref()),
        server_error_s: written(section.server_error.as_ref()),
    }
}

fn query(section: &QuerySection) -> Option<QueryRules> {
    let texts = |list: &[_]| values::<crate::leaf::QueryName>(list).into_iter().map(|it| it.0).collect::<Vec<_>>();
    let names = if section.written.contains(&"allow") {
        QueryNames::Allow(texts(&section.allow))
    } else if section.deny.is_empty() {
        QueryNames::All
    } else {
        QueryNames::Deny(texts(&section.deny))
    };
    let rules = QueryRules {
        names,
        sort: value(&section.sort).unwrap_or(false),
        drop_tracking: value(&section.drop_tracking).unwrap_or(false),
    };
    (rules.names != QueryNames::All || rules.sort || rules.drop_tracking).then_some(rules)
}

fn key(section: &KeySection) -> Option<KeyRules> {
    let rules = KeyRules {
        headers: in_order(values(&section.headers).into_iter().map(|it| it.0)),
        cookies: in_order(values(&section.cookies).into_iter().map(|it| it.0)),
        country: value(&section.country).unwrap_or(false),
        device: value(&section.device).unwrap_or(false),
    };
    (rules != KeyRules::default()).then_some(rules)
}

fn in_order(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn normalise(section: &NormaliseSection) -> Option<Normalise> {
    let normalise = Normalise {
        accept_encoding: value(&section.accept_encoding).unwrap_or(false),
        accept_language: values(&section.accept_language).into_iter().map(|it| it.0).collect(),
    };
    (normalise != Normalise::default()).then_some(normalise)
}
