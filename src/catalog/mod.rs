//! The catalog: who owns what and who may do what, kept in PostgreSQL, read from an immutable in-memory [`View`].
//!
//! * [`Catalog::authorize`] turns an actor and a target into a [`access::Grant`], from the view alone.
//! * [`Catalog::begin`] opens a [`Tx`]; every change takes a grant, writes its audit row in the same transaction and moves
//!   the catalog's revision; [`Tx::commit`] returns when this process's view shows the change. Dry run: drop the `Tx`.
//! * Lists of teams, applications, topics and access come from the view; what only people at the portal ask for (audit,
//!   sessions, last use of tokens) comes from the database.

pub mod access;
mod applications;
mod audit;
mod entity;
pub mod error;
mod grants;
mod idempotency;
mod invitations;
mod keeper;
mod limits;
mod load;
mod local_view;
pub mod model;
pub mod page;
pub mod password;
pub mod put;
mod rights;
mod search;
mod secret;
mod sessions;
mod setup;
mod spec;
mod teams;
#[cfg(test)]
mod tests;
mod throttle;
mod token_uses;
mod tokens;
mod topics;
mod tx;
mod users;
pub mod view;

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::access::{Action, Actor, Grant};
pub use self::applications::AppQuery;
pub use self::audit::AuditQuery;
use self::error::{CatalogError, ConnectError, Denied};
pub use self::idempotency::{Replay, StoredAnswer};
use self::keeper::Keeper;
use self::local_view::LocalView;
pub use self::local_view::stored_topic_names;
use self::throttle::Throttle;
use self::token_uses::TokenUses;
pub use self::topics::TopicQuery;
pub use self::tx::Tx;
pub use self::view::View;
use crate::clock::Clock;

/// Longest that [`Catalog::healthy`] waits.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// How to open the catalog.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// `postgres://…`
    pub url: String,
    /// Folder of the rebuildable copy that lets produce and consume go on without the database.
    pub local_view: Option<PathBuf>,
    /// Most connections for changes and for what people ask at the portal.
    pub connections: u32,
    /// Longest wait for a connection before the answer is [`CatalogError::Unavailable`].
    pub acquire_timeout: Duration,
}

impl CatalogOptions {
    /// Options with the defaults.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), local_view: None, connections: 8, acquire_timeout: Duration::from_secs(3) }
    }
}

/// The catalog. Cloning is cheap and gives the same catalog.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    /// For changes and for what people ask at the portal.
    pool: PgPool,
    view: ArcSwap<View>,
    changes: watch::Sender<i64>,
    /// Asks the keeper to look for changes now.
    wake: Notify,
    throttle: Throttle,
    uses: TokenUses,
    stop: CancellationToken,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// Where a person's request came from, for sessions and the audit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    pub address: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
}

impl Origin {
    /// Weir itself, acting on a request of somebody who has no account yet.
    fn system_actor(&self) -> Arc<Actor> {
        let principal = access::Principal::System;
        Arc::new(Actor { principal, token: None, address: self.address, request_id: self.request_id.clone() })
    }
}

impl Catalog {
    /// Opens the database, brings its schema up to date, loads the view, and keeps it current until [`Self::close`].
    /// With a local view, an unreachable database is not an error: the view is the copy, and connecting is tried again.
    pub async fn connect(options: CatalogOptions, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        let address = PgConnectOptions::from_str(&options.url).map_err(ConnectError::Address)?;
        // A writer waits for the writer before it; nobody waits for ever.
        let address = address.application_name("weir").options([
            ("lock_timeout", "5s"),
            ("statement_timeout", "20s"),
            ("idle_in_transaction_session_timeout", "30s"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.acquire_timeout)
            .connect_lazy_with(address.clone());
        let local = LocalView::open(options.local_view).await;
        let inner = Arc::new(Inner {
            clock,
            pool,
            view: ArcSwap::default(),
            changes: watch::Sender::new(0),
            wake: Notify::new(),
            throttle: Throttle::new(),
            uses: TokenUses::default(),
            stop: CancellationToken::new(),
            keeper: Mutex::new(None),
        });
        let keeper = Keeper::start(Arc::clone(&inner), address, options.acquire_timeout, local).await?;
        *inner.keeper.lock() = Some(tokio::spawn(keeper.run()));
        Ok(Self { inner })
    }

    /// Stops the background work, writes what is pending (last use of tokens) and closes the connections.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        let keeper = self.inner.keeper.lock().take();
        if let Some(Err(error)) = match keeper {
            Some(keeper) => Some(keeper.await),
            None => None,
        } {
            tracing::error!(%error, "the catalog's background work had failed");
        }
        self.inner.pool.close().await;
    }

    /// The present snapshot.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.inner.view.load_full()
    }

    /// The revision of the snapshot. It moves when the snapshot is replaced: long streams then authorise again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.inner.changes.subscribe()
    }

    /// Waits until the snapshot has reached the revision.
    pub async fn refreshed(&self, revision: i64) {
        let mut changes = self.inner.changes.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = changes.wait_for(|reached| *reached >= revision).await;
    }

    /// Whether the database answers, within a second.
    pub async fn healthy(&self) -> bool {
        let asked = sqlx::query_scalar!("SELECT value FROM catalog_revision").fetch_one(&self.inner.pool);
        matches!(tokio::time::timeout(HEALTH_TIMEOUT, asked).await, Ok(Ok(_)))
    }

    /// Proves that the actor may do `A` to the target, from the snapshot.
    pub fn authorize<A: Action>(&self, actor: &Arc<Actor>, target: &A::Target) -> Result<Grant<A>, Denied> {
        access::authorize(&self.inner.view.load(), actor, self.now(), target)
    }

    /// Opens a transaction for changes by the actor. Transactions of all instances come one after the other.
    pub async fn begin(&self, actor: &Arc<Actor>) -> Result<Tx, CatalogError> {
        Tx::begin(self, actor).await
    }

    fn now(&self) -> OffsetDateTime {
        self.inner.clock.now_datetime()
    }

    fn pool(&self) -> &PgPool {
        &self.inner.pool
    }
}
