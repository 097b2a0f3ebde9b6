//! Ordering purges of a node, one at a time or many at once, also while the node comes and goes.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};

use super::client::{self, Reply};

/// Longest wait for an answer to an order: longer than any order may ask for.
const PATIENCE: Duration = Duration::from_secs(70);

/// Where one purge is ordered, and where many are.
const ONE: &str = "/api/v1/purges";
const MANY: &str = "/api/v1/purges:batch";

/// Where a node takes orders.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) name: String,
    admin: SocketAddr,
    bearer: String,
}

/// A kept HTTP/2 connection to a node's admin interface. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    door: Door,
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Door {
    pub(crate) fn new(name: &str, admin: SocketAddr, token: &str) -> Self {
        Self { name: name.to_owned(), admin, bearer: format!("Bearer {token}") }
    }

    /// Orders a purge over a connection of its own; the answer is its status and its receipt, or the problem.
    pub(crate) async fn order(&self, order: &Value) -> Result<(u16, Value), String> {
        let mut connection = client::Connection::open(self.admin).await?;
        read(&connection.patient(PATIENCE, self.request(ONE, "", order)).await?)
    }

    /// What became of a purge.
    pub(crate) async fn receipt(&self, id: &str) -> Result<(u16, Value), String> {
        let request = client::get(&self.admin.to_string(), &format!("/api/v1/purges/{id}"));
        let request = client::empty(request.header("authorization", &self.bearer));
        read(&client::try_send(self.admin, request).await?)
    }

    /// Connects for many orders.
    pub(crate) async fn open(&self) -> Result<Orders, String> {
        let stream = TcpStream::connect(self.admin).await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Orders { door: self.clone(), sender })
    }

    fn request(&self, path: &str, before_path: &str, order: &Value) -> Request<Full<Bytes>> {
        let request = Request::post(format!("{before_path}{path}"))
            .header("host", self.admin.to_string())
            .header("authorization", &self.bearer)
            .header("content-type", "application/json");
        request.body(Full::from(order.to_string())).unwrap()
    }
}

impl Orders {
    /// Orders a purge; as many at a time as the node allows, the others wait for their turn.
    pub(crate) async fn order(&self, order: &Value) -> Result<(u16, Value), String> {
        self.send(ONE, order).await
    }

    /// Orders many purges in one call. Returns the status of each, in their order.
    pub(crate) async fn batch(&self, orders: &[Value]) -> Result<Vec<u64>, String> {
        let (status, answer) = self.send(MANY, &json!({ "orders": orders })).await?;
        let answers = answer["answers"].as_array().ok_or_else(|| format!("{status}: {answer}"))?;
        Ok(answers.iter().map(|answer| answer["status"].as_u64().unwrap_or(0)).collect())
    }

    async fn send(&self, path: &str, order: &Value) -> Result<(u16, Value), String> {
        let mut sender = self.sender.clone();
        let exchange = async {
            sender.ready().await.map_err(|error| error.to_string())?;
            let request = self.door.request(path, &format!("http://{}", self.door.admin), order);
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(Reply::read(response).await)
        };
        read(&timeout(PATIENCE, exchange).await.map_err(|_| format!("no answer in {PATIENCE:?}"))??)
    }
}

fn read(reply: &Reply) -> Result<(u16, Value), String> {
    let answer = serde_json::from_slice(&reply.body).map_err(|error| format!("{error}: {}", reply.seen()))?;
    Ok((reply.status.as_u16(), answer))
}
