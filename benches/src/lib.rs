//! Measurements. `benches/hot.rs`: the functions that a hit goes through. `benches/eviction.rs`: which algorithm keeps
//! the right things in memory, and what a neighbour costs. `benches/restart.rs`: a million objects after a restart.
//! `compare.sh`: the whole node beside nginx.
