//! A page of the portal: the frame around it, what it says once after a change, and how a refusal looks to a person.
//!
//! A handler answers [`PageResult`]: `render(&ThePage { frame, … })`, or `redirect("/teams/x").say(Flash::ok("…"))`. With
//! `?` any error that is a [`Problem`] becomes an error page, or a toast when htmx asked.

use askama::Template;
use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, UtcOffset};

use super::problem::{Code, FieldError, Problem};

/// What a page's handler answers.
pub type PageResult = Result<Response, PageError>;

/// Carries a sentence for a toast to `weir.js`, percent-encoded.
pub const TOAST: HeaderName = HeaderName::from_static("weir-toast");
const FLASH_COOKIE: &str = "weir_flash";
const THEME_COOKIE: &str = "weir_theme";
const ZONE_COOKIE: &str = "weir_zone";
/// Characters of a flash; longer ones are cut, because a cookie holds 4 KiB.
const FLASH_CHARS_MAX: usize = 600;
const PREFERENCE_LIFE: Duration = Duration::days(365);
const FLASH_LIFE: Duration = Duration::minutes(2);

/// Light or dark, where the person chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    Light,
    Dark,
}

impl Theme {
    /// As `data-theme` says it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// `None`: as the system does.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "light" => Some(Self::Light),
            "dark" => Some(Self::Dark),
            _ => None,
        }
    }
}

/// In which zone absolute times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    /// The browser's; without JavaScript UTC.
    #[default]
    Local,
    Utc,
}

impl Zone {
    /// As `data-zone` says it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Utc => "utc",
        }
    }

    /// Everything but `utc` is local.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "utc" { Self::Utc } else { Self::Local }
    }
}

/// How a flash looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlashKind {
    Ok,
    Warn,
    Danger,
}

impl FlashKind {
    /// The class of the toast.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Danger => "danger",
        }
    }

    /// Its sign.
    #[must_use]
    pub const fn icon(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Danger => "error",
        }
    }
}

/// What the next page says once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flash {
    pub kind: FlashKind,
    pub text: String,
    /// Where a button "Undo" posts to; a path of our own.
    pub undo: Option<String>,
}

impl Flash {
    /// It worked.
    #[must_use]
    pub fn ok(text: impl Into<String>) -> Self {
        Self { kind: FlashKind::Ok, text: text.into(), undo: None }
    }

    /// It did not, or not quite.
    #[must_use]
    pub fn warn(text: impl Into<String>) -> Self {
        Self { kind: FlashKind::Warn, text: text.into(), undo: None }
    }

    /// Offers to take it back by a POST to this path.
    #[must_use]
    pub fn undo(mut self, path: impl Into<String>) -> Self {
        self.undo = Some(path.into());
        self
    }

    fn decode(cookie: &str) -> Option<Self> {
        let flash: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cookie).ok()?).ok()?;
        Some(Self { undo: flash.undo.filter(|path| is_local(path)), ..flash })
    }

    fn cookie(mut self) -> Cookie<'static> {
        if self.text.chars().count() > FLASH_CHARS_MAX {
            self.text = self.text.chars().take(FLASH_CHARS_MAX).chain(['…']).collect();
        }
        let json = serde_json::to_vec(&self).unwrap_or_default();
        Cookie::build((FLASH_COOKIE, URL_SAFE_NO_PAD.encode(json)))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .max_age(FLASH_LIFE)
            .build()
    }
}

/// Whether a text is a path on this server, so that a redirect to it stays here.
#[must_use]
pub fn is_local(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Who is signed in, as the frame shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FramePerson {
    pub email: String,
    pub name: String,
    pub admin: bool,
}

impl FramePerson {
    /// What to greet the person with.
    #[must_use]
    pub fn first_name(&self) -> &str {
        self.name.split_whitespace().next().unwrap_or(&self.email)
    }

    /// One or two letters for the round sign.
    #[must_use]
    pub fn initials(&self) -> String {
        let mut words = self.name.split_whitespace();
        let first = words.next().and_then(|word| word.chars().next());
        let last = words.next_back().and_then(|word| word.chars().next());
        first.into_iter().chain(last).collect()
    }
}

/// One entry of the side bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NavItem {
    pub label: &'static str,
    pub href: &'static str,
    pub icon: &'static str,
    pub keys: Option<&'static str>,
    pub current: bool,
}

/// What every page needs around its content. An extractor makes it from the request.
#[derive(Debug, Clone)]
pub struct Frame {
    /// `None` on pages for strangers.
    pub person: Option<FramePerson>,
    pub theme: Option<Theme>,
    pub zone: Zone,
    pub flash: Option<Flash>,
    /// How people reach this instance: `https://weir.example.com`, without a slash at the end.
    pub base_url: String,
    /// For `<script nonce=…>`.
    pub nonce: String,
    /// The page's path and query.
    pub path: String,
    /// Whether htmx asks.
    pub htmx: bool,
    /// Whether htmx asks for a part of the page only.
    pub partial: bool,
    pub now: OffsetDateTime,
}

impl Frame {
    /// What cookies and headers say; the rest is for the caller to fill in.
    #[must_use]
    pub fn of(headers: &HeaderMap, uri: &Uri, now: OffsetDateTime) -> Self {
        let jar = CookieJar::from_headers(headers);
        let cookie = |name: &str| jar.get(name).map(Cookie::value);
        Self {
            person: None,
            theme: cookie(THEME_COOKIE).and_then(Theme::parse),
            zone: cookie(ZONE_COOKIE).map(Zone::parse).unwrap_or_default(),
            flash: cookie(FLASH_COOKIE).and_then(Flash::decode),
            base_url: String::new(),
            nonce: String::new(),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            htmx: headers.contains_key("hx-request"),
            partial: headers.get("hx-request-type").is_some_and(|kind| kind == "partial"),
            now,
        }
    }

    /// The side bar for this person on this page.
    #[must_use]
    pub fn nav(&self) -> Vec<NavItem> {
        let item = |label, href: &'static str, icon, keys| {
            let below =
                self.path.strip_prefix(href).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
            let current = if href == "/" { self.path == "/" } else { below };
            NavItem { label, href, icon, keys, current }
        };
        let mut items = vec![
            item("Home", "/", "home", Some("g h")),
            item("Applications", "/apps", "app", Some("g a")),
            item("Topics", "/topics", "topic", Some("g t")),
            item("Teams", "/teams", "team", Some("g m")),
            item("Audit log", "/audit", "audit", Some("g l")),
        ];
        if self.person.as_ref().is_some_and(|person| person.admin) {
            items.push(item("People", "/admin/users", "users", None));
        }
        items
    }

    /// "3 min ago", "in 2 days".
    #[must_use]
    pub fn ago(&self, at: &OffsetDateTime) -> String {
        relative(*at, self.now)
    }
}

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;
const MONTH_S: i64 = 30 * DAY_S;
const YEAR_S: i64 = 365 * DAY_S;

/// The words are those of `ago` in `static/weir.js`, so that a page does not change when the script takes over.
fn relative(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let seconds = (at - now).whole_seconds();
    let past = seconds < 0;
    let distance = seconds.saturating_abs();
    // The past is rounded down and the future to the nearest: a token made for seven days ends in seven days.
    let count = |unit: i64| (if past { distance } else { distance + unit / 2 }) / unit;
    let (count, unit) = match distance {
        0..5 => return "just now".to_owned(),
        5..MINUTE_S => (distance, "s"),
        MINUTE_S..HOUR_S => (count(MINUTE_S), "min"),
        HOUR_S..DAY_S => (count(HOUR_S), "h"),
        DAY_S..MONTH_S => (count(DAY_S), "day"),
        MONTH_S..YEAR_S => (count(MONTH_S), "month"),
        _ => (count(YEAR_S), "year"),
    };
    let plural = if count > 1 && unit.len() > 2 && unit != "min" { "s" } else { "" };
    if past { format!("{count} {unit}{plural} ago") } else { format!("in {count} {unit}{plural}") }
}

/// For `<time datetime=…>`.
#[must_use]
pub fn iso(at: &OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

/// `22 Nov 2026, 13:05:09 UTC`; the script shows it in the person's zone.
#[must_use]
pub fn absolute(at: &OffsetDateTime) -> String {
    let format = format_description!("[day padding:none] [month repr:short] [year], [hour]:[minute]:[second] UTC");
    at.to_offset(UtcOffset::UTC).format(format).unwrap_or_default()
}

/// Whether a text that somebody typed may become a link.
#[must_use]
pub fn is_web_address(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// An address without its scheme, for reading.
#[must_use]
pub fn short_address(url: &str) -> &str {
    url.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/')
}

/// A browser and system out of a `User-Agent`, as far as they matter to tell one's own browsers apart.
#[must_use]
pub fn browser_name(agent: &str) -> String {
    let known =
        |names: &[(&str, &'static str)]| names.iter().find(|(sign, _)| agent.contains(sign)).map(|(_, name)| *name);
    let browser = known(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = known(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        _ => agent.chars().take(60).collect(),
    }
}

/// The first paragraph of Markdown without its marks, for one line of a list.
#[must_use]
pub fn plain(markdown: &str) -> String {
    let lines = markdown.lines().map(str::trim);
    let text = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty() && !line.starts_with("* "));
    let text = text.map(|line| line.trim_start_matches('#').trim_start()).collect::<Vec<_>>().join(" ");
    text.chars().filter(|c| !matches!(c, '*' | '`')).collect()
}

/// The sign of a notice.
#[must_use]
pub fn notice_icon(kind: &str) -> &'static str {
    match kind {
        "ok" => "ok",
        "warn" => "warn",
        "danger" => "error",
        _ => "info",
    }
}

/// Answers a page.
///
/// # Errors
/// Only if a value cannot be written as text.
pub fn render<T: Template>(page: &T) -> PageResult {
    render_as(StatusCode::OK, page)
}

/// Answers a page with a status: a form that has to be corrected is a 422.
///
/// # Errors
/// As [`render`].
pub fn render_as<T: Template>(status: StatusCode, page: &T) -> PageResult {
    let html = page.render().map_err(|error| {
        tracing::error!(%error, "a template could not be rendered");
        Problem::new(Code::Internal, "The page could not be made.")
    })?;
    let mut response = (status, Html(html)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("cookie, hx-request"));
    Ok(response)
}

/// Answers a page that shows a secret once: nobody keeps a copy.
///
/// # Errors
/// As [`render`].
pub fn render_secret<T: Template>(page: &T) -> PageResult {
    let mut response = render_as(StatusCode::OK, page)?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Where to go after a change, and what to say there.
#[derive(Debug, Clone)]
#[must_use]
pub struct Redirect {
    to: String,
    flash: Option<Flash>,
}

/// "See other": the browser gets the page with a GET, so that reloading it repeats nothing.
pub fn redirect(to: impl Into<String>) -> Redirect {
    let to = to.into();
    Redirect { to: if is_local(&to) { to } else { "/".to_owned() }, flash: None }
}

impl Redirect {
    /// What the next page says.
    pub fn say(mut self, flash: Flash) -> Self {
        self.flash = Some(flash);
        self
    }
}

impl IntoResponse for Redirect {
    fn into_response(self) -> Response {
        let mut response = StatusCode::SEE_OTHER.into_response();
        let headers = response.headers_mut();
        let to = HeaderValue::from_str(&self.to).unwrap_or(HeaderValue::from_static("/"));
        headers.insert(header::LOCATION, to);
        if let Some(flash) = self.flash {
            append_cookie(headers, &flash.cookie());
        }
        response
    }
}

impl From<Redirect> for PageResult {
    fn from(redirect: Redirect) -> Self {
        Ok(redirect.into_response())
    }
}

fn append_cookie(headers: &mut HeaderMap, cookie: &Cookie<'_>) {
    if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Keeps a choice of theme and time zone, where the browser runs no script.
pub fn keep_preferences(headers: &mut HeaderMap, theme: Option<&str>, zone: Option<&str>) {
    let mut keep = |name: &'static str, value: &'static str| {
        let life = if value.is_empty() { Duration::ZERO } else { PREFERENCE_LIFE };
        let cookie = Cookie::build((name, value)).path("/").same_site(SameSite::Lax).max_age(life).build();
        append_cookie(headers, &cookie);
    };
    if let Some(theme) = theme {
        keep(THEME_COOKIE, Theme::parse(theme).map_or("", |theme| theme.as_str()));
    }
    if let Some(zone) = zone {
        keep(ZONE_COOKIE, Zone::parse(zone).as_str());
    }
}

/// A refusal, for a person. `web::security` asks [`refused`] for its page, because only there the whole request is known.
#[derive(Debug, Clone)]
pub struct PageError(Box<Problem>);

impl<E> From<E> for PageError
where
    Problem: From<E>,
{
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

impl PageError {
    /// What was refused.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// A way out of an error page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Recovery {
    href: String,
    label: &'static str,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame,
    status: u16,
    title: &'a str,
    code: &'a str,
    detail: &'a str,
    hint: Option<&'a str>,
    errors: &'a [FieldError],
    links: Vec<Recovery>,
    request_id: &'a str,
}

/// A refusal as a person sees it: a page, or a toast when htmx asked.
#[must_use]
pub fn refused(problem: &Problem, frame: &Frame, request_id: &str) -> Response {
    let mut response = if frame.htmx { as_toast(problem) } else { as_page(problem, frame.clone(), request_id) };
    for (name, value) in &problem.headers {
        response.headers_mut().append(name, value.clone());
    }
    response
}

/// A layer of the portal: a flash that was shown is forgotten.
pub async fn forget_flash(request: Request, next: Next) -> Response {
    let carried = CookieJar::from_headers(request.headers()).get(FLASH_COOKIE).is_some();
    let mut response = next.run(request).await;
    let shown = response.status() != StatusCode::SEE_OTHER
        && response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if carried && shown {
        let gone = Cookie::build((FLASH_COOKIE, "")).path("/").max_age(Duration::ZERO).build();
        append_cookie(response.headers_mut(), &gone);
    }
    response
}

fn as_toast(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = status.into_response();
    let text = askama::filters::urlencode_strict(&problem.detail).map(|text| text.to_string());
    let headers = response.headers_mut();
    headers.insert("hx-reswap", HeaderValue::from_static("none"));
    headers.extend(text.ok().and_then(|text| Some((TOAST, HeaderValue::from_str(&text).ok()?))));
    response
}

fn as_page(problem: &Problem, frame: Frame, request_id: &str) -> Response {
    let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let page = ErrorPage {
        status: problem.code.status(),
        title: problem.code.title(),
        code: problem.code.as_str(),
        detail: &problem.detail,
        hint: problem.hint.as_deref(),
        errors: &problem.errors,
        links: recovery(problem, &frame),
        request_id,
        frame,
    };
    render_as(status, &page).unwrap_or_else(|_| (status, problem.detail.clone()).into_response())
}

/// Ways on from here, the likeliest first.
fn recovery(problem: &Problem, frame: &Frame) -> Vec<Recovery> {
    let link = |href: &str, label| Recovery { href: href.to_owned(), label };
    if problem.code.status() == 401 {
        return vec![link("/sign-in", "Sign in")];
    }
    let asked = problem.members.get("request_access").and_then(serde_json::Value::as_str).filter(|path| is_local(path));
    let mut links: Vec<_> = asked.map(|path| link(path, "Who can give you access")).into_iter().collect();
    if problem.code.retryable() {
        links.push(link(&frame.path, "Try again"));
    }
    for (prefix, label) in [("/topics", "All topics"), ("/apps", "All applications"), ("/teams", "All teams")] {
        if frame.path.starts_with(prefix) && frame.path != prefix {
            links.push(link(prefix, label));
        }
    }
    links.push(link("/", "Home"));
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-22 12:00:00 UTC);

    fn frame(path: &str) -> Frame {
        Frame::of(&HeaderMap::new(), &path.parse().unwrap(), NOW)
    }

    #[test]
    fn times_are_told_as_people_tell_them() {
        for (at, text) in [
            (datetime!(2026-11-22 11:59:58 UTC), "just now"),
            (datetime!(2026-11-22 11:59:30 UTC), "30 s ago"),
            (datetime!(2026-11-22 11:01:00 UTC), "59 min ago"),
            (datetime!(2026-11-22 10:59:00 UTC), "1 h ago"),
            (datetime!(2026-11-21 12:00:00 UTC), "1 day ago"),
            (datetime!(2026-11-12 12:00:00 UTC), "10 days ago"),
            (datetime!(2026-11-29 11:59:57 UTC), "in 7 days"),
            (datetime!(2026-12-23 12:00:00 UTC), "in 1 month"),
            (datetime!(2024-11-22 12:00:00 UTC), "2 years ago"),
        ] {
            assert_eq!(relative(at, NOW), text);
        }
        assert_eq!(absolute(&NOW), "22 Nov 2026, 12:00:00 UTC");
        assert_eq!(iso(&NOW), "2026-11-22T12:00:00Z");
    }

    #[test]
    fn a_description_becomes_one_plain_line() {
        assert_eq!(
            plain("\n# One event\nfor every **departure** of `EWR`.\n* Key: x\n\nMore"),
            "One event for every departure of EWR."
        );
        assert_eq!(plain(""), "");
    }

    #[test]
    fn a_redirect_never_leaves_the_portal() {
        for (to, stays) in [
            ("/teams/a?b=c", true),
            ("//evil.example", false),
            ("https://evil.example", false),
            ("/\\evil", false),
            ("/a\r\nb", false),
        ] {
            let response = redirect(to).into_response();
            assert_eq!(response.headers()[header::LOCATION] == *to, stays, "{to}");
        }
    }

    #[test]
    fn a_flash_survives_its_cookie_and_undoes_only_here() {
        let flash = Flash::ok("Removed “Ada” – really").undo("/teams/payments/restore");
        let cookie = flash.clone().cookie();
        assert_eq!(Flash::decode(cookie.value()), Some(flash.clone()));
        let foreign = Flash { undo: Some("https://evil.example/x".to_owned()), ..flash };
        assert_eq!(Flash::decode(foreign.cookie().value()).unwrap().undo, None);
        assert_eq!(Flash::decode("no base64!"), None);
    }

    #[test]
    fn a_flash_fits_into_a_cookie() {
        let cookie = Flash::ok("€".repeat(10_000)).cookie();
        assert!(cookie.to_string().len() < 4096);
        assert!(Flash::decode(cookie.value()).unwrap().text.ends_with('…'));
    }

    #[test]
    fn the_side_bar_marks_where_one_is() {
        let current =
            |path: &str| frame(path).nav().into_iter().filter(|i| i.current).map(|i| i.label).collect::<Vec<_>>();
        assert_eq!(current("/"), ["Home"]);
        assert_eq!(current("/apps/checkout?x=1"), ["Applications"]);
        assert_eq!(current("/appsx"), Vec::<&str>::new());
        assert!(!frame("/").nav().iter().any(|item| item.href.starts_with("/admin")), "strangers see nothing of admin");
    }

    #[test]
    fn a_refusal_is_a_page_for_people_and_a_toast_for_htmx() {
        let problem = Problem::new(Code::NotFound, "There is no topic “x”.");
        let page = refused(&problem, &frame("/topics/x"), "req_1");
        assert_eq!(page.status(), StatusCode::NOT_FOUND);
        assert!(page.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
        let toast = refused(&problem, &Frame { htmx: true, ..frame("/topics/x") }, "req_1");
        assert_eq!(toast.headers()[&TOAST], "There%20is%20no%20topic%20%E2%80%9Cx%E2%80%9D.");
        assert_eq!(toast.headers()["hx-reswap"], "none");
    }

    #[test]
    fn an_error_page_says_where_to_go_on() {
        let labels = |problem: &Problem, path: &str| {
            recovery(problem, &frame(path)).into_iter().map(|l| l.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(&Problem::new(Code::NotFound, ""), "/topics/x"), ["All topics", "Home"]);
        assert_eq!(labels(&Problem::new(Code::Unauthenticated, ""), "/"), ["Sign in"]);
        assert_eq!(labels(&Problem::new(Code::Unavailable, ""), "/teams"), ["Try again", "Home"]);
        let denied = Problem::new(Code::Forbidden, "").with("request_access", "//evil.example");
        assert_eq!(labels(&denied, "/"), ["Home"]);
    }

    #[test]
    fn what_a_person_wrote_is_escaped() {
        let problem = Problem::new(Code::NotFound, "<script>alert(1)</script>");
        let page = ErrorPage {
            frame: frame("/"),
            status: 404,
            title: "t",
            code: "not-found",
            detail: &problem.detail,
            hint: None,
            errors: &[],
            links: Vec::new(),
            request_id: "req_1",
        };
        assert!(!page.render().unwrap().contains("<script>alert"));
    }
}
