//! The active check: a GET on a connection of its own, again and again.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, Uri, Version};
use region_config::{HealthCheck, Origin};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    connect::{Connector, Opened},
    guard::Guard,
    outgoing::{Copy, Manner, Outgoing, empty_body},
    secret::Secret,
};
use crate::{clock, tasks::Tasks};

/// Starts to ask `origin` for its health until it is retired.
pub(super) fn start(
    origin: &Origin,
    question: &HealthCheck,
    connector: &Arc<Connector>,
    secret: &Arc<Secret>,
    guard: &Arc<Guard>,
    tasks: &Tasks,
    retired: CancellationToken,
) {
    let (connector, guard) = (Arc::clone(connector), Arc::clone(guard));
    let asking = Asking::new(origin, question, Arc::clone(secret));
    tasks.spawn_until_stopped("origin-check", async move {
        tokio::select! {
            () = retired.cancelled() => {}
            () = asking.forever(&connector, &guard) => {}
        }
    });
}

/// What is asked, and how.
struct Asking {
    target: String,
    host: Option<HeaderValue>,
    secret: Arc<Secret>,
    tls: bool,
    interval: Duration,
    timeout: Duration,
}

impl Asking {
    fn new(origin: &Origin, question: &HealthCheck, secret: Arc<Secret>) -> Self {
        let own = if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
        let host = origin.host_header.clone().unwrap_or_else(|| format!("{own}:{}", origin.port));
        Self {
            target: question.path.clone(),
            host: HeaderValue::from_str(&host).ok(),
            secret,
            tls: origin.tls,
            interval: Duration::from_millis(question.interval_ms.max(100)),
            timeout: Duration::from_millis(question.timeout_ms.max(1)),
        }
    }

    async fn forever(&self, connector: &Connector, guard: &Guard) {
        loop {
            let deadline = Instant::from_std(clock::instant()) + self.timeout;
            let answer = tokio::time::timeout_at(deadline, self.once(connector, deadline)).await;
            guard.checked(&answer.unwrap_or_else(|_| Err("health check: no answer in time".into())));
            tokio::time::sleep(self.interval).await;
        }
    }

    /// Good is 2xx or 3xx.
    async fn once(&self, connector: &Connector, deadline: Instant) -> Result<(), String> {
        let opened = connector.open(None, deadline).await.map_err(|error| format!("health check: {error}"))?;
        let secret = self.secret.field().map_err(|error| format!("health check: {error}"))?;
        let manner = |version| Manner { host: self.host.as_ref(), secret, tls: self.tls, version };
        let mut out = self.request()?;
        let fault = |error: &dyn std::error::Error| format!("health check: {}", super::error::cause(error));
        let status = match opened {
            Opened::Own(mut own) => {
                let written = out.write(manner(Version::HTTP_11), Copy::Last).map_err(|error| fault(&error))?;
                own.send.send_request(written.request).await.map_err(|error| fault(&error))?.status()
            }
            Opened::Shared(shared) => {
                let written = out.write(manner(Version::HTTP_2), Copy::Last).map_err(|error| fault(&error))?;
                let mut send = shared.send.clone();
                send.send_request(written.request).await.map_err(|error| fault(&error))?.status()
            }
        };
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        Err(format!("health check: status {}", status.as_u16()))
    }

    fn request(&self) -> Result<Outgoing, String> {
        let target: Uri = self.target.parse().map_err(|error| format!("health check: target: {error}"))?;
        let mut request = Request::new(empty_body());
        *request.uri_mut() = target;
        request.headers_mut().insert(http::header::USER_AGENT, HeaderValue::from_static("meridian-health"));
        Outgoing::parse(request).map_err(|error| format!("health check: {error}"))
    }
}
