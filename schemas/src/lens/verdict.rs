//! What a `rule` says of a conflict: an expression that ends in `accept()`, `refuse()`, `set(v)` or `hold('why')`, and a
//! condition (`check`) that is met or not.

use super::eval::{Cells, eval};
use super::expr::Expr;
use super::operator::truth;
use crate::value::Value;

/// How a rule ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `accept()`: the word examined holds.
    Accept,
    /// `refuse()`: what held before still does.
    Refuse,
    /// `set(v)`: neither, but this.
    Set(Box<Expr>),
    /// `hold('why')`: a person decides.
    Hold(String),
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The word examined holds.
    Accept,
    /// What held before still does.
    Refuse,
    /// This holds.
    Set(Value),
    /// A person decides, for this reason.
    Hold(String),
}

/// Follows the conditions of a rule to its end. A condition that is nothing is not met.
pub fn judge(rule: &Expr, cells: Cells<'_, '_>) -> Result<Verdict, String> {
    match rule {
        Expr::Choice(parts) => {
            let [condition, met, unmet] = parts.as_ref();
            let value = eval(condition, cells)?.unwrap_or_default();
            judge(if truth(&value)? == Some(true) { met } else { unmet }, cells)
        }
        Expr::Ending(Ending::Accept) => Ok(Verdict::Accept),
        Expr::Ending(Ending::Refuse) => Ok(Verdict::Refuse),
        Expr::Ending(Ending::Hold(why)) => Ok(Verdict::Hold(why.clone())),
        Expr::Ending(Ending::Set(value)) => Ok(Verdict::Set(eval(value, cells)?.unwrap_or_default())),
        _ => Err("the rule ends without a verdict".to_owned()),
    }
}

/// Whether a condition is met, and does decide something.
pub fn is_so(condition: &Expr, cells: Cells<'_, '_>) -> Result<bool, String> {
    let value = eval(condition, cells)?.unwrap_or_default();
    Ok(truth(&value)? == Some(true))
}

/// Whether a condition is met, or decides nothing, as a CHECK of SQL that is null.
pub fn is_met(check: &Expr, cells: Cells<'_, '_>) -> Result<bool, String> {
    let value = eval(check, cells)?.unwrap_or_default();
    Ok(truth(&value)? != Some(false))
}
