//! Which kind of value an expression gives, as far as it can be told without the table.

use super::expr::Expr;
use crate::pipeline::FieldKind;
use crate::value::Value;

/// What an expression gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    Anything,
    Text,
    Number,
    List,
}

/// Whether `expr` can give a `kind`; if not, why.
pub(crate) fn gives(expr: &Expr, kind: FieldKind) -> Result<(), String> {
    match (of(expr)?, kind) {
        (Gives::Anything, _) | (Gives::List, FieldKind::List(_)) => Ok(()),
        (Gives::List, _) => Err(format!("the expression gives a list, the field holds a {kind}")),
        (_, FieldKind::List(_)) => Err("the expression gives a single value, the field holds a list".to_owned()),
        (Gives::Number, FieldKind::Bool | FieldKind::Date | FieldKind::Timestamp) => {
            Err(format!("the expression gives a number, the field holds a {kind}"))
        }
        _ => Ok(()),
    }
}

fn of(expr: &Expr) -> Result<Gives, String> {
    match expr {
        Expr::Name(_) => Ok(Gives::Anything),
        Expr::Literal(Value::Number(_)) => Ok(Gives::Number),
        Expr::Literal(_) => Ok(Gives::Text),
        Expr::Trim(inner) => single(inner, "trim", Gives::Text),
        Expr::Lower(inner) => single(inner, "lower", Gives::Text),
        Expr::Word(inner, _) => single(inner, "word", Gives::Text),
        Expr::Rest(inner) => single(inner, "rest", Gives::Text),
        Expr::Enum(inner, _) => single(inner, "enum", Gives::Text),
        Expr::Split(inner, _) => single(inner, "split", Gives::List),
        Expr::Scale(inner, _) | Expr::Unscale(inner, _) => single(inner, "scale", Gives::Number),
        Expr::Default(inner, _) => single(inner, "default", of(inner)?),
        Expr::NullIf(inner, _) => single(inner, "null_if", of(inner)?),
        Expr::Join(_, parts) => joined(parts),
    }
}

fn single(inner: &Expr, function: &str, gives: Gives) -> Result<Gives, String> {
    match of(inner)? {
        Gives::List => Err(format!("`{function}` works on a single value and is given a list")),
        _ => Ok(gives),
    }
}

fn joined(parts: &[Expr]) -> Result<Gives, String> {
    for part in parts {
        if of(part)? == Gives::List && parts.len() > 1 {
            return Err("`join` takes one list, or single values".to_owned());
        }
    }
    Ok(Gives::Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::ElementKind;

    #[test]
    fn what_cannot_fit_is_found_without_a_row() {
        let (list, number) = (FieldKind::List(ElementKind::Text), FieldKind::Number { scale: None });
        for (expr, kind, fits) in [
            ("a", list, true),
            ("split(a, ';')", list, true),
            ("split(a, ';')", FieldKind::Text, false),
            ("trim(a)", list, false),
            ("trim(a)", number, true),
            ("scale(a, 2)", number, true),
            ("scale(a, 2)", FieldKind::Text, true),
            ("scale(a, 2)", FieldKind::Date, false),
            ("trim(split(a, ';'))", FieldKind::Text, false),
            ("join(',', split(a, ';'))", FieldKind::Text, true),
            ("join(',', split(a, ';'), b)", FieldKind::Text, false),
        ] {
            assert_eq!(gives(&expr.parse().unwrap(), kind).is_ok(), fits, "{expr} {kind}");
        }
    }
}
