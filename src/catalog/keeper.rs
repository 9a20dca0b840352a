//! The background work of one catalog: keeps the view current, the local copy behind it, and the tables tidy.
//!
//! A notification wakes it within milliseconds of a commit anywhere; a poll each second catches what a notification lost.
//! Without the database it keeps trying to reach it, and the last view goes on being used.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, MissedTickBehavior};

use super::entity::Delta;
use super::error::{CatalogError, ConnectError};
use super::local_view::LocalView;
use super::tx::CHANNEL;
use super::{Catalog, Inner, load};

/// How often the revision is asked for.
const POLL: Duration = Duration::from_secs(1);
/// Pause between attempts to reach the database.
const RETRY: Duration = Duration::from_millis(500);
/// How often expired rows are removed and pending ones written.
const TIDY: Duration = Duration::from_secs(15);
/// After a longer silence than this the view is loaded whole: the list of changes is kept for a day only.
const CHANGES_TRUSTED_FOR: Duration = Duration::from_secs(3600);

pub(super) struct Keeper {
    inner: Arc<Inner>,
    /// Its own connections: a busy portal does not delay a revocation.
    pool: PgPool,
    local: LocalView,
    migrated: bool,
    /// When the view last was known to be current.
    current: Option<Instant>,
    tidied: Instant,
}

impl Keeper {
    /// Loads the first view: from the database or, if it cannot be reached, from the local copy.
    pub async fn start(
        inner: Arc<Inner>,
        address: PgConnectOptions,
        patience: Duration,
        local: LocalView,
    ) -> Result<Self, ConnectError> {
        let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(patience).connect_lazy_with(address);
        let mut keeper = Self { inner, pool, local, migrated: false, current: None, tidied: Instant::now() };
        match keeper.first_load().await {
            Ok(()) => Ok(keeper),
            Err(ConnectError::Unreachable(error)) => {
                let Some(copy) = keeper.local.load().await else { return Err(ConnectError::Unreachable(error)) };
                tracing::warn!(%error, revision = copy.revision, "no database; working from the local view");
                keeper.show(copy);
                Ok(keeper)
            }
            Err(error) => Err(error),
        }
    }

    async fn first_load(&mut self) -> Result<(), ConnectError> {
        let reach = |error: sqlx::Error| match CatalogError::from(error) {
            CatalogError::Unavailable(Some(error)) => ConnectError::Unreachable(error),
            error => ConnectError::Catalog(error),
        };
        let conn = self.pool.acquire().await.map_err(reach)?;
        drop(conn);
        crate::MIGRATOR.run(&self.pool).await.map_err(ConnectError::Migrate)?;
        self.migrated = true;
        self.refresh().await?;
        Ok(())
    }

    /// Works until the catalog is closed.
    pub async fn run(mut self) {
        let stop = self.inner.stop.clone();
        while !stop.is_cancelled() {
            let worked = tokio::select! {
                () = stop.cancelled() => break,
                worked = self.follow() => worked,
            };
            if let Err(error) = worked {
                let error = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                tracing::warn!(error, "the catalog's database is out of reach; trying again");
                // What happened in between is not known: load everything on the way back.
                self.current = None;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
        if let Err(error) = self.tidy().await {
            tracing::warn!(%error, "pending rows could not be written at the end");
        }
        self.pool.close().await;
        self.local.close().await;
    }

    /// Listens and refreshes until something fails.
    async fn follow(&mut self) -> Result<(), ConnectError> {
        if !self.migrated {
            self.first_load().await?;
        }
        let mut listener = PgListener::connect_with(&self.pool).await.map_err(CatalogError::from)?;
        listener.listen(CHANNEL).await.map_err(CatalogError::from)?;
        let inner = Arc::clone(&self.inner);
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.refresh().await?;
            if self.tidied.elapsed() >= TIDY {
                self.tidy().await?;
            }
            tokio::select! {
                heard = listener.recv() => { heard.map_err(CatalogError::from)?; }
                () = inner.wake.notified() => {}
                _ = poll.tick() => {}
            }
        }
    }

    /// Brings the view to the database's present revision.
    async fn refresh(&mut self) -> Result<(), CatalogError> {
        let trusted = self.current.is_some_and(|since| since.elapsed() < CHANGES_TRUSTED_FOR);
        let seen = self.inner.view.load().revision();
        let now = self.inner.clock.now_datetime();
        let mut conn = self.pool.acquire().await?;
        if !trusted || load::revision(&mut conn).await? != seen {
            let delta = read_consistently(&mut conn, trusted.then_some(seen), now).await?;
            drop(conn);
            if self.local.is_on() {
                // First for everybody who waits, then for the next start.
                self.show(delta.clone());
                self.local.store(&delta).await;
            } else {
                self.show(delta);
            }
        }
        self.current = Some(Instant::now());
        Ok(())
    }

    fn show(&self, delta: Delta) {
        let next = self.inner.view.load().apply(delta);
        let revision = next.revision();
        self.inner.view.store(Arc::new(next));
        self.inner.changes.send_replace(revision);
    }

    /// Writes the last uses of tokens and removes what has expired.
    async fn tidy(&mut self) -> Result<(), CatalogError> {
        self.tidied = Instant::now();
        if !self.migrated {
            return Ok(());
        }
        let catalog = Catalog { inner: Arc::clone(&self.inner) };
        let mut conn = self.pool.acquire().await?;
        catalog.write_token_uses(&mut conn).await?;
        catalog.remove_ended_sessions(&mut conn).await?;
        catalog.remove_old_idempotency_keys(&mut conn).await?;
        remove_old_changes(&mut conn).await?;
        drop(conn);
        // Not while closing: purging takes its turn among the writers.
        if !self.inner.stop.is_cancelled() && catalog.purge_is_due() {
            self.inner.wake.notify_one();
            tokio::spawn(async move {
                if let Err(error) = catalog.purge_due().await {
                    tracing::warn!(%error, "deleted topics could not be purged");
                }
            });
        }
        Ok(())
    }
}

/// Reads in one snapshot of the database, so that rows and revision belong together.
async fn read_consistently(
    conn: &mut PgConnection,
    seen: Option<i64>,
    now: time::OffsetDateTime,
) -> Result<Delta, CatalogError> {
    use sqlx::Connection as _;
    let mut reading = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let delta = match seen {
        Some(seen) => load::since(&mut reading, seen, now).await?,
        None => load::whole(&mut reading, now).await?,
    };
    reading.commit().await?;
    Ok(delta)
}

async fn remove_old_changes(conn: &mut PgConnection) -> Result<(), CatalogError> {
    // The database's own clock wrote the times.
    sqlx::query!("DELETE FROM catalog_change WHERE at < now() - interval '1 day'").execute(conn).await?;
    Ok(())
}
