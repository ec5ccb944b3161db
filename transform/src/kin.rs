//! Which records are one: the words on identity ([`syncline_schemas::identity`]), one after the other. Pure.
//!
//! They stand in one partition, so whoever reads it from the beginning comes to the same. A word that cannot hold beside
//! those before it (two people merge A into B and B into A) is refused by its place in the log, in every replay the same.
//!
//! What was said is a forest: into which record each was merged. What merge is told is flat: each record's root, so that a
//! record is a part of one other and never of a part. So when a record moves, those merged into it are told too.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use syncline_runtime::Outcome;
use syncline_schemas::identity::{IdentityAct, IdentityWord, MATCH};

/// Records that can be one. Their states have to fit one record of Kafka.
pub const FAMILY_MAX: usize = 64;

/// Into which record one is merged, and which are into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kin {
    /// Into which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// Which, in the order of the words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
    /// Offset of the word that moved it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
}

/// Where it is kept.
pub trait Register {
    /// Of a record; nothing was said of most.
    fn kin(&mut self, cid: &str) -> Outcome<Kin>;
    /// Keeps it.
    fn keep(&mut self, cid: &str, kin: &Kin);
    /// Keeps that two records are not one, whatever is found.
    fn never(&mut self, one: &str, other: &str);
    /// Whether somebody said so.
    fn is_never(&mut self, one: &str, other: &str) -> Outcome<bool>;
}

/// A record goes elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The record.
    pub cid: String,
    /// The one that spoke for it until now, if it was another.
    pub from: Option<String>,
    /// The one that speaks for it from now on; none if it does itself.
    pub to: Option<String>,
}

/// Who goes where by a word; or why the word does not hold.
pub type Heard = Result<Vec<Move>, String>;

/// Takes in the next word, which stands at this offset.
pub fn hear(register: &mut impl Register, word: &IdentityWord, at: i64) -> Outcome<Heard> {
    let heard = match (word.act, &word.winner) {
        // The match had not heard of it when it said so.
        (IdentityAct::Merge, Some(winner)) if word.by == MATCH && register.is_never(&word.loser, winner)? => {
            Ok(Err("somebody has said that they are not one".to_owned()))
        }
        (IdentityAct::Merge, Some(winner)) => merge(register, &word.loser, winner),
        (IdentityAct::Split, _) => split(register, &word.loser),
        (IdentityAct::Reject, Some(other)) => {
            register.never(&word.loser, other);
            Ok(Ok(Vec::new()))
        }
        (_, None) => Ok(Err("it names one record, and two are needed".to_owned())),
    }?;
    for one in heard.iter().flatten() {
        let kin = Kin {
            at: Some(at),
            ..register.kin(&one.cid)?
        };
        register.keep(&one.cid, &kin);
    }
    Ok(heard)
}

/// The record that speaks for this one.
pub fn root(register: &mut impl Register, cid: &str) -> Outcome<String> {
    let mut root = cid.to_owned();
    // There are no circles, and no chain is longer than a family is large.
    for _ in 0..FAMILY_MAX {
        match register.kin(&root)?.into {
            Some(into) => root = into,
            None => break,
        }
    }
    Ok(root)
}

/// A record and all that are merged into it, over any number of steps.
pub fn family(register: &mut impl Register, cid: &str) -> Outcome<Vec<String>> {
    let mut family = vec![cid.to_owned()];
    let mut looked_at = 0;
    while let Some(member) = family.get(looked_at).cloned().filter(|_| looked_at < FAMILY_MAX) {
        family.extend(register.kin(&member)?.of);
        looked_at += 1;
    }
    Ok(family)
}

fn merge(register: &mut impl Register, loser: &str, winner: &str) -> Outcome<Heard> {
    let mut lost = register.kin(loser)?;
    if let Some(into) = &lost.into {
        return Ok(Err(format!("{loser} is merged into {into} already")));
    }
    let root = root(register, winner)?;
    if root == loser {
        return Ok(Err(format!("{winner} is {loser} already")));
    }
    let goes = family(register, loser)?;
    if goes.len() + family(register, &root)?.len() > FAMILY_MAX {
        return Ok(Err(format!("no more than {FAMILY_MAX} records can be one")));
    }
    lost.into = Some(winner.to_owned());
    register.keep(loser, &lost);
    let mut won = register.kin(winner)?;
    won.of.push(loser.to_owned());
    register.keep(winner, &won);
    let to_root = |cid: String| Move {
        from: (cid != loser).then(|| loser.to_owned()),
        to: Some(root.clone()),
        cid,
    };
    Ok(Ok(goes.into_iter().map(to_root).collect()))
}

fn split(register: &mut impl Register, loser: &str) -> Outcome<Heard> {
    let from = root(register, loser)?;
    let mut lost = register.kin(loser)?;
    let Some(into) = lost.into.take() else {
        return Ok(Err(format!("{loser} is not merged into another")));
    };
    // What somebody takes apart is not put together again for want of better.
    register.never(loser, &into);
    register.keep(loser, &lost);
    let mut left = register.kin(&into)?;
    left.of.retain(|cid| cid != loser);
    register.keep(&into, &left);
    let goes = family(register, loser)?;
    let back = |cid: String| Move {
        from: Some(from.clone()),
        to: (cid != loser).then(|| loser.to_owned()),
        cid,
    };
    Ok(Ok(goes.into_iter().map(back).collect()))
}

/// A register in memory.
#[derive(Debug, Default)]
pub struct Remembered {
    kin: BTreeMap<String, Kin>,
    /// Pairs that are not one, the lesser id first.
    pub never: BTreeSet<(String, String)>,
}

impl Register for Remembered {
    fn kin(&mut self, cid: &str) -> Outcome<Kin> {
        Ok(self.kin.get(cid).cloned().unwrap_or_default())
    }

    fn keep(&mut self, cid: &str, kin: &Kin) {
        self.kin.insert(cid.to_owned(), kin.clone());
    }

    fn never(&mut self, one: &str, other: &str) {
        self.never
            .insert((one.min(other).to_owned(), one.max(other).to_owned()));
    }

    fn is_never(&mut self, one: &str, other: &str) -> Outcome<bool> {
        let pair = (one.min(other).to_owned(), one.max(other).to_owned());
        Ok(self.never.contains(&pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(act: IdentityAct, loser: &str, winner: Option<&str>) -> IdentityWord {
        IdentityWord {
            act,
            loser: loser.to_owned(),
            winner: winner.map(str::to_owned),
            by: "ada".to_owned(),
            why: String::new(),
            at_us: 0,
        }
    }

    fn merged(register: &mut Remembered, loser: &str, winner: &str) -> Result<String, String> {
        said(register, &word(IdentityAct::Merge, loser, Some(winner)))
    }

    fn split(register: &mut Remembered, loser: &str) -> Result<String, String> {
        said(register, &word(IdentityAct::Split, loser, None))
    }

    fn said(register: &mut Remembered, word: &IdentityWord) -> Result<String, String> {
        let moves = hear(register, word, 7).unwrap()?;
        let moves = moves
            .into_iter()
            .map(|one| format!("{}>{}", one.cid, one.to.unwrap_or_default()));
        Ok(moves.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn who_is_merged_takes_along_who_was_merged_into_him_and_takes_them_back() {
        let all = &mut Remembered::default();
        assert_eq!(merged(all, "a", "b").as_deref(), Ok("a>b"));
        assert_eq!(merged(all, "b", "c").as_deref(), Ok("b>c a>c"));
        assert_eq!(
            merged(all, "d", "a").as_deref(),
            Ok("d>c"),
            "into one that is another by now"
        );
        assert_eq!(split(all, "b").as_deref(), Ok("b> a>b d>b"));
        assert_eq!(split(all, "a").as_deref(), Ok("a> d>a"));
        assert_eq!(root(all, "d").unwrap(), "a");
        assert_eq!(
            merged(all, "a", "c").as_deref(),
            Ok("a>c d>c"),
            "another time elsewhere"
        );
    }

    #[test]
    fn what_cannot_hold_beside_what_was_said_does_not() {
        let all = &mut Remembered::default();
        merged(all, "a", "b").unwrap();
        merged(all, "b", "c").unwrap();
        assert!(merged(all, "c", "a").is_err(), "a circle");
        assert!(merged(all, "a", "c").is_err(), "it is merged already");
        assert!(merged(all, "e", "e").is_err());
        assert!(split(all, "c").is_err());
        assert!(said(all, &word(IdentityAct::Merge, "e", None)).is_err());
        assert_eq!(root(all, "a").unwrap(), "c", "and nothing is changed by it");
        for number in 0..FAMILY_MAX - 3 {
            merged(all, &format!("m{number}"), "a").unwrap();
        }
        assert!(merged(all, "e", "a").is_err(), "as many as can be");
        assert_eq!(family(all, "c").unwrap().len(), FAMILY_MAX);
    }

    #[test]
    fn a_rejected_pair_is_the_same_whoever_is_named_first() {
        let all = &mut Remembered::default();
        said(all, &word(IdentityAct::Reject, "b", Some("a"))).unwrap();
        merged(all, "c", "a").unwrap();
        split(all, "c").unwrap();
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        assert_eq!(
            all.never,
            [pair("a", "b"), pair("a", "c")].into(),
            "what was split is not found again"
        );
        let late = IdentityWord {
            by: MATCH.to_owned(),
            ..word(IdentityAct::Merge, "a", Some("b"))
        };
        assert!(said(all, &late).is_err(), "the match had not heard of it");
        assert!(merged(all, "a", "b").is_ok(), "a person may think better of it");
    }
}
