//! Small writes of one commit group to one partition become one batch.
//!
//! A record that is sent alone costs a header of 61 bytes, an entry in the log and one in memory; what meets in a group
//! shares them. What has a key, a condition or a producer stays as it came, because later requests refer to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::partition::Partition;
use crate::broker::record::{CHUNK_BYTES_MAX, Merge, RecordBatch};

/// Larger batches stay as they are, in bytes: copying them costs more than a header.
const SMALL_BYTES: usize = 4 << 10;

/// A batch for a partition.
pub(super) type Append = (Arc<Partition>, RecordBatch);

/// Small batches of the group at hand, by partition, that are not in the frame yet. A partition's batches follow each
/// other: whoever writes another one to it closes its run first.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<u32, (Arc<Partition>, Merge)>);

impl Runs {
    /// Adds a batch that has its offset. What is to be written now, in this order.
    pub(super) fn add(&mut self, partition: Arc<Partition>, batch: RecordBatch) -> [Option<Append>; 2] {
        if batch.len() > SMALL_BYTES {
            return [self.close(&partition), Some((partition, batch))];
        }
        let id = partition.id;
        let Some((_, run)) = self.0.get_mut(&id) else {
            self.0.insert(id, (partition, Merge::new(batch)));
            return [None, None];
        };
        let Err(batch) = run.add(batch, CHUNK_BYTES_MAX) else { return [None, None] };
        let full = self.0.insert(id, (partition, Merge::new(batch)));
        [full.map(finish), None]
    }

    /// Ends the run of a partition: what is to be written now.
    pub(super) fn close(&mut self, partition: &Partition) -> Option<Append> {
        self.0.remove(&partition.id).map(finish)
    }

    /// Ends all runs.
    pub(super) fn close_all(&mut self) -> impl Iterator<Item = Append> + use<> {
        std::mem::take(&mut self.0).into_values().map(finish)
    }
}

fn finish((partition, run): (Arc<Partition>, Merge)) -> Append {
    (partition, run.finish())
}
