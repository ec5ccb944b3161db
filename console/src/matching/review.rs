//! `match review`, `accept`, `reject`: pairs that the match is not sure of. Which of them are open nobody has to keep: it is
//! what the words on identity say of the two records, whoever said them. It shows what agrees, and no values.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::Wire;
use syncline_schemas::identity::IdentityAct;
use syncline_schemas::review::{Review, Side};
use syncline_schemas::topic;
use syncline_transform::kin::{Remembered, hear, root};

use super::words;
use crate::answer::{self, Verdict};
use crate::desk::{Actor, Asked, Desk, wrong};
use crate::paper::Table;
use crate::topics;

/// More items than this are not held in memory at once.
const ITEMS_MAX: usize = 1_000_000;

/// What `match review` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ReviewArgs {
    /// Only of this entity
    #[arg(long, value_name = "NAME")]
    pub entity: Option<String>,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// What `match accept` and `match reject` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct AnswerArgs {
    /// The item, by its id
    pub id: String,
    /// Who and why.
    #[command(flatten)]
    pub actor: Actor,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// An item that waits.
#[derive(Debug, Serialize)]
struct Item {
    id: String,
    entity: String,
    kind: &'static str,
    score: String,
    agrees: Vec<String>,
    one: Row,
    other: Row,
    why: String,
}

/// A row, and the records that it belongs to.
#[derive(Debug, Serialize)]
struct Row {
    app: String,
    row: String,
    cid: String,
    /// The record that speaks for it.
    record: String,
}

#[derive(Debug, Serialize)]
struct Items {
    items: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Answered<'a> {
    dry_run: bool,
    id: &'a str,
    act: &'static str,
    loser: &'a str,
    winner: &'a str,
    by: &'a str,
}

/// Lists what waits.
pub fn list(args: &ReviewArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let items = Items {
        items: open(&mut desk, args.entity.as_deref())?,
    };
    answer::give(args.asked.json, &items, || items.text())?;
    Ok(Verdict::act_if(!items.items.is_empty()).into())
}

/// They are one.
pub fn accept(args: &AnswerArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let item = find(&mut desk, &args.id)?;
    let (loser, winner) = (item.other.record.clone(), item.one.record.clone());
    say(&desk, args, &item, IdentityAct::Merge, &loser, &winner)
}

/// They are not.
pub fn reject(args: &AnswerArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let item = find(&mut desk, &args.id)?;
    let (one, other) = (item.one.cid.clone(), item.other.cid.clone());
    say(&desk, args, &item, IdentityAct::Reject, &one, &other)
}

fn say(desk: &Desk, args: &AnswerArgs, item: &Item, act: IdentityAct, loser: &str, winner: &str) -> Outcome<ExitCode> {
    let word = words::word(act, loser, Some(winner), &args.actor);
    if !args.actor.dry_run {
        words::say(desk, &item.entity, &word)?;
    }
    let answered = Answered {
        dry_run: args.actor.dry_run,
        id: &args.id,
        act: act.word(),
        loser,
        winner,
        by: &args.actor.by,
    };
    answer::give(args.asked.json, &answered, || {
        let (would, id) = (if args.actor.dry_run { "would be " } else { "" }, &args.id);
        match act {
            IdentityAct::Merge => format!("{id} {would}accepted: {loser} is merged into {winner}\n"),
            _ => format!("{id} {would}rejected: {loser} and {winner} are two\n"),
        }
    })?;
    Ok(Verdict::Well.into())
}

/// The item that waits under this id.
fn find(desk: &mut Desk, id: &str) -> Outcome<Item> {
    let mut known = false;
    for entity in desk.entities(None)? {
        let reviews = reviews(desk, &entity)?;
        known |= reviews.contains_key(id);
        let mut waiting = waiting(desk, &entity, reviews)?.into_iter();
        if let Some(item) = waiting.find(|item| item.id == id) {
            return Ok(item);
        }
    }
    Err(match known {
        true => Failure::definite(
            "REVIEW_SETTLED",
            format!("{id} is settled: somebody has said what they are"),
        )
        .hint("`syncline why ENTITY ID` of either record tells who; `syncline match review` lists what waits"),
        false => wrong(format!("nobody was ever asked about {id}")).hint("`syncline match review` lists what waits"),
    })
}

fn open(desk: &mut Desk, entity: Option<&str>) -> Outcome<Vec<Item>> {
    let mut items = Vec::new();
    for entity in desk.entities(entity)? {
        let reviews = reviews(desk, &entity)?;
        items.extend(waiting(desk, &entity, reviews)?);
    }
    Ok(items)
}

/// Everything that was ever asked, by id.
fn reviews(desk: &mut Desk, entity: &str) -> Outcome<BTreeMap<String, Review>> {
    let name = topic::reviews(&desk.pipeline.name, entity);
    let bus = desk.bus.clone();
    let mut reviews = BTreeMap::new();
    topics::each(&bus, &name, |record| {
        let Some(value) = record.value else { return Ok(()) };
        if reviews.len() >= ITEMS_MAX {
            let message = format!("{name} has more than {ITEMS_MAX} items");
            return Err(Failure::definite("REVIEWS_MANY", message));
        }
        let review = desk.read(&name, &value, Review::decode)?;
        reviews.insert(review.id.clone(), review);
        Ok(())
    })?;
    Ok(reviews)
}

/// Those of them about which nobody has said anything.
fn waiting(desk: &mut Desk, entity: &str, reviews: BTreeMap<String, Review>) -> Outcome<Vec<Item>> {
    let mut register = Remembered::default();
    words::each(desk, entity, |offset, word| {
        hear(&mut register, &word, offset).map(drop)
    })?;
    let mut items = Vec::new();
    for review in reviews.into_values() {
        let one = row(&mut register, &review.one)?;
        let other = row(&mut register, &review.other)?;
        if one.record == other.record || is_rejected(&register, &one, &other) {
            continue;
        }
        items.push(Item {
            entity: entity.to_owned(),
            kind: review.kind.word(),
            score: review.score.to_string(),
            agrees: review.agrees,
            why: review.why,
            id: review.id,
            one,
            other,
        });
    }
    Ok(items)
}

fn row(register: &mut Remembered, side: &Side) -> Outcome<Row> {
    Ok(Row {
        app: side.source.clone(),
        row: side.row.0.clone(),
        record: root(register, &side.cid)?,
        cid: side.cid.clone(),
    })
}

fn is_rejected(register: &Remembered, one: &Row, other: &Row) -> bool {
    let pairs = [
        (&one.cid, &other.cid),
        (&one.record, &other.record),
        (&one.cid, &other.record),
        (&one.record, &other.cid),
    ];
    pairs.into_iter().any(|(one, other)| {
        register
            .never
            .contains(&(one.min(other).clone(), one.max(other).clone()))
    })
}

impl Items {
    fn text(&self) -> String {
        let mut table = Table::new(["ID", "ENTITY", "KIND", "SCORE", "AGREE", "ONE", "OTHER", "WHY"]);
        for item in &self.items {
            let side = |row: &Row| format!("{} {} ({})", row.app, row.row, row.record);
            table.row([
                &item.id,
                &item.entity,
                item.kind,
                &item.score,
                &item.agrees.join(", "),
                &side(&item.one),
                &side(&item.other),
                &item.why,
            ]);
        }
        table.render() + &format!("{} wait for a person\n", self.items.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_schemas::identity::IdentityWord;

    fn heard(words: &[(IdentityAct, &str, Option<&str>)]) -> Remembered {
        let mut register = Remembered::default();
        for (act, loser, winner) in words {
            let word = IdentityWord {
                act: *act,
                loser: (*loser).to_owned(),
                winner: winner.map(str::to_owned),
                by: "ada".to_owned(),
                why: String::new(),
                at_us: 0,
            };
            hear(&mut register, &word, 0).unwrap().unwrap();
        }
        register
    }

    fn is_open(register: &mut Remembered) -> bool {
        let side = |cid: &str| Side {
            cid: cid.to_owned(),
            source: "shop".to_owned(),
            row: Default::default(),
        };
        let (one, other) = (row(register, &side("a")).unwrap(), row(register, &side("b")).unwrap());
        one.record != other.record && !is_rejected(register, &one, &other)
    }

    #[test]
    fn what_anybody_has_said_of_a_pair_settles_it() {
        use IdentityAct::{Merge, Reject, Split};
        assert!(is_open(&mut heard(&[])));
        assert!(!is_open(&mut heard(&[(Merge, "a", Some("b"))])));
        assert!(!is_open(&mut heard(&[
            (Merge, "a", Some("c")),
            (Merge, "b", Some("c"))
        ])));
        assert!(!is_open(&mut heard(&[(Reject, "b", Some("a"))])));
        assert!(
            !is_open(&mut heard(&[(Merge, "a", Some("b")), (Split, "a", None)])),
            "it was taken apart"
        );
        assert!(is_open(&mut heard(&[(Merge, "a", Some("c"))])));
    }
}
