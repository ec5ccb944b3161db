//! Whose clock is wrong, for people to see: a stamp that is cut, or that is older than what was committed before it.
//!
//! It decides nothing. What is cut is cut with the record (`Change`), and that a clock was set back is in the word
//! (`Word::set_back`); a conflict's note names both. Here they are counted, and told once for each partition.

use std::collections::{BTreeSet, HashMap};

use syncline_bus::InRecord;
use syncline_schemas::envelope::Op;

use crate::mapping::Input;
use crate::metrics;

/// The clocks of all sources, as their logs show them since this process started.
#[derive(Default)]
pub struct Clocks {
    /// By topic and partition: the greatest commit time, microseconds since 1970.
    latest: HashMap<String, HashMap<i32, i64>>,
    told: BTreeSet<(String, i32, &'static str)>,
}

impl Clocks {
    /// Looks at a change. Commits that are written at once may differ in the order of their stamps by less than `skew_ms`.
    pub fn look(&mut self, source: &str, record: &InRecord, input: &Input<'_>, skew_ms: i64) {
        let Some(fault) = self.fault(record, input, skew_ms) else {
            return;
        };
        metrics::CLOCK_FAULTS.with_label_values(&[source, fault]).inc();
        if self.told.insert((record.topic.clone(), record.partition, fault)) {
            tracing::warn!(
                code = "CLOCK_FAULT",
                source,
                topic = record.topic,
                partition = record.partition,
                offset = record.offset,
                fault,
                "its commit times cannot be right: see that its clock is; later ones are counted and not told"
            );
        }
    }

    fn fault(&mut self, record: &InRecord, input: &Input<'_>, skew_ms: i64) -> Option<&'static str> {
        // The rows of a first read have the time of the reading.
        if input.event.op == Op::Read {
            return None;
        }
        if !self.latest.contains_key(&record.topic) {
            self.latest.insert(record.topic.clone(), HashMap::new());
        }
        let of_topic = self.latest.get_mut(&record.topic)?;
        let latest_us = of_topic.entry(record.partition).or_insert(input.commit_us);
        let behind_us = latest_us.saturating_sub(input.commit_us);
        *latest_us = input.commit_us.max(*latest_us);
        if input.ahead {
            return Some("ahead");
        }
        (behind_us > skew_ms.saturating_mul(1_000)).then_some("set_back")
    }
}

#[cfg(test)]
mod tests {
    use syncline_schemas::envelope::{ChangeEvent, SourceInfo};
    use syncline_schemas::position::Position;

    use super::*;

    #[test]
    fn a_clock_that_is_ahead_or_set_back_is_told() {
        let mut clocks = Clocks::default();
        let mut fault = |op: Op, partition: i32, commit_us: i64, ahead: bool| {
            let event = ChangeEvent {
                op,
                before: None,
                after: None,
                source: SourceInfo::default(),
                ts_ms: 0,
            };
            let record = InRecord {
                topic: "shop.public.t".to_owned(),
                partition,
                offset: 0,
                timestamp_ms: 0,
                key: None,
                value: None,
                headers: Vec::new(),
            };
            let input = Input {
                event: &event,
                key: None,
                position: Position::default(),
                commit_us,
                ahead,
                old_key: None,
                moves_away: false,
                new_key: None,
                mark: None,
            };
            clocks.fault(&record, &input, 5)
        };
        assert_eq!(fault(Op::Update, 0, 100_000, false), None);
        assert_eq!(fault(Op::Update, 0, 95_000, false), None, "as commits go");
        assert_eq!(fault(Op::Update, 0, 94_999, false), Some("set_back"));
        assert_eq!(fault(Op::Read, 0, 1, false), None);
        assert_eq!(fault(Op::Delete, 1, 1, false), None, "another partition");
        assert_eq!(fault(Op::Create, 0, 200_000, true), Some("ahead"));
    }
}
