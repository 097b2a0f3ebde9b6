//! Purges that an origin orders in its answer to a write.
//!
//! ```text
//! Meridian-Purge-Tags: product-4711 home     tags, with white space or commas between them
//! Meridian-Purge-Urls: /a /b?c https://...   paths of the request's host, or URLs of the site, with white space between them
//! Meridian-Purge-Site: soft                  all of the site: soft or hard
//! ```

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::purge::{Mode, TAG_BYTES_MAX, TARGET_BYTES_MAX};

/// The fields that orders come in.
pub(super) const FIELDS: [HeaderName; 3] = [TAGS, URLS, SITE];

const TAGS: HeaderName = HeaderName::from_static("meridian-purge-tags");
const URLS: HeaderName = HeaderName::from_static("meridian-purge-urls");
const SITE: HeaderName = HeaderName::from_static("meridian-purge-site");

/// Tags and URLs of one answer, at most.
pub const ORDERED_MAX: usize = 90;

/// Stands for a field that cannot be read: it is left out, and counted.
const UNREADABLE: &str = match std::str::from_utf8(&[b'x'; TARGET_BYTES_MAX + 1]) {
    Ok(text) => text,
    Err(_) => "",
};

/// What an answer orders to be purged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ordered<'a> {
    /// What carries one of these tags.
    pub tags: Vec<&'a str>,
    /// These URLs: not looked at yet.
    pub urls: Vec<&'a str>,
    /// All of the site.
    pub site: Option<Mode>,
    /// How much of it was no tag, no mode, or beyond the limit.
    pub left_out: usize,
}

impl<'a> Ordered<'a> {
    /// What an answer orders.
    #[must_use]
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut ordered = Self::default();
        for field in headers.get_all(&TAGS) {
            let tags = words(field).flat_map(|word| word.split(','));
            tags.filter(|tag| !tag.is_empty()).for_each(|tag| ordered.tag(tag));
        }
        for field in headers.get_all(&URLS) {
            words(field).for_each(|url| ordered.url(url));
        }
        for field in headers.get_all(&SITE) {
            match field.as_bytes().trim_ascii() {
                b"hard" => ordered.site = Some(Mode::Hard),
                b"soft" => ordered.site = ordered.site.max(Some(Mode::Soft)),
                _ => ordered.left_out += 1,
            }
        }
        ordered
    }

    fn tag(&mut self, tag: &'a str) {
        if self.is_full() || tag.len() > TAG_BYTES_MAX {
            self.left_out += 1;
        } else if !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
    }

    fn url(&mut self, url: &'a str) {
        if self.is_full() || url.len() > TARGET_BYTES_MAX {
            self.left_out += 1;
        } else if !self.urls.contains(&url) {
            self.urls.push(url);
        }
    }

    fn is_full(&self) -> bool {
        self.tags.len() + self.urls.len() >= ORDERED_MAX
    }
}

/// The words of a field; one that is too long to be anything if it has octets that no word has.
fn words(field: &HeaderValue) -> impl Iterator<Item = &str> {
    field.to_str().unwrap_or(UNREADABLE).split_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn check(fields: &[(HeaderName, &str)], tags: &[&str], urls: &[&str], site: Option<Mode>, left_out: usize) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), value.parse().unwrap());
        }
        let expected = Ordered { tags: tags.to_vec(), urls: urls.to_vec(), site, left_out };
        assert_eq!(Ordered::of(&headers), expected, "{fields:?}");
    }

    #[test]
    fn an_answer_orders_what_its_fields_name() {
        check(&[], &[], &[], None, 0);
        check(
            &[(TAGS, "a b"), (TAGS, "b, c,d"), (URLS, " /x  /y?z ")],
            &["a", "b", "c", "d"],
            &["/x", "/y?z"],
            None,
            0,
        );
        check(&[(SITE, "soft")], &[], &[], Some(Mode::Soft), 0);
        check(&[(SITE, "hard"), (SITE, "soft")], &[], &[], Some(Mode::Hard), 0);
    }

    #[test]
    fn what_means_nothing_or_is_too_much_is_left_out_and_counted() {
        check(&[(SITE, "all"), (TAGS, "a"), (TAGS, &"x".repeat(257))], &["a"], &[], None, 2);
        let many: Vec<String> = (0..100).map(|number| format!("/{number}")).collect();
        let first: Vec<&str> = many.iter().take(ORDERED_MAX - 1).map(String::as_str).collect();
        check(&[(TAGS, "a"), (URLS, &many.join(" "))], &["a"], &first, None, 100 - first.len());
    }
}
