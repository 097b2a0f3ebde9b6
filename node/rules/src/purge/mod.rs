//! The purge ledger's rules: what an event is, who keeps it, in which order a node applies it, what another node's
//! answer has heard, and whether a stored object still stands. Everything here is a value or a machine that is told
//! what happened (`handle_*`) and asked what is next (`poll_*`); the realm in the node does the carrying and writing.
//!
//! ```text
//! Event ──> Witness   append-only log, durable head, epochs          (one per witness)
//!   │  └──> Receipts  who stored it, who applied it; outbox          (at the node that took it)
//!   └─────> Apply     local order, dedup, cursors, floor, ring
//!             ├─────> SiteGuard   what a hit asks: `standing(stamp)` (one per site)
//!             └─────> Lease       since when nothing acknowledged can be missing
//! ```
//!
//! Two events with one idempotency key and different bodies are *different events* with different ids: where the
//! conflict is seen at the door it is refused, and where two nodes took them at the same moment both come true. A
//! conflict found late must never lose a purge.

mod apply;
mod covered;
mod event;
pub mod fill;
mod guard;
mod handover;
mod keys;
mod lease;
mod members;
mod position;
mod quorum;
mod receipt;
mod roll;
mod saved;
mod witness;

pub use apply::{Apply, Heard, Limits, MARKS_MAX, Source, Terms, UIDS_MAX};
pub use covered::{HAVE_IDS_MAX, Have, RING_MAX};
pub use event::{
    Event, EventFault, HOST_BYTES_MAX, IDEMPOTENCY_BYTES_MAX, KEYS_MAX, Mode, PREFIX_SEGMENTS_MAX, PurgeId, PurgeKey,
    Scope, TAG_BYTES_MAX, TARGET_BYTES_MAX,
};
pub use guard::{Gate, Marks, SiteFloors, SiteGuard, Standing};
pub use handover::{Handover, Stand};
pub use keys::{RealmSecret, SiteKeys};
pub use lease::{ALWAYS, Lease, fenced_after, within};
pub use members::{WITNESSES_MAX, majority, members, witnesses};
pub use position::Position;
pub use quorum::Electorate;
pub use receipt::{Acknowledged, NodeReceipt, OUTBOX_MAX, RECEIPTS_MAX, Receipt, Receipts, Wait};
pub use roll::{Misstep, Roll, RollSum};
pub use saved::{Delta, Saved, SavedRoll, SavedWitness, WitnessState};
pub use witness::{Append, Cursor, LOG_KEEP, LogHead, Reader, Record, Tail, TailStart, WINDOW_MAX, Witness};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod simulation;
