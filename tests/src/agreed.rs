//! What was agreed and what was decided, as a test wants to compare it: short texts.

use anyhow::Context as _;
use serde_json::Value as Json;
use syncline_schemas::position::Position;

use crate::kafka::{Record, Topics};

/// A canonical record.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// Entity id.
    pub cid: String,
    /// Where it lies in its topic.
    pub place: (i32, i64),
    /// The whole record.
    pub json: Json,
}

impl Agreed {
    /// Decodes a record of a canonical topic.
    pub fn of(topics: &Topics, record: &Record) -> anyhow::Result<Self> {
        let json = topics.json(record.value.as_deref().context("a canonical record has a value")?)?;
        Ok(Self {
            cid: record.key_text(),
            place: (record.partition, record.offset),
            json,
        })
    }

    /// A field: text and numbers bare, lists with commas, null as `-`, a field that nobody spoke of as `?`.
    pub fn show(&self, field: &str) -> String {
        if list(&self.json["unsaid"]).iter().any(|unsaid| unsaid == field) {
            return "?".to_owned();
        }
        show(&self.json["value"][field])
    }

    /// Several fields, separated by `|`.
    pub fn shows(&self, fields: &[&str]) -> String {
        fields
            .iter()
            .map(|field| self.show(field))
            .collect::<Vec<_>>()
            .join("|")
    }

    /// Fields that wait for a person.
    pub fn held(&self) -> Vec<String> {
        list(&self.json["held"])
    }

    /// Whether the entity is gone.
    pub fn deleted(&self) -> bool {
        self.json["deleted"] == true
    }

    /// Up to where it knows the log of `source`.
    pub fn position(&self, source: &str) -> Option<Position> {
        let entries = self.json["vector"].as_array()?;
        let entry = entries.iter().find(|entry| entry["source"] == source)?;
        entry["position"].as_str()?.parse().ok()
    }

    /// Whether it knows everything `source` had committed when its log was written up to `lsn`.
    ///
    /// A commit ends after the log's end before it, so a change made later than `lsn` has a greater position.
    pub fn knows(&self, source: &str, lsn: u64) -> bool {
        self.position(source).is_some_and(|position| position.lsn.0 > lsn)
    }
}

/// A conflict record.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The whole record.
    pub json: Json,
}

impl Decided {
    /// Decodes a record of a conflict topic.
    pub fn of(topics: &Topics, record: &Record) -> anyhow::Result<Self> {
        Ok(Self {
            json: topics.json(record.value.as_deref().context("a conflict record has a value")?)?,
        })
    }

    /// `open`, `settled` or `closed`.
    pub fn status(&self) -> &str {
        self.json["status"].as_str().unwrap_or_default()
    }

    /// Name of the strategy.
    pub fn strategy(&self) -> &str {
        self.json["strategy"].as_str().unwrap_or_default()
    }

    /// Where the rule stands.
    pub fn rule(&self) -> &str {
        self.json["rule"].as_str().unwrap_or_default()
    }

    /// The source whose word won, `-` if none.
    pub fn winner(&self) -> &str {
        self.json["winner"].as_str().unwrap_or("-")
    }

    /// The agreed value.
    pub fn outcome(&self) -> String {
        value(&self.json["outcome"])
    }

    /// What the field held before.
    pub fn base(&self) -> String {
        value(&self.json["base"])
    }

    /// The sentence for a person.
    pub fn note(&self) -> &str {
        self.json["note"].as_str().unwrap_or_default()
    }

    /// `source=value` of each candidate, in the order of names.
    pub fn candidates(&self) -> String {
        let all = self.json["candidates"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let one = |candidate: &Json| format!("{}={}", show(&candidate["source"]), value(&candidate["value"]));
        all.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

/// A value that stands in the record as its JSON text.
fn value(json: &Json) -> String {
    match json.as_str().map(serde_json::from_str::<Json>) {
        Some(Ok(inner)) => show(&inner),
        _ => show(json),
    }
}

/// Texts and numbers bare, lists sorted and with commas, null as `-`.
pub fn show(json: &Json) -> String {
    match json {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(_) => {
            let mut all = list(json);
            all.sort();
            all.join(",")
        }
        other => other.to_string(),
    }
}

fn list(json: &Json) -> Vec<String> {
    json.as_array()
        .map(|all| all.iter().map(show).collect())
        .unwrap_or_default()
}
