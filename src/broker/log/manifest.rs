//! What the store holds and from where the log must be replayed: one file, `meta/manifest`, replaced whole.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `WEIRMAN5` |
//! | 8 | 8 | length of the body |
//! | 16 | 4 | CRC-32C of the body |
//! | 20 | | body |
//!
//! Body, little endian: store id 16 B; position in the log: segment u64, byte u64, lsn u64, chain u32; next partition
//! number u32; then four lists, each with its count u32:
//! partitions {number u32, topic 16 B, partition of the topic u32, log start i64, compacted to i64, next offset i64,
//! count u32 of segments {base i64, generation u32, bytes u64, next i64, max timestamp i64, first accepted i64, max accepted i64,
//! delete horizon i64, sealed u8}};
//! segments that are no longer needed and not yet removed {partition u32, base i64, generation u32};
//! idempotency keys {key 16 B, digest 16 B, tenant 16 B, accepted i64, count u32 of answers {topic 16 B, partition u32,
//! first i64, count u32, largest timestamp i64}};
//! producers {topic 16 B, partition u32, id i64, epoch i16, accepted i64, count u32 of batches {sequence i32, first i64,
//! count u32, largest timestamp i64}}.

use std::io;

use uuid::Uuid;

use super::segment::{Extent, SegmentKey};
use super::wal::Position;
use super::wire::{Fields, Put, len_usize, len64};
use crate::broker::disk::{self, Disk, Open};
use crate::broker::engine::{Appended, Tenant};
use crate::broker::idempotency::Remembered;
use crate::broker::producers::{Key, Known, Numbered};
use crate::clock::Timestamp;
use crate::names::{Offset, TopicId, TopicPartition};

pub(super) const DIR: &str = "meta";
const PATH: &str = "meta/manifest";
const NEW_PATH: &str = "meta/manifest.new";
const MAGIC: &[u8; 8] = b"WEIRMAN5";
const HEADER_BYTES: usize = 20;
/// A manifest is never larger, in bytes; a million partitions, two million keys and eight million answers take less.
const BYTES_MAX: u64 = 2 << 30;

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) store: Uuid,
    /// The first frame that the segments do not hold yet.
    pub(super) position: Position,
    pub(super) next_partition: u32,
    pub(super) partitions: Vec<KnownPartition>,
    pub(super) garbage: Vec<SegmentKey>,
    pub(super) keys: Vec<([u8; 16], Remembered)>,
    pub(super) producers: Vec<(Key, Known)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownPartition {
    pub(super) id: u32,
    pub(super) at: TopicPartition,
    /// Nothing below is kept.
    pub(super) start: Offset,
    /// Of what lies below, compaction has kept the last record of every key.
    pub(super) clean_to: Offset,
    pub(super) next: Offset,
    pub(super) segments: Vec<(SegmentKey, Extent)>,
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the manifest's bytes are not what was written")]
    Damaged,
}

impl Manifest {
    /// Reads the manifest; `None` if there never was one.
    pub(super) fn load(disk: &dyn Disk) -> Result<Option<Self>, ManifestError> {
        let file = match disk.open(PATH, Open::Existing) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let len = file.size()?;
        if len > BYTES_MAX {
            return Err(ManifestError::Damaged);
        }
        let bytes = disk::read_exact(&*file, 0, len_usize(len))?;
        Self::decode(&bytes).map(Some).ok_or(ManifestError::Damaged)
    }

    /// Replaces the manifest. Durable when it returns: the old one or the new one is there at any moment.
    pub(super) fn store(&self, disk: &dyn Disk) -> io::Result<()> {
        self.store_bounded(disk, BYTES_MAX)
    }

    /// What could not be read again is not written: the old one is the better one then.
    fn store_bounded(&self, disk: &dyn Disk, bytes_max: u64) -> io::Result<()> {
        let bytes = self.encode();
        if len64(bytes.len()) > bytes_max {
            return Err(io::Error::other("the manifest would be larger than a start accepts"));
        }
        let file = disk.open(NEW_PATH, Open::Empty)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        disk.rename(NEW_PATH, PATH)?;
        disk.sync_dir(DIR)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        out.uuid(self.store);
        out.u64(self.position.segment);
        out.u64(self.position.at);
        out.u64(self.position.lsn);
        out.u32(self.position.chain);
        out.u32(self.next_partition);
        put_list(&mut out, &self.partitions, put_partition);
        put_list(&mut out, &self.garbage, |out, key| {
            out.u32(key.partition);
            out.i64(key.base.0);
            out.u32(key.generation);
        });
        put_list(&mut out, &self.keys, put_key);
        put_list(&mut out, &self.producers, put_producer);
        let body = &out[HEADER_BYTES..];
        let (len, crc) = (len64(body.len()), crc32c::crc32c(body));
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&len.to_le_bytes());
        out[16..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let magic = fields.take(8)?;
        let (len, crc) = (fields.u64()?, fields.u32()?);
        let body = fields.0;
        if magic != MAGIC || len != len64(body.len()) || crc != crc32c::crc32c(body) {
            return None;
        }
        let store = fields.uuid()?;
        let position = Position { segment: fields.u64()?, at: fields.u64()?, lsn: fields.u64()?, chain: fields.u32()? };
        let manifest = Self {
            store,
            position,
            next_partition: fields.u32()?,
            partitions: list(&mut fields, 52, read_partition)?,
            garbage: list(&mut fields, 16, |f| read_segment_key(f.u32()?, f))?,
            keys: list(&mut fields, 60, read_key)?,
            producers: list(&mut fields, 42, read_producer)?,
        };
        fields.0.is_empty().then_some(manifest)
    }
}

fn put_list<T>(out: &mut Vec<u8>, list: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.u32(u32::try_from(list.len()).expect("the lists of a manifest are bounded"));
    for item in list {
        put(out, item);
    }
}

fn list<'a, T>(
    fields: &mut Fields<'a>,
    bytes_each: usize,
    read: impl Fn(&mut Fields<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = fields.count(bytes_each)?;
    (0..count).map(|_| read(fields)).collect()
}

fn put_partition(out: &mut Vec<u8>, partition: &KnownPartition) {
    out.u32(partition.id);
    out.uuid(partition.at.topic.0);
    out.u32(partition.at.partition);
    out.i64(partition.start.0);
    out.i64(partition.clean_to.0);
    out.i64(partition.next.0);
    put_list(out, &partition.segments, |out, (key, extent)| {
        out.i64(key.base.0);
        out.u32(key.generation);
        out.u64(extent.bytes);
        out.i64(extent.next.0);
        out.i64(extent.max_timestamp.0);
        out.i64(extent.first_accepted.0);
        out.i64(extent.max_accepted.0);
        out.i64(extent.delete_horizon.0);
        out.u8(u8::from(extent.sealed));
    });
}

fn read_partition(fields: &mut Fields<'_>) -> Option<KnownPartition> {
    let id = fields.u32()?;
    Some(KnownPartition {
        id,
        at: TopicPartition { topic: TopicId(fields.uuid()?), partition: fields.u32()? },
        start: Offset(fields.i64()?),
        clean_to: Offset(fields.i64()?),
        next: Offset(fields.i64()?),
        segments: list(fields, 61, |f| {
            let key = read_segment_key(id, f)?;
            let extent = Extent {
                bytes: f.u64()?,
                next: Offset(f.i64()?),
                max_timestamp: Timestamp(f.i64()?),
                first_accepted: Timestamp(f.i64()?),
                max_accepted: Timestamp(f.i64()?),
                delete_horizon: Timestamp(f.i64()?),
                sealed: f.u8()? != 0,
            };
            Some((key, extent))
        })?,
    })
}

fn read_segment_key(partition: u32, fields: &mut Fields<'_>) -> Option<SegmentKey> {
    Some(SegmentKey { partition, base: Offset(fields.i64()?), generation: fields.u32()? })
}

fn put_key(out: &mut Vec<u8>, (key, seen): &([u8; 16], Remembered)) {
    out.put(key);
    out.put(&seen.digest);
    out.uuid(seen.tenant.0);
    out.i64(seen.at.0);
    put_list(out, &seen.appended, |out, appended| {
        out.uuid(appended.to.topic.0);
        out.u32(appended.to.partition);
        out.i64(appended.first.0);
        out.u32(appended.count);
        out.i64(appended.timestamp.0);
    });
}

fn read_key(fields: &mut Fields<'_>) -> Option<([u8; 16], Remembered)> {
    let (key, digest, tenant) = (fields.array()?, fields.array()?, Tenant(fields.uuid()?));
    let at = Timestamp(fields.i64()?);
    let appended = list(fields, 40, |f| {
        Some(Appended {
            to: TopicPartition { topic: TopicId(f.uuid()?), partition: f.u32()? },
            first: Offset(f.i64()?),
            count: f.u32()?,
            timestamp: Timestamp(f.i64()?),
        })
    })?;
    Some((key, Remembered { tenant, digest, at, appended: appended.into() }))
}

fn put_producer(out: &mut Vec<u8>, ((to, id), known): &(Key, Known)) {
    out.uuid(to.topic.0);
    out.u32(to.partition);
    out.i64(*id);
    out.u16(known.epoch.cast_unsigned());
    out.i64(known.at.0);
    put_list(out, &known.batches, |out, batch| {
        out.u32(batch.sequence.cast_unsigned());
        out.i64(batch.first.0);
        out.u32(batch.count);
        out.i64(batch.timestamp.0);
    });
}

fn read_producer(fields: &mut Fields<'_>) -> Option<(Key, Known)> {
    let to = TopicPartition { topic: TopicId(fields.uuid()?), partition: fields.u32()? };
    let key = (to, fields.i64()?);
    let (epoch, at) = (fields.u16()?.cast_signed(), Timestamp(fields.i64()?));
    let batches = list(fields, 24, |f| {
        Some(Numbered {
            sequence: f.u32()?.cast_signed(),
            first: Offset(f.i64()?),
            count: f.u32()?,
            timestamp: Timestamp(f.i64()?),
        })
    })?;
    Some((key, Known { epoch, at, batches }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Manifest {
        let at = TopicPartition { topic: TopicId(Uuid::from_u128(7)), partition: 3 };
        let extent = Extent {
            bytes: 100,
            next: Offset(9),
            max_timestamp: Timestamp(-1),
            first_accepted: Timestamp(4),
            max_accepted: Timestamp(5),
            delete_horizon: Timestamp(77),
            sealed: true,
        };
        let appended = Appended { to: at, first: Offset(4), count: 5, timestamp: Timestamp(4) };
        let seen = Remembered {
            tenant: Tenant(Uuid::from_u128(8)),
            digest: [2; 16],
            at: Timestamp(5),
            appended: Box::new([appended]),
        };
        let batch = Numbered { sequence: 6, first: Offset(7), count: 2, timestamp: Timestamp(-8) };
        let known = Known { epoch: 3, at: Timestamp(5), batches: vec![batch] };
        Manifest {
            store: Uuid::from_u128(1),
            position: Position { segment: 2, at: 4096, lsn: 17, chain: 0xdead_beef },
            next_partition: 12,
            partitions: vec![KnownPartition {
                id: 11,
                at,
                start: Offset(3),
                clean_to: Offset(4),
                next: Offset(9),
                segments: vec![(SegmentKey { partition: 11, base: Offset(0), generation: 2 }, extent)],
            }],
            garbage: vec![SegmentKey { partition: 5, base: Offset(77), generation: 1 }],
            keys: vec![([1; 16], seen)],
            producers: vec![((at, 9), known)],
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(Manifest::decode(&example().encode()), Some(example()));
    }

    #[test]
    fn a_manifest_that_could_not_be_read_again_does_not_replace_the_old_one() {
        let disk = disk::sim::SimDisk::new();
        example().store(&disk).unwrap();
        let large =
            Manifest { garbage: vec![SegmentKey { partition: 5, base: Offset(77), generation: 1 }; 100], ..example() };
        let bytes_max = len64(large.encode().len());
        large.store_bounded(&disk, bytes_max - 1).unwrap_err();
        assert_eq!(Manifest::load(&disk).unwrap(), Some(example()));
        large.store_bounded(&disk, bytes_max).unwrap();
        assert_eq!(Manifest::load(&disk).unwrap(), Some(large));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let good = example().encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(Manifest::decode(&bad), None, "byte {at}");
            assert_eq!(Manifest::decode(&good[..at]), None, "cut at {at}");
        }
    }

    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.u64(len64(body.len()));
        out.u32(crc32c::crc32c(body));
        out.extend_from_slice(body);
        out
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert_eq!(Manifest::decode(&bytes), None);
            drop(Manifest::decode(&sealed(&bytes)));
        }

        #[test]
        fn a_well_sealed_lie_never_panics(at in 0..300_usize, with: u8) {
            let mut body = example().encode().split_off(HEADER_BYTES);
            let at = at % body.len();
            body[at] = with;
            drop(Manifest::decode(&sealed(&body)));
        }
    }
}
