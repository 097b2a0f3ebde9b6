//! States that cannot be told apart are made one.

use super::{
    Fill, Node, OBJECTS, Order, Setup, Source, State,
    decide::{bits, knows_at},
};
use crate::mutants::Mutation;
use rules::purge::Standing;

impl Setup {
    /// Drops what nobody can see, and gives what is alike one form.
    pub(super) fn canonical(&self, state: &mut State) {
        for index in 0..state.nodes.len() {
            let may_crash = self.may_crash(state, index);
            let node = &mut state.nodes[index];
            self.drop_unseen(node, may_crash);
            self.rank(node);
        }
        if let Some((one, other)) = self.alike {
            let mut mirrored = *state;
            mirrored.exchange(one, other);
            if mirrored < *state {
                *state = mirrored;
            }
        }
    }

    fn drop_unseen(&self, node: &mut Node, may_crash: bool) {
        for object in 0..self.objects {
            let stale = |copy: Option<super::Stored>| {
                copy.is_some_and(|copy| self.standing(node, object, copy.stamp) == Standing::Stale)
            };
            let (memory, disk) = (stale(node.memory[object]), stale(node.disk[object]));
            if memory {
                node.memory[object] = None;
            }
            // after a crash the marks may be older than now
            if disk && !may_crash {
                node.disk[object] = None;
            }
        }
        if !may_crash {
            node.written = Order::default();
        }
        // only events from before the fill count
        if let Some(Fill { source: Source::Answer { heard, .. }, began, .. }) = node.fill {
            let counted = heard & bits((0..self.events).filter(|event| knows_at(node, *event, began)));
            if let Some(Fill { source: Source::Answer { heard, .. }, .. }) = &mut node.fill {
                *heard = counted;
            }
        }
    }

    /// Positions are only ever compared with those of events, floors and the gate: each becomes the number of those
    /// that are not above it.
    fn rank(&self, node: &mut Node) {
        let mut marks = Marks::default();
        marks.add(node.gate);
        for order in [&node.order, &node.written] {
            marks.add(order.floor);
            order.applied.iter().for_each(|position| marks.add(*position));
        }
        if self.without(Mutation::NoBoot) {
            // then positions of two boots are compared with each other
            node.each_stamp(|position| marks.add(*position));
        }
        marks.sort();
        node.each_stamp(|position| *position = marks.rank(*position));
        node.gate = marks.rank(node.gate);
        for order in [&mut node.order, &mut node.written] {
            order.floor = marks.rank(order.floor);
            order.applied.iter_mut().for_each(|position| *position = marks.rank(*position));
        }
    }
}

/// Positions that others are compared with, sorted.
#[derive(Default)]
struct Marks {
    positions: [u8; 16],
    count: usize,
}

impl Marks {
    fn add(&mut self, position: u8) {
        if position != 0 && !self.positions[..self.count].contains(&position) {
            self.positions[self.count] = position;
            self.count += 1;
        }
    }

    fn sort(&mut self) {
        self.positions[..self.count].sort_unstable();
    }

    fn rank(&self, position: u8) -> u8 {
        let below = self.positions[..self.count].iter().take_while(|mark| **mark <= position);
        super::decide::number(below.count())
    }
}

impl Node {
    /// The positions that nothing is compared with: its own, and those of copies and fills.
    fn each_stamp(&mut self, mut look: impl FnMut(&mut u8)) {
        look(&mut self.position);
        for object in 0..OBJECTS {
            for copy in [&mut self.memory[object], &mut self.disk[object]].into_iter().flatten() {
                look(&mut copy.stamp);
            }
        }
        if let Some(fill) = &mut self.fill {
            look(&mut fill.began);
            if let Some((arrived, _)) = &mut fill.late {
                look(arrived);
            }
        }
    }
}

impl State {
    fn exchange(&mut self, one: usize, other: usize) {
        self.nodes.swap(one, other);
        for node in &mut self.nodes {
            for order in [&mut node.order, &mut node.written] {
                order.cursors.swap(one, other);
                order.passed.swap(one, other);
            }
            if let Some(poll) = &mut node.poll {
                poll.witness = match usize::from(poll.witness) {
                    witness if witness == one => super::decide::number(other),
                    witness if witness == other => super::decide::number(one),
                    _ => poll.witness,
                };
            }
            let differ = (node.recovered >> one ^ node.recovered >> other) & 1;
            node.recovered ^= differ << one | differ << other;
            if let Some(fill) = &mut node.fill {
                fill.cursors.swap(one, other);
                if let Source::Answer { cursors, .. } = &mut fill.source {
                    cursors.swap(one, other);
                }
            }
        }
    }
}
