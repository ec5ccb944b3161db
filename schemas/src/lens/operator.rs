//! Operators: comparisons, arithmetic, `&& || !`, and `condition ? a : b`.
//!
//! As in SQL, nothing compared with or added to nothing is nothing, and a condition that is nothing decides nothing. Work is
//! bounded: an expression has at most so many words ([`super::parse`]), a result so many digits, and there are no loops.

use std::fmt;

use super::eval::{Cells, Outcome, as_number, eval};
use super::expr::Expr;
use crate::value::{Number, Value};

/// Digits of a result; more come from multiplying by mistake.
const DIGITS_MAX: u64 = 1_000;

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`, to 34 digits
    Over,
}

impl Operator {
    /// All of them, as they are written.
    pub(super) const ALL: [(&'static str, Operator); 12] = [
        ("||", Operator::Or),
        ("&&", Operator::And),
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
        ("<", Operator::Less),
        ("<=", Operator::AtMost),
        (">", Operator::Greater),
        (">=", Operator::AtLeast),
        ("+", Operator::Plus),
        ("-", Operator::Minus),
        ("*", Operator::Times),
        ("/", Operator::Over),
    ];

    /// Whether it compares; what it gives is no operand of another comparison.
    pub(super) fn compares(self) -> bool {
        self.strength() == 3
    }

    /// How strongly it binds.
    pub(super) fn strength(self) -> u8 {
        match self {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::Equal
            | Operator::Unequal
            | Operator::Less
            | Operator::AtMost
            | Operator::Greater
            | Operator::AtLeast => 3,
            Operator::Plus | Operator::Minus => 4,
            Operator::Times | Operator::Over => 5,
        }
    }
}

/// As it is written.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = Operator::ALL.iter().find(|(_, operator)| operator == self);
        f.write_str(written.map_or("", |(text, _)| text))
    }
}

/// `left operator right`
pub(super) fn binary<'a>(operator: Operator, left: &Expr, right: &Expr, cells: Cells<'_, 'a>) -> Outcome {
    let (Some(left), Some(right)) = (eval(left, cells)?, eval(right, cells)?) else {
        return Ok(None);
    };
    match operator {
        Operator::Or => either(&left, &right, true),
        Operator::And => either(&left, &right, false),
        Operator::Equal => Ok(Value::Bool(same(&left, &right))),
        Operator::Unequal => Ok(Value::Bool(!same(&left, &right))),
        _ if left.is_null() || right.is_null() => Ok(Value::Null),
        Operator::Less => order(&left, &right).map(|order| Value::Bool(order.is_lt())),
        Operator::AtMost => order(&left, &right).map(|order| Value::Bool(order.is_le())),
        Operator::Greater => order(&left, &right).map(|order| Value::Bool(order.is_gt())),
        Operator::AtLeast => order(&left, &right).map(|order| Value::Bool(order.is_ge())),
        Operator::Plus | Operator::Minus | Operator::Times | Operator::Over => {
            calculate(operator, &as_number(&left)?, &as_number(&right)?).map(Value::Number)
        }
    }
    .map(Some)
}

/// `!inner`
pub(super) fn not<'a>(inner: &Expr, cells: Cells<'_, 'a>) -> Outcome {
    Ok(match eval(inner, cells)? {
        Some(value) => Some(truth(&value)?.map_or(Value::Null, |truth| Value::Bool(!truth))),
        None => None,
    })
}

/// Whether a condition holds; none if it is nothing.
pub(super) fn truth(value: &Value) -> Result<Option<bool>, String> {
    match value {
        Value::Bool(truth) => Ok(Some(*truth)),
        Value::Null => Ok(None),
        _ => Err("there is no condition where one is needed".to_owned()),
    }
}

/// One side that is `decisive` decides, whatever the other is.
fn either(left: &Value, right: &Value, decisive: bool) -> Result<Value, String> {
    let (left, right) = (truth(left)?, truth(right)?);
    Ok(match (left, right) {
        _ if left == Some(decisive) || right == Some(decisive) => Value::Bool(decisive),
        (None, _) | (_, None) => Value::Null,
        _ => Value::Bool(!decisive),
    })
}

/// A number in a text column is that number.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Text(_)) | (Value::Text(_), Value::Number(_)) => {
            matches!((as_number(left), as_number(right)), (Ok(left), Ok(right)) if left == right)
        }
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Result<std::cmp::Ordering, String> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Ok(left.cmp(right)),
        _ => Ok(as_number(left)?.cmp(&as_number(right)?)),
    }
}

fn calculate(operator: Operator, left: &Number, right: &Number) -> Result<Number, String> {
    let result = match operator {
        Operator::Plus => left + right,
        Operator::Minus => left - right,
        Operator::Times => left * right,
        _ => left.over(right).ok_or("a division by zero")?,
    };
    if result.to_decimal().digits() > DIGITS_MAX {
        return Err(format!("a result of more than {DIGITS_MAX} digits"));
    }
    Ok(result)
}
