//! Topics read to their end and decoded without the code under test: the registry is asked by plain HTTP, Avro becomes
//! JSON, and what an aborted transaction left is not seen (`read_committed`).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value as Json;

use crate::debezium::Written;
use crate::stack::Stack;

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const READ_MAX: Duration = Duration::from_secs(120);
/// How long a transaction that has ended may look open. One whose producer is dead stays open for longer.
const DECIDED_MAX: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a topic that was just made may be known without its partitions.
const MADE_MAX: Duration = Duration::from_secs(15);
/// How long the broker may take to answer at all.
const ANSWERED_MAX: Duration = Duration::from_secs(60);

/// A record as it lies in a topic.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key's bytes.
    pub key: Option<Vec<u8>>,
    /// Its value's bytes; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970, if it has a time.
    pub time_ms: Option<i64>,
    /// Its headers as text.
    pub headers: Vec<(String, String)>,
}

impl Record {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// The key as text, for keys that are plain text.
    pub fn key_text(&self) -> String {
        self.key
            .as_deref()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .unwrap_or_default()
    }
}

/// The broker and the registry.
pub struct Topics {
    stack: Stack,
    schemas: RefCell<HashMap<u32, Rc<Schema>>>,
}

/// A transaction that nobody ends.
pub struct OpenTransaction(BaseProducer);

impl OpenTransaction {
    /// Ends it.
    pub fn abort(self) -> anyhow::Result<()> {
        Ok(self.0.abort_transaction(CALL_TIMEOUT)?)
    }
}

impl Topics {
    /// No connection yet.
    pub fn new(stack: &Stack) -> Self {
        Self {
            stack: stack.clone(),
            schemas: RefCell::default(),
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.stack.kafka).set("log_level", "0");
        config
    }

    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        Ok(self
            .config()
            .set("group.id", "syncline-tests-reader")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .create()?)
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(self.config().create()?)
    }

    /// All topics whose names begin with one of `prefixes`.
    pub fn names(&self, prefixes: &[&str]) -> anyhow::Result<Vec<String>> {
        let consumer = self.consumer()?;
        let metadata = patiently(|| consumer.fetch_metadata(None, CALL_TIMEOUT))?;
        let mut names: Vec<String> = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
        names.retain(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        names.sort();
        Ok(names)
    }

    /// Makes a topic.
    pub fn create(&self, topic: &str, partitions: i32) -> anyhow::Result<()> {
        self.create_new(&NewTopic::new(topic, partitions, TopicReplication::Fixed(1)))
    }

    /// Makes a topic that takes no larger records.
    pub fn create_limited(&self, topic: &str, record_bytes_max: u64) -> anyhow::Result<()> {
        let (new, limit) = (
            NewTopic::new(topic, 1, TopicReplication::Fixed(1)),
            record_bytes_max.to_string(),
        );
        self.create_new(&new.set("max.message.bytes", &limit))
    }

    /// Makes a compacted topic.
    pub fn create_compacted(&self, topic: &str, partitions: i32) -> anyhow::Result<()> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        self.create_new(&new.set("cleanup.policy", "compact"))
    }

    fn create_new(&self, new: &NewTopic<'_>) -> anyhow::Result<()> {
        let results = block_on(self.admin()?.create_topics([new], &AdminOptions::new()))??;
        let first = results.into_iter().next().context("an answer for the topic")?;
        first.map(|_| ()).map_err(|(name, code)| anyhow!("{name}: {code}"))
    }

    /// Adds partitions to a topic, so that it has `count`.
    pub fn add_partitions(&self, topic: &str, count: usize) -> anyhow::Result<()> {
        let new = NewPartitions::new(topic, count);
        let results = block_on(self.admin()?.create_partitions([&new], &AdminOptions::new()))??;
        let first = results.into_iter().next().context("an answer for the topic")?;
        first.map(|_| ()).map_err(|(name, code)| anyhow!("{name}: {code}"))
    }

    /// Opens a transaction with a record of nobody's in it, and leaves it open.
    pub fn open_transaction(&self, id: &str, topic: &str) -> anyhow::Result<OpenTransaction> {
        let producer: BaseProducer = self.config().set("transactional.id", id).create()?;
        producer.init_transactions(CALL_TIMEOUT)?;
        producer.begin_transaction()?;
        let record = BaseRecord::<[u8], [u8]>::to(topic).key(b"stranger").payload(b"strange");
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(CALL_TIMEOUT)?;
        Ok(OpenTransaction(producer))
    }

    /// Deletes topics.
    pub fn delete(&self, names: &[String]) -> anyhow::Result<()> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if !names.is_empty() {
            block_on(self.admin()?.delete_topics(&names, &AdminOptions::new()))??;
        }
        Ok(())
    }

    /// Consumer groups whose names begin with `prefix`.
    pub fn groups(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let consumer = self.consumer()?;
        let list = patiently(|| consumer.client().fetch_group_list(None, CALL_TIMEOUT))?;
        let mut names: Vec<String> = list.groups().iter().map(|group| group.name().to_owned()).collect();
        names.retain(|name| name.starts_with(prefix));
        Ok(names)
    }

    /// Deletes consumer groups, and with them their offsets; all members must be gone, for which it waits.
    pub fn delete_groups(&self, names: &[String]) -> anyhow::Result<()> {
        for name in names {
            crate::until(&format!("consumer group {name} to be deleted"), 60, || {
                let results = block_on(self.admin()?.delete_groups(&[name], &AdminOptions::new()))??;
                Ok(results.iter().all(Result::is_ok))
            })?;
        }
        Ok(())
    }

    /// Deletes the records that are in a topic now, as its retention does with those that are old.
    pub fn trim(&self, name: &str) -> anyhow::Result<()> {
        let mut before = TopicPartitionList::new();
        for ((topic, partition), end) in self.ends(&[name.to_owned()])? {
            before.add_partition_offset(&topic, partition, Offset::Offset(end))?;
        }
        block_on(self.admin()?.delete_records(&before, &AdminOptions::new()))??;
        Ok(())
    }

    /// The end of each topic, aborted and open transactions included: it moves when anything at all is written.
    pub fn ends(&self, names: &[String]) -> anyhow::Result<BTreeMap<(String, i32), i64>> {
        let consumer = self.consumer()?;
        let mut ends = BTreeMap::new();
        for name in names {
            for partition in self.partitions(&consumer, name)? {
                let (_, end) = watermarks(&consumer, name, partition)?;
                ends.insert((name.clone(), partition), end);
            }
        }
        Ok(ends)
    }

    fn partitions(&self, consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<i32>> {
        let metadata = patiently(|| consumer.fetch_metadata(Some(topic), CALL_TIMEOUT))?;
        let topic = metadata.topics().first().context("metadata of a topic")?;
        Ok(topic.partitions().iter().map(|partition| partition.id()).collect())
    }

    /// All committed records of a topic, partition by partition; nothing if there is no such topic.
    pub fn read(&self, topic: &str) -> anyhow::Result<Vec<Record>> {
        self.read_from(topic, Offset::Beginning)
    }

    /// The committed records among the last `offsets` offsets of each partition.
    pub fn read_tail(&self, topic: &str, offsets: i64) -> anyhow::Result<Vec<Record>> {
        self.read_from(topic, Offset::OffsetTail(offsets))
    }

    /// Reads up to where the topic ends now, or up to its first open transaction: who writes without a pause would never
    /// let a reader see an end.
    fn read_from(&self, topic: &str, from: Offset) -> anyhow::Result<Vec<Record>> {
        let consumer = self.consumer()?;
        let mut list = TopicPartitionList::new();
        let mut unfinished = BTreeMap::new();
        for (partition, end) in self.written(&consumer, topic)? {
            list.add_partition_offset(topic, partition, from)?;
            unfinished.insert(partition, end);
        }
        consumer.assign(&list)?;
        let mut records = Vec::new();
        let deadline = Instant::now() + READ_MAX;
        while !unfinished.is_empty() {
            match consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => {
                    let end = unfinished.get(&message.partition());
                    if end.is_some_and(|end| message.offset() + 1 >= *end) {
                        unfinished.remove(&message.partition());
                    }
                    records.push(record_of(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unfinished.remove(&partition);
                }
                Some(Err(error)) if !passes(&error) => return Err(error).with_context(|| format!("reading {topic}")),
                _ if Instant::now() > deadline => bail!("{topic} could not be read within {READ_MAX:?}"),
                _ => {}
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// The partitions of a topic that hold something, and their ends. A commit is answered before its markers are written:
    /// what is committed may be undecided to readers for a moment, which is waited for.
    fn written(&self, consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<(i32, i64)>> {
        let mut written = Vec::new();
        let undecided: BaseConsumer = self.config().set("isolation.level", "read_uncommitted").create()?;
        for partition in self.partitions(consumer, topic)? {
            let (_, all) = watermarks(&undecided, topic, partition)?;
            let deadline = Instant::now() + DECIDED_MAX;
            let (start, end) = loop {
                let (start, end) = watermarks(consumer, topic, partition)?;
                if end >= all || Instant::now() > deadline {
                    break (start, end);
                }
                std::thread::sleep(LOOK_EVERY);
            };
            if end > start {
                written.push((partition, end));
            }
        }
        Ok(written)
    }

    /// All committed records of many topics that nobody writes to any more, by topic, partition by partition.
    pub fn read_all(&self, topics: &[String]) -> anyhow::Result<BTreeMap<String, Vec<Record>>> {
        let consumer = self.consumer()?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for (partition, _) in self.written(&consumer, topic)? {
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&list)?;
        let mut all: BTreeMap<String, Vec<Record>> = topics.iter().map(|topic| (topic.clone(), Vec::new())).collect();
        let (mut ended, deadline) = (0, Instant::now() + READ_MAX);
        // The end of a partition is told once, and does not name its topic.
        while ended < list.count() {
            match consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => all
                    .entry(message.topic().to_owned())
                    .or_default()
                    .push(record_of(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) if !passes(&error) => return Err(error).context("reading many topics"),
                _ if Instant::now() > deadline => bail!("{} topics were not read within {READ_MAX:?}", topics.len()),
                _ => {}
            }
        }
        for records in all.values_mut() {
            records.sort_by_key(|record| (record.partition, record.offset));
        }
        Ok(all)
    }

    /// The last record of each key, tombstones included.
    pub fn latest(&self, topic: &str) -> anyhow::Result<BTreeMap<Vec<u8>, Record>> {
        let keyed = |record: Record| Some((record.key.clone()?, record));
        Ok(self.read(topic)?.into_iter().filter_map(keyed).collect())
    }

    /// Writes records without a transaction, as another producer would.
    pub fn write(&self, topic: &str, records: &[Written]) -> anyhow::Result<()> {
        let producer: BaseProducer = self.config().set("enable.idempotence", "true").create()?;
        for (key, value, headers) in records {
            let headers = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(value.as_bytes()),
                })
            });
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(0).headers(headers);
            if let Some(key) = key {
                record = record.key(key);
            }
            if let Some(value) = value {
                record = record.payload(value);
            }
            producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(producer.flush(CALL_TIMEOUT)?)
    }

    /// Avro bytes in Confluent's wire format as JSON: unions show their content, records are objects.
    pub fn json(&self, bytes: &[u8]) -> anyhow::Result<Json> {
        let [0, id @ ..] = bytes.get(..5).context("too short for Confluent's wire format")? else {
            bail!("no Confluent wire format");
        };
        let schema = self.schema(u32::from_be_bytes(id.try_into()?))?;
        let datum = GenericDatumReader::builder(&schema)
            .build()?
            .read_value(&mut &bytes[5..])?;
        Ok(to_json(datum, Some(&schema), &schema))
    }

    fn schema(&self, id: u32) -> anyhow::Result<Rc<Schema>> {
        if let Some(schema) = self.schemas.borrow().get(&id) {
            return Ok(Rc::clone(schema));
        }
        let answer = self.http("GET", &format!("/schemas/ids/{id}"), None)?;
        let text = answer["schema"]
            .as_str()
            .with_context(|| format!("the registry does not know schema {id}"))?;
        let schema = Rc::new(Schema::parse_str(text)?);
        self.schemas.borrow_mut().insert(id, Rc::clone(&schema));
        Ok(schema)
    }

    /// The text under which a schema was registered. Some defaults make the registry refuse to serve by id what it took
    /// by subject, so that is asked next.
    pub fn schema_text(&self, id: u32, subject: &str) -> anyhow::Result<String> {
        let answer = self.http("GET", &format!("/schemas/ids/{id}"), None)?;
        if let Some(text) = answer["schema"].as_str() {
            return Ok(text.to_owned());
        }
        let versions = self.http("GET", &format!("/subjects/{subject}/versions"), None)?;
        for version in versions.as_array().map(Vec::as_slice).unwrap_or_default() {
            let registered = self.http("GET", &format!("/subjects/{subject}/versions/{version}"), None)?;
            if let (Some(text), true) = (registered["schema"].as_str(), registered["id"] == id) {
                return Ok(text.to_owned());
            }
        }
        bail!("the registry does not know schema {id} of {subject}: {answer}")
    }

    /// Registers a schema and gives its id.
    pub fn register(&self, subject: &str, schema: &str) -> anyhow::Result<u32> {
        let body = serde_json::json!({ "schema": schema }).to_string();
        let answer = self.http("POST", &format!("/subjects/{subject}/versions"), Some(&body))?;
        let id = answer["id"]
            .as_u64()
            .with_context(|| format!("{subject} was not registered: {answer}"))?;
        Ok(u32::try_from(id)?)
    }

    fn http(&self, method: &str, path: &str, body: Option<&str>) -> anyhow::Result<Json> {
        let content_type = "application/vnd.schemaregistry.v1+json";
        crate::http::call(&self.stack.registry, method, path, content_type, body)
    }
}

/// Where a partition begins and ends.
fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
    let (made_by, answered_by) = (Instant::now() + MADE_MAX, Instant::now() + ANSWERED_MAX);
    loop {
        match consumer.fetch_watermarks(topic, partition, CALL_TIMEOUT) {
            // A broker's partitions come one by one, and each has its leader a little later.
            Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable,
            )) if Instant::now() < made_by => {
                std::thread::sleep(LOOK_EVERY);
            }
            Err(error) if passes(&error) && Instant::now() < answered_by => std::thread::sleep(LOOK_EVERY),
            found => return Ok(found?),
        }
    }
}

/// Asks until there is an answer, as long as the judge has time.
fn patiently<T>(ask: impl Fn() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let deadline = Instant::now() + ANSWERED_MAX;
    loop {
        match ask() {
            Err(error) if passes(&error) && Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            answered => return answered,
        }
    }
}

/// The judge has time: a busy broker, which may let go of a line, is no loss, and the client comes to it again.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut};
    let code = error.rdkafka_error_code();
    matches!(code, Some(OperationTimedOut | AllBrokersDown | BrokerTransportFailure))
}

fn record_of(message: &BorrowedMessage<'_>) -> Record {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        time_ms: message.timestamp().to_millis(),
        headers: message.headers().map(headers_of).unwrap_or_default(),
    }
}

fn headers_of(headers: &rdkafka::message::BorrowedHeaders) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|header| {
            let value = header.value.map(|value| String::from_utf8_lossy(value).into_owned());
            (header.key.to_owned(), value.unwrap_or_default())
        })
        .collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future))
}

/// The schema goes along for the scale of decimals, which their bytes do not have.
fn to_json(value: Avro, schema: Option<&Schema>, root: &Schema) -> Json {
    let schema = match schema {
        Some(Schema::Ref { name }) => named(root, &name.fullname(None)),
        schema => schema,
    };
    match (value, schema) {
        (Avro::Null, _) => Json::Null,
        (Avro::Boolean(value), _) => value.into(),
        (Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value), _) => value.into(),
        (Avro::Long(value) | Avro::TimeMicros(value), _) => value.into(),
        (Avro::TimestampMillis(value) | Avro::TimestampMicros(value), _) => value.into(),
        (Avro::Float(value), _) => value.into(),
        (Avro::Double(value), _) => value.into(),
        (Avro::String(text) | Avro::Enum(_, text), _) => text.into(),
        (Avro::Bytes(bytes) | Avro::Fixed(_, bytes), _) => hex(&bytes).into(),
        (Avro::Decimal(decimal), Some(Schema::Decimal(kind))) => {
            Vec::<u8>::try_from(&decimal).map_or(Json::Null, |bytes| decimal_text(&bytes, kind.scale).into())
        }
        (Avro::Union(index, value), Some(Schema::Union(union))) => to_json(
            *value,
            union.variants().get(usize::try_from(index).unwrap_or_default()),
            root,
        ),
        (Avro::Array(values), Some(Schema::Array(array))) => values
            .into_iter()
            .map(|value| to_json(value, Some(&array.items), root))
            .collect(),
        (Avro::Record(fields), Some(Schema::Record(record))) => fields
            .into_iter()
            .zip(&record.fields)
            .map(|((name, value), field)| (name, to_json(value, Some(&field.schema), root)))
            .collect(),
        (Avro::Map(entries), _) => entries
            .into_iter()
            .map(|(name, value)| (name, to_json(value, None, root)))
            .collect(),
        (other, _) => format!("{other:?}").into(),
    }
}

/// The record of that name, which a schema defines once and then refers to.
pub(crate) fn named<'a>(schema: &'a Schema, name: &str) -> Option<&'a Schema> {
    match schema {
        Schema::Record(record) if record.name.fullname(None) == name => Some(schema),
        Schema::Record(record) => record.fields.iter().find_map(|field| named(&field.schema, name)),
        Schema::Union(union) => union.variants().iter().find_map(|variant| named(variant, name)),
        Schema::Array(array) => named(&array.items, name),
        _ => None,
    }
}

/// Big-endian two's complement with so many digits after the point; more than 16 bytes do not occur in tests.
fn decimal_text(bytes: &[u8], scale: usize) -> String {
    let start = if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        -1
    } else {
        0
    };
    let unscaled = bytes
        .iter()
        .fold(start, |number: i128, byte| number << 8 | i128::from(*byte));
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    format!("{sign}{whole}.{fraction}")
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_shown_without_trailing_zeros() {
        assert_eq!(decimal_text(&[0x01, 0x86, 0xA0], 2), "1000");
        assert_eq!(decimal_text(&[0x0F, 0xA1], 2), "40.01");
        assert_eq!(decimal_text(&[0xFF], 2), "-0.01");
    }
}
