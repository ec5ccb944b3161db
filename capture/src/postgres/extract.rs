//! What to read of a table, and how it is cut into chunks: SQL as text, nothing else.
//!
//! Chunks are cut by key: `WHERE (k1, k2) > (last) ORDER BY k1, k2 LIMIT n`. A row that moves across a border between
//! two snapshots is in the stream too. A table without key is cut by its pages (`ctid`), which say where a row *lies*:
//! that holds for as long as the table has the same file, so the file is part of the bound, and another file means
//! from the beginning. Partitions and what a `select` of one's own gives have no pages: they are one chunk.
//!
//! A table may be read in parts at the same time. Their borders are keys as a sample of its pages has them, or pages.

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
pub struct File {
    /// Another one when the table has been written anew.
    pub number: u32,
    /// How many there are.
    pub pages: u64,
}

/// The pages of one chunk: from, and up to without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pages {
    from: u64,
    to: u64,
    /// The last is before this one.
    end: u64,
    file: File,
}

impl ChunkBound {
    /// A page of the file.
    fn page(file: File, page: u64) -> Self {
        Self(vec![BY_PAGE.to_owned(), file.number.to_string(), page.to_string()])
    }

    /// The number of the file, if it is a page.
    pub fn file(&self) -> Option<&str> {
        match &self.0[..] {
            [by, number, _] if by == BY_PAGE => Some(number),
            _ => None,
        }
    }

    fn page_of(&self, file: File) -> Option<u64> {
        let is_of_it = self.file() == Some(&file.number.to_string());
        self.0.last().filter(|_| is_of_it)?.parse().ok()
    }
}

/// Borders that divide the pages of a file into so many parts.
pub(super) fn page_borders(file: File, parts: u64) -> Vec<ChunkBound> {
    let step = file.pages.div_ceil(parts.max(1)).max(1);
    let borders = (1..parts).map(|part| part * step).take_while(|page| *page < file.pages);
    borders.map(|page| ChunkBound::page(file, page)).collect()
}

impl Pages {
    /// The chunk that follows `after`, and ends at `up_to` at the latest; the first if there is none. None if a bound is of a
    /// file that the table has no longer.
    pub(super) fn after(after: Option<&ChunkBound>, up_to: Option<&ChunkBound>, file: File) -> Option<Self> {
        let from = after.map_or(Some(0), |bound| bound.page_of(file))?;
        let end = up_to.map_or(Some(file.pages), |bound| bound.page_of(file))?;
        let to = match up_to {
            Some(_) => (from + PAGES_MAX).min(end),
            None => from + PAGES_MAX,
        };
        Some(Self { from, to, end, file })
    }

    /// Where the next chunk begins; none if this was the last.
    pub(super) fn next(self) -> Option<ChunkBound> {
        (self.to < self.end).then(|| ChunkBound::page(self.file, self.to))
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

    /// The keys that divide a sample of the table's pages into so many parts, in their order, and the greatest of all.
    pub(super) fn sampled(&self, percent: f64, parts: u64) -> Outcome<String> {
        let part = |form: &dyn Fn((usize, &&str)) -> Outcome<String>| {
            let all = self.key.iter().enumerate().map(form);
            all.collect::<Outcome<Vec<_>>>().map(|all| all.join(", "))
        };
        let quoted = |(_, name): (usize, &&str)| Ident::new(name).map(|name| name.to_string());
        Ok(format!(
            "SELECT DISTINCT ON (tile) {} FROM (SELECT {}, ntile({parts}) OVER (ORDER BY {}) AS tile \
             FROM {} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (0)) AS sample ORDER BY tile, {}",
            part(&|(place, _)| Ok(format!("k{place}::text")))?,
            part(&|(place, name)| Ok(format!("{} AS k{place}", quoted((place, name))?)))?,
            part(&quoted)?,
            self.relation()?,
            part(&|(place, _)| Ok(format!("k{place} DESC")))?,
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
        let first = Pages::after(None, None, file).unwrap();
        assert_eq!(
            extract.statement(None, Some(first), 100).unwrap(),
            r#"COPY (SELECT "a" FROM ONLY "public"."Odd ""Table""" WHERE ctid >= '(0,0)' AND ctid < '(512,0)') TO STDOUT"#
        );
        let bound = first.next().unwrap();
        let second = Pages::after(Some(&bound), None, file).unwrap();
        assert_eq!((second.from, second.to, second.next()), (512, 1024, None));
        let rewritten = File { number: 8, pages: 700 };
        assert_eq!(
            (Pages::after(Some(&bound), None, rewritten), bound.file()),
            (None, Some("7"))
        );
    }

    #[test]
    fn the_parts_of_a_file_are_all_of_its_pages_once() {
        for (pages, parts) in [(0, 4), (1, 4), (5, 4), (700, 4), (5000, 3), (5000, 1), (9, 0)] {
            let file = File { number: 7, pages };
            let mut borders = page_borders(file, parts).into_iter().map(Some).collect::<Vec<_>>();
            borders.push(None);
            let (mut after, mut read) = (None, 0);
            for up_to in borders {
                let mut next = after.clone();
                loop {
                    let chunk = Pages::after(next.as_ref(), up_to.as_ref(), file).unwrap();
                    assert_eq!(chunk.from, read);
                    read = chunk.to;
                    next = chunk.next();
                    if next.is_none() {
                        break;
                    }
                }
                after = up_to;
            }
            assert!(read >= pages, "{pages} pages in {parts} parts");
        }
    }

    #[test]
    fn borders_are_the_last_keys_of_the_parts_of_a_sample() {
        let table = table(&["b", "a"]);
        assert_eq!(
            Extract::all(&table, &["a"]).sampled(0.5, 4).unwrap(),
            r#"SELECT DISTINCT ON (tile) k0::text, k1::text FROM (SELECT "b" AS k0, "a" AS k1, ntile(4) OVER (ORDER BY "b", "a") AS tile FROM ONLY "public"."Odd ""Table""" TABLESAMPLE SYSTEM (0.5) REPEATABLE (0)) AS sample ORDER BY tile, k0 DESC, k1 DESC"#
        );
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
