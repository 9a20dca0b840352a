//! The view's copy on the local disk (sled), so that tokens and rights can be answered when this process starts without the
//! database.
//!
//! It may vanish, be torn or be old at any time, and nothing is lost (I13): when the database answers, the view is loaded
//! from there and the copy written anew. It holds hashes of tokens, never secrets.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::entity::{Delta, Entity, EntityKind};
use crate::names::{TopicId, TopicName};

/// Where the revision is kept; rows have longer keys.
const REVISION: &[u8] = b"revision";
/// What sled keeps in memory.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// The form of the rows. Copies of another form are not read.
const FORM: &[u8] = b"weir-view-1";

/// The copy, if there is one. Failures turn it off for the rest of the process: it is a help, not a need.
#[derive(Clone)]
pub(super) struct LocalView(Option<Arc<sled::Db>>);

impl LocalView {
    /// Opens the copy in a folder; one that cannot be read is thrown away.
    pub async fn open(folder: Option<PathBuf>) -> Self {
        let Some(folder) = folder else { return Self(None) };
        match try_open(folder.clone()).await {
            Opened::Store(store) => return Self(Some(Arc::new(store))),
            Opened::InUse(why) => {
                tracing::warn!(folder = %folder.display(), why, "the local view is used by another process");
                return Self(None);
            }
            Opened::Damaged(why) => {
                tracing::warn!(folder = %folder.display(), why, "the local view cannot be read and is made anew");
            }
        }
        if let Err(error) = tokio::fs::remove_dir_all(&folder).await {
            tracing::warn!(%error, "the local view cannot be removed");
        }
        match try_open(folder).await {
            Opened::Store(store) => Self(Some(Arc::new(store))),
            Opened::InUse(_) | Opened::Damaged(_) => Self(None),
        }
    }

    /// Writes what is pending and lets go of the folder.
    pub async fn close(self) {
        // Dropping the store blocks.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    /// The whole copy. `None` when there is none or it is damaged.
    pub async fn load(&self) -> Option<Delta> {
        let store = Arc::clone(self.0.as_ref()?);
        tokio::task::spawn_blocking(move || read(&store)).await.ok().flatten()
    }

    /// Follows the view. One atomic batch: the copy is of one revision.
    pub async fn store(&mut self, delta: &Delta) {
        let Some(store) = self.0.clone() else { return };
        let delta = delta.clone();
        let stored = tokio::task::spawn_blocking(move || write(&store, &delta)).await;
        match stored {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.turn_off(&error),
            Err(error) => self.turn_off(&error),
        }
    }

    /// Whether there is a copy to follow the view.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn turn_off(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "the local view is not kept any longer");
        self.0 = None;
    }
}

/// The topics' names in a copy that may belong to a running process; none if it cannot be read. The folder is not changed
/// and not locked: a copy of it is read. That one may be torn, but a damaged copy is nothing new here.
pub async fn stored_topic_names(folder: &Path) -> HashMap<TopicId, TopicName> {
    let scratch = std::env::temp_dir().join(format!("weir-names-{}", Uuid::now_v7().simple()));
    let names = match duplicate(folder, &scratch).await {
        Ok(()) => names_in(scratch.clone()).await,
        Err(_) => HashMap::new(),
    };
    // It was never made, or the system empties the place.
    let _ = tokio::fs::remove_dir_all(&scratch).await;
    names
}

async fn names_in(folder: PathBuf) -> HashMap<TopicId, TopicName> {
    let Opened::Store(store) = try_open(folder).await else { return HashMap::new() };
    let rows = tokio::task::spawn_blocking(move || read(&store)).await.ok().flatten().unwrap_or_default().rows;
    let name = |row| match row {
        Entity::Topic(topic) => Some((topic.id, topic.name)),
        _ => None,
    };
    rows.into_iter().filter_map(name).collect()
}

/// Copies a folder of files and of folders of files: what sled makes.
async fn duplicate(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut folders = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = folders.pop() {
        let mut entries = tokio::fs::read_dir(&from).await?;
        tokio::fs::create_dir(&to).await?;
        while let Some(entry) = entries.next_entry().await? {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if entry.file_type().await?.is_dir() {
                folders.push((from, to));
            } else {
                tokio::fs::copy(&from, &to).await?;
            }
        }
    }
    Ok(())
}

enum Opened {
    Store(sled::Db),
    InUse(String),
    Damaged(String),
}

/// sled may panic on damaged files; the blocking task turns that into an error.
async fn try_open(folder: PathBuf) -> Opened {
    let config = sled::Config::default().path(folder).cache_capacity(CACHE_BYTES);
    match tokio::task::spawn_blocking(move || config.open()).await {
        Ok(Ok(store)) => Opened::Store(store),
        // This is how sled says that it could not lock the file.
        Ok(Err(sled::Error::Io(error))) if error.kind() == std::io::ErrorKind::Other => {
            Opened::InUse(error.to_string())
        }
        Ok(Err(error)) => Opened::Damaged(error.to_string()),
        Err(error) => Opened::Damaged(error.to_string()),
    }
}

fn key_of(kind: EntityKind, id: Uuid) -> [u8; 17] {
    let mut key = [0; 17];
    key[0] = kind.byte();
    key[1..].copy_from_slice(id.as_bytes());
    key
}

/// A row with its digest in front, so that a damaged one is noticed.
fn seal(body: &[u8]) -> Vec<u8> {
    let mut sealed = Sha256::digest(body)[..8].to_vec();
    sealed.extend_from_slice(body);
    sealed
}

fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let (digest, body) = sealed.split_at_checked(8)?;
    (Sha256::digest(body)[..8] == *digest).then_some(body)
}

fn write(store: &sled::Db, delta: &Delta) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut batch = sled::Batch::default();
    if delta.whole {
        for key in store.iter().keys() {
            batch.remove(key?);
        }
    }
    for (kind, id) in &delta.gone {
        batch.remove(&key_of(*kind, *id));
    }
    for row in &delta.rows {
        let (kind, id) = row.key();
        batch.insert(&key_of(kind, id), seal(&serde_json::to_vec(row)?));
    }
    let mut revision = FORM.to_vec();
    revision.extend_from_slice(&delta.revision.to_be_bytes());
    batch.insert(REVISION, seal(&revision));
    store.apply_batch(batch)?;
    // Out of sled's memory, so that a killed process leaves a copy that is not half a second behind.
    store.flush()?;
    Ok(())
}

fn read(store: &sled::Db) -> Option<Delta> {
    let mut delta = Delta { whole: true, ..Delta::default() };
    let sealed = store.get(REVISION).ok().flatten()?;
    let revision = unseal(&sealed)?.strip_prefix(FORM)?;
    delta.revision = i64::from_be_bytes(revision.try_into().ok()?);
    for entry in store.iter() {
        let (key, sealed) = entry.ok()?;
        if key.as_ref() != REVISION {
            let row: Entity = serde_json::from_slice(unseal(&sealed)?).ok()?;
            delta.rows.push(row);
        }
    }
    Some(delta)
}
