//! A copy of a table, against a real PostgreSQL (PG_DSN) and without Kafka.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::at;
use common::db::{World, partition};
use syncline_runtime::Class;
use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::Secret;
use syncline_schemas::value::Value;
use syncline_sink::plan::Verdict;
use syncline_sink::replica::ReplicaTarget;
use syncline_sink::replica::change::{Act, Change};
use syncline_sink::replica::image::Image;
use syncline_sink::replica::shape::Shape;
use syncline_sink::target::{Delivery, Report, Target};

/// A copy that has claimed the one partition there is.
struct Copy {
    target: ReplicaTarget,
    next: i64,
    shape: Arc<Shape>,
    topic: &'static str,
}

fn shape(columns: &[(&str, &str)]) -> Arc<Shape> {
    let columns = columns
        .iter()
        .map(|(name, sql_type)| ((*name).to_owned(), (*sql_type).to_owned()))
        .collect();
    Arc::new(Shape {
        columns,
        key: vec!["id".to_owned()],
    })
}

fn copy(world: &World) -> Copy {
    let mut target = ReplicaTarget::new("acme", "warehouse", &Secret::new(world.dsn())).unwrap();
    let next = target.claim(&[partition()]).unwrap()[&partition()];
    Copy {
        target,
        next,
        shape: shape(&[("id", "bigint"), ("note", "text"), ("big", "text")]),
        topic: "shop.public.orders",
    }
}

fn key(id: i64) -> RowKey {
    RowKey::new([("id", &Value::from(id))])
}

fn put(id: i64, note: &str, big: Option<&str>) -> Act {
    put_with(id, note, big, &[])
}

/// With other columns besides.
fn put_with(id: i64, note: &str, big: Option<&str>, others: &[(&str, Value)]) -> Act {
    let big = big.map_or(Cell::Unchanged, |text| Cell::Set(text.into()));
    let cells = [
        ("id", Cell::Set(id.into())),
        ("note", Cell::Set(note.into())),
        ("big", big),
    ];
    let others = others.iter().map(|(name, value)| (*name, Cell::Set(value.clone())));
    let cells = cells.into_iter().chain(others);
    let row: Row = cells.map(|(name, cell)| (name.to_owned(), cell)).collect();
    Act::Put(key(id), Image::of(&row).unwrap())
}

impl Copy {
    fn batch(&mut self, changes: &[(u64, Act)]) -> Vec<Delivery<Change>> {
        let deliveries = changes.iter().map(|(lsn, act)| {
            self.next += 1;
            let table = Arc::new(("public".to_owned(), "orders".to_owned()));
            let (shape, position, act) = (Arc::clone(&self.shape), at(*lsn), act.clone());
            Delivery {
                from: partition(),
                offset: self.next - 1,
                timestamp_ms: 0,
                entity: Arc::from("public.orders"),
                key: Vec::new(),
                value: Vec::new(),
                content: Ok(Some(Change {
                    table,
                    shape,
                    topic: Arc::from(self.topic),
                    position,
                    is_comparable: true,
                    act,
                })),
            }
        });
        deliveries.collect()
    }

    fn deliver(&mut self, changes: &[(u64, Act)]) -> Report {
        let batch = self.batch(changes);
        self.target.apply(&batch).unwrap()
    }
}

fn rows(world: &World) -> Vec<String> {
    let all = world.db.query("SELECT * FROM orders ORDER BY id");
    // The last column is the row's position.
    let row = |all: &String| all.rsplit_once('|').map(|(row, _)| row.to_owned());
    all.iter().filter_map(row).collect()
}

#[test]
fn a_copy_is_made_and_follows() {
    let world = World::new("");
    let mut copy = copy(&world);
    copy.deliver(&[
        (1, put(1, "a", Some("x"))),
        (2, put(2, "b", Some("y"))),
        (3, put(1, "c", Some("x"))),
    ]);
    assert_eq!(rows(&world), ["1|c|x", "2|b|y"]);
    copy.deliver(&[
        (4, Act::Remove(key(2))),
        (5, put(3, "d", None)),
        (5, put(3, "d", Some("z"))),
    ]);
    assert_eq!(rows(&world), ["1|c|x", "3|d|z"]);
}

#[test]
fn a_value_that_the_log_did_not_repeat_is_left_alone() {
    let world = World::new("");
    let mut copy = copy(&world);
    copy.deliver(&[(1, put(1, "a", Some("large")))]);
    copy.deliver(&[(2, put(1, "b", None))]);
    assert_eq!(rows(&world), ["1|b|large"]);
    let batch = copy.batch(&[(3, put(9, "b", None))]);
    let failure = copy.target.apply(&batch).unwrap_err();
    assert_eq!((failure.code, failure.class), ("REPLICA_ROW_MISSING", Class::Definite));
}

#[test]
fn a_replay_writes_nothing_and_older_never_overwrites_newer() {
    let world = World::new("");
    let mut copy = copy(&world);
    let history = [
        (1, put(1, "a", Some("x"))),
        (2, put(2, "b", Some("y"))),
        (3, put(1, "c", Some("x"))),
        (4, Act::Remove(key(2))),
    ];
    copy.deliver(&history);
    let places = || world.db.query("SELECT xmin, ctid, * FROM orders ORDER BY id");
    let before = places();
    world.db.exec("DELETE FROM syncline.offsets");
    let mut again = self::copy(&world);
    for change in history {
        assert_eq!(again.deliver(&[change]).count(Verdict::Older), 1);
    }
    assert_eq!(places(), before, "not even a deleted row comes back");
    copy.next = again.next;
    let batch = copy.batch(&[(9, put(1, "late", Some("x")))]);
    assert_eq!(copy.target.apply(&batch).unwrap_err().code, "FENCED");
}

#[test]
fn a_column_that_the_source_got_is_added() {
    let world = World::new("");
    let mut copy = copy(&world);
    copy.deliver(&[(1, put(1, "a", Some("x")))]);
    copy.shape = shape(&[
        ("id", "bigint"),
        ("note", "text"),
        ("big", "text"),
        ("Odd \"one", "numeric(12,2)[]"),
    ]);
    let list = Value::List(vec!["1.5".parse().unwrap(), Value::Null]);
    let wider = put_with(2, "b", Some("y"), &[("Odd \"one", list)]);
    copy.deliver(&[(2, wider), (3, put(1, "a", Some("x")))]);
    let extended = world
        .db
        .query("SELECT id, note, big, \"Odd \"\"one\" FROM orders ORDER BY id");
    assert_eq!(extended, ["1|a|x|-", "2|b|y|{1.50,NULL}"]);
}

#[test]
fn a_truncate_takes_what_was_before_it() {
    let world = World::new("");
    let mut copy = copy(&world);
    copy.deliver(&[
        (1, put(1, "a", Some("x"))),
        (2, Act::Truncate),
        (3, put(2, "b", Some("y"))),
    ]);
    assert_eq!(rows(&world), ["2|b|y"]);
    // A row from before, from a partition that was behind.
    assert_eq!(copy.deliver(&[(1, put(3, "late", Some("z")))]).count(Verdict::Older), 1);
    copy.deliver(&[(4, put(1, "again", Some("x")))]);
    assert_eq!(rows(&world), ["1|again|x", "2|b|y"]);
}

#[test]
fn a_row_keeps_its_large_value_when_its_key_changes() {
    let world = World::new("");
    let mut copy = copy(&world);
    copy.deliver(&[(1, put(1, "a", Some("large")))]);
    copy.deliver(&[(2, Act::Move(key(1), key(7))), (3, put(7, "a", None))]);
    assert_eq!(rows(&world), ["7|a|large"]);
    // The new row was here first.
    copy.deliver(&[(6, put(8, "a", Some("large"))), (5, Act::Move(key(7), key(8)))]);
    assert_eq!(rows(&world), ["8|a|large"]);
}

#[test]
fn a_row_whose_new_key_is_equal_to_its_old_one_stays() {
    let world = World::new("CREATE EXTENSION citext; CREATE TABLE orders (id citext PRIMARY KEY, note text, big text)");
    let mut copy = copy(&world);
    let key = |id: &str| RowKey::new([("id", &Value::from(id))]);
    let row = |id: &str, big: Cell| {
        let cells = [
            ("id", Cell::Set(id.into())),
            ("note", Cell::Set("a".into())),
            ("big", big),
        ];
        let row: Row = cells.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect();
        Act::Put(key(id), Image::of(&row).unwrap())
    };
    copy.deliver(&[(1, row("A", Cell::Set("large".into())))]);
    copy.deliver(&[(2, Act::Move(key("A"), key("a"))), (3, row("a", Cell::Unchanged))]);
    assert_eq!(rows(&world), ["a|a|large"]);
}

/// Its next change, from another partition, was read before it left its old key.
#[test]
fn a_row_that_was_deleted_under_its_new_key_is_not_brought_back_by_its_old_one() {
    let world = World::new("");
    for later in [
        vec![(4, Act::Remove(key(7)))],
        vec![(4, Act::Move(key(7), key(9))), (5, put(9, "c", Some("x")))],
    ] {
        let mut copy = copy(&world);
        copy.deliver(&[(1, put(1, "a", Some("x")))]);
        copy.deliver(&[(3, put(7, "b", Some("x")))]);
        copy.deliver(&later);
        let is_left = later.len() > 1;
        copy.deliver(&[(2, Act::Move(key(1), key(7)))]);
        assert_eq!(rows(&world), if is_left { vec!["9|c|x"] } else { vec![] }, "{later:?}");
        world.db.exec("DROP TABLE orders; DROP SCHEMA syncline CASCADE");
    }
}

/// Of its own position the copy's row has it from its source, and an app has made one row itself.
#[test]
fn a_copy_of_a_copy_goes_by_its_own_positions() {
    let world = World::new("");
    let mut copy = copy(&world);
    let with_position =
        |id: i64, note: &str, position: Value| put_with(id, note, Some("x"), &[("_syncline_position", position)]);
    let high = || Value::from(format!("\\x{}", "ff".repeat(32)).as_str());
    copy.deliver(&[
        (1, with_position(1, "a", high())),
        (2, with_position(2, "b", Value::Null)),
    ]);
    copy.deliver(&[(3, Act::Remove(key(1))), (4, with_position(2, "c", Value::Null))]);
    assert_eq!(rows(&world), ["2|c|x"]);
}

#[test]
fn a_copy_that_gets_another_source_follows_it() {
    let world = World::new("");
    let mut copy = copy(&world);
    copy.deliver(&[
        (900, put(1, "a", Some("x"))),
        (901, put(2, "b", Some("x"))),
        (902, Act::Remove(key(3))),
    ]);
    copy.topic = "shop2.public.orders";
    copy.deliver(&[
        (1, put(1, "new", Some("x"))),
        (2, put(3, "again", Some("x"))),
        (3, Act::Remove(key(2))),
    ]);
    assert_eq!(rows(&world), ["1|new|x", "3|again|x"]);
}

/// The stale row under the new key is one whose end is still to be read, from another partition.
#[test]
fn a_row_takes_its_large_value_to_a_key_that_another_has_left() {
    let world = World::new("");
    let mut copy = copy(&world);
    copy.deliver(&[(1, put(1, "a", Some("large"))), (1, put(7, "stale", Some("other")))]);
    copy.deliver(&[(3, Act::Move(key(1), key(7)))]);
    copy.deliver(&[(2, Act::Remove(key(7)))]);
    copy.deliver(&[(4, put(7, "b", None))]);
    assert_eq!(rows(&world), ["7|b|large"]);
}

#[test]
fn many_rows_are_written_as_few_are() {
    let world = World::new("");
    let mut copy = copy(&world);
    let odd = ["a\tb", "\\N", "c\\.\r\nd", "", "é'\""];
    let many = |from: u64, note: &dyn Fn(u64) -> &'static str| -> Vec<(u64, Act)> {
        let row = |id: u64| (from + id, put(id.cast_signed(), note(id), Some("x")));
        (0..5_000).map(row).collect()
    };
    let at = |id: u64| odd[usize::try_from(id).unwrap() % odd.len()];
    assert_eq!(copy.deliver(&many(10_000, &at)).count(Verdict::Updated), 5_000);
    assert_eq!(copy.deliver(&many(1_000, &|_| "older")).count(Verdict::Older), 5_000);
    let mut mixed = many(1_000, &|_| "older");
    mixed.extend((0..2_500).map(|id| (50_000, put(id, "newer", Some("x")))));
    assert_eq!(copy.deliver(&mixed).count(Verdict::Updated), 2_500);
    let odd_ones = world
        .db
        .text("SELECT count(*) FROM orders WHERE id >= 2500 AND note = E'c\\\\.\\r\\nd'");
    assert_eq!(odd_ones, "500");
    assert_eq!(
        world
            .db
            .text("SELECT count(*) FROM orders WHERE note = 'newer' AND id < 2500"),
        "2500"
    );
    // The same with a column that it did not have when its rows were first staged.
    copy.shape = shape(&[("id", "bigint"), ("note", "text"), ("big", "text"), ("more", "text")]);
    let wider = |id: i64| (60_000, put_with(id, "wide", Some("x"), &[("more", "m".into())]));
    copy.deliver(&(0..5_000).map(wider).collect::<Vec<_>>());
    assert_eq!(world.db.text("SELECT count(*) FROM orders WHERE more = 'm'"), "5000");
}

/// What is sent in binary is what is sent as text, and a value that has no binary form takes its column along.
#[test]
fn many_rows_of_any_type_are_written_as_few_are() {
    let types = [
        "b boolean, i2 smallint, i4 integer, i8 bigint, n numeric, m numeric(12,2), f4 real, f8 double precision",
        "d date, t time, ts timestamp, tz timestamptz, z timetz, iv interval, u uuid, x bytea, j json, jb jsonb",
        "s text, v varchar(20), c char(5), mood mood, l numeric[], dom dom",
    ];
    let types = types.join(", ");
    let world = World::new(&format!(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN dom AS numeric(6,1);
         CREATE TABLE orders (id bigint PRIMARY KEY, note text, big text, {types})"
    ));
    let mut copy = copy(&world);
    let day = |i: i64| format!("20{:02}-{:02}-{:02}", i % 100, i % 12 + 1, i % 28 + 1);
    let clock = |i: i64| format!("{:02}:{:02}:{:02}.{}", i % 24, i % 60, i % 59, i % 9 + 1);
    let row = |i: i64, is_odd: bool| -> Vec<(&'static str, Value)> {
        // One row of each kind is out of the ordinary.
        let or = |place: i64, odd: &str, plain: Value| match is_odd && i % 2_500 == place {
            true => Value::from(odd),
            false => plain,
        };
        let number = |text: String| text.parse::<Value>().unwrap();
        vec![
            ("b", Value::Bool(i % 2 == 0)),
            ("i2", Value::from(i % 30_000 - 15_000)),
            ("i4", Value::from(i * 7_919 - 5_000)),
            ("i8", Value::from(i - i64::MAX)),
            ("n", or(1, "NaN", number(format!("-{}.000{}1", i * 1_000, i % 10)))),
            ("m", number(format!("{}.{}", i, i % 10))),
            ("f4", or(2, "Infinity", number(format!("0.{i}1")))),
            ("f8", or(3, "NaN", number(format!("{i}.1e3")))),
            ("d", or(4, "infinity", Value::from(day(i).as_str()))),
            ("t", or(5, "24:00:00", Value::from(clock(i).as_str()))),
            (
                "ts",
                or(
                    6,
                    "-0043-03-15T01:02:03.5",
                    Value::from(format!("{}T{}", day(i), clock(i)).as_str()),
                ),
            ),
            (
                "tz",
                or(
                    7,
                    "+12026-03-15T01:02:03Z",
                    Value::from(format!("{}T{}Z", day(i), clock(i)).as_str()),
                ),
            ),
            ("z", Value::from(format!("{}+01:00", clock(i)).as_str())),
            ("iv", Value::from(i * 1_000_001)),
            ("u", Value::from(format!("b68a35a7-17ad-35b3-af2a-{i:012}").as_str())),
            ("x", Value::from(format!("\\x{i:06x}").as_str())),
            ("j", Value::from(format!("{{\"a\": {i}, \"a\":1}}").as_str())),
            ("jb", Value::from(format!("{{\"a\": {i}, \"a\":1}}").as_str())),
            (
                "s",
                Value::from(["a\tb", "\\N", "", "é'\"", "c\r\nd"][usize::try_from(i % 5).unwrap()]),
            ),
            (
                "v",
                if i % 3 == 0 {
                    Value::Null
                } else {
                    Value::from(format!("v {i}").as_str())
                },
            ),
            ("c", Value::from("ab")),
            ("mood", Value::from(if i % 2 == 0 { "sad" } else { "ok" })),
            (
                "l",
                Value::List(vec![Value::from(i), Value::Null, number("1.50".to_owned())]),
            ),
            ("dom", number(format!("{}.25", i % 100))),
        ]
    };
    let (mut lsn, count) = (0, 2_500);
    for (first, is_odd) in [(0, false), (100_000, true)] {
        let changes = |from: i64, lsn: &mut u64| -> Vec<(u64, Act)> {
            let put = |i: i64| {
                *lsn += 1;
                (*lsn, put_with(from + i, "a", Some("x"), &row(i, is_odd)))
            };
            (0..count).map(put).collect()
        };
        let (many, few) = (changes(first, &mut lsn), changes(first + 10_000, &mut lsn));
        copy.deliver(&many);
        few.chunks(500).for_each(|few| drop(copy.deliver(few)));
    }
    let names: Vec<&str> = types
        .split(", ")
        .filter_map(|of| of.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    let of = |table: &str| {
        names
            .iter()
            .map(|name| format!("{table}.{name}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let differing = world.db.query(&format!(
        "SELECT a.id, ROW({0})::text, ROW({1})::text FROM orders a JOIN orders b ON b.id = a.id + 10000
         WHERE ROW({0})::text <> ROW({1})::text LIMIT 3",
        of("a"),
        of("b")
    ));
    assert_eq!(differing, Vec::<String>::new());
    let pairs = world
        .db
        .text("SELECT count(*) FROM orders a JOIN orders b ON b.id = a.id + 10000");
    assert_eq!(pairs, "5000");
    let odd = "SELECT (SELECT n FROM orders WHERE id = 100001) || ' ' || (SELECT d FROM orders WHERE id = 100004)";
    assert_eq!(world.db.text(odd), "NaN infinity");
}

#[test]
fn a_row_that_the_copy_refuses_stops_it() {
    let world = World::new("CREATE TABLE orders (id bigint PRIMARY KEY, note varchar(3), big text)");
    let mut copy = copy(&world);
    let batch = copy.batch(&[(1, put(1, "ok", Some("x"))), (2, put(2, "hunter2", Some("y")))]);
    let failure = copy.target.apply(&batch).unwrap_err();
    assert_eq!((failure.code, failure.class), ("REPLICA_REFUSED", Class::Definite));
    assert!(
        failure.message.contains("22001") && !failure.message.contains("hunter2"),
        "{failure}"
    );
    assert_eq!(world.db.text("SELECT count(*) FROM orders"), "0");
    world.db.exec("ALTER TABLE orders ALTER note TYPE text");
    copy.target.apply(&batch).unwrap();
    assert_eq!(rows(&world), ["1|ok|x", "2|hunter2|y"]);
}

#[test]
fn an_empty_table_has_its_copy_too() {
    let world = World::new("");
    let mut copy = copy(&world);
    let table = Arc::new(("public".to_owned(), "orders".to_owned()));
    copy.target.prepare(&[(table, Arc::clone(&copy.shape))]).unwrap();
    assert_eq!(rows(&world), Vec::<String>::new());
    let columns: BTreeMap<String, String> = world
        .db
        .query("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0")
        .into_iter()
        .filter_map(|row| row.split_once('|').map(|(name, of)| (name.to_owned(), of.to_owned())))
        .collect();
    assert_eq!(columns["id"], "bigint");
}
