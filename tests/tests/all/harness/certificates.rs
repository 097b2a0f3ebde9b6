//! Certificates for sites and nodes as a test needs them: also such as no tool of ours would make.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

/// A CA for sites.
pub(crate) struct SiteCa {
    /// Its certificate.
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl SiteCa {
    /// Makes one.
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test CA for sites");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes `<stem>.crt` and `<stem>.key` for a host name into `dir`; `expired` ones ended in 2021.
    pub(crate) fn site(&self, dir: &Path, stem: &str, host: &str, time: Validity) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        time.apply(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(dir.join(format!("{stem}.crt")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{stem}.key")), key.serialize_pem()).unwrap();
    }
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Validity {
    /// Now.
    Now,
    /// Until 2021.
    Past,
}

impl Validity {
    fn apply(self, params: &mut CertificateParams) {
        if let Self::Past = self {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
    }
}

/// Writes an expired node certificate, signed by the CA that `meridian ca init` made in `ca`, over the one in `identity`.
pub(crate) fn expired_node(ca: &Path, identity: &Path, node: &str, uri: &str) {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let key = KeyPair::from_pem(&read(&ca.join("ca.key"))).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read(&ca.join("ca.pem")), key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, node);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.use_authority_key_identifier_extension = true;
    Validity::Past.apply(&mut params);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(identity.join(format!("{node}.pem")), certificate.pem()).unwrap();
    fs::write(identity.join(format!("{node}.key")), key.serialize_pem()).unwrap();
}
