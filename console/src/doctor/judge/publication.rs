//! The publication: whether what capture is to see goes through it.

use syncline_capture::postgres::setup::{Publication, identity_problem};

use super::{Findings, quoted};
use crate::doctor::facts::{Kind, Source, Table};
use crate::doctor::finding::Finding;

/// Whether every table, row, column and operation is in it.
pub fn judge(source: &Source) -> Vec<Finding> {
    let mut findings = Findings::at(&source.name);
    match &source.publication {
        None => absent(source, &mut findings),
        Some(publication) => present(source, publication, &mut findings),
    }
    findings.done()
}

/// A table without an identity stays out until it has one: published, the app's own UPDATE and DELETE of it would fail.
fn capturable(table: &&Table) -> bool {
    let identified = |info| matches!(identity_problem(info), Ok(None));
    matches!(table.kind, Kind::Plain | Kind::Partitioned) && table.info.as_ref().is_some_and(identified)
}

/// The tables that may be published.
pub fn capturable_tables(source: &Source) -> Vec<&Table> {
    source.tables.iter().filter(capturable).collect()
}

/// A publication is made by who may create in the database, of tables that he owns.
fn absent(source: &Source, findings: &mut Findings) {
    let tables = capturable_tables(source);
    if tables.is_empty() {
        return;
    }
    let role = &source.role;
    if role.superuser || role.create && tables.iter().all(|table| table.rights.own) {
        return;
    }
    let what = format!(
        "there is no publication {}, and {} may not make it",
        source.publication_name, role.name
    );
    let why = "only changes of published tables reach a slot";
    findings.stops(
        "PUBLICATION_MISSING",
        what,
        why,
        create(&source.publication_name, &tables),
    );
}

/// The statement that makes it.
pub fn create(publication: &str, tables: &[&Table]) -> String {
    let root = match tables.iter().any(|table| table.kind == Kind::Partitioned) {
        true => " WITH (publish_via_partition_root = true)",
        false => "",
    };
    format!(
        "CREATE PUBLICATION {} FOR TABLE {}{root};",
        quoted(publication),
        list(tables)
    )
}

fn list(tables: &[&Table]) -> String {
    let names = tables.iter().map(|table| match table.kind {
        Kind::Partitioned => super::tables::name(&table.name),
        _ => format!("ONLY {}", super::tables::name(&table.name)),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn present(source: &Source, publication: &Publication, findings: &mut Findings) {
    let name = quoted(&publication.name);
    missing_tables(source, publication, findings);
    let partitioned = source.tables.iter().any(|table| table.kind == Kind::Partitioned);
    if partitioned && !publication.via_root {
        findings.stops(
            "PUBLICATION_PARTITIONS",
            format!("the publication {name} names partitions instead of the partitioned table"),
            "changes come under the names of partitions, which nobody asked for",
            format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true);"),
        );
    }
    let lacking: Vec<&str> = ["insert", "update", "delete"]
        .into_iter()
        .filter(|operation| !publication.operations.contains(operation))
        .collect();
    if !lacking.is_empty() {
        findings.risk(
            "PUBLICATION_OPERATIONS",
            format!("the publication {name} leaves out {}", lacking.join(", ")),
            "such changes are never seen, and readers drift away from the source without a sign",
            format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"),
        );
    }
    if !publication.operations.contains(&"truncate") {
        findings.note(
            "PUBLICATION_TRUNCATE",
            format!("the publication {name} leaves out truncate"),
            "a TRUNCATE leaves its rows standing with every reader",
            format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"),
        );
    }
    narrowed(source, publication, findings);
}

fn missing_tables(source: &Source, publication: &Publication, findings: &mut Findings) {
    let published = |table: &Table| publication.tables.iter().any(|published| published.name == table.name);
    let missing: Vec<&Table> = source
        .tables
        .iter()
        .filter(capturable)
        .filter(|table| !published(table))
        .collect();
    if missing.is_empty() {
        return;
    }
    let role = &source.role;
    if role.superuser || publication.ours && missing.iter().all(|table| table.rights.own) {
        return;
    }
    let list = list(&missing);
    let name = quoted(&publication.name);
    findings.stops(
        "PUBLICATION_MISSING",
        format!(
            "the publication {name} has not {list}, and {} may not add them",
            role.name
        ),
        "only changes of published tables reach a slot",
        format!("ALTER PUBLICATION {name} ADD TABLE {list};"),
    );
}

/// Column lists and row filters: often meant, never harmless.
fn narrowed(source: &Source, publication: &Publication, findings: &mut Findings) {
    let wanted = |name| source.tables.iter().find(|table| table.name == name);
    for published in &publication.tables {
        let Some(table) = wanted(published.name.clone()) else {
            continue;
        };
        let mut of_table = Findings::at(format!("{} {}", source.name, published.name));
        if let Some(columns) = &published.columns {
            of_table.note(
                "PUBLICATION_COLUMNS",
                format!("only these columns are published: {}", columns.join(", ")),
                "the others are in no record; if one of them belongs to the replica identity, the app's UPDATE fails",
                "",
            );
        }
        if let Some(filter) = &published.filter {
            of_table.risk(
                "PUBLICATION_FILTER",
                format!("only rows with {filter} are published"),
                "a row that leaves the filter is a delete, and one that enters it an insert, for every reader",
                format!(
                    "if that is not meant: ALTER PUBLICATION {} SET TABLE {};",
                    quoted(&publication.name),
                    list(&[table])
                ),
            );
        }
        findings.found.extend(of_table.done());
    }
}
