//! Merge: join first, resolve after. Pure: no clock, no network, no randomness, and nothing of Kafka.
//!
//! `join` takes what a source said into the state of an entity. It knows positions and no rule: for each row of each app it
//! keeps the last word on every field, and what that app's users had seen when they said it. `resolve` makes the agreed
//! record out of the words. It knows rules and never the order of arrival.
//!
//! Choosing winners *while* joining would break associativity as soon as deletes appear: A, preferred, writes at 1; B writes
//! at 2; a delete lands at 1. Grouped one way A beats B and then dies, and nothing is left; grouped the other way B survives.
//! Joined first, no rule can do that, because no rule is asked before all words are there.
//!
//! Why any interleaving of the source topics gives the same bytes: everything a word carries (value, base, position,
//! stamp, what had been seen) is a function of that app's own log. Our own writes come back in that log with a mark; they
//! move what the app has seen and are no words. The agreed record is made from words alone.

/// The state of an entity, and how a said thing joins it.
mod state;

/// Rows that are heard of under a new key before all is heard of the old one.
mod early;

/// Records that are one.
mod gathered;

/// What was said in terms of older versions of the entity.
mod lift;

/// Whether a record has been compared with the others.
mod compared;

/// A state as bytes.
mod packed;

/// One field of one row.
mod field_lane;

/// A word: what one app last said of one field, and what its author had seen.
mod word;

/// Sets whose removals take only what the editor had seen.
mod elements;

/// What people said, and who approved it.
mod answers;

/// Which words have seen which, and which are left standing.
mod causality;

/// The strategies: what holds when words did not see each other.
mod rule;

/// Words examined by an expression.
mod ruled;

/// Texts merged line by line.
mod text;

/// Laws broken on purpose, for tests of the tests.
mod mutant;

/// Counters: what each app added since the last stock-take.
mod stock;

/// From words to the agreed record and its conflicts.
mod resolve;

pub use packed::Unreadable;
pub use resolve::{Resolved, resolve};
pub use state::EntityState;
pub use word::Word;

use syncline_schemas::canonical::Canonical;
use syncline_schemas::conflict::{Conflict, Status};
use syncline_schemas::pipeline::Entity;

/// What has to be published for one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// The agreed record, if it changed.
    pub canonical: Option<Canonical>,
    /// Conflicts that opened, were settled, or closed.
    pub conflicts: Vec<Conflict>,
}

/// What has to be published when the state of `cid` went from `before` to `after`.
///
/// With the empty state as `before` it is everything there is to say, which is how a first load is published.
pub fn published(
    cid: &str,
    before: &EntityState,
    after: &EntityState,
    entity: &Entity,
    authority: &[String],
) -> Outputs {
    let before = resolve(cid, before, entity, authority);
    Outputs::between(&before, resolve(cid, after, entity, authority))
}

impl Outputs {
    /// What has to be published where this was the agreed record and that is it now.
    pub fn between(old: &Resolved, new: Resolved) -> Self {
        let closed: Vec<Conflict> = old
            .conflicts
            .iter()
            .filter_map(|conflict| closed(conflict, &new))
            .collect();
        let Resolved {
            canonical, conflicts, ..
        } = new;
        let fresh = conflicts
            .into_iter()
            .filter(|conflict| !old.conflicts.contains(conflict));
        Self {
            conflicts: fresh.chain(closed).collect(),
            canonical: canonical.filter(|canonical| old.canonical.as_ref() != Some(canonical)),
        }
    }
}

impl Resolved {
    /// When the next open question ends without a person, or a word that waits has its turn, microseconds since 1970.
    pub fn due(&self) -> Option<i64> {
        let open = self.conflicts.iter().filter(|conflict| conflict.status == Status::Open);
        let ends = open.filter_map(|conflict| conflict.expires_us);
        ends.chain(self.turns_us).min()
    }
}

/// The end of a conflict that was open and is no more; one that the rule settled needs no second word.
fn closed(conflict: &Conflict, now: &Resolved) -> Option<Conflict> {
    let still = now.conflicts.iter().any(|other| other.field == conflict.field);
    if still || conflict.status != Status::Open {
        return None;
    }
    let canonical = now.canonical.as_ref()?;
    Some(Conflict {
        status: Status::Closed,
        outcome: canonical.fields.get(&conflict.field).cloned().unwrap_or_default(),
        vector: canonical.vector.clone(),
        note: match conflict.strategy.as_str() {
            _ if let Some(into) = &canonical.identity.merged_into => format!("the record is merged into {into}"),
            "add" => "the sum is within its bounds".to_owned(),
            "check" => "it is met".to_owned(),
            "guard" => {
                "an answer or a later word had seen it, others came to say the same, or it was taken back".to_owned()
            }
            _ => "a later word had seen all candidates, or the apps came to say the same".to_owned(),
        },
        ..conflict.clone()
    })
}
