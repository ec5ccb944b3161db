//! SQL for a plan. Pure: text and parameters, no connection.
//!
//! A batch is one statement for each table and set of columns, whatever the number of rows: every column is one parameter,
//! an array of texts, cast in the statement to the column's type. Names come into SQL through [`Ident`] alone, type names
//! from the catalog alone ([`Column`]), values never. (A column called `id" OR 1=1 --` has turned a DELETE into delete-all
//! in more than one connector.)

use std::fmt;

use super::text::Kind;
use crate::plan::{Float, Spelling};

/// PostgreSQL cuts longer names off silently, and then two may be one.
const IDENT_BYTES_MAX: usize = 63;

/// A name in SQL, quoted. There is no other way of getting a name into a statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ident(String);

/// A name that PostgreSQL cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be a name in PostgreSQL: empty, longer than 63 bytes, or with a zero byte")]
pub struct BadIdent(String);

impl Ident {
    /// The name, if it can be one.
    pub fn new(name: &str) -> Result<Self, BadIdent> {
        if name.is_empty() || name.len() > IDENT_BYTES_MAX || name.contains('\0') {
            return Err(BadIdent(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as it is in the catalog.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Quoted, with quotes doubled.
impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A table's name with its schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Schema.
    pub schema: Ident,
    /// Table.
    pub table: Ident,
}

impl TableName {
    /// The name of `schema.table`.
    pub fn new(schema: &str, table: &str) -> Result<Self, BadIdent> {
        Ok(Self {
            schema: Ident::new(schema)?,
            table: Ident::new(table)?,
        })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A column of the target, as the catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Ident,
    /// Its type in SQL as `format_type` quotes it, without length or precision: a cast to `varchar(5)` would cut a value
    /// off silently, an assignment refuses it.
    pub sql_type: String,
    /// How its text is read.
    pub kind: Kind,
    /// Whether it refuses NULL.
    pub not_null: bool,
    /// Whether it is GENERATED ALWAYS AS IDENTITY, so that giving it a value needs a clause of its own.
    pub identity_always: bool,
    /// Whether it is computed from others and cannot be written.
    pub generated: bool,
    /// Digits after the point that it keeps, where its type has a limit.
    pub digits: Option<i64>,
    /// Which float it is.
    pub float: Option<Float>,
    /// What its dates or times are made of.
    pub spelling: Option<Spelling>,
}

/// A statement and its parameters, each an array of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The text.
    pub sql: String,
    /// The parameters.
    pub arrays: Vec<Vec<Option<String>>>,
}

/// Cells of one parameter, one for each row.
pub type Cells = Vec<Option<String>>;

/// Reads and locks rows by key, in the order of the keys given: their place in that order, and their columns.
pub fn lock_rows(table: &TableName, key: &[&Column], columns: &[&Column], keys: Vec<Cells>) -> Statement {
    let sql = format!(
        "SELECT k.ord::text, ROW({})::text FROM {} JOIN {table} AS t ON {} ORDER BY k.ord FOR UPDATE OF t",
        list(columns, |_, column| format!("t.{}", column.name)),
        unnest_ordered("k", key.len()),
        matches(key, "k", 0),
    );
    Statement { sql, arrays: keys }
}

/// The places of those values that some row has in this column.
pub fn present(table: &TableName, column: &Column, values: Cells) -> Statement {
    present_but(table, column, None, values)
}

/// The same, leaving out rows that have the value in this column too.
pub fn present_but(table: &TableName, column: &Column, but: Option<&Column>, values: Cells) -> Statement {
    let but = but.map(|but| format!(" AND t.{} IS DISTINCT FROM k.c0::{}", but.name, but.sql_type));
    let sql = format!(
        "SELECT k.ord::text FROM {} WHERE EXISTS (SELECT FROM {table} AS t WHERE t.{} = k.c0::{}{})",
        unnest_ordered("k", 1),
        column.name,
        column.sql_type,
        but.unwrap_or_default()
    );
    Statement {
        sql,
        arrays: vec![values],
    }
}

/// Begins a scan of all rows, in the form that [`lock_rows`] gives them.
pub fn scan_rows(table: &TableName, columns: &[&Column]) -> String {
    format!(
        "DECLARE syncline_scan NO SCROLL CURSOR FOR SELECT '1'::text, ROW({})::text FROM {table} AS t",
        list(columns, |_, column| format!("t.{}", column.name)),
    )
}

/// The next rows of the scan.
pub fn next_rows(rows: usize) -> Statement {
    Statement {
        sql: format!("FETCH FORWARD {rows} FROM syncline_scan"),
        arrays: Vec::new(),
    }
}

/// Ends the scan.
pub const SCAN_END: &str = "CLOSE syncline_scan";

/// Writes marks into the log, in order.
pub fn emit_marks(marks: Vec<String>) -> Statement {
    let sql = "SELECT count(e.lsn)::text FROM (SELECT pg_logical_emit_message(true, 'syncline', m.c0) AS lsn \
               FROM unnest($1::text[]) WITH ORDINALITY AS m(c0, ord) ORDER BY m.ord OFFSET 0) AS e";
    Statement {
        sql: sql.to_owned(),
        arrays: vec![marks.into_iter().map(Some).collect()],
    }
}

/// Writes `columns` of the rows with these keys; `cells` are those of the keys, then those of the columns.
pub fn update(table: &TableName, key: &[&Column], columns: &[&Column], cells: Vec<Cells>) -> Statement {
    let first = key.len();
    let sql = format!(
        "UPDATE {table} AS t SET {} FROM {} WHERE {}",
        list(columns, |at, column| format!(
            "{} = v.c{}::{}",
            column.name,
            first + at,
            column.sql_type
        )),
        unnest("v", first + columns.len()),
        matches(key, "v", 0),
    );
    Statement { sql, arrays: cells }
}

/// Makes rows in the order given and gives their keys back in that order.
pub fn insert(table: &TableName, key: &[&Column], columns: &[&Column], cells: Vec<Cells>) -> Statement {
    let sql = format!(
        "{} RETURNING ROW({})::text",
        insert_body(table, columns),
        list(key, |_, column| format!("t.{}", column.name)),
    );
    Statement { sql, arrays: cells }
}

/// What gives values to columns that would count by themselves.
pub(crate) fn overriding(columns: &[&Column]) -> &'static str {
    if columns.iter().any(|column| column.identity_always) {
        " OVERRIDING SYSTEM VALUE"
    } else {
        ""
    }
}

/// Makes rows, `t`, in the order given.
pub(crate) fn insert_body(table: &TableName, columns: &[&Column]) -> String {
    format!(
        "INSERT INTO {table} AS t ({}){} SELECT {} FROM {} ORDER BY v.ord",
        list(columns, |_, column| column.name.to_string()),
        overriding(columns),
        list(columns, |at, column| format!("v.c{at}::{}", column.sql_type)),
        unnest_ordered("v", columns.len()),
    )
}

/// Deletes the rows with these keys.
pub fn delete(table: &TableName, key: &[&Column], keys: Vec<Cells>) -> Statement {
    let sql = match key {
        [column] => format!(
            "DELETE FROM {table} AS t WHERE t.{} = ANY($1::text[]::{}[])",
            column.name, column.sql_type
        ),
        _ => format!(
            "DELETE FROM {table} AS t USING {} WHERE {}",
            unnest("k", key.len()),
            matches(key, "k", 0)
        ),
    };
    Statement { sql, arrays: keys }
}

/// What `each` says of each column and its place.
pub(crate) fn list(columns: &[&Column], each: impl Fn(usize, &Column) -> String) -> String {
    columns
        .iter()
        .enumerate()
        .map(|(at, column)| each(at, column))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `t."id" = k.c0::bigint AND ..`
pub(crate) fn matches(key: &[&Column], rows: &str, first: usize) -> String {
    let terms = key.iter().enumerate();
    let term =
        |(at, column): (usize, &&Column)| format!("t.{} = {rows}.c{}::{}", column.name, first + at, column.sql_type);
    terms.map(term).collect::<Vec<_>>().join(" AND ")
}

/// The arrays as rows.
pub(crate) fn unnest(alias: &str, arrays: usize) -> String {
    format!(
        "unnest({}) AS {alias}({})",
        numbered(arrays, |at| format!("${}::text[]", at + 1)),
        numbered(arrays, cell)
    )
}

/// The same with their places.
pub(crate) fn unnest_ordered(alias: &str, arrays: usize) -> String {
    let parameters = numbered(arrays, |at| format!("${}::text[]", at + 1));
    format!(
        "unnest({parameters}) WITH ORDINALITY AS {alias}({}, ord)",
        numbered(arrays, cell)
    )
}

fn cell(at: usize) -> String {
    format!("c{at}")
}

fn numbered(count: usize, each: impl Fn(usize) -> String) -> String {
    (0..count).map(each).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn column(name: &str, sql_type: &str) -> Column {
        Column {
            name: Ident::new(name).unwrap(),
            sql_type: sql_type.to_owned(),
            kind: Kind::Text,
            not_null: false,
            identity_always: name == "id",
            generated: false,
            digits: None,
            float: None,
            spelling: None,
        }
    }

    pub(crate) fn table() -> TableName {
        TableName::new("public", "odd \"table").unwrap()
    }

    #[test]
    fn a_hostile_name_stays_a_name() {
        let hostile = column("id\" OR 1=1 --", "bigint");
        let statement = delete(&table(), &[&hostile], vec![vec![Some("7".to_owned())]]);
        assert_eq!(
            statement.sql,
            r#"DELETE FROM "public"."odd ""table" AS t WHERE t."id"" OR 1=1 --" = ANY($1::text[]::bigint[])"#
        );
        assert!(Ident::new("").is_err() && Ident::new("a\0b").is_err() && Ident::new(&"x".repeat(64)).is_err());
    }

    #[test]
    fn an_update_casts_every_column_to_its_type() {
        let (id, name) = (column("id", "bigint"), column("name", "character varying"));
        let statement = update(&table(), &[&id], &[&name], vec![vec![], vec![]]);
        assert_eq!(
            statement.sql,
            "UPDATE \"public\".\"odd \"\"table\" AS t SET \"name\" = v.c1::character varying \
             FROM unnest($1::text[], $2::text[]) AS v(c0, c1) WHERE t.\"id\" = v.c0::bigint"
        );
    }

    #[test]
    fn who_is_there_is_asked_by_place() {
        let statement = present(&table(), &column("id", "bigint"), vec![Some("7".to_owned())]);
        assert_eq!(
            statement.sql,
            "SELECT k.ord::text FROM unnest($1::text[]) WITH ORDINALITY AS k(c0, ord) WHERE EXISTS (SELECT FROM \
             \"public\".\"odd \"\"table\" AS t WHERE t.\"id\" = k.c0::bigint)"
        );
    }

    #[test]
    fn inserts_keep_their_order() {
        let (id, name) = (column("id", "bigint"), column("name", "text"));
        let statement = insert(&table(), &[&id], &[&name], vec![vec![]]);
        assert!(
            statement
                .sql
                .contains("WITH ORDINALITY AS v(c0, ord) ORDER BY v.ord RETURNING ROW(t.\"id\")::text")
        );
        assert!(!statement.sql.contains("OVERRIDING"));
        let statement = insert(&table(), &[&id], &[&id, &name], vec![vec![], vec![]]);
        assert!(
            statement
                .sql
                .contains("(\"id\", \"name\") OVERRIDING SYSTEM VALUE SELECT v.c0::bigint, v.c1::text")
        );
    }

    proptest! {
        #[test]
        fn a_quoted_name_ends_where_it_should(name in "[^\0]{1,20}") {
            prop_assume!(name.len() <= IDENT_BYTES_MAX);
            let quoted = Ident::new(&name).unwrap().to_string();
            let inner = &quoted[1..quoted.len() - 1];
            prop_assert!(quoted.starts_with('"') && quoted.ends_with('"'));
            prop_assert_eq!(inner.replace("\"\"", "").matches('"').count(), 0);
            prop_assert_eq!(inner.replace("\"\"", "\""), name);
        }
    }
}
