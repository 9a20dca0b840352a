//! One commit group as bytes. Little endian, padded with zeros to [`BLOCK_BYTES`].
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `WGRP` |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | flags, 0 |
//! | 8 | 8 | sequence number of the segment: a stale frame of a recycled file does not match |
//! | 16 | 8 | lsn: 1 more than the frame before |
//! | 24 | 8 | durable lsn: every frame up to this one was durable when this one was written |
//! | 32 | 4 | payload length |
//! | 36 | 4 | number of entries |
//! | 40 | 8 | time of acceptance, ms |
//! | 48 | 4 | header checksum of the frame before |
//! | 52 | 4 | CRC-32C of the payload |
//! | 56 | 4 | 0 |
//! | 60 | 4 | header checksum: CRC-32C of the store's id and bytes 0..60; a record that imitates a frame cannot know it |
//! | 64 | | payload: entries |
//!
//! An entry: kind u8, flags u8 (0), extension length u16 (0), body length u32, partition u32, epoch u32 (0), base offset
//! i64, body. All entries of a frame hold or none. The kinds are in [`Kind`].

use uuid::Uuid;

use super::super::wire::{Fields, Put, len64};
use super::{BLOCK_BYTES, Position};
use crate::broker::engine::Tenant;
use crate::broker::record::RecordBatch;
use crate::clock::Timestamp;
use crate::names::{Offset, TopicId, TopicPartition};

/// Bytes before the payload.
pub(in crate::broker::log) const HEADER_BYTES: usize = 64;
/// Bytes of an entry before its body.
pub(in crate::broker::log) const ENTRY_BYTES: usize = 24;
/// Bytes that the creation of one partition takes in a frame.
pub(in crate::broker::log) const CREATE_BYTES: usize = ENTRY_BYTES + 20;
/// Bytes of the body of an idempotency key.
const KEY_BYTES: usize = 16 + 16 + 16 + 4;

const MAGIC: &[u8; 4] = b"WGRP";
const VERSION: u16 = 1;
const HEADER_CRC_AT: usize = 60;

/// What an entry says. The numbers are for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// Body: a record batch, which lies at the base offset of the partition.
    Append = 1,
    /// A consumer group's position. Not written by this version.
    GroupOffset = 2,
    /// Body: topic id 16 B, partition of the topic u32. The entry's partition is the number it has in this store.
    CreatePartition = 3,
    /// A Kafka producer's registration. Not written by this version.
    Producer = 4,
    /// No body: the partition keeps nothing below the base offset.
    LogStart = 5,
    /// Body: key 16 B, digest 16 B, tenant 16 B, count u32: the last `count` appends of the frame are one commit with
    /// this idempotency key.
    IdempotencyKey = 6,
    /// A Kafka transaction's control batch. Not written by this version.
    Transaction = 7,
    /// A part of a commit that spans groups; void without its `CommitChunks`. Not written by this version.
    Chunk = 8,
    /// The chunks of a commit hold. Not written by this version.
    CommitChunks = 9,
    /// The chunks of a commit are void. Not written by this version.
    AbortChunks = 10,
    /// Body: topic id 16 B. The topic and its partitions are gone.
    DeleteTopic = 11,
    /// No body: the partition's growing segment ends at the base offset, which is the partition's end.
    SealSegment = 12,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        let all = [
            Self::Append,
            Self::GroupOffset,
            Self::CreatePartition,
            Self::Producer,
            Self::LogStart,
            Self::IdempotencyKey,
            Self::Transaction,
            Self::Chunk,
            Self::CommitChunks,
            Self::AbortChunks,
            Self::DeleteTopic,
            Self::SealSegment,
        ];
        all.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One entry of a frame, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::log) enum Entry<'a> {
    Append {
        partition: u32,
        base: Offset,
        batch: &'a [u8],
    },
    CreatePartition {
        partition: u32,
        at: TopicPartition,
    },
    DeleteTopic {
        topic: TopicId,
    },
    IdempotencyKey(KeyEntry),
    LogStart {
        partition: u32,
        start: Offset,
    },
    SealSegment {
        partition: u32,
        end: Offset,
    },
    /// An entry of a later version, or nonsense in a frame whose checksums are right.
    Unsupported {
        kind: u8,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::log) struct KeyEntry {
    pub(in crate::broker::log) key: [u8; 16],
    pub(in crate::broker::log) digest: [u8; 16],
    pub(in crate::broker::log) tenant: Tenant,
    /// How many appends of the frame, back from here, are the commit.
    pub(in crate::broker::log) appends: u32,
}

/// An upper bound of what entries for `writes` batches of `bytes` in all add to a frame, a key included.
pub(in crate::broker::log) fn commit_bound(writes: usize, bytes: usize) -> usize {
    (writes + 1) * ENTRY_BYTES + KEY_BYTES + bytes
}

/// Size on disk of a frame with this much payload.
pub(in crate::broker::log) fn padded(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(BLOCK_BYTES)
}

/// Builds frames in one buffer that is used again.
#[derive(Debug)]
pub(in crate::broker::log) struct FrameBuilder {
    store: Seal,
    buf: Vec<u8>,
    entries: u32,
}

/// What the store's id adds to a header checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::log) struct Seal(u32);

impl Seal {
    pub(in crate::broker::log) fn of(store: Uuid) -> Self {
        Self(crc32c::crc32c(store.as_bytes()))
    }

    fn checksum(self, header: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, header)
    }
}

impl FrameBuilder {
    pub(in crate::broker::log) fn new(store: Seal) -> Self {
        Self { store, buf: Vec::new(), entries: 0 }
    }

    pub(in crate::broker::log) fn start(&mut self) {
        self.buf.clear();
        self.buf.resize(HEADER_BYTES, 0);
        self.entries = 0;
    }

    pub(in crate::broker::log) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(in crate::broker::log) fn append(&mut self, partition: u32, batch: &RecordBatch) {
        self.entry(Kind::Append, batch.len(), partition, batch.base_offset());
        batch.write_to(&mut self.buf);
    }

    pub(in crate::broker::log) fn create_partition(&mut self, partition: u32, at: TopicPartition) {
        self.entry(Kind::CreatePartition, 20, partition, Offset(0));
        self.buf.uuid(at.topic.0);
        self.buf.u32(at.partition);
    }

    pub(in crate::broker::log) fn delete_topic(&mut self, topic: TopicId) {
        self.entry(Kind::DeleteTopic, 16, 0, Offset(0));
        self.buf.uuid(topic.0);
    }

    pub(in crate::broker::log) fn idempotency_key(&mut self, key: &KeyEntry) {
        self.entry(Kind::IdempotencyKey, KEY_BYTES, 0, Offset(0));
        self.buf.put(&key.key);
        self.buf.put(&key.digest);
        self.buf.uuid(key.tenant.0);
        self.buf.u32(key.appends);
    }

    pub(in crate::broker::log) fn log_start(&mut self, partition: u32, start: Offset) {
        self.entry(Kind::LogStart, 0, partition, start);
    }

    pub(in crate::broker::log) fn seal_segment(&mut self, partition: u32, end: Offset) {
        self.entry(Kind::SealSegment, 0, partition, end);
    }

    fn entry(&mut self, kind: Kind, body: usize, partition: u32, base: Offset) {
        self.entries += 1;
        self.buf.u8(kind as u8);
        self.buf.u8(0);
        self.buf.u16(0);
        self.buf.u32(u32::try_from(body).expect("an entry's body is bounded by the largest commit"));
        self.buf.u32(partition);
        self.buf.u32(0);
        self.buf.i64(base.0);
    }

    /// The finished frame for `position`, and its header checksum for the next one's chain.
    pub(in crate::broker::log) fn finish(&mut self, position: Position, durable: u64, now: Timestamp) -> (&[u8], u32) {
        let payload = &self.buf[HEADER_BYTES..];
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.put(MAGIC);
        header.u16(VERSION);
        header.u16(0);
        header.u64(position.segment);
        header.u64(position.lsn);
        header.u64(durable);
        header.u32(u32::try_from(payload.len()).expect("a group is bounded by the largest commit"));
        header.u32(self.entries);
        header.i64(now.0);
        header.u32(position.chain);
        header.u32(crc32c::crc32c(payload));
        header.u32(0);
        let checksum = self.store.checksum(&header);
        header.u32(checksum);
        self.buf[..HEADER_BYTES].copy_from_slice(&header);
        self.buf.resize(self.buf.len().next_multiple_of(BLOCK_BYTES), 0);
        (&self.buf, checksum)
    }
}

/// The header of a frame, its own checksum being right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::log) struct Header {
    pub(in crate::broker::log) segment: u64,
    pub(in crate::broker::log) lsn: u64,
    pub(in crate::broker::log) durable_lsn: u64,
    pub(in crate::broker::log) time: Timestamp,
    pub(in crate::broker::log) chain: u32,
    checksum: u32,
    entries: u32,
    payload_len: usize,
    payload_crc: u32,
}

impl Header {
    /// The header that `bytes` begin with.
    pub(in crate::broker::log) fn parse(store: Seal, bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let mut fields = Fields(header);
        let known = fields.take(4)? == MAGIC && fields.u16()? == VERSION && fields.u16()? == 0;
        let (segment, lsn, durable_lsn) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let payload_len = usize::try_from(fields.u32()?).ok()?;
        let entries = fields.u32()?;
        let time = Timestamp(fields.i64()?);
        let (chain, payload_crc) = (fields.u32()?, fields.u32()?);
        fields.u32()?;
        let checksum = fields.u32()?;
        let whole = known && checksum == store.checksum(&header[..HEADER_CRC_AT]);
        whole.then_some(Self { segment, lsn, durable_lsn, time, chain, checksum, entries, payload_len, payload_crc })
    }
}

/// A frame whose checksums are right, borrowed from its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::log) struct Frame<'a> {
    pub(in crate::broker::log) header: Header,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with, if it is whole.
    pub(in crate::broker::log) fn parse(store: Seal, bytes: &'a [u8]) -> Option<Self> {
        let header = Header::parse(store, bytes)?;
        let payload = bytes[HEADER_BYTES..].get(..header.payload_len)?;
        (header.payload_crc == crc32c::crc32c(payload)).then_some(Self { header, payload })
    }

    /// Length without padding.
    pub(in crate::broker::log) fn bytes(&self) -> u64 {
        len64(HEADER_BYTES + self.payload.len())
    }

    /// Whether the frame follows what is known to come before it.
    pub(in crate::broker::log) fn follows(&self, position: Position) -> bool {
        let Header { segment, lsn, chain, .. } = self.header;
        segment == position.segment && lsn == position.lsn && chain == position.chain
    }

    /// Where the next frame goes in the same segment.
    pub(in crate::broker::log) fn next(&self, position: Position) -> Position {
        let at = position.at + len64(padded(self.payload.len()));
        Position { at, lsn: position.lsn + 1, chain: self.header.checksum, ..position }
    }

    /// The entries; one that cannot be understood ends them.
    pub(in crate::broker::log) fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut fields = Fields(self.payload);
        let mut left = self.header.entries;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let entry = read_entry(&mut fields);
            if matches!(entry, None | Some(Entry::Unsupported { .. })) {
                left = 0;
            }
            Some(entry.unwrap_or(Entry::Unsupported { kind: 0 }))
        })
    }
}

fn read_entry<'a>(fields: &mut Fields<'a>) -> Option<Entry<'a>> {
    let (kind, flags, extension) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let body_len = usize::try_from(fields.u32()?).ok()?;
    let (partition, epoch) = (fields.u32()?, fields.u32()?);
    let base = Offset(fields.i64()?);
    if flags != 0 || extension != 0 || epoch != 0 {
        return None;
    }
    let batch = fields.take(body_len)?;
    let mut body = Fields(batch);
    let entry = match Kind::of(kind) {
        Some(Kind::Append) => return Some(Entry::Append { partition, base, batch }),
        Some(Kind::CreatePartition) => {
            let at = TopicPartition { topic: TopicId(body.uuid()?), partition: body.u32()? };
            Entry::CreatePartition { partition, at }
        }
        Some(Kind::DeleteTopic) => Entry::DeleteTopic { topic: TopicId(body.uuid()?) },
        Some(Kind::LogStart) => Entry::LogStart { partition, start: base },
        Some(Kind::SealSegment) => Entry::SealSegment { partition, end: base },
        Some(Kind::IdempotencyKey) => Entry::IdempotencyKey(KeyEntry {
            key: body.array()?,
            digest: body.array()?,
            tenant: Tenant(body.uuid()?),
            appends: body.u32()?,
        }),
        _ => return Some(Entry::Unsupported { kind }),
    };
    body.0.is_empty().then_some(entry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::conformance;

    const STORE: Uuid = Uuid::from_u128(77);
    const POSITION: Position = Position { segment: 3, at: 4096, lsn: 9, chain: 0xabcd };

    fn seal() -> Seal {
        Seal::of(STORE)
    }

    fn at() -> TopicPartition {
        TopicPartition { topic: TopicId(Uuid::from_u128(5)), partition: 2 }
    }

    fn key() -> KeyEntry {
        KeyEntry { key: [1; 16], digest: [2; 16], tenant: Tenant(Uuid::from_u128(6)), appends: 1 }
    }

    /// One entry of each kind.
    fn example() -> Vec<u8> {
        let mut builder = FrameBuilder::new(seal());
        builder.start();
        builder.create_partition(4, at());
        builder.append(4, &conformance::batch(&["a", "b"]).with_base_offset(Offset(10)));
        builder.idempotency_key(&key());
        builder.log_start(4, Offset(11));
        builder.seal_segment(4, Offset(12));
        builder.delete_topic(at().topic);
        builder.finish(POSITION, 8, Timestamp(123)).0.to_vec()
    }

    #[test]
    fn what_is_built_is_parsed() {
        let bytes = example();
        assert_eq!(bytes.len(), BLOCK_BYTES);
        let frame = Frame::parse(seal(), &bytes).unwrap();
        assert!(frame.follows(POSITION));
        assert_eq!((frame.header.durable_lsn, frame.header.time), (8, Timestamp(123)));
        let mut batch = Vec::new();
        conformance::batch(&["a", "b"]).with_base_offset(Offset(10)).write_to(&mut batch);
        let entries: Vec<_> = frame.entries().collect();
        assert_eq!(
            entries,
            [
                Entry::CreatePartition { partition: 4, at: at() },
                Entry::Append { partition: 4, base: Offset(10), batch: &batch },
                Entry::IdempotencyKey(key()),
                Entry::LogStart { partition: 4, start: Offset(11) },
                Entry::SealSegment { partition: 4, end: Offset(12) },
                Entry::DeleteTopic { topic: at().topic },
            ]
        );
        let next = frame.next(POSITION);
        assert_eq!((next.at, next.lsn, next.segment), (8192, 10, 3));
    }

    #[test]
    fn a_frame_follows_only_its_predecessor() {
        let bytes = example();
        let frame = Frame::parse(seal(), &bytes).unwrap();
        assert!(!frame.follows(Position { segment: 4, ..POSITION }), "left over from the file's earlier use");
        assert!(!frame.follows(Position { lsn: 10, ..POSITION }));
        assert!(!frame.follows(Position { chain: 0, ..POSITION }));
    }

    #[test]
    fn a_frame_of_another_store_is_none() {
        assert_eq!(Frame::parse(Seal::of(Uuid::from_u128(78)), &example()), None);
    }

    #[test]
    fn every_flipped_bit_before_the_padding_is_noticed() {
        let good = example();
        let payload = Header::parse(seal(), &good).unwrap().payload_len;
        for at in 0..HEADER_BYTES + payload {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(Frame::parse(seal(), &bad), None, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn kinds_of_later_versions_are_named_not_guessed() {
        for kind in [2, 4, 7, 8, 9, 10, 99] {
            let mut entry = vec![0; ENTRY_BYTES];
            entry[0] = kind;
            assert_eq!(read_entry(&mut Fields(&entry)), Some(Entry::Unsupported { kind }));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert_eq!(Frame::parse(seal(), &bytes), None);
        }

        #[test]
        fn arbitrary_entries_in_a_true_frame_never_panic(payload: Vec<u8>, entries: u32) {
            let mut builder = FrameBuilder::new(seal());
            builder.start();
            builder.buf.extend_from_slice(&payload);
            builder.entries = entries;
            let bytes = builder.finish(POSITION, 8, Timestamp(0)).0.to_vec();
            let frame = Frame::parse(seal(), &bytes).unwrap();
            prop_assert!(frame.entries().count() <= payload.len() / ENTRY_BYTES + 1);
        }
    }
}
