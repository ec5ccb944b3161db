//! An edit in one app until it is in the others: three apps of different shapes, captured, mapped, merged and written.
//!
//! Each change is of an entity of its own, so that the row that holds it in another app was written for nothing else, and
//! the commit timestamp of that row is the moment of its arrival. Since one edit is one write in each other app, the number
//! of writes tells what was written twice.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use syncline_tests::{Db, Service, Stage, World};

use crate::bed::server_pid;
use crate::contender::Contender;
use crate::latency::counted_from;
use crate::load::{Load, now_us};
use crate::machine::Parties;
use crate::result::Run;
use crate::session::Session;

/// As it is named.
pub const CASE: &str = "agreement";
const CHANGES_PER_S: u64 = 500;
const SESSIONS_PER_APP: usize = 2;
/// Edits before the load that show that all is at work.
const FIRST: u64 = 10;
const START_MAX_S: u64 = 120;
const DRAIN_MAX_S: u64 = 60;
/// A session that lives on tells of its writes no later.
const STATISTICS_DELAY: Duration = Duration::from_secs(2);

/// An app: its name, its table, and its columns for number, name, and the moment of the last edit.
struct Shape {
    app: &'static str,
    table: &'static str,
    columns: [&'static str; 3],
    key: &'static str,
}

const SHAPES: [Shape; 3] = [
    Shape {
        app: "shop",
        table: "customers",
        columns: ["number", "full_name", "edited"],
        key: "id bigserial PRIMARY KEY",
    },
    Shape {
        app: "crm",
        table: "contacts",
        columns: ["ref", "name", "touched"],
        key: "uid uuid PRIMARY KEY DEFAULT gen_random_uuid()",
    },
    Shape {
        app: "billing",
        table: "accounts",
        columns: ["account", "holder", "changed"],
        key: "no serial PRIMARY KEY",
    },
];

const SCHEMA: &str = r#"{"type": "record", "name": "Person", "fields": [
  {"name": "number", "type": ["null", "string"], "default": null},
  {"name": "name", "type": ["null", "string"], "default": null},
  {"name": "edited", "type": ["null", "long"], "default": null}]}"#;

const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}", partitions: 2, delivery: DELIVERY }
systems:
  shop:    { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  crm:     { postgres: "${env:CRM_DSN}", topic_prefix: "${env:CRM_PREFIX}" }
  billing: { postgres: "${env:BILLING_DSN}", topic_prefix: "${env:BILLING_PREFIX}" }
entities:
  person:
    schema: person.avsc@1
    fields:
      number: { on_conflict: latest }
      name:   { on_conflict: latest }
      edited: { on_conflict: latest }
    match:
      - same: [number]
links:
  shop.customers <-> person: { key: id, number: number, name: full_name, edited: edited }
  crm.contacts <-> person: { key: uid, number: ref, name: name, edited: touched }
  billing.accounts <-> person: { key: no, number: account, name: holder, edited: changed }
"#;

impl Shape {
    fn make(&self) -> String {
        let [number, name, edited] = self.columns;
        format!(
            "CREATE TABLE {} ({}, {number} text NOT NULL UNIQUE, {name} text NOT NULL, {edited} int8 NOT NULL)",
            self.table, self.key
        )
    }

    fn fill(&self, db: &Db, people: u64) -> anyhow::Result<()> {
        let [number, name, edited] = self.columns;
        db.exec(&format!(
            "INSERT INTO {} ({number}, {name}, {edited}) SELECT 'P' || i, 'Person ' || i, 0 FROM generate_series(0, {}) i",
            self.table,
            people.saturating_sub(1)
        ))
    }

    fn edit(&self, person: u64, at_us: i64) -> String {
        let [number, name, edited] = self.columns;
        format!(
            "UPDATE {} SET {name} = 'Person {person} of {}', {edited} = {at_us} WHERE {number} = 'P{person}'",
            self.table, self.app
        )
    }

    /// Count and content.
    fn digest(&self, db: &Db) -> anyhow::Result<String> {
        let columns = self.columns.join(", ");
        db.text(&format!(
            "SELECT count(*), sum(hashtextextended(concat_ws('|', {columns}), 0)) FROM {}",
            self.table
        ))
    }

    fn updates(&self, db: &Db) -> anyhow::Result<i64> {
        db.number(&format!(
            "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = '{}'",
            self.table
        ))
    }
}

/// Runs it if it is asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    if !session.plan.wants(CASE) {
        return Ok(());
    }
    session.case(CASE, || {
        let contenders = [Contender::ExactlyOnce, Contender::AtLeastOnce];
        session.in_turn(CASE, &contenders, |who| measure(session, *who))
    })
}

fn measure(session: &Session<'_>, who: Contender) -> anyhow::Result<Run> {
    let tables = SHAPES.each_ref().map(Shape::make);
    let apps: Vec<_> = SHAPES
        .iter()
        .zip(&tables)
        .map(|(shape, sql)| (shape.app, sql.as_str()))
        .collect();
    let pipeline = PIPELINE.replace("DELIVERY", who.delivery());
    // All apps are on the target's server, which tells when a row was committed.
    let stack = session.bed.target.stack_with_it()?;
    let files = [("pipeline.yaml", pipeline.as_str()), ("person.avsc", SCHEMA)];
    let world = World::of(stack, "bench", &apps, &files)?;
    let (seconds, count) = (session.plan.seconds, session.plan.seconds * CHANGES_PER_S);
    for shape in &SHAPES {
        shape.fill(world.db(shape.app), FIRST + count)?;
    }
    world.settle()?;
    let updates_before = updates(&world)?;
    let services = [Stage::Capture, Stage::Transform, Stage::Sink].map(|stage| world.start(&stage));
    let mut services = services.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    await_first(&world, &mut services)?;

    let parties = Parties {
        contender: services.iter().map(Service::pid).collect(),
        postgres: server_pid(world.db(SHAPES[0].app))?,
        broker: Some(session.bed.broker),
    };
    let (before, began_us) = (parties.read()?, now_us()?);
    let sessions = (0..SHAPES.len() * SESSIONS_PER_APP).map(|index| world.connect(SHAPES[index % SHAPES.len()].app));
    let statement = |number: u64, meant_us: i64| {
        // A person of its own for each change; whose turn it is goes round.
        let turn = usize::try_from(number % SHAPES.len() as u64).unwrap_or_default();
        SHAPES[turn].edit(FIRST + number, meant_us)
    };
    let load = Load::start(
        sessions.collect::<anyhow::Result<_>>()?,
        count,
        CHANGES_PER_S,
        statement,
    )?;
    load.wait()?;
    await_equal(&world, &mut services, count, began_us)?;
    let spent = parties.since(&before)?;
    let waits_ms = waits(&world, counted_from(began_us, seconds))?;
    let peak_rss_mb = parties.peak_rss_mb();
    for service in services {
        service.stop()?;
    }
    // One edit is one write in each app: its own, and that of the sink in the two others.
    let expected = updates_before + i64::try_from((FIRST + count) * SHAPES.len() as u64)?;
    let duplicates = await_writes(&world, expected)? - expected;
    let run = Run {
        rows: count,
        rows_per_s: count as f64 / spent.wall,
        rows_per_s_warm: count as f64 / spent.wall,
        peak_rss_mb,
        settings: [("delivery".to_owned(), who.delivery().to_owned())].into(),
        ..Run::default()
    };
    let mut run = run.spent(&spent).waits(waits_ms);
    // The generator is the benchmark's own; who else was at work cannot be told apart from it.
    run.others_s = 0.0;
    Ok(run.figure("duplicates", duplicates as f64))
}

fn alive(services: &mut [Service]) -> anyhow::Result<()> {
    for service in services {
        if let Some(status) = service.ended()? {
            let log = service.log()?;
            anyhow::bail!(
                "a stage ended with {status}:\n{}",
                syncline_tests::process::tail(&log, 30)
            );
        }
    }
    Ok(())
}

fn digests(world: &World) -> anyhow::Result<BTreeSet<String>> {
    SHAPES.iter().map(|shape| shape.digest(world.db(shape.app))).collect()
}

/// Each app edits some of the first people, until all have seen it.
fn await_first(world: &World, services: &mut [Service]) -> anyhow::Result<()> {
    for (person, shape) in (0..FIRST).zip(SHAPES.iter().cycle()) {
        world.db(shape.app).exec(&shape.edit(person, 1))?;
    }
    syncline_tests::until("the first edits to be in all apps", START_MAX_S, || {
        alive(services)?;
        Ok(digests(world)?.len() == 1)
    })
}

/// Waits until all apps hold the same, and every change is in it.
fn await_equal(world: &World, services: &mut [Service], count: u64, began_us: i64) -> anyhow::Result<()> {
    syncline_tests::until("all apps to hold the same", DRAIN_MAX_S, || {
        alive(services)?;
        Ok(digests(world)?.len() == 1)
    })?;
    for shape in &SHAPES {
        let [.., edited] = shape.columns;
        let there = world.db(shape.app).number(&format!(
            "SELECT count(*) FROM {} WHERE {edited} >= {began_us}",
            shape.table
        ))?;
        ensure!(
            u64::try_from(there)? == count,
            "{} has {there} of {count} changes",
            shape.app
        );
    }
    Ok(())
}

/// Of every change that counts and each app that did not make it: milliseconds until it was there.
fn waits(world: &World, from_us: i64) -> anyhow::Result<Vec<f64>> {
    let mut waits_ms = Vec::new();
    for shape in &SHAPES {
        let [_, name, edited] = shape.columns;
        let found = world.db(shape.app).text(&format!(
            "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000 - {edited} / 1000.0
               FROM {} WHERE {edited} >= {from_us} AND {name} NOT LIKE '% of {}'",
            shape.table, shape.app
        ))?;
        for line in found.lines() {
            waits_ms.push(line.parse().with_context(|| format!("{line:?} is no time"))?);
        }
    }
    Ok(waits_ms)
}

fn updates(world: &World) -> anyhow::Result<i64> {
    SHAPES.iter().map(|shape| shape.updates(world.db(shape.app))).sum()
}

/// How many rows were written in all apps, once all who wrote have ended: the server's statistics are late.
fn await_writes(world: &World, least: i64) -> anyhow::Result<i64> {
    syncline_tests::until("the statistics to tell of all writes", DRAIN_MAX_S, || {
        Ok(updates(world)? >= least)
    })?;
    std::thread::sleep(STATISTICS_DELAY);
    updates(world)
}
