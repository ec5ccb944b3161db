//! `on_delete: hold`: neither the deletion nor the edits that it had not seen go anywhere before a person has decided.

use syncline_schemas::pipeline::DeletePolicy;

use crate::model::Dice;
use crate::{APPS, assert_agreed, assert_order_free, every_strategy, part, random_world, scaled, step};

#[test]
fn deletes_that_wait_for_a_person_obey_the_laws_of_all_policies() {
    let others = [
        DeletePolicy::Hold,
        DeletePolicy::DeleteWins,
        DeletePolicy::UpdateWins,
        DeletePolicy::Soft,
        DeletePolicy::Ignore,
    ];
    for seed in 0..scaled(50_000) {
        let mut dice = Dice::new(seed);
        let mut entity = part(&mut dice, every_strategy(DeletePolicy::Hold));
        let mixed = dice.below(2) == 0;
        for app in APPS.iter().filter(|_| mixed) {
            entity
                .on_delete
                .insert((*app).to_owned(), others[dice.below(others.len())]);
        }
        let mut world = random_world(&mut dice, entity);
        (0..5 + dice.below(40)).for_each(|_| step(&mut world, &mut dice, true));
        assert!(world.settle(), "seed {seed} never comes to rest");
        assert_agreed(&world, seed);
        assert_order_free(&world, &mut dice, seed);
    }
}
