//! `POST /api/v1/what-if`: what would change for given clients if a region were gone, or the config another one.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use region_config::{Config, REGIONS_MAX, RegionId};
use rules::steering::what_if::Client;

use super::{
    Context,
    body::Body,
    model::{WhatIf, WhatIfFile, WhatIfOrder, WhatIfSite},
    problem::{Problem, Refusal, one_of},
};
use crate::{
    console::what_if::{self, World},
    geo,
};

/// Longest order, in bytes.
const BYTES_MAX: usize = 16 << 20;
/// Most addresses that the clients of an order stand for.
const CLIENTS_MAX: usize = 1_000_000;
/// Most addresses that are led, of all sites together: some seconds of one core.
const LED_MAX: usize = 20_000_000;
/// Most maps of sites' wishes that are compiled, of both configs together: tens of milliseconds each.
const MAPS_MAX: usize = 128;
/// Most of what is wrong with a candidate that is said, in characters.
const FAULTS_CHARS_MAX: usize = 4_000;

/// What would change for given clients if regions were gone, or another config in force: by the functions that answer DNS. It
/// changes nothing. One such question is worked on at a time.
#[utoipa::path(post, path = "/api/v1/what-if", operation_id = "whatIf", request_body = WhatIfOrder, responses(
    (status = 200, body = WhatIf),
    (status = 400, body = Problem),
    (status = 401, body = Problem),
    (status = 404, body = Problem, description = "No such site is in both configs."),
    (status = 413, body = Problem),
    (status = 422, body = Problem),
    (status = 429, body = Problem, description = "Another one is being worked on."),
))]
pub(super) async fn what_if(
    State(context): State<Arc<Context>>,
    Body(order): Body<WhatIfOrder, BYTES_MAX>,
) -> Result<Json<WhatIf>, Refusal> {
    let turn = Arc::clone(&context.what_if).try_acquire_owned();
    let busy = |_| Problem::too_many("another question of this kind is being worked on", 1);
    let turn = turn.map_err(busy)?;
    let worked = tokio::task::spawn_blocking(move || {
        let answer = answer(&context, &order);
        drop(turn);
        answer
    });
    let broken = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "broken", "It broke off", "the work broke off");
    worked.await.map_err(broken)?.map(|sites| Json(WhatIf { sites }))
}

/// Takes seconds at most; not for a thread that answers.
fn answer(context: &Context, order: &WhatIfOrder) -> Result<Vec<WhatIfSite>, Refusal> {
    let config = context.config.load_full();
    let candidate = order.candidate.as_deref().map(checked).transpose()?;
    let then = candidate.as_ref().unwrap_or(&config);
    let without = gone(order, then)?;
    let clients = clients(order)?;
    let sites = if order.site.is_some() { 1 } else { config.sites.len() };
    if clients.len().saturating_mul(sites) > LED_MAX {
        let detail = format!("{} clients of {sites} sites are too many at once", clients.len());
        return Err(Problem::unprocessable(detail).expected("`site`, or fewer clients"));
    }
    let base = base(context, &config)?;
    let world = |config| World { config, base: &base };
    let site = order.site.as_deref();
    let answers = what_if::compared(world(&config), world(then), &clients, &without, site, MAPS_MAX);
    let too_many = || {
        let detail = format!("the sites have so many wishes of their own that more than {MAPS_MAX} maps are needed");
        Problem::unprocessable(detail).expected("`site`")
    };
    let answers = answers.ok_or_else(too_many)?;
    if answers.is_empty() {
        let problem = Problem::not_found("there is no such site in both configs").found(site.unwrap_or_default());
        return Err(problem.expected(one_of(&what_if::sites(&config, then))));
    }
    Ok(answers)
}

/// The database in use; a node that has no use for one reads it for this.
fn base(context: &Context, config: &Config) -> Result<Arc<geo::Base>, Refusal> {
    if let Some(base) = context.geo.current() {
        return Ok(base);
    }
    let unusable = |fault: geo::GeoFault| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-places", "The geo database cannot be used", fault.to_string())
    };
    geo::Base::open(&config.node.geo).map(Arc::new).map_err(unusable)
}

fn checked(files: &[WhatIfFile]) -> Result<Config, Refusal> {
    let files: Vec<(&str, &str)> = files.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
    let faulty = |faults: region_config::Faults| {
        let text: String = faults.to_string().chars().take(FAULTS_CHARS_MAX).collect();
        Problem::unprocessable(format!("the candidate has faults:\n{text}"))
    };
    region_config::check(&files).map(|checked| checked.config).map_err(faulty)
}

fn gone(order: &WhatIfOrder, config: &Config) -> Result<Vec<RegionId>, Refusal> {
    if order.without.len() > REGIONS_MAX {
        return Err(Problem::unprocessable("too many regions").expected(format!("at most {REGIONS_MAX}")));
    }
    let names = || config.regions.iter().map(|region| &region.name).collect::<Vec<_>>();
    let unknown = |name: String| {
        let problem = Problem::unprocessable("`without` names a region that is not there").found(&name);
        problem.expected(one_of(&names()))
    };
    what_if::regions(&order.without, config).map_err(unknown)
}

fn clients(order: &WhatIfOrder) -> Result<Vec<Client>, Refusal> {
    let mut clients = Vec::new();
    for client in &order.clients {
        let expected = "an address or a prefix in `block`, and a number that is not negative in `requests`";
        let fault = || Problem::unprocessable("this is no client").found(&client.block).expected(expected);
        clients.extend(what_if::clients(client.block.trim(), client.requests).ok_or_else(fault)?);
        if clients.len() > CLIENTS_MAX {
            return Err(Problem::unprocessable("too many clients").expected(format!("at most {CLIENTS_MAX}")));
        }
    }
    if clients.is_empty() { Err(Problem::unprocessable("there are no `clients`")) } else { Ok(clients) }
}
