//! The files that a configuration names: whether a node could start with them.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use region_config::{CertificateFiles, Config, Origin, Site, Zone};
use rules::residency;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::prelude::{ASN1Time, FromDer as _, Validity, X509Certificate};

use super::output::{shortened, with_causes};
use crate::{
    clock,
    dns::{Terms, signed::ZoneKey},
    geo::{Base, GeoFault, idle},
    ledger::credentials_fault,
    origin,
    peers::{ENDING_S, LoadedIdentity},
};

/// Most sites that are named in a sentence.
const SITES_TOLD: usize = 3;

/// What the files say, a sentence each.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Everything in them that keeps a node from starting, or from ever being ready.
    pub(super) faults: Vec<String>,
    /// What is odd in them, though a node could start with it. What one site would lack names the site.
    pub(super) warnings: Vec<String>,
}

/// Opens the files that a configuration names.
pub(super) fn check(config: &Config) -> Found {
    let mut found = Found::default();
    found.geo(config);
    found.dns(config);
    found.identity(config);
    found.door(config);
    found.streams(config);
    found.sites(config);
    found
}

impl Found {
    fn identity(&mut self, config: &Config) {
        let Some(files) = &config.node.identity else { return };
        match LoadedIdentity::load(config, clock::unix_ms()) {
            Ok(identity) => {
                let ends = ending(&files.certificate, identity.not_after_unix_s);
                self.warnings.extend(ends.map(|why| format!("[peer]: {why}")));
            }
            Err(fault) => self.faults.push(format!("[peer]: {}", with_causes(&fault))),
        }
    }

    fn geo(&mut self, config: &Config) {
        match Base::open(&config.node.geo) {
            // only where they are asked for
            Ok(base) if !config.node.dns.is_empty() => self.warnings.extend(idle(config, &base)),
            Ok(_) => {}
            Err(fault) => self.faults.push(format!("[geo]: {}{}", with_causes(&fault), expected_of(&fault))),
        }
    }

    fn dns(&mut self, config: &Config) {
        if config.node.dns.is_empty() {
            return;
        }
        if let Err(fault) = Terms::load(&config.node.dns_terms) {
            self.faults.push(format!("[dns]: {}", with_causes(&fault)));
        }
        for zone in &config.zones {
            self.faults.extend(zone_keys(zone).into_iter().map(|why| format!("zone `{}`: {why}", zone.name)));
        }
    }

    /// Applications would find no listener: a node does not start so. An old certificate is for them to judge.
    fn door(&mut self, config: &Config) {
        let Some(files) = config.node.purge.as_ref().and_then(|door| door.tls.as_ref()) else { return };
        match certificate(files) {
            Ok(validity) => {
                let old = in_its_time(&files.certificate, &validity).err();
                let old = old.or_else(|| ending(&files.certificate, validity.not_after.timestamp()));
                self.warnings.extend(old.map(|why| format!("[purge]: {why}")));
            }
            Err(why) => self.faults.push(format!("[purge]: {why}")),
        }
    }

    /// A node starts without them, but it hears no purge, and so is not ready.
    fn streams(&mut self, config: &Config) {
        for stream in &config.streams {
            let credentials = [&stream.credentials, &stream.system_credentials].into_iter().flatten();
            let mut found: Vec<_> = credentials.map(|path| login(path)).collect();
            found.extend(stream.ca.as_ref().map(|path| chain(path).map(drop)));
            found.extend(stream.identity.as_ref().map(|files| valid_certificate(files).map(drop)));
            for why in found.into_iter().filter_map(Result::err) {
                self.faults.push(format!("stream of realm `{}`: {why}", stream.realm));
            }
        }
    }

    /// What is wrong with one site's files is no reason not to serve the others: a node starts without them. Files of
    /// sites that are pinned elsewhere it does not open, and need not have.
    fn sites(&mut self, config: &Config) {
        let region = config.regions.iter().find(|region| region.name == config.node.region);
        let here = |site: &&Arc<Site>| region.is_some_and(|it| residency::permit(site, &it.jurisdiction).is_ok());
        let sites: Vec<&Arc<Site>> = config.sites.iter().filter(here).collect();
        let mut served: BTreeMap<_, Vec<&Site>> = BTreeMap::new();
        for site in sites.iter().filter(|_| !config.node.https.is_empty()) {
            let Some(files) = &site.tls else { continue };
            served.entry((&files.certificate, &files.key)).or_default().push(site);
        }
        for site in sites {
            let of_it = site.tls.as_ref().and_then(|files| served.remove(&(&files.certificate, &files.key)));
            // sites often share a certificate: once is enough
            if let (Some(files), Some(sharing)) = (&site.tls, of_it) {
                self.site_certificate(files, &sharing);
            }
            for origin in &site.origins {
                let about = format!("site `{}`: origin `{}`", site.name, origin.name);
                self.warnings.extend(origin_files(origin).into_iter().map(|why| format!("{about}: {why}")));
            }
        }
    }

    fn site_certificate(&mut self, files: &CertificateFiles, sharing: &[&Site]) {
        let names: Vec<String> = sharing.iter().map(|site| format!("site `{}`", site.name)).collect();
        let about = shortened(&names, SITES_TOLD);
        match valid_certificate(files) {
            Ok(validity) => {
                let ends = ending(&files.certificate, validity.not_after.timestamp());
                self.warnings.extend(ends.map(|why| format!("{about}: {why}")));
            }
            Err(why) => self.warnings.push(format!("{about}: {why}; served without TLS until that is put right")),
        }
    }
}

/// What is wrong with an origin's files, by the code that requests to it meet.
fn origin_files(origin: &Origin) -> Vec<String> {
    let unusable = origin::file_faults(origin);
    if !unusable.is_empty() {
        return unusable.into_iter().map(|why| format!("{why}; requests to it fail until that is put right")).collect();
    }
    let old = origin.identity.as_ref().and_then(|files| valid_certificate(files).err());
    old.map(|why| format!("{why}; it may refuse this node")).into_iter().collect()
}

/// What a file should be that cannot be used, where the fault itself does not say.
fn expected_of(fault: &GeoFault) -> &'static str {
    match fault {
        GeoFault::Read { .. } | GeoFault::Database { .. } => "; expected a MaxMind-format file (.mmdb)",
        GeoFault::Unmeasured { .. } => "; expected a text file with rows of `asn,country,region,ms,samples`",
        GeoFault::RoundTrips { .. } | GeoFault::Embedded(_) => "",
    }
}

/// What is wrong with a zone's keys. Each may stand in it once (RFC 2181 section 5), whatever its file is called.
fn zone_keys(zone: &Zone) -> Vec<String> {
    let (mut faults, mut known) = (Vec::new(), BTreeMap::new());
    for path in &zone.dnssec_keys {
        match ZoneKey::load(path) {
            Ok(key) => {
                if let Some(other) = known.insert(key.dnskey().to_vec(), path) {
                    let (path, other) = (path.display(), other.display());
                    faults.push(format!("`{path}` holds the same key as `{other}`; expected each one once"));
                }
            }
            Err(fault) => faults.push(with_causes(&fault)),
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

/// A certificate that can be used with its key: how long it is valid.
fn certificate(files: &CertificateFiles) -> Result<Validity, String> {
    let chain = chain(&files.certificate)?;
    let validity = validity(&files.certificate, chain.first())?;
    let pem = read(&files.key)?;
    let key_path = files.key.display();
    let key =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| format!("`{key_path}` holds no private key: {error}"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(validity),
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

fn validity(path: &Path, leaf: Option<&CertificateDer<'_>>) -> Result<Validity, String> {
    let parsed = leaf.and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let (_, parsed) = parsed.ok_or_else(|| format!("`{}` holds no certificate", path.display()))?;
    Ok(parsed.validity().clone())
}

/// A certificate that can be used with its key, now.
fn valid_certificate(files: &CertificateFiles) -> Result<Validity, String> {
    let validity = certificate(files)?;
    in_its_time(&files.certificate, &validity)?;
    Ok(validity)
}

/// What is to be said of a certificate that is still good, but not for long.
fn ending(path: &Path, not_after_s: i64) -> Option<String> {
    let ends = ASN1Time::from_timestamp(not_after_s).ok()?;
    let soon = not_after_s.saturating_sub(now_s()) < ENDING_S;
    soon.then(|| format!("the certificate in `{}` ends on {ends}", path.display()))
}

fn now_s() -> i64 {
    i64::try_from(clock::unix_ms() / 1000).unwrap_or(i64::MAX)
}

fn in_its_time(path: &Path, validity: &Validity) -> Result<(), String> {
    let now_s = now_s();
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
        assert!(valid_certificate(&good).is_ok());
        let told = |certificate_file: &Path, key: &Path| {
            let files = CertificateFiles { certificate: certificate_file.to_owned(), key: key.to_owned() };
            valid_certificate(&files).unwrap_err().replace(&dir.path().display().to_string(), "DIR")
        };
        assert!(told(&good.certificate, &other.key).starts_with("`DIR/other.key` does not fit `DIR/good.crt`"));
        assert!(told(&good.key, &good.key).contains("holds no certificate"));
        assert!(told(&good.certificate, &good.certificate).contains("holds no private key"));
        assert!(told(&old.certificate, &old.key).starts_with("the certificate in `DIR/old.crt` expired on "));
        assert!(told(&PathBuf::from("/nowhere"), &good.key).starts_with("`/nowhere` cannot be read: No such file"));
    }
    fn found(node: &str, sites: &str) -> Found {
        let text = format!(
            "[node]\nname = \"n1\"\n[http]\nlisten = \"127.0.0.1:8080\"\n{node}[peer]\nlisten = \"127.0.0.1:7400\"\n\
             ca = \"ca.crt\"\ncertificate = \"node.crt\"\nkey = \"node.key\"\n\
             [[jurisdictions]]\nname = \"eu\"\npreset = \"EU\"\n\
             [[regions]]\nname = \"east\"\nlatitude = 1\nlongitude = 2\njurisdiction = \"eu\"\n\
             nodes = [{{ name = \"n1\", peer = \"127.0.0.1:7400\", addresses = \"192.0.2.1\" }}]\n{sites}"
        );
        let mut config = region_config::check(&[("m.toml", &text)]).unwrap().config;
        config.node.identity = None;
        check(&config)
    }

    const DNS: &str = "[dns]\nlisten = \"127.0.0.1:5300\"\n";
    const SITE: &str = "[[sites]]\nname = \"s\"\nhosts = \"a.test\"\norigin = \"http://127.0.0.1:3000\"\n";

    /// An old certificate of one site kept every node from starting: the check comes before each start and reload, and
    /// called it a fault.
    #[test]
    fn what_one_site_would_lack_keeps_no_node_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let old = self_signed(dir.path(), "old", -1);
        fs::write(dir.path().join("empty"), "\n").unwrap();
        let at = |file: &str| dir.path().join(file).display().to_string();
        let tls = |files: &CertificateFiles| {
            let [certificate, key] = [&files.certificate, &files.key].map(|path| path.display().to_string());
            format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n")
        };
        let site = |name: &str, more: &str| format!("[[sites]]\nname = \"{name}\"\nhosts = \"{name}.test\"\n{more}");
        let origin = "origin = \"http://127.0.0.1:3000\"\n";
        let mut sites: String =
            ["a", "b", "c", "d", "e"].map(|name| site(name, &format!("{origin}{}", tls(&old)))).concat();
        let none = CertificateFiles { certificate: at("none").into(), key: at("none").into() };
        let elsewhere = format!("pin = \"us\"\n{origin}{}", tls(&none));
        sites += &site("elsewhere", &elsewhere);
        sites += &site("f", "");
        let (ca, empty, old) = (at("none"), at("empty"), tls(&old).replacen("tls", "identity", 1));
        for (name, more) in [
            ("ca", format!("ca = {ca:?}\n")),
            ("secret", format!("secret = {{ header = \"x-secret\", file = {empty:?} }}\n")),
            ("shown", old),
        ] {
            sites += &format!("[[sites.origins]]\nname = \"{name}\"\nurl = \"https://127.0.0.1:3000\"\n{more}");
        }
        let us = "[[jurisdictions]]\nname = \"us\"\ncountries = [\"US\"]\n[[regions]]\nname = \"west\"\n\
                  latitude = 1\nlongitude = 2\njurisdiction = \"us\"\n\
                  nodes = [{ name = \"n2\", peer = \"127.0.0.1:7401\", addresses = \"192.0.2.2\" }]\n";
        let https = "[https]\nlisten = \"127.0.0.1:8443\"\n";
        let said = found(https, &format!("{us}{sites}"));
        assert_eq!(said.faults, [""; 0]);
        let told: Vec<_> = said.warnings.iter().map(|it| it.replace(&at(""), "DIR/")).collect();
        let [tls, ca, secret, shown] = told.as_slice() else { panic!("{told:?}") };
        assert!(
            tls.starts_with("site `a`, site `b`, site `c` and 2 more: the certificate in `DIR/old.crt` expired on ")
        );
        assert!(tls.ends_with("; served without TLS until that is put right"), "{tls}");
        assert!(ca.starts_with("site `f`: origin `ca`: reading the CA certificates in DIR/none: "), "{ca}");
        assert!(ca.ends_with("; requests to it fail until that is put right"), "{ca}");
        assert!(secret.contains("origin `secret`: the first line of DIR/empty is no secret"), "{secret}");
        assert!(shown.contains("origin `shown`: the certificate in `DIR/old.crt` expired on "), "{shown}");
        assert!(shown.ends_with("; it may refuse this node"), "{shown}");
    }

    /// Five days before its end the check had no word for it.
    #[test]
    fn a_certificate_that_ends_soon_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let said = |days: i64| {
            let files = self_signed(dir.path(), "site", days);
            let [certificate, key] = [&files.certificate, &files.key].map(|path| path.display().to_string());
            let tls = format!("{SITE}tls = {{ certificate = {certificate:?}, key = {key:?} }}\n");
            let said = found("[https]\nlisten = \"127.0.0.1:8443\"\n", &tls);
            assert!(said.faults.is_empty(), "{said:?}");
            said.warnings.join("\n").replace(&dir.path().display().to_string(), "DIR")
        };
        for days in [1, 13] {
            assert!(said(days).starts_with("site `s`: the certificate in `DIR/site.crt` ends on "), "{days}");
        }
        assert_eq!(said(15), "");
    }

    /// The check was good, and the node did not start.
    #[test]
    fn the_certificate_of_the_purge_listener_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let [old, none] = [self_signed(dir.path(), "old", -1).certificate, dir.path().join("none")];
        let said = |certificate: &Path| {
            let [certificate, key] = [certificate, &dir.path().join("old.key")].map(|it| it.display().to_string());
            let tls = format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}");
            found(&format!("[purge]\nlisten = \"127.0.0.1:9181\"\n{tls}\n"), SITE)
        };
        let none = said(&none);
        assert!(matches!(none.faults.as_slice(), [it] if it.starts_with("[purge]: `")), "{none:?}");
        let old = said(&old);
        assert!(
            matches!(old.warnings.as_slice(), [it] if it.contains("expired on")) && old.faults.is_empty(),
            "{old:?}"
        );
    }

    /// The check was good, and the node did not start.
    #[test]
    fn the_secret_of_cookies_is_opened() {
        let said = found(&format!("{DNS}cookie_secret = \"/nowhere/cookie\"\n"), SITE);
        assert_eq!(said.faults, ["[dns]: cookie secrets /nowhere/cookie: No such file or directory (os error 2)"]);
        assert!(found(DNS, SITE).faults.is_empty());
    }

    /// Two identical DNSKEY records went out.
    #[test]
    fn a_zone_has_each_key_once_whatever_its_file_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let [one, copy, other] = ["one", "copy", "other"].map(|name| dir.path().join(name));
        for path in [&one, &other] {
            ZoneKey::make(path).unwrap();
        }
        fs::copy(&one, &copy).unwrap();
        let said = |keys: [&Path; 2]| {
            let keys = keys.map(|path| format!("{:?}", path.display().to_string())).join(", ");
            let zone = format!("[[zones]]\nname = \"test\"\ndnssec_keys = [{keys}]\n");
            found(DNS, &format!("{SITE}{zone}")).faults.join("\n").replace(&dir.path().display().to_string(), "DIR")
        };
        assert_eq!(
            said([&one, &copy]),
            "zone `test`: `DIR/copy` holds the same key as `DIR/one`; expected each one once"
        );
        assert_eq!(said([&one, &other]), "");
    }

    #[test]
    fn each_kind_of_geo_file_is_told_what_it_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let rows = dir.path().join("rt.csv");
        let said = |key: &str, path: &Path| {
            let told = found(&format!("[geo]\n{key} = {:?}\n", path.display().to_string()), SITE).faults.join("\n");
            told.replace(&dir.path().display().to_string(), "DIR")
        };
        assert_eq!(
            said("file", &rows),
            "[geo]: cannot read the geo database DIR/rt.csv: No such file or directory (os error 2); expected a \
             MaxMind-format file (.mmdb)"
        );
        assert_eq!(
            said("round_trips", &rows),
            "[geo]: cannot read the round trips DIR/rt.csv: No such file or directory (os error 2); expected a text file \
             with rows of `asn,country,region,ms,samples`"
        );
        fs::write(&rows, "1,DE,east,0,1\n").unwrap();
        assert_eq!(
            said("round_trips", &rows),
            "[geo]: DIR/rt.csv: line 1: found `0`, expected milliseconds, above 0 and up to 10000"
        );
    }

    /// A rule by AS number kept nobody anywhere where no database has AS numbers, and nothing was said; nor of rows of
    /// round trips that no client can match.
    #[test]
    fn what_applies_to_nobody_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let rows = dir.path().join("rt.csv");
        fs::write(&rows, "7,-,east,5,1\n-,ZZ,east,5,1\n-,DE,est,5,1\n").unwrap();
        let geo = format!("[geo]\nround_trips = {:?}\n", rows.display().to_string());
        let pins = "[[sites.steering.pins]]\nasn = 3320\nonly = \"east\"\n";
        let said = found(&format!("{DNS}{geo}"), &format!("{SITE}{pins}"));
        assert!(said.faults.is_empty(), "{said:?}");
        assert_eq!(
            said.warnings,
            [
                "rules for clients by `asn` apply to nobody, as the geo databases have no AS numbers: site `s`; expected a \
                 database that has them, such as `[geo] asn_file`",
                "round trips were measured to regions that are not in the config: `est`",
                "round trips were measured from countries that the geo databases have no addresses in: `ZZ`",
                "round trips were measured from networks, but the geo databases have no AS numbers",
            ]
        );
        assert!(found(&geo, &format!("{SITE}{pins}")).warnings.is_empty(), "no DNS");
        let by_country = pins.replace("asn = 3320", "country = \"DE\"");
        assert!(found(DNS, &format!("{SITE}{by_country}")).warnings.is_empty());
    }
}
