//! The worked examples of the design.

use syncline_schemas::conflict::Status;
use syncline_schemas::pipeline::{DeletePolicy, Strategy};
use syncline_schemas::value::Value;

use crate::model::{Row, World, entity};
use crate::{APPS, HOUR_US};

fn tags(names: &[&str]) -> Value {
    Value::set(names.iter().map(|name| Value::from(*name)))
}

#[test]
fn the_customer_of_the_design_goes_through_its_nine_steps() {
    let fields = [
        ("email", Strategy::Latest),
        ("phone", Strategy::Latest),
        ("limit", Strategy::Hold),
        ("tags", Strategy::Union),
    ];
    let mut world = World::new(&APPS, entity(&fields, DeletePolicy::Ignore), &[]);
    let row: Row = [
        ("email".to_owned(), "ada@old.uk".into()),
        ("phone".to_owned(), "0001".into()),
        ("limit".to_owned(), 1000.into()),
        ("tags".to_owned(), tags(&["vip"])),
    ]
    .into();
    (0..3).for_each(|app| world.insert(app, row.clone()));
    assert!(world.settle());
    let now = |world: &mut World, field: &str| {
        (0..3).for_each(|app| world.read(app, usize::MAX));
        world.canonical.as_ref().unwrap().fields[field].clone()
    };
    let (shop, crm, billing) = (0, 1, 2);
    world.edit(shop, "email", "ada@new.uk".into());
    assert_eq!(now(&mut world, "email"), "ada@new.uk".into());
    world.edit(crm, "email", "ada@crm.uk".into());
    world.edit(crm, "phone", "0002".into());
    assert_eq!(now(&mut world, "email"), "ada@crm.uk".into());
    assert_eq!(now(&mut world, "phone"), "0002".into());
    let email = world
        .conflicts
        .iter()
        .find(|conflict| conflict.field == "email")
        .unwrap();
    assert!(
        email
            .candidates
            .iter()
            .any(|lost| lost.value == Some("ada@new.uk".into())),
        "the loser is kept"
    );
    assert!(!world.conflicts.iter().any(|conflict| conflict.field == "phone"));
    world.edit(billing, "limit", 1500.into());
    assert_eq!(now(&mut world, "limit"), 1500.into());
    world.edit(crm, "limit", 800.into());
    assert_eq!(now(&mut world, "limit"), 1500.into());
    assert_eq!(world.canonical.as_ref().unwrap().held, ["limit"]);
    world.edit(shop, "tags", tags(&["vip", "newsletter"]));
    world.edit(crm, "tags", tags(&["vip", "churn-risk"]));
    assert_eq!(now(&mut world, "tags"), tags(&["vip", "newsletter", "churn-risk"]));
    world.edit(crm, "tags", tags(&["churn-risk"]));
    assert_eq!(now(&mut world, "tags"), tags(&["newsletter", "churn-risk"]));
    assert!(world.settle());
    let rows: Vec<&Row> = world.apps.iter().map(|app| app.row.as_ref().unwrap()).collect();
    assert_eq!(rows[billing]["limit"], 1500.into());
    assert_eq!(rows[crm]["limit"], 800.into());
    assert!(rows.iter().all(|row| row["email"] == "ada@crm.uk".into()));
    assert!(
        rows.iter()
            .all(|row| row["tags"] == tags(&["newsletter", "churn-risk"]))
    );
    world.decide("limit", 1200.into());
    assert!(world.settle());
    assert!(
        world
            .apps
            .iter()
            .all(|app| app.row.as_ref().unwrap()["limit"] == 1200.into())
    );
    let last = world
        .conflicts
        .iter()
        .rfind(|conflict| conflict.field == "limit")
        .unwrap();
    assert_eq!(last.status, Status::Closed);
}

#[test]
fn the_longer_text_and_the_stricter_answer_win_whoever_says_them() {
    let fields = [("about", Strategy::Longest), ("no_mail", Strategy::MostRestrictive)];
    let said = [("éèê".into(), Value::Bool(false)), ("four".into(), Value::Bool(true))];
    for turned in [false, true] {
        let mut world = World::new(&APPS[..2], entity(&fields, DeletePolicy::Ignore), &[0, 0]);
        let first = [
            ("about".to_owned(), "a".into()),
            ("no_mail".to_owned(), Value::Bool(false)),
        ];
        (0..2).for_each(|app| world.insert(app, first.clone().into()));
        assert!(world.settle());
        for (index, (about, no_mail)) in said.iter().enumerate() {
            let app = if turned { 1 - index } else { index };
            world.edit(app, "about", Value::clone(about));
            world.edit(app, "no_mail", no_mail.clone());
        }
        assert!(world.settle());
        let agreed = &world.canonical.as_ref().unwrap().fields;
        // More bytes are not more characters.
        assert_eq!(
            (&agreed["about"], &agreed["no_mail"]),
            (&"four".into(), &Value::Bool(true))
        );
    }
}

#[test]
fn a_price_that_two_apps_set_unseen_goes_by_the_strategy_and_a_seen_one_does_not() {
    let order = |names: &[&str]| Strategy::Order(names.iter().map(|name| (*name).to_owned()).collect());
    let cases = [
        (Strategy::Latest, 45),
        (Strategy::First, 50),
        (order(&["shop", "crm"]), 50),
        (order(&["crm", "shop"]), 45),
        (Strategy::Hold, 50),
        (Strategy::Max, 50),
        (Strategy::Min, 45),
    ];
    for (strategy, expected) in cases {
        for seen in [false, true] {
            let entity = entity(&[("price", strategy.clone())], DeletePolicy::Ignore);
            let mut world = World::new(&APPS[..2], entity, &[0, if seen { -HOUR_US } else { 0 }]);
            (0..2).for_each(|app| world.insert(app, [("price".to_owned(), 40.into())].into()));
            assert!(world.settle());
            world.edit(0, "price", 50.into());
            if seen {
                assert!(world.settle());
            }
            world.edit(1, "price", 45.into());
            assert!(world.settle());
            let expected = if seen { 45 } else { expected };
            assert_eq!(
                world.canonical.as_ref().unwrap().fields["price"],
                expected.into(),
                "{strategy} seen: {seen}"
            );
            assert_eq!(world.conflicts.is_empty(), seen, "{strategy} seen: {seen}");
            let held = strategy == Strategy::Hold && !seen;
            let prices: Vec<Value> = world
                .apps
                .iter()
                .map(|app| app.row.as_ref().unwrap()["price"].clone())
                .collect();
            let theirs = if held {
                [50.into(), 45.into()]
            } else {
                [expected.into(), expected.into()]
            };
            assert_eq!(prices, theirs, "{strategy} seen: {seen}");
        }
    }
}

#[test]
fn the_stock_of_the_design_is_105() {
    let entity = entity(&[("stock", Strategy::Add)], DeletePolicy::Ignore);
    let mut world = World::new(&APPS[..2], entity, &[]);
    (0..2).for_each(|app| world.insert(app, [("stock".to_owned(), 100.into())].into()));
    assert!(world.settle());
    for (app, value, agreed) in [(0, 97, 97), (1, 110, 107), (0, 95, 105)] {
        world.edit(app, "stock", value.into());
        world.read(app, usize::MAX);
        assert_eq!(world.canonical.as_ref().unwrap().fields["stock"], agreed.into());
    }
    assert!(world.settle());
    assert!(
        world
            .apps
            .iter()
            .all(|app| app.row.as_ref().unwrap()["stock"] == 105.into())
    );
    assert_eq!(world.apps[0].writes + world.apps[1].writes, 2);
}
