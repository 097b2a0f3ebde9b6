//! `meridian ca init` and `meridian ca issue`.

use std::path::PathBuf;

use clap::Args;
use region_config::{JurisdictionId, NodeId, RegionId};
use serde_json::json;

use super::{exit::Exit, output::Output};
use crate::peers::ca;

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Folder for the CA's certificate and key; is made if it is missing.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The cluster's name.
    #[arg(long, value_name = "NAME")]
    cluster: String,
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// Folder of the CA.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The node's name.
    #[arg(long, value_name = "NAME", value_parser = NodeId::parse)]
    node: NodeId,
    /// The region that the node stands in.
    #[arg(long, value_name = "NAME", value_parser = RegionId::parse)]
    region: RegionId,
    /// The jurisdiction that the node may keep data of.
    #[arg(long, value_name = "NAME", value_parser = JurisdictionId::parse)]
    jurisdiction: JurisdictionId,
    /// Folder for the node's certificate, its key and a copy of the CA's certificate; is made if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn init(order: &Init, output: Output) -> Exit {
    match ca::init(&order.dir, &order.cluster) {
        Err(fault) => output.failed(Exit::Failure, &fault),
        Ok(authority) => {
            output.answer(
                || json!({ "certificate": authority.certificate, "key": authority.key }),
                || {
                    let (certificate, key) = (authority.certificate.display(), authority.key.display());
                    format!("CA of cluster {}: {certificate}\nits key, to be kept off the nodes: {key}", order.cluster)
                },
            );
            Exit::Done
        }
    }
}

pub(super) fn issue(order: &Issue, output: Output) -> Exit {
    let Issue { dir, node, region, jurisdiction, out } = order;
    match ca::issue(dir, node, region, jurisdiction, out) {
        Err(fault) => output.failed(Exit::Failure, &fault),
        Ok(issued) => {
            output.answer(
                || json!({ "ca": issued.ca, "certificate": issued.certificate, "key": issued.key }),
                || {
                    let [ca, certificate, key] = [&issued.ca, &issued.certificate, &issued.key].map(|it| it.display());
                    format!("[peer]\nca = \"{ca}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"")
                },
            );
            Exit::Done
        }
    }
}
