//! Capture as a process, on a real PostgreSQL, a real Kafka and a real registry (`deploy/stack.sh up`; PG_DSN,
//! BOOTSTRAP, REGISTRY say where). Judged by what a reader of committed records finds in the topics.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects")]
mod app;
mod killed;
mod slots;

use syncline_schemas::codec::{Wire as _, frame_id};
use syncline_schemas::envelope::{Op, POSITION_HEADER};
use syncline_schemas::lens::Cell;
use syncline_schemas::progress::MarkRecord;
use syncline_schemas::topic;
use syncline_schemas::value::Value;

use app::{App, TABLES, log, ops, set};

#[test]
fn snapshot_then_stream_then_restart_without_repeats() {
    let app = App::new("public.a, public.whole, public.large", "exactly_once", TABLES);
    app.catch_up();
    app.sql("INSERT INTO a VALUES (3, 'three', 3); UPDATE a SET v = 'zwei' WHERE id = 2");
    app.sql("UPDATE a SET id = 4 WHERE id = 3");
    app.sql("DELETE FROM a WHERE id = 1");
    app.sql("UPDATE large SET small = 2");
    app.sql("UPDATE whole SET v = 'eins'");
    app.sql("BEGIN; INSERT INTO a VALUES (99, 'never', 0); ROLLBACK");
    app.catch_up();
    app.catch_up();

    let a = app.changes("a");
    let [one, two, three, four] = [1, 2, 3, 4].map(|id| a[&Value::from(id)].clone());
    assert_eq!(ops(&one), [Some(Op::Read), Some(Op::Delete), None]);
    assert_eq!(ops(&two), [Some(Op::Read), Some(Op::Update)]);
    assert_eq!(ops(&three), [Some(Op::Create), Some(Op::Delete), None]);
    assert_eq!(ops(&four), [Some(Op::Create)]);
    assert_eq!(a.len(), 4);
    assert_eq!(two[1].after("v"), set("zwei"));
    assert_eq!(three[1].names[0], "__debezium.newkey");
    assert_eq!(three[2].names[0], "__debezium.newkey");
    let context =
        ["connectorLogicalName", "taskId", "connectorName", "runId"].map(|name| format!("__debezium.context.{name}"));
    assert_eq!(four[0].names[0], "__debezium.oldkey");
    assert_eq!(four[0].names[1..5], context);
    assert_eq!(four[0].names[5], POSITION_HEADER);
    assert!(one.iter().all(|change| change.position.epoch == 1) && one[0].position < one[1].position);
    assert!(three[1].position < four[0].position && three[1].position.lsn == four[0].position.lsn);

    let large = &app.changes("large")[&Value::from(1)];
    assert_eq!(
        (large[1].after("small"), large[1].after("big")),
        (set(2), Cell::Unchanged)
    );
    let whole = &app.changes("whole")[&Value::from(1)];
    let before = whole[1].event.as_ref().unwrap().before.as_ref().unwrap();
    assert_eq!((before["v"].clone(), whole[1].after("v")), (set("one"), set("eins")));
    assert_eq!(whole[1].after("big"), set("abcdefgh".repeat(2000).as_str()));

    let loaded: Vec<String> = app
        .raw(&topic::marks(&app.name))
        .iter()
        .filter_map(|record| {
            let (id, datum) = frame_id(record.value.as_deref().unwrap()).unwrap();
            match MarkRecord::decode(&app.schema(id), datum).unwrap() {
                MarkRecord::Loaded { table, .. } => Some(table),
                MarkRecord::Placed(_) => None,
            }
        })
        .collect();
    assert_eq!(loaded.len(), 3, "{loaded:?}");
}

#[test]
fn changes_of_shape_make_new_schema_versions_in_the_order_of_the_log() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("INSERT INTO a VALUES (3, 'three', 3)");
    app.sql("ALTER TABLE a ADD COLUMN extra int; INSERT INTO a VALUES (4, 'four', 4, 44)");
    app.sql("ALTER TABLE a DROP COLUMN n; INSERT INTO a VALUES (5, 'five', 55)");
    app.catch_up();
    let a = app.changes("a");
    let columns = |id: i64| {
        let after = a[&Value::from(id)][0].event.as_ref().unwrap().after.clone().unwrap();
        after.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(columns(3), ["id", "n", "v"]);
    assert_eq!(columns(4), ["extra", "id", "n", "v"]);
    assert_eq!(columns(5), ["extra", "id", "v"]);
}

#[test]
fn marks_come_with_their_rows() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    let mark = |row: &str, act: &str| {
        format!(
            "SELECT pg_logical_emit_message(true, 'syncline', '{{\"pipeline\":\"p\",\"entity\":\"e\",\"cid\":\"c\",\
             \"table\":\"public.a\",\"row\":{row},\"act\":\"{act}\",\"vector\":[],\"stamp_us\":1,\"fields\":[]}}')"
        )
    };
    let update = mark("\"{\\\"id\\\":2}\"", "update");
    let seen = mark("\"{\\\"id\\\":1}\"", "seen");
    let insert = mark("null", "insert");
    app.sql(&format!("BEGIN; {update}; {seen}; {insert}; UPDATE a SET v = 'ours' WHERE id = 2; INSERT INTO a VALUES (7, 'ours', 1); COMMIT"));
    app.sql("UPDATE a SET v = 'theirs' WHERE id = 2");
    app.catch_up();
    let a = app.changes("a");
    let marked = |id: i64| {
        a[&Value::from(id)]
            .iter()
            .map(|change| change.mark.is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(marked(2), [false, true, false]);
    assert_eq!(marked(7), [true]);
    let placed = app
        .raw(&topic::marks(&app.name))
        .iter()
        .filter(|record| record.key.as_deref() == Some(b"c"))
        .count();
    assert_eq!(placed, 1);
}

#[test]
fn a_table_that_is_added_later_is_read_and_the_others_go_on() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("UPDATE a SET v = 'meanwhile' WHERE id = 1; UPDATE whole SET v = 'before it is published'");
    let file = app.directory.path().join("pipeline.yaml");
    let pipeline = std::fs::read_to_string(&file)
        .unwrap()
        .replace("[public.a]", "[public.a, public.whole]");
    std::fs::write(&file, pipeline).unwrap();
    app.catch_up();
    app.sql("UPDATE whole SET v = 'after'");
    app.catch_up();
    let whole = &app.changes("whole")[&Value::from(1)];
    assert_eq!(ops(whole), [Some(Op::Read), Some(Op::Update)]);
    assert_eq!(whole[0].after("v"), set("before it is published"));
    assert!(whole[0].position < whole[1].position);
    assert_eq!(
        ops(&app.changes("a")[&Value::from(1)]),
        [Some(Op::Read), Some(Op::Update)]
    );
}

#[test]
fn unknown_types_are_text_and_a_row_that_does_not_fit_stops_the_source_by_name() {
    let sql = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text);
               CREATE TABLE odd (id int PRIMARY KEY, at pg_lsn, two pair, moods mood[]);
               INSERT INTO odd VALUES (1, '16/B374D848', '(1,x)', '{sad,ok}')";
    let app = App::new("public.odd", "exactly_once", sql);
    let output = app.run(&["--until-current"], "");
    let said = log(&output);
    assert!(
        output.status.success() && said.matches("written as text").count() == 2,
        "{said}"
    );
    let odd = &app.changes("odd")[&Value::from(1)];
    assert_eq!(
        (odd[0].after("at"), odd[0].after("two")),
        (set("16/B374D848"), set("(1,x)"))
    );
    app.sql("INSERT INTO odd VALUES (2, NULL, '(2,canary)', '{sad,NULL}')");
    let output = app.run(&["--until-current"], "");
    let said = log(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("UNENCODABLE_ROW") && said.contains("public.odd") && said.contains("moods"),
        "{said}"
    );
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_truncate_of_a_replicated_table_is_a_record() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("TRUNCATE a; INSERT INTO a VALUES (5, 'after', 5)");
    app.catch_up();
    let a = app.changes("a");
    assert_eq!(ops(&a[&Value::Null]), [Some(Op::Truncate)]);
    assert!(a[&Value::Null][0].position < a[&Value::from(5)][0].position);
}
