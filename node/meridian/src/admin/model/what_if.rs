//! What would change for given clients, as the API says and takes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whom it is asked for, and what would be different.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfOrder {
    /// The clients; a million addresses at most, of which a prefix shorter than /24 (/56) counts up to 256.
    pub clients: Vec<WhatIfClient>,
    /// Regions that are gone afterwards.
    #[serde(default)]
    pub without: Vec<String>,
    /// The config that is in force afterwards: the texts of all files of a node's folder and of what its `shared` names. The
    /// config of the node that is asked, if left out. Geo databases stay those in use.
    #[serde(default)]
    pub candidate: Option<Vec<WhatIfFile>>,
    /// The site that the clients ask for; each one, if left out.
    #[serde(default)]
    pub site: Option<String>,
}

/// A client, or a block of them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfClient {
    /// An address or a prefix.
    pub block: String,
    /// Requests in a second; 1 if left out.
    #[serde(default = "one")]
    pub requests: f64,
}

fn one() -> f64 {
    1.0
}

/// A file of a config.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfFile {
    /// Its name, for messages.
    pub name: String,
    /// What is in it, TOML.
    pub text: String,
}

/// What would change, site by site.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct WhatIf {
    /// The sites that are in both configs.
    pub sites: Vec<WhatIfSite>,
}

/// What would change for the clients of a site.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhatIfSite {
    /// The site.
    pub site: String,
    /// Requests in a second of all clients.
    pub requests: f64,
    /// Those of clients that would be led to another region.
    pub moved: f64,
    /// The same as a part of all, 0 to 1.
    pub moved_part: f64,
    /// Requests of clients that get no answer.
    pub refused: BeforeAfter<f64>,
    /// Requests of clients that are led to a region that is gone, since all that they may be led to are. No region has them as
    /// load.
    pub stranded: BeforeAfter<f64>,
    /// Clients that are led out of the jurisdiction that the site is pinned to: none, or the program is at fault.
    pub violations: BeforeAfter<u64>,
    /// The regions of both configs, by name.
    pub regions: Vec<WhatIfRegion>,
}

/// A number before, and after.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct BeforeAfter<T> {
    /// Before.
    pub before: T,
    /// After.
    pub after: T,
}

/// A region's load from these clients.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhatIfRegion {
    /// The region.
    pub region: String,
    /// Requests in a second, before.
    pub before: f64,
    /// Requests in a second, after.
    pub after: f64,
    /// What it bears afterwards, if the config says so.
    pub capacity: Option<f64>,
    /// `after` as a part of `capacity`.
    pub load_part: Option<f64>,
}
