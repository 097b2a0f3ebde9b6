//! Field values as octets: the list syntax of RFC 9110 section 5.6.1, read without copying and without failing.

/// Cuts optional white space (RFC 9110 section 5.6.3) off both ends.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The members of a comma-separated list. Commas inside quoted strings (RFC 9110 section 5.6.4) do not separate; empty
/// members are left out. A quoted string that does not end takes all the rest.
pub(crate) fn members(value: &[u8]) -> Members<'_> {
    Members { rest: value }
}

/// See [`members`].
pub(crate) struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = member_end(self.rest);
            let (member, rest) = self.rest.split_at(end);
            self.rest = rest.get(1..).unwrap_or_default();
            let member = trim(member);
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// Where the first member ends: at a comma outside quotes, or at the end.
fn member_end(value: &[u8]) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    value.len()
}

/// Whether an octet may stand in a token (RFC 9110 section 5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(value: &str, expected: &[&str]) {
        let found: Vec<_> = members(value.as_bytes()).map(|m| String::from_utf8_lossy(m).into_owned()).collect();
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn a_list_is_split_at_commas_outside_quotes() {
        check("a, b ,c", &["a", "b", "c"]);
        check(r#"a="1,2", b"#, &[r#"a="1,2""#, "b"]);
        check(r#"a="1\",2", b"#, &[r#"a="1\",2""#, "b"]);
        check(r#"a="1, b"#, &[r#"a="1, b"#]);
    }

    #[test]
    fn empty_members_are_left_out() {
        check("", &[]);
        check(" , ,\t,", &[]);
        check(",a,,b,", &["a", "b"]);
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic_or_run_on(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(members(&value).count() <= value.len());
        }
    }
}
