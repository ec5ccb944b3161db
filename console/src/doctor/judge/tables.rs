//! The tables to capture: whether their changes are in the log, can be read, and mean what they seem to.

use syncline_capture::postgres::catalog::{ColumnInfo, TableInfo};
use syncline_capture::postgres::pgoutput::ReplicaIdentity;
use syncline_capture::postgres::quote::TableName;
use syncline_capture::postgres::setup::identity_problem;
use syncline_capture::types::Kind as Form;

use super::{Findings, quoted};
use crate::doctor::facts::{Kind, Source, Table};
use crate::doctor::finding::Finding;

/// From this version on generated columns can be published.
const GENERATED_SINCE: u32 = 180_000;
const NAMED_MAX: usize = 20;

/// All tables of a source.
pub fn judge(source: &Source) -> Vec<Finding> {
    let mut found: Vec<Finding> = source
        .tables
        .iter()
        .flat_map(|table| judge_one(source, table))
        .collect();
    if !source.keyless.is_empty() {
        found.extend(keyless(source));
    }
    found
}

fn judge_one(source: &Source, table: &Table) -> Vec<Finding> {
    let mut findings = Findings::at(format!("{} {}", source.name, table.name));
    kind(source, table, &mut findings);
    if let Some(info) = &table.info {
        rights(source, table, &mut findings);
        identity(table, info, &mut findings);
        columns(source, info, &mut findings);
    }
    for (subject, level) in &table.subjects {
        compatibility(subject, level, &mut findings);
    }
    findings.done()
}

/// A table's name as SQL wants it.
pub fn name(name: &TableName) -> String {
    name.quoted().unwrap_or_else(|_| name.to_string())
}

fn kind(source: &Source, table: &Table, findings: &mut Findings) {
    let quoted = name(&table.name);
    match table.kind {
        Kind::Plain if table.inherited => findings.note(
            "TABLE_INHERITED",
            "other tables inherit from it",
            "each table is captured under its own name: rows of those that inherit are not among its rows",
            format!("name them as well: systems: {}: tables: [..]", source.name),
        ),
        Kind::Plain => {}
        Kind::Partitioned => findings.note(
            "TABLE_PARTITIONED",
            "it is partitioned",
            "its rows come under the name of the whole, whatever partition they live in; ATTACH and DETACH PARTITION move \
             rows without an event",
            "",
        ),
        Kind::Absent => findings.stops(
            "TABLE_MISSING",
            "there is no such table",
            "what is not there cannot be captured",
            "make the table, or correct its name in the pipeline file",
        ),
        Kind::Unlogged => findings.stops(
            "TABLE_NOT_LOGGED",
            "it is unlogged or temporary",
            "its changes are not in the log",
            format!("ALTER TABLE {quoted} SET LOGGED;"),
        ),
        Kind::Foreign => findings.stops(
            "TABLE_FOREIGN",
            "it is a foreign table",
            "its changes are in the log of the server where its rows are",
            "capture it there, as a system of its own",
        ),
        Kind::Other => findings.stops(
            "NO_TABLE",
            "it is no table",
            "views and sequences have no changes in the log",
            "name the tables that it is made from",
        ),
    }
}

fn rights(source: &Source, table: &Table, findings: &mut Findings) {
    let role = quoted(&source.role.name);
    if !table.rights.schema {
        findings.stops(
            "SOURCE_PERMISSION",
            format!(
                "{} may not look into the schema {}",
                source.role.name, table.name.schema
            ),
            "the rows that are there at the start cannot be read",
            format!("GRANT USAGE ON SCHEMA {} TO {role};", quoted(&table.name.schema)),
        );
    }
    if !table.rights.select {
        findings.stops(
            "SOURCE_PERMISSION",
            format!("{} may not read the table", source.role.name),
            "the rows that are there at the start cannot be read",
            format!("GRANT SELECT ON {} TO {role};", name(&table.name)),
        );
    }
    if table.hidden_rows {
        findings.stops(
            "ROW_SECURITY",
            format!("row security hides rows from {}", source.role.name),
            "the log has all rows and a snapshot would have some; capture refuses to read a part",
            format!("ALTER ROLE {role} BYPASSRLS;"),
        );
    }
}

fn identity(table: &Table, info: &TableInfo, findings: &mut Findings) {
    // A name that cannot be quoted is none, and was reported as missing.
    if let Ok(Some(problem)) = identity_problem(info) {
        let why = "an UPDATE or DELETE that does not say which row it was can be applied nowhere";
        findings.stops(problem.code, problem.message, why, identify(table, info));
        return;
    }
    let full = format!("ALTER TABLE {} REPLICA IDENTITY FULL;", name(&table.name));
    if info.primary_key.is_empty() {
        findings.risk(
            "NO_KEY",
            "it has no primary key",
            "its records have no key: a compacted topic cannot hold them, and readers cannot tell one row from another",
            format!("ALTER TABLE {} ADD PRIMARY KEY (..);", name(&table.name)),
        );
    } else if info.identity != ReplicaIdentity::Full {
        findings.note(
            "BEFORE_IMAGE_KEY",
            "the log holds of an old row only its key",
            "records have no before-image, and a large value (TOAST) that an UPDATE leaves alone is missing in `after`",
            format!("{full} -- costs log: each UPDATE then writes the old row as well"),
        );
    }
}

fn identify(table: &Table, info: &TableInfo) -> String {
    let name = name(&table.name);
    match info.primary_key.is_empty() {
        true => {
            format!("ALTER TABLE {name} REPLICA IDENTITY FULL; -- or, better: ALTER TABLE {name} ADD PRIMARY KEY (..)")
        }
        false => format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT; -- or FULL"),
    }
}

fn columns(source: &Source, info: &TableInfo, findings: &mut Findings) {
    let generated: Vec<&str> = info
        .columns
        .iter()
        .filter(|column| column.generated)
        .map(|column| column.name.as_str())
        .collect();
    if !generated.is_empty() && source.server.version < GENERATED_SINCE {
        findings.note(
            "GENERATED_COLUMNS",
            format!(
                "{} computed by the server: {}",
                is_or_are(generated.len()),
                some(&generated)
            ),
            "the log has no computed columns before PostgreSQL 18: their values are in the snapshot and in no change",
            "compute them where they are read",
        );
    }
    let defaults = syncline_capture::form::Form::default();
    let form = |column: &ColumnInfo| Form::of(&column.type_info, column.type_modifier, &defaults);
    let foreign = info.columns.iter().filter(|column| form(column).is_foreign());
    let foreign: Vec<String> = foreign
        .map(|column| format!("{} ({})", column.name, column.type_info.name))
        .collect();
    if !foreign.is_empty() {
        let names: Vec<&str> = foreign.iter().map(String::as_str).collect();
        findings.note(
            "TYPE_WITHOUT_FORM",
            format!("{} of a type that Debezium has no form for: {}", is_or_are(foreign.len()), some(&names)),
            "Debezium leaves such columns out; we write PostgreSQL's text, or leave them out under `fidelity: debezium`",
            "",
        );
    }
    let inexact = info
        .columns
        .iter()
        .filter_map(|column| inexact(&form(column)).map(|why| format!("{} ({why})", column.name)));
    let inexact: Vec<String> = inexact.collect();
    if !inexact.is_empty() {
        let names: Vec<&str> = inexact.iter().map(String::as_str).collect();
        findings.note(
            "TYPE_NOT_EXACT",
            format!("not every value survives in: {}", some(&names)),
            "Debezium's form for such a type cannot hold all that PostgreSQL's can",
            "",
        );
    }
}

/// What Debezium's form for this type loses.
fn inexact(form: &Form) -> Option<&'static str> {
    match form {
        Form::Duration => Some("a month counts as 30.4375 days; interval.handling.mode: string keeps it"),
        Form::ZonedTime => Some("the offset: times are written in UTC"),
        Form::List(element) => inexact(element),
        _ => None,
    }
}

fn compatibility(subject: &str, level: &str, findings: &mut Findings) {
    let why_strict =
        "a new column without a default, or one that is dropped, will be refused by the registry and stop the table";
    match level {
        "NONE" => findings.note(
            "COMPATIBILITY_NONE",
            format!("the subject {subject} takes any schema"),
            "a retyped column goes through, and readers of the older schema fail on it",
            format!("PUT /config/{subject} {{\"compatibility\": \"BACKWARD\"}}"),
        ),
        "FORWARD" | "FORWARD_TRANSITIVE" | "FULL" | "FULL_TRANSITIVE" => findings.note(
            "COMPATIBILITY_STRICT",
            format!("the subject {subject} has the compatibility level {level}"),
            why_strict,
            format!("PUT /config/{subject} {{\"compatibility\": \"BACKWARD\"}}"),
        ),
        _ => {}
    }
}

fn keyless(source: &Source) -> Vec<Finding> {
    let mut findings = Findings::at(&source.name);
    let names: Vec<String> = source.keyless.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    findings.note(
        "NO_KEY",
        format!(
            "tables without a primary key or a replica identity are left out: {}",
            some(&names)
        ),
        "the file names no tables, so those that can be captured are: with a key each record says which row it is of",
        format!(
            "add a primary key, or name the tables: systems: {}: tables: [..]",
            source.name
        ),
    );
    findings.done()
}

fn is_or_are(count: usize) -> &'static str {
    if count == 1 { "a column is" } else { "columns are" }
}

/// The first of many.
fn some(names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMED_MAX)].join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
