//! What is lost when frames of the log cannot be read, in words that a person can repeat.
//!
//! A start with damage is refused with a [`DamageReport`]. Only who repeats its [`Loss`] exactly may start without what is
//! lost: damage that has grown since the report was read is another loss.

use std::fmt;
use std::str::FromStr;

use crate::names::{Offset, TopicPartition};

/// A report shows this many partitions; the count of the others follows.
const SHOWN_MAX: usize = 50;

/// Numbers of commit groups (frames of the log), the last one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// The first one.
    pub first: u64,
    /// The last one; `None` if nothing tells how many there were.
    pub last: Option<u64>,
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            Some(last) if last == self.first => write!(f, "{last}"),
            Some(last) => write!(f, "{}-{last}", self.first),
            None => write!(f, "{}-", self.first),
        }
    }
}

impl FromStr for Groups {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse().map_err(|_| format!("`{text}` is not like 17, 17-19 or 17-"));
        Ok(match text.split_once('-') {
            None => Self { first: number(text)?, last: Some(number(text)?) },
            Some((first, "")) => Self { first: number(first)?, last: None },
            Some((first, last)) => Self { first: number(first)?, last: Some(number(last)?) },
        })
    }
}

/// Commit groups that were acknowledged and cannot be read, ascending. `17-19,25` in text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loss(pub Vec<Groups>);

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, groups) in self.0.iter().enumerate() {
            write!(f, "{}{groups}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Loss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Records of one partition that were acknowledged and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The partition.
    pub at: TopicPartition,
    /// First missing offset.
    pub from: Offset,
    /// First offset after them that can be read.
    pub to: Offset,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, from, to } = self;
        write!(f, "topic {} partition {} offsets {from} to {}", at.topic, at.partition, to.0.saturating_sub(1))
    }
}

/// A place in the log where reading stopped and frames are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPlace {
    /// The file, relative to the store.
    pub file: String,
    /// Where in it.
    pub at: u64,
    /// The frames that are missing.
    pub groups: Groups,
    /// Where the bytes that are not understood were copied to, relative to the store.
    pub quarantined: String,
}

/// Why a start was refused, or what it went on without.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DamageReport {
    /// In the order of the log.
    pub places: Vec<DamagedPlace>,
    /// Which records, as far as later frames tell. Records at the end of a partition leave no such trace.
    pub missing: Vec<Missing>,
    /// Entries of readable frames that mean nothing without the missing ones: of partitions whose creation is among them.
    pub unplaced: u64,
}

impl DamageReport {
    /// What has to be accepted to start.
    #[must_use]
    pub fn loss(&self) -> Loss {
        Loss(self.places.iter().map(|place| place.groups).collect())
    }
}

impl fmt::Display for DamageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in &self.places {
            let DamagedPlace { file, at, groups, quarantined } = place;
            writeln!(f, "{file}, byte {at}: commit groups {groups} cannot be read; the bytes are in {quarantined}.")?;
        }
        for missing in self.missing.iter().take(SHOWN_MAX) {
            writeln!(f, "Missing: {missing}.")?;
        }
        if let Some(more) = self.missing.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            writeln!(f, "Missing: parts of {more} more partitions.")?;
        }
        if self.unplaced > 0 {
            writeln!(f, "Missing: {} later entries of partitions that these groups made.", self.unplaced)?;
        }
        write!(
            f,
            "Records that these groups put at the end of a partition are missing without a trace of their number."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_read_as_it_is_written() {
        for text in ["17", "17-19", "17-", "3,17-19,25-"] {
            assert_eq!(text.parse::<Loss>().unwrap().to_string(), text);
        }
        for bad in ["", "x", "-5", "1-2-3", "1,,2", "1 - 2"] {
            assert!(bad.parse::<Loss>().is_err(), "{bad}");
        }
    }
}
