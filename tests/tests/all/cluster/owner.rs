//! Within a region an object is fetched once.

use crate::harness::{
    client::fetch,
    fleet::{FREE, Fleet, PINNED},
    stamped,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_object_asked_at_both_nodes_of_a_region_costs_one_origin_request() {
    let fleet = Fleet::start(2).await;
    for (host, region) in [(FREE, "us-west"), (PINNED, "eu-central")] {
        let nodes: Vec<_> = fleet.region(region).map(|node| node.http).collect();
        for length in [1_000, 400_000] {
            for number in 0..10 {
                let target = format!("/o/{length}/{region}-{number}");
                let (one, two) = tokio::join!(fetch(nodes[0], host, &target), fetch(nodes[1], host, &target));
                for reply in [one, two] {
                    assert_eq!(reply.status, 200, "{target}: {}", reply.seen());
                    assert!(reply.broken.is_none(), "{target}: {}", reply.seen());
                    assert_eq!(stamped::check(&reply.body).unwrap().target, target);
                }
                assert_eq!(fleet.origin.count(&target), 1, "{target}: requests at the origin");
            }
        }
    }
}
