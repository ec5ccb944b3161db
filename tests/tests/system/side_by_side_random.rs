//! Random scripts, captured by a real Debezium and by ours: both write the same. Each seed is a script in a schema of its
//! own; seeds of one block run in one database under one configuration, which is random too.
//!
//! `SYNCLINE_SEED=137 SYNCLINE_SEEDS=1` runs seed 137 alone, `SYNCLINE_SEED=0 SYNCLINE_SEEDS=200` the first two hundred.

use anyhow::bail;
use syncline_tests::beside::{Beside, OURS};
use syncline_tests::connect::Worker;
use syncline_tests::script::{Script, Step};
use syncline_tests::{Db, Dice, in_world};

/// Seeds that run if nobody says which: some, and some that found something once.
const SEEDS: [u64; 8] = [0, 1, 2, 3, 22, 26, 28, 29];

/// Seeds with the same configuration.
const BLOCK: u64 = 20;

/// Of statements of a script: it is worth nothing when most of them fail.
const DONE_PERCENT_MIN: usize = 70;

/// What a configuration is made of.
const CHOICES: [(&str, &[&str]); 12] = [
    ("decimal.handling.mode", &["precise", "double", "string"]),
    (
        "time.precision.mode",
        &[
            "adaptive",
            "adaptive_time_microseconds",
            "connect",
            "isostring",
            "microseconds",
            "nanoseconds",
        ],
    ),
    ("interval.handling.mode", &["numeric", "string"]),
    ("hstore.handling.mode", &["json", "map"]),
    ("binary.handling.mode", &["bytes", "base64", "base64-url-safe", "hex"]),
    ("include.unknown.datatypes", &["false", "true"]),
    ("money.fraction.digits", &["2", "0", "4"]),
    ("unavailable.value.placeholder", &["__debezium_unavailable_value", "?"]),
    ("tombstones.on.delete", &["true", "false"]),
    ("skip.messages.without.change", &["false", "true"]),
    ("skipped.operations", &["none", "t", "u"]),
    ("provide.transaction.metadata", &["false", "true"]),
];

/// The configuration of a block: that of the first is what Debezium has by itself.
fn settings(block: u64) -> Vec<(&'static str, &'static str)> {
    let mut dice = Dice::of(block);
    let choice = |(name, values): &(&'static str, &'static [&'static str])| {
        let place = if block == 0 { 0 } else { dice.place(values.len()) };
        (*name, values[place])
    };
    CHOICES.iter().map(choice).collect()
}

/// The two sessions of a script; a statement that has to wait for long fails.
struct Sessions([Db; 2]);

impl Sessions {
    fn open(dsn: &str) -> anyhow::Result<Self> {
        let connect = || -> anyhow::Result<Db> {
            let db = Db::connect(dsn)?;
            db.exec("SET lock_timeout = '1s'; SET client_min_messages = error")?;
            Ok(db)
        };
        Ok(Self([connect()?, connect()?]))
    }

    /// Whether it was done.
    fn run(&self, step: &Step, beside: &mut Beside<'_>) -> anyhow::Result<bool> {
        let done = self.0[step.session].exec(&step.sql);
        if let (Err(error), true) = (&done, std::env::var_os("SYNCLINE_TEST_SQL").is_some()) {
            println!("{error:#}");
        }
        beside.note(&step.sql)?;
        Ok(done.is_ok())
    }
}

/// Runs seeds of one block, phase by phase, and compares.
fn block(block: u64, seeds: &[u64]) {
    let settings = settings(block);
    println!("seeds {seeds:?} with {settings:?}");
    in_world("rand", &[(OURS, "SELECT 1")], &[], |world| {
        let (db, dsn) = (world.db(OURS), world.dsn(OURS)?);
        for extension in ["hstore", "citext", "ltree"] {
            db.exec(&format!("CREATE EXTENSION {extension}"))?;
        }
        let scripts: Vec<Script> = seeds.iter().map(|&seed| Script::new(seed, true)).collect();
        let sessions = Sessions::open(&dsn)?;
        for statement in scripts.iter().flat_map(|script| &script.setup) {
            // A row that a table does not take is no reason to go without the others.
            let _ = sessions.0[0].exec(statement);
        }
        let worker = Worker::shared()?;
        let mut beside = Beside::start(world, &dsn, &worker, "", &settings)?;
        let (mut all, mut done) = (0, 0);
        for phase in 0..scripts.iter().map(|script| script.phases.len()).max().unwrap_or(0) {
            let phases: Vec<_> = scripts.iter().filter_map(|script| script.phases.get(phase)).collect();
            for statement in phases.iter().flat_map(|phase| &phase.alter) {
                let step = Step {
                    session: 0,
                    sql: statement.clone(),
                };
                sessions.run(&step, &mut beside)?;
            }
            for step in phases.iter().flat_map(|phase| &phase.steps) {
                all += 1;
                done += usize::from(sessions.run(step, &mut beside)?);
            }
            beside.rest()?;
        }
        if done * 100 < all * DONE_PERCENT_MIN {
            bail!("only {done} of {all} statements were done");
        }
        let compared = beside.compare()?;
        println!(
            "{} records of {done} statements, {} failed",
            compared.records,
            all - done
        );
        compared.expect_equal(seeds.len() * 10, |_| String::new())
    });
}

#[test]
fn random_scripts_are_captured_as_debezium_captures_them() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match (number("SYNCLINE_SEED"), number("SYNCLINE_SEEDS")) {
        (None, None) => SEEDS.to_vec(),
        (first, count) => (first.unwrap_or(0)..)
            .take(usize::try_from(count.unwrap_or(1)).unwrap_or(1))
            .collect(),
    };
    for same in seeds.chunk_by(|one, other| one / BLOCK == other / BLOCK) {
        block(same[0] / BLOCK, same);
    }
}
