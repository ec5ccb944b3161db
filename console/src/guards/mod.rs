//! `syncline guards`: which sources are paused, by what, and who let which go on. No values of records.

use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::Outcome;
use syncline_schemas::codec::Wire;
use syncline_schemas::pause::{PauseRecord, Paused, Pauses, Resumed};
use syncline_schemas::topic;

use crate::answer::{self, Verdict};
use crate::desk::{Asked, Desk};
use crate::paper::Table;
use crate::tail::time_of_us;
use crate::topics;

/// `syncline resume`.
pub mod resume;

/// What `guards` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// The topic of pauses, read.
#[derive(Default)]
pub struct Told {
    /// What holds.
    pub pauses: Pauses,
    /// Who let what go on, in the order of the topic.
    pub resumed: Vec<Resumed>,
}

/// Reads all of it; nothing where no guard has ever been in the file.
pub fn read(desk: &mut Desk) -> Outcome<Told> {
    let topic = topic::pauses(&desk.pipeline.name);
    let mut values = Vec::new();
    topics::each(&desk.bus, &topic, |record| {
        values.extend(record.value);
        Ok(())
    })?;
    let mut told = Told::default();
    for value in values {
        let record = desk.read(&topic, &value, PauseRecord::decode)?;
        if let PauseRecord::Resumed(resumed) = &record {
            told.resumed.push(resumed.clone());
        }
        told.pauses.take(record);
    }
    Ok(told)
}

#[derive(Serialize)]
struct Answer<'a> {
    paused: Vec<Pause<'a>>,
    resumed: Vec<LetGoOn<'a>>,
}

/// A pause that holds.
#[derive(Serialize)]
pub struct Pause<'a> {
    source: &'a str,
    guard: &'a str,
    table: &'a str,
    topic: &'a str,
    partition: i32,
    offset: i64,
    position: String,
    since: String,
    changed: i64,
    rows: i64,
    why: &'a str,
}

#[derive(Serialize)]
struct LetGoOn<'a> {
    source: &'a str,
    at: String,
    by: &'a str,
    why: &'a str,
}

impl<'a> Pause<'a> {
    /// As it is shown.
    pub fn of(paused: &'a Paused) -> Self {
        Self {
            source: &paused.source,
            guard: &paused.guard,
            table: &paused.table,
            topic: &paused.topic,
            partition: paused.partition,
            offset: paused.offset,
            position: paused.position.to_string(),
            since: time_of_us(paused.commit_us),
            changed: paused.changed,
            rows: paused.rows,
            why: &paused.why,
        }
    }
}

/// Looks and tells.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let told = read(&mut Desk::open(&args.asked.pipeline)?)?;
    let resumed = told.resumed.iter().map(|resumed| LetGoOn {
        source: &resumed.source,
        at: time_of_us(resumed.at_us),
        by: &resumed.by,
        why: &resumed.why,
    });
    let answer = Answer {
        paused: told.pauses.holding().iter().map(Pause::of).collect(),
        resumed: resumed.collect(),
    };
    answer::give(args.asked.json, &answer, || text(&answer))?;
    Ok(Verdict::act_if(!answer.paused.is_empty()).into())
}

fn text(answer: &Answer<'_>) -> String {
    let history = let_go_on(&answer.resumed);
    if answer.paused.is_empty() {
        return format!("nothing is paused\n{history}");
    }
    format!(
        "{}to let one go on: syncline resume --source SOURCE --by NAME --why TEXT\n{history}",
        paused(&answer.paused)
    )
}

/// The pauses as a table: a line for each partition that found something.
pub fn paused(pauses: &[Pause<'_>]) -> String {
    let mut table = Table::new([
        "SOURCE",
        "GUARD",
        "TABLE",
        "PARTITION",
        "CHANGED",
        "ROWS",
        "SINCE",
        "POSITION",
        "WHY",
    ]);
    for pause in pauses {
        table.row([
            pause.source,
            pause.guard,
            pause.table,
            &pause.partition.to_string(),
            &pause.changed.to_string(),
            &pause.rows.to_string(),
            &pause.since,
            &pause.position,
            pause.why,
        ]);
    }
    table.render()
}

fn let_go_on(resumed: &[LetGoOn<'_>]) -> String {
    let mut table = Table::new(["LET GO ON", "AT", "BY", "WHY"]);
    for one in resumed {
        table.row([one.source, &one.at, one.by, one.why]);
    }
    match resumed.is_empty() {
        true => String::new(),
        false => format!("\n{}", table.render()),
    }
}
