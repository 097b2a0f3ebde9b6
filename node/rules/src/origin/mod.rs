//! How origins are treated: which of several is asked, when one is left alone, how much it is asked at a time.
//!
//! Each machine is told what happened and asked what next; time (in ms or us by a monotonic clock) and chance come in
//! as arguments.
//!
//! ```text
//! Checked    is it healthy, by its answers to the active check
//! Breaker    is it left alone, by what became of requests to it
//! Limiter    how many requests at a time, by how long it takes to answer
//! Pace       how many requests a second, by the operator's word
//! Budget     how many requests are sent a second time
//! share      how much of the node one site may take
//! choose     which origin is asked, by all of these
//! ```

mod balance;
mod breaker;
mod budget;
mod checked;
mod limiter;
mod pace;
mod share;

pub use self::{
    balance::{Candidate, Latency, SlowStart, choose, spread},
    breaker::{Breaker, BreakerState, Ended, Passage},
    budget::Budget,
    checked::{Answered, Checked},
    limiter::Limiter,
    pace::{Pace, Turn},
    share::has_share,
};
