//! What a record is sent of those that are merged into it.

use syncline_schemas::mapped::Mapped;
use syncline_schemas::pipeline::{DeletePolicy, Strategy};

use super::early::{holds, joined};
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
