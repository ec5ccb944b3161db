//! `syncline`: what people ask and say; one verb for each thing that they can want.

use std::process::ExitCode;

use clap::Parser;
use syncline_console::{Args, Verb, doctor, import_debezium};
use syncline_runtime::Outcome;
use syncline_runtime::process;

fn main() -> ExitCode {
    match run(&Args::parse().verb) {
        Ok(code) => code,
        Err(failure) => process::exit_code(&Err(failure)),
    }
}

fn run(verb: &Verb) -> Outcome<ExitCode> {
    match verb {
        Verb::Doctor(args) => doctor::run(args),
        Verb::ImportDebezium(args) => import_debezium::run(args),
    }
}
