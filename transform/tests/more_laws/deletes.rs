//! Deletions that do not stand.

use syncline_schemas::pipeline::{DeletePolicy, Strategy};
use syncline_schemas::value::Value;

use crate::APPS;
use crate::model::{Row, World, entity, terms};

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
