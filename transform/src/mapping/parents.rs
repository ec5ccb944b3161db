//! Which entities a row refers to. Pure, and in two steps as mapping itself: [`wanted`] says which crosswalk entries are
//! needed, and what they come to is put into what is [`super::Known`].
//!
//! An app refers by the key that a row has *there*; the words of several apps about one parent are equal only as the
//! parent's entity id. Which id a key stood for is a matter of position: a key may have been left by one row and taken by
//! another since. Of a key that was taken only the last owner is known; a change from before that refers to nobody known.
//!
//! Whether a parent came in time is a matter of records, not of when they are read: the crosswalk says when Kafka had the
//! change that made the parent known, the child's record says when Kafka had the child. So a replay, to which every parent
//! is known at once, gives up the same children.

use std::collections::BTreeMap;

use syncline_schemas::codec::Crosswalk;
use syncline_schemas::envelope::Op;
use syncline_schemas::lens::{Fields, Row};
use syncline_schemas::pipeline::{Entity, Link, Parent};
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;

use super::{Input, Mapping, Refusal, crosswalk_key, is_of_log};

/// Header of a record that somebody sends again: when, milliseconds since 1970. It waits from then on.
pub const SENT_AGAIN: &str = "syncline.sent_again_ms";

/// The row after a change, or before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// What the app says now: it cannot be mapped without its parent.
    After,
    /// What it replaced: where its parent is not known, that is not known.
    Before,
}

/// A row that is referred to, to be looked up.
#[derive(Clone, Debug)]
pub struct Wanted<'p> {
    /// By which row.
    pub image: Image,
    /// How.
    pub parent: Parent<'p>,
    /// Its key in the crosswalk of its entity.
    pub key: String,
}

/// What a lookup came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The entity.
    Entity(String),
    /// The row was not known when the time for it was up, but it is now.
    TooLate,
    /// Nobody knows the row yet.
    Nobody,
}

/// The entities that a change refers to, by field; none where nobody knows which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    after: BTreeMap<String, Option<String>>,
    before: BTreeMap<String, Option<String>>,
}

impl References {
    /// Notes what one lookup came to.
    pub fn note(&mut self, wanted: &Wanted<'_>, cid: Option<String>) {
        let image = match wanted.image {
            Image::After => &mut self.after,
            Image::Before => &mut self.before,
        };
        image.insert(wanted.parent.reference.field.clone(), cid);
    }

    pub(super) fn after(&self, fields: &mut Fields) {
        translate(&self.after, fields);
    }

    pub(super) fn before(&self, fields: &mut Fields) {
        translate(&self.before, fields);
    }
}

/// The app's keys make way for entity ids.
fn translate(cids: &BTreeMap<String, Option<String>>, fields: &mut Fields) {
    for (field, cid) in cids {
        if let Some(value) = fields.get_mut(field) {
            *value = cid.clone().map(Value::Text);
        }
    }
}

/// The rows that a change refers to, by the link's fields that are read. A null refers to none.
pub fn wanted<'p>(link: &Link, parents: &[Parent<'p>], input: &Input<'_>) -> Vec<Wanted<'p>> {
    let is_read = |parent: &&Parent<'p>| link.field(&parent.reference.field).is_some_and(|field| field.reads);
    let of = |image: Image, row: &Row| -> Vec<Wanted<'p>> {
        let named = parents
            .iter()
            .filter(is_read)
            .filter_map(|parent| Some((*parent, parent.row(row)??)));
        named
            .map(|(parent, key)| Wanted {
                image,
                parent,
                key: crosswalk_key(parent.link, &key),
            })
            .collect()
    };
    let after = input.event.after.as_ref().filter(|_| input.event.op != Op::Delete);
    let before = input.event.before.as_ref().filter(|_| input.event.op == Op::Update);
    let after = after.map(|row| of(Image::After, row)).unwrap_or_default();
    after
        .into_iter()
        .chain(before.map(|row| of(Image::Before, row)).unwrap_or_default())
        .collect()
}

/// What the crosswalk's entry means to a change that waits until `due_ms`. A key that was left by nobody known stands for
/// nobody.
pub fn found(wanted: &Wanted<'_>, entry: Option<&Crosswalk>, input: &Input<'_>, due_ms: i64) -> Found {
    let entry = entry.filter(|entry| !entry.cid.is_empty());
    let meant = entry.filter(|entry| !is_of_log(input) || is_meant(entry, wanted.image, input.position));
    match meant {
        None => Found::Nobody,
        Some(entry) if entry.known_ms.is_some_and(|known_ms| known_ms > due_ms) => Found::TooLate,
        Some(entry) => Found::Entity(entry.cid.clone()),
    }
}

/// Whether the key's owner is the one that a change at this position refers to. Constraints may be deferred, so that a
/// transaction refers to a key before it gives it to a row.
fn is_meant(entry: &Crosswalk, image: Image, at: Position) -> bool {
    let one_commit = |other: Position| (at.epoch, at.lsn) == (other.epoch, other.lsn);
    let is_taken = entry.since.is_none_or(|since| at >= since || one_commit(since));
    let is_there = image == Image::Before || entry.left_at.is_none_or(|left_at| at <= left_at);
    is_taken && is_there
}

/// Of two copies of an entry, one perhaps read later than the other, or of two partitions' parts of it, the one that knows
/// more.
pub fn newer(left: Crosswalk, right: Crosswalk) -> Crosswalk {
    let told = |entry: &Crosswalk| (entry.since.max(entry.left_at), !entry.cid.is_empty());
    if told(&right) > told(&left) { right } else { left }
}

/// Refuses a row that refers to nothing where it has to.
pub(super) fn refuse_null(entity: &Entity, fields: &Fields) -> Result<(), Refusal> {
    let is_null = |field: &str| matches!(fields.get(field), Some(Some(Value::Null)));
    let refused = entity
        .references
        .iter()
        .find(|reference| !reference.may_be_null() && is_null(&reference.field));
    refused.map_or(Ok(()), |reference| {
        let (field, entity) = (&reference.field, &reference.entity);
        Err(Refusal(format!("{field}: is null, and a {entity} is required")))
    })
}

impl Mapping {
    /// The same, the row being known from here on, unless it was known before.
    #[must_use]
    pub fn known_at(mut self, known_ms: Option<i64>) -> Self {
        if let Mapping::Said { crosswalk, .. } = &mut self {
            let taken = crosswalk.iter_mut().filter(|(_, entry)| entry.left_at.is_none());
            taken.for_each(|(_, entry)| entry.known_ms = known_ms);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use syncline_schemas::position::Lsn;

    use super::*;

    fn at(lsn: u64, ordinal: u64) -> Position {
        Position::new(1, Lsn(lsn), ordinal)
    }

    fn entry(left_at: Option<Position>, since: Option<Position>) -> Crosswalk {
        Crosswalk {
            cid: "c".to_owned(),
            left_at,
            since,
            known_ms: None,
        }
    }

    #[test]
    fn a_key_stands_for_the_row_that_had_it_then() {
        let of = |entry: &Crosswalk, lsn, ordinal| is_meant(entry, Image::After, at(lsn, ordinal));
        assert!(of(&entry(None, None), 1, 0));
        let left = entry(Some(at(5, 1)), None);
        assert!(of(&left, 4, 0) && of(&left, 5, 1), "as long as the row had it");
        assert!(
            !of(&left, 5, 2) && !of(&left, 9, 0),
            "whoever has it now is not known yet"
        );
        assert!(
            is_meant(&left, Image::Before, at(9, 0)),
            "what was replaced may be the row that left"
        );
        let taken = entry(None, Some(at(7, 3)));
        assert!(of(&taken, 7, 3) && of(&taken, 8, 0));
        assert!(of(&taken, 7, 0), "a constraint that is deferred");
        assert!(!of(&taken, 6, 9), "somebody else had it");
    }

    #[test]
    fn the_copy_that_knows_more_counts() {
        let (old, left) = (entry(None, None), entry(Some(at(5, 0)), None));
        assert_eq!(newer(old.clone(), left.clone()), left);
        assert_eq!(newer(left.clone(), old), left);
    }
}
