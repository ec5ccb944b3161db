//! A workload that tells on every lost, doubled or reordered change: transfers between accounts in three apps at once.
//!
//! A transfer changes two rows in one transaction, so the total of an app at rest never changes. Each also writes down what
//! it did in a table of truth that no pipeline reads, so the balance of each account is known to the penny. A trigger counts
//! the versions of each row, whoever writes it, so a change that capture loses, doubles or turns around leaves a gap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::dice::Dice;
use crate::oracle;
use crate::postgres::Db;
use crate::world::World;

const CAPTURED_MAX_S: u64 = 30;

/// An app with accounts: the same accounts under other names.
pub struct Shape {
    /// The app.
    pub app: &'static str,
    /// Its table.
    pub table: &'static str,
    /// Columns: key, account number, owner, note, balance.
    pub columns: [&'static str; 5],
    /// Type and default of the key.
    key: &'static str,
    /// Type of the balance.
    balance: &'static str,
    /// What a penny is in this app's balance.
    penny: &'static str,
}

/// The three apps.
pub const SHAPES: [Shape; 3] = [
    Shape {
        app: "shop",
        table: "accounts",
        columns: ["id", "number", "owner", "note", "pence"],
        key: "bigserial",
        balance: "bigint",
        penny: "1",
    },
    Shape {
        app: "crm",
        table: "clients",
        columns: ["ref", "acct", "name", "remark", "balance"],
        key: "serial",
        balance: "numeric(14,2)",
        penny: "0.01",
    },
    Shape {
        app: "billing",
        table: "ledger",
        columns: ["uid", "no", "holder", "memo", "amount"],
        key: "uuid DEFAULT gen_random_uuid()",
        balance: "numeric(16,2)",
        penny: "0.01",
    },
];

/// What every account holds at the start, in pence.
pub const OPENING_PENCE: i64 = 10_000;

/// The entity's schema.
pub const SCHEMA: &str = r#"{"type": "record", "name": "Account", "fields": [
  {"name": "number", "type": ["null", "string"], "default": null},
  {"name": "owner", "type": ["null", "string"], "default": null},
  {"name": "note", "type": ["null", "string"], "default": null},
  {"name": "balance", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 16, "scale": 2}], "default": null}]}"#;

/// The pipeline, for [`World`].
pub const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}", partitions: 2 }
systems:
  shop:    { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  crm:     { postgres: "${env:CRM_DSN}", topic_prefix: "${env:CRM_PREFIX}" }
  billing: { postgres: "${env:BILLING_DSN}", topic_prefix: "${env:BILLING_PREFIX}" }
entities:
  account:
    schema: account.avsc@1
    fields:
      number:  { on_conflict: latest }
      owner:   { on_conflict: latest }
      note:    { on_conflict: latest }
      balance: { on_conflict: add }
    match:
      - same: [number]
links:
  shop.accounts <-> account: { key: id, number: number, owner: owner, note: note, balance: "scale(pence, 2)" }
  crm.clients <-> account: { key: ref, number: acct, owner: name, note: remark, balance: balance }
  billing.ledger <-> account: { key: uid, number: no, owner: holder, note: memo, balance: amount }
"#;

/// The files of [`World`].
pub const FILES: [(&str, &str); 2] = [("pipeline.yaml", PIPELINE), ("account.avsc", SCHEMA)];

impl Shape {
    /// The SQL that makes the app's tables.
    pub fn sql(&self) -> String {
        let [key, number, owner, note, balance] = self.columns;
        let Self {
            table,
            key: key_type,
            balance: balance_type,
            ..
        } = self;
        format!(
            "CREATE TABLE {table} ({key} {key_type} PRIMARY KEY, {number} text NOT NULL UNIQUE, {owner} text, {note} text,
               {balance} {balance_type} NOT NULL DEFAULT 0, ver bigint NOT NULL DEFAULT 0);
             CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.ver := OLD.ver + 1; RETURN NEW; END $$;
             CREATE TRIGGER bump BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION bump();
             CREATE TABLE truth (number text NOT NULL, pence bigint NOT NULL);"
        )
    }

    fn open(&self, world: &World, accounts: u64) -> anyhow::Result<()> {
        let [_, number, owner, note, balance] = self.columns;
        let Self { table, penny, .. } = self;
        world.db(self.app).exec(&format!(
            "INSERT INTO {table} ({number}, {owner}, {note}, {balance})
             SELECT 'A' || i, 'nobody', '', {OPENING_PENCE} * {penny} FROM generate_series(1, {accounts}) i"
        ))
    }

    /// `number|owner|note|pence` of every account.
    pub fn rows(&self, world: &World) -> anyhow::Result<String> {
        let [_, number, owner, note, balance] = self.columns;
        let Self { table, penny, .. } = self;
        world.db(self.app).text(&format!(
            "SELECT {number}, {owner}, {note}, ({balance} / {penny})::bigint FROM {table} ORDER BY {number} COLLATE \"C\""
        ))
    }
}

/// The apps for [`crate::in_world`]; `sql` is what [`Shape::sql`] gives for each.
pub fn apps(sql: &[String; 3]) -> [(&'static str, &str); 3] {
    [0, 1, 2].map(|index| (SHAPES[index].app, sql[index].as_str()))
}

/// The SQL of the three apps.
pub fn sql() -> [String; 3] {
    [0, 1, 2].map(|index: usize| SHAPES[index].sql())
}

/// Opens the same accounts in all apps.
pub fn open(world: &World, accounts: u64) -> anyhow::Result<()> {
    SHAPES.iter().try_for_each(|shape| shape.open(world, accounts))
}

/// A load on all apps, until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    started: Instant,
}

impl Load {
    /// Starts a thread for each app that makes `changes_per_s` row changes a second.
    pub fn start(world: &World, dice: &mut Dice, changes_per_s: u64) -> anyhow::Result<Self> {
        let (stop, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut threads = Vec::new();
        for shape in &SHAPES {
            let teller = Teller::new(shape, world.connect(shape.app)?, dice.split())?;
            let (stop, changes) = (Arc::clone(&stop), Arc::clone(&changes));
            threads.push(std::thread::spawn(move || teller.work(changes_per_s, &stop, &changes)));
        }
        Ok(Self {
            stop,
            changes,
            threads,
            started: Instant::now(),
        })
    }

    /// Row changes so far, in all apps.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Stops it; gives the number of row changes and how many a second they were.
    pub fn stop(self) -> anyhow::Result<(u64, u64)> {
        let seconds = self.started.elapsed().as_secs().max(1);
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a teller panicked"))??;
        }
        let changes = self.changes.load(Ordering::SeqCst);
        Ok((changes, changes / seconds))
    }
}

/// Who makes the changes in one app.
struct Teller {
    shape: &'static Shape,
    db: Db,
    dice: Dice,
    /// Key and number of each account, in the order in which rows are locked.
    accounts: Vec<(String, String)>,
    turn: u64,
}

impl Teller {
    fn new(shape: &'static Shape, db: Db, dice: Dice) -> anyhow::Result<Self> {
        let [key, number, ..] = shape.columns;
        let rows = db.rows(&format!(
            "SELECT {key}::text, {number} FROM {} ORDER BY {key}",
            shape.table
        ))?;
        let pair = |row: Vec<Option<String>>| {
            let mut cells = row.into_iter().flatten();
            Some((cells.next()?, cells.next()?))
        };
        Ok(Self {
            shape,
            db,
            dice,
            accounts: rows.into_iter().filter_map(pair).collect(),
            turn: 0,
        })
    }

    fn work(mut self, changes_per_s: u64, stop: &AtomicBool, changes: &AtomicU64) -> anyhow::Result<()> {
        let (started, mut done) = (Instant::now(), 0);
        while !stop.load(Ordering::SeqCst) {
            let made = self.one()?;
            done += made;
            changes.fetch_add(made, Ordering::Relaxed);
            let due = Duration::from_millis(done * 1000 / changes_per_s);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        Ok(())
    }

    /// One transaction; gives the number of rows it changed.
    fn one(&mut self) -> anyhow::Result<u64> {
        self.turn += 1;
        let changed = if self.turn.is_multiple_of(8) {
            self.rename()?
        } else {
            self.transfer()?
        };
        Ok(changed)
    }

    fn pick(&mut self) -> anyhow::Result<(usize, usize)> {
        let count = u64::try_from(self.accounts.len())?;
        let (first, second) = (self.dice.below(count), self.dice.below(count - 1));
        let second = if second >= first { second + 1 } else { second };
        Ok((usize::try_from(first.min(second))?, usize::try_from(first.max(second))?))
    }

    /// One in ten is rolled back, and must leave no trace.
    fn transfer(&mut self) -> anyhow::Result<u64> {
        let (first, second) = self.pick()?;
        let pence = i64::try_from(self.dice.below(500))? - 250;
        let rolled_back = self.dice.below(10) == 0;
        let Shape {
            table,
            columns: [key, .., balance],
            penny,
            ..
        } = self.shape;
        let [(first_key, first_number), (second_key, second_number)] = [&self.accounts[first], &self.accounts[second]];
        let end = if rolled_back { "ROLLBACK" } else { "COMMIT" };
        let done = self.commit(&format!(
            "BEGIN;
             UPDATE {table} SET {balance} = {balance} + ({pence}) * {penny} WHERE {key} = '{first_key}';
             UPDATE {table} SET {balance} = {balance} - ({pence}) * {penny} WHERE {key} = '{second_key}';
             INSERT INTO truth VALUES ('{first_number}', {pence}), ('{second_number}', -({pence}));
             {end}"
        ))?;
        Ok(if done && !rolled_back { 2 } else { 0 })
    }

    fn rename(&mut self) -> anyhow::Result<u64> {
        let (index, _) = self.pick()?;
        let Shape {
            app,
            table,
            columns: [key, _, owner, note, _],
            ..
        } = self.shape;
        let (turn, account) = (self.turn, &self.accounts[index].0);
        let column = if turn.is_multiple_of(16) { owner } else { note };
        let done = self.commit(&format!(
            "UPDATE {table} SET {column} = '{app}-{turn}' WHERE {key} = '{account}'"
        ))?;
        Ok(u64::from(done))
    }

    /// A deadlock with the sink is the app's to lose now and then; the app would try again, we make another change.
    fn commit(&self, sql: &str) -> anyhow::Result<bool> {
        match self.db.exec(sql) {
            Ok(()) => Ok(true),
            Err(error) if format!("{error:?}").contains("deadlock") => {
                self.db.exec("ROLLBACK")?;
                Ok(false)
            }
            Err(error) => Err(error).context(self.shape.app),
        }
    }
}

/// F04, at any moment, in every app.
pub fn assert_confirmed_is_in_kafka(world: &World) -> anyhow::Result<()> {
    SHAPES
        .iter()
        .try_for_each(|shape| crate::oracle::assert_confirmed_is_in_kafka(world, shape.app))
}

/// Whether all apps hold the same; the first differing account if not.
pub fn difference(world: &World) -> anyhow::Result<Option<String>> {
    let [first, rest @ ..] = SHAPES.each_ref().map(|shape| shape.rows(world));
    let first = first?;
    for (shape, rows) in SHAPES[1..].iter().zip(rest) {
        let rows = rows?;
        if let Some((ours, theirs)) = first.lines().zip(rows.lines()).find(|(ours, theirs)| ours != theirs) {
            return Ok(Some(format!("shop has {ours}, {} has {theirs}", shape.app)));
        }
    }
    Ok(None)
}

/// What every account must hold: the opening balance and all that anybody did to it.
fn expected(world: &World) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut all = BTreeMap::new();
    for shape in &SHAPES {
        for row in world
            .db(shape.app)
            .rows("SELECT number, sum(pence) FROM truth GROUP BY 1")?
        {
            if let [Some(number), Some(pence)] = row.as_slice() {
                *all.entry(number.clone()).or_insert(OPENING_PENCE) += pence.parse::<i64>()?;
            }
        }
    }
    Ok(all)
}

/// Nothing lost, nothing doubled: every account in every app to the penny, every total as at the start.
pub fn assert_balances(world: &World) -> anyhow::Result<()> {
    let expected = expected(world)?;
    for shape in &SHAPES {
        let mut total = 0;
        let rows = shape.rows(world)?;
        for line in rows.lines() {
            let mut cells = line.split('|');
            let number = cells.next().unwrap_or_default();
            let pence: i64 = cells.next_back().unwrap_or_default().parse()?;
            let right = expected.get(number).copied().unwrap_or(OPENING_PENCE);
            if pence != right {
                bail!("{} has {pence} pence on {number}, and it must be {right}", shape.app);
            }
            total += pence;
        }
        let right = OPENING_PENCE * i64::try_from(rows.lines().count())?;
        if total != right {
            bail!("{} has {total} pence in total, and it must be {right}", shape.app);
        }
    }
    Ok(())
}

/// Whether a capture topic may have a change twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// Exactly once.
    Never,
    /// At least once: what followed the last progress may come again, in the same order.
    AfterACrash,
}

/// Waits for a capture that runs: when the apps are equal, the sink's last write is still on its way to their topics.
pub fn caught_up(world: &World) -> anyhow::Result<()> {
    SHAPES
        .iter()
        .try_for_each(|shape| oracle::caught_up(world.db(shape.app), &world.slot(shape.app), CAPTURED_MAX_S))
}

/// Per key the versions in the capture topic rise by one, from the first to what the database has now.
pub fn assert_versions(world: &World, repeats: Repeats) -> anyhow::Result<usize> {
    let mut checked = 0;
    for shape in &SHAPES {
        let key = shape.columns[0];
        let mut versions: BTreeMap<String, i64> = BTreeMap::new();
        for record in world.topics.read(&world.capture_topic(shape.app, shape.table))? {
            let value = record.value.as_deref().context("no account was deleted")?;
            let after = world.topics.json(value)?["after"].take();
            let version = after["ver"].as_i64().context("a version")?;
            let account = crate::agreed::show(&after[key]);
            match versions.insert(account.clone(), version) {
                Some(before) if version > before + 1 || version <= before && repeats == Repeats::Never => {
                    bail!(
                        "{}: version {version} of {account} follows {before}, offset {}",
                        shape.app,
                        record.offset
                    )
                }
                _ => checked += 1,
            }
        }
        for row in world
            .db(shape.app)
            .rows(&format!("SELECT {key}::text, ver FROM {}", shape.table))?
        {
            let [Some(account), Some(version)] = row.as_slice() else {
                bail!("a key and a version")
            };
            if versions.get(account) != Some(&version.parse()?) {
                bail!(
                    "{}: {account} has version {version}, captured is {:?}",
                    shape.app,
                    versions.get(account)
                );
            }
        }
    }
    Ok(checked)
}
