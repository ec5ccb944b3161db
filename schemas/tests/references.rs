//! References in the pipeline file: what is read, and what is refused under which code.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::Path;

use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::pipeline::{self, Pipeline, Problem, WAIT_DEFAULT_MS};
use syncline_schemas::value::Value;

const FILE: &str = r#"
pipeline: acme
defaults: { kafka: "k:9092", registry: "http://r" }
systems:
  shop: { postgres: "postgres://h/shop" }
  crm: { postgres: "postgres://h/crm" }
entities:
  customer: { schema: schemas/customer.avsc@1, fields: { name: latest, tags: union } }
  order:
    schema: schemas/customer.avsc@1
    fields: { name: latest, email: latest, phone: latest, tags: union }
    references: { email: { entity: customer, wait: 5m }, phone: { entity: order, required: false, deferred: true } }
links:
  shop.customers <-> customer: { key: id, name: name, tags: labels }
  crm.contacts <-> customer: { key: contact_no, name: name, tags: labels }
  shop.orders <-> order: { key: id, name: code, email: customer_id, phone: parent_id, tags: labels }
  crm.deals <-> order: { key: deal_no, name: code, email: contact_id, tags: labels }
"#;

fn parse(text: &str) -> Result<Pipeline, Vec<Problem>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    pipeline::parse("acme.yaml", text, &|_| None, &|name| {
        std::fs::read_to_string(folder.join(name)).map_err(|_| format!("{name}: not found"))
    })
}

fn accepted(text: &str) -> Pipeline {
    parse(text).unwrap_or_else(|problems| panic!("{}", problems.iter().map(ToString::to_string).collect::<String>()))
}

/// The codes of what is wrong with the file when this stands in place of that.
fn codes(old: &str, new: &str) -> Vec<&'static str> {
    assert_eq!(FILE.matches(old).count(), 1, "{old}");
    let problems = parse(&FILE.replace(old, new)).err().unwrap_or_default();
    for problem in &problems {
        let said = problem.to_string();
        assert!(
            said.contains("-->") && said.contains("help:"),
            "place and remedy: {said}"
        );
    }
    problems.iter().map(|problem| problem.code).collect()
}

#[test]
fn a_link_knows_the_rows_that_it_refers_to() {
    let pipeline = accepted(FILE);
    let order = pipeline.entity("order").unwrap();
    let email = order.reference("email").unwrap();
    assert_eq!(
        (email.entity.as_str(), email.required, email.wait_ms),
        ("customer", true, 300_000)
    );
    let phone = order.reference("phone").unwrap();
    assert_eq!(
        (phone.deferred, phone.may_be_null(), phone.wait_ms),
        (true, true, WAIT_DEFAULT_MS)
    );

    let deals = pipeline.links.iter().find(|link| link.table == "deals").unwrap();
    let parents = pipeline.parents(deals);
    let [parent] = parents.as_slice() else {
        panic!("{parents:?}")
    };
    assert_eq!((parent.column, parent.link.table.as_str()), ("contact_id", "contacts"));
    let row = Row::from([("contact_id".to_owned(), Cell::Set(Value::from(7)))]);
    let key = parent.row(&row).unwrap().unwrap();
    assert_eq!(key.0, r#"{"contact_no":7}"#, "as the parent's own rows are named");
    assert_eq!(parent.value(&key), Some(Value::from(7)));
    assert_eq!(
        parent.row(&Row::from([("contact_id".to_owned(), Cell::Set(Value::Null))])),
        Some(None)
    );
    assert_eq!(parent.row(&Row::new()), None);

    assert_eq!(
        (pipeline.depth("customer"), pipeline.depth("order")),
        (0, 1),
        "what is deferred does not count"
    );
    assert!(pipeline.is_referred_to("customer") && pipeline.is_referred_to("order"));
}

#[test]
fn one_word_is_enough_where_field_and_entity_have_one_name() {
    let text = FILE
        .replace("  customer: { schema", "  email: { schema")
        .replace("<-> customer:", "<-> email:")
        .replace("email: { entity: customer, wait: 5m }", "email: optional");
    let pipeline = accepted(&text);
    let reference = pipeline.entity("order").unwrap().reference("email").unwrap();
    assert_eq!((reference.entity.as_str(), reference.required), ("email", false));
}

const REFERENCE: &str = "email: { entity: customer, wait: 5m }";
const CONTACTS: &str = "crm.contacts <-> customer: { key: contact_no, name: name, tags: labels }";
/// What stands in the file, what in its place, and the codes of what is wrong then.
const REFUSED: &[(&str, &str, &[&str])] = &[
    ("wait: 5m", "wait: 5m, on_delete: restrict", &[]),
    ("entity: customer", "entity: custmer", &["H302"]),
    (REFERENCE, "emial: { entity: customer }", &["H206"]),
    (REFERENCE, "email: maybe", &["H113"]),
    ("wait: 5m", "wait: soon", &["H113"]),
    ("wait: 5m", "on_delete: cascade", &["H190"]),
    ("wait: 5m", "on_delete: null", &["H190"]),
    (REFERENCE, "lines.product: required", &["H190"]),
    (REFERENCE, "tags: { entity: customer }", &["H345", "H346"]),
    (
        "email: latest",
        "email: { on_conflict: merge_text, else: hold }",
        &["H346"],
    ),
    (CONTACTS, "", &["H347"]),
    ("key: contact_no", "key: [region, contact_no]", &["H348"]),
    ("email: customer_id", "email: \"-> lower(customer_id)\"", &["H349"]),
    ("crm.contacts <->", "crm.contacts ->", &["H350"]),
    ("crm.contacts <->", "crm.contacts <-", &["H350"]),
    ("deferred: true", "deferred: false", &["H351"]),
    (
        "references:",
        "match: [ { same: [phone] } ]\n    references:",
        &["H352"],
    ),
    (
        "fields: { name: latest, email: latest, phone: latest, tags: union }",
        "groups: { both: { fields: [email, phone], on_conflict: latest } }\n    fields: { name: latest, email: {}, phone: {}, tags: union }",
        &["H217", "H352"],
    ),
    ("key: deal_no", "key: contact_id", &["H352"]),
];

#[test]
fn what_cannot_be_is_refused() {
    for (old, new, expected) in REFUSED {
        let mut found = codes(old, new);
        found.sort_unstable();
        assert_eq!(found, *expected, "{old} -> {new}");
    }
}
