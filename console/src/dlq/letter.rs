//! Pure: what a stage refused, and which of it has one cause.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use syncline_bus::InRecord;
use syncline_schemas::action::letter_subject;

use crate::tail::time_of_ms;

/// Which stage refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// A change that cannot be mapped.
    Map,
    /// A word that cannot be merged, or an agreed record that cannot be written.
    Merge,
    /// An agreed record that a target refused.
    Sink,
}

impl Stage {
    /// All of them, in the order of a record's way.
    pub const ALL: [Stage; 3] = [Stage::Map, Stage::Merge, Stage::Sink];

    /// The word for it, which is also that of its topic.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Map => "map",
            Stage::Merge => "merge",
            Stage::Sink => "sink",
        }
    }
}

/// A record's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// Something that was refused and still stands.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// By which stage.
    pub stage: Stage,
    /// By which target.
    pub target: Option<String>,
    /// Why; no values of rows.
    pub reason: String,
    /// The record that was refused; none if it was none of a topic.
    pub from: Option<Place>,
    /// Its letter; none as long as the sink has not sent it.
    pub letter: Option<Place>,
    /// When the letter was written, milliseconds since 1970.
    pub at_ms: Option<i64>,
    /// Entity and entity id under which a target has parked it.
    pub parked: Option<(String, String)>,
}

/// Everything that was refused for one cause.
#[derive(Debug, Serialize)]
pub struct Cause {
    /// Names it: the same for the same cause.
    pub cause: String,
    /// How many records.
    pub count: usize,
    /// The stage.
    pub stage: Stage,
    /// The target.
    pub target: Option<String>,
    /// The topic that the records are of.
    pub topic: Option<String>,
    /// Since when.
    pub since: Option<String>,
    /// Why.
    pub reason: String,
}

impl Place {
    /// As an action names it.
    pub fn subject(&self) -> String {
        letter_subject(&self.topic, self.partition, self.offset)
    }
}

impl Refused {
    /// A letter, read from the topic of its stage.
    pub fn of(stage: Stage, record: &InRecord) -> Self {
        let header = |name: &str| {
            record
                .header(name)
                .map(|text| String::from_utf8_lossy(text).into_owned())
        };
        let number = |name: &str| header(name).and_then(|text| text.parse().ok());
        let from = header("syncline.topic").and_then(|topic| {
            Some(Place {
                topic,
                partition: i32::try_from(number("syncline.partition")?).ok()?,
                offset: number("syncline.offset")?,
            })
        });
        Self {
            stage,
            target: header("syncline.target"),
            reason: header("syncline.reason").unwrap_or_default(),
            from,
            letter: Some(Place {
                topic: record.topic.clone(),
                partition: record.partition,
                offset: record.offset,
            }),
            at_ms: Some(record.timestamp_ms),
            parked: None,
        }
    }

    /// The name of its cause.
    pub fn cause(&self) -> String {
        let topic = self.from.as_ref().map_or("", |place| place.topic.as_str());
        let alike = [
            self.stage.word(),
            self.target.as_deref().unwrap_or_default(),
            topic,
            self.reason.as_str(),
        ];
        let digest = Sha256::digest(alike.join("\n").as_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The causes, the most frequent first.
pub fn causes(refused: &[Refused]) -> Vec<Cause> {
    let mut alike: BTreeMap<String, Vec<&Refused>> = BTreeMap::new();
    for one in refused {
        alike.entry(one.cause()).or_default().push(one);
    }
    let mut causes: Vec<Cause> = alike
        .into_iter()
        .filter_map(|(name, alike)| cause(name, &alike))
        .collect();
    causes.sort_by_key(|cause| (cause.stage, std::cmp::Reverse(cause.count), cause.cause.clone()));
    causes
}

fn cause(name: String, alike: &[&Refused]) -> Option<Cause> {
    let first = alike.first()?;
    let since = alike.iter().filter_map(|one| one.at_ms).min();
    Some(Cause {
        cause: name,
        count: alike.len(),
        stage: first.stage,
        target: first.target.clone(),
        topic: first.from.as_ref().map(|place| place.topic.clone()),
        since: since.map(time_of_ms),
        reason: first.reason.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64, reason: &str) -> InRecord {
        let headers = [
            ("syncline.reason", reason.to_owned()),
            ("syncline.topic", "shop.public.t".to_owned()),
            ("syncline.partition", "1".to_owned()),
            ("syncline.offset", (offset * 10).to_string()),
        ];
        InRecord {
            topic: "p.dlq.map".to_owned(),
            partition: 0,
            offset,
            timestamp_ms: 100 - offset,
            key: None,
            value: None,
            headers: headers.map(|(name, text)| (name.to_owned(), text.into_bytes())).into(),
        }
    }

    #[test]
    fn letters_of_one_cause_are_one_line() {
        let letters =
            [(1, "a"), (2, "a"), (3, "b")].map(|(offset, reason)| Refused::of(Stage::Map, &letter(offset, reason)));
        let causes = causes(&letters);
        assert_eq!(
            causes
                .iter()
                .map(|cause| (cause.count, cause.reason.as_str()))
                .collect::<Vec<_>>(),
            [(2, "a"), (1, "b")]
        );
        assert_eq!(
            causes[0].since.as_deref(),
            Some("1970-01-01T00:00:00.098Z"),
            "the oldest"
        );
        assert_eq!(
            letters[0].from.as_ref().map(|from| (from.partition, from.offset)),
            Some((1, 10))
        );
        assert_eq!(
            letters[0].letter.as_ref().map(Place::subject).as_deref(),
            Some("p.dlq.map/0/1")
        );
    }

    #[test]
    fn a_letter_of_no_record_has_no_place() {
        let record = InRecord {
            headers: Vec::new(),
            ..letter(1, "")
        };
        assert_eq!(Refused::of(Stage::Merge, &record).from, None);
    }
}
