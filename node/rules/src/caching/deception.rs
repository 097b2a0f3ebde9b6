//! Cache deception: a page of somebody's account is asked for under a name that looks like a file, so that a cache that
//! goes by names keeps it for everybody.
//!
//! The guard goes by three facts: the path's last segment ends as files do; the path holds what servers take for the
//! end of a path (an encoded delimiter, or `;`); the response's type is not the file's. A response whose lifetime the
//! origin itself named is trusted, unless the route is `static`, where lifetimes come with the place and not with the
//! response.

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};

use super::Reason;

/// Endings that are taken for files, and the types that such files have: a type, or the beginning of types.
const FILES: [(&str, &[&str]); 42] = [
    ("7z", &["application/"]),
    ("apk", &["application/"]),
    ("avi", &["video/"]),
    ("avif", &["image/"]),
    ("bin", &["application/"]),
    ("bmp", &["image/"]),
    ("css", &["text/css"]),
    ("csv", &["text/csv", "text/plain", "application/vnd.ms-excel"]),
    ("doc", &["application/"]),
    ("docx", &["application/"]),
    ("eot", &["application/", "font/"]),
    ("exe", &["application/"]),
    ("flac", &["audio/"]),
    ("gif", &["image/"]),
    ("gz", &["application/"]),
    ("ico", &["image/"]),
    ("jpeg", &["image/"]),
    ("jpg", &["image/"]),
    ("js", &["text/javascript", "application/javascript", "application/x-javascript", "application/ecmascript"]),
    ("m4a", &["audio/"]),
    ("map", &["application/json", "application/source-map", "text/plain"]),
    ("mjs", &["text/javascript", "application/javascript", "application/x-javascript"]),
    ("mkv", &["video/"]),
    ("mp3", &["audio/"]),
    ("mp4", &["video/", "audio/"]),
    ("ogg", &["audio/", "video/", "application/ogg"]),
    ("otf", &["font/", "application/"]),
    ("pdf", &["application/pdf"]),
    ("png", &["image/"]),
    ("pptx", &["application/"]),
    ("svg", &["image/"]),
    ("svgz", &["image/"]),
    ("tif", &["image/"]),
    ("tiff", &["image/"]),
    ("ttf", &["font/", "application/"]),
    ("wasm", &["application/wasm"]),
    ("webm", &["video/", "audio/"]),
    ("webp", &["image/"]),
    ("woff", &["font/", "application/"]),
    ("woff2", &["font/", "application/"]),
    ("xlsx", &["application/"]),
    ("zip", &["application/"]),
];

/// Types that pages and data of accounts have, and that a file of a broad type never has.
const PAGES: [&str; 5] =
    ["text/html", "application/xhtml", "application/json", "application/xml", "application/problem"];

/// What servers behind this one may take for the end of a path or of a segment, encoded: `/`, `\`, `;`, `?`, `#`, a line's
/// end, NUL. (Once encoded, a NUL never comes this far; nor do dot segments.)
const DELIMITERS: [&str; 8] = ["2F", "5C", "3B", "3F", "23", "0A", "0D", "00"];

/// Why a response to a path (in normal form) may be another thing than its name says, if it may.
pub(crate) fn deceives(path: &str, status: StatusCode, response: &HeaderMap) -> Option<Reason> {
    let types = file_types(path)?;
    if path.contains(';') || hides_end(path) {
        return Some(Reason::DeceptivePath);
    }
    // an error is a page whatever it is that is missing
    (status.is_success() && !is_of(types, response)).then_some(Reason::ContentMismatch)
}

/// Whether a path holds an encoded delimiter, encoded once or twice.
fn hides_end(path: &str) -> bool {
    path.split('%').skip(1).any(|piece| {
        let code = if piece.starts_with("25") { piece.get(2..4) } else { piece.get(..2) };
        code.is_some_and(|code| DELIMITERS.iter().any(|known| code.eq_ignore_ascii_case(known)))
    })
}

/// The types of the file that a path's last segment looks like.
fn file_types(path: &str) -> Option<&'static [&'static str]> {
    // a server that decodes late or cuts at `;` sees other ends than this one; any of them counts
    let (_, ending) = path.rsplit_once('.')?;
    let ending = ending.split([';', '%', '/']).next().unwrap_or_default();
    FILES.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, types)| *types)
}

/// Whether a response's type is one of these. One that says nothing, or that it is just bytes, is not a page.
fn is_of(types: &[&str], response: &HeaderMap) -> bool {
    let Some(found) = response.get(CONTENT_TYPE) else { return true };
    let begins = |beginning: &&str| {
        found.as_bytes().get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning.as_bytes()))
    };
    if begins(&"application/octet-stream") {
        return true;
    }
    let exact = types.iter().any(|known| begins(known) && !known.ends_with('/'));
    exact || (types.iter().any(begins) && !PAGES.iter().any(begins))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn check(path: &str, kind: Option<&str>, expected: Option<Reason>) {
        let mut response = HeaderMap::new();
        if let Some(kind) = kind {
            response.insert(CONTENT_TYPE, kind.parse().unwrap());
        }
        assert_eq!(deceives(path, StatusCode::OK, &response), expected, "{path} as {kind:?}");
    }

    #[test]
    fn what_is_what_its_name_says_passes() {
        check("/app.css", Some("text/css; charset=utf-8"), None);
        check("/app.JS", Some("Text/JavaScript"), None);
        check("/a.woff2", Some("font/woff2"), None);
        check("/a.map", Some("application/json"), None);
        check("/a.zip", Some("application/zip"), None);
        check("/a.png", None, None);
        check("/a.png", Some("application/octet-stream"), None);
        check("/account", Some("text/html"), None);
        check("/account/", Some("text/html"), None);
        check("/v1.2/account", Some("text/html"), None);
        check("/a%2Fb", Some("text/html"), None);
        check("/a;b", Some("text/html"), None);
        check("/100%25.png", Some("image/png"), None);
        check("/%C3%A4.png", Some("image/png"), None);
    }

    #[test]
    fn a_page_under_a_files_name_is_found() {
        check("/account/x.css", Some("text/html"), Some(Reason::ContentMismatch));
        check("/account.php/x.jpg", Some("text/html"), Some(Reason::ContentMismatch));
        check("/me/x.woff", Some("application/json"), Some(Reason::ContentMismatch));
        check("/me/x.js", Some("application/json"), Some(Reason::ContentMismatch));
    }

    #[test]
    fn a_path_with_a_hidden_end_is_found_whatever_its_type() {
        for path in [
            "/account%2Fx.css",
            "/account%3Fx.css",
            "/account%23x.css",
            "/account%3Bx.css",
            "/account;x.css",
            "/account;/x.css",
            "/account/..;/x.css",
            "/static/..%2Faccount/x.css",
            "/account%0Ax.css",
            "/account%252Fx.css",
            "/account%252fx.css",
            "/account%2500x.css",
            "/account%5Cx.css",
            "/x.css;account",
            "/x.css%2Faccount",
        ] {
            check(path, Some("text/css"), Some(Reason::DeceptivePath));
        }
    }

    #[test]
    fn an_error_page_is_no_mismatch() {
        let mut response = HeaderMap::new();
        response.insert(CONTENT_TYPE, "text/html".parse().unwrap());
        assert_eq!(deceives("/a.css", StatusCode::NOT_FOUND, &response), None);
    }
}
