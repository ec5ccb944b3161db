//! The laws of merging, on random histories of three apps with skewed clocks, read and delivered in any order.

mod model;

use model::{Dice, Row, World, entity, group, terms};
use syncline_schemas::conflict::{Status, WHOLE};
use syncline_schemas::pipeline::{Beyond, DeletePolicy, Entity, Strategy, Uncertain};
use syncline_schemas::value::{Number, Value};

const APPS: [&str; 3] = ["shop", "crm", "billing"];
const HOUR_US: i64 = 3_600_000_000;

/// So many histories, or as many times that as `SYNCLINE_LAWS_TIMES` says.
fn scaled(histories: u64) -> u64 {
    let times = std::env::var("SYNCLINE_LAWS_TIMES")
        .ok()
        .and_then(|times| times.parse::<f64>().ok());
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let scaled = (histories as f64 * times.unwrap_or(1.0)) as u64;
    scaled.max(1)
}

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
        ("street", Strategy::Latest),
        ("city", Strategy::Latest),
        ("first", Strategy::Hold),
        ("last", Strategy::Hold),
        ("notes", Strategy::MergeText),
        ("fax", Strategy::Latest),
        ("slot", Strategy::First),
        ("shelf", Strategy::Add),
        ("bin", Strategy::Add),
        ("counted", Strategy::Latest),
    ];
    let mut entity = entity(&fields, on_delete);
    terms(&mut entity, "notes").otherwise = Some(Strategy::Hold);
    terms(&mut entity, "fax").uncertain = Some(Uncertain {
        within_us: HOUR_US / 2,
        then: Strategy::Order(vec!["billing".to_owned()]),
    });
    terms(&mut entity, "slot").lease_us = Some(3_000_000);
    terms(&mut entity, "shelf").bounds.min = Some(Number::zero());
    terms(&mut entity, "shelf").bounds.below_min = Beyond::Clamp;
    terms(&mut entity, "bin").absolute_from = Some("counted".to_owned());
    entity.groups = vec![
        group("address", &["street", "city"], Strategy::Latest),
        group("person", &["first", "last"], Strategy::Hold),
    ];
    entity
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
        "price" | "cost" | "stock" | "shelf" | "bin" | "counted" => Value::from(number),
        "notes" => {
            let letters: Vec<&str> = (0..3).map(|_| ["a", "b", "c"][dice.below(3)]).collect();
            Value::text(letters.join("\n-\n"))
        }
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

/// A part of an entity: few fields, so that many histories can be tried, and whole groups.
fn part(dice: &mut Dice, mut entity: Entity) -> Entity {
    let together = |field: &str| match field {
        "street" | "city" => "address",
        "first" | "last" => "person",
        "counted" => "bin",
        other => other,
    };
    let names: Vec<String> = entity
        .fields
        .iter()
        .map(|field| together(&field.name).to_owned())
        .collect();
    let kept: Vec<&String> = (0..4).map(|_| &names[dice.below(names.len())]).collect();
    let is_kept = |name: &str| kept.iter().any(|kept| *kept == name);
    entity.fields.retain(|field| is_kept(together(&field.name)));
    entity.groups.retain(|group| is_kept(&group.name));
    entity
}

fn random_world(dice: &mut Dice, entity: Entity) -> World {
    let skews: Vec<i64> = APPS
        .iter()
        .map(|_| i64::try_from(dice.below(3)).unwrap() * HOUR_US - HOUR_US)
        .collect();
    let mut world = World::new(&APPS, entity, &skews);
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
    if dice.below(25) == 0 {
        return decide(world, dice, deletes);
    }
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

/// A person decides about something.
fn decide(world: &mut World, dice: &mut Dice, deletes: bool) {
    if deletes && dice.below(3) == 0 {
        return world.decide(WHOLE, Value::Bool(dice.below(2) == 0));
    }
    let fields = ["email", "limit", "notes", "address", "person"];
    let name = fields[dice.below(fields.len())];
    let entity = &world.entity;
    if entity.field(name).is_none() && !entity.groups.iter().any(|group| group.name == name) {
        return;
    }
    let value = match name {
        "address" | "person" => Value::List(vec![random_value(dice, "street"), random_value(dice, "city")]),
        name => random_value(dice, name),
    };
    world.decide(name, value);
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
    for seed in 0..scaled(40_000) {
        let mut dice = Dice::new(seed);
        let entity = part(&mut dice, every_strategy(DeletePolicy::Ignore));
        let mut world = random_world(&mut dice, entity);
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
        let entity = part(&mut dice, every_strategy(policy));
        let mut world = random_world(&mut dice, entity);
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
        DeletePolicy::Hold,
    ];
    for seed in 0..scaled(50_000) {
        let mut dice = Dice::new(seed);
        let policy = policies[dice.below(policies.len())];
        let entity = part(&mut dice, every_strategy(policy));
        let mut world = random_world(&mut dice, entity);
        (0..5 + dice.below(40)).for_each(|_| step(&mut world, &mut dice, true));
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
    }
}

#[test]
fn one_after_the_other_is_never_a_conflict_however_wrong_the_clocks() {
    for seed in 0..scaled(4_000) {
        let mut dice = Dice::new(seed);
        let skews: Vec<i64> = (0..3)
            .map(|_| i64::try_from(dice.below(7_200)).unwrap() * 1_000_000 - HOUR_US)
            .collect();
        let sequential = [
            "email", "phone", "limit", "name", "price", "cost", "notes", "fax", "slot",
        ];
        let mut entity = every_strategy(DeletePolicy::Ignore);
        entity.fields.retain(|field| sequential.contains(&field.name.as_str()));
        entity.groups.clear();
        let mut world = World::new(&APPS, entity, &skews);
        let row = random_row(&mut dice, &world.entity);
        (0..3).for_each(|app| world.insert(app, row.clone()));
        assert!(world.settle());
        for _ in 0..12 {
            let field = sequential[dice.below(sequential.len())];
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
    for seed in 0..scaled(5_000) {
        let mut dice = Dice::new(seed);
        let fields = [("stock", Strategy::Add), ("email", Strategy::Latest)];
        let mut world = World::new(&APPS, entity(&fields, DeletePolicy::Ignore), &[0, HOUR_US, -HOUR_US]);
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
    for seed in 0..scaled(1_000) {
        let mut dice = Dice::new(seed);
        let mut world = random_world(&mut dice, every_strategy(DeletePolicy::Ignore));
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

/// Every app keeps its address in one piece: whatever is agreed, some app said the whole of it, or it was there at first.
#[test]
fn an_address_never_mixes_two_sources() {
    for seed in 0..scaled(10_000) {
        let mut dice = Dice::new(seed);
        let strategies = [Strategy::Latest, Strategy::First, Strategy::Hold];
        let mut entity = entity(
            &[("street", Strategy::Latest), ("city", Strategy::Latest)],
            DeletePolicy::Ignore,
        );
        entity.groups = vec![group("address", &["street", "city"], strategies[dice.below(3)].clone())];
        let mut world = World::new(&APPS, entity, &[0, HOUR_US, -HOUR_US]);
        let address = |street: &str, city: &str| -> Row {
            [("street".to_owned(), street.into()), ("city".to_owned(), city.into())].into()
        };
        (0..3).for_each(|app| world.insert(app, address("s0", "c0")));
        assert!(world.settle());
        let mut whole = vec![world.apps[0].row.clone().unwrap()];
        for edit in 1..=3 + dice.below(6) {
            let app = dice.below(3);
            // A user changes one part or both, having the rest before him.
            for (part, letter) in [("street", "s"), ("city", "c")].into_iter().skip(dice.below(2)) {
                world.edit(app, part, Value::text(format!("{letter}{edit}")));
                whole.push(world.apps[app].row.clone().unwrap());
            }
            for _ in 0..dice.below(5) {
                let app = dice.below(3);
                world.read(app, 1 + dice.below(2));
                world.deliver(app);
                let row = world.apps[app].row.as_ref().unwrap();
                assert!(whole.contains(row), "seed {seed}: {row:?} was never said");
            }
        }
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
        assert!(whole.contains(&world.canonical.as_ref().unwrap().fields), "seed {seed}");
    }
}

#[test]
fn an_address_that_two_apps_change_in_different_parts_is_that_of_one_of_them() {
    let fields = [("street", Strategy::Latest), ("city", Strategy::Latest)];
    let mut entity = entity(&fields, DeletePolicy::Ignore);
    entity.groups = vec![group("address", &["street", "city"], Strategy::Latest)];
    let mut world = World::new(&APPS[..2], entity, &[]);
    let old: Row = [
        ("street".to_owned(), "1 Old St".into()),
        ("city".to_owned(), "York".into()),
    ]
    .into();
    (0..2).for_each(|app| world.insert(app, old.clone()));
    assert!(world.settle());
    world.edit(0, "street", "2 New St".into());
    world.edit(1, "city", "Leeds".into());
    assert!(world.settle());
    let agreed = &world.canonical.as_ref().unwrap().fields;
    assert_eq!(
        (&agreed["street"], &agreed["city"]),
        (&"1 Old St".into(), &"Leeds".into())
    );
    let [conflict] = world.conflicts.as_slice() else {
        panic!("{:?}", world.conflicts)
    };
    let lost = Value::List(vec!["2 New St".into(), "York".into()]);
    assert_eq!(conflict.field, "address");
    assert!(
        conflict.candidates.iter().any(|one| one.value == Some(lost.clone())),
        "the loser is kept whole"
    );
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

/// Two apps alone that hold the same row.
fn two(entity: Entity, row: &[(&str, Value)]) -> World {
    let mut world = World::new(&APPS[..2], entity, &[]);
    let row: Row = row
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    (0..2).for_each(|app| world.insert(app, row.clone()));
    assert!(world.settle());
    world
}

fn agreed(world: &World, field: &str) -> Value {
    world.canonical.as_ref().unwrap().fields[field].clone()
}

#[test]
fn notes_that_two_apps_write_in_different_lines_become_one_and_the_same_line_is_left_to_else() {
    let mut entity = entity(&[("notes", Strategy::MergeText)], DeletePolicy::Ignore);
    terms(&mut entity, "notes").otherwise = Some(Strategy::Hold);
    let mut world = two(entity, &[("notes", "calls\n--\npays late".into())]);
    // Several edits in a row: the text they have in common is older than the last one's base.
    world.edit(0, "notes", "calls often\n--\npays late".into());
    world.edit(0, "notes", "calls on Mondays\n--\npays late".into());
    world.edit(1, "notes", "calls\n--\npays in time".into());
    assert!(world.settle());
    assert_eq!(agreed(&world, "notes"), "calls on Mondays\n--\npays in time".into());
    assert!(
        world
            .apps
            .iter()
            .all(|app| app.row.as_ref().unwrap()["notes"] == agreed(&world, "notes"))
    );
    world.edit(0, "notes", "never calls\n--\npays in time".into());
    world.edit(1, "notes", "always calls\n--\npays in time".into());
    assert!(world.settle());
    assert_eq!(world.canonical.as_ref().unwrap().held, ["notes"]);
    world.decide("notes", "calls\n--\npays in time".into());
    assert!(world.settle());
    assert!(
        world
            .apps
            .iter()
            .all(|app| app.row.as_ref().unwrap()["notes"] == "calls\n--\npays in time".into())
    );
}

#[test]
fn stamps_too_close_to_call_are_left_to_if_uncertain() {
    let order = Strategy::Order(vec!["shop".to_owned()]);
    // The second edit is a second later; within that much it is not known which was first.
    for (then, within_us, value, held) in [
        (order.clone(), 5_000_000, "shop's", false),
        (Strategy::Hold, 5_000_000, "shop's", true),
        (order, 1_000_000, "crm's", false),
    ] {
        let mut entity = entity(&[("fax", Strategy::Latest)], DeletePolicy::Ignore);
        terms(&mut entity, "fax").uncertain = Some(Uncertain { within_us, then });
        let mut world = two(entity, &[("fax", "0".into())]);
        world.edit(0, "fax", "shop's".into());
        world.edit(1, "fax", "crm's".into());
        assert!(world.settle());
        assert_eq!(agreed(&world, "fax"), value.into());
        assert_eq!(!world.canonical.as_ref().unwrap().held.is_empty(), held);
        assert_eq!(world.conflicts.len(), 1);
    }
}

#[test]
fn the_first_keeps_the_others_out_until_its_lease_ends() {
    for (lease_us, value) in [(None, "shop's"), (Some(60_000_000), "shop's"), (Some(500_000), "crm's")] {
        let mut entity = entity(&[("slot", Strategy::First)], DeletePolicy::Ignore);
        terms(&mut entity, "slot").lease_us = lease_us;
        let mut world = two(entity, &[("slot", "0".into())]);
        world.edit(0, "slot", "shop's".into());
        world.edit(1, "slot", "crm's".into());
        assert!(world.settle());
        assert_eq!(agreed(&world, "slot"), value.into(), "{lease_us:?}");
        assert_agreed(&world, 0);
    }
}

#[test]
fn a_stock_take_is_what_is_there_and_later_sales_are_taken_off() {
    let fields = [("stock", Strategy::Add), ("counted", Strategy::Latest)];
    let mut entity = entity(&fields, DeletePolicy::Ignore);
    terms(&mut entity, "stock").absolute_from = Some("counted".to_owned());
    let mut world = two(entity, &[("stock", 105.into()), ("counted", 100.into())]);
    // Both at 105; the shelf is counted at 90, then the shop sells one: whoever is read first, 89 are left.
    world.edit(1, "counted", 90.into());
    world.edit(0, "stock", 104.into());
    world.read(0, usize::MAX);
    assert_eq!(agreed(&world, "stock"), 104.into());
    world.read(1, usize::MAX);
    assert_eq!(agreed(&world, "stock"), 89.into());
    assert!(world.settle());
    assert_agreed(&world, 0);
    // A sale that was made before the count is in it.
    world.edit(0, "stock", 79.into());
    world.edit(1, "counted", 80.into());
    assert!(world.settle());
    assert_eq!(agreed(&world, "stock"), 80.into());
    assert_order_free(&world, &mut Dice::new(7), 7);
}

#[test]
fn two_channels_that_sell_more_than_there_is_are_told_the_true_figure_or_the_bound() {
    for (below_min, value) in [(Beyond::Hold, -21), (Beyond::Clamp, 0)] {
        let mut entity = entity(&[("stock", Strategy::Add)], DeletePolicy::Ignore);
        terms(&mut entity, "stock").bounds.min = Some(Number::zero());
        terms(&mut entity, "stock").bounds.below_min = below_min;
        let mut world = two(entity, &[("stock", 89.into())]);
        world.edit(0, "stock", 39.into());
        world.edit(1, "stock", 29.into());
        assert!(world.settle());
        assert_eq!(agreed(&world, "stock"), value.into());
        assert_agreed(&world, 0);
        let last = world.conflicts.last().unwrap();
        assert!(last.note.contains("oversold"), "{}", last.note);
        assert_eq!(last.status == Status::Open, below_min == Beyond::Hold);
        // What comes in makes up for what is missing.
        let Value::Number(now) = world.apps[1].row.as_ref().unwrap()["stock"].clone() else {
            panic!()
        };
        world.edit(1, "stock", Value::Number(&now + &Number::from(30)));
        assert!(world.settle());
        assert_eq!(agreed(&world, "stock"), 9.into());
        assert_agreed(&world, 0);
        let closed = below_min == Beyond::Clamp || world.conflicts.last().unwrap().status == Status::Closed;
        assert!(closed, "{:?}", world.conflicts.last());
    }
}

#[test]
fn an_app_that_keeps_putting_its_value_back_is_left_alone_and_a_person_is_asked() {
    let mut world = two(
        entity(&[("name", Strategy::Latest)], DeletePolicy::Ignore),
        &[("name", "ada".into())],
    );
    let mut corrections = 0;
    world.edit(1, "name", "Ada".into());
    // The shop writes every name in capitals, the crm none: each corrects the other.
    for _ in 0..40 {
        for (app, spelled) in [(0, "ADA"), (1, "ada")] {
            world.read(1 - app, usize::MAX);
            world.read(app, usize::MAX);
            corrections += usize::from(world.deliver(app));
            world.edit(app, "name", spelled.into());
        }
    }
    (0..2).for_each(|app| world.read(app, usize::MAX));
    assert_eq!(world.canonical.as_ref().unwrap().held, ["name"]);
    assert!(corrections < 20, "{corrections} corrections");
    let flap = world
        .conflicts
        .iter()
        .rfind(|conflict| conflict.strategy == "flap")
        .unwrap();
    assert_eq!((flap.status, flap.candidates.len()), (Status::Open, 2));
    world.edit(0, "name", "GRACE".into());
    assert!(world.settle());
    assert_eq!(agreed(&world, "name"), "GRACE".into());
}

#[test]
fn a_deletion_that_is_held_goes_nowhere_until_a_person_decides() {
    for lives in [true, false] {
        let mut world = two(
            entity(&[("name", Strategy::Latest)], DeletePolicy::Hold),
            &[("name", "ada".into())],
        );
        world.delete(0);
        world.edit(1, "name", "Ada".into());
        assert!(world.settle());
        let open = world.conflicts.iter().find(|conflict| conflict.field == WHOLE).unwrap();
        assert_eq!((open.status, open.candidates.len()), (Status::Open, 2));
        assert!(world.apps[0].row.is_none() && world.apps[1].row.is_some());
        assert_eq!(world.canonical.as_ref().unwrap().held, ["name"]);
        world.decide(WHOLE, Value::Bool(lives));
        assert!(world.settle());
        assert_eq!(
            world.apps.iter().filter(|app| app.row.is_some()).count(),
            if lives { 2 } else { 0 }
        );
        assert_agreed(&world, 0);
        assert_ne!(world.conflicts.last().unwrap().status, Status::Open);
    }
}

#[test]
fn a_clock_that_is_set_back_makes_no_edit_older_than_the_one_before() {
    let mut world = World::new(
        &APPS[..2],
        entity(&[("name", Strategy::Latest)], DeletePolicy::Ignore),
        &[],
    );
    (0..2).for_each(|app| world.insert(app, [("name".to_owned(), "0".into())].into()));
    assert!(world.settle());
    world.edit(1, "name", "crm's".into());
    world.edit(0, "name", "shop's".into());
    world.apps[0].skew_us = -HOUR_US;
    world.edit(0, "name", "shop's second".into());
    assert!(world.settle());
    assert_eq!(agreed(&world, "name"), "shop's second".into());
    assert!(
        world
            .conflicts
            .last()
            .unwrap()
            .note
            .ends_with("the clock of shop was set back")
    );
}
