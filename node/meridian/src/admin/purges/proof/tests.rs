#![allow(clippy::unwrap_used, reason = "tests")]
use std::path::PathBuf;

use region_config::{JurisdictionId, NodeId, RegionId};
use tempfile::TempDir;

use super::*;
use crate::{
    admin::model::{PurgeMode, PurgeNode, PurgeNodeState, PurgeScope, PurgeState, PurgeStored},
    clock,
    peers::ca,
};

/// A cluster with a CA, and identities of its nodes.
struct Cluster {
    dir: TempDir,
}

impl Cluster {
    fn new(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        ca::init(&dir.path().join("ca"), name).unwrap();
        Self { dir }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca/ca.pem")
    }

    fn sealer(&self, node: &str, jurisdiction: &str) -> Sealer {
        let (out, dir) = (self.dir.path().join(node), self.dir.path().join("ca"));
        let (node, region) = (NodeId::parse(node).unwrap(), RegionId::parse("here").unwrap());
        let jurisdiction = JurisdictionId::parse(jurisdiction).unwrap();
        let issued = ca::issue(&dir, &node, &region, &jurisdiction, &out).unwrap();
        crate::peers::sealer_of(&issued.certificate, &issued.key).unwrap()
    }
}

fn purge(realm: &str) -> Purge {
    let node = |name: &str, state, position: Option<&str>| PurgeNode {
        node: name.into(),
        region: "here".into(),
        state,
        after_ms: Some(3),
        position: position.map(str::to_owned),
    };
    Purge {
        id: "00000000000000000000000000000001".into(),
        site: Some("shop".into()),
        realm: realm.into(),
        taken_by: "n1".into(),
        scope: vec![PurgeScope::Tag { tag: "p-\u{fc}\"1".into() }, PurgeScope::Everything],
        mode: PurgeMode::Soft,
        taken_unix_ms: clock::unix_ms() - 1_000,
        state: PurgeState::Quorum,
        stored: vec![PurgeStored { node: "n1".into(), after_ms: 2 }],
        nodes: vec![node("n1", PurgeNodeState::Applied, Some("7.12")), node("n2", PurgeNodeState::Fenced, None)],
        token: None,
    }
}

fn signed(cluster: &Cluster) -> String {
    let signed = sign(purge("eu"), &cluster.sealer("n1", "eu"), clock::unix_ms()).unwrap();
    serde_json::to_string(&signed).unwrap()
}

fn check(document: &str, ca: &Cluster) -> Result<SealedBy, ProofFault> {
    verify(document, &ca.ca(), clock::unix_ms()).map(|(_, by)| by)
}

#[test]
fn a_receipt_is_good_as_it_was_signed_and_also_when_it_was_printed_for_people() {
    let cluster = Cluster::new("acme");
    let text = signed(&cluster);
    let by = check(&text, &cluster).unwrap();
    assert_eq!((by.cluster.as_str(), by.peer.to_string().as_str()), ("acme", "eu/here/n1"));
    let value: Value = serde_json::from_str(&text).unwrap();
    check(&format!("{value:#}\n"), &cluster).unwrap();
}

#[test]
fn no_byte_can_be_changed() {
    let cluster = Cluster::new("acme");
    let text = signed(&cluster);
    for at in 0..text.len() {
        for flip in [1_u8, 0x20] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= flip;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(check(&changed, &cluster).is_err(), "byte {at} of {changed}");
        }
    }
}

#[test]
fn no_field_can_be_changed_taken_away_or_added() {
    let cluster = Cluster::new("acme");
    let value: Value = serde_json::from_str(&signed(&cluster)).unwrap();
    let mut paths = Vec::new();
    leaves(&value, String::new(), &mut paths);
    assert!(paths.len() > 25, "{paths:?}");
    for path in &paths {
        for other in
            [Value::from("x"), Value::from(1), Value::Null, Value::from("applied"), Value::from(Vec::<u8>::new())]
        {
            let mut changed = value.clone();
            let field = changed.pointer_mut(path).unwrap();
            if *field == other {
                continue;
            }
            *field = other;
            assert!(check(&changed.to_string(), &cluster).is_err(), "{path}");
        }
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut changed = value.clone();
        match changed.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.remove(name)),
            Value::Array(list) => drop(list.remove(name.parse().unwrap())),
            other => panic!("{other}"),
        }
        assert!(check(&changed.to_string(), &cluster).is_err(), "without {path}");
    }
    for parent in ["", "/purge", "/purge/scope/0", "/purge/scope/1", "/purge/nodes/0", "/purge/stored/0", "/signature"]
    {
        let mut changed = value.clone();
        changed.pointer_mut(parent).unwrap()["note"] = "also applied on n9".into();
        assert!(check(&changed.to_string(), &cluster).is_err(), "more in {parent}");
    }
    let twice = value.to_string().replacen("\"state\":\"quorum\"", "\"state\":\"all\",\"state\":\"quorum\"", 1);
    assert!(check(&twice, &cluster).is_err());
}

fn leaves(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(value, format!("{path}/{name}"), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, value)| leaves(value, format!("{path}/{at}"), found));
        }
        _ => found.push(path),
    }
}

#[test]
fn who_may_not_sign_signs_nothing() {
    let (ours, other, namesake) = (Cluster::new("acme"), Cluster::new("other"), Cluster::new("acme"));
    let now = clock::unix_ms();
    let said = |fault: Result<SealedBy, ProofFault>| fault.unwrap_err().to_string();
    assert!(said(check(&signed(&other), &ours)).contains("certificate"));
    assert!(said(check(&signed(&namesake), &ours)).contains("certificate"), "another CA of the same name");
    let by = |purge: Purge, sealer: Sealer, at| serde_json::to_string(&sign(purge, &sealer, at).unwrap()).unwrap();
    let outside = by(purge("eu"), ours.sealer("n1", "us"), now);
    assert!(said(check(&outside, &ours)).contains("no node of the realm"));
    check(&by(purge("global"), ours.sealer("n3", "us"), now), &ours).unwrap_err();
    let second = by(Purge { taken_by: "n4".into(), ..purge("global") }, ours.sealer("n4", "us"), now);
    check(&second, &ours).unwrap();
    let future = by(purge("eu"), ours.sealer("n5", "eu"), now + 3_600_000);
    assert!(said(check(&future, &ours)).contains("future"));
    let before = by(purge("eu"), ours.sealer("n6", "eu"), now - 40 * 86_400_000);
    assert!(said(check(&before, &ours)).contains("certificate"), "before the certificate was made");
}

#[test]
fn what_is_no_receipt_is_refused_with_words() {
    let cluster = Cluster::new("acme");
    for text in ["", "{}", "[]", "null", "{\"format\":1}", &"[".repeat(100_000), &"{\"a\":".repeat(10_000)] {
        assert!(matches!(check(text, &cluster), Err(ProofFault::Malformed(_))));
    }
    let missing = verify(&signed(&cluster), Path::new("/nowhere/ca.pem"), clock::unix_ms()).unwrap_err();
    assert!(is_about_ca(&missing).is_some());
}
