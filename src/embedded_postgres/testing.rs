//! A private PostgreSQL for the tests of one process, and a database of its own for each test.
//!
//! Nothing is synced, everything lives in one temporary folder, and both go away when the process ends, even by kill -9.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex as SyncMutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::{Mutex, OnceCell};

use super::{Options, PrivatePostgres};

/// Connections the test server accepts: many tests run at once, each with its pools.
const CONNECTIONS_MAX: u32 = 300;
/// The migrated database that every test gets a copy of.
const TEMPLATE: &str = "template_weir";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

struct Cluster {
    postgres: PrivatePostgres,
    /// Holds the pipe whose end tells that this process is gone.
    _cleaner: Child,
    databases_made: AtomicU64,
    /// Names of databases whose tests have ended.
    done: SyncMutex<Vec<String>>,
    /// One copies the template at a time: PostgreSQL refuses a second.
    copying: Mutex<()>,
}

/// A migrated, empty database. Dropping the value lets the database go.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
}

impl TestDatabase {
    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let (Some(cluster), name) = (CLUSTER.get(), std::mem::take(&mut self.name))
            && let Ok(mut done) = cluster.done.lock()
        {
            done.push(name);
        }
    }
}

/// A new database with all migrations applied. Takes some tens of milliseconds, the first one in a process a second.
///
/// # Panics
/// When PostgreSQL or a migration fails: no test could go on.
pub async fn database(migrator: &Migrator) -> TestDatabase {
    let cluster = CLUSTER.get_or_init(|| Cluster::start(migrator)).await;
    let name = format!("test_{}", cluster.databases_made.fetch_add(1, Ordering::Relaxed));
    let done: Vec<String> = cluster.done.lock().map(|mut d| std::mem::take(&mut *d)).unwrap_or_default();
    let _copying = cluster.copying.lock().await;
    let mut server = connect(&cluster.postgres.url_of("postgres")).await;
    for name in done {
        execute(&mut server, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    }
    execute(&mut server, format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await;
    TestDatabase { url: cluster.postgres.url_of(&name), name }
}

impl Cluster {
    async fn start(migrator: &Migrator) -> Self {
        let start = || {
            let folder = temporary_folder();
            let mut options = Options::new(&folder);
            options.connections_max = CONNECTIONS_MAX;
            options.durable = false;
            let postgres = PrivatePostgres::start(&options).unwrap_or_else(|e| panic!("{e}"));
            let cleaner = remove_when_this_process_ends(&folder);
            (postgres, cleaner)
        };
        let (postgres, cleaner) =
            tokio::task::spawn_blocking(start).await.expect("starting PostgreSQL does not panic otherwise");
        let mut server = connect(&postgres.url_of("postgres")).await;
        execute(&mut server, format!("CREATE DATABASE {TEMPLATE}")).await;
        let mut template = connect(&postgres.url_of(TEMPLATE)).await;
        migrator.run(&mut template).await.unwrap_or_else(|e| panic!("a migration failed: {e}"));
        template.close().await.expect("the template has no user left, else it could not be copied");
        Self {
            postgres,
            _cleaner: cleaner,
            databases_made: AtomicU64::new(0),
            done: SyncMutex::default(),
            copying: Mutex::default(),
        }
    }
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap_or_else(|e| panic!("cannot connect to the test server: {e}"))
}

async fn execute(server: &mut PgConnection, sql: String) {
    let result = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(server).await;
    result.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// A folder that any user may pass through: as root, PostgreSQL runs as somebody else.
fn temporary_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-test-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir(&folder).unwrap_or_else(|e| panic!("cannot create {}: {e}", folder.display()));
    folder
}

/// Leaves a small process behind that notices our end by the end of its input, waits for the server's (five seconds at most:
/// somebody may have killed it as well), and cleans up. Statics are not dropped, and a killed process drops nothing at all.
fn remove_when_this_process_ends(folder: &Path) -> Child {
    let script = r#"
        cat >/dev/null
        n=0
        while [ -e "$1/postgres/data/postmaster.pid" ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
        rm -rf -- "$1"
    "#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Not in our group: Ctrl-C must not reach it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().unwrap_or_else(|e| panic!("cannot start sh: {e}"))
}
