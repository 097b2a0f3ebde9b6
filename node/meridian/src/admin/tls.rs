//! HTTPS for applications that order purges. A new certificate is taken from the disk without a restart.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use region_config::CertificateFiles;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::tasks::Tasks;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Why there is no HTTPS.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of the purge listener, `{}`: {why}", certificate.display())]
pub struct DoorTlsFault {
    certificate: std::path::PathBuf,
    why: String,
}

/// The certificate in force.
#[derive(Debug)]
pub struct DoorTls {
    files: CertificateFiles,
    current: ArcSwap<ServerConfig>,
}

impl DoorTls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// If they cannot be read, or do not fit each other.
    pub fn load(files: CertificateFiles) -> Result<Arc<Self>, DoorTlsFault> {
        let current = ArcSwap::from_pointee(read(&files)?);
        Ok(Arc::new(Self { files, current }))
    }

    /// What the next handshake uses.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Takes what is new on the disk, until the owner stops.
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let tls = Arc::clone(self);
        tasks.spawn_until_stopped("purge-certificate", async move {
            let mut seen = stamps(&tls.files);
            loop {
                tokio::time::sleep(EVERY).await;
                let now = stamps(&tls.files);
                if now == seen {
                    continue;
                }
                match read(&tls.files) {
                    Ok(config) => {
                        tls.current.store(Arc::new(config));
                        seen = now;
                        tracing::info!("took up the renewed certificate of the purge listener");
                    }
                    // a half-written pair of files is whole the next time
                    Err(fault) => tracing::warn!(%fault, "the old certificate stays in use"),
                }
            }
        });
    }
}

fn read(files: &CertificateFiles) -> Result<ServerConfig, DoorTlsFault> {
    let fault = |why: String| DoorTlsFault { certificate: files.certificate.clone(), why };
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| fault(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| fault(format!("its key: {error}")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| fault(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Last changes of the files, so far as they can be seen.
fn stamps(files: &CertificateFiles) -> [Option<SystemTime>; 2] {
    let stamp = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    [stamp(&files.certificate), stamp(&files.key)]
}
