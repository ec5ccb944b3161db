//! `migrate`: what becomes of the fields of an older version of an entity.
//!
//! Words carry the names of fields, and states, mapped records, marks, decisions and the sink's books carry words; none of
//! them carries a version. None is needed: `--check` sees to it that a name means the same in all versions that have it, so
//! the name says in which terms a word was said. What was said under a name that the entity has still simply holds; a
//! field that was renamed or is kept in another way has another name now, and a [`Lift`] says what is made of it.
//!
//! A newer field is made of one older field and of no more. A word is what somebody said, where, when, and having seen
//! whom: of `first` and `last`, said at different times by different people, a word on `full_name` would have none of
//! these, and which of two such had seen the other could not be told.

use std::collections::BTreeSet;

use super::model::{Entity, FieldKind};
use crate::lens::{self, Expr};
use crate::value::Value;

/// From the older versions of an entity to the one that the file has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// The oldest version that it begins with; none if the file says nothing of any.
    pub since: Option<u32>,
    /// What becomes of older fields, those of older versions first.
    pub lifts: Vec<Lift>,
}

/// What becomes of an older field that the next version has no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lift {
    /// The older field.
    pub from: String,
    /// The fields of the next version that are made of it.
    pub into: Vec<Made>,
    /// Those, and all that is made of them in later versions.
    pub later: BTreeSet<String>,
}

/// A field that is made of an older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The field.
    pub field: String,
    /// What it holds.
    pub kind: FieldKind,
    /// How, over the older name; none if it is the same under another name.
    pub by: Option<Expr>,
}

impl Lift {
    /// What `value` of the older field is in the newer; none if nothing can be made of it.
    pub fn value(&self, made: &Made, value: &Value) -> Option<Value> {
        match &made.by {
            None => Some(value.clone()),
            Some(expr) => lens::made(expr, &self.from, value, made.kind).ok(),
        }
    }
}

impl Entity {
    /// Whether edits of a field are guarded, or those of what is made of it.
    pub fn is_guarded(&self, field: &str) -> bool {
        let guarded = |name: &str| self.field(name).is_some_and(|field| field.guard.is_some());
        let mut lifts = self.migrate.lifts.iter().filter(|lift| lift.from == field);
        guarded(field) || lifts.any(|lift| lift.later.iter().any(|name| guarded(name)))
    }
}
