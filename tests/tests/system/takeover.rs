//! Issue: a team comes from Debezium, and may go back. The slot goes from a real Debezium to ours and back again, under load.
//!
//! `SYNCLINE_TAKEOVERS=20` gives each that many turns; one is enough where every change is tested.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value as Json;
use syncline_tests::by_turns::{ByTurns, End};
use syncline_tests::connect::Keeps;
use syncline_tests::handover;
use syncline_tests::oracle::{self, APP, Load};
use syncline_tests::{Db, Dice, Record, Stack, World, in_world};

const ACCOUNTS: u64 = 60;
const COMMITS_PER_SESSION_PER_S: u64 = 15;
/// Beside the accounts: rows that are copied in, change their key and go.
const LOTS: &str = "CREATE TABLE lots (id bigint PRIMARY KEY, note text NOT NULL DEFAULT 'new'); CREATE SEQUENCE lot;";
const CROWD_PAUSE: Duration = Duration::from_millis(300);

/// A session whose transactions are large, or have several records at one LSN.
struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    fn start(dsn: String, mut dice: Dice) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut db = None;
            while !stopped.load(Ordering::SeqCst) {
                db = db.or_else(|| Db::connect(&dsn).ok());
                // It may meet the tellers; then it was none.
                if db
                    .as_ref()
                    .is_some_and(|db: &Db| db.exec(transaction(&mut dice)).is_err())
                {
                    db = None;
                }
                std::thread::sleep(CROWD_PAUSE);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        ended
            .context("a thread")?
            .map_err(|_| anyhow::anyhow!("the crowd panicked"))
    }
}

fn transaction(dice: &mut Dice) -> &'static str {
    match dice.below(4) {
        0 => "UPDATE accounts SET amount = amount + 1 WHERE id <= 40",
        // The rows of one COPY share an LSN.
        1 => "COPY lots (id) FROM PROGRAM 'base=$(date +%s%N); for i in 1 2 3 4 5; do echo $((base + i)); done'",
        2 => "UPDATE lots SET id = -id WHERE id IN (SELECT id FROM lots WHERE id > 0 ORDER BY id LIMIT 3)",
        _ => {
            "BEGIN; DELETE FROM lots WHERE id IN (SELECT id FROM lots WHERE id < 0 ORDER BY id LIMIT 2); UPDATE accounts SET amount = amount - 1 WHERE id > 50; COMMIT"
        }
    }
}

/// Takes what came again out of a topic, after it was judged.
fn without_repeated(world: &World, turns: &ByTurns<'_>, table: &str) -> anyhow::Result<(Vec<Record>, Vec<usize>)> {
    let topic = world.capture_topic(APP, table);
    let mut records = world.topics.read(&topic)?;
    let written = handover::written(&world.topics, &records)?;
    let found = handover::turns(&written);
    if found.len() != turns.places.len() + 1 {
        bail!(
            "{topic} has {} turns, and there were {}",
            found.len(),
            turns.places.len() + 1
        );
    }
    let again = found.iter().skip(1).zip(&turns.places);
    let again: Vec<_> = again
        .map(|(turn, place)| handover::repeated(&written, turn, place))
        .collect::<anyhow::Result<_>>()?;
    for range in again.iter().rev() {
        records.drain(range.clone());
    }
    Ok((records, again.iter().map(ExactSizeIterator::len).collect()))
}

/// Each row comes once, goes at most once, and the last word on each is the table.
fn assert_lots(world: &World, records: &[Record]) -> anyhow::Result<()> {
    let mut there = std::collections::BTreeSet::new();
    for record in records.iter() {
        let Some(value) = &record.value else { continue };
        let event = world.topics.json(value)?;
        let deleted = event["op"] == "d";
        let row = if deleted { &event["before"] } else { &event["after"] };
        let id = row["id"].as_i64().context("an id")?;
        let right = if deleted { there.remove(&id) } else { there.insert(id) };
        if !right {
            bail!("offset {}: {} of lot {id}", record.offset, event["op"]);
        }
    }
    let found: Vec<String> = there.iter().map(i64::to_string).collect();
    let truth = world.db(APP).text("SELECT id FROM lots ORDER BY id")?;
    if found.join("\n") != truth {
        bail!(
            "{} lots were captured, the table has {}",
            found.len(),
            truth.lines().count()
        );
    }
    Ok(())
}

/// One schema for keys and one for values, by the same ids whoever writes: no subject got a second version.
fn assert_one_schema(world: &World, table: &str) -> anyhow::Result<()> {
    for part in ["key", "value"] {
        let path = format!("/subjects/{}-{part}/versions", world.capture_topic(APP, table));
        let versions =
            syncline_tests::http::call(&Stack::from_env()?.registry, "GET", &path, "application/json", None)?;
        if versions.as_array().map(Vec::len) != Some(1) {
            bail!("{path}: {versions}");
        }
    }
    let ids = |record: &Record| -> Vec<Json> {
        let id = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| bytes[..5].to_vec()).into();
        vec![id(&record.key), id(&record.value)]
    };
    let mut all: Vec<_> = world
        .topics
        .read(&world.capture_topic(APP, table))?
        .iter()
        .map(ids)
        .collect();
    all.retain(|ids| !ids[1].is_null());
    all.dedup();
    match all.len() {
        1 => Ok(()),
        more => bail!("{table}: the ids of the schemas changed {} times", more - 1),
    }
}

fn rounds() -> u64 {
    let wanted = std::env::var("SYNCLINE_TAKEOVERS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The first turns end in the way given, further ones at random.
fn there_and_back(name: &str, keeps: Keeps, first: (End, End)) {
    let tables = format!("{}{LOTS}", oracle::TABLES);
    let files = [("pipeline.yaml", oracle::PIPELINE)];
    in_world(name, &[(APP, &tables)], &files, |world| {
        oracle::open(world.db(APP), ACCOUNTS)?;
        let mut dice = Dice::new(name);
        let mut turns = ByTurns::begin(world, keeps, &["accounts", "lots"], dice.split())?;
        let load = Load::start(&world.dsn(APP)?, &mut dice, ACCOUNTS, COMMITS_PER_SESSION_PER_S);
        let crowd = Crowd::start(world.dsn(APP)?, dice.split());
        let mut ends = first;
        for _ in 0..rounds() {
            let ours = turns.to_ours(&load, ends.0)?;
            turns.to_debezium(&load, ours, ends.1)?;
            let all = [End::InOrder, End::Term, End::Kill];
            ends = (*dice.pick(&all).context("one")?, *dice.pick(&all).context("one")?);
        }
        crowd.stop()?;
        let commits = load.stop()?;
        turns.caught_up()?;
        let (accounts, again) = without_repeated(world, &turns, "accounts")?;
        let (lots, lots_again) = without_repeated(world, &turns, "lots")?;
        println!("{name}: {commits} commits; records that came again: accounts {again:?}, lots {lots_again:?}");
        let checked = oracle::assert_each_once(&world.topics, &accounts, world.db(APP))?;
        assert_lots(world, &lots)?;
        println!(
            "{name}: {checked} changes of accounts, {} records of lots, each once and in order",
            lots.len()
        );
        assert_one_schema(world, "accounts")?;
        assert_one_schema(world, "lots")
    });
}

#[test]
fn from_a_distributed_worker_that_is_killed_and_back_from_a_capture_that_is_killed() {
    there_and_back("takeover", Keeps::InTopic, (End::Kill, End::Kill));
}

#[test]
fn from_a_standalone_worker_that_ends_in_order_and_back_again() {
    there_and_back("takeover_file", Keeps::InFile, (End::InOrder, End::InOrder));
}
