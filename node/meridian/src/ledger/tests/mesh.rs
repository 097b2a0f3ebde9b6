//! The same over the real mesh, with certificates, and on real disks.

use std::net::{SocketAddr, UdpSocket};

use region_config::Identity;

use super::*;
use crate::peers::{LoadedIdentity, Mesh, ca};

/// Starts three nodes on loopback, in one process.
async fn fleet(folder: &std::path::Path) -> Vec<(Arc<Ledgers>, Tasks)> {
    let table = [("a", "eu"), ("b", "eu"), ("c", "us")];
    let sockets = table.map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    let addresses: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    drop(sockets);
    ca::init(&folder.join("ca"), "test").unwrap();
    let mut fleet = Vec::new();
    for (index, (name, here)) in table.into_iter().enumerate() {
        let mut config = config(name, &table);
        for (region, address) in config.regions.iter_mut().zip(&addresses) {
            region.nodes[0].peer = Some(*address);
        }
        let here = JurisdictionId::parse(here).unwrap();
        let out = folder.join(name);
        let issued = ca::issue(&folder.join("ca"), &node(name), &config.node.region, &here, &out).unwrap();
        config.node.identity = Some(Identity { ca: issued.ca, certificate: issued.certificate, key: issued.key });
        config.node.peer = Some(addresses[index]);
        config.node.state_dir = out;
        let tasks = Tasks::new();
        let identity = LoadedIdentity::load(&config, clock::unix_ms()).unwrap();
        let mesh = Mesh::bind(&config, identity, tasks.clone()).unwrap();
        let ledgers = Ledgers::open(&config, &here, Some(Arc::clone(&mesh)), tasks.clone()).await.unwrap();
        mesh.start();
        fleet.push((ledgers, tasks));
    }
    fleet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_goes_over_the_mesh_onto_the_disks() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(folder.path()).await;
    until("all have caught up", || fleet.iter().all(|(ledgers, _)| ledgers.caught_up())).await;
    let (global, eu) = (RealmId::global(), RealmId::parse("eu").unwrap());
    let realms: Vec<_> = fleet.iter().map(|(ledgers, _)| Arc::clone(ledgers.realm(&global).unwrap())).collect();
    let objects: Vec<_> = realms.iter().map(|realm| stored(realm, "t", realm.position())).collect();
    let receipt = realms[2].submit(purge("t", None), Wait::All, SOON).await.unwrap();
    assert_eq!(receipt.state, Acknowledged::All);
    for (realm, object) in realms.iter().zip(&objects) {
        assert_eq!(standing(realm, object), Standing::Stale);
    }
    let care = Purge { site: Some(SiteId::parse("care").unwrap()), ..purge("t", None) };
    let receipt = fleet[1].0.realm(&eu).unwrap().submit(care, Wait::All, SOON).await.unwrap();
    assert_eq!((receipt.state, receipt.nodes.len()), (Acknowledged::All, 2));
    let mut waiting = Vec::new();
    for number in 0..600 {
        let realm = Arc::clone(&realms[number % 3]);
        waiting.push(fleet[0].1.spawn("purge", async move {
            realm.submit(purge(&format!("t{number}"), None), Wait::All, SOON).await.unwrap().state
        }));
    }
    let began = clock::instant();
    for purge in waiting {
        assert_eq!(purge.await.unwrap(), Acknowledged::All);
    }
    // 270 ms on two shared cores, unoptimised
    assert!(began.elapsed() < SOON / 2, "600 purges took {:?}", began.elapsed());
    for (_, tasks) in &fleet {
        assert!(tasks.stop(SOON).await);
    }
}
