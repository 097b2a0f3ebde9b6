//! Another config, another geo database: taken while the node runs, one after the other.

use std::{path::Path, sync::Arc};

use region_config::{Config, Fault, Faults, Severity};
use tokio::task::JoinError;

use super::{Running, geo_base, permits, shares};
use crate::{
    dns::{self, TermsFault, ViewFault},
    edge::sites::Sites,
    geo::{self, GeoFault},
    origin::OriginFault,
    snapshot::Here,
};

/// Why a config is not taken though there is no fault in it.
#[derive(Debug, thiserror::Error)]
enum Hindrance {
    #[error(
        "it says that this is {what} `{found}`; expected `{expected}`: who a node is changes by a restart alone, with a \
         certificate that says so too"
    )]
    Identity { what: &'static str, found: String, expected: String },
    #[error(transparent)]
    Geo(#[from] GeoFault),
    #[error(transparent)]
    View(#[from] ViewFault),
    #[error(transparent)]
    Terms(#[from] TermsFault),
    #[error(transparent)]
    Origins(#[from] OriginFault),
    #[error("working on it: {0}")]
    Work(#[from] JoinError),
}

/// What a config needs besides itself, made ready before any of it is in force.
struct Prepared {
    config: Arc<Config>,
    /// Another database than the one in use, if the config asks for one.
    base: Option<Arc<geo::Base>>,
    /// None for a node that neither answers DNS nor counts for those that do.
    view: Option<Arc<dns::View>>,
    /// None for a node that answers no DNS.
    terms: Option<dns::Terms>,
}

impl Running {
    /// Takes the config folder anew; keeps everything as it is if there is a fault in it.
    pub(super) async fn reload(&self, config_dir: &Path) {
        let dir = config_dir.to_owned();
        let loaded = tokio::task::spawn_blocking(move || region_config::load(&dir)).await;
        match loaded {
            Ok(Ok(config)) => {
                let taken = match self.prepare(Arc::new(config)).await {
                    Ok(prepared) => self.take(prepared),
                    Err(hindrance) => Err(hindrance),
                };
                if let Err(hindrance) = taken {
                    tracing::error!(%hindrance, "the config cannot be taken, and what was in force stays so");
                    self.refuse(hindrance.to_string());
                }
                self.geo.nudge();
            }
            Ok(Err(faults)) => {
                tracing::error!("the config has faults, and what was in force stays so:\n{faults}");
                self.refuse(shortly(&faults));
            }
            Err(error) => {
                tracing::error!(%error, "reading the config");
                self.refuse(format!("reading it: {error}"));
            }
        }
        if let Some(log) = self.shared.observe.access_log() {
            log.reopen();
        }
    }

    /// Makes ready all that could keep a config from being taken: a config is taken whole or not at all.
    async fn prepare(&self, config: Arc<Config>) -> Result<Prepared, Hindrance> {
        same_identity(&config, &self.shared.here)?;
        let base = self.other_places(&config).await?;
        let places = base.clone().or_else(|| self.shared.geo.load_full());
        let view = self.view_of(Arc::clone(&config), places).await?;
        let server = self.dns.as_ref().and_then(|dns| dns.server.as_ref());
        let terms = server.map(|server| server.terms(&config.node.dns_terms)).transpose()?;
        Ok(Prepared { config, base, view, terms })
    }

    /// The geo database that a new config asks for, if that is not the one in use.
    async fn other_places(&self, config: &Arc<Config>) -> Result<Option<Arc<geo::Base>>, Hindrance> {
        if self.shared.geo.load().as_ref().is_some_and(|base| base.is_of(&config.node.geo)) {
            return Ok(None);
        }
        let config = Arc::clone(config);
        Ok(tokio::task::spawn_blocking(move || geo_base(&config)).await??)
    }

    /// Puts another edition of the geo database in force.
    pub(super) async fn know_places(&self, base: &Arc<geo::Base>) {
        let config = self.shared.config.load_full();
        // read for a config that is no more
        if !base.is_of(&config.node.geo) {
            return;
        }
        let view = match self.view_of(config, Some(Arc::clone(base))).await {
            Ok(view) => view,
            Err(hindrance) => return tracing::error!(%hindrance, "DNS answers stay as they were"),
        };
        if let Some((dns, view)) = self.dns.as_ref().zip(view) {
            // what was begun later knows at least as much
            let _newer = dns::put(&dns.view, &view);
        }
        self.places_known(base);
    }

    fn places_known(&self, base: &Arc<geo::Base>) {
        tracing::info!("the new geo database is in force: {}", base.describe());
        self.shared.geo.store(Some(Arc::clone(base)));
        self.geo.taken();
    }

    /// What DNS is to answer from with this config and database; none if nobody asks for it.
    async fn view_of(
        &self,
        config: Arc<Config>,
        base: Option<Arc<geo::Base>>,
    ) -> Result<Option<Arc<dns::View>>, Hindrance> {
        let Some(base) = base.filter(|_| self.dns.is_some()) else { return Ok(None) };
        let load = Arc::clone(&self.shared.load);
        let compile = move || dns::View::compile(&config, &base).map(|view| load.share_out(view));
        Ok(Some(Arc::new(tokio::task::spawn_blocking(compile).await??)))
    }

    /// Puts a config in force. Listeners, state folder and sizes keep what they were started with.
    fn take(&self, prepared: Prepared) -> Result<(), Hindrance> {
        let Prepared { config, base, view, terms } = prepared;
        let shared = &self.shared;
        let jurisdiction = &shared.here.jurisdiction;
        // the last that can fail
        shared.origins.replace(&config)?;
        for fault in self.tls.replace(&config, &permits(&config, jurisdiction)) {
            tracing::error!(%fault, "a certificate");
        }
        if let Some(mesh) = &shared.mesh {
            mesh.replace(&config);
        }
        if let Some(base) = base {
            self.places_known(&base);
        }
        shared.health.replace(&config);
        if let Some(dns) = &self.dns {
            if let Some(view) = view
                && !dns::put(&dns.view, &view)
            {
                tracing::info!("a newer plan is in force already");
            }
            if let Some((server, terms)) = dns.server.as_ref().zip(terms) {
                server.replace(terms);
            }
        }
        shared.ledgers.replace(&config);
        shared.objects.share(&shares(&config));
        let sites = Sites::compile(&config, jurisdiction, &shared.ledgers, &shared.observe);
        shared.sites.store(Arc::new(sites));
        shared.observe.trails().keep_only(&permits(&config, jurisdiction));
        shared.config.store(config);
        shared.refused.store(None);
        tracing::info!("the new config is in force");
        for what in shared.restart_due() {
            tracing::warn!("{what}");
        }
        Ok(())
    }

    /// Whoever asks is told, until a config is taken: who wrote a fault rarely reads the log.
    fn refuse(&self, why: String) {
        self.shared.refused.store(Some(Arc::new(why)));
    }
}

/// Whether a config says of this node what it was started as, and is certified for.
fn same_identity(config: &Config, here: &Here) -> Result<(), Hindrance> {
    let region = config.regions.iter().find(|region| region.name == config.node.region);
    let jurisdiction = region.map(|region| region.jurisdiction.to_string()).unwrap_or_default();
    let claims = [
        ("node", config.node.name.to_string(), here.node.to_string()),
        ("a node of region", config.node.region.to_string(), here.region.to_string()),
        ("a node of jurisdiction", jurisdiction, here.jurisdiction.to_string()),
    ];
    match claims.into_iter().find(|(_, found, expected)| found != expected) {
        Some((what, found, expected)) => Err(Hindrance::Identity { what, found, expected }),
        None => Ok(()),
    }
}

/// The first of the faults, and how many there are.
fn shortly(faults: &Faults) -> String {
    let errors: Vec<&Fault> = faults.list().iter().filter(|fault| fault.severity() == Severity::Error).collect();
    let first = errors.first().map(ToString::to_string).unwrap_or_default();
    match errors.len() + faults.more() {
        0 | 1 => first,
        count => format!("{first} (the first of {count})"),
    }
}
