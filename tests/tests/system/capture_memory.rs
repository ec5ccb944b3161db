//! Memory is bounded at every row and transaction size: the peak of the whole process (`VmHWM`), of the binary as it is
//! built for tests.
//!
//! What a case may have is [`BASE_MB`], which is the process doing nothing (its code, Kafka's client, TLS), our budget of
//! 64 MB, and the queue of Kafka's client: 32 MB of records, and half a kilobyte that it keeps with each of at most 100,000.
//! Only a row that is larger than all of that gets more, and says how much. `SYNCLINE_MEMORY=full` runs the sizes of the promise, which takes minutes; otherwise they are smaller, but
//! large enough for whatever grows with them to be seen.

use std::fmt::Write as _;

use syncline_tests::{Service, Stage, World, in_world, until};

/// What the process has before it has read anything.
const BASE_MB: u64 = 25;
/// Ours, and the client's.
const BUDGET_MB: u64 = 64 + 32 + 50;
const WITHIN_S: u64 = 300;
/// A thousand tables are a thousand commits first, on a machine that others work on.
const STREAMING_MAX_S: u64 = 600;

const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop:
    postgres: "${env:SHOP_DSN}"
    topic_prefix: "${env:SHOP_PREFIX}"
    on_poison: dead_letter
    tables: ${env:TABLES}
"#;
const NARROW: &str = "CREATE TABLE t (id bigint PRIMARY KEY, a text, b int, at timestamptz DEFAULT now())";

/// The size of the promise, or a smaller one.
fn sized(full: u64, usual: u64) -> u64 {
    match std::env::var("SYNCLINE_MEMORY").is_ok_and(|size| size == "full") {
        true => full,
        false => usual,
    }
}

fn with(name: &str, sql: &str, tables: &[String], test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let file = PIPELINE.replace("${env:TABLES}", &format!("[{}]", tables.join(", ")));
    in_world(name, &[("shop", sql)], &[("pipeline.yaml", &file)], |world| {
        world.until_current(&Stage::Capture)?;
        test(world)
    });
}

/// A capture that streams.
fn streaming(world: &World, args: &[&str]) -> anyhow::Result<Service> {
    let service = world.start_with(&Stage::Capture, args, &[])?;
    until("capture to stream", STREAMING_MAX_S, || {
        Ok(service.log()?.contains("\"streaming\""))
    })?;
    Ok(service)
}

/// Waits until what is committed now is in Kafka and confirmed, and judges the peak.
fn judge(world: &World, service: Service, what: &str, more_mb: u64) -> anyhow::Result<()> {
    syncline_tests::oracle::caught_up(world.db("shop"), &world.slot("shop"), WITHIN_S)?;
    let (peak, bound) = (service.peak_mb()?, BASE_MB + BUDGET_MB + more_mb);
    println!("{what}: {peak} MB of {bound} MB");
    service.stop()?;
    assert!(peak <= bound, "{what}: {peak} MB, more than {bound} MB");
    Ok(())
}

fn rows(world: &World, table: &str) -> anyhow::Result<u64> {
    let ends = world.topics.ends(&[world.capture_topic("shop", table)])?;
    Ok(ends.values().sum::<i64>().cast_unsigned())
}

#[test]
fn f25_a_transaction_of_a_million_rows() {
    let count = sized(1_000_000, 200_000);
    with("memtx", NARROW, &["t".to_owned()], |world| {
        let service = streaming(world, &[])?;
        let insert = format!("INSERT INTO t SELECT n, repeat('x', 100), n FROM generate_series(1, {count}) n");
        world.db("shop").exec(&insert)?;
        judge(world, service, &format!("one transaction of {count} rows"), 0)?;
        assert!(rows(world, "t")? >= count);
        Ok(())
    });
}

/// The rows that are there when capture begins.
#[test]
fn a_first_read_of_many_rows() {
    let count = sized(1_000_000, 200_000);
    let sql = format!("{NARROW}; INSERT INTO t SELECT n, repeat('x', 100), n FROM generate_series(1, {count}) n");
    let file = PIPELINE.replace("${env:TABLES}", "[t]");
    in_world("memread", &[("shop", &sql)], &[("pipeline.yaml", &file)], |world| {
        let service = streaming(world, &[])?;
        judge(world, service, &format!("a first read of {count} rows"), 0)?;
        assert!(rows(world, "t")? >= count);
        Ok(())
    });
}

/// They are all open at the same time and end one after the other.
#[test]
fn a_hundred_large_transactions_at_once() {
    let (transactions, count) = (sized(100, 30), sized(10_000, 3_000));
    with("memmany", NARROW, &["t".to_owned()], |world| {
        let service = streaming(world, &[])?;
        let sessions = (0..transactions)
            .map(|_| world.connect("shop"))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for part in 0..2 {
            for (number, session) in sessions.iter().enumerate() {
                let first = number as u64 * count + part * count / 2;
                let last = first + count / 2 - 1;
                session.exec(&format!(
                    "{} INSERT INTO t SELECT n, repeat('x', 100), n FROM generate_series({first}, {last}) n",
                    if part == 0 { "BEGIN;" } else { "" }
                ))?;
            }
        }
        sessions.iter().try_for_each(|session| session.exec("COMMIT"))?;
        let what = format!("{transactions} open transactions of {count} rows");
        judge(world, service, &what, 0)?;
        assert!(rows(world, "t")? >= transactions * count);
        Ok(())
    });
}

/// F22: as text a bytea is twice as long. It comes whole, once as text and once as bytes, and Kafka does not take it.
#[test]
fn f22_rows_of_fifty_megabytes() {
    const ROW_MB: u64 = 50;
    let sql = "CREATE TABLE t (id bigint PRIMARY KEY, a bytea); ALTER TABLE t ALTER a SET STORAGE EXTERNAL";
    with("memrow", sql, &["t".to_owned()], |world| {
        let text_mb = 2 * ROW_MB;
        for (args, more_mb) in [(&["--max-row-bytes", "16MiB"][..], 0), (&[][..], text_mb * 22 / 10)] {
            let service = streaming(world, args)?;
            for row in 1..=sized(10, 2) {
                let id = more_mb * 1000 + row;
                world.db("shop").exec(&format!(
                    "INSERT INTO t VALUES ({id}, decode(repeat('00', {ROW_MB} << 20), 'hex'))"
                ))?;
            }
            judge(world, service, &format!("rows of {ROW_MB} MB, {args:?}"), more_mb)?;
        }
        assert_eq!(rows(world, "t")?, 0);
        Ok(())
    });
}

#[test]
fn a_thousand_tables() {
    let count = sized(1_000, 150);
    let (mut sql, mut all) = (String::new(), String::new());
    for number in 0..count {
        write!(
            sql,
            "CREATE TABLE t{number} (id bigint PRIMARY KEY, a text, b int, c numeric, at timestamptz);"
        )
        .unwrap_or_default();
        write!(
            all,
            "INSERT INTO t{number} SELECT n, 'x', n FROM generate_series(1, 20) n;"
        )
        .unwrap_or_default();
    }
    let tables: Vec<String> = (0..count).map(|number| format!("t{number}")).collect();
    let file = PIPELINE.replace("${env:TABLES}", &format!("[{}]", tables.join(", ")));
    in_world("memtab", &[("shop", &sql)], &[("pipeline.yaml", &file)], |world| {
        let service = streaming(world, &[])?;
        for _ in 0..2 {
            world.db("shop").exec(&all)?;
            world.db("shop").exec(
                &all.replace("INSERT INTO t", "DELETE FROM t")
                    .replace(" SELECT n, 'x', n FROM generate_series(1, 20) n", ""),
            )?;
        }
        // 50 kB a table, as the design says.
        judge(world, service, &format!("{count} tables"), count * 50 / 1000)
    });
}

#[test]
fn a_table_of_1600_columns() {
    let count = sized(20_000, 1_000);
    let columns: Vec<String> = (1..1600).map(|number| format!("c{number} smallint")).collect();
    let sql = format!("CREATE TABLE t (id bigint PRIMARY KEY, {})", columns.join(", "));
    with("memcol", &sql, &["t".to_owned()], |world| {
        let service = streaming(world, &[])?;
        let values: Vec<&str> = (1..1600).map(|_| "7").collect();
        let insert = format!(
            "INSERT INTO t SELECT n, {} FROM generate_series(1, {count}) n",
            values.join(", ")
        );
        world.db("shop").exec(&insert)?;
        judge(world, service, &format!("{count} rows of 1600 columns"), 0)?;
        assert!(rows(world, "t")? >= count);
        Ok(())
    });
}
