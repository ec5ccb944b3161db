//! The agreed record, on `<pipeline>.canonical.<entity>.v<N>`, keyed by the entity id, compacted.
//!
//! It is a function of the words that were said and of nothing else: not of the order in which topics were read, not of
//! what has been delivered. So a replay gives the same bytes. For each app it carries the last word that app said of each
//! field; with what the sink itself wrote last (kept in the target, beside the data) that is what the app must still hold
//! for a compare-and-set write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mapped::RowKey;
use crate::position::{Position, Vector};
use crate::value::{Number, Value};

/// What all apps should hold of one entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canonical {
    /// Entity id.
    pub cid: String,
    /// Whether the entity is gone everywhere. The record stays, so that late words meet the deletion.
    pub deleted: bool,
    /// When an app with policy `soft` deleted it, microseconds since 1970.
    pub deleted_us: Option<i64>,
    /// The agreed values. A field that nobody spoke of is not here; a deleted entity has none. On the wire: the entity's
    /// own Avro record.
    pub fields: BTreeMap<String, Value>,
    /// Fields whose conflict waits for a person. They are not delivered.
    pub held: Vec<String>,
    /// Counters, for which the sink adds and does not overwrite.
    pub counters: Vec<String>,
    /// Everything the record was made from.
    pub vector: Vector,
    /// Greatest stamp among the words, microseconds since 1970.
    pub stamp_us: i64,
    /// What each app said, in the order of names.
    pub apps: Vec<AppWords>,
    /// Identifies the rules that decided: the first 16 hex digits of the hash of the entity's part of the pipeline file.
    pub rules: String,
    /// Which other records are this one by a person's word, or by a match.
    pub identity: Identity,
}

/// What a record has to do with others that were merged with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Offset of the word that moved this record last ([`crate::identity`]); none if none ever did.
    pub at: Option<i64>,
    /// The record that this one is merged into. Then it says nothing itself: that one speaks for its rows.
    pub merged_into: Option<String>,
    /// The records that were ever merged into this one, in the order of their ids.
    pub members: Vec<Member>,
}

/// A record that was merged into another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub cid: String,
    /// Offset of the word by which it came, or went again.
    pub at: i64,
    /// Whether it is here.
    pub joined: bool,
}

/// What one app said of the entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppWords {
    /// Name of the app.
    pub app: String,
    /// The merged record whose row it is; none of the record's own.
    pub via: Option<String>,
    /// The row it speaks through.
    pub row: RowKey,
    /// Where the app made the row; none if we made it. Another value than at the sink's last write is another row, of
    /// which nothing that was written or delivered before holds.
    pub made: Option<Position>,
    /// Whether the app itself deleted the row and that stands: the sink must not make it anew.
    pub gone: bool,
    /// Whether the row went by a deletion that does not stand: the sink makes it anew, with its key.
    pub remake: bool,
    /// Whether what the app said through the row that went still holds in the one made anew. It does where the deletion
    /// lost (`update_wins`), and not where somebody who knew of it made the entity again.
    pub restore: bool,
    /// The last word of each field, in the order of names.
    pub words: Vec<SaidWord>,
}

/// The last word of an app on a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidWord {
    /// The field.
    pub field: String,
    /// What the app holds by its own doing.
    pub value: Value,
    /// Where it was said.
    pub position: Position,
    /// When, microseconds since 1970 (the source's clock, pushed by what it had received).
    pub stamp_us: i64,
    /// Words left standing beside it that its author had not seen. When the app comes to have the agreed value without a
    /// write, the sink tells the app's log (a mark with act `seen`), so that the next edit there is known to have seen
    /// the decision. Nothing to tell if a mark for this field with a vector that dominates this one was left before.
    pub unseen: Vector,
    /// For a counter: the app's value less all that was ever delivered to it.
    pub own: Option<Number>,
}

impl AppWords {
    /// Whether what the app said still counts in a row that is made anew for it: the record says so, or has its words
    /// because it was made before the row's end was heard of.
    pub fn hold(&self) -> bool {
        self.restore || !self.words.is_empty()
    }
}

impl Canonical {
    /// What `app` said through a row of the record's own, if it said anything.
    pub fn app(&self, app: &str) -> Option<&AppWords> {
        self.app_via(app, None)
    }

    /// What `app` said through a row of this merged record, or of the record's own.
    pub fn app_via(&self, app: &str, via: Option<&str>) -> Option<&AppWords> {
        let of = |words: &&AppWords| words.app == app && words.via.as_deref() == via;
        self.apps.iter().find(of)
    }

    /// The records that are merged into this one now.
    pub fn joined(&self) -> impl Iterator<Item = &str> {
        let joined = self.identity.members.iter().filter(|member| member.joined);
        joined.map(|member| member.cid.as_str())
    }

    /// The record as the rows of `member` have it, none if that is not in it: what was agreed, said in that one's terms
    /// ([`crate::voice`]), so that whoever writes those rows need not know of the merge.
    pub fn through(&self, member: &str) -> Option<Canonical> {
        let place = self
            .identity
            .members
            .iter()
            .find(|one| one.joined && one.cid == member)?;
        let theirs = |words: &&AppWords| words.via.as_deref() == Some(member);
        let in_their_terms = |words: &AppWords| {
            let mut words = AppWords {
                via: None,
                ..words.clone()
            };
            for word in &mut words.words {
                word.unseen = word.unseen.seen_from(&self.cid, member);
            }
            words
        };
        Some(Canonical {
            cid: member.to_owned(),
            vector: self.vector.seen_from(&self.cid, member),
            apps: self.apps.iter().filter(theirs).map(in_their_terms).collect(),
            identity: Identity {
                at: Some(place.at),
                ..self.identity.clone()
            },
            ..self.clone()
        })
    }
}

impl AppWords {
    /// The last word on `field`.
    pub fn word(&self, field: &str) -> Option<&SaidWord> {
        self.words.iter().find(|word| word.field == field)
    }
}
