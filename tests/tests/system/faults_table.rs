//! `FAULTS.md` cannot rot: each fault of capture has its line, and each test that a line names is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Faults of capture, F01 to F65.
const FAULTS: std::ops::RangeInclusive<u32> = 1..=65;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cells of each line of the tables.
fn lines() -> anyhow::Result<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(root().join("tests/FAULTS.md"))?;
    let lines = text.lines().filter(|line| line.starts_with("| F"));
    Ok(lines
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect())
}

/// `path/file.rs::test` in a line: those between backticks that name a test.
fn named(line: &[String]) -> Vec<(String, String)> {
    let cells = line.join("|");
    let ticked = cells.split('`').skip(1).step_by(2);
    ticked
        .filter_map(|text| text.split_once(".rs::"))
        .map(|(file, test)| (format!("{file}.rs"), test.to_owned()))
        .collect()
}

#[test]
fn each_fault_of_capture_has_a_line() -> anyhow::Result<()> {
    let ids: BTreeSet<String> = lines()?.into_iter().filter_map(|line| line.get(1).cloned()).collect();
    let missing: Vec<String> = FAULTS
        .map(|number| format!("F{number:02}"))
        .filter(|id| !ids.contains(id))
        .collect();
    assert!(missing.is_empty(), "without a line: {missing:?}");
    Ok(())
}

#[test]
fn each_test_that_is_named_is_there() -> anyhow::Result<()> {
    let mut checked = 0;
    for line in lines()? {
        for (file, test) in named(&line) {
            let text = std::fs::read_to_string(root().join(&file)).with_context(|| file.clone())?;
            assert!(text.contains(&format!("fn {test}(")), "{file} has no test {test}");
            checked += 1;
        }
    }
    assert!(checked > 0, "no test is named at all");
    Ok(())
}

/// A line without a test says why.
#[test]
fn what_is_not_shown_has_a_reason() -> anyhow::Result<()> {
    for line in lines()? {
        let reason = line.get(4).is_some_and(|cell| !cell.is_empty());
        assert!(
            !named(&line).is_empty() || reason,
            "{line:?} has neither a test nor a reason"
        );
    }
    Ok(())
}
