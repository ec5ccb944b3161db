//! One or two examples for each rule that needs more than a word on a field.

use syncline_schemas::conflict::{Status, WHOLE};
use syncline_schemas::pipeline::{Beyond, DeletePolicy, Entity, Strategy, Uncertain};
use syncline_schemas::value::{Number, Value};

use crate::model::{Dice, Row, World, check, entity, group, rule, terms};
use crate::{APPS, HOUR_US, assert_agreed, assert_order_free};

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

#[test]
fn a_clock_that_was_ahead_is_named_in_the_conflict() {
    let mut world = two(
        entity(&[("name", Strategy::Latest)], DeletePolicy::Ignore),
        &[("name", "ada".into())],
    );
    world.edit(0, "name", "Ada".into());
    world.edit(1, "name", "ADA".into());
    world.apps[1].log.last_mut().unwrap().ahead = true;
    assert!(world.settle());
    let note = &world.conflicts[0].note;
    assert!(
        note.ends_with("the clock of crm was ahead: its stamp is cut to what is allowed"),
        "{note}"
    );
}

#[test]
fn a_rule_lets_a_small_cut_through_and_asks_about_a_large_one() {
    let cut = "mine < canon * 0.95 ? hold('cut > 5 %') : accept()";
    for (first, second, agreed_on, held) in [(50, 49, 49, false), (50, 45, 50, true)] {
        let mut world = two(
            entity(&[("price", rule(cut))], DeletePolicy::Ignore),
            &[("price", 40.into())],
        );
        world.edit(0, "price", first.into());
        world.edit(1, "price", second.into());
        assert!(world.settle());
        assert_eq!(agreed(&world, "price"), agreed_on.into());
        assert_eq!(!world.canonical.as_ref().unwrap().held.is_empty(), held);
        assert_eq!(world.conflicts[0].status == Status::Open, held);
        assert_agreed(&world, 0);
        assert_order_free(&world, &mut Dice::new(3), 3);
    }
}

#[test]
fn what_does_not_meet_a_check_goes_nowhere_and_its_neighbours_do() {
    let mut entity = entity(
        &[("limit", Strategy::Latest), ("name", Strategy::Latest)],
        DeletePolicy::Ignore,
    );
    entity.fields[0].check = Some(check("value", "value >= 0 && value <= 100000"));
    entity.checks = vec![check("named", "length(name) > 0 || limit == 0")];
    let mut world = two(entity, &[("limit", 1000.into()), ("name", "Ada".into())]);
    world.edit(0, "limit", (-5).into());
    world.edit(0, "name", "Grace".into());
    assert!(world.settle());
    let row = |world: &World, app: usize| world.apps[app].row.clone().unwrap();
    assert_eq!(
        (&row(&world, 1)["limit"], &row(&world, 1)["name"]),
        (&1000.into(), &"Grace".into())
    );
    let open = world.conflicts.last().unwrap();
    assert_eq!(
        (open.status, open.strategy.as_str(), open.field.as_str()),
        (Status::Open, "check", "limit")
    );
    assert!(open.note.contains("value >= 0"), "{}", open.note);
    world.edit(0, "limit", 500.into());
    assert!(world.settle());
    assert_eq!(row(&world, 1)["limit"], 500.into());
    assert_eq!(world.conflicts.last().unwrap().status, Status::Closed);
    world.edit(1, "name", "".into());
    assert!(world.settle());
    assert_eq!(row(&world, 0)["name"], "Grace".into());
    assert_eq!(world.conflicts.last().unwrap().field, "check.named");
    assert_eq!(world.canonical.as_ref().unwrap().held, ["limit", "name"]);
}
