//! Rows that are heard of under a new key before all is heard that they said under the old one.
//!
//! A key change stands in the partitions of both keys: as the end of the row under the old one, behind all that was
//! said there, and as its beginning under the new one. Partitions are read in any order. What is read of the new key
//! first cannot be joined: whether it is an edit or our own write, and what its author had seen, is told by what the
//! row was before, and that is still to come. So it waits until the end is heard, and is then joined where it stands in
//! the row's log. So the state that is left is the same in whatever order partitions were read.
//!
//! Nobody is kept waiting by it. What waits counts as if nothing more came before it, at first: the agreed record is
//! made from the state [as it is heard](EntityState::as_heard). An edit under the old key then counts as said when the
//! row moved, and what we had written there as the app's own, until the end is heard. And where no end ever comes (a
//! source that does not tell deletions, a topic that begins behind it) nothing is lost but that. Only what the sink
//! would keep in its books is not said of a row of which nothing else is known: whether the app made it, and how much
//! of a counter is its own. A delivery by a wrong answer to that would be counted wrong for good.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use syncline_schemas::mapped::{FieldValue, Mapped, RowKey, RowOp};
use syncline_schemas::mark::{Act, Mark, MarkedField};
use syncline_schemas::pipeline::{Entity, Strategy};
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;

use super::mutant::breaks;
use super::packed::{Packed, Packer, Unpacker, Unreadable, packed};
use super::state::{EntityState, Lane};

/// Records of one app that wait for the ends of rows. With more of them it is no longer waited for the first: its records are
/// joined as they are.
const RECORDS_MAX: usize = 64;
/// And bytes of text in them: a state has to fit one record of Kafka.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// What was said under a key since a row came to it whose end under its old one is not heard yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Early {
    /// The old key.
    was: RowKey,
    /// In the order of the log, marks apart; the first is the beginning.
    said: Vec<Mapped>,
}

packed!(Early { 0 was, 1 said });
packed!(Mapped {
    0 cid, 1 source, 2 row, 3 was, 4 position, 5 commit_us, 6 op, 7 fields, 8 before, 9 mark, 10 ahead
});
packed!(FieldValue { 0 name, 1 value });
packed!(Mark { 0 pipeline, 1 entity, 2 cid, 3 table, 4 row, 5 act, 6 vector, 7 stamp_us, 8 fields });
packed!(MarkedField { 0 name, 1 value, 2 delivered });

impl Packed for RowOp {
    fn is_unset(&self) -> bool {
        *self == RowOp::Present
    }

    fn unset() -> Self {
        RowOp::Present
    }

    fn pack(&self, out: &mut Packer) {
        out.number(match self {
            RowOp::Present => 0,
            RowOp::Deleted => 1,
            RowOp::Seen => 2,
        });
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        Ok(match from.number()? {
            0 => RowOp::Present,
            1 => RowOp::Deleted,
            2 => RowOp::Seen,
            _ => return Err(Unreadable::Newer),
        })
    }
}

impl Packed for Act {
    fn is_unset(&self) -> bool {
        *self == Act::Update
    }

    fn unset() -> Self {
        Act::Update
    }

    fn pack(&self, out: &mut Packer) {
        out.number(match self {
            Act::Update => 0,
            Act::Insert => 1,
            Act::Restore => 2,
            Act::Delete => 3,
            Act::Seen => 4,
        });
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        Ok(match from.number()? {
            0 => Act::Update,
            1 => Act::Insert,
            2 => Act::Restore,
            3 => Act::Delete,
            4 => Act::Seen,
            _ => return Err(Unreadable::Newer),
        })
    }
}

impl Early {
    /// Where the row began under the new key.
    fn began(&self) -> Position {
        self.said.first().map(|said| said.position).unwrap_or_default()
    }

    /// Up to where the row is heard of. A mark without a row says nothing of the row, and counts no more once it is joined: with
    /// it, what is known would go back then.
    pub fn reach(&self) -> Position {
        let of_row = self.said.iter().filter(|said| said.op != RowOp::Seen || is_end(said));
        of_row.map(|said| said.position).max().unwrap_or_default()
    }

    fn keep(&mut self, said: &Mapped) {
        if !self.said.contains(said) {
            self.said.push(said.clone());
        }
    }
}

/// Of rows that wait, that which has waited longest, if there is too much in all of them.
fn too_many(rows: &BTreeMap<RowKey, Early>) -> Option<RowKey> {
    let said = || rows.values().flat_map(|early| &early.said);
    let fields = said().flat_map(|said| said.fields.iter().chain(&said.before));
    let bytes: usize = fields.map(|field| text_bytes(&field.value)).sum();
    let is_full = said().count() > RECORDS_MAX || bytes > TEXT_BYTES_MAX;
    let first = rows.iter().min_by_key(|(_, early)| early.began());
    first.filter(|_| is_full).map(|(row, _)| row.clone())
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::List(members) => members.iter().map(text_bytes).sum(),
        _ => 0,
    }
}

/// Whether this is the end of a row under a key, which is told with the key that it has from then on.
pub(super) fn is_end(said: &Mapped) -> bool {
    said.op == RowOp::Seen && said.mark.is_none()
}

/// Where the row that begins at `position` ended under its old key: one change before.
pub(super) fn end_of(position: Position) -> Position {
    Position {
        ordinal: position.ordinal.saturating_sub(1),
        ..position
    }
}

impl Lane {
    /// Of a row of which only what it holds is known: how much of a counter is the app's own is not.
    fn forget_counted(&mut self, entity: &Entity) {
        let is_counter = |name: &str| entity.field(name).is_some_and(|field| field.strategy == Strategy::Add);
        for (_, lane) in self.fields.iter_mut().filter(|(name, _)| is_counter(name)) {
            lane.word = None;
        }
    }
}

impl EntityState {
    /// Takes in what a source said. Twice is once; the order of sources, and of the partitions of one, does not matter.
    /// Of the entity only this is asked: which counters have stock-takes, and which fields are guarded.
    pub fn join(&mut self, said: &Mapped, entity: &Entity) {
        let waiting = self.waits_under(said);
        while waiting.is_none()
            && let Some(row) = self.passed(said)
        {
            self.settle(&said.source, &row, entity);
        }
        if let Some(row) = waiting.or_else(|| self.begins_early(said)) {
            let rows = self.early.entry(said.source.clone()).or_default();
            let early = rows.entry(row).or_insert_with(|| Early {
                was: said.was.clone().unwrap_or_default(),
                said: Vec::new(),
            });
            early.keep(said);
            if let Some(first) = too_many(rows) {
                self.settle(&said.source, &first, entity);
            }
            return;
        }
        self.take(said, entity);
        if is_end(said) && self.is_complete(&said.source, &said.row) {
            self.settle(&said.source, &said.row, entity);
        }
    }

    /// The state with all that waits joined as if nothing more came before it; none if nothing waits. Where rows begin
    /// of which nothing else is known is noted in `unread`: who made them, and what was delivered to them, is still to
    /// be heard.
    pub(super) fn as_heard(&self, entity: &Entity, unread: &mut BTreeSet<Position>) -> Option<Self> {
        if self.early.is_empty() {
            return None;
        }
        let mut heard = self.clone();
        let early = std::mem::take(&mut heard.early);
        let rows = early.values().flat_map(|rows| rows.values());
        let mut said: Vec<&Mapped> = rows.flat_map(|early| &early.said).collect();
        said.sort_by_key(|said| said.position);
        said.into_iter().for_each(|said| heard.take(said, entity));
        for (source, rows) in &early {
            let lanes = heard.lanes.get_mut(source).into_iter().flat_map(BTreeMap::values_mut);
            for lane in lanes.filter(|lane| rows.values().any(|early| early.began() == lane.made)) {
                unread.insert(lane.made);
                lane.forget_counted(entity);
            }
        }
        Some(heard)
    }

    /// The key under which the row waits that this is about. An end is about the row under the key that it had.
    fn waits_under(&self, said: &Mapped) -> Option<RowKey> {
        let row = match is_end(said) {
            true => said.was.as_ref()?,
            false => &said.row,
        };
        let early = self.early.get(&said.source)?.get(row)?;
        (early.began() <= said.position).then(|| row.clone())
    }

    /// The key under which the row has to wait from now on, if this is a beginning whose end is not heard yet. Offsets
    /// of two partitions are not compared: a position without an epoch may be one.
    fn begins_early(&self, said: &Mapped) -> Option<RowKey> {
        let begins = said.op == RowOp::Present && said.position.epoch > 0 && !breaks("moved-rows-wait");
        let was = said.was.as_ref().filter(|_| begins)?;
        let lane = self.lanes.get(&said.source).and_then(|lanes| lanes.get(&said.row));
        let is_repeated = lane.is_some_and(|lane| lane.at >= said.position);
        (!is_repeated && !self.has_left(&said.source, was, end_of(said.position))).then(|| said.row.clone())
    }

    /// The key of a row that waits for an end which this record says is not to come any more: it stands behind it in
    /// the partition of the old key. Marks without a row come by another topic and say nothing of that.
    fn passed(&self, said: &Mapped) -> Option<RowKey> {
        let key = match (is_end(said), said.op) {
            (true, _) => said.was.as_ref()?,
            (false, RowOp::Seen) => return None,
            (false, RowOp::Present | RowOp::Deleted) => &said.row,
        };
        let rows = self.early.get(&said.source)?;
        let mut passed = rows
            .iter()
            .filter(|(_, early)| early.was == *key && early.began() < said.position);
        passed.next().map(|(row, _)| row.clone())
    }

    /// Whether a row waits under this key of which everything is heard that stands before.
    fn is_complete(&self, source: &str, row: &RowKey) -> bool {
        let early = self.early.get(source).and_then(|rows| rows.get(row));
        early.is_some_and(|early| self.has_left(source, &early.was, end_of(early.began())))
    }

    /// Whether a row that had this key has gone on, at this position or later.
    pub(super) fn has_left(&self, source: &str, key: &RowKey, position: Position) -> bool {
        let left = self.left.get(source).and_then(|left| left.get(key));
        left.is_some_and(|left_at| *left_at >= position)
    }

    /// From which key the row came that waits under this one, and where.
    fn waits_since(&self, source: &str, row: &RowKey) -> Option<(RowKey, Position)> {
        let early = self.early.get(source)?.get(row)?;
        Some((early.was.clone(), early.began()))
    }

    /// What waits under a key is joined. A row that comes to the key later may have to wait in its turn. What the row
    /// said under the key before, if that waits too, goes first: where no end is heard of either, that is all there is
    /// of it.
    fn settle(&mut self, source: &str, row: &RowKey, entity: &Entity) {
        // Ever earlier, so it ends.
        if let Some((was, began)) = self.waits_since(source, row)
            && self.waits_since(source, &was).is_some_and(|(_, before)| before < began)
        {
            self.settle(source, &was, entity);
        }
        let Some(rows) = self.early.get_mut(source) else { return };
        let early = rows.remove(row);
        if rows.is_empty() {
            self.early.remove(source);
        }
        let mut said = early.into_iter().flat_map(|early| early.said);
        if let Some(beginning) = said.next() {
            self.take(&beginning, entity);
        }
        said.for_each(|said| self.join(&said, entity));
    }

    /// The key under which the row is now that had this one at `position`.
    pub(super) fn gone_on(&self, source: &str, row: &RowKey, position: Position) -> RowKey {
        let (mut row, mut since) = (row, position);
        if let (Some(left), Some(onto)) = (self.left.get(source), self.onto.get(source)) {
            // Later and later, so it ends.
            while let Some((at, to)) = left.get(row).zip(onto.get(row)).filter(|(at, _)| **at > since) {
                (row, since) = (to, *at);
            }
        }
        row.clone()
    }
}
