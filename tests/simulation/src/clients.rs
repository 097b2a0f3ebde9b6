//! Readers, and the application that publishes and purges, and asks again until it is told what it wants to hear.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use meridian::ledger::Purge;
use rules::purge::{Event as PurgeEvent, Mode, PurgeKey, Wait};

use crate::{
    log::{DOCS, Event, Level, NODES},
    net::Incoming,
    node::{HOST, Wish, folder_of, site, tag_of, url_of},
    stage::Stage,
};

/// Longest wait between a purge's tries, in ms.
const AGAIN_MS: u64 = 700;

/// A purge until the application has what it wants.
#[derive(Debug)]
struct Campaign {
    wish: Wish,
    /// What the application is content with.
    goal: Level,
    /// When to try again, if nothing is heard.
    again_ms: u64,
}

/// Readers and the application.
#[derive(Debug)]
pub struct Clients {
    rng: Rng,
    campaigns: Vec<Campaign>,
    count: u64,
    requests: u64,
    /// Of 256 ticks, in how many something is asked for; and purged.
    eagerness: (u8, u8),
}

impl Clients {
    /// Clients of some eagerness.
    #[must_use]
    pub fn new(rng: &mut Rng) -> Self {
        let mut rng = rng.fork();
        let eagerness = (rng.u8(60..250), rng.u8(1..9));
        Self { rng, campaigns: Vec::new(), count: 0, requests: 0, eagerness }
    }

    /// What they do in one tick.
    pub fn step(&mut self, stage: &Arc<Stage>, now_ms: u64) {
        if self.rng.u8(..) < self.eagerness.0 {
            let (node, doc) = (self.rng.usize(0..NODES), self.rng.usize(0..DOCS));
            self.ask(stage, node, doc);
        }
        if !stage.is_calm() && self.rng.u8(..) < self.eagerness.1 {
            self.publish(stage, now_ms);
        }
        let told = std::mem::take(&mut *stage.told.lock());
        for (id, level) in told {
            self.campaigns.retain(|campaign| campaign.wish.id != id || level < Some(campaign.goal));
            if let Some(campaign) = self.campaigns.iter_mut().find(|campaign| campaign.wish.id == id) {
                campaign.again_ms = campaign.again_ms.min(now_ms + self.rng.u64(1..AGAIN_MS));
            }
        }
        for index in 0..self.campaigns.len() {
            if self.campaigns[index].again_ms <= now_ms {
                self.submit(stage, index, now_ms);
            }
        }
    }

    /// Asks one node for a document.
    pub fn ask(&mut self, stage: &Arc<Stage>, node: usize, doc: usize) {
        self.requests += 1;
        let request = self.requests;
        // a node that is down answers nothing, as one would expect
        let _is_up = stage.net.lock().give(node, Incoming::Ask { request, doc });
    }

    /// Asks every node for everything.
    pub fn ask_all(&mut self, stage: &Arc<Stage>) {
        for node in 0..NODES {
            (0..DOCS).for_each(|doc| self.ask(stage, node, doc));
        }
    }

    fn publish(&mut self, stage: &Arc<Stage>, now_ms: u64) {
        let doc = self.rng.usize(0..DOCS);
        let like = |of: &dyn Fn(usize) -> String| (0..DOCS).filter(|other| of(*other) == of(doc)).collect();
        let (key, docs): (PurgeKey, Vec<usize>) = match self.rng.u8(0..60) {
            0..38 => (url_of(doc), vec![doc]),
            38..50 => (PurgeKey::Tag(tag_of(doc)), like(&tag_of)),
            50..57 => (PurgeKey::Prefix { host: HOST.to_owned(), path: folder_of(doc) }, like(&folder_of)),
            57 => (PurgeKey::Host(HOST.to_owned()), (0..DOCS).collect()),
            58 => (PurgeKey::Site, (0..DOCS).collect()),
            _ => (PurgeKey::Realm, (0..DOCS).collect()),
        };
        for doc in &docs {
            let mut versions = stage.versions.lock();
            versions[*doc] += 1;
            let version = versions[*doc];
            drop(versions);
            stage.note(None, Event::Publish { doc: *doc, version });
        }
        self.count += 1;
        let (keys, idempotency) = (vec![key], format!("purge {}", self.count));
        let site = (keys != [PurgeKey::Realm]).then(site);
        let event = PurgeEvent::new(site.clone(), Mode::Hard, keys.clone(), idempotency.clone());
        let Ok(event) = event else { return };
        let purge = Purge { site, keys, mode: Mode::Hard, idempotency_key: Some(idempotency) };
        let wish = Wish { id: event.id(), purge, docs, wait: Wait::All, timeout: Duration::ZERO, tries: 0 };
        let goal = if self.rng.bool() { Level::All } else { Level::Quorum };
        self.campaigns.push(Campaign { wish, goal, again_ms: now_ms });
    }

    fn submit(&mut self, stage: &Arc<Stage>, index: usize, now_ms: u64) {
        let (wait, timeout) = match self.rng.u8(0..6) {
            0 if !stage.is_calm() => (Wait::Local, Duration::from_secs(60)),
            1 | 2 if !stage.is_calm() => (Wait::Quorum, Duration::from_millis(self.rng.u64(300..3_000))),
            _ => (Wait::All, Duration::from_millis(self.rng.u64(300..3_000))),
        };
        let node = self.rng.usize(0..NODES);
        let patience_ms = self.rng.u64(1_000..4_000);
        let campaign = &mut self.campaigns[index];
        campaign.wish.tries += 1;
        campaign.again_ms = now_ms + patience_ms;
        let wish = Wish { wait, timeout, ..campaign.wish.clone() };
        if !stage.net.lock().give(node, Incoming::Purge(wish)) {
            campaign.again_ms = now_ms + 200;
        }
    }
}
