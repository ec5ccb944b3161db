//! The pipeline file and the schemas: strategies of every sort, and a policy of deletions for each entity.

use super::COUNTED_AT_FIRST;

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
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}", partitions: PARTS, max_clock_skew: SKEW }
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

/// The pipeline file, with so much allowed to a clock, and topics of so many partitions.
pub fn pipeline(skew: &str, partitions: u64) -> String {
    let most = (COUNTED_AT_FIRST + 4).to_string();
    let file = PIPELINE.replace("SKEW", skew).replace("MOST", &most);
    file.replace("PARTS", &partitions.to_string())
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
