//! The entities, the tables and the SQL that makes them: the same things under other names, in other types.
//!
//! A row is unique by whom it is about, as it is in apps that know their customers; so of a row of ours and one of a user,
//! made at the same moment, one is refused.

use super::Column::{Array, Hundredths, Pair, Plain, Split};
use super::{COUNTED_AT_FIRST, Deletion, Entity, Kind, Table, Unit, unit};

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
