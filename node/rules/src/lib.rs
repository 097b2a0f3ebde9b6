//! Decides, never acts. Every function here is pure: time, chance and the world come in as arguments.

pub mod caching;
pub mod health;
pub mod key;
pub mod origin;
pub mod purge;
pub mod relay;
pub mod residency;
pub mod steering;
pub mod walltime;
