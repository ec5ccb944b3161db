//! Pure: one chunk between the asking and the writing: which messages of the log are about its table, and by what values they
//! name its rows.

use bytes::Bytes;
use syncline_schemas::position::Lsn;

use crate::assemble::Assembler;
use crate::postgres::catalog::TableInfo;
use crate::postgres::pgoutput::{Message, OldTuple, Relation, TupleCell};
use crate::postgres::snapshot::SnapshotRow;
use crate::postgres::watermark::ChunkRead;
use crate::table::relation_of;

use super::agenda::Reading;
use super::window::Window;

/// The values by which the log names a row.
type Key = Vec<Bytes>;

/// The chunk under way.
pub struct Chunk {
    /// What it was asked for.
    pub reading: Reading,
    oid: u32,
    /// The columns by which the log names a row, and where they stand in its rows.
    identity: Vec<String>,
    places: Option<Vec<usize>>,
    /// What the log says of the table meanwhile.
    pub window: Window<Key, SnapshotRow>,
    /// The latest shape that the log announced, with the place of its transaction.
    announced: Option<(Lsn, Relation)>,
    /// What was read, but for its rows.
    pub read: Option<ChunkRead>,
}

impl Chunk {
    /// About to be asked for.
    pub fn new(reading: Reading, info: &TableInfo, identity: Vec<String>, assembler: &Assembler) -> Self {
        let known = assembler.table(info.oid);
        let places = known.and_then(|known| {
            let columns = &known.table.columns;
            places(&identity, |name| columns.iter().position(|column| column.name == name))
        });
        Self {
            reading,
            oid: info.oid,
            identity,
            places,
            window: Window::open(),
            announced: None,
            read: None,
        }
    }

    /// A message of the log, in a transaction that commits at `at`.
    pub fn overhear(&mut self, at: Lsn, message: &Message) {
        match message {
            Message::Relation(relation) if relation.oid == self.oid => self.announce(at, relation),
            Message::Insert(insert) if insert.relation == self.oid => self.changed(at, Some(&insert.new), None),
            Message::Update(update) if update.relation == self.oid => {
                let old = cells(&update.old);
                self.changed(at, Some(&update.new), old);
                self.changed(at, old, None);
            }
            Message::Delete(delete) if delete.relation == self.oid => self.changed(at, cells(&delete.old), None),
            Message::Truncate(truncate) if truncate.relations.contains(&self.oid) => self.window.emptied(at),
            _ => {}
        }
    }

    fn announce(&mut self, at: Lsn, relation: &Relation) {
        self.places = places(&self.identity, |name| {
            relation.columns.iter().position(|column| column.name == name)
        });
        if let Some(read) = &self.read
            && !has_shape(relation, read)
        {
            self.window.spoil(at);
        }
        self.announced = Some((at, relation.clone()));
    }

    /// A row has changed; what one of its two images leaves out stands in the other.
    fn changed(&mut self, at: Lsn, row: Option<&[TupleCell]>, other: Option<&[TupleCell]>) {
        let Some(row) = row else { return };
        let Some(places) = &self.places else {
            return self.window.spoil(at);
        };
        let cell = |&place: &usize| match row.get(place) {
            Some(TupleCell::Unchanged) => other.and_then(|other| other.get(place)),
            cell => cell,
        };
        let mut key = Vec::with_capacity(places.len());
        for place in places {
            match cell(place) {
                // Copied, so that one key does not keep a whole buffer in memory.
                Some(TupleCell::Text(text)) => key.push(Bytes::copy_from_slice(text)),
                // A row whose key is NULL is in no chunk.
                Some(TupleCell::Null) => return,
                _ => return self.window.spoil(at),
            }
        }
        self.window.changed(at, key);
    }

    /// Takes the chunk in; false if it is of another table than the log was watched for.
    pub fn take(&mut self, mut read: ChunkRead) -> bool {
        let names: Vec<&String> = read.identity.iter().map(|&place| &read.columns[place]).collect();
        if read.info.oid != self.oid || names != self.identity.iter().collect::<Vec<_>>() {
            return false;
        }
        if let Some((at, relation)) = &self.announced
            && !has_shape(relation, &read)
        {
            self.window.spoil(*at);
        }
        let rows = std::mem::take(&mut read.rows);
        let keyed = rows.into_iter().map(|row| (key_of(&row, &read.identity), row));
        self.window.read(read.low, read.high, keyed);
        self.read = Some(read);
        true
    }
}

fn key_of(row: &SnapshotRow, identity: &[usize]) -> Key {
    let text = |&place: &usize| match row.get(place) {
        Some(TupleCell::Text(text)) => text.clone(),
        _ => Bytes::new(),
    };
    identity.iter().map(text).collect()
}

fn places(names: &[String], place: impl Fn(&str) -> Option<usize>) -> Option<Vec<usize>> {
    names.iter().map(|name| place(name)).collect()
}

fn cells(old: &OldTuple) -> Option<&[TupleCell]> {
    match old {
        OldTuple::None => None,
        OldTuple::Key(row) | OldTuple::Full(row) => Some(row),
    }
}

/// Whether the log announces the table as the chunk found it.
fn has_shape(relation: &Relation, read: &ChunkRead) -> bool {
    let expected = relation_of(&read.info, &read.columns);
    let shape = |relation: &Relation| -> Vec<(String, u32)> {
        let columns = relation.columns.iter();
        columns.map(|column| (column.name.clone(), column.type_oid)).collect()
    };
    shape(relation) == shape(&expected)
}
