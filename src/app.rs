//! The running server: builds everything in order, and takes it down in the opposite one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;

use crate::broker::embedded::{EmbeddedEngine, EngineConfig, Loss};
use crate::broker::engine::Engine;
use crate::catalog::error::CatalogError;
use crate::catalog::model::Secret;
use crate::catalog::{Catalog, CatalogOptions};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Database};
use crate::demo::company;
use crate::demo::dataset::Dataset;
use crate::demo::replay::Replay;
use crate::embedded_postgres::{self, PrivatePostgres};
use crate::gateway::Gateway;
use crate::provision::Provisioner;
use crate::telemetry;
use crate::web::server::{Limits, Server, Stop};
use crate::web::state::{Shutdown, WebParts, WebState};
use crate::web::tls::Tls;
use crate::web::{self, health};

/// How long background tasks get to end after the last connection has.
const TASKS_WAIT: Duration = Duration::from_secs(5);
/// File descriptors that are not for connections: segments, the database, logs.
const DESCRIPTORS_RESERVED: u64 = 1024;

/// What differs from the usual start: what a test puts in place of the real thing, and an operator's word.
#[derive(Clone)]
pub struct Deps {
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// The log; `None`: the embedded one, in the data directory.
    pub engine: Option<Arc<dyn Engine>>,
    /// Damage of the log to start without, as a refused start has named it.
    pub accept_loss: Option<Loss>,
}

impl Default for Deps {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), engine: None, accept_loss: None }
    }
}

/// A running server.
pub struct App {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    url: String,
    data_dir: PathBuf,
    certificate: Option<PathBuf>,
    catalog: Catalog,
    gateway: Gateway,
    provision: Provisioner,
    clock: Arc<dyn Clock>,
    engine: Arc<dyn Engine>,
    shutdown: Shutdown,
    stop: Stop,
    servers: Vec<JoinHandle<()>>,
    /// Last: everything above uses it.
    postgres: Option<PrivatePostgres>,
}

impl App {
    /// Starts a server as configured.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_with(config, Deps::default()).await
    }

    /// Starts a server with other parts than the usual ones.
    pub async fn start_with(config: Config, deps: Deps) -> anyhow::Result<Self> {
        telemetry::metrics();
        let http = with_descriptor_limit(config.http);
        let data_dir = make_data_dir(&config.data_dir)?;
        let tls = load_tls(&config.tls, &data_dir)?;
        let (postgres, database_url) = open_database(&config.database, &data_dir).await?;
        let catalog = open_catalog(database_url, &data_dir, &deps.clock).await?;
        let engine = match deps.engine {
            Some(engine) => engine,
            None => open_engine(&data_dir, &deps.clock, deps.accept_loss).await?,
        };
        let provision = Provisioner::new(Arc::clone(&engine), catalog.clone());
        // Topics that cannot be held now are tried again in the background; they must not keep the others from serving.
        if let Err(error) = provision.ensure_all().await {
            tracing::warn!(%error, "the engine does not hold every topic yet");
        }

        let shutdown = Shutdown { drain: http.drain, ..Shutdown::default() };
        let gateway = Gateway::new(Arc::clone(&engine), catalog.clone(), Arc::clone(&deps.clock));
        let state = WebState::from(WebParts {
            catalog: catalog.clone(),
            gateway: gateway.clone(),
            provision: provision.clone(),
            engine: Arc::clone(&engine),
            clock: Arc::clone(&deps.clock),
            shutdown: shutdown.clone(),
            public_url: config.public_url.as_deref().map(Arc::from),
            trusted_proxies: config.trusted_proxies.clone(),
        });
        let limits = Limits { http, trusted_proxies: config.trusted_proxies.into() };
        let stop = Stop::default();
        let bind_error = |address| format!("cannot listen at {address}; --listen ADDR chooses another address");

        let router = web::router(state.clone());
        let server = Server::bind(config.listen, router, limits.clone(), tls.clone());
        let server = server.await.with_context(|| bind_error(config.listen))?;
        let address = server.address()?;
        let mut servers = vec![tokio::spawn(server.run(stop.clone()))];
        let mut metrics_address = None;
        if let Some(listen) = config.metrics_listen {
            let server = Server::bind(listen, health::open_metrics(state), limits, None);
            let server = server.await.with_context(|| bind_error(listen))?;
            metrics_address = Some(server.address()?);
            servers.push(tokio::spawn(server.run(stop.clone())));
        }

        shutdown.tasks.spawn(provision.clone().run(shutdown.token.clone()));
        shutdown.tasks.spawn(upkeep(shutdown.clone()));
        if let Some(tls) = &tls {
            shutdown.tasks.spawn(tls.clone().watch(shutdown.token.clone()));
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        Ok(Self {
            address,
            metrics_address,
            url: config.public_url.unwrap_or_else(|| format!("{scheme}://{}", reachable(address))),
            data_dir,
            certificate: tls.map(|tls| tls.certificate_file().to_owned()),
            catalog,
            gateway,
            provision,
            clock: deps.clock,
            engine,
            shutdown,
            stop,
            servers,
            postgres,
        })
    }

    /// The address of the portal and the API.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of the open metrics, if configured.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Where a browser on this machine, or the public, reaches it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The data directory, absolute.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The certificate in use.
    #[must_use]
    pub fn certificate_file(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }

    /// The catalog, for tests and for what runs in the same process.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The data path.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The engine, for the same.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Cancelling its tokens stops the server; [`Self::shutdown`] waits for it.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// The one-time link that makes the first administrator; `None` when there is one.
    pub async fn setup_link(&self) -> Result<Option<String>, CatalogError> {
        let secret = self.catalog.setup_link().await?;
        Ok(secret.map(|secret| format!("{}{}", self.url, web::paths::setup_link(secret.expose()))))
    }

    /// Makes the demo's company and keeps its traffic going until the server stops: one second lasts `speed` seconds of
    /// the data. Returns the password of [`company::SIGN_IN_AS`] if the account is new.
    pub async fn start_demo(&self, speed: f64) -> anyhow::Result<Option<Secret>> {
        let password = company::ensure(&self.catalog).await?;
        self.provision.ensure_all().await?;
        let data = Dataset::load()?;
        let (catalog, gateway) = (self.catalog.clone(), self.gateway.clone());
        let replay = Arc::new(Replay::new(catalog, gateway, Arc::clone(&self.clock), data, speed));
        replay.prepare().await?;
        let (departures, stop) = (Arc::clone(&replay), self.shutdown.token.clone());
        self.shutdown.tasks.spawn(async move {
            if let Err(error) = departures.run(&stop).await {
                tracing::error!(%error, "the replay of the departures has stopped");
            }
        });
        let stop = self.shutdown.token.clone();
        self.shutdown.tasks.spawn(async move {
            if let Err(error) = replay.watch_delays(&stop).await {
                tracing::error!(%error, "the delay alerts have stopped");
            }
        });
        Ok(password)
    }

    /// Tells every stream, waits for open requests at most the configured time, makes everything durable and stops.
    /// Cancelling `stop().now` meanwhile cuts the wait short.
    pub async fn shutdown(mut self) {
        self.shutdown.token.cancel();
        self.stop.gently.cancel();
        let drain = self.shutdown.drain;
        let servers = std::mem::take(&mut self.servers);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            stop.now.cancel();
        });
        for server in servers {
            if let Err(error) = server.await {
                tracing::error!(%error, "a listener ended with an error");
            }
        }
        self.shutdown.tasks.close();
        if tokio::time::timeout(TASKS_WAIT, self.shutdown.tasks.wait()).await.is_err() {
            tracing::warn!("some background tasks did not end in time");
        }
        self.engine.close().await;
        self.catalog.close().await;
        if let Some(postgres) = self.postgres.take() {
            // Blocks until PostgreSQL has ended. A panic in there leaves nothing to do.
            let _ = tokio::task::spawn_blocking(move || postgres.stop()).await;
        }
    }
}

/// Raises the soft limit of open files to the hard one, and leaves room for files beside connections.
fn with_descriptor_limit(mut http: config::Http) -> config::Http {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    if let Some(now) = now {
        let room = now.saturating_sub(DESCRIPTORS_RESERVED).max(now / 2);
        http.connections_max = http.connections_max.min(usize::try_from(room).unwrap_or(usize::MAX));
    }
    http
}

fn make_data_dir(data_dir: &Path) -> anyhow::Result<PathBuf> {
    embedded_postgres::prepare_data_dir(data_dir).context("the data directory cannot be used (--data-dir DIR)")
}

fn load_tls(tls: &config::Tls, data_dir: &Path) -> anyhow::Result<Option<Tls>> {
    Ok(match tls {
        config::Tls::Off => None,
        config::Tls::Files { cert, key } => Some(Tls::load(cert, key)?),
        config::Tls::Development => Some(Tls::development(data_dir)?),
    })
}

/// The configured database, or the private one, started. Also returns its address.
async fn open_database(database: &Database, data_dir: &Path) -> anyhow::Result<(Option<PrivatePostgres>, String)> {
    match database {
        Database::Url(url) => Ok((None, url.expose().to_owned())),
        Database::Private { bin } => {
            let options = embedded_postgres::Options { bin: bin.clone(), ..embedded_postgres::Options::new(data_dir) };
            let postgres = tokio::task::spawn_blocking(move || PrivatePostgres::start(&options)).await??;
            let url = postgres.url();
            Ok((Some(postgres), url))
        }
    }
}

async fn open_catalog(url: String, data_dir: &Path, clock: &Arc<dyn Clock>) -> anyhow::Result<Catalog> {
    let options = CatalogOptions { local_view: Some(data_dir.join("view")), ..CatalogOptions::new(url) };
    let catalog = Catalog::connect(options, Arc::clone(clock)).await;
    catalog.context("the catalog cannot be opened")
}

/// The log below the data directory, as the last process left it.
async fn open_engine(
    data_dir: &Path,
    clock: &Arc<dyn Clock>,
    accept_loss: Option<Loss>,
) -> anyhow::Result<Arc<dyn Engine>> {
    let config = EngineConfig { accept_loss, ..EngineConfig::default() };
    let (folder, clock) = (data_dir.join("log"), Arc::clone(clock));
    let open = move || EmbeddedEngine::open(&folder, config, clock);
    let (engine, report) = tokio::task::spawn_blocking(open).await?.context("the log cannot be opened")?;
    if report.torn_tail {
        tracing::warn!("the last write before the stop was incomplete and never acknowledged; it was dropped");
    }
    if report.records_replayed > 0 {
        tracing::info!(records = report.records_replayed, "replayed the log since its last checkpoint");
    }
    Ok(Arc::new(engine))
}

/// Keeps histograms small.
async fn upkeep(shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.token.cancelled() => return,
            () = tokio::time::sleep(telemetry::UPKEEP) => telemetry::metrics().run_upkeep(),
        }
    }
}

/// `0.0.0.0` is where to listen, not where to go.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("localhost:{}", address.port()) } else { address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn an_address_for_all_interfaces_is_shown_as_one_that_a_browser_can_open() {
        assert_eq!(reachable("0.0.0.0:8080".parse().unwrap()), "localhost:8080");
        assert_eq!(reachable("[::]:8080".parse().unwrap()), "localhost:8080");
        assert_eq!(reachable("127.0.0.1:8080".parse().unwrap()), "127.0.0.1:8080");
        assert_eq!(reachable("[::1]:8080".parse().unwrap()), "[::1]:8080");
    }
}
