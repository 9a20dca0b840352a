//! Open files of segments, the least recently used closed when there are too many.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::SegmentKey;
use super::index::Index;
use crate::broker::disk::{Disk, File, Open};

/// An open segment.
pub(in crate::broker::log) struct OpenSegment {
    pub(in crate::broker::log) file: Arc<dyn File>,
    /// Of a sealed segment, once somebody has read it. It goes with the file, so the number of open files bounds it.
    pub(super) index: OnceLock<Index>,
}

/// See the module's text.
pub(in crate::broker::log) struct Files {
    disk: Arc<dyn Disk>,
    open_max: usize,
    open: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    uses: u64,
    by_key: HashMap<SegmentKey, (Arc<OpenSegment>, u64)>,
}

impl Files {
    pub(in crate::broker::log) fn new(disk: Arc<dyn Disk>, open_max: usize) -> Self {
        Self { disk, open_max, open: Mutex::default() }
    }

    /// The segment's file, which must exist.
    pub(in crate::broker::log) fn get(&self, key: SegmentKey) -> io::Result<Arc<OpenSegment>> {
        {
            let mut open = self.open.lock();
            open.uses += 1;
            let now = open.uses;
            if let Some((segment, used)) = open.by_key.get_mut(&key) {
                *used = now;
                return Ok(Arc::clone(segment));
            }
        }
        let file = self.disk.open(&key.log_path(), Open::Existing)?;
        Ok(self.keep(key, file))
    }

    /// A new and empty file.
    pub(in crate::broker::log) fn create(&self, key: SegmentKey) -> io::Result<Arc<OpenSegment>> {
        let file = self.disk.open(&key.log_path(), Open::Empty)?;
        Ok(self.keep(key, file))
    }

    pub(in crate::broker::log) fn forget(&self, key: SegmentKey) {
        self.open.lock().by_key.remove(&key);
    }

    fn keep(&self, key: SegmentKey, file: Arc<dyn File>) -> Arc<OpenSegment> {
        let segment = Arc::new(OpenSegment { file, index: OnceLock::new() });
        let mut open = self.open.lock();
        open.uses += 1;
        let now = open.uses;
        open.by_key.insert(key, (Arc::clone(&segment), now));
        if open.by_key.len() > self.open_max {
            close_oldest(&mut open);
        }
        segment
    }

    /// The bytes of a sealed segment's index file, at most `bytes_max`.
    pub(in crate::broker::log) fn read_index(&self, key: SegmentKey, bytes_max: usize) -> io::Result<Vec<u8>> {
        let file = self.disk.open(&key.index_path(), Open::Existing)?;
        let len = usize::try_from(file.size()?).unwrap_or(usize::MAX);
        if len > bytes_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        crate::broker::disk::read_exact(&*file, 0, len)
    }
}

/// A quarter at a time, so that the search for the oldest is rare.
fn close_oldest(open: &mut Opened) {
    let mut uses: Vec<_> = open.by_key.values().map(|(_, used)| *used).collect();
    let quarter = uses.len() / 4;
    let (_, &mut oldest_kept, _) = uses.select_nth_unstable(quarter);
    open.by_key.retain(|_, (_, used)| *used >= oldest_kept);
}
