//! Certificates that are renewed on disk are taken up without a restart.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use region_config::Identity;

use super::{LoadedIdentity, Mesh, PeerError};
use crate::clock;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(30);
/// From when on an ending certificate is worth a warning, in seconds.
const WARN_S: i64 = 14 * 86_400;

/// Watches the identity files until the mesh stops.
pub(super) async fn watch(mesh: Arc<Mesh>) {
    let mut seen = mesh.config.load().node.identity.as_ref().map(stamps);
    let mut warned = false;
    loop {
        if !warned {
            warned = warn_if_ending(&mesh);
        }
        tokio::time::sleep(EVERY).await;
        let now = mesh.config.load().node.identity.as_ref().map(stamps);
        if now == seen {
            continue;
        }
        match take_up(&mesh) {
            Ok(()) => {
                tracing::info!("took up the renewed certificate of this node");
                (seen, warned) = (now, false);
            }
            // a half-written set of files is whole the next time
            Err(fault) => tracing::warn!(%fault, "kept the old certificate of this node: the new one cannot be used"),
        }
    }
}

/// Reads the identity anew and uses it from the next handshake on. Who this node is cannot change.
pub(super) fn take_up(mesh: &Mesh) -> Result<(), PeerError> {
    let identity = LoadedIdentity::load(&mesh.config.load(), clock::unix_ms())?;
    let (old, new) = (mesh.identity.uri(&mesh.cluster), identity.peer.uri(&identity.cluster));
    if old != new {
        let fault = super::IdentityFault::Claims { what: "name", certificate: new, config: old };
        return Err(PeerError::Identity(fault));
    }
    mesh.reload(&identity)
}

fn warn_if_ending(mesh: &Mesh) -> bool {
    let Ok(identity) = LoadedIdentity::load(&mesh.config.load(), clock::unix_ms()) else { return false };
    let now_s = i64::try_from(clock::unix_ms() / 1000).unwrap_or(i64::MAX);
    let left_s = identity.not_after_unix_s.saturating_sub(now_s);
    let ending = left_s < WARN_S;
    if ending {
        tracing::warn!(days = left_s / 86_400, "the certificate of this node ends soon: `meridian ca issue` a new one");
    }
    ending
}

/// Last changes of the three files, so far as they can be seen.
fn stamps(files: &Identity) -> [Option<SystemTime>; 3] {
    let stamp = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    [stamp(&files.ca), stamp(&files.certificate), stamp(&files.key)]
}
