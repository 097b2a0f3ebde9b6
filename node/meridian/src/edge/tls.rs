//! TLS for client listeners: certificates by host name, from files, replaced while connections go on.
//!
//! A site pinned elsewhere has no key here: keys are loaded only for sites that this node holds a [`Permit`] for.
//! A fault of one site's files takes TLS from that site alone, and not even from it while the certificate it had
//! before is still valid.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use region_config::{CertificateFiles, Config, HostPattern, Site, SiteId};
use rules::residency::Permit;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{StartHandshake, server::TlsStream};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::hello::{Alert, Hello};
use crate::clock;

/// Largest certificate or key file, in bytes.
const FILE_BYTES: u64 = 1024 * 1024;

/// TLS for the listeners of this node. Cheap to clone; all clones share the certificates.
#[derive(Debug, Clone)]
pub struct EdgeTls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

/// Why a site is without TLS, or keeps an older certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("site `{site}`: {}: {kind}{}", file.display(), if *kept { "; the certificate it had stays in use" } else { "; the site is served without TLS" })]
pub struct TlsFault {
    /// The site.
    pub site: SiteId,
    /// The file that is to be put right.
    pub file: PathBuf,
    /// What is wrong with it.
    pub kind: TlsFaultKind,
    /// Whether the certificate that was loaded before is still in use.
    pub kept: bool,
}

/// What is wrong with a certificate or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFaultKind {
    /// It is missing, or may not be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// It is larger than 1 MiB.
    #[error("larger than {FILE_BYTES} bytes: expected PEM with a certificate chain or a key")]
    TooLarge,
    /// It has no certificate.
    #[error("has no certificate: expected PEM with CERTIFICATE sections, the site's own first")]
    NoCertificate,
    /// It has no private key.
    #[error("has no private key: expected PEM with a PRIVATE KEY section")]
    NoKey,
    /// It cannot be understood.
    #[error("cannot be understood: {0}")]
    Malformed(String),
    /// The key is another certificate's.
    #[error("is not the key of the certificate in {}", certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The certificate is no longer valid.
    #[error("expired on {0}: expected a certificate that is valid now")]
    Expired(String),
    /// The certificate is not valid yet.
    #[error("is valid only from {0} on: expected a certificate that is valid now (is this node's clock right?)")]
    NotYetValid(String),
}

/// What is spoken over TLS, by ALPN; the best first. DNS says the same.
pub(crate) const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

impl EdgeTls {
    /// Loads the certificates of all sites that there is a permit for.
    ///
    /// Faults concern one site each; all others are served.
    ///
    /// # Errors
    /// [`rustls::Error`] if the cryptography provider cannot do TLS or make ticket keys.
    pub fn load(config: &Config, permits: &[Permit]) -> Result<(Self, Vec<TlsFault>), rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = Arc::new(Certificates::new(Arc::clone(&provider)));
        let faults = certificates.replace(config, permits, clock::unix_ms());
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificates>::clone(&certificates);
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // keys of its own, made anew every 6 hours; a ticket opens only for the name it was given for
        server.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok((Self { config: Arc::new(server), certificates }, faults))
    }

    /// What rustls needs; it follows every [`EdgeTls::replace`]. Through it, an unknown name gets access_denied; only
    /// [`EdgeTls::accept`] answers with unrecognized_name.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether there is a certificate for a host, or for clients that name none.
    #[must_use]
    pub fn serves(&self, host: Option<&str>) -> bool {
        self.certificates.table.load().find(host).is_some()
    }

    /// Loads all certificates again; connections that stand go on. A site whose new files are faulty keeps what it
    /// had for as long as that is valid. Reads files: not for a thread that serves requests.
    pub fn replace(&self, config: &Config, permits: &[Permit]) -> Vec<TlsFault> {
        self.certificates.replace(config, permits, clock::unix_ms())
    }

    /// Loads all certificates again if a file has changed since the last time, or a certificate has expired; none if
    /// not. To be called every few seconds. Reads files: not for a thread that serves requests.
    pub fn poll(&self, config: &Config, permits: &[Permit]) -> Option<Vec<TlsFault>> {
        let now_ms = clock::unix_ms();
        self.certificates.changed(now_ms).then(|| self.certificates.replace(config, permits, now_ms))
    }

    /// When each site's certificate in use expires, in seconds since the Unix epoch.
    #[must_use]
    pub fn expiries(&self) -> Vec<(SiteId, i64)> {
        let table = self.certificates.table.load();
        table.loaded.iter().map(|loaded| (loaded.site.clone(), loaded.not_after_s)).collect()
    }

    /// A handshake with a client. Clients that ask for a name not served here get the alert unrecognized_name
    /// (RFC 6066 section 3). The caller bounds the time.
    ///
    /// # Errors
    /// [`io::Error`] of the stream, or of the handshake.
    pub async fn accept<IO>(&self, stream: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.answer(Hello::read(stream).await?).await
    }

    /// The same, from where the client's first message has been read.
    ///
    /// # Errors
    /// [`io::Error`] of the stream, or of the handshake.
    pub(super) async fn answer<IO>(&self, hello: Hello<IO>) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        if self.serves(hello.name()) {
            let start = StartHandshake::from_parts(hello.accepted, hello.io);
            return start.into_stream(self.server_config()).await;
        }
        hello.refuse(Alert::UnrecognisedName).await?;
        Err(io::Error::new(io::ErrorKind::NotFound, "the client asked for a name that has no certificate here"))
    }
}

/// All certificates, swapped whole.
struct Certificates {
    provider: Arc<CryptoProvider>,
    table: ArcSwap<Table>,
}

/// Certificates by host name.
#[derive(Default)]
struct Table {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what comes after `*.`.
    suffixes: HashMap<String, Arc<CertifiedKey>>,
    any: Option<Arc<CertifiedKey>>,
    loaded: Vec<Loaded>,
    /// The files as they were when they were read.
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// A site's certificate in use.
#[derive(Clone)]
struct Loaded {
    site: SiteId,
    key: Arc<CertifiedKey>,
    not_after_s: i64,
}

/// What tells that a file has changed: when it was written, and its length.
type Stamp = (SystemTime, u64);

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sites: Vec<_> = self.table.load().loaded.iter().map(|loaded| loaded.site.clone()).collect();
        f.debug_struct("Certificates").field("sites", &sites).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.table.load().find(hello.server_name()).cloned()
    }
}

impl Certificates {
    fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, table: ArcSwap::default() }
    }

    fn replace(&self, config: &Config, permits: &[Permit], now_ms: u64) -> Vec<TlsFault> {
        let before = self.table.load_full();
        let (mut table, mut faults) = (Table::default(), Vec::new());
        for site in &config.sites {
            let permitted = permits.iter().any(|permit| *permit.site() == site.name);
            let Some(files) = site.tls.as_ref().filter(|_| permitted) else { continue };
            for file in [&files.certificate, &files.key] {
                table.files.push((file.clone(), stamp(file)));
            }
            match load(site, files, &self.provider, now_ms) {
                Ok(loaded) => table.add(site, loaded),
                Err(mut fault) => {
                    if let Some(old) = before.loaded.iter().find(|old| old.site == site.name && old.valid(now_ms)) {
                        fault.kept = true;
                        table.add(site, old.clone());
                    }
                    faults.push(fault);
                }
            }
        }
        self.table.store(Arc::new(table));
        faults
    }

    fn changed(&self, now_ms: u64) -> bool {
        let table = self.table.load();
        let touched = table.files.iter().any(|(file, before)| stamp(file) != *before);
        touched || table.loaded.iter().any(|loaded| !loaded.valid(now_ms))
    }
}

impl Table {
    /// Takes in a site's certificate for all of its hosts; a host that another site has stays with that one.
    fn add(&mut self, site: &Site, loaded: Loaded) {
        for host in &site.hosts {
            let key = Arc::clone(&loaded.key);
            match host {
                HostPattern::Exact(host) => drop(self.exact.entry(host.clone()).or_insert(key)),
                HostPattern::Suffix(suffix) => drop(self.suffixes.entry(suffix.clone()).or_insert(key)),
                HostPattern::Any => drop(self.any.get_or_insert(key)),
            }
        }
        self.loaded.push(loaded);
    }

    /// The certificate for a name: its own, that of its longest suffix, that of `*`. Clients without SNI (those that
    /// connect to an address) get that of `*`, or the only one there is.
    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let Some(name) = name else {
            let only = if let [only] = self.loaded.as_slice() { Some(&only.key) } else { None };
            return self.any.as_ref().or(only);
        };
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find(Some(&name.to_ascii_lowercase()));
        }
        let suffix = || {
            let mut rest = name;
            while let Some((_, shorter)) = rest.split_once('.') {
                if let Some(key) = self.suffixes.get(shorter) {
                    return Some(key);
                }
                rest = shorter;
            }
            None
        };
        self.exact.get(name).or_else(suffix).or(self.any.as_ref())
    }
}

impl Loaded {
    fn valid(&self, now_ms: u64) -> bool {
        self.not_after_s >= seconds(now_ms)
    }
}

/// Loads one site's certificate and key.
fn load(site: &Site, files: &CertificateFiles, provider: &CryptoProvider, now_ms: u64) -> Result<Loaded, TlsFault> {
    let fault = |file: &Path, kind| TlsFault { site: site.name.clone(), file: file.to_owned(), kind, kept: false };
    let in_certificate = |kind| fault(&files.certificate, kind);
    let in_key = |kind| fault(&files.key, kind);
    let chain = chain(&read(&files.certificate).map_err(in_certificate)?).map_err(in_certificate)?;
    let not_after_s = validity(&chain, seconds(now_ms)).map_err(in_certificate)?;
    let key = key(&read(&files.key).map_err(in_key)?).map_err(in_key)?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => in_key(TlsFaultKind::Mismatch { certificate: files.certificate.clone() }),
        other => in_key(TlsFaultKind::Malformed(other.to_string())),
    })?;
    Ok(Loaded { site: site.name.clone(), key: Arc::new(certified), not_after_s })
}

fn read(file: &Path) -> Result<Vec<u8>, TlsFaultKind> {
    let unreadable = |error: io::Error| TlsFaultKind::Unreadable(error.to_string());
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_BYTES {
        return Err(TlsFaultKind::TooLarge);
    }
    std::fs::read(file).map_err(unreadable)
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFaultKind> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| TlsFaultKind::Malformed(error.to_string()))?;
    if chain.is_empty() { Err(TlsFaultKind::NoCertificate) } else { Ok(chain) }
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsFaultKind> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => TlsFaultKind::NoKey,
        other => TlsFaultKind::Malformed(other.to_string()),
    })
}

/// Whether the first certificate is valid now; if so, until when, in seconds since the Unix epoch.
fn validity(chain: &[CertificateDer<'static>], now_s: i64) -> Result<i64, TlsFaultKind> {
    let leaf = chain.first().ok_or(TlsFaultKind::NoCertificate)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| TlsFaultKind::Malformed(error.to_string()))?;
    let validity = leaf.validity();
    if validity.not_after.timestamp() < now_s {
        return Err(TlsFaultKind::Expired(validity.not_after.to_string()));
    }
    if validity.not_before.timestamp() > now_s {
        return Err(TlsFaultKind::NotYetValid(validity.not_before.to_string()));
    }
    Ok(validity.not_after.timestamp())
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
