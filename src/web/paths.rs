//! Paths that more than one file names.

/// Sign-in page.
pub const SIGN_IN: &str = "/sign-in";
/// First-run set-up page.
pub const SETUP: &str = "/setup";
/// Where machines talk to us; everything else is for browsers.
pub const API: &str = "/v1";

/// The one-time link of the first run, as a path.
#[must_use]
pub fn setup_link(secret: &str) -> String {
    format!("{SETUP}?token={secret}")
}

/// The page that explains an error code.
#[must_use]
pub fn problem(code: &str) -> String {
    format!("/problems/{code}")
}

/// Whether a path belongs to machines: its refusals are problem details whatever the client accepts.
#[must_use]
pub fn is_api(path: &str) -> bool {
    path == API || path.starts_with("/v1/") || matches!(path, "/openapi.json" | "/livez" | "/readyz" | "/metrics")
}

/// A path on this server to go to after signing in, or `/` for anything that could lead elsewhere.
///
/// Browsers read `//host`, `/\host` and control characters as other sites, so only plain absolute paths pass.
#[must_use]
pub fn safe_next(next: Option<&str>) -> &str {
    match next {
        Some(path)
            if path.starts_with('/')
                && !path.starts_with("//")
                && !path.contains('\\')
                && !path.chars().any(char::is_control)
                && !path.starts_with(SIGN_IN) =>
        {
            path
        }
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_on_this_server_are_returned_to() {
        assert_eq!(safe_next(Some("/topics/orders?tab=events")), "/topics/orders?tab=events");
        for evil in
            ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:x", "/a\r\nb", "", "/sign-in"]
        {
            assert_eq!(safe_next(Some(evil)), "/", "{evil:?}");
        }
        assert_eq!(safe_next(None), "/");
    }
}
