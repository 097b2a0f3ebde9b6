//! A node's report as it stands in gossip: one text of at most [`TEXT_BYTES_MAX`] bytes.
//!
//! ```text
//! 1;<issue>;<readiness>;<config>;<node>[+-]<node>[+-]...;<forced>;[*]<region><part><region><part>...
//! ```
//!
//! `issue` counts the changes of the report within one run of the node. `config` is the first 8 bytes of the fingerprint
//! of its configuration, in hex. A node is the 32-bit FNV-1a hash of its name in 8 hex digits, `+` if it answers and `-`
//! if it does not: nine bytes per node, and right also between nodes whose configs list them in another order. `forced` is
//! the sum of what is forced (see `forced`), in hex. Of regions that left or come back, `part` is what of their clients they
//! should get, in percent and 2 hex digits, behind the hash of the region's name; `*` says that the node has not run for long.
//! Nodes of older versions do not say the last two. A new field goes to the end; readers skip what they do not know.

use std::{collections::BTreeMap, fmt::Write as _};

use region_config::{NodeId, REGIONS_MAX, RegionId};
use rules::health::{Readiness, Report, Returns};

/// The most that a node may say of itself and the others (row N2).
pub(super) const TEXT_BYTES_MAX: usize = 4096;
/// Length of what is said of one node, and of one region that left.
const ENTRY: usize = 9;
const RETURN: usize = 10;
/// Length of what comes behind all nodes, beside the regions that left.
const TAIL: usize = 19;

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
    let returns = &said.report.returns;
    let tail = TAIL + RETURN * returns.parts.len().min(REGIONS_MAX);
    for (node, answers) in &said.report.answers {
        if text.len() + ENTRY + tail > TEXT_BYTES_MAX {
            tracing::warn!(nodes = said.report.answers.len(), "too many nodes to report on all of them");
            break;
        }
        // writing to a String cannot fail
        let _ok = write!(text, "{:08x}{}", hash(node.as_str()), if *answers { '+' } else { '-' });
    }
    match said.forced {
        Some(forced) => _ = write!(text, ";{forced:016x};"),
        None => text.push_str(";;"),
    }
    if returns.new_here {
        text.push('*');
    }
    for (region, part) in returns.parts.iter().take(REGIONS_MAX) {
        let _ok = write!(text, "{:08x}{part:02x}", hash(region.as_str()));
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
        if let Some(node) = names.nodes.get(&hash) {
            answers.insert(node.clone(), up);
        }
    }
    let forced = fields.next().and_then(|forced| u64::from_str_radix(forced, 16).ok());
    let returns = fields.next().map_or_else(|| Some(Returns::default()), |text| decode_returns(text, names))?;
    Some(Said { issue, config, forced, report: Report { readiness, answers, returns } })
}

/// Reads what is said of regions that left or come back.
fn decode_returns(text: &str, names: &Names) -> Option<Returns> {
    let (new_here, entries) = text.strip_prefix('*').map_or((false, text), |entries| (true, entries));
    if !entries.len().is_multiple_of(RETURN) {
        return None;
    }
    let mut parts = BTreeMap::new();
    for entry in entries.as_bytes().chunks_exact(RETURN).take(REGIONS_MAX) {
        let number = |digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let (hash, part) = entry.split_at(RETURN - 2);
        let (hash, part) = (number(hash)?, u8::try_from(number(part)?).ok()?);
        if let Some(region) = names.regions.get(&hash) {
            parts.insert(region.clone(), part);
        }
    }
    Some(Returns { new_here, parts })
}

/// The nodes and regions that reports are about, by hash. Two of one hash are left out: better no opinion than a wrong one.
#[derive(Debug, Default)]
pub(super) struct Names {
    nodes: BTreeMap<u32, NodeId>,
    regions: BTreeMap<u32, RegionId>,
}

impl Names {
    pub(super) fn of<'a>(nodes: impl Iterator<Item = &'a NodeId>, regions: impl Iterator<Item = &'a RegionId>) -> Self {
        let nodes = by_hash(nodes.map(|node| (hash(node.as_str()), node)));
        Self { nodes, regions: by_hash(regions.map(|region| (hash(region.as_str()), region))) }
    }
}

fn by_hash<'a, Name: Clone + 'a>(all: impl Iterator<Item = (u32, &'a Name)>) -> BTreeMap<u32, Name> {
    let (mut names, mut twice) = (BTreeMap::new(), Vec::new());
    for (hash, name) in all {
        if names.insert(hash, name.clone()).is_some() {
            twice.push(hash);
        }
    }
    names.retain(|hash, _| !twice.contains(hash));
    names
}

/// FNV-1a, 32 bits.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::parse(name).unwrap()
    }

    fn names(nodes: &[NodeId]) -> Names {
        Names::of(nodes.iter(), [region("a"), region("b")].iter())
    }

    fn said(nodes: &[NodeId]) -> Said {
        let answers = nodes.iter().enumerate().map(|(index, node)| (node.clone(), index % 3 > 0)).collect();
        let returns = Returns { new_here: true, parts: [(region("a"), 10), (region("b"), 100)].into() };
        Said {
            issue: u64::MAX,
            config: u64::MAX,
            forced: Some(u64::MAX),
            report: Report { readiness: Readiness::Draining, answers, returns },
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
        assert_eq!(decode(&text, &names(&nodes)), Some(said));
    }

    #[test]
    fn a_report_of_an_older_version_says_nothing_of_what_is_forced() {
        let mut old = Said { forced: None, ..said(&nodes(3)) };
        assert_eq!(decode(&encode(&old), &names(&nodes(3))).as_ref(), Some(&old));
        old.report.returns = Returns::default();
        let text = encode(&old);
        assert_eq!(decode(text.strip_suffix(";;").unwrap(), &names(&nodes(3))), Some(old));
    }

    #[test]
    fn a_report_about_all_regions_stays_below_four_kib_too() {
        let mut said = said(&nodes(5000));
        said.report.returns.parts = (0..REGIONS_MAX).map(|at| (region(&format!("r{at}")), 10)).collect();
        let text = encode(&said);
        assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
        let regions: Vec<RegionId> = said.report.returns.parts.keys().cloned().collect();
        let read = decode(&text, &Names::of([].iter(), regions.iter())).unwrap();
        assert_eq!(read.report.returns, said.report.returns);
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
        let read = decode(&encode(&said(&nodes)), &names(&nodes[..1])).unwrap();
        assert_eq!(read.report.answers.len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_read(text in ".{0,200}", tail in "[0-9a-f+;-]{0,60}") {
            let names = names(&nodes(2));
            decode(&text, &names);
            decode(&format!("1;1;ready;00;{tail}"), &names);
            decode(&format!("1;1;ready;00;;00;{tail}"), &names);
            decode(&format!("1;1;ready;00;;00;*{text}"), &names);
        }
    }
}
