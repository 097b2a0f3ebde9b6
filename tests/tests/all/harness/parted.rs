//! A body of any length that is known at every offset, and an origin's answers with parts of it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use super::origin::{Answer, Origin, Seen};

/// The bytes from `first` to before `end` of a version.
pub(crate) fn bytes(version: u64, first: u64, end: u64) -> Bytes {
    let mut out = Vec::with_capacity(usize::try_from(end - first).unwrap() + 16);
    for word in first / 8..=end / 8 {
        let mut mixed = (word ^ (version << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
        out.extend_from_slice(&mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes());
    }
    let skip = usize::try_from(first % 8).unwrap();
    Bytes::from(out).slice(skip..skip + usize::try_from(end - first).unwrap())
}

/// A large file at an origin.
pub(crate) struct Parted {
    pub(crate) length: u64,
    version: AtomicU64,
    sent: AtomicU64,
}

/// How an origin answers for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As it should: parts, with a strong entity tag.
    Proper,
    /// Parts without anything that says of what.
    NoValidator,
    /// Always the whole.
    WholeOnly,
}

impl Parted {
    /// Puts one at a path.
    pub(crate) fn at(origin: &Origin, path: &str, length: u64, manner: Manner) -> Arc<Self> {
        let file = Arc::new(Self { length, version: AtomicU64::new(1), sent: AtomicU64::new(0) });
        let answering = Arc::clone(&file);
        origin.on(path, move |seen| answering.answer(seen, manner));
        file
    }

    /// Bytes of body that the origin has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Makes it another version.
    pub(crate) fn change(&self) -> u64 {
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn answer(&self, seen: &Seen, manner: Manner) -> Answer {
        if seen.method != http::Method::GET {
            return Answer::status(204);
        }
        let version = self.version.load(Ordering::SeqCst);
        let tag = format!("\"v{version}\"");
        let dressed = |answer: Answer| {
            let answer = answer.with("cache-control", "max-age=600").with("content-type", "video/mp4");
            if manner == Manner::NoValidator { answer } else { answer.with("etag", &tag) }
        };
        if seen.field("if-none-match") == tag {
            return dressed(Answer::status(304));
        }
        let same = seen.field("if-range").is_empty() || seen.field("if-range") == tag;
        let asked = (manner != Manner::WholeOnly && same).then(|| self.span(seen.field("range"))).flatten();
        match asked {
            Some((first, last)) if first >= self.length || first > last => {
                Answer::status(416).with("content-range", &format!("bytes */{}", self.length))
            }
            Some((first, last)) => {
                self.sent.fetch_add(last + 1 - first, Ordering::SeqCst);
                let answer = Answer::status(206);
                let answer = answer.made(last + 1 - first, move |from, to| bytes(version, first + from, first + to));
                dressed(answer).with("content-range", &format!("bytes {first}-{last}/{}", self.length))
            }
            None => {
                self.sent.fetch_add(self.length, Ordering::SeqCst);
                dressed(Answer::ok("").made(self.length, move |from, to| bytes(version, from, to)))
            }
        }
    }

    fn span(&self, range: &str) -> Option<(u64, u64)> {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        if first.is_empty() {
            return Some((self.length.saturating_sub(last.parse().ok()?), self.length - 1));
        }
        let last = if last.is_empty() { self.length - 1 } else { last.parse().ok()? };
        Some((first.parse().ok()?, last.min(self.length - 1)))
    }
}
