//! The six nodes: their configurations and certificates, made from the example.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use region_config::{Config, JurisdictionId, NodeId, RegionId};

use super::DemoFault;
use crate::peers::ca;

/// The CA that signed the sites' certificate, in the work folder.
pub(super) const WEB_CA: &str = "fleet/tls/web-ca.pem";

/// Says that a folder is a demo's, and may be emptied.
const MARK: &str = ".meridian-demo";

/// The node that the example's own file is of, and its address.
const MODEL: (&str, &str) = ("frankfurt-1", "127.0.1.1");

const NODE: &str = include_str!("../../../../region-config/examples/three-regions/frankfurt-1/meridian.toml");

/// The files that all nodes share, by name.
const SHARED: [(&str, &str); 3] = [
    ("fleet/regions.toml", include_str!("../../../../region-config/examples/three-regions/fleet/regions.toml")),
    ("fleet/sites/shop.toml", include_str!("../../../../region-config/examples/three-regions/fleet/sites/shop.toml")),
    ("fleet/sites/care.toml", include_str!("../../../../region-config/examples/three-regions/fleet/sites/care.toml")),
];

/// The zone of the example's hosts.
const ZONE: &str = "demo.test";

/// One of the six.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name, also of its folder.
    pub(super) name: String,
    /// The region it stands in.
    pub(super) region: RegionId,
    /// The legal area of that region.
    jurisdiction: JurisdictionId,
    /// The address that all its listeners are on.
    pub(super) address: IpAddr,
    /// Its configuration, checked.
    pub(super) config: Config,
}

/// All six, on the loopback addresses 127.`network`.x.y.
#[derive(Debug)]
pub(super) struct Fleet {
    network: u8,
    pub(super) members: Vec<Member>,
}

impl Fleet {
    /// The example's fleet.
    pub(super) fn new(network: u8) -> Result<Self, DemoFault> {
        let mut fleet = Self { network, members: Vec::new() };
        let model = fleet.config_of(MODEL.0, &fleet.moved(MODEL.1))?;
        for region in &model.regions {
            for node in &region.nodes {
                let address = node.addresses.first().copied();
                let address =
                    address.ok_or_else(|| DemoFault::Example(format!("node {} has no address", node.name)))?;
                fleet.members.push(Member {
                    name: node.name.to_string(),
                    region: region.name.clone(),
                    jurisdiction: region.jurisdiction.clone(),
                    address,
                    config: fleet.config_of(node.name.as_str(), &address.to_string())?,
                });
            }
        }
        Ok(fleet)
    }

    /// Writes everything into the work folder; gives its full path.
    pub(super) fn write(&self, dir: &Path) -> Result<PathBuf, DemoFault> {
        empty(dir)?;
        for (name, text) in SHARED {
            write_file(&dir.join(name), &self.moved(text), 0o644)?;
        }
        let authority = dir.join("ca");
        ca::init(&authority, "demo")?;
        for member in &self.members {
            let (own, name) = (dir.join(&member.name), node_id(&member.name)?);
            let file = self.file_of(&member.name, &member.address.to_string());
            write_file(&own.join("meridian.toml"), &file, 0o644)?;
            ca::issue(&authority, &name, &member.region, &member.jurisdiction, &own.join("identity"))?;
        }
        web_certificate(dir)?;
        dir.canonicalize().map_err(failed("opening", dir))
    }

    /// A text of the example with this fleet's addresses.
    fn moved(&self, text: &str) -> String {
        text.replace("127.0.", &format!("127.{}.", self.network))
    }

    /// The model's file as another node's.
    fn file_of(&self, name: &str, address: &str) -> String {
        self.moved(NODE).replace(MODEL.0, name).replace(&self.moved(MODEL.1), address)
    }

    fn config_of(&self, name: &str, address: &str) -> Result<Config, DemoFault> {
        let shared = SHARED.map(|(name, text)| (name, self.moved(text)));
        let (own, file) = (format!("{name}/meridian.toml"), self.file_of(name, address));
        let mut files = vec![(own.as_str(), file.as_str())];
        files.extend(shared.iter().map(|(name, text)| (*name, text.as_str())));
        region_config::check(&files).map(|it| it.config).map_err(|faults| DemoFault::Example(faults.to_string()))
    }
}

fn node_id(name: &str) -> Result<NodeId, DemoFault> {
    NodeId::parse(name).map_err(|fault| DemoFault::Example(fault.to_string()))
}

/// Empties an earlier demo's folder, or makes a new one; touches no other.
fn empty(dir: &Path) -> Result<(), DemoFault> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("opening", dir)(error)),
        Ok(mut entries) => {
            let ours = dir.join(MARK).is_file() || entries.next().is_none();
            if !ours {
                return Err(DemoFault::Foreign(dir.to_owned()));
            }
            fs::remove_dir_all(dir).map_err(failed("emptying", dir))?;
        }
    }
    // the tokens and keys of the demo are nobody else's
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("making", dir))?;
    write_file(&dir.join(MARK), "This folder is emptied whenever the demo starts.\n", 0o644)
}

/// A CA for the sites' certificate, so that `curl --cacert` can check it, and the certificate.
fn web_certificate(dir: &Path) -> Result<(), DemoFault> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "Meridian demo: CA of the sites");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let mut site = CertificateParams::new(vec![ZONE.to_owned(), format!("*.{ZONE}")])?;
    site.distinguished_name.push(DnType::CommonName, ZONE);
    site.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = site.signed_by(&key, &issuer)?;

    write_file(&dir.join(WEB_CA), &ca_certificate.pem(), 0o644)?;
    write_file(&dir.join("fleet/tls/demo.pem"), &certificate.pem(), 0o644)?;
    write_file(&dir.join("fleet/tls/demo.key"), &key.serialize_pem(), 0o600)
}

/// Writes a new file, and its folders.
pub(super) fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), DemoFault> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("making", parent))?;
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed("writing", path))?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(failed("writing", path))
}

/// Says what we were doing to which file.
pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DemoFault {
    let path = path.to_owned();
    move |source| DemoFault::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use super::*;
    use crate::{clock, peers::LoadedIdentity};

    #[test]
    fn there_are_six_members_and_each_has_its_own_addresses() {
        let members = Fleet::new(3).unwrap().members;
        assert_eq!(members.len(), 6);
        assert!(members.iter().all(|it| it.address.to_string().starts_with("127.3.")));
        let addresses: BTreeSet<_> = members.iter().map(|it| it.address).collect();
        assert_eq!(addresses.len(), 6);
        for member in &members {
            let node = &member.config.node;
            assert!(node.http.iter().chain(&node.dns).all(|it| it.ip() == member.address), "{}", member.name);
            assert_eq!((node.name.as_str(), &node.region), (member.name.as_str(), &member.region));
        }
        let sums: BTreeSet<_> = members.iter().map(|it| it.config.fingerprint).collect();
        assert_eq!(sums.len(), 1);
    }

    #[test]
    fn what_is_written_is_good_for_every_node() {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::new(0).unwrap();
        let written = fleet.write(dir.path()).unwrap();
        for member in &fleet.members {
            let config = region_config::load(&written.join(&member.name)).unwrap();
            assert_eq!(config.fingerprint, member.config.fingerprint);
            assert!(LoadedIdentity::load(&config, clock::unix_ms()).is_ok(), "{}", member.name);
            assert!(config.sites.iter().all(|site| site.tls.as_ref().is_some_and(|tls| tls.key.is_file())));
        }
        // and a second demo takes the folder of the first
        fs::write(written.join("frankfurt-1/leftover"), "").unwrap();
        fleet.write(dir.path()).unwrap();
        assert!(!written.join("frankfurt-1/leftover").exists());
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(Fleet::new(0).unwrap().write(dir.path()), Err(DemoFault::Foreign(_))));
        assert_eq!(fs::read_to_string(dir.path().join("thesis.txt")).unwrap(), "years of work");
    }
}
