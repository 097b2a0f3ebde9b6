//! Bytes to values and back: versioned, bounded, and never trusting what comes in.

pub mod dns;
pub mod entry;
pub mod fetch;
pub mod message;
pub mod purge;
pub mod relay;
