//! What the admin interface sees of the node: readiness part by part, warnings, and explanations that run the same
//! functions as a request.

use std::sync::{Arc, atomic::AtomicU64};

use arc_swap::ArcSwap;
use region_config::Config;
use rules::{
    caching::{self, Decision, Exchange, Storing},
    key::{self, Key, Target},
    purge::Standing,
    steering::RegionExplanation,
};
use wire::entry::{Entry, Object};

use crate::{
    admin::{Context, Gathered, Part, Parts, Question, Steered, SteeredRegion, Steering, Step, Token},
    clock,
    dns::View,
    edge::sites::Lodger,
    geo::Base,
    observe::{Kind, collectors},
    snapshot::Shared,
};

/// The parts that must be ready before this node serves.
#[must_use]
pub fn parts(shared: &Arc<Shared>) -> Parts {
    let shared = Arc::clone(shared);
    Arc::new(move || {
        let caught_up = shared.ledgers.caught_up();
        let waiting = "reading what was purged while this node was away, from a majority of the witnesses";
        vec![
            Part { part: "config".into(), ready: true, detail: None },
            Part { part: "listeners".into(), ready: true, detail: None },
            Part { part: "ledger".into(), ready: caught_up, detail: (!caught_up).then(|| waiting.into()) },
            disk(&shared),
        ]
    })
}

/// A node without its disk is ready all the same: it serves from memory and the origins. Whoever asks is told.
fn disk(shared: &Shared) -> Part {
    let without = shared.objects.usage().disk_resting;
    let detail = without.then(|| "the disk cache failed and is out of use; it is tried every few seconds".into());
    Part { part: "disk".into(), ready: true, detail }
}

/// What the admin interface works with.
#[must_use]
pub fn context(shared: &Arc<Shared>, token: Token, parts: Parts, steered: Steered) -> Arc<Context> {
    let (looking, placing) = (Arc::clone(shared), Arc::clone(shared));
    Arc::new(Context {
        config: Arc::clone(&shared.config),
        here: shared.here.jurisdiction.clone(),
        observe: Arc::clone(&shared.observe),
        health: Arc::clone(&shared.health),
        ledgers: Arc::clone(&shared.ledgers),
        mesh: shared.mesh.clone(),
        token,
        hosts: Vec::new(),
        parts,
        warnings: Arc::new(Vec::new),
        started_unix_ms: shared.started_unix_ms,
        stored: Arc::new(move |question| {
            let shared = Arc::clone(&looking);
            Box::pin(async move { stored(&shared, question).await })
        }),
        steered,
        placed: Arc::new(move |address| {
            let base = placing.geo.load();
            base.as_ref().and_then(|base| base.ranges().location(address).country)
        }),
        gathered: Gathered::default(),
    })
}

/// What is stored for a request, and what would be done with it.
async fn stored(shared: &Shared, question: Question) -> Vec<Step> {
    let primary = primary(shared, &question, question.target.query.as_deref());
    let entry = shared.objects.lookup(primary).await;
    let mut steps =
        vec![step("key", &format!("{:032x}", primary.0), None, "The key's name on this node alone.".into())];
    let (primary, entry) = match entry {
        Some(entry) => (primary, Some(entry)),
        None => match searched(shared, &question).await {
            Some((key, entry)) => {
                let reason = caching::Reason::NoVarySearch;
                steps.push(step("search", "shared", Some(reason), reason.meaning().into()));
                (key, Some(entry))
            }
            None => (primary, None),
        },
    };
    steps.push(shelf(entry.as_ref()));
    let object = match entry {
        Some(Entry::Object(object)) => Some(object),
        Some(Entry::Vary(index)) => {
            let mut found = None;
            for spec in &index.specs {
                let key = key::variant(&shared.secret, primary, spec, &question.headers);
                if let Some(Entry::Object(object)) = shared.objects.lookup(key).await {
                    found = Some(object);
                    break;
                }
            }
            found
        }
        _ => None,
    };
    let Some(object) = object else { return steps };
    steps.push(lifetime(&question, &object));
    steps.push(decision(shared, &question.host, &object));
    steps
}

/// The key of a question's path with a query, and what else its route has in the key.
fn primary(shared: &Shared, question: &Question, query: Option<&str>) -> Key {
    let site = &question.site;
    let target = Target { path: question.target.path.as_ref().into(), query: query.map(Into::into) };
    let url = key::primary(&shared.secret, &site.tenant, &site.name, question.https, &question.authority, &target);
    let rules = site.routes.get(question.route).and_then(|route| route.policy.key.as_deref());
    rules.map_or(url, |rules| key::with_declared(&shared.secret, url, rules, &question.headers))
}

/// What is stored for another query and answers this one too.
async fn searched(shared: &Shared, question: &Question) -> Option<(Key, Entry)> {
    let path = primary(shared, question, None);
    let Some(Entry::Search(index)) = shared.objects.lookup(key::search_index(&shared.secret, path)).await else {
        return None;
    };
    for variance in &index.variances {
        let key = key::searched(&shared.secret, path, variance, question.target.query.as_deref());
        if let Some(entry) = shared.objects.lookup(key).await {
            return Some((key, entry));
        }
    }
    None
}

/// How long a stored response lives, and what the route has to do with it.
fn lifetime(question: &Question, object: &Object) -> Step {
    let policy = question.site.routes.get(question.route).map(|route| route.policy.clone()).unwrap_or_default();
    let exchange = Exchange {
        method: &http::Method::GET,
        request: &question.headers,
        status: object.status,
        response: &object.headers,
        path: &question.target.path,
        request_unix_ms: object.freshness.age_zero_unix_ms,
        response_unix_ms: object.freshness.age_zero_unix_ms,
        policy: &policy,
        object_bytes_max: u64::MAX,
    };
    let verdict = format!("{} s", object.freshness.lifetime_s);
    match caching::storing(&exchange) {
        Storing::Keep { shaped: Some(reason), .. } => step("lifetime", &verdict, Some(reason), reason.meaning().into()),
        Storing::Keep { .. } => {
            step("lifetime", &verdict, None, "As the response names it, or the route for it.".into())
        }
        // the route says otherwise now than when it was stored
        Storing::Refuse { reason, .. } => step("lifetime", &verdict, Some(reason), reason.meaning().into()),
    }
}

fn step(step: &str, verdict: &str, reason: Option<caching::Reason>, detail: String) -> Step {
    Step { step: step.into(), verdict: verdict.into(), reason: reason.map(|reason| reason.as_str().into()), detail }
}

fn shelf(entry: Option<&Entry>) -> Step {
    match entry {
        Some(Entry::Object(object)) => {
            let detail = format!("status {}, {} bytes", object.status.as_u16(), object.body.length());
            step("stored", "object", None, detail)
        }
        Some(Entry::Vary(index)) => {
            let names: Vec<_> = index.specs.iter().flat_map(|spec| spec.0.iter().map(|name| name.as_str())).collect();
            step("stored", "variants", None, format!("told apart by {}", names.join(", ")))
        }
        Some(Entry::HitForMiss { reason, .. }) => {
            let reason = caching::Reason::from_code(*reason).unwrap_or(caching::Reason::HitForMiss);
            step("stored", "hit-for-miss", Some(reason), reason.meaning().to_owned())
        }
        _ => step("stored", "nothing", Some(caching::Reason::UriMiss), caching::Reason::UriMiss.meaning().to_owned()),
    }
}

fn decision(shared: &Shared, host: &str, object: &Object) -> Step {
    let sites = shared.sites.load();
    let Some(Lodger::Served(served)) = sites.find(host) else {
        return step("decision", "refuse", Some(caching::Reason::UnknownSite), "the site is not served here".into());
    };
    let verified = AtomicU64::new(object.verified.load(std::sync::atomic::Ordering::Relaxed));
    let standing: Standing = served.guard.standing(object.stamp, &verified, &object.purge_keys);
    match caching::decide(&object.freshness, standing, clock::unix_ms()) {
        Decision::Serve { age_s, ttl_s } => {
            step("decision", "serve", None, format!("{age_s} s old, fresh for another {ttl_s} s"))
        }
        Decision::ServeAndRefresh { age_s, reason, .. } => {
            step("decision", "serve-and-refresh", Some(reason), format!("{age_s} s old: {}", reason.meaning()))
        }
        Decision::Revalidate { reason } => step("decision", "revalidate", Some(reason), reason.meaning().into()),
        Decision::Refetch { reason } => step("decision", "refetch", Some(reason), reason.meaning().into()),
    }
}

/// Where DNS leads an address, by the functions that answer.
#[must_use]
pub fn steered(shared: &Arc<Shared>, view: &Arc<ArcSwap<View>>, base: &Arc<Base>) -> Steered {
    let (shared, view, base) = (Arc::clone(shared), Arc::clone(view), Arc::clone(base));
    Arc::new(move |config, site, address| {
        let explained = view.load().explain(&site.name, address, &shared.health.fleet(), (config, &base))?;
        let mut regions: Vec<_> = explained.regions.iter().collect();
        regions.sort_by_key(|region| region.place.unwrap_or(usize::MAX));
        Some(Steering {
            client: address.to_string(),
            outcome: explained.outcome.as_str().into(),
            ttl_s: explained.ttl_s,
            scope: explained.block.length,
            regions: regions
                .into_iter()
                .map(|region| SteeredRegion {
                    region: region.region.to_string(),
                    chosen: region.place == Some(0),
                    reason: steered_because(region),
                })
                .collect(),
        })
    })
}

fn steered_because(region: &RegionExplanation) -> String {
    match region.kilometres {
        Some(kilometres) => format!("{}: {} ({kilometres} km)", region.reason.as_str(), region.reason.meaning()),
        None => format!("{}: {}", region.reason.as_str(), region.reason.meaning()),
    }
}

/// For a node that answers no DNS.
#[must_use]
pub fn not_steered() -> Steered {
    Arc::new(|_: &Config, _, _| None)
}

/// What is kept and fetched, and the fleet's health, for the metrics page.
pub fn register_figures(shared: &Arc<Shared>) {
    let observe = &shared.observe;
    observe.register(collectors::fleet(Arc::clone(&shared.config), shared.health.shared()));
    observe.register(collectors::store(shared.objects.clone()));
    observe.register(collectors::origins(Arc::clone(&shared.origins)));
    let seen = Arc::downgrade(shared);
    observe.register(Box::new(move |page| {
        let Some(shared) = seen.upgrade() else { return };
        let (fills, waiting) = shared.flights.count();
        let held = shared.flights.budget().held_bytes();
        page.single("meridian_fills", Kind::Gauge, "Fetches under way.", fills as f64);
        page.single("meridian_fills_waiting", Kind::Gauge, "Requests that wait for the head of one.", waiting as f64);
        page.single("meridian_fills_held_bytes", Kind::Gauge, "Bytes that they hold for readers.", held as f64);
        page.single("meridian_slices", Kind::Gauge, "Slices of bodies on their way.", shared.slices.count() as f64);
        page.single("meridian_codings", Kind::Gauge, "Bodies being coded.", shared.codings.count() as f64);
    }));
}
