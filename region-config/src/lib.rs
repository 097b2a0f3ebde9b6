//! The words the whole house shares, and the operator's files turned into one checked [`Config`].
//!
//! Pure: names no sockets, clocks, randomness or async runtime. Reading files is the one thing it does to the world,
//! and only in `files`.
//!
//! The way of a file: `files` reads it, `shape` walks it by the description in `written`, `check` looks at what it
//! means together with the others, `build` makes the [`Config`], `fingerprint` sums up the fleet's part.

mod build;
mod check;
pub mod config;
mod country;
mod dns;
mod fault;
mod files;
mod fingerprint;
mod host;
pub mod ids;
mod leaf;
mod policy;
mod shape;
mod steering;
mod stream;
mod token;
mod written;

pub use config::*;
pub use country::{Continent, in_european_union};
pub use dns::{ANSWERS_PER_SECOND, Caa, DnsTerms, TEXT_BYTES_MAX, TEXTS_MAX, Texts};
pub use fault::{Fault, Faults, Severity, Style, draw};
pub use files::{AdminDoor, Checked, admin_door, check, examine, load};
pub use ids::*;
pub use steering::*;
pub use stream::{STREAM_WITNESS, Stream, StreamServer};

/// The JSON schema (draft 2020-12) of what an operator may write; made from the description that the files are read by.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = <written::Root as shape::Shape>::schema();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Meridian".into();
    schema
}
