//! The price under seven rules, the price that was known, and the stock.

use anyhow::Context as _;
use syncline_tests::{Agreed, Stage, World, until, until_some};

use crate::cast::Cast;
use crate::show::{Look, Show};

const WAIT_S: u64 = 40;

/// Field, rule as in the file, agreed price, what the shop and the warehouse show in the end.
const LISTS: [(&str, &str, &str, &str, &str); 7] = [
    ("retail", "latest", "45", "45", "45"),
    ("launch", "first", "50", "50", "50"),
    ("web", "[shop, wms]", "50", "50", "50"),
    ("trade", "[wms, shop]", "45", "45", "45"),
    ("contract", "hold", "50", "50", "45"),
    ("floor", "max", "50", "50", "50"),
    ("promo", "min", "45", "45", "45"),
];

fn shop_price(field: &str) -> String {
    format!("trim_scale({field}_pence / 100.0)")
}

fn all_lists(one: impl Fn(&str) -> String) -> String {
    LISTS
        .iter()
        .map(|(field, ..)| one(field))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What the shop and the warehouse show of the seven price lists of a product.
fn shown(world: &World, sku: &str) -> anyhow::Result<[Vec<String>; 2]> {
    let shop = format!("SELECT {} FROM products WHERE sku = '{sku}'", all_lists(shop_price));
    let wms = format!(
        "SELECT {} FROM items WHERE sku = '{sku}'",
        all_lists(|field| format!("trim_scale({field})"))
    );
    let cells = |text: String| text.split('|').map(str::to_owned).collect();
    Ok([cells(world.db("shop").text(&shop)?), cells(world.db("wms").text(&wms)?)])
}

fn set_in_shop(world: &World, sku: &str, pounds: i64) -> anyhow::Result<()> {
    let sets = all_lists(|field| format!("{field}_pence = {}", pounds * 100));
    world
        .db("shop")
        .exec(&format!("UPDATE products SET {sets} WHERE sku = '{sku}'"))
}

fn set_in_wms(world: &World, sku: &str, pounds: i64) -> anyhow::Result<()> {
    let sets = all_lists(|field| format!("{field} = {pounds}"));
    world
        .db("wms")
        .exec(&format!("UPDATE items SET {sets} WHERE sku = '{sku}'"))
}

fn wait_for(world: &World, cid: &str, app: &str, lsn: u64) -> anyhow::Result<Agreed> {
    until_some(&format!("the agreed record after the change in {app}"), WAIT_S, || {
        Ok(world
            .canonical_of("product", cid)?
            .filter(|agreed| agreed.knows(app, lsn)))
    })
}

/// One product with seven price lists, each under another rule.
pub fn prices(world: &World, cast: &mut Cast<'_>, show: &mut Show) -> anyhow::Result<()> {
    show.act("A price under seven rules");
    show.line("  TEA costs 40 everywhere. The shop sets all its prices to 50; the warehouse, offline, sets them to 45 a moment later.");
    let cid = world.canonical_where("product", "sku", "TEA")?.cid;
    cast.lower(&Stage::sink("wms"))?;
    let lsn = world.db("shop").lsn()?;
    set_in_shop(world, "TEA", 50)?;
    wait_for(world, &cid, "shop", lsn)?;
    let lsn = world.db("wms").lsn()?;
    set_in_wms(world, "TEA", 45)?;
    let agreed = wait_for(world, &cid, "wms", lsn)?;
    cast.raise(&Stage::sink("wms"))?;
    let expected = [
        LISTS.map(|list| list.3.to_owned()).to_vec(),
        LISTS.map(|list| list.4.to_owned()).to_vec(),
    ];
    let _ = until("the prices in both apps", WAIT_S, || {
        Ok(shown(world, "TEA")? == expected)
    });
    let [shop, wms] = shown(world, "TEA")?;
    let conflicts = world.conflicts("product")?;
    let head = [
        "price list",
        "rule",
        "shop said",
        "warehouse said",
        "agreed",
        "shop shows",
        "warehouse shows",
        "",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for (index, (field, rule, price, in_shop, in_wms)) in LISTS.into_iter().enumerate() {
        let (shop, wms) = (&shop[index], &wms[index]);
        show.check(&format!("{field} ({rule})"), agreed.show(field), price);
        show.check(&format!("{field} in the shop"), shop, in_shop);
        show.check(&format!("{field} in the warehouse"), wms, in_wms);
        let decided = conflicts
            .get(&format!("{cid}/{field}"))
            .context("a conflict record for each price list")?;
        show.check(&format!("{field}: candidates"), decided.candidates(), "shop=50 wms=45");
        let note = match (shop == "50", wms == "45") {
            (true, true) => "held: a person is asked",
            (true, false) => "the warehouse was corrected",
            _ => "the shop was corrected",
        };
        let cells = [field, rule, "40 → 50", "40 → 45", &agreed.show(field), shop, wms, note];
        table.push(cells.map(str::to_owned).to_vec());
    }
    show.table(&table);
    known_price(world, show)
}

/// An edit made with knowledge of the other is no conflict, whatever the rule.
fn known_price(world: &World, show: &mut Show) -> anyhow::Result<()> {
    let cid = world.canonical_where("product", "sku", "COFFEE")?.cid;
    set_in_shop(world, "COFFEE", 50)?;
    until("the warehouse to have 50", WAIT_S, || {
        Ok(shown(world, "COFFEE")?[1].iter().all(|price| price == "50"))
    })?;
    let lsn = world.db("wms").lsn()?;
    set_in_wms(world, "COFFEE", 45)?;
    let agreed = wait_for(world, &cid, "wms", lsn)?;
    for (field, rule, ..) in LISTS {
        show.check(
            &format!("{field} ({rule}) when the warehouse had the 50"),
            agreed.show(field),
            45,
        );
    }
    until("the shop to have 45", WAIT_S, || {
        Ok(shown(world, "COFFEE")?[0].iter().all(|price| price == "45"))
    })?;
    let asked = world
        .conflicts("product")?
        .keys()
        .filter(|key| key.starts_with(&cid))
        .count();
    show.line("  COFFEE: the warehouse had received the 50 before it set 45.");
    show.fact(
        "45 under every rule, and no conflict at all: the editor knew",
        asked == 0,
    );
    Ok(())
}

/// Sales and goods-in at the same time: every app's deltas count.
pub fn stock(world: &World, cast: &mut Cast<'_>, show: &mut Show) -> anyhow::Result<()> {
    show.act("The stock: nothing sold twice, nothing lost");
    let cid = world.canonical_where("product", "sku", "TEA")?.cid;
    cast.lower(&Stage::sink("shop"))?;
    cast.lower(&Stage::sink("wms"))?;
    let steps = [
        (
            "shop",
            "UPDATE products SET qty = 97 WHERE sku = 'TEA'",
            "97",
            "three sold in the shop",
        ),
        (
            "wms",
            "UPDATE items SET on_hand = 110 WHERE sku = 'TEA'",
            "107",
            "ten more on the shelf",
        ),
        (
            "shop",
            "UPDATE products SET qty = 95 WHERE sku = 'TEA'",
            "105",
            "two sold, before the shop saw the ten",
        ),
    ];
    let mut table = vec![
        ["", "shop shows", "warehouse shows", "agreed", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    let stocks = || -> anyhow::Result<[String; 2]> {
        let shop = world.db("shop").text("SELECT qty FROM products WHERE sku = 'TEA'")?;
        Ok([
            shop,
            world.db("wms").text("SELECT on_hand FROM items WHERE sku = 'TEA'")?,
        ])
    };
    let [shop, wms] = stocks()?;
    table.push(vec!["start".to_owned(), shop, wms, "100".to_owned(), String::new()]);
    for (app, sql, expected, what) in steps {
        let lsn = world.db(app).lsn()?;
        world.db(app).exec(sql)?;
        let agreed = wait_for(world, &cid, app, lsn)?.show("stock");
        let [shop, wms] = stocks()?;
        show.check(&format!("stock: {what}"), &agreed, expected);
        table.push(vec![app.to_owned(), shop, wms, agreed, what.to_owned()]);
    }
    cast.raise(&Stage::sink("shop"))?;
    cast.raise(&Stage::sink("wms"))?;
    let _ = until("105 in both apps", WAIT_S, || Ok(stocks()? == ["105", "105"]));
    let [shop, wms] = stocks()?;
    show.check("stock in the shop", &shop, 105);
    show.check("stock in the warehouse", &wms, 105);
    table.push(vec![
        "both online".to_owned(),
        format!("*{shop}"),
        format!("*{wms}"),
        "105".to_owned(),
        "+10 sent to the shop, -5 to the warehouse".to_owned(),
    ]);
    show.table(&table);
    let verdict = show.look(
        Look::Bold,
        "→ 100 - 3 + 10 - 2 = 105; the last write would have said 95 or 110",
    );
    show.line(&format!("  {verdict}"));
    Ok(())
}
