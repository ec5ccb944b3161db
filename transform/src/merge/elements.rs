//! An observed-remove set for one app's row: where each element was added, and where it was removed having seen what.
//!
//! A removal takes only the additions its editor had seen: its own, those that marks had brought, and those that were
//! there when everything was first read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Value;

use super::mutant::breaks;
use super::packed::{Packed, Packer, Unpacker, Unreadable, packed};
use super::word::Notice;

/// What one app's row did to each element, its own doing only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Elements(BTreeMap<Value, Element>);

/// What one app's row did to one element.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Element {
    added: Option<Added>,
    removed: Option<Removed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Added {
    position: Position,
    initial: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Removed {
    position: Position,
    seen: Vector,
}

packed!(Element { 0 added, 1 removed });
packed!(Added { 0 position, 1 initial });
packed!(Removed { 0 position, 1 seen });

impl Packed for Elements {
    fn is_unset(&self) -> bool {
        self.0.is_empty()
    }

    fn unset() -> Self {
        Self::default()
    }

    fn pack(&self, out: &mut Packer) {
        self.0.pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        Packed::unpack(from).map(Self)
    }
}

/// The elements of a value: of a list its members, of null none.
pub fn members(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::List(members)) => members,
        _ => &[],
    }
}

impl Elements {
    /// The app's row went from `old` to `new`, by its own doing, at `position`, having seen `seen`.
    pub fn edit(&mut self, old: Option<&Value>, new: &Value, position: Position, seen: &Vector, initial: bool) {
        let (old, new) = (members(old), members(Some(new)));
        for element in new.iter().filter(|element| !old.contains(element)) {
            self.0.entry(element.clone()).or_default().added = Some(Added { position, initial });
        }
        for element in old.iter().filter(|element| !new.contains(element)) {
            self.0.entry(element.clone()).or_default().removed = Some(Removed {
                position,
                seen: seen.clone(),
            });
        }
    }

    /// Shows what each removal had seen, to be changed.
    pub fn each_seen(&mut self, mut change: impl FnMut(&mut Vector)) {
        for removed in self.0.values_mut().filter_map(|element| element.removed.as_mut()) {
            change(&mut removed.seen);
        }
    }

    /// Takes in a notice that stood before a removal and was read after it.
    pub fn notice(&mut self, notice: &Notice) {
        for removed in self.0.values_mut().filter_map(|element| element.removed.as_mut()) {
            if notice.position <= removed.position {
                removed.seen.join(&notice.vector);
            }
        }
    }
}

/// One app's side of a set, for [`unite`].
pub struct Side<'a> {
    /// The app.
    pub source: &'a str,
    /// What it did.
    pub elements: &'a Elements,
    /// What it held when first read.
    pub first: Option<&'a Value>,
}

/// The elements that somebody added and nobody who had seen that addition removed.
pub fn unite(sides: &[Side<'_>]) -> Value {
    let live = |side: &Side<'_>, name: &Value, element: &Element| {
        element
            .added
            .as_ref()
            .is_some_and(|added| !sides.iter().any(|other| takes(other, side.source, name, added)))
    };
    let standing = sides
        .iter()
        .flat_map(|side| side.elements.0.iter().map(move |(name, element)| (side, name, element)))
        .filter(|(side, name, element)| live(side, name, element))
        .map(|(_, name, _)| name.clone());
    Value::set(standing)
}

/// Whether a removal by `side` takes what `source` added.
fn takes(side: &Side<'_>, source: &str, name: &Value, added: &Added) -> bool {
    let Some(removed) = side.elements.0.get(name).and_then(|element| element.removed.as_ref()) else {
        return false;
    };
    if breaks("removal-takes-what-it-saw") {
        return true;
    }
    if side.source == source {
        return removed.position > added.position;
    }
    removed.seen.covers(source, added.position) || (added.initial && members(side.first).contains(name))
}
