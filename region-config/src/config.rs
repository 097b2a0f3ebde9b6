//! The checked configuration: what the rest of the house works with. Immutable; swapped whole.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use crate::dns::{Caa, DnsTerms, Texts};
use crate::ids::{JurisdictionId, NodeId, RealmId, RegionId, SiteId, TenantId};
pub use crate::policy::{
    CacheMode, Class, KeyRules, NegativeTtl, Normalise, Policy, QueryNames, QueryRules, VARIANTS_MAX,
};
pub use crate::token::{Digest, PURGES_PER_SECOND, Token, Verb};
use crate::{steering::SiteSteering, stream::Stream};

/// Most regions a fleet may have: one bit each in a [`RegionMask`].
pub const REGIONS_MAX: usize = 64;

/// Witnesses of one realm, at most; those of both sets while they are being changed.
pub const WITNESSES_MAX: usize = 7;

/// A set of regions, one bit per index in [`Config::regions`].
pub type RegionMask = u64;

/// Everything an operator has said, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeConfig,
    /// Legal areas, by name.
    pub jurisdictions: Vec<Jurisdiction>,
    /// Places, in the order they were written: at most [`REGIONS_MAX`], at least one.
    pub regions: Vec<Region>,
    /// DNS zones this fleet answers for.
    pub zones: Vec<Zone>,
    /// Customers: those that sites name, by name.
    pub tenants: Vec<Tenant>,
    /// What is served, each by a tenant.
    pub sites: Vec<Arc<Site>>,
    /// What applications may order purges with.
    pub tokens: Vec<Arc<Token>>,
    /// Witness sets that the operator named; a realm that is not here gets the default ones.
    pub witnesses: Vec<WitnessSet>,
    /// Streams that realms have instead of witnesses.
    pub streams: Vec<Stream>,
    /// blake3 over the fleet's part (everything but `node`), in canonical form: nodes with the same one agree.
    pub fingerprint: [u8; 32],
}

/// The nodes that keep a realm's log, as the operator named them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessSet {
    /// Of which realm.
    pub realm: RealmId,
    /// Counts the changes, from 1.
    pub version: u64,
    /// The witnesses.
    pub nodes: Vec<NodeId>,
    /// While the set is being changed, the witnesses that come after them; else none.
    pub next: Vec<NodeId>,
    /// Where that is written, `file:line`, for messages.
    pub written_at: String,
}

/// What belongs to this node alone.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name; unique in the fleet.
    pub name: NodeId,
    /// The region it stands in.
    pub region: RegionId,
    /// Where it keeps ledger, cache, identity and admin token.
    pub state_dir: PathBuf,
    /// HTTP listeners, clear text.
    pub http: Vec<SocketAddr>,
    /// HTTPS listeners.
    pub https: Vec<SocketAddr>,
    /// DNS listeners, UDP and TCP each.
    pub dns: Vec<SocketAddr>,
    /// On which terms DNS is answered.
    pub dns_terms: DnsTerms,
    /// Admin listener.
    pub admin: Option<SocketAddr>,
    /// Where applications order purges; none means on the admin listener only.
    pub purge: Option<PurgeDoor>,
    /// Mesh listener (QUIC); none for a node that stands alone.
    pub peer: Option<SocketAddr>,
    /// Certificate for the mesh; needed exactly when `peer` is given.
    pub identity: Option<Identity>,
    /// Edge threads; 0 means one per core.
    pub workers: usize,
    /// Memory for cached objects, in bytes.
    pub memory_bytes: u64,
    /// Disk for cached objects, in bytes; 0 means memory only.
    pub disk_bytes: u64,
    /// Where clients are on the map.
    pub geo: Geo,
    /// Access log file; none means no access log.
    pub access_log: Option<PathBuf>,
    /// DNS servers that the addresses of origins are asked of; none means those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// Limits on clients.
    pub limits: Limits,
}

/// Where the node learns where clients are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geo {
    /// MaxMind-format city or country file; none means the embedded country-level default.
    pub file: Option<PathBuf>,
    /// MaxMind-format file of AS numbers; none means what `file` says of them.
    pub asn_file: Option<PathBuf>,
    /// How old a file's data may be before the node warns, in ms.
    pub max_age_ms: u64,
}

impl Default for Geo {
    fn default() -> Self {
        Self { file: None, asn_file: None, max_age_ms: 45 * 86_400_000 }
    }
}

/// Where applications order purges, with tokens of their own.
#[derive(Debug, Clone)]
pub struct PurgeDoor {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Its certificate; none means clear text.
    pub tls: Option<CertificateFiles>,
}

/// Files that say who this node is to other nodes.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The cluster's CA certificate, PEM.
    pub ca: PathBuf,
    /// The node's certificate, PEM.
    pub certificate: PathBuf,
    /// The node's private key, PEM.
    pub key: PathBuf,
}

/// Limits on what a client may send and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Total time for a request's head, in ms.
    pub head_ms: u64,
    /// How long a kept HTTP/2 connection may be silent before it is asked for a sign of life, in ms. (A kept HTTP/1.1
    /// connection has the time of a head.)
    pub idle_ms: u64,
    /// Longest silence while a request body is read or a response body is written, in ms.
    pub stall_ms: u64,
    /// Size of a request's head, in bytes.
    pub head_bytes: usize,
    /// Number of fields in a request's head.
    pub fields_max: usize,
    /// Length of a request's target, in bytes.
    pub target_bytes: usize,
    /// Size of a request's body, in bytes.
    pub body_bytes: u64,
    /// Concurrent streams on one HTTP/2 connection.
    pub streams_max: u32,
    /// Concurrent client connections.
    pub connections_max: usize,
    /// Those among them that are relayed to nodes of other jurisdictions.
    pub relayed_max: usize,
    /// Largest object that is stored, in bytes.
    pub object_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_ms: 10_000,
            idle_ms: 60_000,
            stall_ms: 30_000,
            head_bytes: 64 * 1024,
            fields_max: 100,
            target_bytes: 8 * 1024,
            body_bytes: 64 * 1024 * 1024,
            streams_max: 128,
            connections_max: 20_000,
            relayed_max: 256,
            object_bytes: 256 * 1024 * 1024,
        }
    }
}

/// A legal area, as the operator defines it.
#[derive(Debug, Clone)]
pub struct Jurisdiction {
    /// Its name.
    pub name: JurisdictionId,
    /// The countries in it, ISO 3166-1 alpha-2, upper case, sorted.
    pub countries: Vec<[u8; 2]>,
}

/// A place that nodes stand in.
#[derive(Debug, Clone)]
pub struct Region {
    /// Its name.
    pub name: RegionId,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// The legal area it lies in.
    pub jurisdiction: JurisdictionId,
    /// Requests in a second that it bears; where none is given, DNS does not look at its load.
    pub capacity_per_second: Option<u32>,
    /// The nodes in it, at least one.
    pub nodes: Vec<Node>,
}

/// A node as the others see it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: NodeId,
    /// Where its mesh listener is; none only in a fleet of one.
    pub peer: Option<SocketAddr>,
    /// The addresses that DNS gives out for it.
    pub addresses: Vec<IpAddr>,
}

/// A DNS zone.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Apex, lower case, without the last dot.
    pub name: String,
    /// Name servers, lower case, without the last dot, each with its addresses (glue) if it is inside the zone.
    pub name_servers: Vec<NameServer>,
    /// Mailbox for SOA RNAME, as a domain name.
    pub mailbox: String,
    /// TTL of SOA and NS records, in seconds.
    pub ttl_s: u32,
    /// TTL of negative answers (SOA MINIMUM, RFC 2308), in seconds.
    pub negative_ttl_s: u32,
    /// Keys that it is signed with, PEM; the first one signs, all are published. None means unsigned.
    pub dnssec_keys: Vec<PathBuf>,
    /// Who may issue certificates for the names in it; everybody if empty.
    pub caa: Vec<Caa>,
    /// Texts, each under another name.
    pub texts: Vec<Texts>,
}

/// A name server of a zone.
#[derive(Debug, Clone)]
pub struct NameServer {
    /// Its host name, lower case, without the last dot.
    pub name: String,
    /// Its addresses, given when it lies inside the zone.
    pub addresses: Vec<IpAddr>,
}

/// A customer, and what it may use of each node's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: TenantId,
    /// Of the memory.
    pub memory: Quota,
    /// Of the disk.
    pub disk: Quota,
    /// Orders for purges in a second, of all its tokens together, on each node; no limit of its own if none is given.
    pub purges_per_second: Option<u32>,
}

impl Tenant {
    /// A tenant that nothing is said about.
    #[must_use]
    pub fn new(name: TenantId) -> Self {
        Self { name, memory: Quota::default(), disk: Quota::default(), purges_per_second: None }
    }
}

/// What a tenant may use of one tier of a node's cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// What it surely has; the node decides if none is given.
    pub floor: Option<Portion>,
    /// What it has at most; everything if none is given.
    pub max: Option<Portion>,
}

/// A part of a node's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// Of what the node has: 0 to 100.
    Percent(u8),
    /// So many bytes.
    Bytes(u64),
}

impl Portion {
    /// In bytes, on a node that has so many.
    #[must_use]
    pub fn of(self, whole_bytes: u64) -> u64 {
        match self {
            Self::Percent(percent) => whole_bytes / 100 * u64::from(percent.min(100)),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// What a tenant serves.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name.
    pub name: SiteId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The hosts it answers for.
    pub hosts: Vec<HostPattern>,
    /// The jurisdiction that its data may not leave.
    pub pin: Option<JurisdictionId>,
    /// Where its responses come from; at least one.
    pub origins: Vec<Origin>,
    /// Statuses for which another origin is asked.
    pub failover_on: Vec<u16>,
    /// Paths and their policies, most specific first; the last one matches everything.
    pub routes: Vec<Route>,
    /// Its certificate for HTTPS.
    pub tls: Option<CertificateFiles>,
    /// TTL of its DNS answers, in seconds: 5 to 300.
    pub dns_ttl_s: u32,
    /// What it wishes of steering.
    pub steering: SiteSteering,
    /// Port at which clients reach its HTTPS.
    pub https_port: u16,
    /// Whom `Cache-Status` is for.
    pub cache_status: StatusFor,
    /// Whether its origin may order purges in its answers to writes.
    pub purge_by_response: bool,
    /// The host, one of `hosts`, that clients are redirected to who ask a node outside of the pin's jurisdiction in clear
    /// text; none means that they are refused.
    pub misrouted_to: Option<String>,
    /// What becomes of those who ask such a node over TLS.
    pub misrouted_tls: MisroutedTls,
}

/// What becomes of clients who ask, over TLS, a node that may not have a pinned site's data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MisroutedTls {
    /// The handshake is refused: unrecognized_name (RFC 6066 section 3).
    #[default]
    Refuse,
    /// The connection is passed on, sealed as it is, to a node that may have the data.
    Relay,
}

impl MisroutedTls {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Relay => "relay",
        }
    }
}

/// Whom `Cache-Status` is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatusFor {
    /// Every client.
    #[default]
    All,
    /// Clients that show a debug token.
    Holders,
}

impl StatusFor {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "always",
            Self::Holders => "debug",
        }
    }
}

impl Site {
    /// The realm that its data and purges stay in.
    #[must_use]
    pub fn realm(&self) -> RealmId {
        self.pin.as_ref().map_or_else(RealmId::global, RealmId::pinned)
    }
}

/// A host name or a pattern of host names; lower case, no port, no last dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Just this host; also an IP address as text (IPv6 in brackets).
    Exact(String),
    /// `*.example.com`: any host with one or more labels before this suffix (kept without `*.`).
    Suffix(String),
    /// `*`: any host that no other site names.
    Any,
}

/// As it is written in the files.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// A server that a site's responses come from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Name for logs and metrics; unique in the site.
    pub name: String,
    /// Whether to speak TLS to it.
    pub tls: bool,
    /// Host to connect to: a name or an IP address (IPv6 without brackets).
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// `Host` to send; none means the client's.
    pub host_header: Option<String>,
    /// Protocol to speak.
    pub protocol: OriginProtocol,
    /// CA certificates to trust for it, PEM; none means the public ones.
    pub ca: Option<PathBuf>,
    /// The certificate that it is shown.
    pub identity: Option<CertificateFiles>,
    /// A field by which it knows this node.
    pub secret: Option<OriginSecret>,
    /// How long each step may take.
    pub deadlines: Deadlines,
    /// Open connections to it at a time, per node.
    pub connections_max: usize,
    /// How its health is asked for; none means passively only.
    pub health: Option<HealthCheck>,
    /// Its share of the requests among those of its priority.
    pub weight: u32,
    /// 0 is asked first.
    pub priority: u32,
    /// Share of failed requests that opens its breaker, in percent; none means never.
    pub breaker_percent: Option<u32>,
    /// Most requests that wait for its answer at a time, per node.
    pub concurrency_max: usize,
    /// Most requests that it is sent in a second, per node.
    pub fetches_per_second: Option<u32>,
}

/// A field by which an origin knows that it is this node that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginSecret {
    /// Its name, in lower case.
    pub header: String,
    /// The file whose first line is its value.
    pub file: PathBuf,
}

/// Which HTTP an origin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge in clear text or by ALPN.
    Http2,
    /// Over TLS whichever ALPN gives; in clear text HTTP/1.1.
    Auto,
}

/// How long each step towards an origin may take, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// TCP and TLS.
    pub connect_ms: u64,
    /// From the request's last byte to the response's head.
    pub first_byte_ms: u64,
    /// Between two pieces of the body.
    pub between_bytes_ms: u64,
    /// From start to end, retries included.
    pub total_ms: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect_ms: 3_000, first_byte_ms: 15_000, between_bytes_ms: 15_000, total_ms: 600_000 }
    }
}

/// How an origin is asked for its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Target of the GET.
    pub path: String,
    /// Time between two questions, in ms.
    pub interval_ms: u64,
    /// Time for an answer, in ms.
    pub timeout_ms: u64,
    /// Of the last `window` answers, so many bad ones make it down.
    pub down_after: u32,
    /// Consecutive good answers that make it up again.
    pub up_after: u32,
}

/// A path pattern with its policy.
#[derive(Debug, Clone)]
pub struct Route {
    /// What it matches.
    pub path: PathPattern,
    /// What is done there.
    pub policy: Policy,
}

/// Which paths a route is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathPattern {
    /// Just this path.
    Exact(String),
    /// `/a/*`: this path (kept without `/*`) and everything below it, on `/` borders. Empty matches everything.
    Prefix(String),
}

/// As it is written in the files.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}/*"),
        }
    }
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}
