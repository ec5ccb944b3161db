//! A database that is written: whether the sink may write what it has to, and what will surprise.

use super::role::attributes;
use super::server::connection;
use super::{Findings, quoted, tables};
use crate::doctor::facts::{Books, Target, WrittenTable};
use crate::doctor::finding::Finding;

/// Everything about a target.
pub fn judge(target: &Target) -> Vec<Finding> {
    let mut findings = Findings::at(&target.name);
    if target.read_only {
        findings.stops(
            "TARGET_READ_ONLY",
            "the target refuses writes",
            "agreed values cannot be written there; the sink waits",
            "connect to the primary, or: ALTER DATABASE .. RESET default_transaction_read_only;",
        );
    }
    connection(&target.connection, &mut findings);
    attributes(&target.role, &mut findings);
    books(target, &mut findings);
    let mut found = findings.done();
    found.extend(target.tables.iter().flat_map(|table| judge_table(target, table)));
    found
}

fn books(target: &Target, findings: &mut Findings) {
    let role = quoted(&target.role.name);
    let database = quoted(&target.connection.database);
    let why = "offsets and what was written last are kept there, in the transaction of the rows";
    match target.books {
        Books::Usable => {}
        Books::Absent if target.may_make_schemas => {}
        Books::Absent => findings.stops(
            "BOOKS_MISSING",
            format!("there is no schema syncline, and {} may not make one", target.role.name),
            why,
            format!("GRANT CREATE ON DATABASE {database} TO {role}; -- may be revoked after the sink's first start"),
        ),
        Books::Denied => findings.stops(
            "BOOKS_DENIED",
            format!("{} may not write all tables of the schema syncline", target.role.name),
            why,
            format!(
                "GRANT USAGE ON SCHEMA syncline TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \
                 syncline TO {role};"
            ),
        ),
    }
}

fn judge_table(target: &Target, table: &WrittenTable) -> Vec<Finding> {
    let mut findings = Findings::at(format!("{} {}", target.name, table.name));
    let (role, name) = (quoted(&target.role.name), tables::name(&table.name));
    if !table.exists {
        let why = "what is agreed has no place to be written to; the sink waits";
        findings.stops(
            "TABLE_MISSING",
            "there is no such table",
            why,
            "make the table, or correct the pipeline file",
        );
        return findings.done();
    }
    if !table.schema {
        let what = format!(
            "{} may not look into the schema {}",
            target.role.name, table.name.schema
        );
        let mend = format!("GRANT USAGE ON SCHEMA {} TO {role};", quoted(&table.name.schema));
        findings.stops("TARGET_PERMISSION", what, "no row can be read or written", mend);
    }
    if !table.missing.is_empty() {
        let rights = table.missing.join(", ");
        let what = format!("{} lacks {rights}", target.role.name);
        let why = "rows are compared before they are written, made, changed and deleted";
        findings.stops(
            "TARGET_PERMISSION",
            what,
            why,
            format!("GRANT {rights} ON {name} TO {role};"),
        );
    }
    if !table.sequences.is_empty() {
        let sequences = table.sequences.join(", ");
        let what = format!("{} may not use {sequences}", target.role.name);
        let mend = format!("GRANT USAGE ON SEQUENCE {sequences} TO {role};");
        findings.stops("TARGET_PERMISSION", what, "a new row takes its key from there", mend);
    }
    if !table.absent_columns.is_empty() {
        let what = format!("it has no column {}", table.absent_columns.join(", "));
        findings.stops(
            "COLUMN_MISSING",
            what,
            "the link names it; the sink waits",
            "add it, or correct the pipeline file",
        );
    }
    surprises(&role, table, &mut findings);
    findings.done()
}

fn surprises(role: &str, table: &WrittenTable, findings: &mut Findings) {
    if table.row_security {
        findings.risk(
            "ROW_SECURITY",
            "policies decide which rows this role sees",
            "the sink waits: a row that is hidden would be taken for absent",
            format!("ALTER ROLE {role} BYPASSRLS;"),
        );
    }
    if !table.triggers.is_empty() {
        findings.note(
            "TRIGGERS",
            format!("it has triggers: {}", table.triggers.join(", ")),
            "what they change beyond our write is taken for an edit of the app; one that refuses parks the record",
            "",
        );
    }
}
