//! What would be done with a request now: the same functions as the [`spine`](super::spine) calls, in its order, without
//! asking anybody and without a trace in the store.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use http::{HeaderMap, Method, Request, header, request::Parts};
use region_config::{NodeId, Policy, Site};
use rules::{
    caching::{
        self, Decision, Exchange, Intent, Reason, Storing, fields,
        ranges::{self, Selection},
    },
    key::{self, Key, Target},
};
use wire::entry::{Body, Object};

use super::{
    answer::{self, How},
    coded::{self, Codes},
    forward, keyed, misrouted, ride, searched,
    shelf::{Found, Look, Shelf, shelf},
    sites::{Lodger, Served, bare_host, route},
    spine::{self, Asked, Caller, authority},
    told,
};
use crate::{
    clock,
    fill::{self, slices},
    observe::{Told, trail},
    snapshot::Shared,
};

/// A request to explain.
#[derive(Debug, Clone)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: http::Uri,
    /// The fields, `Host` among them.
    pub headers: HeaderMap,
    /// Whether it comes over TLS.
    pub https: bool,
    /// The client's address, where one is supposed.
    pub client: Option<IpAddr>,
}

/// What would be done.
#[derive(Debug, Default)]
pub struct Explained {
    /// The site, once it is known.
    pub site: Option<Arc<Site>>,
    /// The steps, in order.
    pub steps: Vec<(&'static str, Told)>,
    /// What the key is made of, if it is looked up.
    pub key: Option<Keyed>,
    /// What `Cache-Status` would say, as far as that is known.
    pub cache_status: Option<String>,
}

/// What a key is made of.
#[derive(Debug)]
pub struct Keyed {
    /// Host and port, as they are in the key.
    pub authority: String,
    /// Path and query, as far as they are in the key.
    pub target: Target<'static>,
    /// What the route leaves out of the query: each parameter with the word for why.
    pub left_out: Vec<(String, &'static str)>,
    /// What the route has in the key beside the URL.
    pub declared: Vec<(String, Option<String>)>,
    /// The node of this region that owns it.
    pub owner: Option<NodeId>,
}

impl Explained {
    fn told(&mut self, step: &'static str, told: Told) {
        self.steps.push((step, told));
    }

    fn refused(mut self, step: &'static str, status: u16, reason: Reason) -> Self {
        let told = Told::because("refused", reason);
        self.told(step, Told { detail: format!("{status}: {}", reason.meaning()), ..told });
        self
    }
}

/// Explains a request.
pub async fn explain(shared: &Arc<Shared>, question: Question) -> Explained {
    let mut explained = Explained::default();
    let address = question.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let caller = Caller::Client { address, https: question.https };
    let mut parts = parts(question);
    if let Some(reason) = fields::framing_fault(&parts) {
        return explained.refused("parse", 400, reason);
    }
    if parts.headers.contains_key(header::CONNECTION) {
        fields::strip_request(&mut parts.headers);
    }
    parts.headers.remove(&trail::TOKEN);
    let sites = shared.sites.load_full();
    let Some(authority) = authority(&parts) else { return explained.refused("parse", 400, Reason::HostMissing) };
    let host = bare_host(authority);
    let served = match sites.find(&host) {
        Some(Lodger::Served(served)) => served,
        Some(Lodger::Outside(outside)) => {
            let site = &outside.site;
            let answer = misrouted::answer(site, caller.https(), &host, authority, &parts.uri);
            explained.site = Some(Arc::clone(site));
            return explained.refused("residency", answer.status().as_u16(), Reason::OutsideJurisdiction);
        }
        None => return explained.refused("site", 421, Reason::UnknownSite),
    };
    explained.site = Some(Arc::clone(&served.site));
    explained.told("residency", Told::plain("permitted", "This node may hold the site's data."));
    let Ok(whole) = key::target(&parts.uri) else { return explained.refused("target", 400, Reason::Target) };
    explained.told("target", Told::plain("normalised", whole.to_string()));
    let policy = served.policy(&whole.path);
    explained.told("route", of_route(&served.site, &whole.path));
    let intent = caching::intent(&parts.method, &parts.headers, policy);
    explained.told("lookup", told::intent(intent));
    match intent {
        Intent::Refuse(reason) => {
            let status = caching::CacheStatus::refused(reason);
            explained.cache_status = Some(text(&status.value(&shared.cache_name)));
            explained
        }
        _ if forward::is_looping(shared, &parts.headers) => explained.refused("loop", 508, Reason::Loop),
        Intent::Pass(reason) => {
            explained.told("origin", origin(shared, served, None, true));
            explained.cache_status = Some(text(&answer::foreseen(reason).value(&shared.cache_name)));
            explained
        }
        Intent::Lookup => {
            let target = keyed::target(policy, whole.clone());
            let dressed = keyed::dressed(shared, caller, policy, &parts);
            let parts = dressed.as_ref().unwrap_or(&parts);
            let asked = Asked::new(shared, served, caller, authority, &host, &target);
            let asked = asked.declared(shared, policy, &parts.headers);
            let wanted = spine::wanted(shared, caller, served, &asked, parts);
            let owner = fill::owner_of(shared, &wanted);
            explained.told("key", Told::plain(format!("{:032x}", asked.primary.0), "Its name on this node alone."));
            explained.key = Some(Keyed {
                authority: authority.into(),
                left_out: left_out(policy, &whole),
                declared: policy.key.as_deref().map(|rules| key::parts(rules, &parts.headers)).unwrap_or_default(),
                owner: Some(owner.clone().unwrap_or_else(|| shared.here.node.clone())),
                target: target.clone().into_owned(),
            });
            let view = View { shared, caller, served, asked: &asked, parts, policy, owner };
            looked_up(view, explained).await
        }
    }
}

/// The request as it would come.
fn parts(question: Question) -> Parts {
    let mut request = Request::new(());
    *request.method_mut() = question.method;
    *request.uri_mut() = question.target;
    *request.headers_mut() = question.headers;
    request.into_parts().0
}

fn of_route(site: &Site, path: &str) -> Told {
    let Some(route) = route(site, path) else { return Told::plain("none", "As the response's own fields say.") };
    let Policy { class, compress, honour_request_cache_control, stale_if_error_s, .. } = &route.policy;
    let mut detail = format!("class {}, stale-if-error {stale_if_error_s} s", class.as_str());
    for (set, word) in [
        (*compress, "compress"),
        (*honour_request_cache_control, "honours the request's Cache-Control"),
        (route.policy.query.is_some(), "reduces the query"),
        (route.policy.key.is_some(), "declares more of the key"),
        (route.policy.normalise.is_some(), "normalises fields"),
    ] {
        if set {
            detail = format!("{detail}, {word}");
        }
    }
    Told::plain(route.path.to_string(), detail)
}

fn left_out(policy: &Policy, whole: &Target<'_>) -> Vec<(String, &'static str)> {
    let (Some(rules), Some(query)) = (&policy.query, &whole.query) else { return Vec::new() };
    key::left_out(rules, query).map(|(parameter, why)| (parameter.into(), why.as_str())).collect()
}

/// How something is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// For one client, straight from the origin.
    Alone,
    /// For all who want it, through the owner of the key.
    Shared,
}

/// What is known of a request that is looked up.
struct View<'a> {
    shared: &'a Arc<Shared>,
    caller: Caller,
    served: &'a Arc<Served>,
    asked: &'a Asked<'a>,
    parts: &'a Parts,
    policy: &'a Policy,
    owner: Option<NodeId>,
}

async fn looked_up(view: View<'_>, mut explained: Explained) -> Explained {
    let View { shared, served, asked, parts, .. } = &view;
    let now = clock::unix_ms();
    let found = match shelf(shared, Look::Peek, asked.primary, &parts.headers, now).await {
        Shelf::Nothing => searched::shelf(shared, Look::Peek, served, asked, &parts.headers, now).await,
        shelf => shelf,
    };
    let stored = told::shelf(&found);
    let place = |key| if shared.objects.in_memory(key) { "in memory" } else { "on disk" };
    let Shelf::Found(found) = found else {
        let reason = stored.reason.unwrap_or(Reason::UriMiss);
        let way = if matches!(found, Shelf::Private(_)) { Way::Alone } else { Way::Shared };
        explained.told("stored", stored);
        return view.forwarded(explained, reason, way);
    };
    explained.told("stored", Told { detail: format!("{}, {}", stored.detail, place(found.key)), ..stored });
    explained.told("lifetime", view.lifetime(&found.object));
    explained.told("purges", view.standing(&found));
    let decision = spine::decide(served, asked, &found, now);
    explained.told("decision", told::decision(decision));
    let (how, refreshed) = match decision {
        Decision::Serve { ttl_s, .. } => (How::Hit { ttl_s }, false),
        Decision::ServeAndRefresh { ttl_s, reason, .. } => (How::Stale { ttl_s, reason }, true),
        Decision::Revalidate { reason } | Decision::Refetch { reason } => {
            return view.forwarded(explained, reason, Way::Shared);
        }
    };
    view.served(explained, &found, how, refreshed)
}

impl View<'_> {
    /// How long a stored response lives, and what the route has to do with it.
    fn lifetime(&self, object: &Object) -> Told {
        let exchange = Exchange {
            method: &Method::GET,
            request: &self.parts.headers,
            status: object.status,
            response: &object.headers,
            path: &self.asked.target.path,
            request_unix_ms: object.freshness.age_zero_unix_ms,
            response_unix_ms: object.freshness.age_zero_unix_ms,
            policy: self.policy,
            object_bytes_max: u64::MAX,
        };
        let verdict = format!("{} s", object.freshness.lifetime_s);
        match caching::storing(&exchange) {
            Storing::Keep { shaped: Some(reason), .. } => Told::because(verdict, reason),
            Storing::Keep { .. } => Told::plain(verdict, "As the response names it, or the route for it."),
            // the route says otherwise now than when it was stored
            Storing::Refuse { reason, .. } => Told::because(verdict, reason),
        }
    }

    fn standing(&self, found: &Found) -> Told {
        let told = told::standing(spine::standing(self.served, found));
        let (stamp, position) = (found.object.stamp.0, self.served.realm.position().0);
        Told { detail: format!("{} Fetched at {stamp}, the ledger stands at {position}.", told.detail), ..told }
    }

    /// Something has to be fetched.
    fn forwarded(&self, mut explained: Explained, reason: Reason, way: Way) -> Explained {
        let name = &self.shared.cache_name;
        if self.asked.demand.is_some_and(|demand| demand.only_if_cached()) {
            let refused = caching::CacheStatus::refused(Reason::OnlyIfCached);
            explained.cache_status = Some(text(&refused.value(name)));
            return explained.refused("origin", 504, Reason::OnlyIfCached);
        }
        let direct = way == Way::Alone || ride::way(self.served, self.asked) != fill::Way::Owner;
        explained.told("origin", origin(self.shared, self.served, self.owner.as_ref(), direct));
        explained.cache_status = Some(text(&answer::foreseen(reason).value(name)));
        explained
    }

    /// It is answered from the store.
    fn served(&self, mut explained: Explained, found: &Found, how: How, refreshed: bool) -> Explained {
        let codes = Codes::of(self.policy, self.caller);
        if codes != Codes::Off {
            explained.told("coding", self.coding(codes, found.key, &found.object));
        }
        let whole = self.is_whole(&found.object);
        explained.told(
            "body",
            match whole {
                true => Told::plain("here", "All that is asked for of the body is stored."),
                false => Told::because("parts missing", Reason::PartlyStored),
            },
        );
        let asked = refreshed || !whole;
        explained.told(
            "origin",
            match asked {
                true => origin(self.shared, self.served, self.owner.as_ref(), false),
                false => Told::plain("not asked", "The answer is in the store."),
            },
        );
        let how = match how {
            How::Hit { .. } if !whole => {
                How::Filling { reason: Reason::PartlyStored, collapsed: false, stored: Ok(()) }
            }
            how => how,
        };
        explained.cache_status = Some(text(&how.cache_status(&self.shared.cache_name)));
        explained
    }

    fn coding(&self, codes: Codes, key: Key, object: &Object) -> Told {
        let Some(coding) = coded::chosen(codes, self.parts, object) else {
            return Told::plain("identity", "The client takes no coding, or the response is not worth one.");
        };
        let there = self.shared.objects.contains(key::coded(key, object.made, coding));
        Told::plain(coding.as_str(), if there { "That form is stored." } else { "That form is made for the client." })
    }

    /// Whether what is asked for of a body is stored.
    fn is_whole(&self, object: &Object) -> bool {
        let Body::Chunked { id, length, chunk_bytes } = object.body else { return true };
        let here = |span| slices::is_here(&self.shared.objects, id, chunk_bytes, span);
        match ranges::select(&self.parts.headers, object.status, &object.headers, length) {
            Selection::Whole => here((0, length.saturating_sub(1))),
            Selection::Part { first, last } => here((first, last)),
            Selection::Parts(spans) => spans.into_iter().all(here),
            Selection::Unsatisfiable => true,
        }
    }
}

/// Who would be asked, and how the site's origins are.
fn origin(shared: &Shared, served: &Served, owner: Option<&NodeId>, direct: bool) -> Told {
    let own = shared.origins.views().into_iter().filter(|(site, ..)| *site == served.site.name);
    let origins: Vec<_> = own
        .map(|(_, view, _)| {
            let state = if view.state == crate::origin::OriginState::Up { "up" } else { "down" };
            format!(
                "{} is {state}, breaker {}, {} of {} places taken",
                view.name, view.breaker, view.in_flight, view.limit
            )
        })
        .collect();
    let verdict = match owner.filter(|_| !direct) {
        Some(owner) => format!("asked through {owner}"),
        None => "asked".to_owned(),
    };
    Told::plain(verdict, origins.join("; "))
}

fn text(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
