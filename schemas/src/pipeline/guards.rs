//! `guards`: what stops a source whose whole tables change at once.

use std::fmt;

const PARTS: u64 = 1_000_000;

/// The guards of a pipeline; none that the file does not name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// So many rows of a table changed within some time.
    pub mass_change: Option<Burst>,
    /// So many rows of a table went back to values that they had left, or the source's log was replaced.
    pub stale_restore: Option<Burst>,
}

/// So many rows within so long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst {
    /// More rows than this are too many.
    pub over: Over,
    /// `at_least`: of a share, the number of rows of the whole table up to which nothing is too many.
    pub at_least: u64,
    /// How far back rows count, in microseconds of source time.
    pub within_us: i64,
}

/// A number of rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// This number.
    Rows(u64),
    /// A share of the table, in millionths.
    Share(u64),
}

impl Guards {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.mass_change.is_some() || self.stale_restore.is_some()
    }
}

impl Burst {
    /// `5% in 10m`
    pub const MASS_CHANGE: Burst = Burst {
        over: Over::Share(50_000),
        at_least: 100,
        within_us: 600_000_000,
    };

    /// `0.2% in 10m`
    pub const STALE_RESTORE: Burst = Burst {
        over: Over::Share(2_000),
        at_least: 20,
        within_us: 600_000_000,
    };

    /// How many rows of one of so many partitions, which has `rows` rows, are not too many yet. Rows are spread over
    /// partitions by a hash of their keys, so a partition shows what its table does.
    pub fn rows_max(&self, rows: u64, partitions: u64) -> u64 {
        let partitions = partitions.max(1);
        match self.over {
            Over::Rows(count) => count.div_ceil(partitions),
            Over::Share(parts) => {
                let share = u128::from(rows) * u128::from(parts) / u128::from(PARTS);
                u64::try_from(share)
                    .unwrap_or(u64::MAX)
                    .max(self.at_least.div_ceil(partitions))
            }
        }
    }
}

/// As in the file.
impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.within_us / 1_000_000;
        match self.over {
            Over::Rows(count) => write!(f, "{count} rows")?,
            Over::Share(parts) => {
                let (whole, rest) = (parts / 10_000, parts % 10_000);
                let rest = format!("{rest:04}");
                match rest.trim_end_matches('0') {
                    "" => write!(f, "{whole}%")?,
                    rest => write!(f, "{whole}.{rest}%")?,
                }
            }
        }
        match seconds % 60 {
            0 if seconds > 0 => write!(f, " in {}m", seconds / 60),
            _ => write!(f, " in {}ms", self.within_us / 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_partition_and_the_floor_of_the_table() {
        assert_eq!(Burst::MASS_CHANGE.rows_max(1_000_000, 4), 50_000);
        assert_eq!(Burst::MASS_CHANGE.rows_max(10, 4), 25);
        assert_eq!(Burst::MASS_CHANGE.rows_max(10, 0), 100);
        let rows = Burst {
            over: Over::Rows(10),
            ..Burst::MASS_CHANGE
        };
        assert_eq!(rows.rows_max(1_000_000, 4), 3);
    }

    #[test]
    fn it_is_shown_as_in_the_file() {
        assert_eq!(Burst::MASS_CHANGE.to_string(), "5% in 10m");
        assert_eq!(Burst::STALE_RESTORE.to_string(), "0.2% in 10m");
        let rows = Burst {
            over: Over::Rows(20_000),
            within_us: 1_500_000,
            ..Burst::MASS_CHANGE
        };
        assert_eq!(rows.to_string(), "20000 rows in 1500ms");
    }
}
