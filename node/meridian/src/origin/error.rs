//! Why an origin gave no usable answer. Each cause has one word, the same in log, metric, header and screen.

use std::path::PathBuf;

use http::StatusCode;
use rules::origin::Ended;

use super::head::HeadFault;

/// Why the origin side could not be started.
#[derive(Debug, thiserror::Error)]
pub enum OriginFault {
    /// It was started outside of an async runtime, so that nothing could look after it.
    #[error("starting the origin side: no async runtime here: {0}")]
    NoRuntime(#[from] tokio::runtime::TryCurrentError),
    /// The cryptography provider offers no protocol version.
    #[error("starting the origin side: TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why the certificates named for one origin could not be used. Only that origin is out of service for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthorityFault {
    /// The file cannot be read.
    #[error("reading the CA certificates in {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system or the PEM reader said.
        why: String,
    },
    /// The certificate that the origin is shown, or its key, cannot be used.
    #[error("using the certificate in {} with its key: {why}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What the PEM reader or the TLS library said.
        why: String,
    },
    /// There is no certificate in it.
    #[error("{} has no CA certificate: expected PEM with at least one CERTIFICATE section", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Why a request got no (whole) response from its site's origins.
///
/// The text is for the operator: it names hosts and addresses from the configuration, never a path, a field or a
/// client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OriginError {
    /// The origin's name has no address, and never had one.
    #[error("resolving `{host}`: {why}")]
    Unresolved {
        /// The configured host.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// Every address of the origin is one that no origin may have (link-local, metadata, unspecified, multicast).
    #[error("`{host}` resolves only to addresses that no origin may have")]
    Forbidden {
        /// The configured host.
        host: String,
    },
    /// Nobody listens there.
    #[error("connecting: connection refused")]
    Refused,
    /// The network said no.
    #[error("connecting: {0}")]
    Unreachable(String),
    /// TCP and TLS took longer than `connect_ms`.
    #[error("connecting took longer than allowed")]
    ConnectTimeout,
    /// The TLS handshake failed: certificate, name, version or ALPN.
    #[error("TLS: {0}")]
    Tls(String),
    /// The connection broke before the response's head was there.
    #[error("the connection broke before a response: {0}")]
    Reset(String),
    /// No response head within `first_byte_ms` of the request's last byte.
    #[error("no response within the time allowed to the first byte")]
    FirstByteTimeout,
    /// Silence within the body for longer than `between_bytes_ms`.
    #[error("silence in the response body for longer than allowed")]
    BetweenBytesTimeout,
    /// The request took longer than `total_ms`, retries included.
    #[error("the request took longer than allowed in total")]
    TotalTimeout,
    /// What came back is not HTTP, or HTTP that is refused.
    #[error("malformed response: {0}")]
    Malformed(#[from] HeadFault),
    /// The response body ended before its framing said so.
    #[error("the response body broke off: {0}")]
    Truncated(String),
    /// Too much of what was asked of the origin failed, so that it is left alone for a moment.
    #[error("the origin is left alone for a moment, since too much failed")]
    BreakerOpen,
    /// The origin has as many requests as it can answer in good time.
    #[error("the origin has as many requests as it answers in good time")]
    Limited,
    /// The origin gets no more requests a second than its `fetches_per_second`.
    #[error("more requests than the `fetches_per_second` of the origin")]
    Paced,
    /// The site has as many requests under way as one site may have on this node.
    #[error("the site has its share of the node's fetches")]
    SiteBusy,
    /// The site has no origin that could be tried.
    #[error("no origin to ask")]
    NoHealthyOrigin,
    /// All connections to the origin stayed in use, or too many requests were waiting for one.
    #[error("all connections to the origin are in use")]
    TooManyConnections,
    /// The client's body broke off, so that the request was broken off too.
    #[error("the request body broke off: {0}")]
    UploadBroken(String),
    /// The request cannot be written as a well-formed one. A fault of the caller's.
    #[error("the request cannot be sent: {0}")]
    Unsendable(&'static str),
    /// The permit is another site's. A fault of the caller's.
    #[error("the permit is for another site")]
    NotPermitted,
}

/// The words of all causes, in the order of [`OriginError::index`].
pub(super) const REASONS: [&str; 22] = [
    "origin-unresolved",
    "origin-forbidden-address",
    "origin-refused",
    "origin-unreachable",
    "origin-connect-timeout",
    "origin-tls",
    "origin-reset",
    "origin-first-byte-timeout",
    "origin-between-bytes-timeout",
    "origin-total-timeout",
    "origin-malformed",
    "origin-truncated",
    "origin-none-healthy",
    "origin-too-many-connections",
    "origin-upload-broken",
    "origin-unsendable",
    "origin-not-permitted",
    "breaker-open",
    "origin-limited",
    "paced",
    "site-busy",
    "origin-other",
];

impl OriginError {
    /// What a client gets (RFC 9110 sections 15.6.3 to 15.6.5) when nothing stale may be served.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::ConnectTimeout | Self::FirstByteTimeout | Self::BetweenBytesTimeout | Self::TotalTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::NoHealthyOrigin
            | Self::TooManyConnections
            | Self::BreakerOpen
            | Self::Limited
            | Self::Paced
            | Self::SiteBusy => StatusCode::SERVICE_UNAVAILABLE,
            Self::UploadBroken(_) | Self::Unsendable(_) => StatusCode::BAD_REQUEST,
            Self::NotPermitted => StatusCode::MISDIRECTED_REQUEST,
            Self::Unresolved { .. }
            | Self::Forbidden { .. }
            | Self::Refused
            | Self::Unreachable(_)
            | Self::Tls(_)
            | Self::Reset(_)
            | Self::Malformed(_)
            | Self::Truncated(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// The cause in one word, for `Cache-Status`, metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        REASONS.get(self.index()).copied().unwrap_or("origin-other")
    }

    /// Whether nothing of the request has been sent, so that another origin may be asked.
    #[must_use]
    pub fn before_sending(&self) -> bool {
        matches!(
            self,
            Self::Unresolved { .. }
                | Self::Forbidden { .. }
                | Self::Refused
                | Self::Unreachable(_)
                | Self::ConnectTimeout
                | Self::Tls(_)
                | Self::TooManyConnections
        ) || self.held_back()
    }

    /// Whether it was this node that did not ask.
    #[must_use]
    pub fn held_back(&self) -> bool {
        matches!(self, Self::BreakerOpen | Self::Limited | Self::Paced | Self::SiteBusy)
    }

    /// What it says about the origin; none if it is somebody else's fault.
    pub(super) fn ended(&self) -> Option<Ended> {
        match self {
            Self::Unresolved { .. } | Self::Refused | Self::Unreachable(_) | Self::ConnectTimeout | Self::Tls(_) => {
                Some(Ended::Unreached)
            }
            Self::Reset(_)
            | Self::FirstByteTimeout
            | Self::BetweenBytesTimeout
            | Self::TotalTimeout
            | Self::Malformed(_)
            | Self::Truncated(_) => Some(Ended::Failed),
            Self::Forbidden { .. }
            | Self::NoHealthyOrigin
            | Self::TooManyConnections
            | Self::UploadBroken(_)
            | Self::Unsendable(_)
            | Self::NotPermitted
            | Self::BreakerOpen
            | Self::Limited
            | Self::Paced
            | Self::SiteBusy => None,
        }
    }

    /// The place of this cause in [`REASONS`].
    pub(super) fn index(&self) -> usize {
        match self {
            Self::Unresolved { .. } => 0,
            Self::Forbidden { .. } => 1,
            Self::Refused => 2,
            Self::Unreachable(_) => 3,
            Self::ConnectTimeout => 4,
            Self::Tls(_) => 5,
            Self::Reset(_) => 6,
            Self::FirstByteTimeout => 7,
            Self::BetweenBytesTimeout => 8,
            Self::TotalTimeout => 9,
            Self::Malformed(_) => 10,
            Self::Truncated(_) => 11,
            Self::NoHealthyOrigin => 12,
            Self::TooManyConnections => 13,
            Self::UploadBroken(_) => 14,
            Self::Unsendable(_) => 15,
            Self::NotPermitted => 16,
            Self::BreakerOpen => 17,
            Self::Limited => 18,
            Self::Paced => 19,
            Self::SiteBusy => 20,
        }
    }

    /// What hyper said about a request on a connection, as one of ours.
    pub(super) fn from_hyper(error: &hyper::Error) -> Self {
        if error.is_user() {
            return Self::UploadBroken(cause(error));
        }
        if error.is_parse() {
            return Self::Malformed(HeadFault::Syntax(cause(error)));
        }
        Self::Reset(cause(error))
    }
}

/// The innermost cause of an error: hyper's own texts name its parts, the cause names the event.
pub(super) fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_word_of_its_own_and_a_fitting_status() {
        let cases = [
            (OriginError::Refused, 502, "origin-refused"),
            (OriginError::Reset(String::new()), 502, "origin-reset"),
            (OriginError::Malformed(HeadFault::TwoLengths), 502, "origin-malformed"),
            (OriginError::FirstByteTimeout, 504, "origin-first-byte-timeout"),
            (OriginError::TotalTimeout, 504, "origin-total-timeout"),
            (OriginError::ConnectTimeout, 504, "origin-connect-timeout"),
            (OriginError::TooManyConnections, 503, "origin-too-many-connections"),
            (OriginError::NoHealthyOrigin, 503, "origin-none-healthy"),
            (OriginError::NotPermitted, 421, "origin-not-permitted"),
            (OriginError::BreakerOpen, 503, "breaker-open"),
            (OriginError::SiteBusy, 503, "site-busy"),
        ];
        for (error, status, reason) in cases {
            assert_eq!((error.status().as_u16(), error.reason()), (status, reason));
        }
        let distinct: std::collections::BTreeSet<_> = REASONS.iter().collect();
        assert_eq!(distinct.len(), REASONS.len());
    }
}
