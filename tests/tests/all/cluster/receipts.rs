//! Receipts of purges: any node of the realm tells them, the node that took the purge signs them, and who has the CA's certificate
//! can check them offline.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::harness::fleet::{FREE_SITE, Fleet, Member, PINNED_SITE};

const FORGED: i32 = 7;

async fn taken(node: &Member, order: Value) -> String {
    let (status, receipt) = node.purge(&order).await.unwrap();
    assert_eq!(status, 200, "{order}: {receipt}");
    receipt["id"].as_str().unwrap().to_owned()
}

fn verified(fleet: &Fleet, receipt: &Path, ca: &Path) -> (Option<i32>, String) {
    let ended = fleet.run(&["verify", receipt.to_str().unwrap(), "--ca", ca.to_str().unwrap()]);
    (ended.code, ended.output)
}

#[tokio::test]
async fn a_receipt_is_told_anywhere_in_its_realm_and_holds_offline_until_it_is_changed() {
    let fleet = Fleet::start(2).await;
    let (sydney, frankfurt, oregon) =
        (fleet.node("ap-southeast-1"), fleet.node("eu-central-1"), fleet.node("us-west-1"));
    let free = taken(sydney, json!({ "site": FREE_SITE, "tags": ["a", "b"], "wait": "all" })).await;
    let pinned = taken(frankfurt, json!({ "site": PINNED_SITE, "everything": true, "wait": "all" })).await;

    // any node of the realm; and outside, there is no such purge
    let told = oregon.admin(&format!("/api/v1/purges/{free}")).await;
    let value: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!((told.status.as_u16(), &value["taken_by"]), (200, &json!("ap-southeast-1")), "{}", told.seen());
    assert_eq!(value["nodes"].as_array().unwrap().len(), 6);
    assert!(value["nodes"].as_array().unwrap().iter().all(|node| node["position"].is_string()), "{value}");
    assert_eq!(fleet.node("eu-central-2").admin(&format!("/api/v1/purges/{pinned}")).await.status, 200);
    for outside in [oregon, sydney] {
        for path in [format!("/api/v1/purges/{pinned}"), format!("/api/v1/purges/{pinned}/receipt")] {
            assert_eq!(outside.admin(&path).await.status, 404, "{} {path}", outside.name);
        }
        let audit = outside.admin("/api/v1/audit/purges").await;
        assert!(!audit.text().contains(PINNED_SITE), "{}", audit.seen());
        assert!(!outside.dir.join("state/audit/eu.audit").exists());
    }
    assert!(frankfurt.dir.join("state/audit/eu.audit").exists());

    // signed by the node that took it, also when another one is asked
    let signed = oregon.admin(&format!("/api/v1/purges/{free}/receipt")).await;
    assert_eq!(signed.status, 200, "{}", signed.seen());
    let dir = tempfile::tempdir().unwrap();
    let (receipt, ca) = (dir.path().join("receipt.json"), fleet.ca_dir().join("ca.pem"));
    fs::write(&receipt, &signed.body).unwrap();
    let (code, said) = verified(&fleet, &receipt, &ca);
    eprintln!("{said}");
    assert_eq!(code, Some(0), "{said}");
    for word in ["HOLDS", "ap-southeast-1", "certified for sg", &free, "in effect at", "at position"] {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }

    // changed in any way, or by another CA: it does not
    let value: Value = serde_json::from_slice(&signed.body).unwrap();
    for (path, other) in [
        ("/purge/state", json!("accepted")),
        ("/purge/nodes/0/state", json!("pending")),
        ("/purge/scope/0/tag", json!("c")),
        ("/purge/site", json!("other")),
        ("/purge/realm", json!("eu")),
        ("/purge/taken_by", json!("us-west-1")),
        ("/signed_unix_ms", json!(1)),
        ("/signer", json!("eu/eu-central/eu-central-1")),
        ("/signature/algorithm", json!("ed25519")),
    ] {
        let mut changed = value.clone();
        *changed.pointer_mut(path).unwrap() = other;
        fs::write(&receipt, changed.to_string()).unwrap();
        let (code, said) = verified(&fleet, &receipt, &ca);
        assert_eq!(code, Some(FORGED), "{path}: {said}");
        assert!(said.contains("DOES NOT HOLD"), "{path}: {said}");
    }
    fs::write(&receipt, &signed.body).unwrap();
    let other = dir.path().join("other");
    assert_eq!(fleet.run(&["ca", "init", "--dir", other.to_str().unwrap(), "--cluster", "test"]).code, Some(0));
    assert_eq!(verified(&fleet, &receipt, &other.join("ca.pem")).0, Some(FORGED));
    assert_eq!(verified(&fleet, &receipt, Path::new("/nowhere.pem")).0, Some(1));
    assert_eq!(verified(&fleet, &dir.path().join("none.json"), &ca).0, Some(1));
}
