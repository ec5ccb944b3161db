//! The apps, the entities, and what a column means to an entity: told a second time, without the mapping's code.
//!
//! Every value is a text here. Numbers are without trailing zeros, sets are sorted with commas, a group is its fields with
//! ` / ` between them.

use std::collections::BTreeMap;

/// The apps, in the order of the pipeline file.
pub const APPS: [&str; 3] = ["shop", "crm", "billing"];

/// What every counter holds at first, in whatever app a row is made.
pub const COUNTED_AT_FIRST: i64 = 100;

/// The table that each transaction of a user notes its number in; no pipeline reads it.
pub const EDITS: &str = "public.edits";

/// A row of a table, as its log has it.
pub type Row = BTreeMap<String, Option<String>>;

/// A value; none is null.
pub type Cell = Option<String>;

/// What is written into a unit, which says what can become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who it is: what rows are matched by. Written once.
    Person,
    /// A text that nobody else writes.
    Token,
    /// Two words that nobody else writes.
    Words,
    /// An amount that nobody else writes.
    Money,
    /// A number from a few.
    Small,
    /// True or false.
    Flag,
    /// Lines, of which each edit writes one.
    Lines,
    /// A set, to which one element is added or from which one is taken.
    Set,
    /// A counter, to which is added.
    Sum,
}

/// A field, or fields that win together.
#[derive(Debug)]
pub struct Unit {
    /// Name of the field or the group.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [&'static str],
    /// What is written into it.
    pub kind: Kind,
    /// The only app whose users edit it.
    pub owner: Option<&'static str>,
    /// The most that apps are shown.
    pub most: Option<i64>,
}

const fn unit(name: &'static str, fields: &'static [&'static str], kind: Kind) -> Unit {
    Unit {
        name,
        fields,
        kind,
        owner: None,
        most: None,
    }
}

/// What becomes of an entity that an app deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone in all apps or lives in all.
    Everywhere,
    /// It is gone where it was deleted.
    ThereAlone,
}

/// An entity.
#[derive(Debug)]
pub struct Entity {
    /// Its name.
    pub name: &'static str,
    /// Its units.
    pub units: &'static [Unit],
    /// What becomes of it.
    pub deletion: Deletion,
}

/// The entities.
pub static ENTITIES: [Entity; 3] = [
    Entity {
        name: "customer",
        units: &[
            unit("email", &["email"], Kind::Person),
            unit("name", &["name"], Kind::Words),
            unit("phone", &["phone"], Kind::Token),
            unit("segment", &["segment"], Kind::Token),
            unit("credit", &["credit"], Kind::Money),
            Unit {
                owner: Some("shop"),
                ..unit("points", &["points"], Kind::Money)
            },
            unit("tags", &["tags"], Kind::Set),
            unit("notes", &["notes"], Kind::Lines),
            unit("address", &["street", "city"], Kind::Token),
            unit("rating", &["rating"], Kind::Small),
        ],
        deletion: Deletion::Everywhere,
    },
    Entity {
        name: "product",
        units: &[
            unit("sku", &["sku"], Kind::Person),
            unit("price", &["price"], Kind::Money),
            unit("stock", &["stock"], Kind::Sum),
            Unit {
                most: Some(COUNTED_AT_FIRST + 4),
                ..unit("room", &["room"], Kind::Sum)
            },
            unit("floor", &["floor"], Kind::Small),
            unit("weight", &["weight"], Kind::Small),
        ],
        deletion: Deletion::Everywhere,
    },
    Entity {
        name: "site",
        units: &[
            unit("code", &["code"], Kind::Person),
            unit("title", &["title"], Kind::Token),
            unit("closed", &["closed"], Kind::Flag),
            unit("remark", &["remark"], Kind::Token),
            unit("visits", &["visits"], Kind::Sum),
        ],
        deletion: Deletion::ThereAlone,
    },
];

/// How a field stands in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// As it is.
    Plain(&'static str),
    /// In hundredths.
    Hundredths(&'static str),
    /// A set as an array.
    Array(&'static str),
    /// A set as a text with semicolons.
    Split(&'static str),
    /// Two words in two columns.
    Pair(&'static str, &'static str),
}

/// A table of an app.
#[derive(Debug)]
pub struct Table {
    /// The app's place in [`APPS`].
    pub app: usize,
    /// Its name, in schema `public`.
    pub name: &'static str,
    /// The entity it speaks of.
    pub entity: &'static str,
    /// Its primary key.
    pub key: &'static str,
    /// What makes a new key.
    pub new_key: &'static str,
    /// Its columns, by field.
    pub columns: &'static [(&'static str, Column)],
}

use Column::{Array, Hundredths, Pair, Plain, Split};

/// The tables.
pub static TABLES: [Table; 9] = [
    Table {
        app: 0,
        name: "customers",
        entity: "customer",
        key: "id",
        new_key: "nextval('customers_id_seq')",
        columns: &[
            ("email", Plain("email")),
            ("name", Plain("full_name")),
            ("phone", Plain("phone")),
            ("segment", Plain("segment")),
            ("credit", Hundredths("credit_pence")),
            ("points", Plain("points")),
            ("tags", Array("labels")),
            ("notes", Plain("notes")),
            ("street", Plain("street")),
            ("city", Plain("town")),
            ("rating", Plain("rating")),
        ],
    },
    Table {
        app: 0,
        name: "products",
        entity: "product",
        key: "id",
        new_key: "nextval('products_id_seq')",
        columns: &[
            ("sku", Plain("sku")),
            ("price", Hundredths("retail_pence")),
            ("stock", Plain("qty")),
            ("room", Plain("space")),
            ("floor", Plain("floor_price")),
            ("weight", Plain("grams")),
        ],
    },
    Table {
        app: 0,
        name: "stores",
        entity: "site",
        key: "store_no",
        new_key: "nextval('stores_store_no_seq')",
        columns: &[
            ("code", Plain("code")),
            ("title", Plain("title")),
            ("closed", Plain("closed")),
            ("remark", Plain("remark")),
            ("visits", Plain("visits")),
        ],
    },
    Table {
        app: 1,
        name: "contacts",
        entity: "customer",
        key: "contact_id",
        new_key: "gen_random_uuid()",
        columns: &[
            ("email", Plain("mail")),
            ("name", Pair("first", "last")),
            ("phone", Plain("tel")),
            ("segment", Plain("grade")),
            ("credit", Plain("limit_gbp")),
            ("points", Plain("bonus")),
            ("tags", Split("tags")),
            ("notes", Plain("remarks")),
            ("street", Plain("road")),
            ("city", Plain("city")),
            ("rating", Plain("stars")),
        ],
    },
    Table {
        app: 1,
        name: "items",
        entity: "product",
        key: "item_no",
        new_key: "nextval('items_item_no_seq')",
        columns: &[
            ("sku", Plain("code")),
            ("price", Plain("list_price")),
            ("stock", Plain("on_hand")),
            ("room", Plain("free")),
            ("floor", Plain("minimum")),
            ("weight", Plain("weight")),
        ],
    },
    Table {
        app: 1,
        name: "places",
        entity: "site",
        key: "place_id",
        new_key: "gen_random_uuid()",
        columns: &[
            ("code", Plain("ref")),
            ("title", Plain("name")),
            ("closed", Plain("shut")),
            ("remark", Plain("note")),
            ("visits", Plain("seen")),
        ],
    },
    Table {
        app: 2,
        name: "accounts",
        entity: "customer",
        key: "account_no",
        new_key: "'B' || nextval('numbers')",
        columns: &[
            ("email", Plain("invoice_to")),
            ("name", Plain("holder")),
            ("segment", Plain("class")),
            ("credit", Plain("credit_limit")),
            ("points", Plain("points")),
            ("tags", Array("flags")),
            ("street", Plain("line1")),
            ("city", Plain("line2")),
            ("rating", Plain("score")),
        ],
    },
    Table {
        app: 2,
        name: "goods",
        entity: "product",
        key: "good_no",
        new_key: "'G' || nextval('numbers')",
        columns: &[
            ("sku", Plain("article")),
            ("price", Plain("price")),
            ("stock", Plain("quantity")),
            ("floor", Plain("lowest")),
            ("weight", Plain("mass")),
        ],
    },
    Table {
        app: 2,
        name: "branches",
        entity: "site",
        key: "branch_no",
        new_key: "'S' || nextval('numbers')",
        columns: &[
            ("code", Plain("branch")),
            ("title", Plain("label")),
            ("closed", Plain("closed")),
            ("visits", Plain("visits")),
        ],
    },
];

/// The SQL that makes the tables of each app.
pub const SQL: [&str; 3] = [
    "CREATE TABLE edits (no bigint NOT NULL);
     CREATE TABLE customers (id bigserial PRIMARY KEY, email text NOT NULL, full_name text, phone text, segment text,
       credit_pence bigint, points numeric(12,2), labels text[] NOT NULL DEFAULT '{}', notes text, street text, town text, rating int);
     CREATE UNIQUE INDEX ON customers (lower(btrim(email)));
     CREATE TABLE products (id serial PRIMARY KEY, sku text NOT NULL, retail_pence bigint, qty bigint, space int, floor_price int, grams int);
     CREATE UNIQUE INDEX ON products (lower(btrim(sku)));
     CREATE TABLE stores (store_no serial PRIMARY KEY, code varchar(40) NOT NULL, title text, closed boolean, remark text, visits bigint);
     CREATE UNIQUE INDEX ON stores (lower(btrim(code)));",
    "CREATE TABLE edits (no bigint NOT NULL);
     CREATE TABLE contacts (contact_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), mail text NOT NULL, first text, last text, tel text,
       grade text, limit_gbp numeric(12,2), bonus numeric(12,2), tags text NOT NULL DEFAULT '', remarks text, road text, city text, stars smallint);
     CREATE UNIQUE INDEX ON contacts (lower(btrim(mail)));
     CREATE TABLE items (item_no serial PRIMARY KEY, code text NOT NULL, list_price numeric(12,2), on_hand int, free bigint, minimum int, weight bigint);
     CREATE UNIQUE INDEX ON items (lower(btrim(code)));
     CREATE TABLE places (place_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), ref text NOT NULL, name text, shut boolean, note text, seen int);
     CREATE UNIQUE INDEX ON places (lower(btrim(ref)));",
    "CREATE TABLE edits (no bigint NOT NULL);
     CREATE SEQUENCE numbers;
     CREATE TABLE accounts (account_no text PRIMARY KEY DEFAULT 'B' || nextval('numbers'), invoice_to text NOT NULL, holder text, class text,
       credit_limit numeric(14,2), points numeric(12,2), flags text[] NOT NULL DEFAULT '{}', line1 text, line2 text, score bigint);
     CREATE UNIQUE INDEX ON accounts (lower(btrim(invoice_to)));
     CREATE TABLE goods (good_no text PRIMARY KEY DEFAULT 'G' || nextval('numbers'), article text NOT NULL, price numeric(12,2),
       quantity bigint, lowest bigint, mass int);
     CREATE UNIQUE INDEX ON goods (lower(btrim(article)));
     CREATE TABLE branches (branch_no text PRIMARY KEY DEFAULT 'S' || nextval('numbers'), branch text NOT NULL, label text, closed boolean, visits bigint);
     CREATE UNIQUE INDEX ON branches (lower(btrim(branch)));",
];

const CUSTOMER: &str = r#"{"type": "record", "name": "Customer", "fields": [
  {"name": "email", "type": ["null", "string"], "default": null},
  {"name": "name", "type": ["null", "string"], "default": null},
  {"name": "phone", "type": ["null", "string"], "default": null},
  {"name": "segment", "type": ["null", "string"], "default": null},
  {"name": "credit", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2}], "default": null},
  {"name": "points", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2}], "default": null},
  {"name": "tags", "type": ["null", {"type": "array", "items": "string"}], "default": null},
  {"name": "notes", "type": ["null", "string"], "default": null},
  {"name": "street", "type": ["null", "string"], "default": null},
  {"name": "city", "type": ["null", "string"], "default": null},
  {"name": "rating", "type": ["null", "long"], "default": null}]}"#;

const PRODUCT: &str = r#"{"type": "record", "name": "Product", "fields": [
  {"name": "sku", "type": ["null", "string"], "default": null},
  {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2}], "default": null},
  {"name": "stock", "type": ["null", "long"], "default": null},
  {"name": "room", "type": ["null", "long"], "default": null},
  {"name": "floor", "type": ["null", "long"], "default": null},
  {"name": "weight", "type": ["null", "long"], "default": null}]}"#;

const SITE: &str = r#"{"type": "record", "name": "Site", "fields": [
  {"name": "code", "type": ["null", "string"], "default": null},
  {"name": "title", "type": ["null", "string"], "default": null},
  {"name": "closed", "type": ["null", "boolean"], "default": null},
  {"name": "remark", "type": ["null", "string"], "default": null},
  {"name": "visits", "type": ["null", "long"], "default": null}]}"#;

/// Rules of every sort; a question that nobody answers ends while the load goes on.
const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}", partitions: 2, max_clock_skew: SKEW }
systems:
  shop:    { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  crm:     { postgres: "${env:CRM_DSN}", topic_prefix: "${env:CRM_PREFIX}" }
  billing: { postgres: "${env:BILLING_DSN}", topic_prefix: "${env:BILLING_PREFIX}" }
kinds:
  contact: { on_conflict: latest }
  money: { on_conflict: hold, expires: 6s, then: [billing, shop] }
entities:
  customer:
    schema: customer.avsc@1
    fields:
      email: contact
      name: contact
      phone: first
      segment: [crm, shop]
      credit: { kind: money }
      points: { owner: shop }
      tags: union
      notes: { on_conflict: merge_text, else: latest }
      street: contact
      city: contact
      rating: max
    groups: { address: [street, city] }
    match: [ { same: [email] } ]
    on_delete: { shop: update_wins, crm: update_wins, billing: update_wins }
  product:
    schema: product.avsc@1
    fields:
      sku: latest
      price:
        on_conflict: { rule: "mine < canon * 0.5 ? hold('a cut by half') : accept()" }
        check: "value >= 0"
        expires: 6s
        then: latest
      stock: { on_conflict: add, min: 0, below_min: hold }
      room: { on_conflict: add, max: MOST, above_max: clamp }
      floor: min
      weight: { on_conflict: latest, guard: "abs(new - old) > 600", expires: 6s, then: [shop] }
    match: [ { same: [sku] } ]
    on_delete: { shop: delete_wins, crm: delete_wins, billing: delete_wins }
  site:
    schema: site.avsc@1
    fields:
      code: latest
      title: { on_conflict: latest, if_uncertain: [billing, shop] }
      closed: most_restrictive
      remark: longest
      visits: add
    match: [ { same: [code] } ]
    on_delete: { shop: soft, crm: soft, billing: soft }
links:
  shop.customers <-> customer:
    { key: id, email: email, name: full_name, phone: phone, segment: segment, credit: "scale(credit_pence, 2)", points: -> points,
      tags: labels, notes: notes, street: street, city: town, rating: rating }
  crm.contacts <-> customer:
    key: contact_id
    email: mail
    name: { get: "join(' ', first, last)", put: { first: "word(name, 1)", last: "rest(name)" } }
    phone: tel
    segment: grade
    credit: limit_gbp
    points: <- bonus
    tags: 'split(tags, ";")'
    notes: remarks
    street: road
    city: city
    rating: stars
  billing.accounts <-> customer:
    { key: account_no, email: invoice_to, name: holder, segment: class, credit: credit_limit, points: <- points, tags: flags,
      street: line1, city: line2, rating: score }
  shop.products <-> product:
    { key: id, sku: sku, price: "scale(retail_pence, 2)", stock: qty, room: space, floor: floor_price, weight: grams }
  crm.items <-> product:
    { key: item_no, sku: code, price: list_price, stock: on_hand, room: free, floor: minimum, weight: weight }
  billing.goods <-> product:
    { key: good_no, sku: article, price: price, stock: quantity, floor: lowest, weight: mass }
  shop.stores <-> site: { key: store_no, code: code, title: title, closed: closed, remark: remark, visits: visits }
  crm.places <-> site: { key: place_id, code: ref, title: name, closed: shut, remark: note, visits: seen }
  billing.branches <-> site: { key: branch_no, code: branch, title: label, closed: closed, visits: visits }
"#;

/// The pipeline file, with so much allowed to a clock.
pub fn pipeline(skew: &str) -> String {
    let most = (COUNTED_AT_FIRST + 4).to_string();
    PIPELINE.replace("SKEW", skew).replace("MOST", &most)
}

/// The files of [`crate::World`]; `pipeline` is what [`pipeline`] gives.
pub fn files(pipeline: &str) -> [(&str, &str); 4] {
    [
        ("pipeline.yaml", pipeline),
        ("customer.avsc", CUSTOMER),
        ("product.avsc", PRODUCT),
        ("site.avsc", SITE),
    ]
}

/// The entity of this name.
///
/// # Panics
/// When there is none.
pub fn entity(name: &str) -> &'static Entity {
    let found = ENTITIES.iter().find(|entity| entity.name == name);
    found.unwrap_or_else(|| panic!("no entity {name}"))
}

impl Entity {
    /// Whose value says who it is.
    ///
    /// # Panics
    /// When there is no such unit.
    pub fn person(&self) -> &'static Unit {
        let found = self.units.iter().find(|unit| unit.kind == Kind::Person);
        found.unwrap_or_else(|| panic!("nobody knows who a {} is", self.name))
    }

    /// The unit that has the field.
    pub fn unit_of(&self, field: &str) -> Option<&'static Unit> {
        self.units
            .iter()
            .find(|unit| unit.name == field || unit.fields.contains(&field))
    }
}

impl Table {
    /// `public.NAME`.
    pub fn qualified(&self) -> String {
        format!("public.{}", self.name)
    }

    /// The column of a field, if the table has it.
    pub fn column(&self, field: &str) -> Option<Column> {
        self.columns
            .iter()
            .find(|(name, _)| *name == field)
            .map(|(_, column)| *column)
    }

    /// The units that it holds.
    pub fn units(&self) -> impl Iterator<Item = &'static Unit> {
        let has = |unit: &&Unit| unit.fields.iter().all(|field| self.column(field).is_some());
        entity(self.entity).units.iter().filter(has)
    }

    /// What a row holds of a unit.
    pub fn read(&self, unit: &Unit, row: &Row) -> Cell {
        let field = |name: &&str| self.column(name).and_then(|column| column.read(row));
        match unit.fields {
            [one] => field(one),
            several => Some(group(several.iter().map(field))),
        }
    }

    /// Whom a row is about, however it is written.
    pub fn person(&self, row: &Row) -> Option<String> {
        self.read(entity(self.entity).person(), row).map(|text| normal(&text))
    }
}

/// How a person's name in the matching sense is written once and for all.
pub fn normal(person: &str) -> String {
    person.trim().to_lowercase()
}

/// The fields of a group as one text.
pub fn group(cells: impl Iterator<Item = Cell>) -> String {
    let texts: Vec<String> = cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned())).collect();
    texts.join(" / ")
}

/// A set as one text.
pub fn set<'a>(elements: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = elements.filter(|element| !element.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

/// A number without zeros that say nothing.
pub fn number(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// Hundredths as a number.
fn scaled(pence: &str) -> String {
    let (sign, digits) = match pence.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", pence),
    };
    let digits = format!("{digits:0>3}");
    let (whole, rest) = digits.split_at(digits.len() - 2);
    number(&format!("{sign}{whole}.{rest}"))
}

impl Column {
    /// The columns that it is.
    pub fn names(self) -> Vec<&'static str> {
        match self {
            Plain(name) | Hundredths(name) | Array(name) | Split(name) => vec![name],
            Pair(first, last) => vec![first, last],
        }
    }

    /// What it holds.
    pub fn read(self, row: &Row) -> Cell {
        let cell = |name: &str| row.get(name).cloned().flatten();
        match self {
            Plain(name) => cell(name).map(|text| plain(&text)),
            Hundredths(name) => cell(name).map(|text| scaled(&text)),
            Array(name) => {
                let text = cell(name).unwrap_or_default();
                Some(set(text.trim_matches(['{', '}']).split(',')))
            }
            Split(name) => Some(set(cell(name).unwrap_or_default().split(';'))),
            Pair(first, last) => {
                let words: Vec<String> = [first, last].into_iter().filter_map(cell).collect();
                (!words.is_empty()).then(|| words.join(" "))
            }
        }
    }

    /// The assignments that make it hold `value`.
    pub fn set(self, value: &str) -> Vec<(&'static str, String)> {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        match self {
            Plain(name) => vec![(name, quoted(value))],
            Hundredths(name) => vec![(name, value.replace('.', ""))],
            Array(name) => vec![(name, quoted(&format!("{{{value}}}")))],
            Split(name) => vec![(name, quoted(&value.replace(',', ";")))],
            Pair(first, last) => {
                let (head, tail) = value.split_once(' ').unwrap_or((value, ""));
                vec![(first, quoted(head)), (last, quoted(tail))]
            }
        }
    }
}

/// A number of the log as a number; every other text as it is. No text of the load looks like a number with a point.
fn plain(text: &str) -> String {
    let is_number = text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    if is_number { number(text) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&str, &str)]) -> Row {
        cells
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned())))
            .collect()
    }

    #[test]
    fn columns_of_all_shapes_say_the_same() {
        let shop = row(&[
            ("credit_pence", "105"),
            ("labels", "{e2,e1}"),
            ("full_name", "Ada L"),
            ("town", "York"),
        ]);
        let crm = row(&[
            ("limit_gbp", "1.05"),
            ("tags", "e1;e2"),
            ("first", "Ada"),
            ("last", "L"),
            ("city", "York"),
        ]);
        let customer = entity("customer");
        for name in ["credit", "tags", "name", "address"] {
            let unit = customer.unit_of(name).unwrap();
            assert_eq!(TABLES[0].read(unit, &shop), TABLES[3].read(unit, &crm), "{name}");
        }
        assert_eq!(
            TABLES[0].read(customer.unit_of("address").unwrap(), &shop).as_deref(),
            Some("- / York")
        );
        assert_eq!([scaled("5"), scaled("-1200"), number("0.50")], ["0.05", "-12", "0.5"]);
    }

    #[test]
    fn a_table_knows_its_units_and_whom_it_is_about() {
        let accounts = &TABLES[6];
        assert!(accounts.units().all(|unit| !["phone", "notes"].contains(&unit.name)));
        assert_eq!(
            accounts.person(&row(&[("invoice_to", " P1@X.org")])).as_deref(),
            Some("p1@x.org")
        );
    }
}
