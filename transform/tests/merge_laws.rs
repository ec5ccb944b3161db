//! The laws of merging, on random histories of three apps with skewed clocks, read and delivered in any order.

mod identity_laws;
mod merge_examples;
mod model;
mod more_laws;

use model::{Dice, Row, World, check, entity, field, group, rule, terms};
use syncline_schemas::conflict::WHOLE;
use syncline_schemas::pipeline::{Beyond, DeletePolicy, Entity, Expires, Strategy, Uncertain};
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
        (
            "deal",
            rule("mine.app == 'crm' ? accept() : mine < canon ? hold('less') : mine == 4 ? set(3) : refuse()"),
        ),
        ("score", Strategy::Latest),
        ("rate", Strategy::Latest),
        ("fee", Strategy::Order(vec!["crm".to_owned()])),
        ("terms", Strategy::Hold),
        ("discount", Strategy::Latest),
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
    field(&mut entity, "score").check = Some(check("value", "value < 4"));
    field(&mut entity, "rate").guard = Some(check("guard", "abs(new - old) > 1"));
    field(&mut entity, "fee").guard = Some(check("guard", "(new - old) / old > 0.5"));
    field(&mut entity, "discount").guard = Some(check("guard", "new > old + 1"));
    terms(&mut entity, "terms").expires = Some(expires(HOUR_US, Strategy::Order(vec!["billing".to_owned()])));
    terms(&mut entity, "discount").expires = Some(expires(10_000_000, Strategy::Min));
    terms(&mut entity, "notes").expires = Some(expires(HOUR_US, Strategy::Longest));
    terms(&mut entity, "deal").expires = Some(expires(10_000_000, Strategy::Latest));
    entity.checks = vec![check("deals", "score != 3 || deal != 3")];
    entity.groups = vec![
        group("address", &["street", "city"], Strategy::Latest),
        group("person", &["first", "last"], Strategy::Hold),
    ];
    entity.groups[1].terms.expires = Some(expires(HOUR_US, Strategy::First));
    entity
}

fn expires(after_us: i64, then: Strategy) -> Expires {
    Expires { after_us, then }
}

fn random_value(dice: &mut Dice, field: &str) -> Value {
    let number = i64::try_from(dice.below(5)).unwrap();
    match field {
        "tags" => Value::set(
            (0..4)
                .filter(|_| dice.below(2) == 0)
                .map(|tag| Value::text(format!("t{tag}"))),
        ),
        "price" | "cost" | "stock" | "shelf" | "bin" | "counted" | "deal" | "score" | "rate" | "fee" | "discount" => {
            Value::from(number)
        }
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

/// The unit of the file that a field is tried with.
fn together(field: &str) -> &str {
    match field {
        "street" | "city" => "address",
        "first" | "last" => "person",
        "counted" => "bin",
        "score" => "deal",
        other => other,
    }
}

/// A part of an entity: few fields, so that many histories can be tried, and whole groups.
fn part(dice: &mut Dice, mut entity: Entity) -> Entity {
    let names: Vec<String> = entity
        .fields
        .iter()
        .map(|field| together(&field.name).to_owned())
        .collect();
    let kept: Vec<&String> = (0..4).map(|_| &names[dice.below(names.len())]).collect();
    let is_kept = |name: &str| kept.iter().any(|kept| *kept == name);
    entity.fields.retain(|field| is_kept(together(&field.name)));
    entity.groups.retain(|group| is_kept(&group.name));
    entity.checks.retain(|_| is_kept("deal"));
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
    if dice.below(25) == 0 {
        let hours = i64::try_from(dice.below(3)).unwrap();
        return world.tick(hours * HOUR_US + 5_000_000);
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
    let fields = [
        "email", "limit", "notes", "address", "person", "rate", "fee", "terms", "discount",
    ];
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
        entity.checks.clear();
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

/// Of a held field people say this and that: what holds is told from their words alone, in the order in which they were
/// said: the last answer that another of those who may has approved. Whatever the order in which they are read.
#[test]
fn what_one_person_says_goes_to_nobody_until_another_has_approved_it() {
    const PEOPLE: [&str; 3] = ["ada", "bob", "carl"];
    let (mut waited, mut approved) = (0, 0);
    for seed in 0..scaled(10_000) {
        let mut dice = Dice::new(seed);
        let mut entity = entity(
            &[("limit", Strategy::Hold), ("email", Strategy::Latest)],
            DeletePolicy::Ignore,
        );
        terms(&mut entity, "limit").approvers = vec!["ada".to_owned(), "bob".to_owned()];
        let mut world = World::new(&APPS, entity, &[0, HOUR_US, -HOUR_US]);
        let start: Row = [
            ("limit".to_owned(), "first".into()),
            ("email".to_owned(), "first".into()),
        ]
        .into();
        (0..3).for_each(|app| world.insert(app, start.clone()));
        assert!(world.settle());
        for app in 0..3 {
            world.edit(app, "limit", Value::text(format!("of {app}")));
        }
        assert!(world.settle(), "seed {seed} never comes to rest");
        // Who answered, what, and at which offset; the answer that holds, and since when.
        let mut answers: Vec<(&str, Value, usize)> = Vec::new();
        let mut holds: Option<(usize, Value)> = None;
        for said in 0..2 + dice.below(8) {
            let by = PEOPLE[dice.below(3)];
            match dice.below(4) {
                0 => {
                    let app = dice.below(3);
                    world.edit(app, "email", Value::text(format!("e{said}")));
                    assert!(world.settle(), "seed {seed}");
                }
                1 => world.decide_by(by, "email", Value::text(format!("d{said}"))),
                2 if !answers.is_empty() => {
                    let (author, value, offset) = answers[dice.below(answers.len())].clone();
                    world.approve(by, offset);
                    if by != author && by != "carl" && holds.as_ref().is_none_or(|(last, _)| *last <= offset) {
                        holds = Some((offset, value));
                    }
                }
                _ => {
                    let value = Value::text(format!("v{said}"));
                    answers.push((by, value.clone(), world.decisions.len()));
                    world.decide_by(by, "limit", value);
                }
            }
            if dice.below(2) == 0 {
                assert!(world.settle(), "seed {seed} never comes to rest");
            }
        }
        assert!(world.settle(), "seed {seed} never comes to rest");
        let canonical = world.canonical.clone().unwrap();
        for (index, app) in world.apps.iter().enumerate() {
            let wanted = match &holds {
                Some((_, value)) => value.clone(),
                None => Value::text(format!("of {index}")),
            };
            assert_eq!(
                app.row.as_ref().unwrap()["limit"],
                wanted,
                "seed {seed}: {} has what it was not to have",
                app.name
            );
        }
        assert_eq!(canonical.held.is_empty(), holds.is_some(), "seed {seed}");
        waited += usize::from(holds.is_none() && !answers.is_empty());
        approved += usize::from(holds.is_some());
        assert_order_free(&world, &mut dice, seed);
        let disorder = world.with_words_in_disorder(&mut dice);
        assert_eq!(disorder, world.canonical, "seed {seed}: people's words in disorder");
    }
    assert!(waited > 0 && approved > 0, "{waited} waited, {approved} approved");
}

/// Whoever empties a field and fills it again has made one jump in two steps.
#[test]
fn a_jump_by_way_of_nothing_is_a_jump() {
    let mut entity = entity(&[("rate", Strategy::Latest)], DeletePolicy::Ignore);
    field(&mut entity, "rate").guard = Some(check("guard", "abs(new - old) > 20"));
    let mut world = World::new(&APPS, entity, &[]);
    (0..3).for_each(|app| world.insert(app, [("rate".to_owned(), Value::from(100))].into()));
    assert!(world.settle());
    world.edit(0, "rate", Value::Null);
    world.edit(0, "rate", Value::from(1_000_000));
    assert!(world.settle());
    assert_eq!(world.canonical.as_ref().unwrap().held, ["rate"]);
    assert!(
        world.apps[1..]
            .iter()
            .all(|app| app.row.as_ref().unwrap()["rate"] != Value::from(1_000_000))
    );
}

/// One app edits; where it stands is told from its edits alone: what jumps stays with it, and the last edit that did not,
/// or what a person said since, is what the others have.
#[test]
fn a_jump_goes_to_nobody_until_a_person_has_decided() {
    let number = |value: usize| i64::try_from(value).unwrap();
    let (mut held, mut decided) = (0, 0);
    for seed in 0..scaled(10_000) {
        let mut dice = Dice::new(seed);
        let mut entity = entity(&[("rate", Strategy::Latest)], DeletePolicy::Ignore);
        field(&mut entity, "rate").guard = Some(check("guard", "abs(new - old) > 20"));
        let mut world = World::new(&APPS, entity, &[0, HOUR_US, -HOUR_US]);
        let start: Row = [("rate".to_owned(), Value::from(100))].into();
        (0..3).for_each(|app| world.insert(app, start.clone()));
        assert!(world.settle());
        let (mut passed, mut last, mut waits) = (100, 100, false);
        let mut ever = vec![Value::from(passed)];
        for _ in 0..3 + dice.below(10) {
            match dice.below(5) {
                0..=2 => {
                    last += number(dice.below(61)) - 30;
                    waits = (last - passed).abs() > 20;
                    passed = if waits { passed } else { last };
                    ever.push(Value::from(passed));
                    world.edit(0, "rate", Value::from(last));
                }
                3 => {
                    let app = dice.below(3);
                    world.read(app, 1 + dice.below(3));
                    world.deliver(app);
                }
                _ => {
                    assert!(world.settle(), "seed {seed}");
                    (passed, waits) = (if dice.below(2) == 0 { last } else { passed }, false);
                    last = passed;
                    ever.push(Value::from(passed));
                    world.decide("rate", Value::from(passed));
                    assert!(world.settle(), "seed {seed}");
                    decided += 1;
                }
            }
        }
        assert!(world.settle(), "seed {seed} never comes to rest");
        let canonical = world.canonical.as_ref().unwrap();
        assert_eq!(canonical.fields["rate"], Value::from(passed), "seed {seed}");
        assert_eq!(!canonical.held.is_empty(), waits, "seed {seed}");
        for app in &world.apps[1..] {
            let has = &app.row.as_ref().unwrap()["rate"];
            // While something waits nothing is delivered, and what had passed before may be on its way still.
            let may_have = if waits { &ever[..] } else { &ever[ever.len() - 1..] };
            assert!(may_have.contains(has), "seed {seed}: {} has {has}", app.name);
        }
        held += usize::from(waits);
        assert_order_free(&world, &mut dice, seed);
        assert_eq!(
            world.with_late_marks(&mut dice),
            world.canonical,
            "seed {seed}: late marks"
        );
    }
    assert!(held > 0 && decided > 0, "{held} of them held, {decided} decided");
}

/// When all questions have ended, all apps agree without any person, and what they agree on is what the file says.
#[test]
fn what_is_held_ends_when_its_time_is_up_and_not_before() {
    let (mut held, mut ended) = (0, 0);
    for seed in 0..scaled(10_000) {
        let mut dice = Dice::new(seed);
        let mut entity = entity(&[("limit", Strategy::Hold)], DeletePolicy::Ignore);
        let then = Strategy::Order(vec!["billing".to_owned(), "shop".to_owned()]);
        terms(&mut entity, "limit").expires = Some(expires(HOUR_US, then));
        let mut world = random_world(&mut dice, entity);
        (0..5 + dice.below(20)).for_each(|_| step(&mut world, &mut dice, false));
        assert!(world.settle(), "seed {seed} never comes to rest");
        let waits = |world: &World| !world.canonical.as_ref().unwrap().held.is_empty();
        if waits(&world) {
            held += 1;
            let ends_us = world.conflicts.last().and_then(|conflict| conflict.expires_us);
            assert!(
                ends_us.is_some() && world.ticks.iter().max().copied() < ends_us,
                "seed {seed}"
            );
            world.tick(3 * HOUR_US);
            assert!(!waits(&world), "seed {seed}: waits for ever");
            assert!(world.settle(), "seed {seed} never comes to rest");
            ended += usize::from(!waits(&world));
        }
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
    }
    assert!(held > 0 && held == ended, "{held} held, {ended} ended");
}

/// A person's word needs no conflict. It puts a field back that everybody agrees on, and nobody is asked about that; who
/// then speaks has seen it, as he has seen every word that was delivered.
#[test]
fn a_person_may_put_back_what_nobody_disputes() {
    let alone = [
        "email", "phone", "limit", "name", "price", "cost", "notes", "fax", "slot",
    ];
    for seed in 0..scaled(4_000) {
        let mut dice = Dice::new(seed);
        let mut entity = every_strategy(DeletePolicy::Ignore);
        entity.fields.retain(|field| alone.contains(&field.name.as_str()));
        entity.groups.clear();
        entity.checks.clear();
        let mut world = World::new(&APPS, entity, &[0, HOUR_US, -HOUR_US]);
        let row = random_row(&mut dice, &world.entity);
        (0..3).for_each(|app| world.insert(app, row.clone()));
        assert!(world.settle());
        for _ in 0..2 {
            let field = alone[dice.below(alone.len())];
            let before = world.canonical.as_ref().unwrap().fields[field].clone();
            world.edit(dice.below(3), field, random_value(&mut dice, field));
            assert!(world.settle(), "seed {seed}");
            world.decide(field, before.clone());
            assert!(world.settle(), "seed {seed}");
            assert_eq!(
                world.canonical.as_ref().unwrap().fields[field],
                before,
                "seed {seed} {field}"
            );
            assert_agreed(&world, seed);
            let later = random_value(&mut dice, field);
            world.edit(dice.below(3), field, later.clone());
            assert!(world.settle(), "seed {seed}");
            assert_eq!(
                world.canonical.as_ref().unwrap().fields[field],
                later,
                "seed {seed} {field}"
            );
        }
        assert!(world.conflicts.is_empty(), "seed {seed}: {:?}", world.conflicts);
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
        assert_eq!(
            world.with_late_marks(&mut dice),
            world.canonical,
            "seed {seed}: late marks"
        );
    }
}

/// An edit that had not seen the person's word meets it as it would meet any word: by the rule of the field. Unless its
/// editor had the value in front of him that the person puts back: then it is later than both.
#[test]
fn an_edit_that_had_not_seen_what_was_put_back_is_a_word_beside_it() {
    for received in [true, false] {
        let mut world = World::new(&APPS, entity(&[("limit", Strategy::Hold)], DeletePolicy::Ignore), &[]);
        (0..3).for_each(|app| world.insert(app, [("limit".to_owned(), Value::from(1))].into()));
        assert!(world.settle());
        world.edit(0, "limit", Value::from(2));
        world.read(0, usize::MAX);
        if received {
            assert!(world.settle());
        }
        world.decide("limit", Value::from(1));
        world.edit(1, "limit", Value::from(3));
        world.read(1, usize::MAX);
        let canonical = world.canonical.as_ref().unwrap();
        if received {
            let last = world.conflicts.last().unwrap();
            let sources: Vec<&str> = last.candidates.iter().map(|said| said.source.as_str()).collect();
            assert_eq!(
                sources,
                ["crm", "operator"],
                "it had 2 before it and not the person's 1"
            );
            assert_eq!(canonical.held, ["limit"]);
        } else {
            assert!(world.conflicts.is_empty(), "{:?}", world.conflicts);
            assert_eq!(canonical.fields["limit"], Value::from(3), "it had 1 before it");
        }
    }
}
