//! A database that is read, as the role of capture sees it. It asks; it judges nothing and changes nothing.
//!
//! The role may own nothing and be a member of nothing, so only what every role may see is asked for; what others are
//! doing is hidden from it in part, and then is not known.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use syncline_bus::Registry;
use syncline_capture::config::{Repair, SourceConfig};
use syncline_capture::postgres::catalog;
use syncline_capture::postgres::client::ReplicationClient;
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::{Dsn, SslMode};
use syncline_capture::postgres::quote::TableName;
use syncline_capture::postgres::session::SessionSettings;
use syncline_capture::postgres::setup;
use syncline_capture::{open, progress, start};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::topic;
use tokio_postgres::Row;

use super::facts::{Connection, Kind, OpenTransaction, Rights, Role, Server, Slot, Source, Table};

const CLOCK_SAMPLES: usize = 5;

/// Asks the database of this source, and the registry if it is one that answers.
pub fn gather(config: &SourceConfig, registry: Option<&Registry>) -> Outcome<Source> {
    let control = Control::connect(&config.dsn)?;
    let (names, keyless) = match &config.tables {
        Some(names) => (names.clone(), Vec::new()),
        None => (open::all_tables(&control, config.reach)?, keyless(&control)?),
    };
    let mut tables = tables(&control, &names)?;
    for table in tables.iter_mut() {
        table.subjects = registry.map_or_else(Vec::new, |registry| subjects(config, registry, &table.name));
    }
    Ok(Source {
        name: config.name.clone(),
        slot: config.slot.clone(),
        publication_name: config.publication.clone(),
        server: server(&control)?,
        role: role(&control)?,
        connection: connection(&control, &config.dsn)?,
        slots: slots(&control)?,
        publication: setup::publication(&control, &config.publication)?,
        tables,
        keyless,
        transactions: transactions(&control)?,
        refused: None,
    })
}

/// What capture would say if it began now; nothing if it would begin. The slot is asked for before the progress, which
/// only ever runs ahead of it: a capture at work is no contradiction.
pub fn refusal(config: &SourceConfig, registry: &Registry, source: &Source) -> Outcome<Option<Failure>> {
    let Some(publication) = &source.publication else {
        return Ok(None);
    };
    let control = Control::connect(&config.dsn)?;
    let slot = setup::slot_state(&control, &config.slot)?;
    let mut client = ReplicationClient::connect(&config.dsn, &SessionSettings::default())?;
    let identity = client.identify_system()?;
    let stored = progress::read(config, registry)?;
    let server = start::Server {
        identity: &identity,
        slot: slot.as_ref(),
        publication_hash: &publication.hash(),
        fork: client.fork(stored.as_ref(), &identity)?,
    };
    let names: Vec<String> = source.tables.iter().map(|table| table.name.to_string()).collect();
    Ok(start::decide(config, stored.as_ref(), server, Repair::default(), &names).err())
}

fn server(control: &Control) -> Outcome<Server> {
    let sql = "SELECT current_setting('wal_level'), pg_is_in_recovery(),
                      current_setting('max_replication_slots')::int8, current_setting('max_wal_senders')::int8,
                      (SELECT count(*) FROM pg_stat_replication),
                      (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
                      (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout')";
    let row = control.one(sql, &[], "reading the settings")?;
    let (clock_ahead_ms, clock_doubt_ms) = clock(control)?;
    Ok(Server {
        version: control.server_version(),
        wal_level: row.get(0),
        standby: row.get(1),
        slots_max: row.get(2),
        senders_max: row.get(3),
        senders: row.get(4),
        slot_keep_mb: row.get(5),
        sender_timeout_ms: row.get(6),
        clock_ahead_ms,
        clock_doubt_ms,
    })
}

/// The quickest of some questions says most; half of its way is the doubt.
fn clock(control: &Control) -> Outcome<(i64, i64)> {
    let mut best: Option<(i64, i64)> = None;
    for _ in 0..CLOCK_SAMPLES {
        let (asked_at, asked) = (now_us(), Instant::now());
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
        let server_us: i64 = control.one(sql, &[], "asking for the time")?.get(0);
        let way_us = i64::try_from(asked.elapsed().as_micros()).unwrap_or(i64::MAX);
        let ahead_us = server_us - asked_at - way_us / 2;
        if best.is_none_or(|(_, doubt_us)| way_us / 2 < doubt_us) {
            best = Some((ahead_us, way_us / 2));
        }
    }
    let (ahead_us, doubt_us) = best.unwrap_or((0, i64::MAX));
    Ok((ahead_us / 1000, doubt_us / 1000))
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The role that is logged in.
pub(super) fn role(control: &Control) -> Outcome<Role> {
    let sql = "SELECT r.rolname::text, r.rolsuper, r.rolreplication, r.rolbypassrls, r.rolcreatedb, r.rolcreaterole,
                      has_database_privilege(current_database(), 'CREATE'),
                      ARRAY(SELECT g.rolname::text FROM pg_roles g
                             WHERE g.rolname <> r.rolname AND pg_has_role(r.oid, g.oid, 'MEMBER') ORDER BY 1),
                      (SELECT g.rolname::text FROM pg_roles g WHERE g.rolname = 'rds_replication')
                 FROM pg_roles r WHERE r.rolname = current_user";
    let row = control.one(sql, &[], "asking what the role may do")?;
    let member_of: Vec<String> = row.get(7);
    let provider: Option<String> = row.get(8);
    let granted = provider.as_ref().is_some_and(|provider| member_of.contains(provider));
    Ok(Role {
        name: row.get(0),
        superuser: row.get(1),
        replication: row.get::<_, bool>(2) || granted,
        bypass_rls: row.get(3),
        create_db: row.get(4),
        create_role: row.get(5),
        create: row.get(6),
        member_of,
        provider,
    })
}

/// The connection that this question comes by.
pub(super) fn connection(control: &Control, dsn: &Dsn) -> Outcome<Connection> {
    let sql = "SELECT current_database()::text, (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl),
                      coalesce(inet_client_addr() <<= '127.0.0.0/8' OR inet_client_addr() = '::1'
                               OR inet_client_addr() = inet_server_addr(), true)";
    let row = control.one(sql, &[], "asking about the connection")?;
    Ok(Connection {
        database: row.get(0),
        tls: row.get(1),
        local: row.get(2),
        verified: matches!(dsn.sslmode, SslMode::VerifyCa | SslMode::VerifyFull),
    })
}

fn slots(control: &Control) -> Outcome<Vec<Slot>> {
    let sql = "SELECT slot_name::text, plugin::text, database::text, active, wal_status, safe_wal_size,
                      coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                                    ELSE pg_current_wal_lsn() END, restart_lsn), 0)::int8,
                      to_jsonb(s)->>'invalidation_reason'
                 FROM pg_replication_slots s ORDER BY 1";
    let rows = control.rows(sql, &[], "looking at the slots")?;
    let slot = |row: &Row| Slot {
        name: row.get(0),
        plugin: row.get(1),
        database: row.get(2),
        active: row.get(3),
        wal_status: row.get(4),
        safe_bytes: row.get(5),
        retained_bytes: row.get(6),
        invalidation: row.get(7),
    };
    Ok(rows.iter().map(slot).collect())
}

fn tables(control: &Control, names: &[TableName]) -> Outcome<Vec<Table>> {
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let relations: Vec<&str> = names.iter().map(|name| name.table.as_str()).collect();
    let sql = "SELECT coalesce(c.relkind::text, ''), coalesce(c.relpersistence::text, ''),
                      coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
                      coalesce(has_table_privilege(c.oid, 'SELECT'), false),
                      coalesce(has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'), false),
                      coalesce(pg_has_role(c.relowner, 'MEMBER'), false),
                      c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid),
                      coalesce(row_security_active(c.oid), false)
                 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(schema_name, table_name, place)
                 LEFT JOIN pg_namespace n ON n.nspname = w.schema_name
                 LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
                ORDER BY w.place";
    let rows = control.rows(sql, &[&schemas, &relations], "looking at the tables")?;
    let found = rows.iter().zip(names).map(|(row, name)| Table {
        name: name.clone(),
        kind: kind(row.get(0), row.get(1)),
        rights: Rights {
            schema: row.get(2),
            select: row.get(3),
            write: row.get(4),
            own: row.get(5),
        },
        info: None,
        inherited: row.get::<_, Option<bool>>(6).unwrap_or(false),
        hidden_rows: row.get(7),
        subjects: Vec::new(),
    });
    let mut found: Vec<Table> = found.collect();
    for table in found
        .iter_mut()
        .filter(|table| matches!(table.kind, Kind::Plain | Kind::Partitioned | Kind::Unlogged))
    {
        table.info = catalog::tables(control, std::slice::from_ref(&table.name))?.pop();
    }
    Ok(found)
}

fn kind(relation: &str, persistence: &str) -> Kind {
    match (relation, persistence) {
        ("", _) => Kind::Absent,
        ("r" | "p", "u" | "t") => Kind::Unlogged,
        ("r", _) => Kind::Plain,
        ("p", _) => Kind::Partitioned,
        ("f", _) => Kind::Foreign,
        _ => Kind::Other,
    }
}

/// The subjects of a table that exist, with what the registry asks of their next schema. One that does not answer is
/// found out about elsewhere.
fn subjects(config: &SourceConfig, registry: &Registry, name: &TableName) -> Vec<(String, String)> {
    let topic = topic::capture(&config.prefix, &name.schema, &name.table);
    let subject = topic::value_subject(&topic);
    let known = registry.latest(&subject).ok().flatten();
    let level = known.and_then(|_| registry.compatibility(&subject).ok());
    level.map(|level| (subject, level)).into_iter().collect()
}

fn keyless(control: &Control) -> Outcome<Vec<TableName>> {
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
                  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'syncline') AND n.nspname !~ '^pg_'
                  AND c.relreplident NOT IN ('f', 'i')
                  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
                ORDER BY 1, 2";
    let rows = control.rows(sql, &[], "looking for tables without a key")?;
    Ok(rows
        .iter()
        .map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)))
        .collect())
}

fn transactions(control: &Control) -> Outcome<Vec<OpenTransaction>> {
    let sql = "SELECT pid, coalesce(usename::text, 'somebody'),
                      extract(epoch FROM clock_timestamp() - xact_start)::int8,
                      coalesce(greatest(age(backend_xid), age(backend_xmin)), 0)::int8,
                      coalesce(state LIKE 'idle%', false)
                 FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND coalesce(backend_type, 'client backend') = 'client backend'
                  AND (xact_start IS NOT NULL OR backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
                UNION ALL
               SELECT NULL, gid, extract(epoch FROM clock_timestamp() - prepared)::int8, age(transaction)::int8, true
                 FROM pg_prepared_xacts WHERE database = current_database()";
    let rows = control.rows(sql, &[], "looking at open transactions")?;
    let open = |row: &Row| OpenTransaction {
        pid: row.get(0),
        who: row.get(1),
        age_s: row.get(2),
        age_transactions: row.get(3),
        idle: row.get(4),
    };
    Ok(rows.iter().map(open).collect())
}
