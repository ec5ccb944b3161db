//! Rows that refer to rows of another table: translated into the target's keys, or waiting in its books. Against a real
//! PostgreSQL (PG_DSN).
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod common;

use std::sync::Arc;

use common::db::World;
use common::record;
use syncline_schemas::canonical::{Canonical, Member};
use syncline_schemas::pipeline::{self, Pipeline, Secret};
use syncline_schemas::value::Value;
use syncline_sink::plan::Verdict;
use syncline_sink::postgres::{PostgresTarget, Settings};
use syncline_sink::target::{Delivery, Partition, Report, Target};

const PIPELINE: &str = r#"
pipeline: acme
defaults: { kafka: "k:9092", registry: "http://r" }
systems:
  crm: { postgres: "postgres://x/crm" }
entities:
  customer: { schema: customer.avsc@1, fields: { email: latest } }
  order:
    schema: order.avsc@1
    fields: { customer: latest, note: latest, parent: latest }
    references:
      customer: { entity: customer, wait: WAIT }
      parent: { entity: order, required: false, deferred: true }
links:
  crm.contacts <-> customer: { key: id, email: email }
  crm.orders <-> order: { key: id, customer: contact_id, note: note, parent: parent_id }
"#;
const TABLES: &str = "CREATE TABLE contacts (id serial PRIMARY KEY, email text);
    CREATE TABLE orders (id serial PRIMARY KEY, contact_id int NOT NULL, note text, parent_id int);
    ALTER SEQUENCE contacts_id_seq RESTART 71";
const CUSTOMER: &str =
    r#"{"type":"record","name":"Customer","fields":[{"name":"email","type":["null","string"],"default":null}]}"#;
const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"customer","type":["null","string"],"default":null},{"name":"note","type":["null","string"],"default":null},
    {"name":"parent","type":["null","string"],"default":null}]}"#;

fn pipeline(wait: &str) -> Pipeline {
    let files = |name: &str| match name {
        "customer.avsc" => Ok(CUSTOMER.to_owned()),
        "order.avsc" => Ok(ORDER.to_owned()),
        _ => Err("no such file".to_owned()),
    };
    pipeline::parse("acme.yaml", &PIPELINE.replace("WAIT", wait), &|_| None, &files)
        .unwrap_or_else(|problems| panic!("{}", problems.iter().map(ToString::to_string).collect::<String>()))
}

struct Crm {
    world: World,
    target: PostgresTarget,
    next: i64,
}

fn partition(entity: &str) -> Partition {
    Partition {
        topic: Arc::from(format!("acme.canonical.{entity}.v1")),
        number: 0,
    }
}

impl Crm {
    fn new(tables: &str, wait: &str) -> Self {
        let (world, pipeline) = (World::new(tables), pipeline(wait));
        let settings = Settings {
            pipeline: pipeline.name.clone(),
            target: "crm".to_owned(),
            dsn: Secret::new(world.dsn()),
            links: pipeline.links.clone(),
        };
        let mut target = PostgresTarget::new(settings).unwrap().referring(&pipeline);
        target.claim(&["customer", "order"].map(partition)).unwrap();
        Self { world, target, next: 0 }
    }

    fn deliver(&mut self, records: &[(&str, Canonical)]) -> Report {
        let batch: Vec<Delivery> = records
            .iter()
            .map(|(entity, record)| {
                self.next += 1;
                Delivery {
                    from: partition(entity),
                    offset: self.next,
                    timestamp_ms: 0,
                    entity: Arc::from(*entity),
                    key: record.cid.clone().into_bytes(),
                    value: b"value".to_vec(),
                    content: Ok(Some(record.clone())),
                }
            })
            .collect();
        self.target.apply(&batch).unwrap()
    }

    fn tend(&mut self) -> Report {
        self.target.tend(true).unwrap().report
    }

    fn letters(&mut self) -> Vec<String> {
        let mut reasons = Vec::new();
        let send = &mut |letters: &[syncline_sink::target::DeadLetter]| {
            reasons.extend(letters.iter().map(|letter| letter.reason.clone()));
            Ok(())
        };
        self.target.dead_letters(send).unwrap();
        reasons
    }

    fn orders(&self) -> Vec<String> {
        self.world
            .db
            .query("SELECT contact_id, note, coalesce(parent_id::text, '-') FROM orders ORDER BY id")
    }

    fn waiting(&self) -> String {
        self.world.db.text("SELECT count(*) FROM syncline.waiting")
    }
}

fn customer(cid: &str) -> (&'static str, Canonical) {
    ("customer", record(cid, &[("email", Value::text(format!("{cid}@x")))]))
}

fn order(cid: &str, customer: &str, note: &str) -> (&'static str, Canonical) {
    (
        "order",
        record(cid, &[("customer", customer.into()), ("note", note.into())]),
    )
}

/// The same, by the entity's own words so much later.
fn later((entity, record): (&'static str, Canonical), lsn: u64) -> (&'static str, Canonical) {
    (entity, common::knowing(record, "shop", lsn))
}

#[test]
fn a_child_gets_the_key_that_its_parent_has_here() {
    let mut crm = Crm::new(TABLES, "10m");
    // The child first: within a batch parents go before their children.
    let report = crm.deliver(&[order("o1", "c1", "with its customer"), customer("c1")]);
    assert_eq!((report.count(Verdict::Inserted), report.waiting), (2, 0));
    assert_eq!(crm.orders(), ["71|with its customer|-"]);
    let remembered = "SELECT state::jsonb->'fields' ? 'customer' FROM syncline.applied WHERE entity = 'order'";
    assert_eq!(crm.world.db.text(remembered), "t");
}

#[test]
fn a_child_waits_for_its_parent_and_holds_up_nobody() {
    let mut crm = Crm::new(TABLES, "10m");
    let report = crm.deliver(&[order("o1", "c1", "early"), customer("c2"), order("o2", "c2", "flows")]);
    assert_eq!(
        (report.waiting, report.parked, report.count(Verdict::Inserted)),
        (1, 0, 2)
    );
    assert_eq!(crm.orders(), ["71|flows|-"]);
    // A later record of the key takes its place.
    let report = crm.deliver(&[later(order("o1", "c1", "edited"), 2)]);
    assert_eq!((report.waiting, crm.waiting().as_str()), (1, "1"));
    assert_eq!(crm.tend().released, 0);
    crm.deliver(&[customer("c1")]);
    assert_eq!(crm.tend().released, 1);
    assert_eq!(crm.orders(), ["71|flows|-", "72|edited|-"]);
    assert_eq!((crm.waiting().as_str(), crm.letters().len()), ("0", 0));
    assert_eq!(crm.tend(), Report::default(), "nothing is left to be looked at");
}

#[test]
fn a_child_that_has_waited_too_long_is_a_dead_letter_that_names_its_parent() {
    let mut crm = Crm::new(TABLES, "1ms");
    crm.deliver(&[order("o1", "c1", "orphan")]);
    crm.world.db.exec("SELECT pg_sleep(0.01)");
    assert_eq!(crm.tend().parked, 1);
    assert_eq!(crm.letters(), ["customer: customer c1 has no row in crm"]);
    assert_eq!((crm.waiting().as_str(), crm.orders().len()), ("0", 0));
}

#[test]
fn a_parent_that_the_app_deleted_is_not_there() {
    let mut crm = Crm::new(TABLES, "10m");
    crm.deliver(&[customer("c1")]);
    crm.world.db.exec("DELETE FROM contacts");
    assert_eq!(crm.deliver(&[order("o1", "c1", "too late")]).waiting, 1);
}

#[test]
fn who_refers_to_a_record_refers_to_all_that_are_merged_with_it() {
    let mut crm = Crm::new(TABLES, "10m");
    let with_member = |joined: bool, at: i64| {
        let (entity, mut whole) = customer("c1");
        let cid = "c2".to_owned();
        whole.identity.members = vec![Member { cid, at, joined }];
        (entity, whole)
    };
    // In one batch, and by the books.
    crm.deliver(&[order("o1", "c2", "one"), with_member(true, 5)]);
    crm.deliver(&[order("o2", "c2", "two")]);
    assert_eq!(crm.orders(), ["71|one|-", "71|two|-"]);
    // What is split again has no row, whatever comes a second time.
    crm.deliver(&[with_member(false, 6)]);
    crm.deliver(&[with_member(true, 5)]);
    assert_eq!(crm.deliver(&[order("o3", "c2", "three")]).waiting, 1);
}

fn with_parent((entity, mut order): (&'static str, Canonical), parent: &str) -> (&'static str, Canonical) {
    order.fields.insert("parent".to_owned(), parent.into());
    (entity, order)
}

fn deleted((entity, mut record): (&'static str, Canonical), lsn: u64) -> (&'static str, Canonical) {
    record.deleted = true;
    record.fields.clear();
    later((entity, record), lsn)
}

#[test]
fn time_in_which_nobody_reads_is_no_waiting() {
    let mut crm = Crm::new(TABLES, "10m");
    crm.deliver(&[order("o1", "c1", "early")]);
    let hours = "UPDATE syncline.waiting SET since = since - interval '3 hours', until = until - interval '3 hours'";
    crm.world.db.exec(hours);
    crm.target.claim(&["customer", "order"].map(partition)).unwrap();
    assert_eq!((crm.tend().parked, crm.waiting().as_str()), (0, "1"));
    crm.world.db.exec(hours);
    assert_eq!(crm.tend().parked, 1, "somebody has read for three hours");
}

#[test]
fn a_row_that_refers_to_itself_goes() {
    let mut crm = Crm::new(TABLES, "10m");
    crm.deliver(&[customer("c1"), with_parent(order("o1", "c1", "one"), "o1")]);
    crm.tend();
    assert_eq!(crm.orders(), ["71|one|1"]);
    let report = crm.deliver(&[deleted(order("o1", "c1", "one"), 2)]);
    assert_eq!((report.count(Verdict::Deleted), report.waiting), (1, 0));
}

#[test]
fn a_deferred_reference_comes_after_its_row() {
    let mut crm = Crm::new(TABLES, "10m");
    let one = with_parent(order("o1", "c1", "one"), "o2");
    let two = with_parent(order("o2", "c1", "two"), "o1");
    let report = crm.deliver(&[customer("c1"), one, two]);
    assert_eq!((report.count(Verdict::Inserted), report.waiting), (3, 2));
    assert_eq!(crm.orders(), ["71|one|-", "71|two|-"]);
    assert_eq!(crm.tend().released, 2);
    assert_eq!(crm.orders(), ["71|one|2", "71|two|1"]);
}

#[test]
fn a_parent_stays_while_children_refer_to_it() {
    let mut crm = Crm::new(TABLES, "1ms");
    crm.deliver(&[customer("c1"), order("o1", "c1", "one")]);
    let report = crm.deliver(&[deleted(customer("c1"), 2)]);
    assert_eq!((report.waiting, report.count(Verdict::Deleted)), (1, 0));
    assert_eq!(crm.world.db.text("SELECT count(*) FROM contacts"), "1");
    crm.world.db.exec("SELECT pg_sleep(0.01)");
    assert_eq!((crm.tend().parked, crm.letters().len()), (0, 0), "it waits without end");
    crm.deliver(&[deleted(order("o1", "c1", "one"), 2)]);
    assert_eq!(crm.tend().released, 1);
    assert_eq!(crm.world.db.text("SELECT count(*) FROM contacts"), "0");
    // Both in one batch: the child goes first.
    crm.deliver(&[customer("c3"), order("o3", "c3", "three")]);
    let report = crm.deliver(&[deleted(customer("c3"), 2), deleted(order("o3", "c3", "three"), 2)]);
    assert_eq!((report.count(Verdict::Deleted), report.waiting), (2, 0));
}
