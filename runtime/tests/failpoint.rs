//! A failpoint does to a process what it says, at the hit it says. The process is this test program, run once more.
#![allow(clippy::unwrap_used)]

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use syncline_runtime::failpoint;

const HITS: [&str; 3] = ["hit 1", "hit 2", "hit 3"];

/// Passes a failpoint three times; what it prints says how far it came.
#[test]
fn child() {
    for hit in HITS {
        println!("{hit}");
        failpoint::hit("here");
    }
}

fn run_child(armed: &str) -> (Output, Vec<&'static str>) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(failpoint::VARIABLE, armed)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, HITS.into_iter().filter(|hit| said.contains(hit)).collect())
}

#[test]
fn kills_at_the_hit_it_is_armed_for() {
    let (output, came) = run_child("here=kill@2");
    assert_eq!(output.status.signal(), Some(9));
    assert_eq!(came, ["hit 1", "hit 2"]);
}

#[test]
fn leaves_alone_who_is_not_armed() {
    for armed in ["", "elsewhere=kill", "here=kill@9", "here=error"] {
        let (output, came) = run_child(armed);
        assert!(output.status.success(), "{armed}");
        assert_eq!(came, HITS, "{armed}");
    }
}

#[test]
fn sleeps_as_long_as_it_is_told() {
    let started = std::time::Instant::now();
    assert!(run_child("here=sleep:100").0.status.success());
    assert!(started.elapsed() >= std::time::Duration::from_millis(300));
}
