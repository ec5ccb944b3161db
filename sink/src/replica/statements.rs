//! SQL that writes a copy. Pure, as [`crate::postgres::statement`], whose rules for names, types and values hold here.
//!
//! Each row carries its position in the last of its columns, and a row that is there gives way only to a later one.
//!
//! Few rows come as arrays, one for each column, in one statement. Many come by COPY into a table of the session's own and go
//! from there into the copy at once: above some thousand rows that costs the server a quarter less, below it the further round
//! trips cost more.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

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
    /// Takes lines in.
    pub take: String,
    /// Writes what is there as [`upsert`] does.
    pub write: String,
}

/// The staging of rows with these columns. Its name depends on them: a copy that gets another column gets another place.
pub fn staging(table: &TableName, key: &[&Column], columns: &[&Column], fence: &Column) -> Staging {
    let definition = list(columns, |at, column| format!("c{at} {}", column.sql_type));
    let mut hasher = DefaultHasher::new();
    definition.hash(&mut hasher);
    let name = format!("pg_temp.syncline_staging_{:016x}", hasher.finish());
    Staging {
        make: format!(
            "SET LOCAL client_min_messages = warning; CREATE TEMPORARY TABLE IF NOT EXISTS {} ({definition}) ON COMMIT DELETE ROWS; \
             DELETE FROM {name}",
            name.trim_start_matches("pg_temp."),
        ),
        take: format!("COPY {name} FROM STDIN"),
        write: format!(
            "INSERT INTO {table} AS t ({}){} SELECT {} FROM {name} AS v {}",
            list(columns, |_, column| column.name.to_string()),
            overriding(columns),
            list(columns, |at, _| format!("v.c{at}")),
            instead(key, columns, fence),
        ),
    }
}

/// Appends a row to the lines of COPY, in PostgreSQL's text form.
pub fn line<'a>(cells: impl Iterator<Item = Option<Cow<'a, [u8]>>>, out: &mut Vec<u8>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        match cell {
            None => out.extend_from_slice(b"\\N"),
            Some(text) => escape(&text, out),
        }
    }
    out.push(b'\n');
}

fn escape(text: &[u8], out: &mut Vec<u8>) {
    let escaped = |byte: u8| match byte {
        b'\\' => Some(b'\\'),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        _ => None,
    };
    // All of it first: without a way out half-way the compiler looks at many bytes at once, and nearly no text has any of these.
    if !text.iter().fold(false, |any, byte| any | escaped(*byte).is_some()) {
        return out.extend_from_slice(text);
    }
    for byte in text {
        match escaped(*byte) {
            None => out.push(*byte),
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
        }
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
        let staging = |columns: &[&Column]| staging(&table(), &[&id], columns, &fence);
        let (few, more) = (staging(&[&id, &fence]), staging(&[&id, &note, &fence]));
        assert_ne!(few.take, more.take);
        assert_eq!(more, staging(&[&id, &note, &fence]));
        assert!(
            more.write
                .contains("(\"id\", \"note\", \"p\") OVERRIDING SYSTEM VALUE SELECT v.c0, v.c1, v.c2 FROM")
        );
    }

    #[test]
    fn a_line_is_one_line_whatever_its_cells_hold() {
        let mut out = Vec::new();
        let cells = ["a\tb\\N\r\nü", "", "\\.", "plain"].map(|text| Some(Cow::Borrowed(text.as_bytes())));
        line(cells.into_iter().chain([None]), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a\\tb\\\\N\\r\\nü\t\t\\\\.\tplain\t\\N\n"
        );
    }
}
