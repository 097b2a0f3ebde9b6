//! The admin UI, built by Vite and kept in the binary. Without it (a build without node) a page says how to get it.

use axum::response::{IntoResponse, Response};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::problem::Problem;

#[derive(RustEmbed)]
#[folder = "../../admin-ui/dist"]
#[allow_missing = true]
struct Files;

const INDEX: &str = "index.html";
/// Vite puts a hash of the content into the names in this folder: what is under a name never changes.
const HASHED: &str = "assets/";

/// Answers a GET for anything that is not the API.
pub(super) fn answer(path: &str, headers: &HeaderMap) -> Response {
    let path = path.trim_start_matches('/');
    if path.starts_with("api/") {
        return Problem::not_found("there is nothing here").expected("see /api/v1/openapi.json").into_response();
    }
    // the UI keeps its state behind `#`; any other path of it is its index page, except what has a file's name
    let name = if path.is_empty() || !path.contains('.') { INDEX } else { path };
    match Files::get(name) {
        Some(file) => served(name, &file, headers),
        None if name == INDEX => {
            let text = "This binary was built without the admin UI: run `npm ci && npm run build` in admin-ui, then \
                        build again. The API is at /api/v1/.\n";
            (StatusCode::NOT_FOUND, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
        None => Problem::not_found("there is no such file").into_response(),
    }
}

fn served(name: &str, file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let hash: String = file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let etag = format!("\"{hash}\"");
    let kept = if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let same = headers.get(IF_NONE_MATCH).is_some_and(|sent| sent.as_bytes() == etag.as_bytes());
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, media_type(name))], file.data.clone().into_owned()).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    response
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
