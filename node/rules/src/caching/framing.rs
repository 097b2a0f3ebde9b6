//! Which of the requests on an HTTP/1.1 connection is framed in two ways: by `Content-Length` and by `Transfer-Encoding`
//! (RFC 9112 section 6.1).
//!
//! Some parsers drop the one when they see the other, so that nobody behind them can tell. This one reads beside such a
//! parser, only to find where heads are, and leaves every other judgement to it: what is malformed ends the connection
//! there, and what is well formed both read in the same way.

use super::lists::trim;

/// Longest beginning of a line that is kept while the rest of it has not come, in bytes. All that is looked for stands there,
/// but for white space without end.
const HELD_BYTES: usize = 96;

/// Follows the bytes that come over one connection.
#[derive(Debug, Default)]
pub struct Heads {
    at: At,
    /// The beginning of a line whose end has not come.
    held: Vec<u8>,
    head: Head,
    count: u32,
    twice_framed: Option<u32>,
}

/// What comes next.
#[derive(Debug, Default, Clone, Copy)]
enum At {
    #[default]
    Head,
    /// So many bytes of a body or chunk.
    Bytes {
        left: u64,
        chunk: bool,
    },
    ChunkEnd,
    ChunkSize,
    Trailer,
    /// It cannot be told any more.
    Lost,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Head {
    begun: bool,
    chunked: bool,
    /// Its `Content-Length`; none inside if it is no number.
    length: Option<Option<u64>>,
}

impl Heads {
    /// Takes in what has come.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.at {
                At::Lost => return,
                At::Bytes { left, chunk } => bytes = self.skip(bytes, left, chunk),
                _ => bytes = self.line_of(bytes),
            }
        }
    }

    /// The number of the first request that is framed in two ways, counted from 0. It is known when its head has come.
    #[must_use]
    pub const fn twice_framed(&self) -> Option<u32> {
        self.twice_framed
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, chunk: bool) -> &'a [u8] {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - taken as u64;
        self.at = match (left, chunk) {
            (0, true) => At::ChunkEnd,
            (0, false) => At::Head,
            _ => At::Bytes { left, chunk },
        };
        bytes.get(taken..).unwrap_or_default()
    }

    fn line_of<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.hold(bytes);
            return &[];
        };
        let (line, rest) = bytes.split_at_checked(end).unwrap_or_default();
        if self.held.is_empty() {
            self.line(line);
        } else {
            self.hold(line);
            let mut held = std::mem::take(&mut self.held);
            self.line(&held);
            held.clear();
            self.held = held;
        }
        rest.get(1..).unwrap_or_default()
    }

    fn hold(&mut self, bytes: &[u8]) {
        let room = HELD_BYTES.saturating_sub(self.held.len()).min(bytes.len());
        self.held.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    /// Takes in a line, or the beginning of a long one.
    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.at {
            At::Head if line.is_empty() && self.head.begun => self.end_of_head(),
            // empty lines before a head are nothing (RFC 9112 section 2.2)
            At::Head => self.field(line),
            At::ChunkEnd => self.at = At::ChunkSize,
            At::ChunkSize => {
                self.at = match size(line) {
                    Some(0) => At::Trailer,
                    Some(left) => At::Bytes { left, chunk: true },
                    None => At::Lost,
                }
            }
            At::Trailer if line.is_empty() => self.at = At::Head,
            At::Trailer | At::Bytes { .. } | At::Lost => {}
        }
    }

    fn field(&mut self, line: &[u8]) {
        self.head.begun |= !line.is_empty();
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length") {
                    self.head.length = Some(number(value).filter(|_| line.len() < HELD_BYTES));
                }
            }
            Some(b't' | b'T') => self.head.chunked |= value_of(line, b"transfer-encoding").is_some(),
            _ => {}
        }
    }

    fn end_of_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        if head.chunked && head.length.is_some() && self.twice_framed.is_none() {
            self.twice_framed = Some(self.count);
        }
        self.count = self.count.saturating_add(1);
        self.at = match head.length {
            _ if head.chunked => At::ChunkSize,
            None | Some(Some(0)) => At::Head,
            Some(Some(left)) => At::Bytes { left, chunk: false },
            Some(None) => At::Lost,
        };
    }
}

/// The value of a field line, if it is of that name.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    if start.eq_ignore_ascii_case(name) { rest.strip_prefix(b":") } else { None }
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(trim(value)).ok()?.parse().ok()
}

/// The size at the beginning of a chunk's first line.
fn size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let digits = std::str::from_utf8(line.get(..end)?).ok()?;
    if line.len() < HELD_BYTES || end < line.len() { u64::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const BOTH: &str = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn check(stream: &str, expected: Option<u32>) {
        let mut whole = Heads::default();
        whole.read(stream.as_bytes());
        assert_eq!(whole.twice_framed(), expected, "{stream:?}");
        for step in 1..7 {
            let mut parted = Heads::default();
            stream.as_bytes().chunks(step).for_each(|piece| parted.read(piece));
            assert_eq!(parted.twice_framed(), expected, "{stream:?} in pieces of {step}");
        }
    }

    #[test]
    fn a_head_with_both_is_found_in_any_order_and_letter_case() {
        check(BOTH, Some(0));
        check("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nCONTENT-LENGTH: x\r\n\r\n", Some(0));
        check("POST / HTTP/1.1\nTransfer-Encoding:chunked\nContent-Length:\n\n", Some(0));
        check(GET, None);
        check(
            "POST / HTTP/1.1\r\nContent-Lengths: 1\r\nX-Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            None,
        );
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", None);
    }

    #[test]
    fn bodies_are_no_heads_and_what_follows_them_is_counted() {
        let body = BOTH.len();
        let with_length = format!("PUT / HTTP/1.1\r\nContent-Length: {body}\r\n\r\n{BOTH}");
        check(&with_length, None);
        let chunked = format!(
            "\r\nPUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0{body:X};a=b\r\n{BOTH}\r\n1\r\n\n\r\n00\r\n\
             Content-Length: 1\r\n\r\n"
        );
        check(&chunked, None);
        check(&format!("{with_length}{GET}{chunked}\r\n\r\n{BOTH}{GET}{BOTH}"), Some(3));
    }

    #[test]
    fn what_cannot_be_followed_is_left_alone() {
        let zeros = "0".repeat(HELD_BYTES);
        for lost in [
            format!("PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n{BOTH}"),
            format!("PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n{BOTH}"),
            format!("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{BOTH}"),
            format!("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{zeros}5\r\n{BOTH}"),
        ] {
            check(&lost, None);
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_no_octets_make_it_panic(
            bytes in proptest::collection::vec(proptest::sample::select(vec![
                &b"Content-Length: 5\r\n"[..], &b"Transfer-Encoding: chunked\r\n"[..], &b"\r\n"[..], &b"\n"[..],
                &b"5\r\nhello\r\n"[..], &b"0\r\n\r\n"[..], &b"GET / HTTP/1.1\r\n"[..], &b"x"[..], &b"\xff\0"[..],
            ]), 0..40),
            step in 1usize..9,
        ) {
            let bytes = bytes.concat();
            let (mut whole, mut parted) = (Heads::default(), Heads::default());
            whole.read(&bytes);
            bytes.chunks(step).for_each(|piece| parted.read(piece));
            prop_assert_eq!(whole.twice_framed(), parted.twice_framed());
        }
    }
}
