//! The operator's verbs on real parts: what they say is so, and what they do is what happens.

mod approvers;
mod conflicts;
mod dead_letters;
mod guards;
mod held;
mod matching;
mod plan;
mod undo;
mod verbs;
mod verify;
mod why;

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value as Json;
use syncline_schemas::topic;
use syncline_tests::World;
use syncline_tests::process::{self, Finished};

const CONSOLE_MAX_S: u64 = 60;

/// Runs `syncline` with these arguments, whatever its exit code.
fn console(world: &World, line: &[&str]) -> anyhow::Result<Finished> {
    let log = world.path("console.log");
    let _ = std::fs::remove_file(&log);
    process::run(world.command("syncline", line)?, &log, CONSOLE_MAX_S)
}

/// Its answer as JSON.
fn json(world: &World, line: &[&str], code: i32) -> anyhow::Result<Json> {
    let all: Vec<&str> = line.iter().copied().chain(["--json"]).collect();
    let finished = console(world, &all)?.expect_code(code)?;
    serde_json::from_str(&finished.log).with_context(|| finished.log.clone())
}

/// The last canonical product of each key, as bytes.
fn canonical(world: &World) -> anyhow::Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
    let latest = world.topics.latest(&topic::canonical(&world.name, "product", 1))?;
    Ok(latest.into_iter().map(|(key, record)| (key, record.value)).collect())
}

fn text<'a>(json: &'a Json, name: &str) -> &'a str {
    json[name].as_str().unwrap_or_default()
}

fn list<'a>(json: &'a Json, name: &str) -> &'a [Json] {
    json[name].as_array().map(Vec::as_slice).unwrap_or_default()
}
