//! What is done on a route: lifetimes, what is in the key, what is brought into one form. A route that says nothing
//! of a thing has `None` for it, so that a request pays for what its route declares only.

/// What is done on a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether responses are kept.
    pub cache: CacheMode,
    /// What kind of thing is served here: rules for lifetimes and for stale answers.
    pub class: Class,
    /// Lifetime for responses that name none, in seconds; none means they are not reused without asking.
    pub default_ttl_s: Option<u32>,
    /// The shortest lifetime, in seconds, where the response names one and is no error.
    pub ttl_min_s: u32,
    /// So long after a purge is acknowledged, nothing older than it is served here, whatever is cut off, in ms; none means
    /// that a node which hears of no purges serves on, and says so.
    pub max_staleness_ms: Option<u64>,
    /// The longest lifetime, in seconds; none means no bound.
    pub ttl_max_s: Option<u32>,
    /// The lifetime whatever the response names, in seconds, for what is no error and may be kept at all.
    pub ttl_s: Option<u32>,
    /// The lifetimes of errors.
    pub negative: NegativeTtl,
    /// Whether a lifetime is guessed from `Last-Modified` (RFC 9111 section 4.2.2) where none is named.
    pub heuristic: bool,
    /// For how long past its lifetime a response may be served when the origin cannot be reached, in seconds,
    /// where the response itself does not say (RFC 5861 section 4); RFC 9111 section 4.2.4 allows it.
    pub stale_if_error_s: u32,
    /// Whether stored responses of kinds that get smaller are coded for clients that accept it.
    pub compress: bool,
    /// Whether what is asked for often is fetched anew before its lifetime is over.
    pub refresh_ahead: bool,
    /// Whether a client's `Cache-Control` counts (RFC 9111 section 5.2.1): then clients can make the cache ask.
    pub honour_request_cache_control: bool,
    /// Variants of one URL that are kept at a time.
    pub variants_max: u32,
    /// What is left of a query; none means all of it, as it came.
    pub query: Option<Box<QueryRules>>,
    /// What of a request is in the key beside its URL; none means nothing.
    pub key: Option<Box<KeyRules>>,
    /// Fields that are brought into one form; none means none are.
    pub normalise: Option<Box<Normalise>>,
}

/// The variants of one URL that are kept at a time, where the route does not say.
pub const VARIANTS_MAX: u32 = 64;

impl Default for Policy {
    fn default() -> Self {
        Self {
            cache: CacheMode::Origin,
            class: Class::Standard,
            default_ttl_s: None,
            max_staleness_ms: None,
            ttl_min_s: 0,
            ttl_max_s: None,
            ttl_s: None,
            negative: NegativeTtl::default(),
            heuristic: false,
            stale_if_error_s: 86_400,
            compress: false,
            refresh_ahead: false,
            honour_request_cache_control: false,
            variants_max: VARIANTS_MAX,
            query: None,
            key: None,
            normalise: None,
        }
    }
}

/// Whether a route keeps responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// As the origin's own headers say.
    Origin,
    /// Never; everything passes.
    Off,
}

/// What kind of thing a route serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Files that change with their name: lifetimes are guessed where none is named, errors are always kept shortly, and
    /// what looks like a file but is none is not kept.
    Static,
    /// As the origin's headers say.
    Standard,
    /// Permissions, prices, states of accounts: never served stale, and never longer than the bound after a purge.
    Tight,
    /// Never kept.
    Live,
}

impl Class {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Standard => "standard",
            Self::Tight => "tight",
            Self::Live => "live",
        }
    }
}

/// The lifetimes of errors, in seconds. A time that is given bounds what the response names, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NegativeTtl {
    /// 404 and 410.
    pub not_found_s: Option<u32>,
    /// Other 4xx. It bounds 401, 403, 407 and 429, and gives them no lifetime.
    pub client_error_s: Option<u32>,
    /// 5xx and above.
    pub server_error_s: Option<u32>,
}

/// What is left of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryRules {
    /// By their names.
    pub names: QueryNames,
    /// Whether parameters are put in the order of their names; those of one name keep theirs.
    pub sort: bool,
    /// Whether the parameters that only track people are left out.
    pub drop_tracking: bool,
}

/// Which parameters are left in a query. A name may end with `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryNames {
    /// All.
    All,
    /// These only.
    Allow(Vec<String>),
    /// All but these.
    Deny(Vec<String>),
}

/// What of a request is in the key beside its URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// Fields, lower case, sorted.
    pub headers: Vec<String>,
    /// Cookies, sorted; if there are any, no others go to the origin.
    pub cookies: Vec<String>,
    /// The client's country.
    pub country: bool,
    /// The client's class of device.
    pub device: bool,
}

/// Fields that are brought into one form before anything is looked up or asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Normalise {
    /// Whether `Accept-Encoding` becomes those of the common codings that it takes.
    pub accept_encoding: bool,
    /// The languages of which `Accept-Language` becomes the best one, lower case; empty leaves it.
    pub accept_language: Vec<String>,
}
