//! What a record is sent of those that are merged into it.

use syncline_schemas::mapped::{Mapped, RowOp};
use syncline_schemas::mark::Act;
use syncline_schemas::pipeline::{DeletePolicy, Strategy};
use syncline_transform::merge::EntityState;

use super::early::{agreed, at, holds, joined, moves, ours, said};
use crate::model::entity;

#[test]
fn what_was_sent_before_what_is_kept_replaces_nothing_when_it_is_read_again() {
    let entity = entity(&[("name", Strategy::Latest)], DeletePolicy::UpdateWins);
    let said: Vec<Mapped> = [10, 20, 30].map(|lsn| holds("shop", 7, lsn, "name", "a")).into();
    let part = |count: usize| Some(joined(&entity, &said[..count]).alone());
    let own = [holds("crm", 1, 5, "name", "b")];
    let mut winner = joined(&entity, &own);
    winner.take_part("c2", 4, part(2));
    let kept = winner.to_bytes();
    winner.take_part("c2", 4, part(2));
    winner.take_part("c2", 4, part(1));
    assert_eq!(winner.to_bytes(), kept);
    winner.take_part("c2", 4, part(3));
    assert_ne!(winner.to_bytes(), kept, "it knows more now");
    // By a later word it is sent anew, whatever is known of it then.
    winner.take_part("c2", 6, None);
    winner.take_part("c2", 8, part(1));
    let mut anew = joined(&entity, &own);
    anew.take_part("c2", 8, part(1));
    assert_eq!(winner.to_bytes(), anew.to_bytes());
}

/// A mark without a row that waits with the row stands behind all that is joined when the end is heard.
#[test]
fn what_is_known_of_a_row_that_waits_does_not_go_back_when_it_is_joined() {
    let entity = entity(&[("name", Strategy::Latest)], DeletePolicy::UpdateWins);
    let [end, beginning] = moves(7, 70, 50, "name", "c");
    let (first, edit) = (holds("shop", 7, 10, "name", "a"), holds("shop", 7, 40, "name", "b"));
    let seen = said("shop", 70, at(90, 0), RowOp::Seen, &[]);
    let told = ours(seen, Act::Seen, agreed("name", &"c".into()), 5);
    let own = [holds("crm", 1, 5, "name", "x")];
    let (mut winner, mut loser) = (joined(&entity, &own), EntityState::default());
    for said in [&first, &beginning, &told, &edit, &end] {
        loser.join(said, &entity);
        winner.take_part("c2", 4, Some(loser.alone()));
    }
    let mut in_order = joined(&entity, &own);
    let loser = joined(&entity, [&first, &edit, &end, &beginning, &told]);
    in_order.take_part("c2", 4, Some(loser.alone()));
    assert_eq!(winner.to_bytes(), in_order.to_bytes());
}
