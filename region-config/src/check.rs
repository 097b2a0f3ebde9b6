//! What the tables mean together: names that must be there, or only once; numbers that must fit each other.
//!
//! A value that could not be read has been noted already and is none here; nothing is said twice about it.

mod families;
mod fleet;
mod node;
mod site;
mod steering;
mod stream;
mod tenant;
mod token;
mod zones;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    fault::{Gatherer, Place},
    ids::{JurisdictionId, NodeId, RegionId},
    shape::{At, nearest},
    written::Root,
};

/// Checks everything.
pub(crate) fn all(root: &Root, gatherer: &mut Gatherer) {
    let known = Known::new(root, gatherer);
    fleet::check(root, &known, gatherer);
    zones::check(root, gatherer);
    stream::check(root, &known, gatherer);
    node::check(root, &known, gatherer);
    site::check(root, &known, gatherer);
    tenant::check(root, gatherer);
    token::check(root, gatherer);
}

/// The names that others refer to.
struct Known<'a> {
    /// Jurisdictions, each with whether a region lies in it.
    jurisdictions: BTreeMap<&'a JurisdictionId, bool>,
    /// Nodes, each with its region and that region's jurisdiction, as far as they could be read.
    nodes: BTreeMap<&'a NodeId, (Option<&'a RegionId>, Option<&'a JurisdictionId>)>,
    /// Whether all names of jurisdictions could be read, and of regions and nodes: if not, one cannot say that a name is
    /// unknown.
    jurisdictions_whole: bool,
    nodes_whole: bool,
}

impl<'a> Known<'a> {
    fn new(root: &'a Root, gatherer: &mut Gatherer) -> Self {
        let names = root.jurisdictions.iter().filter_map(|it| it.value.name.as_ref());
        let mut jurisdictions: BTreeMap<_, _> =
            unique(names, "jurisdiction", "", gatherer).into_keys().map(|name| (name, false)).collect();
        let mut nodes = BTreeMap::new();
        for region in &root.regions {
            let jurisdiction = region.value.jurisdiction.as_ref().map(|it| &it.value);
            if let Some(populated) = jurisdiction.and_then(|it| jurisdictions.get_mut(it)) {
                *populated = true;
            }
            for node in region.value.nodes.iter().filter_map(|it| it.value.name.as_ref()) {
                nodes.insert(&node.value, (region.value.name.as_ref().map(|it| &it.value), jurisdiction));
            }
        }
        let regions = root.regions.iter().map(|it| &it.value);
        Self {
            jurisdictions,
            nodes,
            jurisdictions_whole: root.jurisdictions.iter().all(|it| it.value.name.is_some()),
            nodes_whole: regions.clone().all(|it| {
                it.name.is_some() && !it.nodes.is_empty() && it.nodes.iter().all(|node| node.value.name.is_some())
            }),
        }
    }
}

/// The different ones, each with its first place; those that come again are noted.
fn unique<'a, T: Ord + fmt::Display + 'a>(
    names: impl IntoIterator<Item = &'a At<T>>,
    noun: &str,
    about: &str,
    gatherer: &mut Gatherer,
) -> BTreeMap<&'a T, Place> {
    let mut first = BTreeMap::new();
    for name in names {
        if let Some(before) = first.get(&name.value) {
            let found = format!("{noun} `{}` stands already at {}", name.value, gatherer.name_of(*before));
            gatherer.error(name.place, about, found, "each one once");
        } else {
            first.insert(&name.value, name.place);
        }
    }
    first
}

/// Notes a name that nothing has.
fn unknown<'a>(
    name: &At<impl fmt::Display>,
    noun: &str,
    about: &str,
    names: impl IntoIterator<Item = &'a str>,
    gatherer: &mut Gatherer,
) {
    if gatherer.is_full() {
        gatherer.error(name.place, about, "", "");
        return;
    }
    let text = name.value.to_string();
    let mut told = BTreeSet::new();
    // one that stands twice is told elsewhere
    let names: Vec<&str> = names.into_iter().filter(|name| told.insert(*name)).collect();
    let help = nearest(&text, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    let expected = match names.as_slice() {
        [] => format!("a {noun} that is written down: there is none"),
        few if few.len() <= 8 => {
            format!("one of {}", few.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", "))
        }
        _ => format!("a {noun} that is written down"),
    };
    gatherer.error_with_help(name.place, about, format!("there is no {noun} `{text}`"), expected, help);
}
