//! Between the columns of an app's table and the fields of an entity: pure, and the same code for both ways.
//!
//! Map reads rows with [`get`]; the sink looks at a row with [`current`] and writes with [`put`].

use std::collections::BTreeMap;

use crate::pipeline::Link;
use crate::value::Value;

mod expr;

pub use expr::Expr;

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
pub fn get(_link: &Link, _row: &Row) -> Result<Fields, LensError> {
    Ok(Fields::new())
}

/// What `row` holds of the fields that the link reads or writes: for the sink, which also looks where nobody listens.
pub fn current(_link: &Link, _row: &Row) -> Result<Fields, LensError> {
    Ok(Fields::new())
}

/// The columns that make `field` hold `value`; an error if this app cannot hold exactly that.
pub fn put(_link: &Link, field: &str, _value: &Value) -> Result<Vec<(String, Value)>, LensError> {
    Err(LensError { field: field.to_owned(), reason: "is not written here".to_owned() })
}
