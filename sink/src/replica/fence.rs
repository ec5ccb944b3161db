//! The positions by which an older change is known: what is not later than what holds is left out.
//!
//! A row that is there has its position with it, in a column of the copy: so it is compared and written with the row, by the
//! same statement. (A table beside the copy would cost as much again as the row.) What is no longer there keeps its position in
//! `syncline.replica_rows`, or a replay would bring it back: rows that were deleted or that left their key, by the key, and
//! under the empty key the table itself, by its last truncate. There a copy goes by the name of its topic.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::position::Position;

use crate::postgres::books::Owner;
use crate::postgres::session::Session;
use crate::postgres::statement::{Cells, Column, Statement, TableName};
use crate::postgres::text;

/// The column of a copy that says since when its row is so.
pub const COLUMN: &str = "_syncline_position";
/// Its type.
pub const COLUMN_TYPE: &str = "bytea";
/// The key that stands for the table.
pub const TABLE: &str = "";

/// Characters of a stamp that say of which topic it is: `\x` and eight bytes.
const TOPIC_CHARS: usize = 18;

/// The stamps of a topic's rows. Positions of another topic (the copy once had another source) say nothing here.
#[derive(Clone, Debug)]
pub struct Stamps(String);

impl Stamps {
    /// Of this topic.
    pub fn of(topic: &str) -> Self {
        let digest = Sha256::digest(topic);
        let bytes = digest.iter().take(TOPIC_CHARS / 2 - 1);
        Self(bytes.fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")))
    }

    /// The position in the column of a row: the topic, then epoch, LSN and ordinal, whose bytes are ordered as positions are.
    pub fn at(&self, position: Position) -> String {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let words = [position.epoch, position.lsn.0, position.ordinal];
        let mut text = String::with_capacity(TOPIC_CHARS + words.len() * 16);
        text.push_str(&self.0);
        for byte in words.into_iter().flat_map(u64::to_be_bytes) {
            text.push(HEX[usize::from(byte >> 4)].into());
            text.push(HEX[usize::from(byte & 15)].into());
        }
        text
    }

    /// Whether a row with that stamp is no older than `this`.
    pub fn holds(&self, there: Option<&There>, this: &str) -> bool {
        let there = there.and_then(|there| there.stamp.as_deref());
        there.is_some_and(|there| there.starts_with(&self.0) && there >= this)
    }
}

/// What is no longer there.
#[derive(Debug, Default)]
pub struct Gone {
    table: Option<Position>,
    rows: BTreeMap<String, Position>,
}

impl Gone {
    /// Whether a row of this key has ended, whenever that was.
    pub fn knows(&self, key: &str) -> bool {
        self.rows.contains_key(key)
    }

    /// Whether a change of the row is later than its end, and than that of all rows.
    pub fn is_before(&self, key: &str, position: Position) -> bool {
        let ends = [self.table.as_ref(), self.rows.get(key)];
        ends.into_iter().flatten().all(|end| *end < position)
    }
}

/// What is known of these rows, and of the table.
pub async fn read(session: &Session, owner: &Owner, table: &str, keys: impl Iterator<Item = &str>) -> Outcome<Gone> {
    let unreadable = || Failure::definite("BOOKS_UNREADABLE", "syncline.replica_rows holds no positions");
    let position = |text: &str| text.parse::<Position>().map_err(|_| unreadable());
    let mut gone = Gone::default();
    let first = session.rows(&statement(SUMMARY, owner, table, Vec::new())).await?;
    let [truncated, any] =
        <[_; 2]>::try_from(first.into_iter().next().unwrap_or_default()).map_err(|_| unreadable())?;
    gone.table = truncated.as_deref().map(position).transpose()?;
    if any.as_deref() != Some("true") {
        return Ok(gone);
    }
    let keys = keys.map(|key| Some(key.to_owned())).collect();
    for row in session.rows(&statement(OF_KEYS, owner, table, vec![keys])).await? {
        let [Some(key), Some(end)] = <[_; 2]>::try_from(row).map_err(|_| unreadable())? else {
            return Err(unreadable());
        };
        gone.rows.insert(key, position(&end)?);
    }
    Ok(gone)
}

/// The table's last truncate, and whether anything else is known.
const SUMMARY: &str = "SELECT (SELECT r.epoch || ':' || r.lsn || ':' || r.ordinal FROM syncline.replica_rows AS r \
        WHERE r.pipeline = ($1::text[])[1] AND r.target = ($2::text[])[1] AND r.\"table\" = ($3::text[])[1] AND r.key = ''), \
    EXISTS (SELECT FROM syncline.replica_rows AS r \
        WHERE r.pipeline = ($1::text[])[1] AND r.target = ($2::text[])[1] AND r.\"table\" = ($3::text[])[1] \
            AND r.key > '')::text";

const OF_KEYS: &str = "SELECT r.key, r.epoch || ':' || r.lsn || ':' || r.ordinal FROM syncline.replica_rows AS r \
    JOIN unnest($4::text[]) AS k(key) ON r.key = k.key \
    WHERE r.pipeline = ($1::text[])[1] AND r.target = ($2::text[])[1] AND r.\"table\" = ($3::text[])[1]";

/// Notes the ends of rows.
pub async fn write(session: &Session, owner: &Owner, table: &str, rows: &[(&str, Position)]) -> Outcome<()> {
    let sql = "INSERT INTO syncline.replica_rows AS r (pipeline, target, \"table\", key, epoch, lsn, ordinal) \
        SELECT ($1::text[])[1], ($2::text[])[1], ($3::text[])[1], v.key, v.epoch::bigint, v.lsn::pg_lsn, v.ordinal::bigint \
        FROM unnest($4::text[], $5::text[], $6::text[], $7::text[]) AS v(key, epoch, lsn, ordinal) \
        ON CONFLICT (pipeline, target, \"table\", key) \
        DO UPDATE SET epoch = EXCLUDED.epoch, lsn = EXCLUDED.lsn, ordinal = EXCLUDED.ordinal \
        WHERE (r.epoch, r.lsn, r.ordinal) < (EXCLUDED.epoch, EXCLUDED.lsn, EXCLUDED.ordinal)";
    if rows.is_empty() {
        return Ok(());
    }
    let column = |each: &dyn Fn(&(&str, Position)) -> String| rows.iter().map(|row| Some(each(row))).collect();
    let arrays = vec![
        column(&|(key, _)| (*key).to_owned()),
        column(&|(_, position)| position.epoch.to_string()),
        column(&|(_, position)| position.lsn.to_string()),
        column(&|(_, position)| position.ordinal.to_string()),
    ];
    session.execute(&statement(sql, owner, table, arrays)).await.map(drop)
}

/// A row that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    /// Which one: two keys may be equal to the database.
    pub row: String,
    /// Its stamp, if it has one.
    pub stamp: Option<String>,
}

/// Of rows of a copy, by their keys: those that are there, by their places among the keys. They stay locked.
pub async fn stamps(
    session: &Session,
    table: &TableName,
    key: &[&Column],
    column: &Column,
    keys: Vec<Cells>,
) -> Outcome<BTreeMap<usize, There>> {
    let keys = text::transposed(keys, key.len());
    let found = session
        .rows(&super::statements::stamps(table, key, column, keys))
        .await?;
    let place = |row: Vec<Option<String>>| {
        let [place, row, stamp] = <[_; 3]>::try_from(row).ok()?;
        Some((
            place?.parse::<usize>().ok()?.checked_sub(1)?,
            There { row: row?, stamp },
        ))
    };
    let found: Option<_> = found.into_iter().map(place).collect();
    found.ok_or_else(|| Failure::definite("COPY_UNREADABLE", format!("the positions of {table}")))
}

/// Waits until no other sink is at work on the copy whom this one could miss: whoever moves or removes many rows is alone with
/// it, for what he looks for another may be about to write. The lock ends with the transaction.
pub async fn enter(session: &Session, owner: &Owner, table: &str, is_alone: bool) -> Outcome<()> {
    let kind = if is_alone { "" } else { "_shared" };
    let sql = format!(
        "SELECT pg_advisory_xact_lock{kind}(hashtextextended(\
             ($1::text[])[1] || '/' || ($2::text[])[1] || '/' || ($3::text[])[1], 0))::text"
    );
    session.rows(&statement(&sql, owner, table, Vec::new())).await.map(drop)
}

fn statement(sql: &str, owner: &Owner, table: &str, others: Vec<Cells>) -> Statement {
    let first = [owner.pipeline.as_str(), owner.target.as_str(), table].map(|text| vec![Some(text.to_owned())]);
    Statement {
        sql: sql.to_owned(),
        arrays: first.into_iter().chain(others).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use syncline_schemas::position::Lsn;

    use super::*;

    fn positions() -> impl Strategy<Value = Position> {
        let part = || prop_oneof![0..3_u64, any::<u64>()];
        (part(), part(), part()).prop_map(|(epoch, lsn, ordinal)| Position::new(epoch, Lsn(lsn), ordinal))
    }

    proptest! {
        #[test]
        fn stamps_are_ordered_as_positions_are(one in positions(), two in positions()) {
            let stamps = Stamps::of("a.public.t");
            prop_assert_eq!(stamps.at(one).cmp(&stamps.at(two)), one.cmp(&two));
        }
    }

    #[test]
    fn stamps_of_another_topic_hold_nothing() {
        let (ours, others) = (Stamps::of("a.public.t"), Stamps::of("b.public.t"));
        let at = |lsn| Position::new(1, Lsn(lsn), 0);
        let there = |stamp| There {
            row: String::new(),
            stamp,
        };
        let holds = |stamp: Option<String>| ours.holds(Some(&there(stamp)), &ours.at(at(5)));
        assert!(holds(Some(ours.at(at(5)))) && !holds(Some(ours.at(at(4)))));
        assert!(!holds(Some(others.at(at(9)))) && !holds(None));
        assert_eq!(ours.0.len(), TOPIC_CHARS);
    }

    #[test]
    fn what_ended_is_not_brought_back() {
        let at = |lsn| Position::new(1, Lsn(lsn), 0);
        let gone = Gone {
            table: Some(at(5)),
            rows: BTreeMap::from([("a".to_owned(), at(8))]),
        };
        let later = |key: &str| (4..10).filter(|lsn| gone.is_before(key, at(*lsn))).collect::<Vec<_>>();
        assert_eq!((later("a"), later("b")), (vec![9], vec![6, 7, 8, 9]));
    }
}
