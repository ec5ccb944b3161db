//! One large table read on several connections, with kill -9 in the middle and writes meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use syncline_tests::captured::{self, APP, Change, sql};
use syncline_tests::dice::Dice;
use syncline_tests::oracle::{self, Load};
use syncline_tests::{Stage, World, in_world};

/// More than the 8 MB from which on a table is divided, in all of these tests.
const ROWS: u64 = 30_000;
const COMMITS_PER_SESSION_PER_S: u64 = 20;

fn with(name: &str, tables: &str, settings: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let file = captured::pipeline(settings);
    in_world(name, &[(APP, tables)], &[("pipeline.yaml", &file)], test);
}

/// Kills capture when so many rows of the snapshot have been sent since it was started.
fn killed_after(world: &World, rows: u64) -> anyhow::Result<()> {
    world.set_env("SYNCLINE_FAILPOINTS", &format!("capture.in_snapshot_chunk=kill@{rows}"));
    let killed = world.run(&Stage::Capture, &["--until-current"])?;
    world.set_env("SYNCLINE_FAILPOINTS", "");
    assert_eq!(killed.code, None, "{rows} rows were never sent:\n{}", killed.log);
    Ok(())
}

/// How far the snapshots of tables were, each time it was written.
fn written(world: &World) -> anyhow::Result<Vec<String>> {
    let topic = format!("{}.syncline.progress", world.prefix(APP));
    let mut all = Vec::new();
    for record in world.topics.read(&topic)? {
        let progress = world.topics.json(record.value.as_deref().unwrap_or_default())?;
        let tables = progress["tables"].as_array().into_iter().flatten();
        all.extend(tables.map(|table| table["done_to"].to_string()));
    }
    Ok(all)
}

fn is_divided(world: &World) -> anyhow::Result<bool> {
    Ok(written(world)?.iter().any(|done_to| done_to.contains("up_to")))
}

fn read(changes: &[Change]) -> impl Iterator<Item = &Change> {
    changes.iter().filter(|change| change.op == "r")
}

/// How often the snapshot has said that a row is the one of that kind.
fn labelled(changes: &[Change], label: &str) -> usize {
    let labels = read(changes).filter_map(|change| change.event["source"]["snapshot"].as_str());
    labels.filter(|found| *found == label).count()
}

fn assert_positions_are_unique(changes: &[Change]) {
    let mut times = BTreeMap::new();
    for change in changes.iter().filter(|change| change.op != "-") {
        let position = change.headers.iter().find(|(name, _)| name == "syncline.position");
        *times
            .entry(position.expect("each change has its position"))
            .or_insert(0) += 1;
    }
    assert!(times.values().all(|times| *times == 1));
}

#[test]
fn a_large_table_is_read_in_parts_and_each_goes_on_after_a_kill() {
    with("divided", oracle::TABLES, "tables: [accounts]", |world| {
        sql(
            world,
            &format!("INSERT INTO accounts (id, owner) SELECT i, repeat('x', 300) FROM generate_series(1, {ROWS}) i"),
        )?;
        let load = Load::start(
            &world.dsn(APP)?,
            &mut Dice::new("divided"),
            ROWS,
            COMMITS_PER_SESSION_PER_S,
        );
        for rows in [9_000, 5_000, 7_000] {
            killed_after(world, rows)?;
        }
        assert!(is_divided(world)?);
        load.stop()?;
        world.until_current(&Stage::Capture)?;
        oracle::assert_every_change_once(world)?;

        let changes = captured::changes(world, "accounts")?;
        let mut times = BTreeMap::new();
        for change in read(&changes) {
            *times.entry(change.row()["id"].as_u64()).or_insert(0) += 1;
        }
        assert!(times.values().all(|times| *times == 1), "a row was read twice");
        assert_eq!(times.len() as u64, ROWS);
        assert_eq!((labelled(&changes, "first"), labelled(&changes, "last")), (1, 1));
        assert_positions_are_unique(&changes);
        Ok(())
    });
}

#[test]
fn a_large_table_without_a_key_is_read_in_parts_of_its_pages() {
    let table = "CREATE TABLE notes (n int, text text); ALTER TABLE notes REPLICA IDENTITY FULL";
    with("dividedpages", table, "tables: [notes]", |world| {
        sql(
            world,
            &format!("INSERT INTO notes SELECT i, repeat('x', 300) FROM generate_series(1, {ROWS}) i"),
        )?;
        killed_after(world, 20_000)?;
        assert!(is_divided(world)?);
        world.until_current(&Stage::Capture)?;
        let changes = captured::changes(world, "notes")?;
        let mut found: Vec<u64> = read(&changes).filter_map(|change| change.row()["n"].as_u64()).collect();
        found.sort_unstable();
        assert!(found.into_iter().eq(1..=ROWS));
        assert_positions_are_unique(&changes);
        Ok(())
    });
}

#[test]
fn a_table_that_comes_to_have_another_key_is_read_from_its_beginning() {
    let table = "CREATE TABLE notes (n int PRIMARY KEY, other int NOT NULL UNIQUE, text text)";
    with("dividedkey", table, "tables: [notes]", |world| {
        let rows = format!("SELECT i, {ROWS} + 1 - i, repeat('x', 300) FROM generate_series(1, {ROWS}) i");
        sql(world, &format!("INSERT INTO notes {rows}"))?;
        killed_after(world, 25_000)?;
        assert!(is_divided(world)?);
        // Of the same name and type, and in the opposite order.
        sql(
            world,
            "ALTER TABLE notes DROP CONSTRAINT notes_pkey;
             ALTER TABLE notes RENAME n TO spare;
             ALTER TABLE notes RENAME other TO n;
             ALTER TABLE notes ADD PRIMARY KEY (n)",
        )?;
        world.until_current(&Stage::Capture)?;
        let changes = captured::changes(world, "notes")?;
        let found: BTreeSet<u64> = read(&changes)
            .filter(|change| change.row()["spare"].is_number())
            .filter_map(|change| change.row()["n"].as_u64())
            .collect();
        assert!(found.into_iter().eq(1..=ROWS));
        assert_positions_are_unique(&changes);
        Ok(())
    });
}

#[test]
fn what_a_statement_gives_is_not_divided() {
    let settings = "tables: [accounts], debezium: {
        snapshot.select.statement.overrides: public.accounts,
        snapshot.select.statement.overrides.public.accounts: SELECT * FROM accounts WHERE id % 3 = 0 }";
    with("dividedby", oracle::TABLES, settings, |world| {
        sql(
            world,
            &format!("INSERT INTO accounts (id, owner) SELECT i, repeat('x', 300) FROM generate_series(1, {ROWS}) i"),
        )?;
        world.until_current(&Stage::Capture)?;
        assert!(!is_divided(world)?);
        let changes = captured::changes(world, "accounts")?;
        let ids: Vec<u64> = read(&changes)
            .filter_map(|change| change.row()["id"].as_u64())
            .collect();
        assert_eq!(ids.len() as u64, ROWS / 3);
        assert!(ids.iter().all(|id| id % 3 == 0));
        Ok(())
    });
}
