//! Bodies that say what they are and can be checked byte for byte: nobody can pass a part, or a mixture of two, for one.

use std::fmt::Write as _;

use bytes::Bytes;

/// What a body says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The target that it was made for.
    pub(crate) target: String,
    /// Its version.
    pub(crate) version: u64,
}

/// The body of a target at a version, so many bytes long (at least its own first line).
pub(crate) fn body(target: &str, version: u64, length: usize) -> Bytes {
    let mut text = String::new();
    let _ = writeln!(text, "{target} {version} {length}");
    let mut bytes = text.into_bytes();
    let mut state = seed(&bytes);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length.max(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1));
    bytes.into()
}

/// What a body is, if it is whole and nothing else.
pub(crate) fn check(bytes: &[u8]) -> Result<Stamp, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| shown("no first line", bytes))?;
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| shown("no text in the first line", bytes))?;
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or_else(|| shown("a short first line", bytes));
    let target = word()?.to_owned();
    let version = word()?.parse().map_err(|_| shown("no version", bytes))?;
    let length: usize = word()?.parse().map_err(|_| shown("no length", bytes))?;
    if body(&target, version, length) != bytes {
        return Err(format!("torn: {} bytes that call themselves `{line}`", bytes.len()));
    }
    Ok(Stamp { target, version })
}

fn shown(what: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    format!("{what} in {} bytes: {text:?}", bytes.len())
}

/// FNV-1a, and never 0.
fn seed(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_known_whole_and_only_whole() {
        for length in [0, 100, 70_000] {
            let whole = body("/a?b", 7, length);
            assert_eq!(check(&whole), Ok(Stamp { target: "/a?b".into(), version: 7 }));
            assert!(length == 0 || check(&whole[..whole.len() - 1]).is_err());
        }
        let mut mixed = body("/a", 1, 200).to_vec();
        mixed[100..].copy_from_slice(&body("/a", 2, 200)[100..]);
        assert!(check(&mixed).is_err());
    }
}
