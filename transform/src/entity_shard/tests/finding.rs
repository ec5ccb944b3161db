//! Rows that find each other, and what people say of it: one partition, with its topics in memory, read in any order.

use std::collections::VecDeque;

use syncline_schemas::identity::{IdentityAct, MATCH};
use syncline_schemas::lens::Fields;
use syncline_schemas::sighting::{Claim, Sighting, SightingRecord};

use super::*;
use crate::identity;

const PIPELINE: &str = r#"
pipeline: acme
defaults: { kafka: "k:9092", registry: "http://r", on_conflict: latest }
systems:
  shop: { postgres: "postgres://localhost/shop" }
  crm: { postgres: "postgres://localhost/crm" }
entities:
  customer:
    schema: customer.avsc@1
    fields: { email: latest, name: latest }
    match: [{ score: { email: 7, name: 5 }, link: 12, review: 7 }]
links:
  shop.customers <-> customer: { key: id, email: email, name: full_name }
  crm.contacts <-> customer: { key: id, email: email, name: name, same_as: { shop: shop_id } }
"#;

const CUSTOMER: &str = r#"{"type":"record","name":"Customer","fields":[
    {"name":"email","type":["null","string"],"default":null},{"name":"name","type":["null","string"],"default":null}]}"#;

/// Topics by their schema id.
const TOPICS: [&str; 6] = ["canonical", "conflicts", "state", "mapped", "identity", "reviews"];

fn id_of(topic: &str) -> u32 {
    let place = TOPICS.iter().position(|name| topic.split('.').nth(1) == Some(name));
    u32::try_from(place.unwrap_or_else(|| panic!("{topic}"))).unwrap() + 1
}

/// What two apps say, and what becomes of it.
struct Whole {
    store: MemoryStore,
    schemas: Schemas,
    shard: EntityShard,
    entity: Entity,
    inbox: VecDeque<MappedRecord>,
    /// All words, and how many of them have been heard.
    words: Vec<IdentityWord>,
    heard: usize,
    reviews: BTreeMap<String, Review>,
    /// Every agreed record in its order.
    published: Vec<Canonical>,
}

impl Whole {
    fn new(words: Vec<IdentityWord>) -> Self {
        let pipeline =
            syncline_schemas::pipeline::parse("acme.yaml", PIPELINE, &|_| None, &|_| Ok(CUSTOMER.to_owned()));
        let pipeline = pipeline.unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<String>());
        });
        let room = EntityRoom::open(&pipeline, &pipeline.entities[0], |topic, _| Ok(id_of(topic))).unwrap();
        let mut schemas = Schemas::of(&[(id_of("acme.state.customer"), State::schema_json())]);
        let store = MemoryStore::default();
        let shard = EntityShard::open(Arc::new(room), 0, &store, &mut schemas).unwrap();
        Self {
            store,
            schemas,
            shard,
            entity: pipeline.entities[0].clone(),
            inbox: VecDeque::new(),
            words,
            heard: 0,
            reviews: BTreeMap::new(),
            published: Vec::new(),
        }
    }

    fn done(&mut self, mut work: Work) {
        work.overlay.settle(&mut self.store).unwrap();
        for output in work.outputs {
            let Some(value) = output.value else { continue };
            let (id, datum) = frame_id(&value).unwrap();
            let read = |json: &str| ParsedSchema::parse(json).unwrap();
            match TOPICS[usize::try_from(id).unwrap() - 1] {
                "mapped" => {
                    let record = MappedRecord::decode(&read(MappedRecord::schema_json()), datum).unwrap();
                    self.inbox.push_back(record);
                }
                "identity" => {
                    let word = IdentityWord::decode(&read(IdentityWord::schema_json()), datum).unwrap();
                    self.words.push(word);
                }
                "reviews" => {
                    let review = Review::decode(&read(Review::schema_json()), datum).unwrap();
                    self.reviews.insert(review.id.clone(), review);
                }
                "canonical" => {
                    let codec = CanonicalCodec::new(&self.entity.schema_json).unwrap();
                    let writer = ParsedSchema::parse(codec.schema_json()).unwrap();
                    self.published.push(codec.decode(&writer, datum).unwrap());
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, record: MappedRecord) {
        let (mut work, mut touched, cause) = (Work::default(), Touched::default(), cause());
        self.shard
            .take(record, &cause, &self.store, &mut self.schemas, &mut touched, &mut work)
            .unwrap();
        self.shard.finish(touched, &mut work);
        self.done(work);
    }

    fn sight(&mut self, record: SightingRecord) {
        let mut work = Work::default();
        self.shard
            .sight(record, &self.store, &mut self.schemas, &mut work)
            .unwrap();
        self.done(work);
    }

    fn hear(&mut self) -> bool {
        let Some(word) = self.words.get(self.heard).cloned() else {
            return false;
        };
        let at = i64::try_from(self.heard).unwrap();
        self.heard += 1;
        let mut work = Work::default();
        let heard = self
            .shard
            .identify(&word, at, &self.store, &mut self.schemas, &mut work)
            .unwrap();
        heard.unwrap();
        self.done(work);
        true
    }

    /// Works until nothing is left to do, a row at a time.
    fn settle(&mut self) {
        loop {
            if let Some(record) = self.inbox.pop_front() {
                self.take(record);
            } else if self.hear() {
            } else if self.shard.is_finding() {
                let work = self.shard.find_more(&self.store, &mut self.schemas, 1).unwrap();
                self.done(work);
            } else if self.shard.is_publishing() {
                let (work, publication) = self.shard.publish_more(&self.store, &mut self.schemas, 2).unwrap();
                self.done(work);
                self.shard.settle(publication);
            } else {
                return;
            }
        }
    }

    fn loaded(&mut self) {
        for link in [SHOP, CRM] {
            self.take(loaded(link, 0, 1));
            self.sight(SightingRecord::Loaded {
                link: link.to_owned(),
                partition: 0,
                partitions: 1,
            });
        }
    }

    /// A row is seen for the first time.
    fn row(&mut self, row: &Seen) {
        let (source, id, email, name) = (row.source, row.id, row.email, row.name);
        let fields = Fields::from([
            ("email".to_owned(), Some(email.into())),
            ("name".to_owned(), Some(name.into())),
        ]);
        let key = RowKey(format!("{{\"id\":{id}}}"));
        let sighting = Sighting {
            cid: row.cid(),
            source: source.to_owned(),
            row: key.clone(),
            first: true,
            traits: identity::traits(&self.entity, &fields),
            claims: row
                .names
                .iter()
                .map(|(source, key)| Claim {
                    source: (*source).to_owned(),
                    key: (*key).to_owned(),
                })
                .collect(),
        };
        let field = |name: &str, value: &str| FieldValue {
            name: name.to_owned(),
            value: value.into(),
        };
        self.inbox.push_back(MappedRecord::Sighted {
            cid: row.cid(),
            row: syncline_schemas::mapped::sighted_row(source, &key),
        });
        self.inbox.push_back(MappedRecord::Said(Mapped {
            cid: row.cid(),
            source: source.to_owned(),
            row: key,
            was: None,
            position: Position::new(1, Lsn(100 + id), 0),
            commit_us: i64::try_from(id).unwrap(),
            op: RowOp::Present,
            fields: vec![field("email", email), field("name", name)],
            before: Vec::new(),
            mark: None,
            ahead: false,
        }));
        self.sight(SightingRecord::Seen(sighting));
    }

    fn say(&mut self, act: IdentityAct, loser: &Seen, winner: Option<&Seen>) {
        self.words.push(IdentityWord {
            act,
            loser: loser.cid(),
            winner: winner.map(Seen::cid),
            by: "ada".to_owned(),
            why: String::new(),
            at_us: 0,
        });
    }

    /// The last agreed record of each.
    fn agreed(&self) -> BTreeMap<String, Canonical> {
        let last = self.published.iter().cloned();
        last.map(|canonical| (canonical.cid.clone(), canonical)).collect()
    }

    /// The records that speak for themselves, and which are in them.
    fn who(&self) -> BTreeMap<String, Vec<String>> {
        let alone = self
            .agreed()
            .into_iter()
            .filter(|(_, one)| one.identity.merged_into.is_none());
        alone
            .map(|(cid, one)| (cid, one.joined().map(str::to_owned).collect()))
            .collect()
    }

    fn asked(&self) -> Vec<&'static str> {
        let mut asked: Vec<_> = self.reviews.values().map(|review| review.kind.word()).collect();
        asked.sort_unstable();
        asked
    }

    fn found(&self) -> usize {
        self.words.iter().filter(|word| word.by == MATCH).count()
    }
}

/// A row, as it is first seen.
#[derive(Clone, Debug)]
struct Seen {
    source: &'static str,
    id: u64,
    email: &'static str,
    name: &'static str,
    names: Vec<(&'static str, &'static str)>,
}

impl Seen {
    fn cid(&self) -> String {
        format!("{}{}", self.source, self.id)
    }
}

fn row(source: &'static str, id: u64, email: &'static str, name: &'static str) -> Seen {
    Seen {
        source,
        id,
        email,
        name,
        names: Vec::new(),
    }
}

fn shown(who: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    who.iter()
        .map(|(cid, with)| [std::slice::from_ref(cid), with].concat().join("+"))
        .collect()
}

/// All are seen in this order, then all is loaded.
fn first_load(rows: &[&Seen]) -> Whole {
    let mut whole = Whole::new(Vec::new());
    for row in rows {
        whole.row(row);
        whole.settle();
    }
    whole.loaded();
    whole.settle();
    whole
}

#[test]
fn rows_with_enough_in_common_are_one_before_anything_is_published() {
    let (shop, crm) = (row("shop", 1, "a@x", "Ada"), row("crm", 2, " A@x", "ada"));
    let other = row("crm", 3, "b@x", "Bob");
    let whole = first_load(&[&shop, &crm, &other]);
    assert_eq!(shown(&whole.who()), ["crm2+shop1", "crm3"]);
    let first = whole.published.iter().find(|one| one.cid == "crm2").unwrap();
    assert_eq!(first.apps.len(), 2, "never without the other's row");
    assert!(whole.reviews.is_empty());
    assert_eq!(whole.words[0].why, "email, name agree: 12");
}

#[test]
fn whichever_app_is_read_first_the_same_are_one() {
    let rows = [
        row("shop", 1, "a@x", "Ada"),
        row("crm", 2, "a@x", "Ada"),
        row("shop", 3, "b@x", "Bob"),
        row("crm", 4, "b@x", "Bob"),
        row("crm", 5, "b@x", "Bob"),
    ];
    let read = |order: &[usize]| {
        let rows: Vec<&Seen> = order.iter().map(|index| &rows[*index]).collect();
        let whole = first_load(&rows);
        // Their places in the topic are theirs alone.
        let agreed: Vec<_> = whole.agreed().into_values().collect();
        let bare = agreed
            .into_iter()
            .map(|one| (one.cid, one.fields, one.apps.len(), one.held));
        (
            bare.collect::<Vec<_>>(),
            whole.who(),
            whole.reviews.into_keys().collect::<Vec<_>>(),
        )
    };
    let first = read(&[0, 1, 2, 3, 4]);
    assert_eq!(shown(&first.1), ["crm2+shop1", "crm4", "crm5", "shop3"]);
    for order in [[4, 3, 2, 1, 0], [1, 0, 4, 2, 3], [2, 4, 0, 3, 1]] {
        assert_eq!(read(&order), first);
    }
}

#[test]
fn what_is_not_sure_is_asked_and_never_merged() {
    let rows = [
        row("shop", 1, "a@x", "Ada"),
        row("crm", 2, "a@x", "Adele"),
        row("shop", 3, "b@x", "Bob"),
        row("crm", 4, "b@x", "Bob"),
        row("crm", 5, "b@x", "Bob"),
    ];
    let whole = first_load(&rows.iter().collect::<Vec<_>>());
    assert_eq!(whole.who().len(), 5, "{:?}", whole.who());
    assert_eq!(whole.asked(), ["ambiguous", "ambiguous", "duplicate", "unsure"]);
    assert_eq!(whole.found(), 0);
}

#[test]
fn who_comes_later_waits_until_it_has_been_compared() {
    let mut whole = first_load(&[&row("shop", 1, "a@x", "Ada")]);
    let published = whole.published.len();
    whole.row(&row("crm", 2, "a@x", "Ada"));
    while let Some(record) = whole.inbox.pop_front() {
        whole.take(record);
    }
    assert_eq!(
        whole.published.len(),
        published,
        "not into the shop, where Ada is already"
    );
    whole.settle();
    assert_eq!(
        shown(&whole.who()),
        ["shop1+crm2"],
        "who was there speaks for who comes"
    );
    assert_eq!(whole.agreed()["shop1"].apps.len(), 2);
    whole.row(&row("crm", 3, "c@x", "Cyd"));
    whole.settle();
    assert_eq!(whole.who().len(), 2, "who is like nobody is published too");
}

#[test]
fn what_somebody_takes_apart_is_not_found_again() {
    let (shop, crm) = (row("shop", 1, "a@x", "Ada"), row("crm", 2, "a@x", "Ada"));
    let mut whole = first_load(&[&shop, &crm]);
    whole.say(IdentityAct::Split, &shop, None);
    whole.settle();
    assert_eq!(shown(&whole.who()), ["crm2", "shop1"]);
    // The same topics, read by somebody who has nothing but them.
    let mut again = Whole::new(whole.words.clone());
    while again.hear() {}
    again.row(&crm);
    again.row(&shop);
    again.loaded();
    again.settle();
    assert_eq!(again.words, whole.words, "nothing is said once more");
    assert_eq!(again.agreed(), whole.agreed());
    assert!(again.reviews.is_empty());
}

#[test]
fn a_replay_finds_nothing_that_was_not_found() {
    let rows = [
        row("shop", 1, "a@x", "Ada"),
        row("crm", 2, "a@x", "Ada"),
        row("crm", 3, "a@x", "Ada"),
        row("shop", 4, "d@x", "Dan"),
    ];
    let mut whole = first_load(&[&rows[0], &rows[1], &rows[3]]);
    whole.row(&rows[2]);
    whole.settle();
    assert_eq!(
        shown(&whole.who()),
        ["crm2+shop1", "crm3", "shop4"],
        "whoever was there first"
    );
    assert_eq!(whole.asked(), ["ambiguous", "duplicate"], "{:?}", whole.reviews);
    let mut again = Whole::new(whole.words.clone());
    while again.hear() {}
    rows.iter().rev().for_each(|row| again.row(row));
    again.loaded();
    again.settle();
    assert_eq!(again.words, whole.words);
    assert_eq!(again.agreed(), whole.agreed());
}

#[test]
fn a_rejected_pair_is_not_asked_about_again() {
    let (shop, crm) = (row("shop", 1, "a@x", "Ada"), row("crm", 2, "a@x", "Adele"));
    let mut whole = Whole::new(Vec::new());
    whole.say(IdentityAct::Reject, &shop, Some(&crm));
    while whole.hear() {}
    whole.row(&shop);
    whole.row(&crm);
    whole.loaded();
    whole.settle();
    assert!(whole.reviews.is_empty());
    assert_eq!(whole.who().len(), 2);
}

#[test]
fn a_row_that_names_another_is_that_whichever_comes_first() {
    let shop = row("shop", 1, "a@x", "Ada");
    let crm = Seen {
        names: vec![("shop", "1")],
        ..row("crm", 2, "other@x", "Lovelace")
    };
    for rows in [[&shop, &crm], [&crm, &shop]] {
        let whole = first_load(&rows);
        assert_eq!(shown(&whole.who()), ["crm2+shop1"]);
        assert_eq!(whole.words[0].why, "one names the other (same_as)");
    }
    // It is named before it is there, long after the first load.
    let mut whole = first_load(&[&crm]);
    whole.row(&shop);
    whole.settle();
    assert_eq!(shown(&whole.who()), ["crm2+shop1"]);
}

#[test]
fn a_merge_goes_on_through_words_of_people_in_a_partition_of_its_own() {
    let (shop, crm) = (row("shop", 1, "a@x", "Ada"), row("crm", 2, "b@x", "Bea"));
    let mut whole = first_load(&[&shop, &crm]);
    let before = whole.agreed();
    whole.say(IdentityAct::Merge, &shop, Some(&crm));
    whole.settle();
    let merged = &whole.agreed()["crm2"];
    assert_eq!(
        merged.fields["email"],
        "a@x".into(),
        "nobody edited: the more authoritative app's"
    );
    assert_eq!(whole.agreed()["shop1"].identity.merged_into.as_deref(), Some("crm2"));
    assert!(whole.agreed()["shop1"].apps.is_empty() && !whole.agreed()["shop1"].deleted);
    whole.say(IdentityAct::Split, &shop, None);
    whole.settle();
    let bare = |all: BTreeMap<String, Canonical>| -> Vec<Canonical> {
        let bare = all.into_values().map(|one| Canonical {
            identity: syncline_schemas::canonical::Identity::default(),
            ..one
        });
        bare.collect()
    };
    assert_eq!(bare(whole.agreed()), bare(before));
}
