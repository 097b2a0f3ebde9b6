//! What must always be so, and what must be possible: a model in which nothing happens keeps every promise.

use rules::purge::{Standing, majority};
use stateright::{Model, Property};

use super::{Action, Fill, NODES, Node, OLD, SHIELD, Setup, Source, State, Stored, Witnesses, decide::Given};

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(self.after(state, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = promises();
        let mut reach = |applies: bool, name, condition| {
            if applies {
                properties.push(Property::sometimes(name, condition));
            }
        };
        let crashing = self.crashes > 0 && self.crash_nodes & self.caches != 0;
        reach(true, "R1 all purged, all cached again", |setup, state| setup.all_current(state));
        reach(self.shield && !self.told, "R2 current copy from the shield's cache", current_from_shield);
        reach(self.shield && !self.told, "R3 old answer of the shield rejected", old_from_shield);
        reach(crashing, "R4 copy on disk served after a restart", served_from_disk);
        reach(self.witnesses != Witnesses::None, "R5 all acknowledged", |setup, state| {
            state.all_acknowledged(setup.events)
        });
        reach(self.lease.is_some(), "R6 old copy held back by nothing but the lease", held_back);
        reach(self.lease.is_some(), "R7 served without a lease, confirmed at the origin", served_without_lease);
        reach(self.losses > 0, "R8 recovered witness votes again", |setup, state| {
            let recovered = state.losses < setup.losses && state.nodes.iter().all(|node| node.voting);
            recovered && state.all_acknowledged(setup.events)
        });
        reach(self.told, "R9 the shield is behind, and is told", |setup, state| {
            setup.asked(state).any(|(node, fill)| setup.shield_is_behind(state, node, fill))
        });
        reach(self.soft != 0, "R10 soft state comes with the shield's answer", |_, state| {
            state.nodes.iter().any(|node| node.memory[0].is_some_and(|copy| copy.soft))
        });
        reach(self.class, "R11 served for another URL of its class", |setup, state| {
            setup.all_copies(state).any(|(node, object, copy)| {
                copy.version > 0 && setup.given(node, object, 1 - object, &copy) == Some(Given::Fresh)
            })
        });
        reach(self.gate, "R12 a copy that stands is held back by the gate", |setup, state| {
            setup.all_copies(state).any(|(node, object, copy)| {
                copy.stamp < node.gate && setup.standing(node, object, copy.stamp) == Standing::Valid
            })
        });
        properties
    }
}

fn promises() -> Vec<Property<Setup>> {
    vec![
        Property::always("P1 nothing stale after a purge was applied", |setup: &Setup, state| {
            setup.never_given(state, |node, event| setup.heard(state, node) & (1 << event) != 0)
        }),
        Property::always("P2 nothing comes back", |setup: &Setup, state| {
            setup.never_given(state, |node, event| {
                state.acknowledged[event].is_some() && state.nodes[node].ever & (1 << event) != 0
            })
        }),
        Property::always("P3 staleness is bounded", |setup: &Setup, state| {
            setup.never_given(state, |_, event| match (setup.lease, state.acknowledged[event]) {
                (Some(lease), Some(age)) => age > lease,
                _ => false,
            })
        }),
        Property::always("P4 acknowledged is on disk", |setup: &Setup, state: &State| {
            setup.witnesses != Witnesses::Logs
                || (0..setup.events).filter(|event| state.acknowledged[*event].is_some()).all(|event| {
                    let (kept, lost) = (state.on_disk(event), usize::from(setup.losses - state.losses));
                    kept >= 1 && kept + lost >= majority(NODES)
                })
        }),
        Property::always("P5 every request gets what it is owed", |_, state: &State| !state.wronged),
        Property::always("P6 a lease has heard", |setup: &Setup, state| setup.leases_have_heard(state)),
    ]
}

impl Setup {
    /// Whether no node gives a copy that is older than an event that `counts` there, for whatever URL it may be given.
    fn never_given(&self, state: &State, counts: impl Fn(usize, usize) -> bool) -> bool {
        state.nodes.iter().enumerate().all(|(index, node)| {
            (0..self.events).filter(|event| counts(index, *event)).all(|event| {
                (0..self.objects).all(|object| {
                    node.copies(object).all(|copy| {
                        usize::from(copy.version) > event || !self.given_wrongly(node, object, &copy, event)
                    })
                })
            })
        })
    }

    fn given_wrongly(&self, node: &Node, object: usize, copy: &Stored, event: usize) -> bool {
        (0..self.objects).filter(|asked| *asked == object || self.class).any(|asked| {
            let about = self.is_about(event, object) || self.is_about(event, asked);
            let given = self.given(node, object, asked, copy);
            about && given.is_some_and(|given| given == Given::Fresh || !self.is_soft(event))
        })
    }

    fn leases_have_heard(&self, state: &State) -> bool {
        if self.witnesses == Witnesses::None || self.lease.is_none() {
            return true;
        }
        (0..NODES).filter(|index| self.caches(*index) && state.nodes[*index].lease != OLD).all(|index| {
            let heard = self.heard(state, index);
            (0..self.events).all(|event| {
                let before = state.acknowledged[event].is_some_and(|age| age > state.nodes[index].lease);
                !before || heard & (1 << event) != 0
            })
        })
    }

    fn all_current(&self, state: &State) -> bool {
        let current = |node: &Node| {
            node.memory[0].is_some_and(|copy| {
                usize::from(copy.version) == self.events && self.given(node, 0, 0, &copy) == Some(Given::Fresh)
            })
        };
        usize::from(state.ordered) == self.events
            && (0..NODES).filter(|node| self.caches(*node)).all(|node| current(&state.nodes[node]))
    }

    fn all_copies<'a>(&self, state: &'a State) -> impl Iterator<Item = (&'a Node, usize, Stored)> + use<'a> {
        let objects = self.objects;
        let of = move |node: &'a Node| {
            (0..objects).flat_map(move |object| node.copies(object).map(move |copy| (node, object, copy)))
        };
        state.nodes.iter().flat_map(of)
    }

    fn asked<'a>(&self, state: &'a State) -> impl Iterator<Item = (&'a Node, &'a Fill)> + use<'a> {
        let fills = state.nodes[..SHIELD].iter().filter_map(|node| Some((node, node.fill.as_ref()?)));
        fills.filter(|(_, fill)| fill.source == Source::Asked)
    }

    /// What the shield's cache has answered, as the asker takes it.
    fn answered<'a>(&self, state: &'a State) -> impl Iterator<Item = (&'a Node, &'a Fill, Stored)> + use<'a, '_> {
        let fills = state.nodes[..SHIELD].iter().filter_map(|node| Some((node, node.fill.as_ref()?)));
        let answers = fills.filter(|(_, fill)| matches!(fill.source, Source::Answer { after_arrival: false, .. }));
        answers.map(|(node, fill)| (node, fill, self.brought(node, fill)))
    }
}

fn current_from_shield(setup: &Setup, state: &State) -> bool {
    setup.answered(state).any(|(node, _, copy)| {
        usize::from(copy.version) == setup.events
            && (0..setup.events).all(|event| node.order.applied[event] > 0)
            && setup.standing(node, 0, copy.stamp) == Standing::Valid
    })
}

fn old_from_shield(setup: &Setup, state: &State) -> bool {
    setup.answered(state).any(|(node, fill, copy)| {
        let object = usize::from(fill.object);
        copy.stamp < fill.began && setup.given(node, object, object, &copy) != Some(Given::Fresh)
    })
}

fn served_from_disk(setup: &Setup, state: &State) -> bool {
    state.crashes == 0
        && state.nodes.iter().any(|node| {
            node.disk[0].is_some_and(|copy| {
                copy.version > 0 && copy.confirmed == OLD && setup.given(node, 0, 0, &copy) == Some(Given::Fresh)
            })
        })
}

fn held_back(setup: &Setup, state: &State) -> bool {
    let over = |event: usize| match (setup.lease, state.acknowledged[event]) {
        (Some(lease), Some(age)) => age > lease,
        _ => false,
    };
    state.nodes.iter().any(|node| {
        node.memory[0].is_some_and(|copy| {
            let old = |event: usize| setup.is_about(event, 0) && usize::from(copy.version) <= event && over(event);
            setup.standing(node, 0, copy.stamp) == Standing::Valid
                && setup.given(node, 0, 0, &copy).is_none()
                && (0..setup.events).any(old)
        })
    })
}

fn served_without_lease(setup: &Setup, state: &State) -> bool {
    state
        .nodes
        .iter()
        .any(|node| node.lease == OLD && node.memory[0].is_some_and(|copy| setup.given(node, 0, 0, &copy).is_some()))
}
