//! Measurements. `benches/hot.rs`: the functions that a hit goes through. `benches/eviction.rs`: which algorithm keeps
//! the right things in memory. `compare.sh`: the whole node beside nginx.
