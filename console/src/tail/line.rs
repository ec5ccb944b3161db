//! A record as a line: keys and values decoded, Debezium's envelopes short, the headers that are ours or tell of a moved row.

use std::collections::BTreeMap;

use syncline_bus::InRecord;
use syncline_runtime::Outcome;
use syncline_schemas::codec;
use syncline_schemas::envelope::{self, ChangeEvent, NEW_KEY_HEADER, OLD_KEY_HEADER, Op};
use syncline_schemas::lens::{Cell, Row};
use syncline_transform::schemas::Schemas;

/// What a header has to begin with to be shown.
const HEADERS: [&str; 3] = ["syncline.", OLD_KEY_HEADER, NEW_KEY_HEADER];

/// A record, decoded.
pub(crate) struct Shown<'a> {
    record: &'a InRecord,
    key: String,
    /// JSON text; the reason if it cannot be read.
    value: Result<String, String>,
    change: Option<ChangeEvent>,
}

impl<'a> Shown<'a> {
    /// Decodes what can be decoded; fails only if the registry does not answer.
    pub(crate) fn of(record: &'a InRecord, schemas: &mut Schemas) -> Outcome<Self> {
        let key = match &record.key {
            None => "null".to_owned(),
            Some(key) => decoded(key, schemas)?.unwrap_or_else(|_| text(key)),
        };
        let (value, change) = match &record.value {
            None => (Ok("null".to_owned()), None),
            Some(value) => (decoded(value, schemas)?, change(record, value, schemas)?),
        };
        Ok(Self {
            record,
            key,
            value,
            change,
        })
    }

    /// One line for a person.
    pub(crate) fn line(&self) -> String {
        let record = self.record;
        let what = match (&self.change, &self.value) {
            (Some(change), _) => told(change),
            (None, Ok(value)) => value.clone(),
            (None, Err(reason)) => format!("cannot be read: {reason}"),
        };
        let headers: Vec<String> = self
            .headers()
            .map(|(name, value)| format!("  {name}={value}"))
            .collect();
        format!(
            "{}/{}  {}  {}  {what}{}\n",
            record.partition,
            record.offset,
            time_of_ms(record.timestamp_ms),
            self.key,
            headers.concat()
        )
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        let record = self.record;
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let value = match &self.value {
            Ok(value) => format!("\"value\":{value}"),
            Err(reason) => format!("\"unreadable\":{}", quoted(reason)),
        };
        let headers: Vec<String> = self
            .headers()
            .map(|(name, value)| format!("{}:{}", quoted(name), quoted(&value)))
            .collect();
        format!(
            "{{\"topic\":{},\"partition\":{},\"offset\":{},\"at\":{},\"key\":{},{value},\"headers\":{{{}}}}}\n",
            quoted(&record.topic),
            record.partition,
            record.offset,
            quoted(&time_of_ms(record.timestamp_ms)),
            self.key,
            headers.join(",")
        )
    }

    fn headers(&self) -> impl Iterator<Item = (&'a str, String)> {
        let ours = |name: &str| HEADERS.iter().any(|prefix| name.starts_with(prefix));
        let headers = self.record.headers.iter().filter(move |(name, _)| ours(name));
        headers.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value).into_owned()))
    }
}

/// As JSON: by the registry's schema, or as it stands if it is a JSON object; the reason if it is neither.
fn decoded(bytes: &[u8], schemas: &mut Schemas) -> Outcome<Result<String, String>> {
    if bytes.first() != Some(&b'{') {
        return schemas.read(bytes, codec::json_text);
    }
    let json: Result<serde_json::Value, _> = serde_json::from_slice(bytes);
    Ok(json.map(|json| json.to_string()).map_err(|error| error.to_string()))
}

fn change(record: &InRecord, value: &[u8], schemas: &mut Schemas) -> Outcome<Option<ChangeEvent>> {
    let Ok(Some(mut event)) = schemas.read(value, envelope::decode)? else {
        return Ok(None);
    };
    envelope::forget_unchanged(&record.headers, &mut event);
    Ok(Some(event))
}

/// `u email: "a" -> "b"`: of an update whose row before is known only what changed.
fn told(change: &ChangeEvent) -> String {
    let op = match change.op {
        Op::Create => "created",
        Op::Read => "read",
        Op::Update => "updated",
        Op::Delete => "deleted",
        Op::Truncate => return "truncated".to_owned(),
        Op::Message => return "message".to_owned(),
    };
    let columns = match (&change.before, &change.after) {
        (Some(before), Some(after)) if change.op == Op::Update => changed(before, after),
        (_, Some(after)) => whole(after),
        (Some(before), None) => whole(before),
        (None, None) => String::new(),
    };
    format!("{op}  {columns}")
}

fn whole(row: &Row) -> String {
    let columns: Vec<String> = row
        .iter()
        .map(|(name, cell)| format!("{name}: {}", cell_text(cell)))
        .collect();
    columns.join(", ")
}

fn changed(before: &Row, after: &Row) -> String {
    let differing: BTreeMap<&String, (&Cell, &Cell)> = after
        .iter()
        .filter_map(|(name, after)| Some((name, (before.get(name)?, after))))
        .filter(|(_, (before, after))| before != after)
        .collect();
    let columns: Vec<String> = differing
        .into_iter()
        .map(|(name, (before, after))| format!("{name}: {} -> {}", cell_text(before), cell_text(after)))
        .collect();
    columns.join(", ")
}

fn cell_text(cell: &Cell) -> String {
    match cell {
        Cell::Set(value) => value.to_string(),
        Cell::Unchanged => "(not repeated)".to_owned(),
    }
}

fn text(bytes: &[u8]) -> String {
    serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string()
}

/// A time as people write it, in UTC.
pub(crate) fn time_of_ms(ms: i64) -> String {
    time_of_us(ms.saturating_mul(1_000))
}

/// The same, from microseconds.
pub(crate) fn time_of_us(us: i64) -> String {
    let ms = us.div_euclid(1_000);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| us.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_schemas::envelope::SourceInfo;

    fn row(cells: &[(&str, &str)]) -> Row {
        let cell = |text: &str| text.parse().map_or(Cell::Unchanged, Cell::Set);
        cells
            .iter()
            .map(|(name, text)| ((*name).to_owned(), cell(text)))
            .collect()
    }

    #[test]
    fn an_update_tells_what_changed() {
        let change = ChangeEvent {
            op: Op::Update,
            before: Some(row(&[("id", "1"), ("email", "\"a\""), ("note", "?")])),
            after: Some(row(&[("id", "1"), ("email", "\"b\""), ("note", "?")])),
            source: SourceInfo::default(),
            ts_ms: 0,
        };
        assert_eq!(told(&change), r#"updated  email: "a" -> "b""#);
        let unknown = ChangeEvent { before: None, ..change };
        assert_eq!(told(&unknown), r#"updated  email: "b", id: 1, note: (not repeated)"#);
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(time_of_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_of_us(1_500), "1970-01-01T00:00:00.001Z");
    }
}
