//! What the admin interface sees of the node: readiness part by part, warnings, and explanations that run the same
//! functions as a request.

use std::sync::{Arc, atomic::AtomicU64};

use region_config::Config;
use rules::{
    caching::{self, Decision},
    key,
    purge::Standing,
};
use wire::entry::{Entry, Object};

use crate::{
    admin::{Context, Gathered, Part, Parts, Question, Steered, Step, Token},
    clock,
    edge::sites::Lodger,
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
        ]
    })
}

/// What the admin interface works with.
#[must_use]
pub fn context(shared: &Arc<Shared>, token: Token, parts: Parts, steered: Steered) -> Arc<Context> {
    let looking = Arc::clone(shared);
    Arc::new(Context {
        config: Arc::clone(&shared.config),
        here: shared.here.jurisdiction.clone(),
        observe: Arc::clone(&shared.observe),
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
        gathered: Gathered::default(),
    })
}

/// What is stored for a request, and what would be done with it.
async fn stored(shared: &Shared, question: Question) -> Vec<Step> {
    let site = &question.site;
    let primary =
        key::primary(&shared.secret, &site.tenant, &site.name, question.https, &question.host, &question.target);
    let entry = shared.objects.lookup(primary).await;
    let mut steps = vec![shelf(entry.as_ref())];
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
    steps.push(decision(shared, &question.host, &object));
    steps
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

/// For a node that answers no DNS.
#[must_use]
pub fn not_steered() -> Steered {
    Arc::new(|_: &Config, _, _| None)
}
