//! A stream's servers as they are reached over a network: TLS both ways, and credentials of an account (`.creds`).

use serde_json::json;

use crate::harness::{
    client::{self, PATIENCE},
    fleet::{FREE_SITE, Fleet, Member, fleet_more},
    nats::{Nats, Sync},
    nats_secured::{CA, CLIENT, CREDENTIALS, FOREIGN_CA, FOREIGN_CREDENTIALS, SYSTEM_CREDENTIALS},
    until_some,
};

/// A stream at a server, with a CA, with `more` of how it is reached.
fn stream(nats: &Nats, ca: &str, more: &str) -> String {
    let server = nats.servers[0].address;
    format!(
        "[[streams]]\nrealm = \"global\"\nservers = [\"tls://{server}\"]\nreplicas = 1\nsync_always = true\nca = \"{ca}\"\n{more}\n"
    )
}

fn certified(credentials: &str) -> String {
    format!(
        "credentials = \"{credentials}\"\nsystem_credentials = \"{SYSTEM_CREDENTIALS}\"\n\
         identity = {{ certificate = \"{CLIENT}.crt\", key = \"{CLIENT}.key\" }}"
    )
}

/// Starts a node that is not let in, waits until it says so with these words and is not ready, and kills it.
async fn refused(node: &mut Member, words: &str) {
    let before = node.log().len();
    node.start();
    until_some(&format!("{} is refused: {words}", node.name), PATIENCE, async || {
        let log = node.log().split_off(before);
        let told = log.lines().any(|line| line.contains("connecting to tls://127.0.0.1:") && line.contains(words));
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    let ready = client::try_send(node.admin, client::empty(client::get(&node.admin.to_string(), "/readyz"))).await;
    assert_eq!(ready.map(|reply| reply.status.as_u16()), Ok(503));
    node.kill();
}

#[tokio::test]
async fn a_stream_is_reached_with_tls_both_ways_and_creds_and_not_without() {
    let mut fleet = Fleet::prepare(1, "");
    let shared = fleet.dir().join("fleet");
    let mut nats = Nats::secured(fleet.dir(), &shared);
    nats.servers[0].start();

    // each alone is not let in, and says why
    let without = format!("credentials = \"{CREDENTIALS}\"");
    for (ca, more, words) in [
        (FOREIGN_CA, certified(CREDENTIALS), "certificate"),
        (CA, without, "ertificate"),
        (CA, certified(FOREIGN_CREDENTIALS), "authorization violation"),
    ] {
        fleet_more(fleet.dir(), &stream(&nats, ca, &more));
        refused(&mut fleet.nodes[0], words).await;
    }

    fleet_more(fleet.dir(), &stream(&nats, CA, &certified(CREDENTIALS)));
    fleet.nodes.iter_mut().for_each(Member::start);
    fleet.all_ready().await;
    for node in &fleet.nodes {
        let order = json!({ "site": FREE_SITE, "tags": ["a"], "wait": "all", "timeout_ms": 20_000 });
        let (status, receipt) = node.purge(&order).await.unwrap();
        assert_eq!((status, &receipt["state"]), (200, &json!("all")), "{receipt}");
        assert_eq!(receipt["stored"][0]["node"], "stream", "{receipt}");
    }
}

#[tokio::test]
async fn tls_is_not_given_up_for_a_server_that_has_none() {
    let mut fleet = Fleet::prepare(1, "");
    let nats = Nats::start(fleet.dir(), 1, Sync::Always).await;
    // it would let this user in
    std::fs::write(fleet.dir().join("fleet/nats.user"), crate::harness::nats::USER).unwrap();
    std::fs::write(fleet.dir().join("fleet").join(CA), crate::harness::certificates::SiteCa::new().pem).unwrap();
    fleet_more(fleet.dir(), &stream(&nats, CA, "credentials = \"nats.user\""));
    refused(&mut fleet.nodes[0], "tls").await;
    let context = nats.context().await.unwrap();
    assert!(context.get_stream("meridian-global").await.is_err(), "the node has made its stream in clear text");
}
