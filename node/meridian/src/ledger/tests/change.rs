//! The witnesses of a realm are changed while it runs.

use super::*;

const FIVE: [(&str, &str); 5] = [("a", "eu"), ("b", "eu"), ("c", "eu"), ("d", "eu"), ("e", "eu")];

fn set(version: u64, nodes: &str, next: &str) -> WitnessSet {
    let names = |names: &str| names.chars().map(|name| node(&name.to_string())).collect();
    let written_at = "fleet.toml:3".to_owned();
    WitnessSet { realm: RealmId::global(), version, nodes: names(nodes), next: names(next), written_at }
}

fn old() -> WitnessSet {
    set(1, "abc", "")
}

fn both() -> WitnessSet {
    set(2, "abc", "cde")
}

fn new() -> WitnessSet {
    set(3, "cde", "")
}

impl Fleet {
    async fn again(&mut self, index: usize, set: &WitnessSet) {
        self.kill(index).await;
        self.start_with(index, Some(set.clone())).unwrap();
    }

    async fn five() -> Self {
        let mut fleet = Self::new(&FIVE);
        (0..5).for_each(|index| fleet.start_with(index, Some(old())).unwrap());
        fleet.caught_up().await;
        // a new node that meets a witness only later jumps once more: what it has stored until then is stale
        let met = |i: usize, witness: usize| {
            i == witness || fleet.realm(i).core.lock().apply.confirmed(witness) == Some(true)
        };
        until("all have read all witnesses", || (0..5).all(|i| (0..3).all(|witness| met(i, witness)))).await;
        fleet
    }

    async fn has_quorum(&self, index: usize, tag: &str) {
        let receipt = self.purge(index, tag, Wait::Quorum, SOON).await.unwrap();
        assert!(receipt.state >= Acknowledged::Quorum, "{tag} through {index}: {receipt:?}");
    }

    /// A purge that finds no quorum for now.
    async fn has_none(&self, index: usize, tag: &str) -> rules::purge::PurgeId {
        let receipt = self.purge(index, tag, Wait::Quorum, BRIEF).await.unwrap();
        assert_eq!(receipt.state, Acknowledged::Accepted, "{tag} through {index}: {receipt:?}");
        receipt.id
    }

    fn complete(&self, index: usize) -> bool {
        self.realm(index).standing().change.is_some_and(|change| change.complete)
    }

    async fn all_complete(&self) {
        until("all know that the new ones have taken over", || (0..5).all(|i| self.complete(i))).await;
    }

    fn refused(&self, index: usize, cause: &str) -> u64 {
        self.realm(index).figures().refusals().find(|(name, _)| *name == cause).unwrap().1
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn witnesses_are_replaced_while_purges_go_on() {
    let mut fleet = Fleet::five().await;
    let fills =
        |tag: &'static str| move |fleet: &Fleet, i: usize| stored(fleet.realm(i), tag, fleet.realm(i).position());
    let keep: Vec<_> = (0..5).map(|i| fills("kept")(&fleet, i)).collect();
    let stale = ["before", "mixed", "waits", "sealed", "joint", "new", "after"];
    let gone: Vec<Vec<_>> = stale.iter().map(|tag| (0..5).map(|i| fills(tag)(&fleet, i)).collect()).collect();
    fleet.has_quorum(3, "before").await;

    // the new ones first, then one of the old ones: there are nodes of both kinds
    for index in [3, 4, 0] {
        fleet.again(index, &both()).await;
    }
    fleet.has_quorum(1, "mixed").await;
    // for who knows of the change, the new ones count too, and they do not vote: the old ones are not sealed
    let waits = fleet.has_none(0, "waits").await;
    assert!(!fleet.complete(0));

    // a majority of the old ones is sealed: whoever does not know of the change gets nothing acknowledged any more
    fleet.again(1, &both()).await;
    fleet.has_quorum(1, "joint").await;
    until("what waited has its quorum", || fleet.realm(0).receipt(&waits).unwrap().state >= Acknowledged::Quorum).await;
    let sealed = fleet.has_none(2, "sealed").await;
    until("it was told why", || fleet.refused(2, "sealed") > 0).await;
    until("it is sure of nothing", || !fleet.realm(2).vouch(Some(2_000)).holds()).await;
    until("what it took is in effect all the same", || {
        standing(fleet.realm(4), &gone[3][4]) == Standing::Stale
            && standing(fleet.realm(0), &gone[3][0]) == Standing::Stale
    })
    .await;
    assert!(fleet.realm(1).receipt(&sealed).is_none());

    fleet.again(2, &both()).await;
    fleet.caught_up().await;
    fleet.all_complete().await;
    fleet.has_quorum(2, "sealed").await;

    // the second step, in whatever order
    for index in [0, 3, 1] {
        fleet.again(index, &new()).await;
        fleet.has_quorum(index, "new").await;
    }
    for index in [4, 2] {
        fleet.again(index, &new()).await;
    }
    fleet.caught_up().await;
    assert_eq!(fleet.purge(0, "after", Wait::All, SOON).await.unwrap().state, Acknowledged::All);
    let receipt = fleet.purge(1, "after-all", Wait::All, SOON).await.unwrap();
    let mut kept_by: Vec<_> = receipt.stored.iter().map(|(witness, _)| witness.to_string()).collect();
    kept_by.sort();
    assert!(kept_by.iter().all(|name| ["c", "d", "e"].contains(&name.as_str())), "{kept_by:?}");
    for (tag, gone) in stale.iter().zip(&gone) {
        for (i, object) in gone.iter().enumerate() {
            until(&format!("{tag} is purged at {i}"), || standing(fleet.realm(i), object) == Standing::Stale).await;
        }
    }
    for (i, object) in keep.iter().enumerate() {
        assert_eq!(standing(fleet.realm(i), object), Standing::Valid, "what was not purged is served on by {i}");
    }
    // the old ones are not needed any more
    for index in [0, 1] {
        fleet.kill(index).await;
    }
    fleet.has_quorum(4, "without-the-old-ones").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_is_replaced_without_a_moment_in_which_purges_wait() {
    let mut fleet = Fleet::five().await;
    // the one that is to be replaced is dead
    fleet.kill(0).await;
    for index in [3, 1, 2, 4] {
        fleet.again(index, &set(2, "abc", "bcd")).await;
        until("it has caught up", || fleet.realm(index).caught_up()).await;
        fleet.has_quorum(index, "t").await;
    }
    until("they have taken over", || (1..5).all(|i| fleet.complete(i))).await;
    for index in [4, 3, 2, 1] {
        fleet.again(index, &set(3, "bcd", "")).await;
        until("it has caught up", || fleet.realm(index).caught_up()).await;
        fleet.has_quorum(index, "u").await;
    }
    // the old one comes back, as it was
    fleet.start_with(0, Some(old())).unwrap();
    fleet.has_none(0, "v").await;
    assert!(!fleet.realm(0).caught_up());
    fleet.again(0, &set(2, "abc", "bcd")).await;
    fleet.has_none(0, "w").await;
    assert!(!fleet.complete(0), "it has not heard what was acknowledged meanwhile");
}

fn fault(fleet: &mut Fleet, index: usize, set: WitnessSet) -> String {
    fleet.start_with(index, Some(set)).unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_start_with_other_witnesses_without_the_steps_between() {
    let mut fleet = Fleet::five().await;
    fleet.kill(4).await;
    let told = fault(&mut fleet, 4, set(2, "abd", ""));
    assert_eq!(
        told,
        "fleet.toml:3: witnesses of realm `global`: the config has version 2: `a`, `b`, `d`; this node was last started with \
         version 1: `a`, `b`, `c`; to keep those, write `[[witnesses]]` with realm = \"global\", version = 1, nodes = \
         [\"a\", \"b\", \"c\"]; to change them, write `[[witnesses]]` with realm = \"global\", version = 2, nodes = \
         [\"a\", \"b\", \"c\"], next = [\"a\", \"b\", \"d\"] on all nodes, and when `meridian status` says on all of them \
         that the new ones have taken over, version = 3 with nodes = [\"a\", \"b\", \"d\"] and without `next`. If the state of \
         this node shall be given up instead, remove `global.ledger` from the folder `ledger` of its state folder: then all \
         that it has stored counts as purged"
    );
    assert!(fault(&mut fleet, 4, set(1, "abd", "")).contains("to keep those, write"));
    fleet.start_with(4, Some(both())).unwrap();
    fleet.kill(4).await;
    assert!(fault(&mut fleet, 4, old()).contains("go on with that, or with a higher version"));
    assert!(fault(&mut fleet, 4, new()).contains("is not complete as far as this node knows"));
    assert!(fault(&mut fleet, 4, set(3, "abd", "")).contains("bring that change to its end first"));
    assert!(fault(&mut fleet, 4, set(4, "cde", "")).contains("steps between are missing"));
    // it can be taken back
    fleet.start_with(4, Some(set(3, "abc", ""))).unwrap();
    fleet.kill(4).await;
    assert!(fleet.start_with(4, None).unwrap_err().to_string().contains("the config names none"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_added_does_not_change_the_witnesses_silently() {
    let disk = FaultyDisk::new();
    let here = JurisdictionId::parse("eu").unwrap();
    let table = [("a", "eu"), ("b", "eu"), ("c", "eu")];
    let tasks = Tasks::new();
    drop(Ledgers::open_on(&config("a", &table[..2]), &here, &disk, None, &tasks).unwrap());
    assert!(tasks.stop(SOON).await);
    disk.crash(3);
    let tasks = Tasks::new();
    let told = Ledgers::open_on(&config("a", &table), &here, &disk, None, &tasks).unwrap_err().to_string();
    for part in [
        "witnesses of realm `global`: the config names none, so they would be `a`, `b`, `c`",
        "was last started with version 0: `a`, `b`",
        "to keep those, write `[[witnesses]]` with realm = \"global\", version = 1, nodes = [\"a\", \"b\"];",
        "version = 1, nodes = [\"a\", \"b\"], next = [\"a\", \"b\", \"c\"]",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_different_witnesses_under_one_version_do_not_serve_each_other() {
    let mut fleet = Fleet::new(&FIVE);
    fleet.start_with(0, Some(old())).unwrap();
    fleet.start_with(1, Some(set(1, "abd", ""))).unwrap();
    fleet.start_with(3, Some(set(1, "abd", ""))).unwrap();
    until("they were told why", || fleet.refused(0, "differs") > 0 && fleet.refused(1, "differs") > 0).await;
    fleet.has_none(0, "t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_no_witnesses_come_and_go_one_restart_at_a_time() {
    let mut fleet = Fleet::new(&FIVE[..3]);
    (0..3).for_each(|index| fleet.start_with(index, Some(old())).unwrap());
    fleet.caught_up().await;
    fleet.table.push(FIVE[3]);
    fleet.disks.push(FaultyDisk::new());
    fleet.nodes.push(None);
    fleet.start_with(3, Some(old())).unwrap();
    fleet.caught_up().await;
    // one that does not know of it yet neither sends to it nor waits for it; it reads the witnesses
    let object = stored(fleet.realm(3), "t", fleet.realm(3).position());
    let receipt = fleet.purge(1, "t", Wait::All, SOON).await.unwrap();
    assert_eq!(node_states(&receipt), ["applied"; 3]);
    until("it has heard of it", || standing(fleet.realm(3), &object) == Standing::Stale).await;
    fleet.has_quorum(3, "u").await;
    fleet.again(0, &old()).await;
    fleet.caught_up().await;
    assert_eq!(node_states(&fleet.purge(0, "v", Wait::All, SOON).await.unwrap()), ["applied"; 4]);
    // and it leaves
    fleet.kill(3).await;
    fleet.table.pop();
    fleet.nodes.pop();
    fleet.again(0, &old()).await;
    assert_eq!(node_states(&fleet.purge(0, "w", Wait::All, SOON).await.unwrap()), ["applied"; 3]);
}
