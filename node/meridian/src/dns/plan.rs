//! Plans: what DNS answers from never goes back to an older one.
//!
//! A view is made of a config and a geo database on some background thread, and takes its time. Whoever began later knew the
//! later inputs, so the number is drawn when a view is begun, and a view takes the place of those with a lower number only.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;

use super::View;

/// The number of the plan that was begun last.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Begins a plan: draws its number.
pub(super) fn begin() -> u64 {
    BEGUN.fetch_add(1, Relaxed) + 1
}

/// Puts a view in place of an older one. Says whether it did: a view that was begun before the one that is answered from
/// stays out.
#[must_use = "a view that stays out is to be made anew, or told"]
pub fn put(current: &ArcSwap<View>, view: &Arc<View>) -> bool {
    let before = current.rcu(|known| if view.plan() > known.plan() { Arc::clone(view) } else { Arc::clone(known) });
    view.plan() > before.plan()
}

/// Puts `shared` in place of `view`, of whose plan it is. Says whether it did: it does not take the place of another plan's.
/// Whoever shares out does one after the other, so that no older shares take the place of newer ones.
#[must_use = "a plan that has come meanwhile is to be shared out too"]
pub fn put_shared(current: &ArcSwap<View>, view: &View, shared: &Arc<View>) -> bool {
    let before = current.rcu(|known| Arc::clone(if known.plan() == view.plan() { shared } else { known }));
    before.plan() == view.plan()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{dns::tests::config, geo};

    /// Two reloads at a time, of which the first takes longer: its view came last and led resolvers back.
    #[test]
    fn an_older_plan_never_takes_the_place_of_a_newer_one() {
        let base = geo::Base::embedded().unwrap();
        let view = || Arc::new(View::compile(&config(), &base).unwrap());
        let (first, slow, quick) = (view(), view(), view());
        let current = ArcSwap::new(first);
        assert!(put(&current, &quick));
        assert!(!put(&current, &slow));
        assert!(!put(&current, &quick), "nor itself");
        assert_eq!(current.load().plan(), quick.plan());
        assert!(put(&current, &view()));
    }

    #[test]
    fn shares_of_an_older_plan_never_take_the_place_of_a_newer_one() {
        let mut config = config();
        config.regions[0].capacity_per_second = Some(10);
        let base = geo::Base::embedded().unwrap();
        let view = || Arc::new(View::compile(&config, &base).unwrap());
        let (old, new) = (view(), view());
        let shared = |view: &View| Arc::new(view.shared_out(|_| [(0, 0.5), (1, 0.5)][..].into()).unwrap());
        let current = ArcSwap::new(Arc::clone(&old));
        let of_old = shared(&old);
        assert!(put_shared(&current, &old, &of_old));
        assert!(Arc::ptr_eq(&current.load(), &of_old));
        assert!(put(&current, &new));
        assert!(!put_shared(&current, &old, &of_old));
        assert!(Arc::ptr_eq(&current.load(), &new));
    }
}
