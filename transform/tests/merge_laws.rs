//! The laws of merging, on random histories of three apps with skewed clocks, read and delivered in any order.

mod model;

use model::{Dice, Row, World, entity};
use syncline_schemas::conflict::Status;
use syncline_schemas::pipeline::{DeletePolicy, Entity, Strategy};
use syncline_schemas::value::{Number, Value};

const APPS: [&str; 3] = ["shop", "crm", "billing"];
const HOUR_US: i64 = 3_600_000_000;

fn every_strategy(on_delete: DeletePolicy) -> Entity {
    let order = Strategy::Order(vec!["crm".to_owned(), "shop".to_owned()]);
    let fields = [
        ("email", Strategy::Latest),
        ("phone", Strategy::First),
        ("limit", Strategy::Hold),
        ("name", order),
        ("code", Strategy::Owner("shop".to_owned())),
        ("price", Strategy::Max),
        ("cost", Strategy::Min),
        ("about", Strategy::Longest),
        ("no_mail", Strategy::MostRestrictive),
        ("tags", Strategy::Union),
        ("stock", Strategy::Add),
    ];
    entity(&fields, on_delete)
}

fn tags(names: &[&str]) -> Value {
    Value::set(names.iter().map(|name| Value::from(*name)))
}

fn random_value(dice: &mut Dice, field: &str) -> Value {
    let number = i64::try_from(dice.below(5)).unwrap();
    match field {
        "tags" => Value::set(
            (0..4)
                .filter(|_| dice.below(2) == 0)
                .map(|tag| Value::text(format!("t{tag}"))),
        ),
        "price" | "cost" | "stock" => Value::from(number),
        "email" if dice.below(8) == 0 => Value::Null,
        "about" => Value::text("é".repeat(usize::try_from(number).unwrap())),
        "no_mail" => Value::Bool(number > 2),
        _ => Value::text(format!("v{number}")),
    }
}

fn random_row(dice: &mut Dice, entity: &Entity) -> Row {
    entity
        .fields
        .iter()
        .map(|field| (field.name.clone(), random_value(dice, &field.name)))
        .collect()
}

fn random_world(dice: &mut Dice, on_delete: DeletePolicy) -> World {
    let skews: Vec<i64> = APPS
        .iter()
        .map(|_| i64::try_from(dice.below(3)).unwrap() * HOUR_US - HOUR_US)
        .collect();
    let mut world = World::new(&APPS, every_strategy(on_delete), &skews);
    let same = random_row(dice, &world.entity);
    let present = 1 + dice.below(APPS.len());
    for app in 0..present {
        let row = if dice.below(2) == 0 {
            same.clone()
        } else {
            random_row(dice, &world.entity)
        };
        world.insert(app, row);
    }
    (0..present).for_each(|app| world.read(app, usize::MAX));
    world
}

/// One random step; returns what it added to the counter, if the counter was touched by a user.
fn step(world: &mut World, dice: &mut Dice, deletes: bool) {
    let app = dice.below(APPS.len());
    match dice.below(10) {
        0..=3 => {
            let field = world.entity.fields[dice.below(world.entity.fields.len())].name.clone();
            let value = random_value(dice, &field);
            world.edit(app, &field, value);
        }
        4..=6 => world.read(app, 1 + dice.below(3)),
        7 if deletes && dice.below(3) == 0 => world.delete(app),
        7 if deletes && world.apps[app].row.is_none() && dice.below(3) == 0 => {
            let row = random_row(dice, &world.entity);
            world.insert(app, row);
        }
        _ => {
            world.deliver(app);
        }
    }
}

fn assert_agreed(world: &World, seed: u64) {
    let canonical = world.canonical.as_ref().unwrap();
    for app in &world.apps {
        let Some(row) = &app.row else {
            let gone = canonical.deleted || canonical.app(app.name).is_some_and(|words| words.gone);
            assert!(gone, "seed {seed}: {} has no row", app.name);
            continue;
        };
        assert!(
            !canonical.deleted,
            "seed {seed}: {} still has the deleted row",
            app.name
        );
        for (field, value) in canonical
            .fields
            .iter()
            .filter(|(name, _)| !canonical.held.contains(name))
        {
            let held = row.get(field).cloned().unwrap_or_default();
            assert_eq!(held, *value, "seed {seed}: {} {field}", app.name);
        }
    }
}

fn assert_order_free(world: &World, dice: &mut Dice, seed: u64) {
    for _ in 0..3 {
        let replayed = world.replayed(dice);
        assert_eq!(replayed, world.canonical, "seed {seed}");
    }
}

#[test]
fn any_history_comes_to_rest_in_agreement_and_any_order_of_reading_gives_the_same_record() {
    for seed in 0..8_000 {
        let mut dice = Dice::new(seed);
        let mut world = random_world(&mut dice, DeletePolicy::Ignore);
        (0..5 + dice.below(40)).for_each(|_| step(&mut world, &mut dice, false));
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
    }
}

#[test]
fn every_order_of_reading_a_short_history_gives_the_same_record() {
    let (mut histories, mut orders) = (0, 0);
    for seed in 0.. {
        if histories == 150 {
            break;
        }
        let mut dice = Dice::new(seed);
        let policy = if seed % 2 == 0 {
            DeletePolicy::UpdateWins
        } else {
            DeletePolicy::DeleteWins
        };
        let mut world = random_world(&mut dice, policy);
        (0..4 + dice.below(8)).for_each(|_| step(&mut world, &mut dice, true));
        assert!(world.settle(), "seed {seed} never comes to rest");
        let lengths: Vec<usize> = world.apps.iter().map(|app| app.log.len()).collect();
        if lengths.iter().sum::<usize>() > 8 || lengths.contains(&0) {
            continue;
        }
        histories += 1;
        world.in_every_order(&mut |canonical| {
            orders += 1;
            assert_eq!(canonical, world.canonical, "seed {seed}");
        });
    }
    assert!(orders > 10_000, "{orders} orders are not many");
}

#[test]
fn deletes_obey_the_same_laws_under_every_policy() {
    let policies = [
        DeletePolicy::DeleteWins,
        DeletePolicy::UpdateWins,
        DeletePolicy::Soft,
        DeletePolicy::Ignore,
    ];
    for seed in 0..8_000 {
        let mut dice = Dice::new(seed);
        let policy = policies[dice.below(4)];
        let mut world = random_world(&mut dice, policy);
        (0..5 + dice.below(40)).for_each(|_| step(&mut world, &mut dice, true));
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
    }
}

#[test]
fn one_after_the_other_is_never_a_conflict_however_wrong_the_clocks() {
    for seed in 0..2_000 {
        let mut dice = Dice::new(seed);
        let skews: Vec<i64> = (0..3)
            .map(|_| i64::try_from(dice.below(7_200)).unwrap() * 1_000_000 - HOUR_US)
            .collect();
        let mut world = World::new(&APPS, every_strategy(DeletePolicy::Ignore), &skews);
        let row = random_row(&mut dice, &world.entity);
        (0..3).for_each(|app| world.insert(app, row.clone()));
        assert!(world.settle());
        for _ in 0..12 {
            let field = ["email", "phone", "limit", "name", "price", "cost"][dice.below(6)];
            let value = random_value(&mut dice, field);
            world.edit(dice.below(3), field, value.clone());
            assert!(world.settle(), "seed {seed}");
            assert_eq!(
                world.canonical.as_ref().unwrap().fields[field],
                value,
                "seed {seed} {field}"
            );
        }
        assert!(world.conflicts.is_empty(), "seed {seed}: {:?}", world.conflicts);
    }
}

#[test]
fn a_counter_is_what_it_was_and_all_that_was_added() {
    for seed in 0..3_000 {
        let mut dice = Dice::new(seed);
        let mut world = World::new(&APPS, every_strategy(DeletePolicy::Ignore), &[0, HOUR_US, -HOUR_US]);
        let start: Row = [("stock".to_owned(), Value::from(100))].into();
        (0..3).for_each(|app| world.insert(app, start.clone()));
        world.settle();
        for _ in 0..30 {
            let app = dice.below(3);
            if dice.below(2) == 0 {
                let delta = i64::try_from(dice.below(21)).unwrap() - 10;
                let Value::Number(now) = &world.apps[app].row.as_ref().unwrap()["stock"] else {
                    unreachable!()
                };
                let next = now + &Number::from(delta);
                world.edit(app, "stock", Value::Number(next));
            } else {
                step(&mut world, &mut Dice::new(seed + 1), false);
                world.read(app, 2);
                world.deliver(app);
            }
        }
        // `step` may set the counter as well: what counts is what the logs say.
        assert!(world.settle(), "seed {seed}");
        let summed = added_by_users(&world) + 100;
        assert_eq!(
            world.canonical.as_ref().unwrap().fields["stock"],
            Value::from(summed),
            "seed {seed}"
        );
        assert_agreed(&world, seed);
    }
}

/// Sum of what users added, from the logs alone: each difference less what the mark in it delivered.
fn added_by_users(world: &World) -> i64 {
    let number = |value: &Value| match value {
        Value::Number(number) => number.to_string().parse::<i64>().unwrap(),
        other => panic!("{other}"),
    };
    world
        .apps
        .iter()
        .map(|app| {
            let (mut now, mut delivered, mut sum) = (100, 0, 0);
            for said in &app.log {
                let mark = said
                    .mark
                    .as_ref()
                    .and_then(|mark| mark.field("stock"))
                    .and_then(|f| f.delivered.clone());
                let due = mark.map_or(delivered, |due| due.to_string().parse().unwrap());
                if let Some(field) = said.fields.iter().find(|field| field.name == "stock") {
                    sum += number(&field.value) - now - (due - delivered);
                    (now, delivered) = (number(&field.value), due);
                }
            }
            sum
        })
        .sum()
}

#[test]
fn one_edit_is_one_record_and_one_write_in_each_other_app() {
    for seed in 0..1_000 {
        let mut dice = Dice::new(seed);
        let mut world = random_world(&mut dice, DeletePolicy::Ignore);
        assert!(world.settle());
        let field = ["email", "phone", "name", "tags", "stock"][dice.below(5)];
        let app = dice.below(3);
        let before: Vec<usize> = world.apps.iter().map(|app| app.writes).collect();
        let records = world.records;
        let value = random_value(&mut dice, field);
        if world.apps[app].row.as_ref().unwrap().get(field) == Some(&value) {
            continue;
        }
        world.edit(app, field, value.clone());
        assert!(world.settle());
        assert_eq!(world.records, records + 1, "seed {seed}: records");
        for (index, other) in world.apps.iter().enumerate() {
            let writes = other.writes - before[index];
            assert_eq!(
                writes,
                usize::from(index != app),
                "seed {seed}: writes to {}",
                other.name
            );
        }
    }
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
    decide(&mut world, "limit", 1200.into());
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

fn decide(world: &mut World, field: &str, value: Value) {
    use syncline_schemas::decision::Decision;
    use syncline_schemas::position::{Lsn, Position};
    let answers = world.canonical.as_ref().unwrap().vector.clone();
    let text = |text: &str| text.to_owned();
    let decision = Decision {
        cid: text(model::CID),
        field: text(field),
        value,
        answers,
        by: text("finance"),
        why: text("agreed by phone"),
        at_us: 0,
    };
    let before = world.state.clone();
    world.state.decide(&decision, Position::new(0, Lsn(0), 0));
    let outputs =
        syncline_transform::merge::published(model::CID, &before, &world.state, &world.entity, &world.authority);
    world.conflicts.extend(outputs.conflicts);
    world.canonical = outputs.canonical;
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
