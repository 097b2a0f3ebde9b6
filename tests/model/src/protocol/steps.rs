//! What may happen next, and what it does.

use rules::purge::{Standing, fill::Made};

use super::{
    Action, EVENTS, Fill, NODES, Node, OBJECTS, OLD, Order, Poll, SHIELD, Setup, Source, State, Stored, Witnesses,
    decide::{Given, bits, number},
};
use crate::mutants::Mutation;

impl Setup {
    /// A fleet that has caught up, with empty caches.
    pub(super) fn start(&self) -> State {
        let node = Node {
            position: 0,
            order: Order::default(),
            gate: 0,
            memory: [None; OBJECTS],
            fill: None,
            lease: 0,
            poll: None,
            recovered: 0,
            log: [0; EVENTS],
            appended: 0,
            durable: 0,
            disk: [None; OBJECTS],
            written: Order::default(),
            voting: true,
            ever: 0,
        };
        let mut state = State {
            nodes: [node; NODES],
            ordered: 0,
            acknowledged: [None; EVENTS],
            crashes: self.crashes,
            losses: self.losses,
            jumps: self.jumps,
            wronged: false,
        };
        self.canonical(&mut state);
        state
    }

    /// Everything that may happen.
    pub(super) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        if state.wronged {
            return;
        }
        if usize::from(state.ordered) < self.events {
            actions.push(Action::Order);
        }
        if self.witnesses == Witnesses::Register {
            let open = (0..state.ordered).filter(|event| state.acknowledged[usize::from(*event)].is_none());
            actions.extend(open.map(Action::Acknowledge));
        }
        for node in 0..NODES {
            self.ledger_actions(state, node, actions);
            if self.caches(node) {
                self.cache_actions(state, node, actions);
            }
        }
        if self.lease.is_some() {
            actions.push(Action::Tick);
        }
    }

    fn ledger_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let (node, own) = (&state.nodes[index], number(index));
        for event in 0..state.ordered {
            if self.caches(index) && node.order.applied[usize::from(event)] == 0 {
                actions.push(Action::Hear(own, event));
            }
            if self.witnesses == Witnesses::Logs && node.voting && !node.holds(usize::from(event)) {
                actions.push(Action::Store(own, event));
            }
        }
        if self.fsync && node.durable < node.appended {
            actions.push(Action::Sync(own));
        }
        if state.losses > 0 && self.crash_nodes & (1 << index) != 0 {
            actions.push(Action::Lose(own));
        }
        if self.may_crash(state, index) && (self.caches(index) || self.fsync) {
            actions.push(Action::Crash(own));
        }
        // without time, a lease that stands stands for ever
        let polls = node.poll.is_none() && node.lease != 0 && (self.lease.is_some() || node.lease == OLD);
        if self.witnesses == Witnesses::Register && self.caches(index) && polls {
            actions.push(Action::Poll(own, 0));
        }
        if self.witnesses == Witnesses::Logs && (self.caches(index) || !node.voting) {
            for (witness, log) in state.nodes.iter().enumerate().filter(|(witness, _)| *witness != index) {
                self.tail_actions(state, index, (number(witness), log), polls, actions);
            }
        }
        if let Some(poll) = node.poll {
            let unread = self.without(Mutation::LeaseBeforeReading);
            if self.has_read(node, poll.witness, poll.head) || unread {
                actions.push(Action::Confirm(own));
            }
        }
    }

    fn tail_actions(
        &self,
        state: &State,
        index: usize,
        (witness, log): (u8, &Node),
        polls: bool,
        actions: &mut Vec<Action>,
    ) {
        let own = number(index);
        let told = if self.without(Mutation::TailUnwritten) { log.appended } else { log.durable };
        if state.nodes[index].order.cursors[usize::from(witness)] < told {
            actions.push(Action::Tail(own, witness));
            if state.jumps > 0 && self.caches(index) && self.jump_nodes & (1 << index) != 0 {
                actions.push(Action::Jump(own, witness));
            }
        }
        if polls && log.voting {
            actions.push(Action::Poll(own, witness));
        }
    }

    fn cache_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let (node, own) = (&state.nodes[index], number(index));
        if self.may_crash(state, index) {
            if node.order != node.written {
                actions.push(Action::Write(own));
            }
            for object in 0..self.objects {
                let spilled = node.memory[object].map(|copy| Stored { confirmed: OLD, ..copy });
                if spilled.is_some() && node.disk[object] != spilled {
                    actions.push(Action::Spill(own, number(object)));
                }
            }
        }
        let Some(fill) = &node.fill else {
            for object in 0..self.objects {
                self.begin_actions(node, index, object, actions);
            }
            return;
        };
        match fill.source {
            Source::Origin { .. } | Source::Answer { .. } => actions.push(Action::Land(own)),
            Source::Asked => self.shield_actions(state, own, fill, actions),
            Source::Joined => {}
        }
        if self.joins && fill.late.is_none() && self.may_wait(node, fill) {
            actions.push(Action::Wait(own));
        }
        actions.push(Action::Abort(own));
    }

    fn begin_actions(&self, node: &Node, index: usize, object: usize, actions: &mut Vec<Action>) {
        let (own, wanted) = (number(index), number(object));
        let copy = node.memory[object];
        let fresh = copy.is_some_and(|copy| self.given(node, object, object, &copy) == Some(Given::Fresh));
        if fresh && !self.refresh {
            actions.push(Action::Evict(own, wanted));
            return;
        }
        if index == SHIELD || self.direct {
            actions.push(Action::FillOrigin(own, wanted));
        }
        if index != SHIELD && self.shield {
            actions.push(Action::FillShield(own, wanted));
        }
    }

    /// What the shield may do with a request: answer from its cache what stands by its own marks (its lease plays no
    /// part), let it wait, or ask the origin for it.
    fn shield_actions(&self, state: &State, asker: u8, fill: &Fill, actions: &mut Vec<Action>) {
        actions.push(Action::Pass(asker));
        let node = &state.nodes[usize::from(asker)];
        let behind = self.told && self.shield_is_behind(state, node, fill);
        if fill.after_arrival || (behind && !self.without(Mutation::AskersKnowledge)) {
            return;
        }
        let (shield, asked) = (&state.nodes[SHIELD], usize::from(fill.object));
        for object in (0..self.objects).filter(|object| *object == asked || self.class) {
            for (copy, disk) in [(shield.memory[object], false), (shield.disk[object], true)] {
                let stands = copy.is_some_and(|copy| self.standing_as(shield, object, asked, &copy) != Standing::Stale);
                if stands && !self.is_gated(shield, copy) {
                    actions.push(Action::Answer(asker, number(object), disk));
                }
            }
        }
        if shield.fill.is_some_and(|running| running.object == fill.object) {
            actions.push(Action::Join(asker));
        }
    }

    /// Whether a copy is from before a boot that has not caught up yet.
    fn is_gated(&self, node: &Node, copy: Option<Stored>) -> bool {
        self.gate && copy.is_some_and(|copy| copy.stamp < node.gate)
    }

    /// What becomes of a state.
    pub(super) fn after(&self, state: &State, action: Action) -> State {
        let mut next = *state;
        self.happen(&mut next, action);
        if self.crashes + self.losses > 0 {
            let acknowledged = self.acknowledged(&next);
            for index in 0..NODES {
                let applied = self.applied(&next.nodes[index]);
                next.nodes[index].ever |= applied & acknowledged;
            }
        }
        self.canonical(&mut next);
        next
    }

    fn happen(&self, state: &mut State, action: Action) {
        match action {
            Action::Order => state.ordered += 1,
            Action::Acknowledge(event) => state.acknowledged[usize::from(event)] = Some(0),
            Action::Tick => self.tick(state),
            Action::Hear(node, event) => self.hear(&mut state.nodes[usize::from(node)], node, usize::from(event)),
            Action::Store(node, event) => {
                self.hear(&mut state.nodes[usize::from(node)], node, usize::from(event));
                let log = &mut state.nodes[usize::from(node)];
                log.append(usize::from(event));
                if !self.fsync {
                    log.durable = log.appended;
                }
                self.count_stored(state);
            }
            Action::Sync(node) => {
                let log = &mut state.nodes[usize::from(node)];
                log.durable = log.appended;
                self.count_stored(state);
            }
            Action::Tail(node, witness) => self.tail(state, node, usize::from(witness)),
            Action::Jump(node, witness) => self.jump(state, usize::from(node), usize::from(witness)),
            Action::Write(node) => {
                let node = &mut state.nodes[usize::from(node)];
                node.written = node.order;
            }
            Action::Spill(node, object) => {
                let (node, object) = (&mut state.nodes[usize::from(node)], usize::from(object));
                node.disk[object] = node.memory[object].map(|copy| Stored { confirmed: OLD, ..copy });
            }
            Action::Evict(node, object) => state.nodes[usize::from(node)].memory[usize::from(object)] = None,
            Action::Crash(node) => {
                state.crashes -= 1;
                self.restart(state, usize::from(node));
            }
            Action::Lose(node) => self.lose(state, usize::from(node)),
            Action::FillOrigin(node, object) => self.fill_origin(state, usize::from(node), object),
            Action::FillShield(node, object) => self.fill_shield(state, usize::from(node), object),
            Action::Answer(asker, object, disk) => self.answer(state, usize::from(asker), usize::from(object), disk),
            Action::Pass(asker) => self.pass(state, usize::from(asker)),
            Action::Join(asker) => set_source(&mut state.nodes[usize::from(asker)], Source::Joined),
            Action::Wait(node) => {
                let owed = self.owed(state, usize::from(node));
                let node = &mut state.nodes[usize::from(node)];
                if let Some(fill) = &mut node.fill {
                    fill.late = Some((node.position, owed));
                }
            }
            Action::Land(node) => self.land(state, usize::from(node)),
            Action::Abort(node) => {
                state.nodes[usize::from(node)].fill = None;
                if usize::from(node) == SHIELD {
                    leave_alone(state);
                }
            }
            Action::Poll(node, witness) => self.poll(state, usize::from(node), witness),
            Action::Confirm(node) => self.confirm(state, usize::from(node)),
        }
    }

    fn hear(&self, node: &mut Node, index: u8, event: usize) {
        if !self.caches(usize::from(index)) {
            return;
        }
        node.apply(event);
        if self.without(Mutation::LeaseFromPurge) && self.lease.is_some() {
            node.lease = 0;
        }
    }

    /// Seen from outside: what a quorum has stored is acknowledged.
    fn count_stored(&self, state: &mut State) {
        for event in 0..self.events {
            let stored = |witness: usize| {
                let node = &state.nodes[witness];
                let said = if self.without(Mutation::StoredUnwritten) { node.appended } else { node.durable };
                node.voting && node.records(said).any(|held| held == event)
            };
            if state.acknowledged[event].is_none() && self.is_agreed(stored) {
                state.acknowledged[event] = Some(0);
            }
        }
    }

    fn tail(&self, state: &mut State, node: u8, witness: usize) {
        let read = state.nodes[usize::from(node)].order.cursors[witness];
        let Some(event) = state.nodes[witness].records(read + 1).last() else { return };
        let own = &mut state.nodes[usize::from(node)];
        own.order.cursors[witness] += 1;
        if self.caches(usize::from(node)) {
            self.hear(own, node, event);
        } else if own.order.applied[event] == 0 {
            // a witness that recovers and caches nothing: it has it
            own.order.applied[event] = 1;
        }
    }

    fn jump(&self, state: &mut State, node: usize, witness: usize) {
        state.jumps -= 1;
        let head = state.nodes[witness].durable;
        let node = &mut state.nodes[node];
        node.order.cursors[witness] = head;
        if !self.without(Mutation::JumpWithoutFloor) {
            node.position += 1;
            node.order.floor = node.position;
            node.order.passed[witness] = head;
        }
    }

    /// Starts a node from what is on its disk.
    fn restart(&self, state: &mut State, index: usize) {
        let node = &mut state.nodes[index];
        let cursors = node.order.cursors;
        node.appended = node.durable;
        node.log[usize::from(node.durable)..].fill(0);
        node.order = node.written;
        if self.without(Mutation::CursorsAhead) {
            node.order.cursors = cursors;
        }
        node.position = if self.without(Mutation::NoBoot) {
            node.order.applied.into_iter().fold(node.order.floor, u8::max)
        } else {
            node.position + 1
        };
        if self.gate && !self.without(Mutation::GateOpen) {
            node.gate = node.position;
        }
        node.memory = [None; OBJECTS];
        node.fill = None;
        node.poll = None;
        if !self.without(Mutation::LeaseOverRestart) {
            node.lease = OLD;
        }
        for copy in node.disk.iter_mut().flatten() {
            copy.confirmed = OLD;
        }
        if self.caches(index) && !self.without(Mutation::OwnLogUnread) {
            let own: Vec<usize> = node.records(node.appended).collect();
            own.into_iter().for_each(|event| node.apply(event));
        }
        if index == SHIELD {
            leave_alone(state);
        }
    }

    /// Starts a node on an empty disk: its log begins anew, and what others read of the old one says nothing.
    fn lose(&self, state: &mut State, index: usize) {
        state.losses -= 1;
        let node = &mut state.nodes[index];
        node.log = [0; EVENTS];
        node.appended = 0;
        node.durable = 0;
        node.disk = [None; OBJECTS];
        node.written = Order::default();
        node.voting = false;
        node.recovered = 0;
        self.restart(state, index);
        state.nodes[index].lease = OLD;
        for other in &mut state.nodes {
            other.order.cursors[index] = 0;
            other.written.cursors[index] = 0;
            other.poll = other.poll.filter(|poll| usize::from(poll.witness) != index);
        }
    }

    fn fill_origin(&self, state: &mut State, index: usize, object: u8) {
        let source = Source::Origin { version: self.shown(state, usize::from(object)) };
        let mut fill = self.fill(state, index, object, source);
        if index == SHIELD && self.shield {
            (fill.heard, fill.cursors) = (self.heard(state, SHIELD), self.cursors(state, SHIELD));
        }
        state.nodes[index].fill = Some(fill);
    }

    fn fill_shield(&self, state: &mut State, index: usize, object: u8) {
        let mut fill = self.fill(state, index, object, Source::Asked);
        fill.after_arrival = self.demanded(&state.nodes[index]) == Made::AtOrigin;
        state.nodes[index].fill = Some(fill);
    }

    fn fill(&self, state: &State, index: usize, object: u8, source: Source) -> Fill {
        Fill {
            object,
            began: state.nodes[index].position,
            age: 0,
            after_arrival: false,
            source,
            owed: self.owed(state, index),
            late: None,
            heard: 0,
            cursors: [0; NODES],
        }
    }

    /// The shield answers from its cache, and says what it had heard when it looked.
    fn answer(&self, state: &mut State, asker: usize, object: usize, disk: bool) {
        let (mut heard, mut cursors) = (self.heard(state, SHIELD), self.cursors(state, SHIELD));
        let shield = &state.nodes[SHIELD];
        let copy = if disk { shield.disk[object] } else { shield.memory[object] };
        let (Some(copy), Some(fill)) = (copy, state.nodes[asker].fill) else { return };
        if self.without(Mutation::AskersKnowledge) {
            let theirs = &state.nodes[asker];
            heard |= self.applied(theirs);
            cursors = std::array::from_fn(|witness| cursors[witness].max(theirs.order.passed[witness]));
        }
        let standing = self.standing_as(shield, object, usize::from(fill.object), &copy);
        let soft = standing == Standing::Soft && !self.without(Mutation::SoftLost);
        let version = copy.version;
        set_source(&mut state.nodes[asker], Source::Answer { version, heard, cursors, after_arrival: false, soft });
    }

    fn pass(&self, state: &mut State, asker: usize) {
        let Some(fill) = state.nodes[asker].fill else { return };
        let version = self.shown(state, usize::from(fill.object));
        let cursors = [0; NODES];
        let answer = Source::Answer { version, heard: 0, cursors, after_arrival: true, soft: false };
        set_source(&mut state.nodes[asker], answer);
    }

    /// Content came: to whom it is given, and whether it is stored.
    fn land(&self, state: &mut State, index: usize) {
        let Some(fill) = state.nodes[index].fill.take() else { return };
        let node = &state.nodes[index];
        let object = usize::from(fill.object);
        let copy = self.brought(node, &fill);
        let wrongs = |arrived: u8, owed: u8, unchecked: bool| {
            let given = self.accepts(node, object, &copy, arrived);
            let given = if unchecked { Some(Given::Fresh) } else { given };
            given.is_some_and(|given| !self.reflects(copy.version, object, given, owed))
        };
        let unchecked = self.without(Mutation::LateUnchecked);
        let first = wrongs(fill.began, fill.owed, false);
        let late = fill.late.is_some_and(|(arrived, owed)| wrongs(arrived, owed, unchecked));
        let stands = !copy.soft && self.standing(node, object, copy.stamp) == Standing::Valid;
        let kept = stands || (copy.soft && self.standing(node, object, copy.stamp) != Standing::Stale);
        state.wronged |= first || late;
        if index == SHIELD {
            self.answer_joined(state, &fill, &copy, stands);
        }
        if kept {
            state.nodes[index].memory[object] = Some(copy);
        }
    }

    /// Those who waited for a fill of the shield get what it brought. If it lost a race, it reflects only what the
    /// shield had heard when it began. And that it began after they asked is never said.
    fn answer_joined(&self, state: &mut State, fill: &Fill, copy: &Stored, stands: bool) {
        let (heard, cursors) = if stands || self.without(Mutation::HeardAtEnd) {
            (self.heard(state, SHIELD), self.cursors(state, SHIELD))
        } else {
            (fill.heard, fill.cursors)
        };
        let after_arrival = self.without(Mutation::JoinedIsAfterArrival);
        let answer = Source::Answer { version: copy.version, heard, cursors, after_arrival, soft: copy.soft };
        for node in &mut state.nodes[..SHIELD] {
            if node.fill.is_some_and(|theirs| theirs.source == Source::Joined && theirs.object == fill.object) {
                set_source(node, answer);
            }
        }
    }

    fn poll(&self, state: &mut State, index: usize, witness: u8) {
        let head = match self.witnesses {
            Witnesses::Register => self.acknowledged(state),
            Witnesses::None | Witnesses::Logs => state.nodes[usize::from(witness)].durable,
        };
        let node = &mut state.nodes[index];
        if self.without(Mutation::LeaseAlone) {
            node.lease = 0;
        } else {
            node.poll = Some(Poll { witness, age: 0, head });
        }
    }

    /// A node has read what a witness said to have. With itself that is two of three.
    fn confirm(&self, state: &mut State, index: usize) {
        let Some(poll) = state.nodes[index].poll.take() else { return };
        let node = &mut state.nodes[index];
        if node.voting {
            node.lease = node.lease.min(self.leased(index, &poll));
            node.gate = 0;
            return;
        }
        node.recovered |= 1 << poll.witness;
        if self.has_recovered(index, node.recovered) {
            self.recover(node, index);
            self.count_stored(state);
        }
    }

    /// A witness that lost its disk votes again, with everything that it has read in its log.
    fn recover(&self, node: &mut Node, index: usize) {
        node.voting = true;
        node.recovered = 0;
        if !self.without(Mutation::RecoveryUnwritten) {
            let lacking: Vec<usize> =
                (0..self.events).filter(|event| node.order.applied[*event] > 0 && !node.holds(*event)).collect();
            lacking.into_iter().for_each(|event| node.append(event));
            node.durable = node.appended;
        }
        if !self.caches(index) {
            node.order.applied = [0; EVENTS];
            node.order.cursors = [0; NODES];
        }
    }

    fn tick(&self, state: &mut State) {
        let Some(lease) = self.lease else { return };
        let older = |age: u8| if age >= lease { OLD } else { age + 1 };
        let late = |age: u8| (age + 1).min(lease + 1);
        for node in &mut state.nodes {
            node.lease = older(node.lease);
            for copy in node.memory.iter_mut().flatten() {
                copy.confirmed = older(copy.confirmed);
            }
            // an answer that comes later than the lease is long gives none
            let kept = |poll: &Poll| poll.age < lease || self.without(Mutation::LeaseFromAnswer);
            node.poll = node.poll.filter(kept).map(|poll| Poll { age: late(poll.age), ..poll });
            if let Some(fill) = &mut node.fill {
                fill.age = late(fill.age);
            }
        }
        for age in state.acknowledged.iter_mut().flatten() {
            *age = late(*age);
        }
    }
}

fn set_source(node: &mut Node, source: Source) {
    if let Some(fill) = &mut node.fill {
        fill.source = source;
    }
}

/// A fill of the shield came to nothing: those who waited for it go away empty.
fn leave_alone(state: &mut State) {
    for node in &mut state.nodes[..SHIELD] {
        node.fill = node.fill.filter(|fill| fill.source != Source::Joined);
    }
}

/// Who has what: for those who look at a state from outside.
impl State {
    /// How many disks hold an event.
    pub(super) fn on_disk(&self, event: usize) -> usize {
        self.nodes.iter().filter(|node| node.records(node.durable).any(|held| held == event)).count()
    }

    /// Whether every event was acknowledged.
    pub(super) fn all_acknowledged(&self, events: usize) -> bool {
        let done = bits((0..events).filter(|event| self.acknowledged[*event].is_some()));
        usize::try_from(done.count_ones()).is_ok_and(|done| done == events)
    }
}
