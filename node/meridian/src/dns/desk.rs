//! From a message to its answer: what one UDP thread, or one TCP connection, answers with.

use std::{
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rules::{
    health::Fleet,
    steering::{Standing, Step},
};
use wire::dns::{Fault, OptRcode, Owed, Query, TCP_BYTES_MAX, compose_cookie, compose_fault, compose_short, parse};

use super::{
    Front,
    batch::MESSAGES,
    counters::{Counters, Event, Tally},
    rates::{Leave, Rates, Sender, excess},
    terms::Terms,
    view::{Asked, View},
    zones::Found,
};
use crate::clock;

/// What is answered with. Over UDP, where a sender's address may be forged, answers are counted.
pub struct Desk {
    front: Arc<Front>,
    health: Health,
    rates: Option<Rates>,
    tally: Tally,
}

impl Desk {
    pub(super) fn udp(front: Arc<Front>) -> Self {
        let health = Health::new(&front.fleet, &front.view.load());
        Self { health, rates: Some(Rates::new()), tally: Tally::default(), front }
    }

    pub(super) fn tcp(front: Arc<Front>) -> Self {
        let health = Health::new(&front.fleet, &front.view.load());
        Self { health, rates: None, tally: Tally::default(), front }
    }

    /// A UDP desk without a socket: for what measures and tortures it.
    #[must_use]
    pub fn new(view: Arc<ArcSwap<View>>, fleet: Arc<ArcSwap<Fleet>>, terms: Terms) -> Self {
        Self::udp(Arc::new(Front { view, fleet, terms: ArcSwap::from_pointee(terms), counters: Arc::default() }))
    }

    /// The same as over TCP.
    #[cfg(test)]
    pub(super) fn without_rates(self) -> Self {
        Self { rates: None, ..self }
    }

    /// What became of all messages at this door.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.front.counters
    }

    /// Answers messages that came together from one view, one health and one time; at most a batch of them.
    pub fn answer_all<'m>(&mut self, messages: impl IntoIterator<Item = Message<'m>>) {
        self.serve(|moment| moment.answer_all(messages));
    }

    /// Lets `each` answer messages that came together, from one view, one health and one time.
    fn serve(&mut self, each: impl FnOnce(&mut Moment<'_>)) {
        let (view, terms) = (self.front.view.load(), self.front.terms.load());
        let mut moment = Moment {
            view: &view,
            standing: self.health.standing(&self.front.fleet, &view),
            terms: &terms,
            tally: &mut self.tally,
            rates: self.rates.as_mut(),
            unix_s: low_bits(clock::unix_ms() / 1_000),
            now_ms: low_bits(clock::monotonic_ms()),
        };
        each(&mut moment);
        self.tally.tell(&self.front.counters);
    }

    /// Writes the answer to one message from `peer` into `buffer` and gives it back; empty if there is to be none.
    #[must_use]
    pub fn answer(&mut self, bytes: &[u8], peer: IpAddr, mut buffer: Vec<u8>) -> Vec<u8> {
        self.serve(|moment| {
            let mut read = moment.read(bytes, peer);
            buffer = moment.respond(&mut read, std::mem::take(&mut buffer));
        });
        buffer
    }
}

/// Times are compared by their difference, so their low bits are enough.
#[allow(clippy::cast_possible_truncation, reason = "that is what it does")]
fn low_bits(number: u64) -> u32 {
    number as u32
}

/// A message that came, and the place for its answer.
#[derive(Debug)]
pub struct Message<'a> {
    /// The message.
    pub query: &'a [u8],
    /// Who sent it.
    pub peer: SocketAddr,
    /// The answer; none is sent if it is empty.
    pub reply: &'a mut Vec<u8>,
}

/// A message that was read.
struct Read<'a> {
    bytes: &'a [u8],
    peer: IpAddr,
    query: Result<Query<'a>, Fault>,
    /// The client's subnet, or else the sender.
    client: IpAddr,
    found: Option<Found<'a>>,
}

/// View, terms, health and time, as they were when messages came.
struct Moment<'a> {
    view: &'a View,
    standing: &'a Standing,
    terms: &'a Terms,
    tally: &'a mut Tally,
    rates: Option<&'a mut Rates>,
    unix_s: u32,
    now_ms: u32,
}

impl<'a> Moment<'a> {
    fn answer_all<'m>(&mut self, messages: impl IntoIterator<Item = Message<'m>>) {
        let mut replies: [Option<&mut Vec<u8>>; MESSAGES] = [const { None }; MESSAGES];
        let mut reads: [Option<Read<'_>>; MESSAGES] = [const { None }; MESSAGES];
        let mut count = 0;
        for (message, (read, reply)) in messages.into_iter().zip(reads.iter_mut().zip(&mut replies)) {
            count += 1;
            if message.peer.port() == 0 {
                self.tally.note(Event::Dropped);
                continue;
            }
            // no message may take the thread down, and with it the service of this address
            match catch_unwind(AssertUnwindSafe(|| *read = Some(self.read(message.query, message.peer.ip())))) {
                Ok(()) => *reply = Some(message.reply),
                Err(_) => self.tally.note(Event::Panicked),
            }
        }
        if count > 1 {
            // a hint: if it fails, all are answered without
            let _ = catch_unwind(AssertUnwindSafe(|| self.fetch(&reads)));
        }
        for (read, reply) in reads.iter_mut().zip(replies).take(count) {
            let (Some(read), Some(reply)) = (read, reply) else { continue };
            let buffer = std::mem::take(reply);
            *reply = catch_unwind(AssertUnwindSafe(|| self.respond(read, buffer))).unwrap_or_else(|_| {
                self.tally.note(Event::Panicked);
                Vec::new()
            });
        }
    }

    /// Reads a message from `peer`, and finds what it asks for.
    fn read<'b>(&self, bytes: &'b [u8], peer: IpAddr) -> Read<'b>
    where
        'a: 'b,
    {
        let query = parse(bytes);
        let found = query.as_ref().ok().and_then(|query| self.view.find(query));
        let client = query.as_ref().ok().and_then(Query::subnet).map_or(peer, |subnet| subnet.address);
        Read { bytes, peer, query, client, found }
    }

    /// Tells the processor what answers to these messages will be made of.
    fn fetch(&self, messages: &[Option<Read<'_>>]) {
        for step in [Step::Where, Step::What] {
            for read in messages.iter().flatten() {
                if let Some(map) = self.view.map_of(read.found) {
                    map.fetch(read.client, step);
                }
            }
        }
    }

    /// Writes the answer to a message into `buffer` and gives it back; empty if there is to be none.
    fn respond<'b>(&mut self, read: &mut Read<'b>, buffer: Vec<u8>) -> Vec<u8>
    where
        'a: 'b,
    {
        let Read { bytes, peer, query, client, found } = read;
        match query {
            Ok(query) => self.answer(query, bytes.len(), (*peer, *client), *found, buffer),
            Err(fault) => self.reject(bytes, fault, *peer, buffer),
        }
    }

    fn answer<'b>(
        &mut self,
        query: &mut Query<'b>,
        query_bytes: usize,
        (peer, client): (IpAddr, IpAddr),
        found: Option<Found<'b>>,
        buffer: Vec<u8>,
    ) -> Vec<u8>
    where
        'a: 'b,
    {
        let terms = self.terms;
        let judged = terms.secrets.judge(query, peer, self.unix_s);
        let asks_who = query.edns.as_ref().is_some_and(|edns| edns.nsid);
        query.owed =
            Owed { cookie: judged.map(|judged| judged.reply), nsid: terms.nsid.as_deref().filter(|_| asks_who) };
        let proven = judged.is_some_and(|judged| judged.proven);
        let rates = self.rates.as_deref().filter(|_| !proven);
        let asked = Asked {
            query,
            found,
            client,
            sender: Sender::new(peer, rates, terms.answers_per_second, self.now_ms),
            standing: self.standing,
            bytes_max: if self.rates.is_some() { query.udp_bytes() } else { TCP_BYTES_MAX },
        };
        let (answer, event) = self.view.answer(&asked, buffer);
        let excess = if asked.sender.was_refused() { u32::MAX } else { excess(query_bytes, answer.len()) };
        if query.subnet().is_some() {
            self.tally.note(Event::Subnet);
        }
        if proven {
            self.tally.note(Event::Proven);
        }
        let answer = match if proven { Leave::Whole } else { self.count(peer, event, excess) } {
            Leave::Whole => {
                self.tally.note(event);
                answer
            }
            Leave::Short => {
                self.tally.note(Event::Limited);
                let rcode = if judged.is_some() { OptRcode::BADCOOKIE } else { OptRcode::NOERROR };
                compose_short(query, rcode, answer)
            }
            Leave::Nothing => self.withhold(answer),
        };
        // TC is the seventh bit of the third octet (RFC 1035 section 4.1.1)
        if answer.get(2).is_some_and(|flags| flags & 0x02 != 0) {
            self.tally.note(Event::Truncated);
        }
        answer
    }

    /// What is no query, but may be owed an answer; there is no shorter one.
    fn reject(&mut self, bytes: &[u8], fault: &Fault, peer: IpAddr, buffer: Vec<u8>) -> Vec<u8> {
        let (answer, event) = match fault {
            Fault::Drop => (Vec::new(), Event::Dropped),
            Fault::Reply { .. } => (compose_fault(bytes, fault, buffer), Event::Malformed),
            Fault::Cookie(edns) => match self.terms.secrets.judge_alone(edns, peer, self.unix_s) {
                Some(judged) => (compose_cookie(bytes, &judged, buffer), Event::CookieAlone),
                None => (Vec::new(), Event::Dropped),
            },
        };
        if self.count(peer, event, excess(bytes.len(), answer.len())) != Leave::Whole {
            return self.withhold(answer);
        }
        self.tally.note(if answer.is_empty() { Event::Dropped } else { event });
        answer
    }

    fn count(&mut self, peer: IpAddr, event: Event, excess: u32) -> Leave {
        match (&mut self.rates, self.terms.answers_per_second) {
            (Some(rates), Some(per_second)) => rates.count(peer, event, excess, per_second, self.now_ms),
            _ => Leave::Whole,
        }
    }

    fn withhold(&mut self, mut answer: Vec<u8>) -> Vec<u8> {
        self.tally.note(Event::Withheld);
        answer.clear();
        answer
    }
}

/// The masks of the fleet that was seen last, for the view that was seen last: made anew only when one is another one.
struct Health {
    fleet: Arc<Fleet>,
    plan: u64,
    standing: Standing,
}

impl Health {
    fn new(fleet: &ArcSwap<Fleet>, view: &View) -> Self {
        let fleet = fleet.load_full();
        Self { standing: view.standing(&fleet), plan: view.plan(), fleet }
    }

    fn standing(&mut self, fleet: &ArcSwap<Fleet>, view: &View) -> &Standing {
        let now = fleet.load();
        if !Arc::ptr_eq(&self.fleet, &now) || self.plan != view.plan() {
            self.standing = view.standing(&now);
            (self.fleet, self.plan) = (Arc::clone(&now), view.plan());
        }
        &self.standing
    }
}
