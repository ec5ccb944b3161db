//! What Debezium loses of a value, and what is lost by us: one list, in code and for the metric's label.
//!
//! The README's table of differences has a line for each of them; a loss is counted by table, column and kind where it
//! happens, under either fidelity, so that who changes over can see what his old topics were worth.

use std::sync::OnceLock;

use syncline_runtime::metrics::Counter;

use crate::metrics;

/// A way to lose something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// A date before our era came out of Debezium's snapshot without the BC.
    BeforeChrist,
    /// One of the ten days that the Gregorian calendar left out came out of Debezium's snapshot as ten days later.
    SkippedDay,
    /// An infinite date came out as some day.
    InfiniteDate,
    /// NaN or an infinity of a numeric came out as null.
    NotFinite,
    /// NULL came out as the column's default.
    NullAsDefault,
    /// An array in an array came out as null.
    NestedArray,
    /// An array of bit strings came out as null.
    BitArray,
    /// Seconds of an interval went through a floating point number.
    IntervalFraction,
    /// An interval beyond the range of the number came out as its end.
    IntervalRange,
    /// A timestamp beyond the range of the number came out as its end, or as null.
    TimestampRange,
    /// 24:00 came out as 00:00.
    EndOfDay,
    /// A value of type name came out of Debezium's stream as null.
    SystemName,
    /// A large value that the log does not hold came out as null, without a placeholder.
    Unmoved,
    /// Digits of an amount of money were rounded away.
    Rounded,
    /// The column is not in the records, because Debezium does not know its type.
    LeftOut,
    /// A column of the key was not in the log, because another index identifies rows.
    KeyUnknown,
}

impl Loss {
    /// All of them.
    pub const ALL: [Loss; 16] = [
        Loss::BeforeChrist,
        Loss::SkippedDay,
        Loss::InfiniteDate,
        Loss::NotFinite,
        Loss::NullAsDefault,
        Loss::NestedArray,
        Loss::BitArray,
        Loss::IntervalFraction,
        Loss::IntervalRange,
        Loss::TimestampRange,
        Loss::EndOfDay,
        Loss::SystemName,
        Loss::Unmoved,
        Loss::Rounded,
        Loss::LeftOut,
        Loss::KeyUnknown,
    ];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Loss::BeforeChrist => "before_christ",
            Loss::SkippedDay => "skipped_day",
            Loss::InfiniteDate => "infinite_date",
            Loss::NotFinite => "not_finite",
            Loss::NullAsDefault => "null_as_default",
            Loss::NestedArray => "nested_array",
            Loss::BitArray => "bit_array",
            Loss::IntervalFraction => "interval_fraction",
            Loss::IntervalRange => "interval_range",
            Loss::TimestampRange => "timestamp_range",
            Loss::EndOfDay => "end_of_day",
            Loss::SystemName => "system_name",
            Loss::Unmoved => "unmoved",
            Loss::Rounded => "rounded",
            Loss::LeftOut => "left_out",
            Loss::KeyUnknown => "key_unknown",
        }
    }
}

/// The counters of a table, each made when it is first needed: to count is one addition.
#[derive(Clone, Debug)]
pub struct Losses {
    source: String,
    table: String,
    columns: Vec<(String, [OnceLock<Counter>; Loss::ALL.len()])>,
}

impl Losses {
    /// None so far, of these columns.
    pub fn new<'a>(source: &str, table: String, columns: impl Iterator<Item = &'a str>) -> Self {
        Self {
            source: source.to_owned(),
            table,
            columns: columns.map(|name| (name.to_owned(), Default::default())).collect(),
        }
    }

    /// One more, of the column with that index.
    pub fn count(&self, column: usize, loss: Loss) {
        let Some((name, counters)) = self.columns.get(column) else {
            return;
        };
        let make = || metrics::losses(&self.source, &self.table, name, loss.label());
        if let Some(counter) = counters.get(loss as usize) {
            counter.get_or_init(make).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_has_a_place_and_a_name_of_its_own() {
        for (index, loss) in Loss::ALL.into_iter().enumerate() {
            assert_eq!(loss as usize, index);
            assert!(Loss::ALL[..index].iter().all(|other| other.label() != loss.label()));
        }
    }

    #[test]
    fn losses_are_counted_by_table_column_and_kind() {
        let losses = Losses::new("counting", "public.t".to_owned(), ["id", "d"].into_iter());
        losses.count(1, Loss::BeforeChrist);
        losses.count(1, Loss::BeforeChrist);
        losses.count(7, Loss::BeforeChrist);
        let rendered = syncline_runtime::metrics::render();
        let line =
            r#"syncline_capture_losses_total{column="d",loss="before_christ",source="counting",table="public.t"} 2"#;
        assert!(rendered.contains(line), "{rendered}");
    }
}
