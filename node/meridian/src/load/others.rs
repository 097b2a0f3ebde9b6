//! What other nodes are asked for, as they told it last: for a while also what those told that no longer answer. Their clients
//! ask other nodes then, whose figures grow as these fade: where a whole region dies, it was the one that counted them.

use std::collections::BTreeMap;

use region_config::NodeId;
use rules::steering::spill::STEP_MS;

use super::{
    SMOOTH_MS,
    told::{self, Told},
};

/// How long what a silent node told counts whole, in ms: others must count its clients first, and tell.
const WHOLE_MS: u64 = STEP_MS;
/// For this long, in ms, what a node told before it fell silent does not count again when it is back: it tells something new.
const STALE_MS: u64 = 2 * STEP_MS;

#[derive(Debug, Default)]
pub(super) struct Others(BTreeMap<NodeId, Other>);

#[derive(Debug)]
struct Other {
    text: String,
    told: Told,
    /// What of it counts, from 0 to 1.
    weight: f64,
    up: bool,
    /// Since when it does not answer, if what it told then is all that is known.
    silent_ms: Option<u64>,
    /// Since when it answers again.
    back_ms: u64,
}

impl Others {
    /// Takes what was heard last of each node, with whether it answers.
    pub(super) fn hear(&mut self, heard: Vec<(NodeId, String, bool)>, now_ms: u64) {
        self.0.retain(|node, _| heard.iter().any(|(known, ..)| known == node));
        for (node, text, up) in heard {
            match self.0.get_mut(&node) {
                Some(other) => other.hear(text, up, now_ms),
                None => _ = self.0.insert(node, Other::new(text, up, now_ms)),
            }
        }
    }

    /// What is asked for, by the class's id, and what of it counts.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&BTreeMap<u32, f64>, f64)> {
        self.0.values().map(|other| (&other.told.asked, other.weight))
    }

    /// Which regions give up clients, by the ids of their classes, as those say that answer and know.
    pub(super) fn giving(&self) -> impl Iterator<Item = &[u32]> {
        self.0.values().filter(|other| other.up && other.silent_ms.is_none()).filter_map(|it| it.told.gives.as_deref())
    }
}

impl Other {
    /// What a node told that had died before anything was heard of it is old.
    fn new(text: String, up: bool, now_ms: u64) -> Self {
        let told = told::decode(&text).unwrap_or_default();
        let weight = f64::from(u8::from(up));
        Self { text, told, weight, up, silent_ms: (!up).then_some(0), back_ms: now_ms }
    }

    fn hear(&mut self, text: String, up: bool, now_ms: u64) {
        if up && !self.up {
            self.back_ms = now_ms;
        }
        if !up && self.silent_ms.is_none() {
            self.silent_ms = Some(now_ms);
        }
        self.up = up;
        let new = text != self.text;
        if new {
            self.told = told::decode(&text).unwrap_or_default();
            self.text = text;
        }
        if up && (new || self.weight >= 1.0 || now_ms.saturating_sub(self.back_ms) >= STALE_MS) {
            self.silent_ms = None;
        }
        self.weight = self.silent_ms.map_or(1.0, |since_ms| faded(now_ms.saturating_sub(since_ms)));
    }
}

/// What counts of what a node told that has been silent for so long: it goes as the figures of those grow who have its
/// clients now.
#[allow(clippy::cast_precision_loss, reason = "milliseconds")]
fn faded(silent_ms: u64) -> f64 {
    (-(silent_ms.saturating_sub(WHOLE_MS) as f64) / SMOOTH_MS).exp()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn heard(others: &mut Others, text: &str, up: bool, now_ms: u64) -> f64 {
        others.hear(vec![(NodeId::parse("a-1").unwrap(), text.to_owned(), up)], now_ms);
        others.asked().map(|(asked, weight)| asked.values().sum::<f64>() * weight).sum()
    }

    #[test]
    fn what_a_dead_node_told_fades_and_counts_no_more_when_it_is_back() {
        let mut others = Others::default();
        let text = "1;0000000164,;00000001,";
        let mut at = |s: u64, text: &str, up: bool| heard(&mut others, text, up, s * 1000).round();
        assert_eq!((at(0, text, true), at(30, text, true)), (100.0, 100.0));
        assert_eq!([31, 36, 41, 51, 71].map(|s| at(s, text, false)), [100.0, 100.0, 100.0, 37.0, 5.0]);
        assert_eq!(at(100, text, true), 0.0, "it has told nothing since");
        assert_eq!((at(101, "1;000000010a,", true), at(102, text, true)), (10.0, 100.0));
        // a moment's silence is none
        assert_eq!((at(103, text, false), at(104, text, true), at(120, text, true)), (100.0, 100.0, 100.0));
        // the same as before is told again in the end
        assert_eq!((at(121, text, false), at(200, text, false), at(201, text, true)), (100.0, 0.0, 0.0));
        assert_eq!(at(221, text, true), 100.0);
        others.hear(Vec::new(), 0);
        assert_eq!(others.asked().count(), 0);
    }

    #[test]
    fn only_who_answers_and_knows_has_a_say() {
        let mut others = Others::default();
        let none: [Vec<u32>; 0] = [];
        let mut said = |text: &str, up: bool, now_ms| {
            heard(&mut others, text, up, now_ms);
            others.giving().map(<[u32]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(said("1;;00000001", false, 0), none, "it had died before");
        assert_eq!(said("1;;00000001,00000007,", true, 1), [[1, 7]]);
        assert_eq!(said("1;;", true, 2), [Vec::<u32>::new()]);
        assert_eq!(said("1;", true, 3), none);
        assert_eq!(said("1;;00000001", false, 4), none);
    }
}
