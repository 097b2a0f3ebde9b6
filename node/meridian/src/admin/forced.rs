//! `/api/v1/forced`: what operators force regions and nodes to be.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use region_config::{AllDown, Config, NodeId, REGIONS_MAX, Region, RegionId, RegionMask, Site};
use rules::{
    health::{Book, Fleet, Force, ForceFault, RegionState, Target, WHO_CHARS_MAX, WHY_CHARS_MAX},
    steering::{Policy, Wishes, what_if::addressed},
};

use super::{
    Context,
    body::Body,
    model::{ForceAnswer, ForceOrder, Forced, ForcedAll, ForcedState},
    problem::{Problem, Refusal, listed, one_of},
    who::OPERATOR,
};
use crate::peers::OrderFault;

/// Forces a region or a node up, down or to drain, or takes that back. Once it is answered it is on this node's disk and in
/// force; the other nodes that this one reaches hear of it at once, and those it does not reach when they are back.
#[utoipa::path(post, path = "/api/v1/forced", operation_id = "force", request_body = ForceOrder,
    responses(
        (status = 200, body = ForceAnswer),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 404, body = Problem, description = "There is no such region or node."),
        (status = 409, body = Problem, description = "Nothing is forced there."),
        (status = 422, body = Problem),
        (status = 503, body = Problem, description = "It could not be written to disk, and is not in force."),
))]
pub(super) async fn force(
    State(context): State<Arc<Context>>,
    Body(order): Body<ForceOrder>,
) -> Result<Json<ForceAnswer>, Refusal> {
    let config = context.config.load_full();
    let target = target(&config, &context.health.forced(), &order)?;
    let who = order.who.as_deref().unwrap_or(OPERATOR);
    let forced = context.health.force(target.clone(), wanted(order.state), (who, &order.why)).await;
    let forced = forced.map_err(|fault| refusal(&fault, &order))?;
    let warnings = warnings(&config, &context.health.fleet());
    Ok(Json(ForceAnswer { forced: told(&target, &forced), warnings }))
}

/// Everything that is forced, with who and why.
#[utoipa::path(get, path = "/api/v1/forced", operation_id = "forced", responses(
    (status = 200, body = ForcedAll),
    (status = 401, body = Problem),
))]
pub(super) async fn forced(State(context): State<Arc<Context>>) -> Json<ForcedAll> {
    let book = context.health.forced();
    let forced = book.entries().map(|(target, forced)| told(target, forced)).collect();
    Json(ForcedAll { digest: format!("{:016x}", book.digest()), forced })
}

/// An entry as it is shown.
pub(super) fn told(target: &Target, forced: &rules::health::Forced) -> Forced {
    let (region, node) = match target {
        Target::Region(name) => (Some(name.to_string()), None),
        Target::Node(name) => (None, Some(name.to_string())),
    };
    Forced {
        region,
        node,
        state: match forced.force {
            Some(Force::Up) => ForcedState::Up,
            Some(Force::Down) => ForcedState::Down,
            Some(Force::Drain) => ForcedState::Drain,
            None => ForcedState::Released,
        },
        who: forced.who.clone(),
        why: forced.why.clone(),
        taken_by: forced.node.to_string(),
        since_unix_ms: forced.unix_ms,
    }
}

fn wanted(state: ForcedState) -> Option<Force> {
    match state {
        ForcedState::Up => Some(Force::Up),
        ForcedState::Down => Some(Force::Down),
        ForcedState::Drain => Some(Force::Drain),
        ForcedState::Released => None,
    }
}

/// What an order is for: a region or node of the config; to take it back, also what is forced of one that has left it.
fn target(config: &Config, book: &Book, order: &ForceOrder) -> Result<Target, Refusal> {
    if let Some(gone) = in_book(book, order) {
        return Ok(gone);
    }
    match (&order.region, &order.node) {
        (Some(name), None) => {
            let known: Vec<&RegionId> = config.regions.iter().map(|region| &region.name).collect();
            let found = known.iter().find(|known| known.as_str() == name);
            found.map(|region| Target::Region((*region).clone())).ok_or_else(|| unknown("region", name, &known))
        }
        (None, Some(name)) => {
            let known: Vec<&NodeId> =
                config.regions.iter().flat_map(|region| &region.nodes).map(|it| &it.name).collect();
            let found = known.iter().find(|known| known.as_str() == name);
            found.map(|node| Target::Node((*node).clone())).ok_or_else(|| unknown("node", name, &known))
        }
        _ => Err(Problem::unprocessable("an order is for one region or one node").expected("`region` or `node`")),
    }
}

/// What an order takes back, if anything was ever said of it.
fn in_book(book: &Book, order: &ForceOrder) -> Option<Target> {
    let target = match (order.state, &order.region, &order.node) {
        (ForcedState::Released, Some(name), None) => Target::Region(RegionId::parse(name).ok()?),
        (ForcedState::Released, None, Some(name)) => Target::Node(NodeId::parse(name).ok()?),
        _ => return None,
    };
    book.entries().any(|(known, _)| *known == target).then_some(target)
}

fn unknown<T: AsRef<str>>(what: &str, name: &str, known: &[T]) -> Refusal {
    Problem::not_found(format!("there is no such {what} in the config")).found(name).expected(one_of(known))
}

fn refusal(fault: &OrderFault, order: &ForceOrder) -> Refusal {
    let nonsense = Problem::unprocessable(fault.to_string());
    match fault {
        OrderFault::Order(ForceFault::Why) => {
            nonsense.found(&order.why).expected(format!("1 to {WHY_CHARS_MAX} characters in `why`"))
        }
        OrderFault::Order(ForceFault::Who) => nonsense
            .found(order.who.as_deref().unwrap_or_default())
            .expected(format!("1 to {WHO_CHARS_MAX} characters in `who`")),
        OrderFault::Order(ForceFault::NotForced) => {
            Problem::new(StatusCode::CONFLICT, "not-forced", "Nothing is forced there", fault.to_string())
        }
        OrderFault::Order(ForceFault::Full | ForceFault::Late) => nonsense,
        OrderFault::Disk { .. } => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-kept", "The order could not be kept", fault.to_string())
        }
    }
}

/// What an operator should know of what is forced, and of what is down: sites for which no region is left that takes clients,
/// and what DNS answers for them.
pub(super) fn warnings(config: &Config, fleet: &Fleet) -> Vec<String> {
    let state = |region: &Region| fleet.region(&region.name).map_or(RegionState::Unknown, |region| region.state);
    let of = |wanted: &[RegionState]| -> RegionMask {
        let regions = config.regions.iter().take(REGIONS_MAX).enumerate();
        regions.filter(|(_, region)| wanted.contains(&state(region))).fold(0, |mask, (index, _)| mask | 1 << index)
    };
    let (down, draining) = (of(&[RegionState::Down]), of(&[RegionState::Draining]));
    let takes = !(down | draining);
    if takes == RegionMask::MAX {
        return Vec::new();
    }
    let addressed = addressed(config, |_| true);
    let left = |site: &Site| Left::of(&Wishes::of(config, site, addressed).policy(site.dns_ttl_s), takes, down);
    let lefts: Vec<(&str, Left)> =
        config.sites.iter().filter_map(|site| Some((site.name.as_str(), left(site)?))).collect();
    let told = |which: Left| {
        let names: Vec<&str> = lefts.iter().filter(|(_, left)| *left == which).map(|(name, _)| *name).collect();
        (!names.is_empty()).then(|| format!("{}: {}", which.as_str(), listed(&names)))
    };
    Left::ALL.into_iter().filter_map(told).collect()
}

/// What DNS answers for a site that has no region left which takes clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Fallback,
    LeastBad,
}

impl Left {
    const ALL: [Self; 3] = [Self::Nothing, Self::Fallback, Self::LeastBad];

    /// None if the site has a region that takes clients, or none that DNS could name at all.
    fn of(policy: &Policy, takes: RegionMask, down: RegionMask) -> Option<Self> {
        let named = policy.legal & policy.eligible;
        if named == 0 || named & takes != 0 {
            return None;
        }
        Some(match policy.all_down {
            // what drains is not down
            _ if named & !down != 0 => Self::LeastBad,
            AllDown::Fail => Self::Nothing,
            AllDown::Fallback if policy.legal & policy.fallback & !down != 0 => Self::Fallback,
            AllDown::Fallback | AllDown::LastGood => Self::LeastBad,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => {
                "all regions of these sites are down, so DNS answers SERVFAIL for them, as `all_down = \"fail\"` says"
            }
            Self::Fallback => "all regions of these sites are down, so DNS names their `fallback`",
            Self::LeastBad => {
                "no region of these sites is left that takes clients, so DNS goes on naming the least bad one"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use rules::health::Layout;

    use super::*;

    const REGIONS: [&str; 3] = ["a", "b", "c"];

    fn config() -> Config {
        let mut text = "[node]\nname = \"a1\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
            [peer]\nlisten = \"127.0.0.1:0\"\nca = \"ca\"\ncertificate = \"c\"\nkey = \"k\"\n\
            [[jurisdictions]]\nname = \"eu\"\npreset = \"EU\"\n[[zones]]\nname = \"a.test\"\n"
            .to_owned();
        for (index, region) in REGIONS.iter().enumerate() {
            text += &format!(
                "[[regions]]\nname = \"{region}\"\nlatitude = 50\nlongitude = {index}\njurisdiction = \"eu\"\n\
                 nodes = [{{ name = \"{region}1\", peer = \"127.0.0.1:{}\", addresses = \"192.0.2.{}\" }}]\n",
                7000 + index,
                1 + index
            );
        }
        for (site, steering) in [
            ("last", "deny = \"c\""),
            ("fail", "deny = \"c\"\nall_down = \"fail\""),
            ("back", "deny = \"c\"\nall_down = \"fallback\"\nfallback = \"c\""),
            ("all", "all_down = \"fail\""),
        ] {
            text += &format!(
                "[[sites]]\nname = \"{site}\"\nhosts = \"{site}.a.test\"\norigin = \"http://127.0.0.1:1\"\n\
                 [sites.steering]\n{steering}\n"
            );
        }
        region_config::check(&[("m.toml", &text)]).unwrap_or_else(|faults| panic!("{faults}")).config
    }

    fn told(states: [RegionState; 3]) -> Vec<String> {
        let config = config();
        let mut fleet = Fleet { epoch: 0, minority: false, regions: Vec::new() }.placed(&Layout::of(&config));
        for (region, state) in fleet.regions.iter_mut().zip(states) {
            region.state = state;
        }
        warnings(&config, &fleet)
    }

    /// The warning looked at what residency allows only: it missed sites whose other regions were denied, and said that DNS
    /// names a region where it answers SERVFAIL.
    #[test]
    fn sites_without_a_region_are_told_with_what_dns_answers_for_them() {
        use RegionState::{Degraded, Down, Draining, Unknown, Up};
        for quiet in [[Up; 3], [Down, Up, Down], [Down, Degraded, Up], [Unknown, Draining, Down]] {
            assert_eq!(told(quiet), [""; 0], "{quiet:?}");
        }
        let fail =
            "all regions of these sites are down, so DNS answers SERVFAIL for them, as `all_down = \"fail\"` says: ";
        let back = "all regions of these sites are down, so DNS names their `fallback`: back";
        let least = "no region of these sites is left that takes clients, so DNS goes on naming the least bad one: ";
        let of = |text: &str, sites: &str| format!("{text}{sites}");
        assert_eq!(told([Down, Down, Up]), [of(fail, "fail"), back.to_owned(), of(least, "last")]);
        assert_eq!(told([Down, Down, Draining]), [of(fail, "fail"), back.to_owned(), of(least, "last, all")]);
        assert_eq!(told([Down; 3]), [of(fail, "fail, all"), of(least, "last, back")]);
        assert_eq!(told([Down, Draining, Up]), [of(least, "last, fail, back")]);
    }
}
