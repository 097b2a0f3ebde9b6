//! The guards of the protocol, each by what goes wrong without it, and the configuration that shows it.

use crate::protocol::Setup;

/// A guard that is left out or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The stamp is the position when the content came, not when its fetch left.
    StampAtEnd,
    /// A shield's answer gets the asker's own position.
    NotTranslated,
    /// Who joined a fill of the shield is told that it began after the request.
    JoinedIsAfterArrival,
    /// The shield tells what it has heard now, of content that lost a race.
    HeardAtEnd,
    /// A late request takes whatever the fill brings.
    LateUnchecked,
    /// A new boot does not begin above all positions of the boots before.
    NoBoot,
    /// After a restart the cursors are newer than the marks.
    CursorsAhead,
    /// A lease outlives a restart.
    LeaseOverRestart,
    /// A witness does not apply its own log when it starts.
    OwnLogUnread,
    /// Copies are served without a lease.
    NoLease,
    /// A lease counts from when the answer came.
    LeaseFromAnswer,
    /// A lease is given before the logs were read up to what their witnesses said.
    LeaseBeforeReading,
    /// A lease needs nobody but the node itself.
    LeaseAlone,
    /// Hearing of any purge renews the lease.
    LeaseFromPurge,
    /// An event is acknowledged when one witness has it.
    AcknowledgedByOne,
    /// A witness says "stored" before its disk has it.
    StoredUnwritten,
    /// A witness lets others read what its disk does not have.
    TailUnwritten,
    /// A jump does not raise the floor.
    JumpWithoutFloor,
    /// A shield's answer is judged as if the asker had not jumped.
    JumpNotTranslated,
    /// A witness that lost its disk counts itself among those who know.
    RecoveryCountsItself,
    /// A witness votes again without what it recovered in its log.
    RecoveryUnwritten,
    /// A request that came without a lease may be answered from the shield's cache.
    CachedWithoutLease,
    /// The shield, told of events it has not heard, answers from its cache as if it had.
    AskersKnowledge,
    /// That a copy was softly purged is not said with it.
    SoftLost,
    /// What is found under another URL of its class is judged by its own keys only.
    OwnKeysOnly,
    /// What the shield judged for one URL is served for others of its class.
    ClassOverHop,
    /// What was stored before a boot stands at once.
    GateOpen,
}

/// Every mutation with the smallest configuration that shows it.
pub const ALL: &[(Mutation, &str)] = &[
    (Mutation::StampAtEnd, "fill-1"),
    (Mutation::NotTranslated, "fill-1"),
    (Mutation::JoinedIsAfterArrival, "fill-1"),
    (Mutation::HeardAtEnd, "fill"),
    (Mutation::LateUnchecked, "fill-1"),
    (Mutation::NoBoot, "main-ec"),
    (Mutation::CursorsAhead, "log"),
    (Mutation::LeaseOverRestart, "main-ec"),
    (Mutation::OwnLogUnread, "log"),
    (Mutation::NoLease, "log-time"),
    (Mutation::LeaseFromAnswer, "log-time"),
    (Mutation::LeaseBeforeReading, "log-time"),
    (Mutation::LeaseAlone, "log-time"),
    (Mutation::LeaseFromPurge, "log-time"),
    (Mutation::AcknowledgedByOne, "log-time"),
    (Mutation::StoredUnwritten, "log-fsync"),
    (Mutation::TailUnwritten, "log-fsync-time"),
    (Mutation::JumpWithoutFloor, "log-jump"),
    (Mutation::JumpNotTranslated, "tier-jump"),
    (Mutation::RecoveryCountsItself, "log-amnesia"),
    (Mutation::RecoveryUnwritten, "log-amnesia"),
    (Mutation::CachedWithoutLease, "time"),
    (Mutation::AskersKnowledge, "told"),
    (Mutation::SoftLost, "soft"),
    (Mutation::OwnKeysOnly, "class"),
    (Mutation::ClassOverHop, "class"),
    (Mutation::GateOpen, "gate"),
    (Mutation::CachedWithoutLease, "gate"),
];

impl Setup {
    /// Whether a guard is left out.
    pub(crate) fn without(&self, guard: Mutation) -> bool {
        self.mutation == Some(guard)
    }
}
