//! A sum over the fleet's part of a config: nodes with the same one agree on regions, zones, sites,
//! witnesses and streams.
//!
//! Canonical form: every text and every list with its length in front, numbers little-endian, sites by name, an absent
//! value as one zero byte. What each node keeps for itself (`[node]`, listeners, where certificates lie) is not in it.
//! The first bytes name the form, so that a change of it changes every sum.

use std::fmt::Display;

use crate::{
    config::{
        CacheMode, Config, HealthCheck, Jurisdiction, KeyRules, Normalise, Origin, OriginProtocol, Policy, QueryNames,
        QueryRules, Region, Route, Site, Token, Zone,
    },
    steering::{Pin, RegionWish, SiteSteering},
};

const FORM: &str = "meridian fleet 7";

/// The sum.
pub(crate) fn of(config: &Config) -> [u8; 32] {
    let mut sum = Sum(blake3::Hasher::new());
    sum.text(FORM);
    sum.list(&config.jurisdictions, jurisdiction);
    sum.list(&config.regions, region);
    sum.list(&config.zones, zone);
    let mut sites: Vec<&Site> = config.sites.iter().map(AsRef::as_ref).collect();
    sites.sort_by(|a, b| a.name.cmp(&b.name));
    sum.list(&sites, |sum, it| site(sum, it));
    sum.list(&config.witnesses, |sum, set| {
        sum.text(&set.realm);
        sum.number(set.version);
        sum.list(&set.nodes, |sum, node| sum.text(node));
        sum.list(&set.next, |sum, node| sum.text(node));
    });
    let mut tokens: Vec<&Token> = config.tokens.iter().map(AsRef::as_ref).collect();
    tokens.sort_by(|a, b| a.name.cmp(&b.name));
    sum.list(&tokens, |sum, it| token(sum, it));
    sum.list(&config.streams, |sum, stream| {
        sum.text(&stream.realm);
        sum.text(&stream.name);
        sum.list(&stream.servers, |sum, server| sum.text(server));
        sum.optional(stream.jurisdiction.as_ref(), |sum, jurisdiction| sum.text(jurisdiction));
        sum.number(stream.replicas as u64);
        sum.number(stream.size_max_bytes);
    });
    *sum.0.finalize().as_bytes()
}

struct Sum(blake3::Hasher);

fn token(sum: &mut Sum, it: &Token) {
    sum.text(&it.name);
    sum.text(it.digest);
    sum.text(&it.tenant);
    sum.list(&it.sites, |sum, site| sum.text(site));
    sum.list(&it.verbs, |sum, verb| sum.text(verb.as_str()));
    sum.number(it.purges_per_second.into());
}

impl Sum {
    fn text(&mut self, text: impl Display) {
        let text = text.to_string();
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn list<T>(&mut self, list: &[T], each: impl Fn(&mut Self, &T)) {
        self.number(list.len() as u64);
        for one in list {
            each(self, one);
        }
    }

    fn optional<T>(&mut self, value: Option<&T>, each: impl Fn(&mut Self, &T)) {
        self.0.update(&[u8::from(value.is_some())]);
        if let Some(value) = value {
            each(self, value);
        }
    }
}

fn jurisdiction(sum: &mut Sum, it: &Jurisdiction) {
    sum.text(&it.name);
    sum.list(&it.countries, |sum, country| sum.text(country.escape_ascii()));
}

fn region(sum: &mut Sum, it: &Region) {
    sum.text(&it.name);
    sum.number(it.latitude.to_bits());
    sum.number(it.longitude.to_bits());
    sum.text(&it.jurisdiction);
    sum.optional(it.capacity_per_second.as_ref(), |sum, capacity| sum.number((*capacity).into()));
    sum.list(&it.nodes, |sum, node| {
        sum.text(&node.name);
        sum.optional(node.peer.as_ref(), |sum, peer| sum.text(peer));
        sum.list(&node.addresses, |sum, address| sum.text(address));
    });
}

fn zone(sum: &mut Sum, it: &Zone) {
    sum.text(&it.name);
    sum.list(&it.name_servers, |sum, server| {
        sum.text(&server.name);
        sum.list(&server.addresses, |sum, address| sum.text(address));
    });
    sum.text(&it.mailbox);
    sum.number(it.ttl_s.into());
    sum.number(it.negative_ttl_s.into());
    // where the files are is each node's business
    sum.list(&it.dnssec_keys, |_, _| {});
    sum.list(&it.caa, |sum, caa| {
        sum.number(caa.critical.into());
        sum.text(&caa.tag);
        sum.text(&caa.value);
    });
    sum.list(&it.texts, |sum, texts| {
        sum.text(&texts.name);
        sum.list(&texts.values, |sum, text| sum.text(text));
        sum.number(texts.ttl_s.into());
    });
}

fn site(sum: &mut Sum, it: &Site) {
    sum.text(&it.name);
    sum.text(&it.tenant);
    sum.list(&it.hosts, |sum, host| sum.text(host));
    sum.optional(it.pin.as_ref(), |sum, pin| sum.text(pin));
    sum.list(&it.origins, origin);
    sum.list(&it.failover_on, |sum, status| sum.number((*status).into()));
    sum.list(&it.routes, route);
    sum.optional(it.tls.as_ref(), |_, _| {});
    sum.number(it.dns_ttl_s.into());
    steering(sum, &it.steering);
    sum.number(it.https_port.into());
    sum.text(it.cache_status.as_str());
    sum.number(it.purge_by_response.into());
    sum.optional(it.misrouted_to.as_ref(), |sum, host| sum.text(host));
    sum.text(it.misrouted_tls.as_str());
}

fn steering(sum: &mut Sum, it: &SiteSteering) {
    // taken apart by name, so that what is added cannot be forgotten here
    let SiteSteering { allow, deny, regions, pins, no_data, all_down, fallback } = it;
    for list in [allow, deny, no_data, fallback] {
        sum.list(list, |sum, region| sum.text(region));
    }
    sum.list(regions, |sum, RegionWish { region, weight, bias_percent, priority }| {
        sum.text(region);
        sum.optional(weight.as_ref(), |sum, weight| sum.number((*weight).into()));
        sum.text(bias_percent);
        sum.number((*priority).into());
    });
    sum.list(pins, |sum, Pin { whom, force, regions }| {
        sum.text(whom);
        sum.text(force.as_str());
        sum.list(regions, |sum, region| sum.text(region));
    });
    sum.text(all_down.as_str());
}

fn origin(sum: &mut Sum, it: &Origin) {
    sum.text(&it.name);
    sum.number(it.tls.into());
    sum.text(&it.host);
    sum.number(it.port.into());
    sum.optional(it.host_header.as_ref(), |sum, host| sum.text(host));
    sum.text(match it.protocol {
        OriginProtocol::Http1 => "http1",
        OriginProtocol::Http2 => "http2",
        OriginProtocol::Auto => "auto",
    });
    sum.optional(it.ca.as_ref(), |_, _| {});
    sum.optional(it.identity.as_ref(), |_, _| {});
    sum.optional(it.secret.as_ref(), |sum, secret| sum.text(&secret.header));
    for ms in
        [it.deadlines.connect_ms, it.deadlines.first_byte_ms, it.deadlines.between_bytes_ms, it.deadlines.total_ms]
    {
        sum.number(ms);
    }
    sum.number(it.connections_max as u64);
    sum.optional(it.health.as_ref(), health);
    for number in [it.weight.into(), it.priority.into(), it.concurrency_max as u64] {
        sum.number(number);
    }
    sum.optional(it.breaker_percent.as_ref(), |sum, percent| sum.number((*percent).into()));
    sum.optional(it.fetches_per_second.as_ref(), |sum, fetches| sum.number((*fetches).into()));
}

fn health(sum: &mut Sum, it: &HealthCheck) {
    sum.text(&it.path);
    for number in [it.interval_ms, it.timeout_ms, it.down_after.into(), it.up_after.into()] {
        sum.number(number);
    }
}

fn route(sum: &mut Sum, it: &Route) {
    sum.text(&it.path);
    policy(sum, &it.policy);
}

fn policy(sum: &mut Sum, it: &Policy) {
    // taken apart by name, so that what is added to a policy cannot be forgotten here
    let Policy {
        cache,
        class,
        max_staleness_ms,
        default_ttl_s,
        ttl_min_s,
        ttl_max_s,
        ttl_s,
        negative,
        heuristic,
        stale_if_error_s,
        compress,
        refresh_ahead,
        honour_request_cache_control,
        variants_max,
        query,
        key,
        normalise,
    } = it;
    sum.text(match cache {
        CacheMode::Origin => "origin",
        CacheMode::Off => "off",
    });
    sum.text(class.as_str());
    sum.optional(max_staleness_ms.as_ref(), |sum, ms| sum.number(*ms));
    for seconds in
        [default_ttl_s, ttl_max_s, ttl_s, &negative.not_found_s, &negative.client_error_s, &negative.server_error_s]
    {
        sum.optional(seconds.as_ref(), |sum, seconds| sum.number((*seconds).into()));
    }
    for number in [*ttl_min_s, *stale_if_error_s, *variants_max] {
        sum.number(number.into());
    }
    sum.number((*heuristic).into());
    sum.number((*compress).into());
    sum.number((*refresh_ahead).into());
    sum.number((*honour_request_cache_control).into());
    sum.optional(query.as_deref(), query_rules);
    sum.optional(key.as_deref(), key_rules);
    sum.optional(normalise.as_deref(), normalised);
}

fn query_rules(sum: &mut Sum, it: &QueryRules) {
    let (word, names): (_, &[String]) = match &it.names {
        QueryNames::All => ("all", &[]),
        QueryNames::Allow(names) => ("allow", names),
        QueryNames::Deny(names) => ("deny", names),
    };
    sum.text(word);
    sum.list(names, |sum, name| sum.text(name));
    sum.number(it.sort.into());
    sum.number(it.drop_tracking.into());
}

fn key_rules(sum: &mut Sum, it: &KeyRules) {
    sum.list(&it.headers, |sum, name| sum.text(name));
    sum.list(&it.cookies, |sum, name| sum.text(name));
    sum.number(it.country.into());
    sum.number(it.device.into());
}

fn normalised(sum: &mut Sum, it: &Normalise) {
    sum.number(it.accept_encoding.into());
    sum.list(&it.accept_language, |sum, language| sum.text(language));
}
