//! Where DNS leads an address, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whom DNS shall be explained for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteOrder {
    /// The host that is asked for.
    pub host: String,
    /// The client's address, or any address of a client subnet.
    pub client: String,
    /// Regions that are taken to be down.
    #[serde(default)]
    pub without: Vec<String>,
}

/// What DNS would answer to an address.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Steering {
    /// The address.
    pub client: String,
    /// The site that the host leads to.
    #[serde(default)]
    pub site: String,
    /// The jurisdiction that the site's data may not leave.
    #[serde(default)]
    pub pin: Option<String>,
    /// The record that is explained: `A`, or `AAAA` for a site that has IPv6 addresses only.
    #[serde(default)]
    pub record: String,
    /// The region that AAAA leads the client to, which may be another one if not all regions have addresses of both families;
    /// none if the site has no AAAA.
    #[serde(default)]
    pub ipv6_region: Option<String>,
    /// How it came out: `normal`, `shared`, `failover`, `fail-static`, `fallback`, or why no region may be named.
    pub outcome: String,
    /// TTL of the answer, in s.
    pub ttl_s: u32,
    /// Length of the prefix for which the answer holds.
    pub scope: u8,
    /// The block of addresses for which the answer holds.
    #[serde(default)]
    pub prefix: String,
    /// What the geo database says about the address.
    #[serde(default)]
    pub location: SteeredFrom,
    /// The site's rule for the client, such as `only for 192.0.2.0/24`; none if none is.
    #[serde(default)]
    pub rule: Option<String>,
    /// What the order comes from, before health: `distance`, or without data `asked` (the region of the node that was asked)
    /// or `configured`.
    #[serde(default)]
    pub origin: String,
    /// What the answer was made of.
    #[serde(default)]
    pub epochs: SteeringEpochs,
    /// The regions in the order of preference, then those left out.
    pub regions: Vec<SteeredRegion>,
}

/// What the geo database says about an address.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct SteeredFrom {
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Two letters: `AF`, `AN`, `AS`, `EU`, `NA`, `OC`, `SA`.
    pub continent: Option<String>,
    /// Degrees north of the place that stands for it.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// How far from there it may be, in km.
    pub accuracy_km: Option<u16>,
    /// The autonomous system that announces it.
    pub asn: Option<u32>,
}

/// What an answer was made of: answers with the same epochs are made of the same.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct SteeringEpochs {
    /// The head of the fingerprint of the fleet's config.
    pub config: String,
    /// Counts the plans that this node has made of config and geo database: none takes the place of a later one.
    pub plan: u64,
    /// Counts the changes of verdict on this node.
    pub health: u64,
    /// The geo database.
    pub geo: String,
}

/// A region in a steering decision.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct SteeredRegion {
    /// Its name.
    pub region: String,
    /// Whether clients would be given its addresses.
    pub chosen: bool,
    /// Why it stands where it stands.
    pub reason: String,
    /// The word for that.
    #[serde(default)]
    pub word: String,
    /// Its place in the order, from 0; none if it may not be named.
    #[serde(default)]
    pub place: Option<usize>,
    /// The verdict: `up`, `degraded`, `draining`, `unknown`, `down`.
    #[serde(default)]
    pub state: String,
    /// Great-circle distance from the client, in km; none if it is not known where that is.
    #[serde(default)]
    pub kilometres: Option<u16>,
    /// The round trip that is estimated from it, with the bias and with what was measured, in ms.
    #[serde(default)]
    pub estimated_ms: Option<f64>,
    /// The round trip that was measured from where the client is, in ms.
    #[serde(default)]
    pub measured_ms: Option<f64>,
    /// How often it was measured.
    #[serde(default)]
    pub samples: Option<u32>,
    /// By how many percent its distances are shortened.
    #[serde(default)]
    pub bias_percent: i32,
    /// Lower ones are named first.
    #[serde(default)]
    pub priority: u8,
    /// Its part of the clients beside other regions with a weight, as the site wishes.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Which part of such clients it gets while all regions are well, from 0 to 1; none if they are not shared out.
    #[serde(default)]
    pub share: Option<f64>,
}
