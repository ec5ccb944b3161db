//! How a verb ends: the exit code, and the answer as one JSON object.

use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::process;
use syncline_runtime::{Class, Failure, Outcome};

use crate::paper;

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All is well.
    Well,
    /// Somebody has to act upon it.
    Act,
    /// A part could not be reached, so it may not be the whole truth.
    Unreached,
}

impl Verdict {
    /// `Act` if something has to be acted upon.
    pub fn act_if(holds: bool) -> Self {
        if holds { Self::Act } else { Self::Well }
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Well => ExitCode::SUCCESS,
            Verdict::Act => ExitCode::from(1),
            Verdict::Unreached => ExitCode::from(3),
        }
    }
}

/// Says why there is no answer. What may answer later is what could not be reached.
pub fn failed(failure: Failure) -> ExitCode {
    let away = failure.class == Class::Transient;
    let code = process::exit_code(&Err(failure));
    if away { Verdict::Unreached.into() } else { code }
}

/// Answers with one JSON object, or with a text for people.
pub fn give(json: bool, answer: &impl Serialize, text: impl FnOnce() -> String) -> Outcome<()> {
    if !json {
        return paper::answer(&text());
    }
    let answer = serde_json::to_string_pretty(answer);
    let answer = answer.map_err(|error| Failure::definite("OUTPUT", error))?;
    paper::answer(&(answer + "\n"))
}
