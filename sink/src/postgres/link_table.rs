//! A link and the table it writes, as the catalog describes it: how rows are read, and keys and values spelt.

use std::collections::BTreeSet;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::Link;
use syncline_schemas::value::Value;

use super::catalog::{self, Table};
use super::failure;
use super::references::Refers;
use super::session::{Session, TextRow};
use super::statement::{Column, SCAN_END, Statement, TableName, lock_rows, next_rows, scan_rows};
use super::text;
use crate::lane::Lane;
use crate::plan::{Found, Limits};

/// How many rows of a scan come at once.
const SCAN_ROWS: usize = 1_000;

/// A link and its table.
pub struct LinkTable {
    /// The link.
    pub link: Link,
    /// The part of it that is written.
    pub lane: Lane,
    /// The table.
    pub table: Table,
    /// What its columns can hold.
    pub limits: Limits,
    /// How it refers to the other links of its target.
    pub refers: Refers,
    read: Vec<String>,
}

impl LinkTable {
    /// Looks the table up and checks that it has what the link names.
    pub async fn open(session: &Session, link: &Link, lane: &Lane) -> Outcome<Self> {
        let name = TableName::new(&link.schema, &link.table).map_err(|bad| Failure::definite("NAME_INVALID", bad))?;
        let missing = |what: String| {
            Failure::transient(failure::SCHEMA, format!("link {}: {what}", link.name()))
                .hint("make the table or correct the pipeline file; nothing is lost meanwhile")
        };
        let table = catalog::table(session, &name).await?;
        let table = table.ok_or_else(|| missing(format!("there is no table {name}, or no right to see it")))?;
        let columns: BTreeSet<&str> = link.columns_read().into_iter().chain(link.columns_written()).collect();
        if let Some(column) = columns.iter().find(|column| table.column(column).is_none()) {
            return Err(missing(format!("table {name} has no column {column}")));
        }
        let written = link.columns_written();
        if let Some(column) = written
            .iter()
            .find(|name| table.column(name).is_some_and(|column| column.generated))
        {
            return Err(missing(format!(
                "column {column} of {name} is generated and cannot be written"
            )));
        }
        let read = columns.into_iter().map(str::to_owned).collect();
        Ok(Self {
            link: link.clone(),
            lane: lane.clone(),
            limits: table.limits(),
            refers: Refers::default(),
            table,
            read,
        })
    }

    /// Whether the table still is what it was when it was looked up.
    pub async fn is_unchanged(&self, session: &Session) -> Outcome<bool> {
        Ok(catalog::table(session, &self.table.name).await?.as_ref() == Some(&self.table))
    }

    /// The columns of the link's key.
    pub fn key(&self) -> Vec<&Column> {
        self.columns(self.link.key.iter().map(String::as_str))
    }

    /// Columns by name; the link was checked to name only columns that exist.
    pub fn columns<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<&Column> {
        names.filter_map(|name| self.table.column(name)).collect()
    }

    /// The cells of a key in the order of the link's key columns; none if the key names others.
    pub fn key_cells(&self, key: &RowKey) -> Option<Vec<Option<String>>> {
        let values = key.columns()?;
        self.key()
            .iter()
            .map(|column| Some(column.kind.write(values.get(column.name.name())?)))
            .collect()
    }

    /// Locks the rows with these keys and reads what the link looks at; rows that are missing stay missing.
    pub async fn find(&self, session: &Session, keys: &[RowKey]) -> Outcome<Vec<Found>> {
        let mut found: Vec<Found> = keys.iter().cloned().map(Found::Missing).collect();
        let Some(statement) = self.lock(keys) else {
            return Ok(found);
        };
        for row in session.rows(&statement).await? {
            if let Some((at, row)) = self.found(row)
                && let Some(slot) = found.get_mut(at)
            {
                *slot = Found::Row(keys[at].clone(), row);
            }
        }
        Ok(found)
    }

    /// Shows every row of the table, as it is now, without locking any.
    pub async fn scan(&self, session: &Session, see: &mut impl FnMut(RowKey, &Row)) -> Outcome<()> {
        let columns = self.columns(self.read.iter().map(String::as_str));
        session.define(&scan_rows(&self.table.name, &columns)).await?;
        loop {
            let rows = session.rows(&next_rows(SCAN_ROWS)).await?;
            let last = rows.len() < SCAN_ROWS;
            for (_, row) in rows.into_iter().filter_map(|row| self.found(row)) {
                if let Some(key) = self.row_key(&row) {
                    see(key, &row);
                }
            }
            if last {
                return session.control(SCAN_END).await;
            }
        }
    }

    /// The key of a row that was read; none if a column of it is null.
    fn row_key(&self, row: &Row) -> Option<RowKey> {
        let value = |name: &String| match row.get(name) {
            Some(Cell::Set(value)) if !value.is_null() => Some((name.clone(), value.clone())),
            _ => None,
        };
        let columns: Option<Vec<(String, Value)>> = self.link.key.iter().map(value).collect();
        columns.map(|columns| RowKey::new(columns.iter().map(|(name, value)| (name.as_str(), value))))
    }

    fn lock(&self, keys: &[RowKey]) -> Option<Statement> {
        if keys.is_empty() {
            return None;
        }
        let columns = self.columns(self.read.iter().map(String::as_str));
        let rows: Vec<Vec<Option<String>>> = keys
            .iter()
            .map(|key| self.key_cells(key).unwrap_or_else(|| vec![None; self.link.key.len()]))
            .collect();
        Some(lock_rows(
            &self.table.name,
            &self.key(),
            &columns,
            text::transposed(rows, self.link.key.len()),
        ))
    }

    /// Place among the keys asked for, and the row.
    fn found(&self, row: TextRow) -> Option<(usize, Row)> {
        let [ord, composite] = <[_; 2]>::try_from(row).ok()?;
        let at = ord?.parse::<usize>().ok()?.checked_sub(1)?;
        let cells = text::columns(&composite?)?;
        let columns = self.columns(self.read.iter().map(String::as_str));
        let row = columns.iter().zip(cells).map(|(column, cell)| {
            (
                column.name.name().to_owned(),
                Cell::Set(column.kind.read(cell.as_deref())),
            )
        });
        Some((at, row.collect()))
    }

    /// The key of a new row, from the composite text of its key columns.
    pub fn new_key(&self, composite: &str) -> Option<RowKey> {
        let values: Vec<Value> = self
            .key()
            .iter()
            .zip(text::columns(composite)?)
            .map(|(column, cell)| column.kind.read(cell.as_deref()))
            .collect();
        Some(RowKey::new(self.link.key.iter().map(String::as_str).zip(&values)))
    }
}
