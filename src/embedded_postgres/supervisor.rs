//! The thread that owns the PostgreSQL process: it starts it, restarts it when it dies, and stops it.
//!
//! It is a thread of its own because the kernel ends the child when the *thread* that spawned it ends, and threads of an
//! async runtime come and go.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::identity::Identity;
use super::{Installation, LOCK_WAIT, StartError, pause};

/// How long crash recovery may take before a start gives up.
const READY_WAIT: Duration = Duration::from_secs(120);
/// How often the supervisor looks whether the server lives.
const WATCH: Duration = Duration::from_millis(200);
/// Pause between an unexpected end and the next start.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How long the server gets to end by itself.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// The server's log is begun anew at a start when it is larger.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How much of the log an error message carries.
const LOG_TAIL_BYTES: u64 = 2000;

/// Everything a start needs.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub installation: Installation,
    pub identity: Identity,
    pub cluster: PathBuf,
    pub log: PathBuf,
    pub socket_dir: PathBuf,
    pub connections_max: u32,
    pub durable: bool,
}

/// Handle to the thread. Dropping it stops the server and waits for its end.
#[derive(Debug)]
pub(super) struct Supervisor {
    process: Arc<AtomicU32>,
    /// Dropping the sender is the order to stop.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts the server; returns when it accepts connections.
    pub(super) fn start(plan: Plan) -> Result<Self, StartError> {
        let process = Arc::new(AtomicU32::new(0));
        let (stop, orders) = mpsc::channel();
        let (started, first_start) = mpsc::sync_channel(1);
        let shared = Arc::clone(&process);
        let thread = std::thread::Builder::new()
            .name("weir-postgres".to_owned())
            .spawn(move || supervise(&plan, &shared, &started, &orders))
            .map_err(|e| StartError::Program { program: "postgres", detail: e.to_string() })?;
        let lost = || StartError::Program { program: "postgres", detail: "its supervisor ended".to_owned() };
        let result = first_start.recv().unwrap_or_else(|_| Err(lost()));
        let supervisor = Self { process, stop: Some(stop), thread: Some(thread) };
        result.map(|()| supervisor)
    }

    /// Process number of the server.
    pub(super) fn process_id(&self) -> u32 {
        self.process.load(Ordering::Relaxed)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panicked supervisor has nothing left to stop: the kernel ended the server with it.
            let _ = thread.join();
        }
    }
}

fn supervise(plan: &Plan, process: &AtomicU32, started: &SyncSender<Result<(), StartError>>, orders: &Receiver<()>) {
    let mut child = match start(plan) {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    process.store(child.id(), Ordering::Relaxed);
    let _ = started.send(Ok(()));
    loop {
        match orders.recv_timeout(WATCH) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return stop(&mut child),
        }
        let Ok(Some(status)) = child.try_wait() else { continue };
        tracing::error!("the private PostgreSQL ended unexpectedly ({status}); starting it again");
        loop {
            match start(plan) {
                Ok(new) => {
                    child = new;
                    process.store(child.id(), Ordering::Relaxed);
                    break;
                }
                Err(error) => tracing::error!("the private PostgreSQL does not start: {error}"),
            }
            if orders.recv_timeout(RESTART_PAUSE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}

/// Starts the server and waits until it accepts connections.
fn start(plan: &Plan) -> Result<Child, StartError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let leftovers = end_leftovers(&plan.cluster);
        let (mut child, log_start) = spawn(plan)?;
        if wait_ready(&mut child, &plan.cluster) {
            return Ok(child);
        }
        let said = log_since(&plan.log, log_start);
        // The server of a killed Weir needs up to two seconds to end.
        let locked = said.contains("lock file") || said.contains("pre-existing shared memory") || leftovers;
        if !locked || Instant::now() > deadline {
            return Err(StartError::Program { program: "postgres", detail: said });
        }
        pause();
    }
}

fn spawn(plan: &Plan) -> Result<(Child, u64), StartError> {
    let failed = |e: std::io::Error| plan.identity.spawn_error("postgres", e);
    let (log, log_start) = open_log(&plan.log).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let mut command = plan.identity.command(&plan.installation.bin.join("postgres"));
    command.arg("-D").arg(&plan.cluster).current_dir(&plan.cluster);
    for setting in settings(plan) {
        command.arg("-c").arg(setting);
    }
    // Ctrl-C in the terminal reaches the whole process group; PostgreSQL must outlive Weir's own orderly stop.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(failed)?;
    Ok((child, log_start))
}

fn settings(plan: &Plan) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories={}", quote(&plan.socket_dir.to_string_lossy())),
        "unix_socket_permissions=0700".to_owned(),
        format!("max_connections={}", plan.connections_max),
        "shared_buffers=64MB".to_owned(),
        "jit=off".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
    ];
    if !plan.durable {
        // Tests make and drop a database each: nothing is synced, and little is written ahead.
        let fast =
            ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0"];
        settings.extend(fast.map(str::to_owned));
        settings.extend(["max_wal_size=4GB", "checkpoint_timeout=1d", "autovacuum=off"].map(str::to_owned));
    }
    settings
}

/// A directory in the list syntax of `unix_socket_directories`: quoted, so that commas and spaces are part of it.
fn quote(directory: &str) -> String {
    format!("\"{}\"", directory.replace('"', "\"\""))
}

/// The log to append to and its present length.
fn open_log(path: &Path) -> std::io::Result<(File, u64)> {
    let large = fs::metadata(path).is_ok_and(|m| m.len() > LOG_BYTES_MAX);
    let mut open = OpenOptions::new();
    let file = open.create(true).append(true).mode(0o600).open(path)?;
    if large {
        file.set_len(0)?;
    }
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn log_since(path: &Path, start: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(LOG_TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|e| format!("(its log {} cannot be read: {e})", path.display()))
}

/// Waits until the server accepts connections. `false`: it ended.
fn wait_ready(child: &mut Child, cluster: &Path) -> bool {
    let deadline = Instant::now() + READY_WAIT;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        if Postmaster::read(cluster).is_some_and(|p| p.process == child.id() && p.ready) {
            return true;
        }
        pause();
    }
    stop(child);
    false
}

/// Whether the server of this cluster, whoever owns it, accepts connections.
pub(super) fn accepts_connections(cluster: &Path) -> bool {
    Postmaster::read(cluster).is_some_and(|p| p.ready)
}

/// What the server tells about itself in `postmaster.pid`.
struct Postmaster {
    process: u32,
    ready: bool,
}

impl Postmaster {
    fn read(cluster: &Path) -> Option<Self> {
        let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
        let process = text.lines().next()?.trim().parse().ok()?;
        let ready = text.lines().nth(7).is_some_and(|status| status.trim() == "ready");
        Some(Self { process, ready })
    }
}

/// Ends orderly, then at once, then by force.
fn stop(child: &mut Child) {
    for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
        send(child.id(), signal);
        let deadline = Instant::now() + STOP_WAIT;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            pause();
        }
    }
}

fn send(process: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // It has ended already: that is what the signal is for.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Deals with what a killed Weir left on this cluster, which this process holds the lock of: asks a server that still runs
/// to end, and removes a pid file that names nobody. Returns whether processes were found.
fn end_leftovers(cluster: &Path) -> bool {
    let Some(postmaster) = Postmaster::read(cluster) else { return false };
    if !cfg!(target_os = "linux") {
        return true;
    }
    let deadline = Instant::now() + LOCK_WAIT;
    let mut found = false;
    while Instant::now() < deadline {
        let processes = processes_on(cluster);
        if processes.is_empty() {
            // In a container the number soon belongs to somebody else, and PostgreSQL would take that for itself.
            if Postmaster::read(cluster).is_some_and(|p| p.process == postmaster.process) {
                let _ = fs::remove_file(cluster.join("postmaster.pid"));
            }
            return found;
        }
        if !found && processes.contains(&postmaster.process) {
            tracing::info!("waiting for the PostgreSQL of the process before to end");
            send(postmaster.process, Signal::INT);
        }
        found = true;
        pause();
    }
    found
}

/// Every process of a server on this cluster: all of them work in its directory.
fn processes_on(cluster: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|process| {
            let proc = PathBuf::from(format!("/proc/{process}"));
            match fs::read_link(proc.join("cwd")) {
                Ok(cwd) => cwd == cluster,
                // Not ours to look at; then its command line decides, which anybody may read.
                Err(_) => fs::read(proc.join("cmdline")).is_ok_and(|line| mentions(&line, cluster)),
            }
        })
        .collect()
}

fn mentions(command_line: &[u8], cluster: &Path) -> bool {
    let cluster = cluster.as_os_str().as_encoded_bytes();
    command_line.split(|b| *b == 0).any(|argument| argument == cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_directory_may_contain_commas_spaces_and_quotes() {
        assert_eq!(quote("/a, b/\"c\""), "\"/a, b/\"\"c\"\"\"");
    }

    #[test]
    fn the_servers_own_note_tells_when_it_is_ready() {
        let dir = tempfile::tempdir().unwrap();
        let note = |status| format!("42\n/d\n1700000000\n5432\n/s\n\n 1 2\n{status}\n");
        for (status, ready) in [("starting", false), ("ready   ", true), ("stopping", false)] {
            fs::write(dir.path().join("postmaster.pid"), note(status)).unwrap();
            let read = Postmaster::read(dir.path()).unwrap();
            assert_eq!((read.process, read.ready), (42, ready));
        }
        fs::write(dir.path().join("postmaster.pid"), "42\n").unwrap();
        assert!(!Postmaster::read(dir.path()).unwrap().ready);
    }
}
