//! The main job: six nodes in three regions serve, route, purge, survive, and keep pinned data where it belongs.

mod classes;
mod crash;
mod drain;
mod engines;
mod figures;
mod forced;
pub(crate) mod geo;
mod owner;
mod purging;
mod receipts;
mod relay;
mod residency;
mod starved;
mod steering;
mod stream;
mod stream_secured;
mod tokens;
mod why;
mod witnesses;

use crate::harness::fleet::{CALIFORNIAN, FREE, Fleet, GERMAN};
use std::time::Duration;

use crate::harness::until_some;

/// Waits until DNS at every node that is named leads German clients to `german` and Californian ones to `californian`.
/// Returns how long that took.
async fn led_to(fleet: &Fleet, asked: &[&str], german: &str, californian: &str, deadline: Duration) -> Duration {
    let what = format!("{FREE}: Germans to {german}, Californians to {californian}, at {asked:?}");
    let (_, after) = until_some(&what, deadline, async || {
        for name in asked {
            let server = fleet.node(name);
            for (subnet, region) in [(GERMAN, german), (CALIFORNIAN, californian)] {
                let steered = fleet.steered(server, FREE, subnet).await?;
                if steered.regions.first() != Some(&region) {
                    return Err(format!("{name}: {subnet}: {steered:?}"));
                }
            }
        }
        Ok(())
    })
    .await;
    after
}

/// The names of all nodes.
fn all(fleet: &Fleet) -> Vec<&str> {
    fleet.nodes.iter().map(|node| node.name.as_str()).collect()
}
