//! Another config, another geo database: taken while the node runs, one after the other.

use std::{path::Path, sync::Arc};

use region_config::{Config, Fault, Faults, Severity};

use super::{Running, geo_base, permits, shares};
use crate::{dns, edge::sites::Sites, geo};

impl Running {
    /// Takes the config folder anew; keeps everything as it is if there is a fault in it.
    pub(super) async fn reload(&self, config_dir: &Path) {
        let dir = config_dir.to_owned();
        let loaded = tokio::task::spawn_blocking(move || region_config::load(&dir)).await;
        match loaded {
            Ok(Ok(config)) => {
                self.learn_places(&config).await;
                let config = Arc::new(config);
                let view = self.view_of(Arc::clone(&config), self.shared.geo.load_full()).await;
                self.take(config, view);
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

    /// Loads the geo database if a new config asks for one that is not the one in use.
    async fn learn_places(&self, config: &Config) {
        if self.shared.geo.load().as_ref().is_some_and(|base| base.is_of(&config.node.geo)) {
            return;
        }
        match geo_base(config).await {
            Ok(Some(base)) => {
                tracing::info!("{}", base.describe());
                self.shared.geo.store(Some(base));
                self.geo.taken();
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "where clients are stays as it was known"),
        }
    }

    /// Puts another edition of the geo database in force.
    pub(super) async fn know_places(&self, base: &Arc<geo::Base>) {
        let config = self.shared.config.load_full();
        // read for a config that is no more
        if !base.is_of(&config.node.geo) {
            return;
        }
        match (&self.dns, self.view_of(config, Some(Arc::clone(base))).await) {
            (Some(dns), Some(view)) => {
                // what was begun later knows at least as much
                let _newer = dns::put(&dns.view, &view);
            }
            (None, _) => {}
            (Some(_), None) => return,
        }
        tracing::info!("the new geo database is in force: {}", base.describe());
        self.shared.geo.store(Some(Arc::clone(base)));
        self.geo.taken();
    }

    /// What DNS is to answer from with this config and database; none if it answers nothing, or cannot from these.
    async fn view_of(&self, config: Arc<Config>, base: Option<Arc<geo::Base>>) -> Option<Arc<dns::View>> {
        let base = base.filter(|_| self.dns.is_some())?;
        let load = Arc::clone(&self.shared.load);
        let compile = move || dns::View::compile(&config, &base).map(|view| load.share_out(view));
        let compiled = tokio::task::spawn_blocking(compile).await;
        match compiled {
            Ok(Ok(view)) => Some(Arc::new(view)),
            Ok(Err(fault)) => {
                tracing::error!(%fault, "DNS answers stay as they were");
                None
            }
            Err(error) => {
                tracing::error!(%error, "DNS answers stay as they were");
                None
            }
        }
    }

    /// Puts a checked config in force. Listeners, state folder and sizes keep what they were started with.
    fn take(&self, config: Arc<Config>, view: Option<Arc<dns::View>>) {
        let shared = &self.shared;
        let jurisdiction = &shared.here.jurisdiction;
        if let Err(fault) = shared.origins.replace(&config) {
            tracing::error!(%fault, "the config stays as it was");
            self.refuse(fault.to_string());
            return;
        }
        for fault in self.tls.replace(&config, &permits(&config, jurisdiction)) {
            tracing::error!(%fault, "a certificate");
        }
        if let Some(mesh) = &shared.mesh {
            mesh.replace(&config);
        }
        shared.health.replace(&config);
        if let Some(dns) = &self.dns {
            if let Some(view) = view
                && !dns::put(&dns.view, &view)
            {
                tracing::info!("a newer plan is in force already");
            }
            if let Some(Err(fault)) = dns.server.as_ref().map(|server| server.replace(&config.node.dns_terms)) {
                tracing::error!(%fault, "the terms of DNS stay as they were");
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
    }

    /// Whoever asks is told, until a config is taken: who wrote a fault rarely reads the log.
    fn refuse(&self, why: String) {
        self.shared.refused.store(Some(Arc::new(why)));
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
