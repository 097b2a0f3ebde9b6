//! Asking DNS for the addresses of an origin, and for how long they hold.
//!
//! A resolver is made for each question: the system's files (`hosts`, `resolv.conf`) count as they are then, and nothing
//! is kept between questions. They are few: one per name and lifetime.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    Resolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    system_conf::read_system_conf,
};

/// Time for one question to one server; there are two tries.
const TRY: Duration = Duration::from_millis(1_500);

/// Where names are asked for.
#[derive(Debug, Clone)]
pub(super) struct Resolvers {
    /// The operator's; none means the system's.
    servers: Arc<[SocketAddr]>,
}

/// What a name says.
#[derive(Debug)]
pub(super) struct Resolved {
    /// IPv4 and IPv6, in the order of the answers.
    pub(super) addresses: Vec<IpAddr>,
    /// Until when it says so.
    pub(super) until: Instant,
}

impl Resolvers {
    /// These servers, or the system's if there are none.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        Self { servers: servers.into() }
    }

    /// The addresses of a host. The caller bounds the wait.
    ///
    /// # Errors
    /// Why there are none, for the operator.
    pub(super) async fn ask(&self, host: &str) -> Result<Resolved, String> {
        let (config, options) = self.settings();
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        let found = resolver.lookup_ip(host).await.map_err(|error| error.to_string())?;
        let addresses: Vec<_> = found.iter().collect();
        if addresses.is_empty() {
            return Err("the name has no address".to_owned());
        }
        Ok(Resolved { addresses, until: found.valid_until() })
    }

    fn settings(&self) -> (ResolverConfig, ResolverOpts) {
        // like the C library, a system that names no servers means the one on this machine
        let local = || (config_of(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 53))]), ResolverOpts::default());
        let (config, mut options) = match &*self.servers {
            [] => read_system_conf().unwrap_or_else(|_| local()),
            servers => (config_of(servers), ResolverOpts::default()),
        };
        options.timeout = TRY;
        options.attempts = 1;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        (config, options)
    }
}

fn config_of(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let on_port = |mut connection: ConnectionConfig| {
            connection.port = address.port();
            connection
        };
        let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
        NameServerConfig::new(address.ip(), true, connections)
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect())
}
