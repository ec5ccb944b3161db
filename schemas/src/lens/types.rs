//! Which kind of value an expression gives, as far as it can be told without the table.

use std::fmt;

use super::expr::Expr;
use super::operator::Operator;
use super::verdict::Ending;
use crate::pipeline::FieldKind;
use crate::value::Value;

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// What only a row can tell.
    Anything,
    /// A text, a date or a time.
    Text,
    /// A number.
    Number,
    /// True or false.
    Truth,
    /// A list.
    List,
    /// How a rule ends.
    Verdict,
}

/// What a name stands for, or why it stands for nothing.
pub type Names<'n> = &'n dyn Fn(&str) -> Result<Gives, String>;

impl From<FieldKind> for Gives {
    fn from(kind: FieldKind) -> Self {
        match kind {
            FieldKind::Text | FieldKind::Date | FieldKind::Timestamp => Gives::Text,
            FieldKind::Bool => Gives::Truth,
            FieldKind::Number { .. } => Gives::Number,
            FieldKind::List(_) => Gives::List,
        }
    }
}

/// As a message names it.
impl fmt::Display for Gives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gives::Anything => "anything",
            Gives::Text => "a text",
            Gives::Number => "a number",
            Gives::Truth => "true or false",
            Gives::List => "a list",
            Gives::Verdict => "a verdict",
        })
    }
}

/// Whether `expr` can give a `kind`; if not, why. What its columns hold is not known.
pub(crate) fn gives(expr: &Expr, kind: FieldKind) -> Result<(), String> {
    makes(expr, kind, &|_| Ok(Gives::Anything))
}

/// Whether `expr` can give a `kind` where the names are these; if not, why.
pub(crate) fn makes(expr: &Expr, kind: FieldKind, names: Names<'_>) -> Result<(), String> {
    let given = of(expr, names)?;
    match (given, kind) {
        (Gives::Anything, _) | (Gives::List, FieldKind::List(_)) => Ok(()),
        (Gives::Verdict, _) => Err("accept, refuse, set and hold are for `rule`".to_owned()),
        (Gives::List, _) => Err(format!("the expression gives a list, the field holds a {kind}")),
        (_, FieldKind::List(_)) => Err("the expression gives a single value, the field holds a list".to_owned()),
        (Gives::Number, FieldKind::Bool | FieldKind::Date | FieldKind::Timestamp) => {
            Err(format!("the expression gives a number, the field holds a {kind}"))
        }
        (Gives::Truth, FieldKind::Number { .. } | FieldKind::Date | FieldKind::Timestamp) => {
            Err(format!("the expression gives true or false, the field holds a {kind}"))
        }
        _ => Ok(()),
    }
}

/// Whether `expr` is a condition on what `names` has; if not, why.
pub(crate) fn condition(expr: &Expr, names: Names<'_>) -> Result<(), String> {
    match of(expr, names)? {
        Gives::Truth => Ok(()),
        other => Err(format!("a condition is needed, `{expr}` gives {other}")),
    }
}

/// Whether `expr` ends in a verdict whatever the conditions, and sets nothing but a `value`; if not, why.
pub(crate) fn rule(expr: &Expr, value: Gives, names: Names<'_>) -> Result<(), String> {
    match expr {
        Expr::Choice(parts) => {
            let [condition, met, unmet] = parts.as_ref();
            self::condition(condition, names)?;
            rule(met, value, names)?;
            rule(unmet, value, names)
        }
        Expr::Ending(Ending::Set(set)) => alike(of(set, names)?, value, expr).map(drop),
        Expr::Ending(_) => Ok(()),
        other => Err(format!(
            "a rule ends in accept(), refuse(), set(..) or hold('why'), not in `{other}`"
        )),
    }
}

/// Whether `expr` can be a part of what rows are matched by; if not, why.
pub(crate) fn identifies(expr: &Expr, names: Names<'_>) -> Result<(), String> {
    match of(expr, names)? {
        Gives::List => Err(format!("`{expr}` gives a list, and a list cannot identify an entity")),
        Gives::Truth => Err(format!(
            "`{expr}` gives true or false, which is the same of every other row"
        )),
        Gives::Verdict => Err("accept, refuse, set and hold are for `rule`".to_owned()),
        _ if expr.names().is_empty() => Err(format!("`{expr}` is the same of every row")),
        _ => Ok(()),
    }
}

fn of(expr: &Expr, names: Names<'_>) -> Result<Gives, String> {
    match expr {
        Expr::Name(name) => names(name),
        Expr::Literal(Value::Number(_)) => Ok(Gives::Number),
        Expr::Literal(Value::Bool(_)) => Ok(Gives::Truth),
        Expr::Literal(Value::Null) => Ok(Gives::Anything),
        Expr::Literal(_) => Ok(Gives::Text),
        Expr::Trim(inner) => single(inner, "trim", Gives::Text, names),
        Expr::Lower(inner) => single(inner, "lower", Gives::Text, names),
        Expr::Word(inner, _) => single(inner, "word", Gives::Text, names),
        Expr::Rest(inner) => single(inner, "rest", Gives::Text, names),
        Expr::Enum(inner, _) => single(inner, "enum", Gives::Text, names),
        Expr::E164(inner, _) => single(inner, "e164", Gives::Text, names),
        Expr::Split(inner, _) => single(inner, "split", Gives::List, names),
        Expr::Scale(inner, _) | Expr::Unscale(inner, _) => single(inner, "scale", Gives::Number, names),
        Expr::Default(inner, _) => single(inner, "default", of(inner, names)?, names),
        Expr::NullIf(inner, _) => single(inner, "null_if", of(inner, names)?, names),
        Expr::Join(_, parts) => joined(parts, names),
        Expr::Abs(inner) => needs(inner, Gives::Number, expr, names),
        Expr::Length(inner) => of(inner, names).map(|_| Gives::Number),
        Expr::Contains(whole, part) => {
            of(whole, names)?;
            single(part, "contains", Gives::Truth, names)
        }
        Expr::Not(inner) => needs(inner, Gives::Truth, expr, names),
        Expr::Binary(operator, parts) => binary(*operator, parts, expr, names),
        Expr::Choice(parts) => {
            let [condition, met, unmet] = parts.as_ref();
            needs(condition, Gives::Truth, expr, names)?;
            alike(of(met, names)?, of(unmet, names)?, expr)
        }
        Expr::Ending(_) => Ok(Gives::Verdict),
    }
}

fn binary(operator: Operator, parts: &[Expr; 2], whole: &Expr, names: Names<'_>) -> Result<Gives, String> {
    let [left, right] = parts;
    match operator {
        Operator::Or | Operator::And => {
            needs(left, Gives::Truth, whole, names)?;
            needs(right, Gives::Truth, whole, names)
        }
        Operator::Plus | Operator::Minus | Operator::Times | Operator::Over => {
            needs(left, Gives::Number, whole, names)?;
            needs(right, Gives::Number, whole, names)
        }
        Operator::Equal | Operator::Unequal => alike(of(left, names)?, of(right, names)?, whole).map(|_| Gives::Truth),
        Operator::Less | Operator::AtMost | Operator::Greater | Operator::AtLeast => {
            match alike(of(left, names)?, of(right, names)?, whole)? {
                Gives::Truth | Gives::List => Err(format!("`{whole}` compares what has no order")),
                _ => Ok(Gives::Truth),
            }
        }
    }
}

/// `gives`, if `inner` can be one.
fn needs(inner: &Expr, gives: Gives, whole: &Expr, names: Names<'_>) -> Result<Gives, String> {
    match of(inner, names)? {
        given if given == gives || given == Gives::Anything => Ok(gives),
        given => Err(format!("`{whole}` needs {gives}, `{inner}` gives {given}")),
    }
}

/// What two parts of an expression give, which must be the same.
fn alike(left: Gives, right: Gives, whole: &Expr) -> Result<Gives, String> {
    match (left, right) {
        (Gives::Verdict, _) | (_, Gives::Verdict) => Err(format!("`{whole}` uses a verdict as a value")),
        (Gives::Anything, other) | (other, Gives::Anything) => Ok(other),
        (left, right) if left == right => Ok(left),
        (left, right) => Err(format!("`{whole}` has {left} beside {right}")),
    }
}

fn single(inner: &Expr, function: &str, gives: Gives, names: Names<'_>) -> Result<Gives, String> {
    match of(inner, names)? {
        Gives::List => Err(format!("`{function}` works on a single value and is given a list")),
        Gives::Verdict => Err(format!("`{function}` works on a value and is given a verdict")),
        _ => Ok(gives),
    }
}

fn joined(parts: &[Expr], names: Names<'_>) -> Result<Gives, String> {
    for part in parts {
        if of(part, names)? == Gives::List && parts.len() > 1 {
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
            ("e164(a, 'GB')", list, false),
            ("e164(split(a, ';'), 'GB')", FieldKind::Text, false),
            ("trim(a)", number, true),
            ("scale(a, 2)", number, true),
            ("scale(a, 2)", FieldKind::Text, true),
            ("scale(a, 2)", FieldKind::Date, false),
            ("trim(split(a, ';'))", FieldKind::Text, false),
            ("join(',', split(a, ';'))", FieldKind::Text, true),
            ("join(',', split(a, ';'), b)", FieldKind::Text, false),
            ("a * 1.2", number, true),
            ("a * 1.2", FieldKind::Bool, false),
            ("a > 3", FieldKind::Bool, true),
            ("a > 3", number, false),
            ("a > 3 ? 'many' : 'few'", FieldKind::Text, true),
            ("a > 3 ? 'many' : 3", FieldKind::Text, false),
            ("a + 'x'", number, false),
            ("accept()", FieldKind::Text, false),
        ] {
            assert_eq!(gives(&expr.parse().unwrap(), kind).is_ok(), fits, "{expr} {kind}");
        }
    }

    #[test]
    fn rules_and_conditions_are_held_against_the_schema() {
        let names = |name: &str| match name {
            "price" | "canon" | "mine" => Ok(Gives::Number),
            "name" | "mine.app" => Ok(Gives::Text),
            "tags" => Ok(Gives::List),
            other => Err(format!("there is no `{other}`")),
        };
        for (text, reason) in [
            ("price >= 0 && price <= 100000", ""),
            ("length(name) > 0 || contains(tags, 'vip')", ""),
            ("price >= '0'", "has a number beside a text"),
            ("price", "a condition is needed"),
            ("tags > 3", "beside a number"),
            ("tags < tags", "no order"),
            ("prise > 3", "no `prise`"),
            ("!price", "needs true or false"),
            ("abs(name) > 1", "needs a number"),
        ] {
            let found = condition(&text.parse().unwrap(), &names).err().unwrap_or_default();
            assert!(
                found.contains(reason) && found.is_empty() == reason.is_empty(),
                "{text}: {found}"
            );
        }
        for (text, reason) in [
            ("mine < canon * 0.95 ? hold('cut > 5 %') : accept()", ""),
            (
                "mine.app == 'crm' ? set(canon) : mine > canon ? accept() : refuse()",
                "",
            ),
            ("mine < canon", "a rule ends in"),
            ("mine < canon ? accept() : 3", "a rule ends in"),
            ("set(name)", "has a text beside a number"),
            ("mine ? accept() : refuse()", "a condition is needed"),
        ] {
            let found = rule(&text.parse().unwrap(), Gives::Number, &names)
                .err()
                .unwrap_or_default();
            assert!(
                found.contains(reason) && found.is_empty() == reason.is_empty(),
                "{text}: {found}"
            );
        }
    }

    #[test]
    fn what_is_the_same_of_many_rows_identifies_none() {
        let names = |name: &str| -> Result<Gives, String> {
            Ok(match name {
                "tags" => Gives::List,
                "active" => Gives::Truth,
                _ => Gives::Text,
            })
        };
        for (text, reason) in [
            ("lower(email)", ""),
            ("country == 'GB' ? e164(phone, 'GB') : e164(phone, 'US')", ""),
            ("country == 'GB'", "gives true or false"),
            ("contains(email, '@')", "gives true or false"),
            ("!active", "gives true or false"),
            ("tags", "gives a list"),
            ("'everybody'", "is the same of every row"),
        ] {
            let found = identifies(&text.parse().unwrap(), &names).err().unwrap_or_default();
            assert!(
                found.contains(reason) && found.is_empty() == reason.is_empty(),
                "{text}: {found}"
            );
        }
    }
}
