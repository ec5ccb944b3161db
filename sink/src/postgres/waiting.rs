//! Records that wait for another row of the same target, in its own books: `syncline.waiting`.
//!
//! A key that waits is here with its latest record, since the agreed record is a state; whatever comes later of it is looked
//! at in its place. How long it has waited counts from the first that did. It is looked at again when the books know another
//! row of the parent than they did, and now and then in any case, since rows also come and go without us.
//!
//! Each lane has its own ([`crate::lane`]), under `target/lane`: it writes what is its own of the record, when it is its time.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_runtime::Outcome;

use super::books::{Owner, from_hex, to_hex};
use super::session::Session;
use super::statement::Cells;
use crate::target::{Delivery, Partition};

/// So many are looked at in one transaction.
const LOOKED_AT_ROWS_MAX: usize = 500;
/// The same by a lane beside another, which waits meanwhile.
const BESIDE_LOOKED_AT_ROWS_MAX: usize = 100;

/// What a record waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The entity and the entity id of the parent; none if it waits for children to go.
    pub parent: Option<(String, String)>,
    /// How long, milliseconds; none if without end.
    pub wait_ms: Option<i64>,
    /// Why, without values.
    pub reason: String,
}

/// A key that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The offset of its latest record.
    pub offset: i64,
    /// Whether its time is up.
    pub is_over: bool,
}

impl Owner {
    /// Which of these keys wait.
    pub async fn waiting_among(
        &self,
        session: &Session,
        keys: &[(String, String)],
    ) -> Outcome<BTreeMap<(String, String), Waiting>> {
        let sql = "SELECT w.entity, w.cid, w.\"offset\"::text, coalesce(w.until <= clock_timestamp(), false)::text \
            FROM syncline.waiting AS w \
            JOIN unnest($3::text[], $4::text[]) AS k(entity, cid) ON w.entity = k.entity AND w.cid = k.cid \
            WHERE w.pipeline = ($1::text[])[1] AND w.target = ($2::text[])[1]";
        let rows = session
            .rows(&self.lane_statement(sql, super::books::key_arrays(keys)))
            .await?;
        let waiting = rows.into_iter().filter_map(|row| {
            let [entity, cid, offset, over] = <[_; 4]>::try_from(row).ok()?;
            let waiting = Waiting {
                offset: offset?.parse().ok()?,
                is_over: over.as_deref() == Some("true"),
            };
            Some(((entity?, cid?), waiting))
        });
        Ok(waiting.collect())
    }

    /// Lets these records wait, each for what stands beside it; those that wait already go on with the latest record.
    pub async fn wait(&self, session: &Session, waits: &[(&Delivery, Wait)]) -> Outcome<()> {
        if waits.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO syncline.waiting AS w (pipeline, target, entity, cid, topic, partition, \"offset\", \
                parent_entity, parent_cid, parent_row, until, reason, record, letter_key, letter_value) \
            SELECT ($1::text[])[1], ($2::text[])[1], v.entity, v.cid, v.topic, v.partition::int, v.at::bigint, \
                v.parent_entity, v.parent_cid, a.row_key, \
                clock_timestamp() + v.wait_ms::bigint * interval '1 millisecond', v.reason, v.record, \
                v.letter_key::bytea, v.letter_value::bytea \
            FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], \
                $11::text[], $12::text[], $13::text[], $14::text[]) \
                AS v(entity, cid, topic, partition, at, parent_entity, parent_cid, wait_ms, reason, record, letter_key, \
                    letter_value) \
            LEFT JOIN syncline.applied AS a ON a.pipeline = ($1::text[])[1] \
                AND a.target = split_part(($2::text[])[1], '/', 1) \
                AND a.entity = v.parent_entity AND a.cid = v.parent_cid \
            ON CONFLICT (pipeline, target, entity, cid) DO UPDATE SET topic = EXCLUDED.topic, \
                partition = EXCLUDED.partition, \"offset\" = EXCLUDED.\"offset\", \
                parent_entity = EXCLUDED.parent_entity, parent_cid = EXCLUDED.parent_cid, \
                parent_row = EXCLUDED.parent_row, tried = clock_timestamp(), \
                until = CASE WHEN EXCLUDED.until IS NULL THEN NULL ELSE coalesce(w.until, EXCLUDED.until) END, \
                reason = EXCLUDED.reason, record = EXCLUDED.record, letter_key = EXCLUDED.letter_key, \
                letter_value = EXCLUDED.letter_value";
        session
            .execute(&self.lane_statement(sql, arrays(waits)))
            .await
            .map(drop)
    }

    /// Time in which nobody read these partitions is no waiting: what waits begins anew with whoever takes them over.
    pub async fn wait_anew(&self, session: &Session, partitions: &[Partition]) -> Outcome<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        let sql = "UPDATE syncline.waiting AS w SET since = clock_timestamp(), \
                until = clock_timestamp() + (w.until - w.since) \
            FROM unnest($3::text[], $4::text[]) AS k(topic, partition) \
            WHERE w.pipeline = ($1::text[])[1] AND w.target = ($2::text[])[1] AND w.topic = k.topic \
                AND w.partition = k.partition::int AND w.until IS NOT NULL";
        let arrays = super::books::partition_arrays(partitions);
        session.execute(&self.lane_statement(sql, arrays)).await.map(drop)
    }

    /// These keys wait no more.
    pub async fn wait_no_more(&self, session: &Session, keys: &[(String, String)]) -> Outcome<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let sql = "DELETE FROM syncline.waiting AS w USING unnest($3::text[], $4::text[]) AS k(entity, cid) \
            WHERE w.pipeline = ($1::text[])[1] AND w.target = ($2::text[])[1] \
                AND w.entity = k.entity AND w.cid = k.cid";
        let arrays = super::books::key_arrays(keys);
        session.execute(&self.lane_statement(sql, arrays)).await.map(drop)
    }

    /// The latest records of keys of these entities that may have waited long enough: those first whose parent's row has become
    /// known. `at_once`, all of them may.
    pub async fn to_look_at(&self, session: &Session, entities: &[String], at_once: bool) -> Outcome<Vec<Delivery>> {
        let rows_max = match self.lane.is_empty() {
            true => LOOKED_AT_ROWS_MAX,
            false => BESIDE_LOOKED_AT_ROWS_MAX,
        };
        let sql = format!(
            "SELECT w.entity, w.topic, w.partition::text, w.\"offset\"::text, w.record, w.letter_key::text, \
                w.letter_value::text \
            FROM syncline.waiting AS w LEFT JOIN syncline.applied AS a ON a.pipeline = w.pipeline \
                AND a.target = split_part(w.target, '/', 1) AND a.entity = w.parent_entity AND a.cid = w.parent_cid \
            WHERE w.pipeline = ($1::text[])[1] AND w.target = ($2::text[])[1] AND w.entity = ANY ($4::text[]) \
                AND (($3::text[])[1]::boolean OR a.row_key IS DISTINCT FROM w.parent_row OR w.until <= clock_timestamp() \
                    OR w.tried < clock_timestamp() - CASE WHEN w.parent_cid IS NULL THEN interval '2 seconds' \
                        ELSE interval '10 seconds' END) \
            ORDER BY (a.row_key IS DISTINCT FROM w.parent_row) DESC, w.tried LIMIT {rows_max}"
        );
        let arrays = vec![vec![Some(at_once.to_string())], cells(entities)];
        let rows = session.rows(&self.lane_statement(&sql, arrays)).await?;
        Ok(rows.into_iter().filter_map(delivery).collect())
    }

    /// How many of these entities wait, by the entity they wait for; those that wait for children to go under none.
    pub async fn waiting_counts(
        &self,
        session: &Session,
        entities: &[String],
    ) -> Outcome<BTreeMap<(String, String), u64>> {
        let sql = "SELECT w.entity, coalesce(w.parent_entity, ''), count(*)::text FROM syncline.waiting AS w \
            WHERE w.pipeline = ($1::text[])[1] AND w.target = ($2::text[])[1] AND w.entity = ANY ($3::text[]) \
            GROUP BY 1, 2";
        let rows = session.rows(&self.lane_statement(sql, vec![cells(entities)])).await?;
        let counts = rows.into_iter().filter_map(|row| {
            let [entity, parent, count] = <[_; 3]>::try_from(row).ok()?;
            Some(((entity?, parent?), count?.parse().ok()?))
        });
        Ok(counts.collect())
    }
}

fn cells(entities: &[String]) -> Cells {
    entities.iter().cloned().map(Some).collect()
}

fn arrays(waits: &[(&Delivery, Wait)]) -> Vec<Cells> {
    let column = |each: &dyn Fn(&Delivery, &Wait) -> Option<String>| -> Cells {
        waits.iter().map(|(delivery, wait)| each(delivery, wait)).collect()
    };
    let parent = |wait: &Wait| wait.parent.clone().unzip();
    vec![
        column(&|delivery, _| Some(delivery.entity.to_string())),
        column(&|delivery, _| Some(delivery.cid())),
        column(&|delivery, _| Some(delivery.from.topic.to_string())),
        column(&|delivery, _| Some(delivery.from.number.to_string())),
        column(&|delivery, _| Some(delivery.offset.to_string())),
        column(&|_, wait| parent(wait).0),
        column(&|_, wait| parent(wait).1),
        column(&|_, wait| wait.wait_ms.map(|ms| ms.to_string())),
        column(&|_, wait| Some(wait.reason.clone())),
        column(&|delivery, _| match &delivery.content {
            Ok(Some(record)) => serde_json::to_string(record).ok(),
            _ => None,
        }),
        column(&|delivery, _| Some(to_hex(&delivery.key))),
        column(&|delivery, _| Some(to_hex(&delivery.value))),
    ]
}

fn delivery(row: Vec<Option<String>>) -> Option<Delivery> {
    let [entity, topic, partition, offset, record, key, value] = <[_; 7]>::try_from(row).ok()?;
    Some(Delivery {
        from: Partition {
            topic: topic?.into(),
            number: partition?.parse().ok()?,
        },
        offset: offset?.parse().ok()?,
        timestamp_ms: 0,
        entity: Arc::from(entity?),
        key: from_hex(&key?),
        value: from_hex(&value?),
        content: Ok(serde_json::from_str(&record?).ok()?),
    })
}
