//! Which lanes a partition has, as its offset rows say, and the runs of lanes that are written at set times.
//!
//! The hard point is a file that divides the fields of a link otherwise than the one before: live becomes a batch, a field
//! becomes live. One lane of all fields stays one lane, whenever it is written, so nothing happens. Else the partition has
//! offset rows of other lanes than the file has, which whoever comes first sees, under their locks: then every lane begins
//! where the last of those before it stood, and each claim on them ends. Nothing is left out, for no field was further; and
//! what comes a second time is recognised by the books of its entity, as in any replay. A key that is parked stands before
//! all of that: whichever lane parked it, from then on every lane has it, since any of them may have its fields now.
//! So it is with keys that wait for another row; whichever lane has nothing to do for them finds that out when it looks at them.

use std::collections::{BTreeMap, BTreeSet};

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::schedule::{Schedule, Timestamp};

use super::books::{Owner, partition_arrays};
use super::session::{Session, TextRow};
use super::statement::Cells;
use crate::due::{LastRun, Step, step};
use crate::lane::Lane;
use crate::target::Partition;

/// The names of the lanes of a partition.
pub type Lanes = BTreeSet<String>;

/// A run of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// When it was opened.
    pub opened: Timestamp,
    /// Up to where it goes, of each partition in which it is not done.
    pub ends: BTreeMap<Partition, i64>,
}

/// What a lane does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This run, which is open.
    Work(Run),
    /// Nothing until then; none if never.
    Wait(Option<Timestamp>),
}

/// What is asked about a lane.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where its topic ends.
    pub ends: &'a BTreeMap<Partition, i64>,
    /// When it is written.
    pub schedule: &'a Schedule,
    /// What time it is.
    pub now: Timestamp,
    /// Whether to open a run whatever the schedule says.
    pub flush: bool,
}

/// The offset rows of partitions, by the names of their lanes.
type Rows = BTreeMap<Partition, BTreeMap<String, i64>>;

const OF_TARGET: &str = "FROM syncline.offsets AS o JOIN unnest($3::text[], $4::text[]) AS k(topic, partition) \
        ON o.topic = k.topic AND o.partition = k.partition::int \
    WHERE o.pipeline = ($1::text[])[1] AND split_part(o.target, '/', 1) = ($2::text[])[1]";

impl Owner {
    /// Makes sure that partitions have offset rows of exactly these lanes.
    pub async fn arrange(&self, session: &Session, wanted: &BTreeMap<Partition, Lanes>) -> Outcome<()> {
        let partitions: Vec<Partition> = wanted.keys().cloned().collect();
        let arrays = || partition_arrays(&partitions);
        let lock = format!("SELECT o.target {OF_TARGET} ORDER BY o.topic, o.partition, o.target FOR UPDATE OF o");
        session.rows(&self.statement(&lock, arrays())).await?;
        // Whoever had those locks may have made rows that the statement which waited for them does not see.
        let read = format!("SELECT o.target, o.topic, o.partition::text, o.next_offset::text {OF_TARGET}");
        let found = self.rows_of(session.rows(&self.statement(&read, arrays())).await?)?;
        let (mut kept, mut gone, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let (mut main, mut beside) = (Vec::new(), Vec::new());
        for (partition, wanted) in wanted {
            let none = BTreeMap::new();
            let there = found.get(partition).unwrap_or(&none);
            if there.keys().eq(wanted) || (there.is_empty() && wanted.len() == 1) {
                continue;
            }
            let first = there.values().min().copied().unwrap_or(0);
            let place = |lane: &String| (self.place_of(lane), partition.clone(), first);
            kept.extend(there.keys().filter(|lane| wanted.contains(*lane)).map(place));
            gone.extend(there.keys().filter(|lane| !wanted.contains(*lane)).map(place));
            missing.extend(wanted.iter().filter(|lane| !there.contains_key(*lane)).map(place));
            main.extend(wanted.iter().filter(|lane| lane.is_empty()).map(place));
            beside.extend(wanted.iter().filter(|lane| !lane.is_empty()).map(place));
        }
        if kept.is_empty() && gone.is_empty() && missing.is_empty() {
            return Ok(());
        }
        tracing::info!(
            target_name = self.target,
            "the lanes of a link are others: each begins where the last of them stood"
        );
        self.make(session, &missing).await?;
        self.put_back(session, &kept).await?;
        self.share_parked(session, &beside).await?;
        self.share_waiting(session, &[kept, missing].concat()).await?;
        self.end(session, &gone).await?;
        self.share_parked(session, &main).await
    }

    /// These lanes have all keys that are parked in their partitions. The dead letters stay with who refused them.
    async fn share_parked(&self, session: &Session, lanes: &[Place]) -> Outcome<()> {
        let sql = "INSERT INTO syncline.parked (pipeline, target, entity, cid, topic, partition, \"offset\", refused_offset, \
                row_known, reason, at) \
            SELECT DISTINCT ON (v.target, p.entity, p.cid) p.pipeline, v.target, p.entity, p.cid, p.topic, p.partition, \
                p.\"offset\", p.refused_offset, p.row_known, p.reason, p.at \
            FROM syncline.parked AS p JOIN unnest($3::text[], $4::text[], $5::text[]) AS v(topic, partition, target) \
                ON p.topic = v.topic AND p.partition = v.partition::int \
            WHERE p.pipeline = ($1::text[])[1] AND split_part(p.target, '/', 1) = ($2::text[])[1] \
            ORDER BY v.target, p.entity, p.cid, p.\"offset\" DESC \
            ON CONFLICT (pipeline, target, entity, cid) DO NOTHING";
        self.share(session, sql, lanes).await
    }

    /// What waits in any lane of these partitions waits in all of these lanes: the last record of each key. A lane that has one
    /// keeps it, since what is later than that comes to it again.
    async fn share_waiting(&self, session: &Session, lanes: &[Place]) -> Outcome<()> {
        let sql = "INSERT INTO syncline.waiting (pipeline, target, entity, cid, topic, partition, \"offset\", \
                parent_entity, parent_cid, parent_row, since, tried, until, reason, record, letter_key, letter_value) \
            SELECT DISTINCT ON (w.entity, w.cid, v.target) w.pipeline, v.target, w.entity, w.cid, w.topic, w.partition, \
                w.\"offset\", w.parent_entity, w.parent_cid, w.parent_row, w.since, w.tried, w.until, w.reason, w.record, \
                w.letter_key, w.letter_value \
            FROM syncline.waiting AS w JOIN unnest($3::text[], $4::text[], $5::text[]) AS v(topic, partition, target) \
                ON w.topic = v.topic AND w.partition = v.partition::int \
            WHERE w.pipeline = ($1::text[])[1] AND split_part(w.target, '/', 1) = ($2::text[])[1] \
            ORDER BY w.entity, w.cid, v.target, w.\"offset\" DESC \
            ON CONFLICT (pipeline, target, entity, cid) DO NOTHING";
        self.share(session, sql, lanes).await
    }

    async fn share(&self, session: &Session, sql: &str, lanes: &[Place]) -> Outcome<()> {
        if lanes.is_empty() {
            return Ok(());
        }
        let mut arrays = arrays_of(lanes);
        arrays.truncate(3);
        session.execute(&self.statement(sql, arrays)).await.map(drop)
    }

    fn place_of(&self, lane: &str) -> String {
        Lane::place(&self.target, lane)
    }

    /// Offset rows by the lanes of this target; the name of its main lane is empty.
    fn rows_of(&self, rows: Vec<TextRow>) -> Outcome<Rows> {
        let mut found = Rows::new();
        for row in rows {
            let [place, topic, number, next] = <[_; 4]>::try_from(row).map_err(|_| unreadable())?;
            let place = place.ok_or_else(unreadable)?;
            let lane = place
                .strip_prefix(&self.target)
                .map(|rest| rest.trim_start_matches('/'));
            let partition = partition(topic, number)?;
            let next = next.and_then(|next| next.parse().ok()).ok_or_else(unreadable)?;
            let lane = lane.ok_or_else(unreadable)?.to_owned();
            found.entry(partition).or_default().insert(lane, next);
        }
        Ok(found)
    }

    async fn make(&self, session: &Session, missing: &[Place]) -> Outcome<()> {
        let sql = "INSERT INTO syncline.offsets (pipeline, target, topic, partition, next_offset, epoch) \
            SELECT ($1::text[])[1], v.target, v.topic, v.partition::int, v.next::bigint, \
                (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
            FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS v(topic, partition, target, next) \
            ORDER BY v.topic, v.partition::int, v.target ON CONFLICT (pipeline, target, topic, partition) DO NOTHING";
        session
            .execute(&self.statement(sql, arrays_of(missing)))
            .await
            .map(drop)
    }

    /// Whoever writes by the division before is fenced off.
    async fn put_back(&self, session: &Session, kept: &[Place]) -> Outcome<()> {
        let sql = "UPDATE syncline.offsets AS o \
            SET next_offset = least(o.next_offset, v.next::bigint), epoch = o.epoch + 1 \
            FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS v(topic, partition, target, next) \
            WHERE o.pipeline = ($1::text[])[1] AND o.target = v.target AND o.topic = v.topic \
                AND o.partition = v.partition::int";
        session.execute(&self.statement(sql, arrays_of(kept))).await.map(drop)
    }

    async fn end(&self, session: &Session, gone: &[Place]) -> Outcome<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let of_gone = |table: &str| {
            format!(
                "syncline.{table} AS o USING unnest($3::text[], $4::text[], $5::text[]) AS v(topic, partition, target) \
                WHERE o.pipeline = ($1::text[])[1] AND o.target = v.target AND o.topic = v.topic \
                    AND o.partition = v.partition::int"
            )
        };
        let arrays = || {
            let mut arrays = arrays_of(gone);
            arrays.truncate(3);
            arrays
        };
        let handed = format!(
            "WITH gone AS (DELETE FROM {} RETURNING o.*) \
            INSERT INTO syncline.parked (pipeline, target, entity, cid, topic, partition, \"offset\", refused_offset, \
                row_known, reason, at, letter_key, letter_value) \
            SELECT DISTINCT ON (g.entity, g.cid) g.pipeline, ($2::text[])[1], g.entity, g.cid, g.topic, g.partition, \
                g.\"offset\", g.refused_offset, g.row_known, g.reason, g.at, g.letter_key, g.letter_value FROM gone AS g \
            ORDER BY g.entity, g.cid, g.\"offset\" DESC \
            ON CONFLICT (pipeline, target, entity, cid) DO NOTHING",
            of_gone("parked")
        );
        session.execute(&self.statement(&handed, arrays())).await?;
        for table in ["waiting", "runs", "offsets"] {
            let sql = format!("DELETE FROM {}", of_gone(table));
            session.execute(&self.statement(&sql, arrays())).await?;
        }
        Ok(())
    }

    /// What the lane does now, and how many offsets it is behind; a run that is due is opened.
    pub async fn next_run(&self, session: &Session, asked: &Asked<'_>) -> Outcome<(Next, i64)> {
        let partitions: Vec<Partition> = asked.ends.keys().cloned().collect();
        self.note_schedule(session, asked, &partitions).await?;
        let runs = self.runs(session, &partitions).await?;
        let behind = self.behind(session, asked.ends, &partitions).await?;
        let last: Vec<LastRun> = runs.iter().map(|(_, last, _)| *last).collect();
        let next = match step(&last, asked.schedule, asked.now, asked.flush) {
            Step::Wait(until) => Next::Wait(until),
            Step::Open => {
                self.open(session, asked).await?;
                Next::Work(Run {
                    opened: asked.now,
                    ends: asked.ends.clone(),
                })
            }
            Step::Resume => {
                let open = || runs.iter().filter(|(_, last, _)| !last.done);
                // A topic that was made anew may end before what it ended at.
                let end = |(partition, _, until): &(Partition, LastRun, i64)| {
                    let now = asked.ends.get(partition).copied().unwrap_or(0);
                    (partition.clone(), now.min(*until))
                };
                Next::Work(Run {
                    opened: open().map(|(_, last, _)| last.opened).min().unwrap_or(asked.now),
                    ends: open().map(end).collect(),
                })
            }
        };
        Ok((next, behind))
    }

    /// A schedule counts from when it is first seen: what was due by another one does not come now.
    async fn note_schedule(&self, session: &Session, asked: &Asked<'_>, partitions: &[Partition]) -> Outcome<()> {
        let sql = "INSERT INTO syncline.runs AS r (pipeline, target, topic, partition, schedule, opened, until_offset, done) \
            SELECT ($1::text[])[1], ($2::text[])[1], v.topic, v.partition::int, ($5::text[])[1], \
                ($6::text[])[1]::timestamptz, 0, true \
            FROM unnest($3::text[], $4::text[]) AS v(topic, partition) ORDER BY v.topic, v.partition::int \
            ON CONFLICT (pipeline, target, topic, partition) \
            DO UPDATE SET schedule = EXCLUDED.schedule, opened = EXCLUDED.opened \
            WHERE r.done AND r.schedule <> EXCLUDED.schedule";
        let mut arrays = partition_arrays(partitions);
        arrays.push(vec![Some(asked.schedule.to_string())]);
        arrays.push(vec![Some(asked.now.to_string())]);
        session.execute(&self.lane_statement(sql, arrays)).await.map(drop)
    }

    /// The last run of each partition, and up to where it goes; locked.
    async fn runs(&self, session: &Session, partitions: &[Partition]) -> Outcome<Vec<(Partition, LastRun, i64)>> {
        let sql = "SELECT r.topic, r.partition::text, \
                to_char(r.opened AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), r.until_offset::text, r.done::text \
            FROM syncline.runs AS r JOIN unnest($3::text[], $4::text[]) AS k(topic, partition) \
                ON r.topic = k.topic AND r.partition = k.partition::int \
            WHERE r.pipeline = ($1::text[])[1] AND r.target = ($2::text[])[1] \
            ORDER BY r.topic, r.partition FOR UPDATE OF r";
        let rows = session
            .rows(&self.lane_statement(sql, partition_arrays(partitions)))
            .await?;
        rows.into_iter().map(last_run).collect()
    }

    async fn open(&self, session: &Session, asked: &Asked<'_>) -> Outcome<()> {
        let sql = "UPDATE syncline.runs AS r \
            SET opened = ($6::text[])[1]::timestamptz, until_offset = v.until::bigint, done = false \
            FROM unnest($3::text[], $4::text[], $5::text[]) AS v(topic, partition, until) \
            WHERE r.pipeline = ($1::text[])[1] AND r.target = ($2::text[])[1] AND r.topic = v.topic \
                AND r.partition = v.partition::int";
        let partitions: Vec<Partition> = asked.ends.keys().cloned().collect();
        let mut arrays = partition_arrays(&partitions);
        arrays.push(asked.ends.values().map(|end| Some(end.to_string())).collect());
        arrays.push(vec![Some(asked.now.to_string())]);
        session.execute(&self.lane_statement(sql, arrays)).await.map(drop)
    }

    /// A run is done in these partitions: all that it goes to has been applied, which is up to these offsets. It is not where
    /// the target says less than that: it went back meanwhile, and the run is still to be finished. Says in how many it is done.
    pub async fn finish(&self, session: &Session, run: &Run, applied: &BTreeMap<Partition, i64>) -> Outcome<u64> {
        let sql = "UPDATE syncline.runs AS r SET done = true \
            FROM unnest($3::text[], $4::text[], $5::text[]) AS v(topic, partition, applied) \
            JOIN syncline.offsets AS o ON o.topic = v.topic AND o.partition = v.partition::int \
            WHERE r.pipeline = ($1::text[])[1] AND r.target = ($2::text[])[1] AND r.topic = v.topic \
                AND r.partition = v.partition::int AND r.opened = ($6::text[])[1]::timestamptz \
                AND o.pipeline = r.pipeline AND o.target = r.target AND o.next_offset >= v.applied::bigint";
        let partitions: Vec<Partition> = applied.keys().cloned().collect();
        let mut arrays = partition_arrays(&partitions);
        arrays.push(applied.values().map(|next| Some(next.to_string())).collect());
        arrays.push(vec![Some(run.opened.to_string())]);
        session.execute(&self.lane_statement(sql, arrays)).await
    }

    /// Forgets the runs of a lane that is live: should it be a batch again, its schedule counts from then on.
    pub async fn forget_runs(&self, session: &Session, partitions: &[Partition]) -> Outcome<()> {
        let sql = "DELETE FROM syncline.runs AS r USING unnest($3::text[], $4::text[]) AS v(topic, partition) \
            WHERE r.pipeline = ($1::text[])[1] AND r.target = ($2::text[])[1] AND r.topic = v.topic \
                AND r.partition = v.partition::int";
        session
            .execute(&self.lane_statement(sql, partition_arrays(partitions)))
            .await
            .map(drop)
    }

    /// How many offsets the lane has before it.
    async fn behind(
        &self,
        session: &Session,
        ends: &BTreeMap<Partition, i64>,
        partitions: &[Partition],
    ) -> Outcome<i64> {
        let sql = format!(
            "SELECT o.topic, o.partition::text, o.next_offset::text {OF_TARGET} AND o.target = ($5::text[])[1]"
        );
        let mut arrays = partition_arrays(partitions);
        arrays.push(vec![Some(self.place_of(&self.lane))]);
        let mut applied = BTreeMap::new();
        for row in session.rows(&self.statement(&sql, arrays)).await? {
            let [topic, number, next] = <[_; 3]>::try_from(row).map_err(|_| unreadable())?;
            let next: i64 = next.and_then(|next| next.parse().ok()).ok_or_else(unreadable)?;
            applied.insert(partition(topic, number)?, next);
        }
        let left = ends
            .iter()
            .map(|(partition, end)| (end - applied.get(partition).copied().unwrap_or(0)).max(0));
        Ok(left.sum())
    }

    /// The names of the lanes that have parked keys.
    pub async fn parked_lanes(&self, session: &Session) -> Outcome<Lanes> {
        let sql = "SELECT DISTINCT p.target FROM syncline.parked AS p \
            WHERE p.pipeline = ($1::text[])[1] AND split_part(p.target, '/', 1) = ($2::text[])[1]";
        let rows = session.rows(&self.statement(sql, Vec::new())).await?;
        let lane = |row: TextRow| {
            let place = row.into_iter().next().flatten()?;
            Some(
                place
                    .split_once('/')
                    .map(|(_, lane)| lane.to_owned())
                    .unwrap_or_default(),
            )
        };
        Ok(rows.into_iter().filter_map(lane).collect())
    }
}

/// The place of a lane in the books, a partition, and where the lane goes on there.
type Place = (String, Partition, i64);

/// Topics, partitions, places, offsets.
fn arrays_of(places: &[Place]) -> Vec<Cells> {
    let partitions: Vec<Partition> = places.iter().map(|(_, partition, _)| partition.clone()).collect();
    let mut arrays = partition_arrays(&partitions);
    arrays.push(places.iter().map(|(place, _, _)| Some(place.clone())).collect());
    arrays.push(places.iter().map(|(_, _, next)| Some(next.to_string())).collect());
    arrays
}

fn partition(topic: Option<String>, number: Option<String>) -> Outcome<Partition> {
    Ok(Partition {
        topic: topic.ok_or_else(unreadable)?.into(),
        number: number.and_then(|number| number.parse().ok()).ok_or_else(unreadable)?,
    })
}

fn last_run(row: TextRow) -> Outcome<(Partition, LastRun, i64)> {
    let [topic, number, opened, until, done] = <[_; 5]>::try_from(row).map_err(|_| unreadable())?;
    let opened = opened.and_then(|opened| opened.parse().ok()).ok_or_else(unreadable)?;
    let until = until.and_then(|until| until.parse().ok()).ok_or_else(unreadable)?;
    let last = LastRun {
        opened,
        done: done.as_deref() == Some("true"),
    };
    Ok((partition(topic, number)?, last, until))
}

fn unreadable() -> Failure {
    Failure::definite(
        "BOOKS_UNREADABLE",
        "syncline.offsets or syncline.runs holds what this version cannot read",
    )
    .hint("was a newer version of syncline-sink at work here?")
}
