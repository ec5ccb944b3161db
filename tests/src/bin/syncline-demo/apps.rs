//! What the apps hold: made, shown, compared. Values are compared in the entity's terms, as each app's SQL gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use syncline_tests::{World, acme};

use crate::cast::Cast;
use crate::show::Show;

const ROWS: &str = include_str!("../../../../deploy/demo/rows.sql");
const SHOP_ROWS: &str = include_str!("../../../../deploy/demo/shop.rows.sql");
const CRM_ROWS: &str = include_str!("../../../../deploy/demo/crm.rows.sql");
const BILLING_ROWS: &str = include_str!("../../../../deploy/demo/billing.rows.sql");
const WMS_ROWS: &str = include_str!("../../../../deploy/demo/wms.rows.sql");

const LOOK_EVERY: Duration = Duration::from_millis(700);

/// One app's table in the entity's terms.
struct View {
    entity: &'static str,
    app: &'static str,
    /// Key first; the other columns are named after fields.
    columns: &'static [&'static str],
    sql: &'static str,
}

const PRICES: &[&str] = &[
    "sku", "retail", "launch", "web", "trade", "contract", "floor", "promo", "stock",
];

const VIEWS: [View; 5] = [
    View {
        entity: "customer",
        app: "shop",
        columns: &["email", "name", "phone", "tags"],
        sql: "SELECT email, full_name, phone, (SELECT string_agg(l, ',' ORDER BY l COLLATE \"C\") FROM unnest(labels) l) FROM customers",
    },
    View {
        entity: "customer",
        app: "crm",
        columns: &["email", "name", "phone", "tags", "credit_limit"],
        sql: "SELECT mail, rtrim(first || ' ' || last), tel,
                (SELECT string_agg(t, ',' ORDER BY t COLLATE \"C\") FROM unnest(string_to_array(tags, ';')) t),
                trim_scale(limit_gbp) FROM contacts",
    },
    View {
        entity: "customer",
        app: "billing",
        columns: &["email", "name", "credit_limit"],
        sql: "SELECT invoice_to, holder, trim_scale(credit_limit) FROM accounts",
    },
    View {
        entity: "product",
        app: "shop",
        columns: PRICES,
        sql: "SELECT sku, trim_scale(retail_pence / 100.0), trim_scale(launch_pence / 100.0), trim_scale(web_pence / 100.0),
                trim_scale(trade_pence / 100.0), trim_scale(contract_pence / 100.0), trim_scale(floor_pence / 100.0),
                trim_scale(promo_pence / 100.0), qty FROM products",
    },
    View {
        entity: "product",
        app: "wms",
        columns: PRICES,
        sql: "SELECT sku, trim_scale(retail), trim_scale(launch), trim_scale(web), trim_scale(trade), trim_scale(contract),
                trim_scale(floor), trim_scale(promo), on_hand FROM items",
    },
];

/// Makes and fills the databases.
pub fn make(directory: &Path, show: &mut Show) -> anyhow::Result<World> {
    let files = [
        ("acme.yaml", acme::PIPELINE),
        ("customer.avsc", acme::CUSTOMER),
        ("product.avsc", acme::PRODUCT),
    ];
    let world = World::alone("acme", directory, &acme::APPS, &files)?;
    for (app, rows) in [
        ("shop", SHOP_ROWS),
        ("crm", CRM_ROWS),
        ("billing", BILLING_ROWS),
        ("wms", WMS_ROWS),
    ] {
        world.db(app).exec(&format!("{ROWS}{rows}"))?;
    }
    let shapes = [
        (
            "shop",
            "customers",
            "one name column, prices in pence, labels as an array",
        ),
        ("shop", "products", ""),
        (
            "crm",
            "contacts",
            "first and last name apart, tags as a;b;c, limit as numeric(12,2)",
        ),
        (
            "billing",
            "accounts",
            "uuid keys, other names for everything, no phones",
        ),
        ("wms", "items", "prices in pounds, stock as it is on the shelf"),
    ];
    let mut table = vec![["app", "table", "rows", "shape"].map(str::to_owned).to_vec()];
    for (app, name, shape) in shapes {
        let rows = world.db(app).text(&format!("SELECT count(*) FROM {name}"))?;
        table.push(vec![app.to_owned(), name.to_owned(), rows, shape.to_owned()]);
    }
    show.table(&table);
    Ok(world)
}

/// What the apps of one entity hold: key, then field, then app and value.
type Held = BTreeMap<String, BTreeMap<&'static str, Vec<(&'static str, String)>>>;

fn read(world: &World, entity: &str) -> anyhow::Result<(Held, BTreeMap<&'static str, usize>)> {
    let (mut all, mut counts): (Held, BTreeMap<_, _>) = Default::default();
    for view in VIEWS.iter().filter(|view| view.entity == entity) {
        let rows = world.db(view.app).rows(view.sql)?;
        counts.insert(view.app, rows.len());
        for row in rows {
            let mut cells = row.into_iter().map(Option::unwrap_or_default);
            let fields = all.entry(cells.next().unwrap_or_default()).or_default();
            for (field, value) in view.columns[1..].iter().zip(cells) {
                fields.entry(field).or_default().push((view.app, value));
            }
        }
    }
    Ok((all, counts))
}

/// How far the apps agree on one entity.
pub struct Comparison {
    /// Number of rows in each app.
    pub rows: BTreeMap<&'static str, usize>,
    /// For each field: how many values were compared.
    pub compared: BTreeMap<&'static str, usize>,
    /// `key field` where apps differ.
    pub differing: BTreeSet<(String, &'static str)>,
    /// Rows that are missing somewhere.
    pub missing: usize,
}

/// Compares the apps.
pub fn compare(world: &World, entity: &str) -> anyhow::Result<Comparison> {
    let (all, rows) = read(world, entity)?;
    let missing = rows.values().map(|count| all.len().abs_diff(*count)).sum();
    let (mut compared, mut differing) = (BTreeMap::new(), BTreeSet::new());
    for (key, fields) in all {
        for (field, said) in fields {
            *compared.entry(field).or_default() += said.len();
            if said.iter().any(|(_, value)| *value != said[0].1) {
                differing.insert((key.clone(), field));
            }
        }
    }
    Ok(Comparison {
        rows,
        compared,
        differing,
        missing,
    })
}

/// The fields that wait for a person, with the keys under which apps know their entities.
fn held(world: &World, entity: &str) -> anyhow::Result<BTreeSet<(String, String)>> {
    let key = if entity == "customer" { "email" } else { "sku" };
    let mut all = BTreeSet::new();
    for agreed in world.canonical(entity)?.into_values() {
        all.extend(agreed.held().into_iter().map(|field| (agreed.show(key), field)));
    }
    Ok(all)
}

/// The differences that are not explained by a question that waits for a person.
fn unexplained(world: &World, entity: &str, comparison: &Comparison) -> anyhow::Result<usize> {
    if comparison.differing.is_empty() {
        return Ok(0);
    }
    let held = held(world, entity)?;
    let explained = |(key, field): &(String, &str)| held.contains(&(key.clone(), (*field).to_owned()));
    Ok(comparison
        .differing
        .iter()
        .filter(|difference| !explained(difference))
        .count())
}

/// Looks at all apps until they agree, held fields apart.
pub fn wait_until_agreed(world: &World, cast: &mut Cast<'_>, show: &mut Show, within_s: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut reported = started;
    loop {
        cast.look()?;
        let (customers, products) = (compare(world, "customer")?, compare(world, "product")?);
        let (missing, differing) = (
            customers.missing + products.missing,
            customers.differing.len() + products.differing.len(),
        );
        let seconds = started.elapsed().as_secs();
        let text = format!("{missing} rows missing somewhere, {differing} fields differ, after {seconds} s");
        show.moving(&text);
        if missing == 0
            && differing < 200
            && unexplained(world, "customer", &customers)? + unexplained(world, "product", &products)? == 0
        {
            show.fact(&format!("all apps agree after {seconds} s"), true);
            return Ok(());
        }
        if seconds > within_s {
            bail!("the apps do not agree within {within_s} s: {text}");
        }
        if reported.elapsed() > Duration::from_secs(5) {
            reported = Instant::now();
            show.step(&text);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The comparison as a table.
pub fn report(world: &World, show: &mut Show) -> anyhow::Result<()> {
    let mut table = vec![
        ["entity", "field", "values compared", "equal", "waiting for a person"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for entity in ["customer", "product"] {
        let comparison = compare(world, entity)?;
        for (app, rows) in &comparison.rows {
            show.check(
                &format!("rows of {entity} in {app}"),
                rows,
                comparison.rows.values().max().unwrap_or(&0),
            );
        }
        let held = held(world, entity)?;
        for (field, compared) in &comparison.compared {
            let differing = comparison.differing.iter().filter(|(_, name)| name == field).count();
            let waiting = held.iter().filter(|(_, name)| name == field).count();
            show.fact_if_not(&format!("{entity}.{field}: differences are held"), differing <= waiting);
            let equal = if differing == 0 {
                "all".to_owned()
            } else {
                format!("all but {differing}")
            };
            table.push(vec![
                entity.to_owned(),
                (*field).to_owned(),
                compared.to_string(),
                equal,
                waiting.to_string(),
            ]);
        }
        show.check(
            &format!("unexplained differences of {entity}"),
            unexplained(world, entity, &comparison)?,
            0,
        );
    }
    show.table(&table);
    Ok(())
}

/// Nothing may have gone aside.
pub fn dead_letters(world: &World, show: &mut Show) -> anyhow::Result<()> {
    let mut all = 0;
    for stage in ["map", "merge", "sink"] {
        all += world.dead_letters(stage)?.len();
    }
    show.check("dead letters", all, 0);
    show.fact("no record went to a dead letter queue", all == 0);
    Ok(())
}
