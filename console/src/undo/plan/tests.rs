//! Histories of two apps, and what becomes of what one of them wrote.

use std::collections::BTreeMap;

use syncline_schemas::decision::Decision;
use syncline_schemas::mapped::{FieldValue, Mapped, RowKey, RowOp};
use syncline_schemas::mark::{Act, Mark, MarkedField};
use syncline_schemas::pipeline::{self, Pipeline};
use syncline_schemas::position::{Lsn, Position};

use super::*;

const SCHEMA: &str = r#"{"type": "record", "name": "Customer", "fields": [
  {"name": "email", "type": ["null", "string"], "default": null},
  {"name": "note", "type": ["null", "string"], "default": null},
  {"name": "street", "type": ["null", "string"], "default": null},
  {"name": "city", "type": ["null", "string"], "default": null},
  {"name": "stock", "type": ["null", "long"], "default": null}]}"#;
const PIPELINE: &str = r#"
pipeline: p
defaults: { kafka: "localhost:9092", registry: "http://localhost:8081", partitions: 2 }
systems:
  shop: { postgres: "postgres://u@localhost/shop" }
  crm:  { postgres: "postgres://u@localhost/crm" }
kinds: { contact: latest }
entities:
  customer:
    schema: customer.avsc@1
    fields:
      email: latest
      note: latest
      street: contact
      city: contact
      stock: add
    groups: { address: [street, city] }
    match: [ { same: [email] } ]
links:
  shop.customers <-> customer: { key: id, email: email, note: -> note, street: street, city: city, stock: qty }
  crm.contacts <-> customer: { key: id, email: mail, note: note, street: street, city: city, stock: qty }
"#;

type Row = BTreeMap<String, Value>;

struct History {
    pipeline: Pipeline,
    authority: Vec<String>,
    rows: BTreeMap<String, Row>,
    known: Known,
    now_us: i64,
}

impl History {
    /// Nothing has been said yet.
    fn empty() -> Self {
        Self::of(PIPELINE)
    }

    /// Nothing has been said yet, and the file says this.
    fn of(text: &str) -> Self {
        let schema = |_: &str| Ok(SCHEMA.to_owned());
        let pipeline = pipeline::parse("p.yaml", text, &|_| None, &schema).unwrap_or_else(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{}", problems.join("\n"))
        });
        Self {
            authority: pipeline.authority().map(str::to_owned).collect(),
            pipeline,
            rows: BTreeMap::new(),
            known: Known {
                cid: "c".to_owned(),
                said: Vec::new(),
                decisions: Vec::new(),
                agreed: None,
                whole: true,
            },
            now_us: 0,
        }
    }

    /// Both apps hold the same: shop at 10, crm at 20.
    fn begun() -> Self {
        Self::begun_by("latest")
    }

    /// The same, where this decides about the email.
    fn begun_by(rule: &str) -> Self {
        let mut history = Self::of(&PIPELINE.replace("email: latest", &format!("email: {rule}")));
        let row = [
            ("email", Value::from("old")),
            ("note", Value::from("n0")),
            ("street", Value::from("s0")),
            ("city", Value::from("c0")),
            ("stock", Value::from(10)),
        ];
        history.says("shop", &row);
        history.says("crm", &row);
        history
    }

    fn rules(&self) -> Rules<'_> {
        let entity = &self.pipeline.entities[0];
        Rules {
            entity,
            links: self.pipeline.links_of(&entity.name).collect(),
            authority: &self.authority,
        }
    }

    /// What all of it comes to.
    fn agreed(&self) -> Option<Canonical> {
        self.known.before(Moment::END, &self.rules())
    }

    fn log(&mut self, app: &str, op: RowOp, mark: Option<Mark>) {
        self.now_us += 10;
        let row = self.rows.entry(app.to_owned()).or_default();
        let fields = row.iter().map(|(name, value)| FieldValue {
            name: name.clone(),
            value: value.clone(),
        });
        let fields = if op == RowOp::Present {
            fields.collect()
        } else {
            Vec::new()
        };
        self.known.said.push(Mapped {
            cid: self.known.cid.clone(),
            source: app.to_owned(),
            row: RowKey(format!("{{\"id\":\"{app}\"}}")),
            was: None,
            position: Position::new(1, Lsn(self.now_us.cast_unsigned()), 0),
            commit_us: self.now_us,
            op,
            fields,
            before: Vec::new(),
            mark,
            ahead: false,
        });
    }

    /// A user of the app sets these fields, 10 after whatever was last.
    fn says(&mut self, app: &str, fields: &[(&str, Value)]) {
        let row = self.rows.entry(app.to_owned()).or_default();
        row.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.log(app, RowOp::Present, None);
    }

    /// The app receives what is agreed of its email.
    fn gets(&mut self, app: &str) {
        let agreed = self.agreed().unwrap();
        let email = agreed.fields["email"].clone();
        let row = self.rows.entry(app.to_owned()).or_default();
        row.insert("email".to_owned(), email.clone());
        let mark = Mark {
            pipeline: "p".to_owned(),
            entity: "customer".to_owned(),
            cid: "c".to_owned(),
            table: "public.t".to_owned(),
            row: None,
            act: Act::Update,
            vector: agreed.vector,
            stamp_us: agreed.stamp_us,
            fields: vec![MarkedField {
                name: "email".to_owned(),
                value: Some(email),
                delivered: None,
            }],
        };
        self.log(app, RowOp::Present, Some(mark));
    }

    /// A person decides about the email.
    fn decides(&mut self, value: &str, answers: Vector) {
        self.now_us += 10;
        let place = u64::try_from(self.known.decisions.len()).unwrap();
        let decision = Decision {
            cid: "c".to_owned(),
            field: "email".to_owned(),
            value: Value::from(value),
            answers,
            by: "ada".to_owned(),
            why: "wrong import".to_owned(),
            at_us: self.now_us,
            approves: None,
        };
        self.known.decisions.push((Position::new(0, Lsn(place), 0), decision));
    }

    /// What becomes of what the app wrote from then on.
    fn undo(&mut self, source: &str, from_us: i64) -> Vec<String> {
        self.known.agreed = self.agreed();
        self.undo_as_known(source, from_us)
    }

    fn undo_as_known(&self, source: &str, from_us: i64) -> Vec<String> {
        let window = Window {
            source: source.to_owned(),
            from_us,
            to_us: i64::MAX,
        };
        let lines = plan(&window, &self.rules(), &self.known).into_iter();
        let told = lines.map(|line| match line.what {
            What::Back { value, .. } => format!("{}: {} back to {value}", line.field, line.now),
            What::Left { why } => format!("{}: left, {why}", line.field),
            What::Stays { why, .. } => format!("{}: stays, {why}", line.field),
        });
        told.collect()
    }
}

fn email(value: &str) -> [(&'static str, Value); 1] {
    [("email", Value::from(value))]
}

#[test]
fn an_edit_that_stands_goes_back_to_what_was_agreed_before_and_the_word_has_seen_all() {
    let mut history = History::begun();
    history.says("shop", &email("wrong"));
    history.gets("crm");
    assert_eq!(history.undo("shop", 30), [r#"email: "wrong" back to "old""#]);
    let agreed = history.known.agreed.clone().unwrap();
    let window = Window {
        source: "shop".to_owned(),
        from_us: 30,
        to_us: 31,
    };
    let lines = plan(&window, &history.rules(), &history.known);
    let answers = lines.iter().find_map(|line| match &line.what {
        What::Back { answers, .. } => Some(answers),
        _ => None,
    });
    assert_eq!(answers, Some(&agreed.vector));
    assert!(
        history.undo("crm", 30).is_empty(),
        "what it received is no edit of its own"
    );
    assert!(history.undo("shop", 31).is_empty(), "what was before is not undone");
}

#[test]
fn what_was_edited_since_is_left_alone() {
    let mut history = History::begun();
    history.says("shop", &email("wrong"));
    history.gets("crm");
    history.says("crm", &email("right"));
    assert_eq!(history.undo("shop", 30), ["email: left, edited since by crm"]);
    let mut history = History::begun();
    history.says("shop", &email("wrong"));
    history.says("shop", &email("right"));
    let window = Window {
        source: "shop".to_owned(),
        from_us: 30,
        to_us: 40,
    };
    history.known.agreed = history.agreed();
    let lines = plan(&window, &history.rules(), &history.known);
    assert_eq!(
        lines[0].what,
        left("edited since by shop"),
        "after the time that is undone"
    );
}

#[test]
fn what_was_said_since_and_does_not_hold_is_no_reason_to_leave_it_alone() {
    let stands = "email: stays, it stands, and what was said since does not hold: ";
    let person = format!("{stands}operator (ada): wrong import");
    let mut history = History::begun_by("{ on_conflict: hold, approvers: [ada, bob] }");
    history.says("shop", &email("wrong"));
    history.gets("crm");
    let seen = history.agreed().unwrap().vector;
    history.decides("right", seen);
    assert_eq!(history.undo("shop", 30), [person.as_str()], "nobody has approved it");
    let window = Window {
        source: "shop".to_owned(),
        from_us: 30,
        to_us: i64::MAX,
    };
    let lines = plan(&window, &history.rules(), &history.known);
    let alone = |what: &What| matches!(what, What::Stays { remedy, .. } if remedy == "put it right in shop");
    assert!(lines.iter().all(|line| alone(&line.what)), "{lines:?}");
    let mut history = History::begun();
    history.says("shop", &email("wrong"));
    history.known.agreed = history.agreed();
    history.decides("right", Vector::new());
    assert_eq!(
        history.undo_as_known("shop", 30),
        [person.as_str()],
        "he had not seen it"
    );
    let mut history = History::begun_by("[shop, crm]");
    history.says("shop", &email("wrong"));
    history.says("crm", &email("mine"));
    assert_eq!(
        history.undo("shop", 30),
        [format!("{stands}crm")],
        "the rule prefers shop"
    );
    history.says("shop", &email("worse"));
    assert_eq!(
        history.undo("shop", 30),
        [r#"email: "worse" back to "old""#],
        "what lost was never agreed"
    );
}

#[test]
fn several_edits_in_a_row_are_one_and_end_at_whoever_spoke_in_between() {
    let mut history = History::begun();
    history.says("shop", &email("w1"));
    history.says("shop", &email("w2"));
    assert_eq!(history.undo("shop", 30), [r#"email: "w2" back to "old""#]);
    assert_eq!(history.undo("shop", 40), [r#"email: "w2" back to "w1""#]);
    history.gets("crm");
    history.says("crm", &email("mine"));
    history.gets("shop");
    history.says("shop", &email("w3"));
    assert_eq!(history.undo("shop", 30), [r#"email: "w3" back to "mine""#]);
}

#[test]
fn where_words_did_not_see_each_other_the_other_one_was_agreed() {
    let mut history = History::begun();
    history.says("crm", &email("mine"));
    history.says("shop", &email("wrong"));
    assert_eq!(history.undo("shop", 30), [r#"email: "wrong" back to "mine""#]);
    assert_eq!(history.undo("crm", 30), ["email: left, edited since by shop"]);
}

#[test]
fn twice_is_once() {
    let mut history = History::begun();
    history.says("shop", &email("wrong"));
    let seen = history.agreed().unwrap().vector;
    history.known.agreed = history.agreed();
    history.decides("old", seen);
    let left = ["email: left, edited since by operator (ada): wrong import"];
    assert_eq!(history.undo_as_known("shop", 30), left, "merge has not read it yet");
    assert_eq!(history.undo("shop", 30), left);
    assert_eq!(
        history.known.agreed.as_ref().unwrap().fields["email"],
        Value::from("old")
    );
}

#[test]
fn after_a_person_the_app_may_be_wrong_again() {
    let mut history = History::begun();
    history.says("shop", &email("wrong"));
    let seen = history.agreed().unwrap().vector;
    history.decides("right", seen);
    history.gets("shop");
    history.says("shop", &email("again"));
    assert_eq!(history.undo("shop", 30), [r#"email: "again" back to "right""#]);
}

#[test]
fn what_the_app_had_received_was_before_whatever_the_clocks_say() {
    let mut history = History::begun();
    history.says("shop", &email("x1"));
    history.known.said.last_mut().unwrap().commit_us += 60_000_000;
    history.gets("crm");
    history.says("crm", &email("wrong"));
    assert_eq!(history.undo("crm", 50), [r#"email: "wrong" back to "x1""#]);
    let mut history = History::begun();
    history.says("shop", &email("x1"));
    let seen = history.agreed().unwrap().vector;
    history.decides("right", seen);
    history.known.decisions.last_mut().unwrap().1.at_us += 60_000_000;
    history.gets("crm");
    history.says("crm", &email("wrong"));
    assert_eq!(history.undo("crm", 60), [r#"email: "wrong" back to "right""#]);
}

#[test]
fn a_group_goes_back_as_one() {
    let mut history = History::begun();
    history.says("shop", &[("street", Value::from("s1"))]);
    assert_eq!(
        history.undo("shop", 30),
        [r#"address: ["s1","c0"] back to ["s0","c0"]"#]
    );
}

#[test]
fn what_a_person_cannot_say_is_named() {
    let mut history = History::begun();
    history.says("shop", &[("stock", Value::from(4)), ("note", Value::from("n1"))]);
    let told = history.undo("shop", 30);
    assert_eq!(
        told,
        [
            "note: stays, no link writes it into shop, which would keep what it has",
            "stock: stays, shop added -6: a sum is made of what every app added, no person's"
        ]
    );
    history.says("shop", &[("stock", Value::from(10))]);
    assert_eq!(history.undo("shop", 30).len(), 1, "it has given back what it took");
}

#[test]
fn what_merge_has_not_taken_in_is_waited_for() {
    let mut history = History::begun();
    history.says("shop", &email("wrong"));
    history.known.agreed = history.agreed();
    history.says("crm", &email("mine"));
    assert_eq!(
        history.undo_as_known("shop", 30),
        ["email: stays, merge has not taken in what crm said of it"]
    );
}

#[test]
fn where_the_topic_does_not_reach_back_only_what_the_row_held_is_known() {
    let mut history = History::begun();
    history.says("shop", &email("w1"));
    history.gets("crm");
    history.says("shop", &email("w2"));
    history.gets("crm");
    history.known.agreed = history.agreed();
    history.known.said.drain(..2);
    history.known.whole = false;
    let unknown = "email: stays, what it was before is not known: the topic does not reach back so far";
    assert_eq!(history.undo_as_known("shop", 30), [unknown], "what w1 replaced is gone");
    assert_eq!(
        history.undo_as_known("shop", 50),
        [r#"email: "w2" back to "w1""#],
        "what w2 replaced is there"
    );
    history.known.said.clear();
    assert_eq!(
        history.undo_as_known("shop", 50),
        [unknown],
        "that it was said the agreed record still knows"
    );
}

#[test]
fn rows_that_came_and_went_are_named_and_stay_as_they_are() {
    let mut history = History::empty();
    history.says("shop", &email("new"));
    let made = "*: stays, shop made it, or it was read for the first time: no word of a person deletes a record";
    assert_eq!(history.undo("shop", 0), [made]);
    history.says("shop", &email("newer"));
    assert_eq!(history.undo("shop", 0), [made], "there is nothing to go back to");
    assert_eq!(history.undo("shop", 20), [r#"email: "newer" back to "new""#]);
    let mut history = History::begun();
    history.log("shop", RowOp::Deleted, None);
    assert_eq!(
        history.undo("shop", 30),
        ["*: stays, shop deleted its row; the record lives"]
    );
}
