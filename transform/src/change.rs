//! One record of a capture topic, read: everything that mapping wants to know of it.

use syncline_bus::InRecord;
use syncline_runtime::Outcome;
use syncline_schemas::envelope::{self, ChangeEvent, NEW_KEY_HEADER, OLD_KEY_HEADER};
use syncline_schemas::lens::Row;
use syncline_schemas::mark::{self, Mark};
use syncline_schemas::pipeline::{Link, Pipeline};
use syncline_schemas::position::Position;

use crate::mapping::{Input, Refusal};
use crate::schemas::Schemas;

/// A change of a row.
pub struct Change {
    event: ChangeEvent,
    key: Option<Row>,
    position: Position,
    commit_us: i64,
    ahead: bool,
    old_key: Option<Row>,
    moves_away: bool,
    new_key: Option<Row>,
    mark: Option<Mark>,
}

impl Change {
    /// Reads `value`, which is that of `record`; none if it is no change of a row.
    pub fn read(
        record: &InRecord,
        value: &[u8],
        pipeline: &Pipeline,
        schemas: &mut Schemas,
    ) -> Outcome<Result<Option<Self>, Refusal>> {
        let mut event = match schemas.read(value, envelope::decode)? {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Ok(None)),
            Err(reason) => return Ok(Err(Refusal(reason))),
        };
        envelope::forget_unchanged(&record.headers, &mut event);
        let key = match &record.key {
            // A key that cannot be read is not needed but for a delete, and there the before-image may do.
            Some(key) => schemas.read(key, envelope::decode_key)?.ok(),
            None => None,
        };
        let position = match envelope::position(&record.headers, &event, record.offset) {
            Ok(position) => position,
            Err(error) => return Ok(Err(Refusal(error.to_string()))),
        };
        let mark = record
            .header(mark::HEADER)
            .and_then(|text| Mark::from_text(std::str::from_utf8(text).ok()?).ok());
        let mut other_key = |header| match record.header(header).zip(record.key.as_deref()) {
            Some((json, key)) => schemas.read(key, |schema, _| Ok(envelope::header_key(schema, json))),
            None => Ok(Ok(None)),
        };
        let (old_key, new_key) = (other_key(OLD_KEY_HEADER)?, other_key(NEW_KEY_HEADER)?);
        let commit_us = clamped(&event, record.timestamp_ms, pipeline.max_clock_skew_ms);
        Ok(Ok(Some(Self {
            commit_us,
            ahead: commit_us < event.source.ts_us,
            old_key: old_key.ok().flatten(),
            moves_away: record.header(NEW_KEY_HEADER).is_some(),
            new_key: new_key.ok().flatten(),
            mark: mark.filter(|mark| mark.pipeline == pipeline.name),
            event,
            key,
            position,
        })))
    }

    /// The change as `link` sees it.
    pub fn input<'a>(&'a self, link: &Link) -> Input<'a> {
        Input {
            event: &self.event,
            key: self.key.as_ref(),
            position: self.position,
            commit_us: self.commit_us,
            ahead: self.ahead,
            old_key: self.old_key.as_ref(),
            moves_away: self.moves_away,
            new_key: self.new_key.as_ref(),
            mark: self.mark.as_ref().filter(|mark| is_of(mark, link)),
        }
    }
}

/// Whether the mark speaks of the table and the entity of this link.
pub fn is_of(mark: &Mark, link: &Link) -> bool {
    mark.entity == link.entity && mark.table == link.qualified_table()
}

/// A clock that runs ahead of Kafka's by more than is allowed would win every conflict; both times are in the topic, so
/// a replay clamps the same.
fn clamped(event: &ChangeEvent, kafka_ms: i64, skew_ms: i64) -> i64 {
    if kafka_ms < 0 {
        return event.source.ts_us;
    }
    event
        .source
        .ts_us
        .min(kafka_ms.saturating_add(skew_ms).saturating_mul(1000))
}
