//! What two captures of one database wrote, compared topic by topic: schemas verbatim, records field by field, keys,
//! headers, order, tombstones.
//!
//! Both write under prefixes of their own, which are shown as `<prefix>`. What else may differ is [`VOLATILE`] and
//! [`OF_THE_SNAPSHOT`] and the order of the rows of a first read ([`snapshot_order`]), and nothing more: what is not named there
//! has to be equal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Context as _;
use serde_json::{Value as Json, json};

use crate::avro::Reader;
use crate::kafka::{Record, Topics};
use crate::snapshot_order;

/// Of every envelope: when it was made.
const VOLATILE: [&str; 3] = ["/ts_ms", "/ts_us", "/ts_ns"];

/// Of a row that the snapshot read: each side's began at a moment, a transaction and a position of its own.
const OF_THE_SNAPSHOT: [&str; 6] = [
    "/source/ts_ms",
    "/source/ts_us",
    "/source/ts_ns",
    "/source/txId",
    "/source/lsn",
    "/source/sequence",
];

/// A new one at each start of either.
const RUN_ID: &str = "__debezium.context.runId";

/// What ours adds: headers that say where in the log a record stands, and of which columns the log has no value. Debezium
/// has no words for either.
const OURS_ALONE: [&str; 2] = ["syncline.position", "syncline.unchanged"];

/// Of a message outside any transaction: when it was read.
const OF_THE_MESSAGE: [&str; 3] = ["/source/ts_ms", "/source/ts_us", "/source/ts_ns"];

/// What messages are counted under in a transaction: in Debezium an object's address, another one for each message, and
/// its place among the tables hangs on it. (The count of all is compared.)
const MESSAGES: [&str; 2] = [
    "io.debezium.connector.postgresql.LogicalDecodingMessageMonitor$LogicalDecodingMessageId@",
    "LOGICAL_DECODING_MESSAGE",
];

/// One thing that is not equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The topic without its prefix.
    pub topic: String,
    /// Which record of it.
    pub index: usize,
    /// Where in the record.
    pub path: String,
    /// What Debezium has there.
    pub theirs: String,
    /// What ours has there.
    pub ours: String,
    /// Where in the log the change is that the record tells of, as either has it; 0 when unknown.
    pub lsn: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            index,
            path,
            theirs,
            ours,
            ..
        } = self;
        let same = theirs.chars().zip(ours.chars()).take_while(|(one, other)| one == other);
        let from = same.count().saturating_sub(SHOWN_BEFORE);
        write!(
            f,
            "{topic}[{index}] {path}\n    theirs: {}\n    ours:   {}",
            cut(theirs, from),
            cut(ours, from)
        )
    }
}

/// Characters shown before the first that differs, and in all.
const SHOWN_BEFORE: usize = 120;
const SHOWN_MAX: usize = 400;

fn cut(text: &str, from: usize) -> String {
    let shown: String = text.chars().skip(from).take(SHOWN_MAX).collect();
    match shown.len() == text.len() {
        true => shown,
        false => format!("..{shown}.. ({} bytes)", text.len()),
    }
}

/// The two prefixes of topics.
pub struct Sides<'a> {
    /// The broker and the registry.
    pub topics: &'a Topics,
    /// What Debezium's topics begin with.
    pub theirs: String,
    /// What ours begin with.
    pub ours: String,
}

impl Sides<'_> {
    /// Everything that is not equal, and how many records were compared. Both must have ended.
    pub fn differences(&self) -> anyhow::Result<(Vec<Difference>, usize)> {
        let (theirs, ours) = (self.read(&self.theirs)?, self.read(&self.ours)?);
        let mut all = Vec::new();
        let mut compared = 0;
        for topic in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
            let (Some(theirs), Some(ours)) = (theirs.get(topic), ours.get(topic)) else {
                let there = |side: &BTreeMap<String, Vec<Record>>| {
                    side.get(topic)
                        .map_or_else(|| "no topic".to_owned(), |records| format!("{} records", records.len()))
                };
                all.push(difference(topic, 0, "topic", there(&theirs), there(&ours)));
                continue;
            };
            compared += theirs.len();
            all.extend(self.topic(topic, theirs, ours)?);
        }
        Ok((all, compared))
    }

    /// By the name without its prefix. Ours has a topic more, for its progress, where Debezium has Connect's offsets.
    fn read(&self, prefix: &str) -> anyhow::Result<BTreeMap<String, Vec<Record>>> {
        let mut names = self.topics.names(&[prefix])?;
        names.retain(|name| !name.contains(".syncline."));
        let mut all = self.topics.read_all(&names)?;
        // Ours are made at the start.
        all.retain(|_, records| !records.is_empty());
        let bare = |(name, records): (String, Vec<Record>)| (name.replacen(prefix, "", 1), records);
        Ok(all.into_iter().map(bare).collect())
    }

    fn topic(&self, topic: &str, theirs: &[Record], ours: &[Record]) -> anyhow::Result<Vec<Difference>> {
        let mut readers = (
            Schemas::new(self.topics, topic, &self.theirs),
            Schemas::new(self.topics, topic, &self.ours),
        );
        let mut all = Vec::new();
        let mut shown = (readers.0.show_all(theirs)?, readers.1.show_all(ours)?);
        snapshot_order::by_key(&mut shown.0);
        snapshot_order::by_key(&mut shown.1);
        for (index, (their, our)) in shown.0.iter().zip(&shown.1).enumerate() {
            let lsn = [their, our].into_iter().find_map(lsn).unwrap_or_default();
            compare("", their, our, &mut |path, theirs, ours| {
                all.push(Difference {
                    lsn,
                    ..difference(topic, index, path, theirs.to_string(), ours.to_string())
                });
            });
        }
        if theirs.len() != ours.len() {
            let number = |records: &[Record]| format!("{} records", records.len());
            all.push(difference(
                topic,
                theirs.len().min(ours.len()),
                "length",
                number(theirs),
                number(ours),
            ));
        }
        Ok(all)
    }
}

fn difference(topic: &str, index: usize, path: &str, theirs: String, ours: String) -> Difference {
    Difference {
        topic: topic.to_owned(),
        index,
        path: path.to_owned(),
        theirs,
        ours,
        lsn: 0,
    }
}

fn lsn(shown: &Json) -> Option<u64> {
    shown.pointer("/value/source/lsn")?.as_u64()
}

/// Calls `found` for each leaf that is not equal.
fn compare(path: &str, theirs: &Json, ours: &Json, found: &mut impl FnMut(&str, &Json, &Json)) {
    match (theirs, ours) {
        (Json::Object(their), Json::Object(our)) => {
            for name in their.keys().chain(our.keys()).collect::<BTreeSet<_>>() {
                let missing = json!("(none)");
                let (their, our) = (their.get(name).unwrap_or(&missing), our.get(name).unwrap_or(&missing));
                compare(&format!("{path}/{name}"), their, our, found);
            }
        }
        (Json::Array(their), Json::Array(our)) if their.len() == our.len() => {
            for (index, (their, our)) in their.iter().zip(our).enumerate() {
                compare(&format!("{path}/{index}"), their, our, found);
            }
        }
        (their, our) if their == our => {}
        (their, our) => found(path, their, our),
    }
}

/// The schemas of one topic of one side.
struct Schemas<'a> {
    topics: &'a Topics,
    topic: String,
    prefix: &'a str,
    by_id: BTreeMap<u32, (String, Reader)>,
}

impl<'a> Schemas<'a> {
    fn new(topics: &'a Topics, topic: &str, prefix: &'a str) -> Self {
        Self {
            topics,
            topic: format!("{prefix}{topic}"),
            prefix,
            by_id: BTreeMap::new(),
        }
    }

    fn show_all(&mut self, records: &[Record]) -> anyhow::Result<Vec<Json>> {
        records.iter().map(|record| self.show(record)).collect()
    }

    /// A record as it is compared.
    fn show(&mut self, record: &Record) -> anyhow::Result<Json> {
        let (key_schema, key) = self.datum(record.key.as_deref(), "key")?;
        let (value_schema, mut value) = self.datum(record.value.as_deref(), "value")?;
        settle(&mut value);
        let headers: Vec<Json> = record
            .headers
            .iter()
            .filter(|(name, _)| !OURS_ALONE.contains(&name.as_str()))
            .map(|(name, text)| json!([name, if name == RUN_ID { "<run>" } else { text }]))
            .collect();
        let shown = json!({
            "key schema": key_schema, "key": key, "value schema": value_schema, "value": value, "headers": headers
        });
        Ok(serde_json::from_str(
            &shown.to_string().replace(self.prefix, "<prefix>"),
        )?)
    }

    /// The schema's text and what the bytes say by it.
    fn datum(&mut self, bytes: Option<&[u8]>, part: &str) -> anyhow::Result<(Json, Json)> {
        let Some(bytes) = bytes else {
            return Ok((Json::Null, Json::Null));
        };
        let (head, datum) = bytes.split_at_checked(5).context("Confluent's five bytes")?;
        let id = u32::from_be_bytes(head[1..].try_into()?);
        if !self.by_id.contains_key(&id) {
            let text = self.topics.schema_text(id, &format!("{}-{part}", self.topic))?;
            let reader = Reader::new(&text)?;
            self.by_id.insert(id, (text, reader));
        }
        let (text, reader) = self.by_id.get(&id).context("a schema that was just read")?;
        let value = reader
            .read(datum)
            .with_context(|| format!("a {part} of {} by schema {id}", self.topic))?;
        Ok((text.as_str().into(), value))
    }
}

/// Replaces what may differ.
fn settle(value: &mut Json) {
    let snapshot = value["op"] == "r";
    let of_the_snapshot = OF_THE_SNAPSHOT.iter().filter(|_| snapshot);
    let alone = value["op"] == "m" && value["source"]["txId"].is_null();
    let of_the_message = OF_THE_MESSAGE.iter().filter(|_| alone);
    for path in VOLATILE.iter().chain(of_the_snapshot).chain(of_the_message) {
        if let Some(found) = value.pointer_mut(path).filter(|found| !found.is_null()) {
            *found = "<volatile>".into();
        }
    }
    if let Some(counted) = value.get_mut("data_collections").and_then(Json::as_array_mut) {
        counted.retain(|counted| !is_message(counted["data_collection"].as_str().unwrap_or_default()));
    }
}

fn is_message(name: &str) -> bool {
    MESSAGES.iter().any(|messages| name.starts_with(messages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_that_differs_is_named_and_nothing_else() {
        let (theirs, ours) = (
            json!({"a": [1, {"b": 2}], "c": null, "d": "x"}),
            json!({"a": [1, {"b": 3}], "d": "x", "e": 1}),
        );
        let mut found = Vec::new();
        compare("", &theirs, &ours, &mut |path, _, _| found.push(path.to_owned()));
        assert_eq!(found, ["/a/1/b", "/c", "/e"]);
    }

    #[test]
    fn the_position_of_a_streamed_row_is_compared_and_that_of_a_snapshot_is_not() {
        let row = |op: &str| json!({"op": op, "ts_ms": 1, "source": {"lsn": 7, "txId": null}});
        let (mut read, mut created) = (row("r"), row("c"));
        settle(&mut read);
        settle(&mut created);
        assert_eq!(read["source"], json!({"lsn": "<volatile>", "txId": null}));
        assert_eq!(created["source"], row("c")["source"]);
        assert_eq!(created["ts_ms"], "<volatile>");
    }
}
