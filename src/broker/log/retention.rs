//! What a topic's settings no longer want kept, segment by segment.
//!
//! Age goes by the engine's time of acceptance: producers' clocks lie. Only whole segments go, and none that still grows, so
//! a segment is sealed when it covers an eighth of what is kept: a partition holds at most about that much more.

use std::time::Duration;

use super::segment::Extent;
use crate::broker::engine::TopicSettings;
use crate::clock::Timestamp;
use crate::names::Offset;

/// A segment covers at most this part of what is kept, by age and by bytes.
const SHARE: u32 = 8;

/// However few bytes are kept, a segment is not sealed for its size below this many.
const ROLL_BYTES_MIN: u64 = 1 << 20;

/// A compacted topic's segment grows at most this long: what grows is not compacted.
const COMPACTED_AGE_MAX: Duration = Duration::from_hours(1);

/// Whether anything of a topic may ever go.
pub(super) fn is_bounded(settings: &TopicSettings) -> bool {
    settings.retention.is_some() || settings.retention_bytes.is_some() || settings.compact
}

/// Whether a growing segment is to be sealed, so that it can go when its time comes.
pub(super) fn is_ripe(growing: &Extent, settings: &TopicSettings, now: Timestamp) -> bool {
    let by_age = [settings.retention.map(|kept| kept / SHARE), settings.compact.then_some(COMPACTED_AGE_MAX)];
    let old = by_age.into_iter().flatten().any(|kept| is_older(growing.first_accepted, kept, now));
    let large =
        settings.retention_bytes.is_some_and(|kept| growing.bytes >= (kept / u64::from(SHARE)).max(ROLL_BYTES_MIN));
    !growing.sealed && growing.bytes > 0 && (old || large)
}

/// Where the partition is to begin; `None` if nothing goes. Segments are given oldest first.
pub(super) fn start(segments: &[Extent], settings: &TopicSettings, now: Timestamp) -> Option<Offset> {
    let mut left: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut start = None;
    for segment in segments.iter().take_while(|segment| segment.sealed) {
        left -= segment.bytes;
        let old = settings.retention.is_some_and(|kept| is_older(segment.max_accepted, kept, now));
        let many = settings.retention_bytes.is_some_and(|kept| left >= kept);
        if !(old || many) {
            break;
        }
        start = Some(segment.next);
    }
    start
}

/// Whether `accepted` lies more than `kept` before `now`.
pub(in crate::broker) fn is_older(accepted: Timestamp, kept: Duration, now: Timestamp) -> bool {
    let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
    now.0.saturating_sub(accepted.0) > kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// One segment an hour, 100 bytes and ten records each, the last one growing.
    fn segments(count: i64) -> Vec<Extent> {
        let segment = |n: i64| Extent {
            bytes: 100,
            next: Offset((n + 1) * 10),
            max_timestamp: Timestamp(i64::MAX),
            first_accepted: Timestamp(n * HOUR),
            max_accepted: Timestamp((n + 1) * HOUR - 1),
            delete_horizon: super::super::segment::NO_HORIZON,
            sealed: n + 1 < count,
        };
        (0..count).map(segment).collect()
    }

    fn settings(hours: Option<u64>, bytes: Option<u64>) -> TopicSettings {
        TopicSettings { retention: hours.map(Duration::from_hours), retention_bytes: bytes, ..TopicSettings::default() }
    }

    #[test]
    fn a_segment_goes_when_its_last_record_is_too_old_and_not_before() {
        let kept = settings(Some(2), None);
        for (now, expected) in [(0, None), (3 * HOUR - 1, None), (3 * HOUR, Some(10)), (4 * HOUR, Some(20))] {
            assert_eq!(start(&segments(6), &kept, Timestamp(now)), expected.map(Offset), "at {now}");
        }
        let growing_stays = start(&segments(6), &kept, Timestamp(100 * HOUR));
        assert_eq!(growing_stays, Some(Offset(50)));
    }

    #[test]
    fn bytes_go_until_removing_one_more_segment_would_leave_too_few() {
        for (bytes, expected) in [(600, None), (501, None), (500, Some(10)), (201, Some(30)), (1, Some(50))] {
            assert_eq!(
                start(&segments(6), &settings(None, Some(bytes)), Timestamp(0)),
                expected.map(Offset),
                "{bytes}"
            );
        }
    }

    #[test]
    fn without_bounds_nothing_ever_goes_and_nothing_is_sealed() {
        let forever = settings(None, None);
        assert!(!is_bounded(&forever));
        assert_eq!(start(&segments(6), &forever, Timestamp(i64::MAX)), None);
        assert!(!is_ripe(&segments(1)[0], &forever, Timestamp(i64::MAX)));
    }

    #[test]
    fn what_grows_on_a_compacted_topic_is_ripe_after_an_hour_and_never_goes_whole() {
        let compacted = TopicSettings { compact: true, ..TopicSettings::default() };
        assert!(is_bounded(&compacted));
        assert!(!is_ripe(&segments(1)[0], &compacted, Timestamp(HOUR)));
        assert!(is_ripe(&segments(1)[0], &compacted, Timestamp(HOUR + 1)));
        assert_eq!(start(&segments(6), &compacted, Timestamp(i64::MAX)), None);
    }

    #[test]
    fn a_growing_segment_is_ripe_after_an_eighth_of_the_time_or_of_the_bytes() {
        let growing = segments(1)[0];
        let by_time = settings(Some(8), None);
        assert!(!is_ripe(&growing, &by_time, Timestamp(HOUR)));
        assert!(is_ripe(&growing, &by_time, Timestamp(HOUR + 1)));
        let by_bytes = settings(None, Some(16 << 20));
        assert!(!is_ripe(&Extent { bytes: (2 << 20) - 1, ..growing }, &by_bytes, Timestamp(0)));
        assert!(is_ripe(&Extent { bytes: 2 << 20, ..growing }, &by_bytes, Timestamp(0)));
        assert!(!is_ripe(&Extent { bytes: 2 << 20, sealed: true, ..growing }, &by_bytes, Timestamp(0)));
        assert!(
            !is_ripe(&Extent { bytes: 1000, ..growing }, &settings(None, Some(1)), Timestamp(0)),
            "not every batch"
        );
        assert!(!is_ripe(&Extent { bytes: 0, ..growing }, &by_time, Timestamp(i64::MAX)), "nothing to seal");
    }

    #[test]
    fn a_clock_that_was_set_back_removes_nothing() {
        assert_eq!(start(&segments(6), &settings(Some(1), None), Timestamp(-1000 * HOUR)), None);
    }
}
