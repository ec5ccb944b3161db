//! What the catalogue says of a table: the facts that neither the log nor a snapshot row carries.
//!
//! It reads and describes; it judges nothing (see `setup.rs`) and knows no Avro.

use crate::postgres::pgoutput::ReplicaIdentity;

/// A table, as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Object id.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub table: String,
    /// Its columns that exist (dropped ones are left out), in the order of their numbers.
    pub columns: Vec<ColumnInfo>,
    /// Names of the primary key's columns, in the order of the key. Empty if there is none.
    pub primary_key: Vec<String>,
    /// What the log holds of an old row.
    pub identity: ReplicaIdentity,
    /// Names of the columns of the replica identity: of the primary key, or of the chosen index; empty for full and nothing.
    pub identity_columns: Vec<String>,
    /// A partitioned table (its rows live in partitions).
    pub partitioned: bool,
    /// A partition of another table.
    pub partition: bool,
    /// The planner's estimate of the number of rows; `None` if the table was never analysed.
    pub rows_estimate: Option<u64>,
}

impl TableInfo {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnInfo> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A column, as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its number in the table: its identity through renames.
    pub number: i16,
    /// Name.
    pub name: String,
    /// Its type, as declared.
    pub type_info: TypeInfo,
    /// Type modifier of the declaration, -1 if none. Of a domain: the domain's own.
    pub type_modifier: i32,
    /// `NOT NULL` (or a primary key, or a domain that says so).
    pub not_null: bool,
    /// Text of the default expression as `pg_get_expr` gives it, if there is one and the column is not generated.
    pub default: Option<String>,
    /// That expression is a literal (perhaps with a cast) and not computed at insert.
    pub default_is_literal: bool,
    /// `GENERATED ALWAYS AS (..)`: not in the log before PostgreSQL 18.
    pub generated: bool,
    /// `GENERATED .. AS IDENTITY`.
    pub identity: bool,
}

/// A type: of a column, of an array's elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// Object id. Of a domain: that of the type at the bottom of it.
    pub oid: u32,
    /// Schema, as `oid`.
    pub schema: String,
    /// Name (`int4`, `_text`, `mood`), as `oid`.
    pub name: String,
    /// Name of the domain that the column is declared with, `schema.name`, if it is one.
    pub domain: Option<String>,
    /// What sort of type it is.
    pub kind: TypeKind,
}

/// Sorts of type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// A base type.
    Base,
    /// An enum, with its labels in order.
    Enum(Vec<String>),
    /// An array, with the type of its elements.
    Array(Box<TypeInfo>),
    /// A row type.
    Composite,
    /// A range or multirange.
    Range,
    /// Anything else.
    Other,
}
