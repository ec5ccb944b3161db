//! Whose log a word stands in, where records have been merged.
//!
//! A vector says of an app up to where it was seen, *of one record*: what the users of `crm` knew of one customer when they
//! edited him says nothing of another. Where two records become one, a bare `crm` would say that they knew both. So in the
//! terms of a record the names of its own rows' apps are bare, and those of another record carry its id: `crm@ID`. The same
//! holds of people's words, whose positions are offsets in the partition of their record.
//!
//! Ids are unique, so the terms of any record can be turned into those of any other and back without a loss. Names of
//! systems have no `@`.

use crate::position::Vector;

const OF: char = '@';

/// The name that `app` has elsewhere when it speaks of the record `cid`.
pub fn of(app: &str, cid: &str) -> String {
    format!("{app}{OF}{cid}")
}

/// The app.
pub fn app(voice: &str) -> &str {
    voice.split_once(OF).map_or(voice, |(app, _)| app)
}

/// The record that it speaks of, if that is another than the one in whose terms it is named.
pub fn origin(voice: &str) -> Option<&str> {
    voice.split_once(OF).map(|(_, cid)| cid)
}

/// The name that a voice has in the terms of `to`, where it had this one in those of `from`.
pub fn seen_from(voice: &str, from: &str, to: &str) -> String {
    match origin(voice) {
        _ if from == to => voice.to_owned(),
        None => of(voice, from),
        Some(origin) if origin == to => app(voice).to_owned(),
        Some(_) => voice.to_owned(),
    }
}

impl Vector {
    /// What these terms of `from` say in those of `to`.
    #[must_use]
    pub fn seen_from(&self, from: &str, to: &str) -> Self {
        self.iter()
            .map(|(voice, position)| (seen_from(voice, from, to), position))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Lsn, Position};

    #[test]
    fn terms_are_turned_into_others_and_back() {
        let at = |lsn| Position::new(1, Lsn(lsn), 0);
        let of_a = Vector::from_iter([
            ("shop", at(1)),
            ("operator", at(2)),
            ("shop@b", at(3)),
            ("crm@c", at(4)),
        ]);
        let of_b = of_a.seen_from("a", "b");
        assert_eq!(
            of_b,
            Vector::from_iter([
                ("shop@a", at(1)),
                ("operator@a", at(2)),
                ("shop", at(3)),
                ("crm@c", at(4))
            ])
        );
        assert_eq!(of_b.seen_from("b", "a"), of_a);
        assert_eq!(of_b.seen_from("b", "d").seen_from("d", "a"), of_a, "by way of a third");
        assert_eq!(
            (app("crm@c"), origin("crm@c"), app("crm"), origin("crm")),
            ("crm", Some("c"), "crm", None)
        );
    }
}
