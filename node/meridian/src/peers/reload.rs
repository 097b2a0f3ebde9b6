//! Certificates that are renewed on disk are taken up without a restart.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use region_config::Identity;

use super::{LoadedIdentity, Mesh, PeerError};
use crate::clock;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(30);
/// How long before its end a certificate is worth a warning, in seconds.
pub(crate) const ENDING_S: i64 = 14 * 86_400;
/// How often it is told of.
const TELL_EVERY: Duration = Duration::from_hours(24);

/// Watches the identity files until the mesh stops.
pub(super) async fn watch(mesh: Arc<Mesh>) {
    let mut seen = mesh.config.load().node.identity.as_ref().map(stamps);
    let mut told: Option<Instant> = None;
    loop {
        let now = clock::instant();
        let left_s = left_s(&mesh);
        if is_due(left_s, told.map(|told| now.duration_since(told))) {
            tell(left_s);
            told = Some(now);
        }
        tokio::time::sleep(EVERY).await;
        let now = mesh.config.load().node.identity.as_ref().map(stamps);
        if now == seen {
            continue;
        }
        match take_up(&mesh) {
            Ok(()) => {
                tracing::info!("took up the renewed certificate of this node");
                (seen, told) = (now, None);
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

/// Whether an end is to be told of, with this much time left, and so long after it was told the last time.
fn is_due(left_s: i64, since_told: Option<Duration>) -> bool {
    left_s < ENDING_S && since_told.is_none_or(|since| since >= TELL_EVERY)
}

fn left_s(mesh: &Mesh) -> i64 {
    mesh.not_after_unix_s().saturating_sub(i64::try_from(clock::unix_ms() / 1000).unwrap_or(i64::MAX))
}

fn tell(left_s: i64) {
    if left_s < 0 {
        tracing::error!(
            "the certificate of this node has ended, and other nodes refuse it: `meridian ca issue` a new one"
        );
    } else {
        tracing::warn!(days = left_s / 86_400, "the certificate of this node ends soon: `meridian ca issue` a new one");
    }
}

/// Last changes of the three files, so far as they can be seen.
fn stamps(files: &Identity) -> [Option<SystemTime>; 3] {
    let stamp = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    [stamp(&files.ca), stamp(&files.certificate), stamp(&files.key)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was told once in the life of a process: who missed it was told nothing until other nodes refused this one.
    #[test]
    fn an_ending_certificate_is_told_of_every_day() {
        let hours = |hours| Some(Duration::from_hours(hours));
        for (left_s, since_told, due) in [
            (ENDING_S, None, false),
            (ENDING_S - 1, None, true),
            (ENDING_S - 1, hours(23), false),
            (ENDING_S - 1, hours(24), true),
            (-1, hours(24), true),
        ] {
            assert_eq!(is_due(left_s, since_told), due, "{left_s} {since_told:?}");
        }
    }
}
