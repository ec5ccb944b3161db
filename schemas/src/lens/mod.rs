//! Between the columns of an app's table and the fields of an entity: pure, and the same code for both ways.
//!
//! The same expressions are the language of rules and checks ([`judge`], [`is_met`]): one grammar, in the head of `parse`.
//! A language from outside (VRL was weighed) would have brought 262 crates and ten times the build for the sake of the
//! two dozen functions that business rules need; it could not have been inverted for two-way mappings, and then there
//! would have been two languages. This one is total, its work is bounded by the length of the text, and it has no clock.
//!
//! Map reads rows with [`get`]; the sink looks at a row with [`current`] and writes with [`put`]. What is written comes
//! back as it was, or is not written at all: a mapping that loses something would look like an edit in this app and
//! overwrite the others. The pipeline file is refused if that shows on ordinary values ([`law`]); what is left (white
//! space around a name, say) [`put`] finds by reading its own columns before it gives them out.

use std::collections::BTreeMap;

use crate::pipeline::{FieldKind, Link, LinkField};
use crate::value::Value;

mod eval;
mod expr;
mod shape;

/// Comparisons, arithmetic, conditions.
mod operator;

/// What a rule says, and whether a condition is met.
mod verdict;

/// The text of an expression, and where it is wrong.
mod parse;

/// The words of an expression.
mod token;

/// A function and its arguments.
mod call;

/// Telephone numbers.
mod telephone;

/// From what reads a field to what writes it.
mod invert;

/// Which kind of value an expression gives.
mod types;

/// What rows are matched by.
mod key;

/// Whether what is written comes back, on sample values.
pub(crate) mod law;

pub use eval::Cells;
pub use expr::Expr;
pub(crate) use invert::invert;
pub use key::{is_invisible, key};
pub use operator::Operator;
pub use parse::ParseError;
pub use telephone::Region;
pub use types::{Gives, Names};
pub(crate) use types::{condition, gives, identifies, makes, rule};
pub use verdict::{Ending, Verdict, is_met, is_so, judge};

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// This value; SQL NULL is [`Value::Null`].
    Set(Value),
    /// Something large that the log did not repeat (unchanged TOAST): not known here.
    Unchanged,
}

/// A row: its columns by name.
pub type Row = BTreeMap<String, Cell>;

/// The fields that a row holds, by name. `None`: depends on a column that is not known here.
pub type Fields = BTreeMap<String, Option<Value>>;

/// A field that a row cannot give or an app cannot hold. The reason names columns and shows no values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct LensError {
    /// The field.
    pub field: String,
    /// Why not.
    pub reason: String,
}

/// What `row` says of the entity: the fields that the link listens to.
pub fn get(link: &Link, row: &Row) -> Result<Fields, LensError> {
    fields(link.fields.iter().filter(|mapped| mapped.reads), row)
}

/// What `row` holds of the fields that the link reads or writes: for the sink, which also looks where nobody listens. A
/// field with a `put` and no `get` is not among them.
pub fn current(link: &Link, row: &Row) -> Result<Fields, LensError> {
    fields(link.fields.iter(), row)
}

fn fields<'a>(mapped: impl Iterator<Item = &'a LinkField>, row: &Row) -> Result<Fields, LensError> {
    let readable = mapped.filter_map(|mapped| Some((mapped, mapped.get.as_ref()?)));
    readable
        .map(|(mapped, expr)| Ok((mapped.field.clone(), read(mapped, expr, row)?)))
        .collect()
}

fn read(mapped: &LinkField, expr: &Expr, row: &Row) -> Result<Option<Value>, LensError> {
    let outcome = eval::eval(expr, &|column| row.get(column));
    let shaped = outcome.and_then(|value| {
        value
            .map(|value| shape::shape(value, mapped.kind, mapped.set))
            .transpose()
    });
    shaped.map_err(|reason| mapped.error(reason))
}

/// The columns that make `field` hold `value`; an error if this app cannot hold exactly that.
pub fn put(link: &Link, field: &str, value: &Value) -> Result<Vec<(String, Value)>, LensError> {
    let mapped = link.field(field).filter(|mapped| mapped.writes());
    let Some(mapped) = mapped else {
        return Err(LensError {
            field: field.to_owned(),
            reason: format!("is not written to {}", link.name()),
        });
    };
    let value = shape::shape(value.clone(), mapped.kind, mapped.set).map_err(|reason| mapped.error(reason))?;
    let columns = mapped.columns_for(&value).map_err(|reason| mapped.error(reason))?;
    match mapped.comes_back(&columns).map_err(|reason| mapped.error(reason))? {
        Some(back) if back != value => Err(mapped.error("cannot be written here without losing part of it".to_owned())),
        _ => Ok(columns),
    }
}

/// The columns that a field which the link only reads had when it was `value`, or others from which just that is read;
/// none if there is no telling. Nobody wrote their `put` down or proved it on samples: it is found as that of a two-way
/// field is, and what it gives is read again.
pub fn kept(link: &Link, field: &str, value: &Value) -> Option<Vec<(String, Value)>> {
    let mapped = link.field(field).filter(|mapped| mapped.reads && !mapped.writes())?;
    let mapped = LinkField {
        put: vec![invert(mapped.get.as_ref()?, field)?],
        ..mapped.clone()
    };
    let columns = mapped.columns_for(value).ok()?;
    let back = mapped.comes_back(&columns).ok()??;
    (back == *value).then_some(columns)
}

/// `value` in the shape of a `kind`, or why it has none.
pub fn shaped(value: Value, kind: FieldKind) -> Result<Value, String> {
    shape::shape(value, kind, false)
}

/// What an expression over the one name `name` makes of its `value`, in the shape of a `kind`; or why it makes nothing.
pub fn made(expr: &Expr, name: &str, value: &Value, kind: FieldKind) -> Result<Value, String> {
    let cell = Cell::Set(value.clone());
    let look_up = |other: &str| (other == name).then_some(&cell);
    let made = eval::eval(expr, &look_up)?;
    shape::shape(made.unwrap_or_default(), kind, false)
}

impl LinkField {
    fn error(&self, reason: String) -> LensError {
        LensError {
            field: self.field.clone(),
            reason,
        }
    }

    /// What `put` writes for `value`, unchecked.
    fn columns_for(&self, value: &Value) -> Result<Vec<(String, Value)>, String> {
        let cell = Cell::Set(value.clone());
        let look_up = |name: &str| (name == self.field).then_some(&cell);
        let column = |(column, expr): &(String, Expr)| {
            let value = eval::eval(expr, &look_up)?;
            Ok((column.clone(), value.unwrap_or_default()))
        };
        self.put.iter().map(column).collect()
    }

    /// What `get` gives for these columns; none if it needs others too.
    fn comes_back(&self, columns: &[(String, Value)]) -> Result<Option<Value>, String> {
        let Some(get) = &self.get else { return Ok(None) };
        let row: Row = columns
            .iter()
            .map(|(column, value)| (column.clone(), Cell::Set(value.clone())))
            .collect();
        if !get.names().iter().all(|column| row.contains_key(*column)) {
            return Ok(None);
        }
        let value = eval::eval(get, &|column| row.get(column))?;
        value.map(|value| shape::shape(value, self.kind, self.set)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Direction, ElementKind, RuleRef};

    fn field(name: &str, kind: FieldKind, set: bool, get: &str, put: &[(&str, &str)]) -> LinkField {
        LinkField {
            field: name.to_owned(),
            kind,
            set,
            group: None,
            reads: true,
            get: Some(get.parse().unwrap()),
            put: put
                .iter()
                .map(|(column, expr)| ((*column).to_owned(), expr.parse().unwrap()))
                .collect(),
        }
    }

    fn crm() -> Link {
        let name = [("first", "word(name, 1)"), ("last", "rest(name)")];
        Link {
            system: "crm".to_owned(),
            schema: "public".to_owned(),
            table: "contacts".to_owned(),
            entity: "customer".to_owned(),
            direction: Direction::Both,
            key: vec!["contact_id".to_owned()],
            same_as: Vec::new(),
            fields: vec![
                field("name", FieldKind::Text, false, "join(' ', first, last)", &name),
                field(
                    "limit",
                    FieldKind::Number { scale: Some(2) },
                    false,
                    "scale(pence, 2)",
                    &[("pence", "scale(limit, -2)")],
                ),
                field(
                    "tags",
                    FieldKind::List(ElementKind::Text),
                    true,
                    "split(labels, ';')",
                    &[("labels", "join(';', tags)")],
                ),
                field("seen_at", FieldKind::Timestamp, false, "seen", &[]),
            ],
            mode: Default::default(),
            rule: RuleRef::default(),
        }
    }

    fn row(columns: &[(&str, Option<&str>)]) -> Row {
        let cell = |json: &Option<&str>| json.map_or(Cell::Unchanged, |json| Cell::Set(json.parse().unwrap()));
        columns
            .iter()
            .map(|(name, json)| ((*name).to_owned(), cell(json)))
            .collect()
    }

    #[test]
    fn a_row_gives_fields() {
        let row = row(&[
            ("first", Some("\"Ana\"")),
            ("last", Some("\"de la Cruz\"")),
            ("pence", Some("4005")),
            ("labels", Some("\"vip;churn-risk;vip\"")),
            ("seen", None),
        ]);
        let fields = get(&crm(), &row).unwrap();
        assert_eq!(fields["name"], Some("Ana de la Cruz".into()));
        assert_eq!(fields["limit"].as_ref().unwrap().to_string(), "40.05");
        assert_eq!(fields["tags"].as_ref().unwrap().to_string(), r#"["churn-risk","vip"]"#);
        assert_eq!(fields["seen_at"], None);
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = get(&crm(), &row(&[("first", Some("null"))])).unwrap_err();
        assert_eq!(error.to_string(), "name: the row has no column `last`");
    }

    #[test]
    fn what_is_written_comes_back() {
        let link = crm();
        let columns = put(&link, "name", &"Ana de la Cruz".into()).unwrap();
        assert_eq!(
            columns,
            [
                ("first".to_owned(), "Ana".into()),
                ("last".to_owned(), "de la Cruz".into())
            ]
        );
        assert_eq!(
            put(&link, "limit", &"40.05".parse().unwrap()).unwrap(),
            [("pence".to_owned(), 4005.into())]
        );
        let tags = Value::set(["vip".into(), "a".into()]);
        assert_eq!(
            put(&link, "tags", &tags).unwrap(),
            [("labels".to_owned(), "a;vip".into())]
        );
        assert_eq!(
            put(&link, "tags", &Value::Null).unwrap(),
            [("labels".to_owned(), "".into())]
        );
    }

    #[test]
    fn a_field_that_is_only_read_has_columns_where_its_reading_can_be_undone() {
        let mut link = crm();
        let number = FieldKind::Number { scale: Some(2) };
        link.fields = vec![
            field("points", FieldKind::Text, false, "score", &[]),
            field("limit", number, false, "scale(pence, 2)", &[]),
            field("name", FieldKind::Text, false, "join(' ', first, last)", &[]),
            field("code", FieldKind::Text, false, "lower(code)", &[]),
            field("email", FieldKind::Text, false, "mail", &[("mail", "email")]),
        ];
        let columns = |field: &str, value: &str| kept(&link, field, &value.parse().unwrap());
        assert_eq!(columns("points", "\"7\""), Some(vec![("score".to_owned(), "7".into())]));
        assert_eq!(columns("points", "null"), Some(vec![("score".to_owned(), Value::Null)]));
        assert_eq!(columns("limit", "40.05"), Some(vec![("pence".to_owned(), 4005.into())]));
        assert_eq!(columns("code", "\"a\""), Some(vec![("code".to_owned(), "a".into())]));
        assert_eq!(columns("code", "\"A\""), None, "lower() never gave that");
        assert_eq!(columns("name", "\"Ana de la Cruz\""), None);
        assert_eq!(columns("email", "\"a\""), None, "it is written anyway");
    }

    #[test]
    fn what_would_be_mangled_is_refused() {
        let link = crm();
        for (field, json) in [
            ("name", "\" x \""),
            ("name", "\"two  spaces\""),
            ("limit", "1.005"),
            ("tags", "[\"a;b\"]"),
            ("tags", "[\" a\"]"),
            ("tags", "\"a\""),
            ("seen_at", "\"2026-01-02T03:04:05Z\""),
            ("nothing", "1"),
        ] {
            let error = put(&link, field, &json.parse().unwrap()).unwrap_err();
            assert_eq!(error.field, field, "{json}");
        }
    }
}
