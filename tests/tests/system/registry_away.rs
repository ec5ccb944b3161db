//! F62: while the registry is away a table with a new schema waits, and nothing else does. Nothing of it is lost, doubled or out of
//! its order, whenever capture is killed.

use std::collections::BTreeSet;

use syncline_tests::captured::{self, APP, sql};
use syncline_tests::dice::Dice;
use syncline_tests::oracle::{self, Load};
use syncline_tests::{Gate, Service, Stage, World, http, in_world, until};

const BEATS: &str = "CREATE TABLE beats (id int PRIMARY KEY)";
const ACCOUNTS: u64 = 40;
const COMMITS_PER_SESSION_PER_S: u64 = 20;
/// Where a kill could lose or double what a table was behind with. (The first commit is made before the stream.)
const KILLS: [&str; 5] = [
    "capture.mid_produce=kill@5",
    "capture.after_progress=kill@2",
    "capture.before_commit=kill@2",
    "capture.after_commit=kill@2",
    "capture.after_confirm=kill@1",
];

/// A world whose capture asks the registry through a gate.
fn with_a_gate(name: &str, test: impl FnOnce(&World, &Gate) -> anyhow::Result<()>) {
    let tables = format!("{}; {BEATS}", oracle::TABLES);
    let file = captured::pipeline("tables: [accounts, beats]");
    in_world(name, &[(APP, &tables)], &[("pipeline.yaml", &file)], |world| {
        let registry = &world.stack().registry;
        let host = registry.split('/').nth(2).unwrap_or_default();
        let gate = Gate::to(host)?;
        world.set_env("REGISTRY", &registry.replace(host, &gate.address()));
        test(world, &gate)
    });
}

fn capture(world: &World) -> anyhow::Result<Service> {
    world.start_with(&Stage::Capture, &["--listen", "127.0.0.1:0"], &[])
}

/// Waits until capture, which has begun, has a beat in Kafka.
fn streams(world: &World, beat: usize) -> anyhow::Result<()> {
    sql(world, &format!("INSERT INTO beats VALUES ({beat})"))?;
    let wanted = format!("c{beat}");
    until("a first beat", 60, || {
        Ok(captured::ops(world, "beats")?.contains(&wanted))
    })
}

/// Both tables change in one transaction, and the other one arrives although the accounts cannot.
fn only_the_beat_arrives(world: &World, beat: usize, change: &str) -> anyhow::Result<()> {
    sql(
        world,
        &format!("BEGIN; {change}; INSERT INTO beats VALUES ({beat}); COMMIT"),
    )?;
    let wanted = format!("c{beat}");
    until("the beat", 60, || Ok(captured::ops(world, "beats")?.contains(&wanted)))?;
    oracle::assert_confirmed_is_in_kafka(world, APP)
}

/// No position is the position of two changes, in whatever table.
fn positions_are_unique(world: &World) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for table in ["accounts", "beats"] {
        for change in captured::changes(world, table)?
            .iter()
            .filter(|change| change.op != "-")
        {
            let (_, position) = (change.headers.iter())
                .find(|(name, _)| name == "syncline.position")
                .expect("each change has its position");
            assert!(seen.insert(position.clone()), "{position} twice");
        }
    }
    Ok(())
}

#[test]
fn f62_while_the_registry_is_away_only_the_table_with_a_new_schema_waits() {
    with_a_gate("f62", |world, gate| {
        sql(world, "INSERT INTO accounts (id, owner) VALUES (1, 'a')")?;
        world.until_current(&Stage::Capture)?;
        let mut service = capture(world)?;
        streams(world, 0)?;

        gate.close();
        sql(world, "ALTER TABLE accounts ADD note text")?;
        // A key change counts as two: what follows it in its transaction must stand where it would stand.
        only_the_beat_arrives(
            world,
            1,
            "UPDATE accounts SET id = 10 WHERE id = 1; INSERT INTO accounts (id, owner) VALUES (2, 'b')",
        )?;
        only_the_beat_arrives(world, 2, "DELETE FROM accounts WHERE id = 2")?;
        assert_eq!(captured::ops(world, "accounts")?, ["r1"]);
        let status = http::text(&service.listening()?, "/readyz")?;
        assert!(status.contains("public.accounts waits: REGISTRY_AWAITED"), "{status}");

        // What begins anew without a restart needs nothing of the registry.
        let slot = world.slot(APP);
        sql(
            world,
            &format!("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}'"),
        )?;
        only_the_beat_arrives(world, 3, "SELECT 1")?;
        assert_eq!(captured::ops(world, "accounts")?, ["r1"]);

        // It goes on by itself,
        gate.open();
        let all = ["r1", "d1", "-1", "c10", "c2", "d2", "-2"];
        until("the accounts", 60, || Ok(captured::ops(world, "accounts")? == all))?;

        // and after a kill.
        gate.close();
        sql(world, "ALTER TABLE accounts ADD more text")?;
        only_the_beat_arrives(world, 4, "INSERT INTO accounts (id, owner) VALUES (3, 'c')")?;
        service.kill()?;
        gate.open();
        world.until_current(&Stage::Capture)?;
        assert_eq!(captured::ops(world, "accounts")?[7..], ["c3"]);
        assert_eq!(captured::ops(world, "beats")?, ["c0", "c1", "c2", "c3", "c4"]);
        positions_are_unique(world)
    });
}

/// Under load, and each time the table is caught up capture is killed in the middle of it.
#[test]
fn f62_a_kill_while_a_table_waits_or_is_caught_up_loses_and_doubles_nothing() {
    with_a_gate("f62k", |world, gate| {
        oracle::open(world.db(APP), ACCOUNTS)?;
        world.until_current(&Stage::Capture)?;
        let load = Load::start(
            &world.dsn(APP)?,
            &mut Dice::new("f62k"),
            ACCOUNTS,
            COMMITS_PER_SESSION_PER_S,
        );
        for (turn, failpoint) in KILLS.iter().enumerate() {
            let mut service = capture(world)?;
            streams(world, 100 + turn)?;
            gate.close();
            sql(world, &format!("ALTER TABLE accounts ADD column_{turn} int"))?;
            load.goes_on(20)?;
            only_the_beat_arrives(world, turn, "SELECT 1")?;
            service.kill()?;
            gate.open();
            world.set_env("SYNCLINE_FAILPOINTS", failpoint);
            let killed = world.run(&Stage::Capture, &["--until-current"])?;
            world.set_env("SYNCLINE_FAILPOINTS", "");
            assert_eq!(killed.code, None, "{failpoint} was never passed:\n{}", killed.log);
        }
        load.stop()?;
        world.until_current(&Stage::Capture)?;
        let turns = (0..KILLS.len()).flat_map(|turn| [100 + turn, turn]);
        let beats: Vec<String> = turns.map(|beat| format!("c{beat}")).collect();
        assert_eq!(captured::ops(world, "beats")?, beats);
        oracle::assert_every_change_once(world)?;
        positions_are_unique(world)
    });
}
