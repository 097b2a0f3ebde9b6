//! `/api/v1/purges`: orders for purges, and what became of them.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, Uri, header::LOCATION};
use region_config::{Config, HostPattern, Site};
use rules::purge::{KEYS_MAX, Mode, PurgeId, PurgeKey, TAG_BYTES_MAX};
use serde::Deserialize;

use super::{
    Context,
    body::Body,
    live,
    model::{Purge, PurgeMode, PurgeOrder, PurgeState, PurgeWait, Purges},
    problem::{Problem, Refusal},
};
use crate::{
    clock,
    edge::{keyed, sites},
};

/// Longest wait of an answer, in ms.
const TIMEOUT_MS_MAX: u64 = 60_000;
const IDEMPOTENCY_BYTES_MAX: usize = 64;
/// Purges in the history, at most and by default.
const RECENT_MAX: usize = 100;

/// An order that was checked.
pub(super) struct Work {
    pub(super) site: Arc<Site>,
    pub(super) keys: Vec<PurgeKey>,
    pub(super) mode: Mode,
    pub(super) idempotency_key: Option<String>,
    pub(super) wait: PurgeWait,
    pub(super) timeout: Duration,
}

/// Orders a purge.
#[utoipa::path(post, path = "/api/v1/purges", operation_id = "orderPurge", request_body = PurgeOrder, responses(
    (status = 200, body = Purge, description = "The purge has come as far as `wait` asks."),
    (status = 202, body = Purge, description = "It has not in time, and goes on."),
    (status = 400, body = Problem, description = "The body is not JSON."),
    (status = 401, body = Problem),
    (status = 404, body = Problem, description = "There is no such site."),
    (status = 409, body = Problem, description = "The idempotency key was used for another purge."),
    (status = 421, body = Problem, description = "The site is pinned elsewhere; `nodes` names nodes that take it."),
    (status = 422, body = Problem, description = "The order does not make sense."),
    (status = 503, body = Problem, description = "The ledger cannot write, or too many purges wait."),
))]
pub(super) async fn order(
    State(context): State<Arc<Context>>,
    Body(order): Body<PurgeOrder>,
) -> Result<Response, Refusal> {
    let wait = order.wait;
    let work = checked(&context.config.load(), order)?;
    let realm = live::realm(&context, &work.site)?;
    let patience = work.timeout;
    let began = clock::instant();
    let purge = live::purge(&realm, work).await?;
    let reached = match wait {
        // a receipt does not say whether the own disk has it; that the wait came to its end does
        PurgeWait::Local => clock::instant().duration_since(began) < patience || purge.state != PurgeState::Accepted,
        PurgeWait::Quorum => purge.state != PurgeState::Accepted,
        PurgeWait::Region => matches!(purge.state, PurgeState::Region | PurgeState::All),
        PurgeWait::All => purge.state == PurgeState::All,
    };
    let status = if reached { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, [(LOCATION, format!("/api/v1/purges/{}", purge.id))], Json(purge)).into_response())
}

/// How many purges to list.
#[derive(Debug, Deserialize)]
pub(super) struct Limit {
    limit: Option<usize>,
}

/// The last purges that this node took, newest first.
#[utoipa::path(get, path = "/api/v1/purges", operation_id = "purges",
    params(("limit" = Option<u32>, Query, description = "At most so many: 1 to 100.")),
    responses(
        (status = 200, body = Purges),
        (status = 401, body = Problem),
))]
pub(super) async fn recent(State(context): State<Arc<Context>>, Query(limit): Query<Limit>) -> Json<Purges> {
    let limit = limit.limit.unwrap_or(RECENT_MAX).clamp(1, RECENT_MAX);
    Json(Purges { purges: live::recent(&context, limit) })
}

/// A purge and how far it has come.
#[utoipa::path(get, path = "/api/v1/purges/{id}", operation_id = "purge",
    params(("id" = String, Path, description = "32 hex digits.")),
    responses(
        (status = 200, body = Purge),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 404, body = Problem, description = "This node did not take it, or has forgotten it."),
))]
pub(super) async fn receipt(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
) -> Result<Json<Purge>, Refusal> {
    let Some(id) = PurgeId::parse(&id) else {
        return Err(Problem::malformed("this is not the id of a purge").found(&id).expected("32 hex digits"));
    };
    match live::receipt(&context, &id) {
        Some(purge) => Ok(Json(purge)),
        None => Err(Problem::not_found("this node did not take such a purge, or has forgotten it")),
    }
}

/// Checks an order against the config. What it names must be there, and it must name something: nothing is never "all".
fn checked(config: &Config, order: PurgeOrder) -> Result<Work, Refusal> {
    let named = |site: &&Arc<Site>| site.name.as_str() == order.site;
    let Some(site) = config.sites.iter().find(named) else {
        return Err(Problem::not_found("there is no such site").found(&order.site).expected("the name of a site"));
    };
    if let Some(key) = order.idempotency_key.as_ref().filter(|key| !idempotency_key(key)) {
        let expected = format!("1 to {IDEMPOTENCY_BYTES_MAX} visible ASCII characters");
        return Err(Problem::unprocessable("the idempotency key cannot be used").found(key).expected(expected));
    }
    if order.timeout_ms > TIMEOUT_MS_MAX {
        let found = order.timeout_ms.to_string();
        let expected = format!("at most {TIMEOUT_MS_MAX}");
        return Err(Problem::unprocessable("`timeout_ms` is too large").found(&found).expected(expected));
    }
    Ok(Work {
        keys: keys(site, &order)?,
        site: Arc::clone(site),
        mode: match order.mode {
            PurgeMode::Hard => Mode::Hard,
            PurgeMode::Soft => Mode::Soft,
        },
        idempotency_key: order.idempotency_key,
        wait: order.wait,
        timeout: Duration::from_millis(order.timeout_ms),
    })
}

fn idempotency_key(key: &str) -> bool {
    (1..=IDEMPOTENCY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

fn keys(site: &Site, order: &PurgeOrder) -> Result<Vec<PurgeKey>, Refusal> {
    let count = order.tags.len() + order.urls.len();
    if order.everything && count > 0 {
        let detail = "`everything` purges the whole site, and tags or URLs are named beside it";
        return Err(Problem::unprocessable(detail).expected("either `everything`, or `tags` and `urls`"));
    }
    if order.everything {
        return Ok(vec![PurgeKey::Site]);
    }
    if count == 0 {
        return Err(Problem::unprocessable("the order does not say what to purge")
            .expected("at least one of `tags` and `urls`, or `\"everything\": true`"));
    }
    if count > KEYS_MAX {
        let detail = "the order names too many tags and URLs";
        return Err(Problem::unprocessable(detail).found(&count.to_string()).expected(format!("at most {KEYS_MAX}")));
    }
    let tags = order.tags.iter().map(|tag| tag_key(tag));
    tags.chain(order.urls.iter().map(|url| url_key(site, url))).collect()
}

fn tag_key(tag: &str) -> Result<PurgeKey, Refusal> {
    let fits = (1..=TAG_BYTES_MAX).contains(&tag.len()) && !tag.contains(|c: char| c.is_whitespace() || c.is_control());
    if fits {
        return Ok(PurgeKey::Tag(tag.to_owned()));
    }
    let expected = format!("1 to {TAG_BYTES_MAX} bytes without spaces");
    Err(Problem::unprocessable("a tag cannot be one").found(tag).expected(expected))
}

fn url_key(site: &Site, url: &str) -> Result<PurgeKey, Refusal> {
    let fault = |detail: String| {
        let expected = "an absolute URL such as `https://shop.example/a?b=c`, without fragment";
        Problem::unprocessable(detail).found(url).expected(expected)
    };
    let uri: Uri = url.parse().map_err(|error| fault(format!("a URL cannot be read: {error}")))?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(fault("a URL is not absolute, or neither http nor https".into()));
    };
    if url.contains('#') || authority.as_str().contains('@') {
        return Err(fault("a URL has a fragment or a user name".into()));
    }
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    if !site.hosts.iter().any(|pattern| matches(pattern, &host)) {
        let hosts: Vec<_> = site.hosts.iter().map(super::sites::host).collect();
        return Err(Problem::unprocessable(format!("site `{}` does not answer for the host of a URL", site.name))
            .found(url)
            .expected(hosts.join(", ")));
    }
    let target = rules::key::target(&uri).map_err(|error| fault(format!("a URL cannot be a request: {error}")))?;
    // what the route leaves out of the query is not in what is stored either
    let policy = sites::route(site, &target.path).map(|route| &route.policy);
    let target = policy.map_or_else(|| target.clone(), |policy| keyed::target(policy, target.clone()));
    Ok(PurgeKey::Url { host, target: target.to_string() })
}

/// Whether a host falls under a pattern.
pub(super) fn matches(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(exact) => exact == host,
        HostPattern::Suffix(suffix) => {
            host.strip_suffix(suffix.as_str()).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
        }
        HostPattern::Any => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::*;
    use crate::observe::tests::{config, site};

    fn check(order: Value) -> Result<Vec<PurgeKey>, (u16, String)> {
        let order = serde_json::from_value(order).unwrap();
        checked(&config(vec![site("shop")]), order).map(|work| work.keys).map_err(|p| (p.status, p.detail))
    }

    #[test]
    fn an_order_that_names_nothing_is_refused_and_never_means_everything() {
        for empty in [json!({"site": "shop"}), json!({"site": "shop", "tags": [], "urls": [], "everything": false})] {
            assert_eq!(check(empty), Err((422, "the order does not say what to purge".into())));
        }
        assert_eq!(check(json!({"site": "shop", "everything": true})), Ok(vec![PurgeKey::Site]));
    }

    #[test]
    fn what_an_order_names_is_brought_into_the_form_of_cache_keys() {
        let keys =
            check(json!({"site": "shop", "tags": ["p-1"], "urls": ["HTTPS://SHOP.example:8443/%7ea/../b?c=%2f"]}));
        let url = PurgeKey::Url { host: "shop.example".into(), target: "/b?c=%2F".into() };
        assert_eq!(keys, Ok(vec![PurgeKey::Tag("p-1".into()), url]));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let cases = [
            (json!({"site": "nope", "everything": true}), 404),
            (json!({"site": "shop", "everything": true, "tags": ["a"]}), 422),
            (json!({"site": "shop", "tags": [""]}), 422),
            (json!({"site": "shop", "tags": ["a b"]}), 422),
            (json!({"site": "shop", "tags": ["x".repeat(257)]}), 422),
            (json!({"site": "shop", "tags": vec!["x"; KEYS_MAX + 1]}), 422),
            (json!({"site": "shop", "urls": ["/a"]}), 422),
            (json!({"site": "shop", "urls": ["ftp://shop.example/"]}), 422),
            (json!({"site": "shop", "urls": ["http://other.example/"]}), 422),
            (json!({"site": "shop", "urls": ["http://shop.example/%00"]}), 422),
            (json!({"site": "shop", "urls": ["http://u@shop.example/"]}), 422),
            (json!({"site": "shop", "tags": ["a"], "idempotency_key": ""}), 422),
            (json!({"site": "shop", "tags": ["a"], "timeout_ms": 60_001}), 422),
        ];
        for (order, status) in cases {
            assert_eq!(check(order.clone()).map_err(|(status, _)| status), Err(status), "{order}");
        }
    }

    #[test]
    fn a_suffix_pattern_needs_a_label_before_it() {
        let pattern = HostPattern::Suffix("example.com".into());
        assert!(matches(&pattern, "a.example.com") && matches(&pattern, "a.b.example.com"));
        assert!(!matches(&pattern, "example.com") && !matches(&pattern, "badexample.com"));
        assert!(!matches(&pattern, ".example.com"));
    }
}
