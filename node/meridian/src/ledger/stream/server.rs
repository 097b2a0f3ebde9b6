//! The way to the servers: those that the config names, and no others.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use futures_util::StreamExt as _;
use region_config::{NodeId, Stream};
use serde::Deserialize;
use tokio::sync::Notify;

use super::fault::StreamFault;

/// How long connecting, or an answer, may take.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// How long servers have to answer to a question to all of them.
const ROUND: Duration = Duration::from_secs(2);
/// Answers to such a question that are read, at most.
const SERVERS_MAX: usize = 1_024;
/// Size of a file with credentials, at most.
const CREDENTIALS_BYTES_MAX: usize = 64 * 1024;
/// The beginning of a file with JWT and seed.
const JWT: &str = "-----BEGIN NATS USER JWT-----";

/// A connection, and what is told when it is lost. The client would connect again by itself, but what it was reading is
/// gone by then more often than not.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) lost: Arc<Notify>,
}

/// Connects as the user that `credentials` names.
pub(super) async fn connect(
    stream: &Stream,
    credentials: Option<&Path>,
    node: &NodeId,
) -> Result<Connection, StreamFault> {
    let lost = Arc::new(Notify::new());
    let losing = Arc::clone(&lost);
    let servers = listed(stream);
    let fault = |why: &dyn std::fmt::Display| StreamFault::Connect { servers: servers.clone(), why: why.to_string() };
    let addresses = stream.servers.iter().map(|server| server.to_string().parse::<ServerAddr>());
    let addresses = addresses.collect::<Result<Vec<_>, _>>().map_err(|why| fault(&why))?;
    let mut options = ConnectOptions::new()
        .name(format!("meridian {node}"))
        // a server may know of others, in other places: nothing of the realm goes there
        .ignore_discovered_servers()
        .event_callback(move |event| {
            let losing = Arc::clone(&losing);
            async move {
                tracing::debug!(%event, "the connection to the stream's servers");
                if matches!(event, Event::Disconnected | Event::Closed) {
                    losing.notify_one();
                }
            }
        })
        .connection_timeout(ANSWER)
        .request_timeout(Some(ANSWER));
    if let Some(path) = credentials {
        options = who(options, path).await?;
    }
    if let Some(ca) = &stream.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some(identity) = &stream.identity {
        options = options.add_client_certificate(identity.certificate.clone(), identity.key.clone());
    }
    let connected = tokio::time::timeout(ANSWER * 2, options.connect(addresses)).await;
    match connected {
        Ok(Ok(client)) => Ok(Connection { client, lost }),
        Ok(Err(why)) => Err(fault(&with_causes(&why))),
        Err(_) => Err(fault(&"no answer in time")),
    }
}

/// An error with what caused it: the client's own words often say only what it tried.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            let _infallible = write!(text, ": {next_text}");
        }
        cause = next.source();
    }
    text
}

fn listed(stream: &Stream) -> String {
    stream.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Who we are, from the file; what is in it is never shown.
async fn who(options: ConnectOptions, path: &Path) -> Result<ConnectOptions, StreamFault> {
    let shown = path.display();
    let fault = |why: String| StreamFault::Credentials(format!("the credentials in {shown} {why}"));
    let text = tokio::fs::read_to_string(path).await.map_err(|why| fault(format!("cannot be read: {why}")))?;
    match credentials(&text).map_err(fault)? {
        Credentials::Jwt(text) => options
            .credentials(text)
            .map_err(|_| StreamFault::Credentials(format!("{shown} holds no JWT with its seed"))),
        Credentials::Password(user, password) => Ok(options.user_and_password(user.to_owned(), password.to_owned())),
    }
}

/// What a file with credentials holds.
enum Credentials<'a> {
    Jwt(&'a str),
    Password(&'a str, &'a str),
}

fn credentials(text: &str) -> Result<Credentials<'_>, String> {
    if text.len() > CREDENTIALS_BYTES_MAX {
        return Err(format!("have more than {CREDENTIALS_BYTES_MAX} bytes"));
    }
    if text.contains(JWT) {
        return Ok(Credentials::Jwt(text));
    }
    let line = text.lines().next().unwrap_or("").trim();
    match line.split_once(':') {
        Some((user, password)) if !user.is_empty() && !password.is_empty() => Ok(Credentials::Password(user, password)),
        _ => Err("are neither JWT and seed (`.creds`) nor a line `user:password`".to_owned()),
    }
}

/// What is wrong with a file of credentials, if anything; for `meridian check`.
pub(crate) fn credentials_fault(text: &str) -> Option<String> {
    match credentials(text) {
        Ok(Credentials::Jwt(text)) => {
            ConnectOptions::with_credentials(text).err().map(|_| "hold no JWT with its seed".to_owned())
        }
        Ok(Credentials::Password(..)) => None,
        Err(why) => Some(why),
    }
}

/// A server's answer about itself: the parts that say how it syncs.
#[derive(Debug, Deserialize)]
struct About {
    server: Server,
    #[serde(default)]
    data: Option<Varz>,
}

#[derive(Debug, Deserialize)]
struct Server {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Varz {
    #[serde(default)]
    jetstream: JetStream,
}

#[derive(Debug, Default, Deserialize)]
struct JetStream {
    #[serde(default)]
    config: Option<JetStreamConfig>,
}

#[derive(Debug, Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
}

/// Asks every server, with the system account's rights, whether it syncs before it acknowledges; without such rights
/// the operator's word counts.
pub(super) async fn see_that_it_syncs(stream: &Stream, node: &NodeId) -> Result<(), StreamFault> {
    let Some(credentials) = &stream.system_credentials else { return Ok(()) };
    let Connection { client, .. } = connect(stream, Some(credentials), node).await?;
    let fault = StreamFault::asked("asking the servers how they sync");
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|why| fault(&why))?;
    let asked = client.publish_with_reply("$SYS.REQ.SERVER.PING.VARZ", inbox, bytes::Bytes::new()).await;
    asked.map_err(|why| fault(&why))?;
    let mut about = Vec::new();
    let _round = tokio::time::timeout(ROUND, async {
        while let Some(answer) = answers.next().await {
            about.extend(serde_json::from_slice::<About>(&answer.payload).ok());
            if about.len() >= SERVERS_MAX {
                return;
            }
        }
    })
    .await;
    judge(about).map_err(StreamFault::Terms)
}

fn judge(about: Vec<About>) -> Result<(), String> {
    let jetstream = about.into_iter().filter_map(|about| Some((about.server.name, about.data?.jetstream.config?)));
    let jetstream: Vec<_> = jetstream.collect();
    if jetstream.is_empty() {
        return Err(
            "no server says how it syncs, though `system_credentials` are there: expected those of the system \
                    account"
                .to_owned(),
        );
    }
    let lazy: Vec<_> =
        jetstream.iter().filter(|(_, config)| !config.sync_always).map(|(name, _)| name.as_str()).collect();
    if lazy.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these servers acknowledge before they sync: {}; expected `sync_interval: always` in their `jetstream` block",
        lazy.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn answers(texts: &[&str]) -> Vec<About> {
        texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    #[test]
    fn one_server_that_does_not_sync_is_enough_to_refuse() {
        let good = r#"{"server":{"name":"n1"},"data":{"jetstream":{"config":{"sync_always":true}}}}"#;
        let lazy = r#"{"server":{"name":"n2"},"data":{"jetstream":{"config":{"sync_interval":120000000000}}}}"#;
        let none = r#"{"server":{"name":"n3"},"data":{"jetstream":{}}}"#;
        assert_eq!(judge(answers(&[good, none])), Ok(()));
        assert!(judge(answers(&[good, lazy])).unwrap_err().contains("n2;"));
        assert!(judge(answers(&[none])).unwrap_err().contains("no server says"));
    }

    #[test]
    fn credentials_are_a_line_or_a_jwt_and_are_never_told() {
        assert_eq!(credentials_fault("purger:s3cret\nmore"), None);
        for bad in ["", "secret", ":", "user:", "-----BEGIN NATS USER JWT-----\nsecret\n"] {
            let why = credentials_fault(bad).unwrap();
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
