//! What the sink does for records that are one, or were.

mod common;

use common::{app, knowing, link, record, word};
use syncline_schemas::canonical::{AppWords, Canonical, Member};
use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::value::Value;
use syncline_sink::lane::Lane;
use syncline_sink::plan::{Applied, Found, Given, Limits, Plan, Verdict, Write, books, plan};

fn row(id: i64, name: &str, stock: i64) -> Found {
    let columns = [
        ("id", Value::from(id)),
        ("name", name.into()),
        ("email", Value::Null),
        ("stock", stock.into()),
    ];
    let row: Row = columns
        .iter()
        .map(|(column, value)| ((*column).to_owned(), Cell::Set(value.clone())))
        .collect();
    Found::Row(RowKey(format!("{{\"id\":{id}}}")), row)
}

fn planned(record: &Canonical, applied: Option<&Applied>, found: &Found) -> Plan {
    let given = Given {
        pipeline: "acme",
        link: &link(),
        lane: &Lane::default(),
        limits: &Limits::default(),
        record,
        applied,
        found,
    };
    plan(&given).unwrap()
}

/// A record of the CRM alone: its row, a name and a stock.
fn alone(cid: &str, id: i64, name: &str, stock: i64, lsn: u64) -> Canonical {
    let mut record = record(cid, &[("name", name.into()), ("stock", stock.into())]);
    record.apps = vec![app("crm", id, vec![word("name", name, lsn), word("stock", stock, lsn)])];
    knowing(record, "crm", lsn)
}

/// `b` with `a` merged into it by the word at offset 7: both rows are to have b's name, and what both have in stock.
fn merged() -> Canonical {
    let mut record = alone("b", 8, "Bea", 3, 20);
    let theirs = AppWords {
        via: Some("a".to_owned()),
        ..app("crm", 7, vec![word("name", "Ada", 10), word("stock", 5, 10)])
    };
    record.apps.push(theirs);
    record.fields.insert("stock".to_owned(), 8.into());
    record.vector.advance("crm@a", common::at(10));
    record.identity.members = vec![Member {
        cid: "a".to_owned(),
        at: 7,
        joined: true,
    }];
    record
}

fn elsewhere() -> Canonical {
    let mut record = record("a", &[]);
    record.identity.at = Some(7);
    record.identity.merged_into = Some("b".to_owned());
    record
}

fn values(plan: &Plan) -> String {
    match &plan.write {
        Write::Update { row, values } => format!("{row} {values:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn each_row_of_one_is_written_by_the_books_of_its_own_record() {
    let merged = merged();
    assert_eq!(books(&merged, "crm", |_| false), ["b", "a"]);
    assert_eq!(
        books(&merged, "shop", |_| false),
        ["b"],
        "who has no row gets one, and not two"
    );
    assert_eq!(
        books(&merged, "shop", |cid| cid == "a"),
        ["a"],
        "a row that we made is there already"
    );
    let theirs = merged.through("a").unwrap();
    let found = row(7, "Ada", 5);
    let plan = planned(&theirs, None, &found);
    assert_eq!(plan.verdict, Verdict::Updated);
    let mark = plan.mark.as_ref().unwrap();
    assert_eq!(mark.cid, "a", "the app's log names the record that its row belongs to");
    assert_eq!(mark.vector.get("crm"), Some(common::at(10)));
    assert_eq!(mark.vector.get("crm@b"), Some(common::at(20)));
    assert_eq!(mark.field("stock").unwrap().delivered, Some(common::number("3")));
    let Write::Update { row, values } = &plan.write else {
        panic!("{:?}", plan.write)
    };
    assert_eq!(row.0, r#"{"id":7}"#);
    assert_eq!((&values["name"], &values["stock"]), (&"Bea".into(), &8.into()));
}

#[test]
fn a_record_that_is_elsewhere_writes_and_deletes_nothing() {
    let before = planned(&alone("a", 7, "Ada", 5, 10), None, &row(7, "Ada", 5));
    let plan = planned(&elsewhere(), before.applied.as_ref(), &row(7, "Ada", 5));
    assert_eq!((plan.verdict, plan.write), (Verdict::Nothing, Write::Nothing));
    assert_eq!((plan.mark, plan.applied), (None, None));
}

#[test]
fn whatever_is_read_again_the_last_word_on_identity_counts() {
    let first = alone("a", 7, "Ada", 5, 10);
    let merged = merged().through("a").unwrap();
    let applied = planned(&merged, None, &row(7, "Ada", 5)).applied.unwrap();
    assert_eq!(
        planned(&first, Some(&applied), &row(7, "Bea", 8)).verdict,
        Verdict::Older
    );
    // Split off again, by the word at 9: what is agreed knows less than what was written, and is newer all the same.
    let mut split = first.clone();
    split.identity.at = Some(9);
    let plan = planned(&split, Some(&applied), &row(7, "Bea", 8));
    assert_eq!(plan.verdict, Verdict::Updated, "the row gets back what is its own");
    assert!(values(&plan).contains("Ada"), "{}", values(&plan));
    let applied = plan.applied.unwrap();
    assert_eq!(
        planned(&merged, Some(&applied), &row(7, "Ada", 5)).verdict,
        Verdict::Older
    );
    assert_eq!(
        planned(&split, Some(&applied), &row(7, "Ada", 5)).verdict,
        Verdict::Nothing
    );
}

#[test]
fn who_comes_and_goes_makes_a_record_newer_though_it_knows_less() {
    let with = merged();
    let applied = planned(&with, None, &row(8, "Bea", 3)).applied.unwrap();
    let before = alone("b", 8, "Bea", 3, 20);
    assert_eq!(
        planned(&before, Some(&applied), &row(8, "Bea", 8)).verdict,
        Verdict::Older
    );
    let mut without = before.clone();
    without.identity.members = vec![Member {
        cid: "a".to_owned(),
        at: 9,
        joined: false,
    }];
    let plan = planned(&without, Some(&applied), &row(8, "Bea", 8));
    assert_eq!(plan.verdict, Verdict::Updated, "what was the other's goes again");
    let applied = plan.applied.unwrap();
    assert_eq!(
        planned(&with, Some(&applied), &row(8, "Bea", 3)).verdict,
        Verdict::Older
    );
}
