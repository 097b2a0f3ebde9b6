//! What an operator may write, table by table: the one description that reader and schema are made from.

mod dns;
pub(crate) mod steering;

use std::net::{IpAddr, SocketAddr};

use self::steering::SteeringSection;
use crate::{
    config::{
        CacheMode, Class, Digest, HostPattern, MisroutedTls, OriginProtocol, PathPattern, Portion, StatusFor, Verb,
    },
    country::Preset,
    host::{HostHeader, HostName, Mailbox, OriginUrl, OwnFieldName, Target},
    ids::{JurisdictionId, NodeId, RealmId, RegionId, SiteId, TenantId, TokenId},
    leaf::{CookieName, Country, Degrees, FieldName, FilePath, Language, Percent, QueryName, Size, Time, Whole, Words},
    shape::section,
    stream::StreamServer,
};

pub(crate) use dns::{CaaSection, DnsSection, TextsSection};

const S: u64 = 1_000;
const HOUR: u64 = 3_600 * S;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const VERSION_MAX: u64 = 4_294_967_295;

section! {
    /// Meridian's configuration: one file, or all files of a folder together. What is the same on every node (jurisdictions,
    /// regions, zones, sites, witnesses, streams) may stand in a folder of its own that each node's `shared` names.
    Root {
        /// A folder with the files that all nodes share.
        may shared: FilePath,
        /// This node.
        may node: NodeSection,
        /// Where HTTP is served in clear text.
        may http: Listener,
        /// Where HTTPS is served.
        may https: Listener,
        /// Where DNS is answered, over UDP and TCP, and on which terms.
        may dns: DnsSection,
        /// Where the admin API and the web interface are served.
        may admin: Listener,
        /// Where applications order purges, with tokens of their own and nothing else of the admin interface.
        may purge: PurgeSection,
        /// Where other nodes are talked to, and how this one proves who it is.
        may peer: PeerSection,
        /// How much is cached.
        may cache: CacheSection,
        /// Where clients are on the map.
        may geo: GeoSection,
        /// Limits on clients.
        may limits: LimitsSection,
        /// Legal areas.
        many jurisdictions: JurisdictionSection,
        /// Places that nodes stand in; without any, there is one, `local`, with this node.
        many regions: RegionSection,
        /// DNS zones that this fleet answers for.
        many zones: ZoneSection,
        /// What is served.
        many sites: SiteSection,
        /// What tenants may use of each node's cache, where that is not left to the node.
        many tenants: TenantSection,
        /// What applications may order purges with.
        many tokens: TokenSection,
        /// The nodes that keep the durable log of purges, for realms that shall not have the default ones.
        many witnesses: WitnessSection,
        /// Streams of NATS JetStream that keep the durable log of purges for realms that shall have no witnesses.
        many streams: StreamSection,
    }
}

section! {
    /// This node.
    NodeSection {
        /// Its name; one of those in the regions.
        need name: NodeId,
        /// The region it stands in; may be left out, since the regions list their nodes.
        may region: RegionId,
        /// Where it keeps ledger, cache, identity and admin token; `state` beside this file if left out.
        may state_dir: FilePath,
        /// Edge threads; one per core if left out.
        may workers: Whole<1, 1024>,
        /// Access log; none is written if left out.
        may access_log: FilePath,
        /// DNS servers that the addresses of origins are asked of; those of the system if left out.
        many resolvers: SocketAddr,
    }
}

section! {
    /// A listener.
    Listener {
        /// Addresses to listen on.
        some listen: SocketAddr,
    }
}

section! {
    /// Where other nodes are talked to (QUIC, over UDP), and how this one proves who it is.
    PeerSection {
        /// Address to listen on.
        need listen: SocketAddr,
        /// The cluster's CA certificate, PEM.
        need ca: FilePath,
        /// This node's certificate, PEM.
        need certificate: FilePath,
        /// This node's private key, PEM.
        need key: FilePath,
    }
}

section! {
    /// How much is cached.
    CacheSection {
        /// Memory for objects; 256MiB if left out.
        may memory: Size<MIB, { 16 * TIB }>,
        /// Disk for objects, under `state_dir`; 0, which is also the default, keeps them in memory only.
        may disk: Size<0, { 1024 * TIB }>,
    }
}

section! {
    /// Where clients are on the map.
    GeoSection {
        /// A MaxMind-format city or country file (.mmdb); the built-in country-level one if left out.
        may file: FilePath,
        /// A MaxMind-format file (.mmdb) that says which network (AS number) an address belongs to; if left out, what `file` says of it.
        may asn_file: FilePath,
        /// How old the data of a file may be before the node warns; 45d if left out.
        may max_age: Time<DAY, { 3_650 * DAY }>,
    }
}

section! {
    /// Limits on clients.
    LimitsSection {
        /// Time for a request's head; 10s if left out.
        may head_time: Time<100, { 10 * 60 * S }>,
        /// How long a kept HTTP/2 connection may be silent before it is asked for a sign of life, and cut if none comes in 10s; one of HTTP/1.1 has the time of `head_time`; 60s if left out.
        may idle_time: Time<100, HOUR>,
        /// Longest silence within a body, in either direction; 30s if left out.
        may stall_time: Time<100, HOUR>,
        /// Size of a request's head; 64KiB if left out.
        may head_size: Size<KIB, MIB>,
        /// Fields of a request's head; 100 if left out.
        may fields: Whole<8, 1000>,
        /// Length of a request's target; 8KiB if left out.
        may target_size: Size<64, { 64 * KIB }>,
        /// Size of a request's body; 64MiB if left out.
        may body_size: Size<0, TIB>,
        /// Concurrent streams of an HTTP/2 connection; 128 if left out.
        may streams: Whole<1, 10_000>,
        /// Concurrent connections of clients; 20000 if left out.
        may connections: Whole<1, 10_000_000>,
        /// Those among them that are relayed to nodes of other jurisdictions (`misrouted_tls`); 256 if left out.
        may relayed: Whole<1, 100_000>,
        /// Largest object that is cached; 256MiB if left out.
        may object_size: Size<KIB, { TIB }>,
    }
}

section! {
    /// A legal area, such as the European Union.
    JurisdictionSection("jurisdiction" by "name") {
        /// Its name.
        need name: JurisdictionId,
        /// The countries in it, besides those of `preset`.
        many countries: Country,
        /// A well-known set of countries.
        may preset: Preset,
    }
}

section! {
    /// A place that nodes stand in.
    RegionSection("region" by "name") {
        /// Its name.
        need name: RegionId,
        /// Degrees north.
        need latitude: Degrees<90>,
        /// Degrees east.
        need longitude: Degrees<180>,
        /// The legal area it lies in.
        need jurisdiction: JurisdictionId,
        /// Requests in a second that all its nodes together bear; DNS then leads some clients on to the next region before there are more. Without it DNS does not look at its load.
        may capacity: Whole<1, 100_000_000>,
        /// The nodes in it.
        some nodes: RegionNode,
    }
}

section! {
    /// A node, as the others and the clients see it.
    RegionNode("node" by "name") {
        /// Its name; unique in the fleet.
        need name: NodeId,
        /// Where other nodes reach it; needed as soon as there are two nodes.
        may peer: SocketAddr,
        /// The addresses that DNS gives out for it.
        many addresses: IpAddr,
    }
}

section! {
    /// A DNS zone that this fleet answers for.
    ZoneSection("zone" by "name") {
        /// Its apex.
        need name: HostName,
        /// Its name servers; one per region, `ns-<region>` with the addresses of its nodes, if left out.
        many name_servers: NameServerSection,
        /// Who answers for it; `hostmaster` at the zone if left out.
        may mailbox: Mailbox,
        /// Lifetime of SOA and NS records; 1h if left out.
        may ttl: Time<{ 60 * S }, { 7 * DAY }>,
        /// Lifetime of negative answers; 30s if left out.
        may negative_ttl: Time<{ S }, { HOUR }>,
        /// Keys that the zone is signed with, PEM, made by `meridian zone key`; the same on every node. The first one signs, all are published. Unsigned if left out.
        many dnssec_keys: FilePath,
        /// Who may issue certificates for the names in it; everybody if left out.
        many caa: CaaSection,
        /// Texts under names in it, such as those that show a CA or a service whose zone it is.
        many txt: TextsSection,
    }
}

section! {
    /// A name server of a zone.
    NameServerSection("name server" by "name") {
        /// Its host name.
        need name: HostName,
        /// Its addresses; needed if it lies inside the zone.
        many addresses: IpAddr,
    }
}

section! {
    /// What a tenant serves.
    SiteSection("site" by "name") {
        /// Its name; unique in the fleet.
        need name: SiteId,
        /// Whose it is; `default` if left out.
        may tenant: TenantId,
        /// The hosts it answers for.
        some hosts: HostPattern,
        /// The jurisdiction that its data must not leave.
        may pin: JurisdictionId,
        /// Where its responses come from: the short form of one of `origins`.
        may origin: OriginUrl,
        /// Where its responses come from.
        many origins: OriginSection,
        /// Statuses for which another of the origins is asked, if nothing was sent that may not be sent twice; none if left out. An origin that is not reached is always passed over.
        many failover_on: Whole<400, 599>,
        /// What is done with which path; the most specific path counts.
        many routes: RouteSection,
        /// Its certificate for HTTPS.
        may tls: TlsSection,
        /// Lifetime of its DNS answers; 30s if left out.
        may dns_ttl: Time<{ 5 * S }, { 300 * S }>,
        /// Which regions DNS names to whom.
        may steering: SteeringSection,
        /// Port at which clients reach its HTTPS, where something in front of the nodes maps it or they listen elsewhere: DNS says it (HTTPS records); 443 if left out.
        may https_port: Whole<1, 65_535>,
        /// Who is told by `Cache-Status` what the cache did: everybody (`always`), or clients that show a debug token (`debug`); `always` if left out.
        may cache_status: StatusFor,
        /// Whether the origin may order purges in its answers to writes, by `Meridian-Purge-Tags`, `Meridian-Purge-Urls` and `Meridian-Purge-Site`; no if left out.
        may purge_by_response: bool,
        /// Where a pinned site's clients are sent who ask, in clear text, a node that may not have its data: one of `hosts`, whose name DNS gives to the right regions only. Such requests are refused (421) if left out.
        may misrouted_to: HostName,
        /// What becomes of a pinned site's clients who ask, over TLS, a node that may not have its data, and so has no key: the handshake is refused (`refuse`), or the connection is passed on as it is, sealed, to a node that may (`relay`); `refuse` if left out. See docs/residency.md.
        may misrouted_tls: MisroutedTls,
    }
}

section! {
    /// What a tenant may use of each node's cache. Parts (`25%`) are parts of what the node has; a tenant is one that a site names.
    TenantSection("tenant" by "name") {
        /// Its name, as sites name it.
        need name: TenantId,
        /// Memory that its objects surely have, whatever others do; an equal part of half of what the other floors leave if left out, and nothing if there is one tenant alone.
        may memory_floor: Portion,
        /// Memory that its objects have at most; everything if left out.
        may memory_max: Portion,
        /// Disk that it may fill with what is new, besides half of an equal part of what the floors leave; once the disk is full, a tenant that holds more writes only what is asked for twice; nothing besides if left out.
        may disk_floor: Portion,
        /// Disk that its objects have at most; everything if left out.
        may disk_max: Portion,
        /// Orders for purges in a second, of all its tokens together, on each node; as many again may come at once; no limit but those of the tokens if left out.
        may purges_per_second: Whole<1, 1_000_000>,
    }
}

section! {
    /// Where applications order purges: a listener with nothing of the admin interface but purges, for `[[tokens]]` and not for the admin token.
    PurgeSection {
        /// Addresses to listen on.
        some listen: SocketAddr,
        /// Its certificate for HTTPS; clear text if left out, which is for loopback and private networks.
        may tls: TlsSection,
    }
}

section! {
    /// What an application orders purges with. `meridian token new` makes one and prints this table for it.
    TokenSection("token" by "name") {
        /// Its name, as audit and logs call it.
        need name: TokenId,
        /// The digest of the token; the token itself is known to the application alone.
        need digest: Digest,
        /// The tenant whose sites it is for; `default` if left out.
        may tenant: TenantId,
        /// The sites that it is for; all of the tenant if left out.
        many sites: SiteId,
        /// What it may do: `purge` URLs, prefixes and tags, `purge-everything` of a host or site, `read` what became of purges; `purge` and `read` if left out.
        many verbs: Verb,
        /// Orders in a second on each node; as many again may come at once; 1000 if left out.
        may purges_per_second: Whole<1, 1_000_000>,
    }
}

section! {
    /// A server that a site's responses come from.
    OriginSection("origin" by "name") {
        /// Name for logs and metrics; host and port if left out.
        may name: Words,
        /// Scheme, host and port.
        need url: OriginUrl,
        /// `Host` to send; the client's if left out.
        may host_header: HostHeader,
        /// The HTTP it speaks: `auto` takes what TLS agrees on, and HTTP/1.1 in clear text.
        may protocol: OriginProtocol,
        /// CA certificates to trust for it, PEM; the public ones if left out.
        may ca: FilePath,
        /// The certificate that it is shown, where it wants one, with its key.
        may identity: TlsSection,
        /// A field by which it knows that it is this node that asks.
        may secret: SecretSection,
        /// How long each step may take.
        may deadlines: DeadlinesSection,
        /// Open connections to it at a time, per node; 256 if left out.
        may connections: Whole<1, 65_535>,
        /// How its health is asked for; it is judged by its answers to clients alone if left out.
        may health: HealthSection,
        /// Its share of the requests, beside the others of its priority; 1 if left out.
        may weight: Whole<1, 1_000>,
        /// 0 is asked first, the next when fewer than half of those before are well; 0 if left out.
        may priority: Whole<0, 9>,
        /// So many percent of failed requests in 10s make the node leave it alone for some seconds, and answer with what is stored or with 503; 50 if left out.
        may breaker: Percent,
        /// Most requests that wait for its answer at a time, per node; within this, the node finds out what it bears; 1024 if left out.
        may concurrency: Whole<1, 65_535>,
        /// Most requests that it is sent in a second, per node, as after a purge of everything; what is over that waits for half a second at most; no limit if left out.
        may fetches_per_second: Whole<1, 1_000_000>,
    }
}

section! {
    /// A field by which an origin knows that it is this node that asks. What a client sends under this name is dropped.
    SecretSection {
        /// Its name.
        need header: OwnFieldName,
        /// The file whose first line is its value.
        need file: FilePath,
    }
}

section! {
    /// How long each step towards an origin may take.
    DeadlinesSection {
        /// TCP and TLS; 3s if left out.
        may connect: Time<10, { 10 * 60 * S }>,
        /// From the end of the request to the head of the response; 15s if left out.
        may first_byte: Time<10, HOUR>,
        /// Between two pieces of the body; 15s if left out.
        may between_bytes: Time<10, HOUR>,
        /// From start to end, tries that failed included; 10m if left out.
        may total: Time<10, DAY>,
    }
}

section! {
    /// How an origin's health is asked for.
    HealthSection {
        /// What is asked for.
        need path: Target,
        /// Time between two questions; 5s if left out.
        may interval: Time<100, HOUR>,
        /// Time for an answer; 2s if left out.
        may timeout: Time<10, { 60 * S }>,
        /// So many bad answers of the last five make it down; 3 if left out.
        may down_after: Whole<1, 5>,
        /// So many good answers in a row make it up again; 3 if left out.
        may up_after: Whole<1, 100>,
    }
}

section! {
    /// What is done with a path.
    RouteSection("route" by "path") {
        /// What it is for.
        need path: PathPattern,
        /// Whether responses are kept: `origin` as the origin's headers say, `off` never.
        may cache: CacheMode,
        /// What kind of thing is served: `static` files, `standard` as the origin's headers say, `tight` never served stale and bound by `max_staleness`, `live` never kept; `standard` if left out.
        may class: Class,
        /// Lifetime of responses that name none.
        may default_ttl: Time<0, { 366 * DAY }>,
        /// Shortest lifetime of responses that name one and are no errors; 0 if left out.
        may ttl_min: Time<0, { 366 * DAY }>,
        /// So long after a purge is acknowledged nothing older than it is served, also by a node that is cut off: it asks the origin or fails. For `tight` 5s if left out; for others no bound, and what is served by a node that is cut off is marked.
        may max_staleness: Time<{ 2 * S }, HOUR>,
        /// Longest lifetime; no bound if left out, but 5s for `tight` without `max_staleness`.
        may ttl_max: Time<0, { 366 * DAY }>,
        /// Lifetime of all responses that may be kept and are no errors, whatever they name.
        may ttl: Time<0, { 366 * DAY }>,
        /// Lifetimes of errors.
        may negative_ttl: NegativeSection,
        /// Whether a lifetime is guessed from `Last-Modified` where none is named; `false` if left out, but `true` for `static`.
        may heuristic: bool,
        /// How long past its lifetime a response may be served while the origin is not reached; 1d if left out.
        may stale_if_error: Time<0, { 366 * DAY }>,
        /// Whether stored text is coded (zstd, br, gzip) for clients that accept it, once for each coding; `false` if left out.
        may compress: bool,
        /// Whether what is asked for often is fetched anew in the last tenth of its lifetime, before anybody has to wait; `false` if left out.
        may refresh_ahead: bool,
        /// Whether a client's `no-cache`, `max-age`, `min-fresh`, `max-stale` and `only-if-cached` count; `false` if left out.
        may honour_request_cache_control: bool,
        /// Variants of one URL that are kept at a time; 64 if left out.
        may variants_max: Whole<1, 256>,
        /// What is left of a query, in the key and towards the origin.
        may query: QuerySection,
        /// What of a request is in the key beside its URL.
        may key: KeySection,
        /// Fields that are brought into one form, for the key and towards the origin.
        may normalise: NormaliseSection,
    }
}

section! {
    /// Lifetimes of errors. A time that is written also bounds what the response itself names.
    NegativeSection {
        /// 404 and 410; 10s if left out, where `default_ttl` or `heuristic` gives them one.
        may not_found: Time<0, { DAY }>,
        /// Other 4xx; those that name no lifetime are not kept if left out, and 401, 403, 407 and 429 never are.
        may client_error: Time<0, { DAY }>,
        /// 5xx; those that name no lifetime are not kept if left out.
        may server_error: Time<0, { DAY }>,
    }
}

section! {
    /// What is left of a query.
    QuerySection {
        /// The parameters that are left; all if left out.
        many allow: QueryName,
        /// The parameters that are left out.
        many deny: QueryName,
        /// Whether parameters are put in the order of their names, those of one name in the order they came; `false` if left out.
        may sort: bool,
        /// Whether the well-known parameters that only track people (`utm_*`, `gclid`, `fbclid` and their like) are left out; `false` if left out.
        may drop_tracking: bool,
    }
}

section! {
    /// What of a request is in the key beside its URL. All of it also reaches the origin.
    KeySection {
        /// Header fields.
        many headers: FieldName,
        /// Cookies; where some are named, no others reach the origin.
        many cookies: CookieName,
        /// Whether the client's country is, by the geo database; the origin gets it as `X-Meridian-Country`.
        may country: bool,
        /// Whether the client's class of device is (`mobile`, `tablet`, `desktop`, `bot`); the origin gets it as `X-Meridian-Device`.
        may device: bool,
    }
}

section! {
    /// Fields that are brought into one form.
    NormaliseSection {
        /// Whether `Accept-Encoding` becomes those of `zstd`, `br` and `gzip` that it takes; `false` if left out.
        may accept_encoding: bool,
        /// The languages there are: `Accept-Language` becomes the one that it likes best, or nothing.
        many accept_language: Language,
    }
}

section! {
    /// A certificate and its key, PEM.
    TlsSection {
        /// The chain, leaf first.
        need certificate: FilePath,
        /// The private key.
        need key: FilePath,
    }
}

section! {
    /// The nodes that keep a realm's durable log of purges.
    WitnessSection("witnesses of realm" by "realm") {
        /// `global` for sites that are not pinned, or a jurisdiction.
        need realm: RealmId,
        /// 1, 3 or 5 of the realm's nodes; 2 are allowed, but then neither may be away.
        some nodes: NodeId,
        /// Counts the changes of this set; 1 if left out. Whoever changes `nodes` or `next` raises it: nodes remember the set they were last started with.
        may version: Whole<1, VERSION_MAX>,
        /// While the set is being changed, the one that comes after it: 1, 3 or 5 nodes. A purge then needs a majority of both.
        many next: NodeId,
    }
}

section! {
    /// A stream of NATS JetStream that keeps a realm's durable log of purges instead of witnesses; for large fleets.
    StreamSection("stream of realm" by "realm") {
        /// `global` for sites that are not pinned, or a jurisdiction.
        need realm: RealmId,
        /// The servers; no others are talked to, even if these name some.
        some servers: StreamServer,
        /// The jurisdiction that all these servers stand in; for a pinned realm it has to be written, and to be the realm's.
        may jurisdiction: JurisdictionId,
        /// Its name at the servers; `meridian-<realm>` if left out. Fleets that share servers need different ones.
        may name: RealmId,
        /// Copies of it, each on another server: 1, 3 or 5; 3 if left out.
        may replicas: Whole<1, 5>,
        /// Declares that every server has `sync_interval: always` in its `jetstream` block, without which a purge could be acknowledged and lost; has to be `true`.
        may sync_always: bool,
        /// Most that it holds; over that, the oldest purges go, and a node that has not read them drops what it has stored; 1GiB if left out.
        may size_max: Size<MIB, TIB>,
        /// A file by which the servers know this node: JWT and seed (`.creds`), or one line `user:password`.
        may credentials: FilePath,
        /// The same for the servers' system account; with it, the node itself looks whether they sync.
        may system_credentials: FilePath,
        /// CA certificates to trust for the servers, PEM; the system's if left out.
        may ca: FilePath,
        /// The certificate that the servers are shown, where they want one, with its key.
        may identity: TlsSection,
    }
}
