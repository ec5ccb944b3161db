//! Least privilege, as SQL: what a role that owns nothing has to be given, and no more. Whether it has it already does
//! not matter here; all of it may be run again.

use std::collections::BTreeSet;

use super::facts::{Books, Kind, Source, Table, Target};
use super::judge::{publication, quoted, table_name};

/// For capture.
pub fn of_source(source: &Source) -> String {
    let role = quoted(&source.role.name);
    let tables: Vec<&Table> = source
        .tables
        .iter()
        .filter(|table| matches!(table.kind, Kind::Plain | Kind::Partitioned))
        .collect();
    let mut lines = vec![format!(
        "-- {}: database {}, as an owner of the tables (REPLICATION: as a superuser)",
        source.name, source.connection.database
    )];
    lines.push(match &source.role.provider {
        Some(provider) => format!("GRANT {} TO {role};", quoted(provider)),
        None => format!("ALTER ROLE {role} LOGIN REPLICATION;"),
    });
    lines.push(format!(
        "GRANT CONNECT ON DATABASE {} TO {role};",
        quoted(&source.connection.database)
    ));
    let schemas: BTreeSet<&str> = tables.iter().map(|table| table.name.schema.as_str()).collect();
    lines.extend(
        schemas
            .into_iter()
            .map(|schema| format!("GRANT USAGE ON SCHEMA {} TO {role};", quoted(schema))),
    );
    lines.extend(
        tables
            .iter()
            .map(|table| format!("GRANT SELECT ON {} TO {role};", table_name(&table.name))),
    );
    let published = publication::capturable_tables(source);
    if source.publication.is_none() && !published.is_empty() {
        lines.push(publication::create(&source.publication_name, &published));
    }
    lines.join("\n") + "\n"
}

/// For the sink.
pub fn of_target(target: &Target) -> String {
    let (role, database) = (quoted(&target.role.name), quoted(&target.connection.database));
    let mut lines = vec![
        format!(
            "-- {}: database {}, as an owner of the tables",
            target.name, target.connection.database
        ),
        format!("GRANT CONNECT ON DATABASE {database} TO {role};"),
    ];
    if target.books == Books::Absent {
        lines.push(format!(
            "GRANT CREATE ON DATABASE {database} TO {role}; -- for the schema syncline; may be revoked then"
        ));
    }
    let schemas: BTreeSet<&str> = target.tables.iter().map(|table| table.name.schema.as_str()).collect();
    lines.extend(
        schemas
            .into_iter()
            .map(|schema| format!("GRANT USAGE ON SCHEMA {} TO {role};", quoted(schema))),
    );
    for table in target.tables.iter().filter(|table| table.exists) {
        lines.push(format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {role};",
            table_name(&table.name)
        ));
        lines.extend(
            table
                .sequences
                .iter()
                .map(|sequence| format!("GRANT USAGE ON SEQUENCE {sequence} TO {role};")),
        );
    }
    lines.join("\n") + "\n"
}
