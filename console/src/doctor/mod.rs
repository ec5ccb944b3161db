//! `syncline doctor`: looks at everything that a pipeline file names as its processes would see it, and says what would
//! stop a run, what would hurt, and what is worth knowing.
//!
//! Two halves that meet in plain data: adapters gather facts and judge nothing, judges turn facts into findings and ask
//! nobody. So each rule is tested without a server, and what a rule costs the server is seen in one place.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use syncline_bus::Registry;
use syncline_capture::config::{self, SourceConfig};
use syncline_runtime::process::ARGUMENTS_INVALID;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::pipeline::{Link, Pipeline};

/// What is wrong, why it matters, and what mends it.
pub mod finding;

/// What was found, as plain data.
pub mod facts;

/// A database that is read.
pub mod source;

/// A database that is written.
pub mod target;

/// Kafka and the registry.
pub mod bus;

/// The schemas of entities.
pub mod entities;

/// Pure: facts to findings.
pub mod judge;

/// Pure: what each table allows.
pub mod modes;

/// Pure: what the roles need, as SQL.
pub mod grants;

/// What is said in the end.
pub mod report;

use facts::{Source, Target};
use finding::Finding;
use judge::Findings;
use report::Report;

use crate::desk;

/// The command line of `syncline doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The pipeline file
    #[arg(long, value_name = "FILE", env = "SYNCLINE_PIPELINE")]
    pub pipeline: PathBuf,
    /// Look only at this system of the pipeline file
    #[arg(long, value_name = "NAME")]
    pub system: Option<String>,
    /// Print the rights that the roles need, as SQL, instead of the findings
    #[arg(long)]
    pub grants: bool,
    /// Answer with one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Examines; the exit code is 1 if something would stop a run.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    // Two providers in one program would make rustls panic at the first connection; an Err means it is installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let pipeline = desk::load(&args.pipeline)?;
    let examined = examine(&pipeline, args)?;
    let report = examined.report(&pipeline, args.grants);
    let text = if args.json { report.json()? } else { report.text() };
    crate::paper::answer(&text)?;
    Ok(if report.stops() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

/// Everything that was found out.
struct Examined {
    sources: Vec<Source>,
    targets: Vec<Target>,
    bus: facts::Bus,
    /// What could not be asked.
    unasked: Vec<Finding>,
}

fn examine(pipeline: &Pipeline, args: &Args) -> Outcome<Examined> {
    known(pipeline, args)?;
    let registry = Registry::new(pipeline.registry.clone());
    // Once, and first: one that is away is waited for a while, and not for each table.
    let level = registry.compatibility("syncline-doctor");
    let answering = level.is_ok().then_some(&registry);
    let mut unasked = Vec::new();
    let mut sources = Vec::new();
    for config in sources_of(pipeline, args)? {
        let source = answered(&config.name, source::gather(&config, answering), &mut unasked);
        sources.push((config, source));
    }
    if let Some(asked) = answering
        && let Some(found) = answered("registry", entities::judge(pipeline, asked), &mut unasked)
    {
        unasked.extend(found);
    }
    let bus = bus::gather(pipeline, &sources, level);
    for (config, source) in &mut sources {
        let Some(source) = source.as_mut().filter(|source| may_be_refused(config, source, &bus)) else {
            continue;
        };
        let refused = source::refusal(config, &registry, source);
        source.refused = answered(&config.name, refused, &mut unasked).flatten();
    }
    let written = written(pipeline, args);
    let targets = written.iter().filter_map(|name| {
        let links: Vec<&Link> = pipeline
            .links
            .iter()
            .filter(|link| link.system == *name && link.writes())
            .collect();
        let dsn = pipeline.system(name)?.postgres.as_ref()?;
        answered(name, target::gather(name, dsn, &links), &mut unasked)
    });
    Ok(Examined {
        targets: targets.collect(),
        sources: sources.into_iter().filter_map(|(_, source)| source).collect(),
        bus,
        unasked,
    })
}

fn known(pipeline: &Pipeline, args: &Args) -> Outcome<()> {
    let Some(name) = args.system.as_ref().filter(|name| pipeline.system(name).is_none()) else {
        return Ok(());
    };
    let names: Vec<&str> = pipeline.systems.iter().map(|system| system.name.as_str()).collect();
    Err(
        Failure::definite(ARGUMENTS_INVALID, format!("the pipeline file has no system {name:?}"))
            .hint(format!("it has {}", names.join(", "))),
    )
}

/// What capture itself would work with.
fn sources_of(pipeline: &Pipeline, args: &Args) -> Outcome<Vec<SourceConfig>> {
    let line = [
        "syncline-capture".into(),
        "--pipeline".into(),
        args.pipeline.clone().into_os_string(),
    ];
    let line = config::Args::try_parse_from(line).map_err(|error| Failure::definite(ARGUMENTS_INVALID, error))?;
    let mut sources = match config::sources(pipeline, &line) {
        // A pipeline that reads nothing itself, Debezium's topics say, is a pipeline too.
        Err(failure) if failure.code == ARGUMENTS_INVALID => return Ok(Vec::new()),
        sources => sources?,
    };
    // A system with several slots is a source for each: `system/group`.
    let system_of = |source: &SourceConfig| source.name.split('/').next().map(str::to_owned);
    sources.retain(|source| args.system.is_none() || args.system == system_of(source));
    Ok(sources)
}

fn written(pipeline: &Pipeline, args: &Args) -> BTreeSet<String> {
    let links = pipeline
        .links
        .iter()
        .filter(|link| link.writes())
        .map(|link| &link.system);
    let targets = links.filter(|name| args.system.as_ref().is_none_or(|only| only == *name));
    targets.cloned().collect()
}

/// Only what has progress, and a role that may ask for it, can be compared with its slot.
fn may_be_refused(config: &SourceConfig, source: &Source, bus: &facts::Bus) -> bool {
    let progress = syncline_schemas::topic::progress(&config.prefix);
    let there = bus
        .cluster
        .as_ref()
        .is_ok_and(|survey| survey.topics.contains_key(&progress));
    there && (source.role.replication || source.role.superuser)
}

/// An answer; a failure becomes a finding of that system, and the others are still asked.
fn answered<T>(place: &str, answer: Outcome<T>, unasked: &mut Vec<Finding>) -> Option<T> {
    let failure = match answer {
        Ok(answer) => return Some(answer),
        Err(failure) => failure,
    };
    let mut findings = Findings::at(place);
    let why = "what cannot be asked now cannot be read or written in a run either";
    findings.stops(failure.code, failure.to_string(), why, failure.hint.unwrap_or_default());
    unasked.extend(findings.done());
    None
}

impl Examined {
    fn report(mut self, pipeline: &Pipeline, grants: bool) -> Report {
        let mut findings = std::mem::take(&mut self.unasked);
        for source in &self.sources {
            findings.extend(judge::server::judge(source, pipeline.max_clock_skew_ms));
            findings.extend(judge::server::room(source));
            findings.extend(judge::slots::judge(source));
            findings.extend(judge::role::judge(source));
            findings.extend(judge::publication::judge(source));
            findings.extend(judge::tables::judge(source));
        }
        findings.extend(self.targets.iter().flat_map(judge::target::judge));
        findings.extend(judge::bus::judge(&self.bus));
        let report = Report::new(findings, self.sources.iter().flat_map(modes::of).collect());
        match grants {
            false => report,
            true => report.with_grants(self.grants()),
        }
    }

    fn grants(&self) -> Vec<String> {
        let sources = self.sources.iter().map(grants::of_source);
        sources.chain(self.targets.iter().map(grants::of_target)).collect()
    }
}
