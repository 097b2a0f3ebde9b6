//! `POST /api/v1/explain`: what this node would do with a request, and why. It runs the functions that decide on real
//! requests; what lies in the store, and where DNS would lead, is asked through two functions of the [`Context`].

use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc};

use axum::{Json, extract::State};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use region_config::{Config, Policy, Route, Site};
use rules::{
    caching::{Intent, Reason, intent},
    key::{self, Facts},
    residency::{self, Permit},
};

use super::{
    Context,
    body::Body,
    config,
    model::{DeclaredPart, ExplainOrder, Explanation, KeyParts, LeftOut, Steering, Step},
    problem::{Problem, Refusal},
    purges::matches,
};
use crate::edge::keyed;

const FIELDS_MAX: usize = 64;

/// A request to look for in the store.
#[derive(Debug)]
pub struct Question {
    /// The right to look.
    pub permit: Permit,
    /// The site.
    pub site: Arc<Site>,
    /// The index of the route in the site's routes.
    pub route: usize,
    /// Whether it is asked over HTTPS.
    pub https: bool,
    /// Host and port as the URL names them: part of the key.
    pub authority: String,
    /// The host, lower case, without port: what purges name.
    pub host: String,
    /// The method.
    pub method: Method,
    /// The target, normalised.
    pub target: key::Target<'static>,
    /// The request's header fields.
    pub headers: HeaderMap,
}

/// Tells what is stored for a request and what would be done with it, in steps named `stored` and `decision`.
pub type Stored = Arc<dyn Fn(Question) -> Pin<Box<dyn Future<Output = Vec<Step>> + Send>> + Send + Sync>;

/// Tells which regions DNS would name to an address for a site; none if the node answers no DNS.
pub type Steered = Arc<dyn Fn(&Config, &Site, IpAddr) -> Option<Steering> + Send + Sync>;

/// Tells the country of an address, as far as the node has a geo database.
pub type Placed = Arc<dyn Fn(IpAddr) -> Option<[u8; 2]> + Send + Sync>;

/// A request that was read.
struct Asked {
    uri: Uri,
    method: Method,
    headers: HeaderMap,
    https: bool,
    authority: String,
    host: String,
    client: Option<IpAddr>,
}

/// What this node would do with a request, and why.
#[utoipa::path(post, path = "/api/v1/explain", operation_id = "explain", request_body = ExplainOrder, responses(
    (status = 200, body = Explanation),
    (status = 400, body = Problem),
    (status = 401, body = Problem),
    (status = 404, body = Problem, description = "No site answers for the host."),
    (status = 422, body = Problem),
))]
pub(super) async fn explain(
    State(context): State<Arc<Context>>,
    Body(order): Body<ExplainOrder>,
) -> Result<Json<Explanation>, Refusal> {
    let asked = read(&order)?;
    let config = context.config.load_full();
    let site = site_of(&config, &asked.host)?;
    let mut explanation = Explanation {
        site: site.name.to_string(),
        tenant: site.tenant.to_string(),
        pin: site.pin.as_ref().map(ToString::to_string),
        steps: Vec::new(),
        key: None,
        steering: asked.client.and_then(|client| (context.steered)(&config, site, client)),
    };
    let permit = match residency::permit(site, &context.here) {
        Ok(permit) => permit,
        Err(outside) => {
            explanation.steps.push(reasoned("residency", "refused", Reason::OutsideJurisdiction, &outside.to_string()));
            return Ok(Json(explanation));
        }
    };
    explanation.steps.push(step("residency", "permitted", None, "This node may hold the site's data."));
    let whole = key::target(&asked.uri).map_err(|error| Problem::unprocessable(error.to_string()).found(&order.url))?;
    let Some((route, policy_of)) = route_of(site, &whole.path) else {
        return Err(Problem::unprocessable("no route of the site matches the path").found(&whole.path));
    };
    let pattern = config::path(&policy_of.path);
    explanation.steps.push(step("route", &pattern, None, "The most specific route that matches the path."));
    match intent(&asked.method, &asked.headers, &policy_of.policy) {
        Intent::Pass(reason) => explanation.steps.push(reasoned("lookup", "pass", reason, reason.meaning())),
        Intent::Refuse(reason) => explanation.steps.push(reasoned("lookup", "refused", reason, reason.meaning())),
        Intent::Lookup => {
            explanation.steps.push(step("lookup", "lookup", None, "The request may be answered from the cache."));
            let policy = &policy_of.policy;
            let headers = dressed(&context, policy, &asked);
            let target = keyed::target(policy, whole.clone());
            explanation.key = Some(KeyParts {
                original: asked.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                left_out: left_out(policy, &whole),
                declared: declared(policy, &headers),
                ..key_parts(&config, site, &asked, &target)
            });
            let question = Question {
                permit,
                site: Arc::clone(site),
                route,
                https: asked.https,
                authority: asked.authority,
                host: asked.host,
                method: asked.method,
                target: target.into_owned(),
                headers,
            };
            explanation.steps.extend((context.stored)(question).await);
        }
    }
    Ok(Json(explanation))
}

fn step(name: &str, verdict: &str, reason: Option<Reason>, detail: &str) -> Step {
    Step {
        step: name.into(),
        verdict: verdict.into(),
        reason: reason.map(|reason| reason.as_str().into()),
        detail: detail.into(),
    }
}

fn reasoned(name: &str, verdict: &str, reason: Reason, detail: &str) -> Step {
    step(name, verdict, Some(reason), detail)
}

fn read(order: &ExplainOrder) -> Result<Asked, Refusal> {
    let expected = "an absolute URL such as `https://shop.example/a?b=c`";
    let fault = |detail: &str| Problem::unprocessable(detail).found(&order.url).expected(expected);
    let uri: Uri = order.url.parse().map_err(|_| fault("the URL cannot be read"))?;
    let https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(fault("the URL is not absolute, or neither http nor https")),
    };
    let authority = uri.authority().map(ToString::to_string).filter(|authority| !authority.contains('@'));
    let authority = authority.ok_or_else(|| fault("the URL names a user"))?;
    let host = uri.host().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let method = Method::from_bytes(order.method.as_bytes());
    let method = method.map_err(|_| Problem::unprocessable("this is not a method").found(&order.method))?;
    Ok(Asked { headers: headers(order)?, client: client(order)?, uri, method, https, authority, host })
}

fn headers(order: &ExplainOrder) -> Result<HeaderMap, Refusal> {
    if order.headers.len() > FIELDS_MAX {
        return Err(Problem::unprocessable("too many header fields").expected(format!("at most {FIELDS_MAX}")));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &order.headers {
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        let (name, value) = field.ok_or_else(|| Problem::unprocessable("this is not a header field").found(name))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn client(order: &ExplainOrder) -> Result<Option<IpAddr>, Refusal> {
    let Some(text) = order.client.as_deref().map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let fault =
        |_| Problem::unprocessable("`client` is not an address").found(text).expected("an IPv4 or IPv6 address");
    text.parse().map(Some).map_err(fault)
}

/// The site that answers for a host: the most specific pattern wins.
fn site_of<'a>(config: &'a Config, host: &str) -> Result<&'a Arc<Site>, Refusal> {
    let specific = |site: &Arc<Site>| {
        let matching = site.hosts.iter().filter(|pattern| matches(pattern, host));
        matching.map(specificity).max()
    };
    let best = config.sites.iter().filter_map(|site| Some((specific(site)?, site))).max_by_key(|(rank, _)| *rank);
    best.map(|(_, site)| site).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "unknown-site", "Unknown site", Reason::UnknownSite.meaning()).found(host)
    })
}

fn specificity(pattern: &region_config::HostPattern) -> usize {
    match pattern {
        region_config::HostPattern::Any => 0,
        region_config::HostPattern::Suffix(suffix) => suffix.len(),
        region_config::HostPattern::Exact(_) => usize::MAX,
    }
}

/// The first route that matches: they are kept most specific first.
pub(super) fn route_of<'a>(site: &'a Site, path: &str) -> Option<(usize, &'a Route)> {
    site.routes.iter().enumerate().find(|(_, route)| match &route.path {
        region_config::PathPattern::Exact(exact) => exact == path,
        region_config::PathPattern::Prefix(prefix) => {
            path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    })
}

/// The request's fields as they are looked up with.
fn dressed(context: &Context, policy: &Policy, asked: &Asked) -> HeaderMap {
    let mut headers = asked.headers.clone();
    let facts = Facts { country: asked.client.and_then(|client| (context.placed)(client)) };
    key::dress(policy, Some(facts), &mut headers);
    headers
}

fn left_out(policy: &Policy, whole: &key::Target<'_>) -> Vec<LeftOut> {
    let (Some(rules), Some(query)) = (&policy.query, &whole.query) else { return Vec::new() };
    let left = key::left_out(rules, query);
    left.map(|(parameter, why)| LeftOut { parameter: parameter.into(), why: why.as_str().into() }).collect()
}

fn declared(policy: &Policy, headers: &HeaderMap) -> Vec<DeclaredPart> {
    let Some(rules) = &policy.key else { return Vec::new() };
    key::parts(rules, headers).into_iter().map(|(part, value)| DeclaredPart { part, value }).collect()
}

fn key_parts(config: &Config, site: &Site, asked: &Asked, target: &key::Target<'_>) -> KeyParts {
    let placement = key::placement(&site.tenant, &site.name, asked.https, &asked.authority, target);
    let region = config.regions.iter().find(|region| region.name == config.node.region);
    let owner = region.and_then(|region| key::rendezvous(placement, region.nodes.iter().map(|node| &node.name)));
    KeyParts {
        tenant: site.tenant.to_string(),
        site: site.name.to_string(),
        scheme: if asked.https { "https".into() } else { "http".into() },
        host: asked.authority.clone(),
        path: target.path.to_string(),
        query: target.query.as_ref().map(ToString::to_string),
        owner: owner.map(ToString::to_string),
        original: String::new(),
        left_out: Vec::new(),
        declared: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::{HostPattern, PathPattern};

    use super::*;
    use crate::observe::tests::{config, site};

    #[test]
    fn the_most_specific_host_and_the_first_matching_route_win() {
        let mut any = site("any");
        any.hosts = vec![HostPattern::Any, HostPattern::Suffix("shop.example".into())];
        let config = config(vec![any, site("shop")]);
        let name = |host| site_of(&config, host).map(|site| site.name.to_string()).ok();
        assert_eq!(name("shop.example").as_deref(), Some("shop"));
        assert_eq!(name("www.shop.example").as_deref(), Some("any"));

        let mut site = site("shop");
        let route = |path| Route { path, policy: Policy::default() };
        site.routes = vec![
            route(PathPattern::Exact("/a/b".into())),
            route(PathPattern::Prefix("/a".into())),
            route(PathPattern::Prefix(String::new())),
        ];
        let index = |path| route_of(&site, path).map(|(index, _)| index);
        assert_eq!(["/a/b", "/a", "/a/c", "/ab", "/"].map(index), [0, 1, 1, 2, 2].map(Some));
    }
}
