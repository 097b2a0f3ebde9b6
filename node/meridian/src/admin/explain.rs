//! `POST /api/v1/explain`: what this node would do with a request, and why. The edge runs the functions that decide on
//! real requests ([`dry`]); here the order is read and the answer put into words.

use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc};

use axum::{Json, extract::State};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header::HOST};
use region_config::{REGIONS_MAX, RegionId, Site, SiteId};
use rules::caching::Reason;

use super::{
    Context,
    body::Body,
    debug::step,
    model::{DeclaredPart, ExplainOrder, Explanation, KeyParts, LeftOut, RouteOrder, Steering},
    problem::{Problem, Refusal, one_of},
};
use crate::edge::dry::{Explained, Keyed, Question};

const FIELDS_MAX: usize = 64;

/// Tells what would be done with a request, by the functions that do it.
pub type Explains = Arc<dyn Fn(Question) -> Pin<Box<dyn Future<Output = Explained> + Send>> + Send + Sync>;

/// Tells which regions DNS would name to an address while some regions are taken to be down; none if the node answers no
/// DNS, or none for that host.
pub type Steered = Arc<dyn Fn(Whither<'_>, IpAddr, &[RegionId]) -> Option<Steering> + Send + Sync>;

/// Where a client wants to go.
#[derive(Debug, Clone, Copy)]
pub enum Whither<'a> {
    /// To a site.
    Site(&'a SiteId),
    /// To whatever site DNS has under a host's name.
    Host(&'a str),
}

/// What this node would do with a request, and why. It asks no origin and changes nothing.
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
    let question = read(&order)?;
    let original = question.target.to_string();
    let (client, https) = (question.client, question.https);
    let host = question.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let explained = (context.explained)(question).await;
    let Some(site) = &explained.site else {
        let unknown = explained.steps.iter().any(|(_, told)| told.reason == Some(Reason::UnknownSite));
        if unknown {
            let detail = Reason::UnknownSite.meaning();
            return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-site", "Unknown site", detail).found(&host));
        }
        return Ok(Json(Explanation { steps: steps(&explained), ..Explanation::default() }));
    };
    Ok(Json(Explanation {
        site: Some(site.name.to_string()),
        tenant: Some(site.tenant.to_string()),
        pin: site.pin.as_ref().map(ToString::to_string),
        steps: steps(&explained),
        key: explained.key.as_ref().map(|key| key_parts(site, https, original, key)),
        cache_status: explained.cache_status.clone(),
        steering: client.and_then(|client| (context.steered)(Whither::Site(&site.name), client, &[])),
    }))
}

/// Where DNS would lead a client, and why: region by region, by the code that answers.
#[utoipa::path(post, path = "/api/v1/explain/route", operation_id = "explainRoute", request_body = RouteOrder, responses(
    (status = 200, body = Steering),
    (status = 400, body = Problem),
    (status = 401, body = Problem),
    (status = 404, body = Problem, description = "The node answers no DNS for the host."),
    (status = 422, body = Problem),
))]
pub(super) async fn route(
    State(context): State<Arc<Context>>,
    Body(order): Body<RouteOrder>,
) -> Result<Json<Steering>, Refusal> {
    let config = context.config.load();
    let client = address(&order.client)?;
    let region = |name: &String| {
        let known = config.regions.iter().find(|region| region.name.as_str() == name);
        let names = || config.regions.iter().map(|region| &region.name).collect::<Vec<_>>();
        let fault = || {
            let problem = Problem::unprocessable("`without` names a region that is not there").found(name);
            problem.expected(one_of(&names()))
        };
        known.map(|region| region.name.clone()).ok_or_else(fault)
    };
    if order.without.len() > REGIONS_MAX {
        return Err(Problem::unprocessable("too many regions").expected(format!("at most {REGIONS_MAX}")));
    }
    let without = order.without.iter().map(region).collect::<Result<Vec<_>, _>>()?;
    let host = order.host.trim().trim_end_matches('.').to_ascii_lowercase();
    let steering = (context.steered)(Whither::Host(&host), client, &without);
    let unknown = || {
        let detail = "this node answers no DNS for the host";
        Problem::not_found(detail).found(&order.host).expected("a host of a site, inside a zone")
    };
    steering.map(Json).ok_or_else(unknown)
}

fn steps(explained: &Explained) -> Vec<super::Step> {
    explained.steps.iter().map(|(name, told)| step(name, told)).collect()
}

fn key_parts(site: &Site, https: bool, original: String, key: &Keyed) -> KeyParts {
    let left_out =
        |(parameter, why): &(String, &'static str)| LeftOut { parameter: parameter.clone(), why: (*why).into() };
    let declared = |(part, value): &(String, Option<String>)| DeclaredPart { part: part.clone(), value: value.clone() };
    KeyParts {
        tenant: site.tenant.to_string(),
        site: site.name.to_string(),
        scheme: if https { "https".into() } else { "http".into() },
        host: key.authority.clone(),
        path: key.target.path.to_string(),
        query: key.target.query.as_ref().map(ToString::to_string),
        owner: key.owner.as_ref().map(ToString::to_string),
        original,
        left_out: key.left_out.iter().map(left_out).collect(),
        declared: key.declared.iter().map(declared).collect(),
    }
}

fn read(order: &ExplainOrder) -> Result<Question, Refusal> {
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
    let method = Method::from_bytes(order.method.as_bytes());
    let method = method.map_err(|_| Problem::unprocessable("this is not a method").found(&order.method))?;
    let mut headers = headers(order)?;
    if !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::try_from(authority).map_err(|_| fault("the host cannot be sent"))?);
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str()).parse();
    let target = target.map_err(|_| fault("the URL has no path"))?;
    Ok(Question { client: client(order)?, target, method, headers, https })
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
    address(text).map(Some)
}

fn address(text: &str) -> Result<IpAddr, Refusal> {
    let fault =
        |_| Problem::unprocessable("`client` is not an address").found(text).expected("an IPv4 or IPv6 address");
    text.trim().parse().map_err(fault)
}
