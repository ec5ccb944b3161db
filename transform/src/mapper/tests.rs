//! Children and their parents, read in any order, with crashes in between: a store on disk and no Kafka. What a batch has
//! written counts once it is settled, as it does once Kafka has committed it; a crash forgets everything else and reads on
//! from there.

use std::path::Path;

use syncline_bus::consumer::TopicPartition;
use syncline_schemas::mapped::RowKey;
use syncline_schemas::value::Value;

use super::*;

const PIPELINE: &str = r#"
pipeline: p
defaults: { kafka: "k:9092", registry: "http://r" }
systems:
  shop: { capture: debezium, topic_prefix: shop }
entities:
  customer: { schema: customer.avsc@1, fields: { email: latest }, match: [ { same: [email] } ] }
  order:
    schema: order.avsc@1
    fields: { customer: latest, note: latest, parent: latest }
    references: { customer: required, parent: { entity: order, required: false, deferred: true } }
  line: { schema: order.avsc@1, fields: { note: latest, parent: latest }, references: { parent: { entity: order } } }
  part: { schema: order.avsc@1, fields: { note: latest, parent: latest }, references: { parent: { entity: line } } }
links:
  shop.customers -> customer: { key: id, email: email }
  shop.orders -> order: { key: id, customer: customer_id, note: note, parent: parent_id }
  shop.lines -> line: { key: id, note: note, parent: parent_id }
  shop.parts -> part: { key: id, note: note, parent: parent_id }
"#;
const CUSTOMER: &str =
    r#"{"type":"record","name":"Customer","fields":[{"name":"email","type":["null","string"],"default":null}]}"#;
const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"customer","type":["null","string"],"default":null},{"name":"note","type":["null","string"],"default":null},
    {"name":"parent","type":["null","string"],"default":null}]}"#;
const CUSTOMERS: &str = "shop.public.customers";
const ORDERS: &str = "shop.public.orders";
const LINES: &str = "shop.public.lines";
const PARTS: &str = "shop.public.parts";
const CUSTOMER_CHANGE: &str = r#"{"type":"record","name":"Envelope","namespace":"c","fields":[
    {"name":"after","type":["null",{"type":"record","name":"Value","fields":[
        {"name":"id","type":"long"},{"name":"email","type":"string"}]}]},
    {"name":"source","type":{"type":"record","name":"Source","fields":[
        {"name":"lsn","type":"long"},{"name":"ts_us","type":"long"}]}},
    {"name":"op","type":"string"}]}"#;
const ORDER_CHANGE: &str = r#"{"type":"record","name":"Envelope","namespace":"o","fields":[
    {"name":"after","type":["null",{"type":"record","name":"Value","fields":[
        {"name":"id","type":"long"},{"name":"customer_id","type":["null","long"]},{"name":"note","type":"string"},
        {"name":"parent_id","type":["null","long"]}]}]},
    {"name":"source","type":{"type":"record","name":"Source","fields":[
        {"name":"lsn","type":"long"},{"name":"ts_us","type":"long"}]}},
    {"name":"op","type":"string"}]}"#;
/// Registered under their place here, from 1.
fn known() -> [&'static str; 5] {
    [
        MappedRecord::schema_json(),
        Crosswalk::schema_json(),
        Waiting::schema_json(),
        CUSTOMER_CHANGE,
        ORDER_CHANGE,
    ]
}

const PARTITIONS: i32 = 2;
/// So long does a child wait, as the file does not say.
const WAIT_MS: i64 = 600_000;

fn id(json: &str) -> u32 {
    let at = known().iter().position(|other| *other == json).unwrap();
    u32::try_from(at + 1).unwrap()
}

fn pipeline() -> Pipeline {
    let files = |name: &str| match name {
        "customer.avsc" => Ok(CUSTOMER.to_owned()),
        "order.avsc" => Ok(ORDER.to_owned()),
        _ => Err("no such file".to_owned()),
    };
    syncline_schemas::pipeline::parse("p.yaml", PIPELINE, &|_| None, &files)
        .unwrap_or_else(|problems| panic!("{}", problems.iter().map(ToString::to_string).collect::<String>()))
}

fn places() -> Vec<TopicPartition> {
    let of = |topic: &'static str| (0..PARTITIONS).map(move |partition| (topic.to_owned(), partition));
    [CUSTOMERS, ORDERS, LINES, PARTS].into_iter().flat_map(of).collect()
}

impl Mapper {
    /// Over this store, with all partitions.
    fn over(directory: &Path) -> Self {
        let pipeline = Arc::new(pipeline());
        let mut routes: HashMap<String, Vec<Arc<Route>>> = HashMap::new();
        for link in &pipeline.links {
            let route = Route::new(&pipeline, link, |_, json| Ok(id(json))).unwrap().unwrap();
            let topic = topic::capture("shop", &link.schema, &link.table);
            routes.entry(topic).or_default().push(Arc::new(route));
        }
        let known: Vec<(u32, &str)> = known().into_iter().map(|json| (id(json), json)).collect();
        let shards = routes.values().flatten();
        let shards = shards.flat_map(|route| (0..PARTITIONS).flat_map(move |partition| route.shards(partition)));
        let mut mapper = Self {
            shards: shards.collect(),
            routes,
            marks: BTreeMap::new(),
            dead_letters: "p.dlq.map".into(),
            schemas: Schemas::of(&known),
            store: DiskStore::open(directory).unwrap(),
            unread: 0,
            guards: None,
            clocks: Clocks::default(),
            followed: Followed::new(&pipeline),
            room: WaitingRoom::default(),
            pipeline,
        };
        mapper.take_up(&places()).unwrap();
        mapper
    }
}

fn long(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = u64::try_from(number).unwrap() << 1;
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7F).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    long(bytes, i64::try_from(text.len()).unwrap());
    bytes.extend_from_slice(text.as_bytes());
}

fn nullable(bytes: &mut Vec<u8>, number: Option<i64>) {
    long(bytes, i64::from(number.is_some()));
    number.into_iter().for_each(|number| long(bytes, number));
}

/// The topics, partition by partition.
#[derive(Default)]
struct Log {
    records: BTreeMap<TopicPartition, Vec<InRecord>>,
    lsn: i64,
}

impl Log {
    fn push(&mut self, topic: &str, row: i64, at_ms: i64, schema: &str, columns: impl FnOnce(&mut Vec<u8>)) {
        self.lsn += 1;
        let mut value = syncline_schemas::codec::frame(id(schema));
        long(&mut value, 1);
        columns(&mut value);
        [self.lsn, at_ms * 1000]
            .into_iter()
            .for_each(|number| long(&mut value, number));
        text(&mut value, "c");
        let partition = i32::try_from(row % i64::from(PARTITIONS)).unwrap();
        let records = self.records.entry((topic.to_owned(), partition)).or_default();
        records.push(InRecord {
            topic: topic.to_owned(),
            partition,
            offset: i64::try_from(records.len()).unwrap(),
            timestamp_ms: at_ms,
            key: None,
            value: Some(value),
            headers: Vec::new(),
        });
    }

    fn customer(&mut self, row: i64, at_ms: i64) {
        self.push(CUSTOMERS, row, at_ms, CUSTOMER_CHANGE, |value| {
            long(value, row);
            text(value, &format!("c{row}@x"));
        });
    }

    fn order(&mut self, row: i64, customer: Option<i64>, note: &str, parent: Option<i64>) {
        self.like_an_order(ORDERS, row, customer, note, parent);
    }

    fn like_an_order(&mut self, topic: &str, row: i64, customer: Option<i64>, note: &str, parent: Option<i64>) {
        self.push(topic, row, 1_000, ORDER_CHANGE, |value| {
            long(value, row);
            nullable(value, customer);
            text(value, note);
            nullable(value, parent);
        });
    }

    /// Customers 0 to 3 in time, 4 too late, and none 5; orders of all of them, and orders that belong to each other.
    fn of_a_shop() -> Self {
        let mut log = Self::default();
        (0..4).for_each(|row| log.customer(row, 2_000));
        log.customer(4, 1_000 + WAIT_MS + 1);
        for row in 0..4 {
            log.order(row, Some(row), "first", None);
            log.order(row, Some((row + 1) % 4), "another customer", None);
        }
        log.order(4, Some(4), "too late", None);
        log.order(5, Some(5), "nobody's", None);
        log.order(5, Some(0), "put right", None);
        log.order(6, None, "required", None);
        log.order(7, Some(1), "they refer to each other", Some(8));
        log.order(8, Some(2), "they refer to each other", Some(7));
        log.order(9, Some(3), "to itself", Some(9));
        log
    }
}

/// What went out: by topic and key, every value in order.
type Out = BTreeMap<(String, Vec<u8>), Vec<Vec<u8>>>;

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// A run over the log: which partition is read next, how much of it, and whether it crashes before that is settled.
struct Run<'a> {
    log: &'a Log,
    directory: &'a Path,
    mapper: Option<Mapper>,
    next: BTreeMap<TopicPartition, usize>,
    out: Out,
}

impl<'a> Run<'a> {
    fn new(log: &'a Log, directory: &'a Path) -> Self {
        Self {
            log,
            directory,
            mapper: Some(Mapper::over(directory)),
            next: BTreeMap::new(),
            out: Out::new(),
        }
    }

    fn mapper(&mut self) -> &mut Mapper {
        self.mapper.as_mut().unwrap()
    }

    fn crash(&mut self) {
        self.mapper = None;
        self.mapper = Some(Mapper::over(self.directory));
    }

    /// Reads up to so many records of each of these partitions in one batch.
    fn batch(&mut self, reads: &[(TopicPartition, usize)], crashes: bool) {
        let log = self.log;
        let mut next = self.next.clone();
        let mut work = Work::default();
        self.mapper().release(&mut work).unwrap();
        for (place, count) in reads {
            let from = next.entry(place.clone()).or_default();
            for record in log.records[place].iter().skip(*from).take(*count) {
                self.mapper().map(record, &mut work).unwrap();
                *from += 1;
            }
        }
        self.mapper().release(&mut work).unwrap();
        if crashes {
            return self.crash();
        }
        for output in &work.outputs {
            let sent = output.topic.contains(".mapped.") || output.topic.contains(".dlq.");
            let key = (output.topic.to_string(), output.key.clone().unwrap_or_default());
            if let Some(value) = output.value.clone().filter(|_| sent) {
                self.out.entry(key).or_default().push(value);
            }
        }
        self.mapper().settle(&mut work).unwrap();
        self.next = next;
    }

    fn left(&self) -> Vec<TopicPartition> {
        let next = |place: &TopicPartition| self.next.get(place).copied().unwrap_or(0);
        let left = self
            .log
            .records
            .iter()
            .filter(|(place, records)| next(place) < records.len());
        left.map(|(place, _)| place.clone()).collect()
    }

    /// Time is up for everybody. Letters have no keys of their own, so they are put in order.
    fn end(mut self) -> Out {
        for parent in [CUSTOMERS, ORDERS, LINES] {
            self.mapper().room.prove(parent, i64::MAX);
        }
        self.batch(&[], false);
        assert!(self.mapper().room().counts().is_empty(), "nobody waits any more");
        self.crash();
        assert!(!self.mapper().has_ready(), "nor is anybody found waiting");
        for ((topic, _), values) in &mut self.out {
            if topic.contains(".dlq.") {
                values.sort();
            }
        }
        self.out
    }
}

fn read_in_order(log: &Log, order: &[&str]) -> Out {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(log, directory.path());
    for topic in order {
        for partition in 0..PARTITIONS {
            run.batch(&[(((*topic).to_owned(), partition), usize::MAX)], false);
        }
    }
    run.end()
}

#[test]
fn whenever_parents_come_the_same_is_mapped() {
    let log = Log::of_a_shop();
    let expected = read_in_order(&log, &[CUSTOMERS, ORDERS]);
    let letters = &expected[&("p.dlq.map".to_owned(), Vec::new())];
    assert_eq!(letters.len(), 3, "too late, nobody's, and one without");
    assert_eq!(read_in_order(&log, &[ORDERS, CUSTOMERS]), expected);
    for seed in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        let mut run = Run::new(&log, directory.path());
        let mut dice = Dice(seed);
        loop {
            let left = run.left();
            if left.is_empty() {
                break;
            }
            let mut reads = BTreeMap::new();
            for _ in 0..=dice.below(2) {
                reads.insert(left[dice.below(left.len())].clone(), 1 + dice.below(4));
            }
            let reads: Vec<(TopicPartition, usize)> = reads.into_iter().collect();
            run.batch(&reads, dice.below(6) == 0);
        }
        assert_eq!(run.end(), expected, "seed {seed}");
    }
}

/// The mapped record of an order, with its reference to the customer.
fn customers_of(out: &Out, row: i64) -> Vec<Option<Value>> {
    let pipeline = pipeline();
    let key = RowKey(format!(r#"{{"id":{row}}}"#));
    let mut schemas = Schemas::of(&[(id(MappedRecord::schema_json()), MappedRecord::schema_json())]);
    let mut said = Vec::new();
    for ((topic, _), values) in out {
        if *topic != topic::mapped(&pipeline.name, "order") {
            continue;
        }
        for value in values {
            let record = schemas.read(value, MappedRecord::decode).unwrap().unwrap();
            let MappedRecord::Said(mapped) = record else { continue };
            if mapped.row == key {
                let customer = mapped.fields.iter().find(|field| field.name == "customer");
                said.push((mapped.position, customer.map(|field| field.value.clone())));
            }
        }
    }
    said.sort_by_key(|(position, _)| *position);
    said.into_iter().map(|(_, customer)| customer).collect()
}

#[test]
fn what_an_app_refers_to_by_its_key_is_an_entity() {
    let log = Log::of_a_shop();
    let out = read_in_order(&log, &[ORDERS, CUSTOMERS]);
    let cid = |row: i64| {
        let pipeline = pipeline();
        let fields = [("email".to_owned(), Some(Value::text(format!("c{row}@x"))))].into();
        let key = RowKey(format!(r#"{{"id":{row}}}"#));
        let (link, entity) = (&pipeline.links[0], pipeline.entity("customer").unwrap());
        Some(Value::text(crate::identity::cid(entity, link, &key, None, &fields)))
    };
    assert_eq!(customers_of(&out, 0), [cid(0), cid(1)], "and in the order of the row");
    assert_eq!(
        customers_of(&out, 5),
        [cid(0)],
        "what came behind the one that was given up"
    );
    assert_eq!(
        customers_of(&out, 8),
        [cid(2)],
        "though it refers to one that refers to it"
    );
    assert!(customers_of(&out, 4).is_empty());
}

#[test]
fn what_waits_is_named_and_holds_up_no_one_else() {
    let log = Log::of_a_shop();
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(&log, directory.path());
    for partition in 0..PARTITIONS {
        run.batch(&[((ORDERS.to_owned(), partition), usize::MAX)], false);
    }
    let counts = run.mapper().room().counts();
    let of = |parent: &str| counts.get(&(ORDERS.to_owned(), parent.to_owned())).copied();
    assert!(of(CUSTOMERS).is_some() && of("").is_some(), "{counts:?}");
    run.batch(&[((CUSTOMERS.to_owned(), 0), usize::MAX)], false);
    let mapped = run
        .out
        .keys()
        .filter(|(topic, _)| topic.ends_with(".mapped.order"))
        .count();
    assert!(mapped > 0, "those whose customers are there are on their way");
    run.end();
}

/// A part waits for its line, which waits for its order: the line is there, whenever the order comes.
#[test]
fn nobody_is_given_up_for_a_row_that_waits_itself() {
    let mut log = Log::default();
    for row in 0..2 {
        log.customer(row, 2_000);
        log.order(row, Some(row), "last", None);
        log.like_an_order(LINES, row, None, "before its order", Some(row));
        log.like_an_order(PARTS, row, None, "before its line", Some(row));
    }
    let expected = read_in_order(&log, &[CUSTOMERS, ORDERS, LINES, PARTS]);
    assert!(!expected.keys().any(|(topic, _)| topic.contains(".dlq.")));
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(&log, directory.path());
    for topic in [PARTS, LINES, ORDERS, CUSTOMERS] {
        for partition in 0..PARTITIONS {
            run.batch(&[(((*topic).to_owned(), partition), usize::MAX)], false);
        }
        if topic == LINES {
            run.mapper().room.prove(LINES, i64::MAX);
            run.batch(&[], false);
        }
    }
    assert_eq!(run.end(), expected);
}
