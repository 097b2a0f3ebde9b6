//! The mesh of nodes: who they are (certificates of the cluster's own CA), how they talk (QUIC with mutual TLS), what
//! they tell each other about health (gossip), and whether they answer (probes).
//!
//! A peer's identity is what its certificate says, and nothing else: not what it gossips, not what its config claims.
//!
//! A fleet of one has no mesh; everything above takes an `Option<Arc<Mesh>>`.

pub mod ca;
mod error;
mod forced;
mod frame;
mod gossip;
mod health;
mod identity;
mod link;
mod mesh;
mod probe;
mod reload;
mod report;
mod seal;
mod sieve;
#[cfg(feature = "simulation")]
mod simulated;
mod trust;

pub use error::{IdentityFault, PeerError};
pub use forced::OrderFault;
pub use frame::{Kind, read_frame, write_frame};
pub use health::Health;
pub use identity::{LoadedIdentity, PeerIdentity};
pub use mesh::{Answer, CALL_BYTES_MAX, Mesh, Stream};
pub(crate) use reload::ENDING_S;
#[cfg(test)]
pub(crate) use seal::sealer_of;
pub use seal::{SKEW_MS, SealFault, Sealed, SealedBy, Sealer, ended};

#[cfg(test)]
mod tests;
