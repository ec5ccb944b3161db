//! `first` with `queue: true`: whose turn it is is told from the apps' logs alone.

use syncline_schemas::pipeline::{DeletePolicy, Entity, Strategy};
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;

use crate::model::{Dice, Row, World, entity, terms};
use crate::{APPS, HOUR_US, assert_agreed, assert_order_free, random_world, scaled, step};

const FIELD: &str = "ticket";

fn queued(lease_us: i64, on_delete: DeletePolicy) -> Entity {
    let fields = [
        (FIELD, Strategy::First),
        ("seat", Strategy::First),
        ("email", Strategy::Latest),
    ];
    let mut entity = entity(&fields, on_delete);
    for (field, lease_us) in [(FIELD, lease_us), ("seat", 5_000_000)] {
        terms(&mut entity, field).lease_us = Some(lease_us);
        terms(&mut entity, field).queue = true;
    }
    entity
}

/// What an app said before it heard of anybody.
struct Said {
    app: usize,
    value: Value,
    stamp_us: i64,
    position: Position,
}

/// Three apps that agree, and then some of them say something else at once; from the oldest on.
fn said_at_once(dice: &mut Dice, lease_us: i64) -> (World, Vec<Said>) {
    let skews: Vec<i64> = (0..3)
        .map(|_| i64::try_from(dice.below(7_200)).unwrap() * 1_000_000 - HOUR_US)
        .collect();
    let mut world = World::new(&APPS, queued(lease_us, DeletePolicy::Ignore), &skews);
    let row: Row = [FIELD, "seat", "email"]
        .map(|name| (name.to_owned(), "first".into()))
        .into();
    (0..3).for_each(|app| world.insert(app, row.clone()));
    assert!(world.settle());
    let mut said = Vec::new();
    let from = dice.below(3);
    for app in (0..2 + dice.below(2)).map(|number| (from + number) % 3) {
        let value = Value::text(format!("of {app}"));
        world.edit(app, FIELD, value.clone());
        let last = world.apps[app].log.last().unwrap();
        said.push(Said {
            app,
            value,
            stamp_us: last.commit_us,
            position: last.position,
        });
    }
    said.sort_by_key(|said| (said.stamp_us, said.app));
    (world, said)
}

/// Whether the logs of all other apps have a mark that tells of this word.
fn is_everywhere(world: &World, word: &Said) -> bool {
    let told = |app: usize| {
        let marks = world.apps[app].log.iter().filter_map(|said| said.mark.as_ref());
        let mut on_field = marks.filter(|mark| mark.field(FIELD).is_some());
        on_field.any(|mark| mark.vector.covers(APPS[word.app], word.position))
    };
    (0..3).filter(|app| *app != word.app).all(told)
}

/// Whose turn it is.
fn holder(world: &World, said: &[Said]) -> usize {
    let done = said.iter().take_while(|word| is_everywhere(world, word)).count();
    done.min(said.len() - 1)
}

#[test]
fn who_comes_second_waits_until_the_first_has_been_received_everywhere() {
    let (mut waited, mut turned) = (0, 0);
    for seed in 0..scaled(10_000) {
        let mut dice = Dice::new(seed);
        let (mut world, said) = said_at_once(&mut dice, 100 * HOUR_US);
        (0..3).for_each(|app| world.read(app, usize::MAX));
        for _ in 0..12 {
            let app = dice.below(3);
            if dice.below(2) == 0 {
                world.deliver(app);
            }
            (0..3).for_each(|app| world.read(app, usize::MAX));
            let holder = holder(&world, &said);
            let agreed = &world.canonical.as_ref().unwrap().fields[FIELD];
            assert_eq!(*agreed, said[holder].value, "seed {seed}");
            waited += usize::from(holder == 0);
            turned += usize::from(holder > 0);
        }
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_eq!(
            world.canonical.as_ref().unwrap().fields[FIELD],
            said[said.len() - 1].value,
            "seed {seed}"
        );
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
        assert_eq!(
            world.with_late_marks(&mut dice),
            world.canonical,
            "seed {seed}: late marks"
        );
    }
    assert!(waited > 0 && turned > 0, "{waited} waited, {turned} had their turn");
}

#[test]
fn who_comes_second_waits_no_longer_than_the_lease() {
    let mut turned = 0;
    for seed in 0..scaled(10_000) {
        let mut dice = Dice::new(seed);
        let lease_us = i64::try_from(dice.below(3_600)).unwrap() * 1_000_000;
        let (mut world, said) = said_at_once(&mut dice, lease_us);
        (0..3).for_each(|app| world.read(app, usize::MAX));
        for _ in 0..5 {
            world.tick(i64::try_from(dice.below(1_800)).unwrap() * 1_000_000);
            let now_us = *world.ticks.last().unwrap();
            let mut holder = 0;
            while holder + 1 < said.len()
                && (now_us >= said[holder].stamp_us + lease_us
                    || said[holder..]
                        .iter()
                        .any(|later| later.stamp_us - said[holder].stamp_us > lease_us))
            {
                holder += 1;
            }
            let wanted = &said[holder].value;
            assert_eq!(world.canonical.as_ref().unwrap().fields[FIELD], *wanted, "seed {seed}");
            turned += holder;
        }
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
    }
    assert!(turned > 0);
}

#[test]
fn queues_obey_the_laws_of_all_rules() {
    let policies = [DeletePolicy::Ignore, DeletePolicy::DeleteWins, DeletePolicy::UpdateWins];
    for seed in 0..scaled(20_000) {
        let mut dice = Dice::new(seed);
        let deletes = dice.below(2) == 0;
        let policy = if deletes {
            policies[dice.below(3)]
        } else {
            DeletePolicy::Ignore
        };
        let mut world = random_world(&mut dice, queued(HOUR_US, policy));
        (0..5 + dice.below(40)).for_each(|_| step(&mut world, &mut dice, deletes));
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
        if !deletes {
            assert_eq!(
                world.with_late_marks(&mut dice),
                world.canonical,
                "seed {seed}: late marks"
            );
        }
    }
}
