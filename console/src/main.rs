//! `syncline`: what people ask and say; one verb for each thing that they can want.

use std::process::ExitCode;

use clap::Parser;
use syncline_console::{
    Args, Verb, answer, conflicts, dlq, doctor, explain, guards, import_debezium, matching, plan, replay, status, tail,
    undo, verify, why,
};
use syncline_runtime::Outcome;

fn main() -> ExitCode {
    let outcome = run(&Args::parse().verb);
    syncline_bus::close_idle();
    match outcome {
        Ok(code) => code,
        Err(failure) => answer::failed(failure),
    }
}

fn run(verb: &Verb) -> Outcome<ExitCode> {
    match verb {
        Verb::Doctor(args) => doctor::run(args),
        Verb::Tail(args) => tail::run(args),
        Verb::Status(args) => status::run(args),
        Verb::Why(args) => why::run(args),
        Verb::Explain(args) => explain::run(args),
        Verb::Verify(args) => verify::run(args),
        Verb::Plan(args) => plan::run(args),
        Verb::Replay(args) => replay::run(args),
        Verb::Dlq(verb) => dlq::run(verb),
        Verb::Conflicts(verb) => conflicts::run(verb),
        Verb::Match(verb) => matching::run(verb),
        Verb::Undo(args) => undo::run(args),
        Verb::Guards(args) => guards::run(args),
        Verb::Resume(args) => guards::resume::run(args),
        Verb::ImportDebezium(args) => import_debezium::run(args),
    }
}
