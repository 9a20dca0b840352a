//! Which segments are written anew, and which of them as one. Pure.

use std::ops::Range;

use crate::names::Offset;

/// An index counts offsets from the segment's base in 32 bits.
const OFFSETS_MAX: i64 = u32::MAX as i64;

/// What a pass would leave of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) base: Offset,
    /// Where the next segment begins.
    pub(super) next: Offset,
    pub(super) bytes: u64,
    /// Something goes, or a tombstone gets its horizon.
    pub(super) changed: bool,
}

/// Neighbours that together fit into one segment are written as one; of the others those that change. A segment that is
/// as it should be, between neighbours that it does not fit with, is left alone.
pub(super) fn groups(surveys: &[Survey], segment_bytes: u64) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut begin = 0;
    while let Some(first) = surveys.get(begin) {
        let mut bytes = first.bytes;
        let mut end = begin + 1;
        while let Some(survey) = surveys.get(end)
            && bytes + survey.bytes <= segment_bytes
            && survey.next.0 - first.base.0 <= OFFSETS_MAX
        {
            bytes += survey.bytes;
            end += 1;
        }
        if end - begin > 1 || first.changed {
            groups.push(begin..end);
        }
        begin = end;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(surveys: &[Survey]) -> Vec<(usize, usize)> {
        groups(surveys, 100).iter().map(|group| (group.start, group.end)).collect()
    }

    /// Segments of a thousand offsets each.
    fn surveys(sizes: &[(u64, bool)]) -> Vec<Survey> {
        let at = |n: usize| Offset(i64::try_from(n).unwrap() * 1000);
        let survey = |(n, &(bytes, changed)): (usize, &_)| Survey { base: at(n), next: at(n + 1), bytes, changed };
        sizes.iter().enumerate().map(survey).collect()
    }

    #[test]
    fn what_does_not_change_and_is_not_small_is_left_alone() {
        assert_eq!(planned(&surveys(&[(60, false), (60, true), (60, false)])), [(1, 2)]);
        assert!(planned(&surveys(&[(60, false), (60, false)])).is_empty());
        assert!(planned(&surveys(&[(5, false)])).is_empty(), "a single small one has nobody to go with");
        assert!(planned(&[]).is_empty());
    }

    #[test]
    fn small_neighbours_become_one_segment_up_to_the_size_of_one() {
        assert_eq!(
            planned(&surveys(&[(30, true), (30, false), (40, false), (1, true), (90, false)])),
            [(0, 3), (3, 5)]
        );
        assert_eq!(planned(&surveys(&[(0, true), (0, true), (0, true)])), [(0, 3)]);
        assert_eq!(planned(&surveys(&[(150, true), (0, true)])), [(0, 1), (1, 2)], "one that is too large stays alone");
    }

    #[test]
    fn a_segment_never_spans_more_offsets_than_its_index_can_count() {
        let far = |base, next| Survey { base: Offset(base), next: Offset(next), bytes: 1, changed: true };
        let limit = i64::from(u32::MAX);
        assert_eq!(planned(&[far(0, 10), far(10, limit)]), [(0, 2)]);
        assert_eq!(planned(&[far(0, 10), far(10, limit + 1)]), [(0, 1), (1, 2)]);
    }

    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do() {
        let sizes = [(30, true), (60, false), (20, false), (90, true), (5, false), (5, true), (95, false), (10, true)];
        let before = surveys(&sizes);
        let planned = groups(&before, 100);
        let mut after = Vec::new();
        let mut at = 0;
        while at < before.len() {
            let group = planned.iter().find(|group| group.start == at).cloned().unwrap_or(at..at + 1);
            let bytes = before[group.clone()].iter().map(|survey| survey.bytes).sum();
            after.push(Survey { base: before[at].base, next: before[group.end - 1].next, bytes, changed: false });
            at = group.end;
        }
        assert!(groups(&after, 100).is_empty());
    }
}
