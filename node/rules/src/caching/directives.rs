//! Cache directives: `Cache-Control` (RFC 9111 section 5.2) and `CDN-Cache-Control` (RFC 9213).

use http::{HeaderMap, HeaderName, header::CACHE_CONTROL};

use super::lists::{members, trim};

/// The targeted field for caches like this one (RFC 9213 section 3.1).
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The largest number of seconds that is told apart (RFC 9111 section 1.2.2).
pub(crate) const SECONDS_MAX: u32 = 1 << 31;

/// Longest `CDN-Cache-Control` that is read; a longer one counts as invalid.
const TARGETED_BYTES_MAX: usize = 4096;

/// What a message's cache directives say. Where one is repeated, the stricter one counts; an argument that cannot be
/// read counts as 0 seconds (RFC 9111 section 4.2.1). Unknown directives are ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-store`
    pub no_store: bool,
    /// `no-cache`, with or without field names.
    pub no_cache: bool,
    /// `private`, with or without field names: the whole response counts as private.
    pub private: bool,
    /// `public`
    pub public: bool,
    /// `must-revalidate`
    pub must_revalidate: bool,
    /// `proxy-revalidate`
    pub proxy_revalidate: bool,
    /// `must-understand`
    pub must_understand: bool,
    /// `only-if-cached`, of a request.
    pub only_if_cached: bool,
    /// `max-age`, in seconds.
    pub max_age_s: Option<u32>,
    /// `s-maxage`, in seconds.
    pub s_maxage_s: Option<u32>,
    /// `stale-while-revalidate` (RFC 5861 section 3), in seconds.
    pub stale_while_revalidate_s: Option<u32>,
    /// `stale-if-error` (RFC 5861 section 4), in seconds.
    pub stale_if_error_s: Option<u32>,
}

impl Directives {
    /// Reads all `Cache-Control` lines.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            directives.line(line.as_bytes());
        }
        directives
    }

    /// Reads `CDN-Cache-Control`, a structured dictionary that replaces `Cache-Control` and `Expires` wholly. None if
    /// it is absent, empty or malformed, or if a directive in it has a value of the wrong type: then the whole field
    /// is to be ignored (RFC 9213 section 2.1).
    #[must_use]
    pub fn targeted(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(CDN_CACHE_CONTROL).iter();
        let first = lines.next()?;
        let mut joined = Vec::new();
        let value = match lines.next() {
            None => first.as_bytes(),
            Some(second) => {
                for line in [first, second].into_iter().chain(lines) {
                    if !joined.is_empty() {
                        joined.extend_from_slice(b", ");
                    }
                    joined.extend_from_slice(line.as_bytes());
                }
                &joined
            }
        };
        if value.len() > TARGETED_BYTES_MAX {
            return None;
        }
        let dictionary: sfv::Dictionary = sfv::Parser::new(value).parse().ok()?;
        let mut directives = Self::default();
        for (name, entry) in &dictionary {
            directives.structured(name.as_str(), entry)?;
        }
        (!dictionary.is_empty()).then_some(directives)
    }

    /// Reads one line of `Cache-Control`.
    fn line(&mut self, line: &[u8]) {
        for member in members(line) {
            let (name, argument) = match member.iter().position(|byte| *byte == b'=') {
                Some(at) => (member.get(..at).unwrap_or_default(), member.get(at + 1..)),
                None => (member, None),
            };
            if unended(member) {
                // what follows the open quote cannot be told from its text; it may have been a prohibition
                self.no_store = true;
            }
            if let Some(known) = self.seconds(trim(name)) {
                // a space before `=` is no grammar, so that the argument counts as unreadable
                let readable = argument.filter(|_| name.len() == trim(name).len());
                tighten(known, readable.map_or(0, delta_seconds));
            } else if let Some(known) = self.flag(trim(name)) {
                *known = true;
            }
        }
    }

    /// Takes one member of a structured dictionary. None if its value is of the wrong type.
    fn structured(&mut self, name: &str, entry: &sfv::ListEntry) -> Option<()> {
        let bare = match entry {
            sfv::ListEntry::Item(item) => Some(&item.bare_item),
            sfv::ListEntry::InnerList(_) => None,
        };
        if let Some(known) = self.seconds(name.as_bytes()) {
            let number = i64::from(bare?.as_integer()?).clamp(0, i64::from(SECONDS_MAX));
            tighten(known, u32::try_from(number).unwrap_or(SECONDS_MAX));
        } else if let Some(known) = self.flag(name.as_bytes()) {
            // `no-cache` and `private` may name fields; they then count as bare
            let names_fields = matches!(name, "no-cache" | "private") && bare?.as_string().is_some();
            *known |= names_fields || bare?.as_boolean()?;
        }
        Some(())
    }

    /// The directive with an argument in seconds that goes by this name.
    fn seconds(&mut self, name: &[u8]) -> Option<&mut Option<u32>> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        Some(match () {
            () if is("max-age") => &mut self.max_age_s,
            () if is("s-maxage") => &mut self.s_maxage_s,
            () if is("stale-while-revalidate") => &mut self.stale_while_revalidate_s,
            () if is("stale-if-error") => &mut self.stale_if_error_s,
            () => return None,
        })
    }

    /// The directive without a needed argument that goes by this name.
    fn flag(&mut self, name: &[u8]) -> Option<&mut bool> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        Some(match () {
            () if is("no-store") => &mut self.no_store,
            () if is("no-cache") => &mut self.no_cache,
            () if is("private") => &mut self.private,
            () if is("public") => &mut self.public,
            () if is("must-revalidate") => &mut self.must_revalidate,
            () if is("proxy-revalidate") => &mut self.proxy_revalidate,
            () if is("must-understand") => &mut self.must_understand,
            () if is("only-if-cached") => &mut self.only_if_cached,
            () => return None,
        })
    }
}

/// Of a repeated directive, the shorter time counts.
fn tighten(known: &mut Option<u32>, seconds: u32) {
    *known = Some(known.map_or(seconds, |earlier| earlier.min(seconds)));
}

/// Reads delta-seconds (RFC 9111 section 1.2.2), also as a quoted string (section 5.2); what cannot be read is 0.
fn delta_seconds(argument: &[u8]) -> u32 {
    let digits = match argument {
        [b'"', inner @ .., b'"'] => inner,
        bare => bare,
    };
    number(digits).unwrap_or(0)
}

/// Reads a number of seconds written in digits only. More than [`SECONDS_MAX`] counts as that.
pub(crate) fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let sum = digits.iter().fold(0u32, |sum, digit| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
    Some(sum.min(SECONDS_MAX))
}

/// Whether a quoted string in this member lacks its end.
fn unended(member: &[u8]) -> bool {
    let mut quoted = false;
    let mut escaped = false;
    for byte in member {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn check(lines: &[&str], expected: Directives) {
        assert_eq!(Directives::of(&headers(&CACHE_CONTROL, lines)), expected, "{lines:?}");
    }

    fn check_targeted(lines: &[&str], expected: Option<Directives>) {
        assert_eq!(Directives::targeted(&headers(&CDN_CACHE_CONTROL, lines)), expected, "{lines:?}");
    }

    fn max_age(seconds: u32) -> Directives {
        Directives { max_age_s: Some(seconds), ..Directives::default() }
    }

    #[test]
    fn all_lines_are_read_in_any_letter_case() {
        let expected = Directives { no_store: true, s_maxage_s: Some(5), ..max_age(60) };
        check(&["MaX-aGe=60, No-StOrE, s-maxage=5"], expected);
        check(&["max-age=60", "no-store", "s-maxage=5"], expected);
    }

    #[test]
    fn unknown_directives_and_empty_members_are_ignored() {
        check(&["nothing-to-see-here, , foo=bar, max-age=60, x=\"y, no-store\""], max_age(60));
        check(&["", ","], Directives::default());
    }

    #[test]
    fn a_directive_inside_a_quoted_string_is_none() {
        check(&["extension=\"max-age=3600\", max-age=1"], max_age(1));
        check(&["extension=\"a\\\", max-age=3600\", max-age=1"], max_age(1));
    }

    #[test]
    fn an_open_quote_forbids_storing() {
        check(&["max-age=60, x=\"no-store"], Directives { no_store: true, ..max_age(60) });
    }

    #[test]
    fn an_argument_may_be_quoted_and_have_leading_zeros() {
        check(&["max-age=\"3600\""], max_age(3600));
        check(&["max-age=003600"], max_age(3600));
    }

    #[test]
    fn an_unreadable_argument_counts_as_zero() {
        for line in [
            "max-age",
            "max-age=",
            "max-age=-3600",
            "max-age='3600'",
            "max-age=3600.0",
            "max-age=a3600",
            "max-age=3600a",
            "max-age =3600",
            "max-age= 3600",
            "max-age=\"\"",
            "max-age=3600; private",
        ] {
            check(&[line], max_age(0));
        }
    }

    #[test]
    fn large_numbers_saturate() {
        check(&["max-age=99999999999"], max_age(SECONDS_MAX));
        check(&["max-age=2147483649"], max_age(SECONDS_MAX));
        check(&["max-age=2147483647"], max_age(2_147_483_647));
    }

    #[test]
    fn of_a_repeated_directive_the_shorter_one_counts() {
        check(&["max-age=1800, max-age=1"], max_age(1));
        check(&["max-age=1", "max-age=1800"], max_age(1));
    }

    #[test]
    fn field_names_behind_private_and_no_cache_are_read_as_the_whole_response() {
        let expected = Directives { private: true, no_cache: true, ..Directives::default() };
        check(&["private=\"set-cookie, x\", no-cache=\"y\""], expected);
        check_targeted(&["private=\"set-cookie\", no-cache=\"y\""], Some(expected));
    }

    #[test]
    fn a_targeted_field_is_a_strict_dictionary_by_rfc_9213() {
        check_targeted(&["max-age=3600"], Some(max_age(3600)));
        check_targeted(&["max-age=99999999999"], Some(max_age(SECONDS_MAX)));
        check_targeted(&["foobar, max-age=3600;x=1"], Some(max_age(3600)));
        check_targeted(&["no-store"], Some(Directives { no_store: true, ..Directives::default() }));
        check_targeted(&["max-age=60", "no-cache"], Some(Directives { no_cache: true, ..max_age(60) }));
        check_targeted(&["max-age=-1"], Some(max_age(0)));
        check_targeted(&["no-store=?0"], Some(Directives::default()));
    }

    #[test]
    fn a_targeted_field_that_is_malformed_or_of_a_wrong_type_is_ignored() {
        for line in [
            "",
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age",
            "max-age=1.5",
            "max-age=(1 2)",
            "MaX-aGe=3600",
            "max-age =100",
            "max-age= 100",
            "no-store=1",
            "no-store=()",
            "max-age=1,",
        ] {
            check_targeted(&[line], None);
        }
        assert_eq!(Directives::targeted(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn no_octets_make_the_parsers_panic(line in proptest::collection::vec(32u8..=255, 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let mut headers = HeaderMap::new();
                headers.append(CACHE_CONTROL, value.clone());
                headers.append(CDN_CACHE_CONTROL, value);
                let _ = Directives::of(&headers);
                let _ = Directives::targeted(&headers);
            }
        }

        #[test]
        fn what_is_known_is_found_among_anything_well_formed(
            before in "([a-z-]{1,9}(=([a-z0-9]{1,5}|\"[a-z0-9, =]{0,9}\"))?, ?){0,4}",
            seconds in 0..SECONDS_MAX,
        ) {
            let line = format!("{before}s-maxage={seconds}");
            prop_assume!(!before.contains("s-maxage"));
            prop_assert_eq!(Directives::of(&headers(&CACHE_CONTROL, &[&line])).s_maxage_s, Some(seconds));
        }
    }
}
