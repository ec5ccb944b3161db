//! What Syncline keeps in the target, in a schema of its own, in the same transactions as the data it speaks of.
//!
//! `offsets`: how far each topic has been applied, and by which claim; the group offsets in Kafka are for display only.
//! `applied`: what was written last for each entity. `parked`: records that the app refused; a key that is here keeps
//! its later records here too, so that none overtakes another. `waiting`: keys whose record waits for another row, with that
//! record ([`super::waiting`]). `merged`: which records are one, of entities that others refer to ([`super::merged`]).
//! `runs`: the last run of each lane that is written at set times ([`super::lanes`]). `replica_rows`: where rows of copies
//! ended that are there no longer.
//!
//! Several targets may live in one database, so every row names its pipeline and its target. A lane beside the main one
//! ([`crate::lane`]) has offsets, parked and waiting keys and runs of its own, under `target/lane`; `applied` is one for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::pipeline::{Entity, Lift};

use super::failure;
use super::session::Session;
use super::statement::{Cells, Statement};
use crate::lane::Lane;
use crate::plan::Applied;
use crate::target::{DeadLetter, Partition};

/// The schema and its tables. Printed when the role may not run it.
pub const DEFINITION: &str = "\
CREATE SCHEMA IF NOT EXISTS syncline;
CREATE TABLE IF NOT EXISTS syncline.offsets (
    pipeline text NOT NULL, target text NOT NULL, topic text NOT NULL, partition integer NOT NULL,
    next_offset bigint NOT NULL, epoch bigint NOT NULL,
    PRIMARY KEY (pipeline, target, topic, partition)) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS syncline.applied (
    pipeline text NOT NULL, target text NOT NULL, entity text NOT NULL, cid text NOT NULL,
    row_key text, state text NOT NULL,
    PRIMARY KEY (pipeline, target, entity, cid));
CREATE TABLE IF NOT EXISTS syncline.parked (
    pipeline text NOT NULL, target text NOT NULL, entity text NOT NULL, cid text NOT NULL,
    topic text NOT NULL, partition integer NOT NULL, \"offset\" bigint NOT NULL, refused_offset bigint NOT NULL,
    row_known boolean NOT NULL, reason text NOT NULL, at timestamptz NOT NULL DEFAULT now(),
    letter_key bytea, letter_value bytea,
    PRIMARY KEY (pipeline, target, entity, cid));
CREATE TABLE IF NOT EXISTS syncline.waiting (
    pipeline text NOT NULL, target text NOT NULL, entity text NOT NULL, cid text NOT NULL,
    topic text NOT NULL, partition integer NOT NULL, \"offset\" bigint NOT NULL,
    parent_entity text, parent_cid text, parent_row text,
    since timestamptz NOT NULL DEFAULT clock_timestamp(), tried timestamptz NOT NULL DEFAULT clock_timestamp(),
    until timestamptz, reason text NOT NULL, record text NOT NULL, letter_key bytea NOT NULL, letter_value bytea NOT NULL,
    PRIMARY KEY (pipeline, target, entity, cid));
CREATE TABLE IF NOT EXISTS syncline.merged (
    pipeline text NOT NULL, target text NOT NULL, entity text NOT NULL, cid text NOT NULL,
    into_cid text NOT NULL, at bigint NOT NULL, joined boolean NOT NULL,
    PRIMARY KEY (pipeline, target, entity, cid));
CREATE INDEX IF NOT EXISTS merged_into ON syncline.merged (pipeline, target, entity, into_cid);
CREATE TABLE IF NOT EXISTS syncline.runs (
    pipeline text NOT NULL, target text NOT NULL, topic text NOT NULL, partition integer NOT NULL,
    schedule text NOT NULL, opened timestamptz NOT NULL, until_offset bigint NOT NULL, done boolean NOT NULL,
    PRIMARY KEY (pipeline, target, topic, partition));
CREATE TABLE IF NOT EXISTS syncline.replica_rows (
    pipeline text NOT NULL, target text NOT NULL, \"table\" text NOT NULL, key text NOT NULL,
    epoch bigint NOT NULL, lsn pg_lsn NOT NULL, ordinal bigint NOT NULL,
    PRIMARY KEY (pipeline, target, \"table\", key));
";

const TABLES: &str = "SELECT count(*)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = 'syncline' \
        AND c.relname IN ('offsets', 'applied', 'parked', 'waiting', 'merged', 'runs', 'replica_rows')";

/// Whose books.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The pipeline.
    pub pipeline: String,
    /// The target.
    pub target: String,
    /// Of which lane offsets, parked keys and runs are.
    pub lane: String,
    /// The other lanes that may write the same rows.
    pub beside: Vec<String>,
    /// What becomes of fields of older versions, by entity.
    pub lifts: BTreeMap<String, Vec<Lift>>,
}

/// Entity, entity id, and what was written last.
pub type Remembered<'a> = (&'a str, &'a str, &'a Applied);

/// How far a partition has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The next record to apply.
    pub next: i64,
    /// Number of the claim that may write.
    pub epoch: i64,
}

/// A key whose record was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The entity.
    pub entity: String,
    /// The entity id.
    pub cid: String,
    /// Where its latest record is.
    pub from: Partition,
    /// The offset of that.
    pub offset: i64,
    /// The offset of the record that was refused.
    pub refused_offset: i64,
    /// Whether the app's row was known then.
    pub row_known: bool,
    /// Why it was refused.
    pub reason: String,
    /// The record's own bytes, until the dead letter topic has them.
    pub letter: Option<(Vec<u8>, Vec<u8>)>,
}

/// Whether the tables are there.
pub async fn exist(session: &Session) -> Outcome<bool> {
    let statement = Statement {
        sql: TABLES.to_owned(),
        arrays: Vec::new(),
    };
    let rows = session.rows(&statement).await?;
    Ok(rows.first().and_then(|row| row[0].as_deref()) == Some("7"))
}

/// Makes the tables, in the transaction that is open, if they are missing and the role may; says what to run if it may not.
pub async fn prepare(session: &Session) -> Outcome<()> {
    if exist(session).await? {
        return Ok(());
    }
    session.lock_definitions().await?;
    session.control(DEFINITION).await.map_err(|failure| match failure.code {
        failure::SCHEMA => Failure::definite(
            "BOOKS_MISSING",
            format!("the schema syncline cannot be made: {failure}"),
        )
        .hint(format!(
            "run this in the target's database and grant all rights on the tables:\n{DEFINITION}"
        )),
        _ => failure,
    })
}

impl Owner {
    /// The main lane of a target, beside which there is none.
    pub fn new(pipeline: &str, target: &str) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            target: target.to_owned(),
            lane: String::new(),
            beside: Vec::new(),
            lifts: BTreeMap::new(),
        }
    }

    /// Lets what was written under older versions of these entities count for the newer.
    pub fn lift(&mut self, entities: &[Entity]) {
        let migrated = entities.iter().filter(|entity| !entity.migrate.lifts.is_empty());
        self.lifts = migrated
            .map(|entity| (entity.name.clone(), entity.migrate.lifts.clone()))
            .collect();
    }

    /// A statement about the target.
    pub(super) fn statement(&self, sql: &str, others: Vec<Cells>) -> Statement {
        self.of(&self.target, sql, others)
    }

    /// A statement about the lane.
    pub(super) fn lane_statement(&self, sql: &str, others: Vec<Cells>) -> Statement {
        self.of(&Lane::place(&self.target, &self.lane), sql, others)
    }

    fn of(&self, target: &str, sql: &str, others: Vec<Cells>) -> Statement {
        let mine = [&self.pipeline, target].map(|name| vec![Some(name.to_owned())]);
        Statement {
            sql: sql.to_owned(),
            arrays: mine.into_iter().chain(others).collect(),
        }
    }

    /// Takes partitions over: whoever claimed them before is fenced off. The first claim is numbered by the clock, so that
    /// a row that somebody deleted does not come back with the number of a claim that is still alive.
    pub async fn claim(&self, session: &Session, partitions: &[Partition]) -> Outcome<BTreeMap<Partition, Offset>> {
        let sql = "INSERT INTO syncline.offsets AS o (pipeline, target, topic, partition, next_offset, epoch) \
            SELECT ($1::text[])[1], ($2::text[])[1], v.topic, v.partition::int, 0, \
                (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
            FROM unnest($3::text[], $4::text[]) AS v(topic, partition) ORDER BY v.topic, v.partition::int \
            ON CONFLICT (pipeline, target, topic, partition) DO UPDATE SET epoch = o.epoch + 1 \
            RETURNING o.topic, o.partition::text, o.next_offset::text, o.epoch::text";
        Ok(offsets(
            session
                .rows(&self.lane_statement(sql, partition_arrays(partitions)))
                .await?,
        ))
    }

    /// How far each partition has been applied by all lanes.
    pub async fn offsets(&self, session: &Session) -> Outcome<BTreeMap<Partition, Offset>> {
        let sql = "SELECT topic, partition::text, min(next_offset)::text, max(epoch)::text FROM syncline.offsets \
            WHERE pipeline = ($1::text[])[1] AND split_part(target, '/', 1) = ($2::text[])[1] \
            GROUP BY topic, partition";
        Ok(offsets(session.rows(&self.statement(sql, Vec::new())).await?))
    }

    /// Locks the offsets of these partitions until the transaction ends: those of the lanes beside this one too, so that no two
    /// lanes work on the same rows at once. Gives the lane's own.
    pub async fn lock_offsets(
        &self,
        session: &Session,
        partitions: &[Partition],
    ) -> Outcome<BTreeMap<Partition, Offset>> {
        let sql = "SELECT o.topic, o.partition::text, o.next_offset::text, o.epoch::text, \
                (o.target = ($2::text[])[1])::text FROM syncline.offsets AS o \
            JOIN unnest($3::text[], $4::text[]) AS k(topic, partition) \
                ON o.topic = k.topic AND o.partition = k.partition::int \
            WHERE o.pipeline = ($1::text[])[1] AND (o.target = ($2::text[])[1] OR o.target = ANY ($5::text[])) \
            ORDER BY o.topic, o.partition, o.target FOR UPDATE OF o";
        let beside = self.beside.iter().map(|lane| Some(Lane::place(&self.target, lane)));
        let mut arrays = partition_arrays(partitions);
        arrays.push(beside.collect());
        let mut rows = session.rows(&self.lane_statement(sql, arrays)).await?;
        rows.retain_mut(|row| row.pop().flatten().as_deref() == Some("true"));
        Ok(offsets(rows))
    }

    /// Moves offsets on.
    pub async fn advance(&self, session: &Session, next: &BTreeMap<Partition, i64>) -> Outcome<()> {
        let sql = "UPDATE syncline.offsets AS o SET next_offset = v.next::bigint \
            FROM unnest($3::text[], $4::text[], $5::text[]) AS v(topic, partition, next) \
            WHERE o.pipeline = ($1::text[])[1] AND o.target = ($2::text[])[1] \
                AND o.topic = v.topic AND o.partition = v.partition::int";
        let partitions: Vec<Partition> = next.keys().cloned().collect();
        let mut arrays = partition_arrays(&partitions);
        arrays.push(next.values().map(|next| Some(next.to_string())).collect());
        session.execute(&self.lane_statement(sql, arrays)).await.map(drop)
    }

    /// What was written last for these entities, by (entity, entity id).
    pub async fn applied(
        &self,
        session: &Session,
        keys: &[(String, String)],
    ) -> Outcome<BTreeMap<(String, String), Applied>> {
        let sql = "SELECT a.entity, a.cid, a.state FROM syncline.applied AS a \
            JOIN unnest($3::text[], $4::text[]) AS k(entity, cid) ON a.entity = k.entity AND a.cid = k.cid \
            WHERE a.pipeline = ($1::text[])[1] AND a.target = ($2::text[])[1]";
        let rows = session.rows(&self.statement(sql, key_arrays(keys))).await?;
        let read = rows.into_iter().map(|row| {
            let [entity, cid, state] = <[_; 3]>::try_from(row).ok()?;
            let (entity, mut applied): (String, Applied) = (entity?, serde_json::from_str(&state?).ok()?);
            if let Some(lifts) = self.lifts.get(&entity) {
                applied.lift(lifts);
            }
            Some(((entity, cid?), applied))
        });
        read.collect::<Option<_>>().ok_or_else(unreadable)
    }

    /// Remembers what was written.
    pub async fn remember(&self, session: &Session, applied: &[Remembered<'_>]) -> Outcome<()> {
        if applied.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO syncline.applied AS a (pipeline, target, entity, cid, row_key, state) \
            SELECT ($1::text[])[1], ($2::text[])[1], v.entity, v.cid, v.row_key, v.state \
            FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS v(entity, cid, row_key, state) \
            ON CONFLICT (pipeline, target, entity, cid) \
            DO UPDATE SET row_key = EXCLUDED.row_key, state = EXCLUDED.state";
        let column = |each: &dyn Fn(&Remembered<'_>) -> Option<String>| applied.iter().map(each).collect();
        let arrays = vec![
            column(&|(entity, _, _)| Some((*entity).to_owned())),
            column(&|(_, cid, _)| Some((*cid).to_owned())),
            column(&|(_, _, applied)| applied.row.as_ref().map(|row| row.0.clone())),
            column(&|(_, _, applied)| serde_json::to_string(applied).ok()),
        ];
        session.execute(&self.statement(sql, arrays)).await.map(drop)
    }

    /// Which of these keys are parked.
    pub async fn parked_among(
        &self,
        session: &Session,
        keys: &[(String, String)],
    ) -> Outcome<BTreeMap<(String, String), Parked>> {
        let sql = format!(
            "SELECT {PARKED} FROM syncline.parked AS p \
            JOIN unnest($3::text[], $4::text[]) AS k(entity, cid) ON p.entity = k.entity AND p.cid = k.cid \
            WHERE p.pipeline = ($1::text[])[1] AND p.target = ($2::text[])[1]"
        );
        let rows = session.rows(&self.lane_statement(&sql, key_arrays(keys))).await?;
        let parked = rows.into_iter().filter_map(parked);
        Ok(parked
            .map(|parked| ((parked.entity.clone(), parked.cid.clone()), parked))
            .collect())
    }

    /// Whether records were refused that the dead letter topic does not have.
    pub async fn has_letters(&self, session: &Session) -> Outcome<bool> {
        let sql = "SELECT p.cid FROM syncline.parked AS p \
            WHERE p.pipeline = ($1::text[])[1] AND p.target = ($2::text[])[1] AND p.letter_key IS NOT NULL LIMIT 1";
        let letters = session.rows(&self.lane_statement(sql, Vec::new())).await?;
        Ok(!letters.is_empty())
    }

    /// What is parked, by partition and offset: the first so many after `after`. Letters that the dead letter topic does not have
    /// are locked until the transaction ends: of all who find them one sends them, and the others then find none.
    pub async fn parked(
        &self,
        session: &Session,
        letters_only: bool,
        after: Option<&Parked>,
        rows_max: usize,
    ) -> Outcome<Vec<Parked>> {
        let sql = format!(
            "SELECT {PARKED} FROM syncline.parked AS p \
            WHERE p.pipeline = ($1::text[])[1] AND p.target = ($2::text[])[1] \
                AND (NOT ($3::text[])[1]::boolean OR p.letter_key IS NOT NULL) \
                AND (p.topic, p.partition, p.\"offset\") \
                    > (($4::text[])[1], ($5::text[])[1]::int, ($6::text[])[1]::bigint) \
            ORDER BY p.topic, p.partition, p.\"offset\" LIMIT {rows_max}{}",
            if letters_only { " FOR UPDATE OF p" } else { "" }
        );
        let (topic, number, offset) =
            after.map_or(("", -1, -1), |last| (&*last.from.topic, last.from.number, last.offset));
        let from = [
            letters_only.to_string(),
            topic.to_owned(),
            number.to_string(),
            offset.to_string(),
        ];
        let from = from.into_iter().map(|text| vec![Some(text)]).collect();
        Ok(session
            .rows(&self.lane_statement(&sql, from))
            .await?
            .into_iter()
            .filter_map(parked)
            .collect())
    }

    /// Parks keys, or moves what is parked on to the latest record.
    pub async fn park(&self, session: &Session, parked: &[Parked]) -> Outcome<()> {
        if parked.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO syncline.parked AS p (pipeline, target, entity, cid, topic, partition, \"offset\", \
                refused_offset, row_known, reason, letter_key, letter_value) \
            SELECT ($1::text[])[1], ($2::text[])[1], v.entity, v.cid, v.topic, v.partition::int, v.at::bigint, \
                v.refused::bigint, v.row_known::boolean, v.reason, v.letter_key::bytea, v.letter_value::bytea \
            FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], \
                $10::text[], $11::text[], $12::text[]) \
                AS v(entity, cid, topic, partition, at, refused, row_known, reason, letter_key, letter_value) \
            ON CONFLICT (pipeline, target, entity, cid) DO UPDATE SET topic = EXCLUDED.topic, \
                partition = EXCLUDED.partition, \"offset\" = EXCLUDED.\"offset\", \
                row_known = EXCLUDED.row_known, reason = EXCLUDED.reason";
        session
            .execute(&self.lane_statement(sql, parked_arrays(parked)))
            .await
            .map(drop)
    }

    /// These keys went through.
    pub async fn unpark(&self, session: &Session, keys: &[(String, String)]) -> Outcome<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let sql = "DELETE FROM syncline.parked AS p USING unnest($3::text[], $4::text[]) AS k(entity, cid) \
            WHERE p.pipeline = ($1::text[])[1] AND p.target = ($2::text[])[1] \
                AND p.entity = k.entity AND p.cid = k.cid";
        session
            .execute(&self.lane_statement(sql, key_arrays(keys)))
            .await
            .map(drop)
    }

    /// The dead letter topic has these; their bytes need not be kept here.
    pub async fn letters_sent(&self, session: &Session, keys: &[(String, String)]) -> Outcome<()> {
        let sql = "UPDATE syncline.parked AS p SET letter_key = NULL, letter_value = NULL \
            FROM unnest($3::text[], $4::text[]) AS k(entity, cid) \
            WHERE p.pipeline = ($1::text[])[1] AND p.target = ($2::text[])[1] \
                AND p.entity = k.entity AND p.cid = k.cid";
        session
            .execute(&self.lane_statement(sql, key_arrays(keys)))
            .await
            .map(drop)
    }
}

fn unreadable() -> Failure {
    Failure::definite(
        "BOOKS_UNREADABLE",
        "syncline.applied holds a state that this version cannot read",
    )
    .hint("was a newer version of syncline-sink at work here?")
}

/// No list of parked keys that is worked on is longer than this; what is beyond comes with the next.
pub const PARKED_ROWS_MAX: usize = 1_000;

const PARKED: &str = "p.entity, p.cid, p.topic, p.partition::text, p.\"offset\"::text, p.refused_offset::text, \
    p.row_known::text, p.reason, p.letter_key::text, p.letter_value::text";

fn parked(row: Vec<Option<String>>) -> Option<Parked> {
    let [
        entity,
        cid,
        topic,
        partition,
        offset,
        refused,
        row_known,
        reason,
        key,
        value,
    ] = <[_; 10]>::try_from(row).ok()?;
    Some(Parked {
        entity: entity?,
        cid: cid?,
        from: Partition {
            topic: topic?.into(),
            number: partition?.parse().ok()?,
        },
        offset: offset?.parse().ok()?,
        refused_offset: refused?.parse().ok()?,
        row_known: row_known.as_deref() == Some("true"),
        reason: reason?,
        letter: key.zip(value).map(|(key, value)| (from_hex(&key), from_hex(&value))),
    })
}

fn parked_arrays(parked: &[Parked]) -> Vec<Cells> {
    let column = |each: &dyn Fn(&Parked) -> Option<String>| parked.iter().map(each).collect();
    vec![
        column(&|parked| Some(parked.entity.clone())),
        column(&|parked| Some(parked.cid.clone())),
        column(&|parked| Some(parked.from.topic.to_string())),
        column(&|parked| Some(parked.from.number.to_string())),
        column(&|parked| Some(parked.offset.to_string())),
        column(&|parked| Some(parked.refused_offset.to_string())),
        column(&|parked| Some(parked.row_known.to_string())),
        column(&|parked| Some(parked.reason.clone())),
        column(&|parked| parked.letter.as_ref().map(|(key, _)| to_hex(key))),
        column(&|parked| parked.letter.as_ref().map(|(_, value)| to_hex(value))),
    ]
}

fn offsets(rows: Vec<Vec<Option<String>>>) -> BTreeMap<Partition, Offset> {
    let read = rows.into_iter().filter_map(|row| {
        let [topic, number, next, epoch] = <[_; 4]>::try_from(row).ok()?;
        let partition = Partition {
            topic: Arc::from(topic?),
            number: number?.parse().ok()?,
        };
        Some((
            partition,
            Offset {
                next: next?.parse().ok()?,
                epoch: epoch?.parse().ok()?,
            },
        ))
    });
    read.collect()
}

pub(super) fn partition_arrays(partitions: &[Partition]) -> Vec<Cells> {
    let topics = partitions
        .iter()
        .map(|partition| Some(partition.topic.to_string()))
        .collect();
    let numbers = partitions
        .iter()
        .map(|partition| Some(partition.number.to_string()))
        .collect();
    vec![topics, numbers]
}

pub(super) fn key_arrays(keys: &[(String, String)]) -> Vec<Cells> {
    let entities = keys.iter().map(|(entity, _)| Some(entity.clone())).collect();
    let cids = keys.iter().map(|(_, cid)| Some(cid.clone())).collect();
    vec![entities, cids]
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

pub(super) fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("\\x").unwrap_or(text).as_bytes();
    let byte = |pair: &[u8]| {
        std::str::from_utf8(pair)
            .ok()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
    };
    digits.chunks(2).filter_map(byte).collect()
}

impl Parked {
    /// The refused record, for the dead letter topic; none if the topic has it.
    pub fn letter(&self, target: &str) -> Option<DeadLetter> {
        let (key, value) = self.letter.clone()?;
        let (from, offset, reason) = (self.from.clone(), self.refused_offset, self.reason.clone());
        Some(DeadLetter {
            target: target.to_owned(),
            from,
            offset,
            reason,
            key,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_what_they_write() {
        for bytes in [&b""[..], &[0, 1, 0xFF]] {
            assert_eq!(from_hex(&to_hex(bytes)), bytes);
        }
    }
}
