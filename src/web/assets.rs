//! The portal's own files, inside the binary: `/static/…`.
//!
//! [`url`] adds the file's hash, so a browser may keep an answer for ever; a path without the right hash is answered too,
//! but asked about again each time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{Embed, EmbeddedFile};

use super::problem::{Code, Problem};

const PREFIX: &str = "/static/";
/// Hex digits of the SHA-256 that an address carries.
const VERSION_DIGITS: usize = 12;

#[derive(Embed)]
#[folder = "static/"]
struct Files;

static URLS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let versioned = |path: &str| Files::get(path).map(|file| format!("{PREFIX}{path}?v={}", version(&file)));
    Files::iter().filter_map(|path| versioned(&path).map(|url| (path.into_owned(), url))).collect()
});

/// The address of a file under `static/`, with its hash. A file that does not exist gets its plain address; a test holds
/// that templates name no such file.
#[must_use]
pub fn url(path: &str) -> &str {
    URLS.get(path).map_or(path, String::as_str)
}

/// `/static/…`
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/static/{*path}", get(serve)).route("/favicon.ico", get(favicon))
}

async fn favicon(headers: HeaderMap) -> Response {
    answer("favicon.svg", false, &headers)
}

async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let asked = uri.query().and_then(|query| query.strip_prefix("v="));
    let exact = asked.is_some() && URLS.get(path).and_then(|url| url.rsplit_once("?v=")).map(|(_, v)| v) == asked;
    answer(path, exact, &headers)
}

fn answer(path: &str, exact: bool, headers: &HeaderMap) -> Response {
    let Some(file) = Files::get(path) else {
        return Problem::new(Code::NotFound, "There is no such file.").into_response();
    };
    let etag = format!("\"{}\"", version(&file));
    let lasting = if exact { "public, max-age=31536000, immutable" } else { "public, no-cache" };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = if known.is_some_and(|known| known.split(',').any(|one| one.trim().ends_with(&etag))) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type(&file))], file.data).into_response()
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(lasting));
    response.headers_mut().extend(HeaderValue::from_str(&etag).ok().map(|etag| (header::ETAG, etag)));
    response
}

fn content_type(file: &EmbeddedFile) -> String {
    let kind = file.metadata.mimetype();
    if kind.starts_with("text/") { format!("{kind}; charset=utf-8") } else { kind.to_owned() }
}

fn version(file: &EmbeddedFile) -> String {
    let mut hex = hex(&file.metadata.sha256_hash());
    hex.truncate(VERSION_DIGITS);
    hex
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[derive(serde::Deserialize)]
    struct Vendor {
        file: Vec<VendorFile>,
    }

    #[derive(serde::Deserialize)]
    struct VendorFile {
        path: String,
        sha256: String,
        licence: String,
        version: String,
    }

    #[test]
    fn every_vendored_script_is_the_one_its_checksum_names() {
        let vendor: Vendor = toml::from_str(include_str!("../../static/vendor/VENDOR.toml")).unwrap();
        let listed: Vec<_> = vendor.file.iter().map(|file| format!("vendor/{}", file.path)).collect();
        for path in Files::iter().filter(|path| path.starts_with("vendor/") && path.ends_with(".js")) {
            assert!(listed.contains(&path.to_string()), "{path} is not in VENDOR.toml");
        }
        for file in vendor.file {
            let found = Files::get(&format!("vendor/{}", file.path)).unwrap();
            assert_eq!(hex(&found.metadata.sha256_hash()), file.sha256, "{}", file.path);
            assert!(file.path.contains(&file.version) && !file.licence.is_empty());
        }
    }

    #[test]
    fn an_address_with_the_files_hash_may_be_kept_for_ever_and_any_other_is_asked_about() {
        let with_hash = answer("weir.css", true, &HeaderMap::new());
        assert_eq!(with_hash.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert_eq!(with_hash.headers()[header::CONTENT_TYPE], "text/css; charset=utf-8");
        let without = answer("weir.css", false, &HeaderMap::new());
        assert_eq!(without.headers()[header::CACHE_CONTROL], "public, no-cache");
    }

    #[test]
    fn a_browser_that_has_the_file_is_told_so() {
        let first = answer("weir.js", false, &HeaderMap::new());
        let etag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        let second = answer("weir.js", false, &headers(&[(header::IF_NONE_MATCH, &etag)]));
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in ["", "nothing.css", "../Cargo.toml"] {
            assert_eq!(answer(path, false, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn templates_and_icons_name_files_that_exist() {
        let templates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let icons = Files::get("icons.svg").unwrap();
        let icons = std::str::from_utf8(&icons.data).unwrap().to_owned();
        let mut folders = vec![templates];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                for (_, rest) in text.match_indices("assets::url(\"").map(|(at, found)| text.split_at(at + found.len()))
                {
                    let file = rest.split('"').next().unwrap();
                    assert!(Files::get(file).is_some(), "{} names {file}", path.display());
                }
                for (_, rest) in text.match_indices("m::icon(\"").map(|(at, found)| text.split_at(at + found.len())) {
                    let icon = rest.split('"').next().unwrap();
                    assert!(icons.contains(&format!("id=\"{icon}\"")), "{} names the icon {icon}", path.display());
                }
            }
        }
    }
}
