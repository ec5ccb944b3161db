//! Rows that are heard of under a new key before all is heard that was said under the old one: what is left is what
//! reading the log in its order leaves, to the last byte.

use syncline_schemas::mapped::{FieldValue, Mapped, RowKey, RowOp};
use syncline_schemas::mark::{Act, Mark, MarkedField};
use syncline_schemas::pipeline::{DeletePolicy, Entity, Strategy};
use syncline_schemas::position::{Lsn, Position, Vector};
use syncline_schemas::value::Value;
use syncline_transform::merge::{EntityState, Resolved, resolve};

use crate::model::{CID, Dice, entity};
use crate::scaled;

fn key(id: usize) -> RowKey {
    RowKey(format!("{{\"id\":{id}}}"))
}

pub(super) fn at(lsn: u64, ordinal: u64) -> Position {
    Position::new(1, Lsn(lsn), ordinal)
}

/// What an app says of its row there; the clock is the log.
pub(super) fn said(app: &str, id: usize, position: Position, op: RowOp, fields: &[(&str, Value)]) -> Mapped {
    let field = |(name, value): &(&str, Value)| FieldValue {
        name: (*name).to_owned(),
        value: value.clone(),
    };
    Mapped {
        cid: CID.to_owned(),
        source: app.to_owned(),
        row: key(id),
        was: None,
        position,
        commit_us: i64::try_from(position.lsn.0).unwrap(),
        op,
        fields: fields.iter().map(field).collect(),
        before: Vec::new(),
        mark: None,
        ahead: false,
    }
}

pub(super) fn holds(app: &str, id: usize, lsn: u64, field: &str, value: impl Into<Value>) -> Mapped {
    said(app, id, at(lsn, 0), RowOp::Present, &[(field, value.into())])
}

/// The end of a row under one key and its beginning under another.
pub(super) fn moves(from: usize, to: usize, lsn: u64, field: &str, value: impl Into<Value>) -> [Mapped; 2] {
    let was = Some(key(from));
    let end = Mapped {
        was: was.clone(),
        ..said("shop", to, at(lsn, 0), RowOp::Seen, &[])
    };
    let beginning = Mapped {
        was,
        ..said("shop", to, at(lsn, 1), RowOp::Present, &[(field, value.into())])
    };
    [end, beginning]
}

/// The same with our mark: the field is as agreed, which was made from what crm had said up to there.
pub(super) fn ours(said: Mapped, act: Act, field: MarkedField, crm: u64) -> Mapped {
    let mark = Mark {
        pipeline: "p".to_owned(),
        entity: "customer".to_owned(),
        cid: CID.to_owned(),
        table: "public.customers".to_owned(),
        row: Some(said.row.0.clone()),
        act,
        vector: Vector::from_iter([("crm", at(crm, 0))]),
        stamp_us: i64::try_from(crm).unwrap(),
        fields: vec![field],
    };
    Mapped {
        mark: Some(mark),
        ..said
    }
}

pub(super) fn agreed(field: &str, value: &Value) -> MarkedField {
    MarkedField {
        name: field.to_owned(),
        value: Some(value.clone()),
        delivered: None,
    }
}

pub(super) fn joined<'a>(entity: &Entity, said: impl IntoIterator<Item = &'a Mapped>) -> EntityState {
    let mut state = EntityState::default();
    said.into_iter().for_each(|said| state.join(said, entity));
    state
}

fn resolved(entity: &Entity, state: &EntityState) -> Resolved {
    resolve(CID, state, entity, &["shop".to_owned(), "crm".to_owned()])
}

#[test]
fn an_edit_just_before_a_move_is_said_where_it_stands() {
    let entity = entity(&[("name", Strategy::Latest)], DeletePolicy::UpdateWins);
    let old = [
        holds("shop", 7, 10, "name", "a"),
        holds("shop", 7, 20, "name", "of shop"),
    ];
    let [end, beginning] = moves(7, 70, 30, "name", "of shop");
    let crm = [holds("crm", 1, 10, "name", "a"), holds("crm", 1, 25, "name", "of crm")];
    let mut state = joined(&entity, crm.iter().chain([&beginning]));
    // Until the old key is heard of, the row says what it holds.
    let early = resolved(&entity, &state).canonical.unwrap();
    assert_eq!(early.app("shop").unwrap().row, key(70));
    old.iter().chain([&end]).for_each(|said| state.join(said, &entity));
    let resolved = resolved(&entity, &state);
    let record = resolved.canonical.unwrap();
    assert_eq!(record.fields["name"], Value::from("of crm"), "the later edit");
    let words = record.app("shop").unwrap();
    assert_eq!(
        (&words.row, words.word("name").unwrap().position),
        (&key(70), at(20, 0))
    );
    let lost = resolved.conflicts[0]
        .candidates
        .iter()
        .find(|one| one.source == "shop")
        .unwrap();
    assert_eq!((lost.position, lost.value.clone()), (at(20, 0), Some("of shop".into())));
    let in_order = joined(&entity, crm.iter().chain(&old).chain([&end, &beginning]));
    assert_eq!(state.to_bytes(), in_order.to_bytes());
}

#[test]
fn what_we_had_written_before_a_move_is_counted_once() {
    let entity = entity(&[("stock", Strategy::Add)], DeletePolicy::UpdateWins);
    let delivered = MarkedField {
        name: "stock".to_owned(),
        value: None,
        delivered: Some("5".parse().unwrap()),
    };
    let old = [
        holds("shop", 7, 10, "stock", 10),
        ours(holds("shop", 7, 20, "stock", 15), Act::Update, delivered, 12),
    ];
    let [end, beginning] = moves(7, 70, 30, "stock", 15);
    let crm = [holds("crm", 1, 10, "stock", 10), holds("crm", 1, 12, "stock", 15)];
    let early = joined(&entity, crm.iter().chain([&beginning]));
    let early = resolved(&entity, &early).canonical.unwrap();
    let words = early.app("shop").unwrap();
    assert_eq!(
        (&words.row, words.made, words.word("stock")),
        (&key(70), None, None),
        "nobody knows what was delivered to it"
    );
    let state = joined(&entity, crm.iter().chain([&beginning]).chain(&old).chain([&end]));
    let record = resolved(&entity, &state).canonical.unwrap();
    assert_eq!(record.fields["stock"], Value::from(15));
}

#[test]
fn a_mark_that_is_read_after_its_row_has_moved_tells_of_it_under_its_new_key() {
    let entity = entity(&[("name", Strategy::Latest)], DeletePolicy::UpdateWins);
    let told = said("shop", 7, at(25, 0), RowOp::Seen, &[]);
    let told = ours(told, Act::Seen, agreed("name", &"of crm".into()), 12);
    let [end, beginning] = moves(7, 70, 30, "name", "of crm");
    let [next_end, next] = moves(70, 8, 35, "name", "of crm");
    let last = holds("shop", 8, 40, "name", "of shop");
    let row = [
        holds("shop", 7, 10, "name", "of crm"),
        end,
        beginning,
        next_end,
        next,
        last,
    ];
    // What the crm says now is older by its clock, and not what the shop had before it.
    let crm = [
        holds("crm", 1, 10, "name", "a"),
        holds("crm", 1, 12, "name", "of another"),
    ];
    let unaware = resolved(&entity, &joined(&entity, crm.iter().chain(&row)));
    assert_eq!(unaware.conflicts.len(), 1, "without the mark nobody had seen anything");
    let late = joined(&entity, crm.iter().chain(&row).chain([&told]));
    assert!(resolved(&entity, &late).conflicts.is_empty());
    let in_order = joined(&entity, crm.iter().chain(&row[..1]).chain([&told]).chain(&row[1..]));
    assert_eq!(late.to_bytes(), in_order.to_bytes());
}

/// Who has used the old key since says that the end is not to come any more.
#[test]
fn a_row_without_an_end_waits_no_longer_than_it_must() {
    let entity = entity(&[("name", Strategy::Latest)], DeletePolicy::UpdateWins);
    let [_, beginning] = moves(7, 70, 30, "name", "b");
    let row = [holds("shop", 7, 10, "name", "a"), beginning];
    let taken = holds("shop", 7, 40, "name", "c");
    let state = joined(&entity, row.iter().chain([&taken]));
    let record = resolved(&entity, &state).canonical.unwrap();
    assert_eq!(record.app("shop").unwrap().row, key(70), "which was there first");
    let many: Vec<Mapped> = (31..200)
        .map(|lsn| holds("shop", 70, lsn, "name", format!("{lsn}").as_str()))
        .collect();
    let state = joined(&entity, row.iter().chain(&many));
    let bytes = state.to_bytes().len();
    assert!(bytes < 1_000, "what waits has a bound: {bytes}");
    let record = resolved(&entity, &state).canonical.unwrap();
    assert_eq!(record.fields["name"], Value::from("199"));
}

/// A row that is edited by its app, written and told by us, and moved on, also back to keys that it had: its partitions
/// and the marks without a row are read in any order, and again from where a process that was killed had begun.
#[test]
fn in_whatever_order_partitions_are_read_the_state_is_that_of_the_log() {
    let fields = [
        ("name", Strategy::Latest),
        ("stock", Strategy::Add),
        ("tags", Strategy::Union),
    ];
    let entity = entity(&fields, DeletePolicy::UpdateWins);
    for seed in 0..scaled(4_000) {
        let dice = &mut Dice::new(seed);
        let topics = life(dice);
        let mut log: Vec<&Mapped> = topics.iter().flatten().collect();
        log.sort_by_key(|said| said.position);
        let in_order = joined(&entity, log);
        let mut state = EntityState::default();
        let mut next = vec![0; topics.len()];
        while (0..next.len()).any(|topic| next[topic] < topics[topic].len()) {
            let topic = dice.below(next.len());
            if let Some(said) = topics[topic].get(next[topic]) {
                state.join(said, &entity);
                next[topic] += 1;
            }
            if next[topic] > 0 && dice.below(6) == 0 {
                next[topic] -= dice.below(next[topic].min(3) + 1);
            }
            assert_eq!(EntityState::from_bytes(&state.to_bytes()).as_ref(), Ok(&state));
        }
        assert_eq!(state, in_order, "seed {seed}: {topics:?}");
    }
}

/// The row's records by the partition of their key, those of marks without a row last.
fn life(dice: &mut Dice) -> Vec<Vec<Mapped>> {
    let partitions = 2 + dice.below(2);
    let mut topics = vec![Vec::new(); partitions + 1];
    let (mut id, mut crm) = (0, 0);
    let mut name = Value::from("v0");
    let (mut stock, mut delivered) = (100_i64, 0_i64);
    let mut tags = vec![Value::from("a")];
    for lsn in 10..12 + u64::try_from(dice.below(9)).unwrap() {
        let told = match dice.below(if lsn == 10 { 1 } else { 6 }) {
            0 | 1 => {
                name = Value::text(format!("v{lsn}"));
                stock += i64::try_from(dice.below(5)).unwrap();
                tags.push(Value::text(format!("e{lsn}")));
                None
            }
            // What the crm said meanwhile.
            2 => {
                (crm, name) = (lsn, Value::text(format!("c{lsn}")));
                Some((Act::Update, agreed("name", &name)))
            }
            3 => {
                (crm, stock, delivered) = (lsn, stock + 7, delivered + 7);
                let field = MarkedField {
                    name: "stock".to_owned(),
                    value: None,
                    delivered: Some(delivered.into()),
                };
                Some((Act::Update, field))
            }
            4 => {
                crm = lsn;
                Some((Act::Seen, agreed("name", &name)))
            }
            _ => {
                let to = (id + 1 + dice.below(4)) % 5;
                let row = [
                    ("name", name.clone()),
                    ("stock", stock.into()),
                    ("tags", Value::List(tags.clone())),
                ];
                let was = Some(key(id));
                topics[id % partitions].push(Mapped {
                    was: was.clone(),
                    ..said("shop", to, at(lsn, 0), RowOp::Seen, &[])
                });
                topics[to % partitions].push(Mapped {
                    was,
                    ..said("shop", to, at(lsn, 1), RowOp::Present, &row)
                });
                id = to;
                continue;
            }
        };
        let row = [
            ("name", name.clone()),
            ("stock", stock.into()),
            ("tags", Value::List(tags.clone())),
        ];
        match told {
            Some((Act::Seen, field)) => {
                let seen = said("shop", id, at(lsn, 0), RowOp::Seen, &[]);
                topics[partitions].push(ours(seen, Act::Seen, field, crm));
            }
            Some((act, field)) => {
                let written = said("shop", id, at(lsn, 0), RowOp::Present, &row);
                topics[id % partitions].push(ours(written, act, field, crm));
            }
            None => topics[id % partitions].push(said("shop", id, at(lsn, 0), RowOp::Present, &row)),
        }
    }
    topics
}
