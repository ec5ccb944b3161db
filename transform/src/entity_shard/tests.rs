//! One partition of one entity, with a store in memory and no Kafka.

use std::collections::{BTreeMap, BTreeSet};

use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::{ParsedSchema, frame_id};
use syncline_schemas::mapped::{FieldValue, Mapped, RowKey, RowOp};
use syncline_schemas::pipeline::{Expires, Strategy};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::tick::Tick;

use super::*;

mod finding;

const CANONICAL: u32 = 1;
const CONFLICTS: u32 = 2;
const STATE: u32 = 3;
const MAPPED: u32 = 4;

/// Keys and values in memory.
#[derive(Default)]
struct MemoryStore(BTreeMap<String, Vec<u8>>);

impl EntityStore for MemoryStore {
    fn get(&self, _: &Shard, key: &str) -> Outcome<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, _: &Shard, after: &str, rows_max: usize) -> Outcome<Vec<(String, Vec<u8>)>> {
        let entries = self.0.iter().filter(|(key, _)| key.as_str() > after);
        Ok(entries
            .take(rows_max)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn offset(&self, _: &Shard) -> Outcome<Option<i64>> {
        Ok(None)
    }

    fn put(&mut self, _: &Shard, changes: &[crate::store::Change], _: Option<i64>) -> Outcome<()> {
        for (key, value) in changes {
            match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
        }
        Ok(())
    }

    fn clear(&mut self, _: &Shard) -> Outcome<()> {
        self.0.clear();
        Ok(())
    }
}

/// A merge of one partition, without Kafka: every batch is committed.
struct Merge {
    pipeline: Pipeline,
    store: MemoryStore,
    schemas: Schemas,
    shard: EntityShard,
}

fn room(pipeline: &Pipeline) -> Arc<EntityRoom> {
    let id = |topic: &str, _: &str| {
        Ok(match topic {
            "acme.canonical.customer.v1" => CANONICAL,
            "acme.conflicts.customer" => CONFLICTS,
            "acme.state.customer" => STATE,
            "acme.mapped.customer" => MAPPED,
            other => panic!("{other}"),
        })
    };
    Arc::new(EntityRoom::open(pipeline, &pipeline.entities[0], id).unwrap())
}

impl Merge {
    fn new() -> Self {
        Self::restarted(crate::mapping::tests::pipeline(), MemoryStore::default())
    }

    fn restarted(pipeline: Pipeline, store: MemoryStore) -> Self {
        let mut schemas = Schemas::of(&[(STATE, State::schema_json())]);
        let shard = EntityShard::open(room(&pipeline), 0, &store, &mut schemas).unwrap();
        Self {
            pipeline,
            store,
            schemas,
            shard,
        }
    }

    /// Merges a batch and gives what it published.
    fn batch(&mut self, records: Vec<MappedRecord>) -> Vec<Canonical> {
        let (mut work, mut touched) = (Work::default(), Touched::default());
        let cause = cause();
        for record in records {
            self.shard
                .take(record, &cause, &self.store, &mut self.schemas, &mut touched, &mut work)
                .unwrap();
        }
        self.shard.finish(touched, &mut work);
        self.commit(work)
    }

    fn publish(&mut self, rows_max: usize) -> Vec<Canonical> {
        let (work, publication) = self
            .shard
            .publish_more(&self.store, &mut self.schemas, rows_max)
            .unwrap();
        let published = self.commit(work);
        self.shard.settle(publication);
        published
    }

    /// The time is told, and what it ends is looked at, one entity after the other.
    fn tick(&mut self, at_us: i64) -> Vec<Canonical> {
        let mut work = Work::default();
        self.shard.tick(Tick { at_us }, &mut work);
        let mut published = self.commit(work);
        while self.shard.is_overdue() {
            let work = self.shard.expire_more(&self.store, &mut self.schemas, 1).unwrap();
            published.extend(self.commit(work));
        }
        published
    }

    fn waiting(&self) -> usize {
        self.store.0.keys().filter(|key| key.starts_with(WAITS)).count()
    }

    fn commit(&mut self, mut work: Work) -> Vec<Canonical> {
        work.overlay.settle(&mut self.store).unwrap();
        let codec = CanonicalCodec::new(&self.pipeline.entities[0].schema_json).unwrap();
        let writer = ParsedSchema::parse(codec.schema_json()).unwrap();
        let canonical = work
            .outputs
            .iter()
            .filter(|output| *output.topic == *"acme.canonical.customer.v1");
        canonical
            .map(|output| {
                codec
                    .decode(&writer, frame_id(output.value.as_ref().unwrap()).unwrap().1)
                    .unwrap()
            })
            .collect()
    }
}

fn cause() -> InRecord {
    InRecord {
        topic: "acme.mapped.customer".to_owned(),
        partition: 0,
        offset: 5,
        timestamp_ms: 0,
        key: None,
        value: None,
        headers: Vec::new(),
    }
}

fn said(cid: &str, source: &str, lsn: u64, email: &str) -> MappedRecord {
    MappedRecord::Said(Mapped {
        cid: cid.to_owned(),
        source: source.to_owned(),
        row: RowKey(format!(r#"{{"id":"{cid}"}}"#)),
        was: None,
        position: Position::new(1, Lsn(lsn), 0),
        commit_us: i64::try_from(lsn).unwrap(),
        op: RowOp::Present,
        fields: vec![FieldValue {
            name: "email".to_owned(),
            value: email.into(),
        }],
        before: Vec::new(),
        mark: None,
        ahead: false,
    })
}

fn loaded(link: &str, partition: i32, partitions: i32) -> MappedRecord {
    MappedRecord::Loaded {
        link: link.to_owned(),
        partition,
        partitions,
    }
}

fn cids(published: &[Canonical]) -> BTreeSet<&str> {
    published.iter().map(|canonical| canonical.cid.as_str()).collect()
}

const SHOP: &str = "shop.public.customers";
const CRM: &str = "crm.public.contacts";

#[test]
fn nothing_is_published_before_every_link_is_loaded() {
    let mut merge = Merge::new();
    assert!(
        merge
            .batch(vec![said("a", "shop", 1, "a@x"), said("b", "shop", 2, "b@x")])
            .is_empty()
    );
    assert!(
        merge
            .batch(vec![loaded(SHOP, 0, 2), loaded(SHOP, 1, 2), loaded(CRM, 1, 2)])
            .is_empty()
    );
    assert!(!merge.shard.is_publishing(), "partition 0 of the crm is missing");
    assert_eq!(merge.shard.awaited().collect::<Vec<_>>(), [CRM]);
    merge.batch(vec![said("a", "crm", 1, "a@x"), loaded(CRM, 0, 2)]);
    assert!(merge.shard.is_publishing());
    let published = merge.publish(10);
    assert_eq!(cids(&published), BTreeSet::from(["a", "b"]));
    assert_eq!(published[0].apps.len(), 2, "both apps are in the first record");
    assert!(!merge.shard.is_publishing());
    let changed = merge.batch(vec![said("a", "shop", 3, "a2@x")]);
    assert_eq!(changed.len(), 1);
    assert!(
        merge.batch(vec![said("a", "shop", 3, "a2@x")]).is_empty(),
        "said twice is said once"
    );
}

fn half_published() -> Merge {
    let mut merge = Merge::new();
    merge.batch(["a", "b", "c"].map(|cid| said(cid, "shop", 1, "x@x")).to_vec());
    merge.batch(vec![loaded(SHOP, 0, 1), loaded(CRM, 0, 1)]);
    assert_eq!(cids(&merge.publish(1)), BTreeSet::from(["a"]));
    merge
}

#[test]
fn what_changes_while_the_first_load_is_published_is_published_once() {
    let mut merge = half_published();
    let now = merge.batch(vec![said("a", "shop", 2, "new@x"), said("c", "shop", 2, "new@x")]);
    assert_eq!(cids(&now), BTreeSet::from(["a"]), "c has its turn later");
    let rest = merge.publish(10);
    assert_eq!(cids(&rest), BTreeSet::from(["b", "c"]));
    let c = rest.iter().find(|canonical| canonical.cid == "c").unwrap();
    assert_eq!(c.fields["email"], "new@x".into());
}

#[test]
fn a_restart_goes_on_where_publishing_stood() {
    let Merge { pipeline, store, .. } = half_published();
    let mut again = Merge::restarted(pipeline, store);
    assert!(again.shard.is_publishing());
    assert_eq!(cids(&again.publish(10)), BTreeSet::from(["b", "c"]));
    let mut finished = Merge::restarted(again.pipeline, again.store);
    assert!(!finished.shard.is_publishing());
    assert_eq!(finished.batch(vec![said("b", "shop", 5, "b5@x")]).len(), 1);
}

#[test]
fn other_rules_publish_everything_again() {
    let mut merge = half_published();
    merge.publish(10);
    merge.pipeline.entities[0].rules = "0000000000000000".to_owned();
    let mut again = Merge::restarted(merge.pipeline, merge.store);
    assert!(again.shard.is_publishing());
    let published = again.publish(10);
    assert_eq!(cids(&published), BTreeSet::from(["a", "b", "c"]));
    assert!(published.iter().all(|canonical| canonical.rules == "0000000000000000"));
}

#[test]
fn a_link_that_is_new_is_waited_for() {
    let mut merge = half_published();
    merge.publish(10);
    let mut link = merge.pipeline.links[0].clone();
    "leads".clone_into(&mut link.table);
    merge.pipeline.links.push(link);
    let mut again = Merge::restarted(merge.pipeline, merge.store);
    assert!(again.batch(vec![said("a", "shop", 9, "a9@x")]).is_empty());
    again.batch(vec![loaded("shop.public.leads", 0, 1)]);
    assert_eq!(cids(&again.publish(10)), BTreeSet::from(["a", "b", "c"]));
}

#[test]
fn a_state_of_another_format_is_refused() {
    let mut merge = half_published();
    let foreign = State {
        format: 3,
        ..State::default()
    }
    .encode(STATE);
    merge.store.0.insert("a".to_owned(), foreign);
    let (mut work, mut touched) = (Work::default(), Touched::default());
    let taken = merge.shard.take(
        said("a", "shop", 9, "x@x"),
        &cause(),
        &merge.store,
        &mut merge.schemas,
        &mut touched,
        &mut work,
    );
    assert_eq!(taken.err().map(|failure| failure.code), Some("STATE_FORMAT"));
}

/// The state of an entity as older versions kept it.
fn keep_as_text(merge: &mut Merge, cid: &str) {
    let kept = states::entity(&mut merge.schemas, &merge.store.0[cid]).unwrap();
    let state = serde_json::to_string(&kept.state).unwrap();
    merge.store.0.insert(cid.to_owned(), states::noted(state, STATE));
}

#[test]
fn a_state_that_an_older_version_kept_as_text_is_read_and_kept_as_bytes() {
    let mut merge = half_published();
    merge.publish(10);
    merge.store.0.remove(states::FORMAT);
    ["a", "b"].iter().for_each(|cid| keep_as_text(&mut merge, cid));
    let Merge { pipeline, store, .. } = merge;
    let mut again = Merge::restarted(pipeline, store);
    assert!(
        again.batch(vec![said("a", "shop", 1, "x@x")]).is_empty(),
        "what was said before is not published again"
    );
    let changed = again.batch(vec![said("b", "shop", 7, "b7@x")]);
    assert_eq!((changed.len(), &changed[0].fields["email"]), (1, &"b7@x".into()));
    for cid in ["a", "b"] {
        assert!(
            states::entity(&mut again.schemas, &again.store.0[cid])
                .unwrap()
                .bytes
                .is_some()
        );
    }
}

#[test]
fn the_first_state_in_bytes_comes_with_a_note_that_older_versions_refuse_when_they_start() {
    let merge = half_published();
    let schema = ParsedSchema::parse(State::schema_json()).unwrap();
    let format = |key: &str| {
        let (_, datum) = frame_id(&merge.store.0[key]).unwrap();
        State::decode(&schema, datum).unwrap().format
    };
    assert_eq!((format(states::FORMAT), format("a"), format(PUBLISHED)), (2, 2, 1));
    assert!(states::FORMAT.starts_with(OWN), "it is among what is read at the start");
}

#[test]
fn a_shard_with_a_note_of_a_later_format_is_not_opened() {
    let Merge {
        pipeline, mut store, ..
    } = half_published();
    let later = State {
        format: 3,
        ..State::default()
    };
    store.0.insert(states::FORMAT.to_owned(), later.encode(STATE));
    let mut schemas = Schemas::of(&[(STATE, State::schema_json())]);
    let opened = EntityShard::open(room(&pipeline), 0, &store, &mut schemas);
    assert_eq!(opened.err().map(|failure| failure.code), Some("STATE_FORMAT"));
}

/// Two people whose mails differ, a question about each, and the crm is right if nobody says otherwise within 100 us.
fn asked() -> Merge {
    let mut pipeline = crate::mapping::tests::pipeline();
    let mut fields = pipeline.entities[0].fields.iter_mut();
    let email = fields.find(|field| field.name == "email").unwrap();
    email.strategy = Strategy::Hold;
    email.terms.expires = Some(Expires {
        after_us: 100,
        then: Strategy::Order(vec!["crm".to_owned()]),
    });
    let mut merge = Merge::restarted(pipeline, MemoryStore::default());
    merge.batch(vec![said("a", "shop", 1, "a@shop"), said("b", "shop", 1, "b@shop")]);
    merge.batch(vec![said("a", "crm", 2, "a@crm"), said("b", "crm", 9, "b@crm")]);
    merge.batch(vec![loaded(SHOP, 0, 1), loaded(CRM, 0, 1)]);
    let published = merge.publish(10);
    assert!(published.iter().all(|canonical| canonical.held == ["email"]));
    assert_eq!(merge.waiting(), 2);
    merge
}

#[test]
fn a_question_ends_with_the_tick_that_passes_its_time_also_after_a_restart() {
    let mut merge = asked();
    assert!(merge.tick(101).is_empty(), "it ends at 102");
    let ended = merge.tick(105);
    assert_eq!(cids(&ended), BTreeSet::from(["a"]));
    assert_eq!((ended[0].held.len(), &ended[0].fields["email"]), (0, &"a@crm".into()));
    assert_eq!(merge.waiting(), 1);
    assert!(merge.tick(104).is_empty(), "time does not go back");
    let Merge { pipeline, store, .. } = merge;
    let mut merge = Merge::restarted(pipeline, store);
    assert!(merge.tick(105).is_empty());
    assert_eq!(cids(&merge.tick(200)), BTreeSet::from(["b"]));
    assert_eq!(merge.waiting(), 0);
}

#[test]
fn a_question_that_is_answered_or_asked_anew_ends_at_no_or_another_time() {
    let mut merge = asked();
    assert_eq!(merge.batch(vec![said("a", "crm", 50, "a@shop")]).len(), 1, "they agree");
    merge.batch(vec![said("b", "crm", 60, "b2@crm")]);
    assert_eq!(merge.waiting(), 1);
    assert!(merge.tick(150).is_empty());
    let late = merge.batch(vec![said("b", "shop", 20, "b2@shop")]);
    assert_eq!(late[0].held, ["email"], "60 is the last that was said of it");
    assert_eq!(merge.tick(160)[0].fields["email"], "b2@crm".into());
    let after = merge.batch(vec![said("b", "shop", 30, "b3@shop")]);
    assert_eq!((after[0].held.len(), &after[0].fields["email"]), (0, &"b2@crm".into()));
    assert_eq!(merge.waiting(), 0);
}
