//! Records of many partitions, one chunk at a time, pulled by whoever can send them on. Knows nothing of rights.
//!
//! Nothing is buffered here: a chunk is fetched when it is asked for, so a reader that does not ask costs no memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::locate::{Gap, OnGap};
use super::places::{Place, Places, Slot, TopicPlaces};
use crate::broker::engine::{Engine, FetchError, Watch};
use crate::broker::record::{RecordBatch, RecordView, ValueKind};
use crate::catalog::model::Topic;
use crate::names::{Offset, TopicPartition};

/// Bytes of record batches asked for at a time: the most that one reader holds, but for a larger single record.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Bounds and filters of a feed.
#[derive(Debug, Clone, Default)]
pub struct FeedOptions {
    /// Where to stop, by partition. `None`: never. A partition that is not listed is not read.
    pub until: Option<HashMap<TopicPartition, Offset>>,
    /// Stop after so many records.
    pub limit: Option<u64>,
    /// Only records with exactly this key.
    pub key: Option<Bytes>,
    /// At most so many records in a second, for people; the surplus is skipped and counted.
    pub rate_max: Option<u32>,
}

/// What a feed has.
#[derive(Debug)]
pub enum Fed {
    /// Records, at least one.
    Records(Records),
    /// Records that retention removed before they were read; the place has moved beyond them.
    Gap(Gap),
    /// The rate was exceeded: of `shown + skipped` records in about a second, `shown` were given.
    Sampled {
        /// Given.
        shown: u32,
        /// Skipped.
        skipped: u64,
    },
    /// Records were looked at, none is to be given, and there may be more: ask again, without waiting.
    Scanned,
    /// The end of every partition is reached; wait for [`Feed::changed`].
    Nothing,
    /// Every partition has reached its `until`.
    ReachedUntil,
    /// The limit is reached.
    ReachedLimit,
}

/// Consecutive records of one partition.
#[derive(Debug, Clone)]
pub struct Records {
    /// Their topic.
    pub topic: Arc<Topic>,
    /// Their place in [`Feed::places`].
    pub slot: Slot,
    /// Their partition.
    pub partition: u32,
    batches: Vec<RecordBatch>,
    from: Offset,
    until: Offset,
    key: Option<Bytes>,
}

impl Records {
    /// The records, with what is known of their values.
    pub fn iter(&self) -> impl Iterator<Item = (ValueKind, RecordView<'_>)> + '_ {
        let (from, until, key) = (self.from, self.until, self.key.as_deref());
        let batches = self.batches.iter().filter(move |batch| batch.next_offset() > from);
        batches.flat_map(with_kind).filter(move |(_, record)| {
            record.offset >= from && record.offset < until && key.is_none_or(|key| record.key == Some(key))
        })
    }

    /// The same without the records below an offset: to go on in the middle.
    #[must_use]
    pub fn beginning_at(mut self, from: Offset) -> Self {
        self.from = self.from.max(from);
        self.batches.retain(|batch| batch.next_offset() > from);
        self
    }
}

fn with_kind(batch: &RecordBatch) -> impl Iterator<Item = (ValueKind, RecordView<'_>)> {
    let kind = batch.value_kind();
    batch.records().map(move |record| (kind, record))
}

/// See the module's text.
pub struct Feed {
    engine: Arc<dyn Engine>,
    places: Places,
    slots: Vec<Slot>,
    turn: usize,
    watch: Box<dyn Watch>,
    options: FeedOptions,
    on_gap: OnGap,
    sampler: Option<Sampler>,
    /// The places have moved past records that were not given.
    moved_unseen: bool,
    /// The engine did not hold every partition yet when the topics were set.
    incomplete: bool,
}

impl Feed {
    /// Reads from these places on.
    pub fn new(engine: Arc<dyn Engine>, places: Places, options: FeedOptions, on_gap: OnGap) -> Self {
        let watch = engine.watch(&places.addresses());
        let sampler = options.rate_max.map(Sampler::new);
        let slots = places.slots().collect();
        Self { engine, places, slots, turn: 0, watch, options, on_gap, sampler, moved_unseen: false, incomplete: false }
    }

    /// Next offset to read, everywhere.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Records that exist and were not read yet.
    pub fn behind(&self) -> u64 {
        let left = |slot: &Slot| {
            let end = self.engine.bounds(self.places.address(*slot)).map_or(0, |bounds| bounds.end.0);
            end.saturating_sub(self.places.place(*slot).next.0).max(0).unsigned_abs()
        };
        self.slots.iter().map(left).sum()
    }

    /// Whether the places have moved without a record to show for it, since this was asked last.
    pub fn take_moved_unseen(&mut self) -> bool {
        std::mem::take(&mut self.moved_unseen)
    }

    /// Whether partitions are missing that the engine did not hold yet; set the topics again soon.
    pub fn incomplete(&self) -> bool {
        self.incomplete
    }

    /// When [`Self::poll`] has something to say although nothing was written.
    pub fn due(&self) -> Option<Instant> {
        self.sampler.as_ref().filter(|sampler| sampler.skipped > 0).map(|sampler| sampler.started + SAMPLE_WINDOW)
    }

    /// Returns when something may have been written. Cancel-safe.
    pub async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// Goes on with the topics as they are now: new partitions and new topics begin at their first record; topics that
    /// are not listed are no longer read. Returns whether anything was different.
    pub fn set_topics(&mut self, topics: &[Arc<Topic>], chosen: Option<&[u32]>) -> bool {
        let mut places = Places::default();
        for topic in topics {
            let known = self.places.topics.iter().find(|known| known.topic.id == topic.id);
            let next_of = |partition| known?.partitions.iter().find(|p| p.partition == partition).map(|p| p.next);
            let wanted = (0..topic.partitions).filter(|p| chosen.is_none_or(|chosen| chosen.contains(p)));
            let start = |partition| {
                let at = TopicPartition { topic: topic.id, partition };
                self.engine.bounds(at).map(|bounds| bounds.start)
            };
            let place = |partition| {
                let next = next_of(partition).or_else(|| start(partition).ok())?;
                Some(Place { partition, next })
            };
            places.topics.push(TopicPlaces::new(Arc::clone(topic), wanted.filter_map(place).collect()));
        }
        let wanted = |topic: &Arc<Topic>| {
            (0..topic.partitions).filter(|p| chosen.is_none_or(|chosen| chosen.contains(p))).count()
        };
        self.incomplete = places.len() < topics.iter().map(wanted).sum();
        let different = places.addresses() != self.places.addresses();
        self.places = places;
        if different {
            self.slots = self.places.slots().collect();
            self.turn = 0;
            self.watch = self.engine.watch(&self.places.addresses());
        }
        different
    }

    /// Puts records back that were given and not used: the next ones begin with them. For a reader that ends there.
    pub fn unread(&mut self, records: &Records) {
        let at = TopicPartition { topic: records.topic.id, partition: records.partition };
        if let Some(slot) = self.slots.iter().copied().find(|slot| self.places.address(*slot) == at) {
            self.places.set(slot, records.from);
        }
    }

    /// What there is now; never waits for new records. Cancel-safe: places move only when it returns.
    pub async fn poll(&mut self) -> Result<Fed, FetchError> {
        if self.options.limit == Some(0) {
            return Ok(Fed::ReachedLimit);
        }
        if let Some(sampled) = self.sampler.as_mut().and_then(Sampler::roll) {
            return Ok(sampled);
        }
        for step in 0..self.slots.len() {
            let index = (self.turn + step) % self.slots.len();
            if let Some(fed) = self.poll_slot(self.slots[index]).await? {
                self.turn = (index + 1) % self.slots.len();
                return Ok(fed);
            }
        }
        Ok(if self.reached_until() { Fed::ReachedUntil } else { Fed::Nothing })
    }

    /// Fetches once at most, so that whoever asks can look around between two fetches.
    async fn poll_slot(&mut self, slot: Slot) -> Result<Option<Fed>, FetchError> {
        let at = self.places.address(slot);
        let next = self.places.place(slot).next;
        let bounds = self.engine.bounds(at)?;
        if next < bounds.start {
            return self.gap(slot, bounds.start).map(Some);
        }
        let end = self.until(at).map_or(bounds.end, |until| until.min(bounds.end));
        if next >= end {
            return Ok(None);
        }
        if let Some(sampler) = self.sampler.as_mut().filter(|sampler| sampler.allowed() == 0) {
            sampler.skipped += end.0.saturating_sub(next.0).max(0).unsigned_abs();
            self.places.set(slot, end);
            self.moved_unseen = true;
            return Ok(None);
        }
        let fetched = match self.engine.fetch(at, next, CHUNK_BYTES).await {
            Ok(fetched) => fetched,
            Err(FetchError::OutOfRange(bounds)) if next < bounds.start => {
                return self.gap(slot, bounds.start).map(Some);
            }
            Err(error) => return Err(error),
        };
        let Some(last) = fetched.batches.last() else { return Ok(None) };
        let reached = last.next_offset().min(end);
        let topic = Arc::clone(&self.places.topics[slot.topic].topic);
        let partition = self.places.place(slot).partition;
        let key = self.options.key.clone();
        let records = Records { topic, slot, partition, batches: fetched.batches, from: next, until: reached, key };
        Ok(Some(self.give(records).map_or(Fed::Scanned, Fed::Records)))
    }

    /// Moves the place and cuts the records to what may be given; `None` if that is nothing.
    fn give(&mut self, mut records: Records) -> Option<Records> {
        let slot = records.slot;
        self.places.set(slot, records.until);
        let counted = self.options.key.is_some() || self.options.limit.is_some() || self.sampler.is_some();
        if !counted {
            return Some(records);
        }
        let mut given = 0;
        let mut matching = 0;
        let allowed = self.sampler.as_ref().map_or(u64::MAX, |sampler| u64::from(sampler.allowed()));
        let limit = self.options.limit.unwrap_or(u64::MAX);
        let mut cut = None;
        for (_, record) in records.iter() {
            matching += 1;
            if matching <= allowed.min(limit) {
                given = matching;
                cut = Some(Offset(record.offset.0 + 1));
            }
        }
        if given < matching || self.options.key.is_some() {
            self.moved_unseen = true;
        }
        let cut = cut?;
        if let Some(left) = &mut self.options.limit {
            *left -= given;
            if *left == 0 {
                self.places.set(slot, cut);
            }
        }
        if let Some(sampler) = &mut self.sampler {
            sampler.shown += u32::try_from(given).unwrap_or(u32::MAX);
            sampler.skipped += matching - given;
        }
        records.until = cut;
        Some(records)
    }

    fn gap(&mut self, slot: Slot, start: Offset) -> Result<Fed, FetchError> {
        let topic = &self.places.topics[slot.topic].topic;
        let place = self.places.place(slot);
        let gap =
            Gap { topic: topic.name.clone(), partition: place.partition, missing_from: place.next, resumed_at: start };
        if self.on_gap == OnGap::Skip {
            self.places.set(slot, start);
        }
        Ok(Fed::Gap(gap))
    }

    fn until(&self, at: TopicPartition) -> Option<Offset> {
        // A partition that was not there when the end was set has nothing before that end.
        self.options.until.as_ref().map(|until| until.get(&at).copied().unwrap_or_default())
    }

    fn reached_until(&self) -> bool {
        self.options.until.is_some()
            && self.slots.iter().all(|slot| {
                self.until(self.places.address(*slot)).is_some_and(|until| self.places.place(*slot).next >= until)
            })
    }
}

/// Length of the window in which `rate_max` records may be given.
const SAMPLE_WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Sampler {
    rate_max: u32,
    started: Instant,
    shown: u32,
    skipped: u64,
}

impl Sampler {
    fn new(rate_max: u32) -> Self {
        Self { rate_max: rate_max.max(1), started: Instant::now(), shown: 0, skipped: 0 }
    }

    fn allowed(&self) -> u32 {
        self.rate_max.saturating_sub(self.shown)
    }

    /// Begins a new window if the present one is over; says what the old one left out.
    fn roll(&mut self) -> Option<Fed> {
        if self.started.elapsed() < SAMPLE_WINDOW {
            return None;
        }
        let sampled = (self.skipped > 0).then_some(Fed::Sampled { shown: self.shown, skipped: self.skipped });
        *self = Self::new(self.rate_max);
        sampled
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    async fn feed(options: FeedOptions, partitions: u32) -> (Arc<dyn Engine>, Arc<Topic>, Feed) {
        let topic = testing::topic("orders", partitions);
        let engine = testing::engine(&[&topic]).await;
        let place = |partition| Place { partition, next: Offset(0) };
        let places =
            Places { topics: vec![TopicPlaces::new(Arc::clone(&topic), (0..partitions).map(place).collect())] };
        let feed = Feed::new(Arc::clone(&engine), places, options, OnGap::Skip);
        (engine, topic, feed)
    }

    async fn offsets(feed: &mut Feed) -> Vec<(u32, i64)> {
        let mut seen = Vec::new();
        loop {
            match feed.poll().await.unwrap() {
                Fed::Records(records) => {
                    seen.extend(records.iter().map(|(_, record)| (records.partition, record.offset.0)));
                }
                Fed::Scanned => {}
                _ => return seen,
            }
        }
    }

    #[tokio::test]
    async fn every_record_of_every_partition_is_given_once_and_in_order() {
        let (engine, topic, mut feed) = feed(FeedOptions::default(), 3).await;
        for round in 0..5 {
            for partition in 0..3 {
                testing::append(&*engine, &topic, partition, &[round, round + 1]).await;
            }
        }
        let mut seen = offsets(&mut feed).await;
        let of = |p: u32| seen.iter().filter(|(partition, _)| *partition == p).map(|(_, o)| *o).collect::<Vec<_>>();
        for partition in 0..3 {
            assert_eq!(of(partition), (0..10).collect::<Vec<_>>());
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 30);
        assert_eq!(feed.behind(), 0);
        assert!(matches!(feed.poll().await.unwrap(), Fed::Nothing));
    }

    #[tokio::test]
    async fn records_that_are_put_back_are_given_again() {
        let (engine, topic, mut feed) = feed(FeedOptions::default(), 1).await;
        testing::append(&*engine, &topic, 0, &[1, 2, 3]).await;
        let Fed::Records(records) = feed.poll().await.unwrap() else { panic!("no records") };
        feed.unread(&records.beginning_at(Offset(1)));
        assert_eq!(feed.places().place(Slot { topic: 0, partition: 0 }).next, Offset(1));
        assert_eq!(offsets(&mut feed).await, [(0, 1), (0, 2)]);
    }

    #[tokio::test]
    async fn a_write_wakes_a_waiting_feed() {
        let (engine, topic, mut feed) = feed(FeedOptions::default(), 2).await;
        assert!(matches!(feed.poll().await.unwrap(), Fed::Nothing));
        testing::append(&*engine, &topic, 1, &[1]).await;
        tokio::time::timeout(Duration::from_secs(5), feed.changed()).await.unwrap();
        assert_eq!(offsets(&mut feed).await, [(1, 0)]);
    }

    #[tokio::test]
    async fn a_limit_stops_in_the_middle_of_a_batch_and_the_place_is_right_after_it() {
        let (engine, topic, mut feed) = feed(FeedOptions { limit: Some(3), ..FeedOptions::default() }, 1).await;
        testing::append(&*engine, &topic, 0, &[1, 2, 3, 4, 5]).await;
        assert_eq!(offsets(&mut feed).await, [(0, 0), (0, 1), (0, 2)]);
        assert!(matches!(feed.poll().await.unwrap(), Fed::ReachedLimit));
        assert_eq!(feed.places().place(Slot { topic: 0, partition: 0 }).next, Offset(3));
    }

    #[tokio::test]
    async fn a_feed_with_an_end_stops_there_even_if_more_is_written() {
        let topic = testing::topic("orders", 1);
        let engine = testing::engine(&[&topic]).await;
        testing::append(&*engine, &topic, 0, &[1, 2]).await;
        let at = TopicPartition { topic: topic.id, partition: 0 };
        let options = FeedOptions { until: Some(HashMap::from([(at, Offset(2))])), ..FeedOptions::default() };
        let place = Place { partition: 0, next: Offset(0) };
        let places = Places { topics: vec![TopicPlaces::new(Arc::clone(&topic), vec![place])] };
        let mut feed = Feed::new(Arc::clone(&engine), places, options, OnGap::Skip);
        testing::append(&*engine, &topic, 0, &[3]).await;
        assert_eq!(offsets(&mut feed).await, [(0, 0), (0, 1)]);
        assert!(matches!(feed.poll().await.unwrap(), Fed::ReachedUntil));
    }

    #[tokio::test]
    async fn only_records_with_the_key_are_given_and_the_progress_is_noticed() {
        let options = FeedOptions { key: Some(Bytes::from_static(b"k2")), ..FeedOptions::default() };
        let (engine, topic, mut feed) = feed(options, 1).await;
        testing::append(&*engine, &topic, 0, &[1, 2, 3]).await;
        testing::append(&*engine, &topic, 0, &[4, 5]).await;
        assert_eq!(offsets(&mut feed).await, [(0, 1)]);
        assert_eq!(feed.places().place(Slot { topic: 0, partition: 0 }).next, Offset(5));
        assert!(feed.take_moved_unseen());
        assert!(!feed.take_moved_unseen());
    }

    #[tokio::test]
    async fn a_search_for_a_key_looks_at_one_chunk_at_a_time() {
        let options = FeedOptions { key: Some(Bytes::from_static(b"none")), ..FeedOptions::default() };
        let (engine, topic, mut feed) = feed(options, 1).await;
        let large: Vec<i64> = (0..5000).collect();
        testing::append(&*engine, &topic, 0, &large).await;
        testing::append(&*engine, &topic, 0, &large).await;
        for reached in [5000, 10_000] {
            assert!(matches!(feed.poll().await.unwrap(), Fed::Scanned));
            assert_eq!(feed.places().place(Slot { topic: 0, partition: 0 }).next, Offset(reached));
        }
        assert!(matches!(feed.poll().await.unwrap(), Fed::Nothing));
    }

    #[tokio::test]
    async fn a_rate_for_people_skips_the_surplus_and_says_how_much() {
        let (engine, topic, mut feed) = feed(FeedOptions { rate_max: Some(2), ..FeedOptions::default() }, 1).await;
        testing::append(&*engine, &topic, 0, &[1, 2, 3]).await;
        testing::append(&*engine, &topic, 0, &[4, 5]).await;
        assert_eq!(offsets(&mut feed).await, [(0, 0), (0, 1)]);
        assert!(feed.due().is_some());
        feed.sampler.as_mut().unwrap().started -= SAMPLE_WINDOW;
        assert!(matches!(feed.poll().await.unwrap(), Fed::Sampled { shown: 2, skipped: 3 }));
        testing::append(&*engine, &topic, 0, &[6]).await;
        assert_eq!(offsets(&mut feed).await, [(0, 5)]);
    }

    #[tokio::test]
    async fn a_partition_that_was_added_is_read_from_its_start() {
        let (engine, topic, mut feed) = feed(FeedOptions::default(), 1).await;
        let mut wider = (*topic).clone();
        wider.partitions = 2;
        let spec = crate::broker::engine::TopicSpec::new(topic.id, 2);
        engine.ensure_topic(&spec).await.unwrap();
        testing::append(&*engine, &topic, 1, &[1]).await;
        assert!(feed.set_topics(&[Arc::new(wider)], None));
        assert_eq!(offsets(&mut feed).await, [(1, 0)]);
        assert!(!feed.incomplete());
    }

    #[tokio::test]
    async fn a_partition_that_the_engine_does_not_hold_yet_is_asked_for_again() {
        let (engine, topic, mut feed) = feed(FeedOptions::default(), 1).await;
        let mut wider = (*topic).clone();
        wider.partitions = 2;
        let wider = Arc::new(wider);
        feed.set_topics(&[Arc::clone(&wider)], None);
        assert!(feed.incomplete());
        let spec = crate::broker::engine::TopicSpec::new(topic.id, 2);
        engine.ensure_topic(&spec).await.unwrap();
        testing::append(&*engine, &topic, 1, &[1]).await;
        feed.set_topics(&[wider], None);
        assert!(!feed.incomplete());
        assert_eq!(offsets(&mut feed).await, [(1, 0)]);
    }
}
