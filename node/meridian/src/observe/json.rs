//! The few JSON pieces that an access-log line is made of, written without allocation.

/// Writes `"text"`, cut to `bytes_max` bytes. Quote, backslash and control characters (also C1, which terminals obey) are
/// escaped; what is not UTF-8 becomes U+FFFD. So a value can never end its string or its line.
pub(super) fn string(out: &mut Vec<u8>, text: &[u8], bytes_max: usize) {
    let (text, cut) = text.split_at_checked(bytes_max).map_or((text, false), |(head, rest)| (head, !rest.is_empty()));
    out.push(b'"');
    if text.iter().all(|byte| plain(*byte)) {
        out.extend_from_slice(text);
    } else {
        for chunk in text.utf8_chunks() {
            chunk.valid().chars().for_each(|c| character(out, c));
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    if cut {
        out.extend_from_slice("\u{2026}".as_bytes());
    }
    out.push(b'"');
}

/// Writes a number.
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn character(out: &mut Vec<u8>, c: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match c {
        '"' | '\\' => out.extend_from_slice(&[b'\\', if c == '"' { b'"' } else { b'\\' }]),
        // line and paragraph separators end a line for some readers
        '\u{2028}' | '\u{2029}' => out.extend_from_slice(if c == '\u{2028}' { b"\\u2028" } else { b"\\u2029" }),
        c if c.is_control() => {
            // control characters lie below U+00A0
            let code = (u32::from(c) & 0xff) as usize;
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[code >> 4], HEX[code & 15]]);
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn written(text: &[u8], bytes_max: usize) -> Vec<u8> {
        let mut out = Vec::new();
        string(&mut out, text, bytes_max);
        out
    }

    proptest! {
        #[test]
        fn any_bytes_become_one_json_string_on_one_line(text: Vec<u8>, bytes_max in 0_usize..64) {
            let out = written(&text, bytes_max);
            prop_assert!(out.iter().all(|b| *b >= b' ' && *b != 0x7f));
            prop_assert!(serde_json::from_slice::<String>(&out).is_ok());
        }

        #[test]
        fn text_reads_back_as_it_was(text: String) {
            prop_assert_eq!(serde_json::from_slice::<String>(&written(text.as_bytes(), usize::MAX)).unwrap(), text);
        }

        #[test]
        fn numbers_read_back(n: u64) {
            let mut out = Vec::new();
            number(&mut out, n);
            prop_assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(written("\u{1b}[2J\u{9b}\n\"\\".as_bytes(), 99), br#""\u001b[2J\u009b\u000a\"\\""#);
    }
}
