//! Cases side by side and contenders in turn: A B A B, the first turns thrown away, a disturbed run repeated.
//!
//! Hours of measuring go on unattended, so a failure is the run's alone: it is written down as a line of its own, and the
//! next contender has its turn. Whoever has failed twice in a case sits the rest of it out, since a run that hangs costs its
//! whole bound.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use crate::Plan;
use crate::bed::Bed;
use crate::machine;
use crate::result::{Results, Run};

/// Runs that may be repeated because others were at work.
const REPEATS_MAX: usize = 2;
const FAILURES_MAX: usize = 2;
/// Stands for the contender where the case itself has failed.
const ALL: &str = "-";

/// What all cases share.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// Servers, broker, registry.
    pub bed: &'a Bed,
    /// What was asked for.
    pub plan: &'a Plan,
    /// Where lines go.
    pub results: &'a Results,
}

impl Session<'_> {
    /// A case, or what several share: if it fails it says so, and the others go on. An error means that results cannot be
    /// written any more.
    pub fn case(&self, name: &str, body: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        match body() {
            Ok(()) => Ok(()),
            Err(error) => self.results.failed(name, ALL, 0, &error),
        }
    }

    /// All contenders in turn, warming up first; a disturbed run is repeated now and then.
    pub fn in_turn<T: Display>(
        &self,
        case: &str,
        contenders: &[T],
        run: impl FnMut(&T) -> anyhow::Result<Run>,
    ) -> anyhow::Result<()> {
        turns(self.plan, self.results, case, contenders, run)
    }
}

fn turns<T: Display>(
    plan: &Plan,
    results: &Results,
    case: &str,
    contenders: &[T],
    mut run: impl FnMut(&T) -> anyhow::Result<Run>,
) -> anyhow::Result<()> {
    let warm_up = i64::try_from(plan.warm_up)?;
    let mut failures: BTreeMap<String, usize> = BTreeMap::new();
    for number in -warm_up..i64::try_from(plan.runs)? {
        for who in contenders {
            let name = who.to_string();
            for _ in 0..=REPEATS_MAX {
                if failures.get(&name).is_some_and(|count| *count >= FAILURES_MAX) {
                    break;
                }
                machine::wait_until_quiet(Duration::from_secs(plan.quiet_seconds))?;
                match run(who) {
                    Ok(done) => {
                        let done = results.add(Run {
                            case: case.to_owned(),
                            contender: name.clone(),
                            number,
                            ..done
                        })?;
                        if done.is_undisturbed() || !done.counts() {
                            break;
                        }
                    }
                    Err(error) => {
                        results.failed(case, &name, number, &error)?;
                        *failures.entry(name.clone()).or_default() += 1;
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_sits_out_and_the_others_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bench.jsonl");
        let plan = crate::tests::plan(&["--runs", "3", "--quiet-seconds", "0"]);
        let results = Results::append_to(&file).unwrap();
        turns(&plan, &results, "case", &["good", "bad"], |who| match *who {
            "bad" => anyhow::bail!("it fell over"),
            _ => Ok(Run::default()),
        })
        .unwrap();
        assert_eq!(results.failures(), FAILURES_MAX);
        let written = Results::read(&file).unwrap();
        let of = |name: &str| written.runs.iter().filter(|run| run.contender == name).count();
        // One of the good ones is for warming up.
        assert_eq!((of("good"), of("bad")), (4, FAILURES_MAX));
        assert_eq!(written.runs.iter().filter(|run| run.counts()).count(), 3);
        let failed = written.runs.iter().find(|run| run.error.is_some()).unwrap();
        assert_eq!(failed.error.as_deref(), Some("it fell over"));
    }
}
