//! From what a client says (`-15m`, a cursor, `latest`) to an offset in every partition.

use std::sync::Arc;

use super::cursor::{CURSOR_GIVEN_BYTES_MAX, Cursor, TopicCursor, cursor_bytes};
use super::places::{Place, Places, Slot, TopicPlaces};
use super::position::Position;
use crate::broker::engine::{Bounds, Engine, FetchError};
use crate::catalog::model::Topic;
use crate::clock::{Clock, Timestamp};
use crate::names::{Offset, TopicName, TopicPartition};

/// Most partitions that one reader covers.
pub const PARTITIONS_MAX: usize = 256;

/// Most bytes read to find the newest records over several partitions.
const NEWEST_SCAN_BYTES_MAX: usize = 16 << 20;

/// Bytes asked for at a time while looking for them.
const NEWEST_FETCH_BYTES: usize = 256 << 10;

/// What to do when a position lies before the first kept record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnGap {
    /// Refuse, or end the stream.
    Fail,
    /// Go on at the first kept record and say so.
    Skip,
}

/// Records that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Of this topic.
    pub topic: TopicName,
    /// In this partition.
    pub partition: u32,
    /// First offset that was wanted.
    pub missing_from: Offset,
    /// First offset that can be had.
    pub resumed_at: Offset,
}

/// Why a position cannot be read from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// The position does not fit the topics.
    #[error("{0}")]
    Invalid(String),
    /// The cursor belongs to an earlier topic of this name.
    #[error("the cursor belongs to an earlier topic named {0}")]
    Recreated(TopicName),
    /// Retention was faster. The cursor is where to go on.
    #[error("partition {} of {} begins at {}", .gap.partition, .gap.topic, .gap.resumed_at)]
    Expired {
        /// The first gap found.
        gap: Gap,
        /// Every place that was asked for, moved to what is kept.
        earliest: String,
    },
    /// Nobody wrote that far. The cursor is the end.
    #[error("partition {partition} of {topic} ends at {end}")]
    Ahead {
        /// Of this topic.
        topic: TopicName,
        /// In this partition.
        partition: u32,
        /// The offset that was asked for.
        asked: Offset,
        /// Its end.
        end: Offset,
        /// The end of every partition.
        latest: String,
    },
    /// The topic has fewer partitions.
    #[error("topic {topic} has {partitions} partitions, so there is no partition {partition}")]
    NoSuchPartition {
        /// Of this topic.
        topic: TopicName,
        /// The partition that was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// More than [`PARTITIONS_MAX`].
    #[error("{0} partitions are more than {PARTITIONS_MAX}")]
    TooManyPartitions(usize),
    /// The position in so many topics with such long names is too long for a client to send back.
    #[error("{topics} topics with {partitions} partitions make a cursor of more than {CURSOR_GIVEN_BYTES_MAX} bytes")]
    CursorTooLong {
        /// How many topics.
        topics: usize,
        /// With how many partitions together.
        partitions: usize,
    },
    /// The engine could not answer.
    #[error(transparent)]
    Engine(#[from] FetchError),
}

/// How much one reader covers, and whether it may.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reach {
    topics: usize,
    partitions: usize,
    cursor_bytes: usize,
}

impl Reach {
    /// With one topic more.
    #[must_use]
    pub fn and(self, topic: &TopicName, partitions: usize) -> Self {
        Self {
            topics: self.topics + 1,
            partitions: self.partitions.saturating_add(partitions),
            cursor_bytes: self.cursor_bytes.saturating_add(cursor_bytes(topic, partitions)),
        }
    }

    /// Refuses more than one reader may cover.
    pub fn check(self) -> Result<(), LocateError> {
        if self.partitions > PARTITIONS_MAX {
            return Err(LocateError::TooManyPartitions(self.partitions));
        }
        if self.cursor_bytes > CURSOR_GIVEN_BYTES_MAX {
            return Err(LocateError::CursorTooLong { topics: self.topics, partitions: self.partitions });
        }
        Ok(())
    }
}

/// Everything needed to turn positions into offsets.
#[derive(Clone, Copy)]
pub struct Locator<'a> {
    pub engine: &'a dyn Engine,
    pub clock: &'a dyn Clock,
}

impl Locator<'_> {
    /// The places of all (or the chosen) partitions of the topics, all at their first kept record.
    pub fn earliest(&self, topics: &[Arc<Topic>], chosen: Option<&[u32]>) -> Result<Places, LocateError> {
        let mut places = Places::default();
        for topic in topics {
            let partitions = match chosen {
                None => (0..topic.partitions).collect(),
                Some(chosen) => chosen_partitions(topic, chosen)?,
            };
            let at_start = |partition| Ok(Place { partition, next: self.bounds(topic, partition)?.start });
            let partitions = partitions.into_iter().map(at_start).collect::<Result<_, LocateError>>()?;
            places.topics.push(TopicPlaces::new(Arc::clone(topic), partitions));
        }
        let reach = |reach: Reach, topic: &TopicPlaces| reach.and(&topic.topic.name, topic.partitions.len());
        places.topics.iter().fold(Reach::default(), reach).check()?;
        Ok(places)
    }

    /// The places a position means, and what is missing there.
    pub async fn locate(
        &self,
        topics: &[Arc<Topic>],
        chosen: Option<&[u32]>,
        position: &Position,
        on_gap: OnGap,
    ) -> Result<(Places, Vec<Gap>), LocateError> {
        let mut places = self.earliest(topics, chosen)?;
        match position {
            Position::Earliest => {}
            Position::Latest => self.move_to_end(&mut places)?,
            Position::Ago(back) => {
                let back = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
                let moment = Timestamp(self.clock.now().0.saturating_sub(back).max(0));
                self.move_to_time(&mut places, moment).await?;
            }
            Position::At(moment) => self.move_to_time(&mut places, *moment).await?,
            Position::Last(count) => self.move_to_newest(&mut places, *count).await?,
            Position::Cursor(cursor) => {
                let gaps = self.move_to_cursor(&mut places, cursor, on_gap)?;
                return Ok((places, gaps));
            }
        }
        Ok((places, Vec::new()))
    }

    /// The places at which a reader is to stop.
    pub async fn locate_end(
        &self,
        topics: &[Arc<Topic>],
        chosen: Option<&[u32]>,
        to: &Position,
    ) -> Result<Places, LocateError> {
        if matches!(to, Position::Earliest | Position::Last(_)) {
            return Err(LocateError::Invalid("`to` is latest, -DURATION, a date or a cursor".to_owned()));
        }
        Ok(self.locate(topics, chosen, to, OnGap::Skip).await?.0)
    }

    /// The end of every place.
    pub fn ends(&self, places: &Places) -> Result<Places, LocateError> {
        let mut ends = places.clone();
        self.move_to_end(&mut ends)?;
        Ok(ends)
    }

    fn bounds(&self, topic: &Topic, partition: u32) -> Result<Bounds, LocateError> {
        Ok(self.engine.bounds(TopicPartition { topic: topic.id, partition })?)
    }

    fn move_to_end(&self, places: &mut Places) -> Result<(), LocateError> {
        for slot in slots(places) {
            let end = self.engine.bounds(places.address(slot))?.end;
            places.set(slot, end);
        }
        Ok(())
    }

    async fn move_to_time(&self, places: &mut Places, moment: Timestamp) -> Result<(), LocateError> {
        for slot in slots(places) {
            let next = self.engine.offset_for_timestamp(places.address(slot), moment).await?;
            places.set(slot, next);
        }
        Ok(())
    }

    /// The newest `count` records. With one partition that is arithmetic; with several, timestamps decide, as far as
    /// they can be read within [`NEWEST_SCAN_BYTES_MAX`]; beyond, each partition gives its share.
    async fn move_to_newest(&self, places: &mut Places, count: u32) -> Result<(), LocateError> {
        let slots = slots(places);
        let share = match slots.len() {
            0 | 1 => Some(i64::from(count)),
            _ => None,
        };
        if share.is_none()
            && let Some(firsts) = self.newest(places, &slots, count).await?
        {
            for (slot, next) in slots.iter().zip(firsts) {
                places.set(*slot, next);
            }
            return Ok(());
        }
        let partitions = i64::try_from(slots.len().max(1)).unwrap_or(i64::MAX);
        let share = share.unwrap_or_else(|| i64::from(count) / partitions + 1);
        for slot in slots {
            let bounds = self.engine.bounds(places.address(slot))?;
            places.set(slot, Offset(bounds.end.0.saturating_sub(share).max(bounds.start.0)));
        }
        Ok(())
    }

    /// Where each partition begins so that together they hold the newest `count` records; `None` if finding out would
    /// read too much.
    async fn newest(&self, places: &Places, slots: &[Slot], count: u32) -> Result<Option<Vec<Offset>>, LocateError> {
        let mut newest: Vec<(Timestamp, usize, Offset)> = Vec::new();
        let mut firsts = Vec::with_capacity(slots.len());
        let mut bytes = 0;
        for (index, slot) in slots.iter().enumerate() {
            let at = places.address(*slot);
            let bounds = self.engine.bounds(at)?;
            firsts.push(bounds.end);
            let from = bounds.end.0.saturating_sub(i64::from(count)).max(bounds.start.0);
            let mut next = Offset(from);
            while next < bounds.end {
                let fetched = match self.engine.fetch(at, next, NEWEST_FETCH_BYTES).await {
                    // Retention came in between.
                    Err(FetchError::OutOfRange(bounds)) if next < bounds.start => {
                        next = bounds.start;
                        continue;
                    }
                    fetched => fetched?,
                };
                let Some(last) = fetched.batches.last() else { break };
                let start = next;
                next = last.next_offset();
                bytes += fetched.batches.iter().map(crate::broker::record::RecordBatch::len).sum::<usize>();
                if bytes > NEWEST_SCAN_BYTES_MAX {
                    return Ok(None);
                }
                let wanted = |offset: Offset| offset >= start && offset < bounds.end;
                let records = fetched.batches.iter().flat_map(|batch| batch.records());
                newest.extend(records.filter(|r| wanted(r.offset)).map(|r| (r.timestamp, index, r.offset)));
            }
        }
        newest.sort_unstable_by(|a, b| b.cmp(a));
        for (_, index, offset) in newest.into_iter().take(usize::try_from(count).unwrap_or(usize::MAX)) {
            firsts[index] = firsts[index].min(offset);
        }
        Ok(Some(firsts))
    }

    fn move_to_cursor(&self, places: &mut Places, cursor: &Cursor, on_gap: OnGap) -> Result<Vec<Gap>, LocateError> {
        check_topics_of_cursor(places, cursor)?;
        let mut gaps = Vec::new();
        for slot in slots(places) {
            let topic = &places.topics[slot.topic];
            let Some(part) = cursor.of(&topic.topic.name) else { continue };
            let Some(next) = next_in_cursor(topic, part, places.place(slot).partition)? else { continue };
            let bounds = self.engine.bounds(places.address(slot))?;
            if next > bounds.end {
                let (topic, partition) = (topic.topic.name.clone(), places.place(slot).partition);
                let latest = self.ends(places)?.cursor().to_string();
                return Err(LocateError::Ahead { topic, partition, asked: next, end: bounds.end, latest });
            }
            if next < bounds.start {
                let (topic, partition) = (topic.topic.name.clone(), places.place(slot).partition);
                gaps.push(Gap { topic, partition, missing_from: next, resumed_at: bounds.start });
            }
            places.set(slot, next.max(bounds.start));
        }
        match gaps.first() {
            Some(gap) if on_gap == OnGap::Fail => {
                Err(LocateError::Expired { gap: gap.clone(), earliest: places.cursor().to_string() })
            }
            _ => Ok(gaps),
        }
    }
}

fn slots(places: &Places) -> Vec<Slot> {
    places.slots().collect()
}

fn chosen_partitions(topic: &Topic, chosen: &[u32]) -> Result<Vec<u32>, LocateError> {
    let mut chosen = chosen.to_vec();
    chosen.sort_unstable();
    chosen.dedup();
    match chosen.iter().find(|partition| **partition >= topic.partitions) {
        None => Ok(chosen),
        Some(partition) => Err(LocateError::NoSuchPartition {
            topic: topic.name.clone(),
            partition: *partition,
            partitions: topic.partitions,
        }),
    }
}

/// A cursor must be about something that is read; one for several topics may also name topics that are no longer read,
/// even if a single one is left. A part without a topic belongs to the only topic.
fn check_topics_of_cursor(places: &Places, cursor: &Cursor) -> Result<(), LocateError> {
    let mut matched = false;
    for part in &cursor.topics {
        let Some(incarnation) = &part.topic else {
            if places.topics.len() == 1 && cursor.topics.len() == 1 {
                matched = true;
                continue;
            }
            return Err(LocateError::Invalid(
                "a cursor for several topics names each topic: orders@7f3a1b2c/0:543".to_owned(),
            ));
        };
        match places.topics.iter().find(|topic| topic.topic.name == incarnation.name) {
            Some(topic) if incarnation.is(&topic.generation) => matched = true,
            Some(topic) => return Err(LocateError::Recreated(topic.topic.name.clone())),
            None => {}
        }
    }
    if matched {
        return Ok(());
    }
    let named = cursor.topics.iter().find_map(|part| part.topic.as_ref());
    let named = named.map_or_else(|| "no topic".to_owned(), |incarnation| format!("topic {}", incarnation.name));
    Err(LocateError::Invalid(format!("the cursor is about {named}, which is not read here")))
}

/// The cursor's offset for a partition. A partition above the highest listed is new since the cursor was made and
/// begins at its start (`None`); a lower one that is missing was lost from the cursor.
fn next_in_cursor(topic: &TopicPlaces, part: &TopicCursor, partition: u32) -> Result<Option<Offset>, LocateError> {
    let name = &topic.topic.name;
    let highest = part.next.keys().next_back().copied().unwrap_or_default();
    if highest >= topic.topic.partitions {
        return Err(LocateError::NoSuchPartition {
            topic: name.clone(),
            partition: highest,
            partitions: topic.topic.partitions,
        });
    }
    match part.next.get(&partition) {
        Some(next) => Ok(Some(*next)),
        None if partition > highest => Ok(None),
        None => Err(LocateError::Invalid(format!(
            "the cursor says nothing about partition {partition} of {name}; choose with partition= what to read"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::clock::SystemClock;

    async fn two_partitions() -> (Arc<dyn Engine>, Arc<Topic>) {
        let topic = testing::topic("orders", 2);
        let engine = testing::engine(&[&topic]).await;
        testing::append(&*engine, &topic, 0, &[1000, 3000, 5000]).await;
        testing::append(&*engine, &topic, 1, &[2000, 4000]).await;
        (engine, topic)
    }

    async fn locate(position: &str) -> Result<(Vec<i64>, Vec<Gap>), LocateError> {
        let (engine, topic) = two_partitions().await;
        let position = position.replace("GEN", &topic.id.generation()).parse().unwrap();
        let locator = Locator { engine: &*engine, clock: &SystemClock };
        let (places, gaps) = locator.locate(&[topic], None, &position, OnGap::Fail).await?;
        Ok((places.slots().map(|slot| places.place(slot).next.0).collect(), gaps))
    }

    #[tokio::test]
    async fn each_form_of_a_position_means_an_offset_per_partition() {
        for (text, expected) in [
            ("earliest", [0, 0]),
            ("latest", [3, 2]),
            ("-1", [2, 2]),
            ("-2", [2, 1]),
            ("-3", [1, 1]),
            ("-100", [0, 0]),
            ("-0", [3, 2]),
            ("1970-01-01T00:00:03Z", [1, 1]),
            ("-1s", [3, 2]),
            ("0:1,1:2", [1, 2]),
            ("orders@GEN/0:1,1:2", [1, 2]),
        ] {
            assert_eq!(locate(text).await.unwrap().0, expected, "{text}");
        }
    }

    #[tokio::test]
    async fn partitions_above_the_highest_of_a_cursor_are_new_and_begin_at_their_start() {
        assert_eq!(locate("0:2").await.unwrap().0, [2, 0]);
    }

    #[tokio::test]
    async fn a_lower_partition_missing_from_a_cursor_is_an_error() {
        assert!(matches!(locate("1:2").await, Err(LocateError::Invalid(_))));
    }

    #[tokio::test]
    async fn a_cursor_that_does_not_fit_the_topic_is_refused() {
        assert!(matches!(locate("orders@00000000/0:1,1:1").await, Err(LocateError::Recreated(_))));
        assert!(matches!(locate("payments@GEN/0:1,1:1").await, Err(LocateError::Invalid(_))));
        assert!(matches!(locate("0:1,1:1,2:0").await, Err(LocateError::NoSuchPartition { partition: 2, .. })));
        let Err(LocateError::Ahead { end, latest, .. }) = locate("0:4,1:0").await else { panic!("not refused") };
        assert_eq!(end, Offset(3));
        assert!(latest.ends_with("/0:3,1:2"), "{latest}");
    }

    #[tokio::test]
    async fn a_cursor_of_several_topics_goes_on_when_one_of_them_is_left() {
        assert_eq!(locate("orders@GEN/0:1,1:2,payments@00000000/0:7").await.unwrap().0, [1, 2]);
        assert_eq!(locate("payments@00000000/0:7,orders@GEN/0:1,1:2").await.unwrap().0, [1, 2]);
        let none_left = locate("payments@00000000/0:7,refunds@00000000/0:1").await;
        assert!(matches!(none_left, Err(LocateError::Invalid(_))), "{none_left:?}");
    }

    #[tokio::test]
    async fn a_cursor_about_none_of_several_topics_is_refused() {
        let (a, b) = (testing::topic("a", 1), testing::topic("b", 1));
        let engine = testing::engine(&[&a, &b]).await;
        let locator = Locator { engine: &*engine, clock: &SystemClock };
        for cursor in ["c@00000000/0:0", "0:0"] {
            let topics = [Arc::clone(&a), Arc::clone(&b)];
            let located = locator.locate(&topics, None, &cursor.parse().unwrap(), OnGap::Fail).await;
            assert!(matches!(located, Err(LocateError::Invalid(_))), "{cursor}");
        }
    }

    #[tokio::test]
    async fn chosen_partitions_need_only_themselves_in_the_cursor() {
        let (engine, topic) = two_partitions().await;
        let locator = Locator { engine: &*engine, clock: &SystemClock };
        let position = "1:2".parse().unwrap();
        let (places, _) = locator.locate(&[topic], Some(&[1]), &position, OnGap::Fail).await.unwrap();
        assert_eq!(places.len(), 1);
        assert_eq!(places.place(Slot { topic: 0, partition: 0 }), Place { partition: 1, next: Offset(2) });
    }

    #[tokio::test]
    async fn a_reader_covers_a_bounded_number_of_partitions() {
        let topic = testing::topic("wide", 257);
        let engine = testing::engine(&[&topic]).await;
        let locator = Locator { engine: &*engine, clock: &SystemClock };
        assert_eq!(locator.earliest(&[topic], None), Err(LocateError::TooManyPartitions(257)));
    }

    #[tokio::test]
    async fn a_reader_of_topics_with_long_names_gets_no_cursor_that_it_could_not_send_back() {
        let topics: Vec<Arc<Topic>> =
            (100..200).map(|number| testing::topic(&format!("{}{number}", "x".repeat(200)), 1)).collect();
        let engine = testing::engine(&topics.iter().collect::<Vec<_>>()).await;
        let locator = Locator { engine: &*engine, clock: &SystemClock };
        assert_eq!(locator.earliest(&topics, None), Err(LocateError::CursorTooLong { topics: 100, partitions: 100 }));
        let mut places = locator.earliest(&topics[..34], None).unwrap();
        for slot in slots(&places) {
            places.set(slot, Offset(i64::MAX));
        }
        assert!(places.cursor().to_string().len() <= CURSOR_GIVEN_BYTES_MAX);
    }

    #[test]
    fn every_topic_can_be_read_alone() {
        let longest = "x".repeat(249).parse().unwrap();
        assert_eq!(Reach::default().and(&longest, PARTITIONS_MAX).check(), Ok(()));
    }
}
