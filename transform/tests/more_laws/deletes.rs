//! Deletions that do not stand, and rows that are made anew after them.

use syncline_schemas::conflict::{Conflict, WHOLE};
use syncline_schemas::mapped::{Mapped, RowOp};
use syncline_schemas::mark::{Act, Mark};
use syncline_schemas::pipeline::{DeletePolicy, Strategy};
use syncline_schemas::position::Vector;
use syncline_schemas::value::Value;
use syncline_transform::merge::resolve;

use super::early::{at, holds, joined, said};
use crate::model::{CID, Dice, Row, World, entity, terms};
use crate::{APPS, HOUR_US, assert_agreed, assert_order_free, every_strategy, part, random_world, scaled, step};

/// What was added since a stock-take is there once, also when the row that it was added to is restored.
#[test]
fn a_row_that_is_restored_adds_nothing() {
    let fields = [
        ("bin", Strategy::Add),
        ("counted", Strategy::Latest),
        ("email", Strategy::Latest),
    ];
    let mut entity = entity(&fields, DeletePolicy::UpdateWins);
    terms(&mut entity, "bin").absolute_from = Some("counted".to_owned());
    let mut world = World::new(&APPS, entity, &[]);
    let row: Row = [("bin", 10), ("counted", 0), ("email", 0)]
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .into();
    (0..3).for_each(|app| world.insert(app, row.clone()));
    assert!(world.settle());
    world.edit(1, "counted", Value::from(10));
    assert!(world.settle());
    world.edit(0, "bin", Value::from(12));
    assert!(world.settle());
    world.edit(1, "email", Value::from(1));
    world.delete(0);
    assert!(world.settle());
    let restored = world.apps[0].row.as_ref().unwrap();
    assert_eq!(restored["email"], Value::from(1), "the edit that it had not seen");
    assert_eq!(world.canonical.as_ref().unwrap().fields["bin"], Value::from(12));
    for app in &world.apps {
        assert_eq!(app.row.as_ref().unwrap()["bin"], Value::from(12), "{}", app.name);
    }
}

/// Shop's row has points, which nobody writes there. Crm edits the entity, shop deletes it, and gets its row again: where
/// the sink can tell what the column held, or cannot.
fn restored(points: Strategy, can_be_told: bool, of_crm: Option<Value>) -> World {
    let fields = [("email", Strategy::Latest), ("points", points)];
    let mut world = World::new(&APPS[..2], entity(&fields, DeletePolicy::UpdateWins), &[0, 0]);
    world.apps[0].only_read.insert("points", can_be_told);
    let row = [("email", Value::from(0)), ("points", 7.into())];
    world.insert(0, row.map(|(name, value)| (name.to_owned(), value)).into());
    assert!(world.settle());
    world.edit(1, "email", Value::from(1));
    of_crm.into_iter().for_each(|points| world.edit(1, "points", points));
    world.delete(0);
    assert!(world.settle());
    assert_eq!(world.apps[0].row.as_ref().unwrap()["email"], Value::from(1), "restored");
    world
}

fn points(world: &World) -> [Value; 3] {
    let held = |app: usize| world.apps[app].row.as_ref().unwrap()["points"].clone();
    [
        world.canonical.as_ref().unwrap().fields["points"].clone(),
        held(0),
        held(1),
    ]
}

#[test]
fn a_restored_row_has_what_its_app_had_said_of_a_field_that_only_it_writes() {
    let world = restored(Strategy::Owner("shop".to_owned()), true, None);
    assert_eq!(points(&world), [7.into(), 7.into(), 7.into()]);
    let words = world.canonical.as_ref().unwrap().app("shop").unwrap();
    assert_eq!(
        words.word("points").unwrap().position,
        world.apps[0].log[0].position,
        "no new word"
    );
}

#[test]
fn what_a_restored_row_cannot_get_back_is_what_its_app_says_from_there_on() {
    let world = restored(Strategy::Owner("shop".to_owned()), false, None);
    assert_eq!(points(&world), [Value::Null, Value::Null, Value::Null]);
    // Nobody edited: whoever did, stands.
    let world = restored(Strategy::Latest, false, Some(8.into()));
    assert_eq!(points(&world), [8.into(), Value::Null, 8.into()]);
}

/// And it gets back its own, not what was agreed: its link says that nobody else writes there.
#[test]
fn nothing_is_written_that_the_app_had_not_said() {
    let world = restored(Strategy::Latest, true, Some(8.into()));
    assert_eq!(points(&world), [8.into(), 7.into(), 8.into()]);
}

#[test]
fn the_owner_of_a_field_that_is_only_read_there_holds_what_is_agreed() {
    for seed in 0..scaled(8_000) {
        let mut dice = Dice::new(seed);
        let mut entity = part(&mut dice, every_strategy(DeletePolicy::UpdateWins));
        let code = every_strategy(DeletePolicy::UpdateWins).fields;
        let code = code.into_iter().filter(|field| field.name == "code");
        entity.fields.retain(|field| field.name != "code");
        entity.fields.extend(code);
        let mut world = random_world(&mut dice, entity);
        world.apps[0].only_read.insert("code", dice.below(2) == 0);
        world.apps[1].only_read.insert("tags", dice.below(2) == 0);
        (0..5 + dice.below(40)).for_each(|_| step(&mut world, &mut dice, true));
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_order_free(&world, &mut dice, seed);
        let record = world.canonical.as_ref().unwrap();
        if let (Some(row), false) = (&world.apps[0].row, record.held.iter().any(|held| held == "code")) {
            let holds = row.get("code").cloned().unwrap_or_default();
            assert_eq!(holds, record.fields["code"], "seed {seed}");
        }
    }
}

fn item(code: &str) -> Row {
    [("sku", "s1"), ("code", code)]
        .map(|(name, value)| (name.to_owned(), Value::text(value)))
        .into()
}

/// Three apps that have the same.
fn items(policy: DeletePolicy) -> World {
    let fields = [("sku", Strategy::Latest), ("code", Strategy::Latest)];
    let mut world = World::new(&APPS, entity(&fields, policy), &[0, HOUR_US, -HOUR_US]);
    (0..3).for_each(|app| world.insert(app, item("old")));
    assert!(world.settle());
    world
}

/// What somebody inserted stands, or a conflict has it.
fn assert_kept(world: &World, inserted: &Row, seed: u64) {
    let canonical = world.canonical.as_ref().unwrap();
    for (field, value) in inserted {
        let stands = !canonical.deleted && canonical.fields[field] == *value;
        let mut candidates = world.conflicts.iter().flat_map(|conflict| &conflict.candidates);
        let kept = candidates.any(|one| one.source == "shop" && one.value.as_ref() == Some(value));
        assert!(stands || kept, "seed {seed}: {field} {value} is lost without a trace");
    }
}

/// Two apps delete the same, each by itself. A third, whose row was removed for the one, makes it anew and cannot
/// know of the other.
#[test]
fn a_row_made_anew_outlives_a_second_deletion_of_what_went() {
    let (shop, crm, billing) = (0, 1, 2);
    for seed in 0..scaled(2_000) {
        let mut dice = Dice::new(seed);
        let policy = [DeletePolicy::DeleteWins, DeletePolicy::UpdateWins][dice.below(2)];
        let mut world = items(policy);
        for edit in 0..dice.below(3) {
            world.edit(dice.below(3), "code", Value::text(format!("v{edit}")));
            assert!(world.settle(), "seed {seed}");
        }
        let was = world.apps[shop].row.clone().unwrap();
        world.delete(billing);
        world.read(billing, usize::MAX);
        world.deliver(shop);
        assert!(world.apps[shop].row.is_none(), "seed {seed}");
        let inserted = if dice.below(3) == 0 { was } else { item("new") };
        let first = dice.below(2) == 0;
        if first {
            world.insert(shop, inserted.clone());
        }
        world.delete(crm);
        if dice.below(2) == 0 {
            world.read(crm, usize::MAX);
        }
        if !first {
            world.insert(shop, inserted.clone());
        }
        for _ in 0..dice.below(6) {
            world.read(dice.below(3), 1 + dice.below(2));
            world.deliver(dice.below(3));
        }
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
        assert_kept(&world, &inserted, seed);
        let canonical = world.canonical.as_ref().unwrap();
        assert!(!canonical.deleted, "seed {seed}: what was made anew is gone");
        assert!(world.apps.iter().all(|app| app.row.is_some()), "seed {seed}");
        if policy == DeletePolicy::DeleteWins {
            assert_eq!(
                canonical.fields, inserted,
                "seed {seed}: it is another than the one that went"
            );
        }
        assert!(
            world.conflicts.iter().any(|conflict| conflict.field == WHOLE),
            "seed {seed}: nobody is told of the deletion that did not stand"
        );
    }
}

/// Who deleted it himself and makes it anew has edited, with another key or the same.
#[test]
fn a_row_made_anew_by_one_of_two_who_deleted_it_is_an_edit() {
    for policy in [DeletePolicy::DeleteWins, DeletePolicy::UpdateWins] {
        for (seed, same_key) in (0..).zip([false, true]) {
            let mut world = items(policy);
            world.delete(0);
            world.delete(1);
            assert!(world.settle());
            assert!(world.canonical.as_ref().unwrap().deleted);
            if same_key {
                world.insert_with_its_key(0, item("new"));
            } else {
                world.insert(0, item("new"));
            }
            assert!(world.settle(), "never comes to rest");
            assert_agreed(&world, seed);
            assert_kept(&world, &item("new"), seed);
            assert_order_free(&world, &mut Dice::new(seed), seed);
            let deleted = world.canonical.as_ref().unwrap().deleted;
            assert_eq!(deleted, policy == DeletePolicy::DeleteWins, "same key: {same_key}");
        }
    }
}

/// A row that was there all the time and holds what another was made anew with: whoever deletes it then means both.
#[test]
fn who_deletes_what_he_has_in_common_with_a_row_made_anew_has_seen_it() {
    for policy in [DeletePolicy::DeleteWins, DeletePolicy::UpdateWins] {
        let mut world = items(policy);
        world.delete(2);
        world.read(2, usize::MAX);
        world.deliver(0);
        world.insert(0, item("old"));
        assert!(world.settle());
        assert!(world.apps.iter().all(|app| app.row.is_some()));
        world.delete(1);
        assert!(world.settle());
        assert!(world.canonical.as_ref().unwrap().deleted);
        assert!(world.apps.iter().all(|app| app.row.is_none()));
        assert!(world.conflicts.is_empty(), "{:?}", world.conflicts);
    }
}

/// No mark tells what an app had seen into which nothing is written: what it deletes after a row was made anew is that
/// row.
#[test]
fn an_app_that_is_only_read_deletes_the_row_made_anew_if_it_is_later() {
    let mut entity = entity(&[("code", Strategy::Latest)], DeletePolicy::DeleteWins);
    let removed = Mark {
        pipeline: "p".to_owned(),
        entity: "customer".to_owned(),
        cid: CID.to_owned(),
        table: "public.customers".to_owned(),
        row: None,
        act: Act::Delete,
        vector: Vector::from_iter([("shop", at(20, 0))]),
        stamp_us: 20,
        fields: Vec::new(),
    };
    let crm = [
        holds("crm", 1, 10, "code", "old"),
        Mapped {
            mark: Some(removed),
            ..said("crm", 1, at(30, 0), RowOp::Deleted, &[])
        },
        holds("crm", 2, 40, "code", "new"),
    ];
    let deleted = |app: &str, lsn: u64| said(app, 1, at(lsn, 0), RowOp::Deleted, &[]);
    let shop = [holds("shop", 1, 10, "code", "old"), deleted("shop", 20)];
    for (only_read, lsn, is_gone) in [(true, 25, false), (true, 50, true), (false, 50, false)] {
        entity.only_read.clear();
        entity.only_read.extend(only_read.then(|| "billing".to_owned()));
        let billing = [holds("billing", 1, 10, "code", "old"), deleted("billing", lsn)];
        let state = joined(&entity, shop.iter().chain(&crm).chain(&billing));
        let turned = joined(&entity, billing.iter().chain(&crm).chain(&shop));
        assert_eq!(state.to_bytes(), turned.to_bytes());
        let resolved = resolve(CID, &state, &entity, &APPS.map(str::to_owned));
        assert_eq!(
            resolved.canonical.unwrap().deleted,
            is_gone,
            "only read {only_read}, at {lsn}"
        );
        let told = |conflict: &Conflict| conflict.field == WHOLE;
        assert!(resolved.conflicts.iter().any(told), "and it is told");
    }
}
