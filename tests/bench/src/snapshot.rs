//! A table read for the first time, by one connection and by two. The limit: as many `COPY` to nowhere at once, each of its
//! part of the table's pages.

use std::fmt;
use std::process::Command;

use syncline_tests::Db;

use crate::capture::{alone, prefix, to_kafka, tool};
use crate::contender::{Contender, SLOT, Task};
use crate::result::Run;
use crate::session::Session;
use crate::slot;
use crate::work::{self, MARKER, PUBLICATION, TABLE, Written};

const READERS: [u32; 2] = [1, 2];

/// Who reads the table.
enum Reader {
    Copy,
    Program(Contender),
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reader::Copy => f.write_str("COPY to nowhere"),
            Reader::Program(who) => fmt::Display::fmt(who, f),
        }
    }
}

/// Runs all that are asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    let wanted = READERS.map(|readers| (format!("snapshot/{readers}"), readers));
    let wanted: Vec<_> = wanted.iter().filter(|(case, _)| session.plan.wants(case)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    session.case("snapshot", || {
        let (db, rows) = (session.bed.source_db()?, session.plan.rows);
        db.exec(&format!("TRUNCATE {TABLE}"))?;
        db.exec(&work::fill(rows))?;
        db.exec(&format!("VACUUM FREEZE ANALYZE {TABLE}"))?;
        let mut contenders = vec![Reader::Copy];
        contenders.extend(Contender::all(session.plan).into_iter().map(Reader::Program));
        for (case, readers) in wanted {
            session.in_turn(case, &contenders, |reader| match reader {
                Reader::Program(who) => read(session, &db, case, *who, *readers),
                Reader::Copy => copy(session, &db, *readers),
            })?;
        }
        Ok(())
    })
}

fn read(session: &Session<'_>, db: &Db, case: &str, who: Contender, readers: u32) -> anyhow::Result<Run> {
    slot::drop(db, SLOT)?;
    db.exec(&format!("TRUNCATE {MARKER}"))?;
    let task = Task {
        snapshot_readers: Some(readers),
        ..Task::log(&prefix(case, &who.to_string()))
    };
    // There is no log before it; what is read is the table.
    let rows = session.plan.rows;
    let table = Written {
        slot: SLOT.to_owned(),
        publication: PUBLICATION.to_owned(),
        tables: vec![TABLE.to_owned(), MARKER.to_owned()],
        end: String::new(),
        rows,
        records: rows,
    };
    let run = to_kafka(session.bed, db, &task, who, &table)?;
    slot::drop(db, SLOT)?;
    Ok(run)
}

fn copy(session: &Session<'_>, db: &Db, readers: u32) -> anyhow::Result<Run> {
    let pages = db.number(&format!(
        "SELECT pg_relation_size('{TABLE}') / current_setting('block_size')::int"
    ))?;
    let psql = tool("psql")?;
    let commands = (0..i64::from(readers)).map(|part| {
        let mut command = Command::new(&psql);
        let statement = statement(pages, part, i64::from(readers));
        command.args(["-X", "-q", &session.bed.source.dsn("postgres"), "-c", &statement]);
        command
    });
    alone(db, commands.collect(), session.plan.rows)
}

/// One of several statements that read the table between them.
fn statement(pages: i64, part: i64, parts: i64) -> String {
    if parts == 1 {
        return format!("COPY {TABLE} TO STDOUT (FORMAT binary)");
    }
    let from = pages * part / parts;
    let below = match part + 1 < parts {
        true => format!(" AND ctid < '({},0)'", pages * (part + 1) / parts),
        false => String::new(),
    };
    format!("COPY (SELECT * FROM {TABLE} WHERE ctid >= '({from},0)'{below}) TO STDOUT (FORMAT binary)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_table_meet_and_do_not_overlap() {
        assert!(statement(11, 0, 2).contains("ctid >= '(0,0)' AND ctid < '(5,0)'"));
        assert!(statement(11, 1, 2).contains("ctid >= '(5,0)')"));
        assert!(!statement(11, 0, 1).contains("ctid"));
    }
}
