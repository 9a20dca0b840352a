//! What the log holds of a topic, without reading a record.

use crate::broker::engine::Bounds;
use crate::catalog::model::Topic;
use crate::web::state::WebState;
use crate::web::ui::records::units;

/// Rows of the table of partitions; the API lists them all.
const ROWS_MAX: usize = 64;

/// The readable range of each partition, and the bytes kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// In the order of the partitions; empty while the log has not made them all.
    pub bounds: Vec<Bounds>,
    pub stored_bytes: u64,
}

/// Asks the log. Cheap: nothing is read from disk.
#[must_use]
pub fn of(state: &WebState, topic: &Topic) -> Figures {
    let bounds = state.gateway.bounds(topic).unwrap_or_default();
    Figures { bounds, stored_bytes: state.gateway.stored_bytes(topic) }
}

/// One line of the table of partitions.
pub struct PartitionRow {
    pub number: usize,
    pub earliest: String,
    pub next: String,
    pub events: String,
}

impl Figures {
    /// Offsets between the first kept record and the end: as many records, unless there are gaps.
    #[must_use]
    pub fn events(&self) -> i64 {
        self.bounds.iter().map(|bounds| bounds.end.0 - bounds.start.0).sum()
    }

    /// The table.
    #[must_use]
    pub fn rows(&self) -> Vec<PartitionRow> {
        let row = |(number, bounds): (usize, &Bounds)| PartitionRow {
            number,
            earliest: bounds.start.to_string(),
            next: bounds.end.to_string(),
            events: units::count(bounds.end.0 - bounds.start.0),
        };
        self.bounds.iter().enumerate().take(ROWS_MAX).map(row).collect()
    }

    /// What the table leaves out.
    #[must_use]
    pub fn more(&self) -> Option<String> {
        let more = self.bounds.len().checked_sub(ROWS_MAX).filter(|more| *more > 0)?;
        Some(format!("{more} further partitions are not shown."))
    }

    /// `1 204 events in 3 partitions, 3.4 MiB`
    #[must_use]
    pub fn total(&self) -> String {
        let events = self.events();
        let plural = |n: i64| if n == 1 { "" } else { "s" };
        let partitions = self.bounds.len();
        format!(
            "{} event{} in {partitions} partition{}, {}",
            units::count(events),
            plural(events),
            plural(i64::try_from(partitions).unwrap_or(i64::MAX)),
            units::bytes(self.stored_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Offset;

    #[test]
    fn the_sum_counts_what_is_kept() {
        let bounds = |start, end| Bounds { start: Offset(start), end: Offset(end) };
        let figures = Figures { bounds: vec![bounds(10, 11), bounds(0, 0)], stored_bytes: 1536 };
        assert_eq!(figures.total(), "1 event in 2 partitions, 1.5 KiB");
        assert_eq!(figures.rows()[0].next, "11");
        assert_eq!(figures.more(), None);
    }

    #[test]
    fn a_long_table_says_what_it_leaves_out() {
        let figures =
            Figures { bounds: vec![Bounds { start: Offset(0), end: Offset(1) }; ROWS_MAX + 2], stored_bytes: 0 };
        assert_eq!(figures.rows().len(), ROWS_MAX);
        assert_eq!(figures.more().as_deref(), Some("2 further partitions are not shown."));
    }
}
