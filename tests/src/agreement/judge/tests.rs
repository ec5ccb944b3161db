//! What the judge tells on: each law is broken once in a history that is well otherwise.

use serde_json::{Value as Json, json};
use syncline_schemas::mark::{Act, Mark, MarkedField};
use syncline_schemas::position::{Lsn, Position, Vector};

use super::*;
use crate::agreed::{Agreed, Decided};
use crate::agreement::apps::EDITS;
use crate::agreement::log::Change;

const PERSON: &str = "site1@x.org";
const CID: &str = "c1";

/// Three logs, written by hand: each transaction takes a hundred bytes.
#[derive(Default)]
struct Logs([Vec<Transaction>; 3]);

fn shop(title: &str, visits: &str) -> Row {
    let cells = [
        ("store_no", "1"),
        ("code", PERSON),
        ("title", title),
        ("visits", visits),
    ];
    row(&cells)
}

fn crm(title: &str, visits: &str) -> Row {
    let cells = [("place_id", "u"), ("ref", PERSON), ("name", title), ("seen", visits)];
    row(&cells)
}

fn row(cells: &[(&str, &str)]) -> Row {
    let cell = |(name, text): &(&str, &str)| ((*name).to_owned(), Some((*text).to_owned()));
    cells.iter().map(cell).collect()
}

fn insert(table: &str, row: Row) -> Change {
    Change::Insert {
        table: format!("public.{table}"),
        row,
    }
}

fn update(table: &str, row: Row) -> Change {
    Change::Update {
        table: format!("public.{table}"),
        old_key: None,
        row,
    }
}

impl Logs {
    fn commit(&mut self, app: usize, mut changes: Vec<Change>, first: Change) -> &mut Self {
        changes.insert(0, first);
        let after = self.0[app].last().map_or(0, |last| last.end);
        self.0[app].push(Transaction {
            after,
            end: after + 100,
            at: "now".to_owned(),
            changes,
        });
        self
    }

    fn user(&mut self, app: usize, change: Change) -> &mut Self {
        self.commit(app, vec![change], insert("edits", row(&[("no", "1")])))
    }

    /// What the sink does, having seen so many transactions of the shop and of the crm.
    fn sink(&mut self, app: usize, act: Act, seen: [u64; 2], change: Change) -> &mut Self {
        let table = match &change {
            Change::Insert { table, .. } | Change::Update { table, .. } | Change::Delete { table, .. } => table.clone(),
            Change::Mark(_) => String::new(),
        };
        let mark = Mark {
            pipeline: "p".to_owned(),
            entity: if ["customers", "contacts", "accounts"]
                .iter()
                .any(|name| table.ends_with(name))
            {
                "customer"
            } else {
                "site"
            }
            .to_owned(),
            cid: CID.to_owned(),
            table,
            row: None,
            act,
            vector: vector(seen),
            stamp_us: 0,
            fields: ["title", "tags"].map(told).to_vec(),
        };
        self.commit(app, vec![change], Change::Mark(mark.to_text()))
    }

    fn judged(self, record: Record) -> Verdict {
        self.judged_of("site", record)
    }

    fn judged_of(self, entity: &'static str, record: Record) -> Verdict {
        let logs = self.0.map(Log::of);
        let persons = BTreeMap::from([((entity.to_owned(), CID.to_owned()), PERSON.to_owned())]);
        let history = History::of(&logs, &persons);
        let records = Records {
            of: BTreeMap::from([((entity, PERSON.to_owned()), record)]),
            persons,
            ..Records::default()
        };
        let case = Case {
            logs: &logs,
            history: &history,
            records: &records,
        };
        let verdict = case.judge();
        assert_eq!(verdict.is_well(), case.tell(&verdict).is_empty());
        verdict
    }
}

/// Up to the given transaction of each, none where it is 0.
fn vector(seen: [u64; 2]) -> Vector {
    let said = APPS.into_iter().zip(seen).filter(|(_, count)| *count > 0);
    said.map(|(app, count)| (app, Position::new(1, Lsn(count * 100 - 50), 0)))
        .collect()
}

fn told(name: &str) -> MarkedField {
    MarkedField {
        name: name.to_owned(),
        value: None,
        delivered: None,
    }
}

fn agreed(title: &str, visits: u64) -> Record {
    record(json!({ "code": PERSON, "title": title, "closed": null, "remark": null, "visits": visits }))
}

fn record(value: Json) -> Record {
    Record {
        agreed: Some(Agreed {
            cid: CID.to_owned(),
            place: (0, 0),
            json: json!({ "value": value, "deleted": false, "held": [] }),
        }),
        ..Record::default()
    }
}

fn candidate(record: &mut Record, app: &str, transaction: u64, value: Option<Json>) {
    let field = if value.is_some() { "title" } else { "*" };
    let said = Candidate {
        app: app.to_owned(),
        position: Position::new(1, Lsn(transaction * 100 - 50), 0),
        value,
        initial: false,
    };
    record.candidates.push((field.to_owned(), said));
}

/// The shop makes a row, the crm and billing get it.
fn made() -> Logs {
    let mut logs = Logs::default();
    logs.user(0, insert("stores", shop("a", "100")));
    logs.sink(1, Act::Insert, [1, 0], insert("places", crm("a", "100")));
    let billing = [
        ("branch_no", "S1"),
        ("branch", PERSON),
        ("label", "a"),
        ("visits", "100"),
    ];
    logs.sink(2, Act::Insert, [1, 0], insert("branches", row(&billing)));
    logs
}

fn billing(title: &str, visits: &str) -> Change {
    let cells = [
        ("branch_no", "S1"),
        ("branch", PERSON),
        ("label", title),
        ("visits", visits),
    ];
    update("branches", row(&cells))
}

/// Both edit at once, and the shop's edit lost.
fn both_edit() -> Logs {
    let mut logs = made();
    logs.user(0, update("stores", shop("of the shop", "100")));
    logs.user(1, update("places", crm("of the crm", "100")));
    logs.sink(0, Act::Update, [2, 2], update("stores", shop("of the crm", "100")));
    logs.sink(2, Act::Update, [2, 2], billing("of the crm", "100"));
    logs
}

fn kinds(verdict: &Verdict) -> Vec<&'static str> {
    verdict.wrong.keys().copied().collect()
}

#[test]
fn what_lost_has_to_be_in_a_conflict_or_before_a_later_edit() {
    let mut record = agreed("of the crm", 100);
    assert_eq!(kinds(&both_edit().judged(record.clone())), ["lost"]);
    candidate(&mut record, "crm", 2, Some(json!("of the crm")));
    assert_eq!(
        kinds(&both_edit().judged(record.clone())),
        ["lost"],
        "that is another's word"
    );
    candidate(&mut record, "shop", 2, Some(json!("of the shop")));
    let well = both_edit().judged(record);
    assert!(well.is_well(), "{:?}", well.wrong);

    let mut seen = made();
    seen.user(0, update("stores", shop("b", "100")));
    seen.sink(1, Act::Update, [2, 0], update("places", crm("b", "100")));
    seen.sink(2, Act::Update, [2, 0], billing("b", "100"));
    seen.user(1, update("places", crm("c", "100")));
    seen.sink(0, Act::Update, [2, 3], update("stores", shop("c", "100")));
    seen.sink(2, Act::Update, [2, 3], billing("c", "100"));
    let well = seen.judged(agreed("c", 100));
    assert!(well.is_well(), "{:?}", well.wrong);
}

#[test]
fn apps_that_differ_at_rest_are_told_and_held_fields_are_not() {
    let mut logs = made();
    logs.user(0, update("stores", shop("b", "100")));
    let mut record = agreed("b", 100);
    let differ = logs.judged(record.clone());
    assert_eq!(kinds(&differ), ["unequal"]);
    assert_eq!(differ.wrong["unequal"].len(), 2);
    let held = |record: &Record| {
        let mut logs = made();
        logs.user(0, update("stores", shop("b", "100")));
        logs.judged(record.clone())
    };
    if let Some(agreed) = &mut record.agreed {
        agreed.json["held"] = json!(["title"]);
    }
    assert_eq!(kinds(&held(&record)), ["unequal"], "nobody is asked");
    let open = Decided {
        json: json!({ "status": "open" }),
    };
    record.conflicts.insert("title".to_owned(), open);
    assert!(held(&record).is_well());
}

#[test]
fn what_nobody_said_is_invented_and_what_a_mark_does_not_know_has_no_cause() {
    let mut logs = made();
    logs.sink(1, Act::Update, [1, 0], update("places", crm("x", "100")));
    let wrong = logs.judged(agreed("a", 100));
    assert_eq!(kinds(&wrong), ["invented", "uncaused", "unequal"]);

    let mut early = made();
    early.user(0, update("stores", shop("b", "100")));
    early.sink(1, Act::Update, [1, 0], update("places", crm("b", "100")));
    early.sink(2, Act::Update, [2, 0], billing("b", "100"));
    assert_eq!(kinds(&early.judged(agreed("b", 100))), ["uncaused"]);
}

#[test]
fn a_write_without_a_mark_or_by_nobody_is_told() {
    let mut logs = made();
    logs.sink(1, Act::Delete, [1, 0], update("places", crm("a", "100")));
    assert_eq!(kinds(&logs.judged(agreed("a", 100))), ["log"]);
    let mut nobody = made();
    let change = update("places", crm("a", "100"));
    nobody.commit(1, Vec::new(), change);
    assert_eq!(kinds(&nobody.judged(agreed("a", 100))), ["log"]);
    assert_eq!(EDITS, "public.edits");
}

fn delete(table: &str, key: &str) -> Change {
    Change::Delete {
        table: format!("public.{table}"),
        key: row(&[(key, "1")]),
    }
}

#[test]
fn who_deletes_has_no_row_and_of_some_entities_nobody_has() {
    let deleted = || {
        let mut logs = made();
        logs.user(0, delete("stores", "store_no"));
        logs
    };
    let well = deleted().judged(agreed("a", 100));
    assert!(well.is_well(), "gone there alone: {:?}", well.wrong);
    let mut gone = agreed("a", 100);
    if let Some(agreed) = &mut gone.agreed {
        agreed.json["deleted"] = json!(true);
    }
    assert_eq!(kinds(&deleted().judged(gone)), ["unequal"], "the others have it still");
}

#[test]
fn a_deletion_that_left_no_trace_is_lost() {
    let mut logs = Logs::default();
    logs.user(0, insert("customers", row(&[("id", "1"), ("email", PERSON)])));
    logs.user(0, delete("customers", "id"));
    let wrong = logs.judged_of("customer", record(json!({ "email": PERSON })));
    assert_eq!(kinds(&wrong), ["lost", "unequal"]);
    assert!(wrong.wrong["lost"][0].what.contains("deleted"), "{:?}", wrong.wrong);
}

/// Billing has no room for a phone: who makes a person anew there says nothing of it, and nobody else has one any more.
#[test]
fn null_is_invented_unless_the_entity_was_made_anew_where_there_is_no_room() {
    let account = || row(&[("account_no", "1"), ("invoice_to", PERSON)]);
    let judged = |is_made_anew: bool| {
        let mut logs = Logs::default();
        let customer = [("id", "1"), ("email", PERSON), ("phone", "7")];
        logs.user(0, insert("customers", row(&customer)));
        logs.sink(2, Act::Insert, [1, 0], insert("accounts", account()));
        logs.user(0, delete("customers", "id"));
        if is_made_anew {
            logs.sink(2, Act::Delete, [2, 0], delete("accounts", "account_no"));
            logs.user(2, insert("accounts", account()));
        }
        logs.sink(0, Act::Insert, [2, 0], insert("customers", row(&customer[..2])));
        logs.judged_of("customer", record(json!({ "email": PERSON, "phone": null })))
    };
    let is_invented = |verdict: Verdict| verdict.wrong.contains_key("invented");
    assert!(is_invented(judged(false)));
    assert!(!is_invented(judged(true)));
}

/// The crm takes away what it was given; what the shop adds again meanwhile it has not seen.
#[test]
fn sets_are_worked_out_to_the_last_element() {
    let tagged = |labels: &str| row(&[("id", "1"), ("email", PERSON), ("labels", labels)]);
    let split = |tags: &str| row(&[("contact_id", "u"), ("mail", PERSON), ("tags", tags)]);
    let edited = |agreed: &[&str], again: bool| {
        let mut logs = Logs::default();
        logs.user(0, insert("customers", tagged("{a}")));
        logs.sink(1, Act::Insert, [1, 0], insert("contacts", split("a")));
        logs.user(1, update("contacts", split("")));
        if again {
            logs.user(0, update("customers", tagged("{}")));
            logs.user(0, update("customers", tagged("{a}")));
        }
        logs.user(0, update("customers", tagged("{a,b}")));
        logs.judged_of("customer", record(json!({ "email": PERSON, "tags": agreed })))
    };
    let is_miscounted = |verdict: &Verdict| verdict.wrong.contains_key("miscounted");
    assert!(!is_miscounted(&edited(&["b"], false)));
    assert!(is_miscounted(&edited(&["a", "b"], false)));
    assert!(!is_miscounted(&edited(&["a", "b"], true)));
    assert!(is_miscounted(&edited(&["b"], true)));
    assert!(edited(&["b", "c"], false).wrong.contains_key("invented"));
}

#[test]
fn sums_are_worked_out_to_the_last_unit() {
    let sold = || {
        let mut logs = made();
        logs.user(0, update("stores", shop("a", "97")));
        logs.user(1, update("places", crm("a", "105")));
        logs.sink(0, Act::Update, [2, 2], update("stores", shop("a", "102")));
        logs.sink(1, Act::Update, [2, 2], update("places", crm("a", "102")));
        logs.sink(2, Act::Update, [2, 2], billing("a", "102"));
        logs
    };
    let well = sold().judged(agreed("a", 102));
    assert!(well.is_well(), "{:?}", well.wrong);
    let mut wrong = sold();
    for app in 0..3 {
        if let Some(Change::Update { row, .. }) = wrong.0[app].last_mut().and_then(|last| last.changes.last_mut()) {
            for name in ["visits", "seen"] {
                row.entry(name.to_owned())
                    .and_modify(|cell| *cell = Some("97".to_owned()));
            }
        }
    }
    assert_eq!(kinds(&wrong.judged(agreed("a", 97))), ["miscounted"]);
}
