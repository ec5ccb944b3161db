//! A compiled expression. Names are columns when a row is read, the field itself when it is written, and what is to be
//! judged in rules and checks.

use std::collections::BTreeSet;
use std::fmt;

use super::operator::Operator;
use super::telephone::Region;
use super::verdict::Ending;
use crate::value::Value;

/// An expression over names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A column (in a `get`) or the field (in a `put`).
    Name(String),
    /// A fixed text or number.
    Literal(Value),
    /// Without white space at both ends.
    Trim(Box<Expr>),
    /// In lower case.
    Lower(Box<Expr>),
    /// A text into a list, at each separator.
    Split(Box<Expr>, String),
    /// Texts or one list into a text, with a separator between; empty parts are left out.
    Join(String, Vec<Expr>),
    /// Minor units into units: divided by ten to the power.
    Scale(Box<Expr>, i64),
    /// Units into minor units: multiplied by ten to the power; refused if digits after the point remain.
    Unscale(Box<Expr>, i64),
    /// Null replaced by a fixed value.
    Default(Box<Expr>, Value),
    /// A fixed value replaced by null: for columns that hold an empty text where nothing is known.
    NullIf(Box<Expr>, Value),
    /// One code for another: (from, to), each read from the left.
    Enum(Box<Expr>, Vec<(String, String)>),
    /// The nth word, from 1; an empty text if there are fewer.
    Word(Box<Expr>, usize),
    /// All after the first word.
    Rest(Box<Expr>),
    /// A telephone number as it is dialled from anywhere, read as in this region; null if it is not certainly one.
    E164(Box<Expr>, Region),
    /// A number without its sign.
    Abs(Box<Expr>),
    /// Characters of a text, or elements of a list.
    Length(Box<Expr>),
    /// Whether a list has an element, or a text a part.
    Contains(Box<Expr>, Box<Expr>),
    /// `!condition`
    Not(Box<Expr>),
    /// `left operator right`
    Binary(Operator, Box<[Expr; 2]>),
    /// `condition ? met : unmet`
    Choice(Box<[Expr; 3]>),
    /// How a rule ends.
    Ending(Ending),
}

impl Expr {
    /// The column or field of that name, unchanged.
    pub fn name(name: impl Into<String>) -> Self {
        Expr::Name(name.into())
    }

    /// As an operand: in brackets where it has operators itself.
    fn operand(&self) -> String {
        match self {
            Expr::Binary(..) | Expr::Choice(_) => format!("({self})"),
            other => other.to_string(),
        }
    }

    /// Every name it depends on.
    pub fn names(&self) -> BTreeSet<&str> {
        match self {
            Expr::Name(name) => BTreeSet::from([name.as_str()]),
            other => other.parts().into_iter().flat_map(Expr::names).collect(),
        }
    }

    /// What it is put together from.
    pub(super) fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Name(_) | Expr::Literal(_) => Vec::new(),
            Expr::Join(_, parts) => parts.iter().collect(),
            Expr::Binary(_, parts) => parts.iter().collect(),
            Expr::Choice(parts) => parts.iter().collect(),
            Expr::Contains(whole, part) => vec![whole.as_ref(), part.as_ref()],
            Expr::Ending(Ending::Set(inner)) => vec![inner.as_ref()],
            Expr::Ending(_) => Vec::new(),
            Expr::Trim(inner)
            | Expr::Lower(inner)
            | Expr::Split(inner, _)
            | Expr::Scale(inner, _)
            | Expr::Unscale(inner, _)
            | Expr::Default(inner, _)
            | Expr::NullIf(inner, _)
            | Expr::Enum(inner, _)
            | Expr::Word(inner, _)
            | Expr::E164(inner, _)
            | Expr::Abs(inner)
            | Expr::Length(inner)
            | Expr::Not(inner)
            | Expr::Rest(inner) => vec![inner.as_ref()],
        }
    }
}

/// As in the file.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Name(name) => f.write_str(name),
            Expr::Literal(value) => f.write_str(&literal(value)),
            Expr::Trim(inner) => write!(f, "trim({inner})"),
            Expr::Lower(inner) => write!(f, "lower({inner})"),
            Expr::Split(inner, separator) => write!(f, "split({inner}, {})", quoted(separator)),
            Expr::Join(separator, parts) => {
                write!(f, "join({}", quoted(separator))?;
                parts.iter().try_for_each(|part| write!(f, ", {part}"))?;
                f.write_str(")")
            }
            Expr::Scale(inner, digits) => write!(f, "scale({inner}, {digits})"),
            Expr::Unscale(inner, digits) => write!(f, "scale({inner}, {})", -digits),
            Expr::Default(inner, value) => write!(f, "default({inner}, {})", literal(value)),
            Expr::NullIf(inner, value) => write!(f, "null_if({inner}, {})", literal(value)),
            Expr::Enum(inner, codes) => {
                write!(f, "enum({inner}")?;
                codes
                    .iter()
                    .try_for_each(|(from, to)| write!(f, ", {}", quoted(&format!("{from}={to}"))))?;
                f.write_str(")")
            }
            Expr::Word(inner, number) => write!(f, "word({inner}, {number})"),
            Expr::Rest(inner) => write!(f, "rest({inner})"),
            Expr::E164(inner, region) => write!(f, "e164({inner}, {})", quoted(region.name())),
            Expr::Abs(inner) => write!(f, "abs({inner})"),
            Expr::Length(inner) => write!(f, "length({inner})"),
            Expr::Contains(whole, part) => write!(f, "contains({whole}, {part})"),
            Expr::Not(inner) => write!(f, "!{}", inner.operand()),
            Expr::Binary(operator, parts) => {
                let [left, right] = parts.as_ref();
                write!(f, "{} {operator} {}", left.operand(), right.operand())
            }
            Expr::Choice(parts) => {
                let [condition, met, unmet] = parts.as_ref();
                write!(f, "{} ? {} : {}", condition.operand(), met.operand(), unmet.operand())
            }
            Expr::Ending(Ending::Accept) => f.write_str("accept()"),
            Expr::Ending(Ending::Refuse) => f.write_str("refuse()"),
            Expr::Ending(Ending::Set(value)) => write!(f, "set({value})"),
            Expr::Ending(Ending::Hold(why)) => write!(f, "hold({})", quoted(why)),
        }
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        value => value.to_string(),
    }
}

/// In single quotes, since the whole stands in double ones wherever YAML needs any.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
