//! The field by which an origin knows that it is this node that asks.

use std::path::Path;

use http::{HeaderName, HeaderValue};
use region_config::OriginSecret;

use super::error::OriginError;

/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 1_024;

/// The field, with its value from the operator's file; the value is never shown.
#[derive(Debug)]
pub(super) struct Secret {
    field: Result<Option<(HeaderName, HeaderValue)>, String>,
}

impl Secret {
    /// Reads the file. A fault of it is kept and met by each request: without the field the origin would not answer, and
    /// nobody should learn that by trying.
    pub(super) fn load(secret: Option<&OriginSecret>) -> Self {
        let field = secret.map(|secret| {
            let name = HeaderName::from_bytes(secret.header.as_bytes()).map_err(|error| error.to_string())?;
            Ok((name, value(&secret.file)?))
        });
        Self { field: field.transpose() }
    }

    /// What is wrong with the file, if anything.
    pub(super) fn fault(&self) -> Option<&str> {
        self.field.as_ref().err().map(String::as_str)
    }

    /// The field to send, if there is one.
    ///
    /// # Errors
    /// [`OriginError::Unreachable`] if the file cannot be used.
    pub(super) fn field(&self) -> Result<Option<&(HeaderName, HeaderValue)>, OriginError> {
        self.field.as_ref().map(Option::as_ref).map_err(|why| OriginError::Unreachable(why.clone()))
    }
}

/// The file's first line.
fn value(path: &Path) -> Result<HeaderValue, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("reading the secret in {shown}: {error}"))?;
    let line = text.lines().next().unwrap_or("").trim();
    if line.is_empty() || line.len() > VALUE_BYTES_MAX {
        return Err(format!("the first line of {shown} is no secret: expected 1 to {VALUE_BYTES_MAX} bytes"));
    }
    let mut value = HeaderValue::from_str(line).map_err(|_| format!("the first line of {shown} fits no field"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn load(content: &str) -> Secret {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, content).unwrap();
        Secret::load(Some(&OriginSecret { header: "x-origin-secret".into(), file }))
    }

    #[test]
    fn the_first_line_is_the_value_which_is_never_shown() {
        let secret = load("canary-17 \nmore\n");
        assert_eq!(secret.field().unwrap().unwrap().1, "canary-17");
        assert!(!format!("{secret:?}").contains("canary"));
        assert!(Secret::load(None).field().unwrap().is_none());
    }

    #[test]
    fn a_file_that_holds_none_fails_its_origin() {
        for bad in ["", "\nx", "a\u{1}b", &"x".repeat(2_000)] {
            assert!(load(bad).field().is_err(), "{bad:?}");
        }
        let nowhere = OriginSecret { header: "x-a".into(), file: "/nowhere/secret".into() };
        assert!(Secret::load(Some(&nowhere)).fault().unwrap().contains("/nowhere/secret"));
    }
}
