//! The source as it is found or made: catalogue, publication, slot, names.

use std::time::Duration;

use syncline_capture::postgres::catalog::{self, TypeKind};
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::Dsn;
use syncline_capture::postgres::pgoutput::{Message, ReplicaIdentity};
use syncline_capture::postgres::quote::TableName;
use syncline_capture::postgres::setup::{self, Prepared, Wanted};
use syncline_capture::postgres::snapshot::Snapshot;
use syncline_capture::postgres::stream::StreamSettings;
use syncline_runtime::failure::Class;
use syncline_schemas::position::Lsn;

use crate::database::{Database, SLOT_WAIT, drain, rows_of, some, texts};

#[test]
fn a_slot_cannot_be_made_while_a_transaction_is_open_and_leaves_nothing_behind() {
    let database = Database::new("orphan");
    let control = database.control();
    control
        .execute("CREATE TABLE t (id int PRIMARY KEY)", "creating")
        .unwrap();
    let forgotten = database.control();
    forgotten.execute("BEGIN; INSERT INTO t VALUES (1)", "opening").unwrap();
    let failure = database
        .client()
        .create_slot(
            database.slot(),
            false,
            Duration::from_millis(500),
            &syncline_runtime::Shutdown::new(),
        )
        .unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Transient, "SLOT_WAIT"));
    assert_eq!(setup::slot_state(&control, database.slot()).unwrap(), None);
    forgotten.execute("COMMIT", "closing").unwrap();
    database
        .client()
        .create_slot(database.slot(), false, SLOT_WAIT, &syncline_runtime::Shutdown::new())
        .unwrap();
    let slot = setup::slot_state(&control, database.slot()).unwrap().unwrap();
    assert_eq!(
        (slot.plugin.as_deref(), slot.wal_status.as_deref()),
        (Some("pgoutput"), Some("reserved"))
    );
}

#[test]
fn the_catalogue_describes_what_a_schema_needs() {
    let database = Database::new("catalogue");
    let control = database.control();
    control
        .execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN short AS varchar(20) NOT NULL; CREATE DOMAIN shorter AS short;
             CREATE TABLE t (gone int, b int DEFAULT 7, a serial, s shorter, m mood[] DEFAULT '{sad}', n numeric(10,2),
                g int GENERATED ALWAYS AS (b * 2) STORED, i int GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (b, a));
             ALTER TABLE t DROP COLUMN gone;
             CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE nokey (x int); ALTER TABLE nokey REPLICA IDENTITY FULL",
            "creating",
        )
        .unwrap();
    let names = ["t", "root", "nokey"].map(|name| TableName::new("public", name));
    let tables = catalog::tables(&control, &names).unwrap();
    let t = &tables[0];
    assert_eq!(t.primary_key, ["b", "a"]);
    assert_eq!(t.identity_columns, ["b", "a"]);
    assert_eq!(
        t.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(),
        ["b", "a", "s", "m", "n", "g", "i"]
    );
    let b = t.column("b").unwrap();
    assert_eq!(
        (b.number, b.default.as_deref(), b.default_is_literal, b.not_null),
        (2, Some("7"), true, true)
    );
    let a = t.column("a").unwrap();
    assert_eq!((a.default.is_some(), a.default_is_literal), (true, false));
    let s = t.column("s").unwrap();
    assert_eq!(
        (s.type_info.name.as_str(), s.type_info.domain.as_deref()),
        ("varchar", Some("public.shorter"))
    );
    assert_eq!((s.type_modifier, s.not_null), (24, true));
    let m = t.column("m").unwrap();
    let TypeKind::Array(element) = &m.type_info.kind else {
        panic!("{m:?}")
    };
    assert_eq!(element.kind, TypeKind::Enum(vec!["sad".to_owned(), "ok".to_owned()]));
    assert!(m.default_is_literal);
    assert_eq!(t.column("n").unwrap().type_modifier, ((10 << 16) | 2) + 4);
    assert!(t.column("g").unwrap().generated && t.column("g").unwrap().default.is_none());
    assert!(t.column("i").unwrap().identity);
    assert!(tables[1].partitioned);
    assert_eq!(
        (tables[2].identity, tables[2].primary_key.len()),
        (ReplicaIdentity::Full, 0)
    );
    let missing = catalog::tables(&control, &[TableName::new("public", "nowhere")]).unwrap_err();
    assert_eq!(missing.code, "TABLE_MISSING");
}

#[test]
fn a_publication_is_made_completed_or_asked_for() {
    let database = Database::new("publication");
    let control = database.control();
    control
        .execute(
            "CREATE TABLE a (id int PRIMARY KEY, secret text); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE bad (x int);
             CREATE UNLOGGED TABLE u (id int PRIMARY KEY)",
            "creating",
        )
        .unwrap();
    let first = database.prepare(&["a"]);
    let second = database.prepare(&["a", "b"]);
    let names = |prepared: &Prepared| {
        prepared
            .publication
            .tables
            .iter()
            .map(|t| t.name.table.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&first), names(&second)),
        (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    assert_ne!(first.publication.hash(), second.publication.hash());
    assert_eq!(
        database.prepare(&["b", "a"]).publication.hash(),
        second.publication.hash()
    );
    assert_eq!(second.slot, None);

    let prepare = |dsn: &Dsn, publication: &str, table: &str| {
        let tables = vec![TableName::new("public", table)];
        let wanted = Wanted {
            mode: syncline_capture::postgres::setup::PublicationMode::Filtered,
            reach: syncline_capture::postgres::setup::Reach::Roots,
            publication: publication.to_owned(),
            slot: database.slot().to_owned(),
            tables,
        };
        setup::prepare(&Control::connect(dsn).unwrap(), &wanted).unwrap_err()
    };
    let failure = prepare(&database.dsn(), "pub", "bad");
    assert_eq!(failure.code, "NO_REPLICA_IDENTITY");
    assert!(failure.hint.unwrap().contains(r#"ALTER TABLE "public"."bad""#));
    assert_eq!(prepare(&database.dsn(), "pub", "u").code, "TABLE_NOT_LOGGED");

    let role = format!("{}_guest", database.name);
    control
        .execute(
            &format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON a TO {role}"),
            "creating",
        )
        .unwrap();
    let mut guest = database.dsn();
    guest.user = role.clone();
    let other = prepare(&guest, "other", "a");
    let unreadable = prepare(&guest, "pub", "b");
    control
        .execute(
            &format!("GRANT SELECT ON bad TO {role}; ALTER TABLE bad REPLICA IDENTITY FULL"),
            "granting",
        )
        .unwrap();
    let incomplete = prepare(&guest, "pub", "bad");
    control
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"), "cleaning up")
        .unwrap();
    assert_eq!(other.code, "PUBLICATION_MISSING");
    assert!(
        other
            .hint
            .unwrap()
            .contains(r#"CREATE PUBLICATION "other" FOR TABLE ONLY "public"."a";"#)
    );
    assert_eq!(
        (unreadable.code, unreadable.hint.unwrap()),
        (
            "SOURCE_PERMISSION",
            format!(r#"GRANT SELECT ON "public"."b" TO "{role}""#)
        )
    );
    assert_eq!(incomplete.code, "PUBLICATION_MISSING");
    assert!(
        incomplete
            .hint
            .unwrap()
            .contains(r#"ALTER PUBLICATION "pub" ADD TABLE ONLY "public"."bad";"#)
    );
}

#[test]
fn odd_names_are_quoted_everywhere() {
    let database = Database::new("odd");
    let control = database.control();
    let table = r#"Odd "t'; DROP--"#;
    control
        .execute(r#"CREATE TABLE "Odd ""t'; DROP--" ("sel""ect" int PRIMARY KEY, "from" text); INSERT INTO "Odd ""t'; DROP--" VALUES (1, 'x')"#, "creating")
        .unwrap();
    let publication = r#"P "u' b"#;
    let wanted = Wanted {
        mode: syncline_capture::postgres::setup::PublicationMode::Filtered,
        reach: syncline_capture::postgres::setup::Reach::Roots,
        publication: publication.to_owned(),
        slot: database.slot().to_owned(),
        tables: vec![TableName::new("public", table)],
    };
    let prepared = setup::prepare(&control, &wanted).unwrap();
    let mut client = database.client();
    let created = client
        .create_slot(database.slot(), false, SLOT_WAIT, &syncline_runtime::Shutdown::new())
        .unwrap();
    let snapshot = Snapshot::exported(&database.dsn(), &created.snapshot, created.consistent_point).unwrap();
    let rows = rows_of(&snapshot, &prepared.tables[0], &["from", "sel\"ect"], 1);
    assert_eq!(texts(&rows[0]), some(&["x", "1"]));
    drop(snapshot);
    let mut stream = client
        .start_stream(
            database.slot(),
            publication,
            created.consistent_point,
            StreamSettings::default(),
        )
        .unwrap();
    control
        .execute(r#"DELETE FROM "Odd ""t'; DROP--""#, "deleting")
        .unwrap();
    let messages = drain(&mut stream, control.current_lsn().unwrap());
    assert!(
        messages
            .iter()
            .any(|message| matches!(message, Message::Relation(relation) if relation.table == table))
    );
}

#[test]
fn the_server_says_who_it_is() {
    let database = Database::new("identity");
    let mut client = database.client();
    let identity = client.identify_system().unwrap();
    assert!(identity.system_identifier > 0 && identity.timeline >= 1 && identity.lsn > Lsn(0));
    assert_eq!(identity.dbname, database.name);
    assert_eq!(client.server_version(), database.control().server_version());
}
