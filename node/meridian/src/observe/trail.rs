//! Decision trails: for clients that show a debug token, the steps of their requests with reasons and times, kept for some
//! minutes in a ring of bounded length. In memory only, on this node only, and only with a `Permit`.
//!
//! While no token lives, a request pays one relaxed load.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use region_config::SiteId;
use rules::{caching::Reason, residency::Permit};

use super::Outcome;
use crate::clock;

/// The field that clients show a token in. It is no part of a key, and goes no further than the node.
pub static TOKEN: HeaderName = HeaderName::from_static("x-meridian-debug");
/// The field that tells them the id of their request's trail.
pub static REQUEST: HeaderName = HeaderName::from_static("meridian-request");

/// The longest life of a token, in ms.
pub const TOKEN_LIFE_MS: u64 = 60 * 60 * 1000;
/// How long a trail is kept, in ms.
const TRAIL_LIFE_MS: u64 = 10 * 60 * 1000;
/// Tokens that live at a time, of a site and of the node.
const TOKENS_OF_SITE_MAX: usize = 16;
const TOKENS_MAX: usize = 256;
/// Trails that are kept at a time, of a site and of the node: then the oldest goes.
const TRAILS_OF_SITE_MAX: usize = 256;
const TRAILS_MAX: usize = 1024;
/// Steps of a trail, characters of one text of it, and of the request's URL.
const STEPS_MAX: usize = 48;
const TEXT_CHARS_MAX: usize = 400;
const URL_CHARS_MAX: usize = 2048;

/// What came of one step.
#[derive(Debug, Clone)]
pub struct Told {
    /// The outcome in a word or two.
    pub verdict: Cow<'static, str>,
    /// Its reason, where there was a choice.
    pub reason: Option<Reason>,
    /// More about it, for people.
    pub detail: String,
}

impl Told {
    /// An outcome without a reason.
    #[must_use]
    pub fn plain(verdict: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { verdict: verdict.into(), reason: None, detail: detail.into() }
    }

    /// An outcome with a reason, and what that means.
    #[must_use]
    pub fn because(verdict: impl Into<Cow<'static, str>>, reason: Reason) -> Self {
        Self { verdict: verdict.into(), reason: Some(reason), detail: reason.meaning().into() }
    }
}

/// A step of a trail.
#[derive(Debug, Clone)]
pub struct Note {
    /// How long after the request came, in us.
    pub micros: u32,
    /// Which step.
    pub step: &'static str,
    /// What came of it.
    pub told: Told,
}

/// The trail of a request under way.
#[derive(Debug)]
pub struct Trail {
    id: u128,
    token: u64,
    began: Instant,
    notes: Mutex<Vec<Note>>,
}

impl Trail {
    /// Notes a step; those beyond the limit are left out.
    pub fn note(&self, step: &'static str, mut told: Told) {
        let micros = u32::try_from(clock::instant().duration_since(self.began).as_micros()).unwrap_or(u32::MAX);
        told.detail = cut(&told.detail, TEXT_CHARS_MAX);
        let mut notes = self.notes.lock();
        if notes.len() < STEPS_MAX {
            notes.push(Note { micros, step, told });
        }
    }
}

/// What was answered, as far as a trail tells it.
#[derive(Debug, Clone)]
pub struct Answered {
    /// When the request came, in ms since the Unix epoch.
    pub unix_ms: u64,
    /// Its method.
    pub method: String,
    /// Its host and target.
    pub url: String,
    /// The answer's status.
    pub status: u16,
    /// How it came about.
    pub outcome: Outcome,
    /// Why it was no plain hit.
    pub reason: Option<Reason>,
    /// What `Cache-Status` says, this node's member last.
    pub cache_status: String,
    /// Time from the request's head to the answer's, in us.
    pub micros: u32,
}

/// A trail that is kept.
#[derive(Debug)]
pub struct Record {
    /// Its name.
    pub id: u128,
    /// The site.
    pub site: SiteId,
    /// What was answered.
    pub answered: Answered,
    /// The steps, in order.
    pub notes: Vec<Note>,
    token: u64,
    until_ms: u64,
}

/// A token as it is shown to operators: without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenView {
    /// What it is revoked by.
    pub id: u64,
    /// The site that it is for.
    pub site: SiteId,
    /// For how long it still lives, in ms.
    pub left_ms: u64,
}

/// Why no token is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There are too many.
    #[error("too many debug tokens live: {TOKENS_OF_SITE_MAX} for a site, {TOKENS_MAX} on a node")]
    TooMany,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Chance,
}

#[derive(Debug)]
struct Holder {
    id: u64,
    site: SiteId,
    digest: blake3::Hash,
    until_ms: u64,
}

/// All debug tokens and trails of this node.
#[derive(Debug, Default)]
pub struct Trails {
    /// Whether any token lives: what all requests look at.
    living: AtomicBool,
    holders: Mutex<Vec<Holder>>,
    ring: Mutex<VecDeque<Arc<Record>>>,
}

impl Trails {
    /// Makes a token for a site that lives `life_ms`, [`TOKEN_LIFE_MS`] at most. The text is shown once, and not kept.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn mint(&self, permit: &Permit, life_ms: u64, now_ms: u64) -> Result<(String, TokenView), TokenError> {
        let mut random = [0; 40];
        getrandom::fill(&mut random).map_err(|_| TokenError::Chance)?;
        let (id, secret) = random.split_at(8);
        let id = id.iter().fold(0, |id, byte| (id << 8) | u64::from(*byte));
        let text = hex(secret);
        let site = permit.site();
        let mut holders = self.holders.lock();
        holders.retain(|holder| holder.until_ms > now_ms);
        let of_site = holders.iter().filter(|holder| holder.site == *site).count();
        if of_site >= TOKENS_OF_SITE_MAX || holders.len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let left_ms = life_ms.min(TOKEN_LIFE_MS);
        let digest = blake3::hash(text.as_bytes());
        holders.push(Holder { id, site: site.clone(), digest, until_ms: now_ms.saturating_add(left_ms) });
        self.living.store(true, Relaxed);
        Ok((text, TokenView { id, site: site.clone(), left_ms }))
    }

    /// The tokens that live.
    #[must_use]
    pub fn tokens(&self, now_ms: u64) -> Vec<TokenView> {
        let holders = self.holders.lock();
        let living = holders.iter().filter(|holder| holder.until_ms > now_ms);
        let view =
            |holder: &Holder| TokenView { id: holder.id, site: holder.site.clone(), left_ms: holder.until_ms - now_ms };
        living.map(view).collect()
    }

    /// Ends a token's life, and drops what was kept for it. False if there is no such token.
    pub fn revoke(&self, id: u64) -> bool {
        let mut holders = self.holders.lock();
        let before = holders.len();
        holders.retain(|holder| holder.id != id);
        let found = holders.len() < before;
        self.living.store(!holders.is_empty(), Relaxed);
        drop(holders);
        self.ring.lock().retain(|record| record.token != id);
        found
    }

    /// Takes the token out of a request, where one is shown while one lives.
    #[inline]
    pub fn shown(&self, headers: &mut HeaderMap) -> Option<HeaderValue> {
        if self.living.load(Relaxed) { headers.remove(&TOKEN) } else { None }
    }

    /// Begins a trail, if what was shown is a living token of the site.
    #[must_use]
    pub fn begin(&self, permit: &Permit, shown: &HeaderValue) -> Option<Box<Trail>> {
        // digests are compared in constant time
        let (digest, now_ms) = (blake3::hash(shown.as_bytes()), clock::monotonic_ms());
        let holders = self.holders.lock();
        let mut own = holders.iter().filter(|holder| holder.site == *permit.site() && holder.until_ms > now_ms);
        let token = own.find(|holder| holder.digest == digest)?.id;
        drop(holders);
        let mut id = [0; 16];
        getrandom::fill(&mut id).ok()?;
        let id = u128::from_be_bytes(id);
        Some(Box::new(Trail { id, token, began: clock::instant(), notes: Mutex::default() }))
    }

    /// Keeps the trail of a request that was answered; returns its id as clients are told it.
    pub fn keep(&self, permit: &Permit, trail: Trail, answered: Answered) -> String {
        let now_ms = clock::monotonic_ms();
        let id = format!("{:032x}", trail.id);
        let answered = Answered { url: cut(&answered.url, URL_CHARS_MAX), ..answered };
        let record = Record {
            id: trail.id,
            site: permit.site().clone(),
            answered,
            notes: trail.notes.into_inner(),
            token: trail.token,
            until_ms: now_ms + TRAIL_LIFE_MS,
        };
        if self.holders.lock().iter().any(|holder| holder.id == record.token) {
            self.push(record, now_ms);
        }
        id
    }

    fn push(&self, record: Record, now_ms: u64) {
        let mut ring = self.ring.lock();
        while ring.front().is_some_and(|oldest| oldest.until_ms <= now_ms) || ring.len() >= TRAILS_MAX {
            ring.pop_front();
        }
        let mut own = ring.iter().enumerate().filter(|(_, other)| other.site == record.site);
        let oldest = own.next().map(|(at, _)| at);
        if own.count() + 1 >= TRAILS_OF_SITE_MAX
            && let Some(at) = oldest
        {
            ring.remove(at);
        }
        ring.push_back(Arc::new(record));
    }

    /// A trail by its id.
    #[must_use]
    pub fn find(&self, id: u128, now_ms: u64) -> Option<Arc<Record>> {
        let ring = self.ring.lock();
        ring.iter().find(|record| record.id == id && record.until_ms > now_ms).cloned()
    }

    /// Drops what has lived long enough.
    pub(super) fn sweep(&self, now_ms: u64) {
        if !self.living.load(Relaxed) && self.ring.lock().is_empty() {
            return;
        }
        self.ring.lock().retain(|record| record.until_ms > now_ms);
        let mut holders = self.holders.lock();
        holders.retain(|holder| holder.until_ms > now_ms);
        self.living.store(!holders.is_empty(), Relaxed);
    }

    /// Drops tokens and trails of all sites but these: the others may not be here any more.
    pub fn keep_only(&self, permits: &[Permit]) {
        let stays = |site: &SiteId| permits.iter().any(|permit| permit.site() == site);
        self.ring.lock().retain(|record| stays(&record.site));
        let mut holders = self.holders.lock();
        holders.retain(|holder| stays(&holder.site));
        self.living.store(!holders.is_empty(), Relaxed);
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::JurisdictionId;

    use super::*;
    use crate::observe::tests::{permit, site};

    fn permit_of(name: &str) -> Permit {
        rules::residency::permit(&site(name), &JurisdictionId::parse("eu").unwrap()).unwrap()
    }

    fn answered() -> Answered {
        Answered {
            unix_ms: 0,
            method: "GET".into(),
            url: "x".repeat(URL_CHARS_MAX * 2),
            status: 200,
            outcome: Outcome::Hit,
            reason: None,
            cache_status: String::new(),
            micros: 1,
        }
    }

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    #[test]
    fn only_a_living_token_of_the_site_begins_a_trail() {
        let (trails, shop) = (Trails::default(), permit());
        let mut headers = HeaderMap::from_iter([(TOKEN.clone(), value("x"))]);
        assert_eq!(trails.shown(&mut headers), None, "nobody looks while no token lives");
        let now_ms = clock::monotonic_ms();
        let (text, view) = trails.mint(&shop, u64::MAX, now_ms).unwrap();
        assert_eq!((text.len(), view.left_ms), (64, TOKEN_LIFE_MS));
        assert!(trails.shown(&mut headers).is_some() && headers.is_empty());
        assert!(trails.begin(&shop, &value(&text)).is_some());
        assert!(trails.begin(&permit_of("bank"), &value(&text)).is_none(), "another site's");
        for wrong in ["", "x", &text[1..], &text.to_uppercase().replace('0', "O")] {
            assert!(trails.begin(&shop, &value(wrong)).is_none(), "{wrong}");
        }
        let (expired, _) = trails.mint(&shop, 0, now_ms).unwrap();
        assert!(trails.begin(&shop, &value(&expired)).is_none());
        assert!(trails.revoke(view.id) && !trails.revoke(view.id));
        assert!(trails.begin(&shop, &value(&text)).is_none());
    }

    #[test]
    fn tokens_are_few_and_end() {
        let (trails, shop) = (Trails::default(), permit());
        for _ in 0..TOKENS_OF_SITE_MAX {
            trails.mint(&shop, 1000, 0).unwrap();
        }
        assert_eq!(trails.mint(&shop, 1000, 500).unwrap_err(), TokenError::TooMany);
        assert!(trails.mint(&permit_of("bank"), 1000, 500).is_ok());
        trails.sweep(1200);
        assert_eq!(trails.tokens(1200).len(), 1);
        trails.sweep(1500);
        assert!(trails.mint(&shop, 1000, 1500).is_ok());
        trails.keep_only(&[permit_of("bank")]);
        assert!(trails.tokens(1500).is_empty() && !trails.living.load(Relaxed));
    }

    #[test]
    fn a_flood_goes_round_in_a_ring_and_leaves_other_sites_theirs() {
        let (trails, shop, bank) = (Trails::default(), permit(), permit_of("bank"));
        let now_ms = clock::monotonic_ms();
        let (of_shop, shop_view) = trails.mint(&shop, TOKEN_LIFE_MS, now_ms).unwrap();
        let (of_bank, _) = trails.mint(&bank, TOKEN_LIFE_MS, now_ms).unwrap();
        let ask = |permit: &Permit, text: &str| {
            let trail = trails.begin(permit, &value(text)).unwrap();
            (0..STEPS_MAX * 2).for_each(|_| trail.note("step", Told::plain("word", "y".repeat(TEXT_CHARS_MAX * 2))));
            let id = trails.keep(permit, *trail, answered());
            u128::from_str_radix(&id, 16).unwrap()
        };
        let others = ask(&bank, &of_bank);
        let first = ask(&shop, &of_shop);
        let last = (0..TRAILS_MAX * 2).fold(first, |_, _| ask(&shop, &of_shop));
        assert_eq!(trails.ring.lock().len(), TRAILS_OF_SITE_MAX + 1);
        assert!(trails.find(first, now_ms).is_none());
        let record = trails.find(last, now_ms).unwrap();
        assert_eq!((record.notes.len(), record.answered.url.len()), (STEPS_MAX, URL_CHARS_MAX));
        assert!(record.notes.iter().all(|note| note.told.detail.len() == TEXT_CHARS_MAX));
        assert!(trails.find(last, clock::monotonic_ms() + TRAIL_LIFE_MS).is_none());
        trails.revoke(shop_view.id);
        assert!(trails.find(last, now_ms).is_none() && trails.find(others, now_ms).is_some());
        trails.sweep(clock::monotonic_ms() + TRAIL_LIFE_MS);
        assert!(trails.ring.lock().is_empty());
    }
}
