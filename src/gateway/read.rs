//! One bounded page of records, merged over partitions by time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Gateway;
use super::locate::{Gap, LocateError, Locator, OnGap, PARTITIONS_MAX};
use super::places::{Places, Slot};
use super::position::Position;
use crate::broker::engine::{Engine, FetchError};
use crate::broker::record::{RecordView, ValueKind};
use crate::catalog::access::{Consume, Grant};
use crate::catalog::model::Topic;
use crate::clock::Timestamp;
use crate::names::{Offset, TopicPartition};

/// Most bytes looked at for one page, when a key leaves most records out.
const SCAN_BYTES_MAX: usize = 8 << 20;
/// What looking at a record costs besides its bytes, so that empty ones are bounded too.
const RECORD_COST: usize = 64;
/// Bytes asked for at a time, by partition.
const FETCH_BYTES: usize = 64 << 10;

/// Partitions that may be read for pages at the same time, over all callers. A page takes one for each of its partitions,
/// because that is how many batches it holds at once.
pub(super) const READING_MAX: usize = 4 * PARTITIONS_MAX;

/// Which page.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// Only these partitions.
    pub partitions: Option<Vec<u32>>,
    /// Where to begin.
    pub from: Position,
    /// Where to stop.
    pub to: Option<Position>,
    /// What to do about records that are gone.
    pub on_gap: OnGap,
    /// At most so many records.
    pub records_max: usize,
    /// At most about so many bytes of keys, headers and values, but at least one record.
    pub bytes_max: usize,
    /// Only records with exactly this key.
    pub key: Option<Bytes>,
    /// How long to wait for the first record.
    pub wait: Duration,
}

impl ReadRequest {
    /// The first records from a position on.
    #[must_use]
    pub fn new(from: Position, records_max: usize) -> Self {
        Self {
            partitions: None,
            from,
            to: None,
            on_gap: OnGap::Fail,
            records_max,
            bytes_max: 1 << 20,
            key: None,
            wait: Duration::ZERO,
        }
    }
}

/// A record that was read, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// Its topic.
    pub topic: Arc<Topic>,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Whether the value is known to be JSON.
    pub kind: ValueKind,
    /// Names and values.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl ReadRecord {
    fn copied(topic: &Arc<Topic>, partition: u32, kind: ValueKind, record: &RecordView<'_>) -> Self {
        Self {
            topic: Arc::clone(topic),
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            kind,
            headers: record.headers.map(|(name, value)| (name.to_owned(), value.map(Bytes::copy_from_slice))).collect(),
        }
    }

    fn bytes(&self) -> usize {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + of(value)).sum();
        of(&self.key) + of(&self.value) + headers
    }
}

/// A page.
#[derive(Debug, Clone)]
pub struct Page {
    /// In the order of time, as far as the partitions' own order allows.
    pub records: Vec<ReadRecord>,
    /// Records that are gone.
    pub gaps: Vec<Gap>,
    /// Where it began.
    pub begin: Places,
    /// Where to go on.
    pub next: Places,
    /// The end of every partition.
    pub end: Places,
}

impl Page {
    /// Number of records between this page and the end.
    #[must_use]
    pub fn behind(&self) -> u64 {
        let left = |slot: Slot| self.end.place(slot).next.0.saturating_sub(self.next.place(slot).next.0);
        self.next.slots().map(|slot| left(slot).max(0).unsigned_abs()).sum()
    }
}

/// Why one record cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// As for a position.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The offset lies in the kept range, but the record was compacted away.
    #[error("there is no record at this offset")]
    NoRecord,
}

impl Gateway {
    /// Reads one page.
    pub async fn read(&self, grants: &[Grant<Consume>], request: ReadRequest) -> Result<Page, LocateError> {
        let topics: Vec<Arc<Topic>> = grants.iter().map(|grant| Arc::clone(grant.resource())).collect();
        read_page(&self.locator(), &self.reading, &topics, request).await
    }

    /// Reads one record.
    pub async fn record(
        &self,
        grant: &Grant<Consume>,
        partition: u32,
        offset: Offset,
    ) -> Result<ReadRecord, RecordError> {
        let topic = grant.resource();
        let cursor = format!("{partition}:{offset}")
            .parse()
            .map_err(|error: super::cursor::CursorError| LocateError::Invalid(error.to_string()))?;
        let topics = [Arc::clone(topic)];
        let position = Position::Cursor(cursor);
        let (places, _) = self.locator().locate(&topics, Some(&[partition]), &position, OnGap::Fail).await?;
        let at = TopicPartition { topic: topic.id, partition };
        let fetched = self.engine.fetch(at, offset, 1).await.map_err(LocateError::from)?;
        let record = fetched.batches.iter().find_map(|batch| {
            let record = batch.records().find(|record| record.offset == offset)?;
            Some(ReadRecord::copied(topic, partition, batch.value_kind(), &record))
        });
        match record {
            Some(record) => Ok(record),
            None if offset >= fetched.bounds.end => {
                let end = fetched.bounds.end;
                let latest = self.locator().ends(&places)?.cursor().to_string();
                Err(LocateError::Ahead { topic: topic.name.clone(), partition, asked: offset, end, latest }.into())
            }
            None => Err(RecordError::NoRecord),
        }
    }

    pub(super) fn locator(&self) -> Locator<'_> {
        Locator { engine: &*self.engine, clock: &*self.clock }
    }
}

async fn read_page(
    locator: &Locator<'_>,
    reading: &Semaphore,
    topics: &[Arc<Topic>],
    request: ReadRequest,
) -> Result<Page, LocateError> {
    let chosen = request.partitions.as_deref();
    let until = match &request.to {
        None => None,
        Some(to) => Some(locator.locate_end(topics, chosen, to).await?),
    };
    let (places, gaps) = locator.locate(topics, chosen, &request.from, request.on_gap).await?;
    let deadline = Instant::now() + request.wait;
    // Made before the first look, so that what is written in between wakes it.
    let mut watch = (!request.wait.is_zero()).then(|| locator.engine.watch(&places.addresses()));
    let begin = places.clone();
    // Who asked for the earliest records or a time was promised no offset.
    let unpromised = (!matches!(request.from, Position::Cursor(_))).then(|| begin.clone());
    let mut merge = Merge {
        engine: locator.engine,
        until,
        places,
        unpromised,
        heads: HashMap::new(),
        scanned: 0,
        overtaken: false,
    };
    let shares = u32::try_from(merge.places.len().min(PARTITIONS_MAX)).unwrap_or(u32::MAX);
    let mut records = Vec::new();
    loop {
        // Held only while something is fetched: one that waits holds neither a place nor what it fetched.
        let reads = reading.acquire_many(shares).await;
        let taken = merge.take(&request, &mut records).await;
        merge.heads = HashMap::new();
        drop(reads);
        taken?;
        let Some(watch) = watch.as_mut().filter(|_| records.is_empty()) else { break };
        // One that has looked at enough says how far it came: the caller goes on from there.
        let over = merge.finished() || merge.scanned_enough() || merge.overtaken;
        if over || tokio::time::timeout_at(deadline, watch.changed()).await.is_err() {
            break;
        }
    }
    let next = merge.places;
    let end = locator.ends(&next)?;
    Ok(Page { records, gaps, begin, next, end })
}

/// Takes records of several partitions in the order of time.
struct Merge<'a> {
    engine: &'a dyn Engine,
    until: Option<Places>,
    places: Places,
    /// What was fetched and not taken yet.
    heads: HashMap<Slot, VecDeque<ReadRecord>>,
    scanned: usize,
    /// Places at which nobody has been given anything, if they may be moved over what is no longer kept.
    unpromised: Option<Places>,
    /// Retention has removed what comes next. The place stays, so that the next request is told.
    overtaken: bool,
}

impl Merge<'_> {
    async fn take(&mut self, request: &ReadRequest, records: &mut Vec<ReadRecord>) -> Result<(), LocateError> {
        let slots: Vec<Slot> = self.places.slots().collect();
        let mut bytes = 0;
        while records.len() < request.records_max && bytes < request.bytes_max && !self.scanned_enough() {
            let mut first: Option<(Timestamp, Slot)> = None;
            for slot in &slots {
                if let Some(timestamp) = self.head(*slot).await? {
                    first = first.filter(|(earliest, _)| *earliest <= timestamp).or(Some((timestamp, *slot)));
                }
            }
            let Some((_, slot)) = first else { return Ok(()) };
            let Some(record) = self.heads.get_mut(&slot).and_then(VecDeque::pop_front) else { return Ok(()) };
            self.places.set(slot, Offset(record.offset.0 + 1));
            self.scanned += record.bytes() + RECORD_COST;
            if request.key.as_ref().is_some_and(|key| record.key.as_ref() != Some(key)) {
                continue;
            }
            bytes += record.bytes();
            records.push(record);
        }
        Ok(())
    }

    /// The timestamp of the next record of a slot, fetching where nothing is left.
    async fn head(&mut self, slot: Slot) -> Result<Option<Timestamp>, LocateError> {
        if let Some(record) = self.heads.get(&slot).and_then(VecDeque::front) {
            return Ok(Some(record.timestamp));
        }
        let at = self.places.address(slot);
        let (next, end, fetched) = loop {
            let next = self.places.place(slot).next;
            let end = self.end_of(slot, self.engine.bounds(at)?.end);
            if next >= end {
                return Ok(None);
            }
            match self.engine.fetch(at, next, FETCH_BYTES).await {
                Err(FetchError::OutOfRange(bounds)) if next < bounds.start => {
                    if self.unpromised.as_ref().is_none_or(|places| places.place(slot).next != next) {
                        self.overtaken = true;
                        return Ok(None);
                    }
                    self.places.set(slot, bounds.start);
                    if let Some(places) = &mut self.unpromised {
                        places.set(slot, bounds.start);
                    }
                }
                fetched => break (next, end, fetched?),
            }
        };
        let place = self.places.place(slot);
        let topic = &self.places.topics[slot.topic].topic;
        let heads = self.heads.entry(slot).or_default();
        for batch in &fetched.batches {
            let kind = batch.value_kind();
            let wanted = batch.records().filter(|record| record.offset >= next && record.offset < end);
            heads.extend(wanted.map(|record| ReadRecord::copied(topic, place.partition, kind, &record)));
        }
        if heads.is_empty()
            && let Some(last) = fetched.batches.last()
        {
            // Compaction has left nothing before the end that was asked for.
            self.places.set(slot, last.next_offset().min(end));
            return Ok(None);
        }
        Ok(heads.front().map(|record| record.timestamp))
    }

    fn end_of(&self, slot: Slot, end: Offset) -> Offset {
        self.until.as_ref().map_or(end, |until| until.place(slot).next.min(end))
    }

    fn scanned_enough(&self) -> bool {
        self.scanned >= SCAN_BYTES_MAX
    }

    /// Whether nothing more can come before `to`.
    fn finished(&self) -> bool {
        let reached = |until: &Places| until.slots().all(|slot| self.places.place(slot).next >= until.place(slot).next);
        self.until.as_ref().is_some_and(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::broker::engine::{TopicSettings, TopicSpec};
    use crate::clock::SystemClock;

    async fn page(request: ReadRequest) -> Page {
        let topic = testing::topic("orders", 2);
        let engine = testing::engine(&[&topic]).await;
        testing::append(&*engine, &topic, 0, &[10, 30, 50]).await;
        testing::append(&*engine, &topic, 1, &[20, 40]).await;
        read_with(&*engine, &Semaphore::new(READING_MAX), topic, request).await
    }

    async fn read_with(engine: &dyn Engine, reading: &Semaphore, topic: Arc<Topic>, request: ReadRequest) -> Page {
        read_page(&Locator { engine, clock: &SystemClock }, reading, &[topic], request).await.unwrap()
    }

    fn times(page: &Page) -> Vec<i64> {
        page.records.iter().map(|record| record.timestamp.0).collect()
    }

    #[tokio::test]
    async fn a_page_is_in_the_order_of_time_over_partitions() {
        let page = page(ReadRequest::new(Position::Earliest, 100)).await;
        assert_eq!(times(&page), [10, 20, 30, 40, 50]);
        assert_eq!(page.behind(), 0);
        assert_eq!(page.next, page.end);
    }

    #[tokio::test]
    async fn a_page_that_is_full_says_where_to_go_on_and_how_much_is_left() {
        let page = page(ReadRequest::new(Position::Earliest, 3)).await;
        assert_eq!(times(&page), [10, 20, 30]);
        assert_eq!(page.behind(), 2);
        let next: Vec<i64> = page.next.slots().map(|slot| page.next.place(slot).next.0).collect();
        assert_eq!(next, [2, 1]);
    }

    #[tokio::test]
    async fn only_the_key_asked_for_is_on_the_page_but_the_place_moves_past_the_others() {
        let request = ReadRequest { key: Some(Bytes::from_static(b"k40")), ..ReadRequest::new(Position::Earliest, 10) };
        let page = page(request).await;
        assert_eq!(times(&page), [40]);
        assert_eq!(page.behind(), 0);
    }

    #[tokio::test]
    async fn a_search_for_a_key_answers_with_how_far_it_came_instead_of_reading_everything() {
        let topic = testing::topic("orders", 1);
        let engine = testing::engine(&[&topic]).await;
        let records_max = SCAN_BYTES_MAX / RECORD_COST;
        for _ in 0..records_max / 1000 + 1 {
            testing::append(&*engine, &topic, 0, &[1; 1000]).await;
        }
        let request = ReadRequest {
            key: Some(Bytes::from_static(b"none")),
            wait: Duration::from_secs(600),
            ..ReadRequest::new(Position::Earliest, 10)
        };
        let reading = Semaphore::new(READING_MAX);
        let page = read_with(&*engine, &reading, topic, request);
        let page = tokio::time::timeout(Duration::from_secs(60), page).await.expect("waits though it has seen enough");
        let next = page.next.place(Slot { topic: 0, partition: 0 }).next.0;
        assert!(page.records.is_empty() && next > 0 && page.behind() > 0, "{next}");
    }

    #[tokio::test]
    async fn a_page_that_ends_where_compaction_left_nothing_comes_to_its_end() {
        let topic = testing::topic("carriers", 1);
        let engine = testing::engine(&[&topic]).await;
        let settings = TopicSettings { compact: true, ..TopicSettings::default() };
        engine.ensure_topic(&TopicSpec { settings, ..TopicSpec::new(topic.id, 1) }).await.unwrap();
        for key in [1, 1, 2, 1, 3] {
            testing::append(&*engine, &topic, 0, &[key]).await;
        }
        engine.maintain().await.unwrap();
        let reading = Semaphore::new(READING_MAX);
        for (to, times_there, next) in [("0:1", vec![], 1), ("0:3", vec![2], 3), ("0:4", vec![2, 1], 4)] {
            let to = Some(Position::Cursor(to.parse().unwrap()));
            let request = ReadRequest { to, ..ReadRequest::new(Position::Earliest, 10) };
            let page = read_with(&*engine, &reading, Arc::clone(&topic), request).await;
            assert_eq!(times(&page), times_there);
            assert_eq!(page.next.place(Slot { topic: 0, partition: 0 }).next, Offset(next));
        }
    }

    #[tokio::test]
    async fn a_page_stops_at_its_end() {
        let to = Position::At(Timestamp(30));
        let page = page(ReadRequest { to: Some(to), ..ReadRequest::new(Position::Earliest, 10) }).await;
        assert_eq!(times(&page), [10, 20]);
    }

    #[tokio::test]
    async fn a_long_poll_answers_when_the_first_record_is_written() {
        let topic = testing::topic("orders", 1);
        let engine = testing::engine(&[&topic]).await;
        let reading = Arc::new(Semaphore::new(READING_MAX));
        let request = ReadRequest { wait: Duration::from_secs(30), ..ReadRequest::new(Position::Latest, 10) };
        let reader = tokio::spawn({
            let (engine, topic, reading) = (Arc::clone(&engine), Arc::clone(&topic), Arc::clone(&reading));
            async move { read_with(&*engine, &reading, topic, request).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(reading.available_permits(), READING_MAX, "one that waits keeps nobody from reading");
        testing::append(&*engine, &topic, 0, &[7]).await;
        assert_eq!(times(&reader.await.unwrap()), [7]);
        assert_eq!(reading.available_permits(), READING_MAX);
    }

    #[tokio::test]
    async fn a_page_waits_until_there_is_room_for_each_of_its_partitions() {
        let topic = testing::topic("orders", 2);
        let engine = testing::engine(&[&topic]).await;
        testing::append(&*engine, &topic, 0, &[7]).await;
        let reading = Semaphore::new(2);
        let another = reading.acquire().await.unwrap();
        let mut page =
            Box::pin(read_with(&*engine, &reading, Arc::clone(&topic), ReadRequest::new(Position::Earliest, 1)));
        let early = tokio::time::timeout(Duration::from_millis(20), page.as_mut()).await;
        assert!(early.is_err(), "read without room");
        drop(another);
        assert_eq!(times(&page.await), [7]);
    }

    #[tokio::test]
    async fn a_long_poll_without_records_ends_with_the_same_place() {
        let request = ReadRequest { wait: Duration::from_millis(20), ..ReadRequest::new(Position::Latest, 10) };
        let page = page(request).await;
        assert!(page.records.is_empty());
        assert_eq!(page.next, page.end);
    }
}
