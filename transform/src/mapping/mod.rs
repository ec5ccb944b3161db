//! Mapping: one change event to what one source says of one entity. Pure: no Kafka, no clock, no crosswalk either. It is
//! called twice: [`address`] says which crosswalk entries are needed, [`apply`] works with them.
//!
//! Which entity a row belongs to is asked in this order: the mark of our own insert (the sink knows whom it made the row
//! for), the crosswalk, the crosswalk under the row's old key, and last the row's own values ([`crate::identity`]).
//! A key that a row has left stays in the crosswalk with the position at which it was left, and when another row takes it,
//! with the position of that: a repeated older event is recognised, and the new row does not inherit the entity.
//!
//! A key change is two records, which may be in two partitions and be read in either order. The end under the old key
//! is in the partition of that key, before whatever the key is used for next; so the one who takes the key is never
//! taken for the one who left it. It alone says that the key was left: what still stands before it in that partition is
//! the row's own, and nobody may take it for repeated because the beginning was read. The beginning under the new key
//! asks who left the old one *there*: if that is not known any more, because others have had the key since, the row's
//! own values decide.
//!
//! Where the beginning is read before anything of the old key, it cannot know who had that. Its entity is then what
//! the old key's would be at first sight, so that whoever reads the old key, maybe another process with another part
//! of the crosswalk, comes to the same. The end under the old key tells merge, after all that was said under it, that
//! the row's words go on under the new one: merge waits for that with what it was told under the new key.

use std::fmt;

use syncline_schemas::codec::Crosswalk;
use syncline_schemas::envelope::{ChangeEvent, Op};
use syncline_schemas::lens::{self, Cell, Fields, Row};
use syncline_schemas::mapped::{FieldValue, Mapped, RowKey, RowOp};
use syncline_schemas::mark::{Mark, PlacedMark};
use syncline_schemas::pipeline::{Entity, Link};
use syncline_schemas::position::Position;
use syncline_schemas::sighting::Sighting;

use crate::identity;

/// Which entities a row refers to.
pub mod parents;

use parents::References;

/// One change of a row, as read.
pub struct Input<'a> {
    /// What happened.
    pub event: &'a ChangeEvent,
    /// The record's key, if it has one.
    pub key: Option<&'a Row>,
    /// Where it stands in its source's log.
    pub position: Position,
    /// Commit time, already clamped.
    pub commit_us: i64,
    /// Whether that changed it.
    pub ahead: bool,
    /// The row's key before this change, when the change moved it.
    pub old_key: Option<&'a Row>,
    /// Whether this is the end of a row that goes on under another key.
    pub moves_away: bool,
    /// That other key, if it can be read.
    pub new_key: Option<&'a Row>,
    /// The sink's mark, if this pipeline wrote the row.
    pub mark: Option<&'a Mark>,
}

/// What a change comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The source says something.
    Said {
        /// What it says.
        mapped: Box<Mapped>,
        /// What changes in the crosswalk.
        crosswalk: Vec<(String, Crosswalk)>,
        /// Who the row says it is, if this is where it got its record.
        sighting: Option<Box<Sighting>>,
    },
    /// The row goes on under another key, where it is told of.
    Left {
        /// The old key in the crosswalk.
        key: String,
        /// Its entry from now on, in the partition of that key.
        entry: Crosswalk,
        /// That its words go on under the new key; merge may have heard of that before it heard all of them.
        said: Option<Box<Mapped>>,
    },
    /// The change says nothing of an entity.
    Nothing(Nothing),
}

/// Why there is nothing to do, in words for a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nothing(pub &'static str);

/// Why a change cannot be mapped. It shows names and no values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The row that a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its key.
    pub row: RowKey,
    /// The key it had before this change, when the change moved it.
    pub was: Option<RowKey>,
}

/// What the crosswalk has for an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Under the row's key.
    pub row: Option<Crosswalk>,
    /// Under its old key.
    pub was: Option<Crosswalk>,
    /// The entities that the row refers to.
    pub references: References,
}

impl Known {
    /// From what parts of the crosswalk have: under the row's key `own`, that of its partition, and all under its `old`
    /// key, which may lie in another.
    pub fn found(own: Option<Crosswalk>, old: Vec<Crosswalk>) -> Self {
        Self {
            row: own,
            was: old
                .into_iter()
                .max_by_key(|entry| (entry.since.max(entry.left_at), !entry.cid.is_empty())),
            references: References::default(),
        }
    }

    /// The entity of the row, unless the row that had this key went on under another.
    fn cid(&self) -> Option<&str> {
        self.row
            .as_ref()
            .filter(|entry| entry.left_at.is_none())
            .map(|entry| entry.cid.as_str())
    }

    /// Whether the row went on under another key after this, or another row has taken its key since: then this was mapped
    /// before, and is read again.
    fn is_past(&self, position: Position) -> bool {
        self.row.as_ref().is_some_and(|row| {
            row.left_at.is_some_and(|left| position <= left) || row.since.is_some_and(|since| position < since)
        })
    }

    /// Whether the key was taken there.
    fn is_since(&self, position: Position) -> bool {
        self.row.as_ref().is_some_and(|entry| entry.since == Some(position))
    }

    /// Where the row that had the key left it, if nobody has taken it since.
    fn left_at(&self) -> Option<Position> {
        self.row.as_ref().and_then(|entry| entry.left_at)
    }
}

/// The key of a row's entry in the crosswalk.
pub fn crosswalk_key(link: &Link, row: &RowKey) -> String {
    format!("{}|{row}", link.name())
}

/// Which row the change is about; nothing to do if it is about none.
pub fn address(link: &Link, input: &Input<'_>) -> Result<Result<Address, Nothing>, Refusal> {
    match (input.event.op, &input.event.after) {
        (Op::Create | Op::Read | Op::Update, Some(after)) => {
            let row = row_key(link, after)?;
            let was = input
                .old_key
                .and_then(|key| row_key(link, key).ok())
                .filter(|was| *was != row);
            Ok(Ok(Address { row, was }))
        }
        (Op::Create | Op::Read | Op::Update, None) => Err(Refusal("a change without the row after it".to_owned())),
        (Op::Delete, _) => Ok(Ok(Address {
            row: deleted_key(link, input)?,
            was: None,
        })),
        (Op::Truncate, _) => Err(Refusal("TRUNCATE cannot be mapped: it names no rows".to_owned())),
        (Op::Message, _) => Ok(Err(Nothing("message"))),
    }
}

/// The record's key may have other columns than the link's; the before-image has them all.
fn deleted_key(link: &Link, input: &Input<'_>) -> Result<RowKey, Refusal> {
    let none = || Refusal("a delete without a key".to_owned());
    let by_key = input.key.ok_or_else(none).and_then(|key| row_key(link, key));
    by_key.or_else(|refusal| {
        input
            .event
            .before
            .as_ref()
            .map_or(Err(refusal), |before| row_key(link, before))
    })
}

/// Maps one change of a row of `link`.
pub fn apply(
    link: &Link,
    entity: &Entity,
    input: &Input<'_>,
    address: Address,
    known: &Known,
) -> Result<Mapping, Refusal> {
    match &input.event.after {
        _ if known.is_past(input.position) => Ok(Mapping::Nothing(Nothing("repeated after its row has moved"))),
        _ if input.moves_away => Ok(left(link, &address.row, known, input)),
        Some(after) if input.event.op != Op::Delete => present(link, entity, input, after, address, known),
        _ => Ok(deleted(link, input, address, known)),
    }
}

/// Maps a mark that stands in the log without a row change.
pub fn seen(source: &str, placed: &PlacedMark, mark: Mark) -> Mapping {
    let Some(row) = mark.row.clone() else {
        return Mapping::Nothing(Nothing("mark of a row that was not captured"));
    };
    let mapped = Mapped {
        cid: mark.cid.clone(),
        source: source.to_owned(),
        row: RowKey(row),
        was: None,
        position: placed.position,
        commit_us: placed.commit_us,
        op: RowOp::Seen,
        fields: Vec::new(),
        before: Vec::new(),
        mark: Some(mark),
        ahead: false,
    };
    Mapping::Said {
        mapped: Box::new(mapped),
        crosswalk: Vec::new(),
        sighting: None,
    }
}

fn present(
    link: &Link,
    entity: &Entity,
    input: &Input<'_>,
    after: &Row,
    address: Address,
    known: &Known,
) -> Result<Mapping, Refusal> {
    let mut fields = lens::get(link, after).map_err(|error| Refusal(error.to_string()))?;
    known.references.after(&mut fields);
    parents::refuse_null(entity, &fields)?;
    // A row that moves onto a key has nothing to do with the one that had it before.
    let sticky = known.cid().filter(|_| !takes_key(&address, known, input.position));
    let inserted = made_for(input);
    // A row that moves onto a key takes its entity along, whoever had the key before; but not that of a row which has taken
    // the old key since.
    let moved = known
        .was
        .as_ref()
        .filter(|was| !was.cid.is_empty() && !is_taken(was, input));
    let moving = moved.filter(|entry| {
        entry
            .left_at
            .is_none_or(|left_at| left_at == end_of_old_key(input.position))
    });
    let moving = moving.map(|entry| entry.cid.as_str());
    let known_as = inserted.or(moving).or(sticky).or(moved.map(|entry| entry.cid.as_str()));
    let first = known_as.is_none();
    let cid = match known_as {
        Some(cid) => cid.to_owned(),
        None => match address.was.as_ref().filter(|_| is_of_unread(known, input)) {
            Some(was) => identity::cid(entity, link, was, None, &fields),
            None => identity::cid(entity, link, &address.row, known.left_at(), &fields),
        },
    };
    let got_it_here = known.cid() != Some(&*cid) || takes_key(&address, known, input.position);
    let sighting = got_it_here.then(|| {
        Box::new(Sighting {
            cid: cid.clone(),
            source: link.system.clone(),
            row: address.row.clone(),
            first,
            traits: if first {
                identity::traits(entity, &fields)
            } else {
                Vec::new()
            },
            claims: if first {
                identity::claims(link, after)
            } else {
                Vec::new()
            },
        })
    });
    let crosswalk = crosswalk_changes(link, input, &address, &cid, known);
    let before = input.event.before.as_ref().filter(|_| input.event.op == Op::Update);
    // A before-image that cannot be mapped is no more than an unknown one: it explains the change, it does not make it.
    let mut before = before
        .and_then(|before| lens::get(link, before).ok())
        .unwrap_or_default();
    known.references.before(&mut before);
    let was = address.was.clone();
    let mapped = Mapped {
        was,
        ..said(link, input, cid, address.row, RowOp::Present, fields, before)
    };
    Ok(Mapping::Said {
        mapped: Box::new(mapped),
        crosswalk,
        sighting,
    })
}

/// The entity that we made the row for, if this is where we made it.
fn made_for<'a>(input: &Input<'a>) -> Option<&'a str> {
    input.mark.filter(|mark| mark.act.makes()).map(|mark| mark.cid.as_str())
}

fn deleted(link: &Link, input: &Input<'_>, address: Address, known: &Known) -> Mapping {
    let marked = || input.mark.map(|mark| mark.cid.as_str());
    let Some(cid) = known.cid().or_else(marked) else {
        return Mapping::Nothing(Nothing("deleted before it was seen"));
    };
    let mapped = said(
        link,
        input,
        cid.to_owned(),
        address.row,
        RowOp::Deleted,
        Fields::new(),
        Fields::new(),
    );
    Mapping::Said {
        mapped: Box::new(mapped),
        crosswalk: Vec::new(),
        sighting: None,
    }
}

/// The row goes on under another key. What is known of this one already is of that moment, or later. Where nothing is
/// known of it the key is left by nobody: so who takes it next is not taken for the one who went on from it, whose
/// entity is that of the key at first sight ([`is_of_unread`]).
fn left(link: &Link, row: &RowKey, known: &Known, input: &Input<'_>) -> Mapping {
    let position = input.position;
    let entry = |entry: Option<&Crosswalk>| Crosswalk {
        cid: entry.map(|entry| entry.cid.clone()).unwrap_or_default(),
        left_at: entry.and_then(|entry| entry.left_at).max(Some(position)),
        since: entry.and_then(|entry| entry.since),
        known_ms: entry.and_then(|entry| entry.known_ms),
    };
    let (entry, said) = match &known.row {
        Some(here) if here.left_at.is_none() => (entry(Some(here)), goes_on(link, row, &here.cid, input)),
        None if is_of_log(input) => (entry(None), None),
        _ => return Mapping::Nothing(Nothing("moved")),
    };
    Mapping::Left {
        key: crosswalk_key(link, row),
        entry,
        said: said.map(Box::new),
    }
}

/// For merge: what was said under this key is said under the new one from now on. Older versions read it as a mark's
/// record without a mark. Where positions are offsets, each of its partition, merge could not compare them.
fn goes_on(link: &Link, row: &RowKey, cid: &str, input: &Input<'_>) -> Option<Mapped> {
    let to = input.new_key.and_then(|key| row_key(link, key).ok())?;
    let (cid, none) = (cid.to_owned(), Fields::new);
    (to != *row && is_of_log(input)).then(|| Mapped {
        was: Some(row.clone()),
        mark: None,
        ..said(link, input, cid, to, RowOp::Seen, none(), none())
    })
}

/// Whether nothing was read of the key that the row moves from. Most likely it was made under it just before, and has
/// then the entity of that key at first sight, whoever reads it there.
fn is_of_unread(known: &Known, input: &Input<'_>) -> bool {
    let left_at = Some(end_of_old_key(input.position));
    let by_nobody = |was: &Crosswalk| was.cid.is_empty() && was.left_at == left_at;
    is_of_log(input) && known.was.as_ref().is_none_or(by_nobody)
}

/// Whether the row comes from another key and is seen under this one for the first time.
fn takes_key(address: &Address, known: &Known, position: Position) -> bool {
    address.was.is_some() && !known.is_since(position)
}

/// Where the row ended under its old key: one change before it began under its new one. Debezium gives both one LSN.
fn end_of_old_key(position: Position) -> Position {
    Position {
        ordinal: position.ordinal.saturating_sub(1),
        ..position
    }
}

/// Whether positions in two partitions of the topic can be compared. Without an LSN they are offsets, each of its partition.
fn is_of_log(input: &Input<'_>) -> bool {
    input.position.epoch > 0 || input.event.source.lsn.is_some()
}

/// Whether other rows have had the old key since this one left it. Where positions cannot be compared, one that was taken and
/// not left may belong to another.
fn is_taken(was: &Crosswalk, input: &Input<'_>) -> bool {
    match is_of_log(input) {
        true => was.taken_after(input.position),
        false => was.since.is_some() && was.left_at.is_none(),
    }
}

fn crosswalk_changes(
    link: &Link,
    input: &Input<'_>,
    address: &Address,
    cid: &str,
    known: &Known,
) -> Vec<(String, Crosswalk)> {
    let entry = |row, since| {
        let cid = cid.to_owned();
        let entry = Crosswalk {
            cid,
            left_at: None,
            since,
            known_ms: None,
        };
        (crosswalk_key(link, row), entry)
    };
    let position = input.position;
    let takes_key = takes_key(address, known, position);
    let since = match takes_key || known.left_at().is_some() {
        true => Some(position),
        false => known.row.as_ref().and_then(|entry| entry.since),
    };
    let new = (known.cid() != Some(cid) || takes_key).then(|| entry(&address.row, since));
    new.into_iter().collect()
}

fn said(link: &Link, input: &Input<'_>, cid: String, row: RowKey, op: RowOp, fields: Fields, before: Fields) -> Mapped {
    Mapped {
        cid,
        source: link.system.clone(),
        row,
        was: None,
        position: input.position,
        commit_us: input.commit_us,
        op,
        fields: field_values(fields),
        before: field_values(before),
        mark: input.mark.cloned(),
        ahead: input.ahead,
    }
}

/// The fields that are known, in the order of names.
fn field_values(fields: Fields) -> Vec<FieldValue> {
    let known = |(name, value): (String, Option<_>)| value.map(|value| FieldValue { name, value });
    fields.into_iter().filter_map(known).collect()
}

/// The key of `row`, in the order of the link's key columns.
pub fn row_key(link: &Link, row: &Row) -> Result<RowKey, Refusal> {
    let column = |name: &String| match row.get(name) {
        Some(Cell::Set(value)) if !value.is_null() => Ok((name.clone(), value.clone())),
        Some(_) => Err(Refusal(format!("key column {name} is null or unknown"))),
        None => Err(Refusal(format!("there is no key column {name}"))),
    };
    let columns: Vec<_> = link.key.iter().map(column).collect::<Result<_, _>>()?;
    Ok(RowKey::new(columns.iter().map(|(name, value)| (name.as_str(), value))))
}

#[cfg(test)]
pub(crate) mod tests;
