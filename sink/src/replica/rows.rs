//! Writes changes into a copy: what is not older than what is there, one statement for each set of columns.

use std::borrow::Cow;
use std::sync::Arc;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::position::Position;

use super::binary;
use super::change::{Act, Change};
use super::fence::{self, Stamps, There};
use super::image::Image;
use super::statements;
use crate::postgres::books::Owner;
use crate::postgres::catalog::Table;
use crate::postgres::session::{Session, TextRow};
use crate::postgres::statement::{self, Column};
use crate::postgres::text;

/// From so many rows on they are staged.
const STAGED_ROWS_MIN: usize = 2_000;

/// How many changes were written, and how many were older than what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Written.
    pub written: u64,
    /// Left out.
    pub older: u64,
}

/// A copy that is written.
pub struct Writer<'a> {
    session: &'a Session,
    owner: &'a Owner,
    table: &'a Table,
    /// Its topic, by which the books name it.
    topic: &'a str,
    stamps: Stamps,
    key: Vec<&'a Column>,
    /// The column of positions.
    fence: &'a Column,
    may_stage: bool,
}

/// A row and where its change stands.
#[derive(Clone, Copy)]
struct Put<'a> {
    key: &'a RowKey,
    row: &'a Image,
    position: Position,
}

/// Rows that are written by one statement: they have the same columns, and the same of these are not known.
struct Group<'a> {
    columns: &'a Arc<[String]>,
    unknown: Vec<usize>,
    puts: Vec<Put<'a>>,
}

/// The columns of a group that are written: for each column of its rows, in their order, the one of the copy if it is.
struct Taken<'a>(Vec<Option<&'a Column>>);

impl<'a> Writer<'a> {
    /// Of this table, by what this topic says.
    pub fn new(
        session: &'a Session,
        owner: &'a Owner,
        (table, topic): (&'a Table, &'a str),
        may_stage: bool,
    ) -> Outcome<Self> {
        let fence = table.column(fence::COLUMN).ok_or_else(|| {
            let text = format!("{} has no column {}", table.name, fence::COLUMN);
            Failure::transient("TABLE_UNKNOWN", text)
        })?;
        Ok(Self {
            session,
            owner,
            topic,
            stamps: Stamps::of(topic),
            key: table.primary_key.iter().filter_map(|name| table.column(name)).collect(),
            table,
            fence,
            may_stage,
        })
    }

    /// Writes the last change of each of some rows.
    pub async fn write(&self, changes: &[Cow<'_, Change>]) -> Outcome<Written> {
        let keys = changes.iter().filter_map(|change| Some(change.act.row()?.0.as_str()));
        let gone = fence::read(self.session, self.owner, self.topic, keys).await?;
        let is_due = |key: &RowKey, change: &Change| gone.is_before(&key.0, change.position);
        let (mut puts, mut removed) = (Vec::new(), Vec::new());
        for change in changes {
            match &change.act {
                Act::Put(key, row) if is_due(key, change) => puts.push(Put {
                    key,
                    row,
                    position: change.position,
                }),
                Act::Remove(key) if is_due(key, change) => removed.push((key, change.position)),
                _ => (),
            }
        }
        self.remove(&removed).await?;
        let written = removed.len() as u64 + self.put(&puts).await?;
        Ok(Written {
            written,
            older: (changes.len() as u64).saturating_sub(written),
        })
    }

    /// Carries out a change that is no change of one row alone.
    pub async fn alone(&self, change: &Change) -> Outcome<Written> {
        let is_written = match &change.act {
            Act::Move(old, new) => self.relocate(old, new, change).await?,
            _ => self.truncate(change.position).await?,
        };
        let written = u64::from(is_written);
        Ok(Written {
            written,
            older: 1 - written,
        })
    }

    async fn truncate(&self, position: Position) -> Outcome<bool> {
        let gone = fence::read(self.session, self.owner, self.topic, std::iter::empty()).await?;
        if !gone.is_before(fence::TABLE, position) {
            return Ok(false);
        }
        let truncate = statements::truncate(&self.table.name, self.fence, self.stamps.at(position));
        self.session.execute(&truncate).await?;
        fence::write(self.session, self.owner, self.topic, &[(fence::TABLE, position)]).await?;
        Ok(true)
    }

    async fn remove(&self, removed: &[(&RowKey, Position)]) -> Outcome<()> {
        if removed.is_empty() {
            return Ok(());
        }
        let cells = removed.iter().map(|(key, position)| {
            let mut cells = self.key_cells(key)?;
            cells.push(Some(self.stamps.at(*position)));
            Ok(cells)
        });
        let cells = text::transposed(cells.collect::<Outcome<_>>()?, self.key.len() + 1);
        let statement = statements::remove(&self.table.name, &self.key, self.fence, cells);
        self.session.execute(&statement).await?;
        let ends: Vec<(&str, Position)> = removed
            .iter()
            .map(|(key, position)| (key.0.as_str(), *position))
            .collect();
        fence::write(self.session, self.owner, self.topic, &ends).await
    }

    /// Whole rows are made or replaced. A row with parts that the log did not repeat can only be changed. Says how many were.
    async fn put(&self, puts: &[Put<'_>]) -> Outcome<u64> {
        let mut written = 0;
        for group in groups(puts) {
            let taken = self.taken(&group);
            written += match group.unknown.is_empty() {
                true => self.replace(&taken, &group.puts).await?,
                false => self.change(&taken, &group.puts).await?,
            };
        }
        Ok(written)
    }

    fn taken(&self, group: &Group<'_>) -> Taken<'a> {
        // Of a source that is a copy itself, the positions are not ours.
        let column = |name: &str| {
            let column = self.table.column(name).filter(|column| !column.generated);
            column.filter(|_| name != fence::COLUMN)
        };
        let names = group.columns.iter().enumerate();
        let taken = names.map(|(place, name)| column(name).filter(|_| !group.unknown.contains(&place)));
        Taken(taken.collect())
    }

    async fn replace(&self, taken: &Taken<'_>, puts: &[Put<'_>]) -> Outcome<u64> {
        let (table, columns) = (&self.table.name, taken.columns(self.fence));
        if puts.len() < STAGED_ROWS_MIN || !self.may_stage {
            let rows = puts.iter().map(|put| self.texts(*put, taken).collect()).collect();
            let cells = text::transposed(rows, columns.len());
            let statement = statements::upsert(table, &self.key, &columns, self.fence, cells);
            return self.session.execute(&statement).await;
        }
        let (forms, pieces) = binary::rows(&columns, puts, |put| self.cells(*put, taken));
        let staging = statements::staging(table, &self.key, &columns, self.fence, &forms);
        self.session.define(&staging.make).await?;
        self.session.copy(&staging.take, pieces).await?;
        self.session.run(&staging.write).await
    }

    /// Fails if a row is not there: what it leaves out is nowhere to be found then.
    async fn change(&self, taken: &Taken<'_>, puts: &[Put<'_>]) -> Outcome<u64> {
        let columns = taken.columns(self.fence);
        let keys: Vec<TextRow> = puts.iter().map(|put| self.key_cells(put.key)).collect::<Outcome<_>>()?;
        let there = fence::stamps(self.session, &self.table.name, &self.key, self.fence, keys.clone()).await?;
        let missing = puts.len() - there.len();
        if missing > 0 {
            return Err(Failure::definite(
                "REPLICA_ROW_MISSING",
                format!(
                    "{}: {missing} rows were changed at the source that the copy does not have, and the change does not say all of them",
                    self.table.name
                ),
            )
            .hint("take a new snapshot of the table: syncline-capture --resnapshot"));
        }
        let all = puts
            .iter()
            .zip(keys)
            .enumerate()
            .filter_map(|(place, (put, mut cells))| {
                let is_older = self
                    .stamps
                    .holds(Some(there.get(&place)?), &self.stamps.at(put.position));
                (!is_older).then(|| {
                    cells.extend(self.texts(*put, taken));
                    cells
                })
            });
        let cells = text::transposed(all.collect(), self.key.len() + columns.len());
        let statement = statement::update(&self.table.name, &self.key, &columns, cells);
        self.session.execute(&statement).await
    }

    /// Gives a row its new key. False if that is done, or the old row itself has come back since.
    ///
    /// Where the new row has been here already it knows more than the old one, which goes: the new one may still be there, or have
    /// been deleted since, or have moved on. An older row under that key is one whose end is still to be read: two cannot have had
    /// the key at one time.
    async fn relocate(&self, old: &RowKey, new: &RowKey, change: &Change) -> Outcome<bool> {
        let position = change.position;
        let keys = [&old.0, &new.0].into_iter().map(String::as_str);
        let gone = fence::read(self.session, self.owner, self.topic, keys).await?;
        if !gone.is_before(&old.0, position) {
            return Ok(false);
        }
        let (from, to, stamp) = (self.key_cells(old)?, self.key_cells(new)?, self.stamps.at(position));
        let both = vec![from.clone(), to.clone()];
        let there = fence::stamps(self.session, &self.table.name, &self.key, self.fence, both).await?;
        if self.stamps.holds(there.get(&0), &stamp) {
            return Ok(false);
        }
        let here = there.get(&1);
        // Where positions cannot be compared, whatever is known of the new row came with all of it.
        let is_known = !change.is_comparable && (here.is_some() || gone.knows(&new.0));
        if is_known || self.stamps.holds(here, &stamp) || !gone.is_before(&new.0, position) {
            self.delete(from, stamp).await?;
        } else {
            // The database may hold both keys equal; then the two are one row.
            let is_same = |here: &There| there.get(&0).is_some_and(|old| old.row == here.row);
            if here.is_some_and(|here| !is_same(here)) {
                self.delete(to.clone(), stamp.clone()).await?;
            }
            let columns: Vec<&Column> = self.key.iter().copied().chain([self.fence]).collect();
            // What cannot be compared with the row's next change must not keep it out.
            let stamp = change.is_comparable.then_some(stamp);
            let cells = from.into_iter().chain(to).chain([stamp]).collect();
            let cells = text::transposed(vec![cells], self.key.len() + columns.len());
            let statement = statement::update(&self.table.name, &self.key, &columns, cells);
            self.session.execute(&statement).await?;
        }
        fence::write(self.session, self.owner, self.topic, &[(old.0.as_str(), position)]).await?;
        Ok(true)
    }

    /// Deletes a row that is older than that.
    async fn delete(&self, key: TextRow, stamp: String) -> Outcome<()> {
        let cells = key.into_iter().chain([Some(stamp)]).collect();
        let cells = text::transposed(vec![cells], self.key.len() + 1);
        let statement = statements::remove(&self.table.name, &self.key, self.fence, cells);
        self.session.execute(&statement).await.map(drop)
    }

    /// The cells of the columns that are written, as PostgreSQL reads them; the last is the row's stamp.
    fn cells<'p>(&self, put: Put<'p>, taken: &Taken<'_>) -> impl Iterator<Item = Option<Cow<'p, [u8]>>> {
        let stamp = Cow::Owned(self.stamps.at(put.position).into_bytes());
        let cells = put.row.cells().zip(&taken.0);
        let cells = cells.filter_map(|(cell, column)| column.map(|column| column.kind.respell(cell)));
        cells.chain([Some(stamp)])
    }

    fn texts(&self, put: Put<'_>, taken: &Taken<'_>) -> impl Iterator<Item = Option<String>> {
        let text = |cell: Cow<'_, [u8]>| String::from_utf8_lossy(&cell).into_owned();
        self.cells(put, taken).map(move |cell| cell.map(text))
    }

    fn key_cells(&self, key: &RowKey) -> Outcome<TextRow> {
        let columns = key.columns().unwrap_or_default();
        let cells: Option<Vec<_>> = self
            .key
            .iter()
            .map(|column| Some(column.kind.write(columns.get(column.name.name())?)))
            .collect();
        cells.filter(|cells| !cells.is_empty()).ok_or_else(|| {
            Failure::definite(
                "KEY_DIFFERS",
                format!("the primary key of {} is not the key of its source", self.table.name),
            )
            .hint("give the copy the primary key of the source")
        })
    }
}

impl<'a> Taken<'a> {
    /// With the column of positions, which is the last.
    fn columns<'b>(&self, fence: &'b Column) -> Vec<&'b Column>
    where
        'a: 'b,
    {
        self.0.iter().copied().flatten().chain([fence]).collect()
    }
}

/// Those that can only be changed come first.
fn groups<'a>(puts: &[Put<'a>]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for put in puts {
        let unknown = put.row.unknown();
        // Nearly always the first, or one of very few.
        let known = groups
            .iter_mut()
            .find(|group| group.unknown == unknown && put.row.is_alike(group.columns));
        match known {
            Some(group) => group.puts.push(*put),
            None => groups.push(Group {
                columns: put.row.columns(),
                unknown,
                puts: vec![*put],
            }),
        }
    }
    groups.sort_by_key(|group| group.unknown.is_empty());
    groups
}
