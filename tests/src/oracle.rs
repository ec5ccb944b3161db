//! What capture is judged by: a workload whose every row tells which change it is, and the check of what arrived.
//!
//! A trigger numbers the versions of each row, whoever writes it; a row inserted again begins anew. So a change that is
//! lost leaves a gap in its key's chain, one that comes twice repeats a number, one out of order steps back. One
//! transaction in ten is rolled back, and says so in the row: nothing of it may ever be seen. What a commit was answered
//! does not matter (a server that is killed answers nothing); the table itself says what was committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::topic;

use crate::dice::Dice;
use crate::kafka::{Record, Topics};
use crate::postgres::Db;
use crate::world::World;

/// The app's tables.
pub const TABLES: &str = "
CREATE TABLE accounts (id bigint PRIMARY KEY, owner text NOT NULL, amount bigint NOT NULL DEFAULT 0, ver bigint NOT NULL DEFAULT 0);
CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.ver := CASE TG_OP WHEN 'INSERT' THEN 0 ELSE OLD.ver + 1 END; RETURN NEW; END $$;
CREATE TRIGGER bump BEFORE INSERT OR UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION bump();";

/// The pipeline: one app, `shop`, captured and nothing else.
pub const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}", tables: [public.accounts] }
"#;

/// The app.
pub const APP: &str = "shop";
/// Where a row of a transaction that was rolled back says so.
const ROLLED_BACK: &str = "rolled back";
/// How far back the last committed progress may lie: at most one transaction, open or aborted, for each fault.
const PROGRESS_TAIL_OFFSETS: i64 = 400;
/// A server that restarts is away for a while.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Accounts to begin with.
pub fn open(db: &Db, accounts: u64) -> anyhow::Result<()> {
    db.exec(&format!(
        "INSERT INTO accounts (id, owner) SELECT i, 'nobody' FROM generate_series(1, {accounts}) i"
    ))
}

/// Sessions that write until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Two sessions on the database of `dsn`, each with so many commits a second.
    pub fn start(dsn: &str, dice: &mut Dice, accounts: u64, commits_per_s: u64) -> Self {
        let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..2)
            .map(|_| {
                let teller = Teller {
                    dsn: dsn.to_owned(),
                    db: None,
                    dice: dice.split(),
                    accounts,
                    turn: 0,
                };
                let (stop, commits) = (Arc::clone(&stop), Arc::clone(&commits));
                std::thread::spawn(move || teller.work(commits_per_s, &stop, &commits))
            })
            .collect();
        Self { stop, commits, threads }
    }

    /// Waits until so many more transactions are committed.
    pub fn goes_on(&self, commits: u64) -> anyhow::Result<()> {
        let goal = self.commits.load(Ordering::SeqCst) + commits;
        crate::until("the load to go on", 60, || {
            Ok(self.commits.load(Ordering::SeqCst) >= goal)
        })
    }

    /// Stops it; gives the number of commits.
    pub fn stop(mut self) -> anyhow::Result<u64> {
        self.end()?;
        Ok(self.commits.load(Ordering::SeqCst))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("a teller panicked"))?;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

struct Teller {
    dsn: String,
    db: Option<Db>,
    dice: Dice,
    accounts: u64,
    turn: u64,
}

impl Teller {
    fn work(mut self, commits_per_s: u64, stop: &AtomicBool, commits: &AtomicU64) {
        let pause = Duration::from_micros(1_000_000 / commits_per_s.max(1));
        let mut next = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            match self.one() {
                Some(committed) => _ = commits.fetch_add(u64::from(committed), Ordering::SeqCst),
                // The server is away, or two sessions met: the connection is made anew, the change is another one.
                None => {
                    self.db = None;
                    std::thread::sleep(RECONNECT_PAUSE);
                }
            }
            next = (next + pause).max(Instant::now() - pause);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    /// One transaction; whether it was committed. None: it failed.
    fn one(&mut self) -> Option<bool> {
        if self.db.is_none() {
            self.db = Db::connect(&self.dsn).ok();
        }
        self.turn += 1;
        let (first, second) = (self.account(), self.account());
        let amount = self.dice.below(500);
        let turn = self.turn;
        let (sql, commits) = match self.dice.below(20) {
            0 | 1 => (
                format!("BEGIN; UPDATE accounts SET owner = '{ROLLED_BACK} {turn}' WHERE id IN ({first}, {second}); ROLLBACK"),
                false,
            ),
            2 => (
                format!("BEGIN; DELETE FROM accounts WHERE id = {first}; INSERT INTO accounts (id, owner) VALUES ({first}, 'again {turn}'); COMMIT"),
                true,
            ),
            3 => (
                format!(
                    "BEGIN; SAVEPOINT s; UPDATE accounts SET owner = '{ROLLED_BACK} {turn}' WHERE id = {first}; ROLLBACK TO s;
                     UPDATE accounts SET owner = 'saved {turn}' WHERE id = {first}; COMMIT"
                ),
                true,
            ),
            _ => (
                format!(
                    "BEGIN; UPDATE accounts SET amount = amount - {amount} WHERE id = {};
                     UPDATE accounts SET amount = amount + {amount} WHERE id = {}; COMMIT",
                    first.min(second),
                    first.max(second)
                ),
                true,
            ),
        };
        self.db.as_ref()?.exec(&sql).ok().map(|()| commits)
    }

    fn account(&mut self) -> u64 {
        1 + self.dice.below(self.accounts)
    }
}

/// Waits until the slot is confirmed up to what is committed now, which is after Kafka has it.
pub fn caught_up(db: &Db, slot: &str, within_s: u64) -> anyhow::Result<()> {
    confirmed_up_to(db, slot, db.lsn()?, within_s)
}

/// Waits until the slot is confirmed up to that LSN.
pub fn confirmed_up_to(db: &Db, slot: &str, end: u64, within_s: u64) -> anyhow::Result<()> {
    crate::until(&format!("{slot} to be confirmed up to {}", Lsn(end)), within_s, || {
        Ok(confirmed(db, slot)?.is_some_and(|lsn| lsn >= end))
    })
}

fn confirmed(db: &Db, slot: &str) -> anyhow::Result<Option<u64>> {
    let sql =
        format!("SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = '{slot}'");
    let text = db.text(&sql)?;
    Ok(text.parse().ok())
}

/// F04, at any moment: a slot is never confirmed beyond what is in Kafka, or a crash would lose what lies between.
pub fn assert_confirmed_is_in_kafka(world: &World, app: &str) -> anyhow::Result<()> {
    assert_confirmed_on(world, world.db(app), app)
}

/// The same, of the slot on the server of `db`.
pub fn assert_confirmed_on(world: &World, db: &Db, app: &str) -> anyhow::Result<()> {
    let slot = world.slot(app);
    let confirmed = confirmed(db, &slot)?.with_context(|| format!("slot {slot} is confirmed up to nowhere"))?;
    // Asked after the slot, so it can only be further.
    let tail = world
        .topics
        .read_tail(&topic::progress(&world.prefix(app)), PROGRESS_TAIL_OFFSETS)?;
    let of_slot = |record: &&Record| record.key_text() == slot;
    let record = tail
        .iter()
        .rfind(of_slot)
        .with_context(|| format!("the progress of {slot}"))?;
    let progress = world.topics.json(record.value.as_deref().unwrap_or_default())?;
    let position: Position = crate::agreed::show(&progress["position"]).parse()?;
    // A slot that is being made stands somewhere, and nothing has been read from it.
    if position.lsn != Lsn(0) && confirmed > position.lsn.0 {
        bail!(
            "{slot} is confirmed up to {}, and Kafka has {}",
            Lsn(confirmed),
            position.lsn
        );
    }
    Ok(())
}

/// The last that was captured of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    ver: i64,
    owner: String,
    amount: i64,
    /// A row of a snapshot may be newer than changes that follow it, never older.
    from_snapshot: bool,
}

/// Every committed change of `accounts` is in the topic once, in its key's order, and nothing else is. Gives their number.
pub fn assert_every_change_once(world: &World) -> anyhow::Result<usize> {
    assert_every_change_once_on(world, world.db(APP))
}

/// The same, the truth being the table in the database of `db`.
pub fn assert_every_change_once_on(world: &World, db: &Db) -> anyhow::Result<usize> {
    let records = world.topics.read(&world.capture_topic(APP, "accounts"))?;
    assert_each_once(&world.topics, &records, db)
}

/// The same of these records.
pub fn assert_each_once(topics: &Topics, records: &[Record], db: &Db) -> anyhow::Result<usize> {
    let (mut keys, mut checked, mut tombstones) = (BTreeMap::new(), 0, 0_i64);
    for record in records {
        let Some(value) = &record.value else {
            tombstones -= 1;
            continue;
        };
        let event = topics.json(value)?;
        let deleted = event["op"] == "d";
        let row = if deleted { &event["before"] } else { &event["after"] };
        let id = row["id"].as_i64().context("an id")?;
        if deleted {
            tombstones += 1;
            keys.insert(id, None);
        } else {
            let next = last_of(row, event["op"] == "r")?;
            if event["source"]["snapshot"] == "incremental" {
                repeats(id, keys.get(&id), &next).with_context(|| format!("offset {}", record.offset))?;
                checked += 1;
                continue;
            }
            follows(id, keys.get(&id), &next, event["op"] == "c")
                .with_context(|| format!("offset {}", record.offset))?;
            keys.insert(id, Some(next));
        }
        checked += 1;
    }
    if tombstones != 0 {
        bail!("{tombstones} deletes without a tombstone");
    }
    assert_as_in_table(&keys, db)?;
    Ok(checked)
}

fn last_of(row: &serde_json::Value, from_snapshot: bool) -> anyhow::Result<Last> {
    let owner = row["owner"].as_str().context("an owner")?.to_owned();
    if owner.starts_with(ROLLED_BACK) {
        bail!("a change that was rolled back was captured: {owner}");
    }
    Ok(Last {
        ver: row["ver"].as_i64().context("a version")?,
        owner,
        amount: row["amount"].as_i64().context("an amount")?,
        from_snapshot,
    })
}

fn follows(id: i64, before: Option<&Option<Last>>, next: &Last, inserted: bool) -> anyhow::Result<()> {
    let right = match before {
        _ if next.from_snapshot => true,
        Some(Some(before)) if before.from_snapshot => next.ver <= before.ver + 1,
        Some(Some(before)) => !inserted && next.ver == before.ver + 1,
        Some(None) | None => inserted && next.ver == 0,
    };
    if !right {
        bail!("version {} of account {id} follows {before:?}", next.ver);
    }
    Ok(())
}

/// A row read beside the stream says what the last change of it has said: it comes when the stream is where it was read, and
/// never after a later change.
fn repeats(id: i64, before: Option<&Option<Last>>, next: &Last) -> anyhow::Result<()> {
    let is_same = |before: &Last| (before.ver, &before.owner, before.amount) == (next.ver, &next.owner, next.amount);
    if !before.and_then(Option::as_ref).is_some_and(is_same) {
        bail!(
            "stale: version {} of account {id} was read, and the stream has {before:?}",
            next.ver
        );
    }
    Ok(())
}

fn assert_as_in_table(keys: &BTreeMap<i64, Option<Last>>, db: &Db) -> anyhow::Result<()> {
    let line = |(id, last): (&i64, &Option<Last>)| {
        let last = last.as_ref()?;
        Some(format!("{id}|{}|{}|{}", last.owner, last.amount, last.ver))
    };
    let found: Vec<String> = keys.iter().filter_map(line).collect();
    let truth = db.text("SELECT id, owner, amount, ver FROM accounts ORDER BY id")?;
    if found.join("\n") == truth {
        return Ok(());
    }
    let differs = truth.lines().zip(&found).find(|(truth, found)| truth != found);
    bail!(
        "the table has {} rows, captured are {}; the first that differ: {differs:?}",
        truth.lines().count(),
        found.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(ver: i64, from_snapshot: bool) -> Last {
        Last {
            ver,
            owner: String::new(),
            amount: 0,
            from_snapshot,
        }
    }

    #[test]
    fn the_oracle_tells_on_a_row_that_was_read_and_is_stale() {
        let third = Some(last(3, false));
        for (before, ver, right) in [
            (Some(&third), 3, true),
            (Some(&third), 2, false),
            (Some(&None), 3, false),
            (None, 0, false),
        ] {
            assert_eq!(
                repeats(1, before, &last(ver, true)).is_ok(),
                right,
                "{before:?} then {ver}"
            );
        }
    }

    #[test]
    fn the_oracle_tells_on_what_is_lost_doubled_or_turned_around() {
        let (third, snapshot) = (Some(last(3, false)), Some(last(3, true)));
        for (before, ver, inserted, right) in [
            (Some(&third), 4, false, true),
            (Some(&third), 5, false, false),
            (Some(&third), 3, false, false),
            (Some(&third), 2, false, false),
            (Some(&third), 0, true, false),
            (Some(&None), 0, true, true),
            (Some(&None), 1, false, false),
            (None, 1, false, false),
            (None, 0, true, true),
            (Some(&snapshot), 4, false, true),
            (Some(&snapshot), 2, false, true),
            (Some(&snapshot), 5, false, false),
        ] {
            let verdict = follows(1, before, &last(ver, false), inserted);
            assert_eq!(verdict.is_ok(), right, "{before:?} then {ver}");
        }
    }
}
