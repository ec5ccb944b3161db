//! A database's log, read by the test itself: a slot of its own, decoded by PostgreSQL's `test_decoding`.
//!
//! Nothing of it is ours: not the slot, not the protocol, not the decoder. A transaction is placed by where its commit record
//! ends and where the one before it ended; a position that our parts speak of lies between the two (it is the start of the
//! commit record and one), so it names its transaction without either side knowing how the other counts.

use anyhow::{Context as _, bail};
use syncline_schemas::mark;
use syncline_schemas::position::Lsn;

use super::apps::Row;
use crate::postgres::Db;

/// Rows of the decoder that are asked for at once; a transaction is never cut.
const LINES_AT_ONCE: usize = 20_000;
/// What is kept in schema `syncline` is the sink's own.
const BOOKS: &str = "syncline.";

/// What one line of the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A row was made.
    Insert {
        /// `schema.table`.
        table: String,
        /// The row.
        row: Row,
    },
    /// A row was changed.
    Update {
        /// `schema.table`.
        table: String,
        /// What the primary key was, if it is another now.
        old_key: Option<Row>,
        /// The row.
        row: Row,
    },
    /// A row went.
    Delete {
        /// `schema.table`.
        table: String,
        /// Its primary key.
        key: Row,
    },
    /// A mark of ours, as text.
    Mark(String),
}

/// A committed transaction.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Where the commit before it ends.
    pub after: u64,
    /// Where its commit ends.
    pub end: u64,
    /// When, by the database's clock.
    pub at: String,
    /// What it did, the sink's books left out.
    pub changes: Vec<Change>,
}

impl Transaction {
    /// Whether `lsn` names this transaction.
    pub fn is_at(&self, lsn: u64) -> bool {
        self.after < lsn && lsn <= self.end
    }

    /// Whether who has seen everything up to `lsn` has seen this transaction.
    pub fn is_seen_at(&self, lsn: u64) -> bool {
        self.after < lsn
    }
}

/// The log of one database, from the moment the slot was made.
pub struct Log {
    slot: String,
    /// The transactions, in the order of their commits.
    pub transactions: Vec<Transaction>,
}

impl Log {
    /// Makes the slot.
    pub fn begin(db: &Db, slot: &str) -> anyhow::Result<Self> {
        db.text(&format!(
            "SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')"
        ))?;
        Ok(Self {
            slot: slot.to_owned(),
            transactions: Vec::new(),
        })
    }

    /// These transactions, for tests of the judge.
    #[cfg(test)]
    pub(super) fn of(transactions: Vec<Transaction>) -> Self {
        Self {
            slot: String::new(),
            transactions,
        }
    }

    /// Reads on, up to what is committed now.
    pub fn read(&mut self, db: &Db) -> anyhow::Result<()> {
        let sql = format!(
            "SELECT (lsn - '0/0')::text, data FROM pg_logical_slot_get_changes('{}', NULL, {LINES_AT_ONCE}, 'include-timestamp', '1')",
            self.slot
        );
        loop {
            let lines = db.rows(&sql)?;
            let mut open: Option<Transaction> = None;
            for line in &lines {
                let [Some(lsn), Some(data)] = line.as_slice() else {
                    bail!("a line of the log without a place: {line:?}")
                };
                self.take(lsn.parse()?, data, &mut open)
                    .with_context(|| format!("{} at {}: {data}", self.slot, Lsn(lsn.parse().unwrap_or_default())))?;
            }
            if open.is_some() {
                bail!("{}: a transaction without an end", self.slot);
            }
            if lines.is_empty() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, lsn: u64, data: &str, open: &mut Option<Transaction>) -> anyhow::Result<()> {
        if data.starts_with("BEGIN") {
            *open = Some(Transaction {
                after: self.transactions.last().map_or(0, |last| last.end),
                ..Transaction::default()
            });
            return Ok(());
        }
        if data.starts_with("COMMIT") {
            let mut ended = open.take().context("an end without a beginning")?;
            ended.end = lsn;
            ended.at = data
                .split_once("(at ")
                .map_or("", |(_, at)| at.trim_end_matches(')'))
                .to_owned();
            self.transactions.push(ended);
            return Ok(());
        }
        let change = parse(data)?;
        match (change, open) {
            (Some(change), Some(open)) => open.changes.push(change),
            (Some(Change::Mark(_)), None) => bail!("a mark outside of a transaction"),
            (Some(_), None) => bail!("a change outside of a transaction"),
            (None, _) => {}
        }
        Ok(())
    }
}

/// One line of `test_decoding`; none if it is of no interest here.
fn parse(data: &str) -> anyhow::Result<Option<Change>> {
    if let Some(message) = data.strip_prefix("message: ") {
        return Ok(of_message(message));
    }
    let rest = data.strip_prefix("table ").context("no line that is known")?;
    if rest.starts_with(BOOKS) {
        return Ok(None);
    }
    let (table, rest) = rest.split_once(": ").context("no table")?;
    let (what, cells) = rest.split_once(": ").context("nothing done")?;
    let table = table.to_owned();
    Ok(Some(match what {
        "INSERT" => Change::Insert {
            table,
            row: row(cells)?,
        },
        "UPDATE" => {
            let moved = cells.strip_prefix("old-key: ").map(|cells| {
                let (old, new) = cells.split_once(" new-tuple: ").context("no new row")?;
                anyhow::Ok((row(old)?, new))
            });
            let (old_key, new) = match moved.transpose()? {
                Some((old, new)) => (Some(old), new),
                None => (None, cells),
            };
            Change::Update {
                table,
                old_key,
                row: row(new)?,
            }
        }
        "DELETE" => Change::Delete {
            table,
            key: row(cells)?,
        },
        other => bail!("{other} is nothing that the load does"),
    }))
}

/// `transactional: 1 prefix: syncline, sz: 12 content:...`
fn of_message(message: &str) -> Option<Change> {
    let (head, content) = message.split_once(" content:")?;
    let ours = head.starts_with("transactional: 1 ") && head.contains(&format!("prefix: {},", mark::PREFIX));
    ours.then(|| Change::Mark(content.to_owned()))
}

/// `id[integer]:7 name[text]:'it''s' note[text]:null`
fn row(cells: &str) -> anyhow::Result<Row> {
    let mut row = Row::new();
    let mut rest = cells.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('[').context("a column without a type")?;
        let value = after_type(after).context("a type without an end")?;
        let (cell, after) = value_of(value)?;
        row.insert(name.trim_matches('"').to_owned(), cell);
        rest = after.trim_start();
    }
    Ok(row)
}

/// What follows `TYPE]:`; a type may have brackets of its own.
fn after_type(text: &str) -> Option<&str> {
    let mut depth = 1_usize;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text[at..].strip_prefix("]:");
        }
    }
    None
}

fn value_of(text: &str) -> anyhow::Result<(Option<String>, &str)> {
    let Some(quoted) = text.strip_prefix('\'') else {
        let end = text.find(' ').unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return match word {
            "null" => Ok((None, rest)),
            "unchanged-toast-datum" => bail!("a value that the log does not hold"),
            word => Ok((Some(word.to_owned()), rest)),
        };
    };
    let mut cell = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('\'').context("a text without an end")?;
        cell.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(more) => {
                cell.push('\'');
                rest = more;
            }
            None => return Ok((Some(cell), rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(cells: &[(&str, Option<&str>)]) -> Row {
        cells
            .iter()
            .map(|(name, cell)| ((*name).to_owned(), cell.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn rows_are_read_as_the_decoder_writes_them() {
        let line = "table public.t: INSERT: id[integer]:7 v[character varying]:'it''s [a] new-tuple: b' \"offset\"[bigint]:1 \
                    a[text[]]:'{a,b}' n[numeric]:-1.50 b[boolean]:true x[text]:null y[timestamp with time zone]:'2026-01-01 00:00:00+00'";
        let row = cells(&[
            ("id", Some("7")),
            ("v", Some("it's [a] new-tuple: b")),
            ("offset", Some("1")),
            ("a", Some("{a,b}")),
            ("n", Some("-1.50")),
            ("b", Some("true")),
            ("x", None),
            ("y", Some("2026-01-01 00:00:00+00")),
        ]);
        let table = "public.t".to_owned();
        assert_eq!(parse(line).unwrap(), Some(Change::Insert { table, row }));
    }

    #[test]
    fn a_row_that_moves_names_its_old_key() {
        let parsed =
            parse("table public.t: UPDATE: old-key: id[bigint]:1 new-tuple: id[bigint]:2 v[text]:'two\nlines'");
        let expected = Change::Update {
            table: "public.t".to_owned(),
            old_key: Some(cells(&[("id", Some("1"))])),
            row: cells(&[("id", Some("2")), ("v", Some("two\nlines"))]),
        };
        assert_eq!(parsed.unwrap(), Some(expected));
        let gone = parse("table public.t: DELETE: id[bigint]:2").unwrap();
        let key = cells(&[("id", Some("2"))]);
        let table = "public.t".to_owned();
        assert_eq!(gone, Some(Change::Delete { table, key }));
    }

    #[test]
    fn only_our_marks_and_the_apps_tables_count() {
        let mark = "message: transactional: 1 prefix: syncline, sz: 7 content:{\"a\":1}";
        assert_eq!(parse(mark).unwrap(), Some(Change::Mark("{\"a\":1}".to_owned())));
        assert_eq!(
            parse("message: transactional: 1 prefix: other, sz: 1 content:x").unwrap(),
            None
        );
        assert_eq!(parse("table syncline.applied: INSERT: cid[text]:'x'").unwrap(), None);
        for unknown in [
            "table public.t: TRUNCATE: (no-flags)",
            "anything",
            "table public.t: INSERT: id[integer:7",
        ] {
            assert!(parse(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_position_names_its_transaction() {
        let second = Transaction {
            after: 100,
            end: 180,
            ..Transaction::default()
        };
        assert_eq!(
            [100, 101, 180, 181].map(|lsn| second.is_at(lsn)),
            [false, true, true, false]
        );
        assert_eq!([100, 101, 500].map(|lsn| second.is_seen_at(lsn)), [false, true, true]);
    }
}
