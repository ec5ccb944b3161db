//! What the catalog says of a table: types to cast to, and what its columns can hold.

use std::collections::BTreeMap;

use syncline_runtime::Outcome;

use super::session::{Session, TextRow};
use super::statement::{Column, Ident, Statement, TableName};
use super::text::Kind;
use crate::plan::{Float, Limits, Spelling};

/// What `format_type` calls `char(n)` without its length.
const PADDED: &str = "bpchar";

/// PostgreSQL keeps microseconds.
const SECOND_DIGITS: i64 = 6;

/// A table of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Its columns by name.
    pub columns: BTreeMap<String, Column>,
    /// Columns of its primary key, in the order of the key.
    pub primary_key: Vec<String>,
}

/// A domain is read and cast to as the type beneath it (a cast to a domain over `varchar(5)` would cut a value off); an
/// array is read by its elements.
const COLUMNS: &str = "SELECT a.attname::text, format_type(b.oid, -1), b.typname::text, e.typname::text, \
           a.attnotnull::text, (a.attidentity = 'a')::text, (a.attgenerated <> '')::text, beneath.modifier::text, \
           array_position(i.indkey::int2[], a.attnum)::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    CROSS JOIN LATERAL (WITH RECURSIVE d(oid, modifier) AS (SELECT a.atttypid, a.atttypmod UNION ALL \
            SELECT t.typbasetype, t.typtypmod FROM d JOIN pg_type t ON t.oid = d.oid WHERE t.typtype = 'd') \
        SELECT * FROM d) AS beneath \
    JOIN pg_type b ON b.oid = beneath.oid AND b.typtype <> 'd' \
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

/// Whether we may have tables that last as long as our connection.
pub async fn may_have_temporary_tables(session: &Session) -> Outcome<bool> {
    let statement = Statement {
        sql: "SELECT has_database_privilege(current_database(), 'TEMPORARY')::text".to_owned(),
        arrays: Vec::new(),
    };
    let rows = session.rows(&statement).await?;
    Ok(rows.iter().flatten().flatten().any(|may| may == "true"))
}

/// A column and its place in the primary key.
fn column(row: &TextRow) -> Option<(Column, Option<usize>)> {
    let text = |at: usize| row.get(at).and_then(Option::as_deref);
    let is = |at: usize| text(at) == Some("true");
    let (base, element) = (text(2)?, text(3));
    let kind = match element {
        Some(element) => Kind::Array(Box::new(Kind::of(element))),
        None => Kind::of(base),
    };
    let single = element.unwrap_or(base);
    let modifier = text(7).and_then(|modifier| modifier.parse().ok()).unwrap_or(-1);
    let column = Column {
        name: Ident::new(text(0)?).ok()?,
        sql_type: text(1)?.to_owned(),
        kind,
        not_null: is(4),
        identity_always: is(5),
        generated: is(6),
        digits: digits(single, modifier),
        float: float(single),
        spelling: Spelling::of_type(single),
    };
    Some((column, text(8).and_then(|place| place.parse().ok())))
}

/// Digits after the point that a type keeps: of a time, those of its seconds.
fn digits(type_name: &str, modifier: i64) -> Option<i64> {
    match type_name {
        "numeric" => scale(modifier),
        "time" | "timetz" | "timestamp" | "timestamptz" if modifier < 0 => Some(SECOND_DIGITS),
        "time" | "timetz" | "timestamp" | "timestamptz" => Some(modifier),
        _ => None,
    }
}

fn float(type_name: &str) -> Option<Float> {
    match type_name {
        "float4" => Some(Float::Single),
        "float8" => Some(Float::Double),
        _ => None,
    }
}

/// The scale in the type modifier of a `numeric`: eleven bits, signed, below the precision.
fn scale(modifier: i64) -> Option<i64> {
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
                .clone()
                .filter_map(|(name, column)| Some((name.clone(), column.digits?)))
                .collect(),
            floats: columns
                .clone()
                .filter_map(|(name, column)| Some((name.clone(), column.float?)))
                .collect(),
            spellings: columns
                .clone()
                .filter_map(|(name, column)| Some((name.clone(), column.spelling?)))
                .collect(),
            generated: columns
                .clone()
                .filter(|(_, column)| column.generated)
                .map(|(name, _)| name.clone())
                .collect(),
            padded: columns
                .filter(|(_, column)| column.sql_type == PADDED)
                .map(|(name, _)| name.clone())
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
        assert_eq!(digits("numeric", modifier(12, 2)), Some(2));
        assert_eq!(digits("numeric", modifier(5, -3)), Some(-3));
        assert_eq!(digits("numeric", modifier(10, 0)), Some(0));
        assert_eq!(digits("numeric", -1), None);
        assert_eq!((digits("timestamp", 0), digits("timetz", -1)), (Some(0), Some(6)));
    }
}
