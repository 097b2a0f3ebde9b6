//! Handshakes of a real client with certificates made on the spot.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use region_config::{JurisdictionId, Limits, NodeConfig, NodeId, Region, RegionId, TenantId};
use rules::residency::permit;
use rustls::{AlertDescription, ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;

use super::*;
use crate::tasks::Tasks;

/// A CA, and a folder for what it issues.
struct Office {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    authority: CertificateDer<'static>,
}

impl Office {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().der().clone();
        Self { dir: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), authority }
    }

    fn files(&self, name: &str) -> CertificateFiles {
        let file = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        CertificateFiles { certificate: file("crt"), key: file("key") }
    }

    /// Writes a certificate for `hosts`, valid in these years, and its key.
    fn issue_for(&self, name: &str, hosts: &[&str], years: (i32, i32)) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = self.files(name);
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn issue(&self, name: &str, hosts: &[&str]) -> CertificateFiles {
        self.issue_for(name, hosts, (2020, 4000))
    }
}

fn site(name: &str, hosts: Vec<HostPattern>, tls: CertificateFiles) -> Site {
    Site {
        name: SiteId::parse(name).unwrap(),
        tenant: TenantId::parse("acme").unwrap(),
        hosts,
        pin: None,
        origins: Vec::new(),
        routes: Vec::new(),
        tls: Some(tls),
        dns_ttl_s: 30,
        steering: region_config::SiteSteering::default(),
        https_port: 443,
        purge_by_response: false,
        misrouted_to: None,
        misrouted_tls: region_config::MisroutedTls::Refuse,
        cache_status: region_config::StatusFor::All,
        failover_on: Vec::new(),
    }
}

fn exact(host: &str) -> HostPattern {
    HostPattern::Exact(host.into())
}

fn config(sites: Vec<Site>) -> Config {
    let region = RegionId::parse("north").unwrap();
    Config {
        node: NodeConfig {
            name: NodeId::parse("n1").unwrap(),
            region: region.clone(),
            state_dir: PathBuf::new(),
            http: Vec::new(),
            https: Vec::new(),
            dns: Vec::new(),
            dns_terms: region_config::DnsTerms::default(),
            admin: None,
            peer: None,
            identity: None,
            workers: 1,
            memory_bytes: 0,
            disk_bytes: 0,
            geo: region_config::Geo::default(),
            access_log: None,
            purge: None,
            resolvers: Vec::new(),
            limits: Limits::default(),
        },
        jurisdictions: Vec::new(),
        regions: vec![Region {
            name: region,
            latitude: 0.0,
            longitude: 0.0,
            jurisdiction: eu(),
            capacity_per_second: None,
            nodes: Vec::new(),
        }],
        zones: Vec::new(),
        tenants: Vec::new(),
        sites: sites.into_iter().map(Arc::new).collect(),
        tokens: Vec::new(),
        witnesses: Vec::new(),
        streams: Vec::new(),
        fingerprint: [0; 32],
    }
}

fn eu() -> JurisdictionId {
    JurisdictionId::parse("eu").unwrap()
}

/// The permits of a node certified for `eu`.
fn permits(config: &Config) -> Vec<Permit> {
    config.sites.iter().filter_map(|site| permit(site, &eu()).ok()).collect()
}

fn load(config: &Config) -> (EdgeTls, Vec<TlsFault>) {
    EdgeTls::load(config, &permits(config)).unwrap()
}

/// What a client saw: the certificate, the ALPN protocol, the version.
type Seen = (CertificateDer<'static>, Option<Vec<u8>>, rustls::ProtocolVersion);

/// One handshake with a client that trusts the office's CA and speaks `versions`.
async fn shake(
    office: &Office,
    tls: &EdgeTls,
    name: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Seen, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(office.authority.clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let (near, far) = tokio::io::duplex(64 * 1024);
    let tls = tls.clone();
    let serving = Tasks::new().spawn("server", async move { tls.accept(far).await });
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let result = TlsConnector::from(Arc::new(client)).connect(name, near).await;
    let served = serving.await.unwrap();
    match result {
        Ok(stream) => {
            assert!(served.is_ok());
            let session = stream.get_ref().1;
            let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
            let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
            Ok((certificate, alpn, session.protocol_version().unwrap()))
        }
        Err(error) => Err(error.into_inner().unwrap().downcast_ref::<rustls::Error>().unwrap().clone()),
    }
}

fn certificate_in(files: &CertificateFiles) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files.certificate).unwrap()
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

#[tokio::test]
async fn each_name_gets_its_own_certificate() {
    let office = Office::new();
    let shop = office.issue("shop", &["shop.test", "www.shop.test"]);
    let wild = office.issue("wild", &["*.wild.test", "a.b.wild.test"]);
    let deep = office.issue("deep", &["*.deep.wild.test"]);
    let suffix = |suffix: &str| vec![HostPattern::Suffix(suffix.into())];
    let (tls, faults) = load(&config(vec![
        site("shop", vec![exact("shop.test"), exact("www.shop.test")], shop.clone()),
        site("wild", suffix("wild.test"), wild.clone()),
        site("deep", suffix("deep.wild.test"), deep.clone()),
    ]));
    assert_eq!(faults, []);
    for (name, files) in [
        ("shop.test", &shop),
        ("SHOP.test", &shop),
        ("www.shop.test", &shop),
        ("x.wild.test", &wild),
        ("a.b.wild.test", &wild),
        ("y.deep.wild.test", &deep),
    ] {
        let (certificate, alpn, _) = shake(&office, &tls, name, BOTH).await.unwrap();
        assert_eq!(certificate, certificate_in(files), "{name}");
        assert_eq!(alpn.as_deref(), Some(&b"h2"[..]));
    }
    assert_eq!(tls.expiries().len(), 3);
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let office = Office::new();
    let files = office.issue("shop", &["shop.test"]);
    let (tls, _) = load(&config(vec![site("shop", vec![exact("shop.test")], files)]));
    for version in BOTH {
        let (_, _, spoken) = shake(&office, &tls, "shop.test", &[*version]).await.unwrap();
        assert_eq!(spoken, version.version);
    }
}

#[tokio::test]
async fn a_name_that_is_not_served_gets_unrecognized_name() {
    let office = Office::new();
    let files = office.issue("shop", &["shop.test"]);
    let (tls, _) = load(&config(vec![site("shop", vec![exact("shop.test")], files)]));
    for version in BOTH {
        for name in ["other.test", "sub.shop.test", "test"] {
            let error = shake(&office, &tls, name, &[*version]).await.unwrap_err();
            assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::UnrecognisedName), "{name}");
        }
    }
}

#[tokio::test]
async fn a_client_that_names_no_host_gets_the_only_certificate_there_is() {
    let office = Office::new();
    let files = office.issue("shop", &["127.0.0.1"]);
    let one = vec![site("shop", vec![exact("127.0.0.1")], files)];
    let (tls, _) = load(&config(one.clone()));
    assert!(shake(&office, &tls, "127.0.0.1", BOTH).await.is_ok());
    let more = site("other", vec![exact("other.test")], office.issue("other", &["other.test"]));
    tls.replace(&config([one, vec![more]].concat()), &permits(&config(vec![])));
    assert!(shake(&office, &tls, "127.0.0.1", BOTH).await.is_err());
}

#[tokio::test]
async fn a_site_pinned_elsewhere_has_no_key_here() {
    let office = Office::new();
    let mut pinned = site("pinned", vec![exact("pinned.test")], office.files("never-read"));
    pinned.pin = Some(JurisdictionId::parse("us").unwrap());
    let config = config(vec![pinned]);
    let (tls, faults) = load(&config);
    assert_eq!(faults, [], "its files are not even looked for");
    assert!(!tls.serves(Some("pinned.test")));
    assert!(shake(&office, &tls, "pinned.test", BOTH).await.is_err());
}

#[tokio::test]
async fn new_files_are_taken_up_and_faulty_ones_leave_the_old_in_use() {
    let office = Office::new();
    let files = office.issue("shop", &["shop.test"]);
    let config = config(vec![site("shop", vec![exact("shop.test")], files.clone())]);
    let (tls, _) = load(&config);
    let first = shake(&office, &tls, "shop.test", BOTH).await.unwrap().0;
    assert_eq!(tls.poll(&config, &permits(&config)), None, "nothing has changed");

    office.issue("shop", &["shop.test", "more.shop.test"]);
    assert_eq!(tls.poll(&config, &permits(&config)), Some(vec![]));
    let second = shake(&office, &tls, "shop.test", BOTH).await.unwrap().0;
    assert_ne!(first, second);
    assert_eq!(second, certificate_in(&files));

    fs::write(&files.certificate, "half a cert").unwrap();
    let faults = tls.poll(&config, &permits(&config)).unwrap();
    assert_eq!((faults.len(), &faults[0].kind, faults[0].kept), (1, &TlsFaultKind::NoCertificate, true));
    assert_eq!(shake(&office, &tls, "shop.test", BOTH).await.unwrap().0, second);

    assert_eq!(tls.replace(&self::config(vec![]), &[]), []);
    assert!(shake(&office, &tls, "shop.test", BOTH).await.is_err(), "a site that has gone takes its key with it");
}

#[tokio::test]
async fn a_fault_names_its_file_and_stops_no_other_site() {
    let office = Office::new();
    let own = |name: &str| vec![exact(&format!("{name}.test"))];
    let good = office.issue("good", &["good.test"]);
    let expired = office.issue_for("expired", &["expired.test"], (2001, 2002));
    let early = office.issue_for("early", &["early.test"], (3000, 3001));
    let mixed = CertificateFiles { key: good.key.clone(), ..office.issue("mixed", &["mixed.test"]) };
    let keyless = office.issue("keyless", &["keyless.test"]);
    fs::write(&keyless.key, "").unwrap();
    let large = office.issue("large", &["large.test"]);
    fs::write(&large.certificate, vec![b' '; 2 << 20]).unwrap();
    let sites = [
        ("expired", expired),
        ("early", early),
        ("mixed", mixed),
        ("keyless", keyless),
        ("large", large),
        ("missing", office.files("missing")),
        ("good", good.clone()),
    ];
    let (tls, faults) = load(&config(sites.into_iter().map(|(name, files)| site(name, own(name), files)).collect()));
    let expected = [
        ("expired.crt", "expired on Jan  1 00:00:00 2002"),
        ("early.crt", "is valid only from Jan  1 00:00:00 3000"),
        ("good.key", "is not the key of the certificate in"),
        ("keyless.key", "has no private key"),
        ("large.crt", "larger than 1048576 bytes"),
        ("missing.crt", "cannot be read: No such file"),
    ];
    assert_eq!(faults.len(), expected.len());
    for (fault, (file, words)) in faults.iter().zip(expected) {
        let text = fault.to_string();
        assert!(fault.file.ends_with(file) && text.contains(file) && text.contains(words), "{text}");
        assert!(text.ends_with("the site is served without TLS"), "{text}");
    }
    assert_eq!(shake(&office, &tls, "good.test", BOTH).await.unwrap().0, certificate_in(&good));
    assert!(!tls.serves(Some("expired.test")));
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_session() {
    let office = Office::new();
    let files = office.issue("shop", &["shop.test"]);
    let (tls, _) = load(&config(vec![site("shop", vec![exact("shop.test")], files)]));
    let mut roots = RootCertStore::empty();
    roots.add(office.authority.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = tls.clone();
        let serving = Tasks::new().spawn("server", async move {
            let mut stream = server.accept(far).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut stream = connector.connect(ServerName::try_from("shop.test").unwrap(), near).await.unwrap();
        tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        serving.await.unwrap();
    }
    assert_eq!(kinds[1], rustls::HandshakeKind::Resumed, "{kinds:?}");
}
