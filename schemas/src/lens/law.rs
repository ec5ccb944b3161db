//! The lens law, `get(put(v)) == v`, tried on sample values of each kind.
//!
//! The samples are ordinary: what people and programs do write. A `put` may refuse a value; it must not write another.

use crate::pipeline::{ElementKind, FieldKind, LinkField};
use crate::value::Value;

use super::expr::Expr;
use super::shape::shape;

/// Names and other texts as they occur.
const TEXTS: [&str; 32] = [
    "Ana de la Cruz",
    "Cher",
    "Ada Lovelace",
    "Ludwig van Beethoven",
    "Jean-Luc Picard",
    "Mary-Jane O'Neill",
    "Dr. Martin Luther King Jr.",
    "Juan Carlos Alfonso Víctor María de Borbón y Borbón-Dos Sicilias",
    "Nguyễn Thị Minh Khai",
    "毛泽东",
    "山田 太郎",
    "김철수",
    "محمد بن سلمان",
    "שרה כהן",
    "Владимир Ильич Ульянов",
    "Σωκράτης",
    "Åsa Öberg",
    "ß",
    "İbrahim Işık",
    "E\u{301}mile Zola",
    "\u{1F469}\u{200D}\u{1F680} Sally Ride",
    "X Æ A-12",
    "ada@old.uk",
    "Ada.Lovelace+news@Example.COM",
    "0001",
    "+44 20 7946 0018",
    "(020) 7946-0018",
    "SKU-00417/B",
    "a;b,c|d",
    "\"quoted\" 'twice' \\ back",
    "50% off {today}",
    "true",
];

const NUMBERS: [&str; 14] = [
    "0", "1", "-1", "7", "40", "45", "1500", "-21", "99999999", "0.5", "12.34", "-0.01", "19.99", "0.12345",
];

const DATES: [&str; 3] = ["1970-01-01", "2026-02-28", "2000-02-29"];

const TIMESTAMPS: [&str; 3] = [
    "1970-01-01T00:00:00Z",
    "2026-03-29T01:30:00.123456Z",
    "1999-12-31T23:59:59Z",
];

const LISTS: [&[&str]; 7] = [
    &[],
    &["vip"],
    &["newsletter", "vip"],
    &["churn-risk", "newsletter", "vip"],
    &["gold member", "Übergrößen"],
    &["a;b", "c"],
    &["10", "9"],
];

/// A value that does not come back, and how often that happened.
pub(crate) struct Finding {
    /// Samples that came back as something else.
    pub(crate) lost: usize,
    /// Samples tried.
    pub(crate) tried: usize,
    /// The first of them, what was written for it and what came back, in one line.
    pub(crate) example: String,
}

/// Breaks of the law, if there are any. A field that is only read or only written obeys it.
pub(crate) fn broken(mapped: &LinkField, nullable: bool) -> Option<Finding> {
    if !mapped.writes() || mapped.get.is_none() {
        return None;
    }
    let samples = samples(mapped, nullable);
    let tried = samples.len();
    let mut examples = samples.iter().filter_map(|value| lost(mapped, value));
    let example = examples.next()?;
    Some(Finding {
        lost: 1 + examples.count(),
        tried,
        example,
    })
}

/// The way of a value that does not come back.
fn lost(mapped: &LinkField, value: &Value) -> Option<String> {
    let columns = mapped.columns_for(value).ok()?;
    let back = match mapped.comes_back(&columns) {
        Ok(Some(back)) if back == *value => return None,
        Ok(None) => return None,
        Ok(Some(back)) => back.to_string(),
        Err(reason) => format!("an error ({reason})"),
    };
    let written: Vec<String> = columns
        .iter()
        .map(|(column, value)| format!("{column} {value}"))
        .collect();
    Some(format!("{value} -> {} -> {back}", written.join(", ")))
}

fn samples(mapped: &LinkField, nullable: bool) -> Vec<Value> {
    let mut samples = of_kind(mapped.kind);
    samples.extend(codes(mapped.get.as_ref()).into_iter().map(Value::from));
    if nullable {
        samples.push(Value::Null);
    }
    let shaped = samples
        .into_iter()
        .filter_map(|value| shape(value, mapped.kind, mapped.set).ok());
    let mut unique = Vec::new();
    shaped.for_each(|value| {
        if !unique.contains(&value) {
            unique.push(value)
        }
    });
    unique
}

fn of_kind(kind: FieldKind) -> Vec<Value> {
    let texts = |texts: &[&str]| texts.iter().map(|text| Value::from(*text)).collect();
    match kind {
        FieldKind::Text => texts(&TEXTS),
        FieldKind::Bool => vec![Value::Bool(true), Value::Bool(false)],
        FieldKind::Number { .. } => texts(&NUMBERS),
        FieldKind::Date => texts(&DATES),
        FieldKind::Timestamp => texts(&TIMESTAMPS),
        FieldKind::List(ElementKind::Text) => LISTS.iter().map(|list| Value::List(texts(list))).collect(),
        FieldKind::List(ElementKind::Integer) => [vec![], vec![7], vec![10, 9]]
            .map(|list| Value::List(list.into_iter().map(Value::from).collect()))
            .into(),
    }
}

/// What `enum` may give: the only values such a field has.
fn codes(expr: Option<&Expr>) -> Vec<&str> {
    match expr {
        Some(Expr::Enum(_, codes)) => codes.iter().map(|(_, to)| to.as_str()).collect(),
        Some(Expr::Trim(inner) | Expr::Lower(inner) | Expr::Default(inner, _) | Expr::NullIf(inner, _)) => {
            codes(Some(inner))
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lens::invert;

    fn mapped(kind: FieldKind, get: &str, put: &[(&str, &str)]) -> LinkField {
        let get: Expr = get.parse().unwrap();
        let put = match put {
            [] => vec![invert(&get, "f").unwrap()],
            put => put
                .iter()
                .map(|(column, expr)| ((*column).to_owned(), expr.parse().unwrap()))
                .collect(),
        };
        LinkField {
            field: "f".to_owned(),
            kind,
            set: false,
            group: None,
            reads: true,
            get: Some(get),
            put,
        }
    }

    fn example(kind: FieldKind, get: &str, put: &[(&str, &str)]) -> Option<String> {
        broken(&mapped(kind, get, put), true).map(|finding| finding.example)
    }

    #[test]
    fn what_keeps_everything_is_accepted() {
        let money = FieldKind::Number { scale: Some(2) };
        let texts = FieldKind::List(ElementKind::Text);
        for (kind, get, put) in [
            (FieldKind::Text, "a", &[] as &[_]),
            (FieldKind::Text, "trim(a)", &[]),
            (FieldKind::Text, "null_if(a, '')", &[]),
            (FieldKind::Text, "enum(a, 'A=active', 'I=inactive')", &[]),
            (
                FieldKind::Text,
                "join(' ', a, b)",
                &[("a", "word(f, 1)"), ("b", "rest(f)")],
            ),
            (FieldKind::Bool, "enum(a, 'Y=true', 'N=false')", &[]),
            (money, "scale(a, 2)", &[]),
            (texts, "split(a, ';')", &[]),
            (FieldKind::Timestamp, "a", &[]),
        ] {
            assert_eq!(example(kind, get, put), None, "{get}");
        }
    }

    #[test]
    fn what_loses_something_is_found_with_an_example() {
        let name = [("a", "word(f, 1)"), ("b", "word(f, 2)")];
        let found = broken(&mapped(FieldKind::Text, "join(' ', a, b)", &name), true).unwrap();
        assert_eq!(found.example, r#""Ana de la Cruz" -> a "Ana", b "de" -> "Ana de""#);
        assert!(
            found.lost > 5 && found.lost < found.tried,
            "{} of {}",
            found.lost,
            found.tried
        );
        let lower = example(FieldKind::Text, "lower(a)", &[]).unwrap();
        assert!(lower.ends_with(r#"-> "ana de la cruz""#), "{lower}");
        let default = example(FieldKind::Text, "default(a, 'none')", &[]).unwrap();
        assert_eq!(default, r#"null -> a null -> "none""#);
        let unlike = example(
            FieldKind::Number { scale: Some(2) },
            "scale(a, 2)",
            &[("a", "scale(f, -3)")],
        )
        .unwrap();
        assert_eq!(unlike, "1 -> a 1000 -> 10");
    }
}
