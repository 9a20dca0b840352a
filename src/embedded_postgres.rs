//! The private PostgreSQL of the one-command start.
//!
//! Weir finds the PostgreSQL programs of this machine, keeps a cluster of its own below the data directory, and reaches it by
//! a socket that nobody else can open. Nothing has to be installed as a service, no port is taken, no password exists.
//!
//! What this promises:
//! - one owner: a lock on the data directory; a second `weir serve` is refused, `weir admin` shares the running one;
//! - the server ends when Weir ends, however Weir ends, and a start finds its way past whatever the end before left;
//! - a half-made cluster is never used: it gets its name when it is complete and on disk;
//! - a cluster of another major version is refused with the steps that help, never converted.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub mod dump;
mod identity;
mod installation;
mod supervisor;
pub mod testing;

pub use installation::Installation;

use identity::Identity;
use supervisor::Supervisor;

/// The role and the database that Weir uses.
const NAME: &str = "weir";
/// Longest path of a Unix socket, without the zero byte at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// What PostgreSQL appends to the socket directory: `/.s.PGSQL.5432.lock`, with room to spare.
const SOCKET_FILE_BYTES: usize = 20;
/// How long a start waits for the end of the process before (two seconds after a kill -9 are normal).
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(20);

/// How to run the private PostgreSQL.
#[derive(Debug, Clone)]
pub struct Options {
    /// Weir's data directory; the cluster lives in its `postgres` folder.
    pub data_dir: PathBuf,
    /// Folder of the PostgreSQL programs; searched for if not given.
    pub bin: Option<PathBuf>,
    /// Connections the server accepts.
    pub connections_max: u32,
    /// `false` only for tests: nothing survives a power cut.
    pub durable: bool,
}

impl Options {
    /// The private PostgreSQL of a data directory, as `weir serve` runs it.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), bin: None, connections_max: 60, durable: true }
    }
}

/// Why there is no private PostgreSQL. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No programs on this machine.
    #[error("{0}")]
    NotFound(installation::NotFound),
    /// The cluster was made by another major version.
    #[error("{0}")]
    OtherMajor(installation::OtherMajor),
    /// Another process uses the data directory.
    #[error(
        "the data directory {data_dir} is in use by process {holder}.\n\
         Stop that process, or give this one its own place with --data-dir DIR."
    )]
    InUse {
        /// The directory.
        data_dir: String,
        /// Its user, as far as is known.
        holder: String,
    },
    /// PostgreSQL refuses to run as root, and no other identity could be taken.
    #[error(
        "PostgreSQL refuses to run as root, and Weir could not run it as anybody else here ({reason}).\n\
         Run weir as an ordinary user, use a data directory that the user 'postgres' or 'nobody' can reach \
         (--data-dir /var/lib/weir), or set DATABASE_URL to a PostgreSQL server of your own."
    )]
    Root {
        /// What was tried.
        reason: String,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed: {detail}\nSet DATABASE_URL to use a PostgreSQL server of your own instead.")]
    Program {
        /// Which one.
        program: &'static str,
        /// What it said.
        detail: String,
    },
    /// The file system said no.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// The answer.
        source: std::io::Error,
    },
}

/// Turns an `io::Error` into one that says what was tried on which path.
fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StartError {
    let path = path.display().to_string();
    move |source| StartError::Io { action, path, source }
}

/// Everything below `<data_dir>/postgres`.
#[derive(Debug, Clone)]
struct Layout {
    home: PathBuf,
}

impl Layout {
    fn new(data_dir: &Path) -> Self {
        Self { home: data_dir.join("postgres") }
    }

    fn cluster(&self) -> PathBuf {
        self.home.join("data")
    }

    fn unfinished_cluster(&self) -> PathBuf {
        self.home.join("data.new")
    }

    fn log(&self) -> PathBuf {
        self.home.join("postgres.log")
    }

    fn lock(data_dir: &Path) -> PathBuf {
        data_dir.join("postgres.lock")
    }
}

/// A running PostgreSQL that belongs to this process, or the one of the `weir serve` beside it.
#[derive(Debug)]
pub struct PrivatePostgres {
    socket_dir: PathBuf,
    /// `None` when it belongs to another process. Stopped before the lock is released: fields drop in this order.
    supervisor: Option<Supervisor>,
    _lock: Option<File>,
}

impl PrivatePostgres {
    /// Starts it; makes the cluster on the first start. Blocks: about 0.1 s, on the first start 1 s to 3 s.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let data_dir = prepare_data_dir(&options.data_dir)?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            if let Some(lock) = take_lock(&data_dir)? {
                return Self::start_locked(&data_dir, options, lock);
            }
            if Instant::now() > deadline {
                return Err(in_use(&data_dir));
            }
            pause();
        }
    }

    /// Uses the one of the process that runs on this data directory, or starts it for the moment.
    pub fn share_or_start(options: &Options) -> Result<Self, StartError> {
        let data_dir = prepare_data_dir(&options.data_dir)?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            if let Some(lock) = take_lock(&data_dir)? {
                return Self::start_locked(&data_dir, options, lock);
            }
            if let Some(socket_dir) = read_lock(&data_dir).socket_dir
                && supervisor::accepts_connections(&Layout::new(&data_dir).cluster())
            {
                return Ok(Self { socket_dir, supervisor: None, _lock: None });
            }
            if Instant::now() > deadline {
                return Err(in_use(&data_dir));
            }
            pause();
        }
    }

    fn start_locked(data_dir: &Path, options: &Options, mut lock: File) -> Result<Self, StartError> {
        let layout = Layout::new(data_dir);
        let found =
            Installation::find(options.bin.as_deref(), &layout.cluster(), version_of(&layout.cluster()).as_deref())?;
        let identity = Identity::choose(data_dir, &layout.cluster(), &found.bin)?;
        own_dir(&layout.home, &identity)?;
        if !layout.cluster().join("PG_VERSION").exists() {
            tracing::info!(
                "first start: making a private PostgreSQL {} cluster in {}",
                found.major,
                layout.home.display()
            );
            make_cluster(&layout, &found, &identity, options.durable)?;
        }
        let socket_dir = socket_dir(data_dir, &layout, &identity)?;
        write_lock(&mut lock, &socket_dir).map_err(io("write", &Layout::lock(data_dir)))?;
        let supervisor = Supervisor::start(supervisor::Plan {
            installation: found,
            identity,
            cluster: layout.cluster(),
            log: layout.log(),
            socket_dir: socket_dir.clone(),
            connections_max: options.connections_max,
            durable: options.durable,
        })?;
        Ok(Self { socket_dir, supervisor: Some(supervisor), _lock: Some(lock) })
    }

    /// Where Weir's database is.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// Where another database of the same server is.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{NAME}@localhost/{database}?host={}", percent_encode(&self.socket_dir.to_string_lossy()))
    }

    /// Whether the server belongs to this process, and not to a `weir serve` beside it.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.supervisor.is_some()
    }

    /// Process number of the server, when it belongs to this process.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.supervisor.as_ref().map(Supervisor::process_id)
    }

    /// Stops the server, when it belongs to this process, and waits for its end. Dropping does the same.
    pub fn stop(self) {}
}

/// Makes the data directory and returns its absolute path. As root a new one lets others pass (not list), because PostgreSQL
/// runs as somebody else; what it holds is closed in itself.
pub fn prepare_data_dir(data_dir: &Path) -> Result<PathBuf, StartError> {
    let is_new = !data_dir.exists();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(io("create", data_dir))?;
    if is_new && rustix::process::geteuid().is_root() {
        fs::set_permissions(data_dir, fs::Permissions::from_mode(0o711))
            .map_err(io("open the way through", data_dir))?;
    }
    data_dir.canonicalize().map_err(io("find", data_dir))
}

fn take_lock(data_dir: &Path) -> Result<Option<File>, StartError> {
    let path = Layout::lock(data_dir);
    let mut open = OpenOptions::new();
    let file = open.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(e)) => Err(io("lock", &path)(e)),
    }
}

/// What the holder of the lock has written into it.
struct LockNote {
    process: Option<u32>,
    socket_dir: Option<PathBuf>,
}

fn write_lock(lock: &mut File, socket_dir: &Path) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}\n{}", std::process::id(), socket_dir.display())
}

fn read_lock(data_dir: &Path) -> LockNote {
    let mut text = String::new();
    if let Ok(mut file) = File::open(Layout::lock(data_dir)) {
        // A note that cannot be read is a note that says nothing.
        let _ = file.read_to_string(&mut text);
    }
    let mut lines = text.lines();
    LockNote { process: lines.next().and_then(|l| l.parse().ok()), socket_dir: lines.next().map(PathBuf::from) }
}

fn in_use(data_dir: &Path) -> StartError {
    let holder = read_lock(data_dir).process.map_or_else(|| "(unknown)".to_owned(), |p| p.to_string());
    StartError::InUse { data_dir: data_dir.display().to_string(), holder }
}

fn version_of(cluster: &Path) -> Option<String> {
    fs::read_to_string(cluster.join("PG_VERSION")).ok().map(|v| v.trim().to_owned())
}

/// Makes `dir` with mode 0700, belonging to who runs PostgreSQL.
fn own_dir(dir: &Path, identity: &Identity) -> Result<(), StartError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("create", dir))?;
    identity.give(dir).map_err(io("change the owner of", dir))
}

/// Makes the cluster beside its final place, syncs it, and gives it its name.
fn make_cluster(layout: &Layout, found: &Installation, identity: &Identity, durable: bool) -> Result<(), StartError> {
    let unfinished = layout.unfinished_cluster();
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(io("remove the unfinished", &unfinished))?;
    }
    let mut initdb = identity.command(&found.bin.join("initdb"));
    initdb.args(["--username", NAME, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-instructions"]);
    initdb.args(["--data-checksums", "--pgdata"]).arg(&unfinished).current_dir(&layout.home);
    if !durable {
        initdb.arg("--no-sync");
    }
    let output = initdb.stdin(Stdio::null()).output().map_err(|e| identity.spawn_error("initdb", e))?;
    program_succeeded("initdb", &output)?;
    make_database(&unfinished, found, identity)?;
    fs::rename(&unfinished, layout.cluster()).map_err(io("rename", &unfinished))?;
    if durable {
        File::open(&layout.home).and_then(|d| d.sync_all()).map_err(io("sync", &layout.home))?;
    }
    Ok(())
}

/// Makes Weir's database in single-user mode, so that no client program is needed.
fn make_database(cluster: &Path, found: &Installation, identity: &Identity) -> Result<(), StartError> {
    let mut single = identity.command(&found.bin.join("postgres"));
    single.arg("--single").arg("-D").arg(cluster).arg("postgres").current_dir(cluster);
    single.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = single.spawn().map_err(|e| identity.spawn_error("postgres --single", e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If the program ended early, its own message says more than a broken pipe.
        let _ = stdin.write_all(format!("CREATE DATABASE {NAME};\n").as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| identity.spawn_error("postgres --single", e))?;
    program_succeeded("postgres --single", &output)
}

fn program_succeeded(program: &'static str, output: &std::process::Output) -> Result<(), StartError> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let detail = format!("{} ({})", said.trim(), output.status);
    Err(StartError::Program { program, detail })
}

/// A directory for the socket that only its owner can enter, with a path short enough for a socket.
fn socket_dir(data_dir: &Path, layout: &Layout, identity: &Identity) -> Result<PathBuf, StartError> {
    let near = layout.home.join("socket");
    if near.as_os_str().len() + SOCKET_FILE_BYTES <= SOCKET_PATH_BYTES_MAX {
        own_dir(&near, identity)?;
        return Ok(near);
    }
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let short = base.join(format!("weir-{:08x}", crc32c::crc32c(data_dir.as_os_str().as_encoded_bytes())));
    let short = if short.as_os_str().len() + SOCKET_FILE_BYTES <= SOCKET_PATH_BYTES_MAX && identity.reaches(&base) {
        short
    } else {
        Path::new("/tmp").join(short.file_name().unwrap_or_default())
    };
    own_dir(&short, identity)?;
    // Somebody else may have made this name in /tmp before us, with rights of their choice.
    let meta = fs::symlink_metadata(&short).map_err(io("inspect", &short))?;
    if !meta.is_dir() || meta.uid() != identity.owner() || meta.permissions().mode() & 0o077 != 0 {
        let refused = std::io::Error::other("it belongs to somebody else or is open to others; remove it");
        return Err(io("use the socket directory", &short)(refused));
    }
    Ok(short)
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Waits one [`POLL`]. Locks of other processes and PostgreSQL's own start cannot be waited for in another way.
fn pause() {
    let (_never, wait) = mpsc::channel::<()>();
    let _ = wait.recv_timeout(POLL);
}

#[cfg(test)]
mod tests;
