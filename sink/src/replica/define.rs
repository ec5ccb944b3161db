//! Makes the tables that copies need, and adds columns that the source got.
//!
//! In a transaction of its own, before the data: a lock for a definition is not held while rows are written. Columns are
//! only ever added; one that the source dropped or gave another type keeps what it has. Each copy has one more than its
//! source, for the positions of its rows ([`fence::COLUMN`]).

use std::sync::Arc;

use syncline_runtime::{Failure, Outcome};

use super::Tables;
use super::change::Change;
use super::fence;
use super::shape::Shape;
use crate::postgres::catalog::{self, Table};
use crate::postgres::failure;
use crate::postgres::session::Session;
use crate::postgres::statement::{BadIdent, Ident, TableName};
use crate::target::Delivery;

/// A source table and what its copy needs to have.
pub type Wanted = (Arc<(String, String)>, Arc<Shape>);

/// Makes every table of a batch fit the batch.
pub async fn for_batch(session: &Session, tables: &mut Tables, batch: &[Delivery<Change>]) -> Outcome<()> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for change in batch
        .iter()
        .filter_map(|delivery| delivery.content.as_ref().ok()?.as_ref())
    {
        if !wanted
            .iter()
            .any(|(table, shape)| *table == change.table && Arc::ptr_eq(shape, &change.shape))
        {
            wanted.push((Arc::clone(&change.table), Arc::clone(&change.shape)));
        }
    }
    define(session, tables, &wanted).await
}

/// Makes tables fit what is wanted of them.
pub async fn define(session: &Session, tables: &mut Tables, wanted: &[Wanted]) -> Outcome<()> {
    for (table, shape) in wanted {
        let fits = tables
            .get(&**table)
            .is_some_and(|known| missing(known, shape).is_empty());
        if !fits && let Some(known) = fit(session, table, shape).await? {
            tables.insert((**table).clone(), known);
        }
    }
    Ok(())
}

/// The table as it is afterwards. None if there is none and none can be made yet: a truncate of a table without rows.
async fn fit(session: &Session, table: &(String, String), shape: &Shape) -> Outcome<Option<Table>> {
    let name = TableName::new(&table.0, &table.1).map_err(bad)?;
    session.begin().await?;
    session.lock_definitions().await?;
    let sql = match catalog::table(session, &name).await? {
        Some(known) if missing(&known, shape).is_empty() => String::new(),
        Some(known) => add(&name, &missing(&known, shape)).map_err(bad)?,
        None if shape.key.is_empty() => String::new(),
        None => make(&name, shape).map_err(bad)?,
    };
    if !sql.is_empty() {
        session.define(&sql).await.map_err(|failure| denied(failure, &sql))?;
        tracing::info!(table = %name, "{sql}");
    }
    let known = catalog::table(session, &name).await?;
    session.control("COMMIT").await?;
    Ok(known)
}

fn bad(name: BadIdent) -> Failure {
    Failure::definite("NAME_INVALID", name)
}

fn denied(failure: Failure, sql: &str) -> Failure {
    match failure.code {
        failure::SCHEMA => failure.hint(format!("run this in the target's database: {sql}")),
        _ => failure,
    }
}

fn missing<'a>(known: &Table, shape: &'a Shape) -> Vec<(&'a str, &'a str)> {
    let mut missing: Vec<_> = columns(shape).collect();
    missing.retain(|(name, _)| known.column(name).is_none());
    missing
}

/// The columns of a copy and their types. Of a source that is a copy itself, the positions are not ours.
fn columns(shape: &Shape) -> impl Iterator<Item = (&str, &str)> {
    let columns = shape.columns.iter().map(|(name, of)| (name.as_str(), of.as_str()));
    let of_source = columns.filter(|(name, _)| *name != fence::COLUMN);
    of_source.chain([(fence::COLUMN, fence::COLUMN_TYPE)])
}

fn make(name: &TableName, shape: &Shape) -> Result<String, BadIdent> {
    let column = |(name, sql_type): (&str, &str)| Ok(format!("{} {sql_type}", Ident::new(name)?));
    let columns: Vec<String> = columns(shape).map(column).collect::<Result<_, BadIdent>>()?;
    let key: Vec<String> = shape
        .key
        .iter()
        .map(|name| Ident::new(name).map(|name| name.to_string()))
        .collect::<Result<_, _>>()?;
    let schema = if name.schema.name() == "public" {
        String::new()
    } else {
        format!("CREATE SCHEMA IF NOT EXISTS {}; ", name.schema)
    };
    Ok(format!(
        "{schema}CREATE TABLE {name} ({}, PRIMARY KEY ({}))",
        columns.join(", "),
        key.join(", ")
    ))
}

fn add(name: &TableName, columns: &[(&str, &str)]) -> Result<String, BadIdent> {
    let add = |(column, sql_type): &(&str, &str)| Ok(format!("ADD COLUMN {} {sql_type}", Ident::new(column)?));
    let actions: Vec<String> = columns.iter().map(add).collect::<Result<_, BadIdent>>()?;
    Ok(format!("ALTER TABLE {name} {}", actions.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_types_are_ours() {
        let shape = Shape {
            columns: vec![
                ("id".to_owned(), "bigint".to_owned()),
                ("a\" b".to_owned(), "text".to_owned()),
            ],
            key: vec!["id".to_owned()],
        };
        let name = TableName::new("x", "t").unwrap();
        assert_eq!(
            make(&name, &shape).unwrap(),
            r#"CREATE SCHEMA IF NOT EXISTS "x"; CREATE TABLE "x"."t" ("id" bigint, "a"" b" text, "_syncline_position" bytea, PRIMARY KEY ("id"))"#
        );
        let columns: Vec<(&str, &str)> = columns(&shape).collect();
        assert_eq!(
            add(&name, &columns[1..]).unwrap(),
            r#"ALTER TABLE "x"."t" ADD COLUMN "a"" b" text, ADD COLUMN "_syncline_position" bytea"#
        );
    }
}
