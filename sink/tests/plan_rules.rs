//! What the sink does for one record, case by case.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{app, at, knowing, link, number, record, word};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::decision::OPERATOR;
use syncline_schemas::lens::{Cell, Expr, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::mark::Act;
use syncline_schemas::pipeline::{Direction, FieldKind, Lift, Link, Made};
use syncline_schemas::position::Vector;
use syncline_schemas::value::{Number, Value};
use syncline_sink::lane::Lane;
use syncline_sink::plan::{
    Applied, AppliedField, Found, Given, Limits, Plan, Refusal, Verdict, Write, address, hash, plan,
};

fn row(columns: &[(&str, Value)]) -> Row {
    columns
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Cell::Set(value.clone())))
        .collect()
}

fn key() -> RowKey {
    RowKey(r#"{"id":7}"#.to_owned())
}

fn found(name: &str, email: &str, stock: i64) -> Found {
    let columns = [
        ("id", 7.into()),
        ("name", name.into()),
        ("email", email.into()),
        ("stock", stock.into()),
    ];
    Found::Row(key(), row(&columns))
}

fn given(record: &Canonical, applied: Option<&Applied>, found: &Found) -> Result<Plan, Refusal> {
    with_link(&link(), record, applied, found)
}

fn with_link(link: &Link, record: &Canonical, applied: Option<&Applied>, found: &Found) -> Result<Plan, Refusal> {
    plan(&Given {
        pipeline: "acme",
        lane: &Lane::default(),
        link,
        limits: &Limits::default(),
        record,
        applied,
        found,
    })
}

fn written(plan: &Plan) -> BTreeMap<String, String> {
    match &plan.write {
        Write::Insert { values, .. } | Write::Update { values, .. } => values
            .iter()
            .map(|(column, value)| (column.clone(), value.to_string()))
            .collect(),
        _ => BTreeMap::new(),
    }
}

fn marked(plan: &Plan) -> Vec<&str> {
    plan.mark
        .iter()
        .flat_map(|mark| &mark.fields)
        .map(|field| field.name.as_str())
        .collect()
}

/// The agreed record: Ada, new address; crm's own word is the old address; the shop said the new one.
fn moved() -> Canonical {
    let mut record = record(
        "c1",
        &[("name", "Ada".into()), ("email", "new".into()), ("stock", 5.into())],
    );
    record.apps = vec![
        app(
            "crm",
            7,
            vec![word("name", "Ada", 10), word("email", "old", 10), word("stock", 5, 10)],
        ),
        app("shop", 1, vec![word("email", "new", 20)]),
    ];
    knowing(knowing(record, "crm", 10), "shop", 20)
}

#[test]
fn a_row_nobody_knows_is_made_of_all_fields() {
    let mut record = moved();
    record.apps.remove(0);
    let plan = given(&record, None, &Found::Unknown).unwrap();
    assert_eq!(plan.verdict, Verdict::Inserted);
    assert_eq!(written(&plan).len(), 3);
    let mark = plan.mark.as_ref().unwrap();
    assert_eq!(
        (mark.act, mark.row.as_deref(), mark.table.as_str()),
        (Act::Insert, None, "public.contacts")
    );
    assert_eq!(mark.field("stock").unwrap().delivered, Some(number("5")));
    assert_eq!(mark.field("stock").unwrap().value, None);
    let applied = plan.applied.unwrap();
    assert_eq!((applied.row, applied.counters["stock"].clone()), (None, number("5")));
}

#[test]
fn a_row_whose_key_is_an_agreed_field_is_marked_with_its_key() {
    let mut link = link();
    link.key = vec!["email".to_owned()];
    let mut record = moved();
    record.apps.remove(0);
    let plan = with_link(&link, &record, None, &Found::Unknown).unwrap();
    assert_eq!(plan.mark.unwrap().row.as_deref(), Some(r#"{"email":"new"}"#));
}

#[test]
fn only_what_differs_is_written_and_marked() {
    let plan = given(&moved(), None, &found("Ada", "old", 5)).unwrap();
    assert_eq!(plan.verdict, Verdict::Updated);
    assert_eq!(
        written(&plan),
        BTreeMap::from([("email".to_owned(), "\"new\"".to_owned())])
    );
    assert_eq!(marked(&plan), ["email"]);
    assert_eq!(plan.mark.unwrap().row.as_deref(), Some(r#"{"id":7}"#));
}

#[test]
fn an_edit_on_its_way_is_left_alone() {
    let plan = given(&moved(), None, &found("Ada", "newer", 5)).unwrap();
    assert_eq!((plan.verdict, plan.write), (Verdict::Stale, Write::Nothing));
    assert_eq!((plan.mark, plan.stale), (None, vec!["email".to_owned()]));
    assert_eq!(plan.applied.unwrap().vector, moved().vector);
}

#[test]
fn a_stale_field_does_not_hold_up_its_neighbours() {
    let mut record = moved();
    record.fields.insert("name".to_owned(), "Ada L".into());
    let plan = given(&record, None, &found("Ada", "newer", 5)).unwrap();
    assert_eq!((plan.verdict, plan.stale.len()), (Verdict::Updated, 1));
    assert_eq!(marked(&plan), ["name"]);
}

#[test]
fn what_we_wrote_is_expected_until_the_app_says_otherwise() {
    let first = given(&moved(), None, &found("Ada", "old", 5)).unwrap().applied.unwrap();
    let mut second = knowing(moved(), "shop", 30);
    second.fields.insert("email".to_owned(), "newest".into());
    assert_eq!(
        given(&second, Some(&first), &found("Ada", "new", 5)).unwrap().verdict,
        Verdict::Updated
    );
    assert_eq!(
        given(&second, Some(&first), &found("Ada", "edited", 5))
            .unwrap()
            .verdict,
        Verdict::Stale
    );
    // The edit is known now, and lost against the shop's: it is corrected.
    second.apps[0].words[1] = word("email", "edited", 40);
    let second = knowing(second, "crm", 40);
    assert_eq!(
        given(&second, Some(&first), &found("Ada", "edited", 5))
            .unwrap()
            .verdict,
        Verdict::Updated
    );
}

#[test]
fn an_undone_edit_that_we_overtook_does_not_block_for_ever() {
    let first = given(&moved(), None, &found("Ada", "old", 5)).unwrap().applied.unwrap();
    let mut second = knowing(knowing(moved(), "shop", 30), "crm", 12);
    second.fields.insert("email".to_owned(), "newest".into());
    // old > x > old happened before our write of "new", and was read after it.
    second.apps[0].words[1] = word("email", "old", 12);
    assert_eq!(
        given(&second, Some(&first), &found("Ada", "new", 5)).unwrap().verdict,
        Verdict::Updated
    );
}

#[test]
fn older_records_change_nothing() {
    let mut later = knowing(moved(), "shop", 30);
    later.fields.insert("email".to_owned(), "newest".into());
    let applied = given(&later, None, &found("Ada", "old", 5)).unwrap().applied.unwrap();
    let plan = given(&moved(), Some(&applied), &found("Ada", "newest", 5)).unwrap();
    assert_eq!(
        (plan.verdict, plan.write, plan.mark, plan.applied),
        (Verdict::Older, Write::Nothing, None, None)
    );
}

#[test]
fn a_record_given_twice_changes_nothing() {
    let applied = given(&moved(), None, &found("Ada", "old", 5)).unwrap().applied.unwrap();
    let plan = given(&moved(), Some(&applied), &found("Ada", "new", 5)).unwrap();
    assert_eq!(
        (plan.verdict, plan.write, plan.mark, plan.applied),
        (Verdict::Nothing, Write::Nothing, None, None)
    );
}

#[test]
fn held_fields_are_left_alone() {
    let mut record = moved();
    record.held = vec!["email".to_owned()];
    let plan = given(&record, None, &found("Ada", "old", 5)).unwrap();
    assert_eq!((plan.verdict, plan.stale.len()), (Verdict::Nothing, 0));
    record.apps.remove(0);
    assert!(!written(&given(&record, None, &Found::Unknown).unwrap()).contains_key("email"));
}

#[test]
fn counters_are_added_to_by_what_is_due_in_all() {
    // The shop sold 3 and the crm 2 of 100: agreed 95, the crm's own 98, due to it in all -3.
    let mut record = moved();
    record.fields.insert("stock".to_owned(), 95.into());
    record.apps[0].words[2] = word("stock", 98, 10);
    let plan = given(&record, None, &found("Ada", "new", 98)).unwrap();
    assert_eq!(written(&plan)["stock"], "95");
    assert_eq!(
        plan.mark.as_ref().unwrap().field("stock").unwrap().delivered,
        Some(number("-3"))
    );
    let applied = plan.applied.unwrap();
    assert_eq!(applied.counters["stock"], number("-3"));
    // Again, while the crm has sold another 10 that we do not know of yet.
    assert_eq!(
        given(&record, Some(&applied), &found("Ada", "new", 85))
            .unwrap()
            .verdict,
        Verdict::Nothing
    );
    // The shop sells 1 more.
    let mut next = knowing(record, "shop", 30);
    next.fields.insert("stock".to_owned(), 94.into());
    let plan = given(&next, Some(&applied), &found("Ada", "new", 85)).unwrap();
    assert_eq!(written(&plan)["stock"], "84");
    assert_eq!(plan.applied.unwrap().counters["stock"], number("-4"));
}

#[test]
fn a_word_that_had_not_seen_others_is_told_the_decision_once() {
    let mut record = moved();
    record.apps[0].words[1] = word("email", "new", 10);
    record.apps[0].words[1].unseen.advance("shop", at(20));
    let plan = given(&record, None, &found("Ada", "new", 5)).unwrap();
    assert_eq!(
        (plan.verdict, plan.mark.as_ref().unwrap().act),
        (Verdict::Seen, Act::Seen)
    );
    assert_eq!(marked(&plan), ["email"]);
    let applied = plan.applied.unwrap();
    // Another field changes: nothing new to tell of this one.
    let mut next = knowing(record, "shop", 30);
    next.fields.insert("name".to_owned(), "Ada L".into());
    assert_eq!(
        marked(&given(&next, Some(&applied), &found("Ada", "new", 5)).unwrap()),
        ["name"]
    );
    // Another word on it is news.
    next.apps[0].words[1].unseen.advance("shop", at(30));
    let plan = given(&next, Some(&applied), &found("Ada", "new", 5)).unwrap();
    assert_eq!(marked(&plan), ["name", "email"]);
    let decided = knowing(next, OPERATOR, 1);
    let plan = given(&decided, plan.applied.as_ref(), &found("Ada L", "new", 5)).unwrap();
    assert_eq!(plan.verdict, Verdict::Nothing);
}

#[test]
fn another_row_of_the_app_has_no_past() {
    let mut record = moved();
    record.apps[0].made = Some(at(10));
    let applied = given(&record, None, &found("Ada", "old", 5)).unwrap().applied.unwrap();
    let mut applied = Applied {
        counters: BTreeMap::from([("stock".to_owned(), number("-3"))]),
        ..applied
    };
    // The same row, with another record.
    let next = knowing(record.clone(), "shop", 30);
    let plan = given(&next, Some(&applied), &found("Ada", "new", 2)).unwrap();
    assert_eq!(written(&plan)["stock"], "5");
    // Deleted and made again by the app: its own 5 is all there ever was.
    let mut anew = next;
    anew.apps[0].made = Some(at(50));
    let plan = given(&anew, Some(&applied), &found("Ada", "new", 5)).unwrap();
    assert_eq!(
        (plan.verdict, plan.applied.unwrap().made),
        (Verdict::Nothing, Some(at(50)))
    );
    // A row that we made and the app has not touched says nothing of where it was made.
    anew.apps[0].made = None;
    applied.counters.clear();
    assert!(given(&anew, Some(&applied), &found("Ada", "new", 5)).unwrap().write == Write::Nothing);
}

#[test]
fn a_deleted_entity_takes_its_row_with_it() {
    let mut record = knowing(moved(), "shop", 30);
    record.deleted = true;
    let plan = given(&record, None, &found("Ada", "old", 5)).unwrap();
    assert_eq!((plan.verdict, plan.mark.unwrap().act), (Verdict::Deleted, Act::Delete));
    assert!(plan.applied.unwrap().removed);
    let missing = given(&record, None, &Found::Missing(key())).unwrap();
    assert_eq!((missing.verdict, missing.mark), (Verdict::Nothing, None));
    let edited = given(&record, None, &found("Ada", "edited", 5)).unwrap();
    assert_eq!((edited.verdict, edited.write), (Verdict::Stale, Write::Nothing));
}

#[test]
fn a_row_that_the_app_deleted_stays_deleted() {
    let mut record = moved();
    record.apps[0].gone = true;
    assert_eq!(address(&record, "crm", None), None);
    let plan = given(&record, None, &Found::Unknown).unwrap();
    assert_eq!((plan.verdict, plan.write), (Verdict::Nothing, Write::Nothing));
}

/// Its app moved the row that we made, and said nothing else: what the record names goes before the books.
#[test]
fn a_row_of_our_making_is_addressed_where_its_app_moved_it() {
    let mut record = moved();
    record.apps[0] = app("crm", 8, Vec::new());
    let applied = Applied {
        row: Some(key()),
        ..Applied::default()
    };
    let moved_to = RowKey(r#"{"id":8}"#.to_owned());
    assert_eq!(address(&record, "crm", Some(&applied)), Some(moved_to));
}

#[test]
fn a_row_that_vanished_is_not_made_anew_before_we_know_why() {
    let plan = given(&moved(), None, &Found::Missing(key())).unwrap();
    assert_eq!((plan.verdict, plan.write), (Verdict::Stale, Write::Nothing));
}

#[test]
fn a_row_whose_deletion_does_not_stand_comes_back_with_its_key() {
    let mut record = moved();
    record.apps[0].remake = true;
    let plan = given(&record, None, &Found::Missing(key())).unwrap();
    assert_eq!((plan.verdict, written(&plan)["id"].as_str()), (Verdict::Inserted, "7"));
    let mark = plan.mark.unwrap();
    assert_eq!((mark.row.as_deref(), mark.act), (Some(r#"{"id":7}"#), Act::Restore));
}

/// What only its app writes comes back as the app had it, under a mark that tells nothing of it; not what was agreed.
#[test]
fn a_restored_row_gets_back_what_is_only_read_there() {
    let mut record = moved();
    record.apps[0].remake = true;
    let mut link = link();
    link.fields[1].put.clear();
    let plan = with_link(&link, &record, None, &Found::Missing(key())).unwrap();
    assert_eq!(written(&plan)["email"], "\"old\"");
    assert!(plan.mark.as_ref().unwrap().field("email").unwrap().is_kept());
    assert!(
        !plan.applied.unwrap().fields.contains_key("email"),
        "it is none of our writes"
    );
    // Nobody can tell what the columns were, or the database works them out: the row comes back all the same.
    link.fields[1].get = Some("join(' ', email, name)".parse().unwrap());
    let plan = with_link(&link, &record, None, &Found::Missing(key())).unwrap();
    assert_eq!((plan.verdict, written(&plan).get("email")), (Verdict::Inserted, None));
    assert!(plan.mark.unwrap().field("email").unwrap().is_kept());
}

#[test]
fn a_generated_column_of_a_restored_row_is_not_written() {
    let mut record = moved();
    record.apps[0].remake = true;
    let mut link = link();
    link.fields[1].put.clear();
    let limits = Limits {
        generated: BTreeSet::from(["email".to_owned()]),
        ..Limits::default()
    };
    let plan = plan(&Given {
        pipeline: "acme",
        lane: &Lane::default(),
        link: &link,
        limits: &limits,
        record: &record,
        applied: None,
        found: &Found::Missing(key()),
    })
    .unwrap();
    assert_eq!((plan.verdict, written(&plan).get("email")), (Verdict::Inserted, None));
}

/// Somebody who knew of the deletion has made the entity again: what was said before went with the row.
#[test]
fn a_row_made_anew_for_an_entity_made_again_is_not_the_old_one() {
    let mut record = moved();
    record.apps[0].remake = true;
    record.apps[0].words.clear();
    let plan = given(&record, None, &Found::Missing(key())).unwrap();
    assert_eq!((plan.verdict, plan.mark.unwrap().act), (Verdict::Inserted, Act::Insert));
}

#[test]
fn a_row_that_we_deleted_comes_back_with_the_entity() {
    let mut deleted = moved();
    deleted.deleted = true;
    let applied = given(&deleted, None, &found("Ada", "old", 5)).unwrap().applied.unwrap();
    let mut alive = knowing(moved(), "shop", 40);
    alive.apps.remove(0);
    assert_eq!(address(&alive, "crm", Some(&applied)), Some(key()));
    let plan = given(&alive, Some(&applied), &Found::Missing(key())).unwrap();
    assert_eq!((plan.verdict, written(&plan)["id"].as_str()), (Verdict::Inserted, "7"));
    let applied = plan.applied.unwrap();
    assert!(!applied.removed && applied.counters["stock"] == number("5"));
}

#[test]
fn a_field_nobody_reads_here_is_written_whatever_it_holds() {
    let mut link = link();
    link.direction = Direction::OutOf;
    let plan = with_link(&link, &moved(), None, &found("Ada", "anything", 1)).unwrap();
    assert_eq!(written(&plan)["email"], "\"new\"");
    assert_eq!(written(&plan)["stock"], "5");
}

#[test]
fn a_field_that_cannot_be_read_back_is_written_when_it_changes() {
    let mut link = link();
    link.fields[1].get = None;
    link.fields[1].put = vec![("email".to_owned(), Expr::Lower(Box::new(Expr::name("email"))))];
    let first = with_link(&link, &moved(), None, &found("Ada", "whatever", 5)).unwrap();
    assert_eq!(first.verdict, Verdict::Updated);
    let again = with_link(&link, &moved(), first.applied.as_ref(), &found("Ada", "whatever", 5)).unwrap();
    assert_eq!(again.verdict, Verdict::Nothing);
}

#[test]
fn what_a_column_would_round_is_refused() {
    let mut record = moved();
    record.counters.clear();
    record.fields.insert("stock".to_owned(), "5.125".parse().unwrap());
    let limits = Limits {
        digits: BTreeMap::from([("stock".to_owned(), 2)]),
        ..Limits::default()
    };
    let found = found("Ada", "new", 5);
    let refused = plan(&Given {
        pipeline: "acme",
        lane: &Lane::default(),
        link: &link(),
        limits: &limits,
        record: &record,
        applied: None,
        found: &found,
    });
    let reason = refused.unwrap_err().to_string();
    assert!(reason.contains("stock") && !reason.contains("5.125"), "{reason}");
}

/// Two apps with `char(n)` of different lengths would correct each other for ever.
#[test]
fn blanks_that_a_column_adds_or_cuts_are_no_difference() {
    let mut record = moved();
    record.fields.insert("name".to_owned(), "Ada       ".into());
    let limits = Limits {
        padded: BTreeSet::from(["name".to_owned()]),
        ..Limits::default()
    };
    let found = found("Ada  ", "new", 5);
    let plan = plan(&Given {
        pipeline: "acme",
        lane: &Lane::default(),
        link: &link(),
        limits: &limits,
        record: &record,
        applied: None,
        found: &found,
    });
    assert!(!written(&plan.unwrap()).contains_key("name"));
}

/// What the app was told of and holds in its own way is what is expected there when something else is agreed.
#[test]
fn what_was_told_and_not_written_is_remembered_as_the_app_holds_it() {
    let limits = Limits {
        padded: BTreeSet::from(["name".to_owned()]),
        ..Limits::default()
    };
    let mut said = word("name", "Ada  ", 9);
    said.unseen.advance("shop", at(1));
    let mut record = knowing(moved(), "crm", 9);
    record.apps = vec![app("crm", 1, vec![said])];
    record.fields.insert("name".to_owned(), "Ada       ".into());
    let found = found("Ada  ", "new", 5);
    let given = |record: &Canonical, applied: Option<&Applied>| {
        plan(&Given {
            pipeline: "acme",
            lane: &Lane::default(),
            link: &link(),
            limits: &limits,
            record,
            applied,
            found: &found,
        })
    };
    let told = given(&record, None).unwrap();
    assert!(marked(&told).contains(&"name") && !written(&told).contains_key("name"));
    let mut next = knowing(record, "shop", 99);
    next.fields.insert("name".to_owned(), "Bob".into());
    let plan = given(&next, told.applied.as_ref()).unwrap();
    assert!(written(&plan).contains_key("name"), "{plan:?}");
}

#[test]
fn null_gives_way_to_the_apps_default_where_null_cannot_be() {
    let mut record = moved();
    record.apps.remove(0);
    record.fields.insert("email".to_owned(), Value::Null);
    let limits = Limits {
        never_null: ["email".to_owned()].into(),
        ..Limits::default()
    };
    let made = plan(&Given {
        pipeline: "acme",
        lane: &Lane::default(),
        link: &link(),
        limits: &limits,
        record: &record,
        applied: None,
        found: &Found::Unknown,
    })
    .unwrap();
    assert!(!written(&made).contains_key("email") && !marked(&made).contains(&"email"));
    assert_eq!(
        written(&given(&record, None, &Found::Unknown).unwrap())["email"],
        "null"
    );
}

#[test]
fn positions_in_the_books_are_those_known_at_the_write() {
    let applied = given(&moved(), None, &found("Ada", "old", 5)).unwrap().applied.unwrap();
    assert_eq!(applied.fields["email"].word, Some(at(10)));
    assert_eq!(applied.fields["email"].vector, moved().vector);
    let text = serde_json::to_string(&applied).unwrap();
    assert_eq!(serde_json::from_str::<Applied>(&text).unwrap(), applied);
}

/// What becomes of a field: another, that is the same or is made by an expression.
fn lift(from: &str, field: &str, by: Option<&str>) -> Lift {
    Lift {
        from: from.to_owned(),
        into: vec![Made {
            field: field.to_owned(),
            kind: FieldKind::Text,
            by: by.map(|by| by.parse().unwrap()),
        }],
        later: BTreeSet::from([field.to_owned()]),
    }
}

#[test]
fn what_was_written_under_an_older_version_counts_and_a_converted_value_is_told_before_it_is_overwritten() {
    let written = |value: &str| AppliedField {
        word: None,
        hash: hash(&value.into()),
        vector: Vector::new(),
    };
    let mut applied = Applied {
        row: Some(key()),
        fields: [("title", "Ana"), ("mail", "A@X")]
            .map(|(name, value)| (name.to_owned(), written(value)))
            .into(),
        counters: [("pieces".to_owned(), Number::from(2_i64))].into(),
        ..Applied::default()
    };
    applied.lift(&[
        lift("title", "name", None),
        lift("mail", "email", Some("lower(mail)")),
        lift("pieces", "stock", None),
    ]);
    let found = found("Ana", "a@x", 5);
    let agreed = |email: &str| {
        let fields: [(&str, Value); 3] = [("name", "Bo".into()), ("email", email.into()), ("stock", 2.into())];
        record("c1", &fields)
    };
    let same = given(&agreed("a@x"), Some(&applied), &found).unwrap();
    assert_eq!(same.verdict, Verdict::Updated);
    assert_eq!(written_names(&same), ["name"], "nothing is added to the counter twice");
    let marked: Vec<String> = same.mark.unwrap().fields.into_iter().map(|field| field.name).collect();
    assert_eq!(marked, ["name", "email"]);
    let told = same.applied.unwrap();
    assert_eq!(told.fields["email"].hash, hash(&"a@x".into()));
    let other = given(&agreed("b@x"), Some(&applied), &found).unwrap();
    assert_eq!(other.stale, ["email"], "nobody knows whether that is what we wrote");
    let other = given(&agreed("b@x"), Some(&told), &self::found("Bo", "a@x", 5)).unwrap();
    assert_eq!(written_names(&other), ["email"]);
}

fn written_names(plan: &Plan) -> Vec<String> {
    self::written(plan).into_keys().collect()
}
