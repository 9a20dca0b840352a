//! A real browser, for what only a browser can tell: keyboard, scripts, the content security policy, the look.
//!
//! ```ignore
//! let browser = Browser::of(&weir, &ada).await;     // signed in; Browser::stranger(&weir) is not
//! browser.open("/teams/new").await;
//! browser.fill("name", "payments").await;
//! browser.click("button.primary").await;
//! assert_eq!(browser.path().await, "/teams/payments");
//! browser.complains_about_nothing().await;
//! ```
//!
//! Each browser is a Chromium of its own under a chromedriver of its own; both end with it, also when a test fails. At most
//! [`BROWSERS_MAX`] run at a time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{
    By, CapabilitiesHelper as _, ChromiumLikeCapabilities as _, DesiredCapabilities, WebDriver, WebElement,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::harness::{Person, Weir};

/// Browsers at a time.
const BROWSERS_MAX: usize = 2;
/// How long the browser may take to start, and a page to become what it should.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a click that leads to another page is given to get there.
const PAGE_TURN: Duration = Duration::from_secs(10);
/// How long Chromium may take to leave.
const FAREWELL: Duration = Duration::from_secs(5);
/// Time between two looks.
const GLANCE: Duration = Duration::from_millis(25);

/// Whether a click on the element leads to another page: a plain link, or the button of a plain form that is complete.
/// Marks the present page.
const LEADS_ON: &str = "
    const it = arguments[0].closest('a, button, input');
    if (!it || it.closest('[hx-get], [hx-post]')) return false;
    const link = it.matches('a[href]') && !it.getAttribute('href').startsWith('#') && it.target !== '_blank';
    const form = it.type === 'submit' && it.form;
    const sends = form && !form.closest('[hx-get], [hx-post]') && form.method !== 'dialog'
        && (it.formNoValidate || form.noValidate || form.checkValidity());
    window.weirTestPage = true;
    return Boolean(link || sends);
";
/// Whether the marked page is still there, or the next one is not whole yet.
const STILL_HERE: &str = "return Boolean(window.weirTestPage) || document.readyState !== 'complete'";

static TURN: Semaphore = Semaphore::const_new(BROWSERS_MAX);

pub struct Browser {
    /// Taken only when the browser ends.
    driver: Option<WebDriver>,
    session: String,
    port: u16,
    base: String,
    http: reqwest::Client,
    chromedriver: Child,
    _profile: TempDir,
    _turn: SemaphorePermit<'static>,
}

impl Browser {
    /// Nobody's browser.
    pub async fn stranger(weir: &Weir) -> Self {
        let turn = TURN.acquire().await.unwrap();
        let http = crate::harness::client_builder().timeout(PATIENCE).build().unwrap();
        let profile = TempDir::new().unwrap();
        let (chromedriver, port) = start_chromedriver(&profile).await;
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities(&profile)).await.unwrap();
        let session = driver.session_id().to_string();
        let base = weir.url("");
        Self { driver: Some(driver), session, port, base, http, chromedriver, _profile: profile, _turn: turn }
    }

    /// The browser of somebody who is signed in.
    pub async fn of(weir: &Weir, person: &Person) -> Self {
        let browser = Self::stranger(weir).await;
        let session = person.at_the_portal(weir).await;
        let cookie = json!({"name": "weir_session", "value": session.secret(), "url": browser.base, "httpOnly": true});
        browser.devtools("Network.setCookie", cookie).await;
        browser
    }

    fn driver(&self) -> &WebDriver {
        self.driver.as_ref().unwrap()
    }

    pub async fn open(&self, path: &str) {
        self.driver().goto(format!("{}{path}", self.base)).await.unwrap();
    }

    /// Path and query of the page.
    pub async fn path(&self) -> String {
        self.eval("return location.pathname + location.search").await.as_str().unwrap().to_owned()
    }

    pub async fn element(&self, css: &str) -> WebElement {
        let found = self.driver().find(By::Css(css)).await;
        match found {
            Ok(element) => element,
            Err(_) => panic!("no {css} on {}:\n{}", self.path().await, self.text("body").await),
        }
    }

    /// What is to be read in the first element that fits, also while it still fades in.
    pub async fn text(&self, css: &str) -> String {
        let found = self.eval_with("return document.querySelector(arguments[0])?.innerText", vec![json!(css)]).await;
        found.as_str().unwrap_or_else(|| panic!("no {css} on the page")).to_owned()
    }

    /// Clicks; if that leads to another page, returns when it is there.
    pub async fn click(&self, css: &str) {
        let element = self.element(css).await;
        let leads_on = self.eval_with(LEADS_ON, vec![element.to_json().unwrap()]).await == Value::Bool(true);
        element.click().await.unwrap();
        let began = Instant::now();
        // A page may also keep its reader, by a script of its own; then there is nothing to wait for.
        while leads_on && began.elapsed() < PAGE_TURN && self.eval(STILL_HERE).await == Value::Bool(true) {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Types into a field, in place of what is there.
    pub async fn fill(&self, name: &str, text: &str) {
        let field = self.element(&format!("main [name='{name}']:not([type=hidden])")).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Types at whatever has the focus.
    pub async fn press(&self, keys: &str) {
        self.driver().action_chain().send_keys(keys).perform().await.unwrap();
    }

    /// What a function body gives back.
    pub async fn eval(&self, script: &str) -> Value {
        self.eval_with(script, Vec::new()).await
    }

    /// While one page makes room for the next there is nothing to ask; then it is asked again.
    async fn eval_with(&self, script: &str, arguments: Vec<Value>) -> Value {
        let began = Instant::now();
        loop {
            match self.driver().execute(script, arguments.clone()).await {
                Ok(answer) => return answer.json().clone(),
                Err(error) => assert!(began.elapsed() < PATIENCE, "the page does not answer: {error}"),
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Waits until an expression holds on the page.
    pub async fn until(&self, expression: &str) {
        let began = Instant::now();
        while self.eval(&format!("return Boolean({expression})")).await != Value::Bool(true) {
            assert!(began.elapsed() < PATIENCE, "{expression} never held on {}", self.path().await);
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Makes the window this wide.
    pub async fn width(&self, pixels: u32) {
        let metrics = json!({"width": pixels, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Makes the system prefer `dark` or `light`.
    pub async fn prefers(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Switches scripts off or on for the pages that follow.
    pub async fn scripts(&self, on: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": !on})).await;
    }

    /// The console since the last look: refused scripts and styles, errors, failed requests.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.command("se/log", json!({"type": "browser"})).await;
        let entries = entries.as_array().unwrap().iter();
        let grave = entries.filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")));
        grave.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn complains_about_nothing(&self) {
        assert_eq!(self.complaints().await, Vec::<String>::new(), "on {}", self.path().await);
    }

    async fn devtools(&self, method: &str, params: Value) -> Value {
        self.command("goog/cdp/execute", json!({"cmd": method, "params": params})).await
    }

    async fn command(&self, command: &str, body: Value) -> Value {
        let url = format!("http://127.0.0.1:{}/session/{}/{command}", self.port, self.session);
        let mut answer: Value = self.http.post(url).json(&body).send().await.unwrap().json().await.unwrap();
        assert!(answer["value"]["error"].is_null(), "{command}: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The library would block here for minutes if the driver were gone before; this is quicker and cannot hang long.
        let _ = self.driver.take().map(WebDriver::leak);
        // Chromium leaves with its session; chromedriver is ended afterwards. A test that fails comes by here as well.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(FAREWELL));
            let _ = write!(
                stream,
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                self.session
            );
            let _ = stream.read(&mut [0; 64]);
        }
        let _ = self.chromedriver.start_kill();
    }
}

/// Starts chromedriver on a port of its choice and reads it from what it prints.
async fn start_chromedriver(profile: &TempDir) -> (Child, u16) {
    let mut child = Command::new("chromedriver")
        .arg("--port=0")
        .env("TMPDIR", profile.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver is installed: scripts/test does it");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                return port.trim_end_matches('.').parse().unwrap();
            }
        }
        panic!("chromedriver ended before it began");
    });
    let port = port.await.expect("chromedriver starts");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, port)
}

fn capabilities(profile: &TempDir) -> thirtyfour::ChromeCapabilities {
    let mut capabilities = DesiredCapabilities::chrome();
    let data = format!("--user-data-dir={}", profile.path().join("chromium").display());
    let mut arguments = vec![
        "--headless=new",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--window-size=1280,900",
        &data,
    ];
    if rustix::process::geteuid().is_root() {
        arguments.push("--no-sandbox"); // Chromium refuses to run as root otherwise
    }
    for argument in arguments {
        capabilities.add_arg(argument).unwrap();
    }
    capabilities.set("goog:loggingPrefs", json!({"browser": "ALL"})).unwrap();
    capabilities
}
