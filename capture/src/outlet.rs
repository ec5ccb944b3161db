//! The way out: rows, marks and progress to Kafka, together or, at least once, progress last.
//!
//! *Exactly once*: one Kafka transaction holds the rows and the progress record that says they are there. *At least once*:
//! the progress record follows when all rows are acknowledged. Either way [`Outlet::commit`] returns only when what it
//! says is known to be durable; any other outcome is a failure and this object is at its end.

use std::collections::HashMap;
use std::fmt::Write as _;

use syncline_bus::{OutRecord, Producer, Registry};
use syncline_runtime::{Failure, Outcome, failpoint, telemetry};
use syncline_schemas::codec::Wire;
use syncline_schemas::dead_letter::DeadLetter;
use syncline_schemas::envelope::POSITION_HEADER;
use syncline_schemas::pipeline::Delivery;
use syncline_schemas::pipeline::care::OnPoison;
use syncline_schemas::progress::{MarkRecord, Progress};
use syncline_schemas::table_record::TableRecord;
use syncline_schemas::topic;

use crate::companions::Companion;
use crate::config::SourceConfig;
use crate::known::Known;
use crate::poison::{Refused, TooLarge};
use crate::records::{Entry, MarkEntry, Note, Records};

/// What the protocol adds to key, value and the headers that are always the same.
const RECORD_OVERHEAD_BYTES: usize = 2_048;

/// Writes to Kafka.
pub struct Outlet {
    producer: Producer,
    transactions: bool,
    open: bool,
    slot: String,
    progress_topic: String,
    progress_id: u32,
    marks_topic: String,
    marks_id: u32,
    tables_topic: String,
    tables_id: u32,
    /// Topic and schema id of dead letters, if there can be any.
    letters: Option<(String, u32)>,
    record_bytes_max: usize,
    refused: Refused,
    context: Vec<(&'static str, String)>,
    companions: HashMap<Companion, Addressed>,
    /// The batch's span and the headers that carry it on; empty unless traces are exported.
    batch: Option<tracing::Span>,
    trace: Vec<(String, String)>,
    /// The text of a row's position; it is here so that its memory is taken once.
    position: String,
    rows: u64,
    bytes: u64,
}

/// Where the records of a companion go, and the ids of their schemas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// The topic.
    pub topic: String,
    /// Id of the key's schema.
    pub key_id: u32,
    /// Id of the value's schema.
    pub value_id: u32,
}

/// A record that the broker has refused for its size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{topic} at {position}, {value_bytes} bytes")]
pub struct Unsendable {
    /// Its topic.
    pub topic: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Length of its value.
    pub value_bytes: usize,
    /// Where its change stands in the log.
    pub position: String,
}

/// What is in the open batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Records of rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl Outlet {
    /// Opens the way out; whoever wrote for this source before is fenced, and what it left open is aborted.
    /// Records that are known to be `refused` are not sent.
    pub fn open(config: &SourceConfig, registry: &Registry, refused: Refused) -> Outcome<Self> {
        let progress_topic = topic::progress(&config.prefix);
        let marks_topic = topic::marks(&config.prefix);
        let progress_id = registry.register(&topic::value_subject(&progress_topic), Progress::schema_json())?;
        let marks_id = registry.register(&topic::value_subject(&marks_topic), MarkRecord::schema_json())?;
        let tables_topic = topic::tables(&config.prefix);
        let tables_id = registry.register(&topic::value_subject(&tables_topic), TableRecord::schema_json())?;
        // A later attempt reads these topics, perhaps while the registry is away.
        for id in [progress_id, tables_id] {
            registry.schema(id)?;
        }
        let letters =
            (config.care.on_poison == OnPoison::DeadLetter).then(|| topic::capture_dead_letters(&config.prefix));
        let letters = letters.map(|topic| {
            let id = registry.register(&topic::value_subject(&topic), DeadLetter::schema_json())?;
            Ok((topic, id))
        });
        let letters = letters.transpose()?;
        failpoint::check("capture.in_init")?;
        let transactions = config.delivery == Delivery::ExactlyOnce;
        let producer = match transactions {
            true => Producer::transactional(&config.bus, &config.transactional_id())?,
            false => Producer::idempotent(&config.bus)?,
        };
        Ok(Self {
            producer,
            transactions,
            open: false,
            slot: config.slot.clone(),
            progress_topic,
            progress_id,
            marks_topic,
            marks_id,
            tables_topic,
            tables_id,
            letters,
            record_bytes_max: usize::try_from(config.bus.record_bytes_max())
                .unwrap_or(usize::MAX)
                .saturating_sub(RECORD_OVERHEAD_BYTES),
            refused,
            context: match config.form.extended_headers {
                true => context(&config.prefix),
                false => Vec::new(),
            },
            companions: HashMap::new(),
            batch: None,
            trace: Vec::new(),
            position: String::new(),
            rows: 0,
            bytes: 0,
        })
    }

    /// Whether something has been sent since the last commit.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether readers see what was sent only after the commit.
    pub fn hides_rows(&self) -> bool {
        self.transactions
    }

    /// How much has been sent since the last commit.
    pub fn load(&self) -> Load {
        Load {
            rows: self.rows,
            bytes: self.bytes,
        }
    }

    fn begin(&mut self) -> Outcome<()> {
        if self.open {
            return Ok(());
        }
        if self.transactions {
            self.producer.begin()?;
        }
        (self.open, self.rows, self.bytes) = (true, 0, 0);
        let batch = tracing::info_span!("capture.batch", slot = self.slot);
        self.trace = batch.in_scope(telemetry::inject);
        self.batch = Some(batch);
        failpoint::check("capture.after_begin")
    }

    /// Sends the records.
    pub fn send(&mut self, records: &Records) -> Outcome<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.begin()?;
        for entry in records.rows() {
            self.position.clear();
            let _ = write!(self.position, "{}", entry.position);
            let record = OutRecord {
                topic: &entry.registered.table.topic,
                partition: None,
                key: records.slice(&entry.key),
                value: records.slice(&entry.value),
                headers: &entry.headers(&self.context, &self.trace, &self.position),
                timestamp_ms: None,
            };
            self.producer.send(&record)?;
            self.rows += 1;
            self.bytes += record.bytes() as u64;
            failpoint::check("capture.mid_produce")?;
        }
        records.marks().iter().try_for_each(|mark| self.send_mark(mark))?;
        records
            .notes()
            .iter()
            .try_for_each(|note| self.send_note(records, note))
    }

    /// The first of the records of rows that Kafka does not take, as far as one can tell beforehand.
    pub fn too_large(&self, records: &Records) -> Option<TooLarge> {
        records
            .rows()
            .iter()
            .find_map(|entry| self.is_too_large(records, entry))
    }

    fn is_too_large(&self, records: &Records, entry: &Entry) -> Option<TooLarge> {
        let (key, value) = (records.slice(&entry.key), records.slice(&entry.value));
        let value_bytes = value.map_or(0, <[u8]>::len);
        let said = entry
            .mark
            .iter()
            .chain(&entry.unsaid)
            .map(|text| text.len())
            .sum::<usize>();
        let bytes = key.map_or(0, <[u8]>::len) + value_bytes;
        let refused = self.refused.has(&entry.registered.table.topic, key, value_bytes);
        (refused || bytes + said > self.record_bytes_max).then(|| TooLarge {
            table: entry.registered.table.full_name(),
            position: entry.position,
            bytes,
            refused,
        })
    }

    /// The records that the broker has refused: why this object is at its end.
    pub fn refused(&self) -> Vec<Unsendable> {
        let position = |headers: &[(String, Vec<u8>)]| {
            let found = headers.iter().find(|(name, _)| name == POSITION_HEADER);
            found.map_or_else(String::new, |(_, text)| String::from_utf8_lossy(text).into_owned())
        };
        let refused = self.producer.refused().into_iter();
        refused
            .map(|record| Unsendable {
                position: position(&record.headers),
                topic: record.topic,
                key: record.key,
                value_bytes: record.value_bytes,
            })
            .collect()
    }

    /// Sends a dead letter.
    pub fn send_letter(&mut self, letter: &DeadLetter) -> Outcome<()> {
        self.begin()?;
        let Some((topic, id)) = &self.letters else {
            return Err(Failure::definite(
                "DEAD_LETTERS_CLOSED",
                "dead letters were not asked for",
            ));
        };
        let value = letter.encode(*id);
        self.bytes += value.len() as u64;
        self.producer.send(&plain(topic, letter.table.as_bytes(), &value))
    }

    /// The first of the companions in `records` that has no address yet: [`Outlet::address`] it, or it cannot be sent.
    pub fn unaddressed(&self, records: &Records) -> Option<Companion> {
        let mut companions = records.notes().iter().map(|note| note.companion);
        companions.find(|companion| !self.companions.contains_key(companion))
    }

    /// Takes note of where a companion's records go.
    pub fn address(&mut self, companion: Companion, addressed: Addressed) {
        self.companions.insert(companion, addressed);
    }

    fn send_note(&mut self, records: &Records, note: &Note) -> Outcome<()> {
        let Some(addressed) = self.companions.get(&note.companion) else {
            let text = format!("the topic of a {:?} record is not known yet", note.companion);
            return Err(Failure::transient("COMPANION_UNKNOWN", text));
        };
        let key = framed(addressed.key_id, records.slice(&Some(note.key.clone())));
        let value = framed(addressed.value_id, records.slice(&Some(note.value.clone())));
        self.bytes += (key.len() + value.len()) as u64;
        self.producer.send(&plain(&addressed.topic, &key, &value))
    }

    /// Sends a record to the marks topic.
    pub fn send_mark(&mut self, mark: &MarkEntry) -> Outcome<()> {
        self.begin()?;
        let value = mark.record.encode(self.marks_id);
        self.producer
            .send(&plain(&self.marks_topic, mark.key.as_bytes(), &value))
    }

    /// Sends what is newly known of the tables.
    pub fn send_known(&mut self, known: &Known) -> Outcome<()> {
        for record in known.unsaid() {
            self.begin()?;
            let key = TableRecord::key(&record.slot, &record.table);
            let value = record.encode(self.tables_id);
            self.producer.send(&plain(&self.tables_topic, key.as_bytes(), &value))?;
        }
        Ok(())
    }

    /// Makes everything sent durable together with `progress`. `Ok` means known good.
    pub fn commit(&mut self, progress: &Progress) -> Outcome<()> {
        self.begin()?;
        if !self.transactions {
            self.producer.flush()?;
        }
        let value = progress.encode(self.progress_id);
        self.producer
            .send(&plain(&self.progress_topic, self.slot.as_bytes(), &value))?;
        failpoint::check("capture.after_progress")?;
        failpoint::check("capture.before_commit")?;
        match self.transactions {
            true => self.producer.commit()?,
            false => self.producer.flush()?,
        }
        (self.open, self.rows, self.bytes) = (false, 0, 0);
        self.batch = None;
        failpoint::check("capture.after_commit")
    }

    /// Gives up what has not been committed. (Left open, it would hold up the readers until the broker's patience ends.)
    pub fn abandon(self) {
        self.producer.abort();
    }
}

/// The bytes behind the frame that names their schema.
fn framed(id: u32, bytes: Option<&[u8]>) -> Vec<u8> {
    let bytes = bytes.unwrap_or_default();
    let mut out = Vec::with_capacity(5 + bytes.len());
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

fn plain<'a>(topic: &'a str, key: &'a [u8], value: &'a [u8]) -> OutRecord<'a> {
    OutRecord {
        topic,
        partition: None,
        key: Some(key),
        value: Some(value),
        headers: &[],
        timestamp_ms: None,
    }
}

/// Debezium's headers that are the same for every record of a run.
fn context(prefix: &str) -> Vec<(&'static str, String)> {
    vec![
        ("__debezium.context.connectorLogicalName", prefix.to_owned()),
        ("__debezium.context.taskId", "0".to_owned()),
        ("__debezium.context.connectorName", "postgresql".to_owned()),
        ("__debezium.context.runId", uuid::Uuid::now_v7().to_string()),
    ]
}
