//! What an expression gives for a row. Nothing is guessed: what does not fit is an error that names no value.

use super::expr::Expr;
use super::{Cell, operator};
use crate::value::{Number, Value};

/// What an expression gives: `None` if it depends on a column that is not known here.
pub(super) type Outcome = Result<Option<Value>, String>;

/// Looks up a name.
pub type Cells<'c, 'a> = &'c dyn Fn(&str) -> Option<&'a Cell>;

/// Evaluates `expr`.
pub(super) fn eval<'a>(expr: &Expr, cell: Cells<'_, 'a>) -> Outcome {
    match expr {
        Expr::Name(name) => look_up(name, cell),
        Expr::Literal(value) => Ok(Some(value.clone())),
        Expr::Join(separator, parts) => join_parts(separator, parts, cell),
        Expr::Trim(inner) => text(inner, cell, |text| Ok(text.trim().to_owned())),
        Expr::Lower(inner) => text(inner, cell, |text| Ok(text.to_lowercase())),
        Expr::Word(inner, number) => text(inner, cell, |text| Ok(word(text, *number).to_owned())),
        Expr::Rest(inner) => text(inner, cell, |text| Ok(rest(text).to_owned())),
        Expr::Enum(inner, codes) => text(inner, cell, |text| code(text, codes)),
        Expr::Split(inner, separator) => known(inner, cell, |value| Ok(split(&as_text(&value)?, separator))),
        Expr::Scale(inner, digits) => known(inner, cell, |value| {
            Ok(Value::Number(as_number(&value)?.shift(-digits)))
        }),
        Expr::Unscale(inner, digits) => known(inner, cell, |value| unscale(&value, *digits)),
        Expr::Default(inner, default) => Ok(eval(inner, cell)?.map(|value| match value {
            Value::Null => default.clone(),
            value => value,
        })),
        Expr::E164(inner, region) => known(inner, cell, |value| {
            Ok(region.e164(&as_text(&value)?).map_or(Value::Null, Value::Text))
        }),
        Expr::Abs(inner) => known(inner, cell, |value| Ok(Value::Number(as_number(&value)?.abs()))),
        Expr::Length(inner) => known(inner, cell, |value| length(&value)),
        Expr::Contains(whole, part) => contains(whole, part, cell),
        Expr::Not(inner) => operator::not(inner, cell),
        Expr::Binary(operator, parts) => operator::binary(*operator, &parts[0], &parts[1], cell),
        Expr::Choice(parts) => {
            let [condition, met, unmet] = parts.as_ref();
            match eval(condition, cell)? {
                None => Ok(None),
                Some(value) if operator::truth(&value)? == Some(true) => eval(met, cell),
                Some(_) => eval(unmet, cell),
            }
        }
        Expr::Ending(_) => Err("a verdict where a value is needed".to_owned()),
        Expr::NullIf(inner, empty) => known(inner, cell, |value| {
            Ok(if value == *empty { Value::Null } else { value })
        }),
    }
}

fn look_up<'a>(name: &str, cell: &dyn Fn(&str) -> Option<&'a Cell>) -> Outcome {
    match cell(name) {
        Some(Cell::Set(value)) => Ok(Some(value.clone())),
        Some(Cell::Unchanged) => Ok(None),
        None => Err(format!("the row has no column `{name}`")),
    }
}

/// Null and unknown stay what they are.
fn known<'a>(
    inner: &Expr,
    cell: &dyn Fn(&str) -> Option<&'a Cell>,
    apply: impl FnOnce(Value) -> Result<Value, String>,
) -> Outcome {
    match eval(inner, cell)? {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(Value::Null)),
        Some(value) => apply(value).map(Some),
    }
}

fn text<'a>(
    inner: &Expr,
    cell: &dyn Fn(&str) -> Option<&'a Cell>,
    apply: impl FnOnce(&str) -> Result<String, String>,
) -> Outcome {
    known(inner, cell, |value| apply(&as_text(&value)?).map(Value::Text))
}

/// A value that has one spelling as text.
fn as_text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Err("there is nothing where a text is needed".to_owned()),
        Value::List(_) => Err("there is a list where a text is needed".to_owned()),
    }
}

pub(super) fn as_number(value: &Value) -> Result<Number, String> {
    let number = match value {
        Value::Number(number) => Some(number.clone()),
        Value::Text(text) => super::shape::number(text),
        _ => None,
    };
    number.ok_or_else(|| "there is no number where one is needed".to_owned())
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::List(elements) => elements.len(),
        value => as_text(value)?.chars().count(),
    };
    Ok(Value::from(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn contains<'a>(whole: &Expr, part: &Expr, cell: Cells<'_, 'a>) -> Outcome {
    let Some(part) = eval(part, cell)? else { return Ok(None) };
    known(whole, cell, |whole| match &whole {
        _ if part.is_null() => Ok(Value::Null),
        Value::List(elements) => Ok(Value::Bool(elements.contains(&part))),
        whole => Ok(Value::Bool(as_text(whole)?.contains(&as_text(&part)?))),
    })
}

/// The nth word from 1.
fn word(text: &str, number: usize) -> &str {
    text.split_whitespace()
        .nth(number.saturating_sub(1))
        .unwrap_or_default()
}

/// All behind the first word and the white space after it.
fn rest(text: &str) -> &str {
    text.trim_start()
        .split_once(char::is_whitespace)
        .map_or("", |(_, rest)| rest.trim_start())
}

fn code(text: &str, codes: &[(String, String)]) -> Result<String, String> {
    let found = codes.iter().find(|(from, _)| from == text);
    found
        .map(|(_, to)| to.clone())
        .ok_or_else(|| "the value is none of those that `enum` lists".to_owned())
}

/// Elements without white space around them; empty ones are left out.
fn split(text: &str, separator: &str) -> Value {
    let elements = text
        .split(separator)
        .map(str::trim)
        .filter(|element| !element.is_empty());
    Value::List(elements.map(Value::from).collect())
}

fn unscale(value: &Value, digits: i64) -> Result<Value, String> {
    let minor = as_number(value)?.shift(digits);
    match digits <= 0 || minor.is_integer() {
        true => Ok(Value::Number(minor)),
        false => Err(format!("the number has more than {digits} digits after the point")),
    }
}

fn join_parts<'a>(separator: &str, parts: &[Expr], cell: &dyn Fn(&str) -> Option<&'a Cell>) -> Outcome {
    let mut values = Vec::with_capacity(parts.len());
    for part in parts {
        match eval(part, cell)? {
            Some(value) => values.push(value),
            None => return Ok(None),
        }
    }
    if let [Value::List(elements)] = values.as_slice() {
        return join_list(separator, elements).map(Some);
    }
    if values.iter().all(Value::is_null) {
        return Ok(Some(Value::Null));
    }
    let texts = values
        .iter()
        .filter(|value| !value.is_null())
        .map(as_text)
        .collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    Ok(Some(Value::Text(texts.join(separator))))
}

/// The elements of a list, none of which may be taken for something else when it is split again.
fn join_list(separator: &str, elements: &[Value]) -> Result<Value, String> {
    let texts = elements.iter().map(as_text).collect::<Result<Vec<_>, _>>()?;
    for text in &texts {
        if text.contains(separator) {
            return Err(format!("an element contains the separator {separator:?}"));
        }
        if text.trim().is_empty() || text.trim() != text {
            return Err("an element is empty or has white space around it".to_owned());
        }
    }
    Ok(Value::Text(texts.join(separator)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(columns: &[(&str, &str)]) -> BTreeMap<String, Cell> {
        let cell = |json: &str| {
            if json == "?" {
                Cell::Unchanged
            } else {
                Cell::Set(json.parse().unwrap())
            }
        };
        columns
            .iter()
            .map(|(name, json)| ((*name).to_owned(), cell(json)))
            .collect()
    }

    fn check(expr: &str, columns: &[(&str, &str)], wanted: &str) {
        let row = row(columns);
        let outcome = eval(&expr.parse().unwrap(), &|name| row.get(name));
        let shown = match outcome {
            Ok(Some(value)) => value.to_string(),
            Ok(None) => "?".to_owned(),
            Err(reason) => format!("! {reason}"),
        };
        assert!(
            shown == wanted || (wanted == "!" && shown.starts_with('!')),
            "{expr} {columns:?}: {shown}"
        );
    }

    #[test]
    fn each_function_does_what_it_says() {
        check("a", &[("a", "1.50")], "1.5");
        check("a", &[], "! the row has no column `a`");
        check("trim(a)", &[("a", r#""  x ""#)], r#""x""#);
        check("lower(a)", &[("a", r#""ÀB""#)], r#""àb""#);
        check("split(a, ';')", &[("a", r#""a; b;;""#)], r#"["a","b"]"#);
        check("split(a, ';')", &[("a", r#""""#)], "[]");
        check("join(' ', a, b)", &[("a", r#""x""#), ("b", r#""y""#)], r#""x y""#);
        check("join(' ', a, b)", &[("a", r#""x""#), ("b", "null")], r#""x""#);
        check("join(' ', a, b)", &[("a", r#""""#), ("b", "null")], r#""""#);
        check("join(' ', a, b)", &[("a", "null"), ("b", "null")], "null");
        check("join(';', a)", &[("a", r#"["x","y"]"#)], r#""x;y""#);
        check(
            "join(';', a)",
            &[("a", r#"["x;","y"]"#)],
            "! an element contains the separator \";\"",
        );
        check("join(';', a)", &[("a", r#"[""]"#)], "!");
        check("scale(a, 2)", &[("a", "4005")], "40.05");
        check("scale(a, 2)", &[("a", r#""4005""#)], "40.05");
        check("scale(a, 2)", &[("a", r#""x""#)], "!");
        check("default(a, 'v')", &[("a", "null")], r#""v""#);
        check("default(a, 'v')", &[("a", r#""""#)], r#""""#);
        check("null_if(a, '')", &[("a", r#""""#)], "null");
        check("enum(a, 'A=active')", &[("a", r#""A""#)], r#""active""#);
        check("enum(a, '1=yes')", &[("a", "1")], r#""yes""#);
        check("enum(a, 'true=yes')", &[("a", "true")], r#""yes""#);
        check(
            "enum(a, 'A=active')",
            &[("a", r#""B""#)],
            "! the value is none of those that `enum` lists",
        );
        check("word(a, 2)", &[("a", r#""Ana de la Cruz""#)], r#""de""#);
        check("word(a, 9)", &[("a", r#""Ana""#)], r#""""#);
        check("rest(a)", &[("a", r#""Ana de la Cruz""#)], r#""de la Cruz""#);
        check("rest(a)", &[("a", r#""Cher""#)], r#""""#);
        check("e164(a, 'GB')", &[("a", r#""020 7946 0018""#)], r#""+442079460018""#);
        check("e164(a, 'US')", &[("a", "2125550123")], r#""+12125550123""#);
        check("e164(a, 'GB')", &[("a", r#""ask her""#)], "null");
        check("e164(a, 'GB')", &[("a", r#"["020 7946 0018"]"#)], "!");
        check(
            "trim(a)",
            &[("a", r#"["x"]"#)],
            "! there is a list where a text is needed",
        );
    }

    #[test]
    fn null_and_unknown_stay_what_they_are() {
        for expr in [
            "trim(a)",
            "lower(a)",
            "split(a, ';')",
            "scale(a, 2)",
            "enum(a, 'A=b')",
            "word(a, 1)",
            "rest(a)",
            "e164(a, 'GB')",
        ] {
            check(expr, &[("a", "null")], "null");
            check(expr, &[("a", "?")], "?");
        }
        check("default(a, 'v')", &[("a", "?")], "?");
        check("join(' ', a, b)", &[("a", r#""x""#), ("b", "?")], "?");
    }
}
