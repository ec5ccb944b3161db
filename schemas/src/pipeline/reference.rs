//! References: fields of an entity that name another entity, as `customer` of an order does.
//!
//! In an app such a field is a foreign key: a column with the key of the parent's row *there*. On topics it is the parent's
//! entity id, so that the words of several apps about one parent are equal, and the agreed record means the same to all.
//! Map translates from the one to the other and the sink back; both ask here which column that is and which link the
//! parent's rows of that app come by. Nothing here knows a crosswalk, books or time.

use super::model::{Entity, Link, Pipeline};
use super::rule::RuleRef;
use crate::lens::{Cell, Expr, Row};
use crate::mapped::RowKey;
use crate::value::Value;

/// How long a child waits for its parent if the file does not say, milliseconds.
pub const WAIT_DEFAULT_MS: i64 = 600_000;

/// A field that refers to an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field.
    pub field: String,
    /// The entity it refers to.
    pub entity: String,
    /// Whether it has to refer to one; else it may be null.
    pub required: bool,
    /// Whether a row is written without it where the parent's row is not there yet, and gets it later.
    pub deferred: bool,
    /// How long a child waits for its parent, milliseconds.
    pub wait_ms: i64,
    /// Where the file says so.
    pub rule: RuleRef,
}

/// A reference as one link has it.
#[derive(Clone, Copy, Debug)]
pub struct Parent<'p> {
    /// The reference.
    pub reference: &'p Reference,
    /// The column with the key of the parent's row.
    pub column: &'p str,
    /// The link of the same system that the parent's rows belong to. It has one key column.
    pub link: &'p Link,
}

impl Reference {
    /// Whether the field may be null without that being a mistake of the app.
    pub fn may_be_null(&self) -> bool {
        !self.required || self.deferred
    }
}

impl Entity {
    /// The reference that the field is, if it is one.
    pub fn reference(&self, field: &str) -> Option<&Reference> {
        self.references.iter().find(|reference| reference.field == field)
    }
}

impl Pipeline {
    /// The references among the fields of `link`, in the order of the file.
    pub fn parents<'p>(&'p self, link: &'p Link) -> Vec<Parent<'p>> {
        let references = self
            .entity(&link.entity)
            .into_iter()
            .flat_map(|entity| &entity.references);
        references
            .filter_map(|reference| self.parent(link, reference))
            .collect()
    }

    fn parent<'p>(&'p self, link: &'p Link, reference: &'p Reference) -> Option<Parent<'p>> {
        let Some(Expr::Name(column)) = &link.field(&reference.field)?.get else {
            return None;
        };
        let mut links = self.links_of(&reference.entity);
        Some(Parent {
            reference,
            column,
            link: links.find(|other| other.system == link.system)?,
        })
    }

    /// Whether `to` is reached from `from` by references, one at least; over those that `counts` says.
    pub fn leads_to(&self, from: &str, to: &str, counts: impl Fn(&Reference) -> bool) -> bool {
        let mut reached: Vec<&str> = Vec::new();
        let mut next = vec![from];
        while let Some(entity) = next.pop() {
            let references = self.entity(entity).into_iter().flat_map(|entity| &entity.references);
            for reference in references.filter(|reference| counts(reference)) {
                if reference.entity == to {
                    return true;
                }
                if !reached.contains(&reference.entity.as_str()) {
                    reached.push(&reference.entity);
                    next.push(&reference.entity);
                }
            }
        }
        false
    }

    /// How many references a row of `entity` may have to wait for, one after the other, before it can be written: parents
    /// come before their children. Deferred ones do not count.
    pub fn depth(&self, entity: &str) -> usize {
        self.depth_within(entity, self.entities.len())
    }

    /// Of a checked file no chain is longer than there are entities; the bound is for one that is not.
    fn depth_within(&self, entity: &str, left: usize) -> usize {
        let references = self.entity(entity).into_iter().flat_map(|entity| &entity.references);
        let waits = references.filter(|reference| !reference.deferred && left > 0);
        let depths = waits.map(|reference| 1 + self.depth_within(&reference.entity, left - 1));
        depths.max().unwrap_or(0)
    }

    /// Whether some other entity, or itself, refers to the entity.
    pub fn is_referred_to(&self, entity: &str) -> bool {
        self.referring(entity).next().is_some()
    }

    /// The entities that refer to `entity`, with how they do.
    pub fn referring<'p>(&'p self, entity: &'p str) -> impl Iterator<Item = (&'p Entity, &'p Reference)> + 'p {
        let each = |child: &'p Entity| child.references.iter().map(move |reference| (child, reference));
        self.entities
            .iter()
            .flat_map(each)
            .filter(move |(_, reference)| reference.entity == entity)
    }
}

impl Parent<'_> {
    /// The key of the parent's row in this app. None if the row does not say: the column is not there or unchanged.
    /// The inner none is a null.
    pub fn row(&self, row: &Row) -> Option<Option<RowKey>> {
        match row.get(self.column)? {
            Cell::Unchanged => None,
            Cell::Set(Value::Null) => Some(None),
            Cell::Set(value) => Some(Some(self.key(value))),
        }
    }

    /// The key of the parent's row whose only key column holds `value`.
    pub fn key(&self, value: &Value) -> RowKey {
        RowKey::new(self.link.key.iter().map(|column| (column.as_str(), value)))
    }

    /// What the column holds to refer to this row of the parent.
    pub fn value(&self, row: &RowKey) -> Option<Value> {
        let mut columns = row.columns()?;
        self.link.key.first().and_then(|column| columns.remove(column))
    }
}
