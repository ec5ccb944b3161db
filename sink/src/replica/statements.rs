//! SQL that writes a copy. Pure, as [`crate::postgres::statement`], whose rules for names, types and values hold here.
//!
//! Each row carries its position in the last of its columns, and a row that is there gives way only to a later one.
//!
//! Few rows come as arrays, one for each column, in one statement. Many come by COPY ([`super::binary`]) into a table of the
//! session's own and go from there into the copy at once: above some thousand rows that costs the server a quarter less, below
//! it the further round trips cost more.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use super::binary::Form;
use crate::postgres::statement::{
    Cells, Column, Statement, TableName, insert_body, list, matches, overriding, unnest, unnest_ordered,
};

/// Makes rows or, where the key is taken by an older one, writes them; `fence` is the last of `columns`.
pub fn upsert(table: &TableName, key: &[&Column], columns: &[&Column], fence: &Column, cells: Vec<Cells>) -> Statement {
    let (insert, instead) = (insert_body(table, columns), instead(key, columns, fence));
    Statement {
        sql: format!("{insert} {instead}"),
        arrays: cells,
    }
}

fn instead(key: &[&Column], columns: &[&Column], fence: &Column) -> String {
    let others: Vec<&Column> = columns.iter().filter(|column| !key.contains(column)).copied().collect();
    format!(
        "ON CONFLICT ({}) DO UPDATE SET {} WHERE {}",
        list(key, |_, column| column.name.to_string()),
        list(&others, |_, column| format!("{0} = EXCLUDED.{0}", column.name)),
        is_older(fence, &format!("EXCLUDED.{}", fence.name)),
    )
}

/// Whether the row `t` has no stamp, one of another topic, or an older one.
fn is_older(fence: &Column, than: &str) -> String {
    let there = format!("t.{}", fence.name);
    format!("NOT (COALESCE({there}, ''::bytea) >= {than} AND substr({there}, 1, 8) = substr({than}, 1, 8))")
}

/// Where many rows wait to be written into one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staging {
    /// Makes the place, if this session has none yet, and empties it.
    pub make: String,
    /// Takes rows in, in binary.
    pub take: String,
    /// Writes what is there as [`upsert`] does.
    pub write: String,
}

/// The staging of rows with these columns, whose cells are sent in these forms. Its name depends on both: a copy that gets
/// another column gets another place.
pub fn staging(table: &TableName, key: &[&Column], columns: &[&Column], fence: &Column, forms: &[Form]) -> Staging {
    let is_cast = |at: usize| forms.get(at) == Some(&Form::Cast);
    let definition = list(columns, |at, column| {
        let of = if is_cast(at) { "text" } else { column.sql_type.as_str() };
        format!("c{at} {of}")
    });
    let cell = |at: usize, column: &Column| match is_cast(at) {
        true => format!("v.c{at}::{}", column.sql_type),
        false => format!("v.c{at}"),
    };
    let mut hasher = DefaultHasher::new();
    definition.hash(&mut hasher);
    let name = format!("pg_temp.syncline_staging_{:016x}", hasher.finish());
    Staging {
        make: format!(
            "SET LOCAL client_min_messages = warning; CREATE TEMPORARY TABLE IF NOT EXISTS {} ({definition}) ON COMMIT DELETE ROWS; \
             DELETE FROM {name}",
            name.trim_start_matches("pg_temp."),
        ),
        take: format!("COPY {name} FROM STDIN (FORMAT binary)"),
        write: format!(
            "INSERT INTO {table} AS t ({}){} SELECT {} FROM {name} AS v {}",
            list(columns, |_, column| column.name.to_string()),
            overriding(columns),
            list(columns, cell),
            instead(key, columns, fence),
        ),
    }
}

/// Deletes rows that are older than that; `cells` are those of the key, then the stamp.
pub fn remove(table: &TableName, key: &[&Column], fence: &Column, cells: Vec<Cells>) -> Statement {
    let sql = format!(
        "DELETE FROM {table} AS t USING {} WHERE {} AND {}",
        unnest("v", key.len() + 1),
        matches(key, "v", 0),
        is_older(fence, &format!("v.c{}::bytea", key.len())),
    );
    Statement { sql, arrays: cells }
}

/// Deletes all rows that are older than `stamp`.
pub fn truncate(table: &TableName, fence: &Column, stamp: String) -> Statement {
    Statement {
        sql: format!(
            "DELETE FROM {table} AS t WHERE {}",
            is_older(fence, "($1::text[])[1]::bytea")
        ),
        arrays: vec![vec![Some(stamp)]],
    }
}

/// Locks rows, in the order of the keys given, and reads their place in that order, which row it is, and their stamps.
pub fn stamps(table: &TableName, key: &[&Column], fence: &Column, keys: Vec<Cells>) -> Statement {
    let sql = format!(
        "SELECT v.ord::text, t.tableoid::text || t.ctid::text, t.{}::text FROM {} JOIN {table} AS t ON {} ORDER BY v.ord FOR UPDATE OF t",
        fence.name,
        unnest_ordered("v", key.len()),
        matches(key, "v", 0),
    );
    Statement { sql, arrays: keys }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::statement::tests::{column, table};

    #[test]
    fn a_row_gives_way_only_to_a_later_one() {
        let (id, odd, fence) = (
            column("id", "bigint"),
            column("a RETURNING b", "text"),
            column("p", "bytea"),
        );
        let statement = upsert(
            &table(),
            &[&id],
            &[&id, &odd, &fence],
            &fence,
            vec![vec![], vec![], vec![]],
        );
        assert!(
            statement.sql.ends_with(
                "ON CONFLICT (\"id\") DO UPDATE SET \"a RETURNING b\" = EXCLUDED.\"a RETURNING b\", \"p\" = EXCLUDED.\"p\" \
                 WHERE NOT (COALESCE(t.\"p\", ''::bytea) >= EXCLUDED.\"p\" AND substr(t.\"p\", 1, 8) = substr(EXCLUDED.\"p\", 1, 8))"
            ),
            "{}",
            statement.sql
        );
        assert!(
            statement.sql.contains("(\"id\", \"a RETURNING b\", \"p\") OVERRIDING"),
            "{}",
            statement.sql
        );
        let removed = remove(&table(), &[&id], &fence, vec![]);
        assert_eq!(
            removed.sql,
            "DELETE FROM \"public\".\"odd \"\"table\" AS t USING unnest($1::text[], $2::text[]) AS v(c0, c1) \
             WHERE t.\"id\" = v.c0::bigint AND NOT (COALESCE(t.\"p\", ''::bytea) >= v.c1::bytea AND \
             substr(t.\"p\", 1, 8) = substr(v.c1::bytea, 1, 8))"
        );
    }

    #[test]
    fn other_columns_have_another_staging() {
        let (id, note, fence) = (column("id", "bigint"), column("note", "text"), column("p", "bytea"));
        let staging = |columns: &[&Column], forms: &[Form]| staging(&table(), &[&id], columns, &fence, forms);
        let forms = [Form::Int8, Form::Plain, Form::Bytea];
        let few = staging(&[&id, &fence], &[Form::Int8, Form::Bytea]);
        let more = staging(&[&id, &note, &fence], &forms);
        assert_ne!(few.take, more.take);
        assert_eq!(more, staging(&[&id, &note, &fence], &forms));
        assert!(
            more.write
                .contains("(\"id\", \"note\", \"p\") OVERRIDING SYSTEM VALUE SELECT v.c0, v.c1, v.c2 FROM")
        );
        let cast = staging(&[&id, &note, &fence], &[Form::Cast, Form::Plain, Form::Bytea]);
        assert!(cast.make.contains("(c0 text, c1 text, c2 bytea)") && cast.take != more.take);
        assert!(cast.write.contains("SELECT v.c0::bigint, v.c1, v.c2 FROM"));
    }
}
