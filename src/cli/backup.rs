//! `weir backup` and `weir restore`.
//!
//! A backup is a directory with the catalog (`catalog.dump`), the store (`log/`) and, last, a note (`BACKUP`): without the
//! note it is not complete. The catalog is copied first. What changes in it while the log is copied is not in the backup:
//! records of a topic that it does not know yet are kept and not served.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::log::{STORE, Shown};
use super::open_database;
use crate::broker::disk::real::RealDisk;
use crate::broker::inspect::{Copied, Store};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::embedded_postgres::{self, dump};

const NOTE: &str = "BACKUP";
const CATALOG: &str = "catalog.dump";
/// The store while it is restored.
const UNFINISHED: &str = "log.restoring";
/// A note is never larger, in bytes.
const NOTE_BYTES_MAX: u64 = 1 << 20;
/// Damage that a note lists; more is counted.
const DAMAGE_MAX: usize = 100;
const DAMAGED: u8 = 1;

/// The form of a backup.
const FORM: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    form: u32,
    /// Who wrote it.
    weir: String,
    /// Before anything was copied: everything acknowledged by then is in it.
    begun: i64,
    finished: i64,
    store: uuid::Uuid,
    /// Every commit group before this one is in it.
    next_lsn: u64,
    bytes: u64,
    /// What the check has found; it was damaged in the original.
    damage: Vec<String>,
}

/// Copies everything to `dir`.
pub(super) async fn back_up(config: Config, dir: &Path) -> anyhow::Result<ExitCode> {
    let begun = SystemClock.now().0;
    let source = config.data_dir.join(STORE);
    let store = Store::open(&source).with_context(|| source.display().to_string())?;
    make_empty(dir)?;
    eprintln!("weir: copying the catalog");
    dump_catalog(config, dir.join(CATALOG)).await.context("the catalog cannot be copied")?;
    let target = dir.join(STORE);
    let work = tokio::task::spawn_blocking(move || -> anyhow::Result<(Copied, Vec<String>)> {
        eprintln!("weir: copying the records{}", if store.is_in_use() { " of the running server" } else { "" });
        let copied = copy(&store, &target).context("the records cannot be copied")?;
        eprintln!("weir: checking the copy");
        Ok((copied, check(&target)?))
    });
    let (copied, damage) = work.await??;
    let note = Note {
        form: FORM,
        weir: env!("CARGO_PKG_VERSION").to_owned(),
        begun,
        finished: SystemClock.now().0,
        store: copied.store,
        next_lsn: copied.next_lsn,
        bytes: copied.bytes,
        damage,
    };
    write_note(dir, &note).context("the backup cannot be finished")?;
    super::print(&format!("Backup of {} MiB of records and the catalog in {}\n", copied.bytes >> 20, dir.display()))?;
    Ok(verdict(&note))
}

/// Makes a data directory and a database from the backup in `dir`.
pub(super) async fn restore(config: Config, dir: &Path) -> anyhow::Result<ExitCode> {
    let note = read_note(dir)?;
    let data_dir = embedded_postgres::prepare_data_dir(&config.data_dir)?;
    let (target, unfinished) = (data_dir.join(STORE), data_dir.join(UNFINISHED));
    ensure!(!target.exists(), "{} exists: restore to a data directory of its own (--data-dir DIR)", target.display());
    let source = Store::open(&dir.join(STORE)).context("the backup cannot be read")?;
    let copying = unfinished.clone();
    let work = tokio::task::spawn_blocking(move || -> anyhow::Result<Vec<String>> {
        if copying.exists() {
            fs::remove_dir_all(&copying).context("what an earlier restore has left cannot be removed")?;
        }
        eprintln!("weir: copying the records");
        copy(&source, &copying).context("the records cannot be copied")?;
        eprintln!("weir: checking the copy");
        check(&copying)
    });
    let damage = work.await??;
    eprintln!("weir: restoring the catalog");
    restore_catalog(config, dir.join(CATALOG)).await.context("the catalog cannot be restored")?;
    // Last: a store without its catalog would be served without topics.
    fs::rename(&unfinished, &target).context("the restored records cannot be put in place")?;
    File::open(&data_dir)?.sync_all()?;
    super::print(&format!("Restored to {}; start it with weir serve --data-dir {0}\n", data_dir.display()))?;
    Ok(verdict(&Note { damage, ..note }))
}

/// An empty directory that nobody else can read.
fn make_empty(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    ensure!(entries.next().is_none(), "{} is not empty: every backup gets a directory of its own", dir.display());
    Ok(())
}

fn copy(store: &Store, target: &Path) -> anyhow::Result<Copied> {
    let disk = RealDisk::open(target)?;
    let mut shown = Shown::new("copied");
    let copied = store.copy_to(&disk, |progress| shown.show(progress))?;
    shown.end();
    Ok(copied)
}

/// Reads the copy; what is damaged in it.
fn check(store: &Path) -> anyhow::Result<Vec<String>> {
    let mut shown = Shown::new("checked");
    let verified = Store::open(store)?.verify(|progress| shown.show(progress)).context("the copy cannot be checked")?;
    shown.end();
    let mut damage: Vec<String> = verified.findings.iter().take(DAMAGE_MAX).map(ToString::to_string).collect();
    if verified.found > u64::try_from(damage.len())? {
        damage.push(format!("{} places in all", verified.found));
    }
    Ok(damage)
}

fn verdict(note: &Note) -> ExitCode {
    for damage in &note.damage {
        eprintln!("weir: DAMAGED: {damage}");
    }
    if note.damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) }
}

/// Durable when it returns: the note is there only if everything else is.
fn write_note(dir: &Path, note: &Note) -> anyhow::Result<()> {
    File::open(dir.join(CATALOG))?.sync_all()?;
    let mut file = File::create_new(dir.join(NOTE))?;
    file.write_all(&serde_json::to_vec_pretty(note)?)?;
    file.sync_all()?;
    for made in [dir, dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))] {
        File::open(made)?.sync_all()?;
    }
    Ok(())
}

fn read_note(dir: &Path) -> anyhow::Result<Note> {
    let path = dir.join(NOTE);
    let incomplete = || format!("{} cannot be read: this is no complete backup", path.display());
    let mut text = String::new();
    File::open(&path)
        .with_context(incomplete)?
        .take(NOTE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(incomplete)?;
    let note: Note = serde_json::from_str(&text).with_context(incomplete)?;
    if note.form != FORM {
        bail!("the backup was made by Weir {} in a form that this version does not know", note.weir);
    }
    Ok(note)
}

async fn dump_catalog(config: Config, file: PathBuf) -> anyhow::Result<()> {
    with_database(config, move |url, bin, data_dir| dump::dump(url, bin, data_dir, &file)).await
}

async fn restore_catalog(config: Config, file: PathBuf) -> anyhow::Result<()> {
    with_database(config, move |url, bin, data_dir| dump::restore(url, bin, data_dir, &file)).await
}

/// Runs a program of PostgreSQL on the configured database, or the private one.
async fn with_database(
    config: Config,
    run: impl FnOnce(&str, Option<&Path>, &Path) -> Result<(), embedded_postgres::StartError> + Send + 'static,
) -> anyhow::Result<()> {
    let data_dir = config.data_dir.clone();
    let bin = config.pg_bin.clone();
    let (postgres, url) = open_database(config).await?;
    let work = tokio::task::spawn_blocking(move || {
        let result = run(&url, bin.as_deref(), &data_dir);
        if let Some(postgres) = postgres {
            postgres.stop();
        }
        result
    });
    Ok(work.await??)
}
