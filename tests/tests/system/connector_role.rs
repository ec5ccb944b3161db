//! A connector's own role suffices for ours: one that may log in, replicate, and read the tables, and owns nothing.

use std::process::Command;

use serde_json::{Value as Json, json};
use syncline_tests::captured::{APP, ops};
use syncline_tests::{OwnServer, Stack, World, in_world, process};

const RUN_MAX_S: u64 = 120;
/// Beside what is captured: partitions, and tables that are none of its business, published and not.
const TABLES: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v text);
    CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE SCHEMA private;
    CREATE TABLE private.secret (id int PRIMARY KEY, v text);
    CREATE TABLE private.published (id int PRIMARY KEY, v text);
    CREATE PUBLICATION made FOR TABLE t, parted, private.published;
    CREATE ROLE reader LOGIN REPLICATION;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
    INSERT INTO t VALUES (1, 'a'); INSERT INTO parted VALUES (1, 'a');
    ANALYZE";

fn configuration(world: &World, server: &OwnServer) -> Json {
    let address = server.address();
    let (host, port) = address.split_once(':').unwrap_or_default();
    json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "plugin.name": "pgoutput",
        "database.hostname": host,
        "database.port": port,
        "database.user": "reader",
        "database.password": "",
        "database.dbname": "postgres",
        "topic.prefix": world.prefix(APP),
        "slot.name": "connector",
        "publication.name": "made",
        "publication.autocreate.mode": "disabled",
        "schema.include.list": "public",
    })
}

fn capture(world: &World) -> anyhow::Result<()> {
    let stack = Stack::from_env()?;
    let mut command = Command::new(process::binary("syncline-capture")?);
    command.arg("--debezium").arg(world.path("connector.json"));
    command.args(["--bootstrap", &stack.kafka, "--registry", &stack.registry]);
    command
        .arg("--state-dir")
        .arg(world.path("state"))
        .arg("--until-current");
    process::run(command, &world.path("capture.log"), RUN_MAX_S)?
        .expect_code(0)
        .map(|_| ())
}

#[test]
fn the_role_of_a_connector_that_owns_nothing_suffices() {
    in_world("role", &[(APP, "SELECT 1")], &[], |world| {
        let server = OwnServer::start(&[("wal_level", "logical")])?;
        let db = server.db("postgres")?;
        db.exec(TABLES)?;
        std::fs::write(world.path("connector.json"), configuration(world, &server).to_string())?;
        capture(world)?;
        db.exec("INSERT INTO t VALUES (2, 'b'); INSERT INTO parted VALUES (2, 'b')")?;
        capture(world)?;
        assert_eq!(ops(world, "t")?, ["r1", "c2"]);
        assert_eq!(ops(world, "low")?, ["r1", "c2"]);
        Ok(())
    });
}
