//! What to read of a table, and how it is cut into chunks: SQL as text, nothing else.
//!
//! Chunks are cut by key: `WHERE (k1, k2) > (last) ORDER BY k1, k2 LIMIT n`. A row that moves across a border between
//! two snapshots is in the stream too. A table without key is cut by its pages (`ctid`), which say where a row *lies*:
//! that holds for as long as the table has the same file, so the file is part of the bound, and another file means
//! from the beginning. Partitions and what a `select` of one's own gives have no pages: they are one chunk.

use serde::{Deserialize, Serialize};
use syncline_runtime::failure::{Failure, Outcome};

use crate::postgres::catalog::TableInfo;
use crate::postgres::quote::{Ident, Literal, TableName};

/// Pages of a chunk of a table without key: 4 MB of it.
const PAGES_MAX: u64 = 512;
/// How a bound that is a page begins. (Such a table has no key, so that no key can be taken for it.)
const BY_PAGE: &str = "ctid";

/// Where a chunk ends: the key of its last row, as text, in the order of the key; of a table without one, its next page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkBound(pub Vec<String>);

/// The rows wanted of a table.
#[derive(Clone, Debug)]
pub struct Extract<'a> {
    /// The table.
    pub table: &'a TableInfo,
    /// The columns asked for.
    pub columns: Vec<&'a str>,
    /// The columns by which it is cut.
    pub key: Vec<&'a str>,
    /// What to read instead of the table: a SELECT that gives these columns.
    pub select: Option<&'a str>,
    /// A condition on its rows.
    pub filter: Option<&'a str>,
    /// The last key wanted.
    pub up_to: Option<&'a ChunkBound>,
}

/// A table's file: its number and how many pages it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) number: u32,
    pub(super) pages: u64,
}

/// The pages of one chunk: from, and up to without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pages {
    from: u64,
    to: u64,
    file: File,
}

impl Pages {
    /// The chunk that follows `after`; the first if there is none, or if the table has been written anew since.
    pub(super) fn after(after: Option<&ChunkBound>, file: File) -> Self {
        let parts = after.map_or(&[][..], |bound| &bound.0);
        let from = match parts {
            [by, number, page] if by == BY_PAGE && *number == file.number.to_string() => page.parse().unwrap_or(0),
            _ => 0,
        };
        let to = from + PAGES_MAX;
        Self { from, to, file }
    }

    /// Where the next chunk begins; none if this was the last.
    pub(super) fn next(self) -> Option<ChunkBound> {
        let parts = vec![BY_PAGE.to_owned(), self.file.number.to_string(), self.to.to_string()];
        (self.to < self.file.pages).then_some(ChunkBound(parts))
    }
}

impl<'a> Extract<'a> {
    /// All rows, cut by the primary key.
    pub fn all(table: &'a TableInfo, columns: &[&'a str]) -> Self {
        Self {
            table,
            columns: columns.to_vec(),
            key: table.primary_key.iter().map(String::as_str).collect(),
            select: None,
            filter: None,
            up_to: None,
        }
    }

    /// The columns to select: those asked for, then those of the key that were not. And where the key stands.
    pub(super) fn selected(&self) -> (Vec<&'a str>, Vec<usize>) {
        let mut columns = self.columns.clone();
        let mut place = |name: &'a str| match columns.iter().position(|column| *column == name) {
            Some(place) => place,
            None => {
                columns.push(name);
                columns.len() - 1
            }
        };
        let key = self.key.iter().map(|name| place(name)).collect();
        (columns, key)
    }

    /// Whether it is cut by pages.
    pub(super) fn has_pages(&self) -> bool {
        self.key.is_empty() && self.select.is_none() && !self.table.partitioned
    }

    /// At most `rows_max` rows after `after`, by key; without one, the pages given, or everything.
    pub(super) fn statement(&self, after: Option<&ChunkBound>, pages: Option<Pages>, rows_max: u64) -> Outcome<String> {
        let (columns, _) = self.selected();
        let mut conditions: Vec<String> = self.filter.map(|filter| format!("({filter})")).into_iter().collect();
        if let Some(Pages { from, to, .. }) = pages {
            conditions.push(format!("ctid >= '({from},0)' AND ctid < '({to},0)'"));
        }
        let key = list(&self.key)?;
        if let (false, Some(after)) = (self.key.is_empty(), after) {
            conditions.push(format!("({key}) > ({})", self.bound(after)?));
        }
        if let (false, Some(up_to)) = (self.key.is_empty(), self.up_to) {
            conditions.push(format!("({key}) <= ({})", self.bound(up_to)?));
        }
        let mut query = format!("SELECT {} FROM {}", list(&columns)?, self.relation()?);
        if !conditions.is_empty() {
            query.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if !self.key.is_empty() {
            query.push_str(&format!(" ORDER BY {key} LIMIT {rows_max}"));
        }
        Ok(format!("COPY ({query}) TO STDOUT"))
    }

    /// The greatest key, as text in the order of the key. (Text outside: `ORDER BY` would take a column of the result for one
    /// of the table.)
    pub(super) fn greatest(&self) -> Outcome<String> {
        let keys = self
            .key
            .iter()
            .map(|name| Ident::new(name).map(|name| name.to_string()));
        let keys: Vec<String> = keys.collect::<Outcome<_>>()?;
        let mut conditions: Vec<String> = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
        conditions.extend(self.filter.map(|filter| format!("({filter})")));
        let part = |form: fn(&String) -> String| keys.iter().map(form).collect::<Vec<_>>().join(", ");
        Ok(format!(
            "SELECT {} FROM (SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT 1) AS greatest",
            part(|key| format!("{key}::text")),
            keys.join(", "),
            self.relation()?,
            conditions.join(" AND "),
            part(|key| format!("{key} DESC")),
        ))
    }

    /// A table's rows, not those of tables that inherit from it: these are captured, if at all, under their own name.
    fn relation(&self) -> Outcome<String> {
        if let Some(select) = self.select {
            return Ok(format!("({}) AS chosen", select.trim().trim_end_matches(';')));
        }
        let only = if self.table.partitioned { "" } else { "ONLY " };
        let name = TableName::new(&self.table.schema, &self.table.table).quoted()?;
        Ok(format!("{only}{name}"))
    }

    /// The bound's values as literals. Their type is left open, so that the server reads each as its column's.
    fn bound(&self, after: &ChunkBound) -> Outcome<String> {
        if after.0.len() != self.key.len() {
            let text = format!(
                "the key of {}.{} has changed within its snapshot",
                self.table.schema, self.table.table
            );
            return Err(
                Failure::definite("SNAPSHOT_KEY_CHANGED", text).hint("the table must be read anew (--resnapshot)")
            );
        }
        let literals = after
            .0
            .iter()
            .map(|value| Literal::new(value).map(|literal| literal.to_string()));
        Ok(literals.collect::<Outcome<Vec<_>>>()?.join(", "))
    }
}

fn list(names: &[&str]) -> Outcome<String> {
    let quoted = names.iter().map(|name| Ident::new(name).map(|name| name.to_string()));
    Ok(quoted.collect::<Outcome<Vec<_>>>()?.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::pgoutput::ReplicaIdentity;

    fn table(primary_key: &[&str]) -> TableInfo {
        TableInfo {
            oid: 1,
            schema: "public".to_owned(),
            table: "Odd \"Table\"".to_owned(),
            columns: Vec::new(),
            primary_key: primary_key.iter().map(|&name| name.to_owned()).collect(),
            unique_key: Vec::new(),
            identity: ReplicaIdentity::Default,
            identity_columns: Vec::new(),
            partitioned: false,
            partition: false,
            rows_estimate: None,
        }
    }

    #[test]
    fn a_chunk_begins_after_the_last_key_whatever_the_key_holds() {
        let table = table(&["b", "a"]);
        let extract = Extract::all(&table, &["a", "b"]);
        let after = ChunkBound(vec!["O'Neil".to_owned(), "7".to_owned()]);
        assert_eq!(
            extract.statement(Some(&after), None, 100).unwrap(),
            r#"COPY (SELECT "a", "b" FROM ONLY "public"."Odd ""Table""" WHERE ("b", "a") > ('O''Neil', '7') ORDER BY "b", "a" LIMIT 100) TO STDOUT"#
        );
        let short = ChunkBound(vec!["7".to_owned()]);
        assert!(extract.statement(Some(&short), None, 100).is_err());
    }

    #[test]
    fn a_table_without_key_is_cut_by_pages_of_one_file() {
        let table = table(&[]);
        let extract = Extract::all(&table, &["a"]);
        let file = File { number: 7, pages: 700 };
        let first = Pages::after(None, file);
        assert_eq!(
            extract.statement(None, Some(first), 100).unwrap(),
            r#"COPY (SELECT "a" FROM ONLY "public"."Odd ""Table""" WHERE ctid >= '(0,0)' AND ctid < '(512,0)') TO STDOUT"#
        );
        let bound = first.next().unwrap();
        let second = Pages::after(Some(&bound), file);
        assert_eq!((second.from, second.to, second.next()), (512, 1024, None));
        let rewritten = File { number: 8, pages: 700 };
        assert_eq!(Pages::after(Some(&bound), rewritten).from, 0);
    }

    #[test]
    fn a_select_of_ones_own_and_a_condition_stand_in_for_the_table() {
        let table = table(&["a"]);
        let mut extract = Extract::all(&table, &["a"]);
        extract.select = Some("SELECT * FROM t WHERE x > 1;");
        extract.filter = Some("a < 9 OR a > 20");
        assert_eq!(
            extract.statement(None, None, 10).unwrap(),
            r#"COPY (SELECT "a" FROM (SELECT * FROM t WHERE x > 1) AS chosen WHERE (a < 9 OR a > 20) ORDER BY "a" LIMIT 10) TO STDOUT"#
        );
    }

    #[test]
    fn a_run_ends_with_the_greatest_key_that_there_was() {
        let table = table(&["b", "a"]);
        let mut extract = Extract::all(&table, &["a", "b"]);
        extract.filter = Some("live");
        assert_eq!(
            extract.greatest().unwrap(),
            r#"SELECT "b"::text, "a"::text FROM (SELECT "b", "a" FROM ONLY "public"."Odd ""Table""" WHERE "b" IS NOT NULL AND "a" IS NOT NULL AND (live) ORDER BY "b" DESC, "a" DESC LIMIT 1) AS greatest"#
        );
        let bound = ChunkBound(vec!["x".to_owned(), "7".to_owned()]);
        extract.up_to = Some(&bound);
        let statement = extract.statement(None, None, 10).unwrap();
        assert!(
            statement.contains(r#"WHERE (live) AND ("b", "a") <= ('x', '7') ORDER BY"#),
            "{statement}"
        );
    }

    #[test]
    fn a_key_that_was_not_asked_for_is_read_all_the_same() {
        let table = table(&["k2", "k1"]);
        let extract = Extract::all(&table, &["a", "k1"]);
        assert_eq!(extract.selected(), (vec!["a", "k1", "k2"], vec![2, 1]));
    }
}
