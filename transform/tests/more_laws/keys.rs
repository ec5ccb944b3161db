//! Rows whose apps give them other keys.

use syncline_schemas::pipeline::{DeletePolicy, Strategy};
use syncline_schemas::value::Value;

use crate::model::{Dice, World, entity};
use crate::{APPS, assert_agreed, every_strategy, part, random_world, scaled, step};

/// The row is ours, and nothing in it is the app's own: that it was moved is all that its app ever did.
#[test]
fn a_row_of_our_making_is_written_where_its_app_moved_it() {
    let entity = entity(&[("email", Strategy::Latest)], DeletePolicy::Ignore);
    let mut world = World::new(&APPS[..2], entity, &[0, 0]);
    world.insert(0, [("email".to_owned(), Value::from("a"))].into());
    assert!(world.settle());
    world.move_row(1);
    assert!(world.settle());
    let record = world.canonical.as_ref().unwrap();
    let words = record.app("crm").expect("the record knows of the row");
    assert_eq!(words.row, world.apps[1].log.last().unwrap().row, "under its key");
    assert_eq!(
        (words.made, words.words.len()),
        (None, 0),
        "and nobody said anything there"
    );
    assert_eq!(record.fields["email"], Value::from("a"));
    world.edit(0, "email", Value::from("b"));
    assert!(world.settle());
    assert_eq!(world.apps[1].row.as_ref().unwrap()["email"], Value::from("b"));
    assert!(world.conflicts.is_empty());
}

#[test]
fn rows_that_are_moved_stay_in_agreement_in_any_order_of_reading() {
    for seed in 0..scaled(8_000) {
        let mut dice = Dice::new(seed);
        let entity = part(&mut dice, every_strategy(DeletePolicy::Ignore));
        let mut world = random_world(&mut dice, entity);
        for _ in 0..5 + dice.below(40) {
            match dice.below(6) {
                0 => {
                    let app = dice.below(APPS.len());
                    world.move_row(app);
                }
                _ => step(&mut world, &mut dice, false),
            }
        }
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
        for _ in 0..3 {
            assert_eq!(world.read_once(&mut dice), world.canonical, "seed {seed}");
        }
    }
}
