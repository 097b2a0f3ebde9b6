//! Asks a node's admin API.

use std::{error::Error, path::Path, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use region_config::AdminDoor;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{
    Node,
    exit::Exit,
    output::{Output, with_causes},
};

/// Where a node's admin API listens if nothing else is said.
const ADMIN: &str = "http://127.0.0.1:9180";
/// Time for everything but a purge's own waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Name of the token's file in a node's state folder.
const TOKEN_FILE: &str = "admin.token";

/// A node that can be asked.
#[derive(Debug)]
pub(super) struct Client {
    admin: Uri,
    token: String,
}

/// An answer that is no refusal.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) value: Value,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct ClientFault {
    exit: Exit,
    message: String,
    /// What the node said, for programs.
    problem: Value,
}

impl ClientFault {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), problem: Value::Null }
    }

    /// The command line makes no sense.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Whether there was no answer at all.
    pub(super) fn is_unreachable(&self) -> bool {
        self.exit == Exit::Unreachable
    }

    /// Says it to the operator.
    pub(super) fn tell(&self, output: Output) -> Exit {
        output.complain(self.exit, &self.message, &self.problem)
    }
}

impl Answer {
    /// The answer as what it should be.
    pub(super) fn read<T: DeserializeOwned>(&self, client: &Client) -> Result<T, ClientFault> {
        T::deserialize(&self.value).map_err(|error| {
            let message = format!("{} answered something that this version does not expect: {error}", client.admin);
            ClientFault::new(Exit::Failure, message)
        })
    }
}

impl Client {
    /// Finds out which node to ask, and its token, from the command line, the environment and the node's configuration,
    /// in this order.
    pub(super) fn new(node: &Node) -> Result<Self, ClientFault> {
        let door = node.config.as_deref().map(door).transpose()?;
        let admin = node
            .admin
            .clone()
            .or_else(|| door.as_ref().map(|door| format!("http://{}", door.listen)))
            .or_else(|| environment("MERIDIAN_ADMIN"))
            .unwrap_or_else(|| ADMIN.to_owned());
        let token = match (&node.token, &node.token_file, &door) {
            (Some(token), _, _) => token.trim().to_owned(),
            (None, Some(file), _) => token_of(file)?,
            (None, None, Some(door)) => {
                // what is wrong with the folder may be why it is not found
                let faults = |fault| node.config.as_deref().and_then(faults).unwrap_or(fault);
                token_of(&door.state_dir.join(TOKEN_FILE)).map_err(faults)?
            }
            (None, None, None) => environment("MERIDIAN_TOKEN").ok_or_else(|| {
                ClientFault::new(Exit::Usage, "no token: give --config, --token-file, --token or MERIDIAN_TOKEN")
            })?,
        };
        Ok(Self { admin: admin_uri(&admin)?, token })
    }

    /// Reads something.
    pub(super) fn get(&self, path: &str) -> Result<Answer, ClientFault> {
        self.ask(Method::GET, path, None, PATIENCE)
    }

    /// Orders something; `waiting` is how long the node may take besides.
    pub(super) fn post(&self, path: &str, order: &Value, waiting: Duration) -> Result<Answer, ClientFault> {
        self.ask(Method::POST, path, Some(order), PATIENCE + waiting)
    }

    /// Ends something.
    pub(super) fn delete(&self, path: &str) -> Result<Answer, ClientFault> {
        self.ask(Method::DELETE, path, None, PATIENCE)
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        order: Option<&Value>,
        patience: Duration,
    ) -> Result<Answer, ClientFault> {
        let unreachable = |why: String| ClientFault::new(Exit::Unreachable, format!("asking {}: {why}", self.admin));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unreachable(format!("starting the client: {error}")))?;
        let request =
            self.request(method, path, order).map_err(|error| ClientFault::new(Exit::Usage, error.to_string()))?;
        let answer = runtime.block_on(async { tokio::time::timeout(patience, self.send(request)).await });
        let (status, body) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unreachable(with_causes(&*error))),
            Err(_) => return Err(unreachable(format!("no answer within {} s", patience.as_secs()))),
        };
        self.judge(status, &body)
    }

    fn request(&self, method: Method, path: &str, order: Option<&Value>) -> Result<Request<Full<Bytes>>, http::Error> {
        let host = self.admin.authority().map_or("", |authority| authority.as_str());
        let body = order.map_or_else(Bytes::new, |order| Bytes::from(order.to_string()));
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(body))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
        let host = self.admin.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.admin.port_u16().unwrap_or(80))).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async move {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok((head.status, body))
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = connection => {
                ended?;
                exchange.await
            }
        }
    }

    fn judge(&self, status: StatusCode, body: &Bytes) -> Result<Answer, ClientFault> {
        let value: Option<Value> = serde_json::from_slice(body).ok();
        let admin = &self.admin;
        match value {
            Some(value) if status.is_success() => Ok(Answer { status, value }),
            None if status.is_success() => {
                let message = format!("{admin} answered without JSON: is this a node's admin address?");
                Err(ClientFault::new(Exit::Failure, message))
            }
            problem => {
                let problem = problem.unwrap_or_default();
                let (exit, verb) =
                    if status.is_client_error() { (Exit::Refused, "refused") } else { (Exit::Failure, "failed") };
                let message = format!("{admin} {verb}: {}", said(status, &problem));
                Err(ClientFault { exit, message, problem })
            }
        }
    }
}

/// What a problem document (RFC 9457) says, in a line.
fn said(status: StatusCode, problem: &Value) -> String {
    let field = |name: &str| problem[name].as_str().filter(|text| !text.is_empty()).map(super::table::printable);
    let mut text = match field("detail").or_else(|| field("title")) {
        Some(detail) => detail,
        None => format!("status {status}, and no reason given"),
    };
    if let Some(found) = field("found") {
        text = format!("{text} (found `{found}`)");
    }
    if let Some(expected) = field("expected") {
        text = format!("{text}; expected {expected}");
    }
    let nodes: Vec<&str> = problem["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !nodes.is_empty() {
        text = format!("{text}; ask one of {}", nodes.join(", "));
    }
    text
}

/// Where the node of a folder is asked. What else is wrong with the folder is nothing to a node that runs.
fn door(dir: &Path) -> Result<AdminDoor, ClientFault> {
    let none = || ClientFault::new(Exit::Config, format!("`{}` has no [admin] listener", dir.display()));
    region_config::admin_door(dir).ok_or_else(|| faults(dir).unwrap_or_else(none))
}

/// What is wrong with the configuration in a folder.
fn faults(dir: &Path) -> Option<ClientFault> {
    let faults = region_config::load(dir).err()?;
    Some(ClientFault::new(Exit::Config, format!("`{}` is not a good configuration:\n{faults}", dir.display())))
}

fn admin_uri(text: &str) -> Result<Uri, ClientFault> {
    let fault = || {
        let expected = "expected an address such as http://127.0.0.1:9180";
        ClientFault::new(Exit::Usage, format!("`{text}` is no admin address; {expected}"))
    };
    let uri: Uri = text.parse().map_err(|_| fault())?;
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
        return Err(fault());
    }
    Ok(uri)
}

fn token_of(file: &Path) -> Result<String, ClientFault> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| ClientFault::new(Exit::Usage, format!("reading the token in {}: {error}", file.display())))?;
    Ok(text.trim().to_owned())
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use serde_json::json;

    use super::*;

    fn client(admin: &str) -> Client {
        Client { admin: admin_uri(admin).unwrap(), token: "t".to_owned() }
    }

    /// A node that answers once; gives what it was sent.
    fn answering(answer: &'static str) -> (Client, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client(&format!("http://{}", listener.local_addr().unwrap()));
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        });
        (client, thread)
    }

    #[test]
    fn the_token_is_sent_and_the_answer_read() {
        let (client, thread) = answering("HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\n{\"a\":1}");
        let answer = client.get("/api/v1/status").unwrap();
        assert_eq!((answer.status, &answer.value), (StatusCode::OK, &json!({ "a": 1 })));
        let sent = thread.join().unwrap();
        assert!(sent.starts_with("GET /api/v1/status HTTP/1.1\r\n"), "{sent}");
        assert!(sent.contains("authorization: Bearer t\r\n"), "{sent}");
    }

    #[test]
    fn a_refusal_is_told_with_what_was_found_and_expected() {
        let body = r#"{"detail":"no such site","found":"shp","expected":"one of shop","status":404}"#;
        let answer = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let (client, _thread) = answering(answer.leak());
        let fault = client.post("/api/v1/purges", &json!({}), Duration::ZERO).unwrap_err();
        let expected = format!("{} refused: no such site (found `shp`); expected one of shop", client.admin);
        assert_eq!(fault.to_string(), expected);
        assert_eq!(fault.tell(Output::new(true)), Exit::Refused);
    }

    #[test]
    fn what_is_not_there_and_what_is_no_node_are_told_apart() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let fault = client(&format!("http://{closed}")).get("/").unwrap_err();
        assert!(fault.to_string().contains("refused"), "{fault}");
        assert_eq!(fault.tell(Output::new(true)), Exit::Unreachable);

        let (client, _thread) = answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(client.get("/").unwrap_err().tell(Output::new(true)), Exit::Failure);
        let (client, _thread) = answering("SSH-2.0-x\r\n\r\n");
        assert_eq!(client.get("/").unwrap_err().tell(Output::new(true)), Exit::Unreachable);
    }

    #[test]
    fn a_fault_in_the_folder_of_a_node_keeps_nobody_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let client = |text: &str| {
            std::fs::write(dir.path().join("meridian.toml"), text).unwrap();
            Client::new(&Node { admin: None, token: None, token_file: None, config: Some(dir.path().to_owned()) })
        };
        let half = "[node]\nname = \"a\"\n[admin]\nlisten = \"127.0.0.1:9181\"\njunk";
        let fault = client(half).unwrap_err();
        assert!(fault.to_string().contains("meridian.toml:5:5: not TOML"), "{fault}");
        assert_eq!(fault.tell(Output::new(true)), Exit::Config);
        std::fs::create_dir(dir.path().join("state")).unwrap();
        std::fs::write(dir.path().join("state/admin.token"), "secret\n").unwrap();
        let found = client(half).unwrap();
        assert_eq!((found.admin.to_string().as_str(), found.token.as_str()), ("http://127.0.0.1:9181/", "secret"));
        let fault = client("[node]\nname = \"a\"\njunk").unwrap_err();
        assert!(fault.to_string().contains("meridian.toml:3:5: not TOML"), "{fault}");
    }

    #[test]
    fn an_admin_address_is_http_with_a_host() {
        for bad in ["", "127.0.0.1:9180", "https://a", "http://", "/a"] {
            assert!(admin_uri(bad).is_err(), "{bad}");
        }
        assert!(admin_uri("http://[::1]:9180").is_ok());
    }
}
