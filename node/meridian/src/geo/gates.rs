//! A newly read database against the one in use.

use region_config::Region;
use rules::steering::{self, Objection, Point, objections};

use super::{Base, Edition, Wanted, files};
use crate::clock;

/// All that speaks against taking `newer` in place of `current`: one line for each, with the file. Nothing does if an
/// operator has accepted the contents of the file.
#[must_use]
pub fn against(current: &Base, newer: &Base, regions: &[Region]) -> Vec<Held> {
    let at = |region: &Region| Point::from_degrees(region.latitude, region.longitude);
    let regions: Vec<Point> = regions.iter().filter_map(at).collect();
    let mut held = Vec::new();
    for edition in &newer.editions {
        let Some(path) = edition.path.as_deref() else { continue };
        // what was not there before, or is not in a file, has nothing to be compared with
        let before = current.editions.iter().find(|old| old.wanted == edition.wanted && old.path.is_some());
        let Some(before) = before.filter(|before| before.sum != edition.sum) else { continue };
        if files::is_accepted(path, &edition.sum) {
            continue;
        }
        // AS numbers move nobody by themselves
        let regions = if edition.wanted == Wanted::Places { regions.as_slice() } else { &[] };
        let found = objections(&compared(current, before), &compared(newer, edition), regions, clock::unix_ms() / 1000);
        held.extend(found.into_iter().map(|objection| Held { file: edition.name(), objection }));
    }
    held
}

/// Why a database waits for an operator's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The file.
    pub file: String,
    /// What speaks against it.
    pub objection: Objection,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.objection)
    }
}

fn compared<'a>(base: &'a Base, edition: &Edition) -> steering::Edition<'a> {
    steering::Edition { base: &base.ranges, networks: edition.useful, built_unix_s: edition.built_unix_s }
}
