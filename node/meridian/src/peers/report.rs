//! A node's report as it stands in gossip: one text of at most [`TEXT_BYTES_MAX`] bytes.
//!
//! ```text
//! 1;<issue>;<readiness>;<config>;<node>[+-]<node>[+-]...;<forced>
//! ```
//!
//! `issue` counts the changes of the report within one run of the node. `config` is the first 8 bytes of the fingerprint
//! of its configuration, in hex. A node is the 32-bit FNV-1a hash of its name in 8 hex digits, `+` if it answers and `-`
//! if it does not: nine bytes per node, and right also between nodes whose configs list them in another order. `forced` is
//! the sum of what is forced (see `forced`), in hex; nodes of older versions do not say it. A new field goes to the end;
//! readers skip what they do not know.

use std::{collections::BTreeMap, fmt::Write as _};

use region_config::NodeId;
use rules::health::{Readiness, Report};

/// The most that a node may say of itself and the others (row N2).
pub(super) const TEXT_BYTES_MAX: usize = 4096;
/// Length of what is said of one node, and of what comes behind all of them.
const ENTRY: usize = 9;
const TAIL: usize = 17;

/// A report with what belongs to its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// Counts the changes, from 1.
    pub(super) issue: u64,
    /// The head of the config's fingerprint.
    pub(super) config: u64,
    /// The sum of what is forced; none from a node that forces nothing of the kind.
    pub(super) forced: Option<u64>,
    /// The report.
    pub(super) report: Report,
}

/// Writes a report. What is said of nodes beyond the limit (some 400) is left out: of those this node has no opinion.
pub(super) fn encode(said: &Said) -> String {
    let readiness = match said.report.readiness {
        Readiness::Starting => "starting",
        Readiness::Ready => "ready",
        Readiness::Draining => "draining",
    };
    let mut text = format!("1;{};{readiness};{:016x};", said.issue, said.config);
    for (node, answers) in &said.report.answers {
        if text.len() + ENTRY + TAIL > TEXT_BYTES_MAX {
            tracing::warn!(nodes = said.report.answers.len(), "too many nodes to report on all of them");
            break;
        }
        // writing to a String cannot fail
        let _ok = write!(text, "{:08x}{}", hash(node), if *answers { '+' } else { '-' });
    }
    if let Some(forced) = said.forced {
        let _ok = write!(text, ";{forced:016x}");
    }
    text
}

/// Reads a report; of nodes that are not in `names`, nothing is kept. `None` if it is no report.
pub(super) fn decode(text: &str, names: &Names) -> Option<Said> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut fields = text.split(';');
    if fields.next()? != "1" {
        return None;
    }
    let issue = fields.next()?.parse().ok()?;
    let readiness = match fields.next()? {
        "starting" => Readiness::Starting,
        "ready" => Readiness::Ready,
        "draining" => Readiness::Draining,
        _ => return None,
    };
    let config = u64::from_str_radix(fields.next()?, 16).ok()?;
    let entries = fields.next()?.as_bytes();
    if !entries.len().is_multiple_of(ENTRY) {
        return None;
    }
    let mut answers = BTreeMap::new();
    for entry in entries.chunks_exact(ENTRY) {
        let (hash, sign) = entry.split_at(ENTRY - 1);
        let hash = u32::from_str_radix(std::str::from_utf8(hash).ok()?, 16).ok()?;
        let up = match sign {
            b"+" => true,
            b"-" => false,
            _ => return None,
        };
        if let Some(node) = names.0.get(&hash) {
            answers.insert(node.clone(), up);
        }
    }
    let forced = fields.next().and_then(|forced| u64::from_str_radix(forced, 16).ok());
    Some(Said { issue, config, forced, report: Report { readiness, answers } })
}

/// The nodes that reports are about, by hash. Two nodes of one hash are left out: better no opinion than a wrong one.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<u32, NodeId>);

impl Names {
    pub(super) fn of<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> Self {
        let (mut names, mut twice) = (BTreeMap::new(), Vec::new());
        for node in nodes {
            if names.insert(hash(node), node.clone()).is_some() {
                twice.push(hash(node));
            }
        }
        names.retain(|hash, _| !twice.contains(hash));
        Self(names)
    }
}

/// FNV-1a, 32 bits.
fn hash(node: &NodeId) -> u32 {
    node.as_str().bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn said(nodes: &[NodeId]) -> Said {
        let answers = nodes.iter().enumerate().map(|(index, node)| (node.clone(), index % 3 > 0)).collect();
        Said {
            issue: u64::MAX,
            config: u64::MAX,
            forced: Some(u64::MAX),
            report: Report { readiness: Readiness::Draining, answers },
        }
    }

    fn nodes(count: usize) -> Vec<NodeId> {
        (0..count).map(|index| NodeId::parse(&format!("{}-{index}", "n".repeat(50))).unwrap()).collect()
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let nodes = nodes(400);
        let said = said(&nodes);
        let text = encode(&said);
        assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
        assert_eq!(decode(&text, &Names::of(nodes.iter())), Some(said));
    }

    #[test]
    fn a_report_of_an_older_version_says_nothing_of_what_is_forced() {
        let old = Said { forced: None, ..said(&nodes(3)) };
        assert_eq!(decode(&encode(&old), &Names::of(nodes(3).iter())), Some(old));
    }

    #[test]
    fn a_report_stays_below_four_kib_however_many_nodes_there_are() {
        let text = encode(&said(&nodes(5000)));
        assert!(text.len() <= TEXT_BYTES_MAX);
        assert!(decode(&text, &Names::default()).is_some());
    }

    #[test]
    fn nothing_is_kept_of_nodes_that_are_not_ours() {
        let nodes = nodes(3);
        let read = decode(&encode(&said(&nodes)), &Names::of(nodes[..1].iter())).unwrap();
        assert_eq!(read.report.answers.len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_read(text in ".{0,200}", tail in "[0-9a-f+;-]{0,60}") {
            let names = Names::of(nodes(2).iter());
            decode(&text, &names);
            decode(&format!("1;1;ready;00;{tail}"), &names);
        }
    }
}
