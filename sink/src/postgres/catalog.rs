//! What the catalog says of a table: types to cast to, and what its columns can hold.

use std::collections::BTreeMap;

use syncline_runtime::Outcome;

use super::session::{Session, TextRow};
use super::statement::{Column, Ident, Statement, TableName};
use super::text::Kind;
use crate::plan::Limits;

/// A table of the target.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Its columns by name.
    pub columns: BTreeMap<String, Column>,
    /// Columns of its primary key, in the order of the key.
    pub primary_key: Vec<String>,
}

/// A domain is read as the type beneath it; an array by its elements.
const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, -1), b.typname::text, e.typname::text, \
           a.attnotnull::text, (a.attidentity = 'a')::text, (a.attgenerated <> '')::text, \
           CASE WHEN b.typname = 'numeric' THEN \
               CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END END::text, \
           array_position(i.indkey::int2[], a.attnum)::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    JOIN pg_type t ON t.oid = a.atttypid \
    JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
    LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A' \
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
    WHERE n.nspname = ($1::text[])[1] AND c.relname = ($2::text[])[1] AND c.relkind IN ('r', 'p')";

/// What the catalog says of `name`; none if there is no such table.
pub async fn table(session: &Session, name: &TableName) -> Outcome<Option<Table>> {
    let arrays = [&name.schema, &name.table]
        .map(|ident| vec![Some(ident.name().to_owned())])
        .to_vec();
    let rows = session
        .rows(&Statement {
            sql: COLUMNS.to_owned(),
            arrays,
        })
        .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut key: Vec<(usize, String)> = Vec::new();
    let mut columns = BTreeMap::new();
    for row in &rows {
        let Some((column, place)) = column(row) else { continue };
        key.extend(place.map(|place| (place, column.name.name().to_owned())));
        columns.insert(column.name.name().to_owned(), column);
    }
    key.sort_unstable();
    let primary_key = key.into_iter().map(|(_, name)| name).collect();
    Ok(Some(Table {
        name: name.clone(),
        columns,
        primary_key,
    }))
}

/// A column and its place in the primary key.
fn column(row: &TextRow) -> Option<(Column, Option<usize>)> {
    let text = |at: usize| row.get(at).and_then(Option::as_deref);
    let is = |at: usize| text(at) == Some("true");
    let kind = match text(3) {
        Some(element) => Kind::Array(Box::new(Kind::of(element))),
        None => Kind::of(text(2)?),
    };
    let column = Column {
        name: Ident::new(text(0)?).ok()?,
        sql_type: text(1)?.to_owned(),
        kind,
        not_null: is(4),
        identity_always: is(5),
        generated: is(6),
        digits: text(7).and_then(|modifier| modifier.parse().ok()).and_then(digits),
    };
    Some((column, text(8).and_then(|place| place.parse().ok())))
}

/// The scale in the type modifier of a `numeric`: eleven bits, signed, below the precision.
fn digits(modifier: i64) -> Option<i64> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    Some(((packed & 0x7FF) ^ 0x400) - 0x400)
}

impl Table {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }

    /// What its columns can hold.
    pub fn limits(&self) -> Limits {
        let columns = self.columns.iter();
        Limits {
            never_null: columns
                .clone()
                .filter(|(_, column)| column.not_null)
                .map(|(name, _)| name.clone())
                .collect(),
            digits: columns
                .filter_map(|(name, column)| Some((name.clone(), column.digits?)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_read_from_the_type_modifier() {
        let modifier = |precision: i64, scale: i64| ((precision << 16) | (scale & 0x7FF)) + 4;
        assert_eq!(digits(modifier(12, 2)), Some(2));
        assert_eq!(digits(modifier(5, -3)), Some(-3));
        assert_eq!(digits(modifier(10, 0)), Some(0));
        assert_eq!(digits(-1), None);
    }
}
