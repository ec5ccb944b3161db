//! `syncline replay`: real cases, recorded once, as tests of the rules. `--record` takes one from the topics, `--assert` asks
//! whether the pipeline file still decides all of them as recorded, and needs nobody for that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::Wire;
use syncline_schemas::decision::Decision;
use syncline_schemas::mapped::MappedRecord;
use syncline_schemas::topic;

use crate::answer::{self, Verdict};
use crate::desk::{Asked, Desk, wrong};
use crate::plan::memory::last_tick;
use crate::{paper, topics};

/// Pure: a recorded case.
pub mod fixture;

use fixture::{Decided, Expected, Fixture};

/// A case larger than this is none.
const FIXTURE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What `replay` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which of the two.
    #[command(flatten)]
    pub way: Way,
    /// What the case shows
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub note: String,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// Recording or asserting.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Way {
    /// Recorded cases: files, or directories of .json files
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub assert: Vec<PathBuf>,
    /// Print a case: the entity, and the id of the record
    #[arg(long, value_names = ["ENTITY", "ID"], num_args = 2)]
    pub record: Vec<String>,
}

/// A case and what is not as recorded.
#[derive(Serialize)]
struct Case {
    file: String,
    note: String,
    unlike: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    cases: Vec<Case>,
}

/// Records or asserts.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    if let [entity, cid] = args.way.record.as_slice() {
        let fixture = record(&mut desk, entity, cid, &args.note)?;
        let text = serde_json::to_string_pretty(&fixture).map_err(|error| Failure::definite("OUTPUT", error))?;
        paper::answer(&(text + "\n"))?;
        return Ok(Verdict::Well.into());
    }
    let cases: Vec<Case> = files(&args.way.assert)?
        .iter()
        .map(|file| case(&desk, file))
        .collect::<Outcome<_>>()?;
    let failed = cases.iter().filter(|case| !case.unlike.is_empty()).count();
    let report = Report {
        passed: cases.len() - failed,
        failed,
        cases,
    };
    answer::give(args.asked.json, &report, || report.text())?;
    Ok(Verdict::act_if(failed > 0).into())
}

fn record(desk: &mut Desk, entity: &str, cid: &str, note: &str) -> Outcome<Fixture> {
    let entity = desk.entity(entity)?.clone();
    let mut fixture = Fixture {
        note: note.to_owned(),
        entity: entity.name.clone(),
        cid: cid.to_owned(),
        said: Vec::new(),
        decisions: Vec::new(),
        time_us: last_tick(desk, &entity.name)?,
        expect: Expected::default(),
    };
    let bus = desk.bus.clone();
    let mapped = topic::mapped(&desk.pipeline.name, &entity.name);
    let (mut into, mut parts) = (None, BTreeSet::new());
    topics::each_of(&bus, &mapped, cid, |record| {
        let Some(value) = record.value else { return Ok(()) };
        match desk.read(&mapped, &value, MappedRecord::decode)? {
            MappedRecord::Said(said) => fixture.said.push(said),
            MappedRecord::Moved { to, .. } => into = to,
            MappedRecord::Part { of, state, .. } => match state {
                Some(_) => _ = parts.insert(of),
                None => _ = parts.remove(&of),
            },
            MappedRecord::Loaded { .. } | MappedRecord::Sighted { .. } | MappedRecord::Matched { .. } => {}
        }
        Ok(())
    })?;
    if let Some(other) = into.or_else(|| parts.pop_first()) {
        return Err(
            wrong(format!("{cid} and {other} are one, and a recorded case has one record")).hint(format!(
                "take one that is alone, or split them: syncline match split {} ID",
                entity.name
            )),
        );
    }
    let decisions = topic::decisions(&desk.pipeline.name, &entity.name);
    topics::each_of(&bus, &decisions, cid, |record| {
        let Some(value) = record.value else { return Ok(()) };
        fixture.decisions.push(Decided {
            offset: record.offset,
            decision: desk.read(&decisions, &value, Decision::decode)?,
        });
        Ok(())
    })?;
    if fixture.said.is_empty() {
        return Err(wrong(format!("no app ever said anything of {} {cid}", entity.name)));
    }
    let authority: Vec<String> = desk.pipeline.authority().map(str::to_owned).collect();
    fixture.expect = fixture.outcome(&entity, &authority);
    Ok(fixture)
}

/// The files, those of directories in the order of their names.
fn files(paths: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, error))?;
        let entries = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut those: Vec<PathBuf> = entries
            .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
            .collect();
        those.sort();
        files.extend(those);
    }
    if files.is_empty() {
        return Err(wrong("there is no .json file there"));
    }
    Ok(files)
}

fn case(desk: &Desk, file: &Path) -> Outcome<Case> {
    let size = std::fs::metadata(file).map_err(|error| unreadable(file, error))?.len();
    if size > FIXTURE_BYTES_MAX {
        return Err(unreadable(file, format!("larger than {FIXTURE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
    let fixture: Fixture = serde_json::from_str(&text).map_err(|error| unreadable(file, error))?;
    let entity = desk.entity(&fixture.entity)?;
    let authority: Vec<String> = desk.pipeline.authority().map(str::to_owned).collect();
    Ok(Case {
        file: file.display().to_string(),
        unlike: fixture.expect.unlike(&fixture.outcome(entity, &authority)),
        note: fixture.note,
    })
}

fn unreadable(file: &Path, why: impl std::fmt::Display) -> Failure {
    wrong(format!("{} is no recorded case: {why}", file.display()))
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        for case in self.cases.iter().filter(|case| !case.unlike.is_empty()) {
            text += &format!("{}  {}\n", case.file, case.note);
            text.extend(case.unlike.iter().map(|line| format!("  {line}\n")));
        }
        text + &format!("{} as recorded, {} not\n", self.passed, self.failed)
    }
}
