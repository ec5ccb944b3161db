//! The laws of the lens: what is put comes back, or is not put; whatever it is given, it does not crash.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::BTreeSet;

use proptest::prelude::*;
use syncline_schemas::lens::{self, Cell, Expr, Row};
use syncline_schemas::pipeline::{Direction, ElementKind, FieldKind, Link, LinkField, RuleRef};
use syncline_schemas::value::Value;

const GIVEN: [&str; 24] = [
    "Ana",
    "Jean-Luc",
    "Mary-Jane",
    "Nguyễn",
    "毛",
    "山田",
    "김",
    "محمد",
    "שרה",
    "Владимир",
    "Σωκράτης",
    "Åsa",
    "İbrahim",
    "E\u{301}mile",
    "Siobhán",
    "Zoë",
    "X",
    "Björk",
    "Þórunn",
    "Dr.",
    "Chloë",
    "Ọlá",
    "ʻAnakē",
    "\u{1F469}\u{200D}\u{1F680}",
];

const FAMILY: [&str; 24] = [
    "",
    "Cruz",
    "de la Cruz",
    "van Beethoven",
    "O'Neill",
    "Øberg",
    "Thị Minh Khai",
    "泽东",
    "太郎",
    "철수",
    "بن سلمان",
    "כהן",
    "Ильич Ульянов",
    "Işık",
    "Borbón y Borbón-Dos Sicilias",
    "King Jr.",
    "Smith III",
    "McDonald",
    "D'Angelo",
    "zu Guttenberg",
    "al-Rashid",
    "St. John",
    "Æ A-12",
    "Ó Súilleabháin",
];

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

/// Every way there is to write a field.
fn link() -> Link {
    let money = FieldKind::Number { scale: Some(2) };
    let texts = FieldKind::List(ElementKind::Text);
    Link {
        system: "crm".to_owned(),
        schema: "public".to_owned(),
        table: "contacts".to_owned(),
        entity: "customer".to_owned(),
        direction: Direction::Both,
        key: vec!["id".to_owned()],
        same_as: Vec::new(),
        fields: vec![
            field(
                "name",
                FieldKind::Text,
                false,
                "join(' ', a, b)",
                &[("a", "word(name, 1)"), ("b", "rest(name)")],
            ),
            field("copied", FieldKind::Text, false, "c", &[("c", "copied")]),
            field("trimmed", FieldKind::Text, false, "trim(d)", &[("d", "trimmed")]),
            field("lowered", FieldKind::Text, false, "lower(e)", &[("e", "lowered")]),
            field(
                "unknown",
                FieldKind::Text,
                false,
                "null_if(f, '')",
                &[("f", "default(unknown, '')")],
            ),
            field(
                "state",
                FieldKind::Text,
                false,
                "enum(g, 'A=active', 'I=inactive')",
                &[("g", "enum(state, 'active=A', 'inactive=I')")],
            ),
            field("money", money, false, "scale(h, 2)", &[("h", "scale(money, -2)")]),
            field("tags", texts, true, "split(i, ';')", &[("i", "join(';', tags)")]),
            field("list", texts, false, "split(j, ',')", &[("j", "join(',', list)")]),
            field(
                "flag",
                FieldKind::Bool,
                false,
                "enum(k, 'Y=true', 'N=false')",
                &[("k", "enum(flag, 'true=Y', 'false=N')")],
            ),
            field(
                "joined",
                FieldKind::Text,
                false,
                "join(',', l)",
                &[("l", "split(joined, ',')")],
            ),
        ],
        mode: Default::default(),
        rule: RuleRef::default(),
    }
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[ -~]{0,12}",
        "[a-z;, ]{0,8}",
        Just("active".to_owned()),
        Just("true".to_owned())
    ];
    let single = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        (any::<i32>(), -3_i64..6).prop_map(|(digits, scale)| match Value::from(i64::from(digits)) {
            Value::Number(number) => Value::Number(number.shift(-scale)),
            other => other,
        }),
        text.prop_map(Value::Text),
    ];
    let list = prop::collection::vec(single.clone(), 0..4).prop_map(Value::List);
    prop_oneof![4 => single, 1 => list]
}

fn row_of(columns: Vec<(String, Value)>) -> Row {
    columns
        .into_iter()
        .map(|(column, value)| (column, Cell::Set(value)))
        .collect()
}

/// A thousand names are split into first and last and come back as they were.
#[test]
fn a_thousand_names_come_back() {
    let link = link();
    let middle = ["", "María", "de"];
    let mut names = BTreeSet::new();
    for given in GIVEN {
        for middle in middle {
            for family in FAMILY {
                let parts = [given, middle, family].into_iter().filter(|part| !part.is_empty());
                names.insert(parts.collect::<Vec<_>>().join(" "));
            }
        }
    }
    assert!(names.len() > 1_000, "{}", names.len());
    for name in names {
        let columns = lens::put(&link, "name", &name.as_str().into()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
        assert_eq!(columns, [("a".to_owned(), first.into()), ("b".to_owned(), last.into())]);
        let mut only_name = link.clone();
        only_name.fields.retain(|field| field.field == "name");
        let fields = lens::get(&only_name, &row_of(columns)).unwrap();
        assert_eq!(fields["name"], Some(Value::from(name.as_str())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// `get(put(v, row)) == v`, or nothing is written; and that in any row.
    #[test]
    fn what_is_put_comes_back_or_is_not_put(at in 0_usize..11, value in value(), others in prop::collection::vec(value(), 12)) {
        let mut link = link();
        link.fields = vec![link.fields.swap_remove(at)];
        let mapped = link.fields[0].clone();
        let Ok(columns) = lens::put(&link, &mapped.field, &value) else { return Ok(()) };
        let mut row: Row = "abcdefghijkl".chars().map(String::from).zip(others.into_iter().map(Cell::Set)).collect();
        row.extend(row_of(columns.clone()));
        let back = lens::get(&link, &row).unwrap()[&mapped.field].clone().unwrap();
        let again = lens::put(&link, &mapped.field, &back).unwrap();
        prop_assert_eq!(&again, &columns);
        if !mapped.set && !matches!(mapped.kind, FieldKind::Text | FieldKind::Bool | FieldKind::List(_)) && !matches!(value, Value::Text(_)) {
            prop_assert_eq!(back, value);
        } else if let (FieldKind::Text, Value::Text(_)) = (mapped.kind, &value) {
            prop_assert_eq!(back, value);
        }
    }

    /// What a row gives can be written, and gives the same again.
    #[test]
    fn what_was_read_stays_readable(at in 0_usize..11, cells in prop::collection::vec(value(), 12)) {
        let mut link = link();
        link.fields = vec![link.fields.swap_remove(at)];
        let field = link.fields[0].field.clone();
        let row: Row = "abcdefghijkl".chars().map(String::from).zip(cells.into_iter().map(Cell::Set)).collect();
        let Ok(fields) = lens::get(&link, &row) else { return Ok(()) };
        let value = fields[&field].clone().unwrap();
        if let Ok(columns) = lens::put(&link, &field, &value) {
            let mut written = row.clone();
            written.extend(row_of(columns));
            prop_assert_eq!(&lens::get(&link, &written).unwrap()[&field], &Some(value));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "([a-z]{1,5}|\\(|\\)|,|'|\"|[0-9.-]{1,3}| |=|\\\\|é|word|split|enum){0,14}") {
        if let Ok(expr) = text.parse::<Expr>() {
            prop_assert_eq!(expr.to_string().parse::<Expr>(), Ok(expr));
        }
    }

    #[test]
    fn no_characters_make_the_parser_panic(text in any::<String>()) {
        if let Err(error) = text.parse::<Expr>() {
            prop_assert!(error.at <= text.chars().count());
        }
    }
}
