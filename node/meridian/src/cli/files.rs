//! The files that a configuration names: whether a node could start with them.

use std::{collections::BTreeSet, fs, path::Path};

use region_config::{CertificateFiles, Config};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::output::with_causes;
use crate::{clock, dns::signed::ZoneKey, geo::Base, ledger::credentials_fault, peers::LoadedIdentity};

/// Everything that is wrong with the files, a sentence each; those of a site name the site.
pub(super) fn check(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    if config.node.identity.is_some()
        && let Err(fault) = LoadedIdentity::load(config, clock::unix_ms())
    {
        faults.push(format!("[peer]: {}", with_causes(&fault)));
    }
    if let Err(fault) = Base::open(&config.node.geo) {
        faults.push(format!("[geo]: {}; expected a MaxMind-format file (.mmdb)", with_causes(&fault)));
    }
    for zone in config.zones.iter().filter(|_| !config.node.dns.is_empty()) {
        for fault in zone.dnssec_keys.iter().filter_map(|path| ZoneKey::load(path).err()) {
            faults.push(format!("zone `{}`: {}", zone.name, with_causes(&fault)));
        }
    }
    for stream in &config.streams {
        let credentials = [&stream.credentials, &stream.system_credentials].into_iter().flatten();
        let mut found: Vec<_> = credentials.map(|path| login(path)).collect();
        found.extend(stream.ca.as_ref().map(|path| chain(path).map(drop)));
        found.extend(stream.identity.as_ref().map(certificate));
        for why in found.into_iter().filter_map(Result::err) {
            faults.push(format!("stream of realm `{}`: {why}", stream.realm));
        }
    }
    let mut seen = BTreeSet::new();
    for site in &config.sites {
        let served = site.tls.as_ref().filter(|_| !config.node.https.is_empty());
        // sites often share a certificate: once is enough
        if let Some(files) = served.filter(|files| seen.insert((&files.certificate, &files.key)))
            && let Err(why) = certificate(files)
        {
            faults.push(format!("site `{}`: {why}", site.name));
        }
        for (origin, path) in site.origins.iter().filter_map(|origin| Some((origin, origin.ca.as_ref()?))) {
            if let Err(why) = chain(path) {
                faults.push(format!("site `{}`: origin `{}`: {why}", site.name, origin.name));
            }
        }
        for origin in &site.origins {
            let identity = origin.identity.as_ref().map_or(Ok(()), certificate);
            let secret = origin.secret.as_ref().map_or(Ok(()), |secret| read(&secret.file).map(drop));
            for why in [identity, secret].into_iter().filter_map(Result::err) {
                faults.push(format!("site `{}`: origin `{}`: {why}", site.name, origin.name));
            }
        }
    }
    faults
}

fn login(path: &Path) -> Result<(), String> {
    let text = read(path)?;
    match credentials_fault(&String::from_utf8_lossy(&text)) {
        Some(why) => Err(format!("the credentials in `{}` {why}", path.display())),
        None => Ok(()),
    }
}

fn certificate(files: &CertificateFiles) -> Result<(), String> {
    let chain = chain(&files.certificate)?;
    in_its_time(&files.certificate, chain.first())?;
    let pem = read(&files.key)?;
    let key_path = files.key.display();
    let key =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| format!("`{key_path}` holds no private key: {error}"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("`{key_path}` does not fit `{}`: {error}", files.certificate.display())),
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("`{}` holds no certificate; expected PEM", path.display())),
        Err(error) => Err(format!("`{}` holds no certificate: {error}; expected PEM", path.display())),
    }
}

fn in_its_time(path: &Path, leaf: Option<&CertificateDer<'_>>) -> Result<(), String> {
    let parsed = leaf.and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let Some((_, parsed)) = parsed else { return Err(format!("`{}` holds no certificate", path.display())) };
    let now_s = i64::try_from(clock::unix_ms() / 1000).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now_s > validity.not_after.timestamp() {
        return Err(format!("the certificate in `{}` expired on {}", path.display(), validity.not_after));
    }
    if now_s < validity.not_before.timestamp() {
        return Err(format!("the certificate in `{}` is valid only from {}", path.display(), validity.not_before));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::path::PathBuf;

    use super::*;

    fn self_signed(dir: &Path, name: &str, days_from_now: i64) -> CertificateFiles {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let now_s = i64::try_from(clock::unix_ms() / 1000).unwrap();
        params.not_before = x509_parser::time::ASN1Time::from_timestamp(now_s - 172_800).unwrap().to_datetime();
        params.not_after =
            x509_parser::time::ASN1Time::from_timestamp(now_s + days_from_now * 86_400).unwrap().to_datetime();
        let files =
            CertificateFiles { certificate: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
        fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_certificate_must_be_there_in_its_time_and_fit_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let (good, other, old) = (
            self_signed(dir.path(), "good", 1),
            self_signed(dir.path(), "other", 1),
            self_signed(dir.path(), "old", -1),
        );
        assert_eq!(certificate(&good), Ok(()));
        let told = |certificate_file: &Path, key: &Path| {
            let files = CertificateFiles { certificate: certificate_file.to_owned(), key: key.to_owned() };
            certificate(&files).unwrap_err().replace(&dir.path().display().to_string(), "DIR")
        };
        assert!(told(&good.certificate, &other.key).starts_with("`DIR/other.key` does not fit `DIR/good.crt`"));
        assert!(told(&good.key, &good.key).contains("holds no certificate"));
        assert!(told(&good.certificate, &good.certificate).contains("holds no private key"));
        assert!(told(&old.certificate, &old.key).starts_with("the certificate in `DIR/old.crt` expired on "));
        assert!(told(&PathBuf::from("/nowhere"), &good.key).starts_with("`/nowhere` cannot be read: No such file"));
    }
}
