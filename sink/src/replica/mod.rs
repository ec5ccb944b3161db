//! A replica: tables of one system kept identical in another, straight from the capture topics.
//!
//! There is nothing to agree on, so there is no plan and no mark: the last change of each row holds, by its position in the
//! source's log, and that position is kept with the row ([`fence`]). So a replay changes nothing and an older row never
//! overwrites a newer one, not even after a delete. The copy belongs to the source: a row that the copy refuses is a fault that a person
//! must see, and stops it.

use std::collections::BTreeMap;

use futures_util::future::join;
use syncline_runtime::{Class, Failure, Outcome, failpoint};
use syncline_schemas::pipeline::Secret;

use crate::plan::Verdict;
use crate::postgres::books::{Offset, Owner};
use crate::postgres::catalog::{self, Table};
use crate::postgres::connection::Connection;
use crate::postgres::offsets;
use crate::postgres::session::Session;
use crate::target::{DeadLetter, Delivery, Partition, Report, Target, Tended};

use change::{Change, Step, steps};
pub use define::Wanted;
use rows::Writer;

/// What a batch comes down to. Pure.
pub mod change;

/// A row: its columns, and what they hold. Pure.
pub mod image;

/// Capture topics, and the changes in them.
pub mod feed;

/// The table that a copy needs. Pure.
pub mod shape;

/// Makes and extends the tables.
mod define;

/// The positions by which an older change is known.
mod fence;

/// Writes rows.
mod rows;

/// Their SQL. Pure.
mod statements;

/// Rows in PostgreSQL's binary form. Pure.
mod binary;

/// Records of a batch. Large ones cost the database least.
const BATCH_ROWS_MAX: usize = 10_000;

/// The tables that were looked up, by source table.
type Tables = BTreeMap<(String, String), Table>;

/// What was found out of the database.
struct Known {
    tables: Tables,
    /// Whether we may have tables of our own for as long as the connection lasts.
    may_stage: bool,
}

/// A PostgreSQL database with copies.
pub struct ReplicaTarget {
    owner: Owner,
    connection: Connection<Known>,
    claims: BTreeMap<Partition, Offset>,
}

impl ReplicaTarget {
    /// The copies of `pipeline` in the system `target`.
    pub fn new(pipeline: &str, target: &str, dsn: &Secret) -> Outcome<Self> {
        Ok(Self {
            owner: Owner::new(pipeline, target),
            connection: Connection::new(dsn.expose(), target)?,
            claims: BTreeMap::new(),
        })
    }

    /// Connects and makes the tables that are wanted already, so that an empty table has its copy too.
    pub fn prepare(&mut self, wanted: &[Wanted]) -> Outcome<()> {
        self.with(async |session, known, _| define::define(session, &mut known.tables, wanted).await)
    }

    fn with<T>(&mut self, work: impl AsyncFnOnce(&Session, &mut Known, &Owner) -> Outcome<T>) -> Outcome<T> {
        let owner = &self.owner;
        let find_out = async |session: &Session| {
            Ok(Known {
                tables: Tables::new(),
                may_stage: catalog::may_have_temporary_tables(session).await?,
            })
        };
        let work = async |session: &Session, known: &mut Known| work(session, known, owner).await;
        self.connection.with(find_out, work)
    }
}

impl Target for ReplicaTarget {
    type Content = Change;

    const BATCH_ROWS_MAX: usize = BATCH_ROWS_MAX;

    fn claim(&mut self, partitions: &[Partition]) -> Outcome<BTreeMap<Partition, i64>> {
        let claimed = self.with(async |session, _, owner| {
            session.begin().await?;
            let claimed = owner.claim(session, partitions).await?;
            session.control("COMMIT").await?;
            Ok(claimed)
        })?;
        let starts = claimed
            .iter()
            .map(|(partition, offset)| (partition.clone(), offset.next));
        let starts = starts.collect();
        self.claims.extend(claimed);
        Ok(starts)
    }

    fn apply(&mut self, batch: &[Delivery<Change>]) -> Outcome<Report> {
        let claims = std::mem::take(&mut self.claims);
        let applied = self.with(async |session, known, owner| {
            define::for_batch(session, &mut known.tables, batch).await?;
            apply(session, known, owner, &claims, batch).await
        });
        self.claims = claims;
        if applied.is_ok() {
            offsets::note(&mut self.claims, batch);
        }
        applied.map_err(stopped)
    }

    /// A copy waits for nothing.
    fn tend(&mut self, _: bool) -> Outcome<Tended> {
        Ok(Tended::default())
    }

    /// Nothing is set aside.
    fn dead_letters(&mut self, _: &mut dyn FnMut(&[DeadLetter]) -> Outcome<()>) -> Outcome<()> {
        Ok(())
    }
}

/// A refused row would be missing in a copy that calls itself identical.
fn stopped(failure: Failure) -> Failure {
    match failure.class {
        Class::Poison => Failure::definite("REPLICA_REFUSED", format!("the copy refuses a row: {failure}")).hint(
            "remove what is in the way (a constraint, trigger or type of the copy) and start again; nothing is lost",
        ),
        _ => failure,
    }
}

async fn apply(
    session: &Session,
    known: &Known,
    owner: &Owner,
    claims: &BTreeMap<Partition, Offset>,
    batch: &[Delivery<Change>],
) -> Outcome<Report> {
    failpoint::check("sink.before_begin")?;
    // In one round trip. A lock without a transaction, if that could not be begun, is let go at once.
    let (begun, locked) = join(session.begin(), offsets::lock(session, owner, batch)).await;
    begun?;
    let locked = locked?;
    let due = offsets::due(batch, &locked, claims)?;
    let mut report = Report {
        skipped: (batch.len() - due.len()) as u64,
        ..Report::default()
    };
    let mut changes = Vec::with_capacity(due.len());
    for delivery in due {
        changes.extend(said(delivery)?);
    }
    let steps = steps(changes);
    enter(session, owner, &steps).await?;
    for step in &steps {
        let Some(change) = step.changes().first() else {
            continue;
        };
        let (table, topic) = (&*change.table, &*change.topic);
        let writer = Writer::new(session, owner, (known.table(table)?, topic), known.may_stage)?;
        let written = match step {
            Step::Rows(changes) => writer.write(changes).await?,
            Step::Alone(change) => writer.alone(change).await?,
        };
        *report.verdicts.entry(Verdict::Updated).or_default() += written.written;
        *report.verdicts.entry(Verdict::Older).or_default() += written.older;
    }
    failpoint::check("sink.after_apply")?;
    owner.advance(session, &offsets::ends(batch, &locked)).await?;
    failpoint::check("sink.after_offsets")?;
    failpoint::check("sink.before_commit")?;
    offsets::commit(session).await?;
    failpoint::check("sink.after_commit")?;
    Ok(report)
}

/// Enters the copies of a batch, always in one order, or two sinks would wait for each other.
async fn enter(session: &Session, owner: &Owner, steps: &[Step<'_>]) -> Outcome<()> {
    let mut copies: BTreeMap<&str, bool> = BTreeMap::new();
    for step in steps {
        for changes in step.changes().chunk_by(|one, next| one.topic == next.topic) {
            *copies.entry(&changes[0].topic).or_default() |= matches!(step, Step::Alone(_));
        }
    }
    for (topic, is_alone) in copies {
        fence::enter(session, owner, topic, is_alone).await?;
    }
    Ok(())
}

fn said(delivery: &Delivery<Change>) -> Outcome<Option<&Change>> {
    delivery.content.as_ref().map(Option::as_ref).map_err(|reason| {
        let (topic, number, offset) = (&delivery.from.topic, delivery.from.number, delivery.offset);
        Failure::definite("RECORD_UNREADABLE", format!("{topic}[{number}] at {offset}: {reason}"))
    })
}

impl Known {
    fn table(&self, table: &(String, String)) -> Outcome<&Table> {
        self.tables
            .get(table)
            .ok_or_else(|| Failure::transient("TABLE_UNKNOWN", format!("{}.{} is not defined", table.0, table.1)))
    }
}
