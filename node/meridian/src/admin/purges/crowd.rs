//! Identical orders that come at the same moment become one purge.
//!
//! An order may join another one only as long as that one has no place in the order of purges yet: then its effect comes
//! after both. One that is in effect already is never joined, since the content that the later order is about may have
//! been fetched in between. So the first order goes at once; those that come within [`WINDOW`] after it wait together for
//! the end of that time and go as one; and so on. A lonely order never waits, and a flood of one order is at most one
//! purge per window.

use std::{collections::HashMap, sync::Arc, time::Duration, time::Instant};

use parking_lot::Mutex;
use rules::purge::PurgeId;
use tokio::sync::watch;

use crate::{admin::problem::Refusal, clock, tasks::Tasks};

/// How long identical orders wait for each other.
pub(super) const WINDOW: Duration = Duration::from_millis(20);
/// Orders that are remembered for a window; beyond that, each goes by itself.
const REMEMBERED_MAX: usize = 16_384;
/// Those among them who are told apart, per purge; the rest is counted with the last.
const ASKERS_MAX: usize = 256;

/// What makes orders identical: site or realm, mode and keys.
pub(super) type Same = (String, PurgeId);

/// Who ordered: token and address.
pub(super) type Asker = (String, String);

/// A purge that was taken.
#[derive(Debug, Clone)]
pub(super) struct Ordered {
    pub(super) id: PurgeId,
    /// Becomes true when the audit has it; none if it will not.
    pub(super) noted: Option<watch::Receiver<bool>>,
}

/// What became of orders that went together.
pub(super) type Taken = Result<Ordered, Refusal>;

/// Sends one purge on behalf of all who are named, with how many orders each sent.
pub(super) type Go = Arc<dyn Fn(&[(Asker, u32)]) -> Taken + Send + Sync>;

/// The orders of the last moment.
#[derive(Debug)]
pub(super) struct Crowd {
    recent: Mutex<HashMap<Same, Recent>>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Recent {
    /// When the last one went.
    went: Instant,
    /// Those that wait for the next.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    askers: Vec<(Asker, u32)>,
    taken: watch::Sender<Option<Taken>>,
}

enum Place {
    /// Goes at once.
    First,
    /// Goes with others, and somebody sees to it.
    Joined(watch::Receiver<Option<Taken>>),
    /// Goes with others that may come, when so much time is over.
    Leads(watch::Receiver<Option<Taken>>, Duration),
}

impl Crowd {
    pub(super) fn new(tasks: Tasks) -> Arc<Self> {
        Arc::new(Self { recent: Mutex::default(), tasks })
    }

    /// Orders, alone or together with those who order the same. `go` takes the purge.
    pub(super) async fn order(self: &Arc<Self>, same: Same, asker: Asker, go: &Go) -> Option<Taken> {
        match self.place(&same, &asker, clock::instant()) {
            Place::First => Some(go(&[(asker, 1)])),
            Place::Joined(taken) => told(taken).await,
            Place::Leads(taken, rest) => {
                // a task of its own: who leads may hang up, and the others have joined
                let (crowd, go) = (Arc::clone(self), Arc::clone(go));
                self.tasks.spawn("purges-together", async move {
                    tokio::time::sleep(rest).await;
                    crowd.depart(&same, &go);
                });
                told(taken).await
            }
        }
    }

    fn place(&self, same: &Same, asker: &Asker, now: Instant) -> Place {
        let mut recent = self.recent.lock();
        if recent.len() >= REMEMBERED_MAX / 4 {
            recent.retain(|_, recent| recent.waiting.is_some() || now.duration_since(recent.went) < WINDOW);
        }
        let full = recent.len() >= REMEMBERED_MAX;
        let Some(last) = recent.get_mut(same) else {
            if !full {
                recent.insert(same.clone(), Recent { went: now, waiting: None });
            }
            return Place::First;
        };
        if let Some(waiting) = &mut last.waiting {
            waiting.join(asker);
            return Place::Joined(waiting.taken.subscribe());
        }
        let since = now.saturating_duration_since(last.went);
        if since >= WINDOW {
            last.went = now;
            return Place::First;
        }
        let (taken, wait) = watch::channel(None);
        last.waiting = Some(Waiting { askers: vec![(asker.clone(), 1)], taken });
        Place::Leads(wait, WINDOW.saturating_sub(since))
    }

    /// Those who wait go. From the moment that they are taken out, nobody joins them; only then are they sent.
    fn depart(&self, same: &Same, go: &Go) {
        let waiting = {
            let mut recent = self.recent.lock();
            let Some(last) = recent.get_mut(same) else { return };
            last.went = clock::instant();
            last.waiting.take()
        };
        if let Some(waiting) = waiting {
            let taken = go(&waiting.askers);
            waiting.taken.send_replace(Some(taken));
        }
    }
}

impl Waiting {
    fn join(&mut self, asker: &Asker) {
        let known = self.askers.iter().position(|(known, _)| known == asker);
        let at = known.or_else(|| (self.askers.len() >= ASKERS_MAX).then(|| self.askers.len() - 1));
        match at.and_then(|at| self.askers.get_mut(at)) {
            Some((_, orders)) => *orders = orders.saturating_add(1),
            None => self.askers.push((asker.clone(), 1)),
        }
    }
}

/// Waits; none if the node stops before they go.
async fn told(mut taken: watch::Receiver<Option<Taken>>) -> Option<Taken> {
    taken.wait_for(Option::is_some).await.ok().and_then(|taken| taken.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Notes every purge that is taken, and gives it a number.
    #[derive(Default)]
    struct Ledger(Mutex<Vec<u32>>);

    fn noting(ledger: &Arc<Ledger>) -> Go {
        let ledger = Arc::clone(ledger);
        Arc::new(move |askers| {
            let mut taken = ledger.0.lock();
            taken.push(askers.iter().map(|(_, orders)| orders).sum());
            Ok(Ordered { id: PurgeId(taken.len() as u128), noted: None })
        })
    }

    fn asker(name: &str) -> Asker {
        (name.into(), "192.0.2.1".into())
    }

    #[tokio::test]
    async fn a_flood_of_one_order_is_few_purges_and_none_is_lost() {
        let (crowd, ledger) = (Crowd::new(Tasks::new()), Arc::new(Ledger::default()));
        let began = clock::instant();
        let mut orders = tokio::task::JoinSet::new();
        for _ in 0..10_000 {
            let (crowd, go) = (Arc::clone(&crowd), noting(&ledger));
            orders.spawn(async move { crowd.order(("s".into(), PurgeId(7)), asker("cms"), &go).await });
        }
        while let Some(taken) = orders.join_next().await {
            assert!(taken.unwrap().unwrap().is_ok());
        }
        let windows = began.elapsed().as_millis() / WINDOW.as_millis() + 2;
        let taken = ledger.0.lock();
        assert!(taken.len() as u128 <= windows, "{taken:?} in {windows} windows");
        assert_eq!(taken.iter().sum::<u32>(), 10_000, "each order counts once");
    }

    #[tokio::test]
    async fn an_order_never_joins_a_purge_that_is_in_effect_already() {
        let (crowd, ledger) = (Crowd::new(Tasks::new()), Arc::new(Ledger::default()));
        let go = noting(&ledger);
        for sent in 1..=20 {
            let before = ledger.0.lock().len() as u128;
            let id = crowd.order(("s".into(), PurgeId(7)), asker("cms"), &go).await.unwrap().unwrap().id;
            assert!(id.0 > before, "order {sent} was answered with purge {id}, and {before} had gone before it came");
        }
    }

    #[tokio::test]
    async fn other_orders_do_not_wait_and_the_memory_is_bounded() {
        let (crowd, ledger) = (Crowd::new(Tasks::new()), Arc::new(Ledger::default()));
        let go = noting(&ledger);
        for number in 0..(REMEMBERED_MAX as u128 * 2) {
            crowd.order(("s".into(), PurgeId(number)), asker("cms"), &go).await.unwrap().unwrap();
        }
        assert_eq!(ledger.0.lock().len(), REMEMBERED_MAX * 2);
        assert!(crowd.recent.lock().len() <= REMEMBERED_MAX);
    }

    #[tokio::test]
    async fn who_hangs_up_does_not_take_the_others_along() {
        let (crowd, ledger) = (Crowd::new(Tasks::new()), Arc::new(Ledger::default()));
        let go = noting(&ledger);
        let same = || ("s".to_owned(), PurgeId(7));
        crowd.order(same(), asker("a"), &go).await.unwrap().unwrap();
        let hung_up = tokio::time::timeout(Duration::from_millis(1), crowd.order(same(), asker("a"), &go)).await;
        assert!(hung_up.is_err());
        assert_eq!(crowd.order(same(), asker("b"), &go).await.unwrap().unwrap().id, PurgeId(2));
        assert_eq!(*ledger.0.lock(), [1, 2]);
    }
}
