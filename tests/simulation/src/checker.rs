//! The independent checker: reads the log of a run and says what was promised and not kept. It knows nothing of
//! positions, witnesses, leases or any other machine of the node; only of versions, purges, and who was told what.
//!
//! A purge makes every version older than the one that the origin had when the purge was first asked for too old. From
//! what a node was told, or has told, follows the oldest version that it may answer a request with that comes *now*:
//!
//! * it has applied the purge since it started (I1, I3: in whichever way the content came);
//! * the purge was acknowledged by a majority before the node started (I2, I13: a restart forgets nothing
//!   acknowledged, and a node that missed it hears of it before it serves what it kept);
//! * somebody was told that it is in effect on all nodes, or on this one (I2);
//! * the node itself said that it has it on disk, and has not lost that disk since (I13);
//! * the site is tight, and the purge was acknowledged longer ago than the site's bound (G3).

use std::collections::{BTreeMap, BTreeSet};

use rules::purge::PurgeId;

use crate::log::{DOCS, Event, Level, Line, NODES, body, hash};

/// How exact clocks are in a run: nodes are moved on in turn, each by this much. In ms.
pub const TICK_MS: u64 = 10;

/// What is promised.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The bound of the site, if it is tight: how long after the acknowledgement of a purge a node that has not heard
    /// of it may still serve what it kept. In ms.
    pub tight_ms: Option<u64>,
}

/// Something that was promised and not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The line of the log.
    pub line: usize,
    /// Which invariant, and how.
    pub what: String,
}

/// What a run was like, for those who want to know that something was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests answered.
    pub served: u64,
    /// Of them, from a cache.
    pub hits: u64,
    /// Requests with no answer but an error.
    pub failed: u64,
    /// Purges.
    pub purges: u64,
    /// Of them, in effect everywhere by the word of a node.
    pub everywhere: u64,
    /// Kills.
    pub kills: u64,
}

type Versions = [u64; DOCS];

#[derive(Debug)]
struct Purge {
    /// The versions that the origin had when it was first asked for, of the documents it is about.
    versions: BTreeMap<usize, u64>,
    acknowledged: Option<Level>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Node {
    /// Oldest versions by what it has applied since it started.
    applied: Versions,
    /// By what is on its disk.
    disk: Versions,
    /// By what holds whatever happens.
    always: Versions,
}

#[derive(Debug)]
struct Request {
    doc: usize,
    node: usize,
    oldest: u64,
    after_deadline: bool,
}

/// Reads logs.
#[derive(Debug)]
struct Checker {
    terms: Terms,
    origin: Versions,
    purges: BTreeMap<PurgeId, Purge>,
    nodes: [Node; NODES],
    /// Asked for.
    asked: Versions,
    /// Acknowledged by a majority.
    acknowledged: Versions,
    /// The same, with times.
    history: Vec<(u64, Versions)>,
    requests: BTreeMap<u64, Request>,
    read: BTreeSet<(usize, u64)>,
    is_over: bool,
    tally: Tally,
}

/// Checks a log. Returns what it finds, and what the run was like.
#[must_use]
pub fn check(lines: &[Line], terms: Terms) -> (Vec<Breach>, Tally) {
    let mut checker = Checker {
        terms,
        origin: [0; DOCS],
        purges: BTreeMap::new(),
        nodes: [Node::default(); NODES],
        asked: [0; DOCS],
        acknowledged: [0; DOCS],
        history: Vec::new(),
        requests: BTreeMap::new(),
        read: BTreeSet::new(),
        is_over: false,
        tally: Tally::default(),
    };
    let mut breaches = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if let Err(what) = checker.line(line) {
            breaches.push(Breach { line: index, what });
        }
    }
    if let Err(what) = checker.end() {
        breaches.push(Breach { line: lines.len(), what });
    }
    (breaches, checker.tally)
}

impl Checker {
    fn line(&mut self, line: &Line) -> Result<(), String> {
        match (&line.event, line.node) {
            (Event::Publish { doc, version }, _) => self.origin[*doc] = *version,
            (Event::Accept { id, docs, .. }, _) => {
                let versions = || docs.iter().map(|doc| (*doc, self.origin[*doc])).collect();
                let purge = || Purge { versions: versions(), acknowledged: None };
                let purge = self.purges.entry(*id).or_insert_with(purge);
                raise(&mut self.asked, &purge.versions);
            }
            (Event::Ack { id, level, applied }, Some(node)) => self.ack(line.at_ms, *id, node, *level, applied)?,
            (Event::Applied { id }, Some(node)) => {
                let purge = self.purges.get(id).ok_or("I2: a node applies a purge that nobody has asked for")?;
                raise(&mut self.nodes[node].applied, &purge.versions);
            }
            (Event::Start { .. }, Some(node)) => {
                let acknowledged = self.acknowledged;
                let node = &mut self.nodes[node];
                node.applied = [0; DOCS];
                node.always = newest(node.always, acknowledged);
            }
            (Event::Kill { disk_lost }, Some(node)) => {
                self.tally.kills += 1;
                if *disk_lost {
                    self.nodes[node].disk = [0; DOCS];
                }
            }
            (Event::Read { doc, version }, _) => drop(self.read.insert((*doc, *version))),
            (Event::Arrive { request, doc }, Some(node)) => self.arrive(line.at_ms, *request, *doc, node),
            (Event::Serve { request, doc, version, complete, hash, from }, Some(node)) => {
                self.tally.served += 1;
                self.tally.hits += u64::from(*from == crate::log::From::Cache);
                self.serve((*request, *doc, node), *version, *complete, *hash)?;
            }
            (Event::Fail { request }, _) => {
                self.tally.failed += 1;
                if self.requests.remove(request).is_some_and(|request| request.after_deadline) {
                    return Err("I15: a request fails though nothing is broken any more".to_owned());
                }
            }
            (Event::Deadline, _) => {
                self.is_over = true;
                self.deadline()?;
            }
            _ => {}
        }
        Ok(())
    }

    fn ack(&mut self, at_ms: u64, id: PurgeId, node: usize, level: Level, applied: &[usize]) -> Result<(), String> {
        let purge = self.purges.get_mut(&id).ok_or("I2: a node acknowledges a purge that nobody has asked for")?;
        purge.acknowledged = purge.acknowledged.max(Some(level));
        raise(&mut self.nodes[node].disk, &purge.versions);
        let bound: Vec<usize> = if level == Level::All { (0..NODES).collect() } else { applied.to_vec() };
        for node in bound {
            let node = &mut self.nodes[node];
            raise(if level >= Level::Quorum { &mut node.always } else { &mut node.disk }, &purge.versions);
        }
        if level >= Level::Quorum {
            raise(&mut self.acknowledged, &purge.versions);
            self.history.push((at_ms, self.acknowledged));
        }
        Ok(())
    }

    /// The oldest version that a node may answer a request with that comes now.
    fn arrive(&mut self, at_ms: u64, request: u64, doc: usize, node: usize) {
        let known = &self.nodes[node];
        let mut oldest = known.applied[doc].max(known.disk[doc]).max(known.always[doc]);
        if let Some(tight_ms) = self.terms.tight_ms {
            let before = self.history.partition_point(|(acked_ms, _)| acked_ms + tight_ms + TICK_MS < at_ms);
            oldest = oldest.max(before.checked_sub(1).map_or(0, |last| self.history[last].1[doc]));
        }
        if self.is_over {
            oldest = oldest.max(self.asked[doc]);
        }
        self.requests.insert(request, Request { doc, node, oldest, after_deadline: self.is_over });
    }

    fn serve(
        &mut self,
        (request, doc, node): (u64, usize, usize),
        version: u64,
        complete: bool,
        hash_of_body: u64,
    ) -> Result<(), String> {
        let Some(asked) = self.requests.remove(&request) else {
            return Err("I8: an answer to a request that nobody has made, or a second one".to_owned());
        };
        if (asked.doc, asked.node) != (doc, node) {
            return Err("I8: an answer to another request".to_owned());
        }
        if complete && hash_of_body != hash(&body(doc, version)) {
            return Err(format!("I6: what is said to be all of document {doc} in version {version} is not"));
        }
        if !self.read.contains(&(doc, version)) {
            return Err(format!("I6: version {version} of document {doc} was never read at the origin"));
        }
        if version < asked.oldest {
            return Err(format!(
                "I1: version {version} of document {doc} is served, and a purge has promised {} to this request",
                asked.oldest
            ));
        }
        if asked.after_deadline && !complete {
            return Err("I15: a body breaks off though nothing is broken any more".to_owned());
        }
        Ok(())
    }

    /// Everything that was asked for is safe by now, and from now on in effect everywhere.
    fn deadline(&mut self) -> Result<(), String> {
        let mut late = self.purges.iter().filter(|(_, purge)| purge.acknowledged < Some(Level::Quorum));
        if let Some((id, purge)) = late.next() {
            let more = late.count();
            return Err(format!(
                "I15: purge {:08x} (and {more} more) is acknowledged as {:?} and no more",
                id.0 >> 96,
                purge.acknowledged
            ));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        self.tally.purges = self.purges.len() as u64;
        let everywhere = self.purges.values().filter(|purge| purge.acknowledged == Some(Level::All));
        self.tally.everywhere = everywhere.count() as u64;
        match self.requests.iter().find(|(_, request)| request.after_deadline) {
            Some((number, _)) => {
                Err(format!("I15: request {number} is not answered though nothing is broken any more"))
            }
            None => Ok(()),
        }
    }
}

fn raise(oldest: &mut Versions, versions: &BTreeMap<usize, u64>) {
    for (doc, version) in versions {
        oldest[*doc] = oldest[*doc].max(*version);
    }
}

fn newest(a: Versions, b: Versions) -> Versions {
    std::array::from_fn(|doc| a[doc].max(b[doc]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::From;

    const ID: PurgeId = PurgeId(7);

    /// A log from pairs of node and event, 100 ms apart.
    fn log(events: Vec<(usize, Event)>) -> Vec<Line> {
        let lines = events.into_iter().zip(1..);
        lines.map(|((node, event), number)| Line { at_ms: number * 100, node: Some(node), event }).collect()
    }

    /// The origin has version 2 of document 0, and a purge is asked for at node 0; then `events` happen.
    fn purged(events: Vec<(usize, Event)>) -> Vec<Line> {
        let read = |version| (0, Event::Read { doc: 0, version });
        let publish = (0, Event::Publish { doc: 0, version: 2 });
        let accept = (0, Event::Accept { id: ID, docs: vec![0], tries: 1 });
        log([vec![read(1), publish, read(2), accept], events].concat())
    }

    /// A request at a node that is answered with a version.
    fn asked(node: usize, version: u64) -> Vec<(usize, Event)> {
        let hash = hash(&body(0, version));
        let serve = Event::Serve { request: 1, doc: 0, version, from: From::Cache, complete: true, hash };
        vec![(node, Event::Arrive { request: 1, doc: 0 }), (node, serve)]
    }

    fn ack(level: Level, applied: &[usize]) -> (usize, Event) {
        (0, Event::Ack { id: ID, level, applied: applied.to_vec() })
    }

    fn first(lines: &[Line], terms: Terms) -> Option<String> {
        check(lines, terms).0.into_iter().next().map(|breach| breach.what)
    }

    /// Whether `before` forbids `node` to serve the old version; the new one may always be served.
    fn forbids(before: &[(usize, Event)], node: usize) -> bool {
        let terms = Terms { tight_ms: None };
        assert_eq!(first(&purged([before.to_vec(), asked(node, 2)].concat()), terms), None);
        first(&purged([before.to_vec(), asked(node, 1)].concat()), terms).is_some_and(|what| what.starts_with("I1"))
    }

    #[test]
    fn what_a_node_has_applied_or_was_promised_binds_it_and_nothing_else_does() {
        let applied = (1, Event::Applied { id: ID });
        let start = (1, Event::Start { boot: 2 });
        let (killed, emptied) = ((0, Event::Kill { disk_lost: false }), (0, Event::Kill { disk_lost: true }));
        assert!(!forbids(&[], 1), "nobody has told it");
        assert!(forbids(std::slice::from_ref(&applied), 1));
        assert!(!forbids(&[applied, start.clone()], 1), "it may forget what nobody was promised");
        assert!(!forbids(&[ack(Level::Quorum, &[])], 1), "it has not heard of it");
        assert!(forbids(&[ack(Level::Quorum, &[]), start], 1));
        assert!(forbids(&[ack(Level::All, &[])], 5));
        assert!(forbids(&[ack(Level::Quorum, &[3])], 3));
        assert!(forbids(&[ack(Level::Local, &[]), killed], 0));
        assert!(!forbids(&[ack(Level::Local, &[]), emptied], 0));
    }

    #[test]
    fn a_bound_binds_whoever_has_not_heard() {
        let served_late = |terms| first(&purged([vec![ack(Level::Quorum, &[])], asked(4, 1)].concat()), terms);
        assert!(served_late(Terms { tight_ms: Some(50) }).is_some());
        assert_eq!(served_late(Terms { tight_ms: Some(150) }), None);
    }

    #[test]
    fn a_body_that_is_not_whole_and_a_version_from_nowhere_are_found() {
        let terms = Terms { tight_ms: None };
        assert!(first(&purged(asked(1, 9)), terms).is_some_and(|what| what.starts_with("I6")));
        let mut cut = asked(1, 2);
        if let Event::Serve { hash, .. } = &mut cut[1].1 {
            *hash = 0;
        }
        assert!(first(&purged(cut), terms).is_some_and(|what| what.starts_with("I6")));
    }

    #[test]
    fn what_is_late_is_found() {
        let terms = Terms { tight_ms: None };
        let late = purged(vec![ack(Level::Local, &[]), (0, Event::Deadline)]);
        assert!(first(&late, terms).is_some_and(|what| what.starts_with("I15")));
        let done = vec![ack(Level::Quorum, &[]), (0, Event::Deadline)];
        assert_eq!(first(&purged(done.clone()), terms), None);
        assert!(
            first(&purged([done.clone(), asked(5, 1)].concat()), terms).is_some(),
            "it has to be everywhere by now"
        );
        let unanswered = [done, vec![(2, Event::Arrive { request: 3, doc: 0 })]].concat();
        assert!(first(&purged(unanswered), terms).is_some_and(|what| what.starts_with("I15")));
    }
}
