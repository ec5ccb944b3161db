//! Merge by itself: words a second of one core over the real local store, and a restart from what is left of it.
//!
//! `syncline-merge-core` is all of the merge stage but for polling and committing, so it tells the cost of agreement and not
//! that of Kafka; the changelog that it is rebuilt from is in the real one. A row is an edit of one field: one word, in a
//! record of some 200 bytes.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use syncline_tests::process::binary;

use crate::Plan;
use crate::bed::Bed;
use crate::report::OURS;
use crate::result::{Results, Run};
use crate::session::Session;

/// The line that the program prints, as far as it is a result.
#[derive(Deserialize)]
struct Core {
    entities: u64,
    edits: u64,
    edits_per_s: f64,
    edits_per_core_s: f64,
    wall_s: f64,
    peak_rss_mb: f64,
    restart_from_cache_s: f64,
    restart_from_changelog_s: f64,
    changelog_records: u64,
}

/// Runs all that are asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    for (case, options) in [("merge/words", &[][..]), ("merge/contested", &["--contested"])] {
        if session.plan.wants(case) {
            session.case(case, || {
                session.in_turn(case, &[OURS], |_| {
                    let core = run(session.bed, session.plan, options)?;
                    restarts(&core, session.results, case)?;
                    Ok(core.words())
                })
            })?;
        }
    }
    Ok(())
}

fn run(bed: &Bed, plan: &Plan, options: &[&str]) -> anyhow::Result<Core> {
    let mut command = Command::new(binary("syncline-merge-core")?);
    command
        .args([
            "--entities",
            &plan.entities.to_string(),
            "--edits",
            &plan.rows.to_string(),
        ])
        .args(["--bootstrap", &bed.stack.kafka])
        .arg("--state-dir")
        .arg(bed.directory.path())
        .args(options);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl Core {
    fn words(&self) -> Run {
        Run {
            rows: self.edits,
            rows_per_s: self.edits_per_core_s,
            rows_per_s_warm: self.edits_per_s,
            cpu_s_per_million: 1e6 / self.edits_per_core_s,
            peak_rss_mb: self.peak_rss_mb,
            wall_s: self.wall_s,
            ..Run::default()
        }
    }
}

/// Both ways of starting again, as rows of their own: entities, and after how long the first of them can be asked for.
fn restarts(core: &Core, results: &Results, case: &str) -> anyhow::Result<()> {
    for (from, seconds, rows) in [
        ("cache", core.restart_from_cache_s, core.entities),
        ("changelog", core.restart_from_changelog_s, core.changelog_records),
    ] {
        let per_s = rows as f64 / seconds.max(f64::EPSILON);
        results.add(Run {
            case: format!("{case}/restart_from_{from}"),
            contender: OURS.to_owned(),
            rows,
            rows_per_s: per_s,
            rows_per_s_warm: per_s,
            first_s: seconds,
            wall_s: seconds,
            ..Run::default()
        })?;
    }
    Ok(())
}
