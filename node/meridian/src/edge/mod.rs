//! The client's side: listeners, one spine, and the bodies that leave by it.

pub mod answer;
pub mod body;
pub mod chunks;
pub mod coded;
pub mod connection;
pub mod dry;
pub mod forward;
mod framing;
mod hello;
mod http2;
pub mod interim;
pub mod keyed;
pub mod listener;
mod misrouted;
mod noted;
pub mod pass;
mod refresh;
mod relay;
mod relayed;
mod ride;
pub mod searched;
mod shelf;
pub mod sites;
pub mod spine;
pub mod stall;
pub mod tls;
pub mod tokens;
mod told;

pub use listener::{Edge, EdgeFault};
