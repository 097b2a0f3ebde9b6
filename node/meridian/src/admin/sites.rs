//! `GET /api/v1/sites`: the counters of the whole fleet, asked from the nodes and summed up.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use axum::{Json, extract::State};
use region_config::{Config, HostPattern, NodeId};
use rules::caching::Reason;
use tokio::sync::Mutex;

use super::{
    Context, live,
    model::{Counters, NodeCounters, RealmLedger, ReasonCount, Site, Sites, Worth},
    problem::Problem,
    report::{self, Report, SiteReport},
};
use crate::{clock, observe::Outcome};

/// How long a node has to answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// For how long the last answers are good: many open screens ask the fleet no more than one does.
const KEPT: Duration = Duration::from_secs(1);

/// The counters of all nodes, as they were last told.
#[derive(Debug, Default)]
pub struct Gathered {
    last: ArcSwapOption<Gathering>,
    asking: Mutex<()>,
}

/// One round of questions.
#[derive(Debug)]
pub(super) struct Gathering {
    asked: Instant,
    pub(super) read_unix_ms: u64,
    /// Every node of the fleet, in the order of the config; none for those that did not answer.
    pub(super) reports: Vec<(NodeId, Option<Report>)>,
}

impl Gathering {
    /// Whether a node says that it is ready; none if it did not answer.
    pub(super) fn ready(&self, node: &NodeId) -> Option<bool> {
        self.report(node).map(|report| report.ready)
    }

    /// How purges stand on a node; nothing if it did not answer.
    pub(super) fn ledgers(&self, node: &NodeId) -> &[RealmLedger] {
        self.report(node).map_or(&[], |report| &report.ledgers)
    }

    fn report(&self, node: &NodeId) -> Option<&Report> {
        self.reports.iter().find(|(name, _)| name == node)?.1.as_ref()
    }
}

/// The counters of all nodes, at most a second old. Who comes while the nodes are being asked waits for their answers.
pub(super) async fn gather(context: &Context) -> Arc<Gathering> {
    let _asking = context.gathered.asking.lock().await;
    if let Some(last) = last(context).filter(|last| clock::instant().duration_since(last.asked) < KEPT) {
        return last;
    }
    let asked = clock::instant();
    let config = context.config.load_full();
    let nodes = config.regions.iter().flat_map(|region| &region.nodes).map(|node| &node.name);
    let reports = futures_util::future::join_all(nodes.map(|node| ask(context, &config, node))).await;
    let gathering = Arc::new(Gathering { asked, read_unix_ms: clock::unix_ms(), reports });
    context.gathered.last.store(Some(Arc::clone(&gathering)));
    gathering
}

/// What was told last, however long ago.
pub(super) fn last(context: &Context) -> Option<Arc<Gathering>> {
    context.gathered.last.load_full()
}

async fn ask(context: &Context, config: &Config, node: &NodeId) -> (NodeId, Option<Report>) {
    let report = if *node == config.node.name {
        Some(report::own(&context.observe, &context.parts, live::ledgers(&context.ledgers, None)))
    } else if context.health.node_up(node) {
        live::counters(context, node, ANSWER_MAX).await.and_then(|bytes| report::read(&bytes))
    } else {
        // nobody waits for a node that is known to be gone
        None
    };
    (node.clone(), report)
}

/// All sites with the counters of all nodes.
#[utoipa::path(get, path = "/api/v1/sites", operation_id = "sites", responses(
    (status = 200, body = Sites),
    (status = 401, body = Problem),
))]
pub(super) async fn sites(State(context): State<Arc<Context>>) -> Json<Sites> {
    let gathering = gather(&context).await;
    let config = context.config.load();
    let (told, missing): (Vec<_>, Vec<_>) = gathering.reports.iter().partition(|(_, report)| report.is_some());
    let names = |nodes: &[&(NodeId, Option<Report>)]| nodes.iter().map(|(node, _)| node.to_string()).collect();
    Json(Sites {
        read_unix_ms: gathering.read_unix_ms,
        nodes: names(&told),
        missing: names(&missing),
        sites: config.sites.iter().map(|site| sum(&config, site, &gathering)).collect(),
    })
}

fn sum(config: &Config, site: &region_config::Site, gathering: &Gathering) -> Site {
    let mut total = Counters::default();
    let (mut not_hit, mut not_stored) = (BTreeMap::new(), BTreeMap::new());
    let mut nodes = Vec::new();
    for (node, report) in &gathering.reports {
        let Some(told) = report.as_ref().and_then(|report| report.sites.get(site.name.as_str())) else { continue };
        report::absorb(&mut total, &told.counters);
        add(&mut not_hit, &told.not_hit);
        add(&mut not_stored, &told.not_stored);
        nodes.push(of_node(config, node, told));
    }
    Site {
        name: site.name.to_string(),
        tenant: site.tenant.to_string(),
        pin: site.pin.as_ref().map(ToString::to_string),
        hosts: site.hosts.iter().map(host).collect(),
        worth: worth(&total, &not_hit),
        total,
        not_hit: most_frequent(not_hit),
        not_stored: most_frequent(not_stored),
        nodes,
    }
}

fn worth(total: &Counters, not_hit: &BTreeMap<String, u64>) -> Worth {
    let share = |part: u64| (total.requests > 0).then(|| part as f64 / total.requests as f64);
    let shed = Reason::ALL.iter().filter(|reason| reason.is_shed()).filter_map(|reason| not_hit.get(reason.as_str()));
    Worth {
        collapse_ratio: share(total.collapsed),
        offload: share(total.origin_fetches).map(|fetched| 1.0 - fetched),
        stale_served: total.outcomes.get(Outcome::Stale.as_str()).copied().unwrap_or(0),
        shed: shed.sum(),
    }
}

fn of_node(config: &Config, node: &NodeId, told: &SiteReport) -> NodeCounters {
    let region = config.regions.iter().find(|region| region.nodes.iter().any(|member| member.name == *node));
    NodeCounters {
        node: node.to_string(),
        region: region.map(|region| region.name.to_string()).unwrap_or_default(),
        counters: told.counters.clone(),
    }
}

fn add(sum: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    for (word, count) in counts {
        *sum.entry(word.clone()).or_default() += count;
    }
}

/// The words of another version's reasons are shown, too, without a meaning.
fn most_frequent(counts: BTreeMap<String, u64>) -> Vec<ReasonCount> {
    let known = |word: &str| Reason::ALL.iter().find(|reason| reason.as_str() == word);
    let row = |(reason, count): (String, u64)| {
        let (meaning, advice) = known(&reason).map_or(("", ""), |known| (known.meaning(), known.advice()));
        ReasonCount { meaning: meaning.into(), advice: advice.into(), reason, count }
    };
    let mut counts: Vec<_> = counts.into_iter().map(row).collect();
    counts.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    counts
}

/// A host pattern as it is written in the config.
pub(super) fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Suffix(suffix) => format!("*.{suffix}"),
        HostPattern::Any => "*".into(),
    }
}
