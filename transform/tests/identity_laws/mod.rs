//! The laws of who is who, on random histories of three records with rows in two apps each, which are merged and split at
//! any moment.

use syncline_schemas::canonical::{Canonical, Identity};
use syncline_schemas::identity::IdentityAct;
use syncline_schemas::pipeline::{DeletePolicy, Entity, Strategy};
use syncline_schemas::value::Value;

use crate::model::{Dice, Several, entity, field};
use crate::{every_strategy, part, random_row, random_value, scaled};

const APPS: [&str; 2] = ["shop", "crm"];
const RECORDS: usize = 3;

/// Whether a record may be there in several rows of one app, and rows be deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletes {
    Never,
    Also,
}

/// Each record begins in one app or in both.
fn begun(dice: &mut Dice, entity: Entity) -> Several {
    let mut world = Several::new(&APPS, RECORDS, entity);
    for record in 0..RECORDS {
        let first = dice.below(APPS.len());
        for app in 0..APPS.len() {
            if app == first || dice.below(3) == 0 {
                let row = random_row(dice, &world.entity);
                world.insert(record, app, row);
            }
        }
    }
    world
}

fn step(world: &mut Several, dice: &mut Dice, deletes: Deletes) {
    let (record, app) = (dice.below(RECORDS), dice.below(APPS.len()));
    match dice.below(14) {
        0..=4 => {
            let name = world.entity.fields[dice.below(world.entity.fields.len())].name.clone();
            let value = random_value(dice, &name);
            world.edit(record, app, &name, value);
        }
        5..=7 => world.read(record, app, 1 + dice.below(3)),
        8 => world.pump(record),
        9 if deletes == Deletes::Also && dice.below(3) == 0 => world.delete(record, app),
        9 => decide(world, dice, record),
        10 if dice.below(2) == 0 => {
            world.say(IdentityAct::Merge, record, Some(dice.below(RECORDS)));
        }
        10 => {
            world.say(IdentityAct::Split, record, None);
        }
        _ => {
            world.deliver(record, app);
        }
    }
}

fn decide(world: &mut Several, dice: &mut Dice, record: usize) {
    let name = ["email", "limit", "notes", "rate"][dice.below(4)];
    if world.entity.field(name).is_some() {
        let value = random_value(dice, name);
        world.decide(record, name, value);
    }
}

/// Every row of a record, and of those that are merged into it, holds what is agreed.
fn assert_agreed(world: &Several, seed: u64) {
    let mut owners = [None; RECORDS];
    for record in 0..RECORDS {
        let agreed = world.agreed(record).unwrap();
        let cids: Vec<String> = agreed.joined().map(str::to_owned).collect();
        if agreed.identity.merged_into.is_some() {
            continue;
        }
        for cid in cids.iter().chain([&agreed.cid]) {
            let member = world.cids.iter().position(|other| other == cid).unwrap();
            assert_eq!(
                owners[member].replace(record),
                None,
                "seed {seed}: {cid} has two owners"
            );
            for row in &world.rows[member] {
                let held = row.row.iter().flatten();
                for (name, held) in held.filter(|(name, _)| !agreed.held.contains(name)) {
                    assert_eq!(
                        Some(held),
                        agreed.fields.get(name),
                        "seed {seed}: {name} of {cid} in {}",
                        row.name
                    );
                }
            }
        }
        for (app, name) in APPS.iter().enumerate() {
            let there = cids
                .iter()
                .chain([&agreed.cid])
                .map(|cid| world.cids.iter().position(|other| other == cid).unwrap())
                .any(|member| world.rows[member][app].row.is_some());
            assert!(there, "seed {seed}: {} is not in {name}", agreed.cid);
        }
    }
    assert!(!owners.contains(&None), "seed {seed}: somebody is nowhere");
}

/// Without what tells that it was ever moved.
fn bare(record: Option<Canonical>) -> Option<Canonical> {
    record.map(|record| Canonical {
        identity: Identity::default(),
        ..record
    })
}

fn split_all(world: &mut Several) {
    (0..RECORDS).for_each(|record| _ = world.say(IdentityAct::Split, record, None));
}

#[test]
fn all_rows_of_one_come_to_hold_the_same_whatever_was_merged_and_split() {
    for seed in 0..scaled(6_000) {
        let dice = &mut Dice::new(seed);
        let entity = part(dice, every_strategy(DeletePolicy::Ignore));
        let mut world = begun(dice, entity);
        (0..60).for_each(|_| step(&mut world, dice, Deletes::Never));
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
    }
}

#[test]
fn any_reading_order_gives_the_same_records() {
    for seed in 0..scaled(3_000) {
        let dice = &mut Dice::new(seed);
        let policy = [DeletePolicy::UpdateWins, DeletePolicy::DeleteWins, DeletePolicy::Ignore][dice.below(3)];
        let entity = part(dice, every_strategy(policy));
        let mut world = begun(dice, entity);
        (0..40).for_each(|_| step(&mut world, dice, Deletes::Also));
        world.catch_up();
        for _ in 0..3 {
            assert_eq!(world.replayed(dice), world.all(), "seed {seed}");
        }
    }
}

#[test]
fn what_is_split_is_as_if_it_had_never_been_merged() {
    for seed in 0..scaled(3_000) {
        let dice = &mut Dice::new(seed);
        let policy = [DeletePolicy::UpdateWins, DeletePolicy::DeleteWins, DeletePolicy::Ignore][dice.below(3)];
        let entity = part(dice, every_strategy(policy));
        let mut world = begun(dice, entity);
        (0..50).for_each(|_| step(&mut world, dice, Deletes::Also));
        split_all(&mut world);
        world.catch_up();
        for record in 0..RECORDS {
            assert_eq!(bare(world.agreed(record)), bare(world.alone(record)), "seed {seed}");
        }
        assert!(world.settle(), "seed {seed} never comes to rest");
    }
}

#[test]
fn a_merge_and_its_split_bring_every_row_back() {
    for seed in 0..scaled(2_000) {
        let dice = &mut Dice::new(seed);
        let entity = part(dice, every_strategy(DeletePolicy::Ignore));
        let mut world = begun(dice, entity);
        (0..30).for_each(|_| step(&mut world, dice, Deletes::Never));
        split_all(&mut world);
        assert!(world.settle());
        let before: Vec<Option<Canonical>> = world.all().into_iter().map(bare).collect();
        let rows: Vec<_> = world.rows.iter().flatten().map(|row| row.row.clone()).collect();
        world.say(IdentityAct::Merge, 0, Some(1));
        assert!(world.settle());
        world.say(IdentityAct::Split, 0, None);
        assert!(world.settle());
        let after: Vec<Option<Canonical>> = world.all().into_iter().map(bare).collect();
        assert_eq!(after, before, "seed {seed}");
        let again: Vec<_> = world.rows.iter().flatten().map(|row| row.row.clone()).collect();
        // Of what is held each app keeps its own, which may be what it got while they were one.
        if before.iter().flatten().all(|record| record.held.is_empty()) {
            assert_eq!(again, rows, "seed {seed}");
        }
    }
}

fn two_records(strategy: Strategy) -> Several {
    let mut world = Several::new(&APPS, 2, entity(&[("email", strategy)], DeletePolicy::UpdateWins));
    let row = |email: &str| [("email".to_owned(), Value::from(email))].into();
    world.insert(0, 0, row("a@x"));
    world.insert(1, 1, row("b@x"));
    assert!(world.settle());
    world
}

fn emails(world: &Several) -> Vec<Value> {
    let rows = world.rows.iter().flatten();
    rows.filter_map(|row| row.row.as_ref()?.get("email").cloned()).collect()
}

#[test]
fn an_edit_of_another_record_was_seen_by_nobody_before_they_were_one() {
    let mut world = two_records(Strategy::Hold);
    // Both are in both apps by now; each app edits its own row of either record, and the other's row is told.
    world.edit(0, 0, "email", "a@new".into());
    assert!(world.settle());
    world.edit(1, 1, "email", "b@new".into());
    assert!(world.settle());
    world.say(IdentityAct::Merge, 0, Some(1));
    assert!(world.settle());
    let agreed = world.agreed(1).unwrap();
    assert_eq!(
        agreed.held,
        ["email"],
        "neither had seen the other, whatever the logs' positions say"
    );
}

#[test]
fn what_was_seen_within_a_record_stays_seen_when_it_is_another() {
    let mut world = Several::new(&APPS, 2, entity(&[("email", Strategy::Hold)], DeletePolicy::UpdateWins));
    world.insert(0, 0, [("email".to_owned(), Value::from("a@x"))].into());
    world.insert(1, 1, [("email".to_owned(), Value::Null)].into());
    assert!(world.settle());
    world.edit(0, 0, "email", "shop@x".into());
    assert!(world.settle());
    // The second edit's author had the shop's value before him no more, but its log says that he had seen it.
    world.edit(0, 1, "email", "crm1@x".into());
    world.edit(0, 1, "email", "crm2@x".into());
    assert!(world.settle());
    world.say(IdentityAct::Merge, 0, Some(1));
    assert!(world.settle());
    assert!(world.agreed(1).unwrap().held.is_empty());
    assert_eq!(emails(&world), vec![Value::from("crm2@x"); 4]);
}

#[test]
fn removing_a_duplicate_removes_no_record() {
    let mut world = two_records(Strategy::Latest);
    world.say(IdentityAct::Merge, 0, Some(1));
    assert!(world.settle());
    assert_eq!(emails(&world).len(), 4, "a row of each record in each app");
    world.delete(0, 1);
    assert!(world.settle());
    let agreed = world.agreed(1).unwrap();
    assert!(!agreed.deleted);
    assert_eq!(emails(&world).len(), 3, "and it is not made anew");
    world.edit(1, 1, "email", "new@x".into());
    assert!(world.settle());
    assert_eq!(emails(&world), vec![Value::from("new@x"); 3]);
}

#[test]
fn two_people_who_merge_in_a_circle_are_not_both_heard() {
    let mut world = two_records(Strategy::Latest);
    assert!(world.say(IdentityAct::Merge, 0, Some(1)));
    assert!(!world.say(IdentityAct::Merge, 1, Some(0)));
    assert!(world.settle());
    assert_agreed_of(&world, 1);
}

fn assert_agreed_of(world: &Several, root: usize) {
    let agreed = world.agreed(root).unwrap();
    let email = agreed.fields["email"].clone();
    assert_eq!(emails(world), vec![email; 4]);
}

#[test]
fn a_guard_measures_each_apps_edits_by_its_own_record() {
    let mut one = entity(&[("email", Strategy::Latest)], DeletePolicy::Ignore);
    field(&mut one, "email").guard = Some(crate::model::check("guard", "new != 'fine'"));
    let mut world = Several::new(&APPS, 2, one);
    world.insert(0, 0, [("email".to_owned(), Value::from("a@x"))].into());
    world.insert(1, 1, [("email".to_owned(), Value::from("b@x"))].into());
    assert!(world.settle());
    world.say(IdentityAct::Merge, 0, Some(1));
    assert!(world.settle());
    world.edit(0, 0, "email", "wrong".into());
    assert!(world.settle());
    assert_eq!(world.agreed(1).unwrap().held, ["email"]);
    world.decide(1, "email", "fine".into());
    assert!(world.settle());
    assert_agreed_of(&world, 1);
}
