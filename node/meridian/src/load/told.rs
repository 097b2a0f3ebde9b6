//! What a node tells of what it is asked for: one text of at most [`TEXT_BYTES_MAX`] bytes.
//!
//! ```text
//! 1;<class><requests>,<class><requests>,...;<region>,<region>,...
//! ```
//!
//! `class` is its id in 8 hex digits (see `rules::steering::Classes`), `requests` are in a second, in hex. Classes with the most
//! requests come first; what has no place any more, and of what there is less than one request a second, counts for the region
//! that is nearest. What is less than one a second even so is not told. `region` is the id of the class of a region alone: it
//! gives up clients; the field is missing where the node does not know that of all regions. A new field goes to the end, after a `;`; readers skip what they do not know.

use std::{collections::BTreeMap, fmt::Write as _};

use rules::steering::Classes;

/// The most that a node tells.
pub const TEXT_BYTES_MAX: usize = 3072;
/// Length of an entry: its id, up to 8 digits, and a comma.
const ENTRY: usize = 17;
/// Length of a region: its id and a comma.
const REGION: usize = 9;
/// The text of a node that is asked for nothing, or does not count.
pub(super) const NOTHING: &str = "1;";
/// More requests in a second than this are this many.
const REQUESTS_MAX: u32 = 100_000_000;

/// What a node tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Told {
    /// Requests in a second by the id of the class.
    pub(super) asked: BTreeMap<u32, f64>,
    /// The regions that give up clients, by the ids of their classes, if it knows them.
    pub(super) gives: Option<Vec<u32>>,
}

/// Writes what is asked for in a second, by the class's index, and which regions give up clients, by theirs, if that is known.
pub(super) fn encode(classes: &Classes, requests: &[f64], gives: Option<&[usize]>) -> String {
    let mut text = NOTHING.to_owned();
    let alone = classes.regions();
    let least = (alone + 1) * ENTRY + gives.map_or(0, |gives| 1 + gives.len() * REGION);
    let mut rest = vec![0.0; alone];
    for (at, requests) in requests.iter().enumerate().take(alone) {
        rest[at] += requests;
    }
    let mut listed: Vec<(usize, f64)> = requests.iter().copied().enumerate().skip(alone).collect();
    listed.sort_by(|(a, asked), (b, more)| more.total_cmp(asked).then(a.cmp(b)));
    for (class, requests) in listed {
        if requests >= 1.0 && text.len() + least <= TEXT_BYTES_MAX {
            write(&mut text, classes, class, requests);
        } else if let Some(rest) = classes.alone(class).and_then(|region| rest.get_mut(region)) {
            *rest += requests;
        }
    }
    for (class, requests) in rest.into_iter().enumerate().filter(|(_, requests)| *requests >= 1.0) {
        write(&mut text, classes, class, requests);
    }
    if let Some(gives) = gives {
        text.push(';');
        for id in gives.iter().filter_map(|region| classes.id_of(*region)) {
            // writing to a String cannot fail
            let _ok = write!(text, "{id:08x},");
        }
    }
    text
}

fn write(text: &mut String, classes: &Classes, class: usize, requests: f64) {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded on both sides")]
    let requests = requests.round().clamp(0.0, f64::from(REQUESTS_MAX)) as u32;
    if let Some(id) = classes.id_of(class) {
        // writing to a String cannot fail
        let _ok = write!(text, "{id:08x}{requests:x},");
    }
}

/// Reads what a node tells. None if it is no such text.
pub(super) fn decode(text: &str) -> Option<Told> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut fields = text.split(';');
    if fields.next()? != "1" {
        return None;
    }
    let entry = |entry: &str| {
        let (id, requests) = entry.split_at_checked(8)?;
        let requests = u32::from_str_radix(requests, 16).ok()?;
        Some((u32::from_str_radix(id, 16).ok()?, f64::from(requests.min(REQUESTS_MAX))))
    };
    let asked = entries(fields.next()?).map(entry).collect::<Option<_>>()?;
    let gives = fields.next().and_then(|gives| entries(gives).map(|id| u32::from_str_radix(id, 16).ok()).collect());
    Some(Told { asked, gives })
}

fn entries(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;
    use rules::steering::{Grain, Map, Wishes};

    use super::*;
    use crate::{dns::tests::config, geo};

    fn classes() -> Classes {
        let config = config();
        let base = geo::Base::embedded().unwrap();
        let map = Map::compile(&config, base.ranges(), &Wishes::nearest(0b11), &config.node.region);
        let mut classes = Classes::new(&config);
        classes.add(&map, 0b11, Grain::List);
        classes
    }

    #[test]
    fn what_is_told_is_what_is_heard_but_for_less_than_one_request_a_second() {
        let classes = classes();
        assert_eq!(classes.count(), 4, "two regions alone, and two lists");
        let heard = decode(&encode(&classes, &[3.0, 0.4, 1e12, 12.6], None)).unwrap().asked;
        let of = |class: usize| heard.get(&classes.id_of(class).unwrap()).copied();
        assert_eq!([of(0), of(1), of(2), of(3)], [Some(3.0), None, Some(1e8), Some(13.0)]);
        let near = classes.alone(2).unwrap();
        let mut requests = [0.0, 0.0, 0.8, 12.0];
        requests[near] = 0.7;
        let heard = decode(&encode(&classes, &requests, None)).unwrap().asked;
        let of = |class: usize| heard.get(&classes.id_of(class).unwrap()).copied();
        assert_eq!((of(2), of(near), heard.len()), (None, Some(2.0), 2), "a little of each list is something together");
    }

    #[test]
    fn nothing_is_told_of_nothing() {
        assert_eq!(encode(&classes(), &[0.0; 4], None), "1;");
        assert_eq!(decode("1;"), Some(Told::default()));
        assert_eq!(decode("2;"), None);
    }

    #[test]
    fn which_regions_give_is_told_if_it_is_known() {
        let classes = classes();
        let told = |gives: Option<&[usize]>| decode(&encode(&classes, &[3.0, 0.0, 0.0, 0.0], gives)).unwrap();
        assert_eq!(told(Some(&[1])).gives, Some(vec![classes.id_of(1).unwrap()]));
        assert_eq!((told(Some(&[])).gives, told(None).gives), (Some(vec![]), None));
        // what later versions may say, and what nobody can read
        let of = |text: &str| decode(text).map(|told| (told.asked.len(), told.gives));
        assert_eq!(of("1;000000011,;00000002,;more"), Some((1, Some(vec![2]))));
        assert_eq!(of("1;000000011,;?"), Some((1, None)));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_read(text in ".{0,200}", tail in "[0-9a-f,;]{0,80}") {
            decode(&text);
            decode(&format!("1;{tail}"));
        }
    }
}
