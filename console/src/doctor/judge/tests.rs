//! A healthy source has no findings; each thing that is wrong with it is found, and nothing else.

use syncline_capture::postgres::catalog::TableInfo;
use syncline_capture::postgres::pgoutput::ReplicaIdentity;
use syncline_capture::postgres::quote::TableName;
use syncline_capture::postgres::setup::{Publication, PublishedTable};

use super::*;
use crate::doctor::facts::{Connection, Kind, OpenTransaction, Rights, Role, Server, Slot, Source, Table};

const SKEW_MS: i64 = 60_000;

fn healthy() -> Source {
    Source {
        name: "shop".to_owned(),
        slot: "ours".to_owned(),
        publication_name: "ours".to_owned(),
        server: Server {
            version: 150_018,
            wal_level: "logical".to_owned(),
            standby: false,
            slots_max: 10,
            senders_max: 10,
            senders: 1,
            slot_keep_mb: 10_000,
            sender_timeout_ms: 60_000,
            clock_ahead_ms: 3,
            clock_doubt_ms: 1,
        },
        role: Role {
            name: "capture".to_owned(),
            replication: true,
            ..Role::default()
        },
        connection: Connection {
            database: "shop".to_owned(),
            tls: Some("TLSv1.3".to_owned()),
            verified: true,
            local: false,
        },
        slots: vec![slot("ours")],
        publication: Some(publication()),
        tables: vec![table()],
        keyless: Vec::new(),
        transactions: Vec::new(),
        refused: None,
    }
}

fn slot(name: &str) -> Slot {
    Slot {
        name: name.to_owned(),
        plugin: Some("pgoutput".to_owned()),
        database: Some("shop".to_owned()),
        active: false,
        wal_status: Some("reserved".to_owned()),
        retained_bytes: 1 << 20,
        safe_bytes: None,
        invalidation: None,
    }
}

fn publication() -> Publication {
    Publication {
        name: "ours".to_owned(),
        operations: vec!["insert", "update", "delete", "truncate"],
        via_root: false,
        generated: false,
        ours: false,
        tables: vec![PublishedTable {
            name: TableName::new("public", "orders"),
            columns: None,
            filter: None,
        }],
    }
}

fn table() -> Table {
    Table {
        name: TableName::new("public", "orders"),
        kind: Kind::Plain,
        rights: Rights {
            schema: true,
            select: true,
            write: false,
            own: false,
        },
        info: Some(TableInfo {
            oid: 1,
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            columns: Vec::new(),
            primary_key: vec!["id".to_owned()],
            unique_key: Vec::new(),
            identity: ReplicaIdentity::Full,
            identity_columns: Vec::new(),
            partitioned: false,
            partition: false,
            rows_estimate: None,
        }),
        inherited: false,
        hidden_rows: false,
        subjects: Vec::new(),
    }
}

fn judged(source: &Source) -> Vec<Finding> {
    let of_server = [
        server::judge(source, SKEW_MS),
        server::room(source),
        slots::judge(source),
    ];
    let of_tables = [role::judge(source), publication::judge(source), tables::judge(source)];
    of_server.into_iter().chain(of_tables).flatten().collect()
}

/// What is found once `change` has been done to a healthy source.
fn check(change: impl FnOnce(&mut Source), expected: &[(Severity, &str)]) -> Vec<Finding> {
    let mut source = healthy();
    change(&mut source);
    let found = judged(&source);
    let codes: Vec<(Severity, &str)> = found.iter().map(|finding| (finding.severity, finding.code)).collect();
    assert_eq!(codes, expected, "{found:#?}");
    found
}

use Severity::{Note, Risk, Stops};

#[test]
fn f24_minors_with_known_faults_of_decoding_are_named() {
    for (version, found) in [
        (140_018, true),
        (140_019, false),
        (150_013, true),
        (150_014, false),
        (160_009, true),
        (170_005, true),
        (170_006, false),
        (180_000, false),
    ] {
        let expected: &[(Severity, &str)] = if found { &[(Risk, "SERVER_MINOR")] } else { &[] };
        check(|source| source.server.version = version, expected);
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    check(|_| {}, &[]);
}

#[test]
fn settings_of_the_server() {
    check(|source| source.server.version = 130_010, &[(Stops, "VERSION")]);
    check(|source| source.server.standby = true, &[(Stops, "SOURCE_IS_STANDBY")]);
    check(
        |source| source.server.wal_level = "replica".to_owned(),
        &[(Stops, "WAL_LEVEL")],
    );
    check(
        |source| source.server.sender_timeout_ms = 0,
        &[(Risk, "WAL_SENDER_TIMEOUT")],
    );
    check(
        |source| source.server.sender_timeout_ms = 2_000,
        &[(Risk, "WAL_SENDER_TIMEOUT")],
    );
    check(|source| source.server.slot_keep_mb = -1, &[(Risk, "NO_SLOT_LIMIT")]);
}

#[test]
fn clocks_count_only_beyond_doubt() {
    check(|source| source.server.clock_ahead_ms = -700, &[(Note, "CLOCK")]);
    check(|source| source.server.clock_ahead_ms = SKEW_MS + 2, &[(Risk, "CLOCK")]);
    let unsure = |source: &mut Source| (source.server.clock_ahead_ms, source.server.clock_doubt_ms) = (700, 600);
    check(unsure, &[]);
}

#[test]
fn the_connection() {
    check(|source| source.connection.tls = None, &[(Risk, "NO_TLS")]);
    check(
        |source| source.connection.verified = false,
        &[(Note, "TLS_NOT_VERIFIED")],
    );
    let at_home = |source: &mut Source| (source.connection.tls, source.connection.local) = (None, true);
    check(at_home, &[]);
}

#[test]
fn transactions_that_nobody_ends() {
    let open = |pid, age_s, age_transactions| OpenTransaction {
        pid,
        who: "app".to_owned(),
        age_s,
        age_transactions,
        idle: true,
    };
    let with = |one: OpenTransaction| move |source: &mut Source| source.transactions.push(one);
    check(with(open(Some(7), Some(299), 5)), &[]);
    let found = check(with(open(Some(7), Some(300), 5)), &[(Risk, "LONG_TRANSACTION")]);
    assert_eq!(found[0].mend, "SELECT pg_terminate_backend(7);");
    check(with(open(Some(7), None, 1_000_000)), &[(Risk, "LONG_TRANSACTION")]);
    let found = check(with(open(None, Some(301), 5)), &[(Risk, "LONG_TRANSACTION")]);
    assert!(found[0].mend.starts_with("COMMIT PREPARED 'app';"), "{found:?}");
}

#[test]
fn a_server_without_room() {
    check(|source| source.server.slots_max = 1, &[]);
    let full = |source: &mut Source| {
        source.server.slots_max = 1;
        source.slots = vec![slot("theirs")];
    };
    let found = check(full, &[(Stops, "SOURCE_SLOTS_FULL")]);
    assert!(
        found[0].mend.contains("pg_drop_replication_slot('theirs')"),
        "{found:?}"
    );
    check(|source| source.server.senders = 10, &[(Stops, "SOURCE_SENDERS_FULL")]);
    let ours_streams = |source: &mut Source| {
        source.server.senders = 10;
        source.slots[0].active = true;
    };
    check(ours_streams, &[]);
}

#[test]
fn slots_and_what_they_hold_back() {
    check(
        |source| source.slots[0].retained_bytes = 2 << 30,
        &[(Risk, "WAL_RETAINED")],
    );
    check(
        |source| source.slots[0].plugin = Some("wal2json".to_owned()),
        &[(Stops, "SLOT_FOREIGN")],
    );
    check(
        |source| source.slots[0].wal_status = Some("lost".to_owned()),
        &[(Stops, "SLOT_LOST")],
    );
    check(
        |source| source.slots[0].wal_status = Some("unreserved".to_owned()),
        &[(Risk, "SLOT_NEARLY_LOST")],
    );
    let mut theirs = slot("o'theirs");
    theirs.retained_bytes = 3 << 30;
    let found = check(|source| source.slots.push(theirs), &[(Risk, "WAL_RETAINED")]);
    assert!(
        found[0].mend.contains("('o''theirs')") && found[0].what.contains("3.0 GB"),
        "{found:?}"
    );
    let mut dead = slot("dead");
    dead.invalidation = Some("idle_timeout".to_owned());
    check(|source| source.slots.push(dead), &[(Note, "FOREIGN_SLOT_LOST")]);
}

#[test]
fn too_little_and_too_much_for_a_role() {
    let found = check(|source| source.role.replication = false, &[(Stops, "NO_REPLICATION")]);
    assert_eq!(found[0].mend, "ALTER ROLE \"capture\" REPLICATION;");
    let on_rds = |source: &mut Source| {
        source.role.replication = false;
        source.role.provider = Some("rds_replication".to_owned());
    };
    let found = check(on_rds, &[(Stops, "NO_REPLICATION")]);
    assert_eq!(found[0].mend, "GRANT \"rds_replication\" TO \"capture\";");
    let all = |source: &mut Source| {
        source.role.superuser = true;
        source.role.bypass_rls = true;
        source.role.member_of = vec!["pg_write_all_data".to_owned()];
    };
    check(all, &[(Risk, "PRIVILEGE_BEYOND_NEED")]);
    check(
        |source| source.role.bypass_rls = true,
        &[(Risk, "PRIVILEGE_BEYOND_NEED")],
    );
    let member = |source: &mut Source| source.role.member_of = vec!["pg_write_all_data".to_owned(), "staff".to_owned()];
    let found = check(member, &[(Risk, "PRIVILEGE_BEYOND_NEED")]);
    assert_eq!(found[0].mend, "REVOKE \"pg_write_all_data\" FROM \"capture\";");
    check(
        |source| source.tables[0].rights.own = true,
        &[(Note, "PRIVILEGE_BEYOND_NEED")],
    );
    check(
        |source| source.tables[0].rights.write = true,
        &[(Note, "PRIVILEGE_BEYOND_NEED")],
    );
}

#[test]
fn a_publication_that_is_missing_or_made_by_somebody_else() {
    let found = check(|source| source.publication = None, &[(Stops, "PUBLICATION_MISSING")]);
    assert_eq!(
        found[0].mend,
        "CREATE PUBLICATION \"ours\" FOR TABLE ONLY \"public\".\"orders\";"
    );
    let able = |source: &mut Source| {
        source.publication = None;
        source.role.create = true;
        source.tables[0].rights.own = true;
    };
    check(able, &[(Note, "PRIVILEGE_BEYOND_NEED")]);
    let other = |source: &mut Source| {
        source.publication = Some(Publication {
            tables: Vec::new(),
            ..publication()
        })
    };
    let found = check(other, &[(Stops, "PUBLICATION_MISSING")]);
    assert_eq!(
        found[0].mend,
        "ALTER PUBLICATION \"ours\" ADD TABLE ONLY \"public\".\"orders\";"
    );
}

#[test]
fn a_publication_that_narrows() {
    let without = |operations: &[&'static str]| {
        let operations = operations.to_vec();
        move |source: &mut Source| {
            source.publication = Some(Publication {
                operations,
                ..publication()
            })
        }
    };
    check(
        without(&["insert", "update", "truncate"]),
        &[(Risk, "PUBLICATION_OPERATIONS")],
    );
    check(
        without(&["insert", "update", "delete"]),
        &[(Note, "PUBLICATION_TRUNCATE")],
    );
    let narrowed = |columns, filter| {
        move |source: &mut Source| {
            let published = &mut source.publication.as_mut().unwrap().tables[0];
            (published.columns, published.filter) = (columns, filter);
        }
    };
    check(
        narrowed(Some(vec!["id".to_owned()]), None),
        &[(Note, "PUBLICATION_COLUMNS")],
    );
    check(
        narrowed(None, Some("(id > 5)".to_owned())),
        &[(Risk, "PUBLICATION_FILTER")],
    );
    let partitioned = |source: &mut Source| source.tables[0].kind = Kind::Partitioned;
    check(
        partitioned,
        &[(Stops, "PUBLICATION_PARTITIONS"), (Note, "TABLE_PARTITIONED")],
    );
}

#[test]
fn tables_that_cannot_be_captured() {
    for (kind, code) in [
        (Kind::Absent, "TABLE_MISSING"),
        (Kind::Unlogged, "TABLE_NOT_LOGGED"),
        (Kind::Foreign, "TABLE_FOREIGN"),
        (Kind::Other, "NO_TABLE"),
    ] {
        let of_kind = |source: &mut Source| (source.tables[0].kind, source.tables[0].info) = (kind, None);
        check(of_kind, &[(Stops, code)]);
    }
    check(
        |source| source.tables[0].rights.schema = false,
        &[(Stops, "SOURCE_PERMISSION")],
    );
    check(
        |source| source.tables[0].rights.select = false,
        &[(Stops, "SOURCE_PERMISSION")],
    );
    check(|source| source.tables[0].hidden_rows = true, &[(Stops, "ROW_SECURITY")]);
    check(|source| source.tables[0].inherited = true, &[(Note, "TABLE_INHERITED")]);
    check(
        |source| source.keyless = vec![TableName::new("public", "log")],
        &[(Note, "NO_KEY")],
    );
}

#[test]
fn a_table_without_identity_is_never_put_into_the_printed_publication() {
    let nameless = |source: &mut Source| {
        source.publication = None;
        let mut other = table();
        other.name = TableName::new("public", "log");
        let info = other.info.as_mut().unwrap();
        (info.primary_key, info.identity) = (Vec::new(), ReplicaIdentity::Default);
        source.tables.push(other);
    };
    let found = check(
        nameless,
        &[(Stops, "PUBLICATION_MISSING"), (Stops, "NO_REPLICA_IDENTITY")],
    );
    assert!(!found[0].mend.contains("log"), "{}", found[0].mend);
}

#[test]
fn subjects_that_take_anything_or_too_little() {
    let level = |level: &str| {
        let subject = ("shop.public.orders-value".to_owned(), level.to_owned());
        move |source: &mut Source| source.tables[0].subjects.push(subject)
    };
    check(level("BACKWARD"), &[]);
    check(level("NONE"), &[(Note, "COMPATIBILITY_NONE")]);
    check(level("FULL"), &[(Note, "COMPATIBILITY_STRICT")]);
}
